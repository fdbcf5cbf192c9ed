//go:build go1.24

package cdfauth

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"slices"
	"strings"
	"time"
)

// This file reads the certificates that stand beside a private key, finds the key's
// own among them, and puts the issuers behind it. What the certificates say about
// trust is for the identity provider to judge.

// maxChain limits a chain. Real ones have up to 4 certificates.
const maxChain = 10

// A certificate is one of those in Certificate.
type certificate struct {
	*x509.Certificate
	// problem says why Certificate is nil, as the end of a sentence.
	problem string
}

// readCertificate reads the block of a certificate. One that cannot be read matters
// only if it turns out to be needed.
func readCertificate(block pemBlock) certificate {
	if block.problem != "" {
		return certificate{problem: block.problem}
	}
	der := block.der
	if block.label == labelPKCS7 || labelOfDER(der) == labelPKCS7 {
		// Windows also writes it with the label CERTIFICATE.
		return certificate{problem: "is PKCS#7 (.p7b): want PEM, as written by " + convertP7B}
	}
	if block.label == labelTrustedCert {
		var first asn1.RawValue // OpenSSL puts its own remarks behind it
		if _, err := asn1.Unmarshal(der, &first); err == nil {
			der = first.FullBytes
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return certificate{problem: "is not readable: " + scrub(err.Error(), 200)}
	}
	return certificate{Certificate: parsed}
}

// hasKey reports whether the certificate is one of the public key's.
func (c certificate) hasKey(public crypto.PublicKey) bool {
	if c.Certificate == nil {
		return false
	}
	key, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(public)
}

// checkCertificates refuses certificates none of which belongs to the key. It accepts
// them if one cannot be read, since that may be the key's: chainOf says so if the key's
// is needed.
func checkCertificates(certificates []certificate, public crypto.PublicKey) error {
	for _, c := range certificates {
		if c.Certificate == nil || c.hasKey(public) {
			return nil
		}
	}
	if len(certificates) == 0 {
		return nil
	}
	return badField("Certificate", "has no certificate that belongs to the private key")
}

// chainOf returns the certificate of the key and, link by link, its issuers. Other
// certificates are left out. The chain is empty if there is no certificate of the key.
// That is an error if one is needed and there is a certificate that cannot be read.
//
// Around a renewal, files have the old certificate and the new one. A thumbprint picks
// one of them. Without a thumbprint, chainOf prefers certificates that are valid, and
// of those the one that is valid for longest. It does so for the issuers, too.
func chainOf(
	key keyPair, thumbprint []byte, needed bool, now time.Time,
) ([]*x509.Certificate, error) {
	problem := ""
	var readable []certificate
	for _, c := range key.certificates {
		if c.Certificate == nil {
			problem = c.problem
			continue
		}
		readable = append(readable, c)
	}
	slices.SortStableFunc(readable, func(a, b certificate) int {
		return validUntil(b, now).Compare(validUntil(a, now))
	})
	var own []certificate
	for _, c := range readable {
		if c.hasKey(key.public) {
			own = append(own, c)
		}
	}
	if len(own) == 0 {
		if needed && problem != "" {
			return nil, badField("Certificate", "has a certificate that %s", problem)
		}
		return nil, nil
	}
	first := own[0]
	if len(thumbprint) > 0 {
		i := slices.IndexFunc(own, func(c certificate) bool { return c.matches(thumbprint) })
		if i < 0 {
			return nil, errThumbprint(first, thumbprint)
		}
		first = own[i]
	}
	return withIssuers(first, readable), nil
}

// validUntil returns the end of the certificate's validity; the zero time if it is
// not valid now.
func validUntil(c certificate, now time.Time) time.Time {
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return time.Time{}
	}
	return c.NotAfter
}

// withIssuers returns a certificate and behind it those of its issuers that are among
// others, in the order that x5c wants (RFC 7515 §4.1.6). Of several that fit it takes
// the first.
func withIssuers(first certificate, others []certificate) []*x509.Certificate {
	chain := []*x509.Certificate{first.Certificate}
	for len(chain) < maxChain {
		last := chain[len(chain)-1]
		i := slices.IndexFunc(others, func(c certificate) bool {
			return issued(c.Certificate, last) && !slices.ContainsFunc(chain, c.Equal)
		})
		if i < 0 {
			break
		}
		chain = append(chain, others[i].Certificate)
	}
	return chain
}

