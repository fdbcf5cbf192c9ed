package cdfauth

import (
	"testing"
	"time"
)

// TestRFC9110Section5_6_7: The section has the same date in three forms, and
// Retry-After may have each of them (§10.2.3).
func TestRFC9110Section5_6_7(t *testing.T) {
	now := time.Date(1994, 11, 6, 8, 49, 0, 0, time.UTC)
	for _, date := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT",  // IMF-fixdate
		"Sunday, 06-Nov-94 08:49:37 GMT", // obsolete RFC 850 format
		"Sun Nov  6 08:49:37 1994",       // ANSI C's asctime() format
	} {
		if got := parseRetryAfter(date, now); got != 37*time.Second {
			t.Errorf("%q: %v, want 37s", date, got)
		}
	}
}

// TestRFC9110Section10_2_3: The section has the examples of Retry-After.
func TestRFC9110Section10_2_3(t *testing.T) {
	now := time.Date(1999, 12, 31, 23, 58, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"Fri, 31 Dec 1999 23:59:59 GMT": 119 * time.Second,
		"120":                           2 * time.Minute,
	} {
		if got := parseRetryAfter(header, now); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

// TestUnreadableRetryAfterCountsAsNone: A Retry-After that is negative, a
// fraction, a date of the past or no number does not delay a request.
func TestUnreadableRetryAfterCountsAsNone(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"99999999999": 0, "": 0, "5": 5 * time.Second, "0": 0, "-5": 0, "1.5": 0, "x": 0,
		"99999999999999999999":          0,
		"Mon, 23 Nov 2026 12:01:00 GMT": time.Minute, "Mon, 23 Nov 2026 11:00:00 GMT": 0,
	} {
		if got := parseRetryAfter(header, now); got != want {
			t.Errorf("Retry-After %q is %v, want %v", header, got, want)
		}
	}
}

// TestRetryAfterHas31BitsAtMost: More seconds than that are nonsense, and do
// not count.
func TestRetryAfterHas31BitsAtMost(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"2147483647": 2147483647 * time.Second,
		"2147483648": 0,
	} {
		if got := parseRetryAfter(header, time.Time{}); got != want {
			t.Errorf("Retry-After %q is %v, want %v", header, got, want)
		}
	}
}
