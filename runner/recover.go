package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
)

// callsAtOnce is of how many calls the state or the logs are asked for together.
const callsAtOnce = 256

// givenUp is how long the log of a call is looked for that no node has.
const givenUp = 24 * time.Hour

// begin finds where to read on: at the last cursor whose block the chain still has; else all that
// is open is offered, and reading begins at the target.
func (w *watcher) begin(ctx context.Context, head chain.Block, target uint64) error {
	trail := w.journal.Cursors()
	for i, c := range trail {
		if c.Block > head.Number {
			continue
		}
		b, err := w.block(ctx, head, c.Block)
		if err != nil && !errors.Is(err, chain.ErrNoBlock) {
			return err
		}
		if err != nil || b.Hash != c.Hash {
			continue
		}
		if i > 0 {
			w.tell(Event{Kind: EventReorg, Block: c.Block + 1, Reason: fmt.Sprintf("block %d is not the one that was read; "+
				"the runner reads on after block %d", trail[0].Block, c.Block)})
		}
		w.start(b)
		w.cursor, w.sure = c, c.Block
		w.sink.reopened(b.Number + 1)
		return nil
	}
	if len(trail) > 0 {
		w.tell(Event{Kind: EventReorg, Reason: fmt.Sprintf(
			"the chain has none of the blocks that were read, up to block %d; "+
				"the runner looks for the calls that are open", trail[0].Block)})
	}
	b, err := w.block(ctx, head, target)
	if err != nil {
		return err
	}
	return w.recover(ctx, b)
}

// start makes a block the one after which reading begins.
func (w *watcher) start(b chain.Block) {
	w.points, w.lost = nil, nil
	w.next, w.counted = math.MaxUint64, false
	w.advance(pointOf(b))
	w.begun = true
}

// recover offers all open calls of the block and those before. The contract neither counts the
// calls nor keeps their inputs.
func (w *watcher) recover(ctx context.Context, end chain.Block) error {
	n, err := w.callsUntil(ctx, end, 0)
	if err != nil {
		return err
	}
	// A call that was completed lately may be open again after a reorg. The sink finds out that it is
	// completed now, and looks again then.
	doubtful := end.Number - min(end.Number, denseBlocks)
	lately, err := w.chain.BlockAt(ctx, doubtful)
	if err != nil {
		return err
	}
	if len(w.offered) > 0 {
		doubtful = 0 // those that an earlier attempt offered, too
	}
	lowest := uint64(0)
	var missed []span
	for from := uint64(0); from < n; from += callsAtOnce {
		calls, err := w.calls(ctx, from, min(from+callsAtOnce, n))
		if err != nil {
			return err
		}
		calls = slices.DeleteFunc(calls, func(c openCall) bool {
			return c.Completed && c.CreatedAt != 0 && c.CreatedAt < lately.Time
		})
		var left []openCall
		if left, lowest, err = w.find(ctx, calls, lowest, end); err != nil {
			return err
		}
		for _, c := range left {
			missed = append(missed, span{from: c.number, to: c.number + 1, since: time.Now()})
		}
	}
	// A node may have been on another branch, or the chain changed to one.
	if now, err := w.chain.BlockAt(ctx, end.Number); err != nil || now.Hash != end.Hash {
		return cmp.Or(err, errFork)
	}
	if dead, err := w.recheck(ctx, doubtful, end.Number, nil); err != nil || dead > 0 {
		return cmp.Or(err, errFork)
	}
	w.start(end)
	w.next, w.counted = n, true
	w.sure = 0
	w.lost = missed
	return nil
}

// openCall is a call as the contract has it.
type openCall struct {
	chain.JobCall
	number uint64
}

// calls returns the calls from..to. Of those that the node does not know, CreatedAt is zero.
func (w *watcher) calls(ctx context.Context, from, to uint64) ([]openCall, error) {
	numbers := make([]uint64, 0, to-from)
	for n := from; n < to; n++ {
		numbers = append(numbers, n)
	}
	calls, err := w.chain.JobCalls(ctx, w.service, numbers)
	if err != nil {
		return nil, err
	}
	out := make([]openCall, len(calls))
	for i, c := range calls {
		out[i] = openCall{c, numbers[i]}
	}
	return out, nil
}

// made reports whether a call was made in a block or before.
func (w *watcher) made(ctx context.Context, call uint64, until chain.Block) (bool, error) {
	created, err := w.chain.CreatedAt(ctx, w.service, call, until)
	return err == nil && created != 0 && created <= until.Time, err
}

// callsUntil returns how many calls were made in a block or before. A hint that is near saves
// requests.
func (w *watcher) callsUntil(ctx context.Context, until chain.Block, hint uint64) (uint64, error) {
	low, high := hint, hint // all calls below low were made, and high was not
	up, err := w.made(ctx, hint, until)
	for step := uint64(1); up && err == nil; step *= 2 {
		if step > 1<<40 {
			return 0, fmt.Errorf("the nodes say that service %d has %d calls", w.service, low)
		}
		low, high = high+1, high+step
		up, err = w.made(ctx, high, until)
	}
	for step := uint64(1); low == high && low > 0 && err == nil; step *= 2 {
		low = high - min(high, step)
		var ok bool
		if ok, err = w.made(ctx, low, until); ok {
			low++
			break
		}
		high = low
	}
	for low < high && err == nil {
		mid := low + (high-low)/2
		var ok bool
		if ok, err = w.made(ctx, mid, until); ok {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low, err
}

// find offers the calls, which are in order and in the blocks lowest..end, and returns those of
// which it sees no log, and where to look for later calls.
func (w *watcher) find(ctx context.Context, calls []openCall, lowest uint64, end chain.Block) ([]openCall, uint64,
	error) {
	// A node that is behind does not know the last calls.
	left := slices.DeleteFunc(slices.Clone(calls), func(c openCall) bool { return c.CreatedAt != 0 })
	calls = slices.DeleteFunc(calls, func(c openCall) bool { return c.CreatedAt == 0 })
	for len(calls) > 0 {
		last, err := w.block(ctx, end, min(lowest+w.width-1, end.Number))
		if err == nil && last.Time <= calls[0].CreatedAt && last.Number < end.Number {
			if lowest, err = w.blockOf(ctx, calls[0].CreatedAt, lowest, end); err == nil {
				last, err = w.block(ctx, end, min(lowest+w.width-1, end.Number))
			}
		}
		if err != nil {
			return nil, lowest, err
		}
		n := 1
		for n < min(len(calls), callsAtOnce) && (calls[n].CreatedAt < last.Time || last.Number == end.Number) {
			n++ // the next block may have the same time
		}
		missing, err := w.findIn(ctx, calls[:n], lowest, last)
		if w.narrow(err) {
			continue
		}
		if err != nil {
			return nil, lowest, err
		}
		left = append(left, missing...)
		if calls = calls[n:]; len(calls) > 0 && calls[0].CreatedAt > last.Time {
			lowest = last.Number + 1
		}
	}
	return left, lowest, nil
}

// findIn offers the calls whose logs are in the blocks from..last, and returns the others.
func (w *watcher) findIn(ctx context.Context, calls []openCall, from uint64, last chain.Block) ([]openCall, error) {
	topics := make([]chain.Word, len(calls))
	for i, c := range calls {
		topics[i] = chain.WordOf(c.number)
	}
	logs, err := w.chain.Logs(ctx, w.query(topicsOfCalls, topics), from, last.Number, last.Hash)
	if err != nil {
		return nil, err
	}
	size := 0
	for _, l := range logs {
		c, err := w.parse(l)
		if err != nil {
			return nil, err
		}
		if i := slices.IndexFunc(calls, func(o openCall) bool { return o.number == c.id.Call }); i >= 0 {
			c.time = calls[i].CreatedAt
			calls = slices.Delete(calls, i, i+1)
		}
		size += len(c.inputs)
		if err := w.offer(ctx, c); err != nil {
			return nil, err
		}
	}
	w.fit(size)
	return calls, nil
}

// blockOf returns the number of the first block from lowest on that is not before a time: end, if
// all are.
func (w *watcher) blockOf(ctx context.Context, time, lowest uint64, end chain.Block) (uint64, error) {
	low, high := lowest, end.Number
	// Calls are near each other more often than not.
	for step := w.width; low+step < high; step *= 2 {
		b, err := w.block(ctx, end, low+step)
		if err != nil {
			return 0, err
		}
		if b.Time >= time {
			high = b.Number
			break
		}
		low = b.Number + 1
	}
	for low < high {
		b, err := w.block(ctx, end, low+(high-low)/2)
		if err != nil {
			return 0, err
		}
		if b.Time >= time {
			high = b.Number
		} else {
			low = b.Number + 1
		}
	}
	return low, nil
}

// count learns the number of the next call, after a start or a reorg. A log that was lost before
// the reorg, and is not missed yet, must be missed after it.
func (w *watcher) count(ctx context.Context) error {
	if w.counted {
		return nil
	}
	hint := w.next
	if hint == math.MaxUint64 {
		hint = 0
	}
	n, err := w.callsUntil(ctx, w.read.block(), hint)
	if err != nil {
		return err
	}
	low, err := w.callsUntil(ctx, before(w.read.block()), n)
	if err != nil {
		return err
	}
	w.next, w.counted = min(w.next, n), true
	for i := range w.lost {
		w.lost[i].to = min(w.lost[i].to, w.next)
	}
	// A block that follows may have the same time, so these may be in it.
	w.lost = append(w.lost, span{from: min(low, w.next), to: w.next, since: time.Now()})
	w.lost = slices.DeleteFunc(w.lost, func(s span) bool { return s.from >= s.to })
	return nil
}

// before is a block in whose time, or before, no call was made that a later block of the same time
// may have.
func before(b chain.Block) chain.Block {
	b.Time--
	return b
}

// findLost looks for the calls whose logs a node left out. Now and then it asks the contract
// whether there are any.
func (w *watcher) findLost(ctx context.Context) error {
	if time.Since(w.checked) < lostCheck*w.poll {
		return nil
	}
	w.checked = time.Now()
	missed, err := w.missed(ctx)
	if err != nil {
		return err
	}
	lost := w.lost
	w.lost = nil
	for i, s := range lost {
		left, err := w.findSpan(ctx, s)
		w.lost = append(w.lost, left...)
		if err != nil {
			w.lost = append(w.lost, lost[i:]...)
			return err
		}
	}
	if len(w.lost) == 0 && !missed {
		w.sure = w.read.number
	}
	return nil
}

// missed asks the contract whether there are calls that should have been seen by now. Of calls at
// the time of the last block nobody knows; it looks for them, and reports whether some are not
// found.
func (w *watcher) missed(ctx context.Context) (bool, error) {
	end := w.read.block()
	if more, err := w.made(ctx, w.next, end); !more || err != nil {
		return false, err
	}
	n, err := w.callsUntil(ctx, end, w.next)
	if err != nil {
		return false, err
	}
	sure, err := w.callsUntil(ctx, before(end), w.next)
	if err != nil {
		return false, err
	}
	if sure > w.next {
		w.lose(span{from: w.next, to: sure})
		w.next = sure
	}
	left, err := w.findSpan(ctx, span{from: w.next, to: n, since: time.Now()})
	if err != nil {
		return false, err
	}
	found := n - w.next
	for _, s := range left {
		found -= s.to - s.from
	}
	if found > 0 {
		w.leftOut(w.next, found)
	}
	w.next = n
	if len(left) > 0 {
		w.next = left[0].from
	}
	return len(left) > 0, nil
}

// findSpan returns what is still lost of a span. It tries less often as time goes on.
func (w *watcher) findSpan(ctx context.Context, s span) (left []span, _ error) {
	now := time.Now()
	if now.Before(s.due) {
		return []span{s}, nil
	}
	if now.Sub(s.since) > givenUp {
		w.tell(Event{Kind: EventNodeTrouble, Call: s.from, HasCall: true,
			Reason: fmt.Sprintf("no node has the logs of %d calls, from this one on: they are given up", s.to-s.from)})
		return nil, nil
	}
	end := w.read.block()
	lowest := uint64(0)
	for from := s.from; from < s.to; from += callsAtOnce {
		calls, err := w.calls(ctx, from, min(from+callsAtOnce, s.to))
		if err != nil {
			return nil, err
		}
		var missing []openCall
		if missing, lowest, err = w.find(ctx, calls, lowest, end); err != nil {
			return nil, err
		}
		if dead, err := w.recheck(ctx, end.Number-min(end.Number, denseBlocks), end.Number, nil); err != nil || dead > 0 {
			return []span{s}, err // a node was on another branch
		}
		for _, c := range missing {
			left = append(left, span{c.number, c.number + 1, s.since, now.Add(now.Sub(s.since))})
		}
	}
	return left, nil
}
