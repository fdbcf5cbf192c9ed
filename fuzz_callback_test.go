package cdfauth

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// plain reports whether a text can be shown on a terminal, on one line.
func plain(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsPrint(r)
	})
}

// FuzzCallback: any program or web page can send a request to the listener of the
// interactive flow. Only an answer with the right state settles the sign-in (RFC 6749
// §10.12), and no byte of a request is in any page. The input is a whole HTTP request.
func FuzzCallback(f *testing.F) {
	const state, host = "state-that-nobody-guesses", "localhost:53000"
	redirect, err := parseURL("http://" + host + "/callback")
	if err != nil {
		f.Fatal(err)
	}
	// serve lets a new listener answer one request. If settled, an answer has settled the
	// sign-in before.
	serve := func(r *http.Request, settled bool) (*callback, *httptest.ResponseRecorder) {
		v := newCallback(redirect, &metadata{Issuer: "https://idp.test"})
		v.state = state
		v.end(newPage("title", "text"))
		if settled {
			v.accept(map[string][]string{"state": {state}, "code": {"first"}})
		}
		w := httptest.NewRecorder()
		v.ServeHTTP(w, r)
		return v, w
	}
	get := func(target string) *http.Request {
		return httptest.NewRequest("GET", "http://"+host+target, nil)
	}
	_, nothing := serve(get("/callback?x"), false)
	_, other := serve(get("/callback?state=wrong"), false)
	_, sentOn := serve(get("/callback?state="+state+"&code=c"), false)
	_, done := serve(get("/callback"), true)
	if nothing.Code != 400 || sentOn.Code != 303 || done.Code != 200 {
		f.Fatal(nothing.Code, sentOn.Code, done.Code)
	}

	for _, target := range []string{"/callback", "/callback?state=" + state + "&code=c",
		"/callback?state=" + state + "&code=c&iss=https://idp.test",
		"/callback?state=" + state + "&code=c&iss=https://evil.test%1b",
		"/callback?state=" + state + "&error=access_denied&error_description=%1b%5b2J<b>",
		"/callback?state=" + state + "&state=" + state, "/callback?%73tate=" + state + ";code=c",
		"/callback?state=" + state + "&error=%1b%5b2J",
		"/callback?state=wrong&code=c", "/favicon.ico", "//callback?<script>"} {
		f.Add([]byte("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"))
	}
	f.Add([]byte("GET /callback?state=" + state + "&code=c HTTP/1.1\r\nHost: evil.test\r\n\r\n"))
	for _, form := range []string{"state=" + state + "&code=c", "state=" + state + "&iss=x&error=y",
		"state=" + state + "&code=%1"} {
		f.Add([]byte(fmt.Sprintf(
			"POST /callback HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
			host, len(form), form)))
	}
	f.Add([]byte("POST /callback?state=" + state + " HTTP/1.1\r\nHost: " + host +
		"\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ncode=c\r\n0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, settled := range []bool{false, true} {
			r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
			if err != nil {
				return // the server answers that
			}
			var body bytes.Buffer // what is read of it
			r.Body = io.NopCloser(io.TeeReader(r.Body, &body))
			v, w := serve(r, settled)

			like := nothing
			switch w.Code {
			case 303:
				like = sentOn
			case 200:
				like = done
				if !settled {
					t.Fatal("a page that says it is over")
				}
			case 400:
				if bytes.Equal(w.Body.Bytes(), other.Body.Bytes()) {
					like = other
				}
			case 404, 405, 421:
			default:
				t.Fatalf("status %d", w.Code)
			}
			if !bytes.Equal(w.Body.Bytes(), like.Body.Bytes()) ||
				len(w.Result().Header) != len(like.Result().Header) {
				t.Fatalf("%v %s", w.Result().Header, w.Body)
			}
			for name, values := range w.Result().Header {
				if !slices.Equal(values, like.Result().Header[name]) {
					t.Fatalf("%s: %q", name, values)
				}
			}

			if settled {
				if v.code() != "first" || v.err != nil {
					t.Fatal("the first answer does not count")
				}
				continue
			}
			if over := v.isAnswered(); over != (w.Code == 303) {
				t.Fatalf("settled: %t, status %d", over, w.Code)
			} else if !over {
				continue
			}
			said, _ := url.ParseQuery(r.URL.RawQuery)
			if r.Method == "POST" {
				said, _ = url.ParseQuery(body.String())
			}
			if !slices.Equal(said["state"], []string{state}) || !strings.EqualFold(r.Host, host) {
				t.Fatalf("settled by %q for %s", said, r.Host)
			}
			if v.err == nil && v.code() == "" {
				t.Fatal("neither a code nor an error")
			}
			if v.err != nil && (!plain(v.err.Error()) || len(v.err.Error()) > 2000) {
				t.Fatalf("%q", v.err)
			}
		}
	})
}
