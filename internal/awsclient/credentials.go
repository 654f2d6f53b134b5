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

// CredentialsError says that there are no credentials. Either none were found, and the text says
// how to provide some, or their source fails at the moment. No request was sent.
type CredentialsError struct{ Err error }

// Missing reports whether no source has credentials. The SDK asks the machine's metadata service
// last, so a failure there means that.
func (e *CredentialsError) Missing() bool {
	var operation *smithy.OperationError
	return errors.As(e.Err, &operation) && operation.Service() == "ec2imds"
}

// SignIn returns the command that signs in again if the configured sign-in has expired or is
// missing, and "" otherwise.
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
	// The SDK has no types for these errors.
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

// Unwrap returns the error of the last source.
func (e *CredentialsError) Unwrap() error { return e.Err }

// explained turns a failure to find credentials into a *CredentialsError. The SDK's chain reports
// it as a failure of the last source. An ended context is not such a failure.
type explained struct{ aws.CredentialsProvider }

// Retrieve implements aws.CredentialsProvider.
func (c explained) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := c.CredentialsProvider.Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		return found, &CredentialsError{err}
	}
	return found, err
}
