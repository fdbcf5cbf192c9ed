//go:build go1.25

package cdfauth

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestFailedSignInIsNotRemembered: A person may decline and then change their
// mind. The next call asks again, with the same prompt.
func TestFailedSignInIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.idp.Person = func(url.Values) (string, bool) { return "", false }
		p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) { c.Prompt = "login" })
		var oe *OAuthError
		if _, err := p.Token(t.Context()); !errors.As(err, &oe) || oe.Code != "access_denied" ||
			oe.Description != "the person said no" {
			t.Errorf("declined: %v", err)
		}
		synctest.Wait()
		if !strings.Contains(h.page, "Sign-in was declined") {
			t.Errorf("the page says %s", h.page)
		}
		h.idp.Person = nil
		signedIn(t, p)
		if h.asked() != 2 || h.last().Get("prompt") != "login consent" {
			t.Errorf("asked %d times, the last time with prompt %q", h.asked(), h.last().Get("prompt"))
		}
	})
}

// TestWithoutInteractionAsksNobody: A caller who passes WithoutInteraction gets
// ErrSignInRequired where a person would be asked. Callers without it are asked
// as ever.
func TestWithoutInteractionAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		p := interactive(t, h, &MemoryCache{}, nil)
		if _, err := p.Token(WithoutInteraction(t.Context())); err != ErrSignInRequired ||
			h.asked() != 0 {
			t.Errorf("marked: %v, asked %d times", err, h.asked())
		}
		signedIn(t, p)
		time.Sleep(50 * time.Minute)
		if _, err := p.Token(WithoutInteraction(t.Context())); err != nil {
			t.Errorf("after a sign-in: %v", err)
		}
	})
}

// TestManyCallersAskAPersonOnce: Ten providers on one cache, with ten callers
// each, open one page. Those who wait for another program's sign-in are told
// why.
func TestManyCallersAskAPersonOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		h.back = func(location string) error { time.Sleep(time.Minute); return h.visit(location) }
		var wg sync.WaitGroup
		for range 10 {
			p := interactive(t, h, cache, nil)
			for range 10 {
				wg.Go(func() {
					if tok, err := p.Token(t.Context()); err != nil || tok.Username() != "ada@example.com" {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if h.asked() != 1 || h.idp.Tokens() != 1 {
			t.Errorf("asked %d times, %d token requests", h.asked(), h.idp.Tokens())
		}
		if n := strings.Count(h.told(), "Another program"); n != 9 {
			t.Errorf("%d of the 9 who waited were told why", n)
		}
	})
}

// TestTokenOfAnotherProgramServesWhoWaitsForTheLock: Another program has the
// cache locked while it signs somebody in. What it stores serves a caller who
// waits for the lock, even if the lock never comes.
func TestTokenOfAnotherProgramServesWhoWaitsForTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &heldCache{}
		blob, _ := sample(t, h, "bob").Get(t.Context())
		time.AfterFunc(9*time.Second+time.Millisecond, func() {
			put(t, &cache.MemoryCache, string(blob))
		})
		var tok Token
		d := elapse(func() { tok = signedIn(t, interactive(t, h, cache, nil)) })
		if d != 10*time.Second || tok.Username() != "bob" || h.asked() != 0 {
			t.Errorf("%q signed in after %v and being asked %d times", tok.Username(), d, h.asked())
		}
	})
}

// TestLeavingKeepsTheCache: A caller who does not wait for the person says
// nothing against the cache. The next sign-in is stored as any other.
func TestLeavingKeepsTheCache(t *testing.T) {
	// leave lets a caller leave after a time, and somebody sign in after that.
	leave := func(t *testing.T, p Provider, after time.Duration, cache Cache, signIn func()) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), after)
		defer cancel()
		if _, err := p.Token(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
		synctest.Wait()
		signIn()
		signedIn(t, p)
		if n := refreshTokensIn(t, cache); n != 1 {
			t.Errorf("%d refresh tokens are stored", n)
		}
	}
	runInBubble(t, "device code", func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		done := false
		idp.Codes = func(string) (string, bool) { return "ada", done }
		p, _ := device(t, idp, cache, nil)
		leave(t, p, 12*time.Second, cache, func() { done = true })
	})
	runInBubble(t, "interactive", func(t *testing.T) {
		h, cache := &human{idp: idptest.New(), back: closesThePage}, &MemoryCache{}
		leave(t, interactive(t, h, cache, nil), time.Minute, cache, func() { h.back = nil })
	})
	runInBubble(t, "nobody signs in for 15 minutes", func(t *testing.T) {
		h, cache := &human{idp: idptest.New(), back: closesThePage}, &MemoryCache{}
		p := interactive(t, h, cache, nil)
		if _, err := p.Token(t.Context()); err == nil ||
			!strings.Contains(err.Error(), "nobody has signed in within 15m") {
			t.Error(err)
		}
		synctest.Wait()
		h.back = nil
		signedIn(t, p)
		if n := refreshTokensIn(t, cache); n != 1 {
			t.Errorf("%d refresh tokens are stored", n)
		}
	})
}

