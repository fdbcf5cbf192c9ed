package cdfauth

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// answering returns a client whose identity provider always answers the same, and a function
// that sets the answer.
func answering(
	f *testing.F, ep Endpoint,
) (c *client, answers func(status int, retryAfter, body string)) {
	var status int
	var header, body string
	c, err := newClient("client credentials", ep, "app", nil, nil,
		Options{HTTPClient: &http.Client{
			Transport: tripper(func(r *http.Request) (*http.Response, error) {
				h := http.Header{}
				if header != "" {
					h["Retry-After"] = []string{header}
				}
				return &http.Response{StatusCode: status, Header: h,
					Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
			})}}, new(clock))
	if err != nil {
		f.Fatal(err)
	}
	return c, func(s int, r, b string) { status, header, body = s, r, b }
}

// sayable reports whether an error can be shown, and shows no secret.
func sayable(err error, secret string) bool {
	return plain(err.Error()) && len(err.Error()) < 2000 && !strings.Contains(err.Error(), secret) &&
		!strings.Contains(err.Error(), url.QueryEscape(secret))
}

// FuzzTokenResponse: whatever a token endpoint answers, there is a token that a header can
// carry, or an error that can be shown. An answer may echo the secret, which is in neither.
func FuzzTokenResponse(f *testing.F) {
	const secret = "s3cret/of+the client"
	c, answers := answering(f, TokenURL("https://idp.test/token"))
	for _, seed := range []string{
		`{"access_token":"t","token_type":"Bearer","expires_in":3600,"scope":"a b"}`,
		`{"access_token":"t","expires_in":"3599.5","refresh_in":1e3}`,
		`{"access_token":"t\r\nX-Evil: 1"}`, `{"access_token":null}`,
		`{"access_token":"t","expires_in":1e400}`, `{"access_token":"t","expires_in":-1e400}`,
		`{"access_token":"t","expires_in":"0x10"}`,
		`{"access_token":"t","token_type":"mac"}`,
		`{"access_token":"t","error":"invalid_client","error_description":"` + secret + `"}`,
		`{"error":"temporarily_unavailable"}`,
		`{"error":"s3cret%2Fof%2Bthe+client","error_description":"\u001b[2J\u202e` +
			strings.Repeat("x", 600) + `"}`,
		`{"error":1,"error_uri":[]}`, `[]`, `null`, `"`, ``, `<html>` + secret,
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
		i, _, err := c.attempt(context.Background(), "client_credentials",
			func(_ context.Context, _ string, f *tokenRequest) error {
				f.Set("client_secret", secret)
				f.secrets = append(f.secrets, secret)
				return nil
			})
		if err == nil {
			if checkAccessToken(i.token.AccessToken()) != "" || !plain(i.token.Scope()) || status/100 != 2 {
				t.Fatalf("token %q, scope %q under %d", i.token.AccessToken(), i.token.Scope(), status)
			}
			if life := i.token.Expiry().Sub(before); life < -2*time.Second || life > maxLife+time.Minute ||
				newCachedToken(i, DefaultLeeway, c.clock.moment()).token.data == nil {
				t.Fatalf("expires in %v", life)
			}
			return
		}
		oe := (*OAuthError)(nil)
		if !errors.As(err, &oe) || !sayable(err, secret) || !plain(oe.Code+oe.Description+oe.URI) ||
			len(oe.Code) > 64 || len(oe.Description) > 500 || oe.RetryAfter < 0 {
			t.Fatalf("%T %q", err, err)
		}
	})
}

func base64URL(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
