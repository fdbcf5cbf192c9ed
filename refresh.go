package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// This file is the engine that all flows share: it decides when a token is handed out, when it is refreshed, who waits for that,
// and how long. What a refresh does is the flow's business.
//
// By what is left of a token's lifetime, a caller of Token gets
//
//	more than the leeway      the token: no lock, no allocation
//	less than the leeway      the token, while one flight refreshes it
//	less than a third of it   the flight's result, waited for until a second before expiry
//	nothing                   the flight's result
//
// A flight is one refresh: at most one is under way per provider, it belongs to no caller, and no goroutine or timer is left when
// it has landed.

const (
	silentLimit   = 30 * time.Second // a flight in which nobody is asked
	askLimit      = 15 * time.Minute // the part of a flight in which somebody is
	backoffMin    = 500 * time.Millisecond
	backoffMax    = 30 * time.Second
	retryAfterMax = time.Minute      // what a server may ask for
	renewGapMin   = 10 * time.Second // between renewals that Invalidate causes …
	renewGapMax   = 10 * time.Minute // … doubling to this while renewed tokens keep being refused
	lastMoment    = time.Second      // before expiry, when waiting for something better ends

	maxLife = 100 * 365 * 24 * time.Hour // of a token: beyond, time would overflow
)

// ErrSignInRequired says that a person would have to be asked, and nobody may be (see [WithoutInteraction]) or nobody can be.
var ErrSignInRequired error = errors.New("cdfauth: sign-in required")

type noInteraction struct{}

// WithoutInteraction marks ctx so that a Token call under it never waits for a person: when no token is to be had without one, it
// returns [ErrSignInRequired]. It binds this caller alone; others may be asked meanwhile.
func WithoutInteraction(ctx context.Context) context.Context {
	if ctx == nil {
		ctx = context.Background()
	}
	return context.WithValue(ctx, noInteraction{}, true)
}

func mayAsk(ctx context.Context) bool { return ctx.Value(noInteraction{}) != true }

// issued is a token as a flow got it, and what only the engine needs to know.
type issued struct {
	token   Token
	sent    time.Time // when it was asked for: its lifetime counts from then
	refresh time.Time // when the server would like it refreshed (refresh_in); zero if it did not say
}

// held is the current token with the moments, in Unix nanoseconds of the wall clock, at which its treatment changes. It is never
// changed, only replaced.
type held struct {
	fresh   int64 // from here on refreshed in the background
	urgent  int64 // from here on callers wait for that
	dead    int64 // from here on not handed out
	token   Token
	refused bool // by Invalidate; fresh is then long past
}

func hold(i issued, leeway time.Duration) *held {
	life := min(i.token.Expiry().Sub(i.sent), maxLife)
	if life <= 0 {
		return &held{token: i.token}
	}
	dead := i.sent.Add(life)
	leeway = min(leeway, life/2) // or a short-lived token would be stale on arrival
	fresh := dead.Add(-leeway)
	if asked := i.sent.Add(max(i.refresh.Sub(i.sent), leeway)); !i.refresh.IsZero() && asked.Before(fresh) {
		fresh = asked // but a server cannot ask for a request per call
	}
	return &held{fresh.UnixNano(), dead.Add(-leeway / 3).UnixNano(), dead.UnixNano(), i.token, false}
}

// refuse takes h off the hot path.
func (h *held) refuse() { h.fresh, h.refused = 0, true }

func (h *held) valid(now int64) bool { return h != nil && now < h.dead }

// flight is one refresh. Its result is set before done is closed.
type flight struct {
	pause time.Duration // before it takes off
	done  chan struct{} // closed when it has landed
	asks  chan struct{} // closed when it begins to ask a person
	token Token
	err   error

	// Under engine.mu:
	askers int                // callers who have no token and may be asked
	stop   context.CancelFunc // ends the asking when the last of them has left
	over   bool               // it was called
}

var errNobodyWaits = errors.New("cdfauth: everybody who waited for the sign-in has left")

// engine hands out tokens for one provider.
type engine struct {
	current atomic.Pointer[held]

	// Set by the constructor and then left alone.
	flow   string
	leeway time.Duration
	logger *slog.Logger
	now    func() time.Time // the wall clock; all else is timed by the monotonic one
	silent func(context.Context) (issued, error)
	ask    func(context.Context) (issued, error) // nil: the flow has nobody to ask

	mu        sync.Mutex
	flight    *flight
	failures  int       // flights that failed since one succeeded
	retryAt   time.Time // no flight for the sake of a valid token before this
	refusals  int       // refused tokens since one was replaced unrefused
	renewedAt time.Time // when Invalidate last caused a flight
	refused   Token     // the last one refused: not to be taken from a cache again
}

func newEngine(flow string, o Options) *engine {
	e := &engine{flow: flow, leeway: o.Leeway, logger: o.Logger, now: time.Now}
	if e.leeway == 0 {
		e.leeway = DefaultLeeway
	}
	return e
}

