//go:build go1.24

package cdfauth

import (
	"context"
	"sync/atomic"
)

// This file is clear_cache of the Python SDK's configuration. A file is not removed
// when the provider is made: constructors do no I/O, and other programs use the file.

// clearedCache is a Cache with clear_cache: what it has counts for nothing, until
// something is stored through it, which replaces what was there. Other processes
// may have stored something since, and then that counts as ever.
type clearedCache struct {
	cache Cache

	// stored is set once something was stored.
	stored atomic.Bool
}

// Get returns the content, if it counts.
func (c *clearedCache) Get(ctx context.Context) ([]byte, error) {
	content, err := c.cache.Get(ctx)
	if err != nil || !c.stored.Load() {
		return nil, err
	}
	return content, nil
}

// Update implements [Cache].
func (c *clearedCache) Update(
	ctx context.Context,
	f func(ctx context.Context, old []byte) (new []byte, err error),
) error {
	if err := checkCacheCall(ctx, f != nil); err != nil {
		return err
	}
	return c.cache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
		if !c.stored.Load() {
			old = nil
		}
		content, err := f(ctx, old)
		if err == nil && len(content) > 0 {
			c.stored.Store(true)
		}
		return content, err
	})
}
