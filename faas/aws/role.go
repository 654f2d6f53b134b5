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
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// rolePolicyName is the name of the inline policy of a created role.
const rolePolicyName = "blueprint-functions"

// roleName returns the name of the role created for the service in this region. IAM ignores case in
// names of roles; Lambda distinguishes it in names of functions.
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

// executionRole returns the role that functions run with: the given one, or else the one created
// for the service.
func (e *Executor) executionRole(ctx context.Context) (ownRole, error) {
	if e.options.roleArn != "" {
		return ownRole{arn: e.options.roleArn}, nil
	}
	if !e.options.createRole {
		return ownRole{}, errNoRole()
	}
	return e.role.Do(ctx, e.roleName(), e.ensureRole)
}

func errNoRole() error {
	return faas.Errorf(faas.ErrInvalidArgument, "units", faas.AWSLambda,
		`no execution role is given: set the option "role_arn" or the environment variable %s to the ARN of a role `+
			`that lambda.amazonaws.com may assume, or the option "create_role" to true`, RoleEnv)
}

// checkAccount compares the account of the credentials with the one that the option "account_id"
// allows, if it is set.
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
			`the credentials are of account %s (%s), and the option "account_id" allows only %s`, account, who,
			e.options.accountID)
	}
	return nil
}

const trustPolicy = `{"Version":"2012-10-17","Statement":[` +
	`{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// ownRole is the role created for the service. A role that was deleted and made again has another
// id.
type ownRole struct{ arn, id string }

// ensureRole creates the service's role, or takes the one that an earlier deployment created, and
// sets its policy.
func (e *Executor) ensureRole(ctx context.Context) (ownRole, error) {
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
		if role, err = e.findRole(ctx); err == nil {
			err = e.boundRole(ctx, role)
		}
	}
	if err != nil {
		return ownRole{}, err
	}
	arn := aws.ToString(role.Arn)
	own := ownRole{arn, aws.ToString(role.RoleId)}
	e.seenRole.Forget(name)
	policy, err := e.rolePolicy(arn)
	if err != nil {
		return ownRole{}, err
	}
	err = e.repeating(e.pace.role, "giving role %s its policy", name).Until(ctx, func(ctx context.Context) error {
		err := e.changeOther(ctx, func(ctx context.Context) error {
			_, err := e.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{
				RoleName: &name, PolicyName: aws.String(rolePolicyName), PolicyDocument: &policy})
			return err
		})
		if isNotFound(err) { // IAM may not know yet what it has just created
			return kit.NotYet(0, "%w", err)
		}
		return err
	})
	return own, err
}

// boundRole gives the role the permissions boundary of the options, if it has another one.
func (e *Executor) boundRole(ctx context.Context, role *types.Role) error {
	want := e.options.permissionsBoundary
	if has := role.PermissionsBoundary; want == "" || has != nil && aws.ToString(has.PermissionsBoundaryArn) == want {
		return nil
	}
	return e.changeOther(ctx, func(ctx context.Context) error {
		_, err := e.iam.PutRolePermissionsBoundary(
			ctx, &iam.PutRolePermissionsBoundaryInput{RoleName: role.RoleName, PermissionsBoundary: &want})
		return err
	})
}

// roleProblem says why a function cannot read its environment: the role created for it was deleted,
// or deleted and made again, after the function was configured. The permission to read the role
// comes with the one to create it; a role that cannot be read is not a problem.
func (e *Executor) roleProblem(ctx context.Context, tags map[string]string) string {
	name, id, recorded := strings.Cut(tags[tagRole], "/")
	if !recorded || name != e.roleName() || e.options.roleArn != "" {
		return ""
	}
	look := func(ctx context.Context) (seenRole, error) {
		role, err := e.getRole(ctx, name)
		if isNotFound(err) {
			return seenRole{at: time.Now()}, nil
		}
		if err != nil {
			return seenRole{}, err
		}
		return seenRole{aws.ToString(role.RoleId), time.Now()}, nil
	}
	now, err := e.seenRole.Do(ctx, name, look)
	if err == nil && time.Since(now.at) > roleLook {
		e.seenRole.Forget(name)
		now, err = e.seenRole.Do(ctx, name, look)
	}
	switch {
	case err != nil:
		e.logger.warn("the functions' role cannot be looked at", "role", name, "error", err)
		return ""
	case now.id == id:
		return ""
	}
	e.role.Forget(name)
	if now.id == "" {
		return "role " + name + ", which it runs with, is missing: deploy again"
	}
	return "role " + name + ", which it runs with, was deleted and made again: deploy again"
}

// seenRole is the last look at the role, which all functions share.
type seenRole struct {
	id string // empty if there is none
	at time.Time
}

const roleLook = time.Minute

// isRole reports whether a tag names a role.
func isRole(tag, name string) bool {
	tag, _, _ = strings.Cut(tag, "/")
	return tag == name
}

func (e *Executor) getRole(ctx context.Context, name string) (*types.Role, error) {
	out, err := e.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if err != nil {
		return nil, err
	}
	return roleOf(out.Role)
}

// roleOf refuses an answer without an ARN, which some servers that imitate IAM give.
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

// findRole reads the service's role and refuses one of another owner.
func (e *Executor) findRole(ctx context.Context) (*types.Role, error) {
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
			`role %s exists and does not belong to service %q: name it in the option "role_arn" to use it`, e.roleName(),
			e.service)
	}
	return role, nil
}

// rolePolicy returns the least that the service's functions need: their own logs, and what the
// options turn on.
func (e *Executor) rolePolicy(roleArn string) (string, error) {
	at := parseARN(roleArn)
	type statement struct {
		Effect   string
		Action   []string
		Resource string
	}
	statements := []statement{{
		"Allow", []string{"logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"},
		"arn:" + at.partition + ":logs:" + e.region + ":" + at.account + ":log-group:/aws/lambda/" + nameStem(e.service) +
			"*",
	}}
	if e.options.tracing == "Active" {
		statements = append(statements, statement{"Allow", []string{"xray:PutTraceSegments", "xray:PutTelemetryRecords"},
			"*"})
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

// deleteRole removes the role created for the service. It leaves a role of another owner alone. It
// sends the deletion even if it does not find the role.
func (e *Executor) deleteRole(ctx context.Context) error {
	e.role.Forget(e.roleName())
	e.seenRole.Forget(e.roleName())
	switch _, err := e.findRole(ctx); codeOf(err) {
	case "", faas.ErrNotFound:
	case faas.ErrConflict:
		return nil
	default:
		return err
	}
	name := e.roleName()
	return e.repeating(e.pace.settle, "deleting role %s", name).Until(ctx, func(ctx context.Context) error {
		err := e.changeOther(ctx, func(ctx context.Context) error {
			_, err := e.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{
				RoleName: &name, PolicyName: aws.String(rolePolicyName)})
			return err
		})
		if err == nil || isNotFound(err) {
			err = e.changeOther(ctx, func(ctx context.Context) error {
				_, err := e.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &name})
				return err
			})
		}
		if isNotFound(err) {
			return nil
		}
		if apiCode(err) != "DeleteConflict" {
			return err
		}
		if others := e.otherPolicies(ctx); len(others) > 0 {
			return faas.Errorf(faas.ErrConflict, "remove", faas.AWSLambda,
				"role %s, which was created for service %q, has policies of somebody else: detach or delete %s: %w",
				name, e.service, strings.Join(others, ", "), err)
		}
		return kit.NotYet(0, "%w", err) // IAM may not know yet what it has just deleted
	})
}

// otherPolicies names the other policies of the service's role, as far as it can: the caller may
// not be allowed to look, and the conflict is reported in any case.
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
		others = append(others, slices.DeleteFunc(page.PolicyNames,
			func(name string) bool { return name == rolePolicyName })...)
	}
	return others
}
