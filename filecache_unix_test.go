//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package cdfauth

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// attacks make something at path that must be neither read nor locked nor
// written; victim is a file of ours elsewhere. They return what the error says.
var attacks = map[string]func(t *testing.T, path, victim string) string{
	"symbolic link": func(t *testing.T, path, victim string) string {
		must(t, os.Symlink(victim, path))
		return "link"
	},
	"dangling symbolic link": func(t *testing.T, path, victim string) string {
		must(t, os.Symlink(victim+".new", path))
		return "link"
	},
	"hard link": func(t *testing.T, path, victim string) string {
		must(t, os.Link(victim, path))
		return "hard link"
	},
	"writable by all": func(t *testing.T, path, victim string) string {
		must(t, os.WriteFile(path, []byte("planted"), 0o600))
		must(t, os.Chmod(path, 0o602))
		return "written by others"
	},
	"writable by the group": func(t *testing.T, path, victim string) string {
		must(t, os.WriteFile(path, []byte("planted"), 0o600))
		must(t, os.Chmod(path, 0o660))
		return "written by others"
	},
	"pipe": func(t *testing.T, path, victim string) string {
		must(t, syscall.Mkfifo(path, 0o600))
		return "not a regular file"
	},
	"directory": func(t *testing.T, path, victim string) string {
		must(t, os.Mkdir(path, 0o700))
		return "director" // of the check, or of open
	},
}

// TestFileCacheAttacks: what somebody else put in the place of the cache or of
// its lock is an error that names it, at once, and stays as it is.
func TestFileCacheAttacks(t *testing.T) {
	t.Parallel()
	attacked := func(suffix string, attack func(t *testing.T, path, victim string) string) func(t *testing.T) {
		return func(t *testing.T) {
			t.Parallel()
			c := fileCache(t)
			path, victim := c.path+suffix, filepath.Join(t.TempDir(), "victim")
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			must(t, os.WriteFile(victim, []byte("the victim's"), 0o644))
			says := attack(t, path, victim)
			before := state(t, path)
			_, err := c.Get(t.Context())
			err2 := mustNot(t.Context(), c)
			if suffix == "" {
				wantError(t, "Get", err, path, says)
				wantError(t, "setAside", c.setAside(t.Context(), isUnreadable), path, says)
			} else if err != nil {
				t.Errorf("Get, which needs no lock: %v", err)
			}
			wantError(t, "Update", err2, path, says)
			if after := state(t, path); after != before {
				t.Errorf("%s was changed:\n%s\n%s", path, before, after)
			}
			if b, err := os.ReadFile(victim); string(b) != "the victim's" {
				t.Errorf("the victim: %q, %v", b, err)
			}
			if _, err := os.Lstat(victim + ".new"); err == nil {
				t.Error("a file was made through a link")
			}
			if suffix == "" {
				wantFiles(t, c, "", ".lock")
			} else {
				wantFiles(t, c, ".lock")
			}
		}
	}
	for name, attack := range attacks {
		t.Run(name, attacked("", attack))
		t.Run("lock file: "+name, attacked(".lock", attack))
	}
	t.Run("2 MiB", attacked("", func(t *testing.T, path, _ string) string {
		must(t, os.WriteFile(path, make([]byte, 2<<20), 0o600))
		return "1 MiB"
	}))
}

func wantError(t *testing.T, what string, err error, path, says string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: cache: ") || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v, want an error that names %s and says %q", what, err, path, says)
	}
	walkError(t, what, err)
}

// state is what there is to see of a file without opening it.
func state(t *testing.T, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	must(t, err)
	st := fi.Sys().(*syscall.Stat_t)
	content := ""
	if fi.Mode().IsRegular() {
		b, err := os.ReadFile(path)
		must(t, err)
		content = string(b[:min(len(b), 100)])
	}
	return strings.Join([]string{fi.Mode().String(), fi.ModTime().Format(time.RFC3339Nano), content, string(rune('0' + st.Nlink%10))}, " ")
}

// TestFileCacheMode: what we make is ours alone, what was wider is narrowed,
// and the mode of a directory that was there is the user's choice.
func TestFileCacheMode(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	dir := filepath.Dir(c.path)
	mode := func(path string, want fs.FileMode) {
		t.Helper()
		fi, err := os.Stat(path)
		must(t, err)
		if fi.Mode().Perm() != want {
			t.Errorf("%s has mode %04o, want %04o", path, fi.Mode().Perm(), want)
		}
	}
	put(t, c, "1")
	mode(dir, 0o700)
	mode(c.path, 0o600)
	mode(c.path+".lock", 0o600)
	must(t, os.Chmod(c.path, 0o644))
	must(t, os.Chmod(c.path+".lock", 0o755))
	must(t, os.Chmod(dir, 0o755))
	wantContent(t, c, "1")
	mode(c.path, 0o600)
	put(t, c, "2")
	mode(c.path+".lock", 0o600)
	mode(dir, 0o755)
	must(t, c.setAside(t.Context(), isUnreadable))
	mode(c.path+".bad", 0o600)
}

// TestFileCacheReplacedWhileOpen: a reader that has the old file open when it is
// replaced gets the old content; it has no link then, and that is no attack.
func TestFileCacheReplacedWhileOpen(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	put(t, c, "1")
	f, err := os.Open(c.path)
	must(t, err)
	defer f.Close()
	put(t, c, "2")
	if err := checkFile(f); err != nil {
		t.Error(err)
	}
}

// TestFileCacheDiskFull: a write that fails half-way leaves the old content and
// no temporary file.
func TestFileCacheDiskFull(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	put(t, c, "old")
	cmd := child(t, "disk full", c, "")
	must(t, cmd.Run())
	wantContent(t, c, "old")
	wantFiles(t, c, "", ".lock")
}

func init() {
	children["disk full"] = func(c *FileCache, _ string) error {
		// No file can get longer than 4 KiB from here on.
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 4096, Max: 4096}); err != nil {
			return err
		}
		err := c.Update(context.Background(), func(context.Context, []byte) ([]byte, error) { return make([]byte, 8192), nil })
		if !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), c.path) {
			return errors.New("Update: want an error that wraps EFBIG and names the file")
		}
		return nil
	}
}

func init() {
	if os.Geteuid() != 0 {
		return // only root can give files away and make devices
	}
	attacks["foreign owner in a sticky directory"] = func(t *testing.T, path, victim string) string {
		must(t, os.Chmod(filepath.Dir(path), 0o777|fs.ModeSticky))
		must(t, os.WriteFile(path, []byte("planted"), 0o600))
		must(t, os.Chown(path, 65534, 65534))
		return "" // the kernel may be first to say so
	}
	if _, err := exec.LookPath("mknod"); err != nil {
		return // a machine that has nothing but Go
	}
	attacks["device"] = func(t *testing.T, path, victim string) string {
		must(t, exec.Command("mknod", "-m", "600", path, "c", "1", "3").Run())
		return ""
	}
}
