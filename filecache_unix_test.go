//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package cdfauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A mishap makes something at path that is not as the cache would have made it; victim is
// a file of ours elsewhere. It returns what the error says.
type mishap = func(t *testing.T, path, victim string) string

// attacks make something at path that must be neither read nor locked nor written, and
// that nobody can have put there for a cache.
var attacks = map[string]mishap{
	"pipe": func(t *testing.T, path, victim string) string {
		must(t, syscall.Mkfifo(path, 0o600))
		return "not a regular file"
	},
	"directory": func(t *testing.T, path, victim string) string {
		must(t, os.Mkdir(path, 0o700))
		return "is a directory"
	},
}

// accidents make something at path of which the content must not be used, but in
// whose place a good file can be put.
var accidents = map[string]mishap{
	"symbolic link": func(t *testing.T, path, victim string) string {
		must(t, os.Symlink(victim, path))
		return "is a symbolic link"
	},
	"dangling symbolic link": func(t *testing.T, path, victim string) string {
		must(t, os.Symlink(victim+".new", path))
		return "is a symbolic link"
	},
	"hard link": func(t *testing.T, path, victim string) string {
		must(t, os.Link(victim, path))
		return "has another hard link"
	},
	"writable by all": func(t *testing.T, path, victim string) string {
		must(t, os.Chmod(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, []byte("planted"), 0o600))
		must(t, os.Chmod(path, 0o602))
		return "can be written by others"
	},
	"writable by the group": func(t *testing.T, path, victim string) string {
		must(t, os.Chmod(filepath.Dir(path), 0o770))
		must(t, os.WriteFile(path, []byte("planted"), 0o600))
		must(t, os.Chmod(path, 0o660))
		return "can be written by others"
	},
}

// isLockAccident reports whether an accident is one for a lock file too. A wide mode is
// none, since a lock file has no content.
func isLockAccident(name string) bool { return !strings.HasPrefix(name, "writable") }

// newVictim makes the cache's directory, and a file of ours in another one.
func newVictim(t *testing.T, c *FileCache, content string) string {
	t.Helper()
	victim := filepath.Join(t.TempDir(), "victim")
	must(t, os.Mkdir(filepath.Dir(c.path), 0o700))
	must(t, os.WriteFile(victim, []byte(content), 0o644))
	return victim
}

// wantUntouched reports an error if an attack or an accident has changed the victim.
func wantUntouched(t *testing.T, victim, content string) {
	t.Helper()
	if b, err := os.ReadFile(victim); string(b) != content {
		t.Errorf("the victim: %q, %v", b, err)
	}
	if fi, err := os.Stat(victim); err != nil || fi.Mode().Perm() != 0o644 {
		t.Errorf("the victim's mode: %v, %v", fi.Mode(), err)
	}
	if _, err := os.Lstat(victim + ".new"); err == nil {
		t.Error("a file was made through a link")
	}
}

// A plantedFile is what an attack has made in the place of the cache, or of its lock file
// if suffix is ".lock".
type plantedFile struct {
	suffix string
	attack mishap
}

// plantedFiles returns each attack twice: on the cache and on its lock file.
func plantedFiles() map[string]plantedFile {
	planted := map[string]plantedFile{}
	for name, attack := range attacks {
		planted[name] = plantedFile{"", attack}
		planted["lock file: "+name] = plantedFile{".lock", attack}
	}
	return planted
}

// wantAsBefore reports an error unless what was planted is in the state that it had
// before, with nothing beside it but the lock file.
func (p plantedFile) wantAsBefore(t *testing.T, c *FileCache, before string) {
	t.Helper()
	path := c.path + p.suffix
	if after := state(t, path); after != before {
		t.Errorf("%s was changed:\n%s\n%s", path, before, after)
	}
	if p.suffix == "" {
		wantFiles(t, c, "", ".lock")
	} else {
		wantFiles(t, c, ".lock")
	}
}

