package runner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
)

// TestWhatRefusalsMean has the outcome of each refusal, at the dry run before a job is run, and
// when the answer is submitted.
func TestWhatRefusalsMean(t *testing.T) {
	t.Parallel()
	const waits = Outcome("")
	for name, tt := range map[string]struct {
		selector      uint32
		before, after Outcome
		runsBefore    int
	}{
		"EnforcedPause":          {0xd93c0665, waits, waits, 0},
		"ServiceNotFound":        {0xc8a28bb6, waits, waits, 0},
		"JobCallNotFound":        {0x96c6ebfc, waits, waits, 0},
		"ServiceNotActive":       {0x4c5fe2d8, ServiceOver, ServiceOver, 0},
		"ServiceExpired":         {0x7c3e621b, ServiceOver, ServiceOver, 0},
		"AggregationRequired":    {0x77164cdc, NeedsAggregate, NeedsAggregate, 0},
		"OperatorNotInService":   {0x783482e9, ServiceOver, ServiceOver, 0},
		"OperatorNotActive":      {0xe356d5aa, waits, waits, 0},
		"JobAlreadyCompleted":    {0x0a55512f, DoneByOthers, DoneByOthers, 0},
		"ResultAlreadySubmitted": {0xb7e7fcee, Done, Done, 0},
		"NotQuotedOperator":      {0xa32a5d1c, NotForUs, NotForUs, 0},
		"SchemaValidationFailed": {0x9038fe73, waits, JobFailed, 1},
		"unknown":                {0x12345678, waits, waits, 0},
		"no data":                {0, waits, waits, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *world) {
				s := w.scheduler(WithHandlers(job.Handlers{0: w.counting(echo),
					1: w.counting(func(context.Context, []byte) ([]byte, error) {
						w.set(func() { w.refusal[1] = tt.selector; w.all = 0 })
						return nil, nil
					})}))
				w.refusal[0] = tt.selector
				w.offer(s, w.call(0, 0, ""))
				synctest.Wait()
				first := w.outcomes()[0]
				if tt.selector == chain.RevertSchemaValidation { // which every answer that is empty gets, too
					first = ""
				}
				if first != tt.before || w.runs[0] != tt.runsBefore {
					t.Errorf("before: %q and %d runs, want %q and %d", first, w.runs[0], tt.before, tt.runsBefore)
				}
				time.Sleep(time.Minute) // until a gate is open again
				w.set(func() { delete(w.refusal, 0) })
				pass(time.Minute)
				w.offer(s, w.call(1, 1, ""))
				pass(time.Hour)
				if got := w.outcomes()[1]; got != tt.after || w.runs[1] != 1 {
					t.Errorf("after: %q and %d runs, want %q and 1", got, w.runs[1], tt.after)
				}
				sent := len(w.sent)
				w.set(func() { delete(w.refusal, 1) })
				pass(time.Minute)
				if tt.after == waits && (w.outcomes()[1] != Done || w.runs[1] != 1 || len(w.sent) != sent+1) {
					t.Errorf("once the contract takes it: %q after %d runs", w.outcomes()[1], w.runs[1])
				}
			})
		})
	}
}

func TestALostRaceEndsGracefully(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		w.mining = time.Second
		s := w.scheduler(WithHandlers(job.Handlers{0: w.counting(echo)}))
		w.offer(s, w.call(0, 0, ""), w.call(1, 0, ""))
		synctest.Wait()
		w.set(func() { w.others[0] = true }) // mined first, so that ours fails on chain
		pass(time.Minute)
		if diff := cmp.Diff(map[uint64]Outcome{0: DoneByOthers, 1: Done}, w.outcomes()); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
	})
}

func TestManyAnswersShareTransactions(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		w.mining = 2 * time.Second
		s := w.scheduler(WithHandlers(job.Handlers{0: w.counting(echo)}))
		for i := range uint64(500) {
			w.offer(s, w.call(i, 0, fmt.Sprint(i)))
		}
		pass(20 * time.Second)
		for i := range uint64(500) {
			if got, want := string(w.results[i]), fmt.Sprint("re: ", i); got != want {
				t.Fatalf("call %d: result %q, want %q", i, got, want)
			}
		}
		gas := uint64(0)
		for _, e := range w.told(EventFinished) {
			gas += e.GasUsed
		}
		if spent := uint64(100 * len(w.sent)); gas > spent || gas < spent*8/10 {
			t.Errorf("events tell of %d gas, and %d was spent", gas, spent)
		}
		if n := len(w.sent); n > 60 {
			t.Errorf("%d transactions for 500 results", n)
		}
		for _, calls := range w.sent {
			if len(calls) > maxBatch || !slices.IsSorted(calls) {
				t.Errorf("a transaction for calls %v", calls)
			}
		}
	})
}

func TestABatchThatFailsIsSplit(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		w.mining = 2 * time.Second
		s := w.scheduler(WithHandlers(job.Handlers{0: w.counting(echo)}))
		for i := range uint64(200) {
			w.offer(s, w.call(i, 0, ""))
		}
		time.Sleep(2500 * time.Millisecond) // the second transactions, which are batches, are in flight
		w.set(func() {
			for _, calls := range w.sent {
				if len(calls) > 1 {
					w.others[calls[0]] = true
				}
			}
		})
		pass(2 * time.Second)
		s.mu.Lock()
		if s.single == 0 {
			t.Error("answers go together again at once")
		}
		s.mu.Unlock()
		pass(5 * time.Minute)
		together := map[uint64]int{}
		for _, calls := range w.sent {
			for _, call := range calls {
				if len(calls) > 1 {
					together[call]++
				}
			}
		}
		for call, n := range together {
			if n > 1 {
				t.Errorf("call %d was in %d batches", call, n)
			}
		}
		want := map[uint64]Outcome{}
		for i := range uint64(200) {
			if want[i] = Done; w.others[i] {
				want[i] = DoneByOthers
			}
		}
		if len(w.others) < 5 {
			t.Fatalf("only %d batches were in flight", len(w.others))
		}
		if diff := cmp.Diff(want, w.outcomes()); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
		for call, n := range w.runs {
			if n != 1 {
				t.Errorf("call %d ran %d times", call, n)
			}
		}
	})
}

func TestATransactionOfAnEarlierProcessIsTakenUp(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		w.mining = time.Hour
		opts := []Option{WithHandlers(job.Handlers{0: w.counting(echo)})}
		first := w.scheduler(opts...)
		var calls []work
		for i := range uint64(60) { // some alone, and others in batches
			calls = append(calls, w.call(i, 0, ""))
		}
		w.offer(first, calls...)
		pass(90 * time.Minute)
		first.stop()
		sent := len(w.sent)
		if sent < 17 || len(w.inFlight) == 0 {
			t.Fatalf("%d transactions were sent, and %d are in flight", sent, len(w.inFlight))
		}
		w.mining = 0
		second := w.scheduler(opts...)
		w.offer(second, calls...)
		pass(10 * time.Minute)
		if n := len(w.outcomes()); n != 60 || len(w.inFlight) != 0 {
			t.Errorf("%d calls ended, want 60; %d transactions are in flight", n, len(w.inFlight))
		}
		for call, n := range w.runs {
			if n != 1 {
				t.Errorf("call %d ran %d times", call, n)
			}
		}
		times := map[uint64]int{}
		for _, calls := range w.sent {
			for _, call := range calls {
				if times[call]++; times[call] > 1 {
					t.Errorf("call %d was sent twice", call)
				}
			}
		}
	})
}

// aggregator completes calls after a number of failures.
type aggregator struct {
	w      *world
	fails  int
	others bool
	got    []AggregateCall
}

func (a *aggregator) Aggregate(ctx context.Context, c AggregateCall) error {
	a.got = append(a.got, c)
	if len(a.got) <= a.fails {
		return errors.New("too few signatures")
	}
	if a.others {
		return nil
	}
	// The fake contract takes this where the real one takes the aggregated form.
	a.w.set(func() { delete(a.w.refusal, c.Call) })
	return c.Submit(ctx, chain.SubmitResult(c.Service, c.Call, c.Output))
}

func TestAnAnswerThatNeedsOthersGoesToTheAggregator(t *testing.T) {
	t.Parallel()
	for _, others := range []bool{false, true} {
		run(t, func(t *testing.T, w *world) {
			a := &aggregator{w: w, fails: 2, others: others}
			s := w.scheduler(WithHandlers(job.Handlers{0: w.counting(echo)}), WithAggregator(a))
			w.refusal[0], w.refusal[1] = chain.RevertAggregationRequired, chain.RevertAggregationRequired
			w.offer(s, w.call(0, 0, "a"))
			w.others[1] = true // completed, which the contract does not say
			w.offer(s, w.call(1, 0, "b"))
			pass(time.Hour)
			if diff := cmp.Diff(map[uint64]Outcome{0: Done, 1: DoneByOthers}, w.outcomes()); diff != "" {
				t.Errorf("outcomes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(map[uint64]int{0: 1}, w.runs); diff != "" {
				t.Errorf("runs (-want +got):\n%s", diff)
			}
			if len(a.got) != 3 || string(a.got[2].Output) != "re: a" || a.got[2].ThresholdBPS != 6700 ||
				len(a.got[2].Operators) != 1 || a.got[2].Operator != me {
				t.Errorf("the aggregator got %+v", a.got)
			}
		})
	}
}

func TestTheDiskThatFailsEndsTheRunner(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		full := errors.New("disk full")
		w.crash = func(step string) error {
			if step == fmt.Sprint("put ", journal.Answered) {
				return full
			}
			return nil
		}
		s := w.scheduler(WithHandlers(job.Handlers{0: echo}))
		w.offer(s, w.call(0, 0, ""))
		if err := <-s.failed; !errors.Is(err, full) {
			t.Errorf("failed with %v", err)
		}
		s.stop()
		if len(w.sent) != 0 {
			t.Error("an answer was sent that is not on disk")
		}
	})
}
