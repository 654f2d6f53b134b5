package serverless_test

import (
	"cmp"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/internal/tangle/tangletest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// regions stands in for a provider that these tests do not link. Its region comes from
// $REGIONS_REGION if the configuration names none, and it has a cloud of its own in each region. A
// test registers its clouds for as long as it runs.
const regions = faas.AzureFunctions

var regionClouds struct {
	sync.Mutex
	m map[string]*faastest.Cloud
}

func init() {
	info := faastest.NewMemory(faastest.WithProvider(regions)).Info()
	info.Resolve = func(cfg faas.Config) faas.Config {
		cfg.Region = cmp.Or(cfg.Region, os.Getenv("REGIONS_REGION"), "default")
		return cfg
	}
	info.Options = []faas.Option{{Name: "alias"}, {Name: "account", Place: true}, {Name: "token", Sensitive: true}}
	info.Open = func(ctx context.Context, cfg faas.Config) (faas.Executor, error) {
		regionClouds.Lock()
		defer regionClouds.Unlock()
		cloud := regionClouds.m[cfg.Region]
		if cloud == nil {
			return nil, faas.Errorf(faas.ErrUnavailable, "open", regions, "no region %q", cfg.Region)
		}
		return cloud.Executor(cfg.Service), nil
	}
	faas.Register(regions, info)
}

// inRegions gives the test a cloud in each of the regions.
func inRegions(t *testing.T, names ...string) map[string]*faastest.Cloud {
	clouds := map[string]*faastest.Cloud{}
	for _, name := range names {
		clouds[name] = faastest.NewMemory(faastest.WithProvider(regions), faastest.WithJob(answer))
	}
	regionClouds.Lock()
	defer regionClouds.Unlock()
	regionClouds.m = clouds
	return clouds
}

// inRegion returns a policy for the region; empty for the region of the environment.
func inRegion(region string) *serverless.Policy {
	p := policy(true, false)
	p.Serverless.Provider = serverless.ProviderSettings{Type: regions, Region: region, SubscriptionID: "sub"}
	return p
}

func deployIn(t *testing.T, s serverless.ServiceSpec, region string,
	opts ...serverless.DeployOption) *serverless.Service {
	t.Helper()
	opts = append([]serverless.DeployOption{serverless.WithPolicy(inRegion(region)),
		serverless.WithMetadata(metadata("ff")), serverless.WithoutRunner()}, opts...)
	svc, err := serverless.Deploy(t.Context(), s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return svc
}

func undeploy(t *testing.T, svc *serverless.Service) {
	t.Helper()
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAServiceIsFoundWhereItWasDeployedThoughTheEnvironmentHasChanged(t *testing.T) {
	clouds := inRegions(t, "north", "default")
	s := spec(t)
	t.Setenv("REGIONS_REGION", "north")
	if err := deployIn(t, s, "").Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	os.Unsetenv("REGIONS_REGION")
	infos, err := serverless.ListServices("")
	if err != nil || len(infos) != 1 || infos[0].Provider.Region != "north" {
		t.Errorf("services %+v, %v", infos, err)
	}
	svc, err := serverless.OpenService(t.Context(), s.Name)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := svc.Invoke(t.Context(), 1, nil); err != nil || string(r.Output) != "faas 1" {
		t.Errorf("answered %v, %v", r, err)
	}
	undeploy(t, svc)
	if left := clouds["north"].Units(); len(left) > 0 {
		t.Errorf("left in the region of the deployment: %v", left)
	}
}

func TestUndeployReachesEveryPlaceThatADeploymentHasToldOf(t *testing.T) {
	for _, how := range []string{"handle", "opened", "opened with the policy"} {
		t.Run(how, func(t *testing.T) {
			clouds := inRegions(t, "north", "south")
			s := spec(t)
			deployIn(t, s, "north")
			svc := deployIn(t, s, "south")
			if text := strings.Join(svc.Warnings(), "\n"); !strings.Contains(text, "north") ||
				!strings.Contains(text, "WithMove") {
				t.Errorf("warnings %q do not tell of the other place and what to do", text)
			}
			if others := svc.Elsewhere(); len(others) != 1 || others[0].Provider.Region != "north" ||
				len(others[0].Units) != 2 {
				t.Errorf("elsewhere: %+v", others)
			}
			if drift, err := svc.Diff(t.Context()); err != nil || drift.None() || len(drift.Elsewhere) != 1 {
				t.Errorf("drift %+v, %v", drift, err)
			}
			plan, err := serverless.NewPlan(t.Context(), s, serverless.WithPolicy(inRegion("south")),
				serverless.WithMetadata(metadata("ff")))
			if err != nil || len(plan.Elsewhere) != 1 || !strings.Contains(plan.String(), "north") {
				t.Errorf("plan:\n%s%v", plan, err)
			}
			switch how {
			case "opened":
				svc, err = serverless.OpenService(t.Context(), s.Name)
			case "opened with the policy":
				svc, err = serverless.OpenService(t.Context(), s.Name, serverless.WithPolicy(inRegion("south")))
			}
			if err != nil {
				t.Fatal(err)
			}
			undeploy(t, svc)
			for name, cloud := range clouds {
				if left := cloud.Units(); len(left) > 0 {
					t.Errorf("left in %s: %v", name, left)
				}
			}
			if infos, err := serverless.ListServices(""); err != nil || len(infos) > 0 {
				t.Errorf("left in the ledgers: %+v, %v", infos, err)
			}
		})
	}
}

func TestAMoveRemovesThereOnceTheFunctionsAnswerHere(t *testing.T) {
	clouds := inRegions(t, "north", "south")
	s := spec(t)
	deployIn(t, s, "north")
	opts := []serverless.DeployOption{serverless.WithPolicy(inRegion("south")), serverless.WithMetadata(metadata("ff")),
		serverless.WithoutRunner(), serverless.WithMove()}
	plan, err := serverless.NewPlan(t.Context(), s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range plan.Changes {
		line := string(c.Action) + " " + c.Unit
		if c.Place != nil {
			line += " in " + c.Place.Region
		}
		got = append(got, line)
	}
	if diff := gocmp.Diff([]string{"create svc/job0", "create svc/job1", "remove svc/job0 in north",
		"remove svc/job1 in north"}, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if _, err := plan.Apply(t.Context(), s, opts[:3]...); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("applied without WithMove: %v", err)
	}
	bothThere := false
	svc, err := plan.Apply(t.Context(), s, append(opts, serverless.WithEvents(func(e serverless.Event) {
		if e.Action == "remove" && e.Kind == serverless.EventStarted {
			bothThere = bothThere || len(clouds["south"].Units()) == 2
		}
	}))...)
	if err != nil {
		t.Fatal(err)
	}
	if n, s := clouds["north"].Units(), clouds["south"].Units(); len(n) > 0 || len(s) != 2 || !bothThere {
		t.Errorf("north %v, south %v; the new ones stood before the old ones went: %v", n, s, bothThere)
	}
	if others := svc.Elsewhere(); len(others) > 0 {
		t.Errorf("elsewhere: %+v", others)
	}
	if diff := gocmp.Diff([]string{"svc/job0", "svc/job1"}, svc.Removed()); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
}

func TestAMoveThatFailsLeavesTheOldPlaceWorking(t *testing.T) {
	clouds := inRegions(t, "north", "south")
	s := spec(t)
	deployIn(t, s, "north")
	regionClouds.m["south"] = faastest.NewMemory(
		faastest.WithProvider(regions), faastest.WithScript(
			faastest.Faults(faastest.Rule{Op: faastest.OpConverge, Unit: "svc/job1",
				Fault: faastest.Fault{Kind: faastest.Denied}})))
	_, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(inRegion("south")),
		serverless.WithMetadata(metadata("ff")), serverless.WithoutRunner(), serverless.WithMove())
	if !errors.Is(err, faas.ErrPermissionDenied) {
		t.Errorf("error %v", err)
	}
	if left := clouds["north"].Units(); len(left) != 2 {
		t.Errorf("in the old place: %v", left)
	}
}

func TestSwitchingServerlessOffRemovesFunctionsInEveryPlaceAsPlanned(t *testing.T) {
	clouds := inRegions(t, "north", "south")
	s := spec(t)
	deployIn(t, s, "north")
	deployIn(t, s, "south")
	off := inRegion("south")
	off.Serverless.Enable = false
	opts := []serverless.DeployOption{serverless.WithPolicy(off), serverless.WithMetadata(metadata("ff")),
		serverless.WithoutRunner()}
	plan, err := serverless.NewPlan(t.Context(), s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(plan.Changes); n != 4 {
		t.Errorf("%d removals are planned, want 4:\n%s", n, plan)
	}
	if _, err := plan.Apply(t.Context(), s, opts...); err != nil {
		t.Fatal(err)
	}
	for name, cloud := range clouds {
		if left := cloud.Units(); len(left) > 0 {
			t.Errorf("left in %s: %v", name, left)
		}
	}
}

func TestATraditionalPlanRemovesNothingThatItDoesNotSay(t *testing.T) {
	clouds := inRegions(t, "north")
	s := spec(t)
	off := inRegion("north")
	off.Serverless.Enable = false
	var stopped bool
	opts := []serverless.DeployOption{serverless.WithPolicy(off), serverless.WithMetadata(metadata("ff")),
		serverless.WithTraditional(func(context.Context, serverless.ServiceSpec, []uint32,
			serverless.Sizing) (orchestrator.Runner, error) {
			return stopRunner{func() { stopped = true }}, nil
		})}
	plan, err := serverless.NewPlan(t.Context(), s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	deployIn(t, s, "north")
	if _, err := plan.Apply(t.Context(), s, opts...); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
	// And the other way round: a unit that the plan removes is gone already.
	plan, err = serverless.NewPlan(t.Context(), s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if left := clouds["north"].Units(); len(left) != 2 || stopped {
		t.Errorf("left %v, a runner was started: %v", left, stopped)
	}
	svc, err := serverless.OpenService(t.Context(), s.Name)
	if err != nil {
		t.Fatal(err)
	}
	undeploy(t, svc)
	if _, err := plan.Apply(t.Context(), s, opts...); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
}

// stopRunner is a runner that tells when it is stopped.
type stopRunner struct{ stop func() }

func (r stopRunner) Invoke(context.Context, uint32, []byte) (*faas.Result, error) { return nil, nil }
func (r stopRunner) Health(context.Context) (faas.Health, error) {
	return faas.Health{Healthy: true}, nil
}
func (r stopRunner) Stop(context.Context) error { r.stop(); return nil }

func TestWhatWasGivenOnceIsNotDroppedByLeavingItOut(t *testing.T) {
	inRegions(t, "north", "south")
	s := spec(t)
	s.Env = map[string]string{"KEY": canary, "URL": "u"}
	pol := inRegion("north")
	pol.Serverless.ProviderConfig = map[string]string{"alias": "live", "token": canary}
	meta := []serverless.DeployOption{serverless.WithMetadata(metadata("ff")), serverless.WithoutRunner()}
	svc, err := serverless.Deploy(t.Context(), s, append(meta, serverless.WithPolicy(pol))...)
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	bare := s
	bare.Env = map[string]string{"URL": "u"}
	off := inRegion("north")
	off.Serverless.Enable = false
	for what, c := range map[string]struct {
		policy *serverless.Policy
		want   []string
	}{
		"here":         {inRegion("north"), []string{"env.KEY", "option.alias", "option.token"}},
		"elsewhere":    {inRegion("south"), []string{"env.KEY"}},
		"without FaaS": {off, []string{"env.KEY", "option.alias", "option.token"}},
	} {
		opts := append(slices.Clone(meta), serverless.WithPolicy(c.policy))
		_, planErr := serverless.NewPlan(t.Context(), bare, opts...)
		c.policy.Serverless.FallbackToVM = true // which must not hide it
		_, deployErr := serverless.Deploy(t.Context(), bare, opts...)
		for _, err := range []error{planErr, deployErr} {
			var missing *serverless.NotGivenError
			if !errors.Is(err, faas.ErrInvalidArgument) || !errors.As(err, &missing) {
				t.Errorf("%s: error %v", what, err)
				continue
			}
			if diff := gocmp.Diff(c.want, missing.Names); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("%s: a value is in %v", what, err)
			}
		}
	}
	svc, err = serverless.Deploy(t.Context(), bare,
		append(meta, serverless.WithPolicy(inRegion("north")),
			serverless.WithDropped("env.KEY", "option.alias", "option.token"))...)
	if err != nil {
		t.Fatal(err)
	}
	infos, err := serverless.ListServices("")
	if err != nil || len(infos) != 1 {
		t.Fatalf("%+v, %v", infos, err)
	}
	if diff := gocmp.Diff([]string{"env.URL"}, infos[0].Given); diff != "" {
		t.Errorf("given (-want +got):\n%s", diff)
	}
	undeploy(t, svc)
}

func TestTheChainThatADeploymentWasGivenIsNotDropped(t *testing.T) {
	for _, name := range []string{serverless.ContractEnv, serverless.ContractFallbackEnv} {
		t.Setenv(name, "")
	}
	inRegions(t, "north")
	recorded, err := tangletest.Read("gen-D")
	if err != nil {
		t.Fatal(err)
	}
	node, err := tangletest.NewNode(recorded)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(node)
	t.Cleanup(server.Close)
	s := spec(t)
	chain := serverless.WithFetch(serverless.WithRPC(server.URL), serverless.WithContract(tangletest.Tangle.String()))
	bare := slices.IndexFunc(recorded, func(r tangletest.Recorded) bool {
		meta, err := serverless.FetchMetadata(t.Context(), r.ID, serverless.WithRPC(server.URL),
			serverless.WithContract(tangletest.Tangle.String()))
		if err != nil {
			return false
		}
		check, err := serverless.VerifyBinary(meta, s.BinaryPath)
		return err == nil && check.Verdict == serverless.BinaryUnpublished
	})
	if bare < 0 {
		t.Fatal("every recorded blueprint publishes binaries, and the test's is none of them")
	}
	s.BlueprintID = recorded[bare].ID
	deploy := func(opts ...serverless.DeployOption) {
		t.Helper()
		svc, err := serverless.DeployServerless(t.Context(), s, []uint32{0}, inRegion("north").Serverless.Config(),
			append(opts, serverless.WithoutRunner())...)
		if err != nil {
			t.Fatal(err)
		}
		if err := svc.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	missing := func(opts ...serverless.DeployOption) []string {
		t.Helper()
		_, err := serverless.NewPlan(t.Context(), s, append(opts, serverless.WithPolicy(inRegion("north")))...)
		var e *serverless.NotGivenError
		if err == nil || !errors.As(err, &e) {
			return nil
		}
		if strings.Contains(err.Error(), server.URL) {
			t.Errorf("the node's address is in %v", err)
		}
		return e.Names
	}
	deploy(chain, serverless.WithVerifiedBinary())
	deploy() // does not read the chain, and does not forget it
	if diff := gocmp.Diff([]string{"chain.contract", "chain.rpc"}, missing()); diff != "" {
		t.Errorf("without the chain (-want +got):\n%s", diff)
	}
	if got := missing(serverless.WithFetch(serverless.WithRPC(server.URL))); got != nil &&
		(len(got) != 1 || got[0] != "chain.contract") {
		t.Errorf("without the contract: %v", got)
	}
	if got := missing(chain); got != nil {
		t.Errorf("with all of it: %v", got)
	}
	if got := missing(serverless.WithDropped("chain.rpc", "chain.contract")); got != nil {
		t.Errorf("dropped by name: %v", got)
	}
}

func TestTheBinaryIsRecordedWithAnAbsolutePathAndItsHash(t *testing.T) {
	inRegions(t, "north")
	s := spec(t)
	t.Chdir(filepath.Dir(s.BinaryPath))
	want := s.BinaryPath
	s.BinaryPath = "./" + filepath.Base(s.BinaryPath)
	if err := deployIn(t, s, "north").Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	infos, err := serverless.ListServices("")
	if err != nil || len(infos) != 1 || infos[0].BinaryPath != want || len(infos[0].BinarySHA256) != 64 {
		t.Errorf("services %+v, %v; want the binary %s with a hash", infos, err, want)
	}
}

func TestARunnerIsToldTheOptionsThatAFunctionWasDeployedWith(t *testing.T) {
	clouds := inRegions(t, "north")
	pol := inRegion("")
	t.Setenv("REGIONS_REGION", "north")
	pol.Serverless.ProviderConfig = map[string]string{"alias": "live", "token": canary}
	var told faas.RunnerConfig
	orc := orchestratorFunc(func(spec orchestrator.Spec) (orchestrator.Runner, error) {
		told = spec.Delegated
		return hookRunner{}, nil
	})
	s := spec(t)
	svc, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(pol), serverless.WithMetadata(metadata("ff")),
		serverless.WithOrchestrator(orc))
	if err != nil {
		t.Fatal(err)
	}
	want := faas.RunnerFunction{Provider: regions, FunctionID: "svc/job0", Service: "svc", Region: "north",
		SubscriptionID: "sub", Options: map[string]string{"alias": "live"}}
	if diff := gocmp.Diff(want, told[0]); diff != "" {
		t.Errorf("the runner's configuration (-want +got):\n%s", diff)
	}
	os.Unsetenv("REGIONS_REGION")
	reg, closeAll, err := faas.OpenRegistry(t.Context(), told, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := reg.Invoke(t.Context(), 0, nil); err != nil || string(r.Output) != "faas 0" {
		t.Errorf("answered %v, %v", r, err)
	}
	if err := closeAll(); err != nil {
		t.Error(err)
	}
	undeploy(t, svc)
	if left := clouds["north"].Units(); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

type orchestratorFunc func(orchestrator.Spec) (orchestrator.Runner, error)

func (f orchestratorFunc) Start(_ context.Context, spec orchestrator.Spec) (orchestrator.Runner, error) {
	return f(spec)
}

func TestAnExecutorOfAnotherServiceIsRefusedBeforeAnythingIsChanged(t *testing.T) {
	cloud := faastest.NewMemory(faastest.WithJob(answer))
	executor := func(service string) serverless.ServiceOption {
		return serverless.WithExecutor(faastest.Faulty(cloud.Executor(service), nil))
	}
	opts := func(service string) []serverless.DeployOption {
		return []serverless.DeployOption{serverless.WithPolicy(policy(true, false)), serverless.WithMetadata(metadata("ff")),
			serverless.WithoutRunner(), executor(service)}
	}
	s := spec(t)
	svc, err := serverless.Deploy(t.Context(), s, opts("svc")...)
	if err != nil {
		t.Fatal(err)
	}
	before := cloud.Calls(faastest.OpConverge) + cloud.Calls(faastest.OpRemove)
	other := s
	other.Name = "other"
	_, deployErr := serverless.Deploy(t.Context(), other, opts("svc")...)
	_, planErr := serverless.NewPlan(t.Context(), other, opts("svc")...)
	_, openErr := serverless.OpenService(t.Context(), "svc", serverless.WithPolicy(policy(true, false)), executor("other"))
	_, recoverErr := serverless.Recover(t.Context(), "svc", serverless.WithPolicy(policy(true, false)), executor("other"))
	for _, err := range []error{deployErr, planErr, openErr, recoverErr} {
		if !errors.Is(err, faas.ErrInvalidArgument) || !strings.Contains(err.Error(), `"svc"`) ||
			!strings.Contains(err.Error(), `"other"`) {
			t.Errorf("error %v, want an invalid argument that names both services", err)
		}
	}
	if after := cloud.Calls(faastest.OpConverge) + cloud.Calls(faastest.OpRemove); after != before ||
		len(cloud.Units()) != 2 {
		t.Errorf("%d changes were made, and there are %v", after-before, cloud.Units())
	}
	undeploy(t, svc)
}

// misplaced is an executor whose credentials are of another account.
type misplaced struct{ faas.Executor }

func (misplaced) CheckPlace(_ context.Context, recorded faas.State) error {
	return faas.Errorf(faas.ErrConflict, "open", "memory", "%s is in another account", recorded.Resource)
}

func TestCredentialsOfAnotherAccountAreRefusedBeforeAbsenceIsBelieved(t *testing.T) {
	p := newPlanner(t)
	p.deploy()
	other := faastest.NewMemory() // has nothing of the service
	executor := serverless.WithExecutor(misplaced{other.Executor("svc")})
	opts := p.with(executor)
	_, openErr := serverless.OpenService(t.Context(), "svc", openOptions(p.options(), executor)...)
	_, deployErr := serverless.Deploy(t.Context(), p.spec, opts...)
	_, planErr := serverless.NewPlan(t.Context(), p.spec, opts...)
	for _, err := range []error{openErr, deployErr, planErr} {
		if !errors.Is(err, faas.ErrConflict) || !strings.Contains(err.Error(), "another account") {
			t.Errorf("error %v, want a conflict", err)
		}
	}
	if n := other.Calls(faastest.OpConverge) + other.Calls(faastest.OpRemove); n > 0 {
		t.Errorf("%d changes were made", n)
	}
}

// Mock metadata must not pass for the blueprint's own.
func TestAPlanAndAServiceSayThatMetadataAreMadeUp(t *testing.T) {
	for _, name := range []string{serverless.ContractEnv, serverless.ContractFallbackEnv} {
		t.Setenv(name, "")
	}
	s := spec(t)
	opts := []serverless.DeployOption{serverless.WithPolicy(policy(true, true)), serverless.WithoutRunner()}
	plan, err := serverless.NewPlan(t.Context(), s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	svc, err := serverless.Deploy(t.Context(), s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	for what, warnings := range map[string][]string{"plan": plan.Warnings, "service": svc.Warnings()} {
		if !strings.Contains(strings.Join(warnings, "\n"), "made up") {
			t.Errorf("the %s does not: %q", what, warnings)
		}
	}
	undeploy(t, svc)
}

// detachers is an orchestrator whose runners outlive their program.
type detachers struct{ running map[string]bool }

func (s *detachers) Start(_ context.Context, spec orchestrator.Spec) (orchestrator.Runner, error) {
	ref := orchestrator.Ref{Kind: "test", ID: spec.Delegated[0].Region}
	if err := spec.Record(ref); err != nil {
		return nil, err
	}
	s.running[ref.ID] = true
	return &detachedRunner{hookRunner{}, s, ref}, nil
}

func (s *detachers) Attach(_ context.Context, ref orchestrator.Ref) (orchestrator.Detached, error) {
	return &detachedRunner{hookRunner{}, s, ref}, nil
}

type detachedRunner struct {
	hookRunner
	of  *detachers
	ref orchestrator.Ref
}

func (s *detachedRunner) Ref() orchestrator.Ref         { return s.ref }
func (s *detachedRunner) Release(context.Context) error { return nil }
func (s *detachedRunner) Stop(context.Context) error    { delete(s.of.running, s.ref.ID); return nil }

func TestUndeployStopsTheRunnersOfEveryPlace(t *testing.T) {
	inRegions(t, "north", "south")
	s := spec(t)
	orc := &detachers{running: map[string]bool{}}
	for _, region := range []string{"north", "south"} {
		svc, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(inRegion(region)),
			serverless.WithMetadata(metadata("ff")), serverless.WithOrchestrator(orc))
		if err != nil {
			t.Fatal(err)
		}
		if err := svc.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	svc, err := serverless.OpenService(t.Context(), s.Name, serverless.WithOrchestrator(orc))
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(svc.Warnings(), "\n"); !strings.Contains(text, "test runner north") {
		t.Errorf("warnings %q do not tell of the other runner", text)
	}
	undeploy(t, svc)
	if len(orc.running) > 0 {
		t.Errorf("runners that still run: %v", orc.running)
	}
	if infos, err := serverless.ListServices(""); err != nil || len(infos) > 0 {
		t.Errorf("left in the ledgers: %+v, %v", infos, err)
	}
}
