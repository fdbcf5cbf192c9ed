//go:build go1.24

package cdfauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"sync"
)

// This file makes a private key, with the certificates beside it, of the text of
// Certificate. It refuses a text with several keys, keys that are too weak or that no
// provider takes, and says which it was and what to make instead. Others may write
// to where the text is from: hence the limits.

const (
	// maxKeyText limits the text, in bytes. A key with a long chain has 20 KiB, a
	// system's whole list of roots 220 KiB.
	maxKeyText = 256 << 10
	// maxKeyDER limits a key, in bytes. An RSA key of 16,384 bits has 9 KiB.
	maxKeyDER = 16 << 10
	// minRSABits is what RFC 7518 §3.3 and §3.5 demand.
	minRSABits = 2048
)

// makeKey is the command that makes a key for every provider. A test runs it.
const makeKey = "`openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out new.key`"

// A keySource is all that a keyPair is made from. While it stays the same, there is
// nothing to parse.
type keySource struct {
	text       string // of Certificate
	passphrase string
	// held is the public key, in DER, of the private key that a Signer holds; ""
	// if the private key is in text.
	held string
}

// A keyPair is a private key with its certificates. It is kept in function values
// alone, never in a field of what a provider leads to.
type keyPair struct {
	// field is the field of the configuration that the private key is from.
	field string
	// signer is the private key; nil if a Signer holds it.
	signer crypto.Signer
	public crypto.PublicKey
	// kind is "RSA", "P-256", "P-384", "P-521" or "Ed25519".
	kind string
	// certificates are all that the text has, in its order.
	certificates []certificate
}

// cachedKeys returns a function that is parseKeys, but parses a source again only
// after another one has been parsed. A source that is wrong displaces nothing.
func cachedKeys() func(keySource) (keyPair, error) {
	var mu sync.Mutex
	var last keyPair
	var lastSource keySource
	return func(source keySource) (keyPair, error) {
		mu.Lock()
		defer mu.Unlock()
		if last.kind != "" && source == lastSource {
			return last, nil
		}
		pair, err := parseKeys(source)
		if err != nil {
			return keyPair{}, err
		}
		last = pair
		lastSource = source
		return pair, nil
	}
}

// parseKeys reads the private key and the certificates of a source.
func parseKeys(source keySource) (keyPair, error) {
	if len(source.text) > maxKeyText {
		return keyPair{}, badField("Certificate", "has more than %d KiB:"+
			" want a private key, its certificate and the chain", maxKeyText>>10)
	}
	blocks := readPEM(source.text)
	pair := keyPair{field: "Certificate"}
	for _, b := range blocks {
		if b.isCertificate() {
			pair.certificates = append(pair.certificates, readCertificate(b))
		}
	}
	var err error
	if source.held != "" {
		pair.field = "Signer"
		err = checkBesideSigner(source.text, blocks)
		pair.public, _ = x509.ParsePKIXPublicKey([]byte(source.held))
	} else {
		pair.signer, err = findPrivateKey(source, blocks)
		if err == nil {
			pair.public = pair.signer.Public()
		}
	}
	if err == nil {
		pair.kind, err = keyKind(pair.field, pair.public)
	}
	if err == nil {
		err = checkCertificates(pair.certificates, pair.public)
	}
	if err != nil {
		return keyPair{}, err
	}
	return pair, nil
}

// checkBesideSigner refuses a text that is more or less than the certificates of a
// Signer's key.
func checkBesideSigner(text string, blocks []pemBlock) error {
	certificates := 0
	for _, b := range blocks {
		if b.isKey() {
			return badField("Certificate", "has a private key although Signer is set: want one of them")
		}
		if b.isCertificate() {
			certificates++
		}
	}
	if text != "" && certificates == 0 {
		return badField("Certificate", "has no PEM block CERTIFICATE, and Signer has the key:"+
			" want one, or leave Certificate out")
	}
	return nil
}

// findPrivateKey returns the private key of a text. Several are refused, since a
// guess would sign with one that nobody chose, but the same key twice is one key.
func findPrivateKey(source keySource, blocks []pemBlock) (crypto.Signer, error) {
	var keys []pemBlock
	for _, b := range blocks {
		if !b.isKey() || b.problem != "" {
			continue
		}
		if len(keys) == 0 || !sameKey(keys[0], b) {
			keys = append(keys, b)
		}
	}
	switch len(keys) {
	case 0:
		return nil, errNoKey(source.text, blocks)
	case 1:
		return parsePrivateKey(keys[0], source.passphrase)
	}
	return nil, badField("Certificate", "has %d private keys: want exactly one", len(keys))
}

// sameKey reports whether two blocks have the same key. Encrypted keys are compared
// as they are.
func sameKey(a, b pemBlock) bool {
	if a.headers == b.headers && bytes.Equal(a.der, b.der) {
		return true
	}
	one := parseDER(a.der)
	other := parseDER(b.der)
	if one == nil || other == nil {
		return false
	}
	public, ok := one.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(other.Public())
}

