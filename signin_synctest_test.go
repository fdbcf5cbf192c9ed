//go:build go1.25 && (darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// refreshTokensIn says how many a cache has.
func refreshTokensIn(t *testing.T, cache Cache) int {
	t.Helper()
	return len(keysOf(read(t, cache), refreshTokens))
}

// TestLeavingKeepsTheCache: that a caller did not wait for a person is not the cache's fault. The next sign-in is stored as any.
func TestLeavingKeepsTheCache(t *testing.T) {
	t.Run("device code", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			idp, cache := idptest.New(), &MemoryCache{}
			done := false
			idp.Codes = func(string) (string, bool) { return "ada", done }
			p, _ := device(t, idp, cache, nil)
			ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
			defer cancel()
			if _, err := p.Token(ctx); err != context.DeadlineExceeded {
				t.Error(err)
			}
			synctest.Wait()
			done = true
			signedIn(t, p)
			if n := refreshTokensIn(t, cache); n != 1 {
				t.Errorf("%d refresh tokens are stored", n)
			}
		})
	})
	t.Run("interactive", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, cache := &human{idp: idptest.New()}, &MemoryCache{}
			h.back = func(string) error { return nil } // the page was closed
			p := interactive(t, h, cache, nil)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := p.Token(ctx); err != context.DeadlineExceeded {
				t.Error(err)
			}
			synctest.Wait()
			h.back = nil
			signedIn(t, p)
			if n := refreshTokensIn(t, cache); n != 1 {
				t.Errorf("%d refresh tokens are stored", n)
			}
		})
	})
	t.Run("nobody signs in for 15 minutes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, cache := &human{idp: idptest.New()}, &MemoryCache{}
			h.back = func(string) error { return nil }
			p := interactive(t, h, cache, nil)
			if _, err := p.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "nobody has signed in within 15m") {
				t.Error(err)
			}
			synctest.Wait()
			h.back = nil
			signedIn(t, p)
			if n := refreshTokensIn(t, cache); n != 1 {
				t.Errorf("%d refresh tokens are stored", n)
			}
		})
	})
}

// TestHungProviderKeepsTheCache: a provider that does not answer for the length of a flight is not the cache's fault either. A refresh
// token that was copied out of the cache because of it would later be redeemed without the lock, a second time.
func TestHungProviderKeepsTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		time.Sleep(2 * time.Hour)
		p, sibling := interactive(t, h, cache, nil), interactive(t, h, cache, nil)
		h.idp.Always(idptest.Hang)
		if _, err := p.Token(WithoutInteraction(t.Context())); err == nil {
			t.Error("a token from nowhere")
		}
		h.idp.Always(nil)
		if _, err := p.Token(WithoutInteraction(t.Context())); err != nil {
			t.Error(err)
		}
		if _, err := sibling.Token(WithoutInteraction(t.Context())); err != nil || h.idp.Refused() != 0 {
			t.Errorf("a sibling on the same cache: %v; %d refresh tokens refused", err, h.idp.Refused())
		}
	})
}

// at is an endpoint for the tests' flows.
func at(ep Endpoint, scopes ...string) func(*InteractiveConfig) {
	return func(c *InteractiveConfig) {
		if c.Endpoint = ep; scopes != nil {
			c.Scopes = scopes
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

// mended is a FileCache whose content a program that takes no lock completes just after a provider has given up on it.
type mended struct {
	*FileCache
	good []byte
}

func (c *mended) Update(ctx context.Context, f func(context.Context, []byte) ([]byte, error)) error {
	err := c.FileCache.Update(ctx, f)
	if errors.Is(err, errCacheContent) && c.good != nil {
		err = errors.Join(err, os.WriteFile(c.path, c.good, 0o600))
		c.good = nil
	}
	return err
}

// TestGoodContentIsNotSetAside: what is moved aside is what made no sense, and not what is there by then.
func TestGoodContentIsNotSetAside(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		good, _ := sample(t, h, "bob").Get(t.Context())
		c, err := NewFileCache(filepath.Join(dir, "cache"))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(c.path, good[:len(good)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		if tok := signedIn(t, interactive(t, h, &mended{c, good}, nil)); tok.Username() != "bob" || h.asked() != 0 {
			t.Errorf("a token of %q after being asked %d times", tok.Username(), h.asked())
		}
		if b, err := os.ReadFile(c.path + ".bad"); err == nil {
			t.Errorf("%d good bytes were moved aside", len(b))
		}
	})
}

// TestSignOutWithNothing: misuse is an error, and no panic.
func TestSignOutWithNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		defer func() {
			if p := recover(); p != nil {
				t.Errorf("SignOut(nil) panicked: %v", p)
			}
		}()
		p, _ := device(t, idptest.New(), &MemoryCache{}, nil)
		var none context.Context
		if err := p.SignOut(none); err == nil {
			t.Error("no error")
		}
	})
}

