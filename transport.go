//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"net/http"
	"strings"
)

// This file sends tokens to the API, and to no other server.

// Transport is an [http.RoundTripper] that sets the Authorization header on requests
// to Origin, and replaces one that is there. It sends requests to other origins
// unchanged, and does not ask the Provider for a token. This holds after redirects too,
// because an http.Client sends the request to each new address through its Transport.
//
// If the API answers 401, and the Provider has a method Invalidate, Transport calls
// that method, and asks the Provider for a token again, [WithoutInteraction]. If it
// gets another token, and the body of the request can be had again (see
// [http.Request].GetBody), it sends the request once more, and returns the answer to
// that. Otherwise it returns the 401 as it is.
type Transport struct {
	// Provider supplies the tokens. If it is nil, RoundTrip fails.
	Provider Provider

	// Origin is the server that gets the tokens, such as ClusterURL("greenfield"):
	// scheme, host and, unless it is the scheme's default, port (RFC 6454 §4). The
	// scheme has to be https, or http for a loopback host. If Origin is wrong,
	// RoundTrip fails.
	Origin string

	// Base sends the requests. Nil means [http.DefaultTransport].
	Base http.RoundTripper
}

// NewHTTPClient returns a client that sends the tokens of p to origin, by a [Transport]
// over [http.DefaultTransport]. It fails if p is nil, or if origin is not what
// Transport.Origin has to be. The client has no timeout.
func NewHTTPClient(p Provider, origin string) (*http.Client, error) {
	t := &Transport{Provider: p, Origin: origin}
	_, err := t.origin()
	if err != nil {
		return nil, err
	}
	return &http.Client{Transport: t}, nil
}

// origin checks t, and returns its Origin in the form in which origins are compared.
func (t *Transport) origin() (string, error) {
	if t == nil || t.Provider == nil {
		return "", badField("Transport: Provider", "is nil")
	}
	if t.Origin == badCluster {
		return "", badField("Transport: Origin", "was made by ClusterURL of what is no cluster name"+
			" (such as greenfield or westeurope-1)")
	}
	u, err := parseURL(t.Origin)
	if err != nil {
		return "", badField("Transport: Origin", "%w", err)
	}
	if strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery {
		return "", badField("Transport: Origin",
			"has a path or a query: want scheme, host and port alone")
	}
	return originOf(u.Scheme, u.Host), nil
}

// RoundTrip implements [http.RoundTripper]. Its error is that of the Provider or of
// Base, or says which field of the Transport is wrong.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	origin, err := t.origin()
	if err != nil {
		closeBody(r)
		return nil, err
	}
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	if !isFor(origin, r) {
		return base.RoundTrip(r)
	}
	token, err := t.token(r.Context())
	if err != nil {
		closeBody(r)
		return nil, err
	}
	resp, err := base.RoundTrip(withToken(r, token))
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	again := t.replay(r, token)
	if again == nil {
		return resp, nil
	}
	resp.Body.Close()
	return base.RoundTrip(again)
}

// isFor reports whether r goes to origin. Its URL has to say so, and also r.Host if
// that is set, because the server may choose by it which site gets the request.
func isFor(origin string, r *http.Request) bool {
	if r.URL == nil || originOf(r.URL.Scheme, r.URL.Host) != origin {
		return false
	}
	return r.Host == "" || originOf(r.URL.Scheme, r.Host) == origin
}

// replay tells the provider that the API has refused a token, and returns r with another
// token, to be sent once more. It returns nil if r cannot be sent again: the provider
// has no method Invalidate, or no other token without asking a person, or the body of
// r was read and cannot be had again.
func (t *Transport) replay(r *http.Request, refused Token) *http.Request {
	p, ok := t.Provider.(interface{ Invalidate(Token) })
	if !ok {
		return nil
	}
	p.Invalidate(refused)
	hasBody := r.Body != nil && r.Body != http.NoBody
	if hasBody && r.GetBody == nil {
		return nil
	}
	token, err := t.token(WithoutInteraction(r.Context()))
	if err != nil || token.AccessToken() == refused.AccessToken() {
		return nil
	}
	again := withToken(r, token)
	if r.GetBody != nil {
		again.Body, err = r.GetBody()
		if err != nil {
			return nil
		}
	}
	return again
}

// token asks the provider for a token. It fails if it gets the zero Token, so that no
// request is sent to the API without a token.
func (t *Transport) token(ctx context.Context) (Token, error) {
	token, err := t.Provider.Token(ctx)
	if err != nil {
		return Token{}, err
	}
	if token.AccessToken() == "" {
		return Token{}, errors.New("cdfauth: Transport: Provider returned the zero Token")
	}
	return token, nil
}

// withToken returns a copy of r with the token in its header. A RoundTripper must not
// change the request that it is given.
func withToken(r *http.Request, token Token) *http.Request {
	c := r.WithContext(r.Context())
	c.Header = r.Header.Clone()
	token.SetAuthHeader(c)
	return c
}

// closeBody closes the body of a request that is not sent. A RoundTripper must close the
// body also if it fails.
func closeBody(r *http.Request) {
	if r.Body != nil {
		r.Body.Close()
	}
}

// CloseIdleConnections closes the idle connections of Base, if Base can do so. The
// method of http.Client of the same name calls it.
func (t *Transport) CloseIdleConnections() {
	if t == nil {
		return
	}
	client := http.Client{Transport: t.Base}
	client.CloseIdleConnections()
}
