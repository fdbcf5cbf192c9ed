//go:build go1.24 && !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package cdfauth

import (
	"errors"
	"os"
)

// This file refuses a FileCache where no lock is known that the system releases when
// its holder dies.

var errLocked = errors.New("locked")

// openCacheFile refuses every file.
func openCacheFile(path string) (*os.File, error) { return unsupported(path) }

// openToOverwrite refuses every file.
func openToOverwrite(path string) (*os.File, error) { return unsupported(path) }

// openLockFile refuses every file.
func openLockFile(path string) (*os.File, error) { return unsupported(path) }

func unsupported(path string) (*os.File, error) {
	return nil, &os.PathError{Op: "open", Path: path, Err: errors.ErrUnsupported}
}

func moveLockAside(string) error { return errors.ErrUnsupported }

func narrow(string) {}

func syncFile(file *os.File) error { return file.Sync() }

func isBusy(error) bool { return false }

func isReadOnly(error) bool { return false }

func isMountPoint(error) bool { return false }
