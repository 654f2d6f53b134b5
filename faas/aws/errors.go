//go:build !faas_only || faas_aws

package aws

import (
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/awsclient"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
)

// Lambda's error codes that more than one place acts on.
const (
	codeNotFound     = "ResourceNotFoundException"
	codeConflict     = "ResourceConflictException"
	codePrecondition = "PreconditionFailedException"
	codeInvalid      = "InvalidParameterValueException"
	codeNotReady     = "ResourceNotReadyException"
	codeStorageFull  = "CodeStorageExceededException"
	codeSealed       = "KMSAccessDeniedException" // Lambda cannot decrypt the environment
)

// codes sorts the error codes of the services that this package calls.
var codes = map[string]faas.Code{
	"RequestTimeout": faas.ErrUnavailable, "RequestTimeoutException": faas.ErrUnavailable, // the line stood still

	codeNotFound: faas.ErrNotFound, "NoSuchEntity": faas.ErrNotFound, "NoSuchKey": faas.ErrNotFound, "NoSuchBucket": faas.ErrNotFound,
	"ProvisionedConcurrencyConfigNotFoundException": faas.ErrNotFound,

	codeConflict: faas.ErrConflict, codePrecondition: faas.ErrConflict, "OperationAbortedException": faas.ErrConflict, "ResourceInUseException": faas.ErrConflict,
	"DeleteConflict": faas.ErrConflict, "ConcurrentModification": faas.ErrConflict, "OperationAborted": faas.ErrConflict,

	"EntityAlreadyExists": faas.ErrAlreadyExists, "BucketAlreadyOwnedByYou": faas.ErrAlreadyExists, "BucketAlreadyExists": faas.ErrAlreadyExists,

	"TooManyRequestsException": faas.ErrThrottled, "ThrottlingException": faas.ErrThrottled, "Throttling": faas.ErrThrottled, "SlowDown": faas.ErrThrottled,
	"RequestLimitExceeded": faas.ErrThrottled, "EC2ThrottledException": faas.ErrThrottled,

	"RequestTooLargeException": faas.ErrTooLarge, "RequestEntityTooLargeException": faas.ErrTooLarge, codeStorageFull: faas.ErrTooLarge,
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
	"RequestTimeTooSkewed": faas.ErrPermissionDenied,
	"IncompleteSignature":  faas.ErrPermissionDenied, "KMSAccessDeniedException": faas.ErrPermissionDenied, "EC2AccessDeniedException": faas.ErrPermissionDenied,
}

// neverStarted are the errors of Invoke with a status of 500 or more that say that the function was not started.
var neverStarted = map[string]bool{
	codeNotReady: true, "EC2ThrottledException": true, "EC2UnexpectedException": true, "EC2AccessDeniedException": true,
	"ENILimitReachedException": true, "SubnetIPAddressLimitReachedException": true, "InvalidSubnetIDException": true, "InvalidSecurityGroupIDException": true,
	"KMSAccessDeniedException": true, "KMSDisabledException": true, "KMSInvalidStateException": true, "KMSNotFoundException": true,
	"InvalidRuntimeException": true, "InvalidZipFileException": true,
}

