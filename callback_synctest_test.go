//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestOnlyTheAnswerOfTheSignInSettlesIt: Every program on the computer and
// every web page can send a request to the listener. A request settles the
// sign-in only if its method, host, path and state are right; any other gets an
// error, and the sign-in goes on (RFC 9700 §4.7). The address of the page that
// follows has no code in it.
func TestOnlyTheAnswerOfTheSignInSettlesIt(t *testing.T) {
	type reply struct {
		name, request, want string // {q} is the provider's answer, {state} its state
		settles             bool
		err                 string
		page                string
	}
	get := func(target, host string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	}
	post := func(body string) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: localhost:53000\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
			len(body), body)
	}
	const host = "localhost:53000"
	for _, tt := range []reply{
		{name: "good", request: get("/?{q}", host), want: "303 See Other", settles: true,
			page: "You are signed in"},
		{name: "form post", request: post("{q}"), want: "303 See Other", settles: true,
			page: "You are signed in"},
		{name: "host in capitals", request: get("/?{q}", "LOCALHOST:53000"), want: "303 See Other",
			settles: true, page: "You are signed in"},
		{name: "declined",
			request: get("/?state={state}&iss=https://idp.test&error=access_denied&error_description=no",
				host),
			want: "303", settles: true, err: "access_denied: no", page: "Sign-in was declined"},
		{name: "other error",
			request: get("/?state={state}&iss=https://idp.test&error=server_error", host), want: "303",
			settles: true, err: "server_error", page: "Sign-in did not succeed"},
		{name: "error with a terminal's commands",
			request: get("/?state={state}&iss=https://idp.test&error=a%1b%5b2Jb", host), want: "303",
			settles: true, err: "a[2Jb", page: "did not succeed"},
		{name: "made-up code", request: get("/?state={state}&iss=https://idp.test&code=x", host),
			want: "303", settles: true, err: "invalid_grant", page: "did not succeed"},
		{name: "no code", request: get("/?state={state}&iss=https://idp.test", host), want: "303",
			settles: true, err: "neither a code nor an error", page: "did not succeed"},
		{name: "other issuer", request: get("/?state={state}&iss=https://evil.test&code=x", host),
			want: "303", settles: true, err: "issuer \"https://evil.test\"", page: "did not succeed"},
		{name: "issuer decides before error",
			request: get("/?state={state}&iss=https://evil.test&error=access_denied", host), want: "303",
			settles: true, err: "issuer \"https://evil.test\"", page: "did not succeed"},
		{name: "no issuer", request: get("/?state={state}&code=x", host), want: "303", settles: true,
			err: "does not say which issuer", page: "did not succeed"},
		{name: "favicon", request: get("/favicon.ico", host), want: "404"},
		{name: "other path", request: get("/callback?{q}", host), want: "404"},
		{name: "nothing", request: get("/", host), want: "400"},
		{name: "wrong state", request: get("/?state=x&code=x", host), want: "400"},
		{name: "no state", request: get("/?code=x", host), want: "400"},
		{name: "state twice", request: get("/?{q}&state={state}", host), want: "400"},
		{name: "code twice", request: get("/?{q}&code=x", host), want: "400"},
		{name: "semicolons", request: get("/?{q};x=y", host), want: "400"},
		{name: "head", request: "HEAD /?{q} HTTP/1.1\r\nHost: " + host + "\r\n\r\n", want: "405"},
		{name: "put", request: "PUT /?{q} HTTP/1.1\r\nHost: " + host + "\r\n\r\n", want: "405"},
		{name: "post with the answer in the query",
			request: "POST /?{q} HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 0\r\n\r\n", want: "400"},
		{name: "big form", request: post("x=" + strings.Repeat("y", 70<<10) + "&{q}"), want: "400"},
		{name: "other host", request: get("/?{q}", "evil.test:53000"), want: "421"},
		{name: "other port", request: get("/?{q}", "localhost:53001"), want: "421"},
		{name: "no host", request: get("/?{q}", ""), want: "421"},
	} {
		runInBubble(t, tt.name, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			var answer, raw string
			h.back = func(location string) error {
				// Meanwhile, connections that say nothing or little.
				for range 3 {
					c, err := h.net.dial(t.Context(), "tcp", "127.0.0.1:53000")
					if err != nil {
						return err
					}
					defer c.Close()
					go io.WriteString(c, "GET /?st")
				}
				u, _ := url.Parse(location)
				r := strings.NewReplacer("{q}", u.RawQuery, "{state}", u.Query().Get("state"))
				request := r.Replace(tt.request)
				if _, body, ok := strings.Cut(request, "\r\n\r\n"); ok && body != "" { // its length has changed
					head, _, _ := strings.Cut(request, "Content-Length")
					request = fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
				}
				raw = h.send("127.0.0.1:53000", request)
				answer, _, _ = strings.Cut(raw, "\r\n")
				if tt.settles {
					return h.visit("http://localhost:53000")
				}
				time.Sleep(time.Minute)
				return h.visit(location)
			}
			start := time.Now()
			_, err := interactive(t, h, &MemoryCache{}, nil).Token(t.Context())
			if !strings.Contains(answer, tt.want) {
				t.Errorf("answered %s, want %s", answer, tt.want)
			}
			for _, header := range []string{"Cache-Control: no-store", "Referrer-Policy: no-referrer",
				"X-Content-Type-Options: nosniff", "Content-Security-Policy: default-src 'none'"} {
				if !strings.Contains(raw, header) {
					t.Errorf("no %s in %s", header, raw)
				}
			}
			if tt.settles && !strings.Contains(raw, "Location: http://localhost:53000\r\n") {
				t.Errorf("no clean address in %s", raw)
			}
			if d := time.Since(start); tt.settles != (d < time.Second) {
				t.Errorf("over after %v", d)
			}
			if tt.err == "" && err != nil ||
				tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("%v, want %q", err, tt.err)
			}
			synctest.Wait()
			if !strings.Contains(h.page, tt.page) {
				t.Errorf("the page says %s, want %q", h.page, tt.page)
			}
			if h.net.open() != 0 {
				t.Error("a listener is left")
			}
		})
	}
}

