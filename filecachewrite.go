//go:build go1.24

package cdfauth

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// This file replaces the file of a FileCache, under its lock: room for the new content
// is reserved in a temporary file, the content is written into that and synced, and
// the temporary file is renamed. What is not trusted is moved aside first.

// reserveSize is the room, in bytes, for what may be added to the content by one
// Update: a sign-in adds three tokens, of which the largest have 16 KiB.
const reserveSize = 32 << 10

// moveAside renames what is in the place of the file. Names are renamed, not what
// they link to, so that nothing elsewhere is touched. A mode that lets others read is
// narrowed where that can be done.
func (c *FileCache) moveAside(ctx context.Context) error {
	bad := c.path + ".bad"
	err := c.rename(c.path, bad)
	if isMountPoint(err) {
		return withMountHint(err)
	}
	if err == nil {
		narrow(bad)
		movedAside(ctx, bad)
	}
	return err
}

func withMountHint(err error) error {
	return fmt.Errorf("%w (the file is mounted by itself: mount its directory)", err)
}

// reserve makes the temporary file in which write writes, with room for what was
// there, of the length given, and for what may be added. An error here, before f was
// called, costs nothing; afterwards it would cost the refresh token that the identity
// provider has just put in the place of the one in the file.
//
// The room is zeros that are written and synced: to extend a file by its length alone
// allocates no blocks, and a network file system says only when it syncs that there
// is no room.
func (c *FileCache) reserve(length int) (*os.File, error) {
	c.sweep()
	temp := c.path + "." + rand.Text() + ".tmp"
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, withNoLock(err)
	}
	_, err = file.Write(make([]byte, min(length+reserveSize, maxCacheSize)))
	if err == nil {
		err = syncFile(file)
	}
	if err != nil {
		discard(file)
		return nil, err
	}
	return file, nil
}

// discard closes and removes a temporary file, if it was not renamed.
func discard(temp *os.File) {
	temp.Close()
	os.Remove(temp.Name())
}

// sweep removes the temporary files of writers that were killed. Under the lock,
// there are no others. Where the directory cannot be listed, they stay.
func (c *FileCache) sweep() {
	dir, base := filepath.Split(c.path)
	// The names that rand.Text makes.
	pattern := strings.Repeat("[A-Z2-7]", 26) + ".tmp"
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		suffix, ours := strings.CutPrefix(entry.Name(), base+".")
		if !ours || !entry.Type().IsRegular() {
			continue
		}
		if matches, _ := filepath.Match(pattern, suffix); matches {
			os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
}

// write replaces the file by temp with the content, or removes it if there is no
// content. The content is synced before the file is renamed: otherwise, the new name
// could be there without the content after a power failure.
func (c *FileCache) write(temp *os.File, content []byte) error {
	if len(content) > maxCacheSize {
		return &os.PathError{Op: "write", Path: c.path, Err: errors.New("content has more than 1 MiB")}
	}
	err := overwrite(temp, content)
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if len(content) == 0 {
		err = c.remove()
	} else {
		err = c.rename(temp.Name(), c.path)
	}
	if isMountPoint(err) {
		return c.writeInPlace(content)
	}
	return err
}

// overwrite replaces the content of file, in the blocks that it has.
func overwrite(file *os.File, content []byte) error {
	if _, err := file.WriteAt(content, 0); err != nil {
		return err
	}
	if err := file.Truncate(int64(len(content))); err != nil {
		return err
	}
	return syncFile(file)
}

// writeInPlace writes into the file, which is mounted by itself and can neither be
// replaced nor removed. A reader may see half of the content, and waits for the rest
// as it does for a Python program's.
func (c *FileCache) writeInPlace(content []byte) error {
	file, err := openToOverwrite(c.path)
	if err != nil {
		return withMountHint(err)
	}
	err = overwrite(file, content)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (c *FileCache) rename(from, to string) error {
	return c.change(func() error { return os.Rename(from, to) })
}

func (c *FileCache) remove() error {
	return c.change(func() error {
		err := os.Remove(c.path)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
}

// change does what changes the directory, and syncs the directory. What cannot be
// synced, as on Windows and some network file systems, is changed all the same.
func (c *FileCache) change(op func() error) error {
	_, err := retryWhileBusy(context.Background(), func() (*os.File, error) { return nil, op() })
	if dir, err := os.Open(filepath.Dir(c.path)); err == nil {
		dir.Sync()
		dir.Close()
	}
	return err
}
