package runner

import (
	"container/heap"
	"context"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
	"github.com/tangle-network/blueprint-serverless/runner/internal/txmgr"
)

// contract is what running and submitting need of a *chain.Chain.
type contract interface {
	ID() uint64
	Contract() chain.Address
	Head(ctx context.Context) (chain.Block, error)
	Logs(ctx context.Context, q chain.LogQuery, from, to uint64, toHash chain.Word) ([]chain.Log, error)
	Call(ctx context.Context, call chain.Call) ([]byte, error)
	DryRun(ctx context.Context, calls []chain.Call) ([]error, error)
	JobCall(ctx context.Context, service, call uint64) (chain.JobCall, error)
	EstimateGas(ctx context.Context, call chain.Call) (uint64, error)
	JobRules(ctx context.Context, service uint64, jobs []uint8) ([]chain.JobRules, error)
	ServiceOperators(ctx context.Context, service uint64) ([]chain.Address, error)
	HookGasLimit(ctx context.Context) (uint64, error)
}

// ledger is what they need of a *journal.Journal.
type ledger interface {
	Get(id journal.ID) (journal.Record, bool)
	Calls(call uint64) []journal.Record
	Output(id journal.ID) ([]byte, error)
	Put(r journal.Record) error
	Forget(id journal.ID) error
	Unfinished() iter.Seq[journal.Record]
	Records() iter.Seq[journal.Record]
}

// sender is what they need of a *txmgr.Manager.
type sender interface {
	Send(ctx context.Context, r txmgr.Request) (*chain.Receipt, error)
}

// Bounds on what is kept in memory and done at the same time.
const (
	maxInputs  = 64 << 20 // bytes of inputs in memory; of further calls only the identity
	maxOpen    = 100_000  // calls; then offer blocks
	maxUnsent  = 10_000   // answers that are not on chain; then no more jobs are run
	maxUnmined = 16       // transactions with results
	maxSending = 1024     // results that are submitted, or wait for confirmations
)

// The causes with which a call's context ends.
var (
	errOrphaned = errors.New("the chain dropped the call")
	errStopped  = errors.New("the runner stops")
)

// item is a call on its way.
type item struct {
	work
	parked   bool       // the inputs are not in memory
	noted    bool       // the journal has a record, so that the cursor may pass the call
	answered bool       // to be submitted; else to be run
	alone    bool       // not in a batch
	gone     bool       // the chain dropped it
	tx       chain.Word // with the answer; may be in a pool
	size     int        // of the output, if this process ran the job
	tries    int        // in a row that ended in a wait
	since    time.Time  // of the first of them
	due      time.Time  // while it waits by itself
	reason   string     // why it does

	// While it is run or submitted.
	ctx    context.Context
	cancel context.CancelCauseFunc
}

// scheduler takes the calls that the watcher finds through their life: it queues them, runs them
// and submits what they answer. It implements sink.
type scheduler struct {
	options   *options
	service   uint64
	operator  chain.Address
	chain     contract
	ledger    ledger
	anchor    anchor
	sender    sender
	check     func(job uint32, output []byte) error
	look      func() // at the state of the service, which a refusal has told
	tell      func(Event)
	logger    *slog.Logger
	maxInputs int
	maxOpen   int
	runs      context.Context // ends when the grace is over
	endRuns   context.CancelCauseFunc
	sends     context.Context // ends when the runner stops
	endSends  context.CancelCauseFunc
	wg        sync.WaitGroup
	asker     *asker
	failed    chan error // what happens cannot be written down

	mu       sync.Mutex
	changed  sync.Cond // there may be room
	started  bool
	stopping bool
	items    map[journal.ID]*item
	lanes    map[uint32]*lane
	order    []*lane // of lanes
	turn     int     // of order: who is next
	out      lane    // answers
	gate     gate    // of all lanes: the chain cannot be asked
	holds    map[string]bool
	late     delayed
	waits    map[string]int // calls in late, by reason
	timer    *time.Timer    // for the next of late, and the next gate
	running  int            // slots in use
	sending  int            // results in submission, with those that wait for confirmations
	inputs   int            // bytes in memory
	parked   int
	unsent   int            // answers that are not on chain
	single   int            // answers that go alone, since a batch failed
	fresh    map[uint64]int // calls without a record, by block
	lowest   uint64         // of fresh, if it has it
	outcomes map[Outcome]uint64
	byJob    map[uint32]map[Outcome]uint64
	last     time.Time // of an answer
}

