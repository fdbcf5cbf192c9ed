//go:build go1.24 && (darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package cdfauth

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// This file opens, judges and locks the files of a FileCache on Unix. A file is judged
// once it is open, not by its name, which may be another file's by then.

// errLocked is the error of flock for a lock that somebody else has.
const errLocked = syscall.EWOULDBLOCK

// openFlags make open refuse a symbolic link, not wait for the other end of a pipe,
// and not take a terminal as the program's own.
const openFlags = syscall.O_NOFOLLOW | syscall.O_NONBLOCK | syscall.O_NOCTTY

// openCacheFile opens the cache file for reading. It refuses whatever is not a regular
// file, belongs to another user, has another hard link, or can be written by others,
// unless it is in a directory that only this user can enter. A mode wider than 0600 is
// narrowed if the system lets it: the content is as good on a read-only file system.
func openCacheFile(path string) (*os.File, error) {
	return openTrusted(path, os.O_RDONLY)
}

// openToOverwrite is openCacheFile for writing.
func openToOverwrite(path string) (*os.File, error) {
	return openTrusted(path, os.O_WRONLY)
}

func openTrusted(path string, flag int) (*os.File, error) {
	file, info, err := openOurs(path, flag)
	if err != nil {
		return nil, err
	}
	mode := info.Mode()
	switch {
	case linkCount(info) > 1:
		err = untrusted(path, "has another hard link", true)
	case mode&0o022 != 0 && !isPrivate(filepath.Dir(path)):
		err = untrusted(path, fmt.Sprintf("can be written by others (mode %04o)", mode.Perm()), true)
	case mode.Perm()&^0o600 != 0:
		file.Chmod(mode & 0o600)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// openLockFile opens the lock file, which it makes if need be, and locks it. It fails
// with errLocked if somebody else has the lock. It refuses whatever is not a regular
// file, belongs to another user, or has another hard link: to lock that could be to
// lock another program's file. A wider mode is narrowed. A wider one is no danger
// otherwise: the lock file has no content, and whoever can read it can lock it.
func openLockFile(path string) (*os.File, error) {
	file, info, err := openOurs(path, os.O_RDWR|os.O_CREATE)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		// A lock file that is there can be locked where nothing can be written.
		var readErr error
		file, info, readErr = openOurs(path, os.O_RDONLY)
		if !errors.Is(readErr, os.ErrNotExist) {
			err = readErr
		}
	}
	if err != nil {
		return nil, err
	}
	// It is locked before its links are counted: a file that was given a second link
	// while its holder was at work is moved aside only when the holder is done.
	err = flock(file)
	if err == nil && linkCount(info) > 1 {
		err = untrusted(path, "has another hard link", true)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	if mode := info.Mode(); mode.Perm()&^0o600 != 0 {
		file.Chmod(mode & 0o600)
	}
	return file, nil
}

// moveLockAside renames what is in the place of the lock file to the name with ".bad"
// after it. It holds a lock of the directory meanwhile: otherwise, of two programs that
// find the same bad file, the second could rename the good one that the first has made
// and locked since.
func moveLockAside(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := flock(dir); err != nil {
		return err
	}
	lock, err := openLockFile(path)
	if err == nil {
		return lock.Close()
	}
	if !isMovable(err) {
		return err
	}
	return os.Rename(path, path+".bad")
}

// flock locks a file, or fails with errLocked if somebody else has the lock. The system
// releases the lock when the file is closed or the program dies.
func flock(file *os.File) error {
	err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		return &os.PathError{Op: "lock", Path: file.Name(), Err: err}
	}
	return nil
}

// openOurs opens a file, and refuses whatever is not a regular file or belongs to
// another user.
func openOurs(path string, flag int) (*os.File, os.FileInfo, error) {
	file, openErr := os.OpenFile(path, flag|openFlags, 0o600)
	if openErr != nil {
		// Each system has another error for a symbolic link, and what is another
		// user's may not be opened at all.
		if info, err := os.Lstat(path); err == nil {
			if err := judge(path, info); err != nil {
				return nil, nil, err
			}
		}
		return nil, nil, openErr
	}
	info, err := file.Stat()
	if err == nil {
		err = judge(path, info)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

// judge returns an error if a file is not a regular one or belongs to another user. A
// directory, a pipe or a device was not put there by mistake of a cache, and stays. So
// does what another user may have put into a directory that others can enter.
func judge(path string, info os.FileInfo) error {
	mode := info.Mode()
	switch {
	case mode&os.ModeSymlink != 0:
		movable := isOurs(info) || isPrivate(filepath.Dir(path))
		return untrusted(path, "is a symbolic link, which is not followed", movable)
	case mode.IsDir():
		return untrusted(path, "is a directory", false)
	case !mode.IsRegular():
		return untrusted(path, "is not a regular file", false)
	case !isOurs(info):
		reason := fmt.Sprintf("does not belong to this user (%d)", os.Geteuid())
		return untrusted(path, reason, isPrivate(filepath.Dir(path)))
	}
	return nil
}

// isPrivate reports whether a directory is this user's and closed to group and others:
// then nobody else can have made or changed what is in it.
func isPrivate(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir() && isOurs(info) && info.Mode()&0o077 == 0
}

func isOurs(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// linkCount returns how many names a file has: none, if it was replaced since it was
// opened.
func linkCount(info os.FileInfo) uint64 {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return uint64(stat.Nlink)
}

// narrow takes the rights of group and others from a regular file of ours of one link,
// if there is one.
func narrow(path string) {
	file, info, err := openOurs(path, os.O_RDONLY)
	if err != nil {
		return
	}
	defer file.Close()
	if linkCount(info) == 1 {
		file.Chmod(info.Mode() & 0o600)
	}
}

// syncFile is file.Sync on a file system that knows it. Others do not make the content
// any less safe by saying so.
func syncFile(file *os.File) error {
	err := file.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// isBusy reports whether an error passes because another program has the file open,
// which no other program can do to us on Unix.
func isBusy(error) bool { return false }

// isReadOnly reports whether an error is that of a read-only file system, or of one
// that has no locks, such as some NFS.
func isReadOnly(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOLCK)
}

// isMountPoint reports whether a rename failed because the file is mounted by itself.
func isMountPoint(err error) bool { return errors.Is(err, syscall.EBUSY) }