// TestFileCacheLeavesPlantedFilesAlone: another user of the machine may put a file in the
// place of the cache or of its lock, and some files can be no cache, such as a pipe, which
// would block its reader. Each of them is an error that names it, at once, and stays as it
// is.
func TestFileCacheLeavesPlantedFilesAlone(t *testing.T) {
	t.Parallel()
	for name, planted := range plantedFiles() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fileCache(t)
			path, victim := c.path+planted.suffix, newVictim(t, c, "the victim's")
			says := planted.attack(t, path, victim)
			before := state(t, path)
			_, err := c.Get(t.Context())
			err2 := mustNot(t.Context(), c)
			if planted.suffix == "" {
				wantError(t, "Get", err, path, says)
				wantError(t, "setAside", c.setAside(t.Context(), isUnreadable), path, says)
			} else if err != nil {
				t.Errorf("Get, which needs no lock: %v", err)
			}
			wantError(t, "Update", err2, path, says)
			if errors.Is(err2, errNoLock) {
				t.Error("Update says that there can be no lock")
			}
			planted.wantAsBefore(t, c, before)
			wantUntouched(t, victim, "the victim's")
		})
	}
}

// TestFileCacheMovesAnUntrustedFileAside: umask 002, a backup or a link can leave a file
// that is not as the cache would have made it. Get does not read it, and says why. The next
// Update moves it aside and writes a good one, so that one sign-in is enough. What it was
// linked to stays as it is.
func TestFileCacheMovesAnUntrustedFileAside(t *testing.T) {
	t.Parallel()
	all := maps.Clone(accidents)
	all["2 MiB"] = func(t *testing.T, path, _ string) string {
		must(t, os.WriteFile(path, make([]byte, 2<<20), 0o600))
		return "has more than 1 MiB"
	}
	if os.Geteuid() == 0 {
		all["of another user in a directory of ours"] = func(t *testing.T, path, _ string) string {
			must(t, os.WriteFile(path, []byte("planted"), 0o600))
			must(t, os.Chown(path, 65534, 65534))
			return "does not belong to this user"
		}
	}
	for name, happen := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fileCache(t)
			victim := newVictim(t, c, "the victim's")
			says := happen(t, c.path, victim)
			_, err := c.Get(t.Context())
			wantError(t, "Get", err, c.path, says)
			before, err := os.Lstat(c.path)
			must(t, err)

			must(t, c.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
				if old != nil {
					t.Errorf("f was called with %d bytes", len(old))
				}
				return []byte("good"), nil
			}))
			wantContent(t, c, "good")
			put(t, c, "better")
			wantContent(t, c, "better")
			wantFiles(t, c, "", ".bad", ".lock")
			wantMode(t, c.path, 0o600)
			if after, err := os.Lstat(c.path + ".bad"); err != nil || !os.SameFile(before, after) {
				t.Errorf("aside is %v, %v; want what was there", after, err)
			} else if strings.HasPrefix(name, "writable") {
				wantMode(t, c.path+".bad", 0o600)
			}
			wantUntouched(t, victim, "the victim's")
		})
	}
}

// TestFileCacheMovesLockAside: the cache does not lock a file that could be another
// program's. If several programs find such a lock file at once, one of them moves it aside,
// and all of them lock the file that takes its place.
func TestFileCacheMovesLockAside(t *testing.T) {
	t.Parallel()
	for name, happen := range accidents {
		if !isLockAccident(name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fileCache(t)
			victim := newVictim(t, c, "the victim's")
			put(t, c, "1")
			must(t, os.Remove(c.path+".lock"))
			happen(t, c.path+".lock", victim)
			wantContent(t, c, "1")
			const programs, increments = 4, 5
			var cmds []*exec.Cmd
			for range programs {
				cmd := child(t, "increment", c, fmt.Sprint(increments))
				must(t, cmd.Start())
				cmds = append(cmds, cmd)
			}
			for _, cmd := range cmds {
				must(t, cmd.Wait())
			}
			wantContent(t, c, fmt.Sprint(1+programs*increments))
			wantFiles(t, c, "", ".lock", ".lock.bad")
			wantUntouched(t, victim, "the victim's")
		})
	}
}

