//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestCachedTokenThatExpiresDuringTheFlightIsNotHandedOut: The caller gets the
// error of the flight instead.
func TestCachedTokenThatExpiresDuringTheFlightIsNotHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		tok, _ := get(t, cachedProvider(t, idp, cache, nil))
		p := cachedProvider(t, idp, cache, func(c *ClientCredentialsConfig) {
			c.HTTPClient = &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
				<-r.Context().Done()
				return nil, r.Context().Err()
			})}
		})
		until(tok, 5*time.Second)
		if tok, err := p.Token(t.Context()); err == nil {
			t.Errorf("got a token that had expired %v ago", time.Since(tok.Expiry()))
		}
	})
}

// TestValidTokenInTheCacheServes: If the provider is out of order, a token that is
// past refresh_in is better than an error.
func TestValidTokenInTheCacheServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		idp.Fault(idptest.JSON(200,
			map[string]any{"access_token": "tok", "expires_in": 86400, "refresh_in": 43200}))
		get(t, cachedProvider(t, idp, cache, nil))
		time.Sleep(13 * time.Hour)
		idp.Always(idptest.Status(503))
		if tok, err := cachedProvider(t, idp, cache, nil).Token(t.Context()); err != nil ||
			tok.AccessToken() != "tok" {
			t.Error(err)
		}
	})
}

// TestEntryFromTheFutureIsIgnored: A clock that was a year ahead would otherwise
// keep a token in use for a year. Five minutes are a difference between two good
// clocks.
func TestEntryFromTheFutureIsIgnored(t *testing.T) {
	for ahead, requests := range map[time.Duration]int{4 * time.Minute: 1, 5 * time.Minute: 1,
		6 * time.Minute: 2, 366 * 24 * time.Hour: 2} {
		synctest.Test(t, func(t *testing.T) {
			idp, cache := idptest.New(), &MemoryCache{}
			get(t, cachedProvider(t, idp, cache, nil))
			edit(t, cache, func(c msalCache) {
				e := entryOf(c, accessTokens, keysOf(c, accessTokens)[0])
				e["cached_at"], e["expires_on"] = unix(time.Now().Add(ahead)),
					unix(time.Now().Add(ahead+24*time.Hour))
			})
			get(t, cachedProvider(t, idp, cache, nil))
			if n := idp.Tokens(); n != requests {
				t.Errorf("%v ahead: %d requests, want %d", ahead, n, requests)
			}
		})
	}
}

// TestCachedTokenSaysItsGrantedScope: The scope is the one that the server
// granted, also for a token that comes from the cache.
func TestCachedTokenSaysItsGrantedScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, answer := range []map[string]any{{"access_token": "tok", "scope": "a"},
			{"access_token": "tok"}} {
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

// TestHalfWrittenContentIsReadAgain: Old versions of the Python SDK truncate the
// file before they write it.
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
			if found &&
				entryOf(c, accessTokens,
					"-idp.test-accesstoken-client-token-a b").text("secret") != first.AccessToken() {
				t.Errorf("%d bad reads: got %v", bad, c)
			}
		})
	}
}

// TestCachedTokenInTheLeewayIsRefreshed: A program that starts does so within the
// leeway, and not a moment before.
func TestCachedTokenInTheLeewayIsRefreshed(t *testing.T) {
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

// truncated is a file that somebody truncates in place before he writes it.
type truncated struct {
	MemoryCache
	reads int // that see an empty file
}

func (c *truncated) Get(ctx context.Context) ([]byte, error) {
	blob, err := c.MemoryCache.Get(ctx)
	c.reads--
	if c.reads >= 0 {
		blob = []byte{}
	}
	return blob, err
}

// TestEmptyFileIsReadAgain: a silent start waits for an old Python SDK that is
// about to write the file, and does not ask a person. A file that stays empty is
// an empty cache, and for one that is not there nobody waits.
func TestEmptyFileIsReadAgain(t *testing.T) {
	for reads, found := range map[int]bool{0: true, 1: true, 3: true, 100: false} {
		synctest.Test(t, func(t *testing.T) {
			idp, cache := idptest.New(), &truncated{}
			p, _ := device(t, idp, cache, nil)
			first := signedIn(t, p)
			cache.reads = reads
			p, _ = device(t, idp, cache, nil)
			tok, err := p.Token(WithoutInteraction(t.Context()))
			if found && (err != nil || !tok.Equal(first)) || !found && err != ErrSignInRequired {
				t.Errorf("%d reads saw an empty file: %v", reads, err)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		_, d := get(t, cachedProvider(t, idptest.New(), &MemoryCache{}, nil))
		if d != 0 {
			t.Errorf("without a file, %v went by", d)
		}
	})
}
