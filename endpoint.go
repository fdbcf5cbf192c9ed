//go:build go1.24

package cdfauth

import (
	"errors"
	"net"
	"net/url"
	"strings"
)

// This file says where requests may go: which addresses the package takes for
// an identity provider or an API, and what the addresses of the provider's
// endpoints are. It sends nothing. The errors of a bad address do not show it,
// because people put passwords into URLs.

// Endpoint says where the identity provider is. Make one with [Entra],
// [Authority], [Issuer], [Discovery] or [TokenURL]. If the argument of these is
// bad, the constructor of the provider that gets the Endpoint returns the
// error. Every address has to be https, or http for a loopback host, without
// user name, password and fragment (RFC 6749 §3.1, §3.2).
type Endpoint struct {
	// kind is one of the kinds below, or "" for the zero Endpoint.
	kind string
	// url has no trailing slash, unless the kind is kindTokenURL.
	url string
	// host is the host name of url, in lower case.
	host string
	// err says what is wrong with the argument. It is a *fieldError.
	err error
}

// The kinds of Endpoint, named after the functions that make them. An AD FS
// server is an Authority with paths of its own.
const (
	kindAuthority = "Authority"
	kindADFS      = "ADFS"
	kindIssuer    = "Issuer"
	kindDiscovery = "Discovery"
	kindTokenURL  = "TokenURL"
)

// wellKnown follows an issuer's URL in that of its metadata (OpenID Connect
// Discovery §4).
const wellKnown = "/.well-known/openid-configuration"

// entraRoot is the address of Microsoft Entra ID, which a tenant follows.
const entraRoot = "https://login.microsoftonline.com/"

// Entra returns the Endpoint of a tenant of Microsoft Entra ID:
// https://login.microsoftonline.com/{tenantID}. The tenantID is the tenant's
// GUID or one of its domain names, such as contoso.onmicrosoft.com.
func Entra(tenantID string) Endpoint {
	// A tenant with other characters could change the host or the path.
	if !isName(tenantID, "-._") || strings.Trim(tenantID, ".") == "" {
		return Endpoint{kind: kindAuthority, err: badField("Endpoint",
			"is Entra(%.64q): want a tenant's GUID or domain name", tenantID)}
	}
	return Authority(entraRoot + tenantID)
}

// Authority returns the Endpoint of a provider that arranges its endpoints as
// Microsoft Entra ID does: {authorityURL}/oauth2/v2.0/authorize, …/token and
// …/devicecode. If the path of authorityURL ends in /adfs, it is an AD FS
// server, whose endpoints are {authorityURL}/oauth2/authorize and so on.
func Authority(authorityURL string) Endpoint {
	e := newEndpoint(kindAuthority, authorityURL)
	if e.err != nil {
		return e
	}
	if strings.Contains(e.url+"/", "/oauth2/") || strings.HasSuffix(e.url, "/v2.0") {
		e.err = badField("Endpoint",
			"goes beyond the authority: want its URL without /oauth2/… and /v2.0")
		return e
	}
	if strings.HasSuffix(strings.ToLower(e.url), "/adfs") {
		e.kind = kindADFS
	}
	return e
}

// Issuer returns the Endpoint of an OpenID provider, whose metadata is read
// from {issuerURL}/.well-known/openid-configuration (OpenID Connect Discovery
// §4). The metadata must name issuerURL as its issuer; a trailing slash makes
// no difference.
func Issuer(issuerURL string) Endpoint { return newEndpoint(kindIssuer, issuerURL) }

// Discovery returns the Endpoint of an OpenID provider by what Cognite calls
// its oauth_discovery_url. It is like [Issuer], but the metadata may name any
// issuer with the same scheme, host and port as rootURL. Prefer Issuer, which
// checks more.
func Discovery(rootURL string) Endpoint { return newEndpoint(kindDiscovery, rootURL) }

// TokenURL returns the Endpoint of a provider of which only the token endpoint
// is known (RFC 6749 §3.2). The flows that ask a person need other endpoints
// too, and refuse it.
func TokenURL(tokenURL string) Endpoint { return newEndpoint(kindTokenURL, tokenURL) }

// newEndpoint checks the URL and returns an Endpoint of that kind. A token
// endpoint may have a query (RFC 6749 §3.2), and is used as it is. To the other
// URLs a path is appended, so that they have no query. One that ends in the
// path of the metadata, as people copy it, is taken without that path.
func newEndpoint(kind, raw string) Endpoint {
	u, err := parseURL(raw)
	if err == nil && kind != kindTokenURL && (u.RawQuery != "" || u.ForceQuery) {
		err = errors.New("has a query, which cannot be followed by a path")
	}
	if err != nil {
		return Endpoint{kind: kind, err: badField("Endpoint", "%w", err)}
	}
	if kind != kindTokenURL {
		raw = strings.TrimRight(raw, "/")
		raw = strings.TrimSuffix(raw, wellKnown)
		raw = strings.TrimRight(raw, "/")
	}
	return Endpoint{kind: kind, url: raw, host: strings.ToLower(u.Hostname())}
}

