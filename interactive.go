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
// A sign-in listens on loopback (loopback.go), then opens a browser (browser.go) at the
// authorization endpoint. The browser comes back to the listener with a code, or the
// person pastes the address that the browser ended at (paste.go). The program exchanges
// the code for a token by a POST of grant_type, client_id, code, redirect_uri,
// code_verifier, scope and Params to the token endpoint. What the flows of a person have
// in common is in signin.go.

// InteractiveConfig configures [NewInteractive].
type InteractiveConfig struct {
	// Endpoint says where the identity provider is. NewInteractive rejects one that was
	// made by [TokenURL], because it does not say where a person signs in.
	Endpoint Endpoint

	// ClientID is the identifier that the identity provider knows the application by.
	ClientID string

	// Scopes are the scopes to ask for, each in an element of its own. The flow adds
	// openid, profile and offline_access. It leaves out those of the three that are not
	// in the list of scopes in the provider's metadata, if there is such a list.
	Scopes []string

	// Params are more parameters of each request of the flow, such as audience.
	// NewInteractive rejects parameters that the flow itself sets. The values are not
	// treated as secrets: errors may show them.
	Params url.Values

	// RedirectPort is the port in the redirect URI http://localhost:{port}, which has to
	// be registered at the identity provider. Zero means DefaultRedirectPort.
	RedirectPort int

	// RedirectURL is the redirect URI, if it is not http://localhost:{port}. It must be
	// http on a loopback host, with a port and without a query, such as
	// http://127.0.0.1:8400/callback. Port 0 means a free port, which the identity
	// provider has to permit (RFC 8252 §7.3). Set either RedirectPort or RedirectURL.
	RedirectURL string

	// Prompt is "select_account", "login" or "consent" (OpenID Connect Core §3.1.2.1),
	// or "". If it is not "", the person has to sign in at the first call of Token,
	// whatever is in the cache.
	Prompt string

	// LoginHint says whose tokens to use if several people have signed in with the
	// same cache. It is a user name, or a hint under which the person has signed in
	// before, such as an alias. The case of letters makes no difference. LoginHint is
	// sent to the identity provider, but somebody else can sign in. Token then returns
	// that person's token, and no error. It logs that the user name is another one, and
	// writes it to Output.
	LoginHint string

	// OpenBrowser opens a URL in a browser. If it returns an error, the person is asked
	// to open the URL. Its context ends when an answer has come. Nil means the browser
	// that the environment variable BROWSER names, or else the system's.
	OpenBrowser func(ctx context.Context, url string) error

	// Input is where the person can paste the address that the browser ended at. The
	// provider reads it when OpenBrowser has failed, or when 30 seconds have passed
	// without an answer: a browser may have opened where nobody can use it, as on a
	// server. Nil means standard input if that is a terminal, and otherwise no Input. A
	// read cannot be stopped. If one is still under way when the sign-in ends, the next
	// sign-in gets the line that it reads. The type of Input must be comparable, as
	// pointers are.
	Input io.Reader

	// Output is where the provider writes the URL, and what the person has to do. Nil
	// means standard error. If Output blocks, the sign-in goes on.
	Output io.Writer

	Options
}

// DefaultRedirectPort is the default of RedirectPort. Cognite's Python SDK has the same.
const DefaultRedirectPort = 53000

// maxPort is the highest port of TCP.
const maxPort = 65535

// Interactive is the provider of the authorization code flow. Make one with
// [NewInteractive].
type Interactive struct {
	refresher *refresher

	// flow returns the flow. It is a function value, so that no printer of values
	// reaches the codes, URLs and outputs in the flow.
	flow func() *browserFlow
}

// NewInteractive returns a provider for a person who signs in with a browser on this
// machine. It copies and checks cfg, and does no I/O. Its error names the field that is
// wrong.
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

// check reports what is wrong with the fields that this flow alone has, but for the
// redirect URI, which redirect checks.
func (cfg *InteractiveConfig) check() error {
	switch cfg.Prompt {
	case "", "select_account", "login", "consent":
	default:
		return badField("Prompt", "is %.64q: "+
			`want select_account, login, consent or ""`, cfg.Prompt)
	}
	switch {
	case cfg.RedirectURL != "" && cfg.RedirectPort != 0:
		return badField("RedirectURL", "and RedirectPort are both set: want one of them")
	case cfg.Input != nil && !isComparable(cfg.Input):
		return badField("Input", "is a %T, which cannot be told from others: want a pointer", cfg.Input)
	}
	return nil
}

// redirect returns the redirect URI, which is the URL that the browser is sent back to,
// and the name of the field that it comes from. Its host must be a loopback one, so that
// the code does not leave this computer (RFC 8252 §8.3). parseURL sees to that: it
// accepts http for loopback hosts alone, and redirect accepts http alone.
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

// Token returns an access token of the person. If there is none in memory or in the
// cache, and none can be got by a refresh token, Token asks the person to sign in by
// OpenBrowser, and waits for at most 15 minutes. Its error wraps that of ctx,
// [context.DeadlineExceeded] if the 15 minutes are over, [ErrSignInRequired], an
// [*OAuthError], or the error of the network; or it says that the port of the redirect
// URI cannot be listened on, or what is wrong with the identity provider's metadata or
// with its answer. It is ErrSignInRequired if the person would have to sign in and may
// not be asked (see [WithoutInteraction]), or if no browser opens and there is no Input
// to paste the answer to. If the person has declined to sign in, the Code of the
// OAuthError is access_denied.
func (p *Interactive) Token(ctx context.Context) (Token, error) {
	if p == nil || p.refresher == nil {
		return Token{}, errNotMade
	}
	return p.refresher.Token(ctx)
}

// Invalidate tells the provider that the API has refused t. If t is the current
// token, the next call of Token gets another one, without asking the person. If that
// fails, or may not be tried yet, Token returns t until it expires. Invalidate may be
// called at any rate: it leads to one refresh in 10 seconds at most.
func (p *Interactive) Invalidate(t Token) {
	if p != nil && p.refresher != nil {
		p.refresher.Invalidate(t)
	}
}

// SignOut removes the person's tokens from memory and from the cache. It also removes
// their user name, unless the cache has tokens that another application got for them. It
// does not revoke the tokens at the identity provider, where they stay valid until they
// expire, and it leaves the person signed in in the browser. If another program that
// shares the cache is signing in, SignOut waits until that ends, or until ctx does.
// SignOut fails if the cache cannot be read or written. It also fails, and removes
// nothing from the cache, if people are signed in and LoginHint selects none of them, or
// if several are and nothing tells which of them is meant.
func (p *Interactive) SignOut(ctx context.Context) error {
	if p == nil || p.flow == nil {
		return errNotMade
	}
	return p.flow().signOut(ctx)
}

// A browserFlow signs people in with a browser on this machine.
type browserFlow struct {
	*signIn
	redirect    *url.URL   // redirect_uri; its port may be 0
	field       string     // the field of the configuration that redirect comes from
	listen      listenFunc // nil outside of tests
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
	// When the wait is over, OpenBrowser and the wait for a line of Input end too.
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
	// If several of the three have happened, select picks one at random. An answer that
	// has come counts, whatever else has happened.
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
	opened := make(chan error, 1) // gets one error, or nil
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

// open calls OpenBrowser. An error of OpenBrowser may quote the URL, and so the state. Then
// open returns an error that has the text without the state and wraps nothing, because
// errors.As could lead to the URL.
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

// offerPaste lets the person paste the answer, although a browser seems to have opened:
// on a server or in a container, nobody may be able to use that browser. offerPaste
// reports false if Input has ended. The browser may then still bring the answer.
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
