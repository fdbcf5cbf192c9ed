//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestHintOfTheSignInServesTheSignOut: A person who has signed in under a hint
// signs out under it, although it is not their user name.
func TestHintOfTheSignInServesTheSignOut(t *testing.T) {
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

// TestSignOutOfAnUnknownHintIsAnError: Others are signed in, and the hint means
// none of them. SignOut returns an error that says who is signed in, because
// success would tell the caller that the refresh token is gone. Where nobody is
// signed in, there is nothing to do.
func TestSignOutOfAnUnknownHintIsAnError(t *testing.T) {
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

// TestSignOutRemovesTokensWithoutAnAccount: Python's device code flow refreshes
// without client_info, and stores an access token that has no account. It came
// from the person's refresh token, and would serve the next silent call.
func TestSignOutRemovesTokensWithoutAnAccount(t *testing.T) {
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
			want := map[string]bool{"another issuer's": true, "another client's": true,
				"another host's": true, "an application's": true}
			if !maps.Equal(left, want) {
				t.Errorf("signed in: %t; left: %v, want %v", signedInNow, left, want)
			}
		}
	})
}

// TestSignOutOfAnEmptyCacheWritesNothing: Where there is nothing to remove, the
// content stays to the letter, with Python's own formatting.
func TestSignOutOfAnEmptyCacheWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		const content = "{\n    \"AccessToken\": {}\n}"
		put(t, cache, content)
		must(t, interactive(t, h, cache, nil).SignOut(t.Context()))
		wantContent(t, cache, content)
	})
}

// TestSignOutRemovesOneAccountAlone: SignOut removes the tokens and the account
// of one person, from the cache and from memory. Other people, other clients
// and what other programs have written stay.
func TestSignOutRemovesOneAccountAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob", "eve")
		edit(t, cache, func(c msalCache) {
			c["Theirs"] = map[string]any{"a": "b"}
			for _, key := range keysOf(c, accessTokens) { // another client's
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
		if err := hint("").SignOut(t.Context()); err == nil ||
			!strings.Contains(err.Error(), "LoginHint") {
			t.Errorf("of two: %v", err)
		}
		p := hint("bob")
		tok := signedIn(t, p)
		must(t, p.SignOut(t.Context()))
		c := read(t, cache)
		for _, section := range []string{accessTokens, refreshTokens, idTokens, accounts} {
			for _, key := range keysOf(c, section) {
				if entryOf(c, section, key).account() == "sub-bob" {
					t.Errorf("left: %s", key)
				}
			}
		}
		if len(keysOf(c, accessTokens)) != 2 || len(keysOf(c, accounts)) != 1 || c["Theirs"] == nil {
			t.Errorf("left: %v", c)
		}
		if _, err := p.Token(WithoutInteraction(t.Context())); err != ErrSignInRequired {
			t.Errorf("in memory: %v", err)
		}
		if again := signedIn(t, p); again.Equal(tok) || h.asked() != 1 {
			t.Error("signed in without being asked")
		}
		q := hint("eve")
		must(t, q.SignOut(t.Context()))
		if c := read(t, cache); len(keysOf(c, accounts)) != 2 { // the other client's too
			t.Errorf("accounts: %v", keysOf(c, accounts))
		}
	})
}

// TestRefreshWritesNothingBackAfterSignOut: A refresh that was under way at a
// sign-out brings tokens of the person who has left. They reach neither the cache
// nor memory.
func TestRefreshWritesNothingBackAfterSignOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		p := interactive(t, h, cache, nil)
		signedIn(t, p)
		time.Sleep(time.Hour - 10*time.Second)
		h.idp.Fault(h.idp.Slow(3*time.Second,
			idptest.Body(`{"access_token":"late","refresh_token":"late","expires_in":3600}`)))
		signedIn(t, p) // starts it
		synctest.Wait()
		must(t, p.SignOut(t.Context()))
		time.Sleep(time.Minute)
		if c := read(t, cache); len(keysOf(c, refreshTokens))+len(keysOf(c, accessTokens)) != 0 {
			t.Errorf("written back: %v", c)
		}
		if _, err := p.Token(WithoutInteraction(t.Context())); err != ErrSignInRequired {
			t.Errorf("in memory: %v", err)
		}
	})
}

