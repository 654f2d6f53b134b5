package journal

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/tangle"
)

// How long finished records are kept. The watcher may offer a call again while a reorg of so many
// blocks may come; an operator wants to see what happened lately, and what failed.
const (
	window       = 256
	depth        = 64 // blocks on a result after which its output is not needed again
	keepFinished = 1000
	keepFailed   = 10000
	failedFor    = 30 * 24 * time.Hour
	trailLength  = 64
)

// failures are the outcomes that are kept longer: the operator can do something about them.
var failures = []string{"job failed", "interrupted"}

// state is what the lines of a journal add up to.
type state struct {
	key    Key
	calls  map[ID]*kept
	byCall map[uint64][]ID
	trail  []Cursor // oldest first
	txs    map[uint64]keptTx
	seq    uint64 // of the last change of a call
	live   int64  // bytes of the lines that count
	since  int    // calls finished since the last prune
}

// kept is a record without its output.
type kept struct {
	Record
	seq  uint64
	size int64 // of its text
	out  blob  // size 0: none
}

type keptTx struct {
	Tx
	size int64
}

func newState(key Key) state {
	return state{key: key, calls: map[ID]*kept{}, byCall: map[uint64][]ID{}, txs: map[uint64]keptTx{}}
}

// apply makes a change. out is where the item's output is.
func (s *state) apply(it item, out blob) {
	size := int64(len(it.text))
	switch e := it.entry; {
	case e.Call != nil:
		r := e.Call.record()
		before := s.calls[r.ID]
		if out.size == 0 && before != nil && r.Phase >= Answered {
			out = before.out
		}
		if before == nil {
			s.byCall[r.ID.Call] = append(s.byCall[r.ID.Call], r.ID)
		} else {
			s.live -= before.bytes()
		}
		s.seq++
		k := &kept{Record: r, seq: s.seq, size: size, out: out}
		s.live += k.bytes()
		s.calls[r.ID] = k
		if r.Phase == Finished {
			s.since++
		}
	case e.Forget != nil:
		s.forget(e.Forget.id())
	case e.Cursor != nil:
		c := Cursor{e.Cursor.Block, tangle.Word(e.Cursor.Hash)}
		i, _ := slices.BinarySearchFunc(s.trail, c.Block, func(c Cursor, b uint64) int { return cmp.Compare(c.Block, b) })
		s.trail = thin(append(s.trail[:i], c))
	case e.Tx != nil:
		s.live += size - s.txs[e.Tx.Nonce].size
		s.txs[e.Tx.Nonce] = keptTx{e.Tx.tx(), size}
	case e.Drop != nil:
		s.live -= s.txs[*e.Drop].size
		delete(s.txs, *e.Drop)
	}
}

func (k *kept) bytes() int64 { return k.size + k.out.size }

func (s *state) forget(id ID) {
	k, ok := s.calls[id]
	if !ok {
		return
	}
	s.live -= k.bytes()
	delete(s.calls, id)
	others := slices.DeleteFunc(s.byCall[id.Call], func(other ID) bool { return other == id })
	if len(others) == 0 {
		delete(s.byCall, id.Call)
	} else {
		s.byCall[id.Call] = others
	}
}

// thin drops cursors so that the distance to the newest about doubles from one to the next.
func thin(trail []Cursor) []Cursor {
	last := trail[len(trail)-1].Block
	out := trail[:0:0]
	for i, c := range trail {
		// One goes if the gap that it leaves is no wider than the way from there to the newest. The
		// first stays.
		if i > 0 && i < len(trail)-1 {
			before := out[len(out)-1].Block
			if next := trail[i+1].Block; next-before <= last-next {
				continue
			}
		}
		out = append(out, c)
	}
	if len(out) > trailLength {
		out = out[len(out)-trailLength:]
	}
	return out
}

// prune drops the outputs that no reorg can ask for, and finished records that nobody needs.
func (s *state) prune(now time.Time) {
	if len(s.trail) == 0 || s.since <= keepFinished/4 {
		return
	}
	s.since = 0
	block := s.trail[len(s.trail)-1].Block
	var finished []*kept
	for _, k := range s.calls {
		if k.Phase != Finished {
			continue
		}
		if cmp.Or(k.ResultBlock, k.Number)+depth <= block {
			s.live -= k.out.size
			k.out = blob{}
		}
		finished = append(finished, k)
	}
	slices.SortFunc(finished, newest)
	recent, failed := 0, 0
	for _, k := range finished {
		if recent++; recent <= keepFinished || k.Number+window > block {
			continue
		}
		if slices.Contains(failures, k.Outcome) && now.Sub(k.At) < failedFor {
			if failed++; failed <= keepFailed {
				continue
			}
		}
		s.forget(k.ID)
	}
}

// entries returns the changes that lead to the state from an empty one, with their outputs.
func (s *state) entries() iter.Seq2[entry, blob] {
	return func(yield func(entry, blob) bool) {
		for _, c := range s.trail {
			if !yield(entry{Cursor: &cursorEntry{Block: c.Block, Hash: hash(c.Hash)}}, blob{}) {
				return
			}
		}
		for _, t := range s.txs {
			if !yield(entry{Tx: txOf(t.Tx)}, blob{}) {
				return
			}
		}
		all := make([]*kept, 0, len(s.calls))
		for _, k := range s.calls {
			all = append(all, k)
		}
		slices.SortFunc(all, func(a, b *kept) int { return -newest(a, b) })
		for _, k := range all {
			e := callOf(k.Record)
			e.Output = k.out.size > 0
			if !yield(entry{Call: e}, k.out) {
				return
			}
		}
	}
}

func (s *state) records() []Record {
	all := make([]*kept, 0, len(s.calls))
	for _, k := range s.calls {
		all = append(all, k)
	}
	return records(all, newest)
}

func newest(a, b *kept) int { return cmp.Compare(b.seq, a.seq) }

func records(all []*kept, order func(a, b *kept) int) []Record {
	slices.SortFunc(all, order)
	out := make([]Record, len(all))
	for i, k := range all {
		out[i] = k.Record
	}
	return out
}
