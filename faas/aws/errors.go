//go:build !faas_only || faas_aws

package aws

import (
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/smithy-go"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/awsclient"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// Error codes of Lambda that more than one place acts on.
const (
	codeNotFound     = "ResourceNotFoundException"
	codeConflict     = "ResourceConflictException"
	codePrecondition = "PreconditionFailedException"
	codeInvalid      = "InvalidParameterValueException"
	codeNotReady     = "ResourceNotReadyException"
	codeStorageFull  = "CodeStorageExceededException"
	codeSealed       = "KMSAccessDeniedException" // Lambda cannot decrypt the environment
)

// rules say what the services' errors mean beyond the HTTP status. The first rule that matches
// counts.
var rules = kit.Rules{
	// Lambda uses one code for these, that of a bad parameter. It takes a while until a new role,
	// policy or grant is known everywhere.
	settling("cannot be assumed by lambda", "the execution role must exist, and its trust policy must allow "+
		"sts:AssumeRole to lambda.amazonaws.com"),
	settling("does not have permissions to call createnetworkinterface",
		"attach the policy AWSLambdaVPCAccessExecutionRole to the execution role, or allow it ec2:CreateNetworkInterface "+
			"and what belongs to that"),
	settling("the provided execution role does not have permissions", "allow the execution role what Lambda names"),
	settling("kms key is invalid for creategrant",
		`the execution role must exist, and the key that encrypts the environment (option "kms_key_arn") must be enabled, `+
			"with a policy that allows kms:CreateGrant"),
	{Code: []string{codeInvalid}, Text: []string{"throttled by ec2"}, Means: kit.Refusal{
		Code: faas.ErrThrottled, Class: kit.Settling,
		Remedy: "EC2 takes no more calls of the account at the moment: deploy again later"}},
	// An alias with provisioned concurrency moves in steps, which no field of an answer shows.
	{Code: []string{codeInvalid}, Text: []string{"alias with weights can not be used with provisioned concurrency"},
		Means: kit.Refusal{Code: faas.ErrConflict}},
	{Code: []string{codeNotReady}, Means: kit.Refusal{Code: faas.ErrUnavailable, Class: kit.Busy}},
	{Code: []string{codeSealed}, Means: kit.Refusal{
		Code: faas.ErrPermissionDenied, Remedy: "if its role was deleted and made again, deploy again, which sets the " +
			"role anew"}},
	{Code: []string{"LimitExceeded", "TooManyBuckets", codeStorageFull},
		Means: kit.Refusal{Code: faas.ErrTooLarge, Class: kit.Quota}},

	coded(faas.ErrUnavailable, "RequestTimeout", "RequestTimeoutException"), // the line stood still
	coded(faas.ErrNotFound, codeNotFound, "NoSuchEntity", "NoSuchKey", "NoSuchBucket",
		"ProvisionedConcurrencyConfigNotFoundException"),
	coded(faas.ErrConflict, codeConflict, "OperationAbortedException", "ResourceInUseException", "DeleteConflict",
		"ConcurrentModification", "OperationAborted"),
	coded(faas.ErrAlreadyExists, "EntityAlreadyExists", "BucketAlreadyOwnedByYou", "BucketAlreadyExists"),
	coded(faas.ErrThrottled, "TooManyRequestsException", "ThrottlingException", "Throttling", "SlowDown",
		"RequestLimitExceeded", "EC2ThrottledException"),
	coded(faas.ErrTooLarge, "RequestTooLargeException", "RequestEntityTooLargeException",
		"SerializedRequestEntityTooLargeException",
		"EntityTooLarge", "PolicyLengthExceededException"),
	coded(faas.ErrInvalidArgument, codeInvalid, "ValidationException", "SerializationException",
		"InvalidZipFileException", "InvalidRuntimeException",
		"MalformedPolicyDocument", "InvalidRequestContentException", "UnsupportedMediaTypeException",
		"InvalidSubnetIDException",
		"InvalidSecurityGroupIDException", "InvalidCodeSignatureException", "CodeVerificationFailedException",
		"KMSNotFoundException", "KMSDisabledException", "KMSInvalidStateException"),
	coded(faas.ErrPermissionDenied, "AccessDeniedException", "AccessDenied", "UnrecognizedClientException",
		"InvalidClientTokenId", "ExpiredTokenException",
		"ExpiredToken", "InvalidSignatureException", "SignatureDoesNotMatch", "InvalidAccessKeyId",
		"MissingAuthenticationTokenException",
		"MissingAuthenticationToken", "OptInRequired", "RequestTimeTooSkewed", "IncompleteSignature",
		"EC2AccessDeniedException"),
}

func settling(text, remedy string) kit.Rule {
	return kit.Rule{Code: []string{codeInvalid}, Text: []string{text}, Means: kit.Refusal{
		Code: faas.ErrPermissionDenied, Class: kit.Settling, Remedy: remedy}}
}

func coded(means faas.Code, codes ...string) kit.Rule {
	return kit.Rule{Code: codes, Means: kit.Refusal{Code: means}}
}

// neverStarted holds the errors of Invoke, of those with a status of 500 or more, that say that the
// function was not started.
var neverStarted = map[string]bool{
	codeNotReady: true, "EC2ThrottledException": true, "EC2UnexpectedException": true, "EC2AccessDeniedException": true,
	"ENILimitReachedException": true, "SubnetIPAddressLimitReachedException": true, "InvalidSubnetIDException": true,
	"InvalidSecurityGroupIDException": true,
	codeSealed:                        true, "KMSDisabledException": true, "KMSInvalidStateException": true,
	"KMSNotFoundException":    true,
	"InvalidRuntimeException": true, "InvalidZipFileException": true,
}

// refusalOf returns the meaning of an error of the SDK or of this package.
func refusalOf(err error) kit.Refusal {
	var (
		wait        *kit.WaitError
		known       *faas.Error
		code        faas.Code
		api         smithy.APIError
		throttled   *types.TooManyRequestsException
		credentials *awsclient.CredentialsError
		operation   *smithy.OperationError
	)
	if w, ok := err.(*kit.WaitError); ok {
		wait = w
	}
	switch {
	case wait != nil && (wait.Ended != nil || wait.Last == nil):
		return kit.Refusal{Code: faas.ErrTimeout}
	case wait != nil:
		means := refusalOf(wait.Last)
		if errors.As(wait.Last, &known) {
			means.Remedy = "" // it says so itself
		}
		return means
	case errors.As(err, &known):
		return kit.RefusalOf(err)
	case errors.As(err, &code):
		return kit.Refusal{Code: code}
	case errors.As(err, &credentials):
		if !credentials.Missing() && credentials.SignIn() == "" { // the place that has them may be out of reach, or busy
			if means := refusalOf(credentials.Err); means.Code == faas.ErrThrottled || means.Code == faas.ErrUnavailable {
				return means
			}
		}
		return kit.Refusal{Code: faas.ErrPermissionDenied}
	case kit.IsUnanswered(err), httputil.IsEnded(err):
		return kit.Refusal{Code: faas.ErrTimeout}
	case errors.As(err, &api):
		answer := kit.Answer{
			Status: awsclient.Status(err), Code: api.ErrorCode(), Text: api.ErrorMessage(),
			RetryAfter: awsclient.RetryAfter(err),
		}
		if errors.As(err, &throttled) {
			if secs, perr := strconv.ParseFloat(aws.ToString(throttled.RetryAfterSeconds), 64); perr == nil && secs > 0 &&
				secs < 3600 {
				answer.RetryAfter = time.Duration(secs * float64(time.Second))
			}
		}
		return rules.Of(answer)
	case awsclient.Status(err) != 0:
		return rules.Of(kit.Answer{Status: awsclient.Status(err), RetryAfter: awsclient.RetryAfter(err)})
	case awsclient.Unanswered(err), errors.As(err, &operation): // the connection was not made, or broke
		return kit.Refusal{Code: faas.ErrUnavailable, Class: kit.Outage}
	}
	return kit.Refusal{Code: faas.ErrInternal}
}

// classify converts an error of the SDK to an *faas.Error. It returns an *faas.Error unchanged.
func classify(op string, jobID int64, err error) *faas.Error {
	var known *faas.Error
	errors.As(err, &known)
	if _, waited := err.(*kit.WaitError); known != nil && !waited {
		return known
	}
	failed := kit.Fail(op, faas.AWSLambda, jobID, refusalOf(err), err)
	failed.Unsettled = failed.Unsettled || known != nil && known.Unsettled
	return failed
}

// ofJob sets the job of an error that names none.
func ofJob(err *faas.Error, jobID int64) *faas.Error {
	if err.JobID != faas.NoJob || jobID == faas.NoJob {
		return err
	}
	named := *err
	named.JobID = jobID
	return &named
}

func apiCode(err error) string { return awsclient.APICode(err) }

// isNotFound and isBusy use the meaning of an error, since servers that speak Lambda's protocol
// differ in the codes that they use. Busy means that another change is in progress, that a thing
// exists, or that a function is being woken. It does not mean an outdated revision.
func isNotFound(err error) bool { return codeOf(err) == faas.ErrNotFound }
func isBusy(err error) bool     { return err != nil && refusalOf(err).Class == kit.Busy }

// isOutdated reports whether a change was refused because the function has changed since it was
// read.
func isOutdated(err error) bool {
	return apiCode(err) == codePrecondition || awsclient.Status(err) == http.StatusPreconditionFailed
}

// codeOf returns the code of an SDK error, or "" for nil.
func codeOf(err error) faas.Code {
	if err == nil {
		return ""
	}
	return refusalOf(err).Code
}

// isSettling reports whether a change was refused because of a role, a policy or a grant that may
// be too new.
func isSettling(err error) bool { return err != nil && refusalOf(err).Class == kit.Settling }

// ownLimit reports whether an invocation was refused because invocations, or instances kept warm
// for another version, take all of the function's own reserved concurrency.
func ownLimit(err error) bool {
	var throttled *types.TooManyRequestsException
	if !errors.As(err, &throttled) {
		return false
	}
	switch throttled.Reason {
	case types.ThrottleReasonReservedFunctionConcurrentInvocationLimitExceeded,
		types.ThrottleReasonReservedFunctionInvocationRateLimitExceeded:
		return true
	}
	return false
}

// withoutValues hides the values of an environment in an error's text: Lambda quotes some of what
// it refuses, and functions log what they like. The SDK's own error stays reachable.
func withoutValues(err *faas.Error, env map[string]string) *faas.Error {
	cleaner := sanitize.NewCleaner(slices.Collect(maps.Values(env))...)
	kept := *err
	var failed *faas.FunctionError
	if errors.As(err.Err, &failed) {
		hidden := *failed
		hidden.Type, hidden.Message, hidden.LogTail = cleaner.Clean(failed.Type), cleaner.Clean(failed.Message),
			cleaner.Clean(failed.LogTail)
		kept.Err = &hidden
		return &kept
	}
	kept.Err = kit.Hide(err.Err, cleaner.Clean)
	return &kept
}

// logger logs if a logger is set.
type logger struct{ *slog.Logger }

func (l logger) warn(msg string, args ...any) {
	if l.Logger != nil {
		l.Warn("aws-lambda: "+msg, args...)
	}
}
