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
	"sync"
	"sync/atomic"
	"time"
)

// This file is what the two flows of a user have in common: whose sign-ins are in the cache and which of them is meant,
// what an ID token has to say to be believed, how a sign-in is renewed, when a person is asked, and how it is forgotten.
// The order is: a valid token in the cache, then a refresh token, then the person.

// account is who has signed in.
type account struct {
	id       any // home_account_id: a string, or nil if the provider tells no accounts apart
	username string
}

// user is the share of a user's flow in a cache.
type user struct {
	store
	hint   string                                                    // LoginHint
	prompt string                                                    // Prompt
	source string                                                    // account_source: the grant by which people sign in
	output io.Writer                                                 // where the person is told things
	signIn func(context.Context, *question) (issued, *claims, error) // asks the person
	noHome error                                                     // why there is no default cache; nil once it was said

	mu       sync.Mutex
	account  *account // whose tokens this provider hands out, once that is known
	prompted bool     // Prompt has had its effect
}

// question is what a person is to be asked, and by whom.
type question struct {
	*metadata
	scope, prompt, hint string
	answered            func() // to be called when an answer has arrived: from then on nobody can stop the flight
}

// newUser completes the store of a user's flow, and gives the engine its phases.
func newUser(c *client, e *engine, cache Cache, hint, source string, output io.Writer) (*user, error) {
	if c.endpoint.kind == kindTokenURL {
		return nil, errors.New("cdfauth: Endpoint: TokenURL names too little for a user's flow: want Issuer, Entra, Authority or Discovery")
	}
	var noHome error
	if cache == nil {
		path, err := DefaultCachePath(c.id)
		if err == nil {
			cache, err = NewFileCache(path)
		}
		if err != nil {
			cache = new(MemoryCache)
		}
		noHome = err
	}
	u := &user{store: store{client: c, engine: e, cache: cache}, hint: hint, source: source, output: output, noHome: noHome}
	e.silent, e.ask = u.silent, u.ask
	return u, nil
}

// entraStyle says that the provider is Entra or behaves so.
func (c *client) entraStyle() bool {
	return c.endpoint.kind == kindAuthority || c.endpoint.kind == kindADFS
}

// owns reports whether an entry is of this provider's client at this identity provider. The key of the schema does not
// tell: two realms, two tenants or two ports of one host look the same in it. Our own entries say who issued them; of
// others it is the ID token of the same account that does, or for Entra the realm.
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
	id, ok := u.idToken(c, e.account())
	return said == "" && ok && u.client.isIssuer(id.Iss) && (inRealm || realm == "")
}

// isIssuer reports whether the provider calls itself so.
func (c *client) isIssuer(iss string) bool {
	if m := c.metadata(); m != nil {
		return iss == m.Issuer
	}
	return strings.TrimSuffix(iss, "/") == c.endpoint.url
}

// idToken returns what the cached ID token of an account says; that of another of Entra's tenants says something else.
func (u *user) idToken(c contents, id any) (*claims, bool) {
	environment, realm, _ := u.whose()
	for _, key := range c.find(idTokens, "", func(e entry) bool {
		return id != nil && e.account() == id && e.text("environment") == environment && e.text("client_id") == u.client.id &&
			(e.text("realm") == realm || !u.client.entraStyle())
	}) {
		if said, err := parseIDToken(c.entry(idTokens, key).text("secret")); err == nil {
			return said, true
		}
	}
	return nil, false
}

// who returns the account that is meant: the one that this provider has used so far, else the one that LoginHint names,
// else the only one. Tokens of nobody in particular count only where the client has no account at all.
func (u *user) who(c contents) (a *account, several bool) {
	u.mu.Lock()
	known := u.account
	u.mu.Unlock()
	if known != nil {
		return known, false
	}
	environment, _, _ := u.whose()
	ids, anybody := map[any]bool{}, false
	for _, section := range []string{accessTokens, refreshTokens, idTokens} {
		for _, key := range c.find(section, "", func(e entry) bool { return e.text(fieldGrant) == "" }) {
			e := c.entry(section, key)
			anybody = anybody || e.account() != nil && e.text("environment") == environment && e.text("client_id") == u.client.id
			if u.owns(c, section, e) {
				ids[e.account()] = true
			}
		}
	}
	for id := range ids {
		name := u.username(c, id)
		switch {
		case id == nil && anybody, u.hint != "" && !strings.EqualFold(name, u.hint):
		case a != nil:
			return nil, true
		default:
			a = &account{id, name}
		}
	}
	return a, false
}

