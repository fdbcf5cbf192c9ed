//go:build go1.25

package cdfauth

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestFreshTokenComesFromMemory: A program may call Token for each of its
// requests. Until the leeway begins, a call costs no request.
func TestFreshTokenComesFromMemory(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		tok, _ := get(t, p)
		for range 100 {
			again, _ := get(t, p)
			if !again.Equal(tok) {
				t.Fatal("another token")
			}
		}
		until(tok, DefaultLeeway+time.Nanosecond)
		get(t, p)
		synctest.Wait()
		wantRequests(t, idp, 1)
	})
}

// TestTokenInTheLeewayIsRefreshedInTheBackground: In the leeway the current
// token is still valid, so nobody waits for the next one.
func TestTokenInTheLeewayIsRefreshedInTheBackground(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		old, _ := get(t, p)
		idp.Fault(idp.Slow(3*time.Second, nil))
		until(old, DefaultLeeway)
		for range 30 { // 3 seconds of callers while the flight is under way
			tok, d := get(t, p)
			if !tok.Equal(old) || d != 0 {
				t.Fatalf("in the leeway: waited %v, old token %v", d, tok.Equal(old))
			}
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		tok, d := get(t, p)
		if tok.Equal(old) || d != 0 {
			t.Errorf("after the flight: waited %v, old token %v", d, tok.Equal(old))
		}
		wantRequests(t, idp, 2)
	})
}

// TestCallersWaitInTheLastThirdOfTheLeeway: A token that expires within seconds
// may be dead when it arrives at the API. From the last third of the leeway on,
// callers wait for the refresh.
func TestCallersWaitInTheLastThirdOfTheLeeway(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		old, _ := get(t, p)
		idp.Fault(idp.Slow(2*time.Second, nil))
		until(old, DefaultLeeway/3)
		tok, d := get(t, p)
		if tok.Equal(old) || d != 2*time.Second {
			t.Errorf("waited %v, old token %v; want the new one after 2 s", d, tok.Equal(old))
		}
		wantRequests(t, idp, 2)
	})
}

// TestUrgentWaitEndsASecondBeforeExpiry: If the refresh does not come, a valid
// token is still better than an error. The wait ends a second before the token
// expires, and an expired token is never handed out.
func TestUrgentWaitEndsASecondBeforeExpiry(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		old, _ := get(t, p)
		idp.Always(idptest.Hang)
		until(old, 4*time.Second)
		tok, d := get(t, p)
		if !tok.Equal(old) || d != 3*time.Second {
			t.Errorf("waited %v, old token %v; want the old one after 3 s", d, tok.Equal(old))
		}
		time.Sleep(500 * time.Millisecond) // half a second is left: nothing to wait for
		if tok, d := get(t, p); !tok.Equal(old) || d != 0 {
			t.Errorf("in the last second: waited %v, old token %v", d, tok.Equal(old))
		}
		time.Sleep(500 * time.Millisecond)
		if _, err := p.Token(t.Context()); err == nil {
			t.Error("an expired token was handed out")
		}
	})
}

// TestEndedContextStillGetsAValidToken: A valid token costs no wait, so that a
// caller whose context has ended gets it. A caller who took the slow path, and
// arrives after the flight has landed, starts no other.
func TestEndedContextStillGetsAValidToken(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		old, _ := get(t, p)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		until(old, DefaultLeeway)
		if tok, err := p.Token(ended); err != nil || !tok.Equal(old) {
			t.Errorf("in the leeway: %v", err)
		}
		synctest.Wait()
		// One who comes by the slow path just after the flight has landed starts no other.
		if _, err := p.refresher.staleToken(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		wantRequests(t, idp, 2)
	})
}

// TestTenThousandCallersMakeOneRequest: Programs begin with many requests at
// once, and a token that expires sends all of their callers at the same moment.
func TestTenThousandCallersMakeOneRequest(t *testing.T) {
	t.Run("callers who may leave", func(t *testing.T) { stampede(t, (*testing.T).Context) })
	t.Run("callers who cannot", func(t *testing.T) {
		stampede(t, func(*testing.T) context.Context { return context.Background() })
	})
}

