//go:build go1.25

package cdfauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
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

// TestFailedSignInIsNotRemembered: the next call asks again, with the same prompt.
func TestFailedSignInIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.idp.Person = func(url.Values) (string, bool) { return "", false }
		p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) { c.Prompt = "login" })
		var oe *OAuthError
		if _, err := p.Token(t.Context()); !errors.As(err, &oe) || oe.Code != "access_denied" || oe.Description != "the person said no" {
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

// TestWithoutInteractionAsksNobody, and does not stop others from being asked.
func TestWithoutInteractionAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		p := interactive(t, h, &MemoryCache{}, nil)
		if _, err := p.Token(WithoutInteraction(t.Context())); err != ErrSignInRequired || h.asked() != 0 {
			t.Errorf("marked: %v, asked %d times", err, h.asked())
		}
		signedIn(t, p)
		time.Sleep(50 * time.Minute)
		if _, err := p.Token(WithoutInteraction(t.Context())); err != nil {
			t.Errorf("after a sign-in: %v", err)
		}
	})
}

// TestOneInteraction: many callers, and many providers on one cache, ask a person once.
func TestOneInteraction(t *testing.T) {
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

// occupied is a cache that another program keeps to itself.
type occupied struct{ MemoryCache }

func (c *occupied) Update(ctx context.Context, _ func(context.Context, []byte) ([]byte, error)) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestSiblingSignsIn: what another program gets while it has the cache locked serves who waits for it, though the lock never comes.
func TestSiblingSignsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &occupied{}
		blob, _ := sample(t, h, "bob").Get(t.Context())
		time.AfterFunc(9*time.Second+time.Millisecond, func() { put(t, &cache.MemoryCache, string(blob)) })
		var tok Token
		if d := elapse(func() { tok = signedIn(t, interactive(t, h, cache, nil)) }); d != 10*time.Second || tok.Username() != "bob" || h.asked() != 0 {
			t.Errorf("%q signed in after %v and being asked %d times", tok.Username(), d, h.asked())
		}
	})
}

