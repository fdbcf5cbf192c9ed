package cdfauth

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/fips140"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"cdfauth/internal/idptest"
)

// skipOutsideCI skips a test that a machine may not be able to run. CI runs every such
// test: there it is a failure.
func skipOutsideCI(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("CI has to run this test: %s", why)
	}
	t.Skip(why)
}

// must ends the test if there is an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// childEnv is the environment variable in which a test names one of the children. The
// test binary, started again, is then that child.
const childEnv = "CDFAUTH_TEST_CHILD"

// children are programs that use the FileCache of a path. arg is the child's own.
var children = map[string]func(c *FileCache, arg string) error{
	"increment": func(c *FileCache, arg string) error {
		n, _ := strconv.Atoi(arg)
		for range n {
			if err := increment(c); err != nil {
				return err
			}
		}
		return nil
	},
	"hold": func(c *FileCache, _ string) error { // until it is killed
		return c.Update(context.Background(), func(context.Context, []byte) ([]byte, error) {
			fmt.Println("held")
			io.Copy(io.Discard, os.Stdin)
			return nil, errors.New("not killed")
		})
	},
	"token": func(c *FileCache, arg string) error { // of the scope and from the issuer given
		scope, issuer, _ := strings.Cut(arg, " ")
		p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: Issuer(issuer),
			ClientID: "client", ClientSecret: SecretString("s3cret/of+the client"),
			Scopes: []string{scope}, Options: Options{Cache: c}})
		if err != nil {
			return err
		}
		tok, err := p.Token(context.Background())
		fmt.Println(tok.AccessToken())
		return err
	},
	"write": func(c *FileCache, _ string) error { // for ever
		for i := 0; ; i++ {
			if err := c.Update(context.Background(),
				func(context.Context, []byte) ([]byte, error) { return whole(i), nil }); err != nil {
				return err
			}
			if i == 0 {
				fmt.Println("writing")
			}
		}
	},
}

// TestMain runs the tests, or what a test has started this binary for (childEnv).
func TestMain(m *testing.M) {
	if f, ok := children[os.Getenv(childEnv)]; ok {
		c, err := NewFileCache(os.Args[1])
		if err == nil {
			err = f(c, os.Args[2])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	if fips140.Enabled() {
		// A random generator of FIPS 140 needs the real clock when it is made. With one
		// processor there is one, which is made before the first bubble.
		runtime.GOMAXPROCS(1)
		flag.Set("test.parallel", "1")
	}
	os.Exit(m.Run())
}

// child returns a command that runs a child on c.
func child(t *testing.T, name string, c *FileCache, arg string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, c.path, arg)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// start starts a child and waits for its first line.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // open as long as we live
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
}

// kill ends a child as a crash would.
func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
}

// increment adds one to the number in c.
func increment(c Cache) error {
	return c.Update(context.Background(), func(_ context.Context, old []byte) ([]byte, error) {
		n, err := strconv.Atoi("0" + string(old))
		return strconv.AppendInt(nil, int64(n+1), 10), err
	})
}

