package serverless

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
)

// cleanupTimeout bounds the stopping of a runner after a failed deployment.
const cleanupTimeout = 30 * time.Second

// DeployServerless deploys the jobs as functions with cfg's provider, and starts the blueprint's binary as their runner. It makes no decision
// of its own: [Deploy] is the call that reads the policy, analyses the jobs and routes.
//
// Everything that can be refused is refused before the first change. What exists already is kept where code and configuration agree, and updated
// where they do not. If anything fails or ctx ends, what this call created is removed, what it updated is put back where the
// provider can, and the error (a *faas.Error) lists what was left behind. The caller owns the service and ends it with Undeploy or Close.
func DeployServerless(ctx context.Context, spec ServiceSpec, jobIDs []uint32, cfg ServerlessConfig, opts ...DeployOption) (*Service, error) {
	jobs := slices.Compact(slices.Sorted(slices.Values(jobIDs)))
	return deployServerless(ctx, spec, Strategy{Kind: StrategyServerless, FaaSJobs: jobs, LocalJobs: []uint32{}}, cfg, newDeployOptions(opts))
}

// deployServerless deploys the strategy's FaaS jobs and starts a runner for the others.
func deployServerless(ctx context.Context, spec ServiceSpec, strategy Strategy, cfg ServerlessConfig, o *deployOptions) (_ *Service, err error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	functions, err := wantedFunctions(spec, strategy.FaaSJobs, cfg)
	if err != nil {
		return nil, err
	}
	svc := &Service{spec: spec, strategy: strategy, opts: o}
	defer func() {
		if err != nil {
			err = svc.abandon(ctx, err)
		}
	}()

	var units []faas.Unit
	dir, err := os.MkdirTemp("", "blueprint-package-")
	if err != nil {
		return nil, faas.Errorf(faas.ErrInternal, "package", cfg.Provider.Provider, "%w", err)
	}
	defer os.RemoveAll(dir) // a leftover temporary directory does no harm
	err = o.events.phase(PhasePackage, strategy.FaaSJobs, func() error {
		if svc.binary, err = faas.InspectBinary(spec.BinaryPath); err != nil {
			return err
		}
		if svc.exec = o.executor; svc.exec == nil {
			provider := cfg.Provider
			provider.Service = spec.Name
			if provider.Logger == nil {
				provider.Logger = o.logger
			}
			if svc.exec, err = faas.Open(ctx, provider); err != nil {
				return err
			}
		}
		if units, err = svc.exec.Units(svc.binary, functions); err != nil {
			return err
		}
		return packageUnits(ctx, dir, units)
	})
	if err != nil {
		return nil, err
	}

	info, _ := faas.Provider(cfg.Provider.Provider)
	svc.provider, svc.units = cfg.Provider.Provider, units
	svc.engine = engine.New(svc.exec, svc.provider, info.MaxParallel, o.events.step)
	changes, err := svc.engine.Observe(ctx, units)
	if err != nil {
		return nil, err
	}
	if err := svc.startRunner(ctx, runnerConfig(spec, cfg.Provider, units)); err != nil {
		return nil, err
	}
	states, err := svc.engine.Apply(ctx, changes)
	if err != nil {
		return nil, err
	}
	svc.deployed(changes, states)
	return svc, nil
}

