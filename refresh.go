//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// This file is the engine that all flows share: it decides when a token is handed out, when it is refreshed, who waits for that, and how long. What a refresh
// does is the flow's business. By what is left of a token's lifetime, a caller of Token gets
//
//	more than the leeway      the token: no lock, no allocation
//	less than the leeway      the token, while one flight refreshes it
//	less than a third of it   the flight's result, waited for until a second before expiry
//	nothing                   the flight's result
//
// A flight is one refresh: at most one is under way per provider, it belongs to no caller, and no goroutine or timer is left when it has landed.

const silentLimit = 30 * time.Second // the part of a flight in which nobody is asked

const askLimit = 15 * time.Minute // the part of a flight in which somebody is asked

const renewGapMin, renewGapMax = 10 * time.Second, 10 * time.Minute // between renewals that Invalidate causes, doubling while renewed tokens keep being refused

const lastMoment = time.Second // before expiry, when waiting for something better ends

// ErrSignInRequired says that a person would have to be asked, and nobody may be (see [WithoutInteraction]) or nobody can be.
var ErrSignInRequired error = errors.New("cdfauth: sign-in required")

type noInteraction struct{}

// WithoutInteraction marks ctx: Token never waits for a person under it, but returns [ErrSignInRequired] if no token is to be had otherwise. It binds this caller alone.
func WithoutInteraction(ctx context.Context) context.Context {
	return context.WithValue(cmp.Or(ctx, context.Background()), noInteraction{}, true)
}

type cachedToken struct { // the current token with the moments, in Unix nanoseconds of the wall clock, at which its treatment changes. It is only ever replaced.
	fresh  int64 // from here on refreshed in the background; 0 once Invalidate has refused it, which takes it off the hot path
	urgent int64 // from here on callers wait for that
	dead   int64 // from here on not handed out
	token  Token
}

func newCachedToken(i grant, leeway time.Duration) *cachedToken {
	life := min(i.token.Expiry().Sub(i.sent), maxLife)
	if life <= 0 {
		return &cachedToken{token: i.token}
	}
	leeway = min(leeway, life/2) // or a short-lived token would be stale on arrival
	dead, fresh := i.sent.Add(life), i.sent.Add(life-leeway)
	if asked := i.sent.Add(max(i.refresh.Sub(i.sent), leeway)); !i.refresh.IsZero() && asked.Before(fresh) {
		fresh = asked // but a server cannot ask for a request per call
	}
	return &cachedToken{fresh.UnixNano(), dead.Add(-leeway / 3).UnixNano(), dead.UnixNano(), i.token}
}

func (h *cachedToken) refused() bool { return h != nil && h.fresh == 0 }

func (h *cachedToken) valid(now int64) bool { return h != nil && now < h.dead }

type flight struct { // one refresh. Its result is set before done is closed.
	pause      time.Duration // before it takes off
	done, asks chan struct{} // closed when it has landed, and when it begins to ask a person
	token      Token
	err        error
	session    int64              // engine's, when it was launched. This and what follows is under engine.mu.
	askers     int                // callers who have no token and may be asked
	stop       context.CancelFunc // ends the asking when the last of them has left
	over       bool               // it was called
}

var errNobodyWaits, errSignedOut = errors.New("cdfauth: everybody who waited for the sign-in has left"), errors.New("cdfauth: SignOut was called while the token was on its way")

type refresher struct {
	current     atomic.Pointer[cachedToken]
	flow        string // this and what follows, up to mu, is set by the constructor and then left alone
	leeway      time.Duration
	logger      *slog.Logger
	clock       clock
	silent, ask func(context.Context) (grant, error) // ask is nil if the flow has nobody to ask
	mu          sync.Mutex
	flight      *flight
	failures    int                   // flights that failed since one succeeded
	retryAt     time.Time             // no flight for the sake of a valid token before this
	refusals    int                   // refused tokens since one was replaced unrefused
	renewedAt   time.Time             // when Invalidate last caused a flight
	session     atomic.Int64          // counts sign-outs; written under mu
	refused     atomic.Pointer[Token] // the last one that Invalidate was told of: not to be taken from a cache again; written under mu
}

