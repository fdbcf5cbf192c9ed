//go:build go1.24

package cdfauth

import (
	"bytes"
	"crypto"
	"crypto/fips140"
	"crypto/sha1"
	"encoding/pem"
	"go/ast"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// openssl runs the real one. Without it there is nothing to compare with; CI
// has it.
func openssl(t *testing.T) func(stdin string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	version, _ := exec.Command(path, "version").Output()
	if err != nil || !bytes.HasPrefix(version, []byte("OpenSSL 3")) {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI wants openssl 3: %v, %q", err, version)
		}
		t.Logf("no openssl 3: %v, %q", err, version)
		return nil
	}
	return func(stdin string, args ...string) string {
		t.Helper()
		cmd := exec.Command(path, args...)
		cmd.Stdin = strings.NewReader(stdin)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, &stderr)
		}
		return string(out)
	}
}

// TestKeysThatOpenSSLEncryptsAreRead: OpenSSL encrypts a key with any of these
// hashes and ciphers, and people have keys of each.
func TestKeysThatOpenSSLEncryptsAreRead(t *testing.T) {
	run := openssl(t)
	if run == nil || fipsOnly {
		return
	}
	for _, name := range []string{"rsa-pkcs8.pem", "p384-pkcs8.pem", "ed25519-pkcs8.pem"} {
		want := parseTestKey(t, name)
		for _, aes := range []string{"aes-128-cbc", "aes-192-cbc", "aes-256-cbc"} {
			for _, prf := range []string{"hmacWithSHA1", "hmacWithSHA256", "hmacWithSHA384",
				"hmacWithSHA512"} {
				text := run(testKey(t, name), "pkcs8", "-topk8", "-v2", aes, "-v2prf", prf, "-passout",
					"pass:pässword")
				pair, err := parseText(text, "pässword")
				if err != nil || !want.(interface{ Equal(crypto.PrivateKey) bool }).Equal(pair.signer) {
					t.Errorf("%s %s %s: %v", name, aes, prf, err)
				}
			}
		}
	}
}

// commandsOf returns what stands between backticks, or on an indented line, in the
// texts and begins with "openssl ": of Go files the constants, of the README all.
func commandsOf(t *testing.T) []string {
	t.Helper()
	texts := []string{}
	for _, file := range packageFiles(t) {
		ast.Inspect(file, func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			if text, ok := literal(e); ok {
				texts = append(texts, text)
				return false
			}
			return true
		})
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	texts = append(texts, string(readme))
	var commands []string
	for _, text := range texts {
		quoted := regexp.MustCompile("(?m)(?:`|^    )(openssl [^`\n]*)")
		for _, m := range quoted.FindAllStringSubmatch(text, -1) {
			if command := strings.TrimSpace(m[1]); !slices.Contains(commands, command) {
				commands = append(commands, command)
			}
		}
	}
	slices.Sort(commands)
	return commands
}

// literal returns the value of a string literal, or of several with + between them.
func literal(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, err == nil && e.Kind == token.STRING
	case *ast.BinaryExpr:
		left, ok := literal(e.X)
		if !ok {
			return "", false
		}
		right, ok := literal(e.Y)
		return left + right, ok
	}
	return "", false
}

