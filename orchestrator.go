package serverless

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// Orchestrator runs a blueprint's binary as the service's light runner: the first phase of a deployment.
type Orchestrator interface {
	// Start starts the runner and returns once it is up. ctx bounds the start, not the runner's life. After an error nothing of it is left.
	// The runner is non-nil exactly when the error is nil.
	Start(ctx context.Context, spec RunnerSpec) (Runner, error)
}

// Runner is a running orchestrator. Its Invoke runs the jobs that are not on FaaS.
type Runner interface {
	faas.Invoker
	// Health tells whether the runner is up.
	Health(ctx context.Context) (faas.Health, error)
	// Stop stops it: gracefully until ctx is done, then by force. It is idempotent, and returns when nothing of the runner is left.
	Stop(ctx context.Context) error
}

// Uninvokable is a runner through which jobs may be impossible to invoke: one that does its own work and takes no calls. A deployment with local jobs succeeds all
// the same, and warns.
type Uninvokable interface {
	Runner
	// CannotInvoke says why Invoke would refuse every job now, with ErrUnsupported; empty if it would not.
	CannotInvoke() string
}

// Survivor is a runner that outlives the program which started it. Closing the service leaves it running, undeploying stops it, and [OpenService] finds
// it again from the ledger.
type Survivor interface {
	Runner
	// Ref returns what finds the runner again.
	Ref() RunnerRef
	// Release frees what this program holds of the runner and leaves it running. Nothing else is called afterwards.
	Release(ctx context.Context) error
}

// RunnerRef tells where a Survivor is: a plain value without secrets, which is kept in the ledger. Kind names the orchestrator that can find it, and ID the
// runner among all of that kind.
type RunnerRef = ledger.Runner

// Attacher is an orchestrator whose runners may be survivors. What it owes: Start calls RunnerSpec.Record, and continues only if that returns nil, before
// a survivor runs anything; and where RunnerSpec.Previous is set, it returns that runner if it runs what is wanted already, and otherwise stops it.
type Attacher interface {
	Orchestrator
	// Attach returns the runner that ref tells of. One that has ended since is no error: its Health says so. A ref of another kind is an
	// ErrUnsupported.
	Attach(ctx context.Context, ref RunnerRef) (Survivor, error)
}

// RunnerSpec says what a runner runs.
type RunnerSpec struct {
	Service     string
	BlueprintID uint64
	// Binary is what was inspected, and verified if that was asked for. The runner runs the bytes with its SHA256 and no others, at restarts too.
	Binary *faas.Binary
	Args   []string
	// Env is the service's environment, without Delegated.
	Env faas.Env
	// Delegated are the jobs that run on FaaS; the runner gets it as JSON in the environment variable BLUEPRINT_FAAS_CONFIG.
	Delegated faas.RunnerConfig
	// LocalJobs are the jobs that are not on FaaS, for which Invoke is called. In a traditional deployment whose metadata could not be read it is nil, and any job may be.
	LocalJobs []uint32
	Logger    *slog.Logger // never nil
	// Record and Previous are for an [Attacher].
	Record   func(RunnerRef) error // never nil
	Previous *RunnerRef            // the survivor of an earlier deployment; nil for none
}

// Format prints the spec without the values of the environment and the arguments, whatever the verb.
func (s RunnerSpec) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "{service:%s blueprint:%d args:%d env:%v delegated:%v local:%v}", s.Service, s.BlueprintID,
		len(s.Args), s.Env.Names(), slices.Sorted(maps.Keys(s.Delegated)), s.LocalJobs)
}

// LogValue logs what Format prints.
func (s RunnerSpec) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// GobEncode encodes what Format prints.
func (s RunnerSpec) GobEncode() ([]byte, error) { return []byte(fmt.Sprint(s)), nil }

// TraditionalFunc runs a service without FaaS, on the embedding program's own machines or clusters. jobIDs are all jobs of the blueprint, nil
// where they are not known; sizing is what they need. See [WithTraditional].
type TraditionalFunc func(ctx context.Context, spec ServiceSpec, jobIDs []uint32, sizing Sizing) (Runner, error)

// absentRunner stands for the runner that the program is itself.
type absentRunner struct{}

func (absentRunner) Invoke(_ context.Context, jobID uint32, _ []byte) (*faas.Result, error) {
	err := faas.JobErrorf(faas.ErrUnsupported, "invoke", "", jobID, "the program runs this job itself (WithoutRunner)")
	err.NotRun = true
	return nil, err
}

func (absentRunner) Health(context.Context) (faas.Health, error) {
	return faas.Health{Healthy: true}, nil
}
func (absentRunner) Stop(context.Context) error { return nil }
