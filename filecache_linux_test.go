package cdfauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// These tests mount file systems, each in a child process with mounts of its own.

// mounted runs the child of that name in mounts of its own, where it may mount. It skips
// the test if this process cannot give it that right.
func mounted(t *testing.T, name string, c *FileCache) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	cmd := child(t, name, c, "")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	var out bytes.Buffer
	cmd.Stderr = &out
	err := cmd.Run()
	if errors.Is(err, os.ErrPermission) || strings.Contains(out.String(), errNoMount.Error()) {
		t.Skip("this container may not mount")
	}
	if err != nil {
		t.Errorf("%v: %s", err, out.String())
	}
}

var errNoMount = errors.New("may not mount")

// mount mounts a file system that only this process and its children see.
func mount(source, target, kind string, flags uintptr, data string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return errNoMount
	}
	return syscall.Mount(source, target, kind, flags, data)
}

// TestFileCacheIsReadFromAReadOnlyMount: on a read-only file system, the cache can neither
// narrow the mode nor lock. Get returns the content all the same, and the error of Update
// says that there can be no lock.
func TestFileCacheIsReadFromAReadOnlyMount(t *testing.T) {
	t.Parallel()
	for _, lock := range []string{"", ".lock"} {
		c := fileCacheWith(t, "1")
		must(t, os.Chmod(c.path, 0o644))
		if lock == "" {
			must(t, os.Remove(c.path+".lock"))
		}
		mounted(t, "read-only mount", c)
	}
}

// TestFileCacheWritesAMountedFileInPlace: a container may have the file mounted by itself.
// The system lets nobody rename another file over it (EBUSY), so the cache writes it in
// place.
func TestFileCacheWritesAMountedFileInPlace(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	source := filepath.Join(filepath.Dir(c.path), "source")
	put(t, c, "longer than what follows")
	must(t, os.Link(c.path, source))
	must(t, os.Remove(c.path))
	must(t, os.WriteFile(c.path, nil, 0o600))
	mounted(t, "mounted file", c)
	if t.Skipped() {
		return
	}
	if b, err := os.ReadFile(source); string(b) != "kept" {
		t.Errorf("outside: %q, %v", b, err)
	}
	wantFiles(t, c, "", ".lock", "source")
}

// TestFileCacheReservesRoomBeforeItCallsF: on a full disk, Update fails before it calls f.
// f may redeem a refresh token that is good for one use, and the new one would be lost.
func TestFileCacheReservesRoomBeforeItCallsF(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	must(t, os.Mkdir(filepath.Dir(c.path), 0o700))
	mounted(t, "no space", c)
}

func init() {
	children["read-only mount"] = onReadOnlyMount
	children["mounted file"] = onMountedFile
	children["no space"] = onFullDisk
}

func onReadOnlyMount(c *FileCache, _ string) error {
	dir := filepath.Dir(c.path)
	if err := mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	const readOnly = syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY
	if err := mount("", dir, "", readOnly, ""); err != nil {
		return err
	}
	if b, err := c.Get(context.Background()); string(b) != "1" {
		return fmt.Errorf("Get: %q, %w", b, err)
	}
	err := mustNot(context.Background(), c)
	if !errors.Is(err, errNoLock) || !errors.Is(err, syscall.EROFS) {
		return fmt.Errorf("Update: %w; want one that says that there can be no lock", err)
	}
	return nil
}

func onMountedFile(c *FileCache, _ string) error {
	source := filepath.Join(filepath.Dir(c.path), "source")
	if err := mount(source, c.path, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	for _, content := range []string{"short", "much longer than the one before", "", "kept"} {
		if err := replace(c, content); err != nil {
			return fmt.Errorf("%q: %w", content, err)
		}
		if b, err := c.Get(context.Background()); string(b) != content || err != nil {
			return fmt.Errorf("Get: %q, %w; want %q", b, err, content)
		}
	}
	// It cannot be moved aside either.
	err := c.setAside(context.Background(), func([]byte) bool { return true })
	if !errors.Is(err, syscall.EBUSY) || !strings.Contains(err.Error(), "mount its directory") {
		return fmt.Errorf("setAside: %w", err)
	}
	return nil
}

func onFullDisk(c *FileCache, _ string) error {
	dir := filepath.Dir(c.path)
	if err := mount("none", dir, "tmpfs", 0, "size=256k,mode=700"); err != nil {
		return err
	}
	old := strings.Repeat("x", 8<<10)
	if err := replace(c, old); err != nil {
		return err
	}
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		return err
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4<<10))
	}
	filler.Close()
	err = mustNot(context.Background(), c)
	if !errors.Is(err, syscall.ENOSPC) || errors.Is(err, errNoLock) {
		return fmt.Errorf("Update: %w; want one that says that the disk is full", err)
	}
	if b, err := c.Get(context.Background()); string(b) != old {
		return fmt.Errorf("Get: %d bytes, %w", len(b), err)
	}
	return nil
}

func replace(c Cache, content string) error {
	return c.Update(context.Background(), func(context.Context, []byte) ([]byte, error) {
		return []byte(content), nil
	})
}
