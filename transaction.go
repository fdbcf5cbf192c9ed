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

// This file does a flow's work inside Update of a Cache. So only one of the providers
// and programs that share the cache redeems a refresh token, asks a person or requests a
// token at a time, and the others take what it has stored.
//
// If the cache does not work, the work is done without it: the token is then not saved,
// but there is one. The exception is a refresh token in a cache that another program may
// be using. It is not redeemed, because two programs that redeem the same one may end
// the sign-in (RFC 9700 §4.14.2). If no program can have a turn, as in a folder that can
// only be read, that risk is taken, and a rotation is logged.

const (
	// lastSecond is how long before the deadline of a phase the wait for the cache ends.
	lastSecond = time.Second
	// lockLimit is how long a silent phase waits for its turn. The rest of its time is
	// enough for a look at the cache and one attempt without it.
	lockLimit = silentLimit - peekLimit - attemptLimit - lastSecond
	// storeLimit is how long the cache may take to store what the work has changed. Then
	// it is given up, so that the callers get their token. The deadline of the phase would
	// be too late for that: a phase that asks a person has a quarter of an hour.
	storeLimit = 5 * time.Second
)

// cacheWork is what a flow does with the content of the cache. It may change the content
// in place, and reports whether it has. Its changes are stored even if it fails.
type cacheWork func(ctx context.Context, c msalCache) (got grant, changed bool, err error)

// An updateFunc is the function that Update of a Cache calls.
type updateFunc = func(ctx context.Context, old []byte) ([]byte, error)

// A transaction is one attempt to do a flow's work inside Update.
type transaction struct {
	store *tokenStore
	work  cacheWork
	// cache is the cache in use: the store's own, or its fallback.
	cache Cache
	// fallback is the same as cache, if that is a fallback; otherwise nil.
	fallback *fallbackCache
	// session is refresher.session when the transaction began. SignOut changes it.
	session int64
	// taken decides whether the work is done inside Update. The function inside Update
	// sets it when it begins the work, and transact when Update is over. Whoever sets it
	// first has decided.
	taken atomic.Bool
	// worked is closed when the work is over. The cache may still have to store what has
	// changed. The fields below are set before.
	worked chan struct{}
	got    grant
	err    error
	// content is what the cache has to store; nil if nothing was changed.
	content []byte
	// rotated says that the provider has replaced a refresh token by another one.
	rotated bool
}

// A fallbackCache is a cache in memory, in place of one that does not work.
type fallbackCache struct {
	MemoryCache
	// cause is what was wrong with the cache.
	cause error
	// copied says that the refresh tokens are copies of those that the cache still has.
	copied atomic.Bool
}

// transact does the work with the content of the cache, and stores what the work changes.
// It never does the work twice. It waits for its turn for as long as patience says, but
// not longer than until lastSecond before the deadline of ctx.
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
		// If the phase is over, or all callers have left, nothing is wrong with the cache.
		// And a fallback cannot be replaced by another one.
		return grant{}, err
	}
	if s.ofPerson() {
		err = t.giveUpCache(ctx, late, err)
		if err != nil {
			return grant{}, err
		}
		return s.transact(ctx, patience, work)
	}
	s.warn(ctx, "cdfauth: the cache is not used", err)
	got, _, err := work(ctx, msalCache{})
	return got, err
}

// giveUpCache puts a fallback in the place of a cache whose Update failed with err and
// did not begin the work, for a flow of a person. It fails if late says that the wait
// for the cache was too long: another program may have its turn, and the flow must not
// go on beside it. It also fails if only a person could help and none may be asked.
func (t *transaction) giveUpCache(ctx context.Context, late bool, err error) error {
	s := t.store
	if late {
		return fmt.Errorf("%w: another program has the cache: %w", ErrSignInRequired, err)
	}
	fallback := newFallbackCache(nil, err)
	switch {
	case hasNoTurns(err):
		fallback = s.copyOfCache(ctx, err)
	case interactionForbidden(ctx):
		// An empty cache is of no use to a silent phase. The next flight tries the cache
		// again.
		return s.withCacheTrouble(ErrSignInRequired, err)
	}
	s.warnUnsaved(ctx, "cdfauth: the cache is not used", err)
	t.useFallback(fallback)
	return nil
}

// useFallback makes a fallback the cache in use, unless somebody has signed out since the
// transaction began: its content is from before. SignOut changes the session first, and
// then drops the fallback.
func (t *transaction) useFallback(fallback *fallbackCache) {
	t.store.fallback.Store(fallback)
	if t.store.refresher.session.Load() != t.session {
		t.store.fallback.CompareAndSwap(fallback, nil)
	}
}

