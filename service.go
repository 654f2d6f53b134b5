package serverless

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/engine"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// Service is the handle of a deployed service: it invokes, checks, warms and removes the service's
// jobs. It is safe for concurrent use, and the functions given to a deployment may call it too.
type Service struct {
	spec      ServiceSpec // without Env, RunnerEnv and Keystore
	env       faas.Env
	strategy  Strategy
	opts      serviceOptions
	metadata  *Metadata // nil after DeployServerless
	analysis  *Analysis // nil after DeployServerless
	fallback  error     // see Fallback
	binary    *faas.Binary
	location  faas.Config // where the functions are
	units     []faas.Unit
	deploys   []Deployment
	cleared   []string      // see Removed
	functions faas.Registry // the jobs on FaaS
	anyLocal  bool          // every job goes to the runner

	exec           faas.Executor
	runnerSettings runnerSettings
	runnerKept     bool // the runner existed before, and a failure leaves it as it is

	over atomic.Bool   // set once release begins
	turn chan struct{} // holds a token while an operation ends the service or removes a part of it
	// The holder of the turn owns ended and removed.
	ended, removed bool

	mu       sync.Mutex // guards the rest, and is never held during a call to other code
	runner   orchestrator.Runner
	warnings []string
}

func newService(spec ServiceSpec, strategy Strategy, o serviceOptions) *Service {
	s := &Service{spec: spec, env: faas.NewEnv(spec.Env), strategy: strategy, opts: o, turn: make(chan struct{}, 1)}
	s.spec.Env, s.spec.RunnerEnv, s.spec.Keystore = nil, nil, ""
	return s
}

// deployed records what the engine did. A change without a state failed.
func (s *Service) deployed(changes []engine.Change, states []faas.State) {
	for i, state := range states {
		if state.ID == "" {
			continue
		}
		unit := changes[i].Unit
		s.units = append(s.units, unit)
		for _, f := range unit.Functions {
			s.functions.Set(f.JobID, s.exec)
			s.deploys = append(s.deploys, Deployment{
				JobID: f.JobID, Provider: s.location.Provider, FunctionID: unit.ID, Resource: state.Resource,
				Endpoint: state.Endpoint, MemoryMB: f.MemoryMB, TimeoutSecs: f.TimeoutSecs, Action: Action(changes[i].Action),
			})
		}
	}
	for _, id := range s.strategy.LocalJobs {
		s.deploys = append(s.deploys, Deployment{JobID: id, Local: true})
	}
	slices.SortFunc(s.deploys, func(a, b Deployment) int { return cmp.Compare(a.JobID, b.JobID) })
}

// operation returns the service's place for one operation, with events of its own.
func (s *Service) operation() *place {
	return &place{service: s.spec.Name, config: s.location, exec: s.exec, opts: s.opts, events: newEmitter(s.opts.onEvent)}
}

// Format prints the name of the service, its strategy and its place, whatever the verb.
func (s *Service) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "{service:%s strategy:%s faas:%v local:%v place:%s}", s.spec.Name, s.strategy.Kind,
		s.strategy.FaaSJobs, s.strategy.LocalJobs, placeName(s.location))
}

// LogValue logs what Format prints.
func (s *Service) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

func (s *Service) getRunner() orchestrator.Runner {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.runner
}

func (s *Service) setRunner(r orchestrator.Runner) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runner = r
}

// begin waits for the turn to change the service. The caller must call done.
func (s *Service) begin(ctx context.Context, op string) (done func(), err error) {
	select {
	case s.turn <- struct{}{}:
		return func() { <-s.turn }, nil
	case <-ctx.Done():
		return nil, faas.Errorf(faas.ErrTimeout, op, s.location.Provider,
			"gave up waiting for another call that changes service %q: %w", s.spec.Name, ctx.Err())
	}
}

