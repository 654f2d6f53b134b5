//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// get reads a function or one of its versions. Without a version, the answer describes $LATEST and
// includes the tags.
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
		return nil, faas.Errorf(faas.ErrInternal, "read", faas.AWSLambda, "the answer for function %s has no configuration",
			name)
	}
	return out, nil
}

// settled reads a function until it is in no transition and wanted, if not nil, accepts it. For as
// long as pace.settle, a function that exists may seem missing or look as it did before a change.
func (e *Executor) settled(ctx context.Context, op string, jobID int64, name, version string,
	wanted func(*types.FunctionConfiguration) bool) (*lambda.GetFunctionOutput, error) {
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
			return kit.NotYet(e.pace.settle, "%w: it is not what was asked for: something else changes the function",
				faas.ErrConflict)
		}
		return nil
	})
	if err != nil {
		return nil, classify(op, jobID, err)
	}
	return out, nil
}

// applied returns a condition for the wait after a change: the function is as wanted, or Lambda has
// failed to make it so. A read from before the change meets neither.
func applied(before *types.FunctionConfiguration, wanted func(*types.FunctionConfiguration) bool) func(
	*types.FunctionConfiguration) bool {
	return func(now *types.FunctionConfiguration) bool {
		failed := now.LastUpdateStatus == types.LastUpdateStatusFailed &&
			aws.ToString(now.RevisionId) != aws.ToString(before.RevisionId)
		return failed || wanted(now)
	}
}