// issued reports whether the parent's name, and key identifier if both have it, are
// those that the child names as its issuer's (RFC 5280 §6.1.3, §4.2.1.1). A root is
// its own issuer.
func issued(parent, child *x509.Certificate) bool {
	if !bytes.Equal(parent.RawSubject, child.RawIssuer) {
		return false
	}
	unknown := len(parent.SubjectKeyId) == 0 || len(child.AuthorityKeyId) == 0
	return unknown || bytes.Equal(parent.SubjectKeyId, child.AuthorityKeyId)
}

// checkValidity refuses a certificate that has expired or is not valid yet.
func checkValidity(c *x509.Certificate, now time.Time) error {
	switch {
	case now.After(c.NotAfter):
		return badField("Certificate", "has a certificate that expired at %s",
			c.NotAfter.UTC().Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return badField("Certificate", "has a certificate that is not valid before %s",
			c.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// thumbprintOf returns the hash of a certificate. It is nil if FIPS 140 mode refuses
// to compute SHA-1, where Sum would panic.
func thumbprintOf(c *x509.Certificate, hash crypto.Hash) []byte {
	h := hash.New()
	if _, err := h.Write(c.Raw); err != nil {
		return nil
	}
	return h.Sum(nil)
}

// hashOfThumbprint tells the hash of a thumbprint by its length.
func hashOfThumbprint(thumbprint []byte) crypto.Hash {
	if len(thumbprint) == crypto.SHA1.Size() {
		return crypto.SHA1
	}
	return crypto.SHA256
}

// matches reports whether the thumbprint is that of the certificate. It believes what
// it cannot compute: in FIPS 140 mode, every thumbprint of SHA-1.
func (c certificate) matches(thumbprint []byte) bool {
	sum := thumbprintOf(c.Certificate, hashOfThumbprint(thumbprint))
	return sum == nil || bytes.Equal(sum, thumbprint)
}

// errThumbprint refuses a thumbprint that is of none of the key's certificates. c is
// the one that is preferred.
func errThumbprint(c certificate, thumbprint []byte) error {
	sum := thumbprintOf(c.Certificate, hashOfThumbprint(thumbprint))
	return badField("Thumbprint", "is %s, and the certificate of the key in Certificate has %s:"+
		" leave Thumbprint out, or set it to that", hexOf(thumbprint), hexOf(sum))
}

// hexOf writes a thumbprint as Entra's portal shows it.
func hexOf(thumbprint []byte) string { return strings.ToUpper(hex.EncodeToString(thumbprint)) }

// thumbprintLabels are what tools print before a thumbprint, in lower case and without
// blanks.
var thumbprintLabels = []string{
	"fingerprint=",                 // openssl x509 -fingerprint
	"hash(sha1):", "hash(sha256):", // certutil
	"thumbprint:", // Format-List of PowerShell
	"thumbprint=", "sha1:", "sha256:", "0x",
}

// parseThumbprint reads a thumbprint as people paste it: with colons, blanks, hyphens,
// quotes, the invisible mark that Windows copies along with it, or what a tool prints
// before it.
func parseThumbprint(text string) ([]byte, error) {
	digits := compact(strings.ToLower(text))
	for _, label := range thumbprintLabels {
		if i := strings.LastIndex(digits, label); i >= 0 {
			digits = digits[i+len(label):]
		}
	}
	digits = strings.NewReplacer(":", "", "-", "").Replace(digits)
	thumbprint, err := hex.DecodeString(digits)
	size := len(thumbprint)
	if err == nil && (size == crypto.SHA1.Size() || size == crypto.SHA256.Size()) {
		return thumbprint, nil
	}
	found := text
	if strings.Contains(text, beginMark) { // it may be a private key
		found = "-----BEGIN…"
	}
	return nil, badField("Thumbprint", "is %.100q: want the 40 hexadecimal digits of SHA-1"+
		" or the 64 of SHA-256", found)
}
