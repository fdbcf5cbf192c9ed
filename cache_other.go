//go:build !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package cdfauth

import (
	"errors"
	"os"
)

// Without a lock that ends with its process a FileCache cannot keep its word,
// so there is none: nothing can be opened.

func openPrivate(path string, create bool) (*os.File, error) {
	return nil, &os.PathError{Op: "open", Path: path, Err: errors.ErrUnsupported}
}

func tryLock(*os.File) (bool, error) { return false, errors.ErrUnsupported }

func isBusy(error) bool { return false }
