package serverless

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// order is one deployment to be made: what the caller asks for, and what was decided.
type order struct {
	spec   ServiceSpec
	opts   deployOptions
	events *emitter

	strategy     Strategy
	cfg          ServerlessConfig
	fallback     bool      // the jobs may run traditionally if serverless fails
	meta         *Metadata // nil if it could not be read, or was not needed
	analysis     *Analysis // nil if meta is
	fetched      bool      // meta was, or would have been, fetched with opts.fetch
	binarySHA256 string    // what the binary must be; empty: anything
	why          error     // why the strategy is traditional although serverless was wanted
	warnings     []string
}

// newOrder returns an order that is not decided yet, with the events of a new operation.
func newOrder(spec ServiceSpec, opts []DeployOption) *order {
	if spec.ServiceID != nil && spec.Args == nil {
		spec.Args = []string{"run"}
	}
	o := &order{spec: spec, opts: newDeployOptions(opts)}
	o.events = newEmitter(o.opts.onEvent)
	return o
}

// here is the place that the order is for.
func (o *order) here() *place {
	return &place{service: o.spec.Name, config: o.cfg.Provider, exec: o.opts.executor, opts: o.opts.serviceOptions,
		events: o.events}
}

// validate refuses a spec that cannot be deployed, and options that contradict each other.
func (o *order) validate() error {
	if o.opts.metadata != nil && len(o.opts.fetch) > 0 && o.spec.ServiceID == nil {
		return faas.Errorf(faas.ErrInvalidArgument, "deploy", "", "WithFetch has no effect on the metadata of WithMetadata: "+
			"give one of them")
	}
	return o.spec.validate()
}

// decide makes every decision of Deploy. It changes nothing outside the order.
func (o *order) decide(ctx context.Context) error {
	if err := o.validate(); err != nil {
		return err
	}
	policy, err := o.loadPolicy()
	if err != nil {
		return err
	}
	settings := policy.Serverless
	o.cfg, o.fallback = settings.Config(), settings.FallbackToVM
	o.cfg.Provider, o.cfg.Jobs = faas.Resolve(o.cfg.Provider), map[uint32]JobNeeds{}
	if err := o.fetch(ctx); err != nil {
		if ctx.Err() != nil || o.opts.verify || (settings.Enable && !settings.FallbackToVM) {
			return err
		}
		o.fallBack(err, "the blueprint's metadata could not be read, so the jobs run traditionally")
		if !settings.Enable {
			o.why = nil // traditional is what was wanted
		}
		return nil
	}
	if err := o.verify(); err != nil {
		return err
	}
	err = o.events.phase(PhaseAnalysis, nil, func() (err error) {
		o.analysis, err = AnalyzeFor(o.meta, settings.Provider.Type, settings.Enable)
		return err
	})
	if err != nil {
		return err
	}
	for _, job := range o.analysis.Jobs {
		if job.Needs != nil {
			o.cfg.Jobs[job.JobID] = *job.Needs
		}
	}
	o.strategy = o.analysis.Strategy
	o.warnings = append(o.warnings, o.meta.Warnings...) // mock metadata, or profiles of another build
	if settings.Enable {
		o.warnings = append(o.warnings, settingsWarnings(o.cfg, o.strategy)...)
	}
	return nil
}

func (o *order) loadPolicy() (policy *Policy, err error) {
	if o.opts.policy != nil {
		return o.opts.policy, o.opts.policy.Validate()
	}
	err = o.events.phase(PhasePolicy, nil, func() (err error) {
		policy, err = LoadPolicy()
		return err
	})
	return policy, err
}

// fetch gets the metadata.
func (o *order) fetch(ctx context.Context) error {
	if o.opts.metadata != nil {
		o.meta = o.opts.metadata
		return nil
	}
	o.fetched = true
	return o.events.phase(PhaseMetadata, nil, func() (err error) {
		opts := append([]FetchOption{WithBinary(o.spec.BinaryPath), WithLogger(o.opts.logger)}, o.opts.fetch...)
		o.meta, err = FetchMetadata(ctx, o.spec.BlueprintID, opts...)
		return err
	})
}

// runner returns what the runner gets. here and others are what the ledgers say. binary is nil if
// it could not be read.
func (o *order) runner(binary *faas.Binary, here ledger.Record, others []ledger.Record) (runnerSettings, error) {
	last, latest := here.Chain, time.Time{}
	for _, r := range others {
		if here.Chain == nil && r.Chain != nil && r.Updated.After(latest) {
			last, latest = r.Chain, r.Updated
		}
	}
	return newRunnerSettings(o.spec, o.meta, o.opts.fetch, binary, last, o.opts.serviceOptions)
}

// verify does what WithVerifiedBinary asks for.
func (o *order) verify() error {
	if !o.opts.verify {
		return nil
	}
	check, err := VerifyBinary(o.meta, o.spec.BinaryPath)
	if err == nil {
		err = check.Err()
	}
	if err != nil {
		return err
	}
	o.binarySHA256 = check.SHA256
	if check.Verdict == BinaryUnpublished {
		o.warnings = append(o.warnings, "the binary was not verified: "+check.Why)
	}
	return nil
}

// fallBack makes the order a traditional one.
func (o *order) fallBack(why error, warning string) {
	o.why = why
	o.warnings = append(o.warnings, fmt.Sprintf("%s: %v", warning, why))
	jobs := append([]uint32{}, o.strategy.FaaSJobs...)
	jobs = append(jobs, o.strategy.LocalJobs...)
	slices.Sort(jobs)
	o.strategy = Strategy{Kind: StrategyTraditional, FaaSJobs: []uint32{}, LocalJobs: jobs}
}

// inspect is faas.InspectBinary for a file that must still be the one that was verified.
func (o *order) inspect() (*faas.Binary, error) {
	bin, err := faas.InspectBinary(o.spec.BinaryPath)
	if err == nil && o.binarySHA256 != "" && bin.SHA256 != o.binarySHA256 {
		return nil, faas.Errorf(faas.ErrConflict, "package", "",
			"%s was changed while it was being deployed: deploy again when it is whole", o.spec.BinaryPath)
	}
	return bin, err
}
