//go:build go1.25

package cdfauth

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// These tests are of faults that TestSimulation found.

// TestOutageCostsNoPersistence: a refresh that the identity provider lets hang until the flight ends says nothing against the cache. Were it given up, the next
// refresh token would be known to this provider alone, and the one that stayed in the cache be redeemed once more by the next program: the sign-in ends.
func TestOutageCostsNoPersistence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		p, _ := device(t, idp, cache, nil)
		until(signedIn(t, p), -time.Second)
		idp.Always(idptest.Hang)
		if _, err := p.Token(t.Context()); err == nil {
			t.Error("a token from nowhere")
		}
		idp.Always(nil)
		time.Sleep(time.Minute)
		until(signedIn(t, p), -time.Second)
		next, shown := device(t, idp, cache, nil)
		if signedIn(t, next); len(*shown) != 0 || idp.Refused() != 0 {
			t.Errorf("the next program asked a person %d times, %d refresh tokens were refused", len(*shown), idp.Refused())
		}
	})
}

// TestAbandonedSignInCostsNoPersistence: a sign-in that everybody has left says nothing against the cache either.
func TestAbandonedSignInCostsNoPersistence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		p, _ := device(t, idp, cache, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := p.Token(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
		signedIn(t, p)
		next, shown := device(t, idp, cache, nil)
		if signedIn(t, next); len(*shown) != 0 {
			t.Error("the next program asked a person")
		}
	})
}

// TestCachedTokenThatExpiresDuringTheFlight is not handed out instead of the error.
func TestCachedTokenThatExpiresDuringTheFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		tok, _ := get(t, cachedProvider(t, idp, cache, nil))
		p := cachedProvider(t, idp, cache, func(c *ClientCredentialsConfig) {
			c.HTTPClient = &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() })}
		})
		until(tok, 5*time.Second)
		if tok, err := p.Token(t.Context()); err == nil {
			t.Errorf("got a token that had expired %v ago", time.Since(tok.Expiry()))
		}
	})
}
