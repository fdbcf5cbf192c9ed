package cdfauth

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// This file carries tokens to the API, and to nobody else.

// Transport is an http.RoundTripper that sets the Authorization header on requests to Origin and on no others: those pass unchanged
// and without asking the Provider. This holds after redirects too, each of which passes here as a request of its own. A header that
// is there already is replaced.
//
// When the API answers 401, the Provider is told (see [Provider]); if it has another token then, without anybody being asked to
// sign in, the request is sent once more, provided that its body can be had again (GetBody). Otherwise the 401 is returned as it
// is.
type Transport struct {
	// Provider supplies the tokens.
	Provider Provider
	// Origin is whom the token is for, such as ClusterURL("greenfield"): scheme, host and port (RFC 6454 §4). https, or http for
	// loopback alone.
	Origin string
	// Base sends the requests; nil means http.DefaultTransport.
	Base http.RoundTripper
}

// NewHTTPClient returns an http.Client that carries the tokens of p to origin, by a [Transport] on http.DefaultTransport.
func NewHTTPClient(p Provider, origin string) (*http.Client, error) {
	t := &Transport{Provider: p, Origin: origin}
	if _, err := t.check(); err != nil {
		return nil, err
	}
	return &http.Client{Transport: t}, nil
}

// check returns the origin in the form that requests' are compared in.
func (t *Transport) check() (string, error) {
	if t == nil || t.Provider == nil {
		return "", errors.New("cdfauth: Transport: Provider is nil")
	}
	if t.Origin == badCluster {
		return "", errors.New("cdfauth: Transport: Origin was made by ClusterURL of what is no cluster name (such as greenfield or westeurope-1)")
	}
	u, err := parseURL(t.Origin)
	if err == nil && (strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery) {
		err = errors.New("has a path or a query: want scheme, host and port alone")
	}
	if err != nil {
		return "", fmt.Errorf("cdfauth: Transport: Origin %w", err)
	}
	return originOf(u.Scheme, u.Host), nil
}

// originOf returns scheme, host and port of a URL for comparison: lower case, the port explicit. Only ASCII is lowered: other
// letters that fold to ASCII ones must not make two hosts the same.
func originOf(scheme, host string) string {
	u := url.URL{Host: host}
	port := cmp.Or(u.Port(), map[string]string{"https": "443", "http": "80"}[scheme])
	lower := func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	return scheme + "://" + strings.Map(lower, u.Hostname()) + ":" + port
}

// origin is originOf a URL in a string, "" if that is none.
func origin(raw string) string {
	u, err := parseURL(raw)
	if err != nil {
		return ""
	}
	return originOf(u.Scheme, u.Host)
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(r *http.Request) (*http.Response, error) {
	origin, err := t.check()
	if err != nil {
		return nil, closeBody(r, err)
	}
	if r.URL == nil || originOf(r.URL.Scheme, r.URL.Host) != origin || r.Host != "" && originOf(r.URL.Scheme, r.Host) != origin {
		return t.base().RoundTrip(r)
	}
	token, err := t.token(r.Context())
	if err != nil {
		return nil, closeBody(r, err)
	}
	resp, err := t.base().RoundTrip(authorized(r, token))
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	p, ok := t.Provider.(interface{ Invalidate(Token) })
	if !ok {
		return resp, nil
	}
	p.Invalidate(token)
	if r.Body != nil && r.Body != http.NoBody && r.GetBody == nil {
		return resp, nil
	}
	next, err := t.token(WithoutInteraction(r.Context()))
	if err != nil || next.AccessToken() == token.AccessToken() {
		return resp, nil
	}
	again := authorized(r, next)
	if r.GetBody != nil {
		if again.Body, err = r.GetBody(); err != nil {
			return resp, nil
		}
	}
	resp.Body.Close()
	return t.base().RoundTrip(again)
}

func (t *Transport) token(ctx context.Context) (Token, error) {
	token, err := t.Provider.Token(ctx)
	if err == nil && token.AccessToken() == "" {
		err = errors.New("cdfauth: Transport: Provider returned the zero Token")
	}
	return token, err
}

// authorized returns a copy of r with the header: a RoundTripper must not change the request.
func authorized(r *http.Request, token Token) *http.Request {
	c := r.WithContext(r.Context())
	c.Header = r.Header.Clone()
	token.SetAuthHeader(c)
	return c
}

// closeBody keeps the RoundTripper contract: the body is closed on errors too.
func closeBody(r *http.Request, err error) error {
	if r.Body != nil {
		r.Body.Close()
	}
	return err
}

func (t *Transport) base() http.RoundTripper {
	if t != nil && t.Base != nil {
		return t.Base
	}
	return http.DefaultTransport
}

// CloseIdleConnections passes the call of http.Client's method on to Base.
func (t *Transport) CloseIdleConnections() {
	if c, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
