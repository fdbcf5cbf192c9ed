package cdfauth

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func derSignature(raw []byte) []byte {
	n := len(raw) / 2
	der, _ := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:n]),
		new(big.Int).SetBytes(raw[n:])})
	return der
}

// TestAssertionIsSignedByEveryAlgorithm: The provider signs with each algorithm
// of the documentation, with a key from PEM and with a Signer that can do
// nothing but sign, as that of a hardware module.
func TestAssertionIsSignedByEveryAlgorithm(t *testing.T) {
	for _, a := range algorithms {
		name := map[string]string{"RSA": "rsa-pkcs8.pem", "P-256": "p256-sec1.pem",
			"P-384": "p384-pkcs8.pem", "P-521": "p521-pkcs8.pem", "Ed25519": "ed25519-pkcs8.pem"}[a.kind]
		key := parseTestKey(t, name)
		for source, cfg := range map[string]ClientCertificateConfig{
			"key": {Certificate: SecretString(testKey(t, name)), Algorithm: a.name},
			"Signer": {Signer: func(context.Context) (crypto.Signer, error) { return hsm{key}, nil },
				Algorithm: a.name},
			"Signer with certificate": {
				Signer:      func(context.Context) (crypto.Signer, error) { return hsm{key}, nil },
				Algorithm:   a.name,
				Certificate: SecretString(pemOf(issueCert(t, "hsm", key, nil, nil, nil)))},
		} {
			// Numbers of ECDSA with leading zeros are there by chance; see
			// TestECDSANumbersKeepTheirWidth.
			for range 5 {
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

// TestECDSANumbersKeepTheirWidth: A JWS has both numbers of an ECDSA signature
// in their full width (RFC 7518 §3.4), while a Signer returns them in ASN.1,
// without leading zeros. About one signature in 128 has such a zero.
func TestECDSANumbersKeepTheirWidth(t *testing.T) {
	public := parseTestKey(t, "p256-pkcs8.pem").Public()
	assertion := func(signature []byte) (string, error) {
		s := signFunc{public, func() ([]byte, error) { return signature, nil }}
		cfg := ClientCertificateConfig{Signer: func(context.Context) (crypto.Signer, error) {
			return s, nil
		}}
		return newTestSigner(t, cfg).assertion(t.Context(), plainURL)
	}
	short := append(make([]byte, 31), 1)
	long := slices.Repeat([]byte{0xff}, 32)
	for _, raw := range [][]byte{slices.Concat(short, long), slices.Concat(long, short),
		make([]byte, 64)} {
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
	for name, signature := range map[string][]byte{"none": nil, "raw": make([]byte, 64),
		"too long":      wrong(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)),
		"negative":      wrong(big.NewInt(1), big.NewInt(-1)),
		"more after it": append(derSignature(long), 0)} {
		if _, err := assertion(signature); err == nil ||
			err.Error() != "cdfauth: Signer: the signature is not ECDSA's in ASN.1, which a crypto.Signer makes" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// fromBase64 decodes base64url of a JWK or a JWS.
func fromBase64(t *testing.T, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// number decodes a number of a JWK (RFC 7518 §2).
func number(t *testing.T, text string) *big.Int {
	t.Helper()
	return new(big.Int).SetBytes(fromBase64(t, text))
}

// throughParser returns a key as the package reads it.
func throughParser(t *testing.T, key crypto.Signer) crypto.Signer {
	t.Helper()
	pair, err := parseText(pemOfKey(t, key), "")
	if err != nil {
		t.Fatal(err)
	}
	return pair.signer
}

// signExample signs the example of an RFC with an algorithm by name.
func signExample(t *testing.T, name string, key crypto.Signer, input string) opened {
	t.Helper()
	alg, ok := algorithmNamed(name)
	if !ok {
		t.Fatal(name)
	}
	signature, err := alg.signInput(t.Context(), "Certificate", throughParser(t, key), input)
	if err != nil {
		t.Fatal(err)
	}
	return opened{header: map[string]any{"alg": name}, input: input, signature: signature}
}

// The payload of RFC 7515 appendices A.1.1, A.2.1 and A.3.1.
const rfc7515Payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"

// The key of RFC 7515 appendix A.2.1.
func rfc7515RSAKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{E: 65537,
			N: number(t,
				"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ")},
		D: number(t,
			"Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ"),
		Primes: []*big.Int{
			number(t,
				"4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc"),
			number(t,
				"uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc"),
		},
	}
	key.Precompute()
	return key
}

// TestRFC7515AppendixA2: RS256 has one signature, and it is the RFC's.
func TestRFC7515AppendixA2(t *testing.T) {
	o := signExample(t, "RS256", rfc7515RSAKey(t), "eyJhbGciOiJSUzI1NiJ9."+rfc7515Payload)
	want := fromBase64(t,
		"cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw")
	if d := cmp.Diff(want, o.signature); d != "" {
		t.Errorf("signature (-want +got):\n%s", d)
	}
}

// TestRFC7515AppendixA3: ES256 has many signatures. The RFC's is verified by what
// verifies ours, and written in the same way.
func TestRFC7515AppendixA3(t *testing.T) {
	point := slices.Concat([]byte{4}, fromBase64(t, "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"),
		fromBase64(t, "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"))
	der, err := asn1.Marshal(struct {
		Version    int
		Key        []byte
		Parameters asn1.ObjectIdentifier `asn1:"explicit,tag:0"`
		Public     asn1.BitString        `asn1:"explicit,tag:1"`
	}{1, fromBase64(t, "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"),
		asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7},
		asn1.BitString{Bytes: point, BitLength: 8 * len(point)}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParseECPrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	o := signExample(t, "ES256", key, "eyJhbGciOiJFUzI1NiJ9."+rfc7515Payload)
	if !o.verify(&key.PublicKey) {
		t.Error("our signature is not verified")
	}
	printed := fromBase64(t,
		"DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q")
	o.signature = printed
	if !o.verify(&key.PublicKey) {
		t.Error("the RFC's signature is not verified")
	}
	raw, err := rawSignature(derSignature(printed), 32, "Certificate")
	if d := cmp.Diff(printed, raw); err != nil || d != "" {
		t.Errorf("%v, signature (-want +got):\n%s", err, d)
	}
}

// TestRFC7520Section42: RSASSA-PSS has a random salt, so that nothing can be compared.
// What verifies the cookbook's PS384 verifies ours, and PS256 and PS512 with the same
// key as RS256.
func TestRFC7520Section42(t *testing.T) {
	public := &rsa.PublicKey{E: 65537,
		N: number(t,
			"n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw")}
	printed := opened{
		header: map[string]any{"alg": "PS384"},
		input:  "eyJhbGciOiJQUzM4NCIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4",
		signature: fromBase64(t,
			"cu22eBqkYDKgIlTpzDXGvaFfz6WGoz7fUDcfT0kkOy42miAh2qyBzk1xEsnk2IpN6-tPid6VrklHkqsGqDqHCdP6O8TTB5dDDItllVo6_1OLPpcbUrhiUSMxbbXUvdvWXzg-UD8biiReQFlfz28zGWVsdiNAUf8ZnyPEgVFn442ZdNqiVJRmBqrYRXe8P_ijQ7p8Vdz0TTrxUeT3lm8d9shnr2lfJT8ImUjvAA2Xez2Mlp8cBE5awDzT0qI0n6uiP1aCN_2_jLAeQTlqRHtfa64QQSUmFAAjVKPbByi7xho0uTOcbH510a6GYmJUAfmWjwZ6oD4ifKo8DYM-X72Eaw"),
	}
	if !printed.verify(public) {
		t.Error("the cookbook's signature is not verified")
	}
	key := rfc7515RSAKey(t)
	for _, name := range []string{"PS256", "PS384", "PS512"} {
		if o := signExample(t, name, key, printed.input); !o.verify(&key.PublicKey) {
			t.Errorf("%s is not verified", name)
		}
	}
}

// TestRFC8037AppendixA: the key of A.1 makes the signature of A.4, which A.5 verifies.
func TestRFC8037AppendixA(t *testing.T) {
	key := ed25519.NewKeyFromSeed(fromBase64(t, "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))
	if d := cmp.Diff(fromBase64(t, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"),
		[]byte(key.Public().(ed25519.PublicKey))); d != "" {
		t.Errorf("A.2, public key (-want +got):\n%s", d)
	}
	o := signExample(t, "EdDSA", key, "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc")
	if d := cmp.Diff(fromBase64(t,
		"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"),
		o.signature); d != "" {
		t.Errorf("A.4, signature (-want +got):\n%s", d)
	}
	if !o.verify(key.Public()) {
		t.Error("A.5: not verified")
	}
}
