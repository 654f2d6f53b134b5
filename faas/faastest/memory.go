package faastest

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
)

// MemoryProvider is the provider name in the errors of an in-memory cloud, unless WithProvider
// gives another.
const MemoryProvider = "memory"

// Job is what a function of an in-memory cloud does when it is invoked. f is the function as it
// was deployed, environment included. The context ends with f's timeout. An error or a panic
// makes the invocation an ErrFunctionFailed.
type Job func(ctx context.Context, f faas.Function, args []byte) ([]byte, error)

// Cloud is an in-memory provider. It holds the units of any number of services, which are changed
// and invoked through the executors that [Cloud.Executor] and [Cloud.Open] return. It keeps every
// promise of the contract, and every earlier revision of a unit, so that Restore always works.
//
// A Cloud is safe for concurrent use. It starts goroutines only to follow several logs, reads
// time only through package time (so it works under testing/synctest), and needs no closing.
type Cloud struct {
	provider string
	limits   faas.Limits
	sizes    faas.MemorySizes
	job      Job
	latency  time.Duration
	grouped  bool
	noList   bool
	script   script
	throttle throttle

	mu        sync.Mutex
	units     map[string]*memoryUnit
	packages  map[string]bool             // hex SHA-256 of every package uploaded
	history   map[string][]memoryRevision // of every unit that ever was
	revisions int
	calls     map[Op]int
	uploads   int
	writing   int
	peak      int
}

type memoryUnit struct {
	service  string
	rev      memoryRevision
	status   faas.Status
	reason   string
	changing bool
	running  map[uint32]int // invocations at this moment, by job
	total    map[uint32]uint64
	last     map[uint32]time.Time
	id       string
	logs     map[uint32]*logs.Ring
}

// memoryRevision is the content of a unit at one time.
type memoryRevision struct {
	number      int
	functions   []faas.Function
	sha256      string
	fingerprint string
	at          time.Time
}

// MemoryOption is an option of [NewMemory].
type MemoryOption func(*Cloud)

// WithJob sets what the functions do when they are invoked. The default is the jobs of
// [JobBinary].
func WithJob(job Job) MemoryOption { return func(c *Cloud) { c.job = job } }

// WithProvider sets the provider name that errors carry.
func WithProvider(name string) MemoryOption { return func(c *Cloud) { c.provider = name } }

// WithLimits sets the limits that Units and Invoke enforce. The default is 10,240 MiB, 900 s and
// 6 MiB.
func WithLimits(l faas.Limits) MemoryOption { return func(c *Cloud) { c.limits = l } }

// WithLatency makes every call take at least d, and a Converge twice that.
func WithLatency(d time.Duration) MemoryOption { return func(c *Cloud) { c.latency = d } }

// WithWriteThrottle answers ErrThrottled, with RetryAfter, to calls of Converge, Restore and
// Remove beyond perSecond in a second.
func WithWriteThrottle(perSecond int) MemoryOption {
	return func(c *Cloud) { c.throttle.every, c.throttle.burst = time.Second/time.Duration(perSecond), perSecond }
}

// WithScript injects faults.
func WithScript(s Script) MemoryOption { return func(c *Cloud) { c.script.decide = s } }

// WithOneUnit makes all functions of a service one unit, as on providers that deploy an app at a
// time.
func WithOneUnit() MemoryOption { return func(c *Cloud) { c.grouped = true } }

// WithoutList makes List an ErrUnsupported.
func WithoutList() MemoryOption { return func(c *Cloud) { c.noList = true } }

// NewMemory returns an in-memory cloud that holds nothing yet.
func NewMemory(opts ...MemoryOption) *Cloud {
	c := &Cloud{
		provider: MemoryProvider, limits: faas.Limits{MaxMemoryMB: 10240, MaxTimeoutSecs: 900, MaxPayloadMB: 6},
		sizes: faas.MemorySizes{Min: 128, Step: 1},
		job:   RunJob, units: map[string]*memoryUnit{}, packages: map[string]bool{}, history: map[string][]memoryRevision{},
		calls: map[Op]int{},
	}
	for _, opt := range opts {
		if opt != nil {
			opt(c)
		}
	}
	return c
}

