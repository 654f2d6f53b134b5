//go:build linux || darwin

package detached

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// script starts the supervisor in the background and prints its id, so that the supervisor is
// nobody's child and nobody must wait for it. The supervisor waits for a line on descriptor 3, and
// then runs the process over and over, with a pause that doubles from 1 s to 30 s. On SIGTERM,
// which the whole group gets, it ends when the process has ended.
const script = `
status=$1; shift
(
	trap 'stop=1' TERM
	trap '' HUP INT QUIT
	read -r go <&3 || exit 0
	exec 3<&- 4>&-
	pause=1 ends=0
	while :; do
		began=$(date +%s)
		"$@" </dev/null &
		child=$!
		[ -z "$stop" ] || kill -TERM "$child" 2>/dev/null
		wait "$child"
		while kill -0 "$child" 2>/dev/null; do wait "$child"; done
		[ -z "$stop" ] || exit 0
		if [ $(($(date +%s) - began)) -gt 30 ]; then pause=1 ends=0; fi
		ends=$((ends + 1))
		echo "$ends" >"$status"
		sleep "$pause" &
		wait $!
		[ -z "$stop" ] || exit 0
		pause=$((pause * 2))
		[ "$pause" -le 30 ] || pause=30
	done
) &
echo $! >&4
`

// Start starts the process and returns what identifies it. It calls record before the process does
// anything, and lets the process run only if record returns nil.
func Start(c Config, record func(Process) error) (_ Process, err error) {
	if err := os.Remove(c.Status); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Process{}, err
	}
	output, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return Process{}, err
	}
	defer output.Close()
	goR, goW, err := os.Pipe()
	if err != nil {
		return Process{}, err
	}
	defer goW.Close() // if a step fails, the shell gets no line and ends
	idR, idW, err := os.Pipe()
	if err != nil {
		return Process{}, errors.Join(err, goR.Close())
	}
	defer idR.Close()
	cmd := exec.Command("/bin/sh", append([]string{"-c", script, "blueprint-runner", c.Status, c.Path}, c.Args...)...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = c.Mark.AddTo(c.Env), c.Dir, output, output
	cmd.ExtraFiles = []*os.File{goR, idW}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_, _ = goR.Close(), idW.Close()
	if err != nil {
		return Process{}, err
	}
	line, readErr := bufio.NewReader(idR).ReadString('\n')
	if err := errors.Join(readErr, cmd.Wait()); err != nil {
		return Process{}, fmt.Errorf("start /bin/sh: %w", err)
	}
	p := Process{Group: cmd.Process.Pid, Status: c.Status, Mark: c.Mark}
	if p.PID, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		return Process{}, err
	}
	if p.Start, err = startOf(p.PID); err != nil {
		return Process{}, err
	}
	_ = c.Mark.Put(p.PID) // before it starts anything; the environment alone is a mark too
	if err := record(p); err != nil {
		return Process{}, err
	}
	_, err = goW.WriteString("go\n")
	return p, err
}

// Alive reports whether the process runs.
func (p Process) Alive() bool {
	if p.PID <= 1 || p.Start == "" {
		return false
	}
	start, err := startOf(p.PID)
	return err == nil && start == p.Start
}

func (p Process) signal(kill bool) error {
	if p.Group <= 1 {
		return nil
	}
	sig := syscall.SIGTERM
	if kill {
		sig = syscall.SIGKILL
	}
	if err := syscall.Kill(-p.Group, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}
