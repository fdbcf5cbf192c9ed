package cdfauth

import (
	"bufio"
	"cdfauth/internal/idptest"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOpeners: what starts the browser, by system and environment. The URL is an argument of its own, at the end.
func TestOpeners(t *testing.T) {
	t.Parallel()
	rundll := []string{filepath.Join(`C:\Windows`, "System32", "rundll32.exe"), "url.dll,FileProtocolHandler"}
	sep := string(filepath.ListSeparator)
	for _, tt := range []struct {
		system, env string
		wsl         bool
		want        [][]string
	}{
		{"windows", `SystemRoot=C:\Windows`, false, [][]string{rundll}},
		{"darwin", "", false, [][]string{{"/usr/bin/open"}}},
		{"linux", "", false, nil}, // xdg-open would try text browsers, in the terminal of the program
		{"linux", "DISPLAY=:0", false, [][]string{{"xdg-open"}}},
		{"freebsd", "WAYLAND_DISPLAY=wayland-0", false, [][]string{{"xdg-open"}}},
		{"linux", "", true, [][]string{{"wslview"}, {"/mnt/c/Windows/System32/rundll32.exe", "url.dll,FileProtocolHandler"}}},
		{"linux", "DISPLAY=:0 BROWSER=firefox", false, [][]string{{"firefox"}}},
		{"linux", "BROWSER=first_--new_%s" + sep + sep + "second", true, [][]string{{"first", "--new"}, {"second"}}},
		{"darwin", "BROWSER=%s", false, [][]string{{"/usr/bin/open"}}},
	} {
		getenv := environment(tt.env)
		got := openers(tt.system, func(name string) string { return strings.ReplaceAll(getenv(name), "_", " ") }, tt.wsl)
		if tt.system == "freebsd" {
			got = openers(tt.system, getenv, tt.wsl)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s, %q, WSL %t: %s", tt.system, tt.env, tt.wsl, d)
		}
	}
}

// TestOpenBrowser: the browser gets the URL as it is, in one argument and through no shell; what fails is passed over; and no other URL
// than those of a sign-in is opened.
func TestOpenBrowser(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // no shell script runs there
	}
	dir := t.TempDir()
	browser, opened := filepath.Join(dir, "browser"), filepath.Join(dir, "opened")
	if err := os.WriteFile(browser, []byte("#!/bin/sh\nprintf '%s|' \"$@\" >\""+opened+"\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BROWSER", filepath.Join(dir, "missing")+":false:"+browser+" --new-window %s")
	const url = "https://idp.test/authorize?a=b&c=$(touch%20x)&d=;e`f`|'g'&redirect_uri=http%3A%2F%2Flocalhost"
	if err := openBrowser(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(opened); err != nil || string(b) != "--new-window|"+url+"|" {
		t.Errorf("opened was %q, %v", b, err)
	}
	if err := os.Remove(opened); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "file:///etc/passwd", "javascript:alert(1)", "http://idp.test/", "https://idp.test/ --flag", "--flag", "https://a:b@idp.test/"} {
		if err := openBrowser(t.Context(), bad); err == nil {
			t.Errorf("%q was opened", bad)
		}
	}
	t.Setenv("BROWSER", "false")
	if err := openBrowser(t.Context(), url); err == nil {
		t.Error("a browser that fails at once has opened nothing")
	}
	t.Setenv("BROWSER", "")
	t.Setenv("DISPLAY", "")
	t.Setenv("WAYLAND_DISPLAY", "")
	if v, _ := os.ReadFile("/proc/version"); runtime.GOOS == "linux" && !strings.Contains(strings.ToLower(string(v)), "microsoft") {
		if err := openBrowser(t.Context(), url); err == nil || !strings.Contains(err.Error(), "DISPLAY") {
			t.Errorf("without a display: %v", err)
		}
	}
	if _, err := os.Stat(opened); err == nil {
		t.Error("it was opened all the same")
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

// TestInteractiveConfigErrors: each names the field and says what is wanted.
func TestInteractiveConfigErrors(t *testing.T) {
	good := func() InteractiveConfig {
		return InteractiveConfig{Endpoint: Issuer("https://idp.test"), ClientID: "app", Options: Options{Cache: &MemoryCache{}}}
	}
	if _, err := NewInteractive(good()); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*InteractiveConfig)
		want   string
	}{
		"no endpoint":      {func(c *InteractiveConfig) { c.Endpoint = Endpoint{} }, "Endpoint is missing"},
		"token URL":        {func(c *InteractiveConfig) { c.Endpoint = TokenURL("https://idp.test/token") }, "TokenURL names too little"},
		"prompt":           {func(c *InteractiveConfig) { c.Prompt = "none" }, "want select_account, login, consent or none"},
		"both":             {func(c *InteractiveConfig) { c.RedirectPort, c.RedirectURL = 1, "http://localhost:1" }, "RedirectURL and RedirectPort are both set"},
		"port too big":     {func(c *InteractiveConfig) { c.RedirectPort = 65536 }, "RedirectPort has no port from 1 to 65535"},
		"port negative":    {func(c *InteractiveConfig) { c.RedirectPort = -1 }, "RedirectPort has no port from 1 to 65535"},
		"no port":          {func(c *InteractiveConfig) { c.RedirectURL = "http://localhost/" }, "RedirectURL has no port"},
		"https":            {func(c *InteractiveConfig) { c.RedirectURL = "https://localhost:1/" }, "RedirectURL is not http on a loopback host"},
		"not loopback":     {func(c *InteractiveConfig) { c.RedirectURL = "http://10.0.0.1:80/" }, "RedirectURL must be https (http only for a loopback host)"},
		"all interfaces":   {func(c *InteractiveConfig) { c.RedirectURL = "http://0.0.0.0:80/" }, "RedirectURL must be https (http only for a loopback host)"},
		"query":            {func(c *InteractiveConfig) { c.RedirectURL = "http://localhost:80/?a=b" }, "without a query"},
		"reserved":         {func(c *InteractiveConfig) { c.Params = url.Values{"state": {"x"}} }, `"state" is not for callers to set`},
		"no comparison":    {func(c *InteractiveConfig) { c.Input = readFunc(nil) }, "Input is a cdfauth.readFunc"},
		"no comparison in": {func(c *InteractiveConfig) { c.Input = struct{ io.Reader }{readFunc(nil)} }, "Input is a struct"}, // else a map panics later
	} {
		cfg := good()
		tt.change(&cfg)
		if _, err := NewInteractive(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if _, err := NewDeviceCode(DeviceCodeConfig{Endpoint: TokenURL("https://idp.test/token"), ClientID: "app"}); err == nil || !strings.Contains(err.Error(), "TokenURL names too little") {
		t.Error(err)
	}
}

// TestIDTokenOfDots: a JWT is not split without a limit (CVE-2025-22868, CVE-2025-30204).
func TestIDTokenOfDots(t *testing.T) {
	raw := strings.Repeat(".", 1<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := parseIDToken(raw); err == nil {
		t.Error("dots are an ID token")
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes were allocated for %d dots", n, len(raw))
	}
}

// TestOpenerIsAbsolute: no program of the current directory's is run, whatever the environment lacks.
func TestOpenerIsAbsolute(t *testing.T) {
	program := openers("windows", func(string) string { return "" }, false)[0][0]
	if name := strings.ReplaceAll(program, "/", `\`); !strings.HasPrefix(name, `C:\`) {
		t.Errorf("without SystemRoot, %s is run", program)
	}
}

// TestForgedCallbacks: a thousand forged answers, of every kind, race the one that is real, through real sockets, while as many
// connections as a rude program may open say nothing or little. None of them gets further than an error page, and the person is signed in.
func TestForgedCallbacks(t *testing.T) {
	const forged, silent = 1000, 100
	idp := idptest.New()
	var wg sync.WaitGroup
	var conns []net.Conn // which stay open until the sign-in is over
	var mu sync.Mutex
	var settled []string // forged requests that were sent on
	var page string
	open := func(_ context.Context, address string) error {
		u, err := url.Parse(address)
		if err != nil {
			return err
		}
		back, err := url.Parse(u.Query().Get("redirect_uri"))
		if err != nil {
			return err
		}
		c := idp.Client()
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, err := c.Get(address)
		if err != nil {
			return err
		}
		answer, err := url.Parse(resp.Header.Get("Location"))
		if err != nil {
			return err
		}
		for i := range silent {
			conn, err := net.Dial("tcp", back.Host)
			if err != nil {
				return err
			}
			io.WriteString(conn, "GET /back?state="[:i%17])
			conns = append(conns, conn)
		}
		start := make(chan bool)
		for i := range forged {
			q := url.Values{"state": {fmt.Sprint("forged", i)}, "code": {"evil"}, "iss": {idp.Issuer}}
			method, path, host := "GET", back.Path, back.Host
			switch i % 10 {
			case 0: // another length, another end
				q.Set("state", u.Query().Get("state")[:51])
			case 1:
				q.Set("state", u.Query().Get("state")[:51]+"-")
			case 2:
				q.Add("state", u.Query().Get("state"))
			case 3: // what is right but for one thing
				q, host = answer.Query(), "evil.test"
			case 4:
				q, path = answer.Query(), "/favicon.ico"
			case 5:
				q, method = answer.Query(), "HEAD"
			case 6:
				q = answer.Query()
				q.Add("code", "evil")
			case 7:
				q, method = answer.Query(), "POST" // in the query
			case 8:
				q.Del("state")
			}
			wg.Add(1)
			go func() {
				defer wg.Done()
				<-start
				status, _ := call(back.Host, method, host, path+"?"+q.Encode())
				if status != 0 && (status < 400 || status > 499) {
					mu.Lock()
					defer mu.Unlock()
					settled = append(settled, fmt.Sprint(status, " for ", method, " ", host, path, "?", q.Encode()))
				}
			}()
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			<-start
			if status, _ := call(back.Host, "GET", back.Host, answer.RequestURI()); status != http.StatusSeeOther {
				t.Errorf("the real one was answered %d", status)
			}
			_, b := call(back.Host, "GET", back.Host, back.Path)
			mu.Lock()
			defer mu.Unlock()
			page = b
		}()
		close(start)
		return nil
	}
	p, err := NewInteractive(InteractiveConfig{Endpoint: Issuer(idp.Issuer), ClientID: "app", Scopes: []string{"read"}, RedirectURL: "http://127.0.0.1:0/back",
		OpenBrowser: open, Output: io.Discard, Options: Options{Cache: &MemoryCache{}, HTTPClient: idp.Client()}})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := p.Token(t.Context())
	wg.Wait()
	for _, c := range conns {
		c.Close()
	}
	if err != nil || tok.Username() != "ada@example.com" || idp.Refused() != 0 {
		t.Errorf("%q signed in, %v; %d codes refused", tok.Username(), err, idp.Refused())
	}
	if len(settled) > 0 {
		t.Errorf("%d forged requests were taken, such as %s", len(settled), settled[0])
	}
	if !strings.Contains(page, "You are signed in") {
		t.Errorf("the person sees %q", page)
	}
	for _, r := range idp.Requests("/token") {
		if r.Form.Get("code") == "evil" {
			t.Error("a forged code was sent to the provider")
		}
	}
}

// call makes one request by hand, and returns the status, 0 if there is no answer, and the body.
func call(addr, method, host, target string) (int, string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, ""
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\n\r\n", method, target, host)
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}
