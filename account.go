package cdfauth

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// This file is what the two flows of a user have in common: whose sign-ins are in the cache and which of them is meant, what an ID
// token has to say to be believed, how a sign-in is renewed, when a person is asked, and how it is forgotten. The order is: a valid
// token in the cache, then a refresh token, then the person.

// account is who has signed in.
type account struct {
	id       any // home_account_id: a string, or nil if the provider tells no accounts apart
	username string
}

// user is the share of a user's flow in a cache.
type user struct {
	store
	hint, prompt string
	source       string    // account_source: the grant by which people sign in
	output       io.Writer // where the person is told things
	noHome       error     // why there is no default cache; nil once that was said

	signIn  func(context.Context, *question) (issued, *claims, error) // asks the person
	account atomic.Pointer[account]                                   // whose tokens are handed out; nil until that is known
}

// question is what a person is to be asked, and by whom.
type question struct {
	*metadata
	scope, prompt, hint string
	answered            func() bool // to be called when an answer has arrived: from then on nobody can stop the flight
}

// newUser completes the store of a user's flow, and gives the engine its phases.
func newUser(c *client, e *engine, o Options, hint, source string, output io.Writer) (*user, error) {
	if c.endpoint.kind == kindTokenURL {
		return nil, errors.New("cdfauth: Endpoint: TokenURL names too little for a user's flow: want Issuer, Entra, Authority or Discovery")
	}
	u := &user{store: store{client: c, engine: e, cache: o.Cache}, hint: hint, source: source, output: output}
	if o.Cache == nil {
		var path string
		u.cache = new(MemoryCache)
		if path, u.noHome = DefaultCachePath(c.id); u.noHome == nil {
			u.cache, u.noHome = NewFileCache(path)
		}
	}
	e.silent, e.ask, e.signOut = u.silent, u.ask, u.signOut
	return u, nil
}

// entraStyle says that the provider is Entra or behaves so.
func (c *client) entraStyle() bool {
	return c.endpoint.kind == kindAuthority || c.endpoint.kind == kindADFS
}

// owns reports whether an entry is of this provider's client at this identity provider. The key of the schema does not tell: two
// realms, two tenants or two ports of one host look the same in it. Our own entries say who issued them; of others it is the ID
// token of the same account that does, or for Entra the realm.
func (u *user) owns(c contents, section string, e entry) bool {
	environment, realm, issuer := u.whose()
	if e.text("environment") != environment || e.text("client_id") != u.client.id || e.text(fieldGrant) != "" {
		return false
	}
	said := e.text(fieldIssuer)
	if said == issuer {
		return true
	}
	inRealm := section == refreshTokens || e.text("realm") == realm // those serve all realms of an account
	if u.client.entraStyle() {
		return inRealm && (said == "" || origin(said) == origin(issuer))
	}
	id := u.idToken(c, e.account())
	return said == "" && id != nil && u.client.isIssuer(id.Iss) && (inRealm || realm == "")
}

// isIssuer reports whether the provider calls itself so.
func (c *client) isIssuer(iss string) bool {
	if m := c.metadata(); m != nil {
		return iss == m.Issuer
	}
	return strings.TrimSuffix(iss, "/") == c.endpoint.url
}

// idToken returns what the cached ID token of an account says, nil if there is none. That of another of Entra's tenants says something else.
func (u *user) idToken(c contents, id any) *claims {
	environment, realm, _ := u.whose()
	for _, key := range c.find(idTokens, "", func(e entry) bool {
		return id != nil && e.account() == id && e.text("environment") == environment && e.text("client_id") == u.client.id &&
			(e.text("realm") == realm || !u.client.entraStyle())
	}) {
		if said, err := parseIDToken(c.entry(idTokens, key).text("secret")); err == nil {
			return said
		}
	}
	return nil
}

// who returns the account that is meant: the one that this provider has used so far, else the one that LoginHint names, else the only
// one. Tokens of nobody in particular count only where the client has no account at all.
func (u *user) who(c contents) (a *account, several bool) {
	if a = u.account.Load(); a != nil {
		return a, false
	}
	environment, _, _ := u.whose()
	ids, anybody := map[any]bool{}, false
	for _, section := range tokenSections {
		for _, key := range c.find(section, "", func(e entry) bool { return e.text(fieldGrant) == "" }) {
			e := c.entry(section, key)
			anybody = anybody || e.account() != nil && e.text("environment") == environment && e.text("client_id") == u.client.id
			if u.owns(c, section, e) {
				ids[e.account()] = true
			}
		}
	}
	for id := range ids {
		name := ""
		for _, key := range c.find(accounts, "", func(e entry) bool { return e.account() == id && e.text("environment") == environment }) {
			name = c.entry(accounts, key).text("username")
		}
		if name == "" {
			name = u.idToken(c, id).name() // Python's device flow forgets it when it refreshes
		}
		if id == nil && anybody || u.hint != "" && !strings.EqualFold(name, u.hint) {
			continue
		}
		if a != nil {
			return nil, true
		}
		a = &account{id, name}
	}
	return a, false
}

