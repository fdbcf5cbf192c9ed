//go:build go1.25

package cdfauth

import (
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestAccounts: which of the people in a cache is meant, as the Python SDK has it.
func TestAccounts(t *testing.T) {
	tests := []struct {
		name   string
		people []string
		change func(*InteractiveConfig)
		edit   func(msalCache)
		asks   int // of the first call
		prompt string
		hint   string
		user   string
	}{
		{name: "none", asks: 1, prompt: "consent", user: "ada@example.com"},
		{name: "one", people: []string{"bob"}, user: "bob"},
		{name: "several", people: []string{"bob", "eve"}, asks: 1, prompt: "select_account consent", user: "ada@example.com"},
		{name: "several with a hint", people: []string{"bob", "eve"}, change: func(c *InteractiveConfig) { c.LoginHint = "EVE" }, user: "eve"},
		{name: "a hint at nobody", people: []string{"bob", "eve"}, change: func(c *InteractiveConfig) { c.LoginHint = "dan" }, asks: 1, prompt: "consent", hint: "dan", user: "ada@example.com"},
		{name: "a hint at somebody else", people: []string{"bob"}, change: func(c *InteractiveConfig) { c.LoginHint = "dan" }, asks: 1, prompt: "consent", hint: "dan", user: "ada@example.com"},
		{name: "prompt", people: []string{"bob"}, change: func(c *InteractiveConfig) { c.Prompt = "login" }, asks: 1, prompt: "login consent", user: "ada@example.com"},
		{name: "prompt for consent", people: []string{"bob"}, change: func(c *InteractiveConfig) { c.Prompt = "consent" }, asks: 1, prompt: "consent", user: "ada@example.com"},
		{name: "another client's", people: []string{"bob"}, change: func(c *InteractiveConfig) { c.ClientID = "other" }, asks: 1, prompt: "consent", user: "ada@example.com"},
		{name: "another realm's", people: []string{"bob"}, change: func(c *InteractiveConfig) { c.Endpoint = Issuer("https://idp.test/realms/b") }, asks: 1, prompt: "consent", user: "ada@example.com"},
		{name: "another port's", people: []string{"bob"}, change: func(c *InteractiveConfig) { c.Endpoint = Issuer("https://idp.test:444") }, asks: 1, prompt: "consent", user: "ada@example.com"},
		{name: "no refresh token", people: []string{"bob"}, edit: func(c msalCache) {
			delete(c, refreshTokens)
			for _, key := range all(c, accessTokens) {
				entryOf(c, accessTokens, key)["expires_on"] = "1"
			}
		}, asks: 1, prompt: "consent", hint: "bob", user: "ada@example.com"},
		{name: "a name that Python lost", people: []string{"bob"}, change: func(c *InteractiveConfig) { c.LoginHint = "bob" }, edit: func(c msalCache) {
			for _, key := range all(c, accounts) {
				entryOf(c, accounts, key)["username"] = ""
			}
		}, user: "bob"},
		{name: "a name of the file's", people: []string{"bob"}, edit: func(c msalCache) {
			e := entryOf(c, accounts, all(c, accounts)[0])
			e["username"] = "robert"
			for _, host := range []string{"a.test", "z.test"} {
				other := maps.Clone(e)
				other["environment"], other["username"] = host, "of "+host
				c[accounts].(map[string]any)[host] = map[string]any(other)
			}
		}, user: "robert"},
		{name: "Python's, known by the ID token", people: []string{"bob"}, edit: func(c msalCache) { foreign(c, "") }, user: "bob"},
		{name: "Python's, of another issuer", people: []string{"bob"}, edit: func(c msalCache) { foreign(c, "https://idp.test/realms/b") }, asks: 1, prompt: "consent", user: "ada@example.com"},
		{name: "an application's", people: []string{"bob"}, edit: func(c msalCache) {
			for _, section := range []string{accessTokens, refreshTokens, idTokens} {
				for _, key := range all(c, section) {
					entryOf(c, section, key)[fieldGrant] = "client_credentials"
				}
			}
		}, asks: 1, prompt: "consent", user: "ada@example.com"},
		{name: "hostile", people: []string{"bob"}, edit: func(c msalCache) {
			for _, key := range all(c, refreshTokens) {
				e := maps.Clone(entryOf(c, refreshTokens, key))
				e["home_account_id"] = map[string]any{"a": 1}
				c[refreshTokens].(map[string]any)["x"] = map[string]any(e)
				c[refreshTokens].(map[string]any)["y"] = nil
				c[accounts].(map[string]any)["z"] = map[string]any{"username": []any{}, "environment": "idp.test"}
			}
		}, user: "bob"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &human{idp: idptest.New()}
				cache := sample(t, h, tt.people...)
				if tt.edit != nil {
					edit(t, cache, tt.edit)
				}
				for _, at := range []string{"https://idp.test:444"} { // a second provider, on another port
					if strings.Contains(tt.name, "port") {
						h.idp.Issuer = at
					}
				}
				p := interactive(t, h, cache, tt.change)
				tok := signedIn(t, p)
				if h.asked() != tt.asks || tok.Username() != tt.user {
					t.Fatalf("%q signed in after being asked %d times, want %q after %d", tok.Username(), h.asked(), tt.user, tt.asks)
				}
				if tt.asks > 0 && (h.last().Get("prompt") != tt.prompt || h.last().Get("login_hint") != tt.hint) {
					t.Errorf("asked with prompt %q and login_hint %q, want %q and %q", h.last().Get("prompt"), h.last().Get("login_hint"), tt.prompt, tt.hint)
				}
				// Then there is silence, beyond the token's life too.
				for range 3 {
					if again := signedIn(t, p); again.Username() != tt.user {
						t.Fatalf("then %q", again.Username())
					}
					time.Sleep(40 * time.Minute)
				}
				if h.asked() != tt.asks {
					t.Errorf("asked %d times more", h.asked()-tt.asks)
				}
				// A silent failure asks that very person.
				edit(t, cache, func(c msalCache) { clear(c) })
				time.Sleep(2 * time.Hour)
				signedIn(t, p)
				if h.asked() != tt.asks+1 || h.last().Get("prompt") != "consent" || h.last().Get("login_hint") != tt.user {
					t.Errorf("asked %d times more, with prompt %q and login_hint %q", h.asked()-tt.asks, h.last().Get("prompt"), h.last().Get("login_hint"))
				}
			})
		})
	}
}

