//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"time"
)

// This file is the client credentials flow with a private key instead of a secret.
// For each request the program signs a JWT that says who it is (RFC 7523 §2.2, §3),
// and that is of no use a few minutes later. In this order: the configuration, its
// checks, the provider, the assertion, its claims, the key, and what each identity
// provider wants in the header.

// ClientCertificateConfig configures [NewClientCertificate]. Endpoint, ClientID,
// Scopes and Params are as in [ClientCredentialsConfig].
type ClientCertificateConfig struct {
	Endpoint Endpoint
	ClientID string
	Scopes   []string
	Params   url.Values

	// Certificate is PEM text with one private key and, optionally, its certificate
	// and chain, in any order: SecretFile("tls.key", "tls.crt"). The key is PKCS#8,
	// PKCS#1 or SEC 1. It is RSA of 2048 bits or more, ECDSA on P-256, P-384 or
	// P-521, or Ed25519. The text is read for each exchange, and parsed when it has
	// changed. Line breaks that an environment variable or a secret store has
	// damaged are mended.
	//
	// Whether a certificate has expired is for the identity provider to judge. Most
	// know the public key alone and never see the dates, so that an expired
	// certificate goes on working there. Token fails with one only where the
	// provider would refuse it: with Entra, which knows the dates of the certificate
	// that was uploaded (AADSTS1000502, AADSTS700027), with AD FS, which checks that
	// certificate's revocation too (JWTSigningCertificateRevocationCheck), and with
	// SendChain (RFC 7515 §4.1.6).
	Certificate Secret

	// Passphrase is that of an encrypted key in Certificate. The key is then PKCS#8
	// with PBES2: PBKDF2, and AES or triple DES in CBC mode, as openssl writes it.
	Passphrase Secret

	// Signer replaces the key in Certificate, which then has certificates alone or
	// is nil. It is for an HSM, a TPM or a KMS. The provider calls it for each
	// exchange, and abandons it at the deadline of the exchange.
	Signer func(context.Context) (crypto.Signer, error)

	// Thumbprint is the hash of the certificate in hexadecimal digits: 40 of SHA-1,
	// sent as x5t, or 64 of SHA-256, sent as x5t#S256. Colons, blanks, and what
	// openssl prints before it do not matter. "" derives it from Certificate. If
	// Certificate has several certificates of the key, Thumbprint picks one.
	Thumbprint string

	// KeyID is sent as kid, for providers that look keys up by it.
	KeyID string

	// Algorithm is RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 or
	// EdDSA, and must fit the key. "" picks one:
	//
	//   - For ECDSA and Ed25519 keys, the only one there is.
	//   - For RSA keys with a Thumbprint, RS256 if it is SHA-1, PS256 if SHA-256.
	//   - For RSA keys without, PS256 for Entra, which recommends it, and RS256 for
	//     others, since all know it (OpenID Connect Core §15.1).
	//
	// The thumbprint that is derived from Certificate is that of SHA-1 for AD FS,
	// which knows nothing newer, and that of SHA-256 for others. Entra and AD FS,
	// recognised by their token endpoints, verify RSA signatures alone and find the
	// key by a thumbprint alone. Other keys, and keys with neither certificate nor
	// Thumbprint, are refused before they do so. Sources:
	// https://learn.microsoft.com/entra/identity-platform/certificate-credentials,
	// and the issues 2573 and 4428 of
	// https://github.com/AzureAD/microsoft-authentication-library-for-dotnet.
	Algorithm string

	// SendChain sends the certificate and its chain as x5c, for Entra's subject name
	// and issuer authentication.
	SendChain bool

	// Audience is the assertion's aud. "" means the token endpoint (RFC 7523 §3).
	// Some providers insist on their issuer.
	Audience string

	Options
}

// check reports the first field that is wrong, of those that only this flow has. It
// does not read the key, which nobody needs before the first Token, and it leaves
// Thumbprint to parseThumbprint.
func (cfg *ClientCertificateConfig) check() error {
	switch {
	case cfg.Certificate == nil && cfg.Signer == nil:
		return badField("Certificate",
			"is missing (is its environment variable empty?), and so is Signer")
	case cfg.Passphrase != nil && (cfg.Certificate == nil || cfg.Signer != nil):
		return badField("Passphrase", "is for a key in Certificate, and Signer is set instead")
	case cfg.SendChain && cfg.Certificate == nil:
		return badField("SendChain", "wants the chain in Certificate, which is missing")
	}
	alg, known := algorithmNamed(cfg.Algorithm)
	if cfg.Algorithm != "" && !known {
		return badField("Algorithm", "is %.20q: want one of %s", cfg.Algorithm, algorithmNames())
	}
	certified := cfg.Certificate != nil || cfg.Thumbprint != ""
	return providerOfEndpoint(cfg.Endpoint).check("Algorithm", alg.kind, certified)
}

// ClientCertificate is the provider of the client credentials flow with a key.
type ClientCertificate struct{ refresher *refresher }

