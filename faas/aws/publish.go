//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/payloads"
)

// goLive probes a version and switches the alias to it. The tags, which record what is live, come last.
func (c *convergence) goLive(ctx context.Context, current *lambda.GetFunctionOutput, version string) (faas.State, error) {
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
			c.logger.warn("the new version is live and could not be probed: jobs take all of the function's reserved concurrency", "function", c.unit.ID, "version", version)
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

// renewRole sets the role and the environment anew, and publishes a version with them. Lambda may read
// an environment only as the role that there was when it was set, and one that was deleted and made
// again is another.
func (c *convergence) renewRole(ctx context.Context, current *lambda.GetFunctionOutput) (*lambda.GetFunctionOutput, string, error) {
	c.report(faas.Progress{Step: "configure"})
	want := c.wantedSettings(c.job, c.role)
	env := want.Env
	if env == nil {
		env = map[string]string{}
	}
	in := &lambda.UpdateFunctionConfigurationInput{FunctionName: &c.unit.ID, Role: &want.Role, Environment: &types.Environment{Variables: env}}
	if err := c.configure(ctx, want.Role, in); err != nil {
		return nil, "", err
	}
	after, err := c.settled(ctx, "deploy", c.jobID(), c.unit.ID, "", applied(current.Configuration, want.agrees))
	if err == nil {
		err = c.updateFailed(after.Configuration)
	}
	if err != nil {
		return nil, "", err
	}
	version, err := c.publish(ctx, after)
	return after, version, err
}

// liveTags are the tags that record a version as the live one, and the tags that do not hold any more.
func (c *convergence) liveTags(current *lambda.GetFunctionOutput, version string, coldStart time.Duration) (tags map[string]string, obsolete []string) {
	tags = c.tags()
	tags[tagFingerprint], tags[tagPackage], tags[tagVersion] = c.unit.Fingerprint(), c.unit.Package.SHA256(), version
	tags[tagOptions], tags[tagLatest] = c.options.digest(), c.latestDigest(current)
	if c.unit.Compact {
		tags[tagPayload] = payloads.Mark(c.unit.Package.SHA256())
	}
	if coldStart > 0 {
		tags[tagColdStart] = inMilliseconds(coldStart)
	} else if known := current.Tags[tagColdStart]; known != "" {
		tags[tagColdStart] = known // the probe met an instance that was warm
	}
	if stored := current.Tags[tagObject]; c.object == (object{}) && objectHolds(stored, c.unit.Package.SHA256()) {
		tags[tagObject] = stored // the package there is still the live one
	}
	for _, key := range []string{tagKeepWarm, tagRole, tagObject, tagPayload} {
		if _, keep := tags[key]; !keep && current.Tags[key] != "" {
			obsolete = append(obsolete, key)
		}
	}
	return tags, obsolete
}

func inMilliseconds(d time.Duration) string {
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', -1, 64)
}

// withTags returns what was read of a function with some tags set since.
func withTags(out *lambda.GetFunctionOutput, tags map[string]string) *lambda.GetFunctionOutput {
	changed := *out
	changed.Tags = map[string]string{}
	maps.Copy(changed.Tags, out.Tags)
	maps.Copy(changed.Tags, tags)
	return &changed
}

// publish makes a version of $LATEST as it was read and waits until it can be invoked. Where nothing has changed since the last version, Lambda returns that one.
func (c *convergence) publish(ctx context.Context, current *lambda.GetFunctionOutput) (string, error) {
	c.report(faas.Progress{Step: "publish"})
	sum := codeSHA256(c.unit.Package.SHA256())
	in := &lambda.PublishVersionInput{FunctionName: &c.unit.ID, CodeSha256: &sum, RevisionId: current.Configuration.RevisionId}
	var out *lambda.PublishVersionOutput
	err := c.withRoom(ctx, func() error {
		return c.change(ctx, c.unit.ID, func(ctx context.Context) (err error) {
			out, err = c.lambda.PublishVersion(ctx, in)
			return err
		})
	})
	if err != nil {
		return "", err
	}
	version := aws.ToString(out.Version)
	if version == "" {
		return "", faas.JobErrorf(faas.ErrInternal, "deploy", faas.AWSLambda, c.job.JobID, "publishing function %s gave no version number", c.unit.ID)
	}
	if out.State == types.StateActive || out.State == "" {
		return version, nil
	}
	published, err := c.settled(ctx, "deploy", c.jobID(), c.unit.ID, version, nil)
	if err != nil {
		return "", err
	}
	if published.Configuration.State == types.StateFailed {
		return "", c.failed("deploy", published.Configuration)
	}
	return version, nil
}

// pointAlias makes the alias point at a version, all of it, and reports whether it had to be created. isNew says that there is likely none yet, which saves a call.
func (e *Executor) pointAlias(ctx context.Context, op, name, version string, isNew bool) (created bool, err error) {
	create := func() error {
		return e.finish(ctx, func(ctx context.Context) error {
			_, err := e.lambda.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: &name, Name: &e.options.alias, FunctionVersion: &version})
			return err
		})
	}
	err = e.repeating(0, "pointing alias %q of function %s to version %s", e.options.alias, name, version).Until(ctx, func(ctx context.Context) error {
		if isNew {
			if err := create(); !isBusy(err) && !isNotFound(err) {
				created = err == nil
				return err
			}
		}
		var out *lambda.UpdateAliasOutput
		err := e.change(ctx, name, func(ctx context.Context) (err error) {
			out, err = e.lambda.UpdateAlias(ctx, &lambda.UpdateAliasInput{
				FunctionName: &name, Name: &e.options.alias, FunctionVersion: &version,
				RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{}},
			})
			return err
		})
		switch {
		case err == nil && len(weights(out.RoutingConfig)) > 0:
			return e.routed(ctx, op, name, version)
		case isNotFound(err): // an alias or a version that was created just now may be unknown for a while
			isNew = true
			return kit.NotYet(e.pace.settle, "%w", err)
		}
		return err
	})
	return created, err
}

