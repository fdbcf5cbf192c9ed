//go:build go1.25

package cdfauth

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// pipes is a network within the process, for bubbles.
type pipes struct {
	mu        sync.Mutex
	listeners map[string]*pipeListener
	noIPv6    bool
	busy      map[string]bool
	unlucky   int // how many times a port that is free on IPv4 is taken on IPv6
}

type pipeListener struct {
	net   *pipes
	addr  string
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (p *pipes) listen(_, addr string) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	host, port, _ := net.SplitHostPort(addr)
	if port == "0" {
		addr = net.JoinHostPort(host, fmt.Sprint(40000+len(p.listeners)))
	}
	if p.noIPv6 && host == "::1" {
		return nil, errors.New("address family not supported")
	}
	if taken := p.unlucky > 0 && host == "::1" && port != "0"; taken || p.busy[addr] || p.listeners[addr] != nil {
		p.unlucky--
		return nil, errors.New("address already in use")
	}
	if p.listeners == nil {
		p.listeners = map[string]*pipeListener{}
	}
	l := &pipeListener{net: p, addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
	p.listeners[addr] = l
	return l, nil
}

func (p *pipes) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	addr = strings.Replace(addr, "localhost", "127.0.0.1", 1)
	p.mu.Lock()
	l := p.listeners[addr]
	p.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("connection to %s refused", addr)
	}
	a, b := net.Pipe()
	select {
	case l.conns <- b:
		return a, nil
	case <-l.done:
		return nil, errors.New("connection refused")
	}
}

// open says how many listeners there are.
func (p *pipes) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.listeners)
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.net.mu.Lock()
		defer l.net.mu.Unlock()
		delete(l.net.listeners, l.addr)
	})
	return nil
}

func (l *pipeListener) Addr() net.Addr { return pipeAddr(l.addr) }

type pipeAddr string

func (a pipeAddr) Network() string { return "tcp" }
func (a pipeAddr) String() string  { return string(a) }

// human is who sits at the browser, and what he has seen.
type human struct {
	idp  *idptest.Provider
	net  pipes
	mu   sync.Mutex
	asks []url.Values // what was asked of the authorization endpoint
	page string       // the last one
	back func(location string) error
	out  strings.Builder
}

func (h *human) open(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.asks = append(h.asks, u.Query())
	h.mu.Unlock()
	go func() { // browsers do not keep who opens them
		c := h.idp.Client()
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, err := c.Get(address)
		if err != nil || resp.StatusCode != http.StatusSeeOther {
			return
		}
		back := h.back
		if back == nil {
			back = h.visit
		}
		back(resp.Header.Get("Location"))
	}()
	return nil
}

// visit gets a page of the listener's.
func (h *human) visit(address string) error {
	c := &http.Client{Transport: &http.Transport{DialContext: h.net.dial, DisableKeepAlives: true}}
	resp, err := c.Get(address)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.page = resp.Request.URL.String() + " " + string(b)
	return err
}

func (h *human) asked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.asks)
}

func (h *human) last() url.Values {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asks[len(h.asks)-1]
}

func (h *human) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out.Write(b)
}

func (h *human) told() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out.String()
}

