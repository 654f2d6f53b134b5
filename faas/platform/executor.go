package platform

import (
	"cmp"
	"context"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// Executor returns the platform as a provider bound to one service, for a program that embeds it:
// the same functions, without HTTP. Closing the executor leaves the platform open.
func (p *Platform) Executor(service string) *Executor { return &Executor{p: p, service: service} }

// Executor deploys and runs the functions of one service on a [Platform]. Each job is a function
// with the id that the provider "custom" gives it over HTTP: SERVICE-jobN if the service's name
// allows it.
type Executor struct {
	faas.Unimplemented
	p       *Platform
	service string

	mu   sync.Mutex
	made map[string]bool // functions that this executor began to make
	// what functions were before Converge changed them, by id; pointers hide the environment when an
	// executor is printed
	kept map[string][]*record
}

// Service returns the service that the executor is bound to.
func (e *Executor) Service() string { return e.service }

var (
	_ faas.Executor = (*Executor)(nil)
	_ faas.Bound    = (*Executor)(nil)
)

// Units makes one unit for each function. See [faas.Executor].
func (e *Executor) Units(bin *faas.Binary, functions []faas.Function) ([]faas.Unit, error) {
	if e.service == "" {
		return nil, notRunError(faas.ErrInvalidArgument, "units",
			"the service name is empty: an executor is bound to one service")
	}
	if bin == nil {
		return nil, notRunError(faas.ErrInvalidArgument, "units", "there is no binary")
	}
	if err := checkRunnable(bin); err != nil {
		return nil, err
	}
	if limit := int64(e.p.opts.limits.MaxUnpackedMB) << 20; bin.Size > limit {
		return nil, notRunError(faas.ErrTooLarge, "units", "the binary is %d bytes, the limit is %d", bin.Size, limit)
	}
	units := make([]faas.Unit, 0, len(functions))
	seen := make(map[uint32]bool, len(functions))
	for _, f := range functions {
		if seen[f.JobID] {
			return nil, faas.JobErrorf(faas.ErrInvalidArgument, "units", providerName, f.JobID, "the job is there twice")
		}
		seen[f.JobID] = true
		c := functionConfig(f)
		if err := c.check(&e.p.opts.limits); err != nil {
			return nil, faas.JobErrorf(refusalCode(err), "units", providerName, f.JobID, "%w", err)
		}
		units = append(units, faas.Unit{
			ID: kit.ProtocolNames.Of(e.service, f.JobID), Functions: []faas.Function{f},
			Files: []faas.PackageFile{{Name: bootstrap, Path: bin.Path, Mode: 0o755}},
		})
	}
	slices.SortFunc(units, func(a, b faas.Unit) int { return cmp.Compare(a.Functions[0].JobID, b.Functions[0].JobID) })
	return units, nil
}

func functionConfig(f faas.Function) config {
	return config{MemoryMB: f.MemoryMB, TimeoutSecs: f.TimeoutSecs, MaxConcurrency: f.MaxConcurrency, Env: f.Env.Reveal()}
}

// own returns the service's function, an ErrNotFound, or an ErrConflict if it is another service's.
func (e *Executor) own(op, id string) (*function, error) {
	f, err := e.p.lookup(op, id)
	if err != nil {
		return nil, err
	}
	if f.Service != e.service {
		return nil, notRunError(faas.ErrConflict, op, "function %q belongs to another service", id)
	}
	return f, nil
}

// Observe returns what is deployed under the id. See [faas.Executor].
func (e *Executor) Observe(ctx context.Context, id string) (faas.State, error) {
	if err := contextError(ctx, "observe"); err != nil {
		return faas.State{}, err
	}
	f, err := e.own("observe", id)
	if err != nil {
		return faas.State{}, err
	}
	return f.state(), nil
}

func (f *function) state() faas.State {
	s := faas.State{
		ID: f.ID, Status: faas.StatusReady, Resource: "function " + f.ID, PackageSHA256: f.PackageSHA256,
		Fingerprint: f.Fingerprint, JobIDs: f.JobIDs,
		Revision: revisionOf(&f.record), DeployedAt: f.DeployedAt,
		ColdStart: time.Duration(f.ColdStartMS * float64(time.Millisecond)),
	}
	if f.broken != nil {
		s.Status, s.Reason = faas.StatusFailed, f.broken.Error()
		s.NotRestorable = "it does not work as it is: " + s.Reason
	}
	return s
}

// revisionOf returns a text that changes with every deployment.
func revisionOf(rec *record) string { return strconv.FormatInt(rec.DeployedAt.UnixNano(), 10) }

// Converge deploys the unit, and replaces an existing function without dropping a call. See
// [faas.Executor].
func (e *Executor) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (faas.State, error) {
	if err := contextError(ctx, "deploy"); err != nil {
		return faas.State{}, err
	}
	_, err := e.own("deploy", u.ID)
	existed := e.found(u.ID, err == nil) && prior == nil
	state, err := e.converge(ctx, u, report)
	state.Existed = existed
	return state, err
}

// found records whether a function exists. It reports whether one exists that this executor did not
// make.
func (e *Executor) found(id string, exists bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !exists {
		if e.made == nil {
			e.made = map[string]bool{}
		}
		e.made[id] = true
	}
	return exists && !e.made[id]
}

func (e *Executor) converge(ctx context.Context, u faas.Unit, report func(faas.Progress)) (faas.State, error) {
	if len(u.Functions) != 1 {
		return faas.State{}, notRunError(faas.ErrInvalidArgument, "deploy", "unit %q has %d functions and not one", u.ID,
			len(u.Functions))
	}
	if u.Package == nil {
		return faas.State{}, notRunError(faas.ErrInvalidArgument, "deploy", "unit %q has no package", u.ID)
	}
	if f, err := e.own("deploy", u.ID); err == nil {
		if s := f.state(); s.Current(u) {
			return s, nil
		}
		if f.broken == nil {
			e.keep(f.record)
		}
	} else if faas.CodeOf(err) != faas.ErrNotFound {
		return faas.State{}, err
	}
	fn := u.Functions[0]
	c := functionConfig(fn)
	if err := c.check(&e.p.opts.limits); err != nil {
		return faas.State{}, faas.JobErrorf(refusalCode(err), "deploy", providerName, fn.JobID, "%w", err)
	}
	pkg, err := u.Package.Open()
	if err != nil {
		return faas.State{}, err
	}
	defer func() { _ = pkg.Close() }()
	f, err := e.p.deploy(ctx, &deployment{
		record: record{
			ID: u.ID, Service: e.service, Fingerprint: u.Fingerprint(), JobIDs: []uint32{fn.JobID}, KeepWarm: fn.KeepWarm,
			Config: c,
		},
		pkg: &progressReader{r: pkg, ctx: ctx, total: u.Package.Size(), report: report}, replace: true,
	})
	if err != nil {
		return faas.State{}, forJob(err, fn.JobID)
	}
	return f.state(), nil
}

// progressReader reports how much was read, and fails when its context ends.
type progressReader struct {
	r           io.Reader
	ctx         context.Context
	read, total int64
	report      func(faas.Progress)
}

func (r *progressReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(b)
	r.read += int64(n)
	if r.report != nil && n > 0 {
		r.report(faas.Progress{Step: "upload", Bytes: r.read, TotalBytes: r.total})
	}
	return n, err
}

// maxKept is how many earlier generations of a function the executor that changed it keeps.
const maxKept = 8

// keep holds on to the function's current generation, so that Restore can put it back however often
// the function changes.
func (e *Executor) keep(rec record) {
	rec.Previous = nil
	e.mu.Lock()
	defer e.mu.Unlock()
	list := e.kept[rec.ID]
	if slices.ContainsFunc(list, func(k *record) bool { return k.DeployedAt.Equal(rec.DeployedAt) }) {
		return
	}
	e.p.store.hold(rec.PackageSHA256)
	if list = append(list, &rec); len(list) > maxKept {
		e.p.forget(list[0])
		list = list[1:]
	}
	if e.kept == nil {
		e.kept = map[string][]*record{}
	}
	e.kept[rec.ID] = list
}

// letGo undoes keep for one function.
func (e *Executor) letGo(id string) {
	e.mu.Lock()
	list := e.kept[id]
	delete(e.kept, id)
	e.mu.Unlock()
	for _, rec := range list {
		e.p.forget(rec)
	}
}

// Restore puts back prior's code and configuration. Until it is closed, the executor keeps what it
// has changed; the platform keeps each function's generation from before its last replacement. See
// [faas.Executor].
func (e *Executor) Restore(ctx context.Context, prior faas.State) error {
	if err := contextError(ctx, "restore"); err != nil {
		return err
	}
	if prior.NotRestorable != "" {
		return notRunError(faas.ErrUnsupported, "restore", "function %q: %s", prior.ID, prior.NotRestorable)
	}
	e.mu.Lock()
	i := slices.IndexFunc(e.kept[prior.ID], func(k *record) bool { return revisionOf(k) == prior.Revision })
	var kept *record
	if i >= 0 {
		kept = e.kept[prior.ID][i]
		e.p.store.hold(kept.PackageSHA256) // until it is live, whatever is let go meanwhile
		defer e.p.forget(kept)
	}
	e.mu.Unlock()
	if i >= 0 {
		return e.p.putBack(ctx, *kept)
	}
	f, err := e.own("restore", prior.ID)
	if err != nil {
		return err
	}
	if f.broken == nil && f.state().Revision == prior.Revision {
		return nil
	}
	_, err = e.p.restore(ctx, prior.ID, e.service, generation{prior.PackageSHA256, prior.Fingerprint})
	return err
}

// Remove removes the function. See [faas.Executor].
func (e *Executor) Remove(ctx context.Context, id string) error {
	if err := contextError(ctx, "remove"); err != nil {
		return err
	}
	if _, err := e.own("remove", id); err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return err
	}
	// Remove even a function that does not exist, so that a PUT on its way cannot create it.
	if err := e.p.remove(ctx, id, e.service); err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return err
	}
	e.letGo(id)
	e.mu.Lock()
	delete(e.made, id)
	e.mu.Unlock()
	return nil
}

