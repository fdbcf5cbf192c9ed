package cdfauth

import (
	"crypto/sha256"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestDefaultCachePathIsAnotherForEachClient: each client has a file of its own, whatever
// characters its id has, and no id leads out of the directory.
func TestDefaultCachePathIsAnotherForEachClient(t *testing.T) {
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
		put(t, c, id) // the system accepts the name
		wantContent(t, c, id)
		if err := c.setAside(t.Context(), isUnreadable); err != nil {
			t.Error(err)
		}
	}
	if _, err := DefaultCachePath(""); err == nil || !strings.Contains(err.Error(), "clientID") {
		t.Errorf("no client id: %v", err)
	}
}

// TestDefaultCachePathNeedsNoHome: a service or a cron job may have no HOME. The path is
// then in the home directory that the system knows of the user. If it knows none, or if
// XDG_CACHE_HOME is relative, there is an error.
func TestDefaultCachePathNeedsNoHome(t *testing.T) {
	for _, name := range []string{"HOME", "XDG_CACHE_HOME", "LocalAppData"} {
		t.Setenv(name, "")
	}
	path, err := DefaultCachePath("x")
	if runtime.GOOS == "windows" {
		if err == nil {
			t.Errorf("without %%LocalAppData%%: %q", path)
		}
		return
	}
	account, userErr := user.Current()
	switch {
	case userErr != nil || !filepath.IsAbs(account.HomeDir):
		if err == nil {
			t.Errorf("%q, although the system knows no home directory", path)
		}
	case err != nil || !strings.HasPrefix(path, account.HomeDir):
		t.Errorf("%q, %v; want it in %s", path, err, account.HomeDir)
	}
	t.Setenv("XDG_CACHE_HOME", "relative")
	t.Setenv("HOME", t.TempDir())
	if path, err := DefaultCachePath("x"); err == nil {
		t.Errorf("a relative directory: %q", path)
	}
}
