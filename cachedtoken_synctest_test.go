//go:build go1.25

package cdfauth

import (
	"cmp"
	"context"
	"errors"
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

// TestValidTokenInTheCacheServes: one that is past refresh_in, when the provider is out of order.
func TestValidTokenInTheCacheServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		idp.Fault(idptest.JSON(200, map[string]any{"access_token": "tok", "expires_in": 86400, "refresh_in": 43200}))
		get(t, cachedProvider(t, idp, cache, nil))
		time.Sleep(13 * time.Hour)
		idp.Always(idptest.Status(503))
		if tok, err := cachedProvider(t, idp, cache, nil).Token(t.Context()); err != nil || tok.AccessToken() != "tok" {
			t.Error(err)
		}
	})
}

// rude is a cache that ignores its context, or panics, at some moment.
type rude struct {
	MemoryCache
	at string
}

func (c *rude) Get(ctx context.Context) ([]byte, error) {
	if c.at == "get" {
		time.Sleep(time.Hour)
	}
	return nil, nil
}

func (c *rude) Update(ctx context.Context, f func(context.Context, []byte) ([]byte, error)) error {
	switch c.at {
	case "before":
		time.Sleep(time.Hour)
	case "late": // the lock comes at the moment when waiting for it ends
		<-ctx.Done()
	}
	_, err := f(ctx, nil)
	switch c.at {
	case "after":
		time.Sleep(time.Hour)
	case "panic":
		panic("x")
	case "twice":
		f(ctx, nil)
	}
	return err
}

// TestRudeCache costs neither the token nor a second request.
func TestRudeCache(t *testing.T) {
	for _, at := range []string{"get", "before", "late", "after", "panic", "twice"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				idp := idptest.New()
				p := cachedProvider(t, idp, &rude{at: at}, nil)
				var err error
				if d := elapse(func() { _, err = p.Token(t.Context()) }); err != nil || d > silentLimit || idp.Tokens() != 1 {
					t.Errorf("%v after %v and %d requests", err, d, idp.Tokens())
				}
				time.Sleep(3 * time.Hour)
				if idp.Tokens() != 1 {
					t.Error("who was given up came back and asked for a token")
				}
			})
		})
	}
}

// TestEntryFromTheFuture: of a clock that was ahead. By five minutes at most it is believed; it is not handed out for a year.
func TestEntryFromTheFuture(t *testing.T) {
	for ahead, requests := range map[time.Duration]int{4 * time.Minute: 1, 5 * time.Minute: 1, 6 * time.Minute: 2, 366 * 24 * time.Hour: 2} {
		synctest.Test(t, func(t *testing.T) {
			idp, cache := idptest.New(), &MemoryCache{}
			get(t, cachedProvider(t, idp, cache, nil))
			edit(t, cache, func(c msalCache) {
				e := entryOf(c, accessTokens, keysOf(c, accessTokens)[0])
				e["cached_at"], e["expires_on"] = unix(time.Now().Add(ahead)), unix(time.Now().Add(ahead+24*time.Hour))
			})
			get(t, cachedProvider(t, idp, cache, nil))
			if n := idp.Tokens(); n != requests {
				t.Errorf("%v ahead: %d requests, want %d", ahead, n, requests)
			}
		})
	}
}

// TestGrantedScope is said as it was granted by a token from the cache too.
func TestGrantedScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, answer := range []map[string]any{{"access_token": "tok", "scope": "a"}, {"access_token": "tok"}} {
			idp, cache := idptest.New(), &MemoryCache{}
			idp.Fault(idptest.JSON(200, answer))
			want, _ := answer["scope"].(string)
			for range 2 {
				if tok, _ := get(t, cachedProvider(t, idp, cache, nil)); tok.Scope() != want {
					t.Errorf("scope %q, want %q", tok.Scope(), want)
				}
			}
			wantRequests(t, idp, 1)
		}
	})
}

// plainMutex is a cache as somebody may write it who has read of Update alone.
type plainMutex struct {
	mu   chan bool // one that bubbles know
	end  chan bool // of the test
	blob []byte
}

func (c *plainMutex) Get(context.Context) ([]byte, error) {
	select {
	case c.mu <- true:
		defer func() { <-c.mu }()
		return c.blob, nil
	case <-c.end:
		return nil, errors.New("the test is over")
	}
}

func (c *plainMutex) Update(ctx context.Context, f func(context.Context, []byte) ([]byte, error)) error {
	c.mu <- true
	defer func() { <-c.mu }()
	b, err := f(ctx, c.blob)
	if err == nil {
		c.blob = b
	}
	return err
}

// TestCacheWithOneMutex costs persistence at most, never the sign-in.
func TestCacheWithOneMutex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &plainMutex{mu: make(chan bool, 1), end: make(chan bool)}
		defer close(c.end)
		p, _ := device(t, idptest.New(), c, nil)
		var err error
		if d := elapse(func() { _, err = p.Token(t.Context()) }); err != nil || d > time.Minute {
			t.Errorf("%v after %v", err, d)
		}
	})
}

