package serverless

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// DeployServerless deploys the jobs as functions with cfg's provider, and starts the blueprint's
// binary as their runner. It decides nothing: [Deploy] is the call that reads the policy, analyses
// the jobs and routes. [WithPolicy] and [WithTraditional] are therefore an ErrInvalidArgument, and
// so are [WithMetadata] and [WithFetch] without [WithVerifiedBinary], which alone needs metadata;
// WithFetch may also name the chain of a spec with a ServiceID.
//
// Everything that can be refused is refused before the first change. A function that exists is kept
// if its code and configuration are as wanted, and updated otherwise. Functions of the service that
// belong to no job in jobIDs are removed last. If anything fails or ctx ends, what this call
// created is removed and what it updated is put back if the provider can do that; the error (a
// *faas.Error) lists what was left behind.
//
// Every change is written to the service's ledger ([WithStateDir]) before it is made, so that after
// a crash the next call for the service finishes or undoes it. That call waits up to 2 s first,
// until the requests of the killed program have taken effect.
//
// The caller owns the service and ends it with Undeploy or Close.
func DeployServerless(ctx context.Context, spec ServiceSpec, jobIDs []uint32, cfg ServerlessConfig,
	opts ...DeployOption) (svc *Service, err error) {
	o := newOrder(spec, opts)
	defer o.events.flush()
	defer func() { err = closeUnused(o.opts.executor, svc != nil, err) }()
	if err := o.validate(); err != nil {
		return nil, err
	}
	if err := o.opts.checkUndecided(spec.ServiceID != nil); err != nil {
		return nil, err
	}
	o.cfg = cfg
	o.cfg.Provider = faas.Resolve(cfg.Provider)
	jobs := slices.Compact(slices.Sorted(slices.Values(jobIDs)))
	o.strategy = Strategy{Kind: StrategyServerless, FaaSJobs: jobs, LocalJobs: []uint32{}}
	if o.opts.verify {
		if err := o.fetch(ctx); err != nil {
			return nil, err
		}
		if err := o.verify(); err != nil {
			return nil, err
		}
	}
	return o.deploy(ctx, nil)
}

// checkUndecided refuses the options that only a deployment which decides can use. onChain says
// that the runner needs to know the chain.
func (o deployOptions) checkUndecided(onChain bool) error {
	switch {
	case o.policy != nil || o.traditional != nil:
		return faas.Errorf(faas.ErrInvalidArgument, "deploy", "", "WithPolicy and WithTraditional are options of Deploy, "+
			"which decides; DeployServerless takes the configuration it is given")
	case !o.verify && (o.metadata != nil || len(o.fetch) > 0 && !onChain):
		return faas.Errorf(faas.ErrInvalidArgument, "deploy", "", "WithMetadata and WithFetch have no effect on "+
			"DeployServerless without WithVerifiedBinary")
	}
	return nil
}

// cleanupTimeout bounds the stopping of a runner after a failed deployment.
const cleanupTimeout = 30 * time.Second

// deploy deploys the strategy's FaaS jobs and starts a runner for the others. If plan is not nil it
// does exactly what that says, or refuses. A service beside an error has the jobs that succeeded.
func (o *order) deploy(ctx context.Context, plan *Plan) (_ *Service, err error) {
	at := o.here()
	j, warning, err := at.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if cerr := j.close(); cerr != nil && err == nil {
			o.opts.logger.Warn("the ledger could not be closed", "service", o.spec.Name, "error", cerr)
		}
	}()
	rec, err := at.record(j)
	if err != nil {
		return nil, stateError{err}
	}
	if err := rec.Settle(ctx); err != nil {
		return nil, err
	}
	p, err := prepare(ctx, o, at, rec, o.opts.ledgers.elsewhere(o.spec.Name, o.cfg.Provider))
	if err != nil {
		return nil, err
	}
	defer p.close()
	svc := newService(o.spec, o.strategy, o.opts.serviceOptions)
	svc.metadata, svc.analysis = o.meta, o.analysis
	svc.binary, svc.location, svc.exec, svc.runnerSettings = p.binary, at.config, at.exec, p.runner
	svc.warn(p.warnings()...)
	if warning != "" {
		svc.warn(warning)
	}
	if plan != nil {
		if err := plan.matches(p); err != nil {
			return nil, svc.abandon(ctx, j, o.events, err)
		}
	}
	err = p.apply(ctx, svc, j)
	if err != nil && (!o.opts.keepSucceeded || len(svc.units) == 0) {
		return nil, svc.abandon(ctx, j, o.events, err)
	}
	svc.warn(o.warnings...)
	return svc, err
}

