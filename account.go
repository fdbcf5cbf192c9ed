package cdfauth

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
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

// This file is what the two flows of a user have in common: whose sign-ins are in the cache and which of them is meant, how one is renewed, when a person is
// asked, what is kept and how forgotten, and what an ID token has to say to be believed. The order is: a token in the cache, a refresh token, the person.

type account struct {
	id       string // home_account_id, "" if the provider tells no accounts apart
	username string
}

type user struct {
	store
	cfg     InteractiveConfig // has the fields of the other flow's too
	source  string            // account_source: the grant by which people sign in
	noHome  error             // why there is no default cache; nil once that was said
	signIn  func(context.Context, *question) (issued, claims, error)
	account atomic.Pointer[account] // whose tokens are handed out; nil until that is known
}

type question struct {
	*metadata
	scope, prompt, hint string
	answered            func() bool // to be called when an answer has arrived: from then on nobody can stop the flight
}

func newUser(flow, source string, cfg InteractiveConfig) (*user, error) {
	c, e, err := newClient(flow, cfg.Endpoint, cfg.ClientID, cfg.Scopes, cfg.Params, cfg.Options)
	if cfg.Endpoint.kind == kindTokenURL {
		err = cmp.Or(err, errors.New("cdfauth: Endpoint: TokenURL names too little for a user's flow: want Issuer, Entra, Authority or Discovery"))
	}
	if err != nil {
		return nil, err
	}
	u := &user{store: store{client: c, engine: e, cache: cfg.Cache}, cfg: cfg, source: source}
	if u.cache == nil {
		var path string
		u.cache = new(MemoryCache)
		if path, u.noHome = DefaultCachePath(c.id); u.noHome == nil {
			u.cache, u.noHome = NewFileCache(path)
		}
	}
	e.silent, e.ask, e.signOut = u.silent, u.ask, u.signOut
	return u, nil
}

// owns reports whether an entry is of this client at this identity provider. The key does not tell: two realms, tenants or ports of one host look the same in it.
// Our own entries say who issued them; of others it is the ID token of the same account that does, or for Entra the realm.
func (u *user) owns(c contents, section string, e entry) bool {
	realm, issuer := u.whose()
	said, inRealm := e.text(fieldIssuer), section == refreshTokens || e.text("realm") == realm // those serve all realms of an account
	switch {
	case !u.ours(e):
		return false
	case said == issuer:
		return true
	case u.client.entraStyle():
		return inRealm && (said == "" || origin(said) == origin(issuer))
	}
	iss := u.idToken(c, e.account()).Iss
	if m := u.client.metadata(); m != nil && iss != m.Issuer || m == nil && strings.TrimSuffix(iss, "/") != u.client.endpoint.url {
		return false
	}
	return said == "" && (inRealm || realm == "")
}

func (u *user) idToken(c contents, id string) claims { // returns what the cached ID token of an account says, nothing if there is none. That of another of Entra's tenants says something else.
	realm, issuer := u.whose()
	for _, e := range c.find(idTokens, func(e entry) bool {
		ours := slices.Contains([]string{"", issuer}, e.text(fieldIssuer))
		if u.client.entraStyle() {
			ours = e.text("realm") == realm
		}
		return id != "" && e.account() == id && u.ours(e) && ours
	}) {
		if said, err := parseIDToken(e.text("secret")); err == nil {
			return said
		}
	}
	return claims{}
}

// who is meant: the account used so far, else the one that LoginHint names, else the only one. Tokens of nobody count only where the client has no account.
func (u *user) who(c contents) (a *account, several bool) {
	if a = u.account.Load(); a != nil {
		return a, false
	}
	ids, anybody := map[string]bool{}, false
	for _, section := range sections[:3] {
		for _, e := range c.find(section, u.ours) {
			anybody = anybody || e.account() != ""
			if u.owns(c, section, e) {
				ids[e.account()] = true
			}
		}
	}
	for id := range ids {
		name := ""
		for _, e := range c.find(accounts, func(e entry) bool { return e.account() == id && e.text("environment") == u.environment() }) {
			name = e.text("username")
		}
		name = cmp.Or(name, u.idToken(c, id).PreferredUsername, u.idToken(c, id).UPN) // Python's device flow forgets it when it refreshes
		switch {
		case id == "" && anybody || u.cfg.LoginHint != "" && !strings.EqualFold(name, u.cfg.LoginHint):
		case a != nil:
			return nil, true
		default:
			a = &account{id, name}
		}
	}
	return a, false
}

func (u *user) search(c contents) lookup {
	if a, _ := u.who(c); a != nil {
		return u.tokens(c, *a)
	}
	return lookup{}
}