// parsePrivateKey returns the private key of a block.
func parsePrivateKey(block pemBlock, passphrase string) (crypto.Signer, error) {
	der := block.der
	switch {
	case strings.Contains(block.headers, "ENCRYPTED"):
		return nil, errEncryptedRFC1421(block.headers)
	case len(der) > maxKeyDER:
		return nil, badField("Certificate", "has a private key of %d bytes: want up to %d",
			len(der), maxKeyDER)
	case block.label == labelEncryptedKey || labelOfDER(der) == labelEncryptedKey:
		plain, err := decryptPKCS8(der, passphrase)
		if err != nil {
			return nil, err
		}
		der = plain
	}
	signer := parseDER(der)
	if signer == nil {
		return nil, errUnusableKey(der)
	}
	return signer, nil
}

// parseDER returns the private key in der; nil for what is damaged, encrypted or of
// no usable kind. It tries each format whatever the label, since some tools write
// one under that of another. It keeps the parsers' errors to itself: they quote what
// they read.
func parseDER(der []byte) crypto.Signer {
	if len(der) > maxKeyDER {
		return nil
	}
	key, err := x509.ParsePKCS8PrivateKey(der) // RFC 5958
	if err == nil {
		signer, _ := key.(crypto.Signer)
		return signer
	}
	rsaKey, err := x509.ParsePKCS1PrivateKey(der) // RFC 8017 appendix A.1.2
	if err == nil {
		return rsaKey
	}
	ecKey, err := x509.ParseECPrivateKey(der) // RFC 5915, also called SEC 1
	if err == nil {
		return ecKey
	}
	return nil
}

// keyKind names the kind of a public key as the table of algorithms does, and refuses
// those that are too weak or that no algorithm is for.
func keyKind(field string, public crypto.PublicKey) (string, error) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if public.N.BitLen() < minRSABits {
			return "", errSmallRSA(field, public.N.BitLen())
		}
		return "RSA", nil
	case *ecdsa.PublicKey:
		switch curve := public.Params().Name; curve {
		case "P-256", "P-384", "P-521":
			return curve, nil
		default: // crypto/x509 reads P-224 too
			return "", errKindOfKey(field, "ECDSA on "+curve)
		}
	case ed25519.PublicKey:
		return "Ed25519", nil
	}
	return "", errKindOfKey(field, "no usable kind")
}

const usableKinds = "want RSA (2048 bits or more), ECDSA on P-256, P-384 or P-521, or Ed25519"

func errSmallRSA(field string, bits int) error {
	return badField(field, "has an RSA key of %d bits: want at least %d (RFC 7518 §3.3),"+
		" as made by %s", bits, minRSABits, makeKey)
}

func errKindOfKey(field, kind string) error {
	return badField(field, "has a key of %s: %s, as made by %s", kind, usableKinds, makeKey)
}

// errUnusableKey says what a private key is that the parsers do not read.
func errUnusableKey(der []byte) error {
	if bits := bitsOfRSA(der); bits > 0 && bits < minRSABits {
		return errSmallRSA("Certificate", bits)
	}
	if kind := unusableKind(der); kind != "" {
		return errKindOfKey("Certificate", kind)
	}
	return badField("Certificate", "has a private key that is damaged, or of a kind that"+
		" is not known: %s, as made by %s", usableKinds, makeKey)
}

// A pkcs8Key is the beginning of PrivateKeyInfo (RFC 5958 §2).
type pkcs8Key struct {
	Version   int
	Algorithm pkix.AlgorithmIdentifier
	Key       []byte
}

// A pkcs1Key is the beginning of RSAPrivateKey (RFC 8017 appendix A.1.2).
type pkcs1Key struct {
	Version int
	N, E, D *big.Int
	P, Q    *big.Int
}

// A sec1Key is ECPrivateKey (RFC 5915 §3).
type sec1Key struct {
	Version    int
	Key        []byte
	Parameters asn1.RawValue  `asn1:"optional,explicit,tag:0"`
	Public     asn1.BitString `asn1:"optional,explicit,tag:1"`
}

// rsaKeyOf returns the numbers of an RSA key in PKCS#1 or PKCS#8.
func rsaKeyOf(der []byte) (key pkcs1Key, ok bool) {
	var outer pkcs8Key
	if unmarshalDER(der, &outer) {
		der = outer.Key
	}
	return key, unmarshalDER(der, &key)
}

func bitsOfRSA(der []byte) int {
	key, ok := rsaKeyOf(der)
	if !ok {
		return 0
	}
	return key.N.BitLen()
}

