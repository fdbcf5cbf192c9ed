//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// This file is about the tokens that one provider has in a Cache, which it may share
// with other providers, other programs and Cognite's Python SDK: how it finds a token of
// its own, and how it describes one that it stores. It takes a token only for the
// client, issuer, scopes and parameters that the token was issued for. What happens
// inside Update is in transaction.go, and the format is in msalcache.go.

const (
	// peekLimit is how long one look at the cache may take.
	peekLimit = 3 * time.Second
	// tornPause is how long to wait before content that makes no sense is read again.
	tornPause = 100 * time.Millisecond
	// tornRetries is how often such content is read again.
	tornRetries = 3
	// clockSkew is how far the clock that dated an entry may be ahead of ours.
	clockSkew = 5 * time.Minute
)

// A tokenStore is a provider's part of a Cache.
type tokenStore struct {
	client    *client
	refresher *refresher
	cache     Cache
	// grantType marks the tokens that an application got for itself. It is "" in the
	// flows of a person.
	grantType string
	// fallback is used in place of a cache that does not work. The cache is then not tried
	// again, because fallback may have a refresh token that the cache lacks. Only the flows
	// of a person have a fallback; nil as long as the cache is used.
	fallback atomic.Pointer[fallbackCache]
	// tellPerson shows a text to the person. It is nil if there is nobody.
	tellPerson func(text string)
	// told says that the person was told that the sign-in is not saved.
	told atomic.Bool
}

// appPhase returns the silent phase of a flow without a person, and sets the cleanup of
// r. The phase takes a token from the cache, or makes one exchange, for which
// authenticate adds what proves who the client is. cache is nil if there is none.
func (c *client) appPhase(r *refresher, cache Cache, authenticate prepareFunc) phase {
	r.cleanup = func(bool) { c.closeIdle() }
	s := &tokenStore{client: c, refresher: r, cache: cache, grantType: "client_credentials"}
	fetch := func(ctx context.Context) (grant, error) {
		return c.exchange(ctx, s.grantType, attempts, authenticate)
	}
	if cache == nil {
		return fetch
	}
	return func(ctx context.Context) (grant, error) {
		return s.appToken(ctx, fetch)
	}
}

// appToken returns the token that the cache has. If it has none, appToken calls fetch and
// stores the token. Programs that share the cache take turns, so that only one of them
// fetches.
func (s *tokenStore) appToken(ctx context.Context, fetch phase) (grant, error) {
	content, err := s.peek(ctx)
	s.warn(ctx, "cdfauth: the cache cannot be read", err)
	found := s.findApp(content)
	if found.fresh {
		return found.grant, nil
	}
	work := func(ctx context.Context, c msalCache) (grant, bool, error) {
		// Whoever had the turn before may have stored a token.
		stored := s.findApp(c)
		if stored.fresh {
			return stored.grant, false, nil
		}
		got, err := fetch(ctx)
		if err != nil {
			return got, false, err
		}
		expired := !got.token.Expiry().After(s.client.clock.now())
		if expired {
			return got, false, nil
		}
		c.put(accessTokens, s.accessToken(got, "", s.client.scope))
		return got, true, nil
	}
	got, err := s.transact(ctx, lockLimit, work)
	return found.orElse(got, err, s.refresher)
}

// A lookup is the access token that was found in the cache, if any.
type lookup struct {
	grant
	// valid says that a token was found, and that it has not expired.
	valid bool
	// fresh says that the token needs no refresh yet.
	fresh bool
}

// orElse returns got and err, which a flight has brought. If err is not nil and the
// token that was found in the cache is still valid, orElse returns that token instead.
// If the refresher has a valid token itself, it keeps that, and gets the error.
func (l *lookup) orElse(got grant, err error, r *refresher) (grant, error) {
	if err == nil || !l.valid || !r.clock.now().Before(l.token.Expiry()) {
		return got, err
	}
	if r.current.Load().valid(r.clock.moment()) {
		return got, err
	}
	return l.grant, nil
}

// peek returns the content of the cache, without waiting for a turn. It fails with
// errCacheContent if the content makes no sense.
func (s *tokenStore) peek(ctx context.Context) (msalCache, error) {
	blob, err := s.read(ctx, 0)
	if err != nil {
		return nil, err
	}
	return s.parse(ctx, blob)
}

// read reads the cache after a pause. It calls Get by guard also within Update, because
// there the Get of a caller's Cache may wait for ever.
func (s *tokenStore) read(ctx context.Context, pause time.Duration) ([]byte, error) {
	sleep(ctx, pause)
	ctx, cancel := context.WithTimeout(ctx, peekLimit)
	defer cancel()
	return guard(ctx, "Cache", s.current().Get)
}

