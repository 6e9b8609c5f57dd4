//go:build unix && !linux

package suitetest

import (
	"os/exec"
	"syscall"
)

const (
	freezeSignal = syscall.SIGSTOP
	thawSignal   = syscall.SIGCONT
)

// dieWithParent is Linux's alone; elsewhere the caller's clean-up has to do.
func dieWithParent(*exec.Cmd) {}
