//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// Two tenants of one Entra, whose refresh tokens serve both.
const (
	tenantA = "https://idp.test/11111111-2222-3333-4444-555555555555"
	tenantB = "https://idp.test/99999999-8888-7777-6666-555555555555"
)

// expiredSignInAt is expiredSignIn of one person at an endpoint.
func expiredSignInAt(t *testing.T, endpoint func(*InteractiveConfig)) (*human, *MemoryCache) {
	t.Helper()
	h, cache := &human{idp: idptest.New()}, &MemoryCache{}
	signedIn(t, interactive(t, h, cache, endpoint))
	time.Sleep(2 * time.Hour)
	return h, cache
}

// wantsMFA is the refusal of a refresh token by an Entra that wants another factor.
func wantsMFA(w http.ResponseWriter, r *http.Request) {
	idptest.JSON(400,
		map[string]any{"error": "invalid_grant", "suberror": "basic_action",
			"error_description": "MFA is wanted"})(w, r)
}

// TestRefreshTokenIsRemovedOnlyIfItIsDead: An answer to a refresh says
// something of the refresh token. Where the token may be good for another
// tenant or another scope, it stays in the cache, for them and for Python; MSAL
// has stopped removing such tokens, too. It is removed where the refusal can
// only mean that it is dead.
func TestRefreshTokenIsRemovedOnlyIfItIsDead(t *testing.T) {
	refusal := func(status int, fields ...string) http.HandlerFunc {
		body := map[string]any{}
		for i := 0; i+1 < len(fields); i += 2 {
			body[fields[i]] = fields[i+1]
		}
		return idptest.JSON(status, body)
	}
	entra, issuer, adfs := Authority(tenantA), Issuer("https://idp.test"),
		Authority("https://idp.test/adfs")
	for name, tt := range map[string]struct {
		at    Endpoint
		says  http.HandlerFunc
		stays bool
		asks  bool // the person, rather than failing
	}{
		"MFA wanted": {entra,
			refusal(400, "error", "invalid_grant", "suberror", "basic_action"), true, true},
		"consent wanted": {entra,
			refusal(400, "error", "invalid_grant", "suberror", "consent_required"), true, true},
		"no suberror at Entra": {entra, refusal(400, "error", "invalid_grant"), true, true},
		"dead at Entra": {entra,
			refusal(400, "error", "invalid_grant", "suberror", "bad_token"), false, true},
		"Entra by its issuer": {issuer,
			refusal(400, "error", "invalid_grant", "suberror", "basic_action"), true, true},
		"dead there": {issuer,
			refusal(400, "error", "invalid_grant", "suberror", "bad_token"), false, true},
		"a provider of one realm": {issuer, refusal(400, "error", "invalid_grant"), false, true},
		"AD FS":                   {adfs, refusal(400, "error", "invalid_grant"), false, true},
		"by the status alone":     {issuer, refusal(401), false, true},
		"in words of its own":     {issuer, refusal(400, "error", "token_revoked"), false, true},
		"interaction_required":    {issuer, refusal(400, "error", "interaction_required"), true, true},
		"a scope that is not":     {issuer, refusal(400, "error", "invalid_scope"), true, true},
		"another error of an RFC": {issuer,
			refusal(400, "error", "invalid_client", "suberror", "bad_token"), true, false},
		"a gateway's page":         {issuer, idptest.Status(403), true, false},
		"a provider out of order":  {issuer, refusal(500, "error", "server_error"), true, false},
		"a provider that is empty": {issuer, refusal(503), true, false},
	} {
		runInBubble(t, name, func(t *testing.T) {
			h, cache := &human{idp: idptest.New()}, &MemoryCache{}
			if strings.HasSuffix(tt.at.url, "/adfs") {
				h.idp.Metadata(func(m map[string]any) { m["issuer"] = "https://idp.test/adfs/oauth2" })
			}
			signedIn(t, interactive(t, h, cache, at(tt.at)))
			time.Sleep(2 * time.Hour)
			h.idp.Always(tt.says)
			_, err := interactive(t, h, cache, at(tt.at)).Token(WithoutInteraction(t.Context()))
			if err == nil || errors.Is(err, ErrSignInRequired) != tt.asks {
				t.Errorf("%v", err)
			}
			if n := refreshTokensIn(t, cache); n == 1 != tt.stays {
				t.Errorf("%d refresh tokens are left", n)
			}
		})
	}
}

