package cdfauth

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// FuzzParseMSALCache: whatever a cache file has in it, it is an error, or what is written of
// it can be read again and is then the same. Programs in other languages write the file too.
func FuzzParseMSALCache(f *testing.F) {
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
		c, err := parseMSALCache(blob)
		if err != nil {
			return
		}
		out, err := c.blob()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseMSALCache(out)
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
