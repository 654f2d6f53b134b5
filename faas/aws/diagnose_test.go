//go:build !faas_only || faas_aws

package aws

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// finding is the expected status of a check, and a part of its detail and of its remedy.
type finding struct {
	status         faas.CheckStatus
	detail, remedy string
}

var checkNames = []string{"credentials", "clock", "region", "lambda", "permissions", "role", "bucket", "quota"}

// wantFindings compares the named checks. All others must neither have failed nor warn.
func wantFindings(t *testing.T, checks []faas.Check, want map[string]finding) {
	t.Helper()
	var names []string
	for _, c := range checks {
		names = append(names, c.Name)
		f, named := want[c.Name]
		if !named {
			if c.Status == faas.CheckFailed || c.Status == faas.CheckWarning {
				t.Errorf("%s is %s: %s", c.Name, c.Status, c.Detail)
			}
			continue
		}
		var e *faas.Error
		if c.Status != f.status || !strings.Contains(c.Detail, f.detail) || !strings.Contains(c.Remedy, f.remedy) ||
			c.Status == faas.CheckFailed && (c.Remedy == "" || !errors.As(c.Err, &e)) {
			t.Errorf("%s is %q: %s\nremedy: %s\nerror: %v\nwant %q with %q and the remedy %q", c.Name, c.Status, c.Detail,
				c.Remedy, c.Err, f.status, f.detail, f.remedy)
		}
	}
	if diff := cmp.Diff(checkNames, names); diff != "" {
		t.Error(diff)
	}
}

// failing makes calls of an operation fail.
func failing(operation string, status int, code string) func(lambdatest.Call) *lambdatest.Fault {
	return func(c lambdatest.Call) *lambdatest.Fault {
		if c.Operation != operation {
			return nil
		}
		return &lambdatest.Fault{Status: status, Code: code, Message: "User is not authorized to perform this, or else"}
	}
}

