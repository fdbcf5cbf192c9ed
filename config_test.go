package cdfauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"cdfauth/internal/idptest"
)

// wire returns the requests that a provider sends for its first token, as method, URL and
// parameters.
func wire(t *testing.T, load func(Options) (Provider, error)) (sent []string) {
	t.Helper()
	hc := &http.Client{Transport: tripper(func(r *http.Request) (*http.Response, error) {
		line := r.Method + " " + r.URL.String()
		if r.Body != nil {
			b, _ := io.ReadAll(r.Body)
			form, _ := url.ParseQuery(string(b))
			for _, name := range []string{"client_assertion", "client_assertion_type"} {
				if form.Has(name) {
					form.Set(name, "…")
				}
			}
			for _, name := range slices.Sorted(maps.Keys(form)) {
				line += " " + name + "=" + form.Get(name)
			}
		}
		sent = append(sent, line)
		body := `{"access_token":"t","expires_in":3600}`
		if root, ok := strings.CutSuffix(r.URL.String(), wellKnown); ok {
			body = `{"issuer":"` + root + `","token_endpoint":"` + root +
				`/token","authorization_endpoint":"` + root + `/authorize","device_authorization_endpoint":"` +
				root + `/device"}`
		} else if strings.Contains(r.URL.Path, "device") {
			body = `{"error":"access_denied"}` // it ends the flow
		}
		return &http.Response{StatusCode: 200, Header: http.Header{},
			Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
	})}
	p, err := load(Options{HTTPClient: hc, Cache: new(MemoryCache)})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = p.Token(t.Context())
	return sent
}

// TestLoadSendsWhatThePythonSDKSends: a configuration for Cognite's Python SDK works here
// without a change. For each kind of credentials, the provider sends the requests and
// parameters that the SDK would send.
func TestLoadSendsWhatThePythonSDKSends(t *testing.T) {
	t.Parallel()
	_, pem, err := idptest.NewCertificate()
	if err != nil {
		t.Fatal(err)
	}
	pem = strings.ReplaceAll(pem, "\n", `\n`)
	for _, tt := range []struct{ config, want string }{
		{`{"client_credentials":{"token_url":"https://idp.test/token","client_id":"app","client_secret":"s","scopes":["b","a"],"audience":"api","max_age":60,"token_expiry_leeway_seconds":"30"}}`,
			"POST https://idp.test/token audience=api client_id=app client_secret=s grant_type=client_credentials max_age=60 scope=b a"},
		{`{"client_credentials":{"token_url":"https://idp.test/token","client_id":"app","client_secret":"s","scopes":null}}`,
			"POST https://idp.test/token client_id=app client_secret=s grant_type=client_credentials"},
		{`{"client_certificate":{"authority_url":"https://idp.test/tenant","client_id":"app","certificate":"` +
			pem + `","scopes":"a b"}}`,
			"POST https://idp.test/tenant/oauth2/v2.0/token client_assertion=… client_assertion_type=… client_id=app grant_type=client_credentials scope=a b"},
		{`{"device_code":{"authority_url":"https://idp.test/11111111-2222-3333-4444-555555555555","client_id":"app","cdf_cluster":"greenfield","audience":"api","x":"y"}}`,
			"GET https://idp.test/11111111-2222-3333-4444-555555555555/v2.0/.well-known/openid-configuration\n" +
				"POST https://idp.test/11111111-2222-3333-4444-555555555555/oauth2/v2.0/devicecode audience=api client_id=app scope=https://greenfield.cognitedata.com/IDENTITY https://greenfield.cognitedata.com/user_impersonation openid profile offline_access x=y"},
		{`{"device_code":{"oauth_discovery_url":"https://idp.test/oauth","authority_url":null,"client_id":"app","scopes":["read"]}}`,
			"GET https://idp.test/oauth/.well-known/openid-configuration\nPOST https://idp.test/oauth/device client_id=app scope=read openid profile offline_access"},
	} {
		sent := wire(t, func(o Options) (Provider, error) { return Load([]byte(tt.config), o) })
		if got := strings.Join(sent, "\n"); got != tt.want {
			t.Errorf("%s\nsent %s\nwant %s", tt.config, got, tt.want)
		}
	}
	for _, config := range []string{`{"token":"my-token"}`, ` {"token":{"token":"my-token"}} `} {
		p, err := Load([]byte(config), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if tok, err := p.Token(t.Context()); err != nil || tok.AccessToken() != "my-token" {
			t.Errorf("%s: %v, %v", config, tok.AccessToken(), err)
		}
	}
}

// TestLoadSetsWhatIsNotSent: the keys for leeway, cache, port, prompt and hint reach the
// fields of the provider's configuration. No request shows them.
func TestLoadSetsWhatIsNotSent(t *testing.T) {
	t.Parallel()
	beside := Options{Leeway: 7, Cache: new(MemoryCache)}
	load := func(more map[string]any) InteractiveConfig {
		t.Helper()
		values := map[string]any{"authority_url": "https://idp.test/t", "client_id": "app"}
		maps.Copy(values, more)
		keys := map[string]json.RawMessage{}
		for key, value := range values {
			raw, err := json.Marshal(value)
			must(t, err)
			keys[key] = raw
		}
		var wrong problems
		var credentials browserCredentials
		wrong.decode(keys, &credentials)
		credentials.check(&wrong)
		must(t, wrong.err())
		config, err := credentials.config(beside)
		must(t, err)
		return config
	}
	for text, want := range map[string]string{"": "7ns", "30": "30s", "1.5": "1.5s", "0": "1ns"} {
		more := map[string]any{}
		if text != "" {
			more["token_expiry_leeway_seconds"] = json.Number(text)
		}
		if got := load(more).Leeway.String(); got != want {
			t.Errorf("%s: leeway %s, want %s", text, got, want)
		}
	}
	file := filepath.Join(t.TempDir(), "c.bin")
	for _, tt := range []struct {
		more map[string]any
		want string
	}{
		{nil, "*cdfauth.MemoryCache"},
		{map[string]any{"token_cache_path": file}, "*cdfauth.FileCache"},
		{map[string]any{"token_cache_path": file, "mem_cache_only": true}, "*cdfauth.MemoryCache"},
		{map[string]any{"token_cache_path": "~ada/x", "mem_cache_only": true}, "*cdfauth.MemoryCache"},
		{map[string]any{"mem_cache_only": false, "clear_cache": true}, "*cdfauth.clearedCache"},
		{map[string]any{"clear_cache": false}, "*cdfauth.MemoryCache"},
	} {
		if got := fmt.Sprintf("%T", load(tt.more).Cache); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.more, got, tt.want)
		}
	}
	if c := load(map[string]any{"token_cache_path": file}).Cache.(*FileCache); c.path != file {
		t.Errorf("the cache is at %s", c.path)
	}
	if load(map[string]any{"mem_cache_only": true}).Cache == beside.Cache {
		t.Error("with mem_cache_only, the cache given beside it was used")
	}
	beside.Cache = nil
	// This machine has a home directory.
	if c, ok := load(map[string]any{"clear_cache": true}).Cache.(*clearedCache); ok {
		if path, _ := DefaultCachePath("app"); c.cache.(*FileCache).path != path {
			t.Errorf("to be cleared is %s, want %s", c.cache.(*FileCache).path, path)
		}
	} else if _, err := DefaultCachePath("app"); err == nil {
		t.Error("the default cache is not cleared")
	}
	c := load(map[string]any{"prompt": "login", "login_hint": "ada",
		"redirect_port": json.Number("8400"), "audience": "api"})
	if c.Prompt != "login" || c.LoginHint != "ada" || c.RedirectPort != 8400 ||
		c.Params.Encode() != "audience=api" {
		t.Errorf("%+v", c)
	}
	for _, kind := range []string{"device_code", "interactive"} {
		config := `{"` + kind +
			`":{"authority_url":"https://idp.test/t","client_id":"app","cdf_cluster":"greenfield"}}`
		if p, err := Load([]byte(config), beside); err != nil {
			t.Errorf("%s: %v, %v", kind, p, err)
		}
	}
}

