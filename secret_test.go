package cdfauth

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cdfauth/internal/idptest"
)

func TestSecretFile(t *testing.T) {
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
	for content, want := range map[string]string{"x": "x", "x\n": "x", "x\r\n": "x", "x\n\n": "x\n", " x ": " x ", "": ""} {
		write(a, content)
		if got := read(SecretFile(a)); got != want {
			t.Errorf("%q is read as %q, want %q", content, got, want)
		}
	}
	write(a, "key\n")
	write(b, "crt\n")
	paths := []string{a, b}
	s := SecretFile(paths...)
	paths[0] = "elsewhere"
	if got := read(s); got != "key\n\ncrt" {
		t.Errorf("joined: %q", got)
	}
	write(a, strings.Repeat("k", 1<<20+1))
	if _, err := s(t.Context()); err == nil || strings.Contains(err.Error(), "kkk") || !strings.Contains(err.Error(), "1 MiB") {
		t.Errorf("too long: %v", err)
	}
	os.Remove(a)
	if _, err := s(t.Context()); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), a) {
		t.Errorf("missing: %v", err)
	}
}

// TestSecretFileRotated: a secret replaced on disk is used without a restart.
func TestSecretFileRotated(t *testing.T) {
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
	if _, err := p.Token(t.Context()); !errors.As(err, &oe) || oe.Code != "invalid_client" || oe.StatusCode != http.StatusUnauthorized {
		t.Errorf("old secret: %v", err)
	}
	os.WriteFile(path, []byte("rotated"), 0o600)
	if _, err := p.Token(t.Context()); err != nil {
		t.Errorf("new secret: %v", err)
	}
}
