package runner

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/rpc"
	"github.com/tangle-network/blueprint-serverless/internal/tangle"
	"github.com/tangle-network/blueprint-serverless/runner/internal/chain"
	"github.com/tangle-network/blueprint-serverless/runner/internal/journal"
)

// branch is a chain of blocks with calls, as a watcher reads one. Its nodes fail as a test says.
type branch struct {
	mu        sync.Mutex
	blocks    []branchBlock // by number
	made      uint64        // blocks ever
	old       []branchBlock // what the last reorg replaced, from its fork on
	oldFrom   int
	completed map[uint64]bool
	perSecond uint64                              // blocks with the same time
	tooLarge  int                                 // logs of one answer; 0: no limit
	requests  int                                 // for tests that count
	fault     func(method string, n uint64) fault // may be nil
}

type branchBlock struct {
	chain.Block
	logs  []chain.Log
	calls int // in this block and those before
}

// fault is what is wrong with one answer.
type fault struct {
	err  error
	lag  int  // blocks that the node does not have yet
	lose bool // logs
	old  bool // the node is on the branch that a reorg replaced
}

var errNode = errors.New("node n: no answer")

func newBranch() *branch {
	b := &branch{completed: map[uint64]bool{}}
	b.mine()
	return b
}

// mine adds a block with calls, which have these inputs.
func (b *branch) mine(inputs ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add(inputs...)
}

func (b *branch) add(inputs ...string) {
	b.made++
	next := branchBlock{Block: chain.Block{Number: uint64(len(b.blocks)), Time: 1000}}
	binary.BigEndian.PutUint64(next.Hash[:], b.made)
	next.Hash[31] = 1
	if len(b.blocks) > 0 {
		last := b.blocks[len(b.blocks)-1]
		next.Parent, next.Time, next.calls = last.Hash, last.Time, last.calls
		if b.perSecond < 2 || next.Number%b.perSecond == 0 {
			next.Time += 2
		}
	}
	for i, in := range inputs {
		next.logs = append(next.logs, submitted(uint64(next.calls), next.Block, uint32(i*2), in))
		next.calls++
	}
	b.blocks = append(b.blocks, next)
}

// submitted is the log of a call.
func submitted(call uint64, block chain.Block, index uint32, inputs string) chain.Log {
	data := make([]byte, 4*32, 5*32+len(inputs))
	data[31] = byte(call % 3) // job
	copy(data[32+12:], "a caller is 20 bytes")
	data[2*32+31] = 0x60
	binary.BigEndian.PutUint64(data[3*32+24:], uint64(len(inputs)))
	data = append(data, inputs...)
	data = append(data, make([]byte, (32-len(inputs)%32)%32)...)
	return chain.Log{Topics: []chain.Word{chain.TopicJobSubmitted, chain.WordOf(service), chain.WordOf(call)}, Data: data,
		Block: block.Number, BlockHash: block.Hash, Index: index}
}

// event adds a block with another event.
func (b *branch) event(topics ...chain.Word) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.add()
	last := &b.blocks[len(b.blocks)-1]
	last.logs = append(last.logs, chain.Log{Topics: topics, Block: last.Number, BlockHash: last.Hash})
}

// reorg replaces the last blocks by others, each with so many calls.
func (b *branch) reorg(depth int, calls ...int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.oldFrom = max(0, len(b.blocks)-depth)
	b.old = slices.Clone(b.blocks[b.oldFrom:])
	b.blocks = b.blocks[:b.oldFrom]
	if b.oldFrom == 0 {
		b.add()
	}
	for _, n := range calls {
		b.add(slices.Repeat([]string{fmt.Sprint("reorg ", b.made)}, n)...)
	}
}

// standing returns the identities of all calls that stand.
func (b *branch) standing() (ids []journal.ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, block := range b.blocks {
		for _, l := range block.logs {
			if l.Topics[0] == chain.TopicJobSubmitted {
				ids = append(ids, journal.ID{Call: callNumber(l), Block: l.BlockHash, Log: l.Index})
			}
		}
	}
	return ids
}

func callNumber(l chain.Log) uint64 { return binary.BigEndian.Uint64(l.Topics[2][24:]) }

// view returns the blocks of the node that answers. The lock is held.
func (b *branch) view(method string, n uint64) ([]branchBlock, fault) {
	b.requests++
	if b.fault == nil {
		return b.blocks, fault{}
	}
	f := b.fault(method, n)
	blocks := b.blocks
	if f.old && len(b.old) > 0 {
		blocks = slices.Concat(b.blocks[:b.oldFrom], b.old)
	}
	return blocks[:max(1, len(blocks)-f.lag)], f
}

func (b *branch) Head(context.Context) (chain.Block, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	blocks, f := b.view("Head", 0)
	return blocks[len(blocks)-1].Block, f.err
}

