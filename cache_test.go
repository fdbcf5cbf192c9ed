package cdfauth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets a test start this binary again as another process: see child.
func TestMain(m *testing.M) {
	if name := os.Getenv("CDFAUTH_TEST_CHILD"); name != "" {
		if err := children[name](os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// children are what another process may do with the cache at path.
var children = map[string]func(path string) error{
	// count adds 1, 25 times.
	"count": func(path string) error {
		c, err := NewFileCache(path)
		for range 25 {
			err = errors.Join(err, c.Update(context.Background(), increment))
		}
		return err
	},
	// hold stays inside Update until it is killed or its input ends.
	"hold": func(path string) error {
		c, err := NewFileCache(path)
		if err != nil {
			return err
		}
		return c.Update(context.Background(), func(context.Context, []byte) ([]byte, error) {
			fmt.Println("inside")
			_, err := io.Copy(io.Discard, os.Stdin)
			return []byte("held"), err
		})
	},
	// token gets an application's token through the cache.
	"token": func(path string) error {
		cache, err := NewFileCache(path)
		if err != nil {
			return err
		}
		p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: Issuer(os.Getenv("CDFAUTH_TEST_ISSUER")), ClientID: "client", ClientSecret: SecretString("s3cret/of+the client"),
			Scopes: []string{os.Getenv("CDFAUTH_TEST_SCOPE")}, Options: Options{Cache: cache}})
		if err != nil {
			return err
		}
		tok, err := p.Token(context.Background())
		fmt.Println(tok.AccessToken())
		return err
	},
	// write replaces the content until it is killed.
	"write": func(path string) error {
		c, err := NewFileCache(path)
		for n := 0; err == nil; n++ {
			err = c.Update(context.Background(), func(_ context.Context, old []byte) ([]byte, error) {
				if len(old) > 0 && !whole(old) {
					return nil, errors.New("content is not whole")
				}
				return document(n*7919%50000 + 1), nil
			})
			fmt.Println(n)
		}
		return err
	},
}

// child starts this binary again. Its standard output can be read by lines.
func child(t *testing.T, name, path string) (*exec.Cmd, *bufio.Scanner, io.WriteCloser) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, path)
	cmd.Env = append(os.Environ(), "CDFAUTH_TEST_CHILD="+name)
	cmd.Stderr = os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, bufio.NewScanner(out), in
}

func increment(_ context.Context, old []byte) ([]byte, error) {
	n, err := strconv.Atoi("0" + string(old))
	return []byte(strconv.Itoa(n + 1)), err
}

