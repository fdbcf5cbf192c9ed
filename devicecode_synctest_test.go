//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestDeviceCodeAsksOnceAndIsSilentAfterwards: a person is shown a code, and is signed in
// when the first poll finds that it was approved. The next program that starts gets the
// token from the cache and asks nobody.
func TestDeviceCodeAsksOnceAndIsSilentAfterwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		p, shown := device(t, idp, cache, nil)
		start := time.Now()
		tok := signedIn(t, p)
		if d := time.Since(start); d != 5*time.Second { // the interval
			t.Errorf("signed in after %v", d)
		}
		if len(*shown) != 1 || (*shown)[0].UserCode == "" ||
			(*shown)[0].VerificationURI != idp.Issuer+"/device" {
			t.Errorf("shown: %+v", *shown)
		}
		p, shown = device(t, idp, cache, nil)
		if second := signedIn(t, p); second.AccessToken() != tok.AccessToken() ||
			second.Username() != "ada@example.com" || len(*shown) != 0 {
			t.Error("a second start was not silent")
		}
	})
}

// TestDeviceCodeIsPolledAtItsInterval: the token endpoint is asked at the interval that the
// provider set, 5 s if it set none, and 5 s more after each slow_down (RFC 8628 §3.2 and
// §3.5). Polling ends when the person has answered or the code has lapsed. An outage of a
// gateway does not end it.
func TestDeviceCodeIsPolledAtItsInterval(t *testing.T) {
	const code = `"device_code":"dev-1","user_code":"AB-CD","verification_uri":"https://idp.test/device"`
	pending := idptest.Error(400, "authorization_pending", "")
	slow := idptest.Error(400, "slow_down", "")
	ok := idptest.Body(`{"access_token":"tok","refresh_token":"ref"}`)
	tests := []struct {
		name    string
		code    string
		answers []http.HandlerFunc
		always  http.HandlerFunc
		after   time.Duration   // the sign-in
		gaps    []time.Duration // between requests, from the code on
		code2   string          // of the error
		err     string          // in the error
	}{
		{name: "at once", code: code, answers: []http.HandlerFunc{ok},
			gaps: []time.Duration{5 * time.Second}},
		{name: "interval", code: code + `,"interval":7`, answers: []http.HandlerFunc{pending, ok},
			gaps: []time.Duration{7 * time.Second, 7 * time.Second}},
		{name: "interval in a string", code: code + `,"interval":"2"`,
			answers: []http.HandlerFunc{pending, ok},
			gaps:    []time.Duration{2 * time.Second, 2 * time.Second}},
		{name: "interval 0", code: code + `,"interval":0`, answers: []http.HandlerFunc{pending, ok},
			gaps: []time.Duration{time.Second, time.Second}},
		{name: "slow_down is for good", code: code,
			answers: []http.HandlerFunc{slow, pending, slow, pending, ok},
			gaps: []time.Duration{5 * time.Second, 10 * time.Second, 10 * time.Second, 15 * time.Second,
				15 * time.Second}},
		{name: "slow_down under 429", code: code,
			answers: []http.HandlerFunc{idptest.Error(429, "slow_down", ""), ok},
			gaps:    []time.Duration{5 * time.Second, 10 * time.Second}},
		{name: "what may pass", code: code,
			answers: []http.HandlerFunc{idptest.Status(503), idptest.Status(429, "Retry-After", "20"),
				idptest.Status(403), pending, ok},
			gaps: []time.Duration{5 * time.Second, 5 * time.Second, 20 * time.Second, 5 * time.Second,
				5 * time.Second}},
		{name: "hangs", code: code, answers: []http.HandlerFunc{idptest.Hang, ok},
			gaps: []time.Duration{5 * time.Second, 15 * time.Second}},
		{name: "declined", code: code,
			answers: []http.HandlerFunc{pending, idptest.Error(400, "access_denied", "no")},
			gaps:    []time.Duration{5 * time.Second, 5 * time.Second}, code2: "access_denied",
			err: "declined"},
		{name: "expired", code: code,
			answers: []http.HandlerFunc{idptest.Error(400, "expired_token", "")},
			gaps:    []time.Duration{5 * time.Second}, code2: "expired_token", err: "lapsed"},
		{name: "declined, as Entra says it", code: code,
			answers: []http.HandlerFunc{idptest.Error(400, "authorization_declined", "no")},
			gaps:    []time.Duration{5 * time.Second}, code2: "access_denied", err: "declined"},
		{name: "expired, as Entra says it", code: code,
			answers: []http.HandlerFunc{idptest.Error(400, "code_expired", "")},
			gaps:    []time.Duration{5 * time.Second}, code2: "expired_token", err: "lapsed"},
		{name: "policy", code: code,
			answers: []http.HandlerFunc{idptest.Error(400, "invalid_grant",
				"AADSTS53003: blocked by Conditional Access")},
			gaps: []time.Duration{5 * time.Second}, code2: "invalid_grant", err: "Conditional Access"},
		{name: "lapses", code: code + `,"expires_in":"12"`, always: pending,
			gaps: []time.Duration{5 * time.Second, 5 * time.Second}, after: 12 * time.Second,
			err: "lapsed before anybody used it"},
		{name: "lapses after 15 minutes", code: code + `,"interval":300`, always: pending,
			gaps: []time.Duration{5 * time.Minute, 5 * time.Minute}, after: 15*time.Minute - time.Second,
			err: "the code lapsed before anybody used it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				idp := idptest.New()
				idp.Fault(tt.answers...)
				idp.Always(tt.always)
				var records strings.Builder
				p, shown := device(t, idp, &MemoryCache{}, func(c *DeviceCodeConfig) {
					c.HTTPClient = &http.Client{Transport: answers{idp.Client().Transport, "{" + tt.code + "}"}}
					c.Logger = slog.New(slog.NewTextHandler(&records, nil))
				})
				start := time.Now()
				_, err := p.Token(t.Context())
				var oe *OAuthError
				errors.As(err, &oe)
				switch {
				case tt.err == "" && err != nil,
					tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
					t.Errorf("%v, want %q", err, tt.err)
				case tt.code2 != "" && (oe == nil || oe.Code != tt.code2):
					t.Errorf("%v has not code %q", err, tt.code2)
				}
				if d := time.Since(start); tt.after != 0 && d != tt.after {
					t.Errorf("ended after %v, want %v", d, tt.after)
				}
				var gaps []time.Duration
				last := start
				for _, r := range idp.Requests("/token") {
					gaps = append(gaps, r.At.Sub(last))
					last = r.At
				}
				if fmt.Sprint(gaps) != fmt.Sprint(tt.gaps) {
					t.Errorf("asked after %v, want %v", gaps, tt.gaps)
				}
				if len(*shown) != 1 {
					t.Errorf("%d codes shown", len(*shown))
				}
				if said := fmt.Sprintf("attempts=%d ", len(gaps)); tt.after == 0 &&
					!strings.Contains(records.String(), said) {
					t.Errorf("logged without %s: %s", said, &records)
				}
			})
		})
	}
}

