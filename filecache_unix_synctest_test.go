//go:build go1.25 && (darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package cdfauth

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// These tests are of people who sign in while the file cache is not what it should be. In
// FIPS mode they are left out: there, random numbers begin with the jitter of a clock,
// which a bubble has not, and several bubbles at once want several beginnings.

// TestSignInWorksBesideAPlantedFile: whatever somebody put in the place of the cache or of its lock,
// people sign in and stay signed in for as long as the program runs. Nothing that was
// planted is used, written or removed, and the log says why. Everything planted is a cache
// in which mallory is signed in, so that it would be used if it were read.
func TestSignInWorksBesideAPlantedFile(t *testing.T) {
	t.Parallel()
	attacked := func(flow, suffix string, attack func(t *testing.T, path, victim string) string) func(t *testing.T) {
		return func(t *testing.T) {
			t.Parallel()
			c := fileCache(t)
			path, victim := c.path+suffix, filepath.Join(t.TempDir(), "victim")
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(flow)
				planted := d.content(t, "mallory")
				must(t, os.WriteFile(victim, planted, 0o644))
				says := attack(t, path, victim)
				if strings.Contains(state(t, path), " planted ") {
					must(t, os.WriteFile(path, planted, 0)) // as root, others' files too
				}
				asked, before := d.asked.Load(), state(t, path)

				p := d.start(t, c)
				tok := d.wantAda(t, p, asked+1)
				if again := d.wantAda(t, p, asked+1); !again.Equal(tok) {
					t.Error("the token was not kept in memory")
				}
				time.Sleep(2 * time.Hour)
				if again := d.wantAda(t, p, asked+1); again.Equal(tok) {
					t.Error("the token has expired")
				}
				d.wantAda(t, d.start(t, c), asked+2)

				if after := state(t, path); after != before {
					t.Errorf("%s was changed:\n%s\n%s", path, before, after)
				}
				if b, err := os.ReadFile(victim); !bytes.Equal(b, planted) {
					t.Errorf("the victim has %d bytes, %v", len(b), err)
				}
				if _, err := os.Lstat(victim + ".new"); err == nil {
					t.Error("a file was made through a link")
				}
				if suffix == "" {
					wantFiles(t, c, "", ".lock")
				} else {
					wantFiles(t, c, ".lock")
				}
				if log := d.log.String(); !strings.Contains(log, path) || !strings.Contains(log, says) || strings.Contains(log, "tok-") || strings.Contains(log, "ref-") {
					t.Errorf("the log is to name %s, to say %q, and to have no token:\n%s", path, says, log)
				}
			})
		}
	}
	for _, flow := range userFlows {
		for name, attack := range attacks {
			t.Run(flow+"/"+name, attacked(flow, "", attack))
			t.Run(flow+"/lock file: "+name, attacked(flow, ".lock", attack))
		}
	}
}

