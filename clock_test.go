package cdfauth

import (
	"context"
	"testing"
	"time"
)

// TestMomentIsBeforeAnotherOnlyByBothClocks: the wall clock can be set, and the monotonic one
// stands still while a laptop sleeps. So one clock is not enough to say that a token has not
// expired yet, and a token has expired at the very time of its expiry.
func TestMomentIsBeforeAnotherOnlyByBothClocks(t *testing.T) {
	now := moment{wall: 100, monotonic: 100}
	for later, want := range map[moment]bool{
		{101, 101}: true,
		{101, 100}: false,
		{100, 101}: false,
		{101, 99}:  false,
		{99, 101}:  false,
		{100, 100}: false,
		{99, 99}:   false,
	} {
		if got := now.before(later); got != want {
			t.Errorf("%v before %v: %t", now, later, got)
		}
	}
}

// TestWaitIsTheShorterOfBothClocks: nobody must wait for a time that is over by one of the
// two clocks.
func TestWaitIsTheShorterOfBothClocks(t *testing.T) {
	now := moment{wall: 100, monotonic: 1000}
	for later, want := range map[moment]time.Duration{
		{107, 1009}: 7,
		{109, 1007}: 7,
		{107, 998}:  -2,
		{98, 1007}:  -2,
	} {
		if got := now.until(later); got != want {
			t.Errorf("from %v to %v: %d, want %d", now, later, got, want)
		}
	}
}

// TestAddMovesBothClocks: a later moment is later by both clocks. Otherwise one of them would
// say that its time is over.
func TestAddMovesBothClocks(t *testing.T) {
	if got, want := (moment{wall: 100, monotonic: 1000}).add(7),
		(moment{wall: 107, monotonic: 1007}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestNowHasNoMonotonicReading: times with a monotonic reading are compared by the clock that
// stands still while a laptop sleeps. The times of caches and headers have none, and neither
// has the time that now returns.
func TestNowHasNoMonotonicReading(t *testing.T) {
	if now := new(clock).now(); now != now.Round(0) {
		t.Errorf("%v has one", now)
	}
}

// TestSleepReportsTheEndOfItsContext: sleep reports whether the caller may go on. If the
// context has ended, the caller may not, even if the time is up at the same moment.
func TestSleepReportsTheEndOfItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if !sleep(ctx, 0) {
		t.Error("the context has not ended")
	}
	cancel()
	for range 100 { // select takes either of two channels that are ready
		if sleep(ctx, 0) {
			t.Fatal("the context has ended")
		}
	}
}
