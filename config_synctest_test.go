//go:build go1.25

package cdfauth

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"cdfauth/internal/idptest"
)

// TestClearCacheIgnoresTheContentUntilASignIn: with clear_cache, the content of the cache does
// not count, as in the Python SDK. It stays there until the provider tries to sign somebody
// in, so that a program that may ask nobody does not sign others out.
func TestClearCacheIgnoresTheContentUntilASignIn(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cache.bin")
	synctest.Test(t, func(t *testing.T) { clearCache(t, path) })
}

// clearCache is the part of the test that runs on simulated time.
func clearCache(t *testing.T, path string) {
	idp := idptest.New()
	start := func(more string) Provider {
		config := `{"device_code":{"oauth_discovery_url":"https://idp.test","client_id":"app","scopes":[],` +
			`"token_cache_path":"` + path + `"` + more + `}}`
		p, err := Load([]byte(config), Options{HTTPClient: idp.Client()})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	token := func(p Provider, signIns int) string {
		t.Helper()
		tok, err := p.Token(t.Context())
		if n := len(idp.Requests("/devicecode")); err != nil || n != signIns {
			t.Fatalf("%d sign-ins, want %d; %v", n, signIns, err)
		}
		return tok.AccessToken()
	}
	first := token(start(""), 1)
	if again := token(start(""), 1); again != first {
		t.Fatal("the cache does not work")
	}
	p := start(`,"clear_cache":true`)
	if _, err := p.Token(WithoutInteraction(t.Context())); !errors.Is(err, ErrSignInRequired) {
		t.Errorf("with an old sign-in in the cache: %v", err)
	}
	if again := token(start(""), 1); again != first {
		t.Error("the cache was cleared although nobody has signed in")
	}
	second := token(p, 2)
	if second == first {
		t.Error("the old token was used")
	}
	if again := token(start(""), 2); again != second {
		t.Error("the new sign-in was not stored")
	}
	b, err := os.ReadFile(path)
	if err != nil || bytes.Contains(b, []byte(first)) || !bytes.Contains(b, []byte(second)) {
		t.Errorf("%v; the old token is still there: %t", err, bytes.Contains(b, []byte(first)))
	}
}
