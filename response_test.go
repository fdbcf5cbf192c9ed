package cdfauth

import (
	"errors"
	"strings"
	"testing"

	"cdfauth/internal/idptest"
)

// TestWrongAnswers: each is a clear error that shows none of it.
func TestWrongAnswers(t *testing.T) {
	const mark = "BODYMARK"
	for _, tt := range []struct {
		name, body string
		want       string
	}{
		{"html", "<html>" + mark, "not a JSON object"},
		{"empty", "", "not a JSON object"},
		{"object without token", `{"x":"` + mark + `"}`, "access token is empty"},
		{"empty object", `{}`, "access token is empty"},
		{"null", `null`, "not a JSON object"},
		{"array", `["` + mark + `"]`, "not a JSON object"},
		{"string", `"` + mark + `"`, "not a JSON object"},
		{"truncated", `{"access_token":"` + mark, "not a JSON object"},
		{"two objects", `{"access_token":"` + mark + `"}{}`, "not a JSON object"},
		{"null token", `{"access_token":null,"expires_in":3600}`, "access token is empty"},
		{"empty token", `{"access_token":"","expires_in":3600}`, "access token is empty"},
		{"number for a token", `{"access_token":12345,"expires_in":3600}`, "access_token is of the wrong type"},
		{"object for a token", `{"access_token":{"a":"` + mark + `"}}`, "access_token is of the wrong type"},
		{"control character", `{"access_token":"` + mark + `\n"}`, "not visible ASCII"},
		{"blank", `{"access_token":"a ` + mark + `"}`, "not visible ASCII"},
		{"unicode", `{"access_token":"` + mark + `é"}`, "not visible ASCII"},
		{"lifetime", `{"access_token":"` + mark + `","expires_in":"` + mark + `"}`, "expires_in"},
		{"lifetime true", `{"access_token":"` + mark + `","expires_in":true}`, "expires_in"},
		{"lifetime hex", `{"access_token":"` + mark + `","expires_in":"0x10"}`, "expires_in"},
		{"lifetime infinite", `{"access_token":"` + mark + `","expires_in":"Infinity"}`, "expires_in"},
		{"lifetime NaN", `{"access_token":"` + mark + `","expires_in":"NaN"}`, "expires_in"},
		{"refresh_in", `{"access_token":"` + mark + `","refresh_in":[1]}`, "refresh_in"},
		{"scope", `{"access_token":"` + mark + `","scope":["` + mark + `"]}`, "scope is of the wrong type"},
		{"token type", `{"access_token":"` + mark + `","token_type":"` + mark + `"}`, "token_type is not Bearer"},
		{"10 MiB", `{"access_token":"` + mark + strings.Repeat("x", 10<<20) + `"}`, "more than 1 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := idptest.New()
			idp.Fault(idptest.Body(tt.body))
			p := newTestProvider(t, idp, nil)
			tok, err := p.Token(t.Context())
			if err == nil || tok.AccessToken() != "" || !strings.HasPrefix(err.Error(), "cdfauth: ") || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), mark) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if oe := (*OAuthError)(nil); !errors.As(err, &oe) || oe.Code != "" || oe.StatusCode != 200 {
				t.Errorf("got %#v", oe)
			}
			wantRequestsOf(t, idp, 1)
			if _, err := p.Token(t.Context()); err != nil {
				t.Errorf("the right answer after it: %v", err)
			}
		})
	}
}

func TestRightAnswers(t *testing.T) {
	for _, tt := range []struct{ name, body, scope string }{
		{"bearer", `{"access_token":"tok","token_type":"bearer","expires_in":"3600","scope":"a  b"}`, "a  b"},
		{"BEARER", `{"access_token":"tok","token_type":"BEARER","scope":""}`, ""},
		{"least", `{"access_token":"tok"}`, ""},
		{"nulls", `{"access_token":"tok","token_type":null,"expires_in":null,"scope":null,"refresh_token":null}`, ""},
		{"more", `{"access_token":"tok","foo":{"bar":[1]},"error":"","ext_expires_in":3599}`, ""},
		{"no control characters", `{"access_token":"tok","scope":"a\u001b[2Jb\u202e"}`, "a[2Jb"},
	} {
		idp := idptest.New()
		idp.Always(idptest.Body(tt.body))
		tok, err := newTestProvider(t, idp, nil).Token(t.Context())
		if err != nil || tok.AccessToken() != "tok" || tok.Scope() != tt.scope {
			t.Errorf("%s: %q, %q, %v", tt.name, tok.AccessToken(), tok.Scope(), err)
		}
	}
}

// TestSuberror: what Entra says more of an error than RFC 6749 knows is found in
// it, whatever the rest of the answer is like.
func TestSuberror(t *testing.T) {
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