// TestDeviceRequestsHaveParams: the requests for a code, for a token and for a refresh have
// the parameters of RFC 8628 §3.1 and §3.4 and of RFC 6749 §6, with Params beside them. A
// provider such as Auth0 wants the parameter audience in each of them.
func TestDeviceRequestsHaveParams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		cache := &MemoryCache{}
		p, _ := device(t, idp, cache, func(c *DeviceCodeConfig) {
			c.Endpoint, c.Params = Authority("https://idp.test/tenant"),
				map[string][]string{"audience": {"cdf"}}
		})
		signedIn(t, p)
		time.Sleep(2 * time.Hour)
		signedIn(t, p)
		const scope = "read openid profile offline_access"
		want := []map[string]string{
			{"client_id": "app", "scope": scope, "audience": "cdf"},
			{"client_id": "app", "scope": scope, "audience": "cdf", "client_info": "1",
				"grant_type": deviceGrant, "device_code": "*"},
			{"client_id": "app", "scope": scope, "audience": "cdf", "client_info": "1",
				"grant_type": "refresh_token", "refresh_token": "*"},
		}
		var got []idptest.Request
		for _, r := range idp.Requests("") {
			if r.Method == "POST" {
				got = append(got, r)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%d requests", len(got))
		}
		for i, w := range want {
			if len(got[i].Form) != len(w) || !strings.HasPrefix(got[i].Path, "/tenant/oauth2/v2.0/") {
				t.Errorf("%s: %v", got[i].Path, got[i].Form)
			}
			for name, value := range w {
				if v := got[i].Form.Get(name); v != value && (value != "*" || v == "") {
					t.Errorf("%s is %q, want %q", name, v, value)
				}
			}
		}
		if n := len(idp.Requests("openid-configuration")); n != 1 {
			t.Errorf("the metadata was read %d times", n)
		}
		c := read(t, cache)
		e := entryOf(c, accessTokens, keysOf(c, accessTokens)[0])
		if e.text("realm") != "tenant" || e.account() != "sub-ada@example.com.tenant" ||
			e.text("ext_cache_key") == "" {
			t.Errorf("stored: %v", e)
		}
	})
}