// TestSignOutOffline: to forget what our own entries say needs no provider.
func TestSignOutOffline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		p := interactive(t, h, cache, func(c *InteractiveConfig) {
			c.HTTPClient = &http.Client{Transport: tripper(func(*http.Request) (*http.Response, error) { return nil, errors.New("no network") })}
		})
		if err := p.SignOut(t.Context()); err != nil || refreshTokensIn(t, cache) != 0 {
			t.Errorf("%v; %d refresh tokens are left", err, refreshTokensIn(t, cache))
		}
	})
}

// TestPollRetryAfterIsBounded: a gateway that asks for an hour does not cost the sign-in.
func TestPollRetryAfterIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		idp.Fault(idptest.Status(503, "Retry-After", "3600"))
		p, _ := device(t, idp, &MemoryCache{}, nil)
		var err error
		if d := elapse(func() { _, err = p.Token(t.Context()) }); err != nil || d > retryAfterMax+10*time.Second {
			t.Errorf("%v after %v", err, d)
		}
	})
}

// TestDeviceEndpointMoves: metadata that names an endpoint which is gone is dropped.
func TestDeviceEndpointMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		idp.Metadata(func(m map[string]any) { m["device_authorization_endpoint"] = "https://idp.test/old" })
		p, _ := device(t, idp, &MemoryCache{}, nil)
		if _, err := p.Token(t.Context()); err == nil {
			t.Error("the old one answers")
		}
		idp.Metadata(nil)
		signedIn(t, p)
	})
}

// TestPageOnAnEarlyConnection: browsers connect before they ask. The page is sent on such a connection too, however long the exchange takes.
func TestPageOnAnEarlyConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		var page string
		h.back = func(location string) error {
			early, err := h.net.dial(context.Background(), "tcp", "127.0.0.1:53000")
			if err != nil {
				return err
			}
			defer early.Close()
			time.Sleep(6 * time.Second)
			h.idp.Fault(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(8 * time.Second)
				idptest.Body(`{"access_token":"tok"}`)(w, r)
			})
			u, _ := url.Parse(location)
			h.send("127.0.0.1:53000", "GET /?"+u.RawQuery+" HTTP/1.1\r\nHost: localhost:53000\r\n\r\n")
			go io.WriteString(early, "GET / HTTP/1.1\r\nHost: localhost:53000\r\n\r\n")
			b, _ := io.ReadAll(early)
			h.mu.Lock()
			page = string(b)
			h.mu.Unlock()
			return nil
		}
		d := elapse(func() { signedIn(t, interactive(t, h, &MemoryCache{}, nil)) })
		synctest.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		if !strings.Contains(page, "You are signed in") || d != look+14*time.Second {
			t.Errorf("after %v the person sees %q", d, page)
		}
	})
}

// typed is what a person types, line by line.
type typed struct {
	lines chan string
	rest  string
}

func (in *typed) Read(b []byte) (int, error) {
	if in.rest == "" {
		line, ok := <-in.lines
		if !ok {
			return 0, io.EOF
		}
		in.rest = line
	}
	n := copy(b, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// TestOneInputForTwo: two sign-ins that wait for a pasted answer at one Input both get theirs.
func TestOneInputForTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &typed{lines: make(chan string, 10)}
		people := []*human{{idp: idptest.New()}, {idp: idptest.New()}}
		var wg sync.WaitGroup
		for i, h := range people {
			p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) {
				c.OpenBrowser, c.Input, c.RedirectPort = func(context.Context, string) error { return errors.New("no display") }, in, 50001+i
			})
			wg.Go(func() {
				if _, err := p.Token(t.Context()); err != nil {
					t.Errorf("sign-in %d: %v", i, err)
				}
			})
		}
		time.Sleep(time.Minute)
		for _, h := range []*human{people[1], people[0], people[1]} { // the person repeats what was not taken
			told := h.told()
			address := strings.Fields(told[strings.Index(told, "https://idp.test/authorize"):])[0]
			c := h.idp.Client()
			c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
			resp, err := c.Get(address)
			if err != nil {
				t.Fatal(err)
			}
			in.lines <- resp.Header.Get("Location") + "\n"
			time.Sleep(time.Minute)
		}
		wg.Wait()
		close(in.lines) // whoever reads still ends
	})
}

