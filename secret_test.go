package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cdfauth/internal/idptest"
)

// TestSecretFileIsReadWithoutItsLineEnd: Editors and echo end a file with a
// line end, and Windows writes a byte order mark or UTF-16. SecretFile drops
// them and nothing else. It reads up to 1 MiB, and its errors name the file and
// show none of its content.
func TestSecretFileIsReadWithoutItsLineEnd(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write := func(path, s string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(s Secret) string {
		t.Helper()
		v, err := s(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for content, want := range map[string]string{
		"x": "x", "x\n": "x", "x\r\n": "x", "x\n\n": "x\n", " x ": " x ", "": "",
		// As Windows writes files. PowerShell's > makes UTF-16.
		"\xef\xbb\xbfx\r\n": "x",
		"\xff\xfex\x00\xac\x20\x3d\xd8\x00\xde\r\x00\n\x00": "x\u20ac\U0001f600",
		"\xfe\xff\x00x\x20\xac\x00\n":                       "x\u20ac",
		// Half a character: not UTF-16.
		"\xff\xfex\x00y": "\xff\xfex\x00y",
		"\xff\xfe":       "",
	} {
		write(a, content)
		if got := read(SecretFile(a)); got != want {
			t.Errorf("%q is read as %q, want %q", content, got, want)
		}
	}
	write(a, "key\n")
	write(b, "\ufeffcrt\n")
	paths := []string{a, b}
	s := SecretFile(paths...)
	paths[0] = "elsewhere"
	if got := read(s); got != "key\n\ncrt" {
		t.Errorf("joined: %q", got)
	}
	write(a, strings.Repeat("k", 1<<20))
	if got := read(SecretFile(a)); len(got) != 1<<20 {
		t.Errorf("%d bytes of a file of 1 MiB", len(got))
	}
	write(a, strings.Repeat("k", 1<<20+1))
	if _, err := s(t.Context()); err == nil || strings.Contains(err.Error(), "kkk") ||
		!strings.Contains(err.Error(), "1 MiB") {
		t.Errorf("too long: %v", err)
	}
	os.Remove(a)
	if _, err := s(t.Context()); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), a) {
		t.Errorf("missing: %v", err)
	}
}

// TestSecretFileIsReadAgainWhenItIsReplaced: Platforms such as Kubernetes
// rotate a secret by replacing its file. The program uses the new secret
// without a restart.
func TestSecretFileIsReadAgainWhenItIsReplaced(t *testing.T) {
	idp := idptest.New()
	idp.Lifetime = 0 // asked for at each call
	path := filepath.Join(t.TempDir(), "secret")
	os.WriteFile(path, []byte("s3cret/of+the client\n"), 0o600)
	p := newTestProvider(t, idp, SecretFile(path))
	if _, err := p.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	idp.Clients["client"] = "rotated"
	oe := (*OAuthError)(nil)
	if _, err := p.Token(t.Context()); !errors.As(err, &oe) || oe.Code != "invalid_client" ||
		oe.StatusCode != http.StatusUnauthorized {
		t.Errorf("old secret: %v", err)
	}
	os.WriteFile(path, []byte("rotated"), 0o600)
	if _, err := p.Token(t.Context()); err != nil {
		t.Errorf("new secret: %v", err)
	}
}

// TestLineEndsAndByteOrderMarkOfASecretAreDropped: kubectl and base64 keep the
// line end of echo, and editors on Windows write a byte order mark. Neither can
// be part of a secret, and nobody types them, so the identity provider gets
// what was meant.
func TestLineEndsAndByteOrderMarkOfASecretAreDropped(t *testing.T) {
	idp := idptest.New()
	for _, arrived := range []string{"s3cret/of+the client", "s3cret/of+the client\n",
		"s3cret/of+the client\r\n", "s3cret/of+the client\n\n",
		"\ufeffs3cret/of+the client", "\xff\xfe" + utf16LE("s3cret/of+the client\r\n")} {
		if _, err := newTestProvider(t, idp, SecretString(arrived)).Token(t.Context()); err != nil {
			t.Errorf("%q: %v", arrived, err)
		}
	}
}

// TestDamagedSecretsAreRefused: The identity provider would answer
// invalid_client to a damaged secret, and may lock the client out. The provider
// refuses it before it is sent. The error names the field, the kind of the
// damage and its place, and shows nothing of the secret.
func TestDamagedSecretsAreRefused(t *testing.T) {
	const secret = "s3cretPa55word"
	damages := []struct{ arrived, want string }{
		{`"` + secret + `"`, "has quotes around it"},
		{"'" + secret + "'\n", "has quotes around it"},
		{secret + "\t", "has a tab at its end"},
		{secret + "\n" + secret, "has a line end at byte 15 of 29"},
		{"\x1b[31m" + secret, "has a control character (U+001B) at its start"},
		{secret + "\x00", "has a NUL (is the text UTF-16?) at its end"},
		{utf16LE(secret), "has a NUL (is the text UTF-16?) at byte 2 of 28"},
		{secret + "\u0085", "has a control character (U+0085) at its end"},
		{"\r\n", "yielded nothing but line ends"},
		{"\ufeff", "yielded an empty string"},
		{"", "yielded an empty string"},
	}
	invisible := []struct{ arrived, want string }{
		{secret + "\u200b", "has an invisible character (U+200B) at its end"},
		{"s3cret\u00a0Pa55word", "has an invisible character (U+00A0) at byte 7 of 16"},
		{"s3cret\ufeffPa55word", "has a byte order mark at byte 7 of 17"},
		{"s3cret\xffPa55word", "has a byte that is not UTF-8 at byte 7 of 15"},
	}
	assertions := []struct{ arrived, want string }{
		{"null", "is not a JWT"},
		{`"eyJ.s3cret.Pa55word"`, "has quotes around it"},
		{`{"token":"eyJ.s3cret.Pa55word"}`, "is a JSON object: want the JWT alone"},
		{"{\n \"token\":\"eyJ.s3cret.Pa55word\"}", "is a JSON object: want the JWT alone"},
		{"Bearer eyJ.s3cret.Pa55word", "has a blank at byte 7 of 26"},
		{"eyJ.s3cret",
			"is not a JWT: want three parts of base64url with dots between them, and it has 10 bytes and 1 dots"},
		{"eyJ.s3cret.", "is not a JWT"},
		{".s3cret.Pa55word", "is not a JWT"},
		{"eyJ.s3cret.Pa55word.x", "is not a JWT"},
		{"eyJ.s3cret.Pa55word=", "is not a JWT"},
		{"s3cr\u00e9t.s3cret.Pa55word", "has a character that is not ASCII at byte 5"},
	}
	for _, tt := range []struct {
		field string
		make  func(Secret, Options) (Provider, error)
		cases []struct{ arrived, want string }
	}{
		{"ClientSecret", func(s Secret, o Options) (Provider, error) {
			return NewClientCredentials(ClientCredentialsConfig{
				Endpoint: TokenURL(plainURL), ClientID: "client", ClientSecret: s, Options: o})
		}, append(damages, invisible...)},
		{"ClientAssertion", func(s Secret, o Options) (Provider, error) {
			return NewClientCredentials(ClientCredentialsConfig{
				Endpoint: TokenURL(plainURL), ClientID: "client", ClientAssertion: s, Options: o})
		}, append(append(damages, invisible...), assertions...)},
		{"Passphrase", func(s Secret, o Options) (Provider, error) {
			return NewClientCertificate(ClientCertificateConfig{
				Endpoint: TokenURL(plainURL), ClientID: "client", Passphrase: s, Options: o,
				Certificate: SecretString(testKey(t, "pbes2-aes128-sha1.pem"))})
		}, damages},
	} {
		idp := idptest.New()
		for _, damage := range tt.cases {
			yield := func(context.Context) (string, error) { return damage.arrived, nil }
			p, err := tt.make(yield, Options{HTTPClient: idp.Client()})
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Token(t.Context())
			if want := "cdfauth: " + tt.field + " " + damage.want; err == nil ||
				!strings.HasPrefix(err.Error(), want) {
				t.Errorf("%q: got %v, want %s", damage.arrived, err, want)
			}
			if text := fmt.Sprint(err); strings.Contains(text, "s3cr") || strings.Contains(text, "Pa55") {
				t.Errorf("%q is shown: %v", damage.arrived, err)
			}
		}
		if got := len(idp.Requests("")); got != 0 {
			t.Errorf("%s: %d requests were sent", tt.field, got)
		}
	}
}

// TestUnusualSecretsAreSent: What looks odd may be meant, and is sent as it is.
func TestUnusualSecretsAreSent(t *testing.T) {
	for _, secret := range []string{" ", " blanks ", `"`, `"one quote`, "two'quotes'", "'\"",
		"gr\u00fc\u00df \U0001f600", "{}", "~!"} {
		idp := idptest.New()
		idp.Clients["client"] = secret
		if _, err := newTestProvider(t, idp, SecretString(secret)).Token(t.Context()); err != nil {
			t.Errorf("%q: %v", secret, err)
		}
	}
	for _, assertion := range []string{"eyJ.aGk.c2ln", "eyJ.aGk.c2ln\n", "eyJ..aXY.Y2lwaGVy.dGFn"} {
		if problem := assertionProblem(strings.TrimSpace(assertion)); problem != "" {
			t.Errorf("%q %s", assertion, problem)
		}
	}
	// A passphrase that was typed on a keyboard of its own encoding.
	if problem := passphraseProblem("p\xe4ssword \u200d"); problem != "" {
		t.Error(problem)
	}
}

// utf16LE is ASCII text in UTF-16, little-endian.
func utf16LE(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		b.WriteByte(c)
		b.WriteByte(0)
	}
	return b.String()
}
