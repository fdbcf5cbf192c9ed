package cdfauth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/fips140"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Tests with other processes run this test binary again: as what, the
// environment says.
const childEnv = "CDFAUTH_TEST_CHILD"

var children = map[string]func(c *FileCache, arg string) error{
	"increment": func(c *FileCache, arg string) error {
		n, _ := strconv.Atoi(arg)
		for range n {
			if err := increment(c); err != nil {
				return err
			}
		}
		return nil
	},
	"hold": func(c *FileCache, _ string) error { // until it is killed
		return c.Update(context.Background(), func(context.Context, []byte) ([]byte, error) {
			fmt.Println("held")
			io.Copy(io.Discard, os.Stdin)
			return nil, errors.New("not killed")
		})
	},
	"token": func(c *FileCache, arg string) error { // of the scope and from the issuer given
		scope, issuer, _ := strings.Cut(arg, " ")
		p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: Issuer(issuer), ClientID: "client", ClientSecret: SecretString("s3cret/of+the client"),
			Scopes: []string{scope}, Options: Options{Cache: c}})
		if err != nil {
			return err
		}
		tok, err := p.Token(context.Background())
		fmt.Println(tok.AccessToken())
		return err
	},
	"write": func(c *FileCache, _ string) error { // for ever
		for i := 0; ; i++ {
			if err := c.Update(context.Background(), func(context.Context, []byte) ([]byte, error) { return whole(i), nil }); err != nil {
				return err
			}
			if i == 0 {
				fmt.Println("writing")
			}
		}
	},
}

func TestMain(m *testing.M) {
	if f, ok := children[os.Getenv(childEnv)]; ok {
		c, err := NewFileCache(os.Args[1])
		if err == nil {
			err = f(c, os.Args[2])
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	if fips140.Enabled() { // whose random generators want a real clock when they are made: one made here has to do for the tests on simulated time
		runtime.GOMAXPROCS(1)
		flag.Set("test.parallel", "1")
	}
	os.Exit(m.Run())
}

func child(t *testing.T, name string, c *FileCache, arg string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, c.path, arg)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.Stderr = os.Stderr
	return cmd
}

// start starts a child and waits for its first line.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil { // open as long as we live
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
}

func kill(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
}

func increment(c Cache) error {
	return c.Update(context.Background(), func(_ context.Context, old []byte) ([]byte, error) {
		n, err := strconv.Atoi("0" + string(old))
		return strconv.AppendInt(nil, int64(n+1), 10), err
	})
}