// TestDeviceAnswersAreCheckedBeforeTheyAreShown: a person opens the address that is shown. So
// an answer (RFC 8628 §3.2) whose address is not https, or that lacks what is needed, is an
// error, and nothing of it is shown. Control characters are removed, since they could
// rewrite the terminal.
func TestDeviceAnswersAreCheckedBeforeTheyAreShown(t *testing.T) {
	tests := map[string]struct {
		body string
		want DeviceAuthorization
		err  string
	}{
		"message alone": {body: `{"device_code":"d","message":"Go to x and enter y"}`,
			want: DeviceAuthorization{Message: "Go to x and enter y"}},
		"draft spelling": {body: `{"device_code":"d","user_code":"u","verification_url":"https://a/b"}`,
			want: DeviceAuthorization{UserCode: "u", VerificationURI: "https://a/b"}},
		"complete": {body: `{"device_code":"d","user_code":"u","verification_uri":"https://a/b","verification_uri_complete":"https://a/b?c=u"}`,
			want: DeviceAuthorization{UserCode: "u", VerificationURI: "https://a/b",
				VerificationURIComplete: "https://a/b?c=u"}},
		"bad complete URI": {body: `{"device_code":"d","user_code":"u","verification_uri":"https://a/b","verification_uri_complete":"javascript:alert()"}`,
			want: DeviceAuthorization{UserCode: "u", VerificationURI: "https://a/b"}},
		"control characters": {body: `{"device_code":"d","user_code":"a\u001b[2Jb\nc","message":"m\u0007\u202e","verification_uri":"https://a/b"}`,
			want: DeviceAuthorization{UserCode: "a[2Jb c", Message: "m", VerificationURI: "https://a/b"}},
		"bad URI": {
			body: `{"device_code":"d","user_code":"u","verification_uri":"javascript:alert()"}`,
			err:  "verification_uri"},
		"no TLS": {body: `{"device_code":"d","user_code":"u","verification_uri":"http://a/b"}`,
			err: "verification_uri must be https"},
		"no device code": {body: `{"user_code":"u","verification_uri":"https://a/b"}`,
			err: "has no device_code"},
		"nothing to show": {body: `{"device_code":"d"}`, err: "what to tell the person"},
		"empty":           {body: ``, err: "not a JSON object"},
		"a list":          {body: `[]`, err: "not a JSON object"},
		"wrong type": {body: `{"device_code":{},"user_code":"u"}`,
			err: "device_code is of the wrong type"},
		"wrong interval": {
			body: `{"device_code":"d","user_code":"u","verification_uri":"https://a/b","interval":{}}`,
			err:  "an interval that is not a number"},
		"wrong expiry": {
			body: `{"device_code":"d","user_code":"u","verification_uri":"https://a/b","expires_in":[]}`,
			err:  "an expires_in that is not a number"},
		"an error with 200": {body: `{"error":"unauthorized_client","error_description":"not for you"}`,
			err: "unauthorized_client: not for you"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				idp := idptest.New()
				idp.Fault(idptest.Body(`{"access_token":"tok"}`))
				start := time.Now()
				p, shown := device(t, idp, &MemoryCache{}, func(c *DeviceCodeConfig) {
					c.HTTPClient = &http.Client{Transport: answers{idp.Client().Transport, tt.body}}
				})
				_, err := p.Token(t.Context())
				if tt.err != "" {
					if err == nil || !strings.Contains(err.Error(), tt.err) || len(*shown) > 0 {
						t.Errorf("%v, want %q; shown: %v", err, tt.err, *shown)
					}
					return
				}
				tt.want.Expiry = start.Add(15 * time.Minute)
				if err != nil || len(*shown) != 1 || (*shown)[0] != tt.want {
					t.Errorf("%v; shown %+v, want %+v", err, *shown, tt.want)
				}
			})
		})
	}
}