// Deployment says where one job of a service runs.
type Deployment struct {
	JobID       uint32 `json:"job_id"`
	Local       bool   `json:"local"`              // in the runner, not on FaaS; the rest is empty then
	Provider    string `json:"provider,omitempty"` // registered name
	FunctionID  string `json:"function_id,omitempty"`
	Resource    string `json:"resource,omitempty"` // its exact name at the provider, for people
	Endpoint    string `json:"endpoint,omitempty"`
	MemoryMB    uint32 `json:"memory_mb,omitempty"`
	TimeoutSecs uint32 `json:"timeout_secs,omitempty"`
	Action      Action `json:"action,omitempty"` // what the deployment did: create, update or keep
}

// Name returns the service's name.
func (s *Service) Name() string { return s.spec.Name }

// OnChain returns the service on chain that the runner serves, and where it keeps its journal: on
// this machine, or as the deployment was given it. The id is nil if it serves none.
func (s *Service) OnChain() (serviceID *uint64, dataDir string) {
	on := s.runnerSettings.record
	if on == nil {
		return nil, ""
	}
	return new(on.ServiceID), on.DataDir
}

// Strategy returns which jobs run on FaaS and which beside it.
func (s *Service) Strategy() Strategy { return s.strategy }

// Metadata returns what [Deploy] knew of the blueprint. It is nil after [OpenService], if it could
// not be read, and after [DeployServerless] without [WithVerifiedBinary].
func (s *Service) Metadata() *Metadata { return s.metadata }

// Analysis returns what [Deploy] decided from. It is nil after [DeployServerless] and
// [OpenService], and if the metadata could not be read.
func (s *Service) Analysis() *Analysis { return s.analysis }

// Fallback returns why the jobs run traditionally although the policy asks for serverless. It is
// nil if they do not.
func (s *Service) Fallback() error { return s.fallback }

// Warnings returns what the operator should know although nothing failed, one sentence each.
func (s *Service) Warnings() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.warnings)
}

// Deployments returns where each job runs, by ascending job id.
func (s *Service) Deployments() []Deployment { return slices.Clone(s.deploys) }

// Removed returns the provider's names of the units that the deployment removed: those that no
// longer belong to a job on FaaS, and those in other places ([WithMove], or a traditional
// strategy). It returns none after [OpenService].
func (s *Service) Removed() []string { return slices.Clone(s.cleared) }

