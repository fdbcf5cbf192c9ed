//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"net/http"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

func mk(name string, exp time.Duration) (issued, error) {
	now := time.Now()
	return issued{sent: now, token: newToken(tokenData{header: bearer + name, expiry: now.Add(exp)})}, nil
}

// A: clock jumps while a caller waits in the urgent zone.
func TestReviewA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine("x", Options{})
		var jump atomic.Int64
		e.now = func() time.Time { return time.Now().Add(time.Duration(jump.Load())) }
		n := 0
		e.silent = func(ctx context.Context) (issued, error) {
			if n++; n == 1 {
				return mk("one", time.Hour)
			}
			<-ctx.Done()
			return issued{}, ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		tok, _ := e.Token(ctx)
		until(tok, 4*time.Second)
		go func() { time.Sleep(time.Second); jump.Store(int64(8 * time.Hour)) }()
		got, err := e.Token(ctx)
		t.Logf("got %q err %v; expired %v ago", got.AccessToken(), err, e.now().Sub(got.Expiry()))
		time.Sleep(time.Hour)
	})
}

// B: SignOut (forget) while silent phase is under way; then interaction
func TestReviewB(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEngine("x", Options{})
		asked := 0
		e.silent = func(ctx context.Context) (issued, error) { time.Sleep(5 * time.Second); return issued{}, ErrSignInRequired }
		e.ask = func(ctx context.Context) (issued, error) { asked++; time.Sleep(time.Minute); return mk("new", time.Hour) }
		go e.Token(t.Context())
		time.Sleep(time.Second)
		e.forget()
		start := time.Now()
		tok, err := e.Token(t.Context()) // after the sign-out
		t.Logf("after SignOut: token %q err %v after %v; asked %d", tok.AccessToken(), err, time.Since(start), asked)
		tok, err = e.Token(t.Context())
		t.Logf("next: token %q err %v; asked %d", tok.AccessToken(), err, asked)
		time.Sleep(time.Hour)
	})
}

// C: app: IdP down, cached token valid but past refresh_on
func TestReviewC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		idp.Fault(idptest.JSON(200, map[string]any{"access_token": "tok", "token_type": "Bearer", "expires_in": 86400, "refresh_in": 43200}))
		get(t, cachedProvider(t, idp, cache, nil))
		time.Sleep(13 * time.Hour)
		idp.Always(idptest.Status(503))
		_, err := cachedProvider(t, idp, cache, nil).Token(t.Context())
		t.Logf("11 h before expiry: err %v", err)
	})
}

type hung struct {
	MemoryCache
	mode string
}

func (h *hung) Get(ctx context.Context) ([]byte, error) {
	if h.mode == "get" {
		time.Sleep(time.Hour)
	}
	return h.MemoryCache.Get(ctx)
}
func (h *hung) Update(ctx context.Context, f func(context.Context, []byte) ([]byte, error)) error {
	if h.mode == "before" {
		time.Sleep(time.Hour)
	}
	_, err := f(ctx, nil)
	switch h.mode {
	case "after":
		time.Sleep(time.Hour)
	case "panic":
		panic("x")
	}
	return err
}

func TestReviewD(t *testing.T) {
	for _, mode := range []string{"get", "before", "after", "panic"} {
		synctest.Test(t, func(t *testing.T) {
			idp, cache := idptest.New(), &hung{mode: mode}
			p := cachedProvider(t, idp, cache, nil)
			for range 2 {
				var err error
				d := elapse(func() { _, err = p.Token(t.Context()) })
				t.Logf("%s: err %v after %v, requests %d", mode, err, d, idp.Tokens())
			}
			time.Sleep(3 * time.Hour)
		})
	}
}

// E: refresh_in tiny
func TestReviewE(t *testing.T) {
	bubble(t, func(t *testing.T, idp *idptest.Provider, p *ClientCredentials) {
		idp.Always(idptest.JSON(200, map[string]any{"access_token": "tok", "expires_in": 86400, "refresh_in": 0.001}))
		for range 500 {
			get(t, p)
			synctest.Wait()
			time.Sleep(10*time.Millisecond)
		}
		t.Logf("in 5 s: %d requests", idp.Tokens())
	})
}

// F: patience fires as f runs; Retry-After without deadline
func TestReviewF(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
		defer cancel()
		d := elapse(func() {
			again(ctx, 3, func() error { return transient{&OAuthError{RetryAfter: 7 * time.Minute}} })
		})
		t.Logf("again waited %v", d)
	})
}

type panicHandler struct{ slog.Handler }

func (panicHandler) Enabled(context.Context, slog.Level) bool { return true }
func (panicHandler) Handle(context.Context, slog.Record) error { panic("disk full") }

// G: panicking Logger with cache
func TestReviewG(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		p := cachedProvider(t, idp, &MemoryCache{}, func(c *ClientCredentialsConfig) { c.Logger = slog.New(panicHandler{}) })
		_, err := p.Token(t.Context())
		t.Logf("cache+panicking logger: %v; %d requests", err, idp.Tokens())
	})
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		n := 0
		p, err := NewDeviceCode(DeviceCodeConfig{Endpoint: Issuer(idp.Issuer), ClientID: "client", Scopes: []string{"a"},
			ShowCode: func(context.Context, DeviceAuthorization) error { n++; return nil },
			Options:  Options{HTTPClient: idp.Client(), Cache: &MemoryCache{}, Logger: slog.New(panicHandler{})}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
		defer cancel()
		d := elapse(func() { _, err = p.Token(ctx) })
		t.Logf("device + panicking logger: %v after %v; codes shown %d, %d requests", err, d, n, idp.Tokens())
	})
}

