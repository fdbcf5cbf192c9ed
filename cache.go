package cdfauth

import (
	"bytes"
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

// This file is where tokens outlive a process: the Cache interface and the
// package's own caches. What is in the blob is the providers' business.

// A Cache stores one opaque blob. It is safe for concurrent use. [FileCache]
// and [MemoryCache] are caches; [EncryptCache] wraps any.
type Cache interface {
	// Get returns the content, and nil, nil when there is none. It does not wait
	// for an Update that is under way: it returns what was stored before.
	Get(ctx context.Context) ([]byte, error)

	// Update calls f at most once, with the current content, while nobody else,
	// in this process or another, is inside Update, and stores the result.
	// Content equal to old is not written; empty content removes the blob. If f
	// fails nothing is written and f's error is returned as it is; so it is if f
	// panics or ends its goroutine, and exclusion ends then too.
	//
	// An ending ctx ends the wait for the others. f's context also ends when
	// exclusion can no longer be guaranteed (a lease lost), and then the late
	// write is refused; else, once f has returned, ctx no longer stops the write.
	//
	// f may take minutes and cannot be repeated (it redeems one-time tokens): a
	// compare-and-swap loop is not a Cache. f must not call Update itself.
	Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error
}

const (
	maxCache     = 1 << 20 // 1 MiB of content, against a file that is no token cache
	lockPauseMin = 5 * time.Millisecond
	lockPauseMax = 100 * time.Millisecond // between two tries for a lock that another process has
	busyPauseMax = time.Second            // when to give up a file that another program has open
)

// DefaultCachePath returns where the user flows keep their tokens unless told
// otherwise: cdfauth/cognitetokencache.{clientID}.bin in [os.UserCacheDir]. The
// client id is escaped as in the path of a URL, and so is the colon, which that
// leaves and Windows forbids in names (the others it forbids are escaped
// anyway). It is an error if clientID is empty or if there is no such directory.
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

// FileCache is a [Cache] in a file that is shared by all processes of one user.
// A reader, in any language, sees the content before or after an Update, never
// a mix, even if the writer is killed.
//
// The file and its directory are made when something is first stored, with the
// modes 0600 and 0700; a directory that is there is left as it is. Beside the
// file at path there is path.lock, which is empty and stays, and sometimes, for
// an instant or until the next write, path.{random}.tmp.
//
// The file is used only if it is a regular file, not a symbolic link, with one
// name, owned by this user, not writable by others, and of 1 MiB at most; a
// mode wider than 0600 is narrowed. Anything else is an error of Get and of
// Update, and is left untouched. On Windows neither owner nor mode are looked
// at: there the access control list that the file inherits from its directory
// is the protection, which in the user's own cache directory keeps others out.
//
// Systems without file locks (plan9, js and wasip1 among others) are not
// supported: Get and Update fail with [errors.ErrUnsupported].
type FileCache struct{ path string }

// NewFileCache returns a cache in the file at path, which is made absolute now.
// The file need not exist; it is not looked at before it is used.
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
	if err := checkCacheCall("FileCache", c != nil && c.path != "", ctx, true); err != nil {
		return nil, err
	}
	return c.read()
}