// wantedFunctions makes the functions, and refuses settings that the provider's limits do not allow.
func wantedFunctions(spec ServiceSpec, jobIDs []uint32, cfg ServerlessConfig) ([]faas.Function, error) {
	provider := cfg.Provider.Provider
	if len(jobIDs) == 0 {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "deploy", provider, "no job ids: there is nothing to deploy")
	}
	limits, known := faas.ProviderLimits(provider)
	sizes, _ := faas.ProviderMemorySizes(provider)
	defaults := DefaultPolicy().Serverless
	functions := make([]faas.Function, len(jobIDs))
	for i, id := range jobIDs {
		needs := cfg.Jobs[id]
		f := faas.Function{
			JobID:          id,
			MemoryMB:       max(cmp.Or(cfg.DefaultMemoryMB, defaults.DefaultMemoryMB), needs.MemoryMB),
			TimeoutSecs:    max(cmp.Or(cfg.DefaultTimeoutSecs, defaults.DefaultTimeoutSecs), needs.TimeoutSecs),
			MaxConcurrency: cfg.MaxConcurrency,
			Env:            maps.Clone(spec.Env),
		}
		if known {
			f.MemoryMB = sizes.RoundUp(f.MemoryMB)
			switch {
			case f.MemoryMB > limits.MaxMemoryMB:
				return nil, faas.JobErrorf(faas.ErrInvalidArgument, "deploy", provider, id, "memory of %d MB is above the provider's limit of %d MB", f.MemoryMB, limits.MaxMemoryMB)
			case f.TimeoutSecs > limits.MaxTimeoutSecs:
				return nil, faas.JobErrorf(faas.ErrInvalidArgument, "deploy", provider, id, "timeout of %d s is above the provider's limit of %d s", f.TimeoutSecs, limits.MaxTimeoutSecs)
			}
		}
		functions[i] = f
	}
	return functions, nil
}

// packageUnits builds the units' packages: one for all units that hold the same files.
func packageUnits(ctx context.Context, dir string, units []faas.Unit) error {
	for i := range units {
		for j := range i {
			if reflect.DeepEqual(units[i].Files, units[j].Files) {
				units[i].Package = units[j].Package
				break
			}
		}
		if units[i].Package != nil {
			continue
		}
		pkg, err := faas.BuildPackage(ctx, dir, units[i].Files)
		if err != nil {
			return err
		}
		units[i].Package = pkg
	}
	return nil
}

// runnerConfig is what a runner needs to delegate the units' jobs.
func runnerConfig(spec ServiceSpec, provider faas.Config, units []faas.Unit) faas.RunnerConfig {
	cfg := faas.RunnerConfig{}
	for _, u := range units {
		for _, f := range u.Functions {
			cfg[f.JobID] = faas.RunnerFunction{
				Provider: provider.Provider, FunctionID: u.ID, Endpoint: faas.RedactURL(provider.Endpoint), Service: spec.Name,
				Region: provider.Region, ProjectID: provider.ProjectID, SubscriptionID: provider.SubscriptionID,
			}
		}
	}
	return cfg
}

// startRunner starts the service's runner, unless the program is the runner itself or this machine cannot run the binary and nothing needs it.
func (s *Service) startRunner(ctx context.Context, delegated faas.RunnerConfig) error {
	if s.opts.noRunner {
		return nil
	}
	if _, local := s.opts.orchestrator.(*LocalOrchestrator); local {
		if why := cannotRunHere(s.binary); why != "" {
			if len(s.strategy.LocalJobs) > 0 {
				return faas.Errorf(faas.ErrUnsupported, "start runner", "", "jobs %v do not run on FaaS, and %s: deploy from a machine that can run it, or give an orchestrator that runs it elsewhere", s.strategy.LocalJobs, why)
			}
			s.warn("no runner is started: " + why)
			return nil
		}
	}
	return s.opts.events.phase(PhaseOrchestrator, s.strategy.LocalJobs, func() error {
		runner, err := s.opts.orchestrator.Start(ctx, RunnerSpec{
			Service: s.spec.Name, BlueprintID: s.spec.BlueprintID, Binary: s.binary, Args: s.spec.Args, Env: s.spec.Env,
			Delegated: delegated, LocalJobs: s.strategy.LocalJobs, Logger: s.opts.logger,
		})
		if err == nil && runner == nil {
			err = errors.New("the orchestrator returned neither a runner nor an error")
		}
		if err != nil {
			return &faas.Error{Op: "start runner", JobID: faas.NoJob, Code: faas.CodeOf(err), Err: err}
		}
		s.runner = runner
		return nil
	})
}

// abandon ends what a failed deployment started on this machine. The engine has undone what it changed at the provider already.
func (s *Service) abandon(ctx context.Context, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if err := s.release(ctx); err != nil {
		var fe *faas.Error
		if errors.As(cause, &fe) {
			withMore := *fe
			withMore.Leftovers = append(slices.Clone(fe.Leftovers), fmt.Sprintf("the runner or a connection (%v)", err))
			return &withMore
		}
		return errors.Join(cause, err)
	}
	return cause
}
