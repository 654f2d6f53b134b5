package serverless

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// ServiceInfo is what the ledger says of a service. It is a plain value.
type ServiceInfo struct {
	Name        string      `json:"name"`
	Provider    faas.Config `json:"provider"` // where it is, without sensitive options
	BlueprintID uint64      `json:"blueprint_id"`
	BinaryPath  string      `json:"binary_path,omitempty"` // absolute, at the last deployment
	// BinarySHA256 is the hash of that file, in hex; empty if an older version deployed the service.
	BinarySHA256 string `json:"binary_sha256,omitempty"`
	// Given names what the last deployment was given, as NotGivenError does.
	Given     []string   `json:"given,omitempty"`
	LocalJobs []uint32   `json:"local_jobs,omitempty"`
	Runner    *RunnerRef `json:"runner,omitempty"` // one that outlives the program that started it
	Updated   time.Time  `json:"updated,omitzero"`
	Units     []UnitInfo `json:"units"` // by ascending ID
	// Busy says that an operation on the service is under way, in this program or another.
	Busy bool `json:"busy,omitempty"`
}

// UnitInfo is what the ledger says of a unit of functions.
type UnitInfo struct {
	ID        string          `json:"id"`
	Functions []faas.Function `json:"functions,omitempty"` // without environment
	// Pending is what was about to be done and is not known to have ended; empty where the unit is whole. Only a service whose last operation was
	// interrupted has such units.
	Pending Action      `json:"pending,omitempty"`
	State   *faas.State `json:"state,omitempty"` // at the provider, when it was last known to be whole
}

// Interrupted reports whether the last operation on the service did not end, and none is under way:
// [Recover], Undeploy, or the next deployment puts that right.
func (s ServiceInfo) Interrupted() bool {
	return !s.Busy && slices.ContainsFunc(s.Units, func(u UnitInfo) bool { return u.Pending != "" })
}

func serviceInfo(r ledger.Record) ServiceInfo {
	info := ServiceInfo{
		Name: r.Service, Provider: r.Provider, BlueprintID: r.BlueprintID, BinaryPath: r.Binary,
		BinarySHA256: r.BinarySHA256, Given: recordGiven(r),
		LocalJobs: r.LocalJobs, Runner: r.Runner, Updated: r.Updated, Units: []UnitInfo{},
	}
	for _, u := range r.Sorted() {
		unit := UnitInfo{ID: u.ID, Functions: u.Functions, Pending: Action(u.Pending)}
		if u.State != nil {
			state := *u.State
			state.Private = nil // the provider's alone
			unit.State = &state
		}
		info.Units = append(info.Units, unit)
	}
	return info
}

// ListServices returns the services that the ledgers of this machine know, sorted by name and place. Of the options only [WithStateDir] matters. A
// ledger that cannot be read is an error beside the services of the others.
func ListServices(opts ...DeployOption) ([]ServiceInfo, error) {
	store, err := newDeployOptions(opts).store()
	if err != nil {
		return nil, err
	}
	records, err := store.Records()
	infos := serviceInfos(records)
	for i, r := range records {
		busy, busyErr := store.Busy(r.Service, r.Provider)
		infos[i].Busy, err = busy, errors.Join(err, busyErr)
	}
	return infos, err
}

