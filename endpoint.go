package cdfauth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
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

var paths = map[string]string{kindAuthority: "/oauth2/v2.0/*", kindADFS: "/oauth2/*", kindTokenURL: ""} // for * goes an endpoint's name

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

type refusal struct { // what is wrong, if it is
	is   bool
	what string
}

func refuse(prefix string, refusals []refusal) error { // returns an error for the first that is wrong
	for _, r := range refusals {
		if r.is {
			return errors.New(prefix + r.what)
		}
	}
	return nil
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

type metadata struct {
	Issuer       string    `json:"issuer"`
	TokenURL     string    `json:"token_endpoint"`
	AuthorizeURL string    `json:"authorization_endpoint"`
	DeviceURL    string    `json:"device_authorization_endpoint"`                  // RFC 8628 §4
	Scopes       []string  `json:"scopes_supported"`                               // nil: it does not say
	SendsIssuer  bool      `json:"authorization_response_iss_parameter_supported"` // RFC 9207 §3
	at           time.Time // when it was found
}

type client struct { // an OAuth client at its identity provider: what requests of every flow have in common
	flow, id, scope string
	endpoint        Endpoint
	params          url.Values
	http            http.Client
	logger          *slog.Logger
	now             func() time.Time
	found           atomic.Pointer[metadata] // by discovery
}

var reserved = strings.Fields( /* the parameters that are the flows' own */ `grant_type client_id client_secret client_assertion client_assertion_type scope code redirect_uri code_verifier
	code_challenge code_challenge_method refresh_token device_code response_type response_mode state nonce request request_uri prompt login_hint
	client_info username password assertion`)

// newClient checks and copies what all configurations share. The engine beside it still lacks the flow's phases.
func newClient(flow string, ep Endpoint, id string, scopes []string, params url.Values, o Options) (*client, *engine, error) {
	err := cmp.Or(ep.err, refuse("cdfauth: ", []refusal{
		{ep.kind == "", "Endpoint is missing: make it with Entra, Authority, Issuer, Discovery or TokenURL"},
		{id == "", "ClientID is missing"},
		{strings.TrimSpace(id) != id || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r > '~' }),
			"ClientID has a character that is not printable ASCII, or a blank at an end (RFC 6749 appendix A.1)"},
		{o.Leeway < 0, "Leeway is negative"},
	}))
	for i, s := range scopes {
		bad := strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) // RFC 6749 §3.3
		err = cmp.Or(err, refuse(fmt.Sprintf("cdfauth: Scopes[%d] ", i), []refusal{
			{strings.HasPrefix(s, badCluster), "was made by ClusterScopes of what is no cluster name (such as greenfield or westeurope-1)"},
			{s == "" || bad, fmt.Sprintf("is %q: want one scope of visible ASCII without quotes and backslashes, each in an element of its own", s)},
		}))
	}
	c := &client{flow: flow, endpoint: ep, id: id, scope: strings.Join(scopes, " "), logger: o.Logger, params: make(url.Values, len(params))}
	for name, values := range params {
		taken := name == "" || slices.Contains(reserved, name)
		err = cmp.Or(err, refuse("cdfauth: Params: ", []refusal{{taken, fmt.Sprintf("%q is not for callers to set", name)}}))
		c.params[name] = slices.Clone(values)
	}
	if err != nil {
		return nil, nil, err
	}
	if c.http.Transport = privateTransport(); o.HTTPClient != nil {
		c.http = *o.HTTPClient
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // or a secret would go to whom the answer names
	e := newEngine(flow, o)
	c.now = func() time.Time { return e.now().Round(0) }
	return c, e, nil
}

var privateTransport = sync.OnceValue(func() http.RoundTripper { // shared by all providers without an HTTPClient. No connection is kept: net/http would log what comes on it unasked.
	return &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, MaxResponseHeaderBytes: 64 << 10,
		DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext, TLSHandshakeTimeout: 5 * time.Second, DisableKeepAlives: true}
})

