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

// openBrowser tries what there is, and returns the error of the last opener that
// failed if all of them have.
func openBrowser(ctx context.Context, url string) error {
	_, err := parseURL(url)
	if err != nil {
		return err
	}
	err = errNoDisplay
	for _, command := range openers(runtime.GOOS, os.Getenv, isWSL()) {
		err = runOpener(ctx, append(command, url))
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// runOpener runs a command. One goroutine waits for its end, however long it runs.
func runOpener(ctx context.Context, command []string) error {
	ended := make(chan error, 1)
	go func() { ended <- exec.Command(command[0], command[1:]...).Run() }()
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

// openers returns the commands to try, less the URL.
func openers(system string, getenv func(string) string, wsl bool) [][]string {
	named := namedBrowsers(getenv("BROWSER"))
	if len(named) > 0 {
		return named
	}
	return systemOpeners(system, getenv, wsl)
}

// namedBrowsers returns the commands in a value of BROWSER: a list, as PATH is, of
// commands with arguments. %s in one, where the URL would go, is left out.
func namedBrowsers(value string) [][]string {
	var commands [][]string
	for _, command := range filepath.SplitList(value) {
		fields := strings.Fields(strings.ReplaceAll(command, "%s", ""))
		if len(fields) > 0 {
			commands = append(commands, fields)
		}
	}
	return commands
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
