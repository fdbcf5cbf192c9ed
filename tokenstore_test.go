package cdfauth

import (
	"bytes"
	"context"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cdfauth/internal/idptest"

	"github.com/google/go-cmp/cmp"
)

// TestTokenOfAnApplicationIsShared: An application that is started again takes the
// token that it stored before, in MSAL's format and with three fields of our own.
func TestTokenOfAnApplicationIsShared(t *testing.T) {
	idp := idptest.New()
	cache, err := NewFileCache(filepath.Join(t.TempDir(), "dir", "cache.bin"))
	if err != nil {
		t.Fatal(err)
	}
	first := mustToken(t, cachedProvider(t, idp, cache, nil))
	second := mustToken(t, cachedProvider(t, idp, cache, nil)) // as if started anew
	wantRequests(t, idp, 1)
	if second.AccessToken() != first.AccessToken() ||
		second.Expiry().Unix() != first.Expiry().Unix() || second.Scope() != "a b" {
		t.Errorf("%v, %v, scope %q", second.Equal(first),
			second.Expiry().Sub(first.Expiry()), second.Scope())
	}
	// What MSAL for Python would have written, and three fields more.
	blob, err := cache.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]map[string]map[string]any
	if err := json.Unmarshal(blob, &got); err != nil {
		t.Fatal(err)
	}
	at := unix(first.Expiry().Add(-time.Hour))
	want := map[string]map[string]map[string]any{
		"AccessToken": {"-idp.test-accesstoken-client-token-a b": {
			"credential_type": "AccessToken", "secret": first.AccessToken(), "home_account_id": nil,
			"environment": "idp.test", "client_id": "client", "target": "a b",
			"realm": "token", "token_type": "Bearer", "cached_at": at, "expires_on": unix(first.Expiry()),
			"extended_expires_on": unix(first.Expiry()),
			"issuer":              "https://idp.test/token", "grant": "client_credentials",
			"granted": "a b"}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestCachedTokenServesOnlyWhatItWasIssuedFor: Keys that are too narrow hand one
// client, tenant or audience the token of another (int128/kubelogin#404, #1161,
// #1497).
func TestCachedTokenServesOnlyWhatItWasIssuedFor(t *testing.T) {
	idp := idptest.New()
	for name, change := range map[string]func(*ClientCredentialsConfig){
		"another realm": func(c *ClientCredentialsConfig) {
			c.Endpoint = TokenURL("https://idp.test/token/realms/b/token")
		},
		"another port": func(c *ClientCredentialsConfig) {
			c.Endpoint = TokenURL("https://idp.test:8443/token")
		},
		"another host": func(c *ClientCredentialsConfig) {
			c.Endpoint = TokenURL("https://idp2.test/token")
		},
		"another kind": func(c *ClientCredentialsConfig) {
			c.Endpoint = Authority("https://idp.test/token")
		},
		"another client": func(c *ClientCredentialsConfig) { c.ClientID = "client2" },
		"another scope":  func(c *ClientCredentialsConfig) { c.Scopes = []string{"a", "c"} },
		"fewer scopes":   func(c *ClientCredentialsConfig) { c.Scopes = []string{"a"} },
		"no scope":       func(c *ClientCredentialsConfig) { c.Scopes = nil },
		"another audience": func(c *ClientCredentialsConfig) {
			c.Params = url.Values{"audience": {"x"}}
		},
		"audience, another": func(c *ClientCredentialsConfig) {
			c.Params = url.Values{"audience": {"y"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			idp.Clients["client2"] = "s3cret/of+the client"
			cache := &MemoryCache{}
			mine := mustToken(t, cachedProvider(t, idp, cache, nil))
			if name == "audience, another" {
				mine = mustToken(t, cachedProvider(t, idp, cache, func(c *ClientCredentialsConfig) {
					c.Params = url.Values{"audience": {"x"}}
				}))
			}
			theirs := mustToken(t, cachedProvider(t, idp, cache, change))
			if theirs.AccessToken() == mine.AccessToken() {
				t.Error("the token was taken for another's")
			}
			n := idp.Tokens()
			again := mustToken(t, cachedProvider(t, idp, cache, change))
			if again.AccessToken() != theirs.AccessToken() || idp.Tokens() != n {
				t.Error("the second one's own was not found")
			}
		})
	}
	// The order of scopes is nobody's business, nor is one that is there twice.
	cache := &MemoryCache{}
	a := mustToken(t, cachedProvider(t, idp, cache, nil))
	if b := mustToken(t,
		cachedProvider(t, idp, cache,
			func(c *ClientCredentialsConfig) {
				c.Scopes = []string{"b", "a", "b"}
			})); b.AccessToken() != a.AccessToken() {
		t.Error("b a is not a b")
	}
	// A person's token, by MSAL, is not an application's; nor is one without our marks.
	samples, _ := filepath.Glob("testdata/msal-cache/*.bin")
	if len(samples) == 0 {
		t.Fatal("no samples")
	}
	for _, path := range samples {
		blob, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseMSALCache(blob)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, key := range keysOf(c, accessTokens) {
			e := entryOf(c, accessTokens, key)
			cache := &MemoryCache{}
			e["expires_on"], e["cached_at"] = unix(time.Now().Add(time.Hour)), unix(time.Now())
			blob, _ := c.blob()
			cache.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return blob, nil })
			tok := mustToken(t, cachedProvider(t, idp, cache, func(cfg *ClientCredentialsConfig) {
				idp.Clients[e.text("client_id")] = "s3cret/of+the client"
				cfg.ClientID, cfg.Scopes = e.text("client_id"), strings.Fields(e.text("target"))
				cfg.Endpoint = Authority("https://" + e.text("environment") + "/" + e.text("realm"))
			}))
			if tok.AccessToken() == e.text("secret") {
				t.Errorf("%s: a person's token was taken for an application's", path)
			}
		}
	}
}

// TestUnusableEntriesAreIgnored: Whoever can write the cache could otherwise put a
// line break into a header, or have a token sent that expired long ago.
func TestUnusableEntriesAreIgnored(t *testing.T) {
	idp := idptest.New()
	for name, change := range map[string]func(entry){
		"expired": func(e entry) { e["expires_on"] = unix(time.Now().Add(-time.Second)) },
		"in the leeway": func(e entry) {
			e["expires_on"], e["cached_at"] = unix(time.Now().Add(10*time.Second)),
				unix(time.Now().Add(-time.Hour))
		},
		"refresh_on passed": func(e entry) {
			e["refresh_on"], e["cached_at"] = unix(time.Now().Add(-time.Second)),
				unix(time.Now().Add(-time.Minute))
		},
		"no expiry":         func(e entry) { delete(e, "expires_on") },
		"expiry is words":   func(e entry) { e["expires_on"] = "tomorrow" },
		"no cached_at":      func(e entry) { delete(e, "cached_at") },
		"header injection":  func(e entry) { e["secret"] = "x\r\nHost: evil" },
		"no token":          func(e entry) { e["secret"] = "" },
		"token is a number": func(e entry) { e["secret"] = map[string]any{} },
		"no grant":          func(e entry) { delete(e, fieldGrant) },
		"another grant":     func(e entry) { e[fieldGrant] = "password" },
		"no issuer":         func(e entry) { delete(e, fieldIssuer) },
		"an account":        func(e entry) { e["home_account_id"] = "u.t" },
	} {
		cache := &MemoryCache{}
		first := mustToken(t, cachedProvider(t, idp, cache, nil))
		err := cache.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
			c, err := parseMSALCache(old)
			if err != nil {
				return nil, err
			}
			for _, key := range keysOf(c, accessTokens) {
				change(entryOf(c, accessTokens, key))
			}
			return c.blob()
		})
		if err != nil {
			t.Fatal(err)
		}
		if tok := mustToken(t,
			cachedProvider(t, idp, cache, nil)); tok.AccessToken() == first.AccessToken() ||
			!strings.HasPrefix(tok.AccessToken(), "tok-") {
			t.Errorf("%s: the token was taken", name)
		}
	}
}

