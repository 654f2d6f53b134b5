package faastest

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Faulty returns an executor that passes every call on to exec, except those that the script
// makes fail. Units and Close always pass.
func Faulty(exec faas.Executor, s Script) faas.Executor { return newFaulty(exec, s, &memories{}) }

// newFaulty is Faulty with the memories of the service's other executors.
func newFaulty(exec faas.Executor, s Script, past *memories) faas.Executor {
	return &faulty{Executor: exec, script: script{decide: s}, past: past}
}

// faultyProvider is the provider name in errors that a Faulty executor makes itself.
const faultyProvider = "faulty"

type faulty struct {
	faas.Executor
	script script
	past   *memories
}

// memories hold what reads have returned, without repetitions, and the changes that are still
// under way.
type memories struct {
	mu     sync.Mutex
	reads  map[string][]memory // by unit, the last one last
	ghosts map[string]bool     // units that a read has returned after they were gone
	late   sync.WaitGroup      // changes that have not taken effect yet
}

// memory is one answer: nil for a unit that was not found.
type memory struct{ state *faas.State }

func (m memory) same(other memory) bool {
	a, b := m.state, other.state
	if a == nil || b == nil {
		return a == b
	}
	return a.Status == b.Status && a.Revision == b.Revision && a.PackageSHA256 == b.PackageSHA256 &&
		a.Fingerprint == b.Fingerprint
}

// add records an answer and returns the one before it; if there is none, that of a unit that was
// not found. It returns the old state of a unit that is gone only once: nobody can be expected to
// doubt for longer that the unit exists.
func (m *memories) add(id string, now memory) (before memory) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reads == nil {
		m.reads, m.ghosts = map[string][]memory{}, map[string]bool{}
	}
	if seen := m.reads[id]; len(seen) == 0 || !seen[len(seen)-1].same(now) {
		m.reads[id] = append(seen, now)
		delete(m.ghosts, id)
	}
	if seen := m.reads[id]; len(seen) > 1 && !m.ghosts[id] {
		return seen[len(seen)-2]
	}
	return now
}

// Unwrap returns the executor that the calls are passed on to.
func (f *faulty) Unwrap() faas.Executor { return f.Executor }

// inject makes a call with the fault that the script wants for it, if any.
func (f *faulty) inject(ctx context.Context, c Call, call func(context.Context) error) error {
	return f.strike(ctx, c, f.script.fault(c), call)
}

func (f *faulty) strike(ctx context.Context, c Call, fault *Fault, call func(context.Context) error) error {
	if fault != nil && fault.Kind == Late && c.Op.Writes() {
		ctx := context.WithoutCancel(ctx)
		f.past.late.Add(1)
		time.AfterFunc(fault.Delay, func() {
			defer f.past.late.Done()
			_ = call(ctx) // nobody is there any more to take the answer
		})
		return fault.error(c, faultyProvider)
	}
	if err := fault.strike(ctx, c, faultyProvider); err != nil {
		return err
	}
	return fault.after(c, faultyProvider, call(ctx))
}

func (f *faulty) Observe(ctx context.Context, id string) (s faas.State, err error) {
	c := Call{Op: OpObserve, Unit: id, Job: faas.NoJob}
	fault := f.script.fault(c)
	err = f.strike(ctx, c, fault, func(ctx context.Context) error { s, err = f.Executor.Observe(ctx, id); return err })
	var now memory
	switch {
	case err == nil:
		state := s // s changes when this returns
		now.state = &state
	case faas.CodeOf(err) != faas.ErrNotFound:
		return s, err
	}
	answer := f.past.add(id, now)
	if fault != nil && fault.Kind == Stale && now.state == nil {
		f.past.told(id)
	}
	switch {
	case fault == nil || !fault.Kind.of(Missing, Stale):
		return s, err
	case fault.Kind == Missing || answer.state == nil:
		return faas.State{}, faas.Errorf(faas.ErrNotFound, string(c.Op), faultyProvider, "injected fault: %s", fault.Kind)
	}
	return *answer.state, nil
}

