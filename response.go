//go:build go1.24

package cdfauth

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// This file says what is accepted as an answer of the identity provider: a token
// response (RFC 6749 §5.1) or a device authorization response (RFC 8628 §3.2). What
// is needed of it has to be right; what is not needed may be missing or of any type,
// as real providers have it. An answer with an error is none of these, whatever its
// status and whatever else is in it.

// maxBody is how many bytes an answer may have.
const maxBody = 1 << 20

// maxLife bounds the lifetime of a token: beyond it, times would overflow.
const maxLife = 100 * 365 * 24 * time.Hour

// defaultLife is the lifetime of a token whose provider does not say.
const defaultLife = 10 * time.Minute

// A response is what is read of an HTTP response.
type response struct {
	host          string
	status        int
	contentType   string // without parameters; "" for none
	location      string // where a redirect leads, without query; "" for nowhere
	retryAfter    time.Duration
	correlationID string // for the provider's support
	body          []byte
}

// A tokenResponse is what a token endpoint answers (RFC 6749 §5.1), as far as a
// token can be used without it.
type tokenResponse struct {
	Scope        string `json:"scope"`
	RefreshToken string `json:"refresh_token"`
	// IDToken is of OpenID Connect Core §3.1.3.3.
	IDToken string `json:"id_token"`
	// ClientInfo is which account has signed in, in Entra's words: base64url of JSON.
	ClientInfo string `json:"client_info"`
	// RefreshIn is after how many seconds Entra would like a refresh.
	RefreshIn json.RawMessage `json:"refresh_in"`
	// FamilyID is of the applications that share Entra's refresh token.
	FamilyID string `json:"foci"`
	// AccessToken is the token: no ID token may repeat it in an error.
	AccessToken string `json:"access_token"`
}

// A deviceAuthorizationResponse is what a device authorization endpoint answers
// (RFC 8628 §3.2).
type deviceAuthorizationResponse struct {
	DeviceCode              string `json:"device_code"`
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	// VerificationURL is a draft's spelling of VerificationURI that is still in use.
	VerificationURL string `json:"verification_url"`
	// Message is Entra's text for the person.
	Message string `json:"message"`
	// ExpiresIn and Interval are for function seconds.
	ExpiresIn json.RawMessage `json:"expires_in"`
	Interval  json.RawMessage `json:"interval"`
}

// A grant is a token as a flow got it, and what only the refresher and the cache need
// to know.
type grant struct {
	token Token
	// sent is when the token was asked for: its lifetime counts from then.
	sent time.Time
	// monotonic is the same by the monotonic clock (moment.monotonic); zero if the token
	// is from a cache.
	monotonic time.Duration
	// refresh is when the provider would like it refreshed; zero if it did not say.
	refresh time.Time
	// response is the rest of what the provider has said; nil if the token comes from
	// elsewhere.
	response *tokenResponse
}

// newResponse returns what is read of the answer of a URL besides its body. A date in it counts
// from the answer's own Date, if it has one: the provider's clock may be another.
func newResponse(resp *http.Response, asked *url.URL, now time.Time) response {
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		now = date
	}
	a := response{
		status:        resp.StatusCode,
		retryAfter:    parseRetryAfter(resp.Header.Get("Retry-After"), now),
		correlationID: correlationID(resp.Header),
	}
	contentType, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err == nil {
		a.contentType = contentType
	}
	location, err := asked.Parse(resp.Header.Get("Location"))
	if err == nil && resp.Header.Get("Location") != "" {
		shown := url.URL{Scheme: location.Scheme, Host: location.Host, Path: location.Path}
		a.location = shown.String()
	}
	return a
}

// correlationID returns by what the support of the provider, or of whoever is in
// front of it, finds the request. No standard names the header.
func correlationID(h http.Header) string {
	return cmp.Or(
		h.Get("X-Ms-Request-Id"), // Entra
		h.Get("X-Okta-Request-Id"),
		h.Get("X-Auth0-RequestId"),
		h.Get("X-Amzn-RequestId"), // AWS
		h.Get("X-Request-Id"),
		h.Get("X-Correlation-Id"),
		h.Get("X-Amz-Cf-Id"), // AWS CloudFront
		h.Get("Cf-Ray"),      // Cloudflare
	)
}

