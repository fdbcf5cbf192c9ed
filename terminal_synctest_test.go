//go:build go1.25

package cdfauth

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// stopped is a terminal that shows nothing until it is let go on.
type stopped struct {
	goOn  chan bool
	shown []string
}

func (s *stopped) Write(b []byte) (int, error) {
	<-s.goOn
	s.shown = append(s.shown, strings.TrimSpace(string(b)))
	return len(b), nil
}

// TestStoppedTerminalKeepsTheFirstTexts: The provider waits for each text
// briefly. While a terminal is stopped, the provider keeps a few of the texts
// that wait for it, in their order, beside the one that is being written. A
// terminal that goes on shows what comes after them, too.
func TestStoppedTerminalKeepsTheFirstTexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		output := &stopped{goOn: make(chan bool)}
		w := &patientWriter{output: output}
		var want []string
		for i := range 1 + 2*maxUnwritten {
			text := fmt.Sprint(i)
			if d := elapse(func() { w.Write([]byte(text)) }); d != writePatience {
				t.Errorf("text %d was waited for %v, want %v", i, d, writePatience)
			}
			if i < 1+maxUnwritten {
				want = append(want, text)
			}
		}
		close(output.goOn)
		synctest.Wait()
		if d := elapse(func() { w.Write([]byte("last")) }); d != 0 {
			t.Errorf("a terminal that goes on was waited for %v", d)
		}
		want = append(want, "last")
		if fmt.Sprint(output.shown) != fmt.Sprint(want) {
			t.Errorf("shown: %q, want %q", output.shown, want)
		}
	})
}