// parse decodes a blob. If the blob makes no sense, or is that of an empty file, parse
// reads the cache again, because another program may be writing to it: old versions of
// Cognite's Python SDK truncate the file before they write.
func (s *tokenStore) parse(ctx context.Context, blob []byte) (msalCache, error) {
	content, err := parseMSALCache(blob)
	for try := 1; (err == errCacheContent || isTruncated(blob)) && try <= tornRetries; try++ {
		blob, err = s.read(ctx, tornPause)
		if err == nil {
			content, err = parseMSALCache(blob)
		}
	}
	return content, err
}

// isTruncated reports whether a blob is that of an empty file. If there is no file,
// Get returns nil.
func isTruncated(blob []byte) bool { return blob != nil && len(blob) == 0 }

// current returns the cache in use.
func (s *tokenStore) current() Cache {
	fallback := s.fallback.Load()
	if fallback != nil {
		return fallback
	}
	return s.cache
}

// realmAndIssuer returns what all entries of this provider have in common: the realm, a
// field of MSAL's schema, and the issuer, which is in fieldIssuer.
//
// The realm is the first segment of the token endpoint's path, as the metadata has it.
// It is "" as long as a person's flow does not know it: Entra's metadata has the GUID of
// a tenant there, and the Endpoint may have another name of the tenant.
//
// The issuer is the URL by which the provider is found, or the token endpoint if that
// is known without metadata.
func (s *tokenStore) realmAndIssuer() (realm, issuer string) {
	kind := s.client.endpoint.kind
	tokenURL := ""
	if kind == kindIssuer || kind == kindDiscovery {
		issuer = s.client.endpoint.url
	} else {
		// This sends no request: the Endpoint implies the address.
		tokenURL, _ = s.client.endpointURL(context.Background(), "token")
		issuer = tokenURL
	}
	tenant := firstSegment(tokenURL)
	realm = tenant
	metadata := s.client.metadata()
	if metadata != nil {
		realm = firstSegment(metadata.TokenURL)
	}
	if kind != kindAuthority || !s.ofPerson() {
		return realm, issuer
	}
	if metadata == nil && !isGUID(tenant) {
		return "", issuer
	}
	// The issuer is to be the same whether the Endpoint names the tenant by its GUID or by
	// its domain.
	issuer = strings.Replace(issuer, "/"+tenant+"/", "/"+realm+"/", 1)
	return realm, issuer
}

// firstSegment returns the first segment of a URL's path.
func firstSegment(rawURL string) string {
	u, _ := parseURL(rawURL)
	first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return first
}

// isGUID reports whether the name of a tenant is its GUID.
func isGUID(tenant string) bool {
	return len(tenant) == 36 &&
		strings.Count(tenant, "-") == 4 &&
		strings.Trim(tenant, "0123456789abcdefABCDEF-") == ""
}

// environment returns the host by which MSAL knows a provider.
func (s *tokenStore) environment() string { return s.client.endpoint.host }

// ofPerson reports whether this is the store of a flow of a person.
func (s *tokenStore) ofPerson() bool { return s.grantType == "" }

// ofThisClient reports whether an entry has the host, the client and the grant type of
// this provider. Its issuer may still be another.
func (s *tokenStore) ofThisClient(e entry) bool {
	return e.text("environment") == s.environment() &&
		e.text("client_id") == s.client.id &&
		e.text(fieldGrant) == s.grantType
}

// findApp returns the newest token that an application got for itself, and that it asked
// for with the same parameters and exactly the same scopes. A token with more scopes does
// not serve. So a token that was asked for without scopes serves only those who ask
// without scopes.
func (s *tokenStore) findApp(c msalCache) lookup {
	realm, issuer := s.realmAndIssuer()
	scopes := target(s.client.scope)
	extra := extCacheKey(s.client.params)
	return s.newest(c, "", func(e entry) bool {
		return s.ofThisClient(e) &&
			(realm == "" || e.text("realm") == realm) &&
			e.text(fieldIssuer) == issuer &&
			e.account() == "" &&
			e.text("target") == scopes &&
			e.text("ext_cache_key") == extra
	})
}

