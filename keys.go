package cdfauth

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/pbkdf2"
	"crypto/rsa"
	"crypto/sha1" // RFC 8018 makes HMAC-SHA1 the default of PBKDF2
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"
	"time"
)

// This file reads ClientCertificateConfig.Certificate: PEM text (RFC 7468) with a private key, its certificate and the chain of
// that, in any order and with anything else in between. In this order: the text, the key, its decryption, the chain. The text may
// come from where others can write, hence the limits.

const (
	maxKeyText    = 256 << 10 // a key with a long chain has 20 KiB, a system's whole list of roots 220 KiB
	maxKeyDER     = 16 << 10  // an RSA key of 16,384 bits has 9 KiB
	maxSalt       = 1 << 10   // openssl writes 8 or 16 bytes
	maxIterations = 5_000_000 // openssl writes 2,048, OWASP advises up to 1,400,000; this many take seconds, and a flight has 30
	maxChain      = 10        // real ones have up to 4
	minRSABits    = 2048      // RFC 7518 §3.3 and §3.5
)

// The commands that make of what is not supported something that is.
const (
	convertKey  = "`openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -in old.key -out new.key`"
	convertFIPS = "`openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -saltlen 16 -in old.key -out new.key` (OpenSSL 3.2 or newer)"
	convertPFX  = "`openssl pkcs12 -in old.pfx -aes256 -out new.pem`"
)

// keySource is all that a key pair is made from: while it stays the same, there is nothing to parse.
type keySource struct {
	text       string // of Certificate
	passphrase string
	held       string // the public key, in DER, of the private key that a Signer holds; "" when that is in text
}

// keyPair is a private key with its certificates. It lives in function values alone (see cachedKeys), never in a field of what a
// provider leads to.
type keyPair struct {
	signer crypto.Signer       // nil when a Signer holds the key
	kind   string              // "RSA", "P-256", "P-384", "P-521" or "Ed25519"
	chain  []*x509.Certificate // the key's certificate, then its issuers; empty if the text has none
}

func parseKeys(from keySource, now time.Time) (pair keyPair, err error) {
	if len(from.text) > maxKeyText {
		return keyPair{}, fmt.Errorf("cdfauth: Certificate: has more than %d KiB: want a private key, its certificate and the chain", maxKeyText>>10)
	}
	var keys []*pem.Block
	var certs []*x509.Certificate
	sawCertificate := false
	// Editors on Windows write a byte order mark, which would hide the first block.
	for rest := []byte(strings.ReplaceAll(from.text, "\ufeff", "")); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch block.Type {
		case "CERTIFICATE":
			sawCertificate = true
			// One that does not parse matters only if it was the key's: then none matches.
			if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
				certs = append(certs, cert)
			}
		case "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			keys = append(keys, block)
		}
	}

	field := "Certificate"
	var public crypto.PublicKey
	switch {
	case from.held != "" && len(keys) > 0:
		return keyPair{}, errors.New("cdfauth: Certificate: has a private key although Signer is set: want one of them")
	case from.held != "" && from.text != "" && !sawCertificate:
		return keyPair{}, errors.New("cdfauth: Certificate: has no PEM block CERTIFICATE, and Signer has the key: want one, or leave Certificate out")
	case from.held != "":
		field = "Signer"
		public, _ = x509.ParsePKIXPublicKey([]byte(from.held)) // nil if that fails, which keyKind refuses
	case len(keys) > 1: // guessing would sign with a key that nobody chose, and deriving is costly
		return keyPair{}, fmt.Errorf("cdfauth: Certificate: has %d private keys: want exactly one", len(keys))
	case len(keys) == 1:
		if pair.signer, err = parsePrivateKey(keys[0], from.passphrase); err != nil {
			return keyPair{}, err
		}
		public = pair.signer.Public()
	case isPKCS12(from.text):
		return keyPair{}, errors.New("cdfauth: Certificate: is PKCS#12 (.pfx, .p12), which is not supported: convert it to PEM with " + convertPFX)
	default:
		return keyPair{}, errors.New("cdfauth: Certificate: has no private key: want a PEM block PRIVATE KEY, ENCRYPTED PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY, or else Signer")
	}
	if pair.kind, err = keyKind(field, public); err == nil && sawCertificate {
		pair.chain, err = orderChain(certs, public, now)
	}
	if err != nil {
		return keyPair{}, err
	}
	return pair, nil
}

