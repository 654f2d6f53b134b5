//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// Between two looks at something that changes, the wait grows from the first to the second.
const (
	firstPoll = 50 * time.Millisecond
	maxPoll   = 5 * time.Second
)

// poll calls done until it reports true or an error, or the context is done.
func (e *Executor) poll(ctx context.Context, r request, what string, done func() (bool, error)) error {
	for wait := firstPoll; ; wait = min(wait*3/2, maxPoll) {
		if ok, err := done(); ok || err != nil {
			return err
		}
		if !transfer.Sleep(ctx, wait) {
			return e.errorf(faas.ErrTimeout, r, "%s and has not ended: %w", what, context.Cause(ctx))
		}
	}
}

// wait waits for an operation of the API at base, reports its stages, and reads its response into out unless that is nil.
func (e *Executor) wait(ctx context.Context, r request, base string, op *operation, p *transfer.Progress, out any) error {
	name := op.Name
	r.method, r.url = http.MethodGet, base+"v2/"+name
	err := e.poll(ctx, r, "operation "+name+" goes on", func() (bool, error) {
		if op.Done {
			return true, nil
		}
		next := &operation{}
		if err := e.call(ctx, r, true, nil, next); err != nil {
			if faas.CodeOf(err) == faas.ErrThrottled || faas.CodeOf(err) == faas.ErrUnavailable {
				return false, nil // what is being done goes on meanwhile
			}
			return false, err
		}
		op = next
		for _, s := range op.Metadata.Stages {
			if s.State == "IN_PROGRESS" {
				p.Step(strings.ToLower(s.Name))
			}
		}
		return op.Done, nil
	})
	if err != nil {
		return err
	}
	if op.Error != nil && op.Error.Code != 0 {
		return e.operationError(r, op)
	}
	if out == nil || len(op.Response) == 0 {
		return nil
	}
	if err := json.Unmarshal(op.Response, out); err != nil {
		return e.errorf(faas.ErrUnavailable, r, "operation %s: the response is not in the API's shape", name)
	}
	return nil
}

// operationError is the error of an operation that failed, with what the build said of itself and where its log is.
func (e *Executor) operationError(r request, op *operation) *faas.Error {
	api := &APIError{Message: foreign.Line(op.Error.Message, maxMessage)}
	if op.Error.Code > 0 && op.Error.Code < len(canonical) {
		api.Status = canonical[op.Error.Code]
	}
	api.detail(*op.Error)
	var logs string
	for _, s := range op.Metadata.Stages {
		for _, m := range s.StateMessages {
			if text := foreign.Line(m.Message, maxMessage); (m.Severity == "ERROR" || m.Severity == "") && text != "" && !strings.Contains(api.Message, text) {
				api.Message += "; " + strings.ToLower(foreign.Line(s.Name, 40)) + ": " + text
			}
		}
		if s.Name == "BUILD" {
			logs = s.ResourceURI
		}
	}
	if logs == "" && op.Metadata.BuildName != "" {
		logs = "https://console.cloud.google.com/cloud-build/builds;region=" + e.set.region + "/" + foreign.Line(lastSegment(op.Metadata.BuildName), 100) + "?project=" + e.set.project
	}
	if logs != "" && !strings.Contains(api.Message, logs) {
		api.Message += "; the build's log: " + foreign.Line(logs, 500)
	}
	api.Remedy = e.remedy(api)
	code := api.code()
	if api.Status == "FAILED_PRECONDITION" {
		code = faas.ErrInvalidArgument // it was begun, so nothing else stood in its way
	}
	return e.errorf(code, r, "operation %s: %w", foreign.Line(op.Name, 200), api)
}

// messages joins what a function says of its state.
func messages(all []stateMessage) string {
	var texts []string
	for _, m := range all {
		if text := cmp.Or(m.Message, m.Type); text != "" {
			texts = append(texts, text)
		}
	}
	return foreign.Line(strings.Join(texts, "; "), maxMessage)
}

// commitTime is how long the answer to a change that was sent is waited for once the caller has given up.
const commitTime = 10 * time.Second

// commit sends a create or an update. A request that was sent takes effect whether or not its caller waits for the answer, so that a caller who gives up
// is answered only once the change is known to have begun or not: what undoes it then sees it.
func (e *Executor) commit(ctx context.Context, r request, body any, op *operation) error {
	if ctx.Err() != nil {
		return e.call(ctx, r, false, body, op) // which says so
	}
	within, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(commitTime, cancel) })()
	return e.call(within, r, false, body, op)
}
