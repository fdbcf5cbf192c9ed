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

// This file tells the answer of the authorization endpoint (RFC 6749 §4.1.2) from
// everything else that comes to the listener (loopback.go), and judges it. The answer to a
// sign-in is the first request to the redirect URI that has the state of the sign-in
// (RFC 6749 §10.12). The browser is then shown how the sign-in ended. Any other request,
// of a browser, another program or another web page, gets an error page. No page
// (callbackpage.go) shows any of a request.

// A callback waits for the answer to one sign-in. It is the http.Handler of the listener.
type callback struct {
	redirect *url.URL  // redirect_uri, with the port that is listened on
	provider *metadata // of the identity provider that was asked
	state    string    // as it was sent to the identity provider

	// tell tells the person something in the terminal; nil if nobody is to be told.
	tell      func(text string)
	tellTLS   sync.Once // for explainTLS
	tellStray sync.Once // for the notice that another sign-in's answer has come

	// answered is closed when the answer has come. code and err are set before. code
	// returns the code in the answer; it is a function value, so that no printer of values
	// reaches the code. err says why the answer does not bring a code; nil if it does.
	answered   chan struct{}
	answerOnce sync.Once
	code       func() string
	err        error

	// onAnswer is called once, when the answer has come and before anybody learns of it;
	// nil if nothing is to be called.
	onAnswer func() bool

	// ended is closed when the sign-in is over. page is set before: it says how the
	// sign-in ended.
	ended chan struct{}
	page  []byte

	// shown is closed when the browser has got page, or if none will come for it.
	shown     chan struct{}
	shownOnce sync.Once
}

// newCallback returns a callback with a new state. It may be used for one sign-in alone.
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

// ServeHTTP answers a request to the listener.
func (c *callback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	refusal := c.checkTarget(r)
	if refusal != 0 {
		show(w, refusal, nothingPage)
		return
	}
	values, err := parameters(w, r)
	if err != nil {
		show(w, http.StatusBadRequest, nothingPage)
		return
	}
	if c.accept(values) {
		// The browser goes on to the redirect URI without parameters, and gets the page there.
		// So the code does not stay in the address bar.
		w.Header().Set("Location", c.redirect.String())
		show(w, http.StatusSeeOther, nil)
		return
	}
	if len(values) == 0 && r.Method == http.MethodGet && c.isAnswered() {
		c.showEnd(w, r)
		return
	}
	if values.Has("state") || values.Has("code") || values.Has("error") {
		show(w, http.StatusBadRequest, otherSignInPage)
		c.tellOnce(&c.tellStray, "An answer to another sign-in has come, and was ignored. "+
			"It may be of an earlier one: use the browser page that was opened last.\n")
		return
	}
	show(w, http.StatusBadRequest, nothingPage)
}

// checkTarget returns the status by which to refuse a request that is not to the redirect
// URI, or has another method than an answer can have; 0 if nothing is wrong.
//
// The Host header is checked because of DNS rebinding: a web page can make the browser
// send requests to this computer under the page's own host name, and read the answers.
func (c *callback) checkTarget(r *http.Request) int {
	switch {
	case originOf("http", r.Host) != originOf("http", c.redirect.Host):
		return http.StatusMisdirectedRequest
	case strings.TrimPrefix(r.URL.Path, "/") != strings.TrimPrefix(c.redirect.Path, "/"):
		return http.StatusNotFound
	case r.Method != http.MethodGet && r.Method != http.MethodPost:
		return http.StatusMethodNotAllowed
	}
	return 0
}

// requestMaxBody is how long the body of a request may be, in bytes.
const requestMaxBody = 64 << 10

// parameters returns the parameters in the query of a GET, or in the body of a POST
// (response_mode=form_post, OAuth 2.0 Form Post Response Mode §2). It fails if the query
// or the body is malformed, or if the body is longer than requestMaxBody.
func parameters(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	r.Body = http.MaxBytesReader(w, r.Body, requestMaxBody)
	err := r.ParseForm()
	if r.Method == http.MethodPost {
		return r.PostForm, err
	}
	return r.Form, err
}

// accept takes the answer, and reports whether these are its parameters: they have the
// state of this sign-in, and none of them comes twice (RFC 6749 §3.1). Only the first
// answer counts. For another one with the same state, accept returns true and changes
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
	c.answerOnce.Do(func() {
		code := values.Get("code")
		c.code = func() string { return code }
		c.err = c.judge(values)
		if c.onAnswer != nil {
			c.onAnswer()
		}
		close(c.answered)
	})
	return true
}

// judge returns why an answer brings no code, or nil if it does. The issuer is checked
// before the rest (RFC 9207 §2.4): an answer of another provider says nothing about this
// sign-in, and neither does its error. No error shows the state or the code.
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

// isAnswered reports whether the answer has come.
func (c *callback) isAnswered() bool {
	select {
	case <-c.answered:
		return true
	default:
		return false
	}
}

// explainTLS tells the person what to do about a browser that wants to speak TLS.
func (c *callback) explainTLS() {
	c.tellOnce(&c.tellTLS, "The browser has asked for https://"+c.redirect.Host+", "+
		"and the answer to this sign-in is wanted over http. Change https to http in the\n"+
		"browser's address bar and press Enter. "+
		"If it changes it back, turn off its HTTPS-only mode.\n")
}

// tellOnce tells the person something, unless once was used before or the answer has come.
func (c *callback) tellOnce(once *sync.Once, text string) {
	if c.tell == nil || c.isAnswered() {
		return
	}
	once.Do(func() { c.tell(text) })
}

// end says that the sign-in is over, and with which page. It must be called once at most.
func (c *callback) end(page []byte) {
	c.page = page
	close(c.ended)
}

// showEnd waits until the sign-in is over, and shows how it ended.
func (c *callback) showEnd(w http.ResponseWriter, r *http.Request) {
	select {
	case <-c.ended:
		show(w, http.StatusOK, c.page)
		c.markShown()
	case <-r.Context().Done():
	}
}

// markShown says that the browser has got the page, or that none will come for it.
func (c *callback) markShown() {
	c.shownOnce.Do(func() { close(c.shown) })
}

// pageTimeout is how long a browser may take to ask for the page.
const pageTimeout = 2 * time.Second

// waitShown waits until the browser has got the page, but no longer than pageTimeout: the
// person may have closed the browser.
func (c *callback) waitShown() {
	timer := time.NewTimer(pageTimeout)
	defer timer.Stop()
	select {
	case <-c.shown:
	case <-timer.C:
	}
}