// TestLoadNamesEveryKeyThatIsWrong: the author of a configuration knows the names of its
// keys, not of Go's fields. The error names every key that is wrong, all at once, and shows
// no value that may be secret.
func TestLoadNamesEveryKeyThatIsWrong(t *testing.T) {
	t.Parallel()
	const kinds = "client_certificate, client_credentials, device_code, interactive, token"
	for _, tt := range []struct{ config, want string }{
		{``, "want one JSON object (not YAML) with one key, the kind: " + kinds},
		{`null`, "want one JSON object"},
		{`[]`, "want one JSON object"},
		{`"token"`, "want one JSON object"},
		{`{}`, "want one JSON object"},
		{`token: hunter2`, "want one JSON object"},
		{`{"token":"hunter2"} {}`, "want one JSON object"},
		{`{"token":"hunter2","client_credentials":{}}`, "want one JSON object"},
		{`{"toke":"hunter2"}`, `"toke" is no kind of credentials: want one of ` + kinds},
		{`{"client_credentials":"hunter2"}`, "client_credentials is a string: want an object"},
		{`{"device_code":[1]}`, "device_code is a list"},
		{`{"token":null}`, "token is null"},
		{`{"token":""}`, "token: token is missing"},
		{`{"token":"hunter 2"}`, "token has a character that is not visible ASCII"},
		{`{"token":{"token":{"hunter2":1}}}`, "token is an object: want a string"},
		{`{"client_credentials":{}}`,
			"cdfauth: Load: client_credentials: token_url is missing; client_id is missing; client_secret is missing"},
		{`{"interactive":{"authority_url":"https://idp.test","token_cache_path":"~ada/x"}}`,
			"client_id is missing; token_cache_path begins with ~"},
		{`{"client_credentials":{"token_url":"http://idp.test","client_id":"a","client_secret":"hunter2"}}`,
			"token_url must be https"},
		{`{"client_credentials":{"token_url":"https://idp.test","client_id":"a","client_secret":["hunter2"]}}`,
			"client_secret is a list: want a string"},
		{`{"client_credentials":{"token_url":"https://idp.test","client_id":"a ","client_secret":"hunter2"}}`,
			"client_id has a blank"},
		{`{"client_credentials":{"token_url":"https://idp.test","client_id":"a","client_secret":"hunter2","scopes":["a b"]}}`,
			`scopes has "a b"`},
		{`{"client_credentials":{"token_url":"https://idp.test","client_id":"a","client_secret":"hunter2","scopes":["a",{}]}}`,
			`scopes has an element, [1], that is an object: want a string`},
		{`{"client_credentials":{"token_url":"https://idp.test","client_id":"a","client_secret":"hunter2","scopes":{}}}`,
			`scopes is an object: want a string`},
		{`{"client_credentials":{"token_url":"https://idp.test","client_id":"a","client_secret":"hunter2","grant_type":"password"}}`,
			`"grant_type", which is not for callers to set`},
		{`{"client_credentials":{"token_url":"https://idp.test","client_id":"a","client_secret":"hunter2","x":true}}`,
			`x is a boolean: want a string`},
		{`{"client_credentials":{"token_url":"https://idp.test","client_id":"a","client_secret":"hunter2","token_expiry_leeway_seconds":-1}}`,
			`token_expiry_leeway_seconds is not`},
		{`{"client_credentials":{"token_url":"https://idp.test","client_id":"a","client_secret":"hunter2","token_expiry_leeway_seconds":"soon"}}`,
			`token_expiry_leeway_seconds is not`},
		{`{"client_certificate":{"authority_url":"https://idp.test/t","client_id":"a","certificate":"hunter2","cert_thumbprint":"xyz"}}`,
			`cert_thumbprint is "xyz": want the 40 hexadecimal digits`},
		{`{"client_certificate":{"authority_url":"https://idp.test/t","client_id":"a","certificat":"hunter2"}}`,
			`"certificat" is no key of it: want authority_url, cert_thumbprint, certificate, client_id, scopes, token_expiry_leeway_seconds; certificate is missing`},
		{`{"client_credentials":{"token_url":["x"],"token_expiry_leeway_seconds":"","client_id":{},"client_secret":"hunter2"}}`,
			"client_credentials: token_url is a list: want a string; client_id is an object: want a string; token_expiry_leeway_seconds is not a number of seconds"},
		// Keys are case-sensitive.
		{`{"client_credentials":{"token_url":"https://idp.test","Client_ID":"a","client_secret":"hunter2"}}`,
			"client_id is missing"},
		{`{"client_credentials":{"token_url":"https://idp.test","client_id":"a","client_secret":"hunter2","scopes":[null]}}`,
			`[0], that is null`},
		{`{"interactive":{"client_id":"a","authority_url":"https://a.test/t","redirect_port":true}}`,
			`redirect_port is not a number`},
		{`{"interactive":{"client_id":"a","authority_url":"https://a.test/t","token_cache_path":"~ada/x"}}`,
			`token_cache_path begins with ~`},
		{`{"device_code":{"client_id":"a","authority_url":"https://a.test/t","scopes":[],"prompt":"login"}}`,
			`"prompt", which is not for callers to set`},
		{`{"interactive":{"client_id":"a"}}`, "authority_url is missing, and so is oauth_discovery_url"},
		{`{"interactive":{"client_id":"a","authority_url":"https://a.test/t","oauth_discovery_url":"https://b.test"}}`,
			"authority_url and oauth_discovery_url are both set"},
		{`{"interactive":{"client_id":"a","authority_url":"https://a.test/t","client_secret":"hunter2"}}`,
			`"client_secret" is no key of it`},
		{`{"interactive":{"client_id":"a","authority_url":"https://a.test/t","prompt":"none"}}`,
			`prompt is "none"`},
		{`{"interactive":{"client_id":"a","authority_url":"https://a.test/t","redirect_port":"x"}}`,
			`redirect_port is not a number`},
		{`{"interactive":{"client_id":"a","authority_url":"https://a.test/t","redirect_port":70000}}`,
			`redirect_port is 70000: want a port from 1 to 65535`},
		{`{"interactive":{"client_id":"a","authority_url":"https://a.test/t","clear_cache":"yes"}}`,
			`clear_cache is a string: want true or false`},
		{`{"interactive":{"client_id":"a","oauth_discovery_url":"https://u:hunter2@a.test/t"}}`,
			`oauth_discovery_url has a user name`},
		{`{"device_code":{"client_id":"a","authority_url":"https://a.test/t","cdf_cluster":"../evil"}}`,
			`cdf_cluster is "../evil": want the name of a cluster`},
	} {
		p, err := Load([]byte(tt.config), Options{})
		if err == nil || p != nil || !strings.Contains(err.Error(), tt.want) ||
			!strings.HasPrefix(err.Error(), "cdfauth: Load: ") || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s:\ngot  %v\nwant %s", tt.config, err, tt.want)
		}
	}
}

