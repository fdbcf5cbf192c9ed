package cdfauth

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"cdfauth/internal/idptest"

	"github.com/google/go-cmp/cmp"
)

func TestEndpoints(t *testing.T) {
	const tenant = "11111111-2222-3333-4444-555555555555"
	for _, tt := range []struct {
		name string
		ep   Endpoint
		url  string // of the token endpoint, or of the metadata
		bad  string // in the error
	}{
		{name: "entra", ep: Entra(tenant), url: "https://login.microsoftonline.com/" + tenant + "/oauth2/v2.0/token"},
		{name: "entra domain", ep: Entra("contoso.onmicrosoft.com"), url: "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"},
		{name: "authority", ep: Authority("https://login.example.com/t/"), url: "https://login.example.com/t/oauth2/v2.0/token"},
		{name: "adfs", ep: Authority("https://sts.example.com/ADFS"), url: "https://sts.example.com/ADFS/oauth2/token"},
		{name: "token url", ep: TokenURL("https://x.auth0.com/oauth/token?a=b"), url: "https://x.auth0.com/oauth/token?a=b"},
		{name: "loopback", ep: TokenURL("http://127.0.0.1:8080/token"), url: "http://127.0.0.1:8080/token"},
		{name: "loopback 6", ep: TokenURL("http://[::1]/token"), url: "http://[::1]/token"},
		{name: "localhost", ep: TokenURL("http://localhost:1/"), url: "http://localhost:1/"},
		{name: "issuer", ep: Issuer("https://idp.example.com/realms/a/"), url: "https://idp.example.com/realms/a"},
		{name: "pasted", ep: Issuer("https://idp.example.com/realms/a/.well-known/openid-configuration"), url: "https://idp.example.com/realms/a"},
		{name: "discovery", ep: Discovery("https://idp.example.com"), url: "https://idp.example.com"},

		{name: "tenant changes host", ep: Entra("../../evil.com"), bad: "Entra"},
		{name: "tenant changes path", ep: Entra(tenant + "/x"), bad: "Entra"},
		{name: "tenant dots", ep: Entra(".."), bad: "Entra"},
		{name: "tenant query", ep: Entra("t?x"), bad: "Entra"},
		{name: "tenant escape", ep: Entra("t%2f"), bad: "Entra"},
		{name: "tenant empty", ep: Entra(""), bad: "Entra"},
		{name: "http", ep: TokenURL("http://idp.example.com/token"), bad: "TokenURL: the URL must be https"},
		{name: "forced query", ep: Issuer("https://idp.example.com?"), bad: "query"},
		{name: "http address", ep: TokenURL("http://10.0.0.1/token"), bad: "must be https"},
		{name: "http look-alike", ep: TokenURL("http://127.0.0.1.evil.com/token"), bad: "must be https"},
		{name: "userinfo", ep: Issuer("https://user:pa55word@idp.example.com"), bad: "Issuer: the URL has a user name"},
		{name: "fragment", ep: Issuer("https://idp.example.com/#"), bad: "fragment"},
		{name: "query", ep: Issuer("https://idp.example.com/?x=pa55word"), bad: "query"},
		{name: "no scheme", ep: Authority("login.example.com/t"), bad: "Authority: the URL is not of the form"},
		{name: "empty", ep: TokenURL(""), bad: "TokenURL: the URL is empty"},
		{name: "ftp", ep: Discovery("ftp://idp.example.com"), bad: "must be https"},
		{name: "unicode host", ep: Issuer("https://bücher.example"), bad: "ASCII"},
		{name: "no host", ep: Issuer("https:///x"), bad: "form"},
		{name: "control", ep: Issuer("https://idp.example.com/\n"), bad: "form"},
		{name: "whole endpoint", ep: Authority("https://login.microsoftonline.com/t/oauth2/v2.0/token"), bad: "without /oauth2"},
		{name: "v2.0", ep: Authority("https://login.microsoftonline.com/t/v2.0"), bad: "v2.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := newClient("test", tt.ep, "id", nil, nil, Options{})
			if tt.bad != "" {
				if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: Endpoint: ") || !strings.Contains(err.Error(), tt.bad) || strings.Contains(err.Error(), "pa55word") {
					t.Errorf("got %v, want an error with %q", err, tt.bad)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := tt.ep.url
			if tt.ep.kind != kindIssuer && tt.ep.kind != kindDiscovery {
				if got, err = c.endpointURL(t.Context(), "token"); err != nil {
					t.Fatal(err)
				}
			}
			if got != tt.url {
				t.Errorf("got %s, want %s", got, tt.url)
			}
		})
	}
}

