package runner

import (
	"container/heap"
	"maps"
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
)

// ending is how a call ends.
type ending struct {
	outcome Outcome
	reason  string
	err     error
	block   uint64 // the result is in it or before
	receipt *chain.Receipt
	share   int // of the receipt: a part of so many
}

// finish ends a call.
func (s *scheduler) finish(it *item, e ending) error {
	err := s.note(it, func(r *journal.Record) {
		r.Phase, r.Outcome, r.Reason, r.ResultBlock = journal.Finished, string(e.outcome), e.reason, e.block
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	stands := s.idle(it)
	s.mu.Unlock()
	if stands {
		s.remove(it, e)
	} else {
		s.drop(it)
	}
	return nil
}

// note changes a call's record, or makes it.
func (s *scheduler) note(it *item, change func(*journal.Record)) error {
	r, ok := s.ledger.Get(it.id)
	if !ok {
		r = journal.Record{ID: it.id, Number: it.number, Job: uint8(it.job)}
	}
	change(&r)
	r.At = time.Now()
	if err := s.ledger.Put(r); err != nil {
		s.fail(err)
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unfresh(it)
	it.noted = true
	return nil
}

// unfresh lets the cursor pass a call.
func (s *scheduler) unfresh(it *item) {
	if it.noted || s.items[it.id] != it {
		return
	}
	if s.fresh[it.number]--; s.fresh[it.number] == 0 {
		delete(s.fresh, it.number)
	}
}

// remove ends a call in this process.
func (s *scheduler) remove(it *item, e ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items[it.id] == it {
		s.unfresh(it)
		delete(s.items, it.id)
		s.laneOf(it).remove(it)
		if i := slices.Index(s.late, it); i >= 0 {
			heap.Remove(&s.late, i)
			s.unwait(it)
		}
		if it.answered {
			s.unsent--
		} else if it.parked {
			s.parked--
		}
		s.inputs -= len(it.inputs)
		s.changed.Broadcast()
	}
	s.outcomes[e.outcome]++
	if s.byJob[it.job] == nil {
		s.byJob[it.job] = map[Outcome]uint64{}
	}
	s.byJob[it.job][e.outcome]++
	s.tell(e.event(it))
}

func (e ending) event(it *item) Event {
	told := Event{Kind: EventFinished, Call: it.id.Call, HasCall: true, Job: it.job, Block: it.number, Outcome: e.outcome,
		Reason: e.reason, Err: e.err}
	if it.time != 0 {
		told.Elapsed = max(0, time.Since(time.Unix(int64(min(it.time, math.MaxInt64)), 0)))
	}
	if e.receipt != nil {
		told.Tx, told.GasUsed = e.receipt.Tx.String(), e.receipt.GasUsed/uint64(max(e.share, 1))
		if e.receipt.GasPrice != nil {
			told.Cost = new(big.Int).Mul(e.receipt.GasPrice, new(big.Int).SetUint64(told.GasUsed))
		}
	}
	return told
}

// status adds the scheduler's part to a snapshot.
func (s *scheduler) status(st *Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	st.Parked, st.Running, st.LastAnswer = s.parked, s.running, s.last
	st.Submitting = s.unsent
	st.Waiting, st.Outcomes, st.Jobs = maps.Clone(s.waits), maps.Clone(s.outcomes), map[uint32]JobStatus{}
	for _, l := range s.order {
		st.Queued += len(l.queue)
		st.Jobs[l.job] = JobStatus{Queued: len(l.queue), Running: l.running, Outcomes: maps.Clone(s.byJob[l.job])}
		if l.gate.isShut(now) {
			st.Waiting[l.gate.reason] += len(l.queue)
		}
	}
	for id, outcomes := range s.byJob {
		if s.lanes[id] == nil {
			st.Jobs[id] = JobStatus{Outcomes: maps.Clone(outcomes)}
		}
	}
	for reason := range s.holds {
		st.Waiting[reason] += st.Queued + len(s.out.queue)
	}
	if s.gate.isShut(now) {
		st.Waiting[s.gate.reason] += st.Queued
	}
	if s.out.gate.isShut(now) {
		st.Waiting[s.out.gate.reason] += len(s.out.queue)
	}
}