// newScheduler leaves the fields above mu that are parts of the runner to the caller.
func newScheduler(o *options) *scheduler {
	s := &scheduler{
		options: o, logger: o.logger, maxInputs: maxInputs, maxOpen: maxOpen, failed: make(chan error, 1),
		items: map[journal.ID]*item{}, lanes: map[uint32]*lane{}, holds: map[string]bool{}, waits: map[string]int{},
		fresh: map[uint64]int{}, outcomes: map[Outcome]uint64{}, byJob: map[uint32]map[Outcome]uint64{},
		out: lane{limit: maxUnmined, window: maxUnmined},
	}
	s.changed.L = &s.mu
	s.runs, s.endRuns = context.WithCancelCause(context.Background())
	s.sends, s.endSends = context.WithCancelCause(s.runs)
	s.asker = &asker{ctx: s.runs, dryRun: func(ctx context.Context, calls []chain.Call) ([]error, error) {
		return s.chain.DryRun(ctx, calls)
	}}
	ids := slices.AppendSeq(slices.Collect(maps.Keys(o.handlers)), maps.Keys(o.functions))
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		limit := o.concurrency
		if own := o.jobs[id].Concurrency; own > 0 {
			limit = min(own, limit)
		}
		s.lanes[id] = &lane{job: id, limit: limit, window: limit}
		s.order = append(s.order, s.lanes[id])
	}
	return s
}

// takeUp goes on with what earlier processes began. It is called before anything is offered.
func (s *scheduler) takeUp() error {
	for r := range s.ledger.Unfinished() {
		it := &item{work: work{id: r.ID, number: r.Number, job: uint32(r.Job)}, noted: true, tx: r.Tx}
		it.answered = r.Phase != journal.Started
		var err error
		if !it.answered && r.Runs > 0 && !s.mayRepeat(it.job) {
			err = s.finish(it, ending{outcome: Interrupted, reason: "the runner ended while the job ran, and the job " +
				"must not be run twice"})
		} else {
			err = s.take(it)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// mayRepeat reports whether a job may be run again after an earlier process may have run it.
func (s *scheduler) mayRepeat(id uint32) bool {
	repeat := s.options.jobs[id].Repeat
	return repeat == Repeatable || repeat == RepeatHandlers && s.options.functions[id] == nil
}

// start lets calls be run and submitted. What an earlier process sent is resumed at once, whatever
// the bounds.
func (s *scheduler) start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	s.timer = time.AfterFunc(time.Hour, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dispatch()
	})
	for {
		i := slices.IndexFunc(s.out.queue, func(it *item) bool { return !it.tx.IsZero() })
		if i < 0 {
			break
		}
		s.beginSubmit(s.withSame(s.out.queue[i].tx))
	}
	s.dispatch()
}

// resumed returns the transactions that start resumes.
func (s *scheduler) resumed() (txs []chain.Word) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range s.out.queue {
		if !it.tx.IsZero() {
			txs = append(txs, it.tx)
		}
	}
	return txs
}

// stop begins nothing any more, gives running jobs the grace, then ends their contexts, and returns
// when all have returned but handlers that ignore that. Transactions stay in flight.
func (s *scheduler) stop() {
	s.halt()
	s.endSends(errStopped)
	grace := time.AfterFunc(s.options.grace, func() { s.endRuns(errStopped) })
	s.wg.Wait()
	grace.Stop()
	s.endRuns(errStopped)
}

func (s *scheduler) halt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.changed.Broadcast()
}

// fail ends the runner.
func (s *scheduler) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
	s.halt()
	s.endRuns(errStopped)
}

// offer implements sink.
func (s *scheduler) offer(ctx context.Context, w work) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	if known, err := s.await(ctx, w.id); known || err != nil {
		return err
	}
	if r, ok := s.ledger.Get(w.id); ok && r.Phase == journal.Finished {
		return nil
	}
	s.tell(Event{Kind: EventJob, Call: w.id.Call, HasCall: true, Job: w.job, Block: w.number})
	return s.take(&item{work: w})
}

// await waits for room, and until a call that the chain dropped before is gone.
func (s *scheduler) await(ctx context.Context, id journal.ID) (known bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		before := s.items[id]
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case s.stopping:
			return false, errStopped
		case before != nil && !before.gone:
			return true, nil
		case before == nil && len(s.items) < s.maxOpen:
			return false, nil
		}
		s.changed.Wait()
	}
}

