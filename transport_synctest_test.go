//go:build go1.25

package cdfauth

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// endless is a body that does not end.
type endless struct{ ctx context.Context }

func (b endless) Read([]byte) (int, error) { <-b.ctx.Done(); return 0, b.ctx.Err() }

func (b endless) Close() error { return nil }

// TestReplayDoesNotWaitForTheBody: The body of a 401 may be long, or never end.
// The Transport closes it, and does not read it to its end.
func TestReplayDoesNotWaitForTheBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		b := &base{}
		b.answer = func(r *http.Request) (*http.Response, error) {
			if len(b.requests) > 1 {
				return respond(200, "ok"), nil
			}
			resp := respond(401, "")
			resp.Body = endless{r.Context()}
			return resp, nil
		}
		tr := &Transport{Provider: &counter{tokens: []string{"a", "b"}},
			Origin: "https://api.test", Base: b}
		r, _ := http.NewRequestWithContext(ctx, "GET", "https://api.test/", nil)
		var err error
		if d := elapse(func() { _, err = tr.RoundTrip(r) }); err != nil || d != 0 {
			t.Errorf("%v after %v", err, d)
		}
	})
}

// TestNilTransportClosesNoConnections: CloseIdleConnections of a nil Transport
// does not panic.
func TestNilTransportClosesNoConnections(t *testing.T) { (*Transport)(nil).CloseIdleConnections() }