// document is content of n bytes and a checksum.
func document(n int) []byte {
	b := bytes.Repeat([]byte{byte('a' + n%26)}, n)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func whole(b []byte) bool {
	n := len(b) - sha256.Size
	return n > 0 && bytes.Equal(document(n), b)
}

func fileCache(t testing.TB) (*FileCache, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dir", "tokens.bin")
	c, err := NewFileCache(path)
	if err != nil {
		t.Fatal(err)
	}
	return c, path
}

func encrypted(t testing.TB, c Cache) Cache {
	t.Helper()
	e, err := EncryptCache(c, bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func put(t testing.TB, c Cache, content string) {
	t.Helper()
	err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return []byte(content), nil })
	if err != nil {
		t.Fatalf("Update: %v", err)
	}
}

func wantContent(t testing.TB, c Cache, want string) {
	t.Helper()
	got, err := c.Get(t.Context())
	if err != nil || string(got) != want || want == "" && got != nil {
		t.Fatalf("Get = %.60q, %v; want %.60q", got, err, want)
	}
}

// forEachCache runs a test of what the interface promises over every cache. raw
// returns the stored bytes and something that differs after each write.
func forEachCache(t *testing.T, f func(t *testing.T, c Cache, raw func() (string, any))) {
	file := func(t *testing.T, wrap func(testing.TB, Cache) Cache) {
		c, path := fileCache(t)
		var last os.FileInfo
		generation := 0
		f(t, wrap(t, c), func() (string, any) {
			b, err := os.ReadFile(path)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if info, err := os.Stat(path); err == nil && (last == nil || !os.SameFile(last, info)) {
				last, generation = info, generation+1
			}
			return string(b), generation
		})
	}
	memory := func(t *testing.T, wrap func(testing.TB, Cache) Cache) {
		c := &MemoryCache{}
		f(t, wrap(t, c), func() (string, any) {
			b, err := c.Get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return string(b), string(b)
		})
	}
	plain := func(_ testing.TB, c Cache) Cache { return c }
	t.Run("FileCache", func(t *testing.T) { file(t, plain) })
	t.Run("MemoryCache", func(t *testing.T) { memory(t, plain) })
	t.Run("EncryptCache(FileCache)", func(t *testing.T) { file(t, encrypted) })
	t.Run("EncryptCache(MemoryCache)", func(t *testing.T) { memory(t, encrypted) })
}

func TestCacheStoresWhatFReturns(t *testing.T) {
	forEachCache(t, func(t *testing.T, c Cache, raw func() (string, any)) {
		wantContent(t, c, "")
		calls := 0
		err := c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
			calls++
			if old != nil {
				t.Errorf("old = %q in an empty cache, want nil", old)
			}
			return []byte("first"), nil
		})
		if err != nil || calls != 1 {
			t.Fatal(err, calls)
		}
		wantContent(t, c, "first")
		_, written := raw()

		put(t, c, "first")
		if _, again := raw(); written != again {
			t.Error("content equal to old was written")
		}
		// What f makes of old in place is new content all the same.
		err = c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) { return append(old[:0], "fifth"...), nil })
		if err != nil {
			t.Fatal(err)
		}
		wantContent(t, c, "fifth")

		put(t, c, "")
		wantContent(t, c, "")
		if b, _ := raw(); b != "" {
			t.Errorf("%q is left of a cache that was emptied", b)
		}
		put(t, c, "") // nothing to remove
		put(t, c, "again")
		wantContent(t, c, "again")
	})
}

func TestCacheCopies(t *testing.T) {
	forEachCache(t, func(t *testing.T, c Cache, _ func() (string, any)) {
		given := []byte("content")
		if err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return given, nil }); err != nil {
			t.Fatal(err)
		}
		got, err := c.Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		given[0], got[1] = 'X', 'X'
		failed := errors.New("failed")
		err = c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) { old[2] = 'X'; return old, failed })
		if err != failed {
			t.Fatalf("Update = %v, want f's error as it is", err)
		}
		wantContent(t, c, "content")
	})
}

func TestCacheOutlivesItsFunction(t *testing.T) {
	forEachCache(t, func(t *testing.T, c Cache, raw func() (string, any)) {
		put(t, c, "before")
		_, before := raw()
		for name, end := range map[string]func(){"panic": func() { panic("f") }, "Goexit": runtime.Goexit} {
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { _ = recover() }()
				_ = c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { end(); return []byte("after"), nil })
			}()
			<-done
			if _, after := raw(); before != after {
				t.Errorf("%s in f: the cache was written", name)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // were the lock still held
			err := c.Update(ctx, func(_ context.Context, old []byte) ([]byte, error) { return old, nil })
			cancel()
			if err != nil {
				t.Fatalf("Update after %s in f: %v", name, err)
			}
		}
	})
}

func TestCacheContext(t *testing.T) {
	forEachCache(t, func(t *testing.T, c Cache, _ func() (string, any)) {
		put(t, c, "first")
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := c.Get(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("Get with an ended context: %v", err)
		}
		never := func(context.Context, []byte) ([]byte, error) { t.Error("f was called"); return nil, nil }
		if err := c.Update(ended, never); !errors.Is(err, context.Canceled) {
			t.Errorf("Update with an ended context: %v", err)
		}

		// While one is inside, another's wait ends with its context, a reader does
		// not wait, and the end of the context after f does not stop the write.
		inside, leave, left := make(chan struct{}), make(chan struct{}), make(chan error)
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), contextKey("key"), "value"))
		go func() {
			left <- c.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
				if ctx.Value(contextKey("key")) != "value" {
					t.Error("f did not get the caller's context")
				}
				close(inside)
				<-leave
				cancel()
				return []byte("second"), nil
			})
		}()
		<-inside
		wantContent(t, c, "first")
		waiting, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer stop()
		if err := c.Update(waiting, never); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update while another is inside: %v", err)
		}
		close(leave)
		if err := <-left; err != nil {
			t.Errorf("Update whose context ended inside f: %v", err)
		}
		wantContent(t, c, "second")
	})
}

