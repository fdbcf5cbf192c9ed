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
// is a POST of a form. For each attempt, exchange makes a new one, lets the flow add its
// grant and the client's authentication, and sends it. An answer is read up to 1 MiB,
// redirects are not followed, and no error shows what was sent.
//
// All requests to the provider go through send. The only other code of the package
// that sends requests is Transport, which sends those to the API.

// attempts is how often a request is sent at most, as long as its error is transient.
const attempts = 3

// byteOrderMark is what some servers, and editors on Windows, write before JSON. A
// parser may ignore it (RFC 8259 §8.1).
const byteOrderMark = "\ufeff"

// attemptLimit is the longest that one attempt may take.
const attemptLimit = 10 * time.Second

// A tokenRequest is one POST to the identity provider: the parameters of its form, and
// an Authorization header if the client authenticates by that.
type tokenRequest struct {
	url.Values
	basicAuth string   // the value of the Authorization header; "" for none
	secrets   []string // the secrets in the request, which no error may show
}

// A prepareFunc adds to a token request what the flow has to say: the parameters of
// its grant, and what authenticates the client.
type prepareFunc func(ctx context.Context, tokenURL string, request *tokenRequest) error

// newRequest returns a request with the parameters that all of the client's requests
// have.
func (c *client) newRequest() *tokenRequest {
	request := &tokenRequest{Values: make(url.Values, len(c.params)+6)}
	maps.Copy(request.Values, c.params)
	request.Set("client_id", c.id)
	if c.scope != "" {
		request.Set("scope", c.scope)
	}
	return request
}

// setAssertion adds a JWT, by which the client authenticates (RFC 7523 §2.2).
func (r *tokenRequest) setAssertion(jwt string) {
	r.Set("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
	r.Set("client_assertion", jwt)
	r.secrets = append(r.secrets, jwt)
}

// exchange gets a token from the token endpoint. It makes as many attempts as tries
// says at most, and logs the outcome.
func (c *client) exchange(ctx context.Context, grantType string, tries int,
	prepare prepareFunc) (grant, error) {
	var got grant
	var answer response
	start := time.Now()
	tried, err := retry(ctx, tries, func() error {
		var err error
		got, answer, err = c.attempt(ctx, grantType, prepare)
		return err
	})
	c.report(ctx, grantType, got, answer, err, tried, start)
	return got, err
}

// attempt sends one token request, and returns the grant that it brings. It also
// returns the answer, for the log.
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

// report logs the outcome of exchange, of all its attempts in one record. The record
// has no secret, no token and no URL.
func (c *client) report(ctx context.Context, grantType string, got grant, answer response,
	err error, tried int, start time.Time) {
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
		slog.Int("attempts", tried),
		slog.Duration("duration", time.Since(start)),
		slog.String("correlation_id", answer.correlationID),
		outcome)
}

// send sends a request to the identity provider, as a POST, or as a GET if request is
// nil. It returns the answer, whatever its status. In errors, the argument what is the
// name of the request.
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
		// A POST carries a secret, or its answer does. See newTransport.
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

// usesNetHTTP reports whether the client's transport is net/http's own, and there is no
// cookie jar. That transport returns when its context ends, and does not panic. Any
// other one, and a jar, has to be called by guard.
func (c *client) usesNetHTTP() bool {
	transport := c.http.Transport
	if transport == nil {
		// A program may have set that to a transport of its own.
		transport = http.DefaultTransport
	}
	_, known := transport.(*http.Transport)
	return known && c.http.Jar == nil
}

// newHTTPRequest returns the request as net/http sends it: a POST of the form
// (RFC 6749 §4.4.2), or a GET if request is nil. The Accept header has JSON alone,
// because some providers prefer to send HTML. No Origin header is sent, because some
// providers refuse it.
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

// roundTrip sends a request and reads the answer. It reads at most one byte more than
// maxBody, by which send notices an answer that is too long. Its error is a *url.Error.
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

// sendError turns an error of roundTrip, or of the guard around it, into one that can be
// shown. The error is transient, unless a TLS certificate could not be verified or a
// caller's HTTPClient has panicked: another attempt would fail in the same way.
func (c *client) sendError(ctx context.Context, what string, err error, secrets []string) error {
	if ctx.Err() != nil {
		return transient{fmt.Errorf("cdfauth: %s: no answer in time: %w", what, ctx.Err())}
	}
	var urlError *url.Error
	if !errors.As(err, &urlError) {
		return err // of guard: the caller's HTTPClient has panicked or ended its goroutine
	}
	var untrusted *tls.CertificateVerificationError
	verificationFailed := errors.As(err, &untrusted)
	// The text of a *url.Error has the URL with its query, which may be secret.
	for errors.As(err, &urlError) {
		err = urlError.Err
	}
	// net/http quotes an answer that it could not read, and a server may have put the
	// secret into it. So the text is cut at the first quote.
	//
	// The error itself can show more than its text, by errors.As. It is dropped if its
	// text was cut or had a secret, or if it comes from a caller's transport: such an
	// error may lead to the request.
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
