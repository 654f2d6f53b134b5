package orchestrator

import (
	"cmp"
	"context"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

// logPath creates the log directory and returns the path of the service's log.
func (o *Local) logPath(service string) (string, error) {
	if err := os.MkdirAll(o.LogDir, 0o700); err != nil {
		return "", faas.Errorf(faas.ErrInvalidArgument, "start runner", "", "orchestrator.Local.LogDir: %w", err)
	}
	path, err := filepath.Abs(filepath.Join(o.LogDir, files.UniqueName(service)+".log"))
	if err != nil {
		return "", faas.Errorf(faas.ErrInvalidArgument, "start runner", "", "orchestrator.Local.LogDir: %w", err)
	}
	return path, nil
}

func (o *Local) logMax() int64 { return int64(cmp.Or(max(o.LogMaxMB, 0), 10)) << 20 }
func (o *Local) logKeep() int  { return cmp.Or(max(o.LogKeep, 0), 5) }

// openLog directs the lines of the processes to their destinations.
func (o *Local) openLog(spec Spec, cfg *worker.Config, r *localRunner) error {
	logger := spec.Logger.With("service", spec.Service)
	also := o.Log
	if o.LogDir == "" {
		if also == nil {
			also = func(line []byte) {
				if logger.Enabled(context.Background(), slog.LevelInfo) {
					logger.Info("runner: " + string(line))
				}
			}
		}
		cfg.Log = func(line worker.Line) {
			r.remember(line)
			also(line.Text)
		}
		return nil
	}
	path, err := o.logPath(spec.Service)
	if err != nil {
		return err
	}
	file, err := files.OpenRotating(path, o.logMax(), o.logKeep())
	if err != nil {
		return faas.Errorf(faas.ErrInvalidArgument, "start runner", "", "orchestrator.Local.LogDir: %w", err)
	}
	r.logFile = file
	var once sync.Once
	cfg.Log = func(line worker.Line) {
		r.remember(line)
		if err := file.WriteLine(line.Text); err != nil {
			once.Do(func() { logger.Warn("cannot write lines of the runner to its log file", "error", err) })
		}
		if also != nil {
			also(line.Text)
		}
	}
	return nil
}

var (
	_ faas.LogReader = (*localRunner)(nil)
	_ faas.LogReader = (*detachedRunner)(nil)
)

// remember keeps the last lines for Logs, and only the first part of a long line.
func (r *localRunner) remember(line worker.Line) {
	if !line.Later {
		r.lines.Add(time.Now(), line.PID, line.Text, line.More)
	}
}

// Logs returns the last lines of the runner and of the processes of its jobs.
func (r *localRunner) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	return logs.Logs(ctx, "", q, logs.Source{Ring: &r.lines, JobID: faas.NoJob})
}

// Logs returns the lines of the runner's log files.
func (d *detachedRunner) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	if d.log == "" {
		return logs.Fail(faas.Errorf(faas.ErrUnsupported, "logs", "",
			"runner %s was started by an earlier version, which did not record where its log is", d.ref.ID))
	}
	return logs.FileLogs(ctx, d.log, q)
}
