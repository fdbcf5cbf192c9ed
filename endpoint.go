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
	"math"
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

// This file is where the package talks to an identity provider: which address that is, what a request to it looks like, what is
// accepted as an answer, and what of it an error may show.

// Endpoint says where the identity provider is. It is made by [Entra], [Authority], [Issuer], [Discovery] or [TokenURL]; a bad
// argument is reported by the constructor of the provider that it is given to. Addresses are https, or http for loopback alone,
// without userinfo or fragment (RFC 6749 §3.1, §3.2).
type Endpoint struct {
	kind endpointKind
	url  string // without a trailing slash, but for TokenURL
	err  error
}

type endpointKind int

const (
	kindNone endpointKind = iota
	kindAuthority
	kindADFS // an authority too, with other paths and practices
	kindIssuer
	kindDiscovery
	kindTokenURL
)

const wellKnown = "/.well-known/openid-configuration"

// Entra is Microsoft Entra ID. The tenant is its GUID or one of its domain names: https://login.microsoftonline.com/{tenant}.
func Entra(tenantID string) Endpoint {
	// No character that could change the host or leave the path segment.
	if !isName(tenantID, "-._") || strings.Trim(tenantID, ".") == "" {
		return Endpoint{kind: kindAuthority, err: fmt.Errorf("cdfauth: Endpoint: Entra(%.64q): want a tenant's GUID or domain name", tenantID)}
	}
	return Authority("https://login.microsoftonline.com/" + tenantID)
}

// Authority is an Entra-style authority, whose endpoints are {authority}/oauth2/v2.0/{authorize,token,devicecode}; that of an AD
// FS, known by a last path segment adfs, has {authority}/oauth2/… instead.
func Authority(authorityURL string) Endpoint {
	e := newEndpoint(kindAuthority, "Authority", authorityURL)
	if strings.HasSuffix(strings.ToLower(e.url), "/adfs") {
		e.kind = kindADFS
	}
	if e.err == nil && (strings.Contains(e.url, "/oauth2/") || strings.HasSuffix(e.url, "/v2.0")) {
		e.err = errors.New("cdfauth: Endpoint: Authority: the URL goes beyond the authority: want it without /oauth2/… and /v2.0, or TokenURL or Issuer")
	}
	return e
}

// Issuer is any OpenID provider, found by its metadata at {issuer}/.well-known/openid-configuration (OpenID Connect Discovery §4).
// The issuer named there must be the one asked for, but for a trailing slash.
func Issuer(issuerURL string) Endpoint { return newEndpoint(kindIssuer, "Issuer", issuerURL) }

// Discovery is an OpenID provider found by the same document as with [Issuer], which may name any issuer on the origin of rootURL.
// It is what Cognite calls oauth_discovery_url; prefer Issuer.
func Discovery(rootURL string) Endpoint { return newEndpoint(kindDiscovery, "Discovery", rootURL) }

// TokenURL is a bare token endpoint (RFC 6749 §3.2), for flows that need no other.
func TokenURL(tokenURL string) Endpoint { return newEndpoint(kindTokenURL, "TokenURL", tokenURL) }

func newEndpoint(kind endpointKind, name, raw string) Endpoint {
	u, err := parseURL(raw)
	if err == nil && kind != kindTokenURL && (u.RawQuery != "" || u.ForceQuery) {
		err = errors.New("has a query")
	}
	if err != nil {
		return Endpoint{kind: kind, err: fmt.Errorf("cdfauth: Endpoint: %s: the URL %w", name, err)}
	}
	if kind != kindTokenURL {
		raw = strings.TrimRight(strings.TrimSuffix(strings.TrimRight(raw, "/"), wellKnown), "/")
	}
	return Endpoint{kind: kind, url: raw}
}

// parseURL parses a URL that requests may be sent to. Its error does not show the URL, which may have a password in it.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		return nil, errors.New("is empty")
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("is not of the form https://host/path")
	case u.User != nil:
		return nil, errors.New("has a user name or a password in it")
	case strings.Contains(raw, "#"):
		return nil, errors.New("has a fragment")
	case !isName(u.Hostname(), "-._:"):
		return nil, errors.New("has a host name that is not ASCII letters, digits, hyphens and dots (an internationalised one is wanted as xn--…)")
	case u.Scheme != "https" && !(u.Scheme == "http" && isLoopback(u.Hostname())):
		return nil, errors.New("must be https (http only for a loopback host)")
	}
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}

