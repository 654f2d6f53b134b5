package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// rollbackTimeout bounds the undoing of a failed deployment. It is long enough for a cloud to build
// functions again, and short enough for a program to end.
const rollbackTimeout = 10 * time.Minute

// undoing is a change that has to be undone.
type undoing struct {
	Change
	begun     bool // false: the journal was told of it, and nothing was changed
	failed    bool
	existed   bool // Converge found the unit, although Observe did not
	unsettled bool // what Converge sent may still take effect
	resumable bool // Converge can continue with what it made of a unit that was never whole
}

// rollback undoes changes. It returns the sorted ids of the units that it could not undo, and why.
func (e *Engine) rollback(ctx context.Context, changes []undoing) (leftovers []string, errs []error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	errs = make([]error, len(changes))
	var undoing []Change
	for _, c := range changes {
		if c.begun && !c.stays() {
			undoing = append(undoing, c.Change)
		}
	}
	if len(undoing) > 0 {
		_ = e.journal.Undoing(undoing) // an undo does not depend on its record
	}
	var group errgroup.Group
	group.SetLimit(e.parallel)
	for i, c := range changes {
		if !c.begun {
			_ = e.journal.Unmade(c.Change) // on failure the record says that it may have begun, which is safe
			continue
		}
		group.Go(func() error {
			if err := e.undo(ctx, c); err != nil {
				errs[i] = fmt.Errorf("%s %w", c.Unit.ID, err)
			}
			return nil
		})
	}
	_ = group.Wait() // the functions return nil
	for i, err := range errs {
		if err != nil {
			leftovers = append(leftovers, changes[i].Unit.ID)
		}
	}
	slices.Sort(leftovers)
	return leftovers, errs
}

var errExisted = errors.New("existed before, although the provider did not find it at first: what this deployment " +
	"made of it is left as it is; deploy again")

// stays reports whether the undo leaves the unit as it is, because it existed before in an unknown
// state, or because the next change continues with it.
func (c undoing) stays() bool {
	return c.resumable || c.Prior == nil && (c.Recorded != nil || c.existed)
}

// isAnothers reports whether a unit that Converge failed to create exists, works, and is not what
// was wanted. Then this call did not create it, and did not notice that it existed.
func (e *Engine) isAnothers(ctx context.Context, unit faas.Unit) bool {
	state, err := e.look(ctx, unit, faas.State{})
	return err == nil && unit.Package != nil && state.Status == faas.StatusReady && state.PackageSHA256 != "" &&
		state.Fingerprint != "" && !state.Current(unit)
}

// undo undoes one change. Its error says what became of the unit instead.
func (e *Engine) undo(ctx context.Context, c undoing) error {
	switch {
	case c.resumable: // the journal still records that it is being created
		return errors.New("is kept as far as it was created, because removing it would restart what it waits for: deploy " +
			"again to continue, or undeploy")
	case c.Prior != nil && !c.NeverWhole:
		if err := e.persist(ctx, "restore", c.Unit,
			func(ctx context.Context) error { return e.exec.Restore(ctx, *c.Prior) }); err != nil {
			return fmt.Errorf("was updated and could not be put back: %w", err)
		}
		if c.unsettled { // the journal still records that it is being changed
			return errors.New("was put back, but what was sent to update it was not answered and may still take effect; " +
				"deploy again")
		}
		return e.journal.Undone(c.Change)
	case c.Recorded != nil:
		return errors.New("was deployed before, and the provider did not find it: what this deployment made in its place " +
			"is left as it is; deploy again")
	case c.existed:
		return errExisted
	case c.failed && !c.NeverWhole && e.isAnothers(ctx, c.Unit):
		return errors.Join(errExisted, e.journal.Found(c.Change))
	}
	if err := e.persist(ctx, string(Remove), c.Unit,
		func(ctx context.Context) error { return e.exec.Remove(ctx, c.Unit.ID) }); err != nil {
		return fmt.Errorf("was created and could not be removed: %w", err)
	}
	if c.unsettled { // the journal keeps it for the next operation
		return errors.New("was removed, but what was sent to create it was not answered and may still take effect; " +
			"deploy again, or undeploy")
	}
	return e.journal.Gone(c.Unit.ID)
}

// persist makes a call of an undo. It repeats the call after failures that pass: the provider was
// not available, or was busy with the change that is being undone. Restore and Remove are safe to
// repeat.
func (e *Engine) persist(ctx context.Context, verb string, unit faas.Unit, f func(context.Context) error) error {
	attempts, pause := 4, e.patience/30
	_, err := call(ctx, e, verb, unit, writes, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, f(ctx)
	}, func(_ struct{}, err error) (time.Duration, error) {
		code := faas.CodeOf(err)
		if attempts--; attempts == 0 || code != faas.ErrUnavailable && code != faas.ErrConflict && code != faas.ErrTimeout {
			return 0, nil
		}
		next := pause
		pause *= 2
		return next, err
	})
	return err
}
