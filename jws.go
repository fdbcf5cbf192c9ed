//go:build go1.24

package cdfauth

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
)

// This file signs: it makes a JSON Web Signature in compact form (RFC 7515 §7.1)
// of a header and of claims. It knows the algorithms of RFC 7518 §3.1 and RFC 8037
// that use a private key, and nothing of who reads the result. It reads no JWS.

// A jwsHeader is the protected header of a signature (RFC 7515 §4).
type jwsHeader struct {
	Algorithm      string   `json:"alg"`                // §4.1.1
	Type           string   `json:"typ"`                // §4.1.9
	KeyID          string   `json:"kid,omitempty"`      // §4.1.4
	ThumbprintSHA1 string   `json:"x5t,omitempty"`      // §4.1.7, in base64url
	Thumbprint     string   `json:"x5t#S256,omitempty"` // §4.1.8, in base64url
	Chain          [][]byte `json:"x5c,omitempty"`      // §4.1.6, which json writes in base64
}

// setThumbprint sets x5t to a thumbprint of SHA-1, or x5t#S256 to one of SHA-256. It
// tells them apart by their length, and does nothing for none.
func (h *jwsHeader) setThumbprint(sum []byte) {
	switch len(sum) {
	case crypto.SHA1.Size():
		h.ThumbprintSHA1 = base64.RawURLEncoding.EncodeToString(sum)
	case crypto.SHA256.Size():
		h.Thumbprint = base64.RawURLEncoding.EncodeToString(sum)
	}
}

// An algorithm is a signature algorithm of JWS.
type algorithm struct {
	// name is its alg (RFC 7518 §3.1, RFC 8037 §3.1).
	name string
	// kind is the kind of key that it is for, as keyKind names it.
	kind string
	// hash is what is signed instead of the message. Ed25519 signs the message
	// itself and has 0.
	hash crypto.Hash
	// pss says that RSA pads as RSASSA-PSS does, not as PKCS #1 v1.5.
	pss bool
	// numberSize is the size in bytes of each of the two numbers of an ECDSA
	// signature; 0 for others.
	numberSize int
}

// algorithms has the default of each kind of key before its others.
var algorithms = []algorithm{
	{name: "RS256", kind: "RSA", hash: crypto.SHA256},
	{name: "RS384", kind: "RSA", hash: crypto.SHA384},
	{name: "RS512", kind: "RSA", hash: crypto.SHA512},
	{name: "PS256", kind: "RSA", hash: crypto.SHA256, pss: true},
	{name: "PS384", kind: "RSA", hash: crypto.SHA384, pss: true},
	{name: "PS512", kind: "RSA", hash: crypto.SHA512, pss: true},
	{name: "ES256", kind: "P-256", hash: crypto.SHA256, numberSize: 32},
	{name: "ES384", kind: "P-384", hash: crypto.SHA384, numberSize: 48},
	{name: "ES512", kind: "P-521", hash: crypto.SHA512, numberSize: 66},
	{name: "EdDSA", kind: "Ed25519"},
}

// algorithmNames lists the names of all algorithms, for errors.
func algorithmNames() string {
	var names []string
	for _, a := range algorithms {
		names = append(names, a.name)
	}
	return strings.Join(names, ", ")
}

// algorithmNamed returns the algorithm with that name. ok is false if there is none.
func algorithmNamed(name string) (found algorithm, ok bool) {
	for _, a := range algorithms {
		if a.name == name {
			return a, true
		}
	}
	return algorithm{}, false
}

// defaultAlgorithm returns the algorithm that everybody knows who verifies signatures
// of such a key. kind comes from keyKind.
func defaultAlgorithm(kind string) algorithm {
	for _, a := range algorithms {
		if a.kind == kind {
			return a
		}
	}
	return algorithm{}
}

// sign returns the JWS of header, which names the algorithm a, and of claims. An
// error names field, the field of the configuration that the signer is from.
func (a algorithm) sign(
	ctx context.Context, field string, signer crypto.Signer, header jwsHeader, claims any,
) (string, error) {
	input := segment(header) + "." + segment(claims) // RFC 7515 §5.1
	signature, err := a.signInput(ctx, field, signer, input)
	if err != nil {
		return "", err
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// segment returns v as JSON in base64url without padding (RFC 7515 §2). Headers and
// claims consist of strings, numbers and bytes, which json always encodes.
func segment(v any) string {
	text, _ := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(text)
}

// signInput returns the signature of a JWS signing input. The signer may be a
// device that hangs or fails, so it is guarded.
func (a algorithm) signInput(
	ctx context.Context, field string, signer crypto.Signer, input string,
) ([]byte, error) {
	digest := []byte(input) // what Ed25519 signs (RFC 8037 §3.1)
	if a.hash != 0 {
		h := a.hash.New()
		h.Write([]byte(input))
		digest = h.Sum(nil)
	}
	var opts crypto.SignerOpts = a.hash
	if a.pss { // RFC 7518 §3.5: the salt is as long as the hash
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash}
	}
	signature, err := guard(ctx, field, func(context.Context) ([]byte, error) {
		return signer.Sign(rand.Reader, digest, opts)
	})
	if err != nil || a.numberSize == 0 {
		return signature, err
	}
	return rawSignature(signature, a.numberSize, field)
}

// rawSignature turns an ECDSA signature from ASN.1, which is how a crypto.Signer
// makes it, into both numbers side by side, each of size bytes (RFC 7518 §3.4).
func rawSignature(der []byte, size int, field string) ([]byte, error) {
	var numbers struct{ R, S *big.Int }
	if !unmarshalDER(der, &numbers) || !fits(numbers.R, size) || !fits(numbers.S, size) {
		return nil, fmt.Errorf("cdfauth: %s: the signature is not ECDSA's in ASN.1,"+
			" which a crypto.Signer makes", field)
	}
	raw := make([]byte, 2*size)
	numbers.R.FillBytes(raw[:size])
	numbers.S.FillBytes(raw[size:])
	return raw, nil
}

// fits reports whether n can be written in size bytes.
func fits(n *big.Int, size int) bool {
	return n.Sign() >= 0 && n.BitLen() <= 8*size
}

// unmarshalDER reads v from der, and reports whether that went well and nothing was
// left over.
func unmarshalDER(der []byte, v any) bool {
	rest, err := asn1.Unmarshal(der, v)
	return err == nil && len(rest) == 0
}
