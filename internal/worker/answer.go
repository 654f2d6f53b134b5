package worker

import (
	"errors"
	"fmt"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// read is the reader goroutine: it hands answers to their callers until the process ends.
func (w *warm) read(fr *frame.Reader) {
	defer w.pool.wg.Done()
	err := w.readAnswers(fr)
	w.pool.unroute(w)
	if errors.Is(err, frame.ErrProtocol) {
		w.kill()
	} else {
		w.awaitExit()
	}
	<-w.exited
	_ = w.stdout.Close()
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

func (w *warm) readAnswers(fr *frame.Reader) error {
	wide := false
	for {
		h, err := fr.Next()
		tooLarge := errors.Is(err, frame.ErrTooLarge)
		if err != nil && !tooLarge {
			return err
		}
		switch h.Kind {
		case frame.Result, frame.Failure:
		case frame.Pong:
			continue
		default:
			return fmt.Errorf("%w: unexpected frame of kind %d from the process", frame.ErrProtocol, h.Kind)
		}
		var body []byte
		if !tooLarge {
			if h.Length > largeFrame && !wide {
				wide = true
				enlarge(w.stdout)
			}
			if body, err = fr.Body(make([]byte, 0, h.Length)); err != nil {
				return err
			}
		}
		if w.pool.failures.Load() != 0 {
			w.pool.failures.Store(0)
		}
		w.mu.Lock()
		c := w.pending[h.ID]
		if c == nil {
			w.mu.Unlock()
			return fmt.Errorf("%w: an answer to call %d, which is not in flight", frame.ErrProtocol, h.ID)
		}
		w.forget(c)
		abandoned := c.abandoned
		w.mu.Unlock()
		switch {
		case abandoned:
			w.finished(c)
			w.endIfCondemned()
			continue
		case tooLarge:
			c.err = w.pool.errorf(faas.ErrTooLarge, faas.NoJob, "invoke", "the answer is %d bytes, the limit is %d", h.Length, w.pool.cfg.MaxOutput)
		case h.Kind == frame.Failure:
			c.err = w.pool.failureError(frame.FailureCode(h.Value), body)
		default:
			c.output = body
		}
		c.done <- struct{}{}
		w.endIfCondemned()
	}
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

// fail ends all calls of a process that is gone.
func (w *warm) fail(cause *faas.FunctionError) {
	w.mu.Lock()
	w.broken = true
	list := make([]*call, 0, len(w.pending))
	for _, c := range w.pending {
		list = append(list, c)
	}
	clear(w.pending)
	w.abandoned = 0
	w.mu.Unlock()
	for _, c := range list {
		switch {
		case c.abandoned:
			w.finished(c)
			continue
		case !c.started:
			c.err = errNotRun
		case w.pool.stopped.Load():
			c.err = w.pool.stoppedError()
		default:
			c.err = w.pool.functionError(faas.NoJob, cause, false)
		}
		c.done <- struct{}{}
	}
	_ = w.stdin.Close()
	w.pool.ended(w, cause)
}

// failureError makes the error of a Failure frame.
func (p *Pool) failureError(code frame.FailureCode, message []byte) error {
	text := string(message)
	switch code {
	case frame.UnknownJob:
		err := p.errorf(faas.ErrNotFound, faas.NoJob, "invoke", "%s", orDefault(text, "the binary does not have this job"))
		err.NotRun = true
		return err
	case frame.BadRequest:
		err := p.errorf(faas.ErrInvalidArgument, faas.NoJob, "invoke", "%s", orDefault(text, "the process refused the request"))
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