// TestDevicePollingEndsWithItsLastWaiter: when the last caller who waited has left, polling
// ends. A poll that is under way may bring the token of a person who has approved the code.
// It goes on, and its token serves the next caller.
func TestDevicePollingEndsWithItsLastWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		idp.Codes = func(string) (string, bool) { return "", false }
		p, _ := device(t, idp, &MemoryCache{}, nil)
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		if _, err := p.Token(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
		n := idp.Tokens()
		time.Sleep(10 * time.Minute)
		if idp.Tokens() != n {
			t.Error("it went on asking")
		}
		if _, err := p.Token(WithoutInteraction(t.Context())); err != ErrSignInRequired {
			t.Error(err)
		}
	})
	t.Run("when an approval is on its way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			idp, cache := idptest.New(), &MemoryCache{}
			idp.Fault(idp.Slow(3*time.Second, idptest.Body(`{"access_token":"tok"}`)))
			p, shown := device(t, idp, cache, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 6*time.Second)
			defer cancel()
			p.Token(ctx)
			time.Sleep(10 * time.Second)
			if tok := signedIn(t, p); tok.AccessToken() != "tok" || len(*shown) != 1 {
				t.Errorf("the approval was lost: %d codes shown", len(*shown))
			}
		})
	})
}

// TestShowCodeMayFailPanicAndHang: ShowCode is the caller's code. If it fails, panics or
// hangs, Token returns an error that names it, and the program goes on.
func TestShowCodeMayFailPanicAndHang(t *testing.T) {
	for name, show := range map[string]func(context.Context, DeviceAuthorization) error{
		"ShowCode: no": func(context.Context, DeviceAuthorization) error {
			return errors.New("no")
		},
		"ShowCode panicked": func(context.Context, DeviceAuthorization) error { panic(1) },
		"ShowCode did not r": func(context.Context, DeviceAuthorization) error {
			time.Sleep(time.Hour)
			return nil
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, _ := device(t, idptest.New(), &MemoryCache{}, func(c *DeviceCodeConfig) { c.ShowCode = show })
			if _, err := p.Token(t.Context()); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%v, want %q", err, name)
			}
			time.Sleep(time.Hour)
		})
	}
}

