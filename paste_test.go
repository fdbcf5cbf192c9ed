package cdfauth

import "testing"

// TestPastedAnswer: what people paste, and what becomes of an address on its way through a browser and a terminal. The state is the proof
// that it is the answer; host, port and path say that it is meant to be one.
func TestPastedAnswer(t *testing.T) {
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
