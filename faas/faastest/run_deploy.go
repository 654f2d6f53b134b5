package faastest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func asError(err error) *faas.Error {
	var e *faas.Error
	if !errors.As(err, &e) {
		return &faas.Error{}
	}
	return e
}

// other returns the functions with another value in their environment.
func other(functions []faas.Function, value string) []faas.Function {
	functions = slices.Clone(functions)
	for i := range functions {
		functions[i].Env = maps.Clone(functions[i].Env)
		functions[i].Env["FAASTEST_VALUE"] = faas.NewSecret(value)
	}
	return functions
}

func (s *suite) deploying(t *testing.T) {
	service := s.service("deploy")
	exec := s.open(t, service)
	jobs := []uint32{JobEcho, JobEnv, JobVersion}
	one := s.wanted(t, exec, s.functions(jobs...))
	two := s.wanted(t, exec, other(s.functions(jobs...), "two"))
	s.removeLater(t, exec, one)

	// sees checks which environment answers.
	sees := func(t *testing.T, want string) {
		t.Helper()
		if got := s.invoke(t, exec.as(t), JobEnv, "FAASTEST_VALUE"); got != want {
			t.Fatalf("the function sees the value %q in its environment, want %q", got, want)
		}
		if got := s.invoke(t, exec.as(t), JobEcho, want); got != want {
			t.Fatalf("echo of %q is %q", want, got)
		}
	}
	convergeAll := func(t *testing.T, units []faas.Unit) []faas.State {
		t.Helper()
		var states []faas.State
		for _, u := range units {
			state, err := exec.as(t).Converge(s.ctx(t), u, s.observe(t, exec.as(t), u.ID), nil)
			if err != nil {
				t.Fatalf("Converge(%s): %v", u.ID, err)
			}
			states = append(states, state)
		}
		return states
	}

	t.Run("Observe of what does not exist is NotFound", func(t *testing.T) {
		for _, u := range one {
			_, err := exec.as(t).Observe(s.ctx(t), u.ID)
			wantCode(t, err, faas.ErrNotFound)
		}
	})
	t.Run("List of a service that has nothing is empty", func(t *testing.T) {
		if states := s.list(t, exec.as(t)); len(states) != 0 {
			t.Errorf("got %d units", len(states))
		}
	})
	t.Run("Remove of what does not exist is success", func(t *testing.T) {
		for _, u := range one {
			if err := exec.as(t).Remove(s.ctx(t), u.ID); err != nil {
				t.Fatalf("Remove(%s): %v", u.ID, err)
			}
		}
	})
	t.Run("Converge creates, and returns when the functions answer", func(t *testing.T) {
		convergeAll(t, one)
		sees(t, "one")
		if got := s.invoke(t, exec.as(t), JobEnv, "FAASTEST_SECRET"); got != s.secret {
			t.Errorf("the function sees %d bytes of its secret, want %d", len(got), len(s.secret))
		}
	})
	t.Run("Observe and List agree with what Converge returned", func(t *testing.T) {
		listed := map[string]faas.State{}
		for _, state := range s.list(t, exec.as(t)) {
			listed[state.ID] = state
		}
		for _, u := range one {
			state := s.observe(t, exec.as(t), u.ID)
			if state == nil || state.Status != faas.StatusReady {
				t.Fatalf("Observe(%s): %+v, want ready", u.ID, state)
			}
			if len(state.JobIDs) > 0 && len(state.JobIDs) != len(u.Functions) {
				t.Errorf("Observe(%s): jobs %v, want %d", u.ID, state.JobIDs, len(u.Functions))
			}
			if l, ok := listed[u.ID]; len(listed) > 0 &&
				(!ok || l.Status != state.Status || l.PackageSHA256 != state.PackageSHA256 || l.Fingerprint != state.Fingerprint) {
				t.Errorf("List says %+v of %s, Observe %+v", l, u.ID, *state)
			}
		}
	})
	t.Run("Converge of what is there already changes nothing", func(t *testing.T) {
		for _, u := range one {
			before := s.observe(t, exec.as(t), u.ID)
			for _, prior := range []*faas.State{before, nil} { // nil: an engine that crashed before it knew
				state, err := exec.as(t).Converge(s.ctx(t), u, prior, func(p faas.Progress) {
					if p.Bytes > 0 && before.Current(u) {
						t.Errorf("Converge(%s): %d bytes of an unchanged package were uploaded (%s)", u.ID, p.Bytes, p.Step)
					}
				})
				if err != nil {
					t.Fatalf("Converge(%s): %v", u.ID, err)
				}
				if before.Current(u) && state.Revision != before.Revision {
					t.Errorf("Converge(%s): the revision was %q and is %q", u.ID, before.Revision, state.Revision)
				}
				if state.Existed {
					t.Errorf("Converge(%s) says that the unit existed, which this executor made", u.ID)
				}
			}
			state, err := s.open(t, service).Converge(s.ctx(t), u, nil, nil)
			if err != nil || !state.Existed {
				t.Errorf("Converge(%s) by another executor that was told of nothing does not say that the unit existed: %+v, %v",
					u.ID, state, err)
			}
		}
		sees(t, "one")
	})
	t.Run("Converge updates the configuration", func(t *testing.T) {
		states := convergeAll(t, two)
		sees(t, "two")
		for i, state := range states {
			if state.PackageSHA256 != "" && state.Current(one[i]) {
				t.Errorf("the state of %s passes for what it was before", state.ID)
			}
		}
	})
	t.Run("Converge updates the code", func(t *testing.T) {
		s.updateCode(t, exec.as(t), one, convergeAll)
	})
	t.Run("Restore of what was not changed does nothing", func(t *testing.T) {
		for _, u := range one {
			prior := s.observe(t, exec.as(t), u.ID)
			if err := exec.as(t).Restore(s.ctx(t), *prior); err != nil {
				t.Fatalf("Restore(%s): %v", u.ID, err)
			}
		}
	})
	t.Run("Restore puts code and configuration back", func(t *testing.T) {
		s.restoring(t, exec.as(t), one, two, convergeAll, sees)
	})
	t.Run("a call under a context that has ended is Timeout and changes nothing", func(t *testing.T) {
		s.contexts(t, exec.as(t), one, two, convergeAll)
	})
	if s.h.AtomicUpdate {
		t.Run("no call fails during an update", func(t *testing.T) {
			s.gapless(t, exec.as(t), one, two, convergeAll)
		})
	}
	t.Run("Converge finishes what an interrupted one began", func(t *testing.T) {
		s.interrupted(t, exec.as(t), one, two, sees)
	})
	t.Run("Remove removes, and again is success", func(t *testing.T) {
		for _, u := range one {
			for range 2 {
				if err := exec.as(t).Remove(s.ctx(t), u.ID); err != nil {
					t.Fatalf("Remove(%s): %v", u.ID, err)
				}
			}
			_, err := exec.as(t).Observe(s.ctx(t), u.ID)
			wantCode(t, err, faas.ErrNotFound)
		}
		if states := s.list(t, exec.as(t)); len(states) != 0 {
			t.Errorf("List still has %d units", len(states))
		}
		_, err := exec.as(t).Invoke(s.ctx(t), JobEcho, nil)
		wantCode(t, err, faas.ErrNotFound)
	})
	t.Run("what was removed can be created again", func(t *testing.T) {
		convergeAll(t, one)
		sees(t, "one")
	})
}

