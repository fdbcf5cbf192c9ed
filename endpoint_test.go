package cdfauth

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEachKindOfEndpointHasItsAddress: a kind of Endpoint that needs no metadata makes the
// address of the token endpoint of its argument. Issuer and Discovery make the address of
// the issuer, by which the metadata is found (OpenID Connect Discovery §4).
func TestEachKindOfEndpointHasItsAddress(t *testing.T) {
	const tenant = "11111111-2222-3333-4444-555555555555"
	for _, tt := range []struct {
		name     string
		endpoint Endpoint
		want     string
	}{
		{"entra", Entra(tenant), "https://login.microsoftonline.com/" + tenant + "/oauth2/v2.0/token"},
		{"entra domain", Entra("contoso.onmicrosoft.com"),
			"https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token"},
		{"authority", Authority("https://login.example.com/t/"),
			"https://login.example.com/t/oauth2/v2.0/token"},
		{"adfs", Authority("https://sts.example.com/ADFS"), "https://sts.example.com/ADFS/oauth2/token"},
		{"token url", TokenURL("https://x.auth0.com/oauth/token?a=b"),
			"https://x.auth0.com/oauth/token?a=b"},
		{"loopback", TokenURL("http://127.0.0.1:8080/token"), "http://127.0.0.1:8080/token"},
		{"loopback 6", TokenURL("http://[::1]/token"), "http://[::1]/token"},
		{"localhost", TokenURL("http://localhost:1/"), "http://localhost:1/"},
		{"issuer", Issuer("https://idp.example.com/realms/a/"), "https://idp.example.com/realms/a"},
		{"pasted", Issuer("https://idp.example.com/realms/a/.well-known/openid-configuration"),
			"https://idp.example.com/realms/a"},
		{"discovery", Discovery("https://idp.example.com"), "https://idp.example.com"},
		{"entra's token url", TokenURL("https://login.microsoftonline.com/t/oauth2/v2.0/token"),
			"https://login.microsoftonline.com/t/oauth2/v2.0/token"},
		{"entra's token url, B2C",
			TokenURL("https://login.microsoftonline.com/te/t/b2c_1/oauth2/v2.0/token"),
			"https://login.microsoftonline.com/te/t/b2c_1/oauth2/v2.0/token"},
		{"entra's issuer", Issuer("https://login.microsoftonline.com/t/v2.0"),
			"https://login.microsoftonline.com/t/v2.0"},
		{"first character", Issuer("https://idp.test/!"), "https://idp.test/!"},
		{"last character", Issuer("https://idp.test/~"), "https://idp.test/~"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := newClient("test", tt.endpoint, "id", nil, nil, Options{}, new(clock))
			if err != nil {
				t.Fatal(err)
			}
			got := tt.endpoint.url
			if tt.endpoint.kind != kindIssuer && tt.endpoint.kind != kindDiscovery {
				if got, err = c.endpointURL(t.Context(), "token"); err != nil {
					t.Fatal(err)
				}
			}
			if got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestBadEndpointsAreRefused: the constructor refuses a bad Endpoint, before anything is
// sent. The error names the field and says what is wrong. It never shows the URL, which may
// have a password in it.
func TestBadEndpointsAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name     string
		endpoint Endpoint
		want     string // in the error
	}{
		// A tenant's name must not lead to another host or path.
		{"tenant changes host", Entra("../../evil.com"), `Entra("../../evil.com")`},
		{"tenant changes path", Entra("t/x"), "Entra"},
		{"tenant dots", Entra(".."), "Entra"},
		{"tenant query", Entra("t?x"), "Entra"},
		{"tenant escape", Entra("t%2f"), "Entra"},
		{"tenant empty", Entra(""), "Entra"},

		{"http", TokenURL("http://idp.example.com/token"), "must be https"},
		{"http address", TokenURL("http://10.0.0.1/token"), "must be https"},
		{"http look-alike", TokenURL("http://127.0.0.1.evil.com/token"), "must be https"},
		{"ftp", Discovery("ftp://idp.example.com"), "must be https"},
		{"userinfo", Issuer("https://user:pa55word@idp.example.com"), "has a user name"},
		{"fragment", Issuer("https://idp.example.com/#"), "fragment"},
		{"query", Issuer("https://idp.example.com/?x=pa55word"), "query"},
		{"forced query", Issuer("https://idp.example.com?"), "query"},
		{"no scheme", Authority("login.example.com/t"), "is not of the form"},
		{"no host", Issuer("https:///x"), "is not of the form"},
		{"empty", TokenURL(""), "is empty"},
		{"unicode host", Issuer("https://b\u00fccher.example"),
			"has a character that is not ASCII at byte 10 of 23"},
		{"whole endpoint", Authority("https://idp.test/t/oauth2/v2.0/token"), "without /oauth2"},
		{"whole endpoint, cut", Authority("https://idp.test/t/oauth2"), "without /oauth2"},
		{"v2.0", Authority("https://idp.test/t/v2.0"), "v2.0"},

		// Values of .env files may have characters that nobody sees when they are printed.
		{"line end", Issuer("https://idp.test/\n"), "has a line end at its end"},
		{"CRLF", TokenURL("https://idp.test/token\r\n"), "has a line end at its end"},
		{"two lines", TokenURL("https://idp.test/\ntoken"), "has a line end at byte 18 of 23"},
		{"blank", TokenURL(" https://idp.test/token"), "has a blank at its start"},
		{"quotes", TokenURL(`"https://idp.test/token"`), "has quotes around it"},
		{"single quotes", TokenURL("'https://idp.test/token'"), "has quotes around it"},
		{"one quote", TokenURL(`https://idp.test/token"`), "has a double quote at its end"},
		{"byte order mark", TokenURL("\ufeffhttps://idp.test/token"),
			"has a byte order mark at its start"},
		{"zero-width space", TokenURL("https://idp.test/token\u200b"),
			"has an invisible character (U+200B) at its end"},
		{"no-break space", TokenURL("https://idp.test\u00a0/token"),
			"has an invisible character (U+00A0) at byte 17"},
		{"after the last character", Issuer("https://idp.test/\x7f"),
			"has a control character (U+007F) at its end"},

		// Documentation has placeholders, which people copy, also from the address bar.
		{"braces",
			TokenURL("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token"), "placeholder"},
		{"angle brackets", Authority("https://login.microsoftonline.com/<tenant>"), "placeholder"},
		{"in the host", TokenURL("https://<domain>.auth0.com/oauth/token"), "placeholder"},
		{"a variable", Issuer("https://idp.test/realms/${REALM}"), "placeholder"},
		{"encoded",
			TokenURL("https://login.microsoftonline.com/%7Btenant%7D/oauth2/v2.0/token"), "placeholder"},

		// Without a tenant, Entra has no such endpoint.
		{"no tenant", Authority("https://login.microsoftonline.com"), "has no tenant in it"},
		{"no tenant, slash", Authority("https://login.microsoftonline.us/"), "has no tenant in it"},
		{"no tenant, upper case", Authority("https://Login.MicrosoftOnline.com"), "has no tenant in it"},
		{"no tenant, issuer", Issuer("https://login.microsoftonline.com/v2.0"), "has no tenant in it"},
		{"no tenant, discovery", Discovery("https://login.microsoftonline.com"), "has no tenant in it"},
		{"no tenant, token url", TokenURL("https://login.microsoftonline.com/oauth2/v2.0/token"),
			"has no tenant in it"},
		{"no tenant, v1", TokenURL("https://login.microsoftonline.com/oauth2/token"),
			"has no tenant in it"},
		{"nothing but a host", TokenURL("https://login.microsoftonline.com"), "has no tenant in it"},
		{"an authority as token url", TokenURL("https://login.microsoftonline.com/t"),
			"which ends in /oauth2/v2.0/token"},

		// Entra's v1 ignores scopes, so that its token would be for something else.
		{"v1", TokenURL("https://login.microsoftonline.com/t/oauth2/token"), "is of Entra's v1"},
		{"v1, upper case", TokenURL("https://login.microsoftonline.com/t/OAuth2/Token"),
			"is of Entra's v1"},
		{"v1, slash", TokenURL("https://login.windows.net/t/oauth2/token/"), "is of Entra's v1"},
		{"v1 issuer", Issuer("https://sts.windows.net/t/"), "is of Entra's v1"},
		{"v1 discovery", Discovery("https://login.microsoftonline.com/t"), "is of Entra's v1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewClientCredentials(ClientCredentialsConfig{
				Endpoint: tt.endpoint, ClientID: "id", ClientSecret: SecretString("s")})
			if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: Endpoint ") ||
				!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "pa55word") {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			var field *fieldError
			if !errors.As(err, &field) || field.field != "Endpoint" {
				t.Errorf("%v is not the error of a field", err)
			}
		})
	}
}