func TestCluster(t *testing.T) {
	for name, want := range map[string]string{
		"greenfield": "https://greenfield.cognitedata.com", "az-eastus-1": "https://az-eastus-1.cognitedata.com",
		"WestEurope-1": "https://westeurope-1.cognitedata.com", "p001.plink.az-arn-1": "https://p001.plink.az-arn-1.cognitedata.com",
	} {
		if got := ClusterURL(name); got != want {
			t.Errorf("ClusterURL(%q) = %s", name, got)
		}
		if got := ClusterScopes(name); !cmp.Equal(got, []string{want + "/.default"}) {
			t.Errorf("ClusterScopes(%q) = %s", name, got)
		}
	}
	p, _ := NewStaticProvider("t")
	for _, name := range []string{"", "evil.com/", "evil.com#", "a@b", "a b", "é", "..", ".a", "a..b", "-a", "a:1", "greenfield.cognitedata.com"} {
		if _, err := NewHTTPClient(p, ClusterURL(name)); err == nil || !strings.Contains(err.Error(), "cluster name") {
			t.Errorf("ClusterURL(%q) is taken: %v", name, err)
		}
		_, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: Entra("t"), ClientID: "i", ClientSecret: SecretString("s"), Scopes: ClusterScopes(name)})
		if err == nil || !strings.Contains(err.Error(), "cluster name") {
			t.Errorf("ClusterScopes(%q) is taken: %v", name, err)
		}
	}
}

// TestWrongAnswers: each is a clear error that shows none of it.
func TestWrongAnswers(t *testing.T) {
	const mark = "BODYMARK"
	for _, tt := range []struct {
		name, body string
		want       string
	}{
		{"html", "<html>" + mark, "not a JSON object"},
		{"empty", "", "not a JSON object"},
		{"object without token", `{"x":"` + mark + `"}`, "access token is empty"},
		{"empty object", `{}`, "access token is empty"},
		{"null", `null`, "not a JSON object"},
		{"array", `["` + mark + `"]`, "not a JSON object"},
		{"string", `"` + mark + `"`, "not a JSON object"},
		{"truncated", `{"access_token":"` + mark, "not a JSON object"},
		{"two objects", `{"access_token":"` + mark + `"}{}`, "not a JSON object"},
		{"null token", `{"access_token":null,"expires_in":3600}`, "access token is empty"},
		{"empty token", `{"access_token":"","expires_in":3600}`, "access token is empty"},
		{"number for a token", `{"access_token":12345,"expires_in":3600}`, "access_token is of the wrong type"},
		{"object for a token", `{"access_token":{"a":"` + mark + `"}}`, "access_token is of the wrong type"},
		{"control character", `{"access_token":"` + mark + `\n"}`, "not visible ASCII"},
		{"blank", `{"access_token":"a ` + mark + `"}`, "not visible ASCII"},
		{"unicode", `{"access_token":"` + mark + `é"}`, "not visible ASCII"},
		{"lifetime", `{"access_token":"` + mark + `","expires_in":"` + mark + `"}`, "expires_in"},
		{"lifetime true", `{"access_token":"` + mark + `","expires_in":true}`, "expires_in"},
		{"lifetime hex", `{"access_token":"` + mark + `","expires_in":"0x10"}`, "expires_in"},
		{"lifetime infinite", `{"access_token":"` + mark + `","expires_in":"Infinity"}`, "expires_in"},
		{"lifetime NaN", `{"access_token":"` + mark + `","expires_in":"NaN"}`, "expires_in"},
		{"refresh_in", `{"access_token":"` + mark + `","refresh_in":[1]}`, "refresh_in"},
		{"scope", `{"access_token":"` + mark + `","scope":["` + mark + `"]}`, "scope is of the wrong type"},
		{"token type", `{"access_token":"` + mark + `","token_type":"` + mark + `"}`, "token_type is not Bearer"},
		{"10 MiB", `{"access_token":"` + mark + strings.Repeat("x", 10<<20) + `"}`, "more than 1 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := idptest.New()
			idp.Fault(idptest.Body(tt.body))
			p := newTestProvider(t, idp, nil)
			tok, err := p.Token(t.Context())
			if err == nil || tok.AccessToken() != "" || !strings.HasPrefix(err.Error(), "cdfauth: ") || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), mark) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if oe := (*OAuthError)(nil); !errors.As(err, &oe) || oe.Code != "" || oe.StatusCode != 200 {
				t.Errorf("got %#v", oe)
			}
			wantRequestsOf(t, idp, 1)
			if _, err := p.Token(t.Context()); err != nil {
				t.Errorf("the right answer after it: %v", err)
			}
		})
	}
}