// OpenService returns the handle of a service that was deployed before, by this program or another, from its ledger. Its functions can be invoked,
// checked, warmed and removed. The runner belongs to the program that deployed the service, so that local jobs cannot be invoked, unless it is a
// [Survivor]: that one is found again with the orchestrator, which has to be of the same kind ([WithOrchestrator]).
//
// The provider, the region and all else that tells where the service is come from the ledger, with the
// options that are not sensitive. [WithPolicy] names the place in a policy, whose provider_config is then
// used, as a ledger keeps no credentials. Of a service in several places, without a policy, the one that
// was deployed last is opened; Warnings names the others, and Undeploy reaches them all. A service that
// no ledger knows, or not with that policy's provider, is an ErrNotFound that says where it is.
func OpenService(ctx context.Context, name string, opts ...DeployOption) (_ *Service, err error) {
	o := newDeployOptions(opts)
	defer o.events.flush()
	var svc *Service
	defer func() { err = o.closeGiven(svc, err) }()
	rec, elsewhere, err := o.find(name)
	if err != nil {
		return nil, err
	}
	exec := o.executor
	if exec == nil && len(rec.Units) > 0 {
		if exec, err = o.open(ctx, name, rec.Provider); err != nil {
			return nil, err
		}
	}
	if exec != nil {
		if err := errors.Join(checkBound(exec, name), checkPlace(ctx, exec, rec)); err != nil {
			if o.executor == nil {
				err = errors.Join(err, exec.Close())
			}
			return nil, err
		}
	}
	svc = newService(ServiceSpec{Name: name, BlueprintID: rec.BlueprintID, BinaryPath: rec.Binary},
		Strategy{Kind: StrategyServerless, FaaSJobs: []uint32{}, LocalJobs: append([]uint32{}, rec.LocalJobs...)}, o)
	svc.location, svc.exec = rec.Provider, exec
	if len(elsewhere) > 0 {
		svc.warn(warnElsewhere(name, elsewhere))
	}
	switch {
	case len(rec.Units) == 0:
		svc.strategy.Kind = StrategyTraditional
	case len(rec.LocalJobs) > 0:
		svc.strategy.Kind = StrategyHybrid
	}
	if rec.Runner != nil && !o.noRunner {
		if err := svc.attach(ctx, rec.Runner); err != nil {
			err = errors.Join(err, svc.release(ctx, o))
			svc = nil
			return nil, err
		}
	}
	var changes []engine.Change
	var states []faas.State
	for _, u := range rec.Sorted() {
		if u.Pending != "" {
			svc.warn(fmt.Sprintf("%s: an operation (%s) was interrupted: deploy again, recover or undeploy", u.ID, u.Pending))
		}
		if u.State == nil {
			continue
		}
		changes = append(changes, engine.Change{Action: ActionKeep, Unit: faas.Unit{ID: u.ID, Functions: u.Functions}})
		states = append(states, *u.State)
		for _, f := range u.Functions {
			svc.strategy.FaaSJobs = append(svc.strategy.FaaSJobs, f.JobID)
		}
	}
	slices.Sort(svc.strategy.FaaSJobs)
	svc.deployed(changes, states)
	return svc, nil
}

// find returns the record of the service that the options name, and those of its other places.
func (o *deployOptions) find(name string) (ledger.Record, []ledger.Record, error) {
	none := ledger.Record{}
	store, err := o.store()
	if err != nil {
		return none, nil, err
	}
	records, err := store.Records()
	records = slices.DeleteFunc(records, func(r ledger.Record) bool { return r.Service != name })
	if len(records) == 0 {
		if err != nil {
			return none, nil, err // it may be in a ledger that cannot be read
		}
		return none, nil, faas.Errorf(faas.ErrNotFound, "open service", "", "no service %q is known in %s", name, store.Dir())
	}
	slices.SortStableFunc(records, func(a, b ledger.Record) int { return b.Updated.Compare(a.Updated) })
	found := 0
	if o.policy != nil {
		provider := faas.Resolve(o.policy.Serverless.Config().Provider)
		found = slices.IndexFunc(records, func(r ledger.Record) bool {
			return ledger.Location(r.Provider) == ledger.Location(provider)
		})
		if found < 0 {
			return none, nil, faas.Errorf(faas.ErrNotFound, "open service", "",
				"service %q is not deployed in the policy's place, %s, but in %s: open it without the policy, or with one that "+
					"names that place",
				name, placeName(provider), placesText(records))
		}
		// The credentials are the policy's; where things are, and how, is what the ledger says.
		provider.Options = maps.Clone(provider.Options)
		for option, value := range records[found].Provider.Options {
			if provider.Options == nil {
				provider.Options = map[string]string{}
			}
			provider.Options[option] = value
		}
		records[found].Provider = provider
	}
	rec := records[found]
	others := slices.DeleteFunc(slices.Delete(records, found, found+1), ledger.Record.Empty)
	return rec, others, nil
}

