//go:build !faas_only

package all_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure"
)

// refusing answers every request in the same way, as the provider's API does, and counts them.
type refusing struct {
	provider string
	status   int
	code     string // the API's own
	text     string
	header   http.Header
	calls    int
}

func (r *refusing) RoundTrip(req *http.Request) (*http.Response, error) {
	r.calls++
	if req.Body != nil {
		_, _ = io.Copy(io.Discard, req.Body)
		req.Body.Close()
	}
	header := r.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set("Content-Type", "application/json")
	header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	var body any
	switch r.provider {
	case faas.AWSLambda:
		if r.code != "" {
			header.Set("X-Amzn-Errortype", r.code)
		}
		body = map[string]string{"message": r.text}
	case faas.GCPFunctions:
		body = map[string]any{"error": map[string]any{"code": r.status, "status": r.code, "message": r.text}}
	case faas.AzureFunctions:
		body = map[string]any{"error": map[string]string{"code": r.code, "message": r.text}}
	default:
		body = map[string]string{"error": r.text, "code": r.code}
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		Status: fmt.Sprint(r.status), StatusCode: r.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header,
		Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text)), Request: req,
	}, nil
}

// open returns an executor of the provider that talks only to the transport, and the ID of its
// unit.
func open(t *testing.T, provider string, transport http.RoundTripper) (faas.Executor, string) {
	t.Helper()
	cfg := faas.Config{
		Provider: provider, Service: "svc", Region: map[string]string{
			faas.AWSLambda: "us-east-1", faas.GCPFunctions: "us-central1", faas.AzureFunctions: "eastus"}[provider],
		HTTPClient: &http.Client{Transport: transport},
	}
	memory := uint32(512)
	switch provider {
	case faas.AWSLambda:
		t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
		t.Setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
		t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
		cfg.Options = map[string]string{"role_arn": "arn:aws:iam::123456789012:role/r"}
	case faas.GCPFunctions:
		cfg.ProjectID, cfg.Options = "test-project", map[string]string{"disable_credentials": "true"}
	case faas.AzureFunctions:
		cfg.SubscriptionID = "00000000-0000-0000-0000-000000000000"
	case faas.Custom:
		cfg.Endpoint = "https://faas.example"
	}
	var exec faas.Executor
	var err error
	if provider == faas.AzureFunctions {
		exec, err = azure.New(t.Context(), cfg, azure.WithCredential(token{}))
	} else {
		exec, err = faas.Open(t.Context(), cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	bin := &faas.Binary{Path: "job", Executable: true, Format: faas.FormatELF, OS: "linux", Arch: faas.AMD64,
		Static: true, Size: 1 << 20, Protocols: faas.SpeaksAll}
	units, err := exec.Units(bin, []faas.Function{{JobID: 0, MemoryMB: memory, TimeoutSecs: 60}})
	if err != nil {
		t.Fatal(err)
	}
	return exec, units[0].ID
}

// token is a credential for Azure.
type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(24 * time.Hour)}, nil
}

// fault is what a provider answers, and the error that a read must return for it.
type fault struct {
	status   int
	code     string
	text     string
	header   http.Header
	want     faas.Code
	repeated bool
	either   bool   // whether it is repeated is left to the provider
	remedy   string // is in the error
	after    time.Duration
}

var bare = []fault{
	{status: 400, want: faas.ErrInvalidArgument},
	{status: 401, want: faas.ErrPermissionDenied, either: true}, // with a new token
	{status: 403, want: faas.ErrPermissionDenied},
	{status: 404, want: faas.ErrNotFound},
	{status: 407, want: faas.ErrPermissionDenied},
	{status: 408, want: faas.ErrUnavailable, either: true}, // as the client of the cloud has it
	{status: 409, want: faas.ErrConflict, either: true},    // that of another change may pass
	{status: 410, want: faas.ErrNotFound},
	{status: 412, want: faas.ErrConflict},
	{status: 413, want: faas.ErrTooLarge},
	{status: 414, want: faas.ErrTooLarge},
	{status: 418, want: faas.ErrInvalidArgument},
	{status: 422, want: faas.ErrInvalidArgument},
	{status: 429, header: http.Header{"Retry-After": {"7"}}, want: faas.ErrThrottled, either: true,
		after: 7 * time.Second},
	{status: 431, want: faas.ErrTooLarge},
	{status: 501, want: faas.ErrUnsupported},
	{status: 502, want: faas.ErrUnavailable, repeated: true},
	{status: 503, want: faas.ErrUnavailable, repeated: true},
	{status: 504, want: faas.ErrUnavailable, repeated: true},
}

func TestAnAnswerMeansTheSameOnEveryProvider(t *testing.T) {
	for _, provider := range faas.Names() {
		for _, f := range bare {
			f.text = "no"
			t.Run(fmt.Sprintf("%s/%d", provider, f.status), func(t *testing.T) { f.check(t, provider) })
		}
	}
}

