//go:build go1.24

package cdfauth

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
)

// This file is about secrets that a program was given: client secrets,
// assertions, private keys and passphrases. A secret is a function, which the
// package calls when it is about to use the secret. It is not kept.

// Secret returns a secret when it is needed. The package calls it anew for each
// exchange with the identity provider, so that a secret that was rotated on
// disk or in a vault is used without a restart. Being a function, a Secret
// cannot be printed by accident. Its context ends after 30 seconds at most. If
// several providers share a Secret, they call it concurrently.
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
// newline, which editors add, is dropped. A file may have 1 MiB at most. Without
// a path, or with an empty one, SecretFile returns nil, as if the field were not
// set.
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

// readSecretFile returns the content of a file. Its errors have the path, and
// never the content.
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
	return string(content), nil
}

// read calls the function for a field of a configuration. Everybody calls it
// this way: it may hang or panic, and its error has to name the field.
func (s Secret) read(ctx context.Context, field string) (string, error) {
	text, err := guard(ctx, field, s)
	if err != nil {
		return "", err
	}
	if text == "" {
		return "", badField(field, "yielded an empty string")
	}
	return text, nil
}
