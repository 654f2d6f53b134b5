//go:build unix

package lambdatest

import (
	"os/exec"
	"syscall"
)

// own makes a process the leader of a group, so that its children end with it.
func own(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

func kill(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
