//go:build !faas_only || faas_aws

package aws

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// goLive publishes what $LATEST is, probes the version, and switches the alias to it. The tags, which record what is live, come last.
func (c *convergence) goLive(ctx context.Context, current *lambda.GetFunctionOutput) (faas.State, error) {
	version, err := c.publish(ctx)
	if err != nil {
		return faas.State{}, err
	}
	c.report(faas.Progress{Step: "probe"})
	coldStart, err := c.probe(ctx, c.unit.ID, version, c.jobID(), true)
	if err != nil {
		return faas.State{}, err
	}
	if err := c.pointAlias(ctx, c.unit.ID, version, c.created); err != nil {
		return faas.State{}, err
	}
	if current, err = c.keepWarm(ctx, current); err != nil {
		return faas.State{}, err
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
	c.prune(ctx, c.unit.ID, version, current.Tags[tagVersion])

	live := withTags(current, tags)
	for _, key := range obsolete {
		delete(live.Tags, key)
	}
	if c.options.reservedConcurrency {
		live.Concurrency = &types.Concurrency{ReservedConcurrentExecutions: c.reservedWanted()}
	}
	return c.stateOf(live), nil
}

// liveTags are the tags that record a version as the live one, and the tags that do not hold any more.
func (c *convergence) liveTags(current *lambda.GetFunctionOutput, version string, coldStart time.Duration) (tags map[string]string, obsolete []string) {
	tags = c.tags()
	tags[tagFingerprint], tags[tagPackage], tags[tagVersion] = c.unit.Fingerprint(), c.unit.Package.SHA256(), version
	tags[tagOptions], tags[tagLatest] = c.options.digest(), latestDigest(current.Configuration)
	if coldStart > 0 {
		tags[tagColdStart] = inMilliseconds(coldStart)
	} else if known := current.Tags[tagColdStart]; known != "" {
		tags[tagColdStart] = known // the probe met an instance that was warm
	}
	if stored := current.Tags[tagObject]; c.object == (object{}) && objectHolds(stored, c.unit.Package.SHA256()) {
		tags[tagObject] = stored // the package there is still the live one
	}
	for _, key := range []string{tagKeepWarm, tagRole, tagObject} {
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

// publish makes a version of $LATEST and waits until it can be invoked. Where nothing has changed since the last version, Lambda returns that one.
func (c *convergence) publish(ctx context.Context) (string, error) {
	c.report(faas.Progress{Step: "publish"})
	sum := codeSHA256(c.unit.Package.SHA256())
	var out *lambda.PublishVersionOutput
	err := c.change(ctx, c.unit.ID, func(ctx context.Context) (err error) {
		out, err = c.lambda.PublishVersion(ctx, &lambda.PublishVersionInput{FunctionName: &c.unit.ID, CodeSha256: &sum})
		return err
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
		return "", c.failed(published.Configuration)
	}
	return version, nil
}

// pointAlias makes the alias point at a version, all of it. isNew says that there is likely none yet, which saves a call.
func (e *Executor) pointAlias(ctx context.Context, name, version string, isNew bool) error {
	create := func() error {
		return e.finish(ctx, func(ctx context.Context) error {
			_, err := e.lambda.CreateAlias(ctx, &lambda.CreateAliasInput{FunctionName: &name, Name: &e.options.alias, FunctionVersion: &version})
			return err
		})
	}
	if isNew {
		if err := create(); !isConflict(err) {
			return err
		}
	}
	err := e.change(ctx, name, func(ctx context.Context) error {
		_, err := e.lambda.UpdateAlias(ctx, &lambda.UpdateAliasInput{
			FunctionName: &name, Name: &e.options.alias, FunctionVersion: &version, RoutingConfig: &types.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{}},
		})
		return err
	})
	if isNotFound(err) {
		return create()
	}
	return err
}

// keepWarm gives the alias the provisioned concurrency that is wanted. The tag is written before, so that none is ever forgotten.
func (c *convergence) keepWarm(ctx context.Context, current *lambda.GetFunctionOutput) (*lambda.GetFunctionOutput, error) {
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
	return current, c.setProvisioned(ctx, "deploy", c.unit.ID, want)
}

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
	err := e.change(ctx, name, func(ctx context.Context) error {
		_, err := e.lambda.PutProvisionedConcurrencyConfig(ctx, &lambda.PutProvisionedConcurrencyConfigInput{
			FunctionName: &name, Qualifier: &e.options.alias, ProvisionedConcurrentExecutions: &want,
		})
		return err
	})
	if err != nil {
		return err
	}
	wait := e.pace.within(e.pace.state)
	for {
		out, err := e.lambda.GetProvisionedConcurrencyConfig(ctx, &lambda.GetProvisionedConcurrencyConfigInput{FunctionName: &name, Qualifier: &e.options.alias})
		switch {
		case err != nil && !transient(err) && !isNotFound(err):
			return err
		case err == nil && out.Status == types.ProvisionedConcurrencyStatusEnumReady:
			return nil
		case err == nil && out.Status == types.ProvisionedConcurrencyStatusEnumFailed:
			return &faas.Error{Op: op, Provider: faas.AWSLambda, JobID: e.jobOf(name), Code: faas.ErrUnavailable, Err: faas.Errorf(faas.ErrUnavailable, op, faas.AWSLambda,
				"%d instances of function %s cannot be kept warm: %s", want, name, aws.ToString(out.StatusReason)).Err}
		}
		more, perr := wait.pause(ctx)
		if perr != nil {
			return perr
		}
		if !more {
			return faas.Errorf(faas.ErrTimeout, op, faas.AWSLambda, "%d instances of function %s were not warm after %s", want, name, e.pace.state)
		}
	}
}

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

// prune removes the oldest published versions beyond those to be kept. It never removes the two given. What cannot be removed is left for the next time.
func (e *Executor) prune(ctx context.Context, name, live, previous string) {
	var versions []int
	pages := lambda.NewListVersionsByFunctionPaginator(e.lambda, &lambda.ListVersionsByFunctionInput{FunctionName: &name, MaxItems: aws.Int32(50)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			e.logger.warn("old versions are not removed", "function", name, "error", err)
			return
		}
		for _, v := range page.Versions {
			if n, err := strconv.Atoi(aws.ToString(v.Version)); err == nil {
				versions = append(versions, n)
			}
		}
	}
	slices.SortFunc(versions, func(a, b int) int { return cmp.Compare(b, a) })
	if len(versions) <= e.options.keepVersions {
		return
	}
	for _, n := range versions[e.options.keepVersions:] {
		version := strconv.Itoa(n)
		if version == live || version == previous {
			continue
		}
		if _, err := e.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{FunctionName: &name, Qualifier: &version}); err != nil && !isNotFound(err) {
			e.logger.warn("an old version is not removed", "function", name, "version", version, "error", err)
		}
	}
}