// TestFileCacheMovesLockAsideInTurn: if two programs find the same bad lock file, the
// second must not rename the good one that the first has made and locked since. So they
// take turns, by a lock on the directory.
func TestFileCacheMovesLockAsideInTurn(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	victim := newVictim(t, c, "the victim's")
	path := c.path + ".lock"
	must(t, os.Symlink(victim, path))
	dir, err := os.Open(filepath.Dir(path))
	must(t, err)
	must(t, flock(dir))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := mustNot(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("beside another program: %v", err)
	}
	// The other program is done.
	must(t, os.Remove(path))
	put(t, c, "1")
	wantFiles(t, c, "", ".lock")
	dir.Close()
	// A process that another test is about to start may have the directory open, and
	// with it the lock, until its program is loaded.
	_, err = retryWhileBusy(t.Context(), func() (*os.File, error) { return nil, moveLockAside(path) })
	must(t, err)
	put(t, c, "2")
	wantFiles(t, c, "", ".lock")
}

// TestFileCacheStaysLockedWhenItsLockIsLinked: a backup may make hard links of all files
// (cp -al) while a program is inside Update. No other program gets inside for that.
func TestFileCacheStaysLockedWhenItsLockIsLinked(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	must(t, c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) {
		must(t, os.Link(c.path+".lock", filepath.Join(t.TempDir(), "backup")))
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := mustNot(ctx, c); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second Update: %v", err)
		}
		return []byte("1"), nil
	}))
	put(t, c, "2")
	wantFiles(t, c, "", ".lock", ".lock.bad")
}

// chmodFiles sets the mode of the cache and of its lock file.
func chmodFiles(t *testing.T, c *FileCache, mode fs.FileMode) {
	t.Helper()
	must(t, os.Chmod(c.path, mode))
	must(t, os.Chmod(c.path+".lock", mode))
}

// TestFileCacheNarrowsAWideModeInAPrivateDirectory: with umask 002, or a Kubernetes
// fsGroup, the group can write the file. In a directory that only we can enter, nobody can
// have done so: the cache uses the content, and narrows the mode. It uses a lock file of
// any mode in any directory, since a lock file has no content.
func TestFileCacheNarrowsAWideModeInAPrivateDirectory(t *testing.T) {
	t.Parallel()
	c := fileCacheWith(t, "1")
	chmodFiles(t, c, 0o666)
	wantContent(t, c, "1")
	wantMode(t, c.path, 0o600)
	must(t, os.Chmod(filepath.Dir(c.path), 0o777))
	put(t, c, "2")
	wantMode(t, c.path+".lock", 0o600)
	wantContent(t, c, "2")
	wantFiles(t, c, "", ".lock")
}

// TestFileCacheIsReadFromAReadOnlyDirectory: a container may mount its directory read-only.
// The content can be read all the same, and the error of Update says that there can be no
// lock, so that a provider goes on in memory with that content. Update does not call f,
// which would redeem a refresh token.
func TestFileCacheIsReadFromAReadOnlyDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("root can write everywhere: TestFileCacheWorksForAnOrdinaryUser")
	}
	for name, locked := range map[string]bool{"no lock file": false, "lock file": true} {
		t.Run(name, func(t *testing.T) {
			c := fileCacheWith(t, "1")
			dir := filepath.Dir(c.path)
			chmodFiles(t, c, 0o444)
			if !locked {
				must(t, os.Remove(c.path+".lock"))
			}
			must(t, os.Chmod(dir, 0o500))
			defer os.Chmod(dir, 0o700)
			wantContent(t, c, "1")
			err := mustNot(t.Context(), c)
			wantError(t, "Update", err, c.path, "permission denied")
			if !errors.Is(err, errNoLock) {
				t.Errorf("Update: %v: want one that says that there can be no lock", err)
			}
		})
	}
	c, err := NewFileCache("/proc/cdfauth/cache.bin")
	must(t, err)
	if err := mustNot(t.Context(), c); err == nil {
		t.Error("no error where no directory can be made")
	}
}

