//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestOnlyAccountOrThatOfTheHintServes: a cache may hold accounts of several people. As in
// Cognite's Python SDK, the account that LoginHint names serves without a question, or
// without a LoginHint the only one there is. In every other case the person is asked, with
// the prompt and login_hint that the case demands (OpenID Connect Core §3.1.2.1).
func TestOnlyAccountOrThatOfTheHintServes(t *testing.T) {
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
		{name: "several", people: []string{"bob", "eve"}, asks: 1, prompt: "select_account consent",
			user: "ada@example.com"},
		{name: "several with a hint", people: []string{"bob", "eve"},
			change: func(c *InteractiveConfig) { c.LoginHint = "EVE" }, user: "eve"},
		{name: "a hint at nobody", people: []string{"bob", "eve"},
			change: func(c *InteractiveConfig) { c.LoginHint = "dan" }, asks: 1, prompt: "consent",
			hint: "dan", user: "ada@example.com"},
		{name: "a hint at somebody else", people: []string{"bob"},
			change: func(c *InteractiveConfig) { c.LoginHint = "dan" }, asks: 1, prompt: "consent",
			hint: "dan", user: "ada@example.com"},
		{name: "prompt", people: []string{"bob"},
			change: func(c *InteractiveConfig) { c.Prompt = "login" }, asks: 1, prompt: "login consent",
			user: "ada@example.com"},
		{name: "prompt for consent", people: []string{"bob"},
			change: func(c *InteractiveConfig) { c.Prompt = "consent" }, asks: 1, prompt: "consent",
			user: "ada@example.com"},
		{name: "another client's", people: []string{"bob"},
			change: func(c *InteractiveConfig) { c.ClientID = "other" }, asks: 1, prompt: "consent",
			user: "ada@example.com"},
		{name: "another realm's", people: []string{"bob"},
			change: func(c *InteractiveConfig) { c.Endpoint = Issuer("https://idp.test/realms/b") }, asks: 1,
			prompt: "consent", user: "ada@example.com"},
		{name: "another port's", people: []string{"bob"},
			change: func(c *InteractiveConfig) { c.Endpoint = Issuer("https://idp.test:444") }, asks: 1,
			prompt: "consent", user: "ada@example.com"},
		{name: "no refresh token", people: []string{"bob"}, edit: func(c msalCache) {
			delete(c, refreshTokens)
			for _, key := range keysOf(c, accessTokens) {
				entryOf(c, accessTokens, key)["expires_on"] = "1"
			}
		}, asks: 1, prompt: "consent", hint: "bob", user: "ada@example.com"},
		{name: "a name that Python lost", people: []string{"bob"},
			change: func(c *InteractiveConfig) { c.LoginHint = "bob" }, edit: func(c msalCache) {
				for _, key := range keysOf(c, accounts) {
					entryOf(c, accounts, key)["username"] = ""
				}
			}, user: "bob"},
		{name: "a name of the file's", people: []string{"bob"}, edit: func(c msalCache) {
			e := entryOf(c, accounts, keysOf(c, accounts)[0])
			e["username"] = "robert"
			for _, host := range []string{"a.test", "z.test"} {
				other := maps.Clone(e)
				other["environment"], other["username"] = host, "of "+host
				c[accounts].(map[string]any)[host] = map[string]any(other)
			}
		}, user: "robert"},
		{name: "Python's, known by the ID token", people: []string{"bob"},
			edit: func(c msalCache) { foreign(c, "") }, user: "bob"},
		{name: "Python's, of another issuer", people: []string{"bob"},
			edit: func(c msalCache) { foreign(c, "https://idp.test/realms/b") }, asks: 1, prompt: "consent",
			user: "ada@example.com"},
		{name: "an application's", people: []string{"bob"}, edit: func(c msalCache) {
			for _, section := range []string{accessTokens, refreshTokens, idTokens} {
				for _, key := range keysOf(c, section) {
					entryOf(c, section, key)[fieldGrant] = "client_credentials"
				}
			}
		}, asks: 1, prompt: "consent", user: "ada@example.com"},
		{name: "hostile", people: []string{"bob"}, edit: func(c msalCache) {
			for _, key := range keysOf(c, refreshTokens) {
				e := maps.Clone(entryOf(c, refreshTokens, key))
				e["home_account_id"] = map[string]any{"a": 1}
				c[refreshTokens].(map[string]any)["x"] = map[string]any(e)
				c[refreshTokens].(map[string]any)["y"] = nil
				c[accounts].(map[string]any)["z"] = map[string]any{"username": []any{},
					"environment": "idp.test"}
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
				if strings.Contains(tt.name, "port") { // a second provider, on another port
					h.idp.Issuer = "https://idp.test:444"
				}
				p := interactive(t, h, cache, tt.change)
				tok := signedIn(t, p)
				if h.asked() != tt.asks || tok.Username() != tt.user {
					t.Fatalf("%q signed in after being asked %d times, want %q after %d", tok.Username(),
						h.asked(), tt.user, tt.asks)
				}
				if tt.asks > 0 &&
					(h.last().Get("prompt") != tt.prompt || h.last().Get("login_hint") != tt.hint) {
					t.Errorf("asked with prompt %q and login_hint %q, want %q and %q", h.last().Get("prompt"),
						h.last().Get("login_hint"), tt.prompt, tt.hint)
				}
				// Nobody is asked again, also after the token has expired.
				for range 3 {
					if again := signedIn(t, p); again.Username() != tt.user {
						t.Fatalf("then %q", again.Username())
					}
					time.Sleep(40 * time.Minute)
				}
				if h.asked() != tt.asks {
					t.Errorf("asked %d times more", h.asked()-tt.asks)
				}
				// Without the cache, that very person is asked.
				edit(t, cache, func(c msalCache) { clear(c) })
				time.Sleep(2 * time.Hour)
				signedIn(t, p)
				if h.asked() != tt.asks+1 || h.last().Get("prompt") != "consent" ||
					h.last().Get("login_hint") != tt.user {
					t.Errorf("asked %d times more, with prompt %q and login_hint %q", h.asked()-tt.asks,
						h.last().Get("prompt"), h.last().Get("login_hint"))
				}
			})
		})
	}
}