func newRefresher(flow string, o Options) *refresher {
	return &refresher{flow: flow, leeway: cmp.Or(o.Leeway, DefaultLeeway), logger: o.Logger}
}

func (e *refresher) Token(ctx context.Context) (Token, error) { // the hot path: an atomic load and a look at the clock
	if h := e.current.Load(); h != nil && e.clock.now().UnixNano() < h.fresh {
		return h.token, nil
	}
	if ctx == nil {
		return Token{}, errors.New("cdfauth: Token was called with a nil context")
	}
	return e.wait(ctx)
}

func (e *refresher) wait(ctx context.Context) (Token, error) { // the rest of Token: it starts a flight if one is due, and waits if the caller has to
	for {
		e.mu.Lock()
		h, now := e.current.Load(), e.clock.now().UnixNano()
		valid := h.valid(now)
		mustWait, asker := !valid || h.refused() || now >= h.urgent, !valid && ctx.Value(noInteraction{}) != true
		if mustWait && ctx.Err() != nil {
			e.mu.Unlock()
			return Token{}, ctx.Err()
		}
		f, mine, session := e.flight, false, e.session.Load()
		if f == nil && e.due(h, now) {
			f, mine = &flight{done: make(chan struct{}), session: session}, true
			if e.flight = f; e.ask != nil {
				f.asks = make(chan struct{})
			}
			if h.refused() {
				e.renewedAt = time.Now()
			}
			if e.failures >= 2 { // the first failure may have been an accident
				f.pause = time.Until(e.retryAt)
			}
		}
		if asker {
			f.askers++
		}
		e.mu.Unlock()
		// The flight keeps the values of ctx (for tracing), but not its end. A caller who could not leave anyway makes it himself, which is cheaper.
		if mine && !valid && e.ask == nil && ctx.Done() == nil {
			e.fly(context.WithoutCancel(ctx), f) // without its deadline too, which may be there all the same and would keep the flight's from being set
		} else if mine {
			go e.fly(context.WithoutCancel(ctx), f)
		}
		if valid && (f == nil || !mustWait) {
			return h.token, nil
		}
		// Those who have a token, or must not wait for a person, leave when the flight begins to ask; those who have one also before it expires.
		asks, last, landed := f.asks, (<-chan time.Time)(nil), true
		if asker {
			asks = nil
		}
		if valid {
			last = time.After(time.Duration(h.dead-now) - lastMoment)
		}
		select {
		case <-f.done:
		case <-asks:
			landed = false
		case <-last:
			landed = false
		case <-ctx.Done():
			if asker {
				e.leave(f)
			}
			return Token{}, ctx.Err()
		}
		switch { // what returns nothing has another look
		case !landed && !valid: // so a person is asked
			return Token{}, ErrSignInRequired
		case landed && f.err == nil && (mine || !f.token.Expiry().IsZero()):
			return f.token, nil
		case (!landed || f.err != nil) && h.valid(e.clock.now().UnixNano()):
			return h.token, nil // a failed refresh takes no valid token away
		case !landed, f.err == nil: // the wall clock has jumped, or the token has no expiry: such are asked for on every call
		case f.err == errNobodyWaits, f.err == errSignedOut && f.session != session: // this caller came when the others had just left, or had been signed out,
		case asker && f.asks != nil && f.stop == nil && errors.Is(f.err, ErrSignInRequired): // or when it had just been found that nobody was there to ask
		default:
			return Token{}, f.err
		}
	}
}

func (e *refresher) due(h *cachedToken, now int64) bool { // reports whether a flight may start now. Without a token one always may: it waits out the back-off itself. Called with e.mu held.
	switch {
	case !h.valid(now):
		return true
	case time.Now().Before(e.retryAt):
		return false
	case h.refused():
		return time.Since(e.renewedAt) >= min(renewGapMin<<min(max(e.refusals-2, 0), 10), renewGapMax) // doubles from the second refusal in a row on
	}
	return now >= h.fresh
}

