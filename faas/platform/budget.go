package platform

import (
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// budget bounds the memory of the requests and answers that are held at a time. What is small is not counted: it is bounded by how many connections and calls there are.
type budget struct {
	limit int64
	used  atomic.Int64
}

// uncounted is the largest request or answer that is not counted.
const uncounted = 64 << 10

// take asks for n bytes more, and says whether there were so many left.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) <= b.limit {
		return true
	}
	b.used.Add(-n)
	return false
}

// force takes n bytes whether they are left or not: what exists cannot be refused, but what comes next can.
func (b *budget) force(n int64) { b.used.Add(n) }

func (b *budget) give(n int64) { b.used.Add(-n) }

// full reports whether nothing more should be begun.
func (b *budget) full() bool { return b.used.Load() >= b.limit }

func (b *budget) refusal() error {
	e := notRunError(faas.ErrThrottled, "read request", "the requests and answers under way take %d MiB of memory, the limit of this platform", b.limit>>20)
	e.RetryAfter = time.Second
	return e
}
