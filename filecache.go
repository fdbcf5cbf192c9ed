//go:build go1.24

package cdfauth

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// This file keeps a Cache in a file. A reader opens the file and takes no lock: the
// file is only ever replaced as a whole. A writer locks a second file beside it,
// reads, writes a temporary file, and renames it into place. What another user of
// the machine could have put there is neither read nor written; how that is told,
// and how a file is locked, is in a file for each kind of system.

// maxCacheSize is the most that a file may have, in bytes: 1 MiB.
const maxCacheSize = 1 << 20

// reserveSize is the room, in bytes, for what may be added to the content by one
// Update: a sign-in adds three tokens, of which the largest have 16 KiB.
const reserveSize = 32 << 10

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

// moveAside renames what is in the place of the file. Names are renamed, not what
// they link to, so that nothing elsewhere is touched. A mode that lets others read is
// narrowed where that can be done.
func (c *FileCache) moveAside(ctx context.Context) error {
	bad := c.path + ".bad"
	err := c.rename(c.path, bad)
	if isMountPoint(err) {
		return withMountHint(err)
	}
	if err == nil {
		narrow(bad)
		movedAside(ctx, bad)
	}
	return err
}

func withMountHint(err error) error {
	return fmt.Errorf("%w (the file is mounted by itself: mount its directory)", err)
}

// reserve makes the temporary file in which write writes, with room for what was
// there, of the length given, and for what may be added. An error here, before f was
// called, costs nothing; afterwards it would cost the refresh token that the identity
// provider has just put in the place of the one in the file.
//
// The room is zeros that are written and synced: to extend a file by its length alone
// allocates no blocks, and a network file system says only when it syncs that there
// is no room.
func (c *FileCache) reserve(length int) (*os.File, error) {
	c.sweep()
	temp := c.path + "." + rand.Text() + ".tmp"
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, withNoLock(err)
	}
	_, err = file.Write(make([]byte, min(length+reserveSize, maxCacheSize)))
	if err == nil {
		err = syncFile(file)
	}
	if err != nil {
		discard(file)
		return nil, err
	}
	return file, nil
}

// discard closes and removes a temporary file, if it was not renamed.
func discard(temp *os.File) {
	temp.Close()
	os.Remove(temp.Name())
}

// sweep removes the temporary files of writers that were killed. Under the lock,
// there are no others. Where the directory cannot be listed, they stay.
func (c *FileCache) sweep() {
	dir, base := filepath.Split(c.path)
	// The names that rand.Text makes.
	pattern := strings.Repeat("[A-Z2-7]", 26) + ".tmp"
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		suffix, ours := strings.CutPrefix(entry.Name(), base+".")
		if !ours || !entry.Type().IsRegular() {
			continue
		}
		if matches, _ := filepath.Match(pattern, suffix); matches {
			os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
}

// write replaces the file by temp with the content, or removes it if there is no
// content. The content is synced before the file is renamed: otherwise, the new name
// could be there without the content after a power failure.
func (c *FileCache) write(temp *os.File, content []byte) error {
	if len(content) > maxCacheSize {
		return &os.PathError{Op: "write", Path: c.path, Err: errors.New("content has more than 1 MiB")}
	}
	err := overwrite(temp, content)
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if len(content) == 0 {
		err = c.remove()
	} else {
		err = c.rename(temp.Name(), c.path)
	}
	if isMountPoint(err) {
		return c.writeInPlace(content)
	}
	return err
}

// overwrite replaces the content of file, in the blocks that it has.
func overwrite(file *os.File, content []byte) error {
	if _, err := file.WriteAt(content, 0); err != nil {
		return err
	}
	if err := file.Truncate(int64(len(content))); err != nil {
		return err
	}
	return syncFile(file)
}

// writeInPlace writes into the file, which is mounted by itself and can neither be
// replaced nor removed. A reader may see half of the content, and waits for the rest
// as it does for a Python program's.
func (c *FileCache) writeInPlace(content []byte) error {
	file, err := openToOverwrite(c.path)
	if err != nil {
		return withMountHint(err)
	}
	err = overwrite(file, content)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (c *FileCache) rename(from, to string) error {
	return c.change(func() error { return os.Rename(from, to) })
}

func (c *FileCache) remove() error {
	return c.change(func() error {
		err := os.Remove(c.path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
}

// change does what changes the directory, and syncs the directory. What cannot be
// synced, as on Windows and some network file systems, is changed all the same.
func (c *FileCache) change(op func() error) error {
	_, err := retryWhileBusy(context.Background(), func() (*os.File, error) { return nil, op() })
	if dir, err := os.Open(filepath.Dir(c.path)); err == nil {
		dir.Sync()
		dir.Close()
	}
	return err
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
