//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestBackoffGrowsAndEnds: A program in a loop would otherwise send a request
// per call to an identity provider that refuses it. The gaps double up to
// backoffMax, and one success ends them.
func TestBackoffGrowsAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		idp.Lifetime = 10 * time.Hour
		p := newTestProvider(t, idp, nil)
		p.refresher.leeway = 4 * time.Hour
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

// TestBackoffHasJitter: Programs that fail together would otherwise try again
// together.
func TestBackoffHasJitter(t *testing.T) {
	for n, want := range map[int]time.Duration{1: time.Second, 3: 4 * time.Second, 6: backoffMax,
		7: backoffMax, 1000: backoffMax} {
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

// TestRetryAfterIsWaitedFor: A server that limits its callers says when to come
// back (RFC 9110 §10.2.3). The provider waits that long, and no longer than
// retryAfterMax.
func TestRetryAfterIsWaitedFor(t *testing.T) {
	for _, tt := range []struct {
		header string
		want   time.Duration // until the next request
	}{
		{"3", 3 * time.Second},
		{"45", 45 * time.Second},
		{"86400", retryAfterMax},
	} {
		runInBubble(t, tt.header, func(t *testing.T) {
			idp := idptest.New()
			p := newTestProvider(t, idp, nil)
			p.refresher.leeway = 10 * time.Minute
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
	}
}

// TestTransientErrorsAreRetriedInTheFlight: A caller without a token would get
// the error. Three attempts in 30 s spare them most of what passes, but the
// flight does not wait for a Retry-After beyond its end.
func TestTransientErrorsAreRetriedInTheFlight(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Fault(idptest.Status(503), idptest.Hang)
		if _, d := get(t, p); d < 11*time.Second || d > 14*time.Second {
			t.Errorf("third attempt succeeded after %v, want 10 s for the hang and 1.5 to 3 s of back-off",
				d)
		}
		wantRequests(t, idp, 3)
	})
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Always(idptest.Hang)
		var err error
		d := elapse(func() { _, err = p.Token(t.Context()) })
		if d != silentLimit || !errors.Is(err, context.DeadlineExceeded) ||
			!strings.Contains(err.Error(), "to idp.test: no answer in time") {
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

// TestRetryAfterIsBounded: A Retry-After of hours is held to retryAfterMax,
// even where no deadline of a context ends the wait.
func TestRetryAfterIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := elapse(func() {
			retry(t.Context(), 2, func() error { return transient{&OAuthError{RetryAfter: 7 * time.Hour}} })
		})
		if d != retryAfterMax {
			t.Errorf("waited %v", d)
		}
	})
}

// TestWaitsGrowWithinAFlight: Each failure doubles the wait, and not the first
// one alone.
func TestWaitsGrowWithinAFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		failure := errors.New("x")
		n, err := retry(t.Context(), 5, func() error {
			at = append(at, time.Now())
			return transient{failure}
		})
		if n != 5 || len(at) != 5 || !errors.Is(err, failure) {
			t.Fatalf("%d tries, %d calls: %v", n, len(at), err)
		}
		for i := 1; i < len(at); i++ {
			longest := time.Second << (i - 1)
			if gap := at[i].Sub(at[i-1]); gap < longest/2 || gap > longest {
				t.Errorf("wait %d is %v, want %v to %v", i, gap, longest/2, longest)
			}
		}
	})
}

// TestNoRetryFollowsTheEndOfTheContext: Callers who leave during the wait end
// it, and nothing is sent for them.
func TestNoRetryFollowsTheEndOfTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		calls := 0
		var n int
		d := elapse(func() {
			n, _ = retry(ctx, 3, func() error { calls++; return transient{errors.New("x")} })
		})
		if calls != 1 || n != 1 || d != time.Millisecond {
			t.Errorf("%d calls, %d tries, %v", calls, n, d)
		}
	})
}
