//go:build go1.24

package cdfauth

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// This file is an OAuth client at its identity provider: what the requests of all
// flows have in common. newClient checks and copies that part of a configuration and
// chooses the http.Client. endpointURL says where a request goes: to an address that
// the Endpoint implies, or to one that discovery has found.

// A client is an OAuth client (RFC 6749 §2) at its identity provider. newClient sets
// its fields. Only found changes afterwards.
type client struct {
	flow     string // for errors and logs
	id       string
	scope    string // separated by blanks (RFC 6749 §3.3)
	endpoint Endpoint
	params   url.Values
	http     http.Client
	own      *http.Transport // newTransport's, which http uses; nil if the caller gave an HTTPClient
	logger   *slog.Logger    // nil if nothing is logged
	clock    *clock
	found    atomic.Pointer[metadata] // what discovery has found; nil if nothing yet
}

// newClient checks and copies what all configurations share. Its error is a
// *fieldError.
func newClient(flow string, endpoint Endpoint, id string, scopes []string, params url.Values,
	options Options, clock *clock) (*client, error) {
	if err := checkClient(endpoint, id, params, options); err != nil {
		return nil, err
	}
	if err := checkScopes(scopes); err != nil {
		return nil, err
	}
	c := &client{
		flow:     flow,
		id:       id,
		scope:    strings.Join(scopes, " "),
		endpoint: endpoint,
		params:   make(url.Values, len(params)),
		logger:   options.Logger,
		clock:    clock,
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if isReserved(name) {
			return nil, badField("Params", "has %q, which is not for callers to set", name)
		}
		c.params[name] = slices.Clone(params[name])
	}
	if options.HTTPClient != nil {
		c.http = *options.HTTPClient
	} else {
		c.own = newTransport()
		c.http.Transport = c.own
	}
	c.http.CheckRedirect = refuseRedirect
	return c, nil
}

// checkClient returns what is wrong with the fields that every flow has.
func checkClient(endpoint Endpoint, id string, params url.Values, options Options) error {
	if err := endpoint.check(params); err != nil {
		return err
	}
	if problem := clientIDProblem(id); problem != "" {
		return badField("ClientID", "%s", problem)
	}
	if options.Leeway < 0 {
		return badField("Leeway", "is negative")
	}
	return nil
}

// clientIDProblem says what is wrong with a client identifier; "" if nothing is. An
// identifier is printable ASCII (RFC 6749 appendix A.1). The RFC also allows blanks at
// its ends and quotes around it, but in practice these are mistakes of copying.
func clientIDProblem(id string) string {
	if id == "" {
		return "is missing"
	}
	if found := findCharacter(id, notPrintableASCII); found != "" {
		return "has " + found + ": want printable ASCII (RFC 6749 appendix A.1)"
	}
	if strings.TrimSpace(id) != id {
		return "has a blank at its start or its end"
	}
	if isQuoted(id) {
		return "has quotes around it: want it without"
	}
	return ""
}

// checkScopes returns what is wrong with a list of scopes: each is a scope-token of
// RFC 6749 §3.3.
func checkScopes(scopes []string) error {
	for i, scope := range scopes {
		if strings.HasPrefix(scope, badCluster) {
			return badField("Scopes",
				"was made by ClusterScopes of what is no cluster name (such as greenfield or westeurope-1)")
		}
		if scope == "" || strings.ContainsFunc(scope, notInScope) {
			return badField("Scopes",
				"has %q at [%d]: want one scope in each element, "+
					"of visible ASCII without quotes and backslashes", scope, i)
		}
	}
	return nil
}

// notInScope reports whether r cannot be part of a scope-token (RFC 6749 §3.3).
func notInScope(r rune) bool { return notVisibleASCII(r) || r == '"' || r == '\\' }

// isReserved reports whether the flows set a parameter themselves, or whether it could
// change what they do. Params must not have such a parameter.
func isReserved(name string) bool {
	switch name {
	case "":
		return true
	case "grant_type", "client_id", "client_secret", "scope", "code", "redirect_uri", "refresh_token",
		"response_type", "state", "username", "password": // RFC 6749
		return true
	case "client_assertion", "client_assertion_type", "assertion": // RFC 7521 §4
		return true
	case "code_verifier", "code_challenge", "code_challenge_method": // RFC 7636
		return true
	case "device_code": // RFC 8628 §3.4
		return true
	case "nonce", "prompt", "login_hint", "response_mode": // OpenID Connect Core §3.1.2.1
		return true
	case "request", "request_uri": // OpenID Connect Core §6
		return true
	case "client_info": // Entra
		return true
	}
	return false
}

// refuseRedirect is an http.Client's CheckRedirect. If a redirect were followed, the
// secret would go to whatever server the answer names.
func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// The limits of the package's own transport.
const (
	// dialLimit is how long the TCP handshake may take, and also the TLS handshake.
	dialLimit = 5 * time.Second
	// idleLimit is how long an unused connection is kept. It is shorter than servers and
	// firewalls keep theirs, so that no request goes to a connection that they have closed.
	idleLimit = 2 * time.Second
	// maxHeaderBytes is how long the header of an answer may be.
	maxHeaderBytes = 64 << 10
)

// newTransport returns the transport of a client whose configuration has no
// HTTPClient. After discovery it keeps the connection, which saves the request that
// follows a TCP and a TLS handshake. After a request with a secret the connection is
// closed (see send): net/http logs what a server sends on an idle connection, and a
// server could send the secret back.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		OnProxyConnectResponse: checkProxy,
		DialContext:            (&net.Dialer{Timeout: dialLimit}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    dialLimit,
		IdleConnTimeout:        idleLimit,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
}

// checkProxy returns an error if a proxy has refused to connect (RFC 9110 §9.3.6). The
// error names the proxy. That of net/http would have the text of the status alone.
func checkProxy(_ context.Context, proxy *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return fmt.Errorf("the proxy %s refused to connect: %d %s",
		proxy.Host, answer.StatusCode, http.StatusText(answer.StatusCode))
}

// closeIdle closes the connection that discovery may have left open, which ends its
// goroutines. It leaves a caller's HTTPClient alone.
func (c *client) closeIdle() {
	if c.own != nil {
		c.own.CloseIdleConnections()
	}
}

// entraStyle reports whether the provider is Entra or AD FS, or behaves so.
func (c *client) entraStyle() bool { return c.endpoint.entraStyle() }

// endpointURL returns the address of an endpoint by its name in Entra-style paths:
// "token" (RFC 6749 §3.2), "authorize" (§3.1) or "devicecode" (RFC 8628 §3.1). Unless
// the Endpoint implies the address, it may send one request, for the metadata.
func (c *client) endpointURL(ctx context.Context, name string) (string, error) {
	if address, known := c.endpoint.address(name); known {
		return address, nil
	}
	m, err := c.discover(ctx)
	if err != nil {
		return "", err
	}
	address := m.TokenURL
	switch name {
	case "authorize":
		address = m.AuthorizeURL
	case "devicecode":
		address = m.DeviceURL
	}
	if address == "" {
		return "", badField("Endpoint",
			"is %s, whose metadata has no endpoint for %s: the provider does not offer this flow",
			c.endpoint.url, c.flow)
	}
	return address, nil
}
