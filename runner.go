package serverless

import (
	"context"
	"errors"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// stopRecorded stops a runner that an earlier deployment left. It returns the runner if it stopped.
func stopRecorded(ctx context.Context, orc orchestrator.Orchestrator,
	ref orchestrator.Ref) (stopped orchestrator.Runner, err error) {
	runner, err := attach(ctx, orc, ref)
	if err != nil {
		return nil, err
	}
	if err = runner.Stop(ctx); err == nil {
		stopped = runner
	}
	return stopped, errors.Join(err, runner.Release(ctx))
}

func attach(ctx context.Context, orc orchestrator.Orchestrator, ref orchestrator.Ref) (orchestrator.Detached, error) {
	attacher, ok := orc.(orchestrator.Attacher)
	if !ok {
		return nil, canReplace(orc, &ref)
	}
	runner, err := attacher.Attach(ctx, ref)
	if err != nil {
		return nil, &faas.Error{Op: "find runner", JobID: faas.NoJob, Code: faas.CodeOf(err), Err: err}
	}
	return runner, nil
}

// canReplace returns an error if an earlier deployment's runner still runs and the orchestrator
// cannot find such runners.
func canReplace(orc orchestrator.Orchestrator, previous *orchestrator.Ref) error {
	if _, ok := orc.(orchestrator.Attacher); ok || previous == nil {
		return nil
	}
	return faas.Errorf(faas.ErrConflict, "start runner", "",
		"an earlier deployment left the %s runner %s running, which this orchestrator cannot stop: give the one that "+
			"can with WithOrchestrator, or undeploy first", previous.Kind, previous.ID)
}

// TraditionalFunc runs a service without FaaS, on the embedding program's own machines or clusters.
// jobIDs are all jobs of the blueprint, nil if they are not known. sizing is what they need. The
// spec's RunnerEnv and DataDir are complete if its ServiceID is set. See [WithTraditional].
type TraditionalFunc func(ctx context.Context, spec ServiceSpec, jobIDs []uint32,
	sizing Sizing) (orchestrator.Runner, error)

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
