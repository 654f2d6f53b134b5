package worker

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

// killAll kills the process, its group, and what else it started. Without a control group these are
// the visible descendants; reap finds the rest by its mark. Call it before the process is waited
// for.
func (p *process) killAll() {
	if p.group != nil {
		killGroup(p.proc)
		p.group.Kill()
		return
	}
	var strays []int // descriptors, which stay bound to their process
	findStrays(p.pid, p.pid, 0, &strays)
	killGroup(p.proc)
	for _, fd := range strays {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		_ = unix.Close(fd)
	}
}

// maxStrays bounds how many descriptors are opened to kill processes that left the group.
const maxStrays = 1000

// findStrays opens the descendants of pid that are in another group than pgid.
func findStrays(pid, pgid, depth int, strays *[]int) {
	dir := "/proc/" + strconv.Itoa(pid) + "/task"
	tasks, _ := os.ReadDir(dir)
	for _, task := range tasks {
		for _, child := range bytes.Fields(readSmall(dir+"/"+task.Name()+"/children", make([]byte, 4096))) {
			id, err := strconv.Atoi(string(child))
			if err != nil || len(*strays) >= maxStrays || depth == maxDepth {
				continue
			}
			if group, err := unix.Getpgid(id); err == nil && group != pgid {
				if fd, err := unix.PidfdOpen(id, 0); err == nil {
					*strays = append(*strays, fd)
				}
			}
			findStrays(id, pgid, depth+1, strays)
		}
	}
}

// endStrays ends what is left of a pool whose processes have ended: processes with its mark and, if
// nobody else uses these, with its user or its directory. It returns how many processes did not end
// in time.
func (c *Config) endStrays() int {
	alone := c.User != nil && c.User.Alone
	temp := "\x00TMPDIR=" + absolute(c.TempDir) + "\x00"
	return endWhere(func(proc string) bool {
		return alone && owner(proc) == int64(c.User.UID) || c.Mark.CarriedBy(proc) || c.OwnTempDir &&
			environmentHas(proc, temp)
	})
}

// endMarked ends the processes that have the mark of a single process in their environment.
func endMarked(m proctree.Mark) { endWhere(m.CarriedBy) }

// KillStrays kills the processes whose TMPDIR is in dir, an absolute path: the remains of pools
// whose program was killed and that no control group held together.
func KillStrays(dir string) {
	temp := "\x00TMPDIR=" + dir + "/"
	endWhere(func(proc string) bool { return environmentHas(proc, temp) })
}

// endWhere ends the processes for which is returns true of their directory in /proc. It returns how
// many are left after endWait.
func endWhere(is func(proc string) bool) int {
	ctx, cancel := context.WithTimeout(context.Background(), endWait)
	defer cancel()
	var left *proctree.Left
	if errors.As(proctree.KillWhere(ctx, is), &left) {
		return len(left.Processes)
	}
	return 0
}

func owner(path string) int64 {
	var s syscall.Stat_t
	if syscall.Stat(path, &s) != nil {
		return -1
	}
	return int64(s.Uid)
}

// environmentHas looks for text in the environment with which a process was started, with a zero
// byte before and after each variable. A zombie has none.
func environmentHas(dir, what string) bool {
	text, err := os.ReadFile(dir + "/environ")
	return err == nil && bytes.Contains(append(append([]byte{0}, text...), 0), []byte(what))
}
