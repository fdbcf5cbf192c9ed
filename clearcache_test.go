package cdfauth

import (
	"context"
	"errors"
	"testing"
)

// TestClearedCacheCountsFromTheFirstContentStored: what fails, or stores nothing, changes
// nothing about what was there, which does not count. After that all counts as ever.
func TestClearedCacheCountsFromTheFirstContentStored(t *testing.T) {
	for name, cache := range map[string]Cache{"file": fileCache(t), "memory": &MemoryCache{}} {
		put(t, cache, "earlier")
		c := &clearedCache{cache: cache}
		update := func(want string, content []byte, err error) {
			t.Helper()
			got := c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
				if string(old) != want {
					t.Errorf("%s: f got %q, want %q", name, old, want)
				}
				return content, err
			})
			if !errors.Is(got, err) {
				t.Errorf("%s: %v, want %v", name, got, err)
			}
		}
		wantContent(t, c, "")
		update("", []byte("x"), errors.New("failed"))
		wantContent(t, c, "")
		wantContent(t, cache, "earlier")
		update("", nil, nil)
		put(t, cache, "another program's")
		wantContent(t, c, "")
		update("", []byte("ours"), nil)
		wantContent(t, c, "ours")
		update("ours", []byte("ours again"), nil)
		wantContent(t, cache, "ours again")
		if err := c.Update(t.Context(), nil); err == nil {
			t.Errorf("%s: no function is no error", name)
		}
	}
}