// TestRefusedRefreshTokenIsNotRedeemedAgainAtItsTenant: After one tenant has
// refused a refresh token, redeeming it there again, silently or before the
// person is asked, would bring a refusal and a second of waiting for each call.
// The sign-in begins at once, however often callers were refused before. The
// provider of another tenant goes on with the token.
func TestRefusedRefreshTokenIsNotRedeemedAgainAtItsTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := expiredSignInAt(t, at(Authority(tenantA)))
		p := interactive(t, h, cache, at(Authority(tenantB)))
		before := h.idp.Tokens()
		h.idp.Always(wantsMFA)
		_, err := p.Token(WithoutInteraction(t.Context()))
		var answered *OAuthError
		if !errors.Is(err, ErrSignInRequired) || !errors.As(err, &answered) ||
			answered.Code != "invalid_grant" {
			t.Errorf("the first time: %v", err)
		}
		h.idp.Always(nil) // it would be taken now, but nobody knows
		for range 5 {
			_, err := p.Token(WithoutInteraction(t.Context()))
			if !errors.Is(err, ErrSignInRequired) || !strings.Contains(err.Error(), "MFA is wanted") {
				t.Errorf("then: %v", err)
			}
		}
		if n := h.idp.Tokens() - before; n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		var tok Token
		if d := elapse(func() { tok = signedIn(t, p) }); d > tornPause || h.asked() != 2 ||
			tok.Username() != ada {
			t.Errorf("%q signed in %v later, after being asked %d times", tok.Username(), d, h.asked())
		}
		if n := h.idp.Tokens() - before; n != 2 {
			t.Errorf("%d requests, want the refusal and the exchange of the code", n)
		}
		// From here on, all is as ever; and at the other tenant it always was.
		until(tok, -time.Second)
		signedIn(t, p)
		signedIn(t, interactive(t, h, cache, at(Authority(tenantA))))
		if h.asked() != 2 || h.idp.Refused() != 0 {
			t.Errorf("asked %d times, %d refused", h.asked(), h.idp.Refused())
		}
	})
}

// TestRefusedTokenGivesWayToANewOne: Another program may have signed the person
// in meanwhile, with the second factor that was wanted. The provider redeems
// the refresh token of that sign-in.
func TestRefusedTokenGivesWayToANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entra := at(Authority(tenantA))
		h, cache := expiredSignInAt(t, entra)
		h.idp.Fault(wantsMFA)
		p := interactive(t, h, cache, entra)
		if _, err := p.Token(WithoutInteraction(t.Context())); !errors.Is(err, ErrSignInRequired) {
			t.Error(err)
		}
		signedIn(t, interactive(t, h, cache, entra)) // rotates it
		edit(t, cache, func(c msalCache) { delete(c, accessTokens) })
		if _, err := p.Token(WithoutInteraction(t.Context())); err != nil || h.asked() != 1 {
			t.Errorf("%v; asked %d times", err, h.asked())
		}
	})
}

// TestDeclinedSignInKeepsTheRefusal: A person who was asked, and did not sign
// in, has changed nothing about the refresh token. The provider does not redeem
// it again.
func TestDeclinedSignInKeepsTheRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entra := at(Authority(tenantA))
		h, cache := expiredSignInAt(t, entra)
		before := h.idp.Tokens()
		h.idp.Fault(wantsMFA)
		p := interactive(t, h, cache, entra)
		synctest.Wait()
		h.back = closesThePage
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := p.Token(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		synctest.Wait() // nobody looks at back any more
		h.back = nil
		signedIn(t, p)
		if n := h.idp.Tokens() - before; n != 2 || h.asked() != 3 || refreshTokensIn(t, cache) != 1 {
			t.Errorf("%d requests, asked %d times", n, h.asked())
		}
	})
}

// TestSignInLiftsARefusal: When the person has signed in, the refresh token may
// be good for what it was refused for, and the provider redeems it again. The
// identity provider need not have issued another one.
func TestSignInLiftsARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entra := at(Authority(tenantA))
		h, cache := expiredSignInAt(t, entra)
		h.idp.Fault(
			wantsMFA,
			idptest.JSON(200, map[string]any{"access_token": "tok", "expires_in": 60,
				"client_info": base64URL(`{"uid":"sub-` + ada + `","utid":"tenant"}`)}),
		)
		p := interactive(t, h, cache, entra)
		tok := signedIn(t, p)
		until(tok, -time.Second)
		if _, err := p.Token(WithoutInteraction(t.Context())); err != nil || h.asked() != 2 {
			t.Errorf("%v; asked %d times", err, h.asked())
		}
	})
}