// fly is a flight: the silent phase and, if a caller without a token permits it, the one that asks a person. A panic must not end the program.
func (e *refresher) fly(ctx context.Context, f *flight) {
	var got grant
	err := errors.New("cdfauth: the refresh ended its goroutine") // if something calls runtime.Goexit
	defer func() {
		defer func() {
			_ = recover() // of a Logger
			e.land(f, got, err)
		}()
		if h := e.current.Load(); err != nil && e.logger != nil && h.valid(e.clock.now().UnixNano()) { // nobody else is told
			e.logger.LogAttrs(ctx, slog.LevelWarn, "cdfauth: refresh failed, the current token serves on", slog.String("flow", e.flow),
				slog.Any("error", err), slog.Time("expiry", h.token.Expiry()))
		}
	}()
	defer recovered("refresh", &err)
	if f.pause > 0 {
		sleep(ctx, f.pause)
	}
	quiet, cancel := context.WithTimeout(WithoutInteraction(ctx), silentLimit) // nor does a provider within this one ask
	defer cancel()
	if got, err = e.silent(quiet); !errors.Is(err, ErrSignInRequired) || e.ask == nil {
		return
	}
	ctx, stop := context.WithTimeout(context.WithValue(ctx, noInteraction{}, false), askLimit)
	defer stop()
	e.mu.Lock()
	if f.askers > 0 && f.session == e.session.Load() {
		f.stop = stop
		close(f.asks)
	}
	e.mu.Unlock()
	if f.stop != nil {
		got, err = e.ask(ctx)
	}
}

func (e *refresher) leave(f *flight) { // counts out a caller who might have been asked. The last one ends the asking, but no longer what follows an answer that has arrived.
	e.mu.Lock()
	defer e.mu.Unlock()
	if f.askers--; f.askers == 0 && f.stop != nil {
		f.over = true
		f.stop()
	}
}

func (e *refresher) land(f *flight, got grant, err error) {
	e.mu.Lock()
	h, now := e.current.Load(), e.clock.now().UnixNano()
	if f.session != e.session.Load() {
		got, err = grant{}, errSignedOut
	}
	if err == nil {
		e.failures, e.retryAt = 0, time.Time{}
	}
	switch next := newCachedToken(got, e.leeway); {
	case err == nil && got.token.Expiry().IsZero(): // not kept
	case err == nil && next.valid(now):
		switch {
		case e.isRefused(got.token): // the server gave out again what was refused: leave it alone for longer
			e.refusals++
			next.fresh = 0
		case h != nil && !h.refused():
			e.refusals = 0
		}
		e.current.Store(next)
	case err == nil && h.valid(now):
		e.retryAt = time.Now().Add(backoff(1)) // expired on arrival, while there is a better one
		got.token = h.token
	case err == nil: // expired on arrival: for those who waited, and for nobody later
	case f.over && f.session == e.session.Load():
		err = errNobodyWaits
	default:
		if oe := (*OAuthError)(nil); !errors.Is(err, ErrSignInRequired) || errors.As(err, &oe) { // else it is an answer, and must not delay a sign-in
			e.failures++
		}
		e.retryAt = time.Now().Add(max(backoff(max(e.failures, 1)), min(retryAfter(err), retryAfterMax)))
	}
	f.token, f.err = got.token, err
	e.flight = nil
	e.mu.Unlock()
	close(f.done)
}

func (e *refresher) isRefused(t Token) bool {
	return t.AccessToken() == cmp.Or(e.refused.Load(), new(Token)).AccessToken()
}

// Invalidate forgets t if it is the current token: the next call of Token gets another, within the limits above. Until then, and if that fails, t serves until it expires.
func (e *refresher) Invalidate(t Token) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.current.Load()
	if h == nil || h.refused() || h.token.AccessToken() != t.AccessToken() {
		return
	}
	e.refusals++
	e.refused.Store(&h.token)
	e.current.Store(&cachedToken{0, h.urgent, h.dead, h.token})
}

func (e *refresher) forget() { // drops what is in memory. A flight that is under way lands without its token, one that asks a person at once.
	e.mu.Lock()
	defer e.mu.Unlock()
	e.session.Add(1)
	e.current.Store(nil)
	e.refused.Store(nil)
	e.failures, e.retryAt, e.refusals, e.renewedAt = 0, time.Time{}, 0, time.Time{}
	if e.flight != nil && e.flight.stop != nil {
		e.flight.stop()
	}
}
