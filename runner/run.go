package runner

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/job"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
	"github.com/tangle-network/blueprint-serverless/runner/internal/txmgr"
)

const (
	// overtime is how long a job whose context has ended may take to return.
	overtime = 5 * time.Second
	// maxOutput is what a transaction holds: nodes refuse more than 128 KiB.
	maxOutput = 130_000
	// maxRepeats bounds the invocations of a repeatable job that may have run.
	maxRepeats = 3
	// patience is how long a function that is missing, or refuses the runner, is tried again.
	patience = time.Hour
	// longestReason bounds what is kept of a job's own words, in bytes.
	longestReason = 500
)

// run takes one call from the queue to its answer.
func (s *scheduler) run(it *item, l *lane) {
	stuck := s.attempt(it, l)
	if stuck == nil {
		s.leave(l)
		return
	}
	go func() { // not waited for: the handler may never return
		<-stuck
		s.leave(l)
	}()
}

// attempt returns a channel that is closed when the job returns, if it goes on after its context
// has ended.
func (s *scheduler) attempt(it *item, l *lane) (stuck <-chan struct{}) {
	ctx := it.ctx
	w := it.work
	if it.parked {
		var err error
		if w, err = s.anchor.inputsOf(ctx, it.id, it.number); err != nil {
			s.trouble(it, &s.gate, err)
			return nil
		}
	}
	if len(w.quoted) > 0 && !slices.Contains(w.quoted, s.operator) {
		_ = s.finish(it, ending{outcome: NotForUs, reason: "other operators were quoted"})
		return nil
	}
	// What would become of a result costs nothing to know, and a run may cost money.
	err := s.asker.ask(ctx, s.dryRun(it.id.Call, nil))
	if !s.pass(it, err) {
		return nil
	}
	if err := s.note(it, func(r *journal.Record) { r.Phase, r.Runs = journal.Started, r.Runs+1 }); err != nil {
		return nil
	}
	s.tell(Event{Kind: EventRunning, Call: it.id.Call, HasCall: true, Job: it.job, Block: it.number})
	start := time.Now()
	limit := s.options.jobs[it.job].Timeout
	if limit <= 0 {
		limit = s.options.timeout
	}
	timed, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	output, stuck, err := s.invoke(timed, w)
	switch {
	case err == nil:
		s.answer(it, output, time.Since(start))
	case errors.Is(context.Cause(ctx), errStopped): // the next start decides
	case ctx.Err() == nil && timed.Err() != nil:
		s.reject(it, fmt.Errorf("the job did not answer within %v", limit))
	default:
		s.repel(it, l, err)
	}
	return stuck
}

// invoke runs the job in its function, or here.
func (s *scheduler) invoke(ctx context.Context, w work) (output []byte, stuck <-chan struct{}, err error) {
	var out []byte
	failed := errors.New("the handler called runtime.Goexit")
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				s.logger.Error("a handler panicked", "job", w.job, "call", w.id.Call, "panic", v, "stack", string(debug.Stack()))
				failed = fmt.Errorf("panic: %v", v)
			}
		}()
		if function := s.options.functions[w.job]; function != nil {
			var result *faas.Result
			if result, failed = function.Invoke(ctx, w.job, w.inputs); failed == nil {
				out = result.Output
			}
			return
		}
		out, failed = s.options.handlers[w.job](context.WithValue(ctx, callKey{}, Call{Service: s.service, ID: w.id.Call,
			Job: w.job, Caller: w.caller, Block: w.number, BlockHash: w.id.Block, Time: w.time}), w.inputs)
	}()
	select {
	case <-done:
		return out, nil, failed
	case <-ctx.Done():
	}
	timer := time.NewTimer(overtime)
	defer timer.Stop()
	select {
	case <-done:
		return out, nil, failed
	case <-timer.C:
		return nil, done, context.Cause(ctx)
	}
}

