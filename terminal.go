//go:build go1.24

package cdfauth

import (
	"context"
	"io"
	"sync"
	"time"
)

// This file writes what a person is to read. A sign-in must not hang because of that: a
// terminal can be stopped (Ctrl-S), and a pipe can be full.

const (
	// writePatience is how long Write waits until its text is written.
	writePatience = time.Second
	// maxUnwritten is how many texts may wait to be written. Further ones are dropped: if
	// so many wait, nobody reads them.
	maxUnwritten = 16
)

// A patientWriter writes one text after the other to output, in a goroutine, and each in
// one call of Write. If output blocks, the texts that follow wait for it, and their callers
// do not.
type patientWriter struct {
	output io.Writer

	mu        sync.Mutex
	unwritten []string      // the texts that wait, without the one that is being written
	written   chan struct{} // closed when all is written; nil if nothing is being written
}

// Write returns when the text is written, but after writePatience at the latest. It never
// fails: without a terminal the sign-in goes on.
func (w *patientWriter) Write(text []byte) (int, error) {
	timer := time.NewTimer(writePatience)
	defer timer.Stop()
	select {
	case <-w.add(string(text)):
	case <-timer.C:
	}
	return len(text), nil
}

// add appends a text to those that wait, and starts run if it is not running. It returns
// a channel that is closed when all texts are written.
func (w *patientWriter) add(text string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.unwritten) < maxUnwritten {
		w.unwritten = append(w.unwritten, text)
	}
	if w.written == nil {
		w.written = make(chan struct{})
		go w.run()
	}
	return w.written
}

// run writes the texts that wait until there are no more. If output panics, that text is
// lost, and the next one is written.
func (w *patientWriter) run() {
	for {
		text, ok := w.next()
		if !ok {
			return
		}
		_, _ = guarded(context.Background(), "Output", func() error {
			_, err := io.WriteString(w.output, text)
			return err
		})
	}
}

// next takes the first of the texts that wait. If there is none, it closes written and
// reports false.
func (w *patientWriter) next() (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.unwritten) == 0 {
		close(w.written)
		w.written = nil
		return "", false
	}
	text := w.unwritten[0]
	w.unwritten = w.unwritten[1:]
	return text, true
}
