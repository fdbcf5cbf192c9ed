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

// eachFlowAndCase runs f for both flows of a person and for each of the cases, side by
// side. Each run has a file cache of its own, whose directory is there already.
func eachFlowAndCase[T any](
	t *testing.T, cases map[string]T, f func(t *testing.T, flow string, c *FileCache, this T),
) {
	t.Helper()
	for _, flow := range userFlows {
		for name, this := range cases {
			t.Run(flow+"/"+name, func(t *testing.T) {
				t.Parallel()
				c := fileCache(t)
				must(t, os.Mkdir(filepath.Dir(c.path), 0o700))
				f(t, flow, c, this)
			})
		}
	}
}

// plant lets a mishap happen at path, with a cache for content in which mallory is signed
// in, so that it would be used if it were read. It returns the victim and its content,
// which is that cache too, and what the error says. Sign-ins count from then on.
func (d *desk) plant(t *testing.T, path string, happen mishap) (victim, planted, says string) {
	t.Helper()
	content := d.content(t, "mallory")
	victim = filepath.Join(t.TempDir(), "victim")
	must(t, os.WriteFile(victim, content, 0o644))
	says = happen(t, path, victim)
	if strings.Contains(state(t, path), " planted ") {
		must(t, os.WriteFile(path, content, 0)) // as root, others' files too
	}
	d.asked.Store(0)
	return victim, string(content), says
}

// spoilLock signs ada in at a new desk, and then lets a mishap happen to the lock file of
// c. It returns the content of c, and the victim, which is empty. Sign-ins count from then
// on.
func spoilLock(
	t *testing.T, flow string, c *FileCache, happen mishap,
) (d *desk, content []byte, victim string) {
	t.Helper()
	d = newDesk(flow)
	content = d.content(t, ada)
	must(t, os.WriteFile(c.path, content, 0o600))
	victim = filepath.Join(t.TempDir(), "victim")
	must(t, os.WriteFile(victim, nil, 0o644))
	happen(t, c.path+".lock", victim)
	d.asked.Store(0)
	return d, content, victim
}

// wantLogged reports an error unless the log names path, gives the reason, and has no
// token.
func (d *desk) wantLogged(t *testing.T, path, says string) {
	t.Helper()
	log := d.log.String()
	if !strings.Contains(log, path) || !strings.Contains(log, says) ||
		strings.Contains(log, "tok-") || strings.Contains(log, "ref-") {
		t.Errorf("the log is to name %s, to say %q, and to have no token:\n%s", path, says, log)
	}
}

// TestSignInWorksBesideAPlantedFile: another user of the machine may put a file in the
// place of the cache or of its lock. People sign in all the same, and stay signed in for as
// long as the program runs. The package neither uses, writes nor removes what was planted,
// and the log gives the reason.
func TestSignInWorksBesideAPlantedFile(t *testing.T) {
	t.Parallel()
	eachFlowAndCase(t, plantedFiles(),
		func(t *testing.T, flow string, c *FileCache, planted plantedFile) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(flow)
				path := c.path + planted.suffix
				victim, content, says := d.plant(t, path, planted.attack)
				before := state(t, path)

				p := d.start(t, c)
				tok := d.wantAda(t, p, 1)
				if again := d.wantAda(t, p, 1); !again.Equal(tok) {
					t.Error("the token was not kept in memory")
				}
				time.Sleep(2 * time.Hour)
				if again := d.wantAda(t, p, 1); again.Equal(tok) {
					t.Error("the token has expired")
				}
				d.wantAda(t, d.start(t, c), 2)

				planted.wantAsBefore(t, c, before)
				wantUntouched(t, victim, content)
				d.wantLogged(t, path, says)
			})
		})
}

// TestSignInMendsCache: umask 002, a Kubernetes fsGroup, a backup or a link can leave a
// file that is not as the cache would have made it. Such a file costs one sign-in. The
// package does not use its content, the log gives the reason, and the next program finds a
// good file.
func TestSignInMendsCache(t *testing.T) {
	t.Parallel()
	all := maps.Clone(accidents)
	all["2 MiB"] = func(t *testing.T, path, victim string) string {
		b, err := os.ReadFile(victim)
		must(t, err)
		must(t, os.WriteFile(path, append(b, bytes.Repeat([]byte(" "), 2<<20)...), 0o600))
		return "has more than 1 MiB"
	}
	eachFlowAndCase(t, all, func(t *testing.T, flow string, c *FileCache, happen mishap) {
		synctest.Test(t, func(t *testing.T) {
			d := newDesk(flow)
			victim, content, says := d.plant(t, c.path, happen)

			tok := d.wantAda(t, d.start(t, c), 1)
			if again := d.wantAda(t, d.start(t, c), 1); !again.Equal(tok) {
				t.Error("another start has another token")
			}
			time.Sleep(2 * time.Hour)
			d.wantAda(t, d.start(t, c), 1)
			wantFiles(t, c, "", ".bad", ".lock")
			wantUntouched(t, victim, content)
			d.wantLogged(t, c.path, says)
		})
	})
}

// TestSignInMendsLock: a lock file that could be another program's file costs no sign-in.
// The package moves it aside, and redeems the refresh token under a good one.
func TestSignInMendsLock(t *testing.T) {
	t.Parallel()
	eachFlowAndCase(t, accidents, func(t *testing.T, flow string, c *FileCache, happen mishap) {
		synctest.Test(t, func(t *testing.T) {
			d, _, victim := spoilLock(t, flow, c, happen)

			d.wantAda(t, d.start(t, c), 0)
			time.Sleep(2 * time.Hour)
			tok := d.wantAda(t, d.start(t, c), 0)
			if again := d.wantAda(t, d.start(t, c), 0); !again.Equal(tok) {
				t.Error("the token was not stored")
			}
			wantUntouched(t, victim, "")
		})
	})
}

// TestLockAttackLosesNothing: if only the lock cannot be used, a program still takes a
// good token from the cache. It does not redeem the refresh token, since another program
// may do so at the same moment, and the refresh token stays in the cache.
func TestLockAttackLosesNothing(t *testing.T) {
	t.Parallel()
	eachFlowAndCase(t, attacks, func(t *testing.T, flow string, c *FileCache, attack mishap) {
		synctest.Test(t, func(t *testing.T) {
			d, mine, _ := spoilLock(t, flow, c, attack)

			p := d.start(t, c)
			d.wantAda(t, p, 0)
			time.Sleep(2 * time.Hour)
			d.wantAda(t, p, 1)
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

// TestSignInMendsATruncatedCache: a cache that was cut short, at whatever byte, costs one
// sign-in. The package moves what is left of it aside, and the next program finds a whole
// one.
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

// TestSignInWaitsForTheLock: while another process has the lock, a program still takes a
// good token from the cache. Whoever needs a new token waits, is told the reason, and goes
// on when that process has ended.
func TestSignInWaitsForTheLock(t *testing.T) {
	t.Parallel()
	cases := map[string]bool{"signed in": true, "empty": false}
	eachFlowAndCase(t, cases, func(t *testing.T, flow string, c *FileCache, cached bool) {
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
				t.Errorf("a token of %q after %d sign-ins and %d token requests", tok.Username(),
					d.asked.Load()-asked, d.idp.Tokens()-tokens)
			}
			d.wantAda(t, d.start(t, c), asked) // it was stored
		})
	})
}

// TestFileCacheRepeatsAnInterruptedLock: on a network file system, a signal can interrupt
// flock (EINTR). The cache tries again: a provider that took this for a file system
// without locks would go on without the cache.
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
