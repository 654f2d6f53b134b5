package worker

import (
	"errors"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
)

func sysProcAttr(c *Config, g *cgroup.Group) *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: credential(c.User)}
	a.CgroupFD, a.UseCgroupFD = g.FD()
	for _, n := range []struct {
		is   Namespaces
		flag uintptr
	}{{PIDNamespace, syscall.CLONE_NEWPID}, {IPCNamespace, syscall.CLONE_NEWIPC}, {NetworkNamespace, syscall.CLONE_NEWNET}} {
		if c.Namespaces&n.is != 0 {
			a.Cloneflags |= n.flag
		}
	}
	return a
}

// forbidNewPrivileges binds the calling thread and what it starts, for good.
func forbidNewPrivileges() { _ = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }

// waitExit returns when the process has ended and leaves it a zombie, so that its id and that of its group cannot be another's yet.
func waitExit(p *os.Process) *os.ProcessState {
	for {
		err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return nil
		}
	}
}

// inheritedDescriptors returns entries for os.ProcAttr.Files that close, in the child, every descriptor which this program holds without
// close-on-exec: those that it inherited itself. (What Go opens is always close-on-exec.)
func inheritedDescriptors() []*os.File {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return nil
	}
	highest := 2
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= highest {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			highest = fd
		}
	}
	return make([]*os.File, highest-2)
}

// largePipe is what a pipe is made to hold once something large goes through it. Not from the start: what all pipes of a user hold is limited.
const largePipe = 1 << 20

// enlarge makes large frames pass with fewer switches between the two processes. It is a wish.
func enlarge(pipe *os.File) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, largePipe) })
}