// NewClientCertificate returns a provider for programs that have a private key. It
// checks cfg and does no I/O. What is wrong with the key itself, Token says.
func NewClientCertificate(cfg ClientCertificateConfig) (*ClientCertificate, error) {
	r := newRefresher("client certificate", cfg.Options)
	c, err := newClient("client certificate", cfg.Endpoint, cfg.ClientID, cfg.Scopes, cfg.Params,
		cfg.Options, &r.clock)
	if err != nil {
		return nil, err
	}
	s, err := newAssertionSigner(cfg, r.clock.now)
	if err != nil {
		return nil, err
	}
	r.silent = c.appPhase(r, cfg.Cache, s.authenticate)
	return &ClientCertificate{r}, nil
}

// Token returns an access token for the application. Its errors are those of
// [ClientCredentials.Token], and what is wrong with the key.
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

// An assertionSigner makes the assertions of a provider.
type assertionSigner struct {
	cfg        ClientCertificateConfig // checked
	thumbprint []byte                  // cfg.Thumbprint, decoded; nil for ""
	parse      func(keySource) (keyPair, error)
	now        func() time.Time
}

// newAssertionSigner checks those fields of cfg that only this flow has. now is the
// wall clock.
func newAssertionSigner(
	cfg ClientCertificateConfig, now func() time.Time,
) (*assertionSigner, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &assertionSigner{cfg: cfg, parse: cachedKeys(), now: now}
	if cfg.Thumbprint != "" {
		thumbprint, err := parseThumbprint(cfg.Thumbprint)
		if err != nil {
			return nil, err
		}
		s.thumbprint = thumbprint
	}
	return s, nil
}

// authenticate adds a new assertion to a token request.
func (s *assertionSigner) authenticate(
	ctx context.Context, tokenURL string, request *tokenRequest,
) error {
	jwt, err := s.assertion(ctx, tokenURL)
	if err != nil {
		return err
	}
	request.setAssertion(jwt)
	return nil
}

// assertionLifetime is how long an assertion is good for. Auth0 and others refuse
// more than five minutes, counted by a clock that may be a minute behind ours.
const assertionLifetime = 4 * time.Minute

// assertionClaims are what an assertion says (RFC 7523 §3). There is no nbf, which a
// provider whose clock is behind would refuse. The audience is no array, which some
// providers would refuse.
type assertionClaims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"`
	ID       string `json:"jti"`
	IssuedAt int64  `json:"iat"` // seconds since 1970
	Expiry   int64  `json:"exp"` // seconds since 1970
}

// assertion returns a JWT in compact form, for one request to tokenURL.
func (s *assertionSigner) assertion(ctx context.Context, tokenURL string) (string, error) {
	key, err := s.key(ctx)
	if err != nil {
		return "", err
	}
	now := s.now()
	alg, header, err := s.header(key, providerOf(tokenURL), now)
	if err != nil {
		return "", err
	}
	return alg.sign(ctx, key.field, key.signer, header, assertionClaims{
		Issuer:   s.cfg.ClientID,
		Subject:  s.cfg.ClientID,
		Audience: cmp.Or(s.cfg.Audience, tokenURL),
		ID:       rand.Text(),
		IssuedAt: now.Unix(),
		Expiry:   now.Add(assertionLifetime).Unix(),
	})
}

// key calls the functions of the configuration, which may fail or hang and are
// guarded, and parses what they return if that has changed.
func (s *assertionSigner) key(ctx context.Context) (keyPair, error) {
	var source keySource
	var signer crypto.Signer
	var err error
	if s.cfg.Signer != nil {
		signer, source.signerPublic, err = s.askSigner(ctx)
		if err != nil {
			return keyPair{}, err
		}
	}
	if s.cfg.Certificate != nil {
		source.text, err = s.cfg.Certificate.read(ctx, "Certificate")
		if err != nil {
			return keyPair{}, err
		}
	}
	if s.cfg.Passphrase != nil {
		source.passphrase, err = s.cfg.Passphrase.readLine(ctx, "Passphrase", passphraseProblem)
		if err != nil {
			return keyPair{}, err
		}
	}
	key, err := s.parse(source)
	if err != nil {
		return keyPair{}, err
	}
	if signer != nil {
		key.signer = signer
	}
	return key, nil
}

// askSigner returns the Signer's key, and its public key in DER. A Signer's Public may
// return anything, and x509 refuses to marshal what is no public key.
func (s *assertionSigner) askSigner(ctx context.Context) (crypto.Signer, string, error) {
	signer, err := guard(ctx, "Signer", s.cfg.Signer)
	if err != nil {
		return nil, "", err
	}
	public, err := guard(ctx, "Signer", func(context.Context) ([]byte, error) {
		if signer == nil {
			return nil, errors.New("returned nil: want a crypto.Signer")
		}
		return x509.MarshalPKIXPublicKey(signer.Public())
	})
	return signer, string(public), err
}

// An identityProvider is one of those that take only some keys: see Algorithm in
// ClientCertificateConfig. otherProvider takes all.
type identityProvider string

const (
	entra         identityProvider = "Entra"
	adfs          identityProvider = "AD FS"
	otherProvider identityProvider = ""
)

