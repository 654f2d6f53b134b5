// Package engine changes what a provider holds, one unit at a time on many goroutines, all or nothing. It knows executors and units, and
// nothing of policies, jobs or clouds: order, concurrency, back-off and rollback are written here once, for all providers.
package engine

import (
	"context"
	"errors"
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
	// Partial says that Prior is what an interrupted creation left, which was never whole: undoing the change means removing the unit.
	Partial bool
}

// Journal is told of every change before it is made and after. An error from it fails the change: what is not recorded is not done.
type Journal interface {
	Begin(changes []Change) error          // before the first of them
	Done(c Change, state faas.State) error // the unit is as wanted
	Undone(c Change) error                 // the unit is as it was before
	Gone(id string) error                  // the unit does not exist any more
}

// Options are what an engine can be told.
type Options struct {
	Parallel int        // units changed at a time; 0 is 8
	Report   func(Step) // called from several goroutines, one at a time
	Journal  Journal
	// KeepSucceeded makes Apply undo only the changes that failed.
	KeepSucceeded bool
}

type noJournal struct{}

func (noJournal) Begin([]Change) error          { return nil }
func (noJournal) Done(Change, faas.State) error { return nil }
func (noJournal) Undone(Change) error           { return nil }
func (noJournal) Gone(string) error             { return nil }

// Step is a moment in the work on one unit. A call begins with a step that has neither Done nor Progress, and ends with one that has Done.
type Step struct {
	Verb     string // "observe", "create", "update", "remove", "restore", "list"
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
	keep     bool
	journal  Journal
	report   func(Step)
	gate     *gate
}

// defaultParallel is how many units are changed at a time where the provider does not say.
const defaultParallel = 8

// New returns an engine for an executor of the provider.
func New(exec faas.Executor, provider string, o Options) *Engine {
	e := &Engine{exec: exec, provider: provider, parallel: o.Parallel, keep: o.KeepSucceeded, journal: o.Journal, report: func(Step) {}, gate: newGate()}
	if e.parallel <= 0 {
		e.parallel = defaultParallel
	}
	if e.journal == nil {
		e.journal = noJournal{}
	}
	if o.Report != nil {
		var mu sync.Mutex
		e.report = func(s Step) {
			mu.Lock()
			defer mu.Unlock()
			o.Report(s)
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

// Look returns what exists of every unit, nil where nothing does. It changes nothing.
func (e *Engine) Look(ctx context.Context, units []faas.Unit) ([]*faas.State, error) {
	changes, err := e.Observe(ctx, units)
	if err != nil {
		return nil, err
	}
	states := make([]*faas.State, len(changes))
	for i, c := range changes {
		states[i] = c.Prior
	}
	return states, nil
}

// List is faas.Executor.List with the engine's back-off.
func (e *Engine) List(ctx context.Context) ([]faas.State, error) {
	return call(ctx, e, "list", faas.Unit{}, e.exec.List)
}

// Apply makes every change and returns the states of the units in the order of changes. If one fails or ctx ends, what was created is removed and
// what was updated is put back, with a context of its own; the error then wraps the first cause and lists what was left behind. With
// KeepSucceeded only the failed changes are undone, and the states of the others come with the error; a failed one has an empty state.
func (e *Engine) Apply(ctx context.Context, changes []Change) ([]faas.State, error) {
	var todo []Change
	for _, c := range changes {
		if c.Action != Keep {
			todo = append(todo, c)
		}
	}
	if len(todo) > 0 {
		if err := e.journal.Begin(todo); err != nil {
			return nil, err
		}
	}
	states := make([]faas.State, len(changes))
	errs := make([]error, len(changes))
	touched := make([]bool, len(changes))
	var (
		once  sync.Once
		first error
	)
	var group *errgroup.Group
	gctx := ctx
	if e.keep {
		group = new(errgroup.Group)
	} else {
		group, gctx = errgroup.WithContext(ctx)
	}
	group.SetLimit(e.parallel)
	for i, c := range changes {
		if c.Action == Keep {
			states[i] = *c.Prior
			continue
		}
		group.Go(func() error {
			err := gctx.Err() // where it has ended, the change is never started, and needs no undoing
			if err == nil {
				touched[i] = true
				states[i], err = e.converge(gctx, c)
			}
			if err != nil {
				errs[i] = e.wrap("deploy", c.Unit, err)
				if touched[i] {
					once.Do(func() { first = errs[i] })
				}
			}
			return errs[i]
		})
	}
	failed := group.Wait() != nil
	if !failed && (ctx.Err() == nil || e.keep) {
		return states, nil
	}
	switch {
	case ctx.Err() == nil:
	case first == nil:
		first = faas.Errorf(faas.ErrTimeout, "deploy", e.provider, "cancelled: %w", context.Cause(ctx))
	case !errors.Is(first, ctx.Err()): // what failed then, failed because of it
		first = faas.Errorf(faas.ErrTimeout, "deploy", e.provider, "cancelled: %w: %w", context.Cause(ctx), first)
	}
	var undo []undoing
	for i, c := range changes {
		if c.Action == Keep || e.keep && errs[i] == nil {
			continue
		}
		states[i] = faas.State{}
		undo = append(undo, undoing{c, touched[i]})
	}
	leftovers, undoErrs := e.rollback(ctx, undo)
	if !e.keep {
		states = nil
	}
	return states, failure(e.provider, first, append(errs, undoErrs...), leftovers)
}

func (e *Engine) converge(ctx context.Context, c Change) (faas.State, error) {
	verb := string(c.Action)
	state, err := call(ctx, e, verb, c.Unit, func(ctx context.Context) (faas.State, error) {
		return e.exec.Converge(ctx, c.Unit, c.Prior, func(p faas.Progress) {
			e.report(Step{Verb: verb, UnitID: c.Unit.ID, JobIDs: jobIDs(c.Unit), Progress: &p})
		})
	})
	if err == nil {
		err = e.journal.Done(c, state)
	}
	return state, err
}

// Remove removes the units, all of them even if one fails. The error lists what is left.
func (e *Engine) Remove(ctx context.Context, units []faas.Unit) error {
	if len(units) == 0 {
		return nil
	}
	changes := make([]Change, len(units))
	for i, u := range units {
		changes[i] = Change{Action: Remove, Unit: u}
	}
	if err := e.journal.Begin(changes); err != nil {
		return err
	}
	errs := make([]error, len(units))
	var group errgroup.Group
	group.SetLimit(e.parallel)
	for i, unit := range units {
		group.Go(func() error {
			if errs[i] = e.remove(ctx, unit); errs[i] == nil {
				errs[i] = e.journal.Gone(unit.ID)
			}
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
