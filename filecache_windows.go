//go:build go1.24

package cdfauth

import (
	"errors"
	"os"
	"syscall"
	"unsafe"
)

var lockFileEx = syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx") // kernel32 is in every process from its start: no other file of that name is loaded

const errorSharingViolation, errLocked = syscall.Errno(32), syscall.Errno(33) // the second is ERROR_LOCK_VIOLATION

// tryOpen opens and checks the cache file for reading; or the lock file, which it makes if need be and locks. A symbolic link or a directory is itself opened, to
// be refused. FILE_SHARE_DELETE, which package os does not ask for, lets a writer rename over the file that is being read.
func tryOpen(name string, lock bool) (*os.File, error) {
	access, share, create := uint32(syscall.GENERIC_READ), uint32(syscall.FILE_SHARE_READ|syscall.FILE_SHARE_WRITE|syscall.FILE_SHARE_DELETE), uint32(syscall.OPEN_EXISTING)
	if lock {
		access, share, create = syscall.GENERIC_READ|syscall.GENERIC_WRITE, syscall.FILE_SHARE_READ|syscall.FILE_SHARE_WRITE, syscall.OPEN_ALWAYS
	}
	var h syscall.Handle
	name16, err := syscall.UTF16PtrFromString(name)
	if err == nil {
		h, err = syscall.CreateFile(name16, access, share, nil, create, syscall.FILE_FLAG_OPEN_REPARSE_POINT|syscall.FILE_FLAG_BACKUP_SEMANTICS, 0)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(h), name)
	if err = checkFile(f); err == nil && lock {
		const exclusiveAtOnce = 2 | 1 // LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY
		if ok, _, e := lockFileEx.Call(uintptr(h), exclusiveAtOnce, 0, 1, 0, uintptr(unsafe.Pointer(new(syscall.Overlapped)))); ok == 0 {
			err = e
		}
	}
	if err != nil {
		f.Close()
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return f, nil
}

func checkFile(f *os.File) error {
	var info syscall.ByHandleFileInformation
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() {
		return errors.Join(errors.New("is not a regular file"), err)
	}
	if err := syscall.GetFileInformationByHandle(syscall.Handle(f.Fd()), &info); err != nil || info.NumberOfLinks > 1 {
		return errors.Join(errors.New("has another hard link"), err)
	}
	return nil
}

func busy(err error) bool { // tells the errors that pass: somebody has the file open or is replacing it
	return errors.Is(err, errorSharingViolation) || errors.Is(err, syscall.ERROR_ACCESS_DENIED)
}
