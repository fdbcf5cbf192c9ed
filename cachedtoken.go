//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"time"
)

type tokenStore struct {
	client    *client
	refresher *refresher
	cache     Cache
	grantType string                      // marks the tokens that an application got for itself; "" in a user's flow
	fallback  atomic.Pointer[MemoryCache] // goes, for good, for a cache that does not work: a user's flow must not lose its refresh token
}

// A look at the cache, the pause before another, and a wait for others inside Update in a silent flight: one attempt is left for going on without the cache.
const peekLimit, tornPause, lockLimit = 3 * time.Second, 100 * time.Millisecond, silentLimit - attemptLimit - 4*time.Second

// appToken is the silent phase of the flows without a user: if a cache has no token, one exchange, in which prove adds what authenticates the client.
func (c *client) appToken(e *refresher, cache Cache, prove prepareFunc) func(context.Context) (grant, error) {
	s := &tokenStore{client: c, refresher: e, cache: cache, grantType: "client_credentials"}
	fetch := func(ctx context.Context) (grant, error) { return c.exchange(ctx, s.grantType, attempts, prove) }
	if cache == nil {
		return fetch
	}
	return func(ctx context.Context) (grant, error) {
		c, _ := s.peek(ctx)
		l := s.findApp(c)
		if l.fresh {
			return l.grant, nil
		}
		i, err := s.transact(ctx, lockLimit, func(ctx context.Context, c msalCache) (i grant, changed bool, err error) {
			if l := s.findApp(c); l.fresh {
				return l.grant, false, nil
			}
			i, err = fetch(ctx)
			if changed = err == nil && i.token.Expiry().After(s.client.clock.now()); changed {
				c.put(accessTokens, s.accessToken(i, "", s.client.scope))
			}
			return i, changed, err
		})
		return l.orElse(i, err, s.refresher)
	}
}

type lookup struct {
	grant
	valid, fresh bool // grant has a token that is not dead, and needs no refresh
}

func (l *lookup) orElse(i grant, err error, e *refresher) (grant, error) { // prefers what was found and is still valid to an error, unless the engine has a token of its own to keep
	if now := e.clock.now(); err != nil && l.valid && now.Before(l.token.Expiry()) && !e.current.Load().valid(e.clock.moment()) {
		return l.grant, nil
	}
	return i, err
}

func (s *tokenStore) peek(ctx context.Context) (msalCache, error) { // looks into the cache without the lock. Content that makes no sense counts as none here.
	blob, err := s.read(ctx, 0)
	if err != nil {
		return nil, err
	}
	c, _ := s.parse(ctx, blob)
	return c, nil
}

func (s *tokenStore) read(ctx context.Context, pause time.Duration) ([]byte, error) { // reads after a pause; guarded within Update too, where a cache of another's may not want it
	sleep(ctx, pause)
	ctx, cancel := context.WithTimeout(ctx, peekLimit)
	defer cancel()
	return guard(ctx, "Cache", s.current().Get)
}

func (s *tokenStore) current() Cache {
	if spare := s.fallback.Load(); spare != nil {
		return spare
	}
	return s.cache
}

// transact does the work, once, with the content of the cache while all others wait, and stores what changed. Whatever is wrong with the cache costs persistence,
// never the token: the work is then done in memory. Only a user's flow that does not get the lock fails: redeeming a refresh token twice may end the sign-in.
func (s *tokenStore) transact(ctx context.Context, patience time.Duration, work func(context.Context, msalCache) (i grant, changed bool, err error)) (grant, error) {
	got, content, failed := grant{}, []byte(nil), error(nil) // content is what is to be stored, nil if nothing has changed
	var begun atomic.Bool                                    // work was called, or will not be: the cache was given up
	worked := make(chan struct{})                            // closed when it has brought these three, whatever the cache does afterwards
	session, spare, cache := s.refresher.session.Load(), s.fallback.Load(), s.current()
	deadline, _ := ctx.Deadline() // which every phase has; the last second is for going on
	waiting, stop := context.WithDeadline(ctx, deadline.Add(-time.Second))
	defer stop()
	timer := time.AfterFunc(patience, stop)
	defer timer.Stop()
	_, err := guarded(waiting, "Cache", func() error {
		inside := func(ctx context.Context, old []byte) ([]byte, error) {
			timer.Stop()
			c, err := s.parse(ctx, old)
			if err != nil {
				return nil, err
			}
			if waiting.Err() != nil || !begun.CompareAndSwap(false, true) {
				return nil, errors.New("called its function too late, or twice")
			}
			changed := false
			if got, changed, failed = work(ctx, c); s.refresher.session.Load() != session {
				failed = errSignedOut
			} else if changed {
				old, err = c.blob()
				content = old
			}
			close(worked)
			return old, err
		}
		err := cache.Update(waiting, inside)
		if f, ok := cache.(interface {
			setAside(context.Context, func([]byte) bool) error
		}); ok && errors.Is(err, errCacheContent) && !begun.Load() {
			if err = f.setAside(ctx, isUnreadable); err == nil {
				err = cache.Update(waiting, inside)
			}
		}
		return err
	})
	late := waiting.Err() != nil
	if begun.Swap(true) {
		select {
		case <-worked:
		case <-time.After(time.Second): // it panicked, or is still at work
			return grant{}, err
		}
		if err != nil && content != nil {
			s.warn(ctx, "cdfauth: the token was not stored", err)
			if s.grantType == "" {
				spare = new(MemoryCache)
				spare.Update(context.Background(), func(context.Context, []byte) ([]byte, error) { return content, nil })
				s.fallback.Store(spare)
			}
		}
		return got, failed
	}
	switch {
	case err == nil:
		err = errors.New("Update did not call its function")
	case ctx.Err() != nil || spare != nil:
		return grant{}, err
	case late && s.grantType == "":
		return grant{}, fmt.Errorf("%w: another program has the cache: %w", ErrSignInRequired, err)
	}
	s.warn(ctx, "cdfauth: the cache is not used", err)
	if s.grantType == "" {
		s.fallback.Store(new(MemoryCache))
		return s.transact(ctx, patience, work)
	}
	i, _, err := work(ctx, msalCache{})
	return i, err
}

