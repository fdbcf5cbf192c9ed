//go:build go1.24

package cdfauth

import (
	"context"
	"crypto/sha256"
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
//
// A refresh token that the provider refuses is dead, or it is not good for what was
// asked for: at Entra one refresh token serves all tenants and APIs of a person, and
// one of them may want a second factor, or may not know the person. A dead one is
// removed from the cache. The other kind stays, for whom it serves, and this provider
// does not redeem it again before the person has been asked.

// maxRedemptions is how many refresh tokens are tried, each once, before a person is
// asked.
const maxRedemptions = 2

var errOtherUser = errors.New("cdfauth: the ID token that came with a refresh is another user's")

// redeemRefreshToken gets a token for the account that is meant: one that somebody
// else has stored meanwhile, or by a refresh token. If that is refused, it tries
// another, once: a newer one of the same account, or one that a program which takes
// no lock (Python's) has stored since. It reports whether the content has changed.
func (s *signIn) redeemRefreshToken(ctx context.Context, c msalCache) (grant, bool, error) {
	found := s.search(c)
	candidates := found.refreshTokens
	if !found.fresh && len(candidates) == 0 {
		return grant{}, false, found.signInRequired()
	}
	var refusal error
	changed := false
	for try := 1; !found.fresh; try++ {
		if len(candidates) == 0 || try > maxRedemptions {
			return grant{}, changed, fmt.Errorf("%w: %w", ErrSignInRequired, refusal)
		}
		token := candidates[0]
		got, said, err := s.redeem(ctx, c, token)
		if err == nil {
			return s.save(c, got, said, found.account, token), true, nil
		}
		answer := s.judge(err)
		if answer == notRefused {
			return grant{}, changed, err
		}
		refusal = err
		s.reload(ctx, c)
		if answer == refusedForGood {
			s.removeRefreshToken(c, token)
			changed = true
		} else {
			s.refused.Store(fingerprint(token), err)
		}
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
		m, err := s.client.discoverWithRetries(ctx)
		if err != nil {
			return grant{}, claims{}, err
		}
		first.Iss = m.Issuer
	}
	fields := url.Values{"refresh_token": {secret}}
	got, err := s.client.exchange(ctx, "refresh_token", attempts, s.addGrant(fields, secret))
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

// A verdict is what an error of a refresh says of the refresh token.
type verdict int

const (
	notRefused     verdict = iota // nothing: the provider was not reached, or is out of order
	refusedForThis                // it is not good for what was asked for, for now
	refusedForGood                // it is dead
)

// judge tells what an error of a refresh says of the refresh token.
func (s *signIn) judge(err error) verdict {
	var answered *OAuthError
	if !errors.As(err, &answered) {
		return notRefused
	}
	switch answered.Code {
	case "interaction_required", "login_required", "consent_required":
		return refusedForThis // OpenID Connect Core §3.1.2.6
	case "invalid_scope":
		return refusedForThis // RFC 6749 §5.2
	}
	if !isInvalidGrant(answered) {
		return notRefused
	}
	var more suberror
	errors.As(err, &more)
	isEntra := s.client.endpoint.kind == kindAuthority
	switch {
	case more.code == "bad_token":
		return refusedForGood
	case more.code != "" || isEntra:
		// Entra refuses a refresh token at one tenant also without a suberror, for
		// instance because the person has no account there.
		return refusedForThis
	default:
		return refusedForGood
	}
}

// isInvalidGrant reports whether an answer means invalid_grant (RFC 6749 §5.2). Some
// providers say so by the status, and by no error that an RFC defines.
func isInvalidGrant(answered *OAuthError) bool {
	if isErrorCode(answered.Code) {
		return answered.Code == "invalid_grant"
	}
	status := answered.StatusCode
	return status == http.StatusBadRequest || status == http.StatusUnauthorized
}

// fingerprint tells a refresh token from others without having it.
func fingerprint(token entry) [sha256.Size]byte {
	return sha256.Sum256([]byte(token.text("secret")))
}

// refusalOf returns why this provider does not redeem a refresh token again before
// the person has been asked, nil if it may.
func (s *signIn) refusalOf(token entry) error {
	refusal, _ := s.refused.Load(fingerprint(token))
	err, _ := refusal.(error)
	return err
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
