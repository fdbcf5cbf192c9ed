package cdfauth

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// This file is what a provider does with a Cache: which of the tokens in it are its own, how it takes one, and how processes that
// share it make one request between them.

// store is one provider's share in a Cache.
type store struct {
	client *client
	engine *engine
	cache  Cache
	grant  string // marks the tokens that an application got for itself
}

// worker gets a token, from the content of the cache or otherwise, and changes the content. It is called once per transaction.
type worker func(ctx context.Context, c contents) (i issued, changed bool, err error)

const (
	peekLimit = 3 * time.Second // for a look at the cache
	// How long a silent flight waits for others who are inside Update: the time of one attempt is left for going on without the cache.
	lockLimit = silentLimit - attemptLimit - peekLimit - time.Second
)

// forApp puts the cache before fetch, the silent phase of a flow without a user.
func (s *store) forApp(fetch func(context.Context) (issued, error)) func(context.Context) (issued, error) {
	if s.cache == nil {
		return fetch
	}
	return func(ctx context.Context) (issued, error) {
		l, err := s.peek(ctx, s.findApp)
		if err == nil && l.fresh {
			return l.issued, nil
		}
		i, err := s.transact(ctx, lockLimit, func(ctx context.Context, c contents) (issued, bool, error) {
			if l := s.findApp(c); l.fresh {
				return l.issued, false, nil
			}
			i, err := fetch(ctx)
			if err != nil || !i.token.Expiry().After(s.client.now()) {
				return i, false, err
			}
			c.put(accessTokens, s.accessToken(i, nil, s.client.scope))
			return i, true, nil
		})
		if err != nil {
			return l.orElse(err, s.engine)
		}
		return i, nil
	}
}

// lookup is what is found in a cache.
type lookup struct {
	issued
	valid bool // issued has a token that is not dead,
	fresh bool // and needs no refresh
}

// peek looks into the cache without the lock. Content that makes no sense counts as none here.
func (s *store) peek(ctx context.Context, find func(contents) lookup) (lookup, error) {
	ctx, cancel := context.WithTimeout(ctx, peekLimit)
	defer cancel()
	return guard(ctx, "Cache", func(ctx context.Context) (lookup, error) {
		blob, err := s.cache.Get(ctx)
		if err != nil {
			return lookup{}, err
		}
		c, _ := s.parse(ctx, blob)
		return find(c), nil
	})
}

// orElse prefers a token that is still valid to an error, if the engine has none: it would keep its own.
func (l lookup) orElse(err error, e *engine) (issued, error) {
	if l.valid && !e.current.Load().valid(e.now().UnixNano()) {
		return l.issued, nil
	}
	return issued{}, err
}

// transact does the work with the content of the cache while all others wait, and stores what it changes. Whatever is wrong with the
// cache costs persistence, never the token: the work is then done without it.
func (s *store) transact(ctx context.Context, patience time.Duration, work worker) (issued, error) {
	type outcome struct {
		issued
		blob []byte
		err  error
	}
	var begun atomic.Bool           // work was called, or will not be: the cache was given up
	worked := make(chan outcome, 1) // what it brought, whatever the cache does afterwards
	deadline, _ := ctx.Deadline()   // which every phase has; the last second is for going on
	waiting, stop := context.WithDeadline(ctx, deadline.Add(-time.Second))
	defer stop()
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(waiting, func() { time.AfterFunc(time.Second, cancel) })() // what work was abandoned for is told first
	timer := time.AfterFunc(patience, stop)
	defer timer.Stop()
	_, err := guard(later, "Cache", func(context.Context) (none struct{}, err error) {
		inside := func(ctx context.Context, old []byte) ([]byte, error) {
			timer.Stop()
			c, err := s.parse(ctx, old)
			if err != nil {
				return nil, err
			}
			if waiting.Err() != nil || !begun.CompareAndSwap(false, true) {
				return nil, errors.New("called its function too late, or twice")
			}
			o, changed := outcome{blob: old}, false
			if o.issued, changed, o.err = work(ctx, c); changed {
				o.blob, err = c.blob()
			}
			worked <- o
			return o.blob, err
		}
		err = s.cache.Update(waiting, inside)
		if f, ok := s.cache.(interface {
			setAside(context.Context, []byte) error
		}); ok && errors.Is(err, errCacheContent) && !begun.Load() {
			blob, _ := s.cache.Get(ctx)
			if err = f.setAside(ctx, blob); err == nil {
				err = s.cache.Update(waiting, inside)
			}
		}
		return none, err
	})
	if begun.Swap(true) {
		select {
		case o := <-worked:
			s.warn(ctx, "cdfauth: the token was not stored", err)
			return o.issued, o.err
		default: // it panicked, or is still at work
			return issued{}, err
		}
	}
	if err == nil {
		err = errors.New("Update did not call its function")
	}
	if ctx.Err() != nil {
		return issued{}, err
	}
	s.warn(ctx, "cdfauth: the cache is not used", err)
	i, _, err := work(ctx, contents{})
	return i, err
}

