//go:build go1.24

package cdfauth

import (
	"context"
	"io"
	"sync"
)

var reading sync.Map // has the reads that are under way, by Input: they cannot be stopped, so the next sign-in takes them over

type pasted struct { // a line, for all the sign-ins that wait for one
	done chan struct{}
	line func() (string, error)
}

// readLine reads a line of at most 8 KiB; of a longer one, nothing. It takes one byte at a time: what follows the line is not its own.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	read := func(context.Context) (string, error) {
		var line []byte
		for b := make([]byte, 1); ; {
			switch _, err := io.ReadFull(in, b); { // which keeps a byte that comes with an error
			case err != nil && len(line) == 0:
				return "", err
			case (err != nil || b[0] == '\n') && len(line) > 8<<10:
				return "", nil
			case err != nil || b[0] == '\n':
				return string(line), nil
			case len(line) <= 8<<10:
				line = append(line, b[0])
			}
		}
	}
	next := &pasted{done: make(chan struct{})}
	if earlier, ok := reading.LoadOrStore(in, next); ok {
		next = earlier.(*pasted)
	} else {
		go func() {
			line, err := guard(context.Background(), "Input", read)
			next.line = func() (string, error) { return line, err }
			close(next.done)
		}()
	}
	select {
	case <-next.done:
		reading.CompareAndDelete(in, next)
		return next.line()
	case <-ctx.Done():
		return "", ctx.Err()
	}
}