// interactive returns a provider whose person signs in at once.
func interactive(t *testing.T, h *human, cache Cache, change func(*InteractiveConfig)) *Interactive {
	t.Helper()
	cfg := InteractiveConfig{Endpoint: Issuer(h.idp.Issuer), ClientID: "app", Scopes: []string{"read"}, OpenBrowser: h.open, Output: h,
		Input: bufio.NewReader(strings.NewReader("")), Options: Options{Cache: cache, HTTPClient: h.idp.Client()}}
	if change != nil {
		change(&cfg)
	}
	p, err := NewInteractive(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.engine.listen = h.net.listen
	return p
}

// device returns a provider, and the codes that it has shown.
func device(t *testing.T, idp *idptest.Provider, cache Cache, change func(*DeviceCodeConfig)) (*DeviceCode, *[]DeviceAuthorization) {
	t.Helper()
	var shown []DeviceAuthorization
	cfg := DeviceCodeConfig{Endpoint: Issuer(idp.Issuer), ClientID: "app", Scopes: []string{"read"},
		ShowCode: func(_ context.Context, a DeviceAuthorization) error { shown = append(shown, a); return nil },
		Options:  Options{Cache: cache, HTTPClient: idp.Client()}}
	if change != nil {
		change(&cfg)
	}
	p, err := NewDeviceCode(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p, &shown
}

func signedIn(t *testing.T, p Provider) Token {
	t.Helper()
	tok, err := p.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// TestInteractive: the request, the page, the token; then silence, in this provider and in the next.
func TestInteractive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		p := interactive(t, h, cache, nil)
		tok := signedIn(t, p)
		if tok.Username() != "ada@example.com" || tok.Scope() != "read openid profile offline_access" {
			t.Errorf("token of %q for %q", tok.Username(), tok.Scope())
		}
		if n := h.net.open(); n != 0 {
			t.Errorf("%d listeners are left", n)
		}
		ask := h.last()
		for name, want := range map[string]string{"response_type": "code", "client_id": "app", "redirect_uri": "http://localhost:53000",
			"scope": "read openid profile offline_access", "code_challenge_method": "S256", "prompt": "consent", "login_hint": "", "response_mode": "", "client_info": ""} {
			if got := ask.Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
		for _, name := range []string{"state", "nonce", "code_challenge"} {
			if n := len(ask.Get(name)); n != 43 && n != 52 {
				t.Errorf("%s is %q", name, ask.Get(name))
			}
		}
		synctest.Wait()
		if !strings.HasPrefix(h.page, "http://localhost:53000 ") || !strings.Contains(h.page, "You are signed in") {
			t.Errorf("the person was left at %s", h.page)
		}
		if !strings.Contains(h.told(), "state="+ask.Get("state")) {
			t.Errorf("the person was told %q", h.told())
		}
		if again := signedIn(t, p); !again.Equal(tok) {
			t.Error("another token from the same provider")
		}
		if second := signedIn(t, interactive(t, h, cache, nil)); second.AccessToken() != tok.AccessToken() || second.Username() != tok.Username() {
			t.Error("another token from a second start")
		}
		time.Sleep(2 * time.Hour) // the token has expired
		if third := signedIn(t, interactive(t, h, cache, nil)); third.Equal(tok) || third.Username() != tok.Username() {
			t.Error("no new token after expiry")
		}
		if h.asked() != 1 || h.idp.Tokens() != 2 || h.idp.Refused() != 0 {
			t.Errorf("the person was asked %d times, the provider %d, %d refused", h.asked(), h.idp.Tokens(), h.idp.Refused())
		}
		for _, r := range h.idp.Requests("/token") {
			if r.Form.Get("scope") != ask.Get("scope") {
				t.Errorf("%s for %q", r.Form.Get("grant_type"), r.Form.Get("scope"))
			}
		}
	})
}

// TestDeviceCode: the same with a code.
func TestDeviceCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		idp, cache := idptest.New(), &MemoryCache{}
		p, shown := device(t, idp, cache, nil)
		start := time.Now()
		tok := signedIn(t, p)
		if d := time.Since(start); d != 5*time.Second+100*time.Millisecond { // interval, and a look for a half-written cache
			t.Errorf("signed in after %v", d)
		}
		if len(*shown) != 1 || (*shown)[0].UserCode == "" || (*shown)[0].VerificationURI != idp.Issuer+"/device" {
			t.Errorf("shown: %+v", *shown)
		}
		p, shown = device(t, idp, cache, nil)
		if second := signedIn(t, p); second.AccessToken() != tok.AccessToken() || second.Username() != "ada@example.com" || len(*shown) != 0 {
			t.Error("a second start was not silent")
		}
	})
}

// merge puts in what other has, unless something newer is there.
func (c contents) merge(other contents) (changed bool) {
	for section := range other {
		for _, key := range keysOf(other, section) {
			e, there := entryOf(other, section, key), entryOf(c, section, key)
			if there == nil || !there.written().After(e.written()) && !maps.Equal(there, e) {
				c.put(section, maps.Clone(e))
				changed = true
			}
		}
	}
	return changed
}

