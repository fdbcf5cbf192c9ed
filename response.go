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

const maxBody = 1 << 20 // 1 MiB

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

func (c *client) token(a response, sent time.Time, secrets []string) (grant, error) { // checks an answer and makes a token of it. The body's error is looked at before the status.
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
		return grant{}, a.error(secrets, bad.Error())
	}
	i := grant{sent: sent, response: &r, token: newToken(tokenData{header: bearer + r.AccessToken, expiry: sent.Add(life), scope: printable(r.Scope)})}
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

type response struct {
	host, correlationID string
	status              int
	retryAfter          time.Duration
	body                []byte
}

func (a response) decode(v any) (why string) { // reads a JSON object, and says what is wrong without showing any of it
	err := json.Unmarshal(a.body, v)
	if err == nil && string(bytes.TrimSpace(a.body)) != "null" {
		return ""
	}
	if wrong, ok := err.(*json.UnmarshalTypeError); ok && wrong.Field != "" {
		return "the answer's " + wrong.Field + " is of the wrong type"
	}
	return "the answer is not a JSON object"
}

func (a response) error(secrets []string, why string) error { // makes an *OAuthError of an answer, wrapped in what else there is to say. A body's error decides before the status does.
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
	return withSuberror(err, a.body)
}

const maxLife = 100 * 365 * 24 * time.Hour // of a token: beyond, time would overflow

type grant struct { // a token as a flow got it, and what only the engine needs to know
	token     Token
	sent      time.Time      // when it was asked for: its lifetime counts from then
	monotonic time.Duration  // the same by the monotonic clock (moment.monotonic); zero if the token is from a cache
	refresh   time.Time      // when the server would like it refreshed (refresh_in); zero if it did not say
	response  *tokenResponse // the rest of what the server said; nil if it comes from elsewhere
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