func TestCacheExcludesGoroutines(t *testing.T) {
	forEachCache(t, func(t *testing.T, c Cache, _ func() (string, any)) {
		caches := []Cache{c}
		if fc, ok := c.(*FileCache); ok { // another value for the same path, spelt differently
			other, err := NewFileCache(filepath.Dir(fc.path) + "/x/../" + filepath.Base(fc.path))
			if err != nil {
				t.Fatal(err)
			}
			caches = append(caches, other)
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range 10 {
					if err := caches[i%len(caches)].Update(t.Context(), increment); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		wg.Wait()
		wantContent(t, c, "80")
	})
}

func TestCacheMisuse(t *testing.T) {
	var none *FileCache
	var zero FileCache
	var noMemory *MemoryCache
	f := func(context.Context, []byte) ([]byte, error) { t.Error("f was called"); return nil, nil }
	for name, c := range map[string]Cache{"nil FileCache": none, "zero FileCache": &zero, "nil MemoryCache": noMemory, "encrypted nil": encrypted(t, none)} {
		_, err := c.Get(t.Context())
		for _, err := range []error{err, c.Update(t.Context(), f)} {
			if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: ") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	forEachCache(t, func(t *testing.T, c Cache, _ func() (string, any)) {
		var noContext context.Context
		_, err := c.Get(noContext)
		for _, err := range []error{err, c.Update(noContext, f), c.Update(t.Context(), nil)} {
			if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: ") {
				t.Errorf("%v", err)
			}
		}
	})
	_, err1 := NewFileCache("")
	_, err2 := EncryptCache(nil, make([]byte, 32))
	_, err3 := EncryptCache(&MemoryCache{}, make([]byte, 16))
	_, err4 := DefaultCachePath("")
	for _, err := range []error{err1, err2, err3, err4} {
		if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: ") {
			t.Errorf("%v", err)
		}
	}
}

func TestEncryptCacheRefusesWhatItDidNotMake(t *testing.T) {
	store := &MemoryCache{}
	key := bytes.Repeat([]byte("k"), 32)
	c, err := EncryptCache(store, key)
	if err != nil {
		t.Fatal(err)
	}
	clear(key) // which was copied
	put(t, c, "opaque content")
	put(t, encrypted(t, store), "opaque content") // nothing is written, and the key is the same
	sealed, err := store.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("opaque")) {
		t.Errorf("stored in clear: %q", sealed)
	}
	// Made with the same key, but for another purpose: other additional data.
	block, err := aes.NewCipher(bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gcm.Open(nil, nil, sealed[1:], []byte("\x01cdfauth token cache")); err != nil {
		t.Errorf("the format has changed under the same version: %v", err)
	}
	put(t, store, "\x01"+string(gcm.Seal(nil, nil, []byte("content"), []byte("\x01something else"))))
	if _, err := c.Get(t.Context()); err == nil {
		t.Error("content for another purpose was accepted")
	}
	broken := map[string][]byte{"in clear": []byte(`{"AccessToken":{}}`), "version": append([]byte{2}, sealed[1:]...), "longer": append(bytes.Clone(sealed), 0)}
	for i := range sealed {
		b := bytes.Clone(sealed)
		b[i] ^= 0x40
		broken["bit in byte "+strconv.Itoa(i)] = b
		if i > 0 {
			broken["cut to "+strconv.Itoa(i)] = sealed[:i]
		}
	}
	otherKey, err := EncryptCache(store, bytes.Repeat([]byte("x"), 32))
	if err != nil {
		t.Fatal(err)
	}
	check := func(name string, c Cache) {
		t.Helper()
		before, _ := store.Get(t.Context())
		got, err := c.Get(t.Context())
		err2 := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { t.Error("f was called"); return nil, nil })
		if got != nil || err == nil || err2 == nil {
			t.Errorf("%s: Get = %q, %v; Update: %v", name, got, err, err2)
		}
		after, _ := store.Get(t.Context())
		if !bytes.Equal(before, after) {
			t.Errorf("%s: the content was changed", name)
		}
	}
	put(t, store, string(sealed))
	check("another key", otherKey)
	for name, b := range broken {
		put(t, store, string(b))
		check(name, c)
	}
	put(t, store, string(sealed))
	wantContent(t, c, "opaque content")
}

