package cdfauth

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestEachSystemHasItsOpener: the program that opens the browser depends on the system and
// the environment. It is started directly, and no shell reads the URL, which is an argument
// of its own at the end.
func TestEachSystemHasItsOpener(t *testing.T) {
	t.Parallel()
	rundll := []string{filepath.Join(`C:\Windows`, "System32", "rundll32.exe"),
		"url.dll,FileProtocolHandler"}
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
		{"linux", "", true,
			[][]string{{"wslview"},
				{"/mnt/c/Windows/System32/rundll32.exe", "url.dll,FileProtocolHandler"}}},
	} {
		got := systemOpeners(tt.system, environment(tt.env), tt.wsl)
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s, %q, WSL %t: %s", tt.system, tt.env, tt.wsl, d)
		}
	}
}

// TestBrowserVariableNamesProgramsWithArguments: the environment variable BROWSER is a list
// of programs with their arguments. A path may have blanks in it, with quotes around it or,
// if there is such a program, without.
func TestBrowserVariableNamesProgramsWithArguments(t *testing.T) {
	t.Parallel()
	sep := string(filepath.ListSeparator)
	blanks := filepath.Join(t.TempDir(), "My Browsers", "browser é.exe")
	must(t, os.Mkdir(filepath.Dir(blanks), 0o700))
	must(t, os.WriteFile(blanks, nil, 0o700))
	for _, tt := range []struct {
		value string
		want  [][]string
	}{
		{"", nil},
		{"%s", nil},
		{sep + " " + sep, nil},
		{"firefox", [][]string{{"firefox"}}},
		{"first --new %s" + sep + sep + "second", [][]string{{"first", "--new"}, {"second"}}},
		{blanks, [][]string{{blanks}}},
		{blanks + " --new-window %s", [][]string{{blanks, "--new-window"}}},
		{`"` + blanks + `" --new-window "%s"`, [][]string{{blanks, "--new-window"}}},
		{"  '" + blanks + "'\t--name='a b' ", [][]string{{blanks, "--name=a b"}}},
		{`"no such program" --new`, [][]string{{"no such program", "--new"}}},
		{"no such program", [][]string{{"no", "such", "program"}}},
		{`"never closed --new`, [][]string{{"never closed --new"}}},
	} {
		if runtime.GOOS == "windows" && strings.ContainsAny(tt.value, `"'`) {
			continue // there, filepath.SplitList takes quotes away
		}
		if d := cmp.Diff(tt.want, namedBrowsers(tt.value)); d != "" {
			t.Errorf("%q: %s", tt.value, d)
		}
	}
}

// TestBrowserGetsTheURLThroughNoShell: the URL comes from a provider's metadata and may have
// a shell's metacharacters in it. The browser gets it as it is, in one argument and through
// no shell. A program of BROWSER that fails is passed over. A URL that is not https is not
// opened.
func TestBrowserGetsTheURLThroughNoShell(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // no shell script runs there
	}
	dir := t.TempDir()
	browser, opened := filepath.Join(dir, "browser"), filepath.Join(dir, "opened")
	if err := os.WriteFile(browser, []byte("#!/bin/sh\nprintf '%s|' \"$@\" >\""+opened+"\"\n"),
		0o700); err != nil {
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
	for _, bad := range []string{"", "file:///etc/passwd", "javascript:alert(1)", "http://idp.test/",
		"https://idp.test/ --flag", "--flag", "https://a:b@idp.test/"} {
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
	if v, _ := os.ReadFile("/proc/version"); runtime.GOOS == "linux" &&
		!strings.Contains(strings.ToLower(string(v)), "microsoft") {
		if err := openBrowser(t.Context(), url); err == nil || !strings.Contains(err.Error(), "DISPLAY") {
			t.Errorf("without a display: %v", err)
		}
	}
	if _, err := os.Stat(opened); err == nil {
		t.Error("it was opened all the same")
	}
}

// TestOpenerIsAbsolute: a relative path would run a program of the current directory, which
// somebody else may have put there. The opener of Windows has an absolute path, even if the
// environment lacks SystemRoot.
func TestOpenerIsAbsolute(t *testing.T) {
	program := systemOpeners("windows", func(string) string { return "" }, false)[0][0]
	if name := strings.ReplaceAll(program, "/", `\`); !strings.HasPrefix(name, `C:\`) {
		t.Errorf("without SystemRoot, %s is run", program)
	}
}

// TestSystemsOpenerReplacesABrowserThatDoesNotStart: if no program that BROWSER names can be
// started, the system's opener is tried. If one starts and fails, no other is tried: who
// wants no browser sets BROWSER=false.
func TestSystemsOpenerReplacesABrowserThatDoesNotStart(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" || isWSL() {
		return // the openers of these are not looked up in PATH
	}
	dir := t.TempDir()
	opened := filepath.Join(dir, "opened")
	must(t, os.WriteFile(filepath.Join(dir, "xdg-open"),
		[]byte("#!/bin/sh\nprintf '%s' \"$1\" >\""+opened+"\"\n"), 0o700))
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	t.Setenv("DISPLAY", ":0")
	t.Setenv("BROWSER", "false")
	const url = "https://idp.test/authorize"
	if err := openBrowser(t.Context(), url); err == nil {
		t.Error("false has opened a browser")
	}
	if _, err := os.Stat(opened); err == nil {
		t.Error("the system's opener was started beside one that failed")
	}
	t.Setenv("BROWSER", filepath.Join(dir, "missing")+":"+filepath.Join(dir, "absent"))
	if err := openBrowser(t.Context(), url); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(opened); err != nil || string(b) != url {
		t.Errorf("opened was %q, %v", b, err)
	}
	t.Setenv("DISPLAY", "")
	t.Setenv("WAYLAND_DISPLAY", "")
	if err := openBrowser(t.Context(), url); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("without a display: %v", err)
	}
}

// TestBrowserHasAProcessGroupOfItsOwn: a terminal sends Ctrl-C to the whole process group
// of the program. The browser is in another one, so that it goes on.
func TestBrowserHasAProcessGroupOfItsOwn(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // no shell script runs there
	}
	browser := filepath.Join(t.TempDir(), "browser")
	// There is a process group of that number only if the browser leads it.
	must(t, os.WriteFile(browser, []byte("#!/bin/sh\nkill -0 -$$\n"), 0o700))
	t.Setenv("BROWSER", browser)
	if err := openBrowser(t.Context(), "https://idp.test/"); err != nil {
		t.Error(err)
	}
}