func wantRequestsOf(t *testing.T, idp *idptest.Provider, want int) {
	t.Helper()
	if got := idp.Tokens(); got != want {
		t.Errorf("%d token requests, want %d", got, want)
	}
}

func TestRightAnswers(t *testing.T) {
	for _, tt := range []struct{ name, body, scope string }{
		{"bearer", `{"access_token":"tok","token_type":"bearer","expires_in":"3600","scope":"a  b"}`, "a  b"},
		{"BEARER", `{"access_token":"tok","token_type":"BEARER","scope":""}`, ""},
		{"least", `{"access_token":"tok"}`, ""},
		{"nulls", `{"access_token":"tok","token_type":null,"expires_in":null,"scope":null,"refresh_token":null}`, ""},
		{"more", `{"access_token":"tok","foo":{"bar":[1]},"error":"","ext_expires_in":3599}`, ""},
		{"no control characters", `{"access_token":"tok","scope":"a\u001b[2Jb\u202e"}`, "a[2Jb"},
	} {
		idp := idptest.New()
		idp.Always(idptest.Body(tt.body))
		tok, err := newTestProvider(t, idp, nil).Token(t.Context())
		if err != nil || tok.AccessToken() != "tok" || tok.Scope() != tt.scope {
			t.Errorf("%s: %q, %q, %v", tt.name, tok.AccessToken(), tok.Scope(), err)
		}
	}
}

