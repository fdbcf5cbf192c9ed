// Package idptest is the embedded identity provider that tests and the example
// share: a token endpoint, discovery, faults on demand, and a small API that
// takes the tokens. It is no security software.
package idptest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// Provider is an identity provider in memory. Its fields are set before use;
// its methods are safe for concurrent use.
type Provider struct {
	Issuer   string                    // its base URL
	Clients  map[string]string         // secrets by client id
	Keys     map[string]*rsa.PublicKey // of clients that sign assertions
	Lifetime time.Duration             // of access tokens

	// What people do; see user.go.
	Person     func(asked url.Values) (username string, ok bool) // who signs in at the authorization endpoint; nil: ada@example.com
	Codes      func(userCode string) (username string, ok bool)  // who enters a device code; nil: ada@example.com, at once
	Interval   time.Duration                                     // between polls for a device code; 0: 5 s
	NoRotation bool                                              // refresh tokens stay

	mu       sync.Mutex
	requests []Request
	faults   []http.HandlerFunc
	always   http.HandlerFunc
	inFlight int
	peak     int
	tokens   map[string]grant
	metadata func(map[string]any)
	people
}

// Request is a request that the provider got.
type Request struct {
	Method, Path  string
	Form          url.Values // of the body
	Authorization string
	Header        http.Header
	At            time.Time
}

type grant struct {
	client, scope string
	expiry        time.Time
}

// New returns a provider at https://idp.test that knows the client "client"
// with the secret "s3cret/of+the client" and gives out tokens for an hour.
func New() *Provider {
	return &Provider{
		Issuer:   "https://idp.test",
		Clients:  map[string]string{"client": "s3cret/of+the client"},
		Lifetime: time.Hour,
		tokens:   map[string]grant{},
	}
}

// Listen serves p and an API on a loopback port each, until close is called.
// It sets Issuer.
func (p *Provider) Listen() (api string, close func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	a, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.Close()
		return "", nil, err
	}
	p.Issuer = "http://" + l.Addr().String()
	s1, s2 := &http.Server{Handler: p}, &http.Server{Handler: p.API()}
	go s1.Serve(l)
	go s2.Serve(a)
	return "http://" + a.Addr().String(), func() { s1.Close(); s2.Close() }, nil
}

// Client returns an http.Client whose requests go to p whatever their host,
// through no socket: it works within synctest's bubbles.
func (p *Provider) Client() *http.Client { return &http.Client{Transport: memory{p}} }

type memory struct{ h http.Handler }

func (m memory) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		defer r.Body.Close()
	}
	w := httptest.NewRecorder()
	m.h.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// Fault answers the next token requests by these handlers, one each; nil is a
// proper answer.
func (p *Provider) Fault(h ...http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, h...)
}

// Always answers all token requests by h, or properly again if h is nil.
func (p *Provider) Always(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.always = h
}

// Metadata changes what discovery answers.
func (p *Provider) Metadata(change func(map[string]any)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.metadata = change
}

// Requests returns the requests to paths that end in suffix.
func (p *Provider) Requests(suffix string) []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.requests), func(r Request) bool { return !strings.HasSuffix(r.Path, suffix) })
}

// Tokens returns how many token requests there were.
func (p *Provider) Tokens() int { return len(p.Requests("/token")) }

// Peak returns the most token requests that were under way at once.
func (p *Provider) Peak() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peak
}

// Revoke makes the API refuse every token given out so far.
func (p *Provider) Revoke() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.tokens)
}