// Info returns what to pass to faas.Register to make the cloud a provider that faas.Open finds.
func (c *Cloud) Info() faas.ProviderInfo {
	return faas.ProviderInfo{Limits: c.limits, MemorySizes: c.sizes, AtomicUpdate: true, Open: c.Open}
}

// Open returns an executor bound to cfg.Service.
func (c *Cloud) Open(_ context.Context, cfg faas.Config) (faas.Executor, error) {
	if cfg.Service == "" {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "open", c.provider, "the service name is empty")
	}
	return c.Executor(cfg.Service), nil
}

// Executor returns an executor bound to the service.
func (c *Cloud) Executor(service string) *MemoryExecutor {
	return &MemoryExecutor{cloud: c, service: service}
}

// Calls returns how often a method was called, by all executors together, failed calls included.
func (c *Cloud) Calls(op Op) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[op]
}

// Uploads returns how many packages were uploaded.
func (c *Cloud) Uploads() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.uploads
}

// PeakWrites returns the largest number of Converge, Restore and Remove calls that were under way
// at one time.
func (c *Cloud) PeakWrites() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peak
}

// Units returns the IDs of all units of all services, sorted.
func (c *Cloud) Units() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.units))
}

// Functions returns the deployed functions of a unit, environment included, or nil if the unit
// does not exist.
func (c *Cloud) Functions(unitID string) []faas.Function {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u := c.units[unitID]; u != nil {
		return slices.Clone(u.rev.functions)
	}
	return nil
}

// Break makes a unit StatusFailed, as a failure at the provider would.
func (c *Cloud) Break(unitID, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u := c.units[unitID]; u != nil {
		u.status, u.reason = faas.StatusFailed, reason
	}
}

// Delete removes a unit, as a person might by hand.
func (c *Cloud) Delete(unitID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop(unitID)
}

// drop removes a unit, if it exists. The caller holds the lock.
func (c *Cloud) drop(unitID string) {
	if u := c.units[unitID]; u != nil {
		for _, log := range u.logs {
			log.Close()
		}
		delete(c.units, unitID)
	}
}

// Edit changes the functions of a unit, but not its package, as a person might by hand.
func (c *Cloud) Edit(unitID string, change func([]faas.Function)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.units[unitID]
	if u == nil {
		return
	}
	rev := u.rev
	rev.functions = cloneFunctions(rev.functions)
	change(rev.functions)
	rev.fingerprint = faas.Unit{Functions: rev.functions}.Fingerprint()
	c.install(unitID, rev)
}

// enter counts a call, makes it wait, and lets the throttle and the script refuse it.
func (c *Cloud) enter(ctx context.Context, call Call) (*Fault, error) {
	c.mu.Lock()
	c.calls[call.Op]++
	var wait time.Duration
	if call.Op.Writes() {
		wait = c.throttle.take(time.Now())
	}
	c.mu.Unlock()
	if wait > 0 {
		return nil, &faas.Error{Op: string(call.Op), Provider: c.provider, JobID: call.Job, Code: faas.ErrThrottled,
			NotRun: call.Op == OpConverge, RetryAfter: wait}
	}
	if err := c.sleep(ctx, call); err != nil {
		return nil, err
	}
	fault := c.script.fault(call)
	return fault, fault.strike(ctx, call, c.provider)
}

// sleep is the cloud's latency.
func (c *Cloud) sleep(ctx context.Context, call Call) *faas.Error {
	if c.latency > 0 {
		timer := time.NewTimer(c.latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if err := context.Cause(ctx); err != nil {
		return &faas.Error{Op: string(call.Op), Provider: c.provider, JobID: call.Job, Code: faas.ErrTimeout,
			NotRun: call.Op == OpInvoke || call.Op == OpConverge, Err: err}
	}
	return nil
}

// throttle is a token bucket. The zero value never throttles.
type throttle struct {
	every time.Duration
	burst int
	full  time.Time // when the bucket will be full again
}

// take takes one token and returns zero, or returns how long it takes until one is free. The
// caller serialises calls.
func (t *throttle) take(now time.Time) time.Duration {
	if t.every == 0 {
		return 0
	}
	if t.full.Before(now) {
		t.full = now
	}
	if wait := t.full.Sub(now) - time.Duration(t.burst-1)*t.every; wait > 0 {
		return wait
	}
	t.full = t.full.Add(t.every)
	return 0
}
