//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// This file has the two providers whose tokens come from elsewhere: StaticProvider has
// one token, and FuncProvider calls a function of the program.

// StaticProvider always returns the one token that it was given. Make one with
// [NewStaticProvider].
type StaticProvider struct{ token Token }

// NewStaticProvider returns a provider of the given access token. The token is never
// refreshed, and its expiry is not known. It fails as [NewToken] does.
func NewStaticProvider(accessToken string) (*StaticProvider, error) {
	token, err := NewToken(accessToken, time.Time{})
	if err != nil {
		return nil, err
	}
	return &StaticProvider{token}, nil
}

// Token returns the token that [NewStaticProvider] was given.
func (p *StaticProvider) Token(context.Context) (Token, error) {
	if p == nil || p.token.data == nil {
		return Token{}, errNotMade
	}
	return p.token, nil
}

// FuncProvider returns tokens that a function of the program gets. Make one with
// [NewFuncProvider].
type FuncProvider struct{ refresher *refresher }

// NewFuncProvider returns a provider that gets its tokens from f. If the Token that f
// returns has an expiry, the provider keeps it, and calls f again [DefaultLeeway]
// before it expires. If it has none, the provider calls f for every call of Token.
// NewFuncProvider fails if f is nil.
//
// The provider makes one call of f at a time. The context of f has the values of the
// caller's, ends after 30 seconds, and is marked by [WithoutInteraction]. If f
// returns [ErrSignInRequired] and a caller permits interaction, the provider calls f
// once more, with a context that permits it too and ends after 15 minutes.
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

	// calls is locked during a call of f. After a call that was abandoned, the next one
	// waits until that has returned.
	calls ctxMutex
}

// token calls the function. It fails if the function does, if it returns the zero
// Token, or if the call, or an earlier one, has not returned when ctx ends.
func (t *tokenFunction) token(ctx context.Context) (grant, error) {
	token, err := guard(ctx, "token function", func(ctx context.Context) (Token, error) {
		if t.calls.lock(ctx) != nil {
			return Token{}, fmt.Errorf("an earlier call has not returned: %w", ctx.Err())
		}
		defer t.calls.unlock()
		return t.f(ctx)
	})
	if err != nil {
		return grant{}, err
	}
	if token.data == nil {
		return grant{}, errors.New("cdfauth: the token function returned the zero Token")
	}
	got := grant{
		token:     token,
		sent:      t.clock.now(),
		monotonic: t.clock.moment().monotonic,
	}
	return got, nil
}

// Token returns the current token, or calls the function for one. Its errors are
// those of the function, and those of ctx.
func (p *FuncProvider) Token(ctx context.Context) (Token, error) {
	if p == nil || p.refresher == nil {
		return Token{}, errNotMade
	}
	return p.refresher.Token(ctx)
}

// Invalidate tells the provider that the API has refused t. If t is the current
// token, the next call of Token calls the function for another one. If the function
// fails, or may not be called yet, Token returns t until it expires. Invalidate may be
// called at any rate: it leads to one call of the function in 10 seconds at most.
func (p *FuncProvider) Invalidate(t Token) {
	if p != nil && p.refresher != nil {
		p.refresher.Invalidate(t)
	}
}