// username returns what a person would recognise an account by.
func (u *user) username(c contents, id any) string {
	environment, _, _ := u.whose()
	for _, key := range c.find(accounts, "", func(e entry) bool {
		return id != nil && e.account() == id && e.text("environment") == environment && e.text("username") != ""
	}) {
		return c.entry(accounts, key).text("username")
	}
	said, _ := u.idToken(c, id) // Python's device flow forgets the name when it refreshes
	return said.name()
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
func (u *user) mustPrompt() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.prompt != "" && !u.prompted
}

// settle remembers whose tokens are handed out.
func (u *user) settle(a account, prompted bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.account, u.prompted = &a, u.prompted || prompted
}

// silent is the phase of a flight that asks nobody.
func (u *user) silent(ctx context.Context) (issued, error) {
	u.warn(ctx, "cdfauth: the sign-in is kept in memory alone", u.noHome)
	u.noHome = nil
	if u.mustPrompt() {
		return issued{}, ErrSignInRequired
	}
	l, err := u.peek(ctx, u.search)
	if _, realm, _ := u.whose(); !l.fresh && (realm == "" || !u.client.entraStyle()) {
		// What was not found may only not have been recognised.
		if _, e := again(ctx, attempts, func() error { _, err := u.client.discover(ctx); return err }); e != nil {
			return l.orElse(e, u.engine)
		}
		l, err = u.peek(ctx, u.search)
	}
	switch {
	case l.fresh:
		u.settle(l.account, false)
		return l.issued, nil
	case err == nil && !l.refreshable && u.memory() == nil:
		return l.orElse(ErrSignInRequired, u.engine)
	}
	i, err := u.transact(ctx, lockLimit, func(ctx context.Context, c contents) (issued, change, error) { return u.renew(ctx, c) })
	if err != nil {
		return l.orElse(err, u.engine)
	}
	return i, nil
}

// orElse prefers a token that is still valid to an error, if the engine has none: it would keep its own.
func (l lookup) orElse(err error, e *engine) (issued, error) {
	if l.valid && !e.current.Load().valid(e.now().UnixNano()) {
		return l.issued, nil
	}
	return issued{}, err
}

