//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

type metadata struct {
	Issuer       string    `json:"issuer"`
	TokenURL     string    `json:"token_endpoint"`
	AuthorizeURL string    `json:"authorization_endpoint"`
	DeviceURL    string    `json:"device_authorization_endpoint"`                  // RFC 8628 §4
	Scopes       []string  `json:"scopes_supported"`                               // nil: it does not say
	SendsIssuer  bool      `json:"authorization_response_iss_parameter_supported"` // RFC 9207 §3
	at           time.Time // when it was found
}

const discoveryLimit = 24 * time.Hour

func (c *client) provider(ctx context.Context) (m *metadata, err error) {
	_, err = retry(ctx, attempts, func() (err error) { m, err = c.discover(ctx); return err })
	return m, err
}

func (c *client) discover(ctx context.Context) (*metadata, error) {
	if m := c.metadata(); m != nil {
		return m, nil
	}
	at := c.endpoint.metadataURL()
	a, err := c.send(ctx, "discovery", at, new(tokenRequest))
	if err != nil {
		return nil, err
	}
	m := &metadata{at: time.Now()}
	if why := a.decode(m); why != "" || a.status != http.StatusOK {
		return nil, a.error(nil, strings.TrimPrefix(why+": it was asked for its metadata at "+at, ": "))
	}
	// What speaks for another provider is refused (RFC 9207 §1; OpenID Connect Discovery §4.3). Entra has one name in addresses and another in tokens.
	own := strings.TrimSuffix(m.Issuer, "/") == c.endpoint.url || c.endpoint.kind == kindDiscovery && origin(m.Issuer) == origin(c.endpoint.url)
	if !own && !(c.entraStyle() && m.Issuer != "") {
		return nil, fmt.Errorf("cdfauth: Endpoint: asked %.200q for its metadata, but the issuer named there is %q", c.endpoint.url, scrub(m.Issuer, 200))
	}
	for i, raw := range []string{m.TokenURL, m.AuthorizeURL, m.DeviceURL} {
		u, err := parseURL(raw)
		err = cmp.Or(err, refuse("", []refusal{{u.Scheme != "https" && strings.HasPrefix(origin(c.endpoint.url), "https:"), "is not https"}}))
		if err != nil && (raw != "" || i == 0) {
			return nil, fmt.Errorf("cdfauth: Endpoint: the metadata's %s_endpoint %w", []string{"token", "authorization", "device_authorization"}[i], err)
		}
	}
	c.found.Store(m)
	return m, nil
}

func (c *client) metadata() *metadata { // returns what discovery found, if that is not too old
	if m := c.found.Load(); m != nil && time.Since(m.at) < discoveryLimit {
		return m
	}
	return nil
}

func (m *metadata) names(iss string) bool { // reports whether iss is this provider's issuer. Entra's metadata for several tenants has a placeholder in it.
	before, after, several := strings.Cut(m.Issuer, "{tenantid}")
	rest, ok1 := strings.CutPrefix(iss, before)
	tenant, ok2 := strings.CutSuffix(rest, after)
	return iss == m.Issuer || several && ok1 && ok2 && isName(tenant, "-.")
}
