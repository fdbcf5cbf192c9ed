package cdfauth

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// FuzzRetryAfter: whatever the header Retry-After has in it (RFC 9110 §10.2.3), the time to
// wait is not negative and does not overflow.
func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for _, seed := range []string{"", "0", "120", "-1", "1.5", "9999999999999999999", "2147483648",
		"Wed, 25 Nov 2026 12:00:30 GMT", "Wednesday, 25-Nov-26 12:00:30 GMT", "Wed Nov 25 12:00:30 2026",
		"Fri, 31 Dec 9999 23:59:59 GMT", " 5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, v string) {
		d := parseRetryAfter(v, now)
		if d < 0 {
			t.Fatal(d)
		}
		if date, err := http.ParseTime(v); err == nil && date.After(now) &&
			date.Before(now.Add(time.Hour)) && d != date.Sub(now) {
			t.Fatalf("%v for a date in %v", d, date.Sub(now))
		}
		var n uint32
		if c, err := fmt.Sscanf(v, "%d", &n); err == nil && c == 1 && v == fmt.Sprint(n) && n < 1<<31 &&
			d != time.Duration(n)*time.Second {
			t.Fatalf("%v for %d seconds", d, n)
		}
	})
}