// TestEntraV1IsTakenWithAResource: a configuration that says by the parameter resource what
// Entra's v1 token is for has worked, and goes on working.
func TestEntraV1IsTakenWithAResource(t *testing.T) {
	_, err := NewClientCredentials(ClientCredentialsConfig{
		Endpoint:     TokenURL("https://login.microsoftonline.com/t/oauth2/token"),
		ClientID:     "id",
		ClientSecret: SecretString("s"),
		Params:       url.Values{"resource": {"https://greenfield.cognitedata.com"}},
	})
	if err != nil {
		t.Error(err)
	}
}

// TestClusterNameLeadsToNoOtherHost: a cluster's name becomes part of a host name and of a
// scope. A bad name is an error of the constructor that gets either of them, and tokens go
// to no other host.
func TestClusterNameLeadsToNoOtherHost(t *testing.T) {
	for name, want := range map[string]string{
		"greenfield":          "https://greenfield.cognitedata.com",
		"az-eastus-1":         "https://az-eastus-1.cognitedata.com",
		"WestEurope-1":        "https://westeurope-1.cognitedata.com",
		"p001.plink.az-arn-1": "https://p001.plink.az-arn-1.cognitedata.com",
	} {
		if got := ClusterURL(name); got != want {
			t.Errorf("ClusterURL(%q) = %s", name, got)
		}
		if got := ClusterScopes(name); !cmp.Equal(got, []string{want + "/.default"}) {
			t.Errorf("ClusterScopes(%q) = %s", name, got)
		}
	}
	p, _ := NewStaticProvider("t")
	for _, name := range []string{"", "evil.com/", "evil.com#", "a@b", "a b", "é", "..", ".a", "a..b",
		"-a", "a:1", "greenfield.cognitedata.com"} {
		if _, err := NewHTTPClient(p, ClusterURL(name)); err == nil ||
			!strings.Contains(err.Error(), "cluster name") {
			t.Errorf("ClusterURL(%q) is taken: %v", name, err)
		}
		_, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: Entra("t"), ClientID: "i",
			ClientSecret: SecretString("s"), Scopes: ClusterScopes(name)})
		if err == nil || !strings.Contains(err.Error(), "cluster name") {
			t.Errorf("ClusterScopes(%q) is taken: %v", name, err)
		}
	}
}

