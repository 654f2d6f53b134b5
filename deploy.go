package serverless

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// Deploy is the one call that an embedding program makes: it loads the operator's policy, fetches the blueprint's metadata, analyses its jobs, and
// deploys them: all on FaaS, some of them (the rest is run beside them by the runner), or traditionally.
//
// With serverless off, no job that fits, or a provider that is not linked in, the jobs are run traditionally: by the function given with
// [WithTraditional], else by a supervised local process. The same happens when serverless fails and the policy's fallback_to_vm is true: what was created
// is removed first, and Service.Fallback and Warnings tell why. Without the fallback the error is returned. A policy that cannot be read is
// an error always, and so are a ctx that ends, a binary that [WithVerifiedBinary] refuses, and a ledger that is damaged or in use.
func Deploy(ctx context.Context, spec ServiceSpec, opts ...DeployOption) (svc *Service, err error) {
	o := newDeployOptions(opts)
	defer o.events.flush()
	defer func() { err = o.closeGiven(svc, err) }()
	d, err := o.decide(ctx, spec)
	if err != nil {
		return nil, err
	}
	if d.strategy.Kind == StrategyTraditional {
		return o.runTraditional(ctx, spec, d, nil)
	}
	svc, err = deployServerless(ctx, spec, d.strategy, d.config(), o, nil)
	if svc != nil { // with an error where what succeeded is kept
		svc.describe(d)
		return svc, err
	}
	var state stateError
	if errors.As(err, &state) || ctx.Err() != nil || !d.settings.FallbackToVM {
		return nil, err
	}
	d.fallBack(err, "serverless failed, so the jobs are run traditionally (the policy's fallback_to_vm)")
	return o.runTraditional(ctx, spec, d, nil)
}

// describe takes note of what the service was decided from.
func (s *Service) describe(d *decision) {
	s.metadata, s.analysis = d.meta, d.analysis
	for _, warning := range d.warnings {
		s.warn(warning)
	}
}

// decision is what the policy and the blueprint's metadata lead to.
type decision struct {
	settings ServerlessSettings
	meta     *Metadata // nil where it could not be read
	analysis *Analysis // nil where meta is
	strategy Strategy
	why      error // why the strategy is traditional although serverless was wanted
	warnings []string
}

// config is what the policy and the analysis ask for.
func (d *decision) config() ServerlessConfig {
	cfg := d.settings.Config()
	cfg.Provider = faas.Resolve(cfg.Provider)
	cfg.Jobs = map[uint32]JobNeeds{}
	if d.analysis != nil {
		for _, job := range d.analysis.Jobs {
			if job.Needs != nil {
				cfg.Jobs[job.JobID] = *job.Needs
			}
		}
	}
	return cfg
}

// fallBack turns the decision into a traditional one.
func (d *decision) fallBack(why error, warning string) {
	d.why = why
	d.warnings = append(d.warnings, fmt.Sprintf("%s: %v", warning, why))
	jobs := append([]uint32{}, d.strategy.FaaSJobs...)
	jobs = append(jobs, d.strategy.LocalJobs...)
	slices.Sort(jobs)
	d.strategy = Strategy{Kind: StrategyTraditional, FaaSJobs: []uint32{}, LocalJobs: jobs}
}

// decide makes every decision of a deployment. It changes nothing.
func (o *deployOptions) decide(ctx context.Context, spec ServiceSpec) (*decision, error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	policy, err := o.loadPolicy()
	if err != nil {
		return nil, err
	}
	d := &decision{settings: policy.Serverless}
	if d.meta, err = o.fetchMetadata(ctx, spec); err != nil {
		if ctx.Err() != nil || o.verify || (d.settings.Enable && !d.settings.FallbackToVM) {
			return nil, err
		}
		d.fallBack(err, "the blueprint's metadata could not be read, so the jobs are run traditionally")
		if !d.settings.Enable {
			d.why = nil // traditional is what was wanted
		}
		return d, nil
	}
	warning, err := o.verifyBinary(d.meta, spec)
	if err != nil {
		return nil, err
	}
	if warning != "" {
		d.warnings = append(d.warnings, warning)
	}
	err = o.events.phase(PhaseAnalysis, nil, func() (err error) {
		d.analysis, err = AnalyzeFor(d.meta, d.settings.Provider.Type, d.settings.Enable)
		return err
	})
	if err != nil {
		return nil, err
	}
	d.strategy = d.analysis.Strategy
	d.warnings = append(d.warnings, d.meta.Warnings...) // made-up metadata, or profiles of another build
	if d.settings.Enable {
		d.warnings = append(d.warnings, settingsWarnings(d.config(), d.strategy)...)
	}
	return d, nil
}

