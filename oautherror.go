//go:build go1.24

package cdfauth

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// OAuthError is what the identity provider answered (RFC 6749 §5.2), for errors.As. Its texts are bounded, printable, and without the request's secrets.
type OAuthError struct {
	Code          string        `json:"error"` // such as "invalid_client"; "" when the answer was not of that form
	Description   string        `json:"error_description"`
	URI           string        `json:"error_uri"`
	StatusCode    int           `json:"-"`              // of the HTTP response; 0 when a browser brought the answer
	CorrelationID string        `json:"correlation_id"` // for the provider's support
	RetryAfter    time.Duration `json:"-"`              // as the server asked; 0 if it did not
}

func (e *OAuthError) Error() string {
	s, status := "cdfauth: the identity provider answered", strings.TrimPrefix(strconv.Itoa(e.StatusCode), "0")
	for i, part := range []string{status, e.Code, e.Description, e.CorrelationID} {
		if part != "" {
			s += fmt.Sprintf([]string{" %s", " %s", ": %s", " (correlation id %s)"}[i], part)
		}
	}
	return s
}

// errorCodes are those that callers decide on (RFC 6749 §4.1.2.1, §5.2; 8628 §3.5; 8707 §2; OpenID Connect Core §3.1.2.6): never scrubbed, whatever the secret.
var errorCodes = strings.Fields(`invalid_request invalid_client invalid_grant unauthorized_client unsupported_grant_type invalid_scope server_error
	temporarily_unavailable authorization_pending slow_down access_denied expired_token unsupported_response_type invalid_target interaction_required
	login_required consent_required account_selection_required`)

// scrub makes text from outside fit to show: printable, bounded, and without any eight bytes in a row that a secret has too, plain or encoded; but a known code stays.
func scrub(text string, limit int, secrets ...string) string {
	if text == "" || slices.Contains(errorCodes, text) {
		return text
	}
	const most, run = 8 << 10, 8 // cut first, generously: what a cut leaves of a secret falls to the second one
	text = printable(text[:min(len(text), most)])
	left := []byte(text)
	for _, s := range secrets {
		forms := []string{s, url.QueryEscape(s), url.PathEscape(s)}
		for pad := range 3 { // base64 of something longer (Basic's pair) has it at one of three alignments
			forms = append(forms, base64.StdEncoding.EncodeToString([]byte("  "[:pad]+s)), base64.URLEncoding.EncodeToString([]byte("  "[:pad]+s)))
		}
		for _, form := range forms {
			n := min(run, len(form)*len(s)) // 0 if there is no secret
			for i := 0; n > 0 && i+n <= len(text); i++ {
				if strings.Contains(form, text[i:i+n]) {
					clear(left[i : i+n])
				}
			}
		}
	}
	left = slices.CompactFunc(left, func(a, b byte) bool { return a == 0 && b == 0 }) // of its own, the text has no zeros
	text = strings.ReplaceAll(string(left), "\x00", "[removed]")
	return printable(text[:min(len(text), limit)])
}

func printable(s string) string { // drops what could move a terminal's cursor or hide in a log, and makes a blank of what separates lines
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s))
}