// TestFileCacheReplacesReadOnlyFiles: a user may have run chmod -w on the files. The cache
// reads, locks and replaces them all the same.
func TestFileCacheReplacesReadOnlyFiles(t *testing.T) {
	t.Parallel()
	c := fileCacheWith(t, "1")
	chmodFiles(t, c, 0o400)
	wantContent(t, c, "1")
	put(t, c, "2")
	wantContent(t, c, "2")
}

// TestFileCacheTellsNoLockFromABusyOne: some errors of the system will be the same however
// often one tries, so that a provider goes on without the lock. After any other, somebody
// else may have the lock, and a provider must not.
func TestFileCacheTellsNoLockFromABusyOne(t *testing.T) {
	t.Parallel()
	for err, want := range map[syscall.Errno]bool{
		syscall.EROFS:       true, // read-only
		syscall.EACCES:      true,
		syscall.EPERM:       true,
		syscall.ENOLCK:      true, // NFS
		syscall.ENOTSUP:     true, // FUSE
		syscall.ENOSYS:      true,
		syscall.EWOULDBLOCK: false,
		syscall.EINTR:       false,
		syscall.ENOSPC:      false,
		syscall.EIO:         false,
		syscall.EMFILE:      false,
	} {
		got := withNoLock(&os.PathError{Op: "lock", Path: "cache.bin.lock", Err: err})
		named := strings.Contains(got.Error(), "cache.bin.lock")
		if errors.Is(got, errNoLock) != want || !errors.Is(got, err) || !named {
			t.Errorf("%v: %v", err, got)
		}
	}
}

// TestFileCacheToleratesAFileSystemWithoutSync: some file systems of FUSE do not implement
// fsync. The content is then as safe as they can keep it, and that is no error.
func TestFileCacheToleratesAFileSystemWithoutSync(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe() // fsync of a pipe fails with EINVAL
	must(t, err)
	defer r.Close()
	defer w.Close()
	if w.Sync() == nil {
		t.Skip("pipes can be synced here")
	}
	if err := syncFile(w); err != nil {
		t.Error(err)
	}
	w.Close()
	if err := syncFile(w); err == nil {
		t.Error("no error of a file that is closed")
	}
}

// TestFileCacheWorksForAnOrdinaryUser: root may read and write everything, so that tests
// that run as root show little of what the system refuses. This one runs the tests of the
// file cache once more as an ordinary user.
func TestFileCacheWorksForAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is an ordinary user")
	}
	dir, err := os.MkdirTemp("", "cdfauth") // other users cannot enter t.TempDir()
	must(t, err)
	defer os.RemoveAll(dir)
	must(t, os.Chmod(dir, 0o755))
	exe, err := os.Executable()
	must(t, err)
	binary, err := os.ReadFile(exe)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "test"), binary, 0o755))
	temp := filepath.Join(dir, "tmp")
	must(t, os.Mkdir(temp, 0o700))
	must(t, os.Chown(temp, 65534, 65534))
	must(t, os.CopyFS(filepath.Join(temp, "testdata"), os.DirFS("testdata")))
	const tests = "^TestFileCache|^TestCache[A-Z]|^TestDefaultCachePath|^TestSignIn.*Cache"
	cmd := exec.Command(filepath.Join(dir, "test"), "-test.short", "-test.run", tests)
	cmd.Dir = temp
	cmd.Env = append(os.Environ(), "TMPDIR="+temp, "GOTMPDIR="+temp, "HOME="+temp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func wantError(t *testing.T, what string, err error, path, says string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), "cdfauth: cache: ") ||
		!strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v, want an error that names %s and says %q", what, err, path, says)
	}
	walkError(t, what, err)
}

