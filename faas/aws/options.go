//go:build !faas_only || faas_aws

package aws

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// options are the provider's own settings, read from faas.Config.Options.
type options struct {
	roleArn             string
	createRole          bool
	permissionsBoundary string
	architecture        faas.Arch // empty: the binary's
	ephemeralStorageMB  int32
	reservedConcurrency bool
	alias               string
	keepVersions        int
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

// optionTable describes the options. It is the one place where names and defaults are written down.
func optionTable() []faas.Option {
	return []faas.Option{
		{Name: "role_arn", Help: "ARN of the execution role; without it " + RoleEnv + " is used"},
		{Name: "create_role", Help: "create an execution role with least privilege for the service where none is given, and remove it with the last function", Default: "false"},
		{Name: "role_permissions_boundary", Help: "ARN of the policy that bounds a created role"},
		{Name: "architecture", Help: "x86_64 or arm64, for a binary that does not tell, such as a script; else it must be the binary's"},
		{Name: "ephemeral_storage_mb", Help: "size of /tmp in MB, 512 to 10240", Default: "512"},
		{Name: "reserved_concurrency", Help: "whether max_concurrency becomes reserved concurrency of the function, which takes it from the account's pool", Default: "true"},
		{Name: "alias", Help: "name of the alias that points to the live version", Default: "live"},
		{Name: "keep_versions", Help: "published versions kept for each function, the live one included, 2 to 100", Default: "3"},
		{Name: "log_format", Help: "Text or JSON", Default: "Text"},
		{Name: "tracing", Help: "Active for X-Ray traces, or PassThrough", Default: "PassThrough"},
		{Name: "subnet_ids", Help: "subnets of the VPC the functions run in, comma-separated, at most 16"},
		{Name: "security_group_ids", Help: "security groups of the functions in the VPC, comma-separated, at most 5"},
		{Name: "layers", Help: "ARNs of layer versions, comma-separated, at most 5"},
		{Name: "kms_key_arn", Help: "ARN of the key that encrypts the environment; without it AWS's own key is used"},
		{Name: "tags", Help: "further tags of the functions as key=value, comma-separated, at most 38"},
		{Name: "s3_bucket", Help: "bucket in the same region for packages over 50 MB"},
		{Name: "create_bucket", Help: "create and use the bucket " + bucketPrefix + "ACCOUNT-REGION where s3_bucket is not given; its objects expire after a week", Default: "false"},
		{Name: "delete_logs", Help: "remove a function's log group with the function", Default: "false"},
		{Name: "repeatable_jobs", Help: "the jobs may run more than once for one call: an invocation that fails without an answer is repeated by the SDK", Default: "false"},
		{Name: "profile", Place: true, Help: "profile of the AWS configuration files; without it AWS_PROFILE is used"},
		{Name: "account_id", Place: true, Help: "12 digits of the only account that may be changed; checked before the first change"},
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

func parseOptions(values map[string]string) (options, error) {
	p := optionParser{values: values}
	o := options{
		roleArn:             p.matching("role_arn", rolePattern, "the ARN of an IAM role, such as arn:aws:iam::123456789012:role/lambda-basic"),
		createRole:          p.yes("create_role"),
		permissionsBoundary: p.text("role_permissions_boundary"),
		ephemeralStorageMB:  int32(p.number("ephemeral_storage_mb", 512, 10240)),
		reservedConcurrency: p.yes("reserved_concurrency"),
		alias:               p.matching("alias", aliasPattern, "up to 128 letters, digits, hyphens and underscores"),
		keepVersions:        p.number("keep_versions", minKeptVersions, 100),
		logFormat:           p.oneOf("log_format", "Text", "JSON"),
		tracing:             p.oneOf("tracing", "PassThrough", "Active"),
		subnetIDs:           p.list("subnet_ids", 16, subnetPattern, "the id of a subnet, such as subnet-0a1b"),
		securityGroupIDs:    p.list("security_group_ids", 5, groupPattern, "the id of a security group, such as sg-0a1b"),
		layers:              p.list("layers", 5, layerPattern, "the ARN of a layer version"),
		kmsKeyArn:           p.matching("kms_key_arn", kmsPattern, "the ARN of a KMS key"),
		tags:                p.tags("tags"),
		s3Bucket:            p.matching("s3_bucket", bucketPattern, "the name of an S3 bucket"),
		createBucket:        p.yes("create_bucket"),
		deleteLogs:          p.yes("delete_logs"),
		repeatable:          p.yes("repeatable_jobs"),
		profile:             p.text("profile"),
		accountID:           p.matching("account_id", accountPattern, "12 digits"),
	}
	switch arch := p.oneOf("architecture", "", "x86_64", "arm64"); arch {
	case "x86_64":
		o.architecture = faas.AMD64
	default:
		o.architecture = faas.Arch(arch)
	}
	if digitsPattern.MatchString(o.alias) {
		p.fail("alias", "a name that is not only digits, which would be a version")
	}
	if (len(o.subnetIDs) == 0) != (len(o.securityGroupIDs) == 0) {
		p.fail("security_group_ids", "given exactly when subnet_ids is")
	}
	if o.roleArn == "" && p.err == nil {
		if fromEnv := os.Getenv(RoleEnv); fromEnv != "" {
			if !rolePattern.MatchString(fromEnv) {
				return o, faas.Errorf(faas.ErrInvalidArgument, "open", faas.AWSLambda,
					"environment variable %s is %q, which is not the ARN of an IAM role, such as arn:aws:iam::123456789012:role/lambda-basic", RoleEnv, fromEnv)
			}
			o.roleArn = fromEnv
		}
	}
	return o, p.err
}

// digest identifies the options that a function is configured with, so that a change of them is seen.
func (o options) digest() string {
	role := o.roleArn
	if role == "" && o.createRole {
		role = "created"
	}
	text, err := json.Marshal([]any{
		role, o.architecture, o.ephemeralStorageMB, o.reservedConcurrency, o.alias, o.logFormat, o.tracing, o.subnetIDs, o.securityGroupIDs, o.layers,
		o.kmsKeyArn, o.tags,
	})
	if err != nil {
		panic("aws: the options do not marshal: " + err.Error()) // strings and numbers always do
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// optionParser reads options and keeps the first error.
type optionParser struct {
	values map[string]string
	err    error
}

func (p *optionParser) fail(name, want string) {
	if p.err == nil {
		p.err = faas.Errorf(faas.ErrInvalidArgument, "open", faas.AWSLambda, "option %q is %q; it must be %s", name, p.values[name], want)
	}
}

// text returns the value or the default of an option.
func (p *optionParser) text(name string) string {
	if v := strings.TrimSpace(p.values[name]); v != "" {
		return v
	}
	table := optionTable()
	i := slices.IndexFunc(table, func(o faas.Option) bool { return o.Name == name })
	return table[i].Default
}

func (p *optionParser) matching(name string, pattern *regexp.Regexp, want string) string {
	v := p.text(name)
	if v != "" && !pattern.MatchString(v) {
		p.fail(name, want)
	}
	return v
}

func (p *optionParser) yes(name string) bool {
	switch strings.ToLower(p.text(name)) {
	case "true", "on", "yes", "1":
		return true
	case "false", "off", "no", "0":
	default:
		p.fail(name, "true or false")
	}
	return false
}

func (p *optionParser) number(name string, least, most int) int {
	n, err := strconv.Atoi(p.text(name))
	if err != nil || n < least || n > most {
		p.fail(name, fmt.Sprintf("a number from %d to %d", least, most))
		return least
	}
	return n
}

func (p *optionParser) oneOf(name string, allowed ...string) string {
	v := p.text(name)
	for _, a := range allowed {
		if strings.EqualFold(v, a) {
			return a
		}
	}
	p.fail(name, strings.TrimPrefix(strings.Join(allowed, " or "), " or "))
	return ""
}

func (p *optionParser) list(name string, most int, pattern *regexp.Regexp, want string) []string {
	var all []string
	for item := range strings.SplitSeq(p.text(name), ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		if !pattern.MatchString(item) {
			p.fail(name, "a list of "+strings.TrimPrefix(want, "the ")+", separated by commas")
		}
		all = append(all, item)
	}
	if len(all) > most {
		p.fail(name, fmt.Sprintf("a list of at most %d", most))
	}
	return all
}

func (p *optionParser) tags(name string) map[string]string {
	tags := map[string]string{}
	for item := range strings.SplitSeq(p.text(name), ",") {
		if item = strings.TrimSpace(item); item == "" {
			continue
		}
		key, value, ok := strings.Cut(item, "=")
		lower := strings.ToLower(key)
		switch {
		case !ok || key == "" || len(key) > maxTagKey || len(value) > maxTagValue || !tagPattern.MatchString(key) || !tagPattern.MatchString(value):
			p.fail(name, "key=value, separated by commas, of letters, digits, spaces and _.:/=+-@")
		case strings.HasPrefix(lower, "aws:"), strings.HasPrefix(lower, tagPrefix):
			p.fail(name, `without keys that begin with "aws:" or "`+tagPrefix+`"`)
		}
		tags[key] = value
	}
	if len(tags) > maxUserTags {
		p.fail(name, fmt.Sprintf("at most %d tags", maxUserTags))
	}
	return tags
}