// said are refusals, in the providers' own words, that the status does not distinguish.
var said = map[string][]fault{
	faas.AWSLambda: {
		{status: 400, code: "InvalidParameterValueException",
			text: "Your request has been throttled by EC2, please make sure you have enough API rate limit.",
			want: faas.ErrThrottled, either: true},
		{status: 400, code: "InvalidParameterValueException",
			text: "The role defined for the function cannot be assumed by Lambda.", want: faas.ErrPermissionDenied},
		{status: 400, code: "InvalidParameterValueException",
			text: "The provided execution role does not have permissions to call CreateNetworkInterface on EC2",
			want: faas.ErrPermissionDenied},
		{status: 400, code: "InvalidParameterValueException",
			text: "Lambda was unable to configure access to your environment variables because the KMS key is invalid for " +
				"CreateGrant.", want: faas.ErrPermissionDenied},
		{status: 400, code: "CodeStorageExceededException", text: "Code storage limit exceeded.", want: faas.ErrTooLarge},
		{status: 403, code: "ExpiredTokenException", text: "The security token included in the request is expired",
			want: faas.ErrPermissionDenied},
		{status: 502, code: "KMSAccessDeniedException",
			text: "Lambda was unable to decrypt the environment variables because KMS access was denied.",
			want: faas.ErrPermissionDenied, either: true},
		{status: 409, code: "ResourceConflictException",
			text: "The operation cannot be performed at this time. An update is in progress for resource",
			want: faas.ErrConflict},
	},
	faas.GCPFunctions: {
		{status: 403, code: "PERMISSION_DENIED", text: "Permission 'cloudfunctions.functions.get' denied on resource 'x' " +
			"(or resource may not exist).", want: faas.ErrPermissionDenied, remedy: "roles/cloudfunctions"},
		{status: 403, code: "PERMISSION_DENIED", text: "Something at example.iam.gserviceaccount.com went wrong",
			want: faas.ErrPermissionDenied},
		{status: 400, code: "FAILED_PRECONDITION", text: "The request has violated one or more Org Policies. Please " +
			"refer to constraints/cloudfunctions.allowedIngressSettings", want: faas.ErrPermissionDenied},
		{status: 400, code: "FAILED_PRECONDITION", text: "Resource is not ready, try again", want: faas.ErrConflict},
		{status: 429, code: "RESOURCE_EXHAUSTED", text: "Quota exceeded for quota metric 'Read requests' and limit 'Read " +
			"requests per minute'", want: faas.ErrThrottled, either: true},
		{status: 429, code: "RESOURCE_EXHAUSTED", text: "Quota exceeded for total allowable CPU per project per region.",
			want: faas.ErrTooLarge, remedy: "quota"},
		{status: 409, code: "ABORTED", text: "unable to queue the operation", want: faas.ErrConflict},
		{status: 409, code: "ALREADY_EXISTS", text: "A Cloud Run service with this name already exists.",
			want: faas.ErrConflict},
		{status: 501, code: "UNIMPLEMENTED", text: "Operation is not implemented", want: faas.ErrUnsupported},
	},
	faas.AzureFunctions: {
		{status: 401, code: "Unauthorized", text: "This region has quota of 0 instances for your subscription.",
			want: faas.ErrTooLarge, remedy: "quota"},
		{status: 409, code: "Conflict", text: "The maximum number of ServerFarms allowed in a FlexConsumption is 250.",
			want: faas.ErrTooLarge, remedy: "quota"},
		{status: 409, code: "ScopeLocked", text: "The scope cannot perform delete operation because following scope(s) " +
			"are locked.", want: faas.ErrPermissionDenied, remedy: "lock"},
		{status: 403, code: "RequestDisallowedByPolicy",
			text: "Resource was disallowed by policy: shared key access should be prevented.", want: faas.ErrPermissionDenied,
			remedy: "storage_auth=identity"},
		{status: 404, code: "SubscriptionNotFound", text: "The subscription could not be found.",
			want: faas.ErrInvalidArgument},
		{status: 400, code: "BadRequest", text: "Encountered an error (ServiceUnavailable) from host runtime.",
			want: faas.ErrUnavailable, either: true},
		{status: 409, code: "AnotherOperationInProgress", text: "Another operation is in progress.", want: faas.ErrConflict,
			either: true},
	},
	faas.Custom: {
		{status: 503, code: "UNAVAILABLE", text: "draining", header: http.Header{"Retry-After": {"3"}},
			want: faas.ErrUnavailable, repeated: true, after: 3 * time.Second},
		{status: 307, text: "elsewhere", want: faas.ErrInvalidArgument},
	},
}

func TestRefusalsAreToldApartByTheProvidersWords(t *testing.T) {
	for provider, faults := range said {
		for i, f := range faults {
			t.Run(fmt.Sprintf("%s/%d %d %s", provider, i, f.status, f.code), func(t *testing.T) { f.check(t, provider) })
		}
	}
}

// check makes the provider read while every answer is the fault, on a fake clock.
func (f fault) check(t *testing.T, provider string) {
	transport := &refusing{provider: provider, status: f.status, code: f.code, text: f.text, header: f.header}
	var (
		err error
		ctx context.Context
	)
	exec, id := open(t, provider, transport)
	synctest.Test(t, func(t *testing.T) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		_, err = exec.Observe(ctx, id)
	})
	if cerr := exec.Close(); cerr != nil {
		t.Error(cerr)
	}
	var failed *faas.Error
	if code := faas.CodeOf(err); code != f.want {
		t.Errorf("code %q, want %q: %v", code, f.want, err)
	}
	if repeated := transport.calls > 1; repeated != f.repeated && !f.either {
		t.Errorf("%d requests, want it repeated: %t: %v", transport.calls, f.repeated, err)
	}
	if err != nil && f.remedy != "" && !strings.Contains(err.Error(), f.remedy) {
		t.Errorf("the error does not say %q: %v", f.remedy, err)
	}
	if failed = asError(err); f.after > 0 && (failed == nil || failed.RetryAfter != f.after) {
		t.Errorf("it does not say that the provider asked to wait %v: %#v", f.after, failed)
	}
}

func asError(err error) *faas.Error {
	var failed *faas.Error
	errors.As(err, &failed)
	return failed
}