// TestEntraV1ErrorSaysWhatIsWanted: people copy addresses of Entra's v1 from old
// documentation. The error says which token endpoint or issuer of v2 to use instead.
func TestEntraV1ErrorSaysWhatIsWanted(t *testing.T) {
	for _, tt := range []struct {
		endpoint Endpoint
		want     string
	}{
		{TokenURL("https://login.microsoftonline.com/t/oauth2/token"),
			"want …/oauth2/v2.0/token instead of"},
		{Issuer("https://sts.windows.net/t/"), "the tenant, and /v2.0"},
		{Discovery("https://login.microsoftonline.com/t"), "the tenant, and /v2.0"},
	} {
		if err := tt.endpoint.check(nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", tt.endpoint.url, err, tt.want)
		}
		if err := tt.endpoint.check(url.Values{"resource": {"r"}}); err != nil {
			t.Errorf("%s with a resource: %v", tt.endpoint.url, err)
		}
	}
	for _, path := range []string{"/t/OAuth2/V2.0/Token", "/t/oauth2/v2.0/token/"} {
		if err := TokenURL("https://login.microsoftonline.com" + path).check(nil); err != nil {
			t.Errorf("%s, which is of v2: %v", path, err)
		}
	}
	if err := Issuer("https://login.microsoftonline.com/t/V2.0").check(nil); err != nil {
		t.Errorf("an issuer of v2 in upper case: %v", err)
	}
}

// TestLoopbackIsSpeltInASCII: a letter that folds to one of ASCII makes no localhost, also
// in an address that a person pastes, which no constructor has checked.
func TestLoopbackIsSpeltInASCII(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost":      true,
		"LOCALHOST":      true,
		"127.0.0.1":      true,
		"127.9.9.9":      true,
		"::1":            true,
		"localho\u017ft": false, // a long s
		"localhost.":     false,
		"10.0.0.1":       false,
		"":               false,
	} {
		if got := isLoopback(host); got != want {
			t.Errorf("isLoopback(%q) = %t", host, got)
		}
	}
}
