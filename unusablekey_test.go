package cdfauth

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
)

// TestNameOfAFileIsToldFromText: Somebody may set the name of a file where its
// content belongs. The error says so only of a text that looks like a name, and
// not of a damaged key.
func TestNameOfAFileIsToldFromText(t *testing.T) {
	for text, want := range map[string]bool{
		"/run/secrets/key":                 true,
		"./key":                            true,
		`C:\keys\key`:                      true,
		"key.pem":                          true,
		"keys/app.key":                     true,
		" /run/secrets/key\n":              true,
		"key.pem\n":                        true,
		"key":                              false,
		"":                                 false,
		"MIIEvQIBADANBgkqhkiG9w0BAQEFAASC": false,
		"/first line\nsecond":              false,
		"/" + strings.Repeat("x", 999):     false,
		"/" + strings.Repeat("x", 998):     true,
		"/" + strings.Repeat("x", 1000):    false,
		strings.Repeat("x", 1000) + ".pem": false,
		"first line\nhttps://example.com/a/key.pem": false,
	} {
		if got := looksLikePath(text); got != want {
			t.Errorf("%.40q: %t, want %t", text, got, want)
		}
		if err := errNoKey(text, nil); strings.Contains(err.Error(), "SecretFile") != want {
			t.Errorf("%.40q: %v", text, err)
		}
	}
	// The base64 of a PKCS#12 file's first bytes, whatever its lines are.
	for _, text := range []string{"MIIKQQIBAzCC", "\nMIIK\n QQIBAzCC", " MIIKQQIBAzCC"} {
		if err := errNoKey(text, nil); !strings.Contains(err.Error(), "PKCS#12") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestUnusableKeyIsToldByItsIdentifier: An error names the kind of a key by its
// object identifier. A kind that is read has no name here: such a key is
// damaged, and "a key of RSA" would be no reason to refuse it.
func TestUnusableKeyIsToldByItsIdentifier(t *testing.T) {
	curve := func(oid string) asn1.RawValue {
		der, err := asn1.Marshal(oidOf(oid))
		must(t, err)
		return asn1.RawValue{FullBytes: der}
	}
	const ec = "1.2.840.10045.2.1"
	for _, tt := range []struct{ algorithm, curve, want string }{
		{"1.2.840.113549.1.1.1", "", ""},
		{"1.3.101.112", "", ""},
		{"1.2.840.113549.1.1.10", "", "RSA-PSS"},
		{"1.3.101.113", "", "Ed448"},
		{"1.3.101.110", "", "X25519 or X448"},
		{"1.3.101.111", "", "X25519 or X448"},
		{"1.2.840.10040.4.1", "", "DSA"},
		{"1.2.840.113549.1.3.1", "", "Diffie-Hellman"},
		{"1.2.840.10046.2.1", "", "Diffie-Hellman"},
		{"1.2.3.4", "", "an unknown kind (1.2.3.4)"},
		{"1.2" + strings.Repeat(".3", 100), "",
			"an unknown kind (" + ("1.2" + strings.Repeat(".3", 100))[:60] + ")"},
		{ec, "1.2.840.10045.3.1.7", ""},
		{ec, "1.3.132.0.34", ""},
		{ec, "1.3.132.0.35", ""},
		{ec, "1.3.132.0.10", "ECDSA on secp256k1"},
		{ec, "1.3.36.3.3.2.8.1.1.7", "ECDSA on a brainpool curve"},
		{ec, "1.3.132.0.33", "ECDSA on another curve (1.3.132.0.33)"},
	} {
		key := pkcs8Key{Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidOf(tt.algorithm)},
			Key: []byte{4, 0}}
		if tt.curve != "" {
			key.Algorithm.Parameters = curve(tt.curve)
		}
		der, err := asn1.Marshal(key)
		must(t, err)
		if got := unusableKind(der); !strings.HasPrefix(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("%.30s %s: %q, want %q", tt.algorithm, tt.curve, got, tt.want)
		}
	}
}

func oidOf(text string) asn1.ObjectIdentifier {
	var oid asn1.ObjectIdentifier
	for _, part := range strings.Split(text, ".") {
		n := 0
		for _, digit := range part {
			n = 10*n + int(digit-'0')
		}
		oid = append(oid, n)
	}
	return oid
}

// TestLegacyPKCS12IsTold: OpenSSL 3 converts PKCS#12 with RC4 or RC2 only with
// an option, and Triple DES without. The object identifier tells them apart
// (RFC 7292 appendix C), so that the error can name the right command.
func TestLegacyPKCS12IsTold(t *testing.T) {
	for n, want := range map[byte]string{
		1: convertLegacyPFX, 2: convertLegacyPFX, 3: convertPFX, 4: convertPFX, 5: convertLegacyPFX,
		6: convertLegacyPFX,
	} {
		der := []byte{0x30, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01, n, 0x30}
		if err := errPKCS12(der); !strings.HasSuffix(err.Error(), "as written by "+want) {
			t.Errorf("%d: %v, want %s", n, err, want)
		}
	}
}

// TestPartsOfAKeyMayBeMissing: an RSA key without one of its primes cannot sign here, and a
// key on a curve may not say which. Neither is an error of the program.
func TestPartsOfAKeyMayBeMissing(t *testing.T) {
	n := new(big.Int).Lsh(big.NewInt(1), 2047)
	one, zero := big.NewInt(1), new(big.Int)
	for name, primes := range map[string][2]*big.Int{
		"p": {zero, one}, "q": {one, zero}, "both": {zero, zero},
	} {
		der, err := asn1.Marshal(struct {
			Version             int
			N                   *big.Int
			E                   int
			D, P, Q, DP, DQ, QI *big.Int
		}{0, n, 65537, one, primes[0], primes[1], one, one, one})
		must(t, err)
		err = errUnusableKey(der)
		if !strings.Contains(err.Error(), "RSA without its primes") {
			t.Errorf("without %s: %v", name, err)
		}
	}
	if kind := kindOfCurve(nil); kind != "" {
		t.Errorf("a curve without parameters is %q", kind)
	}
}
