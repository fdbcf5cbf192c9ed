package cdfauth

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"cdfauth/internal/idptest"
)

// These tests look for secrets wherever a program could print one: in every
// exported type, however it is nested and formatted, and in errors.

const (
	theSecret = "Zq7vN2xLwK9pTf4R"
	theToken  = "Hy3mBd8sJc5gVa1U"
)

// exposed is every exported type with a value that holds theSecret or theToken.
// A new exported type has to be added here.
func exposed(t *testing.T) map[string]any {
	t.Helper()
	idp := idptest.New()
	idp.Always(idptest.Body(`{"access_token":"` + theToken + `","expires_in":3600}`))
	secret := SecretString(theSecret)
	client := &http.Client{Transport: tripper(idp.Client().Transport.RoundTrip)} // a function hides what the provider recorded
	opts := Options{HTTPClient: client, Logger: slog.New(slog.DiscardHandler)}
	cc := ClientCredentialsConfig{Endpoint: TokenURL("https://idp.test/token"), ClientID: "client", ClientSecret: secret, BasicAuth: true, Options: opts}
	ca := cc
	ca.ClientSecret, ca.ClientAssertion, ca.BasicAuth = nil, secret, false
	cert := ClientCertificateConfig{Endpoint: cc.Endpoint, ClientID: "client", Certificate: SecretString(theSecret + "\n" + testKey(t, "p256-pkcs8.pem")), Passphrase: secret, Options: opts}
	must := func(p Provider, err error) Provider {
		t.Helper()
		if err == nil {
			_, err = p.Token(t.Context()) // so that it holds one
		}
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	static := must(NewStaticProvider(theToken))
	ccp := must(NewClientCredentials(cc))
	refused := must(NewClientCredentials(cc)).(*ClientCredentials)
	tok, err := refused.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	refused.Invalidate(tok)
	hc, err := NewHTTPClient(ccp, "https://api.test")
	if err != nil {
		t.Fatal(err)
	}
	var mc MemoryCache
	fc, err1 := NewFileCache(filepath.Join(t.TempDir(), "tokens"))
	ec, err2 := EncryptCache(&mc, []byte(theSecret+theSecret))
	fec, err3 := EncryptCache(fc, []byte(theSecret+theSecret))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	plain := &MemoryCache{}
	for _, c := range []Cache{ec, fec, plain} {
		if err := c.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return []byte(theToken), nil }); err != nil {
			t.Fatal(err)
		}
	}
	dc := DeviceCodeConfig{Endpoint: cc.Endpoint, ClientID: "app", Options: opts}
	dc.Endpoint, dc.Cache = Issuer("https://idp.test"), &MemoryCache{}
	edit(t, dc.Cache, func(c contents) {
		c.put(accessTokens, entry{"secret": theToken, "environment": "idp.test", "client_id": "app", "cached_at": unix(time.Now()),
			"expires_on": unix(time.Now().Add(time.Hour)), fieldIssuer: "https://idp.test"})
	})
	ic := InteractiveConfig{Endpoint: dc.Endpoint, ClientID: "app", Options: dc.Options}
	device, browser := must(NewDeviceCode(dc)).(*DeviceCode), must(NewInteractive(ic)).(*Interactive)
	return map[string]any{
		"DeviceCodeConfig":        dc,
		"DeviceCode":              device,
		"DeviceAuthorization":     DeviceAuthorization{UserCode: "AB-CD"},
		"InteractiveConfig":       ic,
		"Interactive":             browser,
		"Cache":                   []Cache{ec, fec},
		"FileCache":               fc,
		"MemoryCache":             plain,
		"Provider":                []Provider{static, ccp},
		"Token":                   tok,
		"Secret":                  secret,
		"Options":                 opts,
		"StaticProvider":          static,
		"FuncProvider":            must(NewFuncProvider(func(context.Context) (Token, error) { return NewToken(theToken, time.Now().Add(time.Hour)) })),
		"Endpoint":                cc.Endpoint,
		"OAuthError":              &OAuthError{Code: "invalid_client", StatusCode: 401},
		"ClientCredentialsConfig": []ClientCredentialsConfig{cc, ca},
		"ClientCredentials":       []Provider{ccp, must(NewClientCredentials(ca)), refused},
		"ClientCertificateConfig": cert,
		"ClientCertificate":       must(NewClientCertificate(cert)),
		"Transport":               []any{hc.Transport, hc, &Transport{Provider: ccp, Origin: "https://api.test"}},
	}
}

// exportedTypes reads the names from the source.
func exportedTypes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var names []string
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok {
				for _, s := range g.Specs {
					if ts, ok := s.(*ast.TypeSpec); ok && ts.Name.IsExported() {
						names = append(names, ts.Name.Name)
					}
				}
			}
		}
	}
	return names
}

