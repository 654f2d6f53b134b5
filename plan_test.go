package serverless_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

// planner makes plans and deployments of one service on one cloud.
type planner struct {
	t     *testing.T
	cloud *faastest.Cloud
	state string
	spec  serverless.ServiceSpec
	memMB uint32
	drop  []string
	jobs  string
}

func newPlanner(t *testing.T) *planner {
	return &planner{t: t, cloud: faastest.NewMemory(faastest.WithJob(answer)), state: t.TempDir(), spec: spec(t),
		memMB: 512, jobs: "ffs"}
}

// options returns the options of every operation on the service.
func (p *planner) options() []serverless.ServiceOption {
	pol := policy(true, false)
	pol.Serverless.DefaultMemoryMB = p.memMB
	return []serverless.ServiceOption{serverless.WithPolicy(pol), serverless.WithExecutor(p.cloud.Executor("svc")),
		serverless.WithStateDir(p.state), serverless.WithPatience(time.Millisecond)}
}

// with returns the options of a deployment.
func (p *planner) with(more ...serverless.DeployOption) []serverless.DeployOption {
	opts := deployOptions(p.options(), serverless.WithMetadata(metadata(p.jobs)), serverless.WithDropped(p.drop...))
	return append(opts, more...)
}

func deployOptions[O serverless.DeployOption](opts []O, more ...serverless.DeployOption) []serverless.DeployOption {
	out := []serverless.DeployOption{}
	for _, opt := range opts {
		out = append(out, opt)
	}
	return append(out, more...)
}

func openOptions(opts []serverless.ServiceOption, more ...serverless.OpenOption) []serverless.OpenOption {
	out := []serverless.OpenOption{}
	for _, opt := range opts {
		out = append(out, opt)
	}
	return append(out, more...)
}

func (p *planner) plan() *serverless.Plan {
	p.t.Helper()
	plan, err := serverless.NewPlan(p.t.Context(), p.spec, p.with()...)
	if err != nil {
		p.t.Fatal(err)
	}
	return plan
}

func (p *planner) deploy() {
	p.t.Helper()
	svc, err := serverless.Deploy(p.t.Context(), p.spec, p.with()...)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := svc.Close(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

func (p *planner) writes() int {
	return p.cloud.Calls(faastest.OpConverge) + p.cloud.Calls(faastest.OpRemove) + p.cloud.Calls(faastest.OpRestore)
}

func TestAPlanChangesNothingAndSaysWhatADeploymentWouldDo(t *testing.T) {
	summary := func(plan *serverless.Plan) (got []string) {
		for _, c := range plan.Changes {
			got = append(got, fmt.Sprint(c.Action, " ", c.Unit, " ", strings.Join(c.Differs, ",")))
		}
		return got
	}
	p := newPlanner(t)
	plan := p.plan()
	if p.writes() != 0 {
		t.Fatal("the plan changed something")
	}
	if diff := cmp.Diff([]string{"create svc/job0 ", "create svc/job1 "}, summary(plan)); diff != "" {
		t.Error(diff)
	}
	if plan.UploadBytes == 0 || plan.UploadBytes != plan.Changes[0].PackageBytes {
		t.Errorf("%d bytes to upload, want the one package of %d", plan.UploadBytes, plan.Changes[0].PackageBytes)
	}
	p.deploy()
	if diff := cmp.Diff([]string{"keep svc/job0 ", "keep svc/job1 "}, summary(p.plan())); diff != "" {
		t.Error(diff)
	}

	p.memMB = 600
	p.spec.Env, p.drop = map[string]string{"OTHER": canary}, []string{"env.KEY"}
	if diff := cmp.Diff([]string{"update svc/job0 memory,environment +OTHER,environment -KEY",
		"update svc/job1 memory,environment +OTHER,environment -KEY"}, summary(p.plan())); diff != "" {
		t.Error(diff)
	}
	p.memMB = 512
	p.spec.Env = map[string]string{"KEY": "another"}
	if err := os.WriteFile(p.spec.BinaryPath, []byte("#!/bin/sh\necho '{\"result\":[9]}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"update svc/job0 code,environment", "update svc/job1 code,environment"},
		summary(p.plan())); diff != "" {
		t.Error(diff)
	}
	p.jobs = "f-s"
	if diff := cmp.Diff([]string{"update svc/job0 code,environment", "remove svc/job1 "}, summary(p.plan())); diff != "" {
		t.Error(diff)
	}
	p.jobs = "sss"
	if diff := cmp.Diff([]string{"remove svc/job0 ", "remove svc/job1 "}, summary(p.plan())); diff != "" {
		t.Error(diff)
	}
	text, err := json.Marshal(p.plan())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{string(text), p.plan().String()} {
		if strings.Contains(s, canary) || strings.Contains(s, "another") {
			t.Errorf("a plan holds an environment value: %s", s)
		}
	}
}

func TestAStoredPlanIsAppliedExactly(t *testing.T) {
	p := newPlanner(t)
	text, err := json.Marshal(p.plan())
	if err != nil {
		t.Fatal(err)
	}
	var stored serverless.Plan
	if err := json.Unmarshal(text, &stored); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*p.plan(), stored); diff != "" {
		t.Errorf("JSON changed the plan (-plan +stored):\n%s", diff)
	}
	svc, err := stored.Apply(t.Context(), p.spec, p.with()...)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"svc/job0", "svc/job1"}, p.cloud.Units()); diff != "" {
		t.Error(diff)
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAPlanIsRefusedWhereTheWorldHasMoved(t *testing.T) {
	for _, tt := range []struct {
		name string
		move func(*planner)
		says string
	}{
		{"another binary", func(p *planner) {
			if err := os.WriteFile(p.spec.BinaryPath, []byte("#!/bin/sh\n"), 0o755); err != nil {
				p.t.Fatal(err)
			}
		}, "binary"},
		{"another environment value", func(p *planner) { p.spec.Env = map[string]string{"KEY": "x"} }, "environment"},
		{"another memory", func(p *planner) { p.memMB = 1024 }, "configuration"},
		{"another service", func(p *planner) { p.spec.Name = "other" }, `"other"`},
		{"other jobs fit", func(p *planner) { p.jobs = "fff" }, "strategy"},
		{"a function is gone", func(p *planner) {
			if err := p.cloud.Executor("svc").Remove(p.t.Context(), "svc/job0"); err != nil {
				p.t.Fatal(err)
			}
		}, "svc/job0"},
		{"a function failed", func(p *planner) { p.cloud.Break("svc/job1", "out of disk") }, "svc/job1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlanner(t)
			p.deploy()
			p.memMB = 600
			plan := p.plan()
			tt.move(p)
			writes := p.writes()
			_, err := plan.Apply(t.Context(), p.spec, p.with()...)
			if !errors.Is(err, faas.ErrConflict) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want a conflict that says %q", err, tt.says)
			}
			if p.writes() != writes {
				t.Error("something was changed")
			}
		})
	}
}