// routed waits until the alias points to a version and to no other one. An alias with provisioned concurrency moves in steps; and reads of any may lag behind.
func (e *Executor) routed(ctx context.Context, op, name, version string) error {
	wait := e.looking(e.pace.state, "waiting for alias %q of function %s", e.options.alias, name)
	wait.Absent = e.pace.settle
	err := wait.Until(ctx, func(ctx context.Context) error {
		out, err := e.lambda.GetAlias(ctx, &lambda.GetAliasInput{FunctionName: &name, Name: &e.options.alias})
		switch {
		case err != nil:
			return err
		case aws.ToString(out.FunctionVersion) != version:
			return kit.NotYet(e.pace.settle, "%w: it does not point to version %s: something else moves it", faas.ErrConflict, version)
		case len(weights(out.RoutingConfig)) > 0:
			return kit.NotYet(0, "%w: it is still moving to version %s", faas.ErrTimeout, version)
		}
		return nil
	})
	if err != nil {
		return classify(op, e.jobOf(name), err)
	}
	return nil
}

// keepWarm gives the alias the provisioned concurrency that is wanted. The tag is written before, so that none is ever forgotten.
func (c *convergence) keepWarm(ctx context.Context, current *lambda.GetFunctionOutput, version string) (*lambda.GetFunctionOutput, error) {
	want, has := int32(c.job.KeepWarm), current.Tags[tagKeepWarm]
	if want == 0 && has == "" {
		return current, nil
	}
	if want > 0 && !c.created && has != strconv.Itoa(int(want)) {
		mark := map[string]string{tagKeepWarm: strconv.Itoa(int(want))}
		if err := c.tag(ctx, current, mark, nil); err != nil {
			return nil, err
		}
		current = withTags(current, mark)
	}
	c.report(faas.Progress{Step: "keep warm"})
	if has != "" && !c.created {
		if err := c.routed(ctx, "deploy", c.unit.ID, version); err != nil {
			return nil, err
		}
	}
	return current, c.setProvisioned(ctx, "deploy", c.unit.ID, want)
}

