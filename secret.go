//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"unicode"
)

// This file is about secrets that a program was given: client secrets,
// assertions, private keys and passphrases. A Secret is a function. The package
// calls it when it is about to use the secret, and does not keep what it returns.

// Secret returns a secret when it is needed. The package calls it anew for each
// exchange with the identity provider, so that a secret that was rotated on
// disk or in a vault is used without a restart. Being a function, a Secret
// cannot be printed by accident. Its context ends after 30 seconds at most. If
// several providers share a Secret, they call it concurrently.
//
// Secrets arrive with what files, shells and editors add to them. The package
// drops what cannot be part of a secret: a byte order mark at its start, after
// which text in UTF-16 is converted, and, but for a private key, line ends at
// its end. Token returns an error if a secret has quotes around it, if it has a
// control character or another one that cannot be part of it, or if a
// ClientAssertion is not a JWT. The error names the field and what is wrong.
// No error shows the secret.
type Secret func(ctx context.Context) (string, error)

// SecretString returns a Secret that returns s. For the empty string it returns
// nil, as if the field were not set. So the constructor notices an environment
// variable that is not set: SecretString(os.Getenv("IDP_CLIENT_SECRET")).
func SecretString(s string) Secret {
	if s == "" {
		return nil
	}
	return func(context.Context) (string, error) { return s, nil }
}

// SecretFile returns a Secret that reads a file each time. It joins the contents
// of several files, such as tls.key and tls.crt, by a newline. It drops the last
// newline, which editors add, and a byte order mark at the start of each file,
// after which it converts text in UTF-16. The Secret returns an error if a file
// cannot be read, or has more than 1 MiB. Without a path, or with an empty one,
// SecretFile returns nil, as if the field were not set.
func SecretFile(path ...string) Secret {
	if len(path) == 0 || slices.Contains(path, "") {
		return nil
	}
	paths := slices.Clone(path)
	return func(context.Context) (string, error) {
		var texts []string
		for _, path := range paths {
			text, err := readSecretFile(path)
			if err != nil {
				return "", err
			}
			texts = append(texts, text)
		}
		text := strings.TrimSuffix(strings.Join(texts, "\n"), "\n")
		return strings.TrimSuffix(text, "\r"), nil
	}
}

// maxSecretFile is how long a file with a secret may be, in bytes. A longer file
// was named by mistake.
const maxSecretFile = 1 << 20

// errTooBig is the error of a file that is longer than maxSecretFile.
var errTooBig = errors.New("content has more than 1 MiB")

// readSecretFile returns the text in a file, as decodeText returns it. Its errors
// show the path, and never the content.
func readSecretFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	if err != nil {
		return "", err
	}
	if len(content) > maxSecretFile {
		return "", &os.PathError{Op: "read", Path: path, Err: errTooBig}
	}
	return decodeText(string(content)), nil
}

// read returns the secret for a field of a configuration. All code of the package
// calls a Secret by read, because a Secret may hang or panic, and because the
// error has to name the field.
func (s Secret) read(ctx context.Context, field string) (string, error) {
	text, err := guard(ctx, field, s)
	if err != nil {
		return "", err
	}
	text = decodeText(text)
	if text == "" {
		return "", badField(field, "yielded an empty string")
	}
	return text, nil
}

// readLine returns the secret for a field whose secret is one line. It fails if
// the line has quotes around it, or if problemOf returns a problem, which
// continues the sentence that the field's name begins. If such a secret were sent,
// the identity provider would answer invalid_client, which does not say what is
// wrong with it.
func (s Secret) readLine(
	ctx context.Context, field string, problemOf func(line string) string,
) (string, error) {
	text, err := s.read(ctx, field)
	if err != nil {
		return "", err
	}
	line := strings.TrimRight(text, "\r\n")
	if line == "" {
		return "", badField(field, "yielded nothing but line ends")
	}
	if isQuoted(line) {
		return "", badField(field, "has quotes around it: want it without")
	}
	if problem := problemOf(line); problem != "" {
		return "", badField(field, "%s", problem)
	}
	return line, nil
}

// clientSecretProblem says what is wrong with a client secret; "" if nothing is.
// RFC 6749 appendix A.2 allows ASCII alone, but some providers let people choose
// secrets with other characters.
func clientSecretProblem(secret string) string {
	if found := findCharacter(secret, notPrintable); found != "" {
		return "has " + found + ", which cannot be part of a client secret"
	}
	return ""
}

// passphraseProblem says what is wrong with a passphrase; "" if nothing is. A
// passphrase may have any bytes but control characters, which nobody can type.
func passphraseProblem(passphrase string) string {
	if found := findCharacter(passphrase, unicode.IsControl); found != "" {
		return "has " + found + ", which cannot be part of a passphrase"
	}
	return ""
}

// assertionProblem says why an assertion is not a JWT; "" if it is one. A JWT is
// three parts of base64url with dots between them (RFC 7515 §7.1), or five if it
// is encrypted (RFC 7516 §7.1). Parts in the middle may be empty, as the encrypted
// key can be. The rest is for the identity provider to check.
func assertionProblem(assertion string) string {
	if strings.HasPrefix(assertion, "{") {
		return "is a JSON object: want the JWT alone"
	}
	if found := findCharacter(assertion, notVisibleASCII); found != "" {
		return "has " + found + ", which cannot be part of a JWT"
	}
	dots := strings.Count(assertion, ".")
	if dots != 2 && dots != 4 || !isName(assertion, "-_.") ||
		strings.Trim(assertion, ".") != assertion {
		return fmt.Sprintf("is not a JWT: want three parts of base64url with dots between them, "+
			"and it has %d bytes and %d dots", len(assertion), dots)
	}
	return ""
}