// TestLockIsWaitedFor: a flight waits for others, but not for ever, and once it
// is inside nobody hurries it.
func TestLockIsWaitedFor(t *testing.T) {
	hold := func(cache Cache, d time.Duration) {
		cache.Update(context.Background(), func(_ context.Context, old []byte) ([]byte, error) {
			time.Sleep(d)
			return old, nil
		})
	}
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		go hold(cache, time.Hour)
		synctest.Wait()
		idp.Fault(idp.Slow(9*time.Second, nil))
		if _, d := get(t, cachedProvider(t, idp, cache, nil)); d != 25*time.Second {
			t.Errorf("went on without the cache and got a token after %v, want 16 s for the lock and 9 s for the request", d)
		}
		time.Sleep(time.Hour)
	})
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		go hold(cache, 15*time.Second)
		synctest.Wait()
		idp.Fault(idp.Slow(8*time.Second, nil))
		if _, d := get(t, cachedProvider(t, idp, cache, nil)); d != 23*time.Second {
			t.Errorf("got a token after %v, want 15 s for the lock and 8 s for the request", d)
		}
		if blob, _ := cache.Get(t.Context()); len(blob) == 0 {
			t.Error("the token was not stored")
		}
		wantRequests(t, idp, 1)
	})
}

// flicker is a cache that somebody truncates in place while he writes it.
type flicker struct {
	MemoryCache
	bad int // reads that see half of it
}

func (f *flicker) Get(ctx context.Context) ([]byte, error) {
	blob, err := f.MemoryCache.Get(ctx)
	if f.bad--; f.bad >= 0 {
		blob = blob[:len(blob)/2]
	}
	return blob, err
}

func TestHalfWrittenContentIsReadAgain(t *testing.T) {
	for bad, found := range map[int]bool{0: true, 1: true, 3: true, 4: false} {
		synctest.Test(t, func(t *testing.T) {
			idp, cache := idptest.New(), &flicker{}
			first, _ := get(t, cachedProvider(t, idp, cache, nil))
			cache.bad = bad
			s := &tokenStore{client: &client{clock: new(clock)}, cache: cache}
			blob, _ := cache.Get(t.Context())
			c, err := s.parse(t.Context(), blob)
			if (err == nil) != found || !found && !errors.Is(err, errCacheContent) {
				t.Errorf("%d bad reads: %v", bad, err)
			}
			if found && entryOf(c, accessTokens, "-idp.test-accesstoken-client-token-a b").text("secret") != first.AccessToken() {
				t.Errorf("%d bad reads: got %v", bad, c)
			}
		})
	}
}

// TestCachedTokenInTheLeeway is refreshed by a program that starts, and not a moment before.
func TestCachedTokenInTheLeeway(t *testing.T) {
	for left, requests := range map[time.Duration]int{DefaultLeeway + 1: 1, DefaultLeeway: 2} {
		synctest.Test(t, func(t *testing.T) {
			idp, cache := idptest.New(), &MemoryCache{}
			tok, _ := get(t, cachedProvider(t, idp, cache, nil))
			until(tok, left)
			get(t, cachedProvider(t, idp, cache, nil))
			if n := idp.Tokens(); n != requests {
				t.Errorf("%v before expiry: %d requests, want %d", left, n, requests)
			}
		})
	}
}

// unwritable is a cache that does not store what it is given, for some reason and time.
type unwritable struct {
	MemoryCache
	why error
}

func (c *unwritable) Update(ctx context.Context, f func(context.Context, []byte) ([]byte, error)) error {
	return c.MemoryCache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
		now, err := f(ctx, old)
		return now, cmp.Or(err, c.why)
	})
}

// TestTokenThatWasNotStored: a user's flow goes on in memory, for good, since it has the refresh token that the file lacks; an application's tries again.
func TestTokenThatWasNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &unwritable{why: errors.New("disk full")}
		p, shown := device(t, idp, cache, nil)
		tok := signedIn(t, p)
		for range 3 {
			until(tok, -time.Second)
			var err error
			if tok, err = p.Token(WithoutInteraction(t.Context())); err != nil {
				t.Fatal(err)
			}
			cache.why = nil
		}
		if blob, _ := cache.Get(t.Context()); len(*shown) != 1 || idp.Refused() != 0 || blob != nil {
			t.Errorf("asked %d times, %d refresh tokens refused; stored later: %s", len(*shown), idp.Refused(), blob)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &unwritable{why: errors.New("disk full")}
		p := cachedProvider(t, idp, cache, nil)
		tok, _ := get(t, p)
		cache.why = nil
		until(tok, -time.Second)
		tok, _ = get(t, p)
		if again, _ := get(t, cachedProvider(t, idp, cache, nil)); again.AccessToken() != tok.AccessToken() {
			t.Error("a cache that works again was not used")
		}
		wantRequests(t, idp, 2)
	})
}
