//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"sync/atomic"
	"time"
)

// This file is the device code flow (RFC 8628). The provider gives out a code, which a
// person enters in a browser on any device. Meanwhile the program asks the token
// endpoint again and again whether that has happened.
//
// Sent are a POST of client_id, scope and Params to the device authorization endpoint
// (§3.1), and POSTs of grant_type, client_id, device_code, scope and Params to the
// token endpoint (§3.4). What is common to the flows of a person is in signin.go.

// DeviceCodeConfig configures [NewDeviceCode].
type DeviceCodeConfig struct {
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

	// LoginHint is the user name, in any case, of the person who is meant, or a hint
	// that they have signed in under before, such as an alias. It selects one of the
	// accounts in the cache, and is not sent. That somebody else signs in is said to
	// the person and logged, and no error.
	LoginHint string

	// ShowCode shows a person what to do. If it fails, so does the sign-in. nil prints
	// to standard error.
	ShowCode func(ctx context.Context, a DeviceAuthorization) error

	Options
}

// DeviceAuthorization is what a person has to be told (RFC 8628 §3.2). Its texts are
// printable, and its URLs https, or http on loopback. If UserCode or VerificationURI
// is missing, Message says all.
type DeviceAuthorization struct {
	// UserCode is to be entered at VerificationURI.
	UserCode, VerificationURI string

	// VerificationURIComplete has the code in it, for a QR code. "" if there is none.
	VerificationURIComplete string

	// Message is the provider's own words. "" if it has none.
	Message string

	// Expiry is when the code lapses.
	Expiry time.Time
}

// DeviceCode is the provider of the device code flow.
type DeviceCode struct {
	refresher *refresher

	// flow is a function value, so that no printer can reach the codes and outputs
	// that it leads to.
	flow func() *deviceFlow
}

// NewDeviceCode returns a provider for a person whose browser is on another machine.
// It checks cfg, names the field that is wrong, and does no I/O.
func NewDeviceCode(cfg DeviceCodeConfig) (*DeviceCode, error) {
	show := cfg.ShowCode
	output := io.Discard
	if show == nil {
		show = showCode
		output = os.Stderr
	}
	s, err := newSignIn(signInConfig{
		flow:          "device code",
		accountSource: deviceGrant,
		endpoint:      cfg.Endpoint,
		clientID:      cfg.ClientID,
		scopes:        cfg.Scopes,
		params:        cfg.Params,
		loginHint:     cfg.LoginHint,
		output:        output,
		options:       cfg.Options,
	})
	if err != nil {
		return nil, err
	}
	flow := &deviceFlow{signIn: s, show: show}
	s.authorize = flow.authorize
	return &DeviceCode{
		refresher: s.refresher,
		flow:      func() *deviceFlow { return flow },
	}, nil
}

// Token returns an access token for the person. It may have to ask for a sign-in,
// which takes 15 minutes at most. Its errors are those of the context;
// [ErrSignInRequired] if nobody may be asked (see [WithoutInteraction]); an
// [*OAuthError] if the identity provider refused (access_denied if the person did); or
// the network's.
func (p *DeviceCode) Token(ctx context.Context) (Token, error) {
	if p == nil || p.refresher == nil {
		return Token{}, errNotMade
	}
	return p.refresher.Token(ctx)
}

// Invalidate says that t was refused. If it is the current token, the next call of
// Token gets another, without asking anybody. It may be called at any rate.
func (p *DeviceCode) Invalidate(t Token) {
	if p != nil && p.refresher != nil {
		p.refresher.Invalidate(t)
	}
}

// SignOut removes the tokens and the name of the person from the cache and from
// memory, and nothing else. It does not revoke the tokens at the identity provider.
// While another program is signing in, it waits. It fails if people are signed in and
// LoginHint means none of them, or does not select one of several.
func (p *DeviceCode) SignOut(ctx context.Context) error {
	if p == nil || p.flow == nil {
		return errNotMade
	}
	return p.flow().signOut(ctx)
}

// A deviceFlow is how people sign in with a browser on another machine.
type deviceFlow struct {
	*signIn
	show func(ctx context.Context, a DeviceAuthorization) error

	// unused is the code that nobody had used when everybody who waited had left. The
	// next sign-in goes on with it: the person may be about to enter it. nil if there
	// is none.
	unused atomic.Pointer[deviceCode]
}

