//go:build go1.24

package cdfauth

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
)

type account struct {
	id       string // home_account_id, "" if the provider tells no accounts apart
	username string
}

// issuedToUs reports whether an entry is of this client at this identity provider. The key does not tell: two realms, tenants or ports of one host look the same in it.
// Our own entries say who issued them; of others it is the ID token of the same account that does, or for Entra the realm.
func (u *signIn) issuedToUs(c msalCache, section string, e entry) bool {
	realm, issuer := u.realmAndIssuer()
	said, inRealm := e.text(fieldIssuer), section == refreshTokens || e.text("realm") == realm // those serve all realms of an account
	switch {
	case !u.ofThisClient(e):
		return false
	case said == issuer:
		return true
	case u.client.entraStyle():
		return inRealm && (said == "" || origin(said) == origin(issuer))
	}
	iss := u.idToken(c, e.account()).Iss
	if m := u.client.metadata(); m != nil && iss != m.Issuer || m == nil && strings.TrimSuffix(iss, "/") != u.client.endpoint.url {
		return false
	}
	return said == "" && (inRealm || realm == "")
}

func (u *signIn) idToken(c msalCache, id string) claims { // returns what the cached ID token of an account says, nothing if there is none. That of another of Entra's tenants says something else.
	realm, issuer := u.realmAndIssuer()
	for _, e := range c.find(idTokens, func(e entry) bool {
		ours := slices.Contains([]string{"", issuer}, e.text(fieldIssuer))
		if u.client.entraStyle() {
			ours = e.text("realm") == realm
		}
		return id != "" && e.account() == id && u.ofThisClient(e) && ours
	}) {
		if said, err := parseIDToken(e.text("secret")); err == nil {
			return said
		}
	}
	return claims{}
}

// selectAccount is meant: the account used so far, else the one that LoginHint names, else the only one. Tokens of nobody count only where the client has no account.
func (u *signIn) selectAccount(c msalCache) (a *account, several bool) {
	if a = u.account.Load(); a != nil {
		return a, false
	}
	ids, anybody := map[string]bool{}, false
	for _, section := range sections[:3] {
		for _, e := range c.find(section, u.ofThisClient) {
			anybody = anybody || e.account() != ""
			if u.issuedToUs(c, section, e) {
				ids[e.account()] = true
			}
		}
	}
	for id := range ids {
		name := ""
		for _, e := range c.find(accounts, func(e entry) bool { return e.account() == id && e.text("environment") == u.environment() }) {
			name = e.text("username")
		}
		name = cmp.Or(name, u.idToken(c, id).PreferredUsername, u.idToken(c, id).UPN) // Python's device flow forgets it when it refreshes
		switch {
		case id == "" && anybody || u.cfg.loginHint != "" && !strings.EqualFold(name, u.cfg.loginHint):
		case a != nil:
			return nil, true
		default:
			a = &account{id, name}
		}
	}
	return a, false
}

type foundTokens struct { // what the cache has of an account
	lookup
	refreshTokens []entry
	account       account
}

func (u *signIn) search(c msalCache) foundTokens {
	if a, _ := u.selectAccount(c); a != nil {
		return u.tokens(c, *a)
	}
	return foundTokens{}
}

func (u *signIn) tokens(c msalCache, a account) foundTokens { // finds an account's access token, and its refresh tokens, the newest first
	scope, ext := u.client.scope, extCacheKey(u.client.params)
	l := foundTokens{account: a}
	l.lookup = u.newest(c, a.username, func(e entry) bool {
		return u.issuedToUs(c, accessTokens, e) && e.account() == a.id && e.text("ext_cache_key") == ext &&
			(scope != "" && covers(e.text("target"), scope) || e.text(fieldAsked) == cmp.Or(target(scope), "-"))
	})
	l.refreshTokens = c.find(refreshTokens, func(e entry) bool {
		return u.issuedToUs(c, refreshTokens, e) && e.account() == a.id && e.text("secret") != ""
	})
	return l
}

func (r *tokenResponse) account(said claims) account { // tells whose token an answer has, as MSAL does
	var info struct{ UID, UTID string }
	a := account{said.Sub, cmp.Or(said.PreferredUsername, said.UPN)}
	b, _ := base64.RawURLEncoding.DecodeString(strings.TrimRight(r.ClientInfo, "="))
	if json.Unmarshal(b, &info) == nil && info.UID != "" && info.UTID != "" {
		a.id = info.UID + "." + info.UTID
	}
	return a
}
