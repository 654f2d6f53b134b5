package serverless_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// The model test plays random histories of one service: deployments of changing jobs, code and
// configuration, removals and recoveries. The weather is bad: reads are behind, answers are lost
// after the change was made, and calls are refused or late. Programs end between any two steps,
// ledgers are lost, and people change and remove functions by hand.
//
// After every step, only functions that were asked to go are gone; the ledger records all that
// exists, and what it calls whole is as it says; a failed deployment has changed only what its
// error lists; and nothing of another service has changed. In the end the service can be deployed,
// and removed without a trace.
func TestModelNothingLeaksWhateverFails(t *testing.T) {
	binaries := []string{script(t), script(t)}
	if err := os.WriteFile(binaries[1], []byte("#!/bin/sh\n# another version\ncat >/dev/null\necho '{\"result\":[8]}'\n"),
		0o755); err != nil {
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

// history is the state of one play.
type history struct {
	rng      *rand.Rand
	sky      *faastest.Sky
	cloud    *faastest.Cloud
	state    string
	copies   string
	binaries []string
	log      []string
	crashes  int
	edited   map[string]bool // units that were changed by hand since they were recorded
}

func playHistory(ctx context.Context, seed uint64, dir string, binaries []string) (err error) {
	h := &history{rng: rand.New(rand.NewPCG(seed, 1)), sky: faastest.NewSky(seed), edited: map[string]bool{},
		state: filepath.Join(dir, "state"), copies: filepath.Join(dir, "copies"), binaries: binaries}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\nhistory:\n  %s", err, strings.Join(h.log, "\n  "))
		}
	}()
	h.cloud = faastest.NewMemory(faastest.WithJob(answer), faastest.WithLatency(time.Millisecond))
	other, err := serverless.DeployServerless(ctx, h.spec("other", 0, "x"), []uint32{0, 1},
		policy(true, false).Serverless.Config(), deployOptions(h.options("other"), serverless.WithoutRunner())...)
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
	h.sky.Set(false)
	h.log = append(h.log, "the weather is good from here")
	jobs := []uint32{0, 1, 2, 3, 4}
	clear(h.edited)
	svc, err := h.deploy(ctx, h.spec("svc", 0, "last"), jobs)
	if err != nil {
		return fmt.Errorf("the last deployment: %w", err)
	}
	for _, job := range jobs {
		if _, err := svc.Invoke(ctx, job, nil); err != nil {
			return fmt.Errorf("in the end job %d does not answer: %w", job, err)
		}
	}
	if err := errors.Join(svc.Close(ctx), h.undeploy(ctx)); err != nil {
		return fmt.Errorf("the last removal: %w", err)
	}
	if err := other.Undeploy(ctx); err != nil {
		return err
	}
	if units := h.cloud.Units(); len(units) > 0 {
		return fmt.Errorf("left at the provider: %v", units)
	}
	if infos, err := serverless.ListServices(h.state); err != nil || len(infos) > 0 {
		return fmt.Errorf("left in the ledgers: %v, %v", infos, err)
	}
	return nil
}

func (h *history) spec(name string, binary int, env string) serverless.ServiceSpec {
	return serverless.ServiceSpec{Name: name, BlueprintID: 1, BinaryPath: h.binaries[binary],
		Env: map[string]string{"KEY": env}}
}

func (h *history) options(service string) []serverless.ServiceOption {
	var exec faas.Executor = h.cloud.Executor(service)
	if service == "svc" {
		exec = h.sky.Executor(exec)
	}
	return []serverless.ServiceOption{serverless.WithExecutor(exec), serverless.WithStateDir(h.state)}
}

func (h *history) units(service string) []string {
	return slices.DeleteFunc(h.cloud.Units(), func(id string) bool { return !strings.HasPrefix(id, service+"/") })
}

