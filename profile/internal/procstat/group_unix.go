//go:build unix

package procstat

import (
	"os"
	"syscall"
)

// killGroup kills the process and everything that it started and that did not leave its process
// group.
func killGroup(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }
