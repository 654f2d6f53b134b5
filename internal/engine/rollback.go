package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// rollbackTimeout bounds the undoing of a failed change: long enough for a cloud to delete functions, short enough that a program ends.
const rollbackTimeout = 3 * time.Minute

// undoing is a change that has to be undone.
type undoing struct {
	Change
	begun bool // false: it was announced to the journal and never made
}

// rollback undoes changes and returns the names of what could not be undone, sorted, and why.
func (e *Engine) rollback(ctx context.Context, changes []undoing) (leftovers []string, errs []error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	errs = make([]error, len(changes))
	var group errgroup.Group
	group.SetLimit(e.parallel)
	for i, c := range changes {
		if !c.begun {
			_ = e.journal.Undone(c.Change) // where that fails the record says that it may have begun, which is safe
			continue
		}
		group.Go(func() error {
			if err := e.undo(ctx, c.Change); err != nil {
				did := "was updated and could not be put back"
				if c.Prior == nil || c.Partial {
					did = "was created and could not be removed"
				}
				errs[i] = fmt.Errorf("%s %s: %w", c.Unit.ID, did, err)
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

func (e *Engine) undo(ctx context.Context, c Change) error {
	if c.Prior == nil || c.Partial {
		if err := e.remove(ctx, c.Unit); err != nil {
			return err
		}
		return e.journal.Gone(c.Unit.ID)
	}
	_, err := call(ctx, e, "restore", c.Unit, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, e.exec.Restore(ctx, *c.Prior)
	})
	if err != nil {
		return err
	}
	return e.journal.Undone(c)
}
