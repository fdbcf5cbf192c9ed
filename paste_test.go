package cdfauth

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// TestAddressIsTakenAsItIsPasted: An address comes with blanks, quotes or marks
// of the terminal, and some browsers change its scheme. The state proves that
// it is the answer; host, port and path say that it is meant to be one.
func TestAddressIsTakenAsItIsPasted(t *testing.T) {
	t.Parallel()
	const answer = "code=c%20d&state=s&iss=https://idp.test"
	for _, tt := range []struct {
		redirect string
		line     string
		taken    bool
	}{
		{"http://localhost:53000", "http://localhost:53000/?" + answer, true},
		{"http://localhost:53000", "http://localhost:53000?" + answer, true},
		{"http://localhost:53000", " \t http://localhost:53000/?" + answer + " \r", true},
		{"http://localhost:53000", "\u00a0\u200bhttp://localhost:53000/?" + answer + "\ufeff", true},
		{"http://localhost:53000", `"http://localhost:53000/?` + answer + `"`, true},
		{"http://localhost:53000", "'http://localhost:53000/?" + answer + "' ", true},
		{"http://localhost:53000", "<http://localhost:53000/?" + answer + ">", true},
		{"http://localhost:53000", "“http://localhost:53000/?" + answer + "”", true},
		{"http://localhost:53000", "\x1b[200~http://localhost:53000/?" + answer + "\x1b[201~", true},
		{"http://localhost:53000", "https://localhost:53000/?" + answer, true},
		{"http://localhost:53000", "HTTPS://LOCALHOST:53000/?" + answer, true},
		{"http://localhost:53000", "localhost:53000/?" + answer, true},
		{"http://localhost:53000", "//localhost:53000/?" + answer, true},
		{"http://localhost:53000", "http://127.0.0.1:53000/?" + answer, true},
		{"http://localhost:53000", "[::1]:53000/?" + answer, true},
		{"http://127.0.0.1:8400/callback", "http://localhost:8400/callback?" + answer, true},
		{"http://127.0.0.1:8400/callback", "http://127.0.0.1:8400/callback/?" + answer + "#", true},
		{"http://localhost:80/", "localhost/?" + answer, true},
		{"http://localhost:80/", "https://localhost/?" + answer, true},

		{"http://localhost:53000", "", false},
		{"http://localhost:53000", answer, false},
		{"http://localhost:53000", "/?" + answer, false},
		{"http://localhost:53000", "http://localhost:53001/?" + answer, false},
		{"http://localhost:53000", "http://localhost/?" + answer, false},
		{"http://localhost:53000", "http://evil.test:53000/?" + answer, false},
		{"http://localhost:53000", "http://localhost.evil.test:53000/?" + answer, false},
		{"http://localhost:53000", "http://localhost:53000/callback?" + answer, false},
		{"http://127.0.0.1:8400/callback", "http://127.0.0.1:8400/?" + answer, false},
		{"http://localhost:53000", "ftp://localhost:53000/?" + answer, false},
		{"http://localhost:53000", "http://localhost:53000/?" + answer + ";x", false},
		{"http://localhost:53000", "http://localhost:53000/?\x1b" + answer, false},
	} {
		redirect, err := parseURL(tt.redirect)
		must(t, err)
		values, ok := pastedAnswer(tt.line, redirect)
		if ok != tt.taken || ok && (values.Get("code") != "c d" || values.Get("state") != "s" || len(values) != 3) {
			t.Errorf("%q for %s: %t, %v", tt.line, tt.redirect, ok, values)
		}
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(b []byte) (int, error) { return f(b) }

// TestDefaultPortMayBeLeftOutOfAPastedAddress: A browser drops port 80 from the
// address that it shows.
func TestDefaultPortMayBeLeftOutOfAPastedAddress(t *testing.T) {
	for _, redirect := range []string{"http://localhost/", "http://localhost:80/"} {
		for _, line := range []string{"http://localhost/?code=c", "http://localhost:80/?code=c"} {
			u, err := parseURL(redirect)
			must(t, err)
			if _, ok := pastedAnswer(line, u); !ok {
				t.Errorf("%s is not taken for %s", line, redirect)
			}
		}
	}
}

// TestLastLineNeedsNoLineEnd: The end of the input ends a line too, even if it
// comes together with the last byte. An input without a line is an error.
func TestLastLineNeedsNoLineEnd(t *testing.T) {
	for _, input := range []io.Reader{strings.NewReader("a\nlast"), iotest.DataErrReader(strings.NewReader("a\nlast"))} {
		for _, want := range []string{"a", "last"} {
			if line, err := scanLine(input); line != want || err != nil {
				t.Errorf("%q, %v; want %q", line, err, want)
			}
		}
		if line, err := scanLine(input); line != "" || err != io.EOF {
			t.Errorf("%q, %v; want the end", line, err)
		}
	}
}

// TestInputThatPanicsCostsThePasteAlone: Input is the caller's code. If it
// panics, the person cannot paste, but the program goes on.
func TestInputThatPanicsCostsThePasteAlone(t *testing.T) {
	line, err := readLine(t.Context(), &brokenInput{})
	if line != "" || err == nil || !strings.Contains(err.Error(), "Input panicked") {
		t.Errorf("%q, %v", line, err)
	}
}

type brokenInput struct{ _ byte }

func (*brokenInput) Read([]byte) (int, error) { panic("no terminal") }
