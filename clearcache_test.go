package cdfauth

import (
	"context"
	"errors"
	"testing"
)

// A fullCache is a Cache that can store nothing. Its Update fails once f has returned.
type fullCache struct{ MemoryCache }

var errFull = errors.New("the disk is full")

func (c *fullCache) Update(
	ctx context.Context, f func(context.Context, []byte) ([]byte, error),
) error {
	old, err := c.Get(ctx)
	if err != nil {
		return err
	}
	_, err = f(ctx, old)
	if err != nil {
		return err
	}
	return errFull
}

// TestClearedCacheCountsForNothingUntilItIsCleared: who sets clear_cache does not want the
// content that the cache has. If that content cannot be replaced, as on a full disk, it
// still does not count.
func TestClearedCacheCountsForNothingUntilItIsCleared(t *testing.T) {
	t.Parallel()
	full := new(fullCache)
	put(t, &full.MemoryCache, "old")
	c := &clearedCache{cache: full}
	for range 2 {
		err := c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
			if old != nil {
				t.Errorf("f was called with %q", old)
			}
			return []byte("new"), nil
		})
		if err != errFull {
			t.Errorf("Update: %v", err)
		}
		wantContent(t, c, "")
	}
	err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) {
		return nil, errors.New("nothing comes of it")
	})
	if err == nil {
		t.Error("Update lost the error of f")
	}
	wantContent(t, c, "")
	wantContent(t, full, "old")
}

// TestClearedCacheIsClearedOnce: a first sign-in may fail after it has cleared the cache.
// What other programs store afterwards counts, and the next sign-in does not remove it.
func TestClearedCacheIsClearedOnce(t *testing.T) {
	t.Parallel()
	inner := new(MemoryCache)
	put(t, inner, "old")
	c := &clearedCache{cache: inner}
	unchanged := func(_ context.Context, old []byte) ([]byte, error) { return old, nil }
	must(t, c.Update(t.Context(), unchanged))
	wantContent(t, inner, "")
	put(t, inner, "another program's")
	wantContent(t, c, "another program's")
	must(t, c.Update(t.Context(), unchanged))
	wantContent(t, inner, "another program's")
	if err := c.Update(t.Context(), nil); err == nil {
		t.Error("no function is no error")
	}
}
