package cdfauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// answering is a client whose identity provider always answers the same.
func answering(f *testing.F, ep Endpoint) (c *client, answers func(status int, retryAfter, body string)) {
	var status int
	var header, body string
	c, _, err := newClient("client credentials", ep, "app", nil, nil, Options{HTTPClient: &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
		h := http.Header{}
		if header != "" {
			h["Retry-After"] = []string{header}
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	})}})
	if err != nil {
		f.Fatal(err)
	}
	return c, func(s int, r, b string) { status, header, body = s, r, b }
}

// sayable reports whether an error can be shown, and shows no secret.
func sayable(err error, secret string) bool {
	return plain(err.Error()) && len(err.Error()) < 2000 && !strings.Contains(err.Error(), secret) && !strings.Contains(err.Error(), url.QueryEscape(secret))
}

// FuzzTokenResponse: whatever a token endpoint answers, there is a token that a header can carry, or an error that can be shown. The
// secret, which answers may echo, is in none.
func FuzzTokenResponse(f *testing.F) {
	const secret = "s3cret/of+the client"
	c, answers := answering(f, TokenURL("https://idp.test/token"))
	for _, seed := range []string{
		`{"access_token":"t","token_type":"Bearer","expires_in":3600,"scope":"a b"}`, `{"access_token":"t","expires_in":"3599.5","refresh_in":1e3}`,
		`{"access_token":"t\r\nX-Evil: 1"}`, `{"access_token":null}`, `{"access_token":"t","expires_in":1e400}`, `{"access_token":"t","expires_in":-1e400}`, `{"access_token":"t","expires_in":"0x10"}`,
		`{"access_token":"t","token_type":"mac"}`, `{"access_token":"t","error":"invalid_client","error_description":"` + secret + `"}`, `{"error":"temporarily_unavailable"}`,
		`{"error":"s3cret%2Fof%2Bthe+client","error_description":"\u001b[2J\u202e` + strings.Repeat("x", 600) + `"}`, `{"error":1,"error_uri":[]}`, `[]`, `null`, `"`, ``, `<html>` + secret,
	} {
		for _, status := range []int{200, 400, 503} {
			f.Add(status, "", seed)
		}
	}
	f.Add(429, "3", "")
	f.Add(302, "Wed, 21 Oct 2099 07:28:00 GMT", "")
	f.Fuzz(func(t *testing.T, status int, retryAfter, body string) {
		answers(status, retryAfter, body)
		before := time.Now()
		i, _, err := c.attempt(context.Background(), "client_credentials", func(_ context.Context, _ string, f *form) error {
			f.Set("client_secret", secret)
			f.secrets = append(f.secrets, secret)
			return nil
		})
		if err == nil {
			if checkAccessToken(i.token.AccessToken()) != "" || !plain(i.token.Scope()) || status/100 != 2 {
				t.Fatalf("token %q, scope %q under %d", i.token.AccessToken(), i.token.Scope(), status)
			}
			if life := i.token.Expiry().Sub(before); life < -2*time.Second || life > maxLife+time.Minute || hold(i, DefaultLeeway).token.data == nil {
				t.Fatalf("expires in %v", life)
			}
			return
		}
		oe := (*OAuthError)(nil)
		if !errors.As(err, &oe) || !sayable(err, secret) || !plain(oe.Code+oe.Description+oe.URI) || len(oe.Code) > 64 || len(oe.Description) > 500 || oe.RetryAfter < 0 {
			t.Fatalf("%T %q", err, err)
		}
	})
}

