package cdfauth

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cdfauth/internal/idptest"
)

// Each benchmark is to be read against a floor of the same run: what the same thing costs
// if it is written by hand, without any coordination.
//
//	go test -run xxx -bench . -cpu 1,2 -count 6 .

// repeat returns a benchmark of call.
func repeat(call func() error) func(*testing.B) {
	return func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := call(); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// held1200 returns a provider that holds a token of 1200 characters, as Entra's have.
func held1200(b *testing.B) *ClientCredentials {
	b.Helper()
	idp := idptest.New()
	idp.Always(idptest.Body(`{"access_token":"` + strings.Repeat("x", 1200) + `","expires_in":3600}`))
	p := newTestProvider(b, idp, nil)
	if _, err := p.Token(context.Background()); err != nil {
		b.Fatal(err)
	}
	return p
}

// floor is a token behind an atomic pointer.
type floor struct {
	p atomic.Pointer[struct {
		token  string
		expiry time.Time
	}]
}

//go:noinline
func (f *floor) Token(context.Context) (string, error) {
	if t := f.p.Load(); t != nil && time.Now().Before(t.expiry) {
		return t.token, nil
	}
	return "", io.EOF
}

func newFloor() *floor {
	f := &floor{}
	f.p.Store(&struct {
		token  string
		expiry time.Time
	}{"x", time.Now().Round(0).Add(time.Hour)})
	return f
}

// BenchmarkCached measures a call of Token that has a good token in memory. The floor reads
// an atomic pointer.
func BenchmarkCached(b *testing.B) {
	ctx := context.Background()
	p, f := held1200(b), newFloor()
	parallel := func(call func() error) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if call() != nil {
						b.Error()
					}
				}
			})
		}
	}
	token := func() error { _, err := p.Token(ctx); return err }
	bare := func() error { _, err := f.Token(ctx); return err }
	b.Run("serial/floor", repeat(bare))
	b.Run("serial/Token", repeat(token))
	b.Run("parallel/floor", parallel(bare))
	b.Run("parallel/Token", parallel(token))
}

// BenchmarkSetAuthHeader measures a call of Token and the header that is made of it.
func BenchmarkSetAuthHeader(b *testing.B) {
	p := held1200(b)
	ctx := context.Background()
	r, _ := http.NewRequest("GET", "http://127.0.0.1/", nil)
	b.ReportAllocs()
	for b.Loop() {
		t, err := p.Token(ctx)
		if err != nil {
			b.Fatal(err)
		}
		t.SetAuthHeader(r)
	}
}

