package cdfauth

import (
	"context"
	"crypto"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func derSignature(raw []byte) []byte {
	n := len(raw) / 2
	der, _ := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:n]), new(big.Int).SetBytes(raw[n:])})
	return der
}

// TestAssertionSignature: every algorithm, from a key and from a Signer that
// only signs.
func TestAssertionSignature(t *testing.T) {
	for _, a := range algorithms {
		name := map[string]string{"RSA": "rsa-pkcs8.pem", "P-256": "p256-sec1.pem", "P-384": "p384-pkcs8.pem", "P-521": "p521-pkcs8.pem", "Ed25519": "ed25519-pkcs8.pem"}[a.kind]
		key := parseTestKey(t, name)
		for source, cfg := range map[string]ClientCertificateConfig{
			"key":    {Certificate: SecretString(testKey(t, name)), Algorithm: a.name},
			"Signer": {Signer: func(context.Context) (crypto.Signer, error) { return hsm{key}, nil }, Algorithm: a.name},
			"Signer with certificate": {Signer: func(context.Context) (crypto.Signer, error) { return hsm{key}, nil }, Algorithm: a.name,
				Certificate: SecretString(pemOf(issueCert(t, "hsm", key, nil, nil, nil)))},
		} {
			for range 5 { // numbers of ECDSA with leading zeros are there by chance; see TestRawSignature
				jwt, err := newTestSigner(t, cfg).assertion(t.Context(), plainURL)
				if err != nil {
					t.Fatalf("%s by %s: %v", a.name, source, err)
				}
				o := open(t, jwt)
				if o.header["alg"] != a.name || !o.verify(key.Public()) {
					t.Errorf("%s by %s: not verified, %v", a.name, source, o.header)
				}
				if (o.header["x5t#S256"] != nil) != strings.Contains(source, "certificate") {
					t.Errorf("%s by %s: %v", a.name, source, o.header)
				}
				o.input += "x"
				if o.verify(key.Public()) {
					t.Errorf("%s by %s: verified although changed", a.name, source)
				}
			}
		}
	}
}

// TestRawSignature: both numbers of an ECDSA signature keep their width.
func TestRawSignature(t *testing.T) {
	public := parseTestKey(t, "p256-pkcs8.pem").Public()
	assertion := func(signature []byte) (string, error) {
		s := signFunc{public, func() ([]byte, error) { return signature, nil }}
		return newTestSigner(t, ClientCertificateConfig{Signer: func(context.Context) (crypto.Signer, error) { return s, nil }}).assertion(t.Context(), plainURL)
	}
	short := append(make([]byte, 31), 1)
	long := slices.Repeat([]byte{0xff}, 32)
	for _, raw := range [][]byte{slices.Concat(short, long), slices.Concat(long, short), make([]byte, 64)} {
		jwt, err := assertion(derSignature(raw))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(raw, open(t, jwt).signature); d != "" {
			t.Error(d)
		}
	}
	wrong := func(r, s *big.Int) []byte {
		der, _ := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		return der
	}
	for name, signature := range map[string][]byte{"none": nil, "raw": make([]byte, 64), "too long": wrong(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)),
		"negative": wrong(big.NewInt(1), big.NewInt(-1)), "more after it": append(derSignature(long), 0)} {
		if _, err := assertion(signature); err == nil || err.Error() != "cdfauth: Signer: the signature is not ECDSA's in ASN.1, which a crypto.Signer makes" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
