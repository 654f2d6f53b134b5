package worker

import (
	"bytes"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// killAll kills the process, its group, and what else it has started. Without a control group that is what still can be seen to descend from it. It is called
// before the process is waited for.
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

// sweep kills what is left of a pool whose processes have ended and that no control group has held together: by the user, where nobody else runs as that, and
// by the directory that is in the environment of everything which a job has started without giving it another.
func (p *Pool) sweep() {
	alone := p.cfg.User != nil && p.cfg.User.Alone
	if p.host.Support().Kill || !alone && !p.cfg.OwnTempDir {
		return
	}
	mark := "\x00TMPDIR=" + absolute(p.cfg.TempDir) + "\x00"
	killWhere(func(dir string) bool {
		return alone && owner(dir) == int64(p.cfg.User.UID) || p.cfg.OwnTempDir && environmentHas(dir, mark)
	})
}

// KillStrays kills the processes whose TMPDIR is in dir, an absolute path: what is left of pools whose program was killed and that no control group has held together.
func KillStrays(dir string) {
	mark := "\x00TMPDIR=" + dir + "/"
	killWhere(func(proc string) bool { return environmentHas(proc, mark) })
}

// killWhere kills the processes whose directory in /proc is asked for.
func killWhere(is func(dir string) bool) {
	for range 10 { // what is killed may have started another just before
		entries, _ := os.ReadDir("/proc")
		found := false
		for _, e := range entries {
			id, err := strconv.Atoi(e.Name())
			if err != nil || id == os.Getpid() {
				continue
			}
			fd, err := unix.PidfdOpen(id, 0)
			if err != nil {
				continue
			}
			if is("/proc/" + e.Name()) {
				found = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil || found
			}
			_ = unix.Close(fd)
		}
		if !found {
			return
		}
	}
}

func owner(path string) int64 {
	var s syscall.Stat_t
	if syscall.Stat(path, &s) != nil {
		return -1
	}
	return int64(s.Uid)
}

// environmentHas reads what a process, unless it is a zombie, was started with: variables with a zero byte before and after each.
func environmentHas(dir, mark string) bool {
	text, err := os.ReadFile(dir + "/environ")
	return err == nil && bytes.Contains(append(append([]byte{0}, text...), 0), []byte(mark))
}