// parse reads a blob, and reads it again if it makes no sense: old versions of Cognite's Python SDK truncate the file before they
// write it.
func (s *store) parse(ctx context.Context, blob []byte) (contents, error) {
	for try := 1; ; try++ {
		c, err := parseContents(blob)
		if err == nil || try > 3 {
			return c, err
		}
		if blob, err = s.again(ctx); err != nil {
			return nil, err
		}
	}
}

// again reads the blob after a pause.
func (s *store) again(ctx context.Context) ([]byte, error) {
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.cache.Get(ctx)
}

// whose returns what the provider's own entries have in common. For an issuer goes the URL that it is found by: the token endpoint
// if that is known from the start. The realm is "" while it is not known: it is the first segment of the token endpoint's path, as
// the metadata has it.
func (s *store) whose() (environment, realm, issuer string) {
	c, tokenURL, issuer := s.client, "", s.client.endpoint.url
	k := c.endpoint.kind
	if k != kindIssuer && k != kindDiscovery {
		tokenURL, _ = c.tokenURL(context.Background())
		issuer = tokenURL
	}
	if m := c.metadata(); m != nil {
		tokenURL = m.TokenURL
	}
	if u, err := url.Parse(tokenURL); err == nil {
		realm, _, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	}
	if u, err := url.Parse(c.endpoint.url); err == nil {
		environment = strings.ToLower(u.Hostname())
	}
	return environment, realm, issuer
}

// findApp returns the newest token of an application's own: of its client, grant, issuer, scopes and parameters. The scopes have to
// be the same, since an application may not know what it gets for asking for none.
func (s *store) findApp(c contents) lookup {
	environment, realm, issuer := s.whose()
	scopes, ext := target(s.client.scope), extCacheKey(s.client.params)
	return s.newest(c, func(e entry) bool {
		return e.text("environment") == environment && (realm == "" || e.text("realm") == realm) && e.text(fieldIssuer) == issuer &&
			e.text("client_id") == s.client.id && e.text(fieldGrant) == s.grant && e.account() == nil &&
			e.text("target") == scopes && e.text("ext_cache_key") == ext
	})
}

// newest returns the newest access token that matches and has not been refused, a fresh one if there is one.
func (s *store) newest(c contents, match func(entry) bool) (l lookup) {
	now := s.client.now().UnixNano()
	for _, key := range c.find(accessTokens, "cached_at", match) {
		e := c.entry(accessTokens, key)
		i := issued{sent: e.time("cached_at"), refresh: e.time("refresh_on")}
		if checkAccessToken(e.text("secret")) != nil {
			continue
		}
		i.token = newToken(tokenData{header: bearer + e.text("secret"), expiry: e.time("expires_on"), scope: printable(e.text(fieldGranted))})
		h := hold(i, s.engine.leeway)
		fresh := now < h.fresh
		if h.valid(now) && !i.sent.After(s.client.now().Add(5*time.Minute)) && (fresh || !l.valid) && !s.engine.wasRefused(i.token) {
			if l.issued, l.valid, l.fresh = i, true, fresh; fresh {
				break
			}
		}
	}
	return l
}

// accessToken makes the entry of a token.
func (s *store) accessToken(i issued, account any, scope string) entry {
	environment, realm, issuer := s.whose()
	e := entry{"credential_type": accessTokens, "secret": i.token.AccessToken(), "home_account_id": account, "environment": environment,
		"client_id": s.client.id, "target": target(scope), "realm": realm, "token_type": "Bearer", "cached_at": unix(i.sent),
		"expires_on": unix(i.token.Expiry()), "extended_expires_on": unix(i.token.Expiry()), fieldIssuer: issuer, fieldGrant: s.grant}
	if s := i.token.Scope(); s != "" {
		e[fieldGranted] = s
	}
	if !i.refresh.IsZero() {
		e["refresh_on"] = unix(i.refresh)
	}
	if ext := extCacheKey(s.client.params); ext != "" {
		e["ext_cache_key"] = ext
	}
	return e
}

func (s *store) warn(ctx context.Context, what string, err error) {
	if err != nil && s.client.logger != nil {
		s.client.logger.LogAttrs(ctx, slog.LevelWarn, what, slog.String("flow", s.client.flow), slog.Any("error", err))
	}
}
