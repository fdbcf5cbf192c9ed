package cdfauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"cdfauth/internal/idptest"
)

// TestTokenIsSentToItsOriginAlone: Whoever gets a token can use it. A request
// carries it only if scheme, host and port of its URL, and its Host header, are
// those of Origin (RFC 6454 §4).
func TestTokenIsSentToItsOriginAlone(t *testing.T) {
	for _, tt := range []struct {
		origin, url, host string
		carried           bool
	}{
		{"https://api.example.com", "https://api.example.com/x?y", "", true},
		{"https://api.example.com/", "https://api.example.com", "", true},
		{"https://API.example.com:443", "https://api.EXAMPLE.com/x", "", true},
		{"https://az.example.com", "https://AZ.example.com/x", "", true},
		{"https://api.example.com", "https://api.example.com:443/x", "", true},
		{"http://127.0.0.1:80", "http://127.0.0.1/x", "", true},
		{"http://[::1]:8080", "http://[::1]:8080/x", "", true},
		{"https://api.example.com", "https://api.example.com/x", "API.example.com:443", true},

		{"https://api.example.com", "http://api.example.com/x", "", false},
		{"https://api.example.com", "http://api.example.com:443/x", "", false},
		{"https://api.example.com", "https://api.example.com:8443/x", "", false},
		{"https://api.example.com", "https://api.example.com.evil.com/x", "", false},
		{"https://api.example.com", "https://evil.com/api.example.com", "", false},
		{"https://api.example.com", "https://api.example.com@evil.com/", "", false},
		{"https://api.example.com", "https://xapi.example.com/", "", false},
		{"https://api.example.com", "https://api.example.com./", "", false},
		// The Kelvin sign folds to k.
		{"https://kelvin.example.com", "https://\u212aelvin.example.com/", "", false},
		{"https://api.example.com", "https://api.example.com/x", "evil.com", false},
		{"https://api.example.com", "https://evil.com/x", "api.example.com", false},
		{"https://api.example.com", "https://api.example.com/x", "api.example.com:8443", false},
	} {
		b, p := &base{}, &counter{tokens: []string{"tok"}}
		r, err := http.NewRequest("GET", tt.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.host != "" {
			r.Host = tt.host
		}
		r.Header.Set("Authorization", "Basic old")
		if _, err := (&Transport{Provider: p, Origin: tt.origin, Base: b}).RoundTrip(r); err != nil {
			t.Errorf("%s at %s: %v", tt.url, tt.origin, err)
			continue
		}
		want, asked := "Basic old", 0
		if tt.carried {
			want, asked = "Bearer tok", 1
		}
		if got := b.requests[0].Header["Authorization"]; len(got) != 1 || got[0] != want ||
			p.asked != asked {
			t.Errorf("%s (Host %q) at %s: header %q, provider asked %d times", tt.url, tt.host,
				tt.origin, got, p.asked)
		}
		if r.Header.Get("Authorization") != "Basic old" {
			t.Error("the request was changed")
		}
		if tt.carried == (b.requests[0] == r) {
			t.Errorf("%s: clone made: %v", tt.url, b.requests[0] != r)
		}
	}
}

// TestMisusedTransportSendsNothing: A Transport is a struct that programs fill
// themselves. A mistake is an error at each request, the body is closed
// (http.RoundTripper wants that), and nothing is sent.
func TestMisusedTransportSendsNothing(t *testing.T) {
	ok, _ := NewStaticProvider("tok")
	zero := (*ClientCredentials)(nil)
	for _, tt := range []struct {
		t    *Transport
		want string
	}{
		{nil, "Provider is nil"},
		{&Transport{Origin: "https://x"}, "Provider is nil"},
		{&Transport{Provider: ok}, "Origin is empty"},
		{&Transport{Provider: ok, Origin: "api.example.com"}, "Origin is not of the form"},
		{&Transport{Provider: ok, Origin: "http://api.example.com"}, "Origin must be https"},
		{&Transport{Provider: ok, Origin: "https://api.example.com/api"}, "Origin has a path"},
		{&Transport{Provider: ok, Origin: "https://api.example.com?x"}, "Origin has a path or a query"},
		{&Transport{Provider: ok, Origin: "https://api.example.com?"}, "Origin has a path or a query"},
		{&Transport{Provider: ok, Origin: "https://u:p4ss@api.example.com"}, "Origin has a user"},
		{&Transport{Provider: ok, Origin: "https://\u212aelvin.example.com"}, "ASCII"},
		{&Transport{Provider: zero, Origin: "https://x"}, "constructor"},
		{&Transport{Provider: &counter{tokens: []string{""}}, Origin: "https://x"}, "zero Token"},
	} {
		for range 2 { // on every request
			body := &closer{}
			r, _ := http.NewRequest("POST", "https://x/", body)
			b := &base{}
			if tt.t != nil {
				tt.t.Base = b
			}
			_, err := tt.t.RoundTrip(r)
			if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: ") ||
				!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "p4ss") {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if !body.closed || len(b.requests) != 0 {
				t.Errorf("%s: body closed %v, %d requests", tt.want, body.closed, len(b.requests))
			}
		}
		if tt.t != nil && tt.want != "zero Token" && tt.want != "constructor" {
			if c, err := NewHTTPClient(tt.t.Provider, tt.t.Origin); err == nil || c != nil {
				t.Errorf("NewHTTPClient takes %q", tt.t.Origin)
			}
		}
	}
}

type closer struct {
	strings.Reader
	closed bool
}

func (c *closer) Close() error { c.closed = true; return nil }

// TestRequestIsReplayedOnceAfterA401: An API may have revoked a token before it
// expires. The Transport replaces the token and sends the request again, once,
// if its body can be had again. It asks no person for the second token.
func TestRequestIsReplayedOnceAfterA401(t *testing.T) {
	refuse := func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Authorization") == "Bearer old" {
			return respond(401, "first"), nil
		}
		return respond(200, "second"), nil
	}
	newRequest := func(body string) *http.Request {
		r, _ := http.NewRequest("POST", "https://x/", strings.NewReader(body))
		return r
	}
	once := newRequest("body")
	once.GetBody = nil
	gone := newRequest("body")
	gone.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("no more") }
	get, _ := http.NewRequest("GET", "https://x/", nil)
	none, _ := http.NewRequest("GET", "https://x/", nil)
	none.Body = http.NoBody
	for _, tt := range []struct {
		name     string
		r        *http.Request
		tokens   []string
		err      error
		requests int
		status   int
	}{
		{"replayed", newRequest("body"), []string{"old", "new"}, nil, 2, 200},
		{"no body", get, []string{"old", "new"}, nil, 2, 200},
		{"NoBody", none, []string{"old", "new"}, nil, 2, 200},
		{"the same token", newRequest("body"), []string{"old", "old"}, nil, 1, 401},
		{"no token", newRequest("body"), []string{"old", "new"}, ErrSignInRequired, 1, 401},
		{"the zero Token", newRequest("body"), []string{"old", ""}, nil, 1, 401},
		{"body only once", once, []string{"old", "new"}, nil, 1, 401},
		{"body gone", gone, []string{"old", "new"}, nil, 1, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			first := &closer{Reader: *strings.NewReader("first")}
			b, p := &base{answer: func(r *http.Request) (*http.Response, error) {
				resp, err := refuse(r)
				if resp.StatusCode == 401 {
					resp.Body = first
				}
				return resp, err
			}}, &counter{tokens: tt.tokens, err: tt.err}
			resp, err := (&Transport{Provider: p, Origin: "https://x", Base: b}).RoundTrip(tt.r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.status || len(b.requests) != tt.requests || err != nil ||
				len(body) == 0 {
				t.Errorf("status %d after %d requests, body %q, %v", resp.StatusCode,
					len(b.requests), body, err)
			}
			for i, got := range b.bodies {
				if tt.r != get && tt.r != none && got != "body" {
					t.Errorf("body of request %d is %q", i, got)
				}
			}
			if first.closed != (tt.requests == 2) {
				t.Errorf("the first answer's body is closed: %v", first.closed)
			}
			if p.invalidated != 1 {
				t.Errorf("invalidated %d times", p.invalidated)
			}
			if p.asked > 1 && (p.marks[0] || !p.marks[1]) {
				t.Errorf("WithoutInteraction: %v, want only for the second token", p.marks)
			}
		})
	}
	always := &base{answer: func(*http.Request) (*http.Response, error) {
		return respond(401, ""), nil
	}}
	resp, err := (&Transport{Provider: &counter{tokens: []string{"a", "b", "c"}}, Origin: "https://x",
		Base: always}).RoundTrip(newRequest("body"))
	if err != nil || resp.StatusCode != 401 || len(always.requests) != 2 {
		t.Errorf("an API that always refuses saw %d requests, want 2: %v", len(always.requests), err)
	}
	for _, status := range []int{200, 400, 403, 407, 500} { // says nothing of the token
		p := &counter{tokens: []string{"old", "new"}}
		b := &base{answer: func(*http.Request) (*http.Response, error) {
			return respond(status, ""), nil
		}}
		if resp, err := (&Transport{Provider: p, Origin: "https://x",
			Base: b}).RoundTrip(newRequest("")); err != nil ||
			resp.StatusCode != status || p.invalidated != 0 || p.asked != 1 {
			t.Errorf("%d: %v, invalidated %d times, asked %d times", status, err, p.invalidated, p.asked)
		}
	}
	if _, err := (&Transport{Provider: &counter{tokens: []string{"old"}},
		Origin: "https://x"}).RoundTrip(&http.Request{Method: "GET"}); err == nil {
		t.Error("a request without a URL")
	}
	plain, _ := NewStaticProvider("old") // cannot be told
	b := &base{answer: refuse}
	if resp, err := (&Transport{Provider: plain, Origin: "https://x",
		Base: b}).RoundTrip(newRequest("body")); err != nil ||
		resp.StatusCode != 401 || len(b.requests) != 1 {
		t.Errorf("static: %v after %d requests", err, len(b.requests))
	}
}

