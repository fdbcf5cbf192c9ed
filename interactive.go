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

// authorize asks a person to sign in with a browser, once. It is the flow's
// authorizeFunc. If it fails, the page in the browser says so too.
func (b *browserFlow) authorize(ctx context.Context, q *promptRequest) (grant, claims, error) {
	endpoint, err := b.client.endpointURL(ctx, "authorize")
	if err != nil {
		return grant{}, claims{}, err
	}
	// Listen before the browser opens: otherwise another program could take the port
	// meanwhile, and get the code.
	listeners, redirect, err := listenLoopback(b.listen, b.redirect, b.field)
	if err != nil {
		return grant{}, claims{}, err
	}
	answer := newCallback(redirect, q.metadata)
	answer.tell = b.tell
	answer.onAnswer = q.answered
	stop := answer.serve(listeners)
	defer stop()

	attempt := newAttempt()
	address, err := b.authorizationURL(endpoint, answer, attempt, q)
	if err != nil {
		return grant{}, claims{}, err
	}
	err = b.await(ctx, answer, address)
	if err != nil {
		return grant{}, claims{}, err
	}
	got, said, err := b.redeem(ctx, answer, attempt, q)
	answer.end(endPage(err))
	answer.waitShown()
	return got, said, err
}

// A signInAttempt has the random values of one sign-in, but for the state. That is in
// the callback, which checks it.
type signInAttempt struct {
	nonce    string // comes back in the ID token (OpenID Connect Core §3.1.2.1)
	verifier string // code_verifier, which proves that this program asked for the code
}

// newAttempt makes a nonce and a code verifier. A code verifier has at least 43
// characters, all of them unreserved, and should have 256 random bits (RFC 7636 §4.1,
// §7.1). This one has 52 characters and 260 random bits.
func newAttempt() *signInAttempt {
	return &signInAttempt{nonce: randomText(), verifier: randomText()}
}

// randomText returns 52 characters of 5 random bits each: A to Z and 2 to 7.
func randomText() string {
	return rand.Text() + rand.Text()
}

// codeChallenge returns the code challenge of a code verifier by the method S256: its
// SHA-256 hash in base64url (RFC 7636 §4.2).
func codeChallenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorizationURL returns the URL to open in a browser: the authorization endpoint,
// which may have a query of its own (RFC 6749 §3.1), with the request added to its
// query.
func (b *browserFlow) authorizationURL(
	endpoint string, answer *callback, attempt *signInAttempt, q *promptRequest,
) (string, error) {
	u, err := parseURL(endpoint)
	if err != nil {
		return "", fmt.Errorf("cdfauth: interactive: the authorization endpoint %w", err)
	}
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
		// Entra then says which account it is, in the form in which MSAL names accounts.
		query.Set("client_info", "1")
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// await asks the person to sign in at that address, and waits for the answer. Its error
// is that of ctx, not wrapped, or says why no answer can come.
func (b *browserFlow) await(ctx context.Context, answer *callback, address string) error {
	// When the wait is over, so are the call of OpenBrowser and the wait for a line.
	asking, stop := context.WithCancel(ctx)
	defer stop()
	failed := make(chan error, 1)
	go func() {
		err := b.ask(asking, answer, address)
		if err != nil {
			failed <- err
		}
	}()
	var failure error
	select {
	case <-answer.answered:
	case failure = <-failed:
	case <-ctx.Done():
	}
	// Several of them may have happened, of which select picks any. An answer that has
	// come is not dropped.
	switch {
	case answer.isAnswered():
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return failure
	}
}

// pasteDelay is how long after a sign-in began the person may paste the answer, if a
// browser seems to open. Until then nothing is read from Input: the program may want
// what is typed there for itself, and a browser most often brings the answer.
const pasteDelay = 30 * time.Second

// ask opens the browser, tells the person what to do, and lets the person paste the
// answer if the browser cannot bring it. It returns nil when an answer was pasted or ctx
// has ended, and an error if no answer can come.
func (b *browserFlow) ask(ctx context.Context, answer *callback, address string) error {
	opened := make(chan error, 1)
	go func() { opened <- b.open(ctx, answer, address) }()
	b.tell("\nTo sign in, use the browser page that opens now. If none does, " +
		"open this address in a browser on this computer:\n\n    " + address + "\n\n")
	input := b.input
	if input == nil {
		input = terminalInput()
	}
	delay := time.NewTimer(pasteDelay)
	defer delay.Stop()
	for {
		select {
		case err := <-opened:
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return b.askWithoutBrowser(ctx, input, answer, err)
			}
		case <-delay.C:
			if input != nil && b.offerPaste(ctx, input, answer) {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

// open calls OpenBrowser. Its error does not show the state, which an opener's error has
// in it if it quotes the URL. Such an error is replaced by its text without the state,
// since errors.As could lead to the URL.
func (b *browserFlow) open(ctx context.Context, answer *callback, address string) error {
	_, err := guarded(ctx, "OpenBrowser", func() error { return b.openBrowser(ctx, address) })
	if err == nil {
		return nil
	}
	text := err.Error()
	clean := scrub(text, 300, answer.state)
	if clean != text {
		return errors.New(clean)
	}
	return err
}

// askWithoutBrowser asks the person to paste the answer, where no browser opens. It
// fails if there is no Input, or if it ends.
func (b *browserFlow) askWithoutBrowser(
	ctx context.Context, input io.Reader, answer *callback, noBrowser error,
) error {
	if input == nil {
		return fmt.Errorf("%w: no browser opens, and Input is not there to paste an answer to: %w",
			ErrSignInRequired, noBrowser)
	}
	b.tell("No browser opens here (" + noBrowser.Error() + "). " +
		"Open the address in one elsewhere, sign in, copy the whole address of the page\n" +
		"that it ends at (it may say that the page cannot be reached), " +
		"paste it here and press Enter:\n")
	err := b.readAnswer(ctx, input, answer)
	if err != nil {
		return fmt.Errorf("%w: no browser opens (%w), and Input has ended: %w",
			ErrSignInRequired, noBrowser, err)
	}
	return nil
}

// offerPaste lets the person paste the answer, although a browser seems to have opened.
// It may be of no use: on a server, in a container. offerPaste reports false if Input
// has ended. The browser may bring the answer all the same.
func (b *browserFlow) offerPaste(ctx context.Context, input io.Reader, answer *callback) bool {
	b.tell("No answer has come yet. If you sign in with a browser elsewhere, " +
		"copy the whole address of the page that it ends at\n" +
		"(it may say that the page cannot be reached), paste it here and press Enter:\n")
	return b.readAnswer(ctx, input, answer) == nil
}

// redeem exchanges the code of an answer for a token (RFC 6749 §4.1.3, RFC 7636 §4.5).
// It sends the code once: if a code comes twice, the identity provider should revoke the
// tokens that it has issued for it (RFC 6749 §4.1.2).
func (b *browserFlow) redeem(
	ctx context.Context, answer *callback, attempt *signInAttempt, q *promptRequest,
) (grant, claims, error) {
	if answer.err != nil {
		return grant{}, claims{}, answer.err
	}
	code := answer.code()
	fields := url.Values{}
	fields.Set("code", code)
	fields.Set("redirect_uri", answer.redirect.String())
	fields.Set("code_verifier", attempt.verifier)
	secrets := []string{code, attempt.verifier}
	const tries = 1
	got, err := b.client.exchange(ctx, "authorization_code", tries, b.addGrant(fields, secrets...))
	if err != nil {
		return got, claims{}, err
	}
	said, err := b.verifyIDToken(got, q.Issuer, attempt.nonce, secrets...)
	return got, said, err
}
