package faastest

import (
	"context"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// atOnce changes several units of a service as the engine does: at the same time, as many as the
// provider allows.
func (s *suite) atOnce(t *testing.T) {
	exec := s.open(t, s.service("at-once"))
	jobs := []uint32{JobEcho, JobEnv, JobSquare, JobVersion, JobCount}
	one, two := s.wanted(t, exec, s.functions(jobs...)), s.wanted(t, exec, other(s.functions(jobs...), "two"))
	s.removeLater(t, exec, one)
	each := func(t *testing.T, units []faas.Unit, change func(ctx context.Context, u faas.Unit) error) {
		t.Helper()
		all, ctx := errgroup.WithContext(s.ctx(t))
		all.SetLimit(s.parallel())
		for _, u := range units {
			all.Go(func() error { return change(ctx, u) })
		}
		if err := all.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	converge := func(t *testing.T, units []faas.Unit) {
		t.Helper()
		each(t, units, func(ctx context.Context, u faas.Unit) error {
			_, err := exec.as(t).Converge(ctx, u, s.observe(t, exec.as(t), u.ID), nil)
			return err
		})
	}
	t.Run("units are created at the same time", func(t *testing.T) {
		converge(t, one)
		for _, u := range one {
			if state := s.observe(t, exec.as(t), u.ID); state == nil || state.Status != faas.StatusReady {
				t.Errorf("%s is %+v, want ready", u.ID, state)
			}
		}
		if got := s.invoke(t, exec.as(t), JobEnv, "FAASTEST_VALUE"); got != "one" {
			t.Errorf("the function sees %q, want one", got)
		}
	})
	t.Run("units are updated at the same time", func(t *testing.T) {
		converge(t, two)
		if got := s.invoke(t, exec.as(t), JobEnv, "FAASTEST_VALUE"); got != "two" {
			t.Errorf("the function sees %q, want two", got)
		}
	})
	t.Run("units are removed at the same time", func(t *testing.T) {
		each(t, two, func(ctx context.Context, u faas.Unit) error { return exec.as(t).Remove(ctx, u.ID) })
		for _, u := range two {
			if state := s.observe(t, exec.as(t), u.ID); state != nil {
				t.Errorf("%s is still there: %+v", u.ID, *state)
			}
		}
		if states := s.list(t, exec.as(t)); len(states) > 0 {
			t.Errorf("List still has %d units", len(states))
		}
	})
}

// parallel is how many units the engine would change at the same time.
func (s *suite) parallel() int {
	if info, linked := faas.Provider(s.h.Provider); linked {
		return info.MaxParallel
	}
	return 8
}

// gapless updates a function while it is called continuously. No call may fail, and either the
// old or the new code answers each.
func (s *suite) gapless(t *testing.T, exec *watched, one, two []faas.Unit,
	convergeAll func(*testing.T, []faas.Unit) []faas.State) {
	convergeAll(t, one)
	ctx, stop := context.WithCancel(s.ctx(t))
	var callers sync.WaitGroup
	defer callers.Wait()
	defer stop()
	var answered sync.WaitGroup
	for range 3 {
		answered.Add(1)
		callers.Go(func() {
			for first := true; ctx.Err() == nil; first = false {
				// The last call does not use ctx, since it has to succeed too.
				r, err := exec.as(t).Invoke(s.ctx(t), JobEnv, []byte("FAASTEST_VALUE"))
				switch {
				case err != nil:
					t.Errorf("a call during an update failed: %v", err)
				case string(r.Output) != "one" && string(r.Output) != "two":
					t.Errorf("a call during an update was answered %q", r.Output)
				}
				if first {
					answered.Done()
				}
			}
		})
	}
	answered.Wait()
	convergeAll(t, two)
	stop()
	callers.Wait()
}

// contexts makes every call under a context that has ended: it must say so, and change nothing.
func (s *suite) contexts(t *testing.T, exec *watched, one, two []faas.Unit,
	convergeAll func(*testing.T, []faas.Unit) []faas.State) {
	convergeAll(t, one)
	u, prior := one[0], *s.observe(t, exec, one[0].ID)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	expired, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	for what, ctx := range map[string]context.Context{"cancelled": cancelled, "expired": expired} {
		for op, call := range map[string]func() error{
			"Observe":  func() error { _, err := exec.Observe(ctx, u.ID); return err },
			"Converge": func() error { _, err := exec.Converge(ctx, two[0], &prior, nil); return err },
			"Restore":  func() error { return exec.Restore(ctx, prior) },
			"Remove":   func() error { return exec.Remove(ctx, u.ID) },
			"List":     func() error { _, err := exec.List(ctx); return err },
		} {
			err := call()
			if code := faas.CodeOf(err); code != faas.ErrTimeout &&
				(code != faas.ErrUnsupported || op == "Observe" || op == "Converge" || op == "Remove" ||
					op == "Restore" && prior.NotRestorable == "") {
				t.Errorf("%s under a context that is %s: %v (code %q), want a timeout", op, what, err, code)
			}
		}
	}
	s.settle(t)
	if now := s.observe(t, exec, u.ID); now == nil || prior.Current(u) && !now.Current(u) {
		t.Errorf("%s was %+v and is %+v", u.ID, prior, now)
	}
	s.invoke(t, exec, JobEcho, "x")
}