// classify makes the *faas.Error of an error of the SDK. An error that already is one is returned as it is.
func classify(op string, jobID int64, err error) *faas.Error {
	if stopped, ok := err.(*interrupted); ok {
		var last *faas.Error
		unsettled := errors.As(stopped.last, &last) && last.Unsettled
		return &faas.Error{Op: op, Provider: faas.AWSLambda, JobID: jobID, Code: faas.ErrTimeout, Unsettled: unsettled, Err: stopped}
	}
	var known *faas.Error
	if errors.As(err, &known) {
		return known
	}
	e := &faas.Error{Op: op, Provider: faas.AWSLambda, JobID: jobID, Code: faas.ErrInternal, Err: err}
	var (
		api         smithy.APIError
		throttled   *types.TooManyRequestsException
		credentials *awsclient.CredentialsError
	)
	status := awsclient.Status(err)
	switch {
	case errors.As(err, &credentials):
		e.Code = faas.ErrPermissionDenied
		if !credentials.Missing() && credentials.SignIn() == "" { // the place that has them may be out of reach, or busy
			if cause := classify(op, jobID, credentials.Err); cause.Code == faas.ErrThrottled || cause.Code == faas.ErrUnavailable {
				e.Code, e.RetryAfter = cause.Code, cause.RetryAfter
			}
		}
	case awsclient.Ended(err):
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
	case awsclient.Unanswered(err):
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
	if cause := causeOf(api); cause != nil {
		return cause.code
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
	case status == 401 || status == 403 || status == 407: // 407 is a proxy's
		return faas.ErrPermissionDenied
	case status == 404 || status == 410:
		return faas.ErrNotFound
	case status == 409 || status == 412:
		return faas.ErrConflict
	case status == 413 || status == 414 || status == 431:
		return faas.ErrTooLarge
	case status == 429:
		return faas.ErrThrottled
	case status == 408 || status >= 500:
		return faas.ErrUnavailable
	}
	return faas.ErrInternal
}

func apiCode(err error) string { return awsclient.APICode(err) }

// isNotFound and isConflict go by what classify makes of an error, since servers that speak Lambda's protocol differ in how exactly they name codes. A
// conflict is another change in progress, or a thing that exists; not a revision that has passed.
func isNotFound(err error) bool { return codeOf(err) == faas.ErrNotFound }
func isConflict(err error) bool { return codeOf(err) == faas.ErrConflict && !isOutdated(err) }

// isOutdated reports whether a change was refused because the function is no longer what it was when it was read.
func isOutdated(err error) bool {
	return apiCode(err) == codePrecondition || awsclient.Status(err) == http.StatusPreconditionFailed
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

// inProgress reports whether a change was refused because of another one that is under way.
func inProgress(err error) bool {
	return isConflict(err) || apiCode(err) == codeNotReady || (apiCode(err) == codeInvalid && strings.Contains(err.Error(), textMovingAlias))
}

// textMovingAlias is what Lambda says of an alias with provisioned concurrency while it moves from one
// version to another, which no field of an answer tells.
const textMovingAlias = "Alias with weights can not be used with Provisioned Concurrency"

// ownLimit reports whether an invocation was refused because the function's own reserved concurrency
// is taken, by invocations or by instances that are kept warm for another version.
func ownLimit(err error) bool {
	var throttled *types.TooManyRequestsException
	return errors.As(err, &throttled) && (throttled.Reason == types.ThrottleReasonReservedFunctionConcurrentInvocationLimitExceeded ||
		throttled.Reason == types.ThrottleReasonReservedFunctionInvocationRateLimitExceeded)
}

// cause is one of those for which Lambda has the same code, that of a bad parameter, and that pass by
// themselves or take a remedy.
type cause struct {
	text   string // in the message
	code   faas.Code
	remedy string // with %[2]s for the role
}

var causes = []cause{
	{"cannot be assumed by Lambda", faas.ErrPermissionDenied, "role %[2]s must exist, and its trust policy must allow sts:AssumeRole to lambda.amazonaws.com"},
	{"does not have permissions to call CreateNetworkInterface", faas.ErrPermissionDenied, "attach the policy AWSLambdaVPCAccessExecutionRole to role %[2]s, or allow it ec2:CreateNetworkInterface and what belongs to that"},
	{"The provided execution role does not have permissions", faas.ErrPermissionDenied, "allow role %[2]s what Lambda names"},
	{"KMS key is invalid for CreateGrant", faas.ErrPermissionDenied, `role %[2]s must exist, and the key that encrypts the environment (option "kms_key_arn") must be enabled, with a policy that allows kms:CreateGrant`},
	{"throttled by EC2", faas.ErrThrottled, "EC2 takes no more calls of the account at the moment: deploy again later"},
}

// causeOf returns the cause of a refusal, or nil if it is another one. A role, a policy or a grant that
// was made just now is not known everywhere at once, so that any of them may pass.
func causeOf(err error) *cause {
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != codeInvalid {
		return nil
	}
	for i := range causes {
		if strings.Contains(api.ErrorMessage(), causes[i].text) {
			return &causes[i]
		}
	}
	return nil
}

// withoutValues hides the values of an environment in an error's text: Lambda quotes some of what it refuses, and functions log what they like. The SDK's
// own error stays reachable.
func withoutValues(err *faas.Error, env map[string]string) *faas.Error {
	cleaner := foreign.NewCleaner(slices.Collect(maps.Values(env))...)
	kept := *err
	var failed *faas.FunctionError
	if errors.As(err.Err, &failed) {
		hidden := *failed
		hidden.Type, hidden.Message, hidden.LogTail = cleaner.Clean(failed.Type), cleaner.Clean(failed.Message), cleaner.Clean(failed.LogTail)
		kept.Err = &hidden
		return &kept
	}
	text := err.Err.Error()
	hidden := cleaner.Clean(text)
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