// A deviceCode is what was asked for a person to approve.
type deviceCode struct {
	scope    string              // that it was asked for
	session  int64               // of the refresher; SignOut begins another
	secret   string              // device_code
	shown    DeviceAuthorization // to the person
	interval time.Duration       // between requests for the token
	nextPoll time.Time           // when the token may be asked for again
	failures int                 // requests for the token that failed since one did not
}

// authorize is one sign-in.
func (d *deviceFlow) authorize(ctx context.Context, q *promptRequest) (grant, claims, error) {
	code := d.takeUnused(q.scope)
	if code == nil {
		var err error
		code, err = d.requestCode(ctx, q.scope)
		if err != nil {
			return grant{}, claims{}, err
		}
	}
	_, err := guarded(ctx, "ShowCode", func() error { return d.show(ctx, code.shown) })
	var got grant
	if err == nil {
		got, err = d.poll(ctx, code)
	}
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			d.unused.Store(code) // everybody has left, and the person has not answered
		}
		return got, claims{}, err
	}
	q.answered()
	said, err := d.verifyIDToken(got, q.Issuer, "", code.secret)
	return got, said, err
}

// takeUnused returns the code that an earlier sign-in has left, if the token can still
// be asked for with it, and forgets it.
func (d *deviceFlow) takeUnused(scope string) *deviceCode {
	code := d.unused.Swap(nil)
	switch {
	case code == nil || code.scope != scope:
		return nil
	case code.session != d.refresher.session.Load():
		return nil // somebody has signed out since, and may have approved it before
	case code.untilExpiry(d.client.clock.now()) <= code.untilPoll():
		return nil
	}
	return code
}

// untilExpiry returns how much is left of the code's life, 0 if it has lapsed.
func (c *deviceCode) untilExpiry(now time.Time) time.Duration {
	return max(c.shown.Expiry.Sub(now), 0)
}

// untilPoll returns how long to wait before the token may be asked for again.
func (c *deviceCode) untilPoll() time.Duration {
	return max(time.Until(c.nextPoll), 0)
}

// What is assumed of a code if the provider does not say (RFC 8628 §3.2: interval),
// and how often the token endpoint is asked at most, whatever it says.
const (
	deviceLifetime    = 15 * time.Minute
	deviceInterval    = 5 * time.Second
	deviceMinInterval = time.Second
)

// requestCode asks the device authorization endpoint for a code (RFC 8628 §3.1).
func (d *deviceFlow) requestCode(ctx context.Context, scope string) (*deviceCode, error) {
	request := d.client.newRequest()
	request.Set("scope", scope)
	session := d.refresher.session.Load()
	var answer deviceAuthorizationResponse
	var sent time.Time
	_, err := retry(ctx, attempts, func() error {
		address, err := d.client.endpointURL(ctx, "devicecode")
		if err != nil {
			return err
		}
		sent = d.client.clock.now()
		response, err := d.client.send(ctx, "device authorization", address, request)
		if err != nil {
			return err
		}
		answer, err = response.deviceAuthorization()
		return err
	})
	if err != nil {
		return nil, err
	}
	code, err := newDeviceCode(&answer, sent)
	if err != nil {
		return nil, err
	}
	code.scope = scope
	code.session = session
	code.nextPoll = time.Now().Add(code.interval)
	return code, nil
}

// newDeviceCode checks an answer of the device authorization endpoint (RFC 8628 §3.2)
// to a request that was sent at that time.
func newDeviceCode(answer *deviceAuthorizationResponse, sent time.Time) (*deviceCode, error) {
	lifetime, ok := seconds(answer.ExpiresIn, deviceLifetime)
	interval, ok2 := seconds(answer.Interval, deviceInterval)
	shown := DeviceAuthorization{
		UserCode:                printable(answer.UserCode),
		VerificationURI:         cmp.Or(answer.VerificationURI, answer.VerificationURL),
		VerificationURIComplete: answer.VerificationURIComplete,
		Message:                 printable(answer.Message),
		Expiry:                  sent.Add(lifetime),
	}
	_, err := parseURL(shown.VerificationURIComplete)
	if err != nil {
		shown.VerificationURIComplete = "" // nobody needs it
	}
	complete := shown.Message != "" || shown.UserCode != "" && shown.VerificationURI != ""
	if answer.DeviceCode == "" || !complete || !ok || !ok2 {
		return nil, errors.New("cdfauth: device authorization: the answer lacks a device_code, " +
			"or what to tell the person, or has times that are no numbers")
	}
	if shown.VerificationURI != "" {
		_, err := parseURL(shown.VerificationURI)
		if err != nil {
			return nil, fmt.Errorf("cdfauth: device authorization: the verification_uri %w", err)
		}
	}
	return &deviceCode{
		secret:   answer.DeviceCode,
		shown:    shown,
		interval: max(interval, deviceMinInterval),
	}, nil
}

