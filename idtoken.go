//go:build go1.24

package cdfauth

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

type claims struct { // what is read of an ID token (OpenID Connect Core §2), for the account's identity and nothing else
	Iss, Sub, Azp, Nonce, Oid, Tid, UPN string
	Aud                                 json.RawMessage
	Exp                                 float64
	PreferredUsername                   string `json:"preferred_username"`
}

func parseIDToken(raw string) (s claims, err error) { // reads the claims. The signature is not needed: the token comes from the token endpoint itself, over TLS (§3.1.3.7, number 6).
	parts := strings.SplitN(raw+"..", ".", 6)
	b, _ := base64.RawURLEncoding.DecodeString(parts[1])
	if len(parts) != 5 || json.Unmarshal(b, &s) != nil || s.Sub == "" {
		return claims{}, errors.New("cdfauth: the answer's id_token is not an ID token")
	}
	return s, nil
}

// verifyIDToken judges an ID token, if there is one, as a client of the code flow has to (§3.1.3.7), before anything is kept. nonce is "" where none was sent.
func (u *signIn) verifyIDToken(i grant, issuer, nonce string, secrets ...string) (claims, error) {
	if i.response.IDToken == "" {
		return claims{}, nil
	}
	s, err := parseIDToken(i.response.IDToken)
	if err != nil {
		return claims{}, err
	}
	var audience []string
	if json.Unmarshal(s.Aud, &audience) != nil {
		audience = make([]string, 1)
		_ = json.Unmarshal(s.Aud, &audience[0]) // if it is neither, it names nobody
	}
	return s, refuse("cdfauth: the ID token ", []refusal{
		{s.Iss == "" || s.Iss != strings.ReplaceAll(issuer, "{tenantid}", s.Tid), // Entra's metadata for several tenants
			fmt.Sprintf("is of issuer %q, and %q was expected", scrub(s.Iss, 200, append(secrets, i.response.AccessToken, i.response.RefreshToken)...), scrub(issuer, 200))},
		{!slices.Contains(audience, u.client.id), "is for another client"},
		{s.Azp != "" && s.Azp != u.client.id || s.Azp == "" && len(audience) > 1, "was issued to another client (azp)"},
		{!(s.Exp > float64(u.client.clock.now().Add(-5*time.Minute).Unix())), "has expired (is this computer's clock right?)"},
		{nonce != "" && subtle.ConstantTimeCompare([]byte(nonce), []byte(s.Nonce)) != 1, "is of another sign-in (nonce)"},
	})
}
