package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cloud is an executor whose calls can fail: it asks fail before every call and after the call took
// effect.
type cloud struct {
	faas.Executor // calls that no test makes

	mu      sync.Mutex
	units   map[string]string // id -> fingerprint
	fail    func(moment, id string) error
	running int
	most    int
	calls   map[string]int
}

func newCloud(existing map[string]string) *cloud {
	c := &cloud{units: existing, calls: map[string]int{}, fail: func(string, string) error { return nil }}
	if c.units == nil {
		c.units = map[string]string{}
	}
	return c
}

// change runs f as one call, between the two moments at which it can fail.
func (c *cloud) change(verb, id string, f func() error) error {
	c.mu.Lock()
	c.running++
	c.most = max(c.most, c.running)
	c.calls[verb]++
	c.mu.Unlock()
	defer func() { c.mu.Lock(); c.running--; c.mu.Unlock() }()
	if err := c.fail("before "+verb, id); err != nil {
		return err
	}
	c.mu.Lock()
	err := f()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.fail("after "+verb, id)
}

func (c *cloud) Observe(_ context.Context, id string) (s faas.State, err error) {
	err = c.change("observe", id, func() error {
		print, ok := c.units[id]
		if !ok {
			return faas.Errorf(faas.ErrNotFound, "observe", "test", "no %s", id)
		}
		s = faas.State{ID: id, Status: faas.StatusReady, PackageSHA256: "package", Fingerprint: print}
		return nil
	})
	return s, err
}

func (c *cloud) Converge(_ context.Context, u faas.Unit, _ *faas.State, _ func(faas.Progress)) (faas.State, error) {
	err := c.change("converge", u.ID, func() error { c.units[u.ID] = u.Fingerprint(); return nil })
	return faas.State{ID: u.ID, Status: faas.StatusReady, Fingerprint: u.Fingerprint()}, err
}

func (c *cloud) Restore(_ context.Context, prior faas.State) error {
	return c.change("restore", prior.ID, func() error { c.units[prior.ID] = prior.Fingerprint; return nil })
}

func (c *cloud) Remove(_ context.Context, id string) error {
	return c.change("remove", id, func() error { delete(c.units, id); return nil })
}

func wanted(n int) []faas.Unit {
	units := make([]faas.Unit, n)
	for i := range units {
		units[i] = faas.Unit{ID: fmt.Sprintf("svc-job%d", i),
			Functions: []faas.Function{{JobID: uint32(i), MemoryMB: 128, TimeoutSecs: 1}}}
	}
	return units
}

func apply(ctx context.Context, c *cloud, parallel int, units []faas.Unit) ([]faas.State, error) {
	e := engine.New(c, "test", engine.Options{Patience: 30 * time.Millisecond, Parallel: parallel})
	changes, err := e.Observe(ctx, units, nil)
	if err != nil {
		return nil, err
	}
	return e.Apply(ctx, changes)
}

func TestApplyCreatesEveryUnitUnderTheProvidersLimit(t *testing.T) {
	c := newCloud(nil)
	states, err := apply(t.Context(), c, 3, wanted(20))
	if err != nil {
		t.Fatal(err)
	}
	if len(states) != 20 || len(c.units) != 20 {
		t.Errorf("%d states and %d units, want 20 of each", len(states), len(c.units))
	}
	if c.most > 3 {
		t.Errorf("%d calls at the same time, the limit is 3", c.most)
	}
}

func TestFailedApplyLeavesThingsAsTheyWere(t *testing.T) {
	for _, moment := range []string{"before converge", "after converge"} {
		t.Run(moment, func(t *testing.T) {
			before := map[string]string{"svc-job1": "old", "other-job0": "not ours"}
			c := newCloud(maps.Clone(before))
			boom := errors.New("the disk is full")
			c.fail = func(m, id string) error {
				if m == moment && id == "svc-job4" {
					return faas.Errorf(faas.ErrInternal, "deploy", "test", "%w", boom)
				}
				return nil
			}
			_, err := apply(t.Context(), c, 2, wanted(6))
			if diff := cmp.Diff(before, c.units); diff != "" {
				t.Errorf("the provider holds something else than before (-before +after):\n%s", diff)
			}
			var fe *faas.Error
			if !errors.As(err, &fe) || fe.JobID != 4 || fe.Code != faas.ErrInternal || len(fe.Leftovers) != 0 ||
				!errors.Is(err, boom) {
				t.Errorf("error %v (%+v), want job 4, internal, no leftovers, and its cause", err, fe)
			}
		})
	}
}

