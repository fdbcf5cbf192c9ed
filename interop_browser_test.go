//go:build interop

package cdfauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cdfauth"
)

// These tests have a person sign in, at npm's oidc-provider, in Debian's Chromium:
//
//	apt-get install -y chromium && npm ci --prefix testdata/oidc-provider
//	go test -tags interop -run InteropBrowser .
//
// With CDFAUTH_SHOTS=/a/folder they also leave pictures there of the pages that people end at.

const ann = "ann@example.com"

// What people do on oidc-provider's pages and see in the end: steps of browser.mjs.
type steps [][]string

var (
	login = steps{{"fill", "[name=login]", ann}, {"fill", "[name=password]", "any"},
		{"click", "[value=login] ~ button"}}
	consent      = steps{{"click", "[value=consent] ~ button"}}
	cancel       = steps{{"click", "text=[ Cancel ]"}}
	seeSignedIn  = steps{{"see", "You are signed in"}, {"shoot", "signed-in"}}
	seeDeclined  = steps{{"see", "Sign-in was declined"}, {"shoot", "declined"}}
	seeFailed    = steps{{"see", "Sign-in did not succeed"}, {"shoot", "failed"}}
	seeAstray    = steps{{"see", "This is not the sign-in that is waited for"}, {"shoot", "astray"}}
	confirmCode  = steps{{"click", "[form='op.deviceConfirmForm']:not([name])"}}
	abortCode    = steps{{"click", "[name=abort]"}}
	seeApproved  = steps{{"see", "Sign-in Success"}}
	seeAbandoned = steps{{"see", "Sign-in"}} // the page for the code again
)

// sight is what a person has seen, of browser.mjs.
type sight struct {
	URL, Text string
	History   []string // the addresses that the Back button knows, and the one in the address bar
	Requests  []struct{ Page, URL string }
	Errors    []string
}

// person sits at a browser and does what is planned, for each time that it opens. Whoever
// waits for her waits under ctx, which ends when something goes wrong.
type person struct {
	t        *testing.T
	ctx      context.Context
	giveUp   context.CancelFunc
	plans    chan steps
	sights   chan sight
	browsing sync.WaitGroup
	rewrite  func(address string) (string, steps) // the address to open instead, and what to do first
	// An address of ours that she goes to although there is nothing.
	astray string
}

func newPerson(t *testing.T, plans ...steps) *person {
	p := &person{t: t, plans: make(chan steps, len(plans)), sights: make(chan sight, len(plans)),
		rewrite: func(address string) (string, steps) {
			return address, nil
		}}
	p.ctx, p.giveUp = context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(func() {
		p.giveUp()
		p.browsing.Wait()
	})
	for _, plan := range plans {
		p.plans <- plan
	}
	return p
}

// open is an OpenBrowser.
func (p *person) open(_ context.Context, address string) error {
	select {
	case plan := <-p.plans:
		address, first := p.rewrite(address)
		p.browsing.Add(1)
		go p.browse(address, slices.Concat(first, plan))
	default:
		p.t.Error("the browser was opened once too often")
		p.giveUp()
	}
	return nil
}

func (p *person) browse(address string, plan steps) {
	defer p.browsing.Done()
	job, _ := json.Marshal(map[string]any{"url": address, "steps": plan,
		"shots": os.Getenv("CDFAUTH_SHOTS")})
	cmd := exec.CommandContext(p.ctx, "node", "browser.mjs")
	cmd.Dir, cmd.Stdin = "testdata/oidc-provider", bytes.NewReader(job)
	// It closes Chromium first.
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(os.Interrupt) },
		10*time.Second
	var s sight
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	if ee := (*exec.ExitError)(nil); errors.As(err, &ee) {
		p.t.Errorf("the browser: %v\n%s", err, ee.Stderr)
	} else if err != nil {
		p.t.Errorf("the browser: %v", err)
	}
	if err != nil {
		p.giveUp()
	}
	p.sights <- s
}

// look returns what was seen.
func (p *person) look() sight {
	p.t.Helper()
	s := <-p.sights
	for _, e := range s.Errors {
		if p.astray == "" ||
			!strings.HasPrefix(e,
				p.astray+": Failed to load resource: the server responded with a status of 400") {
			p.t.Errorf("in the browser's console: %s", e)
		}
	}
	return s
}

