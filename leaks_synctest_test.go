//go:build go1.25

package cdfauth

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"cdfauth/internal/idptest"
)

// spoiled is a network to an identity provider whose answers, at one of its endpoints,
// arrive spoiled. It is net/http's client that reads them. The proper answers have
// everything in them: what was sent, and every kind of token.
type spoiled struct {
	idp    *idptest.Provider
	path   string                         // of the endpoint, "" to spoil nothing
	proper http.HandlerFunc               // its answer, if not that of serve
	spoil  func(raw []byte) (sent []byte) // what of an answer, in bytes, is sent
	// What follows: "keep" the connection, "close", "reset" or "hang".
	then    string
	skip    int              // answers that are not spoiled
	back    func(url.Values) // changes what the browser brings
	human   human            // who is at the browser
	serving sync.Mutex
	mu      sync.Mutex
	notes   bytes.Buffer // all logs
	echo    string       // what was sent
	dynamic marks        // secrets that the package has made
	ends    []net.Conn
}

const leaksIssuer = "http://127.0.0.1:8"

type writeFunc func([]byte) (int, error)

func (f writeFunc) Write(b []byte) (int, error) { return f(b) }

func (s *spoiled) note(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.notes.Write(b)
}

func (s *spoiled) made(what, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(secret) > 8 {
		s.dynamic[fmt.Sprint(what, len(s.dynamic))] = secret
	}
}

// serve answers properly.
func (s *spoiled) serve(w http.ResponseWriter, r *http.Request) {
	for _, name := range []string{"client_assertion", "code_verifier"} {
		if v := r.PostForm.Get(name); v != theJWT {
			s.made("the "+name, v)
		}
	}
	echo := r.PostForm.Encode() + " " + r.Header.Get("Authorization")
	s.echo = echo
	w.Header().Set("X-Request-Id",
		r.PostForm.Get("client_secret")+r.PostForm.Get("refresh_token")+r.PostForm.Get("code"))
	switch {
	case strings.HasSuffix(r.URL.Path, "/token"):
		idptest.JSON(200, theAnswer(leaksIssuer, echo))(w, r)
	case strings.HasSuffix(r.URL.Path, "/devicecode"):
		idptest.JSON(200,
			map[string]any{"device_code": theDevice, "user_code": "AB-CD",
				"verification_uri": leaksIssuer + "/device", "expires_in": 5, "interval": 1,
				"page": theBody})(w, r)
	default:
		s.idp.ServeHTTP(w, r)
	}
}

// refuse is an answer that says why not, at length.
func (s *spoiled) refuse(w http.ResponseWriter, r *http.Request) {
	answer := httptest.NewRecorder()
	s.serve(answer, r)
	maps.Copy(w.Header(), answer.Header())
	body := strings.Replace(answer.Body.String(), "{",
		`{"error":"invalid_request","error_description":"`+
			r.PostForm.Encode()+` `+r.Header.Get("Authorization")+`",`, 1)
	w.WriteHeader(400)
	io.WriteString(w, body)
}

type clientEnd struct { // of a pipe, whose other end may reset it
	net.Conn
	reset *bool
}

func (e clientEnd) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	if err == io.EOF && *e.reset {
		err = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	}
	return n, err
}

func (s *spoiled) dial(context.Context, string, string) (net.Conn, error) {
	a, b := net.Pipe()
	end := clientEnd{a, new(bool)}
	s.mu.Lock()
	s.ends = append(s.ends, b)
	s.mu.Unlock()
	go func() {
		defer b.Close()
		for in := bufio.NewReader(b); ; {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			r.ParseForm()
			s.serving.Lock()
			w, h := httptest.NewRecorder(), s.serve
			hit := s.path != "" && strings.HasSuffix(r.URL.Path, s.path)
			if hit && s.proper != nil {
				h = s.proper
			}
			h(w, r)
			var raw bytes.Buffer
			fmt.Fprintf(&raw, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\n", w.Code,
				http.StatusText(w.Code), w.Body.Len())
			w.Header().Write(&raw)
			raw.WriteString("\r\n")
			w.Body.WriteTo(&raw)
			answer, then := raw.Bytes(), "keep"
			if hit && s.skip > 0 {
				s.skip--
			} else if hit {
				answer, then = s.spoil(answer), s.then
			}
			s.serving.Unlock()
			if _, err := b.Write(answer); err != nil || then == "close" || then == "reset" {
				*end.reset = then == "reset"
				return
			} else if then == "hang" {
				in.ReadByte() // until the other end is closed
				return
			}
		}
	}()
	return end, nil
}

