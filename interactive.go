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
	"sync"
	"time"
)

// This file is the authorization code flow for programs on a person's own machine (RFC 8252) with PKCE (RFC 7636): a listener on
// loopback is opened, then the browser at the authorization endpoint with
//
//	response_type=code, client_id, redirect_uri, scope, state, nonce, code_challenge, code_challenge_method=S256,
//	prompt, login_hint, Params
//
// and when it comes back with a code, that is exchanged at the token endpoint by a POST of
//
//	grant_type=authorization_code, client_id, code, redirect_uri, code_verifier, scope, Params
//
// In this order: the configuration, the sign-in, the listener, what is accepted as an answer, the page that a person sees, and
// pasting an answer where there is no browser. browser.go opens the browser.

// InteractiveConfig configures [NewInteractive]. Endpoint (any but TokenURL), ClientID, Scopes and Params are as in
// [ClientCredentialsConfig]; openid, profile and offline_access are added to the scopes.
type InteractiveConfig struct {
	Endpoint Endpoint
	ClientID string
	Scopes   []string
	Params   url.Values
	// RedirectPort is the port of http://localhost:{port}, which the provider has to know as a redirect URI. 0 means
	// DefaultRedirectPort.
	RedirectPort int
	// RedirectURL replaces RedirectPort by a loopback URL as it is registered, such as http://127.0.0.1:8400/callback. Port 0 means
	// a free one, for providers that do not mind (RFC 8252 §7.3).
	RedirectURL string
	// Prompt is "", "select_account", "login" or "consent" (OpenID Connect Core §3.1.2.1). Other than "" it makes the first Token
	// call open the browser, whatever the cache has.
	Prompt string
	// LoginHint is the user name that is meant. It picks among the accounts in the cache and is told to the provider.
	LoginHint string
	// OpenBrowser opens the URL; its error is no failure: the person is asked to do it. nil opens the system's browser, or what the
	// variable BROWSER names.
	OpenBrowser func(ctx context.Context, url string) error
	// Input is where the address that the browser ended at can be pasted when none could be opened here. nil means standard input
	// if it is a terminal. Reading cannot be stopped: the next sign-in takes over a read under way.
	Input io.Reader
	// Output is where the URL and what to do are shown. nil means standard error.
	Output io.Writer
	Options
}

// Interactive is the provider of the interactive flow.
type Interactive app

// DefaultRedirectPort is that of Cognite's Python SDK.
const DefaultRedirectPort = 53000

// NewInteractive returns a provider for a person with a browser. It checks cfg, names the field that is wrong, and does no I/O.
func NewInteractive(cfg InteractiveConfig) (*Interactive, error) {
	return newInteractive(cfg, net.Listen)
}

func newInteractive(cfg InteractiveConfig, listen func(network, address string) (net.Listener, error)) (*Interactive, error) {
	c, e, err := newClient("interactive", cfg.Endpoint, cfg.ClientID, cfg.Scopes, cfg.Params, cfg.Options)
	if err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"", "select_account", "login", "consent"}, cfg.Prompt) {
		return nil, fmt.Errorf("cdfauth: Prompt is %.64q: want select_account, login, consent or none", cfg.Prompt)
	}
	b := &browser{open: cfg.OpenBrowser, input: cfg.Input, listen: listen}
	if b.redirect, b.field, err = redirectURL(cfg); err != nil {
		return nil, err
	}
	if b.open == nil {
		b.open = openBrowser
	}
	if b.input != nil && !reflect.TypeOf(b.input).Comparable() {
		return nil, fmt.Errorf("cdfauth: Input is a %T, which cannot be told from others: want a pointer", b.input)
	}
	output := cfg.Output
	if output == nil {
		output = os.Stderr
	}
	u, err := newUser(c, e, cfg.Options, cfg.LoginHint, "authorization_code", output)
	if err != nil {
		return nil, err
	}
	u.prompt, b.user, u.signIn = cfg.Prompt, u, b.signIn
	return &Interactive{e}, nil
}

