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
// assertions, private keys and passphrases. A secret is a function, which the
// package calls when it is about to use the secret. It is not kept.

// Secret returns a secret when it is needed. The package calls it anew for each
// exchange with the identity provider, so that a secret that was rotated on
// disk or in a vault is used without a restart. Being a function, a Secret
// cannot be printed by accident. Its context ends after 30 seconds at most. If
// several providers share a Secret, they call it concurrently.
//
// Secrets arrive with what files, shells and editors add to them. The package
// drops what cannot be part of a secret: a byte order mark at its start, after
// which text in UTF-16 is converted, and, but for a private key, line ends at
// its end. An error of Token names the field and what is wrong with its secret
// if that has quotes around it, if it has a control character or another one
// that cannot be part of it, or if a ClientAssertion is not a JWT. No error
// shows the secret.
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

// SecretFile returns a Secret that reads a file each time. The contents of
// several files, such as tls.key and tls.crt, are joined by a newline. The last
// newline, which editors add, is dropped, and so is a byte order mark at the
// start of a file. A file that is marked as UTF-16 is converted. A file may have
// 1 MiB at most. Without a path, or with an empty one, SecretFile returns nil, as
// if the field were not set.
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

// maxSecretFile is how long a file with a secret may be, in bytes. Another file
// is no secret.
const maxSecretFile = 1 << 20

// errTooBig is the error of a file that is longer than it may be.
var errTooBig = errors.New("content has more than 1 MiB")

// readSecretFile returns the text in a file. Its errors have the path, and never
// the content.
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

// read calls the function for a field of a configuration. Everybody calls it
// this way: it may hang or panic, and its error has to name the field.
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

// readLine calls the function for a field whose secret is one line, which
// problemOf checks. The identity provider's invalid_client would not say what is
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

// clientSecretProblem says what is wrong with a client secret. RFC 6749 appendix
// A.2 has ASCII alone, but some providers let people choose others.
func clientSecretProblem(secret string) string {
	if found := findCharacter(secret, notPrintable); found != "" {
		return "has " + found + ", which cannot be part of a client secret"
	}
	return ""
}

// passphraseProblem says what is wrong with a passphrase. It may have any bytes
// but control characters, which nobody can type.
func passphraseProblem(passphrase string) string {
	if found := findCharacter(passphrase, unicode.IsControl); found != "" {
		return "has " + found + ", which cannot be part of a passphrase"
	}
	return ""
}

// assertionProblem says why an assertion is not a JWT: three parts of base64url
// with dots between them (RFC 7515 §7.1), or five if it is encrypted (RFC 7516
// §7.1). Nothing else of it is judged, which is for the identity provider to do.
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
