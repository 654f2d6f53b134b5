//go:build unix && !linux

package procstat

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// probe reads the memory of a process from the system's account of it.
type probe struct{}

func newProbe(*os.Process) *probe { return &probe{} }

func (*probe) sample()                              {}
func (*probe) watch(_ time.Time, _ <-chan struct{}) {}
func (*probe) close()                               {}

func (*probe) peak(state *os.ProcessState, _ time.Duration) (bytes uint64, upperBound bool) {
	usage, ok := state.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, false
	}
	account := uint64(max(usage.Maxrss, 0))
	if runtime.GOOS != "darwin" && runtime.GOOS != "ios" { // these count in bytes
		account <<= 10
	}
	return account, false
}

// awaitEnd returns false: this system cannot wait for the end of a process without reaping it.
func awaitEnd(*os.Process) bool { return false }

func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
