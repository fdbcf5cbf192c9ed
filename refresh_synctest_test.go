//go:build go1.25

package cdfauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// The engine on simulated time. A bubble ends only when every goroutine in it
// has: each of these tests also shows that none outlives its flight.

func bubble(t *testing.T, f func(t *testing.T, idp *idptest.Provider, p *ClientCredentials)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		f(t, idp, newTestProvider(t, idp, nil))
	})
}

// elapse returns how long f took.
func elapse(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// get calls Token, wants a token, and returns it with how long that took.
func get(t *testing.T, p Provider) (Token, time.Duration) {
	t.Helper()
	var tok Token
	var err error
	d := elapse(func() { tok, err = p.Token(t.Context()) })
	if err != nil {
		t.Fatalf("Token: %v", err)
	}
	return tok, d
}

func wantRequests(t *testing.T, idp *idptest.Provider, want int) {
	t.Helper()
	if got := idp.Tokens(); got != want {
		t.Errorf("%d token requests, want %d", got, want)
	}
}

// until sleeps on simulated time until d before the token's expiry.
func until(tok Token, d time.Duration) { time.Sleep(time.Until(tok.Expiry()) - d) }

func TestFreshFromMemory(t *testing.T) {
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

func TestLeewayRefreshesInBackground(t *testing.T) {
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

func TestUrgentWaitsForTheFlight(t *testing.T) {
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
		if _, err := p.engine.wait(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		wantRequests(t, idp, 2)
	})
}

// trickle is a body that comes a byte a second, and ends with its request.
type trickle struct{ ctx context.Context }

func (r trickle) Read(b []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		b[0] = ' '
		return 1, nil
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}

func TestSlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		hc := &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			requests++
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(trickle{r.Context()})}, nil
		})}
		p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL("https://idp.test"), ClientID: "c", ClientSecret: SecretString("s"), Options: Options{HTTPClient: hc}})
		if err != nil {
			t.Fatal(err)
		}
		d := elapse(func() { _, err = p.Token(t.Context()) })
		if !errors.Is(err, context.DeadlineExceeded) || d != silentLimit || requests != 3 {
			t.Errorf("%v after %v and %d requests; want 10 s an attempt and 30 s in all", err, d, requests)
		}
	})
}

func TestDiscoveryIsKeptForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: Issuer("https://idp.test"), ClientID: "client", ClientSecret: SecretString("s3cret/of+the client"), Options: Options{HTTPClient: idp.Client()}})
		if err != nil {
			t.Fatal(err)
		}
		for hour := range 50 {
			get(t, p)
			if got, want := len(idp.Requests("/openid-configuration")), 1+hour/24; got != want {
				t.Fatalf("%d discoveries in %d hours, want %d", got, hour, want)
			}
			time.Sleep(time.Hour)
		}
	})
}

