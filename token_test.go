package cdfauth

import (
	"cdfauth/internal/idptest"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestZeroProviders(t *testing.T) {
	for _, p := range []interface {
		Token(context.Context) (Token, error)
	}{(*StaticProvider)(nil), &StaticProvider{}, (*FuncProvider)(nil), &FuncProvider{}, (*ClientCredentials)(nil), &ClientCredentials{}} {
		if _, err := p.Token(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "cdfauth: ") {
			t.Errorf("%T: %v", p, err)
		}
		if i, ok := p.(interface{ Invalidate(Token) }); ok {
			i.Invalidate(Token{}) // must not panic
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

func TestStaticProvider(t *testing.T) {
	p, err := NewStaticProvider("my-token")
	if err != nil {
		t.Fatal(err)
	}
	tok, err := p.Token(t.Context())
	if err != nil || tok.AccessToken() != "my-token" || !tok.Expiry().IsZero() {
		t.Errorf("%q, %v, %v", tok.AccessToken(), tok.Expiry(), err)
	}
	for _, bad := range []string{"", "a b", "Bearer x", "x\n", "x\x00", "é", "x\x7f"} {
		if p, err := NewStaticProvider(bad); err == nil || p != nil || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestToken(t *testing.T) {
	at := time.Now().Add(time.Hour)
	tok, err := NewToken("abc", at)
	if err != nil {
		t.Fatal(err)
	}
	name, value := tok.AuthorizationHeader()
	if name != "Authorization" || value != "Bearer abc" || tok.AccessToken() != "abc" || tok.Expiry() != at.Round(0) || tok.Scope() != "" || tok.Username() != "" {
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
	for i, other := range []Token{{}, newToken(tokenData{header: "Bearer abd", expiry: at}), newToken(tokenData{header: "Bearer abc", expiry: at.Add(1)}),
		newToken(tokenData{header: "Bearer abc", expiry: at, scope: "s"}), newToken(tokenData{header: "Bearer abc", expiry: at, username: "u"})} {
		if tok.Equal(other) || other.Equal(tok) {
			t.Errorf("equal to other token %d", i)
		}
	}
	if !tok.Equal(same) || !(Token{}).Equal(Token{}) {
		t.Error("not equal to the same")
	}
}
