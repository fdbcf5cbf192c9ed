package cdfauth

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"cdfauth/internal/idptest"

	"github.com/google/go-cmp/cmp"
)

// TestOAuthErrorHasWhatTheProviderSays: Programs decide on the fields of an
// OAuthError (RFC 6749 §5.2), and people read its text. No field shows the
// secret or a control character, or has more than 500 characters. The provider
// is asked again only if the error may pass.
func TestOAuthErrorHasWhatTheProviderSays(t *testing.T) {
	t.Parallel()
	const secret = "s3cret/of+the client"
	for _, tt := range []struct {
		name     string
		fault    http.HandlerFunc
		want     OAuthError
		requests int
	}{
		{"invalid_client", idptest.Error(401, "invalid_client", "AADSTS7000215: Invalid client secret."),
			OAuthError{Code: "invalid_client", Description: "AADSTS7000215: Invalid client secret.",
				StatusCode: 401}, 1},
		{"server_error", idptest.Error(400, "server_error", ""),
			OAuthError{Code: "server_error", StatusCode: 400}, 3},
		{"error beside a token",
			idptest.JSON(200, map[string]any{"error": "invalid_scope", "access_token": "tok"}),
			OAuthError{Code: "invalid_scope", StatusCode: 200}, 1},
		{"token under 400", idptest.JSON(400, map[string]any{"access_token": "tok", "expires_in": 3600}),
			OAuthError{StatusCode: 400}, 1},
		{"token under 302", idptest.JSON(302, map[string]any{"access_token": "tok", "expires_in": 3600}),
			OAuthError{StatusCode: 302}, 1},
		{"error before status", idptest.Error(200, "invalid_scope", ""),
			OAuthError{Code: "invalid_scope", StatusCode: 200}, 1},
		{"final under 503", idptest.Error(503, "invalid_request", ""),
			OAuthError{Code: "invalid_request", StatusCode: 503}, 1},
		{"correlation",
			idptest.JSON(400,
				map[string]any{"error": "unauthorized_client", "correlation_id": "11-22",
					"error_codes": []int{1}, "error_uri": "https://login/error?code=1"}),
			OAuthError{Code: "unauthorized_client", URI: "https://login/error?code=1",
				CorrelationID: "11-22", StatusCode: 400}, 1},
		{"echo", idptest.Error(401, "invalid_client",
			"secret '"+secret+
				"' is wrong, and so is s3cret%2Fof%2Bthe+client, even s3cret/of; czNjcmV0L29mK3RoZSBjbGllbnQ="),
			OAuthError{Code: "invalid_client",
				Description: "secret '[removed]' is wrong, and so is [removed], even [removed]; [removed]",
				StatusCode:  401}, 1},
		{"echo in code", idptest.Error(401, secret, "x"),
			OAuthError{Code: "[removed]", Description: "x", StatusCode: 401}, 1},
		{"echo with control characters",
			idptest.Error(401, "invalid_client", "s3cret\x00/of+\x1bthe\u200b client"),
			OAuthError{Code: "invalid_client", Description: "[removed]", StatusCode: 401}, 1},
		{"secret like a code", idptest.Error(401, "invalid_client", "the client"),
			OAuthError{Code: "invalid_client", Description: "[removed]", StatusCode: 401}, 1},
		{"terminal", idptest.Error(400, "invalid\x1b_client", "a\x1b[2J\nb\u202ec"),
			OAuthError{Code: "invalid_client", Description: "a[2J bc", StatusCode: 400}, 1},
		{"long", idptest.Error(400, "x", strings.Repeat("y", 100_000)),
			OAuthError{Code: "x", Description: strings.Repeat("y", 500), StatusCode: 400}, 1},
		{"wrong types",
			idptest.JSON(400, map[string]any{"error": "invalid_client", "error_description": 7}),
			OAuthError{Code: "invalid_client", StatusCode: 400}, 1},
		{"redirect", idptest.Status(307, "Location", "https://evil.test/token"),
			OAuthError{StatusCode: 307}, 1},
		{"Retry-After beyond the flight",
			idptest.Status(429, "Retry-After", "120", "X-Request-Id", "r-1"),
			OAuthError{StatusCode: 429, RetryAfter: 2 * time.Minute, CorrelationID: "r-1"}, 1},
		{"gateway, final code of another form",
			idptest.JSON(403, map[string]any{"error": map[string]any{"code": 403}, "retry": "no"}),
			OAuthError{Code: "403", StatusCode: 403}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			idp := idptest.New()
			idp.Always(tt.fault)
			p := newTestProvider(t, idp, nil)
			_, err := p.Token(t.Context())
			oe := (*OAuthError)(nil)
			if !errors.As(err, &oe) {
				t.Fatalf("got %v", err)
			}
			if d := cmp.Diff(tt.want, *oe); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if !strings.HasPrefix(err.Error(), "cdfauth: ") ||
				!strings.Contains(err.Error(), tt.want.Code) ||
				!strings.Contains(err.Error(), tt.want.Description) {
				t.Errorf("text: %v", err)
			}
			wantRequests(t, idp, tt.requests)
		})
	}
}

