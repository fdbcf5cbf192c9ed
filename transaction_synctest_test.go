//go:build go1.25

package cdfauth

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestOutageCostsNoPersistence: a refresh that the identity provider lets hang
// until the flight ends says nothing against the cache. If the cache were given up,
// this provider alone would know the next refresh token, and the next program would
// redeem once more the one that stayed in the cache, which ends the sign-in.
// TestSimulation found it.
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
			t.Errorf("the next program asked a person %d times, %d refresh tokens were refused",
				len(*shown), idp.Refused())
		}
	})
}

// TestAbandonedSignInCostsNoPersistence: a sign-in that everybody has left says
// nothing against the cache either. TestSimulation found it.
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

func (c *rude) Update(ctx context.Context, f updateFunc) error {
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

// TestCacheThatIgnoresItsContextCostsNoToken: The Update of a cache may come
// back after the flight is over, panic, or call its function twice. It costs
// neither the token nor a second request.
func TestCacheThatIgnoresItsContextCostsNoToken(t *testing.T) {
	for _, at := range []string{"get", "before", "late", "after", "panic", "twice"} {
		runInBubble(t, at, func(t *testing.T) {
			idp := idptest.New()
			p := cachedProvider(t, idp, &rude{at: at}, nil)
			var err error
			if d := elapse(func() { _, err = p.Token(t.Context()) }); err != nil || d > silentLimit ||
				idp.Tokens() != 1 {
				t.Errorf("%v after %v and %d requests", err, d, idp.Tokens())
			}
			time.Sleep(3 * time.Hour)
			if idp.Tokens() != 1 {
				t.Error("who was given up came back and asked for a token")
			}
		})
	}
}

// hasty is a cache whose Update does not wait for what it calls, and reports success.
// What it calls is not ended by the end of Update either.
type hasty struct{ MemoryCache }

func (c *hasty) Update(ctx context.Context, f updateFunc) error {
	go f(context.WithoutCancel(ctx), nil)
	time.Sleep(time.Millisecond) // so that f has begun
	return nil
}

// TestUpdateThatDoesNotWaitBringsAnError: An Update may return while the
// request is still under way. Then there is no token, and Token must not report
// one.
func TestUpdateThatDoesNotWaitBringsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		slow := tripper(func(r *http.Request) (*http.Response, error) {
			time.Sleep(5 * time.Second)
			return idp.Client().Transport.RoundTrip(r)
		})
		p := cachedProvider(t, idp, &hasty{}, func(c *ClientCredentialsConfig) {
			c.HTTPClient = &http.Client{Transport: slow}
		})
		token, err := p.Token(t.Context())
		if err == nil || !strings.Contains(err.Error(), "before its function") {
			t.Errorf("an access token of %d bytes and the error %v", len(token.AccessToken()), err)
		}
		time.Sleep(time.Minute) // until the request is over
	})
}

// TestCacheThatHangsWithTheTokenIsGivenUp: once there is a token, a cache that does not
// store it keeps nobody waiting for longer than five seconds. The phase that asks a
// person would otherwise have a quarter of an hour for it.
func TestCacheThatHangsWithTheTokenIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := cachedProvider(t, idptest.New(), &rude{at: "after"}, nil)
		if _, took := get(t, p); took != storeLimit {
			t.Errorf("an application waited %v", took)
		}
		time.Sleep(3 * time.Hour) // the cache is done
	})
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		idp.Interval = time.Second
		p, _ := device(t, idp, &rude{at: "after"}, nil)
		_, took := get(t, p)
		if took < storeLimit || took > storeLimit+3*time.Second {
			t.Errorf("a person waited %v", took)
		}
		time.Sleep(3 * time.Hour)
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

func (c *plainMutex) Update(ctx context.Context, f updateFunc) error {
	c.mu <- true
	defer func() { <-c.mu }()
	b, err := f(ctx, c.blob)
	if err == nil {
		c.blob = b
	}
	return err
}