func (u *user) tokens(c contents, a account) lookup { // finds an account's access token, and its refresh tokens, the newest first
	scope, ext := u.client.scope, extCacheKey(u.client.params)
	l := u.newest(c, func(e entry) bool {
		return u.owns(c, accessTokens, e) && e.account() == a.id && e.text("ext_cache_key") == ext &&
			(scope != "" && covers(e.text("target"), scope) || e.text(fieldAsked) == asFor(scope))
	})
	l.account, l.token = a, named(l.token, a)
	l.refreshTokens = c.find(refreshTokens, func(e entry) bool {
		return u.owns(c, refreshTokens, e) && e.account() == a.id && e.text("secret") != ""
	})
	return l
}

func named(t Token, a account) Token {
	d := *t.load()
	d.username = printable(a.username)
	return newToken(d)
}

func (u *user) mustPrompt() bool { return u.cfg.Prompt != "" && u.account.Load() == nil } // says that Prompt has yet to be obeyed, whatever the cache has

func (u *user) silent(ctx context.Context) (issued, error) {
	u.warn(ctx, "cdfauth: the sign-in is kept in memory alone", u.noHome)
	if u.noHome = nil; u.mustPrompt() {
		return issued{}, ErrSignInRequired
	}
	l, err := u.peek(ctx, u.search)
	if !l.fresh { // what was not found may only not have been recognised
		if e := u.recognise(ctx); e != nil {
			return l.orElse(issued{}, e, u.engine)
		}
		l, err = u.peek(ctx, u.search)
	}
	switch {
	case l.fresh:
		u.account.Store(&l.account)
		return l.issued, nil
	case err == nil && len(l.refreshTokens) == 0:
		return l.orElse(issued{}, ErrSignInRequired, u.engine)
	}
	i, err := u.transact(ctx, lockLimit, u.renew)
	return l.orElse(i, err, u.engine)
}

func (u *user) recognise(ctx context.Context) (err error) { // reads the metadata if the cache cannot be searched, or the provider not be reached, without it
	if realm, _ := u.whose(); realm == "" || !u.client.entraStyle() {
		_, err = u.client.provider(ctx)
	}
	return err
}

// renew takes a token that somebody else has stored meanwhile, or redeems a refresh token. Of one that is refused another is tried, once: a newer one of the same
// account, or one that a program which takes no lock (Python's) has stored since.
func (u *user) renew(ctx context.Context, c contents) (i issued, changed bool, err error) {
	l := u.search(c)
	a, tokens := l.account, l.refreshTokens
	err = errors.New("there is no refresh token")
	for try := 1; ; try++ {
		switch {
		case l.fresh:
			u.account.Store(&a)
			return l.issued, changed, nil
		case len(tokens) == 0 || try > 2:
			return issued{}, changed, fmt.Errorf("%w: %w", ErrSignInRequired, err)
		}
		e, oe := tokens[0], (*OAuthError)(nil)
		var said claims
		i, said, err = u.refresh(ctx, c, e)
		switch errors.As(err, &oe); {
		case err == nil:
			u.keep(c, &i, said, a, e)
			return i, true, nil
		case oe != nil && slices.Contains([]string{"interaction_required", "login_required", "consent_required", "invalid_scope"}, oe.Code):
			return i, changed, fmt.Errorf("%w: %w", ErrSignInRequired, err)
		case oe == nil || oe.Code != "invalid_grant" && (oe.Code != "" || oe.StatusCode != 400 && oe.StatusCode != 401): // some say no more
			return i, changed, err
		}
		u.reload(ctx, c)
		same := func(a, b entry) bool { return a.text("secret") == b.text("secret") }
		c.remove(refreshTokens, func(r entry) bool { return u.owns(c, refreshTokens, r) && same(r, e) })
		known := tokens
		l = u.tokens(c, a)
		tokens = slices.DeleteFunc(l.refreshTokens, func(r entry) bool {
			return !r.written().After(e.written()) && slices.ContainsFunc(known, func(k entry) bool { return same(k, r) })
		})
		changed = true
	}
}

func (u *user) reload(ctx context.Context, c contents) { // replaces a content, in place, by what is in the cache a moment later, if anything is
	blob, _ := u.again(ctx)
	if now, _ := u.parse(ctx, blob); len(now) > 0 {
		clear(c)
		maps.Copy(c, now)
	}
}

