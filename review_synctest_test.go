//go:build go1.25

package cdfauth

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// These tests are of faults that a review found.

// TestClockJumpsWhileWaiting: a caller who waits for a refresh when the laptop goes to sleep is not handed the dead token.
func TestClockJumpsWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine("x", Options{})
		var jump atomic.Int64
		e.now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
		n := 0
		e.silent = func(ctx context.Context) (issued, error) {
			if n++; n == 2 {
				time.Sleep(20 * time.Second)
			}
			now := e.now()
			return issued{sent: now, token: newToken(tokenData{header: bearer + "t", expiry: now.Add(time.Hour)})}, nil
		}
		tok, _ := e.Token(t.Context())
		until(tok, 4*time.Second)
		go func() { time.Sleep(time.Second); jump.Store(int64(8 * time.Hour)) }()
		if got, err := e.Token(t.Context()); err != nil || !got.Expiry().After(e.now()) {
			t.Errorf("%v; expired %v ago", err, e.now().Sub(got.Expiry()))
		}
	})
}

// TestValidTokenInTheCacheServes: one that is past refresh_in, when the provider is out of order.
func TestValidTokenInTheCacheServes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		idp.Fault(idptest.JSON(200, map[string]any{"access_token": "tok", "expires_in": 86400, "refresh_in": 43200}))
		get(t, cachedProvider(t, idp, cache, nil))
		time.Sleep(13 * time.Hour)
		idp.Always(idptest.Status(503))
		if tok, err := cachedProvider(t, idp, cache, nil).Token(t.Context()); err != nil || tok.AccessToken() != "tok" {
			t.Error(err)
		}
	})
}

// rude is a cache that ignores its context, or panics, at some moment.
type rude struct {
	MemoryCache
	at string
}

func (c *rude) Get(ctx context.Context) ([]byte, error) {
	if c.at == "get" {
		time.Sleep(time.Hour)
	}
	return nil, nil
}

func (c *rude) Update(ctx context.Context, f func(context.Context, []byte) ([]byte, error)) error {
	switch c.at {
	case "before":
		time.Sleep(time.Hour)
	case "late": // the lock comes at the moment when waiting for it ends
		<-ctx.Done()
	}
	_, err := f(ctx, nil)
	switch c.at {
	case "after":
		time.Sleep(time.Hour)
	case "panic":
		panic("x")
	case "twice":
		f(ctx, nil)
	}
	return err
}

// TestRudeCache costs neither the token nor a second request.
func TestRudeCache(t *testing.T) {
	for _, at := range []string{"get", "before", "late", "after", "panic", "twice"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				idp := idptest.New()
				p := cachedProvider(t, idp, &rude{at: at}, nil)
				var err error
				if d := elapse(func() { _, err = p.Token(t.Context()) }); err != nil || d > silentLimit || idp.Tokens() != 1 {
					t.Errorf("%v after %v and %d requests", err, d, idp.Tokens())
				}
				time.Sleep(3 * time.Hour)
				if idp.Tokens() != 1 {
					t.Error("who was given up came back and asked for a token")
				}
			})
		})
	}
}

// TestSmallRefreshIn: a server cannot ask for a request per call.
func TestSmallRefreshIn(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Always(idptest.JSON(200, map[string]any{"access_token": "tok", "expires_in": 86400, "refresh_in": 0.001}))
		for range 500 {
			get(t, p)
			synctest.Wait()
			time.Sleep(10 * time.Millisecond)
		}
		wantRequests(t, idp, 1)
	})
}

// TestRetryAfterIsBounded where no deadline bounds it either.
func TestRetryAfterIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := elapse(func() {
			again(t.Context(), 2, func() error { return transient{&OAuthError{RetryAfter: 7 * time.Hour}} })
		})
		if d != retryAfterMax {
			t.Errorf("waited %v", d)
		}
	})
}

// endless is a body that does not end.
type endless struct{ ctx context.Context }

