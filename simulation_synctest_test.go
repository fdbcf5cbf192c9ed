//go:build go1.25

package cdfauth

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

var (
	simSeeds = flag.Int("sim.seeds", 60,
		"how many months TestSimulation simulates, each from a seed of its own (a tenth of them with -short)")
	simFirst = flag.Uint64("sim.first", 1, "the first of these seeds")
	simSeed  = flag.Uint64("sim.seed", 0,
		"the one seed that TestSimulation replays, with all that happens; 0: none")
)

const month = 30 * 24 * time.Hour

// What the documentation promises, in numbers of the test's own.
const (
	promisedAttempts   = 3
	promisedAttempt    = 10 * time.Second
	promisedFlight     = 30 * time.Second
	promisedAsk        = 15 * time.Minute
	promisedBackoff    = 500 * time.Millisecond
	promisedBackoffMax = 30 * time.Second
	promisedRetry      = time.Minute      // Retry-After
	promisedGap        = 10 * time.Second // between renewals
	promisedGapMax     = 10 * time.Minute
	promisedMoment     = time.Second // before expiry, when waiting ends
)

// TestSimulation lives through months, each made from a seed, with the engine and the
// flows as they are. The world of a seed is a wall clock that jumps; an identity provider
// that is slow, hangs, fails in two dozen ways, asks for patience, and issues tokens for
// no time at all up to a day; an API that refuses them; people who take their time with a
// code; one to three providers, which may share a cache; functions and caches of the
// caller's that hang, panic and fail; and callers with and without a deadline, who like to
// come in bursts when a token is about to change. Time is synctest's.
//
// At every call, request, take-off and landing it is checked, against the numbers below, that
//
//   - a token that is handed out is the current one, of the right parameters, and has not
//     expired;
//   - nobody waits while more than a third of the leeway is left, nor beyond a second
//     before expiry, nor after his context has ended; without a deadline for a pause and a
//     flight at most;
//   - nobody gets an error in place of a valid token, nor that of another's context;
//   - flights and requests come one at a time, for a reason and whenever there is one,
//     after the back-off, Retry-After and the gap between renewals; three requests are the
//     most of a flight, 30 s its limit, 15 minutes with a person;
//   - a flight brings what the provider gave, its lifetime counted from the request, and
//     fails for a reason alone;
//   - what is in a good cache is not asked for again, no refresh token is redeemed twice,
//     nobody is asked to sign in who has one or when all have left;
//   - no panic gets out; after the month all calls have returned, and no goroutine is left.
//
// A violation names its seed: go test -run '^TestSimulation$' -sim.seed 27 . replays that,
// at most 25 times, with all that happens.
//
// testdata/simulation/plant.sh plants these bugs, one at a time. Behind each is the first
// seed that found it (all start at 1; it may vary with the engine's jitter):
//
//  1. cachedtoken.go: a token serves for five seconds after its expiry. Handed out after
//     expiry: 1
//  2. refresh.go: who stops waiting gets the token he came with, though the clock has
//     jumped past its expiry. Handed out after expiry: 27 or 34
//  3. refresh.go: a call that finds a flight under way launches another. Two flights at
//     once: 1
//  4. cachedtoken.go: callers wait from half of the leeway on. Waited, though the token was
//     good: 1
//  5. refresh.go: a failed refresh takes a valid token away. An error in place of a valid
//     token: 1
//  6. flight.go: who could leave makes the flight himself, and cannot. Kept after the
//     context had ended: 2
//  7. flight.go: the back-off begins a failure too late. A flight before the back-off had
//     ended: 3
//  8. retry.go: Retry-After is ignored within a flight. A request before the time that the
//     server had asked for: 3
//  9. refresh.go: the gap between renewals doubles from the third refusal on. Renewed too
//     soon: 8
//  10. guard.go: the goroutine of a function that was abandoned never ends. A goroutine
//     left: 1
//  11. guard.go: a panic of a function of the caller is not recovered. A panic that got
//     out: 2
//  12. response.go: a lifetime counts from the answer. Not what the provider gave: 1
//  13. tokenstore.go: a token that was asked for with other Params is taken from the cache.
//     Of other parameters: 11
//  14. savegrant.go: a new refresh token is kept at a sign-in alone. Redeemed twice: 1
//  15. clock.go: the monotonic clock is not looked at. No flight, though the token was
//     dead: 7
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		// The engine's jitter and the order of what happens at one moment are not the seed's.
		for range 25 {
			if w := simulate(t, *simSeed); w.bad != "" {
				w.dump(os.Stdout, math.MaxInt)
				t.Fatalf("seed %d: %s", w.seed, w.bad)
			}
		}
		return
	}
	seeds := uint64(*simSeeds)
	if testing.Short() {
		seeds = (seeds + 9) / 10
	}
	var next, failed atomic.Uint64
	var mu sync.Mutex
	sum, start := map[string]int{}, time.Now()
	t.Run("months", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for n := next.Add(1); n <= seeds && failed.Load() < 3; n = next.Add(1) {
					w := simulate(t, *simFirst+n-1)
					mu.Lock()
					for what, n := range w.count {
						sum[what] += n
					}
					mu.Unlock()
					if w.bad != "" {
						failed.Add(1)
						var b strings.Builder
						w.dump(&b, 40)
						t.Errorf(
							"seed %d: %s\n%sreplay with all events: go test -run '^TestSimulation$' -sim.seed %d .",
							w.seed, w.bad, &b, w.seed)
					}
				}
			})
		}
	})
	t.Logf("%d seeds, %.0f years, in %v: %v", seeds, float64(seeds)*month.Hours()/24/365,
		time.Since(start).Round(time.Second), sum)
}

// simulate lives through the month of a seed. When a goroutine is left at the end, synctest panics.
func simulate(t *testing.T, seed uint64) (w *world) {
	w = &world{seed: seed, idp: newDice(seed, 0), issued: map[string]*record{},
		latest: map[string]*record{}, count: map[string]int{}, people: map[string]time.Time{}}
	defer func() {
		if p := recover(); p != nil && w.bad == "" {
			w.bad = fmt.Sprintf("after the month: %v\n%s", p, w.stacks())
		}
	}()
	synctest.Test(t, func(*testing.T) { w.run() })
	return w
}

// dice are one actor's: what it does depends on the seed, and little on the others.
type dice struct{ *rand.Rand }

func newDice(seed uint64, actor int) dice {
	return dice{rand.New(rand.NewPCG(seed, uint64(actor)))}
}

func (r dice) chance(p float64) bool { return r.Float64() < p }