func stampede(t *testing.T, ctx func(*testing.T) context.Context) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Fault(idp.Slow(200*time.Millisecond, nil))
		var wg sync.WaitGroup
		var failed atomic.Int64
		for range 10_000 {
			wg.Go(func() {
				if tok, err := p.Token(ctx(t)); err != nil || tok.AccessToken() == "" {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		if failed.Load() != 0 {
			t.Errorf("%d callers without a token", failed.Load())
		}
		wantRequests(t, idp, 1)
	})
}

// TestFlightGoesOnWhenItsCallerLeaves: Others wait for the request of the
// caller who started it. If that caller leaves, each caller gets the error of
// their own context, and the request goes on, with the values of the first
// caller's context.
func TestFlightGoesOnWhenItsCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		idp.Fault(idp.Slow(2*time.Second, nil))
		var value any
		p := newTestProvider(t, idp, func(ctx context.Context) (string, error) {
			value = ctx.Value(ctxKey{})
			return "s3cret/of+the client", nil
		})
		first, cancel := context.WithTimeout(context.WithValue(t.Context(), ctxKey{}, "first"),
			100*time.Millisecond)
		defer cancel()
		second, cancel2 := context.WithCancel(context.WithValue(t.Context(), ctxKey{}, "second"))
		go func() { time.Sleep(300 * time.Millisecond); cancel2() }()
		var wg sync.WaitGroup
		wg.Go(func() {
			var err error
			if d := elapse(func() { _, err = p.Token(first) }); err != context.DeadlineExceeded ||
				d != 100*time.Millisecond {
				t.Errorf("the caller who started the flight: %v after %v", err, d)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			var err error
			if d := elapse(func() { _, err = p.Token(second) }); err != context.Canceled ||
				d != 300*time.Millisecond {
				t.Errorf("a caller who joined: %v after %v", err, d)
			}
		})
		wg.Wait()
		if _, d := get(t, p); d != 1700*time.Millisecond {
			t.Errorf("a third caller got the flight's token after %v, want 1.7 s", d)
		}
		wantRequests(t, idp, 1)
		if value != "first" {
			t.Errorf("the flight's context has value %v, want the first caller's", value)
		}
		// A context that has ended starts nothing.
		p = newTestProvider(t, idp, nil)
		if _, err := p.Token(second); err != context.Canceled {
			t.Errorf("ended context: %v", err)
		}
		synctest.Wait()
		wantRequests(t, idp, 1)
	})
}

// TestFailedRefreshTakesNoTokenAway: An identity provider may be out of order
// for longer than the leeway. Whatever the failure is, the current token serves
// until it expires, and the identity provider gets few requests meanwhile.
func TestFailedRefreshTakesNoTokenAway(t *testing.T) {
	refuse := func(http.ResponseWriter, *http.Request) { panic("connection lost") }
	for name, fault := range map[string]http.HandlerFunc{
		"503":                     idptest.Status(503),
		"403 of a firewall":       idptest.Status(403),
		"hang":                    idptest.Hang,
		"invalid_client":          idptest.Error(401, "invalid_client", "gone"),
		"temporarily_unavailable": idptest.Error(400, "temporarily_unavailable", ""),
		"HTML":                    idptest.Body("<html>"),
		"panicking transport":     refuse,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
				old, _ := get(t, p)
				idp.Always(fault)
				until(old, DefaultLeeway)
				for time.Until(old.Expiry()) > 5*time.Second {
					if tok, d := get(t, p); !tok.Equal(old) || d != 0 {
						t.Fatalf("waited %v, old token %v", d, tok.Equal(old))
					}
					time.Sleep(10 * time.Millisecond)
				}
				wantUntilItExpires(t, p, old, 10*time.Millisecond)
				// 15 s: back-offs of 0.5 to 1, 1 to 2, 2 to 4, … between flights of at
				// most 3 requests.
				if n := idp.Tokens(); n < 3 || n > 17 {
					t.Errorf("%d token requests in 15 s of failures", n)
				}
				if idp.Peak() > 1 {
					t.Errorf("%d requests at once", idp.Peak())
				}
				if _, err := p.Token(t.Context()); err == nil {
					t.Error("an expired token was handed out")
				}
				idp.Always(nil)
				time.Sleep(time.Minute)
				get(t, p)
			})
		})
	}
}

// quitter is a slog.Handler that panics at warnings of the engine.
type quitter struct{ slog.Handler }

func (q quitter) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "refresh failed") {
		panic("full disk")
	}
	return nil
}

// TestLoggerThatPanicsCostsNoRefresh: A Logger is the caller's code. If it
// panics, the warning is lost, and the refresh is not.
func TestLoggerThatPanicsCostsNoRefresh(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		p.refresher.logger = slog.New(quitter{slog.NewTextHandler(io.Discard, nil)})
		old, _ := get(t, p)
		idp.Fault(idptest.Error(400, "invalid_client", ""))
		until(old, DefaultLeeway)
		get(t, p)
		time.Sleep(2 * time.Second)
		get(t, p)
		synctest.Wait()
		if tok, _ := get(t, p); tok.Equal(old) {
			t.Error("not refreshed after a warning that could not be logged")
		}
	})
}

