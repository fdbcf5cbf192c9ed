//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"cdfauth/internal/idptest"
)

// TestSecretThatMisbehavesIsAnError: A Secret is the caller's code, such as a
// call to a vault. If it panics, fails, exits or hangs, Token returns an error
// in time, which names the field and shows nothing of a secret, and no request
// is sent.
func TestSecretThatMisbehavesIsAnError(t *testing.T) {
	index := func(i int) string { return []string{}[i] }
	for _, tt := range []struct {
		name   string
		secret Secret
		want   string
		after  time.Duration
	}{
		{"panics", func(context.Context) (string, error) { panic("s3cret") },
			"cdfauth: ClientSecret panicked with a string", 0},
		{"runtime panic", func(context.Context) (string, error) { return index(3), nil },
			"cdfauth: ClientSecret panicked: runtime error: index out of range [3] with length 0", 0},
		{"exits", func(context.Context) (string, error) {
			runtime.Goexit()
			return "", nil
		}, "cdfauth: ClientSecret ended its goroutine", 0},
		{"fails",
			func(context.Context) (string, error) { return "s3cret", errors.New("vault is sealed") },
			"cdfauth: ClientSecret: vault is sealed", 0},
		{"empty", func(context.Context) (string, error) { return "", nil },
			"cdfauth: ClientSecret yielded an empty string", 0},
		{"hangs", func(ctx context.Context) (string, error) {
			<-ctx.Done()
			return "", ctx.Err()
		}, "cdfauth: ClientSecret", silentLimit},
		{"ignores its context", func(context.Context) (string, error) {
			time.Sleep(time.Hour)
			return "", nil
		}, "cdfauth: ClientSecret did not return in time: context deadline exceeded", silentLimit},
	} {
		runInBubble(t, tt.name, func(t *testing.T) {
			idp := idptest.New()
			for _, ctx := range []context.Context{t.Context(), context.Background()} {
				p := newTestProvider(t, idp, tt.secret)
				var err error
				d := elapse(func() { _, err = p.Token(ctx) })
				if err == nil || !strings.HasPrefix(err.Error(), tt.want) || d != tt.after {
					t.Errorf("after %v: %v; want %q after %v", d, err, tt.want, tt.after)
				}
			}
			wantRequests(t, idp, 0)
			time.Sleep(time.Hour) // the abandoned call's own end
		})
	}
}
