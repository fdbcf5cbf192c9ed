//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// send sends one raw request to the listener and returns the answer as it came.
func (h *human) send(addr, request string) string {
	c, err := h.net.dial(context.Background(), "tcp", addr)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	go io.WriteString(c, request)
	b, _ := io.ReadAll(c)
	return string(b)
}

// TestCallback: what settles a sign-in and what does not, and how.
func TestCallback(t *testing.T) {
	type reply struct {
		name, request, want string // {q} is the provider's answer, {state} its state
		settles             bool
		err                 string
		page                string
	}
	get := func(target, host string) string { return "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }
	post := func(body string) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: localhost:53000\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	const host = "localhost:53000"
	for _, tt := range []reply{
		{name: "good", request: get("/?{q}", host), want: "303 See Other", settles: true, page: "You are signed in"},
		{name: "form post", request: post("{q}"), want: "303 See Other", settles: true, page: "You are signed in"},
		{name: "host in capitals", request: get("/?{q}", "LOCALHOST:53000"), want: "303 See Other", settles: true, page: "You are signed in"},
		{name: "declined", request: get("/?state={state}&iss=https://idp.test&error=access_denied&error_description=no", host), want: "303", settles: true, err: "access_denied: no", page: "Sign-in was declined"},
		{name: "other error", request: get("/?state={state}&iss=https://idp.test&error=server_error", host), want: "303", settles: true, err: "server_error", page: "Sign-in did not succeed"},
		{name: "error with a terminal's commands", request: get("/?state={state}&iss=https://idp.test&error=a%1b%5b2Jb", host), want: "303", settles: true, err: "a[2Jb", page: "did not succeed"},
		{name: "made-up code", request: get("/?state={state}&iss=https://idp.test&code=x", host), want: "303", settles: true, err: "invalid_grant", page: "did not succeed"},
		{name: "no code", request: get("/?state={state}&iss=https://idp.test", host), want: "303", settles: true, err: "neither a code nor an error", page: "did not succeed"},
		{name: "other issuer", request: get("/?state={state}&iss=https://evil.test&code=x", host), want: "303", settles: true, err: "issuer \"https://evil.test\"", page: "did not succeed"},
		{name: "issuer decides before error", request: get("/?state={state}&iss=https://evil.test&error=access_denied", host), want: "303", settles: true, err: "issuer \"https://evil.test\"", page: "did not succeed"},
		{name: "no issuer", request: get("/?state={state}&code=x", host), want: "303", settles: true, err: "does not say which issuer", page: "did not succeed"},
		{name: "favicon", request: get("/favicon.ico", host), want: "404"},
		{name: "other path", request: get("/callback?{q}", host), want: "404"},
		{name: "nothing", request: get("/", host), want: "400"},
		{name: "wrong state", request: get("/?state=x&code=x", host), want: "400"},
		{name: "no state", request: get("/?code=x", host), want: "400"},
		{name: "state twice", request: get("/?{q}&state={state}", host), want: "400"},
		{name: "code twice", request: get("/?{q}&code=x", host), want: "400"},
		{name: "semicolons", request: get("/?{q};x=y", host), want: "400"},
		{name: "head", request: "HEAD /?{q} HTTP/1.1\r\nHost: " + host + "\r\n\r\n", want: "405"},
		{name: "put", request: "PUT /?{q} HTTP/1.1\r\nHost: " + host + "\r\n\r\n", want: "405"},
		{name: "post with the answer in the query", request: "POST /?{q} HTTP/1.1\r\nHost: " + host + "\r\nContent-Length: 0\r\n\r\n", want: "400"},
		{name: "big form", request: post("x=" + strings.Repeat("y", 70<<10) + "&{q}"), want: "400"},
		{name: "other host", request: get("/?{q}", "evil.test:53000"), want: "421"},
		{name: "other port", request: get("/?{q}", "localhost:53001"), want: "421"},
		{name: "no host", request: get("/?{q}", ""), want: "421"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &human{idp: idptest.New()}
				var answer, raw string
				h.back = func(location string) error {
					// Meanwhile, connections that say nothing or little.
					for range 3 {
						c, err := h.net.dial(t.Context(), "tcp", "127.0.0.1:53000")
						if err != nil {
							return err
						}
						defer c.Close()
						go io.WriteString(c, "GET /?st")
					}
					u, _ := url.Parse(location)
					r := strings.NewReplacer("{q}", u.RawQuery, "{state}", u.Query().Get("state"))
					request := r.Replace(tt.request)
					if _, body, ok := strings.Cut(request, "\r\n\r\n"); ok && body != "" { // its length has changed
						head, _, _ := strings.Cut(request, "Content-Length")
						request = fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
					}
					raw = h.send("127.0.0.1:53000", request)
					answer, _, _ = strings.Cut(raw, "\r\n")
					if tt.settles {
						return h.visit("http://localhost:53000")
					}
					time.Sleep(time.Minute)
					return h.visit(location)
				}
				start := time.Now()
				_, err := interactive(t, h, &MemoryCache{}, nil).Token(t.Context())
				if !strings.Contains(answer, tt.want) {
					t.Errorf("answered %s, want %s", answer, tt.want)
				}
				for _, header := range []string{"Cache-Control: no-store", "Referrer-Policy: no-referrer", "X-Content-Type-Options: nosniff", "Content-Security-Policy: default-src 'none'"} {
					if !strings.Contains(raw, header) {
						t.Errorf("no %s in %s", header, raw)
					}
				}
				if tt.settles && !strings.Contains(raw, "Location: http://localhost:53000\r\n") {
					t.Errorf("no clean address in %s", raw)
				}
				if d := time.Since(start); tt.settles != (d < time.Second) {
					t.Errorf("over after %v", d)
				}
				if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
					t.Errorf("%v, want %q", err, tt.err)
				}
				synctest.Wait()
				if !strings.Contains(h.page, tt.page) {
					t.Errorf("the page says %s, want %q", h.page, tt.page)
				}
				if h.net.open() != 0 {
					t.Error("a listener is left")
				}
			})
		})
	}
}

