//go:build go1.24 && (darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package cdfauth

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

const errLocked = syscall.EWOULDBLOCK

// tryOpen opens and checks the cache file for reading; or the lock file, which it makes and locks. It follows no symbolic link and waits for no pipe.
func tryOpen(name string, lock bool) (*os.File, error) {
	flag := os.O_RDONLY
	if lock {
		flag = os.O_RDWR | os.O_CREATE
	}
	f, err := os.OpenFile(name, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0o600)
	if err != nil {
		return nil, err
	}
	if err = checkFile(f); err == nil && lock {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return f, nil
}

func checkFile(f *os.File) error { // judges the open file, not its name, which may be another's by now
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	switch mode := fi.Mode(); {
	case !mode.IsRegular():
		return errors.New("is not a regular file")
	case !ok || int(st.Uid) != os.Geteuid():
		return fmt.Errorf("does not belong to this user (%d)", os.Geteuid())
	case st.Nlink > 1: // none, if it was replaced since it was opened
		return errors.New("has another hard link")
	case mode&0o022 != 0:
		return fmt.Errorf("can be written by others (mode %04o)", mode.Perm())
	case mode.Perm()&^0o600 != 0:
		return f.Chmod(mode & 0o600)
	}
	return nil
}

func busy(error) bool { return false }
