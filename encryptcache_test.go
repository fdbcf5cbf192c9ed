package cdfauth

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// TestEncryptCacheHidesAndProtectsTheContent: who can read the store of an encrypted cache
// learns nothing of the content, and who can write it can put nothing of their own there.
// The key has 32 bytes, each nonce is another one (NIST SP 800-38D §8), and content with any
// byte changed, added or cut off is an error and stays as it is.
func TestEncryptCacheHidesAndProtectsTheContent(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 16, 24, 31, 33, 64} {
		if _, err := EncryptCache(new(MemoryCache), make([]byte, n)); err == nil ||
			!strings.Contains(err.Error(), fmt.Sprint(n)) {
			t.Errorf("key of %d bytes: %v", n, err)
		}
	}
	if _, err := EncryptCache(nil, make([]byte, 32)); err == nil {
		t.Error("nil cache: no error")
	}

	inner := new(MemoryCache)
	key := []byte("0123456789abcdef0123456789abcdef")
	c, err := EncryptCache(inner, key)
	if err != nil {
		t.Fatal(err)
	}
	clear(key) // it was copied
	put(t, c, theSecret)
	wantContent(t, encrypted(t, inner), theSecret)
	blob, _ := inner.Get(t.Context())
	if len(blob) != 1+12+len(theSecret)+16 || blob[0] != 1 || leak(string(blob)) != "" {
		t.Errorf("content: %x; want version 1, nonce, ciphertext, tag", blob)
	}
	put(t, c, "other")
	put(t, c, theSecret)
	if again, _ := inner.Get(t.Context()); bytes.Equal(again[:13], blob[:13]) {
		t.Error("the nonce was used before")
	}

	refused := func(what string, c Cache, blob []byte) {
		t.Helper()
		put(t, inner, string(blob))
		b, err := c.Get(t.Context())
		if err == nil || b != nil {
			t.Errorf("%s: Get: %q, %v", what, b, err)
		}
		if err2 := mustNot(t.Context(), c); err2 == nil || err2.Error() != err.Error() {
			t.Errorf("%s: Update: %v, want Get's error", what, err2)
		}
		walkError(t, what, err)
		wantContent(t, inner, string(blob))
	}
	wrong, _ := EncryptCache(inner, make([]byte, 32))
	refused("wrong key", wrong, blob)
	refused("not encrypted", c, []byte(`{"AccessToken":"`+theSecret+`"}`))
	refused("longer", c, append(bytes.Clone(blob), 0))
	for i := range blob {
		changed := bytes.Clone(blob)
		changed[i] ^= 1
		refused(fmt.Sprintf("byte %d changed", i), c, changed)
		if i > 0 {
			refused(fmt.Sprintf("cut after %d bytes", i), c, blob[:i])
		}
	}

	// The caller gets the error of the cache inside.
	broken, err := NewFileCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := encrypted(t, broken).Get(t.Context()); err == nil ||
		!strings.Contains(err.Error(), broken.path) {
		t.Errorf("Get: %v", err)
	}
	if err := mustNot(t.Context(), encrypted(t, broken)); err == nil ||
		!strings.Contains(err.Error(), broken.path) {
		t.Errorf("Update: %v", err)
	}
}
