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
)

func segment(v any) string { // encodes a part of a JWT; what they are made of always encodes
	b, _ := json.Marshal(v)
	return base64.RawURLEncoding.EncodeToString(b)
}

type algorithm struct { // a JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1)
	name, kind string      // kind of key
	hash       crypto.Hash // 0: the message itself is signed
	pss        bool
	size       int // of a number in an ECDSA signature, in bytes
}

var algorithms = []algorithm{ // the first of a kind is its default
	{}, {"RS256", "RSA", crypto.SHA256, false, 0}, {"RS384", "RSA", crypto.SHA384, false, 0}, {"RS512", "RSA", crypto.SHA512, false, 0},
	{"PS256", "RSA", crypto.SHA256, true, 0}, {"PS384", "RSA", crypto.SHA384, true, 0}, {"PS512", "RSA", crypto.SHA512, true, 0},
	{"ES256", "P-256", crypto.SHA256, false, 32}, {"ES384", "P-384", crypto.SHA384, false, 48}, {"ES512", "P-521", crypto.SHA512, false, 66},
	{"EdDSA", "Ed25519", 0, false, 0},
}

func (a algorithm) sign(ctx context.Context, field string, signer crypto.Signer, input string) ([]byte, error) { // signs a JWS signing input. It is guarded: an HSM may hang.
	digest, opts := []byte(input), crypto.SignerOpts(a.hash)
	if a.hash != 0 {
		h := a.hash.New()
		h.Write(digest)
		digest = h.Sum(nil)
	}
	if a.pss { // RFC 7518 §3.5: the salt is as long as the hash
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: a.hash}
	}
	signature, err := guard(ctx, field, func(context.Context) ([]byte, error) { return signer.Sign(rand.Reader, digest, opts) })
	if err != nil || a.size == 0 {
		return signature, err
	}
	var rs struct{ R, S *big.Int } // RFC 7518 §3.4: not in ASN.1 but side by side
	if !unmarshalDER(signature, &rs) || rs.R.Sign() < 0 || rs.S.Sign() < 0 || rs.R.BitLen() > 8*a.size || rs.S.BitLen() > 8*a.size {
		return nil, fmt.Errorf("cdfauth: %s: the signature is not ECDSA's in ASN.1, which a crypto.Signer makes", field)
	}
	return append(rs.R.FillBytes(make([]byte, a.size)), rs.S.FillBytes(make([]byte, a.size))...), nil
}

func unmarshalDER(der []byte, v any) bool {
	rest, err := asn1.Unmarshal(der, v)
	return err == nil && len(rest) == 0
}
