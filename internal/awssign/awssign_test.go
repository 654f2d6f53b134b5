package awssign

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
)

type fipsSource struct{}

func (fipsSource) GetUseFIPSEndpoint(context.Context) (aws.FIPSEndpointState, bool, error) {
	return aws.FIPSEndpointStateEnabled, true, nil
}

type endpointSource struct {
	url    string
	ignore bool
}

func (s endpointSource) GetServiceBaseEndpoint(_ context.Context, id string) (string, bool, error) {
	return s.url + "/" + id + "/", s.url != "", nil
}
func (s endpointSource) GetIgnoreConfiguredEndpoints(context.Context) (bool, bool, error) {
	return s.ignore, s.ignore, nil
}

// The hosts are those that botocore's endpoint rules give.
func TestServicesAreWhereTheSDKsFindThem(t *testing.T) {
	t.Parallel()
	logs := func(region string) Service { return Regional("CloudWatch Logs", "logs", region) }
	s3 := func(region string) Service { return Regional("S3", "s3", region) }
	for _, tt := range []struct {
		to        Service
		want      string
		wantFIPS  string
		signedFor string
		partition string
	}{
		{s3("eu-west-1"), "s3.eu-west-1.amazonaws.com", "s3-fips.eu-west-1.amazonaws.com", "eu-west-1", "aws"},
		{logs("us-east-1"), "logs.us-east-1.amazonaws.com", "logs-fips.us-east-1.amazonaws.com", "us-east-1", "aws"},
		{IAM("ap-south-2"), "iam.amazonaws.com", "iam-fips.amazonaws.com", "us-east-1", "aws"},
		{s3("us-gov-east-1"), "s3.us-gov-east-1.amazonaws.com", "s3-fips.us-gov-east-1.amazonaws.com", "us-gov-east-1", "aws-us-gov"},
		{logs("us-gov-west-1"), "logs.us-gov-west-1.amazonaws.com", "logs.us-gov-west-1.amazonaws.com", "us-gov-west-1", "aws-us-gov"},
		{IAM("us-gov-east-1"), "iam.us-gov.amazonaws.com", "iam.us-gov.amazonaws.com", "us-gov-west-1", "aws-us-gov"},
		{IAM("cn-northwest-1"), "iam.cn-north-1.amazonaws.com.cn", "", "cn-north-1", "aws-cn"},
		{s3("cn-northwest-1"), "s3.cn-northwest-1.amazonaws.com.cn", "", "cn-northwest-1", "aws-cn"},
		{IAM("us-isob-east-1"), "iam.us-isob-east-1.sc2s.sgov.gov", "", "us-isob-east-1", "aws-iso-b"},
		{s3("us-iso-west-1"), "s3.us-iso-west-1.c2s.ic.gov", "", "us-iso-west-1", "aws-iso"},
		{s3("eu-isoe-west-1"), "s3.eu-isoe-west-1.cloud.adc-e.uk", "", "eu-isoe-west-1", "aws-iso-e"},
		{logs("us-isof-south-1"), "logs.us-isof-south-1.csp.hci.ic.gov", "", "us-isof-south-1", "aws-iso-f"},
		{IAM("eusc-de-east-1"), "iam.eusc-de-east-1.amazonaws.eu", "", "eusc-de-east-1", "aws-eusc"},
	} {
		var c Client
		got, err := c.endpoint(t.Context(), tt.to)
		if err != nil || got != "https://"+tt.want || tt.to.Region != tt.signedFor || Partition(tt.to.Region) != tt.partition {
			t.Errorf("%+v: %s, %v, partition %s; want %s signed for %s, partition %s", tt.to, got, err, Partition(tt.to.Region), tt.want, tt.signedFor, tt.partition)
		}
		c.Config.ConfigSources = []any{fipsSource{}}
		if got, err := c.endpoint(t.Context(), tt.to); tt.wantFIPS != "" && (err != nil || got != "https://"+tt.wantFIPS) {
			t.Errorf("%+v with FIPS: %s, %v; want %s", tt.to, got, err, tt.wantFIPS)
		}
	}
}

func TestConfiguredEndpointsWin(t *testing.T) {
	t.Parallel()
	to := Regional("S3", "s3", "eu-west-1")
	for name, tt := range map[string]struct {
		config aws.Config
		want   string
	}{
		"of the service":        {aws.Config{ConfigSources: []any{endpointSource{url: "http://here"}}, BaseEndpoint: aws.String("http://there")}, "http://here/S3"},
		"of all":                {aws.Config{ConfigSources: []any{endpointSource{}}, BaseEndpoint: aws.String("http://there/")}, "http://there"},
		"though FIPS is wanted": {aws.Config{ConfigSources: []any{fipsSource{}}, BaseEndpoint: aws.String("http://there")}, "http://there"},
		"not where ignored":     {aws.Config{ConfigSources: []any{endpointSource{url: "http://here", ignore: true}}, BaseEndpoint: aws.String("http://there")}, "https://s3.eu-west-1.amazonaws.com"},
	} {
		c := Client{Config: tt.config}
		if got, err := c.endpoint(t.Context(), to); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v; want %s", name, got, err, tt.want)
		}
	}
}

