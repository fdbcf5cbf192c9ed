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

// This file says what is tried again, how often, and after what time. A call is tried
// again if its error is marked as transient by the code that made the error. The
// longest wait doubles with each failure, and each wait is a random time between half
// of the longest and the longest. If the server asks for a longer one in Retry-After
// (RFC 9110 §10.2.3), retry waits for that.

const (
	// backoffMin is the longest wait after the first failure.
	backoffMin = time.Second
	// backoffMax is the longest wait after any number of failures.
	backoffMax = 30 * time.Second
)

// retryAfterMax is the longest wait that a server can make retry wait. If the server
// asks for a longer one, retry waits this long.
const retryAfterMax = time.Minute

// A transient error is one that a later try may not meet.
type transient struct{ error }

// Unwrap returns the error without the mark.
func (t transient) Unwrap() error { return t.error }

// retry calls do until it succeeds, fails with an error that is not transient, or has
// been called as often as tries says. It returns the number of calls and the error of
// the last one. If ctx would end before the next call, it returns at once.
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

// isTransient reports whether err, or an error that it wraps, is marked as transient.
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

// retryAfter returns the wait that the server has asked for, if err is or wraps an
// OAuthError; otherwise 0.
func retryAfter(err error) time.Duration {
	var answered *OAuthError
	if !errors.As(err, &answered) {
		return 0
	}
	return answered.RetryAfter
}

// parseRetryAfter reads a Retry-After header (RFC 9110 §10.2.3): a number of seconds,
// or a date in one of the three forms of §5.6.7. It returns 0 for a date that is past,
// for 2^31 seconds or more, and for anything else.
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
