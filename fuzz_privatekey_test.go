package cdfauth

import (
	"crypto"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParseKeys: whatever the text of a key, the parser neither panics nor hangs. It returns
// a key that signs, or an error that names the field. It reads what encoding/pem reads.
func FuzzParseKeys(f *testing.F) {
	names, err := filepath.Glob(filepath.Join("testdata", "keys", "*"))
	if err != nil || len(names) == 0 {
		f.Fatal(err, names)
	}
	for _, name := range names {
		f.Add(testKey(f, filepath.Base(name)), "correct")
	}
	f.Add(testKey(f, "p256-cert.pem")+testKey(f, "p256-sec1.pem"), "")
	f.Add(encrypt(f, testDER(f, "p256-pkcs8.pem"), "correct", pbes2{iterations: 1}), "correct")
	for _, change := range damages {
		f.Add(change(testKey(f, "p256-pkcs8.pem")+testKey(f, "p256-cert.pem")), "")
	}
	f.Fuzz(func(t *testing.T, text, passphrase string) {
		for _, block := range readPEM(text) {
			if isSlow(block.der) {
				return
			}
		}
		if block := readsAsEncodingPEM(text); block != nil && utf8.ValidString(text) &&
			!strings.ContainsAny(text, "\x00\\") {
			t.Errorf("encoding/pem reads %s of %d bytes", block.Type, len(block.Bytes))
		}
		pair, err := parseText(text, passphrase)
		switch {
		case err == nil && (pair.signer == nil || pair.kind == ""):
			t.Error("no key and no error")
		case err != nil && !strings.HasPrefix(err.Error(), "cdfauth: Certificate ") &&
			!strings.HasPrefix(err.Error(), "cdfauth: Passphrase "):
			t.Errorf("error without a field: %v", err)
		case err == nil:
			if _, err := pair.signer.Sign(rand.Reader, make([]byte, 32), crypto.SHA256); err != nil &&
				pair.kind != "Ed25519" && !fipsOnly {
				t.Errorf("a key that does not sign: %v", err)
			}
		}
	})
}

// isSlow reports whether a key is encrypted with so many iterations that a fuzzer would
// spend its time on it, although they are within the limits.
func isSlow(der []byte) bool {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	var params struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	var kdf struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	return unmarshalDER(der, &info) && unmarshalDER(info.Algorithm.Parameters.FullBytes, &params) &&
		unmarshalDER(params.KDF.Parameters.FullBytes, &kdf) && kdf.Iterations > 10_000
}

// FuzzDecryptPKCS8: whatever the DER of an encrypted key (RFC 5958 §3), there is a result or
// an error. A fuzzer gets further into the ASN.1 here than through base64.
func FuzzDecryptPKCS8(f *testing.F) {
	for _, name := range []string{"pbes2-aes256-sha256.pem", "pbes2-aes128-sha1.pem",
		"pbes2-3des-sha256.pem", "refused-scrypt.pem", "refused-pbes1.pem"} {
		f.Add(testDER(f, name))
	}
	block, _ := pem.Decode([]byte(encrypt(f, testDER(f, "p256-pkcs8.pem"), "correct",
		pbes2{iterations: 1})))
	f.Add(block.Bytes)
	f.Fuzz(func(t *testing.T, der []byte) {
		if isSlow(der) {
			return
		}
		plain, err := decryptPKCS8(der, "correct")
		if (plain == nil) == (err == nil) {
			t.Errorf("%d bytes and %v", len(plain), err)
		}
	})
}
