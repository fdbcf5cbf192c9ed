package cdfauth

import (
	"runtime"
	"strings"
	"testing"
)

// TestIDTokenOfDotsTakesLittleMemory: A parser that splits a JWT at every dot
// allocates many times the size of a text of dots (CVE-2025-22868,
// CVE-2025-30204).
func TestIDTokenOfDotsTakesLittleMemory(t *testing.T) {
	raw := strings.Repeat(".", 1<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := parseIDToken(raw); err == nil {
		t.Error("dots are an ID token")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated for %d dots", n, len(raw))
	}
}
