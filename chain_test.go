//go:build go1.24

package cdfauth

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestChainIsOrderedFromTheKeysCertificate: x5c begins with the key's certificate, and each
// certificate in it is followed by its issuer (RFC 7515 §4.1.6). Files have certificates in
// any order, twice, or of other keys.
func TestChainIsOrderedFromTheKeysCertificate(t *testing.T) {
	var keys [6]ed25519.PrivateKey
	for i := range keys {
		keys[i] = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i)}, 32))
	}
	ca := func(c *x509.Certificate) { c.IsCA = true }
	root := issueCert(t, "root", keys[0], nil, nil, ca)
	inter := issueCert(t, "inter", keys[1], root, keys[0], ca)
	leaf := issueCert(t, "leaf", keys[2], inter, keys[1], nil)
	sameName := issueCert(t, "inter", keys[3], root, keys[0], ca)
	expired := issueCert(t, "inter", keys[1], root, keys[0], func(c *x509.Certificate) {
		c.IsCA = true
		c.NotAfter = testNow.Add(-time.Hour)
	})
	// It and inter are issuers of each other.
	crossed := issueCert(t, "root", keys[0], inter, keys[1], ca)
	stranger := issueCert(t, "stranger", keys[4], nil, nil, nil)

	for _, tt := range []struct {
		name  string
		certs []*x509.Certificate
		want  []*x509.Certificate
	}{
		{"in order", []*x509.Certificate{leaf, inter, root}, []*x509.Certificate{leaf, inter, root}},
		{"out of order", []*x509.Certificate{root, stranger, inter, leaf},
			[]*x509.Certificate{leaf, inter, root}},
		{"twice", []*x509.Certificate{root, leaf, inter, root, leaf, inter},
			[]*x509.Certificate{leaf, inter, root}},
		{"two issuers of one name", []*x509.Certificate{sameName, inter, leaf},
			[]*x509.Certificate{leaf, inter}},
		{"an expired issuer", []*x509.Certificate{expired, inter, leaf},
			[]*x509.Certificate{leaf, inter}},
		{"a gap", []*x509.Certificate{root, leaf}, []*x509.Certificate{leaf}},
		{"a cycle", []*x509.Certificate{crossed, inter, leaf}, []*x509.Certificate{leaf, inter, crossed}},
	} {
		pair, err := parseText(pemOf(tt.certs...)+pemOfKey(t, keys[2]), "")
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		var got, want []string
		for _, c := range pair.chain {
			got = append(got, fmt.Sprintf("%s %x", c.Subject, sha256.Sum256(c.Raw)))
		}
		for _, c := range tt.want {
			want = append(want, fmt.Sprintf("%s %x", c.Subject, sha256.Sum256(c.Raw)))
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, d)
		}
	}

	// A text with a longer chain has a limit.
	key, long := keys[2], ""
	parent, parentKey := root, keys[0]
	for i := range 15 {
		next := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(100 + i)}, 32))
		parent, parentKey = issueCert(t, strconv.Itoa(i), next, parent, parentKey, ca), next
		long += pemOf(parent)
	}
	pair, err := parseText(
		long+pemOf(issueCert(t, "leaf", key, parent, parentKey, nil))+pemOfKey(t, key), "")
	if err != nil || len(pair.chain) != 10 {
		t.Errorf("chain of 16: %v, %d certificates, want 10", err, len(pair.chain))
	}
}

