package cdfauth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cdfauth/internal/idptest"

	"github.com/google/go-cmp/cmp"
)

const (
	plainURL = "https://idp.test/token"
	entraURL = "https://login.microsoftonline.com/tenant/oauth2/v2.0/token"
	adfsURL  = "https://sts.example.com/adfs/oauth2/token"
)

// newTestSigner returns the signer of the assertions of a provider with cfg.
func newTestSigner(t testing.TB, cfg ClientCertificateConfig) *assertionSigner {
	t.Helper()
	cfg.ClientID = "client"
	s, err := newAssertionSigner(cfg, func() time.Time { return testNow })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// opened is a JWT taken apart.
type opened struct {
	header, claims map[string]any
	input          string
	signature      []byte
}

// open takes a JWT apart (RFC 7515 §7.1).
func open(t testing.TB, jwt string) opened {
	t.Helper()
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts, want 3", len(parts))
	}
	o := opened{input: parts[0] + "." + parts[1]}
	for i, v := range []any{&o.header, &o.claims} {
		b, err := base64.RawURLEncoding.Strict().DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(b, v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if o.signature, err = base64.RawURLEncoding.Strict().DecodeString(parts[2]); err != nil {
		t.Fatal(err)
	}
	return o
}

// verify reports whether the signature of o is that of RFC 7518 §3 (RFC 8037 §3.1 for
// EdDSA), as a provider would find out, by means of crypto alone.
func (o opened) verify(public crypto.PublicKey) bool {
	alg := o.header["alg"].(string)
	if key, ok := public.(ed25519.PublicKey); ok {
		return alg == "EdDSA" && ed25519.Verify(key, []byte(o.input), o.signature)
	}
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384,
		"512": crypto.SHA512}[alg[2:]]
	h := hash.New()
	io.WriteString(h, o.input)
	digest := h.Sum(nil)
	switch key := public.(type) {
	case *rsa.PublicKey:
		if alg[:2] == "PS" {
			return rsa.VerifyPSS(key, hash, digest, o.signature,
				&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return alg[:2] == "RS" && rsa.VerifyPKCS1v15(key, hash, digest, o.signature) == nil
	case *ecdsa.PublicKey:
		n := len(o.signature) / 2
		size := map[string]int{"ES256": 32, "ES384": 48, "ES512": 66}[alg]
		return n == size && ecdsa.VerifyASN1(key, digest, derSignature(o.signature))
	}
	return false
}

// TestAssertionHeaderFitsKeyAndProvider: the header of an assertion names an algorithm that
// fits the key, and a thumbprint by which the provider finds its certificate (RFC 7515
// §4.1.7 and §4.1.8). Entra and AD FS take RSA keys alone and want a thumbprint, AD FS that
// of SHA-1.
func TestAssertionHeaderFitsKeyAndProvider(t *testing.T) {
	type header = map[string]any
	rsaKey, ecKey, edKey := parseTestKey(t, "rsa-pkcs1.pem"), parseTestKey(t, "p256-pkcs8.pem"),
		parseTestKey(t, "ed25519-pkcs8.pem")
	root := issueCert(t, "root", edKey, nil, nil, func(c *x509.Certificate) { c.IsCA = true })
	rsaCert, ecCert := issueCert(t, "rsa", rsaKey, root, edKey, nil),
		issueCert(t, "ec", ecKey, root, edKey, nil)
	b64 := base64.RawURLEncoding.EncodeToString
	sha2 := func(c *x509.Certificate) string { s := sha256.Sum256(c.Raw); return b64(s[:]) }
	x5c := func(c *x509.Certificate) string { return base64.StdEncoding.EncodeToString(c.Raw) }
	rsaText, ecText := pemOfKey(t, rsaKey), pemOfKey(t, ecKey)
	given40, given64 := "00:FF"+strings.Repeat(":ab", 18), "fe"+strings.Repeat("01", 31)
	sent40, sent64 := b64(append([]byte{0, 0xff}, slices.Repeat([]byte{0xab}, 18)...)),
		b64(append([]byte{0xfe}, slices.Repeat([]byte{1}, 31)...))
	own40 := thumbprintOf(rsaCert, crypto.SHA1)
	if own40 == nil { // FIPS 140 mode computes no SHA-1: any thumbprint serves here
		own40 = make([]byte, crypto.SHA1.Size())
	}
	type config = ClientCertificateConfig

	tests := []struct {
		name string
		url  string
		text string // of Certificate
		cfg  config
		want header
		err  string
	}{
		{"RSA", plainURL, rsaText, config{}, header{"alg": "RS256", "typ": "JWT"}, ""},
		{"RSA with certificate", plainURL, rsaText + pemOf(rsaCert), config{},
			header{"alg": "RS256", "typ": "JWT", "x5t#S256": sha2(rsaCert)}, ""},
		{"RSA, given SHA-1", plainURL, rsaText, config{Thumbprint: given40},
			header{"alg": "RS256", "typ": "JWT", "x5t": sent40}, ""},
		{"RSA, given SHA-256", plainURL, rsaText, config{Thumbprint: given64},
			header{"alg": "PS256", "typ": "JWT", "x5t#S256": sent64}, ""},
		{"given before derived", plainURL, rsaText + pemOf(rsaCert), config{Thumbprint: hexOf(own40)},
			header{"alg": "RS256", "typ": "JWT", "x5t": b64(own40)}, ""},
		{"P-256", plainURL, ecText, config{}, header{"alg": "ES256", "typ": "JWT"}, ""},
		{"P-256 with certificate", plainURL, ecText + pemOf(ecCert), config{},
			header{"alg": "ES256", "typ": "JWT", "x5t#S256": sha2(ecCert)}, ""},
		{"P-256, given SHA-256", plainURL, ecText, config{Thumbprint: given64},
			header{"alg": "ES256", "typ": "JWT", "x5t#S256": sent64}, ""},
		{"P-256, given SHA-1", plainURL, ecText, config{Thumbprint: given40},
			header{"alg": "ES256", "typ": "JWT", "x5t": sent40}, ""},
		{"P-384", plainURL, testKey(t, "p384-pkcs8.pem"), config{},
			header{"alg": "ES384", "typ": "JWT"}, ""},
		{"P-521", plainURL, testKey(t, "p521-pkcs8.pem"), config{},
			header{"alg": "ES512", "typ": "JWT"}, ""},
		{"Ed25519", plainURL, testKey(t, "ed25519-pkcs8.pem"), config{},
			header{"alg": "EdDSA", "typ": "JWT"}, ""},
		{"kid", plainURL, ecText, config{KeyID: `k"1`},
			header{"alg": "ES256", "typ": "JWT", "kid": `k"1`}, ""},
		{"algorithm", plainURL, rsaText, config{Algorithm: "PS512"},
			header{"alg": "PS512", "typ": "JWT"}, ""},
		{"algorithm before thumbprint", plainURL, rsaText,
			config{Algorithm: "RS384", Thumbprint: given64},
			header{"alg": "RS384", "typ": "JWT", "x5t#S256": sent64}, ""},
		{"chain", plainURL, ecText + pemOf(root, ecCert), config{SendChain: true},
			header{"alg": "ES256", "typ": "JWT", "x5t#S256": sha2(ecCert),
				"x5c": []any{x5c(ecCert), x5c(root)}}, ""},
		{"chain missing", plainURL, ecText, config{SendChain: true}, nil,
			"SendChain is set, and Certificate has no certificate to send"},
		{"another key's algorithm", plainURL, rsaText, config{Algorithm: "ES256"}, nil,
			"Algorithm ES256 is for keys of P-256, and the one of Certificate is of RSA"},
		{"another curve's algorithm", plainURL, ecText, config{Algorithm: "ES384"}, nil,
			"Algorithm ES384 is for keys of P-384, and the one of Certificate is of P-256"},

		{"Entra", entraURL, rsaText + pemOf(rsaCert), config{},
			header{"alg": "PS256", "typ": "JWT", "x5t#S256": sha2(rsaCert)}, ""},
		{"Entra, given SHA-1", entraURL, rsaText, config{Thumbprint: given40},
			header{"alg": "RS256", "typ": "JWT", "x5t": sent40}, ""},
		{"Entra, given SHA-256", entraURL, rsaText, config{Thumbprint: given64},
			header{"alg": "PS256", "typ": "JWT", "x5t#S256": sent64}, ""},
		{"Entra, algorithm", entraURL, rsaText + pemOf(rsaCert), config{Algorithm: "RS256"},
			header{"alg": "RS256", "typ": "JWT", "x5t#S256": sha2(rsaCert)}, ""},
		{"Entra, chain", entraURL, pemOf(root, rsaCert) + rsaText, config{SendChain: true},
			header{"alg": "PS256", "typ": "JWT", "x5t#S256": sha2(rsaCert),
				"x5c": []any{x5c(rsaCert), x5c(root)}}, ""},
		{"Azure AD B2C", "https://t.b2clogin.com/t/OAuth2/v2.0/token?p=policy", rsaText + pemOf(rsaCert),
			config{}, header{"alg": "PS256", "typ": "JWT", "x5t#S256": sha2(rsaCert)}, ""},
		{"Entra, P-256", entraURL, ecText + pemOf(ecCert), config{}, nil,
			"Certificate cannot be used with Entra, which takes RSA keys alone, not P-256"},
		{"Entra, Ed25519", entraURL, testKey(t, "ed25519-pkcs8.pem"), config{Thumbprint: given64}, nil,
			"Certificate cannot be used with Entra, which takes RSA keys alone, not Ed25519"},
		{"Entra, key alone", entraURL, rsaText, config{}, nil,
			"Thumbprint is missing, and Certificate has no certificate to derive it from: Entra"},

		{"AD FS, given SHA-1", adfsURL, rsaText, config{Thumbprint: given40},
			header{"alg": "RS256", "typ": "JWT", "x5t": sent40}, ""},
		{"AD FS, given SHA-256", adfsURL + "/", rsaText, config{Thumbprint: given64},
			header{"alg": "PS256", "typ": "JWT", "x5t#S256": sent64}, ""},
		{"AD FS, P-256", adfsURL, ecText, config{Thumbprint: given40}, nil,
			"Certificate cannot be used with AD FS, which takes RSA keys alone, not P-256"},
		{"AD FS, key alone", adfsURL, rsaText, config{}, nil,
			"Thumbprint is missing, and Certificate has no certificate to derive it from: AD FS"},
	}
	adfsDerived := tests[len(tests)-1]
	adfsDerived.name, adfsDerived.text, adfsDerived.err = "AD FS", rsaText+pemOf(rsaCert),
		"Thumbprint is missing: AD FS wants that of SHA-1, which FIPS 140 mode does not compute but `openssl x509 "
	if !fipsOnly {
		sum := sha1.Sum(rsaCert.Raw)
		adfsDerived.want, adfsDerived.err = header{"alg": "RS256", "typ": "JWT", "x5t": b64(sum[:])}, ""
	}
	for _, tt := range append(tests, adfsDerived) {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Certificate = SecretString(tt.text)
			jwt, err := newTestSigner(t, tt.cfg).assertion(t.Context(), tt.url)
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: "+tt.err) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, open(t, jwt).header); d != "" {
				t.Errorf("header (-want +got):\n%s", d)
			}
		})
	}
}

