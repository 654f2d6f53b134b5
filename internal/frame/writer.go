package frame

import (
	"fmt"
	"io"
	"sync"
)

const (
	// copyLimit is the largest body that is copied so that it shares a write with other frames.
	copyLimit = 32 << 10
	// queueLimit is how many bytes may wait for a running write before callers that bring more must
	// wait, too.
	queueLimit = 1 << 20
)

// Writer writes frames to a stream. It collects the frames that come during a write, and sends them
// together in the next one. It is safe for concurrent use.
type Writer struct {
	w io.Writer

	mu      sync.Mutex
	room    sync.Cond // signalled when a write ends
	queue   []byte    // frames that w was not given yet
	spare   []byte    // the buffer that queue is swapped with
	writing bool      // somebody writes and will empty the queue
	err     error     // the first error of w
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer {
	fw := &Writer{w: w}
	fw.room.L = &fw.mu
	return fw
}

// Write sends one frame. It sets h.Length from the body, and keeps no reference to the body.
//
// If the error is nil, the frame has been written, or a call that is writing now will write it; if
// that call fails, later calls return its error. An error that wraps ErrTooLarge means that nothing
// was sent. After any other error the stream is broken.
func (w *Writer) Write(h Header, body []byte) error {
	if err := w.Queue(h, body); err != nil {
		return err
	}
	return w.Flush()
}

// Queue is Write, but a small frame may stay in memory until the next Flush or Write. It waits if
// much is queued already.
func (w *Writer) Queue(h Header, body []byte) error {
	if len(body) > MaxBody {
		return fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, len(body), MaxBody)
	}
	h.Length = uint32(len(body))
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(body) > copyLimit {
		return w.writeLarge(h, body)
	}
	for w.err == nil && len(w.queue) >= queueLimit {
		if w.writing {
			w.room.Wait()
		} else {
			w.drain()
		}
	}
	if w.err != nil {
		return w.err
	}
	w.queue = append(AppendHeader(w.queue, h), body...)
	return nil
}

// Flush writes the queued frames, unless a call that is writing now will do so.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.writing {
		w.drain()
	}
	return w.err
}

// writeLarge sends a frame without copying its whole body. w.mu is held.
func (w *Writer) writeLarge(h Header, body []byte) error {
	for w.err == nil && w.writing {
		w.room.Wait()
	}
	if w.err != nil {
		return w.err
	}
	w.queue = append(AppendHeader(w.queue, h), body[:copyLimit]...)
	w.writing = true
	w.writeQueue()
	if w.err == nil {
		w.write(body[copyLimit:])
	}
	w.writing = false
	w.room.Broadcast()
	w.drain()
	return w.err
}

// drain writes until the queue is empty. w.mu is held, and nobody writes.
func (w *Writer) drain() {
	if len(w.queue) == 0 || w.err != nil {
		return
	}
	w.writing = true
	for len(w.queue) > 0 && w.err == nil {
		w.writeQueue()
	}
	w.writing = false
	w.room.Broadcast()
}

func (w *Writer) writeQueue() {
	batch := w.queue
	w.queue = w.spare[:0]
	w.write(batch)
	if cap(batch) > 2*queueLimit {
		batch = nil
	}
	w.spare = batch
	w.room.Broadcast()
}

// write writes b with w.mu released, so that others can queue meanwhile. w.writing is set.
func (w *Writer) write(b []byte) {
	w.mu.Unlock()
	n, err := w.w.Write(b)
	w.mu.Lock()
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil && w.err == nil {
		w.err = err
	}
}