func (r dice) between(low, high time.Duration) time.Duration { // small ones as likely as large ones
	return time.Duration(float64(low) * math.Pow(float64(high)/float64(low), r.Float64()))
}

func pick[T any](r dice, of ...T) T { return of[r.IntN(len(of))] }

// world is what a seed makes: the wall clock, the identity provider, the API, and the
// providers under test.
type world struct {
	seed     uint64
	start    time.Time
	bubble   string        // its name in stacks
	stop     chan struct{} // closed when the month is over, or something is wrong
	over     sync.Once
	jump     atomic.Int64 // of the wall clock
	clocks   []*clock     // of the providers
	lifetime time.Duration
	odd      float64 // how often a lifetime is none of these
	sticky   bool    // a token is given out again while it is good
	replica  *idptest.Provider

	mu       sync.Mutex
	idp      dice
	bad      string
	events   []event
	count    map[string]int
	jumped   time.Time // last
	jumps    int       // that are left for moments at which somebody waits
	weather  weather
	revoked  time.Time            // the API takes no token from before
	issued   map[string]*record   // by access token
	latest   map[string]*record   // the last that was good on arrival, by parameters
	people   map[string]time.Time // when they will have entered their codes
	signedIn bool                 // there is a good refresh token
	// What a flight brought was dropped, as SignOut demands, and the token that it had redeemed
	// stayed.
	excused bool
}

type weather struct { // at the identity provider, until the next change
	until   time.Time
	fails   float64 // of all requests,
	how     string  // in this way; "" is any
	slow    time.Duration
	refuses bool // the API refuses every token
}

type record struct { // a token that the identity provider issued
	text, params          string
	sent, expiry, refresh time.Time     // by the wall clock when the request came
	jump                  time.Duration // which was so far ahead
	at                    time.Time
}

func (w *world) stacks() string { // of the goroutines that are left
	b := make([]byte, 1<<20)
	all := strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n")
	left := slices.DeleteFunc(all, func(s string) bool {
		return !strings.Contains(s, w.bubble) || !strings.Contains(s, "cdfauth.(")
	})
	return strings.Join(left, "\n\n") + "\n"
}

type event struct {
	at        time.Duration
	who, what string
	d         time.Duration
}

func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.jump.Load())) }

func (w *world) violate(format string, args ...any) { // called with mu held
	if w.bad == "" {
		w.bad = fmt.Sprintf("after %v: ", time.Since(w.start)) + fmt.Sprintf(format, args...)
	}
	w.finish()
}

func (w *world) finish() { w.over.Do(func() { close(w.stop) }) }

func (w *world) note(who, what string, d time.Duration) { // called with mu held
	if w.bad != "" {
		return
	}
	if *simSeed == 0 && len(w.events) >= 200 {
		w.events = w.events[:copy(w.events, w.events[100:])]
	}
	w.events = append(w.events, event{time.Since(w.start), who, what, d})
}

func (w *world) dump(to io.Writer, last int) {
	for _, e := range w.events[max(0, len(w.events)-last):] {
		fmt.Fprintf(to, "%20v  %-2s%s", e.at, e.who, e.what)
		if e.d != 0 {
			fmt.Fprintf(to, " %v", e.d)
		}
		fmt.Fprintln(to)
	}
}

func (w *world) sleep(d time.Duration) bool { // returns false when the month is over
	select {
	case <-time.After(d):
		return w.alive()
	case <-w.stop:
		return false
	}
}

