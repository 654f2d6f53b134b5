//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/check"
)

// statement is one statement of a policy, in the form that operators paste.
type statement struct {
	Effect    string
	Action    []string
	Resource  string
	Condition map[string]map[string]string `json:",omitempty"`
}

// need lists what a deployment does to one kind of resource.
type need struct {
	actions   []string
	wished    []string // what only some deployments do
	resource  string   // that is granted, which may hold *
	example   string   // one that it covers, for the simulation
	condition string   // the value of iam:PassedToService
}

// passedTo is the condition key that limits the service to which a role is passed.
const passedTo = "iam:PassedToService"

// needs lists the permissions that deploying, invoking and removing take with these options, as in
// the package documentation.
func (d *diagnosis) needs() []need {
	e := d.e
	function := need{
		actions: []string{
			"lambda:CreateFunction", "lambda:GetFunction", "lambda:UpdateFunctionCode", "lambda:UpdateFunctionConfiguration",
			"lambda:DeleteFunction", "lambda:PublishVersion",
			"lambda:ListVersionsByFunction", "lambda:CreateAlias", "lambda:GetAlias", "lambda:UpdateAlias",
			"lambda:InvokeFunction", "lambda:ListTags", "lambda:TagResource", "lambda:UntagResource",
		},
		wished: []string{"lambda:PutProvisionedConcurrencyConfig", "lambda:GetProvisionedConcurrencyConfig",
			"lambda:DeleteProvisionedConcurrencyConfig"},
		resource: d.arnOf("lambda", e.region, "function:"+nameStem(e.service)+"*"),
		example:  d.arnOf("lambda", e.region, "function:"+functionName(e.service, 0)),
	}
	if e.options.reservedConcurrency {
		function.wished = append(function.wished, "lambda:PutFunctionConcurrency", "lambda:DeleteFunctionConcurrency")
	}
	all := []need{function, {wished: []string{"lambda:ListFunctions"}, resource: "*", example: "*"}}
	role := e.options.roleArn
	if role == "" && e.options.createRole {
		role = d.arnOf("iam", "", "role/"+e.roleName())
		bound := []string{"iam:PutRolePermissionsBoundary"}
		if e.options.permissionsBoundary == "" {
			bound = nil
		}
		all = append(all, need{
			actions: slices.Concat([]string{"iam:CreateRole", "iam:TagRole", "iam:GetRole", "iam:PutRolePolicy",
				"iam:DeleteRolePolicy", "iam:DeleteRole"}, bound),
			// These name what prevents the removal.
			wished:   []string{"iam:ListRolePolicies", "iam:ListAttachedRolePolicies"},
			resource: role, example: role,
		})
	}
	if role != "" {
		all = append(all, need{actions: []string{"iam:PassRole"}, resource: role, example: role,
			condition: "lambda.amazonaws.com"})
	}
	if bucket := d.bucketName(); bucket != "" {
		arn := "arn:" + d.partition() + ":s3:::" + bucket
		objects := need{actions: []string{"s3:PutObject", "s3:GetObject", "s3:DeleteObject"},
			resource: arn + "/blueprint-serverless/*", example: arn + "/blueprint-serverless/x.zip"}
		whole := need{actions: []string{"s3:ListBucket"}, resource: arn, example: arn}
		if e.options.s3Bucket == "" {
			whole.actions = append(whole.actions, "s3:CreateBucket", "s3:PutLifecycleConfiguration")
		}
		all = append(all, objects, whole)
	}
	group := d.arnOf("logs", e.region, "log-group:/aws/lambda/"+nameStem(e.service))
	logs := need{wished: []string{"logs:FilterLogEvents"}, resource: group + "*", example: group + "0"}
	if e.options.deleteLogs {
		logs.actions = []string{"logs:DeleteLogGroup"}
	}
	all = append(all, logs)
	if len(e.options.subnetIDs) > 0 {
		all = append(all, need{actions: []string{"ec2:DescribeSecurityGroups", "ec2:DescribeSubnets", "ec2:DescribeVpcs"},
			resource: "*", example: "*"})
	}
	for _, layer := range e.options.layers {
		all = append(all, need{actions: []string{"lambda:GetLayerVersion"}, resource: layer, example: layer})
	}
	if key := e.options.kmsKeyArn; key != "" {
		all = append(all, need{actions: []string{"kms:CreateGrant", "kms:Encrypt", "kms:Decrypt"}, resource: key,
			example: key})
	}
	return all
}