// TestCacheThatBlocksGetDuringUpdateCostsNoSignIn: The provider reads the cache
// within Update when a refresh token was refused. A cache that does not allow
// that costs persistence at most, and never the sign-in.
func TestCacheThatBlocksGetDuringUpdateCostsNoSignIn(t *testing.T) {
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

// TestLockIsWaitedFor: A flight waits until other programs are done with the
// cache, but not for ever. Once the flight is inside, nobody hurries it.
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
			t.Errorf("went on without the cache and got a token after %v, want 16 s for the lock and 9 s for the request",
				d)
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

// unwritable is a cache that does not store what it is given, for some reason and
// time.
type unwritable struct {
	MemoryCache
	why error
}

func (c *unwritable) Update(ctx context.Context, f updateFunc) error {
	return c.MemoryCache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
		now, err := f(ctx, old)
		return now, cmp.Or(err, c.why)
	})
}

// TestTokenThatWasNotStoredIsKeptInMemory: The flow of a person goes on in
// memory for good, since the memory has the refresh token that the file lacks.
// The flow of an application tries the cache again.
func TestTokenThatWasNotStoredIsKeptInMemory(t *testing.T) {
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
			t.Errorf("asked %d times, %d refresh tokens refused; stored later: %s", len(*shown),
				idp.Refused(), blob)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &unwritable{why: errors.New("disk full")}
		p := cachedProvider(t, idp, cache, nil)
		tok, _ := get(t, p)
		cache.why = nil
		until(tok, -time.Second)
		tok, _ = get(t, p)
		if again, _ := get(t,
			cachedProvider(t, idp, cache, nil)); again.AccessToken() != tok.AccessToken() {
			t.Error("a cache that works again was not used")
		}
		wantRequests(t, idp, 2)
	})
}

// TestRotatedTokenThatWasNotStoredIsARisk: the cache keeps the refresh token that
// is spent. The next program that redeems it may end the sign-in (RFC 9700
// §4.14.2).
func TestRotatedTokenThatWasNotStoredIsARisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &unwritable{}
		var log bytes.Buffer
		p, _ := device(t, idp, cache, func(c *DeviceCodeConfig) {
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		tok := signedIn(t, p)
		cache.why = errors.New("disk full")
		for range 2 {
			until(tok, -time.Second)
			tok = signedIn(t, p)
		}
		if n := strings.Count(log.String(),
			"has replaced a refresh token that is still in the cache"); n != 1 {
			t.Errorf("the risk is in the log %d times:\n%s", n, &log)
		}
	})
}

// readOnly is a cache of which the content can be had, but for some reason no turn.
type readOnly struct {
	Cache
	why error
}

func (c *readOnly) Update(ctx context.Context, f updateFunc) error {
	if c.why == nil {
		return c.Cache.Update(ctx, f)
	}
	return c.why
}

// TestValidTokenInAReadOnlyCacheServes: the access token of another program is used
// where this one can neither write nor lock (a read-only mount, NFS without locks).
func TestValidTokenInAReadOnlyCacheServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		p, _ := device(t, idp, cache, nil)
		person := signedIn(t, p)
		application, _ := get(t, cachedProvider(t, idp, cache, nil))
		requests := idp.Tokens()
		only := &readOnly{cache, fs.ErrPermission}
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		p, shown := device(t, idp, only, func(c *DeviceCodeConfig) { c.Logger = logger })
		if tok := signedIn(t, p); !tok.Equal(person) || len(*shown) != 0 {
			t.Errorf("the person's token was not taken: asked %d times", len(*shown))
		}
		tok, _ := get(t, cachedProvider(t, idp, only, func(c *ClientCredentialsConfig) {
			c.Logger = logger
		}))
		if !tok.Equal(application) || idp.Tokens() != requests || log.Len() > 0 {
			t.Errorf("the application's token was not taken: %d requests more; log:\n%s",
				idp.Tokens()-requests, &log)
		}
	})
}

