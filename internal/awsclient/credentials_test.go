package awsclient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// refused returns an error as the SDK's client makes it from an answer.
func refused(service string, status int, code string) error {
	return &smithy.OperationError{ServiceID: service, OperationName: "Op", Err: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
		Err:      &smithy.GenericAPIError{Code: code},
	}}
}

func TestWhatToSignInWith(t *testing.T) {
	t.Parallel()
	lost := &smithy.OperationError{ServiceID: "SSO OIDC",
		Err: &smithyhttp.RequestSendError{Err: &net.OpError{Op: "dial", Err: errors.New("no route")}}}
	for name, tt := range map[string]struct {
		err  error
		want string // the command
		text string
	}{
		"a sign-in of the old kind": {&ssocreds.InvalidTokenError{}, "aws sso login", "sign in again"},
		"no sign-in": {fmt.Errorf("failed to read cached SSO token file, %w",
			&fs.PathError{Op: "open", Err: fs.ErrNotExist}), "aws sso login", "sign in again"},
		"one that cannot be refreshed": {errors.New(
			"refresh cached SSO token failed, cached SSO token is expired, or not present, and cannot be refreshed"),
			"aws sso login", "sign in again"},
		"one that may not be refreshed": {fmt.Errorf(
			"unable to refresh SSO token, %w", refused("SSO OIDC", 400, "InvalidGrantException")), "aws sso login",
			"sign in again"},
		"one whose session has ended": {refused("SSO", 401, "UnauthorizedException"), "aws sso login",
			"sign in again"},
		"no sign-in at the console": {errors.New("load login token: open x: no such file"), "aws login",
			"sign in again"},
		"an ended one at the console": {refused("Signin", 400, "AccessDeniedException"), "aws login",
			"sign in again"},
		"a busy place": {refused("SSO OIDC", 400, "SlowDownException"), "", "could not be fetched"},
		"a place that is down": {refused("SSO OIDC", 500, "InternalServerException"), "",
			"could not be fetched"},
		"a role that may not be had": {refused("SSO", 403, "ForbiddenException"), "", "could not be fetched"},
		"a place that is not reached": {fmt.Errorf("unable to refresh SSO token, %w", lost), "",
			"could not be fetched"},
		"a role that may not be assumed": {refused("STS", 403, "AccessDenied"), "", "could not be fetched"},
		"no place that has any, the last one": {&smithy.OperationError{ServiceID: "ec2imds", Err: errors.New("status 404")},
			"", "no AWS credentials were found"},
	} {
		_, err := explained{aws.CredentialsProviderFunc(
			func(context.Context) (aws.Credentials, error) { return aws.Credentials{}, tt.err })}.Retrieve(t.Context())
		var e *CredentialsError
		if !errors.As(err, &e) || e.SignIn() != tt.want || !strings.Contains(err.Error(), tt.text) ||
			!errors.Is(err, tt.err) {
			t.Errorf("%s: %v, %q; want %q", name, err, e.SignIn(), tt.want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := explained{aws.CredentialsProviderFunc(
		func(ctx context.Context) (aws.Credentials, error) { return aws.Credentials{}, ctx.Err() })}.Retrieve(ctx)
	if errors.As(err, new(*CredentialsError)) || !httputil.IsEnded(err) {
		t.Errorf("cancelled: %v", err)
	}
}