func (w *world) leap(d time.Duration) { // of the wall clock
	if w.replica != nil {
		d = max(-5*time.Minute, min(d, 5*time.Minute)) // ID tokens last for an hour
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.jump.Add(int64(d))
	for _, c := range w.clocks {
		c.ahead.Store(w.jump.Load())
	}
	w.jumped = time.Now()
	w.note("", "the wall clock jumps", d)
}

func (w *world) alive() bool {
	select {
	case <-w.stop:
		return false
	default:
		return true
	}
}

func (w *world) run() {
	w.start, w.stop = time.Now(), make(chan struct{})
	b := make([]byte, 100)
	_, w.bubble, _ = strings.Cut(string(b[:runtime.Stack(b, false)]), ", ")
	w.bubble, _, _ = strings.Cut(w.bubble, ":")
	r := newDice(w.seed, 1)
	if w.lifetime = time.Hour; r.chance(0.4) {
		w.lifetime = r.between(2*time.Minute, 24*time.Hour)
	}
	w.odd = pick(r, 0, 0.02, 0.3)
	kind := pick(r, "app", "app", "app", "app", "app", "app", "function", "cache", "user")
	w.sticky = kind == "app" && r.chance(0.1)
	var all []*subject
	n := 0
	if w.sticky {
		n = 1
	}
	for i := range map[string]int{"app": 1 + r.IntN(2-n), "function": 1, "cache": 1 + r.IntN(3),
		"user": 1 + r.IntN(2)}[kind] {
		if p := w.subject(kind, i, r, all); p != nil {
			all = append(all, p)
		}
	}
	for _, p := range all {
		p.alone = len(all) == 1
		for n := range 1 + r.IntN(2) {
			go p.live(newDice(w.seed, 1000+10*len(p.name)+int(p.name[0])*100+n))
		}
	}
	if r.chance(0.5) {
		w.mu.Lock()
		w.jumps = 5
		w.mu.Unlock()
		go func() {
			for range r.IntN(6) {
				if !w.sleep(r.between(time.Hour, month/4)) {
					return
				}
				d := r.between(time.Second, 12*time.Hour)
				if r.chance(0.3) {
					d = -d
				}
				w.leap(d)
			}
		}()
	}
	w.sleep(month)
	w.finish()
	time.Sleep(4 * time.Hour) // the last calls return, and so do the functions that hang
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range all {
		if p.calls != 0 || p.launched() {
			w.violate("%s: %d calls have not returned in hours; a flight is left: %v", p.name,
				p.calls, p.launched())
		}
	}
}

// subject is a provider under test, what its functions do, and what it may do itself.
type subject struct {
	*world
	kind, name, params string
	p                  Provider
	e                  *refresher
	cache              Cache // nil: none
	badCache, alone    bool
	mood               float64 // how often a function of the caller's misbehaves
	paranoid           float64 // how often a good token is called bad
	undated            float64 // how often a function's token has no expiry
	dice               dice    // of its functions

	// Under world.mu:
	calls    int // of Token that have not returned
	inside   int // the token function
	flying   bool
	session  int64
	tookOff  time.Time
	requests int      // of the flight
	request  *request // the last one
	ended    time.Time
	ask      time.Time // not before: Retry-After
	asked    bool      // the last flight failed with one
	given    *record   // what the identity provider has given in this flight
	reason   time.Time // when something went wrong last
	failures int       // flights since one succeeded
	// There is no flight before retry, for the sake of a valid token or after two failures.
	retry                 time.Time
	current               *current
	landed                time.Time // when it became so
	dead                  string    // a token that had expired on arrival,
	died                  time.Time // and when that was
	refused               string    // the last token that was refused
	refusals              int       // since one was replaced unrefused
	renewed               time.Time // when a refusal last caused a flight
	signOuts              int
	flights               int
	asking                bool
	lastCall, lastLanding time.Time // when they ended
	lastRenewal           time.Time // of what was refused, and may have expired since
}

// current is the token to be handed out, as it should be held.
type current struct {
	world               *world
	token               Token
	fresh, urgent, dead time.Time // by the wall clock
	// The wall clock was ahead of the monotonic one by jump when the token was asked for.
	jump    time.Duration
	refused bool
}

func (c *current) valid() bool { return c != nil && c.left(c.dead) > 0 }

func (c *current) freshFor() time.Duration { return c.left(c.fresh) }

// left is what is left until a moment, by the clock that says less.
func (c *current) left(until time.Time) time.Duration {
	return min(until.Sub(c.world.now()), time.Until(until.Add(-c.jump)))
}

type request struct {
	ctx  context.Context
	done bool
}

func (w *world) subject(kind string, i int, r dice, others []*subject) *subject {
	p := &subject{world: w, kind: kind, name: string(rune('a' + i)), dice: newDice(w.seed, 100+i)}
	p.mood, p.paranoid = pick(r, 0, 0.01, 0.2), pick(r, 0, 0, 0.02, 0.02, 0.02, 0.9)
	o := Options{HTTPClient: &http.Client{Transport: p}}
	o.Leeway = pick(r, 0, 0, 0, time.Millisecond, 3*time.Second, time.Minute,
		10*time.Minute, 3*time.Hour)
	switch {
	case kind == "app" || kind == "function":
	case i > 0:
		p.cache, p.badCache = others[0].cache, others[0].badCache
		if kind == "user" && p.badCache {
			return nil // the other could not but redeem what it has not been told of
		}
	default:
		p.cache = &MemoryCache{}
		if p.badCache = r.chance(0.5); p.badCache {
			p.cache = &moody{p: p}
		}
	}
	o.Cache = p.cache
	var err error
	switch kind {
	case "function":
		p.undated = pick(r, 0, 0, 0.1, 1)
		var f *FuncProvider
		f, err = NewFuncProvider(p.function)
		p.p, p.e = f, f.refresher
		if o.Leeway != 0 {
			p.e.leeway = o.Leeway
		}
	case "user":
		if i == 0 {
			w.replica = idptest.New()
			w.replica.Interval = time.Duration(1+r.IntN(9)) * time.Second
			w.replica.Codes = w.person
		}
		p.mood /= 4
		var d *DeviceCode
		d, err = NewDeviceCode(DeviceCodeConfig{Endpoint: Issuer("https://idp.test"),
			ClientID: "client", Options: o,
			ShowCode: func(ctx context.Context, _ DeviceAuthorization) error {
				return p.misbehave(ctx, "ShowCode")
			}})
		p.p, p.e = d, d.refresher
	default:
		cfg := ClientCredentialsConfig{Endpoint: TokenURL("https://idp.test/token"), ClientID: "client",
			ClientSecret: p.secret, Options: o}
		if i == 2 {
			p.params = "x"
			cfg.Params = url.Values{"audience": {p.params}}
		}
		var c *ClientCredentials
		c, err = NewClientCredentials(cfg)
		p.p, p.e = c, c.refresher
	}
	if err != nil {
		panic(err)
	}
	p.e.clock.ahead.Store(w.jump.Load())
	w.clocks = append(w.clocks, &p.e.clock)
	if p.e.silent = p.phase(p.e.silent, false); p.e.ask != nil {
		p.e.ask = p.phase(p.e.ask, true)
	}
	return p
}

// live is a caller: long silences, and bursts, preferably when something happens to the token.
func (p *subject) live(r dice) {
	for p.alive() {
		p.mu.Lock()
		pause := r.between(10*time.Minute, 48*time.Hour)
		if c := p.current; c != nil && r.chance(0.5) {
			at := pick(r, c.fresh, c.urgent, c.dead, c.dead.Add(-promisedMoment))
			if d := c.left(at) +
				time.Duration(float64(r.between(1, 10*time.Second))*float64(r.IntN(3)-1)); d > 0 {
				pause = d
			}
		}
		p.mu.Unlock()
		if !p.sleep(pause) {
			return
		}
		gap, calls := r.between(time.Millisecond, 30*time.Second), r.IntN(6)
		if r.chance(0.05) {
			calls = 40
		}
		for n := 0; n <= calls; n++ {
			if err := p.visit(r); err != nil && r.chance(0.8) {
				calls++
			}
			if n > 60 || !p.sleep(r.between(gap/2, 2*gap)) {
				break
			}
		}
	}
}

func (p *subject) visit(r dice) (err error) {
	switch n := r.Float64(); {
	case n < 0.08: // a crowd
		var wg sync.WaitGroup
		for range 2 + r.IntN(4) {
			ctx, cancel := p.context(r)
			wg.Go(func() {
				defer cancel()
				p.Token(ctx)
			})
		}
		wg.Wait()
	case n < 0.2:
		ctx, cancel := p.context(r)
		defer cancel()
		a, start := &api{p: p, dice: dice{rand.New(rand.NewPCG(r.Uint64(), 0))}}, time.Now()
		req, _ := http.NewRequestWithContext(ctx, "GET", "https://api.test/", nil)
		_, err = (&Transport{Provider: p, Origin: "https://api.test", Base: a}).RoundTrip(req)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.checkEnd(ctx, start, err)
		if a.sent > 2 {
			p.violate("%s: Transport sent a request %d times", p.name, a.sent)
		}
	default:
		ctx, cancel := p.context(r)
		defer cancel()
		var t Token
		if t, err = p.Token(ctx); err == nil && r.chance(p.paranoid) {
			p.Invalidate(t)
		}
		if d, ok := p.p.(*DeviceCode); ok && p.alone && r.chance(0.01) {
			p.signOut(ctx, d)
		}
	}
	return err
}

type endKey struct{}

func (p *subject) context(r dice) (context.Context, context.CancelFunc) {
	ctx, cancel := context.Background(), func() {}
	if d := r.between(time.Millisecond, 10*time.Minute); r.chance(0.6) {
		if r.chance(0.05) {
			d = 0
		}
		ctx = context.WithValue(ctx, endKey{}, time.Now().Add(d))
		ctx, cancel = context.WithTimeout(ctx, d)
		if r.chance(0.3) {
			ctx, cancel = context.WithCancel(context.WithoutCancel(ctx))
			timer := time.AfterFunc(d, cancel)
			cancel = func() { timer.Stop() }
			if d == 0 {
				<-ctx.Done()
			}
		}
	}
	if r.chance(0.2) {
		ctx = WithoutInteraction(ctx)
	}
	return ctx, cancel
}

// checkEnd is called when a call has returned, and tells whether that was because its
// context had ended.
func (p *subject) checkEnd(ctx context.Context, start time.Time, err error) bool {
	end, ends := ctx.Value(endKey{}).(time.Time)
	if late := min(time.Since(end), time.Since(start)); ends && late > 0 {
		p.violate("%s: a caller was kept for %v after its context had ended", p.name, late)
	}
	left := err != nil && err == ctx.Err()
	if !left && (err == context.Canceled || err == context.DeadlineExceeded) {
		p.violate("%s: a caller got the error of a context that is not its own: %v", p.name, err)
	}
	return left
}

// Token calls the provider, and holds against it what it does.
func (p *subject) Token(ctx context.Context) (t Token, err error) {
	p.mu.Lock()
	start, wall, c, landed, signOuts, flights := time.Now(), p.now(), p.current, p.landed,
		p.signOuts, p.flights
	if p.asking && p.calls == 0 && time.Since(p.lastCall) > promisedAttempt {
		p.violate("%s: a person is asked though everybody has left %v ago", p.name,
			time.Since(p.lastCall))
	}
	p.calls++
	p.count["calls"]++
	var left time.Duration // of the token
	if c.valid() {
		left = c.left(c.dead)
	}
	mayWait := left == 0 || c.refused || c.left(c.urgent) <= 0
	idle := p.calls == 1 && !p.launched() && !start.Equal(landed) && !start.Equal(p.lastLanding)
	due := idle && p.due(start, wall)
	dead := idle && mayWait && ctx.Err() != nil
	p.mu.Unlock()

	var panicked any
	func() {
		defer func() { panicked = recover() }()
		t, err = p.p.Token(ctx)
	}()

	p.mu.Lock()
	defer p.mu.Unlock()
	if panicked != nil {
		p.violate("%s: Token panicked: %v", p.name, panicked)
	}
	p.calls--
	p.lastCall = time.Now()
	launched := p.launched() || p.flights != flights
	now, wall, took := time.Now(), p.now(), time.Since(start)
	if err != nil {
		p.count["errors"]++
		p.note(p.name, "Token: "+err.Error()+"; after", took)
	} else {
		p.note(p.name, "Token: "+t.AccessToken()+" after", took)
	}
	gone := p.checkEnd(ctx, start, err)
	_, ends := ctx.Value(endKey{}).(time.Time)
	// Nothing else is a reason for what happened.
	settled := !start.Equal(landed) && p.jumped.Before(start) && signOuts == p.signOuts
	switch {
	case dead && launched && took == 0 && p.calls == 0:
		p.violate("%s: a context that has ended launched a flight", p.name)
	case due && settled && ctx.Err() == nil && (!launched || p.flights == flights && took > 0):
		p.violate(
			"%s: a call launched no flight, though there was a reason and none to wait (it took %v)",
			p.name, took)
	case settled && !mayWait && (took > 0 || err != nil):
		p.violate("%s: a caller waited for %v (and got %v), though the token was good for %v and nobody has to wait before %v",
			p.name, took, err, left, c.dead.Sub(c.urgent))
	case settled && left > 0 && took > max(0, left-promisedMoment):
		p.violate("%s: a caller waited for %v, though the token was good for %v only", p.name, took, left)
	case !ends && took > left+p.patience(ctx):
		p.violate("%s: a caller without a deadline waited for %v", p.name, took)
	}
	switch rec := p.issued[t.AccessToken()]; {
	case errors.Is(err, errNobodyWaits):
		p.violate("%s: a caller was told that nobody waits", p.name)
	case err != nil && !gone && p.current.valid() && !p.landed.Equal(now):
		p.violate("%s: a caller got %v, though the token was good for %v", p.name, err,
			p.current.left(p.current.dead))
	case err != nil:
	case rec == nil:
		p.violate("%s: nobody has issued the token %q", p.name, t.AccessToken())
	case rec.params != p.params:
		p.violate("%s: the token was issued for parameters %q, not %q", p.name, rec.params, p.params)
	case t.Expiry().IsZero() || p.jumped.Equal(now):
	case p.dead == rec.text && p.died.Equal(now) && p.current.valid() && !p.landed.Equal(now):
		p.violate("%s: a token that had expired on arrival was handed out, though there is a better one",
			p.name)
	case p.dead == rec.text && p.died.Equal(now):
		p.count["dead on arrival"]++
	case !wall.Before(t.Expiry()):
		p.violate("%s: a token was handed out that had expired %v ago", p.name, wall.Sub(t.Expiry()))
	case p.current != nil && p.current.token.Equal(t) && !p.current.valid():
		p.violate("%s: a token was handed out that had expired %v ago by the monotonic clock", p.name,
			-p.current.left(p.current.dead))
	case !p.landed.Equal(now) && (p.current == nil || !p.current.token.Equal(t)):
		p.violate("%s: %s was handed out, which is not the current token", p.name, rec.text)
	}
	return t, err
}

// due tells whether a call has to launch a flight, if none is under way. Called with mu held.
func (p *subject) due(now, wall time.Time) bool {
	switch c := p.current; {
	case p.kind != "app" && p.kind != "cache", p.failures > 1, p.asked:
		return false // it is not known whether an interaction failed, or when a back-off ends
	case !c.valid():
		return true
	case p.failures > 0 || !p.retry.IsZero():
		return false
	case c.refused:
		return p.lastRenewal.IsZero() || now.Sub(p.lastRenewal) >= p.gap()
	default:
		return c.left(c.fresh) <= 0
	}
}

// launched says whether there is a flight, be it that it still waits out a back-off.
func (p *subject) launched() bool {
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	return p.e.flight != nil
}

// gap is that between renewals: it doubles while renewed tokens are refused.
func (p *subject) gap() time.Duration {
	return min(promisedGap<<min(max(p.refusals-2, 0), 10), promisedGapMax)
}

// patience is how long a caller may have to wait who has no token and no deadline: for the
// longest pause, and a flight.
func (p *subject) patience(ctx context.Context) time.Duration {
	limit := promisedRetry + promisedFlight
	switch {
	case p.kind == "function": // also for others, if it is asked on every call
		return 9 * (limit + promisedAsk)
	case p.kind == "user" && ctx.Value(interactionKey{}) != true:
		// Also for a flight that the others have left.
		return 2 * (limit + promisedAsk + promisedAttempt)
	case !p.jumped.IsZero():
		return 2 * limit
	}
	return limit
}

// Invalidate tells the provider that a token was refused.
func (p *subject) Invalidate(t Token) {
	p.mu.Lock()
	p.count["refused"]++
	if c := p.current; c != nil && !c.refused && c.token.AccessToken() == t.AccessToken() {
		p.note(p.name, "Invalidate "+t.AccessToken(), 0)
		p.refusals++
		p.refused = t.AccessToken()
		p.current = &current{p.world, c.token, c.fresh, c.urgent, c.dead, c.jump, true}
		p.landed = time.Now()
	}
	p.mu.Unlock()
	p.p.(interface{ Invalidate(Token) }).Invalidate(t)
}

func (p *subject) signOut(ctx context.Context, d *DeviceCode) {
	forget := func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.note(p.name, "SignOut", 0)
		p.current, p.landed, p.signedIn, p.refused = nil, time.Now(), false, ""
		p.failures, p.retry, p.asked, p.refusals, p.renewed, p.lastRenewal = 0, time.Time{}, false, 0,
			time.Time{}, time.Time{}
		p.signOuts++
	}
	forget()
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	err := d.SignOut(ctx)
	forget()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.excused = p.excused || err != nil || p.flying || !p.lastLanding.Before(start)
}