// H: SignOut with ended ctx leaves spare
func TestReviewH(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &user{store: store{client: &client{now: time.Now, endpoint: Issuer("https://idp.test")}, cache: &MemoryCache{}}}
		u.engine = newEngine("x", Options{})
		u.client.http = *idptest.New().Client()
		u.spare.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return []byte("refresh token"), nil })
		u.broken.Store(true)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := u.signOut(ctx)
		b, _ := u.spare.Get(t.Context())
		t.Logf("SignOut: %v; spare still has %q, broken %v", err, b, u.broken.Load())
	})
}

// I: 401 with endless body
type drip struct{ ctx context.Context }

func (d drip) Read(p []byte) (int, error) { <-d.ctx.Done(); return 0, d.ctx.Err() }
func (d drip) Close() error               { return nil }

func TestReviewI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		b := &base{}
		b.answer = func(r *http.Request) (*http.Response, error) {
			if len(b.requests) > 1 {
				return respond(200, "ok"), nil
			}
			resp := respond(401, "")
			resp.Body = drip{r.Context()}
			return resp, nil
		}
		tr := &Transport{Provider: &counter{tokens: []string{"a", "b"}}, Origin: "https://api.test", Base: b}
		r, _ := http.NewRequestWithContext(ctx, "GET", "https://api.test/", nil)
		start := time.Now()
		_, err := tr.RoundTrip(r)
		t.Logf("replayed after %v, err %v", time.Since(start), err)
	})
}

// J: lock obtained exactly when patience ends
func TestReviewJ(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		cache := &late{}
		_, err := cachedProvider(t, idp, cache, nil).Token(t.Context())
		t.Logf("lock got at patience: %v, %d requests", err, idp.Tokens())
	})
}

type late struct{ MemoryCache }

func (l *late) Update(ctx context.Context, f func(context.Context, []byte) ([]byte, error)) error {
	<-ctx.Done() // a lock that came at that moment
	_, err := f(ctx, nil)
	return err
}

// K: proxies and HTTPS: spelling
func TestReviewK(t *testing.T) {
	idp := idptest.New()
	idp.Metadata(func(m map[string]any) { m["token_endpoint"] = "http://127.0.0.1:9/token" })
	_, _ = idp, strings.ToUpper
	for _, u := range []string{"https://idp.test", "HTTPS://idp.test"} {
		c, _, err := newClient("x", Discovery(u), "id", nil, nil, Options{HTTPClient: idp.Client()})
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.tokenURL(t.Context())
		t.Logf("%s: %q %v", u, got, err)
	}
}

// L: proxy env
func TestReviewL(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://user:p%ss-w0rd@proxy.test:3128")
	p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL("https://idp.invalid/token"), ClientID: "x", ClientSecret: SecretString("secretsecret")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Token(t.Context())
	t.Logf("%v", err)
}

// M: future cached_at
func TestReviewM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		get(t, cachedProvider(t, idp, cache, nil))
		edit(t, cache, func(c contents) {
			for k := range c[accessTokens].(map[string]any) {
				e := c.entry(accessTokens, k)
				e["cached_at"] = unix(time.Now().AddDate(1, 0, 0))
				e["expires_on"] = unix(time.Now().AddDate(1, 0, 0).Add(time.Hour))
			}
		})
		tok, _ := get(t, cachedProvider(t, idp, cache, nil))
		t.Logf("expiry in %v; %d requests", time.Until(tok.Expiry()), idp.Tokens())
	})
}

// N: granted scope
func TestReviewN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		idp.Fault(idptest.JSON(200, map[string]any{"access_token": "tok", "expires_in": 3600, "scope": "a"}))
		a, _ := get(t, cachedProvider(t, idp, cache, nil))
		b, _ := get(t, cachedProvider(t, idp, cache, nil))
		t.Logf("granted %q, from the cache %q", a.Scope(), b.Scope())
	})
}

type errBody struct{ Req *http.Request }

func (e *errBody) Error() string { return "round trip failed" }

// O: custom transports' error carrying request
func TestReviewO(t *testing.T) {
	hc := &http.Client{Transport: rt(func(r *http.Request) (*http.Response, error) { return nil, &errBody{r} })}
	p, _ := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL("https://idp.invalid/token"), ClientID: "x", ClientSecret: SecretString("secretsecret"), BasicAuth: true, Options: Options{HTTPClient: hc}})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_ = ctx
	_, err := p.Token(t.Context())
	var eb *errBody
	if errors.As(err, &eb) {
		t.Logf("LEAK: header %q", eb.Req.Header["Authorization"])
	}
}

type rt func(r *http.Request) (*http.Response, error)

func (f rt) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// P: nil transport
func TestReviewP(t *testing.T) {
	defer func() { t.Log("recovered:", recover()) }()
	(*Transport)(nil).CloseIdleConnections()
}