// sample is the content of a cache after these people have signed in by the flow of the test.
func sample(t *testing.T, h *human, names ...string) *MemoryCache {
	t.Helper()
	all := contents{}
	for _, name := range names {
		var cache MemoryCache
		h.idp.Person = func(url.Values) (string, bool) { return name, true }
		signedIn(t, interactive(t, h, &cache, nil))
		blob, _ := cache.Get(t.Context())
		c, err := parseContents(blob)
		if err != nil {
			t.Fatal(err)
		}
		all.merge(c)
	}
	blob, err := all.blob()
	if err != nil {
		t.Fatal(err)
	}
	cache := &MemoryCache{}
	cache.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return blob, nil })
	h.asks, h.idp.Person = nil, nil
	return cache
}

func all(c contents, section string) []string {
	return keysOf(c, section)
}

// TestAccounts: which of the people in a cache is meant, as the Python SDK has it.
func TestAccounts(t *testing.T) {
	tests := []struct {
		name   string
		people []string
		change func(*InteractiveConfig)
		edit   func(contents)
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
		{name: "no refresh token", people: []string{"bob"}, edit: func(c contents) {
			delete(c, refreshTokens)
			for _, key := range all(c, accessTokens) {
				entryOf(c, accessTokens, key)["expires_on"] = "1"
			}
		}, asks: 1, prompt: "consent", hint: "bob", user: "ada@example.com"},
		{name: "a name that Python lost", people: []string{"bob"}, change: func(c *InteractiveConfig) { c.LoginHint = "bob" }, edit: func(c contents) {
			for _, key := range all(c, accounts) {
				entryOf(c, accounts, key)["username"] = ""
			}
		}, user: "bob"},
		{name: "a name of the file's", people: []string{"bob"}, edit: func(c contents) {
			e := entryOf(c, accounts, all(c, accounts)[0])
			e["username"] = "robert"
			for _, host := range []string{"a.test", "z.test"} {
				other := maps.Clone(e)
				other["environment"], other["username"] = host, "of "+host
				c[accounts].(map[string]any)[host] = map[string]any(other)
			}
		}, user: "robert"},
		{name: "Python's, known by the ID token", people: []string{"bob"}, edit: func(c contents) { foreign(c, "") }, user: "bob"},
		{name: "Python's, of another issuer", people: []string{"bob"}, edit: func(c contents) { foreign(c, "https://idp.test/realms/b") }, asks: 1, prompt: "consent", user: "ada@example.com"},
		{name: "an application's", people: []string{"bob"}, edit: func(c contents) {
			for _, section := range []string{accessTokens, refreshTokens, idTokens} {
				for _, key := range all(c, section) {
					entryOf(c, section, key)[fieldGrant] = "client_credentials"
				}
			}
		}, asks: 1, prompt: "consent", user: "ada@example.com"},
		{name: "hostile", people: []string{"bob"}, edit: func(c contents) {
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
				edit(t, cache, func(c contents) { clear(c) })
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
func foreign(c contents, iss string) {
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

// TestFailedSignInIsNotRemembered: the next call asks again, with the same prompt.
func TestFailedSignInIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.idp.Person = func(url.Values) (string, bool) { return "", false }
		p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) { c.Prompt = "login" })
		var oe *OAuthError
		if _, err := p.Token(t.Context()); !errors.As(err, &oe) || oe.Code != "access_denied" || oe.Description != "the person said no" {
			t.Errorf("declined: %v", err)
		}
		synctest.Wait()
		if !strings.Contains(h.page, "Sign-in was declined") {
			t.Errorf("the page says %s", h.page)
		}
		h.idp.Person = nil
		signedIn(t, p)
		if h.asked() != 2 || h.last().Get("prompt") != "login consent" {
			t.Errorf("asked %d times, the last time with prompt %q", h.asked(), h.last().Get("prompt"))
		}
	})
}

// TestWithoutInteractionAsksNobody, and does not stop others from being asked.
func TestWithoutInteractionAsksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		p := interactive(t, h, &MemoryCache{}, nil)
		if _, err := p.Token(WithoutInteraction(t.Context())); err != ErrSignInRequired || h.asked() != 0 {
			t.Errorf("marked: %v, asked %d times", err, h.asked())
		}
		signedIn(t, p)
		time.Sleep(50 * time.Minute)
		if _, err := p.Token(WithoutInteraction(t.Context())); err != nil {
			t.Errorf("after a sign-in: %v", err)
		}
	})
}