// Token is the hot path: an atomic load and a look at the clock.
func (e *engine) Token(ctx context.Context) (Token, error) {
	if h := e.current.Load(); h != nil && e.now().UnixNano() < h.fresh {
		return h.token, nil
	}
	if ctx == nil {
		return Token{}, errors.New("cdfauth: Token was called with a nil context")
	}
	return e.wait(ctx)
}

// wait is the rest of Token: it starts a flight if one is due, and waits if the caller has to.
func (e *engine) wait(ctx context.Context) (Token, error) {
	for {
		e.mu.Lock()
		h, now := e.current.Load(), e.now().UnixNano()
		valid := h.valid(now)
		mustWait := !valid || h.refused || now >= h.urgent
		if mustWait && ctx.Err() != nil {
			e.mu.Unlock()
			return Token{}, ctx.Err()
		}
		f, mine := e.flight, false
		if f == nil && e.due(h, now) {
			f, mine = e.launch(h), true
		}
		asker := !valid && mayAsk(ctx)
		if asker {
			f.askers++
		}
		e.mu.Unlock()
		if mine {
			// The flight keeps the values of the ctx that it starts under (for tracing), but not its end. A caller who could not
			// leave anyway makes it himself, which saves a third of a token request's overhead.
			if free := context.WithoutCancel(ctx); !valid && e.ask == nil && ctx.Done() == nil {
				e.fly(free, f)
			} else {
				go e.fly(free, f)
			}
		}
		if valid && (f == nil || !mustWait) {
			return h.token, nil
		}

		// Those who have a token, or must not wait for a person, leave when the flight begins to ask; those who have one also
		// before it expires.
		asks := f.asks
		if asker {
			asks = nil
		}
		var last <-chan time.Time
		landed := true
		if valid {
			timer := time.NewTimer(time.Duration(h.dead-now) - lastMoment)
			defer timer.Stop()
			last = timer.C
		}
		select {
		case <-f.done:
		case <-asks:
			if !valid {
				return Token{}, ErrSignInRequired
			}
			landed = false
		case <-last:
			landed = false
		case <-ctx.Done():
			if asker {
				e.leave(f)
			}
			return Token{}, ctx.Err()
		}

		switch {
		case !landed && h.valid(e.now().UnixNano()):
			return h.token, nil
		case !landed:
			continue // the wall clock has jumped
		case f.err == nil && !mine && f.token.Expiry().IsZero():
			continue // a token without an expiry is asked for on every call
		case f.err == nil:
			return f.token, nil
		case h.valid(e.now().UnixNano()):
			return h.token, nil // a failed refresh takes no valid token away
		case f.err == errNobodyWaits:
			continue // this caller came when the others had just left
		case asker && f.asks != nil && f.stop == nil && errors.Is(f.err, ErrSignInRequired):
			continue // or when it had just been found that nobody was there to ask
		default:
			return Token{}, f.err
		}
	}
}

// due reports whether a flight may start now. Without a token one always may: it waits out the back-off itself. Called with e.mu
// held.
func (e *engine) due(h *held, now int64) bool {
	switch {
	case !h.valid(now):
		return true
	case time.Now().Before(e.retryAt):
		return false
	case h.refused:
		// From the second refusal in a row on the gap doubles.
		gap := min(renewGapMin<<min(max(e.refusals-2, 0), 10), renewGapMax)
		return e.renewedAt.IsZero() || time.Since(e.renewedAt) >= gap
	default:
		return now >= h.fresh
	}
}

// launch prepares a flight, which the caller is to start. Called with e.mu held.
func (e *engine) launch(h *held) *flight {
	f := &flight{done: make(chan struct{})}
	if e.ask != nil {
		f.asks = make(chan struct{})
	}
	if h != nil && h.refused {
		e.renewedAt = time.Now()
	}
	if e.failures >= 2 { // the first failure may have been an accident
		f.pause = time.Until(e.retryAt)
	}
	e.flight = f
	return f
}

// fly is a flight: the silent phase and, if a caller without a token permits it, the one in which a person is asked.
func (e *engine) fly(ctx context.Context, f *flight) {
	var got issued
	err := errors.New("cdfauth: the refresh ended its goroutine") // if something calls runtime.Goexit
	defer func() {
		if err != nil {
			e.warn(ctx, err)
		}
		e.land(f, got, err)
	}()
	if f.pause > 0 {
		<-time.After(f.pause)
	}
	// Nobody is asked in the silent phase by a provider within this one either.
	got, err = phase(WithoutInteraction(ctx), silentLimit, e.silent)
	if errors.Is(err, ErrSignInRequired) && e.ask != nil {
		ctx, cancel := context.WithCancel(context.WithValue(ctx, noInteraction{}, false))
		defer cancel()
		e.mu.Lock()
		asking := f.askers > 0
		if asking {
			f.stop = cancel
			close(f.asks)
		}
		e.mu.Unlock()
		if asking {
			got, err = phase(ctx, askLimit, e.ask)
		}
	}
}

