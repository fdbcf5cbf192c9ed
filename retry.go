//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"
)

func retry(ctx context.Context, tries int, do func() error) (try int, err error) { // calls do until its error is none that may pass, at most so many times, and waits in between
	for try = 1; ; try++ {
		if err = do(); err == nil || try == tries || !errors.As(err, &transient{}) {
			return try, err
		}
		wait := max(backoff(try), min(retryAfter(err), retryAfterMax))
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait || !sleep(ctx, wait) {
			return try, err // the next would only be cut short
		}
	}
}

func retryAfter(err error) time.Duration {
	oe := new(OAuthError)
	errors.As(err, &oe)
	return oe.RetryAfter
}

type transient struct{ error } // marks an error that a later try may not meet

func (t transient) Unwrap() error { return t.error }

func parseRetryAfter(v string, now time.Time) time.Duration { // reads the header of that name (RFC 9110 §10.2.3): seconds or a date
	if n, err := strconv.ParseUint(cmp.Or(v, "0"), 10, 31); err == nil { // none is 0
		return time.Duration(n) * time.Second
	}
	date, _ := http.ParseTime(v) // long past if it is neither
	return max(0, date.Sub(now))
}

const backoffMin, backoffMax = 500 * time.Millisecond, 30 * time.Second // doubling

const retryAfterMax = time.Minute // what a server may ask for

func backoff(n int) time.Duration { // how long to wait after the nth failure: doubling, with jitter, so that many programs do not return to a server all at once
	d := min(2*backoffMin<<min(n-1, 10), backoffMax)
	return d/2 + rand.N(d/2+1)
}