// phase watches a flight.
func (p *subject) phase(
	of func(context.Context) (grant, error), asking bool,
) func(context.Context) (grant, error) {
	return func(ctx context.Context) (i grant, err error) {
		p.e.mu.Lock()
		session := p.e.flight.session
		p.e.mu.Unlock()
		p.takeOff(asking, session)
		err = errors.New("it panicked")
		defer func() { p.land(asking, session, i, err) }()
		i, err = of(ctx)
		return i, err
	}
}

func (p *subject) takeOff(asking bool, session int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.note(p.name, map[bool]string{false: "takes off", true: "asks"}[asking], 0)
	if p.flying {
		p.violate("%s: two flights at once", p.name)
	}
	p.flying, p.session, p.tookOff, p.requests, p.given, p.ask = true, session, now, 0,
		nil, time.Time{}
	p.count["flights"]++
	valid := p.current.valid()
	p.flights++
	p.asking = asking
	if p.current != nil && p.current.refused {
		p.lastRenewal = now
	}
	switch {
	case asking:
	case (valid || p.failures >= 2 || p.asked) && now.Before(p.retry) && !p.jumped.Equal(now):
		p.violate("%s: a flight took off %v before the back-off had ended (%d failures, token valid: %v)",
			p.name, p.retry.Sub(now), p.failures, valid)
	case !valid || p.current.left(p.current.fresh) <= 0:
	case !p.current.refused:
		p.violate("%s: a flight took off %v before there was a reason", p.name,
			p.current.left(p.current.fresh))
	case !p.renewed.IsZero() && now.Sub(p.renewed) < p.gap():
		p.violate(
			"%s: a refused token was renewed %v after another had been, and %d in a row were refused",
			p.name, now.Sub(p.renewed), p.refusals)
	default:
		p.count["renewals"]++
		p.renewed = now
	}
}

