package faas

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Code classifies an error. Programs act on the code, never on the text. A Code is itself an
// error, so that errors.Is(err, faas.ErrNotFound) reports whether any error in err's chain has
// it.
type Code string

// The codes. Every error of a provider carries exactly one.
const (
	ErrNotFound      Code = "not found"
	ErrAlreadyExists Code = "already exists"
	// a value that is malformed or below the minimum, or any mistake in a policy file
	ErrInvalidArgument Code = "invalid argument"
	// a value above a limit (memory, timeout, payload, package, environment, quota) that would be
	// accepted if it were smaller
	ErrTooLarge         Code = "too large"
	ErrPermissionDenied Code = "permission denied"
	ErrThrottled        Code = "throttled"   // the caller may try again after Error.RetryAfter
	ErrConflict         Code = "conflict"    // something else is changing the resource, or has changed it
	ErrTimeout          Code = "timeout"     // a deadline passed; for an Invoke the function may have run
	ErrUnavailable      Code = "unavailable" // the provider cannot be reached or is failing
	ErrUnsupported      Code = "unsupported" // the provider cannot do this at all
	ErrNotLinked        Code = "not linked"  // the provider's package is not in this program
	ErrFunctionFailed   Code = "function failed"
	ErrInternal         Code = "internal"
)

// Error makes a Code usable as a target of errors.Is.
func (c Code) Error() string { return string(c) }

// NoJob is the JobID of an Error that concerns no single job.
const NoJob int64 = -1

// Error is the error type of this package, of every provider and of deployments. [Errorf] and
// [JobErrorf] make one. A literal must set JobID, since 0 is a job.
type Error struct {
	Op       string // what was being done: "open", "deploy", "invoke", "remove", ...
	Provider string // the provider's registered name; empty if none is
	JobID    int64  // the job concerned, or NoJob
	Code     Code
	// Leftovers are the exact names of resources that a failed operation created and could not remove.
	Leftovers []string
	// RetryAfter is how long a throttling provider asked to wait, or zero if it did not say.
	RetryAfter time.Duration
	// NotRun reports, for an Invoke, that the job certainly did not start, so that it is safe to
	// repeat the call; for a Converge, that it certainly changed nothing, so that nothing has to be
	// undone.
	NotRun bool
	// Unsettled reports, for a Converge, Restore or Remove, that a change was sent but not answered,
	// so that it may take effect after the call has returned.
	Unsettled bool
	// Resumable reports, for a Converge whose deadline passed, that only something was missing which
	// comes without further calls, such as a new role that the provider does not accept yet.
	// Removing the unit would mean starting over.
	Resumable bool
	Err       error // the cause: often the provider SDK's own error, reachable with errors.As
}

// Error names what failed, the job, the provider, the reason, and what was left behind.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("faas: ")
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	if e.Provider != "" {
		b.WriteString(e.Provider)
		b.WriteString(": ")
	}
	if e.JobID >= 0 {
		fmt.Fprintf(&b, "job %d: ", e.JobID)
	}
	switch {
	case e.Err == nil:
		b.WriteString(string(e.Code))
	default:
		b.WriteString(strings.TrimPrefix(e.Err.Error(), "faas: ")) // of an *Error in an *Error
	}
	if len(e.Leftovers) > 0 {
		fmt.Fprintf(&b, "; left behind: %s", strings.Join(e.Leftovers, ", "))
	}
	return b.String()
}

// Unwrap returns the code and the cause, so that errors.Is finds either, and errors.As finds the
// provider's own error.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Code}
	}
	return []error{e.Code, e.Err}
}

// Errorf returns an *Error that concerns no single job, with a cause formatted as by [fmt.Errorf].
func Errorf(code Code, op, provider, format string, args ...any) *Error {
	return &Error{Op: op, Provider: provider, JobID: NoJob, Code: code, Err: fmt.Errorf(format, args...)}
}

// JobErrorf is [Errorf] for one job.
func JobErrorf(code Code, op, provider string, jobID uint32, format string, args ...any) *Error {
	e := Errorf(code, op, provider, format, args...)
	e.JobID = int64(jobID)
	return e
}

// CodeOf returns the code of the first *Error in err's chain. It returns ErrTimeout for the error
// of a context that is done, ErrInternal for any other error, and the empty code for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	var c Code
	if errors.As(err, &c) {
		return c
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return ErrTimeout
	}
	return ErrInternal
}

// FunctionError is the cause of an [ErrFunctionFailed]. It describes a function that ran and did
// not answer with a result.
type FunctionError struct {
	// the kind of failure as the function or its platform names it: "panic", "exit", "killed", ...;
	// may be empty
	Type     string
	Message  string
	ExitCode int    // of a process that ended; 0 if it did not end or the code is unknown
	LogTail  string // the last of what the function logged; may be empty
}

// Error returns the type, the message and the exit code and, unless the function panicked, the
// last line of the log.
func (e *FunctionError) Error() string {
	var b strings.Builder
	b.WriteString("function failed")
	if e.Type != "" {
		b.WriteString(" (" + e.Type + ")")
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.ExitCode != 0 {
		fmt.Fprintf(&b, " (exit code %d)", e.ExitCode)
	}
	if tail := strings.TrimSpace(e.LogTail); tail != "" && e.Type != "panic" { // which ends with the trace
		if i := strings.LastIndexByte(tail, '\n'); i >= 0 {
			tail = tail[i+1:]
		}
		b.WriteString("; last log line: " + tail)
	}
	return b.String()
}
