package faastest

import (
	"context"
	"iter"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/ability"
)

// Faulty returns an executor that passes every call on to exec, except where the script makes it go wrong. It is a Warmer, a HealthChecker, a
// LogReader and a Diagnoser where exec is. Units and Close always pass.
func Faulty(exec faas.Executor, s Script) faas.Executor {
	f := &faulty{Executor: exec, script: script{decide: s}}
	can := ability.Of(exec)
	if can.Warmer != nil {
		can.Warmer = faultyWarmer{f, can.Warmer}
	}
	if can.HealthChecker != nil {
		can.HealthChecker = faultyHealth{f, can.HealthChecker}
	}
	if can.LogReader != nil {
		can.LogReader = faultyLogs{f, can.LogReader}
	}
	if can.Diagnoser != nil {
		can.Diagnoser = faultyDiagnosis{f, can.Diagnoser}
	}
	return ability.Add(f, can)
}

// faultyProvider is the provider name in errors that a Faulty executor makes itself.
const faultyProvider = "faulty"

type faulty struct {
	faas.Executor
	script script
}

// Unwrap returns the executor that the calls are passed on to.
func (f *faulty) Unwrap() faas.Executor { return f.Executor }

// inject makes a call with the fault that the script wants for it, if any.
func (f *faulty) inject(ctx context.Context, c Call, call func() error) error {
	fault := f.script.fault(c)
	if err := fault.strike(ctx, c, faultyProvider); err != nil {
		return err
	}
	return fault.after(c, faultyProvider, call())
}

func (f *faulty) Observe(ctx context.Context, id string) (s faas.State, err error) {
	err = f.inject(ctx, Call{Op: OpObserve, Unit: id, Job: faas.NoJob}, func() error { s, err = f.Executor.Observe(ctx, id); return err })
	return s, err
}

func (f *faulty) Converge(ctx context.Context, u faas.Unit, prior *faas.State, report func(faas.Progress)) (s faas.State, err error) {
	err = f.inject(ctx, Call{Op: OpConverge, Unit: u.ID, Job: faas.NoJob}, func() error { s, err = f.Executor.Converge(ctx, u, prior, report); return err })
	return s, err
}

func (f *faulty) Restore(ctx context.Context, prior faas.State) error {
	return f.inject(ctx, Call{Op: OpRestore, Unit: prior.ID, Job: faas.NoJob}, func() error { return f.Executor.Restore(ctx, prior) })
}

func (f *faulty) Remove(ctx context.Context, id string) error {
	return f.inject(ctx, Call{Op: OpRemove, Unit: id, Job: faas.NoJob}, func() error { return f.Executor.Remove(ctx, id) })
}

func (f *faulty) List(ctx context.Context) (states []faas.State, err error) {
	err = f.inject(ctx, Call{Op: OpList, Job: faas.NoJob}, func() error { states, err = f.Executor.List(ctx); return err })
	if err != nil {
		return nil, err
	}
	return states, nil
}

func (f *faulty) Invoke(ctx context.Context, jobID uint32, args []byte) (r *faas.Result, err error) {
	err = f.inject(ctx, Call{Op: OpInvoke, Job: int64(jobID)}, func() error { r, err = f.Executor.Invoke(ctx, jobID, args); return err })
	if err != nil {
		return nil, err
	}
	return r, nil
}

type faultyWarmer struct {
	f      *faulty
	warmer faas.Warmer
}

func (w faultyWarmer) Warm(ctx context.Context, jobID uint32, n int) (warmed int, err error) {
	err = w.f.inject(ctx, Call{Op: OpWarm, Job: int64(jobID)}, func() error { warmed, err = w.warmer.Warm(ctx, jobID, n); return err })
	return warmed, err
}

type faultyHealth struct {
	f       *faulty
	checker faas.HealthChecker
}

func (h faultyHealth) Health(ctx context.Context, jobID uint32) (health faas.Health, err error) {
	err = h.f.inject(ctx, Call{Op: OpHealth, Job: int64(jobID)}, func() error { health, err = h.checker.Health(ctx, jobID); return err })
	return health, err
}

type faultyLogs struct {
	f      *faulty
	reader faas.LogReader
}

// Logs fails before the first line, or after the last, where the script says so.
func (l faultyLogs) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	return func(yield func(faas.LogLine, error) bool) {
		left := false
		err := l.f.inject(ctx, Call{Op: OpLogs, Job: faas.NoJob}, func() error {
			for line, err := range l.reader.Logs(ctx, q) {
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

type faultyDiagnosis struct {
	f         *faulty
	diagnoser faas.Diagnoser
}

// Diagnose has one check that failed, in place of those of the executor, where the script says so.
func (d faultyDiagnosis) Diagnose(ctx context.Context) (checks []faas.Check) {
	err := d.f.inject(ctx, Call{Op: OpDiagnose, Job: faas.NoJob}, func() error { checks = d.diagnoser.Diagnose(ctx); return nil })
	if err != nil {
		return []faas.Check{{Name: "diagnose", Status: faas.CheckFailed, Detail: err.Error(), Remedy: "try again", Err: err}}
	}
	return checks
}
