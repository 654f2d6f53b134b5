package faas

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"iter"
	"time"
)

// Invoker runs one job of a service. It is all that a runner needs of a provider.
type Invoker interface {
	// Invoke runs the job once with args and returns what it answered.
	//
	// The result is non-nil exactly when the error is nil. The callee keeps neither args nor the output. The request is sent at most once: after
	// any error that comes once the function may have started, the callee does not repeat it, and Error.NotRun is false. Codes: ErrNotFound where
	// the job has no function, ErrTooLarge where args or the answer exceed the provider's limit (args are checked before the call),
	// ErrFunctionFailed (with a *FunctionError as cause) where the function ran and failed, ErrTimeout where the function or ctx ran out of time (a
	// cancelled ctx too), ErrThrottled, ErrUnavailable, ErrPermissionDenied otherwise. NotRun is true for an ErrNotFound, for args that are too large,
	// and wherever else it is certain.
	Invoke(ctx context.Context, jobID uint32, args []byte) (*Result, error)
}

// Result is the answer of a job.
type Result struct {
	Output  []byte  `json:"output"`
	Metrics Metrics `json:"metrics"`
}

// Metrics tell what is really known of an invocation. A zero value means unknown.
type Metrics struct {
	Total     time.Duration `json:"total_ns,omitempty"`     // from the call to the answer, as the caller saw it
	Execution time.Duration `json:"execution_ns,omitempty"` // inside the function, as the provider or platform reports it
	Billed    time.Duration `json:"billed_ns,omitempty"`
	Init      time.Duration `json:"init_ns,omitempty"` // the start of a new instance, where this call caused one
	ColdStart bool          `json:"cold_start,omitempty"`
	MemoryMB  uint32        `json:"memory_mb,omitempty"` // peak memory of the instance, in MiB
}

// Function is one job wanted on a provider. It is a plain value; the engine fills every field.
type Function struct {
	JobID          uint32 `json:"job_id"`
	MemoryMB       uint32 `json:"memory_mb"`                 // a size that the provider sells
	TimeoutSecs    uint32 `json:"timeout_secs"`              // of one invocation
	MaxConcurrency uint32 `json:"max_concurrency,omitempty"` // invocations at the same time; 0: the provider's default
	KeepWarm       uint32 `json:"keep_warm,omitempty"`       // instances kept ready; 0: none
	// Env is the environment that the function sees. Its values are never logged and never written
	// to a ledger.
	Env Env `json:"-"`
}

// Unit is what a provider deploys in one piece: one function on most, all functions of a service on some. It is made by Executor.Units.
type Unit struct {
	// ID is the provider's name for the unit. It is unique to service and provider location, valid for the provider, and the same for the same
	// service and jobs on every call and every machine; it does not depend on code or configuration.
	ID        string     `json:"id"`
	Functions []Function `json:"functions"` // by ascending job id, never empty
	// Compact says that the functions take arguments and give outputs in the compact form, too, because
	// the binary does. It is the executor's own, from Units to Converge, which records it at the provider.
	Compact bool `json:"-"`
	// Files say what the unit's package holds. Units whose Files are equal share one package.
	Files []PackageFile `json:"-"`
	// Package is what Files became; the engine sets it before Converge.
	Package *Package `json:"-"`
}

// Fingerprint identifies the configuration (not the code) that the unit asks for: a hex SHA-256 over everything in Functions, environment
// included. Equal fingerprints mean that nothing has to be changed. It reveals no environment value that cannot be guessed.
func (u Unit) Fingerprint() string { return fingerprint(u.Functions) }

// Status is the state of a deployed unit.
type Status string

// The states of a unit.
const (
	StatusReady   Status = "ready"   // it answers invocations
	StatusPending Status = "pending" // it is being changed
	StatusFailed  Status = "failed"  // it exists and cannot answer; only converging or removing it helps
)