// verifyBinary is what WithVerifiedBinary asks for. The warning says that there was nothing to compare the binary with.
func (o *deployOptions) verifyBinary(meta *Metadata, spec ServiceSpec) (warning string, err error) {
	if !o.verify {
		return "", nil
	}
	check, err := VerifyBinary(meta, spec.BinaryPath)
	if err == nil {
		err = check.Err()
	}
	if err != nil {
		return "", err
	}
	o.verified = check.SHA256
	if check.Verdict == BinaryUnpublished {
		warning = "the binary was not verified: " + check.Why
	}
	return warning, nil
}

func (o *deployOptions) loadPolicy() (policy *Policy, err error) {
	if o.policy != nil {
		return o.policy, o.policy.Validate()
	}
	err = o.events.phase(PhasePolicy, nil, func() (err error) {
		policy, err = LoadPolicy()
		return err
	})
	return policy, err
}

func (o *deployOptions) fetchMetadata(ctx context.Context, spec ServiceSpec) (meta *Metadata, err error) {
	if o.metadata != nil {
		return o.metadata, nil
	}
	o.fetched = true
	err = o.events.phase(PhaseMetadata, nil, func() (err error) {
		fetch := append([]FetchOption{WithBinary(spec.BinaryPath), WithFetchLogger(o.logger)}, o.fetch...)
		meta, err = FetchMetadata(ctx, spec.BlueprintID, fetch...)
		return err
	})
	return meta, err
}

// runTraditional runs all jobs beside FaaS, and removes what earlier deployments have there, in every
// place. Where plan is not nil it removes exactly what that says, or refuses.
func (o *deployOptions) runTraditional(ctx context.Context, spec ServiceSpec, d *decision, plan *Plan) (*Service,
	error) {
	here := d.config().Provider
	rec, elsewhere, err := o.records(spec.Name, here)
	if err != nil {
		return nil, err
	}
	last := lastGiven(rec, elsewhere)
	given := o.given(spec, here, last)
	if err := o.checkGiven(spec.Name, given, last); err != nil {
		return nil, err
	}
	var planned map[string][]string
	if plan != nil {
		if planned, err = plan.removals(here, append([]ledger.Record{rec}, elsewhere...)); err != nil {
			return nil, err
		}
	}
	svc := newService(spec, d.strategy, o)
	svc.metadata, svc.analysis, svc.fallback, svc.anyLocal = d.meta, d.analysis, d.why, d.meta == nil
	svc.location, svc.exec = here, o.executor
	for _, warning := range d.warnings {
		svc.warn(warning)
	}
	sizing := Sizing{MemoryMB: 512, CPUCores: 1}
	var jobIDs []uint32
	if d.analysis != nil {
		sizing, jobIDs = d.analysis.Sizing, d.strategy.LocalJobs
	}
	phase := PhaseOrchestrator
	if d.why != nil {
		phase = PhaseFallback
	}
	err = o.events.act(phase, "start", jobIDs, func() error {
		runner, err := o.runAll(ctx, svc, spec, jobIDs, sizing, rec, given)
		if err == nil && runner == nil {
			err = errors.New("the traditional hook returned neither a runner nor an error")
		}
		svc.setRunner(runner)
		return err
	})
	if err != nil {
		if d.why != nil {
			return nil, fallbackFailed(d.why, err)
		}
		return nil, &faas.Error{Op: "run traditionally", JobID: faas.NoJob, Code: faas.CodeOf(err), Err: err}
	}
	svc.deployed(nil, nil)
	if d.why != nil {
		return svc, nil // an earlier deployment's functions, which still work, are not taken down by a failure
	}
	at := &place{opts: o, service: spec.Name, config: here, exec: svc.exec}
	if plan != nil {
		at.planned = append([]string{}, planned[ledger.Location(here)]...)
	}
	err = at.clear(ctx)
	removed, elseErr := o.removeElsewhere(ctx, spec.Name, here, elsewhere, planned)
	svc.cleared = slices.Concat(at.removed, removed)
	err = errors.Join(err, elseErr)
	switch {
	case err != nil && plan != nil && faas.CodeOf(err) == faas.ErrConflict:
		led, _, lockErr := o.lock(ctx, spec.Name, here)
		if lockErr != nil {
			return nil, errors.Join(err, lockErr, svc.stopRunner(ctx, o))
		}
		j := &journal{led: led}
		return nil, errors.Join(svc.abandon(ctx, j, err), j.close())
	case err != nil:
		svc.warn(fmt.Sprintf("functions of an earlier deployment could not be removed; Undeploy or the next deployment "+
			"tries again: %v", err))
	}
	return svc, nil
}

