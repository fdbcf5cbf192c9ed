//go:build go1.24 && !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package cdfauth

import (
	"errors"
	"os"
)

// This file is for the systems of which the package knows no lock that the system releases
// when its holder dies: Solaris, WebAssembly, Plan 9 and AIX. On them, Get and Update of a
// FileCache fail, and no file is opened.

// errLocked is returned by nothing here.
var errLocked = errors.New("locked")

// openCacheFile refuses every file.
func openCacheFile(path string) (*os.File, error) { return unsupported(path) }

// openToOverwrite refuses every file.
func openToOverwrite(path string) (*os.File, error) { return unsupported(path) }

// openLockFile refuses every file.
func openLockFile(path string) (*os.File, error) { return unsupported(path) }

// unsupported returns the error of a file that cannot be opened here.
func unsupported(path string) (*os.File, error) {
	return nil, &os.PathError{Op: "open", Path: path, Err: errors.ErrUnsupported}
}

// None of the functions below is called with a file of a FileCache, since none is opened.

func moveLockAside(string) error { return errors.ErrUnsupported }

func narrow(string) {}

func syncFile(file *os.File) error { return file.Sync() }

func isBusy(error) bool { return false }

func isReadOnly(error) bool { return false }

func isMountPoint(error) bool { return false }
