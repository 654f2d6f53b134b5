package lambdatest

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

var officialModel = sync.OnceValues(FindModel)

// start starts a server that reports to the test, and returns a configuration for clients of it
// that send every request once.
func start(t *testing.T, cfg Config) (*Server, aws.Config) {
	t.Helper()
	m, err := officialModel()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Model, cfg.Errorf = m, func(format string, args ...any) {
		if strings.Contains(format, "answer") { // requests are wrong on purpose
			t.Errorf(format, args...)
		}
	}
	server := New(cfg)
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return server, aws.Config{
		Region: server.config.Region, BaseEndpoint: aws.String(server.URL()),
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, ""),
		HTTPClient:  &http.Client{Transport: transport}, Retryer: func() aws.Retryer { return aws.NopRetryer{} },
	}
}

// wantCode checks the code of an error; "" means that there must be no error.
func wantCode(t *testing.T, what string, err error, code string) {
	t.Helper()
	var api smithy.APIError
	switch {
	case err == nil && code == "":
	case !errors.As(err, &api) || api.ErrorCode() != code:
		t.Errorf("%s: %v, want %q", what, err, code)
	}
}

// wantText checks that an error has a text; "" means that there must be no error.
func wantText(t *testing.T, what string, err error, text string) {
	t.Helper()
	if (err == nil) != (text == "") || err != nil && !strings.Contains(err.Error(), text) {
		t.Errorf("%s: %v, want %q", what, err, text)
	}
}

func TestTheClientOfS3(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"us-east-1", "eu-central-1"} {
		for _, secure := range []bool{false, true} { // only over TLS are checksums in trailers
			t.Run(fmt.Sprint(region, " secure ", secure), func(t *testing.T) {
				t.Parallel()
				server, cfg := start(t, Config{Region: region})
				if secure {
					front := httptest.NewTLSServer(server)
					t.Cleanup(front.Close)
					cfg.BaseEndpoint, cfg.HTTPClient = aws.String(front.URL), front.Client()
				}
				useS3(t, server, s3.NewFromConfig(cfg))
			})
		}
	}
}

