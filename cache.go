package cdfauth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A Cache stores one opaque blob and is safe for concurrent use: [FileCache],
// [MemoryCache], or [EncryptCache] around any.
type Cache interface {
	// Get returns the content, and nil, nil when there is none. It does not wait
	// for an Update under way, but returns what was stored before.
	Get(ctx context.Context) ([]byte, error)

	// Update calls f at most once, with the current content, while nobody else,
	// in this process or another, is inside Update, and stores the result.
	// Content equal to old is not written; empty content removes the blob. If f
	// fails, nothing is written and f's error is returned as it is. If f panics
	// or ends its goroutine, nothing is written either, and exclusion ends.
	//
	// An ending ctx ends the wait for others. f's context also ends when
	// exclusion can no longer be guaranteed (a lease lost), and then the late
	// write is refused; else, once f has returned, ctx no longer stops the write.
	//
	// f may take minutes and cannot be repeated (it redeems one-time tokens): a
	// compare-and-swap loop is not a Cache. f must not call Update itself.
	Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error
}

// DefaultCachePath returns where the user flows keep their tokens by default:
// cdfauth/cognitetokencache.{clientID}.bin in [os.UserCacheDir]. The client id
// is escaped as in the path of a URL, and so is the colon, the one character
// that this leaves and Windows forbids in names. It is an error if clientID is
// empty or if the user has no cache directory.
func DefaultCachePath(clientID string) (string, error) {
	if clientID == "" {
		return "", errors.New("cdfauth: DefaultCachePath: the client id is empty")
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cdfauth: DefaultCachePath: %w", err)
	}
	name := strings.ReplaceAll(url.PathEscape(clientID), ":", "%3A")
	return filepath.Join(dir, "cdfauth", "cognitetokencache."+name+".bin"), nil
}

const (
	maxCache     = 1 << 20 // 1 MiB of content, against a file that is no token cache
	lockPauseMin = 5 * time.Millisecond
	lockPauseMax = 100 * time.Millisecond // between two tries for a lock that another process has
	busyPauseMax = time.Second            // when to give up a file that another program has open
)

// FileCache is a [Cache] in a file that all processes of one user share. A
// reader, in any language, sees the content before or after an Update, never a
// mix, even if the writer is killed.
//
// File and directory are made when they are needed, with the modes 0600 and
// 0700; a directory that exists keeps its mode. Beside the file at path there
// is the empty path.lock, which stays, and sometimes path.{random}.tmp; the
// next write removes what a killed one left.
//
// The file must be a regular file, no symbolic link, with one name, owned by
// this user, not writable by others, and of 1 MiB at most; a mode wider than
// 0600 is narrowed. Anything else is an error of Get and of Update, and nothing
// is touched. On Windows neither owner nor mode are looked at: there the access
// control list that the file inherits from its directory is the protection.
//
// Where the system has no file lock that ends with its process (Plan 9, js and
// a few more), Get and Update fail with [errors.ErrUnsupported].
type FileCache struct{ path string }

// NewFileCache returns a cache in the file at path, which is made absolute. The
// file need not exist; it is not looked at before it is used.
func NewFileCache(path string) (*FileCache, error) {
	if path == "" {
		return nil, errors.New("cdfauth: NewFileCache: the path is empty")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("cdfauth: NewFileCache: %w", err)
	}
	return &FileCache{abs}, nil
}

// Get returns the content of the file, and nil, nil if there is no file.
func (c *FileCache) Get(ctx context.Context) ([]byte, error) {
	if err := checkCall("FileCache", c != nil && c.path != "", ctx, true); err != nil {
		return nil, err
	}
	return c.read()
}

// Update implements [Cache] by a lock of the system's on path.lock, which ends
// with the process that holds it, however that ends.
func (c *FileCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	if err := checkCall("FileCache", c != nil && c.path != "", ctx, f != nil); err != nil {
		return err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock() // also when f panics or ends its goroutine
	old, err := c.read()
	if err != nil {
		return err
	}
	next, err := f(ctx, bytes.Clone(old)) // which f may change
	if err != nil || bytes.Equal(next, old) {
		return err
	}
	return c.write(next)
}

// setAside renames the file to path.bad, over an earlier one, if its content is
// still bad: nobody can use it, but somebody may want to see it.
func (c *FileCache) setAside(ctx context.Context, bad []byte) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	content, err := c.read() // which also narrows the mode
	if err != nil || len(content) == 0 || !bytes.Equal(content, bad) {
		return err
	}
	return c.change(func() error { return os.Rename(c.path, c.path+".bad") })
}

func checkCall(name string, made bool, ctx context.Context, f bool) error {
	if !made || ctx == nil || !f {
		return fmt.Errorf("cdfauth: %s: nil or not made by its constructor, or called with a nil context or function", name)
	}
	return ctx.Err()
}

func fileCacheError(err error) error { return fmt.Errorf("cdfauth: FileCache: %w", err) }

func refuse(path, why string) error {
	return &os.PathError{Op: "open", Path: path, Err: errors.New(why)}
}

// queues has a queue for each path: goroutines of this process wait for each
// other instead of polling. They stay, as a program has few caches.
var queues sync.Map

// enter waits for the place in a queue, a channel of capacity 1; a receive
// leaves it.
func enter(ctx context.Context, queue chan struct{}) error {
	select {
	case queue <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cdfauth: cache: another goroutine is inside Update: %w", ctx.Err())
	}
}

// lock waits until this goroutine alone has the lock.
//
// The lock file is never removed: a waiter that had opened it before would lock
// a file without a name, and the next to come a new one, and both be inside.
func (c *FileCache) lock(ctx context.Context) (unlock func(), err error) {
	q, _ := queues.LoadOrStore(c.path, make(chan struct{}, 1))
	queue := q.(chan struct{})
	if err := enter(ctx, queue); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			<-queue
		}
	}()
	path := c.path + ".lock"
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fileCacheError(err)
	}
	for pause := lockPauseMin; ; pause = min(2*pause, lockPauseMax) {
		f, err := openPrivate(path, true)
		if err != nil {
			return nil, fileCacheError(err)
		}
		if locked, err := tryLock(f); locked {
			return func() { f.Close(); <-queue }, nil
		} else if f.Close(); err != nil {
			return nil, fileCacheError(err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, fileCacheError(fmt.Errorf("another process has the lock %s: %w", path, ctx.Err()))
		}
	}
}