func TestStampede(t *testing.T) {
	t.Run("callers who may leave", func(t *testing.T) { stampede(t, (*testing.T).Context) })
	t.Run("callers who cannot", func(t *testing.T) { stampede(t, func(*testing.T) context.Context { return context.Background() }) })
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

type ctxKey struct{}

func TestCallerLeavesFlightGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		idp.Fault(idp.Slow(2*time.Second, nil))
		var value any
		p := newTestProvider(t, idp, func(ctx context.Context) (string, error) {
			value = ctx.Value(ctxKey{})
			return "s3cret/of+the client", nil
		})
		first, cancel := context.WithTimeout(context.WithValue(t.Context(), ctxKey{}, "first"), 100*time.Millisecond)
		defer cancel()
		second, cancel2 := context.WithCancel(context.WithValue(t.Context(), ctxKey{}, "second"))
		go func() { time.Sleep(300 * time.Millisecond); cancel2() }()
		var wg sync.WaitGroup
		wg.Go(func() {
			var err error
			if d := elapse(func() { _, err = p.Token(first) }); err != context.DeadlineExceeded || d != 100*time.Millisecond {
				t.Errorf("the caller who started the flight: %v after %v", err, d)
			}
		})
		synctest.Wait()
		wg.Go(func() {
			var err error
			if d := elapse(func() { _, err = p.Token(second) }); err != context.Canceled || d != 300*time.Millisecond {
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
				for time.Until(old.Expiry()) > 0 {
					if tok, _ := get(t, p); !tok.Equal(old) {
						t.Fatal("not the old token")
					}
					time.Sleep(10 * time.Millisecond)
				}
				// 15 s: back-offs of 0.5 to 1, 1 to 2, 2 to 4, … between flights of at most 3 requests.
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

func TestBackoffGrowsAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		idp.Lifetime = 10 * time.Hour
		p := newTestProvider(t, idp, nil)
		p.engine.leeway = 4 * time.Hour
		tok, _ := get(t, p)
		idp.Always(idptest.Error(400, "invalid_client", "")) // final: one request a flight
		until(tok, 4*time.Hour)
		var at []time.Time
		for range 100_000 {
			n := idp.Tokens()
			get(t, p)
			synctest.Wait()
			if idp.Tokens() > n {
				at = append(at, time.Now())
			}
			time.Sleep(10 * time.Millisecond)
		}
		for i := 1; i < len(at); i++ {
			gap := at[i].Sub(at[i-1])
			low := min(time.Second<<min(i-1, 10), backoffMax) / 2
			if gap < low || gap > 2*low+20*time.Millisecond {
				t.Errorf("gap %d is %v, want %v to %v", i, gap, low, 2*low)
			}
		}
		if len(at) < 35 || len(at) > 80 {
			t.Errorf("%d flights in 1000 s", len(at))
		}
		idp.Always(nil)
		time.Sleep(backoffMax)
		get(t, p)
		synctest.Wait()
		if tok2, _ := get(t, p); tok2.Equal(tok) {
			t.Error("not refreshed after the provider came back")
		}
	})
}

func TestBackoffHasJitter(t *testing.T) {
	for n, want := range map[int]time.Duration{1: time.Second, 3: 4 * time.Second, 6: backoffMax, 7: backoffMax, 1000: backoffMax} {
		low, high := time.Hour, time.Duration(0)
		for range 1000 {
			d := backoff(n)
			low, high = min(low, d), max(high, d)
		}
		if low < want/2 || low > want*6/10 || high > want || high < want*9/10 {
			t.Errorf("backoff(%d) is from %v to %v, want %v to %v", n, low, high, want/2, want)
		}
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

func TestPanickingLogger(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		p.engine.logger = slog.New(quitter{slog.NewTextHandler(io.Discard, nil)})
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

func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		header string
		want   time.Duration // until the next request
	}{
		{"3", 3 * time.Second},
		{"45", 45 * time.Second},
		{"86400", retryAfterMax},
	} {
		t.Run(tt.header, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				idp := idptest.New()
				p := newTestProvider(t, idp, nil)
				p.engine.leeway = 10 * time.Minute
				tok, _ := get(t, p)
				idp.Fault(idptest.Status(429, "Retry-After", tt.header))
				until(tok, 10*time.Minute)
				start := time.Now()
				for idp.Tokens() < 3 && time.Since(start) < 5*time.Minute {
					get(t, p)
					synctest.Wait()
					time.Sleep(10 * time.Millisecond)
				}
				if d := idp.Requests("/token")[2].At.Sub(start); d < tt.want || d > tt.want+time.Second {
					t.Errorf("asked again after %v, want %v", d, tt.want)
				}
			})
		})
	}
}

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

func TestSuccessEndsTheBackoff(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Fault(idptest.Status(429, "Retry-After", "40"), idptest.Body(`{"access_token":"short","expires_in":20}`))
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

func TestTransientErrorsAreRetriedInTheFlight(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Fault(idptest.Status(503), idptest.Hang)
		if _, d := get(t, p); d < 11*time.Second || d > 14*time.Second {
			t.Errorf("third attempt succeeded after %v, want 10 s for the hang and 1.5 to 3 s of back-off", d)
		}
		wantRequests(t, idp, 3)
	})
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Always(idptest.Hang)
		var err error
		d := elapse(func() { _, err = p.Token(t.Context()) })
		if d != silentLimit || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "to idp.test: no answer in time") {
			t.Errorf("hung provider: %v after %v", err, d)
		}
		wantRequests(t, idp, 3)
	})
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Always(idptest.Status(429, "Retry-After", "30")) // to the moment
		if d := elapse(func() { p.Token(t.Context()) }); d != 0 {
			t.Errorf("a Retry-After beyond the flight's end was waited for: %v", d)
		}
		wantRequests(t, idp, 1)
	})
}