// A fresh seal of the same content differs: the nonce is not fixed.
func TestEncryptCacheNonce(t *testing.T) {
	seen := map[string]bool{}
	for range 20 {
		store := &MemoryCache{}
		put(t, encrypted(t, store), "content")
		b, _ := store.Get(t.Context())
		seen[string(b)] = true
	}
	if len(seen) != 20 {
		t.Errorf("20 seals gave %d different results", len(seen))
	}
}

func TestFileCachePath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	c, err := NewFileCache("a/../tokens.bin")
	if err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("NewFileCache made %v, %v", entries, err)
	}
	t.Chdir(os.TempDir()) // the path is as it was then
	put(t, c, "content")
	if _, err := os.Stat(filepath.Join(dir, "tokens.bin")); err != nil {
		t.Error(err)
	}
}

func TestDefaultCachePath(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil { // a machine without a home
		if _, err := DefaultCachePath("id"); err == nil {
			t.Error("a path without a user cache directory")
		}
		return
	}
	got := map[string]string{}
	for _, id := range []string{"1b90ede3-271e-401b-81a0-a4d52bea3273", "../../x", `a:b*c?"<>|\/d`, "é ~$&+=@"} {
		p, err := DefaultCachePath(id)
		if err != nil {
			t.Fatal(err)
		}
		if rel, err := filepath.Rel(filepath.Join(cache, "cdfauth"), p); err != nil || filepath.Base(p) != rel {
			t.Errorf("%s is not in the directory itself", p)
		}
		got[id] = filepath.Base(p)
	}
	want := map[string]string{
		"1b90ede3-271e-401b-81a0-a4d52bea3273": "cognitetokencache.1b90ede3-271e-401b-81a0-a4d52bea3273.bin",
		"../../x":                              "cognitetokencache...%2F..%2Fx.bin",
		`a:b*c?"<>|\/d`:                        "cognitetokencache.a%3Ab%2Ac%3F%22%3C%3E%7C%5C%2Fd.bin",
		"é ~$&+=@":                             "cognitetokencache.%C3%A9%20~$&+=@.bin",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestFileCacheLimit(t *testing.T) {
	c, path := fileCache(t)
	most := strings.Repeat("x", 1<<20)
	put(t, c, most)
	wantContent(t, c, most)
	err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return []byte(most + "x"), nil })
	if err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("more than 1 MiB: %v", err)
	}
	wantContent(t, c, most)
	wantFiles(t, path, "tokens.bin", "tokens.bin.lock")
}

