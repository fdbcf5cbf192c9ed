//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
)

// This file redeems a refresh token out of the cache (RFC 6749 §6). That happens
// within a transaction: a provider that rotates refresh tokens takes one of them
// once, and takes a second use for a theft (RFC 9700 §4.14.2).

// maxRedemptions is how many refresh tokens are tried, each once, before a person is
// asked.
const maxRedemptions = 2

var (
	errNoRefreshToken = errors.New("there is no refresh token")
	errOtherUser      = errors.New("cdfauth: the ID token that came with a refresh is another user's")
)

// redeemRefreshToken gets a token for the account that is meant: one that somebody
// else has stored meanwhile, or by a refresh token. If that is refused, it tries
// another, once: a newer one of the same account, or one that a program which takes
// no lock (Python's) has stored since. It reports whether the content has changed.
func (s *signIn) redeemRefreshToken(ctx context.Context, c msalCache) (grant, bool, error) {
	found := s.search(c)
	candidates := found.refreshTokens
	err := errNoRefreshToken
	changed := false
	for try := 1; !found.fresh; try++ {
		if len(candidates) == 0 || try > maxRedemptions {
			return grant{}, changed, fmt.Errorf("%w: %w", ErrSignInRequired, err)
		}
		token := candidates[0]
		var got grant
		var said claims
		got, said, err = s.redeem(ctx, c, token)
		switch {
		case err == nil:
			return s.save(c, got, said, found.account, token), true, nil
		case asksForPerson(err):
			return grant{}, changed, fmt.Errorf("%w: %w", ErrSignInRequired, err)
		case !isRefusal(err):
			return grant{}, changed, err
		}
		s.reload(ctx, c)
		s.removeRefreshToken(c, token)
		changed = true
		found = s.tokensOf(c, found.account)
		candidates = successors(found.refreshTokens, token, candidates)
	}
	return s.adopt(found), changed, nil
}

// redeem exchanges one refresh token. An ID token that comes with the answer has the
// issuer and the subject of the first one (OpenID Connect Core §12.2).
func (s *signIn) redeem(ctx context.Context, c msalCache, token entry) (grant, claims, error) {
	secret := token.text("secret")
	first := s.idToken(c, token.account())
	if first.Iss == "" {
		// Found out now: a refresh token must not be spent on an answer that cannot be
		// verified.
		m, err := s.client.provider(ctx)
		if err != nil {
			return grant{}, claims{}, err
		}
		first.Iss = m.Issuer
	}
	fields := url.Values{"refresh_token": {secret}}
	got, err := s.client.exchange(ctx, "refresh_token", attempts, s.filler(fields, secret))
	if err != nil {
		return grant{}, claims{}, err
	}
	said, err := s.verifyIDToken(got, first.Iss, "", secret)
	if err != nil {
		return grant{}, claims{}, err
	}
	if said.Sub != "" && first.Sub != "" && said.Sub != first.Sub {
		return grant{}, claims{}, errOtherUser
	}
	return got, said, nil
}

// asksForPerson reports whether the provider wants the person, or cannot give what
// was asked for without one (OpenID Connect Core §3.1.2.6, RFC 6749 §5.2).
func asksForPerson(err error) bool {
	var answered *OAuthError
	if !errors.As(err, &answered) {
		return false
	}
	switch answered.Code {
	case "interaction_required", "login_required", "consent_required", "invalid_scope":
		return true
	default:
		return false
	}
}

// isRefusal reports whether the provider has refused the refresh token itself
// (RFC 6749 §5.2). Some say so by the status alone.
func isRefusal(err error) bool {
	var answered *OAuthError
	if !errors.As(err, &answered) {
		return false
	}
	if answered.Code != "" {
		return answered.Code == "invalid_grant"
	}
	status := answered.StatusCode
	return status == http.StatusBadRequest || status == http.StatusUnauthorized
}

// reload replaces c, in place, by what is in the cache a moment later, if anything
// is.
func (s *signIn) reload(ctx context.Context, c msalCache) {
	blob, _ := s.read(ctx, tornPause)
	now, _ := s.parse(ctx, blob)
	if len(now) > 0 {
		clear(c)
		maps.Copy(c, now)
	}
}

// removeRefreshToken removes a refresh token, whatever the keys are under which the
// cache has it.
func (s *signIn) removeRefreshToken(c msalCache, token entry) {
	c.remove(refreshTokens, func(e entry) bool {
		return sameToken(e, token) && s.issuedToUs(c, refreshTokens, e)
	})
}

// successors returns those of tokens that are newer than the refused one, or that
// are not among the known ones.
func successors(tokens []entry, refused entry, known []entry) []entry {
	return slices.DeleteFunc(tokens, func(e entry) bool {
		isKnown := slices.ContainsFunc(known, func(k entry) bool { return sameToken(k, e) })
		return isKnown && !e.written().After(refused.written())
	})
}

func sameToken(a, b entry) bool {
	return a.text("secret") == b.text("secret")
}
