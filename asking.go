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
// they sign in differs by flow: authorize is interactive.go's or devicecode.go's.

// An authorizeFunc asks a person to sign in, and exchanges what comes of it for a
// token, whose ID token it has verified.
type authorizeFunc func(context.Context, *promptRequest) (grant, claims, error)

// A promptRequest is what a person is asked.
type promptRequest struct {
	*metadata
	scope  string // space-separated, as sent
	prompt string // OpenID Connect Core §3.1.2.1; "" for what the provider thinks fit
	hint   string // the user name of who is meant; "" for whoever comes

	// answered is to be called when the person has answered. Until then the sign-in
	// ends when everybody who waited for it has left.
	answered func() bool
}

// ask is the phase of a flight in which a person may be asked. It waits until no
// other program has the cache: it may be signing in the same person, and then its
// token serves this one too.
func (s *signIn) ask(ctx context.Context) (grant, error) {
	// The callers who wait may leave, which ends ctx, until an answer has arrived.
	// What follows has a deadline alone.
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
	if err == context.Canceled || err == context.DeadlineExceeded {
		err = fmt.Errorf("cdfauth: %s: nobody has signed in within %v: %w", s.client.flow, askLimit,
			context.DeadlineExceeded)
	}
	return got, err
}

// How often the cache is looked into while another program has it, and for how long
// that goes on before the person is told.
const (
	siblingInterval = time.Second
	siblingPatience = 5
)

var errCacheLocked = errors.New("another program is signing in and has it locked")

// A siblingWatch looks for what another program gets while this one waits for it.
type siblingWatch struct {
	ourTurn atomic.Bool      // the wait is over
	found   chan foundTokens // has at most one, and is closed when the watch ends
}

// watchSibling starts a watch, which ends with ctx. When it finds a token, it calls
// stopWaiting.
func (s *signIn) watchSibling(ctx context.Context, stopWaiting func()) *siblingWatch {
	w := &siblingWatch{found: make(chan foundTokens, 1)}
	go func() {
		defer close(w.found)
		for n := 1; sleep(ctx, siblingInterval) && !w.ourTurn.Load(); n++ {
			if n == siblingPatience {
				s.warn(ctx, "cdfauth: waiting for the token cache", errCacheLocked)
				s.tell("Another program is signing in and keeps the token cache locked. " +
					"Waiting for it to finish.\n")
			}
			found, _ := s.look(ctx)
			if found.fresh && !s.mustPrompt() {
				w.found <- found
				stopWaiting()
				return
			}
		}
	}()
	return w
}

// prompt asks the person, if that is still needed once this program alone has the
// cache. It reports whether the content has changed.
func (s *signIn) prompt(
	ctx context.Context, c msalCache, m *metadata, answered func() bool,
) (grant, bool, error) {
	request := &promptRequest{
		metadata: m,
		scope:    s.scope(m),
		prompt:   s.cfg.prompt,
		hint:     s.cfg.loginHint,
		answered: answered,
	}
	changed := false
	if !s.mustPrompt() {
		if len(c) == 0 {
			// Old versions of the Python SDK truncate the file before they write it.
			s.reload(ctx, c)
		}
		var got grant
		var err error
		got, changed, err = s.redeemRefreshToken(ctx, c)
		if !errors.Is(err, ErrSignInRequired) {
			return got, changed, err
		}
		request.prompt = ""
		s.selectPerson(ctx, c, request)
	}
	if s.needsConsent(m) && request.prompt != "consent" {
		request.prompt = strings.TrimSpace(request.prompt + " consent")
	}
	got, said, err := s.authorize(ctx, request)
	if err != nil {
		return got, changed, err
	}
	person := accountOf(got.response, said)
	person.hints = s.person(c, person.id).hints
	got = s.save(c, got, said, person, nil)
	s.refused.Clear()
	s.tellWho(ctx, person)
	return got, true, nil
}

// selectPerson asks for the account that is meant, or to select one of several.
func (s *signIn) selectPerson(ctx context.Context, c msalCache, request *promptRequest) {
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

// needsConsent reports whether the provider issues a refresh token only if the
// person consents anew: offline_access demands that (OpenID Connect Core §11). Entra
// does not.
func (s *signIn) needsConsent(m *metadata) bool {
	return !s.client.entraStyle() && slices.Contains(m.Scopes, "offline_access")
}

// tellWho tells the person who has signed in, and that it is not who was meant.
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
