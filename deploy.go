package serverless

import (
	"context"
	"fmt"
	"slices"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Deploy is the one call that an embedding program makes: it loads the operator's policy, fetches the blueprint's metadata, analyses its jobs, and
// deploys them: all on FaaS, some of them (the rest is run beside them by the runner), or traditionally.
//
// With serverless off, no job that fits, or a provider that is not linked in, the jobs are run traditionally: by the function given with
// [WithTraditional], else by a supervised local process. The same happens when serverless fails and the policy's fallback_to_vm is true: what was created
// is removed first, and Service.Fallback and Warnings tell why. Without the fallback the error is returned. A policy that cannot be read is
// an error always, and so are a ctx that ends, and a binary that [WithVerifiedBinary] refuses.
func Deploy(ctx context.Context, spec ServiceSpec, opts ...DeployOption) (*Service, error) {
	o := newDeployOptions(opts)
	if err := spec.validate(); err != nil {
		return nil, err
	}
	policy, err := o.loadPolicy()
	if err != nil {
		return nil, err
	}
	settings := policy.Serverless

	meta, err := o.fetchMetadata(ctx, spec)
	if err != nil {
		if ctx.Err() != nil || o.verify || (settings.Enable && !settings.FallbackToVM) {
			return nil, err
		}
		var why error
		if settings.Enable {
			why = err
		}
		return o.runTraditional(ctx, spec, nil, nil, why, fmt.Sprintf("the blueprint's metadata could not be read, so the jobs are run traditionally: %v", err))
	}
	unverified := ""
	if o.verify {
		check, err := VerifyBinary(meta, spec.BinaryPath)
		if err == nil {
			err = check.Err()
		}
		if err != nil {
			return nil, err
		}
		if check.Verdict == BinaryUnpublished {
			unverified = "the binary was not verified: " + check.Why
		}
	}
	svc, err := o.deployAnalysed(ctx, spec, settings, meta)
	if err == nil && unverified != "" {
		svc.warn(unverified)
	}
	return svc, err
}

// deployAnalysed analyses the metadata, and deploys as the analysis recommends.
func (o *deployOptions) deployAnalysed(ctx context.Context, spec ServiceSpec, settings ServerlessSettings, meta *Metadata) (*Service, error) {
	var analysis *Analysis
	err := o.events.phase(PhaseAnalysis, nil, func() (err error) {
		analysis, err = AnalyzeFor(meta, settings.Provider.Type, settings.Enable)
		return err
	})
	if err != nil {
		return nil, err
	}
	if analysis.Strategy.Kind == StrategyTraditional {
		return o.runTraditional(ctx, spec, meta, analysis, nil, "")
	}

	cfg := settings.Config()
	cfg.Jobs = map[uint32]JobNeeds{}
	for _, job := range analysis.Jobs {
		if job.Needs != nil {
			cfg.Jobs[job.JobID] = *job.Needs
		}
	}
	svc, err := deployServerless(ctx, spec, analysis.Strategy, cfg, o)
	if err == nil {
		svc.metadata, svc.analysis = meta, analysis
		return svc, nil
	}
	if ctx.Err() != nil || !settings.FallbackToVM {
		return nil, err
	}
	return o.runTraditional(ctx, spec, meta, analysis, err, fmt.Sprintf("serverless failed, so the jobs are run traditionally (the policy's fallback_to_vm): %v", err))
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
	err = o.events.phase(PhaseMetadata, nil, func() (err error) {
		fetch := append([]FetchOption{WithBinary(spec.BinaryPath), WithFetchLogger(o.logger)}, o.fetch...)
		meta, err = FetchMetadata(ctx, spec.BlueprintID, fetch...)
		return err
	})
	return meta, err
}

// runTraditional runs all jobs beside FaaS. why is set where serverless was wanted and failed; warning, where not empty, is passed on.
func (o *deployOptions) runTraditional(ctx context.Context, spec ServiceSpec, meta *Metadata, analysis *Analysis, why error, warning string) (*Service, error) {
	svc := &Service{spec: spec, opts: o, metadata: meta, analysis: analysis, fallback: why, anyLocal: meta == nil}
	svc.strategy = Strategy{Kind: StrategyTraditional, FaaSJobs: []uint32{}, LocalJobs: []uint32{}}
	sizing := Sizing{MemoryMB: 512, CPUCores: 1}
	var jobIDs []uint32
	if analysis != nil {
		sizing = analysis.Sizing
		jobIDs = append([]uint32{}, analysis.Strategy.FaaSJobs...)
		jobIDs = append(jobIDs, analysis.Strategy.LocalJobs...)
		slices.Sort(jobIDs)
		svc.strategy.LocalJobs = jobIDs
	}
	if warning != "" {
		svc.warn(warning)
	}
	phase := PhaseOrchestrator
	if why != nil {
		phase = PhaseFallback
	}
	err := o.events.phase(phase, jobIDs, func() (err error) {
		svc.runner, err = o.traditional(ctx, spec, jobIDs, sizing)
		return err
	})
	if err != nil {
		failed := &faas.Error{Op: "run traditionally", JobID: faas.NoJob, Code: faas.CodeOf(err), Err: err}
		if why != nil {
			failed.Err = fmt.Errorf("%w; this was the fallback after: %w", err, why)
		}
		return nil, failed
	}
	svc.deployed(nil, nil)
	return svc, nil
}
