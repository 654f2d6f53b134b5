package worker

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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
		return alone && owner(proc) == int64(c.User.UID) || environmentHas(proc, c.mark) || c.OwnTempDir && environmentHas(proc, temp)
	})
}

// endMarked ends what carries the mark.
func (*Config) endMarked(mark string) {
	endWhere(func(proc string) bool { return environmentHas(proc, mark) })
}

// KillStrays kills the processes whose TMPDIR is in dir, an absolute path: what is left of pools whose program was killed and that no control group has held together.
func KillStrays(dir string) {
	temp := "\x00TMPDIR=" + dir + "/"
	endWhere(func(proc string) bool { return environmentHas(proc, temp) })
}

// endWhere ends the processes whose directory in /proc is asked for, and looks again until there are none: what was killed may have started another just before. It returns how many
// are left after endWait. The process is held by a descriptor before it is looked at, so that no other one that gets its number is killed.
func endWhere(is func(proc string) bool) (left int) {
	for deadline := time.Now().Add(endWait); ; {
		var killed, dying []unix.PollFd
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			id, err := strconv.Atoi(e.Name())
			if err != nil || id == os.Getpid() {
				continue
			}
			fd, err := unix.PidfdOpen(id, 0)
			if err != nil {
				continue // it has ended
			}
			proc, poll := "/proc/"+e.Name(), unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
			switch {
			case len(killed)+len(dying) == maxStrays: // the others are for the next round
				_ = unix.Close(fd)
			case is(proc) && unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil:
				killed = append(killed, poll)
			case isDying(proc):
				dying = append(dying, poll)
			default:
				_ = unix.Close(fd)
			}
		}
		awaitEnd(dying, time.Now().Add(dyingWait))
		if len(killed) == 0 {
			return 0
		}
		if left = awaitEnd(killed, deadline); time.Now().After(deadline) {
			return left
		}
	}
}

// awaitEnd waits until the processes have ended, and closes their descriptors. It returns how many have not.
func awaitEnd(list []unix.PollFd, deadline time.Time) (left int) {
	for i := range list {
		n, err := 0, error(unix.EINTR)
		for err == unix.EINTR {
			n, err = unix.Poll(list[i:i+1], int(max(time.Until(deadline), 0).Milliseconds()))
		}
		if n == 0 {
			left++
		}
		_ = unix.Close(int(list[i].Fd))
	}
	return left
}

// dyingWait is how long is waited for what is ending and can no longer be told whose it was.
const dyingWait = 100 * time.Millisecond

// isDying reports whether a process has given its memory back, and with it what it was started with, and has not ended yet.
func isDying(dir string) bool {
	var buf [512]byte
	if environ := readSmall(dir+"/environ", buf[:1]); len(environ) > 0 {
		return false
	}
	stat := readSmall(dir+"/stat", buf[:])
	fields := bytes.Fields(stat[max(0, bytes.LastIndexByte(stat, ')')):]) // after the name, with anything in it
	const state, flags, exiting = 1, 7, 4                                 // of proc_pid_stat(5), and PF_EXITING
	if len(fields) <= flags || fields[state][0] == 'Z' || fields[state][0] == 'X' {
		return false
	}
	n, err := strconv.ParseUint(string(fields[flags]), 10, 64)
	return err == nil && n&exiting != 0
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
