//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestFuncProviderKeepsATokenUntilTheLeeway: A token with an expiry is kept
// until DefaultLeeway before it. For one without, the function is called by
// each caller. It is never called twice at the same time, since the caller's
// code may not be made for it.
func TestFuncProviderKeepsATokenUntilTheLeeway(t *testing.T) {
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
			t.Errorf("without an expiry: %d calls for 50 callers, %d at once; want 50, one at a time",
				calls.Load(), peak.Load())
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

// TestTokenFunctionThatHangsIsNotOvertaken: A function that ignores its context may
// still be running when its callers have got their error. It is not called a second
// time before it has returned.
func TestTokenFunctionThatHangsIsNotOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var inside, peak atomic.Int64
		p, _ := NewFuncProvider(func(ctx context.Context) (Token, error) {
			peak.Store(max(peak.Load(), inside.Add(1)))
			defer inside.Add(-1)
			time.Sleep(time.Minute)
			return NewToken("late", time.Time{})
		})
		for range 3 {
			if _, err := p.Token(t.Context()); err == nil ||
				!strings.Contains(err.Error(), "token function did not return in time") {
				t.Errorf("got %v", err)
			}
		}
		time.Sleep(time.Hour)
		if peak.Load() != 1 {
			t.Errorf("%d calls at once", peak.Load())
		}
	})
}

// TestZeroTokenOfAFunctionIsAnError: A function that returns neither a token nor an
// error has a bug. Without the error, requests would be sent without credentials.
func TestZeroTokenOfAFunctionIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := NewFuncProvider(func(context.Context) (Token, error) { return Token{}, nil })
		if _, err := p.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "zero Token") {
			t.Errorf("got %v", err)
		}
	})
}

// TestWithoutInteractionReachesTheProviderWithin: A function may call another
// provider. That provider asks a person, who may take minutes, only if a caller
// may be asked; the caller who started the flight does not decide for the others.
func TestWithoutInteractionReachesTheProviderWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := newPerson()
		outer, _ := NewFuncProvider(inner.Token)
		if _, err := outer.Token(WithoutInteraction(t.Context())); !errors.Is(err, ErrSignInRequired) ||
			inner.asked != 0 {
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
