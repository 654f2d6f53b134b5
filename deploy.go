package serverless

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// Deploy is the one call that an embedding program makes. It loads the operator's policy, fetches
// the blueprint's metadata, analyses the jobs, and deploys them: all on FaaS, some on FaaS with the
// rest in the runner, or traditionally.
//
// The jobs run traditionally if serverless is off, if no job fits, or if the policy's provider is
// not linked in and the policy allows a fallback. They are run by the function given with
// [WithTraditional], or else by a supervised local process. If serverless fails and the policy's
// fallback_to_vm is true, Deploy removes what it created and runs the jobs traditionally too;
// Service.Fallback and Warnings tell why. Without the fallback Deploy returns the error. It always
// returns an error if the policy cannot be read, if ctx ends, if [WithVerifiedBinary] refuses the
// binary, or if the ledger is damaged or in use.
func Deploy(ctx context.Context, spec ServiceSpec, opts ...DeployOption) (svc *Service, err error) {
	o := newOrder(spec, opts)
	defer o.events.flush()
	defer func() { err = closeUnused(o.opts.executor, svc != nil, err) }()
	if err := o.decide(ctx); err != nil {
		return nil, err
	}
	if o.strategy.Kind == StrategyTraditional {
		return o.runTraditional(ctx, nil)
	}
	svc, err = o.deploy(ctx, nil)
	var state stateError
	switch {
	case svc != nil: // beside an error, it has the jobs that succeeded
		return svc, err
	case errors.As(err, &state) || ctx.Err() != nil || !o.fallback:
		return nil, err
	}
	o.fallBack(err, "serverless failed, so the jobs run traditionally (the policy's fallback_to_vm)")
	return o.runTraditional(ctx, nil)
}

// NewPlan does everything that [Deploy] does before its first change, and changes nothing: it loads
// the policy, fetches the metadata, analyses the jobs, inspects and packages the binary, checks
// everything that the provider would refuse, and observes what exists. It takes the options that
// the plan will be applied with. Its errors are those of Deploy; a plan has no fallback.
func NewPlan(ctx context.Context, spec ServiceSpec, opts ...DeployOption) (_ *Plan, err error) {
	o := newOrder(spec, opts)
	defer o.events.flush()
	defer func() { err = closeUnused(o.opts.executor, false, err) }()
	if err := o.decide(ctx); err != nil {
		return nil, err
	}
	if o.why != nil {
		return nil, o.why
	}
	rec, elsewhere, err := o.opts.ledgers.both(spec.Name, o.cfg.Provider)
	if err != nil {
		return nil, err
	}
	plan := &Plan{Service: spec.Name, BlueprintID: spec.BlueprintID, Strategy: o.strategy, Metadata: o.meta,
		Analysis: o.analysis, Provider: public(o.cfg.Provider), Changes: []PlannedChange{}, Warnings: o.warnings}
	if o.strategy.Kind == StrategyTraditional {
		if _, err := o.given(rec, elsewhere); err != nil {
			return nil, err
		}
		bin, err := o.inspect()
		if err != nil {
			return nil, err
		}
		settings, err := o.runner(bin, rec, elsewhere)
		if err != nil {
			return nil, err
		}
		plan.Binary, plan.Runner, plan.Warnings = planBinary(bin), settings.planned, append(o.warnings, settings.warnings...)
		plan.remove(rec.Sorted(), nil)
		plan.removeElsewhere(elsewhere)
		return plan, nil
	}
	at := o.here()
	p, err := prepare(ctx, o, at, rec, elsewhere)
	if err != nil {
		return nil, err
	}
	defer p.close()
	plan.add(p)
	return plan, at.close()
}

// Apply does exactly what the plan says. It refuses with an ErrConflict if something has changed
// since: the binary, the environment, the settings, or what the provider holds. spec and the
// options must be those that the plan was made with. Like [Deploy] it leaves nothing half-done, but
// it never falls back.
func (p *Plan) Apply(ctx context.Context, spec ServiceSpec, opts ...DeployOption) (svc *Service, err error) {
	o := newOrder(spec, opts)
	defer o.events.flush()
	defer func() { err = closeUnused(o.opts.executor, svc != nil, err) }()
	if spec.Name != p.Service || spec.BlueprintID != p.BlueprintID {
		return nil, moved("the plan is for service %q of blueprint %d, the spec for %q of %d", p.Service, p.BlueprintID,
			spec.Name, spec.BlueprintID)
	}
	if err := o.decide(ctx); err != nil {
		return nil, err
	}
	if now, was := o.strategy, p.Strategy; now.Kind != was.Kind || !slices.Equal(now.FaaSJobs, was.FaaSJobs) ||
		!slices.Equal(now.LocalJobs, was.LocalJobs) {
		return nil, moved("the strategy is now %s with jobs %v on FaaS and %v beside it; it was %s with %v and %v",
			now.Kind, now.FaaSJobs, now.LocalJobs, was.Kind, was.FaaSJobs, was.LocalJobs)
	}
	if ledger.Location(o.cfg.Provider) != ledger.Location(p.Provider) {
		return nil, moved("the policy's provider is now %v; it was %v", public(o.cfg.Provider), p.Provider)
	}
	if o.strategy.Kind != StrategyTraditional {
		return o.deploy(ctx, p)
	}
	bin, err := o.inspect()
	if err != nil {
		return nil, err
	}
	if bin.SHA256 != p.Binary.SHA256 {
		return nil, moved("the binary %s has changed", bin.Path)
	}
	o.binarySHA256 = bin.SHA256 // only what is in the plan may run
	return o.runTraditional(ctx, p)
}

