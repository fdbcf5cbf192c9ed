package cdfauth

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // AD FS knows certificates by it (RFC 7515 §4.1.7); nothing is signed with it
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// This file is the client credentials flow with a key instead of a secret: the program signs a JWT that says who it is (RFC 7523
// §2.2, §3), so that nothing leaves it that could be used for long. The request is that of clientcredentials.go. In this order: the
// configuration, the assertion, the key that signs it, the header by which the provider finds that key, the signature.

// ClientCertificateConfig configures [NewClientCertificate]. Endpoint, ClientID, Scopes and Params are as in
// [ClientCredentialsConfig].
type ClientCertificateConfig struct {
	Endpoint Endpoint
	ClientID string
	Scopes   []string
	Params   url.Values

	// Certificate is PEM text with one private key and, optionally, its certificate and chain, in any order: SecretFile("tls.key",
	// "tls.crt"). The key is PKCS#8, PKCS#1 or SEC 1; RSA of 2048 bits or more, ECDSA on P-256, P-384 or P-521, or Ed25519. It is
	// read anew for each exchange, so that a renewed one is picked up, and parsed again when it has changed.
	Certificate Secret
	// Passphrase decrypts the key in Certificate, which is then PKCS#8 with PBES2 (PBKDF2 and AES-CBC), as openssl writes it.
	Passphrase Secret
	// Signer replaces the key in Certificate, which then has certificates alone, or is nil: for an HSM, a TPM or a KMS. It is asked
	// for each exchange. It and its Sign are abandoned when they outlast the exchange's deadline.
	Signer func(context.Context) (crypto.Signer, error)
	// Thumbprint is that of the certificate as the provider knows it, in hex, with or without colons: 40 digits are SHA-1 and sent
	// as x5t, 64 are SHA-256 and x5t#S256. "" derives it from the key's certificate, if there is one.
	Thumbprint string
	// KeyID is sent as kid, for providers that look keys up by it.
	KeyID string
	// Algorithm is RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA, and must fit the key. "" picks the one
	// there is for ECDSA and Ed25519 keys. For RSA keys that is RS256 with a 40-digit Thumbprint and PS256 with a 64-digit one.
	// Without, it is PS256 and x5t#S256 for Entra, which recommends them [1]; RS256 and x5t for AD FS, which knows nothing newer
	// [2]; RS256 for others, since all know it (OpenID Connect Core §15.1). Entra and AD FS, recognised by their token endpoints,
	// verify RSA signatures alone [3] and find the key by a thumbprint alone [1]: other keys, and keys with neither certificate nor
	// Thumbprint, are refused before they do so.
	//
	// [1]: https://learn.microsoft.com/entra/identity-platform/certificate-credentials
	// [2]: https://github.com/AzureAD/microsoft-authentication-library-for-dotnet/issues/4428
	// [3]: https://github.com/AzureAD/microsoft-authentication-library-for-dotnet/issues/2573
	Algorithm string
	// SendChain sends the certificate and its chain as x5c, for Entra's subject name and issuer authentication.
	SendChain bool
	// Audience is the assertion's aud. "" means the token endpoint (RFC 7523 §3); some providers insist on their issuer.
	Audience string
	Options
}

// ClientCertificate is the provider of the client credentials flow with a key.
type ClientCertificate struct{ engine *engine }

// NewClientCertificate returns a provider for programs that have a private key. It checks cfg, names the field that is wrong, and
// does no I/O: what is wrong with the key itself, Token reports.
func NewClientCertificate(cfg ClientCertificateConfig) (*ClientCertificate, error) {
	c, e, err := newClient("client certificate", cfg.Endpoint, cfg.ClientID, cfg.Scopes, cfg.Params, cfg.Options)
	if err != nil {
		return nil, err
	}
	s, err := newAssertionSigner(cfg, c.now)
	if err != nil {
		return nil, err
	}
	if k := cfg.Endpoint.kind; k != kindIssuer && k != kindDiscovery { // theirs is not yet known
		tokenURL, _ := c.tokenURL(context.Background())
		if err := checkFor(providerOf(tokenURL), "Algorithm", s.kind, cfg.Certificate != nil || cfg.Thumbprint != ""); err != nil {
			return nil, err
		}
	}
	e.silent = c.appToken(e, cfg.Cache, func(ctx context.Context, tokenURL string, f *form) error {
		jwt, err := s.assertion(ctx, tokenURL)
		f.setAssertion(jwt)
		return err
	})
	return &ClientCertificate{e}, nil
}

