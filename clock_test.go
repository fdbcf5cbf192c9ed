package cdfauth

import (
	"context"
	"testing"
	"time"
)

// TestMomentIsBeforeAnotherOnlyByBothClocks: one clock that says so is not enough, whichever it is, and
// the same time is not before.
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

// TestWaitIsTheShorterOfBothClocks: a time that one clock says is over must not be waited for.
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

// TestAddMovesBothClocks, for otherwise one of them would say that the time is over.
func TestAddMovesBothClocks(t *testing.T) {
	if got, want := (moment{wall: 100, monotonic: 1000}).add(7), (moment{wall: 107, monotonic: 1007}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// TestNowHasNoMonotonicReading: what is compared with it comes from caches and headers.
// With a reading, two results of now would be compared by the clock that stands still
// while a laptop sleeps.
func TestNowHasNoMonotonicReading(t *testing.T) {
	if now := new(clock).now(); now != now.Round(0) {
		t.Errorf("%v has one", now)
	}
}

// TestSleepReportsTheEndOfItsContext also if the time is up at the same moment.
func TestSleepReportsTheEndOfItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if !sleep(ctx, 0) {
		t.Error("the context has not ended")
	}
	cancel()
	for range 100 { // select takes one or the other
		if sleep(ctx, 0) {
			t.Fatal("the context has ended")
		}
	}
}
