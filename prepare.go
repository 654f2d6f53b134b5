package serverless

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
	"github.com/tangle-network/blueprint-serverless/internal/files"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// prepared is a serverless deployment up to its first change: everything is known, checked and
// packaged, and nothing was changed.
type prepared struct {
	order    *order
	at       *place
	binary   *faas.Binary
	packages *files.Dir
	changes  []engine.Change
	record   ledger.Record
	stale    []ledger.Unit       // recorded, and no longer wanted
	orphans  []string            // units with the service's tags that are neither recorded nor wanted
	adopted  []string            // units that exist and are wanted, and are not recorded
	unlisted error               // why orphans could not be listed
	others   []ledger.Record     // what the service has in other places
	planned  map[string][]string // what may be removed of them; see place.clearOthers
	given    []string            // see order.given
	runner   runnerSettings
}

// prepare opens the provider, checks and packages, and observes what exists at the place. rec and
// others are what the ledgers say. The caller closes the result, and after a success the place, or
// hands its executor on.
func prepare(ctx context.Context, o *order, at *place, rec ledger.Record, others []ledger.Record) (_ *prepared,
	err error) {
	functions, err := o.functions()
	if err != nil {
		return nil, err
	}
	p := &prepared{order: o, at: at, record: rec, others: others}
	if p.given, err = o.given(rec, others); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.close()
			_ = at.close() // the first error counts
		}
	}()
	var units []faas.Unit
	err = o.events.phase(PhasePackage, o.strategy.FaaSJobs, func() error {
		if p.binary, err = o.inspect(); err != nil {
			return err
		}
		if err := at.open(ctx); err != nil {
			return err
		}
		if units, err = at.exec.Units(p.binary, functions); err != nil {
			return err
		}
		if p.packages, err = files.TempDir("blueprint-package", nil); err != nil {
			return faas.Errorf(faas.ErrInternal, "package", at.config.Provider, "%w", err)
		}
		return packageUnits(ctx, p.packages.Path(), p.binary, units)
	})
	if err != nil {
		return nil, err
	}
	if err := checkPlace(ctx, at.exec, rec); err != nil {
		return nil, err
	}
	if p.runner, err = o.runner(p.binary, rec, others); err != nil {
		return nil, err
	}
	if err := p.observe(ctx, units); err != nil {
		return nil, err
	}
	return p, nil
}

// observe finds out what exists, and what has to be done.
func (p *prepared) observe(ctx context.Context, units []faas.Unit) (err error) {
	eng := p.at.engine(nil, false)
	if p.changes, err = eng.Observe(ctx, units, p.record.Whole()); err != nil {
		return err
	}
	wanted := map[string]bool{}
	for i := range p.changes {
		c := &p.changes[i]
		wanted[c.Unit.ID] = true
		known, recorded := p.record.Units[c.Unit.ID]
		c.NeverWhole = c.Prior != nil && recorded && known.State == nil && !known.Older(*c.Prior)
		if c.Prior != nil && !recorded {
			p.adopted = append(p.adopted, c.Unit.ID)
		}
	}
	orphans, err := listOrphans(ctx, eng, append(slices.Clone(units), recordedUnits(p.record.Sorted())...))
	switch {
	case faas.CodeOf(err) == faas.ErrPermissionDenied:
		p.unlisted = err
	case err != nil:
		return err
	}
	for _, u := range orphans {
		p.orphans = append(p.orphans, u.ID)
	}
	for _, u := range p.record.Sorted() {
		if !wanted[u.ID] {
			p.stale = append(p.stale, u)
		}
	}
	return nil
}

// warnings tell what an operator should know of what was found.
func (p *prepared) warnings() []string {
	warnings := slices.Clone(p.runner.warnings)
	if len(p.adopted) > 0 {
		warnings = append(warnings, fmt.Sprintf("%s existed already, and no ledger of this machine records it: another "+
			"machine deployed it, or a ledger was lost; it is taken over", strings.Join(p.adopted, ", ")))
	}
	if len(p.orphans) > 0 {
		warnings = append(warnings, fmt.Sprintf("%s carries the tags of service %q, belongs to no job, and no ledger of "+
			"this machine records it: Service.RemoveOrphans removes it, and so does Undeploy",
			strings.Join(p.orphans, ", "), p.at.service))
	}
	if p.unlisted != nil {
		warnings = append(warnings, cannotList(p.unlisted))
	}
	if len(p.others) > 0 && !p.order.opts.move {
		warnings = append(warnings, warnElsewhere(p.at.service, p.others))
	}
	return warnings
}