func TestAServiceIsOpenedByItsNameInAnotherProgram(t *testing.T) {
	p := newPlanner(t)
	p.deploy()
	svc, err := serverless.OpenService(t.Context(), "svc", serverless.WithExecutor(p.cloud.Executor("svc")),
		serverless.WithStateDir(p.state))
	if err != nil {
		t.Fatal(err)
	}
	if result, err := svc.Invoke(t.Context(), 1, nil); err != nil || string(result.Output) != "faas 1" {
		t.Errorf("%v, %v", result, err)
	}
	if drift, err := svc.Diff(t.Context()); err != nil || !drift.None() {
		t.Errorf("drift %+v, %v, want none", drift, err)
	}
	p.cloud.Break("svc/job1", "out of disk")
	if err := p.cloud.Executor("svc").Remove(t.Context(), "svc/job0"); err != nil {
		t.Fatal(err)
	}
	want := &serverless.Drift{Missing: []string{"svc/job0"}, Changed: []string{"svc/job1"}, Orphans: []string{}}
	if drift, err := svc.Diff(t.Context()); err != nil || !cmp.Equal(want, drift) {
		t.Errorf("drift %+v, %v, want %+v", drift, err, want)
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err = serverless.OpenService(t.Context(), "svc", serverless.WithStateDir(p.state))
	if !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("error %v, want not found", err)
	}
}

func TestUnknownFunctionsAreListedAndRemovedOnlyOnRequest(t *testing.T) {
	p := newPlanner(t)
	p.jobs = "ff"
	p.deploy()
	elsewhere := *p
	elsewhere.state, elsewhere.jobs = t.TempDir(), "f"
	elsewhere.deploy() // keeps job 0, and does not know job 1
	svc, err := serverless.OpenService(t.Context(), "svc", serverless.WithExecutor(p.cloud.Executor("svc")),
		serverless.WithStateDir(elsewhere.state))
	if err != nil {
		t.Fatal(err)
	}
	defer svc.Close(t.Context())
	drift, err := svc.Diff(t.Context())
	if err != nil || !cmp.Equal([]string{"svc/job1"}, drift.Orphans) {
		t.Fatalf("drift %+v, %v, want svc/job1 unknown", drift, err)
	}
	if err := svc.RemoveOrphans(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"svc/job0"}, p.cloud.Units()); diff != "" {
		t.Error(diff)
	}
}