// TestPageClosed: a person who closes the browser too early is signed in all the same, two seconds later.
func TestPageClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.back = func(location string) error {
			u, _ := url.Parse(location)
			h.send("127.0.0.1:53000", "GET /?"+u.RawQuery+" HTTP/1.1\r\nHost: localhost:53000\r\n\r\n")
			return nil
		}
		start := time.Now()
		signedIn(t, interactive(t, h, &MemoryCache{}, nil))
		if d := time.Since(start); d != look+2*time.Second {
			t.Errorf("after %v", d)
		}
	})
}

// TestFirstAnswerCounts: what follows it changes nothing.
func TestFirstAnswerCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.back = func(location string) error {
			u, _ := url.Parse(location)
			h.send("127.0.0.1:53000", "GET /?"+u.RawQuery+" HTTP/1.1\r\nHost: localhost:53000\r\n\r\n")
			return h.visit("http://localhost:53000/?error=access_denied&iss=https://idp.test&state=" + u.Query().Get("state"))
		}
		signedIn(t, interactive(t, h, &MemoryCache{}, nil))
		synctest.Wait()
		if !strings.Contains(h.page, "You are signed in") {
			t.Error(h.page)
		}
	})
}

// TestBind: which addresses are listened on, and what is said if they are not to be had.
func TestBind(t *testing.T) {
	redirect := func(s string) func(*InteractiveConfig) {
		return func(c *InteractiveConfig) { c.RedirectURL = s }
	}
	for _, tt := range []struct {
		name   string
		net    *pipes
		change func(*InteractiveConfig)
		uri    string
		bound  int
		err    string
	}{
		{name: "both", uri: "http://localhost:53000", bound: 2},
		{name: "no IPv6", net: &pipes{noIPv6: true}, uri: "http://localhost:53000", bound: 1},
		{name: "busy", net: &pipes{busy: map[string]bool{"127.0.0.1:53000": true}}, err: "RedirectPort: port 53000 cannot"},
		{name: "busy on IPv6", net: &pipes{busy: map[string]bool{"[::1]:53000": true}}, err: "RedirectPort: port 53000 cannot"},
		{name: "port", change: func(c *InteractiveConfig) { c.RedirectPort = 8400 }, uri: "http://localhost:8400", bound: 2},
		{name: "IPv4 alone", change: redirect("http://127.0.0.1:8400/callback"), uri: "http://127.0.0.1:8400/callback", bound: 1},
		{name: "IPv6 alone", change: redirect("http://[::1]:8400/"), uri: "http://[::1]:8400/", bound: 1},
		{name: "a free one", change: redirect("http://127.0.0.1:0/callback"), uri: "http://127.0.0.1:40000/callback", bound: 1},
		{name: "a free one of both", change: redirect("http://localhost:0/"), uri: "http://localhost:40000/", bound: 2},
		{name: "a free one that is taken on IPv6", net: &pipes{busy: map[string]bool{"[::1]:40000": true}}, change: redirect("http://localhost:0/"), err: "RedirectURL: port 40000"},
		{name: "a free one at the tenth try", net: &pipes{unlucky: 9}, change: redirect("http://localhost:0/"), uri: "http://localhost:40000/", bound: 2},
		{name: "none at the tenth try", net: &pipes{unlucky: 10}, change: redirect("http://localhost:0/"), err: "RedirectURL: port 40000"},
		{name: "IPv6 alone, and there is none", net: &pipes{noIPv6: true}, change: redirect("http://[::1]:8400/"), err: "RedirectURL: port 8400"},
		{name: "busy, named by the URL", net: &pipes{busy: map[string]bool{"127.0.0.1:8400": true}}, change: redirect("http://127.0.0.1:8400"), err: "RedirectURL: port 8400"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &human{idp: idptest.New()}
				if tt.net != nil {
					h.net.noIPv6, h.net.busy, h.net.unlucky = tt.net.noIPv6, tt.net.busy, tt.net.unlucky
				}
				bound := 0
				h.back = func(location string) error {
					if bound = h.net.open(); bound == 0 {
						return errors.New("no listener")
					}
					return h.visit(location)
				}
				_, err := interactive(t, h, &MemoryCache{}, tt.change).Token(t.Context())
				if tt.err != "" {
					if err == nil || !strings.Contains(err.Error(), tt.err) || h.asked() > 0 {
						t.Errorf("%v, want %q; asked %d times", err, tt.err, h.asked())
					}
				} else if err != nil || h.last().Get("redirect_uri") != tt.uri || bound != tt.bound {
					t.Errorf("%v; redirect_uri %q on %d listeners, want %q on %d", err, h.last().Get("redirect_uri"), bound, tt.uri, tt.bound)
				}
				if h.net.open() != 0 {
					t.Error("a listener is left")
				}
			})
		})
	}
}

