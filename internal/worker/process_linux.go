package worker

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
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
