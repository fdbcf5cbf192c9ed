//go:build go1.24

package cdfauth

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/fips140"
	"crypto/pbkdf2"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
)

// This file decrypts private keys: PKCS#8 (RFC 5958 §3) with PBES2 (RFC 8018 §6.2), by
// PBKDF2 and by AES or triple DES in CBC mode. Since 1.1.0, OpenSSL encrypts in no other
// way unless it is told to; the req command of 3.0 is what uses triple DES. A key that
// is encrypted in another way is refused, with the name of that way and the command
// that converts the key.

const (
	// maxSalt limits a salt, in bytes. OpenSSL writes 8 or 16.
	maxSalt = 1 << 10
	// maxIterations limits the work of PBKDF2. OpenSSL writes 2,048, OWASP advises
	// up to 1,400,000. This many take seconds, and a flight has 30.
	maxIterations = 5_000_000
)

// The commands that encrypt a private key in the way that this package reads. A test
// runs each.
const (
	convertKey = "`openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256" +
		" -in old.key -out new.key`"
	// convertLegacyKey is for ciphers that OpenSSL 3 keeps in a module of its own.
	convertLegacyKey = "`openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256" +
		" -provider legacy -provider default -in old.key -out new.key`"
	// convertFIPSKey is for FIPS 140 mode, which wants 16 bytes of salt.
	convertFIPSKey = "`openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256" +
		" -saltlen 16 -in old.key -out new.key` (OpenSSL 3.2 or newer)"
)

var (
	// errDamagedEncryption is for what is not as RFC 5958 and RFC 8018 have it.
	errDamagedEncryption = badField("Certificate",
		"has an ENCRYPTED PRIVATE KEY that is damaged")
	// errWrongPassphrase does not say how the passphrase turned out to be wrong, so
	// that somebody who tries passphrases learns nothing else.
	errWrongPassphrase = badField("Passphrase",
		"does not decrypt the private key in Certificate")
)

// An encryptedKey is EncryptedPrivateKeyInfo (RFC 5958 §3).
type encryptedKey struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

// pbes2Params is PBES2-params (RFC 8018 appendix A.4).
type pbes2Params struct {
	KDF    pkix.AlgorithmIdentifier
	Cipher pkix.AlgorithmIdentifier
}

// pbkdf2Params is PBKDF2-params (RFC 8018 appendix A.2).
type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	KeyLength  int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

// Object identifiers of RFC 8018 appendix C.
var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
)

// A cbcCipher is a block cipher that PBES2 uses in CBC mode. Sizes are in bytes.
type cbcCipher struct {
	keySize   int
	blockSize int
	new       func(key []byte) (cipher.Block, error)
	approved  bool // by FIPS 140
}

// cipherOf returns the cipher of an encryption scheme (RFC 8018 appendix B.2). ok is
// false for schemes that are not read.
func cipherOf(scheme asn1.ObjectIdentifier) (c cbcCipher, ok bool) {
	switch scheme.String() {
	case "2.16.840.1.101.3.4.1.2": // aes128-CBC-PAD
		return cbcCipher{16, aes.BlockSize, aes.NewCipher, true}, true
	case "2.16.840.1.101.3.4.1.22": // aes192-CBC-PAD
		return cbcCipher{24, aes.BlockSize, aes.NewCipher, true}, true
	case "2.16.840.1.101.3.4.1.42": // aes256-CBC-PAD
		return cbcCipher{32, aes.BlockSize, aes.NewCipher, true}, true
	case "1.2.840.113549.3.7": // des-EDE3-CBC
		return cbcCipher{24, des.BlockSize, des.NewTripleDESCipher, false}, true
	}
	return cbcCipher{}, false
}

// hashOf returns the hash of PBKDF2's HMAC (RFC 8018 appendix B.1.2). It is SHA-1 if
// none is named (appendix A.2), and 0 for one that is not read.
func hashOf(prf asn1.ObjectIdentifier) crypto.Hash {
	switch prf.String() {
	case "", "1.2.840.113549.2.7":
		return crypto.SHA1
	case "1.2.840.113549.2.9":
		return crypto.SHA256
	case "1.2.840.113549.2.10":
		return crypto.SHA384
	case "1.2.840.113549.2.11":
		return crypto.SHA512
	}
	return 0
}

// decryptPKCS8 returns the PKCS#8 key that is encrypted in der.
func decryptPKCS8(der []byte, passphrase string) ([]byte, error) {
	key, err := readPBES2(der)
	if err != nil {
		return nil, err
	}
	if passphrase == "" {
		return nil, badField("Passphrase",
			"is missing, and the private key in Certificate is encrypted")
	}
	if !key.cbc.approved && fips140.Enabled() {
		return nil, badField("Certificate", "has a private key that is encrypted with 3DES,"+
			" which FIPS 140 mode does not allow: want AES, as written by %s", convertFIPSKey)
	}
	secret, err := key.kdf.derive(passphrase, key.cbc.keySize)
	if err != nil {
		return nil, err
	}
	block, err := key.cbc.new(secret)
	if err != nil { // cannot be: secret has the size that the cipher wants
		return nil, errDamagedEncryption
	}
	plain := make([]byte, len(key.data))
	cipher.NewCBCDecrypter(block, key.iv).CryptBlocks(plain, key.data)
	return unpad(plain, key.cbc.blockSize)
}

// A pbes2Key is a key that is encrypted with PBES2, taken apart.
type pbes2Key struct {
	kdf  pbkdf2Params
	cbc  cbcCipher
	iv   []byte // a block
	data []byte // one or more blocks
}

