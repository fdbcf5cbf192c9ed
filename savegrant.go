//go:build go1.24

package cdfauth

import (
	"cmp"
	"maps"
	"slices"
	"strings"
)

// This file puts what a sign-in or a refresh has brought into the cache, as MSAL for
// Python does, so that the Python SDK finds it.

// save keeps a grant for its account, and returns it with the account's name in the
// token. renewed is the refresh token that was redeemed for it, nil after a sign-in.
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
	if said.Sub != "" {
		c.put(idTokens, s.newEntry(idTokens, person.id, g.response.IDToken))
	}
	if renewed == nil && person.id != "" {
		s.saveAccount(c, said, person)
		s.saveHint(c, person)
	}
	return g
}

// saveAccessToken keeps an access token, unless it has expired.
func (s *signIn) saveAccessToken(c msalCache, g grant, id, granted string) {
	if g.token.Expiry().After(s.client.clock.now()) {
		c.put(accessTokens, s.accessToken(g, id, granted))
	}
}

// saveRefreshToken keeps a refresh token, if there is a new one. It takes the place
// of the one that was redeemed, whose entry stays but for the secret: MSAL finds it
// by its target, and other programs may have put fields of theirs into it.
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

// saveAccount keeps who has signed in, and that the client is known at the provider.
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

// saveHint keeps the LoginHint under which a person has signed in, if it is not one
// of their user names: the next start would not recognise them by it. Nobody else is
// meant by it from now on.
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
			return // it is the user name of somebody else, who is still meant by it
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
