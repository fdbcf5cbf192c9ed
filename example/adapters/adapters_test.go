package adapters

import (
	"net/http"
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
