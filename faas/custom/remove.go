package custom

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// Restore makes a platform with the extension "restore" put back the earlier code and configuration
// of a function. On any other platform it can only verify that nothing has changed; the state says
// so in NotRestorable.
func (e *Executor) Restore(ctx context.Context, prior faas.State) error {
	if e.invokeOnly() {
		return nil // where nothing is deployed, nothing was changed
	}
	r := request{op: "restore", job: faas.NoJob}
	f, err := e.get(ctx, r, prior.ID) // which also looks whose it is
	if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return err
	}
	if prior.NotRestorable == "" {
		// Restore even if nothing seems to have changed: an interrupted upload may still be on its way to
		// the platform, and the request stops it.
		return e.putBack(ctx, r, prior)
	}
	if err == nil && e.untouched(prior, e.state(prior.ID, f)) {
		return nil
	}
	return e.errorf(faas.ErrUnsupported, r, "function %s is not as it was, and cannot be put back: %s", prior.ID,
		prior.NotRestorable)
}

// putBack makes the platform activate prior's code and configuration.
func (e *Executor) putBack(ctx context.Context, r request, prior faas.State) error {
	text, err := json.Marshal(generation{prior.PackageSHA256, prior.Fingerprint})
	if err != nil {
		panic("faas/custom: two strings do not marshal: " + err.Error())
	}
	r.method, r.url, r.size = http.MethodPost, e.functionURL(prior.ID, "/restore"), int64(len(text))
	r.header = http.Header{"Content-Type": {"application/json"}, "X-Blueprint-Service": {headerText(e.set.service)}}
	r.body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	a, err := e.change(ctx, prior.ID, r)
	switch {
	case err != nil:
		return err
	case a.ok():
		e.made.update(prior.ID, func(h *history) { h.open = 0 }) // what arrives now is refused
		return nil
	case a.status == http.StatusConflict || a.status == http.StatusGone || a.missing():
		return e.errorf(faas.ErrConflict, r, "function %s cannot be put back: it is not what it was, nor does the "+
			"platform have that any more, as if someone else had changed it: %w", prior.ID, reason(e.statusError(r, a)))
	}
	return e.statusError(r, a)
}

// untouched reports whether two states describe the same deployment.
func (e *Executor) untouched(before, now faas.State) bool {
	var was, is private
	if json.Unmarshal(before.Private, &was) != nil || json.Unmarshal(now.Private, &is) != nil ||
		was.By == is.By && was.Changes != is.Changes {
		return false
	}
	if now.PackageSHA256 != "" && now.Fingerprint != "" {
		return before.Status == now.Status && before.PackageSHA256 == now.PackageSHA256 &&
			before.Fingerprint == now.Fingerprint
	}
	return was.Seen != "" && was.Seen == is.Seen
}

// Remove deletes the function, whether or not a read finds it. On an invoke-only platform it does
// nothing: functions deployed by hand are removed by hand.
//
// If a read finds nothing, the owner of the function cannot be checked. Its id then suffices: no
// other service has a function with that id.
//
// If an upload of this executor was never answered, its function may still appear. Remove then
// keeps deleting it for some time, and returns an error if the function has not appeared by then.
// It does not wait on a platform that refuses such an upload by itself.
func (e *Executor) Remove(ctx context.Context, id string) error {
	if e.invokeOnly() {
		return nil
	}
	r := request{op: "remove", job: faas.NoJob}
	f, err := e.get(ctx, r, id) // a function of another service must not be deleted
	if faas.CodeOf(err) == faas.ErrNotFound {
		err = e.checkOwner(r, &function{}, id)
	}
	if err != nil {
		return err
	}
	if _, err := e.delete(ctx, r, id); err != nil {
		return err
	}
	if f != nil && f.Revision != "" {
		e.made.update(id, func(h *history) { h.open = 0 })
	}
	return e.outwait(ctx, r, id)
}

// outwait deletes the function until every upload that may have been on its way has arrived.
func (e *Executor) outwait(ctx context.Context, r request, id string) error {
	deadline := time.Now().Add(grace)
	for wait := firstWait; e.made.get(id).open > 0; wait = min(2*wait, 2*time.Second) {
		const unsettled = "function %s is not there, but an upload of it was sent and never answered, and may make it " +
			"appear yet: remove it again in some minutes"
		if time.Now().Add(wait).After(deadline) {
			return e.errorf(faas.ErrUnavailable, r, unsettled, id)
		}
		if !httputil.Sleep(ctx, wait) {
			return e.errorf(faas.ErrTimeout, r, unsettled+" (%w)", id, context.Cause(ctx))
		}
		if _, err := e.delete(ctx, r, id); err != nil {
			return err
		}
	}
	return nil
}

// deleteTime is how long a platform may take to delete a function.
const deleteTime = 2 * time.Minute

// delete deletes a function, returns when it is gone, and reports whether it existed. A platform
// that is still deploying the function may refuse at first.
func (e *Executor) delete(ctx context.Context, r request, id string) (found bool, err error) {
	r.method, r.url = http.MethodDelete, e.functionURL(id, "")
	r.header = http.Header{"X-Blueprint-Service": {headerText(e.set.service)}}
	for p := newPatience(); ; {
		a, err := e.change(ctx, id, r)
		switch {
		case err != nil:
			return false, err
		case a.status == http.StatusNotFound || a.status == http.StatusGone:
			return false, nil
		case a.ok():
			e.made.deleted(id)
			return true, e.awaitGone(ctx, r, id, a)
		}
		refused := e.statusError(r, a)
		wait, more := p.next(refused)
		if a.status != http.StatusConflict || !more || !e.isPending(ctx, r, id) {
			return false, refused
		}
		if !httputil.Sleep(ctx, wait) {
			return false, e.errorf(faas.ErrTimeout, r, "%w; gave up waiting to try again: %w", reason(refused),
				context.Cause(ctx))
		}
	}
}

// isPending reports whether the platform is working on the function.
func (e *Executor) isPending(ctx context.Context, r request, id string) bool {
	f, err := e.get(ctx, r, id)
	if err != nil {
		return false
	}
	status, _ := f.status()
	return status == faas.StatusPending
}

// awaitGone waits until a function is gone whose deletion the platform accepted with a. A platform
// that is already done answers "deleted" or nothing.
func (e *Executor) awaitGone(ctx context.Context, r request, id string, a *answer) error {
	var f function
	if len(a.body) == 0 || json.Unmarshal(a.body, &f) != nil || f.Status == "" || strings.EqualFold(f.Status, "deleted") {
		return nil
	}
	r.single, r.header = true, nil
	return e.wait(ctx, r, deleteTime, "function "+id+" is being deleted and still there", func(ctx context.Context) error {
		_, err := e.get(ctx, r, id)
		switch {
		case faas.CodeOf(err) == faas.ErrNotFound:
			return nil
		case err == nil:
			return kit.NotYet(0, "the platform still shows it")
		}
		return err
	})
}
