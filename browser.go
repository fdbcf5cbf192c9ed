package cdfauth

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// This file opens the system's browser: never by way of a shell, which would take parts of a URL for commands, and only at URLs
// that parseURL has passed.

// openBrowser tries what there is. An opener that is still running after two seconds is taken to have succeeded: some are the
// browser itself. It is left alone then, and one goroutine waits for its end.
func openBrowser(ctx context.Context, url string) error {
	if _, err := parseURL(url); err != nil {
		return err
	}
	err := errors.New("there is no display (DISPLAY and WAYLAND_DISPLAY are not set), and BROWSER is not set")
	for _, command := range openers(runtime.GOOS, os.Getenv, isWSL()) {
		cmd := exec.Command(command[0], append(command[1:], url)...)
		if err = cmd.Start(); err != nil {
			continue
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err = <-ended:
		case <-time.After(2 * time.Second):
			err = nil
		case <-ctx.Done():
			return ctx.Err()
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// openers returns the commands to try, without the URL, which is their last argument. BROWSER has a list of commands, as on other
// systems; %s in them is where the URL would go, and is left out.
func openers(system string, getenv func(string) string, wsl bool) (commands [][]string) {
	for _, named := range filepath.SplitList(getenv("BROWSER")) {
		if fields := strings.Fields(strings.ReplaceAll(named, "%s", "")); len(fields) > 0 {
			commands = append(commands, fields)
		}
	}
	switch {
	case commands != nil:
		return commands
	case system == "windows": // start, a command of the shell's, would end the URL at its first &
		return [][]string{{filepath.Join(getenv("SystemRoot"), "System32", "rundll32.exe"), "url.dll,FileProtocolHandler"}}
	case system == "darwin":
		return [][]string{{"/usr/bin/open"}}
	case wsl:
		return [][]string{{"wslview"}, {"/mnt/c/Windows/System32/rundll32.exe", "url.dll,FileProtocolHandler"}}
	case getenv("DISPLAY") == "" && getenv("WAYLAND_DISPLAY") == "":
		return nil // or a text browser would take over the terminal
	}
	return [][]string{{"xdg-open"}}
}

// isWSL says whether this Linux is a guest of Windows, whose browser is wanted.
func isWSL() bool {
	b, err := os.ReadFile("/proc/version")
	return err == nil && strings.Contains(strings.ToLower(string(b)), "microsoft")
}
