//go:build go1.24

package cdfauth

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// This file receives the answer of the authorization endpoint: a web server on
// loopback (RFC 8252 §7.3) that exists while a person signs in. It takes one request,
// the one that has the state of this sign-in (RFC 6749 §4.1.2, §10.12), and shows how
// the sign-in ended. Everything else that comes to the port, from browsers, other
// programs or other web pages, gets an error page. No page shows any of a request.

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

// sayNoTLS tells the person what to do about a browser that asks for https.
func (c *callback) sayNoTLS() {
	c.tellOnce(&c.tlsAsked, "The browser has asked for https://"+c.redirect.Host+", "+
		"and the answer to this sign-in is wanted over http. Change https to http in the\n"+
		"browser's address bar and press Enter. "+
		"If it changes it back, turn off its HTTPS-only mode.\n")
}

// How much of a body is read, in bytes.
const callbackMaxBody = 64 << 10

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

// How long a browser may take to ask for the page that says how the sign-in ended.
const pageTimeout = 2 * time.Second

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
