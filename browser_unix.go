//go:build go1.24 && (darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd)

package cdfauth

import (
	"os/exec"
	"syscall"
)

// detach puts a command in a process group of its own. Ctrl-C in the terminal ends the
// program, and does not end the browser with all the person's windows.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
