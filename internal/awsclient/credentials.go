package awsclient

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
)

// CredentialsError says that there are no credentials: that none were found, and how to give some, or
// that the place where they come from gives none at the moment. Nothing was sent then.
type CredentialsError struct{ Err error }

// Missing reports whether no place has credentials. The SDK asks the machine's metadata last, so that
// a failure there means that.
func (e *CredentialsError) Missing() bool {
	var operation *smithy.OperationError
	return errors.As(e.Err, &operation) && operation.Service() == "ec2imds"
}

// SignIn returns the command that signs in again, if the sign-in that the configuration names has
// expired or is missing, else "".
func (e *CredentialsError) SignIn() string {
	var session *ssocreds.InvalidTokenError
	if errors.As(e.Err, &session) || errors.Is(e.Err, fs.ErrNotExist) && contains(e.Err, "SSO token") {
		return ssoLogin
	}
	service := ""
	if operation := new(smithy.OperationError); errors.As(e.Err, &operation) {
		service = operation.Service()
	}
	switch refused := APICode(e.Err) != "" && Status(e.Err) < http.StatusInternalServerError; {
	case service == "SSO OIDC" && refused && APICode(e.Err) != "SlowDownException",
		service == "SSO" && Status(e.Err) == http.StatusUnauthorized:
		return ssoLogin
	case service == "Signin" && refused && Status(e.Err) != http.StatusTooManyRequests:
		return "aws login"
	// The SDK has no types for these.
	case service == "" && contains(e.Err, "SSO token is expired"):
		return ssoLogin
	case service == "" && contains(e.Err, "login token"):
		return "aws login"
	}
	return ""
}

const ssoLogin = "aws sso login"

func contains(err error, text string) bool { return strings.Contains(err.Error(), text) }

func (e *CredentialsError) Error() string {
	switch command := e.SignIn(); {
	case command != "":
		return fmt.Sprintf("the sign-in has expired, or there was none: sign in again with `%s` (%v)", command, e.Err)
	case !e.Missing():
		return fmt.Sprintf("the AWS credentials could not be fetched (%v)", e.Err)
	}
	return fmt.Sprintf("no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "+
		"or sign in with `%s`, or give the machine a role (%v)", ssoLogin, e.Err)
}

// Unwrap returns what the place that was asked last said.
func (e *CredentialsError) Unwrap() error { return e.Err }

// explained makes failures to find credentials *CredentialsError, which the SDK's chain reports as
// failures of the last place it looked at. That the context has ended is no such failure.
type explained struct{ aws.CredentialsProvider }

// Retrieve implements aws.CredentialsProvider.
func (c explained) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := c.CredentialsProvider.Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		return found, &CredentialsError{err}
	}
	return found, err
}