// keyKind names the kind of key as the table of algorithms does.
func keyKind(field string, public crypto.PublicKey) (string, error) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < minRSABits {
			return "", fmt.Errorf("cdfauth: %s: the RSA key has %d bits: want at least %d (RFC 7518 §3.3)", field, bits, minRSABits)
		}
		return "RSA", nil
	case *ecdsa.PublicKey:
		switch public.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return public.Curve.Params().Name, nil
		}
	case ed25519.PublicKey:
		return "Ed25519", nil
	}
	return "", errUnusableKey(field)
}

func errUnusableKey(field string) error {
	return fmt.Errorf("cdfauth: %s: the key is damaged or of no usable kind: want RSA (%d bits or more), ECDSA on P-256, P-384 or P-521, or Ed25519", field, minRSABits)
}

// parsePrivateKey keeps the parsers' errors to itself: they quote what they read.
func parsePrivateKey(block *pem.Block, passphrase string) (crypto.Signer, error) {
	der := block.Bytes
	if len(der) > maxKeyDER {
		return nil, errUnusableKey("Certificate")
	}
	if strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, errEncryption(procType)
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" {
		var err error
		if der, err = decryptPKCS8(der, passphrase); err != nil {
			return nil, err
		}
	}
	// The label does not decide: some tools write one format under that of another.
	key, err := x509.ParsePKCS8PrivateKey(der) // RFC 5958
	if err != nil {
		if k, err := x509.ParsePKCS1PrivateKey(der); err == nil { // RFC 8017 A.1.2
			return k, nil
		}
		if k, err := x509.ParseECPrivateKey(der); err == nil { // RFC 5915, also called SEC 1
			return k, nil
		}
	}
	if signer, ok := key.(crypto.Signer); ok {
		return signer, nil
	}
	return nil, errUnusableKey("Certificate")
}

// isPKCS12 recognises the beginning of a file of RFC 7292, a SEQUENCE whose first element is the INTEGER 3; also in base64, as
// Azure Key Vault gives it.
func isPKCS12(text string) bool {
	head := []byte(text[:min(len(text), 24)])
	if decoded, err := base64.StdEncoding.DecodeString(string(head)); err == nil {
		head = decoded
	}
	return len(head) > 9 && head[0] == 0x30 && bytes.Contains(head[:9], []byte{2, 1, 3})
}

// Object identifiers of RFC 8018 appendix C, and of the AES ciphers.
const (
	oidPBES2  = "1.2.840.113549.1.5.13"
	oidPBKDF2 = "1.2.840.113549.1.5.12"
	oidScrypt = "1.3.6.1.4.1.11591.4.11" // RFC 7914 §7
	oid3DES   = "1.2.840.113549.3.7"
	procType  = "Proc-Type: 4,ENCRYPTED" // RFC 1421 §4.6.1.1, with one round of MD5
	oidPKCS   = "1.2.840.113549.1."      // PBES1 is below it, with numbers of PKCS#5 or PKCS#12
)