// TestGoodContentIsNotSetAside: A program that takes no lock may complete the
// content just after the provider has given up on it. The provider moves
// content aside only if it is still unreadable by then.
func TestGoodContentIsNotSetAside(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		good, _ := sample(t, h, "bob").Get(t.Context())
		c, err := NewFileCache(filepath.Join(dir, "cache"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.path, good[:len(good)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		if tok := signedIn(t, interactive(t, h, &mended{c, good}, nil)); tok.Username() != "bob" ||
			h.asked() != 0 {
			t.Errorf("a token of %q after being asked %d times", tok.Username(), h.asked())
		}
		if b, err := os.ReadFile(c.path + ".bad"); err == nil {
			t.Errorf("%d good bytes were moved aside", len(b))
		}
	})
}

// TestTokenOfAScopeDoesNotServeWithoutScopes: A provider without Scopes wants
// what the server gives by default, which is not what was issued for a certain
// scope.
func TestTokenOfAScopeDoesNotServeWithoutScopes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		mine := signedIn(t, interactive(t, h, cache, nil))
		other := signedIn(t, interactive(t, h, cache, func(c *InteractiveConfig) { c.Scopes = nil }))
		if other.AccessToken() == mine.AccessToken() {
			t.Errorf("a token for %q", other.Scope())
		}
	})
}

// TestMarkedCallerLeavesAnInteractionAtOnce: Somebody is being asked, for
// another caller's sake. A caller with WithoutInteraction does not wait for the
// person, and disturbs nobody.
func TestMarkedCallerLeavesAnInteractionAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.back = func(location string) error { time.Sleep(time.Minute); return h.visit(location) }
		p := interactive(t, h, &MemoryCache{}, nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := p.Token(t.Context()); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(10 * time.Second)
		if d := elapse(func() {
			if _, err := p.Token(WithoutInteraction(t.Context())); err != ErrSignInRequired {
				t.Error(err)
			}
		}); d != 0 {
			t.Errorf("left after %v", d)
		}
		wg.Wait()
		if h.asked() != 1 {
			t.Errorf("asked %d times", h.asked())
		}
	})
}

// TestOnlyListedOpenIDScopesAreAskedFor: Some identity providers refuse a
// request with a scope that they do not know. Of openid, profile and
// offline_access the provider asks for those that scopes_supported lists, and
// it asks for consent only where it asks for offline_access (OpenID Connect
// Core §11).
func TestOnlyListedOpenIDScopesAreAskedFor(t *testing.T) {
	for list, want := range map[string]string{"openid email": "read openid/",
		"openid offline_access": "read openid offline_access/consent", "": "read/",
		"-": "read openid profile offline_access/"} {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			h.idp.Metadata(func(m map[string]any) {
				if m["scopes_supported"] = strings.Fields(list); list == "-" {
					delete(m, "scopes_supported")
				}
			})
			signedIn(t, interactive(t, h, &MemoryCache{}, nil))
			if got := h.last().Get("scope") + "/" + h.last().Get("prompt"); got != want {
				t.Errorf("of %q: %q, want %q", list, got, want)
			}
		})
	}
}

// TestWarmStartMakesNoRequest: A program starts often. With what this package
// has stored, for any kind of endpoint, a start makes no request.
func TestWarmStartMakesNoRequest(t *testing.T) {
	for name, ep := range map[string]Endpoint{"Issuer": Issuer("https://idp.test"),
		"Discovery": Discovery("https://idp.test"),
		"GUID":      Authority("https://idp.test/11111111-2222-3333-4444-555555555555"),
		"AD FS":     Authority("https://idp.test/adfs")} {
		synctest.Test(t, func(t *testing.T) {
			h, cache := &human{idp: idptest.New()}, &MemoryCache{}
			if name == "AD FS" {
				h.idp.Metadata(func(m map[string]any) { m["issuer"] = "https://idp.test/adfs/oauth2" })
			}
			signedIn(t, interactive(t, h, cache, at(ep)))
			before := len(h.idp.Requests(""))
			signedIn(t, interactive(t, h, cache, at(ep)))
			if n := len(h.idp.Requests("")) - before; n != 0 || h.asked() != 1 {
				t.Errorf("%s: %d requests", name, n)
			}
		})
	}
}

