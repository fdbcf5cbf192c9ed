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
	"time"
)

// This file is the device code flow (RFC 8628): the provider gives out a code, which a person enters in a browser on any device, while the program asks the token
// endpoint again and again whether that has happened. Sent are a POST of client_id, scope and Params to the device authorization endpoint (§3.1), and POSTs of
// grant_type, client_id, device_code, scope and Params to the token endpoint (§3.4).

// DeviceCodeConfig configures [NewDeviceCode]. Fields are as in [ClientCredentialsConfig], but Endpoint is no TokenURL, and openid, profile, offline_access join Scopes.
type DeviceCodeConfig struct {
	Endpoint  Endpoint
	ClientID  string
	Scopes    []string
	Params    url.Values
	LoginHint string                                                 // picks among the accounts in the cache, by user name (any case); not sent
	ShowCode  func(ctx context.Context, a DeviceAuthorization) error // shows a person what to do; its error ends the sign-in; nil prints to standard error
	Options
}

// DeviceAuthorization is what a person has to be told (RFC 8628 §3.2): printable texts, https URLs (http on loopback). If the first two are missing, Message says all.
type DeviceAuthorization struct {
	UserCode, VerificationURI string
	VerificationURIComplete   string    // with the code in it, for a QR code; "" if there is none
	Message                   string    // the provider's own words; "" if it has none
	Expiry                    time.Time // of the code
}

// DeviceCode is the provider of the device code flow.
type DeviceCode struct {
	refresher *refresher
	signIn    func() *signIn // a function value, so that nobody can print the provider's state
}

const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// NewDeviceCode returns a provider for a person whose browser is on another machine. It checks cfg, names the field that is wrong, and does no I/O.
func NewDeviceCode(cfg DeviceCodeConfig) (*DeviceCode, error) {
	show, output := cfg.ShowCode, io.Discard
	if show == nil {
		show, output = showCode, os.Stderr
	}
	u, err := newSignIn(signInConfig{
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
	u.authorize = func(ctx context.Context, q *promptRequest) (i grant, said claims, err error) {
		code, a, interval, err := u.authorizeDevice(ctx, q)
		if err == nil {
			_, err = guarded(ctx, "ShowCode", func() error { return show(ctx, a) })
		}
		if err == nil {
			i, err = u.poll(ctx, code, interval, a.Expiry)
		}
		if err == nil {
			q.answered()
			said, err = u.verifyIDToken(i, q.Issuer, "", code)
		}
		return i, said, err
	}
	return &DeviceCode{u.refresher, func() *signIn { return u }}, nil
}

// Token returns an access token for the person. It may have to ask for a sign-in, for 15 minutes at most: its errors are those of the context,
// [ErrSignInRequired] (see [WithoutInteraction]), an [*OAuthError] when the identity provider refused (access_denied if the person did), or the network's.
func (p *DeviceCode) Token(ctx context.Context) (Token, error) {
	if p == nil || p.refresher == nil {
		return Token{}, errNotMade
	}
	return p.refresher.Token(ctx)
}

// Invalidate says that t was refused: if it is the current token, the next call of Token gets another, without asking anybody. It may be called at any rate.
func (p *DeviceCode) Invalidate(t Token) {
	if p != nil && p.refresher != nil {
		p.refresher.Invalidate(t)
	}
}

// SignOut removes the tokens and the name of the person from the cache and from memory, and nothing else; the tokens are not revoked at the identity provider.
// While another program is signing in, it waits. It is an error if several people are signed in and it is not known which one is meant: see LoginHint.
func (p *DeviceCode) SignOut(ctx context.Context) error {
	if p == nil || p.signIn == nil {
		return errNotMade
	}
	return p.signIn().signOut(ctx)
}

func showCode(_ context.Context, a DeviceAuthorization) error { // has the URL and the code on lines of their own, so that they can be copied
	text := a.Message
	if a.UserCode != "" && a.VerificationURI != "" {
		text = fmt.Sprintf("To sign in, open this page in a browser, on any device:\n\n    %s\n\nand enter this code:\n\n    %s\n", a.VerificationURI, a.UserCode)
	}
	_, err := fmt.Fprintf(os.Stderr, "\n%s\n", text)
	return err
}

func (u *signIn) authorizeDevice(ctx context.Context, q *promptRequest) (code string, d DeviceAuthorization, interval time.Duration, err error) { // asks for a code (§3.1, §3.2)
	f := u.client.newRequest()
	f.Set("scope", q.scope)
	r, sent := tokenResponse{}, time.Time{}
	if _, err = retry(ctx, attempts, func() error {
		var a response
		address, err := u.client.endpointURL(ctx, "devicecode")
		if r, sent = (tokenResponse{}), u.client.clock.now(); err == nil {
			a, err = u.client.send(ctx, "device authorization", address, f)
		}
		if why := a.decode(&r); err == nil && (why != "" || r.Code != "" || a.status/100 != 2) {
			err = a.error(nil, why)
		}
		return err
	}); err != nil {
		return "", d, 0, err
	}
	life, ok1 := seconds(r.ExpiresIn, 15*time.Minute)
	interval, ok2 := seconds(r.Interval, 5*time.Second)
	d = DeviceAuthorization{printable(r.UserCode), cmp.Or(r.VerificationURI, r.VerificationURL), r.VerificationURIComplete, printable(r.Message), sent.Add(life)}
	if _, bad := parseURL(d.VerificationURIComplete); bad != nil {
		d.VerificationURIComplete = ""
	}
	switch _, bad := parseURL(d.VerificationURI); {
	case r.DeviceCode == "" || !ok1 || !ok2 || d.Message == "" && (d.UserCode == "" || d.VerificationURI == ""):
		err = errors.New("cdfauth: device authorization: the answer lacks a device_code, or what to tell the person, or has times that are no numbers")
	case d.VerificationURI != "" && bad != nil:
		err = fmt.Errorf("cdfauth: device authorization: the verification_uri %w", bad)
	}
	return r.DeviceCode, d, max(interval, time.Second), err
}

// poll asks for the token until there is one or the code has lapsed (§3.5). What may pass does not end it.
func (u *signIn) poll(ctx context.Context, code string, interval time.Duration, expiry time.Time) (grant, error) {
	lapsed := errors.New("cdfauth: device code: the code lapsed before anybody used it (another call of Token gets another)")
	start, wait, failures := time.Now(), interval, 0
	for try := 1; ; try++ {
		left := expiry.Sub(u.client.clock.now())
		awake := sleep(ctx, min(wait, max(left, 0)))
		switch {
		case left <= wait: // the usual 15 minutes are also the longest that anybody is asked
			return grant{}, lapsed
		case !awake:
			return grant{}, ctx.Err()
		}
		// An approval that is on its way is not given up, even if everybody who waited has left.
		i, a, err := u.client.attempt(context.WithoutCancel(ctx), deviceGrant, u.filler(url.Values{"device_code": {code}}, code))
		oe := new(OAuthError)
		errors.As(err, &oe)
		switch wait = interval; {
		case oe.Code == "authorization_pending":
			failures = 0
		case oe.Code == "slow_down":
			interval += 5 * time.Second // for good
			wait, failures = interval, 0
		case isTransient(err):
			failures++
			wait = max(interval, backoff(failures), min(retryAfter(err), retryAfterMax))
		default:
			u.client.report(ctx, deviceGrant, i, a, err, try, start)
			switch oe.Code {
			case "access_denied":
				err = fmt.Errorf("cdfauth: device code: the sign-in was declined: %w", err)
			case "expired_token":
				err = fmt.Errorf("%w: %w", lapsed, err)
			}
			return i, err
		}
	}
}
