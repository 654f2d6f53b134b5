package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
)

// warm is a process that speaks frames. Any number of calls, up to its capacity, is in flight on
// it.
type warm struct {
	*process
	pool     *Pool
	capacity int
	began    time.Time
	init     time.Duration // from the start of the process to its Hello
	starting bool          // the first call is a cold start; guarded by pool.mu
	ending   atomic.Bool   // it was told to end

	// pool.mu guards the next fields.
	load      int // calls that hold a place, including abandoned ones
	idleSince time.Time
	routable  bool

	out     *output
	frames  *frame.Reader // from out; whoever has the reader role uses it and wideOut
	wideOut bool          // the process's output was enlarged
	wake    chan struct{} // of the writer goroutine

	mu        sync.Mutex
	nextID    uint64
	pending   map[uint64]*call
	abandoned int    // how many of pending nobody waits for
	queue     []byte // frames to be written
	queued    []outCall
	spare     []byte
	unread    int  // bytes of frames that the process may not have read yet
	writing   bool // a caller or the writer goroutine writes, or is about to
	broken    bool // no more frames can be sent
	condemned bool // killed as soon as nobody waits for it
	wideIn    bool // the process's input was enlarged
	traffic   traffic
	expiry    expiry
}

// outCall is a call whose frame is written, or nil for a Cancel. The id tells whether the call is
// still the same.
type outCall struct {
	*call
	id   uint64
	size int
}

// call is one invocation on a warm process.
type call struct {
	id        uint64
	size      int
	deadline  time.Time
	started   bool          // a part of its frame was written
	abandoned bool          // nobody waits for it
	expired   bool          // done was signalled because its time was over
	done      chan struct{} // has capacity 1
	output    []byte
	err       error
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// errNotRun marks calls that certainly did not start.
var errNotRun = errors.New("the process ended before the call was sent to it")

// startWarm starts a process and waits for its Hello.
func (p *Pool) startWarm() (*warm, error) {
	p.host.makeRoom()
	began := time.Now()
	proc, err := startProcess(p.host, &p.cfg, frame.Env+"="+p.protocol())
	if err != nil {
		return nil, p.errorf(faas.ErrUnavailable, faas.NoJob, "start", "the job binary cannot be started: %w",
			startCause(err))
	}
	w := &warm{process: proc, pool: p, began: began, pending: map[uint64]*call{}, wake: make(chan struct{}, 1),
		starting: true, routable: true}
	if w.out, err = takeOutput(proc.stdout); err != nil {
		proc.kill()
		<-proc.exited
		return nil, p.errorf(faas.ErrUnavailable, faas.NoJob, "start", "the output of the job binary cannot be read: %w",
			errors.Join(err, proc.stdin.Close(), proc.stdout.Close()))
	}
	proc.starting.Store(true)
	p.track(proc)
	p.wg.Add(1)
	go w.write()
	w.frames = frame.NewReader(w.out, uint32(min(p.cfg.MaxOutput, frame.MaxBody)))
	hello, err := w.awaitHello()
	if err != nil {
		err = p.startError(proc, err)
		_ = w.out.Close()
		p.untrack(proc)
		if p.refusesOffers(err) {
			return p.startWarm()
		}
		return nil, err
	}
	proc.starting.Store(false)
	w.init = time.Since(began)
	w.capacity = max(int(hello.Value), 1)
	w.checkMemory(false)
	_ = w.out.SetReadDeadline(time.Time{})
	proc.clearReadDeadline()
	select {
	case <-proc.exited:
		w.out.ended(w.grace)
	default:
	}
	p.wg.Add(1)
	go w.read()
	return w, nil
}

// awaitHello returns the first frame.
func (w *warm) awaitHello() (frame.Header, error) {
	if w.pool.cfg.Runner && !w.pool.plain.Load() && !w.pool.Speaks() {
		return w.awaitRunner()
	}
	w.busy.Add(1)
	defer w.busy.Add(-1)
	_ = w.out.SetReadDeadline(w.began.Add(w.pool.cfg.StartTimeout))
	hello, err := w.frames.Next()
	if err == nil && (hello.Kind != frame.Hello || hello.Length != 0) {
		err = fmt.Errorf("%w: the first frame is of kind %d and has %d bytes, not an empty hello", frame.ErrProtocol,
			hello.Kind, hello.Length)
	}
	return hello, err
}

// startError ends a process that did not say hello, and says why.
func (p *Pool) startError(proc *process, err error) error {
	ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if !ended {
		proc.kill()
	} else {
		// It may have closed its output without ending.
		select {
		case <-proc.exited:
		case <-time.After(p.cfg.Grace):
			proc.kill()
		}
	}
	<-proc.exited
	_ = proc.stdin.Close()
	_ = proc.stdout.Close()
	cause := proc.failure()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		cause.Type, cause.ExitCode = "start", 0
		cause.Message = fmt.Sprintf("the process did not say hello within %v and was killed", p.cfg.StartTimeout)
	case ended:
		cause.Message = "at its start: " + cause.Message
	default:
		cause.Type, cause.ExitCode, cause.Message = "protocol", 0, err.Error()
	}
	p.tellEnd(proc.pid, cause)
	return p.functionError(faas.NoJob, cause, true)
}

// invoke runs one call until it ends or is out of time. If held is true, the place on the process
// is still the caller's to release; otherwise the abandoned call keeps it.
func (w *warm) invoke(ctx context.Context, jobID uint32, args []byte, began time.Time,
	timeout time.Duration) (output []byte, held bool, err error) {
	if len(args) > frame.MaxBody {
		return nil, true, w.pool.errorf(faas.ErrTooLarge, int64(jobID), "invoke",
			"the arguments are %d bytes, the limit is %d", len(args), frame.MaxBody)
	}
	c := calls.Get().(*call)
	c.size, c.started, c.abandoned, c.expired = frame.HeaderSize+len(args), false, false, false
	c.deadline = began.Add(timeout)
	direct, err := w.send(c, jobID, args, timeout)
	if err != nil {
		calls.Put(c)
		return nil, true, err
	}
	if direct {
		w.receive(c)
	}
	var late error
	ended := true
	select {
	case <-c.done:
	default: // only now is ctx.Done, which allocates, needed
		select {
		case <-c.done:
		case <-ctx.Done():
			ended, late = false, w.pool.cancelled(ctx, jobID)
		}
	}
	if ended && c.expired {
		late = w.pool.timedOut(jobID, timeout)
	}
	if late != nil && w.abandon(c) {
		return nil, false, late
	}
	if !ended {
		<-c.done // it was just answered
	}
	output, err = c.output, c.err
	if err != nil && faas.CodeOf(err) == faas.ErrFunctionFailed && !time.Now().Before(c.deadline) {
		err = w.pool.timedOut(jobID, timeout) // the job saw its deadline first
	}
	c.output, c.err = nil, nil
	calls.Put(c)
	return output, true, err
}

// finished gives back the place of an abandoned call.
func (w *warm) finished(c *call) {
	c.output, c.err = nil, nil
	calls.Put(c)
	w.pool.release(w, false, time.Now())
}

// retire tells a process without calls to end. Call it after unroute.
func (w *warm) retire() {
	w.ending.Store(true)
	w.mu.Lock()
	w.broken = true
	w.mu.Unlock()
	_ = w.stdin.Close()
	time.AfterFunc(w.grace, w.kill)
}

// milliseconds rounds up, so that the process never sees its deadline before the host does.
func milliseconds(d time.Duration) uint32 {
	return uint32(min(max((d+time.Millisecond-1)/time.Millisecond, 1), 1<<32-1))
}

func orDefault(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