// FuzzDiscovery: metadata is taken only from the provider that was asked, with endpoints that requests may go to.
func FuzzDiscovery(f *testing.F) {
	const issuer = "https://idp.test/realm"
	c, answers := answering(f, Issuer(issuer))
	for _, seed := range []string{
		`{"issuer":"https://idp.test/realm","token_endpoint":"https://idp.test/t","authorization_endpoint":"https://idp.test/a","device_authorization_endpoint":"https://idp.test/d","scopes_supported":["openid"],"authorization_response_iss_parameter_supported":true}`,
		`{"issuer":"https://idp.test/realm/","token_endpoint":"https://elsewhere.test/t"}`, `{"issuer":"https://idp.test/realm","token_endpoint":"http://idp.test/t"}`,
		`{"issuer":"https://idp.test/other","token_endpoint":"https://idp.test/t"}`, `{"issuer":"https://idp.test/realm","token_endpoint":"http://127.0.0.1/t"}`,
		`{"issuer":"https://idp.test/realm","token_endpoint":"https://a:b@idp.test/t"}`, `{"issuer":"https://idp.test/realm","token_endpoint":"https://idp.test/t","authorization_endpoint":"javascript:alert(1)"}`,
		`{"issuer":"\u001b[2J","token_endpoint":""}`, `{"issuer":1}`, `null`, `[]`, ``,
	} {
		f.Add(200, seed)
	}
	f.Add(404, "<html>")
	f.Fuzz(func(t *testing.T, status int, body string) {
		answers(status, "", body)
		c.found.Store(nil)
		m, err := c.discover(context.Background())
		if err != nil {
			if !sayable(err, "no secret is sent here") || c.metadata() != nil {
				t.Fatalf("%q", err)
			}
			return
		}
		if status != 200 || strings.TrimSuffix(m.Issuer, "/") != issuer {
			t.Fatalf("issuer %q under %d", m.Issuer, status)
		}
		for _, raw := range []string{m.TokenURL, m.AuthorizeURL, m.DeviceURL} {
			u, err := url.Parse(raw)
			if raw != "" && (err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil) || m.TokenURL == "" {
				t.Fatalf("endpoint %q", raw)
			}
		}
	})
}

// FuzzRetryAfter: a header of that name is a time to wait, never a negative one or one that overflows.
func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	for _, seed := range []string{"", "0", "120", "-1", "1.5", "9999999999999999999", "2147483648", "Wed, 25 Nov 2026 12:00:30 GMT", "Wednesday, 25-Nov-26 12:00:30 GMT", "Wed Nov 25 12:00:30 2026", "Fri, 31 Dec 9999 23:59:59 GMT", " 5"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, v string) {
		d := retryAfter(v, now)
		if d < 0 {
			t.Fatal(d)
		}
		if date, err := http.ParseTime(v); err == nil && date.After(now) && date.Before(now.Add(time.Hour)) && d != date.Sub(now) {
			t.Fatalf("%v for a date in %v", d, date.Sub(now))
		}
		var n uint32
		if c, err := fmt.Sscanf(v, "%d", &n); err == nil && c == 1 && v == fmt.Sprint(n) && n < 1<<31 && d != time.Duration(n)*time.Second {
			t.Fatalf("%v for %d seconds", d, n)
		}
	})
}

// FuzzIDToken: an ID token is believed only if it is whole, of the issuer, for this client, of now and of this sign-in.
func FuzzIDToken(f *testing.F) {
	c, _ := answering(f, Issuer("https://idp.test"))
	u := &user{store: store{client: c}}
	const nonce = "n-0S6_WzA2Mj"
	token := func(claims string) string { return "e30." + base64URL(claims) + ".e30" }
	good := `{"iss":"https://idp.test","sub":"1","aud":"app","exp":4102444800,"nonce":"` + nonce + `"}`
	for _, claims := range []string{good, strings.Replace(good, `"app"`, `["app"]`, 1), strings.Replace(good, `"app"`, `["app","b"],"azp":"app"`, 1), strings.Replace(good, "4102444800", "1", 1),
		strings.Replace(good, "4102444800", "1e400", 1), strings.Replace(good, `"1"`, `""`, 1), `{}`, `null`, `[]`} {
		f.Add(token(claims))
	}
	f.Add(strings.Repeat(".", 1<<16))
	f.Add("e30.e30")
	f.Fuzz(func(t *testing.T, raw string) {
		s, err := u.believe(issued{answer: &tokenResponse{IDToken: raw}}, "https://idp.test", nonce)
		switch {
		case err != nil && !sayable(err, nonce):
			t.Fatalf("%q", err)
		case err == nil && raw != "" && (s.Iss != "https://idp.test" || s.Sub == "" || s.Nonce != nonce || !(s.Exp > 1.7e9) || !strings.Contains(string(s.Aud), `"app"`) && !strings.Contains(string(s.Aud), `\u`) || strings.Count(raw, ".") != 2):
			t.Fatalf("believed: %+v", s)
		}
	})
}

func base64URL(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
