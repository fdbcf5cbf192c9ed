//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// This file is a flight: one refresh, from its launch to its landing. A flight belongs
// to no caller. Its contexts have the values of the caller that launched it, for
// tracing, but deadlines of their own. It has a silent phase and, if a caller without a
// token permits it, a phase that asks a person. A flight that has landed leaves neither
// a goroutine nor a timer.

// The longest that the phases of a flight may take.
const (
	silentLimit = 30 * time.Second
	askLimit    = 15 * time.Minute
)

// A phase is one way in which a flight gets a token: silently, or by asking a person.
type phase = func(context.Context) (grant, error)

// A flight is one refresh.
type flight struct {
	pause   time.Duration // how long it waits before its silent phase
	session int64         // refresher.session when it was made

	// asking is closed when the flight begins to ask a person. why is the error of its
	// silent phase, which made that necessary. It is set before asking is closed.
	asking chan struct{}
	why    error

	// done is closed when the flight has landed. token and err are its result, and are set
	// before.
	done  chan struct{}
	token Token
	err   error

	// Of the fields below, refresher.mu is the mutex.
	askers    int                // how many callers wait for whose sake a person may be asked
	stop      context.CancelFunc // ends the phase that asks; nil until that begins
	abandoned bool               // all askers have left, and stop was called
}

// The errors of a flight that do not come from its phases.
var (
	errNobodyWaits   = errors.New("cdfauth: everybody who waited for the sign-in has left")
	errSignedOut     = errors.New("cdfauth: SignOut was called while the token was on its way")
	errRefreshExited = errors.New("cdfauth: the refresh ended its goroutine")
)

// newFlight returns a flight, which its caller has to pass to launch. The caller holds
// r.mu.
func (r *refresher) newFlight(current *cachedToken) *flight {
	f := &flight{
		session: r.session.Load(),
		asking:  make(chan struct{}),
		done:    make(chan struct{}),
	}
	if current != nil && current.refused {
		r.renewedAt = time.Now()
	}
	if r.mustPause {
		f.pause = time.Until(r.retryAt)
	}
	return f
}

// launch starts a flight, in a goroutine of its own, since its callers may leave. If the
// caller cannot leave and no person can be asked, launch makes the flight itself, which
// is cheaper, and returns when it has landed.
func (r *refresher) launch(ctx context.Context, w *waiter) {
	cannotLeave := ctx.Done() == nil
	// WithoutCancel also removes the deadline. A context may have one and still never end.
	ctx = context.WithoutCancel(ctx)
	if !w.valid && r.ask == nil && cannotLeave {
		r.fly(ctx, w.flight)
		return
	}
	go r.fly(ctx, w.flight)
}

// fly makes a flight. The flight lands whatever happens in it: the caller's functions,
// those of its Logger among them, may panic or call runtime.Goexit.
func (r *refresher) fly(ctx context.Context, f *flight) {
	var got grant
	err := errRefreshExited
	defer func() {
		_ = recover()
		if r.cleanup != nil {
			r.cleanup(r.session.Load() != f.session)
		}
		r.land(f, got, err)
	}()
	if f.pause > 0 {
		sleep(ctx, f.pause)
	}
	got, err = r.refresh(ctx, f)
	r.logRefresh(ctx, got, err)
}

// refresh gets a token silently, if that is possible. Otherwise it asks a person, if a
// caller waits for whose sake that is permitted.
func (r *refresher) refresh(ctx context.Context, f *flight) (got grant, err error) {
	defer recovered("refresh", &err)
	// A FuncProvider's function may use other providers. They must not ask either.
	silently, cancel := context.WithTimeout(WithoutInteraction(ctx), silentLimit)
	defer cancel()
	got, err = r.silent(silently)
	if r.ask == nil || !errors.Is(err, ErrSignInRequired) {
		return got, err
	}
	asking, stop := context.WithTimeout(context.WithValue(ctx, interactionKey{}, false), askLimit)
	defer stop()
	f.why = err
	if !r.beginAsking(f, stop) {
		return got, err
	}
	return r.ask(asking)
}

