package worker

import (
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// expiry ends the calls whose time is over. All calls of a process share one timer, because a timer
// for each would cost more than the rest of a short call. It is set for the first deadline at the
// time of setting, and most calls end before that. The process's mu guards it.
type expiry struct {
	timer *time.Timer
	at    time.Time // zero if the timer is not set
}

// expireAt makes sure that the timer is set for deadline or earlier. mu is held.
func (w *warm) expireAt(deadline time.Time) {
	e := &w.expiry
	if !e.at.IsZero() && !deadline.Before(e.at) {
		return
	}
	e.at = deadline
	if e.timer == nil {
		e.timer = time.AfterFunc(time.Until(deadline), w.expire)
		return
	}
	e.timer.Reset(time.Until(deadline))
}

// expire tells the callers whose time is over, and sets the timer for the others.
func (w *warm) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expiry.at = time.Time{}
	now := time.Now()
	var next time.Time
	for _, c := range w.pending {
		switch {
		case c.abandoned || c.expired:
		case !now.Before(c.deadline):
			c.expired = true
			c.done <- struct{}{}
		case next.IsZero() || c.deadline.Before(next):
			next = c.deadline
		}
	}
	if !next.IsZero() {
		w.expireAt(next)
	}
}

// abandon gives up a call, unless it was answered. The process has the grace to end the call; then
// it is condemned.
func (w *warm) abandon(c *call) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pending[c.id] != c {
		return false
	}
	select {
	case <-c.done: // it expired at the same time
	default:
	}
	id := c.id
	c.abandoned = true
	w.abandoned++
	w.unread += frame.HeaderSize
	if !w.broken {
		w.queue = frame.AppendHeader(w.queue, frame.Header{Kind: frame.Cancel, ID: id})
		w.queued = append(w.queued, outCall{size: frame.HeaderSize})
		if !w.writing {
			w.writing = true
			w.wake <- struct{}{}
		}
	}
	time.AfterFunc(w.grace, func() { w.condemn(id) })
	return true
}

// condemn routes no more calls to a process in which an abandoned call still runs. The process is
// killed when no caller waits for it.
func (w *warm) condemn(id uint64) {
	w.mu.Lock()
	_, hung := w.pending[id]
	w.condemned = w.condemned || hung
	end := w.useless()
	w.mu.Unlock()
	if hung {
		w.pool.unroute(w)
	}
	if end {
		w.end()
	}
}

// useless reports whether the process is condemned and nobody waits for it. mu is held.
func (w *warm) useless() bool { return w.condemned && len(w.pending) == w.abandoned }

// end kills a process that is no longer needed.
func (w *warm) end() {
	if !w.ending.Swap(true) {
		w.pool.tell(w.pid, "the process was killed: a call did not end when its time was over")
	}
	w.kill()
}
