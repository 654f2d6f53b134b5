package serverless

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/logring"
	"github.com/tangle-network/blueprint-serverless/internal/rotate"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

// LocalOrchestrator runs the binary on this machine, as supervised child processes of this program: started again with a capped back-off when they
// end, stopped gracefully and then by force, and gone when this program is gone. It is the default. The zero value is ready for use.
//
// A binary that links faas/job runs as one process. It is the runner, and answers the local jobs, several at a time; what it keeps in memory is there
// for the next call. Any other binary is kept running only if the spec has arguments for it, and its local jobs are run by a process
// each, over standard input and output. All processes have this program's environment, the service's on top of it, and BLUEPRINT_FAAS_CONFIG.
type LocalOrchestrator struct {
	// Dir is the working directory; empty means this program's.
	Dir string
	// StopTimeout is how long a runner may take to stop before it is killed; 0 means 10 s.
	StopTimeout time.Duration
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
	// Detached lets the runner outlive this program: it is a [Survivor]. It needs LogDir, ServiceSpec.Args (without any, a binary answers one request and
	// ends) and a ledger, and a Linux or macOS system. A shell in a session of its own keeps it running, so that it is started again also when
	// this program is gone; it does not outlive the machine's next start. Its log is set aside when it is started, not while it runs.
	//
	// Local jobs are run by processes of this program, which end with it. A program that finds the runner again with OpenService can ask for its health and stop
	// it, and cannot invoke local jobs: it does not know the environment, whose values no ledger holds. A deployment that changes nothing of the runner keeps it.
	Detached bool
}

func (o *LocalOrchestrator) stopTimeout() time.Duration {
	if o.StopTimeout > 0 {
		return o.StopTimeout
	}
	return 10 * time.Second
}

// noTimeout is the time a local job has: the caller's context is what limits it.
const noTimeout = 30 * 24 * time.Hour

// Start starts the runner. The error is ErrUnsupported for a binary that this machine cannot run, and ErrTimeout for a HealthURL that does not become good.
func (o *LocalOrchestrator) Start(ctx context.Context, spec RunnerSpec) (_ Runner, err error) {
	if why := cannotRunHere(spec.Binary); why != "" {
		return nil, faas.Errorf(faas.ErrUnsupported, "start runner", "", "%s", why)
	}
	r := &localRunner{service: spec.Service, stopTimeout: o.stopTimeout(), logger: spec.Logger, host: worker.NewHost(), health: newHealthCheck(o.HealthURL)}
	stop := func() error {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.stopTimeout())
		defer cancel()
		return r.Stop(stopCtx)
	}
	cfg, err := o.config(spec)
	if err == nil {
		cfg.Host = r.host
		err = o.openLog(spec, &cfg, r)
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	if o.Detached {
		d, err := o.startDetached(ctx, spec, cfg, r)
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		return d, nil
	}
	if err = o.stopPrevious(ctx, spec.Previous); err == nil {
		err = r.start(ctx, cfg, spec)
	}
	if err == nil {
		err = o.awaitHealthy(ctx, r)
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return r, nil
}

func (o *LocalOrchestrator) config(spec RunnerSpec) (worker.Config, error) {
	delegated, err := json.Marshal(spec.Delegated)
	if err != nil {
		return worker.Config{}, faas.Errorf(faas.ErrInternal, "start runner", "", "%w", err)
	}
	path, err := filepath.Abs(spec.Binary.Path)
	if err != nil {
		return worker.Config{}, faas.Errorf(faas.ErrInvalidArgument, "start runner", "", "%w", err)
	}
	env := os.Environ()
	for name, value := range spec.Env.Reveal() {
		env = append(env, name+"="+value)
	}
	return worker.Config{
		Path: path, Args: spec.Args, Env: append(env, faas.RunnerConfigEnv+"="+string(delegated)), Dir: o.Dir, TempDir: os.TempDir(),
		Frames: spec.Binary.Protocols == faas.SpeaksAll, MaxWorkers: 1, MinWorkers: 1, MaxConcurrency: 1000, Grace: o.stopTimeout(),
		Logger: spec.Logger,
	}, nil
}

// localRunner is what LocalOrchestrator starts.
type localRunner struct {
	service     string
	stopTimeout time.Duration
	logger      *slog.Logger
	host        *worker.Host
	pool        *worker.Pool     // nil where nothing is invoked
	resident    *worker.Resident // nil unless a binary without faas/job is kept running
	health      *healthCheck     // nil: none
	logFile     *rotate.File     // nil: none
	lines       logring.Ring     // the last of them
}

func (r *localRunner) start(ctx context.Context, cfg worker.Config, spec RunnerSpec) (err error) {
	if !cfg.Frames {
		if len(spec.Args) > 0 {
			if r.resident, err = worker.StartResident(cfg); err != nil {
				return err
			}
		}
		cfg.Args = nil // a single call has none, as on FaaS
	}
	if r.pool, err = worker.New(cfg); err != nil {
		return err
	}
	if !cfg.Frames {
		return nil
	}
	started, err := r.pool.Warm(ctx, 1)
	if err == nil && started == 0 {
		err = fmt.Errorf("%s did not start", cfg.Path)
	}
	return err
}

// Invoke runs a job in the runner, or in a process of its own.
func (r *localRunner) Invoke(ctx context.Context, jobID uint32, args []byte) (*faas.Result, error) {
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
	stats := r.pool.Stats()
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

// Stop ends the processes. Calls that run have as long as the runner has to stop; those that are cut off then are no error of Stop.
func (r *localRunner) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.stopTimeout)
	defer cancel()
	var errs []error
	if r.resident != nil {
		errs = append(errs, r.resident.Close(ctx))
	}
	if r.pool != nil {
		if err := r.pool.Close(ctx); err != nil {
			r.logger.Warn("the runner was stopped while it ran jobs", "service", r.service, "reason", err)
		}
	}
	r.host.Close()
	r.lines.Close()
	if r.logFile != nil {
		errs = append(errs, r.logFile.Close())
	}
	return errors.Join(errs...)
}

// cannotRunHere says why this machine cannot run the binary; it is empty where it can, or where that cannot be told.
func cannotRunHere(b *faas.Binary) string {
	if b.OS != "" && b.OS != runtime.GOOS || b.Arch != "" && string(b.Arch) != runtime.GOARCH {
		return fmt.Sprintf("%s is for %s/%s and this machine is %s/%s", b.Path, b.OS, b.Arch, runtime.GOOS, runtime.GOARCH)
	}
	return ""
}
