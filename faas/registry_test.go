package faas_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// echo is an executor that only invokes: it answers with its service's name and the arguments.
type echo struct {
	faas.Executor
	cfg    faas.Config
	closed *int
	err    error
}

func (e echo) Invoke(_ context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	return &faas.Result{Output: fmt.Appendf(nil, "%s/%d/%s", e.cfg.Service, jobID, args)}, nil
}

func (e echo) Close() error {
	*e.closed++
	return e.err
}

// echoClosed counts the calls of Close on executors that Open made. Providers are registered in
// init, because Register cannot be undone and -count repeats tests.
var echoClosed int

func init() {
	faas.Register("test-echo", faas.ProviderInfo{
		Limits: faas.Limits{MaxMemoryMB: 1, MaxTimeoutSecs: 2, MaxPayloadMB: 3},
		Options: []faas.Option{{Name: "token", Help: "a bearer token", Sensitive: true, Env: "FAAS_TEST_TOKEN"},
			{Name: "zone", Former: []string{"district"}}, {Name: "area", Place: true, Env: "FAAS_TEST_AREA", Default: "a1"}},
		Open: func(_ context.Context, cfg faas.Config) (faas.Executor, error) {
			if cfg.Region == "fail" {
				return nil, faas.Errorf(faas.ErrUnavailable, "open", "test-echo", "no such region")
			}
			if cfg.Options != nil {
				cfg.Options["zone"] = "changed by the provider"
			}
			return echo{cfg: cfg, closed: &echoClosed}, nil
		},
	})
	faas.Register("test-strict", faas.ProviderInfo{
		Options:     []faas.Option{{Name: "key", Help: "an access key", Required: true}},
		MaxParallel: 2,
		Open:        func(context.Context, faas.Config) (faas.Executor, error) { return nil, nil },
	})
	faas.Register("test-excluded", faas.ProviderInfo{ExcludedBy: "faas_test"})
	faas.Register(faas.GCPFunctions, faas.ProviderInfo{ExcludedBy: "faas_gcp"})
}

func TestOpenSaysHowToGetAProvider(t *testing.T) {
	linked := strings.Join(faas.Names(), ", ")
	known := strings.Join(faas.KnownNames(), ", ")
	for _, tt := range []struct {
		cfg  faas.Config
		code faas.Code
		want string
	}{
		{faas.Config{Provider: "aws-lambda", Service: "s"}, faas.ErrNotLinked,
			`faas: provider "aws-lambda" is not linked in: ` +
				`import _ "github.com/tangle-network/blueprint-serverless/faas/aws" (linked: ` + linked + `)`},
		{faas.Config{Provider: "custom", Service: "s"}, faas.ErrNotLinked,
			`faas: provider "custom" is not linked in: ` +
				`import _ "github.com/tangle-network/blueprint-serverless/faas/custom" (linked: ` + linked + `)`},
		{faas.Config{Provider: "gcp-functions", Service: "s"}, faas.ErrNotLinked,
			`faas: provider "gcp-functions" was left out of this build by -tags faas_only; add tag faas_gcp`},
		{faas.Config{Provider: "test-excluded", Service: "s"}, faas.ErrNotLinked,
			`faas: provider "test-excluded" was left out of this build by -tags faas_only; add tag faas_test`},
		{faas.Config{Provider: "lambda", Service: "s"}, faas.ErrInvalidArgument,
			`faas: open: unknown provider "lambda" (known: ` + known + `; forgotten import?)`},
		{faas.Config{Service: "s"}, faas.ErrInvalidArgument, `faas: open: no provider is named (known: ` + known + `)`},
		{faas.Config{Provider: "test-echo"}, faas.ErrInvalidArgument,
			`faas: open: test-echo: the service name is empty: an executor is bound to one service`},
		{faas.Config{Provider: "test-echo", Service: "s", Options: map[string]string{"b": "secret", "a": "secret"}},
			faas.ErrInvalidArgument,
			`faas: open: test-echo: unknown option "a" (it has: token, zone, area)`},
		{faas.Config{Provider: "test-strict", Service: "s"}, faas.ErrInvalidArgument,
			`faas: open: test-strict: option "key" is missing: an access key`},
		{faas.Config{Provider: "test-strict", Service: "s", Options: map[string]string{"key": "k"}}, faas.ErrInternal,
			`faas: open: test-strict: the provider returned neither an executor nor an error`},
		{faas.Config{Provider: "test-echo", Service: "s", Region: "fail"}, faas.ErrUnavailable,
			`faas: open: test-echo: no such region`},
	} {
		exec, err := faas.Open(t.Context(), tt.cfg)
		if exec != nil || err == nil || err.Error() != tt.want || !errors.Is(err, tt.code) || faas.CodeOf(err) != tt.code {
			t.Errorf("Open(%v):\n got %v (%v)\nwant %s (%v)", tt.cfg, err, faas.CodeOf(err), tt.want, tt.code)
		}
		var e *faas.Error
		if !errors.As(err, &e) || e.JobID != faas.NoJob {
			t.Errorf("Open(%v): %v is no *Error without a job", tt.cfg, err)
		}
		if linkErr := faas.CheckLinked(tt.cfg.Provider); (tt.code == faas.ErrNotLinked) != errors.Is(
			linkErr, faas.ErrNotLinked) {
			t.Errorf("CheckLinked(%s): %v", tt.cfg.Provider, linkErr)
		}
	}
}

