//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"errors"
	"maps"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// Converge creates the function or updates what differs, publishes a version, probes it, and points the alias at it. Until the alias
// moves, the version before it answers.
func (e *Executor) Converge(ctx context.Context, u faas.Unit, prior *faas.State, report func(faas.Progress)) (faas.State, error) {
	c, err := e.newConvergence(u, report)
	if err != nil {
		return faas.State{}, err
	}
	s, err := c.run(ctx, prior)
	if err != nil {
		return faas.State{}, withoutValues(ofJob(classify("deploy", c.jobID(), err), c.jobID()), c.job.Env.Reveal())
	}
	return s, nil
}

// convergence is one call of Converge.
type convergence struct {
	*Executor
	unit   faas.Unit
	job    faas.Function
	report func(faas.Progress)

	role    string
	object  object // where the package is in S3; empty for a direct upload
	created bool   // the function was created by this call
}

func (e *Executor) newConvergence(u faas.Unit, report func(faas.Progress)) (*convergence, error) {
	if len(u.Functions) != 1 {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "deploy", faas.AWSLambda, "unit %s has %d functions; a unit of Lambda has one", u.ID, len(u.Functions))
	}
	c := &convergence{Executor: e, unit: u, job: u.Functions[0], report: report}
	refuse := func(code faas.Code, format string, args ...any) error {
		return faas.JobErrorf(code, "deploy", faas.AWSLambda, c.job.JobID, format, args...)
	}
	switch {
	case u.ID != functionName(e.service, c.job.JobID):
		return nil, refuse(faas.ErrInvalidArgument, "unit %q is none of service %q: its function for the job is called %q", u.ID, e.service, functionName(e.service, c.job.JobID))
	case u.Package == nil:
		return nil, refuse(faas.ErrInvalidArgument, "unit %s has no package", u.ID)
	case u.Package.Unpacked() > maxUnpacked:
		return nil, refuse(faas.ErrTooLarge, "the package has %d bytes unpacked; Lambda's limit is %d", u.Package.Unpacked(), int64(maxUnpacked))
	case u.Package.Size() > e.direct && e.options.s3Bucket == "" && !e.options.createBucket:
		return nil, refuse(faas.ErrTooLarge, `the package has %d bytes; Lambda takes at most %d in a call: set the option "s3_bucket" to a bucket in %s, or "create_bucket" to true`,
			u.Package.Size(), e.direct, e.region)
	}
	if err := e.checkFunction(c.job); err != nil {
		return nil, err
	}
	if c.report == nil {
		c.report = func(faas.Progress) {}
	}
	return c, nil
}

func (c *convergence) jobID() int64 { return int64(c.job.JobID) }

func (c *convergence) run(ctx context.Context, prior *faas.State) (faas.State, error) {
	var current *lambda.GetFunctionOutput
	if prior != nil {
		out, err := c.owned(ctx, "deploy", c.unit.ID)
		switch {
		case err == nil:
			current = out
		case faas.CodeOf(err) != faas.ErrNotFound:
			return faas.State{}, err
		}
	}
	if err := c.checkAccount(ctx, "deploy"); err != nil {
		return faas.State{}, err
	}
	role, err := c.executionRole(ctx)
	if err != nil {
		return faas.State{}, err
	}
	c.role = role
	if current == nil {
		current, err = c.create(ctx)
	}
	if err == nil && !c.created {
		if done, ok := c.alreadyThere(ctx, current); ok {
			return done, nil
		}
		current, err = c.update(ctx, current)
	}
	if err != nil {
		return faas.State{}, err
	}
	if c.options.reservedConcurrency {
		if err := c.setReserved(ctx, "deploy", current, c.reservedWanted(), int32(c.job.KeepWarm)); err != nil {
			return faas.State{}, err
		}
	}
	return c.goLive(ctx, current)
}

// alreadyThere reports whether nothing is to be done.
func (c *convergence) alreadyThere(ctx context.Context, current *lambda.GetFunctionOutput) (faas.State, bool) {
	s := c.stateOf(current)
	if !s.Current(c.unit) {
		return s, false
	}
	alias, err := c.lambda.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: &c.unit.ID, Name: &c.options.alias})
	whole := err == nil && (alias.RoutingConfig == nil || len(alias.RoutingConfig.AdditionalVersionWeights) == 0)
	return s, whole && aws.ToString(alias.FunctionVersion) == current.Tags[tagVersion]
}

