//go:build !faas_only || faas_aws

package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// options are the provider's own settings, read from faas.Config.Options.
type options struct {
	roleArn             string
	createRole          bool
	permissionsBoundary string
	architecture        faas.Arch // empty: the binary's
	ephemeralStorageMB  uint32
	reservedConcurrency bool
	alias               string
	keepVersions        uint32
	logFormat           string
	tracing             string
	subnetIDs           []string
	securityGroupIDs    []string
	layers              []string
	kmsKeyArn           string
	tags                map[string]string
	s3Bucket            string
	createBucket        bool
	deleteLogs          bool
	repeatable          bool
	profile             string
	accountID           string
}

// declare lists the options and where in o each goes. arch receives the architecture by AWS's name.
func declare(o *options, arch *string) kit.Options {
	flag := func(to *bool, name, otherwise, help string, former ...string) kit.Declared {
		return kit.Into(to, faas.Option{Name: name, Default: otherwise, Former: former, Help: help})
	}
	return kit.Options{
		kit.Into(&o.roleArn, faas.Option{
			Name: "role_arn", Env: RoleEnv, Valid: rolePattern.MatchString,
			Shape: "the ARN of an IAM role, such as arn:aws:iam::123456789012:role/lambda-basic",
			Help:  "ARN of the execution role",
		}),
		flag(&o.createRole, "create_role", "false",
			"create an execution role with least privilege for the service if none is given, and remove it with "+
				"the last function"),
		kit.Into(&o.permissionsBoundary, faas.Option{
			Name: "role_permissions_boundary",
			Help: "ARN of the policy that bounds a created role",
		}),
		kit.Into(arch, faas.Option{
			Name: "architecture", Choices: []string{"x86_64", "arm64"},
			Help: "x86_64 or arm64, for a binary that does not tell, such as a script; else it must be the binary's",
		}),
		kit.Into(&o.ephemeralStorageMB, faas.Option{
			Name: "ephemeral_storage_mb", Default: "512", Min: 512, Max: 10240,
			Help: "size of /tmp in MB",
		}),
		flag(&o.reservedConcurrency, "reserved_concurrency", "true",
			"whether max_concurrency becomes reserved concurrency of the function, which takes it from the "+
				"account's pool"),
		kit.Into(&o.alias, faas.Option{
			Name: "alias", Default: "live", Valid: isAlias,
			Shape: "up to 128 letters, digits, hyphens and underscores, and not only digits, which would be a " +
				"version",
			Help: "name of the alias that points to the live version",
		}),
		kit.Into(&o.keepVersions, faas.Option{
			Name: "keep_versions", Default: "3", Min: minKeptVersions, Max: 100,
			Help: "published versions kept for each function, the live one included",
		}),
		kit.Into(&o.logFormat, faas.Option{
			Name: "log_format", Default: "Text", Choices: []string{"Text", "JSON"},
			Help: "Text or JSON",
		}),
		kit.Into(&o.tracing, faas.Option{
			Name: "tracing", Default: "PassThrough", Choices: []string{"PassThrough", "Active"},
			Help: "Active for X-Ray traces, or PassThrough",
		}),
		kit.Into(&o.subnetIDs, faas.Option{
			Name: "subnet_ids", Max: 16, Valid: subnetPattern.MatchString,
			Shape: "the id of a subnet, such as subnet-0a1b",
			Help:  "subnets of the VPC the functions run in",
		}),
		kit.Into(&o.securityGroupIDs, faas.Option{
			Name: "security_group_ids", Max: 5, Valid: groupPattern.MatchString,
			Shape: "the id of a security group, such as sg-0a1b",
			Help:  "security groups of the functions in the VPC",
		}),
		kit.Into(&o.layers, faas.Option{
			Name: "layers", Max: 5, Valid: layerPattern.MatchString,
			Shape: "the ARN of a layer version",
			Help:  "ARNs of layer versions",
		}),
		kit.Into(&o.kmsKeyArn, faas.Option{
			Name: "kms_key_arn", Valid: kmsPattern.MatchString,
			Shape: "the ARN of a KMS key",
			Help:  "ARN of the key that encrypts the environment; without it AWS's own key is used",
		}),
		kit.Into(&o.tags, faas.Option{
			Name: "tags", Max: maxUserTags, Valid: isTag,
			Shape: `KEY=VALUE of letters, digits, spaces and _.:/=+-@, with a key that does not begin with ` +
				`"aws:" or "` + tagPrefix + `"`,
			Help: "further tags of the functions",
		}),
		kit.Into(&o.s3Bucket, faas.Option{
			Name: "bucket", Former: []string{"s3_bucket"}, Valid: bucketPattern.MatchString,
			Shape: "the name of an S3 bucket",
			Help: "bucket in the same region for packages over 4 MB, which all functions then take from there; " +
				"without one a package has to be smaller than 50 MB",
		}),
		flag(&o.createBucket, "create_bucket", "false",
			"create and use the bucket "+bucketPrefix+"ACCOUNT-REGION if no bucket is given; its objects expire "+
				"after a week"),
		flag(&o.deleteLogs, "remove_logs", "false", "remove a function's log group with the function", "delete_logs"),
		flag(&o.repeatable, "repeatable_jobs", "false",
			"the jobs may run more than once for one call: an invocation that fails without an answer is "+
				"repeated by the SDK"),
		kit.Into(&o.profile, faas.Option{
			Name: "profile", Place: true,
			Help: "profile of the AWS configuration files; without it AWS_PROFILE is used",
		}),
		kit.Into(&o.accountID, faas.Option{
			Name: "account_id", Place: true, Valid: accountPattern.MatchString,
			Shape: "12 digits",
			Help:  "12 digits of the only account that may be changed; checked before the first change",
		}),
	}
}

