//go:build go1.25

package cdfauth

import (
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// TestFileCacheAsksForTheLockLessAndLessOften: another program mostly has the lock for
// milliseconds, but for minutes while a person signs in. So the cache asks again after
// 5 ms, then less and less often, and from then on ten times a second.
func TestFileCacheAsksForTheLockLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		if d := elapse(func() {
			retryWhileBusy(t.Context(), func() (*os.File, error) {
				if tries++; tries > 8 {
					return nil, nil
				}
				return nil, errLocked
			})
		}); d != 455*time.Millisecond {
			t.Errorf("%d tries in %v, want 5+10+20+40+80+3*100 ms between them", tries, d)
		}
	})
}
