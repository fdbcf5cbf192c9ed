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
	"strings"
	"time"
)

// This file opens a URL in the person's browser. It starts a program with the URL as
// its last argument, and never a shell, which would take parts of a URL for commands.
// URLs that parseURL refuses are not opened.

// How long an opener may run. One that still runs then has succeeded: some openers
// are the browser itself. It is left alone.
const openerTimeout = 2 * time.Second

var errNoDisplay = errors.New("there is no display (DISPLAY and WAYLAND_DISPLAY are not set), " +
	"and BROWSER is not set")

// openBrowser tries what BROWSER names. If nothing of it can be started, it tries what
// the system has. It returns the error of the last opener that failed.
func openBrowser(ctx context.Context, url string) error {
	_, err := parseURL(url)
	if err != nil {
		return err
	}
	named := namedBrowsers(os.Getenv("BROWSER"))
	started, err := openOne(ctx, named, url)
	if started || ctx.Err() != nil {
		// What starts and fails may be there to keep browsers from opening: false.
		return err
	}
	system := systemOpeners(runtime.GOOS, os.Getenv, isWSL())
	switch {
	case len(system) > 0:
		_, err = openOne(ctx, system, url)
	case len(named) == 0:
		err = errNoDisplay
	}
	return err
}

// openOne runs commands, with the URL as their last argument, until one succeeds. It
// reports whether any of them could be started, and why the last one failed.
func openOne(ctx context.Context, commands [][]string, url string) (started bool, err error) {
	for _, command := range commands {
		cmd := exec.Command(command[0], append(command[1:], url)...)
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

// waitOpener waits for the end of a command, but not for long. One goroutine waits on,
// however long it runs.
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

// isWSL reports whether this is a Linux that is a guest of Windows, whose browser is
// then wanted.
func isWSL() bool {
	version, _ := os.ReadFile("/proc/version")
	return strings.Contains(strings.ToLower(string(version)), "microsoft")
}

// namedBrowsers returns the commands in a value of BROWSER: a list, as PATH is, of
// commands with arguments. %s in one, where the URL would go, is left out.
func namedBrowsers(value string) [][]string {
	var commands [][]string
	for _, text := range filepath.SplitList(value) {
		command := parseCommand(strings.ReplaceAll(text, "%s", ""))
		if len(command) > 0 {
			commands = append(commands, command)
		}
	}
	return commands
}

// parseCommand splits a command at blanks, but not within quotes, which it drops. The
// program may have blanks in its path without any quotes: the longest one that exists
// is meant.
func parseCommand(text string) []string {
	if !strings.ContainsAny(text, `"'`) {
		words := strings.Fields(text)
		for n := len(words); n > 1; n-- {
			program := strings.Join(words[:n], " ")
			_, err := exec.LookPath(program)
			if err == nil {
				return append([]string{program}, words[n:]...)
			}
		}
		return words
	}
	var words []string
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		var word string
		word, text = cutWord(text)
		if word != "" { // "%s", of which nothing is left
			words = append(words, word)
		}
	}
	return words
}

// cutWord returns the first word of a text without its quotes, and the rest.
func cutWord(text string) (word, rest string) {
	var quote byte // that is open, 0 if none is
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

// systemOpeners returns how a system opens what its user has chosen for a URL.
func systemOpeners(system string, getenv func(string) string, wsl bool) [][]string {
	// The shell's start would end the URL at its first &.
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
		// xdg-open would start a text browser, which takes over the terminal.
		return nil
	}
	return [][]string{{"xdg-open"}}
}
