package otelfaas

import (
	"context"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// Events returns a listener for [serverless.WithEvents] that makes spans and metrics of the events
// of one service. The spans are children of the one in ctx and cover whole operations: calls
// repeated because the provider throttled, and the time that an operation waited for its turn, are
// in them.
func (t *Telemetry) Events(ctx context.Context, service string) func(serverless.Event) {
	l := &listener{t: t, ctx: measuring(ctx), service: serviceKey.String(service), open: map[operation]*started{}}
	return l.event
}

// listener makes spans of events.
type listener struct {
	t       *Telemetry
	ctx     context.Context
	service attribute.KeyValue

	mu   sync.Mutex
	open map[operation]*started
}

// operation identifies the started and the ended event of one operation.
type operation struct {
	phase        serverless.Phase
	action, unit string
}

type started struct {
	span  trace.Span
	bytes int64
}

func (l *listener) event(e serverless.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := operation{e.Phase, e.Action, e.Unit}
	switch e.Kind {
	case serverless.EventStarted:
		l.open[key] = &started{span: l.start(e)}
	case serverless.EventProgress:
		if s := l.open[key]; s != nil {
			s.bytes = max(s.bytes, e.Bytes)
			s.span.AddEvent(e.Step, trace.WithTimestamp(e.Time),
				trace.WithAttributes(stepKey.String(e.Step), bytesKey.Int64(e.Bytes), totalKey.Int64(e.TotalBytes)))
		}
	case serverless.EventEnded:
		s := l.open[key]
		if s == nil { // it started before anybody listened
			s = &started{span: l.start(e)}
		}
		delete(l.open, key)
		l.ended(e, s)
	}
}

func (l *listener) start(e serverless.Event) trace.Span {
	attrs := []attribute.KeyValue{l.service, phaseKey.String(string(e.Phase))}
	name := "blueprint " + string(e.Phase)
	if e.Action != "" {
		name += " " + e.Action
		attrs = append(attrs, actionKey.String(e.Action))
	}
	if e.Unit != "" {
		attrs = append(attrs, unitKey.String(e.Unit))
	}
	if len(e.JobIDs) > 0 {
		jobs := make([]int64, len(e.JobIDs))
		for i, id := range e.JobIDs {
			jobs[i] = int64(id)
		}
		attrs = append(attrs, jobsKey.Int64Slice(jobs))
	}
	_, span := l.t.tracer.Start(l.ctx, name, trace.WithTimestamp(e.Time.Add(-e.Duration)), trace.WithAttributes(attrs...))
	return span
}

func (l *listener) ended(e serverless.Event, s *started) {
	err := e.Err
	if e.Phase == serverless.PhaseObserve && faas.CodeOf(err) == faas.ErrNotFound {
		err = nil // that there is nothing is an answer
	}
	if e.Attempt > 1 {
		s.span.SetAttributes(attemptKey.Int(e.Attempt))
		l.t.throttles.Add(l.ctx, int64(e.Attempt-1), metric.WithAttributes(l.service))
	}
	end(s.span, err, trace.WithTimestamp(e.Time))
	if e.Phase != serverless.PhaseFunction {
		l.t.phaseSeconds.Record(l.ctx, e.Duration.Seconds(), outcome(err, l.service, phaseKey.String(string(e.Phase))))
		return
	}
	action := actionKey.String(e.Action)
	l.t.changes.Add(l.ctx, 1, outcome(err, l.service, action))
	l.t.changeSeconds.Record(l.ctx, e.Duration.Seconds(), outcome(err, l.service, action))
	if s.bytes > 0 {
		l.t.uploaded.Add(l.ctx, s.bytes, metric.WithAttributes(l.service))
	}
}
