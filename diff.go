package serverless

import (
	"context"
	"slices"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// Drift is how what the provider holds of a service differs from what its ledger says. All lists are sorted and name units.
type Drift struct {
	Missing []string `json:"missing"` // recorded, and not at the provider
	Changed []string `json:"changed"` // of other code or configuration than recorded, or not ready
	// Unknown carry the service's tags at the provider, and no ledger of this machine records them: deployed elsewhere, or left by a lost ledger.
	// They are never removed unless [Service.RemoveUnknown] is called. Nil where the provider cannot list.
	Unknown []string `json:"unknown"`
}

// None reports whether nothing differs.
func (d Drift) None() bool { return len(d.Missing)+len(d.Changed)+len(d.Unknown) == 0 }

// Diff compares the service's ledger with what the provider holds. It changes nothing.
func (s *Service) Diff(ctx context.Context) (*Drift, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable("diff"); err != nil {
		return nil, err
	}
	out := &Drift{Missing: []string{}, Changed: []string{}}
	if s.exec == nil {
		return out, nil
	}
	rec, err := s.opts.read(s.spec.Name, s.location)
	if err != nil {
		return nil, err
	}
	recorded := rec.Sorted()
	states, err := newEngine(s.exec, s.location.Provider, s.opts, nil).Look(ctx, staleUnits(recorded), whole(rec))
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
	unknown, err := s.unknown(ctx, rec)
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

// unknown lists the units that no ledger records; nil where the provider cannot list.
func (s *Service) unknown(ctx context.Context, rec ledger.Record) ([]faas.Unit, error) {
	states, err := newEngine(s.exec, s.location.Provider, s.opts, nil).List(ctx)
	if faas.CodeOf(err) == faas.ErrUnsupported {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	units := []faas.Unit{}
	for _, state := range states {
		if _, known := rec.Units[state.ID]; !known && !slices.ContainsFunc(s.units, func(u faas.Unit) bool { return u.ID == state.ID }) {
			units = append(units, faas.Unit{ID: state.ID})
		}
	}
	return units, nil
}

// RemoveUnknown removes the units that [Service.Diff] calls unknown.
func (s *Service) RemoveUnknown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable("remove"); err != nil {
		return err
	}
	if s.exec == nil {
		return nil
	}
	rec, err := s.opts.read(s.spec.Name, s.location)
	if err != nil {
		return err
	}
	units, err := s.unknown(ctx, rec)
	if err != nil {
		return err
	}
	return newEngine(s.exec, s.location.Provider, s.opts, nil).Remove(ctx, units)
}
