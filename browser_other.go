//go:build go1.24 && !(darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd || windows)

package cdfauth

import "os/exec"

// detach does nothing where there are no process groups to speak of.
func detach(*exec.Cmd) {}