// foreign makes entries as Python writes them: without our fields, and of a given issuer, if any.
func foreign(c msalCache, iss string) {
	for _, section := range []string{accessTokens, refreshTokens, idTokens, accounts} {
		for _, key := range all(c, section) {
			e := entryOf(c, section, key)
			delete(e, fieldIssuer)
			if section == idTokens && iss != "" {
				e["secret"] = idptest.IDToken(map[string]any{"iss": iss, "sub": "sub-bob", "aud": "app"})
			}
		}
	}
}

// TestOnePersonAtTwoRealms: who has the same subject at two realms of one host, or on two ports, is signed in at both.
func TestOnePersonAtTwoRealms(t *testing.T) {
	t.Run("other scopes", func(t *testing.T) { // whose ID tokens alone have the same name in the cache
		synctest.Test(t, func(t *testing.T) {
			h, cache := &human{idp: idptest.New()}, &MemoryCache{}
			a, b := at(Issuer("https://idp.test/realms/a"), "x"), at(Issuer("https://idp.test/realms/b"), "y")
			signedIn(t, interactive(t, h, cache, a))
			signedIn(t, interactive(t, h, cache, b))
			time.Sleep(2 * time.Hour)
			if _, err := interactive(t, h, cache, a).Token(WithoutInteraction(t.Context())); err != nil {
				t.Errorf("a's refresh, judged by b's ID token: %v", err)
			}
			if _, err := interactive(t, h, cache, a).Token(WithoutInteraction(t.Context())); err != nil || h.idp.Refused() != 0 {
				t.Errorf("after that: %v; %d refresh tokens refused", err, h.idp.Refused())
			}
		})
	})
	t.Run("the same scopes", func(t *testing.T) { // whose entries all have the same names
		synctest.Test(t, func(t *testing.T) {
			h, cache := &human{idp: idptest.New()}, &MemoryCache{}
			a, b := at(Issuer("https://idp.test/realms/a")), at(Issuer("https://idp.test/realms/b"))
			signedIn(t, interactive(t, h, cache, a))
			signedIn(t, interactive(t, h, cache, b))
			if _, err := interactive(t, h, cache, a).Token(WithoutInteraction(t.Context())); err != nil {
				t.Errorf("a's entries were not kept: %v", err)
			}
		})
	})
}

// TestTokensOfNobody: a token without an account serves only while the file has no account of the client's.
func TestTokensOfNobody(t *testing.T) {
	for _, others := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := sample(t, h, "bob")
			edit(t, cache, func(c msalCache) {
				e := maps.Clone(entryOf(c, accessTokens, keysOf(c, accessTokens)[0]))
				e["secret"], e["home_account_id"] = "nobody's", nil
				delete(c, accessTokens)
				delete(c, refreshTokens)
				if !others {
					clear(c)
				}
				c.put(accessTokens, e)
			})
			tok := signedIn(t, interactive(t, h, cache, nil))
			if adopted := tok.AccessToken() == "nobody's"; adopted == others || h.asked() > 0 != others {
				t.Errorf("with others' entries: %t; adopted: %t; asked %d times", others, adopted, h.asked())
			}
		})
	}
}

// TestOtherRealmIsKept: what another realm's person has in the file stays, whatever this one does.
func TestOtherRealmIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		before := read(t, cache)
		p := interactive(t, h, cache, at(Issuer("https://idp.test/realms/b")))
		signedIn(t, p)
		if err := p.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
		after := read(t, cache)
		for _, section := range sections[:4] {
			for _, key := range keysOf(before, section) {
				if !maps.Equal(entryOf(before, section, key), entryOf(after, section, key)) {
					t.Errorf("%s: %s is gone or another", section, key)
				}
			}
		}
	})
}