// whole is content of changing length that shows whether it is all there.
func whole(i int) []byte {
	b := bytes.Repeat([]byte{byte('a' + i%26)}, 1000+i*7919%60000)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func isWhole(b []byte) bool {
	n := len(b) - sha256.Size
	return n > 0 && sha256.Sum256(b[:n]) == [32]byte(b[n:])
}

func fileCache(t testing.TB) *FileCache {
	t.Helper()
	c, err := NewFileCache(filepath.Join(t.TempDir(), "dir", "cache.bin"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func encrypted(t testing.TB, c Cache) Cache {
	t.Helper()
	e, err := EncryptCache(c, []byte("0123456789abcdef0123456789abcdef"))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func put(t testing.TB, c Cache, content string) {
	t.Helper()
	if err := c.Update(context.Background(), func(context.Context, []byte) ([]byte, error) { return []byte(content), nil }); err != nil {
		t.Fatal(err)
	}
}

func wantContent(t testing.TB, c Cache, want string) {
	t.Helper()
	b, err := c.Get(context.Background())
	if err != nil || string(b) != want || (b == nil) != (want == "") {
		t.Errorf("Get: %q, %v; want %q", b, err, want)
	}
}

// everyCache runs f on each Cache there is. raw is what it stores, with the
// identity of the file if there is one.
func everyCache(t *testing.T, f func(t *testing.T, c Cache, raw func() string)) {
	file, encryptedFile, encryptedMemory := fileCache(t), fileCache(t), new(MemoryCache)
	rawFile := func(c *FileCache) func() string {
		return func() string {
			b, err := os.ReadFile(c.path)
			if err != nil {
				return "none"
			}
			return string(b) + fmt.Sprint(modTime(t, c.path))
		}
	}
	for name, c := range map[string]struct {
		cache Cache
		raw   func() string
	}{
		"file":             {file, rawFile(file)},
		"memory":           {new(MemoryCache), func() string { return "none" }},
		"encrypted file":   {encrypted(t, encryptedFile), rawFile(encryptedFile)},
		"encrypted memory": {encrypted(t, encryptedMemory), func() string { b, _ := encryptedMemory.Get(context.Background()); return string(b) }},
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); f(t, c.cache, c.raw) })
	}
}

func modTime(t *testing.T, path string) time.Time {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fi.ModTime()
}

func TestCacheKeepsContent(t *testing.T) {
	t.Parallel()
	everyCache(t, func(t *testing.T, c Cache, raw func() string) {
		wantContent(t, c, "")
		calls := 0
		if err := c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
			calls++
			if old != nil {
				t.Errorf("old: %q, want nil", old)
			}
			return []byte("first"), nil
		}); err != nil {
			t.Fatal(err)
		}
		wantContent(t, c, "first")

		// Content equal to old is not written.
		before := raw()
		put(t, c, "first")
		if after := raw(); after != before {
			t.Error("equal content was written")
		}

		// f's error comes back as it is, and what it returned beside it is not written.
		failed := errors.New("f failed")
		if err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { calls++; return []byte("lost"), failed }); err != failed {
			t.Errorf("Update: %v, want f's error", err)
		}
		wantContent(t, c, "first")
		if calls != 2 {
			t.Errorf("%d calls, want one for each Update", calls)
		}

		// Nobody's slice is anybody else's.
		b, _ := c.Get(t.Context())
		clear(b)
		wantContent(t, c, "first")
		if err := c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) { clear(old); return nil, failed }); err != failed {
			t.Error(err)
		}
		wantContent(t, c, "first")
		var kept []byte
		if err := c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
			kept = append(old[:0], "FIRST"...) // in place
			return kept, nil
		}); err != nil {
			t.Error(err)
		}
		wantContent(t, c, "FIRST")
		clear(kept)
		wantContent(t, c, "FIRST")

		// Empty content removes the blob, and once more changes nothing.
		for range 2 {
			if err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return []byte{}, nil }); err != nil {
				t.Fatal(err)
			}
			wantContent(t, c, "")
		}
		if left := raw(); left != "none" && left != "" {
			t.Errorf("left behind: %q", left)
		}
	})
}

func TestCacheContext(t *testing.T) {
	t.Parallel()
	everyCache(t, func(t *testing.T, c Cache, _ func() string) {
		never := func(context.Context, []byte) ([]byte, error) { t.Error("f was called"); return nil, nil }
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Update(ended, never); !errors.Is(err, context.Canceled) {
			t.Errorf("Update under an ended context: %v", err)
		}
		if _, err := c.Get(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("Get under an ended context: %v", err)
		}

		// A context that ends while f runs does not stop the write, nor Get the
		// Update; a second Update waits, and leaves when its own context ends.
		ctx, cancel := context.WithCancel(t.Context())
		if err := c.Update(ctx, func(ctx context.Context, _ []byte) ([]byte, error) {
			wantContent(t, c, "")
			waiting, stop := context.WithCancel(t.Context())
			left := make(chan error)
			go func() { left <- c.Update(waiting, never) }()
			select {
			case err := <-left:
				t.Errorf("a second Update did not wait: %v", err)
			default:
			}
			stop()
			if err := <-left; !errors.Is(err, context.Canceled) {
				t.Errorf("waiting Update: %v", err)
			}
			cancel()
			if ctx.Err() == nil {
				t.Error("f's context is not the caller's")
			}
			return []byte("late"), nil
		}); err != nil {
			t.Error(err)
		}
		wantContent(t, c, "late")

		var noContext context.Context
		for name, err := range map[string]error{
			"nil function": c.Update(t.Context(), nil),
			"nil context":  c.Update(noContext, never),
			"nil Get":      func() error { _, err := c.Get(noContext); return err }(),
		} {
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		}
	})
	for name, c := range map[string]Cache{"nil file": (*FileCache)(nil), "zero file": new(FileCache), "nil memory": (*MemoryCache)(nil), "encrypted nil": encrypted(t, (*MemoryCache)(nil))} {
		if _, err := c.Get(t.Context()); err == nil {
			t.Errorf("%s: Get: no error", name)
		}
		if err := increment(c); err == nil {
			t.Errorf("%s: Update: no error", name)
		}
	}
}

