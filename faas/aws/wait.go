//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/awsclient"
)

// backoff is the growing pause between two reads or attempts, with a limit for all of them together.
type backoff struct {
	next, longest time.Duration
	until         time.Time
	last          error // of the attempts so far
}

func (p pace) within(limit time.Duration) *backoff {
	return &backoff{next: p.first, longest: p.longest, until: time.Now().Add(limit)}
}

// again waits before the next attempt, after one that failed with err. It returns nil when it is
// time for that, and else why there is none: the last failure when the time is up, and an
// *interrupted of it when ctx is done. The delay that a service asks for is honoured.
func (b *backoff) again(ctx context.Context, err error) error {
	if ctx.Err() == nil || b.last == nil { // a request that ends with ctx tells nothing
		b.last = err
	}
	if ctx.Err() != nil {
		return &interrupted{ctx.Err(), b.last}
	}
	left := time.Until(b.until)
	if left <= 0 {
		return b.last
	}
	timer := time.NewTimer(min(max(b.next, classify("", faas.NoJob, b.last).RetryAfter), left))
	defer timer.Stop()
	b.next = min(b.next*3/2, b.longest)
	select {
	case <-ctx.Done():
		return &interrupted{ctx.Err(), b.last}
	case <-timer.C:
		return nil
	}
}

// ended returns err, or an *interrupted if ctx ended between a wait and the attempt that failed with
// err, which tells nothing then.
func (b *backoff) ended(ctx context.Context, err error) error {
	if b.last == nil || err == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	return &interrupted{ctx.Err(), b.last}
}

// interrupted is the error of a wait that its context has ended. last is what was waited out.
type interrupted struct{ ctx, last error }

func (e *interrupted) Error() string {
	if awsclient.Ended(e.last) {
		return e.last.Error()
	}
	return e.ctx.Error() + "; the last answer was: " + e.last.Error()
}
func (e *interrupted) Unwrap() []error { return []error{e.ctx, e.last} }

// get reads a function, or one version of it. Without a version, the answer describes $LATEST and has the tags.
func (e *Executor) get(ctx context.Context, name, qualifier string) (*lambda.GetFunctionOutput, error) {
	in := &lambda.GetFunctionInput{FunctionName: &name}
	if qualifier != "" {
		in.Qualifier = &qualifier
	}
	out, err := e.lambda.GetFunction(ctx, in)
	if err != nil {
		return nil, err
	}
	if out.Configuration == nil {
		return nil, faas.Errorf(faas.ErrInternal, "read", faas.AWSLambda, "the answer for function %s has no configuration", name)
	}
	return out, nil
}

// settled reads a function until it is in no transition and wanted, which may be nil, agrees. A function that exists may be unknown, or
// look as it did before a change, for as long as pace.settle.
func (e *Executor) settled(ctx context.Context, op string, jobID int64, name, version string, wanted func(*types.FunctionConfiguration) bool) (*lambda.GetFunctionOutput, error) {
	var (
		transition     = e.pace.within(e.pace.state)
		stale, missing *backoff
		last           *faas.Error
	)
	for {
		wait, code, state := transition, faas.ErrTimeout, ""
		out, err := e.get(ctx, name, version)
		switch {
		case err != nil && isNotFound(err):
			if missing == nil {
				missing = e.pace.within(e.pace.settle)
			}
			wait, code, state = missing, faas.ErrNotFound, "not found"
		case err != nil && ctx.Err() == nil && !transient(err):
			return nil, classify(op, jobID, err)
		case err != nil:
			state = "unknown"
		case inTransition(out.Configuration):
			state = describe(out.Configuration)
			stale, missing = nil, nil
		case wanted != nil && !wanted(out.Configuration):
			if stale == nil {
				stale = e.pace.within(e.pace.settle)
			}
			wait, code, state = stale, faas.ErrConflict, "not what was asked for: something else changes the function"
		default:
			return out, nil
		}
		if ctx.Err() == nil || last == nil {
			last = &faas.Error{Op: op, Provider: faas.AWSLambda, JobID: jobID, Code: code, Err: &waitError{name, state, err}}
		}
		if err := wait.again(ctx, last); err != nil {
			return nil, classify(op, jobID, err)
		}
	}
}

