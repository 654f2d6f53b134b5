//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/check"
)

// bucketName returns the name of the bucket for big packages, or "" if there is none.
func (d *diagnosis) bucketName() string {
	switch e := d.e; {
	case e.options.s3Bucket != "":
		return e.options.s3Bucket
	case e.options.createBucket:
		return bucketPrefix + d.account + "-" + e.region
	}
	return ""
}

// bucket checks whether the bucket exists and is in the region.
func (d *diagnosis) bucket(ctx context.Context) faas.Check {
	e, name := d.e, d.bucketName()
	if name == "" {
		return check.Skip("none is configured, so that packages have to be smaller than %d MB (options bucket and "+
			"create_bucket)", (maxDirectUpload+1)>>20)
	}
	region, status := "", 0
	out, err := e.s3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &name})
	var answered *smithyhttp.ResponseError
	switch {
	case err == nil:
		region = aws.ToString(out.BucketRegion)
	case errors.As(err, &answered):
		status, region = answered.HTTPStatusCode(), answered.Response.Header.Get("X-Amz-Bucket-Region")
	}
	create := "aws s3 mb s3://" + name + " --region " + e.region
	switch {
	case region != "" && region != e.region, status == http.StatusMovedPermanently:
		err := faas.Errorf(faas.ErrInvalidArgument, "diagnose", faas.AWSLambda,
			"bucket %s is in region %s, and Lambda in %s takes no package from there", name, region, e.region)
		return check.FailBy(err, check.SetOption("bucket", "BUCKET")+" (a bucket in "+e.region+")")
	case err == nil:
		return check.OK("%s exists, in %s", name, e.region)
	case status == http.StatusNotFound && e.options.s3Bucket == "":
		return check.OK("%s is made when it is needed (create_bucket)", name)
	case status == http.StatusNotFound:
		return check.Fail(diagnosed(err), create, "there is no bucket %s", name)
	case status == http.StatusForbidden:
		arn := "arn:" + d.partition() + ":s3:::" + name
		return check.Fail(diagnosed(err), d.grant([]statement{{"Allow", []string{"s3:ListBucket"}, arn, nil}})+
			"\n"+check.SetOption("bucket", "BUCKET")+" (if the bucket is another account's)",
			"the permission s3:ListBucket on %s is missing, or the bucket belongs to another account", name)
	}
	return check.Warn(diagnosed(err), "try again", "bucket %s could not be checked: %s", name,
		check.Words(diagnosed(err)))
}

const (
	// These are the concurrent executions that an account must leave unreserved. Source:
	// https://docs.aws.amazon.com/lambda/latest/dg/configuration-concurrency.html
	unreservable   = 100
	nearlyFull     = 90 // percent of the code storage
	storageQuota   = "L-2ACBD22F"
	executionQuota = "L-B99A9384"
)

// quota checks how much of its quotas the account has left in the region.
func (d *diagnosis) quota(context.Context) faas.Check {
	e := d.e
	if denied(d.settingsErr) {
		return check.Warn(diagnosed(d.settingsErr),
			d.grant([]statement{{"Allow", []string{"lambda:GetAccountSettings"}, "*", nil}}),
			"the quotas could not be read, which needs the permission lambda:GetAccountSettings; deploying does not")
	}
	if d.settingsErr != nil {
		return check.Skip("the quotas could not be read: %s", check.Words(diagnosed(d.settingsErr)))
	}
	limit, usage := d.settings.AccountLimit, d.settings.AccountUsage
	if limit == nil || usage == nil {
		return check.Skip("Lambda does not tell them")
	}
	raise := func(quota string, value int64) string {
		return fmt.Sprintf("aws service-quotas request-service-quota-increase --service-code lambda --quota-code %s "+
			"--desired-value %d --region %s", quota, value, e.region)
	}
	var unreserved int32
	if limit.UnreservedConcurrentExecutions != nil {
		unreserved = *limit.UnreservedConcurrentExecutions
	}
	const giB = 1 << 30
	what := fmt.Sprintf("code storage %.1f of %.0f GiB, functions %d, concurrent executions %d, of which %d are not "+
		"reserved",
		float64(usage.TotalCodeSize)/giB, float64(limit.TotalCodeSize)/giB, usage.FunctionCount, limit.ConcurrentExecutions,
		unreserved)
	switch {
	case limit.TotalCodeSize > 0 && usage.TotalCodeSize >= limit.TotalCodeSize:
		err := faas.Errorf(faas.ErrTooLarge, "diagnose", faas.AWSLambda, "the account's code storage in %s is full", e.region)
		return check.Fail(err, "remove functions and versions that nobody needs\n"+
			raise(storageQuota, 2*limit.TotalCodeSize/giB), "%s: the code storage is full", what)
	case limit.ConcurrentExecutions == 0:
		err := faas.Errorf(faas.ErrThrottled, "diagnose", faas.AWSLambda,
			"no function may run in %s: the account's limit of concurrent executions is 0", e.region)
		return check.Fail(err, raise(executionQuota, 1000), "%s: no function may run", what)
	case limit.TotalCodeSize > 0 && usage.TotalCodeSize*100 >= limit.TotalCodeSize*nearlyFull:
		return check.Warn(nil, "remove functions and versions that nobody needs\n"+
			raise(storageQuota, 2*limit.TotalCodeSize/giB), "%s: the code storage is nearly full", what)
	case unreserved <= unreservable && e.options.reservedConcurrency:
		return check.Warn(nil, raise(executionQuota, 1000)+"\n"+check.SetOption("reserved_concurrency", "false"),
			"%s: a max_concurrency is refused, as %d have to stay unreserved, and few functions can run at the same time", what,
			unreservable)
	}
	return check.OK("%s", what)
}
