package serverless_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// startCounter is an orchestrator that counts its starts.
type startCounter struct{ starts int }

func (c *startCounter) Start(_ context.Context, _ orchestrator.Spec) (orchestrator.Runner, error) {
	c.starts++
	return hookRunner{}, nil
}

func TestWithoutRunnerStartsNoneTraditionallyEither(t *testing.T) {
	orc := &startCounter{}
	svc, err := serverless.Deploy(t.Context(), spec(t), serverless.WithPolicy(policy(false, false)),
		serverless.WithMetadata(metadata("ff")), serverless.WithoutRunner(), serverless.WithOrchestrator(orc))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := svc.Invoke(t.Context(), 0, nil); orc.starts != 0 || !errors.Is(err, faas.ErrUnsupported) {
		t.Errorf("%d starts, and Invoke: %v", orc.starts, err)
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAServiceThatWasClosedDoesNothingAnyMore(t *testing.T) {
	cloud := faastest.NewMemory(faastest.WithJob(answer))
	svc, err := serverless.Deploy(t.Context(), spec(t), serverless.WithPolicy(policy(true, false)),
		serverless.WithMetadata(metadata("ff")), serverless.WithExecutor(cloud.Executor("svc")))
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, invokeErr := svc.Invoke(t.Context(), 0, nil)
	_, healthErr := svc.Health(t.Context())
	_, warmErr := svc.Warm(t.Context(), 1)
	_, diffErr := svc.Diff(t.Context())
	for _, err := range []error{invokeErr, healthErr, warmErr, diffErr} {
		if !errors.Is(err, faas.ErrUnavailable) {
			t.Errorf("error %v, want unavailable", err)
		}
	}
	if err := cloud.Executor("svc").Remove(t.Context(), "svc/job0"); err != nil {
		t.Fatal(err)
	}
	if err := cloud.Executor("svc").Remove(t.Context(), "svc/job1"); err != nil {
		t.Fatal(err)
	}
}

func TestOneFunctionWhoseHealthCannotBeToldDoesNotHideTheOthers(t *testing.T) {
	cloud := faastest.NewMemory(faastest.WithScript(
		faastest.Faults(faastest.Rule{Op: faastest.OpHealth, Times: 1, Fault: faastest.Fault{Kind: faastest.Throttled}})))
	svc, err := serverless.Deploy(t.Context(), spec(t), serverless.WithPolicy(policy(true, false)),
		serverless.WithMetadata(metadata("ffff")), serverless.WithExecutor(cloud.Executor("svc")))
	if err != nil {
		t.Fatal(err)
	}
	defer svc.Undeploy(t.Context())
	health, err := svc.Health(t.Context())
	if err != nil || len(health.Jobs) != 4 {
		t.Fatalf("%+v, %v", health, err)
	}
	known := 0
	for _, job := range health.Jobs {
		if job.Known && job.Healthy {
			known++
		} else if !strings.Contains(job.Reason, "throttled") {
			t.Errorf("job %d: reason %q", job.JobID, job.Reason)
		}
	}
	if known != 3 {
		t.Errorf("%d of 4 functions known to be healthy, want 3", known)
	}
}

func TestAServiceInUseIsNoReasonToFallBack(t *testing.T) {
	cloud := faastest.NewMemory(faastest.WithJob(answer))
	s := spec(t)
	options := []serverless.DeployOption{serverless.WithPolicy(policy(true, true)),
		serverless.WithMetadata(metadata("ff")), serverless.WithStateDir(t.TempDir()), serverless.WithoutWaiting()}
	var second error
	tried := false
	svc, err := serverless.Deploy(t.Context(), s,
		append(options, serverless.WithExecutor(cloud.Executor("svc")), serverless.WithEvents(func(e serverless.Event) {
			if e.Phase == serverless.PhaseFunction && !tried {
				tried = true
				_, second = serverless.Deploy(t.Context(), s, append(options, serverless.WithExecutor(cloud.Executor("svc")))...)
			}
		}))...)
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(second, faas.ErrConflict) {
		t.Errorf("error %v, want a conflict", second)
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWithoutAUsableDefaultStateDirectoryADeploymentGoesOnAndWarns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sp := spec(t)
	for _, name := range []string{"XDG_STATE_HOME", "HOME", "AppData"} {
		t.Setenv(name, file)
	}
	cloud := faastest.NewMemory(faastest.WithJob(answer))
	svc, err := serverless.Deploy(t.Context(), sp, serverless.WithPolicy(policy(true, false)),
		serverless.WithMetadata(metadata("ff")), serverless.WithExecutor(cloud.Executor("svc")), serverless.WithoutRunner())
	if err != nil {
		t.Fatal(err)
	}
	if w := strings.Join(svc.Warnings(), "\n"); !strings.Contains(w, "no ledger is kept") {
		t.Errorf("warnings %q", w)
	}
	if err := svc.Undeploy(t.Context()); err != nil || len(cloud.Units()) > 0 {
		t.Errorf("%v, left: %v", err, cloud.Units())
	}
	_, err = serverless.Deploy(t.Context(), sp, serverless.WithPolicy(policy(true, false)),
		serverless.WithMetadata(metadata("ff")), serverless.WithExecutor(cloud.Executor("svc")), serverless.WithoutRunner(),
		serverless.WithStateDir(filepath.Join(file, "state")))
	if err == nil {
		t.Error("a directory of the caller's choice that cannot be used is not an error")
	}
}

// A unit that was never whole is removed when another attempt fails, however many attempts crashed
// before.
func TestAUnitThatWasNeverWholeIsRemovedAndNotRestored(t *testing.T) {
	state := t.TempDir()
	fault := faastest.Halfway
	stuck := true
	cloud := faastest.NewMemory(faastest.WithScript(func(c faastest.Call) *faastest.Fault {
		switch {
		case c.Op == faastest.OpConverge:
			return &faastest.Fault{Kind: fault}
		case c.Op.Writes() && stuck: // as if the program had crashed before an undo
			return &faastest.Fault{Kind: faastest.Denied}
		}
		return nil
	}))
	s := spec(t)
	deploy := func() error {
		_, err := serverless.DeployServerless(t.Context(), s, []uint32{0}, policy(true, false).Serverless.Config(),
			serverless.WithExecutor(cloud.Executor("svc")), serverless.WithStateDir(state), serverless.WithoutRunner())
		return err
	}
	for range 3 {
		if err := deploy(); err == nil {
			t.Fatal("no error")
		}
		if len(cloud.Units()) != 1 {
			t.Fatal("the half-made unit is not there")
		}
	}
	fault, stuck = faastest.Denied, false
	err := deploy()
	var fe *faas.Error
	if !errors.As(err, &fe) || len(fe.Leftovers) > 0 || len(cloud.Units()) > 0 {
		t.Errorf("error %v, left at the provider: %v", err, cloud.Units())
	}
	if infos, err := serverless.ListServices(state); err != nil || len(infos) > 0 {
		t.Errorf("left in the ledger: %+v, %v", infos, err)
	}
}

func TestAServiceIsOnlyOpenedWhereThePolicySays(t *testing.T) {
	p := newPlanner(t)
	p.deploy()
	elsewhere := policy(true, false)
	elsewhere.Serverless.Provider = serverless.ProviderSettings{Type: faas.AWSLambda, Region: "eu-west-1"}
	_, err := serverless.OpenService(t.Context(), "svc", serverless.WithPolicy(elsewhere),
		serverless.WithExecutor(p.cloud.Executor("svc")), serverless.WithStateDir(p.state))
	if !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("error %v, want not found", err)
	}
	here := policy(true, false)
	here.Serverless.Provider.Endpoint += "/" // the same place in another spelling
	svc, err := serverless.OpenService(t.Context(), "svc", serverless.WithPolicy(here),
		serverless.WithExecutor(p.cloud.Executor("svc")), serverless.WithStateDir(p.state))
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Undeploy(t.Context()); err != nil || len(p.cloud.Units()) > 0 {
		t.Errorf("%v, left: %v", err, p.cloud.Units())
	}
}

func TestATraditionalPlanIsRefusedForAnotherBinary(t *testing.T) {
	p := newPlanner(t)
	p.jobs = "ss"
	plan := p.plan()
	if err := os.WriteFile(p.spec.BinaryPath, []byte("#!/bin/sh\necho '{\"result\":[9]}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := plan.Apply(t.Context(), p.spec, p.with()...); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("error %v, want a conflict", err)
	}
}

func TestAJobThatHangsDoesNotKeepAServiceFromBeingRemoved(t *testing.T) {
	s := spec(t)
	if err := os.WriteFile(s.BinaryPath, []byte("#!/bin/sh\necho started >&2\nexec sleep 100\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	orc := &orchestrator.Local{StopTimeout: 50 * time.Millisecond, Log: func([]byte) { close(started) }}
	svc, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(false, false)),
		serverless.WithMetadata(metadata("ff")), serverless.WithOrchestrator(orc))
	if err != nil {
		t.Fatal(err)
	}
	invoked := make(chan error)
	go func() {
		_, err := svc.Invoke(context.Background(), 0, nil)
		invoked <- err
	}()
	<-started
	if err := svc.Undeploy(context.Background()); err != nil {
		t.Errorf("error %v: what was cut off is gone, and no leftover", err)
	}
	if err := <-invoked; err == nil {
		t.Error("the job that was cut off succeeded")
	}
}

func TestOptionsWithoutEffectAreRefusedBeforeAnythingIsChanged(t *testing.T) {
	cloud := faastest.NewMemory(faastest.WithJob(answer))
	s := spec(t)
	meta := serverless.WithMetadata(metadata("ff"))
	fetch := serverless.WithFetch(serverless.WithMock())
	decided := func(opts ...serverless.DeployOption) error {
		_, err := serverless.DeployServerless(t.Context(), s, []uint32{0}, policy(true, false).Serverless.Config(),
			append(opts, serverless.WithExecutor(cloud.Executor("svc")))...)
		return err
	}
	_, both := serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(true, true)), meta, fetch,
		serverless.WithExecutor(cloud.Executor("svc")))
	for name, err := range map[string]error{
		"a policy":                              decided(serverless.WithPolicy(policy(true, false))),
		"metadata that nothing is decided from": decided(meta),
		"options of a call that is not made":    decided(fetch),
		"metadata that are given and fetched":   both,
	} {
		if !errors.Is(err, faas.ErrInvalidArgument) || !strings.Contains(err.Error(), "With") {
			t.Errorf("%s: error %v, want an invalid argument that names the option", name, err)
		}
	}
	if len(cloud.Units()) > 0 {
		t.Errorf("%v exist", cloud.Units())
	}
}
