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

// Local runs the binary on this machine, as supervised child processes of this program: started again with a capped back-off when they
// end, stopped gracefully and then by force, and gone when this program is gone. It is the default. The zero value is ready for use.
//
// The binary is started with the spec's arguments and BLUEPRINT_FAAS_CONFIG, and is the runner as long as it stays up. If it links faas/job it may also answer local jobs,
// several at a time, so that what it keeps in memory is there for the next call: job.Main does so, and job.Run beside work of its own. Until it has, it is
// a runner of its own kind, and local jobs cannot be invoked: see [Uninvokable]. A binary without faas/job is a runner only if the spec has arguments
// for it; its local jobs are run by a process each, over standard input and output, which gets neither arguments nor BLUEPRINT_FAAS_CONFIG: it is not the runner. All
// processes have this program's environment and the service's on top of it.
//
// What runs is a private copy of the binary with the SHA-256 that was inspected, at restarts too: a file that is replaced later changes nothing before
// the next deployment. The copy is in the directory for temporary files, or in the user's cache where nothing there may be executed.
//
// Nothing that the processes have started is left when Stop returns. On Linux all of it is found by its environment, and by a resource limit that it inherits
// and that limits nothing (RLIMIT_RTTIME, seen as "Max realtime timeout" in /proc/PID/limits), in whatever session, process group and control group it is, with whatever parent and program, and
// without root; only what changes that limit *and* clears its environment is not. On other Unix systems it is the process groups of the processes that end, and
// on Windows the processes themselves.
type Local struct {
	// Dir is the working directory; empty means this program's.
	Dir string
	// StopTimeout is how long a runner may take to stop before it is killed; 0 means 10 s. Stop returns within it and some seconds, whatever the runner
	// does. What even the kernel cannot end by then is named in its error.
	StopTimeout time.Duration
	// HelloTimeout is how long Start waits until a runner that links faas/job takes calls; 0 means 2 s. One that runs by then and does not is a runner of its own
	// kind, until it takes calls after all. Without local jobs Start only waits for a moment, to see whether the runner ends at once.
	HelloTimeout time.Duration
	// Log is called with every line that the processes write to standard error and, where they are kept running without faas/job, to standard
	// output. Calls come from several goroutines; line must not be kept. nil: the lines go to the logger of the deployment, at level Info, unless
	// there is a LogDir.
	Log func(line []byte)
	// LogDir is a directory, made if it is missing, where the same lines go to a file with the service's name: SERVICE.log. Once it has LogMaxMB MiB
	// (0 means 10) it becomes SERVICE.log.1, and so on; LogKeep such files (0 means 5) are kept. A line that cannot be written is dropped.
	LogDir   string
	LogMaxMB int
	LogKeep  int
	// HealthURL is asked (GET, for up to 5 s) whenever the runner's health is; every 2xx is good. Start waits until it is, for up to StartTimeout (0
	// means 30 s). Empty: a runner whose process runs is healthy.
	HealthURL    string
	StartTimeout time.Duration
	// Detached lets the runner outlive this program: it is a [Detached]. It needs LogDir, ServiceSpec.Args (without any, a binary answers one request and
	// ends) and a ledger, and a Linux or macOS system. A shell in a session of its own keeps it running, so that it is started again also when
	// this program is gone; it does not outlive the machine's next start. Its log is set aside when it is started, not while it runs.
	//
	// Its copy of the binary is beside its log, or in the user's cache, and is removed when it is stopped. Local jobs are run by processes of this program, which end with it. A program that finds the runner again with OpenService can ask for its health and stop
	// it, and cannot invoke local jobs: it does not know the environment, whose values no ledger holds. A deployment that changes nothing of the runner keeps it.
	Detached bool
}

func (o *Local) stopTimeout() time.Duration {
	if o.StopTimeout > 0 {
		return o.StopTimeout
	}
	return 10 * time.Second
}

// noTimeout is the time a local job has: the caller's context is what limits it.
const noTimeout = 30 * 24 * time.Hour

