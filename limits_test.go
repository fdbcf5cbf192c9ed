package cdfauth

import (
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cdfauth/internal/idptest"
)

// TestEdges has the last value that is taken, and the first that is not, of what the package judges by a limit.
func TestEdges(t *testing.T) {
	config := func(id, scope string) error {
		_, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL("https://idp.test/token"), ClientID: id, ClientSecret: SecretString("s"), Scopes: []string{scope}})
		return err
	}
	whole := func(n int) error { // an answer of so many bytes
		const head, tail = `{"access_token":"tok","x":"`, `"}`
		idp := idptest.New()
		idp.Always(idptest.Body(head + strings.Repeat("x", n-len(head)-len(tail)) + tail))
		_, err := newTestProvider(t, idp, nil).Token(t.Context())
		return err
	}
	metadata := func(field string, value any) error {
		idp := idptest.New()
		idp.Metadata(func(m map[string]any) { m[field] = value })
		p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: Issuer(idp.Issuer), ClientID: "client", ClientSecret: SecretString("s3cret/of+the client"),
			Options: Options{HTTPClient: idp.Client()}})
		if err == nil {
			_, err = p.Token(t.Context())
		}
		return err
	}
	token := func(s string) error { _, err := NewToken(s, time.Time{}); return err }
	file := func(n int) error { // with a secret of so many bytes
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(strings.Repeat("x", n)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := SecretFile(path)(t.Context())
		return err
	}
	key := func(n int) error {
		_, err := parseKeys(keySource{text: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyOf(t, n)}))})
		return err
	}
	for raw, want := range map[string]time.Duration{"31536000": 365 * 24 * time.Hour, "4e9": 876_000 * time.Hour, "-0.5": -500 * time.Millisecond, "-7": -time.Second} {
		if got, ok := seconds([]byte(raw), 0); got != want || !ok {
			t.Errorf("%s s: %v, %v; want %v", raw, got, ok, want)
		}
	}
	for name, edge := range map[string]struct{ taken, refused error }{
		"a URL's last character":              {Issuer("https://idp.test/~").err, Issuer("https://idp.test/\x7f").err},
		"a URL's first character":             {Issuer("https://idp.test/!").err, Issuer("https://idp.test/ ").err},
		"a client id's last character":        {config("a~b", "s"), config("a\x7fb", "s")},
		"a client id's first character":       {config("a b", "s"), config("a\x1fb", "s")},
		"a scope's last character":            {config("a", "~"), config("a", "\x7f")},
		"a scope's first character":           {config("a", "!"), config("a", " ")},
		"an access token's last character":    {token("~"), token("\x7f")},
		"an access token's first character":   {token("!"), token(" ")},
		"a file with a secret of 1 MiB":       {file(1 << 20), file(1<<20 + 1)},
		"a key of 16 KiB":                     {key(16 << 10), key(16<<10 + 1)},
		"an answer of 1 MiB":                  {whole(1 << 20), whole(1<<20 + 1)},
		"metadata without a device endpoint":  {metadata("device_authorization_endpoint", ""), metadata("token_endpoint", "")},
		"metadata with endpoints elsewhere":   {metadata("authorization_endpoint", "https://other.test/authorize"), metadata("authorization_endpoint", "http://other.test/authorize")},
		"metadata with endpoints of no flows": {metadata("device_authorization_endpoint", "https://other.test/"), metadata("device_authorization_endpoint", "nonsense")},
	} {
		if edge.taken != nil {
			t.Errorf("%s: %v", name, edge.taken)
		}
		if edge.refused == nil {
			t.Errorf("%s: what is beyond it is taken", name)
		}
	}
}

func keyOf(t *testing.T, n int) []byte { // an RSA key, with attributes, in DER of so many bytes
	inner := testDER(t, "rsa-pkcs8.pem")[4:] // after a tag and a length of two bytes
	pad := n - 4 - len(inner) - 4
	inner = slices.Concat(inner, []byte{4, 0x82, byte(pad >> 8), byte(pad)}, make([]byte, pad))
	return slices.Concat([]byte{0x30, 0x82, byte(len(inner) >> 8), byte(len(inner))}, inner)
}
