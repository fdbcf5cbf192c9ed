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
// response (RFC 6749 §5.1) or a device authorization response (RFC 8628 §3.2). The
// fields that the package needs have to be right. Other fields may be missing or of any
// type, since real providers send such. If an answer has an error in it, it is neither
// response, whatever its status and its other fields.

// maxBody is how many bytes an answer may have.
const maxBody = 1 << 20

// maxLife bounds the lifetime of a token: beyond it, times would overflow.
const maxLife = 100 * 365 * 24 * time.Hour

// defaultLife is the lifetime of a token if the provider does not say how long it lives.
const defaultLife = 10 * time.Minute

// A response is what is read of an HTTP response.
type response struct {
	host          string
	status        int
	contentType   string // the header's value; "" for none
	location      string // where a redirect leads, without query; "" for nowhere
	retryAfter    time.Duration
	correlationID string // for the provider's support
	body          []byte
}

// A tokenResponse has the fields of a token endpoint's answer (RFC 6749 §5.1) that may
// be missing or of any type. response.grant reads those that are needed.
type tokenResponse struct {
	Scope        string `json:"scope"`
	RefreshToken string `json:"refresh_token"`
	// IDToken is defined by OpenID Connect Core §3.1.3.3.
	IDToken string `json:"id_token"`
	// ClientInfo is Entra's, and says which account has signed in: base64url of JSON.
	ClientInfo string `json:"client_info"`
	// RefreshIn is Entra's: the seconds after which it would like a refresh.
	RefreshIn json.RawMessage `json:"refresh_in"`
	// FamilyID is Entra's: the family of applications that share the refresh token.
	FamilyID string `json:"foci"`
	// AccessToken is here because an error about the ID token must not show it.
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
	// ExpiresIn and Interval are what the function seconds reads.
	ExpiresIn json.RawMessage `json:"expires_in"`
	Interval  json.RawMessage `json:"interval"`
}

// A grant is a token that a flow has got, with what only the refresher and the cache
// need to know about it.
type grant struct {
	token Token
	// sent is when the token was asked for. Its lifetime counts from then.
	sent time.Time
	// monotonic is the same moment by the monotonic clock (moment.monotonic); zero if only
	// the wall clock tells it, as for a token out of a cache.
	monotonic time.Duration
	// refresh is when the provider would like the token refreshed; zero if it did not say.
	refresh time.Time
	// response is the rest of the provider's answer; nil if the token comes from
	// elsewhere.
	response *tokenResponse
}

// newResponse returns what the status and the header of an answer say. asked is the URL
// of the request, and now is the time.
func newResponse(resp *http.Response, asked *url.URL, now time.Time) response {
	return response{
		status:        resp.StatusCode,
		contentType:   resp.Header.Get("Content-Type"),
		location:      redirectTarget(resp.Header, asked),
		retryAfter:    waitAskedFor(resp.Header, now),
		correlationID: correlationID(resp.Header),
	}
}

// redirectTarget returns where a redirect leads, without its query, which may have a
// secret; "" if the answer is no redirect.
func redirectTarget(h http.Header, asked *url.URL) string {
	to := h.Get("Location")
	if to == "" {
		return ""
	}
	location, err := asked.Parse(to)
	if err != nil {
		return ""
	}
	shown := url.URL{Scheme: location.Scheme, Host: location.Host, Path: location.Path}
	return shown.String()
}

// waitAskedFor returns the wait that an answer asks for in Retry-After; 0 if it asks for
// none. A date there is compared with the answer's own Date, because the provider's clock
// may differ from ours. If the answer has no Date, it is compared with now.
func waitAskedFor(h http.Header, now time.Time) time.Duration {
	value := h.Get("Retry-After")
	if value == "" {
		return 0
	}
	date, err := http.ParseTime(h.Get("Date"))
	if err == nil {
		now = date
	}
	return parseRetryAfter(value, now)
}

// correlationID returns the identifier by which the provider's support finds the request,
// or that of a proxy in front of it; "" if there is none. No standard names the header.
// The names are spelt as net/http keeps them, which saves Get a conversion.
func correlationID(h http.Header) string {
	return cmp.Or(
		h.Get("X-Ms-Request-Id"), // Entra
		h.Get("X-Okta-Request-Id"),
		h.Get("X-Auth0-Requestid"),
		h.Get("X-Amzn-Requestid"), // AWS
		h.Get("X-Request-Id"),
		h.Get("X-Correlation-Id"),
		h.Get("X-Amz-Cf-Id"), // AWS CloudFront
		h.Get("Cf-Ray"),      // Cloudflare
	)
}

// grant returns the token that the answer to a token request has. sent is when the
// request was sent. No error shows one of secrets.
func (a response) grant(sent time.Time, secrets []string) (grant, error) {
	var needed struct {
		AccessToken string          `json:"access_token"`
		TokenType   string          `json:"token_type"`
		ExpiresIn   json.RawMessage `json:"expires_in"`
		Error       json.RawMessage `json:"error"`
	}
	if err := a.read(&needed, &needed.Error, secrets); err != nil {
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
// is missing, it counts as Bearer: §7.1 forbids only types that the client does not
// understand. Some gateways send BearerToken.
func isBearer(tokenType string) bool {
	switch strings.ToLower(strings.TrimSpace(tokenType)) {
	case "", "bearer", "bearertoken":
		return true
	}
	return false
}

// deviceAuthorization reads the answer of a device authorization endpoint. Only the
// type of its device_code is checked here: the flow checks the rest.
func (a response) deviceAuthorization() (deviceAuthorizationResponse, error) {
	var needed struct {
		DeviceCode string          `json:"device_code"`
		Error      json.RawMessage `json:"error"`
	}
	if err := a.read(&needed, &needed.Error, nil); err != nil {
		return deviceAuthorizationResponse{}, err
	}
	var r deviceAuthorizationResponse
	_ = json.Unmarshal(a.body, &r) // fields of other types stay empty
	return r, nil
}

// seconds reads a number of seconds. Real servers also send it as a string, or with a
// fraction. If raw is empty, null, or a string that is no number ("3600s"), seconds
// returns missing. It returns maxLife for more than that, and no less than -1 s for a
// negative number. It reports false if raw is neither a number nor a string.
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

// read reads the JSON object of a good answer into v, whose field reported is the member
// error. It fails if the status is not 2xx, if the answer has an error in it, or if decode
// fails. The error is made by response.error.
func (a response) read(v any, reported *json.RawMessage, secrets []string) error {
	if a.status/100 != 2 {
		return a.error(secrets, "")
	}
	why := a.decode(v)
	if isError(*reported) {
		return a.error(secrets, "")
	}
	if why != "" {
		return a.error(secrets, why)
	}
	return nil
}

// decode reads the answer's JSON object, and returns what is wrong with it, without
// showing any of it; "" if nothing is.
func (a response) decode(v any) (why string) {
	err := json.Unmarshal(a.body, v)
	if err == nil && string(bytes.TrimSpace(a.body)) != "null" {
		return ""
	}
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) && wrongType.Field != "" {
		return "the answer's " + wrongType.Field + " is of the wrong type"
	}
	contentType, _, err := mime.ParseMediaType(a.contentType)
	if err != nil {
		return "the answer is not a JSON object"
	}
	return "the answer is not a JSON object (its Content-Type is " + contentType + ")"
}
