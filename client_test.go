package cdfauth

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"cdfauth/internal/idptest"
)

// These tests are of the package's own http.Client, which is used if Options have none, at
// a server with TLS that counts connections.

// trusted is a certificate for 127.0.0.1. The package's own client trusts the system's
// roots alone, so that trusted is made one of them before anything reads them. On Windows
// and macOS, where Go leaves the verification to the system, it is nil.
var trusted = makeTrusted()

func makeTrusted() *tls.Certificate {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
		SubjectKeyId:          []byte{1}, // or x509 makes one with SHA-1, which FIPS 140 mode refuses
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	file, err := os.CreateTemp("", "cdfauth-roots-*.pem")
	if err != nil {
		panic(err)
	}
	defer os.Remove(file.Name())
	pem.Encode(file, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	file.Close()
	before, set := os.LookupEnv("SSL_CERT_FILE")
	os.Setenv("SSL_CERT_FILE", file.Name())
	x509.SystemCertPool() // which is read once
	os.Unsetenv("SSL_CERT_FILE")
	if set {
		os.Setenv("SSL_CERT_FILE", before)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// counted is a server with TLS that the package's own client trusts.
type counted struct {
	*httptest.Server
	idp *idptest.Provider

	mu     sync.Mutex
	open   map[net.Conn]bool
	opened int
	none   *sync.Cond // signalled when no connection is open
}

// newCounted returns a server with an identity provider. If wrap is not nil, it replaces
// the handler of the server, and if listen is not nil, it replaces the listener.
func newCounted(
	t testing.TB, wrap func(http.Handler) http.Handler, listen func(net.Listener) net.Listener,
) *counted {
	t.Helper()
	if trusted == nil {
		skipOutsideCI(t, "no certificate can be made trusted here")
	}
	s := &counted{idp: idptest.New(), open: map[net.Conn]bool{}}
	s.none = sync.NewCond(&s.mu)
	var handler http.Handler = s.idp
	if wrap != nil {
		handler = wrap(handler)
	}
	s.Server = httptest.NewUnstartedServer(handler)
	if listen != nil {
		s.Listener = listen(s.Listener)
	}
	s.TLS = &tls.Config{Certificates: []tls.Certificate{*trusted}}
	s.Config.ConnState = func(c net.Conn, state http.ConnState) {
		s.mu.Lock()
		defer s.mu.Unlock()
		switch state {
		case http.StateNew:
			s.open[c] = true
			s.opened++
		case http.StateClosed, http.StateHijacked:
			delete(s.open, c)
		}
		if len(s.open) == 0 {
			s.none.Broadcast()
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	s.idp.Issuer = s.URL
	return s
}

// connections waits until all connections are closed, and returns how many there were.
func (s *counted) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.open) > 0 {
		s.none.Wait()
	}
	return s.opened
}

// A firstToken is a way to a first token, with the number of requests and connections that
// it takes at least. A request needs a new connection if it is the first one, or if the one
// before has carried a secret.
type firstToken struct {
	name        string
	requests    int
	connections int
	provider    func(s *counted) (Provider, error)
}

// newClientCredentials returns a provider of client credentials with the package's own client,
// unless options have another one.
func newClientCredentials(endpoint Endpoint, options Options) (*ClientCredentials, error) {
	return NewClientCredentials(ClientCredentialsConfig{
		Endpoint:     endpoint,
		ClientID:     "client",
		ClientSecret: SecretString("s3cret/of+the client"),
		Options:      options,
	})
}

// firstTokens returns the ways to a first token, by flow and kind of Endpoint.
func firstTokens(t testing.TB) []firstToken {
	certificate := func(s *counted, endpoint Endpoint) (Provider, error) {
		s.idp.Always(idptest.Body(`{"access_token":"tok","expires_in":3600}`))
		return NewClientCertificate(ClientCertificateConfig{
			Endpoint:    endpoint,
			ClientID:    "client",
			Certificate: SecretString(testKey(t, "p256-pkcs8.pem")),
		})
	}
	person := func(s *counted, cache Cache) (Provider, error) {
		s.idp.Interval = time.Second
		return NewDeviceCode(DeviceCodeConfig{
			Endpoint: Issuer(s.URL),
			ClientID: "app",
			ShowCode: func(context.Context, DeviceAuthorization) error { return nil },
			Options:  Options{Cache: cache},
		})
	}
	return []firstToken{
		{"client credentials, TokenURL", 1, 1, func(s *counted) (Provider, error) {
			return newClientCredentials(TokenURL(s.URL+"/token"), Options{})
		}},
		{"client credentials, Issuer", 2, 1, func(s *counted) (Provider, error) {
			return newClientCredentials(Issuer(s.URL), Options{})
		}},
		{"client credentials, Discovery", 2, 1, func(s *counted) (Provider, error) {
			return newClientCredentials(Discovery(s.URL), Options{})
		}},
		{"certificate, Issuer", 2, 1, func(s *counted) (Provider, error) {
			return certificate(s, Issuer(s.URL))
		}},
		{"device code to the first poll", 3, 2, func(s *counted) (Provider, error) {
			return person(s, &MemoryCache{})
		}},
		{"refresh", 2, 1, func(s *counted) (Provider, error) {
			s.idp.Always(idptest.Body(`{"access_token":"tok","expires_in":3600}`))
			cache := &MemoryCache{}
			err := cache.Update(context.Background(), func(context.Context, []byte) ([]byte, error) {
				c := msalCache{}
				putSignIn(c, s.URL, false)
				return c.blob()
			})
			if err != nil {
				return nil, err
			}
			return person(s, cache)
		}},
	}
}

// TestDiscoveryAndTheNextRequestShareAConnection: a TCP and a TLS handshake take as long as
// two requests, so that the request after discovery uses its connection. A connection that
// has carried a secret, in a request or an answer, is closed, and none is left open when
// the provider has a token.
func TestDiscoveryAndTheNextRequestShareAConnection(t *testing.T) {
	for _, tt := range firstTokens(t) {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel() // a poll waits for its interval
			s := newCounted(t, nil, nil)
			p, err := tt.provider(s)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := p.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := len(s.idp.Requests("")); n != tt.requests {
				t.Errorf("%d requests, want %d", n, tt.requests)
			}
			if n := s.connections(); n != tt.connections {
				t.Errorf("%d connections, want %d", n, tt.connections)
			}
		})
	}
}

// TestRetriedDiscoveryKeepsItsConnection: an answer such as 503 does not close a connection
// that the server leaves open. Discovery is tried again on the same one, without another
// handshake.
func TestRetriedDiscoveryKeepsItsConnection(t *testing.T) {
	t.Parallel() // it waits for a real back-off
	faults := 1
	s := newCounted(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if faults > 0 {
				faults--
				idptest.Status(503)(w, r)
				return
			}
			h.ServeHTTP(w, r)
		})
	}, nil)
	p, err := newClientCredentials(Issuer(s.URL), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := s.connections(); n != 1 || faults != 0 {
		t.Errorf("%d connections for discovery, once more after a 503, and a token; want 1", n)
	}
}