// waitError says what a function was when it was waited for in vain. err is that of the last look.
type waitError struct {
	name, state string
	err         error
}

func (e *waitError) Error() string {
	text := "waiting for function " + e.name + ": its state is " + e.state
	if e.err != nil {
		text += ": " + e.err.Error()
	}
	return text
}
func (e *waitError) Unwrap() error { return e.err }

// applied is what a change is waited for with: that the function is as wanted, or that Lambda has
// failed to make it so, which a read from before the change does not tell.
func applied(before *types.FunctionConfiguration, wanted func(*types.FunctionConfiguration) bool) func(*types.FunctionConfiguration) bool {
	return func(now *types.FunctionConfiguration) bool {
		failed := now.LastUpdateStatus == types.LastUpdateStatusFailed && aws.ToString(now.RevisionId) != aws.ToString(before.RevisionId)
		return failed || wanted(now)
	}
}

// moved reads a function anew after a change was refused because it is no longer as outdated. Reads may lag behind; after a while the last one is taken.
func (e *Executor) moved(ctx context.Context, op string, outdated *lambda.GetFunctionOutput) (*lambda.GetFunctionOutput, error) {
	name, was := aws.ToString(outdated.Configuration.FunctionName), aws.ToString(outdated.Configuration.RevisionId)
	same := faas.Errorf(faas.ErrConflict, op, faas.AWSLambda, "function %s was changed since it was read, and reads do not show it", name)
	wait := e.pace.within(e.pace.settle / maxRaces)
	for {
		now, err := e.settled(ctx, op, e.jobOf(name), name, "", nil)
		if err != nil || aws.ToString(now.Configuration.RevisionId) != was {
			return now, err
		}
		if err := wait.again(ctx, same); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			return now, nil
		}
	}
}

// gone waits until a function that was deleted is. Meanwhile found is called with what still is there.
func (e *Executor) gone(ctx context.Context, name string, found func(*lambda.GetFunctionOutput) error) error {
	wait := e.pace.within(e.pace.state)
	for {
		out, err := e.get(ctx, name, "")
		if err == nil {
			err = found(out)
		}
		switch {
		case err != nil && isNotFound(err):
			return nil
		case err != nil && ctx.Err() == nil && !transient(err):
			return err
		case err == nil:
			err = faas.Errorf(faas.ErrTimeout, "remove", faas.AWSLambda, "function %s was deleted and is still there", name)
		}
		if err := wait.again(ctx, err); err != nil {
			return err
		}
	}
}

// inTransition reports whether Lambda is busy with the function. An answer without states is from before they existed, or of an emulator.
func inTransition(c *types.FunctionConfiguration) bool {
	switch c.State {
	case types.StatePending, types.StateDeactivating, types.StateDeleting:
		return true
	}
	return c.LastUpdateStatus == types.LastUpdateStatusInProgress
}

// describe says in words what Lambda says of the function's state.
func describe(c *types.FunctionConfiguration) string {
	text := string(c.State)
	if c.StateReason != nil {
		text += " (" + string(c.StateReasonCode) + ": " + aws.ToString(c.StateReason) + ")"
	}
	if c.LastUpdateStatus != "" && c.LastUpdateStatus != types.LastUpdateStatusSuccessful {
		text += ", last update " + string(c.LastUpdateStatus)
		if c.LastUpdateStatusReason != nil {
			text += " (" + string(c.LastUpdateStatusReasonCode) + ": " + aws.ToString(c.LastUpdateStatusReason) + ")"
		}
	}
	return text
}
