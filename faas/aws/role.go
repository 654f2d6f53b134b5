//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/awssign"
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

func (e *Executor) callIAM(ctx context.Context, operation string, values map[string]string) ([]byte, error) {
	form := url.Values{"Action": {operation}, "Version": {"2010-05-08"}}
	for name, value := range values {
		form.Set(name, value)
	}
	return e.send(ctx, awssign.IAM(e.region), awssign.Request{
		Operation: operation, Method: "POST", Path: "/", Body: []byte(form.Encode()),
		Header:   map[string]string{"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
		ReadOnly: strings.HasPrefix(operation, "Get") || strings.HasPrefix(operation, "List") || strings.HasPrefix(operation, "Simulate"),
	})
}

type iamRole struct {
	Arn string `xml:"Arn"`
	// Trust is who may assume the role, as JSON with the escapes of a URL.
	Trust string `xml:"AssumeRolePolicyDocument"`
	Tags  []struct {
		Key   string `xml:"Key"`
		Value string `xml:"Value"`
	} `xml:"Tags>member"`
}

func readRole(body []byte, element string) (iamRole, error) {
	var answer struct {
		Created iamRole `xml:"CreateRoleResult>Role"`
		Found   iamRole `xml:"GetRoleResult>Role"`
	}
	if err := xml.Unmarshal(body, &answer); err != nil {
		return iamRole{}, faas.Errorf(faas.ErrInternal, "deploy", faas.AWSLambda, "the answer of IAM to %s is not understood: %w", element, err)
	}
	role := answer.Found
	if element == "CreateRole" {
		role = answer.Created
	}
	if role.Arn == "" {
		return role, faas.Errorf(faas.ErrInternal, "deploy", faas.AWSLambda, "the answer of IAM to %s has no ARN", element)
	}
	return role, nil
}

const trustPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// ensureRole creates the service's role, or takes the one that an earlier deployment created, and gives it its policy.
func (e *Executor) ensureRole(ctx context.Context) (string, error) {
	name := e.roleName()
	create := map[string]string{
		"RoleName": name, "AssumeRolePolicyDocument": trustPolicy, "Description": "Job functions " + nameStem(e.service) + "*", // IAM takes Latin letters only
	}
	if e.options.permissionsBoundary != "" {
		create["PermissionsBoundary"] = e.options.permissionsBoundary
	}
	i := 0
	for key, value := range e.ownerTags() {
		i++
		member := "Tags.member." + strconv.Itoa(i) + "."
		create[member+"Key"], create[member+"Value"] = key, value
	}
	var role iamRole
	body, err := e.callIAM(ctx, "CreateRole", create)
	switch {
	case err == nil:
		role, err = readRole(body, "CreateRole")
	case codeOf(err) == faas.ErrAlreadyExists:
		role, err = e.ownRole(ctx)
	}
	if err != nil {
		return "", err
	}
	policy, err := e.rolePolicy(role.Arn)
	if err != nil {
		return "", err
	}
	wait := e.pace.within(e.pace.role)
	for {
		_, err := e.callIAM(ctx, "PutRolePolicy", map[string]string{"RoleName": name, "PolicyName": rolePolicyName, "PolicyDocument": policy})
		if !isNotFound(err) { // IAM may not know yet what it has just created
			return role.Arn, err
		}
		if err := wait.again(ctx, err); err != nil {
			return "", err
		}
	}
}

func (e *Executor) getRole(ctx context.Context, name string) (iamRole, error) {
	body, err := e.callIAM(ctx, "GetRole", map[string]string{"RoleName": name})
	if err != nil {
		return iamRole{}, err
	}
	return readRole(body, "GetRole")
}

// ownRole reads the service's role and refuses one that somebody else made.
func (e *Executor) ownRole(ctx context.Context) (iamRole, error) {
	role, err := e.getRole(ctx, e.roleName())
	if err != nil {
		return role, err
	}
	tags := map[string]string{}
	for _, t := range role.Tags {
		tags[t.Key] = t.Value
	}
	if !e.owns(tags) {
		return role, faas.Errorf(faas.ErrConflict, "deploy", faas.AWSLambda,
			`role %s exists and does not belong to service %q: name it in the option "role_arn" to use it`, e.roleName(), e.service)
	}
	return role, nil
}

// rolePolicy is the least that the service's functions need: their own logs, and what the options turn on.
func (e *Executor) rolePolicy(roleArn string) (string, error) {
	account := strings.Split(roleArn, ":")[4]
	type statement struct {
		Effect   string
		Action   []string
		Resource string
	}
	statements := []statement{{
		"Allow", []string{"logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"},
		"arn:" + awssign.Partition(e.region) + ":logs:" + e.region + ":" + account + ":log-group:/aws/lambda/" + nameStem(e.service) + "*",
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
	name := map[string]string{"RoleName": e.roleName()}
	wait := e.pace.within(e.pace.settle)
	for {
		_, err := e.callIAM(ctx, "DeleteRolePolicy", map[string]string{"RoleName": e.roleName(), "PolicyName": rolePolicyName})
		if err == nil || isNotFound(err) {
			_, err = e.callIAM(ctx, "DeleteRole", name)
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

// otherPolicies names the policies of the service's role that are not its own, as far as that can be told.
func (e *Executor) otherPolicies(ctx context.Context) []string {
	var others []string
	for _, operation := range []string{"ListAttachedRolePolicies", "ListRolePolicies"} {
		body, err := e.callIAM(ctx, operation, map[string]string{"RoleName": e.roleName()})
		if err != nil {
			continue // it may not be allowed, and the conflict is told in any case
		}
		var answer struct {
			Attached []string `xml:"ListAttachedRolePoliciesResult>AttachedPolicies>member>PolicyArn"`
			Inline   []string `xml:"ListRolePoliciesResult>PolicyNames>member"`
		}
		if err := xml.Unmarshal(body, &answer); err != nil {
			continue
		}
		others = append(others, answer.Attached...)
		others = append(others, slices.DeleteFunc(answer.Inline, func(name string) bool { return name == rolePolicyName })...)
	}
	return others
}
