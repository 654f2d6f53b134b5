package faastest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
)

// MemoryExecutor is a [Cloud] bound to one service. It is an executor.
type MemoryExecutor struct {
	faas.Unimplemented
	cloud   *Cloud
	service string

	mu   sync.Mutex
	made map[string]bool // units that this executor began to create
}

var (
	_ faas.Executor = (*MemoryExecutor)(nil)
	_ faas.Bound    = (*MemoryExecutor)(nil)
)

// Service returns the service that the executor is bound to.
func (e *MemoryExecutor) Service() string { return e.service }

// Units makes one unit per function, or one of all with WithOneUnit.
func (e *MemoryExecutor) Units(bin *faas.Binary, functions []faas.Function) ([]faas.Unit, error) {
	c := e.cloud
	if bin == nil || bin.Path == "" {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "units", c.provider, "there is no binary")
	}
	functions = slices.Clone(functions)
	slices.SortStableFunc(functions, func(a, b faas.Function) int { return cmp.Compare(a.JobID, b.JobID) })
	files := []faas.PackageFile{{Name: "bootstrap", Path: bin.Path, Mode: 0o755}}
	var units []faas.Unit
	for i, f := range functions {
		if i > 0 && functions[i-1].JobID == f.JobID {
			return nil, faas.JobErrorf(faas.ErrInvalidArgument, "units", c.provider, f.JobID, "the job is wanted twice")
		}
		if err := c.check(f); err != nil {
			return nil, err
		}
		f.Env = maps.Clone(f.Env)
		if c.grouped && len(units) == 1 {
			units[0].Functions = append(units[0].Functions, f)
			continue
		}
		id := e.service + "/job" + strconv.FormatUint(uint64(f.JobID), 10)
		if c.grouped {
			id = e.service + "/app"
		}
		units = append(units, faas.Unit{ID: id, Functions: []faas.Function{f}, Files: files})
	}
	return units, nil
}

func (c *Cloud) check(f faas.Function) error {
	refuse := func(code faas.Code, format string, args ...any) error {
		return faas.JobErrorf(code, "units", c.provider, f.JobID, format, args...)
	}
	switch {
	case f.MemoryMB > c.limits.MaxMemoryMB:
		return refuse(faas.ErrTooLarge, "memory of %d MiB is above the limit of %d MiB", f.MemoryMB, c.limits.MaxMemoryMB)
	case f.MemoryMB != c.sizes.RoundUp(f.MemoryMB):
		return refuse(faas.ErrInvalidArgument, "memory of %d MiB is not sold; the next size is %d MiB", f.MemoryMB,
			c.sizes.RoundUp(f.MemoryMB))
	case f.TimeoutSecs == 0:
		return refuse(faas.ErrInvalidArgument, "a timeout of 0 s is not possible; the least is 1 s")
	case f.TimeoutSecs > c.limits.MaxTimeoutSecs:
		return refuse(faas.ErrTooLarge, "a timeout of %d s is above the limit of %d s", f.TimeoutSecs,
			c.limits.MaxTimeoutSecs)
	}
	for name := range f.Env {
		if err := checkEnvName(name); err != nil {
			return refuse(faas.ErrInvalidArgument, "%w", err)
		}
	}
	return nil
}

// checkEnvName returns why a process cannot get an environment variable of that name, or nil.
func checkEnvName(name string) error {
	if name == "" {
		return errors.New("an environment variable has an empty name")
	}
	for i := range len(name) {
		if name[i] == '=' || name[i] == 0 {
			return fmt.Errorf("environment variable %q: its name holds a character that no environment can hold", name)
		}
	}
	return nil
}

// Observe returns what the cloud holds.
func (e *MemoryExecutor) Observe(ctx context.Context, id string) (faas.State, error) {
	call := Call{Op: OpObserve, Unit: id, Job: faas.NoJob}
	fault, err := e.cloud.enter(ctx, call)
	if err != nil {
		return faas.State{}, err
	}
	e.cloud.mu.Lock()
	defer e.cloud.mu.Unlock()
	u, err := e.unit(call)
	if err == nil && u == nil {
		err = e.error(call, faas.ErrNotFound, "there is no unit %q", id)
	}
	if err = fault.after(call, e.cloud.provider, err); err != nil {
		return faas.State{}, err
	}
	return u.state(id), nil
}

