package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
)

// blocks is what the watcher needs of a *chain.Chain.
type blocks interface {
	Head(ctx context.Context) (chain.Block, error)
	BlockAt(ctx context.Context, number uint64) (chain.Block, error)
	Blocks(ctx context.Context, numbers []uint64) ([]chain.Block, error)
	Logs(ctx context.Context, q chain.LogQuery, from, to uint64, toHash chain.Word) ([]chain.Log, error)
	LogsOfBlock(ctx context.Context, q chain.LogQuery, hash chain.Word) ([]chain.Log, error)
	CreatedAt(ctx context.Context, service, call uint64, block chain.Block) (uint64, error)
	JobCalls(ctx context.Context, service uint64, calls []uint64) ([]chain.JobCall, error)
}

// cursors is what it needs of a *journal.Journal.
type cursors interface {
	Cursors() []journal.Cursor
	SetCursor(c journal.Cursor) error
}

// The events that are read. All have the service as their first topic.
var (
	topicsOfCalls = []chain.Word{chain.TopicJobSubmitted, chain.TopicJobSubmittedByQuote}
	topicsRead    = append([]chain.Word{
		chain.TopicServiceTerminated, chain.TopicOperatorJoined, chain.TopicOperatorLeft,
		event("ServiceTerminatedForNonPayment(uint64,address,uint64,uint64,uint256,uint256)"),
		event("ServiceExtended(uint64,uint64,uint64,uint256)"),
	}, topicsOfCalls...)
)

func event(signature string) chain.Word { return tangle.Keccak256([]byte(signature)) }

const (
	defaultPoll  = 2 * time.Second
	localPoll    = 250 * time.Millisecond
	longestPause = 30 * time.Second // between attempts, while the nodes fail
	nearHead     = 8                // blocks: so few are read one by one, which is exact
	widest       = 2000             // blocks of a window
	fullWindow   = 4 << 20          // bytes of inputs; after more, windows get narrower
	remembered   = 256              // blocks whose hashes and calls are kept
	denseBlocks  = 64               // of them, those nearest to the head all have a hash
	maxOffered   = 100_000          // calls that are kept
	lostCheck    = 8                // polls, after which the contract is asked whether a log was lost
	cursorEvery  = time.Second
	tellAfter    = 3 // failures in a row
)

// pollOf returns how often the chain is asked for its head.
func pollOf(o *options, chainID uint64) time.Duration {
	switch {
	case o.poll > 0:
		return o.poll
	case isLocal(chainID):
		return localPoll
	}
	return defaultPoll
}

// errFork means that the chain is not the one that was read.
var errFork = errors.New("the chain was replaced")

// watcher finds the calls of one service, offers each to the sink, and implements anchor. It reads
// the blocks in order, each with the right parent. Whatever fails, it tries again.
type watcher struct {
	chain         blocks
	journal       cursors
	sink          sink
	service       uint64
	confirmations uint64
	poll          time.Duration
	tell          func(Event)
	life          interface{ look() } // is told that something changed in the service

	// Of run's goroutine alone.
	begun    bool
	read     point   // of this block and those before, every call was offered or is in lost
	points   []point // of the chain that was read, ascending
	width    uint64  // of the next window
	next     uint64  // the number of the next call; valid if counted
	counted  bool
	lost     []span     // calls whose logs a node left out
	sure     uint64     // block up to which no log is lost
	shorter  time.Time  // since when the chain is shorter than what was read
	bad      journal.ID // the place of a log that is not what it should be
	badTimes int
	checked  time.Time
	cursor   journal.Cursor
	saved    time.Time
	stuck    bool // the last attempt failed

	mu      sync.Mutex
	now     progress
	known   map[journal.ID]bool
	offered []found   // by number
	sound   time.Time // when the chain that was read was last seen to stand
}

// point is a block that was read.
type point struct {
	number       uint64
	hash, parent chain.Word
	time         uint64
}

// found is a call that was offered.
type found struct {
	id     journal.ID
	number uint64
}

// span is calls whose logs a node left out. While there are any, the cursor stays where it is.
type span struct {
	from, to uint64 // call numbers; to is not one of them
	since    time.Time
	due      time.Time // of the next attempt
}

