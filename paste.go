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

// This file lets a person paste the answer to a sign-in. If the browser is on another
// machine, it cannot reach the listener, and ends at an address that it cannot open. The
// person copies that address from the browser. This file reads it from a line of Input,
// and takes the parameters of the answer from its query. The callback then checks them
// as if the browser had brought them, the state above all.

// terminalInput returns standard input if it is a terminal, and nil if not: a file or a
// pipe is input for the program itself. Other devices, such as /dev/null, cannot be told
// from a terminal, and are returned too.
func terminalInput() io.Reader {
	info, err := os.Stdin.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return os.Stdin
}

// readAnswer reads lines until one is the answer to this sign-in, which it passes to the
// callback. It fails if ctx or Input ends before.
func (b *browserFlow) readAnswer(ctx context.Context, input io.Reader, answer *callback) error {
	for {
		line, err := readLine(ctx, input)
		if err != nil {
			return err
		}
		values, ok := pastedAnswer(line, answer.redirect)
		if ok && answer.accept(values) {
			answer.markShown() // the browser is elsewhere, and gets no page
			return nil
		}
		b.tell("That is not the answer to this sign-in. Paste the whole address, " +
			"which begins with " + answer.redirect.String() + " and has state= in it:\n")
	}
}

// pastedAnswer returns the parameters in the query of an address. It reports false if
// the address is not the redirect URI. Browsers and people change an address, so that it
// also counts as the redirect URI if it has another loopback host, the scheme https or
// no scheme, or other slashes at the ends of its path.
func pastedAnswer(line string, redirect *url.URL) (url.Values, bool) {
	u, err := url.Parse(cleanPaste(line))
	if err != nil {
		return nil, false
	}
	const defaultPort = "80"
	isRedirect := isLoopback(u.Hostname()) &&
		cmp.Or(u.Port(), defaultPort) == cmp.Or(redirect.Port(), defaultPort) &&
		strings.Trim(u.Path, "/") == strings.Trim(redirect.Path, "/")
	if !isRedirect {
		return nil, false
	}
	values, err := url.ParseQuery(u.RawQuery)
	return values, err == nil
}

// cleanPaste removes what people and terminals put around an address: blanks, quotes,
// and the marks of a bracketed paste (ESC [200~ before and ESC [201~ after it). If the
// address has no scheme, cleanPaste adds http.
func cleanPaste(line string) string {
	// ESC cannot be printed. So it is trimmed below.
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

// pendingReads has the reads that are under way. The keys are the Inputs, the values are
// of type *pendingRead. A read cannot be stopped. So if a sign-in ends while it waits for
// a line, the next sign-in with the same Input goes on waiting for that line.
var pendingReads sync.Map

// isComparable reports whether an Input can be a key of pendingReads.
func isComparable(input io.Reader) bool {
	return reflect.ValueOf(input).Comparable()
}

// A pendingRead reads one line, for all sign-ins that wait for one at the same Input.
type pendingRead struct {
	done chan struct{} // closed when the read is over, and result is set

	// result returns the line. It is a function value, so that no printer of values
	// reaches the code that may be in the line.
	result func() (string, error)
}

// readLine returns the next line of Input, without the line feed at its end. It joins the
// read that is under way, or starts one. It fails if ctx or Input ends.
func readLine(ctx context.Context, input io.Reader) (string, error) {
	read := &pendingRead{done: make(chan struct{})}
	earlier, underWay := pendingReads.LoadOrStore(input, read)
	if underWay {
		read = earlier.(*pendingRead)
	} else {
		go read.run(input)
	}
	select {
	case <-read.done:
		pendingReads.CompareAndDelete(input, read)
		return read.result()
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// run reads the line, for as long as that takes.
func (r *pendingRead) run(input io.Reader) {
	line, err := guard(context.Background(), "Input", func(context.Context) (string, error) {
		return scanLine(input)
	})
	r.result = func() (string, error) { return line, err }
	close(r.done)
}

// maxLine is how long a line may be, in bytes, without the line feed at its end.
const maxLine = 8 << 10

// scanLine reads to the end of a line or of the input, and returns the line without the
// line feed at its end. For a line that is longer than maxLine it returns "". If the input
// ends or fails before a line has begun, it returns that error. It reads one byte at a
// time, so that it takes nothing of what follows the line.
func scanLine(input io.Reader) (string, error) {
	var line []byte
	next := make([]byte, 1)
	for {
		// Unlike Read, ReadFull never returns a byte together with an error.
		_, err := io.ReadFull(input, next)
		if err != nil && len(line) == 0 {
			return "", err
		}
		if err != nil || next[0] == '\n' {
			break
		}
		// One byte more than maxLine shows that the line is too long.
		if len(line) <= maxLine {
			line = append(line, next[0])
		}
	}
	if len(line) > maxLine {
		return "", nil
	}
	return string(line), nil
}
