//go:build go1.24

package cdfauth

import (
	"errors"
	"os"
	"syscall"
	"unsafe"
)

// This file opens, judges and locks the files of a FileCache on Windows. A file is judged
// once it is open, not by its name. Who may open it is up to the access control list that
// it inherits from its directory, and that this package does not look at.

// lockFileEx is in kernel32.dll. Every process has that from its start, so that no other
// file of that name can be loaded.
var lockFileEx = syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")

// Flags of LockFileEx.
const (
	lockFileFailImmediately = 1
	lockFileExclusive       = 2
)

const (
	// errorWriteProtect is ERROR_WRITE_PROTECT: the disk is read-only.
	errorWriteProtect = syscall.Errno(19)

	// errorSharingViolation is ERROR_SHARING_VIOLATION: somebody has the file open and
	// does not share it.
	errorSharingViolation = syscall.Errno(32)

	// errLocked is ERROR_LOCK_VIOLATION: somebody else has the lock.
	errLocked = syscall.Errno(33)
)

// openFlags make CreateFile open a symbolic link itself, and a directory, so that judge can
// refuse them.
const openFlags = syscall.FILE_FLAG_OPEN_REPARSE_POINT | syscall.FILE_FLAG_BACKUP_SEMANTICS

// openCacheFile opens the cache file for reading. It refuses whatever is not a regular
// file or has another hard link.
//
// Package os does not ask for FILE_SHARE_DELETE, with which a writer can rename over
// the file while it is read.
func openCacheFile(path string) (*os.File, error) {
	const share = syscall.FILE_SHARE_READ | syscall.FILE_SHARE_WRITE | syscall.FILE_SHARE_DELETE
	return openTrusted(path, syscall.GENERIC_READ, share, syscall.OPEN_EXISTING)
}

// openToOverwrite opens the cache file for writing, and refuses what openCacheFile refuses.
// Nothing calls it on Windows, where no file is mounted by itself.
func openToOverwrite(path string) (*os.File, error) {
	const share = syscall.FILE_SHARE_READ
	return openTrusted(path, syscall.GENERIC_WRITE, share, syscall.OPEN_EXISTING)
}

// openLockFile opens the lock file, which it makes if need be, and locks it. It fails
// with errLocked if somebody else has the lock. It refuses what openCacheFile refuses.
// While the file is open, nobody can rename or remove it.
func openLockFile(path string) (*os.File, error) {
	const access = syscall.GENERIC_READ | syscall.GENERIC_WRITE
	const share = syscall.FILE_SHARE_READ | syscall.FILE_SHARE_WRITE
	file, err := openTrusted(path, access, share, syscall.OPEN_ALWAYS)
	if err != nil {
		return nil, err
	}
	const flags = lockFileExclusive | lockFileFailImmediately
	overlapped := unsafe.Pointer(new(syscall.Overlapped))
	locked, _, err := lockFileEx.Call(file.Fd(), flags, 0, 1, 0, uintptr(overlapped))
	if locked == 0 {
		file.Close()
		return nil, &os.PathError{Op: "lock", Path: path, Err: err}
	}
	return file, nil
}

// openTrusted opens a file with CreateFile, and refuses it if judge does.
func openTrusted(path string, access, share, create uint32) (*os.File, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	handle, err := syscall.CreateFile(name, access, share, nil, create, openFlags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	file := os.NewFile(uintptr(handle), path)
	if err := judge(file); err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// judge returns an error if a file is not a regular one or has another hard link.
func judge(file *os.File) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	mode := info.Mode()
	switch {
	case mode&os.ModeSymlink != 0:
		return untrusted(file.Name(), "is a symbolic link, which is not followed", true)
	case mode.IsDir():
		return untrusted(file.Name(), "is a directory", false)
	case !mode.IsRegular():
		return untrusted(file.Name(), "is not a regular file", false)
	}
	var details syscall.ByHandleFileInformation
	err = syscall.GetFileInformationByHandle(syscall.Handle(file.Fd()), &details)
	if err != nil {
		return &os.PathError{Op: "stat", Path: file.Name(), Err: err}
	}
	if details.NumberOfLinks > 1 {
		return untrusted(file.Name(), "has another hard link", true)
	}
	return nil
}

// moveLockAside renames what is in the place of the lock file to the name with ".bad"
// after it. A good lock file that another program has made and locked since cannot be
// renamed: see openLockFile.
func moveLockAside(path string) error { return os.Rename(path, path+".bad") }

// narrow does nothing: there are no modes.
func narrow(string) {}

// syncFile is file.Sync, which every file system of Windows has.
func syncFile(file *os.File) error { return file.Sync() }

// isBusy reports whether an error passes, because somebody has the file open or is
// replacing it.
func isBusy(err error) bool {
	return errors.Is(err, errorSharingViolation) || errors.Is(err, syscall.ERROR_ACCESS_DENIED)
}

// isReadOnly reports whether an error is that of a disk that cannot be written.
func isReadOnly(err error) bool { return errors.Is(err, errorWriteProtect) }

// isMountPoint reports false: no file is mounted by itself.
func isMountPoint(error) bool { return false }