func useS3(t *testing.T, server *Server, client *s3.Client) {
	ctx := t.Context()
	bucket, key := aws.String("packages"), aws.String("a b/ü+c.zip")
	create := &s3.CreateBucketInput{Bucket: bucket}
	elsewhere := server.config.Region != "us-east-1"
	if elsewhere {
		_, err := client.CreateBucket(ctx, create)
		wantCode(t, "create at no location", err, "IllegalLocationConstraintException")
		here := s3types.BucketLocationConstraint(server.config.Region)
		create.CreateBucketConfiguration = &s3types.CreateBucketConfiguration{LocationConstraint: here}
	}
	_, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: bucket})
	wantCode(t, "head no bucket", err, "NotFound")
	_, err = client.CreateBucket(ctx, create)
	wantCode(t, "create", err, "")
	_, err = client.CreateBucket(ctx, create)
	wantCode(t, "create again", err, map[bool]string{true: "BucketAlreadyOwnedByYou"}[elsewhere])
	server.TakeBucket("theirs")
	create.Bucket = aws.String("theirs")
	_, err = client.CreateBucket(ctx, create)
	wantCode(t, "create somebody else's", err, "BucketAlreadyExists")
	_, err = client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("theirs")})
	wantCode(t, "head somebody else's", err, "Forbidden")
	server.CreateBucketIn("sa-east-1", "far")
	_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("far"), Key: key})
	wantCode(t, "put far away", err, "PermanentRedirect")
	head, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: bucket})
	wantCode(t, "head", err, "")
	if aws.ToString(head.BucketRegion) != server.config.Region {
		t.Errorf("the region is %v", head.BucketRegion)
	}
	rule := s3types.LifecycleRule{
		Status: s3types.ExpirationStatusEnabled, Filter: &s3types.LifecycleRuleFilter{Prefix: aws.String("x/")},
		Expiration: &s3types.LifecycleExpiration{Days: aws.Int32(7)},
	}
	rules := &s3.PutBucketLifecycleConfigurationInput{
		Bucket: bucket, LifecycleConfiguration: &s3types.BucketLifecycleConfiguration{Rules: []s3types.LifecycleRule{rule}},
	}
	_, err = client.PutBucketLifecycleConfiguration(ctx, rules)
	wantCode(t, "lifecycle", err, "")
	rules.LifecycleConfiguration.Rules[0].Expiration.Days = aws.Int32(0)
	_, err = client.PutBucketLifecycleConfiguration(ctx, rules)
	wantCode(t, "lifecycle of no days", err, "InvalidArgument")
	rules.LifecycleConfiguration.Rules[0].Filter = nil
	_, err = client.PutBucketLifecycleConfiguration(ctx, rules)
	wantCode(t, "lifecycle of nothing", err, "MalformedXML")

	data := bytes.Repeat([]byte("0123456789abcdef"), 200_000) // more than one chunk, and asked for by 100 Continue
	_, err = client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key})
	wantCode(t, "head no object", err, "NotFound")
	_, err = client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	wantCode(t, "get no object", err, "NoSuchKey")
	put := &s3.PutObjectInput{Bucket: bucket, Key: key, Body: bytes.NewReader(data), IfNoneMatch: aws.String("*")}
	_, err = client.PutObject(ctx, put)
	wantCode(t, "put", err, "")
	put.Body = bytes.NewReader(data)
	_, err = client.PutObject(ctx, put)
	wantCode(t, "put again", err, "PreconditionFailed")
	put.Body, put.IfNoneMatch = bytes.NewReader(data), nil
	put.ChecksumSHA256 = aws.String("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=")
	_, err = client.PutObject(ctx, put)
	wantCode(t, "put with another checksum", err, "BadDigest")
	for _, algorithm := range []s3types.ChecksumAlgorithm{"CRC32C", "SHA1", "SHA256", "CRC64NVME"} {
		put.Body, put.ChecksumSHA256, put.ChecksumAlgorithm = bytes.NewReader(data), nil, algorithm
		_, err = client.PutObject(ctx, put)
		wantCode(t, "put with "+string(algorithm), err, "")
	}
	_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: bytes.NewReader(data),
		ExpectedBucketOwner: aws.String("000000000000")})
	wantCode(t, "put for another owner", err, "AccessDenied")
	got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	wantCode(t, "get", err, "")
	if text, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(text, data) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	for i := range 1001 {
		server.buckets["packages"].objects[fmt.Sprintf("many/%04d", i)] = newObject(nil)
	}
	pages, keys := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: bucket,
		Prefix: aws.String("many/")}), 0
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		keys += len(page.Contents)
	}
	if keys != 1001 {
		t.Errorf("%d keys are listed", keys)
	}
	groups, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, Delimiter: aws.String("/")})
	wantCode(t, "list groups", err, "")
	if len(groups.CommonPrefixes) != 2 || len(groups.Contents) != 0 {
		t.Errorf("groups %+v", groups)
	}
	_, err = client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket})
	wantCode(t, "delete what is not empty", err, "BucketNotEmpty")

	parts(t, client, bucket, key)
	_, err = client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key})
	wantCode(t, "delete", err, "")
	_, err = client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: key})
	wantCode(t, "delete again", err, "")
	_, err = client.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: bucket, Key: key})
	wantCode(t, "something unknown", err, "NotImplemented")
}

