//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// Two tenants of one Entra, whose refresh tokens serve both.
const (
	tenantA = "https://idp.test/11111111-2222-3333-4444-555555555555"
	tenantB = "https://idp.test/99999999-8888-7777-6666-555555555555"
)

// TestRefusedRefreshTokenStays: what an answer to a refresh says of the refresh
// token. Where it may be good for another tenant or another scope, it stays in the
// cache, for them and for Python; MSAL stopped removing such, too. It is removed
// where the refusal can only mean that it is dead.
func TestRefusedRefreshTokenStays(t *testing.T) {
	refusal := func(status int, fields ...string) http.HandlerFunc {
		body := map[string]any{}
		for i := 0; i+1 < len(fields); i += 2 {
			body[fields[i]] = fields[i+1]
		}
		return idptest.JSON(status, body)
	}
	entra, issuer, adfs := Authority(tenantA), Issuer("https://idp.test"), Authority("https://idp.test/adfs")
	for name, tt := range map[string]struct {
		at    Endpoint
		says  http.HandlerFunc
		stays bool
		asks  bool // the person, rather than failing
	}{
		"MFA wanted":               {entra, refusal(400, "error", "invalid_grant", "suberror", "basic_action"), true, true},
		"consent wanted":           {entra, refusal(400, "error", "invalid_grant", "suberror", "consent_required"), true, true},
		"no suberror at Entra":     {entra, refusal(400, "error", "invalid_grant"), true, true},
		"dead at Entra":            {entra, refusal(400, "error", "invalid_grant", "suberror", "bad_token"), false, true},
		"Entra by its issuer":      {issuer, refusal(400, "error", "invalid_grant", "suberror", "basic_action"), true, true},
		"dead there":               {issuer, refusal(400, "error", "invalid_grant", "suberror", "bad_token"), false, true},
		"a provider of one realm":  {issuer, refusal(400, "error", "invalid_grant"), false, true},
		"AD FS":                    {adfs, refusal(400, "error", "invalid_grant"), false, true},
		"by the status alone":      {issuer, refusal(401), false, true},
		"in words of its own":      {issuer, refusal(400, "error", "token_revoked"), false, true},
		"interaction_required":     {issuer, refusal(400, "error", "interaction_required"), true, true},
		"a scope that is not":      {issuer, refusal(400, "error", "invalid_scope"), true, true},
		"another error of an RFC":  {issuer, refusal(400, "error", "invalid_client", "suberror", "bad_token"), true, false},
		"a gateway's page":         {issuer, idptest.Status(403), true, false},
		"a provider out of order":  {issuer, refusal(500, "error", "server_error"), true, false},
		"a provider that is empty": {issuer, refusal(503), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, cache := &human{idp: idptest.New()}, &MemoryCache{}
				if strings.HasSuffix(tt.at.url, "/adfs") {
					h.idp.Metadata(func(m map[string]any) { m["issuer"] = "https://idp.test/adfs/oauth2" })
				}
				signedIn(t, interactive(t, h, cache, at(tt.at)))
				time.Sleep(2 * time.Hour)
				h.idp.Always(tt.says)
				_, err := interactive(t, h, cache, at(tt.at)).Token(WithoutInteraction(t.Context()))
				if err == nil || errors.Is(err, ErrSignInRequired) != tt.asks {
					t.Errorf("%v", err)
				}
				if n := refreshTokensIn(t, cache); n == 1 != tt.stays {
					t.Errorf("%d refresh tokens are left", n)
				}
			})
		})
	}
}

