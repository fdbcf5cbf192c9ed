package cdfauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cdfauth/internal/idptest"

	"github.com/google/go-cmp/cmp"
)

func cachedProvider(t testing.TB, idp *idptest.Provider, cache Cache, change func(*ClientCredentialsConfig)) *ClientCredentials {
	t.Helper()
	cfg := ClientCredentialsConfig{Endpoint: TokenURL(idp.Issuer + "/token"), ClientID: "client", ClientSecret: SecretString("s3cret/of+the client"),
		Scopes: []string{"a", "b"}, Options: Options{HTTPClient: idp.Client(), Cache: cache}}
	if change != nil {
		change(&cfg)
	}
	p, err := NewClientCredentials(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustToken(t testing.TB, p Provider) Token {
	t.Helper()
	tok, err := p.Token(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestAppTokenIsShared(t *testing.T) {
	idp := idptest.New()
	cache, err := NewFileCache(filepath.Join(t.TempDir(), "dir", "cache.bin"))
	if err != nil {
		t.Fatal(err)
	}
	first := mustToken(t, cachedProvider(t, idp, cache, nil))
	second := mustToken(t, cachedProvider(t, idp, cache, nil)) // as if started anew
	wantRequestsOf(t, idp, 1)
	if second.AccessToken() != first.AccessToken() || second.Expiry().Unix() != first.Expiry().Unix() || second.Scope() != "a b" {
		t.Errorf("%v, %v, scope %q", second.Equal(first), second.Expiry().Sub(first.Expiry()), second.Scope())
	}
	// What MSAL for Python would have written, and three fields more.
	blob, err := cache.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]map[string]map[string]any
	if err := json.Unmarshal(blob, &got); err != nil {
		t.Fatal(err)
	}
	at := unix(first.Expiry().Add(-time.Hour))
	want := map[string]map[string]map[string]any{"AccessToken": {"-idp.test-accesstoken-client-token-a b": {
		"credential_type": "AccessToken", "secret": first.AccessToken(), "home_account_id": nil, "environment": "idp.test", "client_id": "client", "target": "a b",
		"realm": "token", "token_type": "Bearer", "cached_at": at, "expires_on": unix(first.Expiry()), "extended_expires_on": unix(first.Expiry()),
		"issuer": "https://idp.test/token", "grant": "client_credentials", "granted": "a b"}}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestWhoseTokenIsIt: in one file, a token serves only what it was issued for.
func TestWhoseTokenIsIt(t *testing.T) {
	idp := idptest.New()
	for name, change := range map[string]func(*ClientCredentialsConfig){
		"another realm":     func(c *ClientCredentialsConfig) { c.Endpoint = TokenURL("https://idp.test/token/realms/b/token") },
		"another port":      func(c *ClientCredentialsConfig) { c.Endpoint = TokenURL("https://idp.test:8443/token") },
		"another host":      func(c *ClientCredentialsConfig) { c.Endpoint = TokenURL("https://idp2.test/token") },
		"another kind":      func(c *ClientCredentialsConfig) { c.Endpoint = Authority("https://idp.test/token") },
		"another client":    func(c *ClientCredentialsConfig) { c.ClientID = "client2" },
		"another scope":     func(c *ClientCredentialsConfig) { c.Scopes = []string{"a", "c"} },
		"fewer scopes":      func(c *ClientCredentialsConfig) { c.Scopes = []string{"a"} },
		"no scope":          func(c *ClientCredentialsConfig) { c.Scopes = nil },
		"another audience":  func(c *ClientCredentialsConfig) { c.Params = url.Values{"audience": {"x"}} },
		"audience, another": func(c *ClientCredentialsConfig) { c.Params = url.Values{"audience": {"y"}} },
	} {
		t.Run(name, func(t *testing.T) {
			idp.Clients["client2"] = "s3cret/of+the client"
			cache := &MemoryCache{}
			mine := mustToken(t, cachedProvider(t, idp, cache, nil))
			if name == "audience, another" {
				mine = mustToken(t, cachedProvider(t, idp, cache, func(c *ClientCredentialsConfig) { c.Params = url.Values{"audience": {"x"}} }))
			}
			theirs := mustToken(t, cachedProvider(t, idp, cache, change))
			if theirs.AccessToken() == mine.AccessToken() {
				t.Error("the token was taken for another's")
			}
			n := idp.Tokens()
			again := mustToken(t, cachedProvider(t, idp, cache, change))
			if again.AccessToken() != theirs.AccessToken() || idp.Tokens() != n {
				t.Error("the second one's own was not found")
			}
		})
	}
	// The order of scopes is nobody's business, nor is one that is there twice.
	cache := &MemoryCache{}
	a := mustToken(t, cachedProvider(t, idp, cache, nil))
	if b := mustToken(t, cachedProvider(t, idp, cache, func(c *ClientCredentialsConfig) { c.Scopes = []string{"b", "a", "b"} })); b.AccessToken() != a.AccessToken() {
		t.Error("b a is not a b")
	}
	// A person's token, by MSAL, is not an application's; nor is one without our marks.
	samples, _ := filepath.Glob("testdata/msal-cache/*.bin")
	if len(samples) == 0 {
		t.Fatal("no samples")
	}
	for _, path := range samples {
		blob, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseContents(blob)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, key := range keysOf(c, accessTokens) {
			e := entryOf(c, accessTokens, key)
			cache := &MemoryCache{}
			e["expires_on"], e["cached_at"] = unix(time.Now().Add(time.Hour)), unix(time.Now())
			blob, _ := c.blob()
			cache.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return blob, nil })
			tok := mustToken(t, cachedProvider(t, idp, cache, func(cfg *ClientCredentialsConfig) {
				idp.Clients[e.text("client_id")] = "s3cret/of+the client"
				cfg.ClientID, cfg.Scopes = e.text("client_id"), strings.Fields(e.text("target"))
				cfg.Endpoint = Authority("https://" + e.text("environment") + "/" + e.text("realm"))
			}))
			if tok.AccessToken() == e.text("secret") {
				t.Errorf("%s: a person's token was taken for an application's", path)
			}
		}
	}
}

func TestCacheIsNotTrusted(t *testing.T) {
	idp := idptest.New()
	for name, change := range map[string]func(entry){
		"expired": func(e entry) { e["expires_on"] = unix(time.Now().Add(-time.Second)) },
		"in the leeway": func(e entry) {
			e["expires_on"], e["cached_at"] = unix(time.Now().Add(10*time.Second)), unix(time.Now().Add(-time.Hour))
		},
		"refresh_on passed": func(e entry) {
			e["refresh_on"], e["cached_at"] = unix(time.Now().Add(-time.Second)), unix(time.Now().Add(-time.Minute))
		},
		"no expiry":         func(e entry) { delete(e, "expires_on") },
		"expiry is words":   func(e entry) { e["expires_on"] = "tomorrow" },
		"no cached_at":      func(e entry) { delete(e, "cached_at") },
		"header injection":  func(e entry) { e["secret"] = "x\r\nHost: evil" },
		"no token":          func(e entry) { e["secret"] = "" },
		"token is a number": func(e entry) { e["secret"] = map[string]any{} },
		"no grant":          func(e entry) { delete(e, fieldGrant) },
		"another grant":     func(e entry) { e[fieldGrant] = "password" },
		"no issuer":         func(e entry) { delete(e, fieldIssuer) },
		"an account":        func(e entry) { e["home_account_id"] = "u.t" },
	} {
		cache := &MemoryCache{}
		first := mustToken(t, cachedProvider(t, idp, cache, nil))
		err := cache.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
			c, err := parseContents(old)
			if err != nil {
				return nil, err
			}
			for _, key := range keysOf(c, accessTokens) {
				change(entryOf(c, accessTokens, key))
			}
			return c.blob()
		})
		if err != nil {
			t.Fatal(err)
		}
		if tok := mustToken(t, cachedProvider(t, idp, cache, nil)); tok.AccessToken() == first.AccessToken() || !strings.HasPrefix(tok.AccessToken(), "tok-") {
			t.Errorf("%s: the token was taken", name)
		}
	}
}

func TestExpiredOnArrivalIsNotStored(t *testing.T) {
	idp, cache := idptest.New(), &MemoryCache{}
	idp.Fault(idptest.Body(`{"access_token":"dead","expires_in":0}`), idptest.Body(`{"access_token":"soft","expires_in":3600,"refresh_in":600}`))
	mustToken(t, cachedProvider(t, idp, cache, nil))
	if blob, _ := cache.Get(t.Context()); bytes.Contains(blob, []byte("dead")) {
		t.Errorf("stored %s", blob)
	}
	mustToken(t, cachedProvider(t, idp, cache, nil))
	blob, _ := cache.Get(t.Context())
	c, err := parseContents(blob)
	if err != nil {
		t.Fatal(err)
	}
	e := entryOf(c, accessTokens, "-idp.test-accesstoken-client-token-a b")
	if got := e.time("refresh_on").Sub(e.time("cached_at")); got != 10*time.Minute {
		t.Errorf("refresh_on is %v after cached_at", got)
	}
}

func TestRefusedTokenIsNotTakenFromTheCache(t *testing.T) {
	idp := idptest.New()
	cache := &MemoryCache{}
	p, sibling := cachedProvider(t, idp, cache, nil), cachedProvider(t, idp, cache, nil)
	first := mustToken(t, p)
	if mustToken(t, sibling).AccessToken() != first.AccessToken() {
		t.Fatal("not shared")
	}
	p.Invalidate(first)
	second := mustToken(t, p)
	if second.AccessToken() == first.AccessToken() {
		t.Error("the refused token came back from the cache")
	}
	sibling.Invalidate(first) // takes what p got
	if tok := mustToken(t, sibling); tok.AccessToken() != second.AccessToken() {
		t.Error("a sibling's newer token was not taken")
	}
	wantRequestsOf(t, idp, 2)
}

// TestUnknownContentIsKept: sections, entries and fields that others wrote.
func TestUnknownContentIsKept(t *testing.T) {
	idp := idptest.New()
	samples, _ := filepath.Glob("testdata/msal-cache/*.bin")
	for _, path := range samples {
		blob, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var before map[string]map[string]any
		if err := json.Unmarshal(blob, &before); err != nil {
			t.Fatal(err)
		}
		before["Strange"] = map[string]any{"ümläut \u0080😀 <&>": []any{1.5, nil, "x"}, "n": json.Number("12345678901234567890.5")}
		for _, e := range before["Account"] {
			e.(map[string]any)["strange"] = map[string]any{"a": "é"}
		}
		blob, _ = json.Marshal(before)
		cache := &MemoryCache{}
		cache.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return blob, nil })
		mustToken(t, cachedProvider(t, idp, cache, nil))
		blob, _ = cache.Get(t.Context())
		for _, b := range blob {
			if b >= 0x80 {
				t.Fatalf("%s: not ASCII", path)
			}
		}
		if !bytes.Contains(blob, []byte("12345678901234567890.5")) {
			t.Errorf("%s: a number was changed", path)
		}
		var after map[string]map[string]any
		if err := json.Unmarshal(blob, &after); err != nil {
			t.Fatal(err)
		}
		ours := "-idp.test-accesstoken-client-token-a b"
		if after["AccessToken"][ours] == nil {
			t.Errorf("%s: our own entry is missing", path)
		}
		delete(after["AccessToken"], ours)
		after["Strange"]["n"] = before["Strange"]["n"]
		if d := cmp.Diff(before, after); d != "" {
			t.Errorf("%s (-want +got):\n%s", path, d)
		}
	}
}

