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

// killAll kills the process, its group, and what else it has started. Without a control group that is what still can be seen to descend from it; reap looks for the rest
// by its mark. It is called before the process is waited for.
func (p *process) killAll() {
	if p.group != nil {
		killGroup(p.proc)
		p.group.Kill()
		return
	}
	var strays []int // as descriptors, which stay bound to their process
	findStrays(p.pid, p.pid, 0, &strays)
	killGroup(p.proc)
	for _, fd := range strays {
		_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		_ = unix.Close(fd)
	}
}

// maxStrays bounds how many descriptors are opened to kill what left its group.
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

// endStrays ends what is left of a pool whose processes have ended: what carries its mark and, where nobody else has these, its user or its directory. It returns how many
// processes have not ended in time.
func (c *Config) endStrays() int {
	alone := c.User != nil && c.User.Alone
	temp := "\x00TMPDIR=" + absolute(c.TempDir) + "\x00"
	return endWhere(func(proc string) bool {
		return alone && owner(proc) == int64(c.User.UID) || c.Mark.CarriedBy(proc) || c.OwnTempDir &&
			environmentHas(proc, temp)
	})
}

// endMarked ends what has the mark of a single process, which is in its environment alone.
func endMarked(m proctree.Mark) { endWhere(m.CarriedBy) }

// KillStrays kills the processes whose TMPDIR is in dir, an absolute path: what is left of pools whose program was killed and that no control group has held together.
func KillStrays(dir string) {
	temp := "\x00TMPDIR=" + dir + "/"
	endWhere(func(proc string) bool { return environmentHas(proc, temp) })
}

// endWhere ends the processes whose directory in /proc is asked for. It returns how many are left after endWait.
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

// environmentHas looks for text in what a process, unless it is a zombie, was started with: variables with a zero byte before and after each.
func environmentHas(dir, what string) bool {
	text, err := os.ReadFile(dir + "/environ")
	return err == nil && bytes.Contains(append(append([]byte{0}, text...), 0), []byte(what))
}
