//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file is the authorization code flow for programs on a person's own machine (RFC 8252) with PKCE (RFC 7636): a listener on loopback is opened, then the
// browser at the authorization endpoint with response_type, client_id, redirect_uri, scope, state, nonce, code_challenge, code_challenge_method, prompt, login_hint
// and Params; the code that it comes back with is exchanged by a POST of grant_type, client_id, code, redirect_uri, code_verifier, scope and Params.

// InteractiveConfig configures [NewInteractive]. The first fields are as in [DeviceCodeConfig].
type InteractiveConfig struct {
	Endpoint     Endpoint
	ClientID     string
	Scopes       []string
	Params       url.Values
	RedirectPort int // of http://localhost:{port}, which the provider has to know as a redirect URI; 0 means DefaultRedirectPort
	// RedirectURL replaces it by a loopback URL as registered, such as http://127.0.0.1:8400/callback. Port 0 means a free one, if the provider permits (RFC 8252 §7.3).
	RedirectURL string
	// Prompt is "", "select_account", "login" or "consent" (OpenID Connect Core §3.1.2.1). If not "", the first Token opens the browser, whatever the cache has.
	Prompt    string
	LoginHint string // the user name that is meant: picks among the accounts in the cache and is told to the provider
	// OpenBrowser opens the URL; its error is no failure: the person is asked to do it. nil opens the system's browser, or what the variable BROWSER names.
	OpenBrowser func(ctx context.Context, url string) error
	// Input is where the address that the browser ended at can be pasted when none could be opened here. nil means standard input if it is a terminal. Reading
	// cannot be stopped: the next sign-in takes over a read under way.
	Input  io.Reader
	Output io.Writer // where the URL and what to do are shown; nil means standard error
	Options
}

// Interactive is the provider of the interactive flow.
type Interactive struct {
	refresher *refresher
	flow      func() *browserFlow // a function value, so that nobody can print the provider's state
}

// DefaultRedirectPort is that of Cognite's Python SDK.
const DefaultRedirectPort = 53000

// NewInteractive returns a provider for a person with a browser. It checks cfg, names the field that is wrong, and does no I/O.
func NewInteractive(cfg InteractiveConfig) (*Interactive, error) {
	raw, field := cfg.RedirectURL, "RedirectURL"
	if raw == "" {
		raw, field = "http://localhost:"+strconv.FormatUint(uint64(cmp.Or(cfg.RedirectPort, DefaultRedirectPort)), 10), "RedirectPort"
	}
	u, bad := parseURL(raw)
	port, none := strconv.ParseUint(u.Port(), 10, 16)
	if bad = cmp.Or(bad, refuse("", []refusal{
		{none != nil || strconv.FormatUint(port, 10) != u.Port(), "has no port from 1 to 65535, or 0 for a free one"},
		{cfg.RedirectURL != "" && cfg.RedirectPort != 0, "and RedirectPort are both set: want one of them"},
		{u.Scheme != "http" || u.RawQuery != "" || u.ForceQuery, "is not http on a loopback host, without a query"},
	})); bad != nil {
		bad = fmt.Errorf("cdfauth: %s %w", field, bad)
	}
	cfg.Output = cmp.Or[io.Writer](cfg.Output, os.Stderr)
	if cfg.OpenBrowser == nil {
		cfg.OpenBrowser = openBrowser
	}
	user, err := newSignIn(signInConfig{
		flow:          "interactive",
		accountSource: "authorization_code",
		endpoint:      cfg.Endpoint,
		clientID:      cfg.ClientID,
		scopes:        cfg.Scopes,
		params:        cfg.Params,
		loginHint:     cfg.LoginHint,
		prompt:        cfg.Prompt,
		output:        cfg.Output,
		options:       cfg.Options,
	})
	if err = cmp.Or(err, bad, refuse("cdfauth: ", []refusal{
		{!slices.Contains([]string{"", "select_account", "login", "consent"}, cfg.Prompt), fmt.Sprintf("Prompt is %.64q: want select_account, login, consent or none", cfg.Prompt)},
		{cfg.Input != nil && !reflect.ValueOf(cfg.Input).Comparable(), fmt.Sprintf("Input is a %T, which cannot be told from others: want a pointer", cfg.Input)},
	})); err != nil {
		return nil, err
	}
	flow := &browserFlow{signIn: user, redirect: u, field: field, openBrowser: cfg.OpenBrowser, input: cfg.Input, listen: net.Listen}
	user.authorize = flow.authorize
	return &Interactive{user.refresher, func() *browserFlow { return flow }}, nil
}

// Token is as [DeviceCode.Token]. ErrSignInRequired also says that no browser opens and nothing can be pasted.
func (p *Interactive) Token(ctx context.Context) (Token, error) {
	if p == nil || p.refresher == nil {
		return Token{}, errNotMade
	}
	return p.refresher.Token(ctx)
}

// Invalidate is as [DeviceCode.Invalidate].
func (p *Interactive) Invalidate(t Token) {
	if p != nil && p.refresher != nil {
		p.refresher.Invalidate(t)
	}
}

