//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"
)

// This file is the client credentials flow with a key instead of a secret: the program signs a JWT that says who it is (RFC 7523 §2.2, §3), so that nothing
// leaves it that could be used for long. In this order: the configuration, the assertion, its header, its signature, and how the key and certificates are read.

// ClientCertificateConfig configures [NewClientCertificate]. Endpoint, ClientID, Scopes and Params are as in [ClientCredentialsConfig].
type ClientCertificateConfig struct {
	Endpoint Endpoint
	ClientID string
	Scopes   []string
	Params   url.Values
	// Certificate is PEM text with one private key and, optionally, its certificate and chain, in any order: SecretFile("tls.key", "tls.crt"). The key is PKCS#8,
	// PKCS#1 or SEC 1; RSA of 2048 bits or more, ECDSA on P-256, P-384 or P-521, or Ed25519. It is read anew for each exchange and parsed when it has changed.
	Certificate Secret
	Passphrase  Secret // of the key in Certificate, which is then PKCS#8 with PBES2 (PBKDF2 and AES-CBC), as openssl writes it
	// Signer replaces the key in Certificate, which has certificates alone then, or is nil: for an HSM, TPM or KMS. Asked for each exchange; abandoned at its deadline.
	Signer func(context.Context) (crypto.Signer, error)
	// Thumbprint is the certificate's, in hex, colons allowed: 40 digits are SHA-1, sent as x5t, 64 are SHA-256 and x5t#S256. "" derives it from Certificate.
	Thumbprint string
	KeyID      string // sent as kid, for providers that look keys up by it
	// Algorithm is RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA, and must fit the key. "" picks the one there is for ECDSA and Ed25519
	// keys. For RSA keys that is RS256 with a 40-digit Thumbprint and PS256 with a 64-digit one. Without, it is PS256 and x5t#S256 for Entra, which recommends
	// them; RS256 and x5t for AD FS, which knows nothing newer; RS256 for others, since all know it (OpenID Connect Core §15.1). Entra and AD FS, recognised by
	// their token endpoints, verify RSA signatures alone and find the key by a thumbprint alone: other keys, and keys with neither certificate nor Thumbprint,
	// are refused before they do so. See https://learn.microsoft.com/entra/identity-platform/certificate-credentials, and the issues 2573 and 4428 of
	// https://github.com/AzureAD/microsoft-authentication-library-for-dotnet.
	Algorithm string
	SendChain bool   // sends the certificate and its chain as x5c, for Entra's subject name and issuer authentication
	Audience  string // the assertion's aud; "" means the token endpoint (RFC 7523 §3); some providers insist on their issuer
	Options
}

// ClientCertificate is the provider of the client credentials flow with a key.
type ClientCertificate struct{ refresher *refresher }

// NewClientCertificate returns a provider for programs that have a private key. It checks cfg and does no I/O: what is wrong with the key itself, Token says.
func NewClientCertificate(cfg ClientCertificateConfig) (*ClientCertificate, error) {
	e := newRefresher("client certificate", cfg.Options)
	c, err := newClient("client certificate", cfg.Endpoint, cfg.ClientID, cfg.Scopes, cfg.Params, cfg.Options, &e.clock)
	s, bad := newAssertionSigner(cfg, e.clock.now)
	if err = cmp.Or(err, bad); err != nil {
		return nil, err
	}
	e.silent = c.appToken(e, cfg.Cache, func(ctx context.Context, tokenURL string, f *tokenRequest) error {
		jwt, err := s.assertion(ctx, tokenURL)
		if err != nil {
			return err
		}
		f.setAssertion(jwt)
		return nil
	})
	return &ClientCertificate{e}, nil
}

// Token returns an access token for the application. Its errors are as of [ClientCredentials.Token], and what was wrong with the key.
func (p *ClientCertificate) Token(ctx context.Context) (Token, error) {
	if p == nil || p.refresher == nil {
		return Token{}, errNotMade
	}
	return p.refresher.Token(ctx)
}

// Invalidate is as [ClientCredentials.Invalidate].
func (p *ClientCertificate) Invalidate(t Token) {
	if p != nil && p.refresher != nil {
		p.refresher.Invalidate(t)
	}
}

type assertionSigner struct { // makes assertions. The parsed key is inside parse.
	cfg        ClientCertificateConfig // checked
	thumbprint []byte                  // cfg.Thumbprint, decoded
	kind       string                  // of the key that cfg.Algorithm is for; "" when that is ""
	parse      func(keySource, time.Time) (keyPair, error)
	now        func() time.Time
}

func newAssertionSigner(cfg ClientCertificateConfig, now func() time.Time) (*assertionSigner, error) {
	thumbprint, err := hex.DecodeString(strings.ReplaceAll(cfg.Thumbprint, ":", ""))
	i := slices.IndexFunc(algorithms, func(a algorithm) bool { return a.name == cfg.Algorithm })
	s, n := &assertionSigner{cfg, thumbprint, algorithms[max(i, 0)].kind, cachedKeys(), now}, len(thumbprint)
	provider := map[string]string{kindAuthority: entra, kindADFS: adfs, kindTokenURL: providerOf(cfg.Endpoint.url)}[cfg.Endpoint.kind] // of others it is not yet known
	return s, cmp.Or(refuse("cdfauth: ", []refusal{
		{cfg.Certificate == nil && cfg.Signer == nil, "Certificate is missing (is its environment variable empty?), and so is Signer"},
		{cfg.Passphrase != nil && (cfg.Certificate == nil || cfg.Signer != nil), "Passphrase is for a key in Certificate, and Signer is set instead"},
		{cfg.SendChain && cfg.Certificate == nil, "SendChain wants the chain in Certificate, which is missing"},
		{cfg.Thumbprint != "" && (err != nil || n != 20 && n != 32), "Thumbprint: want 40 hexadecimal digits (SHA-1) or 64 (SHA-256), with or without colons"},
		{cfg.Algorithm != "" && i < 0, "Algorithm: want RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA"},
	}), checkFor(provider, "Algorithm", s.kind, cfg.Certificate != nil || cfg.Thumbprint != ""))
}