// TestLoadUsesTheOptionsBesideTheConfiguration: a configuration cannot hold a logger or an
// http.Client, so that the provider uses those of the Options.
func TestLoadUsesTheOptionsBesideTheConfiguration(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	idp := idptest.New()
	p, err := Load([]byte(`{"client_credentials":{"token_url":"https://idp.test/token","client_id":"client","client_secret":"s3cret/of+the client"}}`),
		Options{HTTPClient: idp.Client(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Token(t.Context()); err != nil || !strings.Contains(log.String(), "token request") {
		t.Error(err, log.String())
	}
}

// TestLoadTakesWhatYAMLMakesOfAValue: programs convert YAML to the JSON that Load takes. A
// YAML library writes an identifier of digits as a number, and a key without a value as
// null.
func TestLoadTakesWhatYAMLMakesOfAValue(t *testing.T) {
	t.Parallel()
	config := `{"client_credentials":{"token_url":"https://idp.test/token","client_id":12345678901234567890,` +
		`"client_secret":1.50,"scopes":null,"audience":null,"x":7}}`
	got := wire(t, func(o Options) (Provider, error) { return Load([]byte(config), o) })
	want := "POST https://idp.test/token client_id=12345678901234567890 client_secret=1.50 grant_type=client_credentials x=7"
	if strings.Join(got, "\n") != want {
		t.Errorf("sent %s\nwant %s", got, want)
	}
}

// TestLoadDeviceCodeNeedsScopesOrACluster: without scopes, a person would sign in for a token
// that CDF refuses. So scopes or cdf_cluster has to be there, as in the Python SDK. An empty
// list says that no scopes are wanted.
func TestLoadDeviceCodeNeedsScopesOrACluster(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		more  string
		taken bool
	}{
		{``, false},
		{`,"scopes":null`, false},
		{`,"cdf_cluster":""`, false},
		{`,"scopes":[]`, true},
		{`,"scopes":""`, true},
		{`,"scopes":"a b"`, true},
		{`,"cdf_cluster":"greenfield"`, true},
	} {
		_, err := Load([]byte(`{"device_code":{"client_id":"a","authority_url":"https://a.test/t"`+
			tt.more+`}}`),
			Options{Cache: new(MemoryCache)})
		if tt.taken && err != nil {
			t.Errorf("%s: %v", tt.more, err)
		}
		if !tt.taken &&
			(err == nil || !strings.Contains(err.Error(), "scopes is missing, and so is cdf_cluster")) {
			t.Errorf("%s: %v", tt.more, err)
		}
	}
}

// TestLoadExpandsATildeInTheCachePath: no shell expands a ~ in a configuration, so that Load
// does. The Python SDK would make a directory of that name. ~ada and a ~ without a home
// directory are errors.
func TestLoadExpandsATildeInTheCachePath(t *testing.T) {
	home, err := os.UserHomeDir()
	if err != nil {
		skipOutsideCI(t, "there is no home directory")
	}
	separator := string(os.PathSeparator)
	keys := personKeys{CachePath: configText("~" + separator + "tokens.bin")}
	options, err := keys.options(Options{})
	must(t, err)
	if got, want := options.Cache.(*FileCache).path, filepath.Join(home, "tokens.bin"); got != want {
		t.Errorf("the cache is at %s, want %s", got, want)
	}
	for _, path := range []string{"~", "~ada" + separator + "tokens.bin"} {
		if _, err := expandHome(path); err == nil {
			t.Errorf("%s was taken", path)
		}
	}
	if runtime.GOOS != "windows" {
		t.Setenv("HOME", "")
		if _, err := expandHome("~/x"); err == nil ||
			!strings.Contains(err.Error(), "token_cache_path begins with ~") {
			t.Errorf("without a home directory: %v", err)
		}
	}
}