func TestNoExportedTypeShowsASecret(t *testing.T) {
	values := exposed(t)
	for _, name := range exportedTypes(t) {
		if _, ok := values[name]; !ok {
			t.Errorf("exported type %s is not in the list of this test", name)
		}
	}
	for name, v := range values {
		for _, v := range nested(v) {
			for how, text := range printings(v) {
				if what := leak(text); what != "" {
					t.Errorf("%s: %s of %T shows %s", name, how, v, what)
				}
			}
		}
		walk(reflect.ValueOf(v), name, 0, map[unsafe.Pointer]bool{}, func(path, text string) {
			if what := leak(text); what != "" {
				t.Errorf("%s is a field that holds %s", path, what)
			}
		})
	}
	// The test itself has to see what is there to see.
	for how, text := range printings(struct{ s *string }{}) {
		_ = text
		if leak(printings(struct{ s string }{theSecret})["%v"]) == "" || leak(printings(map[string][]byte{"a": []byte(theToken)})["json"]) == "" {
			t.Fatalf("%s: the search finds nothing", how)
		}
	}
	found := false
	walk(reflect.ValueOf(&struct{ p *struct{ s []byte } }{&struct{ s []byte }{[]byte(theSecret)}}), "x", 0, map[unsafe.Pointer]bool{}, func(_, text string) { found = found || leak(text) != "" })
	if !found {
		t.Fatal("the walk finds nothing")
	}
}

// nested wraps v in every way in which a program might hold it.
func nested(v any) []any {
	return []any{
		v, &v,
		struct{ V any }{v}, struct{ v any }{v}, &struct{ V any }{v}, &struct{ v any }{v},
		[]any{v}, [1]any{v}, map[string]any{"k": v},
		struct{ v struct{ p *any } }{struct{ p *any }{&v}},
		struct{ V map[int][]any }{map[int][]any{1: {v}}},
		fmt.Errorf("wrapped: %v", v),
	}
}

// printings formats v in every way there is, and what it points to as well.
func printings(v any) map[string]string {
	m := map[string]string{}
	all := func(v any, suffix string) {
		for _, verb := range []string{"v", "+v", "#v", "s", "q", "x", "X", "d", "b", "o", "O", "c", "U", "e", "g", "t", "p", "T", "+q", "# x", "w"} {
			m["%"+verb+suffix] = fmt.Sprintf("%"+verb, v)
		}
		b, err := json.Marshal(v)
		m["json"+suffix] = string(b) + fmt.Sprint(err)
		var text bytes.Buffer
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v, slog.Group("g", "v", v))
		m["slog text"+suffix] = text.String()
		text.Reset()
		slog.New(slog.NewJSONHandler(&text, nil)).Info("m", "v", v, slog.Group("g", "v", v))
		m["slog json"+suffix] = text.String()
	}
	all(v, "")
	if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer && !r.IsNil() {
		all(r.Elem().Interface(), " of what it points to")
	}
	return m
}

// leak says what of the secrets is in text: whole, a prefix, or encoded.
func leak(text string) string {
	lower := strings.ToLower(text)
	for what, s := range map[string]string{"the secret": theSecret, "the token": theToken} {
		decimal := strings.Trim(fmt.Sprint([]byte(s[:8])), "[]")
		for _, form := range []string{s[:8], s[8:], url.QueryEscape(s),
			base64.StdEncoding.EncodeToString([]byte(s))[:10], base64.StdEncoding.EncodeToString([]byte(" " + s))[2:12], base64.StdEncoding.EncodeToString([]byte("  " + s))[4:14], decimal} {
			if strings.Contains(text, form) {
				return what + " as " + form
			}
		}
		if strings.Contains(lower, hex.EncodeToString([]byte(s[:8]))) {
			return what + " in hex"
		}
	}
	return ""
}

// walk follows v through exported and unexported fields, pointers and
// containers as no printer would, and shows each string and byte slice.
func walk(v reflect.Value, path string, depth int, seen map[unsafe.Pointer]bool, show func(path, text string)) {
	if depth > 30 || !v.IsValid() {
		return
	}
	switch v.Kind() {
	case reflect.String:
		show(path, v.String())
	case reflect.Pointer:
		if !v.IsNil() && !seen[v.UnsafePointer()] {
			seen[v.UnsafePointer()] = true
			walk(v.Elem(), path, depth+1, seen, show)
		}
	case reflect.Interface:
		walk(v.Elem(), path, depth+1, seen, show)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			walk(f, path+"."+v.Type().Field(i).Name, depth+1, seen, show)
			// atomic.Pointer hides what it points to from reflect; we know what ours is.
			if h, ok := loadHeld(v, i); ok {
				walk(reflect.ValueOf(h), path+".current", depth+1, seen, show)
			}
		}
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			b := make([]byte, v.Len())
			for i := range b {
				b[i] = byte(v.Index(i).Uint())
			}
			show(path, string(b))
			return
		}
		for i := range v.Len() {
			walk(v.Index(i), path+"[]", depth+1, seen, show)
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			walk(it.Key(), path+" key", depth+1, seen, show)
			walk(it.Value(), path+"[]", depth+1, seen, show)
		}
	}
}

