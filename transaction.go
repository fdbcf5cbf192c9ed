//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync/atomic"
	"time"
)

// This file does a flow's work inside Update of a Cache, so that of all providers and
// programs that share the cache one at a time redeems a refresh token, asks a person
// or requests a token, and the others take what it has stored.
//
// Whatever is wrong with the cache costs persistence, never the token: the work is
// then done without it. Only one thing is not: to redeem a refresh token of a cache
// that other programs may be at work in. Two programs that redeem the same one may
// end the sign-in (RFC 9700 §4.14.2). Where there are no turns at all, as in a folder
// that can only be read, that risk is taken and logged.

const (
	// lastSecond is what is left of a flight's time when the wait for the cache ends.
	lastSecond = time.Second
	// lockLimit is how long a silent flight waits for its turn. What is left is
	// enough for a look at the cache and one attempt without it.
	lockLimit = silentLimit - peekLimit - attemptLimit - lastSecond
	// storeLimit is how long the cache may take to store what the work has brought.
	// One that takes longer is given up: those who wait have a token to get, and a
	// phase that asks a person has minutes left.
	storeLimit = 5 * time.Second
)

// cacheWork is what a flow does with the content of the cache, in which it may make
// changes. It reports whether it has made any; they are stored also if it fails.
type cacheWork func(ctx context.Context, c msalCache) (got grant, changed bool, err error)

// An updateFunc is what Update of a Cache calls.
type updateFunc = func(ctx context.Context, old []byte) ([]byte, error)

// A transaction is one try to do a flow's work inside Update.
type transaction struct {
	store *tokenStore
	work  cacheWork
	// cache is where the tokens are.
	cache Cache
	// fallback is the same, if the cache was given up before; otherwise nil.
	fallback *fallbackCache
	// session is the refresher's session, which SignOut ends.
	session int64
	// taken says that the work has begun, or that it will not because the cache was
	// given up. Whoever sets it first decides which.
	taken atomic.Bool
	// worked is closed when the work is over, whatever the cache does afterwards. The
	// fields below are set before.
	worked chan struct{}
	got    grant
	err    error
	// content is what is to be stored; nil if nothing was changed.
	content []byte
	// rotated says that a refresh token was redeemed for another one.
	rotated bool
}

// A fallbackCache takes the place of a cache that does not work.
type fallbackCache struct {
	MemoryCache
	// cause is what was wrong with the cache.
	cause error
	// copied says that the content is what the cache had, and still has.
	copied atomic.Bool
}

// transact does the work, once, with the content of the cache, and stores what it
// changes there. It waits for its turn as long as patience lasts and ctx has more
// than a second left.
func (s *tokenStore) transact(
	ctx context.Context, patience time.Duration, work cacheWork,
) (grant, error) {
	t := &transaction{
		store:    s,
		work:     work,
		cache:    s.current(),
		fallback: s.fallback.Load(),
		session:  s.refresher.session.Load(),
		worked:   make(chan struct{}),
	}
	late, err := t.update(ctx, patience)
	if t.taken.Swap(true) {
		return t.finish(ctx, err)
	}
	if err == nil {
		err = errors.New("Update did not call its function")
	}
	if ctx.Err() != nil || t.fallback != nil {
		// That the flight is over, or everybody who waited for it has left, says
		// nothing against the cache.
		return grant{}, err
	}
	if s.ofPerson() {
		err = s.giveUpCache(ctx, late, err)
		if err != nil {
			return grant{}, err
		}
		return s.transact(ctx, patience, work)
	}
	s.warn(ctx, "cdfauth: the cache is not used", err)
	got, _, err := work(ctx, msalCache{})
	return got, err
}

// giveUpCache puts a fallback in the place of a cache whose Update failed with err
// and never called, for a flow of a person. It fails if another program may have its
// turn, and the flow must not go on beside it.
func (s *tokenStore) giveUpCache(ctx context.Context, late bool, err error) error {
	if late {
		return fmt.Errorf("%w: another program has the cache: %w", ErrSignInRequired, err)
	}
	fallback := newFallbackCache(nil, err)
	switch {
	case hasNoTurns(err):
		fallback = s.copyOfCache(ctx, err)
	case interactionForbidden(ctx):
		// A silent flight can do nothing in an empty cache. The next one tries again.
		return s.withCacheTrouble(ErrSignInRequired, err)
	}
	s.warnUnsaved(ctx, "cdfauth: the cache is not used", err)
	s.fallback.Store(fallback)
	return nil
}

// update calls Update of the cache, and reports whether the time was up before it
// returned. If the content makes no sense, Update fails and the work has not begun.
func (t *transaction) update(ctx context.Context, patience time.Duration) (late bool, err error) {
	// Each phase of a flight has a deadline.
	deadline, _ := ctx.Deadline()
	waiting, stop := context.WithDeadline(t.store.logAside(ctx), deadline.Add(-lastSecond))
	defer stop()
	timer := time.AfterFunc(patience, stop)
	defer timer.Stop()
	inside := func(ctx context.Context, old []byte) ([]byte, error) {
		timer.Stop()
		content, err := t.store.parse(ctx, old)
		if err != nil {
			return nil, err
		}
		if waiting.Err() != nil || t.taken.Swap(true) {
			return nil, errors.New("called its function too late, or twice")
		}
		stored, err := t.do(ctx, content, old)
		timer.Reset(storeLimit)
		return stored, err
	}
	_, err = guarded(waiting, "Cache", func() error {
		err := t.cache.Update(waiting, inside)
		if errors.Is(err, errCacheContent) && !t.taken.Load() {
			return t.setAside(waiting, err, inside)
		}
		return err
	})
	return waiting.Err() != nil, err
}

