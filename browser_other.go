//go:build go1.24 && !unix && !windows

package cdfauth

import "os/exec"

// detach does nothing. These systems have no process groups that Go can set.
func detach(*exec.Cmd) {}
