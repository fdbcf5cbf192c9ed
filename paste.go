//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"io"
	"net/url"
	"os"
	"reflect"
	"strings"
	"sync"
	"unicode"
)

// This file lets a person paste the address that a browser on another machine ended
// at, where no listener could answer it: it reads a line, and takes the parameters of
// the answer out of it. The state in them is the proof that it is the answer.

// terminalInput returns standard input if it is a terminal, as far as that can be
// told, and nil if not: a file or a pipe there is the program's.
func terminalInput() io.Reader {
	info, err := os.Stdin.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return os.Stdin
}

// readAnswer reads lines until one is the address that a browser was sent back to, and
// passes the answer in it on.
func (b *browserFlow) readAnswer(ctx context.Context, input io.Reader, answer *callback) error {
	for {
		line, err := readLine(ctx, input)
		if err != nil {
			return err
		}
		values, ok := pastedAnswer(line, answer.redirect)
		if ok && answer.accept(values) {
			answer.markShown() // the browser could not come here for the page
			return nil
		}
		b.tell("That is not the answer to this sign-in. Paste the whole address, " +
			"which begins with " + answer.redirect.String() + " and has state= in it:\n")
	}
}

// pastedAnswer returns the parameters in an address, if it is the redirect URI or what
// a browser makes of it: https for http, no scheme, another name of loopback.
func pastedAnswer(line string, redirect *url.URL) (url.Values, bool) {
	u, err := url.Parse(cleanPaste(line))
	if err != nil {
		return nil, false
	}
	ours := isLoopback(u.Hostname()) &&
		cmp.Or(u.Port(), "80") == cmp.Or(redirect.Port(), "80") &&
		strings.Trim(u.Path, "/") == strings.Trim(redirect.Path, "/")
	values, err := url.ParseQuery(u.RawQuery)
	return values, ours && err == nil
}

// cleanPaste drops what comes with an address that is copied and pasted: blanks,
// quotes, and the marks that terminals put around a paste (ESC [200~ and ESC [201~).
// It adds the scheme if there is none.
func cleanPaste(line string) string {
	line = strings.NewReplacer("[200~", "", "[201~", "").Replace(line)
	const quotes = "\"'`<>“”‘’«»"
	line = strings.TrimFunc(line, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune(quotes, r)
	})
	lower := strings.ToLower(line)
	if strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "https://") {
		return line
	}
	return "http://" + strings.TrimPrefix(line, "//")
}

// reads has the reads that are under way, a *pendingRead for each Input. A read cannot
// be stopped, so the next sign-in takes it over.
var reads sync.Map

// isComparable reports whether reads can have an entry for an Input.
func isComparable(input io.Reader) bool {
	return reflect.ValueOf(input).Comparable()
}

// A pendingRead is a line, for all the sign-ins that wait for one. What was read is a
// function value: it may be an answer, with a code in it.
type pendingRead struct {
	done   chan struct{} // closed when result is set
	result func() (string, error)
}

// readLine reads a line, without its end, for whoever waits for one at that Input.
func readLine(ctx context.Context, input io.Reader) (string, error) {
	read := &pendingRead{done: make(chan struct{})}
	earlier, taken := reads.LoadOrStore(input, read)
	if taken {
		read = earlier.(*pendingRead)
	} else {
		go read.run(input)
	}
	select {
	case <-read.done:
		reads.CompareAndDelete(input, read)
		return read.result()
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// run reads a line, for as long as that takes.
func (r *pendingRead) run(input io.Reader) {
	line, err := guard(context.Background(), "Input", func(context.Context) (string, error) {
		return scanLine(input)
	})
	r.result = func() (string, error) { return line, err }
	close(r.done)
}

// The length of the longest line that is taken, in bytes.
const maxLine = 8 << 10

// scanLine reads up to the end of a line or of the input, and returns "" for a line
// that is too long. It reads one byte at a time: what follows the line is not its own.
func scanLine(input io.Reader) (string, error) {
	var line []byte
	next := make([]byte, 1)
	for {
		_, err := io.ReadFull(input, next) // which keeps a byte that comes with an error
		if err != nil && len(line) == 0 {
			return "", err
		}
		if err != nil || next[0] == '\n' {
			break
		}
		if len(line) <= maxLine {
			line = append(line, next[0])
		}
	}
	if len(line) > maxLine {
		return "", nil
	}
	return string(line), nil
}
