//go:build linux

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
)

// within fails the test if f takes much longer than any bound.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(aWhile):
		t.Fatalf("%s does not return", what)
	}
}

// pidsIn waits for the file of jobStay, or of a script that does the same.
func pidsIn(t *testing.T, file string, n int) (pids []int) {
	t.Helper()
	for deadline := time.Now().Add(aWhile); ; time.Sleep(time.Millisecond) {
		text, _ := os.ReadFile(file)
		if lines := strings.Fields(string(text)); len(lines) >= n && strings.HasSuffix(string(text), "\n") {
			for _, line := range lines {
				pids = append(pids, readPID(t, line))
			}
			return pids
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s has %q", file, text)
		}
	}
}

// However a job tries to stay: when the call is over or the pool is closed, the job is gone with
// everything that it started, and no wait for it is unbounded.
func TestNothingStays(t *testing.T) {
	onBothHosts(t, func(t *testing.T, h *Host, _ cgroup.Support) {
		for _, mode := range modes {
			for _, end := range []string{"timeout", "close"} {
				t.Run(mode+" "+end, func(t *testing.T) {
					p := newPool(t, mode, func(c *Config) { c.Host, c.MaxWorkers, c.Grace = h, 1, 10*time.Millisecond })
					file := filepath.Join(t.TempDir(), "pids")
					answered := make(chan error, 1)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					go func() {
						_, _, err := p.Invoke(ctx, jobStay, []byte(file), time.Hour)
						answered <- err
					}()
					pids := pidsIn(t, file, 3)
					if got := running(pids); len(got) != 3 {
						t.Fatalf("of %v only %v run, so that this shows nothing", pids, got)
					}
					var closed error
					if end == "timeout" {
						cancel()
						within(t, "Invoke", func() { <-answered })
						for _, pid := range pids {
							gone(t, pid)
						}
					}
					within(t, "Close", func() {
						now, cancel := context.WithCancel(context.Background())
						cancel()
						closed = p.Close(now)
					})
					if got := running(pids); len(got) > 0 {
						t.Errorf("of %v there still run %v; %v", pids, got, closed)
					}
					if end == "close" && faas.CodeOf(<-answered) != faas.ErrUnavailable {
						t.Error("the call that was cut off has another error")
					}
				})
			}
		}
	})
}

func TestNothingOfARunnerStays(t *testing.T) {
	h := NewHost()
	t.Cleanup(h.Close)
	dir := t.TempDir()
	script := filepath.Join(dir, "runner")
	body := `#!/bin/sh
trap '' TERM
setsid sleep 1000 >/dev/null 2>&1 &
first=$!
second=$(setsid sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!')
third=$(env -i PATH="$PATH" setsid sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!')
printf '%s\n' $$ $first $second $third >pids.new; mv pids.new pids
while :; do sleep 1; done`
	if err := os.WriteFile(script, []byte(body), 0o700); err != nil {
		t.Fatal(err)
	}
	r, err := StartResident(Config{Path: script, Dir: dir, TempDir: os.TempDir(), Grace: 50 * time.Millisecond, Host: h})
	if err != nil {
		t.Fatal(err)
	}
	pids := pidsIn(t, filepath.Join(dir, "pids"), 4)
	within(t, "Close", func() { err = r.Close(t.Context()) })
	if got := running(pids); err != nil || len(got) > 0 {
		t.Errorf("of %v there still run %v; %v", pids, got, err)
	}
}

// Limits and the mark are in force before a process does anything.
func TestAProcessIsHeldUntilItIsConfined(t *testing.T) {
	h := NewHost()
	t.Cleanup(h.Close)
	for range 20 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		var before []byte
		attr := &os.ProcAttr{Files: []*os.File{nil, w}, Sys: &syscall.SysProcAttr{}}
		p, err := h.startProcess("/bin/sh", []string{"sh", "-c", "echo ran"}, attr, func(int) {
			_ = r.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) // long enough for a process that is not held
			before, _ = io.ReadAll(r)
		})
		_ = w.Close()
		if err != nil {
			t.Fatal(err)
		}
		_ = r.SetReadDeadline(time.Time{})
		after, err := io.ReadAll(r)
		state, werr := p.Wait()
		held := attr.Sys.Ptrace // otherwise the system does not allow it
		if held && len(before) > 0 || string(before)+string(after) != "ran\n" || !state.Success() || err != nil ||
			werr != nil {
			t.Fatalf("it wrote %q before and %q after, %v, %v, %v", before, after, state, err, werr)
		}
		_ = r.Close()
	}
}

// Whatever happens while a process is held, its starter continues.
func TestAHeldProcessMayBeKilledOrTold(t *testing.T) {
	h := NewHost()
	t.Cleanup(h.Close)
	for name, meanwhile := range map[string]func(pid int){
		"killed": func(pid int) { _ = syscall.Kill(pid, syscall.SIGKILL) },
		"somebody else is told that it has stopped": func(pid int) { _, _ = syscall.Wait4(pid, nil, 0, nil) },
	} {
		attr := &os.ProcAttr{Sys: &syscall.SysProcAttr{}}
		within(t, name, func() {
			p, err := h.startProcess("/bin/sh", []string{"sh", "-c", "exit 3"}, attr, func(pid int) {
				if attr.Sys.Ptrace { // otherwise the system does not allow it
					meanwhile(pid)
				}
			})
			if err != nil {
				t.Error(err)
				return
			}
			state, err := p.Wait()
			if want := map[bool]int{true: -1, false: 3}[name == "killed" && attr.Sys.Ptrace]; err != nil ||
				state.ExitCode() != want {
				t.Errorf("%s: %v, %v, want exit code %d", name, state, err, want)
			}
		})
	}
}

// If the system does not end a killed process, Close returns an error and does not hang.
func TestWhatCannotBeEndedIsSaid(t *testing.T) {
	h := NewHost()
	t.Cleanup(h.Close)
	p := newPool(t, "frames", func(c *Config) { c.Host, c.MaxWorkers, c.Grace = h, 1, 10*time.Millisecond })
	pid := readPID(t, mustInvoke(t, p, jobPID, ""))
	// A group of version 1: what is frozen there does not see that it was killed.
	freezer := "/sys/fs/cgroup/freezer/blueprint-test-frozen"
	if os.Mkdir(freezer, 0o755) != nil {
		e := awaitable(p.workers[0].proc)
		e.within(time.Millisecond)
		if _, ended := e.wait(p.workers[0].proc); ended {
			t.Error("a process that lives has ended")
		}
		return
	}
	thaw := func() { _ = os.WriteFile(freezer+"/freezer.state", []byte("THAWED"), 0) }
	defer func() {
		thaw()
		gone(t, pid)
		for os.Remove(freezer) != nil {
			time.Sleep(time.Millisecond)
		}
	}()
	if err := errors.Join(os.WriteFile(freezer+"/cgroup.procs", fmt.Append(nil, pid), 0),
		os.WriteFile(freezer+"/freezer.state", []byte("FROZEN"), 0)); err != nil {
		t.Fatal(err)
	}
	within(t, "Invoke", func() {
		if _, _, err := p.Invoke(t.Context(), jobEcho, nil, 50*time.Millisecond); faas.CodeOf(err) != faas.ErrTimeout {
			t.Errorf("got %v", err)
		}
	})
	var err error
	within(t, "Close", func() { err = p.Close(t.Context()) })
	if faas.CodeOf(err) != faas.ErrInternal || !strings.Contains(err.Error(), fmt.Sprint(pid)) {
		t.Errorf("got %v", err)
	}
}

// A process that is started for a call must not become the service's runner, which would start one
// for each call, and so on.
func TestACallIsNotTheRunner(t *testing.T) {
	for _, mode := range modes {
		p := newPool(t, mode, func(c *Config) { c.Env = append(c.Env, faas.RunnerConfigEnv+"={}") })
		if got := strings.Contains(mustInvoke(t, p, jobEnv, ""), faas.RunnerConfigEnv); got != (mode == "frames") {
			t.Errorf("%s: it has the runner's configuration: %t", mode, got)
		}
	}
}

// A descriptor may be above the present limit of this program. It must neither reach a job nor keep
// one from starting.
func TestAHighDescriptorIsNotInherited(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	const high = 700
	if err := syscall.Dup3(int(null.Fd()), high, 0); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Close(high) }()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 256, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before) }()
	for _, mode := range modes {
		p := newPool(t, mode, nil)
		if got := mustInvoke(t, p, jobFDs, ""); strings.Contains(got, "700 ") {
			t.Errorf("%s: it has\n%s", mode, got)
		}
	}
}