func (s *assertionSigner) assertion(ctx context.Context, tokenURL string) (string, error) { // returns a JWT in compact form (RFC 7515 §7.1), for one request
	key, err := s.key(ctx)
	if err != nil {
		return "", err
	}
	alg, header, err := s.header(key, providerOf(tokenURL))
	if err != nil {
		return "", err
	}
	now := s.now().Unix()
	input := segment(header) + "." + segment(map[string]any{ // RFC 7523 §3; without nbf, which a provider whose clock is behind would refuse
		"iss": s.cfg.ClientID, "sub": s.cfg.ClientID, "aud": cmp.Or(s.cfg.Audience, tokenURL), // not an array: some providers take none
		"jti": rand.Text(), "iat": now, "exp": now + 600,
	})
	signature, err := alg.sign(ctx, key.field, key.signer, input)
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), err
}

func (s *assertionSigner) key(ctx context.Context) (key keyPair, err error) {
	signer, from := crypto.Signer(nil), keySource{}
	if s.cfg.Signer != nil {
		if signer, err = guard(ctx, "Signer", s.cfg.Signer); err == nil {
			from.held, err = guard(ctx, "Signer", func(context.Context) (string, error) { // Public is foreign code too,
				if signer == nil {
					return "", errors.New("returned nil: want a crypto.Signer")
				}
				der, err := x509.MarshalPKIXPublicKey(signer.Public()) // and this checks what it returns
				return string(der), err
			})
		}
	}
	if s.cfg.Certificate != nil && err == nil {
		from.text, err = s.cfg.Certificate.read(ctx, "Certificate")
	}
	if s.cfg.Passphrase != nil && err == nil {
		from.passphrase, err = s.cfg.Passphrase.read(ctx, "Passphrase")
	}
	if err == nil {
		key, err = s.parse(from, s.now())
	}
	key.signer = cmp.Or(key.signer, signer)
	return key, err
}

const entra, adfs = "Entra", "AD FS" // the providers with wants of their own: see Algorithm

func providerOf(tokenURL string) string { // goes by the token endpoint: every kind of Endpoint leads to one
	u, _, _ := strings.Cut(strings.ToLower(tokenURL), "?") // where Azure AD B2C names its policy
	for end, provider := range map[string]string{"/oauth2/v2.0/token": entra, "/adfs/oauth2/token": adfs} {
		if strings.HasSuffix(strings.TrimSuffix(u, "/"), end) {
			return provider
		}
	}
	return ""
}

func checkFor(provider, field, kind string, certified bool) error { // refuses what the provider would refuse, by name of the field
	return refuse("cdfauth: ", []refusal{
		{provider != "" && kind != "" && kind != "RSA", field + ": " + provider + " takes RSA keys alone, and this is for one of " + kind},
		{provider != "" && !certified, "Thumbprint is missing, and Certificate has no certificate to derive it from: " + provider + " finds the key by it"},
	})
}

func (s *assertionSigner) header(key keyPair, provider string) (algorithm, any, error) { // picks the algorithm and returns the JWS header (RFC 7515 §4)
	thumbprint, alg := s.thumbprint, s.cfg.Algorithm
	if len(thumbprint) == 0 && len(key.chain) > 0 {
		sum := cmp.Or(map[string]crypto.Hash{adfs: crypto.SHA1 /* RFC 7515 §4.1.7; nothing is signed with it */}[provider], crypto.SHA256).New()
		if _, err := sum.Write(key.chain[0].Raw); err != nil { // so does FIPS 140 mode refuse SHA-1; Sum would panic
			return algorithm{}, nil, errors.New("cdfauth: Thumbprint is missing: AD FS wants that of SHA-1, which FIPS 140 mode does not compute but `openssl x509 -noout -fingerprint -sha1 -in tls.crt` does")
		}
		thumbprint = sum.Sum(nil)
	}
	if alg == "" && key.kind == "RSA" && len(thumbprint) == crypto.SHA256.Size() && (provider == entra || len(s.thumbprint) > 0) {
		alg = "PS256"
	}
	i := slices.IndexFunc(algorithms, func(a algorithm) bool { return a.kind == key.kind && (alg == "" || alg == a.name) })
	if err := cmp.Or(checkFor(provider, key.field, key.kind, len(thumbprint) > 0), refuse("cdfauth: ", []refusal{
		{i < 0, "Algorithm: " + alg + " is for keys of " + s.kind + ", and the one of " + key.field + " is of " + key.kind},
		{s.cfg.SendChain && len(key.chain) == 0, "SendChain: Certificate has no certificate to send"},
	})); err != nil {
		return algorithm{}, nil, err
	}
	h := map[string]any{"alg": algorithms[i].name, "typ": "JWT" /* RFC 7519 §5.1 */, "kid": s.cfg.KeyID, // RFC 7515 §4.1.4, §4.1.7, §4.1.8
		map[bool]string{true: "x5t", false: "x5t#S256"}[len(thumbprint) == crypto.SHA1.Size()]: base64.RawURLEncoding.EncodeToString(thumbprint)}
	maps.DeleteFunc(h, func(_ string, v any) bool { return v == "" })
	if s.cfg.SendChain { // §4.1.6: base64 with padding, which is how json writes bytes
		var chain [][]byte
		for _, c := range key.chain {
			chain = append(chain, c.Raw)
		}
		h["x5c"] = chain
	}
	return algorithms[i], h, nil
}
