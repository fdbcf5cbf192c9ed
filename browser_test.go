package cdfauth

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOpeners: what starts the browser, by system and environment. The URL is an argument of its own, at the end.
func TestOpeners(t *testing.T) {
	t.Parallel()
	rundll := []string{filepath.Join(`C:\Windows`, "System32", "rundll32.exe"), "url.dll,FileProtocolHandler"}
	sep := string(filepath.ListSeparator)
	for _, tt := range []struct {
		system, env string
		wsl         bool
		want        [][]string
	}{
		{"windows", `SystemRoot=C:\Windows`, false, [][]string{rundll}},
		{"darwin", "", false, [][]string{{"/usr/bin/open"}}},
		{"linux", "", false, nil}, // xdg-open would try text browsers, in the terminal of the program
		{"linux", "DISPLAY=:0", false, [][]string{{"xdg-open"}}},
		{"freebsd", "WAYLAND_DISPLAY=wayland-0", false, [][]string{{"xdg-open"}}},
		{"linux", "", true, [][]string{{"wslview"}, {"/mnt/c/Windows/System32/rundll32.exe", "url.dll,FileProtocolHandler"}}},
		{"linux", "DISPLAY=:0 BROWSER=firefox", false, [][]string{{"firefox"}}},
		{"linux", "BROWSER=first_--new_%s" + sep + sep + "second", true, [][]string{{"first", "--new"}, {"second"}}},
		{"darwin", "BROWSER=%s", false, [][]string{{"/usr/bin/open"}}},
	} {
		getenv := environment(tt.env)
		got := openers(tt.system, func(name string) string { return strings.ReplaceAll(getenv(name), "_", " ") }, tt.wsl)
		if tt.system == "freebsd" {
			got = openers(tt.system, getenv, tt.wsl)
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s, %q, WSL %t: %s", tt.system, tt.env, tt.wsl, d)
		}
	}
}

// TestOpenBrowser: the browser gets the URL as it is, in one argument and through no shell; what fails is passed over; and no other URL
// than those of a sign-in is opened.
func TestOpenBrowser(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // no shell script runs there
	}
	dir := t.TempDir()
	browser, opened := filepath.Join(dir, "browser"), filepath.Join(dir, "opened")
	if err := os.WriteFile(browser, []byte("#!/bin/sh\nprintf '%s|' \"$@\" >\""+opened+"\"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("BROWSER", filepath.Join(dir, "missing")+":false:"+browser+" --new-window %s")
	const url = "https://idp.test/authorize?a=b&c=$(touch%20x)&d=;e`f`|'g'&redirect_uri=http%3A%2F%2Flocalhost"
	if err := openBrowser(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(opened); err != nil || string(b) != "--new-window|"+url+"|" {
		t.Errorf("opened was %q, %v", b, err)
	}
	if err := os.Remove(opened); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "file:///etc/passwd", "javascript:alert(1)", "http://idp.test/", "https://idp.test/ --flag", "--flag", "https://a:b@idp.test/"} {
		if err := openBrowser(t.Context(), bad); err == nil {
			t.Errorf("%q was opened", bad)
		}
	}
	t.Setenv("BROWSER", "false")
	if err := openBrowser(t.Context(), url); err == nil {
		t.Error("a browser that fails at once has opened nothing")
	}
	t.Setenv("BROWSER", "")
	t.Setenv("DISPLAY", "")
	t.Setenv("WAYLAND_DISPLAY", "")
	if v, _ := os.ReadFile("/proc/version"); runtime.GOOS == "linux" && !strings.Contains(strings.ToLower(string(v)), "microsoft") {
		if err := openBrowser(t.Context(), url); err == nil || !strings.Contains(err.Error(), "DISPLAY") {
			t.Errorf("without a display: %v", err)
		}
	}
	if _, err := os.Stat(opened); err == nil {
		t.Error("it was opened all the same")
	}
}

// TestOpenerIsAbsolute: no program of the current directory's is run, whatever the environment lacks.
func TestOpenerIsAbsolute(t *testing.T) {
	program := openers("windows", func(string) string { return "" }, false)[0][0]
	if name := strings.ReplaceAll(program, "/", `\`); !strings.HasPrefix(name, `C:\`) {
		t.Errorf("without SystemRoot, %s is run", program)
	}
}
