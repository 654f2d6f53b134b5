package serverless

import (
	"log/slog"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// DeployOption configures [Deploy], [DeployServerless], [NewPlan] and [Plan.Apply]. In this
// package, a nil option of any kind is skipped.
type DeployOption interface{ applyDeploy(*deployOptions) }

// OpenOption configures [OpenService], and deployments too.
type OpenOption interface {
	DeployOption
	applyOpen(*serviceOptions)
}

// ServiceOption configures [Recover], and deployments and [OpenService] too.
type ServiceOption interface {
	OpenOption
	applyService(*serviceOptions)
}

// LogOption configures everything that logs: [FetchMetadata], and what a [ServiceOption]
// configures.
type LogOption interface {
	ServiceOption
	FetchOption
}

// WithPolicy gives a policy to use instead of the operator's file. It tells [OpenService] and
// [Recover] which place of the service is meant.
func WithPolicy(p *Policy) ServiceOption {
	return forService(func(o *serviceOptions) { o.policy = p })
}

// WithExecutor uses this executor instead of the one that [faas.Open] returns for the provider. It
// must be bound to the service. The service closes it when it is undeployed or closed; a call that
// returns no service closes it before it returns.
func WithExecutor(exec faas.Executor) ServiceOption {
	return forService(func(o *serviceOptions) { o.executor = exec })
}

// WithStateDir keeps the service's ledger in dir instead of [DefaultStateDir]. Operations fail if
// dir cannot be used. If the default cannot be used, a deployment continues without a ledger and
// warns.
func WithStateDir(dir string) ServiceOption {
	return forService(func(o *serviceOptions) { o.ledgers.dir = dir })
}

// WithoutWaiting makes an operation fail at once with an ErrConflict if another operation, of this
// program or another, is changing the service. By default it waits until the other operation ends
// or its context is done.
func WithoutWaiting() ServiceOption {
	return forService(func(o *serviceOptions) { o.ledgers.noWait = true })
}

// WithPatience sets how long an operation keeps looking, with growing pauses, for functions that
// the ledger records and the provider does not find. After that it believes that they are gone. A
// cloud's reads can be behind its writes. The default is 30 s. It costs nothing if everything is
// found.
func WithPatience(d time.Duration) ServiceOption {
	return forService(func(o *serviceOptions) { o.patience = d })
}

// WithEvents calls f with every event. The events of one operation come in order and one at a time,
// the last of them before the operation returns. f may call any method of the service. The
// operation does not wait for f while it works: it keeps in memory what f has not taken yet.
func WithEvents(f func(Event)) ServiceOption {
	return forService(func(o *serviceOptions) { o.onEvent = f })
}

// WithLogger logs to l. By default nothing is logged.
func WithLogger(l *slog.Logger) LogOption {
	return logOption{forService(func(o *serviceOptions) { o.logger = l }), l}
}

// WithOrchestrator runs the runner with this orchestrator instead of as a local supervised process.
func WithOrchestrator(orc orchestrator.Orchestrator) OpenOption {
	return openOption(func(o *serviceOptions) { o.orchestrator = orc })
}

// WithoutRunner starts no runner. It is for a program that is the blueprint's runner itself. Jobs
// that are not on FaaS cannot be invoked then.
func WithoutRunner() OpenOption {
	return openOption(func(o *serviceOptions) { o.noRunner = true })
}

// WithMetadata gives a deployment its metadata, so that it does not call [FetchMetadata]. It cannot
// be combined with [WithFetch], unless ServiceSpec.ServiceID is set.
func WithMetadata(m *Metadata) DeployOption {
	return deployOption(func(o *deployOptions) { o.metadata = m })
}

// WithFetch adds options to the [FetchMetadata] call that a deployment makes. The nodes and the
// contract that they name are also the runner's, if ServiceSpec.ServiceID is set.
func WithFetch(opts ...FetchOption) DeployOption {
	return deployOption(func(o *deployOptions) { o.fetch = append(o.fetch, opts...) })
}

// WithVerifiedBinary compares the binary with what the blueprint publishes for its architecture
// ([VerifyBinary]) before anything is deployed. A mismatch is an ErrInvalidArgument. Metadata that
// cannot be read is an error too, even if the policy allows a fallback. If the blueprint publishes
// nothing to compare with, the deployment continues and warns.
func WithVerifiedBinary() DeployOption {
	return deployOption(func(o *deployOptions) { o.verify = true })
}

// WithTraditional calls run, instead of the orchestrator, if no job runs on FaaS.
func WithTraditional(run TraditionalFunc) DeployOption {
	return deployOption(func(o *deployOptions) { o.traditional = run })
}

// WithKeepSucceeded keeps the functions that were deployed if others fail, instead of undoing them
// all. Deploy and DeployServerless then return a service of the jobs that succeeded beside the
// error.
func WithKeepSucceeded() DeployOption {
	return deployOption(func(o *deployOptions) { o.keepSucceeded = true })
}

// WithDropped allows a deployment to leave out what the last one was given, by the names of
// [NotGivenError]. Without it, leaving something out is an error, so that a forgotten variable or
// contract address is not lost.
func WithDropped(names ...string) DeployOption {
	return deployOption(func(o *deployOptions) { o.dropped = append(o.dropped, names...) })
}

// WithMove makes a deployment remove what the service has in other places, after a change of
// provider, region or endpoint. It does so once the new functions answer: both work in between.
// Without it a deployment leaves the other places as they are and warns.
func WithMove() DeployOption {
	return deployOption(func(o *deployOptions) { o.move = true })
}

// serviceOptions are what every operation on a service is told.
type serviceOptions struct {
	policy       *Policy
	executor     faas.Executor
	orchestrator orchestrator.Orchestrator // never nil
	noRunner     bool
	ledgers      ledgers
	patience     time.Duration // 0: the engine's default
	onEvent      func(Event)
	logger       *slog.Logger // never nil
}

// deployOptions are what a deployment is told beyond that.
type deployOptions struct {
	serviceOptions
	metadata      *Metadata
	fetch         []FetchOption
	verify        bool
	traditional   TraditionalFunc
	keepSucceeded bool
	dropped       []string
	move          bool
}

type (
	deployOption  func(*deployOptions)
	openOption    func(*serviceOptions)
	serviceOption struct{ openOption }
	logOption     struct {
		serviceOption
		logger *slog.Logger
	}
)

func forService(f func(*serviceOptions)) serviceOption { return serviceOption{f} }

func (f deployOption) applyDeploy(o *deployOptions)    { f(o) }
func (f openOption) applyDeploy(o *deployOptions)      { f(&o.serviceOptions) }
func (f openOption) applyOpen(o *serviceOptions)       { f(o) }
func (s serviceOption) applyService(o *serviceOptions) { s.openOption(o) }
func (l logOption) applyFetch(o *fetchOptions)         { o.logger = l.logger }

func newDeployOptions(opts []DeployOption) deployOptions {
	var o deployOptions
	apply(opts, func(opt DeployOption) { opt.applyDeploy(&o) })
	o.resolve()
	return o
}

func newOpenOptions(opts []OpenOption) serviceOptions {
	var o serviceOptions
	apply(opts, func(opt OpenOption) { opt.applyOpen(&o) })
	o.resolve()
	return o
}

func newServiceOptions(opts []ServiceOption) serviceOptions {
	var o serviceOptions
	apply(opts, func(opt ServiceOption) { opt.applyService(&o) })
	o.resolve()
	return o
}

// resolve sets the defaults.
func (o *serviceOptions) resolve() {
	if o.logger == nil {
		o.logger = slog.New(slog.DiscardHandler)
	}
	if o.orchestrator == nil {
		o.orchestrator = &orchestrator.Local{}
	}
	o.ledgers.logger = o.logger
}

// apply calls f with every option that is not nil.
func apply[O any](opts []O, f func(O)) {
	for _, opt := range opts {
		if any(opt) != nil {
			f(opt)
		}
	}
}
