package job

import (
	"bytes"
	"os"
	"strconv"
)

// peakMemoryMB returns the process's peak resident memory in MiB, rounded up, or 0 if unknown. It
// reads /proc because getrusage includes the parent's memory at the moment of the fork.
func peakMemoryMB() uint32 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, found := bytes.Cut(status, []byte("\nVmHWM:"))
	if !found {
		return 0
	}
	fields := bytes.Fields(rest[:max(0, bytes.IndexByte(rest, '\n'))])
	if len(fields) != 2 || string(fields[1]) != "kB" {
		return 0
	}
	kib, err := strconv.ParseUint(string(fields[0]), 10, 42)
	if err != nil {
		return 0
	}
	return uint32((kib + 1023) / 1024)
}