// parts uploads an object in parts.
func parts(t *testing.T, client *s3.Client, bucket, key *string) {
	ctx := t.Context()
	begun, err := client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	var done []s3types.CompletedPart
	part := func(n int32, size int) {
		p, err := client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: bucket, Key: key, UploadId: begun.UploadId, PartNumber: aws.Int32(n),
			Body: bytes.NewReader(bytes.Repeat([]byte{byte(n)}, size)),
		})
		if err != nil {
			t.Fatal(err)
		}
		done = append(done, s3types.CompletedPart{PartNumber: aws.Int32(n), ETag: p.ETag})
	}
	complete := func(code string) {
		t.Helper()
		_, err := client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
			Bucket: bucket, Key: key, UploadId: begun.UploadId, MultipartUpload: &s3types.CompletedMultipartUpload{Parts: done},
		})
		wantCode(t, "complete", err, code)
	}
	complete("MalformedXML")
	part(1, 10)
	part(2, 10)
	complete("EntityTooSmall")
	done[0], done[1] = done[1], done[0]
	complete("InvalidPartOrder")
	done = nil
	part(1, minPart)
	part(2, 10)
	right := done[1].ETag
	done[1].ETag = aws.String("else")
	complete("InvalidPart")
	done[1].ETag = right
	complete("")
	complete("NoSuchUpload")
	_, err = client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: key,
		UploadId: begun.UploadId})
	wantCode(t, "abort what is complete", err, "NoSuchUpload")
	head, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: key})
	if err != nil || aws.ToInt64(head.ContentLength) != minPart+10 {
		t.Errorf("%+v, %v", head, err)
	}
}

const nobody = `{"Version":"2012-10-17","Statement":[]}`

