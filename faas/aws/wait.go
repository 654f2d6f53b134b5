//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// backoff is the growing pause between two reads or attempts, with a limit for all of them together.
type backoff struct {
	next, longest time.Duration
	until         time.Time
}

func (p pace) within(limit time.Duration) *backoff {
	return &backoff{next: p.first, longest: p.longest, until: time.Now().Add(limit)}
}

// pause waits. It returns false when the time is up, and ctx's error when ctx is done.
func (b *backoff) pause(ctx context.Context) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	left := time.Until(b.until)
	if left <= 0 {
		return false, nil
	}
	timer := time.NewTimer(min(b.next, left))
	defer timer.Stop()
	b.next = min(b.next*3/2, b.longest)
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-timer.C:
		return true, nil
	}
}

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
		transition = e.pace.within(e.pace.state)
		stale      *backoff
		missing    *backoff
		state      = "unknown"
	)
	for {
		wait := transition
		out, err := e.get(ctx, name, version)
		switch {
		case err != nil && isNotFound(err):
			if missing == nil {
				missing = e.pace.within(e.pace.settle)
			}
			wait, state = missing, "not found"
		case err != nil && ctx.Err() == nil && !transient(err):
			return nil, classify(op, jobID, err)
		case ctx.Err() != nil: // the pause below ends the wait, with the last state that was seen
		case err != nil:
			state = err.Error()
		case inTransition(out.Configuration):
			state = describe(out.Configuration)
		case wanted != nil && !wanted(out.Configuration):
			if stale == nil {
				stale = e.pace.within(e.pace.settle)
			}
			wait, state = stale, "not what was asked for: something else changes the function"
		default:
			return out, nil
		}
		more, err := wait.pause(ctx)
		if err != nil {
			return nil, &faas.Error{Op: op, Provider: faas.AWSLambda, JobID: jobID, Code: faas.ErrTimeout, Err: &waitError{name, state, err}}
		}
		if !more {
			code := faas.ErrTimeout
			switch wait {
			case stale:
				code = faas.ErrConflict
			case missing:
				code = faas.ErrNotFound
			}
			return nil, &faas.Error{Op: op, Provider: faas.AWSLambda, JobID: jobID, Code: code, Err: &waitError{name, state, nil}}
		}
	}
}

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

// gone waits until a function that was deleted is. Meanwhile found, unless it is nil, is called with what still is there.
func (e *Executor) gone(ctx context.Context, name string, found func(*lambda.GetFunctionOutput) error) error {
	wait := e.pace.within(e.pace.state)
	for {
		out, err := e.get(ctx, name, "")
		if err == nil && found != nil {
			err = found(out)
		}
		switch {
		case err != nil && isNotFound(err):
			return nil
		case err != nil && !transient(err):
			return err
		}
		more, err := wait.pause(ctx)
		if err != nil {
			return err
		}
		if !more {
			return faas.Errorf(faas.ErrTimeout, "remove", faas.AWSLambda, "function %s was deleted and is still there after %s", name, e.pace.state)
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