// truth is what exists of the service.
func (h *history) truth(ctx context.Context) (map[string]faas.State, error) {
	states, err := h.cloud.Executor("svc").List(ctx)
	out := map[string]faas.State{}
	for _, s := range states {
		out[s.ID] = s
	}
	return out, err
}

// recorded returns the units of the service's ledger.
func (h *history) recorded() (map[string]serverless.UnitInfo, error) {
	infos, err := serverless.ListServices(h.state)
	units := map[string]serverless.UnitInfo{}
	for _, info := range infos {
		if info.Name == "svc" {
			for _, u := range info.Units {
				units[u.ID] = u
			}
		}
	}
	return units, err
}

// step is an operation of a program, or a change by hand.
func (h *history) step(ctx context.Context) error {
	units := h.units("svc")
	switch h.rng.IntN(12) {
	case 0, 1:
		if len(units) > 0 {
			id := units[h.rng.IntN(len(units))]
			h.edited[id] = true
			if h.rng.IntN(2) == 0 {
				h.note("by hand: remove %s", id)
				h.cloud.Delete(id)
			} else {
				h.note("by hand: change %s", id)
				h.cloud.Edit(id, func(functions []faas.Function) {
					for i := range functions { // none, if the unit was never whole
						functions[i].MemoryMB *= 2
					}
				})
			}
			return nil
		}
	case 2:
		h.note("the ledger is lost")
		return os.RemoveAll(h.state)
	}
	h.sky.Set(h.rng.IntN(4) != 0)
	var copied error
	crashed := ""
	if h.rng.IntN(3) == 0 {
		h.crashes++
		crashed = filepath.Join(h.copies, fmt.Sprint(h.crashes))
		h.sky.EndAfter(1+h.rng.IntN(30), func() { copied = os.CopyFS(crashed, os.DirFS(h.state)) })
	}
	if h.rng.IntN(4) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(h.rng.IntN(200))*time.Millisecond)
		defer cancel()
	}
	return h.operate(ctx, crashed, &copied)
}

func (h *history) operate(ctx context.Context, crashed string, copied *error) error {
	calm := context.WithoutCancel(ctx)
	before, err := h.truth(calm)
	if err != nil {
		return err
	}
	ledger, err := h.recorded()
	if err != nil {
		return err
	}
	removal := false
	var jobs []uint32
	switch h.rng.IntN(5) {
	case 0:
		h.note("undeploy")
		removal = true
		err = h.undeploy(ctx)
	case 1:
		h.note("recover")
		_, err = serverless.Recover(ctx, "svc", h.options("svc")...)
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
		h.note("deploy %v of %s with %v", jobs, filepath.Dir(spec.BinaryPath), spec.Env)
		var svc *serverless.Service
		if svc, err = h.deploy(ctx, spec, jobs); svc != nil {
			_ = svc.Close(calm)
		}
	}
	ended := crashed != "" && h.sky.Ended()
	h.note("  weather: %v", h.sky.Told())
	h.sky.Set(false)
	h.sky.Settle()
	if ended {
		if *copied != nil {
			return *copied
		}
		if err := errors.Join(os.RemoveAll(h.state), os.CopyFS(h.state, os.DirFS(crashed))); err != nil {
			return err
		}
	}
	return h.check(calm, before, ledger, jobs, removal, err, ended)
}

