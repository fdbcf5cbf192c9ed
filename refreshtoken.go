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

// This file redeems a refresh token from the cache (RFC 6749 §6). It does so within a
// transaction, because an identity provider that rotates refresh tokens accepts each of
// them once, and takes a second use for a theft (RFC 9700 §4.14.2).
//
// If the identity provider refuses a refresh token, the token is dead, or it does not
// serve what was asked for. At Entra one refresh token serves all tenants and APIs of a
// person, but one of them may want a second factor, or may not know the person. A dead
// token is removed from the cache. A token of the other kind stays there for the programs
// that it does serve, and this program does not redeem it again before a person has
// signed in.

// maxRedemptions is how many refresh tokens redeemRefreshToken tries at most, each once.
const maxRedemptions = 2

// errOtherUser is the error of a refresh that has brought another user's ID token.
var errOtherUser = errors.New("cdfauth: the ID token that came with a refresh is another user's")

// redeemRefreshToken gets a token for the account that is meant: one that another program
// has stored meanwhile, or by the newest refresh token. If that is refused, it reads the
// cache again, since a program that takes no lock (Python's) may have stored another one,
// and tries that. It fails with ErrSignInRequired if no refresh token is left to try. It
// reports whether it has changed c in a way that has to be stored.
func (s *signIn) redeemRefreshToken(ctx context.Context, c msalCache) (grant, bool, error) {
	found := s.search(c)
	candidates := found.refreshTokens
	required := found.signInRequired()
	changed := false
	for tried := 0; !found.fresh; tried++ {
		if len(candidates) == 0 || tried == maxRedemptions {
			return grant{}, changed, required
		}
		token := candidates[0]
		got, said, err := s.redeem(ctx, c, token)
		if err == nil {
			return s.save(c, got, said, found.account, token), true, nil
		}
		meaning := s.judge(err)
		if meaning == notRefused {
			return grant{}, changed, err
		}
		required = fmt.Errorf("%w: %w", ErrSignInRequired, err)
		s.reload(ctx, c)
		if meaning == refusedForGood {
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

// redeem exchanges one refresh token for a token. If the answer has an ID token, that must
// have the issuer and the subject of the first one (OpenID Connect Core §12.2). If the
// cache does not have the first one, its issuer must be that of the metadata.
func (s *signIn) redeem(ctx context.Context, c msalCache, token entry) (grant, claims, error) {
	secret := token.text("secret")
	first := s.idToken(c, token.account())
	if first.Iss == "" {
		// The metadata is loaded before the exchange. Afterwards the refresh token would be
		// spent, on an answer that could not be verified without it.
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

// A verdict is what the error of an exchange says about the refresh token.
type verdict int

const (
	notRefused     verdict = iota // nothing: the provider was not reached, or is out of order
	refusedForThis                // the token does not serve what was asked for, at present
	refusedForGood                // the token is dead
)

// judge returns what the error of an exchange says about the refresh token.
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
	hasTenants := s.client.endpoint.kind == kindAuthority // Entra; AD FS has none
	switch {
	case more.code == "bad_token":
		return refusedForGood
	case more.code != "" || hasTenants:
		// One of Entra's tenants may refuse a refresh token that serves at the others, for
		// instance because it has no account for the person. Then there is no suberror.
		return refusedForThis
	default:
		return refusedForGood
	}
}

// isInvalidGrant reports whether an answer means invalid_grant (RFC 6749 §5.2). Some
// providers do not send an error code that an RFC defines: then the status decides.
func isInvalidGrant(answered *OAuthError) bool {
	if isErrorCode(answered.Code) {
		return answered.Code == "invalid_grant"
	}
	status := answered.StatusCode
	return status == http.StatusBadRequest || status == http.StatusUnauthorized
}

// fingerprint returns a hash of a refresh token, by which it can be recognised later
// without being kept in memory.
func fingerprint(token entry) [sha256.Size]byte {
	return sha256.Sum256([]byte(token.text("secret")))
}

// refusalOf returns the error by which the identity provider has refused a refresh token
// for what this program asks for, or nil if it has not.
func (s *signIn) refusalOf(token entry) error {
	refusal, _ := s.refused.Load(fingerprint(token))
	err, _ := refusal.(error)
	return err
}

// reload waits a moment, and replaces what is in c by what is in the cache then. If the
// cache is empty or cannot be read, c stays as it is.
func (s *signIn) reload(ctx context.Context, c msalCache) {
	blob, _ := s.read(ctx, tornPause)
	content, _ := s.parse(ctx, blob)
	if len(content) > 0 {
		clear(c)
		maps.Copy(c, content)
	}
}

// removeRefreshToken removes all entries of this client that have the same refresh token,
// whatever their keys are.
func (s *signIn) removeRefreshToken(c msalCache, token entry) {
	c.remove(refreshTokens, func(e entry) bool {
		return sameToken(e, token) && s.issuedToUs(c, refreshTokens, e)
	})
}

// successors returns those of tokens that may serve after one was refused: those that are
// not among the known ones, and those that were written after the refused one.
func successors(tokens []entry, refused entry, known []entry) []entry {
	var left []entry
	for _, token := range tokens {
		isSame := func(k entry) bool { return sameToken(k, token) }
		isKnown := slices.ContainsFunc(known, isSame)
		if !isKnown || token.written().After(refused.written()) {
			left = append(left, token)
		}
	}
	return left
}

// sameToken reports whether two entries have the same secret.
func sameToken(a, b entry) bool {
	return a.text("secret") == b.text("secret")
}
