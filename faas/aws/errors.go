//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/awssign"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
)

// Lambda's error codes that more than one place acts on.
const (
	codeNotFound     = "ResourceNotFoundException"
	codeConflict     = "ResourceConflictException"
	codePrecondition = "PreconditionFailedException"
	codeInvalid      = "InvalidParameterValueException"
)

// codes sorts the error codes of the services that this package calls.
var codes = map[string]faas.Code{
	codeNotFound: faas.ErrNotFound, "NoSuchEntity": faas.ErrNotFound, "NoSuchKey": faas.ErrNotFound, "NoSuchBucket": faas.ErrNotFound,
	"ProvisionedConcurrencyConfigNotFoundException": faas.ErrNotFound,

	codeConflict: faas.ErrConflict, codePrecondition: faas.ErrConflict, "OperationAbortedException": faas.ErrConflict, "ResourceInUseException": faas.ErrConflict,
	"DeleteConflict": faas.ErrConflict, "ConcurrentModification": faas.ErrConflict, "OperationAborted": faas.ErrConflict,

	"EntityAlreadyExists": faas.ErrAlreadyExists, "BucketAlreadyOwnedByYou": faas.ErrAlreadyExists, "BucketAlreadyExists": faas.ErrAlreadyExists,

	"TooManyRequestsException": faas.ErrThrottled, "ThrottlingException": faas.ErrThrottled, "Throttling": faas.ErrThrottled, "SlowDown": faas.ErrThrottled,
	"RequestLimitExceeded": faas.ErrThrottled, "EC2ThrottledException": faas.ErrThrottled,

	"RequestTooLargeException": faas.ErrTooLarge, "RequestEntityTooLargeException": faas.ErrTooLarge, "CodeStorageExceededException": faas.ErrTooLarge,
	"SerializedRequestEntityTooLargeException": faas.ErrTooLarge, "LimitExceeded": faas.ErrTooLarge, "TooManyBuckets": faas.ErrTooLarge, "EntityTooLarge": faas.ErrTooLarge, "PolicyLengthExceededException": faas.ErrTooLarge,

	codeInvalid: faas.ErrInvalidArgument, "ValidationException": faas.ErrInvalidArgument, "SerializationException": faas.ErrInvalidArgument,
	"InvalidZipFileException": faas.ErrInvalidArgument, "InvalidRuntimeException": faas.ErrInvalidArgument, "MalformedPolicyDocument": faas.ErrInvalidArgument,
	"InvalidRequestContentException": faas.ErrInvalidArgument, "UnsupportedMediaTypeException": faas.ErrInvalidArgument,
	"InvalidSubnetIDException": faas.ErrInvalidArgument, "InvalidSecurityGroupIDException": faas.ErrInvalidArgument,
	"InvalidCodeSignatureException": faas.ErrInvalidArgument, "CodeVerificationFailedException": faas.ErrInvalidArgument,
	"KMSNotFoundException": faas.ErrInvalidArgument, "KMSDisabledException": faas.ErrInvalidArgument, "KMSInvalidStateException": faas.ErrInvalidArgument,

	"AccessDeniedException": faas.ErrPermissionDenied, "AccessDenied": faas.ErrPermissionDenied, "UnrecognizedClientException": faas.ErrPermissionDenied,
	"InvalidClientTokenId": faas.ErrPermissionDenied, "ExpiredTokenException": faas.ErrPermissionDenied, "ExpiredToken": faas.ErrPermissionDenied,
	"InvalidSignatureException": faas.ErrPermissionDenied, "SignatureDoesNotMatch": faas.ErrPermissionDenied, "InvalidAccessKeyId": faas.ErrPermissionDenied,
	"MissingAuthenticationTokenException": faas.ErrPermissionDenied, "MissingAuthenticationToken": faas.ErrPermissionDenied, "OptInRequired": faas.ErrPermissionDenied,
	"IncompleteSignature": faas.ErrPermissionDenied, "KMSAccessDeniedException": faas.ErrPermissionDenied, "EC2AccessDeniedException": faas.ErrPermissionDenied,
}

// neverStarted are the errors of Invoke with a status of 500 or more that say that the function was not started.
var neverStarted = map[string]bool{
	"ResourceNotReadyException": true, "EC2ThrottledException": true, "EC2UnexpectedException": true, "EC2AccessDeniedException": true,
	"ENILimitReachedException": true, "SubnetIPAddressLimitReachedException": true, "InvalidSubnetIDException": true, "InvalidSecurityGroupIDException": true,
	"KMSAccessDeniedException": true, "KMSDisabledException": true, "KMSInvalidStateException": true, "KMSNotFoundException": true,
	"InvalidRuntimeException": true, "InvalidZipFileException": true,
}

