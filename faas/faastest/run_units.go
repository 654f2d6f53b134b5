package faastest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tangle-network/blueprint-serverless/faas"
)

var compareUnits = cmpopts.IgnoreUnexported(faas.Package{})

func (s *suite) units(t *testing.T) {
	exec := s.open(t, s.service("units"))
	jobs := []uint32{3, 0, 7, 4294967295}
	ids := func(t *testing.T, exec faas.Executor, functions []faas.Function) map[uint32]string {
		t.Helper()
		units, err := exec.Units(s.binary, functions)
		if err != nil {
			t.Fatalf("Units: %v", err)
		}
		of := map[uint32]string{}
		for _, u := range units {
			for _, f := range u.Functions {
				of[f.JobID] = u.ID
			}
		}
		return of
	}

	t.Run("gives the same answer for the same input, and leaves the input alone", func(t *testing.T) {
		functions := s.functions(jobs...)
		first, err := exec.as(t).Units(s.binary, functions)
		if err != nil {
			t.Fatalf("Units: %v", err)
		}
		if diff := cmp.Diff(s.functions(jobs...), functions); diff != "" {
			t.Errorf("the functions were changed (-before +after):\n%s", diff)
		}
		for range 5 {
			again, err := exec.as(t).Units(s.binary, s.functions(jobs...))
			if diff := cmp.Diff(first, again, compareUnits); diff != "" || err != nil {
				t.Fatalf("the second answer is another (-first +second), error %v:\n%s", err, diff)
			}
		}
	})
	t.Run("does not depend on the order of the functions", func(t *testing.T) {
		a, errA := exec.as(t).Units(s.binary, s.functions(0, 1, 2))
		b, errB := exec.as(t).Units(s.binary, s.functions(2, 0, 1))
		if diff := cmp.Diff(a, b, compareUnits); diff != "" || errA != nil || errB != nil {
			t.Fatalf("errors %v and %v, and the units differ:\n%s", errA, errB, diff)
		}
	})
	t.Run("puts every function into exactly one unit, as it was wanted, by ascending job", func(t *testing.T) {
		units, err := exec.as(t).Units(s.binary, s.functions(jobs...))
		if err != nil {
			t.Fatalf("Units: %v", err)
		}
		var got []faas.Function
		seen := map[string]bool{}
		for _, u := range units {
			if len(u.Functions) == 0 || u.ID == "" || seen[u.ID] {
				t.Errorf("a unit has ID %q (there before: %v) and %d functions", u.ID, seen[u.ID], len(u.Functions))
			}
			seen[u.ID] = true
			if !slices.IsSortedFunc(u.Functions, func(a, b faas.Function) int { return int(int64(a.JobID) - int64(b.JobID)) }) {
				t.Errorf("unit %s: the functions are not by ascending job", u.ID)
			}
			if len(u.Files) == 0 || u.Package != nil {
				t.Errorf("unit %s has %d files, and a package: %v", u.ID, len(u.Files), u.Package != nil)
			}
			got = append(got, u.Functions...)
		}
		slices.SortFunc(got, func(a, b faas.Function) int { return int(int64(a.JobID) - int64(b.JobID)) })
		sorted := slices.Clone(jobs)
		slices.Sort(sorted)
		if diff := cmp.Diff(s.functions(sorted...), got); diff != "" {
			t.Errorf("functions (-wanted +in units):\n%s", diff)
		}
	})
	t.Run("has no unit where nothing is wanted", func(t *testing.T) {
		if units, err := exec.as(t).Units(s.binary, nil); err != nil || len(units) != 0 {
			t.Errorf("got %d units and error %v", len(units), err)
		}
	})
	t.Run("names a unit by service and jobs alone", func(t *testing.T) {
		functions := s.functions(jobs...)
		first := ids(t, exec.as(t), functions)
		for i := range functions {
			functions[i].TimeoutSecs--
			functions[i].Env = faas.NewEnv(map[string]string{"OTHER": "x"})
		}
		if diff := cmp.Diff(first, ids(t, s.open(t, s.service("units")), functions)); diff != "" {
			t.Errorf("another configuration and executor gives other IDs (-first +second):\n%s", diff)
		}
	})
	t.Run("names units of different services differently", func(t *testing.T) {
		long := strings.Repeat("a-long-name-", 12)
		names := []string{
			"alpha", "Alpha", "ALPHA", "al.pha", "al_pha", "al-pha", "al/pha", "alpha-", "-alpha", "alpha-job0", "alpha0",
			"älpha", "日本", "中国", "job0", "0", "1a",
			long + "x", long + "y", strings.ToUpper(long) + "x", "a", "a b", "a  b",
		}
		seen := map[string]string{}
		for _, name := range names {
			// Sorted, for the same failure each time.
			of := ids(t, s.open(t, name), s.functions(0, 1))
			for _, job := range slices.Sorted(maps.Keys(of)) {
				id := of[job]
				if other, dup := seen[id]; dup && other != name {
					t.Errorf("services %q and %q both have a unit %s", other, name, id)
				}
				seen[id] = name
			}
			for _, id := range of { // what this service is called by others must not be theirs, either
				if id == name {
					t.Errorf("the unit of service %q is called like it", name)
				}
			}
		}
		for _, id := range slices.Sorted(maps.Keys(seen)) { // a unit's ID as a service's name
			for _, derived := range ids(t, s.open(t, id), s.functions(0)) {
				if other, dup := seen[derived]; dup && other != id {
					t.Errorf("services %q and %q both have a unit %s", other, id, derived)
				}
			}
		}
	})
	t.Run("shares one package between units with equal files", func(t *testing.T) {
		units := s.wanted(t, exec.as(t), s.functions(0, 1))
		for _, u := range units[1:] {
			if cmp.Equal(u.Files, units[0].Files) && u.Package.SHA256() != units[0].Package.SHA256() {
				t.Errorf("units %s and %s have equal files and different packages", u.ID, units[0].ID)
			}
		}
	})
	t.Run("accepts what is at a limit", func(t *testing.T) {
		f := s.function(0)
		f.TimeoutSecs = s.h.Limits.MaxTimeoutSecs
		if s.h.MemorySizes.RoundUp(s.h.Limits.MaxMemoryMB) == s.h.Limits.MaxMemoryMB {
			sizes := s.h.MemorySizes.Sizes
			if len(sizes) == 0 || slices.Contains(sizes, s.h.Limits.MaxMemoryMB) {
				f.MemoryMB = s.h.Limits.MaxMemoryMB
			}
		}
		if _, err := exec.as(t).Units(s.binary, []faas.Function{f}); err != nil {
			t.Errorf("memory %d MiB and timeout %d s are refused: %v", f.MemoryMB, f.TimeoutSecs, err)
		}
	})
	s.refusals(t, exec)
}

