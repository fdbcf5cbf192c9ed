//go:build go1.24

package cdfauth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func (f *tokenRequest) setAssertion(jwt string, err error) error { // authenticates the client by a JWT (RFC 7523 §2.2)
	f.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	f.Set("client_assertion", jwt)
	f.secrets = append(f.secrets, jwt)
	return err
}

type client struct { // an OAuth client at its identity provider: what requests of every flow have in common
	flow, id, scope string
	endpoint        Endpoint
	params          url.Values
	http            http.Client
	logger          *slog.Logger
	clock           *clock
	found           atomic.Pointer[metadata] // by discovery
}

var reserved = strings.Fields( /* the parameters that are the flows' own */ `grant_type client_id client_secret client_assertion client_assertion_type scope code redirect_uri code_verifier
	code_challenge code_challenge_method refresh_token device_code response_type response_mode state nonce request request_uri prompt login_hint
	client_info username password assertion`)

// newClient checks and copies what all configurations share.
func newClient(flow string, ep Endpoint, id string, scopes []string, params url.Values, o Options, clock *clock) (*client, error) {
	err := cmp.Or(ep.check(), refuse("cdfauth: ", []refusal{
		{id == "", "ClientID is missing"},
		{strings.TrimSpace(id) != id || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r > '~' }),
			"ClientID has a character that is not printable ASCII, or a blank at an end (RFC 6749 appendix A.1)"},
		{o.Leeway < 0, "Leeway is negative"},
	}))
	for i, s := range scopes {
		bad := strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) // RFC 6749 §3.3
		err = cmp.Or(err, refuse(fmt.Sprintf("cdfauth: Scopes[%d] ", i), []refusal{
			{strings.HasPrefix(s, badCluster), "was made by ClusterScopes of what is no cluster name (such as greenfield or westeurope-1)"},
			{s == "" || bad, fmt.Sprintf("is %q: want one scope of visible ASCII without quotes and backslashes, each in an element of its own", s)},
		}))
	}
	c := &client{clock: clock, flow: flow, endpoint: ep, id: id, scope: strings.Join(scopes, " "), logger: o.Logger, params: make(url.Values, len(params))}
	for name, values := range params {
		taken := name == "" || slices.Contains(reserved, name)
		err = cmp.Or(err, refuse("cdfauth: Params: ", []refusal{{taken, fmt.Sprintf("%q is not for callers to set", name)}}))
		c.params[name] = slices.Clone(values)
	}
	if err != nil {
		return nil, err
	}
	if c.http.Transport = privateTransport(); o.HTTPClient != nil {
		c.http = *o.HTTPClient
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // or a secret would go to whom the answer names
	return c, nil
}

var privateTransport = sync.OnceValue(func() http.RoundTripper { // shared by all providers without an HTTPClient. No connection is kept: net/http would log what comes on it unasked.
	return &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, MaxResponseHeaderBytes: 64 << 10,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, TLSHandshakeTimeout: 5 * time.Second, DisableKeepAlives: true}
})

const attempts, attemptLimit = 3, 10 * time.Second

type tokenRequest struct { // one request, made anew for each attempt
	url.Values
	basicAuth string   // the value of the Authorization header, if that is how the client proves itself
	secrets   []string // what must not come back in an error
}

type prepareFunc func(ctx context.Context, tokenURL string, f *tokenRequest) error // adds to a token request what the flow has to say

func (c *client) newRequest() *tokenRequest {
	f := &tokenRequest{Values: make(url.Values, len(c.params)+6)}
	maps.Copy(f.Values, c.params)
	f.Set("client_id", c.id)
	if c.scope != "" {
		f.Set("scope", c.scope)
	}
	return f
}

func (c *client) exchange(ctx context.Context, grantType string, tries int, fill prepareFunc) (i grant, err error) {
	var a response
	start := time.Now()
	try, err := retry(ctx, tries, func() (err error) { i, a, err = c.attempt(ctx, grantType, fill); return err })
	c.report(ctx, grantType, i, a, err, try, start)
	return i, err
}

func (c *client) report(ctx context.Context, grantType string, i grant, a response, err error, try int, start time.Time) {
	if c.logger == nil {
		return
	}
	level, last := slog.LevelInfo, slog.Time("expiry", i.token.Expiry())
	if err != nil {
		level, last = slog.LevelWarn, slog.Any("error", err)
	}
	c.logger.LogAttrs(ctx, level, "cdfauth: token request", slog.String("flow", c.flow), slog.String("grant", grantType), slog.String("host", a.host),
		slog.Int("status", a.status), slog.Int("attempts", try), slog.Duration("duration", time.Since(start)),
		slog.String("correlation_id", a.correlationID), last)
}

