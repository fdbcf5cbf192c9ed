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
// file, belongs to another user, or has another hard link. It also refuses a file that
// others can write, unless the directory is one that only this user can enter. It narrows
// a mode wider than 0600 if it can.
func openCacheFile(path string) (*os.File, error) {
	return openTrusted(path, os.O_RDONLY)
}

// openToOverwrite opens the cache file for writing, and refuses what openCacheFile refuses.
func openToOverwrite(path string) (*os.File, error) {
	return openTrusted(path, os.O_WRONLY)
}

// openTrusted does what openCacheFile says, with the flag of os.OpenFile for reading or
// for writing.
func openTrusted(path string, flag int) (*os.File, error) {
	file, info, err := openOurs(path, flag)
	if err != nil {
		return nil, err
	}
	mode := info.Mode()
	switch {
	case linkCount(info) > 1:
		err = hasAnotherLink(path)
	case mode&0o022 != 0 && !isPrivate(filepath.Dir(path)):
		err = untrusted(path, fmt.Sprintf("can be written by others (mode %04o)", mode.Perm()), true)
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	narrowMode(file, info)
	return file, nil
}

// hasAnotherLink returns the error of a file that another name leads to as well.
func hasAnotherLink(path string) error { return untrusted(path, "has another hard link", true) }

// narrowMode takes the rights of group and others from a file. It reports no error: on a
// read-only file system the content is as good.
func narrowMode(file *os.File, info os.FileInfo) {
	mode := info.Mode()
	if mode.Perm()&^0o600 != 0 {
		file.Chmod(mode & 0o600)
	}
}

// openLockFile opens the lock file, which it makes if need be, and locks it. It fails
// with errLocked if somebody else has the lock. It refuses whatever is not a regular
// file, belongs to another user, or has another hard link, because that may be another
// program's file. It does not refuse a file that others can write: the lock file has no
// content, and whoever can read it can lock it anyway.
func openLockFile(path string) (*os.File, error) {
	file, _, err := openOurs(path, os.O_RDWR|os.O_CREATE)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS) {
		// A lock file that is there can be locked where nothing can be written.
		var readErr error
		file, _, readErr = openOurs(path, os.O_RDONLY)
		if !errors.Is(readErr, os.ErrNotExist) {
			err = readErr
		}
	}
	if err != nil {
		return nil, err
	}
	err = lockAndCheck(file)
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// lockAndCheck locks the lock file, refuses it if it has another hard link, and narrows
// its mode.
//
// It counts the links when it has the lock. Then a file that was given a second link while
// its holder was at work is moved aside only when the holder is done. And a program that
// opened the file just before another one moved it aside does not go on with its lock.
func lockAndCheck(file *os.File) error {
	err := flock(file)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if linkCount(info) > 1 {
		return hasAnotherLink(file.Name())
	}
	narrowMode(file, info)
	return nil
}

// moveLockAside renames what is in the place of the lock file to the name with ".bad"
// after it. Meanwhile it holds a lock of the directory. Two programs may find the same bad
// file: without that lock, the second could rename the good file that the first has made
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
	bad := path + ".bad"
	if isSameFile(path, bad) {
		// Rename does nothing if both names are of one file.
		return os.Remove(path)
	}
	return os.Rename(path, bad)
}

// isSameFile reports whether both names are of one file. It follows no symbolic link.
func isSameFile(path, other string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	otherInfo, err := os.Lstat(other)
	return err == nil && os.SameFile(info, otherInfo)
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
		// The error says little: each system has another one for a symbolic link, and
		// another user's file may not be opened at all.
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

// judge returns an error if a file is not a regular one or belongs to another user. The
// error says that a directory, a pipe or a device cannot be moved aside: somebody has put
// it there for a purpose. Another user's file can be moved aside only in a directory that
// nobody else can enter.
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

// isOurs reports whether a file belongs to this user.
func isOurs(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// linkCount returns how many names a file has. It returns 0 if the file was replaced or
// removed since it was opened.
func linkCount(info os.FileInfo) uint64 {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return uint64(stat.Nlink)
}

// narrow takes the rights of group and others from the file at path, if it is a regular
// one, is ours, and has no other name.
func narrow(path string) {
	file, info, err := openOurs(path, os.O_RDONLY)
	if err != nil {
		return
	}
	defer file.Close()
	if linkCount(info) == 1 {
		narrowMode(file, info)
	}
}

// syncFile is file.Sync. It reports no error on a file system that cannot sync, such as
// some of FUSE: there, the content is as safe as it can be.
func syncFile(file *os.File) error {
	err := file.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		return nil
	}
	return err
}

// isBusy reports whether an error passes. A signal can interrupt flock, on some network
// file systems. Package os repeats its own system calls then, and flock is not one of
// them. On Unix it does no harm if another program has the file open.
func isBusy(err error) bool { return errors.Is(err, syscall.EINTR) }

// isReadOnly reports whether an error is that of a read-only file system, or of a file
// system that has no locks, such as some of NFS.
func isReadOnly(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOLCK)
}

// isMountPoint reports whether a rename failed because the file is mounted by itself.
func isMountPoint(err error) bool { return errors.Is(err, syscall.EBUSY) }
