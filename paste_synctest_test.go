//go:build go1.25

package cdfauth

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// noDisplay is an OpenBrowser where no browser can open.
func noDisplay(context.Context, string) error { return errors.New("no display") }

// answered is the address that a browser elsewhere ends at.
func answered(h *human) string {
	told := h.told()
	address := strings.Fields(told[strings.Index(told, "https://idp.test/authorize"):])[0]
	c := h.idp.Client()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Get(address)
	if err != nil {
		return ""
	}
	return resp.Header.Get("Location")
}

// TestAnswerIsPastedWhereNoBrowserOpens: On a computer without a browser (ssh,
// a container) the person signs in elsewhere, and pastes the address at which
// the browser has ended. A line that is not the answer is refused and never
// shown.
func TestAnswerIsPastedWhereNoBrowserOpens(t *testing.T) {
	broken := func(c *InteractiveConfig) {
		c.OpenBrowser = noDisplay
	}
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		in, out := io.Pipe()
		go func() {
			time.Sleep(time.Minute)
			good := answered(h)
			u, _ := url.Parse(good)
			for _, line := range []string{u.Query().Get("code"), "",
				"http://localhost:53000/?code=x&state=y", "http://evil.test/?" + u.RawQuery,
				strings.Repeat("x", 9<<10), "  " + good + " "} {
				io.WriteString(out, line+"\r\n")
			}
		}()
		p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) { broken(c); c.Input = in })
		signedIn(t, p)
		if n := strings.Count(h.told(), "That is not the answer"); n != 5 {
			t.Errorf("%d of 5 wrong lines were refused: %s", n, h.told())
		}
		if strings.Contains(h.told(), "code=") || strings.Contains(h.told(), "code-") {
			t.Error("what was pasted is shown")
		}
	})
	runInBubble(t, "the callback comes all the same", func(t *testing.T) {
		h := &human{idp: idptest.New()}
		in, out := io.Pipe()
		go func() { time.Sleep(time.Minute); h.visit(answered(h)) }()
		p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) { broken(c); c.Input = in })
		signedIn(t, p)
		// The read that is left over serves the next sign-in.
		p.SignOut(t.Context())
		h.mu.Lock()
		h.out.Reset()
		h.mu.Unlock()
		go func() { time.Sleep(time.Minute); io.WriteString(out, answered(h)+"\n") }()
		signedIn(t, p)
		if strings.Contains(h.told(), "That is not") {
			t.Error("the first line was lost")
		}
	})
	runInBubble(t, "input ends", func(t *testing.T) {
		h := &human{idp: idptest.New()}
		_, err := interactive(t, h, &MemoryCache{}, broken).Token(t.Context())
		if !errors.Is(err, ErrSignInRequired) || h.net.open() != 0 {
			t.Error(err)
		}
	})
	runInBubble(t, "a browser that opens leaves the input alone", func(t *testing.T) {
		h := &human{idp: idptest.New()}
		signedIn(t, interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) {
			c.Input = &untouched{t}
		}))
	})
}

// TestStandardInputIsReadOnlyIfItIsATerminal: A program may get its data on
// standard input. The provider reads it only if it is a terminal, as far as
// that can be told.
func TestStandardInputIsReadOnlyIfItIsATerminal(t *testing.T) {
	defer func(stdin *os.File) { os.Stdin = stdin }(os.Stdin)
	path := filepath.Join(t.TempDir(), "file")
	os.WriteFile(path, []byte("from a file\n"), 0o600)
	// The first is a device for characters.
	for name, want := range map[string]string{os.DevNull: "Input has ended",
		path: "Input is not there"} {
		var err error
		if os.Stdin, err = os.Open(name); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			_, err = interactive(t, &human{idp: idptest.New()}, &MemoryCache{}, func(c *InteractiveConfig) {
				c.Input, c.OpenBrowser = nil, noDisplay
			}).Token(t.Context())
		})
		if os.Stdin.Close(); !errors.Is(err, ErrSignInRequired) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestLineOfMoreThan8KiBIsNotTaken: No answer is longer than 8 KiB. Of a longer
// line nothing is taken, and the next line is read from its beginning.
func TestLineOfMoreThan8KiBIsNotTaken(t *testing.T) {
	for _, tt := range []struct{ length, want int }{{0, 0}, {8 << 10, 8 << 10},
		{8<<10 + 1, 0}, {9 << 10, 0}} {
		in := strings.NewReader(strings.Repeat("x", tt.length) + "\nnext\n")
		line, err := readLine(t.Context(), in)
		next, err2 := readLine(t.Context(), in)
		if len(line) != tt.want || next != "next" || errors.Join(err, err2) != nil {
			t.Errorf("%d of %d bytes, then %q; %v, %v", len(line), tt.length, next, err, err2)
		}
	}
}

type untouched struct{ t *testing.T }

func (u *untouched) Read([]byte) (int, error) { u.t.Error("Input was read"); return 0, io.EOF }

// typed is what a person types, line by line.
type typed struct {
	lines chan string
	rest  string
}