// State is what a provider holds of a unit: a plain value that can be stored as JSON and given back later. It holds no secret.
type State struct {
	ID       string `json:"id"` // of the unit
	Status   Status `json:"status"`
	Reason   string `json:"reason,omitempty"`   // why the status is not ready
	Resource string `json:"resource,omitempty"` // exact resource name for people: an ARN, a resource path, a URL
	Endpoint string `json:"endpoint,omitempty"` // where it is invoked, where that is a URL without secrets
	// PackageSHA256 (hex) and Fingerprint tell what code and configuration the unit has. Empty where the provider cannot tell, which makes the
	// engine converge it unless its Revision is known.
	PackageSHA256 string   `json:"package_sha256,omitempty"`
	Fingerprint   string   `json:"fingerprint,omitempty"`
	JobIDs        []uint32 `json:"job_ids,omitempty"`
	// Compact says that the provider's record of the unit has Unit.Compact.
	Compact bool `json:"compact,omitempty"`
	// Revision changes whenever the unit changes, if the provider has such a thing. Equal revisions that
	// are not empty mean that nothing has touched the unit: an engine that knows what it deployed then
	// need not be told PackageSHA256 and Fingerprint.
	Revision   string    `json:"revision,omitempty"`
	DeployedAt time.Time `json:"deployed_at,omitzero"`
	// ColdStart is how long the provider says the first start took.
	ColdStart time.Duration `json:"cold_start_ns,omitempty"`
	// NotRestorable says why Restore could not put the unit back to this state after an update. It is
	// empty if Restore can.
	NotRestorable string `json:"not_restorable,omitempty"`
	// Existed is set by Converge alone, and says that it was told that nothing existed, and found the
	// unit there, not made by this executor.
	Existed bool `json:"-"`
	// Private belongs to the provider, typically what Restore needs. Nobody else reads it.
	Private json.RawMessage `json:"private,omitempty"`
}

// Current reports whether the state is what the unit wants: same code, same configuration, ready, and
// recorded as taking the compact form if the unit does.
func (s State) Current(u Unit) bool {
	return s.Status == StatusReady && u.Package != nil && s.PackageSHA256 != "" && s.PackageSHA256 == u.Package.SHA256() &&
		s.Fingerprint != "" && s.Fingerprint == u.Fingerprint() && (s.Compact || !u.Compact)
}

// Executor is one provider bound to one service. It is the contract between the engine, which is written once, and the providers.
//
// The engine owes: it calls Units first; it calls Observe before Converge; it never changes one unit from two goroutines at a time, though it
// changes different units at once, up to ProviderInfo.MaxParallel; it gives every context a deadline or none on purpose; it calls Close last,
// after which it calls nothing.
//
// A provider owes: every method is safe for concurrent use and respects its context; every error is or wraps an *Error with the right Code,
// with the SDK's own error as cause; no method prints, and no error or log holds an environment value or a credential; nothing outside the
// service is read, changed or removed; waits are waits for a state. Order, concurrency, back-off after ErrThrottled, rollback, progress and the
// record of what exists are the engine's: a provider that can only create and delete is complete.
//
// An executor embeds [Unimplemented] and defines what its provider can do: one that cannot list, warm, tell health, show logs or diagnose is complete.
// What wraps an executor embeds it, and defines the methods that it changes.
type Executor interface {
	Invoker

	// Units maps the wanted functions to units. It is pure: no I/O, the same answer for the same input, in a fixed order; every function is in
	// exactly one unit, and no functions are no units. Anything the provider would refuse is refused, naming the job, the value and the limit: with ErrTooLarge
	// what is above a limit (memory, timeout, environment, binary), with ErrInvalidArgument what is malformed, twice there or below the least, with ErrUnsupported what
	// the provider cannot run (an architecture, a binary that speaks only stdin and stdout where that cannot be adapted).
	Units(bin *Binary, functions []Function) ([]Unit, error)

	// Observe says what exists under a unit's ID, or returns an error for which CodeOf gives ErrNotFound. It changes nothing, and costs one
	// read where the provider allows it. A unit of this ID that belongs to someone else is an ErrConflict.
	Observe(ctx context.Context, id string) (State, error)

	// Converge makes the unit exist with exactly the wanted code and configuration, and returns when it answers invocations. It is idempotent: after
	// a crash or an error at any point, calling it again with the same unit ends in the same state. prior is what Observe said, nil for not found; it
	// can be out of date, so a provider that would do harm by trusting it looks again.
	// A package that the provider already holds is not uploaded again. A working function keeps working until the new one can replace it, for as
	// long as the provider makes that possible. On error the unit may exist in any state; the engine removes it if prior was nil and else
	// calls Restore. If prior is nil and the unit turns out to exist, and this executor has sent nothing that could have made it, the state has
	// Existed set, beside an error too, and the engine removes nothing: a read that was behind must not cost a unit.
	// Once a changing request was sent, its answer is awaited for a while even if ctx ends; if none comes, the error has Unsettled set.
	// If the error has Resumable set, the engine leaves a unit that was never whole as it is, for the next Converge to go on with, and lists it.
	// report, which may be nil, is called with what has been uploaded so far: by one goroutine at a time, and never after Converge returned.
	Converge(ctx context.Context, u Unit, prior *State, report func(Progress)) (State, error)

	// Restore puts a unit back to prior after a failed or cancelled Converge: code and
	// configuration, the values of the environment included. prior is what Observe or Converge of
	// this executor returned before the change, so that the executor can keep in memory what Restore
	// needs and no State may hold. Restore returns nil when the unit is as it was, also if nothing had
	// changed. It returns ErrUnsupported only if prior.NotRestorable says why. It is idempotent.
	Restore(ctx context.Context, prior State) error

	// Remove removes the unit and all that Converge made for it, and returns when it is gone. A unit that does not exist is success. It is idempotent.
	// A read that does not find the unit, or what holds it, proves nothing: Remove sends what deletes it all the same, and returns nil
	// only after that was answered with success, or with the certainty that nothing is there. It never returns an ErrNotFound.
	Remove(ctx context.Context, id string) error

	// List returns the units that exist for the service, by ascending ID. ErrUnsupported where the provider cannot list.
	List(ctx context.Context) ([]State, error)

	// Warm makes sure that about n instances of the job's function are started, and returns how many
	// are; n is at least 1. No job runs. ErrUnsupported if the provider cannot.
	Warm(ctx context.Context, jobID uint32, n int) (int, error)

	// Health tells whether the job's function would answer, without running a job. The error is for
	// when nothing can be told: ErrNotFound for a function that does not exist, ErrUnsupported if the
	// provider never can.
	Health(ctx context.Context, jobID uint32) (Health, error)

	// Logs and Diagnose are described at [LogReader] and [Diagnoser].
	LogReader
	Diagnoser

	// Close frees connections and anything else held locally. It removes nothing at the provider. It is idempotent.
	Close() error
}

