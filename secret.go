//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
)

var errTooBig = errors.New("content has more than 1 MiB")

// Secret yields a secret when it is needed, anew for each exchange with the identity provider, so that one that was rotated on disk or in a vault is picked up
// without a restart. Being a function, it cannot be printed by accident. It is called concurrently if providers share it, with a context of at most 30 seconds.
type Secret func(ctx context.Context) (string, error)

// SecretString returns a Secret that yields s. For "" it returns nil, as if the field were not set, so that the constructor finds an unset environment variable.
//
//go:noinline
func SecretString(s string) Secret {
	if s == "" {
		return nil
	}
	return func(context.Context) (string, error) { return s, nil }
}

// stringSecret is the code of what SecretString returns, not inlined for that: it can neither hang nor panic, and needs no guard, a fifth of a request's cost.
var stringSecret = reflect.ValueOf(SecretString("x")).Pointer()

// SecretFile returns a Secret that reads a file anew each time. The contents of several files (tls.key, tls.crt) are joined by a newline. The last newline, which
// editors add, is dropped. Without a path, or with an empty one, it returns nil, as if the field were not set. Each file may have 1 MiB at most.
func SecretFile(path ...string) Secret {
	paths := slices.Clone(path)
	if len(paths) == 0 || slices.Contains(paths, "") {
		return nil
	}
	return func(context.Context) (text string, err error) {
		for _, p := range paths {
			f, e := os.Open(p)
			b, e2 := io.ReadAll(io.LimitReader(f, 1<<20+1))
			if f.Close(); len(b) > 1<<20 { // it is no secret
				e2 = &os.PathError{Op: "read", Path: p, Err: errTooBig}
			}
			if err = cmp.Or(e, e2); err != nil {
				return "", err // a *PathError: the path, never the content
			}
			text += string(b) + "\n"
		}
		return strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\n"), "\r"), nil
	}
}

func (s Secret) read(ctx context.Context, field string) (string, error) { // calls s as it must be called everywhere: guarded, and with an error that names the field
	if reflect.ValueOf(s).Pointer() == stringSecret {
		return s(ctx)
	}
	v, err := guard(ctx, field, s)
	return v, cmp.Or(err, refuse("cdfauth: "+field, []refusal{{v == "", " yielded an empty string"}}))
}
