//go:build !linux

package worker

import "os"

// waitExit returns when the process has ended. It is reaped then: this system cannot wait without that.
func waitExit(p *os.Process) *os.ProcessState {
	state, _ := p.Wait()
	return state
}

func inheritedDescriptors() []*os.File { return nil }

// enlarge does nothing: pipes have one size here.
func enlarge(*os.File) {}
