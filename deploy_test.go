package serverless_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

const canary = "canary-5ecr3t"

// script writes a job binary that uses only stdin and stdout and answers the byte 7.
func script(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "target", "release", "blueprint")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\ncat >/dev/null\necho '{\"result\":[7]}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func policy(enable, fallback bool) *serverless.Policy {
	p := serverless.DefaultPolicy()
	p.Serverless.Enable, p.Serverless.FallbackToVM = enable, fallback
	p.Serverless.Provider = serverless.ProviderSettings{Type: faas.Custom, Endpoint: "http://127.0.0.1:1"}
	return p
}

// metadata returns a job for every letter: f fits, s is stateful, - has no profile.
func metadata(jobs string) *serverless.Metadata {
	m := &serverless.Metadata{BlueprintID: 1, Source: serverless.SourceChain, Jobs: []serverless.Job{}}
	for i, kind := range jobs {
		job := serverless.Job{ID: uint32(i)}
		if kind != '-' {
			job.Profile = &serverless.JobProfile{AvgDurationMS: 5, P95DurationMS: 9, P99DurationMS: 10, PeakMemoryMB: 20,
				SampleSize: 10, Stateful: kind == 's'}
		}
		m.Jobs = append(m.Jobs, job)
	}
	return m
}

// spec returns a service, and gives the test a state directory of its own.
func spec(t testing.TB) serverless.ServiceSpec {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	return serverless.ServiceSpec{Name: "svc", BlueprintID: 1, BinaryPath: script(t),
		Env: map[string]string{"KEY": canary}}
}

// answer makes every function of a cloud answer "faas" and its job id.
func answer(_ context.Context, f faas.Function, _ []byte) ([]byte, error) {
	return fmt.Appendf(nil, "faas %d", f.JobID), nil
}

