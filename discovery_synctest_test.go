//go:build go1.25

package cdfauth

import (
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestDiscoveryIsKeptForADay: a provider may change its metadata without notice. It is
// read again after a day, and not before.
func TestDiscoveryIsKeptForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		p := newDiscoveringProvider(t, idp, Issuer("https://idp.test"))
		for hour := range 50 {
			get(t, p)
			if got, want := len(idp.Requests("/openid-configuration")), 1+hour/24; got != want {
				t.Fatalf("%d discoveries in %d hours, want %d", got, hour, want)
			}
			time.Sleep(time.Hour)
		}
	})
}

// TestMetadataNamesHTTPSAlone: a secret that is sent to an http address can be read on the
// way. Metadata that was read over https may not name an http address, not even on loopback,
// however the scheme of the issuer is spelt.
func TestMetadataNamesHTTPSAlone(t *testing.T) {
	idp := idptest.New()
	idp.Metadata(func(m map[string]any) { m["token_endpoint"] = "http://127.0.0.1:9/token" })
	for _, u := range []string{"https://idp.test", "HTTPS://idp.test"} {
		c, err := newClient("x", Discovery(u), "id", nil, nil,
			Options{HTTPClient: idp.Client()}, new(clock))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.endpointURL(t.Context(), "token"); err == nil {
			t.Errorf("%s: %s", u, got)
		}
	}
}
