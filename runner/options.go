package runner

import (
	"context"
	"log/slog"
	"math/big"
	"net/http"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/job"
)

// options are what the Options say. New fills in the defaults.
type options struct {
	handlers       job.Handlers
	functions      map[uint32]faas.Invoker // by job
	jobs           map[uint32]JobOptions
	concurrency    int           // of all jobs together
	timeout        time.Duration // of a job without one of its own
	grace          time.Duration // for running jobs, once the runner has to stop
	confirmations  *uint64       // nil: by chain
	poll           time.Duration // 0: by chain
	maxFee, maxTip *big.Int      // nil: the transaction manager's
	minBalance     *big.Int      // nil: 20 results at the current fee
	heartbeat      bool
	metrics        func() map[string]uint64 // of heartbeats; may be nil
	claim          *big.Int                 // rewards that are worth a claim; nil: never
	registration   func(context.Context) ([]byte, error)
	operatorURL    string
	maxLogRange    uint64 // 0: chain's
	http           *http.Client
	logger         *slog.Logger
	observers      []func(Event)
	healthAddr     string
	aggregator     Aggregator
}

// schema checks an output as the contract would.
type schema interface {
	Check(data []byte) error
}

const (
	defaultConcurrency = 64
	defaultTimeout     = 15 * time.Minute
	defaultGrace       = 10 * time.Second
)

func newOptions(opts []Option) *options {
	o := &options{
		handlers: job.Handlers{}, functions: map[uint32]faas.Invoker{}, jobs: map[uint32]JobOptions{},
		concurrency: defaultConcurrency, timeout: defaultTimeout, grace: defaultGrace,
	}
	for _, opt := range opts {
		opt(o)
	}
	if o.logger == nil {
		o.logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Option changes how a runner works.
type Option func(*options)

// JobOptions are one job's.
type JobOptions struct {
	// Timeout is how long one call may run. Zero means 15 minutes.
	Timeout time.Duration
	// Concurrency is how many calls may run at the same time. Zero means as many as the runner allows
	// in all, less one for each other job, so that a slow job never holds up the others.
	Concurrency int
	// Repeat says what becomes of a call whose invocation may have run.
	Repeat Repeat
}

// Repeat is a job's policy for an invocation of which nobody knows whether it ran to its end: the
// process ended in between, or the function's answer was lost.
type Repeat uint8

const (
	// RepeatHandlers runs the job again if it ran in this process, which is gone with all that it held
	// in memory, and does not run it again if it ran in a function. It is the default.
	RepeatHandlers Repeat = iota
	// Repeatable runs the job again wherever it ran.
	Repeatable
	// Once never runs the job again. The call ends as [Interrupted].
	Once
)

// WithHandlers adds jobs that run in this process. A job that also has a function runs there.
func WithHandlers(h job.Handlers) Option {
	return func(o *options) {
		for id, handler := range h {
			o.handlers[id] = handler
		}
	}
}

// WithFunctions adds the jobs of a registry, as [faas.OpenRegistry] makes one.
func WithFunctions(r *faas.Registry) Option {
	return func(o *options) {
		for _, id := range r.Jobs() {
			o.functions[id], _ = r.Lookup(id)
		}
	}
}

// WithJob sets what is special about a job.
func WithJob(id uint32, jo JobOptions) Option {
	return func(o *options) { o.jobs[id] = jo }
}

// WithConcurrency bounds how many calls run at the same time. The default is 64.
func WithConcurrency(n int) Option {
	return func(o *options) { o.concurrency = n }
}

// WithGrace sets how long running jobs may go on once the runner has to stop. Then their contexts
// end. The default is 10 seconds.
func WithGrace(d time.Duration) Option {
	return func(o *options) { o.grace = d }
}

// WithConfirmations sets how many blocks must be on top of a call's block before the call is run,
// and on top of a result's block before the result counts. The default depends on the chain: 0 on
// local ones, 2 on Base Sepolia, 1 on Tempo, 12 on others.
func WithConfirmations(blocks uint64) Option {
	return func(o *options) { o.confirmations = &blocks }
}

// WithPoll sets how often the chain is asked for its head. The default is 250 ms on local chains
// and 2 s on others.
func WithPoll(d time.Duration) Option {
	return func(o *options) { o.poll = d }
}

// WithFees bounds what the runner pays for a unit of gas, and how much of that is a tip, in wei.
// Nil leaves the default: 500 gwei, and 50 gwei. A transaction that the bound keeps out of the
// blocks waits.
func WithFees(maxFee, maxTip *big.Int) Option {
	return func(o *options) { o.maxFee, o.maxTip = maxFee, maxTip }
}

// WithMinBalance sets the balance, in wei, below which the runner warns. The default is what 20
// results cost at the current fee.
func WithMinBalance(wei *big.Int) Option {
	return func(o *options) { o.minBalance = wei }
}

// WithHeartbeats makes the runner report to the operator status registry, with the metrics if the
// function is not nil. The first heartbeat begins an obligation: an operator that falls silent
// afterwards may be slashed.
func WithHeartbeats(metrics func() map[string]uint64) Option {
	return func(o *options) { o.heartbeat, o.metrics = true, metrics }
}

// WithClaims makes the runner claim its pending rewards once they reach so many wei.
func WithClaims(least *big.Int) Option {
	return func(o *options) { o.claim = least }
}

// WithRegistration sets what makes the blueprint's inputs for the registration as an operator. The
// default is none.
func WithRegistration(inputs func(context.Context) ([]byte, error)) Option {
	return func(o *options) { o.registration = inputs }
}

// WithOperatorURL sets the URL under which the operator registers.
func WithOperatorURL(url string) Option {
	return func(o *options) { o.operatorURL = url }
}

// WithMaxLogRange bounds how many blocks one request for logs may span. The default is 2000, and then
// what the nodes allow.
func WithMaxLogRange(blocks uint64) Option {
	return func(o *options) { o.maxLogRange = blocks }
}

// WithHTTPClient sets the client for requests to nodes.
func WithHTTPClient(c *http.Client) Option {
	return func(o *options) { o.http = c }
}

// WithLogger sets where the runner logs. The default is nowhere.
func WithLogger(l *slog.Logger) Option {
	return func(o *options) { o.logger = l }
}

// WithEvents adds an observer. Observers get all events in order, one at a time, on a goroutine of
// their own. If an observer takes too long, events are dropped, and logged as such: the runner does
// not wait for it.
func WithEvents(observe func(Event)) Option {
	return func(o *options) { o.observers = append(o.observers, observe) }
}

// WithHealth sets the address of the health endpoint, host:port on loopback. The default is a port
// of the system's choice; see the file runner-<service id>.addr in the data directory.
func WithHealth(addr string) Option {
	return func(o *options) { o.healthAddr = addr }
}

// WithAggregator sets what brings results on chain that need the signatures of several operators.
// Without one such jobs are not run.
func WithAggregator(a Aggregator) Option {
	return func(o *options) { o.aggregator = a }
}