const (
	maxUserTags     = 50 - ownTags // of those that Lambda allows
	maxTagKey       = 128
	maxTagValue     = 256
	tagPrefix       = "blueprint:"
	bucketPrefix    = "blueprint-serverless-"
	minKeptVersions = 2 // the live version, and the one that Restore goes back to
)

var (
	regionPattern  = regexp.MustCompile(`^[a-z]{2,4}(-[a-z]+)+-\d{1,2}$`)
	rolePattern    = regexp.MustCompile(`^arn:(aws[a-zA-Z-]*)?:iam::(\d{12}):role/?[a-zA-Z_0-9+=,.@\-_/]+$`)
	aliasPattern   = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,128}$`)
	digitsPattern  = regexp.MustCompile(`^[0-9]+$`)
	accountPattern = regexp.MustCompile(`^\d{12}$`)
	subnetPattern  = regexp.MustCompile(`^subnet-[0-9a-z]*$`)
	groupPattern   = regexp.MustCompile(`^sg-[0-9a-zA-Z]*$`)
	layerPattern   = regexp.MustCompile(`^arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+$`)
	kmsPattern     = regexp.MustCompile(`^arn:(aws[a-zA-Z-]*)?:[a-z0-9-.]+:.*$`)
	bucketPattern  = regexp.MustCompile(`^[0-9A-Za-z.\-_]{2,62}[0-9A-Za-z\-_]$`)
	tagPattern     = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
)

func isAlias(text string) bool {
	return aliasPattern.MatchString(text) && !digitsPattern.MatchString(text)
}

func isTag(pair string) bool {
	key, value, _ := strings.Cut(pair, "=")
	lower := strings.ToLower(key)
	return tagPattern.MatchString(pair) && len(key) <= maxTagKey && len(value) <= maxTagValue &&
		!strings.HasPrefix(lower, "aws:") && !strings.HasPrefix(lower, tagPrefix)
}

func parseOptions(cfg faas.Config) (o options, err error) {
	arch := ""
	if err := declare(&o, &arch).Fill(faas.AWSLambda, cfg); err != nil {
		return o, err
	}
	o.architecture = faas.Arch(arch)
	if arch == "x86_64" {
		o.architecture = faas.AMD64
	}
	if o.tags == nil {
		o.tags = map[string]string{} // as the digest has always had it
	}
	if (len(o.subnetIDs) == 0) != (len(o.securityGroupIDs) == 0) {
		return o, faas.Errorf(faas.ErrInvalidArgument, "open", faas.AWSLambda,
			"options subnet_ids and security_group_ids go together")
	}
	return o, nil
}

// digest identifies the options that configure a function, so that a change of them is noticed.
func (o options) digest() string {
	role := o.roleArn
	if role == "" && o.createRole {
		role = "created"
	}
	all := []any{
		role, o.architecture, o.ephemeralStorageMB, o.reservedConcurrency, o.alias, o.logFormat, o.tracing, o.subnetIDs,
		o.securityGroupIDs, o.layers,
		o.kmsKeyArn, o.tags,
	}
	if o.permissionsBoundary != "" && role == "created" { // not in the digests of before
		all = append(all, o.permissionsBoundary)
	}
	text, err := json.Marshal(all)
	if err != nil {
		panic("aws: the options do not marshal: " + err.Error()) // strings and numbers always do
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}