// isName reports whether s is made of ASCII letters, digits and those in also.
func isName(s, also string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(also, r))
	}) < 0
}

// badCluster is what becomes of a cluster name that is none. No constructor takes it for a scope or an origin.
const badCluster = `"not the name of a CDF cluster"`

// ClusterURL returns https://{cluster}.cognitedata.com, the origin of a CDF cluster's API. Of a bad name it makes an origin that
// [NewHTTPClient] refuses.
func ClusterURL(cluster string) string {
	if !isName(cluster, "-.") || strings.Trim(cluster, ".-") != cluster || strings.Contains(cluster, "..") || strings.HasSuffix(cluster, "cognitedata.com") {
		return badCluster
	}
	return "https://" + strings.ToLower(cluster) + ".cognitedata.com"
}

// ClusterScopes returns the scope of a CDF cluster at Entra, https://{cluster}.cognitedata.com/.default. Of a bad name it makes a
// scope that constructors refuse.
func ClusterScopes(cluster string) []string {
	if u := ClusterURL(cluster); u != badCluster {
		return []string{u + "/.default"}
	}
	return []string{badCluster}
}

// metadata is what is known of an identity provider.
type metadata struct {
	Issuer   string    `json:"issuer"`
	TokenURL string    `json:"token_endpoint"`
	at       time.Time // when it was found
}

// client is an OAuth client at its identity provider: what requests of every flow have in common.
type client struct {
	flow     string
	endpoint Endpoint
	id       string
	scope    string
	params   url.Values
	http     http.Client
	logger   *slog.Logger
	now      func() time.Time

	found atomic.Pointer[metadata] // by discovery
}

// reserved are the parameters that are the flows' own.
var reserved = strings.Fields(`grant_type client_id client_secret client_assertion client_assertion_type scope code redirect_uri
	code_verifier code_challenge code_challenge_method refresh_token device_code response_type response_mode state nonce
	request request_uri prompt login_hint client_info username password assertion`)

// newClient checks and copies what all configurations share. The engine beside it still lacks the flow's phases.
func newClient(flow string, ep Endpoint, id string, scopes []string, params url.Values, o Options) (*client, *engine, error) {
	switch {
	case ep.kind == kindNone:
		return nil, nil, errors.New("cdfauth: Endpoint is missing: make it with Entra, Authority, Issuer, Discovery or TokenURL")
	case ep.err != nil:
		return nil, nil, ep.err
	case id == "":
		return nil, nil, errors.New("cdfauth: ClientID is missing")
	case strings.TrimSpace(id) != id || strings.ContainsFunc(id, func(r rune) bool { return r < ' ' || r > '~' }):
		return nil, nil, errors.New("cdfauth: ClientID has a character that is not printable ASCII, or a blank at an end (RFC 6749 appendix A.1)")
	case o.Leeway < 0:
		return nil, nil, fmt.Errorf("cdfauth: Leeway is negative (%v)", o.Leeway)
	}
	for i, s := range scopes {
		if s == badCluster {
			return nil, nil, fmt.Errorf("cdfauth: Scopes[%d] was made by ClusterScopes of what is no cluster name (such as greenfield or westeurope-1)", i)
		}
		// RFC 6749 §3.3: %x21 / %x23-5B / %x5D-7E
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }) {
			return nil, nil, fmt.Errorf("cdfauth: Scopes[%d] is %q: want one scope of visible ASCII without quotes and backslashes, each in an element of its own", i, s)
		}
	}
	c := &client{flow: flow, endpoint: ep, id: id, scope: strings.Join(scopes, " "), logger: o.Logger, params: make(url.Values, len(params))}
	for name, values := range params {
		if name == "" || slices.Contains(reserved, name) {
			return nil, nil, fmt.Errorf("cdfauth: Params: %q is not for callers to set", name)
		}
		c.params[name] = slices.Clone(values)
	}
	if o.HTTPClient != nil {
		c.http = *o.HTTPClient
	} else {
		c.http.Transport = privateTransport()
	}
	// A redirect would carry the secret in the request's body to whom the answer names.
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	e := newEngine(flow, o)
	c.now = func() time.Time { return e.now().Round(0) }
	return c, e, nil
}

