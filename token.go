//go:build go1.24

// Package cdfauth gets OAuth 2.0 access tokens for Cognite Data Fusion (CDF) and keeps them fresh, on the standard library alone.
//
// Which flow: a program has a secret or an assertion that its platform signs ([NewClientCredentials]), or a private key ([NewClientCertificate]). A person signs in
// in a browser on this machine ([NewInteractive]) or elsewhere ([NewDeviceCode]). [FromEnv] and [Load] read what users of Cognite's toolkit and Python SDK have;
// [NewStaticProvider] and [NewFuncProvider] take tokens from elsewhere. Call Token for every request, or use [NewHTTPClient]: a fresh token costs one atomic load.
//
// Where tokens live: in memory, and in a [Cache], which programs have only if they ask for one, and people in a file at [DefaultCachePath] that nobody else can
// read and Cognite's Python SDK can share. What is in it serves only whom and what it was issued for. A cache that fails costs persistence, never the token.
//
// Secrets: tokens, secrets and keys live inside function values, never in fields, so that all that the package exports can be printed, logged and marshalled without
// showing one; errors and logs are cleared of them. Process memory is not defended. SECURITY.md has the threat model.
//
// Concurrency: all is safe for concurrent use. Shortly before a token expires, one refresh runs in the background while callers still get it: neither a rollover nor
// a short outage of the identity provider is noticed. The end of a caller's context ends that caller's wait alone.
//
// Compatibility: exported names, what is sent, and the format of the cache, MSAL's, stay. Texts of errors and logs, and timing within what is documented, may change.
package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// A Provider supplies access tokens, concurrently. One that has a method Invalidate(Token) is told by [Transport] of a refused token; a wrapper passes the call on.
type Provider interface {
	// Token returns a token that has not expired, from memory if it can. An ending ctx ends this caller's wait alone, with ctx.Err(): a request under way goes on.
	Token(ctx context.Context) (Token, error)
}

// Token is an access token: an opaque value, one word wide, that nobody can print, change or half-build. The zero Token holds none.
type Token struct{ data func() *tokenData }

type tokenData struct { // reachable through a function value alone, where no printer looks
	header          string // "Bearer " and the access token: made once, so that setting it copies nothing
	expiry          time.Time
	scope, username string
}

const bearer = "Bearer "

// NewToken returns a Token for the token function of a [FuncProvider] and for tests. A zero expiry means that it is not known. It is an error if accessToken is
// empty or has anything but visible ASCII characters in it (RFC 6750 §2.1); the error does not show it.
func NewToken(accessToken string, expiry time.Time) (Token, error) {
	if bad := checkAccessToken(accessToken); bad != "" {
		return Token{}, errors.New("cdfauth: " + bad)
	}
	return newToken(tokenData{header: bearer + accessToken, expiry: expiry}), nil
}

func newToken(d tokenData) Token {
	d.expiry = d.expiry.Round(0) // wall clock only: a laptop that slept must not be handed a dead token
	return Token{func() *tokenData { return &d }}
}

func checkAccessToken(s string) (bad string) { // keeps header injection out: a token goes into a header as it is. RFC 6750's grammar is narrower, but real providers go beyond it.
	if s == "" {
		return "access token is empty"
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
		return fmt.Sprintf("access token has a character that is not visible ASCII at byte %d of %d (it is wanted without the word Bearer, blanks or line ends)", i, len(s))
	}
	return ""
}

func (t Token) load() *tokenData {
	if t.data == nil {
		return &tokenData{}
	}
	return t.data()
}

// AccessToken returns the access token itself, "" for the zero Token.
func (t Token) AccessToken() string { return strings.TrimPrefix(t.load().header, bearer) }

// Expiry returns when the token expires, by the wall clock. It is zero only if that is not known: for a [StaticProvider], and if [NewToken] was given zero.
func (t Token) Expiry() time.Time { return t.load().expiry }

