//go:build go1.24

package cdfauth

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// This file receives the answer of the authorization endpoint: a web server on
// loopback (RFC 8252 §7.3) that exists while a person signs in. It takes one request,
// the one that has the state of this sign-in (RFC 6749 §4.1.2, §10.12), and shows how
// the sign-in ended. Everything else that comes to the port, from browsers, other
// programs or other web pages, gets an error page. No page shows any of a request.

// Limits of a request to the listener: how long it may take to arrive, its headers
// and its body.
const (
	callbackTimeout   = 10 * time.Second
	callbackMaxHeader = 64 << 10 // bytes
	callbackMaxBody   = 64 << 10 // bytes
)

// How long a browser may take to ask for the page that says how the sign-in ended.
const pageTimeout = 2 * time.Second

// A callback is the server's side of one sign-in: what was sent with the browser, and
// what has come back.
type callback struct {
	redirect *url.URL  // redirect_uri, with the port that is listened on
	provider *metadata // of whom the answer has to be
	state    string

	answered chan struct{} // closed when an answer with the right state has come
	ended    chan struct{} // closed when the sign-in is over and page is set
	shown    chan struct{} // closed when the page was shown, or when there is nowhere to show it

	// tell tells the person something in the terminal. nil: nobody is told.
	tell func(text string)

	once     sync.Once     // for the answer: the first one counts
	showOnce sync.Once     // for shown
	strayed  sync.Once     // for the word about another sign-in's answer
	tlsAsked sync.Once     // for the word about https
	code     func() string // what the answer brought; a function value, which nobody prints
	err      error         // why it brought nothing
	page     []byte        // says how the sign-in ended
}

func newCallback(redirect *url.URL, provider *metadata) *callback {
	return &callback{
		redirect: redirect,
		provider: provider,
		state:    randomText(),
		answered: make(chan struct{}),
		ended:    make(chan struct{}),
		shown:    make(chan struct{}),
	}
}

// end says how the sign-in ended, to whoever waits for the page.
func (c *callback) end(page []byte) {
	c.page = page
	close(c.ended)
}

// markShown says that the person has seen the page, or that no page is needed.
func (c *callback) markShown() {
	c.showOnce.Do(func() { close(c.shown) })
}

// tellOnce tells the person something, if that has not been told and the answer has
// not come yet.
func (c *callback) tellOnce(once *sync.Once, text string) {
	if c.tell == nil || c.isAnswered() {
		return
	}
	once.Do(func() { c.tell(text) })
}

// A listenFunc is net.Listen, or a test's.
type listenFunc func(network, address string) (net.Listener, error)

// How often a free port is looked for that is free on both loopback addresses.
const freePortTries = 10

// listenLoopback listens where the browser is sent back to (RFC 8252 §7.3, §8.3), and
// returns the redirect URI with the port in it, which is a free one for port 0. An
// error names field, which the URL was configured by.
func listenLoopback(
	listen listenFunc, redirect *url.URL, field string,
) ([]net.Listener, *url.URL, error) {
	if listen == nil {
		listen = net.Listen
	}
	host, port := redirect.Hostname(), redirect.Port()
	addresses := []string{host}
	if strings.EqualFold(host, "localhost") {
		// Browsers pick either of the two.
		addresses = []string{"127.0.0.1", "::1"}
	}
	for try := 1; ; try++ {
		listeners, bound, err := listenOnAll(listen, addresses, port)
		if err == nil {
			u := *redirect
			u.Host = net.JoinHostPort(host, bound)
			return listeners, &u, nil
		}
		if port != "0" || try == freePortTries {
			return nil, nil, fmt.Errorf("cdfauth: %s: port %s cannot be listened on "+
				"(does another program use it, or another sign-in?): %w", field, bound, err)
		}
	}
}

// listenOnAll listens on one port of all addresses, and returns that port. An address
// that this computer does not have at all (no IPv6) is left out if there is another.
func listenOnAll(
	listen listenFunc, addresses []string, port string,
) (listeners []net.Listener, bound string, err error) {
	bound = port
	for _, address := range addresses {
		l, failed := listen("tcp", net.JoinHostPort(address, bound))
		if failed == nil {
			listeners = append(listeners, l)
			_, bound, _ = net.SplitHostPort(l.Addr().String())
			continue
		}
		if hasAddress(listen, address) {
			// Its port is taken, and what has it would get the answer.
			closeAll(listeners)
			return nil, bound, failed
		}
		err = failed
	}
	if len(listeners) > 0 {
		return listeners, bound, nil
	}
	return nil, bound, err
}

