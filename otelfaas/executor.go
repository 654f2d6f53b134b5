package otelfaas

import (
	"context"
	"iter"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Executor returns an executor that passes every call on to exec within a span, a child of the one
// in the call's context, and measures invocations. cfg is the configuration that exec was opened
// with; only its Provider, Service and Region are recorded.
func (t *Telemetry) Executor(exec faas.Executor, cfg faas.Config) faas.Executor {
	e := &executor{Executor: exec, t: t, units: map[uint32]string{}}
	e.attrs = append(e.attrs, invokedProviderKey.String(provider(cfg.Provider)))
	if cfg.Region != "" {
		e.attrs = append(e.attrs, invokedRegionKey.String(cfg.Region))
	}
	if cfg.Service != "" {
		e.attrs = append(e.attrs, serviceKey.String(cfg.Service))
	}
	return e
}

// executor is the type that Telemetry.Executor returns. Units and Close are promoted.
type executor struct {
	faas.Executor
	t     *Telemetry
	attrs []attribute.KeyValue

	mu    sync.RWMutex
	units map[uint32]string // the unit of each job, as far as calls have told
}

// Unwrap returns the executor that the calls go to.
func (e *executor) Unwrap() faas.Executor { return e.Executor }

func (e *executor) learn(unit string, jobs []uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range jobs {
		e.units[id] = unit
	}
}

// with returns the attributes common to all calls, followed by more.
func (e *executor) with(more ...attribute.KeyValue) []attribute.KeyValue {
	return append(append(make([]attribute.KeyValue, 0, len(e.attrs)+len(more)+1), e.attrs...), more...)
}

// ofJob returns the attributes of a call for one job.
func (e *executor) ofJob(jobID uint32) []attribute.KeyValue {
	attrs := e.with(jobKey.Int64(int64(jobID)))
	e.mu.RLock()
	defer e.mu.RUnlock()
	if unit := e.units[jobID]; unit != "" {
		attrs = append(attrs, invokedNameKey.String(unit))
	}
	return attrs
}

// call makes a call within a span.
func (e *executor) call(ctx context.Context, name string, attrs []attribute.KeyValue,
	f func(context.Context, trace.Span) error) error {
	ctx, span := e.t.tracer.Start(ctx, "faas "+name, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attrs...))
	err := f(ctx, span)
	end(span, err)
	return err
}

// Observe passes the call on. A unit that does not exist is not an error of the span.
func (e *executor) Observe(ctx context.Context, id string) (s faas.State, err error) {
	_ = e.call(ctx, "observe", e.with(unitKey.String(id)), func(ctx context.Context, _ trace.Span) error {
		if s, err = e.Executor.Observe(ctx, id); faas.CodeOf(err) == faas.ErrNotFound {
			return nil
		}
		e.learn(id, s.JobIDs)
		return err
	})
	return s, err
}

// Converge passes the call on.
func (e *executor) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (s faas.State, err error) {
	jobs := make([]int64, len(u.Functions))
	ids := make([]uint32, len(u.Functions))
	for i, f := range u.Functions {
		jobs[i], ids[i] = int64(f.JobID), f.JobID
	}
	err = e.call(ctx, "converge", e.with(unitKey.String(u.ID), jobsKey.Int64Slice(jobs)),
		func(ctx context.Context, span trace.Span) (err error) {
			if u.Package != nil {
				span.SetAttributes(totalKey.Int64(u.Package.Size()))
			}
			s, err = e.Executor.Converge(ctx, u, prior, report)
			return err
		})
	if err == nil {
		e.learn(u.ID, ids)
	}
	return s, err
}

// Restore passes the call on.
func (e *executor) Restore(ctx context.Context, prior faas.State) error {
	return e.call(ctx, "restore", e.with(unitKey.String(prior.ID)),
		func(ctx context.Context, _ trace.Span) error { return e.Executor.Restore(ctx, prior) })
}

// Remove passes the call on.
func (e *executor) Remove(ctx context.Context, id string) error {
	return e.call(ctx, "remove", e.with(unitKey.String(id)),
		func(ctx context.Context, _ trace.Span) error { return e.Executor.Remove(ctx, id) })
}