// readPBES2 takes an encrypted key apart. It refuses one that is damaged, that is
// encrypted in another way, or that would take too much work.
func readPBES2(der []byte) (key pbes2Key, err error) {
	var outer encryptedKey
	if !unmarshalDER(der, &outer) {
		return key, errDamagedEncryption
	}
	if !outer.Algorithm.Algorithm.Equal(oidPBES2) {
		return key, errEncryption(outer.Algorithm.Algorithm)
	}
	var params pbes2Params
	if !unmarshalDER(outer.Algorithm.Parameters.FullBytes, &params) {
		return key, errDamagedEncryption
	}
	if !params.KDF.Algorithm.Equal(oidPBKDF2) {
		return key, errEncryption(params.KDF.Algorithm)
	}
	known := false
	key.cbc, known = cipherOf(params.Cipher.Algorithm)
	if !known {
		return key, errEncryption(params.Cipher.Algorithm)
	}
	key.kdf, err = readPBKDF2(params.KDF.Parameters, key.cbc.keySize)
	if err != nil {
		return key, err
	}
	if !unmarshalDER(params.Cipher.Parameters.FullBytes, &key.iv) ||
		len(key.iv) != key.cbc.blockSize {
		return key, errDamagedEncryption
	}
	key.data = outer.Data
	if len(key.data) == 0 || len(key.data)%key.cbc.blockSize != 0 {
		return key, errDamagedEncryption
	}
	return key, nil
}

// readPBKDF2 returns the parameters of PBKDF2, which is to make a key of keySize bytes.
// It refuses those that are damaged, that have an unknown hash, or that would take too
// much work.
func readPBKDF2(raw asn1.RawValue, keySize int) (kdf pbkdf2Params, err error) {
	switch {
	case !unmarshalDER(raw.FullBytes, &kdf):
		return kdf, errDamagedEncryption
	case len(kdf.Salt) > maxSalt || kdf.KeyLength != 0 && kdf.KeyLength != keySize:
		return kdf, errDamagedEncryption
	case hashOf(kdf.PRF.Algorithm) == 0:
		return kdf, errEncryption(kdf.PRF.Algorithm)
	case kdf.Iterations < 1 || kdf.Iterations > maxIterations:
		return kdf, badField("Certificate", "has a private key that asks for %d iterations"+
			" of PBKDF2: want 1 to %d", kdf.Iterations, maxIterations)
	}
	return kdf, nil
}

// derive returns the key of size bytes that PBKDF2 makes of a passphrase (RFC 8018
// §5.2).
func (kdf pbkdf2Params) derive(passphrase string, size int) ([]byte, error) {
	hash := hashOf(kdf.PRF.Algorithm)
	secret, err := pbkdf2.Key(hash.New, passphrase, kdf.Salt, kdf.Iterations, size)
	if err != nil { // only in FIPS 140 mode (SP 800-132 §5.1)
		return nil, badField("Certificate", "has a private key that FIPS 140 mode refuses to"+
			" decrypt: it has %d bytes of salt and %v, and 16 are wanted, and not SHA-1, as written by %s",
			len(kdf.Salt), hash, convertFIPSKey)
	}
	return secret, nil
}

// unpad returns what was encrypted without its padding (RFC 8018 §6.1.1, step 4).
// One wrong passphrase in 256 gives good padding, but not also the outline of a key:
// a sequence of at least a version, an algorithm and a key (RFC 5958 §2).
func unpad(plain []byte, blockSize int) ([]byte, error) {
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > blockSize {
		return nil, errWrongPassphrase
	}
	key, tail := plain[:len(plain)-padding], plain[len(plain)-padding:]
	if !bytes.Equal(tail, bytes.Repeat([]byte{byte(padding)}, padding)) {
		return nil, errWrongPassphrase
	}
	var outline []asn1.RawValue
	if !unmarshalDER(key, &outline) || len(outline) < 3 {
		return nil, errWrongPassphrase
	}
	return key, nil
}

// errEncryption says that a key is encrypted in a way that is not read.
func errEncryption(id asn1.ObjectIdentifier) error {
	name := id.String()
	convert := convertKey
	switch {
	case name == "1.3.6.1.4.1.11591.4.11": // RFC 7914 §7
		name = "scrypt"
	case name == "1.2.840.113549.1.12.1.3" || name == "1.2.840.113549.1.12.1.4":
		name = "PBES1 (3DES)" // RFC 7292 appendix C
	case strings.HasPrefix(name, "1.2.840.113549.1.5.") ||
		strings.HasPrefix(name, "1.2.840.113549.1.12.1."):
		name = "PBES1 (DES, RC2 or RC4)" // RFC 8018 appendix A.3
		convert = convertLegacyKey
	case name == "1.2.840.113549.3.2" || name == "1.3.14.3.2.7": // RFC 8018 appendix B.2
		name = "DES or RC2"
		convert = convertLegacyKey
	}
	return errEncryptedWith(name, convert)
}

// errEncryptedRFC1421 refuses a key that is encrypted as RFC 1421 §4.6.1.1 describes,
// with a key that comes from one round of MD5. body is all of the block. The cipher
// stands behind DEK-Info; what follows is base64, in which RC2 may stand by chance.
func errEncryptedRFC1421(body string) error {
	_, info, _ := strings.Cut(body, "DEK-Info:")
	info = strings.TrimSpace(info)
	convert := convertKey
	if strings.HasPrefix(info, "DES-CBC") || strings.HasPrefix(info, "RC2") {
		convert = convertLegacyKey
	}
	return errEncryptedWith("Proc-Type: 4,ENCRYPTED", convert)
}

// errEncryptedWith refuses a key that is encrypted in the way of that name.
func errEncryptedWith(name, convert string) error {
	return badField("Certificate", "has a private key that is encrypted with %.60s:"+
		" want PBES2 with PBKDF2 and AES-CBC, as written by %s", name, convert)
}
