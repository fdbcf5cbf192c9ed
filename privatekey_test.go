//go:build go1.24

package cdfauth

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
)

// TestKeysOfEveryFormAreRead: Keys come in PKCS#1, PKCS#8 and SEC 1, sometimes
// under each other's label, with other blocks around them and with the line
// ends of Windows.
func TestKeysOfEveryFormAreRead(t *testing.T) {
	junk := "Bag Attributes\n    friendlyName: x\n-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n"
	for name, kind := range map[string]string{"rsa-pkcs1.pem": "RSA", "rsa-pkcs8.pem": "RSA",
		"p256-sec1.pem": "P-256", "p256-pkcs8.pem": "P-256",
		"p384-pkcs8.pem": "P-384", "p521-pkcs8.pem": "P-521", "ed25519-pkcs8.pem": "Ed25519"} {
		text := testKey(t, name)
		cert := pemOf(issueCert(t, "leaf", parseTestKey(t, name), nil, nil, nil))
		for form, text := range map[string]string{"alone": text,
			"CRLF": strings.ReplaceAll(text, "\n", "\r\n"), "byte order mark": "\ufeff" + text,
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
			if pair.kind != kind || pair.signer == nil ||
				(len(pair.chain) == 1) != strings.Contains(form, "certificate") {
				t.Errorf("%s, %s: kind %s, %d certificates, want %s", name, form, pair.kind,
					len(pair.chain), kind)
			}
		}
	}
}

var relabel = strings.NewReplacer("RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY")

func testDER(t testing.TB, name string) []byte {
	t.Helper()
	block, _ := pem.Decode([]byte(testKey(t, name)))
	return block.Bytes
}

