package platform

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// deployment is what a function should become.
type deployment struct {
	record
	pkg        io.Reader // the zip
	replace    bool
	ifRevision string // what the function's revision has to be, or that of its absence; empty: whatever it is
}

// deploy makes the function exist, and returns when it can be invoked. It replaces an older
// function of the same id without dropping a call. If ctx ends first, nothing has changed.
func (p *Platform) deploy(ctx context.Context, d *deployment) (*function, error) {
	if err := p.checkDeployable(d); err != nil {
		return nil, err
	}
	before, absence := p.restores(d.ID), p.deleted.revision(d.ID)
	u, err := p.store.receive(ctx, d.pkg, int64(p.opts.limits.MaxPackageMB)<<20)
	if err != nil {
		return nil, err
	}
	defer u.discard()

	p.life.RLock()
	defer p.life.RUnlock()
	defer p.changes.lock(d.ID)()
	if err := p.checkDeployable(d); err != nil { // again: another may have come first
		return nil, err
	}
	if p.deleted.revision(d.ID) != absence {
		return nil, notRunError(faas.ErrConflict, "deploy",
			"function %q was deleted while the package was on its way: deploy again if it should be there", d.ID)
	}
	if now := p.restores(d.ID); now.times > 0 && now != before {
		return nil, notRunError(faas.ErrConflict, "deploy",
			"function %q was put back to what it was while the package was on its way: deploy again if it should be replaced",
			d.ID)
	}
	a, err := p.store.add(u, &p.opts.limits)
	if err != nil {
		return nil, err
	}
	d.PackageSHA256, d.PackageSize, d.BinarySize, d.DeployedAt = u.sha256, u.size, a.binary, time.Now().UTC()
	if err := p.checkRevision(d); err != nil {
		_ = p.store.release(u.sha256)
		return nil, err
	}
	f, err := p.launch(ctx, d)
	if err != nil {
		return nil, err
	}
	p.opts.logger.Info("function deployed", "function", d.ID, "sha256", d.PackageSHA256, "warm", f.frames,
		"cold_start_ms", d.ColdStartMS)
	return f, nil
}

// restoration counts how often a function was put back. It does not change when the function is
// replaced.
type restoration struct {
	of    *counts
	times uint64
}

func (p *Platform) restores(id string) (r restoration) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if f := p.functions[id]; f != nil {
		r = restoration{f.counts, f.counts.restores.Load()}
	}
	return r
}

