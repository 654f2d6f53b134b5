// Package procstat runs a process to its end, and measures how long it ran and how much memory it
// took, by the operating system's own accounting of that process.
package procstat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// These are the causes that Run's error wraps, besides errors from starting a process and an
// *exec.ExitError.
var (
	ErrTimeout = errors.New("it did not end in time, and was killed")
	ErrOutput  = errors.New("its output is too long")
)

// Spec says what to run.
type Spec struct {
	Path      string
	Args      []string
	Env       []string // complete: nothing is inherited
	Input     []byte   // its standard input, which ends after that
	Timeout   time.Duration
	MaxOutput int // of its standard output, in bytes
}

// Usage says what a process wrote and took.
type Usage struct {
	Output []byte
	// Stderr is the end of its standard error.
	Stderr string
	// Duration is the time from before the start of the process until its end.
	Duration time.Duration
	// PeakMemory is the largest resident size of the process, or of the largest process that it waited
	// for, in bytes. It is 0 if the system does not tell.
	PeakMemory uint64
	// UpperBound says that PeakMemory is an upper bound, which may be far above the truth. This
	// happens with processes that live for a moment.
	UpperBound bool
}

// waitDelay is how long pipes may stay open after the end of the process, if a process that left
// its group holds them.
const waitDelay = 2 * time.Second

// Run runs a process, and returns when it and its process group are gone. ctx ends it early, with
// the context's error, and so does the timeout. Usage holds what is known even if the error is not
// nil.
func Run(ctx context.Context, spec Spec) (Usage, error) {
	// A process that asks to die with its parent dies with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	runCtx, cancel := context.WithTimeout(ctx, spec.Timeout)
	defer cancel()
	cmd := exec.CommandContext(runCtx, spec.Path, spec.Args...)
	cmd.Env = spec.Env
	cmd.Stdin = bytes.NewReader(spec.Input)
	cmd.WaitDelay = waitDelay
	isolate(cmd)
	group := &group{cmd: cmd}
	cmd.Cancel = group.kill

	out := &output{limit: spec.MaxOutput, overflow: cancel}
	tail := &tail{limit: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, tail

	start := time.Now()
	if err := cmd.Start(); err != nil {
		return Usage{}, err
	}
	probe := newProbe(cmd.Process)
	out.begun(probe.sample)
	stop := make(chan struct{})
	var sampler sync.WaitGroup
	sampler.Go(func() { probe.watch(start, stop) })

	var duration time.Duration
	ended := awaitEnd(cmd.Process)
	if ended {
		duration = time.Since(start)
		group.end()
	}
	err := cmd.Wait()
	if !ended {
		duration = time.Since(start)
	}
	close(stop)
	sampler.Wait()

	usage := Usage{Output: out.data, Stderr: tail.String(), Duration: duration}
	usage.PeakMemory, usage.UpperBound = probe.peak(cmd.ProcessState, duration)
	probe.close()
	switch {
	case out.overflowed:
		err = fmt.Errorf("%w: more than %d bytes", ErrOutput, spec.MaxOutput)
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		err = nil // it ended by itself
	case ctx.Err() != nil:
		err = ctx.Err()
	case runCtx.Err() != nil:
		err = fmt.Errorf("%w (after %v)", ErrTimeout, spec.Timeout)
	}
	return usage, err
}

// group is a process and what it started. The group's number is its own only until the process is
// reaped.
type group struct {
	cmd   *exec.Cmd
	mu    sync.Mutex
	ended bool
}

// kill kills the group while the process runs.
func (g *group) kill() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return os.ErrProcessDone
	}
	return killGroup(g.cmd.Process)
}

// end kills what the process left running. Call it between the end of the process and its reaping.
func (g *group) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	_ = killGroup(g.cmd.Process) // the group has at least the ended process, so there is no error
}

// output keeps what is written, up to a limit.
type output struct {
	limit      int
	overflow   func()
	mu         sync.Mutex // guards first: the process may write before begun is called
	first      func()
	data       []byte
	overflowed bool
}

// begun sets the function that is called when the first byte arrives, which for a job is when its
// work is done.
func (o *output) begun(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.first = f
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	first := o.first
	o.first = nil
	o.mu.Unlock()
	if first != nil {
		first()
	}
	if len(p) > o.limit-len(o.data) {
		o.overflowed = true
		o.overflow()
		return 0, io.ErrShortWrite
	}
	o.data = append(o.data, p...)
	return len(p), nil
}

// tail keeps the last bytes written.
type tail struct {
	limit int
	data  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > t.limit {
		p = p[len(p)-t.limit:]
	}
	t.data = append(t.data, p...)
	if len(t.data) > t.limit {
		t.data = append(t.data[:0], t.data[len(t.data)-t.limit:]...)
	}
	return n, nil
}

func (t *tail) String() string { return string(bytes.ToValidUTF8(t.data, nil)) }
