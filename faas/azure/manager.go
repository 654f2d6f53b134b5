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

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// Resource Manager is called through azcore's own client, not through the generated ones. Two dozen calls are needed of the thousands that the one for App
// Service has, which takes more than a gigabyte of memory and three times as long to compile as this provider with all else that it links. The module in
// internal/armcheck holds these calls against the generated code.

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

// send sends a request to Resource Manager, again while it is at work on an earlier change of the resource. path may hold a query, and be a URL of
// Resource Manager.
func (e *Executor) send(ctx context.Context, method, path, version string, body any) (*http.Response, error) {
	w := e.newWait(e.pace.role)
	for {
		resp, err := e.sendOnce(ctx, method, path, version, body)
		if err == nil || !isBusy(err) {
			return resp, err
		}
		if more, perr := w.pauseFor(ctx, askedBy(err)); perr != nil || !more {
			return nil, errors.Join(perr, err)
		}
	}
}

func (e *Executor) sendOnce(ctx context.Context, method, path, version string, body any) (*http.Response, error) {
	return e.sendBy(ctx, e.arm.Pipeline(), method, path, version, body)
}

// sendBy sends a request to Resource Manager by a pipeline, and makes an error of an answer that is no success.
func (e *Executor) sendBy(ctx context.Context, by runtime.Pipeline, method, path, version string, body any) (*http.Response, error) {
	target := path
	if !strings.HasPrefix(target, "https://") {
		target = e.arm.Endpoint() + path
	}
	req, err := runtime.NewRequest(ctx, method, target)
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
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, runtime.NewResponseError(resp)
	}
	return resp, nil
}

// call makes a call that is answered at once. A nil out is for answers that do not matter.
func (e *Executor) call(ctx context.Context, method, path, version string, body, out any) error {
	resp, err := e.send(ctx, method, path, version, body)
	if err != nil {
		return err
	}
	if out == nil {
		drain(resp.Body)
		return nil
	}
	return runtime.UnmarshalAsJSON(resp, out)
}

// operate makes a call and waits until what it began has ended, by whatever way of polling the answer asks for. out gets the resource.
func (e *Executor) operate(ctx context.Context, method, path, version string, body, out any) error {
	resp, err := e.send(ctx, method, path, version, body)
	if err != nil {
		return err
	}
	if method == http.MethodDelete && resp.StatusCode == http.StatusAccepted && !hasPollURL(resp.Header) {
		drain(resp.Body)
		return nil // the caller waits until the resource is gone
	}
	poller, err := runtime.NewPoller(resp, e.arm.Pipeline(), &runtime.NewPollerOptions[json.RawMessage]{Tracer: e.arm.Tracer()})
	if err != nil {
		return err
	}
	w := e.newWait(e.pace.state)
	header := resp.Header
	for !poller.Done() {
		if more, err := w.pauseFor(ctx, retryAfter(header)); err != nil || !more {
			return errors.Join(err, w.expired(err, "%s %s is still in progress", method, path))
		}
		resp, err := poller.Poll(ctx)
		if err != nil {
			return err
		}
		header = resp.Header
	}
	result, err := poller.Result(ctx)
	if err != nil || out == nil || len(result) == 0 {
		return err
	}
	return json.Unmarshal(result, out)
}

func hasPollURL(h http.Header) bool {
	return h.Get("Location") != "" || h.Get("Azure-AsyncOperation") != "" || h.Get("Operation-Location") != ""
}

// settled reads a resource until it is in no state between two others. state returns the resource's provisioning state.
func (e *Executor) settled(ctx context.Context, path, version string, out any, state func() string) error {
	w := e.newWait(e.pace.state)
	for {
		if err := e.call(ctx, http.MethodGet, path, version, nil, out); err != nil {
			return err
		}
		switch strings.ToLower(state()) {
		case "", "succeeded", "failed", "canceled":
			return nil
		}
		if more, err := w.pause(ctx); err != nil || !more {
			return errors.Join(err, w.expired(err, "%s is still in the state %s", path, state()))
		}
	}
}

// gone waits until a resource does not exist any more.
func (e *Executor) gone(ctx context.Context, path, version string) error {
	w := e.newWait(e.pace.state)
	for {
		err := e.call(ctx, http.MethodGet, path, version, nil, nil)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if more, err := w.pause(ctx); err != nil || !more {
			return errors.Join(err, w.expired(err, "%s is still there", path))
		}
	}
}

// remove deletes a resource and waits until it is gone. One that does not exist is success. An operation that is still going on is waited for.
func (e *Executor) remove(ctx context.Context, path, version string) error {
	w := e.newWait(e.pace.state)
	for {
		err := e.operate(ctx, http.MethodDelete, path, version, nil, nil)
		switch {
		case err == nil || isNotFound(err):
			return e.gone(ctx, strings.SplitN(path, "?", 2)[0], version)
		case statusOf(err) != http.StatusConflict:
			return err
		}
		if more, perr := w.pause(ctx); perr != nil || !more {
			return err
		}
	}
}

// wait is a wait for a state: the pauses between two reads grow, and there is a longest time for all.
type wait struct {
	next, longest time.Duration
	limit         time.Duration
	deadline      time.Time
}

func (e *Executor) newWait(limit time.Duration) *wait {
	return &wait{next: e.pace.first, longest: e.pace.longest, limit: limit, deadline: time.Now().Add(limit)}
}

// over reports whether the longest time is over.
func (w *wait) over() bool { return time.Now().After(w.deadline) }

// pause waits before the next read. It returns false when the longest time is over, and the context's error when that is done.
func (w *wait) pause(ctx context.Context) (bool, error) { return w.pauseFor(ctx, 0) }

// pauseFor is pause where Azure said how long to wait.
func (w *wait) pauseFor(ctx context.Context, asked time.Duration) (bool, error) {
	if w.over() {
		return false, nil
	}
	d := w.next
	w.next = min(w.next*2, w.longest)
	if asked > 0 {
		d = asked
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// expired says what was waited for in vain. ended is the context's error where that ended the wait.
func (w *wait) expired(ended error, format string, args ...any) error {
	what := fmt.Sprintf(format, args...)
	if ended != nil {
		return errors.New(what)
	}
	return fmt.Errorf("%s after %v: %w", what, w.limit, context.DeadlineExceeded)
}
