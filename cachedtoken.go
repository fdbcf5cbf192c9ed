//go:build go1.24

package cdfauth

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

// This file is about the tokens that one provider has in a Cache, which it may share
// with other providers, other programs and Cognite's Python SDK: how it looks for a
// token of its own, which one it takes, and how it describes one that it stores. A
// token is taken only for the client, issuer, scopes and parameters that it was issued
// for. What happens inside Update is in transaction.go, the format in msalcache.go.

const (
	// peekLimit is how long one look at the cache may take.
	peekLimit = 3 * time.Second
	// tornPause is how long the cache is left alone before it is read again.
	tornPause = 100 * time.Millisecond
	// tornRetries is how often a content that makes no sense is read again.
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
	// fallback takes the place of a cache that does not work, for good: it may have a
	// refresh token that the cache lacks. Only the flows of a person have one.
	fallback atomic.Pointer[fallbackCache]
	// tellPerson shows a text to the person. It is nil if there is nobody.
	tellPerson func(text string)
	// told says that the person knows that the sign-in is not saved.
	told atomic.Bool
}

// A phase is what a flight does: silently, or by asking a person.
type phase = func(context.Context) (grant, error)

// appToken returns the silent phase of a flow without a person: it takes a token from
// the cache, or makes one exchange, for which prove adds what authenticates the client.
func (c *client) appToken(r *refresher, cache Cache, prove prepareFunc) phase {
	r.cleanup = c.closeIdle
	s := &tokenStore{client: c, refresher: r, cache: cache, grantType: "client_credentials"}
	fetch := func(ctx context.Context) (grant, error) {
		return c.exchange(ctx, s.grantType, attempts, prove)
	}
	if cache == nil {
		return fetch
	}
	return func(ctx context.Context) (grant, error) {
		return s.appToken(ctx, fetch)
	}
}

// appToken returns the token that the cache has, or else what fetch returns, which it
// stores. Programs that share the cache take turns, so that one of them fetches.
func (s *tokenStore) appToken(ctx context.Context, fetch phase) (grant, error) {
	content, err := s.peek(ctx)
	s.warn(ctx, "cdfauth: the cache cannot be read", err)
	found := s.findApp(content)
	if found.fresh {
		return found.grant, nil
	}
	work := func(ctx context.Context, c msalCache) (grant, bool, error) {
		// Somebody who had the turn before may have stored one.
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
	// valid says that there is one, which has not expired.
	valid bool
	// fresh says that it needs no refresh yet.
	fresh bool
}

// orElse returns the outcome of a flight. If it is an error and the token that was
// found in the cache is still valid, orElse returns that token instead, unless the
// refresher has a valid token itself, which it keeps.
func (l *lookup) orElse(got grant, err error, r *refresher) (grant, error) {
	if err == nil || !l.valid || !r.clock.now().Before(l.token.Expiry()) {
		return got, err
	}
	if r.current.Load().valid(r.clock.moment()) {
		return got, err
	}
	return l.grant, nil
}

// peek looks at the cache without waiting for a turn. It fails with errCacheContent if
// the content makes no sense.
func (s *tokenStore) peek(ctx context.Context) (msalCache, error) {
	blob, err := s.read(ctx, 0)
	if err != nil {
		return nil, err
	}
	return s.parse(ctx, blob)
}

// read reads the cache after a pause. It is guarded within Update too, where a Cache
// that is not the package's own may block it.
func (s *tokenStore) read(ctx context.Context, pause time.Duration) ([]byte, error) {
	sleep(ctx, pause)
	ctx, cancel := context.WithTimeout(ctx, peekLimit)
	defer cancel()
	return guard(ctx, "Cache", s.current().Get)
}

// parse decodes a blob. If it makes no sense, or is of a file that is there but empty,
// parse reads the cache again: old versions of Cognite's Python SDK truncate the file
// before they write it.
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

// realmAndIssuer returns what all entries of this provider have in common: the realm,
// which is MSAL's, and the issuer, which is in fieldIssuer.
//
// The realm is the first segment of the token endpoint's path, as the metadata has it.
// It is "" as long as a person's flow does not know it: the metadata of Entra names a
// tenant by its GUID, whatever name the endpoint gives to it.
//
// The issuer is the URL by which the provider is found, or the token endpoint if that
// is known without metadata.
func (s *tokenStore) realmAndIssuer() (realm, issuer string) {
	kind := s.client.endpoint.kind
	tokenURL := ""
	if kind == kindIssuer || kind == kindDiscovery {
		issuer = s.client.endpoint.url
	} else {
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
	// One issuer for both names of a tenant.
	issuer = strings.Replace(issuer, "/"+tenant+"/", "/"+realm+"/", 1)
	return realm, issuer
}

// firstSegment returns the first segment of a URL's path.
func firstSegment(rawURL string) string {
	u, _ := parseURL(rawURL)
	first, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return first
}

// isGUID reports whether a tenant's name is its id.
func isGUID(tenant string) bool {
	return len(tenant) == 36 &&
		strings.Count(tenant, "-") == 4 &&
		strings.Trim(tenant, "0123456789abcdefABCDEF-") == ""
}

// environment returns the host by which MSAL knows a provider.
func (s *tokenStore) environment() string { return s.client.endpoint.host }

// ofPerson reports whether this is a flow of a person.
func (s *tokenStore) ofPerson() bool { return s.grantType == "" }

// ofThisClient reports whether an entry can be this provider's own, as far as the
// schema tells.
func (s *tokenStore) ofThisClient(e entry) bool {
	return e.text("environment") == s.environment() &&
		e.text("client_id") == s.client.id &&
		e.text(fieldGrant) == s.grantType
}

// findApp returns the newest token that an application got for itself. It was asked
// for with the same parameters and exactly the same scopes: what an application gets
// that asks for none, it may not know.
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

// newest returns the newest access token that matches, is valid and was not refused.
// It prefers a fresh one. username is who signed in, for the token to say.
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
		fresh := now.before(cached.fresh)
		if fresh {
			return lookup{grant: got, valid: true, fresh: true}
		}
		if !best.valid {
			best = lookup{grant: got, valid: true}
		}
	}
	return best
}

