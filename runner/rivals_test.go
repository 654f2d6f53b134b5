package runner_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/internal/devchain"
	"github.com/tangle-network/blueprint-serverless/runner"
)

// TestRunnersOfTwoOperators has two runners race for the calls of one service, in which one result
// completes a call.
func TestRunnersOfTwoOperators(t *testing.T) {
	t.Parallel()
	c := devchain.New(devchain.Config{Every: 50 * time.Millisecond})
	t.Cleanup(c.Close)
	url := listen(t, c.Node())
	var rivals []*started
	for _, account := range []int{1, 2} {
		cfg := config(t, url)
		cfg.Signer = signer(t, account)
		rivals = append(rivals, start(t, cfg, runner.WithHandlers(
			job.Handlers{0: func(ctx context.Context, args []byte) ([]byte,
				error) {
				select {
				case <-time.After(rand.N(100 * time.Millisecond)):
				case <-ctx.Done():
				}
				return answer(ctx, args)
			}})))
	}
	const calls = 200
	for i := range calls {
		if _, err := c.Submit(0, 0, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	done := 0
	for _, s := range rivals {
		mine := 0
		for range calls {
			switch e := s.await(t, func(e runner.Event) bool { return e.Kind == runner.EventFinished }); e.Outcome {
			case runner.Done:
				mine++
			case runner.DoneByOthers:
			default:
				t.Errorf("call %d: %+v", e.Call, e)
			}
		}
		done += mine
		t.Logf("%s: %d of %d calls", s.Status().Operator, mine, calls)
	}
	if done != calls {
		t.Errorf("the runners have done %d calls, want %d", done, calls)
	}
	for call, results := range c.AllResults(0) {
		if len(results) != 1 {
			t.Errorf("call %d has %d results", call, len(results))
		}
	}
	if _, err := c.Submit(0, 0, nil); err != nil {
		t.Fatal(err)
	}
	for _, s := range rivals { // both go on
		s.await(t, finished(calls))
	}
}
