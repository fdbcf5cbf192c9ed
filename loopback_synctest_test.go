//go:build go1.25

package cdfauth

import (
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cdfauth/internal/idptest"
)

// TestListenerTakesEveryAddressOfTheRedirectURL: A browser may take localhost
// for 127.0.0.1 or for ::1, so the listener takes both. If another program has
// the port on one of them, that program could get the code, and the sign-in
// ends with an error that names the field of the port.
func TestListenerTakesEveryAddressOfTheRedirectURL(t *testing.T) {
	redirect := func(s string) func(*InteractiveConfig) {
		return func(c *InteractiveConfig) { c.RedirectURL = s }
	}
	for _, tt := range []struct {
		name   string
		net    *pipes
		change func(*InteractiveConfig)
		uri    string
		bound  int
		err    string
	}{
		{name: "both", uri: "http://localhost:53000", bound: 2},
		{name: "no IPv6", net: &pipes{noIPv6: true}, uri: "http://localhost:53000", bound: 1},
		{name: "busy", net: &pipes{busy: map[string]bool{"127.0.0.1:53000": true}},
			err: "RedirectPort: port 53000 cannot"},
		{name: "busy on IPv6", net: &pipes{busy: map[string]bool{"[::1]:53000": true}},
			err: "RedirectPort: port 53000 cannot"},
		{name: "port", change: func(c *InteractiveConfig) { c.RedirectPort = 8400 },
			uri: "http://localhost:8400", bound: 2},
		{name: "IPv4 alone", change: redirect("http://127.0.0.1:8400/callback"),
			uri: "http://127.0.0.1:8400/callback", bound: 1},
		{name: "IPv6 alone", change: redirect("http://[::1]:8400/"), uri: "http://[::1]:8400/", bound: 1},
		{name: "a free one", change: redirect("http://127.0.0.1:0/callback"),
			uri: "http://127.0.0.1:40000/callback", bound: 1},
		{name: "a free one of both", change: redirect("http://localhost:0/"),
			uri: "http://localhost:40000/", bound: 2},
		{name: "a free one that is taken on IPv6",
			net: &pipes{busy: map[string]bool{"[::1]:40000": true}}, change: redirect("http://localhost:0/"),
			err: "RedirectURL: port 40000"},
		{name: "a free one at the tenth try", net: &pipes{unlucky: 9},
			change: redirect("http://localhost:0/"), uri: "http://localhost:40000/", bound: 2},
		{name: "none at the tenth try", net: &pipes{unlucky: 10}, change: redirect("http://localhost:0/"),
			err: "RedirectURL: port 40000"},
		{name: "IPv6 alone, and there is none", net: &pipes{noIPv6: true},
			change: redirect("http://[::1]:8400/"), err: "RedirectURL: port 8400"},
		{name: "busy, named by the URL", net: &pipes{busy: map[string]bool{"127.0.0.1:8400": true}},
			change: redirect("http://127.0.0.1:8400"), err: "RedirectURL: port 8400"},
	} {
		runInBubble(t, tt.name, func(t *testing.T) {
			h := &human{idp: idptest.New()}
			if tt.net != nil {
				h.net.noIPv6, h.net.busy, h.net.unlucky = tt.net.noIPv6, tt.net.busy, tt.net.unlucky
			}
			bound := 0
			h.back = func(location string) error {
				if bound = h.net.open(); bound == 0 {
					return errors.New("no listener")
				}
				return h.visit(location)
			}
			_, err := interactive(t, h, &MemoryCache{}, tt.change).Token(t.Context())
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || h.asked() > 0 {
					t.Errorf("%v, want %q; asked %d times", err, tt.err, h.asked())
				}
			} else if err != nil || h.last().Get("redirect_uri") != tt.uri || bound != tt.bound {
				t.Errorf("%v; redirect_uri %q on %d listeners, want %q on %d", err,
					h.last().Get("redirect_uri"), bound, tt.uri, tt.bound)
			}
			if h.net.open() != 0 {
				t.Error("a listener is left")
			}
		})
	}
}

// TestHalfARequestIsCutOff: A client that sends no more than half of a request
// holds a connection. The listener closes it after ten seconds, and the sign-in
// goes on.
func TestHalfARequestIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.back = func(location string) error {
			conn, err := h.net.dial(t.Context(), "", "127.0.0.1:53000")
			if err != nil {
				return err
			}
			start := time.Now()
			io.WriteString(conn, "GET / HT")
			if _, err := io.ReadAll(conn); err != nil || time.Since(start) != 10*time.Second {
				t.Errorf("cut off after %v: %v", time.Since(start), err)
			}
			return h.visit(location)
		}
		signedIn(t, interactive(t, h, &MemoryCache{}, nil))
	})
}

// TestPersonIsToldOfABrowserThatAsksForHTTPS: Some browsers turn every address
// into one of https (HSTS, HTTPS-only modes), and the listener speaks no TLS.
// The terminal tells the person what to do, once.
func TestPersonIsToldOfABrowserThatAsksForHTTPS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &human{idp: idptest.New()}
		h.back = func(location string) error {
			for range 3 {
				conn, err := h.net.dial(t.Context(), "tcp", "127.0.0.1:53000")
				if err != nil {
					return err
				}
				err = tls.Client(conn, &tls.Config{ServerName: "localhost"}).HandshakeContext(t.Context())
				if err == nil {
					t.Error("TLS is spoken")
				}
				conn.Close()
			}
			return h.visit(location)
		}
		d := elapse(func() { signedIn(t, interactive(t, h, &MemoryCache{}, nil)) })
		if n := strings.Count(h.told(), "Change https to http"); n != 1 || d > 5*time.Second {
			t.Errorf("told %d times, over after %v: %s", n, d, h.told())
		}
	})
}
