package cdfauth

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"cdfauth/internal/idptest"
)

// newDiscoveringProvider returns a provider that finds its token endpoint in the metadata.
func newDiscoveringProvider(
	t *testing.T, idp *idptest.Provider, endpoint Endpoint,
) *ClientCredentials {
	t.Helper()
	p, err := newClientCredentials(endpoint, Options{HTTPClient: idp.Client()})
	must(t, err)
	return p
}

// tokenAgain forgets the token that p has, and asks for another one.
func tokenAgain(t *testing.T, p *ClientCredentials) error {
	p.refresher.current.Store(nil)
	_, err := p.Token(t.Context())
	return err
}

// TestMetadataIsReadOnce: a provider reads its metadata for the first token and keeps it, so
// that each further token costs one request. The address is that of OpenID Connect
// Discovery §4, however the issuer is written.
func TestMetadataIsReadOnce(t *testing.T) {
	const path = "/.well-known/openid-configuration"
	for _, endpoint := range []Endpoint{
		Issuer("https://idp.test"),
		Issuer("https://idp.test/"),
		Issuer("https://idp.test" + path),
		Discovery("https://idp.test"),
	} {
		idp := idptest.New()
		p := newDiscoveringProvider(t, idp, endpoint)
		for range 3 {
			must(t, tokenAgain(t, p))
		}
		requests := idp.Requests(path)
		if len(requests) != 1 {
			t.Errorf("%d discoveries", len(requests))
		}
		if r := requests[0]; r.Path != path || r.Method != "GET" {
			t.Errorf("%s %s", r.Method, r.Path)
		}
	}
}

// TestMetadataIsReadAgainWhenTheEndpointIsGone: a provider may move its token endpoint while
// the program runs. After 404 or 410 of the old one, the next call reads the metadata again.
func TestMetadataIsReadAgainWhenTheEndpointIsGone(t *testing.T) {
	for _, status := range []int{404, 410} {
		idp := idptest.New()
		p := newDiscoveringProvider(t, idp, Issuer("https://idp.test"))
		must(t, tokenAgain(t, p))
		idp.Fault(idptest.Error(status, "invalid_request", "")) // final: no retry in this flight
		if err := tokenAgain(t, p); err == nil {
			t.Error("no error")
		}
		must(t, tokenAgain(t, p))
		if n := len(idp.Requests("configuration")); n != 2 {
			t.Errorf("%d: %d discoveries, want 2", status, n)
		}
	}
}

// TestMetadataHasStatus200: metadata under any other status is not taken (OpenID Connect
// Discovery §4.2). 203 says that a proxy has changed it (RFC 9110 §15.3.4).
func TestMetadataHasStatus200(t *testing.T) {
	idp := idptest.New()
	hc := idp.Client()
	changed := tripper(func(r *http.Request) (*http.Response, error) {
		resp, err := hc.Do(r)
		if err == nil && r.Method == "GET" {
			resp.StatusCode = 203
		}
		return resp, err
	})
	options := Options{HTTPClient: &http.Client{Transport: changed}}
	p, err := newClientCredentials(Issuer("https://idp.test"), options)
	must(t, err)
	if err := tokenAgain(t, p); err == nil {
		t.Error("metadata under a status other than 200 was taken")
	}
}

