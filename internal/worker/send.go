package worker

import (
	"runtime"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

const (
	// directLimit is how much is written without the writer goroutine. A pipe holds 64 KiB, so such a
	// write cannot block.
	directLimit = 60 << 10
	// largeFrame is the size from which frames are worth larger pipes.
	largeFrame = 256 << 10
	// keepBuffer is the largest buffer that a process keeps for its next frames.
	keepBuffer = 1 << 20
	// flushes is how often a caller writes what arrived while it wrote, before the writer goroutine
	// takes over.
	flushes = 4
)

// largeQueues holds buffers for large frames, for all processes, until they are garbage collected.
var largeQueues sync.Pool

// traffic records how the calls on a process arrive. A call that comes alone is fastest if its
// caller does everything itself and holds its thread until the answer. Many calls at a time cost
// least if their frames and answers go together; then a caller first yields to those that are about
// to call, too. The process's mu guards it.
type traffic struct {
	alone   int    // calls in a row that nobody joined, up to settled
	turn    uint64 // the number of calls
	skip    int    // how many more calls are not received directly
	penalty int    // how many were skipped the last time
}

const (
	// settled is the number of lonely calls after which the next one counts as lonely, too.
	settled = 8
	// probeEvery is how often a lonely call yields all the same: callers that hold their threads may
	// keep each other from being seen.
	probeEvery = 32
	// slow is too long for a wait on a thread.
	slow = 200 * time.Microsecond
	// leastSkip and mostSkip bound how many calls are not received directly after a slow one. The
	// number doubles each time.
	leastSkip = 8
	mostSkip  = 1024
)

// joined notes that several calls are in flight.
func (t *traffic) joined() { t.alone = 0 }

// lonely notes that no call came when it could have.
func (t *traffic) lonely() { t.alone = min(t.alone+1, settled) }

// yields reports whether the caller should yield first.
func (t *traffic) yields() bool {
	t.turn++
	return t.alone < settled || t.turn%probeEvery == 0
}

// direct reports whether the only call in flight is received directly.
func (t *traffic) direct() bool {
	if t.skip > 0 {
		t.skip--
		return false
	}
	return true
}

// took notes how long a directly received call took.
func (t *traffic) took(d time.Duration) {
	if d < slow {
		t.penalty = max(t.penalty/2, leastSkip/2)
		return
	}
	t.penalty = min(max(2*t.penalty, leastSkip), mostSkip)
	t.skip = t.penalty
}

// send appends the call's frame to the queue, and writes it at once if that cannot block and nobody
// else writes. (A frame.Writer would not tell which calls had been sent when the process ended.) If
// it returns direct, the caller has the reader role and must call receive.
func (w *warm) send(c *call, jobID uint32, args []byte, timeout time.Duration) (direct bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.broken {
		return false, errNotRun
	}
	if len(args) > largeFrame && !w.wideIn {
		w.wideIn = true
		enlarge(w.stdin)
	}
	w.nextID++
	c.id = w.nextID
	w.pending[c.id] = c
	w.log.begin()
	w.busy.Store(int32(len(w.pending)))
	w.expireAt(c.deadline)
	w.unread += c.size
	if len(args) > keepBuffer && cap(w.queue) < c.size && len(w.queue) == 0 {
		if kept, ok := largeQueues.Get().(*[]byte); ok {
			w.queue = (*kept)[:0]
		}
	}
	w.queue = frame.AppendHeader(w.queue, frame.Header{
		Length: uint32(len(args)), Kind: frame.Call, ID: c.id, Value: jobID, DeadlineMS: milliseconds(timeout),
	})
	w.queue = append(w.queue, args...)
	w.queued = append(w.queued, outCall{c, c.id, c.size})
	if len(w.pending) > 1 {
		w.traffic.joined()
	}
	if w.writing {
		w.out.listen()
		return false, nil
	}
	w.writing = true
	if w.unread > directLimit {
		w.out.listen()
		w.wake <- struct{}{}
		return false, nil
	}
	if w.traffic.yields() {
		w.mu.Unlock()
		runtime.Gosched()
		w.mu.Lock()
		if len(w.queued) > 1 {
			w.traffic.joined()
		} else {
			w.traffic.lonely()
		}
	}
	direct = len(w.pending) == 1 && w.pending[c.id] == c && w.traffic.direct() && w.out.take()
	if !direct {
		w.out.listen()
	}
	for range flushes {
		if len(w.queue) == 0 || w.broken || w.unread > directLimit {
			break
		}
		w.flush()
	}
	if len(w.queue) > 0 && !w.broken {
		w.wake <- struct{}{}
	} else {
		w.writing = w.broken
	}
	return direct, nil
}

// flush writes what is queued. It is called with mu held and writing set, and releases mu during
// the write.
func (w *warm) flush() {
	buf, batch := w.queue, w.queued
	for _, o := range batch {
		if o.call != nil {
			o.started = true
		}
	}
	w.queue, w.queued = w.spare[:0], nil
	w.spare = nil
	w.mu.Unlock()
	n, err := w.stdin.Write(buf)
	w.mu.Lock()
	if cap(buf) <= keepBuffer {
		w.spare = buf[:0]
	} else {
		largeQueues.Put(&buf)
	}
	if err != nil {
		// A call of which nothing was written did not run.
		end := 0
		for _, o := range batch {
			if o.call != nil && w.pending[o.id] == o.call {
				o.started = end < n
			}
			end += o.size
		}
		w.broken = true
		w.pool.unroute(w)
		time.AfterFunc(w.grace, w.kill) // it ends its input while it lives, so it is usually ending
	}
	if w.queued == nil {
		clear(batch)
		w.queued = batch[:0]
	}
}

// write is the writer goroutine. It takes over when frames arrive faster than one caller can write
// them.
func (w *warm) write() {
	defer w.pool.wg.Done()
	for {
		select {
		case <-w.wake:
		case <-w.exited:
			w.out.ended(w.grace)
			return
		}
		w.mu.Lock()
		for len(w.queue) > 0 && !w.broken {
			w.flush()
		}
		w.writing = w.broken
		w.mu.Unlock()
	}
}

// receive reads the answer to a call on its caller's goroutine, if the answer comes soon. send has
// given the caller the reader role.
func (w *warm) receive(c *call) {
	began := time.Now()
	if err := w.out.receive(w.frames, w.deliver); err != nil {
		w.kill() // the reader goroutine finds out why
	}
	took := time.Since(began)
	w.mu.Lock()
	w.traffic.took(took)
	answered := w.pending[c.id] != c
	w.mu.Unlock()
	if !answered { // something else came
		w.out.listen()
	}
}