// do does the work, and returns what is to be stored. What came while SignOut was
// called is not.
func (t *transaction) do(ctx context.Context, content msalCache, old []byte) ([]byte, error) {
	before := refreshSecrets(content)
	got, changed, err := t.work(ctx, content)
	t.got = got
	t.err = err
	// Not before: if the work panics, it has brought nothing.
	defer close(t.worked)
	if t.store.refresher.session.Load() != t.session {
		t.err = errSignedOut
		return old, nil
	}
	if !changed {
		return old, nil
	}
	t.rotated = err == nil && isRotation(before, refreshSecrets(content))
	t.store.removeExpired(content)
	t.content, err = content.blob()
	return t.content, err
}

// refreshSecrets returns all refresh tokens of a content.
func refreshSecrets(c msalCache) map[string]bool {
	secrets := map[string]bool{}
	for _, e := range c.find(refreshTokens, func(entry) bool { return true }) {
		secrets[e.text("secret")] = true
	}
	return secrets
}

// isRotation reports whether a refresh token has gone and another one has come.
func isRotation(before, after map[string]bool) bool {
	gone := false
	for secret := range before {
		gone = gone || !after[secret]
	}
	come := false
	for secret := range after {
		come = come || !before[secret]
	}
	return gone && come
}

// removeExpired removes the access tokens of this client that have expired, whoever
// they are for, as MSAL does: a program with many scopes or parameters would fill the
// cache with them. Those of other clients stay; each removes its own.
func (s *tokenStore) removeExpired(c msalCache) {
	now := s.client.clock.now()
	c.remove(accessTokens, func(e entry) bool {
		return e.text("environment") == s.environment() &&
			e.text("client_id") == s.client.id &&
			!e.time("expires_on").After(now)
	})
}

// setAside moves a file whose content makes no sense out of the way, and calls Update
// once more. It returns err for any other cache: an encrypted one may merely have the
// wrong key.
func (t *transaction) setAside(ctx context.Context, err error, inside updateFunc) error {
	file, ok := t.cache.(interface {
		setAside(context.Context, func([]byte) bool) error
	})
	if !ok {
		return err
	}
	err = file.setAside(ctx, isUnreadable)
	if err != nil {
		return err
	}
	return t.cache.Update(ctx, inside)
}

// finish returns what the work has brought. err is the cache's: if what was changed is
// not stored, a person's flow goes on in memory, since the refresh token in the cache
// may be spent.
func (t *transaction) finish(ctx context.Context, err error) (grant, error) {
	select {
	case <-t.worked:
	case <-time.After(lastSecond):
		// The work has panicked, or goes on although its time is up.
		return grant{}, err
	}
	s := t.store
	stored := err == nil || t.content == nil
	if !stored {
		s.warnUnsaved(ctx, "cdfauth: the token was not stored", err)
		if s.ofPerson() {
			s.fallback.Store(newFallbackCache(t.content, err))
		}
	}
	wasCopied := t.fallback != nil && t.fallback.copied.Load()
	if t.rotated && (wasCopied || !stored) {
		s.warn(ctx, "cdfauth: the provider has replaced a refresh token that is still in the cache",
			errSpentToken)
	}
	if t.rotated && wasCopied {
		t.fallback.copied.Store(false)
	}
	if errors.Is(t.err, ErrSignInRequired) {
		return t.got, s.withCacheTrouble(t.err, nil)
	}
	return t.got, t.err
}

var errSpentToken = errors.New("a program that redeems it may end the sign-in, " +
	"and a person will have to sign in again")

// hasNoTurns reports whether Update of a cache failed because nobody can write or
// lock there. Any other error may mean that another program has its turn.
func hasNoTurns(err error) bool {
	return errors.Is(err, errNoLock) ||
		errors.Is(err, errors.ErrUnsupported) ||
		errors.Is(err, fs.ErrPermission)
}

// copyOfCache returns what takes the place of a cache that can only be read, with the
// same content.
func (s *tokenStore) copyOfCache(ctx context.Context, cause error) *fallbackCache {
	blob, err := s.read(ctx, 0)
	if err != nil || isUnreadable(blob) {
		return newFallbackCache(nil, cause)
	}
	fallback := newFallbackCache(blob, cause)
	fallback.copied.Store(true)
	return fallback
}

func newFallbackCache(content []byte, cause error) *fallbackCache {
	fallback := &fallbackCache{cause: cause}
	_ = fallback.Update(context.Background(), func(context.Context, []byte) ([]byte, error) {
		return content, nil
	})
	return fallback
}