// checkRevision refuses a deployment that was sent when the function was a different one, unless
// the function already is what d wants: then d was only sent again.
func (p *Platform) checkRevision(d *deployment) error {
	if d.ifRevision == "" {
		return nil
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	f := p.functions[d.ID]
	if f != nil && (f.revision() == d.ifRevision || f.same(&d.record)) ||
		f == nil && p.deleted.revision(d.ID) == d.ifRevision {
		return nil
	}
	return notRunError(faas.ErrConflict, "deploy", "function %q is not at revision %.60q: someone else has changed it",
		d.ID, d.ifRevision)
}

// launch starts the function that d.record describes and directs invocations to it. It takes over
// the caller's hold on the package.
func (p *Platform) launch(ctx context.Context, d *deployment) (*function, error) {
	f, err := p.start(ctx, d)
	// What a program was sending when it died must not bring back what another has removed or replaced
	// since.
	if err == nil && ctx.Err() != nil {
		err = notRunError(faas.ErrTimeout, "deploy", "the deployment was given up: %w", context.Cause(ctx))
	}
	if err == nil {
		err = p.install(f)
	}
	if err != nil {
		if f != nil {
			_ = f.stop(p.cutNow())
		}
		_ = p.store.release(d.PackageSHA256)
		return nil, err
	}
	return f, nil
}

func (p *Platform) checkDeployable(d *deployment) error {
	if err := checkID(d.ID); err != nil {
		return err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	old := p.functions[d.ID]
	switch {
	case p.closed:
		return notRunError(faas.ErrUnavailable, "deploy", "the platform is closed")
	case old != nil && !d.replace:
		return notRunError(faas.ErrAlreadyExists, "deploy",
			"function %q exists: delete it first, or replace it with the header X-Blueprint-If-Exists: replace", d.ID)
	case old != nil && old.Service != d.Service:
		return notRunError(faas.ErrConflict, "deploy", "function %q belongs to another service", d.ID)
	case old == nil && len(p.functions) >= p.opts.limits.MaxFunctions:
		return notRunError(faas.ErrTooLarge, "deploy", "there are %d functions, the limit of this platform", len(p.functions))
	}
	return nil
}

// start makes the function and, if its processes stay, starts the first one.
func (p *Platform) start(ctx context.Context, d *deployment) (*function, error) {
	f, err := p.newFunction(d.record)
	if err != nil || !f.frames {
		return f, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.stopping, cancel)()
	if _, err := f.pool.Warm(ctx, max(1, int(d.KeepWarm))); err != nil {
		return f, err
	}
	f.ColdStartMS = float64(f.pool.Stats().LastInit.Microseconds()) / 1000
	return f, nil
}

// install directs invocations to the function, and keeps the replaced one as the previous
// generation. The function must be locked against changes.
func (p *Platform) install(f *function) error {
	p.mu.RLock()
	old := p.functions[f.ID]
	p.mu.RUnlock()
	f.Previous = f.previous(old)
	kept := old != nil && f.Previous != nil && f.Previous != old.Previous
	if kept {
		p.store.hold(f.Previous.PackageSHA256)
	}
	if err := p.store.save(&f.record); err != nil {
		if kept {
			_ = p.store.release(f.Previous.PackageSHA256)
		}
		return err
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		// A saved function comes back with the next platform, so the caller must not remove its package.
		p.store.hold(f.PackageSHA256)
		return notRunError(faas.ErrUnavailable, "deploy", "the platform is closed")
	}
	if old != nil {
		f.counts = old.counts
		f.counts.pools.begin(f.pool)
	}
	p.functions[f.ID] = f
	p.mu.Unlock()
	if old != nil {
		p.drain(old)
		if old.Previous != f.Previous {
			p.forget(old.Previous)
		}
	}
	return nil
}

// forget releases the package of a generation that is no longer kept. rec may be nil.
func (p *Platform) forget(rec *record) {
	if rec == nil {
		return
	}
	if err := p.store.release(rec.PackageSHA256); err != nil {
		p.opts.logger.Warn("a package cannot be removed", "sha256", rec.PackageSHA256, "error", err)
	}
}

// cutNow returns a context that is done.
func (p *Platform) cutNow() context.Context {
	ctx, cancel := context.WithCancel(p.stopping)
	cancel()
	return ctx
}

// removeWait is how long a removal waits for running calls of the function.
const removeWait = 2 * time.Second

// remove removes the function: it can no longer be called, and running calls may finish. If service
// is not empty, the function must belong to it.
func (p *Platform) remove(ctx context.Context, id, service string) error {
	if err := checkID(id); err != nil {
		return err
	}
	p.life.RLock()
	defer p.life.RUnlock()
	done, err := p.uninstall(id, service)
	if err != nil {
		return err
	}
	p.opts.logger.Info("function removed", "function", id)
	timer := time.NewTimer(removeWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

func (p *Platform) uninstall(id, service string) (<-chan struct{}, error) {
	defer p.changes.lock(id)()
	f, err := p.lookup("delete", id)
	if err == nil && service != "" && f.Service != service {
		return nil, notRunError(faas.ErrConflict, "delete", "function %q belongs to another service", id)
	}
	p.deleted.add(id)
	if err != nil {
		return nil, err
	}
	if err := p.store.remove(id); err != nil {
		return nil, err
	}
	p.mu.Lock()
	delete(p.functions, id)
	p.mu.Unlock()
	f.log.ring.Close()
	p.forget(f.Previous)
	return p.drain(f), nil
}

// namingOnly returns an error about the file at path that names the file as the client knows it.
func namingOnly(name, path string, err error) error {
	var e *faas.Error
	if !errors.As(err, &e) {
		return err
	}
	c := *e
	c.Err = pathless{e.Err, strings.ReplaceAll(e.Err.Error(), path, name)}
	return &c
}

// checkRunnable refuses a binary that this machine cannot start.
func checkRunnable(bin *faas.Binary) error {
	var err error
	switch {
	case runtime.GOOS == "linux":
		err = bin.CheckLinux(faas.Arch(runtime.GOARCH))
	case bin.Format == faas.FormatScript && runtime.GOOS != "windows":
	case bin.OS != runtime.GOOS || bin.Arch != "" && string(bin.Arch) != runtime.GOARCH:
		err = faas.Errorf(faas.ErrInvalidArgument, "deploy", providerName, "%s is for %s/%s, this platform runs on %s/%s",
			bootstrap, bin.OS, bin.Arch, runtime.GOOS, runtime.GOARCH)
	}
	return err
}
