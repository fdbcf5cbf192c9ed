//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// attacks prepare what somebody may have put where the cache or its lock file
// is to be. elsewhere is in another directory.
var attacks = []struct {
	name    string
	prepare func(path, elsewhere string) error
	want    string // in the error
}{
	{"symbolic link", func(path, elsewhere string) error {
		return firstError(os.WriteFile(elsewhere, []byte("theirs"), 0o600), os.Symlink(elsewhere, path))
	}, "link"},
	{"symbolic link to nothing", func(path, elsewhere string) error { return os.Symlink(elsewhere, path) }, "link"},
	{"hard link", func(path, elsewhere string) error {
		return firstError(os.WriteFile(elsewhere, []byte("theirs"), 0o600), os.Link(elsewhere, path))
	}, "hard link"},
	{"writable by everybody", func(path, _ string) error {
		return firstError(os.WriteFile(path, []byte("theirs"), 0o600), os.Chmod(path, 0o666))
	}, "writable by others"},
	{"writable by the group", func(path, _ string) error {
		return firstError(os.WriteFile(path, []byte("theirs"), 0o600), os.Chmod(path, 0o620))
	}, "writable by others"},
	{"FIFO", func(path, _ string) error { return exec.Command("mkfifo", path).Run() }, "not a regular file"},
	{"directory", func(path, _ string) error { return os.Mkdir(path, 0o700) }, "director"},
	{tooMuch, func(path, _ string) error { return os.WriteFile(path, make([]byte, 2<<20), 0o600) }, "more than 1 MiB"},
}

const tooMuch = "2 MiB"

// Only root can make these; CI and containers run the tests as root.
var rootAttacks = []struct {
	name    string
	prepare func(path, elsewhere string) error
	want    string
}{
	{"another owner in a sticky directory", func(path, _ string) error {
		return firstError(os.Chmod(filepath.Dir(path), 0o777|fs.ModeSticky), os.WriteFile(path, []byte("theirs"), 0o600), os.Chown(path, 65534, 65534))
	}, "owned by user 65534"},
	{"device", func(path, _ string) error { return exec.Command("mknod", path, "c", "1", "3").Run() }, "not a regular file"},
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// snapshot describes all files of the directories, but for their access times.
func snapshot(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			stat := info.Sys().(*syscall.Stat_t)
			content := []byte{}
			if info.Mode().IsRegular() {
				content, _ = os.ReadFile(filepath.Join(dir, e.Name()))
			}
			files[filepath.Join(dir, e.Name())] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime(), stat.Uid, stat.Gid, stat.Nlink, stat.Ino, string(content[:min(len(content), 50)]))
		}
	}
	return files
}

func TestFileCacheAttacks(t *testing.T) {
	table := attacks
	if os.Geteuid() == 0 {
		table = append(table[:len(table):len(table)], rootAttacks...)
	}
	for _, attack := range table {
		for _, on := range []string{"", ".lock"} {
			if on == ".lock" && attack.name == tooMuch {
				continue // a lock file is never read
			}
			t.Run(attack.name+on, func(t *testing.T) {
				dir, other := t.TempDir(), t.TempDir()
				c, err := NewFileCache(filepath.Join(dir, "tokens.bin"))
				if err != nil {
					t.Fatal(err)
				}
				if on == ".lock" {
					put(t, c, "content")
					if err := os.Remove(c.path + on); err != nil {
						t.Fatal(err)
					}
				}
				if err := attack.prepare(c.path+on, filepath.Join(other, "elsewhere")); err != nil {
					t.Fatal(err)
				}
				before := snapshot(t, dir, other)

				got, gerr := c.Get(t.Context())
				uerr := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { t.Error("f was called"); return []byte("token"), nil })
				serr := c.setAside(t.Context(), []byte("theirs"))
				if on == "" {
					wantRefused(t, "Get", gerr, c.path, attack.want)
					if got != nil {
						t.Errorf("Get = %.20q", got)
					}
				} else if string(got) != "content" || gerr != nil {
					t.Errorf("Get, which needs no lock = %q, %v", got, gerr)
				}
				wantRefused(t, "Update", uerr, c.path+on, attack.want)
				wantRefused(t, "setAside", serr, c.path+on, attack.want)

				after := snapshot(t, dir, other)
				if on == "" {
					delete(after, c.path+".lock")
				}
				if diff := cmp.Diff(before, after); diff != "" {
					t.Errorf("something was touched:\n%s", diff)
				}
			})
		}
	}
}

func wantRefused(t *testing.T, what string, err error, path, want string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: ") || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v; want the path and %q in it", what, err, want)
	}
}

func TestFileCacheModes(t *testing.T) {
	c, path := fileCache(t)
	modeOf := func(path string) fs.FileMode {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}
	put(t, c, "content")
	for file, want := range map[string]fs.FileMode{filepath.Dir(path): 0o700 | fs.ModeDir, path: 0o600, path + ".lock": 0o600} {
		if got := modeOf(file); got != want {
			t.Errorf("%s has mode %v, want %v", file, got, want)
		}
	}
	if err := firstError(os.Chmod(path, 0o644), os.Chmod(filepath.Dir(path), 0o755)); err != nil {
		t.Fatal(err)
	}
	wantContent(t, c, "content")
	if got := modeOf(path); got != 0o600 {
		t.Errorf("after Get of a file with mode 0644 it is %v", got)
	}
	put(t, c, "more")
	if got := modeOf(filepath.Dir(path)); got != 0o755|fs.ModeDir {
		t.Errorf("the mode of a directory that was there became %v", got)
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	wantContent(t, c, "more")
	if got := modeOf(path); got != 0o400 {
		t.Errorf("a narrow mode became %v", got)
	}
}

// A file that a writer replaces between a reader's open and its fstat has no
// name left, and is whole all the same.
func TestFileCacheReaderOvertaken(t *testing.T) {
	c, path := fileCache(t)
	put(t, c, "content")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put(t, c, "more")
	if err := checkPrivate(f, path); err != nil {
		t.Error(err)
	}
}

// A write that fails leaves the old content and no temporary file.
func TestFileCacheFailedWrite(t *testing.T) {
	c, path := fileCache(t)
	put(t, c, "content")
	err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) {
		// From now on the new file cannot take the place of the old one.
		return []byte("more"), firstError(os.Rename(path, path+".moved"), os.MkdirAll(filepath.Join(path, "in"), 0o700))
	})
	if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: ") || !strings.Contains(err.Error(), path) {
		t.Errorf("Update = %v", err)
	}
	wantFiles(t, path, "tokens.bin", "tokens.bin.lock", "tokens.bin.moved")

	// Nor can it be made: the directory is gone.
	d, path := fileCache(t)
	err = d.Update(t.Context(), func(context.Context, []byte) ([]byte, error) {
		return []byte("more"), os.RemoveAll(filepath.Dir(path))
	})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("Update = %v", err)
	}
}
