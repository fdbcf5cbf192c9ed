// The example shows how a fleet of processes shares its tokens through Redis.
// cache.go is the part to copy.
//
// It starts a redis-server, the embedded identity provider and some workers,
// all of them processes that call Token every 10 ms, kills a worker and stops
// Redis, prints a table of what that cost, and fails if it cost too much:
//
//	go run . -n 50
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"

	"cdfauth"
	"cdfauth/internal/idptest"
)

const key = "cdfauth:tokens"

// What the machine may add to a time, with more processes than processors: to a delay, and to a call that waits for nothing.
const slack, slowest = 500 * time.Millisecond, time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	n := flag.Int("n", 50, "how many workers")
	lifetime := flag.Duration("lifetime", 6*time.Second, "of tokens; they are renewed in the middle of it")
	lease := flag.Duration("lease", 2*time.Second, "how long the lock of a worker that was killed lasts; in production 10s")
	worker := flag.Bool("worker", false, "be a worker, of the identity provider and the Redis in the arguments")
	flag.Parse()
	redis.SetLogger(silent{}) // a Redis that is down is what this is about
	err := errors.New("-n must be 2 at least, -lifetime 4s, -lease 500ms")
	if *worker {
		err = work(flag.Arg(0), flag.Arg(1), *lease)
	} else if *n >= 2 && *lifetime >= 4*time.Second && *lease >= 500*time.Millisecond {
		err = run(ctx, *n, *lifetime, *lease, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, n int, lifetime, lease time.Duration, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, 10*lifetime+10*lease)
	defer cancel()
	idp := idptest.New()
	idp.Lifetime = lifetime
	_, stop, err := idp.Listen()
	if err != nil {
		return err
	}
	defer stop()
	server, err := newServer(ctx)
	if err != nil {
		return err
	}
	defer server.close()
	begun := time.Now()
	f, err := startFleet(n, "-lease", lease.String(), "-worker", idp.Issuer, server.addr)
	defer f.close()
	if err != nil {
		return err
	}

	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	defer w.Flush()
	fmt.Fprintln(w, "WHAT HAPPENED\tTOOK\tTOKEN REQUESTS\tCALLS OF TOKEN\tERRORS\tSLOWEST\tAND")
	var failures []error
	expect := func(ok bool, format string, a ...any) {
		if !ok {
			failures = append(failures, fmt.Errorf(format, a...))
		}
	}
	requests := 0
	row := func(what string, want, most int, and string) {
		got := idp.Tokens() - requests
		fmt.Fprintf(w, "%s\t%.1f s\t%d\t%d\t%d\t%.3f s\t%s\n", what, time.Since(begun).Seconds(), got, f.sum.Calls, f.sum.Failed, f.sum.Slowest.Seconds(), and)
		expect(got >= want && got <= most, "%s: %d token requests, want %d to %d", what, got, want, most)
		expect(f.sum.Failed == 0, "%s: %d calls failed: %q", what, f.sum.Failed, f.sum.Errors)
		requests, begun, f.sum = requests+got, time.Now(), report{}
	}

	if err := f.roll(ctx); err != nil {
		return err
	}
	row(fmt.Sprintf("%d workers start, without a token", n), 1, 1, "")

	// One request per rollover, for all.
	const rollovers = 3
	for range rollovers {
		if err := f.roll(ctx); err != nil {
			return err
		}
	}
	expect(f.sum.Slowest < slowest, "rollovers: a call took %v", f.sum.Slowest)
	expect(idp.Peak() == 1, "rollovers: %d token requests at once", idp.Peak())
	row(fmt.Sprintf("%d rollovers", rollovers), rollovers, rollovers, "")

	// The worker whose request is the next one is killed before it gets an answer. It is inside Update.
	type kill struct {
		at   time.Time
		left time.Duration // of its lease
		err  error
	}
	killed := make(chan kill, 1)
	rdb := redis.NewClient(&redis.Options{Addr: server.addr})
	defer rdb.Close()
	idp.Fault(func(_ http.ResponseWriter, r *http.Request) {
		k := kill{err: f.kill(r.Header.Get("Worker")), at: time.Now()}
		k.left, k.err = rdb.PTTL(ctx, key+":lease").Val(), errors.Join(k.err, rdb.Get(ctx, key+":lease").Err())
		killed <- k
	})
	if err := f.roll(ctx); err != nil {
		return err
	}
	k := <-killed
	if k.err != nil {
		return fmt.Errorf("to kill a worker that has the lease: %w", k.err)
	}
	all := idp.Requests("/token")
	delay := all[len(all)-1].At.Sub(k.at)
	expect(delay <= k.left+slack, "a worker was killed: the next request came %v later, but its lease had only %v", delay, k.left)
	leeway := min(cdfauth.DefaultLeeway, lifetime/2) // in the last third of which a call waits for the new token
	expect(f.sum.Slowest < max(slowest, lease+slack-leeway*2/3), "a worker was killed: a call took %v", f.sum.Slowest)
	row("one is killed inside Update", 2, 2, fmt.Sprintf("the next request came %.2f s later, when the lease had %.2f s", delay.Seconds(), k.left.Seconds()))

	// Redis is away while all have a fresh token.
	server.stop(syscall.SIGTERM)
	down := time.Now()
	if err := f.ask(ctx, time.Second); err != nil {
		return err
	}
	if err := server.start(ctx); err != nil {
		return err
	}
	away := time.Since(down)
	expect(f.sum.Slowest < slowest, "Redis was restarted: a call took %v", f.sum.Slowest)
	row("Redis restarts, between rollovers", 0, 0, fmt.Sprintf("it was away for %.2f s", away.Seconds()))
	if err := f.roll(ctx); err != nil {
		return err
	}
	expect(f.sum.Slowest < slowest, "after the restart: a call took %v", f.sum.Slowest)
	row("the next rollover", 1, 1, "")

	// Redis is away at a rollover: each worker goes on by itself, and the fleet comes together again at the next one.
	server.stop(syscall.SIGKILL)
	down = time.Now()
	if err := f.renew(ctx); err != nil {
		return err
	}
	if err := server.start(ctx); err != nil {
		return err
	}
	away = time.Since(down)
	expect(f.sum.Slowest < slowest, "Redis was down at a rollover: a call took %v", f.sum.Slowest)
	row("Redis is down at a rollover", 1, n-1, fmt.Sprintf("each for itself; it was away for %.2f s", away.Seconds()))
	for range 2 {
		if err := f.roll(ctx); err != nil {
			return err
		}
	}
	expect(f.sum.Slowest < slowest, "Redis is back: a call took %v", f.sum.Slowest)
	row("2 rollovers with it back", 2, 2, "")
	return errors.Join(failures...)
}