func TestTheClientOfIAM(t *testing.T) {
	t.Parallel()
	server, cfg := start(t, Config{NewRole: 2, Denied: map[string]bool{"lambda:Invoke": true, "iam:PassRole": false}})
	client, ctx := iam.NewFromConfig(cfg), t.Context()
	name := aws.String("Runner")
	create := &iam.CreateRoleInput{
		RoleName: name, AssumeRolePolicyDocument: aws.String(lambdaTrust), Description: aws.String("Jobs"),
		Tags: []iamtypes.Tag{
			{Key: aws.String("b"), Value: aws.String("2")}, {Key: aws.String("a"), Value: aws.String("1 ü")},
		},
	}
	_, err := client.CreateRole(ctx, create)
	wantCode(t, "create", err, "")
	policy := &iam.PutRolePolicyInput{RoleName: name, PolicyName: aws.String("p"), PolicyDocument: aws.String(nobody)}
	for range 2 {
		_, err = client.PutRolePolicy(ctx, policy)
		wantCode(t, "put a policy at once", err, "NoSuchEntity")
	}
	_, err = client.PutRolePolicy(ctx, policy)
	wantCode(t, "put a policy", err, "")
	create.RoleName = aws.String("RUNNER")
	_, err = client.CreateRole(ctx, create)
	wantCode(t, "create in another case", err, "EntityAlreadyExists")
	for what, change := range map[string]func(*iam.CreateRoleInput){
		"MalformedPolicyDocument": func(in *iam.CreateRoleInput) { in.AssumeRolePolicyDocument = aws.String("{") },
		"InvalidInput": func(in *iam.CreateRoleInput) {
			in.PermissionsBoundary = aws.String("arn:aws:iam::123456789012:role/no")
		},
		"ValidationError": func(in *iam.CreateRoleInput) { in.Description = aws.String("–") },
	} {
		in := *create
		in.RoleName = aws.String("other")
		change(&in)
		_, err := client.CreateRole(ctx, &in)
		wantCode(t, what, err, what)
	}
	boundary := aws.String("arn:aws:iam::123456789012:policy/edge")
	_, err = client.DeleteRolePermissionsBoundary(ctx, &iam.DeleteRolePermissionsBoundaryInput{RoleName: name})
	wantCode(t, "delete no boundary", err, "NoSuchEntity")
	_, err = client.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{RoleName: name,
		PermissionsBoundary: boundary})
	wantCode(t, "put a boundary", err, "")
	got, err := client.GetRole(ctx, &iam.GetRoleInput{RoleName: name})
	if err != nil {
		t.Fatal(err)
	}
	if r := got.Role; aws.ToString(r.PermissionsBoundary.PermissionsBoundaryArn) != *boundary || len(r.Tags) != 2 ||
		*r.Tags[0].Value != "1 ü" || !strings.Contains(*r.AssumeRolePolicyDocument, "%22lambda.amazonaws.com%22") {
		t.Errorf("the role is %+v", r)
	}
	given, err := client.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("lambda-basic")})
	if err != nil || *given.Role.Arn != server.RoleARN() {
		t.Errorf("the given role: %v", err)
	}
	policy.PolicyDocument = aws.String(`{"Statement":"` + strings.Repeat("x", maxInlinePolicy) + `"}`)
	_, err = client.PutRolePolicy(ctx, policy)
	wantCode(t, "put a long policy", err, "LimitExceeded")
	managed := aws.String("arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole")
	_, err = client.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: name, PolicyArn: managed})
	wantCode(t, "attach", err, "")
	inline, err := client.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: name})
	if err != nil || len(inline.PolicyNames) != 1 || inline.IsTruncated {
		t.Errorf("inline policies %+v, %v", inline, err)
	}
	attached, err := client.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: name})
	if err != nil || len(attached.AttachedPolicies) != 1 ||
		*attached.AttachedPolicies[0].PolicyName != "AWSLambdaBasicExecutionRole" {
		t.Errorf("attached policies %+v, %v", attached, err)
	}
	remove := &iam.DeleteRoleInput{RoleName: name}
	_, err = client.DeleteRole(ctx, remove)
	wantText(t, "delete a role with policies", err, "must delete policies first")
	_, err = client.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: name, PolicyName: policy.PolicyName})
	wantCode(t, "delete the policy", err, "")
	for range 2 {
		_, err = client.DeleteRole(ctx, remove)
		wantText(t, "delete a role whose policy was deleted just now", err, "must delete policies first")
	}
	_, err = client.DeleteRole(ctx, remove)
	wantText(t, "delete a role with attached policies", err, "must detach all policies first")
	_, err = client.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: name, PolicyArn: managed})
	wantCode(t, "detach", err, "")
	_, err = client.DeleteRole(ctx, remove)
	wantCode(t, "delete", err, "")
	_, err = client.DeleteRole(ctx, remove)
	wantCode(t, "delete again", err, "NoSuchEntity")
	decided, err := client.SimulatePrincipalPolicy(ctx, &iam.SimulatePrincipalPolicyInput{
		PolicySourceArn: aws.String(server.config.Caller), ResourceArns: []string{"*"},
		ActionNames: []string{"lambda:Invoke", "iam:PassRole", "s3:GetObject"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var decisions []string
	for _, r := range decided.EvaluationResults {
		decisions = append(decisions, string(r.EvalDecision))
	}
	if got := strings.Join(decisions, " "); got != "explicitDeny implicitDeny allowed" {
		t.Errorf("decisions %q", got)
	}
	_, err = client.ListUsers(ctx, &iam.ListUsersInput{})
	wantCode(t, "something unknown", err, "NoSuchEntity")
}

func TestTheClientOfSTS(t *testing.T) {
	t.Parallel()
	server, cfg := start(t, Config{})
	client, ctx := sts.NewFromConfig(cfg), t.Context()
	who := func(client *sts.Client) string {
		t.Helper()
		out, err := client.GetCallerIdentity(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		return *out.Arn
	}
	if got := who(client); got != server.config.Caller {
		t.Errorf("the caller is %s", got)
	}
	_, err := client.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String(server.CreateRole("closed", lambdaTrust)),
		RoleSessionName: aws.String("me")})
	wantCode(t, "assume what trusts Lambda alone", err, "AccessDenied")
	open := server.CreateRole("deployer",
		`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"sts:AssumeRole"}]}`)
	cfg.Credentials = stscreds.NewAssumeRoleProvider(client, open,
		func(o *stscreds.AssumeRoleOptions) { o.RoleSessionName = "me" })
	if got := who(sts.NewFromConfig(cfg)); got != "arn:aws:sts::123456789012:assumed-role/deployer/me" {
		t.Errorf("the caller is %s", got)
	}
	session, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Credentials = credentials.NewStaticCredentialsProvider(session.AccessKeyID, session.SecretAccessKey, "")
	_, err = sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	wantCode(t, "without the token", err, "InvalidClientTokenId")
}

func TestTheClientsOfLogsAndQuotas(t *testing.T) {
	t.Parallel()
	server, cfg := start(t, Config{LogPage: 2, Concurrency: 50})
	ctx, group := t.Context(), aws.String("/aws/lambda/f")
	logs := cloudwatchlogs.NewFromConfig(cfg)
	_, err := logs.FilterLogEvents(ctx, &cloudwatchlogs.FilterLogEventsInput{LogGroupName: group})
	wantCode(t, "no group", err, "ResourceNotFoundException")
	server.logGroups[*group] = true
	server.logs.add("f", "stream", "one\ntwo\nthree\n")
	pages, n, text := cloudwatchlogs.NewFilterLogEventsPaginator(logs,
		&cloudwatchlogs.FilterLogEventsInput{LogGroupName: group, StartTime: aws.Int64(1)}), 0, ""
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		n++
		for _, e := range page.Events {
			text += *e.Message
		}
	}
	if n != 3 || text != "one\ntwo\nthree\n" {
		t.Errorf("%d pages, %q", n, text)
	}
	remove := &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: group}
	_, err = logs.DeleteLogGroup(ctx, remove)
	wantCode(t, "delete", err, "")
	_, err = logs.DeleteLogGroup(ctx, remove)
	wantCode(t, "delete again", err, "ResourceNotFoundException")

	quotas := servicequotas.NewFromConfig(cfg)
	got, err := quotas.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String("lambda"),
		QuotaCode: aws.String("L-B99A9384")})
	if err != nil || *got.Quota.Value != 50 {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = quotas.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String("lambda"),
		QuotaCode: aws.String("L-00000000")})
	wantCode(t, "no quota", err, "NoSuchResourceException")
	all, err := quotas.ListServiceQuotas(ctx, &servicequotas.ListServiceQuotasInput{ServiceCode: aws.String("lambda")})
	if err != nil || len(all.Quotas) != 3 {
		t.Errorf("%+v, %v", all, err)
	}
}