// Scope returns the scopes as granted, separated by spaces, and "" when the server did not say.
func (t Token) Scope() string { return t.load().scope }

// Username returns who signed in, in the flows where somebody does, and "" otherwise.
func (t Token) Username() string { return t.load().username }

// AuthorizationHeader returns the name and the value of the header that carries the token (RFC 6750 §2.1); the zero Token has an empty value.
func (t Token) AuthorizationHeader() (name, value string) { return "Authorization", t.load().header }

// SetAuthHeader sets the Authorization header of r, replacing one that is there. The zero Token deletes it.
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

// Equal reports whether t and u are the same access token with the same expiry, scope and user. A cache keeps the whole seconds of an expiry, and no more.
func (t Token) Equal(u Token) bool {
	a, b := t.load(), u.load()
	return a.header == b.header && a.expiry.Equal(b.expiry) && a.scope == b.scope && a.username == b.username
}

// StaticProvider hands out one given token for ever.
type StaticProvider struct{ token Token }

// NewStaticProvider returns a provider of the given access token, which is never refreshed and whose expiry is not known. Its errors are those of [NewToken].
func NewStaticProvider(accessToken string) (*StaticProvider, error) {
	t, err := NewToken(accessToken, time.Time{})
	if err != nil {
		return nil, err
	}
	return &StaticProvider{t}, nil
}

// Token returns the token given to [NewStaticProvider].
func (p *StaticProvider) Token(context.Context) (Token, error) {
	if p == nil || p.token.data == nil {
		return Token{}, errNotMade
	}
	return p.token, nil
}

// FuncProvider hands out tokens that a function of the caller's gets.
type FuncProvider struct{ refresher *refresher }

// NewFuncProvider returns a provider that gets its tokens from f, one call at a time. A Token with an expiry is kept until [DefaultLeeway] before it; one without
// is asked for on every call. f gets a context of its own that ends after 30 seconds and has the values of the caller's. If f returns [ErrSignInRequired], it is
// called once more, with a context that permits asking and lasts 15 minutes, if the caller permits it too: see [WithoutInteraction].
func NewFuncProvider(f func(context.Context) (Token, error)) (*FuncProvider, error) {
	if f == nil {
		return nil, errors.New("cdfauth: the token function is nil")
	}
	r := newRefresher("function", Options{})
	source := &tokenFunction{f: f, clock: &r.clock}
	r.silent = source.token
	r.ask = source.token
	return &FuncProvider{r}, nil
}

// A tokenFunction is the function behind a FuncProvider.
type tokenFunction struct {
	f     func(context.Context) (Token, error)
	clock *clock
	calls ctxMutex // held during a call, so that none overtakes one that was abandoned
}

// token calls the function.
func (t *tokenFunction) token(ctx context.Context) (grant, error) {
	token, err := guard(ctx, "token function", func(ctx context.Context) (Token, error) {
		if t.calls.begin(ctx) != nil {
			return Token{}, fmt.Errorf("an earlier call has not returned: %w", ctx.Err())
		}
		defer t.calls.end()
		return t.f(ctx)
	})
	if err != nil {
		return grant{}, err
	}
	if token.data == nil {
		return grant{}, errors.New("cdfauth: the token function returned the zero Token")
	}
	return grant{token: token, sent: t.clock.now(), monotonic: t.clock.moment().monotonic}, nil
}

// Token returns the current token, or asks the function for one.
func (p *FuncProvider) Token(ctx context.Context) (Token, error) {
	if p == nil || p.refresher == nil {
		return Token{}, errNotMade
	}
	return p.refresher.Token(ctx)
}

// Invalidate says that t was refused: if it is the current token, the next call of Token asks for another. It may be called at any rate.
func (p *FuncProvider) Invalidate(t Token) {
	if p != nil && p.refresher != nil {
		p.refresher.Invalidate(t)
	}
}
