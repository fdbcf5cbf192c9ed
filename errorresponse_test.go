package cdfauth

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"cdfauth/internal/idptest"
)

// TestSuberrorOfEntraIsFoundInTheError: Entra adds a suberror to the error of RFC 6749 §5.2,
// which says whether the refresh token is dead. It is found in the error, whatever the rest
// of the answer is like.
func TestSuberrorOfEntraIsFoundInTheError(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":"invalid_grant","suberror":"bad_token"}`:                          "bad_token",
		`{"error":"invalid_grant","suberror":"basic_action","error_codes":[50076]}`: "basic_action",
		`{"error":"invalid_grant","error_description":1,"suberror":"bad_token"}`:    "bad_token",
		`{"error":"invalid_grant","suberror":{}}`:                                   "",
		`{"error":"invalid_grant"}`:                                                 "",
		`no`:                                                                        "",
	} {
		err := response{status: 400, body: []byte(body)}.error(nil, "")
		var found suberror
		var answered *OAuthError
		if errors.As(err, &found); found.code != want || !errors.As(err, &answered) {
			t.Errorf("%s: suberror %q, want %q", body, found.code, want)
		}
	}
}

// TestErrorsInOtherFormsAreRead: Okta, Auth0, Keycloak, API gateways and clouds report errors
// in forms of their own. Their codes and texts reach the fields of an OAuthError, so that
// the caller sees more than a status.
func TestErrorsInOtherFormsAreRead(t *testing.T) {
	for _, tt := range []struct {
		name, body                       string
		code, description, correlationID string
	}{
		{"RFC 6749", `{"error":"invalid_client","error_description":"no"}`, "invalid_client", "no", ""},
		{"Okta",
			`{"errorCode":"E0000011","errorSummary":"Invalid token provided","errorLink":"E0000011","errorId":"oae1","errorCauses":[]}`,
			"E0000011", "Invalid token provided", "oae1"},
		{"Auth0",
			`{"statusCode":429,"error":"Too Many Requests","message":"Global limit has been reached","errorCode":"too_many_requests"}`,
			"Too Many Requests", "Global limit has been reached", ""},
		{"Keycloak", `{"errorMessage":"Realm does not exist"}`, "", "Realm does not exist", ""},
		{"Google", `{"error":{"code":403,"message":"denied","status":"PERMISSION_DENIED"}}`,
			"403", "denied", ""},
		{"Microsoft", `{"error":{"code":"Forbidden","message":"denied"}}`, "Forbidden", "denied", ""},
		{"status alone", `{"error":{"status":"UNAVAILABLE","message":"later"}}`,
			"UNAVAILABLE", "later", ""},
		{"message in an error", `{"error":{"message":"denied"}}`, "", "denied", ""},
		{"AWS", `{"message":"Forbidden"}`, "", "Forbidden", ""},
		{"AWS, upper case", `{"Message":"Forbidden"}`, "", "Forbidden", ""},
		{"Azure", `{"statusCode":401,"message":"Access denied due to missing subscription key"}`,
			"", "Access denied due to missing subscription key", ""},
		{"code and message", `{"code":"unauthorized","message":"no"}`, "unauthorized", "no", ""},
		{"RFC 9457", `{"type":"https://x.test/limit","title":"Limit","detail":"Slow down"}`, "",
			"Slow down", ""},
		{"title alone", `{"title":"Limit"}`, "", "Limit", ""},
		{"the RFC's words first", `{"error":"access_denied","message":"other","error_description":"no"}`,
			"access_denied", "no", ""},
		{"odd types",
			`{"error":["x"],"error_description":5,"message":{"a":1},"errorCode":false,"title":"Limit"}`,
			"", "Limit", ""},
	} {
		err := response{status: 401, body: []byte(tt.body)}.error(nil, "")
		var got *OAuthError
		if !errors.As(err, &got) || got.Code != tt.code || got.Description != tt.description ||
			got.CorrelationID != tt.correlationID {
			t.Errorf("%s: %+v", tt.name, got)
		}
		if strings.Contains(err.Error(), "OAuthError") {
			t.Errorf("%s: a name of Go's: %v", tt.name, err)
		}
	}
}

