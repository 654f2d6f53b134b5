package orchestrator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
	"github.com/tangle-network/blueprint-serverless/internal/frame"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
	"github.com/tangle-network/blueprint-serverless/internal/proctree"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

// Local runs the binary on this machine, in supervised child processes of this program. It restarts
// them with a capped back-off when they end, stops them gracefully and then by force, and they are
// gone when this program is gone. It is the default orchestrator. The zero value is ready to use.
//
// Local starts the binary with the spec's arguments and BLUEPRINT_FAAS_CONFIG, and the process is
// the runner as long as it stays up. If the binary links faas/job, the runner may also answer local
// jobs, several at a time, so that what it keeps in memory is there for the next call: job.Main
// does so, and job.Run does so beside other work. Until then it is a runner of its own kind, and
// local jobs cannot be invoked: see [Uninvokable].
//
// A binary without faas/job is a runner only if the spec has arguments for it. Each of its local
// jobs runs in a process of its own, over standard input and output. That process gets neither
// arguments nor Spec.RunnerEnv nor BLUEPRINT_FAAS_CONFIG, because it is not the runner. All
// processes have this program's environment, with the service's environment on top.
//
// The runner of a service on chain keeps its journal in DATA_DIR, which Start creates for this user
// alone and nothing removes. If it links package runner, it writes into that directory where it
// answers about its health, and Health asks there: whether it is behind the chain, reaches a node,
// has enough gas. Start waits for up to HelloTimeout until it answers, whatever it says.
//
// The runner executes a private copy of the binary with the SHA-256 that was inspected, at restarts
// too: replacing the file changes nothing before the next deployment. The copy is in the directory
// for temporary files or, if nothing there may be executed, in the user's cache.
//
// When Stop returns, nothing that the processes started is left. On Linux, Stop finds it by its
// environment and by an inherited resource limit that limits nothing (RLIMIT_RTTIME, the "Max
// realtime timeout" in /proc/PID/limits), whatever its session, process group, control group,
// parent and program are, and without root. It misses only a process that changes that limit and
// also clears its environment. On other Unix systems Stop ends the process groups of the processes,
// and on Windows the processes themselves.
type Local struct {
	// Dir is the working directory. Empty means this program's.
	Dir string
	// StopTimeout is how long a runner may take to stop before it is killed. 0 means 10 s. Stop
	// returns within StopTimeout and some seconds, whatever the runner does; its error names the
	// processes that the kernel could not end by then.
	StopTimeout time.Duration
	// HelloTimeout is how long Start waits until a runner that links faas/job takes calls. 0 means 2
	// s. A runner that runs but takes no calls by then is a runner of its own kind until it does.
	// Without local jobs Start waits only a moment, to see whether the runner ends at once.
	HelloTimeout time.Duration
	// Log is called with every line that the processes write to standard error and, if they are kept
	// running without faas/job, to standard output. Several goroutines call it; it must not keep line.
	// If Log is nil and LogDir is empty, the lines go to the deployment's logger at level Info.
	Log func(line []byte)
	// LogDir is a directory, created if missing, in which the same lines go to the file SERVICE.log,
	// named for the service. A file of LogMaxMB MiB (0 means 10) becomes SERVICE.log.1, and so on;
	// LogKeep such files (0 means 5) are kept. Lines that cannot be written are dropped.
	LogDir   string
	LogMaxMB int
	LogKeep  int
	// HealthURL is requested (GET, for up to 5 s) whenever the runner's health is asked; every 2xx
	// status is good. Start waits up to StartTimeout (0 means 30 s) for a good status. If HealthURL is
	// empty, a runner whose process runs and that says nothing else itself is healthy.
	HealthURL    string
	StartTimeout time.Duration
	// Detached lets the runner outlive this program: it is a [Detached]. It needs LogDir,
	// ServiceSpec.Args (without arguments a binary answers one request and ends), a ledger, and Linux
	// or macOS. A shell in its own session keeps the runner running, and restarts it even when this
	// program is gone, but not after a reboot. Its log is rotated when the runner starts, not while it
	// runs.
	//
	// Its copy of the binary is beside its log or in the user's cache, and is removed when the runner
	// is stopped. Local jobs run in processes of this program, and end with it. A program that finds
	// the runner with OpenService can ask for its health and stop it, but cannot invoke local jobs: no
	// ledger holds the values of the environment. A deployment that changes nothing about the runner
	// keeps it.
	//
	// The local jobs of a service on chain whose binary links faas/job run in the runner alone, so
	// that what they remember is in one place: Invoke refuses them (see [Uninvokable]).
	Detached bool
}