// redirectURL returns where the browser is sent back to, and the name of the field that says so.
func redirectURL(cfg InteractiveConfig) (*url.URL, string, error) {
	if cfg.RedirectURL == "" {
		port := cfg.RedirectPort
		if port == 0 {
			port = DefaultRedirectPort
		}
		if port < 0 || port > 65535 {
			return nil, "", fmt.Errorf("cdfauth: RedirectPort is %d: want 1 to 65535", port)
		}
		return &url.URL{Scheme: "http", Host: "localhost:" + strconv.Itoa(port)}, "RedirectPort", nil
	}
	u, err := parseURL(cfg.RedirectURL)
	switch {
	case cfg.RedirectPort != 0:
		err = errors.New("and RedirectPort are both set: want one of them")
	case err != nil:
	case u.Scheme != "http" || !isLoopback(u.Hostname()) || u.RawQuery != "" || u.ForceQuery:
		err = errors.New("is not http on a loopback host, without a query")
	default:
		var n uint64
		if n, err = strconv.ParseUint(u.Port(), 10, 16); err != nil || strconv.FormatUint(n, 10) != u.Port() {
			err = errors.New("has no port: want one, or 0 for a free one")
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("cdfauth: RedirectURL %w", err)
	}
	return u, "RedirectURL", nil
}

// Token returns an access token for the person. It may have to ask for a sign-in, for 15 minutes at most: its errors are those of
// the context, [ErrSignInRequired] (see [WithoutInteraction]; also if no browser opens and nothing can be pasted), an [*OAuthError]
// when the identity provider refused (access_denied if the person did), and what the network had to say.
func (p *Interactive) Token(ctx context.Context) (Token, error) { return (*app)(p).token(ctx) }

// Invalidate is as [DeviceCode.Invalidate].
func (p *Interactive) Invalidate(t Token) { (*app)(p).invalidate(t) }

// SignOut is as [DeviceCode.SignOut].
func (p *Interactive) SignOut(ctx context.Context) error { return (*app)(p).signOut(ctx) }

// browser signs people in by one.
type browser struct {
	user     *user
	redirect *url.URL
	field    string // of the configuration, that redirect is from
	open     func(context.Context, string) error
	input    io.Reader
	listen   func(network, address string) (net.Listener, error) // net.Listen, but in tests
}

// visit is one sign-in: what was sent with the browser, and what has come back.
type visit struct {
	redirect *url.URL // redirect_uri
	provider *metadata
	state    string
	once     sync.Once
	settled  chan struct{} // closed when an answer with the right state has come:
	code     func() string // this, or
	err      error         // why it is none
	over     chan struct{} // closed when the sign-in has come to an end,
	page     []byte        // which this says
	telling  sync.Once
	told     chan struct{} // closed when the person has been told
}

func random() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// signIn asks a person.
func (b *browser) signIn(ctx context.Context, q *question) (i issued, said *claims, err error) {
	c := b.user.client
	address, err := c.endpointURL(ctx, "authorize", "authorization", func(m *metadata) string { return m.AuthorizeURL })
	if err != nil {
		return issued{}, nil, err
	}
	u, err := parseURL(address)
	if err != nil {
		return issued{}, nil, fmt.Errorf("cdfauth: Endpoint: the authorization endpoint %w", err)
	}
	listeners, redirect, err := b.bind() // before the browser opens: nobody else can get the answer
	if err != nil {
		return issued{}, nil, err
	}
	v := &visit{redirect: redirect, provider: q.metadata, state: random(), settled: make(chan struct{}), over: make(chan struct{}), told: make(chan struct{})}
	server := &http.Server{Handler: v, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10, ErrorLog: log.New(io.Discard, "", 0)}
	for _, l := range listeners {
		defer l.Close() // the server closes those that it has come to serve
		go server.Serve(l)
	}
	defer server.Close()

	nonce, verifier := random(), random()
	challenge := sha256.Sum256([]byte(verifier)) // RFC 7636 §4.2
	query := u.Query()
	maps.Copy(query, c.params)
	for name, value := range map[string]string{"response_type": "code", "client_id": c.id, "redirect_uri": redirect.String(), "scope": q.scope,
		"state": v.state, "nonce": nonce, "code_challenge": base64.RawURLEncoding.EncodeToString(challenge[:]), "code_challenge_method": "S256",
		"prompt": q.prompt, "login_hint": q.hint} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if c.entraStyle() {
		query.Set("client_info", "1")
	}
	u.RawQuery = query.Encode()

	asking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go b.ask(asking, stop, v, u.String())
	select {
	case <-v.settled:
	case <-asking.Done():
		return issued{}, nil, context.Cause(asking)
	}
	q.answered()
	if err = v.err; err == nil {
		i, err = c.exchange(ctx, "authorization_code", 1, func(ctx context.Context, _ string, f *form) error {
			f.Set("code", v.code())
			f.Set("redirect_uri", redirect.String())
			f.Set("code_verifier", verifier)
			f.secrets = append(f.secrets, v.code(), verifier)
			return b.user.identify(ctx, f)
		})
	}
	if err == nil {
		said, err = b.user.believe(i, q, nonce)
	}
	oe := (*OAuthError)(nil)
	switch errors.As(err, &oe); {
	case err == nil:
		v.page = page("You are signed in", "You can close this page and go back to the program that asked for it.")
	case oe != nil && oe.Code == "access_denied":
		v.page = page("Sign-in was declined", "Nobody was signed in. If that was not meant, start again in the program that asked for it.")
	default:
		v.page = page("Sign-in did not succeed", "The program that asked for it says why. You can close this page and go back to it.")
	}
	close(v.over)
	select {
	case <-v.told:
	case <-time.After(2 * time.Second): // the page was closed before; the sign-in counts all the same
	}
	return i, said, err
}

// bind listens on the redirect's port. localhost is both loopback addresses, of which browsers pick either; a machine without IPv6 has
// one. A port that is free on one may be taken on the other: of free ones, ten are tried.
func (b *browser) bind() (listeners []net.Listener, redirect *url.URL, err error) {
	host, port := b.redirect.Hostname(), b.redirect.Port()
	addresses := []string{host}
	if strings.EqualFold(host, "localhost") {
		addresses = []string{"127.0.0.1", "::1"}
	}
	var p string
	for try := 0; try == 0 || port == "0" && try < 10; try++ {
		p, err = port, nil
		for _, address := range addresses {
			l, busy := b.listen("tcp", net.JoinHostPort(address, p))
			if busy == nil {
				listeners = append(listeners, l)
				_, p, _ = net.SplitHostPort(l.Addr().String())
				continue
			}
			any, none := b.listen("tcp", net.JoinHostPort(address, "0"))
			if none == nil {
				any.Close()
			}
			if none == nil || len(listeners) == 0 {
				err = busy
			}
			break
		}
		if err == nil {
			u := *b.redirect
			u.Host = net.JoinHostPort(host, p)
			return listeners, &u, nil
		}
		for _, l := range listeners {
			l.Close()
		}
		listeners = nil
		err = fmt.Errorf("cdfauth: %s: port %s cannot be listened on (does another program use it, or another sign-in?): %w", b.field, p, err)
	}
	return nil, nil, err
}

// ServeHTTP takes the answer (RFC 6749 §4.1.2) and tells it from everything else: pages that browsers ask for by themselves, requests of
// other programs and other pages. It reflects nothing.
func (v *visit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var values url.Values
	status, err := 0, error(nil)
	switch {
	case originOf("http", r.Host) != originOf("http", v.redirect.Host): // DNS rebinding
		status = http.StatusMisdirectedRequest
	case strings.TrimPrefix(r.URL.Path, "/") != strings.TrimPrefix(v.redirect.Path, "/"):
		status = http.StatusNotFound
	case r.Method == http.MethodGet:
		values, err = url.ParseQuery(r.URL.RawQuery)
	case r.Method == http.MethodPost: // response_mode=form_post
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		err = r.ParseForm()
		values = r.PostForm
	default:
		status = http.StatusMethodNotAllowed
	}
	if status == 0 && err == nil && len(values) == 0 && v.isSettled() { // the address without the code, to which it was sent on
		select {
		case <-v.over:
			show(w, http.StatusOK, v.page)
			v.telling.Do(func() { close(v.told) })
		case <-r.Context().Done():
		}
		return
	}
	if status == 0 && err == nil && v.answer(values) {
		w.Header().Set("Location", v.redirect.String()) // the code does not stay in the address bar
		show(w, http.StatusSeeOther, nil)
		return
	}
	show(w, cmp.Or(status, http.StatusBadRequest), page("There is nothing here",
		"This address waits for the answer to a sign-in, and this was none. If you were signing in, start again in the program that asked for it."))
}

func (v *visit) isSettled() bool {
	select {
	case <-v.settled:
		return true
	default:
		return false
	}
}

// answer takes the first answer that has the right state, and each parameter once. What else it says is looked at in this order: iss,
// error, code.
func (v *visit) answer(values url.Values) bool {
	twice := func(name string) bool { return len(values[name]) != 1 }
	if subtle.ConstantTimeCompare([]byte(values.Get("state")), []byte(v.state)) != 1 || slices.ContainsFunc(slices.Collect(maps.Keys(values)), twice) {
		return false
	}
	v.once.Do(func() {
		iss, code, failure := values.Get("iss"), values.Get("code"), values.Get("error")
		switch {
		case iss != "" && !v.provider.names(iss): // RFC 9207 §2.4
			v.err = fmt.Errorf("cdfauth: interactive: the answer is of issuer %q, and %q was asked (a mix-up, or an attack)", scrub(iss, 200), scrub(v.provider.Issuer, 200))
		case iss == "" && v.provider.SendsIssuer:
			v.err = errors.New("cdfauth: interactive: the answer does not say which issuer it is of, although the provider promises it")
		case failure != "":
			v.err = fmt.Errorf("cdfauth: interactive: the sign-in failed: %w", &OAuthError{Code: scrub(failure, 64),
				Description: scrub(values.Get("error_description"), 500), URI: scrub(values.Get("error_uri"), 200)})
		case code == "":
			v.err = errors.New("cdfauth: interactive: the answer has neither a code nor an error")
		}
		v.code = func() string { return code }
		close(v.settled)
	})
	return true
}

// names reports whether iss is this provider's issuer. Entra's metadata for several tenants has a placeholder in it.
func (m *metadata) names(iss string) bool {
	before, after, several := strings.Cut(m.Issuer, "{tenantid}")
	rest, ok1 := strings.CutPrefix(iss, before)
	tenant, ok2 := strings.CutSuffix(rest, after)
	return iss == m.Issuer || several && ok1 && ok2 && isName(tenant, "-.")
}

const style = `:root{color-scheme:light dark}body{font:18px/1.5 system-ui,sans-serif;max-width:32em;margin:18vh auto 0;padding:0 1.5em}h1{font-size:1.5em;font-weight:600}`

// page is what a person sees: no script, nothing from elsewhere, nothing from the request.
func page(title, text string) []byte {
	return []byte(`<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>` +
		title + `</title><style>` + style + `</style></head><body><h1>` + title + `</h1><p>` + text + `</p></body></html>` + "\n")
}

// show sends a page, all of it, and closes the connection.
func show(w http.ResponseWriter, status int, page []byte) {
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

// ask tells the person what to do, opens the browser, and if none opens lets the person paste the answer.
func (b *browser) ask(ctx context.Context, stop context.CancelCauseFunc, v *visit, address string) {
	_ = b.user.tell(ctx, "\nTo sign in, use the browser page that opens now. If none does, open this address in a browser on this computer:\n\n    "+address+"\n\n")
	_, err := guard(ctx, "OpenBrowser", func(ctx context.Context) (none struct{}, err error) { return none, b.open(ctx, address) })
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
	_ = b.user.tell(ctx, "No browser opens here ("+scrub(err.Error(), 200)+"). Open the address in one elsewhere, sign in, copy the whole address of the page\nthat it ends at (it may say that the page cannot be reached), paste it here and press Enter:\n")
	for {
		line, err := readLine(ctx, in)
		if err != nil {
			stop(fmt.Errorf("%w: no browser opens, and Input has ended: %w", ErrSignInRequired, err))
			return
		}
		u, err := url.Parse(strings.TrimSpace(line))
		if err == nil && u.Host != "" && originOf(u.Scheme, u.Host) == originOf("http", v.redirect.Host) && strings.Trim(u.Path, "/") == strings.Trim(v.redirect.Path, "/") {
			if values, err := url.ParseQuery(u.RawQuery); err == nil && v.answer(values) {
				v.telling.Do(func() { close(v.told) }) // there is no page
				return
			}
		}
		_ = b.user.tell(ctx, "That is not the answer to this sign-in. Paste the whole address, which begins with "+v.redirect.String()+" and has state= in it:\n")
	}
}

// reading has the reads that are under way, by Input: they cannot be stopped, so the next sign-in takes them over.
var reading = struct {
	sync.Mutex
	lines map[io.Reader]chan func() (string, error)
}{lines: map[io.Reader]chan func() (string, error){}}

// readLine reads a line of at most 8 KiB; of a longer one, nothing. It takes one byte at a time: what follows the line is not its own.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	read := func(context.Context) (string, error) {
		var line []byte
		for b := make([]byte, 1); ; {
			n, err := in.Read(b)
			switch {
			case n > 0 && b[0] == '\n', err != nil && len(line) > 0:
				if len(line) > 8<<10 {
					line = nil
				}
				return string(line), nil
			case err != nil:
				return "", err
			case n > 0 && len(line) <= 8<<10:
				line = append(line, b[0])
			}
		}
	}
	reading.Lock()
	c := reading.lines[in]
	if c == nil {
		c = make(chan func() (string, error), 1)
		reading.lines[in] = c
		go func() {
			line, err := guard(context.Background(), "Input", read)
			c <- func() (string, error) { return line, err }
		}()
	}
	reading.Unlock()
	select {
	case line := <-c:
		reading.Lock()
		delete(reading.lines, in)
		reading.Unlock()
		return line()
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