func (p *subject) land(asking bool, session int64, i grant, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, wall := time.Now(), p.now()
	p.lastLanding = now
	if p.flying, p.asking = false, false; err != nil {
		p.note(p.name, "lands: "+err.Error()+"; after", now.Sub(p.tookOff))
	} else {
		p.note(p.name, "lands: "+i.token.AccessToken()+" good for", i.token.Expiry().Sub(wall))
	}
	limit := promisedFlight
	if asking {
		limit = promisedAsk + promisedAttempt
	}
	rec := p.issued[i.token.AccessToken()]
	switch took := now.Sub(p.tookOff); {
	case took > limit:
		p.violate("%s: a flight took %v", p.name, took)
	case p.given != nil && p.e.session.Load() == session && (err != nil || rec != p.given):
		p.violate("%s: the provider gave %q, and the flight brought %q, %v", p.name, p.given.text,
			i.token.AccessToken(), err)
	case p.given != nil && err == nil && p.e.session.Load() == session &&
		(!i.sent.Equal(rec.sent) || !i.token.Expiry().Equal(rec.expiry)):
		p.violate("%s: a token that was asked for at %v and lasts until %v was taken for one of %v to %v",
			p.name, rec.sent, rec.expiry, i.sent, i.token.Expiry())
	case err != nil && !asking && !errors.Is(err, ErrSignInRequired) && p.reason.Before(p.tookOff) &&
		p.e.session.Load() == session:
		p.violate("%s: a flight failed for no reason: %v", p.name, err)
	}
	switch {
	case p.e.session.Load() != session: // signed out meanwhile
	case err != nil:
		// Perhaps everybody has left, which is no failure; and what was given last may have come too
		// late.
		if asking {
			p.signedIn = false
		} else if !errors.Is(err, ErrSignInRequired) {
			p.count["failures"]++
			p.backOff()
		}
	case rec == nil:
		p.violate("%s: nobody has issued the token %q", p.name, i.token.AccessToken())
	default:
		jump := time.Duration(p.jump.Load()) // a cache knows the wall clock alone
		if p.given == rec {
			jump = rec.jump
		}
		c := p.hold(i.sent, i.token.Expiry(), i.refresh, jump)
		c.token = i.token
		if i.token.Expiry().IsZero() || c.valid() {
			p.failures, p.retry, p.asked = 0, time.Time{}, false
		}
		switch {
		case i.token.Expiry().IsZero():
		case c.valid():
			switch {
			case p.refused == rec.text:
				p.refusals++
				c.refused = true
			case p.current != nil && !p.current.refused:
				p.refusals = 0
			}
			p.current, p.landed = c, now
		case p.given != rec && p.kind != "function":
			p.violate("%s: a flight brought %s, which it has not asked for and which had expired %v ago",
				p.name, rec.text, wall.Sub(i.token.Expiry()))
		default:
			p.dead, p.died = rec.text, now
			p.ask = time.Time{}
			p.backOff()
		}
	}
}

// backOff is what has to follow a failure. Called with mu held.
func (p *subject) backOff() {
	p.failures++
	p.retry = time.Now().Add(min(time.Second<<min(p.failures-1, 10), promisedBackoffMax) / 2)
	if p.asked = p.ask.After(time.Now()); p.ask.After(p.retry) {
		p.retry = p.ask
	}
}

