//go:build go1.24

package cdfauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// This file keeps a Cache in a file. A reader opens the file and takes no lock: the
// file is only ever replaced as a whole. A writer locks a second file beside it,
// reads, writes a temporary file, and renames it into place (filecachewrite.go). A
// FileCache neither reads nor writes what another user of the machine could have put
// there. Each kind of system has a file of its own (filecache_unix.go and others) for how
// the FileCache judges and locks a file.

// maxCacheSize is the largest content that is read or written, in bytes: 1 MiB.
const maxCacheSize = 1 << 20

const (
	// firstPause is how long a writer waits before it asks for the lock again. Each
	// further pause is twice as long, up to longestPause.
	firstPause   = 5 * time.Millisecond
	longestPause = 100 * time.Millisecond

	// busyLimit is for how long an operation is repeated that fails for a reason that
	// passes (isBusy).
	busyLimit = 2 * time.Second
)

// An untrustedError says why a file, which exists, is not used.
type untrustedError struct {
	reason string

	// movable says that the file may be moved aside, because nobody needs it where it is.
	movable bool
}

// Error returns the reason, which continues a sentence that begins with the path.
func (e *untrustedError) Error() string { return e.reason }

// isMovable reports whether err is that of a file which is not used, and may be moved
// aside.
func isMovable(err error) bool {
	var untrusted *untrustedError
	return errors.As(err, &untrusted) && untrusted.movable
}

// A FileCache is a [Cache] in a file. [NewFileCache] makes one.
//
// The file is replaced as a whole: whenever a program is killed, a reader sees the
// old content or the new. Before a person or the identity provider is asked for
// anything, room for the new content is reserved in a temporary file, so that a full
// disk is an error before a token is redeemed that is good for one use. A file that is
// mounted by itself, as into a container, cannot be replaced, and is written in place. A
// reader may then see half of the content: mount the directory instead.
//
// Update locks a second file, whose name has ".lock" after it. The system releases
// the lock when a program dies. The second file stays: if it were removed, one
// program could lock the removed one and another program a new one.
//
// Both files have mode 0600, and are made with their directory, of mode 0700, when
// needed. A wider mode is narrowed. A FileCache does not trust
//
//   - a symbolic link, which it never follows,
//   - a file that has another hard link,
//   - a file that others can write, unless the directory is this user's own and has mode
//     0700,
//   - another user's file in such a directory,
//   - content of more than 1 MiB.
//
// Get then fails with an error that says so. The next Update moves the file aside, to the
// same name with ".bad" after it, and begins with no content. Providers move content that
// they cannot read to the same name. Anything else, such as a directory, a pipe or another
// user's file in a directory that others can enter, is an error of Get and Update, and
// stays as it is.
//
// On Windows, the access control list that files inherit is the protection: choose a
// directory that only its user can open, such as that of [DefaultCachePath]. Without
// flock or LockFileEx (Solaris, WebAssembly), Get and Update fail with
// [errors.ErrUnsupported].
type FileCache struct{ path string }

// NewFileCache returns a Cache in the file at path, which must not be empty. A
// relative path is made absolute now. A path that begins with ~ is an error: a shell
// replaces that by the home directory, and this function does not.
func NewFileCache(path string) (*FileCache, error) {
	if path == "" {
		return nil, errors.New(
			"cdfauth: NewFileCache: path is empty (DefaultCachePath returns a good one)")
	}
	if path[0] == '~' {
		return nil, fmt.Errorf("cdfauth: NewFileCache: path %q begins with ~, which only "+
			"a shell replaces by the home directory: want the whole path", path)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("cdfauth: NewFileCache: path: %w", err)
	}
	return &FileCache{absolute}, nil
}

// Get returns the content of the file, or nil and no error if there is no file. The
// content of an empty file, which a Python program may be about to write, is empty and
// not nil.
func (c *FileCache) Get(ctx context.Context) ([]byte, error) {
	if err := checkCacheCall(ctx, c != nil && c.path != ""); err != nil {
		return nil, err
	}
	content, err := c.read(ctx)
	return content, cacheError(err)
}

