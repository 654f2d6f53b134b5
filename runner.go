package serverless

import (
	"context"
	"errors"
	"fmt"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// startRunner starts the service's runner. It starts none if the program is the runner itself, or if
// this machine cannot run the binary and no job needs it.
func (s *Service) startRunner(ctx context.Context, spec RunnerSpec, j *journal, events *emitter) error {
	if s.opts.noRunner {
		return nil
	}
	if err := canReplace(s.opts.orchestrator, spec.Previous); err != nil {
		return err
	}
	if _, local := s.opts.orchestrator.(*LocalOrchestrator); local {
		if why := cannotRunHere(s.binary); why != "" {
			if len(s.strategy.LocalJobs) > 0 {
				return faas.Errorf(faas.ErrUnsupported, "start runner", "",
					"jobs %v do not run on FaaS, and %s: deploy from a machine that can run it, or give an orchestrator that runs "+
						"it elsewhere", s.strategy.LocalJobs, why)
			}
			s.warn("no runner is started: " + why)
			return nil
		}
	}
	return events.act(PhaseOrchestrator, "start", s.strategy.LocalJobs, func() (err error) {
		runner, err := s.start(ctx, spec, j.setRunner)
		if err != nil {
			return &faas.Error{Op: "start runner", JobID: faas.NoJob, Code: faas.CodeOf(err), Err: err}
		}
		s.setRunner(runner)
		survivor, ok := runner.(Survivor)
		s.runnerKept = ok && spec.Previous != nil && survivor.Ref().ID == spec.Previous.ID
		return nil
	})
}

// start starts a runner with the orchestrator. record writes where it is, or that there is none.
func (s *Service) start(ctx context.Context, spec RunnerSpec, record func(*RunnerRef) error) (Runner, error) {
	recorded := false
	spec.Service, spec.BlueprintID = s.spec.Name, s.spec.BlueprintID
	spec.Binary, spec.Args, spec.Env, spec.Logger = s.binary, s.spec.Args, s.env, s.opts.logger
	spec.Record = func(ref RunnerRef) error {
		err := record(&ref)
		recorded = err == nil
		return err
	}
	runner, err := s.opts.orchestrator.Start(ctx, spec)
	if err == nil && runner == nil {
		err = errors.New("the orchestrator returned neither a runner nor an error")
	}
	if err != nil {
		var fe *faas.Error
		leftovers := errors.As(err, &fe) && len(fe.Leftovers) > 0
		if recorded && !leftovers { // leftovers must still be found
			err = errors.Join(err, record(nil))
		}
		return nil, err
	}
	if _, ok := runner.(Survivor); !ok && spec.Previous != nil { // the orchestrator has stopped that one
		if err := record(nil); err != nil {
			return nil, errors.Join(err, runner.Stop(ctx))
		}
	}
	if u, ok := runner.(Uninvokable); ok && (spec.LocalJobs == nil || len(spec.LocalJobs) > 0) {
		if why := u.CannotInvoke(); why != "" {
			s.warn(fmt.Sprintf("jobs that are not on FaaS %v cannot be invoked through this service: %s", spec.LocalJobs, why))
		}
	}
	return runner, nil
}

// attach finds the runner again that an earlier deployment left running.
func (s *Service) attach(ctx context.Context, ref RunnerRef) error {
	runner, err := attach(ctx, s.opts.orchestrator, ref)
	if err != nil {
		return err
	}
	s.setRunner(runner)
	s.runnerKept = true
	return nil
}

func (s *Service) stopRunner(ctx context.Context, events *emitter) error {
	runner := s.getRunner()
	if runner == nil {
		return nil
	}
	return events.act(PhaseOrchestrator, "stop", s.strategy.LocalJobs, func() error {
		if err := runner.Stop(ctx); err != nil {
			return &faas.Error{Op: "stop runner", JobID: faas.NoJob, Code: faas.CodeOf(err),
				Leftovers: []string{"the runner of " + s.spec.Name}, Err: err}
		}
		return nil
	})
}

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