// read returns the content if the file may be trusted.
func (c *FileCache) read() ([]byte, error) {
	f, err := openPrivate(c.path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fileCacheError(err)
	}
	defer f.Close()
	var b bytes.Buffer
	if info, err := f.Stat(); err == nil {
		b.Grow(int(min(info.Size(), maxCache)) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(io.LimitReader(f, maxCache+1)); err != nil {
		return nil, fileCacheError(err)
	}
	if b.Len() > maxCache {
		return nil, fileCacheError(refuse(c.path, "has more than 1 MiB"))
	}
	if b.Len() == 0 {
		return nil, nil
	}
	return b.Bytes(), nil
}

// write stores b, or removes the file if b is empty. Called with the lock held.
func (c *FileCache) write(b []byte) error {
	c.removeLeftovers()
	if len(b) == 0 {
		if err := c.change(func() error { return os.Remove(c.path) }); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if len(b) > maxCache {
		return fileCacheError(fmt.Errorf("%s: no more than 1 MiB can be stored, not %d bytes", c.path, len(b)))
	}
	tmp := c.path + "." + rand.Text() + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fileCacheError(err)
	}
	_, err = f.Write(b)
	// Without Sync a power cut could leave the new name without the content.
	if err = cmp.Or(err, f.Sync(), f.Close()); err != nil {
		err = fileCacheError(err)
	} else {
		err = c.change(func() error { return os.Rename(tmp, c.path) })
	}
	if err != nil {
		_ = os.Remove(tmp) // or the next write will
	}
	return err
}

// change renames or removes the file. On Windows a reader or a virus scanner
// may prevent that for a moment, hence the retries, but not for ever: what is
// there to stay looks the same. Then the directory is synced so that the change
// outlasts a power cut; where that is not to be had, it is made all the same.
func (c *FileCache) change(do func() error) error {
	if err := retryBusy(do); err != nil {
		return fileCacheError(err)
	}
	if dir, err := os.Open(filepath.Dir(c.path)); err == nil {
		_ = dir.Sync()
		dir.Close()
	}
	return nil
}

func retryBusy(do func() error) error {
	for pause := lockPauseMin; ; pause *= 2 {
		err := do()
		if err == nil || pause > busyPauseMax || !isBusy(err) {
			return err
		}
		time.Sleep(pause)
	}
}

// removeLeftovers removes what killed writers of this cache left: while the
// lock is held none is alive. If it cannot, the token is stored all the same.
func (c *FileCache) removeLeftovers() {
	dir, base := filepath.Split(c.path)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		random, ours := strings.CutPrefix(e.Name(), base+".")
		random, tmp := strings.CutSuffix(random, ".tmp")
		if ours && tmp && len(random) == len(rand.Text()) && strings.Trim(random, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == "" && e.Type().IsRegular() {
			_ = os.Remove(dir + e.Name())
		}
	}
}

// MemoryCache is a [Cache] that ends with the process. The zero value is empty
// and ready for use; it must not be copied after that.
type MemoryCache struct {
	mu      sync.Mutex    // guards the fields; what excludes others is queue
	queue   chan struct{} // made by the first Update
	content func() []byte // nil when empty; a function, where no printer looks
}

// Get returns a copy of the content.
func (c *MemoryCache) Get(ctx context.Context) ([]byte, error) {
	if err := checkCall("MemoryCache", c != nil, ctx, true); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.content == nil {
		return nil, nil
	}
	return bytes.Clone(c.content()), nil
}

// Update implements [Cache].
func (c *MemoryCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	if err := checkCall("MemoryCache", c != nil, ctx, f != nil); err != nil {
		return err
	}
	c.mu.Lock()
	if c.queue == nil {
		c.queue = make(chan struct{}, 1)
	}
	c.mu.Unlock()
	if err := enter(ctx, c.queue); err != nil {
		return err
	}
	defer func() { <-c.queue }()
	old, err := c.Get(ctx)
	if err != nil {
		return err
	}
	next, err := f(ctx, old)
	if err != nil {
		return err
	}
	next = bytes.Clone(next)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.content = nil
	if len(next) > 0 {
		c.content = func() []byte { return next }
	}
	return nil
}

// encryptedCache has its key where no printer looks: in functions.
type encryptedCache struct {
	cache Cache
	seal  func(plain []byte) (sealed []byte)
	open  func(sealed []byte) (plain []byte, err error)
}

// EncryptCache returns a cache that keeps its content in c encrypted and
// authenticated: AES-256-GCM with random nonces, as FIPS 140 wants it. The key
// has 32 bytes, is copied, and should come from where a reader of c cannot look.
// Content that was changed or made with another key is an error of Get and of
// Update, and is left alone.
//
// Roll-back is not detected: who can write to c can put back earlier content,
// or remove it.
func EncryptCache(c Cache, key []byte) (Cache, error) {
	if c == nil {
		return nil, errors.New("cdfauth: EncryptCache: the cache is nil")
	}
	if len(key) != 32 {
		return nil, fmt.Errorf("cdfauth: EncryptCache: the key has %d bytes; 32 are wanted, for AES-256", len(key))
	}
	block, err := aes.NewCipher(key)
	var gcm cipher.AEAD
	if err == nil {
		gcm, err = cipher.NewGCMWithRandomNonce(block)
	}
	if err != nil {
		return nil, fmt.Errorf("cdfauth: EncryptCache: %w", err)
	}
	const version = 1 // the first byte, authenticated together with what the key is used for here
	additional := append([]byte{version}, "cdfauth token cache"...)
	return &encryptedCache{
		cache: c,
		seal:  func(plain []byte) []byte { return gcm.Seal([]byte{version}, nil, plain, additional) },
		open: func(sealed []byte) ([]byte, error) {
			if len(sealed) == 0 {
				return nil, nil
			}
			if sealed[0] != version {
				return nil, errors.New("cdfauth: EncryptCache: the content is not encrypted, or not in a way known here")
			}
			plain, err := gcm.Open(nil, nil, sealed[1:], additional)
			if err != nil {
				err = fmt.Errorf("cdfauth: EncryptCache: the content was changed or made with another key: %w", err)
			}
			return plain, err
		},
	}, nil
}

func (c *encryptedCache) Get(ctx context.Context) ([]byte, error) {
	sealed, err := c.cache.Get(ctx)
	if err != nil {
		return nil, err
	}
	return c.open(sealed)
}

func (c *encryptedCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	if err := checkCall("EncryptCache", true, ctx, f != nil); err != nil {
		return err
	}
	return c.cache.Update(ctx, func(ctx context.Context, sealed []byte) ([]byte, error) {
		old, err := c.open(sealed)
		if err != nil {
			return nil, err
		}
		next, err := f(ctx, bytes.Clone(old))
		switch {
		case err != nil || len(next) == 0:
			return nil, err
		case bytes.Equal(next, old):
			return sealed, nil // sealed anew it would be different, and written
		}
		return c.seal(next), nil
	})
}
