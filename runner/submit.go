package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
	"github.com/tangle-network/blueprint-serverless/runner/internal/txmgr"
)

const (
	maxBatch      = 20
	maxBatchBytes = 100_000
	maxBatchGas   = 12_000_000 // by estimate: 1.3 times as much may be sent
	// singles is how many answers go alone after a batch failed: others win the races for these calls.
	singles = 32
)

// withSame takes the answers that an earlier process sent with one transaction.
func (s *scheduler) withSame(tx chain.Word) (group []*item) {
	for _, it := range slices.Clone(s.out.queue) {
		if it.tx == tx {
			s.out.remove(it)
			group = append(group, it)
		}
	}
	return group
}

// group takes the answers for one transaction: one, unless more wait than there is room for. The
// lock is held.
func (s *scheduler) group() []*item {
	if tx := s.out.queue[0].tx; !tx.IsZero() { // of a result that a reorg took back
		return s.withSame(tx)
	}
	first := s.out.pop()
	group := []*item{first}
	room := s.out.window - s.out.running
	n := min((len(s.out.queue)+room)/room, maxBatch)
	if s.single > 0 {
		s.single--
		n = 1
	}
	size := first.size
	for len(group) < n && !first.alone && !s.out.queue[0].alone && s.out.queue[0].tx.IsZero() {
		if size += s.out.queue[0].size; size > maxBatchBytes {
			break
		}
		group = append(group, s.out.pop())
	}
	return group
}

// submit brings answers on chain. It returns once they count.
func (s *scheduler) submit(group []*item) {
	// The next answers may go once these are mined.
	mined := sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.out.running--
		s.dispatch()
	})
	if len(group) == 1 {
		s.alone(group[0], mined)
	} else {
		s.together(group, mined)
	}
	s.mu.Lock()
	s.sending -= len(group)
	s.mu.Unlock()
	mined()
}

// alone submits one answer.
func (s *scheduler) alone(it *item, mined func()) {
	output, err := s.ledger.Output(it.id)
	if err != nil {
		s.fail(err)
		return
	}
	receipt, err := s.send(it.ctx, txmgr.Request{Label: fmt.Sprintf("result of call %d", it.id.Call),
		Data: chain.SubmitResult(s.service, it.id.Call, output)}, mined, it)
	switch {
	case s.isGone(it):
		s.drop(it)
		return
	case err == nil && receipt.Succeeded:
		_ = s.finish(it, ending{outcome: Done, block: receipt.Block, receipt: receipt})
		return
	case errors.Is(context.Cause(it.ctx), errStopped), s.unsend(it) != nil:
		return
	}
	why := "the transaction with the result failed, and a dry run does not tell why"
	switch {
	case err == nil:
		_, err = s.chain.Call(it.ctx, s.dryRun(it.id.Call, output))
	case errors.Is(err, txmgr.ErrObsolete), errors.Is(err, txmgr.ErrReplaced):
		err, why = nil, "another program uses the key"
	case errors.Is(err, chain.ErrTxTooLarge):
		s.reject(it, fmt.Errorf("no node takes a transaction with an answer of %d bytes", len(output)))
		return
	case errors.Is(err, chain.ErrGasLimit):
		s.reject(it, fmt.Errorf("an answer of %d bytes takes more gas than a transaction may have", len(output)))
		return
	}
	switch {
	case !s.pass(it, err):
	case err == nil:
		s.postpone(it, why, nil)
	default:
		mined() // others are not kept waiting
		s.aggregate(it, output)
	}
}

// send sends a transaction with results.
func (s *scheduler) send(ctx context.Context, r txmgr.Request, mined func(), group ...*item) (*chain.Receipt, error) {
	r.To, r.Resume = s.chain.Contract(), group[0].tx
	r.Still = func(ctx context.Context) error { return s.still(ctx, group) }
	r.Mined = func(*chain.Receipt) { mined() }
	r.Sent = func(tx chain.Word) error {
		return each(group, func(it *item) error {
			it.tx = tx
			err := s.note(it, func(r *journal.Record) { r.Phase, r.Tx = journal.Sent, tx })
			if err == nil {
				s.tell(Event{Kind: EventSubmitted, Call: it.id.Call, HasCall: true, Job: it.job, Block: it.number,
					Tx: tx.String()})
			}
			return err
		})
	}
	receipt, err := s.sender.Send(ctx, r)
	if err == nil && receipt.Succeeded {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.out.gate = gate{}
	}
	return receipt, err
}

// unsend notes that nothing of a call is in a pool.
func (s *scheduler) unsend(it *item) error {
	if it.tx.IsZero() {
		return nil
	}
	it.tx = chain.Word{}
	return s.note(it, func(r *journal.Record) { r.Phase, r.Tx = journal.Answered, chain.Word{} })
}

// still returns an error if one of the calls is not where it was found, or if nobody knows.
func (s *scheduler) still(ctx context.Context, group []*item) error {
	for _, it := range group {
		stands, err := s.anchor.stands(ctx, it.id, it.number)
		if err != nil {
			return err
		}
		s.mu.Lock()
		it.gone = it.gone || !stands
		gone := it.gone
		s.mu.Unlock()
		if gone {
			return fmt.Errorf("%w: %w", txmgr.ErrObsolete, errOrphaned)
		}
	}
	return nil
}

