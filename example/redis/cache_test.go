package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"cdfauth"
)

var _ cdfauth.Cache = (*Cache)(nil)

var shared *server // by the tests that do it no harm

func TestMain(m *testing.M) {
	redis.SetLogger(silent{})
	if addr := os.Getenv("HOLD_LEASE_AT"); addr != "" {
		hold(addr)
		os.Exit(1)
	}
	var err error
	if shared, err = newServer(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	shared.close()
	os.Exit(code)
}

// hold is a process that is killed inside Update.
func hold(addr string) {
	_ = NewCache(redis.Options{Addr: addr}, "TestKilledHolder", time.Second).Update(context.Background(), func(context.Context, []byte) ([]byte, error) {
		fmt.Println("inside")
		select {}
	})
}

// cache returns a Cache on s (nil: the shared one) at a key of the test's own, and a client to look behind it.
func cache(t *testing.T, s *server, lease time.Duration) (*Cache, *redis.Client) {
	t.Helper()
	if s == nil {
		s = shared
	}
	c := NewCache(redis.Options{Addr: s.addr}, t.Name(), lease)
	t.Cleanup(func() { c.rdb.Close() })
	rdb := redis.NewClient(&redis.Options{Addr: s.addr})
	t.Cleanup(func() {
		if s == shared {
			rdb.Del(context.Background(), c.key, c.key+":lease") // for -count
		}
		rdb.Close()
	})
	return c, rdb
}

func own(t *testing.T) *server {
	t.Helper()
	s, err := newServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// set returns a function for Update that returns content.
func set(content string) func(context.Context, []byte) ([]byte, error) {
	return func(context.Context, []byte) ([]byte, error) { return []byte(content), nil }
}

func wantContent(t *testing.T, c *Cache, want string) {
	t.Helper()
	got, err := c.Get(context.Background())
	if err != nil || string(got) != want || want == "" && got != nil {
		t.Errorf("Get: %q, %v; want %q", got, err, want)
	}
}

func wantFree(t *testing.T, c *Cache, rdb *redis.Client) {
	t.Helper()
	if n, err := rdb.Exists(context.Background(), c.key+":lease").Result(); n != 0 || err != nil {
		t.Errorf("the lease is still there: %d, %v", n, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestContent(t *testing.T) {
	t.Parallel()
	c, rdb := cache(t, nil, time.Minute)
	wantContent(t, c, "")
	must(t, c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
		if old != nil {
			t.Errorf("old is %q", old)
		}
		return []byte("a\x00b"), nil
	}))
	wantContent(t, c, "a\x00b")

	// f's error is returned as it is, and nothing is written.
	boom := errors.New("boom")
	if err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return []byte("c"), boom }); err != boom {
		t.Errorf("got %v", err)
	}
	wantContent(t, c, "a\x00b")

	// Content that f wrote into is changed content.
	must(t, c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) { old[0] = 'x'; return old, nil }))
	wantContent(t, c, "x\x00b")

	// Unchanged content is not written: what somebody wrote past the lease stays.
	must(t, c.Update(t.Context(), func(ctx context.Context, old []byte) ([]byte, error) {
		return bytes.Clone(old), rdb.Set(ctx, c.key, "past the lease", 0).Err()
	}))
	wantContent(t, c, "past the lease")

	// Empty content, nil or not, removes the key.
	for _, empty := range [][]byte{nil, {}} {
		must(t, c.Update(t.Context(), set("something")))
		must(t, c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return empty, nil }))
		wantContent(t, c, "")
		if n := rdb.Exists(t.Context(), c.key).Val(); n != 0 {
			t.Error("the key is still there")
		}
	}
	wantFree(t, c, rdb)
}

func TestPanic(t *testing.T) {
	t.Parallel()
	c, rdb := cache(t, nil, time.Minute)
	func() {
		defer func() {
			if p := recover(); p != "boom" {
				t.Errorf("recovered %v", p)
			}
		}()
		_ = c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { panic("boom") })
	}()
	wantFree(t, c, rdb)
	wantContent(t, c, "")
}

