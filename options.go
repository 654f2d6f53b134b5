package serverless

import (
	"log/slog"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// DeployOption configures [Deploy] and [DeployServerless].
type DeployOption func(*deployOptions)

type deployOptions struct {
	policy       *Policy
	metadata     *Metadata
	fetch        []FetchOption
	verify       bool
	verified     string // hex SHA-256 of the binary that was compared with what is published
	executor     faas.Executor
	orchestrator Orchestrator
	noRunner     bool
	traditional  TraditionalFunc
	stateDir     string
	noWait       bool
	// callsPerMonth: see WithCallsPerMonth; 0: no estimate.
	callsPerMonth uint64
	prices        *Prices // see WithPrices
	// keepSucceeded: see WithKeepSucceeded.
	keepSucceeded bool
	onEvent       func(Event)
	events        *emitter // of the operation at hand; never nil
	logger        *slog.Logger
	dropped       []string      // see WithDropped
	move          bool          // see WithMove
	patience      time.Duration // see WithPatience; 0: the engine's default
	fetched       bool          // the metadata were, or will be, fetched with the options in fetch
}

// WithPolicy gives [Deploy] a policy, in place of the operator's file.
func WithPolicy(p *Policy) DeployOption { return func(o *deployOptions) { o.policy = p } }

// WithMetadata gives a deployment metadata, in place of what FetchMetadata finds.
func WithMetadata(m *Metadata) DeployOption { return func(o *deployOptions) { o.metadata = m } }

// WithFetch adds options to the FetchMetadata call that a deployment makes.
func WithFetch(opts ...FetchOption) DeployOption {
	return func(o *deployOptions) { o.fetch = append(o.fetch, opts...) }
}

// WithVerifiedBinary makes a deployment compare the binary with what the blueprint publishes for its architecture ([VerifyBinary]), before anything is
// deployed. A mismatch is an ErrInvalidArgument, and metadata that cannot be read is an error, too, whatever the policy's fallback says. Where nothing
// is published to compare it with, the deployment goes on, and one of Service.Warnings says so.
func WithVerifiedBinary() DeployOption { return func(o *deployOptions) { o.verify = true } }

// WithExecutor deploys with this executor, in place of the one that faas.Open finds for the policy's provider. It must be bound to the service
// of the spec. The service closes it when it is undeployed or closed.
func WithExecutor(exec faas.Executor) DeployOption {
	return func(o *deployOptions) { o.executor = exec }
}

// WithOrchestrator runs the runner with this orchestrator, in place of a local supervised process.
func WithOrchestrator(orc Orchestrator) DeployOption {
	return func(o *deployOptions) { o.orchestrator = orc }
}

// WithoutRunner starts no runner: for a program that is the blueprint's runner itself. Jobs that are not on FaaS cannot be invoked then.
func WithoutRunner() DeployOption { return func(o *deployOptions) { o.noRunner = true } }

// WithTraditional has run called where jobs are not run on FaaS at all, in place of the orchestrator.
func WithTraditional(run TraditionalFunc) DeployOption {
	return func(o *deployOptions) { o.traditional = run }
}

// WithStateDir keeps the service's ledger in dir, in place of [DefaultStateDir]. A directory given here has to be usable; where the default is not, a
// deployment goes on without a ledger and a warning says so.
func WithStateDir(dir string) DeployOption { return func(o *deployOptions) { o.stateDir = dir } }

// WithoutWaiting makes an operation on a service that another operation, of this program or another, is changing an ErrConflict at once. Otherwise it
// waits until the other has ended or its context is done.
func WithoutWaiting() DeployOption { return func(o *deployOptions) { o.noWait = true } }

// WithPatience sets how long an operation goes on looking, with growing pauses, for functions that the
// ledger records and the provider does not find, before it believes that they are gone: reads of a cloud
// can be behind its writes. The default is 30 s. It costs nothing as long as everything is found.
func WithPatience(d time.Duration) DeployOption { return func(o *deployOptions) { o.patience = d } }

// WithKeepSucceeded keeps the functions that were deployed when others failed, in place of undoing them all. Deploy and DeployServerless then
// return the service, with the jobs that succeeded, beside the error.
func WithKeepSucceeded() DeployOption { return func(o *deployOptions) { o.keepSucceeded = true } }

// WithCallsPerMonth has [NewPlan] estimate what the functions cost in a month in which each job is called n times ([EstimateCost]).
func WithCallsPerMonth(n uint64) DeployOption {
	return func(o *deployOptions) { o.callsPerMonth = n }
}

// WithPrices has [NewPlan] count with these prices, in place of [DefaultPrices].
func WithPrices(p *Prices) DeployOption { return func(o *deployOptions) { o.prices = p } }

// WithEvents calls f with every event. The events of one operation come in order and one at a time,
// the last of them before the operation returns. f may call any method of the service. The operation
// does not wait for f while it works, and keeps what f has not taken yet in memory.
func WithEvents(f func(Event)) DeployOption { return func(o *deployOptions) { o.onEvent = f } }

// WithLogger logs there. Without it nothing is logged.
func WithLogger(l *slog.Logger) DeployOption { return func(o *deployOptions) { o.logger = l } }

func newDeployOptions(opts []DeployOption) *deployOptions {
	o := &deployOptions{}
	applyOptions(o, opts)
	o.events = newEmitter(o.onEvent)
	if o.logger == nil {
		o.logger = slog.New(slog.DiscardHandler)
	}
	if o.orchestrator == nil {
		o.orchestrator = &LocalOrchestrator{}
	}
	return o
}

// operation returns the options for another operation on the same service, which has events of its own.
func (o *deployOptions) operation() *deployOptions {
	next := *o
	next.events = newEmitter(o.onEvent)
	return &next
}

// applyOptions applies options of any kind in their order. Nil ones are skipped, so that a caller may leave one out.
func applyOptions[T any, O ~func(*T)](to *T, opts []O) {
	for _, opt := range opts {
		if opt != nil {
			opt(to)
		}
	}
}
