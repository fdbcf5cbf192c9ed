package main

import (
	"bytes"
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
	for _, line := range lines[1:] {
		want := "   1   " // one token request for a hundred calls
		if strings.HasPrefix(line, "static token") || strings.Contains(line, "second start") {
			want = "   0   "
		}
		if !strings.Contains(strings.ReplaceAll(line, "  ", " "), strings.ReplaceAll(want, "  ", " ")) || !strings.Contains(line, `projects ["demo"]`) {
			t.Errorf("line %q", line)
		}
	}
	if strings.Contains(out.String(), "tok-") {
		t.Error("a token was printed")
	}
}

func TestFlags(t *testing.T) {
	env := map[string]string{"IDP_CLIENT_SECRET": "s3cret", "CDF_TOKEN": "t0ken"}
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
