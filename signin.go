//go:build go1.24

package cdfauth

import (
	"context"
	"io"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// This file is what the two flows of a person share. They get a token, in this
// order,
//
//	from the cache       an access token of the person who is meant (account.go)
//	by a refresh token   out of the cache, while no other program can (refreshtoken.go)
//	from the person      one program at a time: the others wait, and take what it gets
//
// The first two are the silent phase of a flight. The third is the phase that asks
// (asking.go). What it brings is kept (savegrant.go) until somebody signs out
// (signout.go).

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
	cfg.output = &patientWriter{output: cfg.output}
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
	_, err := s.client.discoverWithRetries(ctx)
	return err
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
