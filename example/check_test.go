package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cdfauth"
	"cdfauth/internal/idptest"
)

// checked runs -check against an embedded provider, after change has broken it or
// added flags.
func checked(t *testing.T, change func(idp *idptest.Provider, args *[]string, env map[string]string)) (string, error) {
	t.Helper()
	idp := idptest.New()
	api, stop, err := idp.Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	env := map[string]string{"IDP_CLIENT_SECRET": idp.Clients["client"]}
	args := []string{"-check", "-flow", "client_credentials", "-issuer", idp.Issuer, "-client-id", "client", "-api", api}
	if change != nil {
		change(idp, &args, env)
	}
	var out bytes.Buffer
	err = run(t.Context(), args, func(name string) string { return env[name] }, &out)
	if strings.Contains(out.String(), idp.Clients["client"]) || strings.Contains(out.String(), "tok-") {
		t.Errorf("a secret was printed: %s", out.String())
	}
	return out.String(), err
}

// set replaces the value that follows a flag, or adds both.
func set(args *[]string, flag, value string) {
	for i, arg := range *args {
		if arg == flag {
			(*args)[i+1] = value
			return
		}
	}
	*args = append(*args, flag, value)
}

// TestCheckWalksTheWay: where all is well, each step has its line.
func TestCheckWalksTheWay(t *testing.T) {
	out, err := checked(t, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"ok    proxy", "ok    connect", "ok    clock", "ok    metadata", "ok    cache", "ok    token", "ok    API"} {
		if !strings.Contains(out, want) {
			t.Errorf("no line %q in\n%s", want, out)
		}
	}
}

// TestCheckAdvises: at the first step that fails the check stops, and says what to do.
func TestCheckAdvises(t *testing.T) {
	t.Setenv("NO_PROXY", "*")
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = log.New(io.Discard, "", 0)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	closed := closedPort(t)
	answering := func(h http.HandlerFunc) string {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		return server.URL
	}
	jwt := "e30." + base64.RawURLEncoding.EncodeToString([]byte(`{"aud":"https://other.cognitedata.com","iss":"https://idp.test"}`)) + ".c2ln"

	for _, tt := range []struct {
		name   string
		change func(idp *idptest.Provider, args *[]string, env map[string]string)
		step   string // that fails
		advice string
	}{
		{"name", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			set(args, "-issuer", "https://idp.invalid")
		}, "name", "does not know the name"},
		{"stopped provider", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			set(args, "-issuer", closed)
		}, "connect", "No connection opens"},
		{"TLS interceptor", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			set(args, "-issuer", untrusted.URL)
		}, "TLS", "its root certificate is missing"},
		{"clock", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			set(args, "-issuer", answering(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", time.Now().Add(-2*time.Hour).UTC().Format(http.TimeFormat))
			}))
		}, "clock", "Set this computer's clock"},
		{"wrong tenant", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			(*args)[3] = "-authority"
			set(args, "-cluster", "greenfield")
			set(args, "-authority", answering(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, `{"error_description":"AADSTS90002: Tenant not found."}`, http.StatusBadRequest)
			}))
		}, "metadata", "does not know the tenant"},
		{"no metadata", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			set(args, "-issuer", answering(http.NotFound))
		}, "metadata", "There is no metadata"},
		{"sign-in page of a proxy", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			set(args, "-issuer", answering(idptest.Status(200)))
		}, "metadata", "sign-in page of a proxy"},
		{"firewall", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			set(args, "-issuer", answering(idptest.Status(403)))
		}, "metadata", "a proxy or a firewall"},
		{"redirect", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			set(args, "-issuer", answering(idptest.Status(302, "Location", "https://elsewhere.test/")))
		}, "metadata", "leads elsewhere"},
		{"issuer", func(idp *idptest.Provider, _ *[]string, _ map[string]string) {
			idp.Metadata(func(m map[string]any) { m["issuer"] = "https://other.test" })
		}, "metadata", "what the provider calls itself"},
		{"wrong secret", func(_ *idptest.Provider, _ *[]string, env map[string]string) {
			env["IDP_CLIENT_SECRET"] = "wrong"
		}, "token", "copy its value, not its id"},
		{"expired secret at Entra", func(idp *idptest.Provider, _ *[]string, _ map[string]string) {
			idp.Always(idptest.Error(401, "invalid_client", "AADSTS7000222: The provided client secret keys are expired."))
		}, "token", "The client secret has expired"},
		{"wrong scope", func(idp *idptest.Provider, _ *[]string, _ map[string]string) {
			idp.Always(idptest.Error(400, "invalid_scope", ""))
		}, "token", "does not know a scope"},
		{"flow not permitted", func(idp *idptest.Provider, _ *[]string, _ map[string]string) {
			idp.Always(idptest.Error(400, "unauthorized_client", ""))
		}, "token", "may not use this flow"},
		{"API does not take the token", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			set(args, "-api", answering(idptest.Status(401)))
		}, "API", "trust this identity provider"},
		{"audience of another cluster", func(idp *idptest.Provider, args *[]string, _ map[string]string) {
			idp.Always(idptest.Body(`{"access_token":"` + jwt + `","expires_in":3600}`))
			set(args, "-api", answering(idptest.Status(401)))
		}, "API", "The token is for https://other.cognitedata.com"},
		{"API down", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			set(args, "-api", closed)
		}, "API", "The API was not reached"},
		{"API fails", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			set(args, "-api", answering(idptest.Status(503)))
		}, "API", "a problem of its own"},
		{"no cluster", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			set(args, "-api", "")
		}, "API", "-cluster"},
		{"project", func(_ *idptest.Provider, args *[]string, _ map[string]string) {
			set(args, "-project", "other")
		}, "project", "not for this project"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := checked(t, tt.change)
			if !errors.Is(err, errCheckFailed) {
				t.Fatalf("%v\n%s", err, out)
			}
			if !strings.Contains(out, "FAIL  "+tt.step+" ") || !strings.Contains(out, tt.advice) {
				t.Errorf("want step %q to fail with advice %q, got\n%s", tt.step, tt.advice, out)
			}
		})
	}
}

