//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

// This file says what is tried again, how often, and after what time. An error is
// tried again if it is marked transient by whoever knows. The waits double, are
// random within a half of themselves, and are as long as the server asks for in
// Retry-After (RFC 9110 §10.2.3) if that is longer.

// The longest waits: after a first failure, and after any. In between they double.
const (
	backoffMin = time.Second
	backoffMax = 30 * time.Second
)

// retryAfterMax is the longest wait that a server can ask for.
const retryAfterMax = time.Minute

// A transient error is one that a later try may not meet.
type transient struct{ error }

func (t transient) Unwrap() error { return t.error }

// retry calls do until it succeeds, or fails with an error that is not transient, or
// has been called as many times as tries says. It returns how often that was. It does
// not wait for a try that ctx would cut short.
func retry(ctx context.Context, tries int, do func() error) (try int, err error) {
	for try = 1; ; try++ {
		err = do()
		if err == nil || try == tries || !isTransient(err) {
			return try, err
		}
		wait := max(backoff(try), min(retryAfter(err), retryAfterMax))
		deadline, hasDeadline := ctx.Deadline()
		if hasDeadline && time.Until(deadline) <= wait {
			return try, err
		}
		if !sleep(ctx, wait) {
			return try, err
		}
	}
}

func isTransient(err error) bool {
	var t transient
	return errors.As(err, &t)
}

// backoff returns how long to wait after the nth failure in a row. It is random, so
// that many programs do not return to a server all at once.
func backoff(n int) time.Duration {
	longest := min(backoffMin<<min(n-1, 10), backoffMax)
	return longest/2 + rand.N(longest/2+1)
}

// retryAfter returns what the server has asked for in the answer that err tells of.
func retryAfter(err error) time.Duration {
	var answered *OAuthError
	if !errors.As(err, &answered) {
		return 0
	}
	return answered.RetryAfter
}

// parseRetryAfter reads a Retry-After header (RFC 9110 §10.2.3): a number of seconds,
// or a date in one of the three forms of §5.6.7. What is neither counts as missing.
func parseRetryAfter(value string, now time.Time) time.Duration {
	seconds, err := strconv.ParseUint(value, 10, 31)
	if err == nil {
		return time.Duration(seconds) * time.Second
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, date.Sub(now))
}
