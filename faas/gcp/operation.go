//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
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

// patience is how long looks may fail in a row with an error before it is believed: what is being done goes on meanwhile.
func patience(err error) time.Duration {
	var api *APIError
	switch code := faas.CodeOf(err); {
	case code == faas.ErrUnavailable && isCertificate(err), code == faas.ErrInternal:
		return 0
	case code == faas.ErrUnavailable || code == faas.ErrThrottled:
		return 5 * time.Minute
	case code == faas.ErrNotFound: // not everything at Google knows yet what was made a moment ago
		return time.Minute
	case errors.As(err, &api):
		return 15 * time.Second
	}
	return 0
}

// poll calls look until it reports true, with an error or without, or the context is done. An error beside false is that of a look which failed: it ends the
// wait only after a while. Whatever ends the wait, the error has the reason of the last look that failed.
func (e *Executor) poll(ctx context.Context, r request, what string, look func() (bool, error)) error {
	var (
		last   error
		failed time.Time // when the first of the looks failed that failed in a row
	)
	for wait := firstPoll; ; wait = min(wait*3/2, maxPoll) {
		done, err := look()
		pause := wait
		switch {
		case done:
			return err
		case err == nil:
			failed = time.Time{}
		case ctx.Err() != nil: // it failed because of that
			if last == nil {
				last = err
			}
		default:
			if last = err; failed.IsZero() {
				failed = time.Now()
			}
			if time.Since(failed) >= patience(err) {
				return err
			}
			pause = max(wait, time.Second, min(retryAfter(err), maxAsked))
		}
		if ctx.Err() != nil || !transfer.Sleep(ctx, pause) {
			if last == nil {
				return e.errorf(faas.ErrTimeout, r, "%s and has not ended: %w", what, context.Cause(ctx))
			}
			return e.errorf(faas.ErrTimeout, r, "%s and has not ended: %w; the last look that failed: %w", what, context.Cause(ctx), last)
		}
	}
}

func isCertificate(err error) bool {
	var verification *tls.CertificateVerificationError
	return errors.As(err, &verification)
}

// retryAfter is the delay that Google asked for.
func retryAfter(err error) time.Duration {
	var failed *faas.Error
	if errors.As(err, &failed) {
		return failed.RetryAfter
	}
	return 0
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

// await waits for the operation that changes a unit.
func (e *Executor) await(ctx context.Context, r request, base, id string, op *operation, p *transfer.Progress, out any) error {
	err := e.wait(ctx, r, base, op, p, out)
	var api *APIError
	if err == nil || errors.As(err, &api) && api.HTTPStatus == 0 { // its end was seen
		e.memory(id).end()
	}
	return err
}

// operationError is the error of an operation that failed, with what the build said of itself and where its log is.
func (e *Executor) operationError(r request, op *operation) *faas.Error {
	api := &APIError{Message: foreign.Line(r.clean(op.Error.Message), maxMessage)}
	if op.Error.Code > 0 && op.Error.Code < len(canonical) {
		api.Status = canonical[op.Error.Code]
	}
	api.detail(r, *op.Error)
	var logs string
	for _, s := range op.Metadata.Stages {
		for _, m := range s.StateMessages {
			if text := foreign.Line(r.clean(m.Message), maxMessage); (m.Severity == "ERROR" || m.Severity == "") && text != "" && !strings.Contains(api.Message, text) {
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
	code, _ := api.classify()
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
	return strings.Join(texts, "; ")
}

// commitTime is how long the answer to a change that was sent is waited for once the caller has given up.
const commitTime = 10 * time.Second

// commit sends a create or an update of a unit. A request that was sent takes effect whether or not its caller waits for the answer, so that a caller who
// gives up is answered only once the change is known to have begun or not: what undoes it then sees it. The operation that it begins is kept in mind until its
// end was seen.
func (e *Executor) commit(ctx context.Context, r request, base, id string, body any, op *operation) error {
	if ctx.Err() != nil {
		return e.call(ctx, r, false, body, op) // which says so
	}
	within, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(commitTime, cancel) })()
	err := e.call(within, r, false, body, op)
	m := e.memory(id)
	switch {
	case err == nil:
		m.begin(&begun{base, op.Name})
	case within.Err() != nil:
		m.begin(nil)
		return e.errorf(faas.CodeOf(err), r, "it was sent, and what became of it is not known: %w: %w", context.Cause(ctx), err)
	case classOf(err) == unclear:
		m.begin(nil)
	}
	return err
}