// TestWithoutATokenNoFailureIsReplayed: A failure that is replayed would
// outlive its cause. A caller without a token makes a request of their own: the
// first two at once, the next after the back-off, under their own context.
func TestWithoutATokenNoFailureIsReplayed(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Always(idptest.Error(401, "invalid_client", ""))
		fail := func(ctx context.Context) (time.Duration, error) {
			var err error
			d := elapse(func() { _, err = p.Token(ctx) })
			return d, err
		}
		for i := range 2 { // the first two ask at once
			if d, err := fail(t.Context()); d != 0 || err == nil {
				t.Errorf("call %d: %v after %v", i, err, d)
			}
			wantRequests(t, idp, i+1)
		}
		// The third waits out the back-off of the second, 1 to 2 s, under its own context.
		short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if d, err := fail(short); d != 300*time.Millisecond || err != context.DeadlineExceeded {
			t.Errorf("impatient call: %v after %v", err, d)
		}
		wantRequests(t, idp, 2)
		idp.Always(nil)
		if _, d := get(t, p); d < 700*time.Millisecond || d > 1700*time.Millisecond {
			t.Errorf("the mended provider was asked after %v", d)
		}
		wantRequests(t, idp, 3)
		idp.Always(idptest.Error(401, "invalid_client", ""))
		time.Sleep(time.Hour)
		for i := range 2 { // a success has reset the count
			if d, err := fail(t.Context()); d != 0 || err == nil {
				t.Errorf("failure %d after a success: %v after %v", i, err, d)
			}
		}
	})
}

// TestSuccessEndsTheBackoff: The Retry-After of a failure says nothing once a
// request has succeeded.
func TestSuccessEndsTheBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Fault(idptest.Status(429, "Retry-After", "40"),
			idptest.Body(`{"access_token":"short","expires_in":20}`))
		if _, err := p.Token(t.Context()); err == nil {
			t.Fatal("no error")
		}
		tok, _ := get(t, p)
		until(tok, 10*time.Second)
		get(t, p)
		synctest.Wait()
		wantRequests(t, idp, 3)
	})
}

// TestLifetimeCountsFromTheRequest: expires_in counts from when the token was
// made (RFC 6749 §5.1), which is after the request and before the answer. The
// earlier moment is the safe one. A lifetime that is missing, of another type
// or absurd is replaced by a useful one.
func TestLifetimeCountsFromTheRequest(t *testing.T) {
	for _, tt := range []struct {
		name, fields string
		expiry       time.Duration // after the request was sent; negative: on arrival it had expired
		fresh        time.Duration // until it is refreshed
	}{
		{"hour", `"expires_in":3600`, time.Hour, time.Hour - 15*time.Second},
		{"string", `"expires_in":"3600"`, time.Hour, time.Hour - 15*time.Second},
		{"fraction", `"expires_in":3600.5`, time.Hour, time.Hour - 15*time.Second},
		{"missing", `"x":1`, 10 * time.Minute, 10*time.Minute - 15*time.Second},
		{"null", `"expires_in":null`, 10 * time.Minute, 10*time.Minute - 15*time.Second},
		{"short", `"expires_in":20`, 20 * time.Second, 10 * time.Second},
		{"zero", `"expires_in":0`, 0, -1},
		{"negative", `"expires_in":-5`, -time.Second, -1},
		{"absurd", `"expires_in":1000000000000000000`, maxLife, maxLife - 15*time.Second},
		{"absurd string", `"expires_in":"1e999"`, maxLife, maxLife - 15*time.Second},
		{"refresh_in", `"expires_in":3600,"refresh_in":1800`, time.Hour, 30 * time.Minute},
		{"refresh_in too late", `"expires_in":3600,"refresh_in":"3599"`, time.Hour,
			time.Hour - 15*time.Second},
		{"refresh_in zero", `"expires_in":3600,"refresh_in":0`, time.Hour, time.Hour - 15*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
				const slow = 3 * time.Second // a lifetime counts from when the request was sent
				idp.Fault(idp.Slow(slow, idptest.Body(`{"access_token":"tok-1",`+tt.fields+`}`)))
				sent := time.Now()
				tok, _ := get(t, p)
				if got := tok.Expiry().Sub(sent); got != tt.expiry {
					t.Errorf("expires after %v, want %v", got, tt.expiry)
				}
				if tok.AccessToken() != "tok-1" {
					t.Errorf("got %q", tok.AccessToken())
				}
				if tt.fresh < 0 { // to this caller and to nobody later
					if tok, _ := get(t, p); tok.AccessToken() == "tok-1" {
						t.Error("a token that had expired on arrival was handed out twice")
					}
					wantRequests(t, idp, 2)
					return
				}
				if tt.fresh < 1000*time.Hour {
					time.Sleep(tt.fresh - slow - 1)
					get(t, p)
					synctest.Wait()
					wantRequests(t, idp, 1)
					time.Sleep(time.Nanosecond)
					if tok, d := get(t, p); d != 0 || tok.AccessToken() != "tok-1" {
						t.Errorf("at the refresh: waited %v for %q", d, tok.AccessToken())
					}
					synctest.Wait()
					wantRequests(t, idp, 2)
				}
			})
		})
	}
}

