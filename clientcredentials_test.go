package cdfauth

import (
	"encoding/base64"
	"net/url"
	"strings"
	"testing"

	"cdfauth/internal/idptest"

	"github.com/google/go-cmp/cmp"
)

// TestClientCredentialsAreSentInOneWay: a client must not authenticate in more than one way
// in a request (RFC 6749 §2.3). For each of the ways, this is the whole form that is sent
// (RFC 6749 §4.4.2, RFC 7523 §2.2), with the Authorization header.
func TestClientCredentialsAreSentInOneWay(t *testing.T) {
	const assertion = "eyJ.aGk.c2ln"
	for _, tt := range []struct {
		name   string
		change func(*ClientCredentialsConfig)
		auth   string
		want   url.Values
	}{
		{"post", func(*ClientCredentialsConfig) {}, "",
			url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"},
				"client_secret": {"s3cret/of+the client"}, "scope": {"a b"}}},
		// In base64: client:s3cret%2Fof%2Bthe+client
		{"basic", func(c *ClientCredentialsConfig) { c.BasicAuth = true },
			"Basic Y2xpZW50OnMzY3JldCUyRm9mJTJCdGhlK2NsaWVudA==",
			url.Values{"grant_type": {"client_credentials"}, "scope": {"a b"}}},
		{"no scopes", func(c *ClientCredentialsConfig) { c.Scopes = nil }, "",
			url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"},
				"client_secret": {"s3cret/of+the client"}}},
		{"params", func(c *ClientCredentialsConfig) {
			c.Params = url.Values{"audience": {"https://x"}, "resource": {"urn:1", "urn:2"}}
		}, "", url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"},
			"client_secret": {"s3cret/of+the client"}, "scope": {"a b"},
			"audience": {"https://x"}, "resource": {"urn:1", "urn:2"}}},
		{"assertion", func(c *ClientCredentialsConfig) {
			c.ClientSecret, c.ClientAssertion = nil, SecretString(assertion)
		}, "", url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"}, "scope": {"a b"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
			"client_assertion":      {assertion}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := idptest.New()
			idp.Always(idptest.Body(`{"access_token":"tok","expires_in":3600}`))
			cfg := ClientCredentialsConfig{Endpoint: TokenURL("https://idp.test/token?p=1"),
				ClientID: "client", ClientSecret: SecretString("s3cret/of+the client"),
				Scopes: []string{"a", "b"}, Options: Options{HTTPClient: idp.Client()}}
			tt.change(&cfg)
			p, err := NewClientCredentials(cfg)
			if err != nil {
				t.Fatal(err)
			}
			// The provider has copied what it was given.
			if cfg.Scopes != nil {
				cfg.Scopes[0] = "changed"
			}
			if cfg.Params != nil {
				cfg.Params["resource"][0] = "changed"
				cfg.Params.Set("audience", "changed")
			}
			for range 2 { // the first exchange does not change what the second sends
				mustToken(t, p)
				p.refresher.current.Store(nil)
			}
			for _, r := range idp.Requests("/token") {
				if d := cmp.Diff(tt.want, r.Form); d != "" {
					t.Errorf("form (-want +got):\n%s", d)
				}
				if r.Authorization != tt.auth || r.Method != "POST" ||
					r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" ||
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

// TestClientAuthenticatesAsInRFC6749Section2_3_1: the section's example of a client comes
// out as the section prints it, as HTTP Basic and in the body.
func TestClientAuthenticatesAsInRFC6749Section2_3_1(t *testing.T) {
	const id, secret = "s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw"
	r := authenticated(t,
		ClientCredentialsConfig{ClientID: id, ClientSecret: SecretString(secret), BasicAuth: true})
	if r.Authorization != "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3" {
		t.Errorf("Authorization: %s", r.Authorization)
	}
	if r.Form.Has("client_id") || r.Form.Has("client_secret") {
		t.Errorf("the body says it too: %v", r.Form)
	}

	r = authenticated(t, ClientCredentialsConfig{ClientID: id, ClientSecret: SecretString(secret)})
	if r.Form.Get("client_id") != id || r.Form.Get("client_secret") != secret ||
		r.Authorization != "" {
		t.Errorf("body %v, Authorization %s", r.Form, r.Authorization)
	}
}

// TestClientSecretIsEncodedAsInRFC6749AppendixB: both halves of the Authorization header are
// form-encoded first (RFC 6749 §2.3.1). A secret with a plus or a blank would otherwise be
// another one for the provider. The text is the example of Appendix B.
func TestClientSecretIsEncodedAsInRFC6749AppendixB(t *testing.T) {
	const decoded, encoded = " %&+\u00a3\u20ac", "+%25%26%2B%C2%A3%E2%82%AC"
	r := authenticated(t,
		ClientCredentialsConfig{ClientID: "a:b", ClientSecret: SecretString(decoded), BasicAuth: true})
	pair, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Authorization, "Basic "))
	if want := "a%3Ab:" + encoded; err != nil || string(pair) != want {
		t.Errorf("got %s, want %s", pair, want)
	}
}

// authenticated returns the token request of a client with cfg.
func authenticated(t *testing.T, cfg ClientCredentialsConfig) idptest.Request {
	t.Helper()
	idp := idptest.New()
	idp.Always(idptest.Body(`{"access_token":"tok"}`))
	cfg.Endpoint = TokenURL(plainURL)
	cfg.HTTPClient = idp.Client()
	p, err := NewClientCredentials(cfg)
	must(t, err)
	mustToken(t, p)
	return idp.Requests("/token")[0]
}

