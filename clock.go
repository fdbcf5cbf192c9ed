//go:build go1.24

package cdfauth

import (
	"context"
	"sync/atomic"
	"time"
)

// A clock tells the time. Its wall clock is the system's, unless a test has set
// it ahead, as a person, NTP or a restored virtual machine may.
type clock struct {
	ahead atomic.Int64 // nanoseconds; zero but in tests
}

// now returns the time by the wall clock alone, for times that are compared with
// those of others: in tokens, assertions, caches and headers.
func (c *clock) now() time.Time {
	return time.Now().Round(0).Add(time.Duration(c.ahead.Load()))
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