func TestOpenHandsTheProviderItsOwnCopyOfTheOptions(t *testing.T) {
	options := map[string]string{"zone": "mine"}
	if _, err := faas.Open(t.Context(), faas.Config{Provider: "test-echo", Service: "s", Options: options}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"zone": "mine"}, options); diff != "" {
		t.Error(diff)
	}
}

func TestNamesListWhatIsLinkedAndKnownNamesWhatAPolicyMayUse(t *testing.T) {
	names, known := faas.Names(), faas.KnownNames()
	if !slices.IsSorted(names) || !slices.Contains(names, "test-echo") || slices.Contains(names, "test-excluded") ||
		slices.Contains(names, "gcp-functions") {
		t.Errorf("Names() = %v", names)
	}
	for _, want := range []string{"aws-lambda", "azure-functions", "custom", "gcp-functions", "test-echo"} {
		if !slices.Contains(known, want) {
			t.Errorf("KnownNames() = %v lacks %s", known, want)
		}
	}
	if !slices.IsSorted(known) || len(slices.Compact(slices.Clone(known))) != len(known) {
		t.Errorf("KnownNames() = %v is not sorted, or has a name twice", known)
	}
	if _, ok := faas.Provider("test-excluded"); ok {
		t.Error("a provider left out by tags passes for linked")
	}
	info, ok := faas.Provider("test-strict")
	if !ok || info.MaxParallel != 2 {
		t.Errorf("Provider(test-strict) = %+v, %v", info, ok)
	}
	if info, ok = faas.Provider("test-echo"); !ok || info.MaxParallel != 8 {
		t.Errorf("Provider(test-echo) = %+v, %v", info, ok)
	}
	if limits, ok := faas.ProviderLimits("test-echo"); !ok || limits != info.Limits {
		t.Errorf("ProviderLimits(test-echo) = %+v, %v", limits, ok)
	}
}

func TestRegisterPanicsOnAProgrammersMistake(t *testing.T) {
	open := func(context.Context, faas.Config) (faas.Executor, error) { return nil, nil }
	for what, register := range map[string]func(){
		"empty name":  func() { faas.Register("", faas.ProviderInfo{Open: open}) },
		"neither":     func() { faas.Register("test-neither", faas.ProviderInfo{}) },
		"both":        func() { faas.Register("test-both", faas.ProviderInfo{Open: open, ExcludedBy: "x"}) },
		"a duplicate": func() { faas.Register("test-echo", faas.ProviderInfo{Open: open}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Register with %s does not panic", what)
				}
			}()
			register()
		}()
	}
}

func TestRegistrySendsEachJobToItsInvoker(t *testing.T) {
	var reg faas.Registry
	closed := 0
	a, b := echo{cfg: faas.Config{Service: "a"}, closed: &closed}, echo{cfg: faas.Config{Service: "b"}, closed: &closed}
	reg.Set(7, a)
	reg.Set(2, b)
	reg.Set(5, a)
	reg.Set(5, b)
	reg.Set(9, a)
	reg.Set(9, nil)
	if diff := cmp.Diff([]uint32{2, 5, 7}, reg.Jobs()); diff != "" {
		t.Error(diff)
	}
	for job, want := range map[uint32]string{7: "a/7/x", 2: "b/2/x", 5: "b/5/x"} {
		result, err := reg.Invoke(t.Context(), job, []byte("x"))
		if err != nil || string(result.Output) != want {
			t.Errorf("job %d: %v, %v, want %s", job, result, err, want)
		}
	}
	_, err := reg.Invoke(t.Context(), 9, nil)
	var e *faas.Error
	if !errors.As(err, &e) || e.Code != faas.ErrNotFound || !e.NotRun || e.JobID != 9 ||
		!strings.Contains(err.Error(), "[2 5 7]") {
		t.Errorf("a job without a function: %v", err)
	}
	if _, err := new(faas.Registry).Invoke(t.Context(), 0, nil); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("an empty registry: %v", err)
	}
}

