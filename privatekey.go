//go:build go1.24

package cdfauth

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/pbkdf2"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// Certificate is PEM text (RFC 7468) with a private key, its certificate and its chain, in any order, from where others may write: hence the limits.
const (
	maxKeyText    = 256 << 10 // a key with a long chain has 20 KiB, a system's whole list of roots 220 KiB
	maxKeyDER     = 16 << 10  // an RSA key of 16,384 bits has 9 KiB
	maxSalt       = 1 << 10   // openssl writes 8 or 16 bytes
	maxIterations = 5_000_000 // openssl writes 2,048, OWASP advises up to 1,400,000; this many take seconds, and a flight has 30
	maxChain      = 10        // real ones have up to 4
	minRSABits    = 2048      // RFC 7518 §3.3 and §3.5
	convertKey    = "`openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -in old.key -out new.key`"
	convertPFX    = "`openssl pkcs12 -in old.pfx -aes256 -out new.pem`"
	convertFIPS   = "`openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -saltlen 16 -in old.key -out new.key` (OpenSSL 3.2 or newer)"
)

type keySource struct { // all that a key pair is made from: while it stays the same, there is nothing to parse
	text, passphrase string
	held             string // the public key, in DER, of the private key that a Signer holds; "" when that is in text
}

type keyPair struct { // a private key with its certificates. It lives in function values alone, never in a field of what a provider leads to.
	field  string              // of the configuration, that the private key is from
	signer crypto.Signer       // nil when a Signer holds the key
	kind   string              // "RSA", "P-256", "P-384", "P-521" or "Ed25519"
	chain  []*x509.Certificate // the key's certificate, then its issuers; empty if the text has none
}

func cachedKeys() func(keySource, time.Time) (keyPair, error) { // parses anew when the source has changed or the certificate is no longer valid
	var mu sync.Mutex
	last, lastFrom := keyPair{}, keySource{}
	return func(from keySource, now time.Time) (keyPair, error) {
		mu.Lock()
		defer mu.Unlock()
		if last.kind == "" || from != lastFrom || len(last.chain) > 0 && validUntil(last.chain[0], now).IsZero() {
			pair, err := parseKeys(from, now)
			if err != nil {
				return keyPair{}, err
			}
			last, lastFrom = pair, from
		}
		return last, nil
	}
}

func parseKeys(from keySource, now time.Time) (pair keyPair, err error) {
	var keys []*pem.Block
	var certs []*x509.Certificate
	text, held := from.text[:min(len(from.text), maxKeyText)], from.held != ""
	seen := []byte(strings.ReplaceAll(text, "\ufeff", "")) // editors on Windows write a byte order mark, which would hide the first block
	for block, rest := pem.Decode(seen); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			cert, _ := x509.ParseCertificate(block.Bytes)
			certs = append(certs, cmp.Or(cert, new(x509.Certificate))) // a damaged one matters only if it was the key's: then none matches
		case "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
			keys = append(keys, block)
		}
	}
	err = refuse("cdfauth: Certificate: ", []refusal{
		{text != from.text, fmt.Sprintf("has more than %d KiB: want a private key, its certificate and the chain", maxKeyText>>10)},
		{held && len(keys) > 0, "has a private key although Signer is set: want one of them"},
		{held && text != "" && len(certs) == 0, "has no PEM block CERTIFICATE, and Signer has the key: want one, or leave Certificate out"},
		{len(keys) > 1, fmt.Sprintf("has %d private keys: want exactly one", len(keys))}, // guessing would sign with one that nobody chose
		{!held && len(keys) == 0, "has no private key: want a PEM block PRIVATE KEY, ENCRYPTED PRIVATE KEY, RSA PRIVATE KEY or EC PRIVATE KEY, or else Signer; PKCS#12 " +
			"(.pfx, .p12) is not supported: convert it to PEM with " + convertPFX},
	})
	var public crypto.PublicKey // nil if there is none that can be read, which keyKind refuses
	switch pair.field = "Certificate"; {
	case err != nil:
	case held:
		pair.field = "Signer"
		public, _ = x509.ParsePKIXPublicKey([]byte(from.held))
	default:
		pair.signer, public, err = parsePrivateKey(keys[0], from.passphrase)
	}
	if err == nil {
		pair.kind, err = keyKind(pair.field, public)
	}
	if err == nil && len(certs) > 0 {
		pair.chain, err = orderChain(certs, public, now)
	}
	return pair, err
}