// leaksFlow gets a token, or does what else can fail, by one of the flows; path is the
// endpoint that matters.
type leaksFlow struct {
	name, path string
	run        func(t *testing.T, s *spoiled, o Options) (any, error)
}

func tokenOf(t *testing.T, p Provider, err error) (any, error) {
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.Token(t.Context())
	return p, err
}

// person returns a provider whose person is signed in, and whose access token has expired.
func (s *spoiled) person(t *testing.T, o Options) *DeviceCode {
	if o.Cache == nil {
		o.Cache = &MemoryCache{}
		edit(t, o.Cache, func(c msalCache) { putSignIn(c, leaksIssuer, false) })
	}
	p, err := NewDeviceCode(DeviceCodeConfig{Endpoint: Issuer(leaksIssuer),
		ClientID: "app", Options: o,
		ShowCode: func(context.Context, DeviceAuthorization) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *spoiled) signIn(t *testing.T, cfg InteractiveConfig) (any, error) {
	cfg.Endpoint, cfg.ClientID = Issuer(leaksIssuer), "app"
	if cfg.Cache == nil {
		cfg.Cache = &MemoryCache{}
	}
	p, err := NewInteractive(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.flow().listen = s.human.net.listen
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	_, err = p.Token(ctx)
	return p, err
}

func (s *spoiled) browse(_ context.Context, address string) error {
	u, _ := url.Parse(address)
	q := u.Query()
	s.made("the state", q.Get("state"))
	s.made("the nonce", q.Get("nonce"))
	back := url.Values{"code": {theCode}, "state": {q.Get("state")}, "iss": {leaksIssuer}}
	if s.back != nil {
		s.back(back)
	}
	go s.human.visit(q.Get("redirect_uri") + "/?" + back.Encode())
	return nil
}

var (
	leaksKey = sync.OnceValue(func() string {
		b, _ := os.ReadFile("testdata/keys/p256-pkcs8.pem")
		return string(b)
	})
	leaksFlows = []leaksFlow{
		{"client secret", "/token", func(t *testing.T, s *spoiled, o Options) (any, error) {
			p, err := NewClientCredentials(ClientCredentialsConfig{
				Endpoint: TokenURL(leaksIssuer + "/token"), ClientID: "app",
				ClientSecret: SecretString(theSecret), Options: o})
			return tokenOf(t, p, err)
		}},
		{"Basic", "/token", func(t *testing.T, s *spoiled, o Options) (any, error) {
			p, err := NewClientCredentials(ClientCredentialsConfig{
				Endpoint: TokenURL(leaksIssuer + "/token"), ClientID: "app",
				ClientSecret: SecretString(theSecret), BasicAuth: true, Options: o})
			return tokenOf(t, p, err)
		}},
		{"assertion", "/token", func(t *testing.T, s *spoiled, o Options) (any, error) {
			p, err := NewClientCredentials(ClientCredentialsConfig{
				Endpoint: TokenURL(leaksIssuer + "/token"), ClientID: "app",
				ClientAssertion: SecretString(theJWT), Options: o})
			return tokenOf(t, p, err)
		}},
		{"certificate", "/token", func(t *testing.T, s *spoiled, o Options) (any, error) {
			p, err := NewClientCertificate(ClientCertificateConfig{
				Endpoint: TokenURL(leaksIssuer + "/token"), ClientID: "app",
				Certificate: SecretString(leaksKey()), Options: o})
			return tokenOf(t, p, err)
		}},
		{"discovery", wellKnown, func(t *testing.T, s *spoiled, o Options) (any, error) {
			p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: Issuer(leaksIssuer),
				ClientID: "app", ClientSecret: SecretString(theSecret), Options: o})
			return tokenOf(t, p, err)
		}},
		{"refresh token", "/token", func(t *testing.T, s *spoiled, o Options) (any, error) {
			p := s.person(t, o)
			_, err := p.Token(WithoutInteraction(t.Context()))
			return p, err
		}},
		{"device authorization", "/devicecode", func(t *testing.T, s *spoiled, o Options) (any, error) {
			o.Cache = &MemoryCache{}
			return tokenOf(t, s.person(t, o), nil)
		}},
		{"device code", "/token", func(t *testing.T, s *spoiled, o Options) (any, error) {
			o.Cache = &MemoryCache{}
			return tokenOf(t, s.person(t, o), nil)
		}},
		{"interactive", "/token", func(t *testing.T, s *spoiled, o Options) (any, error) {
			return s.signIn(t, InteractiveConfig{OpenBrowser: s.browse, Output: &s.human, Options: o})
		}},
		{"sign-out", wellKnown, func(t *testing.T, s *spoiled, o Options) (any, error) {
			o.Cache = &MemoryCache{}
			p := s.person(t, o)
			return p, p.SignOut(t.Context())
		}},
		{"API that refuses", "/token", func(t *testing.T, s *spoiled, o Options) (any, error) {
			s.skip = 1
			p, err := NewClientCredentials(ClientCredentialsConfig{
				Endpoint: TokenURL(leaksIssuer + "/token"), ClientID: "app",
				ClientSecret: SecretString(theSecret), Options: o})
			if err != nil {
				t.Fatal(err)
			}
			tr := &Transport{Provider: p, Origin: "https://api.test",
				Base: tripper(func(r *http.Request) (*http.Response, error) {
					return respond(401, ""), nil
				})}
			_, err1 := (&http.Client{Transport: tr}).Get("https://api.test/x")
			p.refresher.forget()
			_, err2 := (&http.Client{Transport: tr}).Get("https://api.test/x")
			return tr, errors.Join(err1, err2)
		}},
	}
)

// leaks runs the cases: it searches what each of them leaves.
type leaks struct {
	*testing.T
	cases, failed int
	printed       map[string]bool
	bad           bool // the last case
}

func (l *leaks) complain(format string, args ...any) {
	l.bad = true
	l.Errorf(format, args...)
}

func (l *leaks) run(
	name string, s *spoiled, run func(*testing.T, *spoiled, Options) (any, error),
	change ...func(*Options),
) {
	s.idp, s.dynamic = idptest.New(), marks{}
	s.idp.Issuer = leaksIssuer
	// As the package's own client does with what carries a secret: net/http logs what follows an
	// answer on a connection that is kept.
	tr := &http.Transport{DialContext: s.dial, DisableKeepAlives: true}
	o := Options{HTTPClient: &http.Client{Transport: tr}, Logger: records(writeFunc(s.note))}
	for _, c := range change {
		c(&o)
	}
	log.SetOutput(writeFunc(s.note)) // net/http's words
	p, err := run(l.T, s, o)
	synctest.Wait()
	tr.CloseIdleConnections()
	for _, end := range s.ends {
		end.Close()
	}
	synctest.Wait()
	search := theSearch()
	if len(s.dynamic) > 0 {
		search = newSearch(s.dynamic)
		search.also = theSearch()
	}
	l.bad = false
	if l.cases++; err != nil {
		l.failed++
		search.errorIn(l.complain, name, err, l.printed)
	}
	_, page, _ := strings.Cut(s.human.page, " ") // after its address
	if what := search.leak(s.notes.String() + page); what != "" {
		l.complain("%s: the log or the page shows %s: %s", name, what, s.notes.String())
	}
	s.notes.Reset()
	walk(reflect.ValueOf(p), name, 0, map[unsafe.Pointer]bool{}, func(path, text string) {
		if what := search.leak(text); what != "" {
			l.complain("%s holds %s", path, what)
		}
	})
}

// TestNoFaultShowsASecret: The answers here have all the secrets and tokens in
// them. Whatever happens to an answer, at whichever of its bytes, and whatever
// the functions of the caller do, no error shows one of them, however it is
// printed or taken apart, and no log, no provider and no page does.
func TestNoFaultShowsASecret(t *testing.T) {
	log.SetOutput(io.Discard)
	defer log.SetOutput(os.Stderr)
	l := &leaks{T: t, printed: map[string]bool{}}
	synctest.Test(t, func(t *testing.T) {
		l.T = t
		for _, part := range []func(){l.everyByte, l.wholeAnswers, l.callers, l.caches} {
			start, cases, failed, printed := time.Now(), l.cases, l.failed, len(l.printed)
			part()
			t.Logf("%d cases, %d errors, %d of them new, in %v", l.cases-cases, l.failed-failed,
				len(l.printed)-printed, time.Since(start).Round(time.Hour))
		}
		time.Sleep(time.Hour) // for what hangs
	})
}

var leaksStride = flag.Int("leaks.stride", 32,
	"TestNoFaultShowsASecret takes every so manyth byte, another one in each flow; 1 takes minutes")

func (l *leaks) everyByte() {
	for i, flow := range leaksFlows {
		for k, kind := range []string{"tokens", "refusal"} {
			for f, fault := range leaksFaults {
				l.bad = false
				size := 1 << 20 // until the first answer
				for n := (3*i + f + 16*k) % *leaksStride; n < size && !l.bad; n += *leaksStride {
					s := &spoiled{path: flow.path, then: fault.then}
					if kind == "refusal" {
						s.proper = s.refuse
					}
					s.spoil = func(raw []byte) []byte {
						size = len(raw)
						return fault.spoil(raw, min(n, len(raw)-1))
					}
					l.run(fmt.Sprintf("%s: %s %s at %d", flow.name, kind, fault.name, n), s, flow.run)
				}
			}
		}
	}
}

var leaksFaults = []struct {
	name, then string
	spoil      func(raw []byte, n int) []byte
}{
	{"cut", "reset", func(raw []byte, n int) []byte { return raw[:n] }},
	{"truncated", "close", func(raw []byte, n int) []byte { return raw[:n] }},
	{"stalled", "hang", func(raw []byte, n int) []byte { return raw[:n] }},
	{"duplicated", "keep",
		func(raw []byte, n int) []byte { return slices.Concat(raw[:n+1], raw[n:]) }},
	{"dropped", "keep", func(raw []byte, n int) []byte { return slices.Concat(raw[:n], raw[n+1:]) }},
	{"repeated", "keep", func(raw []byte, n int) []byte { return slices.Concat(raw, raw[n:]) }},
	{"beheaded", "keep", func(raw []byte, n int) []byte { return raw[n:] }},
}

type wholeFault func(*spoiled) http.HandlerFunc

// wholeFaults are answers that are wrong as a whole; all have what was sent in them.
func wholeFaults() map[string]wholeFault {
	answer := func(
		status int, kind string, text func(echo string, proper map[string]any) any, header ...string,
	) wholeFault {
		return func(s *spoiled) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				proper, fields := httptest.NewRecorder(), map[string]any{}
				s.serve(proper, r)
				json.Unmarshal(proper.Body.Bytes(), &fields)
				maps.Copy(w.Header(), proper.Header())
				w.Header().Set("Content-Type", kind)
				for i := 0; i < len(header); i += 2 {
					w.Header().Set(header[i], strings.ReplaceAll(header[i+1], "ECHO", url.QueryEscape(s.echo)))
				}
				w.WriteHeader(status)
				switch v := text(s.echo, fields).(type) {
				case string:
					io.WriteString(w, v)
				default:
					json.NewEncoder(w).Encode(v)
				}
			}
		}
	}
	page := func(echo string, proper map[string]any) any {
		return fmt.Sprint("<html><!-- ", echo, " -->", proper)
	}
	faults := map[string]wholeFault{"big": answer(200, "text/html",
		func(echo string, p map[string]any) any {
			return strings.Repeat(fmt.Sprint(echo, p), 5000)
		})}
	for i, header := range [][]string{nil, {"Retry-After", "1"}, {"Retry-After", "ECHO"},
		{"Location", "https://x.test/?ECHO"}, {"Location", "https://%zz/?ECHO"},
		{"WWW-Authenticate", "ECHO"},
		{"X-Correlation-Id", "ECHO"}, {"Content-Encoding", "ECHO"}, {"Set-Cookie", "ECHO"}} {
		for _, status := range []int{200, 204, 302, 403, 429, 503} {
			faults[fmt.Sprint("page ", status, i)] = answer(status, "text/html", page, header...)
		}
	}
	for _, field := range strings.Fields(`
		access_token refresh_token id_token token_type expires_in refresh_in scope
		client_info foci error error_description error_uri correlation_id device_code
		user_code verification_uri verification_uri_complete interval message issuer
		token_endpoint device_authorization_endpoint scopes_supported`) {
		for what, wrong := range map[string]func(echo string) any{
			"echo": func(echo string) any { return echo }, "quoted": func(echo string) any {
				return `"'` + echo + "\x1b\u202e"
			},
			"number": func(string) any { return -1e300 }, "bool": func(string) any { return true },
			"null":   func(string) any { return nil },
			"list":   func(echo string) any { return []any{echo, 1} },
			"object": func(echo string) any { return map[string]any{echo: echo} }} {
			for _, status := range []int{200, 400} {
				faults[fmt.Sprint(field, " ", what, " ", status)] = answer(status, "application/json",
					func(echo string, p map[string]any) any {
						p[field] = wrong(echo)
						return p
					})
			}
		}
	}
	faults["issuer of the ID token"] = answer(200, "application/json",
		func(echo string, p map[string]any) any {
			p["id_token"] = idptest.IDToken(map[string]any{"iss": echo, "sub": "ada", "aud": "app",
				"exp": time.Now().Add(time.Hour).Unix()})
			return p
		})
	for _, text := range []string{"", "null", "[]", "{}", "{", `"`, "[ECHO", `{"access_token":"ECHO`,
		`["ECHO"]`, `{"ECHO":1}`, "\xff\xfe"} {
		faults["body "+text] = answer(200, "application/json", func(echo string, _ map[string]any) any {
			return strings.ReplaceAll(text, "ECHO", echo)
		})
	}
	return faults
}

