package cdfauth

import (
	"context"
	"crypto/fips140"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestFileCachesOfOnePathExcludeEachOther: a program may make several FileCaches of one
// file, and write its path in different ways. Only one of them is inside Update at a time.
func TestFileCachesOfOnePathExcludeEachOther(t *testing.T) {
	t.Parallel()
	a := fileCache(t)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	others := []*FileCache{{a.path}}
	for _, path := range []string{a.path, filepath.Dir(a.path) + "/./x/../" + filepath.Base(a.path),
		relative(t, dir, a.path)} {
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
}

// TestFileCacheRefusesAnEmptyPathAndATilde: an empty path is the path of no file. People
// write ~ into configurations, where no shell expands it: the cache would make a directory
// of that name.
func TestFileCacheRefusesAnEmptyPathAndATilde(t *testing.T) {
	t.Parallel()
	for path, says := range map[string]string{
		"":               "path is empty (DefaultCachePath",
		"~":              `path "~" begins with ~`,
		"~/cache.bin":    `path "~/cache.bin" begins with ~`,
		"~ada/cache.bin": "want the whole path",
	} {
		if _, err := NewFileCache(path); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want an error that says %q", path, err, says)
		}
	}
	if c, err := NewFileCache("x~/y"); err != nil || filepath.Base(c.path) != "y" {
		t.Errorf("a ~ elsewhere: %v, %v", c, err)
	}
}

// fileCacheWith returns a file cache that has content.
func fileCacheWith(t *testing.T, content string) *FileCache {
	t.Helper()
	c := fileCache(t)
	put(t, c, content)
	return c
}

// mustNot calls Update with a function that fails, for tests in which Update must not call
// it.
func mustNot(ctx context.Context, c Cache) error {
	return c.Update(ctx, func(context.Context, []byte) ([]byte, error) {
		return nil, errors.New("f was called")
	})
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

// TestFileCacheLosesNothingBetweenProcesses: several processes, and goroutines of this one,
// change the content at once. None of them overwrites what another one has written.
func TestFileCacheLosesNothingBetweenProcesses(t *testing.T) {
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

// wantFiles reports an error unless the cache's directory has these files and no others.
// They are given by what follows the cache's name in theirs.
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

// TestFileCacheLockEndsWithItsProcess: the lock of another process ends when that process
// ends, and not before. So no lock is left behind by a program that was killed.
func TestFileCacheLockEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	holder := child(t, "hold", c, "")
	start(t, holder)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := mustNot(ctx, c); !errors.Is(err, context.DeadlineExceeded) ||
		!strings.Contains(err.Error(), c.path+".lock") {
		t.Errorf("Update: %v", err)
	}
	wantContent(t, c, "") // Get needs no lock
	kill(t, holder)
	if err := increment(c); err != nil {
		t.Error(err)
	}
	wantContent(t, c, "1")
}

// TestFileCacheSurvivesAKilledWriter: a writer that is killed, at whatever moment, leaves
// the old content or the new, whole. It leaves at most one temporary file, which the next
// writer removes.
func TestFileCacheSurvivesAKilledWriter(t *testing.T) {
	t.Parallel()
	kills := 500
	if testing.Short() || fips140.Enabled() {
		kills = 40 // in FIPS mode most kills hit a process that still gathers entropy
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
					if i%4 == 0 { // by chance alone, a slow machine may never hit a write
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
	// In FIPS mode a writer spends most of its time on the random name.
	if litter.Load() == 0 && !testing.Short() && !fips140.Enabled() {
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

// TestFileCacheSweepsItsOwnTemporaryFiles: a writer removes the temporary files that killed
// writers of this cache have left. It keeps files whose names are not exactly as the cache
// makes them.
func TestFileCacheSweepsItsOwnTemporaryFiles(t *testing.T) {
	t.Parallel()
	c := fileCacheWith(t, "1")
	const random = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	keep := []string{".lock", "", ".tmp", ".bad", "." + random, ".x" + random + ".tmp",
		"." + random[1:] + ".tmp", "." + strings.ToLower(random[1:]) + "1.tmp", "2." + random + ".tmp"}
	for _, suffix := range append(keep[2:], "."+random+".tmp", ".234567"+random[6:]+".tmp") {
		if err := os.WriteFile(c.path+suffix, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(t, c, "1") // is not written
	put(t, c, "2")
	wantFiles(t, c, keep...)
}

// TestFileCacheTellsAnEmptyFileFromNone: a Python program empties the file before it writes
// it. Get returns content of no bytes for such a file, and nil only if there is no file.
func TestFileCacheTellsAnEmptyFileFromNone(t *testing.T) {
	t.Parallel()
	c := fileCacheWith(t, "1")
	if err := os.WriteFile(c.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Get(t.Context()); b == nil || len(b) > 0 || err != nil {
		t.Errorf("Get: %v, %v; want content of no bytes", b, err)
	}
	put(t, c, "2")
	wantContent(t, c, "2")
}

// TestFileCacheHoldsUpTo1MiB: the cache stores content of 1 MiB. More is an error, after
// which the old content is still there.
func TestFileCacheHoldsUpTo1MiB(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	most := strings.Repeat("x", 1<<20)
	put(t, c, most)
	wantContent(t, c, most)
	err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) {
		return []byte(most + "x"), nil
	})
	if err == nil || !strings.Contains(err.Error(), c.path) {
		t.Errorf("Update with more than 1 MiB: %v", err)
	}
	wantContent(t, c, most)
	wantFiles(t, c, "", ".lock")
}

// TestFileCacheSetsAsideBadContentAlone: content that no provider can read moves to the
// name with .bad, and replaces what was there. Good content stays.
func TestFileCacheSetsAsideBadContentAlone(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	setAside := func() {
		t.Helper()
		if err := c.setAside(t.Context(), isUnreadable); err != nil {
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

// TestFileCacheWithoutADirectoryIsAnError: if the cache cannot make its directory, Update
// fails before it calls f, which might redeem a refresh token that cannot be stored.
func TestFileCacheWithoutADirectoryIsAnError(t *testing.T) {
	t.Parallel()
	file := fileCache(t)
	put(t, file, "a file")
	c, err := NewFileCache(filepath.Join(file.path, "cache.bin"))
	if err != nil {
		t.Fatal(err)
	}
	err = mustNot(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "mkdir "+file.path) {
		t.Errorf("Update: %v, want an error that says which directory cannot be made", err)
	}
}

// TestFileCacheSweepsNothingElse: no writer leaves a directory. A temporary file without
// the name of this cache may be another program's.
func TestFileCacheSweepsNothingElse(t *testing.T) {
	t.Parallel()
	c := fileCacheWith(t, "1")
	const temporary = "ABCDEFGHIJKLMNOPQRSTUVWXYZ.tmp"
	others := filepath.Join(filepath.Dir(c.path), temporary)
	must(t, os.WriteFile(others, nil, 0o600))
	must(t, os.Mkdir(c.path+"."+temporary, 0o700))
	put(t, c, "2")
	for _, path := range []string{others, c.path + "." + temporary} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
}