// hasAddress reports whether anything can be listened on at an address.
func hasAddress(listen listenFunc, address string) bool {
	l, err := listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		l.Close()
	}
}

// serve answers what comes to the listeners, until stop is called.
func (c *callback) serve(listeners []net.Listener) (stop func()) {
	server := &http.Server{
		Handler:        c,
		ReadTimeout:    callbackTimeout,
		MaxHeaderBytes: callbackMaxHeader,
		ErrorLog:       log.New(io.Discard, "", 0),
	}
	for _, l := range listeners {
		go server.Serve(&plainListener{l, c.sayNoTLS})
	}
	return func() {
		server.Close()
		closeAll(listeners) // also those that the server has not come to serve
	}
}

// sayNoTLS tells the person what to do about a browser that asks for https.
func (c *callback) sayNoTLS() {
	c.tellOnce(&c.tlsAsked, "The browser has asked for https://"+c.redirect.Host+", "+
		"and the answer to this sign-in is wanted over http. Change https to http in the\n"+
		"browser's address bar and press Enter. "+
		"If it changes it back, turn off its HTTPS-only mode.\n")
}

// A plainListener recognises connections on which a browser speaks TLS: some turn each
// http address into one of https (HSTS, HTTPS-only modes). It calls onTLS for those.
type plainListener struct {
	net.Listener
	onTLS func()
}

func (l *plainListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &plainConn{Conn: conn, onTLS: l.onTLS}, nil
}

type plainConn struct {
	net.Conn
	onTLS func()
	begun bool // something was read
}

// The content type of the first record of a TLS connection (RFC 8446 §5.1). No HTTP
// request begins with it.
const tlsHandshake = 22

// Read ends a connection that begins with TLS.
func (c *plainConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n == 0 || c.begun {
		return n, err
	}
	c.begun = true
	if b[0] == tlsHandshake {
		c.onTLS()
		return 0, io.EOF
	}
	return n, err
}

// isLoopback reports whether a host is this computer.
func isLoopback(host string) bool {
	return net.ParseIP(host).IsLoopback() || strings.EqualFold(host, "localhost")
}

// ServeHTTP tells the answer to the sign-in from everything else.
func (c *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case originOf("http", r.Host) != originOf("http", c.redirect.Host):
		// A page elsewhere whose name has come to mean this computer (DNS rebinding).
		show(w, http.StatusMisdirectedRequest, nothingPage)
		return
	case strings.TrimPrefix(r.URL.Path, "/") != strings.TrimPrefix(c.redirect.Path, "/"):
		show(w, http.StatusNotFound, nothingPage)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		show(w, http.StatusMethodNotAllowed, nothingPage)
		return
	}
	values, err := parameters(w, r)
	switch {
	case err != nil:
		show(w, http.StatusBadRequest, nothingPage)
	case len(values) == 0 && r.Method == http.MethodGet && c.isAnswered():
		c.showEnd(w, r)
	case c.accept(values):
		// The code does not stay in the address bar: the browser goes on to the
		// address without it, and gets the page there.
		w.Header().Set("Location", c.redirect.String())
		show(w, http.StatusSeeOther, nil)
	case values.Has("state") || values.Has("code") || values.Has("error"):
		show(w, http.StatusBadRequest, otherSignInPage)
		c.tellOnce(&c.strayed, "An answer to another sign-in has come, and was ignored. "+
			"It may be of an earlier one: use the browser page that was opened last.\n")
	default:
		show(w, http.StatusBadRequest, nothingPage)
	}
}

// parameters returns those of the query of a GET, or of the body of a POST
// (response_mode=form_post, OAuth 2.0 Form Post Response Mode §2).
func parameters(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	r.Body = http.MaxBytesReader(w, r.Body, callbackMaxBody)
	err := r.ParseForm()
	if r.Method == http.MethodPost {
		return r.PostForm, err
	}
	return r.Form, err
}

func (c *callback) isAnswered() bool {
	select {
	case <-c.answered:
		return true
	default:
		return false
	}
}

// showEnd shows how the sign-in ended, when it has.
func (c *callback) showEnd(w http.ResponseWriter, r *http.Request) {
	select {
	case <-c.ended:
		show(w, http.StatusOK, c.page)
		c.markShown()
	case <-r.Context().Done():
	}
}

