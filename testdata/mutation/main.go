// Command mutation tries the tests by mutants: the package with one operator replaced
// by another. A mutant that no test notices is a hole in the tests. See README.md.
//
// Usage: mutation ORIGINAL COPY, two checkouts of the package. COPY is rewritten.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fatal(errors.New("usage: mutation ORIGINAL COPY"))
	}
	original := os.Args[1]
	duplicate := os.Args[2]
	// The files of a platform are those of one platform alone.
	r, err := rewrite(duplicate, func(file string) bool {
		return strings.HasPrefix(file, "filecache_")
	})
	if err != nil {
		fatal(err)
	}
	s := &suite{dir: original, binary: filepath.Join(duplicate, "mutants.test")}
	compile := exec.Command("go", "test", "-vet=off", "-c", "-o", s.binary, ".")
	compile.Dir = duplicate
	compile.Stderr = os.Stderr
	if err := compile.Run(); err != nil {
		fatal(err)
	}
	if result := s.run(mutant{}); result.fate != lived {
		fatal(fmt.Errorf("without a mutant, the suite %s in %s", result.fate, result.test))
	}
	for _, m := range r.skipped {
		fmt.Printf("skipped   %v\n", m)
	}
	s.tryAll(r.mutants)
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "mutation:", err)
	os.Exit(1)
}

// A suite is the tests of the package, compiled once.
type suite struct {
	dir    string
	binary string
}

// A fate is what becomes of a mutant.
type fate string

const (
	killed fate = "killed" // a test fails
	slow   fate = "no end" // a test does not end, or takes too long
	lived  fate = "survived"
)

// A result is the fate of a mutant, and the test that decided it.
type result struct {
	fate fate
	test string
}

// tryAll tries mutants, several at a time, since most tests of a hung mutant wait. It
// prints a line for each mutant, and then a line for each file.
func (s *suite) tryAll(mutants []mutant) {
	var mu sync.Mutex
	counts := map[string]map[fate]int{}
	todo := make(chan mutant)
	var done sync.WaitGroup
	for range 3 * runtime.NumCPU() {
		done.Add(1)
		go func() {
			defer done.Done()
			for m := range todo {
				r := s.try(m)
				mu.Lock()
				if counts[m.file] == nil {
					counts[m.file] = map[fate]int{}
				}
				counts[m.file][r.fate]++
				fmt.Printf("%-9s %v  %s\n", r.fate, m, r.test)
				mu.Unlock()
			}
		}()
	}
	for _, m := range mutants {
		todo <- m
	}
	close(todo)
	done.Wait()
	var file string
	for _, m := range mutants {
		if m.file == file {
			continue
		}
		file = m.file
		c := counts[file]
		fmt.Printf("| %s | %d | %d | %d | %d |\n", file,
			c[killed]+c[slow]+c[lived], c[killed], c[slow], c[lived])
	}
}

// try runs the tests that stand beside the mutant's file, and the whole suite if they
// notice nothing.
func (s *suite) try(m mutant) result {
	tests := s.beside(m.file)
	if len(tests) > 0 {
		r := s.run(m, "-test.run", "^("+strings.Join(tests, "|")+")$", "-test.timeout", "45s")
		if r.fate != lived {
			return r
		}
	}
	return s.run(m, "-test.timeout", "3m")
}

var (
	failed  = regexp.MustCompile(`--- FAIL: (\w+)`)
	panics  = regexp.MustCompile(`(?m)^cdfauth\.(Test\w+)`)
	running = regexp.MustCompile(`running tests:\n\s+(\w+)`)
)

func (s *suite) run(m mutant, args ...string) result {
	cmd := exec.Command(s.binary, append([]string{"-test.failfast"}, args...)...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "MUTANT="+strconv.Itoa(m.id), "GOMAXPROCS=1")
	// A test that fails may leave processes behind, which hold its output open.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	text := string(out)
	switch {
	case err == nil:
		return result{lived, ""}
	case strings.Contains(text, "panic: test timed out"):
		return result{slow, first(running, text)}
	case failed.MatchString(text):
		return result{killed, first(failed, text)}
	}
	return result{killed, first(panics, text)}
}

func first(pattern *regexp.Regexp, text string) string {
	match := pattern.FindStringSubmatch(text)
	if match == nil {
		return "(a panic)"
	}
	return match[1]
}

// besideOthers has the files whose tests do not stand beside them alone.
var besideOthers = map[string][]string{
	"asking.go":         {"asking", "signin"},
	"cachedtoken.go":    {"cachedtoken", "refresh"},
	"callbackpage.go":   {"callback"},
	"characters.go":     {"characters", "secret", "client", "token", "endpoint"},
	"configkinds.go":    {"config", "fromenv"},
	"filecache.go":      {"filecache", "filecache_unix"},
	"filecachewrite.go": {"filecache", "filecache_unix"},
	"flight.go":         {"refresh"},
	"guard.go":          {"transaction", "secret"},
	"savegrant.go":      {"signin", "account"},
	"tokenstore.go":     {"tokenstore", "account"},
	"unusablekey.go":    {"unusablekey", "privatekey", "pem"},
}

var testFunction = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// beside returns the names of the tests that stand beside a file.
func (s *suite) beside(file string) []string {
	names := besideOthers[file]
	if names == nil {
		names = []string{strings.TrimSuffix(file, ".go")}
	}
	var tests []string
	for _, name := range names {
		for _, suffix := range []string{"_test.go", "_synctest_test.go"} {
			source, err := os.ReadFile(filepath.Join(s.dir, name+suffix))
			if err != nil {
				continue // there is none
			}
			for _, match := range testFunction.FindAllStringSubmatch(string(source), -1) {
				tests = append(tests, match[1])
			}
		}
	}
	return tests
}
