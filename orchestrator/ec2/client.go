package ec2

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/awsclient"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
)

// client calls the services that a runner needs.
type client struct {
	ec2  *ec2.Client
	s3   *s3.Client
	ssm  *ssm.Client
	pace pace
}

// usualAttempts is how often a request is sent unless AWS_MAX_ATTEMPTS or the profile says
// otherwise. A launch may need a while to pass EC2's throttling, and starting over costs more.
const usualAttempts = 5

func newClient(cfg aws.Config) *client {
	if cfg.RetryMaxAttempts == 0 {
		cfg.RetryMaxAttempts = usualAttempts
	}
	return &client{
		ec2: ec2.NewFromConfig(cfg),
		s3:  s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true }), // a bucket's name may have dots
		ssm: ssm.NewFromConfig(cfg), pace: usualPace,
	}
}

// pause waits for d, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// launching is the retryer of a launch. It notes whether an attempt was not answered, because that
// attempt may have launched a machine whatever a later one returns. It does not repeat what can
// only succeed another day.
type launching struct {
	aws.Retryer
	lost *atomic.Bool
}

func (l launching) IsErrorRetryable(err error) bool {
	if unanswered(err) {
		l.lost.Store(true)
	}
	return awsclient.APICode(err) != codeNoCapacity && l.Retryer.IsErrorRetryable(err)
}

// unanswered reports whether a request that failed may have had its effect.
func unanswered(err error) bool {
	var credentials *awsclient.CredentialsError
	switch status := awsclient.Status(err); {
	case errors.As(err, &credentials):
		return false
	case status != 0:
		return status >= http.StatusInternalServerError && !throttled(err) && awsclient.APICode(err) != codeNoCapacity
	}
	return true
}

func throttled(err error) bool {
	switch awsclient.APICode(err) {
	case "RequestLimitExceeded", "Throttling", "ThrottlingException", "SlowDown", "RequestThrottled":
		return true
	}
	return awsclient.Status(err) == http.StatusTooManyRequests
}

const (
	codeNotFound   = "InvalidInstanceID.NotFound"
	codeNoCapacity = "InsufficientInstanceCapacity"
)

// codeOf classifies a failure.
func codeOf(err error) faas.Code {
	var known *faas.Error
	if errors.As(err, &known) {
		return known.Code
	}
	if httputil.IsEnded(err) {
		return faas.ErrTimeout
	}
	var credentials *awsclient.CredentialsError
	status := awsclient.Status(err)
	switch awsclient.APICode(err) {
	case codeNotFound, "NoSuchBucket", "NoSuchKey", "ParameterNotFound":
		return faas.ErrNotFound
	case "IdempotentParameterMismatch", "IncorrectInstanceState", "OperationNotPermitted":
		return faas.ErrConflict
	case codeNoCapacity:
		return faas.ErrUnavailable
	case "InstanceLimitExceeded", "VcpuLimitExceeded", "MaxSpotInstanceCountExceeded":
		return faas.ErrTooLarge // the account's quota, which waiting does not raise
	case "UnauthorizedOperation", "AuthFailure", "OptInRequired", "AccessDenied", "AccessDeniedException",
		"SignatureDoesNotMatch", "ExpiredToken", "RequestExpired":
		return faas.ErrPermissionDenied
	}
	switch {
	case throttled(err):
		return faas.ErrThrottled
	case errors.As(err, &credentials) && credentials.Missing():
		return faas.ErrPermissionDenied
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusProxyAuthRequired:
		return faas.ErrPermissionDenied
	case status == http.StatusNotFound:
		return faas.ErrNotFound
	case status >= http.StatusInternalServerError || status == http.StatusRequestTimeout:
		return faas.ErrUnavailable
	case status != 0:
		return faas.ErrInvalidArgument
	case credentials != nil && !awsclient.Unanswered(err):
		return faas.ErrPermissionDenied // the sign-in has expired, or a program for credentials failed
	}
	return faas.ErrUnavailable // no answer came
}

// passes reports whether a failed look may succeed later.
func passes(err error) bool {
	code := codeOf(err)
	return code == faas.ErrUnavailable || code == faas.ErrThrottled
}

// fail returns a failure as a *faas.Error.
func fail(op string, err error) *faas.Error {
	var known *faas.Error
	if errors.As(err, &known) {
		return known
	}
	return &faas.Error{Op: op, JobID: faas.NoJob, Code: codeOf(err), Err: err}
}
