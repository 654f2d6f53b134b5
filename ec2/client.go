package ec2

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/awssign"
)

// client signs and sends the few requests that are needed.
type client struct {
	aws    aws.Config
	region string
	pace   pace
}

const maxAttempts = 5

// send signs and sends a request that is safe to repeat until it is answered, and returns the answer's body. A failure that the service describes is an
// *awssign.Error.
func (c *client) send(ctx context.Context, to awssign.Service, r awssign.Request) ([]byte, error) {
	sender := awssign.Client{Config: c.aws}
	lost := false
	wait := c.pace.retry
	for attempt := 1; ; attempt++ {
		body, err := sender.Send(ctx, to, r)
		if err == nil {
			return body, nil
		}
		var (
			api         *awssign.Error
			credentials *awssign.CredentialsError
		)
		answered, unsent := errors.As(err, &api), errors.As(err, &credentials)
		lost = lost || !answered && !unsent || answered && api.Status >= http.StatusInternalServerError && !throttled(api)
		if attempt == maxAttempts || ctx.Err() != nil || answered && !transient(api) || unsent {
			return nil, &callError{action: r.Operation, lost: lost, err: err}
		}
		if pause(ctx, wait) != nil {
			return nil, &callError{action: r.Operation, lost: lost, err: err}
		}
		wait *= 2
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

// presign returns a URL with which anyone can fetch the object for some time.
func (c *client) presign(ctx context.Context, path string, valid time.Duration) (string, error) {
	sender := awssign.Client{Config: c.aws}
	return sender.Presign(ctx, c.s3(), path, valid)
}

func (c *client) s3() awssign.Service { return awssign.Regional("S3", "s3", c.region) }

// callError is the failure of an action.
type callError struct {
	action string
	lost   bool // an attempt was not answered, and may have had its effect
	err    error
}

func (e *callError) Error() string { return e.action + ": " + e.err.Error() }
func (e *callError) Unwrap() error { return e.err }

func throttled(e *awssign.Error) bool {
	switch e.Code {
	case "RequestLimitExceeded", "Throttling", "ThrottlingException", "SlowDown", "RequestThrottled":
		return true
	}
	return e.Status == http.StatusTooManyRequests
}

func transient(e *awssign.Error) bool {
	return throttled(e) || e.Status >= http.StatusInternalServerError && e.Code != codeNoCapacity
}

const (
	codeNotFound   = "InvalidInstanceID.NotFound"
	codeNoCapacity = "InsufficientInstanceCapacity"
)

// codeOf sorts a failure.
func codeOf(err error) faas.Code {
	var known *faas.Error
	var api *awssign.Error
	var credentials *awssign.CredentialsError
	switch {
	case errors.As(err, &known):
		return known.Code
	case errors.As(err, &credentials):
		return faas.ErrPermissionDenied
	case errors.As(err, &api):
		return sort(api)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return faas.ErrTimeout
	}
	return faas.ErrUnavailable // no answer came
}

func sort(e *awssign.Error) faas.Code {
	switch e.Code {
	case codeNotFound, "NoSuchBucket", "NoSuchKey", "ParameterNotFound":
		return faas.ErrNotFound
	case "IdempotentParameterMismatch", "IncorrectInstanceState", "OperationNotPermitted":
		return faas.ErrConflict
	case codeNoCapacity, "InstanceLimitExceeded", "VcpuLimitExceeded":
		return faas.ErrUnavailable
	case "UnauthorizedOperation", "AuthFailure", "OptInRequired", "AccessDenied", "AccessDeniedException", "SignatureDoesNotMatch", "ExpiredToken":
		return faas.ErrPermissionDenied
	}
	switch {
	case throttled(e):
		return faas.ErrThrottled
	case e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden:
		return faas.ErrPermissionDenied
	case e.Status == http.StatusNotFound:
		return faas.ErrNotFound
	case e.Status >= http.StatusInternalServerError:
		return faas.ErrUnavailable
	}
	return faas.ErrInvalidArgument
}

// fail makes the *faas.Error of a failure.
func fail(op string, err error) *faas.Error {
	var known *faas.Error
	if errors.As(err, &known) {
		return known
	}
	return &faas.Error{Op: op, JobID: faas.NoJob, Code: codeOf(err), Err: err}
}