// TestRefreshTokens: what becomes of those that are refused.
func TestRefreshTokens(t *testing.T) {
	// renewed changes what the cache of somebody who signed in has, and returns the provider after a token was asked for.
	renewed := func(t *testing.T, change func(h *human, c msalCache)) (*human, *MemoryCache, error) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		time.Sleep(2 * time.Hour)
		edit(t, cache, func(c msalCache) { change(h, c) })
		_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
		return h, cache, err
	}
	one := func(c msalCache) entry { return entryOf(c, refreshTokens, all(c, refreshTokens)[0]) }
	t.Run("good", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var before entry
			_, cache, err := renewed(t, func(_ *human, c msalCache) { one(c)["theirs"] = "kept"; before = maps.Clone(one(c)) })
			c := read(t, cache)
			if err != nil || len(all(c, refreshTokens)) != 1 || one(c).text("secret") == before.text("secret") || one(c).text("theirs") != "kept" || one(c).written().Equal(before.written()) {
				t.Errorf("%v; %v became %v", err, before, one(c))
			}
			if len(all(c, accessTokens)) != 1 {
				t.Errorf("%d access tokens: the expired one is to go", len(all(c, accessTokens)))
			}
		})
	})
	t.Run("refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, cache, err := renewed(t, func(_ *human, c msalCache) { one(c)["secret"] = "stale" })
			if !errors.Is(err, ErrSignInRequired) || len(all(read(t, cache), refreshTokens)) != 0 || h.idp.Refused() != 1 {
				t.Errorf("%v; %d left, %d refused", err, len(all(read(t, cache), refreshTokens)), h.idp.Refused())
			}
			if len(all(read(t, cache), accounts)) != 1 {
				t.Error("the account is gone too")
			}
		})
	})
	twin := func(c msalCache, age time.Duration) {
		e := maps.Clone(one(c))
		e["secret"], e["target"], e["last_modification_time"] = "stale", "other", unix(one(c).written().Add(age))
		c.put(refreshTokens, e)
	}
	t.Run("a newer one is refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, cache, err := renewed(t, func(_ *human, c msalCache) { twin(c, time.Minute) })
			if !errors.Is(err, ErrSignInRequired) || h.idp.Refused() != 1 || len(all(read(t, cache), refreshTokens)) != 1 {
				t.Errorf("%v; the older one was tried too, or is gone: %d refused", err, h.idp.Refused())
			}
		})
	})
	t.Run("an older one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, cache, err := renewed(t, func(_ *human, c msalCache) { twin(c, -time.Minute) })
			if err != nil || h.idp.Refused() != 0 || len(all(read(t, cache), refreshTokens)) != 2 {
				t.Errorf("%v; %d refused", err, h.idp.Refused())
			}
		})
	})
	t.Run("one that appears meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := &shifting{MemoryCache: sample(t, h, "bob")}
			time.Sleep(2 * time.Hour)
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
	})
	t.Run("expired access tokens", func(t *testing.T) { // go, of this client, whoever they are for
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := sample(t, h, "bob", "eve")
			time.Sleep(2 * time.Hour)
			edit(t, cache, func(c msalCache) {
				for _, key := range all(c, accessTokens) {
					for target, expires := range map[string]time.Time{"expired": time.Now(), "good": time.Now().Add(time.Second)} {
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
	})
	t.Run("stale ones that appear one by one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := &shifting{MemoryCache: sample(t, h, "bob")}
			time.Sleep(2 * time.Hour)
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
	})
	t.Run("refused while the cache seems empty", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := &shifting{MemoryCache: sample(t, h, "bob", "eve"), then: func() []byte { return nil }}
			time.Sleep(2 * time.Hour)
			edit(t, cache, func(c msalCache) { entryOf(c, refreshTokens, all(c, refreshTokens)[0])["secret"] = "stale" })
			cache.armed = true
			p := interactive(t, h, cache, func(c *InteractiveConfig) { c.LoginHint = "bob" })
			_, err := p.Token(WithoutInteraction(t.Context()))
			if c := read(t, cache); !errors.Is(err, ErrSignInRequired) || h.idp.Refused() != 1 || len(all(c, refreshTokens)) != 1 || len(all(c, accounts)) != 2 {
				t.Errorf("%v; %d refused; left: %v", err, h.idp.Refused(), c)
			}
		})
	})
	t.Run("not asked when the provider is out of order", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := sample(t, h, "bob")
			time.Sleep(2 * time.Hour)
			h.idp.Always(idptest.Status(503))
			_, err := interactive(t, h, cache, nil).Token(t.Context())
			if errors.Is(err, ErrSignInRequired) || err == nil || h.asked() != 0 || len(all(read(t, cache), refreshTokens)) != 1 {
				t.Errorf("%v; asked %d times", err, h.asked())
			}
		})
	})
	for _, body := range []string{"", "<html>no</html>"} {
		t.Run("400 with "+body, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &human{idp: idptest.New()}
				cache := sample(t, h, "bob")
				time.Sleep(2 * time.Hour)
				h.idp.Always(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(400); io.WriteString(w, body) })
				_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
				if !errors.Is(err, ErrSignInRequired) || len(all(read(t, cache), refreshTokens)) != 0 {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// shifting is a cache that somebody who takes no lock writes to between Update's read and the next Get.
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

func (s *shifting) Update(ctx context.Context, f func(context.Context, []byte) ([]byte, error)) error {
	return s.MemoryCache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
		s.inside = true
		defer func() { s.inside = false }()
		return f(ctx, old)
	})
}

