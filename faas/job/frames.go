package job

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// framesServer is the process's side of the frame protocol.
//
// One goroutine at a time is the reader. Waking another thread for a call costs several times as
// much as a short job, so the reader itself runs a job that is known to be short. watch notices
// if the job takes long after all, and makes another goroutine the reader.
type framesServer struct {
	*process
	ctx    context.Context // of all calls
	cancel context.CancelFunc
	w      *frame.Writer

	// Only the reader uses these.
	r       *frame.Reader
	queued  bool // answers wait in w for a flush
	started bool // goroutines were started that may not have run yet
	yielded time.Time

	relay   relay
	ended   chan error // gets what ended the reading
	running sync.WaitGroup

	mu    sync.Mutex
	calls map[uint64]*callContext // in flight
}

const (
	// shortCall is the longest typical duration of a job that the reader runs, and shortOfMany the
	// same while other calls wait. They are about what handing a call to another goroutine costs in
	// each situation.
	shortCall   = 20 * time.Microsecond
	shortOfMany = 5 * time.Microsecond
	// yieldEvery is how often a reader that never lacks work gives up its processor. Go's runtime
	// takes the processor from a goroutine that has had it for 10 ms whenever the goroutine waits in
	// a read, and wakes itself every 20 us to look for more such goroutines.
	yieldEvery = 4 * time.Millisecond
	// maxMessage bounds the message of a failure, in bytes.
	maxMessage = 64 << 10
)

// serveFrames serves calls until the end of the input, and then waits for those in flight.
func (p *process) serveFrames(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s := &framesServer{
		process: p,
		ctx:     ctx,
		cancel:  cancel,
		r:       frame.NewReader(p.stdin, 0),
		w:       frame.NewWriter(p.stdout),
		ended:   make(chan error, 1),
		calls:   map[uint64]*callContext{},
	}
	if err := s.w.Write(frame.Header{Kind: frame.Hello, Value: uint32(p.concurrency)}, nil); err != nil {
		return fmt.Errorf("greeting the host: %w", err)
	}
	s.relay.start()
	defer s.relay.stop()
	go s.relay.watch(func() { go s.read() })
	go s.read()
	err := <-s.ended
	if err != nil {
		cancel() // the host is gone or mad: nobody waits for the calls in flight
	}
	s.running.Wait()
	if err == nil {
		err = s.w.Flush()
	}
	if err != nil {
		return fmt.Errorf("speaking frames with the host: %w", err)
	}
	return nil
}

// read is the reader, until the end of the input or until another goroutine is made the reader.
func (s *framesServer) read() {
	for {
		more, err := s.next()
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			s.ended <- err
			return
		}
		if !more {
			return
		}
	}
}

// next handles one frame, and reports whether this goroutine is still the reader.
func (s *framesServer) next() (bool, error) {
	if !s.r.Ready() { // so reading may block this thread
		if s.started {
			// Short calls take less time if no other thread has to be woken for them.
			s.started = false
			runtime.Gosched()
		} else if now := time.Now(); now.Sub(s.yielded) > yieldEvery {
			s.yielded = now
			runtime.Gosched()
		}
		if s.queued {
			s.queued = false
			if err := s.w.Flush(); err != nil {
				return false, err
			}
		}
	}
	h, err := s.r.Next()
	if err != nil {
		return false, err
	}
	switch h.Kind {
	case frame.Call:
		return s.call(h)
	case frame.Cancel:
		s.mu.Lock()
		c := s.calls[h.ID]
		s.mu.Unlock()
		if c != nil {
			c.end()
		}
		return true, nil
	case frame.Ping:
		return true, s.w.Write(frame.Header{Kind: frame.Pong, ID: h.ID}, nil)
	}
	return false, fmt.Errorf("%w: a frame of kind %d from the host", frame.ErrProtocol, h.Kind)
}