func TestLifetimes(t *testing.T) {
	for _, tt := range []struct {
		name, fields string
		expiry       time.Duration // after the request was sent; negative: on arrival it had expired
		fresh        time.Duration // until it is refreshed
	}{
		{"hour", `"expires_in":3600`, time.Hour, time.Hour - 15*time.Second},
		{"string", `"expires_in":"3600"`, time.Hour, time.Hour - 15*time.Second},
		{"fraction", `"expires_in":3600.5`, time.Hour + 500*time.Millisecond, time.Hour - 14500*time.Millisecond},
		{"missing", `"x":1`, 10 * time.Minute, 10*time.Minute - 15*time.Second},
		{"null", `"expires_in":null`, 10 * time.Minute, 10*time.Minute - 15*time.Second},
		{"short", `"expires_in":20`, 20 * time.Second, 10 * time.Second},
		{"zero", `"expires_in":0`, 0, -1},
		{"negative", `"expires_in":-5`, -time.Second, -1},
		{"absurd", `"expires_in":1000000000000000000`, maxLife, maxLife - 15*time.Second},
		{"absurd string", `"expires_in":"1e999"`, maxLife, maxLife - 15*time.Second},
		{"refresh_in", `"expires_in":3600,"refresh_in":1800`, time.Hour, 30 * time.Minute},
		{"refresh_in too late", `"expires_in":3600,"refresh_in":"3599"`, time.Hour, time.Hour - 15*time.Second},
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

func TestExpiredOnArrivalWhileOneIsValid(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		old, _ := get(t, p)
		idp.Always(idptest.Body(`{"access_token":"dead","expires_in":0}`))
		until(old, DefaultLeeway)
		for time.Until(old.Expiry()) > 0 {
			if tok, _ := get(t, p); !tok.Equal(old) {
				t.Fatal("the valid token was taken away")
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := idp.Tokens(); n > 32 {
			t.Errorf("%d token requests in 15 s", n)
		}
	})
}

func TestWallClockJumps(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		var jump atomic.Int64
		p.engine.now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
		old, _ := get(t, p)
		jump.Store(int64(2 * time.Hour)) // the laptop slept
		tok, _ := get(t, p)
		if tok.Equal(old) {
			t.Error("a token that is dead by the wall clock was handed out")
		}
		if tok.Expiry() != p.engine.now().Round(0).Add(time.Hour) {
			t.Errorf("new token expires at %v", tok.Expiry())
		}
		// Back-offs do not hang on the wall clock.
		idp.Fault(idptest.Error(400, "invalid_client", ""))
		jump.Store(int64(2*time.Hour + time.Hour - 10*time.Second))
		get(t, p)
		synctest.Wait()
		jump.Store(int64(-time.Hour)) // set back
		p.engine.Invalidate(tok)
		time.Sleep(2 * time.Second)
		if again, _ := get(t, p); again.Equal(tok) {
			t.Error("after the clock was set back no refresh happened")
		}
	})
}

func TestSecretMisbehaves(t *testing.T) {
	index := func(i int) string { return []string{}[i] }
	for _, tt := range []struct {
		name   string
		secret Secret
		want   string
		after  time.Duration
	}{
		{"panics", func(context.Context) (string, error) { panic("s3cret") }, "cdfauth: ClientSecret panicked with a string", 0},
		{"runtime panic", func(context.Context) (string, error) { return index(3), nil }, "cdfauth: ClientSecret panicked: runtime error: index out of range [3] with length 0", 0},
		{"exits", func(context.Context) (string, error) { runtime.Goexit(); return "", nil }, "cdfauth: ClientSecret ended its goroutine", 0},
		{"fails", func(context.Context) (string, error) { return "s3cret", errors.New("vault is sealed") }, "cdfauth: ClientSecret: vault is sealed", 0},
		{"empty", func(context.Context) (string, error) { return "", nil }, "cdfauth: ClientSecret yielded an empty string", 0},
		{"hangs", func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() }, "cdfauth: ClientSecret", silentLimit},
		{"ignores its context", func(context.Context) (string, error) { time.Sleep(time.Hour); return "", nil }, "cdfauth: ClientSecret did not return in time: context deadline exceeded", silentLimit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				idp := idptest.New()
				for _, ctx := range []context.Context{t.Context(), context.Background()} {
					p := newTestProvider(t, idp, tt.secret)
					var err error
					d := elapse(func() { _, err = p.Token(ctx) })
					if err == nil || !strings.HasPrefix(err.Error(), tt.want) || d != tt.after {
						t.Errorf("after %v: %v; want %q after %v", d, err, tt.want, tt.after)
					}
				}
				wantRequests(t, idp, 0)
				time.Sleep(time.Hour) // the abandoned call's own end
			})
		})
	}
}

func TestPanicInTheFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// net/http's transport is not guarded, but what it calls may panic.
		hc := &http.Client{Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { panic("no proxy") }}}
		p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL("https://idp.test"), ClientID: "c", ClientSecret: SecretString("s"), Options: Options{HTTPClient: hc}})
		if err != nil {
			t.Fatal(err)
		}
		for _, ctx := range []context.Context{t.Context(), context.Background()} {
			if _, err := p.Token(ctx); err == nil || !strings.Contains(err.Error(), "panicked with a string") {
				t.Errorf("got %v", err)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) { // nor does a goroutine that ends leave anybody waiting
		e := newEngine("test", Options{})
		e.silent = func(context.Context) (issued, error) { runtime.Goexit(); return issued{}, nil }
		if _, err := e.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "ended its goroutine") {
			t.Errorf("got %v", err)
		}
	})
}

// person is a flow with a silent and an asking phase for the engine.
type person struct {
	silent, asked int
	stopped       time.Duration // after this long the asking was called off
	answer        chan issued
	silentFor     time.Duration
	*engine
}

func newPerson() *person {
	p := &person{answer: make(chan issued), engine: newEngine("test", Options{})}
	p.engine.silent = func(ctx context.Context) (issued, error) {
		p.silent++
		time.Sleep(p.silentFor)
		return issued{}, fmt.Errorf("%w: no refresh token", ErrSignInRequired)
	}
	p.engine.ask = func(ctx context.Context) (issued, error) {
		p.asked++
		start := time.Now()
		select {
		case i := <-p.answer:
			return i, nil
		case <-ctx.Done():
			p.stopped = time.Since(start)
			return issued{}, ctx.Err()
		}
	}
	return p
}

func issue(t *testing.T, token string, life time.Duration) issued {
	t.Helper()
	now := time.Now().Round(0)
	tok, err := NewToken(token, now.Add(life))
	if err != nil {
		t.Fatal(err)
	}
	return issued{token: tok, sent: now}
}