func (b endless) Read([]byte) (int, error) { <-b.ctx.Done(); return 0, b.ctx.Err() }
func (b endless) Close() error             { return nil }

// TestReplayDoesNotWaitForTheBody of the 401.
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
		tr := &Transport{Provider: &counter{tokens: []string{"a", "b"}}, Origin: "https://api.test", Base: b}
		r, _ := http.NewRequestWithContext(ctx, "GET", "https://api.test/", nil)
		var err error
		if d := elapse(func() { _, err = tr.RoundTrip(r) }); err != nil || d != 0 {
			t.Errorf("%v after %v", err, d)
		}
	})
}

// TestEntryFromTheFuture: of a clock that was ahead. By five minutes at most it is believed; it is not handed out for a year.
func TestEntryFromTheFuture(t *testing.T) {
	for ahead, requests := range map[time.Duration]int{4 * time.Minute: 1, 5 * time.Minute: 1, 6 * time.Minute: 2, 366 * 24 * time.Hour: 2} {
		synctest.Test(t, func(t *testing.T) {
			idp, cache := idptest.New(), &MemoryCache{}
			get(t, cachedProvider(t, idp, cache, nil))
			edit(t, cache, func(c contents) {
				e := entryOf(c, accessTokens, keysOf(c, accessTokens)[0])
				e["cached_at"], e["expires_on"] = unix(time.Now().Add(ahead)), unix(time.Now().Add(ahead+24*time.Hour))
			})
			get(t, cachedProvider(t, idp, cache, nil))
			if n := idp.Tokens(); n != requests {
				t.Errorf("%v ahead: %d requests, want %d", ahead, n, requests)
			}
		})
	}
}

// TestMetadataNamesHTTPSAlone, however the scheme is spelt.
func TestMetadataNamesHTTPSAlone(t *testing.T) {
	idp := idptest.New()
	idp.Metadata(func(m map[string]any) { m["token_endpoint"] = "http://127.0.0.1:9/token" })
	for _, u := range []string{"https://idp.test", "HTTPS://idp.test"} {
		c, _, err := newClient("x", Discovery(u), "id", nil, nil, Options{HTTPClient: idp.Client()})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.endpointURL(t.Context(), "token"); err == nil {
			t.Errorf("%s: %s", u, got)
		}
	}
}

// TestGrantedScope is said as it was granted by a token from the cache too.
func TestGrantedScope(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, answer := range []map[string]any{{"access_token": "tok", "scope": "a"}, {"access_token": "tok"}} {
			idp, cache := idptest.New(), &MemoryCache{}
			idp.Fault(idptest.JSON(200, answer))
			want, _ := answer["scope"].(string)
			for range 2 {
				if tok, _ := get(t, cachedProvider(t, idp, cache, nil)); tok.Scope() != want {
					t.Errorf("scope %q, want %q", tok.Scope(), want)
				}
			}
			wantRequests(t, idp, 1)
		}
	})
}

// requestError is an error of somebody's transport that leads to the request.
type requestError struct{ Request *http.Request }

func (*requestError) Error() string { return "round trip failed" }

// TestTransportErrorHasNoRequest: the secret is in it.
func TestTransportErrorHasNoRequest(t *testing.T) {
	hc := &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) { return nil, &requestError{r} })}
	p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL("https://idp.test/token"), ClientID: "x", ClientSecret: SecretString(theSecret),
		BasicAuth: true, Options: Options{HTTPClient: hc}})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		_, err = p.Token(t.Context())
	})
	for ; err != nil; err = unwrapped(err) {
		if _, ok := err.(*requestError); ok {
			t.Error("the error leads to the request")
		}
	}
}

func unwrapped(err error) error {
	u, ok := err.(interface{ Unwrap() error })
	if !ok {
		return nil
	}
	return u.Unwrap()
}

func TestNilTransport(t *testing.T) { (*Transport)(nil).CloseIdleConnections() }