func TestDiagnoseTellsWhatIsWrongWithAnAccount(t *testing.T) {
	const (
		ok      = faas.CheckOK
		warning = faas.CheckWarning
		failed  = faas.CheckFailed
		skipped = faas.CheckSkipped
	)
	only := func(f lambdatest.Config) lambdatest.Config { return f }
	fault := func(operation string, status int, code string) lambdatest.Config {
		return lambdatest.Config{Fault: failing(operation, status, code)}
	}
	withoutCredentials := func(more finding) map[string]finding {
		all := map[string]finding{"credentials": more}
		for _, name := range checkNames[2:] {
			all[name] = finding{skipped, "no credentials", ""}
		}
		return all
	}
	for _, tt := range []struct {
		name    string
		server  lambdatest.Config
		options map[string]string
		prepare func(s *lambdatest.Server)
		want    map[string]finding
	}{
		{"a healthy account", only(lambdatest.Config{}), nil, nil, map[string]finding{
			"credentials": {ok, "account 123456789012, arn:aws:iam::123456789012:user/test", ""}, "clock": {ok, "AWS", ""},
			"region": {ok, "us-east-1", ""},
			"lambda": {ok, "lambda:GetFunction is allowed for blueprint-svc-0", ""}, "permissions": {ok, "are allowed", ""},
			"role":   {ok, "role/lambda-basic", ""},
			"bucket": {skipped, "50 MB", ""}, "quota": {ok, "concurrent executions 1000", ""}}},
		{"expired credentials", fault("GetCallerIdentity", 403, "ExpiredToken"), nil, nil,
			withoutCredentials(finding{failed, "have expired", "AWS_SESSION_TOKEN=TOKEN"})},
		{"a key that nobody knows", fault("GetCallerIdentity", 403, "InvalidClientTokenId"), nil, nil,
			withoutCredentials(finding{failed, "does not know the access key", "aws configure"})},
		{"a secret of another key", fault("GetCallerIdentity", 403, "SignatureDoesNotMatch"), nil, nil,
			withoutCredentials(finding{failed, "not that of the access key", "aws configure"})},
		{"an account that is not allowed", only(lambdatest.Config{}), map[string]string{"account_id": "999999999999"}, nil,
			withoutCredentials(finding{failed, "999999999999", "profile to PROFILE"})},
		{"functions may not be read", fault("GetFunction", 403, "AccessDeniedException"), nil, nil, map[string]finding{
			"lambda": {failed, "lambda:GetFunction is missing",
				"aws iam put-user-policy --user-name test --policy-name blueprint-serverless --policy-document '" +
					`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["lambda:GetFunction"],` +
					`"Resource":"arn:aws:lambda:us-east-1:123456789012:function:blueprint-svc-*"}]}'`}}},
		{"permissions are missing", lambdatest.Config{
			Denied: map[string]bool{"lambda:CreateFunction": false, "iam:PassRole": false}}, nil, nil, map[string]finding{
			"permissions": {failed, "lacks lambda:CreateFunction, iam:PassRole",
				`"Condition":{"StringEquals":{"iam:PassedToService":"lambda.amazonaws.com"}}`}}},
		{"a permission is denied", lambdatest.Config{Denied: map[string]bool{"lambda:CreateFunction": true}}, nil, nil,
			map[string]finding{
				"permissions": {failed, "lacks lambda:CreateFunction",
					"remove the statement or the service control policy that denies lambda:CreateFunction"}}},
		{"a permission that few deployments take is missing",
			lambdatest.Config{Denied: map[string]bool{"lambda:PutFunctionConcurrency": false}}, nil, nil, map[string]finding{
				"permissions": {warning, "lacks lambda:PutFunctionConcurrency", "put-user-policy"}}},
		{"a permission for a role is missing, by an assumed role",
			lambdatest.Config{Caller: "arn:aws:sts::123456789012:assumed-role/deployer/me",
				Denied: map[string]bool{"iam:CreateRole": false}},
			map[string]string{"role_arn": "", "create_role": "true"}, nil, map[string]finding{
				"permissions": {failed, "lacks iam:CreateRole", "aws iam put-role-policy --role-name deployer"},
				"role":        {ok, "blueprint-svc-us-east-1 is made with the first function", ""}}},
		{"a caller of IAM Identity Center", lambdatest.Config{
			Caller: "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Dev_1/me",
			Denied: map[string]bool{"iam:PassRole": false}}, nil, nil, map[string]finding{
			"permissions": {failed, "iam:PassRole", "permission set in IAM Identity Center"}}},
		{"the root user", lambdatest.Config{Caller: "arn:aws:iam::123456789012:root"}, nil, nil,
			map[string]finding{"permissions": {ok, "root user", ""}}},
		{"a caller whose policies nobody can ask for",
			lambdatest.Config{Caller: "arn:aws:sts::123456789012:federated-user/me"}, nil, nil,
			map[string]finding{"permissions": {skipped, "federated-user/me", ""}}},
		{"the simulation is not allowed", fault("SimulatePrincipalPolicy", 403, "AccessDenied"), nil, nil, map[string]finding{
			"permissions": {warning, "iam:SimulatePrincipalPolicy", `"Action":["iam:SimulatePrincipalPolicy"]`}}},
		{"no simulation there", fault("SimulatePrincipalPolicy", 400, "InvalidAction"), nil, nil,
			map[string]finding{"permissions": {skipped, "InvalidAction", ""}}},
		{"no role is given", only(lambdatest.Config{}), map[string]string{"role_arn": ""}, nil, map[string]finding{
			"role": {failed, "no execution role is given",
				"set serverless.provider_config.create_role to true\n" +
					"export AWS_LAMBDA_ROLE_ARN=arn:aws:iam::123456789012:role/ROLE"}}},
		{"no such role", only(lambdatest.Config{}),
			map[string]string{"role_arn": "arn:aws:iam::123456789012:role/path/gone"}, nil, map[string]finding{
				"role": {failed, "there is no role", "aws iam create-role --role-name gone --assume-role-policy-document"}}},
		{"a role of another account", only(lambdatest.Config{}),
			map[string]string{"role_arn": "arn:aws:iam::999999999999:role/theirs"}, nil, map[string]finding{
				"role": {failed, "another account", "role_arn to arn:aws:iam::123456789012:role/ROLE"}}},
		{"a role that trusts somebody else", only(lambdatest.Config{}),
			map[string]string{"role_arn": "arn:aws:iam::123456789012:role/ec2"}, func(s *lambdatest.Server) {
				s.CreateRole("ec2", `{"Statement":{"Effect":"Allow",`+
					`"Principal":{"Service":["ec2.amazonaws.com"]},"Action":"sts:AssumeRole"}}`)
			}, map[string]finding{"role": {failed, "others than lambda.amazonaws.com",
				"aws iam update-assume-role-policy --role-name ec2"}}},
		{"a role that trusts Lambda among others", only(lambdatest.Config{}),
			map[string]string{"role_arn": "arn:aws:iam::123456789012:role/both"}, func(s *lambdatest.Server) {
				s.CreateRole("both", `{"Statement":[{"Effect":"Allow",`+
					`"Principal":{"Service":["ec2.amazonaws.com","lambda.amazonaws.com"]},"Action":["sts:AssumeRole"]}]}`)
			}, map[string]finding{"role": {ok, "role/both", ""}}},
		{"roles may not be read", fault("GetRole", 403, "AccessDenied"), nil, nil,
			map[string]finding{"role": {warning, "iam:GetRole", `"Action":["iam:GetRole"]`}}},
		{"the role to be made is somebody else's", only(lambdatest.Config{}),
			map[string]string{"role_arn": "", "create_role": "true"}, func(s *lambdatest.Server) {
				s.CreateRole("blueprint-svc-us-east-1", trustPolicy)
			}, map[string]finding{"role": {failed, "does not belong to service",
				"role_arn to arn:aws:iam::123456789012:role/blueprint-svc-us-east-1"}}},
		{"a bucket", only(lambdatest.Config{}), map[string]string{"bucket": "mine"},
			func(s *lambdatest.Server) { s.CreateBucket("mine") }, map[string]finding{"bucket": {ok, "mine exists, in", ""}}},
		{"no such bucket", only(lambdatest.Config{}), map[string]string{"bucket": "gone"}, nil,
			map[string]finding{"bucket": {failed, "there is no bucket gone", "aws s3 mb s3://gone --region us-east-1"}}},
		{"a bucket to be made", only(lambdatest.Config{}), map[string]string{"create_bucket": "true"}, nil,
			map[string]finding{"bucket": {ok, "blueprint-serverless-123456789012-us-east-1 is made", ""}}},
		{"a bucket of somebody else", fault("HeadBucket", 403, "AccessDenied"), map[string]string{"bucket": "theirs"}, nil,
			map[string]finding{"bucket": {failed, "s3:ListBucket", `"Resource":"arn:aws:s3:::theirs"`}}},
		{"a bucket elsewhere", fault("HeadBucket", 301, "PermanentRedirect"), map[string]string{"bucket": "far"}, nil,
			map[string]finding{"bucket": {failed, "bucket far is in region", "bucket to BUCKET"}}},
		{"the code storage is full", lambdatest.Config{CodeUsed: 75 << 30}, nil, nil,
			map[string]finding{"quota": {failed, "75.0 of 75 GiB",
				"--quota-code L-2ACBD22F --desired-value 150 --region us-east-1"}}},
		{"the code storage is nearly full", lambdatest.Config{CodeUsed: 70 << 30}, nil, nil,
			map[string]finding{"quota": {warning, "nearly full", "remove functions"}}},
		{"a new account", lambdatest.Config{Concurrency: 10}, nil, nil,
			map[string]finding{"quota": {warning, "concurrent executions 10", "--quota-code L-B99A9384"}}},
		{"a new account without reservations", lambdatest.Config{Concurrency: 10},
			map[string]string{"reserved_concurrency": "false"}, nil,
			map[string]finding{"quota": {ok, "concurrent executions 10", ""}}},
		{"quotas may not be read", fault("GetAccountSettings", 403, "AccessDeniedException"), nil, nil,
			map[string]finding{"quota": {warning, "lambda:GetAccountSettings", `"lambda:GetAccountSettings"`}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := serve(t, tt.server)
			if tt.prepare != nil {
				tt.prepare(server)
			}
			before := server.Left()
			wantFindings(t, openAt(t, server, "svc", opening{options: tt.options}).Diagnose(t.Context()), tt.want)
			if diff := cmp.Diff(before, server.Left()); diff != "" {
				t.Errorf("the diagnosis changed something:\n%s", diff)
			}
			for _, call := range server.Calls() {
				if !slices.Contains([]string{"GetCallerIdentity", "GetFunction", "GetRole", "SimulatePrincipalPolicy",
					"HeadBucket", "GetAccountSettings"}, call.Operation) {
					t.Errorf("it called %s", call.Operation)
				}
			}
		})
	}
}

