package cdfauth

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEveryPadding(t *testing.T) {
	for i := range 16 {
		text := encrypt(t, keyOf(t, 2000+i), "open sesame", pbes2{iterations: 1000})
		if _, err := parseText(text, "open sesame"); err != nil {
			t.Errorf("%d bytes of padding: %v", 16-i, err)
		}
	}
}

func TestParseKeysForms(t *testing.T) {
	junk := "Bag Attributes\n    friendlyName: x\n-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n"
	for name, kind := range map[string]string{"rsa-pkcs1.pem": "RSA", "rsa-pkcs8.pem": "RSA", "p256-sec1.pem": "P-256", "p256-pkcs8.pem": "P-256",
		"p384-pkcs8.pem": "P-384", "p521-pkcs8.pem": "P-521", "ed25519-pkcs8.pem": "Ed25519"} {
		text := testKey(t, name)
		cert := pemOf(issueCert(t, "leaf", parseTestKey(t, name), nil, nil, nil))
		for form, text := range map[string]string{"alone": text, "CRLF": strings.ReplaceAll(text, "\n", "\r\n"), "byte order mark": "\ufeff" + text,
			"no last newline": strings.TrimSuffix(text, "\n"), "among others": junk + text + junk,
			"mislabelled":       relabel.Replace(text), // as PKCS#8
			"then certificate":  text + cert,
			"after certificate": strings.ReplaceAll(junk+cert+"\ufeff"+text, "\n", "\r\n"),
		} {
			pair, err := parseText(text, "")
			if err != nil {
				t.Errorf("%s, %s: %v", name, form, err)
				continue
			}
			if pair.kind != kind || pair.signer == nil || (len(pair.chain) == 1) != strings.Contains(form, "certificate") {
				t.Errorf("%s, %s: kind %s, %d certificates, want %s", name, form, pair.kind, len(pair.chain), kind)
			}
		}
	}
}

var relabel = strings.NewReplacer("RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY")

// TestParseKeysChain: leaf first, then issuers by name and key id, in whatever
// order they come and whatever else is there.
func TestParseKeysChain(t *testing.T) {
	var keys [6]ed25519.PrivateKey
	for i := range keys {
		keys[i] = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i)}, 32))
	}
	ca := func(c *x509.Certificate) { c.IsCA = true }
	root := issueCert(t, "root", keys[0], nil, nil, ca)
	inter := issueCert(t, "inter", keys[1], root, keys[0], ca)
	leaf := issueCert(t, "leaf", keys[2], inter, keys[1], nil)
	sameName := issueCert(t, "inter", keys[3], root, keys[0], ca)
	expired := issueCert(t, "inter", keys[1], root, keys[0], func(c *x509.Certificate) { c.IsCA = true; c.NotAfter = testNow.Add(-time.Hour) })
	crossed := issueCert(t, "root", keys[0], inter, keys[1], ca) // inter is its issuer, and it is inter's
	stranger := issueCert(t, "stranger", keys[4], nil, nil, nil)

	for _, tt := range []struct {
		name  string
		certs []*x509.Certificate
		want  []*x509.Certificate
	}{
		{"in order", []*x509.Certificate{leaf, inter, root}, []*x509.Certificate{leaf, inter, root}},
		{"out of order", []*x509.Certificate{root, stranger, inter, leaf}, []*x509.Certificate{leaf, inter, root}},
		{"twice", []*x509.Certificate{root, leaf, inter, root, leaf, inter}, []*x509.Certificate{leaf, inter, root}},
		{"two issuers of one name", []*x509.Certificate{sameName, inter, leaf}, []*x509.Certificate{leaf, inter}},
		{"an expired issuer", []*x509.Certificate{expired, inter, leaf}, []*x509.Certificate{leaf, inter}},
		{"a gap", []*x509.Certificate{root, leaf}, []*x509.Certificate{leaf}},
		{"a cycle", []*x509.Certificate{crossed, inter, leaf}, []*x509.Certificate{leaf, inter, crossed}},
	} {
		pair, err := parseText(pemOf(tt.certs...)+pemOfKey(t, keys[2]), "")
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var got, want []string
		for _, c := range pair.chain {
			got = append(got, fmt.Sprintf("%s %x", c.Subject, sha256.Sum256(c.Raw)))
		}
		for _, c := range tt.want {
			want = append(want, fmt.Sprintf("%s %x", c.Subject, sha256.Sum256(c.Raw)))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}

	// However long the text makes it.
	key, long := keys[2], ""
	parent, parentKey := root, keys[0]
	for i := range 15 {
		next := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(100 + i)}, 32))
		parent, parentKey = issueCert(t, strconv.Itoa(i), next, parent, parentKey, ca), next
		long += pemOf(parent)
	}
	pair, err := parseText(long+pemOf(issueCert(t, "leaf", key, parent, parentKey, nil))+pemOfKey(t, key), "")
	if err != nil || len(pair.chain) != 10 {
		t.Errorf("chain of 16: %v, %d certificates, want 10", err, len(pair.chain))
	}
}

