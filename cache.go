package cdfauth

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Cache stores one opaque blob, for providers to keep tokens in between runs of a program. It is safe for concurrent use.
type Cache interface {
	// Get returns the blob, which is the caller's to keep; nil, nil when it is empty. It does not wait for an Update that is under
	// way.
	Get(ctx context.Context) ([]byte, error)

	// Update calls f at most once, with the current content, while nobody else, in this process or another, is inside Update, and
	// stores the result. Content equal to old is not written; empty content removes the blob; if f fails nothing is written and f's
	// error is returned as it is. f's context also ends when exclusion can no longer be guaranteed (a lease lost), and then the
	// late write is refused. The wait for exclusion ends with ctx; once f has returned, ctx no longer stops the write. f may take
	// minutes and cannot be repeated (it redeems one-time tokens): a compare-and-swap loop is not a Cache. f must not call Update
	// of the same cache.
	Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error
}

// checkCall refuses misuse, and a context that has ended.
func checkCall(ctx context.Context, usable bool) error {
	if !usable || ctx == nil {
		return errors.New("cdfauth: cache: the cache, the context or the function is nil or zero")
	}
	return ctx.Err()
}

// turns is a mutex that can be waited for under a context.
type turns struct {
	once sync.Once
	free chan struct{}
}

func (t *turns) begin(ctx context.Context) error {
	t.once.Do(func() { t.free = make(chan struct{}, 1) })
	select {
	case t.free <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *turns) end() { <-t.free }

// FileCache is a [Cache] in a file; [NewFileCache] makes one.
//
// The file is replaced as a whole: whenever a program is killed, a reader sees the old content or the new. Update locks a second
// file, named with ".lock" after it; the system releases the lock when a program dies. That file stays: were it removed, one
// program could lock the removed and another a new one.
//
// Both files have to be regular, no symbolic links, of one link, ours, not writable by others, and of 1 MiB at most. Anything else
// is an error of Get and Update, and nothing is touched. A mode wider than 0600 is narrowed. On Windows the access control list
// that the files inherit from their directory is the protection: choose one that only its user can open, as that of
// [DefaultCachePath] is. Where there is neither flock nor LockFileEx (Solaris, AIX, Plan 9, WebAssembly) the error wraps
// [errors.ErrUnsupported].
type FileCache struct {
	path  string
	turns *turns
}

// fileTurns, by path, keeps the goroutines of one process from polling for a lock that one of them has.
var fileTurns sync.Map

// NewFileCache returns a Cache in the file at path, which must not be empty; a relative one is made absolute now. The file need not
// exist; it is made, with its directory (mode 0700), when there is something to keep.
func NewFileCache(path string) (*FileCache, error) {
	if path == "" {
		return nil, errors.New("cdfauth: NewFileCache: path is empty (DefaultCachePath has a good one)")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("cdfauth: NewFileCache: path: %w", err)
	}
	t, _ := fileTurns.LoadOrStore(abs, new(turns))
	return &FileCache{abs, t.(*turns)}, nil
}

// Get returns the content of the file; nil, nil if there is none.
func (c *FileCache) Get(ctx context.Context) ([]byte, error) {
	if err := checkCall(ctx, c != nil && c.turns != nil); err != nil {
		return nil, err
	}
	b, err := c.read(ctx)
	return b, cacheError(err)
}

// Update implements [Cache]. Errors that are not f's own name the file.
func (c *FileCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	if err := checkCall(ctx, c != nil && c.turns != nil && f != nil); err != nil {
		return err
	}
	return c.locked(ctx, func(old []byte) error {
		now, err := f(ctx, bytes.Clone(old)) // f may write into what it gets
		if err != nil || bytes.Equal(now, old) {
			return err
		}
		return cacheError(c.write(now))
	})
}

// setAside moves the file to one fixed name, for a user to look at, if its content is still the one that a provider could make
// nothing of.
func (c *FileCache) setAside(ctx context.Context, bad []byte) error {
	return c.locked(ctx, func(now []byte) error {
		if len(now) == 0 || !bytes.Equal(now, bad) {
			return nil
		}
		return cacheError(c.change(func() error { return os.Rename(c.path, c.path+".bad") }))
	})
}

// cacheError prefixes an error of package os or in its image, which has the path.
func cacheError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cdfauth: cache: %w", err)
}