// TestTokenDeadOnArrivalReplacesNoValidOne: A token that has expired when it
// arrives is worth less than the one that is still valid, and costs back-offs
// as a failure does.
func TestTokenDeadOnArrivalReplacesNoValidOne(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		old, _ := get(t, p)
		idp.Always(idptest.Body(`{"access_token":"dead","expires_in":0}`))
		until(old, DefaultLeeway)
		wantUntilItExpires(t, p, old, 10*time.Millisecond)
		if n := idp.Tokens(); n > 32 {
			t.Errorf("%d token requests in 15 s", n)
		}
	})
}

// TestTokenDeadByTheWallClockIsNotHandedOut: A laptop that slept wakes with its wall
// clock ahead, and people set clocks back. A token that is dead by the wall
// clock is not handed out. Back-offs use the monotonic clock, and do not last
// longer when the wall clock is set back.
func TestTokenDeadByTheWallClockIsNotHandedOut(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		jump := &p.refresher.clock.ahead
		old, _ := get(t, p)
		jump.Store(int64(2 * time.Hour)) // the laptop slept
		tok, _ := get(t, p)
		if tok.Equal(old) {
			t.Error("a token that is dead by the wall clock was handed out")
		}
		if tok.Expiry() != p.refresher.clock.now().Round(0).Add(time.Hour) {
			t.Errorf("new token expires at %v", tok.Expiry())
		}
		// Back-offs do not hang on the wall clock.
		idp.Fault(idptest.Error(400, "invalid_client", ""))
		jump.Store(int64(2*time.Hour + time.Hour - 10*time.Second))
		get(t, p)
		synctest.Wait()
		jump.Store(int64(-time.Hour)) // set back
		p.refresher.Invalidate(tok)
		time.Sleep(2 * time.Second)
		if again, _ := get(t, p); again.Equal(tok) {
			t.Error("after the clock was set back no refresh happened")
		}
	})
}

// TestPanicInTheFlightIsAnError: A panic in a goroutine of this package would
// end the program, and a goroutine that exits would leave its callers waiting
// for ever. Both are errors.
func TestPanicInTheFlightIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// net/http's transport is not guarded, but what it calls may panic.
		hc := &http.Client{Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) {
			panic("no proxy")
		}}}
		p := cachedProvider(t, idptest.New(), nil, func(c *ClientCredentialsConfig) { c.HTTPClient = hc })
		for _, ctx := range []context.Context{t.Context(), context.Background()} {
			if _, err := p.Token(ctx); err == nil ||
				!strings.Contains(err.Error(), "panicked with a string") {
				t.Errorf("got %v", err)
			}
		}
	})
	runInBubble(t, "a goroutine that ends", func(t *testing.T) {
		e := newRefresher("test", Options{})
		e.silent = func(context.Context) (grant, error) { runtime.Goexit(); return grant{}, nil }
		if _, err := e.Token(t.Context()); err == nil ||
			!strings.Contains(err.Error(), "ended its goroutine") {
			t.Errorf("got %v", err)
		}
	})
}

// TestEachCallerWaitsByTheirOwnMark: Callers with WithoutInteraction and
// callers without it wait for the same flight. The marked ones leave when the
// silent phase has ended, and the person is asked once for all others.
func TestEachCallerWaitsByTheirOwnMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPerson()
		marked := WithoutInteraction(t.Context())
		if _, err := p.Token(marked); !errors.Is(err, ErrSignInRequired) || p.asked != 0 {
			t.Errorf("marked caller alone: %v, asked %d times", err, p.asked)
		}
		// A marked one and an unmarked one wait for one flight: each by its own mark.
		p.silentFor = time.Second
		var wg sync.WaitGroup
		wg.Go(func() {
			var err error
			if d := elapse(func() { _, err = p.Token(marked) }); !errors.Is(err, ErrSignInRequired) ||
				d != time.Second {
				t.Errorf("marked caller left with %v after %v, want after the silent phase", err, d)
			}
		})
		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				if tok, err := p.Token(t.Context()); err != nil || tok.AccessToken() != "one" {
					t.Errorf("unmarked caller: %v", err)
				}
			})
		}
		time.Sleep(5 * time.Second)
		if _, err := p.Token(marked); !errors.Is(err, ErrSignInRequired) { // while somebody is asked
			t.Errorf("marked caller during the asking: %v", err)
		}
		p.answer <- issue(t, "one", time.Hour)
		wg.Wait()
		if p.asked != 1 || p.silent != 2 {
			t.Errorf("asked %d times, %d silent phases; want 1 and 2", p.asked, p.silent)
		}
	})
}

