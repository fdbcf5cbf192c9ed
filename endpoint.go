//go:build go1.24

package cdfauth

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// This file says where requests may go: which addresses of an identity provider or
// an API the package accepts, and which addresses the provider's endpoints have. It
// sends nothing. An error about a bad address does not show the address, because
// people put passwords into URLs.

// Endpoint says where the identity provider is. Make one with [Entra],
// [Authority], [Issuer], [Discovery] or [TokenURL]. They return no error. If the
// argument is bad, the constructor of the provider that gets the Endpoint fails.
// Every address has to be https, or http for a loopback host, without user name,
// password and fragment (RFC 6749 §3.1, §3.2). A placeholder that was left in an
// address, such as {tenant}, is an error, and so is an address of Microsoft Entra
// ID without a tenant.
type Endpoint struct {
	// kind is one of the kinds below, or "" for the zero Endpoint.
	kind string
	// url has no trailing slash, unless the kind is kindTokenURL.
	url string
	// host is the host name of url, in lower case.
	host string
	// v1 says that url belongs to the first version of Entra's endpoints.
	v1 bool
	// err says what is wrong with the argument; nil if nothing is. It is a
	// *fieldError.
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

// wellKnown is what has to be appended to an issuer's URL to get the URL of its
// metadata (OpenID Connect Discovery §4).
const wellKnown = "/.well-known/openid-configuration"

// entraRoot is the address of Microsoft Entra ID, to which a tenant is appended.
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
// …/devicecode. If the path of authorityURL ends in /adfs, the provider is an AD FS
// server, whose endpoints are {authorityURL}/oauth2/authorize, …/token and
// …/devicecode.
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

// Discovery returns the Endpoint of an OpenID provider whose address Cognite's
// documentation calls the oauth_discovery_url. It is like [Issuer], but the metadata may name any
// issuer with the same scheme, host and port as rootURL. Prefer Issuer, which
// checks more.
func Discovery(rootURL string) Endpoint { return newEndpoint(kindDiscovery, rootURL) }

// TokenURL returns the Endpoint of a provider of which only the token endpoint
// is known (RFC 6749 §3.2). The constructors of the flows that ask a person reject
// it, because those flows need other endpoints too. At Entra the URL ends in
// /oauth2/v2.0/token. The older URL, which ends in /oauth2/token, ignores scopes,
// and is accepted only if Params has a resource.
func TokenURL(tokenURL string) Endpoint { return newEndpoint(kindTokenURL, tokenURL) }

// newEndpoint checks the URL and returns an Endpoint of that kind. The URL of a
// token endpoint may have a query (RFC 6749 §3.2), and is used as it is. To a URL
// of another kind a path is appended. Therefore it must not have a query. People
// copy the URL of the metadata, so that newEndpoint removes wellKnown from its end.
func newEndpoint(kind, raw string) Endpoint {
	e := Endpoint{kind: kind}
	if hasPlaceholder(raw) {
		e.err = badField("Endpoint", "has a placeholder in it, {…} or <…>: put in the value")
		return e
	}
	u, err := parseURL(raw)
	if err != nil {
		e.err = badField("Endpoint", "%w", err)
		return e
	}
	if kind != kindTokenURL {
		if u.RawQuery != "" || u.ForceQuery {
			e.err = badField("Endpoint", "has a query, which no path can follow")
			return e
		}
		raw = strings.TrimRight(raw, "/")
		raw = strings.TrimSuffix(raw, wellKnown)
		raw = strings.TrimRight(raw, "/")
	}
	e.url = raw
	e.host = strings.ToLower(u.Hostname())
	if isEntraHost(e.host) {
		e.checkEntra(u.Path)
	}
	return e
}

// hasPlaceholder reports whether a URL has something like {tenant} or <tenant> in it,
// as documentation writes it, or the same as a browser's address bar encodes it.
func hasPlaceholder(raw string) bool {
	if strings.ContainsAny(raw, "{}<>") {
		return true
	}
	lower := strings.ToLower(raw)
	return strings.Contains(lower, "%7b") || strings.Contains(lower, "%3c")
}

// isEntraHost reports whether a host is one of Microsoft Entra ID. See
// https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud
// and, for the older names, authority.py of MSAL for Python.
func isEntraHost(host string) bool {
	switch host {
	case "login.microsoftonline.com", "login.microsoft.com", "login.windows.net", "sts.windows.net",
		"login.microsoftonline.us", "login-us.microsoftonline.com", "login.microsoftonline.de",
		"login.partner.microsoftonline.cn", "login.chinacloudapi.cn":
		return true
	}
	return false
}

// checkEntra checks the path of a URL at Entra, which has to begin with the tenant,
// and sets e.err if something is wrong. It sets e.v1 if the URL belongs to a token
// endpoint or to metadata of the first version, whose paths do not have v2.0.
func (e *Endpoint) checkEntra(path string) {
	path = strings.ToLower(strings.Trim(path, "/"))
	tenant := path // and what follows it, if the kind is kindAuthority
	switch e.kind {
	case kindTokenURL:
		v2, isV2 := strings.CutSuffix(path, "oauth2/v2.0/token")
		v1, isV1 := strings.CutSuffix(path, "oauth2/token")
		switch {
		case isV2:
			tenant = v2
		case isV1:
			tenant = v1
			e.v1 = true
		default:
			e.err = badField("Endpoint",
				"is not the token endpoint of a tenant of Entra, which ends in /oauth2/v2.0/token")
		}
	case kindIssuer, kindDiscovery:
		v2, isV2 := strings.CutSuffix(path, "v2.0")
		tenant = v2
		e.v1 = !isV2
	}
	if tenant == "" {
		e.err = badField("Endpoint",
			"has no tenant in it: want the tenant's GUID or domain name after %s/", e.host)
	}
}

// check reports what is wrong with an Endpoint in a configuration with these
// Params. The first version of Entra's endpoints ignores scopes. Without a parameter
// resource, it would issue a token that is not for the scopes.
func (e Endpoint) check(params url.Values) error {
	switch {
	case e.kind == "":
		return badField("Endpoint",
			"is missing: make it with Entra, Authority, Issuer, Discovery or TokenURL")
	case e.err != nil:
		return e.err
	case e.v1 && !params.Has("resource") && e.kind == kindTokenURL:
		return badField("Endpoint", "is of Entra's v1, which takes no scopes: "+
			"want …/oauth2/v2.0/token instead of …/oauth2/token")
	case e.v1 && !params.Has("resource"):
		return badField("Endpoint", "is of Entra's v1, which takes no scopes: "+
			"want https://login.microsoftonline.com/, the tenant, and /v2.0")
	}
	return nil
}

// address returns the URL of one of the provider's endpoints. The name is the last
// part of its path at Entra: authorize, token or devicecode. If kind is kindTokenURL,
// the name must be token. address returns false if the URL is in the provider's
// metadata instead.
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

// metadataURL returns the URL of the provider's metadata; kind must not be
// kindTokenURL. Entra has metadata for each version of its endpoints. Authority uses
// the endpoints of the second version, whose metadata is below /v2.0.
func (e Endpoint) metadataURL() string {
	if e.kind == kindAuthority {
		return e.url + "/v2.0" + wellKnown
	}
	return e.url + wellKnown
}

// entraStyle reports whether the Endpoint was made for Entra, for AD FS, or for a
// provider that arranges its endpoints as they do.
func (e Endpoint) entraStyle() bool {
	return e.kind == kindAuthority || e.kind == kindADFS
}

// parseURL parses and checks a URL that the package may send a request to, or show
// to a person. It never returns a nil URL: if raw cannot be parsed, it returns an
// empty one and an error. The error continues a sentence that begins with the name
// of the URL: "is empty".
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		u = new(url.URL)
	}
	return u, checkURL(raw, u)
}

