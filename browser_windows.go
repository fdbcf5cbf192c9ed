//go:build go1.24

package cdfauth

import (
	"os/exec"
	"syscall"
)

// detachedProcess is DETACHED_PROCESS of CreateProcess: without the console of the
// program that starts it.
const detachedProcess = 0x00000008

// detach takes a command out of the program's console and process group. Ctrl-C in the
// terminal ends the program, and does not end the browser with all the person's
// windows.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP | detachedProcess,
	}
}
