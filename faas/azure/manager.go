//go:build !faas_only || faas_azure

package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// path returns the path of something in the resource group.
func (e *Executor) path(parts ...string) string {
	return e.groupPath() + "/" + strings.Join(parts, "/")
}

func (e *Executor) groupPath() string {
	return "/subscriptions/" + url.PathEscape(e.subscription) + "/resourceGroups/" + url.PathEscape(e.names.group)
}

// ownGroupPath returns the path of the group itself, which the API writes differently from that of
// its contents.
func (e *Executor) ownGroupPath() string {
	return "/subscriptions/" + url.PathEscape(e.subscription) + "/resourcegroups/" + url.PathEscape(e.names.group)
}

func (e *Executor) sitePath(id string, parts ...string) string {
	return e.path(append([]string{"providers/Microsoft.Web/sites", url.PathEscape(id)}, parts...)...)
}

func (e *Executor) planPath() string {
	return e.path("providers/Microsoft.Web/serverfarms", url.PathEscape(e.names.plan))
}

func (e *Executor) accountPath(parts ...string) string {
	return e.path(append([]string{"providers/Microsoft.Storage/storageAccounts", url.PathEscape(e.names.account)},
		parts...)...)
}

// send sends a request to Resource Manager, and repeats it as long as an earlier change of the
// resource is in progress. If exists is true, the named resource is known to exist, so that a 404
// passes by itself. So does an outage then, because much would be lost in the middle of a
// deployment. path may have a query, and may be a URL of Resource Manager. The caller repeats a
// deletion.
func (e *Executor) send(ctx context.Context, method, path, version string, body any, exists bool) (*http.Response,
	error) {
	once := e.change
	switch method {
	case http.MethodGet:
		once = e.request
	case http.MethodDelete:
		return e.change(ctx, e.arm.Pipeline(), method, path, version, body)
	}
	w := e.wait(e.pace.busy, "%s %s was not possible", method, path)
	w.Patience = soon
	if exists {
		w.Absent, w.Limit = e.pace.appear, max(w.Limit, e.pace.appear)
		w.Patience = func(err error, means kit.Refusal) time.Duration {
			if means.Class == kit.Outage {
				return -1
			}
			return soon(err, means)
		}
	}
	var resp *http.Response
	err := w.Until(ctx, func(ctx context.Context) (err error) {
		resp, err = once(ctx, e.arm.Pipeline(), method, path, version, body)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// soon is the patience of requests that somebody waits for. azcore has been patient with an outage
// already; the engine must learn of throttling, and callers know what else they wait for.
func soon(_ error, means kit.Refusal) time.Duration {
	switch means.Class {
	case kit.Outage, kit.Throttled, kit.Settling:
		return 0
	}
	return -1
}

// change is request for something that may change a resource. It waits a while for the answer even
// if ctx ends: Azure makes a change that was sent, whether or not anybody waits for it.
func (e *Executor) change(
	ctx context.Context, by runtime.Pipeline, method, path, version string, body any,
) (resp *http.Response, err error) {
	err = kit.Change(context.WithValue(ctx, callerKey{}, ctx), e.pace.grace, func(lasting context.Context) error {
		resp, err = e.request(lasting, by, method, path, version, body) // which has read the whole answer
		return err
	})
	return resp, err
}

// request sends a request through a pipeline, and returns an error for an answer other than
// success. path may be a URL.
func (e *Executor) request(
	ctx context.Context, by runtime.Pipeline, method, path, version string, body any,
) (*http.Response, error) {
	if !strings.HasPrefix(path, "https://") {
		path = e.arm.Endpoint() + path
	}
	req, err := runtime.NewRequest(ctx, method, path)
	if err != nil {
		return nil, err
	}
	if version != "" {
		query := req.Raw().URL.Query()
		query.Set("api-version", version)
		req.Raw().URL.RawQuery = query.Encode()
	}
	req.Raw().Header.Set("Accept", "application/json")
	if body != nil {
		if err := runtime.MarshalAsJSON(req, body); err != nil {
			return nil, err
		}
	}
	resp, err := by.Do(req)
	if err == nil && (resp.StatusCode < 200 || resp.StatusCode > 299) {
		return nil, runtime.NewResponseError(resp)
	}
	return resp, err
}

// stillGoingOn converts the error of a wait for an operation that ended too early: the operation
// may still end.
func stillGoingOn(err error) error {
	var vain *kit.WaitError
	if errors.As(err, &vain) {
		return &kit.Unanswered{Err: err}
	}
	return err
}

// notYet says what Azure was seen to be working on. The header may say when to look again.
func notYet(h http.Header, format string, args ...any) error {
	return kit.NotYetAfter(retryAfter(h), format, args...)
}

// callerKey is the key of the caller's context among the values of one that outlasts it.
type callerKey struct{}

// untilCallerLeaves is a policy that sends nothing after the caller's context has ended.
type untilCallerLeaves struct{}

func (untilCallerLeaves) Do(req *policy.Request) (*http.Response, error) {
	if caller, ok := req.Raw().Context().Value(callerKey{}).(context.Context); ok && caller.Err() != nil {
		return nil, &unsent{context.Cause(caller)}
	}
	return req.Next()
}

// unsent is the error of a request that was not sent because its caller's context had ended.
type unsent struct{ err error }

func (u *unsent) Error() string { return u.err.Error() }
func (u *unsent) Unwrap() error { return u.err }

// NonRetriable tells azcore not to try again.
func (*unsent) NonRetriable() {}

// call makes a call that is answered at once. If out is nil, the answer is dropped.
func (e *Executor) call(ctx context.Context, method, path, version string, body, out any) error {
	resp, err := e.send(ctx, method, path, version, body, false)
	return answered(resp, err, out)
}

// must is call for a resource that is known to exist, such as one that was just made. Azure's
// replicas may not know it yet.
func (e *Executor) must(ctx context.Context, method, path, version string, body, out any) error {
	resp, err := e.send(ctx, method, path, version, body, true)
	return answered(resp, err, out)
}

func answered(resp *http.Response, err error, out any) error {
	if err != nil || out == nil { // azcore has read the whole body
		return err
	}
	return runtime.UnmarshalAsJSON(resp, out)
}

// find reads a resource that may not exist. If sure is true, a 404 counts only after several in a
// row, with pauses.
func (e *Executor) find(ctx context.Context, path, version string, out any, sure bool) error {
	said := 1
	if sure {
		said = proofs
	}
	var missing error
	w := e.wait(e.pace.busy, "GET %s was not possible", path)
	w.Patience = soon
	err := w.Until(ctx, func(ctx context.Context) error {
		missing = e.call(ctx, http.MethodGet, path, version, nil, out)
		if !isNotFound(missing) {
			return missing
		}
		if said--; said > 0 {
			return kit.NotYet(0, "%w", missing)
		}
		return nil
	})
	return cmp.Or(err, missing)
}

// proofs is how many 404s in a row, with growing pauses, are believed when much depends on them.
const proofs = 4

// operate makes a call and waits until the operation that it began has ended, polling in the way
// that the answer asks for. out receives the resource. It stays as it was if the record of the
// operation was lost.
func (e *Executor) operate(ctx context.Context, method, path, version string, body, out any) error {
	resp, err := e.send(ctx, method, path, version, body, method == http.MethodPut)
	if err != nil {
		return err
	}
	if method == http.MethodDelete && resp.StatusCode == http.StatusAccepted && !hasPollURL(resp.Header) {
		return nil // the caller waits until the resource is gone
	}
	poller, err := runtime.NewPoller(resp, e.polls, &runtime.NewPollerOptions[json.RawMessage]{Tracer: e.arm.Tracer()})
	if err != nil {
		return err
	}
	header, lost := resp.Header, 0
	var (
		result json.RawMessage
		failed error // of the operation, which ends no other way
	)
	err = e.wait(e.pace.state, "%s %s is still in progress", method, path).Until(ctx, func(ctx context.Context) error {
		if !poller.Done() && header != nil { // Azure wants the first poll to wait, too
			first := header
			header = nil
			return notYet(first, "it has begun")
		}
		if !poller.Done() {
			resp, err := poller.Poll(ctx)
			if isNotFound(err) {
				if lost++; lost > maxLost {
					return nil
				}
				return kit.NotYet(0, "its record is gone: %w", err)
			}
			if err != nil {
				return err
			}
			if lost = 0; !poller.Done() {
				return notYet(resp.Header, "it goes on")
			}
		}
		var err error
		result, err = poller.Result(ctx)
		switch status := statusOf(err); {
		case status == http.StatusNotFound, status == http.StatusUnauthorized:
			return nil // it was said of the last read, of the resource itself, which the caller makes again
		case status == 0, status >= 500, status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
			return err // of that read, too
		}
		failed = err
		return nil
	})
	if err = cmp.Or(failed, stillGoingOn(err)); err != nil || out == nil || len(result) == 0 {
		return err
	}
	return json.Unmarshal(result, out)
}

// unended is a policy for polls: a 401 or a 404 says nothing about an operation, which azcore would
// take for failed.
type unended struct{}

func (unended) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	if err == nil && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusNotFound) {
		failed := runtime.NewResponseError(resp)
		if class := judge(failed).Class; class != kit.Refused && class != kit.Quota {
			return nil, failed
		}
	}
	return resp, err
}

func hasPollURL(h http.Header) bool {
	return h.Get("Location") != "" || h.Get("Azure-AsyncOperation") != "" || h.Get("Operation-Location") != ""
}

// settled reads a resource that exists until it is in no transition. state returns the resource's
// provisioning state.
func (e *Executor) settled(ctx context.Context, path, version string, out any, state func() string) error {
	w := e.wait(e.pace.state, "%s is not ready", path)
	w.Absent = e.pace.appear
	return w.Until(ctx, func(ctx context.Context) error {
		err := e.call(ctx, http.MethodGet, path, version, nil, out)
		if err == nil && isPending(state()) {
			return kit.NotYet(0, "it is in the state %q", sanitize.Line(state(), 40))
		}
		return err
	})
}

// gone waits until a resource whose deletion was accepted is not found.
func (e *Executor) gone(ctx context.Context, path, version string, limit time.Duration) error {
	return e.wait(limit, "%s is not gone", path).Until(ctx, func(ctx context.Context) error {
		err := e.call(ctx, http.MethodGet, path, version, nil, nil)
		switch {
		case isNotFound(err):
			return nil
		case err == nil:
			return kit.NotYet(0, "it is still there")
		}
		return err
	})
}

// remove deletes a resource and returns when it is gone: when Azure has accepted the deletion, and
// then does not find it. A 404 as the answer to the deletion can be about a parent, or come from a
// replica that lags, so remove believes it only after several. before, if not nil, acts on a
// conflict, for example by removing what uses the resource.
func (e *Executor) remove(ctx context.Context, path, version string, before func(context.Context) error) error {
	bare, _, _ := strings.Cut(path, "?")
	w := e.wait(e.pace.state, "DELETE %s was not possible", bare)
	w.Patience = func(_ error, means kit.Refusal) time.Duration {
		if means.Code == faas.ErrConflict { // with what is being removed, too
			return e.pace.state
		}
		return -1
	}
	missing := 0
	return w.Until(ctx, func(ctx context.Context) error {
		err := e.operate(ctx, http.MethodDelete, path, version, nil, nil)
		switch {
		case isNotFound(err):
			if missing++; missing < proofs {
				return kit.NotYet(0, "%w", err)
			}
		case err != nil:
			if before != nil && judge(err).Code == faas.ErrConflict {
				return cmp.Or(before(ctx), err)
			}
			return err
		default:
			missing = 0
		}
		err = e.gone(ctx, bare, version, e.pace.settle)
		var still *kit.WaitError
		if errors.As(err, &still) && ctx.Err() == nil {
			return kit.NotYet(0, "%w", still.Last) // the deletion is sent again
		}
		return err
	})
}

// listAll reads all pages of a list.
func listAll[T any](ctx context.Context, e *Executor, path, version string) ([]T, error) {
	var all []T
	for {
		var page list[T]
		if err := e.call(ctx, http.MethodGet, path, version, nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Value...)
		if page.NextLink == "" {
			return all, nil
		}
		next, err := url.Parse(page.NextLink)
		if err != nil || next.Scheme != "https" || !strings.EqualFold(next.Host, hostOf(e.arm.Endpoint())) {
			return nil, faas.Errorf(faas.ErrUnavailable, "list", faas.AzureFunctions,
				"Azure continues a list at another host, where no token is sent")
		}
		path, version = page.NextLink, ""
	}
}

func unmarshal(text []byte, v any) error {
	if err := json.Unmarshal(text, v); err != nil {
		return faas.Errorf(faas.ErrUnavailable, "", faas.AzureFunctions, "an answer is not in the expected shape: %s",
			sanitize.Line(err.Error(), 200))
	}
	return nil
}
