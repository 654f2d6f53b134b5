package awsclient

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
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

// Unanswered reports whether the place that has credentials gave no answer.
func (e *CredentialsError) Unanswered() bool {
	var unsent *smithyhttp.RequestSendError
	var network net.Error
	return errors.As(e.Err, &unsent) || errors.As(e.Err, &network)
}

func (e *CredentialsError) Error() string {
	var session *ssocreds.InvalidTokenError
	switch {
	case errors.As(e.Err, &session):
		return fmt.Sprintf("the sign-in at IAM Identity Center has expired: sign in again with `aws sso login` (%v)", e.Err)
	case !e.Missing():
		return fmt.Sprintf("the AWS credentials could not be fetched (%v)", e.Err)
	}
	return fmt.Sprintf("no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "+
		"or sign in with `aws sso login`, or give the machine a role (%v)", e.Err)
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