// TestTransportPassesOnErrorsAndTheContext: The errors of Base are the caller's
// to judge, and the provider may need the values of the request's context.
func TestTransportPassesOnErrorsAndTheContext(t *testing.T) {
	p, _ := NewStaticProvider("tok")
	want := errors.New("no route")
	b := &base{answer: func(*http.Request) (*http.Response, error) { return nil, want }}
	c := &http.Client{Transport: &Transport{Provider: p, Origin: "https://x", Base: b}}
	if _, err := c.Get("https://x/"); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
	c.CloseIdleConnections()
	if !b.idle {
		t.Error("CloseIdleConnections is not passed on")
	}
	type key struct{}
	cp := &ctxProvider{}
	r, _ := http.NewRequestWithContext(context.WithValue(t.Context(), key{}, "v"), "GET",
		"https://x/", nil)
	b.answer = nil
	if _, err := (&Transport{Provider: cp, Origin: "https://x", Base: b}).RoundTrip(r); err != nil ||
		cp.ctx.Value(key{}) != "v" {
		t.Errorf("the request's context does not reach the provider: %v", err)
	}
}

type ctxProvider struct{ ctx context.Context }

func (p *ctxProvider) Token(ctx context.Context) (Token, error) {
	p.ctx = ctx
	return NewToken("tok", time.Time{})
}

