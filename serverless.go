package serverless

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// cleanupTimeout bounds the stopping of a runner after a failed deployment.
const cleanupTimeout = 30 * time.Second

// DeployServerless deploys the jobs as functions with cfg's provider, and starts the blueprint's binary as their runner. It makes no decision
// of its own: [Deploy] is the call that reads the policy, analyses the jobs and routes. [WithPolicy] and [WithTraditional] are therefore an
// ErrInvalidArgument here; metadata is read for [WithVerifiedBinary] alone.
//
// Everything that can be refused is refused before the first change. What exists already is kept where code and configuration agree, and updated
// where they do not; functions of the service that belong to no job in jobIDs any more are removed last. If anything fails or ctx ends, what
// this call created is removed, what it updated is put back where the provider can, and the error (a *faas.Error) lists what was left
// behind. Every change is written ahead into the service's ledger ([WithStateDir]), so that after a crash the next call for the service finishes or
// undoes it; it waits up to 2 s first, until what the killed program had sent cannot take effect unseen any more. The caller owns the service and ends it with Undeploy or Close.
func DeployServerless(ctx context.Context, spec ServiceSpec, jobIDs []uint32, cfg ServerlessConfig,
	opts ...DeployOption) (svc *Service, err error) {
	o := newDeployOptions(opts)
	defer o.events.flush()
	defer func() { err = o.closeGiven(svc, err) }()
	if err := spec.validate(); err != nil {
		return nil, err
	}
	if o.policy != nil || o.traditional != nil {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "deploy", "",
			"WithPolicy and WithTraditional are options of Deploy, which decides; DeployServerless takes the configuration "+
				"it is given")
	}
	cfg.Provider = faas.Resolve(cfg.Provider)
	jobs := slices.Compact(slices.Sorted(slices.Values(jobIDs)))
	strategy := Strategy{Kind: StrategyServerless, FaaSJobs: jobs, LocalJobs: []uint32{}}
	var meta *Metadata
	var warning string
	if o.verify {
		if meta, err = o.fetchMetadata(ctx, spec); err != nil {
			return nil, err
		}
		if warning, err = o.verifyBinary(meta, spec); err != nil {
			return nil, err
		}
	}
	svc, err = deployServerless(ctx, spec, strategy, cfg, o, nil)
	if svc != nil {
		if svc.metadata = meta; warning != "" {
			svc.warn(warning)
		}
	}
	return svc, err
}

// deployServerless deploys the strategy's FaaS jobs and starts a runner for the others. Where plan is not nil it does exactly that or refuses.
func deployServerless(ctx context.Context, spec ServiceSpec, strategy Strategy, cfg ServerlessConfig, o *deployOptions,
	plan *Plan) (_ *Service, err error) {
	led, warning, err := o.lock(ctx, spec.Name, cfg.Provider)
	if err != nil {
		return nil, err
	}
	j := &journal{led: led}
	defer func() {
		if cerr := j.close(); cerr != nil && err == nil {
			o.logger.Warn("the ledger could not be closed", "service", spec.Name, "error", cerr)
		}
	}()
	rec := j.record()
	if led == nil { // a ledger that can be read and not written still tells what exists
		if rec, err = o.read(spec.Name, cfg.Provider); err != nil {
			return nil, stateError{err}
		}
	}
	if err := rec.Settle(ctx); err != nil {
		return nil, err
	}
	p, err := prepare(ctx, spec, strategy, cfg, o, rec)
	if err != nil {
		return nil, err
	}
	defer p.close()
	svc := p.service()
	if warning != "" {
		svc.warn(warning)
	}
	if plan != nil {
		if err := plan.matches(p); err != nil {
			return nil, svc.abandon(ctx, j, err)
		}
	}
	if err := p.apply(ctx, svc, j); err != nil {
		if o.keepSucceeded && len(svc.units) > 0 {
			return svc, err
		}
		return nil, svc.abandon(ctx, j, err)
	}
	return svc, nil
}