// search looks for what the account that is meant has.
func (u *user) search(c contents) lookup {
	a, _ := u.who(c)
	if a == nil {
		return lookup{}
	}
	scope, ext := u.client.scope, extCacheKey(u.client.params)
	l := u.newest(c, func(e entry) bool {
		return u.owns(c, accessTokens, e) && e.account() == a.id && e.text("ext_cache_key") == ext &&
			(covers(e.text("target"), scope) || e.text(fieldAsked) == target(scope))
	})
	if l.account = *a; l.valid {
		l.token = named(l.token, a.username)
	}
	l.refreshable = len(u.refreshTokens(c, a)) > 0
	return l
}

// named returns t with a user's name.
func named(t Token, username string) Token {
	d := *t.load()
	d.username = printable(username)
	return newToken(d)
}

// refreshTokens returns the keys of an account's refresh tokens, the newest first.
func (u *user) refreshTokens(c contents, a *account) []string {
	return c.find(refreshTokens, "last_modification_time", func(e entry) bool {
		return u.owns(c, refreshTokens, e) && e.account() == a.id && e.text("secret") != ""
	})
}

// mustPrompt says that Prompt has yet to be obeyed, whatever the cache has.
func (u *user) mustPrompt() bool { return u.prompt != "" && u.account.Load() == nil }

// silent is the phase of a flight that asks nobody.
func (u *user) silent(ctx context.Context) (issued, error) {
	u.warn(ctx, "cdfauth: the sign-in is kept in memory alone", u.noHome)
	if u.noHome = nil; u.mustPrompt() {
		return issued{}, ErrSignInRequired
	}
	l, err := u.peek(ctx, u.search)
	if !l.fresh { // what was not found may only not have been recognised
		if e := u.recognise(ctx); e != nil {
			return l.orElse(e, u.engine)
		}
		l, err = u.peek(ctx, u.search)
	}
	if l.fresh {
		u.account.Store(&l.account)
		return l.issued, nil
	}
	if err == nil && !l.refreshable {
		return l.orElse(ErrSignInRequired, u.engine)
	}
	i, err := u.transact(ctx, lockLimit, u.renew)
	if err != nil {
		return l.orElse(err, u.engine)
	}
	return i, nil
}

// recognise reads the metadata if the cache cannot be searched, or the provider not be reached, without it.
func (u *user) recognise(ctx context.Context) error {
	if _, realm, _ := u.whose(); realm != "" && u.client.entraStyle() {
		return nil
	}
	_, err := again(ctx, attempts, func() error { _, err := u.client.discover(ctx); return err })
	return err
}

// orElse prefers a token that is still valid to an error, if the engine has none: it would keep its own.
func (l lookup) orElse(err error, e *engine) (issued, error) {
	if l.valid && !e.current.Load().valid(e.now().UnixNano()) {
		return l.issued, nil
	}
	return issued{}, err
}

// renew takes a token that somebody else has stored meanwhile, or redeems a refresh token. Of one that is refused another is tried,
// once: a newer one of the same account, or one that a program which takes no lock (Python's) has stored since.
func (u *user) renew(ctx context.Context, c contents) (i issued, changed bool, err error) {
	l := u.search(c)
	a, tokens := l.account, u.refreshTokens(c, &l.account)
	if !l.fresh && !l.refreshable {
		return issued{}, false, ErrSignInRequired
	}
	for try := 1; ; try++ {
		if l.fresh {
			u.account.Store(&a)
			return l.issued, changed, nil
		}
		if len(tokens) == 0 || try > 2 {
			return issued{}, changed, fmt.Errorf("%w: %w", ErrSignInRequired, err)
		}
		e := c.entry(refreshTokens, tokens[0])
		var said *claims
		if i, said, err = u.refresh(ctx, c, e); err == nil {
			u.account.Store(&a)
			i.token = named(i.token, a.username)
			u.keep(c, i, said, a, e)
			return i, true, nil
		}
		oe := (*OAuthError)(nil)
		switch errors.As(err, &oe); {
		case oe == nil:
			return i, changed, err
		case slices.Contains([]string{"interaction_required", "login_required", "consent_required", "invalid_scope"}, oe.Code):
			return i, changed, fmt.Errorf("%w: %w", ErrSignInRequired, err)
		case oe.Code != "invalid_grant" && (oe.Code != "" || oe.StatusCode != 400 && oe.StatusCode != 401): // some say no more
			return i, changed, err
		}
		before := maps.Clone(c)
		if blob, e := u.again(ctx); e == nil && u.reload(ctx, c, blob) {
			l = u.search(c)
		}
		c.remove(refreshTokens, func(r entry) bool { return u.owns(c, refreshTokens, r) && r.text("secret") == e.text("secret") })
		changed = true
		tokens = slices.DeleteFunc(u.refreshTokens(c, &a), func(key string) bool {
			n, old := c.entry(refreshTokens, key), before.entry(refreshTokens, key)
			return old != nil && old.text("secret") == n.text("secret") && n.written().Before(e.written())
		})
	}
}