// told records that a read has returned a unit that is gone.
func (m *memories) told(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ghosts[id] = true
}

func (f *faulty) Converge(ctx context.Context, u faas.Unit, prior *faas.State, report func(faas.Progress)) (faas.State,
	error) {
	var (
		mu    sync.Mutex // a late call ends after this one has
		state faas.State
	)
	c := Call{Op: OpConverge, Unit: u.ID, Job: faas.NoJob}
	fault := f.script.fault(c)
	if fault != nil && fault.Kind == Late {
		report = nil // it must not be called once Converge has returned
	}
	err := f.strike(ctx, c, fault, func(ctx context.Context) error {
		s, err := f.Executor.Converge(ctx, u, prior, report)
		mu.Lock()
		defer mu.Unlock()
		state = s
		return err
	})
	mu.Lock()
	defer mu.Unlock()
	return state, err
}

func (f *faulty) Restore(ctx context.Context, prior faas.State) error {
	return f.inject(ctx, Call{Op: OpRestore, Unit: prior.ID, Job: faas.NoJob},
		func(ctx context.Context) error { return f.Executor.Restore(ctx, prior) })
}

func (f *faulty) Remove(ctx context.Context, id string) error {
	return f.inject(ctx, Call{Op: OpRemove, Unit: id, Job: faas.NoJob},
		func(ctx context.Context) error { return f.Executor.Remove(ctx, id) })
}

func (f *faulty) List(ctx context.Context) (states []faas.State, err error) {
	c := Call{Op: OpList, Job: faas.NoJob}
	fault := f.script.fault(c)
	err = f.strike(ctx, c, fault, func(ctx context.Context) error { states, err = f.Executor.List(ctx); return err })
	if err != nil || fault != nil && fault.Kind == Missing {
		return nil, err
	}
	if fault != nil && fault.Kind == Stale { // without what came last
		states = states[:max(0, len(states)-1)]
	}
	return states, nil
}

func (f *faulty) Invoke(ctx context.Context, jobID uint32, args []byte) (r *faas.Result, err error) {
	err = f.inject(ctx, Call{Op: OpInvoke, Job: int64(jobID)},
		func(ctx context.Context) error { r, err = f.Executor.Invoke(ctx, jobID, args); return err })
	if err != nil {
		return nil, err
	}
	return r, nil
}

func (f *faulty) Warm(ctx context.Context, jobID uint32, n int) (warmed int, err error) {
	err = f.inject(ctx, Call{Op: OpWarm, Job: int64(jobID)},
		func(ctx context.Context) error { warmed, err = f.Executor.Warm(ctx, jobID, n); return err })
	return warmed, err
}

func (f *faulty) Health(ctx context.Context, jobID uint32) (health faas.Health, err error) {
	err = f.inject(ctx, Call{Op: OpHealth, Job: int64(jobID)},
		func(ctx context.Context) error { health, err = f.Executor.Health(ctx, jobID); return err })
	return health, err
}

// Logs fails before the first line, or after the last, if the script says so.
func (f *faulty) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	return func(yield func(faas.LogLine, error) bool) {
		left := false
		err := f.inject(ctx, Call{Op: OpLogs, Job: faas.NoJob}, func(ctx context.Context) error {
			for line, err := range f.Executor.Logs(ctx, q) {
				if err != nil {
					return err
				}
				if !yield(line, nil) {
					left = true
					return nil
				}
			}
			return nil
		})
		if err != nil && !left {
			yield(faas.LogLine{}, err)
		}
	}
}

// Diagnose returns one failed check instead of the executor's own, if the script says so.
func (f *faulty) Diagnose(ctx context.Context) (checks []faas.Check) {
	err := f.inject(ctx, Call{Op: OpDiagnose, Job: faas.NoJob},
		func(ctx context.Context) error { checks = f.Executor.Diagnose(ctx); return nil })
	if err != nil {
		return []faas.Check{{Name: "diagnose", Status: faas.CheckFailed, Detail: err.Error(), Remedy: "try again", Err: err}}
	}
	return checks
}