// update calls Update of the cache, to do the work. It reports whether the time was up
// when Update returned. If the content makes no sense, the work does not begin.
func (t *transaction) update(ctx context.Context, patience time.Duration) (late bool, err error) {
	// There always is a deadline: each phase of a flight has one.
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

// do does the work, and returns what the cache has to store. If somebody has signed out
// meanwhile, nothing is stored.
func (t *transaction) do(ctx context.Context, content msalCache, old []byte) ([]byte, error) {
	before := refreshSecrets(content)
	got, changed, err := t.work(ctx, content)
	t.got = got
	t.err = err
	// This is not deferred before the work: if that panics, it has brought nothing.
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

// refreshSecrets returns the set of all refresh tokens in c.
func refreshSecrets(c msalCache) map[string]bool {
	secrets := map[string]bool{}
	for _, e := range c.find(refreshTokens, func(entry) bool { return true }) {
		secrets[e.text("secret")] = true
	}
	return secrets
}

// isRotation reports whether a refresh token has gone and another one has come.
func isRotation(before, after map[string]bool) bool {
	return hasOther(before, after) && hasOther(after, before)
}

// hasOther reports whether a set has an element that others does not have.
func hasOther(set, others map[string]bool) bool {
	for element := range set {
		if !others[element] {
			return true
		}
	}
	return false
}

// removeExpired removes the expired access tokens of this client, of all accounts, as
// MSAL does. Otherwise a program with many scopes or parameters would fill the cache with
// them. Those of other clients stay: each client removes its own.
func (s *tokenStore) removeExpired(c msalCache) {
	now := s.client.clock.now()
	c.remove(accessTokens, func(e entry) bool {
		return e.text("environment") == s.environment() &&
			e.text("client_id") == s.client.id &&
			!e.time("expires_on").After(now)
	})
}

// setAside moves a file whose content makes no sense out of the way, and calls Update
// once more. If the cache is not a FileCache, setAside returns err. An encrypted cache, for
// instance, stays where it is, because the key may be wrong instead.
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

// finish returns what the work has brought. err is that of Update. If the changes were
// not stored, a flow of a person goes on with a fallback, since the refresh token that is
// in the cache may be spent.
func (t *transaction) finish(ctx context.Context, err error) (grant, error) {
	select {
	case <-t.worked:
	case <-time.After(lastSecond):
		// The work has panicked, or goes on although its time is up.
		if err == nil {
			err = errors.New("Update returned before its function")
		}
		return grant{}, err
	}
	s := t.store
	stored := err == nil || t.content == nil
	if !stored {
		s.warnUnsaved(ctx, "cdfauth: the token was not stored", err)
		if s.ofPerson() {
			t.useFallback(newFallbackCache(t.content, err))
		}
	}
	usedCopy := t.fallback != nil && t.fallback.copied.Load()
	if t.rotated && (usedCopy || !stored) {
		s.warn(ctx, "cdfauth: the provider has replaced a refresh token that is still in the cache",
			errSpentToken)
	}
	if t.rotated && usedCopy {
		// The fallback now has a refresh token of its own.
		t.fallback.copied.Store(false)
	}
	if errors.Is(t.err, ErrSignInRequired) {
		return t.got, s.withCacheTrouble(t.err, nil)
	}
	return t.got, t.err
}

// errSpentToken says what comes of a spent refresh token that is still in the cache.
var errSpentToken = errors.New("a program that redeems it may end the sign-in, " +
	"and a person will have to sign in again")

// hasNoTurns reports whether Update of a cache failed because nobody can write or lock
// there. After any other error, another program may have its turn.
func hasNoTurns(err error) bool {
	return errors.Is(err, errNoLock) ||
		errors.Is(err, errors.ErrUnsupported) ||
		errors.Is(err, fs.ErrPermission)
}

// copyOfCache returns a fallback with the content of a cache that can only be read. If
// the content cannot be read or makes no sense, the fallback is empty.
func (s *tokenStore) copyOfCache(ctx context.Context, cause error) *fallbackCache {
	blob, err := s.read(ctx, 0)
	if err != nil || isUnreadable(blob) {
		return newFallbackCache(nil, cause)
	}
	fallback := newFallbackCache(blob, cause)
	fallback.copied.Store(true)
	return fallback
}

// newFallbackCache returns a fallback with that content. cause is what is wrong with the
// cache.
func newFallbackCache(content []byte, cause error) *fallbackCache {
	fallback := &fallbackCache{cause: cause}
	_ = fallback.Update(context.Background(), func(context.Context, []byte) ([]byte, error) {
		return content, nil
	})
	return fallback
}