// plainMutex is a cache as somebody may write it who has read of Update alone.
type plainMutex struct {
	mu   chan bool // one that bubbles know
	end  chan bool // of the test
	blob []byte
}

func (c *plainMutex) Get(context.Context) ([]byte, error) {
	select {
	case c.mu <- true:
		defer func() { <-c.mu }()
		return c.blob, nil
	case <-c.end:
		return nil, errors.New("the test is over")
	}
}

func (c *plainMutex) Update(ctx context.Context, f func(context.Context, []byte) ([]byte, error)) error {
	c.mu <- true
	defer func() { <-c.mu }()
	b, err := f(ctx, c.blob)
	if err == nil {
		c.blob = b
	}
	return err
}

// TestCacheWithOneMutex costs persistence at most, never the sign-in.
func TestCacheWithOneMutex(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &plainMutex{mu: make(chan bool, 1), end: make(chan bool)}
		defer close(c.end)
		p, _ := device(t, idptest.New(), c, nil)
		var err error
		if d := elapse(func() { _, err = p.Token(t.Context()) }); err != nil || d > time.Minute {
			t.Errorf("%v after %v", err, d)
		}
	})
}

// TestSilentRefusalBacksOff: a provider that says interaction_required is not asked again for every call of callers who may not be asked.
func TestSilentRefusalBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		time.Sleep(2 * time.Hour)
		h.idp.Always(idptest.Error(400, "interaction_required", "MFA"))
		before := h.idp.Tokens()
		p := interactive(t, h, cache, nil)
		for range 100 {
			ctx, cancel := context.WithTimeout(WithoutInteraction(t.Context()), time.Second)
			if _, err := p.Token(ctx); err == nil {
				t.Error("a token from nowhere")
			}
			cancel()
		}
		synctest.Wait()
		if n := h.idp.Tokens() - before; n > 20 {
			t.Errorf("%d requests for 100 calls", n)
		}
		time.Sleep(time.Minute)
	})
}

// TestRefreshTokensOfOneAge: of two that were written at once, one is refused; the other is neither newer nor has it appeared since.
func TestRefreshTokensOfOneAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		time.Sleep(2 * time.Hour)
		edit(t, cache, func(c contents) {
			one := entryOf(c, refreshTokens, keysOf(c, refreshTokens)[0])
			other := maps.Clone(one)
			one["secret"], other["secret"], other["target"] = "stale", "stale too", "zzz"
			c.put(refreshTokens, other)
		})
		_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
		if n := refreshTokensIn(t, cache); !errors.Is(err, ErrSignInRequired) || h.idp.Refused() != 1 || n != 1 {
			t.Errorf("%v; %d were refused, %d are left", err, h.idp.Refused(), n)
		}
	})
}

// TestNoStaleTwin: a refresh token under a name of another program's (MSAL for Go's, for example) is replaced, and not left beside the new one.
func TestNoStaleTwin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		edit(t, cache, func(c contents) {
			section := c[refreshTokens].(map[string]any)
			key := keysOf(c, refreshTokens)[0]
			section["sub-bob-idp.test-refreshtoken-app"] = section[key]
			delete(section, key)
		})
		time.Sleep(2 * time.Hour)
		if _, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context())); err != nil {
			t.Fatal(err)
		}
		if keys := keysOf(read(t, cache), refreshTokens); len(keys) != 1 {
			t.Errorf("refresh tokens: %q", keys)
		}
	})
}

// TestEmptyIssuer: an issuer that is there must be the right one, and "" is not.
func TestEmptyIssuer(t *testing.T) {
	v := newVisit(&url.URL{}, &metadata{Issuer: "https://idp.test"})
	if v.answer(url.Values{"state": {v.state}, "iss": {""}, "code": {"x"}}); v.err == nil {
		t.Error("an empty iss was taken for none")
	}
}

// TestMetadataOutageKeepsTheRefreshToken: where the metadata is needed to judge the answer of a refresh, it is read before the refresh
// token is spent.
func TestMetadataOutageKeepsTheRefreshToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		entra := at(Authority("https://idp.test/11111111-2222-3333-4444-555555555555"))
		signedIn(t, interactive(t, h, cache, entra))
		edit(t, cache, func(c contents) { delete(c, idTokens) }) // MSAL for Python's device flow gets none when it refreshes
		time.Sleep(2 * time.Hour)
		p := interactive(t, h, cache, entra)
		h.idp.Metadata(func(m map[string]any) { delete(m, "issuer") }) // out of order
		_, _ = p.Token(WithoutInteraction(t.Context()))
		h.idp.Metadata(nil)
		if _, err := p.Token(WithoutInteraction(t.Context())); err != nil || h.idp.Refused() != 0 {
			t.Errorf("%v; %d refresh tokens refused", err, h.idp.Refused())
		}
	})
}