// TestKeys: the names of entries are those that MSAL for Python made.
func TestKeys(t *testing.T) {
	samples, _ := filepath.Glob("testdata/msal-cache/*.bin")
	n := 0
	for _, path := range samples {
		blob, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseContents(blob)
		if err != nil {
			t.Fatal(err)
		}
		for section := range c {
			for _, key := range keysOf(c, section) {
				n++
				if got := entryOf(c, section, key).key(section); got != key {
					t.Errorf("%s: %s\n got %s\nwant %s", path, section, got, key)
				}
			}
		}
	}
	if n < 15 {
		t.Errorf("only %d entries", n)
	}
	if got := extCacheKey(url.Values{"audience": {"https://x"}, "a": {"é"}}); len(got) != 43 || got != strings.ToLower(got) || got == extCacheKey(url.Values{"audience": {"https://x"}}) {
		t.Errorf("ext_cache_key %q", got)
	}
}

// TestPythonsSignIns serve a user's flow: without a request, unless the metadata has to tell the realm of a tenant that is not named by its GUID.
func TestPythonsSignIns(t *testing.T) {
	const guid, scope = "11111111-2222-3333-4444-555555555555", "https://greenfield.cognitedata.com/"
	entra := func(tenant string) Endpoint { return Authority("https://login.microsoftonline.com/" + tenant) }
	type test struct {
		file, tenant string // which goes for the file's
		endpoint     Endpoint
		scopes       string
		user         string
		reads        int // of the metadata
	}
	tests := []test{
		{"entra-interactive", guid, entra(guid), scope + ".default", "jane.doe@example.com", 0},
		{"oidc-device", guid, Issuer("https://my-tenant.auth0.com"), "IDENTITY user_impersonation", "", 0},
	}
	for tenant, reads := range map[string]int{guid: 0, "ABCDEFab-cdef-0987-6543-210000000000": 0, guid[:35]: 1, guid + "5": 1, guid[:35] + "g": 1, guid[:35] + "-": 1,
		"1" + guid[:8] + guid[9:]: 1, "example.com": 1} {
		tests = append(tests, test{"entra-device", tenant, entra(tenant), scope + "IDENTITY", "jane.doe@example.com", reads})
	}
	for _, tt := range tests {
		blob, err := os.ReadFile("testdata/msal-cache/" + tt.file + ".bin")
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseContents(bytes.ReplaceAll(blob, []byte(guid), []byte(tt.tenant)))
		if err != nil {
			t.Fatal(err)
		}
		e := entryOf(c, accessTokens, keysOf(c, accessTokens)[0])
		e["cached_at"], e["expires_on"] = unix(time.Now()), unix(time.Now().Add(time.Hour))
		blob, _ = c.blob()
		cache, idp := &MemoryCache{}, idptest.New()
		put(t, cache, string(blob))
		idp.Issuer = "https://" + e.text("environment")
		p, err := NewDeviceCode(DeviceCodeConfig{Endpoint: tt.endpoint, ClientID: e.text("client_id"), Scopes: strings.Fields(tt.scopes),
			Options: Options{HTTPClient: idp.Client(), Cache: cache}})
		if err != nil {
			t.Fatal(err)
		}
		tok, err := p.Token(WithoutInteraction(t.Context()))
		if err != nil || tok.AccessToken() != e.text("secret") || tok.Username() != tt.user {
			t.Errorf("%s %s: a token of %q: %v", tt.file, tt.tenant, tok.Username(), err)
		}
		if n := len(idp.Requests("/openid-configuration")); n != tt.reads || len(idp.Requests("")) != n {
			t.Errorf("%s %s: the metadata was read %d times, want %d, of %d requests", tt.file, tt.tenant, n, tt.reads, len(idp.Requests("")))
		}
	}
}