func TestWhatCannotBeUndoneIsListed(t *testing.T) {
	c := newCloud(map[string]string{"svc-job1": "old"})
	c.fail = func(m, id string) error {
		switch {
		case m == "before converge" && id == "svc-job2":
			return faas.Errorf(faas.ErrPermissionDenied, "deploy", "test", "no")
		case m == "before remove" && id == "svc-job0", m == "before restore":
			return faas.Errorf(faas.ErrUnavailable, "remove", "test", "gone for lunch")
		}
		return nil
	}
	_, err := apply(t.Context(), c, 1, wanted(3))
	var fe *faas.Error
	if !errors.As(err, &fe) || fe.Code != faas.ErrPermissionDenied || len(fe.Leftovers) != 2 {
		t.Fatalf("error %v, want permission denied with two leftovers", err)
	}
	for i, id := range []string{"svc-job0", "svc-job1"} {
		if fe.Leftovers[i] != id || !strings.Contains(err.Error(), id+" was ") ||
			!strings.Contains(err.Error(), "gone for lunch") {
			t.Errorf("leftover %q of error %v, want %s, and why in the error", fe.Leftovers[i], err, id)
		}
	}
}

func TestWhatConvergeCanGoOnWithIsKeptAndListed(t *testing.T) {
	for name, test := range map[string]struct {
		existing map[string]string
		kept     bool
	}{
		"created": {nil, true},
		"updated": {map[string]string{"svc-job0": "before"}, false}, // and put back
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(test.existing)
			c.fail = func(moment, _ string) error {
				if moment == "after converge" {
					return &faas.Error{Op: "deploy", Provider: "test", JobID: faas.NoJob, Code: faas.ErrTimeout, Resumable: true,
						Err: context.DeadlineExceeded}
				}
				return nil
			}
			_, err := apply(t.Context(), c, 1, wanted(1))
			var fe *faas.Error
			if !errors.As(err, &fe) || fe.Code != faas.ErrTimeout || test.kept != cmp.Equal(fe.Leftovers, []string{"svc-job0"}) {
				t.Errorf("error %v, with %v left behind", err, fe.Leftovers)
			}
			if test.kept != strings.Contains(err.Error(), "deploy again to continue") || c.calls["remove"] > 0 ||
				(c.calls["restore"] > 0) == test.kept {
				t.Errorf("error %v after the calls %v", err, c.calls)
			}
		})
	}
}

