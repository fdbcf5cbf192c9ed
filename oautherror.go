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

// This file says what an error may show of an identity provider's answer. Each text
// from outside is cut to a limit, made printable, and cleared of the secrets of the
// request, because some providers repeat those in their answers.

// OAuthError is an answer of the identity provider that is an error (RFC 6749 §5.2),
// or that is otherwise not what the request asked for. Find it with [errors.As]. Its
// texts are bounded, printable, and without the secrets of the request.
type OAuthError struct {
	// Code is the answer's error, such as "invalid_client"; "" if it has none. If the
	// answer has another form than RFC 6749 defines, Code is what that form has instead.
	Code string
	// Description is the provider's explanation, for people; "" if the answer has none.
	Description string
	// URI is the address of a page about the error; "" if the answer has none.
	URI string
	// StatusCode is the status of the HTTP response; 0 if a browser brought the answer.
	StatusCode int
	// CorrelationID is what the provider's support can find the request by; "" if the
	// answer has none.
	CorrelationID string
	// RetryAfter is how long the provider asks to be left alone; 0 if it does not ask.
	RetryAfter time.Duration
}

// Error returns a sentence with all fields but URI.
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

// isErrorCode reports whether a specification defines the code. Programs compare such
// codes. So scrub leaves them as they are, even if a secret has the same characters.
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
	// scrubMax is how many bytes of a text are looked at. It is many times the limits
	// of callers. If this cut leaves the first bytes of a secret at the end of the text,
	// the second cut, at the caller's limit, normally removes them.
	scrubMax = 8 << 10
	// scrubRun is how many bytes in a row a text and a secret must have in common to be
	// removed from the text.
	scrubRun = 8
)

// scrub returns a text from outside as an error may show it: printable, at most limit
// bytes long, and without any scrubRun bytes in a row that a secret has too, plain or
// encoded. A secret that is shorter than scrubRun is removed where the text has all of
// it. A code for which isErrorCode is true stays as it is.
func scrub(text string, limit int, secrets ...string) string {
	if text == "" || isErrorCode(text) {
		return text
	}
	text = printable(text[:min(len(text), scrubMax)])
	// The keys of common are the runs of the text, of scrubRun bytes each. The value
	// becomes true if a secret has the run too.
	common := make(map[string]bool)
	for i := 0; i+scrubRun <= len(text); i++ {
		common[text[i:i+scrubRun]] = false
	}
	// In left, zeros replace the bytes that are removed.
	left := []byte(text)
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
	// A printable text has no zeros. So each zero in left stands for a removed byte, and
	// each row of zeros for a removed part.
	left = slices.CompactFunc(left, func(a, b byte) bool { return a == 0 && b == 0 })
	text = strings.ReplaceAll(string(left), "\x00", "[removed]")
	return printable(text[:min(len(text), limit)])
}

// encodings returns the forms in which a secret may come back: as it is, percent-encoded,
// and in base64. In base64 of a longer text, such as the credentials of HTTP Basic, the
// secret begins at one of three alignments, and has another form at each.
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

// markCommon sets to true the runs in common that form has too. It looks each run of
// form up, because comparing each with the whole text would take too long for a long
// form, such as an assertion in base64.
func markCommon(common map[string]bool, form string) {
	for i := 0; i+scrubRun <= len(form); i++ {
		run := form[i : i+scrubRun]
		if _, found := common[run]; found {
			common[run] = true
		}
	}
}

// eraseShort sets the bytes in left to zero where text has form, which is shorter than
// scrubRun. The length of left is that of text.
func eraseShort(left []byte, text, form string) {
	for i := 0; i+len(form) <= len(text); i++ {
		if strings.HasPrefix(text[i:], form) {
			clear(left[i : i+len(form)])
		}
	}
}

// printable drops the characters of s that could move a terminal's cursor or hide in a
// log. It replaces line ends and other white space by blanks, and trims those at the
// ends.
func printable(s string) string {
	return strings.TrimSpace(strings.Map(printableRune, s))
}

// printableRune returns the rune that printable has in place of r, or -1 if it drops r.
func printableRune(r rune) rune {
	switch {
	case unicode.IsSpace(r):
		return ' '
	case r == unicode.ReplacementChar || !unicode.IsPrint(r):
		return -1
	}
	return r
}