// hold is how a token is to be held.
func (p *subject) hold(sent, expiry, refresh time.Time, jump time.Duration) *current {
	life := min(expiry.Sub(sent), maxLife)
	leeway := min(p.e.leeway, life/2)
	c := &current{world: p.world, dead: sent.Add(life), jump: jump}
	c.fresh, c.urgent = c.dead.Add(-leeway), c.dead.Add(-leeway/3)
	if early := sent.Add(max(refresh.Sub(sent), leeway)); !refresh.IsZero() && early.Before(c.fresh) {
		c.fresh = early
	}
	return c
}

// What callers' functions do.

// draw is by the dice of the provider's functions.
func (p *subject) draw(chance float64) (yes bool, n int, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dice.chance(chance), p.dice.IntN(1000), p.dice.between(time.Second, time.Hour)
}

// wrong notes that something goes wrong, and will for d. Called with mu held.
func (p *subject) wrong(what string, d time.Duration) {
	p.count["faults"]++
	p.note(p.name, what, d)
	if until := time.Now().Add(d); until.After(p.reason) {
		p.reason = until
	}
}

// misbehave hangs, with and without regard for its context, panics, and fails.
func (p *subject) misbehave(ctx context.Context, who string) error {
	yes, n, d := p.draw(p.mood)
	if !yes {
		return nil
	}
	what := []string{"is slow", "hangs", "hangs for good", "panics", "panics badly",
		"ends its goroutine", "fails"}[n%7]
	p.mu.Lock()
	// A cache that cannot be used is no reason for anything.
	if !strings.HasPrefix(who, "Cache") || p.kind != "cache" {
		if n%7 != 2 || who != "token function" { // whose next call waits for the last one
			d = 0
		}
		p.wrong(who+" "+what, d)
	} else {
		p.note(p.name, who+" "+what, d)
	}
	p.mu.Unlock()
	switch n % 7 {
	case 0:
		sleep(ctx, min(d, 20*time.Second))
	case 1:
		<-ctx.Done()
		return ctx.Err()
	case 2:
		time.Sleep(d)
	case 3:
		panic(string(p.crash(who)))
	case 4:
		panic(p.crash(who))
	case 5:
		runtime.Goexit()
	case 6:
		return errors.New("it failed")
	}
	return nil
}

// A crash is the value of a panic of the runtime's making. If nobody recovers it, it ends
// the test, and says itself what to replay.
type crash string

func (c crash) Error() string { return string(c) }
func (c crash) RuntimeError() {}

func (p *subject) crash(who string) crash {
	return crash(fmt.Sprintf("seed %d: after %v: %s: nobody recovered a panic of %s", p.seed,
		time.Since(p.start), p.name, who))
}

// secretAt is the secret at that time. It changes every three days.
func secretAt(d time.Duration) string { return fmt.Sprint("secret-", int(d/(3*24*time.Hour))) }

func (p *subject) secret(ctx context.Context) (string, error) {
	err := p.misbehave(ctx, "Secret")
	return secretAt(time.Since(p.start)), err
}

