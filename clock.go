//go:build go1.24

package cdfauth

import (
	"context"
	"sync/atomic"
	"time"
)

// This file reads the computer's two clocks. The wall clock is what others mean by
// a time, in tokens, assertions, caches and headers; people, NTP and a restored
// virtual machine may set it forwards or back. The monotonic clock only ever goes
// forwards, but stands still while a laptop sleeps. Neither clock alone can tell that
// a token has expired. A token counts as valid only while both say so.

// A clock reads both clocks.
type clock struct {
	// start is the time from which monotonic readings count.
	start time.Time
	// ahead is by how many nanoseconds a test has set the wall clock ahead. It is zero
	// outside of tests.
	ahead atomic.Int64
}

// A moment is one reading of both clocks, as small as it can be: each call of
// Token takes one.
type moment struct {
	wall      int64         // nanoseconds since 1970
	monotonic time.Duration // since clock.start
}

// moment reads both clocks.
func (c *clock) moment() moment {
	now := time.Now()
	return moment{now.UnixNano() + c.ahead.Load(), now.Sub(c.start)}
}

// now reads the wall clock alone.
func (c *clock) now() time.Time {
	return time.Now().Round(0).Add(time.Duration(c.ahead.Load()))
}

// before reports whether m is before n by both clocks.
func (m moment) before(n moment) bool {
	return m.wall < n.wall && m.monotonic < n.monotonic
}

// until returns the time from m to n, by the clock by which it is shorter.
func (m moment) until(n moment) time.Duration {
	return min(time.Duration(n.wall-m.wall), n.monotonic-m.monotonic)
}

// add returns the moment that is d after m by both clocks.
func (m moment) add(d time.Duration) moment {
	return moment{m.wall + int64(d), m.monotonic + d}
}

// sleep waits for d, and reports false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
