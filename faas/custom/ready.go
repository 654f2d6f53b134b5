package custom

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// ready waits until the platform reports that the function is deployed, and healthy if it reports
// health, and returns the state. a is the answer to the PUT. A read that fails or is behind does
// not end the wait.
func (d *deployment) ready(ctx context.Context, a *answer, progress *httputil.Progress) (faas.State, error) {
	r := d.request()
	r.method, r.url = http.MethodPut, d.e.functionURL(d.u.ID, "")
	put, err := d.e.decodeFunction(r, a, d.u.ID)
	if err != nil {
		return faas.State{}, err
	}
	if status, reason := put.status(); status == faas.StatusFailed {
		return faas.State{}, d.failed(r, reason)
	}
	progress.Step("wait")
	begun := time.Now()
	var s faas.State
	err = d.e.wait(ctx, r, d.e.set.readyTimeout, "function "+d.u.ID+" was uploaded and does not answer",
		func(ctx context.Context) (err error) {
			s, err = d.look(ctx, begun)
			return err
		})
	if err != nil {
		return faas.State{}, err
	}
	d.keepWarm(ctx)
	return s, nil
}

// wait waits for a state. r is the request that should bring it about.
func (e *Executor) wait(ctx context.Context, r request, limit time.Duration, vain string,
	look func(context.Context) error) error {
	w := kit.Wait{What: vain, First: 20 * time.Millisecond, Longest: time.Second, Limit: limit}
	err := w.Until(ctx, look)
	var over *kit.WaitError
	if errors.As(err, &over) {
		return e.errorf(faas.ErrTimeout, r, "%w", err)
	}
	return err
}

func (d *deployment) failed(r request, reason string) error {
	cause := fmt.Errorf("function %s was uploaded and cannot run: %s", d.u.ID, d.e.clean.Line(reason, maxMessage))
	return r.fail(kit.Refusal{Class: kit.Refused, Code: faas.ErrUnavailable}, cause)
}

// look returns the function's state, or why it is not ready yet. put is when it was put.
func (d *deployment) look(ctx context.Context, put time.Time) (faas.State, error) {
	r := d.request()
	r.single = true
	notYet := func(text string) error { return kit.NotYet(0, "%s", text) }
	f, err := d.e.get(ctx, r, d.u.ID)
	switch {
	case faas.CodeOf(err) == faas.ErrNotFound: // some platforms show with a delay what was put
		return faas.State{}, notYet("the platform does not show it yet")
	case err != nil:
		return faas.State{}, err
	case d.isBefore(f, put):
		return faas.State{}, notYet("the platform still shows what was there before")
	case f.PackageSHA256 != "" && f.PackageSHA256 != d.u.Package.SHA256():
		return faas.State{}, notYet("it has other code than was uploaded: the platform shows what was there before, or " +
			"someone else is changing it")
	case f.ConfigFingerprint != "" && f.ConfigFingerprint != d.u.Fingerprint():
		return faas.State{}, notYet("it has another configuration than was sent: the platform shows what was there " +
			"before, or someone else is changing it")
	}
	s := d.e.state(d.u.ID, f)
	switch s.Status {
	case faas.StatusFailed:
		return s, d.failed(r, s.Reason)
	case faas.StatusPending:
		return s, notYet(s.Reason)
	}
	h, a, err := d.e.health(ctx, r, d.u.ID)
	switch {
	case err == nil && !h.Healthy:
		return s, notYet("it is unhealthy: " + h.Reason)
	case err != nil && (a == nil || !a.missing()):
		return s, err
	}
	if uint32(f.MemoryMB) != d.f.MemoryMB && f.MemoryMB > 0 || uint32(f.TimeoutSecs) != d.f.TimeoutSecs &&
		f.TimeoutSecs > 0 {
		d.e.log.WarnContext(ctx, "the platform reports another memory or timeout than was asked for", "function", d.u.ID,
			"memory_mb", f.MemoryMB, "wanted_memory_mb", d.f.MemoryMB, "timeout_secs", f.TimeoutSecs, "wanted_timeout_secs",
			d.f.TimeoutSecs)
	}
	return s, nil
}

// keepWarm starts the instances that the function should keep ready. Failing to do so is not an
// error: a cold function still answers.
func (d *deployment) keepWarm(ctx context.Context) {
	if d.f.KeepWarm == 0 {
		return
	}
	if _, err := d.e.Warm(ctx, d.f.JobID, int(d.f.KeepWarm)); err != nil {
		d.e.log.WarnContext(ctx, "the function's instances were not warmed", "function", d.u.ID, "error", err)
	}
}

// health asks the platform for a function's health. The answer is nil only if the platform gave
// none.
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
			out.Reason = e.clean.Line(out.Reason, maxMessage)
		}
		return out, a, nil
	case a.ok():
		return faas.Health{}, a, e.errorf(faas.ErrUnavailable, r, "%s %s: the answer is not in the protocol's shape: %s",
			r.method, faas.RedactURL(r.url), e.clean.Excerpt(a.body))
	}
	return faas.Health{}, a, e.statusError(r, a)
}