// TestCacheAfterPanic: neither a panic nor an end of its goroutine in f keeps
// the lock or writes anything.
func TestCacheAfterPanic(t *testing.T) {
	t.Parallel()
	everyCache(t, func(t *testing.T, c Cache, _ func() string) {
		put(t, c, "1")
		for _, end := range []func(){func() { panic("f") }, runtime.Goexit} {
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { recover() }()
				c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { end(); return nil, nil })
			}()
			<-done
		}
		if err := increment(c); err != nil {
			t.Error(err)
		}
		wantContent(t, c, "2")
	})
}

func TestCacheExcludesGoroutines(t *testing.T) {
	t.Parallel()
	everyCache(t, func(t *testing.T, c Cache, _ func() string) {
		var inside atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range 20 {
					if err := c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
						if inside.Add(1) != 1 {
							t.Error("two are inside Update")
						}
						defer inside.Add(-1)
						n, err := strconv.Atoi("0" + string(old))
						return strconv.AppendInt(nil, int64(n+1), 10), err
					}); err != nil {
						t.Error(err)
					}
				}
			}()
		}
		wg.Wait()
		wantContent(t, c, "160")
	})
}

// TestFileCachesOfOnePath: different FileCaches of one path exclude each other,
// however it was written.
func TestFileCachesOfOnePath(t *testing.T) {
	t.Parallel()
	a := fileCache(t)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	others := []*FileCache{{a.path}}
	for _, path := range []string{a.path, filepath.Dir(a.path) + "/./x/../" + filepath.Base(a.path), relative(t, dir, a.path)} {
		c, err := NewFileCache(path)
		if err != nil || c.path != a.path {
			t.Errorf("%q: %v, %v; want that of %q", path, c, err, a.path)
		}
		others = append(others, c)
	}
	if err := a.Update(t.Context(), func(context.Context, []byte) ([]byte, error) {
		for _, c := range others {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			err := mustNot(ctx, c)
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), a.path+".lock") {
				t.Errorf("second Update: %v", err)
			}
		}
		return []byte("0"), nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range others {
		if err := increment(c); err != nil {
			t.Error(err)
		}
	}
	wantContent(t, a, "4")
	if _, err := NewFileCache(""); err == nil || !strings.Contains(err.Error(), "path") {
		t.Errorf("empty path: %v", err)
	}
}

func mustNot(ctx context.Context, c Cache) error {
	return c.Update(ctx, func(context.Context, []byte) ([]byte, error) { return nil, errors.New("f was called") })
}

// relative returns path seen from dir, or path itself where there is no way
// (two Windows drives).
func relative(t *testing.T, dir, path string) string {
	t.Helper()
	if rel, err := filepath.Rel(dir, path); err == nil {
		return rel
	}
	return path
}

