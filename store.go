package cdfauth

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"time"
)

// This file is what a provider does with a Cache: which of the tokens in it are its own, how it takes one, and how
// processes that share it make one request between them.

// store is one provider's share in a Cache.
type store struct {
	client *client
	engine *engine
	cache  Cache
	grant  string // marks the tokens that an application got for itself
}

// lockLimit is how long a flight waits for others who are inside Update: the time of one attempt is left for going on
// without the cache.
const lockLimit = silentLimit - attemptLimit

// forApp puts the cache before fetch, the silent phase of a flow without a user. Whatever is wrong with the cache
// costs persistence, never the token.
func (s *store) forApp(fetch func(context.Context) (issued, error)) func(context.Context) (issued, error) {
	if s.cache == nil {
		return fetch
	}
	return func(ctx context.Context) (issued, error) {
		i, found, err := s.peek(ctx)
		if found {
			return i, nil
		}
		if err == nil {
			var o outcomeOf
			if o, err = s.transact(ctx, fetch); o.done {
				s.warn(ctx, "cdfauth: the token was not stored", err)
				return o.issued, o.err
			}
		}
		s.warn(ctx, "cdfauth: the cache is not used", err)
		return fetch(ctx)
	}
}

// peek looks for a token without the lock.
func (s *store) peek(ctx context.Context) (i issued, found bool, err error) {
	type result struct {
		issued
		found bool
	}
	r, err := guard(ctx, "Cache", func(ctx context.Context) (r result, err error) {
		blob, err := s.cache.Get(ctx)
		if err != nil {
			return r, err
		}
		if c, err := s.parse(ctx, blob); err == nil { // if not, Update comes upon it too
			r.issued, r.found = s.find(c)
		}
		return r, nil
	})
	return r.issued, r.found, err
}

// outcomeOf a transaction: done says that it came to a token or to the error of fetch, whatever became of the cache.
type outcomeOf struct {
	issued
	err  error
	done bool
}

// transact takes what somebody else has stored meanwhile, or else fetches and stores a token, while all others wait.
func (s *store) transact(ctx context.Context, fetch func(context.Context) (issued, error)) (outcomeOf, error) {
	return guard(ctx, "Cache", func(ctx context.Context) (o outcomeOf, err error) {
		waiting, stop := context.WithCancel(ctx)
		defer stop()
		patience := time.AfterFunc(lockLimit, stop)
		inside := func(ctx context.Context, old []byte) ([]byte, error) {
			patience.Stop()
			c, err := s.parse(ctx, old)
			if err != nil {
				return nil, err
			}
			if o.issued, o.done = s.find(c); o.done {
				return old, nil
			}
			o.issued, o.err = fetch(ctx)
			if o.done = true; o.err != nil {
				return nil, o.err
			}
			s.add(c, o.issued)
			return c.blob()
		}
		err = s.cache.Update(waiting, inside)
		if f, ok := s.cache.(interface {
			setAside(context.Context, []byte) error
		}); ok && errors.Is(err, errCacheContent) && !o.done {
			blob, _ := s.cache.Get(ctx)
			if err = f.setAside(ctx, blob); err == nil {
				err = s.cache.Update(waiting, inside)
			}
		}
		switch {
		case o.err != nil:
			err = nil // it is the fetch's, not the cache's
		case err == nil && !o.done:
			err = errors.New("Update did not call its function")
		}
		return o, err
	})
}

// parse reads a blob, and reads it again if it makes no sense: old versions of Cognite's Python SDK truncate the file
// before they write it.
func (s *store) parse(ctx context.Context, blob []byte) (contents, error) {
	for try := 1; ; try++ {
		c, err := parseContents(blob)
		if err == nil || try > 3 {
			return c, err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if blob, err = s.cache.Get(ctx); err != nil {
			return nil, err
		}
	}
}

// whose returns what the provider's own entries have in common. For an issuer goes the URL that it is found by: the
// token endpoint if that is known from the start. The realm is "" while discovery has yet to find that endpoint; the
// issuer decides without it.
func (c *client) whose() (environment, realm, issuer string) {
	tokenURL, issuer := "", c.endpoint.url
	if m := c.metadata(); m != nil {
		tokenURL = m.TokenURL
	} else if k := c.endpoint.kind; k != kindIssuer && k != kindDiscovery {
		tokenURL, _ = c.tokenURL(context.Background())
		issuer = tokenURL
	}
	if u, err := url.Parse(tokenURL); err == nil {
		realm, _, _ = strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	}
	if u, err := url.Parse(c.endpoint.url); err == nil {
		environment = strings.ToLower(u.Hostname())
	}
	return environment, realm, issuer
}

// owns says which access tokens are for this provider: its client, grant, issuer, scopes and parameters. The scopes
// have to be the same, since an application may not know what it gets for asking for none.
func (s *store) owns() func(entry) bool {
	environment, realm, issuer := s.client.whose()
	scopes, ext := target(s.client.scope), extCacheKey(s.client.params)
	return func(e entry) bool {
		return e.text("environment") == environment && (realm == "" || e.text("realm") == realm) && e.text(fieldIssuer) == issuer &&
			e.text("client_id") == s.client.id && e.text(fieldGrant) == s.grant && e["home_account_id"] == nil &&
			e.text("target") == scopes && e.text("ext_cache_key") == ext
	}
}

// find returns the newest token of the provider's own that is still fresh and has not been refused.
func (s *store) find(c contents) (issued, bool) {
	for _, key := range c.find(accessTokens, "cached_at", s.owns()) {
		e := c.entry(accessTokens, key)
		i := issued{sent: e.time("cached_at"), refresh: e.time("refresh_on")}
		if checkAccessToken(e.text("secret")) != nil {
			continue
		}
		i.token = newToken(tokenData{header: bearer + e.text("secret"), expiry: e.time("expires_on"), scope: printable(e.text("target"))})
		if s.client.now().UnixNano() < hold(i, s.engine.leeway).fresh && !s.engine.wasRefused(i.token) {
			return i, true
		}
	}
	return issued{}, false
}

// add stores a token, over the one before.
func (s *store) add(c contents, i issued) {
	if !i.token.Expiry().After(s.client.now()) {
		return
	}
	environment, realm, issuer := s.client.whose()
	e := entry{"credential_type": accessTokens, "secret": i.token.AccessToken(), "home_account_id": nil, "environment": environment,
		"client_id": s.client.id, "target": target(s.client.scope), "realm": realm, "token_type": "Bearer", "cached_at": unix(i.sent),
		"expires_on": unix(i.token.Expiry()), "extended_expires_on": unix(i.token.Expiry()), fieldIssuer: issuer, fieldGrant: s.grant}
	if !i.refresh.IsZero() {
		e["refresh_on"] = unix(i.refresh)
	}
	if ext := extCacheKey(s.client.params); ext != "" {
		e["ext_cache_key"] = ext
	}
	c.put(accessTokens, e)
}

func (s *store) warn(ctx context.Context, what string, err error) {
	if err != nil && s.client.logger != nil {
		s.client.logger.LogAttrs(ctx, slog.LevelWarn, what, slog.String("flow", s.client.flow), slog.Any("error", err))
	}
}
