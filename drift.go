package serverless

import (
	"context"
	"errors"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// Drift is how what the provider holds of a service differs from what its ledger says. All lists
// name units and are sorted.
type Drift struct {
	Missing []string `json:"missing"` // recorded, and not at the provider
	Changed []string `json:"changed"` // not ready, or of other code or configuration than recorded
	// Orphans carry the service's tags at the provider, and no ledger of this machine records them:
	// another machine deployed them, or a ledger was lost. Only [Service.RemoveOrphans] and Undeploy
	// remove them. It is nil if the provider cannot list.
	Orphans []string `json:"orphans"`
	// Elsewhere is what the ledgers of this machine know of the service in other places.
	Elsewhere []ServiceInfo `json:"elsewhere,omitempty"`
}

// None reports whether nothing differs.
func (d Drift) None() bool { return len(d.Missing)+len(d.Changed)+len(d.Orphans)+len(d.Elsewhere) == 0 }

// Diff compares the service's ledger with what the provider holds. It changes nothing. It asks for
// every unit once: a missing unit may be due to a read that is behind, for which a deployment would
// look again.
func (s *Service) Diff(ctx context.Context) (*Drift, error) {
	at := s.operation()
	defer at.events.flush()
	if err := s.usable("diff"); err != nil {
		return nil, err
	}
	rec, elsewhere, err := s.opts.ledgers.both(s.spec.Name, s.location)
	if err != nil {
		return nil, err
	}
	out := &Drift{Missing: []string{}, Changed: []string{}, Elsewhere: serviceInfos(elsewhere)}
	if s.exec == nil {
		return out, nil
	}
	recorded := rec.Sorted()
	eng := at.engine(nil, false)
	states, err := eng.Look(ctx, recordedUnits(recorded), nil)
	if err != nil {
		return nil, err
	}
	for i, u := range recorded {
		switch {
		case states[i] == nil:
			out.Missing = append(out.Missing, u.ID)
		case u.Pending != "" || u.State == nil || !sameState(states[i], u.State):
			out.Changed = append(out.Changed, u.ID)
		}
	}
	orphans, err := s.orphans(ctx, eng, rec)
	if err != nil {
		return nil, err
	}
	if orphans != nil {
		out.Orphans = []string{}
	}
	for _, u := range orphans {
		out.Orphans = append(out.Orphans, u.ID)
	}
	return out, nil
}

// orphans lists the units that neither a ledger records nor this handle has. It returns nil if the
// provider cannot list.
func (s *Service) orphans(ctx context.Context, eng *engine.Engine, rec ledger.Record) ([]faas.Unit, error) {
	return listOrphans(ctx, eng, append(recordedUnits(rec.Sorted()), s.units...))
}

// RemoveOrphans removes the units that [Service.Diff] calls orphans. No deployment of the service
// can run on this machine at the same time, so that a unit that one has just created is not an
// orphan.
func (s *Service) RemoveOrphans(ctx context.Context) (err error) {
	at := s.operation()
	defer at.events.flush()
	done, err := s.begin(ctx, "remove")
	if err != nil {
		return err
	}
	defer done()
	if err := s.usable("remove"); err != nil {
		return err
	}
	if s.exec == nil {
		return nil
	}
	j, _, err := at.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, j.close()) }()
	rec, err := at.record(j)
	if err != nil {
		return err
	}
	eng := at.engine(j, false)
	units, err := s.orphans(ctx, eng, rec)
	if err != nil {
		return err
	}
	return eng.Remove(ctx, units)
}