// fallbackFailed returns the error of a deployment that failed by cause and whose fallback failed by err. It has
// the code, the text and the fields of the cause, as only that can be put right.
func fallbackFailed(cause, err error) error {
	failed := faas.Error{Op: "deploy", JobID: faas.NoJob, Code: faas.CodeOf(cause), Err: cause}
	if fe, ok := cause.(*faas.Error); ok && fe.Err != nil {
		failed = *fe
	}
	var fe *faas.Error
	if errors.As(err, &fe) {
		failed.Leftovers = slices.Concat(failed.Leftovers, fe.Leftovers)
	}
	failed.Err = fmt.Errorf("%w; and the jobs cannot be run traditionally instead (fallback_to_vm): %w", failed.Err, err)
	return &failed
}

// records returns what the ledgers say of the service at a place, and of its other places.
func (o *deployOptions) records(service string, here faas.Config) (ledger.Record, []ledger.Record, error) {
	rec, err := o.read(service, here)
	if err != nil {
		return ledger.Record{}, nil, stateError{err}
	}
	elsewhere, err := o.elsewhere(service, here)
	if err != nil {
		return ledger.Record{}, nil, stateError{err}
	}
	return rec, elsewhere, nil
}

// runAll runs all jobs beside FaaS, where the embedding program says or with the orchestrator.
func (o *deployOptions) runAll(ctx context.Context, svc *Service, spec ServiceSpec, jobIDs []uint32, sizing Sizing,
	rec ledger.Record, given []string) (_ Runner, err error) {
	if o.traditional != nil {
		return o.traditional(ctx, spec, jobIDs, sizing)
	}
	if o.noRunner {
		return absentRunner{}, nil
	}
	if svc.binary, err = o.inspect(spec.BinaryPath); err != nil {
		return nil, err
	}
	if err := o.canReplace(rec.Runner); err != nil {
		return nil, err
	}
	runner := RunnerSpec{Delegated: faas.RunnerConfig{}, LocalJobs: jobIDs, Previous: rec.Runner}
	return svc.start(ctx, runner, func(ref *RunnerRef) (err error) {
		led, _, err := o.lock(ctx, svc.spec.Name, svc.location)
		if err != nil {
			return err
		}
		j := &journal{led: led}
		defer func() { err = errors.Join(err, j.close()) }()
		if err := j.describe(svc.record(given, jobIDs)); err != nil {
			return err
		}
		return j.setRunner(ref)
	})
}

// inspect is faas.InspectBinary for a file that must still be the one that was verified.
func (o *deployOptions) inspect(path string) (*faas.Binary, error) {
	bin, err := faas.InspectBinary(path)
	if err == nil && o.verified != "" && bin.SHA256 != o.verified {
		return nil, changedFile(path)
	}
	return bin, err
}