// Update implements [Cache]. The lock that it waits for is the system's, on
// path.lock: it ends with the process that holds it, however that ends.
func (c *FileCache) Update(ctx context.Context, f func(ctx context.Context, old []byte) (new []byte, err error)) error {
	if err := checkCacheCall("FileCache", c != nil && c.path != "", ctx, f != nil); err != nil {
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
// still bad: a file of which nothing can be used is in the way of the next, but
// somebody may want to see it.
func (c *FileCache) setAside(ctx context.Context, bad []byte) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	content, err := c.read() // which also narrowed the mode
	if err != nil || len(content) == 0 || !bytes.Equal(content, bad) {
		return err
	}
	if err := retryBusy(func() error { return os.Rename(c.path, c.path+".bad") }); err != nil {
		return fileCacheError(err)
	}
	syncDir(filepath.Dir(c.path))
	return nil
}

func checkCacheCall(name string, made bool, ctx context.Context, f bool) error {
	switch {
	case !made:
		return fmt.Errorf("cdfauth: %s is nil or not made by its constructor", name)
	case ctx == nil:
		return fmt.Errorf("cdfauth: %s was called with a nil context", name)
	case !f:
		return fmt.Errorf("cdfauth: %s: Update was called with a nil function", name)
	}
	return ctx.Err()
}

// fileCacheError is for errors of the os package, which have the path in them.
func fileCacheError(err error) error { return fmt.Errorf("cdfauth: FileCache: %w", err) }

// fileQueues has, by path, a channel that is full while a goroutine of this
// process has the lock or tries for it: the others queue instead of polling.
// Entries stay; a program has few caches.
var fileQueues sync.Map

// lock waits until this goroutine alone has the lock. The directory is made if
// it is not there.
//
// The lock file is never removed. If a holder removed it on leaving, a waiter
// that had opened it before would then lock a file without a name, while the
// next to come makes and locks a new one: two would be inside.
func (c *FileCache) lock(ctx context.Context) (unlock func(), err error) {
	path := c.path + ".lock"
	waited := func() error {
		return fmt.Errorf("cdfauth: FileCache: somebody else has the lock %s: %w", path, ctx.Err())
	}
	q, _ := fileQueues.LoadOrStore(c.path, make(chan struct{}, 1))
	queue := q.(chan struct{})
	select {
	case queue <- struct{}{}:
	case <-ctx.Done():
		return nil, waited()
	}
	defer func() {
		if err != nil {
			<-queue
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fileCacheError(err)
	}
	for pause := lockPauseMin; ; pause = min(2*pause, lockPauseMax) {
		f, err := openLocked(path)
		if err != nil {
			return nil, fileCacheError(err)
		}
		if f != nil {
			return func() { f.Close(); <-queue }, nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, waited()
		}
	}
}

// openLocked opens the lock file and locks it. It returns nil if somebody else
// has the lock, or if the file has lost its name to a cleaner since it was
// opened, so that the lock on it keeps nobody out.
func openLocked(path string) (*os.File, error) {
	f, err := openPrivate(path, true)
	if err != nil {
		return nil, err
	}
	locked, err := tryLock(f)
	if err == nil && locked {
		opened, err1 := f.Stat()
		named, err2 := os.Lstat(path)
		if err1 == nil && err2 == nil && os.SameFile(opened, named) {
			return f, nil
		}
	}
	f.Close()
	return nil, err
}

// read returns the content if the file can be trusted with a token.
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
	switch {
	case b.Len() > maxCache:
		return nil, fileCacheError(refuse(c.path, "has more than 1 MiB"))
	case b.Len() == 0:
		return nil, nil
	}
	return b.Bytes(), nil
}

func refuse(path, why string) error {
	return &os.PathError{Op: "open", Path: path, Err: errors.New(why)}
}

// write stores b, or removes the file if b is empty. Called with the lock held.
func (c *FileCache) write(b []byte) (err error) {
	if len(b) > maxCache {
		return fmt.Errorf("cdfauth: FileCache: %s: content of %d bytes, at most 1 MiB can be stored", c.path, len(b))
	}
	defer func() {
		if err != nil {
			err = fileCacheError(err)
		}
	}()
	c.removeLeftovers()
	if len(b) == 0 {
		if err := retryBusy(func() error { return os.Remove(c.path) }); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		syncDir(filepath.Dir(c.path))
		return nil
	}
	tmp := c.path + "." + rand.Text() + ".tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			_ = os.Remove(tmp) // the first error counts; what stays is removed by the next write
		}
	}()
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Sync(); err != nil { // or the new name could outlive a power cut without the content
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := retryBusy(func() error { return os.Rename(tmp, c.path) }); err != nil {
		return err
	}
	syncDir(filepath.Dir(c.path))
	return nil
}

