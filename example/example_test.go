package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestDemo(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), nil, func(string) string { return "" }, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) < 5 || !strings.HasPrefix(lines[0], "FLOW") {
		t.Fatalf("got %s", out.String())
	}
	column := regexp.MustCompile(` {3,}`)
	for _, line := range lines[1:] {
		cells := column.Split(line, -1)
		signIns, requests, who := "0", "1", `"client"` // one token request for a hundred calls
		if strings.HasPrefix(line, "device code") || strings.HasPrefix(line, "interactive") {
			signIns, who = "1", `"ada@example.com"`
		} else if strings.HasPrefix(line, "client certificate") {
			who = `"signing-client"`
		}
		if strings.HasPrefix(line, "static token") || strings.Contains(line, "second start") {
			signIns, requests = "0", "0"
		}
		expires := "in " // about an hour
		if strings.HasPrefix(line, "static token") {
			expires = "at an unknown time"
		}
		if want := []string{signIns, requests, "100", who + `, projects ["demo"]`}; len(cells) != 6 || !strings.HasPrefix(cells[4], expires) ||
			!slices.Equal(slices.Delete(cells, 4, 5)[1:], want) {
			t.Errorf("line %q, want %q", line, want)
		}
	}
	if len(lines) != 12 {
		t.Errorf("%d flows", len(lines)-1)
	}
	if strings.Contains(out.String(), "tok-") {
		t.Error("a token was printed")
	}
}

func TestFlags(t *testing.T) {
	env := map[string]string{"IDP_CLIENT_SECRET": "s3cret", "CDF_TOKEN": "t0ken"}
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte(`{"client_credentials":{"token_url":"https://idp.test/token","client_secret":"s3cret"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ args, want string }{
		{"-tenant x", "-flow is missing"},
		{"-flow nonsense -tenant t", `"nonsense" is none of`},
		{"-flow client_credentials", "Endpoint is missing"},
		{"-flow client_credentials -tenant t -cluster greenfield", "ClientID is missing"},
		{"-flow client_credentials -tenant t -client-id c", "cluster name"},
		{"-flow client_credentials -issuer http://evil.example -client-id c", "must be https"},
		{"-flow token", "cluster name"},
		{"-flow client_certificate -tenant t -client-id c -cluster greenfield", "Certificate is missing"},
		{"-flow client_certificate -tenant t -client-id c -cluster greenfield -certificate nowhere.pem", "nowhere.pem"},
		{"-flow interactive -tenant t -cluster greenfield", "ClientID is missing"},
		{"-flow device_code -token-url https://idp.test/token -client-id c", "TokenURL, which names no address"},
		{"-flow env -cluster greenfield", "IDP_CLIENT_ID is missing"},
		{"-config nowhere.json", "nowhere.json"},
		{"-config " + bad, "client_id is missing"},
		{"-flow token -cluster greenfield -sign-out", "for the flows of a person"},
		{"word", "unexpected argument"},
	} {
		var out bytes.Buffer
		err := run(t.Context(), strings.Fields(tt.args), func(k string) string { return env[k] }, &out)
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error()+out.String(), "s3cret") || strings.Contains(err.Error()+out.String(), "t0ken") {
			t.Errorf("%s: %v, want %q", tt.args, err, tt.want)
		}
	}
	err := run(t.Context(), strings.Fields("-flow client_credentials -tenant t -client-id c -cluster greenfield"), func(string) string { return "" }, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "ClientSecret is missing") {
		t.Errorf("without a secret: %v", err)
	}
}
