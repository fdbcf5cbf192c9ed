//go:build go1.24 && unix

package cdfauth

import (
	"os/exec"
	"syscall"
)

// detach makes a command run in a process group of its own. Ctrl-C in the terminal then
// ends the program, but not the browser with all the person's windows.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
