//go:build go1.24

package cdfauth

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
)

// This file says where the tokens of a client are kept if the program does not say where:
// in the cache directory of the user, in a file for each client.

// maxFileID is the length, in bytes, of the longest escaped client id that is part of the
// file's name. File systems allow names of 255 bytes. The rest is for what stands around
// the client id, and for what the names of the lock file and of temporary files add.
const maxFileID = 200

// DefaultCachePath returns where the tokens of a client are kept, for each user of the
// system: {os.UserCacheDir}/cdfauth/cognitetokencache.{clientID}.bin.
//
// The client id is path-escaped, and so are its colons, for Windows. If the escaped client
// id has more than 200 bytes, "sha256!" and the hash of the client id stand in its place.
// If HOME is not set, or is not an absolute path, the home directory is that of the
// system's user database.
//
// DefaultCachePath fails if clientID is empty, or if the user has no cache directory. It
// makes no directory.
func DefaultCachePath(clientID string) (string, error) {
	if clientID == "" {
		return "", errors.New("cdfauth: DefaultCachePath: clientID is empty")
	}
	dir, err := userCacheDir()
	if err != nil {
		return "", fmt.Errorf("cdfauth: DefaultCachePath: %w", err)
	}
	id := strings.ReplaceAll(url.PathEscape(clientID), ":", "%3A")
	if len(id) > maxFileID {
		id = fmt.Sprintf("sha256!%x", sha256.Sum256([]byte(clientID)))
	}
	return filepath.Join(dir, "cdfauth", "cognitetokencache."+id+".bin"), nil
}

// userCacheDir is os.UserCacheDir, which knows the home directory from HOME alone.
// Services and cron jobs may have no HOME, and a home directory all the same. A
// relative HOME would put the tokens wherever a program was started.
func userCacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err == nil && filepath.IsAbs(dir) {
		return dir, nil
	}
	_, homeErr := os.UserHomeDir()
	if err == nil {
		err = errors.New("the home directory is not an absolute path")
		homeErr = err
	}
	if homeErr == nil || runtime.GOOS == "windows" || runtime.GOOS == "plan9" {
		// Something other than HOME is missing.
		return "", err
	}
	account, userErr := user.Current()
	if userErr != nil || !filepath.IsAbs(account.HomeDir) {
		return "", err
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return filepath.Join(account.HomeDir, "Library", "Caches"), nil
	}
	return filepath.Join(account.HomeDir, ".cache"), nil
}