// foreign makes the entries of c look as if Python had written them: without our fields,
// and with ID tokens of the issuer iss, unless it is empty.
func foreign(c msalCache, iss string) {
	for _, section := range []string{accessTokens, refreshTokens, idTokens, accounts} {
		for _, key := range keysOf(c, section) {
			e := entryOf(c, section, key)
			delete(e, fieldIssuer)
			if section == idTokens && iss != "" {
				e["secret"] = idptest.IDToken(map[string]any{"iss": iss, "sub": "sub-bob", "aud": "app"})
			}
		}
	}
}

// removeIssuers makes the entries of c look as if another program had made them: they do
// not say who issued them.
func removeIssuers(c msalCache) {
	for _, section := range sections {
		for _, key := range keysOf(c, section) {
			delete(entryOf(c, section, key), fieldIssuer)
		}
	}
}

// TestPersonAtTwoRealmsIsSignedInAtBoth: a person may have the same subject at two realms
// of one host, whose entries then have the same names in the cache. The person is signed in
// at both. If the entries do not say who issued them, a refresh token that may be either
// realm's is sent to neither.
func TestPersonAtTwoRealmsIsSignedInAtBoth(t *testing.T) {
	run := func(name string, f func(t *testing.T, h *human, cache *MemoryCache)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, &human{idp: idptest.New()}, &MemoryCache{}) })
		})
	}
	// Only the ID tokens have the same name.
	run("other scopes", func(t *testing.T, h *human, cache *MemoryCache) {
		a, b := at(Issuer("https://idp.test/realms/a"), "x"), at(Issuer("https://idp.test/realms/b"), "y")
		signedIn(t, interactive(t, h, cache, a))
		signedIn(t, interactive(t, h, cache, b))
		time.Sleep(2 * time.Hour)
		if _, err := interactive(t, h, cache, a).Token(WithoutInteraction(t.Context())); err != nil {
			t.Errorf("a's refresh, judged by b's ID token: %v", err)
		}
		if _, err := interactive(t, h, cache, a).Token(WithoutInteraction(t.Context())); err != nil ||
			h.idp.Refused() != 0 {
			t.Errorf("after that: %v; %d refresh tokens refused", err, h.idp.Refused())
		}
	})
	// All entries have the same names.
	run("the same scopes", func(t *testing.T, h *human, cache *MemoryCache) {
		a, b := at(Issuer("https://idp.test/realms/a")), at(Issuer("https://idp.test/realms/b"))
		signedIn(t, interactive(t, h, cache, a))
		signedIn(t, interactive(t, h, cache, b))
		if _, err := interactive(t, h, cache, a).Token(WithoutInteraction(t.Context())); err != nil {
			t.Errorf("a's entries were not kept: %v", err)
		}
	})
	run("the other's entries do not say whose they are",
		func(t *testing.T, h *human, cache *MemoryCache) {
			a, b := at(Issuer("https://idp.test/a")), at(Issuer("https://idp.test/b"))
			signedIn(t, interactive(t, h, cache, a))
			edit(t, cache, removeIssuers)
			signedIn(t, interactive(t, h, cache, b))
			time.Sleep(2 * time.Hour)
			_, err := interactive(t, h, cache, b).Token(WithoutInteraction(t.Context()))
			if err != nil {
				t.Errorf("b's refresh, judged by a's ID token: %v", err)
			}
		})
	run("no entry says whose it is", func(t *testing.T, h *human, cache *MemoryCache) {
		a, b := at(Issuer("https://idp.test/a"), "x"), at(Issuer("https://idp.test/b"), "y")
		signedIn(t, interactive(t, h, cache, a))
		signedIn(t, interactive(t, h, cache, b))
		edit(t, cache, removeIssuers)
		time.Sleep(2 * time.Hour)
		sent := h.idp.Tokens()
		for name, realm := range map[string]func(*InteractiveConfig){"a": a, "b": b} {
			_, err := interactive(t, h, cache, realm).Token(WithoutInteraction(t.Context()))
			if !errors.Is(err, ErrSignInRequired) || h.idp.Tokens() != sent {
				t.Errorf("%s: %v; %d requests with a refresh token that may be the other's", name, err,
					h.idp.Tokens()-sent)
			}
		}
	})
}

