package platform

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/cgroup"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

// providerName is the provider that the platform's errors name.
const providerName = "platform"

// Platform deploys and runs functions. It is an [http.Handler]. All methods are safe for concurrent
// use.
type Platform struct {
	opts    options
	store   *store
	host    *worker.Host
	cgroups *cgroup.Root // nil: none
	users   *users       // nil: functions run as the program's
	token   tokenHash

	closing  context.Context // done when Close begins
	close    context.CancelFunc
	stopping context.Context // done when Close begins to cut calls off
	cutOff   context.CancelFunc
	draining sync.WaitGroup // of pools whose function was replaced or removed

	shutdowns shutdowns // of servers

	changes keyedMutex // one change of a function at a time
	deleted deletions

	buffered *worker.Budget // of large HTTP requests, and of answers
	life     sync.RWMutex   // read-locked by changes, so that Close waits for them

	mu        sync.RWMutex
	functions map[string]*function
	closed    bool
	closeOnce sync.Once
	closeErr  error
}

// New makes a platform. With [WithDir], it brings back the functions in that directory. The caller
// must close the platform. Errors: ErrInvalidArgument for an invalid option, ErrConflict if another
// platform uses the directory, ErrInternal if the directory cannot be used.
func New(opts ...Option) (*Platform, error) {
	var o options
	for _, opt := range opts {
		if opt != nil {
			opt(&o)
		}
	}
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	st, err := openStore(o.dir)
	if err != nil {
		return nil, err
	}
	identities := newUsers(o.users)
	if err := st.admitUsers(identities); err != nil {
		return nil, errors.Join(err, st.close())
	}
	p := &Platform{opts: o, buffered: worker.NewBudget(int64(o.limits.MaxBufferedMB) << 20), store: st, users: identities,
		token: hashToken(o.token), functions: map[string]*function{}}
	p.opts.token = "" // so that printing the platform does not show it
	p.closing, p.close = context.WithCancel(context.Background())
	p.stopping, p.cutOff = context.WithCancel(context.Background())
	err = p.openHost()
	if err == nil {
		err = p.bringBack()
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// bringBack makes the functions in the directory. Their first calls start the processes.
func (p *Platform) bringBack() error {
	records, err := p.store.load()
	if err != nil {
		return err
	}
	for _, rec := range records {
		f, err := p.newFunction(rec)
		if err != nil {
			p.opts.logger.Error("a stored function cannot be brought back", "function", rec.ID, "error", err)
			f = &function{record: rec, broken: err, counts: &counts{}, log: p.logOf(rec.ID)}
		}
		p.functions[rec.ID] = f
	}
	return nil
}

// MemoryLimitKind says in words how this system limits the memory of functions.
func (p *Platform) MemoryLimitKind() string { return p.host.MemoryLimitKind() }

// Server returns an HTTP server for the platform, with time limits against deliberately slow
// clients. The caller sets Addr and TLS as needed, serves what [Platform.Listen] returns, and shuts
// the server down before it closes the platform. Shutting down ends requests that follow logs, and
// uploads that are still arriving, at once, with this server or any other.
func (p *Platform) Server() *http.Server {
	l := p.opts.limits
	return &http.Server{
		Handler: p,
		// An upload may take its time, and a call may wait for as long as it may then run.
		WriteTimeout:      l.UploadTimeout + 2*time.Duration(l.MaxTimeoutSecs)*time.Second + time.Minute,
		ReadHeaderTimeout: p.opts.limits.ReadHeaderTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxConfigHeader + 64<<10,
		BaseContext: func(l net.Listener) context.Context {
			if err := p.checkListener(l); err != nil {
				p.opts.logger.Error("the platform is served where it refuses everybody", "error", err)
			}
			return context.Background()
		},
	}
}

// Close refuses further calls, waits up to the drain timeout for running ones, ends every process,
// and removes the directory if it is temporary. It is idempotent. The error says what could not be
// ended or removed.
func (p *Platform) Close() error {
	p.closeOnce.Do(func() {
		p.mu.Lock()
		p.closed = true
		functions := p.functions
		p.functions = map[string]*function{}
		p.mu.Unlock()
		p.close()
		timer := time.AfterFunc(p.opts.drainTimeout, p.cutOff)
		defer timer.Stop()
		defer p.cutOff()
		p.life.Lock()   // changes under way end first, later ones see that the platform is closed
		p.life.Unlock() //lint:ignore SA2001 to have been locked is all that is wanted
		var mu sync.Mutex
		var errs []error
		for _, f := range functions {
			p.draining.Go(func() {
				f.log.ring.Close()
				if err := f.stop(p.stopping); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				}
			})
		}
		p.draining.Wait()
		p.host.Close()
		errs = append(errs, p.cgroups.Close())
		p.closeErr = errors.Join(append(errs, p.store.close())...)
	})
	return p.closeErr
}

// function is one deployed function. It is immutable: its replacement is another function that
// takes over the counts.
type function struct {
	record
	frames  bool
	pool    *worker.Pool
	work    workDir // removed at the end
	release func()  // gives the function's user back
	broken  error   // why a stored function could not be brought back; pool is nil then
	counts  *counts
	log     *functionLog // outlives a replacement, as the counts do
}

// counts survive a replacement.
type counts struct {
	total    atomic.Uint64
	last     atomic.Int64  // Unix nanoseconds, 0 for never
	restores atomic.Uint64 // how often the function was put back, or asked to be
	calls    callCounts
	pools    poolCounts
}

func (c *counts) lastTime() (t time.Time) {
	if ns := c.last.Load(); ns != 0 {
		t = time.Unix(0, ns).UTC()
	}
	return t
}

// stop ends the function's processes, and removes what they left in their directory. Running calls
// may continue until ctx is done.
func (f *function) stop(ctx context.Context) error {
	if f.pool == nil {
		return nil
	}
	err := f.pool.Close(ctx)
	f.counts.pools.end(f.pool)
	_ = os.RemoveAll(f.work.path) // what is left of it goes at the next start
	f.release()
	return err
}

// newFunction makes a function of a record whose package is in the store.
func (p *Platform) newFunction(rec record) (*function, error) {
	dir := p.store.packageDir(rec.PackageSHA256)
	path := filepath.Join(dir, bootstrap)
	bin, err := faas.InspectExecutable(path)
	if err == nil {
		err = checkRunnable(bin)
	}
	if err == nil {
		err = checkInterpreter(bin, rec.Config.Env)
	}
	if err != nil {
		return nil, namingOnly(bootstrap, path, err)
	}
	work, err := p.store.newWorkDir(rec.ID, dir)
	if err != nil {
		return nil, err
	}
	user, release, err := p.users.assign(rec.PackageSHA256, dir, work)
	if err != nil {
		_ = os.RemoveAll(work.path)
		return nil, err
	}
	f := &function{record: rec, work: work, release: release, frames: bin.Protocols == faas.SpeaksAll, counts: &counts{},
		log: p.logOf(rec.ID)}
	env := make([]string, 0, len(rec.Config.Env))
	for name, value := range rec.Config.Env {
		env = append(env, name+"="+value)
	}
	slices.Sort(env)
	concurrency := int(rec.Config.MaxConcurrency)
	setDefault(&concurrency, DefaultMaxConcurrency)
	logger := p.opts.logger.With("function", rec.ID)
	f.pool, err = worker.New(worker.Config{
		Path: path, Dir: work.task, TempDir: work.temp(), Env: env, Confinement: p.confine(&rec.Config, user),
		Frames: f.frames, MemoryMB: rec.Config.MemoryMB, MaxConcurrency: concurrency,
		MaxQueue: p.opts.maxQueue, MaxWorkers: max(p.opts.maxWorkers, int(rec.KeepWarm)), MinWorkers: int(rec.KeepWarm),
		IdleTimeout: p.opts.idleTimeout, StartTimeout: p.opts.startTimeout,
		MaxOutput: int64(p.opts.limits.MaxPayloadMB) << 20, Budget: p.buffered, SpoolDir: p.store.uploads(),
		Log: f.log.add, Ended: f.log.end, Logger: logger, Host: p.host, Provider: providerName,
	})
	if err != nil {
		_ = os.RemoveAll(work.path)
		release()
		return nil, err
	}
	f.counts.pools.begin(f.pool)
	return f, nil
}

func (f *function) timeout() time.Duration { return time.Duration(f.Config.TimeoutSecs) * time.Second }

// lookup returns a deployed function or an ErrNotFound.
func (p *Platform) lookup(op, id string) (*function, error) {
	p.mu.RLock()
	f, closed := p.functions[id], p.closed
	p.mu.RUnlock()
	switch {
	case f != nil:
		return f, nil
	case closed:
		return nil, notRunError(faas.ErrUnavailable, op, "the platform is closed")
	}
	if err := checkID(id); err != nil {
		return nil, err
	}
	return nil, notRunError(faas.ErrNotFound, op, "there is no function %q", id)
}

func notRunError(code faas.Code, op, format string, args ...any) *faas.Error {
	e := faas.Errorf(code, op, providerName, format, args...)
	e.NotRun = true
	return e
}

// list returns the functions of a service, or all if service is empty, by ascending id.
func (p *Platform) list(service string) []*function {
	p.mu.RLock()
	defer p.mu.RUnlock()
	var list []*function
	for _, f := range p.functions {
		if service == "" || f.Service == service {
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(a, b *function) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// drain ends a function that can no longer be called, once its calls have ended, and then releases
// its package.
func (p *Platform) drain(f *function) <-chan struct{} {
	done := make(chan struct{})
	p.draining.Go(func() {
		defer close(done)
		if err := f.stop(p.stopping); err != nil {
			p.opts.logger.Warn("calls of a removed function were cut off", "function", f.ID, "error", err)
		}
		p.forget(&f.record)
	})
	return done
}

// Dir returns the directory that holds the functions.
func (p *Platform) Dir() string { return p.store.dir }