func (b *branch) BlockAt(ctx context.Context, n uint64) (chain.Block, error) {
	all, err := b.Blocks(ctx, []uint64{n})
	if err != nil {
		return chain.Block{}, err
	}
	return all[0], nil
}

func (b *branch) Blocks(_ context.Context, numbers []uint64) (all []chain.Block, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	blocks, f := b.view("Blocks", numbers[0])
	for _, n := range numbers {
		if f.err == nil && n >= uint64(len(blocks)) {
			f.err = chain.ErrNoBlock
		}
		if f.err != nil {
			return nil, f.err
		}
		all = append(all, blocks[n].Block)
	}
	return all, nil
}

func (b *branch) Logs(_ context.Context, q chain.LogQuery, from, to uint64, hash chain.Word) ([]chain.Log, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	blocks, f := b.view("Logs", from)
	if f.err != nil {
		return nil, f.err
	}
	if to >= uint64(len(blocks)) || !hash.IsZero() && blocks[to].Hash != hash {
		return nil, chain.ErrNoBlock
	}
	logs := selected(q, f, blocks[from:to+1])
	if b.tooLarge > 0 && len(logs) > b.tooLarge {
		return nil, &rpc.Error{Kind: rpc.ErrTooLarge, Err: errNode}
	}
	return logs, nil
}

func (b *branch) LogsOfBlock(_ context.Context, q chain.LogQuery, hash chain.Word) ([]chain.Log, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	blocks, f := b.view("LogsOfBlock", 0)
	if f.err != nil {
		return nil, f.err
	}
	for i, block := range blocks {
		if block.Hash == hash {
			return selected(q, f, blocks[i:i+1]), nil
		}
	}
	return nil, chain.ErrNoBlock
}

func selected(q chain.LogQuery, f fault, blocks []branchBlock) (logs []chain.Log) {
	for _, block := range blocks {
		for _, l := range block.logs {
			if !f.lose && matches(q, l) {
				logs = append(logs, l)
			}
		}
	}
	return logs
}

func matches(q chain.LogQuery, l chain.Log) bool {
	for i, any := range q.Topics {
		if len(any) > 0 && (i >= len(l.Topics) || !slices.Contains(any, l.Topics[i])) {
			return false
		}
	}
	return true
}

func (b *branch) CreatedAt(_ context.Context, _, call uint64, block chain.Block) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	blocks, f := b.view("CreatedAt", call)
	if f.err == nil && (block.Number >= uint64(len(blocks)) || blocks[block.Number].Hash != block.Hash) {
		f.err = chain.ErrNoBlock
	}
	return createdAt(blocks, call), f.err
}

// createdAt returns the time of the block with a call, 0 if there is none.
func createdAt(blocks []branchBlock, call uint64) uint64 {
	i, _ := slices.BinarySearchFunc(blocks, call, func(b branchBlock, n uint64) int {
		return cmp.Compare(uint64(b.calls), n+1)
	})
	if call > 1<<32 || i == len(blocks) {
		return 0
	}
	return blocks[i].Time
}

func (b *branch) JobCalls(_ context.Context, _ uint64, numbers []uint64) (all []chain.JobCall, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	blocks, f := b.view("JobCalls", numbers[0])
	if f.err != nil {
		return nil, f.err
	}
	for _, n := range numbers {
		all = append(all, chain.JobCall{CreatedAt: createdAt(blocks, n), Completed: b.completed[n]})
	}
	return all, nil
}

// basin is a sink and a journal's cursors. It notes what a watcher does wrong.
type basin struct {
	t     *testing.T
	chain *branch

	mu       sync.Mutex
	changed  sync.Cond
	room     int // of calls that are not noted; 0: no limit
	calls    map[journal.ID]work
	noted    map[journal.ID]bool // have a record
	earlier  map[journal.ID]bool // have one of an earlier process
	offers   map[journal.ID]int  // since the call was last orphaned
	gone     []journal.ID
	reopens  []uint64
	trail    []journal.Cursor
	fail     error // of SetCursor
	events   []Event
	looks    int
	mistakes []string
	highest  uint64 // block of a call
}

func newBasin(t *testing.T, b *branch) *basin {
	s := &basin{t: t, chain: b, calls: map[journal.ID]work{}, noted: map[journal.ID]bool{}, offers: map[journal.ID]int{},
		earlier: map[journal.ID]bool{}}
	s.changed.L = &s.mu
	return s
}

func locked(mu *sync.Mutex, do func()) {
	mu.Lock()
	defer mu.Unlock()
	do()
}

// pass lets time pass, and waits until all that happens by then has happened. What the test did
// before has happened by then, too.
func (s *basin) pass(d time.Duration) {
	for _, mu := range []*sync.Mutex{&s.chain.mu, &s.mu} {
		locked(mu, func() {})
	}
	time.Sleep(d)
	synctest.Wait()
}