// check returns which promise was broken.
func (h *history) check(ctx context.Context, before map[string]faas.State, was map[string]serverless.UnitInfo,
	jobs []uint32, removal bool, err error, ended bool) error {
	now, terr := h.truth(ctx)
	ledger, lerr := h.recorded()
	if err := errors.Join(terr, lerr); err != nil {
		return err
	}
	h.note("  -> %v (ended: %t); it was %s, and is %s; ledger %s", err, ended, states(before), states(now),
		unitsOf(ledger))
	listed := map[string]bool{}
	var fe *faas.Error
	if errors.As(err, &fe) {
		for _, id := range fe.Leftovers {
			listed[id] = true
		}
	}
	wanted := map[string]bool{}
	for _, id := range jobs {
		wanted[fmt.Sprintf("svc/job%d", id)] = true
	}
	for id, stood := range before {
		unit, recorded := was[id]
		neverWhole := recorded && unit.State == nil
		// A unit that no ledger, no read and no answer told of may be lost only if the error names it.
		toGo := removal || neverWhole || !recorded && listed[id] || recorded && unit.Pending == serverless.ActionRemove
		is, exists := now[id]
		switch {
		case !exists && !toGo && (wanted[id] || len(jobs) == 0 || err != nil && !ended):
			return fmt.Errorf("%s stood, was not asked to go, and is gone", id)
		case exists && removal && err == nil && !ended && recorded:
			return fmt.Errorf("%s was to be removed and is there", id)
		case exists && len(jobs) > 0 && err != nil && !ended && !listed[id] && recorded && unit.Pending == "" &&
			!h.edited[id] && stood.Status == faas.StatusReady &&
			(is.Status != stood.Status || is.PackageSHA256 != stood.PackageSHA256 || is.Fingerprint != stood.Fingerprint):
			return fmt.Errorf("the deployment failed, %s is not as before, and the error does not list it", id)
		}
	}
	for id, is := range now {
		unit, recorded := ledger[id]
		_, stood := before[id]
		_, known := was[id]
		switch {
		case !recorded && (known || !stood && !h.edited[id]):
			return fmt.Errorf("%s exists at the provider and is in no ledger", id)
		case !stood && len(jobs) > 0 && err != nil && !ended && !listed[id] && !h.edited[id]:
			return fmt.Errorf("the deployment failed, %s was created, and the error does not list it", id)
		case recorded && unit.Pending == "" && !h.edited[id] &&
			(unit.State == nil || is.PackageSHA256 != unit.State.PackageSHA256 || is.Fingerprint != unit.State.Fingerprint):
			return fmt.Errorf("%s is not what the ledger says", id)
		}
	}
	for id, unit := range ledger {
		if _, exists := now[id]; !exists && unit.Pending == "" && !h.edited[id] {
			return fmt.Errorf("the ledger has %s as whole, and it does not exist", id)
		}
	}
	if err == nil && !ended && len(jobs) > 0 {
		for id := range wanted {
			unit, recorded := ledger[id]
			if _, exists := now[id]; !recorded || unit.Pending != "" || !exists && !h.edited[id] {
				return fmt.Errorf("after a good deployment %s exists: %t; in the ledger: %t, %q", id, exists, recorded,
					unit.Pending)
			}
		}
	}
	return nil
}

func states(m map[string]faas.State) string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s %s %s", id, m[id].Status, m[id].Revision))
	}
	return fmt.Sprint(out)
}

func unitsOf(m map[string]serverless.UnitInfo) string {
	var out []string
	for _, id := range slices.Sorted(maps.Keys(m)) {
		out = append(out, fmt.Sprintf("%s pending %q whole %t", id, m[id].Pending, m[id].State != nil))
	}
	return fmt.Sprint(out)
}

func (h *history) note(format string, args ...any) {
	h.log = append(h.log, fmt.Sprintf(format, args...))
}

// deploy deploys, and forgets the changes by hand of units that it changed.
func (h *history) deploy(ctx context.Context, spec serverless.ServiceSpec, jobs []uint32) (*serverless.Service, error) {
	svc, err := serverless.DeployServerless(ctx, spec, jobs, policy(true, false).Serverless.Config(),
		deployOptions(h.options("svc"), serverless.WithoutRunner())...)
	if svc != nil {
		for _, d := range svc.Deployments() {
			if d.Action != serverless.ActionKeep {
				delete(h.edited, d.FunctionID)
			}
		}
	}
	return svc, err
}

func (h *history) undeploy(ctx context.Context) error {
	svc, err := serverless.OpenService(ctx, "svc", openOptions(h.options("svc"), serverless.WithoutRunner())...)
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