// TestUnusedDeviceCodeIsShownAgain: a caller whose deadline is short tries again, while the
// person may be about to enter the code. The same code is shown again, and the token
// endpoint is asked at the interval all the same. A code that has lapsed, or was shown
// before somebody signed out, is replaced.
func TestUnusedDeviceCodeIsShownAgain(t *testing.T) {
	try := func(t *testing.T, p *DeviceCode, patience time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := p.Token(ctx)
		return err
	}
	pending := func() (*idptest.Provider, *atomic.Bool) {
		idp, approved := idptest.New(), new(atomic.Bool)
		idp.Codes = func(string) (string, bool) { return "ada@example.com", approved.Load() }
		return idp, approved
	}
	synctest.Test(t, func(t *testing.T) {
		idp, approved := pending()
		p, shown := device(t, idp, &MemoryCache{}, nil)
		for range 8 {
			if err := try(t, p, 3*time.Second); err != context.DeadlineExceeded {
				t.Fatal(err)
			}
		}
		approved.Store(true)
		signedIn(t, p)
		for _, a := range *shown {
			if a != (*shown)[0] {
				t.Errorf("shown: %+v, then %+v", (*shown)[0], a)
			}
		}
		if len(*shown) != 9 || len(idp.Requests("/devicecode")) != 1 {
			t.Errorf("shown %d times; %d codes", len(*shown), len(idp.Requests("/devicecode")))
		}
		asked := idp.Requests("/token")
		for i := 1; i < len(asked); i++ {
			if gap := asked[i].At.Sub(asked[i-1].At); gap < 5*time.Second || gap > 6*time.Second {
				t.Errorf("asked after %v", gap)
			}
		}
		if len(asked) < 4 {
			t.Errorf("asked %d times in 24 s", len(asked))
		}
		must(t, p.SignOut(t.Context()))
		signedIn(t, p)
		if last := (*shown)[len(*shown)-1]; last == (*shown)[0] {
			t.Error("a code that was used is shown again")
		}
	})
	for name, change := range map[string]func(*testing.T, *DeviceCode){
		"lapsed":     func(*testing.T, *DeviceCode) { time.Sleep(15 * time.Minute) },
		"signed out": func(t *testing.T, p *DeviceCode) { must(t, p.SignOut(t.Context())) },
	} {
		synctest.Test(t, func(t *testing.T) {
			idp, approved := pending()
			p, shown := device(t, idp, &MemoryCache{}, nil)
			if err := try(t, p, 3*time.Second); err != context.DeadlineExceeded {
				t.Fatal(err)
			}
			change(t, p)
			approved.Store(true)
			signedIn(t, p)
			if len(*shown) != 2 || (*shown)[0] == (*shown)[1] {
				t.Errorf("%s: shown %+v", name, *shown)
			}
		})
	}
}

// TestUnusedDeviceCodeServesItsScopeAlone: a person approves the scope of a code. The code
// is not shown again for another scope, which might be wider.
func TestUnusedDeviceCodeServesItsScopeAlone(t *testing.T) {
	p, _ := device(t, idptest.New(), &MemoryCache{}, nil)
	kept := &deviceCode{scope: "read", shown: DeviceAuthorization{Expiry: time.Now().Add(time.Minute)}}
	for scope, want := range map[string]*deviceCode{"read": kept, "read write": nil} {
		p.flow().unused.Store(kept)
		if got := p.flow().takeUnused(scope); got != want {
			t.Errorf("for %q: %+v", scope, got)
		}
	}
}

// TestCodeOfRFC8628Section3_2IsShown: the answer that the section prints is read: code,
// addresses, lifetime and interval. The person is shown all of it but the device code.
func TestCodeOfRFC8628Section3_2IsShown(t *testing.T) {
	answer, why := response{status: 200, body: []byte(`{
		"device_code": "GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS",
		"user_code": "WDJB-MJHT",
		"verification_uri": "https://example.com/device",
		"verification_uri_complete": "https://example.com/device?user_code=WDJB-MJHT",
		"expires_in": 1800,
		"interval": 5
	}`)}.deviceAuthorization()
	sent := time.Now().Round(0)
	code, err := newDeviceCode(&answer, sent)
	if why != nil || err != nil {
		t.Fatal(why, err)
	}
	want := DeviceAuthorization{UserCode: "WDJB-MJHT", VerificationURI: "https://example.com/device",
		VerificationURIComplete: "https://example.com/device?user_code=WDJB-MJHT",
		Expiry:                  sent.Add(30 * time.Minute)}
	if code.shown != want || code.secret != "GmRhmhcxhwAzkoEqiMEg_DnyEysNkuNhszIySk9eS" ||
		code.interval != 5*time.Second {
		t.Errorf("%+v", code)
	}
}

// TestPollingFollowsRFC8628Section3_5: authorization_pending and slow_down let polling go on,
// slow_down with 5 s more between polls. Any other error code ends it.
func TestPollingFollowsRFC8628Section3_5(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			code  string
			again bool
			wait  time.Duration
			final string
		}{
			{"authorization_pending", true, 5 * time.Second, ""},
			{"slow_down", true, 10 * time.Second, ""},
			{"access_denied", false, 0, "declined"},
			{"expired_token", false, 0, "lapsed"},
			{"invalid_request", false, 0, "invalid_request"},
		} {
			code := &deviceCode{interval: 5 * time.Second}
			err := error(&OAuthError{Code: tt.code, StatusCode: 400})
			again := code.pollAgain(err)
			if again != tt.again || again && time.Until(code.nextPoll) != tt.wait {
				t.Errorf("%s: again %t, in %v", tt.code, again, time.Until(code.nextPoll))
			}
			if final := explainDeviceError(err); !again && !strings.Contains(final.Error(), tt.final) {
				t.Errorf("%s: %v", tt.code, final)
			}
		}
	})
}

