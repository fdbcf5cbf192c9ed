//go:build go1.24

package cdfauth

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
)

// This file has the words for texts and keys that cannot be used: what they are, as
// far as can be told, and what to do about it. An error shows a label, an object
// identifier or a number of bits, and nothing else of a key.

// makeKey is the command that makes a key for every provider. A test runs it.
const makeKey = "`openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out new.key`"

// usableKinds is for errors.
const usableKinds = "want RSA (2048 bits or more), ECDSA on P-256, P-384 or P-521, or Ed25519"

// errSmallRSA refuses an RSA key that is too short.
func errSmallRSA(field string, bits int) error {
	return badField(field, "has an RSA key of %d bits: want at least %d (RFC 7518 §3.3),"+
		" as made by %s", bits, minRSABits, makeKey)
}

// errKindOfKey refuses a key of a kind that no algorithm is for.
func errKindOfKey(field, kind string) error {
	return badField(field, "has a key of %s: %s, as made by %s", kind, usableKinds, makeKey)
}

// errUnusableKey says what a private key is that crypto/x509 does not read.
func errUnusableKey(der []byte) error {
	rsaKey, isRSA := rsaKeyOf(der)
	switch {
	case isRSA && rsaKey.N.BitLen() < minRSABits:
		return errSmallRSA("Certificate", rsaKey.N.BitLen())
	case isRSA && (rsaKey.P.Sign() <= 0 || rsaKey.Q.Sign() <= 0):
		return errKindOfKey("Certificate", "RSA without its primes (p and q)")
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

// unusableKind names the kind of a private key by its object identifiers; "" if it
// has none, or if they are those of a kind that is usable.
func unusableKind(der []byte) string {
	var sec1 sec1Key
	if unmarshalDER(der, &sec1) {
		return kindOfCurve(sec1.Parameters.Bytes) // without the explicit tag around them
	}
	var key pkcs8Key
	if !unmarshalDER(der, &key) {
		return ""
	}
	kind := key.Algorithm.Algorithm.String()
	switch kind {
	case "1.2.840.113549.1.1.1", "1.3.101.112": // RSA, Ed25519
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
	return fmt.Sprintf("an unknown kind (%.60s)", kind)
}

// kindOfCurve names an elliptic curve by its ECParameters (RFC 5480 §2.1.1); "" if
// there are none, or if they are those of a curve that is usable.
func kindOfCurve(parameters []byte) string {
	var curve asn1.ObjectIdentifier
	if !unmarshalDER(parameters, &curve) {
		if len(parameters) > 0 && parameters[0] == 0x30 { // a SEQUENCE
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
		return "" // P-256, P-384 and P-521 are read: the key is damaged
	}
	return fmt.Sprintf("ECDSA on another curve (%.60s)", name)
}

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
	// A file in base64 that is damaged, and so is no block, begins as a whole one does.
	start, _ := decodeBase64(text)
	startLabel := labelOfDER(start)
	switch {
	case strings.Contains(text, "PRIVATE KEY"):
		return badField("Certificate", "has the words PRIVATE KEY, but no block of PEM:"+
			" want -----BEGIN PRIVATE KEY----- before it and -----END PRIVATE KEY----- behind it")
	case startLabel == labelPKCS12:
		return errPKCS12(start)
	case len(blocks) == 0 && startLabel != "":
		return badField("Certificate", "has %s in base64 that is damaged or cut off:"+
			" want it whole, best as PEM", startLabel)
	case looksLikePath(text):
		return badField("Certificate", "has no PEM, and looks like the name of a file:"+
			" SecretFile reads one")
	}
	found := ""
	if len(blocks) > 0 {
		found = fmt.Sprintf(" (it has %.60s)", blocks[0].label)
	}
	return badField("Certificate", "has no private key%s: want a PEM block PRIVATE KEY,"+
		" ENCRYPTED PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY, or else Signer", found)
}

// looksLikePath reports whether the text may be the name of a file.
func looksLikePath(text string) bool {
	text = strings.TrimSpace(text)
	return len(text) < 1000 && !strings.Contains(text, "\n") &&
		(strings.HasPrefix(text, "/") || strings.HasPrefix(text, "./") || strings.Contains(text, `:\`) ||
			strings.HasSuffix(text, ".pem") || strings.HasSuffix(text, ".key"))
}

// errPKCS12 refuses a .pfx file. The names of its ciphers are not encrypted, so that
// it can tell which command reads the file.
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
