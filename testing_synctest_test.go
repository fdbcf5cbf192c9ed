//go:build go1.25

package cdfauth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// pipes is a network within the process, for bubbles, whose clock stands still while a
// goroutine waits for a real socket.
type pipes struct {
	mu        sync.Mutex
	listeners map[string]*pipeListener
	noIPv6    bool
	busy      map[string]bool
	unlucky   int // how many more times a port that is free on IPv4 is taken on IPv6
}

// A pipeListener is a net.Listener on pipes.
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
	if taken := p.unlucky > 0 && host == "::1" && port != "0"; taken || p.busy[addr] ||
		p.listeners[addr] != nil {
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

// open returns how many listeners there are.
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

func (a pipeAddr) String() string { return string(a) }

// A human sits at a browser and a terminal. The browser follows each address that it is
// told to open, and then the redirect of the identity provider: back does so, and visit
// if back is nil.
type human struct {
	idp  *idptest.Provider
	net  pipes // where the listener is
	mu   sync.Mutex
	asks []url.Values // the queries of the authorization requests
	page string       // the address and the text of the last page
	back func(location string) error
	out  strings.Builder // what the terminal shows
}

// open is an OpenBrowser.
func (h *human) open(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.asks = append(h.asks, u.Query())
	h.mu.Unlock()
	go func() { // whoever opens a browser does not wait for it
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

// visit gets a page from the listener, and follows redirects as a browser does.
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

// closesThePage is the back of a person who does not let the browser go back.
func closesThePage(string) error { return nil }

// asked returns how often the browser was opened.
func (h *human) asked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.asks)
}

// last returns the query of the last authorization request.
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

// told returns what the terminal shows.
func (h *human) told() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out.String()
}

