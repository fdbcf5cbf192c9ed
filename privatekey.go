//go:build go1.24

package cdfauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"sync"
)

// This file makes a private key, with the certificates beside it, of the text of
// Certificate. It refuses a text with several keys, and a key that is too weak or that
// no provider takes; the words for these errors are in unusablekey.go. It limits what
// it parses, because others may write to the file or store that the text is from.

const (
	// maxKeyText limits the text, in bytes. A key with a long chain has 20 KiB, a
	// system's whole list of roots 220 KiB.
	maxKeyText = 256 << 10
	// maxKeyDER limits a key, in bytes. An RSA key of 16,384 bits has 9 KiB.
	maxKeyDER = 16 << 10
	// minRSABits is what RFC 7518 §3.3 and §3.5 demand.
	minRSABits = 2048
)

// A keySource is all that a keyPair is made from. While it stays the same, there is
// nothing to parse.
type keySource struct {
	text       string // of Certificate; "" if there is none
	passphrase string // "" if there is none
	// signerPublic is the public key, in DER, of the private key that a Signer holds;
	// "" if the private key is in text.
	signerPublic string
}

// A keyPair is a private key with its certificates. No field that a provider leads to
// may hold one, because whatever prints the provider would print the key.
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

// cachedKeys returns a function that does what parseKeys does, and remembers the last
// source that was parsed without an error. It does not parse that source again. It
// remembers in variables of the function, which nothing prints.
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
	pair, err := readKey(source, blocks)
	if err != nil {
		return keyPair{}, err
	}
	pair.kind, err = keyKind(pair.field, pair.public)
	if err != nil {
		return keyPair{}, err
	}
	for _, b := range blocks {
		if b.isCertificate() {
			pair.certificates = append(pair.certificates, readCertificate(b))
		}
	}
	err = checkCertificates(pair.certificates, pair.public)
	if err != nil {
		return keyPair{}, err
	}
	return pair, nil
}

// readKey returns the key of a source, without its kind and its certificates.
func readKey(source keySource, blocks []pemBlock) (keyPair, error) {
	if source.signerPublic != "" {
		err := checkBesideSigner(source.text, blocks)
		if err != nil {
			return keyPair{}, err
		}
		// If this fails, public is nil, which keyKind refuses.
		public, _ := x509.ParsePKIXPublicKey([]byte(source.signerPublic))
		return keyPair{field: "Signer", public: public}, nil
	}
	signer, err := findPrivateKey(source, blocks)
	if err != nil {
		return keyPair{}, err
	}
	return keyPair{field: "Certificate", signer: signer, public: signer.Public()}, nil
}

// checkBesideSigner refuses a text that has a private key, or no certificate. Without
// a text there is nothing to refuse.
func checkBesideSigner(text string, blocks []pemBlock) error {
	switch {
	case slices.ContainsFunc(blocks, pemBlock.isKey):
		return badField("Certificate", "has a private key although Signer is set: want one of them")
	case text != "" && !slices.ContainsFunc(blocks, pemBlock.isCertificate):
		return badField("Certificate", "has no PEM block CERTIFICATE, and Signer has the key:"+
			" want one, or leave Certificate out")
	}
	return nil
}

// findPrivateKey returns the private key of a text. It refuses several, since it would
// have to guess which one was meant. The same key twice is one key. A block that cannot
// be read is none, and matters only if it is all there is.
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

// sameKey reports whether two blocks have the same key. It does not decrypt: an
// encrypted key is the same as another one only if their bytes are.
func sameKey(a, b pemBlock) bool {
	if a.rfc1421 == b.rfc1421 && bytes.Equal(a.der, b.der) {
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
	case block.rfc1421 != "":
		return nil, errEncryptedRFC1421(block.rfc1421)
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