// take queues a call that is not known yet.
func (s *scheduler) take(it *item) error {
	if !it.answered && s.lanes[it.job] == nil {
		return s.finish(it, ending{outcome: JobFailed, reason: "this runner has neither a handler nor a function for " +
			"the job"})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	it.parked = it.noted || s.inputs+len(it.inputs) > s.maxInputs
	if it.parked {
		it.inputs, it.quoted = nil, nil
		if !it.answered {
			s.parked++
		}
	}
	s.inputs += len(it.inputs)
	s.items[it.id] = it
	if !it.noted {
		if s.fresh[it.number]++; len(s.fresh) == 1 || it.number < s.lowest {
			s.lowest = it.number
		}
	}
	if it.answered {
		s.unsent++
	}
	s.enqueue(it)
	s.dispatch()
	return nil
}

// orphaned implements sink.
func (s *scheduler) orphaned(id journal.ID) {
	s.mu.Lock()
	it := s.items[id]
	if it != nil {
		it.gone = true
		if it.cancel != nil {
			it.cancel(errOrphaned) // who works on it drops it
			s.mu.Unlock()
			return
		}
	}
	s.mu.Unlock()
	if it != nil {
		s.drop(it)
	} else if _, ok := s.ledger.Get(id); ok {
		s.forget(id)
	}
}

// drop takes a call out that the chain dropped.
func (s *scheduler) drop(it *item) {
	if s.forget(it.id) {
		s.remove(it, ending{outcome: Reorganized, reason: errOrphaned.Error()})
	}
}

func (s *scheduler) forget(id journal.ID) bool {
	err := s.ledger.Forget(id)
	if err != nil {
		s.fail(err)
	}
	return err == nil
}

// reopened implements sink.
func (s *scheduler) reopened(height uint64) {
	var again []journal.Record
	for r := range s.ledger.Records() {
		if r.Phase == journal.Finished && r.ResultBlock >= height &&
			slices.Contains([]Outcome{Done, DoneByOthers, ServiceOver}, Outcome(r.Outcome)) {
			again = append(again, r)
		}
	}
	for _, r := range again {
		if err := s.reopen(r); err != nil {
			s.fail(err)
			return
		}
	}
}

// reopen makes a finished call an open one. An answer that it has is submitted without running the
// job.
func (s *scheduler) reopen(r journal.Record) error {
	it := &item{work: work{id: r.ID, number: r.Number, job: uint32(r.Job)}, noted: true}
	if o := Outcome(r.Outcome); o != JobFailed && o != Interrupted {
		_, err := s.ledger.Output(r.ID)
		it.answered = err == nil
	}
	if it.answered {
		r.Phase, it.tx = journal.Answered, r.Tx
	} else {
		r.Phase, r.Runs = journal.Started, 0
	}
	r.Outcome, r.Reason, r.ResultBlock = "", "", 0
	if err := s.ledger.Put(r); err != nil {
		return err
	}
	return s.take(it)
}

// retry runs a call again that failed, because an operator asks for it.
func (s *scheduler) retry(call uint64) error {
	for _, r := range s.ledger.Calls(call) {
		if r.Phase == journal.Finished &&
			slices.Contains([]Outcome{JobFailed, Interrupted, NeedsAggregate, ServiceOver}, Outcome(r.Outcome)) {
			return s.reopen(r)
		}
	}
	return faas.Errorf(faas.ErrNotFound, "retry", "", "call %d of service %d is not one that failed", call, s.service)
}

// oldest implements sink.
func (s *scheduler) oldest() (block uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.fresh) == 0 {
		return 0, false
	}
	if s.fresh[s.lowest] == 0 {
		s.lowest = slices.Min(slices.Collect(maps.Keys(s.fresh)))
	}
	return s.lowest, true
}

// hold keeps calls from being run and submitted, for a reason outside: the contract is paused.
func (s *scheduler) hold(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds[reason] = true
}

// release ends a hold.
func (s *scheduler) release(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.holds, reason)
	s.dispatch()
}

func (s *scheduler) held(reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds[reason]
}

func (s *scheduler) laneOf(it *item) *lane {
	if it.answered {
		return &s.out
	}
	return s.lanes[it.job]
}

