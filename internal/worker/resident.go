package worker

import (
	"context"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Resident keeps one process running that takes no calls here: a runner that does its own work. It is started again, with capped exponential
// back-off, whenever it ends. Its standard input stays open and empty; what it writes to standard output and standard error goes to Config.Log.
type Resident struct {
	cfg  Config
	host *Host

	stop chan struct{} // closed by Close
	done chan struct{} // closed when nothing is left

	mu      sync.Mutex
	running *process // nil while it waits to be started again
	last    error    // how it last ended
	ends    int      // one after another without a long life between
	closing bool
}

// StartResident starts the process. The error is for when it could not be started at all; that it ends later is told by Health. Of the
// configuration it uses Path, Args, Env, Dir, TempDir, MemoryMB, Grace, Log, Logger, Host and Provider; Host must not be nil.
func StartResident(cfg Config) (*Resident, error) {
	if err := cfg.setDefaults(); err != nil {
		return nil, err
	}
	cfg.Host.guard.mark(cfg.Mark)
	r := &Resident{cfg: cfg, host: cfg.Host, stop: make(chan struct{}), done: make(chan struct{})}
	proc, logged, err := r.start()
	if err != nil {
		r.host.guard.unmark(cfg.Mark)
		return nil, faas.Errorf(faas.ErrInvalidArgument, "start", cfg.Provider, "%s: %w", cfg.Path, err)
	}
	go r.supervise(proc, logged)
	return r, nil
}

func (r *Resident) start() (*process, chan struct{}, error) {
	proc, err := startProcess(r.host, &r.cfg)
	if err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	r.running = proc
	r.mu.Unlock()
	logged := make(chan struct{})
	go func() {
		defer close(logged)
		(&lineReader{pid: proc.pid, log: r.cfg.Log}).readLines(proc.stdout)
		_ = proc.stdout.Close() // nothing more is read
	}()
	return proc, logged, nil
}

func (r *Resident) supervise(proc *process, logged chan struct{}) {
	defer close(r.done)
	defer r.host.endPool(&r.cfg)
	for {
		began := time.Now()
		select {
		case <-proc.exited:
		case <-r.stop:
			r.end(proc)
		}
		<-proc.exited
		_ = proc.stdin.Close()
		<-logged
		if !r.ended(proc, time.Since(began)) {
			return
		}
		r.cfg.endStrays() // what this one has left is not to meet the next
		for {
			r.mu.Lock()
			wait := min(100*time.Millisecond<<min(r.ends-1, 10), maxBackoff)
			r.mu.Unlock()
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-r.stop:
				timer.Stop()
				return
			}
			var err error
			if proc, logged, err = r.start(); err == nil {
				break
			}
			r.mu.Lock()
			r.last = err
			r.ends++
			r.mu.Unlock()
		}
	}
}

// ended takes note of the end of the process, and reports whether it is to be started again.
func (r *Resident) ended(proc *process, life time.Duration) bool {
	cause := proc.failure()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running = nil
	if r.closing {
		return false
	}
	if life > longLife {
		r.ends = 0
	}
	r.ends++
	r.last = cause
	r.cfg.Logger.Warn("runner ended and is started again", "path", r.cfg.Path, "pid", proc.pid, "reason", cause.Message,
		"exit_code", cause.ExitCode, "ended_in_a_row", r.ends)
	return true
}

// end asks the process to end, and kills it if it does not within the grace time.
func (r *Resident) end(proc *process) {
	_ = proc.stdin.Close() // the signal is what counts; a runner may watch its input too
	proc.terminate()
	timer := time.NewTimer(r.cfg.Grace)
	defer timer.Stop()
	select {
	case <-proc.exited:
	case <-timer.C:
		proc.kill()
	}
}

// Health reports whether the process runs and, if not or if it keeps ending, how it last ended.
func (r *Resident) Health() (healthy bool, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closing:
		return false, "it was stopped"
	case r.running == nil, r.ends >= crashLoop:
		return false, "it keeps ending; last: " + r.last.Error()
	}
	return true, ""
}

// crashLoop is how many ends in a row, none after a long life, make a process unhealthy even while it happens to run.
const crashLoop = 3

// Close ends the process, gracefully within Config.Grace and until ctx is done, then by force, and returns when nothing is left. It is idempotent.
func (r *Resident) Close(ctx context.Context) error {
	r.mu.Lock()
	if !r.closing {
		r.closing = true
		close(r.stop)
	}
	r.mu.Unlock()
	select {
	case <-r.done:
	case <-ctx.Done():
		r.mu.Lock()
		proc := r.running
		r.mu.Unlock()
		if proc != nil {
			proc.kill()
		}
		<-r.done
	}
	return nil
}