// TestClientCredentialsConfigErrorsNameTheField: the constructor refuses each misuse, with an
// error that names the field. Client ids and scopes have the characters that RFC 6749
// Appendix A.1 and A.4 allow. Parameters that the flow sets itself are not for callers.
func TestClientCredentialsConfigErrorsNameTheField(t *testing.T) {
	ok := func() ClientCredentialsConfig {
		return ClientCredentialsConfig{Endpoint: Entra("contoso.onmicrosoft.com"), ClientID: "id",
			ClientSecret: SecretString("s3cret"), Scopes: ClusterScopes("greenfield")}
	}
	for _, tt := range []struct {
		want   string // in the error
		change func(*ClientCredentialsConfig)
	}{
		{"Endpoint is missing", func(c *ClientCredentialsConfig) { c.Endpoint = Endpoint{} }},
		{"ClientID is missing", func(c *ClientCredentialsConfig) { c.ClientID = "" }},
		{"ClientID has a line end at its end", func(c *ClientCredentialsConfig) { c.ClientID = "id\n" }},
		{"ClientID has a line end at its end",
			func(c *ClientCredentialsConfig) { c.ClientID = "id\r\n" }},
		{"ClientID has a blank at its start", func(c *ClientCredentialsConfig) { c.ClientID = "id " }},
		{"ClientID has a blank at its start", func(c *ClientCredentialsConfig) { c.ClientID = " id" }},
		{"ClientID has quotes around it", func(c *ClientCredentialsConfig) { c.ClientID = `"id"` }},
		{"ClientID has quotes around it", func(c *ClientCredentialsConfig) { c.ClientID = "'id'" }},
		{"ClientID has a byte order mark at its start",
			func(c *ClientCredentialsConfig) { c.ClientID = "\ufeffid" }},
		{"ClientID has a NUL (is the text UTF-16?) at byte 2 of 4",
			func(c *ClientCredentialsConfig) { c.ClientID = "i\x00d\x00" }},
		{"ClientID has a control character (U+001F) at byte 2 of 3",
			func(c *ClientCredentialsConfig) { c.ClientID = "a\x1fb" }},
		{"ClientID has a control character (U+007F) at byte 2 of 3",
			func(c *ClientCredentialsConfig) { c.ClientID = "a\x7fb" }},
		{"ClientID has a byte that is not UTF-8 at its start",
			func(c *ClientCredentialsConfig) { c.ClientID = "\xe9d\u00e9" }},
		{"ClientID has a character that is not ASCII at its end",
			func(c *ClientCredentialsConfig) { c.ClientID = "d\u00e9" }},
		{"Scopes has", func(c *ClientCredentialsConfig) { c.Scopes = []string{`a"b`} }},
		{"Scopes has", func(c *ClientCredentialsConfig) { c.Scopes = []string{`a\b`} }},
		{"Scopes has", func(c *ClientCredentialsConfig) { c.Scopes = []string{"\u00e9"} }},
		{"ClientSecret is missing",
			func(c *ClientCredentialsConfig) { c.ClientSecret = SecretString("") }},
		{"ClientSecret is missing", func(c *ClientCredentialsConfig) { c.ClientSecret = SecretFile("") }},
		{"ClientSecret is missing", func(c *ClientCredentialsConfig) { c.ClientSecret = SecretFile() }},
		{"both set", func(c *ClientCredentialsConfig) { c.ClientAssertion = SecretString("jwt") }},
		{"BasicAuth", func(c *ClientCredentialsConfig) {
			c.ClientSecret, c.ClientAssertion, c.BasicAuth = nil, SecretString("jwt"), true
		}},
		{"Scopes has", func(c *ClientCredentialsConfig) { c.Scopes = []string{"a", "b c"} }},
		{"Scopes has", func(c *ClientCredentialsConfig) { c.Scopes = []string{""} }},
		{"Scopes has", func(c *ClientCredentialsConfig) { c.Scopes = []string{" "} }},
		{"Scopes has", func(c *ClientCredentialsConfig) { c.Scopes = []string{"\x7f"} }},
		{"cluster name", func(c *ClientCredentialsConfig) { c.Scopes = ClusterScopes("evil.com/") }},
		{"Leeway", func(c *ClientCredentialsConfig) { c.Leeway = -1 }},
		{`Params has ""`, func(c *ClientCredentialsConfig) { c.Params = url.Values{"": {"x"}} }},
	} {
		cfg := ok()
		tt.change(&cfg)
		p, err := NewClientCredentials(cfg)
		if err == nil || p != nil || !strings.HasPrefix(err.Error(), "cdfauth: ") ||
			!strings.Contains(err.Error(), tt.want) {
			t.Errorf("got %v, want an error with %q", err, tt.want)
		}
	}
	for _, name := range strings.Fields(
		`grant_type client_id client_secret client_assertion client_assertion_type scope code
		redirect_uri code_verifier code_challenge code_challenge_method refresh_token
		device_code response_type response_mode state nonce request request_uri prompt
		login_hint client_info username password assertion`) {
		cfg := ok()
		cfg.Params = url.Values{name: {"x"}}
		if _, err := NewClientCredentials(cfg); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("Params with %s: %v", name, err)
		}
	}
	// The first and the last character that a client identifier and a scope may have.
	for _, edge := range []struct{ id, scope string }{{"a b", "!"}, {"a~b", "~"}} {
		cfg := ok()
		cfg.ClientID, cfg.Scopes = edge.id, []string{edge.scope}
		if _, err := NewClientCredentials(cfg); err != nil {
			t.Error(err)
		}
	}
	if _, err := NewClientCredentials(ok()); err != nil {
		t.Error(err)
	}
}