// TestExpiredOnArrivalIsNotStored: Other programs would read it for nothing. When
// the server would like a refresh (refresh_in) is stored with a token.
func TestExpiredOnArrivalIsNotStored(t *testing.T) {
	idp, cache := idptest.New(), &MemoryCache{}
	idp.Fault(idptest.Body(`{"access_token":"dead","expires_in":0}`),
		idptest.Body(`{"access_token":"soft","expires_in":3600,"refresh_in":600}`))
	mustToken(t, cachedProvider(t, idp, cache, nil))
	if blob, _ := cache.Get(t.Context()); bytes.Contains(blob, []byte("dead")) {
		t.Errorf("stored %s", blob)
	}
	mustToken(t, cachedProvider(t, idp, cache, nil))
	blob, _ := cache.Get(t.Context())
	c, err := parseMSALCache(blob)
	if err != nil {
		t.Fatal(err)
	}
	e := entryOf(c, accessTokens, "-idp.test-accesstoken-client-token-a b")
	if got := e.time("refresh_on").Sub(e.time("cached_at")); got != 10*time.Minute {
		t.Errorf("refresh_on is %v after cached_at", got)
	}
}

// TestRefusedTokenIsNotTakenFromTheCache: Invalidate would otherwise get the
// refused token back from the file.
func TestRefusedTokenIsNotTakenFromTheCache(t *testing.T) {
	idp := idptest.New()
	cache := &MemoryCache{}
	p, sibling := cachedProvider(t, idp, cache, nil), cachedProvider(t, idp, cache, nil)
	first := mustToken(t, p)
	if mustToken(t, sibling).AccessToken() != first.AccessToken() {
		t.Fatal("not shared")
	}
	p.Invalidate(first)
	second := mustToken(t, p)
	if second.AccessToken() == first.AccessToken() {
		t.Error("the refused token came back from the cache")
	}
	sibling.Invalidate(first) // takes what p got
	if tok := mustToken(t, sibling); tok.AccessToken() != second.AccessToken() {
		t.Error("a sibling's newer token was not taken")
	}
	wantRequests(t, idp, 2)
}

// TestEmptyFileIsToldFromNone: a provider reads an empty file again, for an old Python
// SDK may be about to write it. It must not wait for a file that is not there.
func TestEmptyFileIsToldFromNone(t *testing.T) {
	c := fileCache(t)
	for _, empty := range []bool{false, true} {
		if empty {
			put(t, c, "content")
			must(t, os.Truncate(c.path, 0))
		}
		blob, err := c.Get(t.Context())
		if err != nil || isTruncated(blob) != empty {
			t.Errorf("an empty file is there: %t, and Get returns %#v, %v", empty, blob, err)
		}
		must(t, c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
			if isTruncated(old) != empty {
				t.Errorf("an empty file is there: %t, and f gets %#v", empty, old)
			}
			return old, nil
		}))
	}
}
