//go:build interop

package cdfauth_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cdfauth"
)

// fault is what goes wrong with an answer at one of its bytes.
type fault struct {
	name string
	do   func(to *net.TCPConn, answer []byte, n int)
}

var faults = []fault{
	{"cut", func(to *net.TCPConn, answer []byte, n int) { // a reset
		to.Write(answer[:n])
		to.SetLinger(0)
	}},
	{"truncated", func(to *net.TCPConn, answer []byte, n int) { to.Write(answer[:n]) }},
	{"delayed", func(to *net.TCPConn, answer []byte, n int) {
		to.Write(answer[:n])
		<-time.After(20 * time.Millisecond)
		to.Write(answer[n:])
	}},
	{"duplicated", func(to *net.TCPConn, answer []byte, n int) {
		to.Write(append(bytes.Clone(answer[:n+1]), answer[n:]...))
	}},
}

// faultyProxy passes a request on, and spoils the first answer. It returns where it
// listens, and what it has passed on.
func faultyProxy(
	t *testing.T, upstream string, f fault, n int,
) (address string, passed func() (answers [][]byte)) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Error(err)
		return "", nil
	}
	t.Cleanup(func() { l.Close() })
	var mu sync.Mutex
	var answers [][]byte
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			func() {
				defer conn.Close()
				up, err := net.Dial("tcp", upstream)
				if err != nil {
					return
				}
				defer up.Close()
				go io.Copy(up, conn)
				answer, _ := io.ReadAll(up) // to its end: connections are not kept
				mu.Lock()
				answers = append(answers, answer)
				first := len(answers) == 1
				mu.Unlock()
				if first && n < len(answer) {
					f.do(conn.(*net.TCPConn), answer, n)
				} else {
					conn.Write(answer)
				}
			}()
		}
	}()
	return l.Addr().String(), func() [][]byte {
		mu.Lock()
		defer mu.Unlock()
		return answers
	}
}

// TestInteropFaults: whatever happens to a token response, at whichever of its bytes, the
// caller gets a token that the provider has given out, or an error that can be told apart
// and shows nothing. What may pass is tried again.
func TestInteropFaults(t *testing.T) {
	issuer := startOIDCProvider(t,
		map[string]any{"clients": []any{secretClient("post", "client_secret_post")}})
	upstream := strings.TrimPrefix(issuer, "http://")

	token := func(address string, log io.Writer) (cdfauth.Token, error) {
		p, err := cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{
			Endpoint: cdfauth.TokenURL("http://" + address + "/token"), ClientID: "post",
			ClientSecret: cdfauth.SecretString(awkward), Scopes: []string{"read"},
			Params: url.Values{"resource": {"urn:cdf"}},
			Options: cdfauth.Options{
				HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
				Logger:     slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))},
		})
		if err != nil {
			return cdfauth.Token{}, err
		}
		return p.Token(t.Context())
	}
	given := func(answer []byte) (access string) {
		_, body, _ := bytes.Cut(answer, []byte("\r\n\r\n"))
		var r struct {
			AccessToken string `json:"access_token"`
		}
		if json.Unmarshal(body, &r) != nil || r.AccessToken == "" {
			t.Errorf("the provider answered %s", body)
		}
		return r.AccessToken
	}

	address, passed := faultyProxy(t, upstream, fault{}, 1<<20)
	if _, err := token(address, io.Discard); err != nil || len(passed()) != 1 {
		t.Fatalf("without a fault: %v", err)
	}
	size := len(passed()[0])
	type outcome struct{ first, later, failed int }
	var mu sync.Mutex
	outcomes := map[string]*outcome{}
	work := make(chan func())
	var wg sync.WaitGroup
	for range 64 { // most wait for their next try
		wg.Add(1)
		go func() {
			defer wg.Done()
			for do := range work {
				do()
			}
		}()
	}
	for _, f := range faults {
		o := new(outcome)
		outcomes[f.name] = o
		for n := range size {
			work <- func() {
				address, passed := faultyProxy(t, upstream, f, n)
				if passed == nil {
					return
				}
				var log bytes.Buffer
				tok, err := token(address, &log)
				answers, name := passed(), fmt.Sprintf("%s at %d", f.name, n)
				if len(answers) == 0 {
					t.Errorf("%s: no request, %v", name, err)
					return
				}
				secrets := []string{awkward, url.QueryEscape(awkward)}
				for _, a := range answers {
					secrets = append(secrets, given(a))
				}
				mu.Lock()
				defer mu.Unlock()
				switch last := secrets[len(secrets)-1]; {
				case err == nil && tok.AccessToken() != last:
					t.Errorf("%s: a token that was not given out", name)
				case err == nil && len(answers) == 1:
					o.first++
				case err == nil:
					o.later++
				default:
					o.failed++
					if !errors.As(err, new(*cdfauth.OAuthError)) || !strings.HasPrefix(err.Error(), "cdfauth: ") {
						t.Errorf("%s: %T: %v", name, err, err)
					}
				}
				// Nothing of what was sent or answered, whole or in part.
				if n, head := len(awkward), "Content-Type: application/json"; err != nil {
					parts := []string{head, awkward[:n/2], awkward[n/2:], url.QueryEscape(awkward),
						base64.StdEncoding.EncodeToString([]byte(awkward))[:16], `"access_token"`, `"expires_in"`}
					for _, a := range answers {
						for access := given(a); len(access) >= 8; access = access[1:] {
							parts = append(parts, access[:8])
						}
					}
					shown := log.String()
					for e := []error{err}; len(e) > 0; {
						for _, how := range []string{"%v", "%+v", "%#v", "%q", "%s"} {
							shown += fmt.Sprintf(how, e[0])
						}
						b, _ := json.Marshal(e[0])
						shown += string(b)
						switch u := e[0].(type) {
						case interface{ Unwrap() error }:
							e = append(e, u.Unwrap())
						case interface{ Unwrap() []error }:
							e = append(e, u.Unwrap()...)
						}
						e = slices.DeleteFunc(e[1:], func(e error) bool { return e == nil })
					}
					for _, part := range parts {
						if strings.Contains(shown, part) {
							t.Errorf("%s: the error or the log shows %q: %s", name, part, shown)
						}
					}
				}
			}
		}
	}
	close(work)
	wg.Wait()
	for name, o := range outcomes {
		t.Logf("%s at each of %d bytes: %d tokens at once, %d at a later try, %d errors", name, size,
			o.first, o.later, o.failed)
	}
	if o := outcomes["delayed"]; o.first != size {
		t.Errorf("delayed answers were not waited for: %+v", o)
	}
	for _, name := range []string{"cut", "truncated"} {
		if o := outcomes[name]; o.failed > 0 || o.later < size-10 { // at the very end, nothing is missing
			t.Errorf("%s answers were not asked for again: %+v", name, o)
		}
	}
	if o := outcomes["duplicated"]; o.first+o.later+o.failed != size || o.failed == 0 {
		t.Errorf("duplicated bytes: %+v", o)
	}
}
