// Package otelrunner makes OpenTelemetry traces and metrics of a runner's events. It uses only the
// API: without an SDK in the program, it does next to nothing. Only programs that import it link
// it.
//
//	tel, err := otelrunner.New()
//	runner.Main(handlers, runner.WithEvents(tel.Events(ctx)))
//
// Each call that the runner finds becomes a span "blueprint call", from when it was found until it
// ended. Its children are "blueprint run", for each invocation, and "blueprint submit", from the
// answer until the end. Inputs and outputs are never recorded.
//
// Metrics:
//
//   - blueprint.runner.calls counts calls that ended, by job and outcome
//   - blueprint.runner.run.duration (s), of the invocations that answered, by job
//   - blueprint.runner.result.duration (s), from a call's block to its result's, by job
//   - blueprint.runner.gas counts the gas of mined transactions, and blueprint.runner.cost the wei
//     that it cost
//   - blueprint.runner.incidents counts the other events that an operator may have to act on, by
//     kind: a node that fails, a reorganization, a pause, a low balance, a foreign nonce, a wait, a
//     heartbeat that failed
package otelrunner

import (
	"context"
	"errors"
	"math/big"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/runner"
)

// scope names this instrumentation.
const scope = "github.com/tangle-network/blueprint-serverless/runner/otelrunner"

const (
	serviceKey = attribute.Key("blueprint.service_id")
	callKey    = attribute.Key("blueprint.call_id")
	jobKey     = attribute.Key("blueprint.job_id")
	blockKey   = attribute.Key("blueprint.block")
	outcomeKey = attribute.Key("blueprint.outcome")
	kindKey    = attribute.Key("blueprint.event")
	reasonKey  = attribute.Key("blueprint.reason")
	txKey      = attribute.Key("blueprint.transaction")
)

// Option configures [New].
type Option func(*options)

type options struct {
	tracers trace.TracerProvider
	meters  metric.MeterProvider
}

// WithTracerProvider sets the provider of spans. The default is the global one.
func WithTracerProvider(p trace.TracerProvider) Option { return func(o *options) { o.tracers = p } }

// WithMeterProvider sets the provider of metrics. The default is the global one.
func WithMeterProvider(p metric.MeterProvider) Option { return func(o *options) { o.meters = p } }

// Telemetry makes spans and metrics for any number of runners. It is safe for concurrent use.
type Telemetry struct {
	tracer                   trace.Tracer
	calls, gas, incidents    metric.Int64Counter
	cost                     metric.Float64Counter
	runSeconds, totalSeconds metric.Float64Histogram
}

// New returns a Telemetry. It fails if the meter provider refuses an instrument.
func New(opts ...Option) (*Telemetry, error) {
	o := options{tracers: otel.GetTracerProvider(), meters: otel.GetMeterProvider()}
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	meter := o.meters.Meter(scope)
	var errs []error
	counter := func(name, unit, help string) metric.Int64Counter {
		c, err := meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(help))
		errs = append(errs, err)
		return c
	}
	seconds := func(name, help string) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(help),
			metric.WithExplicitBucketBoundaries(.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600))
		errs = append(errs, err)
		return h
	}
	t := &Telemetry{
		tracer:       o.tracers.Tracer(scope),
		calls:        counter("blueprint.runner.calls", "{call}", "Calls that ended"),
		gas:          counter("blueprint.runner.gas", "{gas}", "Gas of mined transactions"),
		incidents:    counter("blueprint.runner.incidents", "{event}", "Events that an operator may have to act on"),
		runSeconds:   seconds("blueprint.runner.run.duration", "Invocations that answered"),
		totalSeconds: seconds("blueprint.runner.result.duration", "From a call's block to its result's"),
	}
	var err error
	t.cost, err = meter.Float64Counter("blueprint.runner.cost", metric.WithUnit("{wei}"),
		metric.WithDescription("What the gas of mined transactions cost"))
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, faas.Errorf(faas.ErrInternal, "make instruments", "", "%w", err)
	}
	return t, nil
}

// Events returns an observer for [runner.WithEvents] of one runner. The spans are children of the
// one in ctx.
func (t *Telemetry) Events(ctx context.Context) func(runner.Event) {
	l := &listener{t: t, ctx: context.WithoutCancel(ctx), open: map[uint64]*call{}}
	return l.event
}

// maxOpen bounds the spans that are open at a time. Calls beyond it have metrics only.
const maxOpen = 10_000

// listener makes spans of events.
type listener struct {
	t   *Telemetry
	ctx context.Context

	mu   sync.Mutex
	open map[uint64]*call // by number
}

