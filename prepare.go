package serverless

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
	"github.com/tangle-network/blueprint-serverless/internal/scratch"
)

// prepared is a serverless deployment up to its first change: everything is known, checked and packaged, and nothing was changed.
type prepared struct {
	spec     ServiceSpec
	strategy Strategy
	provider faas.Config
	opts     *deployOptions
	binary   *faas.Binary
	exec     faas.Executor
	dir      *scratch.Dir // of the packages
	changes  []engine.Change
	stale    []ledger.Unit // recorded, and wanted no more
	record   ledger.Record
	unknown  []string            // units that carry the service's tags, that no ledger records, and that are not wanted
	adopted  []string            // units that exist and are wanted, and that no ledger records
	unlisted error               // why what no ledger records could not be listed
	others   []ledger.Record     // what the service has in other places
	given    []string            // see deployOptions.given
	planned  map[string][]string // see deployOptions.removeElsewhere
}

// prepare opens the provider, checks and packages, and observes what exists. rec is what the ledger says. The result must be closed, on success too;
// closing leaves the executor open, which on success is the caller's.
func prepare(ctx context.Context, spec ServiceSpec, strategy Strategy, cfg ServerlessConfig, o *deployOptions,
	rec ledger.Record) (_ *prepared, err error) {
	functions, err := wantedFunctions(spec, strategy.FaaSJobs, cfg)
	if err != nil {
		return nil, err
	}
	p := &prepared{spec: spec, strategy: strategy, provider: cfg.Provider, opts: o, record: rec}
	if p.others, err = o.elsewhere(spec.Name, cfg.Provider); err != nil {
		return nil, stateError{err}
	}
	last := lastGiven(rec, p.others)
	p.given = o.given(spec, cfg.Provider, last)
	if err := o.checkGiven(spec.Name, p.given, last); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.close()
			if p.exec != nil && o.executor == nil {
				_ = p.exec.Close() // the first error counts
			}
		}
	}()
	var units []faas.Unit
	err = o.events.phase(PhasePackage, strategy.FaaSJobs, func() error {
		if p.binary, err = o.inspect(spec.BinaryPath); err != nil {
			return err
		}
		if p.exec, err = o.open(ctx, spec.Name, cfg.Provider); err != nil {
			return err
		}
		if units, err = p.exec.Units(p.binary, functions); err != nil {
			return err
		}
		if p.dir, err = scratch.New("blueprint-package", nil); err != nil {
			return faas.Errorf(faas.ErrInternal, "package", cfg.Provider.Provider, "%w", err)
		}
		return packageUnits(ctx, p.dir.Path(), p.binary, units)
	})
	if err != nil {
		return nil, err
	}
	if err := checkPlace(ctx, p.exec, rec); err != nil {
		return nil, err
	}
	eng := p.engine(nil)
	if p.changes, err = eng.Observe(ctx, units, rec.Whole()); err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for i := range p.changes {
		c := &p.changes[i]
		wanted[c.Unit.ID] = true
		known, recorded := rec.Units[c.Unit.ID]
		c.Partial = c.Prior != nil && recorded && known.State == nil && !known.Older(*c.Prior)
		if c.Prior != nil && !recorded {
			p.adopted = append(p.adopted, c.Unit.ID)
		}
	}
	unknown, err := listUnknown(ctx, eng, append(slices.Clone(units), staleUnits(rec.Sorted())...))
	switch {
	case faas.CodeOf(err) == faas.ErrPermissionDenied:
		p.unlisted = err
	case err != nil:
		return nil, err
	}
	for _, u := range unknown {
		p.unknown = append(p.unknown, u.ID)
	}
	for _, u := range rec.Sorted() {
		if !wanted[u.ID] {
			p.stale = append(p.stale, u)
		}
	}
	return p, nil
}

// warnings tell what an operator should know of what was found.
func (p *prepared) warnings() []string {
	var warnings []string
	if len(p.adopted) > 0 {
		warnings = append(warnings, fmt.Sprintf("no ledger of this machine knew %s, which existed already: another "+
			"machine deployed it, or a ledger was lost; it is taken over", strings.Join(p.adopted, ", ")))
	}
	if len(p.unknown) > 0 {
		warnings = append(warnings, fmt.Sprintf("%s carries the tags of service %q, belongs to no job, and stands in no "+
			"ledger of this machine: Service.RemoveUnknown removes it, and so does Undeploy", strings.Join(p.unknown, ", "),
			p.spec.Name))
	}
	if p.unlisted != nil {
		warnings = append(warnings, cannotList(p.unlisted))
	}
	if len(p.others) > 0 && !p.opts.move {
		warnings = append(warnings, warnElsewhere(p.spec.Name, p.others))
	}
	return warnings
}