// leaksHeads are heads of answers that net/http cannot read, and quotes.
var leaksHeads = []string{"HTTP/1.1 ECHO\r\n\r\n", "ECHO\r\n\r\n",
	"HTTP/1.1 200 OK\r\nECHO\r\n\r\n", "HTTP/1.1 200 OK\r\nA\x00: ECHO\r\n\r\n",
	"HTTP/1.1 200 OK\r\n ECHO\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: ECHO\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: ECHO\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nECHO\r\n",
	"HTTP/ECHO 200 OK\r\n\r\n", "HTTP/1.1 200ECHO\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: ECHO\r\n\r\n",
	"HTTP/1.1 101 ECHO\r\nUpgrade: ECHO\r\n\r\n"}

func (l *leaks) wholeAnswers() {
	faults := wholeFaults()
	names := slices.Sorted(maps.Keys(faults))
	for f, flow := range leaksFlows {
		l.bad = false
		for i := 0; i < len(names) && !l.bad; i++ {
			if (i-f)%min(4, *leaksStride) != 0 && strings.Contains(names[i], "00") {
				continue
			}
			s := &spoiled{path: flow.path, then: "close", spoil: func(raw []byte) []byte { return raw }}
			s.proper = faults[names[i]](s)
			l.run(flow.name+": "+names[i], s, flow.run)
		}
		for _, head := range leaksHeads {
			s := &spoiled{path: flow.path, then: "close"}
			s.spoil = func([]byte) []byte { return []byte(strings.ReplaceAll(head, "ECHO", s.echo)) }
			l.run(flow.name+": "+head, s, flow.run)
		}
	}
	for _, name := range []string{"error", "error_description", "error_uri", "iss", "state", "code"} {
		for _, with := range []string{"", "<html>", "\x00" + strings.Repeat("x", 1000), "ECHO"} {
			l.run("browser: "+name+" "+with, &spoiled{back: func(v url.Values) {
				if name == "error_description" || name == "error_uri" {
					v.Set("error", "access_denied")
				}
				v.Set(name, strings.ReplaceAll(with, "ECHO", v.Get("code")+" "+v.Get("state")))
			}}, func(t *testing.T, s *spoiled, o Options) (any, error) {
				return s.signIn(t, InteractiveConfig{OpenBrowser: s.browse, Output: &s.human, Options: o})
			})
		}
	}
}