func (s *scheduler) isGone(it *item) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return it.gone
}

// together submits several answers with one transaction, if each would pass alone and if that is
// cheaper. What cannot go together goes alone.
func (s *scheduler) together(group []*item, mined func()) {
	slices.SortFunc(group, func(a, b *item) int { return cmp.Compare(a.id.Call, b.id.Call) })
	resumed := !group[0].tx.IsZero()
	var (
		members []*item
		calls   []uint64
		outputs [][]byte
		apart   uint64 // gas
	)
	gas := make([]uint64, len(group))
	if !resumed {
		var wg sync.WaitGroup
		for i, it := range group {
			wg.Go(func() {
				output, err := s.ledger.Output(it.id)
				if err == nil {
					gas[i], err = s.chain.EstimateGas(it.ctx, s.dryRun(it.id.Call, output))
				}
				if err != nil {
					gas[i] = maxBatchGas
				}
			})
		}
		wg.Wait()
	}
	for i, it := range group {
		if apart+gas[i] >= maxBatchGas {
			s.separate(it)
			continue
		}
		output, err := s.ledger.Output(it.id)
		if err != nil {
			s.fail(err)
			return
		}
		members, calls, outputs, apart = append(members, it), append(calls, it.id.Call), append(outputs, output), apart+gas[i]
	}
	if receipt := s.sendTogether(members, calls, outputs, apart, mined); receipt != nil {
		_ = each(members, func(it *item) error {
			return s.finish(it, ending{outcome: Done, block: receipt.Block, receipt: receipt, share: len(members)})
		})
		return
	}
	if s.sends.Err() != nil {
		return
	}
	_ = each(members, func(it *item) error {
		err := s.unsend(it)
		if err == nil {
			s.separate(it)
		}
		return err
	})
}

// each does something for all of a group at the same time, so that what it writes shares a sync of
// the disk.
func each(group []*item, do func(*item) error) error {
	errs := make([]error, len(group))
	var wg sync.WaitGroup
	for i, it := range group {
		wg.Go(func() { errs[i] = do(it) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// sendTogether returns nil if the answers have to go alone.
func (s *scheduler) sendTogether(members []*item, calls []uint64, outputs [][]byte, apart uint64,
	mined func()) *chain.Receipt {
	if len(members) < 2 {
		return nil
	}
	data := chain.SubmitResults(s.service, calls, outputs)
	if members[0].tx.IsZero() {
		gas, err := s.chain.EstimateGas(s.sends, chain.Call{From: s.operator, To: s.chain.Contract(), Data: data})
		if err != nil || gas >= apart {
			return nil
		}
	}
	receipt, err := s.send(s.sends, txmgr.Request{
		Label: fmt.Sprintf("results of %d calls, the first of them %d", len(calls), calls[0]), Data: data}, mined, members...)
	if err == nil && receipt.Succeeded {
		return receipt
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.single = singles
	return nil
}

// separate lets an answer go alone.
func (s *scheduler) separate(it *item) {
	it.alone = true
	s.putBack(it, nil)
}

// aggregate brings an answer on chain together with other operators.
func (s *scheduler) aggregate(it *item, output []byte) {
	ctx := it.ctx
	operators, err := s.chain.ServiceOperators(ctx, s.service)
	var rules []chain.JobRules
	if err == nil {
		rules, err = s.chain.JobRules(ctx, s.service, []uint8{uint8(it.job)})
	}
	var hook uint64
	if err == nil {
		hook, err = s.chain.HookGasLimit(ctx)
	}
	if err != nil {
		s.trouble(it, &s.out.gate, err)
		return
	}
	call := AggregateCall{
		ChainID: s.chain.ID(), Contract: s.chain.Contract(), Service: s.service, Call: it.id.Call, Job: it.job,
		Operator: s.operator, ThresholdBPS: rules[0].Threshold, ByStake: rules[0].ByStake, Output: output,
		Read: func(ctx context.Context, data []byte) ([]byte, error) {
			return s.chain.Call(ctx, chain.Call{From: s.operator, To: s.chain.Contract(), Data: data})
		},
		Completed: func(ctx context.Context) (bool, error) {
			c, err := s.chain.JobCall(ctx, s.service, it.id.Call)
			return c.Completed, err
		},
	}
	for _, o := range operators {
		call.Operators = append(call.Operators, o)
	}
	var last *chain.Receipt
	call.Submit = func(ctx context.Context, data []byte) error {
		receipt, err := s.send(ctx, txmgr.Request{Label: fmt.Sprintf("aggregated result of call %d", it.id.Call),
			Data: data, ExtraGas: hook}, func() {}, it)
		if err == nil && !receipt.Succeeded {
			err = errors.New("the transaction with the aggregated result failed")
		}
		last = receipt
		return err
	}
	err = s.options.aggregator.Aggregate(ctx, call)
	switch {
	case s.isGone(it):
		s.drop(it)
	case err == nil && last != nil:
		_ = s.finish(it, ending{outcome: Done, block: last.Block, receipt: last})
	case err == nil: // another operator has submitted it
		s.over(it, &s.out.gate, verdict{action: end, outcome: Done})
	case errors.Is(context.Cause(ctx), errStopped), s.unsend(it) != nil:
	default:
		s.postpone(it, "the signatures for the result cannot be collected or submitted", err)
	}
}
