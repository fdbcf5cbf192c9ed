package cdfauth

import (
	"errors"
	"strings"
	"testing"
	"time"

	"cdfauth/internal/idptest"
)

// TestUnusableAnswerIsAnErrorThatShowsNoneOfIt: A captive portal, a gateway or
// a wrong address may answer 200 with anything. The error says what is wrong
// with the answer, and has none of it, because a token may be in it.
func TestUnusableAnswerIsAnErrorThatShowsNoneOfIt(t *testing.T) {
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
		{"number for a token", `{"access_token":12345,"expires_in":3600}`,
			"access_token is of the wrong type"},
		{"object for a token", `{"access_token":{"a":"` + mark + `"}}`,
			"access_token is of the wrong type"},
		{"control character", `{"access_token":"` + mark + `\n"}`, "not visible ASCII"},
		{"blank", `{"access_token":"a ` + mark + `"}`, "not visible ASCII"},
		{"unicode", `{"access_token":"` + mark + `é"}`, "not visible ASCII"},
		{"lifetime true", `{"access_token":"` + mark + `","expires_in":true}`, "expires_in"},
		{"lifetime list", `{"access_token":"` + mark + `","expires_in":[1]}`, "expires_in"},
		{"lifetime object",
			`{"access_token":"` + mark + `","expires_in":{"` + mark + `":1}}`, "expires_in"},
		{"token type list", `{"access_token":"` + mark + `","token_type":["` + mark + `"]}`,
			"token_type is of the wrong type"},
		{"error in 200", `{"access_token":"` + mark + `","error":{"code":500}}`, "500"},
		{"token type", `{"access_token":"` + mark + `","token_type":"` + mark + `"}`,
			"token_type is \"[removed]\", and Bearer is wanted"},
		{"10 MiB", `{"access_token":"` + mark + strings.Repeat("x", 10<<20) + `"}`, "more than 1 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := idptest.New()
			idp.Fault(idptest.Body(tt.body))
			p := newTestProvider(t, idp, nil)
			tok, err := p.Token(t.Context())
			if err == nil || tok.AccessToken() != "" || !strings.HasPrefix(err.Error(), "cdfauth: ") ||
				!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), mark) {
				t.Fatalf("got %v, want an error with %q", err, tt.want)
			}
			if oe := (*OAuthError)(nil); !errors.As(err, &oe) ||
				oe.Code != "" && tt.name != "error in 200" || oe.StatusCode != 200 {
				t.Errorf("got %#v", oe)
			}
			wantRequests(t, idp, 1)
			if _, err := p.Token(t.Context()); err != nil {
				t.Errorf("the right answer after it: %v", err)
			}
		})
	}
}

