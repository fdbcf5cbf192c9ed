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

// This file is the device code flow (RFC 8628). The identity provider issues a code. A
// person enters it in a browser, on any device, and signs in there. Meanwhile the
// program polls the token endpoint, which issues the token after the person has done so.
//
// The flow sends a POST of client_id, scope and Params to the device authorization
// endpoint (§3.1), and for each poll a POST of grant_type, client_id, device_code, scope
// and Params to the token endpoint (§3.4). What it has in common with the other flow of
// a person is in signin.go.

// DeviceCodeConfig configures [NewDeviceCode].
type DeviceCodeConfig struct {
	// Endpoint says where the identity provider is. NewDeviceCode rejects one that was
	// made by [TokenURL], because it does not say where a person signs in.
	Endpoint Endpoint

	// ClientID is the identifier that the identity provider knows the application by.
	ClientID string

	// Scopes are the scopes to ask for, each in an element of its own. The flow adds
	// openid, profile and offline_access. It leaves out those of the three that are not
	// in the list of scopes in the provider's metadata, if there is such a list.
	Scopes []string

	// Params are more parameters of each request of the flow, such as audience.
	// NewDeviceCode rejects parameters that the flow itself sets. The values are not
	// treated as secrets: errors may show them.
	Params url.Values

	// LoginHint says whose tokens to use if several people have signed in with the
	// same cache. It is a user name, or a hint under which the person has signed in
	// before, such as an alias. The case of letters makes no difference. LoginHint is
	// not sent to the identity provider, so that somebody else can sign in. Token then
	// returns that person's token, and no error. It logs who has signed in instead, and,
	// unless ShowCode is set, prints that to standard error.
	LoginHint string

	// ShowCode shows the person where to sign in, and with which code. Polling begins
	// when it has returned. If it returns an error, the sign-in fails. If all callers of
	// Token leave before the person has signed in, the next sign-in calls ShowCode with
	// the same code, as long as that is good. Nil means that the code is printed to
	// standard error.
	ShowCode func(ctx context.Context, a DeviceAuthorization) error

	Options
}

// DeviceAuthorization is what a person has to be told to sign in (RFC 8628 §3.2). Its
// texts are printable and on one line. Its URLs are https, or http on a loopback host.
// UserCode or VerificationURI can be missing only if there is a Message.
type DeviceAuthorization struct {
	// UserCode is the code that the person enters on the page at VerificationURI. Each of
	// the two is empty if the identity provider did not send it.
	UserCode, VerificationURI string

	// VerificationURIComplete is a URL that has the code in it, for a link or a QR code.
	// It is empty if the identity provider did not send one that can be used.
	VerificationURIComplete string

	// Message is the identity provider's own text for the person, as Entra sends one. It
	// is empty if the provider did not send one.
	Message string

	// Expiry is when the code expires. If the identity provider does not say, that is 15
	// minutes after the code was requested.
	Expiry time.Time
}

// DeviceCode is the provider of the device code flow. Make one with [NewDeviceCode].
type DeviceCode struct {
	refresher *refresher

	// flow returns the flow. It is a function value, so that no printer of values
	// reaches the codes and the outputs in the flow.
	flow func() *deviceFlow
}

// NewDeviceCode returns a provider for a person who signs in with a browser, which may
// be on another machine. It copies and checks cfg, and does no I/O. Its error names the
// field that is wrong.
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

// Token returns an access token of the person. If there is none in memory or in the
// cache, and none can be got by a refresh token, Token asks the person to sign in by
// ShowCode, and waits for at most 15 minutes. Its error wraps that of ctx,
// [ErrSignInRequired] if the person would have to sign in and may not be asked (see
// [WithoutInteraction]), an [*OAuthError], or the error of ShowCode or of the network;
// or it says what is wrong with the identity provider's metadata or with its answer. If
// the person has declined to sign in, the Code of the OAuthError is access_denied.
func (p *DeviceCode) Token(ctx context.Context) (Token, error) {
	if p == nil || p.refresher == nil {
		return Token{}, errNotMade
	}
	return p.refresher.Token(ctx)
}

// Invalidate tells the provider that the API has refused t. If t is the current
// token, the next call of Token gets another one, without asking the person. If that
// fails, or may not be tried yet, Token returns t until it expires. Invalidate may be
// called at any rate: it leads to one refresh in 10 seconds at most.
func (p *DeviceCode) Invalidate(t Token) {
	if p != nil && p.refresher != nil {
		p.refresher.Invalidate(t)
	}
}

// SignOut removes the person's tokens from memory and from the cache. It also removes
// their user name, unless the cache has tokens that another application got for them. It
// does not revoke the tokens at the identity provider, where they stay valid until they
// expire. If another program that shares the cache is signing in, SignOut waits until
// that ends, or until ctx does. SignOut fails if the cache cannot be read or written. It
// also fails, and removes nothing from the cache, if people are signed in and LoginHint
// selects none of them, or if several are and nothing tells which of them is meant.
func (p *DeviceCode) SignOut(ctx context.Context) error {
	if p == nil || p.flow == nil {
		return errNotMade
	}
	return p.flow().signOut(ctx)
}