func (p *subject) function(ctx context.Context) (Token, error) {
	p.mu.Lock()
	if p.inside++; p.inside > 1 {
		p.violate("%s: two calls of the token function at once", p.name)
	}
	p.count["requests"]++
	p.turn()
	fails, undated := p.idp.chance(p.weather.fails), p.idp.chance(p.undated)
	pause := p.idp.between(time.Millisecond, p.weather.slow)
	mark := ctx.Value(interactionKey{}) == true
	needsPerson := p.idp.chance(0.03) && mark
	if !mark {
		pause = p.idp.between(time.Second, 20*time.Minute)
	}
	switch {
	case needsPerson:
		p.wrong("token function wants a person", 0)
	case fails || pause > 10*time.Second:
		p.wrong("token function fails, or is slow:", pause)
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.inside--
		p.mu.Unlock()
	}()
	err := p.misbehave(ctx, "token function")
	switch {
	case err != nil:
		return Token{}, err
	case needsPerson:
		return Token{}, ErrSignInRequired
	case !sleep(ctx, pause):
		return Token{}, ctx.Err()
	case fails:
		return Token{}, errors.New("no token today")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	rec := p.issue()
	if undated {
		rec.expiry = time.Time{}
	}
	return NewToken(rec.text, rec.expiry)
}

type moody struct { // a cache that misbehaves
	MemoryCache
	p *subject
}

func (c *moody) Get(ctx context.Context) ([]byte, error) {
	if err := c.p.misbehave(ctx, "Cache.Get"); err != nil {
		return nil, err
	}
	if yes, _, _ := c.p.draw(c.p.mood / 4); yes {
		return []byte(`{"AccessToken":`), nil
	}
	return c.MemoryCache.Get(ctx)
}

func (c *moody) Update(ctx context.Context, f updateFunc) error {
	if err := c.p.misbehave(ctx, "Cache.Update, before"); err != nil {
		return err
	}
	if err := c.MemoryCache.Update(ctx, f); err != nil {
		return err
	}
	return c.p.misbehave(ctx, "Cache.Update, after")
}

// The identity provider and the API.

func (w *world) turn() { // of the weather. Called with mu held.
	r := w.idp
	for now := time.Now(); w.weather.until.Before(now); {
		if w.weather.until.IsZero() {
			w.weather.until = w.start
		}
		at := w.weather.until
		if w.weather.fails > 0.1 || w.weather.refuses || r.chance(0.3) {
			w.weather = weather{at.Add(r.between(time.Hour, 4*24*time.Hour)), pick(r, 0, 0.01), "",
				400 * time.Millisecond, false}
			continue
		}
		w.weather = weather{at.Add(r.between(time.Minute, 6*time.Hour)), pick(r, 1, 1, 0.5, 0.15), "",
			pick(r, 400*time.Millisecond, 30*time.Second), false}
		if r.chance(0.5) {
			w.weather.how = pick(r, faults...)
		}
		if w.weather.refuses = r.chance(0.15); w.weather.refuses {
			w.weather.fails = pick(r, 0, 0.01, 0.5)
		}
		if r.chance(0.3) {
			w.revoked = at
		}
	}
}

var faults = []string{"503", "502", "429", "429", "429 seconds", "429 seconds", "429 date", "403",
	"401", "404", "302", "reset", "hang", "truncated", "cut", "trickle", "html", "list",
	"null", "null token",
	"number token", "bad token", "bad life", "server_error", "temporarily_unavailable",
	"invalid_client", "panic"}

// issue makes a token. Called with mu held.
func (w *world) issue() *record {
	life := w.lifetime
	if w.idp.chance(w.odd) {
		life = pick(w.idp, 0, -5*time.Second, time.Microsecond, 500*time.Millisecond, time.Second,
			2*time.Second, 20*time.Second, time.Minute, 24*time.Hour)
	}
	w.count["issued"]++
	rec := &record{text: fmt.Sprint("tok-", w.count["issued"]), sent: w.now(), at: time.Now(),
		jump: time.Duration(w.jump.Load())}
	rec.expiry = rec.sent.Add(life).Truncate(time.Second) // Tokens keep whole seconds
	w.issued[rec.text] = rec
	return rec
}

// RoundTrip is the identity provider, as the subject's requests meet it.
func (p *subject) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx := r.Context()
	body, err := io.ReadAll(r.Body)
	r.Body.Close()
	form, err2 := url.ParseQuery(string(body))
	if err != nil || err2 != nil {
		return nil, errors.Join(err, err2)
	}
	sent, jump, req := p.now(), time.Duration(p.jump.Load()), &request{ctx: ctx}
	p.mu.Lock()
	p.note(p.name, "asks "+r.URL.Path+" "+form.Get("grant_type"), 0)
	p.checkRequest(ctx, r, form, req)
	p.turn()
	latency, how := p.idp.between(5*time.Millisecond, p.weather.slow), ""
	if p.idp.chance(p.weather.fails) {
		if how = p.weather.how; how == "" {
			how = pick(p.idp, faults...)
		}
	}
	known := secretAt(time.Since(p.start)) == form.Get("client_secret") ||
		secretAt(time.Since(p.start)-time.Minute) == form.Get("client_secret") || p.kind == "user"
	if !known {
		how = "invalid_client"
	}
	if how == "401" && p.kind == "user" { // which is invalid_grant to them
		how = "403"
	}
	if p.jumps > 0 && p.calls > 0 && p.current.valid() && (how == "hang" || latency > time.Second) {
		p.jumps--
		d := p.idp.between(time.Second, 12*time.Hour)
		if p.idp.chance(0.3) {
			d = -d
		}
		time.AfterFunc(p.idp.between(time.Millisecond, 4*time.Second), func() { p.leap(d) })
	}
	if how != "" && known || latency > 9*time.Second {
		p.wrong("is answered "+how+" in", latency)
	}
	p.mu.Unlock()
	if !sleep(ctx, latency) || how == "hang" {
		<-ctx.Done()
		p.end(req, 0)
		return nil, ctx.Err()
	}
	if how != "" {
		return p.fail(req, how)
	}
	if p.kind == "user" {
		return p.serveUser(req, r, string(body), sent, jump)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	rec := p.latest[form.Get("audience")]
	if p.sticky && rec != nil && p.now().Add(p.lifetime/2).Before(rec.expiry) {
		again := *rec
		rec = &again
		rec.expiry = sent.Add(rec.expiry.Sub(sent).Truncate(time.Second))
		p.issued[rec.text] = rec
	} else {
		rec = p.issue()
		rec.expiry, rec.params = sent.Add(rec.expiry.Sub(rec.sent)), form.Get("audience")
	}
	rec.sent, rec.jump = sent, jump
	b := &content{p: p, req: req, rec: rec,
		text: `{"access_token":"` + rec.text + `"` + p.times(rec) + `}`}
	if p.idp.chance(0.02) {
		b.slow = p.idp.between(time.Millisecond, time.Second)
	}
	return reply(200, b), nil
}

func (p *subject) checkRequest(
	ctx context.Context, r *http.Request, form url.Values, req *request,
) {
	now := time.Now()
	limit, ok := ctx.Deadline()
	switch {
	case !ok || limit.Sub(now) > promisedAttempt:
		p.violate("%s: an attempt may take more than 10 s", p.name)
	case r.URL.Path == "/devicecode" && !p.badCache && p.signedIn:
		p.violate("%s: a person is asked, though there is a good refresh token", p.name)
	}
	if r.URL.Path != "/token" {
		return
	}
	p.count["requests"]++
	p.requests++
	last := p.latest[p.params]
	switch old := p.request; {
	case !p.flying:
		p.violate("%s: a token request outside of a flight", p.name)
	case old != nil && !old.done && old.ctx.Err() == nil:
		p.violate("%s: two token requests at once", p.name)
	case form.Get("audience") != p.params:
		p.violate("%s: parameters %q instead of %q", p.name, form.Get("audience"), p.params)
	case p.kind == "user":
	case p.requests > promisedAttempts:
		p.violate("%s: %d requests in a flight", p.name, p.requests)
	case p.requests > 1 && now.Sub(p.ended) < promisedBackoff<<(p.requests-2):
		p.violate("%s: request %d of a flight came %v after the last had been answered", p.name,
			p.requests, now.Sub(p.ended))
	case p.requests > 1 && now.Before(p.ask):
		p.violate("%s: request %d of a flight came %v before the time that the server had asked for",
			p.name, p.requests, p.ask.Sub(now))
	case p.kind == "cache" && !p.badCache && last != nil && p.refused != last.text &&
		// An entry that was made in the future is of a clock that was ahead.
		p.hold(last.sent, last.expiry, last.refresh,
			time.Duration(p.jump.Load())).left(last.sent) < 5*time.Minute &&
		p.hold(last.sent, last.expiry, last.refresh,
			time.Duration(p.jump.Load())).freshFor() > 2*time.Second:
		p.violate("%s: asks for a token, though there is a good one in the cache: %s", p.name, last.text)
	}
	p.request = req
}

func (p *subject) end(req *request, asked time.Duration) { // of a request
	p.mu.Lock()
	defer p.mu.Unlock()
	req.done = true
	p.ended, p.ask = time.Now(), time.Time{}
	if asked > 0 {
		p.ask = p.ended.Add(min(asked, promisedRetry))
	}
	if req.ctx.Err() != nil {
		p.wrong("is not answered in time", 0)
	}
}

type content struct { // a body of an answer
	p    *subject
	req  *request
	text string
	slow time.Duration
	err  error // at its end, after which it does not go on; nil: io.EOF
	ask  time.Duration
	rec  *record // the token in it
}

func (b *content) Read(to []byte) (n int, err error) {
	if d := b.slow; d > 0 {
		if b.slow = 0; !sleep(b.req.ctx, d) {
			return 0, b.req.ctx.Err()
		}
	}
	n = copy(to, b.text)
	if b.text = b.text[n:]; b.text != "" {
		return n, nil
	}
	if b.err != nil {
		return n, b.err
	}
	if rec := b.rec; rec != nil && b.req.ctx.Err() == nil {
		b.p.mu.Lock()
		b.p.given, b.rec = rec, nil
		switch {
		case time.Since(b.p.tookOff) > lockLimit: // and it may have gone on without the cache
			delete(b.p.latest, rec.params)
		case b.p.now().Before(rec.expiry):
			b.p.latest[rec.params] = rec
		}
		b.p.mu.Unlock()
	}
	return n, io.EOF
}

func (b *content) Close() error {
	b.p.end(b.req, b.ask)
	return nil
}

func reply(status int, b *content) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: b, ContentLength: -1}
}

