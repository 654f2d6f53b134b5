package serverless

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
	"github.com/tangle-network/blueprint-serverless/internal/rotate"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

// fileName makes a file name of a service's name: itself where that is safe, else something readable that no other service gets.
func fileName(service string) string {
	readable := ledger.Readable(service)
	if readable == service {
		return service
	}
	sum := sha256.Sum256([]byte(service))
	return readable + "-" + hex.EncodeToString(sum[:6])
}

// logPath makes the log directory and returns the path of the service's log.
func (o *LocalOrchestrator) logPath(service string) (string, error) {
	if err := os.MkdirAll(o.LogDir, 0o700); err != nil {
		return "", faas.Errorf(faas.ErrInvalidArgument, "start runner", "", "LocalOrchestrator.LogDir: %w", err)
	}
	path, err := filepath.Abs(filepath.Join(o.LogDir, fileName(service)+".log"))
	if err != nil {
		return "", faas.Errorf(faas.ErrInvalidArgument, "start runner", "", "LocalOrchestrator.LogDir: %w", err)
	}
	return path, nil
}

func (o *LocalOrchestrator) logMax() int64 { return int64(cmp.Or(max(o.LogMaxMB, 0), 10)) << 20 }
func (o *LocalOrchestrator) logKeep() int  { return cmp.Or(max(o.LogKeep, 0), 5) }

// openLog makes the processes' lines go where they should.
func (o *LocalOrchestrator) openLog(spec RunnerSpec, cfg *worker.Config, r *localRunner) error {
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
		cfg.Log = func(line worker.Line) { also(line.Text) }
		return nil
	}
	path, err := o.logPath(spec.Service)
	if err != nil {
		return err
	}
	file, err := rotate.Open(path, o.logMax(), o.logKeep())
	if err != nil {
		return faas.Errorf(faas.ErrInvalidArgument, "start runner", "", "LocalOrchestrator.LogDir: %w", err)
	}
	r.logFile = file
	var once sync.Once
	cfg.Log = func(line worker.Line) {
		if err := file.WriteLine(line.Text); err != nil {
			once.Do(func() { logger.Warn("lines of the runner cannot be written to its log file", "error", err) })
		}
		if also != nil {
			also(line.Text)
		}
	}
	return nil
}
