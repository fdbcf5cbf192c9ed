//go:build go1.24

package cdfauth

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
)

// This file reads answers that are errors: those of the identity provider (RFC 6749
// §5.2), and those of a gateway or proxy that has answered in its place, each in a form
// of its own. It also says which errors are transient. The code in the body decides
// that before the status does.

// An errorResponse has the fields of all forms of an error that providers and gateways
// are known to send.
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

// parseErrorResponse reads a body. A field that is missing, or of another type, stays
// empty.
func parseErrorResponse(body []byte) errorResponse {
	var r errorResponse
	_ = json.Unmarshal(body, &r)
	return r
}

// nested returns the error if it is an object, and otherwise an empty one.
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

// description returns the explanation of the error, for people.
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

// isError reports whether the member error of an answer means that there is an error,
// whatever else the answer has. It is asked about answers whose status is 2xx. In these,
// the other forms do not count: a field named message or title may be no error. Nor does
// an error that is null, false, a number or empty.
func isError(reported json.RawMessage) bool {
	if len(reported) == 0 {
		return false
	}
	var code string
	_ = json.Unmarshal(reported, &code)
	nested := errorResponse{Error: reported}.nested()
	return code != "" || jsonText(nested.Code) != "" || nested.Message != ""
}

// error returns an error that wraps the answer's *OAuthError. why says what is wrong
// with the answer. If it is "", the answer's own words have to do, unless it is a
// redirect or its body cannot be read, which the error then says. The error is transient
// if the same request may get a better answer later. It shows none of secrets.
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
// defines the code, the code decides. Otherwise the status does, because gateways and
// rate limits answer in any form, and firewalls do so with 403 or 404. A 400 or 401 is
// the provider's judgement of the request and stays as it is. Nor may wrong credentials
// be sent again and again: providers lock such clients out.
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

// A suberror is an OAuth error with the field suberror, in which Entra says more for
// programs to decide on. An invalid_grant with bad_token means that the refresh token is
// dead. One with basic_action or consent_required means that the person has to do
// something first.
type suberror struct {
	error
	code string // the field as it came, scrubbed
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
