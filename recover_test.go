package serverless_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

// onlyService returns what the ledgers of the test record of its one service.
func onlyService(t *testing.T) serverless.ServiceInfo {
	t.Helper()
	services, err := serverless.ListServices("")
	if err != nil || len(services) != 1 {
		t.Fatalf("%d services, %v", len(services), err)
	}
	return services[0]
}

// Recover does not settle an interrupted update that left a unit which does not answer.
func TestRecoverKeepsInMindAUnitThatIsNotReady(t *testing.T) {
	var broken atomic.Bool
	cloud := faastest.NewMemory(faastest.WithJob(answer), faastest.WithScript(func(c faastest.Call) *faastest.Fault {
		switch {
		case !broken.Load() || c.Unit != "svc/job1":
		case c.Op == faastest.OpConverge:
			return &faastest.Fault{Kind: faastest.Halfway}
		case c.Op == faastest.OpRestore:
			return &faastest.Fault{Kind: faastest.Unavailable}
		}
		return nil
	}))
	s := spec(t)
	deploy := func() (*serverless.Service, error) {
		return serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(true, false)),
			serverless.WithMetadata(metadata("ff")), serverless.WithExecutor(cloud.Executor("svc")), serverless.WithoutRunner(),
			serverless.WithPatience(time.Millisecond))
	}
	if _, err := deploy(); err != nil {
		t.Fatal(err)
	}
	s.Env = map[string]string{"KEY": "new"}
	broken.Store(true)
	var fe *faas.Error
	if _, err := deploy(); !errors.As(err, &fe) || !cmp.Equal(fe.Leftovers, []string{"svc/job1"}) {
		t.Fatalf("the update: %v", err)
	}
	recovered := func() *serverless.Recovery {
		t.Helper()
		r, err := serverless.Recover(t.Context(), "svc", serverless.WithExecutor(cloud.Executor("svc")))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	cloud.Break("svc/job1", "it crashes")
	for range 2 {
		if diff := cmp.Diff(&serverless.Recovery{Removed: []string{}, Unsettled: []string{"svc/job1"}},
			recovered()); diff != "" {
			t.Fatalf("Recover (-want +got):\n%s", diff)
		}
		info := onlyService(t)
		if len(info.Units) != 2 || info.Units[1].Pending != serverless.ActionUpdate ||
			info.Units[1].State.Status != faas.StatusFailed || !info.Interrupted() {
			t.Fatalf("the ledger after Recover: %+v", info.Units)
		}
	}
	broken.Store(false)
	svc, err := deploy()
	if err != nil {
		t.Fatal(err)
	}
	if info := onlyService(t); info.Interrupted() || info.Units[1].State.Status != faas.StatusReady {
		t.Errorf("the ledger after a deployment: %+v", info.Units)
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTheLedgerDescribesTheLastDeploymentThatSucceeded(t *testing.T) {
	var broken atomic.Bool
	cloud := faastest.NewMemory(faastest.WithJob(answer), faastest.WithScript(func(c faastest.Call) *faastest.Fault {
		if broken.Load() && c.Op == faastest.OpConverge {
			return &faastest.Fault{Kind: faastest.Unavailable}
		}
		return nil
	}))
	s := spec(t)
	deploy := func(jobs string) error {
		_, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(true, false)),
			serverless.WithMetadata(metadata(jobs)), serverless.WithExecutor(cloud.Executor("svc")), serverless.WithoutRunner())
		return err
	}
	check := func(blueprint uint64, binary string, local []uint32) {
		t.Helper()
		info := onlyService(t)
		if info.BlueprintID != blueprint || info.BinaryPath != binary || !cmp.Equal(info.LocalJobs, local) ||
			info.Updated.IsZero() {
			t.Errorf("the ledger describes blueprint %d, binary %s, local jobs %v at %v; want %d, %s, %v", info.BlueprintID,
				info.BinaryPath, info.LocalJobs, info.Updated, blueprint, binary, local)
		}
	}
	if err := deploy("fs"); err != nil {
		t.Fatal(err)
	}
	first := s.BinaryPath
	check(1, first, []uint32{1})

	s.BlueprintID, s.BinaryPath, s.Env = 2, script(t), map[string]string{"KEY": "new"}
	broken.Store(true)
	if err := deploy("ffs"); err == nil {
		t.Fatal("the second deployment succeeded")
	}
	check(1, first, []uint32{1})

	broken.Store(false)
	if err := deploy("ffs"); err != nil {
		t.Fatal(err)
	}
	check(2, s.BinaryPath, []uint32{2})
}

// replacing is an executor whose Units replaces the binary, as a build might.
type replacing struct {
	faas.Executor
	replace func()
}

func (r replacing) Units(bin *faas.Binary, functions []faas.Function) ([]faas.Unit, error) {
	units, err := r.Executor.Units(bin, functions)
	r.replace()
	return units, err
}

func TestABinaryThatChangesWhileItIsPackagedIsNotDeployed(t *testing.T) {
	s := spec(t)
	was, err := os.ReadFile(s.BinaryPath)
	if err != nil {
		t.Fatal(err)
	}
	for name, now := range map[string]string{
		"as long as before": strings.Replace(string(was), "[7]", "[8]", 1),
		"longer":            string(was) + "exit 0\n",
		"empty":             "",
	} {
		if err := os.WriteFile(s.BinaryPath, was, 0o755); err != nil {
			t.Fatal(err)
		}
		cloud := faastest.NewMemory(faastest.WithJob(answer))
		exec := replacing{cloud.Executor("svc"), func() {
			if err := os.WriteFile(s.BinaryPath, []byte(now), 0o755); err != nil {
				t.Error(err)
			}
		}}
		_, err := serverless.Deploy(context.WithoutCancel(t.Context()), s, serverless.WithPolicy(policy(true, false)),
			serverless.WithMetadata(metadata("ff")), serverless.WithExecutor(exec), serverless.WithoutRunner())
		if faas.CodeOf(err) != faas.ErrConflict || !strings.Contains(err.Error(), s.BinaryPath) {
			t.Errorf("%s: %v, want a conflict that names the binary", name, err)
		}
		if n := len(cloud.Units()); n != 0 {
			t.Errorf("%s: %d units were deployed", name, n)
		}
	}
}