// reload replaces a content, in place, by a newer one.
func (u *user) reload(ctx context.Context, c contents, blob []byte) bool {
	now, err := u.parse(ctx, blob)
	if err == nil && len(now) > 0 {
		clear(c)
		maps.Copy(c, now)
	}
	return err == nil && len(now) > 0
}

// refresh redeems a refresh token (RFC 6749 §6).
func (u *user) refresh(ctx context.Context, c contents, e entry) (issued, *claims, error) {
	i, err := u.client.exchange(ctx, "refresh_token", attempts, func(ctx context.Context, _ string, f *form) error {
		f.Set("refresh_token", e.text("secret"))
		f.secrets = append(f.secrets, e.text("secret"))
		return u.identify(ctx, f)
	})
	if err != nil || i.answer.IDToken == "" {
		return i, nil, err
	}
	said, err := parseIDToken(i.answer.IDToken)
	if err != nil {
		return issued{}, nil, err
	}
	// OpenID Connect Core §12.2: the issuer and the subject stay the same.
	if first := u.idToken(c, e.account()); first != nil {
		if said.Iss != first.Iss || said.Sub != first.Sub {
			return issued{}, nil, errors.New("cdfauth: the ID token that came with a refresh is another issuer's or another user's")
		}
		return i, said, said.check(u.client, said.Iss, "")
	}
	m, err := u.client.discover(ctx)
	if err != nil {
		return issued{}, nil, err
	}
	return i, said, said.check(u.client, m.Issuer, "")
}

// identify adds what a user's token requests have beside the grant.
func (u *user) identify(ctx context.Context, f *form) error {
	var m *metadata
	if !u.client.entraStyle() {
		var err error
		if m, err = u.client.discover(ctx); err != nil {
			return err
		}
	}
	f.Set("scope", u.scope(m))
	if u.client.entraStyle() {
		f.Set("client_info", "1")
	}
	return nil
}

// scope is what is asked for: the configured scopes and those that a sign-in wants, of which a provider that lists its scopes gets
// the ones it knows.
func (u *user) scope(m *metadata) string {
	all := strings.Fields(u.client.scope)
	for _, s := range openIDScopes {
		if !slices.Contains(all, s) && (u.client.entraStyle() || m.Scopes == nil || slices.Contains(m.Scopes, s)) {
			all = append(all, s)
		}
	}
	return strings.Join(all, " ")
}

// ask is the phase of a flight that may ask a person: when it is this program's turn, and unless a sibling that had its turn before
// has a token by then.
func (u *user) ask(ctx context.Context) (issued, error) {
	// Whoever waits may leave until an answer has arrived; the flight's deadline stays.
	deadline, _ := ctx.Deadline()
	work, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	stop := context.AfterFunc(ctx, cancel)
	var m *metadata
	if _, err := again(work, attempts, func() (err error) { m, err = u.client.discover(work); return err }); err != nil {
		cancel()
		return issued{}, err
	}
	var mine atomic.Bool // it is our turn
	siblings := make(chan *lookup, 1)
	go func() { siblings <- u.watch(work, &mine, cancel) }()
	i, err := u.transact(work, askLimit, func(ctx context.Context, c contents) (issued, bool, error) {
		mine.Store(true)
		return u.question(ctx, c, m, stop)
	})
	cancel()
	if l := <-siblings; l != nil && err != nil {
		u.account.Store(&l.account)
		return l.issued, nil
	}
	if err == context.Canceled || err == context.DeadlineExceeded {
		err = fmt.Errorf("cdfauth: %s: nobody has signed in within %v: %w", u.client.flow, askLimit, context.DeadlineExceeded)
	}
	return i, err
}

