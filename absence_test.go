package serverless_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// lostLedger is a planner of a service with jobs 0 and 1 that another machine deployed.
func lostLedger(t *testing.T, jobs string) *planner {
	p := newPlanner(t)
	p.deploy()
	p.state, p.jobs = t.TempDir(), jobs
	return p
}

func TestADeploymentWithoutTheLedgerTellsOfWhatItDoesNotKnow(t *testing.T) {
	p := lostLedger(t, "f")
	plan := p.plan()
	svc, err := serverless.Deploy(t.Context(), p.spec, p.with()...)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"plan": strings.Join(plan.Warnings, "\n"),
		"service": strings.Join(svc.Warnings(), "\n")} {
		if !strings.Contains(text, "svc/job0") || !strings.Contains(text, "svc/job1") ||
			!strings.Contains(text, "RemoveOrphans") {
			t.Errorf("the %s does not name what was taken over and what is an orphan: %q", what, text)
		}
	}
	undeploy(t, svc)
	if left := p.cloud.Units(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestUndeployRemovesWhatCarriesTheTagsAfterOneStaleList(t *testing.T) {
	p := newPlanner(t)
	p.deploy()
	p.state, p.jobs = t.TempDir(), "f"
	svc, err := serverless.Deploy(t.Context(), p.spec, p.with()...)
	if err != nil {
		t.Fatal(err)
	}
	defer svc.Close(context.Background())
	stale := &staleList{Executor: p.cloud.Executor("svc"), times: 1}
	again, err := serverless.OpenService(t.Context(), "svc",
		openOptions(p.options(), serverless.WithExecutor(stale))...)
	if err != nil {
		t.Fatal(err)
	}
	undeploy(t, again)
	if left := p.cloud.Units(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// staleList is an executor whose first calls of List return nothing.
type staleList struct {
	faas.Executor
	times int
}

func (s *staleList) List(ctx context.Context) ([]faas.State, error) {
	if s.times--; s.times >= 0 {
		return nil, nil
	}
	return s.Executor.List(ctx)
}

// A ledger that can be read and not written still tells what exists.
func TestAStateDirectoryThatCannotBeWrittenLeavesNoFunctionsUntold(t *testing.T) {
	s := spec(t)
	cloud := faastest.NewMemory(faastest.WithJob(answer), faastest.WithoutList())
	opts := func(jobs string) []serverless.DeployOption {
		return []serverless.DeployOption{serverless.WithPolicy(policy(true, false)), serverless.WithMetadata(metadata(jobs)),
			serverless.WithoutRunner(), serverless.WithExecutor(cloud.Executor("svc"))}
	}
	svc, err := serverless.Deploy(t.Context(), s, opts("fff")...)
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir, err := serverless.DefaultStateDir()
	if err != nil {
		t.Fatal(err)
	}
	ledgers, err := filepath.Glob(filepath.Join(dir, "*.ledger"))
	if err != nil || len(ledgers) != 1 {
		t.Fatalf("ledgers %v, %v", ledgers, err)
	}
	// A directory in place of the lock, because permissions do not stop a test that runs as root.
	lock := strings.TrimSuffix(ledgers[0], ".ledger") + ".lock"
	if err := errors.Join(os.RemoveAll(lock), os.Mkdir(lock, 0o700)); err != nil {
		t.Fatal(err)
	}
	svc, err = serverless.Deploy(t.Context(), s, opts("f")...)
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(svc.Warnings(), "\n"); !strings.Contains(text, "no ledger is kept") {
		t.Errorf("warnings: %q", text)
	}
	if got := cloud.Units(); len(got) != 1 || got[0] != "svc/job0" {
		t.Errorf("deployed: %v", got)
	}
}

// An error of the ledger says nothing about the provider, so that no deployment falls back because
// of it.
func TestALedgerThatCannotBeWrittenAnyMoreIsTheErrorAndNoFallback(t *testing.T) {
	p := newPlanner(t)
	p.jobs = "f"
	p.deploy()
	p.memMB = 1024
	observe := faastest.Faulty(p.cloud.Executor("svc"), func(c faastest.Call) *faastest.Fault {
		files, _ := filepath.Glob(filepath.Join(p.state, "*.ledger"))
		if c.Op == faastest.OpObserve && len(files) == 1 {
			// From now on the ledger can only be read.
			_, _ = os.Remove(files[0]), os.Mkdir(files[0], 0o700)
		}
		return nil
	})
	pol := policy(true, true)
	pol.Serverless.DefaultMemoryMB = p.memMB
	fellBack := false
	svc, err := serverless.Deploy(t.Context(), p.spec,
		p.with(serverless.WithPolicy(pol), serverless.WithExecutor(observe),
			serverless.WithTraditional(func(context.Context, serverless.ServiceSpec, []uint32,
				serverless.Sizing) (orchestrator.Runner, error) {
				fellBack = true
				return hookRunner{}, nil
			}))...)
	if err == nil || svc != nil || fellBack || !strings.Contains(err.Error(), "write ledger") {
		t.Errorf("service %v, error %v, fell back: %v", svc, err, fellBack)
	}
	if got := p.cloud.Functions("svc/job0"); len(got) != 1 || got[0].MemoryMB != 512 {
		t.Errorf("the function was changed: %+v", got)
	}
}

func TestRemoveOrphansDoesNotRemoveWhatADeploymentIsMaking(t *testing.T) {
	p := newPlanner(t)
	p.jobs = "f"
	p.deploy()
	handle, err := serverless.OpenService(t.Context(), "svc",
		openOptions(p.options(), serverless.WithoutWaiting())...)
	if err != nil {
		t.Fatal(err)
	}
	converging, goOn := make(chan struct{}), make(chan struct{})
	held := p.with(serverless.WithMetadata(metadata("ff")),
		serverless.WithExecutor(&heldConverge{p.cloud.Executor("svc"), "svc/job1", converging, goOn}))
	deployed := make(chan error)
	go func() {
		svc, err := serverless.Deploy(context.Background(), p.spec, held...)
		if err == nil {
			err = svc.Close(context.Background())
		}
		deployed <- err
	}()
	<-converging
	if err := handle.RemoveOrphans(t.Context()); !errors.Is(err, faas.ErrConflict) {
		t.Errorf("error %v, want a conflict with the deployment", err)
	}
	close(goOn)
	if err := <-deployed; err != nil {
		t.Error(err)
	}
	if err := handle.RemoveOrphans(t.Context()); err != nil {
		t.Error(err)
	}
	if got := p.cloud.Units(); len(got) != 2 {
		t.Errorf("left: %v", got)
	}
}

// heldConverge is an executor whose Converge makes a unit and returns only when it is released.
type heldConverge struct {
	faas.Executor
	unit            string
	made, mayReturn chan struct{}
}

func (h *heldConverge) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (faas.State, error) {
	state, err := h.Executor.Converge(ctx, u, prior, report)
	if u.ID == h.unit {
		close(h.made)
		<-h.mayReturn
	}
	return state, err
}

// A read that is behind may hide what an interrupted update left.
func TestRecoverRemovesNothingThatWasWhole(t *testing.T) {
	p := newPlanner(t)
	p.jobs = "f"
	p.deploy()
	p.memMB = 1024
	weather := faastest.Faults(faastest.Rule{Op: faastest.OpConverge, Fault: faastest.Fault{Kind: faastest.LostAnswer}},
		faastest.Rule{Op: faastest.OpRestore, Fault: faastest.Fault{Kind: faastest.Denied}})
	if _, err := serverless.Deploy(t.Context(), p.spec,
		p.with(serverless.WithExecutor(faastest.Faulty(p.cloud.Executor("svc"), weather)))...); err == nil {
		t.Fatal("the update succeeded")
	}
	out, err := serverless.Recover(t.Context(), "svc",
		append(p.options(), serverless.WithExecutor(notFound{p.cloud.Executor("svc")}),
			serverless.WithPatience(time.Millisecond))...)
	if err != nil || len(out.Removed) > 0 || len(out.Missing) != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	if got := p.cloud.Units(); len(got) != 1 {
		t.Errorf("left: %v", got)
	}
	if infos, err := serverless.ListServices(p.state); err != nil || len(infos) != 1 ||
		len(infos[0].Units) != 1 {
		t.Errorf("the ledger forgot it: %+v, %v", infos, err)
	}
	svc, err := serverless.OpenService(t.Context(), "svc", openOptions(p.options())...)
	if err != nil {
		t.Fatal(err)
	}
	undeploy(t, svc)
	if left := p.cloud.Units(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// notFound is an executor whose reads are behind.
type notFound struct{ faas.Executor }

func (notFound) Observe(_ context.Context, id string) (faas.State, error) {
	return faas.State{}, faas.Errorf(faas.ErrNotFound, "observe", "memory", "no unit %s", id)
}

// An interrupted creation may be that of a unit that existed already, and that a read hid from a
// machine whose ledger does not record the service.
func TestRecoverRemovesNothingThatIsOlderThanTheCreation(t *testing.T) {
	p := newPlanner(t)
	p.jobs = "f"
	p.deploy()
	p.state = t.TempDir()
	// The other machine finds nothing, and ends too early to notice.
	blind := &notFoundThen{Executor: p.cloud.Executor("svc"), at: time.Now().Add(-time.Hour)}
	if _, err := serverless.Deploy(t.Context(), p.spec,
		p.with(serverless.WithExecutor(blind))...); err == nil {
		t.Fatal("the deployment succeeded")
	}
	out, err := serverless.Recover(t.Context(), "svc", append(p.options(), serverless.WithExecutor(blind))...)
	if err != nil || len(out.Removed) > 0 || len(out.Unsettled) != 1 {
		t.Errorf("%+v, %v", out, err)
	}
	if got := p.cloud.Units(); len(got) != 1 {
		t.Errorf("left: %v", got)
	}
}

// notFoundThen does not find a unit until it is told to make or remove it, which it cannot.
type notFoundThen struct {
	faas.Executor
	at      time.Time
	tried   bool
	removed bool
}

func (n *notFoundThen) Observe(ctx context.Context, id string) (faas.State, error) {
	if !n.tried {
		return notFound{}.Observe(ctx, id)
	}
	state, err := n.Executor.Observe(ctx, id)
	state.DeployedAt = n.at
	return state, err
}

func (n *notFoundThen) Converge(context.Context, faas.Unit, *faas.State, func(faas.Progress)) (faas.State, error) {
	n.tried = true
	return faas.State{}, faas.Errorf(faas.ErrPermissionDenied, "converge", "memory", "not allowed")
}

func (n *notFoundThen) Remove(ctx context.Context, id string) error {
	if !n.removed {
		n.removed = true
		return faas.Errorf(faas.ErrPermissionDenied, "remove", "memory", "not allowed")
	}
	return n.Executor.Remove(ctx, id)
}

func (n *notFoundThen) Close() error { return nil }

// A deployment that is under way is not an interrupted one, and a waiting caller is told for what
// it waits.
func TestAServiceThatIsBeingDeployedIsBusyAndNotInterrupted(t *testing.T) {
	p := newPlanner(t)
	p.jobs = "f"
	converging, goOn := make(chan struct{}), make(chan struct{})
	deploy := func(opts ...serverless.DeployOption) error {
		svc, err := serverless.Deploy(context.Background(), p.spec, p.with(opts...)...)
		if err == nil {
			err = svc.Close(context.Background())
		}
		return err
	}
	first, second := make(chan error, 1), make(chan error, 1)
	go func() {
		first <- deploy(serverless.WithExecutor(&heldConverge{p.cloud.Executor("svc"), "svc/job0", converging, goOn}))
	}()
	<-converging
	infos, err := serverless.ListServices(p.state)
	if err != nil || len(infos) != 1 {
		t.Fatalf("%+v, %v", infos, err)
	}
	if info := infos[0]; !info.Busy || info.Interrupted() || info.Updated.IsZero() ||
		info.BinaryPath != p.spec.BinaryPath {
		t.Errorf("the service that is being deployed: %+v", info)
	}
	waits := make(chan struct{})
	var once sync.Once
	go func() {
		second <- deploy(serverless.WithEvents(func(e serverless.Event) {
			if e.Phase == serverless.PhaseLock && e.Kind == serverless.EventStarted {
				once.Do(func() { close(waits) })
			}
		}))
	}()
	<-waits
	close(goOn)
	if err := errors.Join(<-first, <-second); err != nil {
		t.Error(err)
	}
}

// A caller who may not list is told so, and can still deploy and undeploy.
func TestADeploymentThatMayNotListSaysSo(t *testing.T) {
	p := newPlanner(t)
	denied := func() serverless.DeployOption {
		return serverless.WithExecutor(faastest.Faulty(
			p.cloud.Executor("svc"), faastest.Faults(faastest.Rule{
				Op: faastest.OpList, Fault: faastest.Fault{Kind: faastest.Denied}})))
	}
	svc, err := serverless.Deploy(t.Context(), p.spec, p.with(denied())...)
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(svc.Warnings(), "\n"); !strings.Contains(text, "cannot be listed") {
		t.Errorf("warnings: %q", text)
	}
	undeploy(t, svc)
	if left := p.cloud.Units(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