// A deviceFlow signs people in by codes that they enter in a browser.
type deviceFlow struct {
	*signIn
	show func(ctx context.Context, a DeviceAuthorization) error

	// unused is the code of the last sign-in, if all callers left before the person had
	// approved it; otherwise nil. The next sign-in shows the same code: the person may be
	// about to enter it.
	unused atomic.Pointer[deviceCode]
}

// A deviceCode is a code that the identity provider has issued for a sign-in.
type deviceCode struct {
	scope    string              // the scope that was asked for with the code
	session  int64               // refresher.session at the request; SignOut changes it
	secret   string              // device_code: whoever has it can poll for the token
	shown    DeviceAuthorization // what the person is shown
	interval time.Duration       // the least time between two polls
	nextPoll time.Time           // when the token endpoint may be polled again
	failures int                 // how many polls in a row had an error that is transient
}

// authorize is the flow's authorizeFunc: it makes one sign-in.
func (d *deviceFlow) authorize(ctx context.Context, q *promptRequest) (grant, claims, error) {
	code := d.takeUnused(q.scope)
	if code == nil {
		var err error
		code, err = d.requestCode(ctx, q.scope)
		if err != nil {
			return grant{}, claims{}, err
		}
	}
	got, err := d.await(ctx, code)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			// The callers have left, or the time is up, and the person has not answered yet.
			d.unused.Store(code)
		}
		return grant{}, claims{}, err
	}
	q.answered()
	said, err := d.verifyIDToken(got, q.Issuer, "", code.secret)
	return got, said, err
}

// takeUnused takes the code out of unused. It returns nil if there is none, or if the
// code is no longer good for a sign-in with this scope.
func (d *deviceFlow) takeUnused(scope string) *deviceCode {
	code := d.unused.Swap(nil)
	if code == nil || code.scope != scope {
		return nil
	}
	if code.session != d.refresher.session.Load() {
		// The person who has signed out since may have approved the code. It would sign
		// them in again.
		return nil
	}
	if code.untilExpiry(d.client.clock.now()) <= code.untilPoll() {
		return nil
	}
	return code
}

// untilExpiry returns how long the code is still good for; 0 if it has expired.
func (c *deviceCode) untilExpiry(now time.Time) time.Duration {
	return max(c.shown.Expiry.Sub(now), 0)
}

// untilPoll returns how long to wait until the next poll.
func (c *deviceCode) untilPoll() time.Duration {
	return max(time.Until(c.nextPoll), 0)
}

// requestCode requests a code, in several attempts if the error is transient.
func (d *deviceFlow) requestCode(ctx context.Context, scope string) (*deviceCode, error) {
	var code *deviceCode
	_, err := retry(ctx, attempts, func() error {
		var err error
		code, err = d.requestCodeOnce(ctx, scope)
		return err
	})
	return code, err
}

