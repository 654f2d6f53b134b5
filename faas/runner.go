package faas

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// RunnerConfigEnv is the environment variable that names the jobs a service's runner delegates.
// Its value is a [RunnerConfig] as JSON.
const RunnerConfigEnv = "BLUEPRINT_FAAS_CONFIG"

// RunnerConfig maps the jobs that a runner delegates to their functions. Its JSON is an object
// whose member names are job ids. It holds no credential; executors find credentials in their
// environment.
type RunnerConfig map[uint32]RunnerFunction

// RunnerFunction says where the function of one job is.
type RunnerFunction struct {
	Provider       string `json:"provider"`
	FunctionID     string `json:"function_id"`
	Endpoint       string `json:"endpoint,omitempty"`
	Service        string `json:"service,omitempty"`
	Region         string `json:"region,omitempty"`
	ProjectID      string `json:"project_id,omitempty"`
	SubscriptionID string `json:"subscription_id,omitempty"`
	// Options are the provider's options that are not sensitive, as they were when the function was
	// deployed.
	Options map[string]string `json:"options,omitempty"`
}

// PublicOptions returns the options of cfg that are not sensitive. It leaves out all options of a
// provider that is not linked, since it does not know them.
func PublicOptions(cfg Config) map[string]string {
	p, _ := lookup(cfg.Provider)
	public := map[string]string{}
	for _, o := range p.Options {
		if value, ok := cfg.Options[o.Name]; ok && !o.Sensitive {
			public[o.Name] = value
		}
	}
	if len(public) == 0 {
		return nil
	}
	return public
}

// ParseRunnerConfig reads the value of BLUEPRINT_FAAS_CONFIG. The empty string is an empty
// configuration.
func ParseRunnerConfig(text string) (RunnerConfig, error) {
	cfg := RunnerConfig{}
	if text == "" {
		return cfg, nil
	}
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return nil, Errorf(ErrInvalidArgument, "read "+RunnerConfigEnv, "", "not a JSON object of job id to function: %w",
			err)
	}
	for _, jobID := range slices.Sorted(maps.Keys(cfg)) {
		if cfg[jobID].Provider == "" {
			return nil, JobErrorf(ErrInvalidArgument, "read "+RunnerConfigEnv, "", jobID, "provider is missing")
		}
	}
	if cfg == nil { // the text is "null"
		cfg = RunnerConfig{}
	}
	return cfg, nil
}

// Registry maps job ids to invokers, for runners that delegate some of their jobs. The zero value
// is an empty registry. A Registry is safe for concurrent use.
type Registry struct {
	mu   sync.RWMutex
	jobs map[uint32]Invoker
}

// Set makes inv the invoker of the job and replaces any earlier one. A nil inv removes the job.
func (r *Registry) Set(jobID uint32, inv Invoker) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if inv == nil {
		delete(r.jobs, jobID)
		return
	}
	if r.jobs == nil {
		r.jobs = map[uint32]Invoker{}
	}
	r.jobs[jobID] = inv
}

// Lookup returns the invoker of the job, and whether there is one.
func (r *Registry) Lookup(jobID uint32) (Invoker, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	inv, ok := r.jobs[jobID]
	return inv, ok
}

// Jobs returns the ids of the jobs that have an invoker, ascending.
func (r *Registry) Jobs() []uint32 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.jobs))
}

// Invoke runs the job through its invoker. A job without one is an ErrNotFound with NotRun set.
func (r *Registry) Invoke(ctx context.Context, jobID uint32, args []byte) (*Result, error) {
	inv, ok := r.Lookup(jobID)
	if !ok {
		err := JobErrorf(ErrNotFound, "invoke", "", jobID, "no function is registered for this job (registered: %v)",
			r.Jobs())
		err.NotRun = true
		return nil, err
	}
	return inv.Invoke(ctx, jobID, args)
}

// OpenRegistry opens an executor for every provider and service that cfg names. It returns a
// registry of all jobs in cfg, and a function that closes the executors. The providers must be
// linked. The options of each executor are those of the RunnerFunction, overridden by
// options[provider], which is where credentials come from.
func OpenRegistry(ctx context.Context, cfg RunnerConfig, options map[string]map[string]string) (*Registry,
	func() error, error) {
	opened := map[string]Executor{} // by what they were opened with
	closeAll := func() error {
		var errs []error
		for _, exec := range opened {
			errs = append(errs, exec.Close())
		}
		return errors.Join(errs...)
	}
	reg := &Registry{}
	for _, jobID := range slices.Sorted(maps.Keys(cfg)) {
		f := cfg[jobID]
		cfg := Config{
			Provider: f.Provider, Service: f.Service, Region: f.Region, ProjectID: f.ProjectID, SubscriptionID: f.SubscriptionID,
			Endpoint: f.Endpoint, Options: CurrentOptions(f.Provider, f.Options),
		}
		if cfg.Options == nil {
			cfg.Options = map[string]string{}
		}
		maps.Copy(cfg.Options, options[f.Provider])
		target := fmt.Sprintf("%q", []any{cfg.Provider, cfg.Service, cfg.Region, cfg.ProjectID, cfg.SubscriptionID,
			cfg.Endpoint, cfg.Options})
		exec, ok := opened[target]
		if !ok {
			var err error
			exec, err = Open(ctx, cfg)
			if err != nil {
				if cerr := closeAll(); cerr != nil {
					err = fmt.Errorf("%w (and closing the others: %w)", err, cerr)
				}
				return nil, nil, err
			}
			opened[target] = exec
		}
		reg.Set(jobID, exec)
	}
	return reg, closeAll, nil
}
