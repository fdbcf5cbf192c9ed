//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

type callback struct { // one sign-in: what was sent with the browser, and what has come back. What happens once is the end of a context.
	redirect            *url.URL // redirect_uri
	provider            *metadata
	state               string
	once                sync.Once
	settled, over, told context.Context // an answer with the right state has come; the sign-in has ended; the person has been told
	settle, end, tell   context.CancelFunc
	code                func() string // what the answer brought, or
	err                 error         // why it brought none
	page                []byte        // which says how it ended
}

func newCallback(redirect *url.URL, m *metadata) *callback {
	v := &callback{redirect: redirect, provider: m, state: rand.Text() + rand.Text()}
	v.settled, v.settle = context.WithCancel(context.Background())
	v.over, v.end = context.WithCancel(context.Background())
	v.told, v.tell = context.WithCancel(context.Background())
	return v
}

// listen listens where the browser is sent back to. localhost is both loopback addresses, of which browsers pick either; a port may be free on one alone.
func (b *browserFlow) openListeners() (listeners []net.Listener, redirect *url.URL, err error) {
	host, port := b.redirect.Hostname(), b.redirect.Port()
	addresses := []string{host}
	if strings.EqualFold(host, "localhost") {
		addresses = []string{"127.0.0.1", "::1"}
	}
	for try := 1; ; try++ {
		p := port
		for _, address := range addresses {
			var l net.Listener
			if l, err = b.listen("tcp", net.JoinHostPort(address, p)); err == nil {
				listeners = append(listeners, l)
				_, p, _ = net.SplitHostPort(l.Addr().String())
			} else if other, none := b.listen("tcp", net.JoinHostPort(address, "0")); none == nil {
				other.Close()
				break
			} else if len(listeners) > 0 {
				err = nil
			}
		}
		if err == nil {
			u := *b.redirect
			u.Host = net.JoinHostPort(host, p)
			return listeners, &u, nil
		}
		for _, l := range listeners {
			l.Close()
		}
		if listeners = nil; port != "0" || try == 10 {
			return nil, nil, fmt.Errorf("cdfauth: %s: port %s cannot be listened on (does another program use it, or another sign-in?): %w", b.field, p, err)
		}
	}
}

// ServeHTTP takes the answer (RFC 6749 §4.1.2) and tells it from everything else: what browsers ask for by themselves, other programs, other pages. It reflects nothing.
func (v *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	values, status, err := url.Values(nil), 0, error(nil)
	switch {
	case originOf("http", r.Host) != originOf("http", v.redirect.Host): // DNS rebinding
		status = http.StatusMisdirectedRequest
	case strings.TrimPrefix(r.URL.Path, "/") != strings.TrimPrefix(v.redirect.Path, "/"):
		status = http.StatusNotFound
	case r.Method != http.MethodGet && r.Method != http.MethodPost: // response_mode=form_post
		status = http.StatusMethodNotAllowed
	default:
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		err = r.ParseForm()
		values = map[string]url.Values{http.MethodGet: r.Form, http.MethodPost: r.PostForm}[r.Method]
	}
	switch {
	case status != 0 || err != nil:
	case len(values) == 0 && r.Method == http.MethodGet && v.settled.Err() != nil: // the address without the code, to which it was sent on
		select {
		case <-v.over.Done():
			show(w, http.StatusOK, v.page)
			v.tell()
		case <-r.Context().Done():
		}
		return
	case v.answer(values):
		w.Header().Set("Location", v.redirect.String()) // the code does not stay in the address bar
		show(w, http.StatusSeeOther, nil)
		return
	}
	show(w, cmp.Or(status, http.StatusBadRequest), page("There is nothing here",
		"This address waits for the answer to a sign-in, and this was none. If you were signing in, start again in the program that asked for it."))
}

func (v *callback) answer(values url.Values) bool { // takes the first answer that has the right state, and each parameter once. What else it says is looked at in this order: iss, error, code.
	twice := func(name string) bool { return len(values[name]) != 1 }
	if subtle.ConstantTimeCompare([]byte(values.Get("state")), []byte(v.state)) != 1 || slices.ContainsFunc(slices.Collect(maps.Keys(values)), twice) {
		return false
	}
	v.once.Do(func() {
		iss, code, failure := values.Get("iss"), values.Get("code"), values.Get("error")
		switch {
		case values.Has("iss") && !v.provider.names(iss): // RFC 9207 §2.4
			v.err = fmt.Errorf("cdfauth: interactive: the answer is of issuer %q, and %q was asked (a mix-up, or an attack)", scrub(iss, 200, v.state, code), scrub(v.provider.Issuer, 200))
		case !values.Has("iss") && v.provider.SendsIssuer:
			v.err = errors.New("cdfauth: interactive: the answer does not say which issuer it is of, although the provider promises it")
		case failure != "":
			v.err = fmt.Errorf("cdfauth: interactive: the sign-in failed: %w", &OAuthError{Code: scrub(failure, 64, v.state, code),
				Description: scrub(values.Get("error_description"), 500, v.state, code), URI: scrub(values.Get("error_uri"), 200, v.state, code)})
		case code == "":
			v.err = errors.New("cdfauth: interactive: the answer has neither a code nor an error")
		}
		v.code = func() string { return code }
		v.settle()
	})
	return true
}

const style = `:root{color-scheme:light dark}body{font:18px/1.5 system-ui,sans-serif;max-width:32em;margin:18vh auto 0;padding:0 1.5em;text-wrap:pretty}h1{font-size:1.5em;line-height:1.25}`

func page(title, text string) []byte { // what a person sees: no script, nothing from elsewhere, nothing from the request
	return []byte(`<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>` +
		title + `</title><style>` + style + `</style></head><body><h1>` + title + `</h1><p>` + text + `</p></body></html>` + "\n")
}

func show(w http.ResponseWriter, status int, page []byte) { // sends a page, all of it, and closes the connection
	sum := sha256.Sum256([]byte(style))
	policy := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
	for name, value := range map[string]string{"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
		"X-Content-Type-Options": "nosniff", "Content-Security-Policy": policy, "Connection": "close", "Content-Length": strconv.Itoa(len(page))} {
		w.Header().Set(name, value)
	}
	w.WriteHeader(status)
	_, _ = w.Write(page) // to a HEAD, nothing
	_ = http.NewResponseController(w).Flush()
}
