package cdfauth

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cdfauth/internal/idptest"

	"github.com/google/go-cmp/cmp"
)

// TestUnknownContentIsKept: Sections, entries and fields that other programs
// have written belong to them.
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
		before["Strange"] = map[string]any{"ümläut \u0080😀 <&>": []any{1.5, nil, "x"},
			"n": json.Number("12345678901234567890.5")}
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

// TestKeysAreThoseOfMSAL: MSAL for Python would otherwise add a second entry
// beside ours, and keep the one that is spent.
func TestKeysAreThoseOfMSAL(t *testing.T) {
	samples, _ := filepath.Glob("testdata/msal-cache/*.bin")
	n := 0
	for _, path := range samples {
		blob, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		c, err := parseMSALCache(blob)
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
	if got := extCacheKey(url.Values{"audience": {"https://x"}, "a": {"é"}}); len(got) != 43 ||
		got != strings.ToLower(got) || got == extCacheKey(url.Values{"audience": {"https://x"}}) {
		t.Errorf("ext_cache_key %q", got)
	}
}

// TestPutReplacesTheEntryOfItsKey: Fields that others have written stay in
// accounts and application metadata. In a token they go, because they were
// about the token that is replaced.
func TestPutReplacesTheEntryOfItsKey(t *testing.T) {
	for _, section := range sections {
		c := msalCache{}
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

// TestWhatIsNoTimeIsZero: A fraction is not a time, nor is a number beyond what
// time.Time can hold.
func TestWhatIsNoTimeIsZero(t *testing.T) {
	for v, want := range map[any]int64{"1": 1, json.Number("1"): 1, "1795451227": 1795451227,
		"1099511627776": 1 << 40,
		"1099511627777": 0, "99999999999999999999": 0, "0": 0, "-1": 0, "": 0, "1.5": 0,
		json.Number("1e3"): 0, nil: 0, true: 0} {
		got := entry{"at": v}.time("at")
		if want == 0 && !got.IsZero() || want != 0 && !got.Equal(time.Unix(want, 0)) {
			t.Errorf("%v is %v, want %d", v, got, want)
		}
	}
}

// TestByteOrderMarkIsDropped: Editors on Windows, and PowerShell, put a byte
// order mark before a file that they save. JSON has none (RFC 8259 §8.1), and
// Python's reader refuses it.
func TestByteOrderMarkIsDropped(t *testing.T) {
	blob, err := os.ReadFile("testdata/msal-cache/entra-interactive.bin")
	must(t, err)
	want, err := parseMSALCache(blob)
	must(t, err)
	for _, rest := range []string{string(blob), "", " "} {
		got, err := parseMSALCache([]byte("\xef\xbb\xbf" + rest))
		must(t, err)
		if rest == string(blob) && cmp.Diff(want, got) != "" || rest != string(blob) && len(got) != 0 {
			t.Errorf("with a byte order mark, %.10q is %v", rest, got)
		}
	}
	if blob, _ = want.blob(); blob[0] != '{' {
		t.Errorf("written: %.10q", blob)
	}
}