// progress is how far the watcher is.
type progress struct {
	Head, Read uint64 // blocks
	Behind     uint64 // blocks that have the confirmations and are not read
	Ready      bool   // it has caught up once
	Errors     uint64
	Time       uint64 // of the head; Unix seconds
}

// progress returns how far the watcher is.
func (w *watcher) progress() progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// run watches until ctx ends, and returns its error.
func (w *watcher) run(ctx context.Context) error {
	w.known = map[journal.ID]bool{}
	w.width = widest
	defer w.save(true)
	timer := time.NewTimer(0)
	defer timer.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
		err := w.step(ctx)
		pause := w.poll
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			failures++
			w.failed(err, failures)
			pause = max(w.poll, min(longestPause, w.poll<<min(failures-1, 16)))
			pause += rand.N(pause/4 + 1)
		case failures > 0:
			if failures >= tellAfter {
				w.tell(Event{Kind: EventNodeBack, Block: w.read.number})
			}
			failures = 0
		}
		timer.Reset(pause)
	}
}

func (w *watcher) failed(err error, failures int) {
	w.mu.Lock()
	w.now.Errors++
	w.mu.Unlock()
	if failures == tellAfter {
		w.tell(Event{Kind: EventNodeTrouble, Block: w.read.number, Err: err,
			Reason: "the chain cannot be read; the runner tries again"})
	}
}

// step reads up to the head.
func (w *watcher) step(ctx context.Context) error {
	head, err := w.look(ctx)
	if err != nil || head.Number < w.confirmations {
		return err
	}
	target := head.Number - w.confirmations
	if !w.begun {
		if err := w.begin(ctx, head, target); err != nil {
			return err
		}
	}
	if p := w.pointAt(head.Number); p != nil && p.hash != head.Hash {
		return w.rewind(ctx, head.Number, head)
	}
	if err := w.shrunk(ctx, head); err != nil {
		return err
	}
	if err := w.count(ctx); errors.Is(err, chain.ErrNoBlock) {
		if b, err := w.block(ctx, head, w.read.number); err == nil && b.Hash != w.read.hash {
			return w.rewind(ctx, b.Number, head)
		}
		return err
	} else if err != nil {
		return err
	}
	for w.read.number < target {
		err := w.forward(ctx, head, target)
		if errors.Is(err, errFork) {
			return w.rewind(ctx, w.read.number, head)
		}
		if err != nil {
			return err
		}
		if err := w.findLost(ctx); err != nil {
			return err
		}
		w.save(false)
	}
	if err := w.densify(ctx, head); err != nil {
		return err
	}
	if err := w.findLost(ctx); err != nil {
		return err
	}
	w.save(false)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now.Ready = w.now.Ready || w.read.number >= target
	w.sound = time.Now()
	return nil
}