func (o *Local) stopTimeout() time.Duration {
	if o.StopTimeout > 0 {
		return o.StopTimeout
	}
	return 10 * time.Second
}

// noTimeout is the time limit of a local job, which only the caller's context bounds.
const noTimeout = 30 * 24 * time.Hour

// Start starts the runner. It returns ErrUnsupported if this machine cannot run the binary,
// ErrNotFound if the file is gone, ErrConflict if it changed since it was inspected,
// ErrFunctionFailed if the runner ends at once, and ErrTimeout if HealthURL does not become good.
func (o *Local) Start(ctx context.Context, spec Spec) (_ Runner, err error) {
	if why := o.CannotRun(spec.Binary); why != "" {
		return nil, faas.Errorf(faas.ErrUnsupported, "start runner", "", "%s", why)
	}
	if isOwnRunner(spec.Binary) {
		return nil, faas.Errorf(faas.ErrConflict, "start runner", "",
			"this program was started as the runner of a service, and would start itself again without end: "+
				"let it call job.Main if job.Requested or job.Offered says that it was started for jobs (faas/job)")
	}
	if err := makeDataDir(spec); err != nil {
		return nil, err
	}
	r := &localRunner{
		service: spec.Service, stopTimeout: o.stopTimeout(), logger: spec.Logger, host: worker.NewHost(),
		mark: proctree.New(), residentMark: proctree.New(), health: newHealthCheck(o.HealthURL, endpointOf(spec)),
	}
	stop := func() error {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.stopTimeout())
		defer cancel()
		return r.Stop(stopCtx)
	}
	cfg := o.config(spec)
	cfg.Host, cfg.Mark = r.host, r.mark
	if err := o.openLog(spec, &cfg, r); err != nil {
		return nil, errors.Join(err, stop())
	}
	if o.Detached {
		d, err := o.startDetached(ctx, spec, cfg, r)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		return d, nil
	}
	if cfg.Path, err = r.copyBinary(spec.Binary); err == nil {
		err = o.stopPrevious(ctx, spec.Previous)
	}
	if err == nil {
		err = r.start(ctx, cfg, spec, o.helloTimeout(spec))
	}
	if err == nil {
		err = o.awaitUp(ctx, spec, r, r.health)
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return r, nil
}

// awaitUp returns when the runner answers about its health, as far as it does so.
func (o *Local) awaitUp(ctx context.Context, spec Spec, r Runner, health *healthCheck) error {
	if spec.Binary.Protocols == faas.SpeaksAll {
		if err := health.awaitEndpoint(ctx, o.helloPatience()); err != nil {
			return err
		}
	}
	return o.awaitHealthy(ctx, r)
}

// isOwnRunner reports whether this process is a runner of the same binary: a program that deploys
// itself as its own blueprint and does not notice that it is the runner.
func isOwnRunner(binary *faas.Binary) bool {
	if _, runner := os.LookupEnv(faas.RunnerConfigEnv); !runner {
		return false
	}
	self, err := os.Executable()
	if err != nil {
		return false
	}
	own, err := faas.InspectBinary(self)
	return err == nil && own.SHA256 == binary.SHA256
}

// config configures the processes of local jobs, except for Path. See asRunner for the runner's.
func (o *Local) config(spec Spec) worker.Config {
	// Drop what told this program that it is a runner or a job binary.
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == faas.RunnerConfigEnv || name == frame.Env
	})
	for name, value := range spec.Env.Reveal() {
		env = append(env, name+"="+value)
	}
	return worker.Config{
		Env: env, Dir: o.Dir, TempDir: os.TempDir(),
		Frames: spec.Binary.Protocols == faas.SpeaksAll, MaxWorkers: 1, MaxConcurrency: 1000, Grace: o.stopTimeout(),
		Logger: spec.Logger,
	}
}