// TestAnswerWithAnAccessTokenIsTaken: access_token is all that an answer has to
// have. token_type is compared without regard to case (RFC 6749 §5.1), and the
// other fields may be null or missing.
func TestAnswerWithAnAccessTokenIsTaken(t *testing.T) {
	for _, tt := range []struct{ name, body, scope string }{
		{"bearer",
			`{"access_token":"tok","token_type":"bearer","expires_in":"3600","scope":"a  b"}`, "a  b"},
		{"BEARER", `{"access_token":"tok","token_type":"BEARER","scope":""}`, ""},
		{"least", `{"access_token":"tok"}`, ""},
		{"nulls",
			`{"access_token":"tok","token_type":null,"expires_in":null,"scope":null,"refresh_token":null}`,
			""},
		{"more", `{"access_token":"tok","foo":{"bar":[1]},"error":"","ext_expires_in":3599}`, ""},
		{"blanks around Bearer", `{"access_token":"tok","token_type":" Bearer "}`, ""},
		{"BearerToken", `{"access_token":"tok","token_type":"BearerToken"}`, ""},
		{"byte order mark", "\ufeff" + `{"access_token":"tok"}`, ""},
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

// TestNeedlessOdditiesRefuseNoToken: an answer is refused for the sake of access_token,
// token_type and expires_in alone. What else is in it may be of any type, as it is at
// one provider or the other.
func TestNeedlessOdditiesRefuseNoToken(t *testing.T) {
	for _, field := range []string{
		`"scope":["a","b"]`,
		`"scope":{}`,
		`"refresh_token":false`,
		`"refresh_in":[1]`,
		`"refresh_in":"soon"`,
		`"id_token":false`,
		`"client_info":{}`,
		`"foci":1`,
		`"error":false`,
		`"error":null`,
		`"error":0`,
		`"error":{}`,
		`"error_description":{}`,
		`"message":{}`,
		`"message":"welcome"`,
		`"code":200`,
		`"suberror":7`,
		`"device_code":[]`,
		`"interval":{}`,
	} {
		idp := idptest.New()
		idp.Always(idptest.Body(`{` + field +
			`,"access_token":"tok","token_type":"Bearer","expires_in":3600}`))
		tok, err := newTestProvider(t, idp, nil).Token(t.Context())
		if err != nil || tok.AccessToken() != "tok" || tok.Scope() != "" {
			t.Errorf("%s: %q, %q, %v", field, tok.AccessToken(), tok.Scope(), err)
		}
		wantRequests(t, idp, 1)
	}
}

// TestUnreadableLifetimeCountsAsMissing: A lifetime that is a text but no
// number tells nothing. A token is not refused for it.
func TestUnreadableLifetimeCountsAsMissing(t *testing.T) {
	for _, raw := range []string{`"3600s"`, `"1,800"`, `"soon"`, `"0x10"`, `"Infinity"`, `"NaN"`,
		`"1_000"`, `""`, `" "`, `null`} {
		idp := idptest.New()
		idp.Always(idptest.Body(`{"access_token":"tok","expires_in":` + raw + `}`))
		before := time.Now().Truncate(time.Second)
		tok, err := newTestProvider(t, idp, nil).Token(t.Context())
		if err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if life := tok.Expiry().Sub(before); life < defaultLife || life > defaultLife+time.Minute {
			t.Errorf("%s: the token lives for %v, want %v", raw, life, defaultLife)
		}
	}
}

// TestRFC6749Section5_1: The section has an example of a successful response.
func TestRFC6749Section5_1(t *testing.T) {
	const body = `     {
       "access_token":"2YotnFZFEjr1zCsicMWpAA",
       "token_type":"example",
       "expires_in":3600,
       "refresh_token":"tGzv3JOkF0XG5Qx2TlKWIA",
       "example_parameter":"example_value"
     }`
	sent := time.Now()
	// Its token_type is made up, and a client must not use a type that it does not know
	// (§7.1).
	_, err := response{status: 200, body: []byte(body)}.grant(sent, nil)
	if err == nil || !strings.Contains(err.Error(), `token_type is "example", and Bearer is wanted`) {
		t.Errorf("the example as it is: %v", err)
	}
	bearer := strings.Replace(body, `"token_type":"example"`, `"token_type":"Bearer"`, 1)
	got, err := response{status: 200, body: []byte(bearer)}.grant(sent, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.token.AccessToken() != "2YotnFZFEjr1zCsicMWpAA" ||
		got.response.RefreshToken != "tGzv3JOkF0XG5Qx2TlKWIA" {
		t.Errorf("%q, %q", got.token.AccessToken(), got.response.RefreshToken)
	}
	if life := got.token.Expiry().Sub(sent); life > time.Hour || life <= time.Hour-time.Second {
		t.Errorf("it lives for %v, want 3600 s in whole seconds", life)
	}
}

// TestRFC8628Section3_2: The section has an example of a device authorization
// response.
func TestRFC8628Section3_2(t *testing.T) {
	const body = `      {
        "device_code": "GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS",
        "user_code": "WDJB-MJHT",
        "verification_uri": "https://example.com/device",
        "verification_uri_complete":
            "https://example.com/device?user_code=WDJB-MJHT",
        "expires_in": 1800,
        "interval": 5
      }`
	got, err := response{status: 200, body: []byte(body)}.deviceAuthorization()
	if err != nil {
		t.Fatal(err)
	}
	life, _ := seconds(got.ExpiresIn, 0)
	interval, _ := seconds(got.Interval, 0)
	if got.DeviceCode != "GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS" || got.UserCode != "WDJB-MJHT" ||
		got.VerificationURI != "https://example.com/device" ||
		got.VerificationURIComplete != "https://example.com/device?user_code=WDJB-MJHT" ||
		life != 30*time.Minute || interval != 5*time.Second {
		t.Errorf("%+v", got)
	}
}

// TestAnswersOfUpTo1MiBAreRead: The limit keeps an endless answer out of the
// memory. An answer of exactly 1 MiB is read, and one of a byte more is not.
func TestAnswersOfUpTo1MiBAreRead(t *testing.T) {
	tokenOf := func(size int) error {
		const head, tail = `{"access_token":"tok","x":"`, `"}`
		idp := idptest.New()
		idp.Always(idptest.Body(head + strings.Repeat("x", size-len(head)-len(tail)) + tail))
		_, err := newTestProvider(t, idp, nil).Token(t.Context())
		return err
	}
	if err := tokenOf(1 << 20); err != nil {
		t.Error(err)
	}
	if err := tokenOf(1<<20 + 1); err == nil || !strings.Contains(err.Error(), "1 MiB") {
		t.Errorf("an answer of one byte more: %v", err)
	}
}

// TestSecondsHaveLimits: A lifetime may be a number of any size. It is held
// within what a time can be.
func TestSecondsHaveLimits(t *testing.T) {
	for raw, want := range map[string]time.Duration{
		"31536000": 365 * 24 * time.Hour,
		"4e9":      876_000 * time.Hour,
		"-0.5":     -500 * time.Millisecond,
		"-7":       -time.Second,
	} {
		if got, ok := seconds([]byte(raw), 0); got != want || !ok {
			t.Errorf("%s s: %v, %v; want %v", raw, got, ok, want)
		}
	}
}
