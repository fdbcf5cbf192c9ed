//go:build interop

package cdfauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"cdfauth"
	"cdfauth/internal/idptest"
)

// These tests share cache files with MSAL for Python (Debian's python3-msal), as Cognite's
// Python SDK uses it:
//
//	apt-get install -y python3-msal && go test -tags interop -run InteropPython .

// tenant is the first segment of every path at the identity provider: MSAL takes that for
// the realm.
const tenant = "https://idp.test/11111111-2222-3333-4444-555555555555"

var styles = map[string]cdfauth.Endpoint{"entra": cdfauth.Authority(tenant),
	"oidc": cdfauth.Issuer(tenant)}

// shared is a cache file and an identity provider that rotates refresh tokens, for
// programs in both languages.
type shared struct {
	idp   *idptest.Provider
	url   string // where Python finds it
	path  string
	style string
}

func newShared(t *testing.T, style string) *shared {
	idp := idptest.New()
	idp.Interval = time.Second
	server := httptest.NewServer(idp)
	t.Cleanup(server.Close)
	return &shared{idp: idp, url: server.URL,
		path: filepath.Join(t.TempDir(), "cache.bin"), style: style}
}

// start is a Go program that starts.
func (s *shared) start(t *testing.T, flow string) cdfauth.Provider {
	t.Helper()
	cache, err := cdfauth.NewFileCache(s.path)
	if err != nil {
		t.Fatal(err)
	}
	endpoint, options := styles[s.style], cdfauth.Options{Cache: cache, HTTPClient: s.idp.Client()}
	var p cdfauth.Provider
	switch flow {
	case "client credentials":
		p, err = cdfauth.NewClientCredentials(cdfauth.ClientCredentialsConfig{Endpoint: endpoint,
			ClientID: "client", ClientSecret: cdfauth.SecretString("s3cret/of+the client"),
			Scopes: []string{"read"}, Options: options})
	case "device":
		p, err = cdfauth.NewDeviceCode(cdfauth.DeviceCodeConfig{Endpoint: endpoint, ClientID: "app",
			Scopes:   []string{"read"},
			ShowCode: func(context.Context, cdfauth.DeviceAuthorization) error { return nil },
			Options:  options})
	case "interactive":
		p, err = cdfauth.NewInteractive(cdfauth.InteractiveConfig{Endpoint: endpoint, ClientID: "app",
			Scopes: []string{"read"}, RedirectURL: "http://127.0.0.1:0/",
			OpenBrowser: s.browse, Output: io.Discard, Options: options})
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// browse is a browser: what is said to the provider stays in this process, what it is sent
// back to is the listener.
func (s *shared) browse(_ context.Context, address string) error {
	go func() {
		resp, err := s.idp.Client().Transport.RoundTrip(httptest.NewRequest("GET", address, nil))
		if err == nil {
			if resp, err = http.Get(resp.Header.Get("Location")); err == nil {
				resp.Body.Close()
			}
		}
	}()
	return nil
}

// token is what a Go program gets, without anybody being asked unless it signs in, and how
// many token requests it took.
func (s *shared) token(t *testing.T, flow string, signIn bool) (access string, requests int) {
	t.Helper()
	before, ctx := s.idp.Tokens(), t.Context()
	if !signIn {
		ctx = cdfauth.WithoutInteraction(ctx)
	}
	tok, err := s.start(t, flow).Token(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if flow != "client credentials" && tok.Username() != "ada@example.com" {
		t.Errorf("a token of %q", tok.Username())
	}
	return tok.AccessToken(), s.idp.Tokens() - before
}

// python runs a Python program on the file.
func (s *shared) python(t *testing.T, command string) (access string, requests int) {
	t.Helper()
	var got struct {
		Token, Error       string
		Accounts, Requests int
	}
	out := s.run(t, "testdata/msal-cache/program.py", s.path, s.url, s.style, command)
	if err := json.Unmarshal(out, &got); err != nil || got.Token == "" ||
		command != "app" && got.Accounts != 1 {
		t.Fatalf("program.py %s: %v: %s", command, err, out)
	}
	return got.Token, got.Requests
}

// check has the file judged by check_cache.py, as by MSAL and by the SDK.
func (s *shared) check(t *testing.T, more ...string) {
	t.Helper()
	s.run(t, "testdata/msal-cache/check_cache.py", append([]string{s.path}, more...)...)
}

// run returns the last line that a script prints.
func (s *shared) run(t *testing.T, script string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(script, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", script, err, out, stderr.String())
	}
	out = bytes.TrimSpace(out)
	return out[bytes.LastIndexByte(out, '\n')+1:]
}

// file is the content of the cache.
func (s *shared) file(t *testing.T) map[string]map[string]map[string]any {
	t.Helper()
	var c map[string]map[string]map[string]any
	b, err := os.ReadFile(s.path)
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// expire makes the access tokens in the file old ones.
func (s *shared) expire(t *testing.T) {
	t.Helper()
	c := s.file(t)
	for _, e := range c["AccessToken"] {
		e["expires_on"] = fmt.Sprint(time.Now().Add(-time.Minute).Unix())
	}
	b, err := json.Marshal(c)
	if err == nil {
		err = os.WriteFile(s.path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (s *shared) signIns() int {
	return len(s.idp.Requests("/devicecode")) + len(s.idp.Requests("/authorize"))
}

// everyStyle runs f for each kind of endpoint and each of the flows.
func everyStyle(t *testing.T, flows []string, f func(t *testing.T, s *shared, flow string)) {
	for style := range styles {
		for _, flow := range flows {
			t.Run(style+"/"+flow, func(t *testing.T) {
				t.Parallel()
				f(t, newShared(t, style), flow)
			})
		}
	}
}

var peoplesFlows = []string{"device", "interactive"}

// TestInteropPythonReads: what each flow writes serves MSAL and the Python SDK, under the
// very keys that they would use.
func TestInteropPythonReads(t *testing.T) {
	everyStyle(t, peoplesFlows, func(t *testing.T, s *shared, flow string) {
		access, _ := s.token(t, flow, true)
		s.check(t, "--username", "ada@example.com", "--expect",
			"account,at,rt,rt_rotated_in_place,keys,sdk_device_at,sdk_device_rt,unknown_sections_kept")
		if theirs, n := s.python(t, "silent"); theirs != access || n != 0 {
			t.Errorf("Python has %s after %d requests, want %s after none", theirs, n, access)
		}
	})
	everyStyle(t, []string{"client credentials"}, func(t *testing.T, s *shared, flow string) {
		access, _ := s.token(t, flow, false)
		s.check(t, "--expect", "keys,unknown_sections_kept")
		if theirs, n := s.python(t, "app"); theirs != access || n != 0 {
			t.Errorf("Python has %s after %d requests, want %s after none", theirs, n, access)
		}
	})
}

// TestInteropPythonWrites: a sign-in made by Python serves both flows here, without a
// request while its token is good, and by one refresh when it is not.
func TestInteropPythonWrites(t *testing.T) {
	everyStyle(t, peoplesFlows, func(t *testing.T, s *shared, flow string) {
		access, _ := s.python(t, "sign-in")
		if mine, n := s.token(t, flow, false); mine != access || n != 0 {
			t.Errorf("%s after %d requests, want %s after none", mine, n, access)
		}
		s.expire(t)
		if mine, n := s.token(t, flow, false); mine == access || n != 1 {
			t.Errorf("%d requests for a refresh, another token: %t", n, mine != access)
		}
		s.check(t, "--expect", "account,at,rt,rt_rotated_in_place,keys")
		// And what the checker writes, after a refresh by its own provider: an access
		// token of nobody in particular, which does not count where the file has an
		// account, and a refresh token of ada's, which does.
		s.check(t, "--out", s.path)
		s.expire(t)
		s.idp.Fault(idptest.Body(`{"access_token":"after-theirs","expires_in":3600}`))
		if mine, n := s.token(t, flow, false); mine != "after-theirs" || n != 1 {
			t.Errorf("%s after %d requests, want one refresh", mine, n)
		}
		requests := s.idp.Requests("/token")
		if sent := requests[len(requests)-1].Form.Get("refresh_token"); sent != "RT-rotated" {
			t.Errorf("redeemed was %s, want the checker's", sent)
		}
	})
}

// TestInteropPythonRotation: both redeem refresh tokens in turn, each the one that the
// other was given. The provider would end the sign-in if one were used twice; there is one
// sign-in, and neither leaves twins behind.
func TestInteropPythonRotation(t *testing.T) {
	everyStyle(t, peoplesFlows, func(t *testing.T, s *shared, flow string) {
		s.token(t, flow, true)
		seen := map[string]bool{}
		for round := range 5 {
			s.expire(t)
			theirs, n := s.python(t, "silent")
			if n != 1 || seen[theirs] {
				t.Fatalf("round %d: Python made %d requests, got an old token: %t", round, n, seen[theirs])
			}
			if mine, n := s.token(t, flow, false); mine != theirs || n != 0 {
				t.Fatalf("round %d: %s after %d requests, want Python's %s after none", round, mine, n, theirs)
			}
			s.expire(t)
			mine, n := s.token(t, flow, false)
			if n != 1 || mine == theirs {
				t.Fatalf("round %d: %d requests, got an old token: %t", round, n, mine == theirs)
			}
			if theirs, n := s.python(t, "silent"); theirs != mine || n != 0 {
				t.Fatalf("round %d: Python has %s after %d requests, want ours, %s, after none", round,
					theirs, n, mine)
			}
			seen[theirs], seen[mine] = true, true
		}
		c := s.file(t)
		for _, section := range []string{"AccessToken", "RefreshToken", "IdToken", "Account",
			"AppMetadata"} {
			if len(c[section]) != 1 {
				t.Errorf("%d entries in %s", len(c[section]), section)
			}
		}
		if s.signIns() != 1 || s.idp.Refused() != 0 {
			t.Errorf("%d sign-ins, %d refresh tokens refused", s.signIns(), s.idp.Refused())
		}
		s.check(t, "--username", "ada@example.com", "--expect",
			"account,at,rt,rt_rotated_in_place,keys,sdk_device_at,sdk_device_rt")
	})
}