// TestParseKeysRenewal: old and new certificate of the same key in one file.
func TestParseKeysRenewal(t *testing.T) {
	key := parseTestKey(t, "p256-pkcs8.pem")
	at := func(from, to time.Duration) *x509.Certificate {
		return issueCert(t, "leaf", key, nil, nil, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = testNow.Add(from), testNow.Add(to) })
	}
	past, present, longer, future := at(-3*time.Hour, -time.Hour), at(-2*time.Hour, time.Hour), at(-time.Hour, 2*time.Hour), at(time.Hour, 9*time.Hour)
	for i, certs := range [][]*x509.Certificate{{past, longer}, {longer, past}, {present, longer}, {longer, present}, {future, longer}, {longer, future}, {past, present, longer, future}} {
		pair, err := parseText(pemOfKey(t, key)+pemOf(certs...), "")
		if err != nil || !pair.chain[0].Equal(longer) {
			t.Errorf("%d: %v, or not the one that is valid for longest", i, err)
		}
	}
	for cert, want := range map[*x509.Certificate]string{past: "expired at 2026-11-20T11:00:00Z", future: "not valid before 2026-11-20T13:00:00Z"} {
		pair, err := parseText(pemOfKey(t, key)+pemOf(cert), "")
		if err != nil {
			t.Fatal(err)
		}
		err = checkValidity(pair.chain[0], testNow)
		if err == nil || err.Error() != "cdfauth: Certificate has a certificate that "+strings.Replace(want, "not", "is not", 1) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

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

func testDER(t testing.TB, name string) []byte {
	t.Helper()
	block, _ := pem.Decode([]byte(testKey(t, name)))
	return block.Bytes
}

func TestParseKeysErrors(t *testing.T) {
	p256, other := testKey(t, "p256-pkcs8.pem"), parseTestKey(t, "ed25519-pkcs8.pem")
	der := testDER(t, "p256-pkcs8.pem")
	otherCert := pemOf(issueCert(t, "other", other, nil, nil, nil))
	spki, err := x509.MarshalPKIXPublicKey(other.Public())
	if err != nil {
		t.Fatal(err)
	}
	small, err := x509.MarshalPKIXPublicKey(mustKey(x509.ParsePKCS8PrivateKey(testDER(t, "rsa-1024.pem"))).Public())
	if err != nil {
		t.Fatal(err)
	}
	broken := pemOf(issueCert(t, "broken", parseTestKey(t, "p256-pkcs8.pem"), nil, nil, nil))
	broken = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: append([]byte{0x30, 0x03}, broken[:10]...)}))
	pfx := testKey(t, "refused.pfx")
	pbes := func(p pbes2) string { return encrypt(t, der, "correct", p) }
	for _, tt := range []struct {
		name string
		from keySource
		want string // in the error, after the prefix
	}{
		{"empty", keySource{}, "Certificate has no private key: want a PEM block PRIVATE KEY, "},
		{"no PEM", keySource{text: "MIIB..."}, "Certificate is PKCS#12"},
		{"certificate alone", keySource{text: otherCert}, "Certificate has no private key (it has CERTIFICATE): want"},
		{"half a block", keySource{text: p256[:len(p256)-40]}, "Certificate has PRIVATE KEY, but it has no line -----END PRIVATE KEY-----"},
		{"two keys", keySource{text: p256 + testKey(t, "rsa-pkcs1.pem")}, "Certificate has 2 private keys: want exactly one"},
		{"one of them encrypted", keySource{text: testKey(t, "refused-scrypt.pem") + p256}, "Certificate has 2 private keys"},
		{"too long", keySource{text: p256 + strings.Repeat("x", 256<<10)}, "Certificate has more than 256 KiB"},
		{"huge key", keySource{text: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: make([]byte, 16<<10+1)}))}, "Certificate has a private key of 16385 bytes: want up to 16384"},
		{"other's certificate", keySource{text: p256 + otherCert}, "Certificate has no certificate that belongs to the private key"},
		{"damaged certificate", keySource{text: p256 + broken}, "Certificate has a certificate that is not readable: x509: malformed tbs certificate"},
		{"RSA of 1024 bits", keySource{text: testKey(t, "rsa-1024.pem")}, "Certificate has an RSA key of 1024 bits: want at least 2048"},
		{"P-224", keySource{text: testKey(t, "p224.pem")}, "Certificate has a key of ECDSA on P-224: want RSA (2048 bits or more), ECDSA on P-256"},
		{"X25519", keySource{text: testKey(t, "x25519.pem")}, "Certificate has a key of X25519 or X448, which cannot sign: want RSA"},
		{"damaged key", keySource{text: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der[:len(der)-1]}))}, "Certificate has a private key that is damaged"},

		{"key beside a Signer", keySource{text: p256, held: string(spki)}, "Certificate has a private key although Signer is set"},
		{"Signer without its certificate", keySource{text: "x", held: string(spki)}, "Certificate has no PEM block CERTIFICATE"},
		{"Signer with another's", keySource{text: pemOf(issueCert(t, "x", parseTestKey(t, "p256-pkcs8.pem"), nil, nil, nil)), held: string(spki)}, "Certificate has no certificate that belongs to the private key"},
		{"small Signer", keySource{held: string(small)}, "Signer has an RSA key of 1024 bits"},
		{"strange Signer", keySource{held: "x"}, "Signer has a key of no usable kind"},

		{"PKCS#12", keySource{text: pfx}, "Certificate is PKCS#12 (.pfx, .p12): want PEM, as written by `openssl pkcs12 -in "},
		{"PKCS#12 in base64", keySource{text: base64.StdEncoding.EncodeToString([]byte(pfx))}, "Certificate is PKCS#12 (.pfx, .p12): want PEM, as written by `openssl pkcs12 -in "},
		{"RFC 1421", keySource{text: testKey(t, "refused-rfc1421.pem")}, "Certificate has a private key that is encrypted with Proc-Type: 4,ENCRYPTED: want PBES2 with PBKDF2 and AES-CBC, as written by `openssl pkcs8 -topk8 "},
		{"scrypt", keySource{text: testKey(t, "refused-scrypt.pem")}, "Certificate has a private key that is encrypted with scrypt: want "},
		{"PBES1", keySource{text: testKey(t, "refused-pbes1.pem")}, "Certificate has a private key that is encrypted with PBES1 (3DES): want "},
		{"another hash", keySource{text: pbes(pbes2{iterations: 1, prf: asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 8}})}, "Certificate has a private key that is encrypted with 1.2.840.113549.2.8: want "},

		{"no passphrase", keySource{text: testKey(t, "pbes2-aes256-sha256.pem")}, "Passphrase is missing, and the private key in Certificate is encrypted"},
		{"no iterations", keySource{text: pbes(pbes2{}), passphrase: "correct"}, "Certificate has a private key that asks for 0 iterations of PBKDF2: want 1 to 5000000"},
		{"negative iterations", keySource{text: pbes(pbes2{iterations: -1}), passphrase: "correct"}, "Certificate has a private key that asks for -1 iterations"},
		{"iterations without end", keySource{text: pbes(pbes2{iterations: 5_000_001}), passphrase: "correct"}, "Certificate has a private key that asks for 5000001 iterations"},
		{"long salt", keySource{text: pbes(pbes2{iterations: 1, salt: make([]byte, 1025)}), passphrase: "correct"}, "Certificate has an ENCRYPTED PRIVATE KEY that is damaged"},
		{"key length", keySource{text: pbes(pbes2{iterations: 1, keyLength: 16}), passphrase: "correct"}, "Certificate has an ENCRYPTED PRIVATE KEY that is damaged"},
		{"short IV", keySource{text: pbes(pbes2{iterations: 1, iv: make([]byte, 8)}), passphrase: "correct"}, "Certificate has an ENCRYPTED PRIVATE KEY that is damaged"},
		{"cut", keySource{text: pbes(pbes2{iterations: 1, cut: 1}), passphrase: "correct"}, "Certificate has an ENCRYPTED PRIVATE KEY that is damaged"},
		{"nothing encrypted", keySource{text: encrypt(t, nil, "correct", pbes2{iterations: 1, cut: 16}), passphrase: "correct"}, "Certificate has an ENCRYPTED PRIVATE KEY that is damaged"},
		{"no ASN.1", keySource{text: "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"}, "Certificate has an ENCRYPTED PRIVATE KEY that is damaged"},
		{"encrypted X25519", keySource{text: encrypt(t, testDER(t, "x25519.pem"), "correct", pbes2{iterations: 1}), passphrase: "correct"}, "Certificate has a key of X25519 or X448, which cannot sign"},
	} {
		pair, err := cachedKeys()(tt.from)
		if err == nil { // what is wrong with a certificate is found when it is needed
			_, err = chainOf(pair, nil, true, testNow)
			pair = keyPair{}
		}
		if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: "+tt.want) || pair.signer != nil || pair.kind != "" {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func mustKey(key any, err error) crypto.Signer {
	if err != nil {
		panic(err)
	}
	return key.(crypto.Signer)
}