// TestRefreshTokenOfAReadOnlyCacheServes: where nobody can lock, a person's flow
// begins in memory with what it can read, as the Python SDK does. If the provider
// rotates refresh tokens, the one in the cache is spent then, which the log says.
func TestRefreshTokenOfAReadOnlyCacheServes(t *testing.T) {
	for name, why := range map[string]error{
		"read-only": &fs.PathError{Op: "open", Path: "cache.bin.lock", Err: fs.ErrPermission},
		"no locks":  fmt.Errorf("no locks here: %w", errors.ErrUnsupported),
	} {
		for _, rotates := range []bool{true, false} {
			runInBubble(t, fmt.Sprintf("%s, rotates %t", name, rotates), func(t *testing.T) {
				idp, cache := idptest.New(), &MemoryCache{}
				idp.NoRotation = !rotates
				p, _ := device(t, idp, cache, nil)
				tok := signedIn(t, p)
				var log bytes.Buffer
				p, shown := device(t, idp, &readOnly{cache, why}, func(c *DeviceCodeConfig) {
					c.Logger = slog.New(slog.NewTextHandler(&log, nil))
				})
				for range 3 {
					until(tok, -time.Second)
					var err error
					tok, err = p.Token(WithoutInteraction(t.Context()))
					if err != nil {
						t.Fatal(err)
					}
				}
				if len(*shown) != 0 || idp.Refused() != 0 {
					t.Errorf("asked %d times, %d refresh tokens refused", len(*shown), idp.Refused())
				}
				want := map[bool]int{true: 1, false: 0}[rotates]
				if n := strings.Count(log.String(),
					"has replaced a refresh token that is still in the cache"); n != want {
					t.Errorf("the risk is in the log %d times, want %d:\n%s", n, want, &log)
				}
				if n := strings.Count(log.String(), "the cache is not used"); n != 1 ||
					!strings.Contains(log.String(), why.Error()) {
					t.Errorf("that the cache is not used is in the log %d times, want once, with the reason:\n%s",
						n, &log)
				}
			})
		}
	}
}

// TestRefreshTokenOfABusyCacheIsNotRedeemed: an Update that fails for a reason of
// its own may mean that another program has its turn. Redeeming the same refresh
// token beside it may end the sign-in (RFC 9700 §4.14.2).
func TestRefreshTokenOfABusyCacheIsNotRedeemed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		p, _ := device(t, idp, cache, nil)
		until(signedIn(t, p), -time.Second)
		requests := idp.Tokens()
		busy := errors.New("the lock server has it leased to another client")
		only := &readOnly{Cache: cache, why: busy}
		p, _ = device(t, idp, only, nil)
		for range 2 { // nor is the cache given up
			_, err := p.Token(WithoutInteraction(t.Context()))
			if !errors.Is(err, ErrSignInRequired) || !errors.Is(err, busy) || idp.Tokens() != requests {
				t.Errorf("%d requests, and %v; want an error that says why the cache is not used",
					idp.Tokens()-requests, err)
			}
		}
		only.why = nil
		if _, err := p.Token(WithoutInteraction(t.Context())); err != nil {
			t.Errorf("when the cache works again: %v", err)
		}
	})
}

// TestErrorOfThePersonSaysWhatIsWrongWithTheCache: "there is no refresh token"
// alone would send her to the wrong place.
func TestErrorOfThePersonSaysWhatIsWrongWithTheCache(t *testing.T) {
	denied := &fs.PathError{Op: "open", Path: "cache.bin", Err: fs.ErrPermission}
	nonsense := &MemoryCache{}
	put(t, nonsense, "{")
	for name, tt := range map[string]struct {
		cache Cache
		want  error
	}{
		"cannot be read": {broken{get: denied, update: denied}, denied},
		"makes no sense": {nonsense, errCacheContent},
	} {
		runInBubble(t, name, func(t *testing.T) {
			p, _ := device(t, idptest.New(), tt.cache, nil)
			for range 2 {
				_, err := p.Token(WithoutInteraction(t.Context()))
				if !errors.Is(err, ErrSignInRequired) || !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v in it", err, tt.want)
				}
			}
		})
	}
}