// lookAtAnswer checks the page that our own listener has shown in the end.
func (p *person) lookAtAnswer(clean, text string) {
	p.t.Helper()
	s := p.look()
	u, err := url.Parse(s.URL)
	if err != nil || u.Port() == "" {
		p.t.Fatalf("the page's address is %q", s.URL)
	}
	if want := strings.Replace(clean, ":0", ":"+u.Port(), 1); s.URL != want || s.Text != text {
		p.t.Errorf("the page at %s says %q, want %s and %q", s.URL, s.Text, want, text)
	}
	ours := "http://" + u.Host + "/"
	for _, address := range s.History {
		if strings.HasPrefix(address, ours) && address != s.URL && address != p.astray {
			p.t.Errorf("the browser's history has %s", address)
		}
	}
	for _, r := range s.Requests {
		if strings.HasPrefix(r.Page, ours) {
			p.t.Errorf("our page made a request to %s", r.URL)
		}
	}
}

const (
	signedIn = "You are signed in\n\nYou can close this page and go back to the program that asked for it."
	declined = "Sign-in was declined\n\nNobody was signed in. If that was not meant, start again in the program that asked for it."
	failed   = "Sign-in did not succeed\n\nThe program that asked for it says why. You can close this page and go back to it."
)

// startForPeople starts an identity provider whose access tokens live for so many seconds,
// and returns its issuer.
func startForPeople(t *testing.T, life int) string {
	return startOIDCProvider(t,
		map[string]any{"ttl": map[string]any{"AccessToken": life},
			"clients": []any{secretClient("api", "client_secret_post"), map[string]any{
				"client_id": "program", "application_type": "native", "token_endpoint_auth_method": "none",
				"response_types": []string{"code"},
				"grant_types": []string{"authorization_code", "refresh_token",
					"urn:ietf:params:oauth:grant-type:device_code"},
				// On any port (RFC 8252 §7.3).
				"redirect_uris": []string{"http://localhost", "http://127.0.0.1/callback"}}}})
}

func cacheFile(t *testing.T, path string) cdfauth.Cache {
	t.Helper()
	c, err := cdfauth.NewFileCache(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// interactive is a program that starts.
func interactive(
	p *person, issuer, path string, changes ...func(*cdfauth.InteractiveConfig),
) *cdfauth.Interactive {
	p.t.Helper()
	cfg := cdfauth.InteractiveConfig{Endpoint: cdfauth.Issuer(issuer), ClientID: "program",
		Scopes: []string{"read"}, RedirectURL: "http://localhost:0",
		OpenBrowser: p.open, Output: io.Discard, Options: cdfauth.Options{Cache: cacheFile(p.t, path)}}
	for _, change := range changes {
		change(&cfg)
	}
	provider, err := cdfauth.NewInteractive(cfg)
	if err != nil {
		p.t.Fatal(err)
	}
	return provider
}

// wantAnns gets a token and asks the identity provider whether it is one of Ann's.
func (p *person) wantAnns(provider cdfauth.Provider, issuer string) cdfauth.Token {
	p.t.Helper()
	tok, err := provider.Token(p.ctx)
	if err != nil {
		p.t.Fatal(err)
	}
	p.checkAnns(tok, issuer)
	return tok
}

func (p *person) checkAnns(tok cdfauth.Token, issuer string) {
	p.t.Helper()
	if m := introspect(p.t, http.DefaultClient, issuer, "api", tok); m["active"] != true ||
		m["client_id"] != "program" || m["sub"] != ann {
		p.t.Errorf("introspection says %v", m)
	}
	if scopes := strings.Fields(tok.Scope()); tok.Username() != ann ||
		!slices.Contains(scopes, "read") || !slices.Contains(scopes, "offline_access") {
		p.t.Errorf("the token is of %q, for %q", tok.Username(), scopes)
	}
}

// kept returns the refresh token and the user name that a cache file has.
func kept(t *testing.T, path string) (refreshToken, username string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		RefreshToken map[string]struct{ Secret string }
		Account      map[string]struct{ Username string }
	}
	if err := json.Unmarshal(b, &c); err != nil || len(c.RefreshToken) != 1 || len(c.Account) != 1 {
		t.Fatalf("the cache has %d refresh tokens and %d accounts: %v", len(c.RefreshToken),
			len(c.Account), err)
	}
	for _, r := range c.RefreshToken {
		refreshToken = r.Secret
	}
	for _, a := range c.Account {
		username = a.Username
	}
	return refreshToken, username
}

// refusal returns what the identity provider has refused a token with.
func refusal(t *testing.T, err error) *cdfauth.OAuthError {
	t.Helper()
	oe := (*cdfauth.OAuthError)(nil)
	if !errors.As(err, &oe) {
		t.Fatalf("want an OAuthError, got %v", err)
	}
	return oe
}

// TestInteropBrowserSignIn: A person signs in at a real identity provider with a
// real browser. The next starts of the program ask nobody.
func TestInteropBrowserSignIn(t *testing.T) {
	issuer, path := startForPeople(t, 600), filepath.Join(t.TempDir(), "cache.bin")
	p := newPerson(t, slices.Concat(login, consent, seeSignedIn))
	tok := p.wantAnns(interactive(p, issuer, path), issuer)
	p.lookAtAnswer("http://localhost:0/", signedIn)
	if r, name := kept(t, path); r == "" || name != ann {
		t.Errorf("the cache has the refresh token %q of %q", r, name)
	}
	// The next starts of the program: nobody is asked.
	for _, hint := range []string{"", strings.ToUpper(ann)} {
		again, err := interactive(p, issuer, path,
			func(c *cdfauth.InteractiveConfig) { c.LoginHint = hint }).Token(p.ctx)
		if err != nil || again.AccessToken() != tok.AccessToken() || again.Username() != ann {
			t.Errorf("at the next start, hint %q: a token of %q, %v", hint, again.Username(), err)
		}
	}
}

// TestInteropBrowserDeclined: The person declines at the login page and then at
// the consent page. Token returns the error that the identity provider sends for
// it, and the person may sign in afterwards.
func TestInteropBrowserDeclined(t *testing.T) {
	issuer, path := startForPeople(t, 600), filepath.Join(t.TempDir(), "cache.bin")
	p := newPerson(t, slices.Concat(cancel, seeDeclined), slices.Concat(login, cancel, seeDeclined),
		slices.Concat(login, consent, seeSignedIn))
	provider := interactive(p, issuer, path)
	for range 2 { // at the login page, at the consent page
		_, err := provider.Token(p.ctx)
		if oe := refusal(t, err); oe.Code != "access_denied" ||
			oe.Description != "End-User aborted interaction" {
			t.Errorf("declined: %v", err)
		}
		p.lookAtAnswer("http://localhost:0/", declined)
	}
	p.wantAnns(provider, issuer) // she has changed her mind
	p.lookAtAnswer("http://localhost:0/", signedIn)
}

// spoiler makes the exchange of a code fail.
type spoiler struct{}

func (spoiler) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/token" {
		if err := r.ParseForm(); err != nil {
			return nil, err
		}
		r = r.Clone(r.Context())
		r.PostForm.Set("code_verifier", strings.Repeat("x", 43))
		body := r.PostForm.Encode()
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	return http.DefaultTransport.RoundTrip(r)
}

