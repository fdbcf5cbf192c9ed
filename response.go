//go:build go1.24

package cdfauth

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// This file says what is accepted as an answer of the identity provider: a token
// response (RFC 6749 §5.1), a device authorization response (RFC 8628 §3.2), or an
// error (RFC 6749 §5.2). A body's error decides before the status does. Errors show
// what the provider has said, scrubbed, and nothing else of the answer.

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
	retryAfter    time.Duration
	correlationID string // for the provider's support
	body          []byte
}

// A tokenResponse is what a token endpoint answers (RFC 6749 §5.1, §5.2), and what a
// device authorization endpoint does (RFC 8628 §3.2).
type tokenResponse struct {
	OAuthError
	AccessToken string          `json:"access_token"`
	TokenType   string          `json:"token_type"`
	ExpiresIn   json.RawMessage `json:"expires_in"`
	// RefreshIn is when Entra would like the token refreshed.
	RefreshIn json.RawMessage `json:"refresh_in"`
	Scope     string          `json:"scope"`

	// In the flows of a person:
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	// ClientInfo is which account has signed in, in Entra's words: base64url of JSON.
	ClientInfo string `json:"client_info"`
	FamilyID   string `json:"foci"`

	// Of the device authorization endpoint:
	DeviceCode      string `json:"device_code"`
	UserCode        string `json:"user_code"`
	VerificationURI string `json:"verification_uri"`
	// VerificationURL is a draft's spelling of VerificationURI that is still in use.
	VerificationURL         string          `json:"verification_url"`
	VerificationURIComplete string          `json:"verification_uri_complete"`
	Message                 string          `json:"message"`
	Interval                json.RawMessage `json:"interval"`
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

// grant makes a token of the answer to a token request that was sent at the given
// time.
func (a response) grant(sent time.Time, secrets []string) (grant, error) {
	var r tokenResponse
	why := a.decode(&r)
	if r.Code != "" || a.status/100 != 2 {
		return grant{}, a.error(secrets, "")
	}
	if why != "" {
		return grant{}, a.error(secrets, why)
	}
	if bad := checkAccessToken(r.AccessToken); bad != "" {
		return grant{}, a.error(secrets, "the answer's "+bad)
	}
	// If it is missing, RFC 6749 §7.1 lets the client decide.
	if r.TokenType != "" && strings.ToLower(r.TokenType) != "bearer" {
		return grant{}, a.error(secrets, "the answer's token_type is not Bearer")
	}
	life, ok := seconds(r.ExpiresIn, defaultLife)
	if !ok {
		return grant{}, a.error(secrets, "the answer's expires_in is not a number")
	}
	refresh, ok := seconds(r.RefreshIn, 0)
	if !ok {
		return grant{}, a.error(secrets, "the answer's refresh_in is not a number")
	}
	got := grant{sent: sent, response: &r}
	got.token = newToken(tokenData{
		header: bearer + r.AccessToken,
		expiry: sent.Add(life),
		scope:  printable(r.Scope),
	})
	if refresh > 0 {
		got.refresh = sent.Add(refresh)
	}
	return got, nil
}

// seconds reads a number of seconds, which real servers also send as a string and
// with a fraction. If there is none it returns missing. More than maxLife is cut to
// it.
func seconds(raw json.RawMessage, missing time.Duration) (time.Duration, bool) {
	text := strings.TrimSpace(strings.Trim(string(raw), `"`))
	if text == "" || text == "null" {
		return missing, true
	}
	if strings.ContainsAny(text, "xXpP_iInN") { // hexadecimal, infinity and NaN are Go's, not JSON's
		return 0, false
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	n = max(-1, min(n, maxLife.Seconds()))
	return time.Duration(n * float64(time.Second)), true
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
	return "the answer is not a JSON object"
}

// error makes an *OAuthError of an answer, wrapped in what else there is to say. It
// is transient if the same request may get a better answer later.
func (a response) error(secrets []string, why string) error {
	var said OAuthError
	_ = json.Unmarshal(a.body, &said) // fields of other types stay empty
	answered := &OAuthError{
		Code:          scrub(said.Code, 64, secrets...),
		Description:   scrub(said.Description, 500, secrets...),
		URI:           scrub(said.URI, 200, secrets...),
		StatusCode:    a.status,
		CorrelationID: cmp.Or(scrub(said.CorrelationID, 64, secrets...), a.correlationID),
		RetryAfter:    a.retryAfter,
	}
	if a.status/100 == 3 {
		why = "a redirect, and none is followed"
	}
	var err error = answered
	if why != "" {
		err = fmt.Errorf("%w: %s", answered, why)
	}
	if answered.temporary() {
		return transient{err}
	}
	return withSuberror(err, a.body)
}

// temporary reports whether the same request may get a better answer later: if the
// provider says so, or if a firewall or a gateway has answered in its place.
func (e *OAuthError) temporary() bool {
	switch e.Code {
	case "server_error", "temporarily_unavailable":
		return true
	case "":
		return e.StatusCode >= 400
	}
	return false
}

// A suberror is an OAuth error of which Entra says more, for programs to decide on:
// an invalid_grant with bad_token means that the refresh token is dead, one with
// basic_action or consent_required that the person has to do something first.
type suberror struct {
	error
	code string // one of the words that Entra documents, or whatever the answer has
}

func (e suberror) Unwrap() error { return e.error }

// withSuberror returns err, as a suberror if the body of the answer has one.
func withSuberror(err error, body []byte) error {
	var answer struct{ Suberror string }
	_ = json.Unmarshal(body, &answer) // it may have fields of other types
	if answer.Suberror == "" {
		return err
	}
	return suberror{err, answer.Suberror}
}
