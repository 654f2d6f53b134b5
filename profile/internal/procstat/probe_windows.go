package procstat

import (
	"os"
	"os/exec"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// probe reads the memory of a process from the system's account of it, which outlives the process
// as long as a handle is open.
type probe struct{ process windows.Handle }

func newProbe(p *os.Process) *probe {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, uint32(p.Pid))
	if err != nil {
		return &probe{}
	}
	return &probe{process: h}
}

func (*probe) sample()                              {}
func (*probe) watch(_ time.Time, _ <-chan struct{}) {}

func (p *probe) close() {
	if p.process != 0 {
		windows.CloseHandle(p.process)
	}
}

// processMemoryCounters is PROCESS_MEMORY_COUNTERS of psapi.h.
type processMemoryCounters struct {
	size               uint32
	pageFaultCount     uint32
	peakWorkingSetSize uintptr
	others             [7]uintptr
}

var getProcessMemoryInfo = windows.NewLazySystemDLL("kernel32.dll").NewProc("K32GetProcessMemoryInfo")

func (p *probe) peak(*os.ProcessState, time.Duration) (bytes uint64, upperBound bool) {
	if p.process == 0 || getProcessMemoryInfo.Find() != nil {
		return 0, false
	}
	var counters processMemoryCounters
	counters.size = uint32(unsafe.Sizeof(counters))
	ok, _, _ := getProcessMemoryInfo.Call(uintptr(p.process), uintptr(unsafe.Pointer(&counters)), uintptr(counters.size))
	if ok == 0 {
		return 0, false
	}
	return uint64(counters.peakWorkingSetSize), false
}

// awaitEnd returns false: this system cannot wait for the end of a process without reaping it.
func awaitEnd(*os.Process) bool { return false }

func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
}

// killGroup kills the process alone. What it started continues.
func killGroup(p *os.Process) error { return p.Kill() }
