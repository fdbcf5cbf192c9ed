//go:build go1.24

package cdfauth

import (
	"context"
	"io"
	"sync"
	"time"
)

// This file writes what a person is to read, and keeps no sign-in waiting for it: a
// terminal can be stopped (Ctrl-S), a pipe can be full.

// How long one text is waited for, and how many may wait to be written. More are
// dropped: nobody reads them.
const (
	writePatience = time.Second
	maxUnwritten  = 16
)

// A patientWriter writes one text after the other, each in one Write. One that blocks
// is waited for only briefly, and what follows is written when it is done.
type patientWriter struct {
	output io.Writer

	mu        sync.Mutex
	unwritten []string
	written   chan struct{} // closed when all is written; nil if nothing is being written
}

// Write never fails: without a terminal the sign-in goes on.
func (w *patientWriter) Write(text []byte) (int, error) {
	timer := time.NewTimer(writePatience)
	defer timer.Stop()
	select {
	case <-w.add(string(text)):
	case <-timer.C:
	}
	return len(text), nil
}

// add has a text written, and returns a channel that is closed when it is.
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

// run writes until nothing is left to write. A panic of the Output costs the text.
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

// next returns the text to write. It reports false when there is none.
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