func (s *Service) warn(texts ...string) {
	for _, text := range texts {
		s.opts.logger.Warn(text, "service", s.spec.Name)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warnings = append(s.warnings, texts...)
}

// Invoke runs a job once, where it was deployed. It never repeats a call. Its errors are those of
// [faas.Invoker], and ErrNotFound for a job that the service does not have, ErrUnsupported for a
// job that is not on FaaS and cannot be invoked beside it (see [orchestrator.Uninvokable]), and
// ErrUnavailable for a service that was undeployed or closed.
func (s *Service) Invoke(ctx context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	if err := s.usable("invoke"); err != nil {
		err.JobID, err.NotRun = int64(jobID), true
		return nil, err
	}
	if inv, ok := s.functions.Lookup(jobID); ok {
		return inv.Invoke(ctx, jobID, args)
	}
	if s.anyLocal || slices.Contains(s.strategy.LocalJobs, jobID) {
		if runner := s.getRunner(); runner != nil {
			return runner.Invoke(ctx, jobID, args)
		}
		err := faas.JobErrorf(faas.ErrUnsupported, "invoke", "", jobID,
			"the job is not on FaaS, and its runner belongs to the program that deployed service %q", s.spec.Name)
		err.NotRun = true
		return nil, err
	}
	err := faas.JobErrorf(faas.ErrNotFound, "invoke", "", jobID, "service %q has no such job (on FaaS: %v, local: %v)",
		s.spec.Name, s.strategy.FaaSJobs, s.strategy.LocalJobs)
	err.NotRun = true
	return nil, err
}

// usable returns an error once the service is being undeployed or closed, because its executor may
// be closed then.
func (s *Service) usable(op string) *faas.Error {
	if s.over.Load() {
		return faas.Errorf(faas.ErrUnavailable, op, s.location.Provider, "service %q was undeployed or closed", s.spec.Name)
	}
	return nil
}

// ServiceHealth is the health of a service and of its parts.
type ServiceHealth struct {
	Healthy bool `json:"healthy"` // every part whose health is known is healthy
	// Jobs has an entry for every job on FaaS, by ascending job id.
	Jobs []JobHealth `json:"jobs"`
	// Runner is nil if the service has none, or if it belongs to another program. A runner on this
	// machine that serves a service on chain tells about itself even then.
	Runner *faas.Health `json:"runner,omitempty"`
}

// JobHealth is the health of one job's function.
type JobHealth struct {
	JobID uint32 `json:"job_id"`
	Known bool   `json:"known"` // false if the provider cannot tell, or cannot tell now (see Reason)
	faas.Health
}

// Health asks for the health of every function and of the runner. The answer tells of a part that
// is unhealthy or missing, or whose health is not known now. Health returns an error only if ctx
// ends or the runner cannot tell.
func (s *Service) Health(ctx context.Context) (*ServiceHealth, error) {
	if err := s.usable("health"); err != nil {
		return nil, err
	}
	out := &ServiceHealth{Healthy: true, Jobs: []JobHealth{}}
	for _, d := range s.deploys {
		if !d.Local {
			out.Jobs = append(out.Jobs, JobHealth{JobID: d.JobID})
		}
	}
	var group errgroup.Group
	group.SetLimit(healthParallel)
	for i := range out.Jobs {
		job := &out.Jobs[i]
		group.Go(func() error {
			h, err := s.exec.Health(ctx, job.JobID)
			switch code := faas.CodeOf(err); {
			case err == nil:
				job.Known, job.Health = true, h
			case code == faas.ErrUnsupported:
			case code == faas.ErrNotFound:
				job.Known, job.Reason = true, "the function no longer exists"
			case ctx.Err() != nil:
				return err
			default:
				job.Reason = "not known: " + err.Error()
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, job := range out.Jobs {
		out.Healthy = out.Healthy && (!job.Known || job.Healthy)
	}
	if runner := s.getRunner(); runner != nil {
		h, err := runner.Health(ctx)
		if err != nil {
			return nil, err
		}
		out.Runner, out.Healthy = &h, out.Healthy && h.Healthy
	} else if on := s.runnerSettings.record; on != nil && on.DataDir != "" {
		if h, said := orchestrator.AskRunner(ctx, on.DataDir, on.ServiceID); said {
			out.Runner, out.Healthy = &h, out.Healthy && h.Healthy
		}
	}
	return out, nil
}

// healthParallel is how many functions are checked or warmed at the same time.
const healthParallel = 16

// Warm makes sure that about n instances of every function are started, and returns how many are,
// over all functions. It runs no job. It returns an ErrUnsupported if the provider cannot do that.
func (s *Service) Warm(ctx context.Context, n int) (int, error) {
	if err := s.usable("warm"); err != nil {
		return 0, err
	}
	if n < 1 {
		return 0, faas.Errorf(faas.ErrInvalidArgument, "warm", s.location.Provider, "%d instances, must be at least 1", n)
	}
	if len(s.functions.Jobs()) == 0 {
		return 0, nil
	}
	counts := make([]int, len(s.deploys))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(healthParallel)
	for i, d := range s.deploys {
		if d.Local {
			continue
		}
		group.Go(func() (err error) {
			counts[i], err = s.exec.Warm(gctx, d.JobID, n)
			return err
		})
	}
	err := s.named(group.Wait())
	total := 0
	for _, c := range counts {
		total += c
	}
	return total, err
}

// named adds the provider to the error of an executor that leaves a method to [faas.Unimplemented],
// which does not know the provider.
func (s *Service) named(err error) error {
	if e, ok := err.(*faas.Error); ok && e.Code == faas.ErrUnsupported && e.Provider == "" {
		with := *e
		with.Provider = s.location.Provider
		return &with
	}
	return err
}

// Logs returns what the service's jobs printed, in the order of time: the lines of its functions,
// and those of its runner if that is a [faas.LogReader]. See [faas.LogReader] for what a sequence
// promises, and [faas.LogQuery] for what a query can ask for. A query without JobIDs asks for the
// whole service.
//
// A runner is one process for all local jobs, so its lines carry faas.NoJob and come with any of
// them. An [orchestrator.Local] keeps the last 1,000 lines and 64 KiB in memory for the program
// that started the runner. Other programs read a detached runner's lines from the files of LogDir,
// without times until they follow them. With Follow, Limit counts for the functions and the runner
// separately.
//
// Its errors are those of faas.LogReader, and ErrNotFound for a job that the service does not have,
// ErrUnsupported if nothing keeps the lines of a named job, or any lines at all, and ErrUnavailable
// for a service that was undeployed or closed.
func (s *Service) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	if err := s.usable("logs"); err != nil {
		return logs.Fail(err)
	}
	onFaaS, fromRunner, err := s.logSources(q.JobIDs)
	if err != nil {
		return logs.Fail(err)
	}
	var sources []func(context.Context) logs.Lines
	ask := func(from faas.LogReader, jobs []uint32) error {
		part := q
		part.JobIDs = jobs
		if err := part.Check(s.location.Provider); err != nil {
			return err
		}
		sources = append(sources, func(ctx context.Context) logs.Lines {
			return func(yield func(faas.LogLine, error) bool) {
				for line, err := range from.Logs(ctx, part) {
					if !yield(line, s.named(err)) {
						return
					}
				}
			}
		})
		return nil
	}
	if len(onFaaS) > 0 {
		if err := ask(s.exec, onFaaS); err != nil {
			return logs.Fail(err)
		}
	}
	if reader, ok := s.getRunner().(faas.LogReader); ok && fromRunner {
		jobs := s.strategy.LocalJobs
		if len(q.JobIDs) > 0 {
			jobs = q.JobIDs
		}
		if len(jobs) == 0 { // a runner that delegates everything
			jobs = []uint32{0}
		}
		if err := ask(reader, jobs); err != nil {
			return logs.Fail(err)
		}
	}
	switch {
	case len(sources) == 0:
		return logs.Fail(faas.Errorf(faas.ErrUnsupported, "logs", s.location.Provider,
			"service %q has no functions, and nothing keeps what its runner prints", s.spec.Name))
	case q.Follow:
		return logs.Join(ctx, s.location.Provider, sources...)
	}
	seqs := make([]logs.Lines, len(sources))
	for i, source := range sources {
		seqs[i] = source(ctx)
	}
	return logs.Last(q.Limit, logs.Merge(logs.Time, seqs...))
}

// logSources returns the jobs on FaaS whose lines are wanted, and whether the runner's lines are.
func (s *Service) logSources(jobs []uint32) (onFaaS []uint32, fromRunner bool, err error) {
	if len(jobs) == 0 {
		return s.functions.Jobs(), true, nil
	}
	for _, jobID := range jobs {
		if _, ok := s.functions.Lookup(jobID); ok {
			onFaaS = append(onFaaS, jobID)
			continue
		}
		if !s.anyLocal && !slices.Contains(s.strategy.LocalJobs, jobID) {
			return nil, false, faas.JobErrorf(faas.ErrNotFound, "logs", "", jobID,
				"service %q has no such job (on FaaS: %v, local: %v)", s.spec.Name, s.strategy.FaaSJobs, s.strategy.LocalJobs)
		}
		fromRunner = true
		if _, ok := s.getRunner().(faas.LogReader); ok {
			continue
		}
		if s.getRunner() == nil {
			return nil, false, faas.JobErrorf(faas.ErrUnsupported, "logs", "", jobID,
				"the program that deployed the service runs the job, and it alone knows what the job printed")
		}
		return nil, false, faas.JobErrorf(faas.ErrUnsupported, "logs", "", jobID,
			"the job runs beside FaaS, in a runner that keeps no lines")
	}
	return onFaaS, fromRunner, nil
}

// Undeploy stops the runner and removes every function of the service, in every place that the
// ledgers of this machine record, with the functions that carry the service's tags there. A
// function that is gone already is a success, and so is a second call. A call waits for another one
// that is under way. If something cannot be removed, the error (a *faas.Error) lists it, and
// Undeploy can be called again.
func (s *Service) Undeploy(ctx context.Context) (err error) {
	at := s.operation()
	defer at.events.flush()
	done, err := s.begin(ctx, "undeploy")
	if err != nil {
		return err
	}
	defer done()
	if s.removed {
		return nil
	}
	if s.ended {
		return faas.Errorf(faas.ErrInvalidArgument, "undeploy", s.location.Provider,
			"service %q is closed: open it again to remove its functions", s.spec.Name)
	}
	if s.exec != nil {
		if err := checkBound(s.exec, s.spec.Name); err != nil {
			return err
		}
	}
	rec, elsewhere, err := s.opts.ledgers.both(s.spec.Name, s.location)
	if err == nil && rec.Runner != nil && s.getRunner() == nil {
		err = s.attach(ctx, *rec.Runner)
	}
	if err != nil {
		return err
	}
	// The runner goes first, so that nothing delegates to functions that are being removed.
	runnerErr := s.stopRunner(ctx, at.events)
	_, err = at.clear(ctx, clearing{own: s.units, runner: s.getRunner(), stopped: runnerErr == nil})
	_, elsewhereErr := at.clearOthers(ctx, elsewhere, nil)
	if err := errors.Join(err, elsewhereErr, runnerErr); err != nil {
		return err
	}
	s.removed = true
	return s.release(ctx, at.events)
}

// Elsewhere returns what the ledgers of this machine record of the service in other places, where a
// deployment with another provider, region or endpoint left it. See [WithMove].
func (s *Service) Elsewhere() []ServiceInfo {
	return serviceInfos(s.opts.ledgers.elsewhere(s.spec.Name, s.location))
}

// Close ends the handle and leaves the functions deployed. It frees connections, and stops the
// runner unless that is an [orchestrator.Detached]. A second call is a success. A call waits for
// another one that ends the service.
func (s *Service) Close(ctx context.Context) error {
	events := newEmitter(s.opts.onEvent)
	defer events.flush()
	done, err := s.begin(ctx, "close")
	if err != nil {
		return err
	}
	defer done()
	return s.release(ctx, events)
}

// attach finds the runner again that an earlier deployment left running.
func (s *Service) attach(ctx context.Context, ref orchestrator.Ref) error {
	runner, err := attach(ctx, s.opts.orchestrator, ref)
	if err != nil {
		return err
	}
	s.setRunner(runner)
	s.runnerKept = true
	return nil
}

func (s *Service) stopRunner(ctx context.Context, events *emitter) error {
	runner := s.getRunner()
	if runner == nil {
		return nil
	}
	return events.act(PhaseOrchestrator, "stop", s.strategy.LocalJobs, func() error {
		if err := runner.Stop(ctx); err != nil {
			return &faas.Error{Op: "stop runner", JobID: faas.NoJob, Code: faas.CodeOf(err),
				Leftovers: []string{"the runner of " + s.spec.Name}, Err: err}
		}
		return nil
	})
}

// release frees what the service holds on this machine.
func (s *Service) release(ctx context.Context, events *emitter) error {
	if s.ended {
		return nil
	}
	s.ended = true
	s.over.Store(true)
	var errs []error
	if detached, ok := s.getRunner().(orchestrator.Detached); ok {
		errs = append(errs, detached.Release(ctx))
	} else if !s.removed {
		errs = append(errs, s.stopRunner(ctx, events))
	}
	if s.exec != nil {
		if err := s.exec.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", s.location.Provider, err))
		}
	}
	return errors.Join(errs...)
}