func TestUnchangedUnitsCostOneReadAndNoWrite(t *testing.T) {
	units := wanted(5)
	pkg, err := faas.BuildPackage(t.Context(), t.TempDir(),
		[]faas.PackageFile{{Name: "bootstrap", Content: []byte("#!/bin/sh\n"), Mode: 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	states, recorded := map[string]string{}, map[string]faas.State{}
	for i := range units {
		units[i].Package = pkg
		recorded[units[i].ID] = faas.State{ID: units[i].ID}
		states[units[i].ID] = units[i].Fingerprint()
	}
	c := &samePackage{newCloud(states), pkg.SHA256()}
	e := engine.New(c, "test", engine.Options{Patience: 30 * time.Millisecond, Parallel: 4})
	changes, err := e.Observe(t.Context(), units, recorded)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Apply(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"observe": 5}, c.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
}

type samePackage struct {
	*cloud
	sha string
}

func (c *samePackage) Observe(ctx context.Context, id string) (faas.State, error) {
	s, err := c.cloud.Observe(ctx, id)
	s.PackageSHA256 = c.sha
	return s, err
}

// A provider that allows ten writes a second gets a thousand functions from sixteen goroutines, on
// a fake clock.
func TestThrottledProviderGetsEveryFunctionAtAboutTheRateItAllows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const functions, perSecond = 1000, 10
		c := newCloud(nil)
		var mu sync.Mutex
		var next time.Time
		c.fail = func(m, id string) error {
			if m != "before converge" {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			if now.Before(next) {
				return faas.Errorf(faas.ErrThrottled, "deploy", "test", "slow down")
			}
			next = now.Add(time.Second / perSecond)
			return nil
		}
		start := time.Now()
		if _, err := apply(t.Context(), c, 16, wanted(functions)); err != nil {
			t.Fatal(err)
		}
		if len(c.units) != functions {
			t.Errorf("%d units, want %d", len(c.units), functions)
		}
		took, ideal := time.Since(start), functions*time.Second/perSecond
		if took > 2*ideal {
			t.Errorf("took %s of the fake clock, want at most twice the ideal %s", took, ideal)
		}
		if calls := c.calls["converge"]; calls > 2*functions {
			t.Errorf("%d calls for %d functions: the back-off does not back off", calls, functions)
		}
		t.Logf("%s of the fake clock (ideal %s), %d calls", took, ideal, c.calls["converge"])
	})
}

func TestCancelledApplyUndoesWithAContextOfItsOwn(t *testing.T) {
	c := newCloud(nil)
	ctx, cancel := context.WithCancel(t.Context())
	c.fail = func(m, id string) error {
		if m == "after converge" && id == "svc-job3" {
			cancel()
		}
		return nil
	}
	_, err := apply(ctx, c, 1, wanted(10))
	if !errors.Is(err, faas.ErrTimeout) || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want a timeout caused by the cancellation", err)
	}
	if len(c.units) != 0 {
		t.Errorf("left behind: %v", c.units)
	}
}

