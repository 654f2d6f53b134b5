package otelrunner_test

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/tangle-network/blueprint-serverless/runner"
	"github.com/tangle-network/blueprint-serverless/runner/otelrunner"
)

// recorder collects what an SDK records.
type recorder struct {
	observe func(runner.Event)
	spans   *tracetest.SpanRecorder
	metrics *sdkmetric.ManualReader
}

func record(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{spans: tracetest.NewSpanRecorder(), metrics: sdkmetric.NewManualReader()}
	tel, err := otelrunner.New(
		otelrunner.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r.spans))),
		otelrunner.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.metrics))))
	if err != nil {
		t.Fatal(err)
	}
	r.observe = tel.Events(t.Context())
	return r
}

// values returns the sum of each counter and histogram, by name and attributes but the service.
func (r *recorder) values(t *testing.T) map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := r.metrics.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			add := func(attrs attribute.Set, n float64) {
				key := m.Name
				for _, a := range attrs.ToSlice() {
					if a.Key == "blueprint.service_id" {
						if a.Value.AsInt64() != 7 {
							t.Errorf("%s is of service %d", m.Name, a.Value.AsInt64())
						}
						continue
					}
					key += " " + a.Value.String()
				}
				got[key] += n
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, float64(p.Value))
				}
			case metricdata.Sum[float64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					add(p.Attributes, p.Sum)
				}
			default:
				t.Errorf("%s is a %T", m.Name, m.Data)
			}
		}
	}
	return got
}

// story returns the ended spans: when each began and ended, in seconds, its parent and its status.
func (r *recorder) story() []string {
	names := map[string]string{}
	for _, s := range r.spans.Ended() {
		names[s.SpanContext().SpanID().String()] = s.Name()
	}
	var lines []string
	for _, s := range r.spans.Ended() {
		line := fmt.Sprintf("%d-%d %s", s.StartTime().Unix(), s.EndTime().Unix(), s.Name())
		if s.Parent().IsValid() {
			line += " < " + names[s.Parent().SpanID().String()]
		}
		for _, e := range s.Events() {
			line += fmt.Sprintf(" [%d %s]", e.Time.Unix(), e.Name)
		}
		for _, a := range s.Attributes() {
			if a.Key == "blueprint.outcome" || a.Key == "blueprint.call_id" {
				line += " " + a.Value.String()
			}
		}
		if s.Status().Code == codes.Error {
			line += " !" + s.Status().Description
		}
		lines = append(lines, line)
	}
	return lines
}

// of is an event of a call at a time in seconds.
func of(at int64, call uint64, kind runner.EventKind) runner.Event {
	return runner.Event{Kind: kind, Time: time.Unix(at, 0), Service: 7, Call: call, HasCall: true, Job: 2}
}

func TestCallsBecomeSpansAndMetrics(t *testing.T) {
	r := record(t)
	finished := func(at int64, call uint64, o runner.Outcome, reason string, took time.Duration) runner.Event {
		e := of(at, call, runner.EventFinished)
		e.Outcome, e.Reason, e.Elapsed = o, reason, took
		return e
	}
	answered := func(at int64, call uint64, took time.Duration) runner.Event {
		e := of(at, call, runner.EventAnswered)
		e.Elapsed = took
		return e
	}
	for _, e := range []runner.Event{
		of(1, 5, runner.EventJob), of(2, 5, runner.EventRunning), of(3, 6, runner.EventJob), of(3, 5, runner.EventWaiting),
		of(4, 5, runner.EventRunning), // again: the first one certainly did not run
		answered(6, 5, 2*time.Second), of(7, 5, runner.EventSubmitted), finished(9, 5, runner.Done, "", 8*time.Second),
		of(10, 6, runner.EventRunning), finished(11, 6, runner.JobFailed, "out of cheese", time.Second),
		finished(12, 8, runner.Interrupted, "unknown", 0), // an earlier process found it
		of(13, 5, runner.EventJob), finished(14, 5, runner.Reorganized, "", 0),
	} {
		r.observe(e)
	}
	want := []string{
		"2-4 blueprint run < blueprint call",
		"4-6 blueprint run < blueprint call",
		"6-9 blueprint submit < blueprint call",
		"1-9 blueprint call [3 waiting] [7 submitted] 5 done",
		"10-11 blueprint run < blueprint call",
		"3-11 blueprint call 6 job failed !out of cheese",
		"12-12 blueprint call 8 interrupted !unknown",
		"13-14 blueprint call 5 reorganized",
	}
	if diff := cmp.Diff(want, r.story()); diff != "" {
		t.Errorf("spans: %s", diff)
	}
	if diff := cmp.Diff(map[string]float64{
		"blueprint.runner.calls 2 done":        1,
		"blueprint.runner.calls 2 job failed":  1,
		"blueprint.runner.calls 2 interrupted": 1,
		"blueprint.runner.calls 2 reorganized": 1,
		"blueprint.runner.run.duration 2":      2,
		"blueprint.runner.result.duration 2":   8,
		"blueprint.runner.incidents waiting":   1,
	}, r.values(t)); diff != "" {
		t.Errorf("metrics: %s", diff)
	}
}

func TestTransactionsAndIncidentsAreCounted(t *testing.T) {
	r := record(t)
	for _, e := range []runner.Event{
		{Kind: runner.EventTransaction, Service: 7, GasUsed: 100, Cost: big.NewInt(5e9)},
		{Kind: runner.EventTransaction, Service: 7, Reason: "bumped"},
		{Kind: runner.EventTransaction, Service: 7, GasUsed: 11, Cost: big.NewInt(1)},
		{Kind: runner.EventHeartbeat, Service: 7, GasUsed: 75_000},
		{Kind: runner.EventHeartbeat, Service: 7, Err: fmt.Errorf("no node")},
		{Kind: runner.EventNodeTrouble, Service: 7}, {Kind: runner.EventNodeTrouble, Service: 7},
		{Kind: runner.EventNodeBack, Service: 7}, {Kind: runner.EventStarted, Service: 7},
		{Kind: runner.EventResumed, Service: 7},
		{Kind: runner.EventBalanceLow, Service: 7}, {Kind: runner.EventReorg, Service: 7},
	} {
		r.observe(e)
	}
	if diff := cmp.Diff(map[string]float64{
		"blueprint.runner.gas":                    111,
		"blueprint.runner.cost":                   5e9 + 1,
		"blueprint.runner.incidents heartbeat":    1,
		"blueprint.runner.incidents node trouble": 2,
		"blueprint.runner.incidents balance low":  1,
		"blueprint.runner.incidents reorg":        1,
	}, r.values(t)); diff != "" {
		t.Errorf("metrics: %s", diff)
	}
	if got := r.story(); len(got) != 0 {
		t.Errorf("spans: %v", got)
	}
}

// A chain with endless open calls costs no endless memory.
func TestOpenSpansAreBounded(t *testing.T) {
	r := record(t)
	const most = 10_000
	for call := range uint64(most + 5) {
		r.observe(of(1, call, runner.EventJob))
	}
	for call := range uint64(most + 5) {
		e := of(2, call, runner.EventFinished)
		e.Outcome = runner.Done
		r.observe(e)
	}
	// The last five are begun by their ends, when there is room again.
	begun := 0
	for _, s := range r.spans.Ended() {
		if s.StartTime().Unix() == 1 {
			begun++
		}
	}
	if begun != most {
		t.Errorf("%d spans were open, want %d", begun, most)
	}
}