// privateTransport is shared by all providers without an HTTPClient. Its connections are soon closed: a provider at rest costs
// nothing.
var privateTransport = sync.OnceValue(func() http.RoundTripper {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    5 * time.Second,
		IdleConnTimeout:        5 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
})

const (
	attempts       = 3
	attemptLimit   = 10 * time.Second
	maxBody        = 1 << 20 // 1 MiB
	discoveryLimit = 24 * time.Hour
)

// form is one token request, made anew for each attempt.
type form struct {
	url.Values
	basicAuth string   // the value of the Authorization header, if that is how the client proves itself
	secrets   []string // what must not come back in an error
}

// tokenResponse is an answer of either kind (RFC 6749 §5.1, §5.2).
type tokenResponse struct {
	errorResponse
	AccessToken string          `json:"access_token"`
	TokenType   string          `json:"token_type"`
	ExpiresIn   json.RawMessage `json:"expires_in"`
	RefreshIn   json.RawMessage `json:"refresh_in"` // Entra: when it would like a refresh
	Scope       string          `json:"scope"`
}

type errorResponse struct {
	Code          string `json:"error"`
	Description   string `json:"error_description"`
	URI           string `json:"error_uri"`
	CorrelationID string `json:"correlation_id"`
}

// exchange sends a token request, with as many tries as the grant allows, and returns the token. fill adds to the request what the
// flow has to say; it is called for each try.
func (c *client) exchange(ctx context.Context, grant string, tries int, fill func(ctx context.Context, tokenURL string, f *form) error) (issued, error) {
	var i issued
	var a answer
	start := time.Now()
	try, err := again(ctx, tries, func() (err error) {
		i, a, err = c.attempt(ctx, grant, fill)
		return err
	})
	c.report(ctx, grant, i, a, err, try, start)
	return i, err
}

// again calls do until its error is none that may pass, at most so many times, and waits in between.
func again(ctx context.Context, tries int, do func() error) (try int, err error) {
	for try = 1; ; try++ {
		if err = do(); err == nil || try == tries || !isTransient(err) {
			return try, err
		}
		wait := max(backoff(try), min(askedFor(err), retryAfterMax))
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return try, err // the next would only be cut short
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return try, err
		}
	}
}

// askedFor is the Retry-After in an error of the provider's.
func askedFor(err error) time.Duration {
	if oe := (*OAuthError)(nil); errors.As(err, &oe) {
		return oe.RetryAfter
	}
	return 0
}

func (c *client) report(ctx context.Context, grant string, i issued, a answer, err error, try int, start time.Time) {
	if c.logger != nil {
		level := slog.LevelInfo
		attrs := []slog.Attr{slog.String("flow", c.flow), slog.String("grant", grant), slog.String("host", a.host), slog.Int("status", a.status),
			slog.Int("attempts", try), slog.Duration("duration", time.Since(start)), slog.String("correlation_id", a.correlationID)}
		if err != nil {
			level, attrs = slog.LevelWarn, append(attrs, slog.Any("error", err)) // which has the provider's own correlation id
		} else {
			attrs = append(attrs, slog.Time("expiry", i.token.Expiry()))
		}
		c.logger.LogAttrs(ctx, level, "cdfauth: token request", attrs...)
	}
}

// attempt is one try of a token request.
func (c *client) attempt(ctx context.Context, grant string, fill func(context.Context, string, *form) error) (issued, answer, error) {
	tokenURL, err := c.tokenURL(ctx)
	if err != nil {
		return issued{}, answer{host: host(c.endpoint.url)}, err
	}
	f := &form{Values: make(url.Values, len(c.params)+6)}
	maps.Copy(f.Values, c.params)
	f.Set("grant_type", grant)
	f.Set("client_id", c.id)
	if c.scope != "" {
		f.Set("scope", c.scope)
	}
	if err := fill(ctx, tokenURL, f); err != nil {
		return issued{}, answer{host: host(tokenURL)}, err
	}
	sent := c.now()
	a, err := c.send(ctx, "token request", tokenURL, f)
	if err != nil {
		return issued{}, a, err
	}
	if a.status == http.StatusNotFound || a.status == http.StatusGone {
		c.found.Store(nil) // the metadata is out of date
	}
	i, err := c.token(a, sent, f.secrets)
	return i, a, err
}

