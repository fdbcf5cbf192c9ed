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
	"sync/atomic"
	"time"
)

type signIn struct {
	tokenStore
	cfg       signInConfig
	noHome    error // why there is no default cache; nil once that was said
	authorize func(context.Context, *promptRequest) (grant, claims, error)
	account   atomic.Pointer[account] // whose tokens are handed out; nil until that is known
}

type promptRequest struct {
	*metadata
	scope, prompt, hint string
	answered            func() bool // to be called when an answer has arrived: from then on nobody can stop the flight
}

// A signInConfig is what the configurations of the two flows of a person have in common.
type signInConfig struct {
	flow          string // for errors and logs
	accountSource string // MSAL's name for the way in which people sign in
	endpoint      Endpoint
	clientID      string
	scopes        []string
	params        url.Values
	loginHint     string
	prompt        string
	output        io.Writer
	options       Options
}

func newSignIn(cfg signInConfig) (*signIn, error) {
	e := newRefresher(cfg.flow, cfg.options)
	c, err := newClient(cfg.flow, cfg.endpoint, cfg.clientID, cfg.scopes, cfg.params, cfg.options, &e.clock)
	if cfg.endpoint.kind == kindTokenURL {
		err = cmp.Or(err, errors.New("cdfauth: Endpoint: TokenURL names too little for a user's flow: want Issuer, Entra, Authority or Discovery"))
	}
	if err != nil {
		return nil, err
	}
	u := &signIn{tokenStore: tokenStore{client: c, refresher: e, cache: cfg.options.Cache}, cfg: cfg}
	if u.cache == nil {
		var path string
		u.cache = new(MemoryCache)
		if path, u.noHome = DefaultCachePath(c.id); u.noHome == nil {
			u.cache, u.noHome = NewFileCache(path)
		}
	}
	e.silent, e.ask = u.silent, u.ask
	return u, nil
}

func (u *signIn) mustPrompt() bool { return u.cfg.prompt != "" && u.account.Load() == nil } // says that Prompt has yet to be obeyed, whatever the cache has

func (u *signIn) silent(ctx context.Context) (grant, error) {
	u.warn(ctx, "cdfauth: the sign-in is kept in memory alone", u.noHome)
	if u.noHome = nil; u.mustPrompt() {
		return grant{}, ErrSignInRequired
	}
	c, err := u.peek(ctx)
	l := u.search(c)
	if !l.fresh { // what was not found may only not have been recognised
		if e := u.loadMetadata(ctx); e != nil {
			return l.orElse(grant{}, e, u.refresher)
		}
		c, err = u.peek(ctx)
		l = u.search(c)
	}
	switch {
	case l.fresh:
		u.account.Store(&l.account)
		return l.grant, nil
	case err == nil && len(l.refreshTokens) == 0:
		return l.orElse(grant{}, ErrSignInRequired, u.refresher)
	}
	i, err := u.transact(ctx, lockLimit, u.redeemRefreshToken)
	return l.orElse(i, err, u.refresher)
}

func (u *signIn) loadMetadata(ctx context.Context) (err error) { // reads the metadata if the cache cannot be searched, or the provider not be reached, without it
	if realm, _ := u.realmAndIssuer(); realm == "" || !u.client.entraStyle() {
		_, err = u.client.provider(ctx)
	}
	return err
}

// redeemRefreshToken takes a token that somebody else has stored meanwhile, or redeems a refresh token. Of one that is refused another is tried, once: a newer one of the same
// account, or one that a program which takes no lock (Python's) has stored since.
func (u *signIn) redeemRefreshToken(ctx context.Context, c msalCache) (i grant, changed bool, err error) {
	l := u.search(c)
	a, tokens := l.account, l.refreshTokens
	err = errors.New("there is no refresh token")
	for try := 1; ; try++ {
		switch {
		case l.fresh:
			u.account.Store(&a)
			return l.grant, changed, nil
		case len(tokens) == 0 || try > 2:
			return grant{}, changed, fmt.Errorf("%w: %w", ErrSignInRequired, err)
		}
		e, oe := tokens[0], (*OAuthError)(nil)
		var said claims
		i, said, err = u.refresh(ctx, c, e)
		switch errors.As(err, &oe); {
		case err == nil:
			u.save(c, &i, said, a, e)
			return i, true, nil
		case oe != nil && slices.Contains([]string{"interaction_required", "login_required", "consent_required", "invalid_scope"}, oe.Code):
			return i, changed, fmt.Errorf("%w: %w", ErrSignInRequired, err)
		case oe == nil || oe.Code != "invalid_grant" && (oe.Code != "" || oe.StatusCode != 400 && oe.StatusCode != 401): // some say no more
			return i, changed, err
		}
		u.reload(ctx, c)
		same := func(a, b entry) bool { return a.text("secret") == b.text("secret") }
		c.remove(refreshTokens, func(r entry) bool { return u.issuedToUs(c, refreshTokens, r) && same(r, e) })
		known := tokens
		l = u.tokens(c, a)
		tokens = slices.DeleteFunc(l.refreshTokens, func(r entry) bool {
			return !r.written().After(e.written()) && slices.ContainsFunc(known, func(k entry) bool { return same(k, r) })
		})
		changed = true
	}
}

