// Package survivor runs a process that outlives the program which starts it, and finds it again from another program.
//
// What is started is a shell that runs the process and starts it again when it ends, in a session of its own. It begins only when it is told to, so
// that the program can write down where it is first; if the program dies before, it ends.
package survivor

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"
)

// Config says what to run.
type Config struct {
	Path   string
	Args   []string // without the program's name
	Env    []string // whole
	Dir    string
	Output string // file to which standard output and standard error are appended
	Status string // file in which the shell counts how often the process has ended without a long life; removed at the start
}

// Process identifies a process on this machine, for as long as the machine exists: process ids are given out again, and the time of the start tells which
// one it was. It is a plain value.
type Process struct {
	PID    int    `json:"pid"`
	Group  int    `json:"group"`  // its process group
	Start  string `json:"start"`  // when it was started, as the system tells it, with what identifies the system's own start
	Status string `json:"status"` // see Config
}

// ErrUnsupported says that this system cannot run or find such processes.
var ErrUnsupported = errors.ErrUnsupported

// Ends returns how often the process has ended in a row without a long life between.
func (p Process) Ends() int {
	text, err := os.ReadFile(p.Status)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return n
}

// pollInterval is how often Stop looks: the end of a process that is not a child cannot be awaited everywhere.
const pollInterval = 10 * time.Millisecond

// Stop asks the process to end, and kills it and its group once ctx is done or grace is over. It returns when it is gone, and is idempotent.
func (p Process) Stop(ctx context.Context, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if !p.Alive() {
		return nil
	}
	if err := p.signal(false); err != nil {
		return err
	}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for killed := false; p.Alive(); {
		if !killed && ctx.Err() != nil {
			if err := p.signal(true); err != nil {
				return err
			}
			killed = true
		}
		<-ticker.C
	}
	_ = p.signal(true) // what it left of its group, if anything
	_ = os.Remove(p.Status)
	return nil
}
