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

// TestPersonIsToldOnceThatTheCacheIsLocked: a person who waits for another program's
// sign-in is told after five seconds why nothing happens, and is not told again.
func TestPersonIsToldOnceThatTheCacheIsLocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk("interactive"), &MemoryCache{}
		put(t, cache, `{"Theirs":{}}`) // nobody is signed in
		leave := make(chan bool)
		go cache.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
			<-leave
			return old, nil
		})
		synctest.Wait()
		done := make(chan error)
		p := d.start(t, cache)
		go func() { _, err := p.Token(t.Context()); done <- err }()
		told := func() int { return strings.Count(d.told(), "Another program") }
		time.Sleep(siblingPatience - time.Millisecond)
		if n := told(); n != 0 {
			t.Errorf("told %d times before five seconds", n)
		}
		time.Sleep(2 * time.Millisecond)
		if n := told(); n != 1 {
			t.Errorf("told %d times after five seconds", n)
		}
		time.Sleep(time.Minute)
		if n := told(); n != 1 {
			t.Errorf("told %d times after a minute", n)
		}
		close(leave)
		must(t, <-done)
	})
}

// TestTokenOfAnotherProgramIsSeenWithinASecond: another program may store a token and still
// keep the cache locked. A caller who waits gets that token within a second. With a Prompt
// the token does not count, since the person has to be asked.
func TestTokenOfAnotherProgramIsSeenWithinASecond(t *testing.T) {
	for _, prompt := range []string{"", "login"} {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			blob, err := sample(t, h, "bob").Get(t.Context())
			must(t, err)
			cache := &heldCache{leave: make(chan bool)}
			p := interactive(t, h, cache, func(c *InteractiveConfig) { c.Prompt = prompt })
			var took time.Duration
			done := make(chan error)
			start := time.Now()
			go func() {
				_, err := p.Token(t.Context())
				took = time.Since(start)
				done <- err
			}()
			time.Sleep(20 * time.Second)
			put(t, &cache.MemoryCache, string(blob))
			time.Sleep(10 * time.Second)
			close(cache.leave)
			must(t, <-done)
			if prompt == "" && (h.asked() != 0 || took > 20*time.Second+siblingInterval) {
				t.Errorf("asked %d times, after %v", h.asked(), took)
			}
			if prompt != "" && (h.asked() != 1 || took < 30*time.Second) {
				t.Errorf("with Prompt: asked %d times, after %v", h.asked(), took)
			}
		})
	}
}

// heldCache is a cache that another program keeps locked until leave is closed, or for
// ever if it has none.
type heldCache struct {
	MemoryCache
	leave chan bool
}

func (c *heldCache) Update(ctx context.Context, f updateFunc) error {
	select {
	case <-c.leave:
		return c.MemoryCache.Update(ctx, f)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestOutageOfTheMetadataAsksNobody: at Entra, the silent phase needs no metadata, so that
// an outage shows itself only before the person would be asked. The provider then returns
// the error of the metadata, and asks nobody.
func TestOutageOfTheMetadataAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		down := tripper(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("no network")
		})
		p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) {
			c.Endpoint = Authority(tenantA)
			c.HTTPClient = &http.Client{Transport: down}
		})
		_, err := p.Token(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no network") || h.asked() != 0 {
			t.Errorf("%v; asked %d times", err, h.asked())
		}
	})
}

// TestOfflineAccessAsksForConsentExceptAtEntra: a provider that lists offline_access may
// issue a refresh token only with prompt=consent (OpenID Connect Core §11). Entra lists it
// too, and issues one without, so that a person need not consent at each sign-in.
func TestOfflineAccessAsksForConsentExceptAtEntra(t *testing.T) {
	for endpoint, want := range map[Endpoint]string{Authority(tenantA): "",
		Issuer("https://idp.test"): "consent"} {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			h.idp.Metadata(func(m map[string]any) {
				m["scopes_supported"] = []string{"openid", "offline_access"}
			})
			signedIn(t, interactive(t, h, &MemoryCache{}, at(endpoint)))
			if got := h.last().Get("prompt"); got != want {
				t.Errorf("%s: prompt=%q, want %q", endpoint.kind, got, want)
			}
		})
	}
}
