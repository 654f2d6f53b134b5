//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"cloud.google.com/go/functions/apiv2/functionspb"
	"github.com/googleapis/gax-go/v2/apierror"
	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

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
	var refused *refusal
	switch code := faas.CodeOf(err); {
	case code == faas.ErrUnavailable && isCertificate(err), code == faas.ErrInternal:
		return 0
	case code == faas.ErrUnavailable || code == faas.ErrThrottled:
		return 5 * time.Minute
	case code == faas.ErrNotFound: // not everything at Google knows yet what was made a moment ago
		return time.Minute
	case errors.As(err, &refused):
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

// operation is a google.longrunning.Operation of either API, as far as one cannot do without. Google's
// clients cannot read one whose error has a detail of a type that they do not know, and so would never
// see its end.
type operation struct {
	Name  string `json:"name"`
	Done  bool   `json:"done"`
	Error *struct {
		Code    int32             `json:"code"`
		Message string            `json:"message"`
		Details []json.RawMessage `json:"details"`
	} `json:"error"`
	Response json.RawMessage `json:"response"`
	Metadata json.RawMessage `json:"metadata"`
}

// stages tells how far an operation of Cloud Functions is; nil if it does not say.
func (op *operation) stages() *functionspb.OperationMetadata {
	m := &functionspb.OperationMetadata{}
	if (protojson.UnmarshalOptions{AllowPartial: true, DiscardUnknown: true}).Unmarshal(op.Metadata, m) != nil {
		return nil
	}
	return m
}

// begin calls a method of an API that answers with an operation.
func (e *Executor) begin(ctx context.Context, r request, safe bool, body []byte, do func(context.Context) error) (*operation, error) {
	x, err := e.callWith(ctx, r, safe, body, do)
	if err != nil && !errors.Is(err, errShape) {
		return nil, err
	}
	op := &operation{}
	if json.Unmarshal(x.body, op) != nil || op.Name == "" {
		if err == nil {
			r.method, r.url = x.method, x.url
			err = e.errorf(faas.ErrUnavailable, r, "%s %s: %w: it names no operation", r.method, faas.RedactURL(r.url), errShape)
		}
		return nil, err
	}
	return op, nil
}

// wait waits for an operation, reports its stages, and returns its response.
func (e *Executor) wait(ctx context.Context, r request, op *operation, p *transfer.Progress) (json.RawMessage, error) {
	name := op.Name
	err := e.poll(ctx, r, "operation "+name+" goes on", func() (bool, error) {
		if op.Done {
			return true, nil
		}
		next, err := e.begin(ctx, r, true, nil, e.host.operation(name))
		if err != nil {
			return false, err
		}
		op = next
		for _, s := range op.stages().GetStages() {
			if s.GetState() == functionspb.Stage_IN_PROGRESS {
				p.Step(strings.ToLower(s.GetName().String()))
			}
		}
		return op.Done, nil
	})
	if err != nil {
		return nil, err
	}
	if op.Error != nil && op.Error.Code != 0 {
		return nil, e.operationError(r, op)
	}
	return op.Response, nil
}

// await waits for the operation that changes a unit.
func (e *Executor) await(ctx context.Context, r request, id string, op *operation, p *transfer.Progress) (json.RawMessage, error) {
	response, err := e.wait(ctx, r, op, p)
	if err == nil || isOperation(err) { // its end was seen
		e.memory(id).end()
	}
	return response, err
}

// operationError is the error of an operation that failed, with what the build said of itself and where its log is.
func (e *Executor) operationError(r request, op *operation) *faas.Error {
	for i, text := range op.Error.Details {
		op.Error.Details[i] = json.RawMessage(r.clean(string(text)))
	}
	details, message := known(op.Error.Details), r.clean(op.Error.Message)
	err, _ := apierror.FromError(status.ErrorProto(&spb.Status{Code: op.Error.Code, Message: message, Details: details}))
	refused := &refusal{status: rpccode.Code_name[op.Error.Code], message: foreign.Line(message, maxMessage), err: err}
	refused.detail(r, details)
	var logs string
	said := op.stages()
	for _, s := range said.GetStages() {
		for _, m := range s.GetStateMessages() {
			text := foreign.Line(r.clean(m.GetMessage()), maxMessage)
			told := m.GetSeverity() == functionspb.StateMessage_ERROR || m.GetSeverity() == functionspb.StateMessage_SEVERITY_UNSPECIFIED
			if told && text != "" && !strings.Contains(refused.message, text) {
				refused.message += "; " + strings.ToLower(s.GetName().String()) + ": " + text
			}
		}
		if s.GetName() == functionspb.Stage_BUILD {
			logs = s.GetResourceUri()
		}
	}
	if logs == "" && said.GetBuildName() != "" {
		logs = "https://console.cloud.google.com/cloud-build/builds;region=" + e.set.region + "/" + foreign.Line(lastSegment(said.GetBuildName()), 100) + "?project=" + e.set.project
	}
	if logs != "" && !strings.Contains(refused.message, logs) {
		refused.message += "; the build's log: " + foreign.Line(logs, 500)
	}
	refused.remedy = e.remedy(refused)
	code, _ := refused.classify()
	return e.errorf(code, r, "operation %s: %w", foreign.Line(op.Name, 200), refused)
}

// messages joins what a function says of its state.
func messages(all []*functionspb.StateMessage) string {
	var texts []string
	for _, m := range all {
		if text := cmp.Or(m.GetMessage(), m.GetType()); text != "" {
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
func (e *Executor) commit(ctx context.Context, r request, id string, body []byte, do func(context.Context) error) (*operation, error) {
	if ctx.Err() != nil {
		return e.begin(ctx, r, false, body, do) // which says so
	}
	within, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(commitTime, cancel) })()
	op, err := e.begin(within, r, false, body, do)
	m := e.memory(id)
	switch {
	case err == nil:
		m.begin(op.Name)
	case within.Err() != nil:
		m.begin("")
		return nil, e.errorf(faas.CodeOf(err), r, "it was sent, and what became of it is not known: %w: %w", context.Cause(ctx), err)
	case classOf(err) == unclear:
		m.begin("")
	}
	return op, err
}
