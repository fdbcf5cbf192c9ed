package cdfauth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cdfauth/internal/idptest"
)

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

func (b broken) Update(ctx context.Context, f updateFunc) error {
	if b.get == nil && b.update != nil {
		if _, err := f(ctx, nil); err != nil {
			return err
		}
	}
	return b.update
}

// TestBrokenCacheCostsNoToken: A broken cache costs no second request either,
// and the log says what is wrong (Azure/azure-sdk-for-go#25409).
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
		p := cachedProvider(t, idp, tt.cache, func(c *ClientCredentialsConfig) {
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		if tok := mustToken(t, p); tok.AccessToken() == "" {
			t.Errorf("%s: no token", name)
		}
		wantRequests(t, idp, 1)
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

// TestUnreadableContentIsSetAside: The provider moves the file to a name that
// the log tells, for a user to look at. The cache works from then on.
func TestUnreadableContentIsSetAside(t *testing.T) {
	t.Parallel()
	idp := idptest.New()
	path := filepath.Join(t.TempDir(), "cache.bin")
	cache, _ := NewFileCache(path)
	good, _ := os.ReadFile("testdata/msal-cache/entra-interactive.bin")
	for _, bad := range []string{"{", "[]", "{}{}", "null", "\x80\x02", `{"AccessToken":[]}`,
		`{"AccessToken":{"k":7}}`, string(good[:len(good)/2]),
		strings.Repeat(" ", maxCacheSize+1)} {
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		mustToken(t, cachedProvider(t, idp, cache, func(c *ClientCredentialsConfig) {
			c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		}))
		if !strings.Contains(log.String(), "was moved aside") ||
			!strings.Contains(log.String(), path+".bad") {
			t.Errorf("%.20q: the log does not say where it went:\n%s", bad, &log)
		}
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
	memory.Update(t.Context(), func(context.Context, []byte) ([]byte, error) {
		return []byte("{"), nil
	})
	mustToken(t, cachedProvider(t, idp, memory, nil))
	if blob, _ := memory.Get(t.Context()); string(blob) != "{" {
		t.Errorf("content is now %s", blob)
	}
}

// TestExpiredAccessTokensAreRemoved: They go at each write, as with MSAL. The
// file takes no more than 1 MiB, which an application with many scopes would
// fill.
func TestExpiredAccessTokensAreRemoved(t *testing.T) {
	idp, cache := idptest.New(), fileCache(t)
	p := cachedProvider(t, idp, cache, nil)
	mustToken(t, p)
	old := func(client, scope string, left time.Duration) entry {
		return entry{"credential_type": accessTokens, "secret": strings.Repeat("x", 1500),
			"environment": "idp.test",
			"client_id":   client, "realm": "token", "target": scope, "home_account_id": "u",
			"cached_at": unix(time.Now().Add(-time.Hour)), "expires_on": unix(time.Now().Add(left))}
	}
	const n = 594 // of about 1.8 kB each: the cache is all but full
	edit(t, cache, func(c msalCache) {
		c.put(accessTokens, old("another", "theirs", -time.Minute))
		c.put(accessTokens, old("client", "valid", time.Minute))
		for i := range n {
			c.put(accessTokens, old("client", fmt.Sprint("scope-", i), -time.Second))
		}
	})
	if blob, err := cache.Get(t.Context()); err != nil || len(blob) < maxCacheSize-10_000 {
		t.Fatalf("the cache has %d bytes; %v", len(blob), err)
	}
	var log bytes.Buffer
	mustToken(t, cachedProvider(t, idp, cache, func(c *ClientCredentialsConfig) {
		c.Scopes = []string{strings.Repeat("fat", 2000)}
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}))
	left := map[string]int{}
	for _, e := range read(t, cache).find(accessTokens, func(entry) bool { return true }) {
		left[e.text("client_id")]++
	}
	if left["another"] != 1 || left["client"] != 3 || log.Len() > 0 {
		t.Errorf("of %d expired tokens and 4 others there are %v; log:\n%s", n, left, &log)
	}
}