// misdeeds are what callers' functions do with what they know.
var misdeeds = map[string]func(known string){
	"panics":           func(known string) { panic(known) },
	"panics, an error": func(known string) { panic(errors.New(known)) },
	"panics, bytes":    func(known string) { panic(&struct{ b []byte }{[]byte(known)}) },
	"converts":         func(known string) { _ = any(known).(fmt.Stringer) },
	"hashes":           func(known string) { _ = map[any]int{}[[]string{known}] },
	"indexes":          func(known string) { _ = known[len(known)+len(known[:1]):][0] },
	"exits":            func(string) { runtime.Goexit() },
	"returns":          func(string) {},
	"hangs":            func(string) { time.Sleep(20 * time.Minute) },
}

// A nosy is a cache, a signer, a reader, a writer and a logger, and does its deed with what
// it gets.
type nosy struct {
	Cache
	slog.Handler
	crypto.Signer
	do, late func(string)
}

func (n nosy) Get(ctx context.Context) ([]byte, error) {
	b, err := n.Cache.Get(ctx)
	n.do(string(b) + theRefresh)
	return b, err
}

func (n nosy) Update(ctx context.Context, f updateFunc) error {
	return n.Cache.Update(ctx, func(ctx context.Context, old []byte) ([]byte, error) {
		b, err := f(ctx, old)
		n.late(string(b) + theRefresh)
		return b, err
	})
}