// locked calls do with the content of the file, under the lock.
func (c *FileCache) locked(ctx context.Context, do func(old []byte) error) error {
	name := c.path + ".lock"
	if err := c.turns.begin(ctx); err != nil {
		return cacheError(&os.PathError{Op: "lock", Path: name, Err: err})
	}
	defer c.turns.end() // also if do panics
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return cacheError(err)
	}
	lock, err := patiently(ctx, func() (*os.File, error) { return tryOpen(name, true) })
	if err != nil {
		return cacheError(err)
	}
	defer lock.Close() // releases it
	old, err := c.read(ctx)
	if err != nil {
		return cacheError(err)
	}
	return do(old)
}

func (c *FileCache) read(ctx context.Context) ([]byte, error) {
	f, err := patiently(ctx, func() (*os.File, error) { return tryOpen(c.path, false) })
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := bytes.NewBuffer(make([]byte, 0, 16<<10)) // most are smaller
	if _, err = b.ReadFrom(io.LimitReader(f, maxCache+1)); err != nil || b.Len() == 0 {
		return nil, err
	}
	if b.Len() > maxCache {
		return nil, &os.PathError{Op: "read", Path: c.path, Err: errTooBig}
	}
	return b.Bytes(), nil
}

const maxCache = 1 << 20

var errTooBig = errors.New("content has more than 1 MiB")