// TestNoRefreshTokenIsRedeemedTwice: A refresh token that is redeemed twice may
// end the sign-in (RFC 9700 §4.14.2), so the provider redeems the newest one,
// replaces it by what it gets, and removes exactly the one that was refused. It
// tries another one only if that has appeared meanwhile.
func TestNoRefreshTokenIsRedeemedTwice(t *testing.T) {
	// renewed changes the cache of somebody who has signed in, and asks for a token.
	renewed := func(t *testing.T, change func(c msalCache)) (*human, *MemoryCache, error) {
		h, cache := expiredSignIn(t, "bob")
		edit(t, cache, change)
		_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
		return h, cache, err
	}
	one := func(c msalCache) entry { return entryOf(c, refreshTokens, keysOf(c, refreshTokens)[0]) }
	runInBubble(t, "good", func(t *testing.T) {
		var before entry
		_, cache, err := renewed(t, func(c msalCache) {
			one(c)["theirs"] = "kept"
			before = maps.Clone(one(c))
		})
		c := read(t, cache)
		if err != nil || len(keysOf(c, refreshTokens)) != 1 ||
			one(c).text("secret") == before.text("secret") || one(c).text("theirs") != "kept" ||
			one(c).written().Equal(before.written()) {
			t.Errorf("%v; %v became %v", err, before, one(c))
		}
		if len(keysOf(c, accessTokens)) != 1 {
			t.Errorf("%d access tokens: the expired one is to go", len(keysOf(c, accessTokens)))
		}
	})
	runInBubble(t, "refused", func(t *testing.T) {
		h, cache, err := renewed(t, func(c msalCache) { one(c)["secret"] = "stale" })
		if !errors.Is(err, ErrSignInRequired) || refreshTokensIn(t, cache) != 0 || h.idp.Refused() != 1 {
			t.Errorf("%v; %d left, %d refused", err, refreshTokensIn(t, cache), h.idp.Refused())
		}
		if len(keysOf(read(t, cache), accounts)) != 1 {
			t.Error("the account is gone too")
		}
	})
	twin := func(c msalCache, age time.Duration) {
		e := maps.Clone(one(c))
		e["secret"], e["target"], e["last_modification_time"] = "stale", "other",
			unix(one(c).written().Add(age))
		c.put(refreshTokens, e)
	}
	runInBubble(t, "a newer one is refused", func(t *testing.T) {
		h, cache, err := renewed(t, func(c msalCache) { twin(c, time.Minute) })
		if !errors.Is(err, ErrSignInRequired) || h.idp.Refused() != 1 || refreshTokensIn(t, cache) != 1 {
			t.Errorf("%v; the older one was tried too, or is gone: %d refused", err, h.idp.Refused())
		}
	})
	runInBubble(t, "an older one", func(t *testing.T) {
		h, cache, err := renewed(t, func(c msalCache) { twin(c, -time.Minute) })
		if err != nil || h.idp.Refused() != 0 || refreshTokensIn(t, cache) != 2 {
			t.Errorf("%v; %d refused", err, h.idp.Refused())
		}
	})
	runInBubble(t, "one that appears meanwhile", func(t *testing.T) {
		h, stored := expiredSignIn(t, "bob")
		cache := &shifting{MemoryCache: stored}
		edit(t, cache, func(c msalCache) {
			good, _ := c.blob()
			cache.then = func() []byte { return good }
			one(c)["secret"] = "stale"
		})
		cache.armed = true
		p := interactive(t, h, cache, nil)
		if _, err := p.Token(WithoutInteraction(t.Context())); err != nil || h.idp.Refused() != 1 {
			t.Errorf("%v; %d refused", err, h.idp.Refused())
		}
	})
	runInBubble(t, "stale ones that appear one by one", func(t *testing.T) {
		h, stored := expiredSignIn(t, "bob")
		cache := &shifting{MemoryCache: stored}
		edit(t, cache, func(c msalCache) {
			n := 1
			one(c)["secret"] = "stale 1"
			cache.then = func() []byte {
				n = min(n+1, 4)
				one(c)["secret"] = fmt.Sprint("stale ", n)
				blob, _ := c.blob()
				return blob
			}
		})
		cache.armed = true
		_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
		if !errors.Is(err, ErrSignInRequired) || h.idp.Refused() != 2 {
			t.Errorf("%v; %d refused, want 2", err, h.idp.Refused())
		}
	})
	runInBubble(t, "refused while the cache seems empty", func(t *testing.T) {
		h, stored := expiredSignIn(t, "bob", "eve")
		cache := &shifting{MemoryCache: stored, then: func() []byte { return nil }}
		edit(t, cache, func(c msalCache) {
			entryOf(c, refreshTokens, keysOf(c, refreshTokens)[0])["secret"] = "stale"
		})
		cache.armed = true
		p := interactive(t, h, cache, func(c *InteractiveConfig) { c.LoginHint = "bob" })
		_, err := p.Token(WithoutInteraction(t.Context()))
		if c := read(t, cache); !errors.Is(err, ErrSignInRequired) || h.idp.Refused() != 1 ||
			len(keysOf(c, refreshTokens)) != 1 || len(keysOf(c, accounts)) != 2 {
			t.Errorf("%v; %d refused; left: %v", err, h.idp.Refused(), c)
		}
	})
}