func (c *client) attempt(ctx context.Context, grantType string, fill prepareFunc) (i grant, a response, err error) {
	f := c.newRequest()
	f.Set("grant_type", grantType)
	tokenURL, err := c.endpointURL(ctx, "token")
	if err == nil {
		err = fill(ctx, tokenURL, f)
	}
	if err != nil {
		return i, a, err
	}
	sent, monotonic := c.clock.now(), c.clock.moment().monotonic
	if a, err = c.send(ctx, "token request", tokenURL, f); err == nil {
		i, err = c.token(a, sent, f.secrets)
		i.monotonic = monotonic
	}
	return i, a, err
}

func (c *client) endpointURL(ctx context.Context, name string) (string, error) { // returns an endpoint by its name in an Entra-style path: token, authorize or devicecode
	if address, known := c.endpoint.address(name); known {
		return address, nil
	}
	m, err := c.discover(ctx)
	if err != nil {
		return "", err
	}
	found := map[string]string{"token": m.TokenURL, "authorize": m.AuthorizeURL, "devicecode": m.DeviceURL}[name]
	if found == "" {
		err = fmt.Errorf("cdfauth: Endpoint: the metadata of %s has no endpoint for %s: the provider does not offer this flow", c.endpoint.url, c.flow)
	}
	return found, err
}

func (c *client) entraStyle() bool { // says that the provider is Entra or behaves so
	return c.endpoint.entraStyle()
}

// send posts a form, or gets what is at the URL if it is empty. An error of the transport is transient unless TLS verification failed.
func (c *client) send(ctx context.Context, what, rawURL string, f *tokenRequest) (a response, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, strings.NewReader(f.Encode()))
	if err != nil {
		return a, errors.New("cdfauth: the identity provider's URL is not usable")
	}
	r.Header = http.Header{"Accept": {"application/json"}, "User-Agent": {"cdfauth"}}
	if f.Values != nil {
		r.Method, r.Header["Content-Type"] = http.MethodPost, []string{"application/x-www-form-urlencoded"}
	}
	if f.basicAuth != "" {
		r.Header["Authorization"] = []string{f.basicAuth}
	}
	_, known := c.http.Transport.(*http.Transport)
	if known = known || c.http.Transport == nil; known { // net/http obeys the context; what else there is has to be guarded
		a, err = c.roundTrip(r)
	} else {
		a, err = guard(ctx, "HTTPClient", func(context.Context) (response, error) { return c.roundTrip(r) })
	}
	a.host, a.correlationID = r.URL.Host, scrub(a.correlationID, 64, f.secrets...)
	if a.status == http.StatusNotFound || a.status == http.StatusGone {
		c.found.Store(nil) // the metadata is out of date
	}
	switch {
	case err == nil && len(a.body) > maxBody:
		return a, a.error(f.secrets, "the answer has more than 1 MiB")
	case err == nil:
		return a, nil
	case ctx.Err() != nil:
		return a, transient{fmt.Errorf("cdfauth: %s to %s: no answer in time: %w", what, a.host, ctx.Err())}
	}
	failed, untrusted := (*url.Error)(nil), (*tls.CertificateVerificationError)(nil)
	if !errors.As(err, &failed) { // it panicked
		return a, err
	}
	final := errors.As(err, &untrusted)
	for errors.As(err, &failed) { // the URL is dropped, whose query nobody is to see;
		err = failed.Err
	}
	// and the original error, if its text repeats a secret, or quotes what net/http could not read, or if it is not net/http's and may lead to the request.
	text, _, quotes := strings.Cut(err.Error(), `"`)
	if clean := scrub(text, 300, f.secrets...); !known || clean != text || quotes && !final {
		err = errors.New(clean)
	}
	if err = fmt.Errorf("cdfauth: %s to %s: %w", what, a.host, err); final {
		return a, err
	}
	return a, transient{err}
}

func (c *client) roundTrip(r *http.Request) (a response, err error) { // has an *url.Error whatever failed
	resp, err := c.http.Do(r)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	a.retryAfter = parseRetryAfter(resp.Header.Get("Retry-After"), c.clock.now())
	a.correlationID = cmp.Or(resp.Header.Get("X-Ms-Request-Id"), resp.Header.Get("X-Request-Id"), resp.Header.Get("X-Correlation-Id"))
	b := bytes.NewBuffer(make([]byte, 0, min(max(resp.ContentLength, 0), maxBody)+bytes.MinRead+1))
	if _, e := b.ReadFrom(io.LimitReader(resp.Body, maxBody+1)); e != nil {
		err = &url.Error{Err: e}
	}
	a.body = b.Bytes()
	return a, err
}