// look asks for the head.
func (w *watcher) look(ctx context.Context) (chain.Block, error) {
	head, err := w.chain.Head(ctx)
	if err != nil {
		return head, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now.Head, w.now.Time = head.Number, head.Time
	w.measure()
	return head, nil
}

// measure sets how far behind the watcher is. The lock is held.
func (w *watcher) measure() {
	w.now.Behind = 0
	if settled := w.now.Head - min(w.confirmations, w.now.Head); settled > w.now.Read {
		w.now.Behind = settled - w.now.Read
	}
}

func (w *watcher) query(topics ...[]chain.Word) chain.LogQuery {
	return chain.LogQuery{Topics: append([][]chain.Word{topics[0], {chain.WordOf(w.service)}}, topics[1:]...)}
}

// forward reads the next block or window.
func (w *watcher) forward(ctx context.Context, head chain.Block, target uint64) error {
	from := w.read.number + 1
	first, err := w.block(ctx, head, from)
	if err != nil {
		return err
	}
	if first.Parent != w.read.hash {
		return errFork
	}
	end := first
	var logs []chain.Log
	if target-w.read.number <= nearHead {
		logs, err = w.chain.LogsOfBlock(ctx, w.query(topicsRead), first.Hash)
	} else {
		if end, err = w.block(ctx, head, min(w.read.number+w.width, target)); err != nil {
			return err
		}
		logs, err = w.chain.Logs(ctx, w.query(topicsRead), from, end.Number, end.Hash)
		if w.narrow(err) {
			return nil
		}
	}
	if err != nil {
		return err
	}
	if err := w.take(ctx, logs, first, end); err != nil {
		return err
	}
	w.advance(pointOf(end))
	return nil
}

func (w *watcher) block(ctx context.Context, head chain.Block, number uint64) (chain.Block, error) {
	if number == head.Number {
		return head, nil
	}
	return w.chain.BlockAt(ctx, number)
}

func pointOf(b chain.Block) point { return point{b.Number, b.Hash, b.Parent, b.Time} }

func (p point) block() chain.Block {
	return chain.Block{Number: p.number, Hash: p.hash, Parent: p.parent, Time: p.time}
}

// take offers the calls of logs that are all there is in the blocks first..end.
func (w *watcher) take(ctx context.Context, logs []chain.Log, first, end chain.Block) error {
	size, changed := 0, false
	var calls []work
	var lost []span
	next := w.next // kept only if all goes well: other logs may be lost at the next attempt
	for _, l := range logs {
		if !slices.Contains(topicsOfCalls, l.Topics[0]) {
			changed = true
			continue
		}
		c, err := w.parse(l)
		if err == nil {
			err = w.gap(ctx, c, next, end)
		}
		switch {
		case err != nil && !w.suspect(l, err):
			return err
		case err != nil:
			continue
		case l.BlockHash == first.Hash:
			c.time = first.Time
		case l.BlockHash == end.Hash:
			c.time = end.Time
		}
		if c.id.Call > next {
			lost = append(lost, span{from: next, to: c.id.Call})
		}
		next = max(next, c.id.Call+1)
		size += len(c.inputs)
		calls = append(calls, c)
	}
	for i, c := range calls {
		calls[i] = work{} // so that its inputs are not kept here while others wait for room
		if err := w.offer(ctx, c); err != nil {
			return err
		}
	}
	if _, err := w.recheck(ctx, first.Number, end.Number, logs); err != nil {
		return err
	}
	w.next = next
	for _, s := range lost {
		w.lose(s)
		w.checked = time.Time{}
	}
	if changed {
		w.life.look()
	}
	w.fit(size)
	return nil
}

// narrow makes the next window narrower and reports true, if the logs of one are too many.
func (w *watcher) narrow(err error) bool {
	if !errors.Is(err, rpc.ErrTooLarge) || w.width == 1 {
		return false
	}
	w.width /= 2
	return true
}

// fit makes the windows narrower or wider, after one with inputs of so many bytes.
func (w *watcher) fit(size int) {
	switch {
	case size > fullWindow:
		w.width = max(w.width/2, 1)
	case size < fullWindow/4:
		w.width = min(w.width*2, widest)
	}
}

// suspect reports whether a log was not what it should be so often that it is left out.
func (w *watcher) suspect(l chain.Log, err error) bool {
	place := journal.ID{Block: l.BlockHash, Log: l.Index}
	if w.bad != place {
		w.bad, w.badTimes = place, 0
	}
	if w.badTimes++; w.badTimes <= tellAfter {
		return false
	}
	w.tell(Event{Kind: EventNodeTrouble, Block: l.Block, Err: err, Reason: "a log is left out"})
	return true
}

// parse makes a call of a log.
func (w *watcher) parse(l chain.Log) (work, error) {
	s, err := chain.ParseSubmitted(l)
	if err == nil && s.Service != w.service {
		err = fmt.Errorf("a call of service %d, and %d was asked for", s.Service, w.service)
	}
	if err != nil {
		return work{}, fmt.Errorf("log %d of block %d: %w", l.Index, l.Block, err)
	}
	return work{
		id:     journal.ID{Call: s.Call, Block: l.BlockHash, Log: l.Index},
		number: l.Block, job: uint32(s.Job), caller: s.Caller, quoted: s.Quoted, inputs: s.Inputs,
	}, nil
}

// gap makes sure of a call whose number is not the next: numbers are consecutive, so that the calls
// in between are lost, or there is no such call.
func (w *watcher) gap(ctx context.Context, c work, next uint64, end chain.Block) error {
	if c.id.Call <= next {
		return nil
	}
	made, err := w.made(ctx, c.id.Call, end)
	if err == nil && !made {
		err = fmt.Errorf("a node has a log of call %d in block %d, and none has the call", c.id.Call, c.number)
	}
	return err
}

// lose notes calls whose logs were left out.
func (w *watcher) lose(s span) {
	s.since = time.Now()
	w.lost = append(w.lost, s)
	w.leftOut(s.from, s.to-s.from)
}

func (w *watcher) leftOut(call, n uint64) {
	w.tell(Event{Kind: EventNodeTrouble, Call: call, HasCall: true, Block: w.read.number,
		Reason: fmt.Sprintf("a node left out the logs of %d calls; they are looked for", n)})
}

// offer hands a call to the sink, once. While there is no room, it keeps an eye on the head.
func (w *watcher) offer(ctx context.Context, c work) error {
	w.mu.Lock()
	known := w.known[c.id]
	w.mu.Unlock()
	if known {
		return nil
	}
	taken := make(chan error, 1)
	go func() { taken <- w.sink.offer(ctx, c) }()
	tick := time.NewTicker(5 * w.poll)
	defer tick.Stop()
	for {
		select {
		case err := <-taken:
			if err != nil {
				return err
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.known[c.id] = true
			w.offered = slices.Insert(w.offered, w.from(c.number+1), found{c.id, c.number})
			return nil
		case <-tick.C:
			_, _ = w.look(ctx) // only to show progress; the next step asks again
		}
	}
}

// advance makes a block the last one that was read.
func (w *watcher) advance(p point) {
	w.read = p
	w.remember(p)
	low := p.number - min(p.number, remembered)
	// Of those before, enough are kept that the cursor can follow the calls.
	apart := max(remembered, (p.number-min(p.number, w.cursor.Block))/1000)
	next := w.cursor.Block
	w.points = slices.DeleteFunc(w.points, func(q point) bool {
		if q.number >= low {
			return false
		}
		drop := q.number < next
		if !drop {
			next = q.number + apart
		}
		return drop
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	drop := max(0, len(w.offered)-maxOffered)
	for drop < len(w.offered) && w.offered[drop].number < low {
		drop++
	}
	for _, f := range w.offered[:drop] {
		delete(w.known, f.id)
	}
	w.offered = slices.Delete(w.offered, 0, drop)
	w.now.Read = p.number
	w.measure()
}

// remember adds a point, or replaces the one with its number.
func (w *watcher) remember(p point) {
	i, there := w.search(p.number)
	if !there {
		w.points = slices.Insert(w.points, i, p)
	} else {
		w.points[i] = p
	}
}

func (w *watcher) search(number uint64) (int, bool) {
	return slices.BinarySearchFunc(w.points, number, func(p point, n uint64) int { return cmp.Compare(p.number, n) })
}

func (w *watcher) pointAt(number uint64) *point {
	if i, ok := w.search(number); ok {
		return &w.points[i]
	}
	return nil
}

// densify learns the hashes of the last blocks, so that a branch that is shorter than what was read
// is noticed. Where confirmations are waited for, no such branch matters.
func (w *watcher) densify(ctx context.Context, head chain.Block) error {
	if w.confirmations > 0 || head.Number < w.read.number {
		return nil
	}
	var missing []uint64
	for n := w.read.number - min(w.read.number, denseBlocks); n < w.read.number; n++ {
		if w.pointAt(n) == nil {
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	more, err := w.chain.Blocks(ctx, missing)
	if err != nil {
		return err
	}
	for _, b := range slices.Backward(more) {
		after := w.pointAt(b.Number + 1)
		if after == nil || after.parent != b.Hash {
			return nil // the next step sees why
		}
		w.remember(pointOf(b))
	}
	return nil
}

// save moves the cursor: not often, or now.
func (w *watcher) save(now bool) {
	if !w.begun || !now && time.Since(w.saved) < cursorEvery {
		return
	}
	w.saved = time.Now()
	limit := min(w.read.number, w.sure)
	if block, ok := w.sink.oldest(); ok {
		limit = min(limit, block-min(block, 1))
	}
	i, there := w.search(limit)
	if !there {
		i--
	}
	if i < 0 {
		return // far behind: an older cursor stays
	}
	c := journal.Cursor{Block: w.points[i].number, Hash: w.points[i].hash}
	if c == w.cursor || c.Block < w.cursor.Block && limit >= w.cursor.Block {
		return
	}
	if err := w.journal.SetCursor(c); err != nil {
		if !w.stuck {
			w.tell(Event{Kind: EventWaiting, Block: c.Block, Err: err, Reason: "the journal cannot be written"})
		}
		w.stuck = true
		return
	}
	w.cursor, w.stuck = c, false
}

// rewind goes back to the last block that the chain still has, after a block of this number turned
// out to be another one.
func (w *watcher) rewind(ctx context.Context, number uint64, head chain.Block) error {
	w.mu.Lock()
	w.sound = time.Time{}
	w.mu.Unlock()
	all := w.candidates(number)
	if len(all) == 0 || all[len(all)-1].number < number {
		return fmt.Errorf("block %d is another one, and it was not read", number)
	}
	// The chain has all blocks up to number, so a node that lacks one is behind: no news of a fork.
	var fork chain.Block
	low, high := 0, len(all)
	for mid := high - 1; low < high; mid = low + (high-low)/2 {
		b, err := w.chain.BlockAt(ctx, all[mid].number)
		switch {
		case err != nil:
			return err
		case b.Hash != all[mid].hash:
			high = mid
		case mid == len(all)-1:
			return fmt.Errorf("the nodes disagree about block %d", number)
		default:
			low, fork = mid+1, b
		}
	}
	gone, err := w.gone(ctx, fork.Number, head)
	if err != nil {
		return err
	}
	different := all[high].number // between here and the fork, nothing was remembered
	w.tell(Event{Kind: EventReorg, Block: different, Reason: fmt.Sprintf("up to %d blocks were replaced, with %d calls",
		w.read.number-min(w.read.number, fork.Number), len(gone))})
	w.drop(gone)
	if low == 0 {
		w.begun = false
		w.sink.reopened(0)
		return nil
	}
	w.back(fork)
	w.sink.reopened(fork.Number + 1)
	return nil
}

// candidates returns all blocks up to a number whose hashes are known, ascending.
func (w *watcher) candidates(number uint64) []point {
	var all []point
	for _, c := range w.journal.Cursors() {
		if c.Block <= number && (len(w.points) == 0 || c.Block < w.points[0].number) {
			all = append(all, point{number: c.Block, hash: c.Hash})
		}
	}
	slices.Reverse(all)
	for _, p := range w.points {
		if p.number <= number {
			all = append(all, p)
		}
	}
	return all
}

// gone returns the calls after a block that do not stand any more. Those above the head do not,
// because they were on the branch that was replaced.
func (w *watcher) gone(ctx context.Context, after uint64, head chain.Block) (gone []found, err error) {
	w.mu.Lock()
	suspects := slices.Clone(w.offered[w.from(after+1):])
	w.mu.Unlock()
	return w.dead(ctx, suspects, head.Number)
}

// dead returns those of the calls, which are in order, whose blocks are others now, or above a
// number.
func (w *watcher) dead(ctx context.Context, calls []found, highest uint64) (dead []found, err error) {
	var numbers []uint64
	for _, f := range calls {
		if f.number <= highest && (len(numbers) == 0 || f.number != numbers[len(numbers)-1]) {
			numbers = append(numbers, f.number)
		}
	}
	hashes := map[uint64]chain.Word{}
	if len(numbers) > 0 {
		blocks, err := w.chain.Blocks(ctx, numbers)
		if err != nil {
			return nil, err
		}
		for _, b := range blocks {
			hashes[b.Number] = b.Hash
		}
	}
	for _, f := range calls {
		if hashes[f.number] != f.id.Block {
			dead = append(dead, f)
		}
	}
	return dead, nil
}

// drop takes calls back.
func (w *watcher) drop(calls []found) {
	w.mu.Lock()
	for _, f := range calls {
		delete(w.known, f.id)
	}
	w.offered = slices.DeleteFunc(w.offered, func(f found) bool { return !w.known[f.id] })
	w.mu.Unlock()
	for _, f := range calls {
		w.sink.orphaned(f.id)
	}
}

// back makes an earlier block the last one that was read.
func (w *watcher) back(b chain.Block) {
	w.counted = false
	w.sure = min(w.sure, b.Number)
	w.points = slices.DeleteFunc(w.points, func(p point) bool { return p.number > b.Number })
	w.advance(pointOf(b))
}

// shrunk goes back if the chain stays shorter than what was read, at a number of which no hash is
// known. Either all nodes are behind, or there is another branch: the blocks are read again, and
// what was taken back is found out by then.
func (w *watcher) shrunk(ctx context.Context, head chain.Block) error {
	if head.Number >= w.read.number || w.pointAt(head.Number) != nil {
		w.shorter = time.Time{}
		return nil
	}
	if w.shorter.IsZero() {
		w.shorter = time.Now()
	}
	if time.Since(w.shorter) < lostCheck*w.poll {
		return nil
	}
	w.shorter = time.Time{}
	all := w.candidates(head.Number)
	if len(all) == 0 {
		w.begun = false
		return nil
	}
	last := all[len(all)-1]
	b, err := w.chain.BlockAt(ctx, last.number)
	if err != nil {
		return err
	}
	if b.Hash != last.hash {
		return w.rewind(ctx, last.number, head)
	}
	w.back(b)
	return nil
}

// recheck takes back the calls that were offered as in these blocks, have none of the logs and are
// not there. It returns how many.
func (w *watcher) recheck(ctx context.Context, first, end uint64, logs []chain.Log) (int, error) {
	there := map[journal.ID]bool{}
	for _, l := range logs {
		there[journal.ID{Block: l.BlockHash, Log: l.Index}] = true
	}
	w.mu.Lock()
	suspects := slices.Clone(w.offered[w.from(first):w.from(end+1)])
	w.mu.Unlock()
	suspects = slices.DeleteFunc(suspects, func(f found) bool {
		return there[journal.ID{Block: f.id.Block, Log: f.id.Log}]
	})
	dead, err := w.dead(ctx, suspects, end)
	if err == nil && len(dead) > 0 {
		w.drop(dead)
	}
	return len(dead), err
}

// from returns the index of the first offered call of a block or a later one. The lock is held.
func (w *watcher) from(number uint64) int {
	at, _ := slices.BinarySearchFunc(w.offered, number, func(f found, n uint64) int { return cmp.Compare(f.number, n) })
	return at
}

// stands implements anchor. It asks no node if the watcher has just seen it.
func (w *watcher) stands(ctx context.Context, id journal.ID, number uint64) (bool, error) {
	w.mu.Lock()
	seen := w.known[id] && number <= w.now.Read && time.Since(w.sound) < 2*w.poll+time.Second
	w.mu.Unlock()
	if seen {
		return true, nil
	}
	for range 2 { // one node may be on a branch of its own
		b, err := w.chain.BlockAt(ctx, number)
		if err != nil {
			return false, err
		}
		if b.Hash == id.Block {
			return true, nil
		}
	}
	return false, nil
}

// inputsOf implements anchor.
func (w *watcher) inputsOf(ctx context.Context, id journal.ID, number uint64) (work, error) {
	logs, err := w.chain.LogsOfBlock(ctx, w.query(topicsOfCalls, []chain.Word{chain.WordOf(id.Call)}), id.Block)
	if err != nil {
		return work{}, err
	}
	for _, l := range logs {
		if l.Index != id.Log {
			continue
		}
		c, err := w.parse(l)
		if err == nil && (c.id != id || c.number != number) {
			err = fmt.Errorf("log %d of block %d is of another call", l.Index, l.Block)
		}
		return c, err
	}
	return work{}, fmt.Errorf("a node left out the log of call %d in block %d", id.Call, number)
}