// TestKeyThatCannotBeUsedIsRefused: A key that is missing, too weak, of the
// wrong kind, damaged, or costly to decrypt is refused before it is used. The
// error names the field, and what is wanted.
func TestKeyThatCannotBeUsedIsRefused(t *testing.T) {
	p256, other := testKey(t, "p256-pkcs8.pem"), parseTestKey(t, "ed25519-pkcs8.pem")
	der := testDER(t, "p256-pkcs8.pem")
	otherCert := pemOf(issueCert(t, "other", other, nil, nil, nil))
	spki, err := x509.MarshalPKIXPublicKey(other.Public())
	if err != nil {
		t.Fatal(err)
	}
	small, err := x509.MarshalPKIXPublicKey(mustKey(x509.ParsePKCS8PrivateKey(testDER(t,
		"rsa-1024.pem"))).Public())
	if err != nil {
		t.Fatal(err)
	}
	broken := pemOf(issueCert(t, "broken", parseTestKey(t, "p256-pkcs8.pem"), nil, nil, nil))
	broken = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE",
		Bytes: append([]byte{0x30, 0x03}, broken[:10]...)}))
	pfx := testKey(t, "refused.pfx")
	pbes := func(p pbes2) string { return encrypt(t, der, "correct", p) }
	rfc1421 := func(info string) string {
		return "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: " + info +
			"\n-----END RSA PRIVATE KEY-----\n"
	}
	for _, tt := range []struct {
		name string
		from keySource
		want string // in the error, after the prefix
	}{
		{"empty", keySource{}, "Certificate has no private key: want a PEM block PRIVATE KEY, "},
		{"no PEM", keySource{text: "MIIB..."},
			"Certificate has no private key: want a PEM block PRIVATE KEY, "},
		{"certificate alone", keySource{text: otherCert},
			"Certificate has no private key (it has CERTIFICATE): want"},
		{"half a block", keySource{text: p256[:len(p256)-40]},
			"Certificate has PRIVATE KEY, but it has no line -----END PRIVATE KEY-----"},
		{"two keys", keySource{text: p256 + testKey(t, "rsa-pkcs1.pem")},
			"Certificate has 2 private keys: want exactly one"},
		{"one of them encrypted", keySource{text: testKey(t, "refused-scrypt.pem") + p256},
			"Certificate has 2 private keys"},
		{"too long", keySource{text: p256 + strings.Repeat("x", 256<<10)},
			"Certificate has more than 256 KiB"},
		{"huge key",
			keySource{text: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY",
				Bytes: make([]byte, 16<<10+1)}))},
			"Certificate has a private key of 16385 bytes: want up to 16384"},
		{"other's certificate", keySource{text: p256 + otherCert},
			"Certificate has no certificate that belongs to the private key"},
		{"damaged certificate", keySource{text: p256 + broken},
			"Certificate has a certificate that is not readable: x509: malformed tbs certificate"},
		{"RSA of 1024 bits", keySource{text: testKey(t, "rsa-1024.pem")},
			"Certificate has an RSA key of 1024 bits: want at least 2048"},
		{"P-224", keySource{text: testKey(t, "p224.pem")},
			"Certificate has a key of ECDSA on P-224: want RSA (2048 bits or more), ECDSA on P-256"},
		{"X25519", keySource{text: testKey(t, "x25519.pem")},
			"Certificate has a key of X25519 or X448, which cannot sign: want RSA"},
		{"damaged key",
			keySource{text: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY",
				Bytes: der[:len(der)-1]}))},
			"Certificate has a private key that is damaged"},

		{"key beside a Signer", keySource{text: p256, signerPublic: string(spki)},
			"Certificate has a private key although Signer is set"},
		{"Signer without its certificate", keySource{text: "x", signerPublic: string(spki)},
			"Certificate has no PEM block CERTIFICATE"},
		{"Signer with another's",
			keySource{text: pemOf(issueCert(t, "x", parseTestKey(t, "p256-pkcs8.pem"), nil, nil, nil)),
				signerPublic: string(spki)},
			"Certificate has no certificate that belongs to the private key"},
		{"small Signer", keySource{signerPublic: string(small)}, "Signer has an RSA key of 1024 bits"},
		{"strange Signer", keySource{signerPublic: "x"}, "Signer has a key of no usable kind"},

		{"PKCS#12", keySource{text: pfx},
			"Certificate is PKCS#12 (.pfx, .p12): want PEM, as written by `openssl pkcs12 -in "},
		{"PKCS#12 in base64", keySource{text: base64.StdEncoding.EncodeToString([]byte(pfx))},
			"Certificate is PKCS#12 (.pfx, .p12): want PEM, as written by `openssl pkcs12 -in "},
		{"RFC 1421", keySource{text: testKey(t, "refused-rfc1421.pem")},
			"Certificate has a private key that is encrypted with Proc-Type: 4,ENCRYPTED: want PBES2 with PBKDF2 and AES-CBC, as written by `openssl pkcs8 -topk8 "},
		{"RFC 1421 with RC2", keySource{text: rfc1421("RC2-CBC,01\n\nAAAA")},
			"Certificate has a private key that is encrypted with Proc-Type: 4,ENCRYPTED: want PBES2 with PBKDF2 and AES-CBC, as written by " +
				convertLegacyKey},
		{"RFC 1421 with RC2 by chance", keySource{text: rfc1421("AES-128-CBC,01\n\nRC2A")},
			"Certificate has a private key that is encrypted with Proc-Type: 4,ENCRYPTED: want PBES2 with PBKDF2 and AES-CBC, as written by " +
				convertKey},
		{"scrypt", keySource{text: testKey(t, "refused-scrypt.pem")},
			"Certificate has a private key that is encrypted with scrypt: want "},
		{"PBES1", keySource{text: testKey(t, "refused-pbes1.pem")},
			"Certificate has a private key that is encrypted with PBES1 (3DES): want "},
		{"another hash",
			keySource{text: pbes(pbes2{iterations: 1, prf: asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 8}})},
			"Certificate has a private key that is encrypted with 1.2.840.113549.2.8: want "},

		{"no passphrase", keySource{text: testKey(t, "pbes2-aes256-sha256.pem")},
			"Passphrase is missing, and the private key in Certificate is encrypted"},
		{"no iterations", keySource{text: pbes(pbes2{}), passphrase: "correct"},
			"Certificate has a private key that asks for 0 iterations of PBKDF2: want 1 to 5000000"},
		{"negative iterations", keySource{text: pbes(pbes2{iterations: -1}), passphrase: "correct"},
			"Certificate has a private key that asks for -1 iterations"},
		{"iterations without end",
			keySource{text: pbes(pbes2{iterations: 5_000_001}), passphrase: "correct"},
			"Certificate has a private key that asks for 5000001 iterations"},
		{"long salt",
			keySource{text: pbes(pbes2{iterations: 1, salt: make([]byte, 1025)}), passphrase: "correct"},
			"Certificate has an ENCRYPTED PRIVATE KEY that is damaged"},
		{"key length", keySource{text: pbes(pbes2{iterations: 1, keyLength: 16}), passphrase: "correct"},
			"Certificate has an ENCRYPTED PRIVATE KEY that is damaged"},
		{"short IV",
			keySource{text: pbes(pbes2{iterations: 1, iv: make([]byte, 8)}), passphrase: "correct"},
			"Certificate has an ENCRYPTED PRIVATE KEY that is damaged"},
		{"cut", keySource{text: pbes(pbes2{iterations: 1, cut: 1}), passphrase: "correct"},
			"Certificate has an ENCRYPTED PRIVATE KEY that is damaged"},
		{"nothing encrypted",
			keySource{text: encrypt(t, nil, "correct", pbes2{iterations: 1, cut: 16}),
				passphrase: "correct"},
			"Certificate has an ENCRYPTED PRIVATE KEY that is damaged"},
		{"no ASN.1",
			keySource{text: "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"},
			"Certificate has an ENCRYPTED PRIVATE KEY that is damaged"},
		{"encrypted X25519",
			keySource{text: encrypt(t, testDER(t, "x25519.pem"), "correct", pbes2{iterations: 1}),
				passphrase: "correct"},
			"Certificate has a key of X25519 or X448, which cannot sign"},
	} {
		pair, err := cachedKeys()(tt.from)
		if err == nil { // what is wrong with a certificate is found when it is needed
			_, err = chainOf(pair, nil, true, testNow)
			pair = keyPair{}
		}
		if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: "+tt.want) || pair.signer != nil ||
			pair.kind != "" {
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

// TestKeysOfUpTo16KiBAreRead: Nobody has a larger key, and parsing one takes
// long.
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

// TestKeysOfNoUseAreNamed: A key may be good and of a kind that no identity
// provider takes. The error says what the key is, and what to make instead.
func TestKeysOfNoUseAreNamed(t *testing.T) {
	pkcs8 := func(oid asn1.ObjectIdentifier, parameters any) string {
		type algorithm struct {
			ID         asn1.ObjectIdentifier
			Parameters any
		}
		der, err := asn1.Marshal(struct {
			Version   int
			Algorithm algorithm
			Key       []byte
		}{0, algorithm{oid, parameters}, []byte("made up")})
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	oid := func(numbers ...int) asn1.ObjectIdentifier { return numbers }
	ec := oid(1, 2, 840, 10045, 2, 1)
	rsaKey := parseTestKey(t, "rsa-pkcs8.pem").(*rsa.PrivateKey)
	numbers := func(bits uint, p, q *big.Int) string {
		n := rsaKey.N
		if bits > 0 {
			n = new(big.Int).Lsh(big.NewInt(1), bits-1)
		}
		der, err := asn1.Marshal(struct {
			Version                int
			N, E, D, P, Q, A, B, C *big.Int
		}{0, n, big.NewInt(65537), rsaKey.D, p, q, new(big.Int), new(big.Int), new(big.Int)})
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der}))
	}
	sec1, err := asn1.Marshal(struct {
		Version    int
		Key        []byte
		Parameters asn1.ObjectIdentifier `asn1:"explicit,tag:0"`
	}{1, make([]byte, 32), oid(1, 3, 132, 0, 10)})
	if err != nil {
		t.Fatal(err)
	}
	const kinds = ": want RSA (2048 bits or more), ECDSA on P-256, P-384 or P-521, or Ed25519, as made by `openssl genpkey -algorithm RSA "
	for name, tt := range map[string]struct{ text, want string }{
		"RSA-PSS of OpenSSL": {testKey(t, "refused-rsa-pss.pem"),
			"has a key of RSA-PSS (id-RSASSA-PSS), which plain RSA replaces: it makes PS256 too" + kinds},
		"brainpool of OpenSSL": {testKey(t, "refused-brainpool.pem"),
			"has a key of ECDSA on a brainpool curve" + kinds},
		"secp256k1 of OpenSSL": {testKey(t, "refused-secp256k1.pem"),
			"has a key of ECDSA on secp256k1" + kinds},
		"explicit curve of OpenSSL": {testKey(t, "refused-explicit.pem"),
			"has a key of ECDSA with explicit curve parameters, where the curve's name is wanted" + kinds},
		"Ed448 of OpenSSL": {testKey(t, "refused-ed448.pem"), "has a key of Ed448" + kinds},
		"P-224":            {testKey(t, "p224.pem"), "has a key of ECDSA on P-224" + kinds},
		"X448": {pkcs8(oid(1, 3, 101, 111), asn1.NullRawValue),
			"has a key of X25519 or X448, which cannot sign" + kinds},
		"DSA": {pkcs8(oid(1, 2, 840, 10040, 4, 1), asn1.NullRawValue),
			"has a key of DSA" + kinds},
		"DH": {pkcs8(oid(1, 2, 840, 113549, 1, 3, 1), asn1.NullRawValue),
			"has a key of Diffie-Hellman, which cannot sign" + kinds},
		"DH of X9.42": {pkcs8(oid(1, 2, 840, 10046, 2, 1), asn1.NullRawValue),
			"has a key of Diffie-Hellman, which cannot sign" + kinds},
		"another curve": {pkcs8(ec, oid(1, 3, 132, 0, 1)),
			"has a key of ECDSA on another curve (1.3.132.0.1)" + kinds},
		"something else": {pkcs8(oid(1, 2, 3, 4), asn1.NullRawValue),
			"has a key of an unknown kind (1.2.3.4)" + kinds},
		"secp256k1 in SEC 1": {
			string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1})),
			"has a key of ECDSA on secp256k1" + kinds},
		"RSA without primes": {numbers(0, new(big.Int), new(big.Int)),
			"has a key of RSA without its primes (p and q)" + kinds},
		"RSA of 512 bits": {numbers(512, rsaKey.Primes[0], rsaKey.Primes[1]),
			"has an RSA key of 512 bits: want at least 2048"},
		"RSA whose numbers are wrong": {numbers(0, rsaKey.Primes[0], rsaKey.Primes[0]),
			"has a private key that is damaged, or of a kind that is not known" + kinds},
		"damaged P-256": {pkcs8(ec, oid(1, 2, 840, 10045, 3, 1, 7)),
			"has a private key that is damaged, or of a kind that is not known" + kinds},
		"damaged P-384": {pkcs8(ec, oid(1, 3, 132, 0, 34)),
			"has a private key that is damaged, or of a kind that is not known" + kinds},
		"damaged P-521": {pkcs8(ec, oid(1, 3, 132, 0, 35)),
			"has a private key that is damaged, or of a kind that is not known" + kinds},
		"damaged RSA": {pkcs8(oid(1, 2, 840, 113549, 1, 1, 1), asn1.NullRawValue),
			"has a private key that is damaged, or of a kind that is not known" + kinds},
		"a long curve": {pkcs8(ec, append(oid(1, 2), make([]int, 500)...)),
			"has a key of ECDSA on another curve (1.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.)" +
				kinds},
		"damaged Ed25519": {pkcs8(oid(1, 3, 101, 112), asn1.NullRawValue),
			"has a private key that is damaged, or of a kind that is not known" + kinds},
		"a long identifier": {pkcs8(append(oid(1, 2), make([]int, 500)...), asn1.NullRawValue),
			"has a key of an unknown kind (1.2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.)" +
				kinds},
	} {
		_, err := parseText(tt.text, "")
		if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: Certificate "+tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// TestSameKeyTwiceIsOneKey: A file with key and certificate may be given beside
// the key's own file. The same key is not counted twice, in whatever formats it
// comes.
func TestSameKeyTwiceIsOneKey(t *testing.T) {
	rsa1, rsa8, p256, sec1 := testKey(t, "rsa-pkcs1.pem"), testKey(t, "rsa-pkcs8.pem"),
		testKey(t, "p256-pkcs8.pem"), testKey(t, "p256-sec1.pem")
	encrypted, other := testKey(t, "pbes2-aes256-sha256.pem"), testKey(t, "pbes2-aes128-sha1.pem")
	for name, text := range map[string]string{
		"the same text":             p256 + p256,
		"three times":               p256 + p256 + p256,
		"PKCS#1 and PKCS#8":         rsa1 + rsa8,
		"PKCS#8 and SEC 1":          p256 + sec1,
		"with another line's width": p256 + strings.ReplaceAll(p256, "\n", " "),
	} {
		if _, err := parseText(text, ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := parseText(encrypted+encrypted, ""); err == nil ||
		!strings.Contains(err.Error(), "Passphrase is missing") {
		t.Errorf("the same encrypted key twice: %v", err)
	}
	for name, text := range map[string]string{
		"two keys":                p256 + rsa8,
		"encrypted and not":       encrypted + p256,
		"encrypted in two ways":   encrypted + other,
		"the first twice":         p256 + p256 + rsa8,
		"two of which one is old": p256 + testKey(t, "refused-rfc1421.pem"),
	} {
		if _, err := parseText(text, "correct"); err == nil ||
			err.Error() != "cdfauth: Certificate has 2 private keys: want exactly one" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTextOfAKeyHasALimit: a text of more than maxKeyText is not searched for keys. One of
// just that size is.
func TestTextOfAKeyHasALimit(t *testing.T) {
	for size, tooLong := range map[int]bool{maxKeyText: false, maxKeyText + 1: true} {
		_, err := parseKeys(keySource{text: strings.Repeat(" ", size)})
		if err == nil || strings.Contains(err.Error(), "has more than") != tooLong {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}
