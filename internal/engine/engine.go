// Package engine changes what a provider holds, one unit at a time on many goroutines, all or nothing. It knows executors and units, and
// nothing of policies, jobs or clouds: order, concurrency, back-off and rollback are written here once, for all providers.
package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Action is what has to be done to a unit.
type Action string

// The actions.
const (
	Create Action = "create"
	Update Action = "update"
	Keep   Action = "keep"
	Remove Action = "remove"
)

// Change is a unit that is wanted, what exists of it, and what has to be done.
type Change struct {
	Action Action
	Unit   faas.Unit
	Prior  *faas.State // nil: nothing exists
}

// Step is a moment in the work on one unit. Every step with Done false is followed by exactly one with Done true for the same unit and verb.
type Step struct {
	Verb     string // "observe", "create", "update", "remove", "restore"
	UnitID   string
	JobIDs   []uint32
	Done     bool
	Attempt  int // from 1; larger after the provider throttled
	Progress *faas.Progress
	Duration time.Duration // when Done
	Err      error         // when Done
}

// Engine works on the units of one executor.
type Engine struct {
	exec     faas.Executor
	provider string
	parallel int
	report   func(Step)
	gate     *gate
}

// rollbackTimeout bounds the undoing of a failed change: long enough for a cloud to delete functions, short enough that a program ends.
const rollbackTimeout = 3 * time.Minute

// defaultParallel is how many units are changed at a time where the provider does not say.
const defaultParallel = 8

// New returns an engine that changes up to parallel units at a time; 0 is 8. report is called from several goroutines, one at a time; it may be nil.
func New(exec faas.Executor, provider string, parallel int, report func(Step)) *Engine {
	if parallel <= 0 {
		parallel = defaultParallel
	}
	e := &Engine{exec: exec, provider: provider, parallel: parallel, report: func(Step) {}, gate: newGate()}
	if report != nil {
		var mu sync.Mutex
		e.report = func(s Step) {
			mu.Lock()
			defer mu.Unlock()
			report(s)
		}
	}
	return e
}