func TestDeployRunsEachJobWhereItFits(t *testing.T) {
	for _, tt := range []struct {
		name      string
		enable    bool
		jobs      string
		want      serverless.Strategy
		functions int
	}{
		{"all fit", true, "fff", serverless.Strategy{
			Kind: serverless.StrategyServerless, FaaSJobs: []uint32{0, 1, 2}, LocalJobs: []uint32{}}, 3},
		{"some fit", true, "fs-f", serverless.Strategy{
			Kind: serverless.StrategyHybrid, FaaSJobs: []uint32{0, 3}, LocalJobs: []uint32{1, 2}}, 2},
		{"none fits", true, "s-", serverless.Strategy{
			Kind: serverless.StrategyTraditional, FaaSJobs: []uint32{}, LocalJobs: []uint32{0, 1}}, 0},
		{"serverless is off", false, "ff", serverless.Strategy{
			Kind: serverless.StrategyTraditional, FaaSJobs: []uint32{}, LocalJobs: []uint32{0, 1}}, 0},
		{"no job", true, "", serverless.Strategy{Kind: serverless.StrategyTraditional, FaaSJobs: []uint32{},
			LocalJobs: []uint32{}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cloud := faastest.NewMemory(faastest.WithJob(answer))
			svc, err := serverless.Deploy(t.Context(), spec(t), serverless.WithPolicy(policy(tt.enable, false)),
				serverless.WithMetadata(metadata(tt.jobs)),
				serverless.WithExecutor(cloud.Executor("svc")))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, svc.Strategy()); diff != "" {
				t.Errorf("strategy (-want +got):\n%s", diff)
			}
			if n := len(cloud.Units()); n != tt.functions {
				t.Errorf("%d functions at the provider, want %d", n, tt.functions)
			}
			for i := range tt.jobs {
				id := uint32(i)
				want := "\a" // what the local script answers
				if slices.Contains(tt.want.FaaSJobs, id) {
					want = fmt.Sprintf("faas %d", id)
				}
				result, err := svc.Invoke(t.Context(), id, []byte("x"))
				if err != nil {
					t.Errorf("job %d: %v", id, err)
				} else if string(result.Output) != want {
					t.Errorf("job %d answered %q, want %q", id, result.Output, want)
				}
			}
			if _, err := svc.Invoke(t.Context(), 99, nil); !errors.Is(err, faas.ErrNotFound) {
				t.Errorf("a job that does not exist: %v, want not found", err)
			}
			if health, err := svc.Health(t.Context()); err != nil || !health.Healthy || len(health.Jobs) != tt.functions {
				t.Errorf("health %+v, %v", health, err)
			}
			if len(svc.Deployments()) != len(tt.jobs) {
				t.Errorf("deployments %+v, want one for each of %d jobs", svc.Deployments(), len(tt.jobs))
			}
			for range 2 {
				if err := svc.Undeploy(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if units := cloud.Units(); len(units) != 0 {
				t.Errorf("left at the provider: %v", units)
			}
		})
	}
}

func TestAFailedDeploymentFallsBackOnlyWhereThePolicySaysSo(t *testing.T) {
	for _, fallback := range []bool{true, false} {
		t.Run(fmt.Sprintf("fallback=%t", fallback), func(t *testing.T) {
			cloud := faastest.NewMemory(faastest.WithScript(
				faastest.Faults(faastest.Rule{Op: faastest.OpConverge, Skip: 1, Fault: faastest.Fault{Kind: faastest.Denied}})))
			svc, err := serverless.Deploy(t.Context(), spec(t), serverless.WithPolicy(policy(true, fallback)),
				serverless.WithMetadata(metadata("ffs")),
				serverless.WithExecutor(cloud.Executor("svc")))
			if units := cloud.Units(); len(units) != 0 {
				t.Errorf("left at the provider: %v", units)
			}
			if !fallback {
				if !errors.Is(err, faas.ErrPermissionDenied) {
					t.Errorf("error %v, want permission denied", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer svc.Undeploy(t.Context())
			if !errors.Is(svc.Fallback(), faas.ErrPermissionDenied) || len(svc.Warnings()) == 0 {
				t.Errorf("fallback %v, warnings %q: want the cause in both", svc.Fallback(), svc.Warnings())
			}
			want := serverless.Strategy{Kind: serverless.StrategyTraditional, FaaSJobs: []uint32{}, LocalJobs: []uint32{0, 1, 2}}
			if diff := cmp.Diff(want, svc.Strategy()); diff != "" {
				t.Errorf("strategy (-want +got):\n%s", diff)
			}
			for id := range uint32(3) {
				if result, err := svc.Invoke(t.Context(), id, nil); err != nil || string(result.Output) != "\a" {
					t.Errorf("job %d: %v, %v", id, result, err)
				}
			}
		})
	}
}

func TestADeploymentNamesWhatItRemoved(t *testing.T) {
	for name, tc := range map[string]struct {
		jobs   string // now; all three fitted before
		enable bool
		refuse string // the unit whose removal the cloud refuses
		want   []string
	}{
		"nothing":          {jobs: "fff", enable: true},
		"jobs that do not": {jobs: "fs-", enable: true, want: []string{"svc/job1", "svc/job2"}},
		"not what stayed":  {jobs: "fs-", enable: true, refuse: "svc/job1", want: []string{"svc/job2"}},
		"serverless off":   {jobs: "fff", want: []string{"svc/job0", "svc/job1", "svc/job2"}},
	} {
		t.Run(name, func(t *testing.T) {
			rule := faastest.Rule{Op: faastest.OpRemove, Unit: tc.refuse, Fault: faastest.Fault{Kind: faastest.Denied}}
			var rules []faastest.Rule
			if tc.refuse != "" {
				rules = append(rules, rule)
			}
			cloud := faastest.NewMemory(faastest.WithScript(faastest.Faults(rules...)))
			s := spec(t)
			deploy := func(enable bool, jobs string) *serverless.Service {
				svc, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(enable, false)),
					serverless.WithMetadata(metadata(jobs)),
					serverless.WithExecutor(cloud.Executor("svc")), serverless.WithoutRunner())
				if err != nil {
					t.Fatal(err)
				}
				return svc
			}
			if removed := deploy(true, "fff").Removed(); len(removed) > 0 {
				t.Errorf("a first deployment removed %v", removed)
			}
			if diff := cmp.Diff(tc.want, deploy(tc.enable, tc.jobs).Removed()); diff != "" {
				t.Errorf("removed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWarningsAboutMetadataReachPlanAndDeployment(t *testing.T) {
	cloud := faastest.NewMemory()
	meta := metadata("f")
	meta.Warnings = []string{"these are the profiles of another build"}
	opts := []serverless.DeployOption{
		serverless.WithPolicy(policy(true, false)), serverless.WithMetadata(meta),
		serverless.WithExecutor(cloud.Executor("svc")), serverless.WithoutRunner(),
	}
	s := spec(t)
	plan, err := serverless.NewPlan(t.Context(), s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	svc, err := serverless.Deploy(t.Context(), s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	for what, warnings := range map[string][]string{"plan": plan.Warnings, "service": svc.Warnings()} {
		if !slices.Contains(warnings, meta.Warnings[0]) {
			t.Errorf("%s: warnings %q", what, warnings)
		}
	}
}

func TestAFailedFallbackStandsBehindTheCause(t *testing.T) {
	cloud := faastest.NewMemory(faastest.WithScript(
		faastest.Faults(faastest.Rule{Op: faastest.OpConverge, Fault: faastest.Fault{Kind: faastest.Denied}})))
	noMachine := faas.Errorf(faas.ErrUnsupported, "start", "", "there is no machine")
	noMachine.Leftovers = []string{"half a machine"}
	_, err := serverless.Deploy(t.Context(), spec(t), serverless.WithPolicy(policy(true, true)),
		serverless.WithMetadata(metadata("f")),
		serverless.WithExecutor(cloud.Executor("svc")),
		serverless.WithTraditional(func(context.Context, serverless.ServiceSpec, []uint32,
			serverless.Sizing) (orchestrator.Runner, error) {
			return nil, noMachine
		}))
	if faas.CodeOf(err) != faas.ErrPermissionDenied {
		t.Errorf("the code is that of %v, want the cause's: permission denied", err)
	}
	text := fmt.Sprint(err)
	if cause, fallback := strings.Index(text, "denied"), strings.Index(text, "no machine"); cause < 0 || fallback < cause {
		t.Errorf("want the cause and then the fallback: %s", text)
	}
	var fe *faas.Error
	if !errors.Is(err, noMachine) || !errors.As(err, &fe) || fe.JobID != 0 ||
		!slices.Contains(fe.Leftovers, "half a machine") {
		t.Errorf("the fallback's failure, the job or what is left cannot be reached: %#v", fe)
	}
}

func TestAProviderThatIsNotLinkedRunsTraditionallyOrNamesTheImport(t *testing.T) {
	p := policy(true, true)
	p.Serverless.Provider = serverless.ProviderSettings{Type: faas.GCPFunctions, ProjectID: "my-project"}
	svc, err := serverless.Deploy(t.Context(), spec(t), serverless.WithPolicy(p), serverless.WithMetadata(metadata("ff")))
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(svc.Fallback(), faas.ErrNotLinked) || svc.Strategy().Kind != serverless.StrategyTraditional {
		t.Errorf("fallback %v, strategy %v", svc.Fallback(), svc.Strategy())
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Error(err)
	}
	p.Serverless.FallbackToVM = false
	_, err = serverless.Deploy(t.Context(), spec(t), serverless.WithPolicy(p), serverless.WithMetadata(metadata("ff")))
	if !errors.Is(err, faas.ErrNotLinked) || !strings.Contains(
		err.Error(), `import _ "github.com/tangle-network/blueprint-serverless/faas/gcp"`) {
		t.Errorf("error %v, want the import that is missing", err)
	}
}

func TestAnUnchangedRedeployIsOneReadPerFunction(t *testing.T) {
	cloud := faastest.NewMemory(faastest.WithJob(answer))
	s := spec(t)
	deploy := func(env string, jobs string) *serverless.Service {
		t.Helper()
		s.Env = map[string]string{"KEY": env}
		svc, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(true, false)),
			serverless.WithMetadata(metadata(jobs)), serverless.WithExecutor(cloud.Executor("svc")))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = svc.Close(context.Background()) })
		return svc
	}
	actions := func(svc *serverless.Service) (got []string) {
		for _, d := range svc.Deployments() {
			got = append(got, string(d.Action))
		}
		return got
	}
	if diff := cmp.Diff([]string{"create", "create", "create"}, actions(deploy("a", "fff"))); diff != "" {
		t.Error(diff)
	}
	observed, converged := cloud.Calls(faastest.OpObserve), cloud.Calls(faastest.OpConverge)
	if diff := cmp.Diff([]string{"keep", "keep", "keep"}, actions(deploy("a", "fff"))); diff != "" {
		t.Error(diff)
	}
	if o, c := cloud.Calls(faastest.OpObserve)-observed, cloud.Calls(faastest.OpConverge)-converged; o != 3 || c != 0 {
		t.Errorf("%d reads and %d writes for 3 unchanged functions, want 3 and 0", o, c)
	}
	if diff := cmp.Diff([]string{"update", "update", "update"}, actions(deploy("b", "fff"))); diff != "" {
		t.Error(diff)
	}
	if n := cloud.Uploads(); n != 1 {
		t.Errorf("%d uploads of one package, want 1", n)
	}
}

func TestEverythingThatCanBeRefusedIsRefusedBeforeTheFirstCall(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*serverless.ServiceSpec, *serverless.ServerlessConfig, *[]uint32)
		says string
		want faas.Code
	}{
		{"no name", func(s *serverless.ServiceSpec, _ *serverless.ServerlessConfig, _ *[]uint32) { s.Name = "" },
			"Name is empty", faas.ErrInvalidArgument},
		{"no binary", func(s *serverless.ServiceSpec, _ *serverless.ServerlessConfig, _ *[]uint32) { s.BinaryPath = "" },
			"BinaryPath is empty", faas.ErrInvalidArgument},
		{"missing binary", func(s *serverless.ServiceSpec, _ *serverless.ServerlessConfig, _ *[]uint32) {
			s.BinaryPath += "x"
		}, "no such file", faas.ErrNotFound},
		{"bad environment name", func(s *serverless.ServiceSpec, _ *serverless.ServerlessConfig, _ *[]uint32) {
			s.Env = map[string]string{"A=B": canary}
		}, `"A=B"`, faas.ErrInvalidArgument},
		{"no jobs", func(_ *serverless.ServiceSpec, _ *serverless.ServerlessConfig, jobs *[]uint32) { *jobs = nil },
			"no job ids", faas.ErrInvalidArgument},
		{"too much memory", func(_ *serverless.ServiceSpec, c *serverless.ServerlessConfig, _ *[]uint32) {
			c.DefaultMemoryMB = 2049
		}, "2049 MB", faas.ErrTooLarge},
		{"too long", func(_ *serverless.ServiceSpec, c *serverless.ServerlessConfig, _ *[]uint32) {
			c.DefaultTimeoutSecs = 301
		}, "301 s", faas.ErrTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cloud := faastest.NewMemory()
			s, cfg, jobs := spec(t), policy(true, false).Serverless.Config(), []uint32{0, 1}
			tt.edit(&s, &cfg, &jobs)
			_, err := serverless.DeployServerless(t.Context(), s, jobs, cfg, serverless.WithExecutor(cloud.Executor("svc")))
			if faas.CodeOf(err) != tt.want || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want %q that says %q", err, tt.want, tt.says)
			}
			if strings.Contains(fmt.Sprintf("%v %+v", err, err), canary) {
				t.Errorf("the error holds an environment value: %v", err)
			}
			for _, op := range []faastest.Op{faastest.OpObserve, faastest.OpConverge} {
				if n := cloud.Calls(op); n != 0 {
					t.Errorf("%d calls of %s", n, op)
				}
			}
		})
	}
}

func TestACancelledDeploymentLeavesNothing(t *testing.T) {
	cloud := faastest.NewMemory(faastest.WithScript(
		faastest.Faults(faastest.Rule{Op: faastest.OpConverge, Skip: 2, Fault: faastest.Fault{Kind: faastest.Hang}})))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	created := 0
	_, err := serverless.Deploy(ctx, spec(t), serverless.WithPolicy(policy(true, true)),
		serverless.WithMetadata(metadata("ffff")), serverless.WithExecutor(cloud.Executor("svc")),
		serverless.WithEvents(func(e serverless.Event) {
			if e.Kind == serverless.EventEnded && e.Action == "create" {
				if created++; created == 2 {
					cancel()
				}
			}
		}))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled, not a fallback", err)
	}
	if units := cloud.Units(); len(units) != 0 {
		t.Errorf("left at the provider: %v", units)
	}
}