// TestAssertionClaimsWhatRFC7523Demands: iss and sub are the client, aud is the token
// endpoint or the Audience that was set, and exp is soon (RFC 7523 §3). Each assertion has
// another jti, since a provider may refuse one that it has seen.
func TestAssertionClaimsWhatRFC7523Demands(t *testing.T) {
	for audience, want := range map[string]string{"": plainURL + "?a=b&c",
		"https://issuer.test/": "https://issuer.test/"} {
		s := newTestSigner(t,
			ClientCertificateConfig{Certificate: SecretString(testKey(t, "p256-pkcs8.pem")),
				Audience: audience})
		seen := map[string]bool{}
		for range 3 {
			jwt, err := s.assertion(t.Context(), plainURL+"?a=b&c")
			if err != nil {
				t.Fatal(err)
			}
			claims := open(t, jwt).claims
			jti, _ := claims["jti"].(string)
			if len(jti) < 22 || seen[jti] { // 22 digits of base64 have 128 bits
				t.Errorf("jti %q, after %v", jti, seen)
			}
			seen[jti] = true
			delete(claims, "jti")
			now := float64(testNow.Unix())
			if d := cmp.Diff(
				map[string]any{"iss": "client", "sub": "client", "aud": want, "iat": now, "exp": now + 240},
				claims); d != "" {
				t.Errorf("claims (-want +got):\n%s", d)
			}
		}
	}
}

