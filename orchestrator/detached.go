package orchestrator

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/files"
	"github.com/tangle-network/blueprint-serverless/internal/proctree"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
	"github.com/tangle-network/blueprint-serverless/orchestrator/internal/detached"
)

// localKind is the Kind of the references to detached runners of a Local.
const localKind = "local"

var (
	_ Attacher = (*Local)(nil)
	_ Detached = (*detachedRunner)(nil)
)

// detachedRef is the private part of a reference.
type detachedRef struct {
	Process detached.Process `json:"process"`
	// Runs identifies what the runner runs: executable, arguments and the service's environment.
	Runs string `json:"runs"`
	// Log is the path of its log file.
	Log string `json:"log,omitempty"`
	// Binary is the path of the copy that it executes, which is alone in its directory. It is empty if
	// an earlier version started the runner.
	Binary string `json:"binary,omitempty"`
	// Endpoint is where it answers about its health; nil if it serves no service on chain.
	Endpoint *endpoint `json:"endpoint,omitempty"`
	// Keeps says that it alone keeps what its jobs remember.
	Keeps bool `json:"keeps,omitempty"`
}

// detachedRunner is a runner that outlives this program.
type detachedRunner struct {
	*localRunner // runs local jobs in the program that deployed it; nil in others
	orc          *Local
	ref          Ref
	process      detached.Process
	health       *healthCheck
	log          string
	binary       string
	keeps        bool
}

func (o *Local) newDetached(ref Ref) (*detachedRunner, detachedRef, error) {
	var private detachedRef
	if ref.Kind != localKind {
		return nil, private, faas.Errorf(faas.ErrUnsupported, "find runner", "",
			"the runner is of kind %q, and orchestrator.Local finds kind %q: use the orchestrator that started it", ref.Kind,
			localKind)
	}
	if err := json.Unmarshal(ref.Private, &private); err != nil {
		return nil, private, faas.Errorf(faas.ErrInternal, "find runner", "",
			"the ledger's note of runner %s is damaged: %w", ref.ID, err)
	}
	var e endpoint
	if private.Endpoint != nil {
		e = *private.Endpoint
	}
	return &detachedRunner{orc: o, ref: ref, process: private.Process, health: newHealthCheck(o.HealthURL, e),
		log: private.Log, binary: private.Binary, keeps: private.Keeps}, private, nil
}

// Attach finds a detached runner again. See [Local.Detached] for what the runner that it returns
// can do.
func (o *Local) Attach(_ context.Context, ref Ref) (Detached, error) {
	d, _, err := o.newDetached(ref)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// stopPrevious stops the runner that an earlier deployment left, if any.
func (o *Local) stopPrevious(ctx context.Context, previous *Ref) error {
	if previous == nil {
		return nil
	}
	d, _, err := o.newDetached(*previous)
	if err != nil {
		return err
	}
	return d.end(ctx)
}

// end stops the runner and removes its copy of the binary.
func (d *detachedRunner) end(ctx context.Context) error {
	if err := d.process.Stop(ctx, d.orc.stopTimeout()); err != nil {
		return err
	}
	if dir := filepath.Dir(d.binary); d.process.Mark != "" && strings.HasSuffix(dir, copySuffix+string(d.process.Mark)) {
		return os.RemoveAll(dir)
	}
	return nil
}

// copySuffix ends the first part of the name of a copy's directory. The mark of the runner that
// executes the copy follows.
const copySuffix = ".runner-"

// copyDir returns the directory for the copy of a runner with the mark, and removes the copies of
// runners whose start was cut off. Call it when a process carries the mark, so that nobody takes
// the directory for such a remnant.
func (o *Local) copyDir(service string, mark proctree.Mark) (string, error) {
	parent, err := executableDir(o.LogDir)
	if err == nil {
		parent, err = filepath.Abs(parent)
	}
	if err != nil {
		return "", err
	}
	name := files.UniqueName(service) + copySuffix
	if entries, err := os.ReadDir(parent); err == nil && proctree.Supported {
		for _, e := range entries {
			left, is := strings.CutPrefix(e.Name(), name)
			if is && len(left) == len(mark) && e.IsDir() && !proctree.Mark(left).Exists() {
				_ = os.RemoveAll(filepath.Join(parent, e.Name()))
			}
		}
	}
	return filepath.Join(parent, name+string(mark)), nil
}

// startDetached starts a runner that outlives this program, or keeps the one that runs. It gives
// local what it needs to run local jobs.
func (o *Local) startDetached(ctx context.Context, spec Spec, cfg worker.Config,
	local *localRunner) (*detachedRunner, error) {
	bad := func(format string, args ...any) error {
		return faas.Errorf(faas.ErrInvalidArgument, "start runner", "", "orchestrator.Local.Detached: "+format, args...)
	}
	switch {
	case o.LogDir == "":
		return nil, bad("LogDir is empty, and nobody takes the lines when this program is gone: set a directory")
	case len(spec.Args) == 0:
		return nil, bad("ServiceSpec.Args is empty, and %s without arguments answers one request and ends: give the "+
			"arguments with which it keeps running", spec.Binary.Path)
	case spec.Record == nil:
		return nil, bad("Spec.Record is nil, so nobody records where the runner is")
	}
	log, err := o.logPath(spec.Service)
	if err != nil {
		return nil, err
	}
	runs, err := whatRuns(spec, cfg)
	if err != nil {
		return nil, err
	}
	if previous := spec.Previous; previous != nil {
		old, private, err := o.newDetached(*previous)
		if err != nil {
			return nil, err
		}
		if private.Runs == runs && old.process.Alive() && holds(old.binary, spec.Binary.SHA256) {
			old.localRunner, cfg.Path = local, old.binary
			return old, local.startPool(cfg)
		}
	}
	// Copy before the earlier runner is stopped, because the copy may fail.
	d := &detachedRunner{localRunner: local, orc: o, health: local.health, log: log,
		keeps: spec.Chain != nil && spec.Binary.Protocols == faas.SpeaksAll}
	start := detached.Config{Dir: cfg.Dir, Output: log, Status: strings.TrimSuffix(log, ".log") + ".ends",
		Mark: proctree.New()}
	dir, err := o.copyDir(spec.Service, start.Mark)
	if err != nil {
		return nil, err
	}
	d.binary = filepath.Join(dir, filepath.Base(spec.Binary.Path))
	runner, err := asRunner(cfg, spec)
	if err != nil {
		return nil, err
	}
	start.Path, start.Args, start.Env = d.binary, runner.Args, runner.Env
	if info, err := os.Stat(log); err == nil && info.Size() > o.logMax() {
		if err := files.Shift(log, o.logKeep()); err != nil {
			return nil, bad("%w", err)
		}
	}
	d.process, err = detached.Start(start, func(p detached.Process) error {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return bad("%w", err)
		}
		if _, err := copyBinary(spec.Binary, dir); err != nil {
			return err
		}
		if err := o.stopPrevious(ctx, spec.Previous); err != nil {
			return err
		}
		note := detachedRef{Process: p, Runs: runs, Log: log, Binary: d.binary, Keeps: d.keeps}
		if spec.Chain != nil {
			note.Endpoint = &d.health.endpoint
		}
		private, err := json.Marshal(note)
		if err != nil {
			return err
		}
		d.ref = Ref{Kind: localKind, ID: fmt.Sprintf("process %d started at %s", p.PID, p.Start), Private: private}
		return spec.Record(d.ref)
	})
	switch {
	case errors.Is(err, detached.ErrUnsupported):
		return nil, faas.Errorf(faas.ErrUnsupported, "start runner", "",
			"orchestrator.Local.Detached: a runner can outlive its program only on Linux and macOS")
	case err != nil:
		return nil, errors.Join(&faas.Error{Op: "start runner", JobID: faas.NoJob, Code: faas.CodeOf(err), Err: err},
			os.RemoveAll(dir))
	}
	cfg.Path = d.binary
	if err = local.startPool(cfg); err == nil {
		err = o.awaitUp(ctx, spec, d, d.health)
	}
	if err != nil {
		return nil, errors.Join(err, d.end(context.WithoutCancel(ctx)))
	}
	return d, nil
}