// apply makes the changes: the runner first, then the functions, then the removals.
func (p *prepared) apply(ctx context.Context, svc *Service, j *journal) error {
	localJobs := p.order.strategy.LocalJobs
	if p.record.Updated.IsZero() { // so that a crash in a first deployment leaves more than units
		if err := j.describe(svc.record(p.given, localJobs)); err != nil {
			return err
		}
	}
	if err := j.adopt(p.changes); err != nil {
		return err
	}
	runner := orchestrator.Spec{Delegated: p.runnerConfig(), LocalJobs: localJobs, Previous: p.record.Runner}
	if err := svc.startRunner(ctx, runner, j, p.order.events); err != nil {
		return err
	}
	eng := p.at.engine(j, p.order.opts.keepSucceeded)
	states, err := eng.Apply(ctx, p.changes)
	if err != nil && !p.order.opts.keepSucceeded {
		return err
	}
	svc.deployed(p.changes, states)
	if err != nil {
		return err
	}
	rec := svc.record(p.given, localJobs)
	rec.Runner = j.record().Runner
	if err := j.describe(rec); err != nil {
		svc.warn(fmt.Sprintf("the functions are deployed, but the ledger could not record all about the service: %v", err))
	}
	units := recordedUnits(p.stale)
	err = eng.Remove(ctx, units)
	if svc.cleared = removedOf(units, err); err != nil {
		svc.warn(fmt.Sprintf("functions that no longer belong to a job could not be removed; the next deployment tries "+
			"again: %v", err))
	}
	if p.order.opts.move {
		removed, err := p.at.clearOthers(ctx, p.others, p.planned)
		if svc.cleared = append(svc.cleared, removed...); err != nil {
			svc.warn(fmt.Sprintf("what the service had elsewhere could not all be removed; Undeploy or the next deployment "+
				"with WithMove tries again: %v", err))
		}
	}
	return nil
}

// startRunner starts the service's runner. It starts none if the program is the runner itself, or
// if this machine cannot run the binary and no job needs it.
func (s *Service) startRunner(ctx context.Context, spec orchestrator.Spec, j *journal, events *emitter) error {
	if s.opts.noRunner {
		return nil
	}
	if err := canReplace(s.opts.orchestrator, spec.Previous); err != nil {
		return err
	}
	if local, ok := s.opts.orchestrator.(*orchestrator.Local); ok {
		if why := local.CannotRun(s.binary); why != "" {
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
		detached, ok := runner.(orchestrator.Detached)
		s.runnerKept = ok && spec.Previous != nil && detached.Ref().ID == spec.Previous.ID
		return nil
	})
}

// start starts a runner with the orchestrator. record writes where it is, or that there is none.
func (s *Service) start(ctx context.Context, spec orchestrator.Spec,
	record func(*orchestrator.Ref) error) (orchestrator.Runner, error) {
	recorded := false
	spec.Service, spec.BlueprintID = s.spec.Name, s.spec.BlueprintID
	spec.Binary, spec.Args, spec.Env, spec.Logger = s.binary, s.spec.Args, s.env, s.opts.logger
	spec.RunnerEnv, spec.Chain = s.runnerSettings.env, s.runnerSettings.chain
	spec.Record = func(ref orchestrator.Ref) error {
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
	if _, ok := runner.(orchestrator.Detached); !ok && spec.Previous != nil { // the orchestrator has stopped that one
		if err := record(nil); err != nil {
			return nil, errors.Join(err, runner.Stop(ctx))
		}
	}
	if u, ok := runner.(orchestrator.Uninvokable); ok && (spec.LocalJobs == nil || len(spec.LocalJobs) > 0) {
		if why := u.CannotInvoke(); why != "" {
			s.warn(fmt.Sprintf("jobs that are not on FaaS %v cannot be invoked through this service: %s", spec.LocalJobs, why))
		}
	}
	return runner, nil
}

// runnerConfig is what the runner needs to delegate the jobs on FaaS.
func (p *prepared) runnerConfig() faas.RunnerConfig {
	at := p.at.config
	cfg := faas.RunnerConfig{}
	for _, c := range p.changes {
		for _, f := range c.Unit.Functions {
			cfg[f.JobID] = faas.RunnerFunction{
				Provider: at.Provider, FunctionID: c.Unit.ID, Endpoint: faas.RedactURL(at.Endpoint), Service: p.at.service,
				Region: at.Region, ProjectID: at.ProjectID, SubscriptionID: at.SubscriptionID,
				Options: faas.PublicOptions(at),
			}
		}
	}
	return cfg
}

// record is what the ledger says of the service beside its units.
func (s *Service) record(given []string, localJobs []uint32) ledger.Record {
	rec := ledger.Record{Provider: s.location, BlueprintID: s.spec.BlueprintID, Given: given, LocalJobs: localJobs,
		Chain: s.runnerSettings.record}
	if s.binary != nil {
		rec.BinarySHA256 = s.binary.SHA256
	}
	rec.Binary = s.spec.BinaryPath
	if absolute, err := filepath.Abs(rec.Binary); err == nil {
		rec.Binary = absolute // a relative path means another file in another directory
	}
	return rec
}

// abandon ends what a failed deployment started on this machine. The engine has already undone what
// it changed at the provider.
func (s *Service) abandon(ctx context.Context, j *journal, events *emitter, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if detached, ok := s.getRunner().(orchestrator.Detached); ok && !s.runnerKept {
		err := detached.Stop(ctx)
		if err == nil {
			err = j.setRunner(nil)
		}
		s.setRunner(nil)
		if err != nil {
			return left(cause, fmt.Sprintf("the runner %s (%v)", detached.Ref().ID, err))
		}
	}
	if s.opts.executor != nil {
		s.exec = nil // closeUnused closes it
	}
	if err := s.release(ctx, events); err != nil {
		return left(cause, fmt.Sprintf("the runner or a connection (%v)", err))
	}
	return cause
}

// left adds what was left behind to the cause of a failure.
func left(cause error, what string) error {
	var fe *faas.Error
	if !errors.As(cause, &fe) {
		fe = &faas.Error{Op: "deploy", JobID: faas.NoJob, Code: faas.CodeOf(cause), Err: cause}
	}
	withMore := *fe
	withMore.Leftovers = append(slices.Clone(fe.Leftovers), what)
	return &withMore
}
