//go:build interop

package cdfauth_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"cdfauth"
)

// These tests run against npm's oidc-provider:
//
//	npm ci --prefix testdata/oidc-provider && go test -tags interop -run Interop .

// awkward has what has to be encoded on the way, differently in a body and in Basic.
const awkward = "p:a+s/s%w &=\"?#~"

// startOIDCProvider starts the provider and returns its issuer.
func startOIDCProvider(t *testing.T, config map[string]any) string {
	t.Helper()
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", "server.mjs")
	cmd.Dir = "testdata/oidc-provider"
	cmd.Env = append(os.Environ(), "CONFIG="+string(b), "NODE_NO_WARNINGS=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
		if t.Failed() {
			t.Logf("oidc-provider: %s", stderr.String())
		}
	})
	var ready struct{ Issuer string }
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil || ready.Issuer == "" {
		t.Fatalf("oidc-provider did not start: %v: %s", err, stderr.String())
	}
	return ready.Issuer
}

func secretClient(id, method string) map[string]any {
	return map[string]any{"client_id": id, "client_secret": awkward,
		"token_endpoint_auth_method": method, "introspection_endpoint_auth_method": method}
}

// introspect asks the provider itself whether it gave out the token.
func introspect(t *testing.T, c *http.Client, issuer, id string, tok cdfauth.Token) map[string]any {
	t.Helper()
	resp, err := c.PostForm(issuer+"/token/introspection",
		url.Values{"token": {tok.AccessToken()}, "client_id": {id}, "client_secret": {awkward}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

// witness sees how the secret travels, which oidc-provider does not mind.
type witness struct {
	base  http.RoundTripper
	basic []bool // of each token request
}

func (w *witness) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Path == "/token" {
		_, _, basic := r.BasicAuth()
		w.basic = append(w.basic, basic)
	}
	return w.base.RoundTrip(r)
}

// TestInteropClientCredentials: A real identity provider takes a secret in the form
// and by Basic, with metadata and without, over http and https.
func TestInteropClientCredentials(t *testing.T) {
	key, certificate, pool := privateCA(t)
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			config := map[string]any{"clients": []any{secretClient("post", "client_secret_post"),
				secretClient("basic", "client_secret_basic")}}
			hc := &http.Client{Transport: http.DefaultTransport}
			if scheme == "https" {
				config["key"], config["cert"] = key, certificate
				hc.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
			}
			issuer := startOIDCProvider(t, config)
			if !strings.HasPrefix(issuer, scheme+":") {
				t.Fatalf("issuer %s", issuer)
			}
			for name, ep := range map[string]cdfauth.Endpoint{"issuer": cdfauth.Issuer(issuer),
				"discovery": cdfauth.Discovery(issuer + "/"),
				"token URL": cdfauth.TokenURL(issuer + "/token")} {
				for _, id := range []string{"post", "basic"} {
					t.Run(name+"/"+id, func(t *testing.T) {
						w := &witness{base: hc.Transport}
						p, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{Endpoint: ep,
							ClientID: id, ClientSecret: cdfauth.SecretString(awkward), BasicAuth: id == "basic",
							Scopes: []string{"read"}, Params: url.Values{"resource": {"urn:cdf"}},
							Options: cdfauth.Options{HTTPClient: &http.Client{Transport: w}}})
						if err != nil {
							t.Fatal(err)
						}
						tok, err := p.Token(t.Context())
						if err != nil {
							t.Fatal(err)
						}
						if left := time.Until(tok.Expiry()); left < 9*time.Minute || left > 10*time.Minute ||
							tok.Scope() != "read" {
							t.Errorf("expires in %v, scope %q", left, tok.Scope())
						}
						if m := introspect(t, hc, issuer, "post", tok); m["active"] != true || m["client_id"] != id ||
							m["aud"] != "urn:cdf" {
							t.Errorf("introspection says %v", m)
						}
						again, err := p.Token(t.Context())
						if err != nil || !again.Equal(tok) {
							t.Errorf("the second call: %v", err)
						}
						if want := []bool{id == "basic"}; !slices.Equal(w.basic, want) {
							t.Errorf("token requests with HTTP Basic: %v, want %v", w.basic, want)
						}
					})
				}
			}
			t.Run("refused", func(t *testing.T) {
				for _, tt := range []struct {
					name, id, secret, resource, code string
					status                           int
				}{
					{"wrong secret", "post", "not " + awkward, "urn:cdf", "invalid_client", 401},
					{"wrong secret, Basic", "basic", "not " + awkward, "urn:cdf", "invalid_client", 401},
					{"unknown client", "nobody", awkward, "urn:cdf", "invalid_client", 401},
					{"unknown resource", "post", awkward, "urn:other", "invalid_target", 400},
				} {
					p, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
						Endpoint: cdfauth.Issuer(issuer), ClientID: tt.id,
						ClientSecret: cdfauth.SecretString(tt.secret),
						BasicAuth:    tt.id == "basic", Params: url.Values{"resource": {tt.resource}},
						Options: cdfauth.Options{HTTPClient: hc}})
					if err != nil {
						t.Fatal(err)
					}
					_, err = p.Token(t.Context())
					wantOAuthError(t, tt.name, err, tt.code, tt.status)
				}
			})
			if scheme == "https" { // without the CA
				p, _ := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
					Endpoint: cdfauth.Issuer(issuer), ClientID: "post",
					ClientSecret: cdfauth.SecretString(awkward)})
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if _, err := p.Token(ctx); !errors.As(err, new(*tls.CertificateVerificationError)) {
					t.Errorf("without the CA: %v", err)
				}
			}
		})
	}
}

func wantOAuthError(t *testing.T, name string, err error, code string, status int) {
	t.Helper()
	oe := (*cdfauth.OAuthError)(nil)
	if !errors.As(err, &oe) || oe.Code != code || oe.StatusCode != status {
		t.Errorf("%s: got %v, want %s under %d", name, err, code, status)
	}
	text := fmt.Sprintf("%v %+v %#v", err, oe, oe)
	for _, form := range []string{awkward, url.QueryEscape(awkward)} {
		if strings.Contains(text, form) {
			t.Errorf("%s: the error shows the secret", name)
		}
	}
}

// privateCA makes a certificate for 127.0.0.1 and a pool that trusts it.
func privateCA(t *testing.T) (key, certificate string, pool *x509.CertPool) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1),
		Subject: pkix.Name{CommonName: "private CA"}, NotBefore: now.Add(-time.Hour),
		NotAfter: now.Add(time.Hour),
		IsCA:     true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	p8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	certificate = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	pool.AppendCertsFromPEM([]byte(certificate))
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p8})), certificate, pool
}