// TestPut: an entry replaces the one of its name. Only of what is no token, fields that others wrote stay.
func TestPut(t *testing.T) {
	for _, section := range sections {
		c := contents{}
		c.put(section, entry{"home_account_id": "u", "secret": "old", "theirs": "x"})
		c.put(section, entry{"home_account_id": "u", "secret": "new"})
		want := entry{"home_account_id": "u", "secret": "new"}
		if section == accounts || section == appMetadata {
			want["theirs"] = "x"
		}
		if keys := keysOf(c, section); len(keys) != 1 || !maps.Equal(entryOf(c, section, keys[0]), want) {
			t.Errorf("%s: %v", section, c)
		}
	}
}

// TestEntryTime: what is no moment that can be, or beyond what time can say, is none.
func TestEntryTime(t *testing.T) {
	for v, want := range map[any]int64{"1": 1, json.Number("1"): 1, "1795451227": 1795451227, "1099511627776": 1 << 40,
		"1099511627777": 0, "99999999999999999999": 0, "0": 0, "-1": 0, "": 0, "1.5": 0, json.Number("1e3"): 0, nil: 0, true: 0} {
		got := entry{"at": v}.time("at")
		if want == 0 && !got.IsZero() || want != 0 && !got.Equal(time.Unix(want, 0)) {
			t.Errorf("%v is %v, want %d", v, got, want)
		}
	}
}

