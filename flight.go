//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// This file is a flight: one refresh, from its launch to its landing. It belongs to
// no caller: its contexts have the values of the one who launched it, for tracing,
// and ends of their own. It has a silent phase and, if a caller without a token
// permits it, one that asks a person. When it has landed, neither a goroutine nor a
// timer of it is left.

// The longest that the phases of a flight may take.
const (
	silentLimit = 30 * time.Second
	askLimit    = 15 * time.Minute
)

// A flight is one refresh. Its result, token and err, is set before done is closed.
type flight struct {
	pause   time.Duration // before it takes off
	session int64         // refresher.session at its launch
	asking  chan struct{} // closed when it begins to ask a person,
	why     error         // which is set before: why that is necessary
	done    chan struct{} // closed when it has landed
	token   Token
	err     error

	// Under refresher.mu:
	askers    int                // callers for whose sake a person may be asked
	stop      context.CancelFunc // ends the asking; nil until it begins
	abandoned bool               // all askers have left, and stop was called
}

var (
	errNobodyWaits   = errors.New("cdfauth: everybody who waited for the sign-in has left")
	errSignedOut     = errors.New("cdfauth: SignOut was called while the token was on its way")
	errRefreshExited = errors.New("cdfauth: the refresh ended its goroutine")
)

// newFlight returns a flight that launch has to start. The caller holds r.mu.
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

// launch starts a flight, in a goroutine of its own, since its callers may leave. A
// caller that cannot leave makes it itself, which is cheaper.
func (r *refresher) launch(ctx context.Context, w *waiter) {
	cannotLeave := ctx.Done() == nil
	// Without ctx's deadline too: a context may have one and never end.
	ctx = context.WithoutCancel(ctx)
	if !w.valid && r.ask == nil && cannotLeave {
		r.fly(ctx, w.flight)
		return
	}
	go r.fly(ctx, w.flight)
}

// fly makes a flight. It lands whatever happens in it: functions of the caller's,
// the Logger's among them, may panic or call runtime.Goexit.
func (r *refresher) fly(ctx context.Context, f *flight) {
	var got grant
	err := errRefreshExited
	defer func() {
		_ = recover()
		if r.cleanup != nil {
			r.cleanup()
		}
		r.land(f, got, err)
	}()
	if f.pause > 0 {
		sleep(ctx, f.pause)
	}
	got, err = r.refresh(ctx, f)
	r.logRefresh(ctx, got, err)
}

// refresh gets a token: silently if that is possible, else by asking a person if
// somebody waits for whose sake that is permitted.
func (r *refresher) refresh(ctx context.Context, f *flight) (got grant, err error) {
	defer recovered("refresh", &err)
	// Providers within this one, of a token function, must not ask either.
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

// beginAsking tells those who must not wait for a person to leave. It reports false
// if nobody else waits.
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

// leave counts out a caller for whose sake a person might be asked. The last one
// ends the asking, but not what follows an answer that has arrived: the flow has
// seen to that.
func (r *refresher) leave(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.askers--
	if f.askers == 0 && f.stop != nil {
		f.abandoned = true
		f.stop()
	}
}

// land ends a flight: it keeps what the flight has brought, and hands the result to
// those who wait.
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

// countFailure works out when the next flight may start. That nobody could be asked
// is an answer, not a failure, unless the provider has said so: it must not delay
// the sign-in. The caller holds r.mu.
func (r *refresher) countFailure(err error) {
	var answered *OAuthError
	if !errors.Is(err, ErrSignInRequired) || errors.As(err, &answered) {
		r.failures++
	}
	asked := min(retryAfter(err), retryAfterMax)
	r.backOff(asked)
}

// backOff lets the next flight for the sake of a valid token start after the
// back-off, or after what the server asked for if that is longer. Callers without a
// token are refused nothing for the sake of one failure, which may have been an
// accident: their flight pauses from the second failure on, or if the server asked
// for it. The caller holds r.mu.
func (r *refresher) backOff(asked time.Duration) {
	pause := max(backoff(max(r.failures, 1)), asked)
	r.retryAt = time.Now().Add(pause)
	r.mustPause = r.failures >= 2 || asked > 0
}

// keep makes the token of a flight the current one, if it has an expiry and has not
// expired, and returns what those who wait get. The caller holds r.mu.
func (r *refresher) keep(got grant) Token {
	now := r.clock.moment()
	current := r.current.Load()
	next := newCachedToken(got, r.leeway, now)
	if !got.token.Expiry().IsZero() && !next.valid(now) {
		// The next request is paced as after a failure: else each call would make one.
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
		// The server has given out again what was refused: leave it alone for longer.
		r.refusals++
		next.refused = true
		next.fresh = moment{}
	case current != nil && !current.refused:
		r.refusals = 0
	}
	r.current.Store(next)
	return got.token
}

// logRefresh logs what no caller is told: that a refresh has failed while the
// current token serves on, and that the provider issues tokens that have expired.
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