// grantOf makes a grant of an entry. It reports false if the entry has no token that
// can be sent, or was not stored at a time that can be: the clock was wrong.
func (s *tokenStore) grantOf(e entry, username string) (grant, bool) {
	secret := e.text("secret")
	stored := e.time("cached_at")
	latest := s.client.clock.now().Add(clockSkew)
	if checkAccessToken(secret) != "" || stored.IsZero() || stored.After(latest) {
		return grant{}, false
	}
	token := newToken(tokenData{
		bearer + secret,
		e.time("expires_on"),
		printable(e.text(fieldGranted)),
		printable(username),
	})
	return grant{token: token, sent: stored, refresh: e.time("refresh_on")}, true
}

// newEntry makes an entry of this provider's own. account is "" if the token is
// nobody's, which MSAL writes as null.
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

// accessToken makes the entry of an access token that was granted for scope.
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
		// Otherwise the token would not be found by what it was asked for, and each
		// start would ask again for what was not granted.
		e[fieldAsked] = noScopes
		e.set(fieldAsked, asked)
	}
	return e
}

// noScopes is the value of fieldAsked if no scopes were asked for.
const noScopes = "-"

// withCacheTrouble adds to an error what is wrong with the cache: trouble, or why the
// cache was given up. Without either, it returns err.
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

// warnUnsaved logs why a token will not outlast the program. If there is no Logger, it
// tells the person, once.
func (s *tokenStore) warnUnsaved(ctx context.Context, what string, err error) {
	s.warn(ctx, what, err)
	if s.client.logger != nil || s.tellPerson == nil || s.told.Swap(true) {
		return
	}
	s.tellPerson("This sign-in cannot be saved, and you may have to sign in again next time: " +
		scrub(err.Error(), maxTold) + "\n")
}

// logAside returns a context for Update of the cache, under which it is logged what
// the cache moves out of the way.
func (s *tokenStore) logAside(ctx context.Context) context.Context {
	return withAside(ctx, func(path string) {
		s.warn(ctx, "cdfauth: what was in the place of the cache is not used, and was moved aside",
			fmt.Errorf("it is %s now", path))
	})
}

// maxTold is the length, in bytes, of an error that the person is told.
const maxTold = 400

// warn logs err, if there is one.
func (s *tokenStore) warn(ctx context.Context, what string, err error) {
	if err == nil || s.client.logger == nil {
		return
	}
	s.client.logger.LogAttrs(ctx, slog.LevelWarn, what,
		slog.String("flow", s.client.flow), slog.Any("error", err))
}
