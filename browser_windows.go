//go:build go1.24

package cdfauth

import (
	"os/exec"
	"syscall"
)

// detachedProcess is the flag DETACHED_PROCESS of CreateProcess: the new process does
// not get the console of the one that starts it.
const detachedProcess = 0x00000008

// detach makes a command run without the program's console and in a process group of its
// own. Ctrl-C in the terminal then ends the program, but not the browser with all the
// person's windows.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP | detachedProcess,
	}
}
