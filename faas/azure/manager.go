//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// path returns the path of something in the resource group.
func (e *Executor) path(parts ...string) string {
	return e.groupPath() + "/" + strings.Join(parts, "/")
}

func (e *Executor) groupPath() string {
	return "/subscriptions/" + url.PathEscape(e.subscription) + "/resourceGroups/" + url.PathEscape(e.names.group)
}

// ownGroupPath is the path of the group itself, which the API writes in another way than that of what is in it.
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
	return e.path(append([]string{"providers/Microsoft.Storage/storageAccounts", url.PathEscape(e.names.account)}, parts...)...)
}

// send sends a request to Resource Manager, again while it is at work on an earlier change of the
// resource. If exists is true, what the path names is known to exist, so that a 404 passes by itself, and
// so does an outage. path may hold a query, and be a URL of Resource Manager.
func (e *Executor) send(ctx context.Context, method, path, version string, body any, exists bool) (*http.Response, error) {
	w := e.waitFor(e.pace.busy, "%s %s was not possible", method, path)
	w.quick = true // the retry policy below has been patient already
	if exists {
		w.absent, w.limit = e.pace.appear, max(w.limit, e.pace.appear)
		// That is in the middle of a deployment, which much would be lost with. Of throttling the engine has to know.
		w.also = func(err error) bool { return kindOf(err) == outage && statusOf(err) != http.StatusTooManyRequests }
	}
	once := e.change
	if method == http.MethodGet {
		once = e.request
	}
	var resp *http.Response
	err := w.run(ctx, func(ctx context.Context) (bool, time.Duration, error) {
		var err error
		resp, err = once(ctx, e.arm.Pipeline(), method, path, version, body)
		return err == nil, 0, err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// change is request for what may change something. The answer is awaited for a while though ctx ends: a
// change that was sent is made, whether or not anybody waits for it.
func (e *Executor) change(ctx context.Context, by runtime.Pipeline, method, path, version string, body any) (*http.Response, error) {
	lasting, cancel := transfer.Outlast(context.WithValue(ctx, callerKey{}, ctx), e.pace.grace)
	defer cancel() // the pipeline has read the whole answer by then
	resp, err := e.request(lasting, by, method, path, version, body)
	var response *azcore.ResponseError
	if err != nil && !errors.As(err, &response) {
		err = outcome(ctx, err)
	}
	return resp, err
}

// request sends a request by a pipeline, and makes an error of an answer that is no success. path may be
// a URL.
func (e *Executor) request(ctx context.Context, by runtime.Pipeline, method, path, version string, body any) (*http.Response, error) {
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

// outcome says of a change that was sent and not answered that nobody knows what became of it.
func outcome(ctx context.Context, err error) error {
	var never *unsent
	if ctx.Err() == nil || errors.As(err, &never) {
		return err
	}
	return &unknownOutcome{err}
}

// unknownOutcome is the error of a change whose answer did not come in time.
type unknownOutcome struct{ err error }

func (u *unknownOutcome) Error() string {
	return "the change was sent, and it is not known whether Azure has made it: " + u.err.Error()
}
func (u *unknownOutcome) Unwrap() error { return u.err }

// stillGoingOn makes of a wait for an operation that ended in vain what it is: the operation may end later.
func stillGoingOn(err error) error {
	var vain *waitError
	if errors.As(err, &vain) {
		return &unknownOutcome{err}
	}
	return err
}

// callerKey is the key of the caller's context among the values of one that outlasts it.
type callerKey struct{}

// untilCallerLeaves is a policy that sends nothing any more once the caller's context has ended.
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

// NonRetriable tells azcore that there is nothing to try again.
func (*unsent) NonRetriable() {}

// call makes a call that is answered at once. A nil out is for answers that do not matter.
func (e *Executor) call(ctx context.Context, method, path, version string, body, out any) error {
	resp, err := e.send(ctx, method, path, version, body, false)
	return answered(resp, err, out)
}

// must is call for what is known to exist, as a moment after it was made: Azure's replicas may not know it yet.
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

// find reads what may not exist. If sure is true, a 404 counts only when it was said several times in
// a row, with pauses.
func (e *Executor) find(ctx context.Context, path, version string, out any, sure bool) error {
	said := 1
	if sure {
		said = proofs
	}
	var missing error
	w := e.waitFor(e.pace.busy, "GET %s was not possible", path)
	w.quick = true
	err := w.run(ctx, func(ctx context.Context) (bool, time.Duration, error) {
		err := e.call(ctx, http.MethodGet, path, version, nil, out)
		if !isNotFound(err) {
			return true, 0, err
		}
		missing, said = err, said-1
		return said == 0, 0, nil
	})
	if err == nil && said == 0 {
		return missing
	}
	return err
}

// proofs is how many 404s in a row, with growing pauses, are believed where much hangs on them.
const proofs = 4

// operate makes a call and waits until what it began has ended, by whatever way of polling the answer
// asks for. out gets the resource, unless the record of the operation was lost: then it stays as it was.
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
	w := e.waitFor(e.pace.state, "%s %s is still in progress", method, path)
	header, lost := resp.Header, 0
	var (
		result json.RawMessage
		failed error
	)
	err = w.run(ctx, func(ctx context.Context) (bool, time.Duration, error) {
		if header != nil { // Azure wants the first poll to wait, too
			asked := retryAfter(header)
			header = nil
			if !poller.Done() {
				return false, asked, nil
			}
		}
		if !poller.Done() {
			resp, err := poller.Poll(ctx)
			if isNotFound(err) {
				lost++
				return lost > maxLost, 0, nil
			}
			if err != nil {
				return false, 0, err
			}
			lost = 0
			if !poller.Done() {
				return false, retryAfter(resp.Header), nil
			}
		}
		var err error
		switch result, err = poller.Result(ctx); {
		case statusOf(err) == http.StatusNotFound, statusOf(err) == http.StatusUnauthorized:
			return true, 0, nil // it was said of the last read, of the resource itself, which the caller makes again
		case kindOf(err) == busy:
			failed = err // the operation has ended with it, and ends no other way
			return true, 0, nil
		}
		return true, 0, err
	})
	if err == nil {
		err = failed
	}
	err = stillGoingOn(err)
	if err != nil || out == nil || len(result) == 0 {
		return err
	}
	return json.Unmarshal(result, out)
}

// unended is a policy for polls: a 401 or a 404 says nothing of an operation, which azcore would take
// for failed with it.
type unended struct{}

func (unended) Do(req *policy.Request) (*http.Response, error) {
	resp, err := req.Next()
	if err == nil && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusNotFound) {
		if failed := runtime.NewResponseError(resp); kindOf(failed) != final {
			return nil, failed
		}
	}
	return resp, err
}

func hasPollURL(h http.Header) bool {
	return h.Get("Location") != "" || h.Get("Azure-AsyncOperation") != "" || h.Get("Operation-Location") != ""
}

// settled reads a resource that exists until it is in no state between two others. state returns the
// resource's provisioning state.
func (e *Executor) settled(ctx context.Context, path, version string, out any, state func() string) error {
	w := e.waitFor(e.pace.state, "")
	w.what = func() string { return fmt.Sprintf("%s is still in the state %q", path, state()) }
	w.absent = e.pace.appear
	return w.run(ctx, func(ctx context.Context) (bool, time.Duration, error) {
		err := e.call(ctx, http.MethodGet, path, version, nil, out)
		return err == nil && !isPending(state()), 0, err
	})
}

// gone waits until a look does not find a resource whose deletion was accepted.
func (e *Executor) gone(ctx context.Context, path, version string, limit time.Duration) error {
	return e.waitFor(limit, "%s is still there", path).run(ctx, func(ctx context.Context) (bool, time.Duration, error) {
		err := e.call(ctx, http.MethodGet, path, version, nil, nil)
		if isNotFound(err) {
			return true, 0, nil
		}
		return false, 0, err
	})
}

// remove deletes a resource and returns when it is gone: when Azure has accepted the deletion, and then
// does not find it. A 404 in answer to the deletion can be that of a parent, or of a replica that lags,
// so it is believed only when it was said several times. before, unless it is nil, does something about
// a conflict, such as removing what uses the resource.
func (e *Executor) remove(ctx context.Context, path, version string, before func(context.Context) error) error {
	bare, _, _ := strings.Cut(path, "?")
	w := e.waitFor(e.pace.state, "DELETE %s was not possible", bare)
	w.also = isConflict
	missing := 0
	return w.run(ctx, func(ctx context.Context) (bool, time.Duration, error) {
		err := e.operate(ctx, http.MethodDelete, path, version, nil, nil)
		switch {
		case isNotFound(err):
			if missing++; missing < proofs {
				return false, 0, nil
			}
		case err != nil:
			if before != nil && isConflict(err) {
				if err := before(ctx); err != nil {
					return false, 0, err
				}
			}
			return false, 0, err
		default:
			missing = 0
		}
		err = e.gone(ctx, bare, version, e.pace.settle)
		var still *waitError
		if errors.As(err, &still) && ctx.Err() == nil {
			return false, 0, nil // the deletion is sent again
		}
		return err == nil, 0, err
	})
}

// isConflict reports whether Azure refused a change because of the state that something is in, which may pass.
func isConflict(err error) bool {
	var response *azcore.ResponseError
	return errors.As(err, &response) && response.StatusCode == http.StatusConflict && !isLock(response.ErrorCode) &&
		!isQuota(response.StatusCode, response.ErrorCode, messageOf(bodyOf(response)))
}