// checkURL reports what is wrong with a URL. It gets the URL as it was given, and
// parsed.
func checkURL(raw string, u *url.URL) error {
	if raw == "" {
		return errors.New("is empty")
	}
	if isQuoted(raw) {
		return errors.New("has quotes around it: want it without")
	}
	if found := findCharacter(raw, notInURL); found != "" {
		return fmt.Errorf("has %s, which cannot be part of a URL (RFC 3986 §2)", found)
	}
	host := u.Hostname()
	secure := u.Scheme == "https" || u.Scheme == "http" && isLoopback(host)
	switch {
	case host == "" || u.Opaque != "":
		return errors.New("is not of the form https://host/path")
	case u.User != nil:
		return errors.New("has a user name or a password in it")
	case strings.Contains(raw, "#"):
		return errors.New("has a fragment")
	case !isName(host, "-._:"):
		return errors.New("has a host name that is not ASCII letters, digits, hyphens and dots " +
			"(an internationalised one is wanted as xn--…)")
	case !secure:
		return errors.New("must be https (http only for a loopback host)")
	}
	return nil
}

// isLoopback reports whether a host is this computer: localhost, or a loopback address.
func isLoopback(host string) bool {
	return net.ParseIP(host).IsLoopback() || strings.ToLower(host) == "localhost"
}

// notInURL reports whether r cannot be part of a URL. A double quote is among these
// characters. People leave one at the end when they copy a URL from a .env file or a
// program.
func notInURL(r rune) bool { return r == '"' || notVisibleASCII(r) }

// asciiAlphanumeric has the letters and digits of ASCII.
const asciiAlphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

// isName reports whether s consists of ASCII letters, digits and the characters in
// also. It returns false for the empty string.
func isName(s, also string) bool {
	return s != "" && strings.Trim(s, asciiAlphanumeric+also) == ""
}

// badCluster is what ClusterURL returns if its argument is not a valid name. No scope
// and no URL can have a quote or a blank in it, so that constructors reject it.
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
// characters could change the host that tokens are sent to. A name that ends in
// cognitedata.com is a whole host name, which people give by mistake.
func isCluster(name string) bool {
	return isName(name, "-.") &&
		strings.Trim(name, ".-") == name &&
		!strings.Contains(name, "..") &&
		!strings.HasSuffix(strings.ToLower(name), "cognitedata.com")
}

// originOf returns scheme, host and port of a URL in the form in which origins
// are compared (RFC 6454 §4): with the host in lower case, and always with a port.
// The host has a port unless it is the scheme's default. The scheme must be in lower
// case. Of the host, only ASCII letters are folded: some other letters fold to ASCII
// ones, which would turn one host into another.
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

// lowerASCII returns the lower case of an ASCII letter, and any other rune as it is.
func lowerASCII(r rune) rune {
	if 'A' <= r && r <= 'Z' {
		return r - 'A' + 'a'
	}
	return r
}

// origin returns what originOf returns for a URL, or "" if parseURL rejects the URL.
func origin(raw string) string {
	u, err := parseURL(raw)
	if err != nil {
		return ""
	}
	return originOf(u.Scheme, u.Host)
}
