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
	// output. Calls come from several goroutines; line must not be kept. nil: the lines go to the logger of the deployment, at level Info.
	Log func(line []byte)
}

// noTimeout is the time a local job has: the caller's context is what limits it.
const noTimeout = 30 * 24 * time.Hour

// Start starts the runner. The error is ErrUnsupported for a binary that this machine cannot run.
func (o *LocalOrchestrator) Start(ctx context.Context, spec RunnerSpec) (Runner, error) {
	if why := cannotRunHere(spec.Binary); why != "" {
		return nil, faas.Errorf(faas.ErrUnsupported, "start runner", "", "%s", why)
	}
	cfg, err := o.config(spec)
	if err != nil {
		return nil, err
	}
	r := &localRunner{service: spec.Service, host: worker.NewHost()}
	cfg.Host = r.host
	if err := r.start(ctx, cfg, spec); err != nil {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Grace)
		defer cancel()
		return nil, errors.Join(err, r.Stop(stopCtx))
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
	for name, value := range spec.Env {
		env = append(env, name+"="+value)
	}
	log := o.Log
	if log == nil {
		logger := spec.Logger.With("service", spec.Service)
		log = func(line []byte) {
			if logger.Enabled(context.Background(), slog.LevelInfo) {
				logger.Info("runner: " + string(line))
			}
		}
	}
	grace := o.StopTimeout
	if grace <= 0 {
		grace = 10 * time.Second
	}
	return worker.Config{
		Path: path, Args: spec.Args, Env: append(env, faas.RunnerConfigEnv+"="+string(delegated)), Dir: o.Dir, TempDir: os.TempDir(),
		Frames: spec.Binary.Protocols == faas.SpeaksAll, MaxWorkers: 1, MinWorkers: 1, MaxConcurrency: 1000, Grace: grace,
		Log: log, Logger: spec.Logger,
	}, nil
}

// localRunner is what LocalOrchestrator starts.
type localRunner struct {
	service  string
	host     *worker.Host
	pool     *worker.Pool     // nil where nothing is invoked
	resident *worker.Resident // nil unless a binary without faas/job is kept running
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

// Health reports how the processes are.
func (r *localRunner) Health(context.Context) (faas.Health, error) {
	stats := r.pool.Stats()
	h := faas.Health{Healthy: true, LastInvocation: stats.LastCall, TotalInvocations: stats.Total}
	if r.resident != nil {
		h.Healthy, h.Reason = r.resident.Health()
	}
	const crashLoop = 3
	if h.Healthy && stats.Failures >= crashLoop {
		h.Healthy, h.Reason = false, fmt.Sprintf("its process keeps ending; last: %v", stats.LastError)
	}
	return h, nil
}

// Stop ends the processes.
func (r *localRunner) Stop(ctx context.Context) error {
	var errs []error
	if r.resident != nil {
		errs = append(errs, r.resident.Close(ctx))
	}
	if r.pool != nil {
		errs = append(errs, r.pool.Close(ctx))
	}
	r.host.Close()
	return errors.Join(errs...)
}

// cannotRunHere says why this machine cannot run the binary; it is empty where it can, or where that cannot be told.
func cannotRunHere(b *faas.Binary) string {
	if b.OS != "" && b.OS != runtime.GOOS || b.Arch != "" && string(b.Arch) != runtime.GOARCH {
		return fmt.Sprintf("%s is for %s/%s and this machine is %s/%s", b.Path, b.OS, b.Arch, runtime.GOOS, runtime.GOARCH)
	}
	return ""
}

// traditionalBy runs all jobs with an orchestrator.
func traditionalBy(orc Orchestrator, logger *slog.Logger) TraditionalFunc {
	return func(ctx context.Context, spec ServiceSpec, jobIDs []uint32, _ Sizing) (Runner, error) {
		binary, err := faas.InspectBinary(spec.BinaryPath)
		if err != nil {
			return nil, err
		}
		return orc.Start(ctx, RunnerSpec{
			Service: spec.Name, BlueprintID: spec.BlueprintID, Binary: binary, Args: spec.Args, Env: spec.Env, Delegated: faas.RunnerConfig{},
			LocalJobs: jobIDs, Logger: logger,
		})
	}
}
