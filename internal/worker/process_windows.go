package worker

import (
	"os"
	"syscall"

	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
)

func sysProcAttr(*Config, *cgroup.Group) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP}
}

// DefaultPath is the default PATH of processes. On Windows it depends on the system's directory.
const DefaultPath = ""

// errTextBusy is never returned on Windows.
const errTextBusy = syscall.Errno(1 << 29)

// baseEnvironment returns what Windows programs need to start.
func baseEnvironment(temp string) []string {
	root := os.Getenv("SYSTEMROOT")
	return []string{"SYSTEMROOT=" + root, "PATH=" + root + `\system32;` + root, "USERPROFILE=" + temp, "TEMP=" + temp,
		"TMP=" + temp}
}

// killGroup kills the process alone. Its descendants cannot be reached on Windows.
func killGroup(p *os.Process) { _ = p.Kill() }

func signalOf(*os.ProcessState) (string, bool) { return "", false }

// terminate does nothing: a process without a console sees no signal on Windows. The end of its
// standard input must tell it.
func (p *process) terminate() {}
