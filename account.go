//go:build go1.24

package cdfauth

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// This file tells which entries of a cache were issued to this client by this
// identity provider, which people they belong to, and which of these people is meant.
// It finds that person's tokens.
//
// A cache file is shared: by other clients, by other providers on the same host
// name, and by Cognite's Python SDK. The names of its entries are not enough to tell
// them apart. An access token that is sent to the wrong API, or a refresh token that
// is sent to the wrong provider, is a leak.

// An account is a person at an identity provider, as a cache knows them.
type account struct {
	id       string   // home_account_id; "" if the provider tells no accounts apart
	username string   // "" if it is not known
	names    []string // all user names: a guest has another one in each tenant
	hints    []string // the values of LoginHint under which they have signed in
}

// fieldHints is the field of an account's entry that has the values of LoginHint
// under which the person has signed in. Others than this package ignore it.
const fieldHints = "login_hints"

// accountOf returns the account whose tokens a response has. Its id comes from
// client_info if the provider sends that, as Entra does, and otherwise is the subject of
// the ID token. MSAL does the same.
func accountOf(r *tokenResponse, said claims) account {
	person := account{id: said.Sub, username: said.username()}
	person.addName(said.PreferredUsername)
	person.addName(said.UPN)
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

// tokenSections are the sections in which entries belong to a client. Whoever removes
// entries goes through them in this order: entries that other programs have made are
// recognised by the ID tokens, which therefore come last.
var tokenSections = []string{accessTokens, refreshTokens, idTokens}

// issuedToUs reports whether this client got an entry from this identity provider.
// Its key does not tell: two realms, tenants or ports of one host look the same in
// it. An entry that this package has made says who issued it. For an entry that another
// program has made, the realm decides at Entra, and the account's ID tokens elsewhere.
func (s *signIn) issuedToUs(c msalCache, section string, e entry) bool {
	if !s.ofThisClient(e) {
		return false
	}
	realm, issuer := s.realmAndIssuer()
	said := e.text(fieldIssuer)
	if said == issuer {
		return true
	}
	// A refresh token has no realm, because it serves all realms of an account.
	inRealm := section == refreshTokens || e.text("realm") == realm
	if s.client.entraStyle() {
		return inRealm && (said == "" || origin(said) == origin(issuer))
	}
	if said != "" {
		return false
	}
	// The realm is not known before the metadata is.
	if realm != "" && !inRealm {
		return false
	}
	return s.isOurAccount(c, e.account())
}

// isOurAccount reports whether an account has ID tokens in the cache, and all of them
// are this identity provider's. If some are another provider's, which knows a person by
// the same id, an entry of the account may be of either.
func (s *signIn) isOurAccount(c msalCache, id string) bool {
	tokens := s.idTokens(c, id)
	if len(tokens) == 0 {
		return false
	}
	for _, said := range tokens {
		if !s.isOurIssuer(said.Iss) {
			return false
		}
	}
	return true
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

// idToken returns the claims of an account's ID token in the cache. If there are
// several, it prefers one that is known to be this identity provider's. It returns no
// claims if there is none.
func (s *signIn) idToken(c msalCache, id string) claims {
	tokens := s.idTokens(c, id)
	if len(tokens) == 0 {
		return claims{}
	}
	return tokens[0]
}

// idTokens returns the claims of those ID tokens of an account that may be of this
// identity provider. Those that say so come first. At Entra a person has an ID token for
// each tenant, and they differ: only those of the realm count.
func (s *signIn) idTokens(c msalCache, id string) []claims {
	if id == "" {
		return nil
	}
	realm, issuer := s.realmAndIssuer()
	entries := c.find(idTokens, func(e entry) bool {
		if e.account() != id || !s.ofThisClient(e) {
			return false
		}
		if s.client.entraStyle() {
			return e.text("realm") == realm
		}
		said := e.text(fieldIssuer)
		return said == "" || said == issuer
	})
	var ours, others []claims
	for _, e := range entries {
		said, err := parseIDToken(e.text("secret"))
		if err != nil {
			continue
		}
		if e.text(fieldIssuer) == issuer {
			ours = append(ours, said)
		} else {
			others = append(others, said)
		}
	}
	return append(ours, others...)
}

// selectAccount returns the account whose tokens this provider hands out: the one whose
// tokens it has handed out before, else the one that LoginHint means, else the only one
// in the cache. It returns nil if there is none. It also returns nil, and reports true,
// if there are several and nothing tells which of them is meant.
func (s *signIn) selectAccount(c msalCache) (selected *account, several bool) {
	selected = s.account.Load()
	if selected != nil {
		return selected, false
	}
	people := s.people(c)
	if s.cfg.loginHint != "" {
		people = meantBy(s.cfg.loginHint, people)
	}
	switch len(people) {
	case 0:
		return nil, false
	case 1:
		return &people[0], false
	default:
		return nil, true
	}
}

// meantBy returns the people whom a hint means: those of that user name, else those
// who have signed in under the hint, which may be an alias or a guest's address.
func meantBy(hint string, people []account) []account {
	var byName, byHint []account
	for _, person := range people {
		if containsFold(person.names, hint) {
			byName = append(byName, person)
		}
		if containsFold(person.hints, hint) {
			byHint = append(byHint, person)
		}
	}
	if len(byName) > 0 {
		return byName
	}
	return byHint
}

// containsFold reports whether names contains name, in any case of letters.
func containsFold(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}

// people returns the accounts to which entries of this client and this identity
// provider belong, in the order of their ids. Entries without an account count as one
// person's as long as this client has no entry with an account.
func (s *signIn) people(c msalCache) []account {
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
		people = append(people, s.person(c, id))
	}
	return people
}

// person returns what the cache says of an account. The ID token may have a user name
// that the account's entry lacks: the device code flow of the Python SDK loses it from
// the entry when it refreshes.
func (s *signIn) person(c msalCache, id string) account {
	person := account{id: id}
	for _, e := range s.accountEntries(c, id) {
		person.addName(e.text("username"))
		person.hints = append(person.hints, e.list(fieldHints)...)
	}
	said := s.idToken(c, id)
	person.addName(said.PreferredUsername)
	person.addName(said.UPN)
	if len(person.names) > 0 {
		person.username = person.names[0]
	}
	return person
}

// accountEntries returns the entries in which the cache describes an account. It may
// have one for each realm.
func (s *signIn) accountEntries(c msalCache, id string) []entry {
	return c.find(accounts, func(e entry) bool {
		return e.account() == id && e.text("environment") == s.environment()
	})
}

// addName adds a user name, unless it is empty or already there.
func (a *account) addName(name string) {
	if name != "" && !slices.Contains(a.names, name) {
		a.names = append(a.names, name)
	}
}

// list returns the texts of a field that is a list; none if it is anything else.
func (e entry) list(field string) []string {
	values, _ := e[field].([]any)
	var texts []string
	for _, v := range values {
		if text, ok := v.(string); ok {
			texts = append(texts, text)
		}
	}
	return texts
}

// setList sets a field to a list of texts, or removes it for none.
func (e entry) setList(field string, texts []string) {
	if len(texts) == 0 {
		delete(e, field)
		return
	}
	values := make([]any, len(texts))
	for i, text := range texts {
		values[i] = text
	}
	e[field] = values
}

// foundTokens is what a cache has for the account that is meant.
type foundTokens struct {
	lookup                // the access token
	refreshTokens []entry // those that may be redeemed, the newest first
	refusal       error   // why another one was refused before; nil if none was
	account       account
	several       bool // nothing tells which account is meant
}

// signInRequired returns the error of a silent phase that has found no token: a person
// has to be asked, and why.
func (f *foundTokens) signInRequired() error {
	switch {
	case f.several:
		return fmt.Errorf("%w: several accounts are signed in, and LoginHint does not select one: "+
			"set it to the user name of the one that is meant", ErrSignInRequired)
	case f.refusal != nil:
		// The refusal is not wrapped. It was an earlier flight's failure, and if it counted
		// as one of this flight, it would delay the sign-in (refresher.countFailure).
		return fmt.Errorf("%w: the refresh token was refused before: %v", ErrSignInRequired, f.refusal)
	default:
		return ErrSignInRequired
	}
}

// search finds the tokens of the account that is meant. If it is not known which
// account that is, search finds none.
func (s *signIn) search(c msalCache) foundTokens {
	selected, several := s.selectAccount(c)
	if selected == nil {
		return foundTokens{several: several}
	}
	return s.tokensOf(c, *selected)
}

// tokensOf finds an account's tokens. An access token fits if it was asked for with
// the same Params as this provider's, and if it was granted all scopes that this provider
// asks for. It also fits if it was asked for exactly these scopes, whatever was granted.
func (s *signIn) tokensOf(c msalCache, person account) foundTokens {
	scope := s.client.scope
	asked := cmp.Or(target(scope), noScopes)
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
	found := foundTokens{account: person, lookup: s.newest(c, person.username, fits)}
	tokens := c.find(refreshTokens, func(e entry) bool {
		return e.account() == person.id && e.text("secret") != "" && s.issuedToUs(c, refreshTokens, e)
	})
	for _, token := range tokens {
		refusal := s.refusalOf(token)
		if refusal == nil {
			found.refreshTokens = append(found.refreshTokens, token)
		} else if found.refusal == nil {
			found.refusal = refusal
		}
	}
	return found
}
