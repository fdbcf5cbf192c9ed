package cdfauth

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"go/ast"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"cdfauth/internal/idptest"
)

// These tests look for secrets wherever a program could print one: in every
// exported type, however it is nested and formatted, and in errors.

const (
	theSecret     = "Zq7vN2xLwK9pTf4R"
	theToken      = "Hy3mBd8sJc5gVa1U"
	theRefresh    = "Wb6kRz0eQn2hXd9M"
	theIDToken    = "Lf8tCs5yUj3aPv7G" // its signature
	theDevice     = "Kx1dGm4wEo7iSq2B" // device_code
	theCode       = "Ry5nTh9uVb3cZk6J"
	theAssertion  = "Pe0gYw8oMl2fDs4X" // the last part of theJWT, which is sent
	theJWT        = "e30.e30." + theAssertion
	thePassphrase = "Nc7jIt1rAx6zQh3E"
	theKey        = "Vu4bOp9lFy0mKs5WVu4bOp9lFy0mKs5W" // of EncryptCache
	theBody       = "Jg2qXe6vRn8tBa0C"                 // what an answer says that nobody asked for
)

// marks are secrets by what they are.
type marks map[string]string

var theMarks = marks{"the secret": theSecret, "the token": theToken,
	"the refresh token": theRefresh, "the ID token": theIDToken, "the device code": theDevice,
	"the code": theCode, "the assertion": theAssertion, "the passphrase": thePassphrase,
	"the cache's key": theKey, "the body": theBody}

// theIDTokenOf is an ID token for the client "app".
func theIDTokenOf(issuer string) string {
	return strings.TrimSuffix(idptest.IDToken(map[string]any{"iss": issuer, "sub": "ada", "aud": "app",
		"exp":                time.Now().Add(time.Hour).Unix(),
		"preferred_username": "ada@example.com"}),
		base64.RawURLEncoding.EncodeToString([]byte("nobody"))) + theIDToken
}

// theAnswer is a token response with all the secrets there are: those given out, and those
// sent, in a field that nobody reads.
func theAnswer(issuer, echo string) map[string]any {
	return map[string]any{"access_token": theToken, "refresh_token": theRefresh,
		"id_token": theIDTokenOf(issuer), "expires_in": 3600, "token_type": "Bearer",
		"echo": echo, "page": theBody}
}

// records is a logger that notes all there is to note, in both forms.
func records(to io.Writer) *slog.Logger {
	all := &slog.HandlerOptions{Level: slog.LevelDebug - 4, AddSource: true}
	return slog.New(twice{slog.NewTextHandler(to, all), slog.NewJSONHandler(to, all)})
}

type twice [2]slog.Handler

func (h twice) Enabled(context.Context, slog.Level) bool { return true }

func (h twice) Handle(ctx context.Context, r slog.Record) error {
	return errors.Join(h[0].Handle(ctx, r.Clone()), h[1].Handle(ctx, r))
}

func (h twice) WithAttrs(a []slog.Attr) slog.Handler {
	return twice{h[0].WithAttrs(a), h[1].WithAttrs(a)}
}

func (h twice) WithGroup(g string) slog.Handler {
	return twice{h[0].WithGroup(g), h[1].WithGroup(g)}
}

