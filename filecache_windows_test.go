package cdfauth

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// holdOpen opens the cache file as some programs do, for the time given or
// until the timer it returns is fired.
func holdOpen(t *testing.T, c *FileCache, share uint32, d time.Duration) *time.Timer {
	t.Helper()
	name, err := syscall.UTF16PtrFromString(c.path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := syscall.CreateFile(name, syscall.GENERIC_READ, share, nil, syscall.OPEN_EXISTING, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return time.AfterFunc(d, func() { syscall.CloseHandle(h) })
}

// TestFileCacheWaitsForAFileHeldOpen: what somebody has open for a moment is waited for; if
// it stays so, that is an error, and nothing is lost.
func TestFileCacheWaitsForAFileHeldOpen(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	put(t, c, "1")
	const moment = 100 * time.Millisecond
	holdOpen(t, c, 0, moment)
	wantContent(t, c, "1")
	holdOpen(t, c, syscall.FILE_SHARE_READ, moment)
	put(t, c, "2")
	holdOpen(t, c, syscall.FILE_SHARE_READ, moment)
	put(t, c, "") // removes it
	put(t, c, "3")
	holdOpen(t, c, syscall.FILE_SHARE_READ, moment)
	if err := c.setAside(t.Context(), isUnreadable); err != nil {
		t.Error(err)
	}

	put(t, c, "4")
	held := holdOpen(t, c, syscall.FILE_SHARE_READ, time.Hour)
	err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return []byte("5"), nil })
	if !isBusy(errors.Unwrap(err)) || !strings.Contains(err.Error(), c.path) {
		t.Errorf("Update: %v", err)
	}
	wantContent(t, c, "4")
	wantFiles(t, c, "", ".bad", ".lock")
	held.Reset(0)
	put(t, c, "6")
}

// TestFileCacheRefusesLinksAndDirectories: a directory is an error at once and stays. A link is an
// error of Get, and is moved aside by Update. What it is linked to stays as it is.
func TestFileCacheRefusesLinksAndDirectories(t *testing.T) {
	t.Parallel()
	attacks := map[string]func(path, victim string) error{
		"directory":     func(path, _ string) error { return os.Mkdir(path, 0o700) },
		"hard link":     func(path, victim string) error { return os.Link(victim, path) },
		"symbolic link": func(path, victim string) error { os.Symlink(victim, path); return nil }, // not everybody may
	}
	for name, attack := range attacks {
		for _, suffix := range []string{"", ".lock"} {
			c := fileCache(t)
			victim := filepath.Join(t.TempDir(), "victim")
			if err := errors.Join(os.Mkdir(filepath.Dir(c.path), 0o700), os.WriteFile(victim, []byte("the victim's"), 0o600), attack(c.path+suffix, victim)); err != nil {
				t.Fatal(err)
			}
			if fi, err := os.Lstat(c.path + suffix); name == "symbolic link" && (err != nil || fi.Mode().Type() != fs.ModeSymlink) {
				continue // Wine makes none, and says that it did
			}
			if b, err := c.Get(t.Context()); suffix == "" && (err == nil || !strings.Contains(err.Error(), name)) {
				t.Errorf("%s: Get: %q, %v", name, b, err)
			}
			if name == "directory" {
				if err := mustNot(t.Context(), c); err == nil || !strings.Contains(err.Error(), c.path+suffix) {
					t.Errorf("%s as %q: Update: %v", name, suffix, err)
				}
			} else {
				put(t, c, "1")
				wantContent(t, c, "1")
				wantFiles(t, c, "", ".lock", suffix+".bad")
			}
			if b, err := os.ReadFile(victim); string(b) != "the victim's" {
				t.Errorf("%s: the victim: %q, %v", name, b, err)
			}
		}
	}
}

// TestFileCacheCanBeRenamedWhileItIsRead: our readers do not keep the file in its
// place, without any second try.
func TestFileCacheCanBeRenamedWhileItIsRead(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	put(t, c, "1")
	f, err := openCacheFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Rename(c.path, c.path+".bad"); err != nil {
		t.Error(err)
	}
}
