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
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// Restore puts the earlier code and configuration of a function back. A platform with the extension for it is asked to; else, or where the platform does not have them
// any more, they are deployed again, for which package and functions are needed. Without them Restore can only find that nothing has changed.
func (e *Executor) Restore(ctx context.Context, prior faas.State) error {
	u := faas.Unit{ID: prior.ID}
	if e.invokeOnly() {
		return nil // where nothing is deployed, nothing was changed
	}
	r := request{op: "restore", job: faas.NoJob}
	f, err := e.get(ctx, r, prior.ID)
	if err != nil && faas.CodeOf(err) != faas.ErrNotFound {
		return err
	}
	if err == nil {
		// Also where nothing seems to have changed: an upload that was cut off may still be on its way to the platform, and the request stops it.
		if done, err := e.putBack(ctx, r, f, prior); done || err != nil {
			return err
		}
		if e.untouched(prior, e.state(prior.ID, f)) {
			return nil
		}
	}
	known := u.ID == prior.ID && len(u.Functions) > 0 && u.Package != nil &&
		(prior.Fingerprint == "" || prior.Fingerprint == u.Fingerprint()) && (prior.PackageSHA256 == "" || prior.PackageSHA256 == u.Package.SHA256())
	if !known {
		return e.errorf(faas.ErrUnsupported, r, "function %s is not as it was, and the platform does not have what it was: it can be put back only with its earlier package and configuration", prior.ID)
	}
	_, err = e.Converge(ctx, u, nil, nil)
	return err
}

// putBack has the platform make prior's code and configuration the live ones. It reports false where the platform cannot, or does not have them.
func (e *Executor) putBack(ctx context.Context, r request, f *function, prior faas.State) (bool, error) {
	if !f.has(featureRestore) || prior.PackageSHA256 == "" || prior.Fingerprint == "" {
		return false, nil
	}
	text, err := json.Marshal(generation{prior.PackageSHA256, prior.Fingerprint})
	if err != nil {
		panic("faas/custom: two strings do not marshal: " + err.Error())
	}
	r.method, r.url, r.size = http.MethodPost, e.functionURL(prior.ID, "/restore"), int64(len(text))
	r.header = http.Header{"Content-Type": {"application/json"}, "X-Blueprint-Service": {headerText(e.set.service)}}
	r.body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }
	a, err := e.sendSafe(ctx, r)
	switch {
	case err != nil:
		return false, err
	case a.status == http.StatusConflict || a.status == http.StatusNotFound || a.status == http.StatusGone || a.missing():
		return false, nil
	case !a.ok():
		return false, e.statusError(r, a)
	}
	return true, nil
}

// untouched reports whether two states are of one and the same deployment.
func (e *Executor) untouched(a, b faas.State) bool {
	if a.Status != b.Status {
		return false
	}
	if a.PackageSHA256 != "" && a.Fingerprint != "" {
		return a.PackageSHA256 == b.PackageSHA256 && a.Fingerprint == b.Fingerprint
	}
	var was, is private
	return json.Unmarshal(a.Private, &was) == nil && json.Unmarshal(b.Private, &is) == nil && was.Seen != "" && was == is
}

// Remove deletes the function. On an invoke-only platform it does nothing: what was deployed by hand is removed by hand.
func (e *Executor) Remove(ctx context.Context, id string) error {
	if e.invokeOnly() {
		return nil
	}
	r := request{op: "remove", job: faas.NoJob}
	f, err := e.get(ctx, r, id) // a function of another service must not be deleted
	switch code := faas.CodeOf(err); {
	case err == nil, code == faas.ErrNotFound && f != nil: // in the second case it may still be on its way, and the platform can stop it
		return e.delete(ctx, r, id)
	case code == faas.ErrNotFound:
		return nil
	}
	return err
}

// delete deletes a function and returns when it is gone.
func (e *Executor) delete(ctx context.Context, r request, id string) error {
	r.method, r.url = http.MethodDelete, e.functionURL(id, "")
	r.header = http.Header{"X-Blueprint-Service": {headerText(e.set.service)}}
	a, err := e.sendSafe(ctx, r)
	switch {
	case err != nil:
		return err
	case a.status == http.StatusNotFound || a.status == http.StatusGone:
		return nil
	case !a.ok():
		return e.statusError(r, a)
	}
	var f function
	if len(a.body) == 0 || json.Unmarshal(a.body, &f) != nil || f.Status == "" || strings.EqualFold(f.Status, "deleted") {
		return nil
	}
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, time.Second) { // it is being deleted
		if _, err := e.get(ctx, r, id); faas.CodeOf(err) == faas.ErrNotFound {
			return nil
		} else if err != nil {
			return err
		}
		if !transfer.Sleep(ctx, wait) {
			return e.errorf(faas.ErrTimeout, r, "function %s is being deleted and still there: %w", id, context.Cause(ctx))
		}
	}
}
