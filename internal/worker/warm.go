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

// warm is a process that speaks frames. Any number of calls, up to its capacity, are in flight on it.
type warm struct {
	*process
	pool     *Pool
	capacity int
	began    time.Time
	init     time.Duration // from the start of the process to its Hello
	starting bool          // the first call on it is a cold start; guarded by pool.mu
	ending   atomic.Bool   // it was told to end

	// Guarded by pool.mu.
	load      int // calls that hold a place, abandoned ones too
	idleSince time.Time
	routable  bool

	mu        sync.Mutex
	nextID    uint64
	pending   map[uint64]*call
	abandoned int    // of pending: nobody waits for them any more
	out       []byte // frames to be written
	outCalls  []outCall
	spare     []byte
	unread    int  // bytes of frames that the process may not have read yet
	writing   bool // someone writes: a caller, or the writer goroutine
	broken    bool // no more frames can be sent
	condemned bool // to be killed as soon as nobody waits for it
	wideIn    bool // the process's input was enlarged
	wake      chan struct{}
}

// outCall is a call whose frame is written; nil for a Cancel. The id tells whether the call is still this one.
type outCall struct {
	*call
	id   uint64
	size int
}

// call is one invocation on a warm process.
type call struct {
	id        uint64
	size      int
	started   bool // some of its frame was written
	abandoned bool
	done      chan struct{} // has one place
	output    []byte
	err       error
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// directLimit is how much is written without the writer goroutine. A pipe holds 64 KiB, so that such a write cannot block.
const directLimit = 60 << 10

// largeFrame is from what size on frames are worth larger pipes.
const largeFrame = 256 << 10

// keepBuffer is the largest buffer kept for the next frames.
const keepBuffer = 1 << 20

// errNotRun marks calls that certainly did not start.
var errNotRun = errors.New("the process ended before the call was sent to it")

// startWarm starts a process and waits for its Hello.
func (p *Pool) startWarm() (*warm, error) {
	p.host.makeRoom()
	began := time.Now()
	proc, err := startProcess(p.host, &p.cfg, environment(&p.cfg, frame.Env+"="+frame.Version))
	if err != nil {
		return nil, p.errorf(faas.ErrUnavailable, faas.NoJob, "start", "the job binary cannot be started: %w", err)
	}
	w := &warm{process: proc, pool: p, began: began, pending: map[uint64]*call{}, wake: make(chan struct{}, 1), starting: true, routable: true}
	w.busy.Add(1)
	proc.starting.Store(true)
	p.track(proc)
	_ = proc.stdout.SetReadDeadline(began.Add(p.cfg.StartTimeout))
	fr := frame.NewReader(proc.stdout, uint32(min(p.cfg.MaxOutput, frame.MaxBody)))
	hello, err := fr.Next()
	if err == nil && (hello.Kind != frame.Hello || hello.Length != 0) {
		err = fmt.Errorf("%w: the first frame is of kind %d and has %d bytes, not an empty hello", frame.ErrProtocol, hello.Kind, hello.Length)
	}
	w.busy.Add(-1)
	if err != nil {
		err = p.startError(proc, err)
		p.untrack(proc)
		return nil, err
	}
	proc.starting.Store(false)
	w.init = time.Since(began)
	w.capacity = max(int(hello.Value), 1)
	w.checkMemory(false)
	proc.clearReadDeadline()
	p.wg.Add(2)
	go w.read(fr)
	go w.write()
	return w, nil
}

// startError ends a process that did not say hello and says why.
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
	return p.functionError(faas.NoJob, cause, true)
}

// invoke runs one call to its end, or until it is out of time. Unless it returns held, the call keeps its place on the process.
func (w *warm) invoke(ctx context.Context, jobID uint32, args []byte, timeout time.Duration) (output []byte, held bool, err error) {
	c := calls.Get().(*call)
	c.size, c.started, c.abandoned = frame.HeaderSize+len(args), false, false
	began := time.Now()
	if err := w.send(c, jobID, args, timeout); err != nil {
		calls.Put(c)
		return nil, true, err
	}
	timer := getTimer(timeout)
	var late error
	select {
	case <-c.done:
	case <-ctx.Done():
		late = w.pool.cancelled(ctx, jobID)
	case <-timer.C:
		late = w.pool.timedOut(jobID, timeout)
	}
	putTimer(timer)
	if late != nil {
		if w.abandon(c) {
			return nil, false, late
		}
		<-c.done // answered just now
	}
	output, err = c.output, c.err
	c.output, c.err = nil, nil
	calls.Put(c)
	if err != nil && time.Since(began) >= timeout && faas.CodeOf(err) == faas.ErrFunctionFailed {
		err = w.pool.timedOut(jobID, timeout) // the job saw its deadline first
	}
	return output, true, err
}

// finished gives the place of an abandoned call back.
func (w *warm) finished(c *call) {
	c.output, c.err = nil, nil
	calls.Put(c)
	w.pool.release(w, false)
}

