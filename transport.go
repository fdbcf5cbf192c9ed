//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"net/http"
	"strings"
)

// This file carries tokens to the API, and to nobody else.

// Transport is an [http.RoundTripper] that sets the Authorization header on requests
// to Origin, and replaces one that is there. Requests to others pass unchanged, and
// the Provider is not asked for a token. This holds after redirects too: each of them
// passes here as a request of its own.
//
// When the API answers 401, Transport calls the Provider's Invalidate method, if it
// has one, and asks it for a token again, [WithoutInteraction]. If that is another
// token, and the body of the request can be had again (see [http.Request].GetBody),
// it sends the request once more. Otherwise it returns the 401 as it is.
type Transport struct {
	// Provider supplies the tokens. It must not be nil.
	Provider Provider

	// Origin is whom the tokens are for, such as ClusterURL("greenfield"): scheme,
	// host and, unless it is the scheme's own, port (RFC 6454 §4). The scheme is
	// https, or http for a loopback host.
	Origin string

	// Base sends the requests. nil means [http.DefaultTransport].
	Base http.RoundTripper
}

// NewHTTPClient returns a client that carries the tokens of p to origin, through a
// [Transport] on [http.DefaultTransport]. It fails if p is nil or origin is not as
// Transport.Origin has to be.
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

// RoundTrip implements [http.RoundTripper]. Its errors are the Provider's and Base's,
// and those of a Transport whose fields are wrong.
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

// isFor reports whether r goes to origin: by its URL, and by its Host header too if
// that is set.
func isFor(origin string, r *http.Request) bool {
	if r.URL == nil || originOf(r.URL.Scheme, r.URL.Host) != origin {
		return false
	}
	return r.Host == "" || originOf(r.URL.Scheme, r.Host) == origin
}

// replay tells the provider that refused was refused with a 401, and returns the
// request as it may be sent once more, with another token. It returns nil if it may
// not: there is no other token without asking a person, or the body is spent.
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

// token asks the provider for a token. No request is sent without one.
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

// withToken returns a copy of r with the header: a RoundTripper must not change the
// request that it is given.
func withToken(r *http.Request, token Token) *http.Request {
	c := r.WithContext(r.Context())
	c.Header = r.Header.Clone()
	token.SetAuthHeader(c)
	return c
}

// closeBody closes the body of a request that is not sent, as a RoundTripper has to.
func closeBody(r *http.Request) {
	if r.Body != nil {
		r.Body.Close()
	}
}

// CloseIdleConnections passes the call of [http.Client.CloseIdleConnections] on to
// Base.
func (t *Transport) CloseIdleConnections() {
	if t == nil {
		return
	}
	client := http.Client{Transport: t.Base}
	client.CloseIdleConnections()
}