// Token returns an access token for the application. Its errors are those of the context; an [*OAuthError] when the identity provider
// refused; and what was wrong with the key, the certificate or the network.
func (p *ClientCertificate) Token(ctx context.Context) (Token, error) { return (*app)(p).token(ctx) }

// Invalidate is as [ClientCredentials.Invalidate].
func (p *ClientCertificate) Invalidate(t Token) { (*app)(p).invalidate(t) }

// assertionSigner makes assertions. The parsed key is inside parse.
type assertionSigner struct {
	cfg        ClientCertificateConfig // checked
	thumbprint []byte                  // cfg.Thumbprint, decoded
	kind       string                  // of the key that cfg.Algorithm is for; "" when that is ""
	field      string                  // where the private key comes from, for errors
	parse      func(keySource, time.Time) (keyPair, error)
	now        func() time.Time
}

func newAssertionSigner(cfg ClientCertificateConfig, now func() time.Time) (*assertionSigner, error) {
	s := &assertionSigner{cfg: cfg, field: "Certificate", parse: cachedKeys(), now: now}
	switch {
	case cfg.Certificate == nil && cfg.Signer == nil:
		return nil, errors.New("cdfauth: Certificate is missing (is its environment variable empty?), and so is Signer")
	case cfg.Passphrase != nil && (cfg.Certificate == nil || cfg.Signer != nil):
		return nil, errors.New("cdfauth: Passphrase is for a key in Certificate, and Signer is set instead")
	case cfg.SendChain && cfg.Certificate == nil:
		return nil, errors.New("cdfauth: SendChain wants the chain in Certificate, which is missing")
	case cfg.Signer != nil:
		s.field = "Signer"
	}
	if cfg.Thumbprint != "" {
		var err error
		s.thumbprint, err = hex.DecodeString(strings.ReplaceAll(cfg.Thumbprint, ":", ""))
		if n := len(s.thumbprint); err != nil || n != sha1.Size && n != sha256.Size {
			return nil, errors.New("cdfauth: Thumbprint: want 40 hexadecimal digits (SHA-1) or 64 (SHA-256), with or without colons")
		}
	}
	if cfg.Algorithm != "" {
		i := slices.IndexFunc(algorithms, func(a algorithm) bool { return a.name == cfg.Algorithm })
		if i < 0 {
			return nil, errors.New("cdfauth: Algorithm: want RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or EdDSA")
		}
		s.kind = algorithms[i].kind
	}
	return s, nil
}