// Update implements [Cache]. Errors that are not f's own name the file.
func (c *FileCache) Update(
	ctx context.Context,
	f func(ctx context.Context, old []byte) (new []byte, err error),
) error {
	if err := checkCacheCall(ctx, c != nil && c.path != "" && f != nil); err != nil {
		return err
	}
	lock, err := c.lock(ctx)
	if err != nil {
		return cacheError(err)
	}
	// Closing the file releases the lock, also if f panics.
	defer lock.Close()

	old, err := c.read(ctx)
	if isMovable(err) {
		err = c.moveAside(ctx)
	}
	if err != nil {
		return cacheError(err)
	}
	temp, err := c.reserve(len(old))
	if err != nil {
		return cacheError(err)
	}
	defer discard(temp)

	// f may write into what it gets.
	content, err := f(ctx, bytes.Clone(old))
	if err != nil || bytes.Equal(content, old) {
		return err
	}
	return cacheError(c.write(temp, content))
}

// setAside moves the file to the name with ".bad" after it, for a person to look at. It
// looks at the content once more when it has the lock, because another process may have
// replaced it: if unreadable is then false of the content, the file stays.
func (c *FileCache) setAside(ctx context.Context, unreadable func([]byte) bool) error {
	lock, err := c.lock(ctx)
	if err != nil {
		return cacheError(err)
	}
	defer lock.Close()
	content, err := c.read(ctx)
	if isMovable(err) || err == nil && unreadable(content) {
		err = c.moveAside(ctx)
	}
	return cacheError(err)
}

// cacheError adds the package's prefix to an error that names the file.
func cacheError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cdfauth: cache: %w", err)
}

// lock makes the directory if need be, and opens and locks the lock file. While somebody
// else has the lock, it waits until ctx ends.
func (c *FileCache) lock(ctx context.Context) (*os.File, error) {
	// The directory may be there although it cannot be made. So this error counts only if
	// what follows fails too.
	mkdirErr := os.MkdirAll(filepath.Dir(c.path), 0o700)
	lock, err := retryWhileBusy(ctx, func() (*os.File, error) {
		return lockOrMoveAside(ctx, c.path+".lock")
	})
	if err != nil && mkdirErr != nil {
		err = mkdirErr
	}
	return lock, withNoLock(err)
}

// lockOrMoveAside opens and locks the lock file. If the file that is there is not trusted,
// it moves that aside and makes a new one.
func lockOrMoveAside(ctx context.Context, path string) (*os.File, error) {
	lock, err := openLockFile(path)
	if !isMovable(err) {
		return lock, err
	}
	err = moveLockAside(path)
	if err != nil {
		return nil, err
	}
	movedAside(ctx, path+".bad")
	return openLockFile(path)
}

// withNoLock wraps err in errNoLock if no other attempt can succeed either.
func withNoLock(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission), errors.Is(err, errors.ErrUnsupported), isReadOnly(err):
		return fmt.Errorf("%w: %w", errNoLock, err)
	}
	return err
}

// read returns the content of the file, or nil if there is none.
func (c *FileCache) read(ctx context.Context) ([]byte, error) {
	file, err := retryWhileBusy(ctx, func() (*os.File, error) { return openCacheFile(c.path) })
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// Most files have less than 8 KiB. The buffer grows for the others.
	content := bytes.NewBuffer(make([]byte, 0, 8<<10))
	_, err = content.ReadFrom(io.LimitReader(file, maxCacheSize+1))
	if err != nil {
		return nil, err
	}
	if content.Len() > maxCacheSize {
		return nil, untrusted(c.path, "has more than 1 MiB", true)
	}
	return content.Bytes(), nil
}

// untrusted returns the error of a file at path that is not used: an untrustedError in an
// error that names the path.
func untrusted(path, reason string, movable bool) error {
	return &os.PathError{Op: "open", Path: path, Err: &untrustedError{reason, movable}}
}

// retryWhileBusy calls op, and calls it again if it fails because somebody else has the
// lock, until ctx ends, or because of something that passes, for busyLimit. On Windows, a
// virus scanner, a backup or a Python program may have the file open.
//
// It polls. A system call that waits for the lock would go on after ctx has ended, and
// take the lock when nobody wants it any more.
func retryWhileBusy(ctx context.Context, op func() (*os.File, error)) (*os.File, error) {
	start := time.Now()
	pause := firstPause
	for {
		file, err := op()
		if err == nil {
			return file, nil
		}
		passes := errors.Is(err, errLocked) || isBusy(err) && time.Since(start) <= busyLimit
		if !passes {
			return nil, err
		}
		if !sleep(ctx, pause) {
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		}
		pause = min(2*pause, longestPause)
	}
}
