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

func serviceInfos(records []ledger.Record) []ServiceInfo {
	var infos []ServiceInfo
	for _, r := range records {
		infos = append(infos, serviceInfo(r))
	}
	return infos
}

// ListServices returns the services that the ledgers in dir record, sorted by name and place. An
// empty dir is [DefaultStateDir]. A ledger that cannot be read is an error beside the services of the
// others.
func ListServices(dir string) ([]ServiceInfo, error) {
	store, err := ledgers{dir: dir}.store()
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

// OpenService returns the handle of a service that this program or another one deployed, from its
// ledger. Its functions can be invoked, checked, warmed and removed. Its local jobs can be invoked only
// if its runner is a [Survivor], which OpenService finds with an orchestrator of the same kind
// ([WithOrchestrator]); any other runner belongs to the program that deployed the service.
//
// The provider, the region and all else that tells where the service is come from the ledger, with the
// options that are not sensitive. [WithPolicy] names the place in a policy, whose provider_config is
// then used, because a ledger keeps no credentials. If the service is in several places and no policy
// is given, OpenService opens the one that was deployed last; Warnings names the others, and Undeploy
// reaches them all. A service that no ledger records, or not at that policy's provider, is an
// ErrNotFound that says where it is.
func OpenService(ctx context.Context, name string, opts ...OpenOption) (svc *Service, err error) {
	o := newOpenOptions(opts)
	events := newEmitter(o.onEvent)
	defer events.flush()
	defer func() { err = closeUnused(o.executor, svc, err) }()
	rec, elsewhere, err := o.ledgers.find(name, o.policy)
	if err != nil {
		return nil, err
	}
	at := &place{service: name, config: rec.Provider, exec: o.executor, opts: o, events: events}
	if at.exec != nil || len(rec.Units) > 0 {
		if err := at.open(ctx); err != nil {
			return nil, err
		}
		if err := checkPlace(ctx, at.exec, rec); err != nil {
			return nil, errors.Join(err, at.close())
		}
	}
	s := newService(ServiceSpec{Name: name, BlueprintID: rec.BlueprintID, BinaryPath: rec.Binary},
		Strategy{Kind: StrategyServerless, FaaSJobs: []uint32{}, LocalJobs: append([]uint32{}, rec.LocalJobs...)}, o)
	s.location, s.exec = rec.Provider, at.exec
	if len(elsewhere) > 0 {
		s.warn(warnElsewhere(name, elsewhere))
	}
	switch {
	case len(rec.Units) == 0:
		s.strategy.Kind = StrategyTraditional
	case len(rec.LocalJobs) > 0:
		s.strategy.Kind = StrategyHybrid
	}
	if rec.Runner != nil && !o.noRunner {
		if err := s.attach(ctx, *rec.Runner); err != nil {
			if o.executor != nil {
				s.exec = nil // closeUnused closes it
			}
			return nil, errors.Join(err, s.release(ctx, events))
		}
	}
	var changes []engine.Change
	var states []faas.State
	for _, u := range rec.Sorted() {
		if u.Pending != "" {
			s.warn(fmt.Sprintf("%s: an operation (%s) was interrupted: deploy again, recover or undeploy", u.ID, u.Pending))
		}
		if u.State == nil {
			continue
		}
		changes = append(changes, engine.Change{Action: engine.Keep, Unit: faas.Unit{ID: u.ID, Functions: u.Functions}})
		states = append(states, *u.State)
		for _, f := range u.Functions {
			s.strategy.FaaSJobs = append(s.strategy.FaaSJobs, f.JobID)
		}
	}
	slices.Sort(s.strategy.FaaSJobs)
	s.deployed(changes, states)
	return s, nil
}

// find returns the record of the service at the policy's place, and those of its other places. Without
// a policy it is the one that was updated last.
func (l ledgers) find(name string, policy *Policy) (ledger.Record, []ledger.Record, error) {
	none := ledger.Record{}
	store, err := l.store()
	if err != nil {
		return none, nil, err
	}
	records, err := store.Records()
	records = slices.DeleteFunc(records, func(r ledger.Record) bool { return r.Service != name })
	if len(records) == 0 {
		if err != nil {
			return none, nil, err // it may be in a ledger that cannot be read
		}
		return none, nil, faas.Errorf(faas.ErrNotFound, "open service", "", "no ledger in %s records service %q", store.Dir(),
			name)
	}
	slices.SortStableFunc(records, func(a, b ledger.Record) int { return b.Updated.Compare(a.Updated) })
	found := 0
	if policy != nil {
		provider := faas.Resolve(policy.Serverless.Config().Provider)
		found = slices.IndexFunc(records, func(r ledger.Record) bool {
			return ledger.Location(r.Provider) == ledger.Location(provider)
		})
		if found < 0 {
			return none, nil, faas.Errorf(faas.ErrNotFound, "open service", "",
				"service %q is not deployed in the policy's place, %s, but in %s: open it without the policy, or with one that "+
					"names that place", name, placeName(provider), placesText(records))
		}
		// The credentials are the policy's; where things are, and how, is what the ledger says.
		options := map[string]string{}
		maps.Copy(options, provider.Options)
		maps.Copy(options, records[found].Provider.Options)
		provider.Options = options
		records[found].Provider = provider
	}
	rec := records[found]
	others := slices.DeleteFunc(slices.Delete(records, found, found+1), ledger.Record.Empty)
	return rec, others, nil
}

// Recovery says what [Recover] did. Each list names units.
type Recovery struct {
	Removed []string `json:"removed"` // their creation or removal was interrupted
	// Unsettled are units whose update was interrupted. They exist, with the old code and configuration
	// or the new; the next deployment brings them to what is wanted then.
	Unsettled []string `json:"unsettled"`
	// Missing are units whose update was interrupted and that the provider does not find. They stay in
	// the ledger: the next deployment creates them again, and Undeploy makes sure that they are gone.
	Missing []string `json:"missing,omitempty"`
}

// Recover puts right what an interrupted operation on the service left. It removes units whose creation
// or removal did not end, and looks what became of those whose update did not end. A deployment or a
// removal does the same, so that Recover is not needed before one. [WithPolicy] and [WithExecutor]
// limit it to one place of the service.
func Recover(ctx context.Context, name string, opts ...ServiceOption) (_ *Recovery, err error) {
	o := newServiceOptions(opts)
	events := newEmitter(o.onEvent)
	defer events.flush()
	defer func() { err = closeUnused(o.executor, nil, err) }()
	rec, elsewhere, err := o.ledgers.find(name, o.policy)
	if err != nil {
		return nil, err
	}
	records := []ledger.Record{rec}
	if o.policy == nil && o.executor == nil {
		records = append(records, elsewhere...)
	}
	out := &Recovery{Removed: []string{}, Unsettled: []string{}}
	var errs []error
	for _, r := range records {
		at := &place{service: name, config: r.Provider, exec: o.executor, opts: o, events: events}
		errs = append(errs, at.recover(ctx, out))
	}
	return out, errors.Join(errs...)
}

// recover puts one place right.
func (p *place) recover(ctx context.Context, out *Recovery) (err error) {
	j, warning, err := p.lock(ctx)
	if err != nil {
		return err
	}
	if j.led == nil {
		return faas.Errorf(faas.ErrUnavailable, "recover", "", "%s", warning)
	}
	defer func() { err = errors.Join(err, j.close()) }()
	if err := p.open(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	rec := j.record()
	if err := checkPlace(ctx, p.exec, rec); err != nil {
		return err
	}
	if err := rec.Settle(ctx); err != nil {
		return err
	}
	eng := p.engine(j, false)
	var remove, created, updated []ledger.Unit
	for _, u := range rec.Sorted() {
		switch {
		case u.Pending == "":
		case engine.Action(u.Pending) == engine.Remove:
			remove = append(remove, u)
		case u.State == nil:
			created = append(created, u)
		default:
			updated = append(updated, u)
		}
	}
	states, err := eng.Look(ctx, recordedUnits(created), nil)
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
	states, err = eng.Look(ctx, recordedUnits(updated), rec.Whole())
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
		if err := j.led.Put(u); err != nil {
			return err
		}
		out.Unsettled = append(out.Unsettled, u.ID)
	}
	if err := eng.Remove(ctx, recordedUnits(remove)); err != nil {
		return err
	}
	for _, u := range remove {
		out.Removed = append(out.Removed, u.ID)
	}
	return nil
}