// TestAskingEndsWhenTheLastLeaves: A person is asked for as long as somebody
// waits, and at most for a quarter of an hour. The next caller starts a new
// sign-in, even one who comes while the old one is being called off.
func TestAskingEndsWhenTheLastLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPerson()
		var wg sync.WaitGroup
		for i := range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Minute)
			defer cancel()
			wg.Go(func() {
				if _, err := p.Token(ctx); err != context.DeadlineExceeded {
					t.Errorf("caller %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if p.stopped != 3*time.Minute {
			t.Errorf("the asking ended after %v, want 3 m", p.stopped)
		}
		// Nobody is left behind: the next caller begins anew, at once.
		go func() { p.answer <- issue(t, "two", time.Hour) }()
		if _, d := get(t, p); d != 0 || p.asked != 2 {
			t.Errorf("next caller after %v, asked %d times", d, p.asked)
		}
	})
	runInBubble(t, "a caller who comes while the asking is called off", func(t *testing.T) {
		p := newPerson()
		off := make(chan struct{})
		ask := p.refresher.ask
		p.refresher.ask = func(ctx context.Context) (grant, error) {
			if p.asked++; p.asked == 1 {
				<-ctx.Done()
				<-off
				return grant{}, ctx.Err()
			}
			return ask(ctx)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go p.Token(ctx)
		synctest.Wait()
		cancel()
		synctest.Wait()
		done := make(chan error)
		go func() { _, err := p.Token(t.Context()); done <- err }()
		synctest.Wait()
		close(off)
		p.answer <- issue(t, "three", time.Hour)
		if err := <-done; err != nil {
			t.Errorf("a caller who came late got %v", err)
		}
	})
	runInBubble(t, "nobody answers", func(t *testing.T) {
		p := newPerson()
		var err error
		if d := elapse(func() { _, err = p.Token(t.Context()) }); d != askLimit || err == nil {
			t.Errorf("%v after %v, want an error after 15 m", err, d)
		}
	})
}

// TestBackgroundRefreshAsksNobody: A person is asked only if a caller has to
// wait for the answer, which nobody does while the token is valid. The failures
// of silent refreshes do not delay the sign-in that follows.
func TestBackgroundRefreshAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPerson()
		go func() { p.answer <- issue(t, "one", time.Hour) }()
		old, _ := get(t, p)
		until(old, DefaultLeeway)
		wantUntilItExpires(t, p, old, 100*time.Millisecond)
		synctest.Wait()
		if p.asked != 1 || p.silent < 3 {
			t.Errorf("asked %d times, %d silent phases", p.asked, p.silent)
		}
		// Now somebody waits who has none. What failed silently does not delay the sign-in.
		go func() { p.answer <- issue(t, "two", time.Hour) }()
		if tok, d := get(t, p); tok.AccessToken() != "two" || d != 0 {
			t.Errorf("%q after %v", tok.AccessToken(), d)
		}
	})
}

// sleeper is a slog.Handler on a slow disk.
type sleeper struct{ slog.Handler }

func (s sleeper) Handle(context.Context, slog.Record) error { time.Sleep(time.Minute); return nil }

// TestLateCallerOfASilentFlightMayStillBeAsked: A flight of which nobody may be
// asked has failed, and is still being logged when a caller comes who may be
// asked. That caller does not get the error.
func TestLateCallerOfASilentFlightMayStillBeAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPerson()
		p.refresher.logger = slog.New(sleeper{slog.NewTextHandler(io.Discard, nil)})
		go func() { p.answer <- issue(t, "one", time.Hour) }()
		old, _ := get(t, p)
		until(old, 10*time.Second)
		get(t, p)                    // in the background, a flight that fails and is logged, slowly
		time.Sleep(11 * time.Second) // the token has died
		go func() { p.answer <- issue(t, "two", time.Hour) }()
		if tok, _ := get(t, p); tok.AccessToken() != "two" {
			t.Errorf("got %q", tok.AccessToken())
		}
	})
}