// fleet is the workers that are alive.
type fleet struct {
	mu      sync.Mutex
	workers map[string]*process // by process id

	// As told when they were asked last:
	tokens map[string]bool // that they have
	sum    report          // of all reports since it was reset
}

type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func startFleet(n int, args ...string) (*fleet, error) {
	f := &fleet{workers: map[string]*process{}}
	exe, err := os.Executable()
	for range n {
		p := &process{cmd: exec.Command(exe, args...)}
		p.cmd.Stderr = os.Stderr
		in, e1 := p.cmd.StdinPipe()
		out, e2 := p.cmd.StdoutPipe()
		if err = errors.Join(err, e1, e2); err == nil {
			err = p.cmd.Start()
		}
		if err != nil {
			return f, err
		}
		p.in, p.out = in, json.NewDecoder(bufio.NewReader(out))
		f.workers[strconv.Itoa(p.cmd.Process.Pid)] = p
	}
	return f, nil
}

// close ends the workers: their standard input ends.
func (f *fleet) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.workers {
		p.in.Close()
	}
	for _, p := range f.workers {
		_ = p.cmd.Wait()
	}
}

// kill kills a worker, which is then no longer one of the fleet.
func (f *fleet) kill(pid string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.workers[pid]
	if p == nil {
		return fmt.Errorf("no worker has the process id %q", pid)
	}
	delete(f.workers, pid)
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = p.cmd.Wait() // says that it was killed
	return nil
}

// poll asks each worker for its report.
func (f *fleet) poll() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.workers {
		if _, err := io.WriteString(p.in, "\n"); err != nil {
			return fmt.Errorf("a worker has ended: %w", err)
		}
	}
	f.tokens = map[string]bool{}
	for _, p := range f.workers {
		var r report
		if err := p.out.Decode(&r); err != nil {
			return fmt.Errorf("a worker has ended: %w", err)
		}
		f.tokens[r.Token] = true
		f.sum.Calls += r.Calls
		f.sum.Failed += r.Failed
		f.sum.Slowest = max(f.sum.Slowest, r.Slowest)
		if len(f.sum.Errors) < 3 {
			f.sum.Errors = append(f.sum.Errors, r.Errors...)
		}
	}
	return nil
}

// ask lets the workers be for some time.
func (f *fleet) ask(ctx context.Context, d time.Duration) error {
	for end := time.Now().Add(d); time.Now().Before(end); {
		if !pause(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
	return f.poll()
}

// roll returns when all workers have one token that none of them had before, and renew when each has another token than before.
func (f *fleet) roll(ctx context.Context) error  { return f.until(ctx, true) }
func (f *fleet) renew(ctx context.Context) error { return f.until(ctx, false) }

func (f *fleet) until(ctx context.Context, same bool) error {
	before := f.tokens
	for {
		if err := f.ask(ctx, 50*time.Millisecond); err != nil {
			return err
		}
		old := f.tokens[""]
		for token := range f.tokens {
			old = old || before[token]
		}
		if !old && (len(f.tokens) == 1 || !same) {
			return nil
		}
	}
}