// bring sends the answer to the listener, and does not look at the page.
func (h *human) bring(location string) {
	_, query, _ := strings.Cut(location, "?")
	h.send("127.0.0.1:53000", "GET /?"+query+" HTTP/1.1\r\nHost: localhost:53000\r\n\r\n")
}

// TestClosedPageDoesNotEndTheSignIn: A browser that is closed too early never
// asks for the page. The person is signed in all the same, two seconds later.
func TestClosedPageDoesNotEndTheSignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.back = func(location string) error {
			h.bring(location)
			return nil
		}
		if d := elapse(func() {
			signedIn(t, interactive(t, h, &MemoryCache{}, nil))
		}); d != 2*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

// TestFirstAnswerWithTheStateCounts: A browser may send an address again, with
// another answer in it. What follows the first answer with the state changes
// nothing.
func TestFirstAnswerWithTheStateCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.back = func(location string) error {
			h.bring(location)
			return h.visit("http://localhost:53000/?error=access_denied&iss=https://idp.test&state=" +
				h.last().Get("state"))
		}
		signedIn(t, interactive(t, h, &MemoryCache{}, nil))
		synctest.Wait()
		if !strings.Contains(h.page, "You are signed in") {
			t.Error(h.page)
		}
	})
}

// TestCodeOfAnAnswerIsNeverScrubbed: Programs decide on the code of an
// OAuthError. It stays whole, even if the answer has the same text in a field
// that is secret.
func TestCodeOfAnAnswerIsNeverScrubbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.back = func(location string) error {
			u, _ := url.Parse(location)
			q := u.Query()
			q.Set("error", "access_denied")
			q.Set("code", "access_denied at the gate")
			q.Set("error_description", "not with access_denied at the gate")
			u.RawQuery = q.Encode()
			return h.visit(u.String())
		}
		_, err := interactive(t, h, &MemoryCache{}, nil).Token(t.Context())
		synctest.Wait() // for the page
		oe := (*OAuthError)(nil)
		if !errors.As(err, &oe) || oe.Code != "access_denied" ||
			strings.Contains(oe.Description, "gate") || !strings.Contains(h.page, "declined") {
			t.Errorf("%v; page: %s", err, h.page)
		}
	})
}