// Observe says for every unit what has to be done. It changes nothing.
func (e *Engine) Observe(ctx context.Context, units []faas.Unit) ([]Change, error) {
	changes := make([]Change, len(units))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(e.parallel)
	for i, unit := range units {
		group.Go(func() error {
			state, err := call(ctx, e, "observe", unit, func(ctx context.Context) (faas.State, error) { return e.exec.Observe(ctx, unit.ID) })
			switch {
			case err != nil && faas.CodeOf(err) == faas.ErrNotFound:
				changes[i] = Change{Action: Create, Unit: unit}
			case err != nil:
				return e.wrap("observe", unit, err)
			case state.Current(unit):
				changes[i] = Change{Action: Keep, Unit: unit, Prior: &state}
			default:
				changes[i] = Change{Action: Update, Unit: unit, Prior: &state}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return changes, nil
}

// Apply makes every change and returns the states of the units in the order of changes. If one fails or ctx ends, what was created is removed and
// what was updated is put back, with a context of its own; the error then wraps the first cause and lists what was left behind.
func (e *Engine) Apply(ctx context.Context, changes []Change) ([]faas.State, error) {
	states := make([]faas.State, len(changes))
	errs := make([]error, len(changes))
	touched := make([]bool, len(changes))
	var (
		once  sync.Once
		first error
	)
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(e.parallel)
	for i, c := range changes {
		if c.Action == Keep {
			states[i] = *c.Prior
			continue
		}
		group.Go(func() error {
			if gctx.Err() != nil {
				return nil // never started: nothing to report and nothing to undo
			}
			touched[i] = true
			state, err := call(gctx, e, string(c.Action), c.Unit, func(ctx context.Context) (faas.State, error) {
				return e.exec.Converge(ctx, c.Unit, c.Prior, func(p faas.Progress) {
					e.report(Step{Verb: string(c.Action), UnitID: c.Unit.ID, JobIDs: jobIDs(c.Unit), Progress: &p})
				})
			})
			states[i] = state
			if err != nil {
				errs[i] = e.wrap("deploy", c.Unit, err)
				once.Do(func() { first = errs[i] })
			}
			return errs[i]
		})
	}
	if group.Wait() == nil && ctx.Err() == nil {
		return states, nil
	}
	if first == nil {
		first = faas.Errorf(faas.ErrTimeout, "deploy", e.provider, "cancelled: %w", context.Cause(ctx))
	}
	leftovers := e.rollback(ctx, changes, touched)
	return nil, failure(e.provider, first, errs, leftovers)
}

// rollback undoes the touched changes and returns what could not be undone.
func (e *Engine) rollback(ctx context.Context, changes []Change, touched []bool) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	var (
		mu        sync.Mutex
		leftovers []string
		group     errgroup.Group
	)
	group.SetLimit(e.parallel)
	for i, c := range changes {
		if !touched[i] {
			continue
		}
		group.Go(func() error {
			var left string
			if c.Prior == nil {
				if err := e.remove(ctx, c.Unit); err != nil {
					left = fmt.Sprintf("%s (created, could not be removed: %v)", c.Unit.ID, err)
				}
			} else {
				_, err := call(ctx, e, "restore", c.Unit, func(ctx context.Context) (struct{}, error) {
					return struct{}{}, e.exec.Restore(ctx, faas.Unit{ID: c.Unit.ID}, *c.Prior)
				})
				if err != nil {
					left = fmt.Sprintf("%s (updated, could not be put back: %v)", c.Unit.ID, err)
				}
			}
			if left != "" {
				mu.Lock()
				defer mu.Unlock()
				leftovers = append(leftovers, left)
			}
			return nil
		})
	}
	_ = group.Wait() // the functions return nil
	slices.Sort(leftovers)
	return leftovers
}

// Remove removes the units, all of them even if one fails. The error lists what is left.
func (e *Engine) Remove(ctx context.Context, units []faas.Unit) error {
	errs := make([]error, len(units))
	var group errgroup.Group
	group.SetLimit(e.parallel)
	for i, unit := range units {
		group.Go(func() error {
			errs[i] = e.remove(ctx, unit)
			return nil
		})
	}
	_ = group.Wait() // the functions return nil
	var (
		first     error
		leftovers []string
	)
	for i, err := range errs {
		if err == nil {
			continue
		}
		leftovers = append(leftovers, units[i].ID)
		if first == nil {
			first = e.wrap("remove", units[i], err)
		}
	}
	if first == nil {
		return nil
	}
	return failure(e.provider, first, errs, leftovers)
}

func (e *Engine) remove(ctx context.Context, unit faas.Unit) error {
	_, err := call(ctx, e, string(Remove), unit, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, e.exec.Remove(ctx, unit.ID)
	})
	if faas.CodeOf(err) == faas.ErrNotFound {
		return nil
	}
	return err
}

// call runs one provider call between its two steps, again after the provider throttled.
func call[T any](ctx context.Context, e *Engine, verb string, unit faas.Unit, f func(context.Context) (T, error)) (T, error) {
	start := time.Now()
	step := Step{Verb: verb, UnitID: unit.ID, JobIDs: jobIDs(unit), Attempt: 1}
	e.report(step)
	var (
		out T
		err error
	)
	for ; ; step.Attempt++ {
		if err = e.gate.wait(ctx); err != nil {
			break
		}
		sent := time.Now()
		out, err = f(ctx)
		if !e.gate.again(err, sent, step.Attempt) {
			break
		}
	}
	step.Done, step.Duration, step.Err = true, time.Since(start), err
	e.report(step)
	return out, err
}

// wrap gives err the job it concerns, keeping its code, and its cause for errors.As.
func (e *Engine) wrap(op string, unit faas.Unit, err error) error {
	job := faas.NoJob
	if len(unit.Functions) == 1 {
		job = int64(unit.Functions[0].JobID)
	}
	var fe *faas.Error
	if errors.As(err, &fe) {
		if fe.JobID >= 0 || job == faas.NoJob {
			return err
		}
		named := *fe
		named.JobID = job
		return &named
	}
	return &faas.Error{Op: op, Provider: e.provider, JobID: job, Code: faas.CodeOf(err), Err: err}
}

// failure is the error of a whole operation: the first cause, then what else failed, then what was left behind.
func failure(provider string, first error, errs []error, leftovers []string) error {
	out := &faas.Error{Op: "deploy", Provider: provider, JobID: faas.NoJob, Code: faas.CodeOf(first), Err: first, Leftovers: leftovers}
	var fe *faas.Error
	if errors.As(first, &fe) {
		out.Op, out.JobID, out.RetryAfter = fe.Op, fe.JobID, fe.RetryAfter
		out.Err = fe.Err
		if fe.Err == nil {
			out.Err = fe.Code
		}
	}
	others := []error{out.Err}
	for _, err := range errs {
		// What was merely cancelled because another failed says nothing of its own.
		if err != nil && err != first && !errors.Is(err, context.Canceled) {
			others = append(others, err)
		}
	}
	if len(others) > 1 {
		out.Err = errors.Join(others...)
	}
	return out
}

func jobIDs(unit faas.Unit) []uint32 {
	ids := make([]uint32, len(unit.Functions))
	for i, f := range unit.Functions {
		ids[i] = f.JobID
	}
	return ids
}
