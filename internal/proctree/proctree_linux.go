package proctree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Supported says whether this system tells which processes carry a mark.
const Supported = true

// limit is the mark as a soft limit of RLIMIT_RTTIME: how many microseconds a process may compute at a stretch while it has a real-time priority. As it is
// more than 70,000 years, it limits nothing.
func (m Mark) limit() uint64 {
	sum := sha256.Sum256([]byte(m))
	return 1<<61 | binary.LittleEndian.Uint64(sum[:])>>3
}

// Limit returns the mark as it stands in the file limits of a process in /proc.
func (m Mark) Limit() string { return strconv.FormatUint(m.limit(), 10) }

// Put marks a process beyond its environment. It is to be called as soon as the process has been started: what that has started before has the environment
// alone. A hard limit that somebody has set is left alone.
func (m Mark) Put(pid int) error {
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_RTTIME, nil, &old); err != nil {
		return err
	}
	if old.Max < m.limit() {
		return unix.EPERM
	}
	return unix.Prlimit(pid, unix.RLIMIT_RTTIME, &unix.Rlimit{Cur: m.limit(), Max: old.Max}, nil)
}

// process is one that carries a mark. The descriptor stays bound to it when its number is given to another.
type process struct{ pid, fd int }

func (p process) close() { _ = unix.Close(p.fd) }

// ended reports whether it has ended, though nobody may have waited for it.
func (p process) ended() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

// find returns the processes that carry the mark and run, but not this one. Linux before 5.3 has no such descriptors, and none are found.
func (m Mark) find() (found []process) {
	if m == "" {
		return nil
	}
	env := []byte("\x00" + m.Env() + "\x00")
	limit := []byte(" " + m.Limit() + " ")
	entries, _ := os.ReadDir("/proc") // what can be read of it will do
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		p := process{pid, fd}
		if carries("/proc/"+e.Name(), env, limit) && !p.ended() {
			found = append(found, p)
			continue
		}
		p.close()
	}
	return found
}

func carries(dir string, env, limit []byte) bool {
	if text, err := os.ReadFile(dir + "/environ"); err == nil && bytes.Contains(append(append([]byte{0}, text...), 0), env) {
		return true
	}
	text, err := os.ReadFile(dir + "/limits")
	return err == nil && bytes.Contains(text, limit)
}

// Exists reports whether any process but this one carries the mark.
func (m Mark) Exists() bool {
	found := m.find()
	for _, p := range found {
		p.close()
	}
	return len(found) > 0
}

// Terminate asks every process that carries the mark to end, but those of one process group, which got a signal as a group.
func (m Mark) Terminate(but int) {
	for _, p := range m.find() {
		if group, err := unix.Getpgid(p.pid); err == nil && group != but {
			_ = unix.PidfdSendSignal(p.fd, unix.SIGTERM, nil, 0) // it may have ended just now
		}
		p.close()
	}
}

// Await returns nil once no process carries the mark, and the error of ctx if that ends before.
func (m Mark) Await(ctx context.Context) error { return m.await(ctx, func(process) {}) }

// Kill ends every process that carries the mark, and returns once none is left. If ctx ends before, the error is a *Left.
func (m Mark) Kill(ctx context.Context) error {
	err := m.await(ctx, func(p process) { _ = unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0) })
	if err == nil {
		return nil
	}
	left := &Left{Cause: err}
	for _, p := range m.find() {
		name, _ := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/comm")
		left.Processes = append(left.Processes, strconv.Itoa(p.pid)+" ("+strings.TrimSpace(string(name))+")")
		p.close()
	}
	if len(left.Processes) == 0 {
		return nil
	}
	return left
}

// await calls each for every process that carries the mark, over and over until there is none: one may start another just before it ends.
func (m Mark) await(ctx context.Context, each func(process)) error {
	for {
		found := m.find()
		if len(found) == 0 {
			return nil
		}
		for _, p := range found {
			each(p)
		}
		awaitAll(ctx, found)
		for _, p := range found {
			p.close()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// awaitAll returns when all processes have ended, it is time to look again, or ctx has ended.
func awaitAll(ctx context.Context, all []process) {
	end := time.Now().Add(look)
	fds := make([]unix.PollFd, len(all))
	for i, p := range all {
		fds[i] = unix.PollFd{Fd: int32(p.fd), Events: unix.POLLIN}
	}
	for len(fds) > 0 && ctx.Err() == nil {
		// A part of the time, since nothing else ends the call when ctx ends.
		wait := min(time.Until(end), look/10)
		if wait <= 0 {
			return
		}
		if _, err := unix.Poll(fds, int(max(wait.Milliseconds(), 1))); err != nil && err != unix.EINTR {
			return
		}
		running := fds[:0]
		for _, fd := range fds {
			if fd.Revents == 0 {
				running = append(running, fd)
			}
		}
		fds = running
	}
}