// hsm is a Signer that hides its key, as one in hardware does.
type hsm struct{ key crypto.Signer }

func (h hsm) Public() crypto.PublicKey { return h.key.Public() }

func (h hsm) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return h.key.Sign(r, digest, opts)
}

// signFunc is a Signer whose signatures a function of the test makes.
type signFunc struct {
	public crypto.PublicKey
	sign   func() ([]byte, error)
}

func (f signFunc) Public() crypto.PublicKey { return f.public }

func (f signFunc) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return f.sign()
}

// TestAssertionIsVerifiedByOpenSSL: the signature of every algorithm is one that another
// implementation accepts, which is OpenSSL here.
func TestAssertionIsVerifiedByOpenSSL(t *testing.T) {
	run := openssl(t)
	if run == nil {
		return
	}
	for alg, name := range map[string]string{"RS256": "rsa-pkcs8.pem", "PS256": "rsa-pkcs8.pem",
		"RS512": "rsa-pkcs8.pem", "PS384": "rsa-pkcs8.pem",
		"ES256": "p256-pkcs8.pem", "ES384": "p384-pkcs8.pem", "ES512": "p521-pkcs8.pem",
		"EdDSA": "ed25519-pkcs8.pem"} {
		s := newTestSigner(t, ClientCertificateConfig{
			Certificate: SecretString(testKey(t, name)),
			Algorithm:   alg,
		})
		jwt, err := s.assertion(t.Context(), plainURL)
		if err != nil {
			t.Fatal(err)
		}
		o := open(t, jwt)
		dir := t.TempDir()
		file := func(name, content string) string {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			return path
		}
		public := file("public.pem", run(testKey(t, name), "pkey", "-pubout"))
		args := []string{"dgst", "-sha" + alg[2:], "-verify", public}
		signature := o.signature
		switch alg[:2] {
		case "PS":
			salt := map[string]string{"256": "32", "384": "48"}[alg[2:]]
			args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_mgf1_md:sha"+alg[2:],
				"-sigopt", "rsa_pss_saltlen:"+salt)
		case "ES":
			signature = derSignature(signature)
		case "Ed":
			run("", "pkeyutl", "-verify", "-pubin", "-inkey", public, "-rawin", "-in",
				file("input", o.input), "-sigfile", file("signature", string(signature)))
			continue
		}
		args = append(args, "-signature", file("signature", string(signature)), file("input", o.input))
		if got := run("", args...); strings.TrimSpace(got) != "Verified OK" {
			t.Errorf("%s: %s", alg, got)
		}
	}
}