// TestFileCacheProcesses: nothing is lost between processes and goroutines.
func TestFileCacheProcesses(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	const processes, increments = 8, 25
	var cmds []*exec.Cmd
	for range processes {
		cmd := child(t, "increment", c, fmt.Sprint(increments))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
	}
	for range increments {
		if err := increment(c); err != nil {
			t.Error(err)
		}
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	wantContent(t, c, fmt.Sprint((processes+1)*increments))
	wantFiles(t, c, ".lock", "")
}

// wantFiles says what the cache's directory has, by what follows the cache's name.
func wantFiles(t *testing.T, c *FileCache, suffixes ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(c.path))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, strings.TrimPrefix(e.Name(), filepath.Base(c.path)))
	}
	slices.Sort(suffixes)
	slices.Sort(got)
	if !slices.Equal(got, suffixes) {
		t.Errorf("beside the cache are %q, want %q", got, suffixes)
	}
}

// TestFileCacheLockHeld: the lock of another process ends with it and not before.
func TestFileCacheLockHeld(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	holder := child(t, "hold", c, "")
	start(t, holder)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := mustNot(ctx, c); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), c.path+".lock") {
		t.Errorf("Update: %v", err)
	}
	wantContent(t, c, "") // Get needs no lock
	kill(t, holder)
	if err := increment(c); err != nil {
		t.Error(err)
	}
	wantContent(t, c, "1")
}

// TestFileCacheKill: a writer that is killed at any moment leaves the old
// content or the new, and at most one file, which the next one removes.
func TestFileCacheKill(t *testing.T) {
	t.Parallel()
	kills := 500
	if testing.Short() {
		kills = 40
	}
	var litter atomic.Int32
	t.Run("writers", func(t *testing.T) {
		for range 2 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				c := fileCache(t)
				for i := range kills / 2 {
					cmd := child(t, "write", c, "")
					start(t, cmd)
					timer := time.After(time.Duration(rand.IntN(3000)) * time.Microsecond)
					if i%4 == 0 { // the others are left to chance: a slow machine may never hit
						timer = time.After(whenWriting(c))
					}
					for killed := false; !killed; {
						select {
						case <-timer:
							kill(t, cmd)
							killed = true
						default:
						}
						if b, err := c.Get(t.Context()); err != nil || !isWhole(b) {
							t.Fatalf("read %d bytes, %v: not whole", len(b), err)
						}
					}
					temps, err := filepath.Glob(c.path + ".*.tmp")
					if err != nil || len(temps) > 1 {
						t.Fatalf("%d temporary files piled up, %v", len(temps), err)
					}
					litter.Add(int32(len(temps)))
				}
				put(t, c, "the last")
				wantFiles(t, c, "", ".lock")
			})
		}
	})
	t.Logf("%d of %d kills hit a writer before it renamed", litter.Load(), kills)
	if litter.Load() == 0 && !testing.Short() && !fips140.Enabled() { // in that mode a writer spends its time on the random name
		t.Error("no kill hit a write: the test shows nothing")
	}
}

// whenWriting waits, a second at most, for a writer's temporary file.
func whenWriting(c *FileCache) time.Duration {
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		if temps, err := filepath.Glob(c.path + ".*.tmp"); err != nil || len(temps) > 0 {
			break
		}
	}
	return 0
}

// TestFileCacheSweeps removes temporary files of this cache and nothing else.
func TestFileCacheSweeps(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	put(t, c, "1")
	const random = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	keep := []string{".lock", "", ".tmp", ".bad", "." + random, ".x" + random + ".tmp", "." + random[1:] + ".tmp", "." + strings.ToLower(random[1:]) + "1.tmp", "2." + random + ".tmp"}
	for _, suffix := range append(keep[2:], "."+random+".tmp", ".234567"+random[6:]+".tmp") {
		if err := os.WriteFile(c.path+suffix, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(t, c, "1") // is not written
	put(t, c, "2")
	wantFiles(t, c, keep...)
}

func TestFileCacheSize(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	most := strings.Repeat("x", 1<<20)
	put(t, c, most)
	wantContent(t, c, most)
	err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return []byte(most + "x"), nil })
	if err == nil || !strings.Contains(err.Error(), c.path) {
		t.Errorf("Update with more than 1 MiB: %v", err)
	}
	wantContent(t, c, most)
	wantFiles(t, c, "", ".lock")
}

