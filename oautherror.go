//go:build go1.24

package cdfauth

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// This file is what an error may show of an identity provider's answer. Texts from
// outside are bounded, printable, and cleared of the secrets that the request
// carried: some providers repeat them.

// OAuthError is an answer of the identity provider that is not the one that was
// asked for (RFC 6749 §5.2); find it with [errors.As]. Its texts are bounded,
// printable, and without the secrets of the request.
type OAuthError struct {
	// Code is the answer's error, such as "invalid_client"; "" if it has none. If the
	// answer is of another form than RFC 6749 defines, it is what that form has in place
	// of the error.
	Code string
	// Description is the provider's explanation, for people; "" if it has none.
	Description string
	// URI is of a page about the error; "" if the answer has none.
	URI string
	// StatusCode is of the HTTP response; 0 if a browser brought the answer.
	StatusCode int
	// CorrelationID is by what the provider's support finds the request; "" if it
	// was not given.
	CorrelationID string
	// RetryAfter is how long the provider asks to be left alone; 0 if it did not.
	RetryAfter time.Duration
}

// Error returns all that the provider has said.
func (e *OAuthError) Error() string {
	var b strings.Builder
	b.WriteString("cdfauth: the identity provider answered")
	if e.StatusCode != 0 {
		b.WriteString(" " + strconv.Itoa(e.StatusCode))
	}
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	}
	if e.Description != "" {
		b.WriteString(": " + e.Description)
	}
	if e.RetryAfter > 0 {
		b.WriteString(" (it asks to be left alone for " + e.RetryAfter.String() + ")")
	}
	if e.CorrelationID != "" {
		b.WriteString(" (correlation id " + e.CorrelationID + ")")
	}
	return b.String()
}

// isErrorCode reports whether an RFC defines the code. Callers decide on such a code,
// so that it is never scrubbed, whatever the secret.
func isErrorCode(code string) bool {
	switch code {
	case "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", // RFC 6749 §5.2
		"unsupported_grant_type", "invalid_scope":
		return true
	case "access_denied", "unsupported_response_type", // RFC 6749 §4.1.2.1
		"server_error", "temporarily_unavailable":
		return true
	case "authorization_pending", "slow_down", "expired_token": // RFC 8628 §3.5
		return true
	case "invalid_target": // RFC 8707 §2
		return true
	case "interaction_required", "login_required", "consent_required",
		"account_selection_required": // OpenID Connect Core §3.1.2.6
		return true
	}
	return false
}

const (
	// scrubMax is how many bytes of a text are looked at. It is generous: what is left
	// of a secret where the text is cut falls to the second cut, at the caller's limit.
	scrubMax = 8 << 10
	// scrubRun is how many bytes in a row are the trace of a secret.
	scrubRun = 8
)

// scrub makes text from outside fit to show: printable, at most limit bytes long, and
// without any eight bytes in a row that a secret has too, plain or encoded. A known
// error code stays as it is.
func scrub(text string, limit int, secrets ...string) string {
	if text == "" || isErrorCode(text) {
		return text
	}
	text = printable(text[:min(len(text), scrubMax)])
	left := []byte(text)
	common := make(map[string]bool) // by run of the text: a secret has it too
	for i := 0; i+scrubRun <= len(text); i++ {
		common[text[i:i+scrubRun]] = false
	}
	for _, secret := range secrets {
		for _, form := range encodings(secret) {
			markCommon(common, form)
			if len(form) < scrubRun {
				eraseShort(left, text, form)
			}
		}
	}
	for i := 0; i+scrubRun <= len(text); i++ {
		if common[text[i:i+scrubRun]] {
			clear(left[i : i+scrubRun])
		}
	}
	// Of its own, a printable text has no zeros.
	left = slices.CompactFunc(left, func(a, b byte) bool { return a == 0 && b == 0 })
	text = strings.ReplaceAll(string(left), "\x00", "[removed]")
	return printable(text[:min(len(text), limit)])
}

// encodings returns the forms in which a secret may come back. Base64 of something
// longer, such as Basic's pair, has it at one of three alignments.
func encodings(secret string) []string {
	if secret == "" {
		return nil
	}
	forms := []string{secret, url.QueryEscape(secret), url.PathEscape(secret)}
	for _, pad := range []string{"", " ", "  "} {
		padded := []byte(pad + secret)
		forms = append(forms,
			base64.StdEncoding.EncodeToString(padded),
			base64.URLEncoding.EncodeToString(padded))
	}
	slices.Sort(forms)
	return slices.Compact(forms)
}

// markCommon marks the runs of a text that form has too. It looks each of form's up,
// since form may be as long as the text: an assertion in base64.
func markCommon(common map[string]bool, form string) {
	for i := 0; i+scrubRun <= len(form); i++ {
		run := form[i : i+scrubRun]
		if _, found := common[run]; found {
			common[run] = true
		}
	}
}

// eraseShort sets the bytes in left to zero where text has a form that is shorter than
// a run. Text and left are of the same length.
func eraseShort(left []byte, text, form string) {
	for i := 0; i+len(form) <= len(text); i++ {
		if strings.HasPrefix(text[i:], form) {
			clear(left[i : i+len(form)])
		}
	}
}

// printable drops what could move a terminal's cursor or hide in a log, and makes a
// blank of what separates lines.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(printableRune, s))
}

// printableRune returns the rune in place of which r is shown, or -1 for none.
func printableRune(r rune) rune {
	switch {
	case unicode.IsSpace(r):
		return ' '
	case r == unicode.ReplacementChar || !unicode.IsPrint(r):
		return -1
	}
	return r
}
