package detached

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

var errEnded = errors.New("the process has ended")

// zombie is SZOMB of sys/proc.h.
const zombie = 5

// startOf returns when a process was started, to the microsecond.
func startOf(pid int) (string, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return "", err
	}
	if int(info.Proc.P_pid) != pid || info.Proc.P_stat == zombie {
		return "", errEnded
	}
	return fmt.Sprintf("%d.%06d", info.Proc.P_starttime.Sec, info.Proc.P_starttime.Usec), nil
}