// TestCertificateValidForLongestIsPreferred: a file may hold the old and the new certificate
// of one key. Of those that are valid, the one that is valid for longest is used.
func TestCertificateValidForLongestIsPreferred(t *testing.T) {
	key := parseTestKey(t, "p256-pkcs8.pem")
	at := func(from, to time.Duration) *x509.Certificate {
		return issueCert(t, "leaf", key, nil, nil, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = testNow.Add(from), testNow.Add(to)
		})
	}
	past, present, longer, future := at(-3*time.Hour, -time.Hour), at(-2*time.Hour, time.Hour),
		at(-time.Hour, 2*time.Hour), at(time.Hour, 9*time.Hour)
	for i, certs := range [][]*x509.Certificate{{past, longer}, {longer, past}, {present, longer},
		{longer, present}, {future, longer}, {longer, future}, {past, present, longer, future}} {
		pair, err := parseText(pemOfKey(t, key)+pemOf(certs...), "")
		if err != nil || !pair.chain[0].Equal(longer) {
			t.Errorf("%d: %v, or not the one that is valid for longest", i, err)
		}
	}
	for cert, want := range map[*x509.Certificate]string{past: "expired at 2026-11-20T11:00:00Z",
		future: "not valid before 2026-11-20T13:00:00Z"} {
		pair, err := parseText(pemOfKey(t, key)+pemOf(cert), "")
		if err != nil {
			t.Fatal(err)
		}
		err = checkValidity(pair.chain[0], testNow)
		if err == nil ||
			err.Error() != "cdfauth: Certificate has a certificate that "+
				strings.Replace(want, "not", "is not", 1) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestThumbprintIsReadAsItIsPasted: people paste thumbprints from OpenSSL, PowerShell and the
// windows of Windows. Each form that can be read in one way only is read. For anything else
// the error shows the text, unless it may be a key.
func TestThumbprintIsReadAsItIsPasted(t *testing.T) {
	const sha1, sha256 = "00ffabcdef0123456789abcdef0123456789abcd",
		"fe0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
	colons := func(digits string) string {
		var pairs []string
		for i := 0; i < len(digits); i += 2 {
			pairs = append(pairs, digits[i:i+2])
		}
		return strings.ToUpper(strings.Join(pairs, ":"))
	}
	for _, digits := range []string{sha1, sha256} {
		for _, text := range []string{
			digits,
			strings.ToUpper(digits),
			colons(digits),
			strings.ReplaceAll(colons(digits), ":", " "),
			strings.ReplaceAll(colons(digits), ":", "-"),
			strings.ReplaceAll(colons(digits), ":", "\u00a0"),
			// From the certificate window of Windows.
			"\u200e" + strings.ReplaceAll(colons(digits), ":", " "),
			"\ufeff" + digits + "\r\n",
			`"` + digits + `"`,
			"  " + digits + "\n",
			"SHA1 Fingerprint=" + colons(digits),
			"sha256 Fingerprint=" + colons(digits) + "\n",
			"SHA1:" + digits,
			"SHA256: " + digits,
			"Thumbprint: " + digits,
			"Thumbprint : " + digits, // from Format-List of PowerShell
			"Thumbprint=" + digits,
			"'" + digits + "'",
			"Cert Hash(sha1): " + digits,
			"Cert Hash(sha256): " + digits,
			"0x" + digits,
		} {
			got, err := parseThumbprint(text)
			if err != nil || fmt.Sprintf("%x", got) != digits {
				t.Errorf("%q: %x, %v", text, got, err)
			}
		}
	}
	for text, want := range map[string]string{
		":":                    `Thumbprint is ":": want the 40 hexadecimal digits of SHA-1 or the 64 of SHA-256`,
		sha1[1:]:               `Thumbprint is "0ffabcdef0123456789abcdef0123456789abcd": want`,
		sha1[2:]:               `Thumbprint is "ffabcdef0123456789abcdef0123456789abcd": want`,
		sha1 + sha1:            `Thumbprint is "00ff`,
		"O0" + sha1[2:]:        `Thumbprint is "O0ff`,
		"AP+rze8BI0VniavN":     `Thumbprint is "AP+rze8BI0VniavN": want`,
		"ȺȺȺȺȺȺȺȺsha1:":        `Thumbprint is "ȺȺȺȺȺȺȺȺsha1:": want`,
		"CN=my-app":            `Thumbprint is "CN=my-app": want`,
		testKey(t, "p224.pem"): `Thumbprint is "-----BEGIN…": want`,
	} {
		if got, err := parseThumbprint(text); got != nil || err == nil ||
			!strings.HasPrefix(err.Error(), "cdfauth: "+want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

// withNegativeSerial changes a certificate with serial number 1 to one that crypto/x509
// does not read, as some old tools make it.
func withNegativeSerial(c *x509.Certificate) string {
	der := bytes.Replace(c.Raw, []byte{2, 1, 1}, []byte{2, 1, 0xff}, 1)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestUnreadableCertificateMattersOnlyWhereItIsNeeded: crypto/x509 does not read some
// certificates of old tools. With Thumbprint set, such a certificate is not needed, and is no
// error. Where it is needed, the error has the reason.
func TestUnreadableCertificateMattersOnlyWhereItIsNeeded(t *testing.T) {
	key := parseTestKey(t, "rsa-pkcs8.pem")
	unreadable := withNegativeSerial(issueCert(t, "leaf", key, nil, nil, nil))
	text := testKey(t, "rsa-pkcs8.pem") + unreadable
	given := strings.Repeat("ab", 32)
	for _, tt := range []struct {
		name string
		cfg  ClientCertificateConfig
		url  string
		want string // in the error; "" for none
	}{
		{"with its thumbprint", ClientCertificateConfig{Thumbprint: given}, plainURL, ""},
		{"with its thumbprint, for Entra", ClientCertificateConfig{Thumbprint: given}, entraURL, ""},
		{"without", ClientCertificateConfig{}, plainURL,
			"Certificate has a certificate that is not readable: x509: negative serial number"},
		{"to be sent", ClientCertificateConfig{Thumbprint: given, SendChain: true}, plainURL,
			"Certificate has a certificate that is not readable: x509: negative serial number"},
	} {
		tt.cfg.Certificate = SecretString(text)
		jwt, err := newTestSigner(t, tt.cfg).assertion(t.Context(), tt.url)
		if tt.want != "" {
			if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: "+tt.want) {
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
			}
			continue
		}
		if err != nil || open(t, jwt).header["x5t#S256"] == nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	// It does not matter beside a readable certificate of the key either.
	if _, err := parseText(text+pemOf(issueCert(t, "good", key, nil, nil, nil)), ""); err != nil {
		t.Error(err)
	}
}

// TestCertificateInAnotherFormatIsNamed: a certificate may come as DER or PKCS#7, which are
// not read. The error names the format, with the command that converts it. PEM is read by
// each label that OpenSSL writes.
func TestCertificateInAnotherFormatIsNamed(t *testing.T) {
	key := testKey(t, "p256-pkcs8.pem")
	cert := issueCert(t, "leaf", parseTestKey(t, "p256-pkcs8.pem"), nil, nil, nil)
	block := func(label string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
	}
	pkcs7 := append([]byte{0x30, 0x80, 6, 9}, "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02\x00\x00"...)
	for _, tt := range []struct{ name, text, want string }{
		{"X509 CERTIFICATE", block("X509 CERTIFICATE", cert.Raw), ""},
		{"TRUSTED CERTIFICATE", block("TRUSTED CERTIFICATE", append(bytes.Clone(cert.Raw), 0x30, 0)), ""},
		{"DER", string(cert.Raw), "is binary (DER): want PEM, as written by `openssl x509 -inform der"},
		{"PKCS#7", block("PKCS7", pkcs7),
			"is PKCS#7 (.p7b): want PEM, as written by `openssl pkcs7 -print_certs"},
		{"PKCS#7 of Windows", block("CERTIFICATE", pkcs7),
			"is PKCS#7 (.p7b): want PEM, as written by `openssl pkcs7 -print_certs"},
		{"PKCS#7 in DER", string(pkcs7),
			"is binary (DER): want PEM, as written by `openssl pkcs7 -inform der"},
		{"cut off", pemOf(cert)[:100], "has no line -----END CERTIFICATE-----"},
	} {
		for _, text := range []string{key + "\n" + tt.text, tt.text + "\n" + key} {
			pair, err := parseText(text, "")
			switch {
			case tt.want == "" && (err != nil || len(pair.chain) != 1 || !pair.chain[0].Equal(cert)):
				t.Errorf("%s: %v", tt.name, err)
			case tt.want != "" &&
				(err == nil ||
					!strings.HasPrefix(err.Error(), "cdfauth: Certificate has a certificate that "+tt.want)):
				t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
			}
		}
	}
}

// TestThumbprintOfAnotherCertificateIsRefused: for a thumbprint that is not of the key's
// certificate, Entra answers AADSTS700027, which few people understand. The provider refuses
// it first, and says which one it wants. If the key has several certificates, the thumbprint
// selects one, whatever its dates.
func TestThumbprintOfAnotherCertificateIsRefused(t *testing.T) {
	key := parseTestKey(t, "p256-pkcs8.pem")
	old := issueCert(t, "old", key, nil, nil, nil)
	renewed := issueCert(t, "new", key, nil, nil, func(c *x509.Certificate) {
		c.NotAfter = testNow.Add(48 * time.Hour)
	})
	stranger := issueCert(t, "stranger", parseTestKey(t, "p384-pkcs8.pem"), nil, nil, nil)
	text := testKey(t, "p256-pkcs8.pem") + pemOf(old, renewed, stranger)
	hashes := []crypto.Hash{crypto.SHA256}
	if !fipsOnly {
		hashes = append(hashes, crypto.SHA1)
	}
	for _, hash := range hashes {
		for _, c := range []*x509.Certificate{old, renewed} {
			s := newTestSigner(t,
				ClientCertificateConfig{Certificate: SecretString(text),
					Thumbprint: hexOf(thumbprintOf(c, hash)), SendChain: true})
			jwt, err := s.assertion(t.Context(), plainURL)
			if err != nil {
				t.Fatal(err)
			}
			if x5c := open(t, jwt).header["x5c"].([]any); len(x5c) != 1 ||
				x5c[0] != base64.StdEncoding.EncodeToString(c.Raw) {
				t.Errorf("%v of %s: another certificate is sent", hash, c.Subject)
			}
		}
		for _, sum := range [][]byte{thumbprintOf(stranger, hash), make([]byte, hash.Size())} {
			s := newTestSigner(t,
				ClientCertificateConfig{Certificate: SecretString(text), Thumbprint: hexOf(sum)})
			_, err := s.assertion(t.Context(), plainURL)
			want := "cdfauth: Thumbprint is " + hexOf(sum) +
				", and the certificate of the key in Certificate has " + hexOf(thumbprintOf(renewed, hash)) +
				": leave Thumbprint out, or set it to that"
			if err == nil || err.Error() != want {
				t.Errorf("got %v, want %q", err, want)
			}
		}
	}
}

// TestExpiredCertificateIsRefusedWhereItsDatesAreKnown: Entra, AD FS and a provider that gets
// the chain know the dates of a certificate, and would refuse an expired one. It is an error
// there before anything is sent. A provider that knows only the public key takes it.
func TestExpiredCertificateIsRefusedWhereItsDatesAreKnown(t *testing.T) {
	key := parseTestKey(t, "rsa-pkcs8.pem")
	past := issueCert(t, "past", key, nil, nil, func(c *x509.Certificate) {
		c.NotAfter = testNow.Add(-time.Second)
	})
	future := issueCert(t, "future", key, nil, nil, func(c *x509.Certificate) {
		c.NotBefore = testNow.Add(time.Second)
	})
	for _, c := range []struct {
		cert *x509.Certificate
		want string
	}{{past, "that expired at 2026-11-20T11:59:59Z"},
		{future, "that is not valid before 2026-11-20T12:00:01Z"}} {
		sum := hexOf(thumbprintOf(c.cert, crypto.SHA256))
		for _, tt := range []struct {
			name, url string
			cfg       ClientCertificateConfig
			refused   bool
		}{
			{"a provider that knows the public key", plainURL, ClientCertificateConfig{}, false},
			{"the same with a thumbprint", plainURL, ClientCertificateConfig{Thumbprint: sum}, false},
			{"a provider that gets the chain", plainURL, ClientCertificateConfig{SendChain: true}, true},
			{"Entra", entraURL, ClientCertificateConfig{}, true},
			{"Entra with a thumbprint", entraURL, ClientCertificateConfig{Thumbprint: sum}, true},
			{"AD FS with a thumbprint", adfsURL, ClientCertificateConfig{Thumbprint: sum}, true},
		} {
			tt.cfg.Certificate = SecretString(testKey(t, "rsa-pkcs8.pem") + pemOf(c.cert))
			_, err := newTestSigner(t, tt.cfg).assertion(t.Context(), tt.url)
			if tt.refused != (err != nil) ||
				err != nil && err.Error() != "cdfauth: Certificate has a certificate "+c.want {
				t.Errorf("%s, %s: %v", c.cert.Subject, tt.name, err)
			}
		}
	}
}
