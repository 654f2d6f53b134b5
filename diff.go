package serverless

import (
	"context"
	"errors"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// Drift is how what the provider holds of a service differs from what its ledger says. All lists are sorted and name units.
type Drift struct {
	Missing []string `json:"missing"` // recorded, and not at the provider
	Changed []string `json:"changed"` // of other code or configuration than recorded, or not ready
	// Unknown carry the service's tags at the provider, and no ledger of this machine records them: deployed elsewhere, or left by a lost ledger.
	// They are never removed unless [Service.RemoveUnknown] is called. Nil where the provider cannot list.
	Unknown []string `json:"unknown"`
	// Elsewhere is what the ledgers of this machine know of the service in other places.
	Elsewhere []ServiceInfo `json:"elsewhere,omitempty"`
}

// None reports whether nothing differs.
func (d Drift) None() bool { return len(d.Missing)+len(d.Changed)+len(d.Unknown)+len(d.Elsewhere) == 0 }

// Diff compares the service's ledger with what the provider holds. It changes nothing. It asks once for
// every unit: what it calls missing may be a read that is behind, for which a deployment looks again.
func (s *Service) Diff(ctx context.Context) (*Drift, error) {
	o := s.opts.operation()
	defer o.events.flush()
	if err := s.usable("diff"); err != nil {
		return nil, err
	}
	rec, elsewhere, err := o.records(s.spec.Name, s.location)
	if err != nil {
		return nil, err
	}
	out := &Drift{Missing: []string{}, Changed: []string{}, Elsewhere: serviceInfos(elsewhere)}
	if s.exec == nil {
		return out, nil
	}
	recorded := rec.Sorted()
	eng := newEngine(s.exec, s.location.Provider, o, nil)
	states, err := eng.Look(ctx, staleUnits(recorded), nil)
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
	unknown, err := s.unknown(ctx, eng, rec)
	if err != nil {
		return nil, err
	}
	if unknown != nil {
		out.Unknown = []string{}
	}
	for _, u := range unknown {
		out.Unknown = append(out.Unknown, u.ID)
	}
	return out, nil
}

// unknown lists the units that neither a ledger records nor this handle has; nil if the provider cannot list.
func (s *Service) unknown(ctx context.Context, eng *engine.Engine, rec ledger.Record) ([]faas.Unit, error) {
	return listUnknown(ctx, eng, append(staleUnits(rec.Sorted()), s.units...))
}

// RemoveUnknown removes the units that [Service.Diff] calls unknown. No deployment of the service goes on
// at the same time, on this machine: what one has just made is not unknown.
func (s *Service) RemoveUnknown(ctx context.Context) (err error) {
	o := s.opts.operation()
	defer o.events.flush()
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
	led, _, err := o.lock(ctx, s.spec.Name, s.location)
	if err != nil {
		return err
	}
	j := &journal{led: led}
	defer func() { err = errors.Join(err, j.close()) }()
	rec := j.record()
	if led == nil {
		if rec, err = o.read(s.spec.Name, s.location); err != nil {
			return err
		}
	}
	eng := newEngine(s.exec, s.location.Provider, o, j)
	units, err := s.unknown(ctx, eng, rec)
	if err != nil {
		return err
	}
	return eng.Remove(ctx, units)
}