func TestWhatFailedWhenTheDeadlinePassedIsToldOnce(t *testing.T) {
	c := newCloud(nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	c.fail = func(m, id string) error {
		if m != "after converge" {
			return nil
		}
		cancel(context.DeadlineExceeded)
		return faas.Errorf(faas.ErrUnavailable, "deploy", "test", "the role is late")
	}
	_, err := apply(ctx, c, 1, wanted(1))
	if err == nil || strings.Count(err.Error(), "the role is late") != 1 {
		t.Errorf("got %v", err)
	}
}

func TestRemoveGoesOnAfterAFailureAndListsWhatIsLeft(t *testing.T) {
	c := newCloud(map[string]string{"svc-job0": "", "svc-job1": "", "svc-job2": ""})
	c.fail = func(m, id string) error {
		if m == "before remove" && id == "svc-job1" {
			return faas.Errorf(faas.ErrUnavailable, "remove", "test", "try later")
		}
		return nil
	}
	err := engine.New(c, "test", engine.Options{Patience: 30 * time.Millisecond, Parallel: 1}).Remove(
		t.Context(), wanted(3))
	var fe *faas.Error
	if !errors.As(err, &fe) || !slices.Equal(fe.Leftovers, []string{"svc-job1"}) {
		t.Errorf("error %v, want svc-job1 as the only leftover", err)
	}
	if len(c.units) != 1 {
		t.Errorf("units left: %v, want svc-job1 alone", c.units)
	}
}

func TestEveryStepThatBeginsEndsOnce(t *testing.T) {
	c := newCloud(map[string]string{"svc-job1": "old"})
	c.fail = func(m, id string) error {
		if m == "after converge" && id == "svc-job2" {
			return faas.Errorf(faas.ErrInternal, "deploy", "test", "no")
		}
		return nil
	}
	open := map[string]int{}
	ended := 0
	e := engine.New(c, "test", engine.Options{Patience: 30 * time.Millisecond, Parallel: 4, Report: func(s engine.Step) {
		key := s.Verb + " " + s.UnitID
		if s.Done {
			open[key]--
			ended++
		} else if s.Progress == nil && s.RetryIn == 0 {
			open[key]++
		}
	}})
	changes, err := e.Observe(t.Context(), wanted(4), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Apply(t.Context(), changes); err == nil {
		t.Fatal("no error")
	}
	for key, n := range open {
		if n != 0 {
			t.Errorf("%s: began and ended differ by %d", key, n)
		}
	}
	if ended < 4+2 {
		t.Errorf("%d steps ended, want the 4 observations, the failed change and its undoing at least", ended)
	}
}

func TestKeepSucceededUndoesOnlyWhatFailed(t *testing.T) {
	c := newCloud(map[string]string{"svc-job1": "old"})
	c.fail = func(m, id string) error {
		if m == "after converge" && (id == "svc-job1" || id == "svc-job2") {
			return faas.Errorf(faas.ErrInternal, "deploy", "test", "no")
		}
		return nil
	}
	e := engine.New(c, "test", engine.Options{Patience: 30 * time.Millisecond, Parallel: 1, KeepSucceeded: true})
	changes, err := e.Observe(t.Context(), wanted(5), nil)
	if err != nil {
		t.Fatal(err)
	}
	states, err := e.Apply(t.Context(), changes)
	if !errors.Is(err, faas.ErrInternal) || len(states) != 5 {
		t.Fatalf("%d states, error %v", len(states), err)
	}
	for i, s := range states {
		if failed := i == 1 || i == 2; failed != (s.ID == "") {
			t.Errorf("state %d: %+v", i, s)
		}
	}
	if got := slices.Sorted(maps.Keys(c.units)); !slices.Equal(
		got, []string{"svc-job0", "svc-job1", "svc-job3", "svc-job4"}) || c.units["svc-job1"] != "old" {
		t.Errorf("units %v, want job 1 as it was and job 2 gone", c.units)
	}
}

// reticent is a provider that tells only the revision of a unit.
type reticent struct {
	*cloud
	revision string
}

func (c *reticent) Observe(ctx context.Context, id string) (faas.State, error) {
	s, err := c.cloud.Observe(ctx, id)
	s.PackageSHA256, s.Fingerprint, s.Revision = "", "", c.revision
	return s, err
}

func (c *reticent) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (faas.State, error) {
	s, err := c.cloud.Converge(ctx, u, prior, report)
	s.Fingerprint, s.Revision = "", c.revision
	return s, err
}

func TestWhatIsRecordedOfAnUntouchedUnitNeedNotBeTold(t *testing.T) {
	units := wanted(1)
	var err error
	units[0].Package, err = faas.BuildPackage(t.Context(), t.TempDir(),
		[]faas.PackageFile{{Name: "bootstrap", Content: []byte("#!/bin/sh\n"), Mode: 0o755}})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		deployed, now string // revisions
		want          engine.Action
	}{
		"untouched":   {"1", "1", engine.Keep},
		"changed":     {"1", "2", engine.Update},
		"no revision": {"", "", engine.Update},
	} {
		c := &reticent{newCloud(nil), test.deployed}
		e := engine.New(c, "test", engine.Options{Patience: 30 * time.Millisecond})
		changes, err := e.Observe(t.Context(), units, nil)
		if err != nil {
			t.Fatal(err)
		}
		states, err := e.Apply(t.Context(), changes)
		if err != nil {
			t.Fatal(err)
		}
		c.revision = test.now
		changes, err = e.Observe(t.Context(), units, map[string]faas.State{units[0].ID: states[0]})
		if err != nil || changes[0].Action != test.want {
			t.Errorf("%s: %s, %v; want %s", name, changes[0].Action, err, test.want)
		}
		other := slices.Clone(units)
		other[0].Functions = []faas.Function{{JobID: 0, MemoryMB: 256, TimeoutSecs: 1}}
		changes, err = e.Observe(t.Context(), other, map[string]faas.State{units[0].ID: states[0]})
		if err != nil || changes[0].Action != engine.Update {
			t.Errorf("%s, with another configuration: %s, %v; want an update", name, changes[0].Action, err)
		}
	}
}