// TestPaste: where no browser opens, the person pastes the address.
func TestPaste(t *testing.T) {
	broken := func(c *InteractiveConfig) {
		c.OpenBrowser = func(context.Context, string) error { return errors.New("no display") }
	}
	// answered is the address that a browser elsewhere ends at.
	answered := func(h *human) string {
		told := h.told()
		address := strings.Fields(told[strings.Index(told, "https://idp.test/authorize"):])[0]
		c := h.idp.Client()
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, err := c.Get(address)
		if err != nil {
			return ""
		}
		return resp.Header.Get("Location")
	}
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		in, out := io.Pipe()
		go func() {
			time.Sleep(time.Minute)
			good := answered(h)
			u, _ := url.Parse(good)
			for _, line := range []string{u.Query().Get("code"), "", "http://localhost:53000/?code=x&state=y", "http://evil.test/?" + u.RawQuery, strings.Repeat("x", 9<<10), "  " + good + " "} {
				io.WriteString(out, line+"\r\n")
			}
		}()
		p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) { broken(c); c.Input = in })
		signedIn(t, p)
		if n := strings.Count(h.told(), "That is not the answer"); n != 5 {
			t.Errorf("%d of 5 wrong lines were refused: %s", n, h.told())
		}
		if strings.Contains(h.told(), "code=") || strings.Contains(h.told(), "code-") {
			t.Error("what was pasted is shown")
		}
	})
	t.Run("the callback comes all the same", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			in, out := io.Pipe()
			go func() { time.Sleep(time.Minute); h.visit(answered(h)) }()
			p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) { broken(c); c.Input = in })
			signedIn(t, p)
			// The read that is left over serves the next sign-in.
			p.SignOut(t.Context())
			h.mu.Lock()
			h.out.Reset()
			h.mu.Unlock()
			go func() { time.Sleep(time.Minute); io.WriteString(out, answered(h)+"\n") }()
			signedIn(t, p)
			if strings.Contains(h.told(), "That is not") {
				t.Error("the first line was lost")
			}
		})
	})
	t.Run("input ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			_, err := interactive(t, h, &MemoryCache{}, broken).Token(t.Context())
			if !errors.Is(err, ErrSignInRequired) || h.net.open() != 0 {
				t.Error(err)
			}
		})
	})
	t.Run("a browser that opens leaves the input alone", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			signedIn(t, interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) { c.Input = &untouched{t} }))
		})
	})
}