// runTraditional runs all jobs beside FaaS, and removes what earlier deployments have on FaaS, in
// every place. If plan is not nil it removes exactly what that says, or refuses.
func (o *order) runTraditional(ctx context.Context, plan *Plan) (*Service, error) {
	at := o.here()
	rec, elsewhere, err := o.opts.ledgers.both(at.service, at.config)
	if err != nil {
		return nil, err
	}
	given, err := o.given(rec, elsewhere)
	if err != nil {
		return nil, err
	}
	var planned map[string][]string
	if plan != nil {
		if planned, err = plan.removals(at.config, append([]ledger.Record{rec}, elsewhere...)); err != nil {
			return nil, err
		}
	}
	var binary *faas.Binary
	if o.spec.ServiceID != nil {
		binary, _ = o.inspect() // whoever runs the file says what is wrong with it
	}
	settings, err := o.runner(binary, rec, elsewhere)
	if err == nil && plan != nil {
		err = plan.Runner.check(settings.planned)
	}
	if err != nil {
		return nil, err
	}
	svc := newService(o.spec, o.strategy, o.opts.serviceOptions)
	svc.runnerSettings = settings
	svc.metadata, svc.analysis, svc.fallback, svc.anyLocal = o.meta, o.analysis, o.why, o.meta == nil
	svc.location = at.config
	svc.exec = o.opts.executor
	svc.warn(append(o.warnings, settings.warnings...)...)
	if err := o.startTraditional(ctx, svc, rec, given); err != nil {
		if o.why != nil {
			return nil, fallbackFailed(o.why, err)
		}
		return nil, &faas.Error{Op: "run traditionally", JobID: faas.NoJob, Code: faas.CodeOf(err), Err: err}
	}
	svc.deployed(nil, nil)
	if o.why != nil {
		return svc, nil // a failure does not take down an earlier deployment's functions, which still work
	}
	var c clearing
	if plan != nil {
		c.planned = append([]string{}, planned[ledger.Location(at.config)]...)
	}
	removed, err := at.clear(ctx, c)
	elsewhereRemoved, elsewhereErr := at.clearOthers(ctx, elsewhere, planned)
	svc.cleared = slices.Concat(removed, elsewhereRemoved)
	err = errors.Join(err, elsewhereErr)
	switch {
	case err != nil && plan != nil && faas.CodeOf(err) == faas.ErrConflict:
		j, _, lockErr := at.lock(ctx)
		if lockErr != nil {
			return nil, errors.Join(err, lockErr, svc.stopRunner(ctx, o.events))
		}
		return nil, errors.Join(svc.abandon(ctx, j, o.events, err), j.close())
	case err != nil:
		svc.warn(fmt.Sprintf("functions of an earlier deployment could not be removed; Undeploy or the next deployment "+
			"tries again: %v", err))
	}
	return svc, nil
}

// startTraditional starts the runner of all jobs, with the embedding program's function or the
// orchestrator.
func (o *order) startTraditional(ctx context.Context, svc *Service, rec ledger.Record, given []string) error {
	sizing := Sizing{MemoryMB: 512, CPUCores: 1}
	var jobIDs []uint32
	if o.analysis != nil {
		sizing, jobIDs = o.analysis.Sizing, o.strategy.LocalJobs
	}
	phase := PhaseOrchestrator
	if o.why != nil {
		phase = PhaseFallback
	}
	return o.events.act(phase, "start", jobIDs, func() (err error) {
		var runner orchestrator.Runner
		switch {
		case o.opts.traditional != nil:
			runner, err = o.opts.traditional(ctx, svc.runnerSettings.complete(o.spec), jobIDs, sizing)
		case o.opts.noRunner:
			runner = absentRunner{}
		default:
			runner, err = o.startOnly(ctx, svc, jobIDs, rec, given)
		}
		if err == nil && runner == nil {
			err = errors.New("the traditional hook returned neither a runner nor an error")
		}
		svc.setRunner(runner)
		return err
	})
}

// startOnly starts a runner that runs all jobs, with the orchestrator.
func (o *order) startOnly(ctx context.Context, svc *Service, jobIDs []uint32, rec ledger.Record,
	given []string) (_ orchestrator.Runner, err error) {
	if svc.binary, err = o.inspect(); err != nil {
		return nil, err
	}
	if err := canReplace(o.opts.orchestrator, rec.Runner); err != nil {
		return nil, err
	}
	runner := orchestrator.Spec{Delegated: faas.RunnerConfig{}, LocalJobs: jobIDs, Previous: rec.Runner}
	return svc.start(ctx, runner, func(ref *orchestrator.Ref) (err error) {
		j, _, err := o.here().lock(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, j.close()) }()
		if err := j.describe(svc.record(given, jobIDs)); err != nil {
			return err
		}
		return j.setRunner(ref)
	})
}

// fallbackFailed returns the error of a deployment that failed by cause and whose fallback failed
// by err. It has the code, the text and the fields of the cause, because that is what can be put
// right.
func fallbackFailed(cause, err error) error {
	failed := faas.Error{Op: "deploy", JobID: faas.NoJob, Code: faas.CodeOf(cause), Err: cause}
	if fe, ok := cause.(*faas.Error); ok && fe.Err != nil {
		failed = *fe
	}
	var fe *faas.Error
	if errors.As(err, &fe) {
		failed.Leftovers = slices.Concat(failed.Leftovers, fe.Leftovers)
	}
	failed.Err = fmt.Errorf("%w; and the jobs cannot run traditionally instead (fallback_to_vm): %w", failed.Err, err)
	return &failed
}
