package worker

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Pool runs one job binary. Its methods are safe for concurrent use.
type Pool struct {
	cfg     Config
	host    *Host
	ownHost bool

	wg     sync.WaitGroup // of all goroutines
	closed chan struct{}  // closed when no more calls are taken

	failures atomic.Int32 // failed starts and processes in a row
	stopped  atomic.Bool  // running calls were cut off
	waited   atomic.Int64 // nanoseconds
	plain    atomic.Bool  // the runner knows no offers, so frames are asked for

	mu        sync.Mutex
	undead    []*process // killed, but not ended
	workers   []*warm    // to which calls are routed
	all       map[*process]bool
	starting  int
	started   chan struct{} // closed and replaced when a start has ended
	capacity  int           // of the last process that said hello
	apart     bool          // the starting runner has said something other than hello
	since     time.Time     // when the runner was started
	inflight  int
	waiters   []*waiter
	closing   bool
	drained   chan struct{} // closed when the pool closes and inflight is 0
	restart   *time.Timer   // of a process below MinWorkers
	reaper    *time.Timer
	lastError error
	total     uint64
	lastCall  time.Time
	starts    uint64
	lastInit  time.Duration
}

// waiter is a call that waits for a place.
type waiter struct {
	ready chan struct{}
	w     *warm
	cold  bool
	err   error
}

// ErrClosed is the cause of the ErrUnavailable of calls after [Pool.Close]. They did not run.
var ErrClosed = errors.New("the function is stopped")

// New returns a pool. Calls and Warm start processes, and New starts MinWorkers of them.
func New(cfg Config) (*Pool, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	if !cfg.Frames { // a process for one call must not become a second runner
		cfg.Env = slices.DeleteFunc(slices.Clone(cfg.Env),
			func(kv string) bool { return strings.HasPrefix(kv, faas.RunnerConfigEnv+"=") })
	}
	p := &Pool{cfg: cfg, host: cfg.Host, closed: make(chan struct{}), drained: make(chan struct{}),
		started: make(chan struct{}), all: map[*process]bool{}}
	if p.host == nil {
		p.host, p.ownHost = NewHost(), true
	}
	p.host.guard.mark(p.cfg.Mark)
	p.host.addPool(p)
	p.mu.Lock()
	p.maintain()
	p.mu.Unlock()
	return p, nil
}

// Invoke runs the job once with args, for at most timeout, and returns its answer. Errors are
// *faas.Error with the codes that faas.Invoker names. A call that waits for its turn longer than
// timeout is an ErrThrottled.
func (p *Pool) Invoke(ctx context.Context, jobID uint32, args []byte, timeout time.Duration) ([]byte, faas.Metrics,
	error) {
	for attempt := 1; ; attempt++ {
		w, cold, began, err := p.acquire(ctx, jobID, timeout)
		if err != nil {
			return nil, faas.Metrics{}, withJob(err, jobID)
		}
		if w == nil {
			output, m, err := p.runOnce(ctx, jobID, args, timeout)
			p.release(nil, true, time.Now())
			return output, m, withJob(err, jobID)
		}
		output, held, err := w.invoke(ctx, jobID, args, began, timeout)
		now := time.Now()
		m := faas.Metrics{Execution: now.Sub(began), MemoryMB: w.peakMB()}
		if cold {
			m.ColdStart, m.Init = true, w.init
		}
		if held {
			p.release(w, true, now)
		} else {
			p.release(nil, true, now)
		}
		if errors.Is(err, errNotRun) {
			if attempt < 3 {
				continue
			}
			e := p.errorf(faas.ErrUnavailable, int64(jobID), "invoke", "%w, %d times", errNotRun, attempt)
			e.NotRun = true
			return nil, m, e
		}
		if err != nil {
			return nil, m, withJob(err, jobID)
		}
		return output, m, nil
	}
}