// TestSignOutEndsASignIn: A sign-in has the cache to itself for as long as the
// person takes. SignOut does not wait for the person: it ends the sign-in.
func TestSignOutEndsASignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New(), back: closesThePage}, &MemoryCache{}
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
}

// TestNobodyIsSuggestedAfterSignOut: Somebody else may sign in next, so the identity
// provider gets no login_hint. After a sign-out that failed, it is still the same
// person.
func TestNobodyIsSuggestedAfterSignOut(t *testing.T) {
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
			if hint := h.last().Get("login_hint"); h.asked() != 2 ||
				(hint == "ada@example.com") != (failure != nil) {
				t.Errorf("SignOut: %v; then asked %d times in all, with login_hint %q", failure,
					h.asked(), hint)
			}
		})
	}
}

// TestSignOutWithoutAContextIsAnError: A nil context is misuse, which returns
// an error and does not panic.
func TestSignOutWithoutAContextIsAnError(t *testing.T) {
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

// TestSignOutNeedsNoNetwork: Our own entries say whose they are, so that
// SignOut need not ask the identity provider.
func TestSignOutNeedsNoNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		p := interactive(t, h, cache, func(c *InteractiveConfig) {
			c.HTTPClient = &http.Client{Transport: tripper(func(*http.Request) (*http.Response, error) {
				return nil, errors.New("no network")
			})}
		})
		if err := p.SignOut(t.Context()); err != nil || refreshTokensIn(t, cache) != 0 {
			t.Errorf("%v; %d refresh tokens are left", err, refreshTokensIn(t, cache))
		}
	})
}

// A meddled cache calls functions once: read after it was read, and stored after Update
// has called its function, which then fails.
type meddled struct {
	MemoryCache
	read   func()
	stored func()
}

func (c *meddled) Get(ctx context.Context) ([]byte, error) {
	blob, err := c.MemoryCache.Get(ctx)
	if meddle := c.read; meddle != nil {
		c.read = nil
		meddle()
	}
	return blob, err
}

func (c *meddled) Update(ctx context.Context, f updateFunc) error {
	meddle := c.stored
	if meddle == nil {
		return c.MemoryCache.Update(ctx, f)
	}
	c.stored = nil
	old, _ := c.MemoryCache.Get(ctx)
	if _, err := f(ctx, old); err != nil {
		return err
	}
	meddle()
	return errors.New("the disk is full")
}

// TestFlightBringsNothingBackAfterSignOut: A flight that was under way at a
// sign-out may still find the person in the cache, and keep in memory what it
// could not store. Neither may outlive the sign-out: the next person would be
// asked as the one who has left, or get that one's tokens.
func TestFlightBringsNothingBackAfterSignOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := &meddled{}
		blob, err := sample(t, h, "bob").Get(t.Context())
		must(t, err)
		put(t, cache, string(blob))
		p := interactive(t, h, cache, nil)
		cache.read = func() { must(t, p.SignOut(t.Context())) }
		if _, err := p.Token(t.Context()); !errors.Is(err, errSignedOut) {
			t.Errorf("%v, want %v", err, errSignedOut)
		}
		signedIn(t, p)
		if hint := h.last().Get("login_hint"); hint != "" {
			t.Errorf("the next person is asked as %q", hint)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &meddled{}
		p := interactive(t, h, cache, nil)
		cache.stored = func() { must(t, p.SignOut(t.Context())) }
		_, err := p.Token(t.Context())
		if !errors.Is(err, errSignedOut) {
			t.Errorf("%v, want %v", err, errSignedOut)
		}
		if p.flow().fallback.Load() != nil {
			t.Error("what could not be stored is still in memory")
		}
	})
}

// TestSignOutOfOneOfSeveralNeedsALoginHint: Without a LoginHint it is unknown
// who signs out. The error is the one that says so.
func TestSignOutOfOneOfSeveralNeedsALoginHint(t *testing.T) {
	eachUserFlow(t, func(t *testing.T, d *desk) {
		cache := sample(t, d.human, "bob", "eve")
		if err := d.userFlowWithHint(t, cache, "").SignOut(t.Context()); !errors.Is(err,
			errSeveralAccounts) {
			t.Error(err)
		}
	})
}