// list returns nothing if the provider cannot list.
func (s *suite) list(t testing.TB, exec faas.Executor) []faas.State {
	t.Helper()
	states, err := exec.List(s.ctx(t))
	if err != nil && faas.CodeOf(err) != faas.ErrUnsupported {
		t.Fatalf("List: %v", err)
	}
	return states
}

func (s *suite) updateCode(t *testing.T, exec *watched, one []faas.Unit,
	convergeAll func(*testing.T, []faas.Unit) []faas.State) {
	convergeAll(t, s.otherCode(t, exec, one, "one"))
	if got := s.version(t, exec); got != "" && got != "2" {
		t.Errorf("after the update, code of version %q answers, want 2", got)
	}
}

// restoring changes the configuration, the code, and both. It has Restore put the units back as
// the engine does: with only the states from before.
func (s *suite) restoring(t *testing.T, exec *watched, one, two []faas.Unit,
	convergeAll func(*testing.T, []faas.Unit) []faas.State, sees func(*testing.T, string)) {
	convergeAll(t, one)
	var priors []faas.State
	for _, u := range one {
		priors = append(priors, *s.observe(t, exec, u.ID))
	}
	back := func(what string, prior faas.State, i int) {
		t.Helper()
		err := exec.Restore(s.ctx(t), prior)
		if prior.NotRestorable != "" {
			wantCode(t, err, faas.ErrUnsupported)
			return
		}
		if err != nil {
			t.Fatalf("Restore(%s) after %s: %v", prior.ID, what, err)
		}
		if now := s.observe(t, exec, prior.ID); now == nil || prior.Current(one[i]) && !now.Current(one[i]) {
			t.Errorf("Restore(%s) after %s: the unit is not what it was: %+v", prior.ID, what, now)
		}
	}
	wasCode := s.version(t, exec)
	changes := map[string][]faas.Unit{"a change of the configuration": two}
	for _, value := range []string{"one", "two"} {
		changes["a change of the code, with value "+value] = s.otherCode(t, exec, one, value)
	}
	for what, units := range changes {
		convergeAll(t, units)
		for i, prior := range priors {
			for range 2 {
				back(what, prior, i)
			}
		}
		if priors[0].NotRestorable != "" {
			convergeAll(t, one)
			continue
		}
		sees(t, "one")
		if code := s.version(t, exec); code != wasCode {
			t.Errorf("Restore after %s: code of version %q answers, want %q", what, code, wasCode)
		}
	}
	if priors[0].NotRestorable != "" {
		return
	}
	for i, prior := range priors { // what a lost answer makes of one Converge
		for range 2 {
			if _, err := exec.Converge(s.ctx(t), two[i], nil, nil); err != nil {
				t.Fatalf("Converge(%s): %v", prior.ID, err)
			}
		}
		back("a repeated Converge", prior, i)
	}
	sees(t, "one")
	for i, prior := range priors { // what the engine does after it was cancelled
		for at := int64(1); at <= 2; at++ {
			ctx, cancel := context.WithCancel(s.ctx(t))
			var reports atomic.Int64
			_, err := exec.Converge(ctx, two[i], &prior, func(faas.Progress) {
				if reports.Add(1) == at {
					cancel()
				}
			})
			cancel()
			if err != nil {
				wantCode(t, err, faas.ErrTimeout)
			}
			if err := exec.Restore(s.ctx(t), prior); err != nil {
				t.Fatalf("Restore(%s) after a cancelled Converge: %v", prior.ID, err)
			}
			s.settle(t)
			if now := s.observe(t, exec, prior.ID); now == nil || prior.Current(one[i]) && !now.Current(one[i]) {
				t.Errorf("Restore(%s) after a cancelled Converge: the unit is not what it was", prior.ID)
			}
		}
	}
	sees(t, "one")
}

