package cdfauth

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"cdfauth/internal/idptest"
)

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
		p.refresher.current.Store(nil)
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
			wantRequests(t, idp, 0)
			idp.Metadata(nil) // failures are not kept
			if err := again(p); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMetadataEndpoints: the token endpoint has to be there, others may be missing,
// and each that is there has to be an https URL, on whatever host.
func TestMetadataEndpoints(t *testing.T) {
	for _, tt := range []struct {
		field, value string
		taken        bool
	}{
		{"device_authorization_endpoint", "", true},
		{"device_authorization_endpoint", "https://other.test/", true},
		{"device_authorization_endpoint", "nonsense", false},
		{"authorization_endpoint", "https://other.test/authorize", true},
		{"authorization_endpoint", "http://other.test/authorize", false},
		{"token_endpoint", "", false},
	} {
		idp := idptest.New()
		idp.Metadata(func(m map[string]any) { m[tt.field] = tt.value })
		p := cachedProvider(t, idp, nil, func(c *ClientCredentialsConfig) { c.Endpoint = Issuer(idp.Issuer) })
		if _, err := p.Token(t.Context()); (err == nil) != tt.taken {
			t.Errorf("%s %q: %v", tt.field, tt.value, err)
		}
	}
}

// TestRFC8414Section3_2 has the example of metadata.
func TestRFC8414Section3_2(t *testing.T) {
	const body = `     {
      "issuer":
        "https://server.example.com",
      "authorization_endpoint":
        "https://server.example.com/authorize",
      "token_endpoint":
        "https://server.example.com/token",
      "token_endpoint_auth_methods_supported":
        ["client_secret_basic", "private_key_jwt"],
      "token_endpoint_auth_signing_alg_values_supported":
        ["RS256", "ES256"],
      "userinfo_endpoint":
        "https://server.example.com/userinfo",
      "jwks_uri":
        "https://server.example.com/jwks.json",
      "registration_endpoint":
        "https://server.example.com/register",
      "scopes_supported":
        ["openid", "profile", "email", "address",
         "phone", "offline_access"],
      "response_types_supported":
        ["code", "code token"],
      "service_documentation":
        "http://server.example.com/service_documentation.html",
      "ui_locales_supported":
        ["en-US", "en-GB", "en-CA", "fr-FR", "fr-CA"]
     }`
	hc := &http.Client{Transport: tripper(func(*http.Request) (*http.Response, error) {
		return respond(200, body), nil
	})}
	c, err := newClient("test", Issuer("https://server.example.com"), "id", nil, nil, Options{HTTPClient: hc}, new(clock))
	must(t, err)
	m, err := c.discover(t.Context())
	must(t, err)
	scopes := []string{"openid", "profile", "email", "address", "phone", "offline_access"}
	if m.Issuer != "https://server.example.com" || m.TokenURL != "https://server.example.com/token" ||
		m.AuthorizeURL != "https://server.example.com/authorize" || !slices.Equal(m.Scopes, scopes) || m.SendsIssuer {
		t.Errorf("%+v", m)
	}
	// It has no device authorization endpoint (RFC 8628 §4).
	if _, err := c.endpointURL(t.Context(), "devicecode"); err == nil || !strings.Contains(err.Error(), "does not offer this flow") {
		t.Errorf("device authorization endpoint: %v", err)
	}
}