// answer notes what the job answered, and queues it to be submitted.
func (s *scheduler) answer(it *item, output []byte, took time.Duration) {
	if len(output) > maxOutput {
		s.reject(it, fmt.Errorf("the answer has %d bytes; a transaction holds at most %d", len(output), maxOutput))
		return
	}
	if err := s.check(it.job, output); err != nil {
		s.reject(it, fmt.Errorf("the contract would refuse the answer: %w", err))
		return
	}
	if output == nil {
		output = []byte{} // nil would keep what the record has
	}
	if err := s.note(it, func(r *journal.Record) { r.Phase, r.Output = journal.Answered, output }); err != nil {
		return
	}
	s.tell(Event{Kind: EventAnswered, Call: it.id.Call, HasCall: true, Job: it.job, Block: it.number, Elapsed: took})
	s.mu.Lock()
	if !s.idle(it) {
		s.mu.Unlock()
		s.drop(it)
		return
	}
	defer s.mu.Unlock()
	s.last = time.Now()
	s.lanes[it.job].worked()
	if it.parked {
		s.parked--
	}
	s.inputs -= len(it.inputs)
	it.inputs, it.quoted, it.size, it.answered, it.parked, it.tries = nil, nil, len(output), true, false, 0
	s.unsent++
	s.enqueue(it)
}

// reject ends a call whose job failed.
func (s *scheduler) reject(it *item, err error) { s.fell(it, JobFailed, err) }

func (s *scheduler) fell(it *item, outcome Outcome, err error) {
	_ = s.finish(it, ending{outcome: outcome, reason: sanitize.Line(err.Error(), longestReason), err: err})
}

// repel decides what becomes of a call whose job returned an error. Only a function's invocation is
// ever repeated.
func (s *scheduler) repel(it *item, l *lane, err error) {
	var e *faas.Error
	switch {
	case context.Cause(it.ctx) == errOrphaned:
		s.drop(it)
		return
	case s.options.functions[it.job] == nil || !errors.As(err, &e) || e.Code == faas.ErrFunctionFailed:
		s.reject(it, err)
		return
	}
	again, outcome := false, JobFailed
	switch {
	case e.NotRun:
		switch e.Code {
		case faas.ErrThrottled, faas.ErrUnavailable, faas.ErrConflict, faas.ErrTimeout:
			again = true
		case faas.ErrNotFound, faas.ErrPermissionDenied: // until somebody mends it
			again = it.tries == 0 || time.Since(it.since) < patience
		}
	case e.Code != faas.ErrTooLarge && e.Code != faas.ErrInvalidArgument: // it may have run
		outcome = Interrupted
		r, _ := s.ledger.Get(it.id)
		again = s.options.jobs[it.job].Repeat == Repeatable && r.Runs < maxRepeats
	}
	if !again {
		s.fell(it, outcome, err)
		return
	}
	if e.NotRun && s.note(it, func(r *journal.Record) { r.Runs-- }) != nil {
		return
	}
	reason := fmt.Sprintf("the function of job %d: %s", it.job, e.Code)
	s.putBack(it, func(now time.Time) string { return l.refused(now, e.RetryAfter, reason) })
}

func (s *scheduler) dryRun(call uint64, output []byte) chain.Call {
	return chain.Call{From: s.operator, To: s.chain.Contract(), Data: chain.SubmitResult(s.service, call, output)}
}

// trouble lets a call wait after the chain could not be asked, and others with it.
func (s *scheduler) trouble(it *item, g *gate, err error) {
	if errors.Is(context.Cause(it.ctx), errStopped) {
		return
	}
	if errors.Is(err, chain.ErrNoBlock) { // the node is behind, or the chain dropped the call
		if errors.Is(s.still(it.ctx, []*item{it}), txmgr.ErrObsolete) {
			s.drop(it)
			return
		}
		s.postpone(it, "no node has the block of the call", nil)
		return
	}
	const reason = "the chain cannot be asked"
	s.putBack(it, func(now time.Time) string { return g.shut(now, 0, reason) })
}

// bound makes a handler keep the bounds of its job, for callers other than the chain.
func (s *scheduler) bound(id uint32, h job.Handler) job.Handler {
	l := s.lanes[id]
	return func(ctx context.Context, args []byte) ([]byte, error) {
		if err := s.enter(ctx, l); err != nil {
			return nil, err
		}
		defer s.leave(l)
		return h(ctx, args)
	}
}

// enter waits for a slot of the job. Calls of the chain let those go first that wait here.
func (s *scheduler) enter(ctx context.Context, l *lane) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	l.guests++
	defer func() { l.guests-- }()
	for l.running >= l.limit {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.changed.Wait()
	}
	l.running++
	s.running++
	return nil
}

func (s *scheduler) leave(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.running--
	s.running--
	s.changed.Broadcast()
	s.dispatch()
}