// permissions asks IAM what the caller may do.
func (d *diagnosis) permissions(ctx context.Context) faas.Check {
	kind, name := d.caller()
	switch kind {
	case "root":
		return check.OK("the caller is the account's root user, who may do everything")
	case "user", "role":
	default:
		return check.Skip("what %s may do cannot be asked: IAM tells it of users and roles", d.arn)
	}
	source := d.arn
	if kind == "role" {
		source = d.arnOf("iam", "", "role/"+name)
		if role, err := d.e.getRole(ctx, name); err == nil {
			source = aws.ToString(role.Arn) // with its path
		}
	}
	needs := d.needs()
	verdicts := make([]verdict, len(needs))
	errs := make([]error, len(needs))
	var all sync.WaitGroup
	for i, n := range needs {
		all.Go(func() { verdicts[i], errs[i] = d.simulate(ctx, source, n) })
	}
	all.Wait()
	for _, err := range errs {
		switch code := apiCode(err); {
		case err == nil:
		case denied(err):
			return check.Warn(diagnosed(err), d.grant(
				[]statement{{"Allow", []string{"iam:SimulatePrincipalPolicy"}, source, nil}}),
				"the permissions of the caller could not be checked, which needs iam:SimulatePrincipalPolicy; "+
					"deploying does not")
		case code == "InvalidAction" || code == "NoSuchEntity" || code == "InvalidInput" || code == "ValidationError" ||
			codeOf(err) == faas.ErrNotFound || codeOf(err) == faas.ErrUnsupported:
			return check.Skip("IAM does not say what %s may do: %s", source, check.Words(diagnosed(err)))
		default:
			return check.Warn(diagnosed(err), "try again", "the permissions of the caller could not be checked: %s",
				check.Words(diagnosed(err)))
		}
	}
	return d.judge(needs, verdicts)
}

// verdict is IAM's answer about a need.
type verdict struct{ missing, denied []string }

// judge turns all verdicts into one finding.
func (d *diagnosis) judge(needs []need, verdicts []verdict) faas.Check {
	var missing, wished, explicit []string
	var statements []statement
	count := 0
	for i, n := range needs {
		v := verdicts[i]
		count += len(n.actions) + len(n.wished)
		explicit = append(explicit, v.denied...)
		if len(v.missing) > 0 {
			s := statement{"Allow", v.missing, n.resource, nil}
			if n.condition != "" {
				s.Condition = map[string]map[string]string{"StringEquals": {passedTo: n.condition}}
			}
			statements = append(statements, s)
		}
		for _, action := range append(slices.Clone(v.missing), v.denied...) {
			if slices.Contains(n.actions, action) {
				missing = append(missing, action)
			} else {
				wished = append(wished, action)
			}
		}
	}
	var remedies []string
	if len(statements) > 0 {
		remedies = append(remedies, d.grant(statements))
	}
	if len(explicit) > 0 {
		remedies = append(remedies, "remove the statement or the service control policy that denies "+
			strings.Join(explicit, ", "))
	}
	remedy := strings.Join(remedies, "\n")
	switch {
	case len(missing) > 0:
		err := faas.Errorf(faas.ErrPermissionDenied, "diagnose", faas.AWSLambda, "%s lacks %s", d.arn,
			strings.Join(missing, ", "))
		return check.FailBy(err, remedy)
	case len(wished) > 0:
		return check.Warn(nil, remedy, "%s lacks %s, which only limits of concurrency, warm instances, lists and logs need",
			d.arn, strings.Join(wished, ", "))
	}
	return check.OK("all %d that a deployment takes are allowed, by IAM's simulation", count)
}

// simulate asks IAM which actions of a need the caller may not take.
func (d *diagnosis) simulate(ctx context.Context, source string, n need) (verdict, error) {
	in := &iam.SimulatePrincipalPolicyInput{
		PolicySourceArn: &source, ResourceArns: []string{n.example}, ActionNames: slices.Concat(n.actions, n.wished),
	}
	if n.condition != "" {
		in.ContextEntries = []types.ContextEntry{{
			ContextKeyName: aws.String(passedTo), ContextKeyType: types.ContextKeyTypeEnumString,
			ContextKeyValues: []string{n.condition},
		}}
	}
	var v verdict
	pages := iam.NewSimulatePrincipalPolicyPaginator(d.e.iam, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return verdict{}, err
		}
		for _, r := range page.EvaluationResults {
			switch action := aws.ToString(r.EvalActionName); r.EvalDecision {
			case types.PolicyEvaluationDecisionTypeImplicitDeny:
				v.missing = append(v.missing, action)
			case types.PolicyEvaluationDecisionTypeExplicitDeny:
				v.denied = append(v.denied, action)
			}
		}
	}
	return v, nil
}

// caller returns the caller's kind ("user", "role", "root" or something else) and name.
func (d *diagnosis) caller() (kind, name string) {
	parts := strings.SplitN(d.arn, ":", 6)
	if len(parts) < 6 {
		return "", ""
	}
	segments := strings.Split(parts[5], "/")
	switch {
	case parts[5] == "root":
		return "root", ""
	case segments[0] == "user" && len(segments) > 1:
		return "user", segments[len(segments)-1]
	case segments[0] == "assumed-role" && len(segments) > 1:
		return "role", segments[1]
	}
	return segments[0], ""
}