// broken is a Cache that does not work.
type broken struct {
	get, update error
	panics      bool
}

func (b broken) Get(context.Context) ([]byte, error) {
	if b.panics {
		panic("disk on fire")
	}
	return nil, b.get
}

func (b broken) Update(ctx context.Context, f func(context.Context, []byte) ([]byte, error)) error {
	if b.get == nil && b.update != nil {
		if _, err := f(ctx, nil); err != nil {
			return err
		}
	}
	return b.update
}

func TestBrokenCacheCostsNoToken(t *testing.T) {
	for name, tt := range map[string]struct {
		cache Cache
		want  string // in the log
	}{
		"unreadable":  {broken{get: errors.New("no access")}, "the cache is not used"},
		"unwritable":  {broken{update: errors.New("disk full")}, "the token was not stored"},
		"panics":      {broken{panics: true}, "the cache is not used"},
		"never calls": {broken{}, "the cache is not used"},
	} {
		var log bytes.Buffer
		idp := idptest.New()
		p := cachedProvider(t, idp, tt.cache, func(c *ClientCredentialsConfig) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		if tok := mustToken(t, p); tok.AccessToken() == "" {
			t.Errorf("%s: no token", name)
		}
		wantRequestsOf(t, idp, 1)
		if !strings.Contains(log.String(), tt.want) {
			t.Errorf("%s: log is %s", name, log.String())
		}
	}
	// A provider that refuses: its error, not one of the cache, and nothing is stored.
	idp, cache := idptest.New(), &MemoryCache{}
	idp.Always(idptest.Error(401, "invalid_client", ""))
	_, err := cachedProvider(t, idp, cache, nil).Token(t.Context())
	if oe := (*OAuthError)(nil); !errors.As(err, &oe) || strings.Contains(err.Error(), "Cache") {
		t.Errorf("got %v", err)
	}
	if blob, _ := cache.Get(t.Context()); blob != nil {
		t.Errorf("stored %s", blob)
	}
}

// TestProcessesShareOneRequest: twenty at once, whose token has just expired,
// make one token request between them.
func TestProcessesShareOneRequest(t *testing.T) {
	idp := idptest.New()
	_, stop, err := idp.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	cache := fileCache(t)
	for round := range 3 {
		tokens := map[string]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 20 {
			cmd := child(t, "token", cache, fmt.Sprintf("scope-%d %s", round, idp.Issuer))
			wg.Add(1)
			go func() {
				defer wg.Done()
				out, err := cmd.Output()
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				tokens[string(out)]++
				mu.Unlock()
			}()
		}
		wg.Wait()
		wantRequestsOf(t, idp, round+1)
		if len(tokens) != 1 {
			t.Errorf("round %d: the processes have %d different tokens", round, len(tokens))
		}
	}
}

func TestBadContent(t *testing.T) {
	idp := idptest.New()
	path := filepath.Join(t.TempDir(), "cache.bin")
	cache, _ := NewFileCache(path)
	good, _ := os.ReadFile("testdata/msal-cache/entra-interactive.bin")
	for _, bad := range []string{"{", "[]", "{}{}", "null", "\x80\x02", `{"AccessToken":[]}`, `{"AccessToken":{"k":7}}`, string(good[:len(good)/2])} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		mustToken(t, cachedProvider(t, idp, cache, nil))
		if aside, err := os.ReadFile(path + ".bad"); err != nil || string(aside) != bad {
			t.Errorf("%.20q was not moved aside: %q, %v", bad, aside, err)
		}
		n := idp.Tokens()
		mustToken(t, cachedProvider(t, idp, cache, nil))
		if idp.Tokens() != n {
			t.Errorf("%.20q: the cache does not work after it", bad)
		}
	}
	// Any other cache is left alone.
	memory := &MemoryCache{}
	memory.Update(t.Context(), func(context.Context, []byte) ([]byte, error) { return []byte("{"), nil })
	mustToken(t, cachedProvider(t, idp, memory, nil))
	if blob, _ := memory.Get(t.Context()); string(blob) != "{" {
		t.Errorf("content is now %s", blob)
	}
}

