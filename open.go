package serverless

import (
	"context"
	"errors"
	"fmt"
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
	BinaryPath  string      `json:"binary_path,omitempty"` // at the last deployment
	LocalJobs   []uint32    `json:"local_jobs,omitempty"`
	Runner      *RunnerRef  `json:"runner,omitempty"` // one that outlives the program that started it
	Updated     time.Time   `json:"updated,omitzero"`
	Units       []UnitInfo  `json:"units"` // by ascending ID
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

// Interrupted reports whether the last operation on the service did not end: [Recover], Undeploy, or the next deployment puts that right.
func (s ServiceInfo) Interrupted() bool {
	return slices.ContainsFunc(s.Units, func(u UnitInfo) bool { return u.Pending != "" })
}

func serviceInfo(r ledger.Record) ServiceInfo {
	info := ServiceInfo{Name: r.Service, Provider: r.Provider, BlueprintID: r.BlueprintID, BinaryPath: r.Binary, LocalJobs: r.LocalJobs, Runner: r.Runner, Updated: r.Updated, Units: []UnitInfo{}}
	for _, u := range r.Sorted() {
		info.Units = append(info.Units, UnitInfo{ID: u.ID, Functions: u.Functions, Pending: Action(u.Pending), State: u.State})
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
	infos := make([]ServiceInfo, len(records))
	for i, r := range records {
		infos[i] = serviceInfo(r)
	}
	return infos, err
}

// OpenService returns the handle of a service that was deployed before, by this program or another, from its ledger. Its functions can be invoked,
// checked, warmed and removed. The runner belongs to the program that deployed the service, so that local jobs cannot be invoked, unless it is a
// [Survivor]: that one is found again with the orchestrator, which has to be of the same kind ([WithOrchestrator]).
//
// A service that is deployed in several places is an ErrConflict unless [WithPolicy] names the one; the policy's provider_config is used then, since
// a ledger keeps no credentials. A service that no ledger knows, or not with that policy's provider, is an ErrNotFound.
func OpenService(ctx context.Context, name string, opts ...DeployOption) (_ *Service, err error) {
	o := newDeployOptions(opts)
	var svc *Service
	defer func() { err = o.closeGiven(svc, err) }()
	rec, err := o.find(name)
	if err != nil {
		return nil, err
	}
	exec := o.executor
	if exec == nil && len(rec.Units) > 0 {
		if exec, err = o.open(ctx, name, rec.Provider); err != nil {
			return nil, err
		}
	}
	svc = &Service{
		spec:     ServiceSpec{Name: name, BlueprintID: rec.BlueprintID, BinaryPath: rec.Binary},
		strategy: Strategy{Kind: StrategyServerless, FaaSJobs: []uint32{}, LocalJobs: append([]uint32{}, rec.LocalJobs...)},
		opts:     o, location: rec.Provider, exec: exec,
	}
	switch {
	case len(rec.Units) == 0:
		svc.strategy.Kind = StrategyTraditional
	case len(rec.LocalJobs) > 0:
		svc.strategy.Kind = StrategyHybrid
	}
	if rec.Runner != nil && !o.noRunner {
		if err := svc.attach(ctx, rec.Runner); err != nil {
			err = errors.Join(err, svc.release(ctx))
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

// find returns the one record of the service that the options name.
func (o *deployOptions) find(name string) (ledger.Record, error) {
	store, err := o.store()
	if err != nil {
		return ledger.Record{}, err
	}
	records, err := store.Records()
	records = slices.DeleteFunc(records, func(r ledger.Record) bool { return r.Service != name })
	if len(records) == 0 {
		if err != nil {
			return ledger.Record{}, err // it may be in a ledger that cannot be read
		}
		return ledger.Record{}, faas.Errorf(faas.ErrNotFound, "open service", "", "no service %q is known in %s", name, store.Dir())
	}
	if o.policy != nil {
		provider := o.policy.Serverless.Config().Provider
		here := slices.DeleteFunc(slices.Clone(records), func(r ledger.Record) bool { return ledger.Location(r.Provider) != ledger.Location(provider) })
		if len(here) != 1 {
			return ledger.Record{}, faas.Errorf(faas.ErrNotFound, "open service", "", "service %q is not deployed with the policy's provider %v, but elsewhere", name, public(provider))
		}
		here[0].Provider = provider
		return here[0], nil
	}
	if len(records) > 1 {
		places := ""
		for _, r := range records {
			places += fmt.Sprintf(" %v", public(r.Provider))
		}
		return ledger.Record{}, faas.Errorf(faas.ErrConflict, "open service", "", "service %q is deployed in %d places:%s: name one with WithPolicy", name, len(records), places)
	}
	return records[0], nil
}

// Recovery says what [Recover] did.
type Recovery struct {
	Removed []string `json:"removed"` // units whose creation or removal was interrupted
	// Unsettled are units whose update was interrupted. They exist, with the old code and configuration or the new; the next deployment brings them
	// to what is wanted then.
	Unsettled []string `json:"unsettled"`
}

// Recover puts right what an interrupted operation on the service left: it removes units whose creation or removal did not end, and looks what became
// of those whose update did not. It is not needed before a deployment or removal, which do the same. The options are those of [OpenService].
func Recover(ctx context.Context, name string, opts ...DeployOption) (_ *Recovery, err error) {
	o := newDeployOptions(opts)
	defer func() { err = o.closeGiven(nil, err) }()
	found, err := o.find(name)
	if err != nil {
		return nil, err
	}
	led, warning, err := o.lock(ctx, name, found.Provider)
	if err != nil {
		return nil, err
	}
	if led == nil {
		return nil, faas.Errorf(faas.ErrUnavailable, "recover", "", "%s", warning)
	}
	j := &journal{led: led}
	defer func() { err = errors.Join(err, j.close()) }()
	exec, err := o.open(ctx, name, found.Provider)
	if err != nil {
		return nil, err
	}
	if o.executor == nil {
		defer func() { err = errors.Join(err, exec.Close()) }()
	}
	if err := j.record().Settle(ctx); err != nil {
		return nil, err
	}
	out := &Recovery{Removed: []string{}, Unsettled: []string{}}
	eng := newEngine(exec, found.Provider.Provider, o, j)
	var remove, updated []ledger.Unit
	for _, u := range j.record().Sorted() {
		switch {
		case u.Pending == "":
		case Action(u.Pending) == ActionRemove || u.State == nil:
			remove = append(remove, u)
		default:
			updated = append(updated, u)
		}
	}
	states, err := eng.Look(ctx, staleUnits(updated), whole(j.record()))
	if err != nil {
		return out, err
	}
	for i, u := range updated {
		if states[i] == nil {
			remove = append(remove, u) // gone already; this makes the ledger say so
			continue
		}
		if u.State = states[i]; u.State.Status == faas.StatusReady {
			u.Pending = ""
		}
		if err := led.Put(u); err != nil {
			return out, err
		}
		out.Unsettled = append(out.Unsettled, u.ID)
	}
	if err := eng.Remove(ctx, staleUnits(remove)); err != nil {
		return out, err
	}
	for _, u := range remove {
		out.Removed = append(out.Removed, u.ID)
	}
	return out, nil
}