// setProvisioned makes the alias's provisioned concurrency what is wanted, and waits until as many instances are warm. The right number is not asked for again.
func (e *Executor) setProvisioned(ctx context.Context, op, name string, want int32) error {
	if want == 0 {
		err := e.change(ctx, name, func(ctx context.Context) error {
			_, err := e.lambda.DeleteProvisionedConcurrencyConfig(ctx, &lambda.DeleteProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: &e.options.alias})
			return err
		})
		if isNotFound(err) {
			return nil
		}
		return err
	}
	asked := false
	wait := e.looking(e.pace.state, "keeping %d instances of function %s warm", want, name)
	wait.Absent = e.pace.state
	err := wait.Until(ctx, func(ctx context.Context) error {
		out, err := e.lambda.GetProvisionedConcurrencyConfig(ctx, &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: &e.options.alias})
		if err != nil && (asked || !isNotFound(err)) {
			return err
		}
		right := err == nil && aws.ToInt32(out.RequestedProvisionedConcurrentExecutions) == want
		failed := right && out.Status == types.ProvisionedConcurrencyStatusEnumFailed
		switch {
		case right && out.Status == types.ProvisionedConcurrencyStatusEnumReady:
			return nil
		case failed && asked:
			return &vain{faas.Errorf(faas.ErrUnavailable, op, faas.AWSLambda, "%d instances of function %s cannot be kept warm: %s", want, name, aws.ToString(out.StatusReason))}
		case !asked && (failed || !right):
			if err := e.change(ctx, name, func(ctx context.Context) error {
				_, err := e.lambda.PutProvisionedConcurrencyConfig(ctx, &lambda.PutProvisionedConcurrencyConfigInput{
					FunctionName: &name, Qualifier: &e.options.alias, ProvisionedConcurrentExecutions: &want,
				})
				return err
			}); err != nil {
				return &vain{err}
			}
			asked = true
		}
		return kit.NotYet(0, "%w: they are not warm", faas.ErrTimeout)
	})
	if failed, ok := err.(*vain); ok {
		return failed.error
	}
	return err
}

// vain is an error that ends a wait, whatever it means.
type vain struct{ error }

// tag sets tags of a function and removes others.
func (e *Executor) tag(ctx context.Context, current *lambda.GetFunctionOutput, tags map[string]string, obsolete []string) error {
	arn := unqualified(aws.ToString(current.Configuration.FunctionArn))
	name := aws.ToString(current.Configuration.FunctionName)
	if err := e.change(ctx, name, func(ctx context.Context) error {
		_, err := e.lambda.TagResource(ctx, &lambda.TagResourceInput{Resource: &arn, Tags: tags})
		return err
	}); err != nil || len(obsolete) == 0 {
		return err
	}
	return e.change(ctx, name, func(ctx context.Context) error {
		_, err := e.lambda.UntagResource(ctx, &lambda.UntagResourceInput{Resource: &arn, TagKeys: obsolete})
		return err
	})
}

// prune removes the oldest published versions until no more than keep are left, and reports how many it removed. It never removes those that are needed, nor
// one that Restore may have to go back to; Lambda itself refuses to remove one that an alias points to. What cannot be removed is left for the next time.
func (e *Executor) prune(ctx context.Context, name string, keep int, needed ...string) int {
	var versions []int
	pages := lambda.NewListVersionsByFunctionPaginator(e.lambda, &lambda.ListVersionsByFunctionInput{FunctionName: &name, MaxItems: aws.Int32(50)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			e.logger.warn("old versions are not removed", "function", name, "error", err)
			return 0
		}
		for _, v := range page.Versions {
			if n, err := strconv.Atoi(aws.ToString(v.Version)); err == nil {
				versions = append(versions, n)
			}
		}
	}
	slices.Sort(versions)
	removed := 0
	for _, n := range versions {
		version := strconv.Itoa(n)
		if len(versions)-removed <= keep {
			break
		}
		if slices.Contains(needed, version) || e.memory.keeps(name, version) {
			continue
		}
		if _, err := e.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name, Qualifier: &version}); err != nil && !isNotFound(err) {
			e.logger.warn("an old version is not removed", "function", name, "version", version, "error", err)
			continue
		}
		removed++
	}
	return removed
}

// withRoom calls f, which stores code, and once more after old versions of the service's functions were removed if the account has no room.
func (c *convergence) withRoom(ctx context.Context, f func() error) error {
	err := f()
	if apiCode(err) != codeStorageFull {
		return err
	}
	if c.makeRoom(ctx) > 0 {
		err = f()
	}
	if apiCode(err) != codeStorageFull {
		return err
	}
	return faas.JobErrorf(faas.ErrTooLarge, "deploy", faas.AWSLambda, c.job.JobID,
		"the account has no room for code in %s: remove functions and versions that nobody needs, or ask AWS for a higher quota: %w", c.region, err)
}

// makeRoom removes all versions of the service's functions but the live ones and those that Restore may have to go back to.
func (e *Executor) makeRoom(ctx context.Context) int {
	names, err := e.names(ctx)
	if err != nil {
		e.logger.warn("old versions are not removed", "error", err)
		return 0
	}
	removed := 0
	for _, name := range names {
		if out, err := e.owned(ctx, "deploy", name); err == nil && out.Tags[tagVersion] != "" {
			removed += e.prune(ctx, name, 0, out.Tags[tagVersion])
		}
	}
	return removed
}