// phase runs one phase of a flight under its deadline. A panic in it, in a caller's HTTPClient or Logger say, must not end the
// program.
func phase(ctx context.Context, limit time.Duration, do func(context.Context) (issued, error)) (got issued, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = panicked("refresh", p)
		}
	}()
	return do(ctx)
}

// leave counts out a caller who might have been asked. The last one to leave ends the asking; what follows an answer that has
// arrived is the flow's, and no longer ends with ctx.
func (e *engine) leave(f *flight) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f.askers--; f.askers == 0 && f.stop != nil {
		f.over = true
		f.stop()
	}
}

// land settles what a flight has brought.
func (e *engine) land(f *flight, got issued, err error) {
	e.mu.Lock()
	h, now := e.current.Load(), e.now().UnixNano()
	valid := h.valid(now)
	if err == nil {
		e.failures, e.retryAt = 0, time.Time{}
	}
	switch next := hold(got, e.leeway); {
	case err == nil && got.token.Expiry().IsZero():
		// Not kept.
	case err == nil && next.valid(now):
		switch {
		case e.isRefused(got.token): // the server gave out again what was refused: leave it alone for longer
			e.refusals++
			next.refuse()
		case h != nil && !h.refused:
			e.refusals = 0
		}
		e.current.Store(next)
	case err == nil && valid:
		e.retryAt = time.Now().Add(backoff(1)) // expired on arrival, while there is a better one
		got.token = h.token
	case err == nil:
		// Expired on arrival: for those who waited, and for nobody later.
	case f.over:
		err = errNobodyWaits
	default:
		if !errors.Is(err, ErrSignInRequired) { // which is an answer, and must not delay a sign-in
			e.failures++
		}
		e.retryAt = time.Now().Add(max(backoff(max(e.failures, 1)), min(askedFor(err), retryAfterMax)))
	}
	f.token, f.err = got.token, err
	e.flight = nil
	e.mu.Unlock()
	close(f.done)
}

// warn logs a refresh that failed while there is a valid token: nobody else is told.
func (e *engine) warn(ctx context.Context, err error) {
	defer func() { _ = recover() }() // a Logger that panics must not keep the flight from landing
	if h := e.current.Load(); e.logger != nil && h.valid(e.now().UnixNano()) {
		e.logger.LogAttrs(ctx, slog.LevelWarn, "cdfauth: refresh failed, the current token serves on", slog.String("flow", e.flow),
			slog.Any("error", err), slog.Time("expiry", h.token.Expiry()))
	}
}

// isRefused reports whether t is the token that Invalidate was last told of. Called with e.mu held.
func (e *engine) isRefused(t Token) bool {
	return e.refused.data != nil && t.AccessToken() == e.refused.AccessToken()
}

// wasRefused is isRefused for those who look into a cache: that very token is not taken from there again.
func (e *engine) wasRefused(t Token) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.isRefused(t)
}

// backoff is how long to wait after the nth failure: doubling, with jitter, so that many programs do not return to a server that
// was down all at once.
func backoff(n int) time.Duration {
	d := min(2*backoffMin<<min(n-1, 10), backoffMax)
	return d/2 + rand.N(d/2+1)
}

// Invalidate forgets t if it is the current token: the next call of Token gets another, but no more often than the limits above
// permit. Until then, and if that fails, t serves until it expires.
func (e *engine) Invalidate(t Token) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.current.Load()
	if h == nil || h.refused || h.token.AccessToken() != t.AccessToken() {
		return
	}
	e.refusals++
	e.refused = h.token
	old := *h
	old.refuse()
	e.current.Store(&old)
}

// guard calls a function that is not ours. A panic in it becomes an error that names it; if it ignores its context, it is abandoned
// and its result lost.
func guard[T any](ctx context.Context, name string, f func(context.Context) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	c := make(chan result, 1)
	go func() {
		var r result
		returned := false
		defer func() {
			if p := recover(); p != nil {
				r.err = panicked(name, p)
			} else if !returned {
				r.err = errors.New("cdfauth: " + name + " ended its goroutine") // runtime.Goexit
			}
			c <- r
		}()
		if r.value, r.err = f(ctx); r.err != nil {
			r.err = fmt.Errorf("cdfauth: %s: %w", name, r.err)
		}
		returned = true
	}()
	select {
	case r := <-c:
		return r.value, r.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("cdfauth: %s did not return in time: %w", name, ctx.Err())
	}
}

// panicked leaves out the value unless the runtime made it: it could be a secret.
func panicked(name string, p any) error {
	if e, ok := p.(runtime.Error); ok {
		return fmt.Errorf("cdfauth: %s panicked: %w", name, e)
	}
	return fmt.Errorf("cdfauth: %s panicked with a %T", name, p)
}
