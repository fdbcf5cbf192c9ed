package cdfauth

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cdfauth/internal/idptest"

	"github.com/google/go-cmp/cmp"
)

// newTestProvider returns a provider on idp; a nil secret is the right one.
func newTestProvider(t testing.TB, idp *idptest.Provider, secret Secret) *ClientCredentials {
	t.Helper()
	if secret == nil {
		secret = SecretString("s3cret/of+the client")
	}
	p, err := NewClientCredentials(ClientCredentialsConfig{
		Endpoint:     TokenURL(idp.Issuer + "/token"),
		ClientID:     "client",
		ClientSecret: secret,
		Scopes:       ClusterScopes("greenfield"),
		Options:      Options{HTTPClient: idp.Client()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestClientCredentialsOnTheWire has what is sent, whole.
func TestClientCredentialsOnTheWire(t *testing.T) {
	const assertion = "eyJ.aGk.c2ln"
	for _, tt := range []struct {
		name   string
		change func(*ClientCredentialsConfig)
		auth   string
		want   url.Values
	}{
		{"post", func(*ClientCredentialsConfig) {}, "",
			url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"}, "client_secret": {"s3cret/of+the client"}, "scope": {"a b"}}},
		{"basic", func(c *ClientCredentialsConfig) { c.BasicAuth = true }, "Basic Y2xpZW50OnMzY3JldCUyRm9mJTJCdGhlK2NsaWVudA==", // client:s3cret%2Fof%2Bthe+client
			url.Values{"grant_type": {"client_credentials"}, "scope": {"a b"}}},
		{"no scopes", func(c *ClientCredentialsConfig) { c.Scopes = nil }, "",
			url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"}, "client_secret": {"s3cret/of+the client"}}},
		{"params", func(c *ClientCredentialsConfig) {
			c.Params = url.Values{"audience": {"https://x"}, "resource": {"urn:1", "urn:2"}}
		}, "", url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"}, "client_secret": {"s3cret/of+the client"}, "scope": {"a b"},
			"audience": {"https://x"}, "resource": {"urn:1", "urn:2"}}},
		{"assertion", func(c *ClientCredentialsConfig) {
			c.ClientSecret, c.ClientAssertion = nil, SecretString(assertion)
		}, "", url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"}, "scope": {"a b"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, "client_assertion": {assertion}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := idptest.New()
			idp.Always(idptest.Body(`{"access_token":"tok","expires_in":3600}`))
			cfg := ClientCredentialsConfig{Endpoint: TokenURL("https://idp.test/token?p=1"), ClientID: "client", ClientSecret: SecretString("s3cret/of+the client"),
				Scopes: []string{"a", "b"}, Options: Options{HTTPClient: idp.Client()}}
			tt.change(&cfg)
			p, err := NewClientCredentials(cfg)
			if err != nil {
				t.Fatal(err)
			}
			// What was given is copied.
			if cfg.Scopes != nil {
				cfg.Scopes[0] = "changed"
			}
			if cfg.Params != nil {
				cfg.Params["resource"][0] = "changed"
				cfg.Params.Set("audience", "changed")
			}
			for range 2 { // and not changed by the first exchange
				tok, err := p.Token(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				p.engine.current.Store(nil)
				_ = tok
			}
			for _, r := range idp.Requests("/token") {
				if d := cmp.Diff(tt.want, r.Form); d != "" {
					t.Errorf("form (-want +got):\n%s", d)
				}
				if r.Authorization != tt.auth || r.Method != "POST" || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" ||
					r.Header.Get("Accept") != "application/json" || r.Header.Get("Origin") != "" {
					t.Errorf("%s with headers %v", r.Method, r.Header)
				}
			}
			if len(idp.Requests("")) != 2 {
				t.Errorf("%d requests in all, want 2", len(idp.Requests("")))
			}
		})
	}
}

func TestClientCredentialsConfigErrors(t *testing.T) {
	ok := func() ClientCredentialsConfig {
		return ClientCredentialsConfig{Endpoint: Entra("contoso.onmicrosoft.com"), ClientID: "id", ClientSecret: SecretString("s3cret"), Scopes: ClusterScopes("greenfield")}
	}
	for _, tt := range []struct {
		want   string // in the error
		change func(*ClientCredentialsConfig)
	}{
		{"Endpoint is missing", func(c *ClientCredentialsConfig) { c.Endpoint = Endpoint{} }},
		{"ClientID is missing", func(c *ClientCredentialsConfig) { c.ClientID = "" }},
		{"ClientID has a character", func(c *ClientCredentialsConfig) { c.ClientID = "id\n" }},
		{"ClientID has a character", func(c *ClientCredentialsConfig) { c.ClientID = "id " }},
		{"ClientID has a character", func(c *ClientCredentialsConfig) { c.ClientID = "\xe9d\u00e9" }},
		{"Scopes[0]", func(c *ClientCredentialsConfig) { c.Scopes = []string{`a"b`} }},
		{"Scopes[0]", func(c *ClientCredentialsConfig) { c.Scopes = []string{`a\b`} }},
		{"Scopes[0]", func(c *ClientCredentialsConfig) { c.Scopes = []string{"\u00e9"} }},
		{"ClientSecret is missing", func(c *ClientCredentialsConfig) { c.ClientSecret = SecretString("") }},
		{"ClientSecret is missing", func(c *ClientCredentialsConfig) { c.ClientSecret = SecretFile("") }},
		{"ClientSecret is missing", func(c *ClientCredentialsConfig) { c.ClientSecret = SecretFile() }},
		{"both set", func(c *ClientCredentialsConfig) { c.ClientAssertion = SecretString("jwt") }},
		{"BasicAuth", func(c *ClientCredentialsConfig) {
			c.ClientSecret, c.ClientAssertion, c.BasicAuth = nil, SecretString("jwt"), true
		}},
		{"Scopes[1]", func(c *ClientCredentialsConfig) { c.Scopes = []string{"a", "b c"} }},
		{"Scopes[0]", func(c *ClientCredentialsConfig) { c.Scopes = []string{""} }},
		{"cluster name", func(c *ClientCredentialsConfig) { c.Scopes = ClusterScopes("evil.com/") }},
		{"Leeway", func(c *ClientCredentialsConfig) { c.Leeway = -1 }},
		{`Params: ""`, func(c *ClientCredentialsConfig) { c.Params = url.Values{"": {"x"}} }},
	} {
		cfg := ok()
		tt.change(&cfg)
		p, err := NewClientCredentials(cfg)
		if err == nil || p != nil || !strings.HasPrefix(err.Error(), "cdfauth: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want an error with %q", err, tt.want)
		}
	}
	for _, name := range strings.Fields("grant_type client_id client_secret client_assertion client_assertion_type scope code redirect_uri code_verifier code_challenge code_challenge_method refresh_token device_code response_type response_mode state nonce request request_uri prompt login_hint client_info username password assertion") {
		cfg := ok()
		cfg.Params = url.Values{name: {"x"}}
		if _, err := NewClientCredentials(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Params with %s: %v", name, err)
		}
	}
	if _, err := NewClientCredentials(ok()); err != nil {
		t.Error(err)
	}
}

func TestZeroProviders(t *testing.T) {
	for _, p := range []interface {
		Token(context.Context) (Token, error)
	}{(*StaticProvider)(nil), &StaticProvider{}, (*FuncProvider)(nil), &FuncProvider{}, (*ClientCredentials)(nil), &ClientCredentials{}} {
		if _, err := p.Token(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "cdfauth: ") {
			t.Errorf("%T: %v", p, err)
		}
		if i, ok := p.(interface{ Invalidate(Token) }); ok {
			i.Invalidate(Token{}) // must not panic
		}
	}
	if _, err := NewFuncProvider(nil); err == nil {
		t.Error("nil function")
	}
	p := newTestProvider(t, idptest.New(), nil)
	var none context.Context
	if _, err := p.Token(none); err == nil {
		t.Error("nil context")
	}
}

func TestSecretFile(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write := func(path, s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(s Secret) string {
		t.Helper()
		v, err := s(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for content, want := range map[string]string{"x": "x", "x\n": "x", "x\r\n": "x", "x\n\n": "x\n", " x ": " x ", "": ""} {
		write(a, content)
		if got := read(SecretFile(a)); got != want {
			t.Errorf("%q is read as %q, want %q", content, got, want)
		}
	}
	write(a, "key\n")
	write(b, "crt\n")
	paths := []string{a, b}
	s := SecretFile(paths...)
	paths[0] = "elsewhere"
	if got := read(s); got != "key\n\ncrt" {
		t.Errorf("joined: %q", got)
	}
	write(a, strings.Repeat("k", 1<<20+1))
	if _, err := s(t.Context()); err == nil || strings.Contains(err.Error(), "kkk") || !strings.Contains(err.Error(), "1 MiB") {
		t.Errorf("too long: %v", err)
	}
	os.Remove(a)
	if _, err := s(t.Context()); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), a) {
		t.Errorf("missing: %v", err)
	}
}

// TestSecretFileRotated: a secret replaced on disk is used without a restart.
func TestSecretFileRotated(t *testing.T) {
	idp := idptest.New()
	idp.Lifetime = 0 // asked for at each call
	path := filepath.Join(t.TempDir(), "secret")
	os.WriteFile(path, []byte("s3cret/of+the client\n"), 0o600)
	p := newTestProvider(t, idp, SecretFile(path))
	if _, err := p.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	idp.Clients["client"] = "rotated"
	oe := (*OAuthError)(nil)
	if _, err := p.Token(t.Context()); !errors.As(err, &oe) || oe.Code != "invalid_client" || oe.StatusCode != http.StatusUnauthorized {
		t.Errorf("old secret: %v", err)
	}
	os.WriteFile(path, []byte("rotated"), 0o600)
	if _, err := p.Token(t.Context()); err != nil {
		t.Errorf("new secret: %v", err)
	}
}

func TestStaticProvider(t *testing.T) {
	p, err := NewStaticProvider("my-token")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := p.Token(t.Context())
	if err != nil || tok.AccessToken() != "my-token" || !tok.Expiry().IsZero() {
		t.Errorf("%q, %v, %v", tok.AccessToken(), tok.Expiry(), err)
	}
	for _, bad := range []string{"", "a b", "Bearer x", "x\n", "x\x00", "é", "x\x7f"} {
		if p, err := NewStaticProvider(bad); err == nil || p != nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestToken(t *testing.T) {
	at := time.Now().Add(time.Hour)
	tok, err := NewToken("abc", at)
	if err != nil {
		t.Fatal(err)
	}
	name, value := tok.AuthorizationHeader()
	if name != "Authorization" || value != "Bearer abc" || tok.AccessToken() != "abc" || tok.Expiry() != at.Round(0) || tok.Scope() != "" || tok.Username() != "" {
		t.Errorf("%s: %s, %q, %v", name, value, tok.AccessToken(), tok.Expiry())
	}
	r := &http.Request{}
	tok.SetAuthHeader(r)
	if r.Header.Get("Authorization") != "Bearer abc" {
		t.Errorf("header %v", r.Header)
	}
	tok.SetAuthHeader(nil)
	Token{}.SetAuthHeader(r)
	Token{}.SetAuthHeader(&http.Request{})
	if _, there := r.Header["Authorization"]; there {
		t.Error("the zero Token did not delete the header")
	}
	if name, value := (Token{}).AuthorizationHeader(); name != "Authorization" || value != "" {
		t.Errorf("zero Token: %q %q", name, value)
	}
	same := newToken(tokenData{header: "Bearer abc", expiry: at.UTC()})
	for i, other := range []Token{{}, newToken(tokenData{header: "Bearer abd", expiry: at}), newToken(tokenData{header: "Bearer abc", expiry: at.Add(1)}),
		newToken(tokenData{header: "Bearer abc", expiry: at, scope: "s"}), newToken(tokenData{header: "Bearer abc", expiry: at, username: "u"})} {
		if tok.Equal(other) || other.Equal(tok) {
			t.Errorf("equal to other token %d", i)
		}
	}
	if !tok.Equal(same) || !(Token{}).Equal(Token{}) {
		t.Error("not equal to the same")
	}
}
