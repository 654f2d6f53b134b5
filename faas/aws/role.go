//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// rolePolicyName is the name of the inline policy of a created role.
const rolePolicyName = "blueprint-functions"

// roleName is that of the role created for the service in this region. IAM does not tell roles apart by case, as Lambda does functions.
func (e *Executor) roleName() string {
	name := strings.TrimSuffix(nameStem(e.service), "-") + "-" + e.region
	lower := strings.ToLower(name)
	if lower != name || len(name) > maxName {
		sum := sha256.Sum256([]byte(name))
		suffix := "-" + hex.EncodeToString(sum[:5])
		name = lower[:min(len(lower), maxName-len(suffix))] + suffix
	}
	return name
}

func (e *Executor) roleIsOurs(arn string) bool {
	return e.options.roleArn == "" && strings.HasSuffix(arn, ":role/"+e.roleName())
}

// executionRole is the ARN of the role that functions run with: the one given, else the one created for the service.
func (e *Executor) executionRole(ctx context.Context) (string, error) {
	if e.options.roleArn != "" {
		return e.options.roleArn, nil
	}
	if !e.options.createRole {
		return "", errNoRole()
	}
	return e.role.do(func() (string, error) { return e.ensureRole(ctx) })
}

func errNoRole() error {
	return faas.Errorf(faas.ErrInvalidArgument, "units", faas.AWSLambda,
		`no execution role is given: set the option "role_arn" or the environment variable %s to the ARN of a role that lambda.amazonaws.com may assume, or the option "create_role" to true`, RoleEnv)
}

// checkAccount compares the account of the credentials with the only one that may be changed, where the option "account_id" names one.
func (e *Executor) checkAccount(ctx context.Context, op string) error {
	if e.options.accountID == "" {
		return nil
	}
	who, err := e.caller(ctx)
	if err != nil {
		return err
	}
	if account := parseARN(who).account; account != e.options.accountID {
		return faas.Errorf(faas.ErrPermissionDenied, op, faas.AWSLambda,
			`the credentials are of account %s (%s), and the option "account_id" allows only %s`, account, who, e.options.accountID)
	}
	return nil
}

const trustPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// ensureRole creates the service's role, or takes the one that an earlier deployment created, and gives it its policy.
func (e *Executor) ensureRole(ctx context.Context) (string, error) {
	name := e.roleName()
	in := &iam.CreateRoleInput{
		RoleName: &name, AssumeRolePolicyDocument: aws.String(trustPolicy), Tags: iamTags(e.ownerTags()),
		Description: aws.String("Job functions " + nameStem(e.service) + "*"), // IAM takes Latin letters only
	}
	if e.options.permissionsBoundary != "" {
		in.PermissionsBoundary = &e.options.permissionsBoundary
	}
	var role *types.Role
	err := e.changeOther(ctx, func(ctx context.Context) error {
		out, err := e.iam.CreateRole(ctx, in)
		if err == nil {
			role, err = roleOf(out.Role)
		}
		return err
	})
	if codeOf(err) == faas.ErrAlreadyExists {
		role, err = e.ownRole(ctx)
	}
	if err != nil {
		return "", err
	}
	arn := aws.ToString(role.Arn)
	policy, err := e.rolePolicy(arn)
	if err != nil {
		return "", err
	}
	wait := e.pace.within(e.pace.role)
	for {
		err := e.changeOther(ctx, func(ctx context.Context) error {
			_, err := e.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &name, PolicyName: aws.String(rolePolicyName), PolicyDocument: &policy})
			return err
		})
		if !isNotFound(err) { // IAM may not know yet what it has just created
			return arn, err
		}
		if err := wait.again(ctx, err); err != nil {
			return "", err
		}
	}
}

func (e *Executor) getRole(ctx context.Context, name string) (*types.Role, error) {
	out, err := e.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if err != nil {
		return nil, err
	}
	return roleOf(out.Role)
}

// roleOf refuses an answer without an ARN, which servers that only resemble IAM give.
func roleOf(role *types.Role) (*types.Role, error) {
	if role == nil || !rolePattern.MatchString(aws.ToString(role.Arn)) {
		return nil, faas.Errorf(faas.ErrInternal, "deploy", faas.AWSLambda, "the answer of IAM names no role")
	}
	return role, nil
}