var (
	hmacHashes = map[string]func() hash.Hash{
		"":                    sha1.New, // left out: RFC 8018 A.2
		"1.2.840.113549.2.7":  sha1.New,
		"1.2.840.113549.2.9":  sha256.New,
		"1.2.840.113549.2.10": sha512.New384,
		"1.2.840.113549.2.11": sha512.New,
	}
	aesKeySizes = map[string]int{"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32}

	errDamagedKey = errors.New("cdfauth: Certificate: the ENCRYPTED PRIVATE KEY is damaged")
	// The one answer to a wrong passphrase, whatever it was that showed it.
	errWrongPassphrase = errors.New("cdfauth: Passphrase: does not decrypt the private key in Certificate")
)

// errEncryption names an encryption, by its object identifier or as it is.
func errEncryption(what string) error {
	switch {
	case what == oidScrypt:
		what = "scrypt"
	case what == oid3DES:
		what = "3DES"
	case strings.HasPrefix(what, oidPKCS):
		what = "PBES1 (3DES, RC2 or DES)"
	case what != procType:
		what = "something unknown"
	}
	return fmt.Errorf("cdfauth: Certificate: the private key is encrypted with %s: want PBES2 with PBKDF2 and AES-CBC, as written by %s", what, convertKey)
}

// decryptPKCS8 undoes PBES2 (RFC 8018 §6.2) with PBKDF2 and AES-CBC, which is what openssl has encrypted PKCS#8 keys (RFC 5958 §3)
// with since 1.1.0.
func decryptPKCS8(der []byte, passphrase string) ([]byte, error) {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	if !unmarshalDER(der, &info) {
		return nil, errDamagedKey
	}
	if scheme := info.Algorithm.Algorithm.String(); scheme != oidPBES2 {
		return nil, errEncryption(scheme)
	}
	var params struct{ KDF, Cipher pkix.AlgorithmIdentifier }
	if !unmarshalDER(info.Algorithm.Parameters.FullBytes, &params) {
		return nil, errDamagedKey
	}
	if kdf := params.KDF.Algorithm.String(); kdf != oidPBKDF2 {
		return nil, errEncryption(kdf)
	}
	cipherID := params.Cipher.Algorithm.String()
	keySize, ok := aesKeySizes[cipherID]
	if !ok {
		return nil, errEncryption(cipherID)
	}
	var kdf struct {
		Salt       []byte
		Iterations int
		KeyLength  int                      `asn1:"optional"`
		PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
	}
	var iv []byte
	if !unmarshalDER(params.KDF.Parameters.FullBytes, &kdf) || !unmarshalDER(params.Cipher.Parameters.FullBytes, &iv) ||
		len(kdf.Salt) > maxSalt || kdf.KeyLength != 0 && kdf.KeyLength != keySize ||
		len(iv) != aes.BlockSize || len(info.Data) == 0 || len(info.Data)%aes.BlockSize != 0 {
		return nil, errDamagedKey
	}
	prf := kdf.PRF.Algorithm.String()
	switch {
	case hmacHashes[prf] == nil:
		return nil, errEncryption(prf)
	case kdf.Iterations < 1 || kdf.Iterations > maxIterations:
		return nil, fmt.Errorf("cdfauth: Certificate: the private key asks for %d iterations of PBKDF2: want 1 to %d", kdf.Iterations, maxIterations)
	case passphrase == "":
		return nil, errors.New("cdfauth: Passphrase is missing, and the private key in Certificate is encrypted")
	}

	secret, err := pbkdf2.Key(hmacHashes[prf], passphrase, kdf.Salt, kdf.Iterations, keySize)
	if err != nil { // of such arguments it refuses only what FIPS 140 forbids (SP 800-132 §5.1)
		return nil, fmt.Errorf("cdfauth: Certificate: FIPS 140 mode refuses to decrypt the private key, which has %d bytes of salt: want 16, and not SHA-1, as written by %s", len(kdf.Salt), convertFIPS)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, errDamagedKey
	}
	plain := make([]byte, len(info.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, info.Data)

	pad := int(plain[len(plain)-1]) // RFC 8018 §6.1.1, step 4
	var outline struct {            // which one wrong passphrase in 256, with good padding, still does not give
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	if pad < 1 || pad > aes.BlockSize || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) ||
		!unmarshalDER(plain[:len(plain)-pad], &outline) {
		return nil, errWrongPassphrase
	}
	return plain[:len(plain)-pad], nil
}

func unmarshalDER(der []byte, v any) bool {
	rest, err := asn1.Unmarshal(der, v)
	return err == nil && len(rest) == 0
}

// orderChain finds the key's certificate and, link by link, the issuers of it. Certificates that are not on that path are left out.
func orderChain(certs []*x509.Certificate, public crypto.PublicKey, now time.Time) ([]*x509.Certificate, error) {
	leaf := pickCertificate(certs, now, func(c *x509.Certificate) bool {
		key, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
		return ok && key.Equal(public)
	})
	switch {
	case leaf == nil:
		return nil, errors.New("cdfauth: Certificate: no certificate in it belongs to the private key")
	case now.After(leaf.NotAfter):
		return nil, fmt.Errorf("cdfauth: Certificate: the certificate expired at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(leaf.NotBefore):
		return nil, fmt.Errorf("cdfauth: Certificate: the certificate is not valid before %s", leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	chain := []*x509.Certificate{leaf}
	for len(chain) < maxChain {
		child := chain[len(chain)-1]
		issuer := pickCertificate(certs, now, func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, child.RawIssuer) && !slices.ContainsFunc(chain, c.Equal) && // a root is its own issuer
				(len(c.SubjectKeyId) == 0 || len(child.AuthorityKeyId) == 0 || bytes.Equal(c.SubjectKeyId, child.AuthorityKeyId))
		})
		if issuer == nil {
			break
		}
		chain = append(chain, issuer)
	}
	return chain, nil
}

// pickCertificate prefers a valid certificate, and of those the one valid for longest: around a renewal, files have the old one and
// the new one.
func pickCertificate(certs []*x509.Certificate, now time.Time, match func(*x509.Certificate) bool) *x509.Certificate {
	var best *x509.Certificate
	for _, c := range certs {
		if match(c) && (best == nil || isValid(c, now) && (!isValid(best, now) || c.NotAfter.After(best.NotAfter))) {
			best = c
		}
	}
	return best
}

func isValid(c *x509.Certificate, now time.Time) bool {
	return !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}