// SignOut is as [DeviceCode.SignOut].
func (p *Interactive) SignOut(ctx context.Context) error {
	if p == nil || p.flow == nil {
		return errNotMade
	}
	return p.flow().signOut(ctx)
}

type browserFlow struct { // how people sign in; redirect is from that field of the configuration
	*signIn
	redirect    *url.URL
	field       string
	openBrowser func(ctx context.Context, url string) error
	input       io.Reader
	listen      func(network, address string) (net.Listener, error) // net.Listen, but in tests
}

func (b *browserFlow) authorize(ctx context.Context, q *promptRequest) (i grant, said claims, err error) {
	c := b.client
	address, err := c.endpointURL(ctx, "authorize")
	if err != nil {
		return i, said, err
	}
	u, _ := parseURL(address)                     // which has passed it before
	listeners, redirect, err := b.openListeners() // before the browser opens: nobody else can get the answer
	if err != nil {
		return i, said, err
	}
	v := newCallback(redirect, q.metadata)
	server := &http.Server{Handler: v, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	for _, l := range listeners {
		defer l.Close() // the server closes those that it has come to serve
		go server.Serve(l)
	}
	defer server.Close()
	nonce, verifier := rand.Text()+rand.Text(), rand.Text()+rand.Text() // RFC 7636 §4.1: 43 characters or more; these are 52 of 5 random bits each
	challenge := sha256.Sum256([]byte(verifier))                        // §4.2
	query := u.Query()
	maps.Copy(query, c.params)
	for name, value := range map[string]string{"response_type": "code", "client_id": c.id, "redirect_uri": redirect.String(), "scope": q.scope,
		"state": v.state, "nonce": nonce, "code_challenge": base64.RawURLEncoding.EncodeToString(challenge[:]), "code_challenge_method": "S256",
		"prompt": q.prompt, "login_hint": q.hint, "client_info": map[bool]string{true: "1"}[c.entraStyle()]} {
		if value != "" {
			query.Set(name, value)
		}
	}
	u.RawQuery = query.Encode()
	asking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go b.ask(asking, stop, v, u.String())
	select {
	case <-v.settled.Done():
	case <-asking.Done():
		return i, said, context.Cause(asking)
	}
	q.answered()
	if err = v.err; err == nil {
		fields := url.Values{"code": {v.code()}, "redirect_uri": {redirect.String()}, "code_verifier": {verifier}}
		i, err = c.exchange(ctx, "authorization_code", 1, b.filler(fields, v.code(), verifier))
	}
	if err == nil {
		said, err = b.verifyIDToken(i, q.Issuer, nonce, v.code(), verifier)
	}
	v.page = page("You are signed in", "You can close this page and go back to the program that asked for it.")
	if oe := (*OAuthError)(nil); errors.As(err, &oe) && oe.Code == "access_denied" {
		v.page = page("Sign-in was declined", "Nobody was signed in. If that was not meant, start again in the program that asked for it.")
	} else if err != nil {
		v.page = page("Sign-in did not succeed", "The program that asked for it says why. You can close this page and go back to it.")
	}
	v.end()
	sleep(v.told, 2*time.Second) // then the page was closed before; the sign-in counts all the same
	return i, said, err
}

// ask tells the person what to do, opens the browser, and if none opens lets the person paste the answer.
func (b *browserFlow) ask(ctx context.Context, stop context.CancelCauseFunc, v *callback, address string) {
	b.tell(ctx, "\nTo sign in, use the browser page that opens now. If none does, open this address in a browser on this computer:\n\n    "+address+"\n\n")
	_, err := guarded(ctx, "OpenBrowser", func() error { return b.openBrowser(ctx, address) })
	in := b.input
	if fi, e := os.Stdin.Stat(); in == nil && e == nil && fi.Mode()&os.ModeCharDevice != 0 {
		in = os.Stdin
	}
	switch {
	case err == nil || ctx.Err() != nil:
		return
	case in == nil:
		stop(fmt.Errorf("%w: no browser opens, and Input is not there to paste an answer to: %w", ErrSignInRequired, err))
		return
	}
	b.tell(ctx, "No browser opens here ("+scrub(err.Error(), 200)+"). Open the address in one elsewhere, sign in, copy the whole address of the page\nthat it ends at (it may say that the page cannot be reached), paste it here and press Enter:\n")
	for {
		line, err := readLine(ctx, in)
		if err != nil {
			stop(fmt.Errorf("%w: no browser opens, and Input has ended: %w", ErrSignInRequired, err))
			return
		}
		u, _ := parseURL(strings.TrimSpace(line)) // of what is none, an empty one
		values, bad := url.ParseQuery(u.RawQuery)
		ours := originOf(u.Scheme, u.Host) == originOf("http", v.redirect.Host) && strings.Trim(u.Path, "/") == strings.Trim(v.redirect.Path, "/")
		if ours && bad == nil && v.answer(values) {
			v.tell() // there is no page
			return
		}
		b.tell(ctx, "That is not the answer to this sign-in. Paste the whole address, which begins with "+v.redirect.String()+" and has state= in it:\n")
	}
}