// TestNoScopesAdoptNoToken: who asks for no scope does not get a token that was issued for one.
func TestNoScopesAdoptNoToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		mine := signedIn(t, interactive(t, h, cache, nil))
		other := signedIn(t, interactive(t, h, cache, func(c *InteractiveConfig) { c.Scopes = nil }))
		if other.AccessToken() == mine.AccessToken() {
			t.Errorf("a token for %q", other.Scope())
		}
	})
}

// From here on: sentences of the issues that had no test.

// TestAttemptsAreNew: state, nonce and verifier of one sign-in are not those of another.
func TestAttemptsAreNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		p := interactive(t, h, &MemoryCache{}, nil)
		signedIn(t, p)
		first := h.last()
		if err := p.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
		signedIn(t, p)
		for _, name := range []string{"state", "nonce", "code_challenge"} {
			if v := h.last().Get(name); v == "" || v == first.Get(name) {
				t.Errorf("%s is %q twice", name, v)
			}
		}
		var verifiers []string
		for _, r := range h.idp.Requests("/token") {
			verifiers = append(verifiers, r.Form.Get("code_verifier"))
		}
		if len(verifiers) != 2 || verifiers[0] == verifiers[1] || len(verifiers[0]) < 43 {
			t.Errorf("verifiers: %q", verifiers)
		}
	})
}

// TestMarkedCallerDuringAnInteraction leaves at once, and disturbs nobody.
func TestMarkedCallerDuringAnInteraction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.back = func(location string) error { time.Sleep(time.Minute); return h.visit(location) }
		p := interactive(t, h, &MemoryCache{}, nil)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := p.Token(t.Context()); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(10 * time.Second)
		if d := elapse(func() {
			if _, err := p.Token(WithoutInteraction(t.Context())); err != ErrSignInRequired {
				t.Error(err)
			}
		}); d != 0 {
			t.Errorf("left after %v", d)
		}
		wg.Wait()
		if h.asked() != 1 {
			t.Errorf("asked %d times", h.asked())
		}
	})
}

// TestLeavingInteractive: the last who leaves ends the interaction, and with it the listener; but once a code has arrived, the exchange
// and the cache write finish.
func TestLeavingInteractive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		h.back = func(string) error { return nil }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := interactive(t, h, cache, nil).Token(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
		synctest.Wait()
		if n := h.net.open(); n != 0 {
			t.Errorf("%d listeners are left", n)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		h.idp.Fault(h.idp.Slow(5*time.Second, idptest.Body(`{"access_token":"tok","refresh_token":"ref"}`)))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := interactive(t, h, cache, nil).Token(ctx); err != context.DeadlineExceeded {
			t.Error(err)
		}
		time.Sleep(10 * time.Second)
		if n := refreshTokensIn(t, cache); n != 1 || h.net.open() != 0 {
			t.Errorf("%d refresh tokens are stored, %d listeners are left", n, h.net.open())
		}
		if tok := signedIn(t, interactive(t, h, cache, nil)); tok.AccessToken() != "tok" || h.asked() != 1 {
			t.Error("the code was lost")
		}
	})
}

// TestRefusedIDTokenIsNotStored: on a refresh too, nothing is cached before it was judged.
func TestRefusedIDTokenIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		time.Sleep(2 * time.Hour)
		before, _ := cache.Get(t.Context())
		h.idp.Fault(idptest.JSON(200, map[string]any{"access_token": "evil", "refresh_token": "evil",
			"id_token": idptest.IDToken(map[string]any{"iss": "https://idp.test", "sub": "sub-eve", "aud": "app", "exp": time.Now().Unix() + 60})}))
		_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
		if after, _ := cache.Get(t.Context()); err == nil || string(after) != string(before) {
			t.Errorf("%v; %s became %s", err, before, after)
		}
	})
}

// TestScopesThatTheProviderLists: of openid, profile and offline_access, those; and consent only for the last.
func TestScopesThatTheProviderLists(t *testing.T) {
	for list, want := range map[string]string{"openid email": "read openid/", "openid offline_access": "read openid offline_access/consent", "": "read/", "-": "read openid profile offline_access/"} {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			h.idp.Metadata(func(m map[string]any) {
				if m["scopes_supported"] = strings.Fields(list); list == "-" {
					delete(m, "scopes_supported")
				}
			})
			signedIn(t, interactive(t, h, &MemoryCache{}, nil))
			if got := h.last().Get("scope") + "/" + h.last().Get("prompt"); got != want {
				t.Errorf("of %q: %q, want %q", list, got, want)
			}
		})
	}
}

