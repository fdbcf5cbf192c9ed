//go:build go1.24

package cdfauth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestParseKeysChain: leaf first, then issuers by name and key id, in whatever
// order they come and whatever else is there.
func TestParseKeysChain(t *testing.T) {
	var keys [6]ed25519.PrivateKey
	for i := range keys {
		keys[i] = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(i)}, 32))
	}
	ca := func(c *x509.Certificate) { c.IsCA = true }
	root := issueCert(t, "root", keys[0], nil, nil, ca)
	inter := issueCert(t, "inter", keys[1], root, keys[0], ca)
	leaf := issueCert(t, "leaf", keys[2], inter, keys[1], nil)
	sameName := issueCert(t, "inter", keys[3], root, keys[0], ca)
	expired := issueCert(t, "inter", keys[1], root, keys[0], func(c *x509.Certificate) { c.IsCA = true; c.NotAfter = testNow.Add(-time.Hour) })
	crossed := issueCert(t, "root", keys[0], inter, keys[1], ca) // inter is its issuer, and it is inter's
	stranger := issueCert(t, "stranger", keys[4], nil, nil, nil)

	for _, tt := range []struct {
		name  string
		certs []*x509.Certificate
		want  []*x509.Certificate
	}{
		{"in order", []*x509.Certificate{leaf, inter, root}, []*x509.Certificate{leaf, inter, root}},
		{"out of order", []*x509.Certificate{root, stranger, inter, leaf}, []*x509.Certificate{leaf, inter, root}},
		{"twice", []*x509.Certificate{root, leaf, inter, root, leaf, inter}, []*x509.Certificate{leaf, inter, root}},
		{"two issuers of one name", []*x509.Certificate{sameName, inter, leaf}, []*x509.Certificate{leaf, inter}},
		{"an expired issuer", []*x509.Certificate{expired, inter, leaf}, []*x509.Certificate{leaf, inter}},
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

	// However long the text makes it.
	key, long := keys[2], ""
	parent, parentKey := root, keys[0]
	for i := range 15 {
		next := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(100 + i)}, 32))
		parent, parentKey = issueCert(t, strconv.Itoa(i), next, parent, parentKey, ca), next
		long += pemOf(parent)
	}
	pair, err := parseText(long+pemOf(issueCert(t, "leaf", key, parent, parentKey, nil))+pemOfKey(t, key), "")
	if err != nil || len(pair.chain) != 10 {
		t.Errorf("chain of 16: %v, %d certificates, want 10", err, len(pair.chain))
	}
}

// TestParseKeysRenewal: old and new certificate of the same key in one file.
func TestParseKeysRenewal(t *testing.T) {
	key := parseTestKey(t, "p256-pkcs8.pem")
	at := func(from, to time.Duration) *x509.Certificate {
		return issueCert(t, "leaf", key, nil, nil, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = testNow.Add(from), testNow.Add(to) })
	}
	past, present, longer, future := at(-3*time.Hour, -time.Hour), at(-2*time.Hour, time.Hour), at(-time.Hour, 2*time.Hour), at(time.Hour, 9*time.Hour)
	for i, certs := range [][]*x509.Certificate{{past, longer}, {longer, past}, {present, longer}, {longer, present}, {future, longer}, {longer, future}, {past, present, longer, future}} {
		pair, err := parseText(pemOfKey(t, key)+pemOf(certs...), "")
		if err != nil || !pair.chain[0].Equal(longer) {
			t.Errorf("%d: %v, or not the one that is valid for longest", i, err)
		}
	}
	for cert, want := range map[*x509.Certificate]string{past: "expired at 2026-11-20T11:00:00Z", future: "not valid before 2026-11-20T13:00:00Z"} {
		pair, err := parseText(pemOfKey(t, key)+pemOf(cert), "")
		if err != nil {
			t.Fatal(err)
		}
		err = checkValidity(pair.chain[0], testNow)
		if err == nil || err.Error() != "cdfauth: Certificate has a certificate that "+strings.Replace(want, "not", "is not", 1) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