// TestPageIsSentOnAnEarlyConnection: Browsers connect before they have
// something to ask. The page is sent on such a connection too, however long the
// exchange of the code takes.
func TestPageIsSentOnAnEarlyConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		var page string
		h.back = func(location string) error {
			early, err := h.net.dial(context.Background(), "tcp", "127.0.0.1:53000")
			if err != nil {
				return err
			}
			defer early.Close()
			time.Sleep(6 * time.Second)
			h.idp.Fault(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(8 * time.Second)
				idptest.Body(`{"access_token":"tok"}`)(w, r)
			})
			h.bring(location)
			go io.WriteString(early, "GET / HTTP/1.1\r\nHost: localhost:53000\r\n\r\n")
			b, _ := io.ReadAll(early)
			h.mu.Lock()
			page = string(b)
			h.mu.Unlock()
			return nil
		}
		d := elapse(func() { signedIn(t, interactive(t, h, &MemoryCache{}, nil)) })
		synctest.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		if !strings.Contains(page, "You are signed in") || d != 14*time.Second {
			t.Errorf("after %v the person sees %q", d, page)
		}
	})
}

// TestAnswerOfAnEarlierSignInIsIgnored: A tab of an earlier sign-in may still
// bring its answer. The listener ignores it, and the person learns why: the
// page says so each time, and the terminal says so once.
func TestAnswerOfAnEarlierSignInIsIgnored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.back = func(location string) error {
			for _, query := range []string{"state=earlier&code=x", "code=x", "error=access_denied"} {
				h.visit("http://localhost:53000/?" + query)
				if !strings.Contains(h.page, "may belong to an earlier sign-in") {
					t.Errorf("the page says %s", h.page)
				}
			}
			h.visit("http://localhost:53000/?x=y")
			if !strings.Contains(h.page, "There is nothing here") {
				t.Errorf("of what is no answer, the page says %s", h.page)
			}
			return h.visit(location)
		}
		signedIn(t, interactive(t, h, &MemoryCache{}, nil))
		if n := strings.Count(h.told(), "An answer to another sign-in has come"); n != 1 {
			t.Errorf("told %d times: %s", n, h.told())
		}
	})
}

// TestRFC9207Section2: The section has examples of an answer and of an error
// with their issuer.
func TestRFC9207Section2(t *testing.T) {
	for _, tt := range []struct{ state, query, code, failed string }{
		{"ZWVlNDBlYzA1NjdkMDNhYjg3ZjUxZjAyNGQzMTM2NzI",
			"code=x1848ZT64p4IirMPT0R-X3141MFPTuBX-VFL_cvaplMH58&state=ZWVlNDBlYzA1NjdkMDNhYjg3ZjUxZjAyNGQzMTM2NzI&iss=https%3A%2F%2Fhonest.as.example",
			"x1848ZT64p4IirMPT0R-X3141MFPTuBX-VFL_cvaplMH58", ""},
		{"N2JjNGJhY2JiZjRhYzA3MGJkMzNmMDE5OWJhZmJhZjA",
			"error=access_denied&state=N2JjNGJhY2JiZjRhYzA3MGJkMzNmMDE5OWJhZmJhZjA&iss=https%3A%2F%2Fhonest.as.example",
			"", "access_denied"},
	} {
		for issuer, named := range map[string]bool{"https://honest.as.example": true,
			"https://attacker.example": false} {
			c := newCallback(&url.URL{}, &metadata{Issuer: issuer, SendsIssuer: true})
			c.state = tt.state
			values, err := url.ParseQuery(tt.query)
			must(t, err)
			if !c.accept(values) {
				t.Fatal("the state is not recognised")
			}
			switch {
			case !named && (c.err == nil || !strings.Contains(c.err.Error(), "mix-up")):
				t.Errorf("asked of %s: %v", issuer, c.err)
			case named && tt.failed == "" && (c.err != nil || c.code() != tt.code):
				t.Errorf("%q, %v", c.code(), c.err)
			case named && tt.failed != "" && (c.err == nil || !strings.Contains(c.err.Error(), tt.failed)):
				t.Errorf("%v, want %s", c.err, tt.failed)
			}
		}
	}
}
