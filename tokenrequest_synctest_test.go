//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// trickle is a body that comes a byte a second, and ends with its request.
type trickle struct{ ctx context.Context }

func (r trickle) Read(b []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		b[0] = ' '
		return 1, nil
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}

// TestTricklingBodyEndsAtTheLimitOfTheFlight: A server may send a byte a
// second, which no timeout between two bytes would notice. An attempt ends
// after 10 s, and the flight after 30 s.
func TestTricklingBodyEndsAtTheLimitOfTheFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		hc := &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
			requests++
			return &http.Response{StatusCode: 200, Header: http.Header{},
				Body: io.NopCloser(trickle{r.Context()})}, nil
		})}
		p := cachedProvider(t, idptest.New(), nil, func(c *ClientCredentialsConfig) { c.HTTPClient = hc })
		var err error
		d := elapse(func() { _, err = p.Token(t.Context()) })
		if !errors.Is(err, context.DeadlineExceeded) || d != silentLimit || requests != 3 {
			t.Errorf("%v after %v and %d requests; want 10 s an attempt and 30 s in all", err, d, requests)
		}
	})
}

// deadline is a context of a kind that the standard library does not make: it says when it
// ends, and cannot be waited for.
type deadline struct{ context.Context }

func (deadline) Deadline() (time.Time, bool) { return time.Now().Add(time.Second), true }

// TestDeadlineThatCannotBeWaitedForDoesNotEndAFlight: A context of the caller's
// own making may have a deadline and no Done channel. Its caller cannot leave,
// and the flight has its full 30 s.
func TestDeadlineThatCannotBeWaitedForDoesNotEndAFlight(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Always(idptest.Hang)
		if d := elapse(func() { p.Token(deadline{context.Background()}) }); d != silentLimit {
			t.Errorf("a flight took %v", d)
		}
	})
}

// requestError is an error of somebody's transport that leads to the request.
type requestError struct{ Request *http.Request }

func (*requestError) Error() string { return "round trip failed" }

// TestTransportErrorHasNoRequest: An error of somebody's transport may lead to
// the request, which has the secret in it.
func TestTransportErrorHasNoRequest(t *testing.T) {
	hc := &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
		return nil, &requestError{r}
	})}
	p := cachedProvider(t, idptest.New(), nil, func(c *ClientCredentialsConfig) {
		c.ClientSecret, c.BasicAuth, c.HTTPClient = SecretString(theSecret), true, hc
	})
	var err error
	synctest.Test(t, func(t *testing.T) {
		_, err = p.Token(t.Context())
	})
	for ; err != nil; err = unwrapped(err) {
		if _, ok := err.(*requestError); ok {
			t.Error("the error leads to the request")
		}
	}
}

// TestReplacedDefaultTransportIsGuarded: A program may set
// http.DefaultTransport to a transport of its own, which an http.Client without
// a Transport uses. Its panics, its hanging and its errors are treated as those
// of any caller's transport.
func TestReplacedDefaultTransportIsGuarded(t *testing.T) {
	before := http.DefaultTransport
	defer func() { http.DefaultTransport = before }()
	synctest.Test(t, func(t *testing.T) {
		var err error
		token := func(answer tripper) time.Duration {
			http.DefaultTransport = answer
			p := cachedProvider(t, idptest.New(), nil, func(c *ClientCredentialsConfig) {
				c.HTTPClient = &http.Client{}
			})
			return elapse(func() { _, err = p.Token(t.Context()) })
		}
		token(func(*http.Request) (*http.Response, error) { panic("out of order") })
		if err == nil || !strings.Contains(err.Error(), "HTTPClient panicked") {
			t.Errorf("panics: %v", err)
		}
		token(func(r *http.Request) (*http.Response, error) { return nil, &requestError{r} })
		if leads := (*requestError)(nil); err == nil || errors.As(err, &leads) {
			t.Errorf("the error %v leads to the request", err)
		}
		duration := token(func(*http.Request) (*http.Response, error) {
			time.Sleep(time.Hour)
			return nil, errors.New("too late")
		})
		if err == nil || duration > silentLimit {
			t.Errorf("hangs: %v after %v", err, duration)
		}
		time.Sleep(2 * time.Hour) // until the requests that were given up are over
	})
}

// A blockingJar blocks whoever asks it for cookies.
type blockingJar struct{ http.CookieJar }

func (blockingJar) Cookies(*url.URL) []*http.Cookie {
	time.Sleep(time.Hour)
	return nil
}

// TestCookieJarIsGuarded: net/http asks the jar of a caller's HTTPClient in the goroutine
// of the request, without a context. A jar that blocks must not hold callers of Token.
func TestCookieJarIsGuarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := cachedProvider(t, idptest.New(), nil, func(c *ClientCredentialsConfig) {
			c.HTTPClient = &http.Client{Transport: &http.Transport{}, Jar: blockingJar{}}
		})
		var err error
		duration := elapse(func() { _, err = p.Token(t.Context()) })
		if err == nil || duration > silentLimit {
			t.Errorf("%v after %v", err, duration)
		}
		time.Sleep(2 * time.Hour) // until the requests that were given up are over
	})
}

func unwrapped(err error) error {
	u, ok := err.(interface{ Unwrap() error })
	if !ok {
		return nil
	}
	return u.Unwrap()
}