func keyKind(field string, public crypto.PublicKey) (string, error) { // names the kind of key as the table of algorithms does
	switch public := public.(type) {
	case *rsa.PublicKey:
		small := fmt.Sprintf("%s: the RSA key has %d bits: want at least %d (RFC 7518 §3.3)", field, public.N.BitLen(), minRSABits)
		return "RSA", refuse("cdfauth: ", []refusal{{public.N.BitLen() < minRSABits, small}})
	case *ecdsa.PublicKey:
		if curve := public.Params().Name; slices.Contains([]string{"P-256", "P-384", "P-521"}, curve) { // crypto/x509 reads P-224 too
			return curve, nil
		}
	case ed25519.PublicKey:
		return "Ed25519", nil
	}
	return "", fmt.Errorf("cdfauth: %s: the key is damaged or of no usable kind: want RSA (%d bits or more), ECDSA on P-256, P-384 or P-521, or Ed25519",
		field, minRSABits)
}

// parsePrivateKey returns nil for a key that is damaged or of no usable kind. It keeps the parsers' errors to itself: they quote what they read.
func parsePrivateKey(block *pem.Block, passphrase string) (crypto.Signer, crypto.PublicKey, error) {
	der, err := block.Bytes, error(nil)
	switch {
	case len(der) > maxKeyDER:
		return nil, nil, nil
	case strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
		return nil, nil, errEncryption(procType)
	case block.Type == "ENCRYPTED PRIVATE KEY":
		if der, err = decryptPKCS8(der, passphrase); err != nil {
			return nil, nil, err
		}
	}
	key, err := x509.ParsePKCS8PrivateKey(der) // RFC 5958; the label does not decide: some tools write one format under that of another
	if err != nil {
		key, err = x509.ParsePKCS1PrivateKey(der) // RFC 8017 A.1.2
	}
	if err != nil {
		key, err = x509.ParseECPrivateKey(der) // RFC 5915, also called SEC 1
	}
	if signer, ok := key.(crypto.Signer); ok && err == nil {
		return signer, signer.Public(), nil
	}
	return nil, nil, nil
}

const procType = "Proc-Type: 4,ENCRYPTED" // RFC 1421 §4.6.1.1, with one round of MD5

var (
	oidPBES2, oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12} // RFC 8018 appendix C
	hmacHashes          = map[string]crypto.Hash{"": crypto.SHA1 /* left out: RFC 8018 A.2 */, "1.2.840.113549.2.7": crypto.SHA1,
		"1.2.840.113549.2.9": crypto.SHA256, "1.2.840.113549.2.10": crypto.SHA384, "1.2.840.113549.2.11": crypto.SHA512}
	aesKeySizes        = map[string]int{"2.16.840.1.101.3.4.1.2": 16, "2.16.840.1.101.3.4.1.22": 24, "2.16.840.1.101.3.4.1.42": 32}
	errDamagedKey      = errors.New("cdfauth: Certificate: the ENCRYPTED PRIVATE KEY is damaged")
	errWrongPassphrase = errors.New("cdfauth: Passphrase: does not decrypt the private key in Certificate") // whatever it was that showed it
)

func errEncryption(what string) error { // names an encryption, by its object identifier or as it is, and what to do about it
	name := cmp.Or(map[string]string{procType: procType, "1.3.6.1.4.1.11591.4.11": "scrypt" /* RFC 7914 §7 */, "1.2.840.113549.3.7": "3DES"}[what], "something unknown")
	if strings.HasPrefix(what, "1.2.840.113549.1.") { // below it, with numbers of PKCS#5 or PKCS#12
		name = "PBES1 (3DES, RC2 or DES)"
	}
	return fmt.Errorf("cdfauth: Certificate: the private key is encrypted with %s: want PBES2 with PBKDF2 and AES-CBC, as written by "+convertKey, name)
}

