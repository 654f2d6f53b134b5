//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"maps"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
)

// Tags of a function. They record what is live; what really answers is the alias and the version
// that it points to. Converge writes them last, so that an interrupted Converge can be recognized.
const (
	tagManaged     = tagPrefix + "managed-by"
	tagService     = tagPrefix + "service"
	tagJob         = tagPrefix + "job"
	tagFingerprint = tagPrefix + "fingerprint" // of the unit
	tagPackage     = tagPrefix + "package"     // hex SHA-256 of the live version's zip
	tagVersion     = tagPrefix + "version"     // the live version
	tagOptions     = tagPrefix + "options"     // options.digest
	tagLatest      = tagPrefix + "latest"      // latestDigest of $LATEST as we left it, so that a foreign change is seen
	tagColdStart   = tagPrefix + "cold-start-ms"
	tagKeepWarm    = tagPrefix + "keep-warm" // provisioned concurrency that the alias has or may have
	tagRole        = tagPrefix + "role"      // name and id of the role we created
	tagObject      = tagPrefix + "object"    // bucket/key of the package in S3

	ownTags   = 12 // of those above, all at once
	managedBy = "blueprint-serverless"

	// tagPayload is payloads.Mark of the live version's package, if its function takes the compact
	// form. If the option "tags" takes all others that Lambda allows, the tag is left out and the
	// published form is used.
	tagPayload = tagPrefix + "payload"
)

// tags returns the function's tags that are known before anything is live.
func (c *convergence) tags() map[string]string {
	tags := maps.Clone(c.options.tags)
	maps.Copy(tags, c.ownerTags())
	tags[tagJob] = strconv.FormatUint(uint64(c.job.JobID), 10)
	if c.roleIsOurs(c.role) {
		tags[tagRole] = c.roleName() + "/" + c.roleID
	}
	if c.object != (object{}) {
		tags[tagObject] = c.object.String()
	}
	if c.job.KeepWarm > 0 {
		tags[tagKeepWarm] = strconv.FormatUint(uint64(c.job.KeepWarm), 10)
	}
	return tags
}

// liveTags returns the tags that record a version as live, and the tags that no longer hold.
func (c *convergence) liveTags(current *lambda.GetFunctionOutput, version string,
	coldStart time.Duration) (tags map[string]string, obsolete []string) {
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

// withTags returns what was read of a function, with the tags that were set since.
func withTags(out *lambda.GetFunctionOutput, tags map[string]string) *lambda.GetFunctionOutput {
	changed := *out
	changed.Tags = map[string]string{}
	maps.Copy(changed.Tags, out.Tags)
	maps.Copy(changed.Tags, tags)
	return &changed
}

// tag sets tags of a function and removes others.
func (e *Executor) tag(ctx context.Context, current *lambda.GetFunctionOutput, tags map[string]string,
	obsolete []string) error {
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

func serviceTag(service string) string {
	return kit.ServiceTag(service, maxTagValue, tagPattern.MatchString)
}

// ownerTags returns the tags that name the owner of a resource.
func (e *Executor) ownerTags() map[string]string {
	return map[string]string{tagManaged: managedBy, tagService: serviceTag(e.service)}
}

// owns reports whether the tags are those of a resource of this service.
func (e *Executor) owns(tags map[string]string) bool {
	return tags[tagManaged] == managedBy && tags[tagService] == serviceTag(e.service)
}
