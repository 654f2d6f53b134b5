//go:build !faas_only || faas_gcp

package gcp

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
	"github.com/tangle-network/blueprint-serverless/internal/functionid"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// Converge uploads the package where the function does not have it, creates the function or changes what differs, and waits until that is done. A
// function that something else is changing is waited for. A function whose last deployment failed gets everything anew.
//
// One package that several functions share is uploaded once per executor.
func (e *Executor) Converge(ctx context.Context, u faas.Unit, _ *faas.State, report func(faas.Progress)) (faas.State, error) {
	d, err := e.newDeployment(u)
	if err != nil {
		return faas.State{}, err
	}
	if u.Package == nil {
		return faas.State{}, faas.Errorf(faas.ErrInvalidArgument, "deploy", faas.GCPFunctions, "unit %q has no package", u.ID)
	}
	d.sha256 = u.Package.SHA256()
	d.code = d.uploaded
	p := transfer.NewProgress(report, u.Package.Size())
	defer p.Stop()
	return d.run(ctx, p)
}

// deployment is one Converge or Restore.
type deployment struct {
	e      *Executor
	u      faas.Unit
	f      faas.Function
	sha256 string // of the package wanted
	// code returns where the package is, having uploaded it if need be.
	code func(context.Context, *transfer.Progress) (code, error)
	// reused says that code named an upload of an earlier deployment, which Google may have dropped.
	reused bool
	// redact hides the environment's values, which Google may repeat in its messages.
	redact *strings.Replacer
}

func (e *Executor) newDeployment(u faas.Unit) (*deployment, error) {
	bad := func(format string, args ...any) error {
		return faas.Errorf(faas.ErrInvalidArgument, "deploy", faas.GCPFunctions, format, args...)
	}
	if len(u.Functions) != 1 {
		return nil, bad("unit %q has %d functions and not one", u.ID, len(u.Functions))
	}
	f := u.Functions[0]
	if id := functionid.CloudRun.Of(e.set.service, f.JobID); u.ID != id {
		return nil, bad("unit %q is not of this service, whose unit for job %d is %q", u.ID, f.JobID, id)
	}
	if err := e.checkFunction(f); err != nil {
		return nil, err
	}
	return &deployment{e: e, u: u, f: f, redact: foreign.Hider(f.Env.Values()...)}, nil
}

func (d *deployment) request() request { return request{op: "deploy", job: int64(d.f.JobID)} }

// run brings the function to what is wanted.
func (d *deployment) run(ctx context.Context, p *transfer.Progress) (faas.State, error) {
	ctx, cancel := d.e.bounded(ctx)
	defer cancel()
	for i := 0; ; i++ {
		got, err := d.round(ctx, p)
		if err == nil {
			s := d.e.state(got)
			if s.Status != faas.StatusReady {
				return faas.State{}, d.e.errorf(faas.ErrUnavailable, d.request(), "function %s was deployed and is not ready: %s", got.name, d.redact.Replace(s.Reason))
			}
			return s, nil
		}
		again, wait := d.again(err, i)
		switch {
		case !again:
			return faas.State{}, d.hide(err)
		case !transfer.Sleep(ctx, wait):
			return faas.State{}, d.hide(d.e.errorf(faas.ErrTimeout, d.request(), "%w, at the end of: %w", context.Cause(ctx), err))
		}
	}
}

// rounds is how often a deployment looks at a function and changes it. What something else does to the function is waited for, so that few suffice.
const rounds = 8

// again reports whether a further round may do better than the i-th, and how long to wait before it.
func (d *deployment) again(err error, i int) (bool, time.Duration) {
	code := faas.CodeOf(err)
	var api *APIError
	answered := errors.As(err, &api)
	switch {
	case code == faas.ErrConflict && answered && i < rounds, code == faas.ErrAlreadyExists && i < rounds/2:
		return true, time.Duration(1<<i) * 250 * time.Millisecond
	case code == faas.ErrUnavailable && !answered && i < rounds/4: // the answer was lost: a look tells what became of the change
		return true, firstWait
	case d.reused && answered && api.HTTPStatus != 0 && (code == faas.ErrInvalidArgument || code == faas.ErrNotFound):
		d.forgetUpload()
		return true, 0
	}
	return false, 0
}

// round looks at the function once and changes it once.
func (d *deployment) round(ctx context.Context, p *transfer.Progress) (*resource, error) {
	e, r := d.e, d.request()
	d.reused = false
	old, err := e.settled(ctx, r, d.u.ID, p)
	if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return nil, err
	}
	if old != nil && old.service != "" {
		// Before the function's labels say that only few may invoke it, this has to be so.
		if err := e.revoke(ctx, r, old); err != nil {
			return nil, err
		}
	}
	got, err := e.host.apply(ctx, d, old, p)
	if err != nil {
		return nil, err
	}
	if err := e.grant(ctx, r, got); err != nil {
		return nil, err
	}
	if e.set.public && got.url != "" {
		e.awaitOpen(ctx, r, got.url)
	}
	if got.url != "" {
		e.routes.Store(d.f.JobID, &route{got.url})
	}
	return got, nil
}

// settled returns the function once nothing is changing it any more: an earlier call may have been cut off in the middle. The error is
// ErrNotFound where there is none, or none any more.
func (e *Executor) settled(ctx context.Context, r request, id string, p *transfer.Progress) (*resource, error) {
	var got *resource
	err := e.poll(ctx, r, "function "+id+" is being changed", func() (bool, error) {
		var err error
		if got, err = e.observe(ctx, r, id); err != nil {
			return true, err
		}
		if got.status != faas.StatusPending {
			return true, nil
		}
		p.Step("wait")
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	return got, nil
}

// hide takes the environment's values out of an error's text.
func (d *deployment) hide(err error) error {
	var failed *faas.Error
	if errors.As(err, &failed) && failed.Err != nil {
		if text := failed.Err.Error(); d.redact.Replace(text) != text {
			failed.Err = &cleanError{d.redact.Replace(text), redactedCause(failed.Err, d.redact)}
		}
	}
	return err
}

// redactedCause keeps the API's error reachable without the values in it.
func redactedCause(err error, redact *strings.Replacer) error {
	var api *APIError
	if !errors.As(err, &api) {
		return nil
	}
	clean := *api
	clean.Message, clean.Metadata = redact.Replace(api.Message), nil
	return &clean
}
