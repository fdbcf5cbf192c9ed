package cdfauth

import (
	"errors"
	"os"
	"syscall"
	"unsafe"
)

// What package syscall does not have: winerror.h, and the flags of LockFileEx.
const (
	errorSharingViolation = syscall.Errno(32)
	errorLockViolation    = syscall.Errno(33)
	failImmediately       = 1
	exclusiveLock         = 2
)

var lockFileEx = syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx") // loaded in every process

// openPrivate opens the cache, or with create its lock file, without following
// a link of any kind. The cache is shared for deletion, so that a reader does
// not stop a writer's rename; the lock file is not, so that it stays.
func openPrivate(path string, create bool) (*os.File, error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var access, share, how uint32 = syscall.GENERIC_READ, syscall.FILE_SHARE_READ | syscall.FILE_SHARE_WRITE | syscall.FILE_SHARE_DELETE, syscall.OPEN_EXISTING
	if create {
		access, share, how = syscall.GENERIC_READ|syscall.GENERIC_WRITE, syscall.FILE_SHARE_READ|syscall.FILE_SHARE_WRITE, syscall.OPEN_ALWAYS
	}
	var h syscall.Handle
	err = retryBusy(func() (err error) {
		h, err = syscall.CreateFile(name, access, share, nil, how, syscall.FILE_FLAG_OPEN_REPARSE_POINT|syscall.FILE_FLAG_BACKUP_SEMANTICS, 0)
		return err
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	if err := checkHandle(h, path); err != nil {
		_ = syscall.CloseHandle(h)
		return nil, err
	}
	return os.NewFile(uintptr(h), path), nil
}

func checkHandle(h syscall.Handle, path string) error {
	if kind, err := syscall.GetFileType(h); err != nil || kind != syscall.FILE_TYPE_DISK {
		return refuse(path, "is not a file") // but a device or a pipe
	}
	var info syscall.ByHandleFileInformation
	if err := syscall.GetFileInformationByHandle(h, &info); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	switch {
	case info.FileAttributes&(syscall.FILE_ATTRIBUTE_REPARSE_POINT|syscall.FILE_ATTRIBUTE_DIRECTORY) != 0:
		return refuse(path, "is not a regular file")
	case info.NumberOfLinks > 1:
		return refuse(path, "has more than one name (hard links)")
	}
	return nil
}

// tryLock locks f until it is closed, or returns false if somebody else has it
// locked, in this process too: the lock belongs to the handle.
func tryLock(f *os.File) (bool, error) {
	var o syscall.Overlapped
	ok, _, err := lockFileEx.Call(f.Fd(), exclusiveLock|failImmediately, 0, 1, 0, // one byte: a lock may lie beyond the end
		uintptr(unsafe.Pointer(&o)))
	switch {
	case ok != 0:
		return true, nil
	case err == errorLockViolation || err == syscall.ERROR_IO_PENDING:
		return false, nil
	}
	return false, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
}

// isBusy reports whether err may mean that another program has the file open.
// Renaming over such a file is "access denied", and so is opening one that is
// being removed.
func isBusy(err error) bool {
	return errors.Is(err, errorSharingViolation) || errors.Is(err, errorLockViolation) || errors.Is(err, syscall.ERROR_ACCESS_DENIED)
}