func TestPassphrase(t *testing.T) {
	want := parseTestKey(t, "p256-pkcs8.pem").(*ecdsa.PrivateKey)
	texts := map[string]string{
		"key length given": encrypt(t, testDER(t, "p256-pkcs8.pem"), "correct", pbes2{iterations: 999, keyLength: 32}),
		"long salt":        encrypt(t, testDER(t, "p256-pkcs8.pem"), "correct", pbes2{iterations: 1, salt: make([]byte, 1024)}),
	}
	if !fipsOnly {
		for _, name := range []string{"pbes2-aes256-sha256.pem", "pbes2-aes128-sha1.pem", "pbes2-aes192-sha512.pem", "pbes2-3des-sha256.pem"} {
			texts[name] = testKey(t, name)
		}
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

// TestWrongPassphraseTellsNothing: bad padding, good padding around what is no
// key, and what chance makes of many wrong passphrases: one answer.
func TestWrongPassphraseTellsNothing(t *testing.T) {
	der := testDER(t, "p256-pkcs8.pem")
	for name, garbage := range map[string][]byte{
		"a key before uneven padding": append(append(slices.Clone(der), make([]byte, 15-len(der)%16)...), byte(16-len(der)%16)),
		"bad padding":                 bytes.Repeat([]byte{0}, 32),
		"padding of 17":               bytes.Repeat([]byte{17}, 32),
		"uneven padding":              append(bytes.Repeat([]byte{3}, 30), 4, 4),
		"no DER":                      append(bytes.Repeat([]byte{0xff}, 15), 1),
		"other DER":                   append([]byte{0x30, 3, 2, 1, 0}, bytes.Repeat([]byte{11}, 11)...),
		"only padding":                bytes.Repeat([]byte{16}, 16),
	} {
		if _, err := parseText(encrypt(t, nil, "correct", pbes2{iterations: 1, garbage: garbage}), "correct"); err != errWrongPassphrase {
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

// TestFIPS140Only runs itself again where FIPS 140 is enforced.
func TestFIPS140Only(t *testing.T) {
	if !fipsOnly {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, "-test.run=^(TestFIPS140Only|TestParseKeys.*|TestPassphrase|TestWrongPassphrase.*|TestAssertion.*)$", "-test.v")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestFIPS140Only") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for _, name := range []string{"pbes2-aes256-sha256.pem", "pbes2-aes128-sha1.pem"} { // 8 bytes of salt
		_, err := parseText(testKey(t, name), "correct")
		if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: Certificate has a private key that FIPS 140 mode refuses to decrypt: it has 8 bytes of salt") || !strings.Contains(err.Error(), "-saltlen 16") {
			t.Errorf("%s: %v", name, err)
		}
	}
	text := encrypt(t, testDER(t, "p256-pkcs8.pem"), "correct", pbes2{iterations: 1, prf: asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 7}})
	if _, err := parseText(text, "correct"); err == nil || !strings.Contains(err.Error(), "FIPS 140 mode refuses") {
		t.Errorf("HMAC-SHA1: %v", err)
	}
}

// openssl runs the real one. Without it there is nothing to compare with; CI
// has it.
func openssl(t *testing.T) func(stdin string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	version, _ := exec.Command(path, "version").Output()
	if err != nil || !bytes.HasPrefix(version, []byte("OpenSSL 3")) {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI wants openssl 3: %v, %q", err, version)
		}
		t.Logf("no openssl 3: %v, %q", err, version)
		return nil
	}
	return func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command(path, args...)
		cmd.Stdin = strings.NewReader(stdin)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, &stderr)
		}
		return string(out)
	}
}

