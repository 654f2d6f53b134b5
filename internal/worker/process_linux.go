package worker

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

func sysProcAttr(c *Config, g *cgroup.Group) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: credential(c.User)}
	a.CgroupFD, a.UseCgroupFD = g.FD()
	for _, n := range []struct {
		is   Namespaces
		flag uintptr
	}{{PIDNamespace, syscall.CLONE_NEWPID}, {IPCNamespace, syscall.CLONE_NEWIPC},
		{NetworkNamespace, syscall.CLONE_NEWNET}} {
		if c.Namespaces&n.is != 0 {
			a.Cloneflags |= n.flag
		}
	}
	return a
}

// startHeld starts a process and calls then before the process executes its first instruction. The
// calling goroutine, which must be locked to its thread, traces the process until then returns. If
// the system does not allow that, the process already runs when then is called.
func startHeld(path string, argv []string, attr *os.ProcAttr, then func(pid int)) (*os.Process, error) {
	attr.Sys.Ptrace = true
	p, err := os.StartProcess(path, argv, attr)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.ENOSYS) {
		attr.Sys.Ptrace = false
		p, err = os.StartProcess(path, argv, attr)
	}
	if err != nil {
		return nil, err
	}
	then(p.Pid)
	if attr.Sys.Ptrace {
		release(p.Pid)
	}
	return p, nil
}

// release lets a traced process run. The process stops as soon as it has executed its program,
// unless it is killed. release does not wait for that stop: if this program waits for any child
// elsewhere, as the first process of a container does, only that wait is told.
func release(pid int) {
	for unix.PtraceDetach(pid) != nil {
		var info unix.Siginfo
		const trapped = 4 // CLD_TRAPPED, which is reported without being asked for
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err != nil && err != unix.EINTR || err == nil && info.Signo != 0 && info.Code != trapped {
			return // it has ended
		}
		_ = unix.Nanosleep(&unix.Timespec{Nsec: 20_000}, nil)
	}
}

// forbidNewPrivileges binds the calling thread and what it starts, permanently.
func forbidNewPrivileges() { _ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }

// ending is the end of a process. The wait for it is in Go's poller: it takes no thread, and can be
// given up.
type ending struct{ fd *os.File } // nil if the kernel has no process descriptors, or no more of them

func awaitable(p *os.Process) *ending {
	fd, err := unix.PidfdOpen(p.Pid, unix.O_NONBLOCK)
	if err != nil {
		return &ending{}
	}
	return &ending{os.NewFile(uintptr(fd), "process")}
}

// within makes wait give up after d.
func (e *ending) within(d time.Duration) {
	if e.fd != nil {
		_ = e.fd.SetReadDeadline(time.Now().Add(d))
	}
}

// wait returns when the process has ended. It leaves the process a zombie, so that its id and its
// group's are not reused yet; the state is nil. It reports false if it gave up.
func (e *ending) wait(p *os.Process) (*os.ProcessState, bool) {
	if e.fd == nil {
		return nil, hasEnded(p.Pid, 0)
	}
	defer func() { _ = e.fd.Close() }()
	raw, err := e.fd.SyscallConn()
	if err == nil {
		err = raw.Read(func(uintptr) bool { return hasEnded(p.Pid, unix.WNOHANG) })
	}
	return nil, err == nil || hasEnded(p.Pid, unix.WNOHANG)
}

// hasEnded checks or, without WNOHANG, waits whether a child has ended. It leaves the child a
// zombie.
func hasEnded(pid, how int) bool {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT|how, nil)
		if !errors.Is(err, unix.EINTR) {
			return err != nil || info.Signo != 0
		}
	}
}

// inheritedDescriptors returns entries for os.ProcAttr.Files that close, in the child, the
// descriptors that this program holds without close-on-exec, because it inherited them. (Go opens
// everything with close-on-exec.) The child needs descriptors above those for itself; a descriptor
// too high for that is made close-on-exec in this program.
func inheritedDescriptors() []*os.File {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	most := maxInherited
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		most = int(min(uint64(most), limit.Cur/2))
	}
	highest := 2
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= highest {
			continue
		}
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		switch {
		case err != nil || flags&unix.FD_CLOEXEC != 0:
		case fd > most:
			unix.CloseOnExec(fd)
		default:
			highest = fd
		}
	}
	return make([]*os.File, highest-2)
}

// maxInherited is the highest descriptor that each child closes for itself.
const maxInherited = 1000

// largePipe is the size of a pipe after something large has gone through it. Pipes start smaller
// because the total size of a user's pipes is limited.
const largePipe = 1 << 20

// enlarge lets large frames pass with fewer switches between the two processes. It may fail.
func enlarge(pipe *os.File) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, largePipe) })
}

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
