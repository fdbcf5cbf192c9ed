//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package cdfauth

import (
	"fmt"
	"os"
	"syscall"
)

// openPrivate opens the cache, or with create its lock file, without following
// a symbolic link and without waiting for the other end of a FIFO. What it
// opened is looked at, not the path, which may already mean something else.
func openPrivate(path string, create bool) (*os.File, error) {
	flag := os.O_RDONLY
	if create {
		flag = os.O_RDWR | os.O_CREATE // writable: NFS grants an exclusive lock on nothing less
	}
	f, err := os.OpenFile(path, flag|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	if err := checkPrivate(f, path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func checkPrivate(f *os.File, path string) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	mode := info.Mode()
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !mode.IsRegular() || !ok:
		return refuse(path, "is not a regular file")
	case int64(stat.Uid) != int64(os.Geteuid()):
		return refuse(path, fmt.Sprintf("is owned by user %d, not by us (%d)", stat.Uid, os.Geteuid()))
	case stat.Nlink > 1: // none is left when a writer has replaced what a reader just opened
		return refuse(path, "has more than one name (hard links)")
	case mode.Perm()&0o022 != 0:
		return refuse(path, fmt.Sprintf("is writable by others (mode %04o)", mode.Perm()))
	case mode.Perm()&^0o600 != 0:
		return f.Chmod(mode.Perm() & 0o600)
	}
	return nil
}

// tryLock locks f until it is closed, or returns false if somebody else has it
// locked. The lock belongs to the open file, not to the process as one of
// fcntl would: it keeps out other opens in this process too.
func tryLock(f *os.File) (bool, error) {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
		case nil:
			return true, nil
		case syscall.EWOULDBLOCK:
			return false, nil
		case syscall.EINTR:
		default:
			return false, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
	}
}

// isBusy is for Windows: here an open file can be renamed and removed.
func isBusy(error) bool { return false }
