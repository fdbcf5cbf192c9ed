//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"strconv"
	"time"
)

// This file is the authorization code flow (RFC 6749 §4.1) for programs on a person's
// own machine (RFC 8252), with a proof key (PKCE, RFC 7636).
//
// A sign-in listens on loopback (loopback.go), then opens a browser (browser.go) at
// the authorization endpoint. The browser comes back with a code, or the person
// pastes the address that it ended at (paste.go). The code is exchanged by a POST of
// grant_type, client_id, code, redirect_uri, code_verifier, scope and Params at the
// token endpoint. What is common to the flows of a person is in signin.go.

// InteractiveConfig configures [NewInteractive].
type InteractiveConfig struct {
	// Endpoint is the identity provider. TokenURL is refused: it names no address at
	// which a person signs in.
	Endpoint Endpoint

	// ClientID is the application's id at the provider.
	ClientID string

	// Scopes are the permissions to ask for. openid, profile and offline_access are
	// added, as far as the provider knows them.
	Scopes []string

	// Params are more parameters for each request of the flow. Names that the flow
	// sets itself are refused.
	Params url.Values

	// RedirectPort is the port of http://localhost:{port}, which has to be registered
	// at the provider as a redirect URI. 0 means DefaultRedirectPort.
	RedirectPort int

	// RedirectURL replaces RedirectPort by a loopback URL as it is registered, such as
	// http://127.0.0.1:8400/callback. Port 0 means a free one, if the provider permits
	// that (RFC 8252 §7.3).
	RedirectURL string

	// Prompt is "", "select_account", "login" or "consent" (OpenID Connect Core
	// §3.1.2.1). If it is not "", the first call of Token opens the browser, whatever
	// is in the cache.
	Prompt string

	// LoginHint is the user name, in any case, of the person who is meant, or a hint
	// that they have signed in under before, such as an alias. It selects one of the
	// accounts in the cache, and is sent to the provider. That somebody else signs in
	// is said on Output and logged, and no error.
	LoginHint string

	// OpenBrowser opens a URL. If it fails, the person is asked to open the URL. nil
	// means the system's browser, or what the environment variable BROWSER names.
	OpenBrowser func(ctx context.Context, url string) error

	// Input is where the person can paste the address that the browser ended at: at
	// once if none opens here, and if one does (it may be of no use, as on a server)
	// when 30 seconds have passed without an answer. nil means standard input if it is
	// a terminal. A read cannot be stopped: one that is still under way when the
	// sign-in ends takes the next line of Input, for the next sign-in.
	Input io.Reader

	// Output is where the URL and what to do are shown. nil means standard error. A
	// sign-in does not wait for one that blocks.
	Output io.Writer

	Options
}

// DefaultRedirectPort is the port that Cognite's Python SDK uses.
const DefaultRedirectPort = 53000

const maxPort = 65535

// Interactive is the provider of the authorization code flow.
type Interactive struct {
	refresher *refresher

	// flow is a function value, so that no printer can reach the codes, URLs and
	// outputs that it leads to.
	flow func() *browserFlow
}