// wantFiles checks what there is in the directory of path.
func wantFiles(t *testing.T, path string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestFileCacheRemovesOnlyItsLeftovers(t *testing.T) {
	c, path := fileCache(t)
	put(t, c, "content")
	const random = "ABCDEFGHIJKLMNOPQRSTUVWX27"
	for _, suffix := range []string{"." + random + ".tmp", "." + random[1:] + ".tmp", "." + strings.ToLower("C"+random[1:]) + ".tmp", "." + random + ".tmpx", "2." + random + ".tmp", ".tmp"} {
		if err := os.WriteFile(path+suffix, []byte("partial"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(path+".B"+random[1:]+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, c, "more")
	wantContent(t, c, "more")
	wantFiles(t, path, "tokens.bin", "tokens.bin."+random[1:]+".tmp", "tokens.bin."+random+".tmpx",
		"tokens.bin.B"+random[1:]+".tmp", "tokens.bin."+strings.ToLower("C"+random[1:])+".tmp", "tokens.bin.lock", "tokens.bin.tmp", "tokens.bin2."+random+".tmp")
}

func TestFileCacheSetAside(t *testing.T) {
	c, path := fileCache(t)
	put(t, c, "broken")
	if err := c.setAside(t.Context(), []byte("other")); err != nil {
		t.Fatal(err)
	}
	wantContent(t, c, "broken") // somebody has replaced what was bad
	for range 2 {
		if err := c.setAside(t.Context(), []byte("broken")); err != nil {
			t.Fatal(err)
		}
		wantContent(t, c, "")
		if b, err := os.ReadFile(path + ".bad"); err != nil || string(b) != "broken" {
			t.Errorf("set aside: %q, %v", b, err)
		}
		put(t, c, "broken")
	}
	wantFiles(t, path, "tokens.bin", "tokens.bin.bad", "tokens.bin.lock")
	if _, ok := encrypted(t, c).(interface {
		setAside(context.Context, []byte) error
	}); ok {
		t.Error("EncryptCache passes setAside on: content under a wrong key would be moved")
	}
}

func TestFileCacheProcessesLoseNothing(t *testing.T) {
	c, path := fileCache(t)
	var counting []*exec.Cmd
	for range 8 {
		cmd, _, _ := child(t, "count", path)
		counting = append(counting, cmd)
	}
	for _, cmd := range counting {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	wantContent(t, c, "200")
	wantFiles(t, path, "tokens.bin", "tokens.bin.lock")
}

func TestFileCacheHeldByAnotherProcess(t *testing.T) {
	c, path := fileCache(t)
	put(t, c, "before")
	holder, out, _ := child(t, "hold", path)
	if !out.Scan() || out.Text() != "inside" {
		t.Fatalf("the other process said %q", out.Text())
	}
	wantContent(t, c, "before")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := c.Update(ctx, func(context.Context, []byte) ([]byte, error) { t.Error("f was called"); return nil, nil })
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), path+".lock") {
		t.Errorf("Update while another process is inside: %v", err)
	}
	wantContent(t, c, "before")

	// Its lock ends with it.
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	put(t, c, "after")
	wantContent(t, c, "after")

	// And one that leaves as it should is waited for.
	_, out, in := child(t, "hold", path)
	if !out.Scan() {
		t.Fatal("the other process is not inside")
	}
	time.AfterFunc(20*time.Millisecond, func() { in.Close() })
	err = c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) { return append(old, " and ours"...), nil })
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, c, "held and ours")
}

func TestFileCacheKilledWriters(t *testing.T) {
	kills := 500
	if testing.Short() {
		kills = 50
	}
	c, path := fileCache(t)
	put(t, c, string(document(1)))
	partial := 0
	for range kills {
		cmd, out, _ := child(t, "write", path)
		for range 1 + rand.N(3) {
			out.Scan()
		}
		<-time.After(rand.N(2 * time.Millisecond)) // any moment of the writing
		if b, err := c.Get(t.Context()); err != nil || !whole(b) {
			t.Fatalf("read while it is written: %d bytes, %v", len(b), err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if b, err := c.Get(t.Context()); err != nil || !whole(b) {
			t.Fatalf("read after a writer was killed: %d bytes, %v", len(b), err)
		}
		left, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(left) > 3 { // the cache, the lock, and what this one left
			t.Fatalf("litter: %v, %v", left, err)
		}
		partial += len(left) - 2
	}
	t.Logf("%d of %d writers left a temporary file", partial, kills)
	put(t, c, "done")
	wantFiles(t, path, "tokens.bin", "tokens.bin.lock")
}

// An example of a file as small programs have it: about 8 KB.
func BenchmarkCacheRead(b *testing.B) {
	c, path := fileCache(b)
	put(b, c, strings.Repeat("x", 8<<10))
	b.Run("FileCache.Get", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := c.Get(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("os.ReadFile", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := os.ReadFile(path); err != nil {
				b.Fatal(err)
			}
		}
	})
}

type contextKey string
