// Package proctree finds and ends what a process started, however that tries to stay: in another
// session or process group, as nobody's child, with another program, or with another environment.
//
// A mark connects these processes. It is an environment variable and, on Linux, also a resource
// limit that limits nothing. A process passes both to those that it starts. To lose the mark, a
// process must clear its environment and also set that limit. No process could leave a control
// group at all, but control groups need root or a system that delegates them, and marks need
// neither.
package proctree

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"
)

// EnvName is the environment variable that carries marks, separated by spaces. A process has the
// mark of the program that started it, and the marks which that program itself carries.
const EnvName = "BLUEPRINT_RUNNER_ID"

// Mark distinguishes the processes that were started with it, and everything that they started,
// from others. It is random text. It may be recorded, and finds them from another program, too. The
// zero value marks nothing.
type Mark string

// New returns a mark that no process carries yet.
func New() Mark { return Mark(rand.Text()) }

// AddTo returns env with the mark added to those that env has.
func (m Mark) AddTo(env []string) []string {
	if m == "" {
		return env
	}
	value, marked := string(m), make([]string, 0, len(env)+1)
	for _, kv := range env {
		if marks, is := strings.CutPrefix(kv, EnvName+"="); is {
			value = marks + " " + value
		} else {
			marked = append(marked, kv)
		}
	}
	return append(marked, EnvName+"="+value)
}

// ErrUnsupported says that this system does not tell which processes carry a mark.
var ErrUnsupported = errors.New("this system does not tell which processes carry a mark")

// Left is the error for processes that did not end.
type Left struct {
	Processes []string // such as "1234 (sleep)"
	Cause     error    // why the wait ended
}

// Error names the processes.
func (l *Left) Error() string {
	return fmt.Sprintf("processes still run after they were killed: %s: %v", strings.Join(l.Processes, ", "), l.Cause)
}

// Unwrap returns the cause.
func (l *Left) Unwrap() error { return l.Cause }

// look is the longest wait for processes before the next look for those that they started
// meanwhile.
const look = 100 * time.Millisecond