// closedPort returns the URL of a port at which nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// TestCheckShowsTheCache: whose sign-ins are in the cache, and of what age, but none of
// the tokens.
func TestCheckShowsTheCache(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_CACHE_HOME", home)
	t.Setenv("LocalAppData", home)
	path, err := cdfauth.DefaultCachePath("client")
	if err != nil {
		t.Fatal(err)
	}
	err = os.MkdirAll(filepath.Dir(path), 0o700)
	if err != nil {
		t.Fatal(err)
	}
	const content = `{"AccessToken":{"a":{"secret":"t0ken-1"}},"RefreshToken":{"r":{"secret":"t0ken-2"}},` +
		`"Account":{"x":{"username":"ada@example.com"},"y":{"username":"bob@example.com"}}}`
	err = os.WriteFile(path, []byte(content), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	out, err := checked(t, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(out, `1 access and 1 refresh tokens, accounts ["ada@example.com" "bob@example.com"]`) {
		t.Error(out)
	}
	if !strings.Contains(out, "LoginHint selects one") || strings.Contains(out, "t0ken") {
		t.Error(out)
	}
}

// TestCheckKnowsTheProvider: the target is found in flags, in the toolkit's variables
// and in a configuration alike.
func TestCheckKnowsTheProvider(t *testing.T) {
	env := func(pairs ...string) target {
		return envTarget(func(name string) string {
			for i := 0; i < len(pairs); i += 2 {
				if pairs[i] == name {
					return pairs[i+1]
				}
			}
			return ""
		})
	}
	for _, tt := range []struct {
		name string
		got  target
		want string
	}{
		{"tenant", endpointTarget(options{tenant: "t"}), "https://login.microsoftonline.com/t/v2.0/.well-known/openid-configuration"},
		{"AD FS", endpointTarget(options{authority: "https://fs.test/adfs/"}), "https://fs.test/adfs/.well-known/openid-configuration"},
		{"discovery", endpointTarget(options{discovery: "https://a.test/"}), "https://a.test/.well-known/openid-configuration"},
		{"token URL", endpointTarget(options{tokenURL: "https://a.test/token"}), "https://a.test/token"},
		{"variables: tenant", env("IDP_TENANT_ID", "t"), "https://login.microsoftonline.com/t/v2.0/.well-known/openid-configuration"},
		{"variables: cdf", env("PROVIDER", "cdf"), "https://auth.cognite.com/oauth2/token"},
		{"configuration", configTarget([]byte(`{"interactive":{"authority_url":"https://a.test/t"}}`)), "https://a.test/t/v2.0/.well-known/openid-configuration"},
	} {
		if tt.got.address != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, tt.got.address, tt.want)
		}
	}
}
