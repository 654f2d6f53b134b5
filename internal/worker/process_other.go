//go:build !linux

package worker

import (
	"os"
	"time"
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
