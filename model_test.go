package serverless_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

var (
	modelRuns = flag.Int("model.runs", 60, "random histories that the model test plays")
	modelSeed = flag.Uint64("model.seed", 0, "play the one history of this seed")
)

// The model test plays random histories of one service: deployments of changing jobs, code and configuration, removals, each under random faults of
// the provider, cancellations and crashes. After every step all that exists at the provider must be in the ledger; after a step that
// succeeded the two must be equal; nothing of another service may ever change; and in the end everything can be removed.
func TestModelNothingLeaksWhateverFails(t *testing.T) {
	binaries := []string{script(t), script(t)}
	if err := os.WriteFile(binaries[1], []byte("#!/bin/sh\n# another version\ncat >/dev/null\necho '{\"result\":[8]}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	base := uint64(time.Now().UnixNano())
	runs := *modelRuns
	if *modelSeed != 0 {
		base, runs = *modelSeed, 1
	}
	for i := range runs {
		seed := base + uint64(i)
		var failure error
		synctest.Test(t, func(t *testing.T) { failure = playHistory(t.Context(), seed, t.TempDir(), binaries) })
		if failure != nil {
			t.Fatalf("%v\nreplay with: go test . -run TestModel -model.seed %d", failure, seed)
		}
	}
}

// mortal is an executor that dies with its program: from one moment on no call gets through, and what the ledger says is what it said then.
type mortal struct {
	faas.Executor
	life *life
}

type life struct {
	mu    sync.Mutex
	calls int // until death; negative: immortal
	dead  atomic.Bool
	state string // the state directory
	copy  string // of the state directory at the moment of death
	err   error
}

// step lets one moment pass; it returns an error from the moment of death on.
func (l *life) step() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.dead.Load() && l.calls == 0 {
		l.dead.Store(true)
		l.err = os.CopyFS(l.copy, os.DirFS(l.state))
	}
	l.calls--
	if l.dead.Load() {
		return faas.Errorf(faas.ErrUnavailable, "test", "memory", "this program is dead")
	}
	return nil
}

func (m *mortal) Observe(ctx context.Context, id string) (faas.State, error) {
	if err := m.life.step(); err != nil {
		return faas.State{}, err
	}
	return m.Executor.Observe(ctx, id)
}

func (m *mortal) Converge(ctx context.Context, u faas.Unit, prior *faas.State, report func(faas.Progress)) (faas.State, error) {
	if err := m.life.step(); err != nil {
		return faas.State{}, err
	}
	s, err := m.Executor.Converge(ctx, u, prior, report)
	if derr := m.life.step(); derr != nil {
		return faas.State{}, derr
	}
	return s, err
}

func (m *mortal) Restore(ctx context.Context, prior faas.State) error {
	if err := m.life.step(); err != nil {
		return err
	}
	err := m.Executor.Restore(ctx, prior)
	return errors.Join(err, m.life.step())
}

func (m *mortal) Remove(ctx context.Context, id string) error {
	if err := m.life.step(); err != nil {
		return err
	}
	err := m.Executor.Remove(ctx, id)
	return errors.Join(err, m.life.step())
}

// history is the state of one play.
type history struct {
	rng      *rand.Rand
	cloud    *faastest.Cloud
	state    string
	copies   string
	binaries []string
	log      []string
	faulty   atomic.Bool // faults strike
	crashes  int
}

func playHistory(ctx context.Context, seed uint64, dir string, binaries []string) (err error) {
	h := &history{rng: rand.New(rand.NewPCG(seed, 1)), state: filepath.Join(dir, "state"), copies: filepath.Join(dir, "copies"), binaries: binaries}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\nhistory:\n  %s", err, strings.Join(h.log, "\n  "))
		}
	}()
	var mu sync.Mutex
	faults := rand.New(rand.NewPCG(seed, 2))
	kinds := []faastest.FaultKind{faastest.Throttled, faastest.Conflict, faastest.Denied, faastest.Unavailable, faastest.TimedOut, faastest.LostAnswer, faastest.Halfway}
	h.cloud = faastest.NewMemory(faastest.WithJob(answer), faastest.WithScript(func(c faastest.Call) *faastest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if !h.faulty.Load() || faults.IntN(6) != 0 {
			return nil
		}
		return &faastest.Fault{Kind: kinds[faults.IntN(len(kinds))]}
	}))
	other, err := serverless.DeployServerless(ctx, h.spec("other", 0, "x"), []uint32{0, 1}, policy(true, false).Serverless.Config(), h.options("other", nil)...)
	if err != nil {
		return err
	}
	otherUnits := h.units("other")
	for range 2 + h.rng.IntN(8) {
		if err := h.step(ctx); err != nil {
			return err
		}
		if got := h.units("other"); !slices.Equal(got, otherUnits) {
			return fmt.Errorf("another service's units changed from %v to %v", otherUnits, got)
		}
	}
	h.faulty.Store(false)
	if err := h.undeploy(ctx, nil); err != nil {
		return fmt.Errorf("the last removal: %w", err)
	}
	if err := other.Undeploy(ctx); err != nil {
		return err
	}
	if units := h.cloud.Units(); len(units) > 0 {
		return fmt.Errorf("left at the provider: %v", units)
	}
	if infos, err := serverless.ListServices(serverless.WithStateDir(h.state)); err != nil || len(infos) > 0 {
		return fmt.Errorf("left in the ledgers: %v, %v", infos, err)
	}
	return nil
}

