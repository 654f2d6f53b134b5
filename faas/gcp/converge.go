//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// Converge uploads the package if the function does not have it, creates the function or changes
// what differs, and waits until that is done. If something else is changing the function, Converge
// waits for that first. It sets everything anew on a function whose last deployment failed.
//
// A package that several functions share is uploaded once per executor.
func (e *Executor) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (faas.State, error) {
	d, err := e.newDeployment(u)
	if err != nil {
		return faas.State{}, err
	}
	if u.Package == nil {
		return faas.State{}, faas.Errorf(faas.ErrInvalidArgument, "deploy", faas.GCPFunctions, "unit %q has no package", u.ID)
	}
	d.sha256 = u.Package.SHA256()
	d.code = d.uploaded
	d.isNew = prior == nil && !e.memory(u.ID).hasChanged()
	p := httputil.NewProgress(report, u.Package.Size())
	defer p.Stop()
	return d.run(ctx, p)
}

// deployment is one Converge or Restore.
type deployment struct {
	e      *Executor
	u      faas.Unit
	f      faas.Function
	sha256 string // of the package wanted
	// code returns where the package is, after uploading it if necessary.
	code func(context.Context, *httputil.Progress) (code, error)
	// reused says that code returned the upload of an earlier deployment, which Google may have
	// dropped.
	reused bool
	from   upload
	// isNew says that nothing is known to exist and that this executor has made nothing. existed says
	// that something existed nevertheless.
	isNew, existed bool
	// hide hides the environment's values, which Google may repeat in its messages.
	hide func(string) string
}

func (e *Executor) newDeployment(u faas.Unit) (*deployment, error) {
	bad := func(format string, args ...any) error {
		return faas.Errorf(faas.ErrInvalidArgument, "deploy", faas.GCPFunctions, format, args...)
	}
	if len(u.Functions) != 1 {
		return nil, bad("unit %q has %d functions, not one", u.ID, len(u.Functions))
	}
	f := u.Functions[0]
	if id := kit.CloudRunNames.Of(e.set.service, f.JobID); u.ID != id {
		return nil, bad("unit %q is not of this service, whose unit for job %d is %q", u.ID, f.JobID, id)
	}
	if _, err := e.takes().Check(u.Functions); err != nil {
		return nil, err
	}
	hide := hiding(slices.AppendSeq(f.Env.Values(), maps.Values(e.set.buildEnv))) // a proxy's URL may hold a password
	return &deployment{e: e, u: u, f: f, hide: hide}, nil
}

func (d *deployment) request() request {
	return request{op: "deploy", job: int64(d.f.JobID), hide: d.hide}
}

// run brings the function to the wanted state.
func (d *deployment) run(ctx context.Context, p *httputil.Progress) (faas.State, error) {
	ctx, cancel := d.e.bounded(ctx)
	defer cancel()
	var s faas.State
	err := d.e.rounds(ctx, d.request(), p, func() error {
		got, err := d.round(ctx, p)
		var refused *refusal
		switch code := faas.CodeOf(err); {
		case err == nil:
		case d.reused && errors.As(err, &refused) && refused.httpStatus != 0 &&
			(code == faas.ErrInvalidArgument || code == faas.ErrNotFound):
			d.forgetUpload()
			got, err = d.round(ctx, p)
		case code == faas.ErrThrottled && errors.As(err, &refused) && refused.httpStatus == 0:
			return d.spent(err)
		}
		if err != nil {
			return err
		}
		if s = d.e.state(got); s.Status != faas.StatusReady {
			return d.e.errorf(faas.ErrUnavailable, d.request(), "function %s was deployed but is not ready: %s", got.name,
				d.hide(s.Reason))
		}
		m := d.e.memory(d.u.ID)
		m.keep(got)
		m.trust()
		return nil
	})
	if err != nil {
		return faas.State{Existed: d.existed}, d.e.unsettled(d.u.ID, err)
	}
	s.Existed = d.existed
	return s, nil
}

// unsettled marks an error after which a change that was sent may still take effect.
func (e *Executor) unsettled(id string, err error) error {
	var failed *faas.Error
	if errors.As(err, &failed) && e.memory(id).isOpen() {
		failed.Unsettled = true
	}
	return err
}

// maxSpent is how many whole operations may fail because of a rate limit.
const maxSpent = 3

// spent turns a rate limit that has ended several whole operations into a quota error. Each such
// operation includes a build, and the engine would begin a hundred.
func (d *deployment) spent(err error) error {
	m := d.e.memory(d.u.ID)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.throttled++; m.throttled < maxSpent {
		return err
	}
	return d.e.errorf(faas.ErrTooLarge, d.request(), "a quota has ended %d operations: %w", m.throttled, err)
}

// How long to wait at most for what usually passes by itself.
const (
	busyRounds      = 8 // what something else does to the function, 64 s in all
	operationRounds = 2 // the same, where it took a whole operation to say so
	existsRounds    = 6 // a function that a read does not show yet, 16 s in all
	unclearRounds   = 5 // an API that fails, 31 s in all

	settleTime  = 6 * time.Minute // what Google makes by itself in a new project
	firstSettle = 5 * time.Second
	maxSettle   = 30 * time.Second
)

