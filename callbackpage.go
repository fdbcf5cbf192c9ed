//go:build go1.24

package cdfauth

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
)

// This file has the pages that the listener of a sign-in sends to browsers. They are
// constant texts: none of a request is in them. They run no script and load nothing.

// The pages.
var (
	nothingPage = newPage("There is nothing here",
		"This address waits for the answer to a sign-in, and this was none. "+
			"If you were signing in, start again in the program that asked for it.")
	otherSignInPage = newPage("This is not the sign-in that is waited for",
		"The answer may belong to an earlier sign-in. Close this page and use the one that was "+
			"opened last, or start again in the program that asked for it.")
	signedInPage = newPage("You are signed in",
		"You can close this page and go back to the program that asked for it.")
	declinedPage = newPage("Sign-in was declined",
		"Nobody was signed in. "+
			"If that was not meant, start again in the program that asked for it.")
	failedPage = newPage("Sign-in did not succeed",
		"The program that asked for it says why. You can close this page and go back to it.")
)

// endPage returns the page for a sign-in that ended with err, which is nil if it succeeded.
func endPage(err error) []byte {
	var refused *OAuthError
	switch {
	case err == nil:
		return signedInPage
	case errors.As(err, &refused) && refused.Code == "access_denied":
		return declinedPage
	default:
		return failedPage
	}
}

// pageStyle is the style of all pages. pagePolicy has its hash.
const pageStyle = `:root{color-scheme:light dark}` +
	`body{font:18px/1.5 system-ui,sans-serif;max-width:32em;margin:18vh auto 0;padding:0 1.5em;` +
	`text-wrap:pretty}` +
	`h1{font-size:1.5em;line-height:1.25}`

// newPage returns a page. The title and the text must be HTML.
func newPage(title, text string) []byte {
	return []byte(`<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">` +
		`<meta name="viewport" content="width=device-width,initial-scale=1">` +
		`<title>` + title + `</title><style>` + pageStyle + `</style></head>` +
		`<body><h1>` + title + `</h1><p>` + text + `</p></body></html>` + "\n")
}

// pagePolicy returns a Content-Security-Policy (CSP Level 3) that permits a page its own
// style and nothing else.
func pagePolicy() string {
	sum := sha256.Sum256([]byte(pageStyle))
	return "default-src 'none'; " +
		"style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; " +
		"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
}

// show sends a page at once, and closes the connection afterwards. The address of the
// request may have the code in it, so that neither a cache nor another page may get it.
func show(w http.ResponseWriter, status int, page []byte) {
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(len(page)))
	header.Set("Content-Security-Policy", pagePolicy())
	header.Set("Cache-Control", "no-store")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Connection", "close")
	w.WriteHeader(status)
	_, _ = w.Write(page) // fails for a HEAD, whose answer has no body
	_ = http.NewResponseController(w).Flush()
}