// token checks an answer and makes a token of it. The body's error is looked at before the status.
func (c *client) token(a answer, sent time.Time, secrets []string) (issued, error) {
	var r tokenResponse
	refuse := func(why string) (issued, error) { return issued{}, a.error(secrets, why) }
	why := a.decode(&r)
	switch {
	case r.Code != "" || a.status/100 != 2:
		return refuse("")
	case why != "":
		return refuse(why)
	}
	if err := checkAccessToken(r.AccessToken); err != nil {
		return refuse("the answer's " + err.Error())
	}
	if r.TokenType != "" && !strings.EqualFold(r.TokenType, "Bearer") { // missing: RFC 6749 §7.1 lets the client decide
		return refuse("the answer's token_type is not Bearer")
	}
	life, ok := seconds(r.ExpiresIn, 10*time.Minute)
	refresh, ok2 := seconds(r.RefreshIn, 0)
	if !ok || !ok2 {
		return refuse("the answer's expires_in or refresh_in is not a number")
	}
	i := issued{sent: sent, token: newToken(tokenData{header: bearer + r.AccessToken, expiry: sent.Add(life), scope: printable(r.Scope)})}
	if refresh > 0 {
		i.refresh = sent.Add(refresh)
	}
	return i, nil
}

// seconds reads a number of seconds, which real servers also send as a string and with a fraction. What exceeds maxLife is cut to
// it.
func seconds(raw json.RawMessage, missing time.Duration) (time.Duration, bool) {
	s := strings.TrimSpace(strings.Trim(string(raw), `"`))
	if s == "" || s == "null" {
		return missing, true
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil && !math.IsInf(n, 0) || math.IsNaN(n) || strings.ContainsAny(s, "xXpP_iI") {
		return 0, false // the letters: hexadecimal and infinity are Go's, not JSON's
	}
	return time.Duration(max(-1, min(n, maxLife.Seconds())) * float64(time.Second)), true
}

// tokenURL returns the token endpoint, by discovery if it has to.
func (c *client) tokenURL(ctx context.Context) (string, error) {
	switch c.endpoint.kind {
	case kindTokenURL:
		return c.endpoint.url, nil
	case kindAuthority:
		return c.endpoint.url + "/oauth2/v2.0/token", nil
	case kindADFS:
		return c.endpoint.url + "/oauth2/token", nil
	}
	m, err := c.discover(ctx)
	if err != nil {
		return "", err
	}
	return m.TokenURL, nil
}

// discover returns the provider's metadata, from memory for 24 hours.
func (c *client) discover(ctx context.Context) (*metadata, error) {
	if m := c.metadata(); m != nil {
		return m, nil
	}
	a, err := c.send(ctx, "discovery", c.endpoint.url+wellKnown, nil)
	if err != nil {
		return nil, err
	}
	m := &metadata{at: time.Now()}
	if why := a.decode(m); why != "" || a.status != http.StatusOK {
		return nil, a.error(nil, why, "it was asked for its metadata at "+c.endpoint.url+wellKnown)
	}
	if err := c.checkMetadata(m); err != nil {
		return nil, err
	}
	c.found.Store(m)
	return m, nil
}

// metadata returns what discovery found, if that is not too old.
func (c *client) metadata() *metadata {
	if m := c.found.Load(); m != nil && time.Since(m.at) < discoveryLimit {
		return m
	}
	return nil
}

// checkMetadata refuses a document that speaks for another provider (mix-up, RFC 9207 §1; OpenID Connect Discovery §4.3) or would
// lead requests astray.
func (c *client) checkMetadata(m *metadata) error {
	own := strings.TrimSuffix(m.Issuer, "/") == c.endpoint.url
	if c.endpoint.kind == kindDiscovery {
		own = origin(m.Issuer) == origin(c.endpoint.url)
	}
	if !own {
		return fmt.Errorf("cdfauth: Endpoint: asked %.200q for its metadata, but the issuer named there is %q", c.endpoint.url, scrub(m.Issuer, 200))
	}
	u, err := parseURL(m.TokenURL)
	if err == nil && u.Scheme != "https" && strings.HasPrefix(origin(c.endpoint.url), "https:") {
		err = errors.New("is not https")
	}
	if err != nil {
		return fmt.Errorf("cdfauth: Endpoint: the metadata's token_endpoint %w", err)
	}
	return nil
}

// answer is what came back, whole and not yet looked into.
type answer struct {
	host          string
	status        int
	correlationID string
	retryAfter    time.Duration
	body          []byte
}

// send sends a form, or gets what is at the URL if there is none, under a deadline for the attempt, and reads the answer. An error
// of the transport is transient unless TLS verification failed.
func (c *client) send(ctx context.Context, what, rawURL string, f *form) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	var secrets []string
	method, body := http.MethodGet, io.Reader(nil)
	if f != nil {
		secrets = f.secrets
		method, body = http.MethodPost, strings.NewReader(f.Encode())
	}
	r, err := http.NewRequestWithContext(ctx, method, rawURL, body)
	if err != nil {
		return answer{}, errors.New("cdfauth: the identity provider's URL is not usable")
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "cdfauth")
	if f != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if f.basicAuth != "" {
			r.Header.Set("Authorization", f.basicAuth)
		}
	}
	a := answer{host: r.URL.Host}
	var got outcome
	_, known := c.http.Transport.(*http.Transport)
	if known = known || c.http.Transport == nil; known {
		got = c.roundTrip(r) // net/http obeys the context; what else there is has to be guarded
	} else if got, err = guard(ctx, "HTTPClient", func(context.Context) (outcome, error) { return c.roundTrip(r), nil }); err != nil && ctx.Err() == nil {
		return a, err // a panic
	} else if err != nil {
		got.err = err
	}
	a.status, a.retryAfter, a.correlationID, a.body = got.status, got.retryAfter, scrub(got.correlationID, 64, secrets...), got.body
	if got.err != nil {
		if ctx.Err() != nil {
			return a, transient{fmt.Errorf("cdfauth: %s to %s: no answer in time: %w", what, a.host, ctx.Err())}
		}
		err := fmt.Errorf("cdfauth: %s to %s: %w", what, a.host, transportError(got.err, known, secrets))
		if failed := (*tls.CertificateVerificationError)(nil); errors.As(got.err, &failed) {
			return a, err
		}
		return a, transient{err}
	}
	if len(a.body) > maxBody {
		return a, a.error(secrets, "the answer has more than 1 MiB")
	}
	return a, nil
}