// asRunner returns cfg for the runner.
func asRunner(cfg worker.Config, spec Spec) (worker.Config, error) {
	delegated := spec.Delegated
	if delegated == nil {
		delegated = faas.RunnerConfig{}
	}
	text, err := json.Marshal(delegated)
	if err != nil {
		return cfg, faas.Errorf(faas.ErrInternal, "start runner", "", "%w", err)
	}
	cfg.Args, cfg.Env = spec.Args, slices.Clip(cfg.Env)
	for name, value := range spec.RunnerEnv.Reveal() {
		cfg.Env = append(cfg.Env, name+"="+value)
	}
	if dir := dataDir(spec); dir != "" {
		cfg.Env = append(cfg.Env, dataDirEnv+"="+dir)
	}
	cfg.Env = append(cfg.Env, faas.RunnerConfigEnv+"="+string(text))
	return cfg, nil
}

// dataDirEnv names the directory of the runner's journal to the runner.
const dataDirEnv = "DATA_DIR"

// dataDir is where the runner keeps its journal; empty if it serves no service on chain.
func dataDir(spec Spec) string {
	if spec.Chain == nil {
		return ""
	}
	return cmp.Or(spec.Chain.DataDir, spec.Chain.LocalDataDir)
}

// makeDataDir creates the directory of the runner's journal if it is missing.
func makeDataDir(spec Spec) error {
	if spec.Chain == nil {
		return nil
	}
	if dataDir(spec) == "" {
		return faas.Errorf(faas.ErrInvalidArgument, "start runner", "",
			"Spec.Chain names no directory for the journal of service %d", spec.Chain.ServiceID)
	}
	if err := os.MkdirAll(dataDir(spec), 0o700); err != nil {
		return faas.Errorf(faas.ErrInvalidArgument, "start runner", "", "ServiceSpec.DataDir: %w", err)
	}
	return nil
}

func (o *Local) helloPatience() time.Duration { return cmp.Or(max(o.HelloTimeout, 0), 2*time.Second) }

func (o *Local) helloTimeout(spec Spec) time.Duration {
	timeout := o.helloPatience()
	if spec.LocalJobs != nil && len(spec.LocalJobs) == 0 {
		timeout = min(timeout, 250*time.Millisecond) // nobody calls
	}
	return timeout
}

// localRunner is the Runner of a Local.
type localRunner struct {
	service      string
	stopTimeout  time.Duration
	logger       *slog.Logger
	host         *worker.Host
	mark         proctree.Mark    // of the pool's processes
	residentMark proctree.Mark    // of the resident's processes
	dir          *files.Dir       // of the copy that they execute; may be nil
	pool         *worker.Pool     // nil if nothing can be invoked
	runner       bool             // the pool's process is the runner
	resident     *worker.Resident // nil unless a binary without faas/job is kept running
	health       *healthCheck
	logFile      *files.Rotating // may be nil
	lines        logs.Ring       // the last ones

	removing sync.Once // of dir
}

// copyBinary makes the copy that is executed. Stop removes it or, if this program is killed, the
// next start of a runner.
func (r *localRunner) copyBinary(b *faas.Binary) (string, error) {
	parent, err := executableDir(os.TempDir())
	if err != nil {
		return "", err
	}
	if r.dir, err = files.TempDirIn(parent, "blueprint-runner", nil); err != nil {
		return "", faas.Errorf(faas.ErrInternal, "start runner", "", "%w", err)
	}
	return copyBinary(b, r.dir.Path())
}

func (r *localRunner) start(ctx context.Context, cfg worker.Config, spec Spec, hello time.Duration) (err error) {
	runner, err := asRunner(cfg, spec)
	if err != nil {
		return err
	}
	if !cfg.Frames {
		if len(spec.Args) > 0 {
			runner.Mark = r.residentMark // its remains are ended whenever it ends, without the local jobs
			if r.resident, err = worker.StartResident(runner); err != nil {
				return err
			}
		}
		r.pool, err = worker.New(cfg)
		return err
	}
	runner.Runner, runner.MinWorkers, r.runner = true, 1, true
	if r.pool, err = worker.New(runner); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, hello)
	defer cancel()
	_, err = r.pool.AwaitHello(waiting)
	var ended *faas.FunctionError
	switch {
	case err == nil && ctx.Err() != nil:
		return faas.Errorf(faas.ErrTimeout, "start runner", "", "%w before %s was known to run", ctx.Err(), spec.Binary.Path)
	case errors.As(err, &ended) && ended.Type == "exit" && ended.ExitCode == 0 && len(spec.Args) == 0 &&
		spec.LocalJobs != nil && len(spec.LocalJobs) == 0:
		// It was given nothing to do, and nothing depends on it.
		r.runner = false
		err = r.pool.Close(ctx)
		r.pool = nil
	}
	return err
}