// moved reads a function again after a change was refused because the function no longer equals
// outdated. Reads may lag behind; after a while moved takes the last one.
func (e *Executor) moved(ctx context.Context, op string,
	outdated *lambda.GetFunctionOutput) (*lambda.GetFunctionOutput, error) {
	name, was := aws.ToString(outdated.Configuration.FunctionName), aws.ToString(outdated.Configuration.RevisionId)
	var now *lambda.GetFunctionOutput
	err := e.repeating(e.pace.settle/maxRaces, "waiting for what function %s was changed to", name).Until(
		ctx, func(ctx context.Context) (err error) {
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

// gone waits until a deleted function is gone. Meanwhile it calls found with what still exists.
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

// inTransition reports whether Lambda is busy with the function. An answer without states is older
// than they are, or comes from an emulator.
func inTransition(c *types.FunctionConfiguration) bool {
	switch c.State {
	case types.StatePending, types.StateDeactivating, types.StateDeleting:
		return true
	}
	return c.LastUpdateStatus == types.LastUpdateStatusInProgress
}

// describe puts the function's state in words.
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

// owned reads a function and refuses one of another owner.
func (e *Executor) owned(ctx context.Context, op, id string) (*lambda.GetFunctionOutput, error) {
	if !namePattern.MatchString(id) {
		return nil, faas.Errorf(faas.ErrNotFound, op, faas.AWSLambda, "%q is not a name of a Lambda function", id)
	}
	jobID := e.jobOf(id)
	out, err := e.get(ctx, id, "")
	if err != nil {
		return nil, classify(op, jobID, err)
	}
	if err := e.checkOwner(ctx, op, id, out); err != nil {
		return nil, err
	}
	return out, nil
}

// checkOwner refuses a function of another owner. If the answer has no tags, it asks for them: not
// everyone who may read a function may read its tags, and that call reports it.
func (e *Executor) checkOwner(ctx context.Context, op, id string, out *lambda.GetFunctionOutput) error {
	if len(out.Tags) == 0 && out.TagsError == nil {
		arn := unqualified(aws.ToString(out.Configuration.FunctionArn))
		list, err := e.lambda.ListTags(ctx, &lambda.ListTagsInput{Resource: &arn})
		if err != nil {
			return classify(op, e.jobOf(id), err)
		}
		out.Tags = list.Tags
	}
	if e.owns(out.Tags) {
		return nil
	}
	var err *faas.Error
	if out.TagsError != nil && len(out.Tags) == 0 {
		code, remedy := rules.Of(kit.Answer{Code: aws.ToString(out.TagsError.ErrorCode)}).Code, ""
		switch code {
		case faas.ErrPermissionDenied:
			remedy = ": allow lambda:ListTags"
		case faas.ErrNotFound: // the function was found
			code = faas.ErrUnavailable
		}
		err = faas.Errorf(code, op, faas.AWSLambda, "the tags of function %s cannot be read (%s: %s)%s",
			id, aws.ToString(out.TagsError.ErrorCode), aws.ToString(out.TagsError.Message), remedy)
	} else {
		err = faas.Errorf(faas.ErrConflict, op, faas.AWSLambda,
			"function %s exists and does not belong to service %q (its tag %s is %q): remove or rename it, or name the "+
				"service otherwise",
			id, e.service, tagService, out.Tags[tagService])
	}
	err.JobID = e.jobOf(id)
	return err
}

// jobOf returns the job of one of the service's function names, for use in errors.
func (e *Executor) jobOf(id string) int64 {
	if job, ok := jobOfName(e.service, id); ok {
		return int64(job)
	}
	return faas.NoJob
}

// names returns, sorted, the names of the account's functions that can be the service's.
func (e *Executor) names(ctx context.Context) ([]string, error) {
	var names []string
	pages := lambda.NewListFunctionsPaginator(e.lambda, &lambda.ListFunctionsInput{MaxItems: aws.Int32(50)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, classify("list", faas.NoJob, err)
		}
		for _, f := range page.Functions {
			if name := aws.ToString(f.FunctionName); !slices.Contains(names, name) {
				if _, ok := jobOfName(e.service, name); ok {
					names = append(names, name)
				}
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// unqualified removes the version or alias from the ARN of a function.
func unqualified(arn string) string {
	if parts := strings.Split(arn, ":"); len(parts) > 7 {
		return strings.Join(parts[:7], ":")
	}
	return arn
}

func lambdaTime(text string) time.Time {
	for _, layout := range []string{"2006-01-02T15:04:05-0700", time.RFC3339} { // with any fraction of a second
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// codeSHA256 converts a package's hash to Lambda's form.
func codeSHA256(hexSum string) string {
	sum, err := hex.DecodeString(hexSum)
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(sum)
}

// delete deletes a function and returns when it is gone. out is what was last read of it, or nil.
// If the function comes into being only now, because the request that creates it was still under
// way when its caller stopped waiting, delete deletes it too.
func (e *Executor) delete(ctx context.Context, name string, out *lambda.GetFunctionOutput) error {
	if err := e.deleteOnce(ctx, name); err != nil {
		return err
	}
	deleted := ""
	if out != nil {
		deleted = aws.ToString(out.Configuration.RevisionId)
	}
	return e.gone(ctx, name, func(now *lambda.GetFunctionOutput) error {
		revision := aws.ToString(now.Configuration.RevisionId)
		if revision == deleted || now.Configuration.State == types.StateDeleting || !e.owns(now.Tags) {
			return nil
		}
		deleted = revision
		return e.deleteOnce(ctx, name)
	})
}

func (e *Executor) deleteOnce(ctx context.Context, name string) error {
	err := e.change(ctx, name, func(ctx context.Context) error {
		_, err := e.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name})
		return err
	})
	// The function may go away while a change of it is waited for.
	if err != nil && (isNotFound(err) || faas.CodeOf(err) == faas.ErrNotFound) {
		return nil
	}
	return err
}

// failures maps the reasons that Lambda gives for a failed function, version or update.
var failures = map[types.StateReasonCode]faas.Code{
	types.StateReasonCodeInsufficientRolePermissions: faas.ErrPermissionDenied,
	types.StateReasonCodeKMSKeyAccessDenied:          faas.ErrPermissionDenied,

	types.StateReasonCodeEniLimitExceeded:       faas.ErrUnavailable,
	types.StateReasonCodeSubnetOutOfIPAddresses: faas.ErrUnavailable,
	types.StateReasonCodeInternalError:          faas.ErrUnavailable,
	types.StateReasonCodeInsufficientCapacity:   faas.ErrUnavailable,

	types.StateReasonCodeEC2RequestLimitExceeded: faas.ErrThrottled,

	types.StateReasonCodeInvalidSubnet:           faas.ErrInvalidArgument,
	types.StateReasonCodeInvalidSecurityGroup:    faas.ErrInvalidArgument,
	types.StateReasonCodeInvalidConfiguration:    faas.ErrInvalidArgument,
	types.StateReasonCodeInvalidRuntime:          faas.ErrInvalidArgument,
	types.StateReasonCodeInvalidZipFileException: faas.ErrInvalidArgument,
	types.StateReasonCodeKMSKeyNotFound:          faas.ErrInvalidArgument,
	types.StateReasonCodeDisabledKMSKey:          faas.ErrInvalidArgument,
	types.StateReasonCodeInvalidStateKMSKey:      faas.ErrInvalidArgument,
}

func (e *Executor) failed(op string, f *types.FunctionConfiguration) error {
	reason := types.StateReasonCode(f.LastUpdateStatusReasonCode)
	if f.State == types.StateFailed {
		reason = f.StateReasonCode
	}
	code, known := failures[reason]
	if !known {
		code = faas.ErrInternal
	}
	name := aws.ToString(f.FunctionName)
	err := faas.Errorf(code, op, faas.AWSLambda, "function %s: Lambda reports state %s", name, describe(f))
	err.JobID = e.jobOf(name)
	return err
}

func (c *convergence) updateFailed(f *types.FunctionConfiguration) error {
	if f.State == types.StateFailed || f.LastUpdateStatus == types.LastUpdateStatusFailed {
		return c.failed("deploy", f)
	}
	return nil
}