// TestInvalidateForgetsTheCurrentTokenAlone: Many requests may fail with the
// same token, and each calls Invalidate. Only a call with the current token has
// an effect, so that the new token is not forgotten because of the old one.
func TestInvalidateForgetsTheCurrentTokenAlone(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		first, _ := get(t, p)
		p.Invalidate(Token{})
		other, _ := NewToken("other", first.Expiry())
		p.Invalidate(other)
		if tok, _ := get(t, p); !tok.Equal(first) {
			t.Error("a token that was not the current one was forgotten")
		}
		wantRequests(t, idp, 1)

		idp.Fault(idp.Slow(time.Second, nil))
		p.Invalidate(first)
		second, d := get(t, p)
		if second.Equal(first) || d != time.Second {
			t.Errorf("after Invalidate: old token %v, after %v", second.Equal(first), d)
		}
		p.Invalidate(first) // long replaced
		if tok, _ := get(t, p); !tok.Equal(second) {
			t.Error("the new token was forgotten for the old one's sake")
		}
		wantRequests(t, idp, 2)
	})
}

// TestInvalidatedTokenServesWhereThereIsNoOther: An API may refuse a token for
// a reason that no new token changes. The refused token serves until it
// expires, if no other can be had or a person would have to be asked.
func TestInvalidatedTokenServesWhereThereIsNoOther(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		old, _ := get(t, p)
		idp.Always(idptest.Error(400, "invalid_client", ""))
		p.Invalidate(old)
		wantUntilItExpires(t, p, old, 100*time.Millisecond)
		if n := idp.Tokens(); n < 100 || n > 360 {
			t.Errorf("%d requests in an hour, want at most one in 10 s", n)
		}
		if _, err := p.Token(t.Context()); err == nil {
			t.Error("an expired token was handed out")
		}
	})
	runInBubble(t, "a person would be needed", func(t *testing.T) {
		p := newPerson()
		go func() { p.answer <- issue(t, "one", time.Hour) }()
		old, _ := get(t, p)
		p.Invalidate(old)
		if tok, _ := get(t, p); !tok.Equal(old) || p.asked != 1 {
			t.Errorf("old token %v, asked %d times", tok.Equal(old), p.asked)
		}
	})
}

// TestInvalidateIsRateLimited: An API that refuses every token would otherwise
// cause a token request for each request of the program. The gaps between
// renewals grow, up to a limit, as long as tokens are refused. A token that is
// refused now and then is replaced at once.
func TestInvalidateIsRateLimited(t *testing.T) {
	runInBubble(t, "an API that refuses every token", func(t *testing.T) {
		idp := idptest.New()
		idp.Lifetime = 24 * time.Hour
		p := newTestProvider(t, idp, nil)
		for range 6 * 3600 * 10 {
			tok, _ := get(t, p)
			p.Invalidate(tok)
			time.Sleep(100 * time.Millisecond)
		}
		at := idp.Requests("/token")
		for i := 2; i < len(at); i++ {
			want := min(minRenewalGap<<min(i-2, 10), maxRenewalGap)
			if gap := at[i].At.Sub(at[i-1].At); gap != want {
				t.Errorf("renewal %d came after %v, want %v", i, gap, want)
			}
		}
		if len(at) < 38 || len(at) > 44 {
			t.Errorf("%d token requests in 6 hours", len(at))
		}
	})
	runInBubble(t, "an API that refuses a token now and then", func(t *testing.T) {
		idp := idptest.New()
		p := newTestProvider(t, idp, nil)
		for range 10 {
			get(t, p)
			time.Sleep(time.Hour)
			tok, _ := get(t, p)
			p.Invalidate(tok)
			if next, _ := get(t, p); next.Equal(tok) {
				t.Error("not renewed")
			}
			time.Sleep(2 * time.Hour)
		}
	})
	runInBubble(t, "a token between that nobody refused", func(t *testing.T) {
		idp := idptest.New()
		p := newTestProvider(t, idp, nil)
		for range 600 {
			tok, _ := get(t, p)
			p.Invalidate(tok)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour)
		get(t, p) // renewed, though its forerunner was refused
		time.Sleep(time.Hour)
		for i := range 3 {
			tok, _ := get(t, p)
			p.Invalidate(tok)
			next, _ := get(t, p)
			if i < 2 == next.Equal(tok) {
				t.Errorf("refusal %d: renewed %v", i, !next.Equal(tok))
			}
			time.Sleep(11 * time.Second)
		}
	})
	runInBubble(t, "the refused token once more", func(t *testing.T) {
		idp := idptest.New()
		p := newTestProvider(t, idp, nil)
		same := idptest.Body(`{"access_token":"same","expires_in":86400}`)
		idp.Fault(same, same)
		tok, _ := get(t, p)
		p.Invalidate(tok)
		if next, _ := get(t, p); !next.Equal(tok) {
			t.Errorf("got %q", next.AccessToken())
		}
		time.Sleep(11 * time.Second)
		if next, _ := get(t, p); next.Equal(tok) {
			t.Error("not asked again")
		}
		wantRequests(t, idp, 3)
	})
	runInBubble(t, "a function that always has the same token", func(t *testing.T) {
		calls := 0
		p, _ := NewFuncProvider(func(context.Context) (Token, error) {
			calls++
			return NewToken("same", time.Now().Add(time.Hour))
		})
		tok, _ := get(t, p)
		p.Invalidate(tok)
		for range 3 * 3600 { // also when the one that was refused has long expired
			get(t, p)
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if calls < 3 || calls > 60 {
			t.Errorf("%d calls in 3 hours", calls)
		}
	})
	runInBubble(t, "a server that always issues the refused token", func(t *testing.T) {
		idp := idptest.New()
		p := newTestProvider(t, idp, nil)
		idp.Always(idptest.Body(`{"access_token":"same","expires_in":86400}`))
		for range 3600 * 10 {
			tok, _ := get(t, p)
			p.Invalidate(tok)
			time.Sleep(100 * time.Millisecond)
		}
		if n := idp.Tokens(); n < 8 || n > 16 {
			t.Errorf("%d token requests in an hour", n)
		}
	})
}

// TestCallerWithoutInteractionLeavesTheirOwnFlight: A caller with
// WithoutInteraction returns as soon as a person is asked. That holds for a caller
// who has started the flight, too, while others wait for the person.
func TestCallerWithoutInteractionLeavesTheirOwnFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		p, _ := NewFuncProvider(func(context.Context) (Token, error) {
			if calls++; calls == 1 {
				time.Sleep(time.Second)
				return Token{}, ErrSignInRequired
			}
			time.Sleep(5 * time.Minute) // a person
			return NewToken("tok", time.Now().Add(time.Hour))
		})
		go func() {
			time.Sleep(500 * time.Millisecond)
			p.Token(context.Background())
		}()
		var err error
		d := elapse(func() { _, err = p.Token(WithoutInteraction(context.Background())) })
		if d != time.Second || !errors.Is(err, ErrSignInRequired) {
			t.Errorf("%v after %v", err, d)
		}
		time.Sleep(10 * time.Minute)
	})
}

