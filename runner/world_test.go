package runner

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
	"github.com/tangle-network/blueprint-serverless/runner/internal/txmgr"
)

// world is a contract, a transaction manager, a watcher and a disk, without the machinery of any.
// What it keeps outlives a scheduler, as a chain and a disk outlive a process.
type world struct {
	t *testing.T

	mu       sync.Mutex
	head     uint64
	calls    map[uint64]work // that stand, by number
	results  map[uint64][]byte
	others   map[uint64]bool       // completed by others
	refusal  map[uint64]uint32     // of a call, by selector
	all      uint32                // refusal of all calls
	down     bool                  // no node answers
	mining   time.Duration         // of a transaction
	asked    int                   // requests to the chain
	sent     [][]uint64            // calls of each transaction
	mined    map[chain.Word]uint64 // block, by transaction
	records  map[journal.ID]journal.Record
	outputs  map[journal.ID][]byte
	phases   map[uint64][]journal.Phase // in the order written, by call
	crash    func(step string) error    // what happens at a step, for crash tests
	runs     map[uint64]int             // of jobs, by call
	events   []Event
	inFlight map[chain.Word][]uint64 // calls of transactions in the pool that are not mined
}

func newWorld(t *testing.T) *world {
	return &world{t: t, head: 100, calls: map[uint64]work{}, results: map[uint64][]byte{}, others: map[uint64]bool{},
		refusal: map[uint64]uint32{}, mined: map[chain.Word]uint64{}, records: map[journal.ID]journal.Record{},
		outputs: map[journal.ID][]byte{}, phases: map[uint64][]journal.Phase{}, runs: map[uint64]int{},
		inFlight: map[chain.Word][]uint64{}}
}

// me is the operator.
var me = chain.Address{0xee}

const service = 7

// call returns a new call, which stands on the chain.
func (w *world) call(number uint64, jobID uint32, inputs string) work {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.head++
	c := work{id: journal.ID{Call: number, Block: chain.Word{byte(w.head), byte(w.head >> 8)}, Log: 3}, number: w.head,
		job: jobID, caller: chain.Address{0xca}, inputs: []byte(inputs), time: uint64(time.Now().Unix())}
	w.calls[number] = c
	return c
}

func (w *world) step(name string) error {
	if w.crash == nil {
		return nil
	}
	return w.crash(name)
}

// scheduler returns a started scheduler that ends with the test.
func (w *world) scheduler(opts ...Option) *scheduler {
	w.t.Helper()
	s := newScheduler(newOptions(opts))
	s.service, s.operator, s.chain, s.ledger, s.anchor, s.sender = service, me, w, w, w, w
	s.check = func(uint32, []byte) error { return nil }
	s.look = func() {}
	s.tell = func(e Event) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.events = append(w.events, e)
	}
	if err := s.takeUp(); err != nil {
		w.t.Fatal(err)
	}
	s.start()
	w.t.Cleanup(s.stop)
	return s
}

func (w *world) offer(s *scheduler, calls ...work) {
	w.t.Helper()
	for _, c := range calls {
		if err := s.offer(w.t.Context(), c); err != nil {
			w.t.Fatalf("offer(call %d): %v", c.id.Call, err)
		}
	}
}

// outcomes returns how calls ended, by their number.
func (w *world) outcomes() map[uint64]Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	ended := map[uint64]Outcome{}
	for id, r := range w.records {
		if r.Phase == journal.Finished {
			ended[id.Call] = Outcome(r.Outcome)
		}
	}
	return ended
}

// told returns the events of some kinds.
func (w *world) told(kinds ...EventKind) (events []Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if slices.Contains(kinds, e.Kind) {
			events = append(events, e)
		}
	}
	return events
}

func (w *world) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// counting wraps a handler so that the world knows of its runs.
func (w *world) counting(h func(ctx context.Context, args []byte) ([]byte, error)) func(
	context.Context, []byte) ([]byte,
	error) {
	return func(ctx context.Context, args []byte) ([]byte, error) {
		c, ok := CallOf(ctx)
		if !ok || c.Service != service || c.Caller != [20]byte{0xca} {
			w.t.Errorf("CallOf = %+v, %t", c, ok)
		}
		w.set(func() { w.runs[c.ID]++ })
		return h(ctx, args)
	}
}

