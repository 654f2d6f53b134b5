package load

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the processor time that this program and all its descendants have used so far,
// including those that have ended. ok reports whether it is known.
func cpuTime() (total time.Duration, ok bool) {
	var ended unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_CHILDREN, &ended); err != nil {
		return 0, false
	}
	total = time.Duration(ended.Utime.Nano() + ended.Stime.Nano())
	for _, pid := range append(children(), os.Getpid()) {
		var spent unix.Timespec
		clock := int32(^pid<<3 | 2) // the CPU clock of another process, as clock_getcpuclockid(3) makes it
		if unix.ClockGettime(clock, &spent) == nil {
			total += time.Duration(spent.Nano())
		}
	}
	return total, true
}

// children returns the live child processes of this one.
func children() []int {
	var pids []int
	tasks, _ := os.ReadDir("/proc/self/task")
	for _, task := range tasks {
		text, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children")
		for _, word := range bytes.Fields(text) {
			if pid, err := strconv.Atoi(string(word)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
