//go:build go1.24

package cdfauth

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// This file opens a URL in the person's browser. It starts a program with the URL as
// its last argument. It never starts a shell, which would take parts of a URL for
// commands. It opens no URL that parseURL refuses.
//
// An opener is a command that opens a URL: the path of a program, and arguments.

// openerTimeout is how long to wait for an opener to end. One that still runs then has
// succeeded, and is left alone: some openers are the browser itself.
const openerTimeout = 2 * time.Second

var errNoDisplay = errors.New("there is no display (DISPLAY and WAYLAND_DISPLAY are not set), " +
	"and BROWSER is not set")

// openBrowser opens a URL with the openers that the environment variable BROWSER names.
// If none of them can be started, it uses the system's openers. Its error is that of the
// last opener that failed.
func openBrowser(ctx context.Context, url string) error {
	_, err := parseURL(url)
	if err != nil {
		return err
	}
	named := namedBrowsers(os.Getenv("BROWSER"))
	started, namedErr := openWithOneOf(ctx, named, url)
	if started {
		// People set BROWSER=false to keep browsers from opening. false starts, and fails.
		return namedErr
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	system := systemOpeners(runtime.GOOS, os.Getenv, isWSL())
	if len(system) > 0 {
		_, err = openWithOneOf(ctx, system, url)
		return err
	}
	if len(named) == 0 {
		return errNoDisplay
	}
	return namedErr
}

// openWithOneOf runs openers, one after the other, until one succeeds. It reports whether
// any of them could be started, and why the last one failed.
func openWithOneOf(
	ctx context.Context, openers [][]string, url string,
) (started bool, err error) {
	for _, opener := range openers {
		program := opener[0]
		arguments := slices.Concat(opener[1:], []string{url})
		cmd := exec.Command(program, arguments...)
		detach(cmd)
		err = cmd.Start()
		if err != nil {
			continue
		}
		started = true
		err = waitOpener(ctx, cmd)
		if err == nil || ctx.Err() != nil {
			break
		}
	}
	return started, err
}

// waitOpener waits until a command ends, but for openerTimeout at the longest. A goroutine
// waits for as long as the command runs: otherwise Unix would keep the ended process.
func waitOpener(ctx context.Context, cmd *exec.Cmd) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	timer := time.NewTimer(openerTimeout)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// isWSL reports whether this is the Windows Subsystem for Linux, where the browser of
// Windows has to be opened.
func isWSL() bool {
	version, _ := os.ReadFile("/proc/version") // there is none on other systems
	return strings.Contains(strings.ToLower(string(version)), "microsoft")
}

// namedBrowsers returns the openers in a value of BROWSER. That is a list with the same
// separators as PATH. Its elements are commands, in which %s may stand for the URL. The
// URL is always the last argument here, and %s is removed.
func namedBrowsers(value string) [][]string {
	var openers [][]string
	for _, text := range filepath.SplitList(value) {
		opener := parseCommand(strings.ReplaceAll(text, "%s", ""))
		if len(opener) > 0 {
			openers = append(openers, opener)
		}
	}
	return openers
}

// parseCommand returns the program and the arguments in a command.
func parseCommand(text string) []string {
	if strings.ContainsAny(text, `"'`) {
		return splitQuoted(text)
	}
	return splitUnquoted(strings.Fields(text))
}

// splitUnquoted returns the program and the arguments in a command without quotes, of which
// it gets the words. The path of the program may have blanks in it. If several first
// words make a program that exists, the longest of these programs is meant.
func splitUnquoted(words []string) []string {
	for n := len(words); n > 1; n-- {
		program := strings.Join(words[:n], " ")
		_, err := exec.LookPath(program)
		if err == nil {
			return slices.Concat([]string{program}, words[n:])
		}
	}
	return words
}

// splitQuoted splits a command at the blanks that are not within quotes, and removes the
// quotes.
func splitQuoted(text string) []string {
	var words []string
	for {
		text = strings.TrimSpace(text)
		if text == "" {
			return words
		}
		var word string
		word, text = cutWord(text)
		if word != "" { // "%s" leaves empty quotes
			words = append(words, word)
		}
	}
}

// cutWord returns the first word of a text, without its quotes, and the rest of the text.
func cutWord(text string) (word, rest string) {
	var quote byte // the quote that is open; 0 if none is
	for i := range len(text) {
		c := text[i]
		switch {
		case c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote == 0 && (c == ' ' || c == '\t'):
			return word, text[i:]
		default:
			word += text[i : i+1]
		}
	}
	return word, ""
}

// systemOpeners returns the openers that a system has. They open the browser that the
// person has chosen in its settings. Without a display, systemOpeners returns none.
func systemOpeners(system string, getenv func(string) string, wsl bool) [][]string {
	// handler is the function of Windows that opens URLs, for rundll32. The command start
	// of the shell would be no substitute: it takes & in a URL for the end of a command.
	const handler = "url.dll,FileProtocolHandler"
	switch {
	case system == "windows":
		root := cmp.Or(getenv("SystemRoot"), `C:\Windows`)
		return [][]string{{filepath.Join(root, "System32", "rundll32.exe"), handler}}
	case system == "darwin":
		return [][]string{{"/usr/bin/open"}}
	case wsl:
		return [][]string{
			{"wslview"},
			{"/mnt/c/Windows/System32/rundll32.exe", handler},
		}
	case getenv("DISPLAY") == "" && getenv("WAYLAND_DISPLAY") == "":
		// xdg-open would start a text browser, which would use the program's terminal.
		return nil
	}
	return [][]string{{"xdg-open"}}
}