// Converge uploads the package unless the cloud holds it, and then switches the unit over in one
// moment.
func (e *MemoryExecutor) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (faas.State, error) {
	call := Call{Op: OpConverge, Unit: u.ID, Job: faas.NoJob}
	if len(u.Functions) == 0 || u.Package == nil {
		return faas.State{}, e.error(call, faas.ErrInvalidArgument, "unit %q has no function or no package", u.ID)
	}
	var state faas.State
	existed := false
	err := e.change(ctx, call, func(fault *Fault) error {
		if err := e.upload(call, u.Package, report); err != nil {
			return err
		}
		c := e.cloud
		c.mu.Lock()
		unit := c.units[u.ID]
		existed = prior == nil && !e.maker(u.ID)
		if unit.status == faas.StatusReady && unit.rev.sha256 == u.Package.SHA256() &&
			unit.rev.fingerprint == u.Fingerprint() {
			state = unit.state(u.ID)
			c.mu.Unlock()
			return nil
		}
		c.mu.Unlock()
		if err := c.sleep(ctx, call); err != nil { // the switch takes time, and until it is done the old revision answers
			err.NotRun = false
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if fault != nil && fault.Kind == Halfway {
			unit.status, unit.reason = faas.StatusFailed, "the last change was not finished"
			return nil
		}
		c.install(u.ID, memoryRevision{functions: cloneFunctions(u.Functions), sha256: u.Package.SHA256(),
			fingerprint: u.Fingerprint()})
		state = unit.state(u.ID)
		return nil
	})
	state.Existed = existed
	return state, err
}

// maker reports whether this executor began to create the unit.
func (e *MemoryExecutor) maker(id string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.made[id]
}

func (e *MemoryExecutor) makes(id string, isSo bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.made == nil {
		e.made = map[string]bool{}
	}
	e.made[id] = isSo
}

// upload reads the package, as a real upload would, so that it notices a package that is missing
// or was changed on disk.
func (e *MemoryExecutor) upload(call Call, p *faas.Package, report func(faas.Progress)) error {
	c := e.cloud
	c.mu.Lock()
	held := c.packages[p.SHA256()]
	c.mu.Unlock()
	if held {
		return nil
	}
	r, err := p.Open()
	if err != nil {
		return e.error(call, faas.ErrInternal, "open the package: %w", err)
	}
	defer r.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, r)
	if err != nil {
		return e.error(call, faas.ErrInternal, "read the package: %w", err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != p.SHA256() {
		return e.error(call, faas.ErrInvalidArgument, "the package's SHA-256 is %s and should be %s", got, p.SHA256())
	}
	if report != nil {
		report(faas.Progress{Step: "upload", Bytes: n, TotalBytes: p.Size()})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.packages[p.SHA256()] {
		c.packages[p.SHA256()] = true
		c.uploads++
	}
	return nil
}

// Restore brings back the revision that prior names.
func (e *MemoryExecutor) Restore(ctx context.Context, prior faas.State) error {
	call := Call{Op: OpRestore, Unit: prior.ID, Job: faas.NoJob}
	return e.change(ctx, call, func(*Fault) error {
		var private memoryPrivate
		if err := json.Unmarshal(prior.Private, &private); err != nil {
			return e.error(call, faas.ErrInvalidArgument, "the state was not made by this provider: %w", err)
		}
		e.cloud.mu.Lock()
		defer e.cloud.mu.Unlock()
		i := slices.IndexFunc(e.cloud.history[prior.ID], func(r memoryRevision) bool { return r.number == private.Revision })
		if i < 0 {
			return e.error(call, faas.ErrUnsupported, "revision %d is unknown", private.Revision)
		}
		rev := e.cloud.history[prior.ID][i]
		unit := e.cloud.units[prior.ID]
		unit.rev, unit.status, unit.reason = rev, prior.Status, prior.Reason
		return nil
	})
}

// Remove removes the unit. Its revisions stay, for Restore.
func (e *MemoryExecutor) Remove(ctx context.Context, id string) error {
	call := Call{Op: OpRemove, Unit: id, Job: faas.NoJob}
	return e.change(ctx, call, func(*Fault) error {
		e.cloud.mu.Lock()
		defer e.cloud.mu.Unlock()
		e.cloud.drop(id)
		e.makes(id, false)
		return nil
	})
}

// List returns the units of the service.
func (e *MemoryExecutor) List(ctx context.Context) ([]faas.State, error) {
	call := Call{Op: OpList, Job: faas.NoJob}
	fault, err := e.cloud.enter(ctx, call)
	if err != nil {
		return nil, err
	}
	if e.cloud.noList {
		return nil, e.error(call, faas.ErrUnsupported, "this cloud cannot list")
	}
	e.cloud.mu.Lock()
	defer e.cloud.mu.Unlock()
	var states []faas.State
	for _, id := range slices.Sorted(maps.Keys(e.cloud.units)) {
		if u := e.cloud.units[id]; u.service == e.service {
			states = append(states, u.state(id))
		}
	}
	return states, fault.after(call, e.cloud.provider, nil)
}

// Close does nothing.
func (e *MemoryExecutor) Close() error { return nil }

// change runs do with the unit marked as being changed. If the unit does not exist, change
// creates it as pending, and removes it again if do never finishes it.
func (e *MemoryExecutor) change(ctx context.Context, call Call, do func(*Fault) error) error {
	c := e.cloud
	fault, err := c.enter(ctx, call)
	if err != nil {
		return err
	}
	c.mu.Lock()
	unit, err := e.unit(call)
	switch {
	case err != nil:
	case unit != nil && unit.changing:
		err = e.error(call, faas.ErrConflict, "unit %q is being changed by another call", call.Unit)
	case unit == nil && call.Op == OpRemove:
		c.mu.Unlock()
		return fault.after(call, c.provider, nil)
	case unit == nil:
		unit = &memoryUnit{
			id: call.Unit, service: e.service, status: faas.StatusPending, running: map[uint32]int{},
			total: map[uint32]uint64{}, last: map[uint32]time.Time{},
			logs: map[uint32]*logs.Ring{},
		}
		c.units[call.Unit] = unit
		e.makes(call.Unit, true)
	}
	if err != nil {
		c.mu.Unlock()
		return err
	}
	unit.changing = true
	c.writing++
	c.peak = max(c.peak, c.writing)
	c.mu.Unlock()

	err = do(fault)

	c.mu.Lock()
	unit.changing = false
	c.writing--
	c.mu.Unlock()
	return fault.after(call, c.provider, err)
}

// install makes rev the unit's revision. The caller holds the lock.
func (c *Cloud) install(id string, rev memoryRevision) {
	c.revisions++
	rev.number, rev.at = c.revisions, time.Now().UTC()
	c.history[id] = append(c.history[id], rev)
	unit := c.units[id]
	unit.rev, unit.status, unit.reason = rev, faas.StatusReady, ""
}

// unit returns the unit that a call concerns, nil if it does not exist, and an ErrConflict if it
// belongs to another service. The caller holds the lock.
func (e *MemoryExecutor) unit(call Call) (*memoryUnit, error) {
	u := e.cloud.units[call.Unit]
	if u != nil && u.service != e.service {
		return nil, e.error(call, faas.ErrConflict, "unit %q belongs to service %q", call.Unit, u.service)
	}
	return u, nil
}

func (e *MemoryExecutor) error(call Call, code faas.Code, format string, args ...any) *faas.Error {
	return &faas.Error{Op: string(call.Op), Provider: e.cloud.provider, JobID: call.Job, Code: code,
		Err: fmt.Errorf(format, args...)}
}

type memoryPrivate struct {
	Revision int `json:"revision"`
}

func (u *memoryUnit) state(id string) faas.State {
	private, err := json.Marshal(memoryPrivate{u.rev.number})
	if err != nil {
		panic(err) // a number always marshals
	}
	s := faas.State{
		ID: id, Status: u.status, Reason: u.reason, Resource: "memory:" + id, PackageSHA256: u.rev.sha256,
		Fingerprint: u.rev.fingerprint,
		Revision:    strconv.Itoa(u.rev.number), DeployedAt: u.rev.at, Private: private,
	}
	for _, f := range u.rev.functions {
		s.JobIDs = append(s.JobIDs, f.JobID)
	}
	return s
}

func cloneFunctions(functions []faas.Function) []faas.Function {
	functions = slices.Clone(functions)
	for i := range functions {
		functions[i].Env = maps.Clone(functions[i].Env)
	}
	return functions
}
