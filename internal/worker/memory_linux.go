package worker

import (
	"bytes"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// MemoryLimitKind says in words how memory limits are enforced on this system.
func (*Host) MemoryLimitKind() string {
	return "resident memory of the process and its descendants, looked at every 20 ms and killed above the limit; " +
		"RLIMIT_DATA of each process at twice the limit plus 256 MiB stops what grows faster"
}

// limitMemory sets the hard stop for what allocates faster than the watch looks. It is wider than the limit because it counts address space
// that is reserved for writing, such as thread stacks, not only memory in use.
func limitMemory(pid int, limit int64) {
	if limit <= 0 {
		return
	}
	stop := uint64(2*limit + 256<<20)
	_ = unix.Prlimit(pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: stop, Max: stop}, nil)
}

// memoryUsed returns the resident memory of the process, with its descendants if asked, in bytes.
func memoryUsed(pid int, descendants bool) int64 {
	var buf [256]byte
	return residentOf(pid, descendants, buf[:], 0)
}

// maxDepth bounds the walk through a tree of processes that changes while it is read.
const maxDepth = 16

func residentOf(pid int, descendants bool, buf []byte, depth int) int64 {
	dir := "/proc/" + strconv.Itoa(pid)
	used := int64(0)
	if fields := bytes.Fields(readSmall(dir+"/statm", buf)); len(fields) > 1 {
		pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
		used = pages * int64(os.Getpagesize())
	}
	if !descendants || depth == maxDepth {
		return used
	}
	tasks, _ := os.ReadDir(dir + "/task")
	for _, task := range tasks {
		for _, child := range bytes.Fields(readSmall(dir+"/task/"+task.Name()+"/children", make([]byte, 4096))) {
			if id, err := strconv.Atoi(string(child)); err == nil {
				used += residentOf(id, true, buf, depth+1)
			}
		}
	}
	return used
}

func readSmall(path string, buf []byte) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(fd) }()
	n, err := unix.Read(fd, buf)
	if err != nil || n < 0 {
		return nil
	}
	return buf[:n]
}

// ownPeak returns the peak resident memory of this program. A child's accounting starts with its parent's peak, so that only more than that
// says something of the child.
func ownPeak() int64 {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 1 << 62
	}
	return usage.Maxrss << 10
}

func childPeak(s *os.ProcessState) int64 {
	if s == nil {
		return 0
	}
	if usage, ok := s.SysUsage().(*syscall.Rusage); ok {
		return usage.Maxrss << 10
	}
	return 0
}
