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

// This file decides when a provider hands out its token, when it refreshes it, and
// which callers wait for that. All flows share it. What is left of the token's
// lifetime decides what a caller of Token gets:
//
//	more than the leeway      the token: no lock, no allocation
//	less than the leeway      the token, while one flight refreshes it
//	less than a third of it   what the flight brings, but at the latest, a second
//	                          before it expires, the token
//	nothing                   what the flight brings
//
// A flight is one refresh (flight.go). A provider has at most one at a time.

// lastMoment is how long before its expiry a token is handed out, whatever a
// caller waits for.
const lastMoment = time.Second

// minRenewalGap is the least time between two refreshes that Invalidate causes. It
// doubles with each renewed token that is refused too, up to maxRenewalGap. Otherwise an
// API that refuses every token would make its clients flood the identity provider.
const (
	minRenewalGap = 10 * time.Second
	maxRenewalGap = 10 * time.Minute
)

// ErrSignInRequired says that a person has to sign in, and that nobody may be asked
// (see [WithoutInteraction]) or nobody can be.
var ErrSignInRequired error = errors.New("cdfauth: sign-in required")

// interactionKey is the key of the mark that WithoutInteraction puts into a context. If
// its value is true, no person may be asked.
type interactionKey struct{}

// WithoutInteraction returns a context under which Token does not wait for a person:
// where somebody would have to sign in, it returns [ErrSignInRequired]. The mark
// binds the caller that passes the context, and nobody else who waits for the same
// sign-in. A nil ctx counts as [context.Background].
func WithoutInteraction(ctx context.Context) context.Context {
	if ctx == nil {
		ctx = context.Background()
	}
	return context.WithValue(ctx, interactionKey{}, true)
}

// interactionForbidden reports whether ctx has the mark of WithoutInteraction.
func interactionForbidden(ctx context.Context) bool {
	return ctx.Value(interactionKey{}) == true
}

// A refresher keeps the token of one provider.
type refresher struct {
	current atomic.Pointer[cachedToken] // nil if there is none
	clock   clock
	flow    string // for logs
	leeway  time.Duration
	logger  *slog.Logger // nil if nothing is logged

	// The constructor of the flow sets these two. silent gets a token without
	// asking anybody, or fails with ErrSignInRequired. ask may ask a person; it is
	// nil if the flow has nobody to ask.
	silent phase
	ask    phase
	// cleanup is called at the end of a flight. It closes what the phases may have left
	// open, and forgets whose tokens they have found if somebody has signed out since the
	// flight began; nil if they leave nothing.
	cleanup func(signedOut bool)

	session atomic.Int64          // the number of sign-outs; written under mu
	refused atomic.Pointer[Token] // the last token that was refused, or nil; written under mu

	mu        sync.Mutex
	flight    *flight   // the refresh that is under way; nil if there is none
	failures  int       // how many flights have failed since one succeeded
	retryAt   time.Time // until then, no flight starts to replace a valid token
	mustPause bool      // a flight for callers without a token waits until retryAt, too
	refusals  int       // how many tokens were refused in a row
	renewedAt time.Time // when Invalidate last caused a flight
}

// newRefresher returns a refresher whose phases the caller has to set.
func newRefresher(flow string, o Options) *refresher {
	return &refresher{
		clock:  clock{start: time.Now()},
		flow:   flow,
		leeway: cmp.Or(o.Leeway, DefaultLeeway),
		logger: o.Logger,
	}
}

// Token returns the provider's token. Most calls end in its first statement, at the
// cost of an atomic load and a look at the clock.
func (r *refresher) Token(ctx context.Context) (Token, error) {
	if c := r.current.Load(); c != nil && r.clock.moment().before(c.fresh) {
		return c.token, nil
	}
	return r.staleToken(ctx)
}

// staleToken is Token if there is no fresh token. It starts a flight if one is due, and
// waits for the flight if the caller has to.
func (r *refresher) staleToken(ctx context.Context) (Token, error) {
	if ctx == nil {
		return Token{}, errors.New("cdfauth: Token was called with a nil context")
	}
	for {
		w, err := r.join(ctx)
		if err != nil {
			return Token{}, err
		}
		if w.launched {
			r.launch(ctx, w)
		}
		if !w.mustWait {
			return w.current.token, nil
		}
		token, settled, err := r.settle(ctx, w, w.wait(ctx))
		if settled {
			return token, err
		}
	}
}

// A waiter is one caller of Token, and what it found when it came.
type waiter struct {
	current  *cachedToken  // the token; nil if there was none
	valid    bool          // current could be handed out
	left     time.Duration // until current expires; zero unless valid
	flight   *flight       // the flight under way; nil if there is none and none is due
	launched bool          // this caller has to launch the flight
	mustWait bool          // this caller has to wait for the flight
	askable  bool          // a person may be asked for the sake of this caller
	session  int64         // refresher.session
}

// join makes the caller one of those who wait for the flight under way. If there is none
// and one is due, the caller has to launch it. join fails if the caller would have to
// wait and its context has ended.
func (r *refresher) join(ctx context.Context) (*waiter, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.clock.moment()
	current := r.current.Load()
	w := &waiter{current: current, valid: current.valid(now), session: r.session.Load()}
	w.mustWait = true
	if w.valid {
		w.left = now.until(current.dead)
		w.mustWait = current.refused || !now.before(current.urgent)
	}
	if w.mustWait && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if r.flight == nil && r.due(current, now) {
		r.flight = r.newFlight(current)
		w.launched = true
	}
	w.flight = r.flight
	if w.flight == nil {
		w.mustWait = false
	}
	// Without a valid token a flight is always due, so that there is one here.
	if !w.valid && !interactionForbidden(ctx) {
		w.askable = true
		w.flight.askers++
	}
	return w, nil
}