func (u *signIn) reload(ctx context.Context, c msalCache) { // replaces a content, in place, by what is in the cache a moment later, if anything is
	blob, _ := u.read(ctx, tornPause)
	if now, _ := u.parse(ctx, blob); len(now) > 0 {
		clear(c)
		maps.Copy(c, now)
	}
}

// refresh redeems a refresh token (RFC 6749 §6). An ID token with it has issuer and subject of the first one (OpenID Connect Core §12.2).
func (u *signIn) refresh(ctx context.Context, c msalCache, e entry) (grant, claims, error) {
	first := u.idToken(c, e.account())
	if first.Iss == "" { // found before the refresh token is spent
		m, err := u.client.provider(ctx)
		if err != nil {
			return grant{}, claims{}, err
		}
		first.Iss = m.Issuer
	}
	i, err := u.client.exchange(ctx, "refresh_token", attempts, u.filler(url.Values{"refresh_token": {e.text("secret")}}, e.text("secret")))
	if err != nil {
		return i, claims{}, err
	}
	said, err := u.verifyIDToken(i, first.Iss, "", e.text("secret"))
	if err == nil && said.Sub != "" && first.Sub != "" && said.Sub != first.Sub {
		err = errors.New("cdfauth: the ID token that came with a refresh is another user's")
	}
	return i, said, err
}

func (u *signIn) filler(fields url.Values, secrets ...string) prepareFunc { // adds to a token request its grant's fields, and what those of all of a user's grants have
	return func(ctx context.Context, _ string, f *tokenRequest) (err error) {
		maps.Copy(f.Values, fields)
		f.secrets = append(f.secrets, secrets...)
		m := new(metadata)
		if u.client.entraStyle() {
			f.Set("client_info", "1")
		} else if m, err = u.client.discover(ctx); err != nil {
			return err
		}
		f.Set("scope", u.scope(m))
		return nil
	}
}

func (u *signIn) scope(m *metadata) string { // what is asked for: the configured scopes and those that a sign-in wants, of which a provider that lists its scopes gets the ones it knows
	all := strings.Fields(u.client.scope)
	for _, s := range openIDScopes {
		if !slices.Contains(all, s) && (u.client.entraStyle() || m.Scopes == nil || slices.Contains(m.Scopes, s)) {
			all = append(all, s)
		}
	}
	return strings.Join(all, " ")
}

// ask is the phase of a flight that may ask a person: when it is this program's turn, and unless a sibling that had its turn before has a token by then.
func (u *signIn) ask(ctx context.Context) (grant, error) {
	deadline, _ := ctx.Deadline()
	work, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	stop := context.AfterFunc(ctx, cancel) // whoever waits may leave until an answer has arrived
	m, err := u.client.provider(work)
	if err != nil {
		return grant{}, err
	}
	var mine atomic.Bool // it is our turn
	sibling := make(chan foundTokens, 1)
	go func() { // tells a person who waits for another program, and looks once a second for what that one has got
		defer close(sibling)
		for n := 1; sleep(work, time.Second) && !mine.Load(); n++ {
			if n == 5 {
				u.warn(work, "cdfauth: waiting for the token cache", errors.New("another program is signing in and has it locked"))
				u.tell(work, "Another program is signing in and keeps the token cache locked. Waiting for it to finish.\n")
			}
			c, _ := u.peek(work)
			if l := u.search(c); l.fresh && !u.mustPrompt() {
				sibling <- l
				cancel()
				return
			}
		}
	}()
	i, err := u.transact(work, askLimit, func(ctx context.Context, c msalCache) (grant, bool, error) {
		mine.Store(true)
		return u.prompt(ctx, c, m, stop)
	})
	cancel()
	if l := <-sibling; l.fresh && err != nil {
		u.account.Store(&l.account)
		return l.grant, nil
	}
	if err == context.Canceled || err == context.DeadlineExceeded {
		err = fmt.Errorf("cdfauth: %s: nobody has signed in within %v: %w", u.client.flow, askLimit, context.DeadlineExceeded)
	}
	return i, err
}

func (u *signIn) tell(ctx context.Context, text string) {
	_, _ = guard(ctx, "Output", func(context.Context) (int, error) { return io.WriteString(u.cfg.output, text) })
}