// TestInteropBrowserFailed: The identity provider refuses a code with the wrong
// verifier (RFC 7636 §4.6). The page says that the sign-in did not succeed, and
// nothing of it is kept.
func TestInteropBrowserFailed(t *testing.T) {
	issuer, path := startForPeople(t, 600), filepath.Join(t.TempDir(), "cache.bin")
	p := newPerson(t, slices.Concat(login, consent, seeFailed))
	_, err := interactive(p, issuer, path,
		func(c *cdfauth.InteractiveConfig) {
			c.HTTPClient = &http.Client{Transport: spoiler{}}
		}).Token(p.ctx)
	if oe := refusal(t, err); oe.Code != "invalid_grant" || oe.StatusCode != 400 { // PKCE is in force
		t.Errorf("with a wrong verifier: %v", err)
	}
	p.lookAtAnswer("http://localhost:0/", failed)
	if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(ann)) {
		t.Error("a failed sign-in is remembered")
	}
}

// TestInteropBrowserFormPost: A page of the identity provider may post the answer
// (OAuth 2.0 Form Post Response Mode). Before that the person opens a page of the
// listener by accident, which must not matter.
func TestInteropBrowserFormPost(t *testing.T) {
	issuer, path := startForPeople(t, 600), filepath.Join(t.TempDir(), "cache.bin")
	p := newPerson(t, slices.Concat(login, consent, seeSignedIn))
	p.rewrite = func(address string) (string, steps) {
		u, err := url.Parse(address)
		if err != nil {
			t.Error(err)
			return address, nil
		}
		p.astray = u.Query().Get("redirect_uri") + "?state=guessed&code=forged"
		return p.astray, slices.Concat(seeAstray, steps{{"open", address + "&response_mode=form_post"}})
	}
	p.wantAnns(interactive(p, issuer, path,
		func(c *cdfauth.InteractiveConfig) { c.RedirectURL = "http://127.0.0.1:0/callback" }), issuer)
	p.lookAtAnswer("http://127.0.0.1:0/callback", signedIn)
}