// due reports whether a flight may start now. Without a valid token it always may: such
// a flight waits for the end of the back-off itself, and its callers wait for it. The
// caller of due holds r.mu.
func (r *refresher) due(current *cachedToken, now moment) bool {
	switch {
	case !current.valid(now):
		return true
	case time.Now().Before(r.retryAt):
		return false
	case current.refused:
		return time.Since(r.renewedAt) >= r.renewalGap()
	default:
		return !now.before(current.fresh)
	}
}

// renewalGap returns the time that has to pass between two flights that Invalidate
// causes. It is minRenewalGap for the first two refusals in a row, and doubles with each
// further one.
func (r *refresher) renewalGap() time.Duration {
	doublings := min(max(r.refusals-2, 0), 10)
	return min(minRenewalGap<<doublings, maxRenewalGap)
}

// An outcome is how a caller's wait for a flight has ended.
type outcome int

const (
	hasLanded     outcome = iota // the flight has a result
	personIsAsked                // the flight asks a person, for whom this caller does not wait
	aboutToExpire                // the token that this caller has is about to expire
	callerHasLeft                // the caller's context has ended
)

// wait waits until the flight has landed, or until the caller has a reason to wait no
// longer.
func (w *waiter) wait(ctx context.Context) outcome {
	asking := w.flight.asking
	if w.askable {
		asking = nil
	}
	var expiring <-chan time.Time
	if w.valid {
		timer := time.NewTimer(w.left - lastMoment)
		defer timer.Stop()
		expiring = timer.C
	}
	select {
	case <-w.flight.done:
		return hasLanded
	case <-asking:
		return personIsAsked
	case <-expiring:
		return aboutToExpire
	case <-ctx.Done():
		return callerHasLeft
	}
}

// settle turns the outcome of a wait into what Token returns. It reports false if the
// caller has to join again.
func (r *refresher) settle(ctx context.Context, w *waiter, o outcome) (Token, bool, error) {
	stillValid := w.current.valid(r.clock.moment())
	switch {
	case o == callerHasLeft:
		if w.askable {
			r.leave(w.flight)
		}
		return Token{}, true, ctx.Err()
	case o == personIsAsked && !w.valid:
		return Token{}, true, w.flight.why
	case o == hasLanded && w.flight.err == nil:
		return r.settleSuccess(w)
	case stillValid:
		// A failed refresh takes no valid token away.
		return w.current.token, true, nil
	case o != hasLanded:
		// The wall clock has jumped past the token's expiry.
		return Token{}, false, nil
	case r.cameTooLate(w):
		return Token{}, false, nil
	default:
		return Token{}, true, w.flight.err
	}
}

// settleSuccess returns the token that the flight has brought. A token without an expiry
// is only for the caller that has launched the flight. The others join again, because
// each call of Token then asks for a token of its own.
func (r *refresher) settleSuccess(w *waiter) (Token, bool, error) {
	token := w.flight.token
	if token.Expiry().IsZero() && !w.launched {
		return Token{}, false, nil
	}
	return token, true, nil
}

// cameTooLate reports whether a flight has failed for a reason from before the caller
// joined: everybody who waited for the sign-in had left; or somebody had signed out; or
// the flight had found nobody for whose sake a person could be asked.
func (r *refresher) cameTooLate(w *waiter) bool {
	f := w.flight
	switch {
	case f.err == errNobodyWaits:
		return true
	case f.err == errSignedOut:
		return f.session != w.session
	case errors.Is(f.err, ErrSignInRequired):
		hasAsked := f.stop != nil
		return w.askable && r.ask != nil && !hasAsked
	}
	return false
}

// Invalidate notes that token was refused, if it is the current one. The next call of
// Token launches a flight, within the limits of renewalGap. If the flight fails, or is
// not due yet, the token is handed out until it expires.
func (r *refresher) Invalidate(token Token) {
	r.mu.Lock()
	defer r.mu.Unlock()
	current := r.current.Load()
	if current == nil || current.refused || !sameAccessToken(current.token, token) {
		return
	}
	r.refusals++
	r.refused.Store(&current.token)
	r.current.Store(&cachedToken{
		token:   current.token,
		refused: true,
		urgent:  current.urgent,
		dead:    current.dead,
	})
}

// isRefused reports whether token is the last one that was refused. It is not taken out
// of a cache again.
func (r *refresher) isRefused(token Token) bool {
	refused := r.refused.Load()
	return refused != nil && sameAccessToken(*refused, token)
}

// sameAccessToken reports whether a and b are the same to an API, whatever is known of
// them besides.
func sameAccessToken(a, b Token) bool {
	return a.AccessToken() == b.AccessToken()
}

// forget drops what is in memory, for a sign-out. A flight that is under way then fails
// with errSignedOut. If it is asking a person, forget ends that.
func (r *refresher) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.session.Add(1)
	r.current.Store(nil)
	r.refused.Store(nil)
	r.failures = 0
	r.retryAt = time.Time{}
	r.mustPause = false
	r.refusals = 0
	r.renewedAt = time.Time{}
	if r.flight != nil && r.flight.stop != nil {
		r.flight.stop()
	}
}
