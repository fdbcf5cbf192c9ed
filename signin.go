//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// This file is what the two flows of a person share. They get a token, in this
// order,
//
//	from the cache       an access token of the person who is meant (account.go)
//	by a refresh token   out of the cache, while no other program can (refreshtoken.go)
//	from the person      one program at a time: the others wait, and take what it gets
//
// The first two are the silent phase of a flight. The third is the phase that asks,
// and differs by flow: authorize is interactive.go's or devicecode.go's. What it
// brings is kept (savegrant.go) until somebody signs out (signout.go).

// A signIn signs people in at one identity provider, and knows who has.
type signIn struct {
	tokenStore
	cfg       signInConfig
	authorize authorizeFunc
	account   atomic.Pointer[account] // whose tokens are handed out; nil until that is known
	noCache   error                   // why there is no cache by default; nil once that was said

	// refused has the refresh tokens, by fingerprint, that were refused for what this
	// provider asks for, and why. It is emptied when a person has signed in.
	refused sync.Map
}

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

// A signInConfig is what the configurations of the two flows have in common.
type signInConfig struct {
	flow          string // for errors and logs
	accountSource string // MSAL's name for the way in which people sign in
	endpoint      Endpoint
	clientID      string
	scopes        []string
	params        url.Values
	loginHint     string
	prompt        string
	output        io.Writer // where the person is told what to do
	options       Options
}

// newSignIn checks what both flows are configured by. The caller sets authorize.
func newSignIn(cfg signInConfig) (*signIn, error) {
	r := newRefresher(cfg.flow, cfg.options)
	c, err := newClient(cfg.flow, cfg.endpoint, cfg.clientID, cfg.scopes, cfg.params,
		cfg.options, &r.clock)
	if err != nil {
		return nil, err
	}
	if cfg.endpoint.kind == kindTokenURL {
		return nil, badField("Endpoint", "is made by TokenURL, which names no address at which a person "+
			"signs in: want Issuer, Entra, Authority or Discovery")
	}
	s := &signIn{
		tokenStore: tokenStore{client: c, refresher: r, cache: cfg.options.Cache},
		cfg:        cfg,
	}
	s.tellPerson = s.tell
	if s.cache == nil {
		s.cache, s.noCache = defaultCache(c.id)
	}
	r.silent = s.silent
	r.ask = s.ask
	r.cleanup = c.closeIdle
	return s, nil
}

// defaultCache returns the file at DefaultCachePath or, with the reason, a cache in
// memory where there is no such path.
func defaultCache(clientID string) (Cache, error) {
	path, err := DefaultCachePath(clientID)
	if err != nil {
		return new(MemoryCache), err
	}
	file, err := NewFileCache(path)
	if err != nil {
		return new(MemoryCache), err
	}
	return file, nil
}

// mustPrompt reports whether the person has to be asked whatever the cache has:
// Prompt demands that once.
func (s *signIn) mustPrompt() bool {
	return s.cfg.prompt != "" && s.account.Load() == nil
}

// silent gets a token without asking anybody.
func (s *signIn) silent(ctx context.Context) (grant, error) {
	if s.noCache != nil {
		s.warnUnsaved(ctx, "cdfauth: the sign-in is kept in memory alone", s.noCache)
		s.noCache = nil
	}
	if s.mustPrompt() {
		return grant{}, ErrSignInRequired
	}
	found, err := s.look(ctx)
	if !found.fresh {
		// The metadata may be needed to recognise our entries: load it, then look again.
		unavailable := s.loadMetadata(ctx)
		if unavailable != nil {
			return found.orElse(grant{}, unavailable, s.refresher)
		}
		found, err = s.look(ctx)
	}
	if found.fresh {
		return s.adopt(found), nil
	}
	s.warn(ctx, "cdfauth: the cache cannot be read", err)
	if len(found.refreshTokens) == 0 && (err == nil || err == errCacheContent) {
		required := s.withCacheTrouble(found.signInRequired(), err)
		return found.orElse(grant{}, required, s.refresher)
	}
	got, err := s.transact(ctx, lockLimit, s.redeemRefreshToken)
	return found.orElse(got, err, s.refresher)
}

// look searches the cache without waiting for those who are at work in it.
func (s *signIn) look(ctx context.Context) (foundTokens, error) {
	c, err := s.peek(ctx)
	return s.search(c), err
}

// adopt takes an access token that was found in the cache, and from now on those of
// its account alone.
func (s *signIn) adopt(found foundTokens) grant {
	s.account.Store(&found.account)
	return found.grant
}

// loadMetadata loads the metadata if, without it, entries of the cache are not
// recognised or the provider cannot be reached.
func (s *signIn) loadMetadata(ctx context.Context) error {
	realm, _ := s.realmAndIssuer()
	if realm != "" && s.client.entraStyle() {
		return nil
	}
	_, err := s.client.provider(ctx)
	return err
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

	m, err := s.client.provider(work)
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
				s.tell(ctx, "Another program is signing in and keeps the token cache locked. "+
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
		s.tell(ctx, "Several accounts are signed in. With a LoginHint that is the user name of one of them,\n"+
			"this program would not have to ask at each start.\n")
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

// scope returns what is asked for: the configured scopes, and those that tell who
// the person is and bring a refresh token. A provider that lists its scopes gets
// those of the latter that it knows.
func (s *signIn) scope(m *metadata) string {
	scopes := strings.Fields(s.client.scope)
	for _, extra := range openIDScopes {
		known := s.client.entraStyle() || m.Scopes == nil || slices.Contains(m.Scopes, extra)
		if known && !slices.Contains(scopes, extra) {
			scopes = append(scopes, extra)
		}
	}
	return strings.Join(scopes, " ")
}

// filler returns what adds to a token request the parameters of its grant, and those
// that all of a person's grants have. None of secrets may come back in an error.
func (s *signIn) filler(fields url.Values, secrets ...string) prepareFunc {
	return func(ctx context.Context, _ string, request *tokenRequest) error {
		maps.Copy(request.Values, fields)
		request.secrets = append(request.secrets, secrets...)
		m := new(metadata)
		if s.client.entraStyle() {
			// Entra then says which account it is, for the cache, as MSAL wants it.
			request.Set("client_info", "1")
		} else {
			var err error
			m, err = s.client.discover(ctx)
			if err != nil {
				return err
			}
		}
		request.Set("scope", s.scope(m))
		return nil
	}
}

// tellWho tells the person who has signed in, and that it is not who was meant.
func (s *signIn) tellWho(ctx context.Context, person account) {
	name := printable(person.username)
	if name == "" {
		s.tell(ctx, "You are signed in.\n")
		return
	}
	text := "You are signed in as " + name + ".\n"
	hint := s.cfg.loginHint
	if hint == "" || containsFold(person.names, hint) || containsFold(person.hints, hint) {
		s.tell(ctx, text)
		return
	}
	text += "This program was set up for " + printable(hint) + " (LoginHint). It goes on as " + name + ".\n"
	s.tell(ctx, text)
	s.warn(ctx, "cdfauth: another user name than LoginHint has signed in",
		fmt.Errorf("LoginHint is %q, and %q has signed in", printable(hint), name))
}

// tellLimit is how long a sign-in waits for an Output that does not take what the
// person is told. It goes on then: the text may yet appear.
const tellLimit = time.Second

// tell writes to the person's terminal.
func (s *signIn) tell(ctx context.Context, text string) {
	ctx, cancel := context.WithTimeout(ctx, tellLimit)
	defer cancel()
	_, _ = guard(ctx, "Output", func(context.Context) (int, error) {
		return io.WriteString(s.cfg.output, text)
	})
}
