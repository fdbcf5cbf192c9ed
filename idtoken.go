//go:build go1.24

package cdfauth

import (
	"cmp"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// This file reads and verifies ID tokens (OpenID Connect Core 1.0; sections below
// are of it). An ID token tells who has signed in, for the account in the cache and for
// Token.Username, and that a response belongs to this sign-in. It proves nothing else to
// this package, which gives nobody access because of one.

// idTokenSkew is by how much the clocks of this computer and of the identity
// provider may differ.
const idTokenSkew = 5 * time.Minute

// claims are those claims of an ID token that this package reads (§2, §5.1). Oid, Tid and
// UPN are Entra's.
type claims struct {
	Iss               string
	Sub               string
	Aud               audience
	Azp               string
	Exp               float64 // seconds since 1970, with a fraction at some providers
	Nonce             string
	PreferredUsername string `json:"preferred_username"`
	Oid               string
	Tid               string
	UPN               string
}

// username returns the person's user name: preferred_username, which older versions of
// Entra and AD FS call upn.
func (c claims) username() string {
	return cmp.Or(c.PreferredUsername, c.UPN)
}

// An audience is the aud claim, which is a string or a list of strings (§2). A claim of
// any other type becomes an empty audience, which verifyIDToken refuses.
type audience []string

// UnmarshalJSON never fails.
func (a *audience) UnmarshalJSON(raw []byte) error {
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		*a = list
		return nil
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*a = audience{one}
	}
	return nil
}

var errNotIDToken = errors.New("cdfauth: the answer's id_token is not an ID token")

// parseIDToken reads the claims of an ID token. It fails if there is no sub claim, or if
// a claim that it reads is of the wrong type. It does not verify the signature, because
// the token comes from the token endpoint over TLS, which may take the signature's place
// (§3.1.3.7, number 6).
func parseIDToken(raw string) (claims, error) {
	// A JWS has three parts (RFC 7515 §3.1). The limit of four keeps a megabyte of dots
	// from becoming a million strings.
	parts := strings.SplitN(raw, ".", 4)
	if len(parts) != 3 {
		return claims{}, errNotIDToken
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return claims{}, errNotIDToken
	}
	var said claims
	if json.Unmarshal(payload, &said) != nil || said.Sub == "" {
		return claims{}, errNotIDToken
	}
	return said, nil
}

// verifyIDToken makes the checks of a grant's ID token that a client has to make
// (§3.1.3.7), and returns the claims. If the grant has no ID token, it returns no claims.
// Nothing of the grant may be stored before. issuer is the one that is expected: that of
// the metadata or, on a refresh, that of the first ID token. nonce is "" if the request
// had none. secrets are those of the request, which no error may show.
func (s *signIn) verifyIDToken(g grant, issuer, nonce string, secrets ...string) (claims, error) {
	if g.response.IDToken == "" {
		return claims{}, nil
	}
	said, err := parseIDToken(g.response.IDToken)
	if err != nil {
		return claims{}, err
	}
	// Entra's metadata for several tenants has a placeholder in place of the tenant.
	expected := strings.ReplaceAll(issuer, "{tenantid}", said.Tid)
	earliest := s.client.clock.now().Add(-idTokenSkew).Unix()
	switch {
	case said.Iss == "" || said.Iss != expected: // number 2
		secrets = append(secrets, g.response.AccessToken, g.response.RefreshToken)
		err = fmt.Errorf("is of issuer %q, and %q was expected",
			scrub(said.Iss, 200, secrets...), scrub(issuer, 200))
	case !slices.Contains(said.Aud, s.client.id): // number 3
		err = errors.New("is for another client (aud)")
	case said.Azp == "" && len(said.Aud) > 1: // number 4
		err = errors.New("is for several clients, and does not say to which it was issued (azp)")
	case said.Azp != "" && said.Azp != s.client.id: // number 5
		err = errors.New("was issued to another client (azp)")
	case said.Exp <= float64(earliest): // number 9; a missing exp is 0
		err = errors.New("has expired: is this computer's clock right?")
	case nonce != "" && !sameSecret(nonce, said.Nonce): // number 11
		err = errors.New("is of another sign-in (nonce)")
	}
	if err != nil {
		return claims{}, fmt.Errorf("cdfauth: the ID token %w", err)
	}
	return said, nil
}

// sameSecret reports whether a and b are the same. The time that it takes does not tell
// where they differ.
func sameSecret(a, b string) bool {
	return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1
}
