//go:build go1.24

package cdfauth

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// This file puts what a sign-in or a refresh has brought into the content of the cache, as
// MSAL for Python does, so that the Python SDK finds it.

// save puts a grant and its ID token, whose claims are said, into c for a person, whose
// tokens this provider hands out from now on. It returns the grant with the person's user
// name in the token. renewed is the refresh token that was redeemed for the grant; nil
// after a sign-in.
func (s *signIn) save(c msalCache, g grant, said claims, person account, renewed entry) grant {
	s.account.Store(&person)
	g.token = newToken(tokenData{
		header:   bearer + g.token.AccessToken(),
		expiry:   g.token.Expiry(),
		scope:    g.token.Scope(),
		username: printable(person.username),
	})
	granted := cmp.Or(strings.TrimSpace(g.response.Scope), s.client.scope)
	s.saveAccessToken(c, g, person.id, granted)
	s.saveRefreshToken(c, g, person.id, granted, renewed)
	hasIDToken := said.Sub != ""
	if hasIDToken {
		c.put(idTokens, s.newEntry(idTokens, person.id, g.response.IDToken))
	}
	isSignIn := renewed == nil
	if isSignIn && person.id != "" {
		s.saveAccount(c, said, person)
		s.saveHint(c, person)
	}
	return g
}

// saveAccessToken puts an access token into c, unless it has expired. granted are the
// scopes that were granted.
func (s *signIn) saveAccessToken(c msalCache, g grant, id, granted string) {
	if g.token.Expiry().After(s.client.clock.now()) {
		c.put(accessTokens, s.accessToken(g, id, granted))
	}
}

// saveRefreshToken puts a refresh token into c, if the grant has one. After a refresh, it
// replaces the secret in the entry of the token that was redeemed. The other fields of that
// entry stay: MSAL finds it by its target, and other programs may have added their own.
func (s *signIn) saveRefreshToken(c msalCache, g grant, id, granted string, renewed entry) {
	r := g.response
	if r.RefreshToken == "" {
		return
	}
	var token entry
	if renewed != nil {
		token = maps.Clone(renewed)
		c.remove(refreshTokens, func(e entry) bool { return sameToken(e, renewed) })
	} else {
		token = s.newEntry(refreshTokens, id, r.RefreshToken)
		token.set("target", target(granted))
		token.set("family_id", r.FamilyID)
		delete(token, "realm") // it serves all realms of the account
	}
	token["secret"] = r.RefreshToken
	token["last_modification_time"] = unix(s.client.clock.now())
	c.put(refreshTokens, token)
}

// saveAccount puts into c who has signed in, and the application metadata that MSAL keeps
// for each client.
func (s *signIn) saveAccount(c msalCache, said claims, person account) {
	realm, issuer := s.realmAndIssuer()
	authorityType := "MSSTS" // MSAL says so of providers that are not Microsoft's, too
	if realm == "adfs" {
		authorityType = "ADFS"
	}
	c.put(accounts, entry{
		"home_account_id":  person.id,
		"environment":      s.environment(),
		"realm":            realm,
		"local_account_id": cmp.Or(said.Oid, said.Sub),
		"username":         person.username,
		"authority_type":   authorityType,
		"account_source":   s.cfg.accountSource,
		fieldIssuer:        issuer,
	})
	c.put(appMetadata, entry{
		"client_id":   s.client.id,
		"environment": s.environment(),
		fieldIssuer:   issuer,
	})
}

// saveHint adds to a person's account entries the LoginHint under which they have signed
// in, and removes it from everybody else's, so that it means this person from now on. The
// next start would not recognise them by it otherwise. It does nothing if the hint is one
// of the person's user names, or the user name of somebody else.
func (s *signIn) saveHint(c msalCache, person account) {
	hint := s.cfg.loginHint
	if hint == "" || containsFold(person.names, hint) {
		return
	}
	everybody := c.find(accounts, func(e entry) bool {
		return e.text("environment") == s.environment()
	})
	for _, e := range everybody {
		if e.account() != person.id && strings.EqualFold(e.text("username"), hint) {
			return // a user name goes before a hint, so that it means that person
		}
	}
	for _, e := range everybody {
		hints := slices.DeleteFunc(e.list(fieldHints), func(h string) bool {
			return strings.EqualFold(h, hint)
		})
		if e.account() == person.id {
			hints = append(hints, hint)
		}
		e.setList(fieldHints, hints)
	}
}
