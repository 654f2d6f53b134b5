package worker

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Warm makes sure that n warm processes, but at most MaxWorkers, are started, and returns how many
// run. A binary that does not speak frames has none.
func (p *Pool) Warm(ctx context.Context, n int) (int, error) {
	if !p.cfg.Frames {
		return 0, nil
	}
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return 0, p.closedError()
	}
	want := min(n, p.cfg.MaxWorkers)
	for missing := want - len(p.workers) - p.starting; missing > 0; missing-- {
		p.start()
	}
	for {
		started, have := p.started, len(p.workers)
		if have >= want || p.starting == 0 || p.closing {
			err := p.lastError
			p.mu.Unlock()
			if have >= want {
				err = nil
			}
			return have, err
		}
		p.mu.Unlock()
		select {
		case <-started:
		case <-ctx.Done():
			return have, p.errorf(faas.ErrTimeout, faas.NoJob, "warm", "%w before the processes were started", ctx.Err())
		}
		p.mu.Lock()
	}
}

// Close takes no more calls, lets running calls end until ctx is done, ends all processes with
// everything that they started, and returns when nothing is left. At the latest it returns some
// seconds after ctx and Config.Grace, with an ErrInternal that names what the system did not end.
// Waiting calls get an ErrUnavailable with NotRun. If calls were cut off, the error is that of ctx.
// Close is idempotent.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	if !p.closing {
		p.closing = true
		close(p.closed)
		for len(p.waiters) > 0 {
			p.admit(nil, false, p.closedError())
		}
		for _, t := range []*time.Timer{p.restart, p.reaper} {
			if t != nil {
				t.Stop()
			}
		}
		p.dispatch()
	}
	p.mu.Unlock()

	var cut error
	select {
	case <-p.drained:
	case <-ctx.Done():
		select {
		case <-p.drained:
		default:
			cut = p.errorf(faas.ErrTimeout, faas.NoJob, "stop", "calls still ran and were cut off: %w", ctx.Err())
		}
	}
	p.stopped.Store(true)
	p.host.removePool(p)
	p.mu.Lock()
	workers := p.workers
	p.workers = nil
	for _, w := range workers {
		w.routable = false
	}
	running := make([]*process, 0, len(p.all))
	for proc := range p.all {
		running = append(running, proc)
	}
	p.mu.Unlock()
	for _, w := range workers {
		w.retire()
	}
	for _, proc := range running {
		switch {
		case cut == nil && p.cfg.Runner:
			p.wg.Go(func() { proc.endRunner(ctx) })
		case cut != nil || proc.starting.Load():
			proc.kill()
		}
	}
	<-p.drained // cut-off calls see the end of their process
	p.wg.Wait()
	left := p.host.endPool(&p.cfg)
	if p.ownHost {
		p.host.Close()
	}
	return errors.Join(cut, p.notEnded(left))
}

// notEnded returns an error if a killed process has not ended.
func (p *Pool) notEnded(strays int) error {
	p.mu.Lock()
	undead := p.undead
	p.undead = nil
	p.mu.Unlock()
	pids := []int{}
	for _, proc := range undead {
		if !proc.collect() {
			pids = append(pids, proc.pid)
		}
	}
	if strays == 0 && len(pids) == 0 {
		return nil
	}
	return p.errorf(faas.ErrInternal, faas.NoJob, "stop",
		"the system has not ended what was killed %v ago: processes %v, and %d more that they had started", endWait, pids,
		strays)
}

// unroute sends no more calls to w.
func (p *Pool) unroute(w *warm) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.routable = false
	if i := slices.Index(p.workers, w); i >= 0 {
		p.workers = slices.Delete(p.workers, i, i+1)
		p.grow()
	}
}

// longLife is how long a process lives until its end is no longer part of a crash loop.
const longLife = 30 * time.Second

// ended records the end of a process.
func (p *Pool) ended(w *warm, cause *faas.FunctionError) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(w.process)
	if !w.ending.Load() && !p.closing {
		if time.Since(w.began) > longLife {
			p.failures.Store(0)
		}
		p.failed(p.functionError(faas.NoJob, cause, false))
		p.tellEnd(w.pid, cause)
		p.cfg.Logger.Warn("job process ended", "path", p.cfg.Path, "pid", w.pid, "reason", cause.Message)
	}
	p.dispatch()
	p.maintain()
}

// tellEnd reports how a process ended.
func (p *Pool) tellEnd(pid int, cause *faas.FunctionError) {
	how := cause.Message
	if cause.ExitCode != 0 {
		how += " (exit code " + strconv.Itoa(cause.ExitCode) + ")"
	}
	p.tell(pid, how)
}

func (p *Pool) tell(pid int, how string) {
	if p.cfg.Ended != nil {
		p.cfg.Ended(pid, how)
	}
}

// failed counts a failure of a process, not of a job. mu is held.
func (p *Pool) failed(err error) {
	p.failures.Add(1)
	p.lastError = err
}

// note records how a process that ran one call ended.
func (p *Pool) note(err error) {
	var cause *faas.FunctionError
	if err == nil || (errors.As(err, &cause) && cause.Type == "") {
		p.failures.Store(0)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed(err)
}

// maxBackoff is the longest wait before a process that keeps ending is restarted.
const maxBackoff = 30 * time.Second

// maintain starts the processes that MinWorkers lacks: at once or, if the last one failed, after a
// back-off. mu is held.
func (p *Pool) maintain() {
	if p.closing || p.restart != nil || !p.cfg.Frames {
		return
	}
	missing := p.cfg.MinWorkers - len(p.workers) - p.starting
	if missing <= 0 {
		return
	}
	if failures := p.failures.Load(); failures > 0 {
		wait := min(100*time.Millisecond<<min(failures-1, 10), maxBackoff)
		p.restart = time.AfterFunc(wait, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.restart = nil
			if !p.closing && len(p.workers)+p.starting < p.cfg.MinWorkers {
				p.start()
			}
		})
		return
	}
	for range missing {
		p.start()
	}
}

// scheduleReaper ends idle processes when their time comes. mu is held.
func (p *Pool) scheduleReaper() {
	if p.cfg.IdleTimeout <= 0 || p.reaper != nil || p.closing || len(p.workers) <= p.cfg.MinWorkers {
		return
	}
	p.reaper = time.AfterFunc(p.cfg.IdleTimeout, p.reapIdle)
}

func (p *Pool) reapIdle() {
	p.mu.Lock()
	p.reaper = nil
	var idle []*warm
	for i := len(p.workers) - 1; i >= 0 && len(p.workers) > p.cfg.MinWorkers && !p.closing; i-- {
		w := p.workers[i]
		if w.load == 0 && time.Since(w.idleSince) >= p.cfg.IdleTimeout {
			w.routable = false
			p.workers = slices.Delete(p.workers, i, i+1)
			idle = append(idle, w)
		}
	}
	p.scheduleReaper()
	p.mu.Unlock()
	for _, w := range idle {
		w.retire()
	}
}

// track tells Close about the process. A process that starts too late for that is killed.
func (p *Pool) track(proc *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all[proc] = true
	if p.stopped.Load() {
		proc.kill()
	}
}

// untrack forgets a process that has exited.
func (p *Pool) untrack(proc *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(proc)
}

// forget is untrack with mu held.
func (p *Pool) forget(proc *process) {
	delete(p.all, proc)
	if proc.undead {
		p.undead = append(p.undead, proc)
		p.cfg.Logger.Error("a job process that was killed does not end", "path", p.cfg.Path, "pid", proc.pid)
	}
}