// rounds calls round until it succeeds, and again if the obstacle may pass by itself. round looks
// before it changes anything.
func (e *Executor) rounds(ctx context.Context, r request, p *httputil.Progress, round func() error) error {
	met := map[kit.Class]int{}
	var settles time.Time
	for {
		err := round()
		if err == nil {
			return nil
		}
		means := judge(err)
		n := met[means.Class]
		met[means.Class]++
		var wait time.Duration
		switch class := means.Class; {
		case class == kit.Busy && n < busyRounds && !(isOperation(err) && n >= operationRounds):
			wait = 250 * time.Millisecond << n
		case class == kit.Exists && n < existsRounds:
			wait = 250 * time.Millisecond << n
		case class == kit.Outage && n < unclearRounds && !(errors.Is(err, errShape) && n > 0):
			wait = time.Second << n
		case class == kit.Settling:
			if settles.IsZero() {
				settles = time.Now()
			}
			if time.Since(settles) > settleTime {
				return err
			}
			p.Step("wait for a new project")
			e.log.Warn("waiting for something that Google creates in a new project", "error", err)
			wait = min(firstSettle<<min(n, 8), maxSettle)
		case class == kit.Exists:
			return e.errorf(faas.ErrConflict, r, "it exists, but Google does not show it: %w", err)
		default:
			return err
		}
		if !httputil.Sleep(ctx, max(wait, means.RetryAfter)) {
			return e.errorf(faas.ErrTimeout, r, "%w, at the end of: %w", context.Cause(ctx), err)
		}
	}
}

// isOperation reports whether an error comes from an operation, and not from a request.
func isOperation(err error) bool {
	var refused *refusal
	return errors.As(err, &refused) && refused.httpStatus == 0
}

// enabledLately reports whether an API refused as not enabled although it is, because not all of
// Google knows that in the first minutes. If the caller may not ask, the API counts as not enabled.
func (e *Executor) enabledLately(ctx context.Context, r request, err error) bool {
	var refused *refusal
	if !disabled(err) || !errors.As(err, &refused) || refused.metadata["service"] == "" ||
		!slices.Contains([]string{"observe", "deploy", "restore"}, r.op) {
		return false
	}
	if e.set.usageURL == googleUsage && e.set.functionsURL != googleFunctions {
		return false // an emulator is not Google
	}
	state := ""
	_, asked := e.call(ctx, request{op: "enabled", job: r.job}, true, func(ctx context.Context) error {
		got, err := e.usage.Get("projects/" + e.set.project + "/services/" + refused.metadata["service"]).Context(ctx).Do()
		if err == nil {
			state = got.State
		}
		return err
	})
	return asked == nil && state == "ENABLED"
}

// round looks at the function once and changes it once.
func (d *deployment) round(ctx context.Context, p *httputil.Progress) (*resource, error) {
	e, r := d.e, d.request()
	d.reused = false
	old, err := e.settled(ctx, r, d.u.ID, p)
	if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return nil, err
	}
	e.memory(d.u.ID).keep(old)
	if old != nil && d.isNew && !e.memory(d.u.ID).hasChanged() {
		d.existed = true
	}
	if old != nil && old.service != "" {
		// The function's labels must not say that only few may invoke it before that is true.
		if err := e.revoke(ctx, r, old); err != nil {
			return nil, err
		}
	}
	got, err := e.host.apply(ctx, d, old, p)
	if err != nil {
		if d.isNew && judge(err).Class == kit.Exists && !e.memory(d.u.ID).doubts() {
			d.existed = true // a read was behind
		}
		return nil, err
	}
	granted, err := e.grant(ctx, r, got)
	if err != nil {
		return nil, err
	}
	if (e.set.public || granted) && got.url != "" {
		e.awaitOpen(ctx, r, got.url)
	}
	if got.url != "" {
		e.routes.Store(d.f.JobID, routeTo(got))
	}
	return got, nil
}

// settled returns the function once nothing is changing it, because an earlier call may have been
// interrupted. The error is ErrNotFound if the function does not exist, or does not exist any more.
func (e *Executor) settled(ctx context.Context, r request, id string, p *httputil.Progress) (*resource, error) {
	if err := e.finished(ctx, r, id); err != nil {
		return nil, err
	}
	var got *resource
	err := e.poll(ctx, r, "function "+id+" is being changed", func() (bool, error) {
		next, err := e.observe(ctx, r, id)
		switch {
		case err != nil:
			// The first look decides what exists. A later look that fails does not end the wait.
			return got == nil || faas.CodeOf(err) == faas.ErrNotFound && got.leaving || faas.CodeOf(err) == faas.ErrConflict, err
		case next.status != faas.StatusPending:
			got = next
			return true, nil
		}
		got = next
		p.Step("wait")
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}