func iamTags(tags map[string]string) []types.Tag {
	var list []types.Tag
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, types.Tag{Key: &key, Value: aws.String(tags[key])})
	}
	return list
}

// ownRole reads the service's role and refuses one that somebody else made.
func (e *Executor) ownRole(ctx context.Context) (*types.Role, error) {
	role, err := e.getRole(ctx, e.roleName())
	if err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for _, t := range role.Tags {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	if !e.owns(tags) {
		return nil, faas.Errorf(faas.ErrConflict, "deploy", faas.AWSLambda,
			`role %s exists and does not belong to service %q: name it in the option "role_arn" to use it`, e.roleName(), e.service)
	}
	return role, nil
}

// rolePolicy is the least that the service's functions need: their own logs, and what the options turn on.
func (e *Executor) rolePolicy(roleArn string) (string, error) {
	at := parseARN(roleArn)
	type statement struct {
		Effect   string
		Action   []string
		Resource string
	}
	statements := []statement{{
		"Allow", []string{"logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"},
		"arn:" + at.partition + ":logs:" + e.region + ":" + at.account + ":log-group:/aws/lambda/" + nameStem(e.service) + "*",
	}}
	if e.options.tracing == "Active" {
		statements = append(statements, statement{"Allow", []string{"xray:PutTraceSegments", "xray:PutTelemetryRecords"}, "*"})
	}
	if len(e.options.subnetIDs) > 0 {
		statements = append(statements, statement{"Allow", []string{
			"ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DeleteNetworkInterface",
			"ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
		}, "*"})
	}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": statements})
	return string(text), err
}

// deleteRole removes the role created for the service. One that is gone, or somebody else's, is left alone. Without being found, it is deleted all the same.
func (e *Executor) deleteRole(ctx context.Context) error {
	e.role.forget()
	switch _, err := e.ownRole(ctx); codeOf(err) {
	case "", faas.ErrNotFound:
	case faas.ErrConflict:
		return nil
	default:
		return err
	}
	name := e.roleName()
	wait := e.pace.within(e.pace.settle)
	for {
		err := e.changeOther(ctx, func(ctx context.Context) error {
			_, err := e.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: aws.String(rolePolicyName)})
			return err
		})
		if err == nil || isNotFound(err) {
			err = e.changeOther(ctx, func(ctx context.Context) error {
				_, err := e.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &name})
				return err
			})
		}
		if err == nil || isNotFound(err) {
			return nil
		}
		if apiCode(err) != "DeleteConflict" {
			return err
		}
		if others := e.otherPolicies(ctx); len(others) > 0 {
			return faas.Errorf(faas.ErrConflict, "remove", faas.AWSLambda, "role %s, which was created for service %q, has policies of somebody else: detach or delete %s: %w",
				e.roleName(), e.service, strings.Join(others, ", "), err)
		}
		if err := wait.again(ctx, err); err != nil { // IAM may not know yet what it has just deleted
			return err
		}
	}
}

// otherPolicies names the policies of the service's role that are not its own, as far as that can be
// told: looking may not be allowed, and the conflict is told in any case.
func (e *Executor) otherPolicies(ctx context.Context) []string {
	var others []string
	name := e.roleName()
	attached := iam.NewListAttachedRolePoliciesPaginator(e.iam, &iam.ListAttachedRolePoliciesInput{RoleName: &name})
	for attached.HasMorePages() {
		page, err := attached.NextPage(ctx)
		if err != nil {
			break
		}
		for _, policy := range page.AttachedPolicies {
			others = append(others, aws.ToString(policy.PolicyArn))
		}
	}
	inline := iam.NewListRolePoliciesPaginator(e.iam, &iam.ListRolePoliciesInput{RoleName: &name})
	for inline.HasMorePages() {
		page, err := inline.NextPage(ctx)
		if err != nil {
			break
		}
		others = append(others, slices.DeleteFunc(page.PolicyNames, func(name string) bool { return name == rolePolicyName })...)
	}
	return others
}