func (h *history) spec(name string, binary int, env string) serverless.ServiceSpec {
	return serverless.ServiceSpec{Name: name, BlueprintID: 1, BinaryPath: h.binaries[binary], Env: map[string]string{"KEY": env}}
}

func (h *history) options(service string, l *life) []serverless.DeployOption {
	var exec faas.Executor = h.cloud.Executor(service)
	if l != nil {
		exec = &mortal{exec, l}
	}
	return []serverless.DeployOption{serverless.WithExecutor(exec), serverless.WithStateDir(h.state), serverless.WithoutRunner()}
}

func (h *history) units(service string) []string {
	return slices.DeleteFunc(h.cloud.Units(), func(id string) bool { return !strings.HasPrefix(id, service+"/") })
}

// recorded returns the units of the service's ledger, and whether all are whole.
func (h *history) recorded() (ids []string, whole bool, err error) {
	infos, err := serverless.ListServices(serverless.WithStateDir(h.state))
	if err != nil {
		return nil, false, err
	}
	whole = true
	for _, info := range infos {
		if info.Name == "svc" {
			whole = !info.Interrupted()
			for _, u := range info.Units {
				ids = append(ids, u.ID)
			}
		}
	}
	return ids, whole, nil
}

func (h *history) step(ctx context.Context) error {
	h.faulty.Store(h.rng.IntN(3) != 0)
	var l *life
	if h.rng.IntN(3) == 0 {
		h.crashes++
		l = &life{calls: h.rng.IntN(14), state: h.state, copy: filepath.Join(h.copies, fmt.Sprint(h.crashes))}
	}
	if h.rng.IntN(4) == 0 {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(h.rng.IntN(200))*time.Millisecond)
		defer cancel()
		return h.operate(ctx, l)
	}
	return h.operate(ctx, l)
}

func (h *history) operate(ctx context.Context, l *life) error {
	_, wholeBefore, err := h.recorded()
	if err != nil {
		return err
	}
	var jobs []uint32
	switch h.rng.IntN(5) {
	case 0:
		h.note("undeploy", l)
		err = h.undeploy(ctx, l)
	case 1:
		h.note("recover", l)
		_, err = serverless.Recover(ctx, "svc", h.options("svc", l)...)
		if errors.Is(err, faas.ErrNotFound) {
			err = nil
		}
	default:
		for id := range uint32(5) {
			if h.rng.IntN(2) == 0 {
				jobs = append(jobs, id)
			}
		}
		if len(jobs) == 0 {
			jobs = []uint32{0}
		}
		spec := h.spec("svc", h.rng.IntN(2), fmt.Sprint(h.rng.IntN(2)))
		h.note(fmt.Sprintf("deploy %v of %s with %v", jobs, filepath.Dir(spec.BinaryPath), spec.Env), l)
		var svc *serverless.Service
		svc, err = serverless.DeployServerless(ctx, spec, jobs, policy(true, false).Serverless.Config(), h.options("svc", l)...)
		if svc != nil {
			if err == nil && len(svc.Warnings()) > 0 {
				jobs = nil // functions that belong to no job any more are still there, as the warning says
			}
			_ = svc.Close(ctx)
		}
	}
	h.log = append(h.log, fmt.Sprintf("  -> %v; at the provider: %v", err, h.units("svc")))
	if l != nil && l.dead.Load() {
		if l.err != nil {
			return l.err
		}
		if err := errors.Join(os.RemoveAll(h.state), os.CopyFS(h.state, os.DirFS(l.copy))); err != nil {
			return err
		}
		err = errors.New("crashed")
	}
	there := h.units("svc")
	ids, whole, lerr := h.recorded()
	if lerr != nil {
		return lerr
	}
	for _, id := range there {
		if !slices.Contains(ids, id) {
			return fmt.Errorf("%s exists at the provider and is in no ledger (%v)", id, ids)
		}
	}
	if err == nil && jobs != nil {
		want := make([]string, len(jobs))
		for i, id := range jobs {
			want[i] = fmt.Sprintf("svc/job%d", id)
		}
		if !slices.Equal(there, want) || !slices.Equal(ids, want) || !whole {
			return fmt.Errorf("after a good deployment the provider has %v and the ledger %v (whole: %t), want %v", there, ids, whole, want)
		}
	}
	var fe *faas.Error
	if errors.As(err, &fe) && len(fe.Leftovers) == 0 && wholeBefore && !whole && len(jobs) > 0 {
		return fmt.Errorf("the error lists no leftovers, and the ledger has pending units: %w", err)
	}
	return nil
}

func (h *history) note(what string, l *life) {
	if l != nil {
		what += fmt.Sprintf(", crash after %d moments", l.calls)
	}
	h.log = append(h.log, fmt.Sprintf("%s (faults: %t)", what, h.faulty.Load()))
}

func (h *history) undeploy(ctx context.Context, l *life) error {
	svc, err := serverless.OpenService(ctx, "svc", h.options("svc", l)...)
	if errors.Is(err, faas.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := svc.Undeploy(ctx); err != nil {
		_ = svc.Close(ctx)
		return err
	}
	return nil
}