// NewInteractive returns a provider for a person with a browser. It checks cfg, names
// the field that is wrong, and does no I/O.
func NewInteractive(cfg InteractiveConfig) (*Interactive, error) {
	err := cfg.check()
	if err != nil {
		return nil, err
	}
	redirect, field, err := cfg.redirect()
	if err != nil {
		return nil, err
	}
	if cfg.Output == nil {
		cfg.Output = os.Stderr
	}
	if cfg.OpenBrowser == nil {
		cfg.OpenBrowser = openBrowser
	}
	s, err := newSignIn(signInConfig{
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
	if err != nil {
		return nil, err
	}
	flow := &browserFlow{
		signIn:      s,
		redirect:    redirect,
		field:       field,
		openBrowser: cfg.OpenBrowser,
		input:       cfg.Input,
	}
	s.authorize = flow.authorize
	return &Interactive{
		refresher: s.refresher,
		flow:      func() *browserFlow { return flow },
	}, nil
}

// check reports the first field of cfg that is wrong, of those that are this flow's
// own.
func (cfg *InteractiveConfig) check() error {
	switch cfg.Prompt {
	case "", "select_account", "login", "consent":
	default:
		return badField("Prompt", "is %.64q: want select_account, login, consent or none", cfg.Prompt)
	}
	switch {
	case cfg.RedirectURL != "" && cfg.RedirectPort != 0:
		return badField("RedirectURL", "and RedirectPort are both set: want one of them")
	case cfg.Input != nil && !isComparable(cfg.Input):
		return badField("Input", "is a %T, which cannot be told from others: want a pointer", cfg.Input)
	}
	return nil
}

// redirect returns the URL that the browser is sent back to, and the name of the
// field that it comes from.
func (cfg *InteractiveConfig) redirect() (redirect *url.URL, field string, err error) {
	raw := cfg.RedirectURL
	field = "RedirectURL"
	if raw == "" {
		field = "RedirectPort"
		port := cmp.Or(cfg.RedirectPort, DefaultRedirectPort)
		if port < 0 || port > maxPort {
			return nil, field, badField(field, "is %d: want a port from 1 to %d", port, maxPort)
		}
		raw = "http://localhost:" + strconv.Itoa(port)
	}
	redirect, err = parseURL(raw)
	if err != nil {
		return nil, field, badField(field, "%w", err)
	}
	port, err := strconv.ParseUint(redirect.Port(), 10, 16)
	switch {
	case err != nil || strconv.FormatUint(port, 10) != redirect.Port():
		return nil, field, badField(field, "has no port from 1 to %d, or 0 for a free one", maxPort)
	case redirect.Scheme != "http" || redirect.RawQuery != "" || redirect.ForceQuery:
		return nil, field, badField(field, "is not http on a loopback host, without a query")
	}
	return redirect, field, nil
}

// Token returns an access token for the person. It may have to ask for a sign-in,
// which takes 15 minutes at most. Its errors are those of the context;
// [ErrSignInRequired] if nobody may be asked (see [WithoutInteraction]), or if no
// browser opens and there is nothing to paste an answer to; an [*OAuthError] if the
// identity provider refused (access_denied if the person did); or the network's.
func (p *Interactive) Token(ctx context.Context) (Token, error) {
	if p == nil || p.refresher == nil {
		return Token{}, errNotMade
	}
	return p.refresher.Token(ctx)
}

// Invalidate says that t was refused. If it is the current token, the next call of
// Token gets another, without asking anybody. It may be called at any rate.
func (p *Interactive) Invalidate(t Token) {
	if p != nil && p.refresher != nil {
		p.refresher.Invalidate(t)
	}
}

// SignOut removes the tokens and the name of the person from the cache and from
// memory, and nothing else. It does not revoke the tokens at the identity provider.
// While another program is signing in, it waits. It fails if people are signed in and
// LoginHint means none of them, or does not select one of several.
func (p *Interactive) SignOut(ctx context.Context) error {
	if p == nil || p.flow == nil {
		return errNotMade
	}
	return p.flow().signOut(ctx)
}

// A browserFlow is how people sign in with a browser on this machine.
type browserFlow struct {
	*signIn
	redirect    *url.URL   // redirect_uri; its port may be 0
	field       string     // of the configuration, which redirect comes from
	listen      listenFunc // nil but in tests
	openBrowser func(ctx context.Context, url string) error
	input       io.Reader // nil means standard input if it is a terminal
}

// authorize is one sign-in. Its error says why there is no token, and so does the
// page in the browser.
func (b *browserFlow) authorize(ctx context.Context, q *promptRequest) (grant, claims, error) {
	endpoint, err := b.client.endpointURL(ctx, "authorize")
	if err != nil {
		return grant{}, claims{}, err
	}
	// Before the browser opens, so that no other program can take the port meanwhile.
	listeners, redirect, err := listenLoopback(b.listen, b.redirect, b.field)
	if err != nil {
		return grant{}, claims{}, err
	}
	answer := newCallback(redirect, q.metadata)
	answer.tell = b.tell
	stop := answer.serve(listeners)
	defer stop()

	attempt := newAttempt()
	err = b.await(ctx, answer, b.authorizationURL(endpoint, answer, attempt, q))
	if err != nil {
		return grant{}, claims{}, err
	}
	q.answered()
	got, said, err := b.redeem(ctx, answer, attempt, q)
	answer.end(endPage(err))
	answer.waitShown()
	return got, said, err
}

// A signInAttempt has what is made up anew for each sign-in, besides the state.
type signInAttempt struct {
	nonce    string // comes back in the ID token (OpenID Connect Core §3.1.2.1)
	verifier string // code_verifier, which proves that the code was asked for here
}

// newAttempt makes a nonce and a code verifier. A verifier has 43 characters at least,
// all of them unreserved, and 256 random bits (RFC 7636 §4.1): this one has 260.
func newAttempt() *signInAttempt {
	return &signInAttempt{nonce: randomText(), verifier: randomText()}
}

// randomText returns 52 characters of 5 random bits each: A to Z and 2 to 7.
func randomText() string {
	return rand.Text() + rand.Text()
}

// codeChallenge returns what a code verifier is announced by, with the method S256
// (RFC 7636 §4.2).
func codeChallenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorizationURL returns the URL to open in a browser: the authorization endpoint,
// which may have a query of its own (RFC 6749 §3.1), with the request in its query.
func (b *browserFlow) authorizationURL(
	endpoint string, answer *callback, attempt *signInAttempt, q *promptRequest,
) string {
	u, _ := parseURL(endpoint) // which has passed before
	query := u.Query()
	maps.Copy(query, b.client.params)

	// RFC 6749 §4.1.1.
	query.Set("response_type", "code")
	query.Set("client_id", b.client.id)
	query.Set("redirect_uri", answer.redirect.String())
	if q.scope != "" {
		query.Set("scope", q.scope)
	}
	query.Set("state", answer.state)

	// RFC 7636 §4.3.
	query.Set("code_challenge", codeChallenge(attempt.verifier))
	query.Set("code_challenge_method", "S256")

	// OpenID Connect Core §3.1.2.1.
	query.Set("nonce", attempt.nonce)
	if q.prompt != "" {
		query.Set("prompt", q.prompt)
	}
	if q.hint != "" {
		query.Set("login_hint", q.hint)
	}

	if b.client.entraStyle() {
		query.Set("client_info", "1") // the answer then says which account it is, for the cache
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// redeem exchanges the code of an answer for a token (RFC 6749 §4.1.3, RFC 7636 §4.5),
// once: a code that is sent twice revokes what it has brought (RFC 6749 §4.1.2).
func (b *browserFlow) redeem(
	ctx context.Context, answer *callback, attempt *signInAttempt, q *promptRequest,
) (grant, claims, error) {
	if answer.err != nil {
		return grant{}, claims{}, answer.err
	}
	fields := url.Values{}
	fields.Set("code", answer.code())
	fields.Set("redirect_uri", answer.redirect.String())
	fields.Set("code_verifier", attempt.verifier)
	secrets := []string{answer.code(), attempt.verifier}
	got, err := b.client.exchange(ctx, "authorization_code", 1, b.addGrant(fields, secrets...))
	if err != nil {
		return got, claims{}, err
	}
	said, err := b.verifyIDToken(got, q.Issuer, attempt.nonce, secrets...)
	return got, said, err
}

// await asks the person to sign in at the address, and waits for the answer.
func (b *browserFlow) await(ctx context.Context, answer *callback, address string) error {
	asking, stop := context.WithCancel(ctx)
	defer stop() // an opener or a line of Input that is still waited for
	failed := make(chan error, 1)
	go func() {
		err := b.ask(asking, answer, address)
		if err != nil {
			failed <- err
		}
	}()
	select {
	case <-answer.answered:
		return nil
	case err := <-failed:
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// How long an answer is waited for from a browser that opens before the person may
// paste one. Reading takes lines from standard input that the program may want.
const pasteDelay = 30 * time.Second

// ask opens the browser, tells the person what to do, and lets the person paste the
// answer where the browser cannot bring it. Its error ends the sign-in.
func (b *browserFlow) ask(ctx context.Context, answer *callback, address string) error {
	opened := make(chan error, 1)
	go func() {
		_, err := guarded(ctx, "OpenBrowser", func() error { return b.openBrowser(ctx, address) })
		opened <- err
	}()
	b.tell("\nTo sign in, use the browser page that opens now. If none does, " +
		"open this address in a browser on this computer:\n\n    " + address + "\n\n")
	input := b.input
	if input == nil {
		input = terminalInput()
	}
	noBrowser := <-opened // which comes at the latest when ctx ends
	switch {
	case ctx.Err() != nil:
		return nil
	case noBrowser != nil && input == nil:
		return fmt.Errorf("%w: no browser opens, and Input is not there to paste an answer to: %w",
			ErrSignInRequired, noBrowser)
	case noBrowser != nil:
		b.tell("No browser opens here (" + scrub(noBrowser.Error(), 200) + "). " +
			"Open the address in one elsewhere, sign in, copy the whole address of the page\n" +
			"that it ends at (it may say that the page cannot be reached), " +
			"paste it here and press Enter:\n")
		err := b.readAnswer(ctx, input, answer)
		if err != nil {
			return fmt.Errorf("%w: no browser opens, and Input has ended: %w", ErrSignInRequired, err)
		}
	case input != nil && sleep(ctx, pasteDelay):
		// A browser that opens may be of no use: on a server, in a container.
		b.tell("No answer has come yet. If you sign in with a browser elsewhere, " +
			"copy the whole address of the page that it ends at\n" +
			"(it may say that the page cannot be reached), paste it here and press Enter:\n")
		_ = b.readAnswer(ctx, input, answer) // the browser may bring it all the same
	}
	return nil
}

// readAnswer reads lines until one is the address that a browser was sent back to.
func (b *browserFlow) readAnswer(ctx context.Context, input io.Reader, answer *callback) error {
	for {
		line, err := readLine(ctx, input)
		if err != nil {
			return err
		}
		values, ok := pastedAnswer(line, answer.redirect)
		if ok && answer.accept(values) {
			answer.markShown() // the browser could not come here
			return nil
		}
		b.tell("That is not the answer to this sign-in. Paste the whole address, " +
			"which begins with " + answer.redirect.String() + " and has state= in it:\n")
	}
}