func TestExclusion(t *testing.T) {
	t.Parallel()
	var inside, calls atomic.Int32
	var wg sync.WaitGroup
	c, _ := cache(t, nil, 10*time.Second)
	for range 3 { // programs
		c, _ := cache(t, nil, 10*time.Second)
		for range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range 5 {
					err := c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
						if n := inside.Add(1); n != 1 {
							t.Errorf("%d are inside", n)
						}
						defer inside.Add(-1)
						calls.Add(1)
						return append(old, '.'), nil
					})
					if err != nil {
						t.Error(err)
					}
				}
			}()
		}
	}
	wg.Wait()
	wantContent(t, c, strings.Repeat(".", 60))
	if n := calls.Load(); n != 60 {
		t.Errorf("%d calls of f", n)
	}
}

// TestRenewal: f may take longer than the lease.
func TestRenewal(t *testing.T) {
	t.Parallel()
	c, _ := cache(t, nil, 600*time.Millisecond)
	other, _ := cache(t, nil, 600*time.Millisecond)
	must(t, c.Update(t.Context(), func(ctx context.Context, _ []byte) ([]byte, error) {
		waiting, cancel := context.WithTimeout(ctx, 3*c.lease)
		defer cancel()
		err := other.Update(waiting, func(context.Context, []byte) ([]byte, error) {
			t.Error("two are inside")
			return nil, nil
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the other one: %v", err)
		}
		return []byte("after three leases"), ctx.Err()
	}))
	wantContent(t, c, "after three leases")
}

// TestContext: the wait for the lease ends with the caller's context; what f has brought is stored whatever becomes of that.
func TestContext(t *testing.T) {
	t.Parallel()
	c, rdb := cache(t, nil, time.Minute)
	other, _ := cache(t, nil, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	must(t, c.Update(ctx, func(ctx context.Context, _ []byte) ([]byte, error) {
		wantContent(t, other, "") // does not wait
		waiting, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer stop()
		start := time.Now()
		err := other.Update(waiting, func(context.Context, []byte) ([]byte, error) {
			t.Error("two are inside")
			return nil, nil
		})
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took > 2*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		cancel()
		<-ctx.Done()
		if context.Cause(ctx) != context.Canceled {
			t.Errorf("cause: %v", context.Cause(ctx))
		}
		return []byte("brought"), nil
	}))
	wantContent(t, c, "brought")
	wantFree(t, c, rdb)

	err := c.Update(ctx, func(context.Context, []byte) ([]byte, error) {
		t.Error("f was called under a context that had ended")
		return nil, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Get(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
}

// TestLostLease: when Redis has forgotten the lease, f is told by the next renewal, and what it brings is refused.
func TestLostLease(t *testing.T) {
	t.Parallel()
	c, rdb := cache(t, nil, time.Second)
	must(t, c.Update(t.Context(), set("good")))
	err := c.Update(t.Context(), func(ctx context.Context, _ []byte) ([]byte, error) {
		must(t, rdb.Del(ctx, c.key+":lease").Err())
		<-ctx.Done()
		if context.Cause(ctx) != errLost {
			t.Errorf("cause: %v", context.Cause(ctx))
		}
		return []byte("late"), nil
	})
	if !errors.Is(err, errLost) {
		t.Errorf("got %v", err)
	}
	wantContent(t, c, "good")
}

// TestLateWrite: somebody else has been inside, or is, and f has not noticed.
func TestLateWrite(t *testing.T) {
	t.Parallel()
	c, rdb := cache(t, nil, time.Minute)
	other, _ := cache(t, nil, time.Minute)
	err := c.Update(t.Context(), func(ctx context.Context, _ []byte) ([]byte, error) {
		must(t, rdb.Del(ctx, c.key+":lease").Err())
		must(t, other.Update(ctx, set("theirs")))
		return []byte("late"), ctx.Err()
	})
	if !errors.Is(err, errLost) {
		t.Errorf("got %v", err)
	}
	wantContent(t, c, "theirs")

	must(t, other.Update(t.Context(), func(ctx context.Context, old []byte) ([]byte, error) {
		theirs, err := rdb.GetDel(ctx, c.key+":lease").Result()
		must(t, err)
		err = c.Update(ctx, func(ctx context.Context, _ []byte) ([]byte, error) {
			must(t, rdb.Set(ctx, c.key+":lease", theirs, time.Minute).Err())
			return nil, ctx.Err() // would remove it
		})
		if !errors.Is(err, errLost) {
			t.Errorf("got %v", err)
		}
		if got := rdb.Get(ctx, c.key+":lease").Val(); got != theirs {
			t.Errorf("the lease of the other was released: %q", got)
		}
		return old, nil
	}))
	wantContent(t, c, "theirs")
	wantFree(t, c, rdb)
}

// TestRepeatedTake: the client repeats a command that it got no answer to. The lease that it then finds is its own.
func TestRepeatedTake(t *testing.T) {
	t.Parallel()
	c, rdb := cache(t, nil, time.Minute)
	for range 2 {
		if ours, err := c.run(t.Context(), take, "me", nil); !ours || err != nil {
			t.Errorf("%v, %v", ours, err)
		}
	}
	if ours, err := c.run(t.Context(), take, "you", nil); ours || err != nil {
		t.Errorf("another: %v, %v", ours, err)
	}
	must(t, rdb.Del(t.Context(), c.key+":lease").Err())
}

// TestRedisGone: without Redis, a lease lasts as long as was told last. f then ends, and Update and Get fail soon.
func TestRedisGone(t *testing.T) {
	t.Parallel()
	s := own(t)
	c, _ := cache(t, s, 2*time.Second)
	start := time.Now()
	err := c.Update(t.Context(), func(ctx context.Context, _ []byte) ([]byte, error) {
		s.stop(syscall.SIGKILL)
		<-ctx.Done()
		if took := time.Since(start); context.Cause(ctx) != errLost || took > c.lease+500*time.Millisecond {
			t.Errorf("after %v: %v", took, context.Cause(ctx))
		}
		return []byte("late"), nil
	})
	if !errors.Is(err, errLost) {
		t.Errorf("got %v", err)
	}
	wantFailure(t, c, time.Second)

	must(t, s.start(t.Context()))
	wantContent(t, c, "")
	must(t, c.Update(t.Context(), set("again")))
	wantContent(t, c, "again")
}

// TestRedisHangs: a provider looks into its cache for three seconds, and then goes on without it.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	s := own(t)
	c, _ := cache(t, s, 10*time.Second)
	must(t, c.Update(t.Context(), set("content")))
	must(t, s.cmd.Process.Signal(syscall.SIGSTOP))
	wantFailure(t, c, 3*time.Second)
	must(t, s.cmd.Process.Signal(syscall.SIGCONT))
	wantContent(t, c, "content")
}

func wantFailure(t *testing.T, c *Cache, limit time.Duration) {
	t.Helper()
	start := time.Now()
	b, err := c.Get(t.Context())
	if took := time.Since(start); err == nil || took > limit {
		t.Errorf("Get: %q, %v after %v", b, err, took)
	}
	start = time.Now()
	err = c.Update(t.Context(), set("something"))
	if took := time.Since(start); err == nil || took > 2*limit {
		t.Errorf("Update: %v after %v", err, took)
	}
}

// TestRedisBlinks: what f has brought is stored if Redis is back, with its data, before the lease ends.
func TestRedisBlinks(t *testing.T) {
	t.Parallel()
	s := own(t)
	c, rdb := cache(t, s, 10*time.Second)
	back := make(chan error, 1)
	must(t, c.Update(t.Context(), func(ctx context.Context, _ []byte) ([]byte, error) {
		must(t, rdb.Save(ctx).Err())
		s.stop(syscall.SIGKILL)
		go func() {
			pause(ctx, 2*time.Second)
			back <- s.start(context.Background())
		}()
		return []byte("brought"), nil
	}))
	must(t, <-back)
	wantContent(t, c, "brought")
}

// TestKilledHolder: a process that is killed inside Update delays others until its lease has expired.
func TestKilledHolder(t *testing.T) {
	t.Parallel()
	c, rdb := cache(t, nil, time.Second)
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HOLD_LEASE_AT="+shared.addr)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "inside\n" {
		t.Fatalf("%q, %v", line, err)
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait() // says that it was killed
	left := rdb.PTTL(t.Context(), c.key+":lease").Val()
	start := time.Now()
	must(t, c.Update(t.Context(), set("after it")))
	if took := time.Since(start); left <= 0 || took < left-50*time.Millisecond || took > left+time.Second {
		t.Errorf("the lease had %v left, and Update took %v", left, took)
	}
	wantContent(t, c, "after it")
}
