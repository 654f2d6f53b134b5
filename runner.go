package serverless

import (
	"context"
	"errors"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// stopRecorded stops a runner that an earlier deployment left. It returns the runner if it stopped.
func stopRecorded(ctx context.Context, orc Orchestrator, ref RunnerRef) (stopped Runner, err error) {
	runner, err := attach(ctx, orc, ref)
	if err != nil {
		return nil, err
	}
	if err = runner.Stop(ctx); err == nil {
		stopped = runner
	}
	return stopped, errors.Join(err, runner.Release(ctx))
}

func attach(ctx context.Context, orc Orchestrator, ref RunnerRef) (Survivor, error) {
	attacher, ok := orc.(Attacher)
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
func canReplace(orc Orchestrator, previous *RunnerRef) error {
	if _, ok := orc.(Attacher); ok || previous == nil {
		return nil
	}
	return faas.Errorf(faas.ErrConflict, "start runner", "",
		"an earlier deployment left the %s runner %s running, which this orchestrator cannot stop: give the one that "+
			"can with WithOrchestrator, or undeploy first", previous.Kind, previous.ID)
}
