package faastest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
)

// puttingBack deploys through the engine, with a ledger, units that differ in code and in
// configuration, and one that is new. The last unit fails at each step in turn. Afterwards all
// units are as they were, or the error lists exactly those that are not.
func (s *suite) puttingBack(t *testing.T) {
	exec := s.open(t, s.service("put-back"))
	jobs := []uint32{JobEnv, JobVersion}
	old := s.wanted(t, exec, s.functions(jobs...))
	next := s.otherCode(t, exec, s.wanted(t, exec, s.functions(append(jobs, JobEcho)...)), "two")
	s.removeLater(t, exec, next)
	// The new unit comes first and the failing one last, because the engine changes one unit at a
	// time here.
	slices.SortStableFunc(next, func(a, b faas.Unit) int { return rank(a) - rank(b) })
	last := next[len(next)-1].ID
	ledger := newBook()
	apply := func(ctx context.Context, exec faas.Executor, units []faas.Unit) error {
		e := engine.New(exec, s.h.Provider, engine.Options{Parallel: 1, Journal: ledger, Patience: time.Second})
		changes, err := e.Observe(ctx, units, ledger.whole())
		if err != nil {
			return err
		}
		ledger.adopt(changes)
		_, err = e.Apply(ctx, changes)
		return err
	}
	if err := apply(s.ctx(t), exec, old); err != nil {
		t.Fatalf("the first deployment: %v", err)
	}
	code := s.version(t, exec)
	failed := errors.New("injected fault")
	lost := func() error { return faas.Errorf(faas.ErrUnavailable, "converge", s.h.Provider, "%w", failed) }
	for step, converge := range map[string]func(
		context.Context, context.CancelFunc, func(context.Context, func()) (faas.State, error)) (faas.State, error){
		"before anything is changed": func(context.Context, context.CancelFunc,
			func(context.Context, func()) (faas.State, error)) (faas.State, error) {
			return faas.State{}, lost()
		},
		"midway": func(ctx context.Context, _ context.CancelFunc,
			call func(context.Context, func()) (faas.State, error)) (faas.State, error) {
			ctx, stop := context.WithCancel(ctx)
			defer stop()
			state, err := call(ctx, stop)
			if err != nil {
				return state, err
			}
			return state, lost()
		},
		"after it was changed, as the answer is lost": func(ctx context.Context, _ context.CancelFunc,
			call func(context.Context, func()) (faas.State, error)) (faas.State, error) {
			state, err := call(ctx, func() {})
			if err != nil {
				return state, err
			}
			return state, lost()
		},
		"as the caller gives up": func(ctx context.Context, cancel context.CancelFunc,
			call func(context.Context, func()) (faas.State, error)) (faas.State, error) {
			state, err := call(ctx, cancel)
			cancel() // if it reported no progress
			return state, err
		},
	} {
		t.Run(step, func(t *testing.T) {
			before := map[string]faas.State{}
			for _, u := range next {
				if state := s.observe(t, exec.as(t), u.ID); state != nil {
					before[u.ID] = *state
				}
			}
			ctx, cancel := context.WithCancel(s.ctx(t))
			defer cancel()
			err := apply(ctx, &failing{exec.as(t), last,
				func(ctx context.Context, call func(context.Context, func()) (faas.State, error)) (faas.State, error) {
					return converge(ctx, cancel, call)
				}}, next)
			if err == nil {
				t.Fatal("the deployment succeeded")
			}
			s.settle(t)
			left := asError(err).Leftovers
			intact := true
			for _, u := range next {
				was, stood := before[u.ID]
				now := s.observe(t, exec.as(t), u.ID)
				page, recorded := ledger.units[u.ID]
				if slices.Contains(left, u.ID) {
					intact = false
					if stood && was.NotRestorable == "" && !asError(err).Unsettled {
						t.Errorf("%s could not be put back, and nothing said so before: %v", u.ID, err)
					}
					if !recorded || page.pending == "" {
						t.Errorf("%s is left behind, and the ledger says %v", u.ID, page)
					}
					continue
				}
				switch {
				case stood != (now != nil):
					t.Errorf("%s existed: %t, and exists: %t, and the error does not list it: %v", u.ID, stood, now != nil, err)
				case stood && (now.Status != was.Status || now.PackageSHA256 != was.PackageSHA256 ||
					now.Fingerprint != was.Fingerprint):
					t.Errorf("%s was %+v and is %+v, and the error does not list it: %v", u.ID, was, *now, err)
				case recorded != stood || stood && page.pending != "":
					t.Errorf("%s: the ledger says %v (known: %t)", u.ID, page, recorded)
				}
			}
			if intact {
				if got := s.invoke(t, exec.as(t), JobEnv, "FAASTEST_VALUE"); got != "one" {
					t.Errorf("the function sees %q in its environment, want one", got)
				}
				if got := s.version(t, exec.as(t)); got != code {
					t.Errorf("code of version %q answers, want %q", got, code)
				}
			} else if err := apply(s.ctx(t), exec.as(t), old); err != nil { // for the next step
				t.Fatal(err)
			}
		})
	}
}

// rank orders units for [suite.puttingBack].
func rank(u faas.Unit) int {
	return slices.Index([]uint32{JobEcho, JobEnv, JobVersion}, u.Functions[0].JobID)
}

// failing is an executor whose Converge of one unit is replaced by f. f gets a function that
// makes the real call, and that calls its argument at each report of progress.
type failing struct {
	faas.Executor
	unit string
	f    func(context.Context, func(context.Context, func()) (faas.State, error)) (faas.State, error)
}

func (e *failing) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (faas.State, error) {
	if u.ID != e.unit {
		return e.Executor.Converge(ctx, u, prior, report)
	}
	return e.f(ctx, func(ctx context.Context, progress func()) (faas.State, error) {
		return e.Executor.Converge(ctx, u, prior, func(p faas.Progress) { progress(); report(p) })
	})
}

// reading deletes and creates while each read is wrong once.
func (s *suite) reading(t *testing.T) {
	if s.h.OpenIn == nil {
		t.Skip("the harness has no OpenIn")
	}
	service := s.service("reading")
	calm := s.open(t, service)
	one, two := s.wanted(t, calm, s.functions(JobEnv)), s.wanted(t, calm, other(s.functions(JobEnv), "two"))
	s.converge(t, calm, one)
	t.Run("Remove sends its deletion though nothing is found", func(t *testing.T) {
		for range 2 { // what is there, and what is not
			sky := NewSky(0)
			sky.missOnce()
			exec := s.h.OpenIn(t, service, sky)
			if err := exec.Remove(s.ctx(t), one[0].ID); err == nil {
				if state := s.observe(t, calm.as(t), one[0].ID); state != nil {
					t.Errorf("Remove returned nil, and there is %+v", *state)
				}
			} else if faas.CodeOf(err) == faas.ErrNotFound {
				t.Errorf("Remove: %v", err)
			}
			if err := exec.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := calm.as(t).Remove(s.ctx(t), one[0].ID); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("Converge that finds what was not found says so", func(t *testing.T) {
		if _, err := calm.as(t).Converge(s.ctx(t), one[0], nil, nil); err != nil {
			t.Fatal(err)
		}
		sky := NewSky(0)
		sky.missOnce()
		exec := s.h.OpenIn(t, service, sky)
		state, err := exec.Converge(s.ctx(t), two[0], nil, nil)
		if !state.Existed {
			t.Errorf("the unit existed, and Converge does not say so: %+v, %v", state, err)
		}
		if err := exec.Close(); err != nil {
			t.Error(err)
		}
	})
}
