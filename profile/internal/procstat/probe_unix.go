//go:build unix && !linux

package procstat

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// probe takes the memory of a process from the system's account of it.
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
	if runtime.GOOS != "darwin" && runtime.GOOS != "ios" { // which count in bytes
		account <<= 10
	}
	return account, false
}

// awaitEnd would wait for the end without reaping the process, which cannot be done here.
func awaitEnd(*os.Process) bool { return false }

func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}