func TestOAuthErrors(t *testing.T) {
	t.Parallel()
	const secret = "s3cret/of+the client"
	for _, tt := range []struct {
		name     string
		fault    http.HandlerFunc
		want     OAuthError
		requests int
	}{
		{"invalid_client", idptest.Error(401, "invalid_client", "AADSTS7000215: Invalid client secret."),
			OAuthError{Code: "invalid_client", Description: "AADSTS7000215: Invalid client secret.", StatusCode: 401}, 1},
		{"server_error", idptest.Error(400, "server_error", ""), OAuthError{Code: "server_error", StatusCode: 400}, 3},
		{"error beside a token", idptest.JSON(200, map[string]any{"error": "invalid_scope", "access_token": "tok"}), OAuthError{Code: "invalid_scope", StatusCode: 200}, 1},
		{"token under 400", idptest.JSON(400, map[string]any{"access_token": "tok", "expires_in": 3600}), OAuthError{StatusCode: 400}, 3},
		{"token under 302", idptest.JSON(302, map[string]any{"access_token": "tok", "expires_in": 3600}), OAuthError{StatusCode: 302}, 1},
		{"error before status", idptest.Error(200, "invalid_scope", ""), OAuthError{Code: "invalid_scope", StatusCode: 200}, 1},
		{"final under 503", idptest.Error(503, "invalid_request", ""), OAuthError{Code: "invalid_request", StatusCode: 503}, 1},
		{"correlation", idptest.JSON(400, map[string]any{"error": "unauthorized_client", "correlation_id": "11-22", "error_codes": []int{1}, "error_uri": "https://login/error?code=1"}),
			OAuthError{Code: "unauthorized_client", URI: "https://login/error?code=1", CorrelationID: "11-22", StatusCode: 400}, 1},
		{"echo", idptest.Error(401, "invalid_client", "secret '"+secret+"' is wrong, and so is s3cret%2Fof%2Bthe+client, even s3cret/of; czNjcmV0L29mK3RoZSBjbGllbnQ="),
			OAuthError{Code: "invalid_client", Description: "secret '[removed]' is wrong, and so is [removed], even [removed]; [removed]", StatusCode: 401}, 1},
		{"echo in code", idptest.Error(401, secret, "x"), OAuthError{Code: "[removed]", Description: "x", StatusCode: 401}, 1},
		{"echo with control characters", idptest.Error(401, "invalid_client", "s3cret\x00/of+\x1bthe\u200b client"),
			OAuthError{Code: "invalid_client", Description: "[removed]", StatusCode: 401}, 1},
		{"secret like a code", idptest.Error(401, "invalid_client", "the client"), OAuthError{Code: "invalid_client", Description: "[removed]", StatusCode: 401}, 1},
		{"terminal", idptest.Error(400, "invalid\x1b_client", "a\x1b[2J\nb\u202ec"), OAuthError{Code: "invalid_client", Description: "a[2J bc", StatusCode: 400}, 1},
		{"long", idptest.Error(400, "x", strings.Repeat("y", 100_000)), OAuthError{Code: "x", Description: strings.Repeat("y", 500), StatusCode: 400}, 1},
		{"wrong types", idptest.JSON(400, map[string]any{"error": "invalid_client", "error_description": 7}), OAuthError{Code: "invalid_client", StatusCode: 400}, 1},
		{"redirect", idptest.Status(307, "Location", "https://evil.test/token"), OAuthError{StatusCode: 307}, 1},
		{"Retry-After beyond the flight", idptest.Status(429, "Retry-After", "120", "X-Request-Id", "r-1"), OAuthError{StatusCode: 429, RetryAfter: 2 * time.Minute, CorrelationID: "r-1"}, 1},
		{"gateway, final code of another form", idptest.JSON(403, map[string]any{"error": map[string]any{"code": 403}, "retry": "no"}), OAuthError{StatusCode: 403}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := idptest.New()
			idp.Always(tt.fault)
			p := newTestProvider(t, idp, nil)
			_, err := p.Token(t.Context())
			oe := (*OAuthError)(nil)
			if !errors.As(err, &oe) {
				t.Fatalf("got %v", err)
			}
			if d := cmp.Diff(tt.want, *oe); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if !strings.HasPrefix(err.Error(), "cdfauth: ") || !strings.Contains(err.Error(), tt.want.Code) || !strings.Contains(err.Error(), tt.want.Description) {
				t.Errorf("text: %v", err)
			}
			wantRequestsOf(t, idp, tt.requests)
		})
	}
}

// TestCodeSurvivesSecret: callers decide on codes, whatever the secret looks like.
func TestCodeSurvivesSecret(t *testing.T) {
	idp := idptest.New()
	idp.Always(idptest.Error(401, "invalid_client", "not an invalid_client-secret"))
	_, err := newTestProvider(t, idp, SecretString("my-invalid_client-secret")).Token(t.Context())
	if oe := (*OAuthError)(nil); !errors.As(err, &oe) || oe.Code != "invalid_client" || oe.Description != "not an [removed]" {
		t.Errorf("got %v", err)
	}
}

func TestRetryAfterHeader(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"99999999999": 0, "": 0, "5": 5 * time.Second, "0": 0, "-5": 0, "1.5": 0, "x": 0, "99999999999999999999": 0,
		"Mon, 23 Nov 2026 12:01:00 GMT": time.Minute, "Mon, 23 Nov 2026 11:00:00 GMT": 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Errorf("Retry-After %q is %v, want %v", header, got, want)
		}
	}
}

// TestRedirectIsNotFollowed: the target sees no request, on real sockets.
func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel() // it waits for real back-offs
	var seen bool
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { seen = true }))
	defer target.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := httptest.NewServer(http.RedirectHandler(target.URL, status))
		for _, hc := range []*http.Client{nil, {}, {CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}} {
			for _, ep := range []Endpoint{TokenURL(s.URL), Issuer(s.URL)} {
				p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: ep, ClientID: "i", ClientSecret: SecretString("secret"), Options: Options{HTTPClient: hc}})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := p.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "redirect") {
					t.Errorf("%d: %v", status, err)
				}
			}
			if hc != nil && hc.Timeout != 0 {
				t.Error("the caller's client was changed")
			}
		}
		s.Close()
	}
	if seen {
		t.Error("the target of a redirect saw a request")
	}
}

// TestBodies on real sockets: one that never ends, and one that is cut.
func TestBodies(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		h    http.HandlerFunc
		want string
	}{
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte("BODYMARK"), 1000)); err != nil {
					return
				}
			}
		}, "more than 1 MiB"},
		"not HTTP": {func(w http.ResponseWriter, r *http.Request) {
			r.ParseForm()
			c, _, _ := http.NewResponseController(w).Hijack()
			io.WriteString(c, "sorry, "+r.PostForm.Get("client_secret")+" is wrong\r\n\r\n")
			c.Close()
		}, "malformed HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(tt.h)
			defer s.Close()
			p, _ := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL(s.URL), ClientID: "i", ClientSecret: SecretString("SECRETMARK")})
			_, err := p.Token(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "MARK") {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestTransportErrors(t *testing.T) {
	t.Parallel()                 // it waits for real back-offs
	const nobody = "127.0.0.1:1" // a port that no test can be given, as one that was just closed could
	p, _ := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL("http://" + nobody + "/token?sig=QUERYMARK"), ClientID: "i", ClientSecret: SecretString("secret")})
	_, err := p.Token(t.Context())
	if !errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), "QUERYMARK") || !strings.Contains(err.Error(), nobody) {
		t.Errorf("refused: %v", err)
	}
	{ // a failed verification is final: one handshake
		var hellos int
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { hellos++; return nil, nil }}
		s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
		s.StartTLS()
		defer s.Close()
		p, _ = NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL(s.URL), ClientID: "i", ClientSecret: SecretString("secret")})
		_, err = p.Token(t.Context())
		if ve := (*tls.CertificateVerificationError)(nil); !errors.As(err, &ve) || hellos != 1 {
			t.Errorf("unknown authority: %v after %d handshakes", err, hellos)
		}
	}
}

