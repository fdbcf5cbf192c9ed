//go:build go1.25

package cdfauth

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"

	"cdfauth/internal/idptest"
)

// TestSignOutOfAnEarlierHint: who has signed in under a hint signs out under it,
// though it is not their user name.
func TestSignOutOfAnEarlierHint(t *testing.T) {
	eachUserFlow(t, func(t *testing.T, d *desk) {
		var cache MemoryCache
		d.who = guest
		signedIn(t, d.userFlowWithHint(t, &cache, guestAlias))
		must(t, d.userFlowWithHint(t, &cache, guestAlias).SignOut(t.Context()))
		if n := refreshTokensIn(t, &cache); n != 0 {
			t.Errorf("%d refresh tokens are left", n)
		}
	})
}

// TestSignOutOfNobody: a hint that means nobody, although others are signed in, is
// an error that says who is: no error would tell the caller that the refresh token
// is gone, and it is not. Where nobody is signed in, there is nothing to do.
func TestSignOutOfNobody(t *testing.T) {
	eachUserFlow(t, func(t *testing.T, d *desk) {
		cache := sample(t, d.human, "bob", "eve")
		before, _ := cache.Get(t.Context())
		err := d.userFlowWithHint(t, cache, "dan").SignOut(t.Context())
		for _, name := range []string{"LoginHint", `"dan"`, `"bob"`, `"eve"`} {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%v, want one with %s", err, name)
			}
		}
		if after, _ := cache.Get(t.Context()); string(after) != string(before) {
			t.Errorf("%s became %s", before, after)
		}
		must(t, d.userFlowWithHint(t, &MemoryCache{}, "dan").SignOut(t.Context()))
	})
}

// TestSignOutRemovesTokensOfNobody: Python's device code flow refreshes without
// client_info, and stores an access token that has no account. It came from the
// person's refresh token, and would serve the next silent call.
func TestSignOutRemovesTokensOfNobody(t *testing.T) {
	eachUserFlow(t, func(t *testing.T, d *desk) {
		for _, signedInNow := range []bool{true, false} {
			cache := sample(t, d.human, "bob")
			edit(t, cache, func(c msalCache) {
				nobodys := func(secret string, change func(entry)) {
					e := maps.Clone(entryOf(c, accessTokens, keysOf(c, accessTokens)[0]))
					e["secret"], e["home_account_id"] = secret, nil
					delete(e, fieldIssuer)
					change(e)
					c[accessTokens].(map[string]any)[secret] = map[string]any(e)
				}
				nobodys("python's", func(entry) {})
				nobodys("another realm's", func(e entry) { e["realm"] = "other" })
				nobodys("another issuer's", func(e entry) { e[fieldIssuer] = "https://idp.test/realms/b" })
				nobodys("another client's", func(e entry) { e["client_id"] = "other" })
				nobodys("another host's", func(e entry) { e["environment"] = "other.test" })
				nobodys("an application's", func(e entry) { e[fieldGrant] = "client_credentials" })
				if !signedInNow {
					for _, section := range tokenSections {
						c.remove(section, func(e entry) bool { return e.account() != "" })
					}
				}
			})
			must(t, d.userFlowWithHint(t, cache, "").SignOut(t.Context()))
			left := map[string]bool{}
			for _, key := range keysOf(read(t, cache), accessTokens) {
				left[key] = true
			}
			want := map[string]bool{"another issuer's": true, "another client's": true, "another host's": true, "an application's": true}
			if !maps.Equal(left, want) {
				t.Errorf("signed in: %t; left: %v, want %v", signedInNow, left, want)
			}
		}
	})
}

// TestSignOutOfAnEmptyCacheWritesNothing: Python's own formatting stays, too.
func TestSignOutOfAnEmptyCacheWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		const content = "{\n    \"AccessToken\": {}\n}"
		put(t, cache, content)
		must(t, interactive(t, h, cache, nil).SignOut(t.Context()))
		wantContent(t, cache, content)
	})
}
