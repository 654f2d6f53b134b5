//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// object is a package in S3.
type object struct{ bucket, key string }

// String returns the value of the tag that records the object.
func (o object) String() string { return o.bucket + "/" + o.key }

func parseObject(text string) object {
	bucket, key, ok := strings.Cut(text, "/")
	if !ok {
		return object{}
	}
	return object{bucket, key}
}

// objectHolds reports whether a recorded object is the package with the hash, with which its key
// ends.
func objectHolds(recorded, sha256 string) bool { return strings.HasSuffix(recorded, "/"+sha256+".zip") }

// storesPackages reports whether packages may be stored in S3.
func (e *Executor) storesPackages() bool { return e.options.s3Bucket != "" || e.options.createBucket }

// keyStem is the common prefix of the keys of the service's packages.
func (e *Executor) keyStem() string {
	return "blueprint-serverless/" + nameStem(e.service) + "packages/"
}

// putPackage puts the unit's package into the bucket, unless it is there.
func (e *Executor) putPackage(ctx context.Context, u faas.Unit) (object, error) {
	bucket, err := e.bucket(ctx)
	if err != nil {
		return object{}, err
	}
	where := object{bucket, e.keyStem() + u.Package.SHA256() + ".zip"}
	_, err = e.packages.Do(ctx, where, func(ctx context.Context) (struct{}, error) {
		var none struct{}
		_, err := e.s3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &where.bucket, Key: &where.key})
		switch code := codeOf(err); {
		case err == nil:
			return none, nil
		case apiCode(err) == "MovedPermanently": // the answer to a HEAD says no more
			return none, faas.Errorf(faas.ErrInvalidArgument, "deploy", faas.AWSLambda,
				"bucket %s is in another region than the functions, which are in %s: %w", bucket, e.region, err)
		// S3 answers "forbidden" for a missing object if the caller may not list the bucket.
		case code != faas.ErrNotFound && code != faas.ErrPermissionDenied:
			return none, err
		}
		return none, e.finish(ctx, func(ctx context.Context) error { return e.putObject(ctx, where, u.Package) })
	})
	return where, err
}

// putObject sends a package from its file. It tells S3 the checksum, so that the SDK does not add
// one to the body, which not every S3 server accepts.
func (e *Executor) putObject(ctx context.Context, where object, p *faas.Package) error {
	sum, err := hex.DecodeString(p.SHA256())
	if err != nil {
		return err
	}
	f, err := p.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = e.s3.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &where.bucket, Key: &where.key, Body: f, ContentLength: aws.Int64(p.Size()),
		ContentType:    aws.String("application/zip"),
		ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum)),
	})
	return err
}

// bucket returns the bucket for packages, and creates it if the options say so.
func (e *Executor) bucket(ctx context.Context) (string, error) {
	if e.options.s3Bucket != "" {
		return e.options.s3Bucket, nil
	}
	role, err := e.executionRole(ctx)
	if err != nil {
		return "", err
	}
	name := bucketPrefix + parseARN(role.arn).account + "-" + e.region
	_, err = e.packages.Do(ctx, object{bucket: name}, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, e.createBucket(ctx, name)
	})
	return name, err
}

// createBucket creates the bucket. Its packages expire, because Lambda copies them when it creates
// or updates a function.
func (e *Executor) createBucket(ctx context.Context, name string) error {
	in := &s3.CreateBucketInput{Bucket: &name}
	if e.region != "us-east-1" { // the one region that must not be named
		in.CreateBucketConfiguration = &types.CreateBucketConfiguration{
			LocationConstraint: types.BucketLocationConstraint(e.region)}
	}
	err := e.changeOther(ctx, func(ctx context.Context) error { _, err := e.s3.CreateBucket(ctx, in); return err })
	if apiCode(err) == "BucketAlreadyOwnedByYou" {
		return nil
	}
	if err != nil {
		return err
	}
	rule := types.LifecycleRule{
		ID: aws.String("packages"), Status: types.ExpirationStatusEnabled,
		Filter:                         &types.LifecycleRuleFilter{Prefix: aws.String("blueprint-serverless/")},
		Expiration:                     &types.LifecycleExpiration{Days: aws.Int32(7)},
		AbortIncompleteMultipartUpload: &types.AbortIncompleteMultipartUpload{DaysAfterInitiation: aws.Int32(1)},
	}
	return e.changeOther(ctx, func(ctx context.Context) error {
		_, err := e.s3.PutBucketLifecycleConfiguration(ctx, &s3.PutBucketLifecycleConfigurationInput{
			Bucket: &name, ChecksumAlgorithm: types.ChecksumAlgorithmSha256,
			LifecycleConfiguration: &types.BucketLifecycleConfiguration{Rules: []types.LifecycleRule{rule}},
		})
		return err
	})
}

// deleteObject removes a package. If the package is already gone, deleteObject succeeds.
func (e *Executor) deleteObject(ctx context.Context, o object) error {
	if !strings.HasPrefix(o.key, e.keyStem()) {
		return nil // a tag that somebody else wrote
	}
	e.packages.Forget(o)
	err := e.changeOther(ctx, func(ctx context.Context) error {
		_, err := e.s3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &o.bucket, Key: &o.key})
		return err
	})
	if isNotFound(err) {
		return nil
	}
	return err
}

// deletePackages removes all packages of the service, including those that no function records.
func (e *Executor) deletePackages(ctx context.Context) error {
	bucket := e.options.s3Bucket
	if bucket == "" {
		role := e.options.roleArn
		if role == "" {
			found, err := e.findRole(ctx)
			if isNotFound(err) {
				return nil
			}
			if err != nil {
				return err
			}
			role = aws.ToString(found.Arn)
		}
		bucket = bucketPrefix + parseARN(role).account + "-" + e.region
	}
	pages := s3.NewListObjectsV2Paginator(e.s3, &s3.ListObjectsV2Input{Bucket: &bucket, Prefix: aws.String(e.keyStem())})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if isNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, found := range page.Contents {
			if err := e.deleteObject(ctx, object{bucket, aws.ToString(found.Key)}); err != nil {
				return err
			}
		}
	}
	return nil
}
