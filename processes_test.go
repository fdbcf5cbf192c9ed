package cdfauth

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cdfauth/internal/idptest"
)

// program is what the processes of these tests run: somebody's tool, which has a
// person at hand. Each line on standard input is a moment at which it needs a
// token: for how many seconds its clock is ahead by then, and whether it starts
// anew. It answers with the token.
func program(c *FileCache, arg string) error {
	flow, issuer, _ := strings.Cut(arg, " ")
	var p Provider
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		seconds, anew, _ := strings.Cut(lines.Text(), " ")
		n, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil {
			return err
		}
		ahead := n * int64(time.Second)
		if p == nil || anew != "" {
			if p, err = personsProvider(flow, issuer, c); err != nil {
				return err
			}
		}
		switch p := p.(type) {
		case *DeviceCode:
			p.refresher.clock.ahead.Store(ahead)
		case *Interactive:
			p.refresher.clock.ahead.Store(ahead)
		}
		tok, err := p.Token(context.Background())
		if err != nil {
			return err
		}
		fmt.Println(tok.AccessToken(), tok.Username())
	}
	return nil
}

func init() { children["program"] = program }

// personsProvider returns a provider of one of the users' flows whose person is
// another program.
func personsProvider(flow, issuer string, c Cache) (Provider, error) {
	switch flow {
	case "device":
		p, err := NewDeviceCode(DeviceCodeConfig{Endpoint: Issuer(issuer), ClientID: "app",
			Scopes:   []string{"read"},
			ShowCode: func(context.Context, DeviceAuthorization) error { return nil },
			Options:  Options{Cache: c}})
		return p, err
	case "interactive":
		p, err := NewInteractive(InteractiveConfig{Endpoint: Issuer(issuer), ClientID: "app",
			Scopes: []string{"read"}, RedirectURL: "http://127.0.0.1:0/back",
			OpenBrowser: browse, Output: io.Discard, Options: Options{Cache: c}})
		return p, err
	}
	return nil, errors.New("no such flow: " + flow)
}

// browse is a browser, whose person has signed in before: it follows where it is
// sent.
func browse(_ context.Context, address string) error {
	go func() {
		if resp, err := http.Get(address); err == nil {
			resp.Body.Close()
		}
	}()
	return nil
}

// fleet is programs that run at once.
type fleet struct {
	cmds []*exec.Cmd
	in   []io.WriteCloser
	out  []*bufio.Reader
}

func startFleet(t *testing.T, n int, c *FileCache, arg string) *fleet {
	t.Helper()
	var f fleet
	for range n {
		cmd := child(t, "program", c, arg)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		f.cmds, f.in, f.out = append(f.cmds, cmd), append(f.in, in), append(f.out, bufio.NewReader(out))
	}
	return &f
}

// ask makes all programs ask at once, and returns the token and the user that all
// of them have got.
func (f *fleet) ask(t *testing.T, ahead, anew int) string {
	t.Helper()
	for i, in := range f.in {
		line := strconv.Itoa(ahead)
		if i < anew {
			line += " anew"
		}
		if _, err := io.WriteString(in, line+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	var first string
	for i, out := range f.out {
		got, err := out.ReadString('\n')
		if err != nil {
			t.Fatalf("program %d ended: %v", i, err)
		}
		if first == "" {
			first = strings.TrimSpace(got)
		}
		if strings.TrimSpace(got) != first {
			t.Fatalf("program %d got %s, another %s", i, strings.TrimSpace(got), first)
		}
	}
	return first
}

// end lets all programs end, as they like to.
func (f *fleet) end(t *testing.T) {
	t.Helper()
	for _, in := range f.in {
		in.Close()
	}
	for i, cmd := range f.cmds {
		if err := cmd.Wait(); err != nil {
			t.Errorf("program %d: %v", i, err)
		}
	}
}

// TestProcessesShareASignIn: Twenty programs, of which half are started anew
// each time their token has expired, make one sign-in between them, and one
// refresh each time. The identity provider rotates refresh tokens, and ends the
// sign-in if one is used twice (RFC 9700 §4.14.2).
func TestProcessesShareASignIn(t *testing.T) {
	t.Parallel()
	programs, rollovers := 20, 50
	if testing.Short() {
		rollovers = 5
	}
	for flow, asked := range map[string]string{"device": "/devicecode", "interactive": "/authorize"} {
		t.Run(flow, func(t *testing.T) {
			t.Parallel()
			idp, c := idptest.New(), fileCache(t)
			idp.Lifetime, idp.Interval = time.Minute, time.Second
			_, stop, err := idp.Listen()
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			f := startFleet(t, programs, c, flow+" "+idp.Issuer)
			seen := map[string]bool{}
			for i := range rollovers + 1 {
				got := f.ask(t, i*61, programs/2)
				if seen[got] || !strings.HasSuffix(got, " ada@example.com") {
					t.Fatalf("rollover %d: token and user %q, seen before: %t", i, got, seen[got])
				}
				seen[got] = true
				refreshes := 0
				for _, r := range idp.Requests("/token") {
					if r.Form.Get("grant_type") == "refresh_token" {
						refreshes++
					}
				}
				if n := len(idp.Requests(asked)); n != 1 || refreshes != i || idp.Refused() != 0 {
					t.Fatalf("after %d rollovers: %d sign-ins, %d refreshes, %d refused; want 1, %d, 0", i, n,
						refreshes, idp.Refused(), i)
				}
			}
			f.end(t)
			wantFiles(t, c, "", ".lock")
		})
	}
}

// TestProcessesShareOneRequest: Twenty programs whose token has just expired make
// one token request between them.
func TestProcessesShareOneRequest(t *testing.T) {
	idp := idptest.New()
	_, stop, err := idp.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	cache := fileCache(t)
	for round := range 3 {
		tokens := map[string]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 20 {
			cmd := child(t, "token", cache, fmt.Sprintf("scope-%d %s", round, idp.Issuer))
			wg.Add(1)
			go func() {
				defer wg.Done()
				out, err := cmd.Output()
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				tokens[string(out)]++
				mu.Unlock()
			}()
		}
		wg.Wait()
		wantRequests(t, idp, round+1)
		if len(tokens) != 1 {
			t.Errorf("round %d: the processes have %d different tokens", round, len(tokens))
		}
	}
}
