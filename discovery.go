//go:build go1.24

package cdfauth

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// This file gets the metadata of an OpenID provider from its well-known address
// (OpenID Connect Discovery §4, RFC 8414 §3). Metadata is refused if its issuer is not
// the one that was asked, or if it names endpoints that requests cannot go to. It is
// kept for a day, or until the provider answers a request with 404 or 410.

// metadata is what the package uses of a provider's metadata (OpenID Connect Discovery
// §3, RFC 8414 §2).
type metadata struct {
	Issuer       string `json:"issuer"`
	TokenURL     string `json:"token_endpoint"`
	AuthorizeURL string `json:"authorization_endpoint"`
	// DeviceURL is defined by RFC 8628 §4.
	DeviceURL string `json:"device_authorization_endpoint"`
	// Scopes is nil if the provider does not list its scopes.
	Scopes []string `json:"scopes_supported"`
	// SendsIssuer says that answers of the authorization endpoint have a parameter iss
	// (RFC 9207 §3).
	SendsIssuer bool `json:"authorization_response_iss_parameter_supported"`

	at time.Time // when it was found
}

// discoveryLimit is how long metadata is kept.
const discoveryLimit = 24 * time.Hour

// discoverWithRetries is discover, in several attempts if the error is transient.
func (c *client) discoverWithRetries(ctx context.Context) (*metadata, error) {
	var m *metadata
	_, err := retry(ctx, attempts, func() error {
		var err error
		m, err = c.discover(ctx)
		return err
	})
	return m, err
}

// metadata returns the metadata that discovery has found, or nil if it has found none
// or that is too old.
func (c *client) metadata() *metadata {
	m := c.found.Load()
	if m == nil || time.Since(m.at) >= discoveryLimit {
		return nil
	}
	return m
}

// discover returns the metadata. If the client has none, it sends one request for it.
// After a failure, the next call asks again.
func (c *client) discover(ctx context.Context) (*metadata, error) {
	if m := c.metadata(); m != nil {
		return m, nil
	}
	address := c.endpoint.metadataURL()
	answer, err := c.send(ctx, "discovery", address, nil)
	if err != nil {
		return nil, err
	}
	m := &metadata{at: time.Now()}
	asked := "it was asked for its metadata at " + address
	why := answer.decode(m)
	if why != "" {
		return nil, answer.error(nil, why+": "+asked)
	}
	// OpenID Connect Discovery §4.2 has this status alone.
	if answer.status != http.StatusOK {
		return nil, answer.error(nil, asked)
	}
	if err := c.checkMetadata(m); err != nil {
		return nil, err
	}
	c.found.Store(m)
	return m, nil
}

// checkMetadata returns what is wrong with metadata: its issuer, or an endpoint.
func (c *client) checkMetadata(m *metadata) error {
	if !c.isIssuer(m.Issuer) {
		return badField("Endpoint", "is wrong: asked %.200q for its metadata, but its issuer is %q",
			c.endpoint.url, scrub(m.Issuer, 200))
	}
	if err := c.checkEndpoint("token_endpoint", m.TokenURL); err != nil {
		return err
	}
	if m.AuthorizeURL != "" {
		if err := c.checkEndpoint("authorization_endpoint", m.AuthorizeURL); err != nil {
			return err
		}
	}
	if m.DeviceURL != "" {
		return c.checkEndpoint("device_authorization_endpoint", m.DeviceURL)
	}
	return nil
}

// isIssuer reports whether the issuer that metadata names is the one that was asked
// (OpenID Connect Discovery §4.3; RFC 8414 §3.3). If metadata of another one were
// accepted, one provider's answers could be taken for another's (RFC 9207 §1).
func (c *client) isIssuer(issuer string) bool {
	if c.entraStyle() {
		// Its address may name a tenant by its domain, and its issuer has the GUID.
		return issuer != ""
	}
	if c.endpoint.kind == kindDiscovery && origin(issuer) == origin(c.endpoint.url) {
		return true
	}
	return strings.TrimSuffix(issuer, "/") == c.endpoint.url
}

// checkEndpoint returns what is wrong with an endpoint that metadata names: requests
// cannot go to it, or it has no TLS and the metadata came by TLS. So metadata cannot
// lead from https to http.
func (c *client) checkEndpoint(field, raw string) error {
	u, err := parseURL(raw)
	if err != nil {
		return badField("Endpoint", "leads to metadata whose %s %w", field, err)
	}
	if u.Scheme != "https" && strings.HasPrefix(origin(c.endpoint.url), "https:") {
		return badField("Endpoint", "leads to metadata whose %s is not https", field)
	}
	return nil
}

// names reports whether iss is the issuer that m names. Entra's metadata for several
// tenants has the placeholder {tenantid} in its issuer, for which iss may have any
// tenant.
func (m *metadata) names(iss string) bool {
	if iss == m.Issuer {
		return true
	}
	before, after, several := strings.Cut(m.Issuer, "{tenantid}")
	if !several {
		return false
	}
	rest, hasStart := strings.CutPrefix(iss, before)
	tenant, hasEnd := strings.CutSuffix(rest, after)
	return hasStart && hasEnd && isName(tenant, "-.")
}