func FuzzParseContents(f *testing.F) {
	samples, _ := filepath.Glob("testdata/msal-cache/*.bin")
	for _, path := range samples {
		blob, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(blob)
	}
	f.Add([]byte(`{"AccessToken":{"k":null},"x":1e999,"\ud800":"\udc00"}`))
	f.Fuzz(func(t *testing.T, blob []byte) {
		c, err := parseContents(blob)
		if err != nil {
			return
		}
		out, err := c.blob()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseContents(out)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		twice, err := again.blob()
		if err != nil || !bytes.Equal(out, twice) {
			t.Fatalf("%s\nbecame\n%s", out, twice)
		}
		for section := range c {
			c.find(section, func(e entry) bool { return e.key(section) != "" })
		}
	})
}

// BenchmarkWarmStart is a start with a token in the cache, against reading and
// parsing the same file.
func BenchmarkWarmStart(b *testing.B) {
	idp := idptest.New()
	path := filepath.Join(b.TempDir(), "cache.bin")
	blob, err := os.ReadFile("testdata/msal-cache/entra-interactive.bin")
	if err != nil {
		b.Fatal(err)
	}
	os.WriteFile(path, blob, 0o600)
	cache, _ := NewFileCache(path)
	mustToken(b, cachedProvider(b, idp, cache, nil))
	b.Run("floor", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			blob, err := os.ReadFile(path)
			var v map[string]map[string]map[string]any
			if err == nil {
				err = json.Unmarshal(blob, &v)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Token", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			mustToken(b, cachedProvider(b, idp, cache, nil))
		}
	})
	wantOne := idp.Tokens()
	if wantOne != 1 {
		b.Errorf("%d token requests", wantOne)
	}
}

// edit changes the content of a cache.
func edit(t *testing.T, cache Cache, change func(contents)) {
	t.Helper()
	err := cache.Update(t.Context(), func(_ context.Context, old []byte) ([]byte, error) {
		c, err := parseContents(old)
		if err != nil {
			return nil, err
		}
		change(c)
		return c.blob()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, cache Cache) contents {
	t.Helper()
	blob, err := cache.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := parseContents(blob)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func keysOf(c contents, section string) []string {
	s, _ := c[section].(map[string]any)
	return slices.DeleteFunc(slices.Sorted(maps.Keys(s)), func(key string) bool { return entryOf(c, section, key) == nil })
}

func entryOf(c contents, section, key string) entry {
	s, _ := c[section].(map[string]any)
	e, _ := s[key].(map[string]any)
	return e
}
