package runner

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
)

// blocks is what the watcher needs of a *chain.Chain.
type blocks interface {
	Head(ctx context.Context) (chain.Block, error)
	BlockAt(ctx context.Context, number uint64) (chain.Block, error)
	Logs(ctx context.Context, q chain.LogQuery, from, to uint64, toHash chain.Word) ([]chain.Log, error)
	LogsOfBlock(ctx context.Context, q chain.LogQuery, hash chain.Word) ([]chain.Log, error)
	JobCall(ctx context.Context, service, call uint64) (chain.JobCall, error)
	JobCalls(ctx context.Context, service uint64, calls []uint64) ([]chain.JobCall, error)
}

// cursors is what it needs of a *journal.Journal.
type cursors interface {
	Cursors() []journal.Cursor
	SetCursor(c journal.Cursor) error
}

// The events that are read. All have the service as their first topic.
var (
	topicSubmitted = event("JobSubmitted(uint64,uint64,uint8,address,bytes)")
	topicQuoted    = event("JobSubmittedFromQuote(uint64,uint64,uint8,address,address[],uint256,bytes)")
	topicsOfCalls  = []chain.Word{topicSubmitted, topicQuoted}
	topicsRead     = append([]chain.Word{
		event("ServiceTerminated(uint64)"),
		event("ServiceTerminatedForNonPayment(uint64,address,uint64,uint64,uint256,uint256)"),
		event("ServiceExtended(uint64,uint64,uint64,uint256)"),
		event("OperatorJoinedService(uint64,address,uint16)"),
		event("OperatorLeftService(uint64,address)"),
	}, topicsOfCalls...)
)

func event(signature string) chain.Word { return tangle.Keccak256([]byte(signature)) }

func topicOf(n uint64) (w chain.Word) {
	binary.BigEndian.PutUint64(w[len(w)-8:], n)
	return w
}

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
	lostCheck    = 10 * time.Second // how often the contract is asked whether a log was lost
	cursorEvery  = time.Second
	tellAfter    = 3 // failures in a row
)