func TestRegistryIsSafeForConcurrentUse(t *testing.T) {
	var reg faas.Registry
	closed := 0
	var wg sync.WaitGroup
	for i := range uint32(8) {
		wg.Go(func() {
			for range 100 {
				reg.Set(i, echo{closed: &closed})
				if _, err := reg.Invoke(t.Context(), i, nil); err != nil {
					t.Error(err)
				}
				reg.Jobs()
				reg.Set(i, nil)
			}
		})
	}
	wg.Wait()
}

func TestRunnerConfigIsReadOrRefusedWithItsField(t *testing.T) {
	cfg, err := faas.ParseRunnerConfig(`{
		"3":{"provider":"custom","function_id":"s-job3","endpoint":"http://127.0.0.1:1"},
		"0":{"provider":"aws-lambda","function_id":"f","region":"r"}}`)
	want := faas.RunnerConfig{
		0: {Provider: "aws-lambda", FunctionID: "f", Region: "r"},
		3: {Provider: "custom", FunctionID: "s-job3", Endpoint: "http://127.0.0.1:1"},
	}
	if diff := cmp.Diff(want, cfg); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	for _, text := range []string{"", "{}", "null"} {
		if cfg, err := faas.ParseRunnerConfig(text); err != nil || cfg == nil || len(cfg) != 0 {
			t.Errorf("ParseRunnerConfig(%q) = %v, %v", text, cfg, err)
		}
	}
	for text, want := range map[string]string{
		`[]`:                    "job id",
		`{"x":{}}`:              "x",
		`{"-1":{}}`:             "-1",
		`{"4294967296":{}}`:     "4294967296",
		`{"1":{"provider":5}}`:  "provider",
		`{"1":{}} {}`:           "after top-level value",
		`{"1":{"service":"s"}}`: "job 1: provider is missing",
	} {
		_, err := faas.ParseRunnerConfig(text)
		if !errors.Is(err, faas.ErrInvalidArgument) || !strings.Contains(err.Error(), want) ||
			!strings.Contains(err.Error(), "BLUEPRINT_FAAS_CONFIG") {
			t.Errorf("ParseRunnerConfig(%s): %v, want %s", text, err, want)
		}
	}
}

func TestOpenRegistryOpensEachTargetOnceAndClosesAll(t *testing.T) {
	f := func(service, region string) faas.RunnerFunction {
		return faas.RunnerFunction{Provider: "test-echo", Service: service, Region: region}
	}
	echoClosed = 0
	reg, closeAll, err := faas.OpenRegistry(t.Context(), faas.RunnerConfig{1: f("a", ""), 2: f("a", ""), 3: f("b", "")},
		map[string]map[string]string{"test-echo": {"token": "t"}})
	if err != nil {
		t.Fatal(err)
	}
	for job, want := range map[uint32]string{1: "a/1/x", 2: "a/2/x", 3: "b/3/x"} {
		if result, err := reg.Invoke(t.Context(), job, []byte("x")); err != nil || string(result.Output) != want {
			t.Errorf("job %d: %v, %v", job, result, err)
		}
	}
	if err := closeAll(); err != nil || echoClosed != 2 {
		t.Errorf("closed %d executors: %v", echoClosed, err)
	}

	old := f("c", "")
	old.Options = map[string]string{"district": "d"} // as an older version has called it
	if _, closeAll, err = faas.OpenRegistry(t.Context(), faas.RunnerConfig{1: old}, nil); err != nil || closeAll() != nil {
		t.Errorf("with the options of an older version: %v", err)
	}

	echoClosed = 0
	_, _, err = faas.OpenRegistry(t.Context(), faas.RunnerConfig{1: f("a", ""), 2: f("b", "fail")}, nil)
	if !errors.Is(err, faas.ErrUnavailable) || echoClosed != 1 {
		t.Errorf("after a failure %d executors are closed: %v", echoClosed, err)
	}
}
