//go:build go1.24

package cdfauth

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// This file sends requests to the identity provider. A token request (RFC 6749 §4)
// is a POST of a form: exchange makes one anew for each attempt, lets the flow add
// its grant and the client's authentication, and sends it. An answer is read up to
// 1 MiB, redirects are not followed, and no error shows what was sent.
//
// send is the one function here that sends. Only Transport sends requests besides,
// to the API.

// attempts is how often a request is sent at most while its error may pass.
const attempts = 3

// byteOrderMark is what some servers, and editors on Windows, write before JSON. It
// may be ignored (RFC 8259 §8.1).
const byteOrderMark = "\ufeff"

// attemptLimit is the longest that one attempt may take.
const attemptLimit = 10 * time.Second

// A tokenRequest is one POST to the identity provider: its form, and how the client
// proves itself if not in there.
type tokenRequest struct {
	url.Values
	basicAuth string   // the value of the Authorization header; "" for none
	secrets   []string // what must not come back in an error
}

// A prepareFunc adds to a token request what the flow has to say: the parameters of
// its grant, and what authenticates the client.
type prepareFunc func(ctx context.Context, tokenURL string, request *tokenRequest) error

// newRequest returns a request with what all of the client's requests have.
func (c *client) newRequest() *tokenRequest {
	request := &tokenRequest{Values: make(url.Values, len(c.params)+6)}
	maps.Copy(request.Values, c.params)
	request.Set("client_id", c.id)
	if c.scope != "" {
		request.Set("scope", c.scope)
	}
	return request
}

// setAssertion authenticates the client by a JWT (RFC 7523 §2.2).
func (r *tokenRequest) setAssertion(jwt string) {
	r.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	r.Set("client_assertion", jwt)
	r.secrets = append(r.secrets, jwt)
}

// exchange gets a token from the token endpoint, in so many attempts at most, and
// logs how that went.
func (c *client) exchange(ctx context.Context, grantType string, tries int,
	prepare prepareFunc) (grant, error) {
	var got grant
	var answer response
	start := time.Now()
	try, err := retry(ctx, tries, func() error {
		var err error
		got, answer, err = c.attempt(ctx, grantType, prepare)
		return err
	})
	c.report(ctx, grantType, got, answer, err, try, start)
	return got, err
}

// attempt is one token request. It also returns the answer, for the log.
func (c *client) attempt(ctx context.Context, grantType string,
	prepare prepareFunc) (grant, response, error) {
	request := c.newRequest()
	request.Set("grant_type", grantType)
	tokenURL, err := c.endpointURL(ctx, "token")
	if err != nil {
		return grant{}, response{}, err
	}
	if err := prepare(ctx, tokenURL, request); err != nil {
		return grant{}, response{}, err
	}
	sent := c.clock.now()
	monotonic := c.clock.moment().monotonic
	answer, err := c.send(ctx, "token request", tokenURL, request)
	if err != nil {
		return grant{}, answer, err
	}
	got, err := answer.grant(sent, request.secrets)
	got.monotonic = monotonic
	return got, answer, err
}

// report logs a token request with its attempts. No secret, token or URL is in the
// record.
func (c *client) report(ctx context.Context, grantType string, got grant, answer response,
	err error, try int, start time.Time) {
	if c.logger == nil {
		return
	}
	level := slog.LevelInfo
	outcome := slog.Time("expiry", got.token.Expiry())
	if err != nil {
		level = slog.LevelWarn
		outcome = slog.Any("error", err)
	}
	c.logger.LogAttrs(ctx, level, "cdfauth: token request",
		slog.String("flow", c.flow),
		slog.String("grant", grantType),
		slog.String("host", answer.host),
		slog.Int("status", answer.status),
		slog.Int("attempts", try),
		slog.Duration("duration", time.Since(start)),
		slog.String("correlation_id", answer.correlationID),
		outcome)
}