// write replaces the file, or removes it if b is empty. Before, it sweeps up the temporary files of writers that were killed: under
// the lock, there are no others.
func (c *FileCache) write(b []byte) error {
	dir, base := filepath.Split(c.path)
	entries, _ := os.ReadDir(dir) // what cannot be listed is not swept
	for _, e := range entries {
		random, ours := strings.CutPrefix(e.Name(), base+".")
		if like, _ := filepath.Match(strings.Repeat("[A-Z2-7]", 26)+".tmp", random); ours && like && e.Type().IsRegular() {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	if len(b) == 0 {
		return c.change(func() error { return os.Remove(c.path) })
	}
	if len(b) > maxCache {
		return &os.PathError{Op: "write", Path: c.path, Err: errTooBig}
	}
	temp := c.path + "." + rand.Text() + ".tmp"
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync() // or, after a power failure, the name could be there without the content
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = c.change(func() error { return os.Rename(temp, c.path) })
	}
	if err != nil {
		os.Remove(temp)
	}
	return err
}

// change renames or removes.
func (c *FileCache) change(op func() error) error {
	_, err := patiently(context.Background(), func() (*os.File, error) { return nil, op() })
	// A directory that cannot be synced (on Windows, on some network file systems) is changed all the same.
	if d, e := os.Open(filepath.Dir(c.path)); e == nil {
		_ = d.Sync()
		d.Close()
	}
	return err
}

// patiently repeats op until ctx ends while the lock is somebody else's, and for two seconds if somebody merely has the file open,
// which only Windows minds (a virus scanner, a backup, a Python program). It asks again and again: a blocking system call would go
// on after ctx, and lock when nobody waits.
func patiently(ctx context.Context, op func() (*os.File, error)) (*os.File, error) {
	start := time.Now()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		f, err := op()
		if err == nil || !errors.Is(err, errLocked) && (!busy(err) || time.Since(start) > 2*time.Second) {
			return f, err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// DefaultCachePath returns where the tokens of a client are kept, for each user of the system:
// {os.UserCacheDir}/cdfauth/cognitetokencache.{clientID}.bin. The client id is path-escaped; so is a colon, which means something
// else in a Windows file name. Of an id that then has more than 200 bytes, the SHA-256 stands there in hex after "sha256!", which
// no escaped id begins with. It is an error if clientID is empty or there is no user cache directory (HOME is not set).
func DefaultCachePath(clientID string) (string, error) {
	if clientID == "" {
		return "", errors.New("cdfauth: DefaultCachePath: clientID is empty")
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cdfauth: DefaultCachePath: %w", err)
	}
	id := strings.ReplaceAll(url.PathEscape(clientID), ":", "%3A")
	if len(id) > 200 { // the names of lock and temporary files are longer, and 255 is the limit
		id = fmt.Sprintf("sha256!%x", sha256.Sum256([]byte(clientID)))
	}
	return filepath.Join(dir, "cdfauth", "cognitetokencache."+id+".bin"), nil
}

// MemoryCache is a [Cache] that lives as long as the program, for providers that share a sign-in. The zero value is ready; it must
// not be copied.
type MemoryCache struct {
	turns   turns
	content atomic.Pointer[func() []byte] // nobody writes into what it returns
}

// Get returns a copy of the content.
func (c *MemoryCache) Get(ctx context.Context) ([]byte, error) {
	if err := checkCall(ctx, c != nil); err != nil {
		return nil, err
	}
	if content := c.content.Load(); content != nil {
		return bytes.Clone((*content)()), nil
	}
	return nil, nil
}

// Update implements [Cache].
func (c *MemoryCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	if err := checkCall(ctx, c != nil && f != nil); err != nil {
		return err
	}
	if err := c.turns.begin(ctx); err != nil {
		return err
	}
	defer c.turns.end()
	old, _ := c.Get(context.Background())
	now, err := f(ctx, old)
	if err != nil {
		return err
	}
	now = append([]byte(nil), now...) // nil if empty
	content := func() []byte { return now }
	c.content.Store(&content)
	return nil
}

// EncryptCache returns a Cache that keeps its content in c, encrypted with AES-256-GCM. The key is 32 random bytes, which the
// caller keeps elsewhere (the system's key store, for example); it is copied.
//
// Content that was made with another key or none, or was changed, is an error of Get and Update and stays as it is. That somebody
// removed the content or put older content back is not noticed: it was made with the key too.
func EncryptCache(c Cache, key []byte) (Cache, error) {
	if c == nil || len(key) != 32 {
		return nil, fmt.Errorf("cdfauth: EncryptCache: a cache and a key of 32 bytes are wanted, not %T and %d bytes", c, len(key))
	}
	var aead cipher.AEAD
	block, err := aes.NewCipher(key)
	if err == nil {
		aead, err = cipher.NewGCMWithRandomNonce(block) // draws the nonces itself, as FIPS 140 demands
	}
	if err != nil {
		return nil, fmt.Errorf("cdfauth: EncryptCache: %w", err)
	}
	return &encryptedCache{c, func() cipher.AEAD { return aead }}, nil
}

type encryptedCache struct {
	cache Cache
	aead  func() cipher.AEAD
}

// sealed is the first byte of encrypted content, its version, and with what it is for the additional data: the key may be in use
// elsewhere.
const sealed = "\x01cdfauth token cache"

func (c *encryptedCache) open(blob []byte, err error) ([]byte, error) {
	if err != nil || len(blob) == 0 {
		return nil, err
	}
	plain, err := c.aead().Open(nil, nil, blob[1:], []byte(sealed))
	if err != nil || blob[0] != sealed[0] {
		return nil, errors.New("cdfauth: EncryptCache: the content was made with another key or none, or was changed")
	}
	return plain, nil
}

func (c *encryptedCache) Get(ctx context.Context) ([]byte, error) { return c.open(c.cache.Get(ctx)) }

func (c *encryptedCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	if err := checkCall(ctx, f != nil); err != nil {
		return err
	}
	return c.cache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
		plain, err := c.open(old, nil)
		if err != nil {
			return nil, err
		}
		now, err := f(ctx, bytes.Clone(plain))
		switch {
		case err != nil || len(now) == 0:
			return nil, err
		case bytes.Equal(now, plain):
			return old, nil // encrypted anew it would differ
		}
		return c.aead().Seal([]byte(sealed[:1]), nil, now, []byte(sealed)), nil
	})
}