// state returns a file's mode, time, content and number of links. It opens none but
// regular files.
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
	return strings.Join([]string{fi.Mode().String(), fi.ModTime().Format(time.RFC3339Nano), content,
		string(rune('0' + st.Nlink%10))}, " ")
}

// TestFileCacheFilesAreTheUsersAlone: the cache makes a directory and files that only the
// user can enter, read and write, and narrows the mode of files that were wider. It leaves
// the mode of a directory that was there already: that is the user's choice.
func TestFileCacheFilesAreTheUsersAlone(t *testing.T) {
	t.Parallel()
	c := fileCache(t)
	dir := filepath.Dir(c.path)
	put(t, c, "1")
	wantMode(t, dir, 0o700)
	wantMode(t, c.path, 0o600)
	wantMode(t, c.path+".lock", 0o600)
	must(t, os.Chmod(c.path, 0o644))
	must(t, os.Chmod(c.path+".lock", 0o755))
	must(t, os.Chmod(dir, 0o755))
	wantContent(t, c, "1")
	wantMode(t, c.path, 0o600)
	put(t, c, "2")
	wantMode(t, c.path+".lock", 0o600)
	wantMode(t, dir, 0o755)
	must(t, c.setAside(t.Context(), isUnreadable))
	wantMode(t, c.path+".bad", 0o600)
}

func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	fi, err := os.Stat(path)
	must(t, err)
	if fi.Mode().Perm() != want {
		t.Errorf("%s has mode %04o, want %04o", path, fi.Mode().Perm(), want)
	}
}

// TestFileCacheMayBeReplacedWhileItIsRead: a reader may have the old file open when a
// writer replaces it. The reader gets the old content. The old file has no link then, and
// the reader must not take that for an attack.
func TestFileCacheMayBeReplacedWhileItIsRead(t *testing.T) {
	t.Parallel()
	c := fileCacheWith(t, "1")
	f, err := openCacheFile(c.path)
	must(t, err)
	defer f.Close()
	put(t, c, "2")
	fi, err := f.Stat()
	must(t, err)
	if err := judge(c.path, fi); err != nil || linkCount(fi) != 0 {
		t.Errorf("%v; %d links", err, linkCount(fi))
	}
	if b, err := io.ReadAll(f); string(b) != "1" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestFileCacheKeepsTheOldContentOnAFullDisk: if there is no room, Update fails before it
// calls f, which would redeem a refresh token that is good for one use. If f returns more
// than was reserved, a write that fails half-way leaves the old content. Neither leaves a
// temporary file.
func TestFileCacheKeepsTheOldContentOnAFullDisk(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]string{"no room": "4096",
		"room for less than f returned": "65536"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := fileCacheWith(t, "old")
			must(t, child(t, "disk full", c, limit).Run())
			wantContent(t, c, "old")
			wantFiles(t, c, "", ".lock")
		})
	}
}

func setLimit[T int64 | uint64](field *T, limit int) { *field = T(limit) }

func init() {
	children["disk full"] = func(c *FileCache, arg string) error {
		limit, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		// No file can get longer from here on. The fields are signed on FreeBSD alone.
		var rlimit syscall.Rlimit
		setLimit(&rlimit.Cur, limit)
		setLimit(&rlimit.Max, limit)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &rlimit); err != nil {
			return err
		}
		called := false
		err = c.Update(context.Background(), func(context.Context, []byte) ([]byte, error) {
			called = true
			return make([]byte, 2*limit), nil
		})
		if !errors.Is(err, syscall.EFBIG) || !strings.Contains(err.Error(), c.path) {
			return fmt.Errorf("Update: %v; want an error that wraps EFBIG and names the file", err)
		}
		if called != (limit > reserveSize) {
			return fmt.Errorf("with room for %d bytes, was f called? %v", limit, called)
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
		return "" // the kernel may refuse it first, in words of its own
	}
	if _, err := exec.LookPath("mknod"); err != nil {
		return // a machine with nothing but Go
	}
	attacks["device"] = func(t *testing.T, path, victim string) string {
		must(t, exec.Command("mknod", "-m", "600", path, "c", "1", "3").Run())
		return ""
	}
}