// Recovery says what [Recover] did.
type Recovery struct {
	Removed []string `json:"removed"` // units whose creation or removal was interrupted
	// Unsettled are units whose update was interrupted. They exist, with the old code and configuration or
	// the new; the next deployment brings them to what is wanted then.
	Unsettled []string `json:"unsettled"`
	// Missing are units whose update was interrupted and that the provider does not find. They stay in
	// the ledger: the next deployment creates them anew, and Undeploy makes sure that they are gone.
	Missing []string `json:"missing,omitempty"`
}

// Recover puts right what an interrupted operation on the service left: it removes units whose creation
// or removal did not end, and looks what became of those whose update did not. It is not needed before a
// deployment or removal, which do the same. The options are those of [OpenService]; without a policy and
// an executor, it puts every place of the service right.
func Recover(ctx context.Context, name string, opts ...DeployOption) (_ *Recovery, err error) {
	o := newDeployOptions(opts)
	defer o.events.flush()
	defer func() { err = o.closeGiven(nil, err) }()
	found, elsewhere, err := o.find(name)
	if err != nil {
		return nil, err
	}
	out := &Recovery{Removed: []string{}, Unsettled: []string{}}
	errs := []error{o.recover(ctx, name, found.Provider, out)}
	if o.policy == nil && o.executor == nil {
		for _, r := range elsewhere {
			errs = append(errs, o.recover(ctx, name, r.Provider, out))
		}
	}
	return out, errors.Join(errs...)
}

// recover puts one place right.
func (o *deployOptions) recover(ctx context.Context, name string, provider faas.Config, out *Recovery) (err error) {
	led, warning, err := o.lock(ctx, name, provider)
	if err != nil {
		return err
	}
	if led == nil {
		return faas.Errorf(faas.ErrUnavailable, "recover", "", "%s", warning)
	}
	j := &journal{led: led}
	defer func() { err = errors.Join(err, j.close()) }()
	exec, err := o.open(ctx, name, provider)
	if err != nil {
		return err
	}
	if o.executor == nil {
		defer func() { err = errors.Join(err, exec.Close()) }()
	}
	rec := j.record()
	if err := checkPlace(ctx, exec, rec); err != nil {
		return err
	}
	if err := rec.Settle(ctx); err != nil {
		return err
	}
	eng := newEngine(exec, provider.Provider, o, j)
	var remove, created, updated []ledger.Unit
	for _, u := range rec.Sorted() {
		switch {
		case u.Pending == "":
		case Action(u.Pending) == ActionRemove:
			remove = append(remove, u)
		case u.State == nil:
			created = append(created, u)
		default:
			updated = append(updated, u)
		}
	}
	states, err := eng.Look(ctx, staleUnits(created), nil)
	if err != nil {
		return err
	}
	for i, u := range created {
		if states[i] != nil && u.Older(*states[i]) {
			updated = append(updated, u)
		} else {
			remove = append(remove, u)
		}
	}
	states, err = eng.Look(ctx, staleUnits(updated), rec.Whole())
	if err != nil {
		return err
	}
	for i, u := range updated {
		switch {
		case states[i] == nil:
			out.Missing = append(out.Missing, u.ID)
			continue
		case states[i].Status == faas.StatusReady:
			u.Pending = ""
		}
		u.State = states[i]
		if err := led.Put(u); err != nil {
			return err
		}
		out.Unsettled = append(out.Unsettled, u.ID)
	}
	if err := eng.Remove(ctx, staleUnits(remove)); err != nil {
		return err
	}
	for _, u := range remove {
		out.Removed = append(out.Removed, u.ID)
	}
	return nil
}
