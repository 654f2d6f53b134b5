// Package engine changes what a provider holds, unit by unit on many goroutines, all or nothing. It
// knows executors and units, and nothing of policies, jobs or clouds. Order, concurrency, back-off
// and rollback are written here once, for all providers.
package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// Change is a wanted unit, what exists of it, and what has to be done.
type Change struct {
	Action Action
	Unit   faas.Unit
	Prior  *faas.State // nil: nothing exists
	// Recorded is the state that the ledger records; nil if the unit was never whole. Undoing a change
	// never removes a recorded unit, whatever the provider says of it.
	Recorded *faas.State
	// NeverWhole says that Prior is what an interrupted creation left. The unit was never whole, so
	// that undoing the change means removing it.
	NeverWhole bool
}

// Journal is told of every change before it is made and afterwards. An error from it fails the
// change: a change that cannot be recorded is not made.
type Journal interface {
	Begin(changes []Change) error          // before the first of them
	Done(c Change, state faas.State) error // the unit is as wanted
	Undoing(changes []Change) error        // before they are undone, even those that were done
	Undone(c Change) error                 // the unit is put back, or removed if nothing existed before
	Unmade(c Change) error                 // the change began and changed nothing
	// Found tells that a creation failed because the unit existed before. What became of it is not
	// known.
	Found(c Change) error
	Gone(id string) error // the unit no longer exists
}

// Options configure an engine.
type Options struct {
	Parallel int        // units changed at a time; 0 is 8
	Report   func(Step) // called from several goroutines, one at a time
	Journal  Journal
	// KeepSucceeded makes Apply undo only the changes that failed.
	KeepSucceeded bool
	// Patience is how long Observe and Look keep asking for a unit that is recorded and that the
	// provider does not find, before they believe that it is gone. 0 is 30 s. The pauses between the
	// attempts of an undo are fractions of it.
	Patience time.Duration
}

type noJournal struct{}

func (noJournal) Begin([]Change) error          { return nil }
func (noJournal) Done(Change, faas.State) error { return nil }
func (noJournal) Undoing([]Change) error        { return nil }
func (noJournal) Undone(Change) error           { return nil }
func (noJournal) Unmade(Change) error           { return nil }
func (noJournal) Found(Change) error            { return nil }
func (noJournal) Gone(string) error             { return nil }

// Step is a moment in the work on one unit. The first step of a call has neither Done, Progress nor
// RetryIn; the last one has Done.
type Step struct {
	Verb     string // "observe", "create", "update", "remove", "restore", "list"
	UnitID   string
	JobIDs   []uint32
	Done     bool
	Attempt  int // from 1; greater after a pause
	Progress *faas.Progress
	RetryIn  time.Duration // the length of the pause that begins; Err says why
	Duration time.Duration // when Done
	Err      error         // when Done or RetryIn
}

// Engine works on the units of one executor.
type Engine struct {
	exec     faas.Executor
	provider string
	parallel int
	keep     bool
	journal  Journal
	report   func(Step)
	patience time.Duration
	throttle *throttle
	slots    chan struct{} // one for each concurrent call
}

// The defaults of the options.
const (
	defaultParallel = 8
	defaultPatience = 30 * time.Second
)