// create creates the function. Where it exists already, which a caller that has not looked or an earlier attempt explains, create returns it as it is.
func (c *convergence) create(ctx context.Context) (*lambda.GetFunctionOutput, error) {
	in := c.wantedSettings(c.job, c.role).creation(c.unit.ID, describeJob(c.service, c.job.JobID), c.architecture(nil))
	var err error
	if in.Code, err = c.code(ctx); err != nil {
		return nil, err
	}
	in.Tags = c.tags()
	untilRole, untilFree := c.pace.within(c.pace.role), c.pace.within(c.pace.state)
	for {
		err := c.finish(ctx, func(ctx context.Context) error {
			_, err := c.lambda.CreateFunction(ctx, in)
			c.unsure.sent(c.unit.ID, err)
			return err
		})
		wait := untilRole
		switch {
		case err == nil:
			c.report(c.uploaded())
			c.created = true
			out, err := c.settled(ctx, "deploy", c.jobID(), c.unit.ID, "", func(f *types.FunctionConfiguration) bool { return aws.ToString(f.CodeSha256) != "" })
			if err != nil {
				return nil, err
			}
			if out.Configuration.State != types.StateFailed {
				return out, nil
			}
			failure := c.failed(out.Configuration)
			if out.Configuration.StateReasonCode != types.StateReasonCodeInsufficientRolePermissions {
				return nil, failure
			}
			// A role that was too new can also show up like this. Only a new function then helps.
			if err := c.delete(ctx, c.unit.ID, out); err != nil {
				return nil, err
			}
			if more, err := wait.pause(ctx); err != nil || !more {
				return nil, errors.Join(failure, err)
			}
			continue
		case roleNotReady(err):
			c.report(faas.Progress{Step: "wait for role"})
		case isConflict(err):
			out, gerr := c.get(ctx, c.unit.ID, "")
			if gerr == nil && out.Configuration.State != types.StateDeleting {
				return out, c.checkOwner(ctx, "deploy", c.unit.ID, out)
			}
			if gerr != nil && !isNotFound(gerr) && !transient(gerr) {
				return nil, gerr
			}
			wait = untilFree // the last function of this name is still being deleted
		default:
			return nil, err
		}
		if more, perr := wait.pause(ctx); perr != nil || !more {
			if roleNotReady(err) {
				return nil, c.roleError(err)
			}
			return nil, err
		}
	}
}

func (c *convergence) roleError(err error) error {
	return faas.JobErrorf(faas.ErrPermissionDenied, "deploy", faas.AWSLambda, c.job.JobID,
		"Lambda cannot assume role %s, also not after %s: it must exist, and its trust policy must allow sts:AssumeRole to lambda.amazonaws.com: %w", c.role, c.pace.role, err)
}

func (c *convergence) failed(f *types.FunctionConfiguration) error {
	code := faas.ErrInternal
	reason := string(f.LastUpdateStatusReasonCode)
	if f.State == types.StateFailed {
		reason = string(f.StateReasonCode)
	}
	switch reason {
	case string(types.StateReasonCodeInsufficientRolePermissions), string(types.StateReasonCodeKMSKeyAccessDenied):
		code = faas.ErrPermissionDenied
	case string(types.StateReasonCodeEniLimitExceeded), string(types.StateReasonCodeSubnetOutOfIPAddresses):
		code = faas.ErrUnavailable
	}
	return faas.JobErrorf(code, "deploy", faas.AWSLambda, c.job.JobID, "function %s: Lambda reports state %s", c.unit.ID, describe(f))
}

// update makes code and configuration of $LATEST what the unit wants. Nothing is sent that agrees already.
func (c *convergence) update(ctx context.Context, current *lambda.GetFunctionOutput) (*lambda.GetFunctionOutput, error) {
	var err error
	if current.Configuration.State == types.StateDeleting {
		if err := c.gone(ctx, c.unit.ID, nil); err != nil {
			return nil, err
		}
		return c.create(ctx)
	}
	if inTransition(current.Configuration) {
		c.report(faas.Progress{Step: "wait"})
		if current, err = c.settled(ctx, "deploy", c.jobID(), c.unit.ID, "", nil); err != nil {
			return nil, err
		}
	}
	if current.Configuration.State == types.StateFailed && current.Tags[tagVersion] == "" {
		// A function that never came to life cannot be mended by updates, and nobody uses it.
		if err := c.delete(ctx, c.unit.ID, current); err != nil {
			return nil, err
		}
		return c.create(ctx)
	}
	sent := false
	for range maxRaces {
		var changed bool
		if current, changed, err = c.updateOnce(ctx, current, sent); err == nil {
			return current, nil
		}
		sent = sent || changed
		if !isOutdated(err) {
			return nil, err
		}
		if current, err = c.settled(ctx, "deploy", c.jobID(), c.unit.ID, "", nil); err != nil {
			return nil, err
		}
	}
	return nil, faas.JobErrorf(faas.ErrConflict, "deploy", faas.AWSLambda, c.job.JobID, "somebody else keeps changing function %s", c.unit.ID)
}

// maxRaces is how often an update is tried again after the function was changed between a read and the update.
const maxRaces = 4

