//go:build go1.24

package cdfauth

import (
	"context"
	"sync/atomic"
)

// This file is clear_cache of the Python SDK's configuration. The SDK removes the file
// when it makes its provider. Here the first Update clears the cache, because constructors
// do no I/O, and because other programs use the file.

// A clearedCache hides what another Cache has, until the first Update that succeeds. That
// Update begins with no content, and what it ends with takes the place of the old content.
// From then on a clearedCache is the same as the Cache inside it.
type clearedCache struct {
	cache Cache

	// cleared is set once the old content has gone.
	cleared atomic.Bool
}

// Get returns the content, or nil before the cache was cleared.
func (c *clearedCache) Get(ctx context.Context) ([]byte, error) {
	content, err := c.cache.Get(ctx)
	if err != nil || !c.cleared.Load() {
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
	err := c.cache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
		if !c.cleared.Load() {
			old = nil
		}
		return f(ctx, old)
	})
	if err == nil {
		c.cleared.Store(true)
	}
	return err
}