// TestKeysOfOpenSSL reads what openssl encrypts, with every hash and cipher.
func TestKeysOfOpenSSL(t *testing.T) {
	run := openssl(t)
	if run == nil || fipsOnly {
		return
	}
	for _, name := range []string{"rsa-pkcs8.pem", "p384-pkcs8.pem", "ed25519-pkcs8.pem"} {
		want := parseTestKey(t, name)
		for _, aes := range []string{"aes-128-cbc", "aes-192-cbc", "aes-256-cbc"} {
			for _, prf := range []string{"hmacWithSHA1", "hmacWithSHA256", "hmacWithSHA384", "hmacWithSHA512"} {
				text := run(testKey(t, name), "pkcs8", "-topk8", "-v2", aes, "-v2prf", prf, "-passout", "pass:pässword")
				pair, err := parseText(text, "pässword")
				if err != nil || !want.(interface{ Equal(crypto.PrivateKey) bool }).Equal(pair.signer) {
					t.Errorf("%s %s %s: %v", name, aes, prf, err)
				}
			}
		}
	}
	// The commands that errors name.
	for _, name := range []string{"refused-rfc1421.pem", "refused-pbes1.pem", "refused-scrypt.pem"} {
		args := strings.Fields(strings.Trim(convertKey, "`"))[1:]
		in := filepath.Join("testdata", "keys", name)
		out := filepath.Join(t.TempDir(), "new.key")
		args[slices.Index(args, "old.key")], args[slices.Index(args, "new.key")] = in, out
		run("", append(args, "-passin", "pass:correct", "-passout", "pass:new")...)
		b, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		if pair, err := parseText(string(b), "new"); err != nil || pair.kind != "P-256" {
			t.Errorf("%s converted: %v", name, err)
		}
	}
	args := strings.Fields(strings.Trim(convertPFX, "`"))[1:]
	out := filepath.Join(t.TempDir(), "new.pem")
	args[slices.Index(args, "old.pfx")], args[slices.Index(args, "new.pem")] = filepath.Join("testdata", "keys", "refused.pfx"), out
	run("", append(args, "-passin", "pass:correct", "-passout", "pass:new")...)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := parseText(string(b), "new")
	if err != nil || pair.kind != "P-256" || len(pair.chain) != 1 {
		t.Errorf("refused.pfx converted: %v", err)
	}
}

// TestKeysOfUpTo16KiBAreRead: nobody has a larger one, and parsing takes long.
func TestKeysOfUpTo16KiBAreRead(t *testing.T) {
	parse := func(size int) error {
		block := &pem.Block{Type: "PRIVATE KEY", Bytes: keyOf(t, size)}
		_, err := parseKeys(keySource{text: string(pem.EncodeToMemory(block))})
		return err
	}
	if err := parse(16 << 10); err != nil {
		t.Error(err)
	}
	if err := parse(16<<10 + 1); err == nil {
		t.Error("a key of one byte more is taken")
	}
}

// keyOf returns an RSA key, with attributes, in DER of so many bytes.
func keyOf(t *testing.T, size int) []byte {
	inner := testDER(t, "rsa-pkcs8.pem")[4:] // after a tag and a length of two bytes
	pad := size - 4 - len(inner) - 4
	inner = slices.Concat(inner, []byte{4, 0x82, byte(pad >> 8), byte(pad)}, make([]byte, pad))
	return slices.Concat([]byte{0x30, 0x82, byte(len(inner) >> 8), byte(len(inner))}, inner)
}
