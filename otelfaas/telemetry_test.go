package otelfaas_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/otelfaas"
)

const canary = "canary-5ecr3t"

// recorder collects what an SDK records.
type recorder struct {
	*otelfaas.Telemetry
	spans   *tracetest.SpanRecorder
	tracers *sdktrace.TracerProvider
	metrics *sdkmetric.ManualReader
}

func record(t testing.TB) *recorder {
	t.Helper()
	r := &recorder{spans: tracetest.NewSpanRecorder(), metrics: sdkmetric.NewManualReader()}
	r.tracers = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r.spans))
	var err error
	r.Telemetry, err = otelfaas.New(otelfaas.WithTracerProvider(r.tracers),
		otelfaas.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.metrics))))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// names returns how many spans have each name. Spans with an error add "!" and its type to theirs.
func (r *recorder) names() map[string]int {
	got := map[string]int{}
	for _, s := range r.spans.Ended() {
		name := s.Name()
		if s.Status().Code == codes.Error {
			for _, a := range s.Attributes() {
				if a.Key == "error.type" {
					name += " !" + a.Value.AsString()
				}
			}
		}
		got[name]++
	}
	return got
}

// counts returns the sum of every counter, and the number of values of every histogram, by name and
// a few attributes.
func (r *recorder) counts(t testing.TB, keys ...string) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := r.metrics.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			add := func(attrs []string, n int64) { got[strings.TrimSpace(m.Name+" "+strings.Join(attrs, " "))] += n }
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					var attrs []string
					for _, a := range p.Attributes.ToSlice() {
						if slices.Contains(keys, string(a.Key)) {
							attrs = append(attrs, a.Value.AsString())
						}
					}
					add(attrs, p.Value)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					add(nil, int64(p.Count))
				}
			case metricdata.Histogram[int64]:
				for _, p := range data.DataPoints {
					add(nil, int64(p.Count))
				}
			}
		}
	}
	return got
}

func spec(t testing.TB) serverless.ServiceSpec {
	t.Helper()
	path := filepath.Join(t.TempDir(), "blueprint")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return serverless.ServiceSpec{Name: "svc", BlueprintID: 1, BinaryPath: path, Env: map[string]string{"KEY": canary}}
}

func config() serverless.ServerlessConfig {
	p := serverless.DefaultPolicy()
	p.Serverless.Provider = serverless.ProviderSettings{Type: faas.AWSLambda, Region: "eu-west-1"}
	return p.Serverless.Config()
}

func TestAWrappedExecutorKeepsTheContract(t *testing.T) {
	cloud := faastest.NewMemory()
	tel := record(t)
	bin, err := faas.InspectBinary(spec(t).BinaryPath)
	if err != nil {
		t.Fatal(err)
	}
	faastest.Run(t, faastest.Harness{
		Open: func(_ testing.TB, service string) faas.Executor {
			return tel.Executor(cloud.Executor(service), faas.Config{Provider: faastest.MemoryProvider, Service: service})
		},
		Provider: faastest.MemoryProvider, Limits: cloud.Info().Limits, MemorySizes: cloud.Info().MemorySizes,
		Simulated: true, Binary: bin,
	})
	for _, s := range tel.spans.Started() {
		if s.EndTime().IsZero() {
			t.Errorf("span %s never ended", s.Name())
		}
	}
}

// basic is an executor with only the methods that every provider implements.
type basic struct{ faas.Executor }

func (basic) Warm(ctx context.Context, jobID uint32, n int) (int, error) {
	return faas.Unimplemented{}.Warm(ctx, jobID, n)
}

func TestWhatAProviderDoesNotOfferIsUnsupportedThroughTheWrapper(t *testing.T) {
	tel := record(t)
	wrapped := tel.Executor(basic{faastest.NewMemory().Executor("svc")}, faas.Config{})
	if _, err := wrapped.Warm(t.Context(), 1, 1); faas.CodeOf(err) != faas.ErrUnsupported {
		t.Errorf("Warm: %v", err)
	}
	if diff := cmp.Diff(map[string]int{"faas warm !unsupported": 1}, tel.names()); diff != "" {
		t.Error(diff)
	}
}

