//go:build go1.25

package cdfauth

import (
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

func TestDiscoveryIsKeptForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: Issuer("https://idp.test"), ClientID: "client", ClientSecret: SecretString("s3cret/of+the client"), Options: Options{HTTPClient: idp.Client()}})
		if err != nil {
			t.Fatal(err)
		}
		for hour := range 50 {
			get(t, p)
			if got, want := len(idp.Requests("/openid-configuration")), 1+hour/24; got != want {
				t.Fatalf("%d discoveries in %d hours, want %d", got, hour, want)
			}
			time.Sleep(time.Hour)
		}
	})
}

// TestMetadataNamesHTTPSAlone, however the scheme is spelt.
func TestMetadataNamesHTTPSAlone(t *testing.T) {
	idp := idptest.New()
	idp.Metadata(func(m map[string]any) { m["token_endpoint"] = "http://127.0.0.1:9/token" })
	for _, u := range []string{"https://idp.test", "HTTPS://idp.test"} {
		c, err := newClient("x", Discovery(u), "id", nil, nil, Options{HTTPClient: idp.Client()}, new(clock))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.endpointURL(t.Context(), "token"); err == nil {
			t.Errorf("%s: %s", u, got)
		}
	}
}