// send appends the call's frame (a frame.Writer would not tell which calls had been sent when the process ended)
// and writes it at once where that cannot block and nobody else writes.
func (w *warm) send(c *call, jobID uint32, args []byte, timeout time.Duration) error {
	if len(args) > frame.MaxBody {
		return w.pool.errorf(faas.ErrTooLarge, int64(jobID), "invoke", "the arguments are %d bytes, the limit is %d", len(args), frame.MaxBody)
	}
	w.mu.Lock()
	if w.broken {
		w.mu.Unlock()
		return errNotRun
	}
	if len(args) > largeFrame && !w.wideIn {
		w.wideIn = true
		enlarge(w.stdin)
	}
	w.nextID++
	c.id = w.nextID
	w.pending[c.id] = c
	w.busy.Store(int32(len(w.pending)))
	w.unread += c.size
	w.out = frame.AppendHeader(w.out, frame.Header{
		Length: uint32(len(args)), Kind: frame.Call, ID: c.id, Value: jobID, DeadlineMS: milliseconds(timeout),
	})
	w.out = append(w.out, args...)
	w.outCalls = append(w.outCalls, outCall{c, c.id, c.size})
	if w.writing {
		w.mu.Unlock()
		return nil
	}
	w.writing = true
	if w.unread > directLimit {
		w.mu.Unlock()
		w.wake <- struct{}{}
		return nil
	}
	w.flush()
	more := len(w.out) > 0
	w.writing = more
	w.mu.Unlock()
	if more {
		w.wake <- struct{}{}
	}
	return nil
}

// flush writes what is waiting. It is called with mu held and writing set, and releases mu during the write.
func (w *warm) flush() {
	buf, batch := w.out, w.outCalls
	for _, o := range batch {
		if o.call != nil {
			o.started = true
		}
	}
	w.out, w.outCalls = w.spare[:0], nil
	w.spare = nil
	w.mu.Unlock()
	n, err := w.stdin.Write(buf)
	w.mu.Lock()
	if cap(buf) <= keepBuffer {
		w.spare = buf[:0]
	}
	if err != nil {
		// A call of which nothing was written certainly did not run.
		end := 0
		for _, o := range batch {
			if o.call != nil && w.pending[o.id] == o.call {
				o.started = end < n
			}
			end += o.size
		}
		w.broken = true
		w.pool.unroute(w)
		time.AfterFunc(w.grace, w.kill) // it ends its input while it lives; usually it is ending
	}
	if w.outCalls == nil {
		clear(batch)
		w.outCalls = batch[:0]
	}
}

// write is the writer goroutine: it takes over when frames come faster than one caller can write them.
func (w *warm) write() {
	defer w.pool.wg.Done()
	for {
		select {
		case <-w.wake:
		case <-w.exited:
			return
		}
		w.mu.Lock()
		for len(w.out) > 0 && !w.broken {
			w.flush()
		}
		w.writing = w.broken
		w.mu.Unlock()
	}
}

// abandon gives a call up, unless it has been answered. The process gets the grace to end the call, then it is condemned.
func (w *warm) abandon(c *call) bool {
	w.mu.Lock()
	if w.pending[c.id] != c {
		w.mu.Unlock()
		return false
	}
	id := c.id
	c.abandoned = true
	w.abandoned++
	w.unread += frame.HeaderSize
	if !w.broken {
		w.out = frame.AppendHeader(w.out, frame.Header{Kind: frame.Cancel, ID: id})
		w.outCalls = append(w.outCalls, outCall{size: frame.HeaderSize})
		if !w.writing {
			w.writing = true
			w.wake <- struct{}{}
		}
	}
	w.mu.Unlock()
	time.AfterFunc(w.grace, func() { w.condemn(id) })
	return true
}

// condemn stops routing calls to a process in which an abandoned call still runs. It is killed once no caller waits for it.
func (w *warm) condemn(id uint64) {
	w.mu.Lock()
	_, hung := w.pending[id]
	w.condemned = w.condemned || hung
	w.mu.Unlock()
	if hung {
		w.pool.unroute(w)
		w.endIfCondemned()
	}
}

func (w *warm) endIfCondemned() {
	w.mu.Lock()
	end := w.condemned && len(w.pending) == w.abandoned
	w.mu.Unlock()
	if end {
		w.ending.Store(true)
		w.kill()
	}
}

// retire tells a process that has no calls to end. It is called after unroute.
func (w *warm) retire() {
	w.ending.Store(true)
	w.mu.Lock()
	w.broken = true
	w.mu.Unlock()
	_ = w.stdin.Close()
	time.AfterFunc(w.grace, w.kill)
}

// milliseconds rounds up, so that the process never thinks that its time is over before the host does.
func milliseconds(d time.Duration) uint32 {
	return uint32(min(max((d+time.Millisecond-1)/time.Millisecond, 1), 1<<32-1))
}

func orDefault(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

var timers sync.Pool

func getTimer(d time.Duration) *time.Timer {
	if t, ok := timers.Get().(*time.Timer); ok {
		t.Reset(d)
		return t
	}
	return time.NewTimer(d)
}

func putTimer(t *time.Timer) {
	t.Stop()
	timers.Put(t)
}
