// Package orchestrator starts a service's runner and keeps it running. [Local] runs it on this
// machine; package ec2 runs it on a machine of EC2.
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

// Orchestrator runs a blueprint's binary as the service's light runner: the first phase of a deployment.
type Orchestrator interface {
	// Start starts the runner and returns once it is up. ctx bounds the start, not the runner's life. After an error nothing of it is left.
	// The runner is non-nil exactly when the error is nil.
	Start(ctx context.Context, spec Spec) (Runner, error)
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

// Detached is a runner that outlives the program which started it. Closing the service leaves it running, undeploying stops it, and [serverless.OpenService] finds
// it again from the ledger.
type Detached interface {
	Runner
	// Ref returns what finds the runner again.
	Ref() Ref
	// Release frees what this program holds of the runner and leaves it running. Nothing else is called afterwards.
	Release(ctx context.Context) error
}

// Ref tells where a Detached is: a plain value without secrets, which is kept in the ledger. Kind names the orchestrator that can find it, and ID the
// runner among all of that kind.
type Ref struct {
	Kind    string          `json:"kind"`
	ID      string          `json:"id"`
	Private json.RawMessage `json:"private,omitempty"` // the orchestrator's own
}

// Attacher is an orchestrator whose runners may be survivors. What it owes: Start calls Spec.Record, and continues only if that returns nil, before
// a survivor runs anything; and where Spec.Previous is set, it returns that runner if it runs what is wanted already, and otherwise stops it.
type Attacher interface {
	Orchestrator
	// Attach returns the runner that ref tells of. One that has ended since is no error: its Health says so. A ref of another kind is an
	// ErrUnsupported.
	Attach(ctx context.Context, ref Ref) (Detached, error)
}

// Spec says what a runner runs.
type Spec struct {
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
	Record   func(Ref) error // never nil
	Previous *Ref            // the survivor of an earlier deployment; nil for none
}

// Format prints the spec without the values of the environment and the arguments, whatever the verb.
func (s Spec) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "{service:%s blueprint:%d args:%d env:%v delegated:%v local:%v}", s.Service, s.BlueprintID,
		len(s.Args), s.Env.Names(), slices.Sorted(maps.Keys(s.Delegated)), s.LocalJobs)
}

// LogValue logs what Format prints.
func (s Spec) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// GobEncode encodes what Format prints.
func (s Spec) GobEncode() ([]byte, error) { return []byte(fmt.Sprint(s)), nil }