// TestFileCacheSetAside: bad content moves to one name, good content stays.
func TestFileCacheSetAside(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	setAside := func() {
		t.Helper()
		if err := c.setAside(t.Context()); err != nil {
			t.Error(err)
		}
	}
	setAside() // no file
	put(t, c, `{"good":{}}`)
	setAside()
	wantContent(t, c, `{"good":{}}`)
	for _, bad := range []string{"bad", `{"AccessToken":[]}`} {
		put(t, c, bad)
		setAside()
		wantContent(t, c, "")
		if b, err := os.ReadFile(c.path + ".bad"); string(b) != bad {
			t.Errorf("set aside: %q, %v; want %q", b, err, bad)
		}
		wantFiles(t, c, ".bad", ".lock")
	}
	if _, ok := encrypted(t, c).(interface {
		setAside(context.Context) error
	}); ok {
		t.Error("EncryptCache passes setAside on: what is wrong may be the key")
	}
}

// TestFileCacheNoDirectory: a directory that cannot be made is an error, and f
// is not called.
func TestFileCacheNoDirectory(t *testing.T) {
	t.Parallel()
	file := fileCache(t)
	put(t, file, "a file")
	c, err := NewFileCache(filepath.Join(file.path, "cache.bin"))
	if err != nil {
		t.Fatal(err)
	}
	if err := mustNot(t.Context(), c); err == nil || !strings.Contains(err.Error(), file.path) {
		t.Errorf("Update: %v", err)
	}
}

func TestEncryptCache(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 16, 24, 31, 33, 64} {
		if _, err := EncryptCache(new(MemoryCache), make([]byte, n)); err == nil || !strings.Contains(err.Error(), fmt.Sprint(n)) {
			t.Errorf("key of %d bytes: %v", n, err)
		}
	}
	if _, err := EncryptCache(nil, make([]byte, 32)); err == nil {
		t.Error("nil cache: no error")
	}

	inner := new(MemoryCache)
	key := []byte("0123456789abcdef0123456789abcdef")
	c, err := EncryptCache(inner, key)
	if err != nil {
		t.Fatal(err)
	}
	clear(key) // it was copied
	put(t, c, theSecret)
	wantContent(t, encrypted(t, inner), theSecret)
	blob, _ := inner.Get(t.Context())
	if len(blob) != 1+12+len(theSecret)+16 || blob[0] != 1 || leak(string(blob)) != "" {
		t.Errorf("content: %x; want version 1, nonce, ciphertext, tag", blob)
	}
	put(t, c, "other")
	put(t, c, theSecret)
	if again, _ := inner.Get(t.Context()); bytes.Equal(again[:13], blob[:13]) {
		t.Error("the nonce was used before")
	}

	refused := func(what string, c Cache, blob []byte) {
		t.Helper()
		put(t, inner, string(blob))
		b, err := c.Get(t.Context())
		if err == nil || b != nil {
			t.Errorf("%s: Get: %q, %v", what, b, err)
		}
		if err2 := mustNot(t.Context(), c); err2 == nil || err2.Error() != err.Error() {
			t.Errorf("%s: Update: %v, want Get's error", what, err2)
		}
		walkError(t, what, err)
		wantContent(t, inner, string(blob))
	}
	wrong, _ := EncryptCache(inner, make([]byte, 32))
	refused("wrong key", wrong, blob)
	refused("not encrypted", c, []byte(`{"AccessToken":"`+theSecret+`"}`))
	refused("longer", c, append(bytes.Clone(blob), 0))
	for i := range blob {
		changed := bytes.Clone(blob)
		changed[i] ^= 1
		refused(fmt.Sprintf("byte %d changed", i), c, changed)
		if i > 0 {
			refused(fmt.Sprintf("cut after %d bytes", i), c, blob[:i])
		}
	}

	// An error of the cache inside comes through.
	broken, err := NewFileCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := encrypted(t, broken).Get(t.Context()); err == nil || !strings.Contains(err.Error(), broken.path) {
		t.Errorf("Get: %v", err)
	}
	if err := mustNot(t.Context(), encrypted(t, broken)); err == nil || !strings.Contains(err.Error(), broken.path) {
		t.Errorf("Update: %v", err)
	}
}