func (s *suite) refusals(t *testing.T, exec *watched) {
	change := func(f func(*faas.Function)) []faas.Function {
		functions := s.functions(2, 5)
		f(&functions[1])
		return functions
	}
	overMemory, overTimeout := s.h.Limits.MaxMemoryMB+1, s.h.Limits.MaxTimeoutSecs+1
	for _, test := range []struct {
		name      string
		functions []faas.Function
		want      faas.Code
		words     []string // in the error
	}{
		{"more memory than the limit", change(func(f *faas.Function) { f.MemoryMB = overMemory }), faas.ErrTooLarge,
			[]string{fmt.Sprint(overMemory)}},
		{"no memory", change(func(f *faas.Function) { f.MemoryMB = 0 }), faas.ErrInvalidArgument, nil},
		{"a longer timeout than the limit", change(func(f *faas.Function) { f.TimeoutSecs = overTimeout }), faas.ErrTooLarge,
			[]string{fmt.Sprint(overTimeout), fmt.Sprint(s.h.Limits.MaxTimeoutSecs)}},
		{"no timeout", change(func(f *faas.Function) { f.TimeoutSecs = 0 }), faas.ErrInvalidArgument, nil},
		{"an environment variable without a name", change(func(f *faas.Function) { f.Env[""] = faas.NewSecret(s.secret) }),
			faas.ErrInvalidArgument, nil},
		{"an environment variable with an equals sign in its name",
			change(func(f *faas.Function) { f.Env["A=B"] = faas.NewSecret(s.secret) }), faas.ErrInvalidArgument,
			[]string{"A=B"}},
		{"a job wanted twice", append(s.functions(5), s.function(5)), faas.ErrInvalidArgument, nil},
	} {
		t.Run("refuses "+test.name, func(t *testing.T) {
			_, err := exec.as(t).Units(s.binary, test.functions)
			wantCode(t, err, test.want)
			e := asError(err)
			if e.JobID != 5 {
				t.Errorf("the error names job %d, want 5: %v", e.JobID, err)
			}
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the error does not say %s: %v", word, err)
				}
			}
		})
	}
	t.Run("refuses to deploy no binary", func(t *testing.T) {
		_, err := exec.as(t).Units(nil, s.functions(0))
		wantCode(t, err, faas.ErrInvalidArgument)
	})
}
