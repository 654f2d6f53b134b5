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
	// Invoke runs the job once with args and returns its answer.
	//
	// The result is non-nil exactly when the error is nil. The callee keeps neither args nor the
	// output. The callee sends the request at most once: if an error comes after the function may
	// have started, the callee does not repeat the request, and Error.NotRun is false.
	//
	// Codes: ErrNotFound if the job has no function; ErrTooLarge if args or the answer exceed the
	// provider's limit (args are checked before the call); ErrFunctionFailed, with a *FunctionError
	// as cause, if the function ran and failed; ErrTimeout if the function or ctx ran out of time,
	// or ctx was cancelled; otherwise ErrThrottled, ErrUnavailable or ErrPermissionDenied. NotRun is
	// true for ErrNotFound, for args that are too large, and whenever else it is certain.
	Invoke(ctx context.Context, jobID uint32, args []byte) (*Result, error)
}

// Result is a job's answer.
type Result struct {
	Output  []byte  `json:"output"`
	Metrics Metrics `json:"metrics"`
}

// Metrics hold what is known of an invocation. A zero value means unknown.
type Metrics struct {
	Total     time.Duration `json:"total_ns,omitempty"`     // from the call to the answer, as the caller saw it
	Execution time.Duration `json:"execution_ns,omitempty"` // inside the function, as the provider or platform reports it
	Billed    time.Duration `json:"billed_ns,omitempty"`
	Init      time.Duration `json:"init_ns,omitempty"` // the start of a new instance, if this call caused one
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
	// Env is the function's environment. Its values are never logged, and never written to a ledger.
	Env Env `json:"-"`
}

// Unit is what a provider deploys in one piece: one function on most providers, all functions of
// a service on some. Executor.Units makes units.
type Unit struct {
	// ID is the provider's name for the unit. It is unique to service and provider location, and
	// valid for the provider. It is the same for the same service and jobs on every call and every
	// machine, and does not depend on code or configuration.
	ID        string     `json:"id"`
	Functions []Function `json:"functions"` // by ascending job id, never empty
	// Compact says that the functions also take arguments and give outputs in the compact form,
	// because the binary does. Units sets it, and Converge records it at the provider; nobody else
	// uses it.
	Compact bool `json:"-"`
	// Files list the contents of the unit's package. Units with equal Files share one package.
	Files []PackageFile `json:"-"`
	// Package is built from Files. The engine sets it before Converge.
	Package *Package `json:"-"`
}

// Fingerprint identifies the configuration (not the code) that the unit asks for. It is a hex
// SHA-256 over everything in Functions, environment included. Equal fingerprints mean that
// nothing has to be changed. A fingerprint reveals no environment value that cannot be guessed.
func (u Unit) Fingerprint() string { return fingerprint(u.Functions) }

// Status is the state of a deployed unit.
type Status string

// The states of a unit.
const (
	StatusReady   Status = "ready"   // it answers invocations
	StatusPending Status = "pending" // it is being changed
	StatusFailed  Status = "failed"  // it exists and cannot answer; only converging or removing it helps
)

// State is what a provider holds of a unit. It is a plain value that can be stored as JSON and
// given back later, and holds no secret.
type State struct {
	ID       string `json:"id"` // of the unit
	Status   Status `json:"status"`
	Reason   string `json:"reason,omitempty"`   // why the status is not ready
	Resource string `json:"resource,omitempty"` // exact resource name for people: an ARN, a resource path, a URL
	Endpoint string `json:"endpoint,omitempty"` // where it is invoked, if that is a URL without secrets
	// PackageSHA256 (hex) and Fingerprint identify the unit's code and configuration. They are empty
	// if the provider cannot tell; the engine then converges the unit unless it knows its Revision.
	PackageSHA256 string   `json:"package_sha256,omitempty"`
	Fingerprint   string   `json:"fingerprint,omitempty"`
	JobIDs        []uint32 `json:"job_ids,omitempty"`
	// Compact says that the provider's record of the unit has Unit.Compact.
	Compact bool `json:"compact,omitempty"`
	// Revision, if the provider has one, changes whenever the unit changes. Equal revisions that are
	// not empty mean that nothing has changed the unit, so that an engine which knows what it
	// deployed does not need PackageSHA256 and Fingerprint.
	Revision   string    `json:"revision,omitempty"`
	DeployedAt time.Time `json:"deployed_at,omitzero"`
	// ColdStart is how long the first start took, as the provider reports it.
	ColdStart time.Duration `json:"cold_start_ns,omitempty"`
	// NotRestorable says why Restore could not put the unit back to this state after an update. It
	// is empty if Restore can.
	NotRestorable string `json:"not_restorable,omitempty"`
	// Existed is set only by Converge. It means that prior was nil, but the unit existed and this
	// executor had not made it.
	Existed bool `json:"-"`
	// Private belongs to the provider, and typically holds what Restore needs. Nobody else reads it.
	Private json.RawMessage `json:"private,omitempty"`
}

// Current reports whether the state is what the unit wants: the same code, the same
// configuration, ready, and recorded as taking the compact form if the unit does.
func (s State) Current(u Unit) bool {
	return s.Status == StatusReady && u.Package != nil && s.PackageSHA256 != "" && s.PackageSHA256 == u.Package.SHA256() &&
		s.Fingerprint != "" && s.Fingerprint == u.Fingerprint() && (s.Compact || !u.Compact)
}

