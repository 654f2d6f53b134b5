package proctree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Supported says whether this system tells which processes carry a mark.
const Supported = true

// limit is the mark as a soft limit of RLIMIT_RTTIME: for how many microseconds a process with a
// real-time priority may compute without a pause. It is more than 70,000 years, and so limits
// nothing.
func (m Mark) limit() uint64 {
	sum := sha256.Sum256([]byte(m))
	return 1<<61 | binary.LittleEndian.Uint64(sum[:])>>3
}

// Limit returns the mark as it appears in the file limits of a process in /proc.
func (m Mark) Limit() string { return strconv.FormatUint(m.limit(), 10) }

// Put adds the limit to the mark of a process. Call it as soon as the process is started: what the
// process starts before that carries the mark in its environment alone. Put keeps a hard limit that
// somebody has set.
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

// process is a process that carries a mark. The descriptor stays bound to it when its number is
// reused.
type process struct{ pid, fd int }

func (p process) close() { _ = unix.Close(p.fd) }

// ended reports whether the process has ended. Nobody may have waited for it yet.
func (p process) ended() bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

// most bounds how many processes are held by descriptors. The next look finds the others.
const most = 1000

// find returns the running processes, except this one, for whose directory in /proc is returns
// true, and the dying ones, which can no longer be identified. It holds each by a descriptor before
// it looks. Linux before 5.3 has no such descriptors, and find finds nothing.
func find(is func(proc string) bool) (found, dying []process) {
	entries, _ := os.ReadDir("/proc") // whatever can be read is enough
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if len(found)+len(dying) == most {
			break
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has ended
		}
		p, dir := process{pid, fd}, "/proc/"+e.Name()
		switch {
		case p.ended():
			p.close()
		case is(dir):
			found = append(found, p)
		case isDying(dir):
			dying = append(dying, p)
		default:
			p.close()
		}
	}
	return found, dying
}

// find returns the processes that carry the mark.
func (m Mark) find() []process {
	if m == "" {
		return nil
	}
	found, dying := find(m.CarriedBy)
	closeAll(dying)
	return found
}

func closeAll(all []process) {
	for _, p := range all {
		p.close()
	}
}

// CarriedBy reports whether the process with this directory in /proc carries the mark.
func (m Mark) CarriedBy(proc string) bool {
	if m == "" {
		return false
	}
	if text, err := os.ReadFile(proc + "/environ"); err == nil && bytes.Contains(text, []byte(m)) {
		for kv := range strings.SplitSeq(string(text), "\x00") {
			if marks, is := strings.CutPrefix(kv, EnvName+"="); is && slices.Contains(strings.Fields(marks), string(m)) {
				return true
			}
		}
	}
	text, err := os.ReadFile(proc + "/limits")
	return err == nil && bytes.Contains(text, []byte(" "+m.Limit()+" "))
}

// isDying reports whether a process has released its memory, including its environment, and has not
// ended yet.
func isDying(proc string) bool {
	stat, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return false
	}
	fields := bytes.Fields(stat[max(0, bytes.LastIndexByte(stat, ')')):]) // after the name, which may contain anything
	const state, flags, exiting = 1, 7, 4                                 // of proc_pid_stat(5), and PF_EXITING
	if len(fields) <= flags || fields[state][0] == 'Z' || fields[state][0] == 'X' {
		return false
	}
	n, err := strconv.ParseUint(string(fields[flags]), 10, 64)
	if err != nil || n&exiting == 0 {
		return false
	}
	text, err := os.ReadFile(proc + "/environ")
	return err == nil && len(text) == 0
}

// Exists reports whether any process except this one carries the mark.
func (m Mark) Exists() bool {
	found := m.find()
	closeAll(found)
	return len(found) > 0
}

// Terminate asks every process that carries the mark to end, except those of one process group,
// which got a signal as a group.
func (m Mark) Terminate(but int) {
	for _, p := range m.find() {
		if group, err := unix.Getpgid(p.pid); err == nil && group != but {
			_ = unix.PidfdSendSignal(p.fd, unix.SIGTERM, nil, 0) // it may just have ended
		}
		p.close()
	}
}

// Await returns nil when no process carries the mark, or the error of ctx if that ends before.
func (m Mark) Await(ctx context.Context) error {
	if m == "" {
		return nil
	}
	return await(ctx, m.CarriedBy, func([]process) error { return nil })
}

// Kill kills every process that carries the mark, and returns when none is left. If ctx ends
// before, or if this program may not kill what is left, the error is a *Left.
func (m Mark) Kill(ctx context.Context) error {
	if m == "" {
		return nil
	}
	return KillWhere(ctx, m.CarriedBy)
}

// KillWhere is [Mark.Kill] for the processes, except this one, for whose directory in /proc is
// returns true.
func KillWhere(ctx context.Context, is func(proc string) bool) error {
	err := await(ctx, is, kill)
	if err == nil {
		return nil
	}
	left := &Left{Cause: err}
	found, dying := find(is)
	closeAll(dying)
	for _, p := range found {
		name, _ := os.ReadFile("/proc/" + strconv.Itoa(p.pid) + "/comm")
		left.Processes = append(left.Processes, strconv.Itoa(p.pid)+" ("+strings.TrimSpace(string(name))+")")
	}
	closeAll(found)
	if len(left.Processes) == 0 {
		return nil
	}
	return left
}

// kill returns an error if no process may be killed.
func kill(all []process) (err error) {
	refused := 0
	for _, p := range all {
		if e := unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0); e == unix.EPERM {
			refused, err = refused+1, e
		}
	}
	if refused < len(all) {
		return nil
	}
	return err
}

// await calls each with the processes repeatedly until there are none: a process may start another
// just before it ends.
func await(ctx context.Context, is func(proc string) bool, each func([]process) error) error {
	for {
		found, dying := find(is)
		err := each(found)
		awaitAll(ctx, dying)
		if err == nil {
			awaitAll(ctx, found)
		}
		closeAll(dying)
		closeAll(found)
		if len(found) == 0 || err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// awaitAll returns when all processes have ended, when it is time to look again, or when ctx has
// ended.
func awaitAll(ctx context.Context, all []process) {
	end := time.Now().Add(look)
	fds := make([]unix.PollFd, len(all))
	for i, p := range all {
		fds[i] = unix.PollFd{Fd: int32(p.fd), Events: unix.POLLIN}
	}
	for len(fds) > 0 && ctx.Err() == nil {
		// Wait for a part of the time, because nothing else ends the call when ctx ends.
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
