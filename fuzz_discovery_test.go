package cdfauth

import (
	"context"
	"net/url"
	"strings"
	"testing"
)

// FuzzDiscovery: whatever the metadata says, it is taken only if its issuer is the one that
// was asked for (OpenID Connect Discovery §4.3), and if its endpoints are https URLs, to
// which secrets may be sent.
func FuzzDiscovery(f *testing.F) {
	const issuer = "https://idp.test/realm"
	c, answers := answering(f, Issuer(issuer))
	for _, seed := range []string{
		`{"issuer":"https://idp.test/realm","token_endpoint":"https://idp.test/t","authorization_endpoint":"https://idp.test/a","device_authorization_endpoint":"https://idp.test/d","scopes_supported":["openid"],"authorization_response_iss_parameter_supported":true}`,
		`{"issuer":"https://idp.test/realm/","token_endpoint":"https://elsewhere.test/t"}`,
		`{"issuer":"https://idp.test/realm","token_endpoint":"http://idp.test/t"}`,
		`{"issuer":"https://idp.test/other","token_endpoint":"https://idp.test/t"}`,
		`{"issuer":"https://idp.test/realm","token_endpoint":"http://127.0.0.1/t"}`,
		`{"issuer":"https://idp.test/realm","token_endpoint":"https://a:b@idp.test/t"}`,
		`{"issuer":"https://idp.test/realm","token_endpoint":"https://idp.test/t","authorization_endpoint":"javascript:alert(1)"}`,
		`{"issuer":"\u001b[2J","token_endpoint":""}`, `{"issuer":1}`, `null`, `[]`, ``,
	} {
		f.Add(200, seed)
	}
	f.Add(404, "<html>")
	f.Fuzz(func(t *testing.T, status int, body string) {
		answers(status, "", body)
		c.found.Store(nil)
		m, err := c.discover(context.Background())
		if err != nil {
			if !sayable(err, "no secret is sent here") || c.metadata() != nil {
				t.Fatalf("%q", err)
			}
			return
		}
		if status != 200 || strings.TrimSuffix(m.Issuer, "/") != issuer {
			t.Fatalf("issuer %q under %d", m.Issuer, status)
		}
		for _, raw := range []string{m.TokenURL, m.AuthorizeURL, m.DeviceURL} {
			u, err := url.Parse(raw)
			if raw != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil) ||
				m.TokenURL == "" {
				t.Fatalf("endpoint %q", raw)
			}
		}
	})
}