// assertion returns a JWT in compact form (RFC 7515 §7.1), for one request.
func (s *assertionSigner) assertion(ctx context.Context, tokenURL string) (string, error) {
	key, err := s.key(ctx)
	if err != nil {
		return "", err
	}
	alg, header, err := s.header(key, providerOf(tokenURL))
	if err != nil {
		return "", err
	}
	audience := s.cfg.Audience
	if audience == "" {
		audience = tokenURL
	}
	now := s.now().Unix()
	claims := segment(struct { // RFC 7523 §3; without nbf, which a provider whose clock is behind would refuse
		Iss string `json:"iss"`
		Sub string `json:"sub"`
		Aud string `json:"aud"` // not an array: some providers take none
		Jti string `json:"jti"` // 128 random bits
		Iat int64  `json:"iat"`
		Exp int64  `json:"exp"`
	}{s.cfg.ClientID, s.cfg.ClientID, audience, rand.Text(), now, now + 600})
	signature, err := alg.sign(ctx, s.field, key.signer, header+"."+claims)
	if err != nil {
		return "", err
	}
	return header + "." + claims + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// segment encodes a part of a JWT; such structs always encode.
func segment(v any) string {
	b, _ := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(b)
}

// key asks for the key and its certificates, and parses them if need be.
func (s *assertionSigner) key(ctx context.Context) (keyPair, error) {
	var signer crypto.Signer
	var from keySource
	var err error
	if s.cfg.Signer != nil {
		if signer, err = guard(ctx, "Signer", s.cfg.Signer); err != nil {
			return keyPair{}, err
		}
		// Public is foreign code too, and encoding what it returns checks that.
		from.held, err = guard(ctx, "Signer", func(context.Context) (string, error) {
			if signer == nil {
				return "", errors.New("returned nil: want a crypto.Signer")
			}
			der, err := x509.MarshalPKIXPublicKey(signer.Public())
			return string(der), err
		})
		if err != nil {
			return keyPair{}, err
		}
	}
	if s.cfg.Certificate != nil {
		from.text, err = s.cfg.Certificate.read(ctx, "Certificate")
	}
	if s.cfg.Passphrase != nil && err == nil {
		from.passphrase, err = s.cfg.Passphrase.read(ctx, "Passphrase")
	}
	if err != nil {
		return keyPair{}, err
	}
	key, err := s.parse(from, s.now())
	if signer != nil {
		key.signer = signer
	}
	return key, err
}

// cachedKeys returns parseKeys with a memory of the last key pair, which is good for as long as its source stays the same and its
// certificate valid.
func cachedKeys() func(keySource, time.Time) (keyPair, error) {
	var mu sync.Mutex
	var last keyPair
	var lastFrom keySource
	return func(from keySource, now time.Time) (keyPair, error) {
		mu.Lock()
		defer mu.Unlock()
		if last.kind != "" && from == lastFrom && (len(last.chain) == 0 || isValid(last.chain[0], now)) {
			return last, nil
		}
		pair, err := parseKeys(from, now)
		if err == nil {
			last, lastFrom = pair, from
		}
		return pair, err
	}
}

// The providers with wants of their own: see Algorithm.
const entra, adfs = "Entra", "AD FS"

// providerOf goes by the token endpoint: every kind of Endpoint leads to one.
func providerOf(tokenURL string) string {
	u, _, _ := strings.Cut(strings.ToLower(tokenURL), "?") // where Azure AD B2C names its policy
	switch u = strings.TrimSuffix(u, "/"); {
	case strings.HasSuffix(u, "/oauth2/v2.0/token"):
		return entra
	case strings.HasSuffix(u, "/adfs/oauth2/token"):
		return adfs
	}
	return ""
}

// checkFor refuses what the provider would refuse, by name of the field.
func checkFor(provider, field, kind string, certified bool) error {
	switch {
	case provider == "":
		return nil
	case kind != "" && kind != "RSA":
		return fmt.Errorf("cdfauth: %s: %s takes RSA keys alone, and this is for one of %s", field, provider, kind)
	case !certified:
		return fmt.Errorf("cdfauth: Thumbprint is missing, and Certificate has no certificate to derive it from: %s finds the key by it", provider)
	}
	return nil
}

// header picks the algorithm and returns the JWS header (RFC 7515 §4), encoded.
func (s *assertionSigner) header(key keyPair, provider string) (algorithm, string, error) {
	h := struct {
		Alg     string   `json:"alg"`
		Typ     string   `json:"typ"`                // RFC 7519 §5.1
		Kid     string   `json:"kid,omitempty"`      // RFC 7515 §4.1.4
		X5t     string   `json:"x5t,omitempty"`      // §4.1.7
		X5tS256 string   `json:"x5t#S256,omitempty"` // §4.1.8
		X5c     [][]byte `json:"x5c,omitempty"`      // §4.1.6: base64 with padding, which is how json writes bytes
	}{Alg: s.cfg.Algorithm, Typ: "JWT", Kid: s.cfg.KeyID}
	thumbprint := s.thumbprint
	switch {
	case thumbprint != nil || len(key.chain) == 0:
	case provider == adfs:
		sum := sha1.New()
		if _, err := sum.Write(key.chain[0].Raw); err != nil { // so does FIPS 140 mode refuse; Sum would panic
			return algorithm{}, "", errors.New("cdfauth: Thumbprint is missing: AD FS wants that of SHA-1, which FIPS 140 mode does not compute but `openssl x509 -noout -fingerprint -sha1 -in tls.crt` does")
		}
		thumbprint = sum.Sum(nil)
	default:
		sum := sha256.Sum256(key.chain[0].Raw)
		thumbprint = sum[:]
	}
	if err := checkFor(provider, s.field, key.kind, thumbprint != nil); err != nil {
		return algorithm{}, "", err
	}
	if len(thumbprint) == sha1.Size {
		h.X5t = base64.RawURLEncoding.EncodeToString(thumbprint)
	} else {
		h.X5tS256 = base64.RawURLEncoding.EncodeToString(thumbprint)
	}
	if h.Alg == "" && key.kind == "RSA" && h.X5tS256 != "" && (provider == entra || s.thumbprint != nil) {
		h.Alg = "PS256"
	}
	i := slices.IndexFunc(algorithms, func(a algorithm) bool { return a.kind == key.kind && (h.Alg == "" || h.Alg == a.name) })
	if i < 0 {
		return algorithm{}, "", fmt.Errorf("cdfauth: Algorithm: %s is for keys of %s, and the one of %s is of %s", h.Alg, s.kind, s.field, key.kind)
	}
	h.Alg = algorithms[i].name
	if s.cfg.SendChain {
		for _, c := range key.chain {
			h.X5c = append(h.X5c, c.Raw)
		}
		if h.X5c == nil {
			return algorithm{}, "", errors.New("cdfauth: SendChain: Certificate has no certificate to send")
		}
	}
	return algorithms[i], segment(h), nil
}

// algorithm is a JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1).
type algorithm struct {
	name string
	kind string      // of key
	hash crypto.Hash // 0: the message itself is signed
	pss  bool
	size int // of a number in an ECDSA signature, in bytes
}

// The first algorithm of a kind is the default.
var algorithms = []algorithm{
	{"RS256", "RSA", crypto.SHA256, false, 0}, {"RS384", "RSA", crypto.SHA384, false, 0}, {"RS512", "RSA", crypto.SHA512, false, 0},
	{"PS256", "RSA", crypto.SHA256, true, 0}, {"PS384", "RSA", crypto.SHA384, true, 0}, {"PS512", "RSA", crypto.SHA512, true, 0},
	{"ES256", "P-256", crypto.SHA256, false, 32}, {"ES384", "P-384", crypto.SHA384, false, 48}, {"ES512", "P-521", crypto.SHA512, false, 66},
	{"EdDSA", "Ed25519", 0, false, 0},
}

// sign signs a JWS signing input. It is guarded: an HSM may hang.
func (a algorithm) sign(ctx context.Context, field string, signer crypto.Signer, input string) ([]byte, error) {
	digest, opts := []byte(input), crypto.SignerOpts(a.hash)
	if a.hash != 0 {
		h := a.hash.New()
		h.Write(digest)
		digest = h.Sum(nil)
	}
	if a.pss { // RFC 7518 §3.5: the salt is as long as the hash
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash}
	}
	signature, err := guard(ctx, field, func(context.Context) ([]byte, error) { return signer.Sign(rand.Reader, digest, opts) })
	if err != nil || a.size == 0 {
		return signature, err
	}
	var rs struct{ R, S *big.Int } // RFC 7518 §3.4: not in ASN.1 but side by side
	if !unmarshalDER(signature, &rs) || rs.R.Sign() < 0 || rs.S.Sign() < 0 || rs.R.BitLen() > 8*a.size || rs.S.BitLen() > 8*a.size {
		return nil, fmt.Errorf("cdfauth: %s: the signature is not ECDSA's in ASN.1, which a crypto.Signer makes", field)
	}
	return append(rs.R.FillBytes(make([]byte, a.size)), rs.S.FillBytes(make([]byte, a.size))...), nil
}