// Bound is an executor that tells which service it is bound to. A deployment refuses one that is
// bound to another service than the one that it deploys.
type Bound interface {
	// Service returns Config.Service of the executor's configuration.
	Service() string
}

// PlaceChecker is an executor that can tell whether its credentials lead to where a service is.
type PlaceChecker interface {
	// CheckPlace returns an ErrConflict if recorded, the state of a unit from an earlier deployment, is
	// of another account, project or subscription than the executor's, where nothing of the service
	// would be found. What cannot be told is nil.
	CheckPlace(ctx context.Context, recorded State) error
}

// Progress tells how far a Converge is.
type Progress struct {
	Step       string // what is being done: "upload", "wait", ...
	Bytes      int64  // uploaded so far
	TotalBytes int64  // to upload
}

// Unimplemented is embedded in executors. It has the methods that only some providers can offer; each
// says that this one does not: the error is an ErrUnsupported, and Diagnose finds nothing.
type Unimplemented struct{}

// List returns an ErrUnsupported.
func (Unimplemented) List(context.Context) ([]State, error) {
	return nil, Errorf(ErrUnsupported, "list", "", "this provider cannot list what exists for a service")
}

// Warm returns an ErrUnsupported.
func (Unimplemented) Warm(_ context.Context, jobID uint32, _ int) (int, error) {
	return 0, JobErrorf(ErrUnsupported, "warm", "", jobID, "this provider cannot start instances ahead of an invocation")
}

// Health returns an ErrUnsupported.
func (Unimplemented) Health(_ context.Context, jobID uint32) (Health, error) {
	return Health{}, JobErrorf(ErrUnsupported, "health", "", jobID,
		"this provider cannot tell whether a function would answer")
}

// Logs returns a sequence of one ErrUnsupported.
func (Unimplemented) Logs(context.Context, LogQuery) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) {
		yield(LogLine{}, Errorf(ErrUnsupported, "logs", "", "this provider cannot show what its functions printed"))
	}
}

// Diagnose returns nil.
func (Unimplemented) Diagnose(context.Context) []Check { return nil }

// Health is the answer of Executor.Health.
type Health struct {
	Healthy          bool      `json:"healthy"`
	Reason           string    `json:"reason,omitempty"` // why not
	LastInvocation   time.Time `json:"last_invocation,omitzero"`
	TotalInvocations uint64    `json:"total_invocations,omitempty"`
}

func fingerprint(functions []Function) string {
	type withEnv struct {
		Function
		Env map[string]string `json:"env"` // encoding/json sorts the keys
	}
	all := make([]withEnv, len(functions))
	for i, f := range functions {
		all[i] = withEnv{Function: f, Env: f.Env.Reveal()}
		if f.Env == nil {
			all[i].Env = map[string]string{} // no environment is an empty one
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic("faas: a function does not marshal: " + err.Error()) // numbers and strings always do
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