func TestEveryEventThatStartsEndsAndNoneHoldsASecret(t *testing.T) {
	var mu sync.Mutex
	open, phases := map[string]int{}, map[serverless.Phase]bool{}
	cloud := faastest.NewMemory()
	events := serverless.WithEvents(func(e serverless.Event) {
		mu.Lock()
		defer mu.Unlock()
		phases[e.Phase] = true
		key := fmt.Sprint(e.Phase, e.Action, e.Unit)
		switch e.Kind {
		case serverless.EventStarted:
			open[key]++
		case serverless.EventEnded:
			open[key]--
		}
		if strings.Contains(fmt.Sprintf("%+v", e), canary) {
			t.Errorf("an event holds an environment value: %+v", e)
		}
	})
	svc, err := serverless.Deploy(t.Context(), spec(t), serverless.WithPolicy(policy(true, false)),
		serverless.WithMetadata(metadata("fs")), serverless.WithExecutor(cloud.Executor("svc")), events)
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	for key, n := range open {
		if n != 0 {
			t.Errorf("%s: started and ended differ by %d", key, n)
		}
	}
	for _, p := range []serverless.Phase{serverless.PhaseAnalysis, serverless.PhasePackage, serverless.PhaseOrchestrator,
		serverless.PhaseObserve, serverless.PhaseFunction} {
		if !phases[p] {
			t.Errorf("no event of phase %s", p)
		}
	}
}

