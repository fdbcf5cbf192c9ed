package cdfauth

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"cdfauth/internal/idptest"
)

// TestRedirectIsNotFollowed: A token endpoint does not redirect. Whoever makes
// it do so would get the secret. The target sees no request, on real sockets.
func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel() // it waits for real back-offs
	var seen bool
	target := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		seen = true
	}))
	defer target.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		s := httptest.NewServer(http.RedirectHandler(target.URL, status))
		for _, hc := range []*http.Client{nil, {},
			{CheckRedirect: func(*http.Request, []*http.Request) error {
				return nil
			}}} {
			for _, ep := range []Endpoint{TokenURL(s.URL), Issuer(s.URL)} {
				p := realProvider(t, ep, "secret", hc)
				if _, err := p.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "redirect") {
					t.Errorf("%d: %v", status, err)
				}
			}
			if hc != nil && hc.Timeout != 0 {
				t.Error("the caller's client was changed")
			}
		}
		s.Close()
	}
	if seen {
		t.Error("the target of a redirect saw a request")
	}
}

// TestEndlessOrBrokenAnswerIsRefused: An answer that never ends, and one that
// is no HTTP, come from real sockets. The error shows none of it.
func TestEndlessOrBrokenAnswerIsRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		h    http.HandlerFunc
		want string
	}{
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(bytes.Repeat([]byte("BODYMARK"), 1000)); err != nil {
					return
				}
			}
		}, "more than 1 MiB"},
		"not HTTP": {func(w http.ResponseWriter, r *http.Request) {
			r.ParseForm()
			c, _, _ := http.NewResponseController(w).Hijack()
			io.WriteString(c, "sorry, "+r.PostForm.Get("client_secret")+" is wrong\r\n\r\n")
			c.Close()
		}, "malformed HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(tt.h)
			defer s.Close()
			p := realProvider(t, TokenURL(s.URL), "SECRETMARK", nil)
			_, err := p.Token(t.Context())
			if err == nil || !strings.Contains(err.Error(), tt.want) ||
				strings.Contains(err.Error(), "MARK") {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// TestConnectionErrorNamesTheHostAlone: Programs look for the cause of a failed
// connection with errors.Is. The address may have a signature in its query, which
// is not shown.
func TestConnectionErrorNamesTheHostAlone(t *testing.T) {
	t.Parallel()                 // it waits for real back-offs
	const nobody = "127.0.0.1:1" // a port that no test can be given, as one that was just closed could
	p := realProvider(t, TokenURL("http://"+nobody+"/token?sig=QUERYMARK"), "secret", nil)
	_, err := p.Token(t.Context())
	if !errors.Is(err, syscall.ECONNREFUSED) || strings.Contains(err.Error(), "QUERYMARK") ||
		!strings.Contains(err.Error(), nobody) {
		t.Errorf("refused: %v", err)
	}
}

// TestFailedVerificationIsNotRetried: A server whose certificate cannot be verified
// does not become another one within seconds.
func TestFailedVerificationIsNotRetried(t *testing.T) {
	t.Parallel()
	var hellos int
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		hellos++
		return nil, nil
	}}
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.StartTLS()
	defer s.Close()
	p := realProvider(t, TokenURL(s.URL), "secret", nil)
	_, err := p.Token(t.Context())
	if ve := (*tls.CertificateVerificationError)(nil); !errors.As(err, &ve) || hellos != 1 {
		t.Errorf("unknown authority: %v after %d handshakes", err, hellos)
	}
}

// TestEachTokenRequestMakesOneRecord: A record has what an operator needs to
// find a request at the identity provider, and neither the token nor the secret
// nor the query of the address.
func TestEachTokenRequestMakesOneRecord(t *testing.T) {
	var buf bytes.Buffer
	idp := idptest.New()
	idp.Always(idptest.JSON(200, map[string]any{"access_token": "TOKENMARK", "expires_in": 3600}))
	p := cachedProvider(t, idp, nil, func(c *ClientCredentialsConfig) {
		c.Endpoint = TokenURL("https://idp.test/token?q=QUERYMARK")
		c.ClientSecret = SecretString("SECRETMARK")
		c.Logger = slog.New(slog.NewJSONHandler(&buf, nil))
	})
	tok, err := p.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var rec map[string]any
	if err := json.Unmarshal(buf.Bytes(), &rec); err != nil {
		t.Fatalf("%v: want one record, got %s", err, buf.String())
	}
	for key, want := range map[string]any{"level": "INFO", "flow": "client credentials",
		"grant": "client_credentials", "host": "idp.test", "status": 200.0, "attempts": 1.0,
		"expiry": tok.Expiry().Format(time.RFC3339Nano)} {
		if rec[key] != want {
			t.Errorf("%s is %v, want %v", key, rec[key], want)
		}
	}
	buf.Reset()
	idp.Always(idptest.JSON(401,
		map[string]any{"error": "invalid_client", "error_description": "not SECRETMARK",
			"correlation_id": "c-1"}))
	p.Invalidate(tok)
	if again, err := p.Token(t.Context()); err != nil || !again.Equal(tok) {
		t.Errorf("%v", err)
	}
	if text := buf.String(); !strings.Contains(text, `"level":"WARN"`) ||
		!strings.Contains(text, "c-1") || !strings.Contains(text, "invalid_client") ||
		strings.Contains(text, "MARK") {
		t.Errorf("records: %s", text)
	}
}