// TestNewcomerGetsNoErrorOfAnEndedFlight: A flight has just found that
// nobody was there to be asked when a caller comes who may be. That caller
// starts another round, and does not get the error.
func TestNewcomerGetsNoErrorOfAnEndedFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := NewFuncProvider(func(context.Context) (Token, error) {
			return NewToken("tok", time.Now().Add(time.Hour))
		})
		e, f := p.refresher, &flight{done: make(chan struct{}), asking: make(chan struct{})}
		e.flight = f
		go func() {
			synctest.Wait()
			e.mu.Lock()
			defer e.mu.Unlock()
			e.flight, f.err = nil, ErrSignInRequired
			close(f.done)
		}()
		if _, err := p.Token(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestFailedRefreshIsLogged: A caller who has a valid token gets no error, so
// that the log alone tells of the failure. Of a refresh that succeeds there is
// nothing to tell.
func TestFailedRefreshIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var records bytes.Buffer
		idp := idptest.New()
		p := cachedProvider(t, idp, nil, func(c *ClientCredentialsConfig) {
			c.Logger = slog.New(slog.NewTextHandler(&records, nil))
			c.Leeway = 10 * time.Minute
		})
		const told = `msg="cdfauth: refresh failed, the current token serves on" flow="client credentials" error=`
		for i, want := range []int{0, 1, 1} {
			tok, _ := get(t, p)
			synctest.Wait()
			if n := strings.Count(records.String(), told); n != want {
				t.Errorf("call %d: told %d times, want %d: %s", i, n, want, &records)
			}
			if i == 0 {
				idp.Fault(idptest.Error(401, "invalid_client", ""))
				time.Sleep(time.Until(tok.Expiry()) - 9*time.Minute) // into the leeway
			}
			time.Sleep(time.Minute)
		}
	})
}

// TestSignOutOvertakesAFlight: A flight that is under way at a sign-out would
// bring a token of the person who has left. Callers who came before the
// sign-out get an error that says so. Callers who come after it wait for a
// flight of their own.
func TestSignOutOvertakesAFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := NewFuncProvider(func(context.Context) (Token, error) {
			time.Sleep(10 * time.Second)
			return NewToken("tok", time.Now().Add(time.Hour))
		})
		go func() {
			if _, err := p.Token(t.Context()); !errors.Is(err, errSignedOut) {
				t.Errorf("who came before: %v", err)
			}
		}()
		time.Sleep(time.Second)
		p.refresher.forget()
		if d := elapse(func() { get(t, p) }); d != 19*time.Second {
			t.Errorf(
				"who came after got a token after %v, want what is left of the first flight and one of his own",
				d)
		}
	})
}

