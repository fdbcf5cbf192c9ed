//go:build go1.25

package cdfauth

import (
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestRefreshTokenUnderAnotherKeyIsReplaced: Another program, such as MSAL for
// Go, stores the refresh token under a key of its own. The provider does not
// leave it beside the new one, because it is spent.
func TestRefreshTokenUnderAnotherKeyIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		edit(t, cache, func(c msalCache) {
			section := c[refreshTokens].(map[string]any)
			key := keysOf(c, refreshTokens)[0]
			section["sub-bob-idp.test-refreshtoken-app"] = section[key]
			delete(section, key)
		})
		time.Sleep(2 * time.Hour)
		if _, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context())); err != nil {
			t.Fatal(err)
		}
		if keys := keysOf(read(t, cache), refreshTokens); len(keys) != 1 {
			t.Errorf("refresh tokens: %q", keys)
		}
	})
}