// whatRuns identifies what a runner runs. It is a hash because it covers the service's environment.
func whatRuns(spec Spec, cfg worker.Config) (string, error) {
	text, err := json.Marshal(struct {
		SHA256, Path, Dir string
		Args              []string
		Env               map[string]string
		Delegated         faas.RunnerConfig
		RunnerEnv         map[string]string `json:",omitempty"`
		DataDir           string            `json:",omitempty"`
	}{spec.Binary.SHA256, spec.Binary.Path, cfg.Dir, spec.Args, spec.Env.Reveal(), spec.Delegated,
		spec.RunnerEnv.Reveal(), dataDir(spec)})
	if err != nil {
		return "", faas.Errorf(faas.ErrInternal, "start runner", "", "%w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// startPool prepares for local jobs. Calls start its processes.
func (r *localRunner) startPool(cfg worker.Config) (err error) {
	r.pool, err = worker.New(cfg)
	return err
}

// Ref returns what finds the runner again.
func (d *detachedRunner) Ref() Ref { return d.ref }

// CannotInvoke says why Invoke would refuse every job. It is empty if Invoke would not.
func (d *detachedRunner) CannotInvoke() string {
	if d.keeps {
		return "it serves a service on chain in a process of its own, whose jobs may remember what another process would " +
			"not know: submit the job on chain, or deploy without Detached"
	}
	if d.localRunner == nil {
		return "only the program that deployed the service has the environment to run it: deploy again to get a handle " +
			"that can"
	}
	return ""
}

// Invoke runs a local job in a process of this program.
func (d *detachedRunner) Invoke(ctx context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	if why := d.CannotInvoke(); why != "" {
		return nil, refuse(jobID, why)
	}
	return d.localRunner.Invoke(ctx, jobID, args)
}

// Health reports whether the runner is kept running, whether it keeps ending, and what the HTTP
// check says.
func (d *detachedRunner) Health(ctx context.Context) (faas.Health, error) {
	h := faas.Health{Healthy: true}
	if d.localRunner != nil {
		stats := d.pool.Stats()
		h.LastInvocation, h.TotalInvocations = stats.LastCall, stats.Total
	}
	const crashLoop = 3
	if !d.process.Alive() {
		h.Healthy, h.Reason = false, "it does not run: "+d.ref.ID
	} else if ends := d.process.Ends(); ends >= crashLoop {
		h.Healthy, h.Reason = false, fmt.Sprintf("its process keeps ending: %d times in a row, see its log", ends)
	}
	return d.health.check(ctx, h), nil
}

// Stop ends the runner, and the processes with which this program runs its local jobs.
func (d *detachedRunner) Stop(ctx context.Context) error {
	return errors.Join(d.end(ctx), d.Release(ctx))
}

// Release ends the processes of local jobs and leaves the runner running.
func (d *detachedRunner) Release(ctx context.Context) error {
	if d.localRunner == nil {
		return nil
	}
	return d.localRunner.Stop(ctx)
}