func TestARegionThatTheAccountHasNotEnabledIsToldFromAWrongKey(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{Region: "af-south-1", Fault: func(c lambdatest.Call) *lambdatest.Fault {
		if c.Operation == "GetCallerIdentity" && c.N == 1 {
			return &lambdatest.Fault{Status: 403, Code: "InvalidClientTokenId",
				Message: "The security token included in the request is invalid"}
		}
		return nil
	}})
	wantFindings(t, openAt(t, server, "svc", opening{region: "af-south-1"}).Diagnose(t.Context()), map[string]finding{
		"region": {faas.CheckFailed, "has not enabled region af-south-1",
			"aws account enable-region --region-name af-south-1"}})
}

// skewed changes the dates of answers.
type skewed struct {
	base http.RoundTripper
	by   time.Duration
}

func (s skewed) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.base.RoundTrip(r)
	if err == nil {
		resp.Header.Set("Date", time.Now().Add(s.by).UTC().Format(http.TimeFormat))
	}
	return resp, err
}

func TestAClockThatIsWrongIsFound(t *testing.T) {
	t.Parallel()
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	open := func(cfg lambdatest.Config, by time.Duration) *Executor {
		return openAt(t, serve(t, cfg), "svc", opening{client: &http.Client{Transport: skewed{base, by}}})
	}
	wantFindings(t, open(lambdatest.Config{}, 2*time.Minute).Diagnose(t.Context()),
		map[string]finding{"clock": {faas.CheckWarning, "behind that of AWS", ""}})
	want := map[string]finding{"clock": {faas.CheckFailed, "ahead of that of AWS", ""},
		"credentials": {faas.CheckFailed, "this machine's clock", ""}}
	for _, name := range checkNames[2:] {
		want[name] = finding{faas.CheckSkipped, "", ""}
	}
	wantFindings(t, open(lambdatest.Config{Fault: failing("GetCallerIdentity", 403, "SignatureDoesNotMatch")},
		-10*time.Minute).Diagnose(t.Context()), want)
}

