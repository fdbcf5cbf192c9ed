package cdfauth

import (
	"io"
	"net/url"
	"strings"
	"testing"
)

// TestInteractiveConfigErrorsNameTheField: An error at the start of a program
// is read by whoever has configured it. It names the field, says what was found
// and what is wanted.
func TestInteractiveConfigErrorsNameTheField(t *testing.T) {
	good := func() InteractiveConfig {
		return InteractiveConfig{Endpoint: Issuer("https://idp.test"), ClientID: "app",
			Options: Options{Cache: &MemoryCache{}}}
	}
	for _, port := range []int{0, 1, 65535} {
		cfg := good()
		cfg.RedirectPort = port
		if _, err := NewInteractive(cfg); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		change func(*InteractiveConfig)
		want   string
	}{
		"no endpoint": {func(c *InteractiveConfig) { c.Endpoint = Endpoint{} },
			"Endpoint is missing"},
		"token URL": {
			func(c *InteractiveConfig) { c.Endpoint = TokenURL("https://idp.test/token") },
			"TokenURL, which names no address"},
		"prompt": {func(c *InteractiveConfig) { c.Prompt = "none" },
			"want select_account, login, consent or \"\""},
		"both": {
			func(c *InteractiveConfig) { c.RedirectPort, c.RedirectURL = 1, "http://localhost:1" },
			"RedirectURL and RedirectPort are both set"},
		"port too big": {func(c *InteractiveConfig) { c.RedirectPort = 65536 },
			"RedirectPort is 65536: want a port from 1 to 65535"},
		"port negative": {func(c *InteractiveConfig) { c.RedirectPort = -1 },
			"RedirectPort is -1: want a port from 1 to 65535"},
		"no port": {func(c *InteractiveConfig) { c.RedirectURL = "http://localhost/" },
			"RedirectURL has no port"},
		"https": {func(c *InteractiveConfig) { c.RedirectURL = "https://localhost:1/" },
			"RedirectURL is not http on a loopback host"},
		"not loopback": {func(c *InteractiveConfig) { c.RedirectURL = "http://10.0.0.1:80/" },
			"RedirectURL must be https (http only for a loopback host)"},
		"all interfaces": {func(c *InteractiveConfig) { c.RedirectURL = "http://0.0.0.0:80/" },
			"RedirectURL must be https (http only for a loopback host)"},
		"query": {func(c *InteractiveConfig) { c.RedirectURL = "http://localhost:80/?a=b" },
			"without a query"},
		"reserved": {func(c *InteractiveConfig) { c.Params = url.Values{"state": {"x"}} },
			`"state", which is not for callers to set`},
		"no comparison": {func(c *InteractiveConfig) { c.Input = readFunc(nil) },
			"Input is a cdfauth.readFunc"},
		// Else a map panics later.
		"no comparison in": {func(c *InteractiveConfig) { c.Input = struct{ io.Reader }{readFunc(nil)} },
			"Input is a struct"},
	} {
		cfg := good()
		tt.change(&cfg)
		if _, err := NewInteractive(cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if _, err := NewDeviceCode(DeviceCodeConfig{Endpoint: TokenURL("https://idp.test/token"),
		ClientID: "app"}); err == nil ||
		!strings.Contains(err.Error(), "TokenURL, which names no address") {
		t.Error(err)
	}
}

// TestRFC7636AppendixB: the example of a code verifier and its challenge.
func TestRFC7636AppendixB(t *testing.T) {
	const verifier, challenge = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
		"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	if got := codeChallenge(verifier); got != challenge {
		t.Errorf("%s, want %s", got, challenge)
	}
}