func (s *basin) offer(ctx context.Context, w work) error {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.room > 0 && len(s.calls)-len(s.noted) >= s.room && ctx.Err() == nil {
		s.changed.Wait()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.earlier[w.id] {
		return nil
	}
	if s.offers[w.id] > 0 {
		// A sink ignores it. It is expected only of what the watcher need not remember.
		if w.number+remembered > s.highest {
			s.mistakes = append(s.mistakes, fmt.Sprintf("call %d in block %d was offered again", w.id.Call, w.number))
		}
		return nil
	}
	s.chain.mu.Lock()
	s.highest = max(s.highest, w.number, uint64(len(s.chain.blocks)))
	s.chain.mu.Unlock()
	s.offers[w.id]++
	s.calls[w.id] = w
	return nil
}

func (s *basin) orphaned(id journal.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = append(s.gone, id)
	delete(s.calls, id)
	delete(s.noted, id)
	delete(s.offers, id)
	s.changed.Broadcast()
}

func (s *basin) reopened(height uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reopens = append(s.reopens, height)
}

func (s *basin) oldest() (block uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, w := range s.calls {
		if !s.noted[id] && (!ok || w.number < block) {
			block, ok = w.number, true
		}
	}
	return block, ok
}

// restart forgets what a process has only in memory.
func (s *basin) restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(s.earlier, s.noted)
	clear(s.noted)
	clear(s.calls)
	clear(s.offers)
}

// note gives records to some of the calls.
func (s *basin) note(some func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.calls {
		if !s.noted[id] && some() {
			s.noted[id] = true
		}
	}
	s.changed.Broadcast()
}

func (s *basin) Cursors() []journal.Cursor {
	s.mu.Lock()
	defer s.mu.Unlock()
	trail := slices.Clone(s.trail)
	slices.Reverse(trail)
	return trail
}

// SetCursor holds a cursor to what it says.
func (s *basin) SetCursor(c journal.Cursor) error {
	s.chain.mu.Lock()
	var before []journal.ID
	if c.Block < uint64(len(s.chain.blocks)) && s.chain.blocks[c.Block].Hash == c.Hash {
		for _, block := range s.chain.blocks[:c.Block+1] {
			for _, l := range block.logs {
				if l.Topics[0] == chain.TopicJobSubmitted && !s.chain.completed[callNumber(l)] {
					before = append(before, journal.ID{Call: callNumber(l), Block: l.BlockHash, Log: l.Index})
				}
			}
		}
	}
	s.chain.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range before {
		if !s.noted[id] && !s.earlier[id] {
			s.mistakes = append(s.mistakes, fmt.Sprintf("the cursor is at block %d, and call %d has no record", c.Block,
				id.Call))
		}
	}
	if s.fail != nil {
		return s.fail
	}
	for len(s.trail) > 0 && s.trail[len(s.trail)-1].Block >= c.Block {
		s.trail = s.trail[:len(s.trail)-1]
	}
	s.trail = append(s.trail, c)
	return nil
}

func (s *basin) look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
}

func (s *basin) tell(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

func (s *basin) told(kind EventKind) (reasons []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if e.Kind == kind {
			reasons = append(reasons, e.Reason)
		}
	}
	return reasons
}

func (s *basin) watcher(confirmations uint64) *watcher {
	return &watcher{chain: s.chain, journal: s, sink: s, service: service, confirmations: confirmations, poll: localPoll,
		tell: s.tell, life: s}
}

// check compares what was offered and not taken back with what stands.
func (s *basin) check(what string) {
	s.t.Helper()
	standing := s.chain.standing()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mistakes) > 0 {
		s.t.Fatalf("%s: %v", what, s.mistakes)
	}
	for _, id := range standing {
		if s.offers[id] != 1 && !s.earlier[id] {
			var told []string
			for _, e := range s.events {
				told = append(told, fmt.Sprintf("%s %d: %s %v", e.Kind, e.Block, e.Reason, e.Err))
			}
			s.t.Fatalf("%s: call %d in block %x was offered %d times; told %s\ncursors %v", what, id.Call, id.Block[:8],
				s.offers[id],
				strings.Join(told, "\n"), s.trail)
		}
	}
	for id, w := range s.calls {
		// A call so deep is not remembered. That it does not stand is found out before it is submitted.
		if !slices.Contains(standing, id) && w.number+remembered > s.highest {
			s.t.Fatalf("%s: call %d in block %d does not stand", what, id.Call, w.number)
		}
	}
}

// someFaults is a node that fails at random.
func someFaults(rnd *rand.Rand) func(string, uint64) fault {
	return func(string, uint64) fault {
		switch rnd.IntN(12) {
		case 0:
			return fault{err: errNode}
		case 1:
			return fault{lag: rnd.IntN(8)}
		case 2:
			return fault{lose: true}
		case 3:
			return fault{err: tangle.ErrUnreachable}
		}
		return fault{}
	}
}
