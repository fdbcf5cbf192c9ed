//go:build interop

package cdfauth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cdfauth"
)

// jwk is the public half of a key in testdata/keys (RFC 7517), as a provider is told it.
func jwk(t *testing.T, name string) (crypto.Signer, map[string]any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "keys", name))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	switch public := key.(crypto.Signer).Public().(type) {
	case *rsa.PublicKey:
		return key.(crypto.Signer),
			map[string]any{"kty": "RSA", "n": b64(public.N.Bytes()),
				"e": b64(big.NewInt(int64(public.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := public.ECDH()
		if err != nil {
			t.Fatal(err)
		}
		xy := point.Bytes()[1:]
		return key.(crypto.Signer),
			map[string]any{"kty": "EC", "crv": public.Params().Name, "x": b64(xy[:len(xy)/2]),
				"y": b64(xy[len(xy)/2:])}
	case ed25519.PublicKey:
		return key.(crypto.Signer), map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(public)}
	}
	t.Fatal(name)
	return nil, nil
}

// TestInteropClientCertificate: A real identity provider verifies the assertions of
// each algorithm that it knows.
func TestInteropClientCertificate(t *testing.T) {
	var clients []any
	for alg, name := range map[string]string{"RS256": "rsa-pkcs8.pem", "PS256": "rsa-pkcs8.pem",
		"ES256": "p256-pkcs8.pem", "ES384": "p384-pkcs8.pem", "EdDSA": "ed25519-pkcs8.pem"} {
		_, key := jwk(t, name)
		clients = append(clients,
			map[string]any{"client_id": alg, "token_endpoint_auth_method": "private_key_jwt",
				"token_endpoint_auth_signing_alg": alg, "jwks": map[string]any{"keys": []any{key}}})
	}
	issuer := startOIDCProvider(t, map[string]any{"clients": clients})
	file := func(name string) cdfauth.Secret {
		return cdfauth.SecretFile(filepath.Join("testdata", "keys", name))
	}
	ecKey, _ := jwk(t, "p256-pkcs8.pem")
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, ecKey.Public(), ecKey)
	if err != nil {
		t.Fatal(err)
	}
	crt := filepath.Join(t.TempDir(), "tls.crt")
	if err := os.WriteFile(crt, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		0o600); err != nil {
		t.Fatal(err)
	}

	type config = cdfauth.ClientCertificateConfig
	for _, tt := range []struct {
		name string
		cfg  config
		code string // of the refusal; "" for none
	}{
		{"RSA", config{ClientID: "RS256", Certificate: file("rsa-pkcs8.pem")}, ""},
		{"RSA PKCS#1", config{ClientID: "RS256", Certificate: file("rsa-pkcs1.pem")}, ""},
		{"RSA with SHA-256 thumbprint", config{ClientID: "PS256", Certificate: file("rsa-pkcs8.pem"),
			Thumbprint: strings.Repeat("0f", 32)}, ""},
		{"RSA by Algorithm",
			config{ClientID: "PS256", Certificate: file("rsa-pkcs8.pem"), Algorithm: "PS256"}, ""},
		{"EC with certificate and chain", config{ClientID: "ES256",
			Certificate: cdfauth.SecretFile(filepath.Join("testdata", "keys", "p256-sec1.pem"), crt),
			SendChain:   true}, ""},
		{"EC P-384", config{ClientID: "ES384", Certificate: file("p384-pkcs8.pem")}, ""},
		{"Ed25519", config{ClientID: "EdDSA", Certificate: file("ed25519-pkcs8.pem")}, ""},
		{"issuer as audience",
			config{ClientID: "ES256", Certificate: file("p256-pkcs8.pem"), Audience: issuer}, ""},
		{"wrong audience",
			config{ClientID: "ES256", Certificate: file("p256-pkcs8.pem"), Audience: "https://other.test"},
			"invalid_client"},
		{"wrong key", config{ClientID: "EdDSA", Certificate: cdfauth.SecretString(freshKey(t))},
			"invalid_client"},
		{"wrong algorithm",
			config{ClientID: "RS256", Certificate: file("rsa-pkcs8.pem"), Algorithm: "PS256"},
			"invalid_client"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Endpoint, tt.cfg.Scopes = cdfauth.Issuer(issuer), []string{"read"}
			p, err := cdfauth.NewClientCertificate(tt.cfg)
			if err != nil {
				t.Fatal(err)
			}
			check(t, p, tt.code)
		})
	}

	// The same, made elsewhere.
	for _, tt := range []struct {
		name string
		exp  time.Duration
		code string
	}{{"assertion from elsewhere", time.Minute, ""},
		{"expired assertion", -time.Minute, "invalid_client"}} {
		t.Run(tt.name, func(t *testing.T) {
			now := time.Now()
			claims, _ := json.Marshal(map[string]any{"iss": "ES256", "sub": "ES256", "aud": issuer,
				"jti": rand.Text(), "iat": now.Add(-time.Hour).Unix(), "exp": now.Add(tt.exp).Unix()})
			input := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"ES256"}`)) + "." +
				base64.RawURLEncoding.EncodeToString(claims)
			digest := sha256.Sum256([]byte(input))
			der, err := ecKey.Sign(rand.Reader, digest[:], crypto.SHA256)
			var rs struct{ R, S *big.Int }
			if err == nil {
				_, err = asn1.Unmarshal(der, &rs)
			}
			if err != nil {
				t.Fatal(err)
			}
			raw := append(rs.R.FillBytes(make([]byte, 32)), rs.S.FillBytes(make([]byte, 32))...)
			p, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
				Endpoint: cdfauth.Issuer(issuer), ClientID: "ES256", Scopes: []string{"read"},
				ClientAssertion: cdfauth.SecretString(input + "." + base64.RawURLEncoding.EncodeToString(raw))})
			if err != nil {
				t.Fatal(err)
			}
			check(t, p, tt.code)
		})
	}
}

func check(t *testing.T, p cdfauth.Provider, code string) {
	t.Helper()
	tok, err := p.Token(t.Context())
	if code == "" {
		if err != nil || tok.AccessToken() == "" {
			t.Errorf("refused: %v", err)
		}
		return
	}
	oe := (*cdfauth.OAuthError)(nil)
	if !errors.As(err, &oe) || oe.Code != code || oe.StatusCode != 401 {
		t.Errorf("got %v, want %s under 401", err, code)
	}
	if strings.Contains(fmt.Sprintf("%v %+v", err, oe), "eyJ") {
		t.Errorf("the error shows the assertion: %v", err)
	}
}

func freshKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}
