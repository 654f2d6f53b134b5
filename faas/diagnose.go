package faas

import "context"

// Diagnoser checks whether its service could be deployed, and says what prevents it and how to
// fix it.
type Diagnoser interface {
	// Diagnose checks everything that a deployment relies on and returns one check for each:
	// credentials, permissions, quotas, what the configuration names, and the clock. They are in the
	// order in which people would fix them. Names are unique. Names and order are the same on every
	// call, whatever the findings. Nothing has to be deployed.
	//
	// Diagnose changes nothing: it creates, registers, enables, starts and writes nothing, at the
	// provider or here. It makes as few calls as it can, at the same time. A permission that the
	// caller lacks is a finding, named exactly as the provider names it: CheckFailed if a deployment
	// needs it too, else CheckWarning for what could not be checked. A check that is impossible
	// because an earlier one failed is CheckSkipped and says so.
	//
	// A provider that has no checks returns nil.
	//
	// Every check takes a bounded time. If ctx ends first, the checks that were not done are
	// CheckFailed with an ErrTimeout as Err, and Diagnose returns soon after. No check holds a
	// credential or the value of an environment variable.
	Diagnose(ctx context.Context) []Check
}

// Check is one finding of a [Diagnoser].
type Check struct {
	Name   string      `json:"name"` // such as "credentials"
	Status CheckStatus `json:"status"`
	// Detail is the finding in one line, never empty. It may quote the provider.
	Detail string `json:"detail"`
	// Remedy says what to do. It is set if the status is CheckFailed, and usually if it is
	// CheckWarning. If possible it is a command that can be pasted, or several, one per line. The
	// reader replaces parts in upper case.
	Remedy string `json:"remedy,omitempty"`
	// Err is the cause of a CheckFailed: an *Error with the right Code. It may be nil for a
	// CheckWarning.
	Err error `json:"-"`
}

// CheckStatus is the result of a [Check].
type CheckStatus string

// The results of a check.
const (
	CheckOK      CheckStatus = "ok"
	CheckWarning CheckStatus = "warning" // a deployment can succeed anyway
	CheckFailed  CheckStatus = "failed"  // no deployment will succeed until it is fixed
	CheckSkipped CheckStatus = "skipped" // it does not apply, or could not be checked
)