func TestTheTraditionalHookGetsAllJobsAndTheirSizing(t *testing.T) {
	var gotJobs []uint32
	var gotSizing serverless.Sizing
	hook := func(_ context.Context, s serverless.ServiceSpec, jobs []uint32,
		sizing serverless.Sizing) (orchestrator.Runner, error) {
		gotJobs, gotSizing = jobs, sizing
		return &hookRunner{}, nil
	}
	m := metadata("sss")
	m.Jobs[1].Profile.PeakMemoryMB = 4000
	svc, err := serverless.Deploy(t.Context(), spec(t), serverless.WithPolicy(policy(true, false)),
		serverless.WithMetadata(m), serverless.WithTraditional(hook))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]uint32{0, 1, 2}, gotJobs); diff != "" {
		t.Error(diff)
	}
	if want := (serverless.Sizing{MemoryMB: 6000, CPUCores: 3}); gotSizing != want {
		t.Errorf("sizing %+v, want %+v", gotSizing, want)
	}
	if _, err := svc.Invoke(t.Context(), 2, nil); err != nil {
		t.Error(err)
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Error(err)
	}
}

type hookRunner struct{}

func (hookRunner) Invoke(context.Context, uint32, []byte) (*faas.Result, error) {
	return &faas.Result{}, nil
}
func (hookRunner) Health(context.Context) (faas.Health, error) {
	return faas.Health{Healthy: true}, nil
}
func (hookRunner) Stop(context.Context) error { return nil }
