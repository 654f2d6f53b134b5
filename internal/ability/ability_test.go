package ability_test

import (
	"context"
	"iter"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/ability"
)

type able struct{ faas.Executor }

func (able) Warm(context.Context, uint32, int) (int, error) { return 7, nil }
func (able) Health(context.Context, uint32) (faas.Health, error) {
	return faas.Health{Reason: "x"}, nil
}
func (able) Logs(context.Context, faas.LogQuery) iter.Seq2[faas.LogLine, error] { return nil }
func (able) Diagnose(context.Context) []faas.Check                              { return []faas.Check{{Name: "x"}} }
func (able) Invoke(context.Context, uint32, []byte) (r *faas.Result, err error) { return r, nil }

func TestAWrapperHasTheAbilitiesThatItIsGivenAndNoOthers(t *testing.T) {
	all := ability.Of(able{})
	if all.Warmer == nil || all.HealthChecker == nil || all.LogReader == nil || all.Diagnoser == nil {
		t.Fatalf("an executor that can do everything has %+v", all)
	}
	for mask := range 16 {
		var s ability.Set
		if mask&1 != 0 {
			s.Warmer = all.Warmer
		}
		if mask&2 != 0 {
			s.HealthChecker = all.HealthChecker
		}
		if mask&4 != 0 {
			s.LogReader = all.LogReader
		}
		if mask&8 != 0 {
			s.Diagnoser = all.Diagnoser
		}
		wrapped := ability.Add(able{}, s)
		if got := ability.Of(wrapped); got.Warmer == nil != (s.Warmer == nil) || got.HealthChecker == nil != (s.HealthChecker == nil) || got.LogReader == nil != (s.LogReader == nil) || got.Diagnoser == nil != (s.Diagnoser == nil) {
			t.Errorf("given %+v, it has %+v", s, got)
		}
		if _, err := wrapped.Invoke(t.Context(), 0, nil); err != nil {
			t.Errorf("the executor's own methods do not arrive: %v", err)
		}
		if w, ok := wrapped.(faas.Warmer); ok {
			if n, _ := w.Warm(t.Context(), 0, 1); n != 7 {
				t.Errorf("Warm is another's")
			}
		}
		if d, ok := wrapped.(faas.Diagnoser); ok {
			if checks := d.Diagnose(t.Context()); len(checks) != 1 || checks[0].Name != "x" {
				t.Errorf("Diagnose is another's")
			}
		}
	}
}