// TestOneInteraction: many callers, and many providers on one cache, ask a person once.
func TestOneInteraction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		h.back = func(location string) error { time.Sleep(time.Minute); return h.visit(location) }
		var wg sync.WaitGroup
		for range 10 {
			p := interactive(t, h, cache, nil)
			for range 10 {
				wg.Go(func() {
					if tok, err := p.Token(t.Context()); err != nil || tok.Username() != "ada@example.com" {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if h.asked() != 1 || h.idp.Tokens() != 1 {
			t.Errorf("asked %d times, %d token requests", h.asked(), h.idp.Tokens())
		}
		if n := strings.Count(h.told(), "Another program"); n != 9 {
			t.Errorf("%d of the 9 who waited were told why", n)
		}
	})
}

// occupied is a cache that another program keeps to itself.
type occupied struct{ MemoryCache }

func (c *occupied) Update(ctx context.Context, _ func(context.Context, []byte) ([]byte, error)) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestSiblingSignsIn: what another program gets while it has the cache locked serves who waits for it, though the lock never comes.
func TestSiblingSignsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, cache := &human{idp: idptest.New()}, &occupied{}
		blob, _ := sample(t, h, "bob").Get(t.Context())
		time.AfterFunc(9*time.Second+time.Millisecond, func() { put(t, &cache.MemoryCache, string(blob)) })
		var tok Token
		if d := elapse(func() { tok = signedIn(t, interactive(t, h, cache, nil)) }); d != 10*time.Second || tok.Username() != "bob" || h.asked() != 0 {
			t.Errorf("%q signed in after %v and being asked %d times", tok.Username(), d, h.asked())
		}
	})
}

