//go:build go1.24

package cdfauth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// FileCache is a [Cache] in a file; [NewFileCache] makes one.
//
// The file is replaced as a whole: whenever a program is killed, a reader sees the old content or the new. Update locks a second file, named with ".lock" after
// it; the system releases the lock when a program dies. That file stays: were it removed, one program could lock the removed and another a new one. Both have to be
// regular, no symbolic links, of one link, ours, not writable by others, and of 1 MiB at most. Anything else is an error of Get and Update, and nothing is touched.
// A mode wider than 0600 is narrowed. On Windows the access control list that files inherit is the protection: choose a directory that only its user can open, as
// that of [DefaultCachePath] is. Without flock and LockFileEx (Solaris, WebAssembly) the error is ErrUnsupported.
type FileCache struct{ path string }

// NewFileCache returns a Cache in the file at path, which must not be empty; a relative one is made absolute now. It is made, with its directory (mode 0700), when needed.
func NewFileCache(path string) (*FileCache, error) {
	abs, err := filepath.Abs(path)
	if err = cmp.Or(refuse("is empty", []refusal{{path == "", " (DefaultCachePath has a good one)"}}), err); err != nil {
		return nil, fmt.Errorf("cdfauth: NewFileCache: path: %w", err)
	}
	return &FileCache{abs}, nil
}

// Get returns the content of the file; nil, nil if there is none.
func (c *FileCache) Get(ctx context.Context) ([]byte, error) {
	if err := checkCacheCall(ctx, c != nil && c.path != ""); err != nil {
		return nil, err
	}
	f, err := patiently(ctx, func() (*os.File, error) { return tryOpen(c.path, false) })
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, cacheError(err)
	}
	defer f.Close()
	b := bytes.NewBuffer(make([]byte, 0, 8<<10)) // most are smaller
	switch _, err = b.ReadFrom(io.LimitReader(f, maxCache+1)); {
	case err != nil || b.Len() == 0:
		return nil, cacheError(err)
	case b.Len() > maxCache:
		return nil, cacheError(&os.PathError{Op: "read", Path: c.path, Err: errTooBig})
	}
	return b.Bytes(), nil
}

// Update implements [Cache]. Errors that are not f's own name the file.
func (c *FileCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	if err := checkCacheCall(ctx, c != nil && c.path != "" && f != nil); err != nil {
		return err
	}
	mkdir := os.MkdirAll(filepath.Dir(c.path), 0o700)
	lock, err := patiently(ctx, func() (*os.File, error) { return tryOpen(c.path+".lock", true) })
	if err != nil {
		return cacheError(cmp.Or(mkdir, err))
	}
	defer lock.Close() // releases it, also if f panics
	old, err := c.Get(ctx)
	if err != nil {
		return err
	}
	now, err := f(ctx, bytes.Clone(old)) // f may write into what it gets
	if err != nil || bytes.Equal(now, old) {
		return err
	}
	return cacheError(c.write(now))
}

// setAside moves the file to one fixed name, for a user to look at, if there is still nothing that a provider could make of its content.
func (c *FileCache) setAside(ctx context.Context, unreadable func([]byte) bool) error {
	return c.Update(ctx, func(_ context.Context, now []byte) (_ []byte, err error) {
		if unreadable(now) {
			err = c.change(func() error { return os.Rename(c.path, c.path+".bad") })
		}
		return now, cacheError(err)
	})
}

func cacheError(err error) error { // prefixes an error of package os or in its image, which has the path
	if err != nil {
		err = fmt.Errorf("cdfauth: cache: %w", err)
	}
	return err
}

const maxCache = 1 << 20 // 1 MiB

// write replaces the file, or removes it if b is empty. Before, it sweeps up the temporary files of killed writers: under the lock, there are no others.
func (c *FileCache) write(b []byte) error {
	dir, base := filepath.Split(c.path)
	entries, _ := os.ReadDir(dir) // what cannot be listed is not swept
	for _, e := range entries {
		random, ours := strings.CutPrefix(e.Name(), base+".")
		if like, _ := filepath.Match(strings.Repeat("[A-Z2-7]", 26)+".tmp", random); ours && like && e.Type().IsRegular() {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	switch {
	case len(b) == 0:
		return c.change(func() error { return os.Remove(c.path) })
	case len(b) > maxCache:
		return &os.PathError{Op: "write", Path: c.path, Err: errTooBig}
	}
	temp := c.path + "." + rand.Text() + ".tmp"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil { // unsynced, the name could be there without the content after a power failure
		err = c.change(func() error { return os.Rename(temp, c.path) })
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}

func (c *FileCache) change(op func() error) error {
	_, err := patiently(context.Background(), func() (*os.File, error) { return nil, op() })
	d, _ := os.Open(filepath.Dir(c.path))
	_ = errors.Join(d.Sync(), d.Close()) // what cannot be opened or synced (on Windows, on some network file systems) is changed all the same
	return err
}

// patiently repeats op until ctx ends while the lock is somebody else's, and for two seconds if somebody merely has the file open, which only Windows minds (a
// virus scanner, a backup, a Python program). It asks again and again: a blocking system call would go on after ctx, and lock when nobody waits.
func patiently(ctx context.Context, op func() (*os.File, error)) (*os.File, error) {
	start := time.Now()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		f, err := op()
		if err == nil || !errors.Is(err, errLocked) && (!busy(err) || time.Since(start) > 2*time.Second) {
			return f, err
		}
		if !sleep(ctx, pause) {
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// DefaultCachePath returns where the tokens of a client are kept, for each user of the system: {os.UserCacheDir}/cdfauth/cognitetokencache.{clientID}.bin. The
// client id is path-escaped, a colon too, for Windows; over 200 bytes, it is "sha256!" and its hash. It is an error if clientID is empty or there is no such directory.
func DefaultCachePath(clientID string) (string, error) {
	dir, err := os.UserCacheDir()
	if err = cmp.Or(refuse("clientID", []refusal{{clientID == "", " is empty"}}), err); err != nil {
		return "", fmt.Errorf("cdfauth: DefaultCachePath: %w", err)
	}
	id := strings.ReplaceAll(url.PathEscape(clientID), ":", "%3A")
	if len(id) > 200 { // the names of lock and temporary files are longer, and 255 is the limit
		id = fmt.Sprintf("sha256!%x", sha256.Sum256([]byte(clientID)))
	}
	return filepath.Join(dir, "cdfauth", "cognitetokencache."+id+".bin"), nil
}