func TestMissingCredentialsAndAnUnreachableAWSAreToldApart(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	start := func(more ...func(*config.LoadOptions) error) *Executor {
		more = append(more, config.WithSharedConfigFiles([]string{}), config.WithSharedCredentialsFiles([]string{}),
			config.WithBaseEndpoint("http://127.0.0.1:1"))
		e, err := open(t.Context(), faas.Config{Service: "svc"}, fastPace, more...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { e.Close() })
		return e
	}
	want := map[string]finding{"clock": {faas.CheckSkipped, "", ""}}
	for _, name := range checkNames[2:] {
		want[name] = finding{faas.CheckSkipped, "", ""}
	}
	want["credentials"] = finding{faas.CheckFailed, "no AWS credentials were found", giveKeys}
	wantFindings(t, start().Diagnose(t.Context()), want)

	const secret = "s3cr3t-key"
	want["credentials"] = finding{faas.CheckFailed, "", "reach sts.us-east-1.amazonaws.com:443"}
	checks := start(config.WithCredentialsProvider(
		credentials.NewStaticCredentialsProvider("AKID", secret, ""))).Diagnose(t.Context())
	wantFindings(t, checks, want)
	if strings.Contains(fmt.Sprintf("%+v", checks), secret) {
		t.Error("the secret key is shown")
	}
}