func (p *subject) fail(req *request, how string) (*http.Response, error) {
	b := &content{p: p, req: req, text: "<html>" + how + "</html>"}
	p.mu.Lock()
	ask := time.Duration(1+p.idp.IntN(100)) * time.Second
	p.mu.Unlock()
	kind, detail, _ := strings.Cut(how, " ")
	if status, err := strconv.Atoi(kind); err == nil {
		resp := reply(status, b)
		switch detail {
		case "seconds":
			b.ask = ask
			resp.Header.Set("Retry-After", strconv.Itoa(int(ask.Seconds())))
		case "date":
			wall := p.now()
			at := wall.Add(ask).Truncate(time.Second)
			b.ask = max(0, at.Sub(wall))
			resp.Header.Set("Retry-After", at.UTC().Format(http.TimeFormat))
		}
		resp.Header.Set("Location", "https://elsewhere.test/")
		return resp, nil
	}
	status := 200
	switch how {
	case "reset":
		p.end(req, 0)
		return nil, errors.New("read: connection reset by peer")
	case "panic":
		p.end(req, 0)
		panic(string(p.crash("the transport")))
	case "cut":
		b.text, b.err = `{"access_token":"cut`, io.ErrUnexpectedEOF
	case "trickle":
		b.text, b.slow = `{"access_token":"late","expires_in":3600}`, time.Hour
	case "html":
	case "server_error":
		b.text, status = `{"error":"server_error"}`, 500
	case "temporarily_unavailable", "invalid_client":
		b.text, status = `{"error":"`+how+`"}`, 400
	default:
		b.text = map[string]string{"truncated": `{"access_token":"cut","expires_in":36`,
			"list": `[{"access_token":"x"}]`, "null": "null",
			"null token":   `{"access_token":null,"expires_in":3600}`,
			"number token": `{"access_token":1,"expires_in":3600}`,
			"bad token":    `{"access_token":"a b","expires_in":3600}`,
			"bad life":     `{"access_token":"x","expires_in":["soon"]}`}[how]
	}
	return reply(status, b), nil
}

// times says how long a token lasts, in one of the ways in which servers do.
func (p *subject) times(rec *record) string {
	life := rec.expiry.Sub(rec.sent)
	n := strconv.FormatFloat(life.Seconds(), 'f', -1, 64)
	life = time.Duration(life.Seconds() * float64(time.Second))
	text := ""
	switch form := p.idp.IntN(20); {
	case form == 0:
		text = `,"expires_in":"` + n + `"`
	case form == 1 && p.odd > 0.1:
		life = 10 * time.Minute
	case form == 2 && p.odd > 0.1:
		text, life = `,"expires_in":null`, 10*time.Minute
	default:
		text = `,"expires_in":` + n
	}
	rec.expiry, rec.refresh = rec.sent.Add(max(-time.Second, life)).Truncate(time.Second), time.Time{}
	if p.idp.chance(p.odd) {
		early := pick(p.idp, life/2, time.Millisecond, 2*life, -time.Second)
		text += `,"refresh_in":` + strconv.FormatFloat(early.Seconds(), 'f', -1, 64)
		if early > 0 {
			rec.refresh = rec.sent.Add(early)
		}
	}
	return text
}

// serveUser leaves people and their refresh tokens to package idptest.
func (p *subject) serveUser(
	req *request, r *http.Request, body string, sent time.Time, jump time.Duration,
) (*http.Response, error) {
	r = r.Clone(req.ctx)
	r.Body = io.NopCloser(strings.NewReader(body))
	resp, err := p.replica.Client().Transport.RoundTrip(r)
	if err != nil {
		p.end(req, 0)
		return nil, err
	}
	text, _ := io.ReadAll(resp.Body)
	b := &content{p: p, req: req, text: string(text)}
	if r.URL.Path != "/token" {
		return reply(resp.StatusCode, b), nil
	}
	refused := p.replica.Refused()
	p.mu.Lock()
	defer p.mu.Unlock()
	var got map[string]any
	switch _ = json.Unmarshal(text, &got); {
	case refused > 0 && !p.excused:
		p.violate("%s: redeemed a refresh token or a code that is good no more", p.name)
	case got["error"] == "authorization_pending":
	case resp.StatusCode != 200:
		p.wrong(fmt.Sprint("is told: ", got["error"]), 0)
	default:
		b.rec = p.issue()
		b.rec.expiry, b.rec.sent, b.rec.jump = sent.Add(b.rec.expiry.Sub(b.rec.sent)), sent, jump
		got["access_token"] = b.rec.text
		delete(got, "expires_in")
		text, _ = json.Marshal(got)
		b.text = strings.TrimSuffix(string(text), "}") + p.times(b.rec) + "}"
		if strings.Contains(body, "device_code") {
			p.count["sign-ins"]++
			p.signedIn = p.e.session.Load() == p.session
		}
	}
	return reply(resp.StatusCode, b), nil
}

// person is who enters a code after a while, or declines.
func (w *world) person(code string) (name string, done bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, known := w.people[code]
	if !known {
		if at = time.Now().Add(w.idp.between(5*time.Second, 20*time.Minute)); w.idp.chance(0.1) {
			at = time.Time{}
		}
		w.people[code] = at
	}
	if at.IsZero() {
		return "", true
	}
	return "ada@example.com", !time.Now().Before(at)
}

type api struct { // to which a caller sends one request
	p    *subject
	dice dice
	sent int
}

func (a *api) RoundTrip(r *http.Request) (*http.Response, error) {
	a.sent++
	if !sleep(r.Context(), a.dice.between(time.Millisecond, 100*time.Millisecond)) {
		return nil, r.Context().Err()
	}
	p := a.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turn()
	rec := p.issued[strings.TrimPrefix(r.Header.Get("Authorization"), bearer)]
	switch {
	case rec == nil:
		p.violate("%s: sent a token that nobody has issued", p.name)
	case p.weather.refuses, rec.at.Before(p.revoked),
		!rec.expiry.IsZero() && !p.now().Before(rec.expiry):
		p.count["401"]++
		return respond(401, ""), nil
	}
	return respond(200, ""), nil
}