// TestTokenWithoutAccountServesWhereThereIsNoAccount: a token in the cache may name no
// account. It serves only while the cache has no account of this client: beside one, nobody
// knows whose token it is.
func TestTokenWithoutAccountServesWhereThereIsNoAccount(t *testing.T) {
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

// TestEntriesOfAnotherRealmAreKept: several programs share one file. Signing in and out at
// one realm leaves the entries of another realm as they are.
func TestEntriesOfAnotherRealmAreKept(t *testing.T) {
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

// A guest signs in under an address of their own, by which LoginHint means them. The
// tenant gives them another user name.
const (
	guest      = "ada_contoso.com#EXT#@tenant.example"
	guestAlias = "Ada@contoso.com"
)

// userFlowWithHint returns a provider of the desk's flow with a LoginHint. A provider of
// the device code flow writes to the desk what it would write to the terminal.
func (d *desk) userFlowWithHint(t *testing.T, c Cache, hint string) interface {
	Provider
	SignOut(context.Context) error
} {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(&d.log, nil))
	if d.flow == "device" {
		p, _ := device(t, d.idp, c, func(cfg *DeviceCodeConfig) {
			cfg.LoginHint, cfg.Logger = hint, logger
		})
		p.flow().cfg.output = d.human
		return p
	}
	return interactive(t, d.human, c, func(cfg *InteractiveConfig) {
		cfg.LoginHint, cfg.Logger = hint, logger
	})
}

// eachUserFlow runs f for both flows of a person, on simulated time.
func eachUserFlow(t *testing.T, f func(t *testing.T, d *desk)) {
	t.Helper()
	for _, flow := range userFlows {
		t.Run(flow, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, newDesk(flow)) })
		})
	}
}

// forgetTokens removes the tokens from a cache, so that a person has to be asked, and
// leaves the accounts.
func forgetTokens(t *testing.T, cache Cache) {
	t.Helper()
	edit(t, cache, func(c msalCache) {
		delete(c, accessTokens)
		delete(c, refreshTokens)
	})
}

