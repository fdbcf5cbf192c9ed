//go:build unix

package cdfauth

import (
	"os/user"
	"path/filepath"
	"testing"
)

// TestDefaultCachePathIsTheSameWithoutHome: a service without HOME finds the tokens of a
// person who has signed in with HOME. A relative HOME counts as none. The path would
// otherwise be another one in each directory in which a program is started.
func TestDefaultCachePathIsTheSameWithoutHome(t *testing.T) {
	account, err := user.Current()
	if err != nil || !filepath.IsAbs(account.HomeDir) {
		skipOutsideCI(t, "the system knows no home directory of this user")
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", account.HomeDir)
	want, err := DefaultCachePath("x")
	must(t, err)
	for _, home := range []string{"", "relative", "."} {
		t.Setenv("HOME", home)
		if got, err := DefaultCachePath("x"); got != want || err != nil {
			t.Errorf("HOME=%q: %q, %v; want %q", home, got, err, want)
		}
	}
}