// A request that is dated by a wrong clock is refused, and the answer lets a client correct its
// clock.
func TestClocksThatDiffer(t *testing.T) {
	t.Parallel()
	_, cfg := start(t, Config{Clock: time.Hour})
	ctx := t.Context()
	calls := map[string]func(aws.Config) error{
		"InvalidSignatureException": func(c aws.Config) error {
			_, err := lambda.NewFromConfig(c).GetAccountSettings(ctx, nil)
			return err
		},
		"SignatureDoesNotMatch": func(c aws.Config) error {
			_, err := sts.NewFromConfig(c).GetCallerIdentity(ctx, nil)
			return err
		},
		"RequestTimeTooSkewed": func(c aws.Config) error {
			_, err := s3.NewFromConfig(c).ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: aws.String("no-bucket")})
			return err
		},
	}
	for code, call := range calls {
		wantCode(t, code, call(cfg), code)
		again := cfg.Copy()
		again.Retryer = func() aws.Retryer { return retry.AddWithMaxBackoffDelay(retry.NewStandard(), time.Millisecond) }
		wantCode(t, "corrected", call(again), map[string]string{"RequestTimeTooSkewed": "NoSuchBucket"}[code])
	}
}

func packed(t *testing.T, name, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	header := &zip.FileHeader{Name: name}
	header.SetMode(0o755)
	w, err := z.CreateHeader(header)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