func TestReadingLogsIsOneSpanHoweverItEnds(t *testing.T) {
	tel := record(t)
	memory := faastest.NewMemory(faastest.WithScript(
		faastest.Faults(faastest.Rule{Op: faastest.OpLogs, Skip: 1, Fault: faastest.Fault{Kind: faastest.Denied}})))
	reader := tel.Executor(memory.Executor("svc"), faas.Config{Provider: "memory"})
	for range 2 { // nothing is deployed; then it is denied
		for _, err := range reader.Logs(t.Context(), faas.LogQuery{JobIDs: []uint32{1}}) {
			if err == nil {
				t.Error("a line came out of nothing")
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"faas logs !not_found": 1, "faas logs !permission_denied": 1},
		tel.names()); diff != "" {
		t.Error(diff)
	}
}

func TestADeploymentAndItsInvocationsAreToldAndMeasured(t *testing.T) {
	tel := record(t)
	cloud := faastest.NewMemory(faastest.WithJob(func(_ context.Context, f faas.Function, _ []byte) ([]byte, error) {
		if f.JobID == 1 {
			return nil, errors.New("no")
		}
		return []byte("answer"), nil
	}), faastest.WithScript(func(c faastest.Call) *faastest.Fault {
		if c.Op != faastest.OpConverge || c.N > 1 {
			return nil
		}
		return &faastest.Fault{Kind: faastest.Throttled}
	}))
	cfg := config()
	ctx, root := tel.tracers.Tracer("test").Start(t.Context(), "root")
	exec := tel.Executor(cloud.Executor("svc"), faas.Config{
		Provider: cfg.Provider.Provider, Region: cfg.Provider.Region, Service: "svc"})
	svc, err := serverless.DeployServerless(ctx, spec(t), []uint32{0, 1}, cfg, serverless.WithExecutor(exec),
		serverless.WithEvents(tel.Events(ctx, "svc")),
		serverless.WithStateDir(t.TempDir()), serverless.WithoutRunner())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.Invoke(ctx, 0, []byte("question")); err != nil {
		t.Fatal(err)
	}
	if _, err := svc.Invoke(ctx, 1, nil); !errors.Is(err, faas.ErrFunctionFailed) {
		t.Fatal(err)
	}
	if err := svc.Undeploy(ctx); err != nil {
		t.Fatal(err)
	}
	root.End()

	throttled := int(tel.counts(t)["blueprint.throttles"])
	if throttled == 0 {
		t.Error("no throttled call was counted")
	}
	want := map[string]int{
		"root": 1, "blueprint package": 1, "blueprint observe": 5, "blueprint function create": 2,
		"blueprint function remove": 2,
		"faas observe":              2, "faas list": 3, "faas converge": 2, "faas converge !throttled": throttled,
		"faas remove": 2,
		"faas invoke": 1, "faas invoke !function_failed": 1,
	}
	if diff := cmp.Diff(want, tel.names()); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	for _, s := range tel.spans.Ended() {
		if s.Name() != "root" && s.Parent().SpanID() != root.SpanContext().SpanID() {
			t.Errorf("span %s is not a child of the caller's", s.Name())
		}
		if text := fmt.Sprintf("%+v %+v %+v", s.Attributes(), s.Events(), s.Status()); strings.Contains(text, canary) ||
			strings.Contains(text, "question") {
			t.Errorf("span %s holds an environment value or arguments: %s", s.Name(), text)
		}
		if s.Name() == "faas invoke" && s.Status().Code != codes.Error {
			attrs := map[string]string{}
			for _, a := range s.Attributes() {
				attrs[string(a.Key)] = a.Value.String()
			}
			wantAttrs := map[string]string{
				"faas.invoked_name": "svc/job0", "faas.invoked_provider": "aws", "faas.invoked_region": "eu-west-1",
				"blueprint.service": "svc", "blueprint.job_id": "0",
			}
			if attrs["faas.coldstart"] != "" {
				wantAttrs["faas.coldstart"] = "true"
			}
			if diff := cmp.Diff(wantAttrs, attrs); diff != "" {
				t.Errorf("an invocation (-want +got):\n%s", diff)
			}
		}
	}
	counts := tel.counts(t, "blueprint.action", "error.type", "network.io.direction")
	for name, n := range map[string]int64{
		"faas.invocations": 1, "faas.errors function_failed": 1, "faas.invoke_duration": 2,
		"blueprint.invocation.io transmit": 8, "blueprint.invocation.io receive": 6,
		"blueprint.changes create": 2, "blueprint.changes remove": 2, "blueprint.change.duration": 4, "faas.timeouts": 0,
	} {
		if counts[name] != n {
			t.Errorf("%s is %d, want %d", name, counts[name], n)
		}
	}
	if counts["blueprint.upload"] == 0 {
		t.Errorf("no upload was counted: %v", counts)
	}
}

func TestAFailedDeploymentIsMeasuredByItsCode(t *testing.T) {
	tel := record(t)
	cloud := faastest.NewMemory(faastest.WithScript(
		faastest.Faults(faastest.Rule{Op: faastest.OpConverge, Fault: faastest.Fault{Kind: faastest.Denied}})))
	exec := cloud.Executor("svc")
	_, err := serverless.DeployServerless(t.Context(), spec(t), []uint32{0}, config(), serverless.WithExecutor(exec),
		serverless.WithEvents(tel.Events(t.Context(), "svc")),
		serverless.WithStateDir(t.TempDir()), serverless.WithoutRunner())
	if !errors.Is(err, faas.ErrPermissionDenied) {
		t.Fatal(err)
	}
	if got := tel.counts(t, "blueprint.action", "error.type")["blueprint.changes create permission_denied"]; got != 1 {
		t.Errorf("%d failed creations, want 1: %v", got, tel.counts(t, "blueprint.action", "error.type"))
	}
	if got := tel.names()["blueprint function create !permission_denied"]; got != 1 {
		t.Errorf("spans %v", tel.names())
	}
}

func ExampleTelemetry_Executor() {
	cloud := faastest.NewMemory(faastest.WithJob(
		func(_ context.Context, _ faas.Function, args []byte) ([]byte, error) { return args, nil }))
	tel, err := otelfaas.New() // with the global providers, which do nothing until an SDK is set up
	if err != nil {
		fmt.Println(err)
		return
	}
	exec := tel.Executor(cloud.Executor("svc"), faas.Config{Provider: faastest.MemoryProvider, Service: "svc"})
	defer exec.Close()
	_, err = exec.Observe(context.Background(), "svc/job0")
	fmt.Println(errors.Is(err, faas.ErrNotFound))
	// Output: true
}