// TestEveryCommandThatIsNamedWorks: what an error or the README tells people to type
// works with the files that it is named for, old ones included, and what comes out is
// read. The error for such a file names that command. A command that is new fails
// here until it has its case.
func TestEveryCommandThatIsNamedWorks(t *testing.T) {
	run := openssl(t)
	if run == nil {
		return
	}
	const key, cert = "testdata/keys/p256-pkcs8.pem", "testdata/keys/p256-cert.pem"
	legacy := []string{"-provider", "legacy", "-provider", "default"}
	made := func(args ...string) func() string {
		return func() string { return run("", append(args, "-passout", "pass:correct")...) }
	}
	file := func(name string) func() string { return func() string { return testKey(t, name) } }
	pkcs8 := func(scheme string) func() string {
		return made(append([]string{"pkcs8", "-topk8", "-in", key, "-v1", scheme}, legacy...)...)
	}
	relabelled := func() string {
		return strings.ReplaceAll(run("", "crl2pkcs7", "-nocrl", "-certfile", cert),
			"PKCS7", "CERTIFICATE")
	}
	plain := func(args ...string) func() string { return func() string { return run("", args...) } }
	beside := testKey(t, "p256-pkcs8.pem")
	type source struct {
		name string
		text func() string
		with string // what stands in the text beside it
	}
	cases := map[string][]source{
		convertKey: {
			{"PBES1 with 3DES", file("refused-pbes1.pem"), ""},
			{"scrypt", file("refused-scrypt.pem"), ""},
			{"RFC 1421 with AES", file("refused-rfc1421.pem"), ""},
		},
		convertLegacyKey: {
			{"PBE-MD5-DES", pkcs8("PBE-MD5-DES"), ""},
			{"PBE-SHA1-RC2-40", pkcs8("PBE-SHA1-RC2-40"), ""},
			{"PBE-SHA1-RC4-128", pkcs8("PBE-SHA1-RC4-128"), ""},
			{"PBES2 with DES",
				made(append([]string{"pkcs8", "-topk8", "-in", key, "-v2", "des"}, legacy...)...), ""},
			{"PBES2 with RC2",
				made(append([]string{"pkcs8", "-topk8", "-in", key, "-v2", "rc2"}, legacy...)...), ""},
			{"RFC 1421 with DES",
				made(append([]string{"ec", "-in", "testdata/keys/p256-sec1.pem", "-des"}, legacy...)...), ""},
		},
		convertFIPSKey: {{"3DES", file("pbes2-3des-sha256.pem"), ""}},
		convertPFX: {
			{"AES", file("refused.pfx"), ""},
			{"3DES", made("pkcs12", "-export", "-inkey", key, "-in", cert, "-keypbe", "PBE-SHA1-3DES",
				"-certpbe", "PBE-SHA1-3DES"), ""},
		},
		convertLegacyPFX: {{"RC2", made("pkcs12", "-export", "-legacy", "-inkey", key, "-in", cert), ""}},
		convertP7B: {
			{"PEM", plain("crl2pkcs7", "-nocrl", "-certfile", cert), beside},
			{"PEM as Windows labels it", relabelled, beside},
		},
		convertDERP7B: {{"DER",
			plain("crl2pkcs7", "-nocrl", "-certfile", cert, "-outform", "der"), beside}},
		convertDERCert: {{"DER", plain("x509", "-in", cert, "-outform", "der"), beside}},
		convertDERKey: {
			{"PKCS#8", plain("pkey", "-in", key, "-outform", "der"), ""},
			{"SEC 1", plain("ec", "-in", key, "-outform", "der"), ""},
			{"PKCS#1",
				plain("rsa", "-in", "testdata/keys/rsa-pkcs1.pem", "-traditional", "-outform", "der"), ""},
			{"encrypted", made("pkcs8", "-topk8", "-in", key, "-outform", "der"), ""},
		},
		makeKey: {
			{"RSA-PSS", file("refused-rsa-pss.pem"), ""},
			{"Ed448", file("refused-ed448.pem"), ""},
		},
		showThumbprint: nil,
		// of the README
		"openssl req -x509 -newkey rsa:3072 -nodes -days 365 -subj /CN=my-app -keyout tls.key -out tls.crt": nil,
	}
	trimmed := map[string][]source{}
	for command, sources := range cases {
		command, _, _ = strings.Cut(strings.TrimPrefix(command, "`"), "`")
		trimmed[command] = sources
	}
	for _, command := range commandsOf(t) {
		sources, ok := trimmed[command]
		if !ok {
			t.Errorf("no case for %s", command)
		}
		delete(trimmed, command)
		for _, s := range sources {
			t.Run(command+"/"+s.name, func(t *testing.T) { tryCommand(t, run, command, s.text(), s.with) })
		}
	}
	if len(trimmed) > 0 {
		t.Errorf("named nowhere: %v", trimmed)
	}
}

// tryCommand runs a command on an old file, after the error that names it.
func tryCommand(
	t *testing.T, run func(stdin string, args ...string) string, command, old, beside string,
) {
	t.Helper()
	_, err := parseText(beside+old, "correct")
	needs32 := strings.Contains(command, "-saltlen") // and is named in FIPS 140 mode alone
	if needs32 == fips140.Enabled() &&
		(err == nil || !strings.Contains(err.Error(), "`"+command+"`")) {
		t.Errorf("the error is %v", err)
	}
	version := run("", "version")
	if needs32 &&
		(strings.HasPrefix(version, "OpenSSL 3.0") || strings.HasPrefix(version, "OpenSSL 3.1")) {
		t.Skip("OpenSSL 3.2 or newer has it")
	}
	dir := t.TempDir()
	args := strings.Fields(command)[1:]
	out := ""
	for i, arg := range args {
		if strings.HasPrefix(arg, "old.") {
			args[i] = filepath.Join(dir, arg)
			if err := os.WriteFile(args[i], []byte(old), 0o600); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(old, "ENCRYPTED") || strings.HasSuffix(arg, ".pfx") ||
				slices.Contains(args, "pkey") {
				args = append(args, "-passin", "pass:correct")
			}
		}
		if strings.HasPrefix(arg, "new.") {
			out = filepath.Join(dir, arg)
			args[i] = out
		}
	}
	if slices.Contains(args, "-topk8") || slices.Contains(args, "pkcs12") {
		args = append(args, "-passout", "pass:new")
	}
	run("", args...)
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if fipsOnly && !strings.Contains(command, "-saltlen") && strings.Contains(string(b), "ENCRYPTED") {
		return // 8 bytes of salt
	}
	pair, err := parseText(beside+string(b), "new")
	if err != nil || pair.kind == "" ||
		len(pair.chain) != strings.Count(string(b), "BEGIN CERTIFICATE") {
		t.Errorf("converted: %v, %d certificates", err, len(pair.chain))
	}
}

// TestReadmesCommandMakesAKey: People copy the command of the README. Its key
// is read with -nodes and without, in which case openssl 3.0 encrypts the key
// with 3DES.
func TestReadmesCommandMakesAKey(t *testing.T) {
	run := openssl(t)
	if run == nil || fips140.Enabled() { // which refuses 3DES
		return
	}
	for _, command := range commandsOf(t) {
		if !strings.HasPrefix(command, "openssl req ") {
			continue
		}
		for _, passphrase := range []string{"", "correct"} {
			dir := t.TempDir()
			args := strings.Fields(command)[1:]
			for i, arg := range args {
				if strings.HasPrefix(arg, "tls.") {
					args[i] = filepath.Join(dir, arg)
				}
			}
			if passphrase != "" {
				args = slices.DeleteFunc(args, func(a string) bool { return a == "-nodes" })
				args = append(args, "-passout", "pass:"+passphrase)
			}
			run("", args...)
			text, err := SecretFile(filepath.Join(dir, "tls.key"),
				filepath.Join(dir, "tls.crt"))(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			pair, err := parseText(text, passphrase)
			if err != nil || pair.kind != "RSA" || len(pair.chain) != 1 {
				t.Errorf("%s: %v", strings.Join(args, " "), err)
			}
		}
	}
}

// TestThumbprintIsTakenAsOpenSSLPrintsIt: An error names the command that
// prints a thumbprint, and people paste the whole line.
func TestThumbprintIsTakenAsOpenSSLPrintsIt(t *testing.T) {
	run := openssl(t)
	if run == nil || fipsOnly {
		return
	}
	args := strings.Fields(strings.Trim(showThumbprint, "`"))[1:]
	args[slices.Index(args, "tls.crt")] = filepath.Join("testdata", "keys", "p256-cert.pem")
	printed := run("", args...)
	got, err := parseThumbprint(printed)
	block, _ := pem.Decode([]byte(testKey(t, "p256-cert.pem")))
	want := sha1.Sum(block.Bytes)
	if err != nil || !bytes.Equal(got, want[:]) {
		t.Errorf("%q: %x, %v, want %x", printed, got, err, want)
	}
}

// TestTrustedCertificateOfOpenSSLIsRead: OpenSSL adds its trust settings behind
// a certificate. They are not part of the certificate, nor of its thumbprint.
func TestTrustedCertificateOfOpenSSLIsRead(t *testing.T) {
	run := openssl(t)
	if run == nil {
		return
	}
	cert := filepath.Join("testdata", "keys", "p256-cert.pem")
	blocks := readPEM(run("", "x509", "-in", cert, "-trustout", "-addtrust", "clientAuth"))
	if len(blocks) != 1 || blocks[0].label != labelTrustedCert {
		t.Fatalf("got %v, want %s", blocks, labelTrustedCert)
	}
	block, _ := pem.Decode([]byte(testKey(t, "p256-cert.pem")))
	if c := readCertificate(blocks[0]); c.Certificate == nil || !bytes.Equal(c.Raw, block.Bytes) {
		t.Errorf("%s: %s", labelTrustedCert, c.problem)
	}
}