const attempts, attemptLimit, maxBody, discoveryLimit = 3, 10 * time.Second, 1 << 20 /* 1 MiB */, 24 * time.Hour

type form struct { // one request, made anew for each attempt
	url.Values
	basicAuth string   // the value of the Authorization header, if that is how the client proves itself
	secrets   []string // what must not come back in an error
}

type filler func(ctx context.Context, tokenURL string, f *form) error // adds to a token request what the flow has to say

func (c *client) newForm() *form {
	f := &form{Values: make(url.Values, len(c.params)+6)}
	maps.Copy(f.Values, c.params)
	f.Set("client_id", c.id)
	if c.scope != "" {
		f.Set("scope", c.scope)
	}
	return f
}

type tokenResponse struct { // an answer of any kind: RFC 6749 §5.1, §5.2; RFC 8628 §3.2
	OAuthError
	AccessToken             string          `json:"access_token"`
	TokenType               string          `json:"token_type"`
	ExpiresIn               json.RawMessage `json:"expires_in"`
	RefreshIn               json.RawMessage `json:"refresh_in"` // Entra: when it would like a refresh
	Scope                   string          `json:"scope"`
	RefreshToken            string          `json:"refresh_token"` // this and the next three are for the flows of a user
	IDToken                 string          `json:"id_token"`
	ClientInfo              string          `json:"client_info"` // Entra: which account, base64url
	FamilyID                string          `json:"foci"`
	DeviceCode              string          `json:"device_code"` // this and the rest are of the device authorization endpoint
	UserCode                string          `json:"user_code"`
	VerificationURI         string          `json:"verification_uri"`
	VerificationURL         string          `json:"verification_url"` // a draft's spelling, still in use
	VerificationURIComplete string          `json:"verification_uri_complete"`
	Message                 string          `json:"message"`
	Interval                json.RawMessage `json:"interval"`
}

func (c *client) exchange(ctx context.Context, grant string, tries int, fill filler) (i issued, err error) {
	var a answer
	start := time.Now()
	try, err := again(ctx, tries, func() (err error) { i, a, err = c.attempt(ctx, grant, fill); return err })
	c.report(ctx, grant, i, a, err, try, start)
	return i, err
}

