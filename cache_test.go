package cdfauth

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// TestCacheKeepsContent: every Cache of the package keeps what Update returned, and nothing
// else. It does not write content that is there already, nor what a function has returned
// beside an error, and it shares no slice with its callers.
func TestCacheKeepsContent(t *testing.T) {
	t.Parallel()
	everyCache(t, func(t *testing.T, c Cache, raw func() string) {
		wantContent(t, c, "")
		calls := 0
		if err := c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
			calls++
			if old != nil {
				t.Errorf("old: %q, want nil", old)
			}
			return []byte("first"), nil
		}); err != nil {
			t.Fatal(err)
		}
		wantContent(t, c, "first")

		// Content equal to old is not written.
		before := raw()
		put(t, c, "first")
		if after := raw(); after != before {
			t.Error("equal content was written")
		}

		// f's error comes back as it is, and what it returned beside it is not written.
		failed := errors.New("f failed")
		if err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) {
			calls++
			return []byte("lost"), failed
		}); err != failed {
			t.Errorf("Update: %v, want f's error", err)
		}
		wantContent(t, c, "first")
		if calls != 2 {
			t.Errorf("%d calls, want one for each Update", calls)
		}

		// The cache shares no slice with its callers.
		b, _ := c.Get(t.Context())
		clear(b)
		wantContent(t, c, "first")
		if err := c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
			clear(old)
			return nil, failed
		}); err != failed {
			t.Error(err)
		}
		wantContent(t, c, "first")
		var kept []byte
		if err := c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
			kept = append(old[:0], "FIRST"...) // in place
			return kept, nil
		}); err != nil {
			t.Error(err)
		}
		wantContent(t, c, "FIRST")
		clear(kept)
		wantContent(t, c, "FIRST")

		// Empty content removes the blob, and once more changes nothing.
		for range 2 {
			if err := c.Update(t.Context(),
				func(context.Context, []byte) ([]byte, error) { return []byte{}, nil }); err != nil {
				t.Fatal(err)
			}
			wantContent(t, c, "")
		}
		if left := raw(); left != "none" && left != "" {
			t.Errorf("left behind: %q", left)
		}
	})
}

// TestCacheWaitEndsWithItsContext: a caller whose context ends no longer waits for the
// Update of another one. But an Update that is under way goes on to its end, since what it
// is to store may be a refresh token that is good for one use.
func TestCacheWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	everyCache(t, func(t *testing.T, c Cache, _ func() string) {
		never := func(context.Context, []byte) ([]byte, error) {
			t.Error("f was called")
			return nil, nil
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Update(ended, never); !errors.Is(err, context.Canceled) {
			t.Errorf("Update under an ended context: %v", err)
		}
		if _, err := c.Get(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("Get under an ended context: %v", err)
		}

		// A context that ends while f runs does not stop the write, nor Get the
		// Update; a second Update waits, and leaves when its own context ends.
		ctx, cancel := context.WithCancel(t.Context())
		if err := c.Update(ctx, func(ctx context.Context, _ []byte) ([]byte, error) {
			wantContent(t, c, "")
			waiting, stop := context.WithCancel(t.Context())
			left := make(chan error)
			go func() { left <- c.Update(waiting, never) }()
			select {
			case err := <-left:
				t.Errorf("a second Update did not wait: %v", err)
			default:
			}
			stop()
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Errorf("waiting Update: %v", err)
			}
			cancel()
			if ctx.Err() == nil {
				t.Error("f's context is not the caller's")
			}
			return []byte("late"), nil
		}); err != nil {
			t.Error(err)
		}
		wantContent(t, c, "late")
	})
}

// TestCacheRefusesNilArguments: a Cache that was not made by its constructor, a nil
// function and a nil context are errors. A panic would end the caller's program.
func TestCacheRefusesNilArguments(t *testing.T) {
	t.Parallel()
	everyCache(t, func(t *testing.T, c Cache, _ func() string) {
		never := func(context.Context, []byte) ([]byte, error) {
			t.Error("f was called")
			return nil, nil
		}
		var noContext context.Context
		for name, err := range map[string]error{
			"nil function": c.Update(t.Context(), nil),
			"nil context":  c.Update(noContext, never),
			"nil Get":      func() error { _, err := c.Get(noContext); return err }(),
		} {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	})
	for name, c := range map[string]Cache{"nil file": (*FileCache)(nil), "zero file": new(FileCache),
		"nil memory": (*MemoryCache)(nil), "encrypted nil": encrypted(t, (*MemoryCache)(nil))} {
		if _, err := c.Get(t.Context()); err == nil {
			t.Errorf("%s: Get: no error", name)
		}
		if err := increment(c); err == nil {
			t.Errorf("%s: Update: no error", name)
		}
	}
}

// TestCacheIsUnlockedAfterAPanic: the function of an Update may panic or end its goroutine.
// The cache then writes nothing, and the next Update does not wait for the lock.
func TestCacheIsUnlockedAfterAPanic(t *testing.T) {
	t.Parallel()
	everyCache(t, func(t *testing.T, c Cache, _ func() string) {
		put(t, c, "1")
		for _, end := range []func(){func() { panic("f") }, runtime.Goexit} {
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { recover() }()
				c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { end(); return nil, nil })
			}()
			<-done
		}
		if err := increment(c); err != nil {
			t.Error(err)
		}
		wantContent(t, c, "2")
	})
}

// TestCacheRunsOneUpdateAtATime: goroutines that update one Cache at once take turns, so
// that none overwrites what another one has written.
func TestCacheRunsOneUpdateAtATime(t *testing.T) {
	t.Parallel()
	everyCache(t, func(t *testing.T, c Cache, _ func() string) {
		var inside atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range 20 {
					if err := c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
						if inside.Add(1) != 1 {
							t.Error("two are inside Update")
						}
						defer inside.Add(-1)
						n, err := strconv.Atoi("0" + string(old))
						return strconv.AppendInt(nil, int64(n+1), 10), err
					}); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		wg.Wait()
		wantContent(t, c, "160")
	})
}