// exposed is every exported type with values that hold secrets, as constructors return
// them and as they are after they were used, and last what their loggers have noted. A new
// exported type has to be added here.
func exposed(t *testing.T) map[string]any {
	t.Helper()
	var log bytes.Buffer
	idp := idptest.New()
	echo := func(r *http.Request) string { return r.PostForm.Encode() + r.Header.Get("Authorization") }
	idp.Always(func(w http.ResponseWriter, r *http.Request) {
		idptest.JSON(200, theAnswer(idp.Issuer, echo(r)))(w, r)
	})
	secret := SecretString(theSecret)
	// A function hides what the provider recorded.
	client := &http.Client{Transport: tripper(idp.Client().Transport.RoundTrip)}
	opts := Options{HTTPClient: client, Logger: records(&log)}
	made := func(p Provider, err error) Provider {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	must := func(p Provider, err error) Provider {
		t.Helper()
		mustToken(t, made(p, err)) // so that it holds one
		return p
	}
	cc := ClientCredentialsConfig{Endpoint: TokenURL("https://idp.test/token"), ClientID: "client",
		ClientSecret: secret, BasicAuth: true, Options: opts}
	ca := cc
	ca.ClientSecret, ca.ClientAssertion, ca.BasicAuth = nil, SecretString(theJWT), false
	pem := encrypt(t, testDER(t, "p256-pkcs8.pem"), thePassphrase, pbes2{iterations: 1})
	cert := ClientCertificateConfig{Endpoint: cc.Endpoint, ClientID: "client",
		Certificate: SecretString(theSecret + "\n" + pem),
		Passphrase:  SecretString(thePassphrase), Options: opts}
	hardware := cert
	hardware.Certificate, hardware.Passphrase = nil, nil
	hardware.Signer = func(context.Context) (crypto.Signer, error) {
		return parseTestKey(t, "p256-pkcs8.pem"), nil
	}
	asserted, certified, keyless := must(NewClientCredentials(ca)), must(NewClientCertificate(cert)),
		must(NewClientCertificate(hardware))
	static := must(NewStaticProvider(theToken))
	ccp := must(NewClientCredentials(cc))
	refused := must(NewClientCredentials(cc)).(*ClientCredentials)
	tok := mustToken(t, refused)
	refused.Invalidate(tok)
	hc, err := NewHTTPClient(ccp, "https://api.test")
	if err != nil {
		t.Fatal(err)
	}
	fc, err1 := NewFileCache(filepath.Join(t.TempDir(), "tokens"))
	ec, err2 := EncryptCache(&MemoryCache{}, []byte(theKey))
	fec, err3 := EncryptCache(fc, []byte(theKey))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	// People whose sign-in is in the cache: an ID token, and a refresh token, which is
	// redeemed, or an access token as well, which is taken.
	signedIn := func(c Cache, fresh bool) Options {
		edit(t, c, func(c msalCache) { putSignIn(c, idp.Issuer, fresh) })
		o := opts
		o.Cache = c
		return o
	}
	dc := DeviceCodeConfig{Endpoint: Issuer(idp.Issuer), ClientID: "app", Options: signedIn(ec, false)}
	ic := InteractiveConfig{Endpoint: dc.Endpoint, ClientID: "app", Options: signedIn(fec, false)}
	renewed := []Provider{must(NewDeviceCode(dc)), must(NewInteractive(ic))}
	plain := &MemoryCache{}
	dc.Options, ic.Options = signedIn(plain, true), signedIn(&MemoryCache{}, true)
	device, browser := must(NewDeviceCode(dc)), must(NewInteractive(ic))
	// What users have.
	quote := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	withMemory := opts
	withMemory.Cache = signedIn(&MemoryCache{}, false).Cache
	var users []Provider
	for _, config := range []string{`{"token":"` + theToken + `"}`,
		`{"client_credentials":{"token_url":"https://idp.test/token","client_id":"app","client_secret":"` +
			theSecret + `","audience":"x"}}`,
		`{"client_certificate":{"authority_url":"https://idp.test/x","client_id":"app","certificate":` +
			quote(testKey(t, "rsa-pkcs8.pem")) + `,"cert_thumbprint":"` + strings.Repeat("ab", 20) + `"}}`,
		`{"device_code":{"oauth_discovery_url":"https://idp.test","client_id":"app","scopes":[]}}`,
		`{"interactive":{"oauth_discovery_url":"https://idp.test","client_id":"app"}}`,
	} {
		users = append(users, must(Load([]byte(config), withMemory)))
	}
	users = append(users,
		made(Load([]byte(`{"device_code":{"authority_url":"https://idp.test/x","client_id":"app","scopes":[],"clear_cache":true,"token_cache_path":`+
			quote(filepath.Join(t.TempDir(), "x"))+`}}`), opts)))
	vars := map[string]string{"IDP_CLIENT_ID": "app", "IDP_CLIENT_SECRET": theSecret,
		"CDF_TOKEN": theToken, "IDP_DISCOVERY_URL": idp.Issuer, "IDP_TOKEN_URL": "https://idp.test/token",
		"PROVIDER": "other", "CDF_CLUSTER": "greenfield"}
	for _, vars["LOGIN_FLOW"] = range []string{"client_credentials", "token", "device_code",
		"interactive"} {
		p := made(FromEnv(func(name string) string { return vars[name] }, withMemory))
		_, _ = p.Token(WithoutInteraction(t.Context())) // people are not signed in for that audience
		users = append(users, p)
	}
	// What becomes of exchanges that fail, whose answers have it all.
	var failed []any
	idp.Always(func(w http.ResponseWriter, r *http.Request) {
		answer := theAnswer(idp.Issuer, "")
		answer["error"], answer["error_description"] = "invalid_client", echo(r)
		idptest.JSON(401, answer)(w, r)
	})
	person := dc
	person.Options = signedIn(&MemoryCache{}, false)
	failing := []Provider{made(NewClientCredentials(cc)), made(NewClientCredentials(ca)),
		made(NewClientCertificate(cert)), made(NewDeviceCode(person))}
	for _, p := range failing {
		_, err := p.Token(WithoutInteraction(t.Context()))
		oe := (*OAuthError)(nil)
		if !errors.As(err, &oe) || !strings.Contains(err.Error(), "[removed]") {
			t.Fatalf("%T: %v", p, err)
		}
		failed = append(failed, oe, err)
	}
	_, err = Load([]byte(`{"client_credentials":{"token_url":"https://x:`+theSecret+
		`@idp.test/token","client_id":"app","client_secret":["`+theSecret+`"]}}`), opts)
	_, err1 = NewHTTPClient(ccp, "https://x:"+theSecret+"@api.test")
	_, err2 = NewToken(theToken+" ", time.Time{})
	_, err3 = NewStaticProvider("Bearer " + theToken)
	failed = append(failed, err, err1, err2, err3)
	endpoints := []any{cc.Endpoint, dc.Endpoint}
	for _, made := range []func(string) Endpoint{Authority, Issuer, Discovery, TokenURL} {
		for _, bad := range []string{"https://x:%s@idp.test/token", "https://%s@idp.test/token",
			"https://x:%s@idp.test:bad/%%zz", "%s"} {
			ep := made(fmt.Sprintf(bad, theSecret))
			_, err := NewClientCredentials(ClientCredentialsConfig{Endpoint: ep, ClientID: "client",
				ClientSecret: secret})
			endpoints, failed = append(endpoints, ep), append(failed, err)
		}
	}
	if !strings.Contains(log.String(), "invalid_client") ||
		!strings.Contains(log.String(), `"expiry"`) {
		t.Errorf("the log has less than is needed: %s", log.String())
	}
	return map[string]any{
		"DeviceCodeConfig":    dc,
		"DeviceCode":          []Provider{device, renewed[0]},
		"DeviceAuthorization": DeviceAuthorization{UserCode: "AB-CD"},
		"InteractiveConfig":   ic,
		"Interactive":         []Provider{browser, renewed[1]},
		"Cache":               []Cache{ec, fec},
		"FileCache":           fc,
		"MemoryCache":         plain,
		"Provider":            append(append(users, failing...), static, ccp),
		"Token":               tok,
		"Secret":              secret,
		"Options":             opts,
		"StaticProvider":      static,
		"FuncProvider": must(NewFuncProvider(func(context.Context) (Token, error) {
			return NewToken(theToken, time.Now().Add(time.Hour))
		})),
		"Endpoint":                endpoints,
		"OAuthError":              failed,
		"ClientCredentialsConfig": []ClientCredentialsConfig{cc, ca},
		"ClientCredentials":       []Provider{ccp, asserted, refused},
		"ClientCertificateConfig": []ClientCertificateConfig{cert, hardware},
		"ClientCertificate":       []Provider{certified, keyless},
		"Transport": []any{hc.Transport, hc,
			&Transport{Provider: ccp, Origin: "https://api.test"}},
		"log": log.String(),
	}
}

// putSignIn is what a cache has of somebody who is signed in.
func putSignIn(c msalCache, issuer string, fresh bool) {
	u, _ := url.Parse(issuer)
	ours := func(secret string) entry {
		return entry{"secret": secret, "environment": u.Hostname(), "client_id": "app",
			"home_account_id": "ada", "cached_at": unix(time.Now()), fieldIssuer: issuer}
	}
	c.put(refreshTokens, ours(theRefresh))
	c.put(idTokens, ours(theIDTokenOf(issuer)))
	if e := ours(theToken); fresh {
		e["expires_on"], e[fieldAsked] = unix(time.Now().Add(time.Hour)), "-"
		c.put(accessTokens, e)
	}
}

// exportedTypes reads the names from the source.
func exportedTypes(t *testing.T) []string {
	t.Helper()
	files := packageFiles(t)
	if len(files) == 0 {
		t.Fatal("there are no files")
	}
	var names []string
	for _, f := range files {
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

// TestNoExportedTypeShowsASecret: A program may print any value that it has of
// this package, with any verb, or log it or marshal it. No value shows a
// secret, and no field that reflection can read has one as text. An exported
// type that this test does not know fails it.
func TestNoExportedTypeShowsASecret(t *testing.T) {
	t.Parallel()
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
	// The test itself has to see what is there to see, of each kind.
	for what, secret := range theMarks {
		printed := printings(struct{ S string }{secret})
		for _, how := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "json",
			"slog text", "slog json"} {
			if !strings.HasPrefix(leak(printed[how]), what) {
				t.Errorf("%s: %s is not seen in %s", how, what, printed[how])
			}
		}
		for _, text := range []string{"a" + secret, "ab" + secret, "abc" + secret + "z"} {
			if !strings.HasPrefix(leak(base64.StdEncoding.EncodeToString([]byte(text))), what) {
				t.Errorf("base64: %s is not seen", what)
			}
		}
	}
	for how, text := range printings(struct{ s *string }{}) {
		_ = text
		if leak(printings(struct{ s string }{theSecret})["%v"]) == "" ||
			leak(printings(map[string][]byte{"a": []byte(theToken)})["json"]) == "" {
			t.Fatalf("%s: the search finds nothing", how)
		}
	}
	found := false
	walk(reflect.ValueOf(&struct{ p *struct{ s []byte } }{&struct{ s []byte }{[]byte(theSecret)}}),
		"x", 0, map[unsafe.Pointer]bool{}, func(_, text string) {
			found = found || leak(text) != ""
		})
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
		for _, verb := range []string{"v", "+v", "#v", "s", "q", "x", "X", "d", "b", "o", "O", "c", "U",
			"e", "g", "t", "p", "T", "+q", "# x", "w"} {
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

// search looks for eight bytes in a row of any secret, plain, escaped or in base64 at each
// of its alignments, and for what verbs make of bytes.
type search struct {
	runs  map[[8]byte]string
	whole map[string]string
	also  *search
}

func newSearch(secrets ...marks) *search {
	s := &search{runs: map[[8]byte]string{}, whole: map[string]string{}}
	for _, m := range secrets {
		for what, secret := range m {
			forms := []string{secret, url.QueryEscape(secret)}
			for pad := range 3 {
				b := base64.RawStdEncoding.EncodeToString([]byte("  "[:pad] + secret))
				b = b[[]int{0, 2, 4}[pad] : len(b)-len(b)%4]
				forms = append(forms, b, strings.NewReplacer("+", "-", "/", "_").Replace(b))
			}
			for _, form := range forms {
				for i := range len(form) - 7 {
					s.runs[[8]byte([]byte(form[i:]))] = what + " as " + form[i:i+8]
				}
			}
			for _, part := range []string{secret[:8], secret[len(secret)-8:]} {
				s.whole[hex.EncodeToString([]byte(part))] = what + " in hex"
				s.whole[strings.Trim(fmt.Sprint([]byte(part)), "[]")] = what + " in decimal"
			}
		}
	}
	return s
}

// leak says what of the secrets is in text, "" if nothing is.
func (s *search) leak(text string) string {
	for i := range len(text) - 7 {
		if what := s.runs[[8]byte([]byte(text[i:i+8]))]; what != "" {
			return what
		}
	}
	lower := strings.ToLower(text)
	for form, what := range s.whole {
		if strings.Contains(lower, form) {
			return what
		}
	}
	if s.also != nil {
		return s.also.leak(text)
	}
	return ""
}

var theSearch = sync.OnceValue(func() *search {
	keys := marks{}
	for _, name := range []string{"p256-pkcs8.pem", "rsa-pkcs8.pem"} {
		text, err := os.ReadFile(filepath.Join("testdata/keys", name))
		block, _ := pem.Decode(text)
		if err != nil || block == nil {
			panic(name)
		}
		keys["the private key of "+name] = string(block.Bytes)
	}
	return newSearch(theMarks, keys)
})

func leak(text string) string { return theSearch().leak(text) }

// walk follows v through exported and unexported fields, pointers and
// containers as no printer would, and shows each string and byte slice.
func walk(
	v reflect.Value, path string, depth int, seen map[unsafe.Pointer]bool,
	show func(path, text string),
) {
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

func loadHeld(v reflect.Value, i int) (*cachedToken, bool) {
	if v.Type() != reflect.TypeFor[refresher]() || v.Type().Field(i).Name != "current" ||
		!v.CanAddr() {
		return nil, false
	}
	return (*refresher)(v.Addr().UnsafePointer()).current.Load(), true
}

// walkError searches an error's text, every field that a walk reaches, and
// whatever it wraps.
func walkError(t *testing.T, name string, err error) {
	t.Helper()
	theSearch().errorIn(t.Errorf, name, err, nil)
}

// errorIn does that. Errors whose texts and types are in seen are not printed in every way again.
func (s *search) errorIn(
	complain func(string, ...any), name string, err error, seen map[string]bool,
) {
	for e, i := err, 0; e != nil; e, i = errors.Unwrap(e), i+1 {
		if like := fmt.Sprintf("%T %v", e, e); !seen[like] {
			if seen != nil {
				seen[like] = true
			}
			for how, text := range printings(e) {
				if what := s.leak(text); what != "" {
					complain("%s: %s of %T (unwrapped %d times) shows %s", name, how, e, i, what)
				}
			}
		}
		walk(reflect.ValueOf(e), name, 0, map[unsafe.Pointer]bool{}, func(path, text string) {
			if what := s.leak(text); what != "" {
				complain("%s of %T holds %s", path, e, what)
			}
		})
		if r, ok := e.(interface{ Unwrap() []error }); ok {
			for _, e := range r.Unwrap() {
				s.errorIn(complain, name, e, seen)
			}
		}
	}
}

// TestNoErrorShowsASecret: An identity provider, a proxy or net/http may repeat
// the secret that it was sent, in any form and in any place of its answer. No
// error shows it, nor does any error that it wraps.
func TestNoErrorShowsASecret(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(theSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	basic := base64.StdEncoding.EncodeToString([]byte("client:" + theSecret))
	echoes := map[string]string{
		"plain": theSecret, "twice": theSecret + theSecret, "prefix": theSecret[:8],
		"suffix": theSecret[8:], "quoted": "'" + theSecret + "'", "basic": "Basic " + basic,
		"base64":           base64.StdEncoding.EncodeToString([]byte(theSecret)),
		"split":            theSecret[:8] + "\x00" + theSecret[8:],
		"escape":           theSecret[:8] + "\x1b[0m" + theSecret[8:],
		"at the cut":       strings.Repeat("x", 495) + theSecret,
		"at the other cut": strings.Repeat("y", 8185) + theSecret,
	}
	for name, echo := range echoes {
		for kind, h := range map[string]http.HandlerFunc{
			"description": idptest.Error(401, "invalid_client", "wrong: "+echo),
			"code":        idptest.Error(401, echo, ""),
			"uri": idptest.JSON(400,
				map[string]string{"error": "x", "error_uri": "https://x/" + echo, "correlation_id": echo}),
			"200": idptest.JSON(200,
				map[string]string{"access_token": echo + " ", "token_type": echo, "scope": echo}),
			"type":     idptest.JSON(200, map[string]string{"access_token": "x", "token_type": echo}),
			"lifetime": idptest.JSON(200, map[string]any{"access_token": "x", "expires_in": []string{echo}}),
			"html":     idptest.Body("<html>" + echo),
		} {
			for _, useBasic := range []bool{false, true} {
				idp := idptest.New()
				idp.Always(h)
				p, err := NewClientCredentials(ClientCredentialsConfig{
					Endpoint: TokenURL("https://idp.test/token"), ClientID: "client",
					ClientSecret: SecretFile(path), BasicAuth: useBasic,
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
		if !r.Close {
			t.Error("the package's own client keeps its connection, and net/http will log what comes on it unasked")
		}
		c, _, _ := http.NewResponseController(w).Hijack()
		fmt.Fprintf(c, "HTTP/1.1 %s\r\n\r\n", theSecret)
		c.Close()
	}))
	defer s.Close()
	p, _ := NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL(s.URL), ClientID: "client",
		ClientSecret: SecretString(theSecret)})
	_, err := p.Token(t.Context())
	// net/http quotes the status.
	if err == nil || !strings.HasSuffix(err.Error(), "malformed HTTP status code") {
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
	p, _ = NewClientCredentials(ClientCredentialsConfig{Endpoint: TokenURL(s.URL), ClientID: "client",
		ClientSecret: SecretString(theSecret),
		Options:      Options{HTTPClient: &http.Client{Transport: panicking{}}}})
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