// New returns an engine for an executor of the provider.
func New(exec faas.Executor, provider string, o Options) *Engine {
	e := &Engine{
		exec: exec, provider: provider, parallel: o.Parallel, keep: o.KeepSucceeded, journal: o.Journal,
		report:   func(Step) {},
		patience: cmp.Or(o.Patience, defaultPatience), throttle: newThrottle(),
	}
	if e.parallel <= 0 {
		e.parallel = defaultParallel
	}
	e.slots = make(chan struct{}, e.parallel)
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

// Observe returns for every unit what has to be done. It changes nothing. recorded holds, by ID,
// the units that the ledger records as whole.
//
// If the provider does not find a recorded unit, or returns a state from before it was recorded,
// Observe asks again until Options.Patience is over, because a cloud's reads can be minutes behind
// its writes. If it finds a unit that is not recorded, or is recorded as pending because its
// removal began, Observe asks once more, because the unit may just have been removed. It asks for
// all units at the same time. A unit that is both recorded and found, or neither, costs one read.
//
// If the revision is still the recorded one, Observe takes from the record what the provider does
// not tell of code and configuration.
func (e *Engine) Observe(ctx context.Context, units []faas.Unit, recorded map[string]faas.State) ([]Change, error) {
	changes := make([]Change, len(units))
	group, ctx := errgroup.WithContext(ctx)
	for i, unit := range units {
		group.Go(func() error {
			c := Change{Action: Create, Unit: unit}
			known := recorded[unit.ID]
			if known.ID != "" && known.Status != faas.StatusPending {
				c.Recorded = &known
			}
			state, err := e.look(ctx, unit, known)
			switch {
			case faas.CodeOf(err) == faas.ErrNotFound:
			case err != nil:
				return e.wrap("observe", unit, err)
			case state.Current(unit):
				c.Action, c.Prior = Keep, &state
			default:
				c.Action, c.Prior = Update, &state
			}
			changes[i] = c
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return changes, nil
}

// look observes one unit, and again as long as the provider contradicts the record and patience
// lasts. recorded is the zero State if the unit is not recorded.
func (e *Engine) look(ctx context.Context, unit faas.Unit, recorded faas.State) (faas.State, error) {
	whole := recorded.ID != "" && recorded.Status != faas.StatusPending
	left, pause, looks := e.patience, e.patience/60, 0
	return call(ctx, e, "observe", unit, reads, func(ctx context.Context) (faas.State, error) {
		state, err := e.exec.Observe(ctx, unit.ID)
		if state.Revision != "" && state.Revision == recorded.Revision {
			// It has not changed since, so the record has what the provider does not tell.
			state.PackageSHA256 = cmp.Or(state.PackageSHA256, recorded.PackageSHA256)
			state.Fingerprint = cmp.Or(state.Fingerprint, recorded.Fingerprint)
		}
		return state, err
	}, func(state faas.State, err error) (time.Duration, error) {
		looks++
		switch {
		case !whole && err == nil && looks == 1:
			return pause, errors.New("the provider finds it, and it is not recorded as whole")
		case whole && faas.CodeOf(err) == faas.ErrNotFound:
			err = fmt.Errorf("it was deployed, and the provider does not find it: %w", err)
		case err == nil && state.DeployedAt.Before(recorded.DeployedAt) && !state.DeployedAt.IsZero():
			err = fmt.Errorf("it was deployed at %s, and the provider reports %s", recorded.DeployedAt, state.DeployedAt)
		default:
			return 0, nil
		}
		next := min(pause, left)
		left, pause = left-next, 2*pause
		return next, err
	})
}

// Look returns the state of every unit, nil for one that does not exist. It asks as Observe does.
func (e *Engine) Look(ctx context.Context, units []faas.Unit, recorded map[string]faas.State) ([]*faas.State, error) {
	changes, err := e.Observe(ctx, units, recorded)
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
	return call(ctx, e, "list", faas.Unit{}, reads, e.exec.List, nil)
}

// Apply makes every change and returns the states of the units in the order of changes.
//
// If a change fails or ctx ends, Apply removes what it created and puts back what it updated, with
// a context of its own. The error wraps the first cause and lists what was left behind. Apply does
// not remove a unit that existed before, by the ledger or by what Converge found, even if its
// change was a Create: it leaves the unit as it is, and lists it. The same holds for a unit that
// Converge can continue with (faas.Error.Resumable).
//
// With KeepSucceeded, Apply undoes only the failed changes, and returns the states of the others
// beside the error; a failed change has an empty state.
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
	undos := make([]undoing, len(changes))
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
			err := gctx.Err() // a change that never started needs no undoing
			started := err == nil
			if started {
				states[i], err = e.converge(gctx, c, &undos[i])
			}
			if err != nil {
				errs[i] = e.wrap("deploy", c.Unit, err)
				if started {
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
	case !errors.Is(first, ctx.Err()): // it failed because ctx ended
		first = faas.Errorf(faas.ErrTimeout, "deploy", e.provider, "cancelled: %w: %w", context.Cause(ctx), first)
	}
	var undo []undoing
	for i, c := range changes {
		if c.Action == Keep || e.keep && errs[i] == nil {
			continue
		}
		states[i], undos[i].Change = faas.State{}, c
		undo = append(undo, undos[i])
	}
	leftovers, undoErrs := e.rollback(ctx, undo)
	if !e.keep {
		states = nil
	}
	return states, failure(e.provider, first, append(errs, undoErrs...), leftovers)
}

// converge makes one change, and records in u what an undo needs to know.
func (e *Engine) converge(ctx context.Context, c Change, u *undoing) (faas.State, error) {
	verb := string(c.Action)
	state, err := call(ctx, e, verb, c.Unit, writes, func(ctx context.Context) (faas.State, error) {
		state, err := e.exec.Converge(ctx, c.Unit, c.Prior, func(p faas.Progress) {
			e.report(Step{Verb: verb, UnitID: c.Unit.ID, JobIDs: jobIDs(c.Unit), Progress: &p})
		})
		var fe *faas.Error
		refused := errors.As(err, &fe) && fe.NotRun
		u.begun = u.begun || !refused || c.NeverWhole // a unit that was never whole is removed anyway
		u.failed = err != nil
		u.existed = u.existed || c.Prior == nil && state.Existed
		u.unsettled = fe != nil && fe.Unsettled
		u.resumable = fe != nil && fe.Resumable && (c.Prior == nil || c.NeverWhole) && c.Recorded == nil
		return state, err
	}, nil)
	switch {
	case err == nil:
		if c.Unit.Package != nil { // the provider need not repeat what it was given
			state.PackageSHA256 = cmp.Or(state.PackageSHA256, c.Unit.Package.SHA256())
			state.Fingerprint = cmp.Or(state.Fingerprint, c.Unit.Fingerprint())
		}
		err = e.journal.Done(c, state)
	case u.existed && c.Recorded == nil:
		err = errors.Join(err, e.journal.Found(c))
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
	_, err := call(ctx, e, string(Remove), unit, writes, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, e.exec.Remove(ctx, unit.ID)
	}, nil)
	return err
}

// call makes one provider call, and reports its steps. It repeats the call if the provider
// throttles it, as often as the limit allows, and after each pause that again asks for with a
// reason; again may be nil. If ctx ends during such a pause, or during a call that follows one, the
// error is an ErrTimeout that wraps the reason and then ctx's error.
func call[T any](ctx context.Context, e *Engine, verb string, unit faas.Unit, l limit,
	f func(context.Context) (T, error), again func(T, error) (time.Duration, error)) (T, error) {
	start := time.Now()
	step := Step{Verb: verb, UnitID: unit.ID, JobIDs: jobIDs(unit), Attempt: 1}
	e.report(step)
	var reason error // for the last pause
	out, err := func() (out T, err error) {
		for ; ; step.Attempt++ {
			var sent time.Time
			if out, sent, err = pass(ctx, e, f); sent.IsZero() {
				return out, err
			}
			pause, repeat := e.throttle.again(err, sent, step.Attempt, l)
			why := err
			if !repeat && again != nil {
				pause, why = again(out, err)
				repeat = pause > 0
			}
			if !repeat {
				return out, err
			}
			reason = why
			paused := step
			paused.RetryIn, paused.Err = pause, why
			e.report(paused)
			if err := sleep(ctx, pause); err != nil {
				return out, err
			}
		}
	}()
	switch code := faas.CodeOf(err); {
	case code == faas.ErrTimeout && reason != nil && ctx.Err() != nil:
		err = e.gaveUp(code, verb, reason, "%w; gave up waiting to try again: %w", reason, err)
	case code == faas.ErrThrottled && step.Attempt > 1:
		err = e.gaveUp(code, verb, err, "refused %d times in %s: %w", step.Attempt, time.Since(start).Round(time.Second), err)
	}
	step.Done, step.Duration, step.Err = true, time.Since(start), err
	e.report(step)
	return out, err
}

// pass makes a call once the throttle allows it, with as many others at the same time as the
// provider allows. sent is zero if ctx ended before the call.
func pass[T any](ctx context.Context, e *Engine, f func(context.Context) (T, error)) (out T, sent time.Time,
	err error) {
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	case <-ctx.Done():
		return out, sent, ctx.Err()
	}
	if err := e.throttle.wait(ctx); err != nil {
		return out, sent, err
	}
	sent = time.Now()
	out, err = f(ctx)
	return out, sent, err
}

// gaveUp is the error of a call that is given up for a reason.
func (e *Engine) gaveUp(code faas.Code, verb string, reason error, format string, args ...any) error {
	out := faas.Errorf(code, verb, e.provider, format, args...)
	var fe *faas.Error
	if errors.As(reason, &fe) {
		out.JobID, out.RetryAfter = fe.JobID, fe.RetryAfter
	}
	return out
}

// wrap adds the job to err. It keeps the code, and what err wraps.
func (e *Engine) wrap(op string, unit faas.Unit, err error) error {
	job := faas.NoJob
	if len(unit.Functions) == 1 {
		job = int64(unit.Functions[0].JobID)
	}
	if fe, ok := err.(*faas.Error); ok { // not errors.As, which would lose what wraps it
		if fe.JobID >= 0 || job == faas.NoJob {
			return err
		}
		named := *fe
		named.JobID = job
		return &named
	}
	out := &faas.Error{Op: op, Provider: e.provider, JobID: job, Code: faas.CodeOf(err), Err: err}
	var fe *faas.Error
	if errors.As(err, &fe) {
		out.RetryAfter, out.Leftovers, out.Unsettled = fe.RetryAfter, fe.Leftovers, fe.Unsettled
	}
	return out
}

// failure is the error of a whole operation: the first cause, what else failed, and what was left
// behind.
func failure(provider string, first error, errs []error, leftovers []string) error {
	out := &faas.Error{Op: "deploy", Provider: provider, JobID: faas.NoJob, Code: faas.CodeOf(first), Err: first,
		Leftovers: leftovers}
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
		// A change that was cancelled because another one failed adds nothing.
		if err != nil && !errors.Is(first, err) && !errors.Is(err, context.Canceled) {
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
