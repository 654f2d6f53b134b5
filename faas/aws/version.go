//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// publish makes a version of $LATEST as it was read and waits until the version can be invoked. If
// nothing has changed since the last version, Lambda returns that one.
func (c *convergence) publish(ctx context.Context, current *lambda.GetFunctionOutput) (string, error) {
	c.report(faas.Progress{Step: "publish"})
	sum := codeSHA256(c.unit.Package.SHA256())
	in := &lambda.PublishVersionInput{FunctionName: &c.unit.ID, CodeSha256: &sum,
		RevisionId: current.Configuration.RevisionId}
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
		return "", faas.JobErrorf(faas.ErrInternal, "deploy", faas.AWSLambda, c.job.JobID,
			"publishing function %s gave no version number", c.unit.ID)
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

// renewRole sets the role and the environment again, and publishes a version with them. Lambda may
// read an environment only as the role that existed when the environment was set; a role that was
// deleted and made again is another one.
func (c *convergence) renewRole(ctx context.Context, current *lambda.GetFunctionOutput) (*lambda.GetFunctionOutput,
	string, error) {
	c.report(faas.Progress{Step: "configure"})
	want := c.wantedSettings(c.job, c.role)
	env := want.Env
	if env == nil {
		env = map[string]string{}
	}
	in := &lambda.UpdateFunctionConfigurationInput{
		FunctionName: &c.unit.ID, Role: &want.Role, Environment: &types.Environment{Variables: env}}
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

// prune removes the oldest published versions until no more than keep are left, and returns how
// many it removed. It never removes the needed ones, nor one that Restore may have to go back to;
// Lambda itself refuses to remove one that an alias points to. It leaves what it cannot remove for
// the next time.
func (e *Executor) prune(ctx context.Context, name string, keep int, needed ...string) int {
	var versions []int
	pages := lambda.NewListVersionsByFunctionPaginator(
		e.lambda, &lambda.ListVersionsByFunctionInput{FunctionName: &name, MaxItems: aws.Int32(50)})
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
		if _, err := e.lambda.DeleteFunction(ctx, &lambda.DeleteFunctionInput{
			FunctionName: &name, Qualifier: &version}); err != nil && !isNotFound(err) {
			e.logger.warn("an old version is not removed", "function", name, "version", version, "error", err)
			continue
		}
		removed++
	}
	return removed
}

// withRoom calls f, which stores code. If the account has no room, it removes old versions of the
// service's functions and calls f once more.
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
		"the account has no room for code in %s: remove functions and versions that nobody needs, or ask AWS for a "+
			"higher quota: %w", c.region, err)
}

// makeRoom removes all versions of the service's functions except the live ones and those that
// Restore may have to go back to.
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