// send posts a request to the identity provider and returns the answer, whatever its
// status. If request is nil it is a GET. What says what is sent, for errors.
func (c *client) send(ctx context.Context, what, rawURL string,
	request *tokenRequest) (response, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	httpRequest, err := newHTTPRequest(ctx, rawURL, request)
	if err != nil {
		return response{}, err
	}
	var secrets []string
	if request != nil {
		secrets = request.secrets
		// A post carries a secret, or brings one. See newTransport.
		httpRequest.Close = c.own != nil
	}
	var answer response
	if c.usesNetHTTP() {
		answer, err = c.roundTrip(httpRequest)
	} else {
		answer, err = guard(ctx, "HTTPClient", func(context.Context) (response, error) {
			return c.roundTrip(httpRequest)
		})
	}
	answer.host = httpRequest.URL.Host
	answer.correlationID = scrub(answer.correlationID, 64, secrets...)
	if answer.status == http.StatusNotFound || answer.status == http.StatusGone {
		c.found.Store(nil) // the metadata is out of date
	}
	if err != nil {
		return answer, c.sendError(ctx, what+" to "+answer.host, err, secrets)
	}
	if len(answer.body) > maxBody {
		return answer, answer.error(secrets, "the answer has more than 1 MiB")
	}
	return answer, nil
}

// usesNetHTTP reports whether requests go by net/http alone, which obeys contexts
// and panics with nothing. What else there is has to be guarded.
func (c *client) usesNetHTTP() bool {
	if c.http.Transport == nil {
		return true
	}
	_, known := c.http.Transport.(*http.Transport)
	return known
}

// newHTTPRequest returns the request as net/http sends it: a POST of the form
// (RFC 6749 §4.4.2), or a GET if request is nil. Accept has JSON alone: some
// providers prefer to send HTML. No Origin is sent: some refuse it.
func newHTTPRequest(ctx context.Context, rawURL string,
	request *tokenRequest) (*http.Request, error) {
	method := http.MethodGet
	var body io.Reader = http.NoBody
	if request != nil {
		method = http.MethodPost
		body = strings.NewReader(request.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, method, rawURL, body)
	if err != nil {
		return nil, errors.New("cdfauth: the identity provider's URL is not usable")
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "cdfauth")
	if request != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if request.basicAuth != "" {
			r.Header.Set("Authorization", request.basicAuth)
		}
	}
	return r, nil
}

// roundTrip sends a request and reads the answer, a byte beyond maxBody at most. Its
// error is a *url.Error.
func (c *client) roundTrip(r *http.Request) (response, error) {
	resp, err := c.http.Do(r)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	answer := newResponse(resp, r.URL, c.clock.now())
	room := min(max(resp.ContentLength, 0), maxBody) + bytes.MinRead + 1
	body := bytes.NewBuffer(make([]byte, 0, room))
	_, err = body.ReadFrom(io.LimitReader(resp.Body, maxBody+1))
	answer.body = bytes.TrimPrefix(body.Bytes(), []byte(byteOrderMark))
	if err != nil {
		return answer, &url.Error{Op: r.Method, URL: r.URL.Host, Err: err}
	}
	return answer, nil
}

// sendError makes an error that can be shown of one that roundTrip has returned. It
// is transient unless TLS verification has failed: that would fail again.
func (c *client) sendError(ctx context.Context, what string, err error, secrets []string) error {
	if ctx.Err() != nil {
		return transient{fmt.Errorf("cdfauth: %s: no answer in time: %w", what, ctx.Err())}
	}
	var urlError *url.Error
	if !errors.As(err, &urlError) {
		return err // of guard: the caller's client has panicked
	}
	var untrusted *tls.CertificateVerificationError
	verificationFailed := errors.As(err, &untrusted)
	// A *url.Error shows the URL with its query, which nobody is to see.
	for errors.As(err, &urlError) {
		err = urlError.Err
	}
	// net/http quotes what it could not read: the text ends there. The error itself is
	// dropped too if its text repeats a secret, or if it is not net/http's: it may lead
	// to the request.
	text, _, quotes := strings.Cut(err.Error(), `"`)
	clean := scrub(text, 300, secrets...)
	if !c.usesNetHTTP() || clean != text || quotes && !verificationFailed {
		err = errors.New(clean)
	}
	err = fmt.Errorf("cdfauth: %s: %w", what, err)
	if verificationFailed {
		return err
	}
	return transient{err}
}