// requestCodeOnce requests a code from the device authorization endpoint (RFC 8628
// §3.1). The code's lifetime counts from when the request was sent, and the wait before
// the first poll from when the answer has come.
func (d *deviceFlow) requestCodeOnce(ctx context.Context, scope string) (*deviceCode, error) {
	session := d.refresher.session.Load()
	address, err := d.client.endpointURL(ctx, "devicecode")
	if err != nil {
		return nil, err
	}
	request := d.client.newRequest()
	request.Set("scope", scope)
	sent := d.client.clock.now()
	response, err := d.client.send(ctx, "device authorization", address, request)
	if err != nil {
		return nil, err
	}
	answer, err := response.deviceAuthorization()
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

const (
	// deviceLifetime is the lifetime of a code if the provider does not say it, although
	// RFC 8628 §3.2 demands that.
	deviceLifetime = 15 * time.Minute
	// deviceInterval is the interval between polls if the provider does not say it
	// (RFC 8628 §3.2).
	deviceInterval = 5 * time.Second
	// deviceMinInterval is the least interval between polls, whatever the provider says.
	deviceMinInterval = time.Second
)

// newDeviceCode returns the code in an answer of the device authorization endpoint
// (RFC 8628 §3.2). sent is when the request was sent. It fails if the answer has no
// device_code, if it has nothing to tell the person, if one of its times is not a number,
// or if its verification_uri is not a URL that a person may be sent to. It drops a
// verification_uri_complete that is not such a URL, because the person can do without.
func newDeviceCode(answer *deviceAuthorizationResponse, sent time.Time) (*deviceCode, error) {
	lifetime, lifetimeOK := seconds(answer.ExpiresIn, deviceLifetime)
	interval, intervalOK := seconds(answer.Interval, deviceInterval)
	shown := DeviceAuthorization{
		UserCode:                printable(answer.UserCode),
		VerificationURI:         cmp.Or(answer.VerificationURI, answer.VerificationURL),
		VerificationURIComplete: answer.VerificationURIComplete,
		Message:                 printable(answer.Message),
		Expiry:                  sent.Add(lifetime),
	}
	problem := ""
	switch {
	case answer.DeviceCode == "":
		problem = "has no device_code"
	case shown.Message == "" && (shown.UserCode == "" || shown.VerificationURI == ""):
		problem = "does not have what to tell the person (user_code and verification_uri, or message)"
	case !lifetimeOK:
		problem = "has an expires_in that is not a number"
	case !intervalOK:
		problem = "has an interval that is not a number"
	}
	if problem != "" {
		return nil, errors.New("cdfauth: device authorization: the answer " + problem)
	}
	if shown.VerificationURI != "" {
		_, err := parseURL(shown.VerificationURI)
		if err != nil {
			return nil, fmt.Errorf("cdfauth: device authorization: the verification_uri %w", err)
		}
	}
	_, err := parseURL(shown.VerificationURIComplete)
	if err != nil {
		shown.VerificationURIComplete = ""
	}
	return &deviceCode{
		secret:   answer.DeviceCode,
		shown:    shown,
		interval: max(interval, deviceMinInterval),
	}, nil
}

// await shows the code to the person, and polls until the sign-in has ended.
func (d *deviceFlow) await(ctx context.Context, code *deviceCode) (grant, error) {
	_, err := guarded(ctx, "ShowCode", func() error { return d.show(ctx, code.shown) })
	if err != nil {
		return grant{}, err
	}
	return d.poll(ctx, code)
}

// showCode is the ShowCode of a configuration that has none. It prints to standard error.
func showCode(_ context.Context, a DeviceAuthorization) error {
	_, err := fmt.Fprintf(os.Stderr, "\n%s\n", codeText(a))
	return err
}

// codeText returns what to tell the person. URLs and the code have lines of their own, so
// that they can be copied. Message is used only if the code or its URL is missing: it may
// not name the other URL, and not say when the code expires.
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

// deviceGrant is the grant type of the flow (RFC 8628 §3.4).
const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// errCodeLapsed is the error of a sign-in whose code has expired.
var errCodeLapsed = errors.New("cdfauth: device code: the code lapsed before anybody used it " +
	"(another call of Token gets another)")

// poll polls the token endpoint until it issues a token, until an answer ends the sign-in,
// or until the code expires (RFC 8628 §3.5). All polls make one record in the log.
func (d *deviceFlow) poll(ctx context.Context, code *deviceCode) (grant, error) {
	start := time.Now()
	fields := url.Values{}
	fields.Set("device_code", code.secret)
	prepare := d.addGrant(fields, code.secret)
	for try := 1; ; try++ {
		err := d.pause(ctx, code)
		if err != nil {
			return grant{}, err
		}
		// The answer may have the token, which is issued once. So a poll that was sent is not
		// cancelled when all callers have left.
		got, response, err := d.client.attempt(context.WithoutCancel(ctx), deviceGrant, prepare)
		if code.pollAgain(err) {
			continue
		}
		err = explainDeviceError(err)
		d.client.report(ctx, deviceGrant, got, response, err, try, start)
		return got, err
	}
}

// pause waits until the next poll. If the code expires before that, pause waits until it
// has expired, and returns errCodeLapsed. If ctx ends, pause returns at once. It returns
// errCodeLapsed then too if there was no further poll to wait for.
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

// slowDownStep is by how much slow_down lengthens the interval (RFC 8628 §3.5).
const slowDownStep = 5 * time.Second

// pollAgain gets the error of a poll, or nil. It reports whether to poll again, and sets
// when. The RFC wants a client to poll less often after a time-out (RFC 8628 §3.5): the
// interval then counts from the time-out, and is no shorter than the back-off.
func (c *deviceCode) pollAgain(err error) bool {
	answered := errorCode(err)
	backOff := time.Duration(0)
	switch {
	case answered == "authorization_pending":
		c.failures = 0
	case answered == "slow_down":
		c.failures = 0
		// For this poll and for all that follow.
		c.interval += slowDownStep
	case isTransient(err):
		c.failures++
		backOff = max(backoff(c.failures), min(retryAfter(err), retryAfterMax))
	default:
		return false
	}
	c.nextPoll = time.Now().Add(max(c.interval, backOff))
	return true
}

// errorCode returns the error code in the provider's answer, or "" if err is nil or
// something else.
func errorCode(err error) string {
	var refused *OAuthError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}

// explainDeviceError adds to the error that ends a sign-in what it means (RFC 8628 §3.5).
// It replaces Entra's names of two error codes by those of the RFC, because programs
// compare codes. It returns any other error as it is.
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