// TestNothingUnaskedIsLogged: net/http logs what a server sends unasked on an idle
// connection. On a connection that has carried a secret, that could be the secret. So the
// package keeps no such connection.
func TestNothingUnaskedIsLogged(t *testing.T) {
	var logged bytes.Buffer
	log.SetOutput(&logged) // so that this test is not parallel
	defer log.SetOutput(os.Stderr)
	for _, tt := range firstTokens(t) {
		s := newCounted(t, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				recorder := httptest.NewRecorder()
				h.ServeHTTP(recorder, r)
				if r.Method == http.MethodGet {
					io.Copy(w, recorder.Body)
					return
				}
				if !r.Close {
					t.Errorf("%s: %s is not asked to close its connection", tt.name, r.URL.Path)
				}
				// After the answer, the server sends the secret of the request, unasked.
				c, buffered, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				fmt.Fprintf(buffered, "HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%sUNASKEDMARK %v\r\n\r\n",
					recorder.Code, recorder.Body.Len(), recorder.Body, r.PostForm)
				buffered.Flush()
				io.Copy(io.Discard, c) // until the other end closes it
			})
		}, nil)
		p, err := tt.provider(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Token(t.Context()); err == nil && strings.Contains(logged.String(), "MARK") {
			t.Errorf("%s: the log has %s", tt.name, &logged)
		}
		s.connections()
	}
	if strings.Contains(logged.String(), "MARK") {
		t.Errorf("the log has %s", &logged)
	}
}

// TestCallersClientKeepsItsConnections: the package uses an http.Client of the caller's as
// it is, and does not close the connections that its Transport keeps.
func TestCallersClientKeepsItsConnections(t *testing.T) {
	s := newCounted(t, nil, nil)
	transport := &http.Transport{}
	p, err := newClientCredentials(Issuer(s.URL),
		Options{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := p.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.refresher.forget()
	}
	s.mu.Lock()
	open := len(s.open)
	s.mu.Unlock()
	transport.CloseIdleConnections()
	if n := s.connections(); n != 1 || open != 1 {
		t.Errorf("%d connections, of which %d were left; want 1 and 1", n, open)
	}
}

// TestProxyThatRefusesIsNamed: if a proxy refuses a CONNECT, the error of net/http is the
// text of the status alone. The package adds the proxy's address, without its password, so
// that the reader does not search at the identity provider.
func TestProxyThatRefusesIsNamed(t *testing.T) {
	t.Parallel() // it waits for real back-offs
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "BODYMARK", http.StatusProxyAuthRequired)
	}))
	defer proxy.Close()
	c, err := newClient("test", TokenURL("https://idp.test/token"), "id", nil, nil,
		Options{}, new(clock))
	if err != nil {
		t.Fatal(err)
	}
	address := strings.Replace(proxy.URL, "http://", "http://user:PASSMARK@", 1)
	c.own.Proxy = func(r *http.Request) (*url.URL, error) { return r.URL.Parse(address) }
	_, err = c.exchange(t.Context(), "client_credentials", 1,
		func(context.Context, string, *tokenRequest) error {
			return nil
		})
	want := "the proxy " + strings.TrimPrefix(proxy.URL, "http://") +
		" refused to connect: 407 Proxy Authentication Required"
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "MARK") ||
		!isTransient(err) {
		t.Errorf("%v, want %q", err, want)
	}
}