func (n nosy) Handle(context.Context, slog.Record) error { n.do(theSecret); return nil }
func (n nosy) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	n.do(leaksKey())
	return n.Signer.Sign(r, digest, o)
}
func (n nosy) Read([]byte) (int, error)    { n.do(theCode); return 0, io.EOF }
func (n nosy) Write(b []byte) (int, error) { n.do(string(b)); return len(b), nil }

func (l *leaks) callers() {
	key := parseTestKey(l.T, "p256-pkcs8.pem")
	cc := ClientCredentialsConfig{Endpoint: TokenURL(leaksIssuer + "/token"), ClientID: "app"}
	nothing := func(string) {}
	for deed, do := range misdeeds {
		yields := func(secret string) Secret {
			return func(context.Context) (string, error) { do(secret); return secret, errors.New("no") }
		}
		app := func(
			change func(*ClientCredentialsConfig),
		) func(*testing.T, *spoiled, Options) (any, error) {
			return func(t *testing.T, s *spoiled, o Options) (any, error) {
				cfg := cc
				cfg.Options = o
				change(&cfg)
				p, err := NewClientCredentials(cfg)
				return tokenOf(t, p, err)
			}
		}
		cert := func(cfg ClientCertificateConfig) func(*testing.T, *spoiled, Options) (any, error) {
			return func(t *testing.T, s *spoiled, o Options) (any, error) {
				cfg.Endpoint, cfg.ClientID, cfg.Options = cc.Endpoint, "app", o
				p, err := NewClientCertificate(cfg)
				return tokenOf(t, p, err)
			}
		}
		person := func(
			change func(*spoiled, *InteractiveConfig),
		) func(*testing.T, *spoiled, Options) (any, error) {
			return func(t *testing.T, s *spoiled, o Options) (any, error) {
				cfg := InteractiveConfig{OpenBrowser: s.browse, Output: &s.human, Options: o}
				change(s, &cfg)
				return s.signIn(t, cfg)
			}
		}
		signed := nosy{Cache: &MemoryCache{}, do: do, late: nothing}
		edit(l.T, signed.Cache, func(c msalCache) { putSignIn(c, leaksIssuer, false) })
		for who, run := range map[string]func(*testing.T, *spoiled, Options) (any, error){
			"ClientSecret":    app(func(c *ClientCredentialsConfig) { c.ClientSecret = yields(theSecret) }),
			"ClientAssertion": app(func(c *ClientCredentialsConfig) { c.ClientAssertion = yields(theJWT) }),
			"Certificate":     cert(ClientCertificateConfig{Certificate: yields(leaksKey())}),
			"Passphrase": cert(ClientCertificateConfig{Certificate: SecretString(leaksKey()),
				Passphrase: yields(thePassphrase)}),
			"Signer": cert(ClientCertificateConfig{Signer: func(context.Context) (crypto.Signer, error) {
				do(leaksKey())
				return nil, nil
			}}),
			"Sign": cert(ClientCertificateConfig{Signer: func(context.Context) (crypto.Signer, error) {
				return nosy{Signer: key, do: do}, nil
			}}),
			"HTTPClient": app(func(c *ClientCredentialsConfig) {
				c.ClientSecret, c.BasicAuth = SecretString(theSecret), true
				c.HTTPClient = &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
					do(r.Header.Get("Authorization"))
					return nil, &requestError{r}
				})}
			}),
			"body of an answer": app(func(c *ClientCredentialsConfig) {
				c.ClientSecret = SecretString(theSecret)
				c.HTTPClient = &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: 200, Body: io.NopCloser(nosy{do: do}), Request: r}, nil
				})}
			}),
			"Logger": app(func(c *ClientCredentialsConfig) {
				c.ClientSecret, c.Logger = SecretString(theSecret),
					slog.New(nosy{Handler: slog.NewTextHandler(io.Discard, nil), do: do})
			}),
			"cache of an application, late": app(func(c *ClientCredentialsConfig) {
				c.ClientSecret, c.Cache = SecretString(theSecret),
					nosy{Cache: &MemoryCache{}, do: nothing, late: do}
			}),
			"token function": func(t *testing.T, s *spoiled, o Options) (any, error) {
				p, err := NewFuncProvider(func(context.Context) (Token, error) {
					do(theToken)
					return Token{}, nil
				})
				return tokenOf(t, p, err)
			},
			"ShowCode": func(t *testing.T, s *spoiled, o Options) (any, error) {
				o.Cache = &MemoryCache{}
				p, err := NewDeviceCode(DeviceCodeConfig{Endpoint: Issuer(leaksIssuer),
					ClientID: "app", Options: o,
					ShowCode: func(context.Context, DeviceAuthorization) error { do(theDevice); return nil }})
				return tokenOf(t, p, err)
			},
			"OpenBrowser": person(func(s *spoiled, c *InteractiveConfig) {
				c.OpenBrowser = func(ctx context.Context, address string) error {
					s.browse(ctx, address)
					do(address)
					return nil
				}
			}),
			"Input": person(func(s *spoiled, c *InteractiveConfig) {
				c.Input, c.OpenBrowser = &nosy{do: do}, func(context.Context, string) error {
					return errors.New("no")
				}
			}),
			"Output": person(func(s *spoiled, c *InteractiveConfig) { c.Output = nosy{do: do} }),
			"cache, late": person(func(s *spoiled, c *InteractiveConfig) {
				c.Cache = nosy{Cache: &MemoryCache{}, do: nothing, late: do}
			}),
			"cache": func(t *testing.T, s *spoiled, o Options) (any, error) {
				o.Cache = signed
				p := s.person(t, o)
				_, err := p.Token(WithoutInteraction(t.Context()))
				// The cache itself is not asked to hide anything.
				return nil, errors.Join(err, p.SignOut(t.Context()))
			},
		} {
			l.run(who+" "+deed, &spoiled{}, run)
		}
	}
}

