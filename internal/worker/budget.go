package worker

import (
	"slices"
	"sync"
	"time"
)

// Uncounted is the largest request or answer, in bytes, that a [Budget] does not count. The number
// of calls and connections bounds small ones.
const Uncounted = 64 << 10

// Counted returns how much of an answer of n bytes the pool takes from its budget. Who receives the
// answer gives that back.
func Counted(n int) int64 {
	if n <= Uncounted {
		return 0
	}
	return int64(n)
}

// Budget bounds the memory that all large requests and answers take together. Requests can be
// refused, and may take three quarters of it: they hold their memory until their answer is written,
// which needs memory too. A nil Budget does not bound anything.
type Budget struct {
	limit int64

	mu       sync.Mutex
	used     int64
	requests int64 // part of used
	waiters  []*budgetWaiter
}

type budgetWaiter struct {
	n     int64
	ready chan struct{}
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget { return &Budget{limit: limit} }

// Limit returns the size of the budget.
func (b *Budget) Limit() int64 { return b.limit }

// RequestLimit returns how much requests may take.
func (b *Budget) RequestLimit() int64 { return b.limit / 4 * 3 }

// Used returns how much is taken.
func (b *Budget) Used() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// TakeForRequest takes n more bytes for requests, and reports whether they were available.
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

// GiveForRequest gives back what TakeForRequest took.
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
	for len(b.waiters) > 0 && b.used+b.waiters[0].n <= b.limit { // in order, so that a large one gets its turn
		b.used += b.waiters[0].n
		close(b.waiters[0].ready)
		b.waiters = b.waiters[1:]
	}
}

// answerWait is the longest time that an answer waits for its memory.
const answerWait = 30 * time.Second

// wait takes n bytes for an answer when they are available, after those who have waited longer. It
// reports false if they are not available within answerWait, or before stop is closed.
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
	if i < 0 { // its turn has just come
		return true
	}
	b.give(0, 0) // one behind it may be smaller
	return false
}
