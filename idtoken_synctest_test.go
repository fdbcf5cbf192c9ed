//go:build go1.25

package cdfauth

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestIDTokenIsCheckedBeforeAnythingIsKept: An ID token of another issuer or
// client, one that has expired, and one that answers another request would sign
// in somebody else (OpenID Connect Core §3.1.3.7). The provider refuses each of
// them, and keeps nothing of the response.
func TestIDTokenIsCheckedBeforeAnythingIsKept(t *testing.T) {
	now := func() int64 { return time.Now().Unix() }
	for name, tt := range map[string]struct {
		claims func(good map[string]any)
		raw    string
		err    string
	}{
		"good":          {claims: func(c map[string]any) {}},
		"a list of one": {claims: func(c map[string]any) { c["aud"] = []string{"app"} }},
		"azp": {claims: func(c map[string]any) {
			c["aud"] = []string{"app", "b"}
			c["azp"] = "app"
		}},
		"expired within skew": {claims: func(c map[string]any) { c["exp"] = now() - 290 }},
		"issuer": {claims: func(c map[string]any) { c["iss"] = "https://evil.test" },
			err: `issuer "https://evil.test"`},
		"no issuer": {claims: func(c map[string]any) { delete(c, "iss") }, err: `issuer ""`},
		"slash": {claims: func(c map[string]any) { c["iss"] = "https://idp.test/" },
			err: "issuer"},
		"audience": {claims: func(c map[string]any) { c["aud"] = "b" },
			err: "another client"},
		"audience of no kind": {claims: func(c map[string]any) { c["aud"] = 1 }, err: "another client"},
		"no audience": {claims: func(c map[string]any) { delete(c, "aud") },
			err: "another client"},
		"two audiences, no azp": {claims: func(c map[string]any) { c["aud"] = []string{"app", "b"} },
			err: "azp"},
		"another azp":  {claims: func(c map[string]any) { c["azp"] = "b" }, err: "azp"},
		"expired":      {claims: func(c map[string]any) { c["exp"] = now() - 310 }, err: "expired"},
		"just expired": {claims: func(c map[string]any) { c["exp"] = now() - 300 }, err: "expired"},
		"no expiry":    {claims: func(c map[string]any) { delete(c, "exp") }, err: "expired"},
		"nonce":        {claims: func(c map[string]any) { c["nonce"] = "x" }, err: "nonce"},
		"no nonce":     {claims: func(c map[string]any) { delete(c, "nonce") }, err: "nonce"},
		"no subject":   {claims: func(c map[string]any) { delete(c, "sub") }, err: "not an ID token"},
		"garbage":      {raw: "x.y.z", err: "not an ID token"},
		"two parts":    {raw: "x.e30", err: "not an ID token"},
		"four parts":   {raw: "x.e30.y.z", err: "not an ID token"},
	} {
		runInBubble(t, name, func(t *testing.T) {
			h, cache := &human{idp: idptest.New()}, &MemoryCache{}
			h.idp.Fault(func(w http.ResponseWriter, r *http.Request) {
				raw := tt.raw
				if raw == "" {
					good := map[string]any{"iss": "https://idp.test", "sub": "s", "aud": "app", "exp": now() + 60,
						"nonce": h.last().Get("nonce"), "preferred_username": "a"}
					tt.claims(good)
					raw = idptest.IDToken(good)
				}
				idptest.JSON(200,
					map[string]any{"access_token": "tok", "refresh_token": "ref", "id_token": raw})(w, r)
			})
			_, err := interactive(t, h, cache, nil).Token(t.Context())
			blob, _ := cache.Get(t.Context())
			if tt.err == "" && (err != nil || len(blob) == 0) ||
				tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || len(blob) > 0) {
				t.Errorf("%v, want %q; stored: %s", err, tt.err, blob)
			}
		})
	}
}