// outcome is an answer as it came, or why there is none.
type outcome struct {
	answer
	err error
}

func (c *client) roundTrip(r *http.Request) (o outcome) {
	resp, err := c.http.Do(r)
	if err != nil {
		return outcome{err: err}
	}
	defer resp.Body.Close()
	o.status = resp.StatusCode
	o.retryAfter = retryAfter(resp.Header.Get("Retry-After"), c.now())
	o.correlationID = cmp.Or(resp.Header.Get("X-Ms-Request-Id"), resp.Header.Get("X-Request-Id"), resp.Header.Get("X-Correlation-Id"))
	var b bytes.Buffer
	b.Grow(int(min(max(resp.ContentLength, 0), maxBody)) + bytes.MinRead + 1)
	_, o.err = b.ReadFrom(io.LimitReader(resp.Body, maxBody+1))
	o.body = b.Bytes()
	return o
}

// decode reads a JSON object, and says what is wrong without showing any of it.
func (a answer) decode(v any) (why string) {
	err := json.Unmarshal(a.body, v)
	if err == nil && !bytes.Equal(bytes.TrimSpace(a.body), []byte("null")) {
		return ""
	}
	if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) && wrong.Field != "" {
		return "the answer's " + wrong.Field + " is of the wrong type"
	}
	return "the answer is not a JSON object"
}

// OAuthError is what the identity provider answered (RFC 6749 §5.2), for errors.As. Its texts are bounded, printable, and without
// any secret that the request had.
type OAuthError struct {
	Code          string        // error, such as "invalid_client"; "" when the answer was not of that form
	Description   string        // error_description
	URI           string        // error_uri
	StatusCode    int           // of the HTTP response
	CorrelationID string        // for the provider's support
	RetryAfter    time.Duration // as the server asked; 0 if it did not
}

func (e *OAuthError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cdfauth: the identity provider answered %d", e.StatusCode)
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	}
	if e.Description != "" {
		b.WriteString(": " + e.Description)
	}
	if e.CorrelationID != "" {
		b.WriteString(" (correlation id " + e.CorrelationID + ")")
	}
	return b.String()
}