// watch tells a person who waits for another program, and looks once a second for what that one has got.
func (u *user) watch(ctx context.Context, mine *atomic.Bool, found func()) *lookup {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if mine.Load() {
			return nil
		}
		if n == 5 {
			_ = u.tell(ctx, "Another program is signing in and keeps the token cache locked. Waiting for it to finish.\n")
		}
		if l, err := u.peek(ctx, u.search); err == nil && l.fresh && !u.mustPrompt() {
			found()
			return &l
		}
	}
}

// tell shows a text.
func (u *user) tell(ctx context.Context, text string) error {
	_, err := guard(ctx, "Output", func(context.Context) (int, error) { return io.WriteString(u.output, text) })
	return err
}

// question asks the person, if that is still needed.
func (u *user) question(ctx context.Context, c contents, m *metadata, answered func() bool) (i issued, changed bool, err error) {
	q := &question{metadata: m, scope: u.scope(m), prompt: u.prompt, hint: u.hint, answered: answered}
	if !u.mustPrompt() {
		if len(c) == 0 { // or an old Python SDK is about to write it
			if blob, err := u.again(ctx); err == nil {
				u.reload(ctx, c, blob)
			}
		}
		if i, changed, err = u.renew(ctx, c); !errors.Is(err, ErrSignInRequired) {
			return i, changed, err
		}
		q.prompt = ""
		if a, several := u.who(c); several {
			q.prompt = "select_account"
		} else if a != nil && a.username != "" {
			q.hint = a.username
		}
	}
	// OpenID Connect Core §11: without consent such a provider gives out no refresh token.
	if !u.client.entraStyle() && slices.Contains(m.Scopes, "offline_access") && q.prompt != "consent" {
		q.prompt = strings.TrimSpace(q.prompt + " consent")
	}
	i, said, err := u.signIn(ctx, q)
	if err != nil {
		return i, changed, err
	}
	a := i.answer.account(said)
	u.account.Store(&a)
	i.token = named(i.token, a.username)
	u.keep(c, i, said, a, nil)
	return i, true, nil
}

// account tells whose token an answer has, as MSAL does.
func (r *tokenResponse) account(said *claims) account {
	var info struct{ UID, UTID string }
	if b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(r.ClientInfo, "=")); err == nil && json.Unmarshal(b, &info) == nil && info.UID != "" && info.UTID != "" {
		return account{info.UID + "." + info.UTID, said.name()}
	}
	if said != nil {
		return account{said.Sub, said.name()}
	}
	return account{}
}

// keep puts what a sign-in, or the renewal of one (of the given refresh token), has brought into the cache.
func (u *user) keep(c contents, i issued, said *claims, a account, renewed entry) {
	r, now := i.answer, u.client.now()
	environment, realm, issuer := u.whose()
	granted := r.Scope
	if strings.TrimSpace(granted) == "" {
		granted = u.client.scope
	}
	at := u.accessToken(i, a.id, granted)
	if !covers(granted, u.client.scope) {
		at[fieldAsked] = target(u.client.scope) // or every start would ask again for what was not granted
	}
	rt := maps.Clone(renewed) // which stays, but for
	if rt == nil {
		rt = entry{"credential_type": refreshTokens, "home_account_id": a.id, "environment": environment, "client_id": u.client.id, "target": target(granted), fieldIssuer: issuer}
		if r.FamilyID != "" {
			rt["family_id"] = r.FamilyID
		}
	}
	rt["secret"], rt["last_modification_time"] = r.RefreshToken, unix(now)
	id := entry{"credential_type": idTokens, "secret": r.IDToken, "home_account_id": a.id, "environment": environment, "realm": realm, "client_id": u.client.id, fieldIssuer: issuer}
	who := entry{"home_account_id": a.id, "environment": environment, "realm": realm, "local_account_id": said.local(), "username": a.username,
		"authority_type": "MSSTS", "account_source": u.source, fieldIssuer: issuer}
	if realm == "adfs" {
		who["authority_type"] = "ADFS"
	}
	c.remove(accessTokens, func(e entry) bool {
		return u.owns(c, accessTokens, e) && e.account() == a.id && !e.time("expires_on").After(now)
	})
	if i.token.Expiry().After(now) {
		c.put(accessTokens, at)
	}
	if r.RefreshToken != "" {
		c.put(refreshTokens, rt)
	}
	if said != nil {
		c.put(idTokens, id)
	}
	if renewed == nil && a.id != nil {
		c.update(accounts, who)
		c.update(appMetadata, entry{"client_id": u.client.id, "environment": environment, fieldIssuer: issuer})
	}
}

