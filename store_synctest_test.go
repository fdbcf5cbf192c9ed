//go:build go1.25

package cdfauth

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

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
			s := &store{client: &client{now: time.Now}, cache: cache}
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

// TestPatience: the lock is asked for after 5 ms, then less and less often, but ten times a second.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		if d := elapse(func() {
			patiently(t.Context(), func() (*os.File, error) {
				if tries++; tries > 8 {
					return nil, nil
				}
				return nil, errLocked
			})
		}); d != 455*time.Millisecond {
			t.Errorf("%d tries in %v, want 5+10+20+40+80+3*100 ms between them", tries, d)
		}
	})
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
	home("")
	synctest.Test(t, func(t *testing.T) { twice(t, 2) })
	if n := strings.Count(log.String(), "kept in memory alone"); n != 2 {
		t.Errorf("%d warnings for 2 starts: %s", n, log.String())
	}
}

// TestClearCache: what was in the cache does not count, until something was stored in its place.
func TestClearCache(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cache.bin")
	synctest.Test(t, func(t *testing.T) { clearCache(t, path) })
}

func clearCache(t *testing.T, path string) {
	idp := idptest.New()
	start := func(more string) Provider {
		p, err := Load([]byte(`{"device_code":{"oauth_discovery_url":"https://idp.test","client_id":"app","token_cache_path":"`+path+`"`+more+`}}`), Options{HTTPClient: idp.Client()})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	token := func(p Provider, signIns int) string {
		t.Helper()
		tok, err := p.Token(t.Context())
		if n := len(idp.Requests("/devicecode")); err != nil || n != signIns {
			t.Fatalf("%d sign-ins, want %d; %v", n, signIns, err)
		}
		return tok.AccessToken()
	}
	first := token(start(""), 1)
	if again := token(start(""), 1); again != first {
		t.Fatal("the cache does not work")
	}
	p := start(`,"clear_cache":true`)
	if _, err := p.Token(WithoutInteraction(t.Context())); !errors.Is(err, ErrSignInRequired) {
		t.Errorf("with an old sign-in in the cache: %v", err)
	}
	if again := token(start(""), 1); again != first {
		t.Error("the cache was cleared although nobody has signed in")
	}
	second := token(p, 2)
	if second == first {
		t.Error("the old token was used")
	}
	if again := token(start(""), 2); again != second {
		t.Error("the new sign-in was not stored")
	}
	b, err := os.ReadFile(path)
	if err != nil || bytes.Contains(b, []byte(first)) || !bytes.Contains(b, []byte(second)) {
		t.Errorf("%v; the old token is still there: %t", err, bytes.Contains(b, []byte(first)))
	}
}