// TestMetadataOfAnotherIssuerIsRefused: metadata of another issuer could lead secrets to
// somebody else. The issuer in it has to be the one that was asked for (OpenID Connect
// Discovery §4.3, RFC 8414 §3.3), but for a slash at the end. For an Endpoint of Discovery it
// has to be on the same origin. Bad endpoints are refused as well. A provider does not keep
// metadata that it has refused.
func TestMetadataOfAnotherIssuerIsRefused(t *testing.T) {
	t.Run("trailing slash", func(t *testing.T) {
		idp := idptest.New()
		idp.Metadata(func(m map[string]any) { m["issuer"] = "https://idp.test/" })
		if err := tokenAgain(t, newDiscoveringProvider(t, idp, Issuer("https://idp.test"))); err != nil {
			t.Error(err)
		}
	})
	t.Run("another issuer on the origin", func(t *testing.T) {
		idp := idptest.New()
		idp.Metadata(func(m map[string]any) { m["issuer"] = "https://idp.test/v2" })
		if err := tokenAgain(t,
			newDiscoveringProvider(t, idp, Discovery("https://idp.test/x"))); err != nil {
			t.Error(err)
		}
	})
	for _, tt := range []struct {
		name   string
		ep     Endpoint
		change func(map[string]any)
		want   []string
	}{
		{"other issuer", Issuer("https://idp.test"),
			func(m map[string]any) { m["issuer"] = "https://evil.test" },
			[]string{`"https://idp.test"`, `"https://evil.test"`}},
		{"issuer below", Issuer("https://idp.test"),
			func(m map[string]any) { m["issuer"] = "https://idp.test/x" }, []string{`"https://idp.test/x"`}},
		{"no issuer", Issuer("https://idp.test"), func(m map[string]any) { delete(m, "issuer") },
			[]string{`""`}},
		{"issuer of another origin", Discovery("https://idp.test"),
			func(m map[string]any) { m["issuer"] = "https://idp.test:8443" },
			[]string{`"https://idp.test:8443"`}},
		{"no issuer for discovery", Discovery("https://idp.test"),
			func(m map[string]any) { m["issuer"] = "" }, []string{`""`}},
		{"http endpoint", Issuer("https://idp.test"),
			func(m map[string]any) { m["token_endpoint"] = "http://127.0.0.1/token" },
			[]string{"token_endpoint", "https"}},
		{"no endpoint", Issuer("https://idp.test"),
			func(m map[string]any) { delete(m, "token_endpoint") }, []string{"token_endpoint", "empty"}},
		{"userinfo", Issuer("https://idp.test"),
			func(m map[string]any) { m["token_endpoint"] = "https://a:pa55@idp.test/" },
			[]string{"token_endpoint"}},
		{"wrong type", Issuer("https://idp.test"), func(m map[string]any) { m["token_endpoint"] = 7 },
			[]string{"token_endpoint is of the wrong type"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := idptest.New()
			idp.Metadata(tt.change)
			p := newDiscoveringProvider(t, idp, tt.ep)
			err := tokenAgain(t, p)
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "pa55") {
					t.Errorf("got %v, want %s", err, want)
				}
			}
			wantRequests(t, idp, 0)
			idp.Metadata(nil)
			if err := tokenAgain(t, p); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOnlyTheTokenEndpointMustBeInTheMetadata: a provider need not offer each flow, so that
// other endpoints than the token endpoint may be missing. Each endpoint that is there has to
// be an https URL, on whatever host.
func TestOnlyTheTokenEndpointMustBeInTheMetadata(t *testing.T) {
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
		p := cachedProvider(t, idp, nil, func(c *ClientCredentialsConfig) {
			c.Endpoint = Issuer(idp.Issuer)
		})
		if _, err := p.Token(t.Context()); (err == nil) != tt.taken {
			t.Errorf("%s %q: %v", tt.field, tt.value, err)
		}
	}
}

// TestMetadataOfRFC8414Section3_2IsTaken: the metadata that the section prints is read:
// issuer, endpoints and scopes.
func TestMetadataOfRFC8414Section3_2IsTaken(t *testing.T) {
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
	c, err := newClient("test", Issuer("https://server.example.com"), "id", nil, nil,
		Options{HTTPClient: hc}, new(clock))
	must(t, err)
	m, err := c.discover(t.Context())
	must(t, err)
	scopes := []string{"openid", "profile", "email", "address", "phone", "offline_access"}
	if m.Issuer != "https://server.example.com" || m.TokenURL != "https://server.example.com/token" ||
		m.AuthorizeURL != "https://server.example.com/authorize" || !slices.Equal(m.Scopes, scopes) ||
		m.SendsIssuer {
		t.Errorf("%+v", m)
	}
	// It names no device authorization endpoint (RFC 8628 §4).
	if _, err := c.endpointURL(t.Context(), "devicecode"); err == nil ||
		!strings.Contains(err.Error(), "does not offer this flow") {
		t.Errorf("device authorization endpoint: %v", err)
	}
}