// TestErrorsInOtherFormsAreScrubbed: an answer may repeat the secret that was sent, also in
// the fields of other forms. The secret is in no text and no field of the error.
func TestErrorsInOtherFormsAreScrubbed(t *testing.T) {
	const secret = "s3cret/of+the client"
	for _, body := range []string{
		`{"errorCode":"` + secret + `","errorSummary":"` + secret + `","errorId":"` + secret + `"}`,
		`{"error":{"code":"` + secret + `","message":"` + secret + `","status":"` + secret + `"}}`,
		`{"error":"x","message":"` + secret + `","suberror":"` + secret + `"}`,
		`{"error":"invalid_grant","suberror":"` + secret + `"}`,
	} {
		err := response{status: 400, body: []byte(body)}.error([]string{secret}, "")
		var got *OAuthError
		var more suberror
		errors.As(err, &got)
		errors.As(err, &more)
		for _, text := range []string{err.Error(), got.Code, got.Description,
			got.CorrelationID, more.code} {
			if strings.Contains(text, "s3cret") {
				t.Errorf("%s: %q", body, text)
			}
		}
	}
}

// TestErrorIsTransientByItsCodeThenItsStatus: a request is worth another try if a later one
// may not meet the error. If the error has a code that an RFC defines (RFC 6749 §5.2 and
// §4.1.2.1), the code decides, and otherwise the status. 400 and 401 are final, since
// providers lock out a client whose wrong credentials come again and again.
func TestErrorIsTransientByItsCodeThenItsStatus(t *testing.T) {
	for _, tt := range []struct {
		status int
		body   string
		want   bool
	}{
		{400, `{"error":"server_error"}`, true},
		{401, `{"error":"temporarily_unavailable"}`, true},
		{503, `{"error":"invalid_request"}`, false},
		{500, `{"error":"invalid_client"}`, false},
		{429, `{"error":"invalid_grant"}`, false},
		{429, `{"error":"too_many_requests"}`, true},
		{429, `{"error":"Too Many Requests"}`, true},
		{500, `{"error":"unknown_error"}`, true},
		{502, `{"error":"Bad Gateway"}`, true},
		{503, `{"error":{"code":503}}`, true},
		{408, ``, true},
		{425, ``, true},
		{429, ``, true},
		{500, ``, true},
		{504, `<html>`, true},
		{403, `<html>`, true},
		{404, `<html>`, true},
		{400, ``, false},
		{400, `<html>`, false},
		{400, `{"access_token":"tok"}`, false},
		{400, `{"error":"unknown_error"}`, false},
		{401, ``, false},
		{401, `{"message":"Unauthorized"}`, false},
		{401, `{"errorCode":"E0000011"}`, false},
		{405, ``, false},
		{410, ``, false},
		{302, ``, false},
		{200, `<html>`, false},
	} {
		err := response{status: tt.status, body: []byte(tt.body)}.error(nil, "")
		if isTransient(err) != tt.want {
			t.Errorf("%d %s: transient is %v, want %v", tt.status, tt.body, !tt.want, tt.want)
		}
	}
}

// TestErrorOfRFC6749Section5_2IsRead: the error response that the section prints becomes an
// OAuthError with its code, and is final.
func TestErrorOfRFC6749Section5_2IsRead(t *testing.T) {
	const body = `     {
       "error":"invalid_request"
     }`
	err := response{status: 400, body: []byte(body)}.error(nil, "")
	var got *OAuthError
	if !errors.As(err, &got) || *got != (OAuthError{Code: "invalid_request", StatusCode: 400}) ||
		isTransient(err) {
		t.Errorf("%v", err)
	}
}

