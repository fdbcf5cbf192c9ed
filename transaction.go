//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// This file does a flow's work inside Update of a Cache, so that of all providers and
// programs that share the cache one at a time redeems a refresh token, asks a person
// or requests a token, and the others take what it has stored.
//
// Whatever is wrong with the cache costs persistence, never the token: the work is
// then done without it. Only one thing fails: a person's flow that does not get its
// turn, because another program has the cache. Two programs that redeem the same
// refresh token may end the sign-in (RFC 9700 §4.14.2).

const (
	// lastSecond is what is left of a flight's time when the wait for the cache ends.
	lastSecond = time.Second
	// lockLimit is how long a silent flight waits for its turn. What is left is
	// enough for a look at the cache and one attempt without it.
	lockLimit = silentLimit - peekLimit - attemptLimit - lastSecond
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
	// inMemory says that cache is the store's fallback.
	inMemory bool
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
		inMemory: s.fallback.Load() != nil,
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
	if ctx.Err() != nil || t.inMemory {
		// That the flight is over, or everybody who waited for it has left, says
		// nothing against the cache.
		return grant{}, err
	}
	if late && s.ofPerson() {
		return grant{}, fmt.Errorf("%w: another program has the cache: %w", ErrSignInRequired, err)
	}
	s.warn(ctx, "cdfauth: the cache is not used", err)
	if s.ofPerson() {
		s.fallBack(nil)
		return s.transact(ctx, patience, work)
	}
	got, _, err := work(ctx, msalCache{})
	return got, err
}

// update calls Update of the cache, and reports whether the time was up before it
// returned. If the content makes no sense, Update fails and the work has not begun.
func (t *transaction) update(ctx context.Context, patience time.Duration) (late bool, err error) {
	// Each phase of a flight has a deadline.
	deadline, _ := ctx.Deadline()
	waiting, stop := context.WithDeadline(ctx, deadline.Add(-lastSecond))
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
		return t.do(ctx, content, old)
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
	t.content, err = content.blob()
	return t.content, err
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
	if err != nil && t.content != nil {
		t.store.warn(ctx, "cdfauth: the token was not stored", err)
		if t.store.ofPerson() {
			t.store.fallBack(t.content)
		}
	}
	return t.got, t.err
}

// fallBack gives up the cache for one in memory, with this content.
func (s *tokenStore) fallBack(content []byte) {
	memory := new(MemoryCache)
	_ = memory.Update(context.Background(), func(context.Context, []byte) ([]byte, error) {
		return content, nil
	})
	s.fallback.Store(memory)
}