func (c *convergence) updateOnce(ctx context.Context, current *lambda.GetFunctionOutput, sent bool) (*lambda.GetFunctionOutput, bool, error) {
	name, want := c.unit.ID, c.wantedSettings(c.job, c.role)
	sum := codeSHA256(c.unit.Package.SHA256())
	now := current.Configuration
	arch := c.architecture(now)
	if aws.ToString(now.CodeSha256) != sum || (len(now.Architectures) > 0 && string(now.Architectures[0]) != arch) {
		code, err := c.code(ctx)
		if err != nil {
			return current, sent, err
		}
		in := &lambda.UpdateFunctionCodeInput{
			FunctionName: &name, ZipFile: code.ZipFile, S3Bucket: code.S3Bucket, S3Key: code.S3Key, RevisionId: now.RevisionId,
			Architectures: []types.Architecture{types.Architecture(arch)},
		}
		if err := c.change(ctx, name, func(ctx context.Context) error { _, err := c.lambda.UpdateFunctionCode(ctx, in); return err }); err != nil {
			return current, sent, err
		}
		sent = true
		c.report(c.uploaded())
		current, err = c.settled(ctx, "deploy", c.jobID(), name, "", func(f *types.FunctionConfiguration) bool { return aws.ToString(f.CodeSha256) == sum })
		if err != nil {
			return current, sent, err
		}
		if err := c.updateFailed(current.Configuration); err != nil {
			return current, sent, err
		}
		now = current.Configuration
	}
	in := want.changes(name, now)
	if in == nil && !sent && now.LastUpdateStatus == types.LastUpdateStatusFailed {
		in = &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, Timeout: &want.TimeoutSecs} // the last update failed: only another one ends that
	}
	if in == nil {
		return current, sent, nil
	}
	c.report(faas.Progress{Step: "configure"})
	in.RevisionId = now.RevisionId
	if err := c.configure(ctx, in); err != nil {
		return current, sent, err
	}
	current, err := c.settled(ctx, "deploy", c.jobID(), name, "", want.agrees)
	if err != nil {
		return current, true, err
	}
	return current, true, c.updateFailed(current.Configuration)
}

// configure updates the configuration, and waits for a role that Lambda does not know yet.
func (c *convergence) configure(ctx context.Context, in *lambda.UpdateFunctionConfigurationInput) error {
	wait := c.pace.within(c.pace.role)
	for {
		err := c.change(ctx, c.unit.ID, func(ctx context.Context) error { _, err := c.lambda.UpdateFunctionConfiguration(ctx, in); return err })
		if err == nil || !roleNotReady(err) {
			return err
		}
		if more, perr := wait.pause(ctx); perr != nil || !more {
			return c.roleError(err)
		}
	}
}

func (c *convergence) updateFailed(f *types.FunctionConfiguration) error {
	if f.State == types.StateFailed || f.LastUpdateStatus == types.LastUpdateStatusFailed {
		return c.failed(f)
	}
	return nil
}

// reservedWanted is the reserved concurrency that the job asks for, nil for none.
func (c *convergence) reservedWanted() *int32 {
	if c.job.MaxConcurrency == 0 {
		return nil
	}
	return aws.Int32(int32(c.job.MaxConcurrency))
}

// setReserved sets or removes a function's reserved concurrency, where it is not what is wanted. Lambda reserves no fewer than are kept warm: where that
// would be so, the instances that are kept warm become those wanted before.
func (e *Executor) setReserved(ctx context.Context, op string, current *lambda.GetFunctionOutput, want *int32, warm int32) error {
	name := aws.ToString(current.Configuration.FunctionName)
	var has *int32
	if current.Concurrency != nil {
		has = current.Concurrency.ReservedConcurrentExecutions
	}
	if (has == nil) == (want == nil) && aws.ToInt32(has) == aws.ToInt32(want) {
		return nil
	}
	if n, err := strconv.Atoi(current.Tags[tagKeepWarm]); err == nil && want != nil && int(*want) < n {
		if err := e.setProvisioned(ctx, op, name, warm); err != nil && !isNotFound(err) { // without an alias none is kept warm
			return err
		}
	}
	return e.change(ctx, name, func(ctx context.Context) error {
		if want == nil {
			_, err := e.lambda.DeleteFunctionConcurrency(ctx, &lambda.DeleteFunctionConcurrencyInput{FunctionName: &name})
			return err
		}
		_, err := e.lambda.PutFunctionConcurrency(ctx, &lambda.PutFunctionConcurrencyInput{FunctionName: &name, ReservedConcurrentExecutions: want})
		if codeOf(err) == faas.ErrInvalidArgument {
			return faas.Errorf(faas.ErrInvalidArgument, op, faas.AWSLambda,
				`%d concurrent invocations cannot be reserved for function %s: lower max_concurrency, or set the option "reserved_concurrency" to false: %w`, *want, name, err)
		}
		return err
	})
}

// tags are the function's tags that are known before anything is live.
func (c *convergence) tags() map[string]string {
	tags := maps.Clone(c.options.tags)
	maps.Copy(tags, c.ownerTags())
	tags[tagJob] = strconv.FormatUint(uint64(c.job.JobID), 10)
	if c.roleIsOurs(c.role) {
		tags[tagRole] = c.roleName()
	}
	if c.object != (object{}) {
		tags[tagObject] = c.object.String()
	}
	if c.job.KeepWarm > 0 {
		tags[tagKeepWarm] = strconv.FormatUint(uint64(c.job.KeepWarm), 10)
	}
	return tags
}