// TestRefreshTokens: what becomes of those that are refused.
func TestRefreshTokens(t *testing.T) {
	// renewed changes what the cache of somebody who signed in has, and returns the provider after a token was asked for.
	renewed := func(t *testing.T, change func(h *human, c contents)) (*human, *MemoryCache, error) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob")
		time.Sleep(2 * time.Hour)
		edit(t, cache, func(c contents) { change(h, c) })
		_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
		return h, cache, err
	}
	one := func(c contents) entry { return entryOf(c, refreshTokens, all(c, refreshTokens)[0]) }
	t.Run("good", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var before entry
			_, cache, err := renewed(t, func(_ *human, c contents) { one(c)["theirs"] = "kept"; before = maps.Clone(one(c)) })
			c := read(t, cache)
			if err != nil || len(all(c, refreshTokens)) != 1 || one(c).text("secret") == before.text("secret") || one(c).text("theirs") != "kept" || one(c).written().Equal(before.written()) {
				t.Errorf("%v; %v became %v", err, before, one(c))
			}
			if len(all(c, accessTokens)) != 1 {
				t.Errorf("%d access tokens: the expired one is to go", len(all(c, accessTokens)))
			}
		})
	})
	t.Run("refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, cache, err := renewed(t, func(_ *human, c contents) { one(c)["secret"] = "stale" })
			if !errors.Is(err, ErrSignInRequired) || len(all(read(t, cache), refreshTokens)) != 0 || h.idp.Refused() != 1 {
				t.Errorf("%v; %d left, %d refused", err, len(all(read(t, cache), refreshTokens)), h.idp.Refused())
			}
			if len(all(read(t, cache), accounts)) != 1 {
				t.Error("the account is gone too")
			}
		})
	})
	twin := func(c contents, age time.Duration) {
		e := maps.Clone(one(c))
		e["secret"], e["target"], e["last_modification_time"] = "stale", "other", unix(one(c).written().Add(age))
		c.put(refreshTokens, e)
	}
	t.Run("a newer one is refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, cache, err := renewed(t, func(_ *human, c contents) { twin(c, time.Minute) })
			if !errors.Is(err, ErrSignInRequired) || h.idp.Refused() != 1 || len(all(read(t, cache), refreshTokens)) != 1 {
				t.Errorf("%v; the older one was tried too, or is gone: %d refused", err, h.idp.Refused())
			}
		})
	})
	t.Run("an older one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, cache, err := renewed(t, func(_ *human, c contents) { twin(c, -time.Minute) })
			if err != nil || h.idp.Refused() != 0 || len(all(read(t, cache), refreshTokens)) != 2 {
				t.Errorf("%v; %d refused", err, h.idp.Refused())
			}
		})
	})
	t.Run("one that appears meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := &shifting{MemoryCache: sample(t, h, "bob")}
			time.Sleep(2 * time.Hour)
			edit(t, cache, func(c contents) {
				good, _ := c.blob()
				cache.then = func() []byte { return good }
				one(c)["secret"] = "stale"
			})
			cache.armed = true
			p := interactive(t, h, cache, nil)
			if _, err := p.Token(WithoutInteraction(t.Context())); err != nil || h.idp.Refused() != 1 {
				t.Errorf("%v; %d refused", err, h.idp.Refused())
			}
		})
	})
	t.Run("expired access tokens", func(t *testing.T) { // go, of this account
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := sample(t, h, "bob", "eve")
			time.Sleep(2 * time.Hour)
			edit(t, cache, func(c contents) {
				for _, key := range all(c, accessTokens) {
					for target, expires := range map[string]time.Time{"expired": time.Now(), "good": time.Now().Add(time.Second)} {
						e := maps.Clone(entryOf(c, accessTokens, key))
						e["target"], e["expires_on"] = target, unix(expires)
						c.put(accessTokens, e)
					}
				}
			})
			signedIn(t, interactive(t, h, cache, func(c *InteractiveConfig) { c.LoginHint = "bob" }))
			left := map[string]int{}
			for _, e := range read(t, cache).find(accessTokens, func(entry) bool { return true }) {
				left[e.account()]++
			}
			if h.asked() != 0 || left["sub-bob"] != 2 || left["sub-eve"] != 3 {
				t.Errorf("left: %v", left)
			}
		})
	})
	t.Run("stale ones that appear one by one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := &shifting{MemoryCache: sample(t, h, "bob")}
			time.Sleep(2 * time.Hour)
			edit(t, cache, func(c contents) {
				n := 1
				one(c)["secret"] = "stale 1"
				cache.then = func() []byte {
					n = min(n+1, 4)
					one(c)["secret"] = fmt.Sprint("stale ", n)
					blob, _ := c.blob()
					return blob
				}
			})
			cache.armed = true
			_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
			if !errors.Is(err, ErrSignInRequired) || h.idp.Refused() != 2 {
				t.Errorf("%v; %d refused, want 2", err, h.idp.Refused())
			}
		})
	})
	t.Run("refused while the cache seems empty", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := &shifting{MemoryCache: sample(t, h, "bob", "eve"), then: func() []byte { return nil }}
			time.Sleep(2 * time.Hour)
			edit(t, cache, func(c contents) { entryOf(c, refreshTokens, all(c, refreshTokens)[0])["secret"] = "stale" })
			cache.armed = true
			p := interactive(t, h, cache, func(c *InteractiveConfig) { c.LoginHint = "bob" })
			_, err := p.Token(WithoutInteraction(t.Context()))
			if c := read(t, cache); !errors.Is(err, ErrSignInRequired) || h.idp.Refused() != 1 || len(all(c, refreshTokens)) != 1 || len(all(c, accounts)) != 2 {
				t.Errorf("%v; %d refused; left: %v", err, h.idp.Refused(), c)
			}
		})
	})
	t.Run("not asked when the provider is out of order", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := sample(t, h, "bob")
			time.Sleep(2 * time.Hour)
			h.idp.Always(idptest.Status(503))
			_, err := interactive(t, h, cache, nil).Token(t.Context())
			if errors.Is(err, ErrSignInRequired) || err == nil || h.asked() != 0 || len(all(read(t, cache), refreshTokens)) != 1 {
				t.Errorf("%v; asked %d times", err, h.asked())
			}
		})
	})
	for _, body := range []string{"", "<html>no</html>"} {
		t.Run("400 with "+body, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &human{idp: idptest.New()}
				cache := sample(t, h, "bob")
				time.Sleep(2 * time.Hour)
				h.idp.Always(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(400); io.WriteString(w, body) })
				_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
				if !errors.Is(err, ErrSignInRequired) || len(all(read(t, cache), refreshTokens)) != 0 {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

// shifting is a cache that somebody who takes no lock writes to between Update's read and the next Get.
type shifting struct {
	*MemoryCache
	armed  bool
	inside bool
	then   func() []byte
}

func (s *shifting) Get(ctx context.Context) ([]byte, error) {
	if s.armed && s.inside {
		return s.then(), nil
	}
	return s.MemoryCache.Get(ctx)
}

func (s *shifting) Update(ctx context.Context, f func(context.Context, []byte) ([]byte, error)) error {
	return s.MemoryCache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
		s.inside = true
		defer func() { s.inside = false }()
		return f(ctx, old)
	})
}