// errorCodes are those that callers decide on (RFC 6749 §4.1.2.1, §5.2; 8628 §3.5; 8707 §2; OpenID Connect Core §3.1.2.6). They are
// never scrubbed: they have to survive a secret such as "my-client-secret".
var errorCodes = strings.Fields(`invalid_request invalid_client invalid_grant unauthorized_client unsupported_grant_type invalid_scope
	server_error temporarily_unavailable authorization_pending slow_down access_denied expired_token unsupported_response_type
	invalid_target interaction_required login_required consent_required account_selection_required`)

// error makes an *OAuthError of an answer, wrapped in what else there is to say. A body's error decides before the status does.
func (a answer) error(secrets []string, remarks ...string) error {
	var e errorResponse
	_ = json.Unmarshal(a.body, &e) // fields of other types stay empty
	oe := &OAuthError{Code: scrub(e.Code, 64, secrets...), Description: scrub(e.Description, 500, secrets...), URI: scrub(e.URI, 200, secrets...),
		StatusCode: a.status, CorrelationID: cmp.Or(scrub(e.CorrelationID, 64, secrets...), a.correlationID), RetryAfter: a.retryAfter}
	if slices.Contains(errorCodes, e.Code) {
		oe.Code = e.Code
	}
	var err error = oe
	if a.status/100 == 3 {
		remarks = []string{"a redirect, and none is followed"}
	}
	for _, remark := range remarks {
		if remark != "" {
			err = fmt.Errorf("%w: %s", err, remark)
		}
	}
	if oe.Code == "server_error" || oe.Code == "temporarily_unavailable" || oe.Code == "" && a.status >= 400 {
		// Also a 403 or 404 with a page of HTML: a firewall's or a gateway's word, not the provider's.
		return transient{err}
	}
	return err
}

// transient marks an error that a later try may not meet.
type transient struct{ error }

func (t transient) Unwrap() error { return t.error }

func isTransient(err error) bool { return errors.As(err, &transient{}) }

// transportError drops the URL, whose query nobody is to see, and the original error if its text repeats a secret (net/http quotes
// malformed answers) or if it is not net/http's: others' may lead to the request.
func transportError(err error, known bool, secrets []string) error {
	for ue := (*url.Error)(nil); errors.As(err, &ue); {
		err = ue.Err
	}
	text := err.Error()
	if clean := scrub(text, 300, secrets...); !known || clean != text {
		return errors.New(clean)
	}
	return err
}

// retryAfter reads the header of that name (RFC 9110 §10.2.3): seconds or a date.
func retryAfter(v string, now time.Time) time.Duration {
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, t.Sub(now))
	}
	return 0
}

// scrub makes text from outside fit to show: printable, at most limit bytes long, and without any eight bytes in a row that a
// secret has too, as it is or as it was encoded on the way.
func scrub(text string, limit int, secrets ...string) string {
	if text == "" {
		return ""
	}
	const most, run = 8 << 10, 8 // cut first, generously: what a cut leaves of a secret falls to the second one
	text = printable(text[:min(len(text), most)])
	gone := make([]bool, len(text))
	for _, s := range secrets {
		forms := []string{s, url.QueryEscape(s), url.PathEscape(s)}
		for pad := range 3 { // base64 of something longer (Basic's pair) has it at one of three alignments
			b := []byte("  "[:pad] + s)
			forms = append(forms, base64.StdEncoding.EncodeToString(b), base64.URLEncoding.EncodeToString(b))
		}
		for _, form := range forms {
			n := min(run, len(form))
			for i := 0; n > 0 && i+n <= len(text); i++ {
				if strings.Contains(form, text[i:i+n]) {
					for j := range n {
						gone[i+j] = true
					}
				}
			}
		}
	}
	var b strings.Builder
	for i := 0; i < len(text) && b.Len() < limit; i++ {
		switch {
		case !gone[i]:
			b.WriteByte(text[i])
		case i == 0 || !gone[i-1]:
			b.WriteString("[removed]")
		}
	}
	return strings.ToValidUTF8(b.String(), "")
}

// printable drops what could move a terminal's cursor or hide in a log, and makes a blank of what separates lines.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s))
}

func host(raw string) string {
	u, _ := url.Parse(raw) // parseURL has seen it
	return u.Host
}