// newest returns the newest access token that matches, is valid and was not refused. It
// prefers one that is fresh. username is for Token.Username; "" if nobody signed in.
func (s *tokenStore) newest(c msalCache, username string, match func(entry) bool) lookup {
	now := s.client.clock.moment()
	var best lookup
	for _, e := range c.find(accessTokens, match) {
		got, ok := s.grantOf(e, username)
		if !ok || s.refresher.isRefused(got.token) {
			continue
		}
		cached := newCachedToken(got, s.refresher.leeway, now)
		if !cached.valid(now) {
			continue
		}
		if now.before(cached.fresh) {
			return lookup{grant: got, valid: true, fresh: true}
		}
		if !best.valid {
			best = lookup{grant: got, valid: true}
		}
	}
	return best
}

// grantOf returns the grant that an entry has. It reports false if the entry has no
// token that can be sent, or if the time at which it was stored is missing or in the
// future. In the latter case a clock was wrong, and so may the expiry be.
func (s *tokenStore) grantOf(e entry, username string) (grant, bool) {
	secret := e.text("secret")
	stored := e.time("cached_at")
	latest := s.client.clock.now().Add(clockSkew)
	if checkAccessToken(secret) != "" || stored.IsZero() || stored.After(latest) {
		return grant{}, false
	}
	token := newToken(tokenData{
		header:   bearer + secret,
		expiry:   e.time("expires_on"),
		scope:    printable(e.text(fieldGranted)),
		username: printable(username),
	})
	return grant{token: token, sent: stored, refresh: e.time("refresh_on")}, true
}

// newEntry returns an entry of this provider. account is "" if the token belongs to no
// account. MSAL writes that as null.
func (s *tokenStore) newEntry(section, account, secret string) entry {
	realm, issuer := s.realmAndIssuer()
	e := entry{
		"credential_type": section,
		"home_account_id": nil,
		"environment":     s.environment(),
		"client_id":       s.client.id,
		"realm":           realm,
		"secret":          secret,
		fieldIssuer:       issuer,
	}
	e.set("home_account_id", account)
	return e
}

// accessToken returns the entry of an access token that was granted for scope.
func (s *tokenStore) accessToken(got grant, account, scope string) entry {
	e := s.newEntry(accessTokens, account, got.token.AccessToken())
	e.set("target", target(scope))
	e.set("token_type", "Bearer")
	e.set("cached_at", unix(got.sent))
	e.set("expires_on", unix(got.token.Expiry()))
	e.set("extended_expires_on", unix(got.token.Expiry()))
	e.set("refresh_on", unix(got.refresh))
	e.set("ext_cache_key", extCacheKey(s.client.params))
	e.set(fieldGrant, s.grantType)
	e.set(fieldGranted, got.token.Scope())
	asked := target(s.client.scope)
	if s.ofPerson() && (asked == "" || !covers(scope, asked)) {
		// Without this field the token would not be found for the scopes that it was asked
		// for, and each start would ask again for those that were not granted.
		e.set(fieldAsked, cmp.Or(asked, noScopes))
	}
	return e
}

// noScopes is the value of fieldAsked if no scopes were asked for.
const noScopes = "-"

// withCacheTrouble adds to an error what is wrong with the cache: trouble or, if that is
// nil, why the cache was given up. If nothing is wrong, it returns err.
func (s *tokenStore) withCacheTrouble(err, trouble error) error {
	fallback := s.fallback.Load()
	if trouble == nil && fallback != nil {
		trouble = fallback.cause
	}
	if trouble == nil {
		return err
	}
	return fmt.Errorf("%w (the cache is not used: %w)", err, trouble)
}

// maxTold is the length, in bytes, of an error that the person is told.
const maxTold = 400

// warnUnsaved logs err, for which a token will not outlast the program. If there is no
// Logger, it tells the person, once.
func (s *tokenStore) warnUnsaved(ctx context.Context, what string, err error) {
	s.warn(ctx, what, err)
	if s.client.logger != nil || s.tellPerson == nil || s.told.Swap(true) {
		return
	}
	s.tellPerson("This sign-in cannot be saved, and you may have to sign in again next time: " +
		scrub(err.Error(), maxTold) + "\n")
}

// logAside returns a context for Update of the cache. If Update moves a file out of the
// way, that is logged.
func (s *tokenStore) logAside(ctx context.Context) context.Context {
	return withAside(ctx, func(path string) {
		s.warn(ctx, "cdfauth: what was in the place of the cache is not used, and was moved aside",
			fmt.Errorf("it is %s now", path))
	})
}

// warn logs err, if there is one.
func (s *tokenStore) warn(ctx context.Context, what string, err error) {
	if err == nil || s.client.logger == nil {
		return
	}
	s.client.logger.LogAttrs(ctx, slog.LevelWarn, what,
		slog.String("flow", s.client.flow), slog.Any("error", err))
}
