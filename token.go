//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// This file has the two types that every program uses: a Provider, and the Token that
// it supplies.

// A Provider supplies access tokens. It is safe for concurrent use.
//
// A Provider may also have a method Invalidate(Token). [Transport] calls it when the
// API has refused a token. A type that wraps a Provider passes that call on.
type Provider interface {
	// Token returns a token that has not expired, from memory if possible. A token
	// that had expired when the identity provider issued it (an expires_in of 0) goes
	// to the callers who were waiting for it, and to nobody later. If ctx ends first,
	// Token returns ctx.Err(); a request that is under way goes on, for the sake of
	// other callers and later ones.
	Token(ctx context.Context) (Token, error)
}

// Token is an access token: an opaque value, one word wide, that nobody can print or
// change. The zero Token holds no access token.
type Token struct{ data func() *tokenData }

// A tokenData is what a Token holds. A Token keeps it inside a function value, because
// fmt, log/slog and the encoders do not look there.
type tokenData struct {
	header   string    // the value of the Authorization header: "Bearer " and the access token
	expiry   time.Time // by the wall clock, in whole seconds; zero if it is not known
	scope    string    // separated by spaces; "" if the server did not say
	username string    // "" unless a person has signed in
}

// bearer begins the value of the Authorization header (RFC 6750 §2.1).
const bearer = "Bearer "

// NewToken returns a Token, for the function of a [FuncProvider] and for tests. A
// zero expiry means that the expiry is not known. NewToken fails if accessToken is empty or
// has anything but visible ASCII characters in it (RFC 6750 §2.1). The error does
// not show it.
func NewToken(accessToken string, expiry time.Time) (Token, error) {
	if problem := checkAccessToken(accessToken); problem != "" {
		return Token{}, errors.New("cdfauth: " + problem)
	}
	return newToken(tokenData{header: bearer + accessToken, expiry: expiry}), nil
}

// newToken returns a Token that holds d. The access token must have passed
// checkAccessToken.
//
// newToken rounds the expiry down to whole seconds, as caches do, so that a token that
// comes out of a cache is Equal to the one that was put there. It also removes the
// reading of the monotonic clock, which stands still while a laptop sleeps: with it, a
// token that has expired in the meantime would seem valid.
func newToken(d tokenData) Token {
	d.expiry = d.expiry.Round(0).Truncate(time.Second)
	return Token{func() *tokenData { return &d }}
}

// checkAccessToken says what is wrong with an access token, without showing it; ""
// if nothing is. A token goes into a header as it is, so that a line end in it would
// let whoever made the token add headers to the request. RFC 6750 §2.1 allows fewer
// characters, but real providers use others too.
func checkAccessToken(s string) string {
	if s == "" {
		return "access token is empty"
	}
	i := strings.IndexFunc(s, notVisibleASCII)
	if i >= 0 {
		return fmt.Sprintf("access token has a character that is not visible ASCII at byte %d of %d"+
			" (it is wanted without the word Bearer, blanks or line ends)", i+1, len(s))
	}
	return ""
}

// load returns what t holds, and an empty tokenData for the zero Token. Nobody changes
// what it returns.
func (t Token) load() *tokenData {
	if t.data == nil {
		return &tokenData{}
	}
	return t.data()
}

// AccessToken returns the access token itself. It is empty for the zero Token.
func (t Token) AccessToken() string {
	return strings.TrimPrefix(t.load().header, bearer)
}

// Expiry returns when the token expires, by the wall clock, in whole seconds, rounded
// down. It is zero only if that is not known: for a [StaticProvider], and if
// [NewToken] was given a zero time.
func (t Token) Expiry() time.Time { return t.load().expiry }

// Scope returns the scopes that were granted, separated by spaces. It is empty if the
// server did not say.
func (t Token) Scope() string { return t.load().scope }

// Username returns the name of the person who signed in, in the flows where somebody
// does. It is empty otherwise.
func (t Token) Username() string { return t.load().username }

// AuthorizationHeader returns the name and the value of the header that carries the
// token (RFC 6750 §2.1). The value is empty for the zero Token.
func (t Token) AuthorizationHeader() (name, value string) {
	return "Authorization", t.load().header
}

// SetAuthHeader sets the Authorization header of r, and replaces one that is there.
// For the zero Token it deletes the header. It does nothing if r is nil.
func (t Token) SetAuthHeader(r *http.Request) {
	switch {
	case r == nil:
	case t.data == nil:
		r.Header.Del("Authorization")
	case r.Header == nil:
		r.Header = http.Header{"Authorization": {t.data().header}}
	default:
		r.Header["Authorization"] = []string{t.data().header}
	}
}

// Equal reports whether t and u are the same access token, with the same expiry,
// scope and user name.
func (t Token) Equal(u Token) bool {
	a := t.load()
	b := u.load()
	return a.header == b.header && a.expiry.Equal(b.expiry) &&
		a.scope == b.scope && a.username == b.username
}