// refresh redeems a refresh token (RFC 6749 §6). An ID token with it has issuer and subject of the first one (OpenID Connect Core §12.2).
func (u *user) refresh(ctx context.Context, c contents, e entry) (issued, claims, error) {
	first := u.idToken(c, e.account())
	if first.Iss == "" { // found before the refresh token is spent
		m, err := u.client.provider(ctx)
		if err != nil {
			return issued{}, claims{}, err
		}
		first.Iss = m.Issuer
	}
	i, err := u.client.exchange(ctx, "refresh_token", attempts, u.filler(url.Values{"refresh_token": {e.text("secret")}}, e.text("secret")))
	if err != nil {
		return i, claims{}, err
	}
	said, err := u.believe(i, first.Iss, "")
	if err == nil && said.Sub != "" && first.Sub != "" && said.Sub != first.Sub {
		err = errors.New("cdfauth: the ID token that came with a refresh is another user's")
	}
	return i, said, err
}

func (u *user) filler(fields url.Values, secrets ...string) filler { // adds to a token request its grant's fields, and what those of all of a user's grants have
	return func(ctx context.Context, _ string, f *form) (err error) {
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

func (u *user) scope(m *metadata) string { // what is asked for: the configured scopes and those that a sign-in wants, of which a provider that lists its scopes gets the ones it knows
	all := strings.Fields(u.client.scope)
	for _, s := range openIDScopes {
		if !slices.Contains(all, s) && (u.client.entraStyle() || m.Scopes == nil || slices.Contains(m.Scopes, s)) {
			all = append(all, s)
		}
	}
	return strings.Join(all, " ")
}

// ask is the phase of a flight that may ask a person: when it is this program's turn, and unless a sibling that had its turn before has a token by then.
func (u *user) ask(ctx context.Context) (issued, error) {
	deadline, _ := ctx.Deadline()
	work, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	stop := context.AfterFunc(ctx, cancel) // whoever waits may leave until an answer has arrived
	m, err := u.client.provider(work)
	if err != nil {
		return issued{}, err
	}
	var mine atomic.Bool // it is our turn
	sibling := make(chan lookup, 1)
	go func() { // tells a person who waits for another program, and looks once a second for what that one has got
		defer close(sibling)
		for n := 1; sleep(work, time.Second) && !mine.Load(); n++ {
			if n == 5 {
				u.warn(work, "cdfauth: waiting for the token cache", errors.New("another program is signing in and has it locked"))
				u.tell(work, "Another program is signing in and keeps the token cache locked. Waiting for it to finish.\n")
			}
			if l, _ := u.peek(work, u.search); l.fresh && !u.mustPrompt() {
				sibling <- l
				cancel()
				return
			}
		}
	}()
	i, err := u.transact(work, askLimit, func(ctx context.Context, c contents) (issued, bool, error) {
		mine.Store(true)
		return u.question(ctx, c, m, stop)
	})
	cancel()
	if l := <-sibling; l.fresh && err != nil {
		u.account.Store(&l.account)
		return l.issued, nil
	}
	if err == context.Canceled || err == context.DeadlineExceeded {
		err = fmt.Errorf("cdfauth: %s: nobody has signed in within %v: %w", u.client.flow, askLimit, context.DeadlineExceeded)
	}
	return i, err
}

func (u *user) tell(ctx context.Context, text string) {
	_, _ = guard(ctx, "Output", func(context.Context) (int, error) { return io.WriteString(u.cfg.Output, text) })
}

func (u *user) question(ctx context.Context, c contents, m *metadata, answered func() bool) (i issued, changed bool, err error) {
	q := &question{metadata: m, scope: u.scope(m), prompt: u.cfg.Prompt, hint: u.cfg.LoginHint, answered: answered}
	if !u.mustPrompt() {
		if len(c) == 0 { // or an old Python SDK is about to write it
			u.reload(ctx, c)
		}
		if i, changed, err = u.renew(ctx, c); !errors.Is(err, ErrSignInRequired) {
			return i, changed, err
		}
		q.prompt = ""
		if a, several := u.who(c); several {
			q.prompt = "select_account"
		} else if a != nil {
			q.hint = cmp.Or(a.username, u.cfg.LoginHint)
		}
	}
	if !u.client.entraStyle() && slices.Contains(m.Scopes, "offline_access") && q.prompt != "consent" { // or there is no refresh token (Core §11)
		q.prompt = strings.TrimSpace(q.prompt + " consent")
	}
	i, said, err := u.signIn(ctx, q)
	if err != nil {
		return i, changed, err
	}
	u.keep(c, &i, said, i.answer.account(said), nil)
	return i, true, nil
}

func (r *tokenResponse) account(said claims) account { // tells whose token an answer has, as MSAL does
	var info struct{ UID, UTID string }
	a := account{said.Sub, cmp.Or(said.PreferredUsername, said.UPN)}
	b, _ := base64.RawURLEncoding.DecodeString(strings.TrimRight(r.ClientInfo, "="))
	if json.Unmarshal(b, &info) == nil && info.UID != "" && info.UTID != "" {
		a.id = info.UID + "." + info.UTID
	}
	return a
}

func (u *user) keep(c contents, i *issued, said claims, a account, renewed entry) { // puts what a sign-in, or the renewal of one (of the given refresh token), has brought into the cache
	u.account.Store(&a)
	i.token = named(i.token, a)
	r, now := i.answer, u.client.now()
	granted := cmp.Or(strings.TrimSpace(r.Scope), u.client.scope)
	c.remove(accessTokens, func(e entry) bool {
		return u.owns(c, accessTokens, e) && e.account() == a.id && !e.time("expires_on").After(now)
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
		realm, issuer := u.whose()
		c.put(accounts, entry{"home_account_id": a.id, "environment": u.environment(), "realm": realm, "local_account_id": cmp.Or(said.Oid, said.Sub),
			"username": a.username, "authority_type": cmp.Or(map[string]string{"adfs": "ADFS"}[realm], "MSSTS"), "account_source": u.source, fieldIssuer: issuer})
		c.put(appMetadata, entry{"client_id": u.client.id, "environment": u.environment(), fieldIssuer: issuer})
	}
}

func (u *user) signOut(ctx context.Context) error {
	forget := func() {
		u.engine.forget()
		u.spare.Store(nil)
	}
	forget()
	defer forget() // also what a flight has brought meanwhile
	unknown := u.recognise(ctx)
	remove := func(ctx context.Context, old []byte) ([]byte, error) {
		c, err := u.parse(ctx, old)
		a, several := u.who(c)
		switch {
		case several:
			return nil, errors.New("several accounts are signed in, and LoginHint does not say which one to sign out")
		case a == nil || err != nil:
			return old, cmp.Or(err, unknown)
		}
		its := func(e entry) bool { return e.account() == a.id && e.text("environment") == u.environment() }
		others := 0                            // other clients' tokens
		for _, section := range sections[:3] { // the ID token last: others are known by it
			c.remove(section, func(e entry) bool { return its(e) && u.owns(c, section, e) })
			others += len(c.find(section, its))
		}
		if others == 0 {
			c.remove(accounts, its)
		}
		return c.blob()
	}
	_, err := guard(ctx, "Cache", func(ctx context.Context) (none struct{}, err error) { return none, u.cache.Update(ctx, remove) })
	if err == nil {
		u.account.Store(nil)
	}
	return err
}

type claims struct { // what is read of an ID token (OpenID Connect Core §2), for the account's identity and nothing else
	Iss, Sub, Azp, Nonce, Oid, Tid, UPN string
	Aud                                 json.RawMessage
	Exp                                 float64
	PreferredUsername                   string `json:"preferred_username"`
}

func parseIDToken(raw string) (s claims, err error) { // reads the claims. The signature is not needed: the token comes from the token endpoint itself, over TLS (§3.1.3.7, number 6).
	parts := strings.SplitN(raw+"..", ".", 6)
	b, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if len(parts) != 5 || json.Unmarshal(b, &s) != nil || s.Sub == "" {
		return claims{}, errors.New("cdfauth: the answer's id_token is not an ID token")
	}
	return s, nil
}

// believe judges an ID token, if there is one, as a client of the code flow has to (§3.1.3.7), before anything is kept. nonce is "" where none was sent.
func (u *user) believe(i issued, issuer, nonce string) (claims, error) {
	if i.answer.IDToken == "" {
		return claims{}, nil
	}
	s, err := parseIDToken(i.answer.IDToken)
	if err != nil {
		return claims{}, err
	}
	var audience []string
	if json.Unmarshal(s.Aud, &audience) != nil {
		audience = make([]string, 1)
		_ = json.Unmarshal(s.Aud, &audience[0]) // if it is neither, it names nobody
	}
	const skew = 5 * time.Minute
	return s, refuse("cdfauth: the ID token ", []refusal{
		{s.Iss == "" || s.Iss != strings.ReplaceAll(issuer, "{tenantid}", s.Tid), // Entra's metadata for several tenants
			fmt.Sprintf("is of issuer %q, and %q was expected", scrub(s.Iss, 200), scrub(issuer, 200))},
		{!slices.Contains(audience, u.client.id), "is for another client"},
		{s.Azp != "" && s.Azp != u.client.id || s.Azp == "" && len(audience) > 1, "was issued to another client (azp)"},
		{!(s.Exp > float64(u.client.now().Add(-skew).Unix())), "has expired (is this computer's clock right?)"},
		{nonce != "" && subtle.ConstantTimeCompare([]byte(nonce), []byte(s.Nonce)) != 1, "is of another sign-in (nonce)"},
	})
}