// showCode prints to standard error.
func showCode(_ context.Context, a DeviceAuthorization) error {
	_, err := fmt.Fprintf(os.Stderr, "\n%s\n", codeText(a))
	return err
}

// codeText tells the person what to do. URLs and the code have lines of their own, so
// that they can be copied.
func codeText(a DeviceAuthorization) string {
	expiry := a.Expiry.Local().Format("15:04:05 MST")
	if a.UserCode == "" || a.VerificationURI == "" {
		return a.Message + "\n\nThe code is good until " + expiry + ".\n"
	}
	text := "To sign in, open this page in a browser, on any device:\n\n    " +
		a.VerificationURI + "\n\n" +
		"and enter this code, which is good until " + expiry + ":\n\n    " +
		a.UserCode + "\n"
	if a.VerificationURIComplete != "" {
		// RFC 8628 §3.3.1: the person compares the code on the page with this one.
		text += "\nOr open this page, which has the code in it already:\n\n    " +
			a.VerificationURIComplete + "\n"
	}
	return text
}

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code" // RFC 8628 §3.4

// How much longer to wait between requests for each slow_down (RFC 8628 §3.5).
const slowDownStep = 5 * time.Second

var errCodeLapsed = errors.New("cdfauth: device code: the code lapsed before anybody used it " +
	"(another call of Token gets another)")

// poll asks for the token until there is one, or the code has lapsed, or the sign-in
// was declined (RFC 8628 §3.5).
func (d *deviceFlow) poll(ctx context.Context, code *deviceCode) (grant, error) {
	start := time.Now()
	fields := url.Values{}
	fields.Set("device_code", code.secret)
	for try := 1; ; try++ {
		err := d.pause(ctx, code)
		if err != nil {
			return grant{}, err
		}
		// An approval that is on its way is not given up, even if everybody who waited
		// has left.
		got, response, err := d.client.attempt(context.WithoutCancel(ctx), deviceGrant,
			d.addGrant(fields, code.secret))
		if code.pollAgain(err) {
			continue
		}
		err = explainDeviceError(err)
		d.client.report(ctx, deviceGrant, got, response, err, try, start)
		return got, err
	}
}

// pause waits until the token may be asked for again. If the code lapses before that,
// it waits until then and returns an error.
func (d *deviceFlow) pause(ctx context.Context, code *deviceCode) error {
	wait := code.untilPoll()
	left := code.untilExpiry(d.client.clock.now())
	if left <= wait {
		sleep(ctx, left)
		return errCodeLapsed
	}
	if !sleep(ctx, wait) {
		return ctx.Err()
	}
	return nil
}

// pollAgain reports whether to ask for the token again after an answer, and notes when
// (RFC 8628 §3.5).
func (c *deviceCode) pollAgain(err error) bool {
	code := errorCode(err)
	wait := time.Duration(0) // besides the interval
	switch {
	case code == "authorization_pending":
		c.failures = 0
	case code == "slow_down":
		c.failures = 0
		c.interval += slowDownStep // for good
	case isTransient(err):
		c.failures++
		wait = max(backoff(c.failures), min(retryAfter(err), retryAfterMax))
	default:
		return false
	}
	c.nextPoll = time.Now().Add(max(c.interval, wait))
	return true
}

// errorCode returns the error code that the provider answered with, "" if it did not.
func errorCode(err error) string {
	var refused *OAuthError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// explainDeviceError says in words what ends a sign-in (RFC 8628 §3.5). Entra has codes
// of its own for two of the RFC's, which are replaced: programs decide on them.
func explainDeviceError(err error) error {
	var refused *OAuthError
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Code {
	case "access_denied", "authorization_declined":
		refused.Code = "access_denied"
		return fmt.Errorf("cdfauth: device code: the sign-in was declined: %w", err)
	case "expired_token", "code_expired":
		refused.Code = "expired_token"
		return fmt.Errorf("%w: %w", errCodeLapsed, err)
	}
	return err
}