// TestRedirectToAnotherOriginCarriesNoToken: http.Client follows redirects, and
// calls the Transport for each of them. On real sockets, another origin sees no
// token, and the same origin gets it.
func TestRedirectToAnotherOriginCarriesNoToken(t *testing.T) {
	var foreign http.Header
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		foreign = r.Header
	}))
	defer other.Close()
	idp := idptest.New()
	p := newTestProvider(t, idp, nil)
	api := idp.API()
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		case "/within":
			http.Redirect(w, r, "/api", http.StatusTemporaryRedirect)
		default:
			api.ServeHTTP(w, r)
		}
	}))
	defer home.Close()
	c, err := NewHTTPClient(p, home.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/api", "/within"} {
		resp, err := c.Post(home.URL+path, "text/plain", strings.NewReader("x"))
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("%s: %v %v", path, resp, err)
		}
		resp.Body.Close()
	}
	resp, err := c.Get(home.URL + "/away")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if _, there := foreign["Authorization"]; there || foreign == nil {
		t.Errorf("the other origin saw %v", foreign)
	}
	// The whole way: the API forgets the token, the client gets another and goes on.
	idp.Revoke()
	if resp, err = c.Get(home.URL + "/api"); err != nil || resp.StatusCode != 200 {
		t.Errorf("after revocation: %v, %v", resp, err)
	}
	resp.Body.Close()
	wantRequests(t, idp, 2)
}
