//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"cloud.google.com/go/functions/apiv2/functionspb"
	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// The wait between two looks at something that changes grows from the first to the second.
const (
	firstPoll = 50 * time.Millisecond
	maxPoll   = 5 * time.Second
)

// patience returns how long looks in a row may fail with an error before it is believed. The work
// continues meanwhile.
func patience(err error, means kit.Refusal) time.Duration {
	switch {
	case means.Class == kit.Outage, means.Class == kit.Throttled:
		return 5 * time.Minute
	case means.Class == kit.Absent: // not everything at Google knows yet what was made a moment ago
		return time.Minute
	case errors.As(err, new(*refusal)):
		return 15 * time.Second
	}
	return 0
}

// poll calls look until it reports true, with or without an error, or until the context is done. An
// error beside false is that of a failed look, which ends the wait only after a while. Whatever
// ends the wait, the error includes the reason of the last look that failed.
func (e *Executor) poll(ctx context.Context, r request, what string, look func() (bool, error)) error {
	var end error
	wait := kit.Wait{What: what + " and has not ended", First: firstPoll, Longest: maxPoll, Judge: judge,
		Patience: patience}
	err := wait.Until(ctx, func(context.Context) error {
		done, err := look()
		switch {
		case done:
			end = err
			return nil
		case err == nil:
			return errGoesOn
		}
		return err
	})
	var vain *kit.WaitError
	switch {
	case errors.As(err, &vain):
		return e.errorf(faas.ErrTimeout, r, "%w", err)
	case err != nil:
		return err
	}
	return end
}

var errGoesOn = kit.NotYet(0, "it goes on")

// judge returns the meaning of an error, and limits the delay that Google asks for.
func judge(err error) kit.Refusal {
	means := kit.RefusalOf(err)
	means.RetryAfter = min(means.RetryAfter, maxAsked)
	return means
}

// operation holds the necessary fields of a google.longrunning.Operation of either API. Google's
// clients cannot read an operation whose error has a detail of an unknown type, and so would never
// see it end.
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

// stages returns the progress of an operation of Cloud Functions, or nil if it does not say.
func (op *operation) stages() *functionspb.OperationMetadata {
	m := &functionspb.OperationMetadata{}
	if (protojson.UnmarshalOptions{AllowPartial: true, DiscardUnknown: true}).Unmarshal(op.Metadata, m) != nil {
		return nil
	}
	return m
}

// begin calls a method of an API that answers with an operation.
func (e *Executor) begin(ctx context.Context, r request, safe bool, body []byte,
	do func(context.Context) error) (*operation, error) {
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
func (e *Executor) wait(ctx context.Context, r request, op *operation, p *httputil.Progress) (json.RawMessage, error) {
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
func (e *Executor) await(ctx context.Context, c change, op *operation) (json.RawMessage, error) {
	response, err := e.wait(ctx, c.request, op, c.p)
	if err == nil || isOperation(err) { // its end was seen
		e.memory(c.id).end()
	}
	return response, err
}

// operationError is the error of an operation that failed. It includes the build's own words and
// where the build's log is.
func (e *Executor) operationError(r request, op *operation) *faas.Error {
	for i, text := range op.Error.Details {
		op.Error.Details[i] = json.RawMessage(r.clean(string(text)))
	}
	details, message := known(op.Error.Details), r.clean(op.Error.Message)
	err := typed(status.ErrorProto(&spb.Status{Code: op.Error.Code, Message: message, Details: details}))
	refused := &refusal{status: rpccode.Code_name[op.Error.Code], message: sanitize.Line(message, maxMessage), err: err}
	refused.detail(r, details)
	var logs string
	said := op.stages()
	for _, s := range said.GetStages() {
		for _, m := range s.GetStateMessages() {
			text := sanitize.Line(r.clean(m.GetMessage()), maxMessage)
			severity := m.GetSeverity()
			told := severity == functionspb.StateMessage_ERROR || severity == functionspb.StateMessage_SEVERITY_UNSPECIFIED
			if told && text != "" && !strings.Contains(refused.message, text) {
				refused.message += "; " + strings.ToLower(s.GetName().String()) + ": " + text
			}
		}
		if s.GetName() == functionspb.Stage_BUILD {
			logs = s.GetResourceUri()
		}
	}
	if logs == "" && said.GetBuildName() != "" {
		logs = "https://console.cloud.google.com/cloud-build/builds;region=" + e.set.region + "/" +
			sanitize.Line(lastSegment(said.GetBuildName()), 100) + "?project=" + e.set.project
	}
	if logs != "" && !strings.Contains(refused.message, logs) {
		refused.message += "; the build's log: " + sanitize.Line(logs, 500)
	}
	return e.fail(r, refused, fmt.Errorf("operation %s: %w", sanitize.Line(op.Name, 200), refused))
}

// messages joins a function's messages about its state.
func messages(all []*functionspb.StateMessage) string {
	var texts []string
	for _, m := range all {
		if text := cmp.Or(m.GetMessage(), m.GetType()); text != "" {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "; ")
}

// change is a change of a unit that an API is asked for.
type change struct {
	request
	id     string
	raw    []byte            // the resource in the API's own words; nil: as a typed message has it
	labels map[string]string // by which what was deployed is recognised
	p      *httputil.Progress
}

// commit sends a create or an update of a unit. It remembers the operation until its end was seen.
func (e *Executor) commit(ctx context.Context, c change, do func(context.Context) error) (*operation, error) {
	var op *operation
	err := kit.Change(ctx, kit.Grace, func(ctx context.Context) (err error) {
		op, err = e.begin(ctx, c.request, false, c.raw, do)
		return err
	})
	switch {
	case err == nil:
		e.memory(c.id).begin(op.Name)
	case kit.IsUnanswered(err):
		e.memory(c.id).begin("")
		return nil, e.errorf(faas.ErrTimeout, c.request, "%w", err)
	case !errors.As(err, new(*faas.Error)): // nothing was sent
		return nil, e.errorf(faas.ErrTimeout, c.request, "%w", err)
	case judge(err).Class == kit.Outage:
		e.memory(c.id).begin("")
	}
	return op, err
}