// TestSignOutOfNobodyNeedsTheMetadata: Without the metadata, an entry of the
// person may not be recognised. To report that nobody is signed in would be a
// guess.
func TestSignOutOfNobodyNeedsTheMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("no network")
		p := interactive(t, &human{idp: idptest.New()}, &MemoryCache{}, func(c *InteractiveConfig) {
			c.HTTPClient = &http.Client{Transport: tripper(func(*http.Request) (*http.Response, error) {
				return nil, down
			})}
		})
		if err := p.SignOut(t.Context()); err == nil || !strings.Contains(err.Error(), down.Error()) {
			t.Errorf("%v, want one with %q", err, down)
		}
	})
}

// TestSignOutKeepsTheAccountOfAnotherHost: The same identifier at another host
// is another account.
func TestSignOutKeepsTheAccountOfAnotherHost(t *testing.T) {
	eachUserFlow(t, func(t *testing.T, d *desk) {
		cache := sample(t, d.human, "bob")
		edit(t, cache, func(c msalCache) {
			e := maps.Clone(entryOf(c, accounts, keysOf(c, accounts)[0]))
			e["environment"] = "other.test"
			c.put(accounts, e)
		})
		must(t, d.userFlowWithHint(t, cache, "bob").SignOut(t.Context()))
		c := read(t, cache)
		if left := keysOf(c, accounts); len(left) != 1 ||
			entryOf(c, accounts, left[0]).text("environment") != "other.test" {
			t.Errorf("left: %v", left)
		}
	})
}

// TestSignOutKeepsTokensWithoutAnAccountOfAnotherIssuer: A token without an
// account goes if our issuer has issued it. That of another issuer at the same
// host belongs to somebody else.
func TestSignOutKeepsTokensWithoutAnAccountOfAnotherIssuer(t *testing.T) {
	eachUserFlow(t, func(t *testing.T, d *desk) {
		cache := sample(t, d.human, "bob")
		edit(t, cache, func(c msalCache) {
			for _, issuer := range []string{"https://idp.test", "https://idp.test/other"} {
				e := maps.Clone(entryOf(c, accessTokens, keysOf(c, accessTokens)[0]))
				e["home_account_id"], e[fieldIssuer] = nil, issuer
				c[accessTokens].(map[string]any)[issuer] = map[string]any(e)
			}
		})
		must(t, d.userFlowWithHint(t, cache, "").SignOut(t.Context()))
		if left := keysOf(read(t, cache), accessTokens); len(left) != 1 ||
			left[0] != "https://idp.test/other" {
			t.Errorf("left: %v", left)
		}
	})
}

// TestSignOutForgetsWhatCameMeanwhile: While SignOut waits for the cache, a
// caller may get the token that is still there. It must not serve on from
// memory.
func TestSignOutForgetsWhatCameMeanwhile(t *testing.T) {
	eachUserFlow(t, func(t *testing.T, d *desk) {
		cache := sample(t, d.human, "bob")
		p := d.userFlowWithHint(t, cache, "bob")
		leave := make(chan bool)
		go cache.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
			<-leave
			return old, nil
		})
		synctest.Wait()
		done := make(chan error)
		go func() { done <- p.SignOut(t.Context()) }()
		synctest.Wait() // for the cache
		signedIn(t, p)
		close(leave)
		must(t, <-done)
		if _, err := p.Token(WithoutInteraction(t.Context())); !errors.Is(err, ErrSignInRequired) {
			t.Errorf("in memory: %v", err)
		}
	})
}

// TestSignOutForgetsTheFallback: What a broken cache did not store is in
// memory, and a refresh token with it.
func TestSignOutForgetsTheFallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &unwritable{why: errors.New("disk full")}
		p := interactive(t, h, cache, nil)
		signedIn(t, p)
		cache.why = nil
		must(t, p.SignOut(t.Context()))
		if _, err := p.Token(WithoutInteraction(t.Context())); !errors.Is(err, ErrSignInRequired) {
			t.Errorf("in memory: %v", err)
		}
	})
}
