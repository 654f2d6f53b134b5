package worker

import (
	"context"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Resident keeps one process running that takes no calls here: a runner that does its own work. It
// restarts the process with capped exponential back-off whenever it ends. The standard input of the
// process stays open and empty. Its standard output and standard error go to Config.Log.
type Resident struct {
	cfg  Config
	host *Host

	stop chan struct{} // closed by Close
	done chan struct{} // closed when nothing is left

	mu      sync.Mutex
	running *process // nil while it waits for a restart
	last    error    // how the process last ended
	ends    int      // in a row, without a long life between
	closing bool
}

// StartResident starts the process. The error says that it could not be started at all; Health
// tells about later ends. StartResident uses Path, Args, Env, Dir, TempDir, MemoryMB, Grace, Log,
// Logger, Host and Provider of the configuration. Host must not be nil.
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
		r.cfg.endStrays() // its remains must not meet the next process
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

// ended records the end of the process, and reports whether to restart it.
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

// end asks the process to end, and kills it after the grace time.
func (r *Resident) end(proc *process) {
	_ = proc.stdin.Close() // a runner may watch its input instead of the signal
	proc.terminate()
	timer := time.NewTimer(r.cfg.Grace)
	defer timer.Stop()
	select {
	case <-proc.exited:
	case <-timer.C:
		proc.kill()
	}
}

// Health reports whether the process runs and, if it does not or keeps ending, how it last ended.
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

// crashLoop is how many ends in a row, none after a long life, make a process unhealthy even while
// it runs.
const crashLoop = 3

// Close ends the process: gracefully within Config.Grace and until ctx is done, then by force. It
// returns when nothing is left. It is idempotent.
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
