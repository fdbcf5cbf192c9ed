//go:build go1.24

package cdfauth

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// This file says what a Cache has to do, so that providers in several processes can
// share one sign-in. It has the simplest Cache, MemoryCache, and what all caches of the
// package use: a check of their arguments, a mutex, and two ways to tell the provider
// more than Update returns. A Cache stores bytes, and does not know what they mean.

// A Cache stores one blob for providers, which keep tokens in it between the runs of
// a program. It is safe for concurrent use.
type Cache interface {
	// Get returns the blob, or nil and no error if there is none. The slice is the
	// caller's to keep and to change. Get does not wait for an Update that is under
	// way.
	Get(ctx context.Context) ([]byte, error)

	// Update calls f with the current blob, and stores what f returns. It calls f at
	// most once, and while f runs, nobody else is inside Update, in this process or in
	// another.
	//
	// If f returns what it was given, nothing is written. If f returns nothing, the
	// blob is removed. If f fails, nothing is written, and Update returns f's error
	// as it is.
	//
	// The wait for others ends with ctx. Once f has returned, the end of ctx does not
	// stop the write. The context that f gets ends with ctx, and also when exclusion
	// can no longer be guaranteed, as when a lease is lost: then Update must not
	// write.
	//
	// f may take minutes, because a person may be signing in. f cannot be repeated,
	// because it redeems tokens that are good for one use. For this reason, a loop
	// that compares and swaps is not a Cache. f must not call Update.
	//
	// If Update cannot work here at all, because the storage is read-only or has no
	// locks, its error wraps [errors.ErrUnsupported] or [io/fs.ErrPermission]. A
	// provider then goes on in memory with what Get returns.
	Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error
}

// errNoLock is wrapped by the error of Update if no later Update can succeed either,
// because the file is in a read-only directory, or in a file system without locks. Get
// may work all the same.
var errNoLock = errors.New("cannot be locked or written here")

// checkCacheCall returns an error if ctx is nil or has ended, or if usable is false. The
// caller sets usable to whether the Cache and its other arguments can be used.
func checkCacheCall(ctx context.Context, usable bool) error {
	if !usable || ctx == nil {
		return errors.New("cdfauth: cache: the cache, the context or the function is nil or zero")
	}
	return ctx.Err()
}

// asideKey is the key of the function that withAside puts into a context.
type asideKey struct{}

// withAside returns a context for Update of a Cache. If Update finds a file that it
// cannot use, and moves it out of the way, it calls moved with the file's new name.
// The provider logs that; a Cache has no Logger.
func withAside(ctx context.Context, moved func(path string)) context.Context {
	return context.WithValue(ctx, asideKey{}, moved)
}

// movedAside calls the function that withAside has put into ctx, if there is one.
func movedAside(ctx context.Context, path string) {
	moved, ok := ctx.Value(asideKey{}).(func(path string))
	if ok {
		moved(path)
	}
}

// A ctxMutex is a mutex whose lock gives up waiting when a context ends. The zero value
// is unlocked.
type ctxMutex struct {
	once sync.Once

	// holder has room for one value, which is there while the mutex is locked.
	holder chan struct{}
}

// lock locks m. It fails with ctx.Err() if ctx ends first.
func (m *ctxMutex) lock(ctx context.Context) error {
	m.once.Do(func() { m.holder = make(chan struct{}, 1) })
	select {
	case m.holder <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unlock unlocks m, which must be locked.
func (m *ctxMutex) unlock() { <-m.holder }

// A MemoryCache is a [Cache] that lives as long as the program, for providers that
// share a sign-in. The zero value is ready for use. A MemoryCache must not be copied
// after its first use.
type MemoryCache struct {
	// updating is locked during Update.
	updating ctxMutex

	// content returns the blob, which nobody changes. The blob is kept inside a function
	// so that printing the cache does not show it.
	content atomic.Pointer[func() []byte]
}

// Get implements [Cache]. It fails only if ctx has ended, or if c or ctx is nil.
func (c *MemoryCache) Get(ctx context.Context) ([]byte, error) {
	if err := checkCacheCall(ctx, c != nil); err != nil {
		return nil, err
	}
	return c.copy(), nil
}

// Update implements [Cache]. Its error is that of f or ctx, unless c, ctx or f is nil.
func (c *MemoryCache) Update(
	ctx context.Context,
	f func(ctx context.Context, old []byte) (new []byte, err error),
) error {
	if err := checkCacheCall(ctx, c != nil && f != nil); err != nil {
		return err
	}
	if err := c.updating.lock(ctx); err != nil {
		return err
	}
	defer c.updating.unlock()
	content, err := f(ctx, c.copy())
	if err != nil {
		return err
	}
	// Store a copy, because f may go on using its slice. The copy of an empty slice is
	// nil, which means that there is no blob.
	stored := append([]byte(nil), content...)
	get := func() []byte { return stored }
	c.content.Store(&get)
	return nil
}

// copy returns a copy of the blob, or nil if there is none.
func (c *MemoryCache) copy() []byte {
	content := c.content.Load()
	if content == nil {
		return nil
	}
	return bytes.Clone((*content)())
}
