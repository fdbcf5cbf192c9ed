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

// This file replaces the file of a FileCache, while this process has the lock: room for
// the new content is reserved in a temporary file, the content is written into that and
// synced, and the temporary file is renamed. A file that is not trusted is moved aside
// first.

// reserveSize is the room, in bytes, for what one Update may add to the content: a
// sign-in adds three tokens, of which the largest have 16 KiB.
const reserveSize = 32 << 10

// moveAside renames what is in the place of the file to the name with ".bad" after it. Of
// a symbolic link, it renames the link, and does not touch the file that the link leads
// to. It narrows a mode that lets others read, if it can.
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

// withMountHint adds to an error what to do about a file that is mounted by itself.
func withMountHint(err error) error {
	return fmt.Errorf("%w (the file is mounted by itself: mount its directory)", err)
}

// reserve makes the temporary file that write is to write, with room for the old content,
// which has this length, and for what may be added. An error now, before f is called,
// costs nothing. Afterwards it would cost the refresh token that the identity provider
// has just issued in place of the one in the file.
//
// The room is zeros that are written and synced. To set the length of a file allocates no
// blocks, and a network file system says only when it syncs that there is no room.
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

// discard closes a temporary file, and removes it unless it was renamed.
func discard(temp *os.File) {
	temp.Close()
	os.Remove(temp.Name())
}

// sweep removes the temporary files of writers that were killed. There are no others,
// because this process has the lock. Where the directory cannot be listed, they stay.
func (c *FileCache) sweep() {
	dir, base := filepath.Split(c.path)
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		suffix, ours := strings.CutPrefix(entry.Name(), base+".")
		if ours && isTempSuffix(suffix) && entry.Type().IsRegular() {
			os.Remove(filepath.Join(dir, entry.Name()))
		}
	}
}

// isTempSuffix reports whether a name of reserve ends so: with what rand.Text returns,
// which is 26 characters of base32, and ".tmp".
func isTempSuffix(suffix string) bool {
	text, isTemp := strings.CutSuffix(suffix, ".tmp")
	return isTemp && len(text) == 26 && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// write replaces the file by temp with the content, or removes the file if there is no
// content. It syncs the content before it renames temp. Otherwise the file could be empty
// after a power failure.
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

// overwrite replaces the content of file. It writes before it truncates, so that it needs
// no room but what the file has.
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
// replaced nor removed. A reader may see half of the content. A provider then reads it
// again, as it does when a Python program is writing.
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

// rename renames a file in the directory of the cache.
func (c *FileCache) rename(from, to string) error {
	return c.change(func() error { return os.Rename(from, to) })
}

// remove removes the file, if there is one.
func (c *FileCache) remove() error {
	err := c.change(func() error { return os.Remove(c.path) })
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// change calls op, which renames or removes a file, and then syncs the directory, so that
// the change outlasts a power failure. It reports no error of the sync: on Windows and on
// some network file systems, a directory cannot be synced.
func (c *FileCache) change(op func() error) error {
	_, err := retryWhileBusy(context.Background(), func() (*os.File, error) { return nil, op() })
	if err != nil {
		return err
	}
	dir, openErr := os.Open(filepath.Dir(c.path))
	if openErr == nil {
		dir.Sync()
		dir.Close()
	}
	return nil
}