// TestInteropBrowserRotation: Access tokens live for 3 s, and each refresh token
// serves once. If the provider redeemed one twice, the identity provider would
// revoke them all.
func TestInteropBrowserRotation(t *testing.T) {
	issuer, path := startForPeople(t, 3), filepath.Join(t.TempDir(), "cache.bin")
	p := newPerson(t, slices.Concat(login, consent, seeSignedIn))
	provider := interactive(p, issuer, path)
	tok := p.wantAnns(provider, issuer)
	p.lookAtAnswer("http://localhost:0/", signedIn)
	used := map[string]bool{}
	wantNew := func() {
		t.Helper()
		if r, name := kept(t, path); r == "" || used[r] || name != ann {
			t.Errorf("the cache has the refresh token %q of %q; those before: %v", r, name, used)
		} else {
			used[r] = true
		}
	}
	wantNew()
	often := time.NewTicker(50 * time.Millisecond) // a busy program
	defer often.Stop()
	for len(used) < 4 && p.ctx.Err() == nil {
		<-often.C
		now, err := provider.Token(p.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if now.AccessToken() != tok.AccessToken() {
			tok = now
			p.checkAnns(tok, issuer)
			wantNew()
		}
	}
	// The program ends. When it starts again, its token has expired.
	<-time.After(time.Until(tok.Expiry()))
	provider = interactive(p, issuer, path)
	if now := p.wantAnns(provider, issuer); now.AccessToken() == tok.AccessToken() {
		t.Error("a token that had expired was handed out")
	}
	wantNew()
}

// TestInteropBrowserDeviceCode: A person enters the code, or opens the address that
// has it, and approves or declines.
func TestInteropBrowserDeviceCode(t *testing.T) {
	issuer := startForPeople(t, 600)
	for _, tt := range []struct {
		name     string
		complete bool // by the address that has the code in it
		plan     steps
		code     string // of the error
	}{
		{"approved", false, slices.Concat(confirmCode, login, consent, seeApproved), ""},
		{"approved, complete address", true, slices.Concat(confirmCode, login, consent, seeApproved), ""},
		{"declined at the code", false, slices.Concat(abortCode, seeAbandoned), "access_denied"},
		{"declined at the consent", true, slices.Concat(confirmCode, login, cancel, seeAbandoned),
			"access_denied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // each waits for 5 s before it asks for the first time
			path := filepath.Join(t.TempDir(), "cache.bin")
			p := newPerson(t, tt.plan)
			cfg := cdfauth.DeviceCodeConfig{Endpoint: cdfauth.Issuer(issuer), ClientID: "program",
				Scopes: []string{"read"}, Options: cdfauth.Options{Cache: cacheFile(t, path)},
				ShowCode: func(ctx context.Context, a cdfauth.DeviceAuthorization) error {
					if left := time.Until(a.Expiry); a.UserCode == "" ||
						!strings.Contains(a.VerificationURIComplete, a.UserCode) || left < time.Minute ||
						left > time.Hour {
						t.Errorf("shown: %+v", a)
					}
					p.rewrite = func(address string) (string, steps) {
						return address,
							steps{{"fill", "[name=user_code]", a.UserCode}, {"click", "[form='op.deviceInputForm']"}}
					}
					if tt.complete {
						p.rewrite = func(string) (string, steps) { return a.VerificationURIComplete, nil }
					}
					return p.open(ctx, a.VerificationURI)
				}}
			provider, err := cdfauth.NewDeviceCode(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if tt.code != "" {
				_, err := provider.Token(p.ctx)
				if oe := refusal(t, err); oe.Code != tt.code || !strings.Contains(err.Error(), "declined") {
					t.Errorf("got %v", err)
				}
				if s := p.look(); !strings.Contains(s.Text, "was interrupted") {
					t.Errorf("the provider's page says %q", s.Text)
				}
				return
			}
			tok := p.wantAnns(provider, issuer)
			p.look()
			if r, name := kept(t, path); r == "" || name != ann {
				t.Errorf("the cache has the refresh token %q of %q", r, name)
			}
			cfg.Cache = cacheFile(t, path)
			if provider, err = cdfauth.NewDeviceCode(cfg); err != nil {
				t.Fatal(err)
			}
			// The next start: nobody is asked.
			if again, err := provider.Token(p.ctx); err != nil || again.AccessToken() != tok.AccessToken() ||
				again.Username() != ann {
				t.Errorf("at the next start: a token of %q, %v", again.Username(), err)
			}
		})
	}
}
