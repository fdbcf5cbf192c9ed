//go:build go1.24

package cdfauth

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// pbes2 encrypts as openssl does, or in ways that it does not.
type pbes2 struct {
	salt       []byte
	iterations int
	keyLength  int
	iv         []byte
	cut        int // bytes of the ciphertext
	prf        asn1.ObjectIdentifier
	garbage    []byte // instead of the key
}

func encrypt(t testing.TB, der []byte, passphrase string, p pbes2) string {
	t.Helper()
	type algorithm struct {
		ID     asn1.ObjectIdentifier
		Params any
	}
	real := max(1, min(p.iterations, 1000)) // too many are to be refused, not done
	secret, err := pbkdf2.Key(sha256.New, passphrase, bytes.Repeat([]byte{1}, 16), real, 32)
	if p.salt != nil && !(fipsOnly && len(p.salt) < 16) {
		secret, err = pbkdf2.Key(sha256.New, passphrase, p.salt, real, 32)
	}
	if err != nil {
		t.Fatal(err)
	}
	if p.salt == nil {
		p.salt = bytes.Repeat([]byte{1}, 16)
	}
	if p.iv == nil {
		p.iv = bytes.Repeat([]byte{2}, 16)
	}
	if p.prf == nil {
		p.prf = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	}
	pad := 16 - len(der)%16
	data := append(slices.Clone(der), bytes.Repeat([]byte{byte(pad)}, pad)...)
	if p.garbage != nil {
		data = p.garbage
	}
	block, _ := aes.NewCipher(secret)
	cipher.NewCBCEncrypter(block, bytes.Repeat([]byte{2}, 16)).CryptBlocks(data, data)
	null := asn1.RawValue{Tag: asn1.TagNull}
	var kdf any = struct {
		Salt       []byte
		Iterations int
		PRF        algorithm
	}{p.salt, p.iterations, algorithm{p.prf, null}}
	if p.keyLength != 0 {
		kdf = struct {
			Salt       []byte
			Iterations int
			KeyLength  int
			PRF        algorithm
		}{p.salt, p.iterations, p.keyLength, algorithm{p.prf, null}}
	}
	out, err := asn1.Marshal(struct {
		Algorithm algorithm
		Data      []byte
	}{algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}, struct{ KDF, Cipher algorithm }{
		algorithm{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}, kdf},
		algorithm{asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, p.iv},
	}}, data[:len(data)-p.cut]})
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: out}))
}

// TestEveryLengthOfPaddingIsRead: PBES2 pads a key with 1 to 16 bytes (RFC 8018
// appendix B.2.5).
func TestEveryLengthOfPaddingIsRead(t *testing.T) {
	for i := range 16 {
		text := encrypt(t, keyOf(t, 2000+i), "open sesame", pbes2{iterations: 1000})
		if _, err := parseText(text, "open sesame"); err != nil {
			t.Errorf("%d bytes of padding: %v", 16-i, err)
		}
	}
}

// TestPassphraseDecryptsTheKey: The right passphrase decrypts a key of each
// supported scheme, and no other passphrase does. A passphrase for a key that
// needs none does no harm, because keys are exchanged.
func TestPassphraseDecryptsTheKey(t *testing.T) {
	want := parseTestKey(t, "p256-pkcs8.pem").(*ecdsa.PrivateKey)
	texts := map[string]string{
		"key length given": encrypt(t, testDER(t, "p256-pkcs8.pem"), "correct",
			pbes2{iterations: 999, keyLength: 32}),
		"long salt": encrypt(t, testDER(t, "p256-pkcs8.pem"), "correct",
			pbes2{iterations: 1, salt: make([]byte, 1024)}),
	}
	if !fipsOnly {
		for _, name := range []string{"pbes2-aes256-sha256.pem", "pbes2-aes128-sha1.pem",
			"pbes2-aes192-sha512.pem"} {
			texts[name] = testKey(t, name)
		}
	}
	if !fips140.Enabled() {
		texts["3DES"] = testKey(t, "pbes2-3des-sha256.pem")
	}
	for name, text := range texts {
		pair, err := parseText(text, "correct")
		if err != nil || !want.Equal(pair.signer) {
			t.Errorf("%s: %v", name, err)
		}
		for _, wrong := range []string{"Correct", "correct\n", "x", strings.Repeat("long", 1000)} {
			if _, err := parseText(text, wrong); err != errWrongPassphrase {
				t.Errorf("%s with %.10q: %v", name, wrong, err)
			}
		}
	}
	// A passphrase for a key that needs none is left alone: keys change.
	if _, err := parseText(testKey(t, "p256-pkcs8.pem"), "correct"); err != nil {
		t.Error(err)
	}
}

// TestWrongPassphraseTellsNothing: An answer that told bad padding from a bad
// key would help to guess. A wrong passphrase brings the same error in every
// case, and so does what chance makes of 2000 wrong ones.
func TestWrongPassphraseTellsNothing(t *testing.T) {
	der := testDER(t, "p256-pkcs8.pem")
	for name, garbage := range map[string][]byte{
		"a key before uneven padding": append(append(slices.Clone(der), make([]byte, 15-len(der)%16)...),
			byte(16-len(der)%16)),
		"bad padding":    bytes.Repeat([]byte{0}, 32),
		"padding of 17":  bytes.Repeat([]byte{17}, 32),
		"uneven padding": append(bytes.Repeat([]byte{3}, 30), 4, 4),
		"no DER":         append(bytes.Repeat([]byte{0xff}, 15), 1),
		"other DER":      append([]byte{0x30, 3, 2, 1, 0}, bytes.Repeat([]byte{11}, 11)...),
		"only padding":   bytes.Repeat([]byte{16}, 16),
	} {
		if _, err := parseText(encrypt(t, nil, "correct", pbes2{iterations: 1, garbage: garbage}),
			"correct"); err != errWrongPassphrase {
			t.Errorf("%s: %v", name, err)
		}
	}
	text := encrypt(t, testDER(t, "p256-pkcs8.pem"), "correct", pbes2{iterations: 1})
	for i := range 2000 {
		if _, err := parseText(text, strconv.Itoa(i)); err != errWrongPassphrase {
			t.Fatalf("%d: %v", i, err)
		}
	}
}