// signOut is SignOut of both flows.
func (u *user) signOut(ctx context.Context) error {
	forget := func() {
		u.engine.forget()
		u.broken.Store(false)
		u.spare.Update(context.WithoutCancel(ctx), func(context.Context, []byte) ([]byte, error) { return nil, nil })
	}
	forget()
	defer forget() // also what a flight has brought meanwhile
	if err := u.recognise(ctx); err != nil {
		return err
	}
	_, err := guard(ctx, "Cache", func(ctx context.Context) (none struct{}, err error) {
		return none, u.cache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
			c, err := u.parse(ctx, old)
			a, several := u.who(c)
			switch {
			case err != nil:
				return nil, err
			case several:
				return nil, errors.New("several accounts are signed in, and LoginHint does not say which one to sign out")
			case a == nil:
				return old, nil
			}
			environment, _, _ := u.whose()
			others := 0                             // other clients' tokens
			for _, section := range tokenSections { // the ID token last: others are known by it
				c.remove(section, func(e entry) bool { return e.account() == a.id && u.owns(c, section, e) })
				others += len(c.find(section, "", func(e entry) bool { return e.account() == a.id && e.text("environment") == environment }))
			}
			if others == 0 {
				c.remove(accounts, func(e entry) bool { return e.account() == a.id && e.text("environment") == environment })
			}
			return c.blob()
		})
	})
	if err == nil {
		u.account.Store(nil)
	}
	return err
}

// claims are what is read of an ID token (OpenID Connect Core §2), for the account's identity and nothing else.
type claims struct {
	Iss, Sub, Azp, Nonce, Oid, Tid, UPN string
	Aud                                 json.RawMessage
	Exp                                 float64
	PreferredUsername                   string `json:"preferred_username"`
}

func (s *claims) name() string {
	switch {
	case s == nil:
		return ""
	case s.PreferredUsername != "":
		return s.PreferredUsername
	}
	return s.UPN
}

// believe checks the ID token of a sign-in, if there is one, before anything is kept.
func (u *user) believe(i issued, q *question, nonce string) (*claims, error) {
	if i.answer.IDToken == "" {
		return nil, nil
	}
	said, err := parseIDToken(i.answer.IDToken)
	if err == nil {
		err = said.check(u.client, q.Issuer, nonce)
	}
	return said, err
}

// local is MSAL's local_account_id.
func (s *claims) local() any {
	switch {
	case s == nil:
		return nil
	case s.Oid != "":
		return s.Oid
	}
	return s.Sub
}

// parseIDToken reads the claims. The signature is not needed: the token comes from the token endpoint itself, over TLS (§3.1.3.7,
// number 6).
func parseIDToken(raw string) (*claims, error) {
	_, rest, _ := strings.Cut(raw, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	b, err := base64.RawURLEncoding.DecodeString(payload)
	s := new(claims)
	if !ok || strings.Contains(signature, ".") || err != nil || json.Unmarshal(b, s) != nil || s.Sub == "" {
		return nil, errors.New("cdfauth: the answer's id_token is not an ID token")
	}
	return s, nil
}

// check judges the claims as a client of the code flow has to (§3.1.3.7). nonce is "" where none was sent.
func (s *claims) check(c *client, issuer, nonce string) error {
	var one string
	var many []string
	if json.Unmarshal(s.Aud, &one) == nil {
		many = []string{one}
	} else {
		_ = json.Unmarshal(s.Aud, &many) // if it is neither, it names nobody
	}
	const skew = 5 * time.Minute
	wrong := ""
	switch {
	case s.Iss == "" || s.Iss != strings.ReplaceAll(issuer, "{tenantid}", s.Tid): // Entra's metadata for several tenants
		return fmt.Errorf("cdfauth: the ID token is of issuer %q, and %q was expected", scrub(s.Iss, 200), scrub(issuer, 200))
	case !slices.Contains(many, c.id):
		wrong = "is for another client"
	case s.Azp != "" && s.Azp != c.id, s.Azp == "" && len(many) > 1:
		wrong = "was issued to another client (azp)"
	case !(s.Exp > float64(c.now().Add(-skew).Unix())):
		wrong = "has expired (is this computer's clock right?)"
	case nonce != "" && subtle.ConstantTimeCompare([]byte(nonce), []byte(s.Nonce)) != 1:
		wrong = "is of another sign-in (nonce)"
	default:
		return nil
	}
	return errors.New("cdfauth: the ID token " + wrong)
}