// TestStandardInput: it is read if it is a terminal, as far as that can be told, and nothing else.
func TestStandardInput(t *testing.T) {
	defer func(stdin *os.File) { os.Stdin = stdin }(os.Stdin)
	path := filepath.Join(t.TempDir(), "file")
	os.WriteFile(path, []byte("from a file\n"), 0o600)
	for name, want := range map[string]string{os.DevNull: "Input has ended", path: "Input is not there"} { // the first is a device for characters
		var err error
		if os.Stdin, err = os.Open(name); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			_, err = interactive(t, &human{idp: idptest.New()}, &MemoryCache{}, func(c *InteractiveConfig) {
				c.Input, c.OpenBrowser = nil, func(context.Context, string) error { return errors.New("no display") }
			}).Token(t.Context())
		})
		if os.Stdin.Close(); !errors.Is(err, ErrSignInRequired) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestHalfARequest: who sends no more than half of one is cut off, and the sign-in goes on.
func TestHalfARequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.back = func(location string) error {
			conn, err := h.net.dial(t.Context(), "", "127.0.0.1:53000")
			if err != nil {
				return err
			}
			start := time.Now()
			io.WriteString(conn, "GET / HT")
			if _, err := io.ReadAll(conn); err != nil || time.Since(start) != 10*time.Second {
				t.Errorf("cut off after %v: %v", time.Since(start), err)
			}
			return h.visit(location)
		}
		signedIn(t, interactive(t, h, &MemoryCache{}, nil))
	})
}

// TestLongLines: what is pasted has 8 KiB at most, and of more nothing is taken.
func TestLongLines(t *testing.T) {
	for _, tt := range []struct{ length, want int }{{0, 0}, {8 << 10, 8 << 10}, {8<<10 + 1, 0}, {9 << 10, 0}} {
		in := strings.NewReader(strings.Repeat("x", tt.length) + "\nnext\n")
		line, err := readLine(t.Context(), in)
		next, err2 := readLine(t.Context(), in)
		if len(line) != tt.want || next != "next" || errors.Join(err, err2) != nil {
			t.Errorf("%d of %d bytes, then %q; %v, %v", len(line), tt.length, next, err, err2)
		}
	}
}

type untouched struct{ t *testing.T }

func (u *untouched) Read([]byte) (int, error) { u.t.Error("Input was read"); return 0, io.EOF }