// removeLeftovers removes what killed writers of this cache left. While the
// lock is held no other writer is alive. That a file cannot be removed is no
// reason not to store a token.
func (c *FileCache) removeLeftovers() {
	dir, base := filepath.Split(c.path)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		random, ours := strings.CutPrefix(e.Name(), base+".")
		random, tmp := strings.CutSuffix(random, ".tmp")
		if ours && tmp && len(random) == len(rand.Text()) && strings.Trim(random, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == "" && e.Type().IsRegular() {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// retryBusy repeats op while the file is open in another program (a reader, a
// virus scanner), which prevents it on Windows; for a second or so, because an
// error that looks the same may be there to stay.
func retryBusy(op func() error) error {
	for pause := lockPauseMin; ; pause *= 2 {
		err := op()
		if err == nil || pause > busyPauseMax || !isBusy(err) {
			return err
		}
		time.Sleep(pause)
	}
}

// MemoryCache is a [Cache] that ends with the process: for tests, and for
// providers that share a sign-in. The zero value is empty and ready for use. It
// must not be copied after first use.
type MemoryCache struct {
	mu      sync.Mutex    // guards the fields, not the exclusion of Update
	queue   chan struct{} // full while somebody is inside Update
	content func() []byte // a function, where no printer looks; nil when empty
}

// Get returns a copy of the content.
func (c *MemoryCache) Get(ctx context.Context) ([]byte, error) {
	if err := checkCacheCall("MemoryCache", c != nil, ctx, true); err != nil {
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
	if err := checkCacheCall("MemoryCache", c != nil, ctx, f != nil); err != nil {
		return err
	}
	c.mu.Lock()
	if c.queue == nil {
		c.queue = make(chan struct{}, 1)
	}
	c.mu.Unlock()
	select {
	case c.queue <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("cdfauth: MemoryCache: somebody else is inside Update: %w", ctx.Err())
	}
	defer func() { <-c.queue }()
	old, err := c.Get(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	next, err := f(ctx, old)
	if err != nil {
		return err
	}
	next = bytes.Clone(next) // which the caller may change later
	c.mu.Lock()
	defer c.mu.Unlock()
	c.content = nil
	if len(next) > 0 {
		c.content = func() []byte { return next }
	}
	return nil
}

// encryptionVersion is the first byte of encrypted content, and with the purpose
// its additional data: content sealed for another purpose, or of another version
// made to look like this one, does not open.
const (
	encryptionVersion = 1
	encryptionPurpose = "cdfauth token cache"
)

// encryptedCache has no field from which the key can be read.
type encryptedCache struct {
	cache Cache
	seal  func(plain []byte) []byte
	open  func(sealed []byte) ([]byte, error)
}

// EncryptCache returns a cache that keeps its content in c encrypted and
// authenticated (AES-256-GCM with random nonces, as FIPS 140 permits). The key
// has 32 bytes, is copied, and comes from somewhere that whoever can read c
// cannot read. Content that was changed, or made with another key, is an error
// of Get and of Update, and is left alone.
//
// It does not detect roll-back: whoever can write to c can put earlier content
// back, or remove it.
func EncryptCache(c Cache, key []byte) (Cache, error) {
	if c == nil {
		return nil, errors.New("cdfauth: EncryptCache: the cache is nil")
	}
	if len(key) != 32 {
		return nil, fmt.Errorf("cdfauth: EncryptCache: the key has %d bytes, want 32 (AES-256)", len(key))
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("cdfauth: EncryptCache: %w", err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("cdfauth: EncryptCache: %w", err)
	}
	additional := append([]byte{encryptionVersion}, encryptionPurpose...)
	return &encryptedCache{
		cache: c,
		seal: func(plain []byte) []byte {
			return gcm.Seal([]byte{encryptionVersion}, nil, plain, additional)
		},
		open: func(sealed []byte) ([]byte, error) {
			if len(sealed) == 0 {
				return nil, nil
			}
			if sealed[0] != encryptionVersion {
				return nil, errors.New("cdfauth: EncryptCache: the content is not encrypted, or by a version of this package that this one does not know")
			}
			plain, err := gcm.Open(nil, nil, sealed[1:], additional)
			if err != nil {
				return nil, fmt.Errorf("cdfauth: EncryptCache: the content was made with another key, or changed: %w", err)
			}
			return plain, nil
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
	if err := checkCacheCall("EncryptCache", true, ctx, f != nil); err != nil {
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
			return sealed, nil // another nonce would make it another content
		}
		return c.seal(next), nil
	})
}