func again(ctx context.Context, tries int, do func() error) (try int, err error) { // calls do until its error is none that may pass, at most so many times, and waits in between
	for try = 1; ; try++ {
		if err = do(); err == nil || try == tries || !errors.As(err, &transient{}) {
			return try, err
		}
		wait := max(backoff(try), min(askedFor(err), retryAfterMax))
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait || !sleep(ctx, wait) {
			return try, err // the next would only be cut short
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	pause, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	<-pause.Done()
	return ctx.Err() == nil
}

func askedFor(err error) time.Duration {
	oe := new(OAuthError)
	errors.As(err, &oe)
	return oe.RetryAfter
}

func (c *client) report(ctx context.Context, grant string, i issued, a answer, err error, try int, start time.Time) {
	if c.logger == nil {
		return
	}
	level, last := slog.LevelInfo, slog.Time("expiry", i.token.Expiry())
	if err != nil {
		level, last = slog.LevelWarn, slog.Any("error", err)
	}
	c.logger.LogAttrs(ctx, level, "cdfauth: token request", slog.String("flow", c.flow), slog.String("grant", grant), slog.String("host", a.host),
		slog.Int("status", a.status), slog.Int("attempts", try), slog.Duration("duration", time.Since(start)),
		slog.String("correlation_id", a.correlationID), last)
}

func (c *client) attempt(ctx context.Context, grant string, fill filler) (i issued, a answer, err error) {
	f := c.newForm()
	f.Set("grant_type", grant)
	tokenURL, err := c.endpointURL(ctx, "token")
	if err == nil {
		err = fill(ctx, tokenURL, f)
	}
	if err != nil {
		return i, a, err
	}
	sent := c.now()
	if a, err = c.send(ctx, "token request", tokenURL, f); err == nil {
		i, err = c.token(a, sent, f.secrets)
	}
	return i, a, err
}

func (c *client) token(a answer, sent time.Time, secrets []string) (issued, error) { // checks an answer and makes a token of it. The body's error is looked at before the status.
	var r tokenResponse
	why, invalid := a.decode(&r), checkAccessToken(r.AccessToken)
	life, ok := seconds(r.ExpiresIn, 10*time.Minute)
	refresh, ok2 := seconds(r.RefreshIn, 0)
	if bad := refuse("", []refusal{
		{r.Code != "" || a.status/100 != 2, ""}, // which says enough
		{why != "", why},
		{invalid != "", "the answer's " + invalid},
		{r.TokenType != "" && r.TokenType != "Bearer" && strings.ToLower(r.TokenType) != "bearer", "the answer's token_type is not Bearer"}, // missing: RFC 6749 §7.1 lets the client decide
		{!ok || !ok2, "the answer's expires_in or refresh_in is not a number"},
	}); bad != nil {
		return issued{}, a.error(secrets, bad.Error())
	}
	i := issued{sent: sent, answer: &r, token: newToken(tokenData{header: bearer + r.AccessToken, expiry: sent.Add(life), scope: printable(r.Scope)})}
	if refresh > 0 {
		i.refresh = sent.Add(refresh)
	}
	return i, nil
}

// seconds reads a number of seconds, which real servers also send as a string and with a fraction. What exceeds maxLife is cut to it.
func seconds(raw json.RawMessage, missing time.Duration) (time.Duration, bool) {
	s := strings.TrimSpace(strings.Trim(string(raw), `"`))
	if s == "" || s == "null" {
		return missing, true
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || strings.ContainsAny(s, "xXpP_iInN") {
		return 0, false // the letters: hexadecimal, infinity and NaN are Go's, not JSON's
	}
	return time.Duration(max(-1, min(n, maxLife.Seconds())) * float64(time.Second)), true
}

func (c *client) endpointURL(ctx context.Context, name string) (string, error) { // returns an endpoint by its name in an Entra-style path: token, authorize or devicecode
	if path, ok := paths[c.endpoint.kind]; ok {
		return c.endpoint.url + strings.Replace(path, "*", name, 1), nil
	}
	m, err := c.discover(ctx)
	if err != nil {
		return "", err
	}
	found := map[string]string{"token": m.TokenURL, "authorize": m.AuthorizeURL, "devicecode": m.DeviceURL}[name]
	if found == "" {
		err = fmt.Errorf("cdfauth: Endpoint: the metadata of %s has no endpoint for %s: the provider does not offer this flow", c.endpoint.url, c.flow)
	}
	return found, err
}

func (c *client) provider(ctx context.Context) (m *metadata, err error) {
	_, err = again(ctx, attempts, func() (err error) { m, err = c.discover(ctx); return err })
	return m, err
}

func (c *client) discover(ctx context.Context) (*metadata, error) {
	if m := c.metadata(); m != nil {
		return m, nil
	}
	at := c.endpoint.url + map[string]string{kindAuthority: "/v2.0"}[c.endpoint.kind] + wellKnown
	a, err := c.send(ctx, "discovery", at, new(form))
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

func (c *client) entraStyle() bool { // says that the provider is Entra or behaves so
	return c.endpoint.kind == kindAuthority || c.endpoint.kind == kindADFS
}

type answer struct {
	host, correlationID string
	status              int
	retryAfter          time.Duration
	body                []byte
}

// send posts a form, or gets what is at the URL if it is empty. An error of the transport is transient unless TLS verification failed.
func (c *client) send(ctx context.Context, what, rawURL string, f *form) (a answer, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, strings.NewReader(f.Encode()))
	if err != nil {
		return a, errors.New("cdfauth: the identity provider's URL is not usable")
	}
	r.Header = http.Header{"Accept": {"application/json"}, "User-Agent": {"cdfauth"}}
	if f.Values != nil {
		r.Method, r.Header["Content-Type"] = http.MethodPost, []string{"application/x-www-form-urlencoded"}
	}
	if f.basicAuth != "" {
		r.Header["Authorization"] = []string{f.basicAuth}
	}
	_, known := c.http.Transport.(*http.Transport)
	if known = known || c.http.Transport == nil; known { // net/http obeys the context; what else there is has to be guarded
		a, err = c.roundTrip(r)
	} else {
		a, err = guard(ctx, "HTTPClient", func(context.Context) (answer, error) { return c.roundTrip(r) })
	}
	a.host, a.correlationID = r.URL.Host, scrub(a.correlationID, 64, f.secrets...)
	if a.status == http.StatusNotFound || a.status == http.StatusGone {
		c.found.Store(nil) // the metadata is out of date
	}
	switch {
	case err == nil && len(a.body) > maxBody:
		return a, a.error(f.secrets, "the answer has more than 1 MiB")
	case err == nil:
		return a, nil
	case ctx.Err() != nil:
		return a, transient{fmt.Errorf("cdfauth: %s to %s: no answer in time: %w", what, a.host, ctx.Err())}
	}
	failed, untrusted := (*url.Error)(nil), (*tls.CertificateVerificationError)(nil)
	if !errors.As(err, &failed) { // it panicked
		return a, err
	}
	final := errors.As(err, &untrusted)
	for errors.As(err, &failed) { // the URL is dropped, whose query nobody is to see;
		err = failed.Err
	}
	// and the original error, if its text repeats a secret, or quotes what net/http could not read, or if it is not net/http's and may lead to the request.
	text, _, quotes := strings.Cut(err.Error(), `"`)
	if clean := scrub(text, 300, f.secrets...); !known || clean != text || quotes && !final {
		err = errors.New(clean)
	}
	if err = fmt.Errorf("cdfauth: %s to %s: %w", what, a.host, err); final {
		return a, err
	}
	return a, transient{err}
}

func (c *client) roundTrip(r *http.Request) (a answer, err error) { // has an *url.Error whatever failed
	resp, err := c.http.Do(r)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	a.retryAfter = retryAfter(resp.Header.Get("Retry-After"), c.now())
	a.correlationID = cmp.Or(resp.Header.Get("X-Ms-Request-Id"), resp.Header.Get("X-Request-Id"), resp.Header.Get("X-Correlation-Id"))
	b := bytes.NewBuffer(make([]byte, 0, min(max(resp.ContentLength, 0), maxBody)+bytes.MinRead+1))
	if _, e := b.ReadFrom(io.LimitReader(resp.Body, maxBody+1)); e != nil {
		err = &url.Error{Err: e}
	}
	a.body = b.Bytes()
	return a, err
}

func (a answer) decode(v any) (why string) { // reads a JSON object, and says what is wrong without showing any of it
	err := json.Unmarshal(a.body, v)
	if err == nil && string(bytes.TrimSpace(a.body)) != "null" {
		return ""
	}
	if wrong, ok := err.(*json.UnmarshalTypeError); ok && wrong.Field != "" {
		return "the answer's " + wrong.Field + " is of the wrong type"
	}
	return "the answer is not a JSON object"
}

// OAuthError is what the identity provider answered (RFC 6749 §5.2), for errors.As. Its texts are bounded, printable, and without the request's secrets.
type OAuthError struct {
	Code          string        `json:"error"` // such as "invalid_client"; "" when the answer was not of that form
	Description   string        `json:"error_description"`
	URI           string        `json:"error_uri"`
	StatusCode    int           `json:"-"`              // of the HTTP response; 0 when a browser brought the answer
	CorrelationID string        `json:"correlation_id"` // for the provider's support
	RetryAfter    time.Duration `json:"-"`              // as the server asked; 0 if it did not
}

func (e *OAuthError) Error() string {
	s, status := "cdfauth: the identity provider answered", strings.TrimPrefix(strconv.Itoa(e.StatusCode), "0")
	for i, part := range []string{status, e.Code, e.Description, e.CorrelationID} {
		if part != "" {
			s += fmt.Sprintf([]string{" %s", " %s", ": %s", " (correlation id %s)"}[i], part)
		}
	}
	return s
}

// errorCodes are those that callers decide on (RFC 6749 §4.1.2.1, §5.2; 8628 §3.5; 8707 §2; OpenID Connect Core §3.1.2.6): never scrubbed, whatever the secret.
var errorCodes = strings.Fields(`invalid_request invalid_client invalid_grant unauthorized_client unsupported_grant_type invalid_scope server_error
	temporarily_unavailable authorization_pending slow_down access_denied expired_token unsupported_response_type invalid_target interaction_required
	login_required consent_required account_selection_required`)

func (a answer) error(secrets []string, why string) error { // makes an *OAuthError of an answer, wrapped in what else there is to say. A body's error decides before the status does.
	var e OAuthError
	_ = json.Unmarshal(a.body, &e) // fields of other types stay empty
	oe := &OAuthError{Code: scrub(e.Code, 64, secrets...), Description: scrub(e.Description, 500, secrets...), URI: scrub(e.URI, 200, secrets...), StatusCode: a.status,
		CorrelationID: cmp.Or(scrub(e.CorrelationID, 64, secrets...), a.correlationID), RetryAfter: a.retryAfter}
	if a.status/100 == 3 {
		why = "a redirect, and none is followed"
	}
	var err error = oe
	if why != "" {
		err = fmt.Errorf("%w: %s", oe, why)
	}
	if oe.Code == "server_error" || oe.Code == "temporarily_unavailable" || oe.Code == "" && a.status >= 400 {
		return transient{err} // also a 403 or 404 with a page of HTML: a firewall's or a gateway's word, not the provider's
	}
	return err
}

type transient struct{ error } // marks an error that a later try may not meet

func (t transient) Unwrap() error { return t.error }

func retryAfter(v string, now time.Time) time.Duration { // reads the header of that name (RFC 9110 §10.2.3): seconds or a date
	if n, err := strconv.ParseUint(cmp.Or(v, "0"), 10, 31); err == nil { // none is 0
		return time.Duration(n) * time.Second
	}
	date, _ := http.ParseTime(v) // long past if it is neither
	return max(0, date.Sub(now))
}

// scrub makes text from outside fit to show: printable, bounded, and without any eight bytes in a row that a secret has too, plain or encoded; but a known code stays.
func scrub(text string, limit int, secrets ...string) string {
	if text == "" || slices.Contains(errorCodes, text) {
		return text
	}
	const most, run = 8 << 10, 8 // cut first, generously: what a cut leaves of a secret falls to the second one
	text = printable(text[:min(len(text), most)])
	left := []byte(text)
	for _, s := range secrets {
		forms := []string{s, url.QueryEscape(s), url.PathEscape(s)}
		for pad := range 3 { // base64 of something longer (Basic's pair) has it at one of three alignments
			forms = append(forms, base64.StdEncoding.EncodeToString([]byte("  "[:pad]+s)), base64.URLEncoding.EncodeToString([]byte("  "[:pad]+s)))
		}
		for _, form := range forms {
			n := min(run, len(form)*len(s)) // 0 if there is no secret
			for i := 0; n > 0 && i+n <= len(text); i++ {
				if strings.Contains(form, text[i:i+n]) {
					clear(left[i : i+n])
				}
			}
		}
	}
	left = slices.CompactFunc(left, func(a, b byte) bool { return a == 0 && b == 0 }) // of its own, the text has no zeros
	text = strings.ReplaceAll(string(left), "\x00", "[removed]")
	return printable(text[:min(len(text), limit)])
}

func printable(s string) string { // drops what could move a terminal's cursor or hide in a log, and makes a blank of what separates lines
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s))
}
