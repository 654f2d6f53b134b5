// Package orchestrator starts a service's runner and keeps it running. [Local] runs it on this
// machine; package orchestrator/ec2 runs it on a machine of EC2.
package orchestrator

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Orchestrator runs a blueprint's binary as the service's light runner. A deployment starts it
// before the functions.
type Orchestrator interface {
	// Start starts the runner and returns when it is up. ctx bounds the start, not the runner's life.
	// The runner is non-nil if and only if the error is nil. If Start fails, it leaves nothing, or
	// names what is left in the error's Leftovers.
	Start(ctx context.Context, spec Spec) (Runner, error)
}

// Runner is a running blueprint binary. Its Invoke runs the jobs that are not on FaaS.
type Runner interface {
	faas.Invoker
	// Health reports whether the runner is up.
	Health(ctx context.Context) (faas.Health, error)
	// Stop stops the runner, gracefully until ctx is done and then by force. It returns when nothing
	// of the runner is left. Stop is idempotent.
	Stop(ctx context.Context) error
}

// Uninvokable is a runner that may be unable to take calls, because it does its own work. A
// deployment with local jobs on such a runner succeeds with a warning.
type Uninvokable interface {
	Runner
	// CannotInvoke says why Invoke would refuse every job now, with ErrUnsupported. It is empty if
	// Invoke would not.
	CannotInvoke() string
}

// Detached is a runner that outlives the program that started it. Closing the service leaves it
// running, undeploying stops it, and serverless.OpenService finds it again from the ledger.
type Detached interface {
	Runner
	// Ref returns what finds the runner again.
	Ref() Ref
	// Release frees the resources that this program holds for the runner, and leaves it running. No
	// other method is called after Release.
	Release(ctx context.Context) error
}

// Ref says where a Detached runner is. It is a plain value without secrets, which the ledger keeps.
// Kind names the orchestrator that can find the runner, and ID identifies it within the kind.
type Ref struct {
	Kind    string          `json:"kind"`
	ID      string          `json:"id"`
	Private json.RawMessage `json:"private,omitempty"` // for the orchestrator alone
}

// Attacher is an orchestrator whose runners may be [Detached]. Its Start calls Spec.Record before a
// detached runner runs anything, and continues only if Record returns nil. If Spec.Previous is set,
// Start returns that runner if it already runs what is wanted, and otherwise stops it.
type Attacher interface {
	Orchestrator
	// Attach returns the runner that ref identifies. A runner that has ended is not an error: its
	// Health says so. A ref of another kind is an ErrUnsupported.
	Attach(ctx context.Context, ref Ref) (Detached, error)
}

// Spec says what a runner runs.
type Spec struct {
	Service     string
	BlueprintID uint64
	// Binary was inspected, and verified if the deployment asked for that. The runner runs only the
	// bytes with its SHA256, at restarts too.
	Binary *faas.Binary
	Args   []string
	// Env is the service's environment, without Delegated.
	Env faas.Env
	// RunnerEnv is the environment of the runner alone, over Env. The processes of local jobs that are
	// not the runner do not get it, because it may name the operator's key.
	RunnerEnv faas.Env
	// Chain says that the runner serves a service on chain; nil if it serves none.
	Chain *Chain
	// Delegated are the jobs that run on FaaS. The runner gets them as JSON in the environment
	// variable BLUEPRINT_FAAS_CONFIG.
	Delegated faas.RunnerConfig
	// LocalJobs are the jobs that are not on FaaS, for which Invoke is called. It is nil, and any job
	// may be invoked, in a traditional deployment whose metadata could not be read.
	LocalJobs []uint32
	Logger    *slog.Logger // never nil
	// Record and Previous are for an [Attacher].
	Record   func(Ref) error // never nil
	Previous *Ref            // of an earlier deployment; nil if none is left
}

// Chain is what an orchestrator must know of a service on chain. The rest is in Spec.RunnerEnv.
type Chain struct {
	ServiceID uint64
	// DataDir is where the runner keeps its journal, on the machine that runs it: the variable
	// DATA_DIR. If it is empty, the orchestrator chooses, and LocalDataDir is where one that uses this
	// machine puts it. An orchestrator never removes what is there.
	DataDir, LocalDataDir string
}

// Format prints the spec without the values of the environment and the arguments, whatever the
// verb.
func (s Spec) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "{service:%s blueprint:%d args:%d env:%v runner env:%v delegated:%v local:%v}", s.Service,
		s.BlueprintID, len(s.Args), s.Env.Names(), s.RunnerEnv.Names(), slices.Sorted(maps.Keys(s.Delegated)), s.LocalJobs)
}

// LogValue returns what Format prints.
func (s Spec) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// GobEncode encodes what Format prints.
func (s Spec) GobEncode() ([]byte, error) { return []byte(fmt.Sprint(s)), nil }