// classify makes the *faas.Error of an error of the SDK. An error that already is one is returned as it is.
func classify(op string, jobID int64, err error) *faas.Error {
	var known *faas.Error
	if errors.As(err, &known) {
		return known
	}
	e := &faas.Error{Op: op, Provider: faas.AWSLambda, JobID: jobID, Code: faas.ErrInternal, Err: err}
	var (
		api         smithy.APIError
		response    interface{ HTTPStatusCode() int }
		throttled   *types.TooManyRequestsException
		credentials *awssign.CredentialsError
		network     net.Error
	)
	status := 0
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	switch {
	case errors.As(err, &credentials):
		e.Code = faas.ErrPermissionDenied
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Code = faas.ErrTimeout
	case errors.As(err, &api):
		e.Code = codeOfAPI(api, status)
		if errors.As(err, &throttled) && throttled.RetryAfterSeconds != nil {
			if secs, perr := strconv.ParseFloat(*throttled.RetryAfterSeconds, 64); perr == nil && secs > 0 && secs < 3600 {
				e.RetryAfter = time.Duration(secs * float64(time.Second))
			}
		}
	case status != 0:
		e.Code = codeOfStatus(status)
	case errors.As(err, &network):
		e.Code = faas.ErrUnavailable
	default:
		var send *smithy.OperationError
		if errors.As(err, &send) {
			e.Code = faas.ErrUnavailable // no answer came: the connection broke
		}
	}
	return e
}

// ofJob names the job in an error that names none.
func ofJob(err *faas.Error, jobID int64) *faas.Error {
	if err.JobID != faas.NoJob || jobID == faas.NoJob {
		return err
	}
	named := *err
	named.JobID = jobID
	return &named
}

func codeOfAPI(api smithy.APIError, status int) faas.Code {
	if roleNotReady(api) {
		return faas.ErrPermissionDenied
	}
	if code, ok := codes[api.ErrorCode()]; ok {
		return code
	}
	return codeOfStatus(status)
}

func codeOfStatus(status int) faas.Code {
	switch {
	case status == 400 || status == 415:
		return faas.ErrInvalidArgument
	case status == 401 || status == 403:
		return faas.ErrPermissionDenied
	case status == 404:
		return faas.ErrNotFound
	case status == 409 || status == 412:
		return faas.ErrConflict
	case status == 413:
		return faas.ErrTooLarge
	case status == 429:
		return faas.ErrThrottled
	case status >= 500:
		return faas.ErrUnavailable
	}
	return faas.ErrInternal
}

// apiCode returns the service's own code of an error, empty where it has none.
func apiCode(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// isNotFound and isConflict go by what classify makes of an error, since servers that speak Lambda's protocol differ in how exactly they name codes. A
// conflict is another change in progress, or a thing that exists; not a revision that has passed.
func isNotFound(err error) bool { return codeOf(err) == faas.ErrNotFound }
func isConflict(err error) bool { return codeOf(err) == faas.ErrConflict && !isOutdated(err) }

// isOutdated reports whether a change was refused because the function is no longer what it was when it was read.
func isOutdated(err error) bool {
	var response interface{ HTTPStatusCode() int }
	return apiCode(err) == codePrecondition || (errors.As(err, &response) && response.HTTPStatusCode() == http.StatusPreconditionFailed)
}

// codeOf is the code of an SDK error, empty for nil.
func codeOf(err error) faas.Code {
	if err == nil {
		return ""
	}
	return classify("", faas.NoJob, err).Code
}

// transient reports whether a read that failed with err may succeed when it is repeated.
func transient(err error) bool {
	switch classify("", faas.NoJob, err).Code {
	case faas.ErrThrottled, faas.ErrUnavailable:
		return true
	}
	return false
}

// roleNotReady reports whether the error is Lambda's for a role that does not exist, that it may not assume, or that is too new to be known everywhere.
// The code alone does not tell: Lambda has one for all bad parameters.
func roleNotReady(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != codeInvalid {
		return false
	}
	for _, text := range []string{
		"cannot be assumed by Lambda", "The provided execution role does not have permissions", "the KMS key is invalid for CreateGrant",
	} {
		if strings.Contains(api.ErrorMessage(), text) {
			return true
		}
	}
	return false
}

// withoutValues hides the values of an environment in an error's text: Lambda quotes some of what it refuses, and functions log what they like. The SDK's
// own error stays reachable.
func withoutValues(err *faas.Error, env map[string]string) *faas.Error {
	hider := foreign.Hider(slices.Collect(maps.Values(env))...)
	kept := *err
	var failed *faas.FunctionError
	if errors.As(err.Err, &failed) {
		hidden := *failed
		hidden.Type, hidden.Message, hidden.LogTail = hider.Replace(failed.Type), hider.Replace(failed.Message), hider.Replace(failed.LogTail)
		kept.Err = &hidden
		return &kept
	}
	text := err.Err.Error()
	hidden := hider.Replace(text)
	if hidden == text {
		return err
	}
	kept.Err = &hiddenError{text: hidden, cause: err.Err}
	return &kept
}

type hiddenError struct {
	text  string
	cause error
}

func (e *hiddenError) Error() string { return e.text }
func (e *hiddenError) Unwrap() error { return e.cause }

// logger logs where there is a logger.
type logger struct{ *slog.Logger }

func (l logger) warn(msg string, args ...any) {
	if l.Logger != nil {
		l.Warn("aws-lambda: "+msg, args...)
	}
}
