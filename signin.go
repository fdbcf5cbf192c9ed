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

// This file is what the two flows of a person share. They try these ways to get a token,
// in this order:
//
//	from the cache       an access token of the person who is meant (account.go)
//	by a refresh token   from the cache, one program at a time (refreshtoken.go)
//	from the person      one program at a time: the others wait, and take what it gets
//
// The first two are the silent phase of a flight. The third is the phase that asks
// (asking.go). What a refresh or a sign-in brings is stored (savegrant.go) until somebody
// signs out (signout.go).

// A signIn signs people in at one identity provider, and knows who has signed in.
type signIn struct {
	tokenStore
	cfg       signInConfig
	authorize authorizeFunc
	account   atomic.Pointer[account] // whose tokens are handed out; nil until that is known

	// noDefaultCache says why there is no file at DefaultCachePath, and the cache is in
	// memory instead. It is nil if that is not so, and once it was reported.
	noDefaultCache error

	// refused has those refresh tokens that the identity provider has refused for what
	// this program asks for. The keys are their fingerprints, the values are the errors.
	// It is emptied when a person has signed in.
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

// newSignIn returns a signIn, whose authorize the caller has to set. It fails if a field
// of cfg is wrong.
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
		s.cache, s.noDefaultCache = defaultCache(c.id)
	}
	r.silent = s.silent
	r.ask = s.ask
	r.cleanup = s.cleanUp
	return s, nil
}

// defaultCache returns the file at DefaultCachePath. If there can be none, it returns a
// cache in memory, and the reason.
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

// cleanUp is called at the end of a flight. If somebody has signed out since it began, what
// it has found is of the person who has gone: the next one is not asked as that person.
func (s *signIn) cleanUp(signedOut bool) {
	s.client.closeIdle()
	if signedOut {
		s.account.Store(nil)
	}
}

// mustPrompt reports whether a person has to be asked, whatever the cache has. Prompt
// demands that until somebody has signed in.
func (s *signIn) mustPrompt() bool {
	return s.cfg.prompt != "" && s.account.Load() == nil
}

// silent gets a token without asking anybody. If it cannot, but the cache has a token
// that is due for a refresh and still valid, it returns that.
func (s *signIn) silent(ctx context.Context) (grant, error) {
	if s.noDefaultCache != nil {
		s.warnUnsaved(ctx, "cdfauth: the sign-in is kept in memory alone", s.noDefaultCache)
		s.noDefaultCache = nil
	}
	if s.mustPrompt() {
		return grant{}, ErrSignInRequired
	}
	found, err := s.searchCache(ctx)
	if !found.fresh {
		// The metadata may be needed to recognise our entries: load it, then look again.
		unavailable := s.loadMetadata(ctx)
		if unavailable != nil {
			return found.orElse(grant{}, unavailable, s.refresher)
		}
		found, err = s.searchCache(ctx)
	}
	if found.fresh {
		return s.adopt(found), nil
	}
	s.warn(ctx, "cdfauth: the cache cannot be read", err)
	// Without a refresh token it is of no use to wait for a turn. If the cache could not be
	// read at all, it may have one.
	wasRead := err == nil || err == errCacheContent
	if wasRead && len(found.refreshTokens) == 0 {
		required := s.withCacheTrouble(found.signInRequired(), err)
		return found.orElse(grant{}, required, s.refresher)
	}
	got, err := s.transact(ctx, lockLimit, s.redeemRefreshToken)
	return found.orElse(got, err, s.refresher)
}

// searchCache searches the cache without waiting for a turn.
func (s *signIn) searchCache(ctx context.Context) (foundTokens, error) {
	c, err := s.peek(ctx)
	return s.search(c), err
}

// adopt returns an access token that was found in the cache. From now on this provider
// hands out tokens of the same account alone.
func (s *signIn) adopt(found foundTokens) grant {
	s.account.Store(&found.account)
	return found.grant
}

// loadMetadata loads the metadata if it is needed to recognise entries of the cache, or
// to know the address of the token endpoint.
func (s *signIn) loadMetadata(ctx context.Context) error {
	realm, _ := s.realmAndIssuer()
	if realm != "" && s.client.entraStyle() {
		return nil
	}
	_, err := s.client.discoverWithRetries(ctx)
	return err
}

// scope returns the scopes to ask for: the configured ones, and openIDScopes. supported
// are those that the identity provider's metadata lists. If it lists any, scope leaves
// out those of openIDScopes that are not among them. Entra and AD FS know them all.
func (s *signIn) scope(supported []string) string {
	scopes := strings.Fields(s.client.scope)
	for _, extra := range openIDScopes {
		known := s.client.entraStyle() || supported == nil || slices.Contains(supported, extra)
		if known && !slices.Contains(scopes, extra) {
			scopes = append(scopes, extra)
		}
	}
	return strings.Join(scopes, " ")
}

// addGrant returns a function that adds to a token request the parameters of its grant,
// which are fields, and those that all grants of a person have. secrets are those in
// fields, which no error may show.
func (s *signIn) addGrant(fields url.Values, secrets ...string) prepareFunc {
	return func(ctx context.Context, _ string, request *tokenRequest) error {
		maps.Copy(request.Values, fields)
		request.secrets = append(request.secrets, secrets...)
		if s.client.entraStyle() {
			// Entra then says which account it is, in the form in which MSAL names accounts.
			request.Set("client_info", "1")
			request.Set("scope", s.scope(nil))
			return nil
		}
		m, err := s.client.discover(ctx)
		if err != nil {
			return err
		}
		request.Set("scope", s.scope(m.Scopes))
		return nil
	}
}