func TestAskingPeople(t *testing.T) {
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
			if d := elapse(func() { _, err = p.Token(marked) }); !errors.Is(err, ErrSignInRequired) || d != time.Second {
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
		if _, err := p.Token(marked); err != ErrSignInRequired { // while somebody is asked
			t.Errorf("marked caller during the asking: %v", err)
		}
		p.answer <- issue(t, "one", time.Hour)
		wg.Wait()
		if p.asked != 1 || p.silent != 2 {
			t.Errorf("asked %d times, %d silent phases; want 1 and 2", p.asked, p.silent)
		}
	})
}

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
	synctest.Test(t, func(t *testing.T) { // one who comes while the asking is being called off
		p := newPerson()
		off := make(chan struct{})
		ask := p.engine.ask
		p.engine.ask = func(ctx context.Context) (issued, error) {
			if p.asked++; p.asked == 1 {
				<-ctx.Done()
				<-off
				return issued{}, ctx.Err()
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
	synctest.Test(t, func(t *testing.T) { // nobody answers
		p := newPerson()
		var err error
		if d := elapse(func() { _, err = p.Token(t.Context()) }); d != askLimit || err == nil {
			t.Errorf("%v after %v, want an error after 15 m", err, d)
		}
	})
}

func TestBackgroundRefreshAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPerson()
		go func() { p.answer <- issue(t, "one", time.Hour) }()
		old, _ := get(t, p)
		until(old, DefaultLeeway)
		for time.Until(old.Expiry()) > 0 {
			if tok, _ := get(t, p); !tok.Equal(old) {
				t.Fatal("not the old token")
			}
			time.Sleep(100 * time.Millisecond)
		}
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

// TestCallerWhoMayBeAskedComesLate: when the silent phase has just ended and
// nobody could be asked.
func TestCallerWhoMayBeAskedComesLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPerson()
		p.engine.logger = slog.New(sleeper{slog.NewTextHandler(io.Discard, nil)})
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

func TestInvalidate(t *testing.T) {
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

func TestInvalidateFails(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		old, _ := get(t, p)
		idp.Always(idptest.Error(400, "invalid_client", ""))
		p.Invalidate(old)
		for time.Until(old.Expiry()) > 0 {
			if tok, _ := get(t, p); !tok.Equal(old) {
				t.Fatal("the old token must serve until it expires")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := idp.Tokens(); n < 100 || n > 360 {
			t.Errorf("%d requests in an hour, want at most one in 10 s", n)
		}
		if _, err := p.Token(t.Context()); err == nil {
			t.Error("an expired token was handed out")
		}
	})
	synctest.Test(t, func(t *testing.T) { // or would need a person
		p := newPerson()
		go func() { p.answer <- issue(t, "one", time.Hour) }()
		old, _ := get(t, p)
		p.Invalidate(old)
		if tok, _ := get(t, p); !tok.Equal(old) || p.asked != 1 {
			t.Errorf("old token %v, asked %d times", tok.Equal(old), p.asked)
		}
	})
}

func TestInvalidateIsRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // an API that refuses every token, and callers who say so each time
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
			want := min(renewGapMin<<min(i-2, 10), renewGapMax)
			if gap := at[i].At.Sub(at[i-1].At); gap != want {
				t.Errorf("renewal %d came after %v, want %v", i, gap, want)
			}
		}
		if len(at) < 38 || len(at) > 44 {
			t.Errorf("%d token requests in 6 hours", len(at))
		}
	})
	synctest.Test(t, func(t *testing.T) { // one that refuses a token now and then gets a new one at once
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
	synctest.Test(t, func(t *testing.T) { // after a token that nobody refused the gap is short again
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
	synctest.Test(t, func(t *testing.T) { // the refused token once more: it stays refused
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
	synctest.Test(t, func(t *testing.T) { // a function that always has the same token, for another hour
		calls := 0
		p, _ := NewFuncProvider(func(context.Context) (Token, error) { calls++; return NewToken("same", time.Now().Add(time.Hour)) })
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
	synctest.Test(t, func(t *testing.T) { // a server that gives out the refused token again
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

func TestFuncProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls, inside, peak atomic.Int64
		var expiry time.Duration
		p, err := NewFuncProvider(func(ctx context.Context) (Token, error) {
			peak.Store(max(peak.Load(), inside.Add(1)))
			defer inside.Add(-1)
			time.Sleep(10 * time.Millisecond)
			var at time.Time
			if expiry != 0 {
				at = time.Now().Add(expiry)
			}
			return NewToken(fmt.Sprintf("tok-%d", calls.Add(1)), at)
		})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		seen := make([]string, 50)
		for i := range seen {
			wg.Go(func() { tok, _ := get(t, p); seen[i] = tok.AccessToken() })
		}
		wg.Wait()
		if calls.Load() != 50 || peak.Load() != 1 {
			t.Errorf("without an expiry: %d calls for 50 callers, %d at once; want 50, one at a time", calls.Load(), peak.Load())
		}
		unique := map[string]bool{}
		for _, s := range seen {
			unique[s] = true
		}
		if len(unique) != 50 {
			t.Errorf("%d tokens for 50 callers", len(unique))
		}
		expiry = time.Hour
		tok, _ := get(t, p)
		get(t, p)
		if calls.Load() != 51 {
			t.Errorf("with an expiry: %d calls, want 1", calls.Load()-50)
		}
		until(tok, DefaultLeeway+1)
		get(t, p)
		synctest.Wait()
		if calls.Load() != 51 {
			t.Error("refreshed before the leeway")
		}
		time.Sleep(time.Nanosecond)
		get(t, p)
		time.Sleep(time.Second)
		if calls.Load() != 52 {
			t.Error("not refreshed in the leeway")
		}
		tok, _ = get(t, p)
		p.Invalidate(tok)
		if next, _ := get(t, p); next.Equal(tok) {
			t.Error("Invalidate had no effect")
		}
	})
}

func TestFuncProviderMisbehaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // a call that was abandoned is not overtaken
		var inside, peak atomic.Int64
		p, _ := NewFuncProvider(func(ctx context.Context) (Token, error) {
			peak.Store(max(peak.Load(), inside.Add(1)))
			defer inside.Add(-1)
			time.Sleep(time.Minute)
			return NewToken("late", time.Time{})
		})
		for range 3 {
			if _, err := p.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "token function did not return in time") {
				t.Errorf("got %v", err)
			}
		}
		time.Sleep(time.Hour)
		if peak.Load() != 1 {
			t.Errorf("%d calls at once", peak.Load())
		}
	})
	synctest.Test(t, func(t *testing.T) {
		p, _ := NewFuncProvider(func(context.Context) (Token, error) { return Token{}, nil })
		if _, err := p.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "zero Token") {
			t.Errorf("got %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) { // another provider within: the mark reaches it
		inner := newPerson()
		outer, _ := NewFuncProvider(inner.Token)
		if _, err := outer.Token(WithoutInteraction(t.Context())); !errors.Is(err, ErrSignInRequired) || inner.asked != 0 {
			t.Errorf("marked: %v, asked %d times", err, inner.asked)
		}
		// A person takes longer than a silent phase does.
		go func() { time.Sleep(5 * time.Minute); inner.answer <- issue(t, "one", time.Hour) }()
		if tok, d := get(t, outer); tok.AccessToken() != "one" || inner.asked != 1 || d != 5*time.Minute {
			t.Errorf("unmarked: %q after %v, asked %d times", tok.AccessToken(), d, inner.asked)
		}
	})
	synctest.Test(t, func(t *testing.T) { // the mark of who started the flight does not bind it
		inner := newPerson()
		inner.silentFor = time.Second
		outer, _ := NewFuncProvider(inner.Token)
		go outer.Token(WithoutInteraction(t.Context()))
		synctest.Wait()
		go func() { inner.answer <- issue(t, "one", time.Hour) }()
		if tok, _ := get(t, outer); tok.AccessToken() != "one" {
			t.Errorf("unmarked: %q", tok.AccessToken())
		}
	})
}

// TestWhoMayNotWaitMakesTheFlight: a caller whom nobody may keep waiting for a person returns when one is asked, also if he made the flight.
func TestWhoMayNotWaitMakesTheFlight(t *testing.T) {
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
		if d := elapse(func() { _, err = p.Token(WithoutInteraction(context.Background())) }); d != time.Second || !errors.Is(err, ErrSignInRequired) {
			t.Errorf("%v after %v", err, d)
		}
		time.Sleep(10 * time.Minute)
	})
}

// TestNobodyWasThereToAsk: who comes when a flight has just found that it need not ask does not get its error, but has another look.
func TestNobodyWasThereToAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := NewFuncProvider(func(context.Context) (Token, error) { return NewToken("tok", time.Now().Add(time.Hour)) })
		e, f := p.engine, &flight{done: make(chan struct{}), asks: make(chan struct{})}
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

// TestFailedRefreshIsLogged: who has a token is told by nobody else; of a refresh that succeeds there is nothing to tell.
func TestFailedRefreshIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var records bytes.Buffer
		idp := idptest.New()
		p, _ := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL("https://idp.test/token"), ClientID: "client", ClientSecret: SecretString("s3cret/of+the client"),
			Options: Options{HTTPClient: idp.Client(), Logger: slog.New(slog.NewTextHandler(&records, nil)), Leeway: 10 * time.Minute}})
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

// TestSignOutOvertakesAFlight: who came before it is told; who came after it, while the old flight was still under way, gets a token.
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
		p.engine.forget()
		if d := elapse(func() { get(t, p) }); d != 19*time.Second {
			t.Errorf("who came after got a token after %v, want what is left of the first flight and one of his own", d)
		}
	})
}

// deadline is a context of a kind that the standard library does not make: it says when it ends, and cannot be waited for.
type deadline struct{ context.Context }

func (deadline) Deadline() (time.Time, bool) { return time.Now().Add(time.Second), true }

func TestDeadlineWithoutAnEnd(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Always(idptest.Hang)
		if d := elapse(func() { p.Token(deadline{context.Background()}) }); d != silentLimit {
			t.Errorf("a flight took %v", d)
		}
	})
}