// TestSignOut removes one account and nothing else, in memory too.
func TestSignOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob", "eve")
		edit(t, cache, func(c msalCache) {
			c["Theirs"] = map[string]any{"a": "b"}
			for _, key := range all(c, accessTokens) { // another client's
				e := maps.Clone(entryOf(c, accessTokens, key))
				e["client_id"] = "other"
				if e.account() == "sub-eve" {
					c.put(accessTokens, e)
				}
			}
		})
		hint := func(name string) *Interactive {
			return interactive(t, h, cache, func(c *InteractiveConfig) { c.LoginHint = name })
		}
		if err := hint("").SignOut(t.Context()); err == nil || !strings.Contains(err.Error(), "LoginHint") {
			t.Errorf("of two: %v", err)
		}
		p := hint("bob")
		tok := signedIn(t, p)
		if err := p.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := read(t, cache)
		for _, section := range []string{accessTokens, refreshTokens, idTokens, accounts} {
			for _, key := range all(c, section) {
				if entryOf(c, section, key).account() == "sub-bob" {
					t.Errorf("left: %s", key)
				}
			}
		}
		if len(all(c, accessTokens)) != 2 || len(all(c, accounts)) != 1 || c["Theirs"] == nil {
			t.Errorf("left: %v", c)
		}
		if _, err := p.Token(WithoutInteraction(t.Context())); err != ErrSignInRequired {
			t.Errorf("in memory: %v", err)
		}
		if again := signedIn(t, p); again.Equal(tok) || h.asked() != 1 {
			t.Error("signed in without being asked")
		}
		q := hint("eve")
		if err := q.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c := read(t, cache); len(all(c, accounts)) != 2 { // the other client's too
			t.Errorf("accounts: %v", all(c, accounts))
		}
	})
	t.Run("during a refresh", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := sample(t, h, "bob")
			p := interactive(t, h, cache, nil)
			signedIn(t, p)
			time.Sleep(time.Hour - 10*time.Second)
			h.idp.Fault(h.idp.Slow(3*time.Second, idptest.Body(`{"access_token":"late","refresh_token":"late","expires_in":3600}`)))
			signedIn(t, p) // starts it
			synctest.Wait()
			if err := p.SignOut(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if c := read(t, cache); len(all(c, refreshTokens))+len(all(c, accessTokens)) != 0 {
				t.Errorf("written back: %v", c)
			}
			if _, err := p.Token(WithoutInteraction(t.Context())); err != ErrSignInRequired {
				t.Errorf("in memory: %v", err)
			}
		})
	})
	t.Run("during a sign-in", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, cache := &human{idp: idptest.New()}, &MemoryCache{}
			h.back = func(string) error { return nil } // he takes his time
			p := interactive(t, h, cache, nil)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			done := make(chan error)
			go func() { _, err := p.Token(ctx); done <- err }()
			time.Sleep(10 * time.Second)
			start := time.Now()
			if err := p.SignOut(t.Context()); err != nil || time.Since(start) > time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			if err := <-done; err != errSignedOut {
				t.Error(err)
			}
		})
	})
	t.Run("who is asked next", func(t *testing.T) { // somebody else, maybe; after a failure, the same person
		for _, failure := range []error{nil, errors.New("read-only")} {
			synctest.Test(t, func(t *testing.T) {
				h, cache := &human{idp: idptest.New()}, &unwritable{}
				p := interactive(t, h, cache, nil)
				signedIn(t, p)
				cache.why = failure
				if err := p.SignOut(t.Context()); !errors.Is(err, failure) {
					t.Errorf("%v, want %v", err, failure)
				}
				cache.why = nil
				edit(t, cache, func(c msalCache) { clear(c) })
				signedIn(t, p)
				if hint := h.last().Get("login_hint"); h.asked() != 2 || (hint == "ada@example.com") != (failure != nil) {
					t.Errorf("SignOut: %v; then asked %d times in all, with login_hint %q", failure, h.asked(), hint)
				}
			})
		}
	})
}

// TestLeavingKeepsTheCache: that a caller did not wait for a person is not the cache's fault. The next sign-in is stored as any.
func TestLeavingKeepsTheCache(t *testing.T) {
	t.Run("device code", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			idp, cache := idptest.New(), &MemoryCache{}
			done := false
			idp.Codes = func(string) (string, bool) { return "ada", done }
			p, _ := device(t, idp, cache, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
			defer cancel()
			if _, err := p.Token(ctx); err != context.DeadlineExceeded {
				t.Error(err)
			}
			synctest.Wait()
			done = true
			signedIn(t, p)
			if n := refreshTokensIn(t, cache); n != 1 {
				t.Errorf("%d refresh tokens are stored", n)
			}
		})
	})
	t.Run("interactive", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, cache := &human{idp: idptest.New()}, &MemoryCache{}
			h.back = func(string) error { return nil } // the page was closed
			p := interactive(t, h, cache, nil)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := p.Token(ctx); err != context.DeadlineExceeded {
				t.Error(err)
			}
			synctest.Wait()
			h.back = nil
			signedIn(t, p)
			if n := refreshTokensIn(t, cache); n != 1 {
				t.Errorf("%d refresh tokens are stored", n)
			}
		})
	})
	t.Run("nobody signs in for 15 minutes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, cache := &human{idp: idptest.New()}, &MemoryCache{}
			h.back = func(string) error { return nil }
			p := interactive(t, h, cache, nil)
			if _, err := p.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "nobody has signed in within 15m") {
				t.Error(err)
			}
			synctest.Wait()
			h.back = nil
			signedIn(t, p)
			if n := refreshTokensIn(t, cache); n != 1 {
				t.Errorf("%d refresh tokens are stored", n)
			}
		})
	})
}

// TestHungProviderKeepsTheCache: a provider that does not answer for the length of a flight is not the cache's fault either. A refresh
// token that was copied out of the cache because of it would later be redeemed without the lock, a second time.
func TestHungProviderKeepsTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		time.Sleep(2 * time.Hour)
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