// TestIDToken: what is refused, before anything is kept.
func TestIDToken(t *testing.T) {
	now := func() int64 { return time.Now().Unix() }
	for name, tt := range map[string]struct {
		claims func(good map[string]any)
		raw    string
		err    string
	}{
		"good":                  {claims: func(c map[string]any) {}},
		"a list of one":         {claims: func(c map[string]any) { c["aud"] = []string{"app"} }},
		"azp":                   {claims: func(c map[string]any) { c["aud"] = []string{"app", "b"}; c["azp"] = "app" }},
		"expired within skew":   {claims: func(c map[string]any) { c["exp"] = now() - 290 }},
		"issuer":                {claims: func(c map[string]any) { c["iss"] = "https://evil.test" }, err: `issuer "https://evil.test"`},
		"no issuer":             {claims: func(c map[string]any) { delete(c, "iss") }, err: `issuer ""`},
		"slash":                 {claims: func(c map[string]any) { c["iss"] = "https://idp.test/" }, err: "issuer"},
		"audience":              {claims: func(c map[string]any) { c["aud"] = "b" }, err: "another client"},
		"audience of no kind":   {claims: func(c map[string]any) { c["aud"] = 1 }, err: "another client"},
		"no audience":           {claims: func(c map[string]any) { delete(c, "aud") }, err: "another client"},
		"two audiences, no azp": {claims: func(c map[string]any) { c["aud"] = []string{"app", "b"} }, err: "azp"},
		"another azp":           {claims: func(c map[string]any) { c["azp"] = "b" }, err: "azp"},
		"expired":               {claims: func(c map[string]any) { c["exp"] = now() - 310 }, err: "expired"},
		"just expired":          {claims: func(c map[string]any) { c["exp"] = now() - 300 }, err: "expired"},
		"no expiry":             {claims: func(c map[string]any) { delete(c, "exp") }, err: "expired"},
		"nonce":                 {claims: func(c map[string]any) { c["nonce"] = "x" }, err: "nonce"},
		"no nonce":              {claims: func(c map[string]any) { delete(c, "nonce") }, err: "nonce"},
		"no subject":            {claims: func(c map[string]any) { delete(c, "sub") }, err: "not an ID token"},
		"garbage":               {raw: "x.y.z", err: "not an ID token"},
		"two parts":             {raw: "x.e30", err: "not an ID token"},
		"four parts":            {raw: "x.e30.y.z", err: "not an ID token"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, cache := &human{idp: idptest.New()}, &MemoryCache{}
				h.idp.Fault(func(w http.ResponseWriter, r *http.Request) {
					raw := tt.raw
					if raw == "" {
						good := map[string]any{"iss": "https://idp.test", "sub": "s", "aud": "app", "exp": now() + 60, "nonce": h.last().Get("nonce"), "preferred_username": "a"}
						tt.claims(good)
						raw = idptest.IDToken(good)
					}
					idptest.JSON(200, map[string]any{"access_token": "tok", "refresh_token": "ref", "id_token": raw})(w, r)
				})
				_, err := interactive(t, h, cache, nil).Token(t.Context())
				blob, _ := cache.Get(t.Context())
				if tt.err == "" && (err != nil || len(blob) == 0) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || len(blob) > 0) {
					t.Errorf("%v, want %q; stored: %s", err, tt.err, blob)
				}
			})
		})
	}
}

// TestIDTokenOnRefresh keeps issuer and subject, and needs no nonce.
func TestIDTokenOnRefresh(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(map[string]any)
		err    string
	}{
		"good":    {change: func(map[string]any) {}},
		"issuer":  {change: func(c map[string]any) { c["iss"] = "https://idp.test/other" }, err: "is of issuer"},
		"subject": {change: func(c map[string]any) { c["sub"] = "sub-eve" }, err: "another user's"},
		"expired": {change: func(c map[string]any) { c["exp"] = 1 }, err: "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &human{idp: idptest.New()}
				cache := sample(t, h, "bob")
				time.Sleep(2 * time.Hour)
				claims := map[string]any{"iss": "https://idp.test", "sub": "sub-bob", "aud": "app", "exp": time.Now().Unix() + 60}
				tt.change(claims)
				h.idp.Fault(idptest.JSON(200, map[string]any{"access_token": "new", "refresh_token": "new", "id_token": idptest.IDToken(claims)}))
				_, err := interactive(t, h, cache, nil).Token(WithoutInteraction(t.Context()))
				if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
					t.Errorf("%v, want %q", err, tt.err)
				}
			})
		})
	}
}