// call is one that has not ended.
type call struct {
	ctx         context.Context // of its span
	span        trace.Span
	run, submit trace.Span // may be nil
}

func (l *listener) event(e runner.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	service := serviceKey.Int64(int64(e.Service))
	job := jobKey.Int64(int64(e.Job))
	switch e.Kind {
	case runner.EventJob:
		l.of(e)
	case runner.EventRunning:
		if c := l.of(e); c != nil {
			c.endChildren(e)
			_, c.run = l.t.tracer.Start(c.ctx, "blueprint run", trace.WithTimestamp(e.Time))
		}
	case runner.EventAnswered:
		l.t.runSeconds.Record(l.ctx, e.Elapsed.Seconds(), metric.WithAttributes(service, job))
		if c := l.of(e); c != nil {
			c.endChildren(e)
			_, c.submit = l.t.tracer.Start(c.ctx, "blueprint submit", trace.WithTimestamp(e.Time))
		}
	case runner.EventSubmitted:
		if c := l.of(e); c != nil {
			c.span.AddEvent("submitted", trace.WithTimestamp(e.Time), trace.WithAttributes(txKey.String(e.Tx)))
		}
	case runner.EventFinished:
		outcome := outcomeKey.String(string(e.Outcome))
		l.t.calls.Add(l.ctx, 1, metric.WithAttributes(service, job, outcome))
		if e.Outcome == runner.Done && e.Elapsed > 0 {
			l.t.totalSeconds.Record(l.ctx, e.Elapsed.Seconds(), metric.WithAttributes(service, job))
		}
		if c := l.of(e); c != nil {
			delete(l.open, e.Call)
			c.end(e, outcome)
		}
	case runner.EventTransaction:
		if e.GasUsed > 0 {
			l.t.gas.Add(l.ctx, int64(e.GasUsed), metric.WithAttributes(service))
		}
		if e.Cost != nil {
			wei, _ := new(big.Float).SetInt(e.Cost).Float64()
			l.t.cost.Add(l.ctx, wei, metric.WithAttributes(service))
		}
	default:
		l.incident(e, service)
	}
}

// incident counts an event that an operator may have to act on.
func (l *listener) incident(e runner.Event, service attribute.KeyValue) {
	switch e.Kind {
	case runner.EventHeartbeat:
		if e.Err == nil {
			return
		}
	case runner.EventWaiting, runner.EventReorg, runner.EventNodeTrouble, runner.EventBalanceLow, runner.EventForeignNonce,
		runner.EventPaused, runner.EventServiceOver:
	default:
		return
	}
	l.t.incidents.Add(l.ctx, 1, metric.WithAttributes(service, kindKey.String(string(e.Kind))))
	if c := l.open[e.Call]; e.HasCall && c != nil {
		c.span.AddEvent(string(e.Kind), trace.WithTimestamp(e.Time), trace.WithAttributes(reasonKey.String(e.Reason)))
	}
}

// of returns the call of an event. It begins a call that an earlier process found. It returns nil
// if too many are open.
func (l *listener) of(e runner.Event) *call {
	if c := l.open[e.Call]; c != nil {
		return c
	}
	if len(l.open) >= maxOpen {
		return nil
	}
	c := &call{}
	c.ctx, c.span = l.t.tracer.Start(l.ctx, "blueprint call", trace.WithTimestamp(e.Time),
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(serviceKey.Int64(int64(e.Service)), callKey.Int64(int64(e.Call)), jobKey.Int64(int64(e.Job)),
			blockKey.Int64(int64(e.Block))))
	l.open[e.Call] = c
	return c
}

// endChildren ends the spans of what an event shows to be over.
func (c *call) endChildren(e runner.Event) {
	for _, span := range []*trace.Span{&c.run, &c.submit} {
		if *span != nil {
			(*span).End(trace.WithTimestamp(e.Time))
			*span = nil
		}
	}
}

// end ends the span of the call, and those of its children. Only what the runner could not bring to
// an end is an error.
func (c *call) end(e runner.Event, outcome attribute.KeyValue) {
	c.endChildren(e)
	c.span.SetAttributes(outcome)
	if e.Tx != "" {
		c.span.SetAttributes(txKey.String(e.Tx))
	}
	if e.Reason != "" {
		c.span.SetAttributes(reasonKey.String(e.Reason))
	}
	switch e.Outcome {
	case runner.JobFailed, runner.Interrupted, runner.NeedsAggregate:
		text := e.Reason
		if text == "" && e.Err != nil {
			text = e.Err.Error()
		}
		c.span.SetStatus(codes.Error, text)
	}
	c.span.End(trace.WithTimestamp(e.Time))
}