func changedFile(path string) error {
	return faas.Errorf(faas.ErrConflict, "package", "",
		"%s was changed while it was being deployed: deploy again when it is whole", path)
}

// close removes the packages.
func (p *prepared) close() {
	if p.dir != nil {
		_ = p.dir.Remove() // the next deployment removes what is left
	}
}

func (p *prepared) engine(j engine.Journal) *engine.Engine {
	return newEngine(p.exec, p.provider.Provider, p.opts, j)
}

func newEngine(exec faas.Executor, provider string, o *deployOptions, j engine.Journal) *engine.Engine {
	info, _ := faas.Provider(provider)
	return engine.New(exec, provider, engine.Options{
		Parallel: info.MaxParallel, Report: o.events.step, Journal: j, KeepSucceeded: o.keepSucceeded, Patience: o.patience})
}

// open returns the executor that was given, else the one of the provider.
func (o *deployOptions) open(ctx context.Context, service string, provider faas.Config) (faas.Executor, error) {
	if o.executor != nil {
		return o.executor, checkBound(o.executor, service)
	}
	provider.Service = service
	if provider.Logger == nil {
		provider.Logger = o.logger
	}
	return faas.Open(ctx, provider)
}

// closeGiven closes the executor that the caller gave, where there is no service that will. It returns err, or why it could not be closed.
func (o *deployOptions) closeGiven(svc *Service, err error) error {
	if o.executor == nil || svc != nil {
		return err
	}
	return cmp.Or(err, o.executor.Close())
}

// wantedFunctions makes the functions, and refuses settings that the provider's limits do not allow.
func wantedFunctions(spec ServiceSpec, jobIDs []uint32, cfg ServerlessConfig) ([]faas.Function, error) {
	provider := cfg.Provider.Provider
	if len(jobIDs) == 0 {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "deploy", provider, "no job ids: there is nothing to deploy")
	}
	limits, known := faas.ProviderLimits(provider)
	sizes, _ := faas.ProviderMemorySizes(provider)
	functions := make([]faas.Function, len(jobIDs))
	for i, id := range jobIDs {
		f := cfg.function(id)
		f.Env = faas.NewEnv(spec.Env)
		if known {
			f.MemoryMB = sizes.RoundUp(f.MemoryMB)
			switch {
			case f.MemoryMB > limits.MaxMemoryMB:
				return nil, faas.JobErrorf(faas.ErrTooLarge, "deploy", provider, id,
					"memory of %d MB is above the provider's limit of %d MB", f.MemoryMB, limits.MaxMemoryMB)
			case f.TimeoutSecs > limits.MaxTimeoutSecs:
				return nil, faas.JobErrorf(faas.ErrTooLarge, "deploy", provider, id,
					"timeout of %d s is above the provider's limit of %d s", f.TimeoutSecs, limits.MaxTimeoutSecs)
			}
		}
		functions[i] = f
	}
	return functions, nil
}

// packageUnits builds the units' packages: one for all units that hold the same files. They are made from the file that was inspected, and not from one that
// took its place.
func packageUnits(ctx context.Context, dir string, bin *faas.Binary, units []faas.Unit) error {
	for i := range units {
		units[i].Files = slices.Clone(units[i].Files)
		for j := range units[i].Files {
			if f := &units[i].Files[j]; f.Path == bin.Path {
				f.SHA256 = bin.SHA256
			}
		}
	}
	var built []int // the first unit of each package
next:
	for i := range units {
		for _, j := range built {
			if reflect.DeepEqual(units[i].Files, units[j].Files) {
				units[i].Package = units[j].Package
				continue next
			}
		}
		pkg, err := faas.BuildPackage(ctx, dir, units[i].Files)
		if err != nil {
			return err
		}
		units[i].Package = pkg
		built = append(built, i)
	}
	return nil
}