// otherCode returns the units with other code, and with the value in their environment.
func (s *suite) otherCode(t testing.TB, exec faas.Executor, units []faas.Unit, value string) []faas.Unit {
	t.Helper()
	bin := s.binary
	if bin.Format != faas.FormatScript {
		if s.second == nil {
			inspected, err := faas.InspectBinary(AddVersion(s.t, bin.Path, "2"))
			if err != nil {
				t.Fatal(err)
			}
			s.second = inspected
		}
		bin = s.second
	}
	var functions []faas.Function
	for _, u := range units {
		functions = append(functions, u.Functions...)
	}
	changed, err := exec.Units(bin, other(functions, value))
	if err != nil {
		t.Fatalf("Units: %v", err)
	}
	if bin.Format == faas.FormatScript {
		for i := range changed {
			changed[i].Files = append(changed[i].Files, faas.PackageFile{Name: "faastest-version", Content: []byte("2")})
		}
	}
	s.pack(t, changed)
	return changed
}

// version returns the version of the code that answers, or nothing if that is unknown.
func (s *suite) version(t testing.TB, exec faas.Executor) string {
	t.Helper()
	if s.h.Simulated || s.binary.Format == faas.FormatScript {
		return ""
	}
	return s.invoke(t, exec, JobVersion, "")
}