func TestTwoOperationsOnOneServiceDoNotMix(t *testing.T) {
	cloud := faastest.NewMemory(faastest.WithJob(answer))
	state, s := t.TempDir(), spec(t)
	inside, goOn := make(chan bool), make(chan bool)
	first := true
	opts := func(more ...serverless.DeployOption) []serverless.DeployOption {
		return append(more, serverless.WithExecutor(cloud.Executor("svc")), serverless.WithStateDir(state),
			serverless.WithoutRunner())
	}
	done := make(chan error)
	go func() {
		_, err := serverless.DeployServerless(t.Context(), s, []uint32{0}, policy(true, false).Serverless.Config(),
			opts(serverless.WithEvents(func(e serverless.Event) {
				if first {
					first = false
					close(inside)
					<-goOn
				}
			}))...)
		done <- err
	}()
	<-inside
	_, err := serverless.DeployServerless(t.Context(), s, []uint32{0}, policy(true, false).Serverless.Config(),
		opts(serverless.WithoutWaiting())...)
	if !errors.Is(err, faas.ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
	waited := make(chan error)
	go func() {
		_, err := serverless.DeployServerless(t.Context(), s, []uint32{0}, policy(true, false).Serverless.Config(), opts()...)
		waited <- err
	}()
	close(goOn)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// The policy's settings of single jobs reach the provider, and the plan tells what they change.
func TestAJobsOwnSettingsReachTheProvider(t *testing.T) {
	p := newPlanner(t)
	p.jobs = "fff"
	opts := func(change func(*serverless.ServerlessSettings)) []serverless.DeployOption {
		pol := policy(true, false)
		change(&pol.Serverless)
		return p.with(serverless.WithPolicy(pol))
	}
	p.deploy()
	wanted := opts(func(s *serverless.ServerlessSettings) {
		s.KeepWarm, s.MaxConcurrency = 1, 8
		s.Jobs = map[uint32]serverless.JobSettings{
			1: {MemoryMB: 1024, TimeoutSecs: 40, KeepWarm: new(uint32(3)), MaxConcurrency: new(uint32(5))},
			2: {KeepWarm: new(uint32(0))}}
	})
	plan, err := serverless.NewPlan(t.Context(), p.spec, wanted...)
	if err != nil {
		t.Fatal(err)
	}
	got := map[uint32]faas.Function{}
	for _, c := range plan.Changes {
		for _, f := range c.Functions {
			got[f.JobID] = faas.Function{JobID: f.JobID, MemoryMB: f.MemoryMB, TimeoutSecs: f.TimeoutSecs,
				MaxConcurrency: f.MaxConcurrency, KeepWarm: f.KeepWarm}
		}
		if job := c.Functions[0].JobID; c.Action != serverless.ActionUpdate ||
			slices.Contains(c.Differs, "keep warm") != (job != 2) || slices.Contains(c.Differs, "memory") != (job == 1) {
			t.Errorf("job %d: to %s because of %v", job, c.Action, c.Differs)
		}
	}
	want := map[uint32]faas.Function{
		0: {JobID: 0, MemoryMB: 512, TimeoutSecs: 300, MaxConcurrency: 8, KeepWarm: 1},
		1: {JobID: 1, MemoryMB: 1024, TimeoutSecs: 40, MaxConcurrency: 5, KeepWarm: 3},
		2: {JobID: 2, MemoryMB: 512, TimeoutSecs: 300, MaxConcurrency: 8},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("planned (-want +got):\n%s", diff)
	}
	svc, err := plan.Apply(t.Context(), p.spec, wanted...)
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := serverless.NewPlan(t.Context(), p.spec, wanted...)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range again.Changes {
		if c.Action != serverless.ActionKeep {
			t.Errorf("applied, and then to %s because of %v", c.Action, c.Differs)
		}
	}
}

// A profile's needs do not silently replace the policy's settings.
func TestAPlanTellsWhatItGivesInPlaceOfThePolicys(t *testing.T) {
	p := newPlanner(t)
	pol := policy(true, false)
	pol.Serverless.DefaultTimeoutSecs = 2
	pol.Serverless.Jobs = map[uint32]serverless.JobSettings{
		1: {TimeoutSecs: 30}, 2: {MemoryMB: 512}, 7: {KeepWarm: new(uint32(1))}}
	plan, err := serverless.NewPlan(t.Context(), p.spec, p.with(serverless.WithPolicy(pol))...)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(plan.Warnings, "\n")
	for want, times := range map[string]int{
		"a timeout of 10 s in place of the policy's 2 s": 1, "settings of job 2 do nothing": 1,
		"job 7, which the blueprint does not have": 1, "job 1 gets": 0,
	} {
		if strings.Count(got, want) != times {
			t.Errorf("%q is not told %d times:\n%s", want, times, got)
		}
	}
}