func echo(_ context.Context, args []byte) ([]byte, error) {
	return append([]byte("re: "), args...), nil
}

var errDown = errors.New("no node answers")

func revert(selector uint32) *chain.Revert { return &chain.Revert{Selector: selector} }

// refuses tells what the contract thinks of results. The lock is held.
func (w *world) refuses(call uint64) error {
	_, known := w.calls[call]
	_, answered := w.results[call]
	refusal, refused := w.refusal[call]
	switch {
	case w.all != 0:
		return revert(w.all)
	case refused:
		return revert(refusal)
	case !known:
		return revert(chain.RevertJobCallNotFound)
	case answered, w.others[call]:
		return revert(chain.RevertJobAlreadyCompleted)
	}
	return nil
}

// ask decodes calldata and says what the contract thinks of it. The lock is held.
func (w *world) ask(data []byte) (calls []uint64, outputs [][]byte, err error) {
	calls, outputs = decode(data)
	w.asked++
	if w.down {
		return nil, nil, errDown
	}
	for _, c := range calls {
		if err := w.refuses(c); err != nil {
			return nil, nil, err
		}
	}
	return calls, outputs, nil
}

func decode(data []byte) (calls []uint64, outputs [][]byte) {
	args := data[4:]
	number := func(at uint64) uint64 { return binary.BigEndian.Uint64(args[at+24:]) }
	blob := func(at uint64) []byte { return args[at+32 : at+32+number(at)] }
	if binary.BigEndian.Uint32(data) == 0x2d07e655 {
		return []uint64{number(32)}, [][]byte{blob(number(64))}
	}
	list, blobs := number(32)+32, number(64)+32
	for i := range number(list - 32) {
		calls = append(calls, number(list+32*i))
		outputs = append(outputs, blob(blobs+number(blobs+32*i)))
	}
	return calls, outputs
}

func (w *world) ID() uint64              { return 31337 }
func (w *world) Contract() chain.Address { return chain.Address{0xc0} }

func (w *world) Head(context.Context) (chain.Block, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked++; w.down {
		return chain.Block{}, errDown
	}
	return chain.Block{Number: w.head}, nil
}

func (w *world) Logs(_ context.Context, q chain.LogQuery, from, to uint64, _ chain.Word) ([]chain.Log, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked++; w.down {
		return nil, errDown
	}
	call := q.Topics[2][0].Big().Uint64()
	if _, ok := w.results[call]; ok && to >= from {
		return make([]chain.Log, 1), nil
	}
	return nil, nil
}

func (w *world) Call(_ context.Context, call chain.Call) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if call.From != me {
		w.t.Errorf("dry run from %v", call.From)
	}
	_, _, err := w.ask(call.Data)
	return nil, err
}

func (w *world) DryRun(ctx context.Context, calls []chain.Call) ([]error, error) {
	errs := make([]error, len(calls))
	for i, call := range calls {
		_, errs[i] = w.Call(ctx, call)
		if errors.Is(errs[i], errDown) {
			return nil, errDown
		}
	}
	return errs, nil
}

func (w *world) JobCall(_ context.Context, _, call uint64) (chain.JobCall, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked++; w.down {
		return chain.JobCall{}, errDown
	}
	_, answered := w.results[call]
	return chain.JobCall{CreatedAt: 1, Completed: answered || w.others[call]}, nil
}

// gas is 50,000 for each result on top of what a transaction costs.
func (w *world) EstimateGas(_ context.Context, call chain.Call) (uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls, _, err := w.ask(call.Data)
	return uint64(21_000 + 50_000*len(calls)), err
}

func (w *world) ServiceOperators(context.Context, uint64) ([]chain.Address, error) {
	return []chain.Address{me}, nil
}

