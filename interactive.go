package cdfauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
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
type Interactive struct{ engine *engine }

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
	user, err := newUser("interactive", "authorization_code", cfg)
	if err = cmp.Or(err, bad, refuse("cdfauth: ", []refusal{
		{!slices.Contains([]string{"", "select_account", "login", "consent"}, cfg.Prompt), fmt.Sprintf("Prompt is %.64q: want select_account, login, consent or none", cfg.Prompt)},
		{cfg.Input != nil && !reflect.ValueOf(cfg.Input).Comparable(), fmt.Sprintf("Input is a %T, which cannot be told from others: want a pointer", cfg.Input)},
	})); err != nil {
		return nil, err
	}
	user.engine.listen, user.signIn = net.Listen, (&browser{user, u, field}).signIn
	return &Interactive{user.engine}, nil
}

// Token is as [DeviceCode.Token]. ErrSignInRequired also says that no browser opens and nothing can be pasted.
func (p *Interactive) Token(ctx context.Context) (Token, error) { return (*app)(p).token(ctx) }

// Invalidate is as [DeviceCode.Invalidate].
func (p *Interactive) Invalidate(t Token) { (*app)(p).invalidate(t) }

// SignOut is as [DeviceCode.SignOut].
func (p *Interactive) SignOut(ctx context.Context) error { return (*app)(p).signOut(ctx) }

type browser struct { // how people sign in; redirect is from that field of the configuration
	*user
	redirect *url.URL
	field    string
}