// TestLoginHintMeansWhoSignedInUnderIt: LoginHint may be a guest's address or an alias, and
// so differ from the user name. It means the person who has signed in under it. Otherwise
// each start would ask that person again.
func TestLoginHintMeansWhoSignedInUnderIt(t *testing.T) {
	eachUserFlow(t, func(t *testing.T, d *desk) {
		var cache MemoryCache
		d.who = guest
		start := func(hint string, asked int32) {
			t.Helper()
			tok := signedIn(t, d.userFlowWithHint(t, &cache, hint))
			if n := d.asked.Load(); tok.Username() != guest || n != asked {
				t.Errorf("%s: %q, asked %d times, want %q after %d", hint, tok.Username(), n, guest, asked)
			}
		}
		start(guestAlias, 1)
		start(strings.ToUpper(guestAlias), 1)
		start(guest, 1)
		time.Sleep(2 * time.Hour) // then the refresh token serves
		start(guestAlias, 1)
		start("another alias", 2)
		start(guestAlias, 2)
		start("another alias", 2)
		// Somebody else signs in under it, and it means that person from then on.
		d.who = "eve"
		if err := d.userFlowWithHint(t, &cache, "another alias").SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
		if tok := signedIn(t, d.userFlowWithHint(t, &cache, "another alias")); tok.Username() != "eve" {
			t.Errorf("%q signed in", tok.Username())
		}
	})
}

// TestLoginHintMeansWhoSignedInLast: when somebody else signs in under a hint, it no longer
// means the first person. Otherwise it would mean two people, and each start would ask. The
// cache does not keep a user name as a hint, since the account has it already.
func TestLoginHintMeansWhoSignedInLast(t *testing.T) {
	eachUserFlow(t, func(t *testing.T, d *desk) {
		var cache MemoryCache
		signIn := func(hint, who string) {
			t.Helper()
			forgetTokens(t, &cache)
			d.who = who
			if tok := signedIn(t, d.userFlowWithHint(t, &cache, hint)); tok.Username() != who {
				t.Errorf("%q signed in under %q, want %q", tok.Username(), hint, who)
			}
		}
		signIn("the crane's tablet", "bob")
		signIn("the crane's tablet", "eve")
		signIn("BOB", "bob")
		hints := map[string]int{}
		for _, e := range read(t, &cache).find(accounts, func(entry) bool { return true }) {
			hints[e.text("username")] = len(e.list(fieldHints))
		}
		if want := map[string]int{"bob": 0, "eve": 1}; !maps.Equal(hints, want) {
			t.Errorf("hints: %v, want %v", hints, want)
		}
	})
}

// TestUserNameGoesBeforeAnEarlierLoginHint: ada has once signed in under bob's user name as
// a hint. That name still means bob, and after bob has signed out it means nobody.
func TestUserNameGoesBeforeAnEarlierLoginHint(t *testing.T) {
	eachUserFlow(t, func(t *testing.T, d *desk) {
		var cache MemoryCache
		d.who = "bob"
		signedIn(t, d.userFlowWithHint(t, &cache, "bob"))
		forgetTokens(t, &cache)
		d.who = ada
		if tok := signedIn(t, d.userFlowWithHint(t, &cache, "bob")); tok.Username() != ada {
			t.Fatalf("%q signed in", tok.Username())
		}
		if err := d.userFlowWithHint(t, &cache, "bob").SignOut(t.Context()); err != nil {
			t.Error(err)
		}
		asBob := d.userFlowWithHint(t, &cache, "bob")
		if _, err := asBob.Token(WithoutInteraction(t.Context())); !errors.Is(err, ErrSignInRequired) {
			t.Errorf("after bob has signed out, his name means somebody else: %v", err)
		}
		d.who = "bob"
		signedIn(t, d.userFlowWithHint(t, &cache, "bob"))
		if tok := signedIn(t, d.userFlowWithHint(t, &cache, ada)); tok.Username() != ada {
			t.Errorf("%q is meant by ada's name", tok.Username())
		}
	})
}

