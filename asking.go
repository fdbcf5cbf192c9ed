//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// This file is the phase of a flight that asks a person to sign in: the wait until no
// other program has the cache, what the person is asked, and what they are told. How
// they sign in is up to the flow: authorize is in interactive.go or devicecode.go.

// An authorizeFunc asks a person to sign in, and exchanges what they approve for a token.
// It returns the claims of the ID token, which it has verified. If its context ends while
// it waits for the person, it returns the error of the context, not wrapped.
type authorizeFunc func(context.Context, *promptRequest) (grant, claims, error)

// A promptRequest is what a person is asked.
type promptRequest struct {
	*metadata
	scope  string // space-separated, as sent
	prompt string // OpenID Connect Core §3.1.2.1; "" if the provider may decide
	hint   string // the user name of the person who is meant; "" if anybody may sign in

	// answered has to be called when the person has answered. Before, the sign-in ends
	// when all callers who waited for it have left. Afterwards it goes on without them.
	answered func() bool
}

// ask is the phase of a flight in which a person may be asked. It waits until no
// other program has the cache. That program may be signing in the same person, and then
// this one takes the token that it gets.
func (s *signIn) ask(ctx context.Context) (grant, error) {
	// ctx ends when all callers who waited have left. That ends work, too, until the
	// person has answered. From then on, only the deadline ends work.
	deadline, _ := ctx.Deadline()
	work, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	answered := context.AfterFunc(ctx, cancel)

	m, err := s.client.discoverWithRetries(work)
	if err != nil {
		return grant{}, err
	}
	w := s.watchSibling(work, cancel)
	asking := func(ctx context.Context, c msalCache) (grant, bool, error) {
		w.ourTurn.Store(true)
		return s.prompt(ctx, c, m, answered)
	}
	got, err := s.transact(work, askLimit, asking)
	cancel()
	found, ok := <-w.found
	if ok && err != nil {
		return s.adopt(found), nil
	}
	// At the deadline ctx ends as well as work, and may cancel work before its own timer
	// does. So either error can mean that the time is up. If the callers have left or
	// somebody has signed out, the flight fails with an error that says so, not with this.
	if err == context.Canceled || err == context.DeadlineExceeded {
		err = fmt.Errorf("cdfauth: %s: nobody has signed in within %v: %w", s.client.flow, askLimit,
			context.DeadlineExceeded)
	}
	return got, err
}

const (
	// siblingInterval is how long this program waits between two looks at the cache while
	// another program has it.
	siblingInterval = time.Second
	// siblingPatience is after how long the person is told that this program waits.
	siblingPatience = 5 * time.Second
)

var errCacheLocked = errors.New("another program is signing in and has it locked")

// A siblingWatch looks for the token of a sibling, which is another program or provider
// that has the cache, while this one waits for its turn.
type siblingWatch struct {
	ourTurn atomic.Bool      // the wait is over
	found   chan foundTokens // gets one element at most, and is closed when the watch ends
}

// watchSibling starts a watch, which ends when ctx ends or the wait is over. When it finds
// a token, it calls stopWaiting.
func (s *signIn) watchSibling(ctx context.Context, stopWaiting func()) *siblingWatch {
	w := &siblingWatch{found: make(chan foundTokens, 1)}
	go func() {
		defer close(w.found)
		var waited time.Duration
		for sleep(ctx, siblingInterval) && !w.ourTurn.Load() {
			waited += siblingInterval
			if waited == siblingPatience {
				s.warn(ctx, "cdfauth: waiting for the token cache", errCacheLocked)
				s.tell("Another program is signing in and keeps the token cache locked. " +
					"Waiting for it to finish.\n")
			}
			found, _ := s.searchCache(ctx)
			if found.fresh && !s.mustPrompt() {
				w.found <- found
				stopWaiting()
				return
			}
		}
	}()
	return w
}

// prompt asks the person, if that is still needed now that this program alone has the
// cache. It reports whether it has changed c.
func (s *signIn) prompt(
	ctx context.Context, c msalCache, m *metadata, answered func() bool,
) (grant, bool, error) {
	request := &promptRequest{
		metadata: m,
		scope:    s.scope(m.Scopes),
		prompt:   s.cfg.prompt,
		hint:     s.cfg.loginHint,
		answered: answered,
	}
	changed := false
	if !s.mustPrompt() {
		got, hasChanged, err := s.redeemRefreshToken(ctx, c)
		if !errors.Is(err, ErrSignInRequired) {
			return got, hasChanged, err
		}
		changed = hasChanged
		// Prompt was for the first sign-in, or is empty.
		request.prompt = ""
		s.selectPerson(c, request)
	}
	if s.needsConsent(m) && request.prompt != "consent" {
		request.prompt = strings.TrimSpace(request.prompt + " consent")
	}
	got, said, err := s.authorize(ctx, request)
	if err != nil {
		return grant{}, changed, err
	}
	return s.signedIn(ctx, c, got, said), true, nil
}

// signedIn stores in c what a person's sign-in has brought, and tells who has signed in.
// It returns the grant with the person's name in the token.
func (s *signIn) signedIn(ctx context.Context, c msalCache, got grant, said claims) grant {
	person := accountOf(got.response, said)
	person.hints = s.person(c, person.id).hints
	got = s.save(c, got, said, person, nil)
	s.refused.Clear()
	s.tellWho(ctx, person)
	return got
}

// selectPerson adds to a request whom to ask for: the account that is meant or, if several
// are signed in and none of them is selected, one that the person selects.
func (s *signIn) selectPerson(c msalCache, request *promptRequest) {
	selected, several := s.selectAccount(c)
	switch {
	case several:
		request.prompt = "select_account"
		s.tell("Several accounts are signed in. With a LoginHint that is the user name of one " +
			"of them,\nthis program would not have to ask at each start.\n")
	case selected != nil:
		request.hint = cmp.Or(selected.username, s.cfg.loginHint)
	}
}

// needsConsent reports whether the identity provider issues a refresh token only if the
// person consents anew. A provider that knows the scope offline_access may demand that
// (OpenID Connect Core §11), but Entra does not.
func (s *signIn) needsConsent(m *metadata) bool {
	return !s.client.entraStyle() && slices.Contains(m.Scopes, "offline_access")
}

// tellWho tells the person under which user name they have signed in. If that is not the
// one that LoginHint means, tellWho says so, and logs it.
func (s *signIn) tellWho(ctx context.Context, person account) {
	name := printable(person.username)
	if name == "" {
		s.tell("You are signed in.\n")
		return
	}
	text := "You are signed in as " + name + ".\n"
	hint := s.cfg.loginHint
	if hint == "" || containsFold(person.names, hint) || containsFold(person.hints, hint) {
		s.tell(text)
		return
	}
	text += "This program was set up for " + printable(hint) + " (LoginHint). " +
		"It goes on as " + name + ".\n"
	s.tell(text)
	s.warn(ctx, "cdfauth: another user name than LoginHint has signed in",
		fmt.Errorf("LoginHint is %q, and %q has signed in", printable(hint), name))
}

// tell writes to the person's terminal.
func (s *signIn) tell(text string) {
	_, _ = io.WriteString(s.cfg.output, text)
}
