package serverless

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// OpenService returns the handle of a service that this program or another one deployed, from its
// ledger. Its functions can be invoked, checked, warmed and removed. Its local jobs can be invoked
// only if its runner is an [orchestrator.Detached], which OpenService finds with an orchestrator of
// the same kind ([WithOrchestrator]); any other runner belongs to the program that deployed the
// service.
//
// The provider, the region and all else that tells where the service is come from the ledger, with
// the options that are not sensitive. [WithPolicy] names the place in a policy, whose
// provider_config is then used, because a ledger keeps no credentials. If the service is in several
// places and no policy is given, OpenService opens the one that was deployed last; Warnings names
// the others, and Undeploy reaches them all. A service that no ledger records, or not at that
// policy's provider, is an ErrNotFound that says where it is.
func OpenService(ctx context.Context, name string, opts ...OpenOption) (svc *Service, err error) {
	o := newOpenOptions(opts)
	events := newEmitter(o.onEvent)
	defer events.flush()
	defer func() { err = closeUnused(o.executor, svc != nil, err) }()
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
	s.location, s.exec, s.runnerSettings.record = rec.Provider, at.exec, rec.Chain
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

// Recovery says what [Recover] did. Each list names units.
type Recovery struct {
	Removed []string `json:"removed"` // their creation or removal was interrupted
	// Unsettled are units whose update was interrupted. They exist, with the old code and
	// configuration or the new; the next deployment brings them to what is wanted then.
	Unsettled []string `json:"unsettled"`
	// Missing are units whose update was interrupted and that the provider does not find. They stay in
	// the ledger: the next deployment creates them again, and Undeploy makes sure that they are gone.
	Missing []string `json:"missing,omitempty"`
}

// Recover puts right what an interrupted operation on the service left. It removes units whose
// creation or removal did not end, and finds out what became of those whose update did not end. A
// deployment or a removal does the same, so that Recover is not needed before one. [WithPolicy] and
// [WithExecutor] limit it to one place of the service.
func Recover(ctx context.Context, name string, opts ...ServiceOption) (_ *Recovery, err error) {
	o := newServiceOptions(opts)
	events := newEmitter(o.onEvent)
	defer events.flush()
	defer func() { err = closeUnused(o.executor, false, err) }()
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