// Start starts the runner. The error is ErrUnsupported for a binary that this machine cannot run, ErrNotFound for one that is gone, ErrConflict for one that was changed since
// it was inspected, ErrFunctionFailed for a runner that ends at once, and ErrTimeout for a HealthURL that does not become good.
func (o *Local) Start(ctx context.Context, spec Spec) (_ Runner, err error) {
	if why := o.CannotRun(spec.Binary); why != "" {
		return nil, faas.Errorf(faas.ErrUnsupported, "start runner", "", "%s", why)
	}
	if isOwnRunner(spec.Binary) {
		return nil, faas.Errorf(faas.ErrConflict, "start runner", "",
			"this program was itself started as the runner of a service, and would start itself again, without an end: "+
				"let it call job.Main if job.Requested or job.Offered says that it was started for jobs (faas/job)")
	}
	r := &localRunner{
		service: spec.Service, stopTimeout: o.stopTimeout(), logger: spec.Logger, host: worker.NewHost(),
		mark: proctree.New(), residentMark: proctree.New(), health: newHealthCheck(o.HealthURL),
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
		err = o.awaitHealthy(ctx, r)
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return r, nil
}

// isOwnRunner reports whether this process is a runner of the binary: one that deploys itself as its
// own blueprint, and does not tell the two apart.
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

// config is that of the processes of local jobs, but for Path. It is not that of the runner, see asRunner.
func (o *Local) config(spec Spec) worker.Config {
	// What this program was told as a runner or job binary is not for its own.
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

// asRunner is cfg for the runner.
func asRunner(cfg worker.Config, spec Spec) (worker.Config, error) {
	delegated := spec.Delegated
	if delegated == nil {
		delegated = faas.RunnerConfig{}
	}
	text, err := json.Marshal(delegated)
	if err != nil {
		return cfg, faas.Errorf(faas.ErrInternal, "start runner", "", "%w", err)
	}
	cfg.Args, cfg.Env = spec.Args, append(slices.Clip(cfg.Env), faas.RunnerConfigEnv+"="+string(text))
	return cfg, nil
}

func (o *Local) helloTimeout(spec Spec) time.Duration {
	timeout := cmp.Or(max(o.HelloTimeout, 0), 2*time.Second)
	if spec.LocalJobs != nil && len(spec.LocalJobs) == 0 {
		timeout = min(timeout, 250*time.Millisecond) // nobody calls
	}
	return timeout
}

// localRunner is what Local starts.
type localRunner struct {
	service      string
	stopTimeout  time.Duration
	logger       *slog.Logger
	host         *worker.Host
	mark         proctree.Mark    // of the pool's processes
	residentMark proctree.Mark    // of the resident's
	dir          *files.Dir       // of the copy that they execute; nil: none
	pool         *worker.Pool     // nil where nothing is invoked
	runner       bool             // the pool's process is the runner
	resident     *worker.Resident // nil unless a binary without faas/job is kept running
	health       *healthCheck     // nil: none
	logFile      *files.Rotating  // nil: none
	lines        logs.Ring        // the last of them

	removing sync.Once // of dir
}

// copyBinary makes the copy that is executed, which goes with the runner, or with the next one's start if this program is killed.
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
			runner.Mark = r.residentMark // what it has left is ended whenever it ends, and local jobs are not
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
		return faas.Errorf(faas.ErrTimeout, "start runner", "", "%w before %s was seen to run", ctx.Err(), spec.Binary.Path)
	case errors.As(err, &ended) && ended.Type == "exit" && ended.ExitCode == 0 && len(spec.Args) == 0 &&
		spec.LocalJobs != nil && len(spec.LocalJobs) == 0:
		// It has nothing to do where it is asked for nothing, and nothing depends on it.
		r.runner = false
		err = r.pool.Close(ctx)
		r.pool = nil
	}
	return err
}

// CannotInvoke says why Invoke would run no job now.
func (r *localRunner) CannotInvoke() string {
	switch {
	case r.pool == nil:
		return "the binary ends at once, so that there is no runner"
	case r.runner && !r.pool.Speaks():
		return "the runner runs by itself and has not said that it takes calls: let it answer with job.Run where " +
			"job.Offered is true (faas/job), or have the job run on FaaS"
	}
	return ""
}

// refuse is the error of a job that cannot be invoked.
func refuse(jobID uint32, why string) error {
	err := faas.JobErrorf(faas.ErrUnsupported, "invoke", "", jobID,
		"the job is not on FaaS, and cannot be invoked beside it: %s", why)
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

// Health reports how the processes are, and what the HTTP check says.
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

// killTimeout is how long Stop waits for what was killed. The kernel ends a process at once, unless it waits for a device.
const killTimeout = 5 * time.Second

// Stop ends the processes and all that they have started. Calls that run have as long as the runner has to stop; those that are cut off then are no error of Stop.
func (r *localRunner) Stop(ctx context.Context) error {
	killing, cancelKilling := context.WithTimeout(context.WithoutCancel(ctx), r.stopTimeout+killTimeout)
	defer cancelKilling()
	ctx, cancel := context.WithTimeout(ctx, r.stopTimeout)
	defer cancel()
	// What has left the processes' groups may hold their output open, which they are waited for with.
	var force sync.WaitGroup
	closed := make(chan struct{})
	force.Go(func() {
		select {
		case <-ctx.Done():
			_ = r.kill(killing) // it is looked again below
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

// kill ends all that the processes have started.
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