type visit struct { // one sign-in: what was sent with the browser, and what has come back. What happens once is the end of a context.
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

func newVisit(redirect *url.URL, m *metadata) *visit {
	v := &visit{redirect: redirect, provider: m, state: rand.Text() + rand.Text()}
	v.settled, v.settle = context.WithCancel(context.Background())
	v.over, v.end = context.WithCancel(context.Background())
	v.told, v.tell = context.WithCancel(context.Background())
	return v
}

func (b *browser) signIn(ctx context.Context, q *question) (i issued, said claims, err error) {
	c := b.client
	address, err := c.endpointURL(ctx, "authorize")
	if err != nil {
		return i, said, err
	}
	u, _ := parseURL(address)            // which has passed it before
	listeners, redirect, err := b.bind() // before the browser opens: nobody else can get the answer
	if err != nil {
		return i, said, err
	}
	v := newVisit(redirect, q.metadata)
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
		said, err = b.believe(i, q.Issuer, nonce, v.code(), verifier)
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

// bind listens where the browser is sent back to. localhost is both loopback addresses, of which browsers pick either; a port may be free on one alone.
func (b *browser) bind() (listeners []net.Listener, redirect *url.URL, err error) {
	host, port := b.redirect.Hostname(), b.redirect.Port()
	addresses := []string{host}
	if strings.EqualFold(host, "localhost") {
		addresses = []string{"127.0.0.1", "::1"}
	}
	for try := 1; ; try++ {
		p := port
		for _, address := range addresses {
			var l net.Listener
			if l, err = b.engine.listen("tcp", net.JoinHostPort(address, p)); err == nil {
				listeners = append(listeners, l)
				_, p, _ = net.SplitHostPort(l.Addr().String())
			} else if other, none := b.engine.listen("tcp", net.JoinHostPort(address, "0")); none == nil {
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
func (v *visit) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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

func (v *visit) answer(values url.Values) bool { // takes the first answer that has the right state, and each parameter once. What else it says is looked at in this order: iss, error, code.
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

func (m *metadata) names(iss string) bool { // reports whether iss is this provider's issuer. Entra's metadata for several tenants has a placeholder in it.
	before, after, several := strings.Cut(m.Issuer, "{tenantid}")
	rest, ok1 := strings.CutPrefix(iss, before)
	tenant, ok2 := strings.CutSuffix(rest, after)
	return iss == m.Issuer || several && ok1 && ok2 && isName(tenant, "-.")
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

// ask tells the person what to do, opens the browser, and if none opens lets the person paste the answer.
func (b *browser) ask(ctx context.Context, stop context.CancelCauseFunc, v *visit, address string) {
	b.tell(ctx, "\nTo sign in, use the browser page that opens now. If none does, open this address in a browser on this computer:\n\n    "+address+"\n\n")
	_, err := guarded(ctx, "OpenBrowser", func() error { return b.cfg.OpenBrowser(ctx, address) })
	in := b.cfg.Input
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

var reading sync.Map // has the reads that are under way, by Input: they cannot be stopped, so the next sign-in takes them over

type pasted struct { // a line, for all the sign-ins that wait for one
	done chan struct{}
	line func() (string, error)
}

// readLine reads a line of at most 8 KiB; of a longer one, nothing. It takes one byte at a time: what follows the line is not its own.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	read := func(context.Context) (string, error) {
		var line []byte
		for b := make([]byte, 1); ; {
			switch _, err := io.ReadFull(in, b); { // which keeps a byte that comes with an error
			case err != nil && len(line) == 0:
				return "", err
			case (err != nil || b[0] == '\n') && len(line) > 8<<10:
				return "", nil
			case err != nil || b[0] == '\n':
				return string(line), nil
			case len(line) <= 8<<10:
				line = append(line, b[0])
			}
		}
	}
	next := &pasted{done: make(chan struct{})}
	if earlier, ok := reading.LoadOrStore(in, next); ok {
		next = earlier.(*pasted)
	} else {
		go func() {
			line, err := guard(context.Background(), "Input", read)
			next.line = func() (string, error) { return line, err }
			close(next.done)
		}()
	}
	select {
	case <-next.done:
		reading.CompareAndDelete(in, next)
		return next.line()
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// openBrowser tries what there is: never by a shell, which would take parts of a URL for commands, and only at URLs that parseURL has passed. An opener that
// still runs after two seconds has succeeded: some are the browser itself. It is left alone, and one goroutine waits for its end.
func openBrowser(ctx context.Context, url string) error {
	if _, err := parseURL(url); err != nil {
		return err
	}
	version, _ := os.ReadFile("/proc/version") // tells a Linux that is a guest of Windows (WSL), whose browser is wanted
	err := errors.New("there is no display (DISPLAY and WAYLAND_DISPLAY are not set), and BROWSER is not set")
	for _, command := range openers(runtime.GOOS, os.Getenv, strings.Contains(strings.ToLower(string(version)), "microsoft")) {
		ended := make(chan error, 1)
		go func() { ended <- exec.Command(command[0], append(command[1:], url)...).Run() }()
		select {
		case err = <-ended:
			if err == nil {
				return nil
			}
		case <-time.After(2 * time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// openers returns the commands to try, less the URL, their last argument. BROWSER has a list of commands; %s, where the URL would go, is left out.
func openers(system string, getenv func(string) string, wsl bool) (commands [][]string) {
	for _, named := range filepath.SplitList(getenv("BROWSER")) {
		if fields := strings.Fields(strings.ReplaceAll(named, "%s", "")); len(fields) > 0 {
			commands = append(commands, fields)
		}
	}
	switch {
	case commands != nil:
		return commands
	case system == "windows": // start, a command of the shell's, would end the URL at its first &
		return [][]string{{filepath.Join(cmp.Or(getenv("SystemRoot"), `C:\Windows`), "System32", "rundll32.exe"), "url.dll,FileProtocolHandler"}}
	case system == "darwin":
		return [][]string{{"/usr/bin/open"}}
	case wsl:
		return [][]string{{"wslview"}, {"/mnt/c/Windows/System32/rundll32.exe", "url.dll,FileProtocolHandler"}}
	case getenv("DISPLAY") == "" && getenv("WAYLAND_DISPLAY") == "":
		return nil // or a text browser would take over the terminal
	}
	return [][]string{{"xdg-open"}}
}

type claims struct { // what is read of an ID token (OpenID Connect Core §2), for the account's identity and nothing else
	Iss, Sub, Azp, Nonce, Oid, Tid, UPN string
	Aud                                 json.RawMessage
	Exp                                 float64
	PreferredUsername                   string `json:"preferred_username"`
}

func parseIDToken(raw string) (s claims, err error) { // reads the claims. The signature is not needed: the token comes from the token endpoint itself, over TLS (§3.1.3.7, number 6).
	parts := strings.SplitN(raw+"..", ".", 6)
	b, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if len(parts) != 5 || json.Unmarshal(b, &s) != nil || s.Sub == "" {
		return claims{}, errors.New("cdfauth: the answer's id_token is not an ID token")
	}
	return s, nil
}

// believe judges an ID token, if there is one, as a client of the code flow has to (§3.1.3.7), before anything is kept. nonce is "" where none was sent.
func (u *user) believe(i issued, issuer, nonce string, secrets ...string) (claims, error) {
	if i.answer.IDToken == "" {
		return claims{}, nil
	}
	s, err := parseIDToken(i.answer.IDToken)
	if err != nil {
		return claims{}, err
	}
	var audience []string
	if json.Unmarshal(s.Aud, &audience) != nil {
		audience = make([]string, 1)
		_ = json.Unmarshal(s.Aud, &audience[0]) // if it is neither, it names nobody
	}
	return s, refuse("cdfauth: the ID token ", []refusal{
		{s.Iss == "" || s.Iss != strings.ReplaceAll(issuer, "{tenantid}", s.Tid), // Entra's metadata for several tenants
			fmt.Sprintf("is of issuer %q, and %q was expected", scrub(s.Iss, 200, append(secrets, i.answer.AccessToken, i.answer.RefreshToken)...), scrub(issuer, 200))},
		{!slices.Contains(audience, u.client.id), "is for another client"},
		{s.Azp != "" && s.Azp != u.client.id || s.Azp == "" && len(audience) > 1, "was issued to another client (azp)"},
		{!(s.Exp > float64(u.client.now().Add(-5*time.Minute).Unix())), "has expired (is this computer's clock right?)"},
		{nonce != "" && subtle.ConstantTimeCompare([]byte(nonce), []byte(s.Nonce)) != 1, "is of another sign-in (nonce)"},
	})
}
