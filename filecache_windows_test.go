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

// holdOpen opens the cache file as virus scanners and backups do. It closes the file when
// the timer that it returns fires, which is after d.
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

// TestFileCacheWaitsForAFileHeldOpen: on Windows, a file that another program has open can
// be neither read nor replaced. The cache waits for a moment. If the file stays open, that
// is an error, and the content stays as it was.
func TestFileCacheWaitsForAFileHeldOpen(t *testing.T) {
	t.Parallel()
	c := fileCacheWith(t, "1")
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
	err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) {
		return []byte("5"), nil
	})
	if !isBusy(errors.Unwrap(err)) || !strings.Contains(err.Error(), c.path) {
		t.Errorf("Update: %v", err)
	}
	wantContent(t, c, "4")
	wantFiles(t, c, "", ".bad", ".lock")
	held.Reset(0)
	put(t, c, "6")
}

// TestFileCacheRefusesLinksAndDirectories: another user of the machine may have put a
// directory or a link there. A directory is an error at once, and stays. Get refuses a
// link, and Update moves it aside. What it is linked to stays as it is.
func TestFileCacheRefusesLinksAndDirectories(t *testing.T) {
	t.Parallel()
	attacks := map[string]func(path, victim string) error{
		"directory": func(path, _ string) error { return os.Mkdir(path, 0o700) },
		"hard link": func(path, victim string) error { return os.Link(victim, path) },
		// Windows lets few users make one.
		"symbolic link": func(path, victim string) error { os.Symlink(victim, path); return nil },
	}
	for name, attack := range attacks {
		for _, suffix := range []string{"", ".lock"} {
			c := fileCache(t)
			victim := filepath.Join(t.TempDir(), "victim")
			if err := errors.Join(os.Mkdir(filepath.Dir(c.path), 0o700),
				os.WriteFile(victim, []byte("the victim's"), 0o600),
				attack(c.path+suffix, victim)); err != nil {
				t.Fatal(err)
			}
			if fi, err := os.Lstat(c.path + suffix); name == "symbolic link" &&
				(err != nil || fi.Mode().Type() != fs.ModeSymlink) {
				continue // Wine makes none, and says that it did
			}
			if b, err := c.Get(t.Context()); suffix == "" &&
				(err == nil || !strings.Contains(err.Error(), name)) {
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

// TestFileCacheCanBeRenamedWhileItIsRead: a reader of ours opens the file in a way
// (FILE_SHARE_DELETE) that lets a writer rename it meanwhile, at the first try.
func TestFileCacheCanBeRenamedWhileItIsRead(t *testing.T) {
	t.Parallel()
	c := fileCacheWith(t, "1")
	f, err := openCacheFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Rename(c.path, c.path+".bad"); err != nil {
		t.Error(err)
	}
}