// TestExpiredAccessTokensGoWithARefresh: The expired access tokens of this client are
// removed from the cache at each write, whoever they are for.
func TestExpiredAccessTokensGoWithARefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := expiredSignIn(t, "bob", "eve")
		edit(t, cache, func(c msalCache) {
			for _, key := range keysOf(c, accessTokens) {
				for target, expires := range map[string]time.Time{"expired": time.Now(),
					"good": time.Now().Add(time.Second)} {
					e := maps.Clone(entryOf(c, accessTokens, key))
					e["target"], e["expires_on"] = target, unix(expires)
					c.put(accessTokens, e)
				}
			}
		})
		signedIn(t, interactive(t, h, cache, func(c *InteractiveConfig) { c.LoginHint = "bob" }))
		left := map[string]int{}
		for _, e := range read(t, cache).find(accessTokens, func(entry) bool { return true }) {
			left[e.account()]++
		}
		if h.asked() != 0 || left["sub-bob"] != 2 || left["sub-eve"] != 1 {
			t.Errorf("left: %v", left)
		}
	})
}

// TestOutageOfARefreshAsksNobody: An identity provider that is out of order says
// nothing of the refresh token, and could not sign the person in either.
func TestOutageOfARefreshAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := expiredSignIn(t, "bob")
		h.idp.Always(idptest.Status(503))
		_, err := interactive(t, h, cache, nil).Token(t.Context())
		if errors.Is(err, ErrSignInRequired) || err == nil || h.asked() != 0 ||
			refreshTokensIn(t, cache) != 1 {
			t.Errorf("%v; asked %d times", err, h.asked())
		}
	})
}

// TestRefusalNeedsNoJSON: Some identity providers refuse a refresh token with the
// status 400 alone, or with a page. The token is removed all the same.
func TestRefusalNeedsNoJSON(t *testing.T) {
	for _, body := range []string{"", "<html>no</html>"} {
		runInBubble(t, "400 with "+body, func(t *testing.T) {
			h, cache := expiredSignIn(t, "bob")
			h.idp.Always(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(400)
				io.WriteString(w, body)
			})
			_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
			if !errors.Is(err, ErrSignInRequired) || refreshTokensIn(t, cache) != 0 {
				t.Errorf("%v", err)
			}
		})
	}
}

// shifting is a cache that somebody who takes no lock writes to between Update's read and
// the next Get.
type shifting struct {
	*MemoryCache
	armed  bool
	inside bool
	then   func() []byte
}

func (s *shifting) Get(ctx context.Context) ([]byte, error) {
	if s.armed && s.inside {
		return s.then(), nil
	}
	return s.MemoryCache.Get(ctx)
}

func (s *shifting) Update(ctx context.Context, f updateFunc) error {
	return s.MemoryCache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
		s.inside = true
		defer func() { s.inside = false }()
		return f(ctx, old)
	})
}