// grant makes a token of the answer to a token request that was sent at the given
// time.
func (a response) grant(sent time.Time, secrets []string) (grant, error) {
	var needed struct {
		AccessToken string          `json:"access_token"`
		TokenType   string          `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
	}
	if err := a.read(&needed, secrets); err != nil {
		return grant{}, err
	}
	if bad := checkAccessToken(needed.AccessToken); bad != "" {
		return grant{}, a.error(secrets, "the answer's "+bad)
	}
	secrets = append(secrets, needed.AccessToken)
	if !isBearer(needed.TokenType) {
		shown := scrub(needed.TokenType, 32, secrets...)
		return grant{}, a.error(secrets,
			"the answer's token_type is "+strconv.Quote(shown)+", and Bearer is wanted")
	}
	life, ok := seconds(needed.ExpiresIn, defaultLife)
	if !ok {
		return grant{}, a.error(secrets, "the answer's expires_in is not a number")
	}

	var rest tokenResponse
	_ = json.Unmarshal(a.body, &rest) // fields of other types stay empty
	got := grant{sent: sent, response: &rest}
	got.token = newToken(tokenData{
		header: bearer + needed.AccessToken,
		expiry: sent.Add(life),
		scope:  printable(rest.Scope),
	})
	refresh, ok := seconds(rest.RefreshIn, 0)
	if ok && refresh > 0 {
		got.refresh = sent.Add(refresh)
	}
	return got, nil
}

// isBearer reports whether a token_type is Bearer, in any case (RFC 6749 §5.1). If it
// is missing, §7.1 lets the client decide. Some gateways say BearerToken.
func isBearer(tokenType string) bool {
	switch strings.ToLower(strings.TrimSpace(tokenType)) {
	case "", "bearer", "bearertoken":
		return true
	}
	return false
}

// deviceAuthorization reads the answer of a device authorization endpoint.
func (a response) deviceAuthorization() (deviceAuthorizationResponse, error) {
	var needed struct {
		DeviceCode string `json:"device_code"`
	}
	if err := a.read(&needed, nil); err != nil {
		return deviceAuthorizationResponse{}, err
	}
	var r deviceAuthorizationResponse
	_ = json.Unmarshal(a.body, &r) // fields of other types stay empty
	return r, nil
}

// seconds reads a number of seconds, which real servers also send as a string and
// with a fraction. If there is none, or a string that is no number (3600s), it
// returns missing. More than maxLife is cut to it. It reports false for what is
// neither a number nor a string.
func seconds(raw json.RawMessage, missing time.Duration) (time.Duration, bool) {
	text := string(raw)
	if text == "" || text == "null" {
		return missing, true
	}
	text, isString := strings.CutPrefix(text, `"`)
	text = strings.TrimSpace(strings.TrimSuffix(text, `"`))
	n, err := strconv.ParseFloat(text, 64)
	// Hexadecimal, infinity and NaN are numbers to Go, but not to JSON.
	if strings.ContainsAny(text, "xXpP_iInN") || err != nil && !errors.Is(err, strconv.ErrRange) {
		return missing, isString
	}
	n = max(-1, min(n, maxLife.Seconds()))
	return time.Duration(n * float64(time.Second)), true
}

// read reads the JSON object of a good answer into v. Its error is that of the
// answer, if it has one or its status is not 2xx; or it says what is wrong with the
// answer, without showing any of it.
func (a response) read(v any, secrets []string) error {
	if a.status/100 != 2 || hasError(a.body) {
		return a.error(secrets, "")
	}
	if why := a.decode(v); why != "" {
		return a.error(secrets, why)
	}
	return nil
}

// decode reads the answer's JSON object, and returns what is wrong with it, without
// showing any of it; "" if nothing is.
func (a response) decode(v any) (why string) {
	err := json.Unmarshal(a.body, v)
	var wrongType *json.UnmarshalTypeError
	switch {
	case err == nil && string(bytes.TrimSpace(a.body)) != "null":
		return ""
	case errors.As(err, &wrongType) && wrongType.Field != "":
		return "the answer's " + wrongType.Field + " is of the wrong type"
	case a.contentType != "":
		return "the answer is not a JSON object (its Content-Type is " + a.contentType + ")"
	}
	return "the answer is not a JSON object"
}
