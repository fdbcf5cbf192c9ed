//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// This file carries tokens to the API, and to nobody else.

// Transport is an http.RoundTripper that sets the Authorization header on requests to Origin and on no others: those pass unchanged and without asking the
// Provider. This holds after redirects too, each of which passes here as a request of its own. A header that is there already is replaced.
//
// When the API answers 401, the Provider is told (see [Provider]); if it has another token then, without anybody being asked to sign in, the request is sent once
// more, provided that its body can be had again (GetBody). Otherwise the 401 is returned as it is.
type Transport struct {
	Provider Provider          // supplies the tokens
	Origin   string            // whom they are for, such as ClusterURL("greenfield"): scheme, host and port (RFC 6454 §4); https, or http for loopback alone
	Base     http.RoundTripper // sends the requests; nil means http.DefaultTransport
}

// NewHTTPClient returns an http.Client that carries the tokens of p to origin, by a [Transport] on http.DefaultTransport.
func NewHTTPClient(p Provider, origin string) (*http.Client, error) {
	t := &Transport{Provider: p, Origin: origin}
	if _, err := t.check(); err != nil {
		return nil, err
	}
	return &http.Client{Transport: t}, nil
}

func (t *Transport) check() (string, error) { // returns the origin in the form that requests' are compared in
	switch {
	case t == nil || t.Provider == nil:
		return "", errors.New("cdfauth: Transport: Provider is nil")
	case t.Origin == badCluster:
		return "", errors.New("cdfauth: Transport: Origin was made by ClusterURL of what is no cluster name (such as greenfield or westeurope-1)")
	}
	u, err := parseURL(t.Origin)
	if err = cmp.Or(err, refuse("", []refusal{{strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery,
		"has a path or a query: want scheme, host and port alone"}})); err != nil {
		return "", fmt.Errorf("cdfauth: Transport: Origin %w", err)
	}
	return originOf(u.Scheme, u.Host), nil
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	origin, err := t.check()
	foreign := r.URL == nil || originOf(r.URL.Scheme, r.URL.Host) != origin || r.Host != "" && originOf(r.URL.Scheme, r.Host) != origin
	var token Token
	if err == nil && !foreign {
		token, err = t.token(r.Context())
	}
	if err != nil {
		if r.Body != nil {
			r.Body.Close() // as a RoundTripper has to, on errors too
		}
		return nil, err
	}
	base := cmp.Or(t.Base, http.DefaultTransport)
	if foreign {
		return base.RoundTrip(r)
	}
	resp, err := base.RoundTrip(authorized(r, token))
	p, ok := t.Provider.(interface{ Invalidate(Token) })
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !ok {
		return resp, err
	}
	p.Invalidate(token)
	if r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
		return resp, nil
	}
	next, err := t.token(WithoutInteraction(r.Context()))
	again, same := authorized(r, next), next.AccessToken() == token.AccessToken()
	if err == nil && !same && r.GetBody != nil {
		again.Body, err = r.GetBody()
	}
	if err != nil || same {
		return resp, nil
	}
	resp.Body.Close()
	return base.RoundTrip(again)
}

func (t *Transport) token(ctx context.Context) (Token, error) {
	token, err := t.Provider.Token(ctx)
	return token, cmp.Or(err, refuse("cdfauth: Transport: ", []refusal{{token.AccessToken() == "", "Provider returned the zero Token"}}))
}

func authorized(r *http.Request, token Token) *http.Request { // returns a copy of r with the header: a RoundTripper must not change the request
	c := r.WithContext(r.Context())
	c.Header = r.Header.Clone()
	token.SetAuthHeader(c)
	return c
}

// CloseIdleConnections passes the call of http.Client's method on to Base.
func (t *Transport) CloseIdleConnections() {
	if t != nil {
		(&http.Client{Transport: t.Base}).CloseIdleConnections()
	}
}