func (s *scheduler) enqueue(it *item) { s.laneOf(it).push(it) }

// dispatch begins all that may begin now. The lock is held.
func (s *scheduler) dispatch() {
	if !s.started || s.stopping || len(s.holds) > 0 {
		return
	}
	now := time.Now()
	for len(s.late) > 0 && !s.late[0].due.After(now) {
		it := heap.Pop(&s.late).(*item)
		s.unwait(it)
		s.enqueue(it)
	}
	for l := s.next(now); l != nil; l = s.next(now) {
		it := l.pop()
		l.running++
		s.running++
		it.ctx, it.cancel = context.WithCancelCause(s.runs)
		s.wg.Go(func() { s.run(it, l) })
	}
	for s.sending < maxSending && s.out.mayBegin(now) {
		s.beginSubmit(s.group())
	}
	s.arm(now)
}

func (s *scheduler) beginSubmit(group []*item) {
	for _, it := range group {
		it.ctx, it.cancel = context.WithCancelCause(s.sends)
	}
	s.out.running++
	s.sending += len(group)
	s.wg.Go(func() { s.submit(group) })
}

// next returns the lane whose turn it is, or nil. A slot is kept for each job of which no call
// runs, of at most half of the slots, so that slow jobs never hold up the others.
func (s *scheduler) next(now time.Time) *lane {
	free := s.options.concurrency - s.running
	if free <= 0 || s.unsent >= maxUnsent || s.gate.isShut(now) {
		return nil
	}
	idle := 0
	for _, l := range s.order {
		if l.running == 0 {
			idle++
		}
	}
	kept := min(idle, s.options.concurrency/2)
	for i := range s.order {
		l := s.order[(s.turn+i)%len(s.order)]
		if l.mayBegin(now) && (l.running == 0 || free > kept) {
			s.turn = (s.turn + i + 1) % len(s.order)
			return l
		}
	}
	return nil
}

// arm sets the timer to the next moment at which something that waits may begin.
func (s *scheduler) arm(now time.Time) {
	next := now.Add(time.Hour)
	consider := func(t time.Time) {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	consider(s.gate.until)
	consider(s.out.gate.until)
	for _, l := range s.order {
		consider(l.gate.until)
	}
	if len(s.late) > 0 {
		consider(s.late[0].due)
	}
	s.timer.Reset(next.Sub(now))
}

// unwait undoes what postpone counted.
func (s *scheduler) unwait(it *item) {
	if s.waits[it.reason]--; s.waits[it.reason] == 0 {
		delete(s.waits, it.reason)
	}
}

// idle takes a call back from who works on it, and reports whether it still stands. The lock is
// held.
func (s *scheduler) idle(it *item) bool {
	if it.cancel != nil {
		it.cancel(nil)
	}
	it.ctx, it.cancel = nil, nil
	return !it.gone
}

// postpone lets a call wait by itself, longer each time in a row.
func (s *scheduler) postpone(it *item, reason string, err error) {
	s.mu.Lock()
	if !s.idle(it) {
		s.mu.Unlock()
		s.drop(it)
		return
	}
	defer s.mu.Unlock()
	now := time.Now()
	if it.tries++; it.tries == 1 {
		it.since = now
	}
	it.due = now.Add(min(firstDelay<<min(it.tries-1, 10), longestWait))
	it.reason = reason
	heap.Push(&s.late, it)
	if s.waits[reason]++; s.waits[reason] == 1 {
		s.tell(Event{Kind: EventWaiting, Call: it.id.Call, HasCall: true, Job: it.job, Reason: reason, Err: err})
	}
	s.dispatch()
}

// putBack makes a call the next of its lane. If shut is not nil, it shuts the gate that keeps the
// call back from now on, and returns the reason if that is news.
func (s *scheduler) putBack(it *item, shut func(now time.Time) (reason string)) {
	s.mu.Lock()
	if !s.idle(it) {
		s.mu.Unlock()
		s.drop(it)
		return
	}
	defer s.mu.Unlock()
	s.laneOf(it).putBack(it)
	if shut != nil {
		now := time.Now()
		if it.tries++; it.tries == 1 {
			it.since = now
		}
		if reason := shut(now); reason != "" {
			s.tell(Event{Kind: EventWaiting, Call: it.id.Call, HasCall: true, Job: it.job, Reason: reason})
		}
	}
	s.dispatch()
}