// TestInvalidateAsksNobody: An API that refuses a token must not cause a page
// that nobody expects. The provider renews the token by the refresh token, and
// hands out the refused one if a person would have to be asked.
func TestInvalidateAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		p := interactive(t, h, cache, nil)
		first := signedIn(t, p)
		p.Invalidate(first)
		second := signedIn(t, p)
		if second.AccessToken() == first.AccessToken() || h.asked() != 0 {
			t.Errorf("asked %d times, the same token: %t", h.asked(), second.Equal(first))
		}
		edit(t, cache, func(c msalCache) { clear(c) })
		time.Sleep(time.Minute)
		p.Invalidate(second)
		if third := signedIn(t, p); !third.Equal(second) || h.asked() != 0 {
			t.Errorf("asked %d times", h.asked())
		}
	})
}

// TestPersonIsToldWhoHasTheCache: A program that waits for another one's
// sign-in seems to hang. The person is told why, even in a device flow whose
// caller shows the codes.
func TestPersonIsToldWhoHasTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk("device"), &MemoryCache{}
		leave := make(chan bool)
		go cache.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
			<-leave
			return old, nil
		})
		go func() { time.Sleep(time.Minute); close(leave) }()
		synctest.Wait()
		signedIn(t, d.start(t, cache))
		if log := d.log.String(); !strings.Contains(strings.ToLower(log), "another program") {
			t.Errorf("the log: %s", log)
		}
	})
}

// TestSignInIsKeptAtDefaultCachePath: A person's flow without a Cache keeps the
// sign-in in the file at DefaultCachePath. Without a home directory it keeps it
// in memory, and warns.
func TestSignInIsKeptAtDefaultCachePath(t *testing.T) {
	home := func(dir string) {
		for _, name := range []string{"HOME", "XDG_CACHE_HOME", "LocalAppData"} {
			t.Setenv(name, dir)
		}
	}
	var log bytes.Buffer
	twice := func(t *testing.T, signIns int) { // a program that runs twice; beyond the token's life
		idp := idptest.New()
		for range 2 {
			p, _ := device(t, idp, nil, func(c *DeviceCodeConfig) {
				c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
			})
			until(signedIn(t, p), -time.Second)
			signedIn(t, p)
		}
		if n := len(idp.Requests("/devicecode")); n != signIns || idp.Refused() != 0 {
			t.Errorf("%d sign-ins, want %d; %d refresh tokens refused", n, signIns, idp.Refused())
		}
	}
	home(t.TempDir())
	synctest.Test(t, func(t *testing.T) { twice(t, 1) })
	if path, err := DefaultCachePath("app"); err != nil {
		t.Error(err)
	} else if _, err := os.Stat(path); err != nil || log.Len() > 0 {
		t.Errorf("%v; the log: %s", err, log.String())
	}
	home("relative") // which is refused where such a directory is known at all
	if _, err := DefaultCachePath("app"); err == nil {
		return
	}
	synctest.Test(t, func(t *testing.T) { twice(t, 2) })
	if n := strings.Count(log.String(), "kept in memory alone"); n != 2 {
		t.Errorf("%d warnings for 2 starts: %s", n, log.String())
	}
}

// A sealedCache is a cache that is read only by Update.
type sealedCache struct{ *MemoryCache }

func (sealedCache) Get(context.Context) ([]byte, error) { return nil, errors.New("not now") }

// TestCacheThatCannotBeReadMayHaveARefreshToken: the first look at a cache needs no turn,
// and may fail. The refresh token that is in it is found when the turn has come: nobody has
// to be asked.
func TestCacheThatCannotBeReadMayHaveARefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sealedCache{sample(t, h, "bob")}
		time.Sleep(2 * time.Hour)
		p := interactive(t, h, cache, nil)
		_, err := p.Token(WithoutInteraction(t.Context()))
		if err != nil || h.asked() != 0 {
			t.Errorf("%v; asked %d times", err, h.asked())
		}
	})
}
