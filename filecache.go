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
// reads, writes a temporary file, and renames it into place (filecachewrite.go). What
// another user of the machine could have put there is neither read nor written. How
// that is told, and how a file is locked, is in a file for each kind of system.

// maxCacheSize is the most that a file may have, in bytes: 1 MiB.
const maxCacheSize = 1 << 20

const (
	// firstPause is how long a writer waits before it asks for the lock again. Each
	// further pause is twice as long, up to longestPause.
	firstPause   = 5 * time.Millisecond
	longestPause = 100 * time.Millisecond

	// busyLimit is how long an operation is repeated while another program has the
	// file open, on Windows.
	busyLimit = 2 * time.Second
)

// An untrustedError is the reason why a file is not used that is there.
type untrustedError struct {
	reason string

	// movable reports whether the file can be moved aside, because nobody can have
	// meant it to be there, and nothing is lost.
	movable bool
}

func (e *untrustedError) Error() string { return e.reason }

// isMovable reports whether err says that a file is there which is not used, and can
// be moved aside.
func isMovable(err error) bool {
	var untrusted *untrustedError
	return errors.As(err, &untrusted) && untrusted.movable
}

// A FileCache is a [Cache] in a file. [NewFileCache] makes one.
//
// The file is replaced as a whole: whenever a program is killed, a reader sees the
// old content or the new. Before a person or the identity provider is asked for
// anything, room for the new content is reserved in a temporary file, so that a full
// disk is an error before a token is redeemed that is good for one use. Where the file
// is mounted by itself, as into a container, it cannot be replaced and is written in
// place: mount its directory instead.
//
// Update locks a second file, whose name has ".lock" after it. The system releases
// the lock when a program dies. The second file stays: if it were removed, one
// program could lock the removed one and another program a new one.
//
// Both files have mode 0600, and are made with their directory, of mode 0700, when
// needed. A wider mode is narrowed. These are not trusted, which is an error of Get
// that says so, and the next Update moves them aside, to the same name with ".bad"
// after it, and begins anew: a symbolic link, which is never followed; a file that
// has another hard link; a file that others can write, unless it is in a directory of
// mode 0700 of this user; in such a directory, another user's file; content of more
// than 1 MiB. Providers move content that they cannot read to the same name. Anything
// else, such as a directory, a pipe or another user's file elsewhere, is an error of
// Get and Update, and stays as it is.
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

// setAside moves the file to the name with ".bad" after it, for a person to look at,
// if nobody can read its content. Another process may have mended it by now.
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

// cacheError adds a prefix to an error that has the path already.
func cacheError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cdfauth: cache: %w", err)
}

// lock makes the directory if need be, and opens and locks the lock file. It waits
// until ctx ends while somebody else has the lock.
func (c *FileCache) lock(ctx context.Context) (*os.File, error) {
	path := c.path + ".lock"
	// If this fails, so does what follows, unless the directory is there.
	mkdirErr := os.MkdirAll(filepath.Dir(c.path), 0o700)
	lock, err := retryWhileBusy(ctx, func() (*os.File, error) {
		lock, err := openLockFile(path)
		if isMovable(err) {
			if err := moveLockAside(path); err != nil {
				return nil, err
			}
			movedAside(ctx, path+".bad")
			lock, err = openLockFile(path)
		}
		return lock, err
	})
	if err != nil && mkdirErr != nil {
		err = mkdirErr
	}
	return lock, withNoLock(err)
}

// withNoLock adds errNoLock to err if it is one that stays however often one tries.
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
	// Most files are smaller than this.
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

// untrusted returns the error that the file at path is not used.
func untrusted(path, reason string, movable bool) error {
	return &os.PathError{Op: "open", Path: path, Err: &untrustedError{reason, movable}}
}

// retryWhileBusy repeats op until ctx ends while somebody else has the lock. It
// repeats it for busyLimit while somebody merely has the file open, which only Windows
// minds: a virus scanner, a backup, a Python program.
//
// It asks again and again, because a system call that waits would go on after ctx,
// and take the lock when nobody waits for it.
func retryWhileBusy(ctx context.Context, op func() (*os.File, error)) (*os.File, error) {
	start := time.Now()
	pause := firstPause
	for {
		file, err := op()
		switch {
		case err == nil:
			return file, nil
		case errors.Is(err, errLocked):
		case isBusy(err) && time.Since(start) <= busyLimit:
		default:
			return nil, err
		}
		if !sleep(ctx, pause) {
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		}
		pause = min(2*pause, longestPause)
	}
}
