// Package procstat runs a process to its end and says how long it ran and how much memory it took, by the operating system's own accounting
// of that process.
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

// The causes that Run's error wraps, beside those of starting a process and an *exec.ExitError.
var (
	ErrTimeout = errors.New("it did not end in time, and was killed")
	ErrOutput  = errors.New("its output is too long")
)

// Spec says what to run.
type Spec struct {
	Path      string
	Args      []string
	Env       []string // all of it: nothing is inherited
	Input     []byte   // its standard input, which then ends
	Timeout   time.Duration
	MaxOutput int // of its standard output, in bytes
}

// Usage is what a process did and took.
type Usage struct {
	Output []byte
	// Stderr is the end of what it wrote there.
	Stderr string
	// Duration is from before the start of the process until it had ended.
	Duration time.Duration
	// PeakMemory is the largest resident size of the process, or of the largest process it waited for, in bytes; 0 where the system does not tell.
	PeakMemory uint64
	// UpperBound says that PeakMemory is no less than the truth but may be far more, which happens with processes that live for a moment.
	UpperBound bool
}

// waitDelay is how long pipes may stay open after the process has ended, in the hands of something that left its process group.
const waitDelay = 2 * time.Second

// Run runs a process and returns when it and its process group are gone. ctx ends it early, with the context's error; so does the timeout.
// Usage holds what is known also where the error is not nil.
func Run(ctx context.Context, spec Spec) (Usage, error) {
	// Where a process can ask to die with its parent, the parent is the thread that started it.
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

// group is a process and what it started. Its number is its own only until the process is reaped.
type group struct {
	cmd   *exec.Cmd
	mu    sync.Mutex
	ended bool
}

// kill is for as long as the process runs.
func (g *group) kill() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return os.ErrProcessDone
	}
	return killGroup(g.cmd.Process)
}

// end kills what the process left running, once it has ended and before it is reaped.
func (g *group) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	_ = killGroup(g.cmd.Process) // there is the ended process at least, which no error can come from
}

// output keeps what is written up to a limit.
type output struct {
	limit      int
	overflow   func()
	mu         sync.Mutex // guards first: the process may write before begun is called
	first      func()
	data       []byte
	overflowed bool
}

// begun sets what is called when the first byte has arrived, which for a job is when its work is done.
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
