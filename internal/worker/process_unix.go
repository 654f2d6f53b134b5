//go:build unix

package worker

import (
	"os"
	"syscall"
)

// DefaultPath is the default PATH of processes, in which a shell script finds the system's tools.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const errTextBusy = syscall.ETXTBSY

func baseEnvironment(temp string) []string {
	return []string{"PATH=" + DefaultPath, "HOME=" + temp, "TMPDIR=" + temp}
}

func credential(u *User) *syscall.Credential {
	if u == nil {
		return nil
	}
	return &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups}
}

// killGroup kills the process, which may have joined another group, and everything in its own
// group. The process must not have been waited for.
func killGroup(p *os.Process) {
	_ = p.Kill()
	if p.Pid > 0 {
		_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
	}
}

func signalOf(s *os.ProcessState) (string, bool) {
	ws, ok := s.Sys().(syscall.WaitStatus)
	if !ok || !ws.Signaled() {
		return "", false
	}
	return ws.Signal().String(), true
}

// terminate asks the process and its group to end.
func (p *process) terminate() {
	p.killing.Lock()
	defer p.killing.Unlock()
	if p.reaped {
		return
	}
	if group, err := syscall.Getpgid(p.pid); err == nil && group != p.pid { // it has joined another
		_ = p.proc.Signal(syscall.SIGTERM)
	}
	_ = syscall.Kill(-p.pid, syscall.SIGTERM) // it may just have ended
}
