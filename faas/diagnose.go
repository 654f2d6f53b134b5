package faas

import "context"

// Diagnoser finds out whether its service could be deployed, and says what stands in the way and what to do about it.
type Diagnoser interface {
	// Diagnose looks at everything that a deployment relies on and returns one check for each: credentials, permissions, quotas, what the configuration
	// names, and the clock. They come in the order in which people would put things right. Names and order are the same on every call, whatever is found, and
	// no name is there twice; nothing need be deployed.
	//
	// It changes nothing: what it calls creates, registers, enables, starts and writes nothing, at the provider or here. It calls as few things as it can, at the
	// same time. A permission that the caller lacks is a finding in itself, and is named exactly as the provider names it: CheckFailed where a deployment needs
	// it too, else CheckWarning, for what could not be looked at. What cannot be looked at because an earlier check failed is CheckSkipped and says so.
	//
	// A provider that has no checks returns nil.
	//
	// Every check takes a bounded time. Where ctx ends first, the checks that were not done are CheckFailed with an ErrTimeout as Err, and it
	// returns soon after. No check holds a credential or the value of an environment variable.
	Diagnose(ctx context.Context) []Check
}

// Check is one finding of a [Diagnoser].
type Check struct {
	Name   string      `json:"name"` // such as "credentials"
	Status CheckStatus `json:"status"`
	// Detail says in one line what was found, never empty. It may hold words of the provider.
	Detail string `json:"detail"`
	// Remedy says what to do where the status is CheckFailed, and mostly where it is CheckWarning: a command that can be pasted wherever there is one, each on a line of its own where it
	// takes several. Parts in upper case are for the reader to fill in.
	Remedy string `json:"remedy,omitempty"`
	// Err is the cause of a CheckFailed, an *Error with the right Code; of a CheckWarning it may be nil.
	Err error `json:"-"`
}

// CheckStatus is the result of a [Check].
type CheckStatus string

// The results of a check.
const (
	CheckOK      CheckStatus = "ok"
	CheckWarning CheckStatus = "warning" // a deployment can succeed all the same
	CheckFailed  CheckStatus = "failed"  // no deployment will succeed until it is put right
	CheckSkipped CheckStatus = "skipped" // it does not apply, or could not be looked at
)