// caches are damaged where they can be, with a sign-in in them.
func (l *leaks) caches() {
	c := msalCache{}
	putSignIn(c, leaksIssuer, true)
	good, _ := c.blob()
	for i := 0; i < 3 && !l.bad; i++ {
		for n := i; n < len(good); n += min(41, 5**leaksStride) {
			for what, bad := range map[string][]byte{"cut": good[:n],
				"duplicated": slices.Concat(good[:n+1], good[n:]),
				"dropped":    slices.Concat(good[:n], good[n+1:])} {
				dir := l.TempDir()
				l.run(fmt.Sprintf("cache %d, %s at %d", i, what, n), &spoiled{},
					func(t *testing.T, s *spoiled, o Options) (any, error) {
						file, _ := NewFileCache(filepath.Join(dir, "tokens"))
						inner := []Cache{&MemoryCache{}, file, &MemoryCache{}}[i]
						cache, key := inner, []byte(theKey)
						if i == 2 {
							if n%2 == 1 {
								bad, key = good, bytes.ToUpper(key)
							}
							cache, _ = EncryptCache(inner, []byte(theKey))
							other, _ := EncryptCache(inner, key)
							put(t, other, string(good))
							if blob, _ := inner.Get(t.Context()); n%2 == 0 {
								put(t, inner, string(blob[:len(blob)-1-n%len(blob)/2]))
							}
						} else {
							put(t, inner, string(bad))
						}
						_, err1 := cache.Get(t.Context())
						err2 := cache.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
							return old, nil
						})
						o.Cache = cache
						p := s.person(t, o)
						err3 := p.SignOut(t.Context())
						_, err4 := p.Token(WithoutInteraction(t.Context()))
						return p.refresher.current.Load(), errors.Join(err1, err2, err3, err4)
					})
			}
		}
	}
}