func (u *signIn) prompt(ctx context.Context, c msalCache, m *metadata, answered func() bool) (i grant, changed bool, err error) {
	q := &promptRequest{metadata: m, scope: u.scope(m), prompt: u.cfg.prompt, hint: u.cfg.loginHint, answered: answered}
	if !u.mustPrompt() {
		if len(c) == 0 { // or an old Python SDK is about to write it
			u.reload(ctx, c)
		}
		if i, changed, err = u.redeemRefreshToken(ctx, c); !errors.Is(err, ErrSignInRequired) {
			return i, changed, err
		}
		q.prompt = ""
		if a, several := u.selectAccount(c); several {
			q.prompt = "select_account"
		} else if a != nil {
			q.hint = cmp.Or(a.username, u.cfg.loginHint)
		}
	}
	if !u.client.entraStyle() && slices.Contains(m.Scopes, "offline_access") && q.prompt != "consent" { // or there is no refresh token (Core §11)
		q.prompt = strings.TrimSpace(q.prompt + " consent")
	}
	i, said, err := u.authorize(ctx, q)
	if err != nil {
		return i, changed, err
	}
	u.save(c, &i, said, i.response.account(said), nil)
	return i, true, nil
}

func (u *signIn) save(c msalCache, i *grant, said claims, a account, renewed entry) { // puts what a sign-in, or the renewal of one (of the given refresh token), has brought into the cache
	u.account.Store(&a)
	i.token = newToken(tokenData{bearer + i.token.AccessToken(), i.token.Expiry(), i.token.Scope(), printable(a.username)})
	r, now := i.response, u.client.clock.now()
	granted := cmp.Or(strings.TrimSpace(r.Scope), u.client.scope)
	c.remove(accessTokens, func(e entry) bool {
		return u.issuedToUs(c, accessTokens, e) && e.account() == a.id && !e.time("expires_on").After(now)
	})
	if i.token.Expiry().After(now) {
		c.put(accessTokens, u.accessToken(*i, a.id, granted))
	}
	if r.RefreshToken != "" {
		e := maps.Clone(renewed) // which stays, but for its secret
		if e == nil {
			e = u.newEntry(refreshTokens, a.id, "", entry{"target": target(granted), "family_id": r.FamilyID})
			delete(e, "realm")
		}
		e["secret"], e["last_modification_time"] = r.RefreshToken, unix(now)
		c.remove(refreshTokens, func(old entry) bool { return renewed != nil && old.text("secret") == renewed.text("secret") }) // whatever its key
		c.put(refreshTokens, e)
	}
	if said.Sub != "" {
		c.put(idTokens, u.newEntry(idTokens, a.id, r.IDToken, nil))
	}
	if renewed == nil && a.id != "" {
		realm, issuer := u.realmAndIssuer()
		c.put(accounts, entry{"home_account_id": a.id, "environment": u.environment(), "realm": realm, "local_account_id": cmp.Or(said.Oid, said.Sub),
			"username": a.username, "authority_type": cmp.Or(map[string]string{"adfs": "ADFS"}[realm], "MSSTS"), "account_source": u.cfg.accountSource, fieldIssuer: issuer})
		c.put(appMetadata, entry{"client_id": u.client.id, "environment": u.environment(), fieldIssuer: issuer})
	}
}

func (u *signIn) signOut(ctx context.Context) error {
	if ctx == nil {
		return errors.New("cdfauth: SignOut was called with a nil context")
	}
	forget := func() {
		u.refresher.forget()
		u.fallback.Store(nil)
	}
	forget()
	defer forget() // also what a flight has brought meanwhile
	unknown := u.loadMetadata(ctx)
	remove := func(ctx context.Context, old []byte) ([]byte, error) {
		c, err := u.parse(ctx, old)
		a, several := u.selectAccount(c)
		switch {
		case several:
			return nil, errors.New("several accounts are signed in, and LoginHint does not say which one to sign out")
		case a == nil || err != nil:
			return old, cmp.Or(err, unknown)
		}
		its := func(e entry) bool { return e.account() == a.id && e.text("environment") == u.environment() }
		others := 0                            // other clients' tokens
		for _, section := range sections[:3] { // the ID token last: others are known by it
			c.remove(section, func(e entry) bool { return its(e) && u.issuedToUs(c, section, e) })
			others += len(c.find(section, its))
		}
		if others == 0 {
			c.remove(accounts, its)
		}
		return c.blob()
	}
	_, err := guarded(ctx, "Cache", func() error { return u.cache.Update(ctx, remove) })
	if err == nil {
		u.account.Store(nil)
	}
	return err
}