// interrupted cancels Converge at its first, second or third report of progress, and lets another
// call finish.
func (s *suite) interrupted(t *testing.T, exec *watched, one, two []faas.Unit, sees func(*testing.T, string)) {
	want := map[bool]string{false: "one", true: "two"}
	for round, at := range []int64{1, 1, 2, 3} {
		changed := round%2 == 1
		units := one
		if changed {
			units = two
		}
		for _, u := range units {
			prior := s.observe(t, exec, u.ID)
			ctx, cancel := context.WithCancel(s.ctx(t))
			var reports atomic.Int64
			_, err := exec.Converge(ctx, u, prior, func(faas.Progress) {
				if reports.Add(1) == at {
					cancel()
				}
			})
			cancel()
			if err != nil {
				wantCode(t, err, faas.ErrTimeout)
			}
			s.settle(t)
			prior = s.observe(t, exec, u.ID)
			if _, err := exec.Converge(s.ctx(t), u, prior, nil); err != nil {
				t.Fatalf("Converge(%s) after an interrupted one: %v", u.ID, err)
			}
		}
		sees(t, want[changed])
	}
}

func (s *suite) neighbours(t *testing.T) {
	a, b := s.open(t, s.service("Neighbour")), s.open(t, s.service("neighbour"))
	unitsA := s.wanted(t, a, other(s.functions(JobEcho, JobEnv), "of a"))
	unitsB := s.wanted(t, b, other(s.functions(JobEcho, JobEnv), "of b"))
	s.converge(t, a, unitsA)
	s.converge(t, b, unitsB)
	sees := func(t *testing.T, exec *watched, want string) {
		t.Helper()
		if got := s.invoke(t, exec.as(t), JobEnv, "FAASTEST_VALUE"); got != want {
			t.Errorf("the function sees %q, want %q", got, want)
		}
	}
	t.Run("two services on one platform each have their own functions", func(t *testing.T) {
		sees(t, a, "of a")
		sees(t, b, "of b")
	})
	t.Run("List has no unit of another service", func(t *testing.T) {
		if states := s.list(t, a.as(t)); len(states) != 0 && len(states) != len(unitsA) {
			t.Errorf("List has %d units of %d", len(states), len(unitsA))
		}
		for _, state := range s.list(t, a.as(t)) {
			for _, u := range unitsB {
				if state.ID == u.ID {
					t.Errorf("List has %s, which is another service's", u.ID)
				}
			}
		}
	})
	t.Run("a unit of another service is neither seen as one's own nor changed nor removed", func(t *testing.T) {
		for _, u := range unitsB {
			_, err := a.as(t).Observe(s.ctx(t), u.ID)
			wantCode(t, err, faas.ErrConflict)
			if err := a.as(t).Remove(s.ctx(t), u.ID); err == nil {
				t.Errorf("Remove(%s) by another service is success", u.ID)
			}
			if _, err := a.as(t).Converge(s.ctx(t), u, nil, nil); err == nil {
				t.Errorf("Converge(%s) by another service is success", u.ID)
			}
		}
		sees(t, b, "of b")
	})
	t.Run("removing one service leaves the other", func(t *testing.T) {
		for _, u := range unitsA {
			if err := a.as(t).Remove(s.ctx(t), u.ID); err != nil {
				t.Fatalf("Remove(%s): %v", u.ID, err)
			}
		}
		for _, u := range unitsB {
			if s.observe(t, b.as(t), u.ID) == nil {
				t.Errorf("%s is gone", u.ID)
			}
		}
		sees(t, b, "of b")
	})
}

func (s *suite) closing(t *testing.T) {
	t.Run("Close again is success", func(t *testing.T) {
		exec := s.h.Open(t, s.service("close"))
		for range 3 {
			if err := exec.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
		}
	})
	t.Run("Close leaves no goroutine behind", func(t *testing.T) {
		before := goleak.IgnoreCurrent()
		exec := s.h.Open(t, s.service("close"))
		units, err := exec.Units(s.binary, s.functions(0))
		if err != nil {
			t.Fatalf("Units: %v", err)
		}
		_, err = exec.Observe(s.ctx(t), units[0].ID)
		wantCode(t, err, faas.ErrNotFound)
		if err := exec.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		goleak.VerifyNone(t, before)
	})
}
