//go:build go1.24

package cdfauth

import "time"

// This file is a token in memory, with the moments that decide what becomes of it: until
// when it is handed out as it is, from when on callers wait for a new one, and when it is
// dead. They are worked out once, when the token arrives.

// A cachedToken is a token with the moments at which its treatment changes. It is never
// changed: the refresher replaces it by another one.
type cachedToken struct {
	token   Token
	refused bool   // Invalidate was called for the token
	fresh   moment // until then the token is handed out and not refreshed; zero if refused
	urgent  moment // from then on callers wait for the refresh
	dead    moment // from then on the token is not handed out
}

// newCachedToken works out when a token is to be refreshed: leeway before it expires,
// but not before half of its life is over. Otherwise a token that lives shorter than the
// leeway would be stale on arrival. The server may ask for an earlier refresh
// (refresh_in), but no sooner than leeway after the token was asked for. If the token
// has no lifetime, or a negative one, it is never valid.
func newCachedToken(g grant, leeway time.Duration, now moment) *cachedToken {
	life := min(g.token.Expiry().Sub(g.sent), maxLife)
	if life <= 0 {
		return &cachedToken{token: g.token}
	}
	leeway = min(leeway, life/2)
	untilRefresh := life - leeway
	if !g.refresh.IsZero() {
		asked := max(g.refresh.Sub(g.sent), leeway)
		untilRefresh = min(untilRefresh, asked)
	}
	// This is when the token was asked for. If only the wall clock tells that, the
	// monotonic reading is worked out from how long ago it was.
	sent := moment{wall: g.sent.UnixNano(), monotonic: g.monotonic}
	if g.monotonic == 0 {
		sent.monotonic = now.monotonic - time.Duration(now.wall-sent.wall)
	}
	dead := sent.add(life)
	return &cachedToken{
		token:  g.token,
		fresh:  sent.add(untilRefresh),
		urgent: dead.add(-leeway / 3),
		dead:   dead,
	}
}

// valid reports whether c is not nil and its token may be handed out.
func (c *cachedToken) valid(now moment) bool {
	return c != nil && now.before(c.dead)
}