// beginAsking wakes the callers that do not wait for a person. It reports false if the
// flight must not ask: no other callers wait, or somebody has signed out.
func (r *refresher) beginAsking(f *flight, stop context.CancelFunc) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f.askers == 0 || f.session != r.session.Load() {
		return false
	}
	f.stop = stop
	close(f.asking)
	return true
}

// leave takes a caller out of askers. When the last one has left, leave ends the phase
// that asks. If the person has answered by then, the flow goes on all the same: see
// promptRequest.answered.
func (r *refresher) leave(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.askers--
	if f.askers == 0 && f.stop != nil {
		f.abandoned = true
		f.stop()
	}
}

// land ends a flight. It keeps the token that the flight has brought, and wakes the
// callers who wait with the result.
func (r *refresher) land(f *flight, got grant, err error) {
	r.mu.Lock()
	switch {
	case f.session != r.session.Load():
		f.err = errSignedOut
	case err != nil && f.abandoned:
		f.err = errNobodyWaits
	case err != nil:
		f.err = err
		r.countFailure(err)
	default:
		f.token = r.keep(got)
	}
	r.flight = nil
	r.mu.Unlock()
	close(f.done)
}

// countFailure works out when the next flight may start. ErrSignInRequired does not count
// as a failure, so that it does not delay the sign-in, unless it wraps an answer of the
// provider. The caller holds r.mu.
func (r *refresher) countFailure(err error) {
	var answered *OAuthError
	if !errors.Is(err, ErrSignInRequired) || errors.As(err, &answered) {
		r.failures++
	}
	asked := min(retryAfter(err), retryAfterMax)
	r.backOff(asked)
}

// backOff sets when the next flight may start that replaces a valid token: after the
// back-off, or after the time that the server asked for if that is longer. A flight for
// callers without a token does not wait for that after a single failure, which may have
// been an accident. It does from the second failure on, or if the server asked for it.
// The caller of backOff holds r.mu.
func (r *refresher) backOff(asked time.Duration) {
	pause := max(backoff(max(r.failures, 1)), asked)
	r.retryAt = time.Now().Add(pause)
	r.mustPause = r.failures >= 2 || asked > 0
}

// keep makes the token of a flight the current one, if it has an expiry and has not
// expired. It returns the token for the callers who wait. The caller of keep holds r.mu.
func (r *refresher) keep(got grant) Token {
	now := r.clock.moment()
	current := r.current.Load()
	next := newCachedToken(got, r.leeway, now)
	if !got.token.Expiry().IsZero() && !next.valid(now) {
		// As after a failure, the next flights wait. Otherwise each call of Token would
		// send a request.
		r.failures++
		r.backOff(0)
		if current.valid(now) {
			return current.token
		}
		return got.token // for those who wait, and for nobody later
	}
	r.failures = 0
	r.retryAt = time.Time{}
	r.mustPause = false
	if got.token.Expiry().IsZero() {
		return got.token
	}
	switch {
	case r.isRefused(got.token):
		// The server has issued the refused token once more. Ask it less often.
		r.refusals++
		next.refused = true
		next.fresh = moment{}
	case current != nil && !current.refused:
		r.refusals = 0
	}
	r.current.Store(next)
	return got.token
}

// logRefresh logs what Token does not return: that a refresh has failed while the current
// token is still valid, and that the provider has issued a token that had expired.
func (r *refresher) logRefresh(ctx context.Context, got grant, err error) {
	if r.logger == nil {
		return
	}
	now := r.clock.moment()
	current := r.current.Load()
	switch {
	case err != nil && current.valid(now):
		r.logger.LogAttrs(ctx, slog.LevelWarn, "cdfauth: refresh failed, the current token serves on",
			slog.String("flow", r.flow),
			slog.Any("error", err),
			slog.Time("expiry", current.token.Expiry()))
	case err == nil && !got.token.Expiry().IsZero() && !newCachedToken(got, r.leeway, now).valid(now):
		r.logger.LogAttrs(ctx, slog.LevelWarn,
			"cdfauth: the token had expired when it arrived, requests for another are paced",
			slog.String("flow", r.flow),
			slog.Time("expiry", got.token.Expiry()))
	}
}