// Executor is one provider bound to one service. It is the contract between the engine, which is
// written once, and the providers.
//
// The engine owes the following. It calls Units first, and Observe before Converge. It never
// changes one unit from two goroutines at a time, but changes up to ProviderInfo.MaxParallel
// different units at once. It gives every context a deadline, or none on purpose. It calls Close
// last, and nothing after it.
//
// A provider owes the following. Every method is safe for concurrent use and respects its
// context. Every error is or wraps an *Error with the right Code, with the SDK's own error as
// cause. No method prints, and no error or log holds an environment value or a credential. No
// method reads, changes or removes anything outside the service. Every wait is a wait for a
// state.
//
// The engine does the rest: order, concurrency, back-off after ErrThrottled, rollback, progress,
// and the record of what exists. A provider that can only create and delete is complete.
//
// An executor embeds [Unimplemented] and defines what its provider can do. One that cannot list,
// warm, report health, read logs or diagnose is complete. A wrapper of an executor embeds that
// executor and defines only the methods that it changes.
type Executor interface {
	Invoker

	// Units maps the wanted functions to units. It is pure: it does no I/O, and gives the same
	// answer for the same input, in a fixed order. Every function is in exactly one unit; without
	// functions, Units returns no units.
	//
	// Units refuses anything that the provider would refuse, and names the job, the value and the
	// limit. Codes: ErrTooLarge for a value above a limit (memory, timeout, environment, binary);
	// ErrInvalidArgument for one that is malformed, duplicate or below the minimum; ErrUnsupported
	// for what the provider cannot run (an architecture, or a binary that speaks only stdin and
	// stdout and cannot be adapted).
	Units(bin *Binary, functions []Function) ([]Unit, error)

	// Observe returns what exists under a unit's ID, or an error for which CodeOf returns
	// ErrNotFound. It changes nothing, and costs one read if the provider allows it. A unit of this
	// ID that belongs to someone else is an ErrConflict.
	Observe(ctx context.Context, id string) (State, error)

	// Converge makes the unit exist with exactly the wanted code and configuration, and returns when
	// the unit answers invocations. It is idempotent: after a crash or an error at any point,
	// calling it again with the same unit ends in the same state.
	//
	// prior is the state that Observe returned, or nil if Observe found nothing. It can be out of
	// date, so a provider that would do harm by trusting it looks again. Converge does not upload a
	// package that the provider already holds. A working function keeps working until the new one
	// can replace it, for as long as the provider makes that possible.
	//
	// On error the unit may exist in any state; the engine removes it if prior was nil, and else
	// calls Restore. If prior is nil but the unit exists, and this executor has sent nothing that
	// could have made it, the returned state has Existed set, beside an error too. The engine then
	// removes nothing, since a delayed read must not cost a unit.
	//
	// Once Converge has sent a change, it waits a while for the answer even if ctx ends. If no
	// answer comes, the error has Unsettled set. If the error has Resumable set, the engine leaves a
	// unit that was never whole as it is, for the next Converge to continue with, and lists it.
	//
	// report may be nil. Converge calls it with what has been uploaded so far, from one goroutine at
	// a time, and never after it has returned.
	Converge(ctx context.Context, u Unit, prior *State, report func(Progress)) (State, error)

	// Restore puts a unit back to prior after a failed or cancelled Converge: its code and its
	// configuration, environment values included. prior was returned by Observe or Converge of this
	// executor before the change, so the executor can keep in memory what Restore needs and no State
	// may hold. Restore returns nil when the unit is as it was, also if nothing had changed. It
	// returns ErrUnsupported only if prior.NotRestorable says why. It is idempotent.
	Restore(ctx context.Context, prior State) error

	// Remove removes the unit and all that Converge made for it, and returns when it is gone. A unit
	// that does not exist is success. Remove is idempotent.
	//
	// A read that does not find the unit, or what holds it, proves nothing: Remove sends the
	// deletion anyway, and returns nil only if the answer was success or makes certain that nothing
	// exists. It never returns an ErrNotFound.
	Remove(ctx context.Context, id string) error

	// List returns the units that exist for the service, by ascending ID. It returns ErrUnsupported
	// if the provider cannot list.
	List(ctx context.Context) ([]State, error)

	// Warm makes sure that about n instances of the job's function are started, without running a
	// job, and returns how many are; n is at least 1. It returns ErrUnsupported if the provider
	// cannot do so.
	Warm(ctx context.Context, jobID uint32, n int) (int, error)

	// Health reports whether the job's function would answer, without running a job. It returns an
	// error only if it cannot tell: ErrNotFound if the function does not exist, ErrUnsupported if
	// the provider never can.
	Health(ctx context.Context, jobID uint32) (Health, error)

	// See [LogReader] for Logs, and [Diagnoser] for Diagnose.
	LogReader
	Diagnoser

	// Close frees connections and everything else held locally. It removes nothing at the provider.
	// It is idempotent.
	Close() error
}

// Bound is an executor that knows which service it is bound to. A deployment refuses an executor
// that is bound to another service.
type Bound interface {
	// Service returns Config.Service of the executor's configuration.
	Service() string
}

// PlaceChecker is an executor that can check whether its credentials reach the place of a
// service.
type PlaceChecker interface {
	// CheckPlace returns an ErrConflict if recorded, the state of a unit from an earlier deployment,
	// is of another account, project or subscription than the executor's, where it would find
	// nothing of the service. It returns nil if it cannot tell.
	CheckPlace(ctx context.Context, recorded State) error
}

// Progress reports how far a Converge is.
type Progress struct {
	Step       string // what is being done: "upload", "wait", ...
	Bytes      int64  // uploaded so far
	TotalBytes int64  // to upload
}

// Unimplemented is embedded in executors. It has the methods that only some providers can offer.
// Its methods return ErrUnsupported, except Diagnose, which returns no checks.
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