// TestEntraStyle: warm starts that need no request, several names of a tenant, and no consent added.
func TestEntraStyle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tenant = "11111111-2222-3333-4444-555555555555"
		h, cache := &human{idp: idptest.New()}, &MemoryCache{}
		at := func(path string) func(*InteractiveConfig) {
			return func(c *InteractiveConfig) { c.Endpoint = Authority("https://idp.test/" + path) }
		}
		p := interactive(t, h, cache, at(tenant))
		signedIn(t, p)
		if ask := h.last(); ask.Get("prompt") != "" || ask.Get("client_info") != "1" {
			t.Errorf("asked with %v", ask)
		}
		before := len(h.idp.Requests(""))
		signedIn(t, interactive(t, h, cache, at(tenant)))
		if n := len(h.idp.Requests("")) - before; n != 0 {
			t.Errorf("%d requests at a warm start", n)
		}
		// The tenant by its domain name: the realm is what the metadata says.
		h.idp.Metadata(func(m map[string]any) { m["token_endpoint"] = "https://idp.test/" + tenant + "/oauth2/v2.0/token" })
		signedIn(t, interactive(t, h, cache, at("contoso.com")))
		if h.asked() != 1 {
			t.Error("a tenant's other name was asked to sign in")
		}
		// Another tenant has the refresh token of the account, as MSAL has it.
		h.idp.Metadata(nil)
		signedIn(t, interactive(t, h, cache, at("99999999-2222-3333-4444-555555555555")))
		if h.asked() != 1 || h.idp.Tokens() != 2 {
			t.Errorf("asked %d times, %d token requests", h.asked(), h.idp.Tokens())
		}
	})
}

// TestTemplateIssuer: Entra's metadata for several tenants.
func TestTemplateIssuer(t *testing.T) {
	m := &metadata{Issuer: "https://login.test/{tenantid}/v2.0"}
	for iss, want := range map[string]bool{"https://login.test/abc-1/v2.0": true, "https://login.test//v2.0": false, "https://login.test/a/b/v2.0": false,
		"https://login.test/a/v2.0/": false, "https://evil.test/a/v2.0": false, "https://login.test/v2.0": false} {
		if m.names(iss) != want {
			t.Errorf("%s: %v", iss, !want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.idp.Metadata(func(m map[string]any) { m["issuer"] = "https://idp.test/{tenantid}/v2.0" })
		for tid, ok := range map[string]bool{"abc": true, "": false} {
			h.idp.Fault(func(w http.ResponseWriter, r *http.Request) {
				idptest.JSON(200, map[string]any{"access_token": "tok", "id_token": idptest.IDToken(map[string]any{"iss": "https://idp.test/abc/v2.0", "sub": "s",
					"tid": tid, "aud": "app", "exp": time.Now().Unix() + 60, "nonce": h.last().Get("nonce")})})(w, r)
			})
			h.back = func(location string) error {
				return h.visit(strings.Replace(location, url.QueryEscape("https://idp.test/common/v2.0"), url.QueryEscape("https://idp.test/abc/v2.0"), 1))
			}
			_, err := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) { c.Endpoint = Authority("https://idp.test/common") }).Token(t.Context())
			if (err == nil) != ok {
				t.Errorf("tid %q: %v", tid, err)
			}
		}
	})
}

// TestCodeOfAnAnswerIsNeverScrubbed: programs decide on it, whatever else the answer repeats.
func TestCodeOfAnAnswerIsNeverScrubbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.back = func(location string) error {
			u, _ := url.Parse(location)
			q := u.Query()
			q.Set("error", "access_denied")
			q.Set("code", "access_denied at the gate")
			q.Set("error_description", "not with access_denied at the gate")
			u.RawQuery = q.Encode()
			return h.visit(u.String())
		}
		_, err := interactive(t, h, &MemoryCache{}, nil).Token(t.Context())
		synctest.Wait() // for the page
		oe := (*OAuthError)(nil)
		if !errors.As(err, &oe) || oe.Code != "access_denied" || strings.Contains(oe.Description, "gate") || !strings.Contains(h.page, "declined") {
			t.Errorf("%v; page: %s", err, h.page)
		}
	})
}
