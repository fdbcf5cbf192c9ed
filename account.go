//go:build go1.24

package cdfauth

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// This file tells which entries of a cache were issued to this client by this
// identity provider, which people they belong to, and which of them is meant.
//
// A cache file is shared: by other clients, by other providers on the same host
// name, and by Cognite's Python SDK. The names of its entries are not enough to tell
// them apart. An access token that is sent to the wrong API, or a refresh token that
// is sent to the wrong provider, is a leak.

// An account is a person at an identity provider, as a cache knows them.
type account struct {
	id       string // home_account_id; "" if the provider tells no accounts apart
	username string
}

// accountOf tells whose tokens a response has: by client_info if the provider sends
// it, as Entra does, else by the subject of the ID token. MSAL does the same.
func accountOf(r *tokenResponse, said claims) account {
	person := account{id: said.Sub, username: said.username()}
	var info struct{ UID, UTID string }
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(r.ClientInfo, "="))
	if err != nil || json.Unmarshal(raw, &info) != nil {
		return person
	}
	if info.UID != "" && info.UTID != "" {
		person.id = info.UID + "." + info.UTID
	}
	return person
}

// tokenSections are the sections in which entries belong to a client. The ID tokens
// come last: entries of others' making are recognised by them.
var tokenSections = []string{accessTokens, refreshTokens, idTokens}

// issuedToUs reports whether this client got an entry from this identity provider.
// Its key does not tell: two realms, tenants or ports of one host look the same in
// it. Entries of our own say who issued them. Of an entry that another program made,
// the realm tells at Entra, and the ID token of the same account elsewhere.
func (s *signIn) issuedToUs(c msalCache, section string, e entry) bool {
	if !s.ofThisClient(e) {
		return false
	}
	realm, issuer := s.realmAndIssuer()
	said := e.text(fieldIssuer)
	if said == issuer {
		return true
	}
	// Refresh tokens have no realm: they serve all realms of an account.
	inRealm := section == refreshTokens || e.text("realm") == realm
	if s.client.entraStyle() {
		return inRealm && (said == "" || origin(said) == origin(issuer))
	}
	if said != "" || !inRealm && realm != "" {
		return false
	}
	return s.isOurIssuer(s.idToken(c, e.account()).Iss)
}

// isOurIssuer reports whether iss is the identity provider's issuer. Before the
// metadata is loaded, that is the URL by which the provider was configured.
func (s *signIn) isOurIssuer(iss string) bool {
	m := s.client.metadata()
	if m == nil {
		return strings.TrimSuffix(iss, "/") == s.client.endpoint.url
	}
	return iss == m.Issuer
}

// idToken returns the claims of an account's ID token in the cache, or none. At
// Entra a person has one for each tenant, and they differ.
func (s *signIn) idToken(c msalCache, id string) claims {
	if id == "" {
		return claims{}
	}
	realm, issuer := s.realmAndIssuer()
	tokens := c.find(idTokens, func(e entry) bool {
		if e.account() != id || !s.ofThisClient(e) {
			return false
		}
		if s.client.entraStyle() {
			return e.text("realm") == realm
		}
		said := e.text(fieldIssuer)
		return said == "" || said == issuer
	})
	for _, e := range tokens {
		said, err := parseIDToken(e.text("secret"))
		if err == nil {
			return said
		}
	}
	return claims{}
}

// selectAccount tells whose tokens this provider hands out: those of the person it
// has handed out before, else of the one that LoginHint names, else of the only one
// there is. It returns nil if there is nobody, or several and nothing tells which.
func (s *signIn) selectAccount(c msalCache) (selected *account, several bool) {
	selected = s.account.Load()
	if selected != nil {
		return selected, false
	}
	for _, person := range s.accounts(c) {
		if s.cfg.loginHint != "" && !strings.EqualFold(person.username, s.cfg.loginHint) {
			continue
		}
		if selected != nil {
			return nil, true
		}
		selected = &person
	}
	return selected, false
}

// accounts returns the people to whom entries of ours belong. Entries without an
// account count as a person's only while this client has no others.
func (s *signIn) accounts(c msalCache) []account {
	ours := map[string]bool{}
	haveAccounts := false
	for _, section := range tokenSections {
		for _, e := range c.find(section, s.ofThisClient) {
			if e.account() != "" {
				haveAccounts = true
			}
			if s.issuedToUs(c, section, e) {
				ours[e.account()] = true
			}
		}
	}
	if haveAccounts {
		delete(ours, "")
	}
	var people []account
	for _, id := range slices.Sorted(maps.Keys(ours)) {
		people = append(people, account{id: id, username: s.username(c, id)})
	}
	return people
}

// username returns the user name of an account. Python's device code flow loses it
// from the account's entry when it refreshes: then the ID token has it.
func (s *signIn) username(c msalCache, id string) string {
	entries := c.find(accounts, func(e entry) bool {
		return e.account() == id && e.text("environment") == s.environment()
	})
	for _, e := range entries {
		if name := e.text("username"); name != "" {
			return name
		}
	}
	return s.idToken(c, id).username()
}

// foundTokens is what a cache has for the account that is meant.
type foundTokens struct {
	lookup                // the access token
	refreshTokens []entry // the newest first
	account       account
}

// search finds the tokens of the account that is meant. If nothing tells who that
// is, it finds none.
func (s *signIn) search(c msalCache) foundTokens {
	selected, _ := s.selectAccount(c)
	if selected == nil {
		return foundTokens{}
	}
	return s.tokensOf(c, *selected)
}

// tokensOf finds an account's tokens. An access token fits if it was asked for with
// the same Params, and was granted all scopes that this provider asks for, or was
// asked for just these before.
func (s *signIn) tokensOf(c msalCache, person account) foundTokens {
	scope := s.client.scope
	asked := cmp.Or(target(scope), "-")
	extKey := extCacheKey(s.client.params)
	fits := func(e entry) bool {
		if e.account() != person.id || !s.issuedToUs(c, accessTokens, e) {
			return false
		}
		if e.text("ext_cache_key") != extKey {
			return false
		}
		return scope != "" && covers(e.text("target"), scope) || e.text(fieldAsked) == asked
	}
	return foundTokens{
		lookup:  s.newest(c, person.username, fits),
		account: person,
		refreshTokens: c.find(refreshTokens, func(e entry) bool {
			return s.issuedToUs(c, refreshTokens, e) && e.account() == person.id && e.text("secret") != ""
		}),
	}
}