// TestSecondRefreshTokenOfOneAgeIsNotRedeemed: Two refresh tokens were written
// at the same moment, and one is refused. The other one is not newer and has
// not appeared since, so the provider does not try it.
func TestSecondRefreshTokenOfOneAgeIsNotRedeemed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := expiredSignIn(t, "bob")
		edit(t, cache, func(c msalCache) {
			one := entryOf(c, refreshTokens, keysOf(c, refreshTokens)[0])
			other := maps.Clone(one)
			one["secret"], other["secret"], other["target"] = "stale", "stale too", "zzz"
			c.put(refreshTokens, other)
		})
		_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
		if n := refreshTokensIn(t, cache); !errors.Is(err,
			ErrSignInRequired) || h.idp.Refused() != 1 || n != 1 {
			t.Errorf("%v; %d were refused, %d are left", err, h.idp.Refused(), n)
		}
	})
}

// TestMetadataOutageKeepsTheRefreshToken: The provider may need the metadata to
// judge the answer to a refresh. It reads the metadata before it spends the
// refresh token.
func TestMetadataOutageKeepsTheRefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		entra := at(Authority(tenantA))
		signedIn(t, interactive(t, h, cache, entra))
		// MSAL for Python's device flow gets none when it refreshes.
		edit(t, cache, func(c msalCache) { delete(c, idTokens) })
		time.Sleep(2 * time.Hour)
		p := interactive(t, h, cache, entra)
		h.idp.Metadata(func(m map[string]any) { delete(m, "issuer") }) // out of order
		_, _ = p.Token(WithoutInteraction(t.Context()))
		h.idp.Metadata(nil)
		if _, err := p.Token(WithoutInteraction(t.Context())); err != nil || h.idp.Refused() != 0 {
			t.Errorf("%v; %d refresh tokens refused", err, h.idp.Refused())
		}
	})
}

// TestSilentRefusalBacksOff: A provider that answers interaction_required gets
// few requests, although callers who may not be asked call Token all the time.
func TestSilentRefusalBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := expiredSignIn(t, "bob")
		h.idp.Always(idptest.Error(400, "interaction_required", "MFA"))
		before := h.idp.Tokens()
		p := interactive(t, h, cache, nil)
		for range 100 {
			ctx, cancel := context.WithTimeout(WithoutInteraction(t.Context()), time.Second)
			if _, err := p.Token(ctx); err == nil {
				t.Error("a token from nowhere")
			}
			cancel()
		}
		synctest.Wait()
		if n := h.idp.Tokens() - before; n > 20 {
			t.Errorf("%d requests for 100 calls", n)
		}
		time.Sleep(time.Minute)
	})
}

// TestHungProviderKeepsTheCache: An identity provider that does not answer for
// the length of a flight is not the cache's fault. If the provider gave up the
// cache because of it, it would later redeem a copy of the refresh token
// without the lock, a second time.
func TestHungProviderKeepsTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := expiredSignIn(t, "bob")
		p, sibling := interactive(t, h, cache, nil), interactive(t, h, cache, nil)
		h.idp.Always(idptest.Hang)
		if _, err := p.Token(WithoutInteraction(t.Context())); err == nil {
			t.Error("a token from nowhere")
		}
		h.idp.Always(nil)
		if _, err := p.Token(WithoutInteraction(t.Context())); err != nil {
			t.Error(err)
		}
		if _, err := sibling.Token(WithoutInteraction(t.Context())); err != nil || h.idp.Refused() != 0 {
			t.Errorf("a sibling on the same cache: %v; %d refresh tokens refused", err, h.idp.Refused())
		}
	})
}

// TestRefusalsOfOpenIDConnectAreNotForGood: OpenID Connect Core §3.1.2.6 has
// errors that say that the person has to do something. They say nothing of the
// refresh token, which stays.
func TestRefusalsOfOpenIDConnectAreNotForGood(t *testing.T) {
	for _, code := range []string{"interaction_required", "login_required", "consent_required"} {
		synctest.Test(t, func(t *testing.T) {
			h, cache := expiredSignIn(t, "bob")
			h.idp.Always(idptest.JSON(400, map[string]any{"error": code}))
			_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
			if n := refreshTokensIn(t, cache); !errors.Is(err, ErrSignInRequired) || n != 1 {
				t.Errorf("%s: %v; %d refresh tokens are left", code, err, n)
			}
		})
	}
}