// TestTokenThatDiesDuringTheWaitIsNotHandedOut: The laptop goes to sleep while
// a caller waits for a refresh. The token that was valid before the sleep is
// dead after it.
func TestTokenThatDiesDuringTheWaitIsNotHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newRefresher("x", Options{})
		jump := &e.clock.ahead
		n := 0
		e.silent = func(ctx context.Context) (grant, error) {
			if n++; n == 2 {
				time.Sleep(20 * time.Second)
			}
			now := e.clock.now()
			return grant{sent: now,
				token: newToken(tokenData{header: bearer + "t", expiry: now.Add(time.Hour)})}, nil
		}
		tok, _ := e.Token(t.Context())
		until(tok, 4*time.Second)
		go func() { time.Sleep(time.Second); jump.Store(int64(8 * time.Hour)) }()
		if got, err := e.Token(t.Context()); err != nil || !got.Expiry().After(e.clock.now()) {
			t.Errorf("%v; expired %v ago", err, e.clock.now().Sub(got.Expiry()))
		}
	})
}

// TestSmallRefreshInCausesNoRequestPerCall: A server may send a refresh_in of a
// millisecond. It cannot ask for a request per call.
func TestSmallRefreshInCausesNoRequestPerCall(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Always(idptest.JSON(200,
			map[string]any{"access_token": "tok", "expires_in": 86400, "refresh_in": 0.001}))
		for range 500 {
			get(t, p)
			synctest.Wait()
			time.Sleep(10 * time.Millisecond)
		}
		wantRequests(t, idp, 1)
	})
}

// TestEitherClockEndsAToken: a token of one hour is dead after an hour, although
// somebody has set the wall clock back by a day meanwhile (a virtual machine that was
// restored, a real-time clock in local time, NTP).
func TestEitherClockEndsAToken(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		old, _ := get(t, p)
		p.refresher.clock.ahead.Store(-int64(24 * time.Hour))
		time.Sleep(time.Hour - DefaultLeeway - time.Nanosecond)
		if token, _ := get(t, p); !token.Equal(old) {
			t.Error("the token was replaced before its time")
		}
		time.Sleep(time.Nanosecond)
		get(t, p) // launches the flight
		synctest.Wait()
		wantRequests(t, idp, 2)
	})
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		old, _ := get(t, p)
		p.refresher.clock.ahead.Store(-int64(24 * time.Hour))
		time.Sleep(time.Hour)
		token, _ := get(t, p)
		if token.Equal(old) {
			t.Error("a token of one hour was handed out after an hour")
		}
		// The new one is measured by the clock as it is now.
		time.Sleep(time.Hour - DefaultLeeway - time.Nanosecond)
		get(t, p)
		wantRequests(t, idp, 2)
	})
}

// TestTokensDeadOnArrivalArePaced: a provider that always issues tokens with an
// expires_in of 0 would otherwise get a request for each call of Token. Those who
// waited get such a token, the next call may ask again at once, since one may be an
// accident, and from then on requests are paced as after failures.
func TestTokensDeadOnArrivalArePaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var records bytes.Buffer
		idp := idptest.New()
		idp.Always(idptest.Body(`{"access_token":"tok","expires_in":0}`))
		p := cachedProvider(t, idp, nil, func(cfg *ClientCredentialsConfig) {
			cfg.Logger = slog.New(slog.NewTextHandler(&records, nil))
		})
		start := time.Now()
		for range 2 {
			if token, took := get(t, p); token.AccessToken() != "tok" || took != 0 {
				t.Errorf("%q after %v", token.AccessToken(), took)
			}
		}
		for n := 0; n < 1000 && time.Since(start) < 5*time.Minute; n++ {
			get(t, p)
		}
		if n := idp.Tokens(); n < 5 || n > 25 {
			t.Errorf("%d requests in 5 minutes", n)
		}
		if !strings.Contains(records.String(), "the token had expired when it arrived") {
			t.Errorf("the log does not say why: %s", records.String())
		}
	})
}

// TestRetryAfterCountsFromTheFirstFailure: a caller without a token asks at once after
// a first failure, but not if the server has said when to come back.
func TestRetryAfterCountsFromTheFirstFailure(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Fault(idptest.Status(429, "Retry-After", "35"))
		_, err := p.Token(t.Context())
		if err == nil {
			t.Fatal("want the server's refusal")
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = p.Token(short)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller with a second got %v", err)
		}
		_, took := get(t, p)
		if took != 34*time.Second {
			t.Errorf("the next request came after %v, want the rest of 35 s", took+time.Second)
		}
		wantRequests(t, idp, 2)
	})
}
