package serverless

import (
	"context"
	"log/slog"

	"github.com/tangle-network/blueprint-serverless/faas"
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

// RunnerSpec says what a runner runs.
type RunnerSpec struct {
	Service     string
	BlueprintID uint64
	Binary      *faas.Binary
	Args        []string
	// Env is the service's environment, without Delegated.
	Env map[string]string
	// Delegated are the jobs that run on FaaS; the runner gets it as JSON in the environment variable BLUEPRINT_FAAS_CONFIG.
	Delegated faas.RunnerConfig
	// LocalJobs are the jobs that Invoke is called for. In a traditional deployment whose metadata could not be read it is nil, and any job may be.
	LocalJobs []uint32
	Logger    *slog.Logger // never nil
}

// TraditionalFunc runs a service without FaaS, on the embedding program's own machines or clusters. jobIDs are all jobs of the blueprint, nil
// where they are not known; sizing is what they need. See [WithTraditional].
type TraditionalFunc func(ctx context.Context, spec ServiceSpec, jobIDs []uint32, sizing Sizing) (Runner, error)
