package worker

import (
	"context"
	"errors"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Stats describes the state of a pool.
type Stats struct {
	Workers  int // warm processes that take calls
	Running  int // calls
	Waiting  int // calls
	Starts   uint64
	Total    uint64    // calls that a process was given
	LastCall time.Time // when a process was last given a call
	LastInit time.Duration
	Waited   time.Duration // of all calls together, for their turn or for a start
	// Failures counts processes in a row that failed to start, crashed or answered garbage, without an
	// answered call between.
	Failures  int
	LastError error
	PeakMB    uint32 // of the processes that run now
	PIDs      []int  // of the processes that run now
}

// Stats returns the pool's present state.
func (p *Pool) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{
		Workers: len(p.workers), Running: p.inflight, Waiting: len(p.waiters), Starts: p.starts, Total: p.total,
		LastCall: p.lastCall,
		LastInit: p.lastInit, Failures: int(p.failures.Load()), LastError: p.lastError,
		Waited: time.Duration(p.waited.Load()),
	}
	if p.cfg.Runner && p.starting > 0 && time.Since(p.since) > longLife {
		s.Failures = 0 // the runner works without a hello
	}
	for proc := range p.all {
		s.PeakMB = max(s.PeakMB, proc.peakMB())
		s.PIDs = append(s.PIDs, proc.pid)
	}
	return s
}

func (p *Pool) errorf(code faas.Code, jobID int64, op, format string, args ...any) *faas.Error {
	e := faas.Errorf(code, op, p.cfg.Provider, format, args...)
	e.JobID = jobID
	return e
}

func (p *Pool) functionError(jobID int64, cause *faas.FunctionError, notRun bool) *faas.Error {
	return &faas.Error{Op: "invoke", Provider: p.cfg.Provider, JobID: jobID, Code: faas.ErrFunctionFailed, NotRun: notRun,
		Err: cause}
}

func (p *Pool) timedOut(jobID uint32, timeout time.Duration) *faas.Error {
	return p.errorf(faas.ErrTimeout, int64(jobID), "invoke",
		"the job did not answer within its timeout of %v and was stopped", timeout)
}

func (p *Pool) cancelled(ctx context.Context, jobID uint32) *faas.Error {
	return p.errorf(faas.ErrTimeout, int64(jobID), "invoke", "the caller gave the call up: %w", context.Cause(ctx))
}

func (p *Pool) noRoom(jobID, size int64) *faas.Error {
	if size > p.cfg.Budget.limit {
		return p.errorf(faas.ErrTooLarge, jobID, "invoke",
			"the answer takes %d bytes of memory, and all large answers together may take %d", size, p.cfg.Budget.limit)
	}
	return p.errorf(faas.ErrThrottled, jobID, "invoke", "the job has run and its answer is lost: %w", errNoRoom)
}

func (p *Pool) closedError() *faas.Error {
	e := p.errorf(faas.ErrUnavailable, faas.NoJob, "invoke", "%w", ErrClosed)
	e.NotRun = true
	return e
}

func (p *Pool) stoppedError() *faas.Error {
	return p.errorf(faas.ErrUnavailable, faas.NoJob, "invoke", "the function was stopped while the job ran")
}

func notRun(e *faas.Error) *faas.Error {
	e.NotRun = true
	return e
}

// withJob returns err for the job. It changes a copy, because calls that failed together share an
// error.
func withJob(err error, jobID uint32) error {
	var e *faas.Error
	if err == nil || !errors.As(err, &e) || e.JobID != faas.NoJob {
		return err
	}
	c := *e
	c.JobID = int64(jobID)
	return &c
}