// whole returns content of a length that depends on i, which ends with a hash of the rest.
func whole(i int) []byte {
	b := bytes.Repeat([]byte{byte('a' + i%26)}, 1000+i*7919%60000)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// isWhole tells whether b is all of what whole has returned.
func isWhole(b []byte) bool {
	n := len(b) - sha256.Size
	return n > 0 && sha256.Sum256(b[:n]) == [32]byte(b[n:])
}

// fileCache returns a FileCache in a directory that is not there yet.
func fileCache(t testing.TB) *FileCache {
	t.Helper()
	c, err := NewFileCache(filepath.Join(t.TempDir(), "dir", "cache.bin"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// encrypted returns c with its content encrypted.
func encrypted(t testing.TB, c Cache) Cache {
	t.Helper()
	e, err := EncryptCache(c, []byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// put replaces the content of c.
func put(t testing.TB, c Cache, content string) {
	t.Helper()
	if err := c.Update(context.Background(),
		func(context.Context, []byte) ([]byte, error) { return []byte(content), nil }); err != nil {
		t.Fatal(err)
	}
}

// wantContent wants that content in c; "" is that of an empty cache, which is nil.
func wantContent(t testing.TB, c Cache, want string) {
	t.Helper()
	b, err := c.Get(context.Background())
	if err != nil || string(b) != want || (b == nil) != (want == "") {
		t.Errorf("Get: %q, %v; want %q", b, err, want)
	}
}

// everyCache runs f on each kind of Cache. raw returns what the cache has stored: of a
// file the content, with the time of the last write, or "none".
func everyCache(t *testing.T, f func(t *testing.T, c Cache, raw func() string)) {
	file, encryptedFile, encryptedMemory := fileCache(t), fileCache(t), new(MemoryCache)
	rawFile := func(c *FileCache) func() string {
		return func() string {
			b, err := os.ReadFile(c.path)
			if err != nil {
				return "none"
			}
			return string(b) + fmt.Sprint(modTime(t, c.path))
		}
	}
	for name, c := range map[string]struct {
		cache Cache
		raw   func() string
	}{
		"file":           {file, rawFile(file)},
		"memory":         {new(MemoryCache), func() string { return "none" }},
		"encrypted file": {encrypted(t, encryptedFile), rawFile(encryptedFile)},
		"encrypted memory": {encrypted(t, encryptedMemory), func() string {
			b, _ := encryptedMemory.Get(context.Background())
			return string(b)
		}},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); f(t, c.cache, c.raw) })
	}
}

// modTime returns when a file was last written.
func modTime(t *testing.T, path string) time.Time {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.ModTime()
}

// newCertificateProvider returns a certificate's provider on idp, at plainURL if cfg has
// no Endpoint.
func newCertificateProvider(
	t testing.TB, idp *idptest.Provider, cfg ClientCertificateConfig,
) *ClientCertificate {
	t.Helper()
	if cfg.Endpoint == (Endpoint{}) {
		cfg.Endpoint = TokenURL(plainURL)
	}
	cfg.ClientID, cfg.Options = "client", Options{HTTPClient: idp.Client()}
	p, err := NewClientCertificate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// newTestProvider returns an application's provider on idp, without a cache. A nil
// secret is the right one.
func newTestProvider(t testing.TB, idp *idptest.Provider, secret Secret) *ClientCredentials {
	t.Helper()
	return cachedProvider(t, idp, nil, func(cfg *ClientCredentialsConfig) {
		cfg.Scopes = ClusterScopes("greenfield")
		if secret != nil {
			cfg.ClientSecret = secret
		}
	})
}

// cachedProvider returns an application's provider on idp, whose configuration change
// has changed if it is not nil.
func cachedProvider(
	t testing.TB, idp *idptest.Provider, cache Cache, change func(*ClientCredentialsConfig),
) *ClientCredentials {
	t.Helper()
	cfg := ClientCredentialsConfig{
		Endpoint:     TokenURL(idp.Issuer + "/token"),
		ClientID:     "client",
		ClientSecret: SecretString("s3cret/of+the client"),
		Scopes:       []string{"a", "b"},
		Options:      Options{HTTPClient: idp.Client(), Cache: cache},
	}
	if change != nil {
		change(&cfg)
	}
	p, err := NewClientCredentials(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// realProvider returns an application's provider on a server with real sockets.
func realProvider(t *testing.T, ep Endpoint, secret string, hc *http.Client) *ClientCredentials {
	t.Helper()
	return cachedProvider(t, idptest.New(), nil, func(cfg *ClientCredentialsConfig) {
		cfg.Endpoint, cfg.ClientSecret, cfg.HTTPClient = ep, SecretString(secret), hc
	})
}

// environment returns a getenv that knows NAME=value pairs, which blanks separate.
func environment(pairs string) func(string) string {
	env := map[string]string{}
	for _, pair := range strings.Fields(pairs) {
		name, value, _ := strings.Cut(pair, "=")
		env[name] = value
	}
	return func(name string) string { return env[name] }
}

// wantRequests wants that idp has had that many token requests.
func wantRequests(t *testing.T, idp *idptest.Provider, want int) {
	t.Helper()
	if got := idp.Tokens(); got != want {
		t.Errorf("%d token requests, want %d", got, want)
	}
}

// testKey returns the content of a file in testdata/keys. OpenSSL 3.0 has made them:
//
//	openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa-pkcs8.pem
//	openssl rsa -in rsa-pkcs8.pem -traditional -out rsa-pkcs1.pem
//	openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out rsa-1024.pem
//	openssl ecparam -name prime256v1 -genkey -out p256-sec1.pem
//	openssl pkcs8 -topk8 -nocrypt -in p256-sec1.pem -out p256-pkcs8.pem
//	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384-pkcs8.pem # and P-521, secp224r1
//	openssl genpkey -algorithm ed25519 -out ed25519-pkcs8.pem # and x25519
//	openssl req -x509 -new -key p256-pkcs8.pem -subj /CN=test -days 36500 -out p256-cert.pem
//
// and, encrypted with the passphrase "correct":
//
//	openssl pkcs8 -topk8 -in p256-pkcs8.pem -v2 aes-256-cbc -v2prf hmacWithSHA256 -out pbes2-aes256-sha256.pem
//	… -v2 aes-128-cbc -v2prf hmacWithSHA1 -out pbes2-aes128-sha1.pem
//	… -v2 aes-192-cbc -v2prf hmacWithSHA512 -iter 100000 -out pbes2-aes192-sha512.pem
//	… -v2 des3 -out pbes2-3des-sha256.pem
//	… -v1 PBE-SHA1-3DES -out refused-pbes1.pem
//	… -scrypt -out refused-scrypt.pem
//	openssl ec -in p256-sec1.pem -aes128 -out refused-rfc1421.pem
//	openssl pkcs12 -export -inkey p256-pkcs8.pem -in p256-cert.pem -out refused.pfx
func testKey(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "keys", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// fipsOnly tells whether GODEBUG=fips140=only is set, under which Go refuses some of the
// algorithms of the tests.
var fipsOnly = strings.Contains(os.Getenv("GODEBUG"), "fips140=only")

// testNow is a time at which the certificates of the tests are valid.
var testNow = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// testKeyPair is a keyPair with the chain that is sent at testNow.
type testKeyPair struct {
	keyPair
	chain []*x509.Certificate
}

// parseText reads a key, and its certificates, as from the field Certificate.
func parseText(text, passphrase string) (testKeyPair, error) {
	pair, err := parseKeys(keySource{text: text, passphrase: passphrase})
	if err != nil {
		return testKeyPair{}, err
	}
	chain, err := chainOf(pair, nil, true, testNow)
	return testKeyPair{pair, chain}, err
}

// parseTestKey returns a key of testdata/keys.
func parseTestKey(t testing.TB, name string) crypto.Signer {
	t.Helper()
	pair, err := parseText(testKey(t, name), "")
	if err != nil {
		t.Fatal(err)
	}
	return pair.signer
}

// issueCert makes a certificate that is valid around testNow. The parent has signed it, or
// its own key if parent is nil.
func issueCert(
	t testing.TB, name string, key crypto.Signer, parent *x509.Certificate, parentKey crypto.Signer,
	change func(*x509.Certificate),
) *x509.Certificate {
	t.Helper()
	id := sha256.Sum256([]byte(fmt.Sprint(key.Public())))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		SubjectKeyId: id[:20],
		NotBefore:    testNow.Add(-24 * time.Hour), NotAfter: testNow.Add(24 * time.Hour),
		BasicConstraintsValid: true}
	if change != nil {
		change(template)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pemOf returns certificates as PEM.
func pemOf(certs ...*x509.Certificate) string {
	var b strings.Builder
	for _, c := range certs {
		pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
	}
	return b.String()
}

// pemOfKey returns a key as PEM, in PKCS#8.
func pemOfKey(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// mustToken returns a token of p. Its caller cannot leave, and makes the flight. signedIn
// and get are for callers who can.
func mustToken(t testing.TB, p Provider) Token {
	t.Helper()
	tok, err := p.Token(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// edit changes the content of a cache.
func edit(t *testing.T, cache Cache, change func(msalCache)) {
	t.Helper()
	err := cache.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
		c, err := parseMSALCache(old)
		if err != nil {
			return nil, err
		}
		change(c)
		return c.blob()
	})
	if err != nil {
		t.Fatal(err)
	}
}

// read returns the content of a cache.
func read(t *testing.T, cache Cache) msalCache {
	t.Helper()
	blob, err := cache.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseMSALCache(blob)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// keysOf returns the keys of a section's entries, sorted.
func keysOf(c msalCache, section string) []string {
	s, _ := c[section].(map[string]any)
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s)), func(key string) bool {
		return entryOf(c, section, key) == nil
	})
}

// entryOf returns the entry of a key, nil if there is none.
func entryOf(c msalCache, section, key string) entry {
	s, _ := c[section].(map[string]any)
	e, _ := s[key].(map[string]any)
	return e
}

// base is the Base of a Transport. It records what is sent.
type base struct {
	requests []*http.Request
	bodies   []string
	answer   func(*http.Request) (*http.Response, error) // if nil, 200
	idle     bool                                        // CloseIdleConnections was called
}

func (b *base) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		text, _ := io.ReadAll(r.Body)
		r.Body.Close()
		body = string(text)
	}
	b.requests, b.bodies = append(b.requests, r), append(b.bodies, body)
	if b.answer != nil {
		return b.answer(r)
	}
	return respond(200, "ok"), nil
}

func (b *base) CloseIdleConnections() { b.idle = true }

// respond returns an answer.
func respond(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{},
		Body: io.NopCloser(strings.NewReader(body))}
}

// A counter is a Provider that counts its calls.
type counter struct {
	asked, invalidated int
	marks              []bool   // for each call of Token, whether it came with WithoutInteraction
	tokens             []string // that are handed out in turn, the last one for ever
	err                error    // of all calls but the first
}

func (c *counter) Token(ctx context.Context) (Token, error) {
	c.asked++
	c.marks = append(c.marks, ctx.Value(interactionKey{}) == true)
	if c.err != nil && c.asked > 1 {
		return Token{}, c.err
	}
	s := c.tokens[min(c.asked, len(c.tokens))-1]
	return newToken(tokenData{header: bearer + s}), nil
}

func (c *counter) Invalidate(t Token) {
	if t.AccessToken() == c.tokens[0] {
		c.invalidated++
	}
}