// TestFIPS140ModeIsObeyed: Where FIPS 140 is enforced, only approved algorithms
// are used. The test runs itself again in that mode.
func TestFIPS140ModeIsObeyed(t *testing.T) {
	if !fipsOnly {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		const tests = "FIPS140ModeIsObeyed|Key|Chain|Passphrase|Assertion|RFC|Thumbprint|Certificate|Damage|Unreadable"
		cmd := exec.Command(self, "-test.run="+tests, "-test.v")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
		if out, err := cmd.CombinedOutput(); err != nil ||
			!strings.Contains(string(out), "--- PASS: TestFIPS140ModeIsObeyed") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	// These have 8 bytes of salt.
	for _, name := range []string{"pbes2-aes256-sha256.pem", "pbes2-aes128-sha1.pem"} {
		_, err := parseText(testKey(t, name), "correct")
		if err == nil ||
			!strings.HasPrefix(err.Error(),
				"cdfauth: Certificate has a private key that FIPS 140 mode refuses to decrypt: it has 8 bytes of salt") ||
			!strings.Contains(err.Error(), "-saltlen 16") {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := parseText(testKey(t, "pbes2-3des-sha256.pem"), "correct")
	if err == nil ||
		!strings.HasPrefix(err.Error(),
			"cdfauth: Certificate has a private key that is encrypted with 3DES, which FIPS 140 mode does not allow: want AES, as written by `openssl pkcs8 ") ||
		!strings.Contains(err.Error(), "-saltlen 16") {
		t.Errorf("3DES: %v", err)
	}
	text := encrypt(t, testDER(t, "p256-pkcs8.pem"), "correct",
		pbes2{iterations: 1, prf: asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}})
	if _, err := parseText(text, "correct"); err == nil ||
		!strings.Contains(err.Error(), "FIPS 140 mode refuses") {
		t.Errorf("HMAC-SHA1: %v", err)
	}
}

// derives compares a key that PBKDF2 derives with the printed one.
func derives(
	t *testing.T, prf asn1.ObjectIdentifier, passphrase, salt string, iterations int, want string,
) {
	t.Helper()
	kdf := pbkdf2Params{Salt: []byte(salt), Iterations: iterations,
		PRF: pkix.AlgorithmIdentifier{Algorithm: prf}}
	got, err := kdf.derive(passphrase, len(want)/2)
	switch {
	case fipsOnly && (err == nil || !strings.Contains(err.Error(), "FIPS 140 mode refuses")):
		t.Errorf("%q, %q: %v in FIPS 140 mode", passphrase, salt, err)
	case !fipsOnly && (err != nil || hex.EncodeToString(got) != want):
		t.Errorf("%q, %q, %d iterations: %x, %v, want %s", passphrase, salt, iterations, got, err, want)
	}
}

// TestRFC7914Section11: The section has test vectors of PBKDF2 with
// HMAC-SHA256.
func TestRFC7914Section11(t *testing.T) {
	sha256 := asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}
	derives(t, sha256, "passwd", "salt", 1,
		"55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783")
	derives(t, sha256, "Password", "NaCl", 80000,
		"4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d")
}

// TestRFC6070: The RFC has test vectors of PBKDF2 with HMAC-SHA1, which RFC
// 8018 appendix B.1.1 makes the default. The one of 16,777,216 iterations is
// left out.
func TestRFC6070(t *testing.T) {
	derives(t, nil, "password", "salt", 1, "0c60c80f961f0e71f3a9b524af6012062fe037a6")
	derives(t, nil, "password", "salt", 2, "ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957")
	derives(t, nil, "password", "salt", 4096, "4b007901b765489abead49d926f721d065a429c1")
	derives(t, nil, "passwordPASSWORDpassword", "saltSALTsaltSALTsaltSALTsaltSALTsalt", 4096,
		"3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038")
	derives(t, nil, "pass\x00word", "sa\x00lt", 4096, "56fa6aa75548099dcc37d7f03425e0c3")
}

// TestIterationsOfPBKDF2HaveLimits: each iteration takes time, and a key file says how many
// it wants. More than maxIterations would keep a program busy for too long.
func TestIterationsOfPBKDF2HaveLimits(t *testing.T) {
	hmacSHA256 := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 9}}
	for iterations, good := range map[int]bool{
		0: false, 1: true, maxIterations: true, maxIterations + 1: false,
	} {
		der, err := asn1.Marshal(pbkdf2Params{make([]byte, 16), iterations, 0, hmacSHA256})
		must(t, err)
		_, err = readPBKDF2(asn1.RawValue{FullBytes: der}, 32)
		if (err == nil) != good {
			t.Errorf("%d iterations: %v", iterations, err)
		}
	}
}