// List passes the call on.
func (e *executor) List(ctx context.Context) (states []faas.State, err error) {
	err = e.call(ctx, "list", e.with(), func(ctx context.Context, _ trace.Span) (err error) {
		states, err = e.Executor.List(ctx)
		return err
	})
	return states, err
}

// Invoke passes the call on and measures it.
func (e *executor) Invoke(ctx context.Context, jobID uint32, args []byte) (r *faas.Result, err error) {
	attrs := e.ofJob(jobID)
	began := time.Now()
	err = e.call(ctx, "invoke", attrs, func(ctx context.Context, span trace.Span) (err error) {
		r, err = e.Executor.Invoke(ctx, jobID, args)
		if err == nil && r.Metrics.ColdStart {
			span.SetAttributes(coldStartKey.Bool(true))
		}
		return err
	})
	e.measure(measuring(ctx), attrs, time.Since(began), len(args), r, err)
	return r, err
}

func (e *executor) measure(ctx context.Context, attrs []attribute.KeyValue, took time.Duration, sent int,
	r *faas.Result, err error) {
	t, plain := e.t, metric.WithAttributes(attrs...)
	t.invokeSeconds.Record(ctx, took.Seconds(), outcome(err, attrs...))
	if err != nil {
		t.errors.Add(ctx, 1, outcome(err, attrs...))
		if faas.CodeOf(err) == faas.ErrTimeout {
			t.timeouts.Add(ctx, 1, plain)
		}
		return
	}
	t.invocations.Add(ctx, 1, plain)
	t.io.Add(ctx, int64(sent), plain, metric.WithAttributes(directionKey.String("transmit")))
	t.io.Add(ctx, int64(len(r.Output)), plain, metric.WithAttributes(directionKey.String("receive")))
	if m := r.Metrics; m.ColdStart {
		t.coldStarts.Add(ctx, 1, plain)
		if m.Init > 0 {
			t.initSeconds.Record(ctx, m.Init.Seconds(), plain)
		}
	}
	if r.Metrics.MemoryMB > 0 {
		t.memory.Record(ctx, int64(r.Metrics.MemoryMB)<<20, plain)
	}
}

// Warm passes the call on.
func (e *executor) Warm(ctx context.Context, jobID uint32, n int) (warmed int, err error) {
	err = e.call(ctx, "warm", e.ofJob(jobID), func(ctx context.Context, _ trace.Span) (err error) {
		warmed, err = e.Executor.Warm(ctx, jobID, n)
		return err
	})
	return warmed, err
}

// Health passes the call on.
func (e *executor) Health(ctx context.Context, jobID uint32) (h faas.Health, err error) {
	err = e.call(ctx, "health", e.ofJob(jobID), func(ctx context.Context, _ trace.Span) (err error) {
		h, err = e.Executor.Health(ctx, jobID)
		return err
	})
	return h, err
}

// Logs passes the call on, within a span that lasts until the caller leaves the loop. Leaving it is
// not an error of the span.
func (e *executor) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	return func(yield func(faas.LogLine, error) bool) {
		jobs := make([]int64, len(q.JobIDs))
		for i, id := range q.JobIDs {
			jobs[i] = int64(id)
		}
		_ = e.call(ctx, "logs", e.with(jobsKey.Int64Slice(jobs)), func(ctx context.Context, _ trace.Span) (failed error) {
			for line, err := range e.Executor.Logs(ctx, q) {
				if err != nil && ctx.Err() == nil {
					failed = err
				}
				if !yield(line, err) {
					break
				}
			}
			return failed
		})
	}
}

// Diagnose passes the call on. Findings are not errors of the span.
func (e *executor) Diagnose(ctx context.Context) (checks []faas.Check) {
	_ = e.call(ctx, "diagnose", e.with(), func(ctx context.Context, _ trace.Span) error {
		checks = e.Executor.Diagnose(ctx)
		return nil
	})
	return checks
}
