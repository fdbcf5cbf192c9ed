//go:build go1.24

package cdfauth

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
)

// This file reads the answers that say why not: an error of the identity provider
// (RFC 6749 §5.2), or of whatever has answered in its place, in a form of its own. It
// says which of them a later try may not meet. A body's error is looked at before the
// status.

// An errorResponse has the forms of an error that the field is known to send.
type errorResponse struct {
	// Error is a string (RFC 6749 §5.2), or a nestedError.
	Error       json.RawMessage `json:"error"`
	Description string          `json:"error_description"`
	URI         string          `json:"error_uri"`
	// CorrelationID is Entra's.
	CorrelationID string `json:"correlation_id"`

	// Okta:
	ErrorCode    string `json:"errorCode"`
	ErrorSummary string `json:"errorSummary"`
	ErrorID      string `json:"errorId"`

	// API gateways, of AWS, Azure and others:
	Code    json.RawMessage `json:"code"`
	Message string          `json:"message"`

	// Keycloak:
	ErrorMessage string `json:"errorMessage"`

	// RFC 9457 §3.1:
	Title  string `json:"title"`
	Detail string `json:"detail"`
}

// A nestedError is the error of Google's, Microsoft's and Cognite's APIs.
type nestedError struct {
	Code    json.RawMessage `json:"code"`
	Status  string          `json:"status"`
	Message string          `json:"message"`
}

// parseErrorResponse reads a body. What is not there, or of another type, stays empty.
func parseErrorResponse(body []byte) errorResponse {
	var r errorResponse
	_ = json.Unmarshal(body, &r)
	return r
}

// nested returns the error if it is an object.
func (r errorResponse) nested() nestedError {
	var n nestedError
	_ = json.Unmarshal(r.Error, &n)
	return n
}

// code returns the word or number by which the error is known.
func (r errorResponse) code() string {
	nested := r.nested()
	return cmp.Or(jsonText(r.Error), jsonText(nested.Code), nested.Status,
		r.ErrorCode, jsonText(r.Code))
}

// description returns the words for people.
func (r errorResponse) description() string {
	return cmp.Or(r.Description, r.nested().Message, r.ErrorSummary, r.Message, r.ErrorMessage,
		r.Detail, r.Title)
}

// jsonText returns a JSON string or number as text, and "" for anything else.
func jsonText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil {
		return number.String()
	}
	return ""
}

// hasError reports whether a body has an error, whatever else is in it. An error that
// is null, false, a number or empty is none.
func hasError(body []byte) bool {
	r := parseErrorResponse(body)
	var code string
	_ = json.Unmarshal(r.Error, &code)
	nested := r.nested()
	return code != "" || jsonText(nested.Code) != "" || nested.Message != ""
}

// error makes an *OAuthError of an answer, wrapped in what else there is to say. It
// is transient if the same request may get a better answer later.
func (a response) error(secrets []string, why string) error {
	said := parseErrorResponse(a.body)
	answered := &OAuthError{
		Code:          scrub(said.code(), 64, secrets...),
		Description:   scrub(said.description(), 500, secrets...),
		URI:           scrub(said.URI, 200, secrets...),
		StatusCode:    a.status,
		CorrelationID: scrub(cmp.Or(said.CorrelationID, said.ErrorID, a.correlationID), 64, secrets...),
		RetryAfter:    a.retryAfter,
	}
	switch {
	case a.status/100 == 3:
		why = "a redirect, and none is followed"
		if a.location != "" {
			why = "a redirect to " + scrub(a.location, 200, secrets...) + ", and none is followed"
		}
	case why == "" && len(a.body) > 0:
		why = a.decode(&struct{}{})
	}
	var err error = answered
	if why != "" {
		err = fmt.Errorf("%w: %s", answered, why)
	}
	if answered.temporary() {
		return transient{err}
	}
	return withSuberror(err, a.body, secrets)
}

// temporary reports whether the same request may get a better answer later. If an RFC
// defines the code, that says it. Otherwise the status does: a gateway, or a limit of
// requests, may answer in any form, and so may a firewall with 403 or 404. But 400
// and 401 are the provider's word on the request: wrong credentials do not get better,
// and providers lock out those who send them again and again.
func (e *OAuthError) temporary() bool {
	switch e.Code {
	case "server_error", "temporarily_unavailable": // RFC 6749 §4.1.2.1
		return true
	}
	if isErrorCode(e.Code) {
		return false
	}
	switch e.StatusCode {
	case http.StatusForbidden, http.StatusNotFound, http.StatusRequestTimeout,
		http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return e.StatusCode >= 500
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
func withSuberror(err error, body []byte, secrets []string) error {
	var answer struct {
		Suberror string `json:"suberror"`
	}
	_ = json.Unmarshal(body, &answer) // it may have fields of other types
	if answer.Suberror == "" {
		return err
	}
	return suberror{err, scrub(answer.Suberror, 64, secrets...)}
}
