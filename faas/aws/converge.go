//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// Converge creates the function or updates what differs, publishes a version, probes it, and points
// the alias at it. Until the alias moves, the previous version answers.
func (e *Executor) Converge(ctx context.Context, u faas.Unit, prior *faas.State,
	report func(faas.Progress)) (faas.State, error) {
	c, err := e.newConvergence(u, report)
	if err != nil {
		return faas.State{}, err
	}
	defer e.forms.Forget(u.ID)
	s, err := c.run(ctx, prior)
	if err != nil {
		return faas.State{Existed: c.existed}, withoutValues(ofJob(classify("deploy", c.jobID(), err), c.jobID()),
			c.job.Env.Reveal())
	}
	s.Existed = c.existed
	return s, nil
}

// convergence is the state of one call of Converge.
type convergence struct {
	*Executor
	unit   faas.Unit
	job    faas.Function
	report func(faas.Progress)

	role    string
	roleID  string // of a role that was created for the service
	object  object // where the package is in S3; empty for a direct upload
	created bool   // the function was created by this call
	existed bool   // it was said not to exist, and did, not made by this executor
}

func (e *Executor) newConvergence(u faas.Unit, report func(faas.Progress)) (*convergence, error) {
	if len(u.Functions) != 1 {
		return nil, faas.Errorf(faas.ErrInvalidArgument, "deploy", faas.AWSLambda,
			"unit %s has %d functions; a unit of Lambda has one", u.ID, len(u.Functions))
	}
	c := &convergence{Executor: e, unit: u, job: u.Functions[0], report: report}
	refuse := func(code faas.Code, format string, args ...any) error {
		return faas.JobErrorf(code, "deploy", faas.AWSLambda, c.job.JobID, format, args...)
	}
	switch {
	case u.ID != functionName(e.service, c.job.JobID):
		return nil, refuse(faas.ErrInvalidArgument, "unit %q is none of service %q: its function for the job is called %q",
			u.ID, e.service, functionName(e.service, c.job.JobID))
	case u.Package == nil:
		return nil, refuse(faas.ErrInvalidArgument, "unit %s has no package", u.ID)
	case u.Package.Unpacked() > maxUnpacked:
		return nil, refuse(faas.ErrTooLarge, "the package has %d bytes unpacked; Lambda's limit is %d", u.Package.Unpacked(),
			int64(maxUnpacked))
	case u.Package.Size() > e.direct && e.options.s3Bucket == "" && !e.options.createBucket:
		return nil, refuse(faas.ErrTooLarge, "the package has %d bytes; Lambda takes at most %d in a call: "+
			`set the option "bucket" to a bucket in %s, or "create_bucket" to true`, u.Package.Size(), e.direct, e.region)
	}
	if _, err := e.functionRules().Check(u.Functions); err != nil {
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
	c.role, c.roleID = role.arn, role.id
	if current == nil {
		current, err = c.create(ctx)
	}
	if err != nil {
		return faas.State{}, err
	}
	if !c.created {
		if done, ok := c.alreadyThere(ctx, current); ok {
			return done, nil
		}
		if current, err = c.updatable(ctx, current); err != nil {
			return faas.State{}, err
		}
	}
	current, version, err := c.publishWanted(ctx, current)
	if err != nil {
		return faas.State{}, err
	}
	live, err := c.goLive(ctx, current, version)
	if err != nil && ctx.Err() == nil { // versions that never go live must not pile up
		c.prune(ctx, c.unit.ID, int(c.options.keepVersions), current.Tags[tagVersion], version)
	}
	return live, err
}

// alreadyThere reports whether there is nothing to do.
func (c *convergence) alreadyThere(ctx context.Context, current *lambda.GetFunctionOutput) (faas.State, bool) {
	if s := c.stateOf(current, route{version: current.Tags[tagVersion]}); !s.Current(c.unit) {
		return s, false
	}
	to, err := c.route(ctx, "deploy", current)
	return c.stateOf(current, to), err == nil && to.problem == ""
}

// create creates the function. If the function exists already, because the caller did not look or
// an earlier attempt created it, create returns it as it is.
func (c *convergence) create(ctx context.Context) (*lambda.GetFunctionOutput, error) {
	in := c.wantedSettings(c.job, c.role).creation(c.unit.ID, c.architecture(nil))
	up, err := c.upload(ctx)
	if err != nil {
		return nil, err
	}
	in.Code, in.Tags = &up.code, c.tags()
	var out *lambda.GetFunctionOutput
	err = c.repeating(0, "creating function %s", c.unit.ID).Until(ctx, func(ctx context.Context) (err error) {
		out, err = c.createOnce(ctx, in, up)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// roleWait returns how long Lambda may refuse the role. A role that was created for the service is
// right, and at most too new.
func (c *convergence) roleWait() time.Duration {
	if c.roleID != "" {
		return 5 * c.pace.role
	}
	return c.pace.role
}

// createOnce tries to create the function. It returns kit.NotYet if a later attempt may succeed.
func (c *convergence) createOnce(ctx context.Context, in *lambda.CreateFunctionInput,
	up *upload) (*lambda.GetFunctionOutput, error) {
	err := c.storeCode(ctx, func() error {
		return c.finish(ctx, func(ctx context.Context) error {
			_, err := c.lambda.CreateFunction(ctx, in, c.memory.creating(c.unit.ID), up.send)
			if c.unsure.sent(c.unit.ID, err) || err == nil {
				c.memory.setMade(c.unit.ID)
			}
			return err
		})
	})
	switch {
	case err == nil:
		if !up.standsIn {
			c.report(c.uploaded())
		}
		c.created = true
		out, err := c.settled(ctx, "deploy", c.jobID(), c.unit.ID, "",
			func(f *types.FunctionConfiguration) bool { return aws.ToString(f.CodeSha256) != "" })
		if err != nil {
			return nil, err
		}
		if out.Configuration.State != types.StateFailed {
			return out, nil
		}
		failure := c.failed("deploy", out.Configuration)
		if out.Configuration.StateReasonCode != types.StateReasonCodeInsufficientRolePermissions {
			return nil, failure
		}
		// A role that was too new can also have this effect. Only a new function helps then.
		if err := c.delete(ctx, c.unit.ID, out); err != nil {
			return nil, err
		}
		if err := c.standIn(up); err != nil {
			return nil, err
		}
		return nil, kit.NotYet(c.roleWait(), "%w", failure)
	case isSettling(err):
		c.report(faas.Progress{Step: "wait for role"})
		if err := c.standIn(up); err != nil {
			return nil, err
		}
		return nil, kit.NotYet(c.roleWait(), "Lambda refuses the function with role %s: %w", c.role, err)
	case isBusy(err):
		out, gerr := c.get(ctx, c.unit.ID, "")
		if gerr == nil && out.Configuration.State != types.StateDeleting {
			gerr = c.checkOwner(ctx, "deploy", c.unit.ID, out)
			c.existed = gerr == nil && !c.memory.made(c.unit.ID)
			return out, gerr
		}
		if gerr != nil && !isNotFound(gerr) && !refusalOf(gerr).Class.Passes() {
			return nil, gerr
		}
		return nil, kit.NotYet(c.pace.state, "%w", err) // the last function of this name is still being deleted
	case c.unsure.left(c.unit.ID, c.pace.late) > 0: // it may come into being yet
		failed := *classify("deploy", c.jobID(), err)
		failed.Unsettled = true
		return nil, &failed
	}
	return nil, err
}

// updatable returns the function if it can be updated, or else a new one in its place.
func (c *convergence) updatable(ctx context.Context, current *lambda.GetFunctionOutput) (*lambda.GetFunctionOutput,
	error) {
	var err error
	if current.Configuration.State == types.StateDeleting {
		if err := c.gone(ctx, c.unit.ID, func(*lambda.GetFunctionOutput) error { return nil }); err != nil {
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
		// Updates cannot repair a function that never started, and nobody uses it.
		if err := c.delete(ctx, c.unit.ID, current); err != nil {
			return nil, err
		}
		return c.create(ctx)
	}
	if current.Configuration.PackageType == types.PackageTypeImage {
		return nil, faas.JobErrorf(faas.ErrConflict, "deploy", faas.AWSLambda, c.job.JobID,
			"function %s runs a container image, which cannot be changed to a package: remove it, and deploy again", c.unit.ID)
	}
	return current, nil
}

// publishWanted changes $LATEST and the reserved concurrency to what the unit wants, and publishes
// a version. Every step names the revision that the step before has read, so that Lambda refuses a
// change based on an outdated read; the step then waits for a newer one.
func (c *convergence) publishWanted(ctx context.Context, current *lambda.GetFunctionOutput) (*lambda.GetFunctionOutput,
	string, error) {
	sent := false
	for range maxRaces {
		now, changed, err := c.updateOnce(ctx, current, sent)
		current, sent = now, sent || changed
		if err == nil && c.options.reservedConcurrency {
			if err = c.setReserved(ctx, "deploy", current, c.reservedWanted(), int32(c.job.KeepWarm)); err == nil {
				current.Concurrency = &types.Concurrency{ReservedConcurrentExecutions: c.reservedWanted()}
			}
		}
		var version string
		if err == nil {
			version, err = c.publish(ctx, current)
		}
		if err == nil || !isOutdated(err) {
			return current, version, err
		}
		if current, err = c.moved(ctx, "deploy", current); err != nil {
			return nil, "", err
		}
	}
	return nil, "", faas.JobErrorf(faas.ErrConflict, "deploy", faas.AWSLambda, c.job.JobID,
		"somebody else keeps changing function %s", c.unit.ID)
}

// maxRaces is how often an update is retried because the function changed between the read and the
// update.
const maxRaces = 4

func (c *convergence) updateOnce(ctx context.Context, current *lambda.GetFunctionOutput,
	sent bool) (*lambda.GetFunctionOutput, bool, error) {
	name, want := c.unit.ID, c.wantedSettings(c.job, c.role)
	sum := codeSHA256(c.unit.Package.SHA256())
	now := current.Configuration
	arch := c.architecture(now)
	if aws.ToString(now.CodeSha256) != sum || (len(now.Architectures) > 0 && string(now.Architectures[0]) != arch) {
		up, err := c.upload(ctx)
		if err != nil {
			return current, sent, err
		}
		in := &lambda.UpdateFunctionCodeInput{
			FunctionName: &name, ZipFile: up.code.ZipFile, S3Bucket: up.code.S3Bucket, S3Key: up.code.S3Key,
			RevisionId:    now.RevisionId,
			Architectures: []types.Architecture{types.Architecture(arch)},
		}
		c.memory.setChanged(name, true)
		if err := c.storeCode(ctx, func() error {
			return c.change(ctx, name, func(ctx context.Context) error {
				_, err := c.lambda.UpdateFunctionCode(ctx, in, up.send)
				return err
			})
		}); err != nil {
			return current, sent, err
		}
		sent = true
		c.report(c.uploaded())
		after, err := c.settled(ctx, "deploy", c.jobID(), name, "",
			applied(now, func(f *types.FunctionConfiguration) bool { return aws.ToString(f.CodeSha256) == sum }))
		if err != nil {
			return current, sent, err
		}
		current = after
		if err := c.updateFailed(current.Configuration); err != nil {
			return current, sent, err
		}
		now = current.Configuration
	}
	in := want.changes(name, now)
	if in == nil && !sent && now.LastUpdateStatus == types.LastUpdateStatusFailed {
		// The last update failed. Only another update ends that state.
		in = &lambda.UpdateFunctionConfigurationInput{FunctionName: &name, Timeout: &want.TimeoutSecs}
	}
	if in == nil {
		return current, sent, nil
	}
	c.report(faas.Progress{Step: "configure"})
	in.RevisionId = now.RevisionId
	if err := c.configure(ctx, want.Role, in); err != nil {
		return current, sent, err
	}
	after, err := c.settled(ctx, "deploy", c.jobID(), name, "", applied(now, want.agrees))
	if err != nil {
		return current, true, err
	}
	return after, true, c.updateFailed(after.Configuration)
}

// configure updates the configuration. It waits for a role or a grant that Lambda does not know
// yet.
func (e *Executor) configure(ctx context.Context, role string, in *lambda.UpdateFunctionConfigurationInput) error {
	name := *in.FunctionName
	e.memory.setChanged(name, true)
	return e.repeating(0, "configuring function %s", name).Until(ctx, func(ctx context.Context) error {
		err := e.change(ctx, name, func(ctx context.Context) error {
			_, err := e.lambda.UpdateFunctionConfiguration(ctx, in)
			return err
		})
		if isSettling(err) {
			return kit.NotYet(e.pace.role, "Lambda refuses role %s: %w", role, err)
		}
		return err
	})
}

// goLive probes a version and points the alias at it. It writes the tags, which record what is
// live, last.
func (c *convergence) goLive(ctx context.Context, current *lambda.GetFunctionOutput, version string) (faas.State,
	error) {
	c.report(faas.Progress{Step: "probe"})
	coldStart, err := c.probe(ctx, c.unit.ID, version, c.jobID(), true)
	if apiCode(err) == codeSealed {
		c.memory.setSealed(c.unit.ID, true)
		if current, version, err = c.renewRole(ctx, current); err != nil {
			return faas.State{}, err
		}
		coldStart, err = c.probe(ctx, c.unit.ID, version, c.jobID(), true)
	}
	refused := ownLimit(err) // by what the version before it takes, so that it can be probed only when it is live
	if err != nil && !refused {
		return faas.State{}, err
	}
	created, err := c.pointAlias(ctx, "deploy", c.unit.ID, version, c.created)
	if err != nil {
		return faas.State{}, err
	}
	if current, err = c.keepWarm(ctx, current, version); err != nil {
		return faas.State{}, err
	}
	if created || refused { // a new alias is unknown to some of Lambda for a while
		c.report(faas.Progress{Step: "probe"})
		_, err := c.probe(ctx, c.unit.ID, c.options.alias, c.jobID(), true)
		switch {
		case ownLimit(err):
			c.logger.warn("the new version is live but could not be probed: "+
				"jobs take all of the function's reserved concurrency", "function", c.unit.ID, "version", version)
		case err != nil:
			return faas.State{}, err
		}
	}

	tags, obsolete := c.liveTags(current, version, coldStart)
	if err := c.tag(ctx, current, tags, obsolete); err != nil {
		return faas.State{}, err
	}
	if old := parseObject(current.Tags[tagObject]); old != (object{}) && tags[tagObject] != old.String() {
		if err := c.deleteObject(ctx, old); err != nil {
			c.logger.warn("the package of the version before could not be removed from S3", "object", old.String(), "error", err)
		}
	}
	c.memory.told(c.unit.ID, version)
	c.memory.setSealed(c.unit.ID, false)
	c.prune(ctx, c.unit.ID, int(c.options.keepVersions), version, current.Tags[tagVersion])

	live := withTags(current, tags)
	for _, key := range obsolete {
		delete(live.Tags, key)
	}
	return c.stateOf(live, route{version: version}), nil
}
