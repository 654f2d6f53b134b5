//go:build !linux

package worker

import (
	"os"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

// ending is the end of a process.
type ending struct {
	state chan *os.ProcessState
	late  chan struct{}
}

func awaitable(p *os.Process) *ending {
	e := &ending{make(chan *os.ProcessState, 1), make(chan struct{})}
	go func() {
		state, _ := p.Wait()
		e.state <- state
	}()
	return e
}

// within makes wait give up after d. Call it once.
func (e *ending) within(d time.Duration) { time.AfterFunc(d, func() { close(e.late) }) }

// wait returns when the process has ended, with its state: this system cannot wait without reaping
// it. It reports false if it gave up.
func (e *ending) wait(*os.Process) (*os.ProcessState, bool) {
	select {
	case state := <-e.state:
		return state, true
	case <-e.late:
		return nil, false
	}
}

func startHeld(path string, argv []string, attr *os.ProcAttr, then func(pid int)) (*os.Process, error) {
	p, err := os.StartProcess(path, argv, attr)
	if err == nil {
		then(p.Pid)
	}
	return p, err
}

func inheritedDescriptors() []*os.File { return nil }

// enlarge does nothing: pipes have one size on this system.
func enlarge(*os.File) {}

// MemoryLimitKind describes how memory limits are enforced on this system.
func (*Host) MemoryLimitKind() string { return "none: memory limits are enforced on Linux only" }

func (*process) setLimits(int, *Config) {}

func measureTree(int, bool, *cgroup.Group, int) (used int64, processes int) { return 0, 0 }

func ownPeak() int64 { return 0 }

func childPeak(*os.ProcessState) int64 { return 0 }

// output is the standard output of a warm process, which only the reader goroutine reads.
type output struct{ *os.File }

func takeOutput(stdout *os.File) (*output, error) { return &output{stdout}, nil }

func (*output) ended(time.Duration) {} // reap ends the reading
func (o *output) enlarge()          { enlarge(o.File) }
func (*output) take() bool          { return false }
func (*output) listen()             {}
func (*output) giveBack()           {}

func (o *output) await(frames *frame.Reader) error { return frames.Fill(o.File) }

func (*output) receive(*frame.Reader, func() error) error { return nil }

// killAll kills the process and its group. It does not find what left the group.
func (p *process) killAll() { killGroup(p.proc) }

// endStrays does nothing.
func (*Config) endStrays() int { return 0 }

// endMarked does nothing.
func endMarked(proctree.Mark) {}

// forbidNewPrivileges does nothing.
func forbidNewPrivileges() {}

// KillStrays does nothing.
func KillStrays(string) {}