func TestErrorsOfEveryProtocolAreRead(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		header, body string
		status       int
		want         Error
	}{
		"S3":              {"", `<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>gone</Message><Key>k</Key></Error>`, 404, Error{404, "NoSuchKey", "gone"}},
		"IAM":             {"", `<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>m</Message></Error></ErrorResponse>`, 404, Error{404, "NoSuchEntity", "m"}},
		"EC2":             {"", `<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>m</Message></Error></Errors><RequestID>r</RequestID></Response>`, 400, Error{400, "InvalidInstanceID.NotFound", "m"}},
		"JSON":            {"", `{"__type":"com.amazonaws.logs#ResourceNotFoundException","message":"m"}`, 400, Error{400, "ResourceNotFoundException", "m"}},
		"JSON, Message":   {"", `{"__type":"AccessDeniedException","Message":"m"}`, 400, Error{400, "AccessDeniedException", "m"}},
		"header":          {"ThrottlingException:http://internal.amazon.com/coral/", `{"message":"m"}`, 429, Error{429, "ThrottlingException", "m"}},
		"nothing":         {"", "", 404, Error{404, "NotFound", ""}},
		"a page of HTML":  {"", "<html><body>Bad Gateway</body></html>", 502, Error{502, "BadGateway", ""}},
		"an unknown code": {"", "", 599, Error{599, "", ""}},
	} {
		got := newError(&http.Response{StatusCode: tt.status, Header: http.Header{"X-Amzn-Errortype": {tt.header}}}, []byte(tt.body))
		if diff := cmp.Diff(&tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func newClient(t *testing.T, h http.HandlerFunc, credentials aws.CredentialsProvider) *Client {
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return &Client{Config: aws.Config{BaseEndpoint: aws.String(server.URL), HTTPClient: server.Client(), Credentials: credentials}}
}

func static(session string) aws.CredentialsProvider {
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret", SessionToken: session}, nil
	})
}

func TestSessionTokensAndBodiesAreSigned(t *testing.T) {
	t.Parallel()
	const sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" // of "hello"
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		auth := r.Header.Get("Authorization")
		if err != nil || string(body) != "hello" || r.ContentLength != 5 || len(r.TransferEncoding) > 0 {
			t.Errorf("body %q of %d bytes, %v, %v", body, r.ContentLength, r.TransferEncoding, err)
		}
		if r.Header.Get("X-Amz-Security-Token") != "token" || r.Header.Get("X-Amz-Content-Sha256") != sum || r.URL.RawQuery != "lifecycle=" ||
			!strings.Contains(auth, "/eu-west-1/s3/aws4_request, SignedHeaders=content-length;content-type;host;x-amz-content-sha256;x-amz-date;x-amz-security-token, ") {
			t.Errorf("%s %s: %v", r.Method, r.URL, r.Header)
		}
		w.Write([]byte("answer"))
	}, static("token"))
	got, err := c.Send(t.Context(), Regional("S3", "s3", "eu-west-1"), Request{
		Operation: "PutObject", Method: "PUT", Path: "/bucket/key?lifecycle=", Header: map[string]string{"Content-Type": "application/zip"},
		Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("hello")), nil }, Size: 5, SHA256: sum,
	})
	if err != nil || string(got) != "answer" {
		t.Errorf("Send = %q, %v", got, err)
	}
}

func TestRefusalsAreAPIErrors(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(403)
		io.WriteString(w, `<Error><Code>AccessDenied</Code><Message>no</Message></Error>`)
	}, static(""))
	_, err := c.Send(t.Context(), IAM("us-east-1"), Request{Method: "POST", Path: "/"})
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != "AccessDenied" || api.ErrorFault() != smithy.FaultClient {
		t.Errorf("Send = %v", err)
	}
}

func TestWithoutCredentialsNothingIsSent(t *testing.T) {
	t.Parallel()
	failing := func(err error) aws.CredentialsProvider {
		return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, err })
	}
	for name, test := range map[string]struct {
		provider aws.CredentialsProvider
		text     string
	}{
		"none":              {nil, "no AWS credentials were found: set AWS_ACCESS_KEY_ID"},
		"no role":           {failing(&smithy.OperationError{ServiceID: "ec2imds", Err: errors.New("status 404")}), "no AWS credentials were found: set AWS_ACCESS_KEY_ID"},
		"STS is down":       {failing(&smithy.OperationError{ServiceID: "STS", Err: errors.New("status 503")}), "the AWS credentials could not be fetched (operation error STS: , status 503)"},
		"a sign-in expired": {failing(&ssocreds.InvalidTokenError{Err: errors.New("no file")}), "sign in again with `aws sso login`"},
	} {
		provider := test.provider
		c := newClient(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("%s: a request was sent", name) }, provider)
		_, err := c.Send(t.Context(), IAM("us-east-1"), Request{Method: "POST", Path: "/"})
		_, perr := c.Presign(t.Context(), Regional("S3", "s3", "us-east-1"), "/b/k", time.Hour)
		for _, err := range []error{err, perr} {
			var credentials *CredentialsError
			if !errors.As(err, &credentials) || strings.Count(err.Error(), test.text) != 1 {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := newClient(t, func(http.ResponseWriter, *http.Request) {}, aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) { return aws.Credentials{}, ctx.Err() }))
	if _, err := c.Send(ctx, IAM("us-east-1"), Request{Method: "POST", Path: "/"}); !errors.Is(err, context.Canceled) || errors.As(err, new(*CredentialsError)) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestPresignedURLsHaveWhatTheySignInTheQuery(t *testing.T) {
	t.Parallel()
	c := newClient(t, func(http.ResponseWriter, *http.Request) { t.Error("a request was sent") }, static("to+ken"))
	text, err := c.Presign(t.Context(), Regional("S3", "s3", "eu-west-1"), "/bucket/a%20key", 90*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	if u.EscapedPath() != "/bucket/a%20key" || q.Get("X-Amz-Expires") != "5400" || q.Get("X-Amz-Security-Token") != "to+ken" || len(q.Get("X-Amz-Signature")) != 64 ||
		q.Get("X-Amz-SignedHeaders") != "host" || !strings.HasSuffix(q.Get("X-Amz-Credential"), "/eu-west-1/s3/aws4_request") {
		t.Errorf("Presign = %s", text)
	}
}