// close removes the packages.
func (p *prepared) close() {
	if p.packages != nil {
		_ = p.packages.Remove() // the next deployment removes what is left
	}
}

// functions returns the wanted functions. It refuses settings that the provider's limits exclude.
func (o *order) functions() ([]faas.Function, error) {
	provider := o.cfg.Provider.Provider
	if len(o.strategy.FaaSJobs) == 0 {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "deploy", provider, "no job ids: there is nothing to deploy")
	}
	limits, known := faas.ProviderLimits(provider)
	sizes, _ := faas.ProviderMemorySizes(provider)
	functions := make([]faas.Function, len(o.strategy.FaaSJobs))
	for i, id := range o.strategy.FaaSJobs {
		f := o.cfg.function(id)
		f.Env = faas.NewEnv(o.spec.Env)
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

// packageUnits builds the units' packages, one for all units that hold the same files. It fails if
// the binary is no longer the one that was inspected.
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

// NotGivenError says what the last deployment of a service was given and this one is not. Deploy,
// DeployServerless, NewPlan and Apply return it as the cause of an ErrInvalidArgument, before the
// first change. [WithDropped] drops what is no longer wanted.
type NotGivenError struct {
	Service string
	// Names are sorted: "env.NAME" for a variable of ServiceSpec.Env, "runner.NAME" for one of
	// RunnerEnv, "option.NAME" for an option of the provider, "chain.rpc" and "chain.contract" for
	// [WithRPC] and [WithContract], "chain.service" and "chain.keystore" for ServiceSpec.ServiceID and
	// Keystore.
	Names []string
}

// Error names what is missing, and says what to do.
func (e *NotGivenError) Error() string {
	return fmt.Sprintf("the last deployment of service %q was given %s, and this one is not: give it again, or drop "+
		"it (WithDropped)", e.Service, strings.Join(e.Names, ", "))
}

// given names what this deployment is given, and returns a NotGivenError for what the last one was
// given and this one is not.
func (o *order) given(here ledger.Record, elsewhere []ledger.Record) ([]string, error) {
	last := lastGiven(here, elsewhere)
	now := o.givenNow(last)
	missing := slices.DeleteFunc(slices.Clone(last), func(name string) bool {
		return slices.Contains(now, name) || slices.Contains(o.opts.dropped, name)
	})
	if len(missing) > 0 {
		err := &NotGivenError{o.spec.Name, missing}
		return nil, stateError{faas.Errorf(faas.ErrInvalidArgument, "deploy", "", "%w", err)}
	}
	return now, nil
}

// givenNow names what this deployment is given. A deployment that got its metadata from the caller
// does not know the chain, and carries that over from the last one.
func (o *order) givenNow(last []string) []string {
	names := []string{}
	for name := range o.spec.Env {
		names = append(names, givenEnv+name)
	}
	for name := range o.spec.RunnerEnv {
		names = append(names, givenRunner+name)
	}
	if o.spec.ServiceID != nil {
		names = append(names, givenService)
	}
	if o.spec.Keystore != "" {
		names = append(names, givenKeystore)
	}
	for name := range o.cfg.Provider.Options {
		names = append(names, givenOption+name)
	}
	if o.fetched || o.spec.ServiceID != nil {
		f := newFetchOptions(o.opts.fetch)
		if len(f.rpc) > 0 {
			names = append(names, givenRPC)
		}
		if address, err := contractAddress(f.contract); err == nil && address != "" {
			names = append(names, givenContract)
		}
	} else {
		for _, name := range last {
			if name == givenRPC || name == givenContract {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// lastGiven names what the last deployment of the service was given, as far as the ledgers tell:
// the deployment at this place, or else the latest elsewhere, whose provider had options of its
// own.
func lastGiven(here ledger.Record, elsewhere []ledger.Record) []string {
	if names := recordGiven(here); len(names) > 0 || !here.Updated.IsZero() {
		return names
	}
	var latest ledger.Record
	for _, r := range elsewhere {
		if r.Updated.After(latest.Updated) {
			latest = r
		}
	}
	return slices.DeleteFunc(recordGiven(latest), func(name string) bool { return strings.HasPrefix(name, givenOption) })
}