// TestSignInMendsCache: a file that is not as the cache would have made it, by umask
// 002, a Kubernetes fsGroup, a backup or a link, costs one sign-in. Its content is not
// used, the log says why, and the next program finds a good file. Everything planted
// is a cache in which mallory is signed in, so that it would be used if it were read.
func TestSignInMendsCache(t *testing.T) {
	t.Parallel()
	all := maps.Clone(accidents)
	all["2 MiB"] = func(t *testing.T, path, victim string) string {
		b, err := os.ReadFile(victim)
		must(t, err)
		must(t, os.WriteFile(path, append(b, bytes.Repeat([]byte(" "), 2<<20)...), 0o600))
		return "has more than 1 MiB"
	}
	for _, flow := range userFlows {
		for name, happen := range all {
			t.Run(flow+"/"+name, func(t *testing.T) {
				t.Parallel()
				c := fileCache(t)
				must(t, os.Mkdir(filepath.Dir(c.path), 0o700))
				victim := filepath.Join(t.TempDir(), "victim")
				synctest.Test(t, func(t *testing.T) {
					d := newDesk(flow)
					planted := d.content(t, "mallory")
					must(t, os.WriteFile(victim, planted, 0o644))
					says := happen(t, c.path, victim)
					if strings.Contains(state(t, c.path), " planted ") {
						must(t, os.WriteFile(c.path, planted, 0))
					}
					asked := d.asked.Load()

					tok := d.wantAda(t, d.start(t, c), asked+1)
					if again := d.wantAda(t, d.start(t, c), asked+1); !again.Equal(tok) {
						t.Error("another start has another token")
					}
					time.Sleep(2 * time.Hour)
					d.wantAda(t, d.start(t, c), asked+1)
					wantFiles(t, c, "", ".bad", ".lock")
					wantUntouched(t, victim, string(planted))
					if log := d.log.String(); !strings.Contains(log, c.path) || !strings.Contains(log, says) || strings.Contains(log, "tok-") || strings.Contains(log, "ref-") {
						t.Errorf("the log is to name %s, to say %q, and to have no token:\n%s", c.path, says, log)
					}
				})
			})
		}
	}
}

// TestSignInMendsLock: a lock file that could be another program's file costs no
// sign-in: it is moved aside, and the refresh token is redeemed under a good one.
func TestSignInMendsLock(t *testing.T) {
	t.Parallel()
	for _, flow := range userFlows {
		for name, happen := range accidents {
			t.Run(flow+"/"+name, func(t *testing.T) {
				t.Parallel()
				c := fileCache(t)
				must(t, os.Mkdir(filepath.Dir(c.path), 0o700))
				synctest.Test(t, func(t *testing.T) {
					d := newDesk(flow)
					must(t, os.WriteFile(c.path, d.content(t, ada), 0o600))
					victim := filepath.Join(t.TempDir(), "victim")
					must(t, os.WriteFile(victim, nil, 0o644))
					happen(t, c.path+".lock", victim)
					asked := d.asked.Load()

					d.wantAda(t, d.start(t, c), asked)
					time.Sleep(2 * time.Hour)
					tok := d.wantAda(t, d.start(t, c), asked)
					if again := d.wantAda(t, d.start(t, c), asked); !again.Equal(tok) {
						t.Error("the token was not stored")
					}
					wantUntouched(t, victim, "")
				})
			})
		}
	}
}

// TestLockAttackLosesNothing: where only the lock cannot be used, a good token is still
// taken from the cache; the refresh token is not redeemed, since others may do so at the
// same moment, and stays.
func TestLockAttackLosesNothing(t *testing.T) {
	t.Parallel()
	for _, flow := range userFlows {
		for name, attack := range attacks {
			t.Run(flow+"/"+name, func(t *testing.T) {
				t.Parallel()
				c := fileCache(t)
				must(t, os.Mkdir(filepath.Dir(c.path), 0o700))
				synctest.Test(t, func(t *testing.T) {
					d := newDesk(flow)
					mine := d.content(t, ada)
					must(t, os.WriteFile(c.path, mine, 0o600))
					victim := filepath.Join(t.TempDir(), "victim")
					must(t, os.WriteFile(victim, nil, 0o600))
					attack(t, c.path+".lock", victim)
					asked := d.asked.Load()

					p := d.start(t, c)
					d.wantAda(t, p, asked)
					time.Sleep(2 * time.Hour)
					d.wantAda(t, p, asked+1)
					for _, r := range d.idp.Requests("/token") {
						if r.Form.Get("grant_type") == "refresh_token" {
							t.Error("a refresh token was redeemed without the lock")
						}
					}
					if b, err := os.ReadFile(c.path); !bytes.Equal(b, mine) {
						t.Errorf("the cache was changed: %d bytes became %d, %v", len(mine), len(b), err)
					}
				})
			})
		}
	}
}

