package cdfauth

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// FuzzDeviceAnswer: whatever a device authorization endpoint answers (RFC 8628 §3.2), the
// texts for a person are printable, so that none of them rewrites the terminal, and the
// token endpoint is not asked more than once a second.
func FuzzDeviceAnswer(f *testing.F) {
	var answer string
	var status int
	idp := tripper(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: status,
			Header: http.Header{"Content-Type": {"application/json"}},
			Body:   io.NopCloser(strings.NewReader(answer)), Request: r}, nil
	})
	e := newRefresher("device code", Options{})
	c, err := newClient("device code", Authority("https://idp.test/tenant"), "app", nil, nil,
		Options{HTTPClient: &http.Client{Transport: idp}}, &e.clock)
	if err != nil {
		f.Fatal(err)
	}
	flow := &deviceFlow{signIn: &signIn{tokenStore: tokenStore{client: c, refresher: e}}}
	for _, seed := range []string{
		`{"device_code":"d","user_code":"AB-CD","verification_uri":"https://a.test/b","expires_in":900,"interval":5}`,
		`{"device_code":"d","user_code":"AB-CD","verification_url":"https://a.test/b","verification_uri_complete":"https://a.test/b?c=AB-CD","expires_in":"900","interval":"0"}`,
		`{"device_code":"d","message":"go\u001b[2J to\u202e \u009b","interval":-1,"expires_in":1e300}`,
		`{"device_code":"d","user_code":"x","verification_uri":"http://localhost/","interval":1e-9}`,
		`{"device_code":"d","user_code":"x","verification_uri":"https://a.test/\u009b2J"}`,
		`{"device_code":"d","user_code":"x","verification_uri":"https://a.test/\u202e?\u200b"}`,
		`{"device_code":"d","user_code":"x","verification_uri":"https://a.test/","verification_uri_complete":"https://a.test/\u202e"}`,
		`{"error":"slow_down","error_description":"\u001b"}`,
		`{"error":"server_error"}`, `[]`, `null`, `{"device_code":{}}`, ``,
	} {
		f.Add(200, seed)
		f.Add(503, seed)
	}
	f.Fuzz(func(t *testing.T, s int, a string) {
		status, answer = s, a
		// Too short to try again.
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		code, err := flow.requestCode(ctx, "read")
		if err != nil {
			if !plain(err.Error()) || len(err.Error()) > 2000 {
				t.Fatalf("%q", err)
			}
			return
		}
		d := code.shown
		if code.secret == "" || code.interval < time.Second ||
			d.Message == "" && (d.UserCode == "" || d.VerificationURI == "") {
			t.Fatalf("code %q, every %v: %+v", code.secret, code.interval, d)
		}
		for _, s := range []string{d.UserCode, d.Message, d.VerificationURI, d.VerificationURIComplete} {
			if !plain(s) {
				t.Fatalf("%q", s)
			}
		}
		for _, s := range []string{d.VerificationURI, d.VerificationURIComplete} {
			if s != "" && !strings.HasPrefix(strings.ToLower(s), "https://") &&
				!strings.HasPrefix(strings.ToLower(s), "http://") {
				t.Fatalf("%q", s)
			}
		}
	})
}
