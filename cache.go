//go:build go1.24

package cdfauth

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// This file has the caches; what a provider does with one (which of the tokens in it are its own, how it takes one, how processes that share it make one request
// between them); what only the flows of a person do (whose sign-ins are in it and which is meant, how one is renewed, when a person is asked, what is kept and how
// forgotten: the order is a token in the cache, a refresh token, the person); and what its content looks like.

// Cache stores one opaque blob, for providers to keep tokens in between runs of a program. It is safe for concurrent use.
type Cache interface {
	// Get returns the blob, which is the caller's to keep; nil, nil when it is empty. It does not wait for an Update that is under way.
	Get(ctx context.Context) ([]byte, error)
	// Update calls f at most once, with the current content, while nobody else, in this process or another, is inside Update, and stores the result. Content
	// equal to old is not written; empty content removes the blob; if f fails nothing is written and f's error is returned as it is. f's context also ends when
	// exclusion can no longer be guaranteed (a lease lost), and then the late write is refused. The wait for exclusion ends with ctx; once f has returned, ctx no
	// longer stops the write. f may take minutes, cannot be repeated (it redeems one-time tokens) and must not call Update: a compare-and-swap loop is no Cache.
	Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error
}

func checkCacheCall(ctx context.Context, usable bool) error {
	if !usable || ctx == nil {
		return errors.New("cdfauth: cache: the cache, the context or the function is nil or zero")
	}
	return ctx.Err()
}

type ctxMutex struct { // a mutex that can be waited for under a context
	once sync.Once
	free chan struct{}
}

func (t *ctxMutex) begin(ctx context.Context) error {
	t.once.Do(func() { t.free = make(chan struct{}, 1) })
	select {
	case t.free <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *ctxMutex) end() { <-t.free }

// MemoryCache is a [Cache] that lives as long as the program, for providers that share a sign-in. The zero value is ready; it must not be copied.
type MemoryCache struct {
	turns   ctxMutex
	content atomic.Pointer[func() []byte] // nobody writes into what it returns
}

// Get returns a copy of the content.
func (c *MemoryCache) Get(ctx context.Context) ([]byte, error) {
	if err := checkCacheCall(ctx, c != nil); err != nil {
		return nil, err
	}
	if content := c.content.Load(); content != nil {
		return bytes.Clone((*content)()), nil
	}
	return nil, nil
}

// Update implements [Cache].
func (c *MemoryCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	if err := checkCacheCall(ctx, c != nil && f != nil); err != nil {
		return err
	}
	if err := c.turns.begin(ctx); err != nil {
		return err
	}
	defer c.turns.end()
	old, _ := c.Get(context.Background())
	now, err := f(ctx, old)
	if err == nil {
		now = append([]byte(nil), now...) // nil if empty
		content := func() []byte { return now }
		c.content.Store(&content)
	}
	return err
}
