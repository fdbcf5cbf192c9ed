package cdfauth

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"cdfauth/internal/idptest"
)

// TestZeroProvidersReturnErrors: A program may ignore the error of a
// constructor, or make a value without it. Such a provider returns an error
// that says so, and nothing panics.
func TestZeroProvidersReturnErrors(t *testing.T) {
	for _, p := range []Provider{
		(*StaticProvider)(nil), &StaticProvider{},
		(*FuncProvider)(nil), &FuncProvider{},
		(*ClientCredentials)(nil), &ClientCredentials{},
		(*ClientCertificate)(nil), &ClientCertificate{},
		(*DeviceCode)(nil), &DeviceCode{},
		(*Interactive)(nil), &Interactive{},
	} {
		if _, err := p.Token(t.Context()); err != errNotMade {
			t.Errorf("%T: %v", p, err)
		}
		if p, ok := p.(interface{ Invalidate(Token) }); ok {
			p.Invalidate(Token{}) // must not panic
		}
		if p, ok := p.(interface{ SignOut(context.Context) error }); ok {
			if err := p.SignOut(t.Context()); err != errNotMade {
				t.Errorf("%T: %v", p, err)
			}
		}
	}
	if _, err := NewFuncProvider(nil); err == nil {
		t.Error("nil function")
	}
	p := newTestProvider(t, idptest.New(), nil)
	var none context.Context
	if _, err := p.Token(none); err == nil {
		t.Error("nil context")
	}
}

// TestAccessTokensAreVisibleASCII: A line end or a blank in a token would end
// the header, or the token in it (RFC 6750 §2.1).
func TestAccessTokensAreVisibleASCII(t *testing.T) {
	for token, taken := range map[string]bool{"!": true, "~": true, " ": false, "\x7f": false} {
		if _, err := NewToken(token, time.Time{}); (err == nil) != taken {
			t.Errorf("%q: %v", token, err)
		}
	}
}

// TestStaticProviderRefusesWhatIsNoToken: People paste tokens with a line end,
// or with Bearer before them. The error does not show what was pasted.
func TestStaticProviderRefusesWhatIsNoToken(t *testing.T) {
	p, err := NewStaticProvider("my-token")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := p.Token(t.Context())
	if err != nil || tok.AccessToken() != "my-token" || !tok.Expiry().IsZero() {
		t.Errorf("%q, %v, %v", tok.AccessToken(), tok.Expiry(), err)
	}
	for _, bad := range []string{"", "a b", "Bearer x", "x\n", "x\x00", "é", "x\x7f"} {
		if p, err := NewStaticProvider(bad); err == nil || p != nil ||
			bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestTokenSetsTheAuthorizationHeader: A Token is a value that programs
// compare, and the zero Token has no credentials: it deletes a header that is
// there rather than let an old one through.
func TestTokenSetsTheAuthorizationHeader(t *testing.T) {
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.Local)
	tok, err := NewToken("abc", at)
	if err != nil {
		t.Fatal(err)
	}
	name, value := tok.AuthorizationHeader()
	if name != "Authorization" || value != "Bearer abc" || tok.AccessToken() != "abc" ||
		tok.Expiry() != at || tok.Scope() != "" || tok.Username() != "" {
		t.Errorf("%s: %s, %q, %v", name, value, tok.AccessToken(), tok.Expiry())
	}
	r := &http.Request{}
	tok.SetAuthHeader(r)
	if r.Header.Get("Authorization") != "Bearer abc" {
		t.Errorf("header %v", r.Header)
	}
	tok.SetAuthHeader(nil)
	Token{}.SetAuthHeader(r)
	Token{}.SetAuthHeader(&http.Request{})
	if _, there := r.Header["Authorization"]; there {
		t.Error("the zero Token did not delete the header")
	}
	if name, value := (Token{}).AuthorizationHeader(); name != "Authorization" || value != "" {
		t.Errorf("zero Token: %q %q", name, value)
	}
	same := newToken(tokenData{header: "Bearer abc", expiry: at.UTC()})
	for i, other := range []Token{{}, newToken(tokenData{header: "Bearer abd", expiry: at}),
		newToken(tokenData{header: "Bearer abc", expiry: at.Add(time.Second)}),
		newToken(tokenData{header: "Bearer abc", expiry: at, scope: "s"}),
		newToken(tokenData{header: "Bearer abc", expiry: at, username: "u"})} {
		if tok.Equal(other) || other.Equal(tok) {
			t.Errorf("equal to other token %d", i)
		}
	}
	if !tok.Equal(same) || !(Token{}).Equal(Token{}) {
		t.Error("not equal to the same")
	}
}

// TestTokenKeepsWholeSeconds: A cache keeps the whole seconds of an expiry. A
// token that comes out of a cache has to be Equal to the one that was put
// there.
func TestTokenKeepsWholeSeconds(t *testing.T) {
	second := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	token, err := NewToken("abc", second.Add(999*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if !token.Expiry().Equal(second) {
		t.Errorf("the expiry is %v, want %v", token.Expiry(), second)
	}
	unknown, err := NewToken("abc", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if !unknown.Expiry().IsZero() {
		t.Errorf("an unknown expiry became %v", unknown.Expiry())
	}
}

// TestRFC6750Section21: The section has an example of the header.
func TestRFC6750Section21(t *testing.T) {
	token, err := NewToken("mF_9.B5f-4.1JqM", time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if _, value := token.AuthorizationHeader(); value != "Bearer mF_9.B5f-4.1JqM" {
		t.Errorf("got %q", value)
	}
}