// TestSignOut removes one account and nothing else, in memory too.
func TestSignOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		cache := sample(t, h, "bob", "eve")
		edit(t, cache, func(c contents) {
			c["Theirs"] = map[string]any{"a": "b"}
			for _, key := range all(c, accessTokens) { // another client's
				e := maps.Clone(entryOf(c, accessTokens, key))
				e["client_id"] = "other"
				if e.account() == "sub-eve" {
					c.put(accessTokens, e)
				}
			}
		})
		hint := func(name string) *Interactive {
			return interactive(t, h, cache, func(c *InteractiveConfig) { c.LoginHint = name })
		}
		if err := hint("").SignOut(t.Context()); err == nil || !strings.Contains(err.Error(), "LoginHint") {
			t.Errorf("of two: %v", err)
		}
		p := hint("bob")
		tok := signedIn(t, p)
		if err := p.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := read(t, cache)
		for _, section := range []string{accessTokens, refreshTokens, idTokens, accounts} {
			for _, key := range all(c, section) {
				if entryOf(c, section, key).account() == "sub-bob" {
					t.Errorf("left: %s", key)
				}
			}
		}
		if len(all(c, accessTokens)) != 2 || len(all(c, accounts)) != 1 || c["Theirs"] == nil {
			t.Errorf("left: %v", c)
		}
		if _, err := p.Token(WithoutInteraction(t.Context())); err != ErrSignInRequired {
			t.Errorf("in memory: %v", err)
		}
		if again := signedIn(t, p); again.Equal(tok) || h.asked() != 1 {
			t.Error("signed in without being asked")
		}
		q := hint("eve")
		if err := q.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
		if c := read(t, cache); len(all(c, accounts)) != 2 { // the other client's too
			t.Errorf("accounts: %v", all(c, accounts))
		}
	})
	t.Run("during a refresh", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			cache := sample(t, h, "bob")
			p := interactive(t, h, cache, nil)
			signedIn(t, p)
			time.Sleep(time.Hour - 10*time.Second)
			h.idp.Fault(h.idp.Slow(3*time.Second, idptest.Body(`{"access_token":"late","refresh_token":"late","expires_in":3600}`)))
			signedIn(t, p) // starts it
			synctest.Wait()
			if err := p.SignOut(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			if c := read(t, cache); len(all(c, refreshTokens))+len(all(c, accessTokens)) != 0 {
				t.Errorf("written back: %v", c)
			}
			if _, err := p.Token(WithoutInteraction(t.Context())); err != ErrSignInRequired {
				t.Errorf("in memory: %v", err)
			}
		})
	})
	t.Run("during a sign-in", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, cache := &human{idp: idptest.New()}, &MemoryCache{}
			h.back = func(string) error { return nil } // he takes his time
			p := interactive(t, h, cache, nil)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			done := make(chan error)
			go func() { _, err := p.Token(ctx); done <- err }()
			time.Sleep(10 * time.Second)
			start := time.Now()
			if err := p.SignOut(t.Context()); err != nil || time.Since(start) > time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			if err := <-done; err != errSignedOut {
				t.Error(err)
			}
		})
	})
	t.Run("who is asked next", func(t *testing.T) { // somebody else, maybe; after a failure, the same person
		for _, failure := range []error{nil, errors.New("read-only")} {
			synctest.Test(t, func(t *testing.T) {
				h, cache := &human{idp: idptest.New()}, &unwritable{}
				p := interactive(t, h, cache, nil)
				signedIn(t, p)
				cache.why = failure
				if err := p.SignOut(t.Context()); !errors.Is(err, failure) {
					t.Errorf("%v, want %v", err, failure)
				}
				cache.why = nil
				edit(t, cache, func(c contents) { clear(c) })
				signedIn(t, p)
				if hint := h.last().Get("login_hint"); h.asked() != 2 || (hint == "ada@example.com") != (failure != nil) {
					t.Errorf("SignOut: %v; then asked %d times in all, with login_hint %q", failure, h.asked(), hint)
				}
			})
		}
	})
}