// TestGoodContentIsNotSetAside: what is moved aside is what made no sense, and not what is there by then.
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
		if tok := signedIn(t, interactive(t, h, &mended{c, good}, nil)); tok.Username() != "bob" || h.asked() != 0 {
			t.Errorf("a token of %q after being asked %d times", tok.Username(), h.asked())
		}
		if b, err := os.ReadFile(c.path + ".bad"); err == nil {
			t.Errorf("%d good bytes were moved aside", len(b))
		}
	})
}

// TestSignOutWithNothing: misuse is an error, and no panic.
func TestSignOutWithNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("SignOut(nil) panicked: %v", p)
			}
		}()
		p, _ := device(t, idptest.New(), &MemoryCache{}, nil)
		var none context.Context
		if err := p.SignOut(none); err == nil {
			t.Error("no error")
		}
	})
}

// TestSignOutOffline: to forget what our own entries say needs no provider.
func TestSignOutOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		p := interactive(t, h, cache, func(c *InteractiveConfig) {
			c.HTTPClient = &http.Client{Transport: tripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("no network") })}
		})
		if err := p.SignOut(t.Context()); err != nil || refreshTokensIn(t, cache) != 0 {
			t.Errorf("%v; %d refresh tokens are left", err, refreshTokensIn(t, cache))
		}
	})
}

// TestSilentRefusalBacksOff: a provider that says interaction_required is not asked again for every call of callers who may not be asked.
func TestSilentRefusalBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		time.Sleep(2 * time.Hour)
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

// TestRefreshTokensOfOneAge: of two that were written at once, one is refused; the other is neither newer nor has it appeared since.
func TestRefreshTokensOfOneAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		time.Sleep(2 * time.Hour)
		edit(t, cache, func(c msalCache) {
			one := entryOf(c, refreshTokens, keysOf(c, refreshTokens)[0])
			other := maps.Clone(one)
			one["secret"], other["secret"], other["target"] = "stale", "stale too", "zzz"
			c.put(refreshTokens, other)
		})
		_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
		if n := refreshTokensIn(t, cache); !errors.Is(err, ErrSignInRequired) || h.idp.Refused() != 1 || n != 1 {
			t.Errorf("%v; %d were refused, %d are left", err, h.idp.Refused(), n)
		}
	})
}

// TestMetadataOutageKeepsTheRefreshToken: where the metadata is needed to judge the answer of a refresh, it is read before the refresh
// token is spent.
func TestMetadataOutageKeepsTheRefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		entra := at(Authority("https://idp.test/11111111-2222-3333-4444-555555555555"))
		signedIn(t, interactive(t, h, cache, entra))
		edit(t, cache, func(c msalCache) { delete(c, idTokens) }) // MSAL for Python's device flow gets none when it refreshes
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

// TestNoScopesAdoptNoToken: who asks for no scope does not get a token that was issued for one.
func TestNoScopesAdoptNoToken(t *testing.T) {
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

// TestMarkedCallerDuringAnInteraction leaves at once, and disturbs nobody.
func TestMarkedCallerDuringAnInteraction(t *testing.T) {
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

// TestScopesThatTheProviderLists: of openid, profile and offline_access, those; and consent only for the last.
func TestScopesThatTheProviderLists(t *testing.T) {
	for list, want := range map[string]string{"openid email": "read openid/", "openid offline_access": "read openid offline_access/consent", "": "read/", "-": "read openid profile offline_access/"} {
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

// TestWarmStartAsksNobody: with what this package has stored, of any kind of endpoint, a start makes no request.
func TestWarmStartAsksNobody(t *testing.T) {
	for name, ep := range map[string]Endpoint{"Issuer": Issuer("https://idp.test"), "Discovery": Discovery("https://idp.test"),
		"GUID": Authority("https://idp.test/11111111-2222-3333-4444-555555555555"), "AD FS": Authority("https://idp.test/adfs")} {
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

// TestInvalidateAsksNobody: a refused token is renewed by the refresh token, and serves on if a person would be needed.
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

// TestSaysWhoHasTheCache: also in the device flow of a caller who shows codes himself, somebody is told why nothing happens.
func TestSaysWhoHasTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk("device"), &MemoryCache{}
		leave := make(chan bool)
		go cache.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) { <-leave; return old, nil })
		go func() { time.Sleep(time.Minute); close(leave) }()
		synctest.Wait()
		signedIn(t, d.start(t, cache))
		if log := d.log.String(); !strings.Contains(strings.ToLower(log), "another program") {
			t.Errorf("the log: %s", log)
		}
	})
}

// TestDefaultCache: who gives a user's flow no cache gets the file at DefaultCachePath, or, without a home directory, memory and a warning.
func TestDefaultCache(t *testing.T) {
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