// service returns the handle of what is being deployed.
func (p *prepared) service() *Service {
	svc := newService(p.spec, p.strategy, p.opts)
	svc.binary, svc.location, svc.exec = p.binary, p.provider, p.exec
	for _, warning := range p.warnings() {
		svc.warn(warning)
	}
	return svc
}

// apply makes the changes: the runner first, then the functions, then the removal of those that are wanted no more.
func (p *prepared) apply(ctx context.Context, svc *Service, j *journal) error {
	if p.record.Updated.IsZero() { // so that a crash in a first deployment leaves more than units
		if err := j.describe(svc.record(p.given, p.strategy.LocalJobs)); err != nil {
			return err
		}
	}
	if err := j.adopt(p.changes); err != nil {
		return err
	}
	units := make([]faas.Unit, len(p.changes))
	for i, c := range p.changes {
		units[i] = c.Unit
	}
	runner := RunnerSpec{Delegated: runnerConfig(p.spec, p.provider, units), LocalJobs: p.strategy.LocalJobs,
		Previous: p.record.Runner}
	if err := svc.startRunner(ctx, runner, j); err != nil {
		return err
	}
	eng := p.engine(j)
	states, err := eng.Apply(ctx, p.changes)
	if err != nil && !p.opts.keepSucceeded {
		return err
	}
	svc.deployed(p.changes, states)
	if err != nil {
		return err
	}
	rec := svc.record(p.given, p.strategy.LocalJobs)
	rec.Runner = j.record().Runner
	if err := j.describe(rec); err != nil {
		svc.warn(fmt.Sprintf("the functions are deployed, and the ledger could not be told all about the service: %v", err))
	}
	if len(p.stale) > 0 {
		units := staleUnits(p.stale)
		err := eng.Remove(ctx, units)
		if svc.cleared = removedOf(units, err); err != nil {
			svc.warn(fmt.Sprintf("functions that belong to no job any more could not be removed; the next deployment tries "+
				"again: %v", err))
		}
	}
	if p.opts.move {
		removed, err := p.opts.removeElsewhere(ctx, p.spec.Name, p.provider, p.others, p.planned)
		if svc.cleared = append(svc.cleared, removed...); err != nil {
			svc.warn(fmt.Sprintf("what the service had elsewhere could not all be removed; Undeploy or the next deployment "+
				"with WithMove tries again: %v", err))
		}
	}
	return nil
}

// record is what the ledger says of the service beside its units.
func (s *Service) record(given []string, localJobs []uint32) ledger.Record {
	rec := ledger.Record{Provider: s.location, BlueprintID: s.spec.BlueprintID, Given: given, LocalJobs: localJobs}
	if s.binary != nil {
		rec.BinarySHA256 = s.binary.SHA256
	}
	rec.Binary = s.spec.BinaryPath
	if absolute, err := filepath.Abs(rec.Binary); err == nil {
		rec.Binary = absolute // another directory would make another file of a relative path
	}
	return rec
}

func staleUnits(recorded []ledger.Unit) []faas.Unit {
	units := make([]faas.Unit, len(recorded))
	for i, u := range recorded {
		units[i] = faas.Unit{ID: u.ID, Functions: u.Functions}
	}
	return units
}

// runnerConfig is what a runner needs to delegate the units' jobs.
func runnerConfig(spec ServiceSpec, provider faas.Config, units []faas.Unit) faas.RunnerConfig {
	cfg := faas.RunnerConfig{}
	for _, u := range units {
		for _, f := range u.Functions {
			cfg[f.JobID] = faas.RunnerFunction{
				Provider: provider.Provider, FunctionID: u.ID, Endpoint: faas.RedactURL(provider.Endpoint), Service: spec.Name,
				Region: provider.Region, ProjectID: provider.ProjectID, SubscriptionID: provider.SubscriptionID,
				Options: faas.PublicOptions(provider),
			}
		}
	}
	return cfg
}

