//go:build go1.25

package cdfauth

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
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
		if _, d := get(t, cachedProvider(t, idp, cache, nil)); d != lockLimit {
			t.Errorf("went on without the cache after %v, want %v", d, lockLimit)
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