func TestDefaultCachePath(t *testing.T) {
	home := t.TempDir()
	for _, name := range []string{"HOME", "XDG_CACHE_HOME", "LocalAppData"} {
		t.Setenv(name, home)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	long := strings.Repeat("x", 200)
	for id, want := range map[string]string{
		"4c8e1bf4-0a7e-4f8b-9d0c-1c2b3a4d5e6f": "4c8e1bf4-0a7e-4f8b-9d0c-1c2b3a4d5e6f",
		".":                                    ".",
		"..":                                   "..",
		"../../etc/x":                          "..%2F..%2Fetc%2Fx",
		`..\x`:                                 "..%5Cx",
		"NUL":                                  "NUL",
		"a:b":                                  "a%3Ab",
		"a%3Ab":                                "a%253Ab",
		`<>"|?*`:                               "%3C%3E%22%7C%3F%2A",
		"https://app.test/id":                  "https%3A%2F%2Fapp.test%2Fid",
		"åß \x00\n":                            "%C3%A5%C3%9F%20%00%0A",
		long:                                   long,
		long + "x":                             "sha256!",
		strings.Repeat("å", 34):                "sha256!",
	} {
		path, err := DefaultCachePath(id)
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), "cognitetokencache."), ".bin")
		if err != nil || filepath.Dir(path) != filepath.Join(dir, "cdfauth") {
			t.Errorf("%q: %q, %v", id, path, err)
		}
		if strings.HasPrefix(want, "sha256!") {
			want = fmt.Sprintf("sha256!%x", sha256.Sum256([]byte(id)))
		} else if back, err := url.PathUnescape(name); back != id {
			t.Errorf("%q is read back as %q, %v", name, back, err)
		}
		if name != want {
			t.Errorf("%q: %q, want %q", id, name, want)
		}
		if other, ok := seen[path]; ok {
			t.Errorf("%q and %q have the same file", id, other)
		}
		seen[path] = id
		c, err := NewFileCache(path)
		if err != nil {
			t.Fatal(err)
		}
		put(t, c, id) // the system takes the names
		wantContent(t, c, id)
		if err := c.setAside(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, err := DefaultCachePath(""); err == nil || !strings.Contains(err.Error(), "clientID") {
		t.Errorf("no client id: %v", err)
	}
	for _, name := range []string{"HOME", "XDG_CACHE_HOME", "LocalAppData"} {
		t.Setenv(name, "")
	}
	if path, err := DefaultCachePath("x"); err == nil {
		t.Errorf("no home: %q", path)
	}
}

// BenchmarkFileCacheGet is to be seen against reading the same file by hand.
func BenchmarkFileCacheGet(b *testing.B) {
	c := fileCache(b)
	content, _ := json.Marshal(map[string]string{"secret": strings.Repeat("x", 8<<10)})
	put(b, c, string(content))
	b.Run("Get", func(b *testing.B) {
		for b.Loop() {
			if _, err := c.Get(context.Background()); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("ReadFile", func(b *testing.B) {
		for b.Loop() {
			if _, err := os.ReadFile(c.path); err != nil {
				b.Fatal(err)
			}
		}
	})
}