// TestClientCertificateConfigErrorsNameTheField: the constructor refuses each misuse, with
// an error that begins with the name of the field. It reads no secret and calls no Signer.
func TestClientCertificateConfigErrorsNameTheField(t *testing.T) {
	key := SecretString("PEM, which the constructor does not look at")
	signer := func(context.Context) (crypto.Signer, error) { panic("called by the constructor") }
	ok := func() ClientCertificateConfig {
		return ClientCertificateConfig{Endpoint: Entra("contoso.onmicrosoft.com"), ClientID: "id",
			Certificate: key, Scopes: ClusterScopes("greenfield")}
	}
	type config = *ClientCertificateConfig
	for _, tt := range []struct {
		want   string // in the error; "" for none
		change func(config)
	}{
		{"", func(config) {}},
		{"", func(c config) {
			c.Certificate = func(context.Context) (string, error) { panic("called by the constructor") }
		}},
		{"", func(c config) {
			c.Certificate, c.Signer, c.Thumbprint = nil, signer, strings.Repeat("0f", 20)
		}},
		{"", func(c config) { c.Signer = signer }},
		{"", func(c config) { c.Passphrase, c.SendChain, c.KeyID = key, true, "x" }},
		{"", func(c config) { c.Algorithm = "RS512" }},
		{"", func(c config) { c.Endpoint, c.Algorithm = Issuer("https://idp.test"), "ES512" }},
		{"", func(c config) { c.Endpoint, c.Certificate, c.Signer = TokenURL(plainURL), nil, signer }},
		{"Endpoint is missing", func(c config) { c.Endpoint = Endpoint{} }},
		{"ClientID is missing", func(c config) { c.ClientID = "" }},
		{"Scopes was", func(c config) { c.Scopes = ClusterScopes("/") }},
		{`Params has "client_assertion"`,
			func(c config) { c.Params = url.Values{"client_assertion": {"x"}} }},
		{"Leeway is negative", func(c config) { c.Leeway = -1 }},
		{"Certificate is missing", func(c config) { c.Certificate = SecretFile("") }},
		{"Passphrase is for a key in Certificate",
			func(c config) { c.Signer, c.Passphrase = signer, key }},
		{"Passphrase is for a key in Certificate",
			func(c config) { c.Certificate, c.Signer, c.Passphrase = nil, signer, key }},
		{"SendChain wants the chain in Certificate",
			func(c config) { c.Certificate, c.Signer, c.SendChain = nil, signer, true }},
		{"Thumbprint is ", func(c config) { c.Thumbprint = strings.Repeat("0f", 21) }},
		{"Thumbprint is ", func(c config) { c.Thumbprint = strings.Repeat("0g", 20) }},
		{"Thumbprint is ", func(c config) { c.Thumbprint = strings.Repeat("0", 39) }},
		{"Thumbprint is ", func(c config) { c.Thumbprint = ":" }},
		{`Algorithm is "none": want one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA`,
			func(c config) { c.Algorithm = "none" }},
		{`Algorithm is "HS256": want one of RS256, `, func(c config) { c.Algorithm = "HS256" }},
		{`Algorithm is "rs256": want one of RS256, `, func(c config) { c.Algorithm = "rs256" }},
		{"Algorithm cannot be used with Entra, which takes RSA keys alone, not P-384",
			func(c config) { c.Algorithm = "ES384" }},
		{"Algorithm cannot be used with AD FS, which takes RSA keys alone, not Ed25519", func(c config) {
			c.Endpoint, c.Algorithm = Authority("https://sts.test/adfs"), "EdDSA"
		}},
		{"Algorithm cannot be used with Entra, which takes RSA keys alone, not P-256",
			func(c config) { c.Endpoint, c.Algorithm = TokenURL(entraURL), "ES256" }},
		{"Thumbprint is missing", func(c config) { c.Certificate, c.Signer = nil, signer }},
	} {
		cfg := ok()
		tt.change(&cfg)
		p, err := NewClientCertificate(cfg)
		switch {
		case tt.want == "" && (p == nil || err != nil):
			t.Errorf("want none, got %v", err)
		case tt.want != "" &&
			(p != nil || err == nil || !strings.HasPrefix(err.Error(), "cdfauth: "+tt.want)):
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
}

// TestSignerThatMisbehavesIsNamed: a Signer is the caller's code, and may fail, panic or
// return nonsense. Each of these is an error that names Signer, and never a panic.
func TestSignerThatMisbehavesIsNamed(t *testing.T) {
	key := parseTestKey(t, "p256-pkcs8.pem")
	errHSM := errors.New("HSM says no")
	yield := func(s crypto.Signer) func(context.Context) (crypto.Signer, error) {
		return func(context.Context) (crypto.Signer, error) { return s, nil }
	}
	for _, tt := range []struct {
		name   string
		signer func(context.Context) (crypto.Signer, error)
		is     error
		want   string
	}{
		{"fails", func(context.Context) (crypto.Signer, error) { return nil, errHSM }, errHSM,
			"Signer: HSM says no"},
		{"yields nil", yield(nil), nil, "Signer: returned nil: want a crypto.Signer"},
		{"yields a nil key", yield((*ecdsa.PrivateKey)(nil)), nil, "Signer panicked: "},
		{"panics", func(context.Context) (crypto.Signer, error) { panic("s3cret") }, nil,
			"Signer panicked with a string"},
		{"no public key", yield(signFunc{}), nil, "Signer: x509: unsupported public key type"},
		{"empty public key", yield(signFunc{public: &rsa.PublicKey{}}), nil, "Signer: asn1: "},
		{"public key off the curve",
			yield(signFunc{public: &ecdsa.PublicKey{Curve: key.(*ecdsa.PrivateKey).Curve, X: big.NewInt(1),
				Y: big.NewInt(1)}}),
			nil, "Signer: "},
		{"public key by value", yield(signFunc{public: *key.Public().(*ecdsa.PublicKey)}), nil,
			"Signer: x509: unsupported public key type"},
		{"Sign fails", yield(signFunc{key.Public(), func() ([]byte, error) { return nil, errHSM }}),
			errHSM, "Signer: HSM says no"},
		{"Sign panics", yield(signFunc{key.Public(), func() ([]byte, error) { panic(errHSM) }}), nil,
			"Signer panicked with a *errors.errorString"},
		{"small key", yield(hsm{mustKey(x509.ParsePKCS8PrivateKey(testDER(t, "rsa-1024.pem")))}), nil,
			"Signer has an RSA key of 1024 bits"},
	} {
		_, err := newTestSigner(t,
			ClientCertificateConfig{Signer: tt.signer}).assertion(t.Context(), plainURL)
		if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: "+tt.want) ||
			strings.Contains(err.Error(), "s3cret") || tt.is != nil && !errors.Is(err, tt.is) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestKeyIsParsedAgainWhenItsSourceHasChanged: decrypting a key can take a second, so the
// provider parses it once for each text and passphrase, and once more when its certificate
// is no longer valid. A text that cannot be parsed is an error, and does not displace the
// key that was parsed before.
func TestKeyIsParsedAgainWhenItsSourceHasChanged(t *testing.T) {
	now := testNow
	key, other := parseTestKey(t, "p256-pkcs8.pem"), parseTestKey(t, "ed25519-pkcs8.pem")
	good := pemOfKey(t, key) + pemOf(issueCert(t, "good", key, nil, nil, nil))
	text, passphrase := good, ""
	s := newTestSigner(t, ClientCertificateConfig{
		Certificate: func(context.Context) (string, error) { return text, nil },
		Passphrase:  func(context.Context) (string, error) { return "x" + passphrase, nil },
	})
	s.now = func() time.Time { return now }
	parse := func() crypto.Signer {
		t.Helper()
		pair, err := s.key(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return pair.signer
	}
	first := parse()
	if parse() != first {
		t.Error("parsed again although nothing changed")
	}
	text = pemOfKey(t, key) + pemOf(issueCert(t, "other", other, nil, nil, nil)) // half written
	if _, err := s.assertion(t.Context(), plainURL); err == nil ||
		!strings.Contains(err.Error(), "has no certificate that belongs to the private key") {
		t.Errorf("half-written: %v", err)
	}
	text = good
	if parse() != first {
		t.Error("parsed again although the text is what it was")
	}
	passphrase = "y"
	second := parse()
	if second == first {
		t.Error("not parsed again although the passphrase changed")
	}
	text = pemOfKey(t, other)
	if _, ok := parse().(ed25519.PrivateKey); !ok {
		t.Error("not parsed again although the text changed")
	}
	text = good
	parse()
	now = now.Add(24*time.Hour + time.Second)
	s.cfg.SendChain = true // the provider would see the certificate
	if _, err := s.assertion(t.Context(), plainURL); err == nil ||
		!strings.Contains(err.Error(), "expired") {
		t.Errorf("expired since it was parsed: %v", err)
	}

	// A Signer's key may change as well.
	var signer crypto.Signer = hsm{key}
	s = newTestSigner(t, ClientCertificateConfig{Signer: func(context.Context) (crypto.Signer, error) {
		return signer, nil
	}})
	for _, k := range []crypto.Signer{key, other, key} {
		signer = hsm{k}
		jwt, err := s.assertion(t.Context(), plainURL)
		if err != nil {
			t.Fatal(err)
		}
		if !open(t, jwt).verify(k.Public()) {
			t.Error("signed by the former key")
		}
	}
}

// TestAssertionsAreMadeConcurrently: an assertion is signed by the key of the text that was
// read for it, though another goroutine has read another text meanwhile.
func TestAssertionsAreMadeConcurrently(t *testing.T) {
	texts := []string{testKey(t, "p256-pkcs8.pem"), testKey(t, "ed25519-pkcs8.pem")}
	keys := []crypto.Signer{parseTestKey(t, "p256-pkcs8.pem"), parseTestKey(t, "ed25519-pkcs8.pem")}
	type number struct{}
	s := newTestSigner(t,
		ClientCertificateConfig{Certificate: func(ctx context.Context) (string, error) {
			return texts[ctx.Value(number{}).(int)], nil
		}})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 20 {
				jwt, err := s.assertion(context.WithValue(t.Context(), number{}, i%2), plainURL)
				if err != nil {
					t.Error(err)
					return
				}
				if !open(t, jwt).verify(keys[i%2].Public()) {
					t.Error("signed by the key of another text")
				}
			}
		}()
	}
	wg.Wait()
}

// TestClientCertificateSendsANewAssertionForEachAttempt: a provider may refuse an assertion
// whose jti it has seen (RFC 7523 §3), so that each attempt has another one. The form has
// the parameters of RFC 7523 §2.2 and nothing else.
func TestClientCertificateSendsANewAssertionForEachAttempt(t *testing.T) {
	idp := idptest.New()
	key := parseTestKey(t, "rsa-pkcs8.pem")
	p := newCertificateProvider(t, idp,
		ClientCertificateConfig{Endpoint: Issuer("https://idp.test"),
			Certificate: SecretString(testKey(t, "rsa-pkcs8.pem")),
			Scopes:      []string{"a", "b"}, Params: url.Values{"resource": {"urn:x"}}})
	if n := len(idp.Requests("")); n != 0 {
		t.Errorf("the constructor sent %d requests", n)
	}
	idp.Fault(idptest.Status(503))
	idp.Always(idptest.Body(`{"access_token":"tok","expires_in":3600}`))
	tok, err := p.Token(t.Context())
	if err != nil || tok.AccessToken() != "tok" {
		t.Fatal(err)
	}
	requests := idp.Requests("/token")
	if len(requests) != 2 {
		t.Fatalf("%d requests, want 2", len(requests))
	}
	seen := map[any]bool{}
	for _, r := range requests {
		o := open(t, r.Form.Get("client_assertion"))
		if !o.verify(key.Public()) || o.claims["aud"] != plainURL || seen[o.claims["jti"]] {
			t.Errorf("not verified, or with a used jti: %v", o.claims)
		}
		seen[o.claims["jti"]] = true
		r.Form.Del("client_assertion")
		if d := cmp.Diff(url.Values{"grant_type": {"client_credentials"}, "client_id": {"client"},
			"scope": {"a b"}, "resource": {"urn:x"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}},
			r.Form); d != "" {
			t.Errorf("form (-want +got):\n%s", d)
		}
		if r.Authorization != "" {
			t.Error("authenticated twice")
		}
	}
}

// TestClientCertificateErrorHidesTheAssertion: a provider may repeat the assertion in its
// error. The caller gets the error's code and words, without any part of the assertion.
func TestClientCertificateErrorHidesTheAssertion(t *testing.T) {
	idp := idptest.New()
	idp.Always(func(w http.ResponseWriter, r *http.Request) {
		idptest.Error(401, "invalid_client",
			"AADSTS700027: "+r.PostForm.Get("client_assertion")+" is not registered")(w, r)
	})
	p := newCertificateProvider(t, idp,
		ClientCertificateConfig{Certificate: SecretString(testKey(t, "p256-pkcs8.pem"))})
	_, err := p.Token(t.Context())
	if oe := (*OAuthError)(nil); !errors.As(err, &oe) || oe.Code != "invalid_client" {
		t.Fatalf("got %v, want an OAuthError", err)
	}
	for _, part := range strings.Split(idp.Requests("/token")[0].Form.Get("client_assertion"), ".") {
		if strings.Contains(err.Error(), part[:10]) {
			t.Errorf("the assertion is in the error: %v", err)
		}
	}
	if !strings.Contains(err.Error(), "AADSTS700027") {
		t.Error(err)
	}
}

// TestClientCertificateHidesItsKey: printers and debuggers follow fields and pointers, and
// no field of a provider leads to the parsed key. TestNoExportedTypeShowsASecret looks for
// the texts of keys.
func TestClientCertificateHidesItsKey(t *testing.T) {
	idp := idptest.New()
	idp.Always(idptest.Body(`{"access_token":"tok","expires_in":3600}`))
	p := newCertificateProvider(t, idp,
		ClientCertificateConfig{Certificate: SecretString(testKey(t, "rsa-pkcs8.pem"))})
	if _, err := p.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := newTestSigner(t,
		ClientCertificateConfig{Certificate: SecretString(testKey(t, "rsa-pkcs8.pem"))})
	key, err := s.key(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// Whether v has numbers of which RSA and ECDSA keys consist.
	var find func(v reflect.Value, depth int) bool
	find = func(v reflect.Value, depth int) bool {
		switch {
		case depth > 12 || !v.IsValid():
		case v.Type() == reflect.TypeFor[big.Int]():
			return true
		case v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface:
			return find(v.Elem(), depth+1)
		case v.Kind() == reflect.Struct:
			for i := range v.NumField() {
				if find(v.Field(i), depth+1) {
					return true
				}
			}
		}
		return false
	}
	if find(reflect.ValueOf(p), 0) || find(reflect.ValueOf(s), 0) || !find(reflect.ValueOf(&key), 0) {
		t.Error("the key is in a field, or cannot be found")
	}
}