func TestDiscovery(t *testing.T) {
	newP := func(idp *idptest.Provider, ep Endpoint) *ClientCredentials {
		t.Helper()
		p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: ep, ClientID: "client", ClientSecret: SecretString("s3cret/of+the client"), Options: Options{HTTPClient: idp.Client()}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	again := func(p *ClientCredentials) error {
		p.engine.current.Store(nil)
		_, err := p.Token(t.Context())
		return err
	}

	t.Run("once", func(t *testing.T) {
		for _, ep := range []Endpoint{Issuer("https://idp.test"), Issuer("https://idp.test/"), Issuer("https://idp.test/.well-known/openid-configuration"), Discovery("https://idp.test")} {
			idp := idptest.New()
			p := newP(idp, ep)
			for range 3 {
				if err := again(p); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(idp.Requests("/.well-known/openid-configuration")); n != 1 {
				t.Errorf("%d discoveries", n)
			}
			if r := idp.Requests("/.well-known/openid-configuration")[0]; r.Path != "/.well-known/openid-configuration" || r.Method != "GET" {
				t.Errorf("%s %s", r.Method, r.Path)
			}
		}
	})
	t.Run("trailing slash", func(t *testing.T) {
		idp := idptest.New()
		idp.Metadata(func(m map[string]any) { m["issuer"] = "https://idp.test/" })
		if err := again(newP(idp, Issuer("https://idp.test"))); err != nil {
			t.Error(err)
		}
	})
	t.Run("again after 404", func(t *testing.T) {
		for _, status := range []int{404, 410} {
			idp := idptest.New()
			p := newP(idp, Issuer("https://idp.test"))
			if err := again(p); err != nil {
				t.Fatal(err)
			}
			idp.Fault(idptest.Error(status, "invalid_request", "")) // final: no retry in this flight
			if err := again(p); err == nil {
				t.Error("no error")
			}
			if err := again(p); err != nil {
				t.Fatal(err)
			}
			if n := len(idp.Requests("configuration")); n != 2 {
				t.Errorf("%d: %d discoveries, want 2", status, n)
			}
		}
	})
	t.Run("not under 203", func(t *testing.T) {
		idp := idptest.New()
		hc := idp.Client()
		p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: Issuer("https://idp.test"), ClientID: "client", ClientSecret: SecretString("s3cret/of+the client"),
			Options: Options{HTTPClient: &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
				resp, err := hc.Do(r)
				if err == nil && r.Method == "GET" {
					resp.StatusCode = 203
				}
				return resp, err
			})}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := again(p); err == nil {
			t.Error("metadata under a status other than 200 (OpenID Connect Discovery §4.2) was taken")
		}
	})
	t.Run("another issuer on the origin", func(t *testing.T) {
		idp := idptest.New()
		idp.Metadata(func(m map[string]any) { m["issuer"] = "https://idp.test/v2" })
		if err := again(newP(idp, Discovery("https://idp.test/x"))); err != nil {
			t.Error(err)
		}
	})
	for _, tt := range []struct {
		name   string
		ep     Endpoint
		change func(map[string]any)
		want   []string
	}{
		{"other issuer", Issuer("https://idp.test"), func(m map[string]any) { m["issuer"] = "https://evil.test" }, []string{`"https://idp.test"`, `"https://evil.test"`}},
		{"issuer below", Issuer("https://idp.test"), func(m map[string]any) { m["issuer"] = "https://idp.test/x" }, []string{`"https://idp.test/x"`}},
		{"no issuer", Issuer("https://idp.test"), func(m map[string]any) { delete(m, "issuer") }, []string{`""`}},
		{"issuer of another origin", Discovery("https://idp.test"), func(m map[string]any) { m["issuer"] = "https://idp.test:8443" }, []string{`"https://idp.test:8443"`}},
		{"no issuer for discovery", Discovery("https://idp.test"), func(m map[string]any) { m["issuer"] = "" }, []string{`""`}},
		{"http endpoint", Issuer("https://idp.test"), func(m map[string]any) { m["token_endpoint"] = "http://127.0.0.1/token" }, []string{"token_endpoint", "https"}},
		{"no endpoint", Issuer("https://idp.test"), func(m map[string]any) { delete(m, "token_endpoint") }, []string{"token_endpoint", "empty"}},
		{"userinfo", Issuer("https://idp.test"), func(m map[string]any) { m["token_endpoint"] = "https://a:pa55@idp.test/" }, []string{"token_endpoint"}},
		{"wrong type", Issuer("https://idp.test"), func(m map[string]any) { m["token_endpoint"] = 7 }, []string{"token_endpoint is of the wrong type"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := idptest.New()
			idp.Metadata(tt.change)
			p := newP(idp, tt.ep)
			err := again(p)
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pa55") {
					t.Errorf("got %v, want %s", err, want)
				}
			}
			wantRequestsOf(t, idp, 0)
			idp.Metadata(nil) // failures are not kept
			if err := again(p); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLogger(t *testing.T) {
	var buf bytes.Buffer
	idp := idptest.New()
	idp.Always(idptest.JSON(200, map[string]any{"access_token": "TOKENMARK", "expires_in": 3600}))
	p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL("https://idp.test/token?q=QUERYMARK"), ClientID: "client", ClientSecret: SecretString("SECRETMARK"),
		Options: Options{HTTPClient: idp.Client(), Logger: slog.New(slog.NewJSONHandler(&buf, nil))}})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := p.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var rec map[string]any
	if err := json.Unmarshal(buf.Bytes(), &rec); err != nil {
		t.Fatalf("%v: want one record, got %s", err, buf.String())
	}
	for key, want := range map[string]any{"level": "INFO", "flow": "client credentials", "grant": "client_credentials", "host": "idp.test", "status": 200.0, "attempts": 1.0,
		"expiry": tok.Expiry().Format(time.RFC3339Nano)} {
		if rec[key] != want {
			t.Errorf("%s is %v, want %v", key, rec[key], want)
		}
	}
	buf.Reset()
	idp.Always(idptest.JSON(401, map[string]any{"error": "invalid_client", "error_description": "not SECRETMARK", "correlation_id": "c-1"}))
	p.Invalidate(tok)
	if again, err := p.Token(t.Context()); err != nil || !again.Equal(tok) {
		t.Errorf("%v", err)
	}
	if text := buf.String(); !strings.Contains(text, `"level":"WARN"`) || !strings.Contains(text, "c-1") || !strings.Contains(text, "invalid_client") || strings.Contains(text, "MARK") {
		t.Errorf("records: %s", text)
	}
}