// TestPersonIsToldOnceThatTheSignInIsNotSaved: without a Logger, she would not know
// why she is asked again next time.
func TestPersonIsToldOnceThatTheSignInIsNotSaved(t *testing.T) {
	for name, tt := range map[string]struct {
		cache  Cache
		logger *slog.Logger
		want   string
	}{
		"not stored": {&unwritable{why: errors.New("disk full")}, nil, "disk full"},
		"not used": {
			broken{update: errors.New("no such folder"), get: errors.New("no such folder")}, nil,
			"no such folder"},
		"not stored, with Logger": {&unwritable{why: errors.New("disk full")},
			slog.New(slog.DiscardHandler), ""},
		"stored": {&MemoryCache{}, nil, ""},
	} {
		runInBubble(t, name, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			p := interactive(t, h, tt.cache, func(c *InteractiveConfig) { c.Logger = tt.logger })
			until(signedIn(t, p), -time.Second)
			signedIn(t, p)
			_ = p.SignOut(t.Context()) // after which the cache is tried again
			signedIn(t, p)
			says := "you may have to sign in again next time: "
			n := strings.Count(h.told(), says)
			if tt.want == "" && n != 0 || tt.want != "" && (n != 1 || !strings.Contains(h.told(), tt.want)) {
				t.Errorf("told %d times:\n%s", n, h.told())
			}
		})
	}
}

// lender is a cache that keeps the context that it was called with.
type lender struct {
	MemoryCache
	ctx context.Context
}

func (c *lender) Update(ctx context.Context, f updateFunc) error {
	c.ctx = ctx
	return c.MemoryCache.Update(ctx, f)
}

// TestContextOfUpdateEndsWithTheTransaction: A cache may have started something
// under the context, such as the renewal of a lease. It ends with the
// transaction, and not with the flight.
func TestContextOfUpdateEndsWithTheTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cache := &lender{}
		s := &tokenStore{client: &client{clock: new(clock)}, refresher: new(refresher), cache: cache}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err := s.transact(ctx, lockLimit, func(context.Context, msalCache) (grant, bool, error) {
			return grant{}, false, cache.ctx.Err()
		})
		if err != nil || cache.ctx.Err() == nil {
			t.Errorf("%v within, %v after", err, cache.ctx.Err())
		}
	})
}

// punctual is a cache whose Update stores what it is given, and returns at the moment
// at which its context ends.
type punctual struct{ MemoryCache }

func (c *punctual) Update(ctx context.Context, f updateFunc) error {
	err := c.MemoryCache.Update(ctx, f)
	<-ctx.Done()
	return err
}

// TestWorkThatIsDoneCountsThoughTheContextEnds: Update may return at the moment
// at which its context ends. Whichever is seen first, the work was done: it is
// not done again, its token is handed out, and the next program finds it.
func TestWorkThatIsDoneCountsThoughTheContextEnds(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			idp, cache := idptest.New(), &punctual{}
			token, took := get(t, cachedProvider(t, idp, cache, nil))
			if took != storeLimit {
				t.Errorf("after %v", took)
			}
			next, _ := get(t, cachedProvider(t, idp, cache, nil))
			if !next.Equal(token) {
				t.Error("the next program has another token")
			}
			wantRequests(t, idp, 1)
		})
	}
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			idp, cache := idptest.New(), &punctual{}
			p, shown := device(t, idp, cache, nil)
			token := signedIn(t, p)
			next, shownNext := device(t, idp, cache, nil)
			if other := signedIn(t, next); !other.Equal(token) || len(*shown) != 1 || len(*shownNext) != 0 {
				t.Errorf("a person was asked %d times, then %d times", len(*shown), len(*shownNext))
			}
			until(token, -time.Second)
			signedIn(t, p)
			if idp.Refused() != 0 || len(*shown) != 1 {
				t.Errorf("%d refused, asked %d times", idp.Refused(), len(*shown))
			}
		})
	}
}