// interactive returns a provider for the browser's flow of h, who signs in at once.
func interactive(
	t *testing.T, h *human, cache Cache, change func(*InteractiveConfig),
) *Interactive {
	t.Helper()
	cfg := InteractiveConfig{Endpoint: Issuer(h.idp.Issuer), ClientID: "app", Scopes: []string{"read"},
		OpenBrowser: h.open, Output: h,
		Input:   bufio.NewReader(strings.NewReader("")),
		Options: Options{Cache: cache, HTTPClient: h.idp.Client()}}
	if change != nil {
		change(&cfg)
	}
	p, err := NewInteractive(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.flow().listen = h.net.listen
	return p
}

// device returns a provider for the device flow, and the codes that it has shown.
func device(
	t *testing.T, idp *idptest.Provider, cache Cache, change func(*DeviceCodeConfig),
) (*DeviceCode, *[]DeviceAuthorization) {
	t.Helper()
	var shown []DeviceAuthorization
	cfg := DeviceCodeConfig{Endpoint: Issuer(idp.Issuer), ClientID: "app", Scopes: []string{"read"},
		ShowCode: func(_ context.Context, a DeviceAuthorization) error {
			shown = append(shown, a)
			return nil
		},
		Options: Options{Cache: cache, HTTPClient: idp.Client()}}
	if change != nil {
		change(&cfg)
	}
	p, err := NewDeviceCode(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p, &shown
}

// signedIn returns a token of p. Its caller may leave, when the test ends.
func signedIn(t *testing.T, p Provider) Token {
	t.Helper()
	tok, err := p.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// merge adds what other has, unless c has something newer under the same key. It tells
// whether that has changed anything.
func (c msalCache) merge(other msalCache) (changed bool) {
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

// sample returns a cache with the sign-ins of these people. What h was asked for it is
// forgotten.
func sample(t *testing.T, h *human, names ...string) *MemoryCache {
	t.Helper()
	all := msalCache{}
	for _, name := range names {
		var cache MemoryCache
		h.idp.Person = func(url.Values) (string, bool) { return name, true }
		signedIn(t, interactive(t, h, &cache, nil))
		blob, _ := cache.Get(t.Context())
		c, err := parseMSALCache(blob)
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

// expiredSignIn returns a person, and a sample of long ago: each access token has
// expired, and the next one comes by the refresh token.
func expiredSignIn(t *testing.T, names ...string) (*human, *MemoryCache) {
	t.Helper()
	h := &human{idp: idptest.New()}
	cache := sample(t, h, names...)
	time.Sleep(2 * time.Hour)
	return h, cache
}

// A desk is where people sign in by one of the two flows, as often as they are asked.
type desk struct {
	*human
	flow  string
	who   string       // the user name of the person at the desk
	asked atomic.Int32 // how often somebody has signed in
	log   bytes.Buffer
}

const ada = "ada@example.com"

func newDesk(flow string) *desk {
	d := &desk{human: &human{idp: idptest.New()}, flow: flow, who: ada}
	d.idp.Person = func(url.Values) (string, bool) { d.asked.Add(1); return d.who, true }
	d.idp.Codes = func(string) (string, bool) { d.asked.Add(1); return d.who, true }
	return d
}

var userFlows = []string{"device", "interactive"}

// start returns the provider of a program that starts.
func (d *desk) start(t *testing.T, c Cache) Provider {
	t.Helper()
	return d.userFlowWithHint(t, c, "")
}

// content returns the content of a cache after somebody has signed in.
func (d *desk) content(t *testing.T, username string) []byte {
	t.Helper()
	d.who = username
	defer func() { d.who = ada }()
	var cache MemoryCache
	if tok := signedIn(t, d.start(t, &cache)); tok.Username() != username {
		t.Fatalf("%q signed in", tok.Username())
	}
	b, err := cache.Get(t.Context())
	must(t, err)
	return b
}

// wantAda gets a token, which has to be ada's, and wants somebody to have signed in that
// many times so far.
func (d *desk) wantAda(t *testing.T, p Provider, asked int32) Token {
	t.Helper()
	tok := signedIn(t, p)
	if n := d.asked.Load(); tok.Username() != ada || n != asked || d.idp.Refused() != 0 {
		t.Fatalf("a token of %q, after %d sign-ins; %d refused; want ada's after %d", tok.Username(), n,
			d.idp.Refused(), asked)
	}
	return tok
}

// waitFor is mustToken for goroutines, which must not call t.Fatal.
func (d *desk) waitFor(t *testing.T, p Provider) Token {
	tok, err := p.Token(context.Background())
	if err != nil {
		t.Error(err)
	}
	return tok
}

// answers is a transport at which the device authorization endpoint answers with a body.
type answers struct {
	base http.RoundTripper
	body string
}

func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasSuffix(r.URL.Path, "/devicecode") {
		w := httptest.NewRecorder()
		idptest.Body(a.body)(w, r)
		return w.Result(), nil
	}
	return a.base.RoundTrip(r)
}

// send sends one request to the listener as it is, and returns the answer as it came.
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

// bubble runs f on simulated time, with an application's provider. A bubble ends only
// when every goroutine in it has ended, so that each test in one also shows that no
// goroutine outlives its flight.
func bubble(t *testing.T, f func(t *testing.T, idp *idptest.Provider, p *ClientCredentials)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		idp := idptest.New()
		f(t, idp, newTestProvider(t, idp, nil))
	})
}

// runInBubble is t.Run on simulated time.
func runInBubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// elapse returns how long f took.
func elapse(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// get calls Token, wants a token, and returns it with how long that took.
func get(t *testing.T, p Provider) (Token, time.Duration) {
	t.Helper()
	var tok Token
	var err error
	d := elapse(func() { tok, err = p.Token(t.Context()) })
	if err != nil {
		t.Fatalf("Token: %v", err)
	}
	return tok, d
}

// until sleeps until d before the token's expiry.
func until(tok Token, d time.Duration) { time.Sleep(time.Until(tok.Expiry()) - d) }

// wantUntilItExpires wants this token whenever one is asked for, until it has expired.
func wantUntilItExpires(t *testing.T, p Provider, tok Token, every time.Duration) {
	t.Helper()
	for time.Until(tok.Expiry()) > 0 {
		if got, _ := get(t, p); !got.Equal(tok) {
			t.Fatalf("another token %v before its expiry", time.Until(tok.Expiry()))
		}
		time.Sleep(every)
	}
}

type ctxKey struct{}

// A person is a refresher with a silent phase, which fails, and one that asks, which waits
// for an answer.
type person struct {
	silent, asked int           // how often each phase was entered
	stopped       time.Duration // how long the person had been asked when it was called off
	answer        chan grant
	silentFor     time.Duration // how long the silent phase takes
	*refresher
}

func newPerson() *person {
	p := &person{answer: make(chan grant), refresher: newRefresher("test", Options{})}
	p.refresher.silent = func(ctx context.Context) (grant, error) {
		p.silent++
		time.Sleep(p.silentFor)
		return grant{}, fmt.Errorf("%w: no refresh token", ErrSignInRequired)
	}
	p.refresher.ask = func(ctx context.Context) (grant, error) {
		p.asked++
		start := time.Now()
		select {
		case i := <-p.answer:
			return i, nil
		case <-ctx.Done():
			p.stopped = time.Since(start)
			return grant{}, ctx.Err()
		}
	}
	return p
}

// issue returns a token that was asked for now.
func issue(t *testing.T, token string, life time.Duration) grant {
	t.Helper()
	now := time.Now().Round(0)
	tok, err := NewToken(token, now.Add(life))
	if err != nil {
		t.Fatal(err)
	}
	return grant{token: tok, sent: now}
}

// refreshTokensIn returns how many refresh tokens a cache has.
func refreshTokensIn(t *testing.T, cache Cache) int {
	t.Helper()
	return len(keysOf(read(t, cache), refreshTokens))
}

// at sets the endpoint of interactive, and its scopes if there are any.
func at(ep Endpoint, scopes ...string) func(*InteractiveConfig) {
	return func(c *InteractiveConfig) {
		if c.Endpoint = ep; scopes != nil {
			c.Scopes = scopes
		}
	}
}

// mended is a FileCache whose content another program, which takes no lock, completes just
// after a provider has found it unreadable.
type mended struct {
	*FileCache
	good []byte // the whole content
}

func (c *mended) Update(ctx context.Context, f updateFunc) error {
	err := c.FileCache.Update(ctx, f)
	if errors.Is(err, errCacheContent) && c.good != nil {
		err = errors.Join(err, os.WriteFile(c.path, c.good, 0o600))
		c.good = nil
	}
	return err
}

// In FIPS 140 mode a random generator that is made in a bubble fails. The first random
// number is drawn here, outside of any bubble (see TestMain).
func init() { rand.Text() }
