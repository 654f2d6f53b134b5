// Package detached runs a process that outlives the program that starts it, and finds it again from
// another program.
//
// It starts a shell in a session of its own, which runs the process and restarts it when it ends.
// The shell begins only when it is told to, so that the program can first record where it is. If
// the program dies before, the shell ends.
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
	Env    []string // complete, except for Mark
	Dir    string
	Output string // the file to which standard output and standard error are appended
	// Status is a file in which the shell counts how often in a row the process ended without a long
	// life. Start removes it.
	Status string
	// Mark is given to everything that runs.
	Mark proctree.Mark
}

// Process identifies a process on this machine for ever: process ids are reused, and the start time
// tells which process it was. It is a plain value.
type Process struct {
	PID   int `json:"pid"`
	Group int `json:"group"` // its process group
	// Start is when the process was started, as the system reports it, with an id of the system's own
	// start.
	Start  string `json:"start"`
	Status string `json:"status"` // see Config
	// Mark is carried, on Linux, by everything that the process started. It is empty if an earlier
	// version started the process.
	Mark proctree.Mark `json:"mark,omitempty"`
}

// ErrUnsupported says that this system cannot run or find such processes.
var ErrUnsupported = errors.ErrUnsupported

// Ends returns how often in a row the process has ended without a long life between.
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

// pollInterval is how often Stop looks: not every system can wait for a process that is not a
// child.
const pollInterval = 10 * time.Millisecond

// killTimeout is how long Stop waits for killed processes. The kernel ends a process at once,
// unless the process waits for a device.
const killTimeout = 5 * time.Second

// Stop asks the process and everything that it started to end, and kills what is left when ctx is
// done or grace is over. It returns when all are gone, or after another killTimeout with an error
// that names what is left. Stop is idempotent.
//
// On Linux nothing that carries the mark is left, whatever its session, group, parent, program and
// environment are. Elsewhere Stop ends the process group.
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
	if p.Alive() { // only then the group is certainly its own
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
	if !marked || p.Alive() { // without a mark only the rest of the group can be found
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

// await returns nil when the process and everything with its mark have ended.
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