func (p *Provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.ParseForm()
	p.mu.Lock()
	p.requests = append(p.requests, Request{r.Method, r.URL.Path, r.PostForm, r.Header.Get("Authorization"), r.Header.Clone(), time.Now()})
	p.mu.Unlock()
	switch {
	case strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration"):
		p.serveMetadata(w, r)
	case strings.HasSuffix(r.URL.Path, "/authorize"):
		p.serveAuthorize(w, r)
	case strings.HasSuffix(r.URL.Path, "/devicecode") && r.Method == http.MethodPost:
		p.serveDevice(w, r)
	case strings.HasSuffix(r.URL.Path, "/token") && r.Method == http.MethodPost:
		p.serveToken(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (p *Provider) serveMetadata(w http.ResponseWriter, r *http.Request) {
	m := p.document(r.URL.Path)
	p.mu.Lock()
	change := p.metadata
	p.mu.Unlock()
	if change != nil {
		change(m)
	}
	JSON(200, m)(w, nil)
}

func (p *Provider) serveToken(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.inFlight++
	p.peak = max(p.peak, p.inFlight)
	h := p.always
	if len(p.faults) > 0 {
		h, p.faults = p.faults[0], p.faults[1:]
	}
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		p.inFlight--
		p.mu.Unlock()
	}()
	if h != nil {
		h(w, r)
		return
	}
	if p.serveUser(w, r) {
		return
	}
	id, secret := r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	if user, pass, ok := r.BasicAuth(); ok {
		id, _ = url.QueryUnescape(user)
		secret, _ = url.QueryUnescape(pass)
	}
	want, ok := p.Clients[id]
	ok = ok && secret == want
	if key := p.Keys[id]; key != nil {
		ok = p.signed(id, key, r.PostForm.Get("client_assertion"))
	}
	if !ok {
		Error(401, "invalid_client", "unknown client or wrong secret")(w, r)
		return
	}
	if r.PostForm.Get("grant_type") != "client_credentials" {
		Error(400, "unsupported_grant_type", "")(w, r)
		return
	}
	JSON(200, p.issue(id, r.PostForm.Get("scope")))(w, r)
}

// signed checks an assertion (RFC 7523 §3) by the rules that Entra has: PS256,
// and the token endpoint for an audience.
func (p *Provider) signed(id string, key *rsa.PublicKey, jwt string) bool {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return false
	}
	var header struct{ Alg string }
	var claims struct {
		Iss, Sub, Aud, Jti string
		Exp                int64
	}
	decode := func(s string, v any) bool {
		b, err := base64.RawURLEncoding.DecodeString(s)
		return err == nil && json.Unmarshal(b, v) == nil
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	return err == nil && decode(parts[0], &header) && decode(parts[1], &claims) && header.Alg == "PS256" &&
		claims.Iss == id && claims.Sub == id && strings.HasPrefix(claims.Aud, p.Issuer) && claims.Jti != "" && time.Now().Unix() < claims.Exp &&
		rsa.VerifyPSS(key, crypto.SHA256, digest[:], signature, nil) == nil
}

// NewCertificate makes a key with a certificate for an application, as PEM.
func NewCertificate() (*rsa.PublicKey, string, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, "", err
	}
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "my application"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		return nil, "", err
	}
	p8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, "", err
	}
	return &key.PublicKey, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p8})) + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})), nil
}

func (p *Provider) issue(client, scope string) map[string]any {
	token := "tok-" + rand.Text()
	p.mu.Lock()
	p.tokens[token] = grant{client, scope, time.Now().Add(p.Lifetime)}
	p.mu.Unlock()
	m := map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": int(p.Lifetime / time.Second)}
	if scope != "" {
		m["scope"] = scope
	}
	return m
}

// API returns a small API that takes the tokens given out by p, and answers
// 401 without one.
func (p *Provider) API() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		g, ok := p.tokens[strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")]
		p.mu.Unlock()
		if !ok || time.Now().After(g.expiry) {
			JSON(401, map[string]any{"error": map[string]any{"code": 401, "message": "Unauthorized"}})(w, r)
			return
		}
		JSON(200, map[string]any{"subject": g.client, "projects": []map[string]any{{"projectUrlName": "demo", "groups": []int{1}}}})(w, r)
	})
}

// JSON is an answer of the given status.
func JSON(status int, body any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(body)
	}
}

// Error is an OAuth error (RFC 6749 §5.2).
func Error(status int, code, description string) http.HandlerFunc {
	return JSON(status, map[string]string{"error": code, "error_description": description})
}

// Status is an answer without an OAuth error, such as a gateway's page, with
// header pairs after it.
func Status(status int, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, "<html><body>%d</body></html>", status)
	}
}

// Body answers 200 with the given text.
func Body(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, text)
	}
}

// Hang never answers.
func Hang(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// Slow answers by h, or properly if h is nil, after d.
func (p *Provider) Slow(d time.Duration, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(d):
		case <-r.Context().Done():
			return
		}
		if h == nil {
			h = JSON(200, p.issue(r.PostForm.Get("client_id"), r.PostForm.Get("scope")))
		}
		h(w, r)
	}
}
