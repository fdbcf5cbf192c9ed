package adapters

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"cdfauth"
	"cdfauth/internal/idptest"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/oauth2"
)

var _ azcore.TokenCredential = Credential{}

func TestAdapters(t *testing.T) {
	idp := idptest.New()
	api, stop, err := idp.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	p, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
		Endpoint: cdfauth.Issuer(idp.Issuer), ClientID: "client", ClientSecret: cdfauth.SecretString(idp.Clients["client"]),
	})
	if err != nil {
		t.Fatal(err)
	}
	source := TokenSource(t.Context(), p)
	resp, err := (&http.Client{Transport: &oauth2.Transport{Source: source}}).Get(api)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	a, err := source.Token()
	if err != nil || resp.StatusCode != http.StatusOK || !a.Valid() || time.Until(a.Expiry) < 59*time.Minute {
		t.Errorf("%s, valid %t, expires %v, %v", resp.Status, a.Valid(), a.Expiry, err)
	}
	b, err := Credential{p}.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"elsewhere"}})
	if err != nil || b.Token != a.AccessToken || !b.ExpiresOn.Equal(a.Expiry) || idp.Tokens() != 1 {
		t.Errorf("the same token: %t, expires %v, %d requests, %v", b.Token == a.AccessToken, b.ExpiresOn, idp.Tokens(), err)
	}
	broken, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
		Endpoint: cdfauth.Issuer(idp.Issuer), ClientID: "client", ClientSecret: cdfauth.SecretString("wrong"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if tok, err := TokenSource(t.Context(), broken).Token(); err == nil || tok != nil {
		t.Error("a token by a wrong secret")
	}
	if tok, err := (Credential{broken}).GetToken(t.Context(), policy.TokenRequestOptions{}); err == nil || tok.Token != "" {
		t.Error("a token by a wrong secret")
	}
}

// TestTokenFunc: such a client gets the token, and the error.
func TestTokenFunc(t *testing.T) {
	ok, err := cdfauth.NewStaticProvider("my-token")
	if err != nil {
		t.Fatal(err)
	}
	if token, err := TokenFunc(t.Context(), ok)(); token != "my-token" || err != nil {
		t.Errorf("%q, %v", token, err)
	}
	if token, err := TokenFunc(t.Context(), new(cdfauth.StaticProvider))(); token != "" || err == nil {
		t.Errorf("%q, %v", token, err)
	}
}

// TestLoadYAML: what the Python SDK's documentation shows, as YAML, makes a provider that
// asks for the same: identifiers and scopes as written, and other keys as parameters.
func TestLoadYAML(t *testing.T) {
	idp := idptest.New()
	idp.Clients["12345678901234567890"] = "0123"
	p, err := LoadYAML([]byte(`
# of the Python SDK
client_credentials:
  token_url: https://idp.test/token
  client_id: "12345678901234567890"
  client_secret: '0123'
  scopes:
    - https://greenfield.cognitedata.com/.default
  audience: null
`), cdfauth.Options{HTTPClient: idp.Client()})
	if err != nil {
		t.Fatal(err)
	}
	token, err := p.Token(t.Context())
	if err != nil || token.Scope() != "https://greenfield.cognitedata.com/.default" {
		t.Errorf("scope %q, %v", token.Scope(), err)
	}
	for config, want := range map[string]string{
		"token: my token\n":               "token has a character",
		"token: [\n":                      "yaml",
		"client_credentials:\n  a: 1\n":   "token_url is missing",
		"token: a\nclient_credentials: b": "want one JSON object",
	} {
		if _, err := LoadYAML([]byte(config), cdfauth.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", config, err, want)
		}
	}
}