// parse reads a blob, and reads it again if it makes no sense: old versions of Cognite's Python SDK truncate the file before they write it.
func (s *tokenStore) parse(ctx context.Context, blob []byte) (msalCache, error) {
	c, err := parseMSALCache(blob)
	for try := 1; err == errCacheContent && try <= 3; try++ {
		if blob, err = s.read(ctx, tornPause); err == nil {
			c, err = parseMSALCache(blob)
		}
	}
	return c, err
}

// realmAndIssuer returns what the provider's own entries have in common. For an issuer goes the URL that it is found by: the token endpoint if that is known from the
// start. The realm is the first segment of the token endpoint's path, as the metadata has it; "" while that is not known, as of a tenant not named by its GUID.
func (s *tokenStore) realmAndIssuer() (realm, issuer string) {
	c, m, kind := s.client, s.client.metadata(), s.client.endpoint.kind
	tokenURL, issuer := "", c.endpoint.url
	if kind != kindIssuer && kind != kindDiscovery {
		tokenURL, _ = c.endpointURL(context.Background(), "token")
		issuer = tokenURL
	}
	own := firstSegment(tokenURL)
	if m != nil {
		tokenURL = m.TokenURL
	}
	realm = firstSegment(tokenURL)
	isGUID := len(realm) == 36 && strings.Count(realm, "-") == 4 && strings.Trim(realm, "0123456789abcdefABCDEF-") == ""
	switch {
	case s.grantType != "" || kind != kindAuthority:
	case m == nil && !isGUID:
		realm = ""
	default:
		issuer = strings.Replace(issuer, "/"+own+"/", "/"+realm+"/", 1) // one for both of a tenant's names
	}
	return realm, issuer
}

func firstSegment(rawURL string) string {
	u, _ := parseURL(rawURL)
	first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return first
}

func (s *tokenStore) environment() string { return s.client.endpoint.host }

// findApp returns the newest token of an application's own. The scopes have to be the same: an application may not know what it gets for asking for none.
func (s *tokenStore) findApp(c msalCache) lookup {
	realm, issuer := s.realmAndIssuer()
	scopes, ext := target(s.client.scope), extCacheKey(s.client.params)
	return s.newest(c, "", func(e entry) bool {
		return s.ofThisClient(e) && (realm == "" || e.text("realm") == realm) && e.text(fieldIssuer) == issuer && e.account() == "" &&
			e.text("target") == scopes && e.text("ext_cache_key") == ext
	})
}

func (s *tokenStore) ofThisClient(e entry) bool { // reports whether an entry can be the provider's own, as far as the schema tells
	return e.text("environment") == s.environment() && e.text("client_id") == s.client.id && e.text(fieldGrant) == s.grantType
}

func (s *tokenStore) newest(c msalCache, username string, match func(entry) bool) (l lookup) { // returns the newest access token that matches and was not refused, a fresh one if there is one
	now, moment := s.client.clock.now(), s.client.clock.moment()
	for _, e := range c.find(accessTokens, match) {
		i := grant{sent: e.time("cached_at"), refresh: e.time("refresh_on")}
		if checkAccessToken(e.text("secret")) != "" || i.sent.IsZero() || i.sent.After(now.Add(5*time.Minute)) { // of a clock that is wrong
			continue
		}
		i.token = newToken(tokenData{bearer + e.text("secret"), e.time("expires_on"), printable(e.text(fieldGranted)), printable(username)})
		h := newCachedToken(i, s.refresher.leeway, moment)
		fresh := moment.before(h.fresh)
		if h.valid(moment) && (fresh && !l.fresh || !l.valid) && !s.refresher.isRefused(i.token) {
			l.grant, l.valid, l.fresh = i, true, fresh
		}
	}
	return l
}

func (s *tokenStore) newEntry(section, account, secret string, more entry) entry { // makes an entry of the provider's own, with more fields but those that are empty
	realm, issuer := s.realmAndIssuer()
	maps.DeleteFunc(more, func(_ string, v any) bool { return v == "" })
	e := entry{"credential_type": section, "secret": secret, "home_account_id": account, "environment": s.environment(), "realm": realm,
		"client_id": s.client.id, fieldIssuer: issuer}
	if account == "" {
		e["home_account_id"] = nil
	}
	maps.Copy(e, more)
	return e
}

func (s *tokenStore) accessToken(i grant, account, scope string) entry {
	expires, asked := unix(i.token.Expiry()), ""
	if s.grantType == "" && (s.client.scope == "" || !covers(scope, s.client.scope)) {
		asked = cmp.Or(target(s.client.scope), "-") // or every start would ask again for what was not granted
	}
	return s.newEntry(accessTokens, account, i.token.AccessToken(), entry{"target": target(scope), "token_type": "Bearer", "cached_at": unix(i.sent),
		"expires_on": expires, "extended_expires_on": expires, "refresh_on": unix(i.refresh), "ext_cache_key": extCacheKey(s.client.params),
		fieldGrant: s.grantType, fieldGranted: i.token.Scope(), fieldAsked: asked})
}

func (s *tokenStore) warn(ctx context.Context, what string, err error) {
	if err != nil && s.client.logger != nil {
		s.client.logger.LogAttrs(ctx, slog.LevelWarn, what, slog.String("flow", s.client.flow), slog.Any("error", err))
	}
}
