package worker

import (
	"bytes"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
)

// MemoryLimitKind describes how memory limits are enforced on this system.
func (h *Host) MemoryLimitKind() string {
	if h.Support().Memory {
		return "cgroup v2: the kernel holds the process and its descendants together to the limit, swap included, and " +
			"kills them all above it"
	}
	return "resident memory of the process and its descendants, looked at every 20 ms and killed above the limit; " +
		"RLIMIT_DATA of each process at twice the limit plus 256 MiB stops what grows faster"
}

// setLimits sets the limits of a process that was just started. What it starts inherits them.
func (p *process) setLimits(pid int, c *Config) {
	// RLIMIT_DATA is wider than the limit because it counts address space that is reserved for
	// writing, such as thread stacks, and not only memory in use.
	if p.limit > 0 && !p.group.Limiting() {
		lower(pid, unix.RLIMIT_DATA, uint64(2*p.limit+256<<20))
	}
	if c.MaxOpenFiles > 0 {
		lower(pid, unix.RLIMIT_NOFILE, uint64(c.MaxOpenFiles))
	}
	if c.NoCoreDumps {
		lower(pid, unix.RLIMIT_CORE, 0)
	}
	if p.most > 0 && c.User != nil && c.User.Alone { // the kernel counts per user, and not for root
		lower(pid, unix.RLIMIT_NPROC, uint64(p.most*c.MaxWorkers))
	}
}

// lower sets a limit, but not above the process's present one. The process may have ended.
func lower(pid, resource int, value uint64) {
	var now unix.Rlimit
	if unix.Prlimit(pid, resource, nil, &now) == nil {
		value = min(value, now.Max)
		_ = unix.Prlimit(pid, resource, &unix.Rlimit{Cur: value, Max: value}, nil)
	}
}

// measureTree returns the resident memory of a process in bytes. With descendants it includes the
// processes in the group or, without a group, the descendants of the process, and also returns how
// many processes and threads they are, counted to a little more than most.
func measureTree(pid int, descendants bool, group *cgroup.Group, most int) (used int64, processes int) {
	t := tree{descendants: descendants, most: most}
	ids, depth := []int{pid}, 0
	if descendants && group != nil {
		ids, depth = group.Processes(), maxDepth
	}
	for _, id := range ids {
		t.add(id, depth)
	}
	return t.used, t.processes
}

// maxDepth bounds the walk through a tree of processes, which changes while it is read.
const maxDepth = 16

type tree struct {
	descendants     bool
	most, processes int
	used            int64
	buf             [256]byte
}

func (t *tree) add(pid, depth int) {
	dir := "/proc/" + strconv.Itoa(pid)
	if fields := bytes.Fields(readSmall(dir+"/statm", t.buf[:])); len(fields) > 1 {
		pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
		t.used += pages * int64(os.Getpagesize())
	}
	if !t.descendants || t.most > 0 && t.processes > t.most {
		return
	}
	tasks, _ := os.ReadDir(dir + "/task")
	t.processes += len(tasks)
	if depth == maxDepth {
		return
	}
	for _, task := range tasks {
		if t.most > 0 && t.processes > t.most {
			return
		}
		for _, child := range bytes.Fields(readSmall(dir+"/task/"+task.Name()+"/children", make([]byte, 4096))) {
			if id, err := strconv.Atoi(string(child)); err == nil {
				t.add(id, depth+1)
			}
		}
	}
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

// ownPeak returns the peak resident memory of this program. The accounting of a child starts with
// its parent's peak, so only a larger value says something about the child.
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