// renew takes a token that somebody else has stored meanwhile, or redeems a refresh token. Of one that is refused
// another is tried, once: a newer one of the same account, or one that a program which takes no lock (Python's) has
// stored since.
func (u *user) renew(ctx context.Context, c contents) (issued, change, error) {
	l := u.search(c)
	a := l.account
	if l.fresh {
		u.settle(a, false)
		return l.issued, nil, nil
	}
	if !l.refreshable {
		return issued{}, nil, ErrSignInRequired
	}
	var refused []string
	drop := func(c contents) {
		c.remove(refreshTokens, func(e entry) bool { return u.owns(c, refreshTokens, e) && slices.Contains(refused, e.text("secret")) })
	}
	e := c.entry(refreshTokens, u.refreshTokens(c, &a)[0])
	for {
		i, said, err := u.refresh(ctx, c, e)
		switch oe := (*OAuthError)(nil); {
		case err == nil:
			u.settle(a, false)
			i.token = named(i.token, a.username)
			entries := u.entries(i, said, a, e)
			return i, func(c contents) { drop(c); entries(c) }, nil
		case !errors.As(err, &oe):
			return i, nil, err
		case slices.Contains([]string{"interaction_required", "login_required", "consent_required", "invalid_scope"}, oe.Code):
			return i, drop, fmt.Errorf("%w: %w", ErrSignInRequired, err)
		case oe.Code != "invalid_grant" && (oe.Code != "" || oe.StatusCode != 400 && oe.StatusCode != 401): // some say no more
			return i, nil, err
		}
		before := maps.Clone(c)
		if blob, e := u.again(ctx); e == nil && u.reload(ctx, c, blob) {
			l = u.search(c)
		}
		refused = append(refused, e.text("secret"))
		if l.fresh {
			u.settle(a, false)
			return l.issued, drop, nil
		}
		next := slices.DeleteFunc(u.refreshTokens(c, &a), func(key string) bool {
			n := c.entry(refreshTokens, key)
			old := before.entry(refreshTokens, key)
			appeared := old == nil || old.text("secret") != n.text("secret")
			return slices.Contains(refused, n.text("secret")) || !appeared && n.written().Before(e.written())
		})
		if len(refused) == 2 || len(next) == 0 {
			return issued{}, drop, fmt.Errorf("%w: %w", ErrSignInRequired, err)
		}
		e = c.entry(refreshTokens, next[0])
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
	if first, ok := u.idToken(c, e.account()); ok {
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

// scope is what is asked for: the configured scopes and those that a sign-in wants, of which a provider that lists its
// scopes gets the ones it knows.
func (u *user) scope(m *metadata) string {
	all := strings.Fields(u.client.scope)
	for _, s := range openIDScopes {
		if !slices.Contains(all, s) && (u.client.entraStyle() || m.Scopes == nil || slices.Contains(m.Scopes, s)) {
			all = append(all, s)
		}
	}
	return strings.Join(all, " ")
}

// ask is the phase of a flight that may ask a person: when it is this program's turn, and unless a sibling that had its
// turn before has a token by then.
func (u *user) ask(ctx context.Context) (issued, error) {
	// Whoever waits may leave until an answer has arrived; the flight's deadline stays.
	deadline, _ := ctx.Deadline()
	work, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	defer cancel()
	stop := context.AfterFunc(ctx, cancel)
	defer stop()
	var m *metadata
	if _, err := again(work, attempts, func() (err error) { m, err = u.client.discover(work); return err }); err != nil {
		return issued{}, err
	}
	var mine atomic.Bool // whether it is our turn
	var adopted atomic.Pointer[lookup]
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		u.watch(work, &mine, func(l lookup) { adopted.Store(&l); cancel() })
	}()
	i, err := u.transact(work, askLimit, func(ctx context.Context, c contents) (issued, change, error) {
		mine.Store(true)
		return u.question(ctx, c, m, func() { stop() })
	})
	cancel()
	<-watched
	if l := adopted.Load(); l != nil && err != nil {
		u.settle(l.account, false)
		return l.issued, nil
	}
	if err == context.Canceled || err == context.DeadlineExceeded {
		err = fmt.Errorf("cdfauth: %s: nobody has signed in within %v: %w", u.client.flow, askLimit, context.DeadlineExceeded)
	}
	return i, err
}

// watch tells a person who waits for another program, and looks once a second for what that one has got.
func (u *user) watch(ctx context.Context, mine *atomic.Bool, found func(lookup)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if mine.Load() {
			return
		}
		if n == 5 {
			_ = u.tell(ctx, "Another program is signing in and keeps the token cache locked. Waiting for it to finish.\n")
		}
		if l, err := u.peek(ctx, u.search); err == nil && l.fresh && !u.mustPrompt() {
			found(l)
			return
		}
	}
}

// tell shows a text.
func (u *user) tell(ctx context.Context, text string) error {
	_, err := guard(ctx, "Output", func(context.Context) (int, error) { return io.WriteString(u.output, text) })
	return err
}

// question asks the person, if that is still needed.
func (u *user) question(ctx context.Context, c contents, m *metadata, answered func()) (issued, change, error) {
	var dropped change
	q := &question{metadata: m, scope: u.scope(m), prompt: u.prompt, hint: u.hint, answered: answered}
	if !u.mustPrompt() {
		if len(c) == 0 { // or an old Python SDK is about to write it
			if blob, err := u.again(ctx); err == nil {
				u.reload(ctx, c, blob)
			}
		}
		i, ch, err := u.renew(ctx, c)
		if !errors.Is(err, ErrSignInRequired) {
			return i, ch, err
		}
		dropped, q.prompt = ch, ""
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
		return i, dropped, err
	}
	a := i.answer.account(said)
	u.settle(a, true)
	i.token = named(i.token, a.username)
	entries := u.entries(i, said, a, nil)
	return i, func(c contents) {
		if dropped != nil {
			dropped(c)
		}
		entries(c)
	}, nil
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

// entries returns what a sign-in or the renewal of one (of the given refresh token) leaves in the cache.
func (u *user) entries(i issued, said *claims, a account, renewed entry) change {
	r := i.answer
	granted := r.Scope
	if strings.TrimSpace(granted) == "" {
		granted = u.client.scope
	}
	environment, realm, issuer := u.whose()
	base := entry{"home_account_id": a.id, "environment": environment, "client_id": u.client.id, fieldIssuer: issuer}
	with := func(section string, more entry) entry {
		e := maps.Clone(base)
		maps.Copy(e, more)
		e["credential_type"] = section
		return e
	}
	at := u.accessToken(i, a.id, granted)
	if !covers(granted, u.client.scope) {
		at[fieldAsked] = target(u.client.scope) // or every start would ask again for what was not granted
	}
	now := u.client.now()
	return func(c contents) {
		c.remove(accessTokens, func(e entry) bool {
			return u.owns(c, accessTokens, e) && e.account() == a.id && !e.time("expires_on").After(now)
		})
		if i.token.Expiry().After(now) {
			c.put(accessTokens, at)
		}
		switch rt := maps.Clone(renewed); {
		case r.RefreshToken != "" && rt == nil:
			rt = with(refreshTokens, entry{"target": target(granted)})
			if r.FamilyID != "" {
				rt["family_id"] = r.FamilyID
			}
			fallthrough
		case r.RefreshToken != "": // of one that was redeemed the entry stays
			rt["secret"], rt["last_modification_time"] = r.RefreshToken, unix(now)
			c.put(refreshTokens, rt)
		}
		if said != nil {
			c.put(idTokens, with(idTokens, entry{"secret": r.IDToken, "realm": realm}))
		}
		if renewed != nil || a.id == nil {
			return
		}
		who := with(accounts, entry{"realm": realm, "username": a.username, "local_account_id": nil, "authority_type": "MSSTS", "account_source": u.source})
		if realm == "adfs" {
			who["authority_type"] = "ADFS"
		}
		if said != nil {
			who["local_account_id"] = said.Sub
			if said.Oid != "" {
				who["local_account_id"] = said.Oid
			}
		}
		delete(who, "credential_type")
		delete(who, "client_id")
		about := entry{"client_id": u.client.id, "environment": environment, fieldIssuer: issuer}
		for section, e := range map[string]entry{accounts: who, appMetadata: about} {
			old := maps.Clone(c.entry(section, e.key(section))) // which may have fields of others'
			if old == nil {
				old = entry{}
			}
			maps.Copy(old, e)
			c.put(section, old)
		}
	}
}

// SignOut is that of both flows.
func (u *user) signOut(ctx context.Context) error {
	u.forget()
	defer u.forget() // also what a flight has brought meanwhile
	if _, realm, _ := u.whose(); realm == "" || !u.client.entraStyle() {
		if _, err := u.client.discover(ctx); err != nil {
			return err
		}
	}
	_, err := guard(ctx, "Cache", func(ctx context.Context) (none struct{}, err error) {
		return none, u.cache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
			c, err := u.parse(ctx, old)
			if err != nil {
				return nil, err
			}
			a, several := u.who(c)
			if several {
				return nil, errors.New("several accounts are signed in, and LoginHint does not say which one to sign out")
			}
			if a == nil {
				return old, nil
			}
			environment, _, _ := u.whose()
			others := false
			for _, section := range []string{accessTokens, refreshTokens, idTokens} {
				c.remove(section, func(e entry) bool { return e.account() == a.id && u.owns(c, section, e) })
			}
			for _, section := range []string{accessTokens, refreshTokens, idTokens} {
				others = others || len(c.find(section, "", func(e entry) bool { return e.account() == a.id && e.text("environment") == environment })) > 0
			}
			if !others {
				c.remove(accounts, func(e entry) bool { return e.account() == a.id && e.text("environment") == environment })
			}
			return c.blob()
		})
	})
	u.mu.Lock()
	defer u.mu.Unlock()
	if err == nil {
		u.account, u.prompted = nil, false
	}
	return err
}

// forget drops what is in memory.
func (u *user) forget() {
	u.engine.forget()
	u.remember(nil)
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

// parseIDToken reads the claims. The signature is not needed: the token comes from the token endpoint itself, over TLS
// (§3.1.3.7, number 6).
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