func loadHeld(v reflect.Value, i int) (*held, bool) {
	if v.Type() != reflect.TypeFor[engine]() || v.Type().Field(i).Name != "current" || !v.CanAddr() {
		return nil, false
	}
	return (*engine)(v.Addr().UnsafePointer()).current.Load(), true
}

// walkError searches an error's text, every field that a walk reaches, and
// whatever it wraps.
func walkError(t *testing.T, name string, err error) {
	t.Helper()
	for e, i := err, 0; e != nil; e, i = errors.Unwrap(e), i+1 {
		for how, text := range printings(e) {
			if what := leak(text); what != "" {
				t.Errorf("%s: %s of %T (unwrapped %d times) shows %s", name, how, e, i, what)
			}
		}
		walk(reflect.ValueOf(e), name, 0, map[unsafe.Pointer]bool{}, func(path, text string) {
			if what := leak(text); what != "" {
				t.Errorf("%s of %T holds %s", path, e, what)
			}
		})
		if r, ok := e.(interface{ Unwrap() []error }); ok {
			for _, e := range r.Unwrap() {
				walkError(t, name, e)
			}
		}
	}
}

// TestNoErrorShowsASecret: the provider echoes what it was sent in every way.
func TestNoErrorShowsASecret(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(theSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	basic := base64.StdEncoding.EncodeToString([]byte("client:" + theSecret))
	echoes := map[string]string{
		"plain": theSecret, "twice": theSecret + theSecret, "prefix": theSecret[:8], "suffix": theSecret[8:], "quoted": "'" + theSecret + "'", "basic": "Basic " + basic,
		"base64": base64.StdEncoding.EncodeToString([]byte(theSecret)), "split": theSecret[:8] + "\x00" + theSecret[8:], "escape": theSecret[:8] + "\x1b[0m" + theSecret[8:],
		"at the cut": strings.Repeat("x", 495) + theSecret, "at the other cut": strings.Repeat("y", 8185) + theSecret,
	}
	for name, echo := range echoes {
		for kind, h := range map[string]http.HandlerFunc{
			"description": idptest.Error(401, "invalid_client", "wrong: "+echo),
			"code":        idptest.Error(401, echo, ""),
			"uri":         idptest.JSON(400, map[string]string{"error": "x", "error_uri": "https://x/" + echo, "correlation_id": echo}),
			"200":         idptest.JSON(200, map[string]string{"access_token": echo + " ", "token_type": echo, "scope": echo}),
			"type":        idptest.JSON(200, map[string]string{"access_token": "x", "token_type": echo}),
			"lifetime":    idptest.JSON(200, map[string]string{"access_token": "x", "expires_in": echo}),
			"html":        idptest.Body("<html>" + echo),
		} {
			for _, useBasic := range []bool{false, true} {
				idp := idptest.New()
				idp.Always(h)
				p, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL("https://idp.test/token"), ClientID: "client", ClientSecret: SecretFile(path), BasicAuth: useBasic,
					Options: Options{HTTPClient: idp.Client()}})
				if err != nil {
					t.Fatal(err)
				}
				_, err = p.Token(t.Context())
				if err == nil {
					t.Fatalf("%s in %s: no error", name, kind)
				}
				walkError(t, name+" in "+kind, err)
			}
		}
	}
	// By way of net/http's own errors, on a real socket.
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, _ := http.NewResponseController(w).Hijack()
		fmt.Fprintf(c, "HTTP/1.1 %s\r\n\r\n", theSecret)
		c.Close()
	}))
	defer s.Close()
	p, _ := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL(s.URL), ClientID: "client", ClientSecret: SecretString(theSecret)})
	_, err := p.Token(t.Context())
	if err == nil || !strings.Contains(err.Error(), "[removed]") {
		t.Errorf("malformed status: %v", err)
	}
	walkError(t, "malformed status", err)
	// A panic whose value is the secret.
	p = newTestProvider(t, idptest.New(), func(context.Context) (string, error) { panic(theSecret) })
	if _, err = p.Token(t.Context()); err == nil {
		t.Error("no error")
	}
	walkError(t, "panic", err)
	// And a transport that panics with the request in hand.
	p, _ = NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL(s.URL), ClientID: "client", ClientSecret: SecretString(theSecret), Options: Options{HTTPClient: &http.Client{Transport: panicking{}}}})
	if _, err = p.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "HTTPClient") {
		t.Errorf("panicking transport: %v", err)
	}
	walkError(t, "panicking transport", err)
}

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

type panicking struct{}

func (panicking) RoundTrip(r *http.Request) (*http.Response, error) {
	b, _ := r.GetBody()
	var text bytes.Buffer
	text.ReadFrom(b)
	panic(text.String())
}
