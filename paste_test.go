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
		redirect       string
		taken, refused []string
	}{
		{
			redirect: "http://localhost:53000",
			taken: []string{
				"http://localhost:53000/?" + answer,
				"http://localhost:53000?" + answer,
				" \t http://localhost:53000/?" + answer + " \r",
				"\u00a0\u200bhttp://localhost:53000/?" + answer + "\ufeff",
				`"http://localhost:53000/?` + answer + `"`,
				"'http://localhost:53000/?" + answer + "' ",
				"<http://localhost:53000/?" + answer + ">",
				"“http://localhost:53000/?" + answer + "”",
				"\x1b[200~http://localhost:53000/?" + answer + "\x1b[201~",
				"https://localhost:53000/?" + answer,
				"HTTPS://LOCALHOST:53000/?" + answer,
				"localhost:53000/?" + answer,
				"//localhost:53000/?" + answer,
				"http://127.0.0.1:53000/?" + answer,
				"[::1]:53000/?" + answer,
			},
			refused: []string{
				"",
				answer,
				"/?" + answer,
				"http://localhost:53001/?" + answer,
				"http://localhost/?" + answer,
				"http://evil.test:53000/?" + answer,
				"http://localhost.evil.test:53000/?" + answer,
				"http://localhost:53000/callback?" + answer,
				"ftp://localhost:53000/?" + answer,
				"http://localhost:53000/?" + answer + ";x",
				"http://localhost:53000/?\x1b" + answer,
			},
		},
		{
			redirect: "http://127.0.0.1:8400/callback",
			taken: []string{
				"http://localhost:8400/callback?" + answer,
				"http://127.0.0.1:8400/callback/?" + answer + "#",
			},
			refused: []string{
				"http://127.0.0.1:8400/?" + answer,
			},
		},
		{
			redirect: "http://localhost:80/",
			taken: []string{
				"localhost/?" + answer,
				"https://localhost/?" + answer,
			},
		},
	} {
		redirect, err := parseURL(tt.redirect)
		must(t, err)
		for _, line := range tt.taken {
			values, ok := pastedAnswer(line, redirect)
			if !ok || values.Get("code") != "c d" || values.Get("state") != "s" || len(values) != 3 {
				t.Errorf("%q for %s: %t, %v", line, tt.redirect, ok, values)
			}
		}
		for _, line := range tt.refused {
			if values, ok := pastedAnswer(line, redirect); ok {
				t.Errorf("%q for %s is taken: %v", line, tt.redirect, values)
			}
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
	for _, input := range []io.Reader{strings.NewReader("a\nlast"),
		iotest.DataErrReader(strings.NewReader("a\nlast"))} {
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
