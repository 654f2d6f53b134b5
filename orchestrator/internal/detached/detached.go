// Package detached runs a process that outlives the program which starts it, and finds it again from another program.
//
// What is started is a shell that runs the process and starts it again when it ends, in a session of its own. It begins only when it is told to, so
// that the program can write down where it is first; if the program dies before, it ends.
package detached

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

// Config says what to run.
type Config struct {
	Path   string
	Args   []string // without the program's name
	Env    []string // whole, but for Mark
	Dir    string
	Output string // file to which standard output and standard error are appended
	// file in which the shell counts how often the process has ended without a long life; removed at the start
	Status string
	// Mark is given to all that runs.
	Mark proctree.Mark
}

// Process identifies a process on this machine, for as long as the machine exists: process ids are given out again, and the time of the start tells which
// one it was. It is a plain value.
type Process struct {
	PID   int `json:"pid"`
	Group int `json:"group"` // its process group
	// when it was started, as the system tells it, with what identifies the system's own start
	Start  string `json:"start"`
	Status string `json:"status"` // see Config
	// Mark is what everything carries that it has started, on Linux; empty if an earlier version started it.
	Mark proctree.Mark `json:"mark,omitempty"`
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

// killTimeout is how long Stop waits for what was killed. The kernel ends a process at once, unless it waits for a device.
const killTimeout = 5 * time.Second

// Stop asks the process and all that it has started to end, and kills what is left once ctx is done or grace is over. It returns when it is gone, or after that and
// killTimeout with an error that names what is left. It is idempotent.
//
// On Linux nothing that carries the mark is left: no change of session, group, parent, program or environment takes that off. Elsewhere it is the process
// group that ends.
func (p Process) Stop(ctx context.Context, grace time.Duration) error {
	if p.Alive() || p.Mark.Exists() {
		if err := p.end(ctx, grace); err != nil {
			return err
		}
	}
	_ = os.Remove(p.Status)
	return nil
}

func (p Process) end(ctx context.Context, grace time.Duration) error {
	if p.Alive() { // only then is the group certainly its own
		if err := p.signal(false); err != nil {
			return err
		}
	}
	p.Mark.Terminate(p.Group)
	graceful, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	marked := proctree.Supported && p.Mark != ""
	if p.await(graceful) == nil && marked {
		return nil
	}
	if !marked || p.Alive() { // without a mark the rest of the group is all that can be found
		if err := p.signal(true); err != nil {
			return err
		}
	}
	killed, cancelKilled := context.WithTimeout(context.WithoutCancel(ctx), killTimeout)
	defer cancelKilled()
	if err := p.Mark.Kill(killed); err != nil {
		return err
	}
	if err := p.await(killed); err != nil {
		return fmt.Errorf("process %d still runs after it was killed: %w", p.PID, err)
	}
	return nil
}

// await returns nil once the process and all that carries its mark have ended.
func (p Process) await(ctx context.Context) error {
	if err := p.Mark.Await(ctx); err != nil {
		return err
	}
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for p.Alive() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