// call runs a call, or starts it on a goroutine of its own. It reports whether this goroutine is
// still the reader.
func (s *framesServer) call(h frame.Header) (bool, error) {
	args, err := s.r.Body(nil)
	if err != nil {
		return false, err
	}
	j, fail := s.find(h.Value)
	if fail != nil {
		s.reply(h.ID, nil, fail, s.w.Write)
		return true, nil
	}
	c := &callContext{parent: s.ctx}
	if h.DeadlineMS > 0 {
		c.deadline = time.Now().Add(time.Duration(h.DeadlineMS) * time.Millisecond)
	}
	s.mu.Lock()
	_, dup := s.calls[h.ID]
	if !dup {
		s.calls[h.ID] = c
	}
	s.mu.Unlock()
	if dup {
		return false, fmt.Errorf("%w: call id %d is in use", frame.ErrProtocol, h.ID)
	}
	s.running.Add(1)
	limit := shortCall
	if s.r.Ready() {
		limit = shortOfMany
	}
	if typical := j.typical(); typical > 0 && typical <= limit {
		return s.runAsReader(c, j, h.ID, args), nil
	}
	s.started = true
	go s.runTimed(c, j, args, func(output []byte, fail *failure) {
		s.finish(c, h.ID)
		s.reply(h.ID, output, fail, s.w.Write)
		s.running.Done()
	})
	return true, nil
}

// runAsReader runs a call that should be short on the reader's goroutine, and reports whether
// that goroutine is the reader afterwards.
func (s *framesServer) runAsReader(c *callContext, j *job, id uint64, args []byte) (reader bool) {
	returned := false
	defer func() {
		if !returned && reader { // the handler ended the goroutine
			go s.read()
		}
	}()
	turn := s.relay.take()
	s.runTimed(c, j, args, func(output []byte, fail *failure) {
		s.finish(c, id)
		if reader = s.relay.giveBack(turn); reader {
			s.queued = true
			s.reply(id, output, fail, s.w.Queue)
		} else {
			s.reply(id, output, fail, s.w.Write)
		}
		s.running.Done()
	})
	returned = true
	return reader
}

// runTimed is run, and learns how long the job takes.
func (s *framesServer) runTimed(ctx context.Context, j *job, args []byte, done func([]byte, *failure)) {
	start := time.Now()
	s.run(ctx, j, args, func(output []byte, fail *failure) {
		j.took(time.Since(start))
		done(output, fail)
	})
}

func (s *framesServer) finish(c *callContext, id uint64) {
	s.mu.Lock()
	delete(s.calls, id)
	s.mu.Unlock()
	c.end()
}

// reply answers a call with one of the Writer's methods. If that fails the host is gone, so
// nobody waits for the other calls either.
func (s *framesServer) reply(id uint64, output []byte, fail *failure, write func(frame.Header, []byte) error) {
	h := frame.Header{Kind: frame.Result, ID: id}
	if len(output) > frame.MaxBody {
		fail = &failure{frame.TooLarge, fmt.Sprintf("the output has %d bytes, the limit is %d", len(output), frame.MaxBody)}
	}
	if fail != nil {
		h.Kind, h.Value = frame.Failure, uint32(fail.code)
		output = []byte(fail.message)[:min(len(fail.message), maxMessage)]
	}
	if err := write(h, output); err != nil {
		s.cancel()
	}
}

// callContext is the context of one call. Most jobs never use it, so it makes the timer and the
// rest of a standard context only when a job does.
type callContext struct {
	parent   context.Context
	deadline time.Time // zero: none

	mu     sync.Mutex
	ctx    context.Context // nil until it is needed
	cancel context.CancelFunc
	ended  bool
}

func (c *callContext) standard() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx == nil {
		if c.deadline.IsZero() {
			c.ctx, c.cancel = context.WithCancel(c.parent)
		} else {
			c.ctx, c.cancel = context.WithDeadline(c.parent, c.deadline)
		}
		if c.ended {
			c.cancel()
		}
	}
	return c.ctx
}

// end cancels the context.
func (c *callContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}

// Deadline is the call's.
func (c *callContext) Deadline() (time.Time, bool) { return c.standard().Deadline() }

// Done is closed at the deadline, by the host's Cancel, when the host is gone, and when the call
// ends.
func (c *callContext) Done() <-chan struct{} { return c.standard().Done() }

// Err returns why the context ended.
func (c *callContext) Err() error { return c.standard().Err() }

// Value also finds the standard context, so that contexts derived from this one need no goroutine
// to follow it.
func (c *callContext) Value(key any) any { return c.standard().Value(key) }