// TestKnownCodeIsKeptThoughTheSecretHasIt: Programs decide on codes. A known
// code stays whole, whatever the secret looks like.
func TestKnownCodeIsKeptThoughTheSecretHasIt(t *testing.T) {
	idp := idptest.New()
	idp.Always(idptest.Error(401, "invalid_client", "not an invalid_client-secret"))
	_, err := newTestProvider(t, idp, SecretString("my-invalid_client-secret")).Token(t.Context())
	if oe := (*OAuthError)(nil); !errors.As(err, &oe) || oe.Code != "invalid_client" ||
		oe.Description != "not an [removed]" {
		t.Errorf("got %v", err)
	}
}

// TestLongSecretIsRemovedFromMuchText: An answer of 16 KiB that repeated an
// assertion of 20 KiB once took most of a second, since the work grew with the
// product of the two. BenchmarkScrub measures it.
func TestLongSecretIsRemovedFromMuchText(t *testing.T) {
	secret, text := muchToScrub()
	got := scrub(text, 500, secret)
	if got != "no: [removed]" {
		t.Errorf("%q", got)
	}
}

// muchToScrub returns a long secret, and a long text that has nothing else in it.
func muchToScrub() (secret, text string) {
	var b strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&b, "%05x", i*i)
	}
	return b.String(), "no: " + b.String()[:16<<10]
}

func BenchmarkScrub(b *testing.B) {
	secret, text := muchToScrub()
	for b.Loop() {
		scrub(text, 500, secret)
	}
}

// TestShortSecretIsRemovedWhole: of a secret, every run of eight bytes is removed from what
// a provider says. A secret that is shorter has no such run, and is removed where all of it
// stands, at either end as well.
func TestShortSecretIsRemovedWhole(t *testing.T) {
	for text, want := range map[string]string{
		"hunter":               "[removed]",
		"it was hunter":        "it was [removed]",
		"hunter it was":        "[removed] it was",
		"hunterhunter, hunte":  "[removed], hunte",
		"aHVudGVy in base64":   "[removed] in base64",
		"nothing of it":        "nothing of it",
		"sevenhunterlike text": "seven[removed]like text",
	} {
		if got := scrub(text, 100, "hunter"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// TestOAuthErrorSaysWhatItHas: the text of the error is what most people see of it. It has
// each field but URI, and no words about a field that is empty.
func TestOAuthErrorSaysWhatItHas(t *testing.T) {
	for want, e := range map[string]OAuthError{
		"cdfauth: the identity provider answered":                                      {},
		"cdfauth: the identity provider answered 401":                                  {StatusCode: 401},
		"cdfauth: the identity provider answered access_denied":                        {Code: "access_denied"},
		"cdfauth: the identity provider answered: no":                                  {Description: "no"},
		"cdfauth: the identity provider answered (it asks to be left alone for 1m30s)": {RetryAfter: 90 * time.Second},
		"cdfauth: the identity provider answered (correlation id x)":                   {CorrelationID: "x"},
		"cdfauth: the identity provider answered 429 slow_down: later " +
			"(it asks to be left alone for 5s) (correlation id x)": {
			Code: "slow_down", Description: "later", URI: "https://example.com",
			StatusCode: 429, RetryAfter: 5 * time.Second, CorrelationID: "x",
		},
	} {
		if got := e.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
