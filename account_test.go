package cdfauth

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"cdfauth/internal/idptest"
)

// TestSignInOfThePythonSDKServes: a person who has signed in with Cognite's Python SDK need
// not do so again here. The provider sends no request, except for the metadata of a tenant
// that is not named by its GUID: it says which GUID the tenant has. The files are MSAL's, as the
// SDK wrote them.
func TestSignInOfThePythonSDKServes(t *testing.T) {
	const guid, scope = "11111111-2222-3333-4444-555555555555", "https://greenfield.cognitedata.com/"
	entra := func(tenant string) Endpoint {
		return Authority("https://login.microsoftonline.com/" + tenant)
	}
	type test struct {
		file, tenant string // tenant replaces the one in the file
		endpoint     Endpoint
		scopes       string
		user         string
		reads        int // of the metadata
	}
	tests := []test{
		{"entra-interactive", guid, entra(guid), scope + ".default", "jane.doe@example.com", 0},
		{"oidc-device", guid, Issuer("https://my-tenant.auth0.com"),
			"IDENTITY user_impersonation", "", 0},
	}
	for tenant, reads := range map[string]int{guid: 0, "ABCDEFab-cdef-0987-6543-210000000000": 0,
		guid[:35]: 1, guid + "5": 1, guid[:35] + "g": 1, guid[:35] + "-": 1,
		"1" + guid[:8] + guid[9:]: 1, "example.com": 1} {
		tests = append(tests,
			test{"entra-device", tenant, entra(tenant), scope + "IDENTITY", "jane.doe@example.com", reads})
	}
	for _, tt := range tests {
		blob, err := os.ReadFile("testdata/msal-cache/" + tt.file + ".bin")
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseMSALCache(bytes.ReplaceAll(blob, []byte(guid), []byte(tt.tenant)))
		if err != nil {
			t.Fatal(err)
		}
		e := entryOf(c, accessTokens, keysOf(c, accessTokens)[0])
		e["cached_at"], e["expires_on"] = unix(time.Now()), unix(time.Now().Add(time.Hour))
		blob, _ = c.blob()
		cache, idp := &MemoryCache{}, idptest.New()
		put(t, cache, string(blob))
		idp.Issuer = "https://" + e.text("environment")
		p, err := NewDeviceCode(DeviceCodeConfig{
			Endpoint: tt.endpoint,
			ClientID: e.text("client_id"),
			Scopes:   strings.Fields(tt.scopes),
			Options:  Options{HTTPClient: idp.Client(), Cache: cache},
		})
		if err != nil {
			t.Fatal(err)
		}
		tok, err := p.Token(WithoutInteraction(t.Context()))
		if err != nil || tok.AccessToken() != e.text("secret") || tok.Username() != tt.user {
			t.Errorf("%s %s: a token of %q: %v", tt.file, tt.tenant, tok.Username(), err)
		}
		if n := len(idp.Requests("/openid-configuration")); n != tt.reads || len(idp.Requests("")) != n {
			t.Errorf("%s %s: the metadata was read %d times, want %d, of %d requests", tt.file, tt.tenant, n,
				tt.reads, len(idp.Requests("")))
		}
	}
}