// check reports what is wrong with an Endpoint that a configuration has.
func (e Endpoint) check() error {
	if e.kind == "" {
		return badField("Endpoint",
			"is missing: make it with Entra, Authority, Issuer, Discovery or TokenURL")
	}
	return e.err
}

// address returns the URL of one of the provider's endpoints by its name in
// Entra's paths, which is authorize, token or devicecode. It returns false if
// the address stands in the provider's metadata instead.
func (e Endpoint) address(name string) (string, bool) {
	switch e.kind {
	case kindAuthority:
		return e.url + "/oauth2/v2.0/" + name, true
	case kindADFS:
		return e.url + "/oauth2/" + name, true
	case kindTokenURL:
		return e.url, true
	default:
		return "", false
	}
}

// metadataURL returns the URL of the provider's metadata. Entra has two
// documents, and that of the endpoints above is below /v2.0.
func (e Endpoint) metadataURL() string {
	if e.kind == kindAuthority {
		return e.url + "/v2.0" + wellKnown
	}
	return e.url + wellKnown
}

// entraStyle reports whether the provider is Entra or AD FS, or behaves so.
func (e Endpoint) entraStyle() bool {
	return e.kind == kindAuthority || e.kind == kindADFS
}

// parseURL parses a URL that the package may send a request to, or show to a
// person. It returns a URL in any case, an empty one if raw is none. Its error
// continues a sentence that begins with what the URL is.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		u = new(url.URL)
	}
	return u, checkURL(raw, u)
}

// checkURL reports what is wrong with a URL, parsed and as it was given.
func checkURL(raw string, u *url.URL) error {
	host := u.Hostname()
	loopback := net.ParseIP(host).IsLoopback() || strings.ToLower(host) == "localhost"
	secure := u.Scheme == "https" || u.Scheme == "http" && loopback
	switch {
	case raw == "":
		return errors.New("is empty")
	case host == "" || u.Opaque != "":
		return errors.New("is not of the form https://host/path")
	case u.User != nil:
		return errors.New("has a user name or a password in it")
	case strings.Contains(raw, "#"):
		return errors.New("has a fragment")
	case strings.ContainsFunc(raw, notVisibleASCII):
		return errors.New("has a character that is not visible ASCII (RFC 3986 §2)")
	case !isName(host, "-._:"):
		return errors.New("has a host name that is not ASCII letters, digits, hyphens and dots " +
			"(an internationalised one is wanted as xn--…)")
	case !secure:
		return errors.New("must be https (http only for a loopback host)")
	}
	return nil
}

// notVisibleASCII reports whether r is anything but a visible ASCII character.
func notVisibleASCII(r rune) bool { return r <= ' ' || r > '~' }

// asciiAlphanumeric are the letters and digits of ASCII.
const asciiAlphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// isName reports whether s is made of ASCII letters, digits and the characters
// in also. The empty string is no name.
func isName(s, also string) bool {
	return s != "" && strings.Trim(s, asciiAlphanumeric+also) == ""
}

// badCluster is what ClusterURL returns for a name that is none. No constructor
// takes it for a scope or an origin.
const badCluster = `"not the name of a CDF cluster"`

// ClusterURL returns https://{cluster}.cognitedata.com, the origin of the API
// of a CDF cluster. If cluster is not a valid name, such as greenfield or
// westeurope-1, it returns a string that [NewHTTPClient] rejects with an error
// that says so.
func ClusterURL(cluster string) string {
	if !isCluster(cluster) {
		return badCluster
	}
	return "https://" + strings.ToLower(cluster) + ".cognitedata.com"
}

// ClusterScopes returns the scope that Entra knows a CDF cluster by:
// https://{cluster}.cognitedata.com/.default. If cluster is not a valid name,
// it returns a scope that constructors reject with an error that says so.
func ClusterScopes(cluster string) []string {
	return []string{ClusterURL(cluster) + "/.default"}
}

// isCluster reports whether a cluster can have this name. A name with other
// characters could change the host that tokens are sent to. A whole host name
// is no cluster's.
func isCluster(name string) bool {
	return isName(name, "-.") &&
		strings.Trim(name, ".-") == name &&
		!strings.Contains(name, "..") &&
		!strings.HasSuffix(strings.ToLower(name), "cognitedata.com")
}

// originOf returns scheme, host and port of a URL in the form in which origins
// are compared: lower case, the port explicit (RFC 6454 §4). Only ASCII letters
// are folded. A Unicode letter that folds to an ASCII one would otherwise turn
// one host into another.
func originOf(scheme, host string) string {
	u := url.URL{Host: host}
	name := strings.Map(lowerASCII, u.Hostname())
	port := u.Port()
	switch {
	case port == "" && scheme == "https":
		port = "443"
	case port == "" && scheme == "http":
		port = "80"
	}
	return scheme + "://" + name + ":" + port
}

// lowerASCII returns the lower case of an ASCII letter, and others as they are.
func lowerASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r - 'A' + 'a'
	}
	return r
}

// origin returns the originOf a URL, or "" if parseURL does not take it.
func origin(raw string) string {
	u, err := parseURL(raw)
	if err != nil {
		return ""
	}
	return originOf(u.Scheme, u.Host)
}