// TestIDTokenOfARefreshKeepsIssuerAndSubject: A refresh continues a sign-in, so
// its ID token has to have the issuer and the subject of the first one. It
// needs no nonce (OpenID Connect Core §12.2).
func TestIDTokenOfARefreshKeepsIssuerAndSubject(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(map[string]any)
		err    string
	}{
		"good": {change: func(map[string]any) {}},
		"issuer": {change: func(c map[string]any) { c["iss"] = "https://idp.test/other" },
			err: "is of issuer"},
		"subject": {change: func(c map[string]any) { c["sub"] = "sub-eve" }, err: "another user's"},
		"expired": {change: func(c map[string]any) { c["exp"] = 1 }, err: "expired"},
	} {
		runInBubble(t, name, func(t *testing.T) {
			h, cache := expiredSignIn(t, "bob")
			claims := map[string]any{"iss": "https://idp.test", "sub": "sub-bob", "aud": "app",
				"exp": time.Now().Unix() + 60}
			tt.change(claims)
			h.idp.Fault(idptest.JSON(200,
				map[string]any{"access_token": "new", "refresh_token": "new",
					"id_token": idptest.IDToken(claims)}))
			_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
			if tt.err == "" && err != nil ||
				tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("%v, want %q", err, tt.err)
			}
		})
	}
}

// TestIssuerTemplateStandsForOneTenant: Entra's metadata for several tenants
// has {tenantid} in its issuer. The placeholder stands for exactly one segment
// of a path, and the tid claim of the ID token fills it in. Anything more would
// let another issuer through.
func TestIssuerTemplateStandsForOneTenant(t *testing.T) {
	m := &metadata{Issuer: "https://login.test/{tenantid}/v2.0"}
	for iss, want := range map[string]bool{"https://login.test/abc-1/v2.0": true,
		"https://login.test//v2.0": false, "https://login.test/a/b/v2.0": false,
		"https://login.test/a/v2.0/": false, "https://evil.test/a/v2.0": false,
		"https://login.test/v2.0": false} {
		if m.names(iss) != want {
			t.Errorf("%s: %v", iss, !want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.idp.Metadata(func(m map[string]any) { m["issuer"] = "https://idp.test/{tenantid}/v2.0" })
		for tid, ok := range map[string]bool{"abc": true, "": false} {
			h.idp.Fault(func(w http.ResponseWriter, r *http.Request) {
				idptest.JSON(200,
					map[string]any{"access_token": "tok",
						"id_token": idptest.IDToken(map[string]any{"iss": "https://idp.test/abc/v2.0", "sub": "s",
							"tid": tid, "aud": "app", "exp": time.Now().Unix() + 60,
							"nonce": h.last().Get("nonce")})})(w, r)
			})
			h.back = func(location string) error {
				return h.visit(strings.Replace(location, url.QueryEscape("https://idp.test/common/v2.0"),
					url.QueryEscape("https://idp.test/abc/v2.0"), 1))
			}
			_, err := interactive(t, h, &MemoryCache{},
				func(c *InteractiveConfig) {
					c.Endpoint = Authority("https://idp.test/common")
				}).Token(t.Context())
			if (err == nil) != ok {
				t.Errorf("tid %q: %v", tid, err)
			}
		}
	})
}

// TestEmptyIssuerOfAnAnswerIsRefused: This provider does not promise to send
// iss. If iss comes all the same, it has to be the right one (RFC 9207 §2.4),
// and an empty one is not.
func TestEmptyIssuerOfAnAnswerIsRefused(t *testing.T) {
	v := newCallback(&url.URL{}, &metadata{Issuer: "https://idp.test"})
	if v.accept(url.Values{"state": {v.state}, "iss": {""}, "code": {"x"}}); v.err == nil {
		t.Error("an empty iss was taken for none")
	}
}

// TestRefusedIDTokenIsNotStored: The provider checks the ID token of a refresh
// before it writes to the cache. Otherwise the tokens of another user would
// replace those of the person.
func TestRefusedIDTokenIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := expiredSignIn(t, "bob")
		before, _ := cache.Get(t.Context())
		h.idp.Fault(idptest.JSON(200, map[string]any{"access_token": "evil", "refresh_token": "evil",
			"id_token": idptest.IDToken(map[string]any{"iss": "https://idp.test", "sub": "sub-eve",
				"aud": "app", "exp": time.Now().Unix() + 60})}))
		_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
		if after, _ := cache.Get(t.Context()); err == nil || string(after) != string(before) {
			t.Errorf("%v; %s became %s", err, before, after)
		}
	})
}
