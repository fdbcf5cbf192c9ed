//go:build go1.24

package cdfauth

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// This file talks to the identity provider: which address that is, what a request looks like, what is accepted as an answer, what of it an error may show.

// Endpoint says where the identity provider is. It is made by [Entra], [Authority], [Issuer], [Discovery] or [TokenURL]; a bad argument is reported by the
// constructor of the provider that it is given to. Addresses are https, or http for loopback alone, without userinfo or fragment (RFC 6749 §3.1, §3.2).
type Endpoint struct {
	kind string // by which function it was made, or ADFS; "" if by none
	url  string // without a trailing slash, but for TokenURL
	host string // its host name, in lower case
	err  error
}

const kindAuthority, kindADFS, kindIssuer, kindDiscovery, kindTokenURL = "Authority", "ADFS", "Issuer", "Discovery", "TokenURL" // AD FS is an authority too

const wellKnown = "/.well-known/openid-configuration"

// Entra is Microsoft Entra ID. The tenant is its GUID or one of its domain names: https://login.microsoftonline.com/{tenant}.
func Entra(tenantID string) Endpoint {
	if !isName(tenantID, "-._") || strings.Trim(tenantID, ".") == "" { // it could change the host or leave the path segment
		return Endpoint{kind: kindAuthority, err: fmt.Errorf("cdfauth: Endpoint: Entra(%.64q): want a tenant's GUID or domain name", tenantID)}
	}
	return Authority("https://login.microsoftonline.com/" + tenantID)
}

// Authority is Entra-style: its endpoints are {authority}/oauth2/v2.0/{authorize,token,devicecode}, or of an AD FS (last path segment adfs) {authority}/oauth2/….
func Authority(authorityURL string) Endpoint {
	e := newEndpoint(kindAuthority, authorityURL)
	if strings.HasSuffix(strings.ToLower(e.url), "/adfs") {
		e.kind = kindADFS
	}
	e.err = cmp.Or(e.err, refuse("cdfauth: Endpoint: Authority: the URL ", []refusal{{strings.Contains(e.url, "/oauth2/") || strings.HasSuffix(e.url, "/v2.0"),
		"goes beyond the authority: want it without /oauth2/… and /v2.0, or TokenURL or Issuer"}}))
	return e
}

// Issuer is any OpenID provider, by its metadata at {issuer}/.well-known/openid-configuration (OpenID Discovery §4), which must name it, but for a trailing slash.
func Issuer(issuerURL string) Endpoint { return newEndpoint(kindIssuer, issuerURL) }

// Discovery is Cognite's oauth_discovery_url: an OpenID provider by the document of [Issuer], which may name any issuer on rootURL's origin. Prefer Issuer.
func Discovery(rootURL string) Endpoint { return newEndpoint(kindDiscovery, rootURL) }

// TokenURL is a bare token endpoint (RFC 6749 §3.2), for flows that need no other.
func TokenURL(tokenURL string) Endpoint { return newEndpoint(kindTokenURL, tokenURL) }

func newEndpoint(kind, raw string) Endpoint {
	u, err := parseURL(raw)
	if kind != kindTokenURL {
		raw = strings.TrimRight(strings.TrimSuffix(strings.TrimRight(raw, "/"), wellKnown), "/")
		err = cmp.Or(err, refuse("", []refusal{{u.RawQuery != "" || u.ForceQuery, "has a query"}}))
	}
	if err != nil {
		return Endpoint{kind: kind, err: fmt.Errorf("cdfauth: Endpoint: %s: the URL %w", kind, err)}
	}
	return Endpoint{kind: kind, url: raw, host: strings.ToLower(u.Hostname())}
}

func parseURL(raw string) (*url.URL, error) { // parses a URL that requests may be sent to. Its error does not show the URL, which may have a password in it.
	u, err := url.Parse(raw)
	if err != nil {
		u = new(url.URL)
	}
	host := u.Hostname()
	loopback := net.ParseIP(host).IsLoopback() || strings.ToLower(host) == "localhost"
	return u, refuse("", []refusal{
		{raw == "", "is empty"},
		{host == "" || u.Opaque != "", "is not of the form https://host/path"},
		{u.User != nil, "has a user name or a password in it"},
		{strings.Contains(raw, "#"), "has a fragment"},
		{strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' }), "has a character that is not visible ASCII (RFC 3986 §2)"},
		{!isName(host, "-._:"), "has a host name that is not ASCII letters, digits, hyphens and dots (an internationalised one is wanted as xn--…)"},
		{u.Scheme != "https" && !(u.Scheme == "http" && loopback), "must be https (http only for a loopback host)"},
	})
}

func isName(s, also string) bool { // reports whether s is made of ASCII letters, digits and those in also
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"+also) == ""
}

const badCluster = `"not the name of a CDF cluster"` // what becomes of a cluster name that is none. No constructor takes it for a scope or an origin.

// ClusterURL returns https://{cluster}.cognitedata.com, the origin of a CDF cluster's API. Of a bad name it makes an origin that [NewHTTPClient] refuses.
func ClusterURL(cluster string) string {
	if !isName(cluster, "-.") || strings.Trim(cluster, ".-") != cluster || strings.Contains(cluster, "..") || strings.HasSuffix(strings.ToLower(cluster), "cognitedata.com") {
		return badCluster
	}
	return "https://" + strings.ToLower(cluster) + ".cognitedata.com"
}

// ClusterScopes returns the scope of a CDF cluster at Entra, https://{cluster}.cognitedata.com/.default. Of a bad name it makes a scope that constructors refuse.
func ClusterScopes(cluster string) []string { return []string{ClusterURL(cluster) + "/.default"} }

func originOf(scheme, host string) string { // returns scheme, host and port of a URL for comparison: lower case, the port explicit. No other letter than an ASCII one becomes one.
	u := url.URL{Host: host}
	name := u.Hostname()
	if lower := strings.ToLower(name); len(lower) == len(name) { // letters that fold to ASCII ones get shorter
		name = lower
	}
	return scheme + "://" + name + ":" + cmp.Or(u.Port(), map[string]string{"https": "443", "http": "80"}[scheme])
}

func origin(raw string) string { // originOf a URL in a string, "" if that is none
	if u, err := parseURL(raw); err == nil {
		return originOf(u.Scheme, u.Host)
	}
	return ""
}