// TestWarmStartAsksNobody: with what this package has stored, of any kind of endpoint, a start makes no request.
func TestWarmStartAsksNobody(t *testing.T) {
	for name, ep := range map[string]Endpoint{"Issuer": Issuer("https://idp.test"), "Discovery": Discovery("https://idp.test"),
		"GUID": Authority("https://idp.test/11111111-2222-3333-4444-555555555555"), "AD FS": Authority("https://idp.test/adfs")} {
		synctest.Test(t, func(t *testing.T) {
			h, cache := &human{idp: idptest.New()}, &MemoryCache{}
			if name == "AD FS" {
				h.idp.Metadata(func(m map[string]any) { m["issuer"] = "https://idp.test/adfs/oauth2" })
			}
			signedIn(t, interactive(t, h, cache, at(ep)))
			before := len(h.idp.Requests(""))
			signedIn(t, interactive(t, h, cache, at(ep)))
			if n := len(h.idp.Requests("")) - before; n != 0 || h.asked() != 1 {
				t.Errorf("%s: %d requests", name, n)
			}
		})
	}
}

// TestTokensOfNobody: a token without an account serves only while the file has no account of the client's.
func TestTokensOfNobody(t *testing.T) {
	for _, others := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := sample(t, h, "bob")
			edit(t, cache, func(c contents) {
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

// TestEchoedSecrets: whatever the provider repeats of a request, no error, no log and no terminal shows it.
func TestEchoedSecrets(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		idptest.Error(400, "invalid_request", r.PostForm.Encode()+" "+fmt.Sprint(r.PostForm))(w, r)
	}
	check := func(t *testing.T, idp *idptest.Provider, what string, texts ...string) {
		t.Helper()
		for _, r := range idp.Requests("/token") {
			for _, name := range []string{"code", "code_verifier", "refresh_token", "device_code"} {
				for _, text := range texts {
					if v := r.Form.Get(name); v != "" && strings.Contains(text, v[len(v)-10:]) {
						t.Errorf("%s: the %s is shown: %s", what, name, text)
					}
				}
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		for _, flow := range userFlows {
			d := newDesk(flow)
			d.idp.Fault(echo)
			_, err := d.start(t, &MemoryCache{}).Token(t.Context())
			check(t, d.idp, flow, fmt.Sprintf("%v %+v", err, err), d.log.String(), d.told())
			if err == nil || !strings.Contains(err.Error(), "invalid_request") {
				t.Error(err)
			}
			d = newDesk(flow)
			cache := &MemoryCache{}
			signedIn(t, d.start(t, cache))
			time.Sleep(2 * time.Hour)
			d.idp.Fault(echo)
			_, err = d.start(t, cache).Token(WithoutInteraction(t.Context()))
			check(t, d.idp, flow+" refresh", fmt.Sprintf("%v %+v", err, err), d.log.String(), d.told())
			if err == nil || !strings.Contains(err.Error(), "invalid_request") {
				t.Error(err)
			}
		}
	})
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

// TestInvalidateAsksNobody: a refused token is renewed by the refresh token, and serves on if a person would be needed.
func TestInvalidateAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		p := interactive(t, h, cache, nil)
		first := signedIn(t, p)
		p.Invalidate(first)
		second := signedIn(t, p)
		if second.AccessToken() == first.AccessToken() || h.asked() != 0 {
			t.Errorf("asked %d times, the same token: %t", h.asked(), second.Equal(first))
		}
		edit(t, cache, func(c contents) { clear(c) })
		time.Sleep(time.Minute)
		p.Invalidate(second)
		if third := signedIn(t, p); !third.Equal(second) || h.asked() != 0 {
			t.Errorf("asked %d times", h.asked())
		}
	})
}

// TestSaysWhoHasTheCache: also in the device flow of a caller who shows codes himself, somebody is told why nothing happens.
func TestSaysWhoHasTheCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, cache := newDesk("device"), &MemoryCache{}
		leave := make(chan bool)
		go cache.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) { <-leave; return old, nil })
		go func() { time.Sleep(time.Minute); close(leave) }()
		synctest.Wait()
		signedIn(t, d.start(t, cache))
		if log := d.log.String(); !strings.Contains(strings.ToLower(log), "another program") {
			t.Errorf("the log: %s", log)
		}
	})
}
