// Package otelfaas makes OpenTelemetry traces and metrics of deployments and invocations. It uses
// only the API: without an SDK in the program, it does next to nothing. Only programs that import
// it link it.
//
// [Telemetry.Executor] sees every call to a provider. [Telemetry.Events] sees every phase of a
// deployment and every changed function. A program may use either or both:
//
//	exec, err := faas.Open(ctx, cfg)
//	tel, err := otelfaas.New()
//	svc, err := serverless.Deploy(ctx, spec,
//		serverless.WithExecutor(tel.Executor(exec, cfg)),
//		serverless.WithEvents(tel.Events(ctx, spec.Name)))
//
// Names follow the semantic conventions for FaaS; names that these lack begin with "blueprint.". Of
// an error, the code is recorded as error.type, and a span also has its text, which contains
// neither environment values nor credentials. Arguments and outputs are never recorded.
//
// Metrics of invocations:
//
//   - faas.invocations, which counts those that succeeded, faas.errors, faas.timeouts and
//     faas.coldstarts
//   - faas.invoke_duration (s), as the caller sees it
//   - faas.init_duration (s) and faas.mem_usage (By), if the provider reports them
//   - blueprint.invocation.io (By), the size of arguments and outputs
//
// Metrics of deployments:
//
//   - blueprint.changes counts functions that were created, updated, removed or restored
//   - blueprint.change.duration (s), the time that each took
//   - blueprint.phase.duration (s), the time that each phase took
//   - blueprint.upload (By) counts the bytes sent
//   - blueprint.throttles counts repeated calls
//
// Failures carry error.type.
package otelfaas

import (
	"context"
	"errors"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// scope names this instrumentation.
const scope = "github.com/tangle-network/blueprint-serverless/otelfaas"

// Attributes that the semantic conventions lack.
const (
	serviceKey = attribute.Key("blueprint.service")
	jobKey     = attribute.Key("blueprint.job_id")
	jobsKey    = attribute.Key("blueprint.job_ids")
	unitKey    = attribute.Key("blueprint.unit")
	actionKey  = attribute.Key("blueprint.action")
	phaseKey   = attribute.Key("blueprint.phase")
	attemptKey = attribute.Key("blueprint.attempt")
	bytesKey   = attribute.Key("blueprint.bytes")
	totalKey   = attribute.Key("blueprint.total_bytes")
	stepKey    = attribute.Key("blueprint.step")

	errorTypeKey       = attribute.Key("error.type")
	coldStartKey       = attribute.Key("faas.coldstart")
	invokedNameKey     = attribute.Key("faas.invoked_name")
	invokedProviderKey = attribute.Key("faas.invoked_provider")
	invokedRegionKey   = attribute.Key("faas.invoked_region")
	directionKey       = attribute.Key("network.io.direction")
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

// Telemetry makes spans and metrics for any number of services. It is safe for concurrent use.
type Telemetry struct {
	tracer trace.Tracer

	invocations, errors, timeouts, coldStarts metric.Int64Counter
	invokeSeconds, initSeconds                metric.Float64Histogram
	memory                                    metric.Int64Histogram
	io                                        metric.Int64Counter

	changes, uploaded, throttles metric.Int64Counter
	changeSeconds, phaseSeconds  metric.Float64Histogram
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
	seconds := func(name, help string, bounds ...float64) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(help),
			metric.WithExplicitBucketBoundaries(bounds...))
		errs = append(errs, err)
		return h
	}
	calls := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 900}
	work := []float64{.01, .05, .1, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
	t := &Telemetry{
		tracer:        o.tracers.Tracer(scope),
		invocations:   counter("faas.invocations", "{invocation}", "Invocations that succeeded"),
		errors:        counter("faas.errors", "{error}", "Invocations that failed"),
		timeouts:      counter("faas.timeouts", "{timeout}", "Invocations that ran out of time"),
		coldStarts:    counter("faas.coldstarts", "{coldstart}", "Invocations that started an instance"),
		invokeSeconds: seconds("faas.invoke_duration", "From the call to the answer", calls...),
		initSeconds:   seconds("faas.init_duration", "Start of an instance that an invocation caused", calls...),
		io:            counter("blueprint.invocation.io", "By", "Arguments (transmit) and outputs (receive) of invocations"),
		changes:       counter("blueprint.changes", "{change}", "Units of functions created, updated, removed or restored"),
		uploaded:      counter("blueprint.upload", "By", "Bytes of packages that were uploaded"),
		throttles:     counter("blueprint.throttles", "{call}", "Calls that were made again because the provider throttled"),
		changeSeconds: seconds("blueprint.change.duration", "Change of a unit of functions, from the start to the end",
			work...),
		phaseSeconds: seconds("blueprint.phase.duration", "Phase of a deployment", work...),
	}
	var err error
	t.memory, err = meter.Int64Histogram("faas.mem_usage", metric.WithUnit("By"),
		metric.WithDescription("Peak memory of an instance"),
		metric.WithExplicitBucketBoundaries(16<<20, 32<<20, 64<<20, 128<<20, 256<<20, 512<<20, 1<<30, 2<<30, 4<<30, 10<<30))
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, faas.Errorf(faas.ErrInternal, "make instruments", "", "%w", err)
	}
	return t, nil
}

// errorType returns the attribute error.type: the code as a word.
func errorType(err error) attribute.KeyValue {
	return errorTypeKey.String(strings.ReplaceAll(string(faas.CodeOf(err)), " ", "_"))
}

// maxDescription bounds the text of an error on a span, in bytes.
const maxDescription = 1 << 10

// end records the outcome and ends the span.
func end(span trace.Span, err error, opts ...trace.SpanEndOption) {
	if err != nil {
		text := err.Error()
		if len(text) > maxDescription {
			text = strings.ToValidUTF8(text[:maxDescription], "") + "..."
		}
		span.SetAttributes(errorType(err))
		span.SetStatus(codes.Error, text)
	}
	span.End(opts...)
}

// outcome returns attrs, with error.type if err is not nil.
func outcome(err error, attrs ...attribute.KeyValue) metric.MeasurementOption {
	if err != nil {
		attrs = append(attrs, errorType(err))
	}
	return metric.WithAttributes(attrs...)
}

// provider returns the value of faas.invoked_provider, which the conventions define.
func provider(name string) string {
	switch name {
	case faas.AWSLambda:
		return "aws"
	case faas.GCPFunctions:
		return "gcp"
	case faas.AzureFunctions:
		return "azure"
	}
	return name
}

// measuring returns a context for recording metrics: it keeps the values of ctx, not its end.
func measuring(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }
