package runner

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
)

func TestACallIsRunAndAnswered(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		s := w.scheduler(WithHandlers(job.Handlers{1: w.counting(echo)}))
		c := w.call(0, 1, "ping")
		w.offer(s, c, c)
		synctest.Wait()
		w.offer(s, c) // once more, from a window that is read again
		synctest.Wait()
		if got := string(w.results[0]); got != "re: ping" {
			t.Errorf("result %q", got)
		}
		if diff := cmp.Diff(map[uint64]int{0: 1}, w.runs); diff != "" {
			t.Errorf("runs (-want +got):\n%s", diff)
		}
		want := []journal.Phase{journal.Started, journal.Answered, journal.Sent, journal.Finished}
		if diff := cmp.Diff(want, w.phases[0]); diff != "" {
			t.Errorf("phases (-want +got):\n%s", diff)
		}
		var kinds []EventKind
		for _, e := range w.events {
			kinds = append(kinds, e.Kind)
		}
		if diff := cmp.Diff([]EventKind{EventJob, EventRunning, EventAnswered, EventSubmitted, EventFinished},
			kinds); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if r := w.records[c.id]; r.ResultBlock != 102 || r.Runs != 1 || r.Tx.IsZero() {
			t.Errorf("record %+v", r)
		}
		var st Status
		s.status(&st)
		if st.Outcomes[Done] != 1 || st.Jobs[1].Outcomes[Done] != 1 || st.Queued+st.Running+st.Submitting != 0 {
			t.Errorf("status %+v", st)
		}
	})
}

func TestASlowJobHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		slow := func(ctx context.Context, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }
		s := w.scheduler(WithConcurrency(8), WithHandlers(job.Handlers{0: slow, 1: echo, 2: echo}))
		for i := range uint64(50) {
			w.offer(s, w.call(i, 0, ""))
		}
		synctest.Wait()
		var st Status
		if s.status(&st); st.Running != 6 || st.Queued != 44 {
			t.Errorf("%d run and %d are queued, want 6 and 44: a slot is kept for each other job", st.Running, st.Queued)
		}
		w.offer(s, w.call(50, 1, ""), w.call(51, 2, ""), w.call(52, 1, ""))
		synctest.Wait()
		if diff := cmp.Diff(map[uint64]Outcome{50: Done, 51: Done, 52: Done}, w.outcomes()); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
	})
}

func TestConcurrencyIsBounded(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		var mu sync.Mutex
		now, most := map[uint32]int{}, map[uint32]int{}
		count := func(id uint32) job.Handler {
			return func(context.Context, []byte) ([]byte, error) {
				mu.Lock()
				now[id]++
				most[id] = max(most[id], now[id])
				most[99] = max(most[99], now[0]+now[1])
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				now[id]--
				return nil, nil
			}
		}
		s := w.scheduler(WithConcurrency(10), WithJob(1, JobOptions{Concurrency: 3}),
			WithHandlers(job.Handlers{0: count(0), 1: count(1)}))
		for i := range uint64(100) {
			w.offer(s, w.call(i, uint32(i%2), ""))
		}
		pass(time.Minute)
		if most[1] != 3 || most[99] != 10 {
			t.Errorf("at most %d of job 1 ran at a time, and %d in all; want 3 and 10", most[1], most[99])
		}
		if done := len(w.outcomes()); done != 100 {
			t.Errorf("%d calls ended, want 100", done)
		}
	})
}

// TestGuestsKeepTheBounds calls a handler beside the chain.
func TestGuestsKeepTheBounds(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		var now, most atomic.Int32
		handler := func(ctx context.Context, _ []byte) ([]byte, error) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(time.Second)
			return []byte("ok"), nil
		}
		s := w.scheduler(WithJob(0, JobOptions{Concurrency: 3}), WithHandlers(job.Handlers{0: handler}))
		for i := range uint64(30) {
			w.offer(s, w.call(i, 0, ""))
		}
		bound := s.bound(0, handler)
		start := time.Now()
		for range 9 {
			go func() {
				if out, err := bound(t.Context(), nil); string(out) != "ok" || err != nil {
					t.Errorf("a guest got %q, %v", out, err)
				}
				if waited := time.Since(start); waited > 5*time.Second {
					t.Errorf("a guest waited %v behind the queue of the chain", waited)
				}
			}()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := bound(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a guest that waits no longer: %v", err)
		}
		pass(time.Minute)
		if most.Load() != 3 || len(w.outcomes()) != 30 {
			t.Errorf("%d ran at a time, and %d of the chain's calls ended; want 3 and 30", most.Load(), len(w.outcomes()))
		}
	})
}

func TestAFailureEndsOnlyItsCall(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		handler job.Handler
		reason  string
	}{
		"error":  {func(context.Context, []byte) ([]byte, error) { return nil, errors.New("no luck") }, "no luck"},
		"panic":  {func(context.Context, []byte) ([]byte, error) { panic("oh") }, "panic: oh"},
		"goexit": {func(context.Context, []byte) ([]byte, error) { runtime.Goexit(); return nil, nil }, "Goexit"},
		"timeout": {func(ctx context.Context, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() },
			"the job did not answer within 1m0s"},
		"too large": {func(context.Context, []byte) ([]byte, error) { return make([]byte, maxOutput+1), nil },
			"130001 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *world) {
				s := w.scheduler(WithJob(0, JobOptions{Timeout: time.Minute}),
					WithHandlers(job.Handlers{0: w.counting(tt.handler), 1: echo}))
				w.offer(s, w.call(0, 0, ""), w.call(1, 1, ""))
				pass(10 * time.Minute)
				if diff := cmp.Diff(map[uint64]Outcome{0: JobFailed, 1: Done}, w.outcomes()); diff != "" {
					t.Errorf("outcomes (-want +got):\n%s", diff)
				}
				for _, r := range w.Calls(0) {
					if !strings.Contains(r.Reason, tt.reason) || w.runs[0] != 1 {
						t.Errorf("reason %q after %d runs, want one with %q after 1", r.Reason, w.runs[0], tt.reason)
					}
				}
			})
		})
	}
}

func TestAHandlerThatIgnoresItsContextKeepsItsSlot(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		release := make(chan struct{})
		deaf := func(context.Context, []byte) ([]byte, error) { <-release; return nil, nil }
		s := w.scheduler(WithJob(0, JobOptions{Timeout: time.Minute, Concurrency: 1}), WithHandlers(job.Handlers{0: deaf}))
		w.offer(s, w.call(0, 0, ""), w.call(1, 0, ""))
		pass(2 * time.Minute)
		if diff := cmp.Diff(map[uint64]Outcome{0: JobFailed}, w.outcomes()); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
		var st Status
		if s.status(&st); st.Running != 1 || st.Queued != 1 {
			t.Errorf("%d run and %d are queued, want 1 and 1", st.Running, st.Queued)
		}
		close(release)
		synctest.Wait()
		if diff := cmp.Diff(map[uint64]Outcome{0: JobFailed, 1: Done}, w.outcomes()); diff != "" {
			t.Errorf("outcomes once it has returned (-want +got):\n%s", diff)
		}
	})
}

func TestTheStopDoesNotWaitForADeafHandler(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		release := make(chan struct{})
		defer close(release)
		deaf := func(context.Context, []byte) ([]byte, error) { <-release; return nil, nil }
		s := w.scheduler(WithHandlers(job.Handlers{0: deaf}))
		c := w.call(0, 0, "")
		w.offer(s, c)
		synctest.Wait()
		start := time.Now()
		s.stop()
		if took := time.Since(start); took != defaultGrace+overtime {
			t.Errorf("the stop took %v, want the grace and the overtime", took)
		}
		if r := w.records[c.id]; r.Phase != journal.Started {
			t.Errorf("record %+v, want one that the next start decides about", r)
		}
	})
}

func TestTheStopLetsJobsEnd(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		s := w.scheduler(WithHandlers(job.Handlers{0: func(context.Context, []byte) ([]byte, error) {
			time.Sleep(5 * time.Second)
			return []byte("late"), nil
		}}))
		c := w.call(0, 0, "")
		w.offer(s, c)
		synctest.Wait()
		s.stop()
		if r := w.records[c.id]; r.Phase != journal.Answered || string(w.outputs[c.id]) != "late" {
			t.Errorf("record %+v, want the answer in it", r)
		}
		if err := s.offer(t.Context(), w.call(1, 0, "")); !errors.Is(err, errStopped) {
			t.Errorf("offer after the stop: %v", err)
		}
		if len(w.sent) != 0 {
			t.Error("something was sent after the stop")
		}
	})
}

// function answers invocations with what the list says, one after the other, and then with results.
type function struct {
	errs []error
	runs atomic.Int32
}

func (f *function) Invoke(_ context.Context, _ uint32, args []byte) (*faas.Result, error) {
	if n := int(f.runs.Add(1)); n <= len(f.errs) {
		return nil, f.errs[n-1]
	}
	return &faas.Result{Output: args}, nil
}

func refusal(code faas.Code, notRun bool) error {
	return &faas.Error{Op: "invoke", JobID: 0, Code: code, NotRun: notRun, Err: errors.New("refused")}
}

func TestAFunctionIsRepeatedOnlyIfItDidNotRun(t *testing.T) {
	t.Parallel()
	times := func(n int, err error) []error { return slices.Repeat([]error{err}, n) }
	for name, tt := range map[string]struct {
		errs   []error
		repeat Repeat
		want   Outcome
		runs   int32
	}{
		"throttled":                      {times(5, refusal(faas.ErrThrottled, true)), 0, Done, 6},
		"unavailable":                    {times(5, refusal(faas.ErrUnavailable, true)), Once, Done, 6},
		"unavailable, and may have run":  {times(5, refusal(faas.ErrUnavailable, false)), 0, Interrupted, 1},
		"throttled, and may have run":    {times(5, refusal(faas.ErrThrottled, false)), 0, Interrupted, 1},
		"repeatable, and may have run":   {times(2, refusal(faas.ErrUnavailable, false)), Repeatable, Done, 3},
		"repeatable, and fails for long": {times(9, refusal(faas.ErrUnavailable, false)), Repeatable, Interrupted, 3},
		"repeatable, with refusals":      {times(9, refusal(faas.ErrThrottled, true)), Repeatable, Done, 10},
		"failed":                         {times(5, refusal(faas.ErrFunctionFailed, false)), Repeatable, JobFailed, 1},
		"too large":                      {times(5, refusal(faas.ErrTooLarge, true)), Repeatable, JobFailed, 1},
		"permission denied for a while":  {times(9, refusal(faas.ErrPermissionDenied, true)), 0, Done, 10},
		"permission denied for good":     {times(999, refusal(faas.ErrPermissionDenied, true)), 0, JobFailed, 125},
		"an error that is no faas.Error": {times(5, errors.New("odd")), 0, JobFailed, 1},
		"its own deadline, and not ours": {times(5, refusal(faas.ErrTimeout, false)), 0, Interrupted, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *world) {
				f := &function{errs: tt.errs}
				reg := &faas.Registry{}
				reg.Set(0, f)
				s := w.scheduler(WithFunctions(reg), WithJob(0, JobOptions{Repeat: tt.repeat}),
					WithHandlers(job.Handlers{0: func(context.Context, []byte) ([]byte, error) {
						t.Error("the handler ran, though there is a function")
						return nil, nil
					}}))
				c := w.call(0, 0, "")
				w.offer(s, c)
				pass(2 * time.Hour)
				if got := w.outcomes()[0]; got != tt.want || f.runs.Load() != tt.runs {
					t.Errorf("%q after %d invocations, want %q after %d (%s)", got, f.runs.Load(), tt.want, tt.runs,
						w.records[c.id].Reason)
				}
				if waits := len(w.told(EventWaiting)); waits > 1 {
					t.Errorf("waiting was told %d times, want once for a cause", waits)
				}
			})
		})
	}
}

func TestARefusedInvocationIsNoneForTheNextStart(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		f := &function{errs: []error{refusal(faas.ErrThrottled, true)}}
		reg := &faas.Registry{}
		reg.Set(0, f)
		first := w.scheduler(WithFunctions(reg), WithJob(0, JobOptions{Repeat: Once}))
		w.offer(first, w.call(0, 0, ""))
		synctest.Wait()
		first.stop()
		w.scheduler(WithFunctions(reg), WithJob(0, JobOptions{Repeat: Once}))
		synctest.Wait()
		if got := w.outcomes()[0]; got != Done || f.runs.Load() != 2 {
			t.Errorf("%q after %d invocations, want done after the second", got, f.runs.Load())
		}
	})
}

func TestAThrottledFunctionIsAskedAtItsPace(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		var now, refused atomic.Int32
		reg := &faas.Registry{}
		reg.Set(0, invoker(func() error {
			defer now.Add(-1)
			if now.Add(1) > 10 { // which nobody told
				refused.Add(1)
				return refusal(faas.ErrThrottled, true)
			}
			time.Sleep(100 * time.Millisecond)
			return nil
		}))
		s := w.scheduler(WithFunctions(reg))
		for i := range uint64(1000) {
			w.offer(s, w.call(i, 0, ""))
		}
		start := time.Now()
		for len(w.outcomes()) < 1000 {
			time.Sleep(time.Second)
		}
		if took := time.Since(start); took > time.Minute {
			t.Errorf("took %v, and 10 s would be the function's pace", took)
		}
		if n := refused.Load(); n > 500 {
			t.Errorf("%d invocations were refused", n)
		}
	})
}

type invoker func() error

func (f invoker) Invoke(context.Context, uint32, []byte) (*faas.Result, error) {
	return &faas.Result{}, f()
}

func TestAJobThatNothingRunsFailsClearly(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		s := w.scheduler(WithHandlers(job.Handlers{0: echo}))
		c := w.call(0, 9, "")
		w.offer(s, c)
		if r := w.records[c.id]; r.Outcome != string(JobFailed) || !strings.Contains(r.Reason, "neither a handler") {
			t.Errorf("record %+v", r)
		}
	})
}

func TestADroppedCallLeavesNothing(t *testing.T) {
	t.Parallel()
	hang := func(ctx context.Context, _ []byte) ([]byte, error) { <-ctx.Done(); return []byte("x"), nil }
	for name, tt := range map[string]struct {
		handler job.Handler
		prepare func(w *world, s *scheduler)
	}{
		"queued":     {echo, func(_ *world, s *scheduler) { s.hold("a reason") }},
		"running":    {hang, func(*world, *scheduler) {}},
		"submitting": {echo, func(w *world, _ *scheduler) { w.mining = time.Hour }},
		"waiting":    {echo, func(w *world, _ *scheduler) { w.refusal[0] = 0xdeadbeef }},
		"finished":   {echo, func(*world, *scheduler) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T, w *world) {
				s := w.scheduler(WithHandlers(job.Handlers{0: tt.handler}))
				tt.prepare(w, s)
				c := w.call(0, 0, "inputs")
				w.offer(s, c)
				synctest.Wait()
				w.set(func() { delete(w.calls, 0) })
				s.orphaned(c.id)
				synctest.Wait()
				var st Status
				s.status(&st)
				if s.inputs+len(s.items)+len(w.records)+len(s.fresh)+len(s.late)+st.Queued+st.Running+st.Submitting+
					len(st.Waiting) > 0 &&
					name != "queued" {
					t.Errorf("left: %d calls, %d records, status %+v", len(s.items), len(w.records), st)
				}
				if name != "finished" && st.Outcomes[Reorganized] != 1 {
					t.Errorf("outcomes %v", st.Outcomes)
				}
				// The number is another job now.
				w.set(func() { w.mining = 0; clear(w.refusal); clear(w.results) })
				s.release("a reason")
				other := w.call(0, 0, "other")
				w.offer(s, other)
				if name == "running" {
					s.orphaned(other.id)
					return
				}
				synctest.Wait()
				if got := string(w.results[0]); got != "re: other" {
					t.Errorf("result %q, want that of the new call", got)
				}
			})
		})
	}
}

func TestACallForOthersCostsNothing(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		s := w.scheduler(WithHandlers(job.Handlers{0: w.counting(echo)}))
		theirs, ours := w.call(0, 0, ""), w.call(1, 0, "")
		theirs.quoted, ours.quoted = []chain.Address{{1}, {2}}, []chain.Address{{1}, me}
		s.hold("a reason")
		w.offer(s, theirs, ours)
		s.release("a reason")
		synctest.Wait()
		if diff := cmp.Diff(map[uint64]Outcome{0: NotForUs, 1: Done}, w.outcomes()); diff != "" || w.runs[0] != 0 {
			t.Errorf("%d runs; outcomes (-want +got):\n%s", w.runs[0], diff)
		}
	})
}

func TestACallThatDoesNotStandIsNotSubmitted(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		s := w.scheduler(WithHandlers(job.Handlers{0: func(context.Context, []byte) ([]byte, error) {
			w.call(0, 0, "other") // a reorg that the watcher has not seen
			return []byte("for the old one"), nil
		}}))
		w.offer(s, w.call(0, 0, "old"))
		synctest.Wait()
		if len(w.sent) != 0 || len(w.results) != 0 {
			t.Errorf("sent %v", w.sent)
		}
		if e := w.told(EventFinished); len(e) != 1 || e[0].Outcome != Reorganized {
			t.Errorf("told %+v", e)
		}
	})
}

// TestACallThatWasDroppedDuringAnOutage has a record, and nobody tells the scheduler.
func TestACallThatWasDroppedDuringAnOutage(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		opts := WithHandlers(job.Handlers{0: func(ctx context.Context, _ []byte) ([]byte, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		first := w.scheduler(opts)
		w.offer(first, w.call(0, 0, "old"))
		synctest.Wait()
		first.stop()
		w.call(0, 0, "other")
		w.scheduler(opts)
		synctest.Wait()
		if n := len(w.records); n != 0 {
			t.Errorf("%d records are left", n)
		}
	})
}

func TestTheOldestCallWithoutARecord(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		s := w.scheduler(WithHandlers(job.Handlers{0: echo}), WithConcurrency(1))
		if block, ok := s.oldest(); ok {
			t.Errorf("oldest = %d of nothing", block)
		}
		s.hold("a reason")
		calls := []work{w.call(0, 0, ""), w.call(1, 0, ""), w.call(2, 0, "")}
		w.offer(s, calls[1], calls[2], calls[0])
		if block, ok := s.oldest(); block != calls[0].number || !ok {
			t.Errorf("oldest = %d, %t", block, ok)
		}
		s.orphaned(calls[0].id)
		if block, ok := s.oldest(); block != calls[1].number || !ok {
			t.Errorf("oldest = %d, %t", block, ok)
		}
		s.release("a reason")
		synctest.Wait()
		if block, ok := s.oldest(); ok {
			t.Errorf("oldest = %d after all have ended", block)
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		s := newScheduler(newOptions([]Option{WithHandlers(job.Handlers{0: w.counting(echo)})}))
		s.service, s.operator, s.chain, s.ledger, s.anchor, s.sender = service, me, w, w, w, w
		s.check = func(uint32, []byte) error { return nil }
		s.tell = func(Event) {}
		s.maxInputs, s.maxOpen = 100, 20
		for i := range uint64(20) {
			w.offer(s, w.call(i, 0, strings.Repeat("x", 10)))
		}
		if s.inputs != 100 || s.parked != 10 {
			t.Errorf("%d bytes in memory and %d calls parked, want 100 and 10", s.inputs, s.parked)
		}
		blocked := make(chan error, 2)
		last := w.call(20, 0, "")
		go func() { blocked <- s.offer(t.Context(), last) }()
		ctx, cancel := context.WithCancel(t.Context())
		go func() { blocked <- s.offer(ctx, work{id: journal.ID{Call: 99}}) }()
		synctest.Wait()
		if len(blocked) != 0 {
			t.Error("offer did not wait for room")
		}
		cancel()
		synctest.Wait()
		if err := <-blocked; !errors.Is(err, context.Canceled) {
			t.Errorf("offer whose context ended: %v", err)
		}
		s.start()
		defer s.stop()
		synctest.Wait()
		if err := <-blocked; err != nil {
			t.Errorf("offer once there is room: %v", err)
		}
		synctest.Wait()
		if len(w.outcomes()) != 21 || s.inputs != 0 || s.parked != 0 || len(w.runs) != 21 {
			t.Errorf("%d ended; %d bytes and %d calls are kept", len(w.outcomes()), s.inputs, s.parked)
		}
	})
}

// TestTenThousandOpenCalls has what an outage leaves: calls with a kilobyte each, of which the
// memory holds a tenth.
func TestTenThousandOpenCalls(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		const calls = 10_000
		w.mining = 100 * time.Millisecond
		s := w.scheduler(WithHandlers(job.Handlers{0: w.counting(func(context.Context, []byte) ([]byte, error) {
			return []byte("ok"), nil
		})}))
		s.maxInputs = calls * 1000 / 10
		s.hold("a reason")
		inputs := strings.Repeat("x", 1000)
		for i := range uint64(calls) {
			w.offer(s, w.call(i, 0, inputs))
		}
		if s.inputs > s.maxInputs || s.parked != calls-calls/10 {
			t.Errorf("%d bytes of inputs are in memory, and %d calls are parked", s.inputs, s.parked)
		}
		s.release("a reason")
		pass(10 * time.Minute)
		if n := len(w.outcomes()); n != calls {
			t.Errorf("%d calls ended, want %d", n, calls)
		}
		if n := len(w.sent); n > calls/maxBatch*3/2 {
			t.Errorf("%d transactions for %d results", n, calls)
		}
		for call, n := range w.runs {
			if n != 1 {
				t.Errorf("call %d ran %d times", call, n)
			}
		}
	})
}

func TestTheChainIsAskedWithBackOff(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		s := w.scheduler(WithHandlers(job.Handlers{0: echo}))
		w.down = true
		for i := range uint64(200) {
			w.offer(s, w.call(i, 0, ""))
		}
		pass(10 * time.Minute)
		w.set(func() {
			if w.asked > 64*30 {
				t.Errorf("the nodes were asked %d times in 10 minutes", w.asked)
			}
		})
		var st Status
		if s.status(&st); st.Waiting["the chain cannot be asked"] != 200 {
			t.Errorf("waiting: %v", st.Waiting)
		}
		if told := w.told(EventWaiting); len(told) != 1 {
			t.Errorf("waiting was told %d times", len(told))
		}
		w.set(func() { w.down = false })
		pass(time.Minute)
		if n := len(w.outcomes()); n != 200 {
			t.Errorf("%d ended, want 200", n)
		}
	})
}

func TestAPauseKeepsJobsFromRunning(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		s := w.scheduler(WithHandlers(job.Handlers{0: w.counting(echo)}))
		w.all = chain.RevertPaused // before anybody has told
		w.offer(s, w.call(0, 0, ""), w.call(1, 0, ""))
		synctest.Wait()
		s.hold("the contract is paused")
		pass(time.Hour)
		var st Status
		if s.status(&st); len(w.runs) != 0 || st.Waiting["the contract is paused"] != 2 {
			t.Errorf("%d runs; waiting %v", len(w.runs), st.Waiting)
		}
		w.set(func() { w.all = 0 })
		s.release("the contract is paused")
		pass(time.Minute)
		if diff := cmp.Diff(map[uint64]Outcome{0: Done, 1: Done}, w.outcomes()); diff != "" {
			t.Errorf("outcomes (-want +got):\n%s", diff)
		}
	})
}

func TestResultsThatAReorgTookBackAreSubmittedAgain(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		s := w.scheduler(WithHandlers(job.Handlers{0: w.counting(echo)}))
		w.offer(s, w.call(0, 0, "a"), w.call(1, 0, "b"))
		synctest.Wait()
		w.offer(s, w.call(2, 0, "c"))
		synctest.Wait()
		height := w.head // the block of the last result
		w.set(func() { delete(w.results, 2); w.others[1] = true })
		s.reopened(height)
		synctest.Wait()
		if diff := cmp.Diff(map[uint64]int{0: 1, 1: 1, 2: 1}, w.runs); diff != "" {
			t.Errorf("runs (-want +got):\n%s", diff)
		}
		if string(w.results[2]) != "re: c" || len(w.sent) != 4 {
			t.Errorf("result %q after transactions for %v", w.results[2], w.sent)
		}
		w.set(func() { clear(w.results) })
		s.reopened(height + 2)
		synctest.Wait()
		if len(w.sent) != 4 {
			t.Error("results below the fork were submitted again")
		}
	})
}

func TestAnOperatorCanRetryWhatFailed(t *testing.T) {
	t.Parallel()
	run(t, func(t *testing.T, w *world) {
		fail := true
		s := w.scheduler(WithHandlers(job.Handlers{0: w.counting(func(context.Context, []byte) ([]byte, error) {
			if fail {
				return nil, errors.New("no luck")
			}
			return []byte("luck"), nil
		})}))
		w.offer(s, w.call(0, 0, ""))
		synctest.Wait()
		fail = false
		if err := s.retry(0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if string(w.results[0]) != "luck" {
			t.Errorf("result %q", w.results[0])
		}
		for _, call := range []uint64{0, 5} {
			if err := s.retry(call); faas.CodeOf(err) != faas.ErrNotFound {
				t.Errorf("retry of call %d: %v", call, err)
			}
		}
	})
}

// TestEveryCrashPoint ends the runner before and after each thing that it does for ten calls, and
// goes on with a new one on the same disk and chain.
func TestEveryCrashPoint(t *testing.T) {
	t.Parallel()
	errCrash := errors.New("crash")
	for _, kind := range []string{"a handler", "a function", "a repeatable function", "a handler that runs once"} {
		for crashAt := 1; ; crashAt++ {
			crashed := false
			t.Run(fmt.Sprint(kind, ", at step ", crashAt), func(t *testing.T) {
				run(t, func(t *testing.T, w *world) {
					answered := map[uint64]bool{} // in the journal
					handler := w.counting(func(ctx context.Context, args []byte) ([]byte, error) {
						c, _ := CallOf(ctx)
						w.set(func() {
							if answered[c.ID] {
								t.Errorf("call %d runs again, though it was answered", c.ID)
							}
						})
						return args, nil
					})
					opts := []Option{WithConcurrency(2), WithJob(0, JobOptions{Repeat: map[string]Repeat{
						"a repeatable function": Repeatable, "a handler that runs once": Once}[kind]})}
					if strings.HasSuffix(kind, "function") {
						reg := &faas.Registry{}
						reg.Set(0, counted{w, answered})
						opts = append(opts, WithFunctions(reg))
					} else {
						opts = append(opts, WithHandlers(job.Handlers{0: handler}))
					}
					var calls []work
					for i := range uint64(10) {
						calls = append(calls, w.call(i, 0, fmt.Sprint(i)))
					}
					steps := 0
					w.crash = func(string) error {
						w.mu.Lock()
						defer w.mu.Unlock()
						for id := range w.outputs {
							answered[id.Call] = true
						}
						if steps++; steps >= crashAt {
							crashed = true
							return errCrash
						}
						return nil
					}
					first := w.scheduler(opts...)
					for _, c := range calls {
						_ = first.offer(t.Context(), c)
					}
					pass(time.Minute)
					first.stop()
					w.crash = nil
					second := w.scheduler(opts...)
					w.offer(second, calls...)
					pass(10 * time.Minute)

					again := 0
					for call, outcome := range w.outcomes() {
						switch {
						case w.runs[call] > 1:
							again++
						case outcome == Interrupted:
							again++
							if kind == "a handler" || kind == "a repeatable function" {
								t.Errorf("call %d: %s", call, outcome)
							}
							continue
						}
						if outcome != Done || string(w.results[call]) != fmt.Sprint(call) {
							t.Errorf("call %d: %s with result %q", call, outcome, w.results[call])
						}
					}
					if n := len(w.outcomes()); n != 10 || again > 2 {
						t.Errorf("%d calls ended, and %d were run again or given up; want 10, and at most the 2 that ran", n, again)
					}
					if kind != "a handler" && kind != "a repeatable function" && slices.Max(slices.Collect(maps.Values(w.runs))) > 1 {
						t.Errorf("runs: %v", w.runs)
					}
					if len(w.inFlight) > 0 {
						t.Errorf("transactions are left in flight: %v", w.inFlight)
					}
				})
			})
			if !crashed || t.Failed() {
				break
			}
		}
	}
}

type counted struct {
	w        *world
	answered map[uint64]bool
}

func (c counted) Invoke(_ context.Context, _ uint32, args []byte) (*faas.Result, error) {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	var call uint64
	if _, err := fmt.Sscan(string(args), &call); err != nil {
		return nil, err
	}
	if c.w.runs[call]++; c.answered[call] {
		c.w.t.Errorf("call %d runs again, though it was answered", call)
	}
	return &faas.Result{Output: args}, nil
}
