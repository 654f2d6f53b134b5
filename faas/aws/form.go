//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
)

var (
	syncLimit  = payloads.Of(faas.AWSLambda, maxSyncPayload, payloads.Base64)
	eventLimit = payloads.Limit{Provider: faas.AWSLambda, Job: maxEventPayload, Body: maxEventPayload,
		Compact: payloads.Base64}
)

// taking records which form of payloads a function takes, according to its tags.
type taking struct {
	form    payloads.Form
	version string    // that the tags call live; empty if they could not be read
	until   time.Time // when to look again; zero: not before something else answers
	met     atomic.Bool
}

const (
	// maxFormRead is how long an invocation waits for the tags.
	maxFormRead = 5 * time.Second
	// formAgain is how long to wait before reading tags again that could not be read or were wrong.
	formAgain = time.Minute
)

// takes returns the form that the job's function takes, according to its tags. It reads the tags
// before the first invocation, and again after another version than theirs has answered. A caller
// who may not read them uses the published form.
func (e *Executor) takes(ctx context.Context, name string) *taking {
	known, err := e.forms.Do(ctx, name, func(ctx context.Context) (*taking, error) { return e.readForm(ctx, name) })
	switch {
	case err != nil:
		return &taking{}
	case !known.until.IsZero() && time.Now().After(known.until):
		e.forget(name, known)
		return e.takes(ctx, name)
	}
	return known
}

func (e *Executor) forget(name string, known *taking) {
	e.forms.ForgetIf(name, known, sameTaking)
}

func sameTaking(a, b *taking) bool { return a == b }

// readForm reads the tags once, since an invocation waits for it. It fails only if ctx ends.
func (e *Executor) readForm(ctx context.Context, name string) (*taking, error) {
	read, cancel := context.WithTimeout(ctx, maxFormRead)
	defer cancel()
	out, err := e.lambda.GetFunction(read, &lambda.GetFunctionInput{FunctionName: &name},
		func(o *lambda.Options) { o.Retryer = aws.NopRetryer{} })
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil || out.Tags[tagVersion] == "" {
		return &taking{until: time.Now().Add(formAgain)}, nil
	}
	known := &taking{version: out.Tags[tagVersion]}
	if payloads.IsMark(out.Tags[tagPayload], out.Tags[tagPackage]) {
		known.form = payloads.Base64
	}
	return known, nil
}

// answered records which version has answered, and in which form. A version that the tags do not
// name may differ from them.
func (e *Executor) answered(name string, known *taking, version string, compact bool) {
	switch {
	case version == "" || known.version == "":
	case version == known.version:
		known.met.Store(true)
	case known.met.Load(): // it has been replaced
		e.forget(name, known)
	default: // the tags are behind, or somebody else has moved the alias
		found := &taking{version: version, until: time.Now().Add(formAgain)}
		if compact {
			found.form = payloads.Base64
		}
		e.forms.Replace(name, known, found, sameTaking)
	}
}

// payload returns the request of an invocation in the form that the function takes, and that form.
// If the arguments are too large for the published form, payload checks whether the function takes
// the other one by now.
func (e *Executor) payload(ctx context.Context, name string, jobID uint32, args []byte) ([]byte, *taking, error) {
	if err := syncLimit.Check(payloads.Base64, jobID, args); err != nil {
		return nil, nil, err // which fits in no form
	}
	known := e.takes(ctx, name)
	err := syncLimit.Check(known.form, jobID, args)
	if err != nil {
		e.forget(name, known)
		known = e.takes(ctx, name)
		err = syncLimit.Check(known.form, jobID, args)
	}
	if err != nil {
		return nil, nil, err
	}
	return appendRequest(known.form, jobID, args), known, nil
}

func appendRequest(form payloads.Form, jobID uint32, args []byte) []byte {
	if form == payloads.Base64 {
		return faas.AppendCompactRequest(nil, jobID, args)
	}
	return faas.AppendRequest(nil, jobID, args)
}

// eventPayload returns the request of an invocation whose answer nobody sees. A request that is
// refused because of its form would be lost, so eventPayload uses the compact form only for
// arguments that do not fit in the other.
func (e *Executor) eventPayload(ctx context.Context, name string, jobID uint32, args []byte) ([]byte, error) {
	err := eventLimit.Check(payloads.Numbers, jobID, args)
	if err == nil {
		return appendRequest(payloads.Numbers, jobID, args), nil
	}
	if eventLimit.Check(payloads.Base64, jobID, args) != nil || e.takes(ctx, name).form != payloads.Base64 {
		return nil, err
	}
	return appendRequest(payloads.Base64, jobID, args), nil
}

// isFormRefused reports whether a function says that it does not know the compact form, and so has
// run nothing. Such a function links an older version of faas/job, or is a plain program behind our
// adapter. The text is that of the error of [faas.ParseRequest].
func isFormRefused(payload []byte) bool {
	var told struct{ ErrorMessage, ErrorType string }
	return len(payload) < 4<<10 && json.Unmarshal(payload, &told) == nil && told.ErrorType == "BadRequest" &&
		strings.Contains(told.ErrorMessage, `args: "{" where a list of bytes should be`)
}
