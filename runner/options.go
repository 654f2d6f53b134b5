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

// WithMinBalance sets the balance, in wei of the chain's native asset, below which the runner warns
// and is not healthy. It goes on as long as it can pay the gas. The default is what 20 results cost
// at the current fee.
func WithMinBalance(wei *big.Int) Option {
	return func(o *options) { o.minBalance = wei }
}

// WithHeartbeats makes the runner tell the contract's OperatorStatusRegistry at the service's
// intervals that the operator is there, and how it is. Each heartbeat costs about 75,000 units of
// gas. An operator that never sends one has no duty to; after the first one, anybody may mark an
// operator offline who misses several. When it is stopped, the runner reports the operator offline.
//
// Of a service that wants metrics, the heartbeats tell those that the function returns; nil stands
// for jobs_done, jobs_failed and behind_blocks. The function must return at once.
func WithHeartbeats(metrics func() map[string]uint64) Option {
	return func(o *options) { o.heartbeat, o.metrics = true, metrics }
}

// WithClaims makes the runner claim the operator's pending rewards whenever these are at least so
// many wei of the chain's native asset. Without it they are only shown.
func WithClaims(least *big.Int) Option {
	return func(o *options) { o.claim = least }
}

// WithRegistration sets what the operator registers with, for blueprints that want to know
// something of their operators. [Main] calls the function when it registers the operator. What it
// returns must fit the contract's schema; it must not be empty, nor above 100,000 bytes. By default
// an operator registers without inputs.
func WithRegistration(inputs func(context.Context) ([]byte, error)) Option {
	return func(o *options) { o.registration = inputs }
}

// WithOperatorURL sets the address at which users may reach the operator, which [Main] registers
// and everybody can read. The default is BLUEPRINT_OPERATOR_URL, or none; the URL of the operator's
// node is never registered.
func WithOperatorURL(url string) Option {
	return func(o *options) { o.operatorURL = url }
}

// WithMaxLogRange bounds how many blocks one request for logs may span. The default is 2000, and
// then what the nodes allow.
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

// WithHealth makes the runner answer about itself over HTTP on a loopback address, such as
// 127.0.0.1:9100. If the port is 0, the system chooses it. By default nothing listens, but in
// [Main], where it is 127.0.0.1:0 and BLUEPRINT_HEALTH_ADDR goes before this option.
//
//	GET /healthz       200 if the runner is healthy, else 503 with the reasons
//	GET /status        the Status as JSON
//	GET /metrics       metrics in the text format of Prometheus
//	POST /retry?call=N runs a call again, like Retry
//	POST /claim        claims the pending rewards
//
// While the runner runs, the file runner-N.addr in the data directory holds the address in one
// line, N being the service's number. A process that is killed leaves the file behind; answers have
// the header Blueprint-Service: N, so that nobody takes another program for the runner.
//
// A POST needs the header Blueprint-Runner with any value. No web page can send it, but every
// program on this machine can: a retry costs an invocation, and a claim costs gas.
func WithHealth(addr string) Option {
	return func(o *options) { o.healthAddr = addr }
}

// WithAggregator sets what brings results on chain that need the signatures of several operators.
// Without one such jobs are not run.
func WithAggregator(a Aggregator) Option {
	return func(o *options) { o.aggregator = a }
}