// TestCodeTextHasAllThatIsThere: the address that has the code in it spares a person the
// typing. The time at which the code lapses is shown in local time, so that a person who
// comes back late sees whether it is still good.
func TestCodeTextHasAllThatIsThere(t *testing.T) {
	defer func(old *time.Location) { time.Local = old }(time.Local)
	time.Local = time.FixedZone("CEST", 2*60*60)
	expiry := time.Date(2026, 6, 1, 12, 30, 15, 0, time.UTC)
	for name, tt := range map[string]struct {
		a    DeviceAuthorization
		want []string
	}{
		"complete": {DeviceAuthorization{UserCode: "AB-CD", VerificationURI: "https://a/b",
			VerificationURIComplete: "https://a/b?c=AB-CD", Message: "words"},
			[]string{"    AB-CD", "    https://a/b", "    https://a/b?c=AB-CD",
				"and enter this code, which is good until 14:30:15 CEST:"}},
		"message alone": {DeviceAuthorization{Message: "Go to x and enter y"},
			[]string{"Go to x and enter y", "The code is good until 14:30:15 CEST."}},
	} {
		tt.a.Expiry = expiry
		lines := strings.Split(codeText(tt.a), "\n")
		for _, want := range tt.want {
			if !slices.Contains(lines, want) {
				t.Errorf("%s: no line %q in %q", name, want, lines)
			}
		}
	}
	text := codeText(DeviceAuthorization{UserCode: "AB-CD", VerificationURI: "https://a/b",
		Expiry: expiry})
	if strings.Contains(text, "Or open") {
		t.Errorf("without an address that has the code: %q", text)
	}
}

// TestShowCodePrintsToStandardErrorByDefault: standard output may be a pipe, of which another
// program reads the results. Without ShowCode, the code is printed to standard error.
func TestShowCodePrintsToStandardErrorByDefault(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func(old *os.File) { os.Stderr = old }(os.Stderr)
	os.Stderr = w
	err = showCode(t.Context(),
		DeviceAuthorization{UserCode: "AB-CD", VerificationURI: "https://a/b", Message: "words"})
	w.Close()
	b := make([]byte, 1000)
	n, _ := r.Read(b)
	if lines := strings.Split(string(b[:n]), "\n"); err != nil ||
		!slices.Contains(lines, "    AB-CD") || !slices.Contains(lines, "    https://a/b") {
		t.Errorf("%v: %q", err, lines)
	}
}

// TestPollRetryAfterIsBounded: a gateway may answer with a Retry-After of an hour (RFC 9110
// §10.2.3), in which the code would lapse. Polling goes on after retryAfterMax at the latest.
func TestPollRetryAfterIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		idp.Fault(idptest.Status(503, "Retry-After", "3600"))
		p, _ := device(t, idp, &MemoryCache{}, nil)
		var err error
		if d := elapse(func() { _, err = p.Token(t.Context()) }); err != nil ||
			d > retryAfterMax+10*time.Second {
			t.Errorf("%v after %v", err, d)
		}
	})
}

// TestDeviceEndpointThatIsGoneIsLookedUpAgain: a provider may move its endpoint while the
// program runs. An endpoint that answers 404 is looked up again for the next call.
func TestDeviceEndpointThatIsGoneIsLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		idp.Metadata(func(m map[string]any) {
			m["device_authorization_endpoint"] = "https://idp.test/old"
		})
		p, _ := device(t, idp, &MemoryCache{}, nil)
		if _, err := p.Token(t.Context()); err == nil {
			t.Error("the old one answers")
		}
		idp.Metadata(nil)
		signedIn(t, p)
	})
}