// grant returns the command that gives the caller permissions.
func (d *diagnosis) grant(statements []statement) string {
	text, err := json.Marshal(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", statements})
	if err != nil {
		panic("aws: a policy does not marshal: " + err.Error()) // strings always do
	}
	kind, name := d.caller()
	switch {
	case kind == "user":
		return "aws iam put-user-policy --user-name " + name + " --policy-name blueprint-serverless --policy-document '" +
			string(text) + "'"
	case kind == "role" && strings.HasPrefix(name, "AWSReservedSSO_"):
		return "add this to the permission set in IAM Identity Center: " + string(text)
	case kind == "role":
		return "aws iam put-role-policy --role-name " + name + " --policy-name blueprint-serverless --policy-document '" +
			string(text) + "'"
	}
	return "give " + d.arn + " this policy: " + string(text)
}

// role checks whether the functions' role exists and whether Lambda may assume it.
func (d *diagnosis) role(ctx context.Context) faas.Check {
	e := d.e
	arn, name := e.options.roleArn, e.roleName()
	if arn == "" && !e.options.createRole {
		return check.FailBy(errNoRole(), check.SetOption("create_role", "true")+"\nexport "+RoleEnv+"="+
			d.arnOf("iam", "", "role/ROLE"))
	}
	create := "aws iam create-role --role-name " + name + " --assume-role-policy-document '" + trustPolicy + "'"
	if arn != "" {
		name = arn[strings.LastIndexByte(arn, '/')+1:]
		create = strings.Replace(create, e.roleName(), name, 1) +
			"\naws iam attach-role-policy --role-name " + name + " --policy-arn arn:" + d.partition() +
			":iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
		if account := strings.Split(arn, ":")[4]; account != d.account {
			err := faas.Errorf(faas.ErrInvalidArgument, "diagnose", faas.AWSLambda,
				"role %s is of another account than the credentials, %s, and cannot be passed to Lambda", arn, d.account)
			return check.FailBy(err, check.SetOption("role_arn", d.arnOf("iam", "", "role/ROLE")))
		}
	}
	role, err := e.getRole(ctx, name)
	if arn == "" && err == nil {
		_, err = e.findRole(ctx)
	}
	switch {
	case isNotFound(err) && arn == "":
		return check.OK("%s is made with the first function (create_role)", name)
	case isNotFound(err):
		failed := diagnosed(err)
		return check.Fail(failed, create, "there is no role %s: %s", arn, check.Words(failed))
	case denied(err) && arn == "":
		failed := diagnosed(err)
		return check.Fail(failed, d.grant([]statement{
			{"Allow", []string{"iam:GetRole"}, d.arnOf("iam", "", "role/"+name), nil}}),
			"the permission iam:GetRole is missing: %s", check.Words(failed))
	case denied(err):
		return check.Warn(diagnosed(err), d.grant([]statement{{"Allow", []string{"iam:GetRole"}, arn, nil}}),
			"role %s could not be checked, which needs the permission iam:GetRole; deploying does not", arn)
	case codeOf(err) == faas.ErrConflict:
		return check.FailBy(diagnosed(err), check.SetOption("role_arn", d.arnOf("iam", "", "role/"+name)))
	case err != nil:
		return check.Warn(diagnosed(err), "try again", "role %s could not be checked: %s", name,
			check.Words(diagnosed(err)))
	case !trustsLambda(aws.ToString(role.AssumeRolePolicyDocument)):
		err := faas.Errorf(faas.ErrPermissionDenied, "diagnose", faas.AWSLambda,
			"Lambda may not assume role %s: its trust policy allows sts:AssumeRole to others than lambda.amazonaws.com",
			aws.ToString(role.Arn))
		return check.FailBy(err, "aws iam update-assume-role-policy --role-name "+name+" --policy-document '"+trustPolicy+
			"'")
	}
	return check.OK("Lambda may assume %s", aws.ToString(role.Arn))
}

// trustsLambda reports whether a trust policy, as IAM returns it, lets Lambda assume the role. It
// reports true for a policy that it cannot read.
func trustsLambda(document string) bool {
	text, err := url.PathUnescape(document)
	if err != nil || text == "" {
		return true
	}
	type texts []string // one, or a list
	var policy struct {
		Statement json.RawMessage
	}
	if json.Unmarshal([]byte(text), &policy) != nil {
		return true
	}
	type entry struct {
		Effect    string
		Principal json.RawMessage
		Action    json.RawMessage
	}
	var statements []entry
	if json.Unmarshal(policy.Statement, &statements) != nil {
		var one entry
		if json.Unmarshal(policy.Statement, &one) != nil {
			return true
		}
		statements = []entry{one}
	}
	list := func(raw json.RawMessage) (all texts) {
		var one string
		if json.Unmarshal(raw, &one) == nil {
			return texts{one}
		}
		_ = json.Unmarshal(raw, &all) // what is no list has no entries
		return all
	}
	for _, s := range statements {
		var principal struct{ Service json.RawMessage }
		_ = json.Unmarshal(s.Principal, &principal) // "*" names no service
		if s.Effect == "Allow" && slices.Contains(list(principal.Service), "lambda.amazonaws.com") &&
			slices.ContainsFunc(list(s.Action), func(a string) bool {
				return strings.EqualFold(a, "sts:AssumeRole") || a == "sts:*" || a == "*"
			}) {
			return true
		}
	}
	return false
}