func (w *world) JobRules(_ context.Context, _ uint64, jobs []uint8) ([]chain.JobRules, error) {
	return slices.Repeat([]chain.JobRules{{Aggregated: true, Threshold: 6700}}, len(jobs)), nil
}

func (w *world) HookGasLimit(context.Context) (uint64, error) { return 500_000, nil }

// Send is a transaction manager that mines after a while.
func (w *world) Send(ctx context.Context, r txmgr.Request) (*chain.Receipt, error) {
	w.mu.Lock()
	calls, outputs, err := w.ask(r.Data)
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := r.Still(ctx); err != nil {
		return nil, err
	}
	w.mu.Lock()
	tx := chain.Word{0xaa, byte(len(w.sent)), byte(len(w.sent) >> 8)}
	if _, ok := w.inFlight[r.Resume]; ok {
		tx = r.Resume
	} else {
		w.sent = append(w.sent, calls)
	}
	mining := w.mining
	w.mu.Unlock()
	if tx != r.Resume {
		if err := w.step("send"); err != nil {
			return nil, err
		}
		if err := r.Sent(tx); err != nil {
			return nil, err
		}
		w.set(func() { w.inFlight[tx] = calls })
	}
	if err := w.step("mine"); err != nil {
		return nil, err
	}
	if mining > 0 {
		select {
		case <-time.After(mining):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	w.mu.Lock()
	delete(w.inFlight, tx)
	w.head++
	receipt := &chain.Receipt{Tx: tx, Block: w.head, GasUsed: 100, GasPrice: big.NewInt(2)}
	if _, _, err := w.ask(r.Data); err == nil {
		receipt.Succeeded = true
		for i, c := range calls {
			w.results[c] = bytes.Clone(outputs[i])
		}
	}
	w.mu.Unlock()
	r.Mined(receipt)
	if err := w.step("mined"); err != nil {
		return nil, err
	}
	return receipt, nil
}

func (w *world) stands(_ context.Context, id journal.ID, _ uint64) (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return false, errDown
	}
	return w.calls[id.Call].id == id, nil
}

func (w *world) inputsOf(_ context.Context, id journal.ID, _ uint64) (work, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked++; w.down {
		return work{}, errDown
	}
	c, ok := w.calls[id.Call]
	if !ok || c.id != id {
		return work{}, chain.ErrNoBlock
	}
	return c, nil
}

func (w *world) Get(id journal.ID) (journal.Record, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, ok := w.records[id]
	return r, ok
}

func (w *world) Calls(call uint64) (records []journal.Record) {
	for r := range w.Records() {
		if r.ID.Call == call {
			records = append(records, r)
		}
	}
	return records
}

func (w *world) Output(id journal.ID) ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	output, ok := w.outputs[id]
	if !ok {
		return nil, errors.New("no output")
	}
	return output, nil
}

func (w *world) Put(r journal.Record) error {
	if err := w.step(fmt.Sprint("put ", r.Phase)); err != nil {
		return err
	}
	w.mu.Lock()
	if r.Output != nil {
		w.outputs[r.ID] = r.Output
	}
	r.Output = nil
	w.records[r.ID] = r
	w.phases[r.ID.Call] = append(w.phases[r.ID.Call], r.Phase)
	w.mu.Unlock()
	return w.step(fmt.Sprint("have put ", r.Phase))
}

func (w *world) Forget(id journal.ID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.records, id)
	delete(w.outputs, id)
	return nil
}

func (w *world) Records() iter.Seq[journal.Record] {
	w.mu.Lock()
	defer w.mu.Unlock()
	var records []journal.Record
	for _, r := range w.records {
		records = append(records, r)
	}
	slices.SortFunc(records, func(a, b journal.Record) int { return cmp.Compare(a.ID.Call, b.ID.Call) })
	return slices.Values(records)
}

func (w *world) Unfinished() iter.Seq[journal.Record] {
	return func(yield func(journal.Record) bool) {
		for r := range w.Records() {
			if r.Phase != journal.Finished && !yield(r) {
				return
			}
		}
	}
}

// pass lets time pass, and what is due happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// run runs a test in a bubble.
func run(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}