// TestPersonIsToldWhoIsSignedIn: after a flow has asked a person to sign in, it says who is
// signed in, in the place where it said what to do. If that is not the person whom LoginHint
// names, the flow says so there and in the log. That is no error, since the hint may be an
// alias.
func TestPersonIsToldWhoIsSignedIn(t *testing.T) {
	for _, tt := range []struct {
		hint, who string
		said      string // on the terminal
		other     bool   // somebody else was meant
	}{
		{"", "ada", "You are signed in as ada.", false},
		{"ADA", "ada", "You are signed in as ada.", false},
		{"bob", "ada", "This program was set up for bob (LoginHint). It goes on as ada.", true},
		{"bob", "ada\x1b[2J", "You are signed in as ada[2J.", true},
	} {
		eachUserFlow(t, func(t *testing.T, d *desk) {
			d.who = tt.who
			var cache MemoryCache
			p := d.userFlowWithHint(t, &cache, tt.hint)
			signedIn(t, p)
			if told := d.told(); !strings.Contains(told, tt.said) ||
				strings.Contains(told, "set up for") != tt.other {
				t.Errorf("%q, %q: told %q, want %q", tt.hint, tt.who, told, tt.said)
			}
			if log := d.log.String(); strings.Contains(log, "LoginHint is") != tt.other {
				t.Errorf("%q, %q: the log: %s", tt.hint, tt.who, log)
			}
			// The cache now has this person under that hint, so that the flow does not
			// mention the hint again. It says nothing when it refreshes a token.
			synctest.Wait() // what was said is written
			before := d.told()
			until(signedIn(t, p), -time.Second)
			signedIn(t, p)
			if d.told() != before {
				t.Errorf("a refresh says: %q", strings.TrimPrefix(d.told(), before))
			}
			forgetTokens(t, &cache)
			signedIn(t, d.userFlowWithHint(t, &cache, tt.hint))
			if after := strings.TrimPrefix(d.told(), before); strings.Contains(after, "set up for") ||
				d.asked.Load() != 2 {
				t.Errorf("the next sign-in says: %q", after)
			}
		})
	}
	t.Run("whose name is not known", func(t *testing.T) {
		eachUserFlow(t, func(t *testing.T, d *desk) {
			// Without openid there is no ID token.
			d.idp.Metadata(func(m map[string]any) { m["scopes_supported"] = []string{"offline_access"} })
			signedIn(t, d.userFlowWithHint(t, &MemoryCache{}, "bob"))
			if told := d.told(); !strings.Contains(told, "You are signed in.\n") ||
				strings.Contains(told, "set up for") {
				t.Errorf("told %q", told)
			}
		})
	})
	t.Run("a program with ShowCode", func(t *testing.T) { // writes to the terminal what it likes
		synctest.Test(t, func(t *testing.T) {
			p, _ := device(t, idptest.New(), &MemoryCache{}, nil)
			if p.flow().cfg.output.(*patientWriter).output != io.Discard {
				t.Error("something is written to the terminal")
			}
		})
	})
}

// TestOutputThatBlocksHardlyDelaysASignIn: a terminal can stop taking output, after Ctrl-S
// for example. That delays a sign-in by no more than writePatience.
func TestOutputThatBlocksHardlyDelaysASignIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := device(t, idptest.New(), &MemoryCache{}, nil)
		r, w := io.Pipe()
		defer r.Close()
		p.flow().cfg.output = &patientWriter{output: w}
		if d := elapse(func() { signedIn(t, p) }); d > 5*time.Second+writePatience {
			t.Errorf("signed in after %v", d)
		}
	})
}

// TestSeveralAccountsWantALoginHint: if the cache has several accounts and nobody may be
// asked, the error says that there are several and that LoginHint selects one. Otherwise
// the caller would learn at each start only that a sign-in is required. A person who may be
// asked is told the same.
func TestSeveralAccountsWantALoginHint(t *testing.T) {
	eachUserFlow(t, func(t *testing.T, d *desk) {
		cache := sample(t, d.human, "bob", "eve")
		asked := d.asked.Load()
		wanted := func(err error, who string) {
			t.Helper()
			if !errors.Is(err, ErrSignInRequired) || !strings.Contains(err.Error(), "several accounts") ||
				!strings.Contains(err.Error(), "LoginHint") {
				t.Errorf("%s: %v", who, err)
			}
		}
		_, err := d.userFlowWithHint(t, cache, "").Token(WithoutInteraction(t.Context()))
		wanted(err, "who may not ask")
		p := d.userFlowWithHint(t, cache, "")
		d.idp.Person = func(url.Values) (string, bool) { time.Sleep(time.Minute); return ada, true }
		var wg sync.WaitGroup
		wg.Go(func() {
			if tok := d.waitFor(t, p); tok.Username() != ada {
				t.Errorf("%q signed in", tok.Username())
			}
		})
		time.Sleep(time.Second)
		_, err = p.Token(WithoutInteraction(t.Context()))
		wanted(err, "who comes while a person is asked")
		wg.Wait()
		if told := d.told(); !strings.Contains(told, "Several accounts are signed in") ||
			!strings.Contains(told, "LoginHint") {
			t.Errorf("told %q", told)
		}
		_, err = d.userFlowWithHint(t, cache, "eve").Token(WithoutInteraction(t.Context()))
		if err != nil || d.asked.Load() > asked+1 {
			t.Errorf("with a hint: %v", err)
		}
	})
}