// CannotInvoke says why Invoke would refuse every job now. It is empty if Invoke would not.
func (r *localRunner) CannotInvoke() string {
	switch {
	case r.pool == nil:
		return "the binary ended at once, so the service has no runner"
	case r.runner && !r.pool.Speaks():
		return "the runner has not said that it takes calls: let it answer with job.Run if job.Offered is true " +
			"(faas/job), or run the job on FaaS"
	}
	return ""
}

// refuse returns the error for a job that cannot be invoked.
func refuse(jobID uint32, why string) error {
	err := faas.JobErrorf(faas.ErrUnsupported, "invoke", "", jobID,
		"the job is not on FaaS, and the runner cannot run it for callers: %s", why)
	err.NotRun = true
	return err
}

// Invoke runs a job in the runner, or in a process of its own.
func (r *localRunner) Invoke(ctx context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	if why := r.CannotInvoke(); why != "" {
		return nil, refuse(jobID, why)
	}
	began := time.Now()
	output, metrics, err := r.pool.Invoke(ctx, jobID, args, noTimeout)
	if err != nil {
		return nil, err
	}
	metrics.Total = time.Since(began)
	return &faas.Result{Output: output, Metrics: metrics}, nil
}

// Health reports the state of the processes and of the HTTP check.
func (r *localRunner) Health(ctx context.Context) (faas.Health, error) {
	var stats worker.Stats
	if r.pool != nil {
		stats = r.pool.Stats()
	}
	h := faas.Health{Healthy: true, LastInvocation: stats.LastCall, TotalInvocations: stats.Total}
	if r.resident != nil {
		h.Healthy, h.Reason = r.resident.Health()
	}
	const crashLoop = 3
	if h.Healthy && stats.Failures >= crashLoop {
		h.Healthy, h.Reason = false, fmt.Sprintf("its process keeps ending; last: %v", stats.LastError)
	}
	return r.health.check(ctx, h), nil
}

// killTimeout is how long Stop waits for killed processes. The kernel ends a process at once,
// unless the process waits for a device.
const killTimeout = 5 * time.Second

// Stop ends the processes and everything that they started. Running calls have as long as the
// runner has to stop; calls that are cut off then are not an error of Stop.
func (r *localRunner) Stop(ctx context.Context) error {
	killing, cancelKilling := context.WithTimeout(context.WithoutCancel(ctx), r.stopTimeout+killTimeout)
	defer cancelKilling()
	ctx, cancel := context.WithTimeout(ctx, r.stopTimeout)
	defer cancel()
	// Processes that left the process groups may hold the output open, for which Close waits.
	var force sync.WaitGroup
	closed := make(chan struct{})
	force.Go(func() {
		select {
		case <-ctx.Done():
			_ = r.kill(killing) // killed again, and checked, below
		case <-closed:
		}
	})
	var errs []error
	if r.resident != nil {
		errs = append(errs, r.resident.Close(ctx))
	}
	if r.pool != nil {
		if err := r.pool.Close(ctx); err != nil {
			r.logger.Warn("the runner was stopped while it ran jobs", "service", r.service, "reason", err)
		}
	}
	close(closed)
	force.Wait()
	errs = append(errs, r.kill(killing))
	r.host.Close()
	r.lines.Close()
	if r.logFile != nil {
		errs = append(errs, r.logFile.Close())
	}
	if r.dir != nil {
		r.removing.Do(func() { errs = append(errs, r.dir.Remove()) })
	}
	return errors.Join(errs...)
}

// kill ends everything that the processes started.
func (r *localRunner) kill(ctx context.Context) error {
	return errors.Join(r.mark.Kill(ctx), r.residentMark.Kill(ctx))
}

// CannotRun says why this machine cannot run the binary. It is empty if it can, or if nobody knows.
func (o *Local) CannotRun(b *faas.Binary) string {
	if b.OS != "" && b.OS != runtime.GOOS || b.Arch != "" && string(b.Arch) != runtime.GOARCH {
		return fmt.Sprintf("%s is for %s/%s and this machine is %s/%s", b.Path, b.OS, b.Arch, runtime.GOOS, runtime.GOARCH)
	}
	return ""
}