// TestFileCacheSaysWhatItMovesAside: somebody may miss a file whose place the cache has
// taken. The cache says where it is now, and a provider logs that.
func TestFileCacheSaysWhatItMovesAside(t *testing.T) {
	t.Parallel()
	for _, suffix := range []string{"", ".lock"} {
		c := fileCacheWith(t, "1")
		must(t, os.Link(c.path+suffix, filepath.Join(t.TempDir(), "link")))
		var moved []string
		ctx := withAside(t.Context(), func(path string) { moved = append(moved, path) })
		must(t, c.Update(ctx, func(context.Context, []byte) ([]byte, error) { return []byte("2"), nil }))
		if want := c.path + suffix + ".bad"; len(moved) != 1 || moved[0] != want {
			t.Errorf("told of %q, want %q", moved, want)
		}
	}
}

// TestDirectoryIsPrivateIfNobodyElseCanEnter: a directory is private if it is this user's
// and nobody else can enter or list it. In any other directory, somebody else may have made
// or written a file.
func TestDirectoryIsPrivateIfNobodyElseCanEnter(t *testing.T) {
	t.Parallel()
	for mode, want := range map[os.FileMode]bool{
		0o700: true, 0o500: true,
		0o710: false, 0o720: false, 0o740: false, 0o701: false, 0o702: false, 0o704: false,
		0o755: false, 0o777: false,
	} {
		dir := t.TempDir()
		must(t, os.Chmod(dir, mode))
		if got := isPrivate(dir); got != want {
			t.Errorf("mode %04o: %t, want %t", mode, got, want)
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if isPrivate(file) {
		t.Error("a directory that is not there is private")
	}
	must(t, os.WriteFile(file, nil, 0o600))
	if isPrivate(file) {
		t.Error("a file is a private directory")
	}
	if os.Geteuid() == 0 {
		dir := t.TempDir()
		must(t, os.Chown(dir, 65534, 65534))
		must(t, os.Chmod(dir, 0o700))
		if isPrivate(dir) {
			t.Error("another user's directory is private")
		}
	}
}

// TestFileCacheSeesALinkMadeBeforeItLocks: a hard link may appear after the cache has
// opened its lock file and before it has locked it. The cache sees that link too. Another
// program would otherwise move the file aside, and leave this one with the lock of a file
// that is no longer the lock file.
func TestFileCacheSeesALinkMadeBeforeItLocks(t *testing.T) {
	t.Parallel()
	c := fileCacheWith(t, "1")
	path := c.path + ".lock"
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	must(t, os.Link(path, filepath.Join(t.TempDir(), "backup")))
	if err := lockAndCheck(file); !isMovable(err) ||
		!strings.Contains(err.Error(), "another hard link") {
		t.Errorf("%v, want an error that says that there is another hard link", err)
	}
}

// TestFileCacheMovesALockAsideOntoItsOwnLink: the lock file and the one that was moved
// aside may be the same file, if somebody restores the lock file as a hard link. rename
// does nothing for two names of one file, so that the lock file would stay in its place.
func TestFileCacheMovesALockAsideOntoItsOwnLink(t *testing.T) {
	t.Parallel()
	c := fileCacheWith(t, "1")
	must(t, os.Link(c.path+".lock", c.path+".lock.bad"))
	put(t, c, "2")
	put(t, c, "3")
	wantContent(t, c, "3")
	wantFiles(t, c, "", ".lock", ".lock.bad")
}
