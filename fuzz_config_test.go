package cdfauth

import (
	"strings"
	"testing"
)

// FuzzLoad: whatever a configuration says, Load returns either a provider or an error of its
// own, and does not panic. A configuration may come from a file that somebody else writes.
func FuzzLoad(f *testing.F) {
	for _, seed := range []string{`{"token":"t"}`,
		`{"client_credentials":{"token_url":"https://idp.test","client_id":"a","client_secret":"b","scopes":["c"],"d":1}}`,
		`{"interactive":{"authority_url":"https://idp.test/t","client_id":"a","cdf_cluster":"g","redirect_port":1,"clear_cache":true}}`,
		`{"device_code":{"oauth_discovery_url":"https://idp.test","client_id":"a","token_expiry_leeway_seconds":1e9,"mem_cache_only":true}}`,
		`{"client_certificate":{"authority_url":"https://idp.test/t","client_id":"a","certificate":"b","cert_thumbprint":"00"}}`,
		`{"token":{}}`, `[`,
		`{"device_code":{"oauth_discovery_url":"https://idp.test","client_id":7,"scopes":[],"token_cache_path":"~/c","audience":null,"x":"y"}}`,
		`{"interactive":{"oauth_discovery_url":"https://idp.test","client_id":"a","scopes":"a b","redirect_port":"8400","prompt":"login","audience":"b"}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, config []byte) {
		p, err := Load(config, Options{Cache: new(MemoryCache)})
		if (p == nil) != (err != nil) {
			t.Fatalf("%v, %v", p, err)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "cdfauth: Load: ") {
			t.Fatal(err)
		}
	})
}
