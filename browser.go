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

// openBrowser tries what there is: never by a shell, which would take parts of a URL for commands, and only at URLs that parseURL has passed. An opener that
// still runs after two seconds has succeeded: some are the browser itself. It is left alone, and one goroutine waits for its end.
func openBrowser(ctx context.Context, url string) error {
	if _, err := parseURL(url); err != nil {
		return err
	}
	version, _ := os.ReadFile("/proc/version") // tells a Linux that is a guest of Windows (WSL), whose browser is wanted
	err := errors.New("there is no display (DISPLAY and WAYLAND_DISPLAY are not set), and BROWSER is not set")
	for _, command := range openers(runtime.GOOS, os.Getenv, strings.Contains(strings.ToLower(string(version)), "microsoft")) {
		ended := make(chan error, 1)
		go func() { ended <- exec.Command(command[0], append(command[1:], url)...).Run() }()
		select {
		case err = <-ended:
			if err == nil {
				return nil
			}
		case <-time.After(2 * time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

// openers returns the commands to try, less the URL, their last argument. BROWSER has a list of commands; %s, where the URL would go, is left out.
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
		return [][]string{{filepath.Join(cmp.Or(getenv("SystemRoot"), `C:\Windows`), "System32", "rundll32.exe"), "url.dll,FileProtocolHandler"}}
	case system == "darwin":
		return [][]string{{"/usr/bin/open"}}
	case wsl:
		return [][]string{{"wslview"}, {"/mnt/c/Windows/System32/rundll32.exe", "url.dll,FileProtocolHandler"}}
	case getenv("DISPLAY") == "" && getenv("WAYLAND_DISPLAY") == "":
		return nil // or a text browser would take over the terminal
	}
	return [][]string{{"xdg-open"}}
}