func (in *typed) Read(b []byte) (int, error) {
	if in.rest == "" {
		line, ok := <-in.lines
		if !ok {
			return 0, io.EOF
		}
		in.rest = line
	}
	n := copy(b, in.rest)
	in.rest = in.rest[n:]
	return n, nil
}

// TestOneInputServesTwoSignIns: Two sign-ins of one program may wait for a
// pasted answer at the same Input. Each gets its own.
func TestOneInputServesTwoSignIns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in := &typed{lines: make(chan string, 10)}
		people := []*human{{idp: idptest.New()}, {idp: idptest.New()}}
		var wg sync.WaitGroup
		for i, h := range people {
			p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) {
				c.OpenBrowser, c.Input, c.RedirectPort = noDisplay, in, 50001+i
			})
			wg.Go(func() {
				if _, err := p.Token(t.Context()); err != nil {
					t.Errorf("sign-in %d: %v", i, err)
				}
			})
		}
		time.Sleep(time.Minute)
		// The person repeats what was not taken.
		for _, h := range []*human{people[1], people[0], people[1]} {
			in.lines <- answered(h) + "\n"
			time.Sleep(time.Minute)
		}
		wg.Wait()
		close(in.lines) // whoever reads still ends
	})
}

// TestPastingIsOfferedBesideAUselessBrowser: An opener may succeed where no
// browser can be used (ssh -X, a container). The person may paste the answer
// then too, but the provider reads nothing before a browser has had time to
// bring it.
func TestPastingIsOfferedBesideAUselessBrowser(t *testing.T) {
	opened := func(c *InteractiveConfig) {
		c.OpenBrowser = func(context.Context, string) error { return nil }
	}
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		in := &typed{lines: make(chan string)}
		go func() {
			time.Sleep(pasteDelay - time.Second)
			if strings.Contains(h.told(), "paste") {
				t.Error("pasting is offered at once")
			}
			select {
			case in.lines <- "a line of the program's\n":
				t.Error("a line was read at once")
			default:
			}
			time.Sleep(2 * time.Second)
			in.lines <- answered(h) + "\n"
			close(in.lines)
		}()
		p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) { opened(c); c.Input = in })
		signedIn(t, p)
		if !strings.Contains(h.told(), "No answer has come yet") {
			t.Errorf("told: %s", h.told())
		}
	})
	runInBubble(t, "input ends, and the browser brings the answer", func(t *testing.T) {
		h := &human{idp: idptest.New()}
		go func() { time.Sleep(2 * pasteDelay); h.visit(answered(h)) }()
		signedIn(t, interactive(t, h, &MemoryCache{}, opened))
	})
	t.Run("standard input that is no terminal is left alone", func(t *testing.T) {
		defer func(stdin *os.File) { os.Stdin = stdin }(os.Stdin)
		path := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(path, []byte("the program's\n"), 0o600))
		var err error
		os.Stdin, err = os.Open(path)
		must(t, err)
		defer os.Stdin.Close()
		synctest.Test(t, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			go func() { time.Sleep(2 * pasteDelay); h.visit(answered(h)) }()
			signedIn(t, interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) {
				opened(c)
				c.Input = nil
			}))
		})
		if b, err := io.ReadAll(os.Stdin); err != nil || string(b) != "the program's\n" {
			t.Errorf("%q is left, %v", b, err)
		}
	})
}

// TestPastingIsOfferedBesideABusyOpener: an opener may return no sooner than its browser
// ends. The person may paste the answer in time nevertheless.
func TestPastingIsOfferedBesideABusyOpener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		in := &typed{lines: make(chan string)}
		go func() {
			time.Sleep(pasteDelay + time.Second)
			if !strings.Contains(h.told(), "No answer has come yet") {
				t.Errorf("told: %s", h.told())
			}
			in.lines <- answered(h) + "\n"
			close(in.lines)
		}()
		p := interactive(t, h, &MemoryCache{}, func(c *InteractiveConfig) {
			c.OpenBrowser = func(ctx context.Context, _ string) error { <-ctx.Done(); return nil }
			c.Input = in
		})
		if d := elapse(func() { signedIn(t, p) }); d > 2*pasteDelay {
			t.Errorf("signed in after %v", d)
		}
	})
	t.Run("fails late", func(t *testing.T) {
		defer func(stdin *os.File) { os.Stdin = stdin }(os.Stdin)
		os.Stdin = nil
		for name, input := range map[string]io.Reader{"no input": nil, "ended": new(ended)} {
			synctest.Test(t, func(t *testing.T) {
				p := interactive(t, &human{idp: idptest.New()}, &MemoryCache{}, func(c *InteractiveConfig) {
					c.OpenBrowser = func(context.Context, string) error {
						time.Sleep(2 * pasteDelay)
						return errors.New("crashed")
					}
					c.Input = input
				})
				var err error
				d := elapse(func() { _, err = p.Token(t.Context()) })
				if !errors.Is(err, ErrSignInRequired) || d != 2*pasteDelay {
					t.Errorf("%s: %v after %v", name, err, d)
				}
			})
		}
	})
}

type ended struct{ _ byte }

func (*ended) Read([]byte) (int, error) { return 0, io.EOF }