// accept takes the parameters of an answer, and reports whether they are one to this
// sign-in. The state is looked at before anything else, and each parameter has to be
// there once (RFC 6749 §3.1). The first such answer counts; more of them change
// nothing.
func (c *callback) accept(values url.Values) bool {
	if !sameSecret(values.Get("state"), c.state) {
		return false
	}
	for _, v := range values {
		if len(v) != 1 {
			return false
		}
	}
	c.once.Do(func() {
		code := values.Get("code")
		c.code = func() string { return code }
		c.err = c.judge(values)
		close(c.answered)
	})
	return true
}

// judge returns why an answer with the right state brings no code, if so. Who it is
// of decides before what it says (RFC 9207 §2.4).
func (c *callback) judge(values url.Values) error {
	issuer := values.Get("iss")
	code := values.Get("code")
	failure := values.Get("error")
	clean := func(text string, limit int) string { return scrub(text, limit, c.state, code) }
	switch {
	case values.Has("iss") && !c.provider.names(issuer):
		return fmt.Errorf("cdfauth: interactive: the answer is of issuer %q, and %q was asked "+
			"(a mix-up, or an attack)", clean(issuer, 200), scrub(c.provider.Issuer, 200))
	case !values.Has("iss") && c.provider.SendsIssuer:
		return errors.New("cdfauth: interactive: the answer does not say which issuer it is of, " +
			"although the provider promises it")
	case failure != "":
		// RFC 6749 §4.1.2.1.
		return fmt.Errorf("cdfauth: interactive: the sign-in failed: %w", &OAuthError{
			Code:        clean(failure, 64),
			Description: clean(values.Get("error_description"), 500),
			URI:         clean(values.Get("error_uri"), 200),
		})
	case code == "":
		return errors.New("cdfauth: interactive: the answer has neither a code nor an error")
	}
	return nil
}

// What a person sees in the browser.
var (
	nothingPage = newPage("There is nothing here",
		"This address waits for the answer to a sign-in, and this was none. "+
			"If you were signing in, start again in the program that asked for it.")
	otherSignInPage = newPage("This is not the sign-in that is waited for",
		"The answer may belong to an earlier sign-in. Close this page and use the one that was "+
			"opened last, or start again in the program that asked for it.")
	signedInPage = newPage("You are signed in",
		"You can close this page and go back to the program that asked for it.")
	declinedPage = newPage("Sign-in was declined",
		"Nobody was signed in. "+
			"If that was not meant, start again in the program that asked for it.")
	failedPage = newPage("Sign-in did not succeed",
		"The program that asked for it says why. You can close this page and go back to it.")
)

// endPage returns the page for a sign-in that ended with err.
func endPage(err error) []byte {
	var refused *OAuthError
	switch {
	case err == nil:
		return signedInPage
	case errors.As(err, &refused) && refused.Code == "access_denied":
		return declinedPage
	default:
		return failedPage
	}
}

const pageStyle = `:root{color-scheme:light dark}` +
	`body{font:18px/1.5 system-ui,sans-serif;max-width:32em;margin:18vh auto 0;padding:0 1.5em;` +
	`text-wrap:pretty}` +
	`h1{font-size:1.5em;line-height:1.25}`

// newPage makes a page without scripts and without anything from elsewhere.
func newPage(title, text string) []byte {
	return []byte(`<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">` +
		`<meta name="viewport" content="width=device-width,initial-scale=1">` +
		`<title>` + title + `</title><style>` + pageStyle + `</style></head>` +
		`<body><h1>` + title + `</h1><p>` + text + `</p></body></html>` + "\n")
}

// pagePolicy permits a page its own style and nothing else (CSP Level 3).
func pagePolicy() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; " +
		"style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; " +
		"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}

// show sends a page, all of it at once, and closes the connection.
func show(w http.ResponseWriter, status int, page []byte) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(len(page)))
	header.Set("Content-Security-Policy", pagePolicy())
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer") // or the next page would learn the code
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Connection", "close")
	w.WriteHeader(status)
	_, _ = w.Write(page) // fails for a HEAD, which gets the headers alone
	_ = http.NewResponseController(w).Flush()
}

// waitShown waits until the person has seen how the sign-in ended, but not for long:
// the browser may have been closed.
func (c *callback) waitShown() {
	timer := time.NewTimer(pageTimeout)
	defer timer.Stop()
	select {
	case <-c.shown:
	case <-timer.C:
	}
}
