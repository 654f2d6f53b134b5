// Package proctree finds and ends what a process has started, however that tries to stay: in another session or process group, as nobody's child,
// with another program, or with another environment.
//
// A mark is what they have in common. It is a variable in the environment, and on Linux also a resource limit that limits nothing: both pass from a process
// to those that it starts, and to take them off a process has to clear its environment *and* set that limit. Control groups could not be left at all; they need
// root, or a system that delegates them, and the marks need neither.
package proctree

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"
)

// EnvName is the environment variable that carries marks, with spaces between them: a process has that of whoever started it, and that of whoever started the one which did.
const EnvName = "BLUEPRINT_RUNNER_ID"

// Mark tells the processes that were started with it, and all that those have started, from others. It is random text that may be written down, and
// finds them from another program too. The zero value marks nothing.
type Mark string

// New returns a mark that nothing carries yet.
func New() Mark { return Mark(rand.Text()) }

// AddTo returns env with the mark, beside those that env has.
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
	Cause     error    // why it was not waited for any longer
}

// Error names the processes.
func (l *Left) Error() string {
	return fmt.Sprintf("processes still run after they were killed: %s: %v", strings.Join(l.Processes, ", "), l.Cause)
}

// Unwrap returns the cause.
func (l *Left) Unwrap() error { return l.Cause }

// look is how long a wait for processes lasts at most before it is looked for those that they have started meanwhile.
const look = 100 * time.Millisecond