// TestSignInMendsATruncatedCache: a cache that was cut short, wherever, costs one sign-in.
// What was left of it is put aside, and the next program finds a whole one.
func TestSignInMendsATruncatedCache(t *testing.T) {
	t.Parallel()
	step := 1
	if testing.Short() {
		step = 101
	}
	for _, flow := range userFlows {
		t.Run(flow, func(t *testing.T) {
			t.Parallel()
			c := fileCache(t)
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(flow)
				content := d.content(t, ada)
				must(t, os.Mkdir(filepath.Dir(c.path), 0o700))
				asked := d.asked.Load()
				for n := 0; n < len(content); n += step {
					must(t, os.WriteFile(c.path, content[:n], 0o600))
					asked++
					tok := d.wantAda(t, d.start(t, c), asked)
					if again := d.wantAda(t, d.start(t, c), asked); again.AccessToken() != tok.AccessToken() {
						t.Fatalf("cut at %d: another start has another token", n)
					}
					b, err := os.ReadFile(c.path + ".bad")
					if n > 0 && !bytes.Equal(b, content[:n]) || n == 0 && !errors.Is(err, os.ErrNotExist) {
						t.Fatalf("cut at %d: put aside were %d bytes, %v", n, len(b), err)
					}
				}
				wantFiles(t, c, "", ".bad", ".lock")
			})
		})
	}
}

// TestSignInWaitsForTheLock: while another process has the lock, a good token is had all
// the same; whoever needs a new one waits, is told why, and goes on when that process has
// ended.
func TestSignInWaitsForTheLock(t *testing.T) {
	t.Parallel()
	for _, flow := range userFlows {
		for name, cached := range map[string]bool{"signed in": true, "empty": false} {
			t.Run(flow+"/"+name, func(t *testing.T) {
				t.Parallel()
				c := fileCache(t)
				holder := child(t, "hold", c, "")
				start(t, holder)
				synctest.Test(t, func(t *testing.T) {
					d := newDesk(flow)
					asked := int32(0)
					if cached {
						must(t, os.WriteFile(c.path, d.content(t, ada), 0o600))
						asked = d.asked.Load()
						d.wantAda(t, d.start(t, c), asked)
						time.Sleep(2 * time.Hour)
					}
					tokens := d.idp.Tokens()
					p := d.start(t, c)
					if _, err := p.Token(WithoutInteraction(t.Context())); !errors.Is(err, ErrSignInRequired) {
						t.Errorf("a caller who must not wait for long: %v", err)
					}
					got := make(chan Token)
					go func() { got <- d.waitFor(t, p) }()
					time.Sleep(5 * time.Minute)
					if n := d.asked.Load(); n != asked || d.idp.Tokens() != tokens {
						t.Errorf("%d sign-ins and %d token requests without the lock", n-asked, d.idp.Tokens()-tokens)
					}
					if d.flow == "interactive" && !strings.Contains(d.told(), "Another program") {
						t.Errorf("the person was told %q", d.told())
					}
					kill(t, holder)
					if !cached {
						asked++
					}
					if tok := <-got; tok.Username() != ada || d.asked.Load() != asked || d.idp.Tokens() != tokens+1 {
						t.Errorf("a token of %q after %d sign-ins and %d token requests", tok.Username(), d.asked.Load()-asked, d.idp.Tokens()-tokens)
					}
					d.wantAda(t, d.start(t, c), asked) // it was stored
				})
			})
		}
	}
}

// TestFileCacheRepeatsAnInterruptedLock: a signal that arrives during flock, on a network
// file system, is no reason to go on without the cache.
func TestFileCacheRepeatsAnInterruptedLock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		_, err := retryWhileBusy(t.Context(), func() (*os.File, error) {
			tries++
			if tries < 3 {
				return nil, &os.PathError{Op: "lock", Path: "cache.bin.lock", Err: syscall.EINTR}
			}
			return nil, nil
		})
		if err != nil || tries != 3 {
			t.Errorf("%d tries, %v", tries, err)
		}
	})
}