// startRunner starts the service's runner, unless the program is the runner itself or this machine cannot run the binary and nothing needs it.
func (s *Service) startRunner(ctx context.Context, spec RunnerSpec, j *journal) error {
	if s.opts.noRunner {
		return nil
	}
	if err := s.opts.canReplace(spec.Previous); err != nil {
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
	return s.opts.events.act(PhaseOrchestrator, "start", s.strategy.LocalJobs, func() (err error) {
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

// start starts a runner with the orchestrator. record writes where it is, or that there is none any more.
func (s *Service) start(ctx context.Context, spec RunnerSpec, record func(*RunnerRef) error) (Runner, error) {
	recorded := false
	spec.Service, spec.BlueprintID, spec.Binary, spec.Args, spec.Env, spec.Logger = s.spec.Name, s.spec.BlueprintID,
		s.binary, s.spec.Args, s.env, s.opts.logger
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
		// what is left must still be found
		if leftovers := errors.As(err, &fe) && len(fe.Leftovers) > 0; recorded && !leftovers {
			err = errors.Join(err, record(nil))
		}
		return nil, err
	}
	if _, ok := runner.(Survivor); !ok && spec.Previous != nil { // which the orchestrator has stopped
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

// canReplace returns an error where an earlier deployment's runner still runs and the orchestrator does not know such runners.
func (o *deployOptions) canReplace(previous *RunnerRef) error {
	if _, ok := o.orchestrator.(Attacher); ok || previous == nil {
		return nil
	}
	return faas.Errorf(faas.ErrConflict, "start runner", "",
		"an earlier deployment has left the %s runner %s running, which this orchestrator cannot stop: give the one that "+
			"can with WithOrchestrator, or undeploy first", previous.Kind, previous.ID)
}

// attach finds the runner again that an earlier deployment left running.
func (s *Service) attach(ctx context.Context, ref *RunnerRef) error {
	attacher, ok := s.opts.orchestrator.(Attacher)
	if !ok {
		return s.opts.canReplace(ref)
	}
	runner, err := attacher.Attach(ctx, *ref)
	if err != nil {
		return &faas.Error{Op: "find runner", JobID: faas.NoJob, Code: faas.CodeOf(err), Err: err}
	}
	s.setRunner(runner)
	s.runnerKept = true
	return nil
}

// abandon ends what a failed deployment started on this machine. The engine has undone what it changed at the provider already.
func (s *Service) abandon(ctx context.Context, j *journal, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if survivor, ok := s.getRunner().(Survivor); ok && !s.runnerKept {
		err := survivor.Stop(ctx)
		if err == nil {
			err = j.setRunner(nil)
		}
		s.setRunner(nil)
		if err != nil {
			return left(cause, fmt.Sprintf("the runner %s (%v)", survivor.Ref().ID, err))
		}
	}
	if s.opts.executor != nil {
		s.exec = nil // it may be needed still; see closeGiven
	}
	if err := s.release(ctx, s.opts); err != nil {
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

// deployed takes note of what the engine did. A change without a state failed.
func (s *Service) deployed(changes []engine.Change, states []faas.State) {
	for i, state := range states {
		if state.ID == "" {
			continue
		}
		s.units = append(s.units, changes[i].Unit)
		for _, f := range changes[i].Unit.Functions {
			s.functions.Set(f.JobID, s.exec)
			s.deploys = append(s.deploys, Deployment{
				JobID: f.JobID, Provider: s.location.Provider, FunctionID: changes[i].Unit.ID, Resource: state.Resource,
				Endpoint: state.Endpoint,
				MemoryMB: f.MemoryMB, TimeoutSecs: f.TimeoutSecs, Action: changes[i].Action,
			})
		}
	}
	for _, id := range s.strategy.LocalJobs {
		s.deploys = append(s.deploys, Deployment{JobID: id, Local: true})
	}
	slices.SortFunc(s.deploys, func(a, b Deployment) int { return cmp.Compare(a.JobID, b.JobID) })
}
