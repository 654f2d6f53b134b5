package custom

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// ready waits until the platform says that the function is deployed, and healthy if it can tell, and returns its state. a is the answer to the PUT.
func (d *deployment) ready(ctx context.Context, a *answer, progress *transfer.Progress) (faas.State, error) {
	r := d.request()
	r.method, r.url = http.MethodPut, d.e.functionURL(d.u.ID, "")
	put, err := d.e.decodeFunction(r, a, d.u.ID)
	if err != nil {
		return faas.State{}, d.hide(err)
	}
	if status, reason := put.status(); status == faas.StatusFailed {
		return faas.State{}, d.failed(r, reason)
	}
	progress.Step("wait")
	deadline := time.Now().Add(d.e.set.readyTimeout)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		s, reason, err := d.look(ctx)
		if err != nil {
			return faas.State{}, d.hide(err)
		}
		if reason == "" {
			return s, nil
		}
		if time.Now().After(deadline) {
			return faas.State{}, d.hide(d.e.errorf(faas.ErrTimeout, r, "function %s was uploaded and does not answer after %v: %s", d.u.ID, d.e.set.readyTimeout, reason))
		}
		if !transfer.Sleep(ctx, wait) {
			return faas.State{}, d.hide(d.e.errorf(faas.ErrTimeout, r, "function %s was uploaded and does not answer yet: %s: %w", d.u.ID, reason, context.Cause(ctx)))
		}
	}
}

func (d *deployment) failed(r request, reason string) error {
	return d.hide(d.e.errorf(faas.ErrUnavailable, r, "function %s was uploaded and cannot run: %s", d.u.ID, d.e.redact(reason)))
}

// look returns the function's state, or why it is not ready yet.
func (d *deployment) look(ctx context.Context) (faas.State, string, error) {
	r := d.request()
	f, err := d.e.get(ctx, r, d.u.ID)
	switch {
	case faas.CodeOf(err) == faas.ErrNotFound: // some platforms show with a delay what was put
		return faas.State{}, "the platform does not show it yet", nil
	case err != nil:
		return faas.State{}, "", err
	case f.PackageSHA256 != "" && f.PackageSHA256 != d.u.Package.SHA256():
		return faas.State{}, "", d.e.errorf(faas.ErrConflict, r, "function %s has other code than was uploaded: someone else is changing it", d.u.ID)
	case f.ConfigFingerprint != "" && f.ConfigFingerprint != d.u.Fingerprint():
		return faas.State{}, "", d.e.errorf(faas.ErrConflict, r, "function %s has another configuration than was sent: someone else is changing it", d.u.ID)
	}
	s := d.e.state(d.u.ID, f)
	switch s.Status {
	case faas.StatusFailed:
		return s, "", d.failed(r, s.Reason)
	case faas.StatusPending:
		return s, s.Reason, nil
	}
	if reason, err := d.unhealthy(ctx); err != nil || reason != "" {
		return s, reason, err
	}
	if uint32(f.MemoryMB) != d.f.MemoryMB && f.MemoryMB > 0 || uint32(f.TimeoutSecs) != d.f.TimeoutSecs && f.TimeoutSecs > 0 {
		d.e.log.WarnContext(ctx, "the platform reports another memory or timeout than was asked for", "function", d.u.ID,
			"memory_mb", f.MemoryMB, "wanted_memory_mb", d.f.MemoryMB, "timeout_secs", f.TimeoutSecs, "wanted_timeout_secs", d.f.TimeoutSecs)
	}
	d.keepWarm(ctx)
	return s, "", nil
}

// unhealthy says why the function does not answer, "" where it does or the platform cannot tell.
func (d *deployment) unhealthy(ctx context.Context) (string, error) {
	h, a, err := d.e.health(ctx, d.request(), d.u.ID)
	switch {
	case err == nil && h.Healthy:
		return "", nil
	case err == nil:
		return "it is unhealthy: " + h.Reason, nil
	case a != nil && a.missing():
		return "", nil
	case isTransient(err) || faas.CodeOf(err) == faas.ErrThrottled:
		return err.Error(), nil
	}
	return "", err
}

// keepWarm starts the instances that the function should have ready. It is a wish: what cannot be warmed still answers.
func (d *deployment) keepWarm(ctx context.Context) {
	if d.f.KeepWarm == 0 {
		return
	}
	if _, err := d.e.Warm(ctx, d.f.JobID, int(d.f.KeepWarm)); err != nil {
		d.e.log.WarnContext(ctx, "the function's instances were not warmed", "function", d.u.ID, "error", err)
	}
}

// health asks the platform for a function's health. The answer is not nil where the platform gave one.
func (e *Executor) health(ctx context.Context, r request, id string) (faas.Health, *answer, error) {
	r.method, r.url = http.MethodGet, e.functionURL(id, "/health")
	a, err := e.send(ctx, r)
	if err != nil {
		return faas.Health{}, nil, err
	}
	var h health
	understood := json.Unmarshal(a.body, &h) == nil && h.Status != ""
	switch {
	case (a.ok() || a.status == http.StatusServiceUnavailable) && understood:
		out := faas.Health{LastInvocation: parseTime(h.LastInvocation), TotalInvocations: count(h.TotalInvocations)}
		if out.Healthy = a.ok() && strings.EqualFold(h.Status, "healthy"); !out.Healthy {
			out.Reason = problem{Error: h.Error}.text()
			if out.Reason == "" {
				out.Reason = "the platform says " + h.Status
			}
			out.Reason = e.redact(foreign.Line(out.Reason, maxMessage))
		}
		return out, a, nil
	case a.ok():
		return faas.Health{}, a, e.errorf(faas.ErrUnavailable, r, "%s %s: the answer is not in the protocol's shape: %s", r.method, faas.RedactURL(r.url), e.redact(foreign.Excerpt(a.body)))
	}
	return faas.Health{}, a, e.statusError(r, a)
}
