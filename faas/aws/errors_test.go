//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/awsclient"
)

// slow is the timeout of a network, which claims to be a deadline.
type slow struct{}

func (slow) Error() string   { return "i/o timeout" }
func (slow) Timeout() bool   { return true }
func (slow) Temporary() bool { return true }
func (slow) Is(err error) bool {
	return err == context.DeadlineExceeded
}

// sdkError returns the error that the SDK makes of an answer.
func sdkError(status int, code string) error {
	return &smithy.OperationError{Err: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status, Header: http.Header{}}},
		Err:      &smithy.GenericAPIError{Code: code},
	}}
}

func TestErrorsAreClassedByTheirCause(t *testing.T) {
	t.Parallel()
	status := func(n int) error { return sdkError(n, fmt.Sprint("Status", n)) }
	lost := &awsclient.CredentialsError{Err: errors.New("no EC2 IMDS role found")}
	for _, test := range []struct {
		name string
		err  error
		want faas.Code
	}{
		{"a proxy that wants a password", status(407), faas.ErrPermissionDenied},
		{"a request that took too long", status(408), faas.ErrUnavailable},
		{"gone", status(410), faas.ErrNotFound},
		{"an address that is too long", status(414), faas.ErrTooLarge},
		{"headers that are too long", status(431), faas.ErrTooLarge},
		{"a timeout of the network", &smithy.OperationError{
			Err: &url.Error{Op: "Get", Err: &net.OpError{Op: "read", Err: slow{}}}}, faas.ErrUnavailable},
		{"the caller's deadline", &smithy.OperationError{Err: &url.Error{Op: "Get", Err: context.DeadlineExceeded}},
			faas.ErrTimeout},
		{"a wait that ended", &kit.WaitError{Ended: context.Canceled, Last: faas.Errorf(faas.ErrConflict, "x", "y", "busy")},
			faas.ErrTimeout},
		{"no credentials", lost, faas.ErrPermissionDenied},
		{"credentials that are throttled", &awsclient.CredentialsError{Err: sdkError(400, "Throttling")}, faas.ErrThrottled},
		{"credentials that are not available", &awsclient.CredentialsError{Err: status(503)}, faas.ErrUnavailable},
		{"credentials that a proxy is before", &awsclient.CredentialsError{Err: &net.OpError{Op: "dial", Err: slow{}}},
			faas.ErrUnavailable},
		{"credentials whose host has no address", &awsclient.CredentialsError{
			Err: &net.DNSError{Name: "sts.example", IsNotFound: true}}, faas.ErrUnavailable},
		{"credentials that have expired", &awsclient.CredentialsError{Err: sdkError(401, "UnauthorizedException")},
			faas.ErrPermissionDenied},
	} {
		if got := classify("test", 0, test.err); got.Code != test.want {
			t.Errorf("%s is %s, want %s", test.name, got.Code, test.want)
		}
		if credentials := new(awsclient.CredentialsError); errors.As(test.err, &credentials) &&
			!notStarted(test.err, test.want) {
			t.Errorf("%s: the job may have run", test.name)
		}
	}
}

func TestTagsThatCannotBeReadSayWhy(t *testing.T) {
	t.Parallel()
	e := &Executor{service: "tags"}
	for code, want := range map[string]faas.Code{
		"AccessDeniedException": faas.ErrPermissionDenied, "ThrottlingException": faas.ErrThrottled,
		"InternalError": faas.ErrUnavailable, "SomethingNew": faas.ErrUnavailable,
		"ResourceNotFoundException": faas.ErrUnavailable,
	} {
		out := &lambda.GetFunctionOutput{TagsError: &types.TagsError{ErrorCode: &code, Message: aws.String("not today")}}
		if err := e.checkOwner(t.Context(), "test", "blueprint-tags-0", out); faas.CodeOf(err) != want {
			t.Errorf("%s: %v", code, err)
		}
	}
}

func TestTimesOfLambdaAreReadWithAnyFraction(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"2026-01-02T03:04:05.678+0000":    time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC),
		"2026-01-02T03:04:05.678901+0000": time.Date(2026, 1, 2, 3, 4, 5, 678901e3, time.UTC),
		"2026-01-02T03:04:05+0000":        time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"2026-01-02T03:04:05.6Z":          time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.UTC),
		"2026-01-02T04:04:05+01:00":       time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		"yesterday":                       {},
	} {
		if got := lambdaTime(text); !got.Equal(want) {
			t.Errorf("%s is %s", text, got)
		}
	}
}