// BenchmarkTransport measures what a Transport adds to a request. The floor is the
// RoundTripper below it.
func BenchmarkTransport(b *testing.B) {
	p := held1200(b)
	resp := &http.Response{StatusCode: 200, Body: http.NoBody}
	nop := tripper(func(*http.Request) (*http.Response, error) { return resp, nil })
	r, _ := http.NewRequest("GET", "https://greenfield.cognitedata.com/api/v1/projects/x/assets", nil)
	r.Header.Set("User-Agent", "x")
	for name, rt := range map[string]http.RoundTripper{"floor": nop,
		"Transport": &Transport{Provider: p, Origin: ClusterURL("greenfield"), Base: nop}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := rt.RoundTrip(r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// coldServer answers every token request with a token of 1200 characters.
func coldServer(b *testing.B) *httptest.Server {
	body := `{"token_type":"Bearer","expires_in":3600,"access_token":"` + strings.Repeat("x",
		1200) + `"}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, body)
	}))
	b.Cleanup(s.Close)
	return s
}

// post sends a token request by hand, with nothing but a time limit.
func post(c *http.Client, tokenURL string, form url.Values) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "POST", tokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var v struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	if resp.StatusCode != 200 || v.AccessToken == "" {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// BenchmarkColdFetch measures a call of Token that has no token in memory, and so sends a
// request to a server on loopback. The floor sends the same request by hand.
func BenchmarkColdFetch(b *testing.B) {
	s := coldServer(b)
	hc := &http.Client{Transport: &http.Transport{}}
	p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL(s.URL),
		ClientID: "client", ClientSecret: SecretString("s3cret"),
		Scopes: ClusterScopes("greenfield"), Options: Options{HTTPClient: hc}})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("floor", repeat(func() error {
		return post(hc, s.URL,
			url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"},
				"client_secret": {"s3cret"}, "scope": {"https://greenfield.cognitedata.com/.default"}})
	}))
	cold := func(ctx context.Context) error {
		p.refresher.forget() // the token of the call before
		_, err := p.Token(ctx)
		return err
	}
	b.Run("Token", repeat(func() error { return cold(context.Background()) }))
	// A caller whose context can end may leave before the answer, so that the flight has a
	// goroutine of its own.
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.Run("TokenCancellable", repeat(func() error { return cold(ctx) }))
}

// BenchmarkMemory measures how much memory a provider at rest has, without its token, and
// how many goroutines.
func BenchmarkMemory(b *testing.B) {
	const n = 10_000
	idp := idptest.New()
	body := idptest.Body(`{"access_token":"` + strings.Repeat("x", 1200) + `","expires_in":3600}`)
	hc := &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
		w := httptest.NewRecorder()
		body(w, r)
		return w.Result(), nil
	})}
	secret := SecretString("s3cret")
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for b.Loop() {
		keep := make([]*ClientCredentials, n)
		before, goroutines := heap(), runtime.NumGoroutine()
		for i := range keep {
			p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL(idp.Issuer + "/token"),
				ClientID: fmt.Sprintf("client-%06d", i), ClientSecret: secret,
				Scopes:  []string{"https://greenfield.cognitedata.com/.default"},
				Options: Options{HTTPClient: hc}})
			if err == nil {
				_, err = p.Token(context.Background())
			}
			if err != nil {
				b.Fatal(err)
			}
			keep[i] = p
		}
		b.ReportMetric(float64(heap()-before)/n-1200, "B/provider")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "goroutines")
		runtime.KeepAlive(keep)
	}
}

// TestHotPathAllocatesNothing: programs call Token for each request to the API. With a good
// token in memory, a call allocates nothing, on whatever machine, and setting the header
// allocates at most once.
func TestHotPathAllocatesNothing(t *testing.T) {
	p := newTestProvider(t, idptest.New(), nil)
	ctx := context.Background()
	tok, err := p.Token(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { p.Token(ctx) }); n != 0 {
		t.Errorf("Token: %v allocations", n)
	}
	r, _ := http.NewRequest("GET", "https://x/", nil)
	if n := testing.AllocsPerRun(100, func() { tok.SetAuthHeader(r) }); n > 1 {
		t.Errorf("SetAuthHeader: %v allocations", n)
	}
	if _, value := tok.AuthorizationHeader(); r.Header.Get("Authorization") != value {
		t.Errorf("header %q", r.Header.Get("Authorization"))
	}
}

// BenchmarkFileCacheGet measures Get of a FileCache. The floor reads the same file by hand.
func BenchmarkFileCacheGet(b *testing.B) {
	c := fileCache(b)
	content, _ := json.Marshal(map[string]string{"secret": strings.Repeat("x", 8<<10)})
	put(b, c, string(content))
	b.Run("Get", repeat(func() error {
		_, err := c.Get(context.Background())
		return err
	}))
	b.Run("ReadFile", repeat(func() error {
		_, err := os.ReadFile(c.path)
		return err
	}))
}

// BenchmarkAssertion measures how an assertion is made, once for each exchange. The floor is
// its signature alone.
func BenchmarkAssertion(b *testing.B) {
	key := parseTestKey(b, "rsa-pkcs8.pem").(*rsa.PrivateKey)
	text := testKey(b, "rsa-pkcs8.pem") + pemOf(issueCert(b, "leaf", key, nil, nil, nil))
	s := newTestSigner(b, ClientCertificateConfig{Certificate: SecretString(text)})
	b.Run("floor", repeat(func() error {
		signByHand(b, key, nil)
		return nil
	}))
	b.Run("assertion", repeat(func() error {
		_, err := s.assertion(b.Context(), entraURL)
		return err
	}))
}

func signByHand(b *testing.B, key *rsa.PrivateKey, input []byte) []byte {
	digest := sha256.Sum256(input)
	signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:],
		&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	if err != nil {
		b.Fatal(err)
	}
	return signature
}

// BenchmarkClientCertificate measures a whole exchange with a certificate. The floor sends
// the same request by hand.
func BenchmarkClientCertificate(b *testing.B) {
	s := coldServer(b)
	hc := &http.Client{Transport: &http.Transport{}}
	key := parseTestKey(b, "rsa-pkcs8.pem").(*rsa.PrivateKey)
	thumbprint := strings.Repeat("0f", 32)
	p, err := NewClientCertificate(ClientCertificateConfig{Endpoint: TokenURL(s.URL),
		ClientID: "client", Certificate: SecretString(testKey(b, "rsa-pkcs8.pem")),
		Thumbprint: thumbprint, Scopes: ClusterScopes("greenfield"), Options: Options{HTTPClient: hc}})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("floor", repeat(func() error {
		now := time.Now().Unix()
		header, _ := json.Marshal(map[string]string{"alg": "PS256", "typ": "JWT",
			"x5t#S256": thumbprint[:43]})
		claims, _ := json.Marshal(map[string]any{"iss": "client", "sub": "client", "aud": s.URL,
			"jti": rand.Text(), "iat": now, "exp": now + 600})
		jwt := base64.RawURLEncoding.EncodeToString(header) + "." +
			base64.RawURLEncoding.EncodeToString(claims)
		jwt += "." + base64.RawURLEncoding.EncodeToString(signByHand(b, key, []byte(jwt)))
		return post(hc, s.URL,
			url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"},
				"scope":                 {"https://greenfield.cognitedata.com/.default"},
				"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
				"client_assertion":      {jwt}})
	}))
	b.Run("Token", repeat(func() error {
		p.refresher.forget() // the token of the call before
		_, err := p.Token(b.Context())
		return err
	}))
}

// BenchmarkWarmStart measures a start with a token in the cache. The floor reads and parses
// the same file.
func BenchmarkWarmStart(b *testing.B) {
	idp := idptest.New()
	path := filepath.Join(b.TempDir(), "cache.bin")
	blob, err := os.ReadFile("testdata/msal-cache/entra-interactive.bin")
	if err != nil {
		b.Fatal(err)
	}
	os.WriteFile(path, blob, 0o600)
	cache, _ := NewFileCache(path)
	mustToken(b, cachedProvider(b, idp, cache, nil))
	b.Run("floor", repeat(func() error {
		blob, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var v map[string]map[string]map[string]any
		return json.Unmarshal(blob, &v)
	}))
	b.Run("Token", repeat(func() error {
		mustToken(b, cachedProvider(b, idp, cache, nil))
		return nil
	}))
	if n := idp.Tokens(); n != 1 {
		b.Errorf("%d token requests, want 1", n)
	}
}

// A delayedListener has connections on which everything arrives later than it was sent, by
// delay in either direction. Opening one takes a round trip as well.
type delayedListener struct{ net.Listener }

const delay = 25 * time.Millisecond

func (l delayedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	in, fromClient := io.Pipe()
	fromServer, out := io.Pipe()
	d := &delayedConn{Conn: c, in: in, out: out}
	// SYN and SYN-ACK have crossed by the time that the client's first bytes set out.
	go carry(fromClient, c, 2*delay)
	go func() {
		carry(c, fromServer, 0)
		c.Close()
	}()
	return d, nil
}

// carry copies each piece that it reads after delay, and the first one after delay and more.
func carry(to io.Writer, from io.Reader, more time.Duration) {
	type piece struct {
		data []byte
		at   time.Time
	}
	pieces := make(chan piece, 1000)
	go func() {
		defer close(pieces)
		for start := time.Now(); ; {
			data := make([]byte, 32<<10)
			n, err := from.Read(data)
			if err != nil {
				return
			}
			at := time.Now().Add(delay)
			if earliest := start.Add(delay + more); at.Before(earliest) {
				at = earliest
			}
			pieces <- piece{data[:n], at}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.at))
		if _, err := to.Write(p.data); err != nil {
			break
		}
	}
	if c, ok := to.(io.Closer); ok {
		c.Close()
	}
}

type delayedConn struct {
	net.Conn
	in  *io.PipeReader
	out *io.PipeWriter
}

func (c *delayedConn) Read(b []byte) (int, error)       { return c.in.Read(b) }
func (c *delayedConn) Write(b []byte) (int, error)      { return c.out.Write(b) }
func (c *delayedConn) SetDeadline(time.Time) error      { return nil }
func (c *delayedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *delayedConn) SetWriteDeadline(time.Time) error { return nil }

func (c *delayedConn) Close() error {
	c.in.Close()
	return c.out.Close()
}

// BenchmarkFirstToken measures the time until a provider that has just been made has a
// token, over a network with a round trip of 50 ms. The floor is a plain http.Client that
// sends the same requests. Like the package's, it opens another connection after a request
// that has carried a secret, and waits as long before it polls.
func BenchmarkFirstToken(b *testing.B) {
	for _, tt := range firstTokens(b) {
		s := newCounted(b, nil, func(l net.Listener) net.Listener { return delayedListener{l} })
		b.Run(tt.name+"/floor", func(b *testing.B) {
			s.idp.Always(idptest.Body(`{"access_token":"tok","expires_in":3600}`))
			for b.Loop() {
				if err := plainly(s.URL, tt); err != nil {
					b.Fatal(err)
				}
			}
		})
		s.idp.Always(nil)
		b.Run(tt.name+"/Token", func(b *testing.B) {
			for b.Loop() {
				p, err := tt.provider(s)
				if err != nil {
					b.Fatal(err)
				}
				mustToken(b, p)
			}
		})
	}
}

// drain reads an answer to its end, so that its connection can be used again.
func drain(resp *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// plainly sends the requests of a way to a first token by hand.
func plainly(issuer string, tt firstToken) error {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: transport}
	if tt.requests > 1 {
		if err := drain(c.Get(issuer + wellKnown)); err != nil {
			return err
		}
	}
	form := url.Values{"client_id": {"app"}, "client_secret": {"s3cret"}}
	if tt.requests > 2 {
		if err := drain(c.PostForm(issuer+"/devicecode", form)); err != nil {
			return err
		}
		transport.CloseIdleConnections()
		time.Sleep(time.Second)
	}
	return post(c, issuer+"/token", form)
}