// pollOf returns how often the chain is asked for its head.
func pollOf(o *options, chainID uint64) time.Duration {
	switch {
	case o.poll > 0:
		return o.poll
	case chainID == 31337 || chainID == 1337:
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
	last     uint64     // block of the last call that was seen, or where reading began
	lost     []span     // calls whose logs a node left out
	bad      journal.ID // the place of a log that is not what it should be
	badTimes int
	checked  time.Time
	cursor   journal.Cursor
	saved    time.Time

	mu      sync.Mutex
	now     progress
	known   map[journal.ID]bool
	offered []found   // by number
	sound   time.Time // when the chain that was read was last seen to stand
}

// point is a block that was read.
type point struct {
	number       uint64
	hash, parent chain.Word // parent is zero if it is not known
	time         uint64     // 0: not known
}

// found is a call that was offered.
type found struct {
	id     journal.ID
	number uint64
}

// span is calls whose logs a node left out. The cursor stays below floor.
type span struct {
	from, to uint64 // call numbers; to is not one of them
	floor    uint64
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
		return w.rewind(ctx, head.Number)
	}
	if err := w.count(ctx); err != nil {
		return err
	}
	for w.read.number < target {
		err := w.forward(ctx, head, target)
		if errors.Is(err, errFork) {
			return w.rewind(ctx, w.read.number)
		}
		if err != nil {
			return err
		}
		w.save(false)
	}
	if err := w.densify(ctx); err != nil {
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
	return chain.LogQuery{Topics: append([][]chain.Word{topics[0], {topicOf(w.service)}}, topics[1:]...)}
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
	b, err := w.chain.BlockAt(ctx, number)
	if err == nil && b.Number != number {
		err = fmt.Errorf("a node answers with block %d for block %d", b.Number, number)
	}
	return b, err
}

func pointOf(b chain.Block) point { return point{b.Number, b.Hash, b.Parent, b.Time} }

// take offers the calls of logs that are all there is in the blocks first..end.
func (w *watcher) take(ctx context.Context, logs []chain.Log, first, end chain.Block) error {
	size, changed := 0, false
	var calls []work
	for _, l := range logs {
		if !slices.Contains(topicsOfCalls, l.Topics[0]) {
			changed = true
			continue
		}
		c, err := w.parse(l)
		if err == nil {
			err = w.gap(ctx, c)
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
		size += len(c.inputs)
		calls = append(calls, c)
	}
	for i, c := range calls {
		calls[i] = work{} // so that its inputs are not kept here while others wait for room
		if err := w.offer(ctx, c); err != nil {
			return err
		}
	}
	if changed {
		w.life.look()
	}
	w.fit(size)
	return nil
}

// fit makes the windows narrower or wider, after one with inputs of so many bytes.
func (w *watcher) fit(size int) {
	switch {
	case size > fullWindow:
		w.width = max(w.width/2, nearHead)
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

// gap notes the calls between the last one and this as lost: numbers are consecutive.
func (w *watcher) gap(ctx context.Context, c work) error {
	if c.id.Call > w.next {
		there, err := w.chain.JobCall(ctx, w.service, c.id.Call)
		if err != nil {
			return err
		}
		if there.CreatedAt == 0 {
			return fmt.Errorf("a node has a log of call %d in block %d, and none has the call", c.id.Call, c.number)
		}
		w.lose(w.next, c.id.Call, w.last)
	}
	w.next = max(w.next, c.id.Call+1)
	w.last = max(w.last, c.number)
	return nil
}

func (w *watcher) lose(from, to, floor uint64) {
	w.lost = append(w.lost, span{from, to, floor})
	w.checked = time.Time{}
	w.tell(Event{Kind: EventNodeTrouble, Call: from, HasCall: true, Block: w.read.number,
		Reason: fmt.Sprintf("a node left out the logs of %d calls; they are looked for", to-from)})
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
			at, _ := slices.BinarySearchFunc(w.offered, c.number+1, func(f found, n uint64) int { return cmp.Compare(f.number, n) })
			w.offered = slices.Insert(w.offered, at, found{c.id, c.number})
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

// remember adds a point, or what it says more of a block than a known one.
func (w *watcher) remember(p point) {
	i, there := w.search(p.number)
	if !there {
		w.points = slices.Insert(w.points, i, p)
	} else if !p.parent.IsZero() {
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
func (w *watcher) densify(ctx context.Context) error {
	if w.confirmations > 0 {
		return nil
	}
	after := w.read
	for range min(denseBlocks, w.read.number) {
		p := w.pointAt(after.number - 1)
		if p == nil || p.parent.IsZero() {
			b, err := w.chain.BlockAt(ctx, after.number-1)
			if err != nil {
				return err
			}
			if b.Number != after.number-1 || b.Hash != after.parent {
				return nil // the next step sees why
			}
			w.remember(pointOf(b))
			p = w.pointAt(b.Number)
		}
		after = *p
	}
	return nil
}

// save moves the cursor: not often, or now.
func (w *watcher) save(now bool) {
	if !w.begun || !now && time.Since(w.saved) < cursorEvery {
		return
	}
	w.saved = time.Now()
	limit := w.read.number
	below := func(number uint64) { limit = min(limit, number-min(number, 1)) }
	if block, ok := w.sink.oldest(); ok {
		below(block)
	}
	for _, s := range w.lost {
		below(s.floor)
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
		w.tell(Event{Kind: EventWaiting, Block: c.Block, Err: err, Reason: "the journal cannot be written"})
		return
	}
	w.cursor = c
}

// rewind goes back to the last block that the chain still has, after a block of this number turned
// out to be another one.
func (w *watcher) rewind(ctx context.Context, number uint64) error {
	w.mu.Lock()
	w.sound = time.Time{}
	w.mu.Unlock()
	all := w.candidates()
	// The chain has all blocks up to number, so it is no fork if a node lacks one.
	low, high := 0, len(all)
	for high > 0 && all[high-1].number > number {
		high--
	}
	if high == 0 || all[high-1].number < number {
		return fmt.Errorf("the nodes disagree about block %d", number)
	}
	different := all[high-1].number
	var fork chain.Block
	for asked := false; low < high; asked = true {
		mid := low + (high-low)/2
		if !asked {
			mid = high - 1 // that nodes disagree is seen at once
		}
		b, err := w.chain.BlockAt(ctx, all[mid].number)
		switch {
		case err != nil:
			return err
		case b.Hash == all[mid].hash && !asked:
			return fmt.Errorf("the nodes disagree about block %d", number)
		case b.Hash == all[mid].hash:
			low, fork = mid+1, b
		default:
			high, different = mid, all[mid].number
		}
	}
	gone := w.cut(different)
	depth := w.read.number - min(w.read.number, different-min(different, 1))
	w.tell(Event{Kind: EventReorg, Block: different, Reason: fmt.Sprintf("%d blocks were replaced, with %d calls", depth, len(gone))})
	for _, id := range gone {
		w.sink.orphaned(id)
	}
	w.counted = false
	if low == 0 { // nothing that was remembered is there
		w.begun, w.points = false, nil
		w.sink.reopened(different)
		return nil
	}
	w.points = slices.DeleteFunc(w.points, func(p point) bool { return p.number > fork.Number })
	w.advance(pointOf(fork))
	w.last = min(w.last, fork.Number)
	w.sink.reopened(fork.Number + 1)
	return nil
}

// candidates returns all blocks whose hashes are known, ascending.
func (w *watcher) candidates() []point {
	all := slices.Clone(w.points)
	w.mu.Lock()
	for _, f := range w.offered {
		all = append(all, point{number: f.number, hash: f.id.Block})
	}
	w.mu.Unlock()
	for _, c := range w.journal.Cursors() {
		if len(w.points) == 0 || c.Block < w.points[0].number {
			all = append(all, point{number: c.Block, hash: c.Hash})
		}
	}
	slices.SortStableFunc(all, func(a, b point) int { return cmp.Compare(a.number, b.number) })
	return slices.CompactFunc(all, func(a, b point) bool { return a.number == b.number })
}

// cut forgets the calls of this block and those after, and returns them.
func (w *watcher) cut(number uint64) (gone []journal.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at, _ := slices.BinarySearchFunc(w.offered, number, func(f found, n uint64) int { return cmp.Compare(f.number, n) })
	for _, f := range w.offered[at:] {
		gone = append(gone, f.id)
		delete(w.known, f.id)
	}
	w.offered = w.offered[:at]
	return gone
}

// stands implements anchor. It asks no node if the watcher has just seen it.
func (w *watcher) stands(ctx context.Context, id journal.ID, number uint64) (bool, error) {
	w.mu.Lock()
	seen := w.known[id] && time.Since(w.sound) < 2*w.poll+time.Second
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
	logs, err := w.chain.LogsOfBlock(ctx, w.query(topicsOfCalls, []chain.Word{topicOf(id.Call)}), id.Block)
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
