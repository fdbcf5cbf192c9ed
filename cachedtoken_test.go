package cdfauth

import (
	"testing"
	"time"
)

// TestTokenIsDatedByBothClocks: the lifetime of a token counts from when it was asked for.
// The monotonic clock told that time if this program has asked. Of a token out of a cache
// only the wall clock's time is known, and the monotonic one follows from how long ago that
// was. Otherwise a wall clock that is set back would make such a token live too long.
func TestTokenIsDatedByBothClocks(t *testing.T) {
	const life = time.Hour
	sent := time.Unix(1e9, 0)
	token, err := NewToken("token", sent.Add(life))
	must(t, err)
	now := moment{wall: sent.Add(10 * time.Minute).UnixNano(), monotonic: 30 * time.Minute}
	for name, tt := range map[string]struct {
		monotonic time.Duration
		want      moment
	}{
		"from a cache": {0, moment{sent.UnixNano(), 20 * time.Minute}},
		// The wall clock has jumped since.
		"asked for": {29 * time.Minute, moment{sent.UnixNano(), 29 * time.Minute}},
	} {
		c := newCachedToken(grant{token: token, sent: sent, monotonic: tt.monotonic}, time.Minute, now)
		if want := tt.want.add(life); c.dead != want {
			t.Errorf("%s: dead at %v, want %v", name, c.dead, want)
		}
	}
}