// TestRefusalAtOneTenant: a refresh token that one tenant refuses is not redeemed
// there again, silently or by the phase that asks, before the person has been
// asked: that would be a refusal, and a second of waiting, for each call. The sign-in
// begins at once, however often callers were refused before. Another tenant's
// provider goes on with the token.
func TestRefusalAtOneTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		signedIn(t, interactive(t, h, cache, at(Authority(tenantA))))
		time.Sleep(2 * time.Hour)
		p := interactive(t, h, cache, at(Authority(tenantB)))
		before := h.idp.Tokens()
		h.idp.Always(idptest.JSON(400, map[string]any{"error": "invalid_grant", "suberror": "basic_action", "error_description": "MFA is wanted"}))
		_, err := p.Token(WithoutInteraction(t.Context()))
		var answered *OAuthError
		if !errors.Is(err, ErrSignInRequired) || !errors.As(err, &answered) || answered.Code != "invalid_grant" {
			t.Errorf("the first time: %v", err)
		}
		h.idp.Always(nil) // it would be taken now, but nobody knows
		for range 5 {
			_, err := p.Token(WithoutInteraction(t.Context()))
			if !errors.Is(err, ErrSignInRequired) || !strings.Contains(err.Error(), "MFA is wanted") {
				t.Errorf("then: %v", err)
			}
		}
		if n := h.idp.Tokens() - before; n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		var tok Token
		if d := elapse(func() { tok = signedIn(t, p) }); d > look || h.asked() != 2 || tok.Username() != ada {
			t.Errorf("%q signed in %v later, after being asked %d times", tok.Username(), d, h.asked())
		}
		if n := h.idp.Tokens() - before; n != 2 {
			t.Errorf("%d requests, want the refusal and the exchange of the code", n)
		}
		// From here on, all is as ever; and at the other tenant it always was.
		until(tok, -time.Second)
		signedIn(t, p)
		signedIn(t, interactive(t, h, cache, at(Authority(tenantA))))
		if h.asked() != 2 || h.idp.Refused() != 0 {
			t.Errorf("asked %d times, %d refused", h.asked(), h.idp.Refused())
		}
	})
}

// TestRefusedTokenGivesWayToANewOne: what another program has got
// meanwhile, with the second factor that was wanted, is redeemed.
func TestRefusedTokenGivesWayToANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		entra := at(Authority(tenantA))
		signedIn(t, interactive(t, h, cache, entra))
		time.Sleep(2 * time.Hour)
		h.idp.Fault(idptest.JSON(400, map[string]any{"error": "invalid_grant", "suberror": "basic_action"}))
		p := interactive(t, h, cache, entra)
		if _, err := p.Token(WithoutInteraction(t.Context())); !errors.Is(err, ErrSignInRequired) {
			t.Error(err)
		}
		signedIn(t, interactive(t, h, cache, entra)) // rotates it
		edit(t, cache, func(c msalCache) { delete(c, accessTokens) })
		if _, err := p.Token(WithoutInteraction(t.Context())); err != nil || h.asked() != 1 {
			t.Errorf("%v; asked %d times", err, h.asked())
		}
	})
}

// TestDeclinedSignInKeepsTheRefusal: who was asked and said no has changed nothing.
func TestDeclinedSignInKeepsTheRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		entra := at(Authority(tenantA))
		signedIn(t, interactive(t, h, cache, entra))
		time.Sleep(2 * time.Hour)
		before := h.idp.Tokens()
		h.idp.Fault(idptest.JSON(400, map[string]any{"error": "invalid_grant", "suberror": "basic_action"}))
		p := interactive(t, h, cache, entra)
		h.back = func(string) error { return nil } // the page is closed
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := p.Token(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		h.back = nil
		signedIn(t, p)
		if n := h.idp.Tokens() - before; n != 2 || h.asked() != 3 || refreshTokensIn(t, cache) != 1 {
			t.Errorf("%d requests, asked %d times", n, h.asked())
		}
	})
}

// TestSignInLiftsARefusal: when the person has signed in, the refresh token may be
// good for what it was refused for, and is redeemed again. A provider need not have
// issued another one.
func TestSignInLiftsARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		entra := at(Authority(tenantA))
		signedIn(t, interactive(t, h, cache, entra))
		time.Sleep(2 * time.Hour)
		h.idp.Fault(
			idptest.JSON(400, map[string]any{"error": "invalid_grant", "suberror": "basic_action"}),
			idptest.JSON(200, map[string]any{"access_token": "tok", "expires_in": 60,
				"client_info": base64URL(`{"uid":"sub-` + ada + `","utid":"tenant"}`)}),
		)
		p := interactive(t, h, cache, entra)
		tok := signedIn(t, p)
		until(tok, -time.Second)
		if _, err := p.Token(WithoutInteraction(t.Context())); err != nil || h.asked() != 2 {
			t.Errorf("%v; asked %d times", err, h.asked())
		}
	})
}
