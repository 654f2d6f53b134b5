package worker

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// read is the reader goroutine: it hands answers to their callers until the process ends, and
// pauses while a caller receives directly.
func (w *warm) read() {
	defer w.pool.wg.Done()
	err := w.readAnswers()
	w.pool.unroute(w)
	if errors.Is(err, frame.ErrProtocol) {
		w.kill()
	} else {
		w.awaitExit()
	}
	<-w.exited
	_ = w.out.Close()
	cause := w.failure()
	if errors.Is(err, frame.ErrProtocol) {
		cause.Type, cause.Message, cause.ExitCode = "protocol", err.Error(), 0
	}
	w.fail(cause)
}

// awaitExit gives a process that closed its output the grace to end by itself.
func (w *warm) awaitExit() {
	timer := time.NewTimer(w.grace)
	defer timer.Stop()
	select {
	case <-w.exited:
	case <-timer.C:
		w.kill()
	}
}

func (w *warm) readAnswers() error {
	for {
		if err := w.out.await(w.frames); err != nil {
			return err
		}
		for w.frames.Buffered() > 0 {
			if err := w.deliver(); err != nil {
				return err
			}
		}
		w.out.giveBack()
	}
}

// deliver reads one frame and hands its answer to the caller. The goroutine that calls deliver must
// have the reader role.
func (w *warm) deliver() error {
	h, err := w.frames.Next()
	tooLarge := errors.Is(err, frame.ErrTooLarge)
	if err != nil && !tooLarge {
		return err
	}
	var output []byte
	var failed error
	held := int64(0)
	switch {
	case h.Kind == frame.Pong:
		return w.frames.Skip()
	case h.Kind != frame.Result && h.Kind != frame.Failure:
		return fmt.Errorf("%w: unexpected frame of kind %d from the process", frame.ErrProtocol, h.Kind)
	case tooLarge:
		failed = w.pool.errorf(faas.ErrTooLarge, faas.NoJob, "invoke", "the answer is %d bytes, the limit is %d", h.Length,
			w.pool.cfg.MaxOutput)
		err = w.frames.Skip()
	case h.Kind == frame.Failure:
		var message []byte
		message, err = w.frames.Part(nil, maxMessage)
		failed = w.pool.failureError(frame.FailureCode(h.Value), message)
	case w.pool.cfg.Budget != nil && !w.pool.cfg.Budget.wait(Counted(int(h.Length)), w.exited):
		failed, err = w.pool.noRoom(faas.NoJob, int64(h.Length)), w.frames.Skip()
	default:
		if h.Length > largeFrame && !w.wideOut {
			w.wideOut = true
			w.out.enlarge()
		}
		held = Counted(int(h.Length))
		output, err = w.frames.Body(make([]byte, 0, h.Length))
	}
	if err != nil {
		w.pool.cfg.Budget.Give(held)
		return err
	}
	if w.pool.failures.Load() != 0 {
		w.pool.failures.Store(0)
	}
	w.mu.Lock()
	c := w.pending[h.ID]
	if c == nil {
		w.mu.Unlock()
		w.pool.cfg.Budget.Give(held)
		return fmt.Errorf("%w: an answer to call %d, which is not in flight", frame.ErrProtocol, h.ID)
	}
	w.forget(c)
	abandoned, expired := c.abandoned, c.expired
	c.output, c.err = output, failed
	end, quiet := w.useless(), len(w.pending) == 0
	if quiet {
		w.log.quiet()
	}
	w.mu.Unlock()
	if quiet {
		w.log.endCall()
	}
	switch { // from here on only c's caller uses it
	case abandoned:
		w.pool.cfg.Budget.Give(held)
		w.finished(c)
	case !expired:
		c.done <- struct{}{}
	}
	if end {
		w.end()
	}
	return nil
}

// forget removes a call from those in flight. mu is held.
func (w *warm) forget(c *call) {
	delete(w.pending, c.id)
	w.busy.Store(int32(len(w.pending)))
	w.unread -= c.size
	if c.abandoned {
		w.abandoned--
		w.unread -= frame.HeaderSize // of its Cancel
	}
}

// fail ends all calls of a process that has ended.
func (w *warm) fail(cause *faas.FunctionError) {
	w.mu.Lock()
	w.broken = true
	if w.expiry.timer != nil {
		w.expiry.timer.Stop()
	}
	var waiting, abandoned []*call
	for _, c := range w.pending {
		if c.abandoned {
			abandoned = append(abandoned, c)
			continue
		}
		switch {
		case !c.started:
			c.err = errNotRun
		case w.pool.stopped.Load():
			c.err = w.pool.stoppedError()
		default:
			c.err = w.pool.functionError(faas.NoJob, cause, false)
		}
		if !c.expired {
			waiting = append(waiting, c)
		}
	}
	clear(w.pending)
	w.abandoned = 0
	w.mu.Unlock()
	for _, c := range abandoned {
		w.finished(c)
	}
	for _, c := range waiting {
		c.done <- struct{}{}
	}
	_ = w.stdin.Close()
	w.pool.ended(w, cause)
}

// maxMessage is how much of a failure's message is kept, in bytes.
const maxMessage = 64 << 10

// failureError returns the error of a Failure frame.
func (p *Pool) failureError(code frame.FailureCode, message []byte) error {
	text := strings.ToValidUTF8(string(message), "\uFFFD")
	switch code {
	case frame.UnknownJob:
		err := p.errorf(faas.ErrNotFound, faas.NoJob, "invoke", "%s", orDefault(text, "the binary does not have this job"))
		err.NotRun = true
		return err
	case frame.BadRequest:
		err := p.errorf(faas.ErrInvalidArgument, faas.NoJob, "invoke", "%s",
			orDefault(text, "the process refused the request"))
		err.NotRun = true
		return err
	case frame.TooLarge:
		return p.errorf(faas.ErrTooLarge, faas.NoJob, "invoke", "%s", orDefault(text, "the answer is too large"))
	case frame.Cancelled:
		return p.errorf(faas.ErrTimeout, faas.NoJob, "invoke", "%s", orDefault(text, "the job was cancelled at its deadline"))
	case frame.JobPanic:
		return p.functionError(faas.NoJob, &faas.FunctionError{Type: "panic", Message: text}, false)
	default:
		return p.functionError(faas.NoJob, &faas.FunctionError{Message: text}, false)
	}
}

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
