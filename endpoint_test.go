package cdfauth

import (
	"strings"
	"testing"

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
		{name: "http", ep: TokenURL("http://idp.example.com/token"), bad: "must be https"},
		{name: "forced query", ep: Issuer("https://idp.example.com?"), bad: "query"},
		{name: "http address", ep: TokenURL("http://10.0.0.1/token"), bad: "must be https"},
		{name: "http look-alike", ep: TokenURL("http://127.0.0.1.evil.com/token"), bad: "must be https"},
		{name: "userinfo", ep: Issuer("https://user:pa55word@idp.example.com"), bad: "has a user name"},
		{name: "fragment", ep: Issuer("https://idp.example.com/#"), bad: "fragment"},
		{name: "query", ep: Issuer("https://idp.example.com/?x=pa55word"), bad: "query"},
		{name: "no scheme", ep: Authority("login.example.com/t"), bad: "is not of the form"},
		{name: "empty", ep: TokenURL(""), bad: "is empty"},
		{name: "ftp", ep: Discovery("ftp://idp.example.com"), bad: "must be https"},
		{name: "unicode host", ep: Issuer("https://bücher.example"), bad: "ASCII"},
		{name: "no host", ep: Issuer("https:///x"), bad: "form"},
		{name: "control", ep: Issuer("https://idp.example.com/\n"), bad: "form"},
		{name: "whole endpoint", ep: Authority("https://login.microsoftonline.com/t/oauth2/v2.0/token"), bad: "without /oauth2"},
		{name: "v2.0", ep: Authority("https://login.microsoftonline.com/t/v2.0"), bad: "v2.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := newClient("test", tt.ep, "id", nil, nil, Options{}, new(clock))
			if tt.bad != "" {
				if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: Endpoint ") || !strings.Contains(err.Error(), tt.bad) || strings.Contains(err.Error(), "pa55word") {
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