// providerOf recognises a provider by the path of its token endpoint. Every kind of
// Endpoint leads to one. The query is ignored: Azure AD B2C names its policy there.
func providerOf(tokenURL string) identityProvider {
	path, _, _ := strings.Cut(strings.ToLower(tokenURL), "?")
	path = strings.TrimSuffix(path, "/")
	switch {
	case strings.HasSuffix(path, "/oauth2/v2.0/token"):
		return entra
	case strings.HasSuffix(path, "/adfs/oauth2/token"):
		return adfs
	}
	return otherProvider
}

// providerOfEndpoint recognises a provider before its token endpoint is known. It
// returns otherProvider if only metadata will name the token endpoint.
func providerOfEndpoint(e Endpoint) identityProvider {
	switch e.kind {
	case kindAuthority:
		return entra
	case kindADFS:
		return adfs
	case kindTokenURL:
		return providerOf(e.url)
	}
	return otherProvider
}

// check refuses the keys that the provider would refuse: those of another kind than
// RSA, and those without a thumbprint. kind is the kind of the key, or "" while it is
// not known, and field is the field of the configuration that tells it. certified says
// that there is a thumbprint, or may be one when the key is read.
func (p identityProvider) check(field, kind string, certified bool) error {
	switch {
	case p == otherProvider:
		return nil
	case kind != "" && kind != "RSA":
		return badField(field, "cannot be used with %s, which takes RSA keys alone, not %s", p, kind)
	case !certified:
		return badField("Thumbprint", "is missing, and Certificate has no certificate"+
			" to derive it from: %s finds the key by it", p)
	}
	return nil
}

// showThumbprint is the command that prints a certificate's SHA-1. A test runs it.
const showThumbprint = "`openssl x509 -noout -fingerprint -sha1 -in tls.crt`"

// header picks the algorithm, and returns it with the header of the assertion.
func (s *assertionSigner) header(
	key keyPair, provider identityProvider, now time.Time,
) (alg algorithm, header jwsHeader, err error) {
	chain, err := s.chain(key, provider, now)
	if err != nil {
		return alg, header, err
	}
	thumbprint := s.thumbprint
	if len(thumbprint) == 0 && len(chain) > 0 {
		thumbprint, err = deriveThumbprint(chain[0], provider)
		if err != nil {
			return alg, header, err
		}
	}
	if err := provider.check(key.field, key.kind, len(thumbprint) > 0); err != nil {
		return alg, header, err
	}
	alg, err = s.algorithm(key, provider, thumbprint)
	if err != nil {
		return alg, header, err
	}
	header = jwsHeader{Algorithm: alg.name, Type: "JWT", KeyID: s.cfg.KeyID} // RFC 7519 §5.1
	header.setThumbprint(thumbprint)
	if s.cfg.SendChain {
		for _, c := range chain {
			header.Chain = append(header.Chain, c.Raw)
		}
	}
	return alg, header, nil
}

// chain returns the certificate of the key and its issuers, empty if there is none
// and none is needed. It refuses an expired one where the provider would do so: see
// Certificate.
func (s *assertionSigner) chain(
	key keyPair, provider identityProvider, now time.Time,
) ([]*x509.Certificate, error) {
	needed := s.cfg.SendChain || len(s.thumbprint) == 0
	chain, err := chainOf(key, s.thumbprint, needed, now)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		if s.cfg.SendChain {
			return nil, badField("SendChain", "is set, and Certificate has no certificate to send")
		}
		return nil, nil
	}
	if s.cfg.SendChain || provider != otherProvider {
		return chain, checkValidity(chain[0], now)
	}
	return chain, nil
}

// deriveThumbprint returns the hash that the provider knows the certificate by.
// Nothing is signed with SHA-1.
func deriveThumbprint(c *x509.Certificate, provider identityProvider) ([]byte, error) {
	if provider != adfs {
		return thumbprintOf(c, crypto.SHA256), nil
	}
	sum := thumbprintOf(c, crypto.SHA1)
	if sum == nil {
		return nil, badField("Thumbprint", "is missing: AD FS wants that of SHA-1,"+
			" which FIPS 140 mode does not compute but %s does", showThumbprint)
	}
	return sum, nil
}

// algorithm returns the configured algorithm, or the one that fits the key, the
// provider and the thumbprint: see Algorithm.
func (s *assertionSigner) algorithm(
	key keyPair, provider identityProvider, thumbprint []byte,
) (algorithm, error) {
	if s.cfg.Algorithm != "" {
		alg, _ := algorithmNamed(s.cfg.Algorithm)
		if alg.kind != key.kind {
			return algorithm{}, badField("Algorithm", "%s is for keys of %s, and the one of %s is of %s",
				alg.name, alg.kind, key.field, key.kind)
		}
		return alg, nil
	}
	// Entra knows PS256. So does a provider for which somebody has chosen SHA-256 for
	// Thumbprint. A thumbprint that was derived from Certificate says nothing of others.
	knowsPS256 := provider == entra || len(s.thumbprint) > 0
	if key.kind == "RSA" && knowsPS256 && len(thumbprint) == crypto.SHA256.Size() {
		alg, _ := algorithmNamed("PS256")
		return alg, nil
	}
	return defaultAlgorithm(key.kind), nil
}
