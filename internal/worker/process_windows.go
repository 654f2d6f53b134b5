package worker

import (
	"os"
	"syscall"

	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
)

func sysProcAttr(*Config, *cgroup.Group) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// DefaultPath is the PATH that processes have unless they are given another. Here it follows from where the system is.
const DefaultPath = ""

// errTextBusy is never returned here.
const errTextBusy = syscall.Errno(1 << 29)

// baseEnvironment has what Windows programs cannot start without.
func baseEnvironment(temp string) []string {
	root := os.Getenv("SYSTEMROOT")
	return []string{"SYSTEMROOT=" + root, "PATH=" + root + `\system32;` + root, "USERPROFILE=" + temp, "TEMP=" + temp,
		"TMP=" + temp}
}

// killGroup kills the process alone: its descendants are not reached here.
func killGroup(p *os.Process) { _ = p.Kill() }

func signalOf(*os.ProcessState) (string, bool) { return "", false }

// terminate does nothing: Windows has no signal that a process without a console sees. The end of its standard input has to tell it.
func (p *process) terminate() {}
