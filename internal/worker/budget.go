package worker

import (
	"slices"
	"sync"
	"time"
)

// Uncounted is the largest request or answer, in bytes, that a [Budget] does not count: what is small is bounded by how many calls and connections there are.
const Uncounted = 64 << 10

// Counted returns how much of an answer of n bytes the pool has taken from its budget. Whoever gets the answer gives that back.
func Counted(n int) int64 {
	if n <= Uncounted {
		return 0
	}
	return int64(n)
}

// Budget bounds the memory that large requests and answers take together. Requests, which can be refused, may take three quarters of it: they hold theirs until their answer is written, so
// that there must be something left for that. Those of a nil Budget are unbounded.
type Budget struct {
	limit int64

	mu       sync.Mutex
	used     int64
	requests int64 // of used
	waiters  []*budgetWaiter
}

type budgetWaiter struct {
	n     int64
	ready chan struct{}
}

// NewBudget returns a budget of so many bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Limit returns how much there is in all.
func (b *Budget) Limit() int64 { return b.limit }

// RequestLimit returns how much requests may take.
func (b *Budget) RequestLimit() int64 { return b.limit / 4 * 3 }

// Used returns how much is taken.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// TakeForRequest takes n more bytes for requests, and reports whether there were so many.
func (b *Budget) TakeForRequest(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.limit || b.requests+n > b.RequestLimit() {
		return false
	}
	b.used += n
	b.requests += n
	return true
}

// GiveForRequest gives back what TakeForRequest has taken.
func (b *Budget) GiveForRequest(n int64) { b.give(n, n) }

// Give gives back what was taken for an answer.
func (b *Budget) Give(n int64) {
	if b != nil && n > 0 {
		b.give(n, 0)
	}
}

func (b *Budget) give(n, requests int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	b.requests -= requests
	for len(b.waiters) > 0 && b.used+b.waiters[0].n <= b.limit { // in their order, so that a large one gets its turn
		b.used += b.waiters[0].n
		close(b.waiters[0].ready)
		b.waiters = b.waiters[1:]
	}
}

// answerWait is the longest that an answer waits for its memory.
const answerWait = 30 * time.Second

// wait takes n bytes for an answer as soon as there are so many, after those who have waited longer. It reports false if that is not soon enough: not before stop is closed.
func (b *Budget) wait(n int64, stop <-chan struct{}) bool {
	if b == nil || n == 0 {
		return true
	}
	b.mu.Lock()
	if n > b.limit {
		b.mu.Unlock()
		return false
	}
	if len(b.waiters) == 0 && b.used+n <= b.limit {
		b.used += n
		b.mu.Unlock()
		return true
	}
	w := &budgetWaiter{n, make(chan struct{})}
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()
	timer := time.NewTimer(answerWait)
	defer timer.Stop()
	select {
	case <-w.ready:
		return true
	case <-timer.C:
	case <-stop:
	}
	b.mu.Lock()
	i := slices.Index(b.waiters, w)
	if i >= 0 {
		b.waiters = slices.Delete(b.waiters, i, i+1)
	}
	b.mu.Unlock()
	if i < 0 { // it was its turn just now
		return true
	}
	b.give(0, 0) // one behind it may be smaller
	return false
}
