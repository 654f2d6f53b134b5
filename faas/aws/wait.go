//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// looking is a wait by looks, which fail for a while without ending it.
func (e *Executor) looking(limit time.Duration, what string, args ...any) kit.Wait {
	return kit.Wait{What: fmt.Sprintf(what, args...), First: e.pace.first, Longest: e.pace.longest, Limit: limit, Judge: refusalOf}
}

// repeating is a wait that tries until it is not told kit.NotYet any more.
func (e *Executor) repeating(limit time.Duration, what string, args ...any) kit.Wait {
	w := e.looking(limit, what, args...)
	w.Patience = func(error, kit.Refusal) time.Duration { return 0 }
	return w
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
	wait := e.looking(e.pace.state, "waiting for function %s", name)
	wait.Absent = e.pace.settle
	var out *lambda.GetFunctionOutput
	err := wait.Until(ctx, func(ctx context.Context) (err error) {
		out, err = e.get(ctx, name, version)
		switch {
		case err != nil:
			return err
		case inTransition(out.Configuration):
			return kit.NotYet(0, "%w: its state is %s", faas.ErrTimeout, describe(out.Configuration))
		case wanted != nil && !wanted(out.Configuration):
			return kit.NotYet(e.pace.settle, "%w: it is not what was asked for: something else changes the function", faas.ErrConflict)
		}
		return nil
	})
	if err != nil {
		return nil, classify(op, jobID, err)
	}
	return out, nil
}

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
	var now *lambda.GetFunctionOutput
	err := e.repeating(e.pace.settle/maxRaces, "waiting for what function %s was changed to", name).Until(ctx, func(ctx context.Context) (err error) {
		now, err = e.settled(ctx, op, e.jobOf(name), name, "", nil)
		if err == nil && aws.ToString(now.Configuration.RevisionId) == was {
			return kit.NotYet(0, "%w: reads do not show it", faas.ErrConflict)
		}
		return err
	})
	if err != nil && ctx.Err() == nil && errors.Is(err, kit.ErrNotYet) {
		return now, nil
	}
	return now, err
}

// gone waits until a function that was deleted is. Meanwhile found is called with what still is there.
func (e *Executor) gone(ctx context.Context, name string, found func(*lambda.GetFunctionOutput) error) error {
	err := e.looking(e.pace.state, "waiting for the end of function %s", name).Until(ctx, func(ctx context.Context) error {
		out, err := e.get(ctx, name, "")
		if err == nil {
			err = found(out)
		}
		if err == nil {
			return kit.NotYet(0, "%w: it was deleted and is still there", faas.ErrTimeout)
		}
		return err
	})
	if isNotFound(err) {
		return nil
	}
	return err
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