// TestErrorSaysWhatAnsweredInTheProvidersPlace: a proxy may answer with a page of its own or
// with a redirect. The error has the Content-Type of a page that is not JSON, and says where
// a redirect leads, without its query and user name, which may hold secrets.
func TestErrorSaysWhatAnsweredInTheProvidersPlace(t *testing.T) {
	html := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			w.WriteHeader(status)
			w.Write([]byte("<html>PAGEMARK"))
		}
	}
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"page for a token":  {html(200), "not a JSON object (its Content-Type is text/html)"},
		"page for an error": {html(401), "not a JSON object (its Content-Type is text/html)"},
		"redirect": {idptest.Status(302, "Location",
			"https://user:MARK@proxy.test:8443/sign-in?token=QUERYMARK#MARK"),
			"a redirect to https://proxy.test:8443/sign-in, and none is followed"},
		"redirect on the host": {idptest.Status(302, "Location", "/sign-in?x=MARK"),
			"a redirect to https://idp.test/sign-in, and"},
		"redirect to nowhere": {idptest.Status(302), "a redirect, and none is followed"},
		"redirect to an echo": {
			idptest.Status(302, "Location", "https://proxy.test/s3cret/of+the client"),
			"a redirect to https://proxy.test/[removed]"},
	} {
		idp := idptest.New()
		idp.Always(tt.answer)
		_, err := newTestProvider(t, idp, nil).Token(t.Context())
		if err == nil || !strings.Contains(err.Error(), tt.want) ||
			strings.Contains(err.Error(), "MARK") {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		wantRequests(t, idp, 1)
	}
	// An answer without a body says all by its status.
	idp := idptest.New()
	idp.Always(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) })
	_, err := newTestProvider(t, idp, nil).Token(t.Context())
	if err == nil || strings.Contains(err.Error(), "JSON") {
		t.Errorf("without a body: %v", err)
	}
}

// TestCorrelationIDIsFoundInTheHeaders: whoever runs a provider, or a proxy in front of it,
// finds a request in their logs by the id that their answer has in a header. The error has
// that id.
func TestCorrelationIDIsFoundInTheHeaders(t *testing.T) {
	for _, header := range []string{"x-ms-request-id", "X-Okta-Request-Id", "x-auth0-requestid",
		"x-amzn-RequestId", "X-Request-ID", "X-Correlation-ID", "X-Amz-Cf-Id", "CF-RAY"} {
		idp := idptest.New()
		idp.Always(idptest.Status(401, header, "id-1"))
		_, err := newTestProvider(t, idp, nil).Token(t.Context())
		var got *OAuthError
		if !errors.As(err, &got) || got.CorrelationID != "id-1" {
			t.Errorf("%s: %v", header, err)
		}
	}
}

// TestRetryAfterDateCountsFromTheAnswersDate: a Retry-After may be a date (RFC 9110
// §10.2.3), by the provider's clock, which may differ from ours. The wait is the time from
// the answer's own Date.
func TestRetryAfterDateCountsFromTheAnswersDate(t *testing.T) {
	for name, tt := range map[string]struct {
		date, retryAfter string
		want             time.Duration
	}{
		"behind": {"Fri, 31 Dec 1999 23:59:00 GMT", "Fri, 31 Dec 1999 23:59:35 GMT", 35 * time.Second},
		"ahead":  {"Thu, 31 Dec 2099 23:59:00 GMT", "Thu, 31 Dec 2099 23:59:35 GMT", 35 * time.Second},
		"past":   {"Thu, 31 Dec 2099 23:59:00 GMT", "Thu, 31 Dec 2099 23:58:00 GMT", 0},
	} {
		answer := newResponse(&http.Response{StatusCode: 503, Header: http.Header{
			"Date":        {tt.date},
			"Retry-After": {tt.retryAfter},
		}}, &url.URL{}, time.Now())
		err := answer.error(nil, "")
		if got := retryAfter(err); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
		if says := strings.Contains(err.Error(),
			"(it asks to be left alone for 35s)"); says != (tt.want > 0) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