// acquire takes a place among the running calls and, if the binary speaks frames, one on a warm
// process. It also returns when it got the place.
func (p *Pool) acquire(ctx context.Context, jobID uint32, timeout time.Duration) (w *warm, cold bool, began time.Time,
	err error) {
	if ctx.Err() != nil {
		return nil, false, began, notRun(p.cancelled(ctx, jobID))
	}
	began = time.Now()
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return nil, false, began, p.closedError()
	}
	if len(p.waiters) == 0 && p.inflight < p.cfg.MaxConcurrency {
		if w, cold, ok := p.place(began); ok {
			p.mu.Unlock()
			return w, cold, began, nil
		}
	}
	if p.inflight+len(p.waiters) >= p.cfg.MaxConcurrency+p.cfg.MaxQueue {
		p.mu.Unlock()
		e := p.errorf(faas.ErrThrottled, int64(jobID), "invoke", "%d calls run and %d wait, the limits of this function",
			p.cfg.MaxConcurrency, p.cfg.MaxQueue)
		e.NotRun, e.RetryAfter = true, time.Second
		return nil, false, began, e
	}
	defer func() {
		now := time.Now()
		p.waited.Add(int64(now.Sub(began)))
		began = now
	}()
	wt := &waiter{ready: make(chan struct{})}
	p.waiters = append(p.waiters, wt)
	p.grow()
	p.mu.Unlock()

	timer := time.NewTimer(timeout + p.cfg.StartTimeout)
	defer timer.Stop()
	var late *faas.Error
	select {
	case <-wt.ready:
		return wt.w, wt.cold, began, wt.err
	case <-ctx.Done():
		late = notRun(p.cancelled(ctx, jobID))
	case <-timer.C:
		late = notRun(p.errorf(faas.ErrThrottled, int64(jobID), "invoke", "no place became free within the timeout of %v",
			timeout))
		late.RetryAfter = time.Second
	}
	if p.withdraw(wt) {
		return nil, false, began, late
	}
	<-wt.ready
	if wt.err == nil {
		p.release(wt.w, true, time.Now())
	}
	return nil, false, began, late
}

func (p *Pool) withdraw(wt *waiter) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, other := range p.waiters {
		if other == wt {
			p.waiters = append(p.waiters[:i], p.waiters[i+1:]...)
			return true
		}
	}
	return false
}

// place gives a place to one call, if one is free. mu is held.
func (p *Pool) place(now time.Time) (w *warm, cold, ok bool) {
	if p.cfg.Frames {
		for _, other := range p.workers {
			if other.load < other.capacity && (w == nil || other.load < w.load) {
				w = other
			}
		}
		if w == nil {
			return nil, false, false
		}
		w.load++
		cold, w.starting = w.starting, false
	}
	p.inflight++
	p.total++
	p.lastCall = now
	return w, cold, true
}

// release gives back the place on w, unless w is nil, and the one among the running calls, if
// running.
func (p *Pool) release(w *warm, running bool, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w != nil {
		w.load--
		if w.load == 0 {
			w.idleSince = now
			p.scheduleReaper()
		}
	}
	if running {
		p.inflight--
	}
	if len(p.waiters) > 0 || p.closing {
		p.dispatch()
	}
}

// dispatch gives free places to waiting calls, in order. mu is held.
func (p *Pool) dispatch() {
	for len(p.waiters) > 0 && p.inflight < p.cfg.MaxConcurrency {
		w, cold, ok := p.place(time.Now())
		if !ok {
			p.grow()
			break
		}
		p.admit(w, cold, nil)
	}
	if p.closing && p.inflight == 0 {
		select {
		case <-p.drained:
		default:
			close(p.drained)
		}
	}
}

func (p *Pool) admit(w *warm, cold bool, err error) {
	wt := p.waiters[0]
	p.waiters[0] = nil
	p.waiters = p.waiters[1:]
	wt.w, wt.cold, wt.err = w, cold, err
	close(wt.ready)
}

// grow starts a process if more calls wait than the starting processes will take. mu is held.
func (p *Pool) grow() {
	if !p.cfg.Frames || p.closing || len(p.workers)+p.starting >= p.cfg.MaxWorkers {
		return
	}
	waiting := min(len(p.waiters), p.cfg.MaxConcurrency-p.inflight)
	if waiting > p.starting*max(p.capacity, 1) && (p.capacity > 0 || p.starting == 0) {
		p.start()
	}
}

// start starts one process in the background. mu is held.
func (p *Pool) start() {
	p.starting++
	p.wg.Add(1)
	go func() {
		defer p.wg.Done()
		p.startOne()
	}()
}

// startOne starts a process that was counted as starting, and routes calls to it.
func (p *Pool) startOne() {
	p.mu.Lock()
	p.apart, p.since = false, time.Now()
	p.mu.Unlock()
	w, err := p.startWarm()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting--
	p.starts++
	close(p.started)
	p.started = make(chan struct{})
	if err != nil {
		if p.cfg.Runner && time.Since(p.since) > longLife {
			p.failures.Store(0)
		}
		p.failed(err)
		what := "job process did not start"
		if p.cfg.Runner {
			what = "runner ended and is started again"
		}
		p.cfg.Logger.Warn(what, "path", p.cfg.Path, "error", err)
		if p.starting == 0 && len(p.workers) == 0 {
			for len(p.waiters) > 0 {
				p.admit(nil, false, err)
			}
		}
		p.maintain()
		return
	}
	p.lastInit, p.capacity = w.init, w.capacity
	w.idleSince = time.Now()
	if p.closing || !w.routable {
		w.routable = false
		go w.retire()
		return
	}
	p.workers = append(p.workers, w)
	p.scheduleReaper()
	p.dispatch()
}