// List returns the service's functions. See [faas.Executor].
func (e *Executor) List(ctx context.Context) ([]faas.State, error) {
	if err := contextError(ctx, "list"); err != nil {
		return nil, err
	}
	states := []faas.State{}
	for _, f := range e.p.list(e.service) {
		states = append(states, f.state())
	}
	return states, nil
}

// Invoke runs the job. See [faas.Invoker].
func (e *Executor) Invoke(ctx context.Context, jobID uint32, args []byte) (*faas.Result, error) {
	id := kit.ProtocolNames.Of(e.service, jobID)
	if _, err := e.own("invoke", id); err != nil {
		return nil, forJob(err, jobID)
	}
	return e.p.Invoke(ctx, id, jobID, args)
}

// Warm starts processes of the job's function. See [faas.Executor].
func (e *Executor) Warm(ctx context.Context, jobID uint32, n int) (int, error) {
	if n < 1 {
		return 0, forJob(notRunError(faas.ErrInvalidArgument, "warm", "%d instances cannot be warmed; the least is 1", n),
			jobID)
	}
	id := kit.ProtocolNames.Of(e.service, jobID)
	if _, err := e.own("warm", id); err != nil {
		return 0, forJob(err, jobID)
	}
	warmed, err := e.p.warm(ctx, id, n)
	return warmed, forJob(err, jobID)
}

// Health returns the health of the job's function. See [faas.Executor].
func (e *Executor) Health(ctx context.Context, jobID uint32) (faas.Health, error) {
	f, err := e.own("health", kit.ProtocolNames.Of(e.service, jobID))
	if err != nil {
		return faas.Health{}, forJob(err, jobID)
	}
	return f.health(), nil
}

// Close releases what the executor kept for Restore.
func (e *Executor) Close() error {
	e.mu.Lock()
	kept := e.kept
	e.kept = nil
	e.mu.Unlock()
	for _, list := range kept {
		for _, rec := range list {
			e.p.forget(rec)
		}
	}
	return nil
}

func contextError(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return notRunError(faas.ErrTimeout, op, "%w", context.Cause(ctx))
	}
	return nil
}