// unusableKind names the kind of a private key by its object identifiers; "" if it
// has none that is known.
func unusableKind(der []byte) string {
	if key, ok := rsaKeyOf(der); ok && (key.P.Sign() <= 0 || key.Q.Sign() <= 0) {
		return "RSA without its primes (p and q)"
	}
	var sec1 sec1Key
	if unmarshalDER(der, &sec1) {
		return kindOfCurve(sec1.Parameters.Bytes)
	}
	var key pkcs8Key
	if !unmarshalDER(der, &key) {
		return ""
	}
	switch key.Algorithm.Algorithm.String() {
	case "1.2.840.113549.1.1.1", "1.3.101.112":
		return "" // those are read: the key is damaged
	case "1.2.840.113549.1.1.10": // RFC 4055 §3.1
		return "RSA-PSS (id-RSASSA-PSS), which plain RSA replaces: it makes PS256 too"
	case "1.2.840.10045.2.1": // RFC 5480 §2.1.1
		return kindOfCurve(key.Algorithm.Parameters.FullBytes)
	case "1.3.101.113": // RFC 8410 §3
		return "Ed448"
	case "1.3.101.110", "1.3.101.111":
		return "X25519 or X448, which cannot sign"
	case "1.2.840.10040.4.1": // RFC 3279 §2.3.2
		return "DSA"
	case "1.2.840.113549.1.3.1", "1.2.840.10046.2.1":
		return "Diffie-Hellman, which cannot sign"
	}
	return "an unknown kind (" + limitText(key.Algorithm.Algorithm.String()) + ")"
}

// kindOfCurve names an elliptic curve by its ECParameters (RFC 5480 §2.1.1).
func kindOfCurve(parameters []byte) string {
	var curve asn1.ObjectIdentifier
	if !unmarshalDER(parameters, &curve) {
		if len(parameters) > 0 && parameters[0] == 0x30 {
			return "ECDSA with explicit curve parameters, where the curve's name is wanted"
		}
		return ""
	}
	name := curve.String()
	switch {
	case name == "1.3.132.0.10":
		return "ECDSA on secp256k1"
	case strings.HasPrefix(name, "1.3.36.3.3.2.8.1.1."): // RFC 5639 §4.1
		return "ECDSA on a brainpool curve"
	case name == "1.2.840.10045.3.1.7" || name == "1.3.132.0.34" || name == "1.3.132.0.35":
		return "" // those are read: the key is damaged
	}
	return "ECDSA on another curve (" + limitText(name) + ")"
}

// limitText cuts the text of an object identifier.
func limitText(text string) string { return text[:min(len(text), 60)] }

// errNoKey says what is in a text that has no private key that can be read.
func errNoKey(text string, blocks []pemBlock) error {
	for _, b := range blocks {
		switch {
		case b.isKey():
			return badField("Certificate", "has %s, but it %s", b.label, b.problem)
		case b.label == labelPKCS12:
			return errPKCS12(b.der)
		case b.label == labelOpenSSHKey:
			return errKindOfKey("Certificate", "OpenSSH, for which no identity provider has a use")
		case strings.HasSuffix(b.label, labelKey):
			return badField("Certificate", "has %.40s, which is not read: %s, as made by %s",
				b.label, usableKinds, makeKey)
		}
	}
	switch {
	case strings.Contains(text, "PRIVATE KEY"):
		return badField("Certificate", "has the words PRIVATE KEY, but no block of PEM:"+
			" want -----BEGIN PRIVATE KEY----- before it and -----END PRIVATE KEY----- behind it")
	case looksLikePKCS12(text):
		return errPKCS12(nil)
	case looksLikePath(text):
		return badField("Certificate", "has no PEM, and looks like the name of a file: SecretFile reads one")
	}
	found := ""
	if len(blocks) > 0 {
		found = " (it has " + limitText(blocks[0].label) + ")"
	}
	return badField("Certificate", "has no private key%s: want a PEM block PRIVATE KEY,"+
		" ENCRYPTED PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY, or else Signer", found)
}

// looksLikePKCS12 says that the text may be base64 of a file in DER, which is damaged.
func looksLikePKCS12(text string) bool {
	return strings.HasPrefix(compact(text), "MI")
}

// looksLikePath says that somebody has set the name of a file.
func looksLikePath(text string) bool {
	text = strings.TrimSpace(text)
	return len(text) < 1000 && !strings.Contains(text, "\n") &&
		(strings.HasPrefix(text, "/") || strings.HasPrefix(text, "./") || strings.Contains(text, `:\`) ||
			strings.HasSuffix(text, ".pem") || strings.HasSuffix(text, ".key"))
}

// errPKCS12 refuses a .pfx file. Its ciphers are named outside what they encrypt.
func errPKCS12(der []byte) error {
	convert := convertPFX
	for _, legacy := range []byte{1, 2, 5, 6} { // RC4 and RC2 (RFC 7292 appendix C)
		oid := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01, legacy}
		if bytes.Contains(der, oid) {
			convert = convertLegacyPFX
		}
	}
	return badField("Certificate", "is PKCS#12 (.pfx, .p12): want PEM, as written by %s", convert)
}