// decryptPKCS8 undoes PBES2 (RFC 8018 §6.2) with PBKDF2 and AES-CBC, which is what openssl has encrypted PKCS#8 keys (RFC 5958 §3) with since 1.1.0.
func decryptPKCS8(der []byte, passphrase string) ([]byte, error) {
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
	var iv []byte
	switch { // each case has read what the next ones judge
	case !unmarshalDER(der, &info), info.Algorithm.Algorithm.Equal(oidPBES2) && !unmarshalDER(info.Algorithm.Parameters.FullBytes, &params):
		return nil, errDamagedKey
	case !info.Algorithm.Algorithm.Equal(oidPBES2):
		return nil, errEncryption(info.Algorithm.Algorithm.String())
	case !params.KDF.Algorithm.Equal(oidPBKDF2):
		return nil, errEncryption(params.KDF.Algorithm.String())
	case aesKeySizes[params.Cipher.Algorithm.String()] == 0:
		return nil, errEncryption(params.Cipher.Algorithm.String())
	case !unmarshalDER(params.KDF.Parameters.FullBytes, &kdf) || !unmarshalDER(params.Cipher.Parameters.FullBytes, &iv) || len(kdf.Salt) > maxSalt,
		kdf.KeyLength != 0 && kdf.KeyLength != aesKeySizes[params.Cipher.Algorithm.String()],
		len(iv) != aes.BlockSize || len(info.Data) == 0 || len(info.Data)%aes.BlockSize != 0:
		return nil, errDamagedKey
	case hmacHashes[kdf.PRF.Algorithm.String()] == 0:
		return nil, errEncryption(kdf.PRF.Algorithm.String())
	case kdf.Iterations < 1 || kdf.Iterations > maxIterations:
		return nil, fmt.Errorf("cdfauth: Certificate: the private key asks for %d iterations of PBKDF2: want 1 to %d", kdf.Iterations, maxIterations)
	case passphrase == "":
		return nil, errors.New("cdfauth: Passphrase is missing, and the private key in Certificate is encrypted")
	}
	prf, size := hmacHashes[kdf.PRF.Algorithm.String()], aesKeySizes[params.Cipher.Algorithm.String()]
	secret, err := pbkdf2.Key(prf.New, passphrase, kdf.Salt, kdf.Iterations, size)
	if err != nil { // of such arguments it refuses only what FIPS 140 forbids (SP 800-132 §5.1)
		return nil, fmt.Errorf("cdfauth: Certificate: FIPS 140 mode refuses to decrypt the private key, which has %d bytes of salt: want 16, and not SHA-1, as written by %s", len(kdf.Salt), convertFIPS)
	}
	block, _ := aes.NewCipher(secret) // of a good size
	plain := make([]byte, len(info.Data))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, info.Data)
	pad := int(plain[len(plain)-1]) // RFC 8018 §6.1.1, step 4
	var outline []asn1.RawValue     // of a key (RFC 5958 §2), which one wrong passphrase in 256, with good padding, still does not give
	if pad < 1 || pad > aes.BlockSize || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) ||
		!unmarshalDER(plain[:len(plain)-pad], &outline) || len(outline) < 3 {
		return nil, errWrongPassphrase
	}
	return plain[:len(plain)-pad], nil
}

// orderChain finds the key's certificate and, link by link, the issuers of it. Certificates that are not on that path are left out. Around a renewal, files have
// the old one and the new one: a valid one is preferred, and of those the one valid for longest.
func orderChain(certs []*x509.Certificate, public crypto.PublicKey, now time.Time) (chain []*x509.Certificate, err error) {
	slices.SortStableFunc(certs, func(a, b *x509.Certificate) int { return validUntil(b, now).Compare(validUntil(a, now)) })
	isNext := func(c *x509.Certificate) bool {
		if len(chain) == 0 {
			key, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
			return ok && key.Equal(public)
		}
		child := chain[len(chain)-1]
		return bytes.Equal(c.RawSubject, child.RawIssuer) && !slices.ContainsFunc(chain, c.Equal) && // a root is its own issuer
			(len(c.SubjectKeyId) == 0 || len(child.AuthorityKeyId) == 0 || bytes.Equal(c.SubjectKeyId, child.AuthorityKeyId))
	}
	for i := slices.IndexFunc(certs, isNext); i >= 0 && len(chain) < maxChain; i = slices.IndexFunc(certs, isNext) {
		chain = append(chain, certs[i])
	}
	switch {
	case len(chain) == 0:
		return nil, errors.New("cdfauth: Certificate: no certificate in it belongs to the private key")
	case now.After(chain[0].NotAfter):
		return nil, fmt.Errorf("cdfauth: Certificate: the certificate expired at %s", chain[0].NotAfter.UTC().Format(time.RFC3339))
	case now.Before(chain[0].NotBefore):
		return nil, fmt.Errorf("cdfauth: Certificate: the certificate is not valid before %s", chain[0].NotBefore.UTC().Format(time.RFC3339))
	}
	return chain, nil
}

func validUntil(c *x509.Certificate, now time.Time) time.Time { // zero if it is not valid now
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return time.Time{}
	}
	return c.NotAfter
}
