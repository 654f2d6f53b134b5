//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// codes sorts the error codes of Azure where the status does not tell enough, as in the result of a long-running operation.
var codes = map[string]faas.Code{
	"NotFound": faas.ErrNotFound, "ResourceNotFound": faas.ErrNotFound, "ResourceGroupNotFound": faas.ErrNotFound,
	"Conflict": faas.ErrConflict, "AnotherOperationInProgress": faas.ErrConflict, "ResourceGroupBeingDeleted": faas.ErrConflict,
	"StorageAccountOperationInProgress": faas.ErrConflict, "OperationNotAllowedOnResourceBeingDeleted": faas.ErrConflict,
	"StorageAccountAlreadyTaken": faas.ErrAlreadyExists, "StorageAccountAlreadyExists": faas.ErrAlreadyExists, "StorageAccountInAnotherResourceGroup": faas.ErrAlreadyExists,
	"AuthorizationFailed": faas.ErrPermissionDenied, "Forbidden": faas.ErrPermissionDenied, "Unauthorized": faas.ErrPermissionDenied,
	"LinkedAuthorizationFailed": faas.ErrPermissionDenied, "RequestDisallowedByPolicy": faas.ErrPermissionDenied, "InvalidAuthenticationToken": faas.ErrPermissionDenied,
	"TooManyRequests": faas.ErrThrottled, "SubscriptionRequestsThrottled": faas.ErrThrottled, "OperationThrottled": faas.ErrThrottled,
	"BadRequest": faas.ErrInvalidArgument, "InvalidRequestContent": faas.ErrInvalidArgument, "InvalidParameter": faas.ErrInvalidArgument,
	"LocationNotAvailableForResourceType": faas.ErrInvalidArgument, "InvalidResourceLocation": faas.ErrConflict,
	"SubscriptionNotFound": faas.ErrInvalidArgument, "ScopeLocked": faas.ErrPermissionDenied, "ReadOnlyDisabledSubscription": faas.ErrPermissionDenied,
}

// codeOf sorts an answer. message is what Azure says in it.
func codeOf(status int, azureCode, message string) faas.Code {
	if isQuota(status, azureCode, message) {
		return faas.ErrTooLarge
	}
	if status == http.StatusBadRequest && isHostStarting(message) {
		return faas.ErrUnavailable
	}
	if code, ok := codes[azureCode]; ok && status != http.StatusTooManyRequests {
		return code
	}
	switch {
	case status == http.StatusBadRequest || status == http.StatusUnprocessableEntity || status == http.StatusUnsupportedMediaType:
		return faas.ErrInvalidArgument
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return faas.ErrPermissionDenied
	case status == http.StatusNotFound || status == http.StatusGone:
		return faas.ErrNotFound
	case status == http.StatusConflict || status == http.StatusPreconditionFailed:
		return faas.ErrConflict
	case status == http.StatusRequestEntityTooLarge:
		return faas.ErrTooLarge
	case status == http.StatusTooManyRequests:
		return faas.ErrThrottled
	case status == http.StatusRequestTimeout || status == http.StatusGatewayTimeout:
		return faas.ErrTimeout
	case status >= 500 || status >= 200 && status < 300: // the latter: an operation that was accepted and then failed
		return faas.ErrUnavailable
	}
	return faas.ErrInternal
}

// statusOf returns the HTTP status of an error that Azure answered, or 0.
func statusOf(err error) int {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return response.StatusCode
	}
	return 0
}

// isNotFound reports whether Azure says that something does not exist. A subscription that the caller
// has no access to is another matter: nothing is known then of what is in it.
func isNotFound(err error) bool { return statusOf(err) == http.StatusNotFound && kindOf(err) == absent }

// fail makes the *faas.Error of an error that came under ctx. One that already is a *faas.Error keeps its code. hidden are values that must not be in its text, besides the
// secrets that the executor knows.
func (e *Executor) fail(ctx context.Context, op string, jobID int64, err error, hidden ...string) *faas.Error {
	hide := e.hider(hidden...)
	var (
		known   *faas.Error
		unknown *unknownOutcome
	)
	unsettled := errors.As(err, &unknown)
	if errors.As(err, &known) {
		out := *known
		out.Unsettled = out.Unsettled || unsettled
		if known.Err != nil {
			out.Err = &clean{words(known.Err, hide), known.Err}
		}
		return &out
	}
	return &faas.Error{
		Op: op, Provider: faas.AzureFunctions, JobID: jobID, Code: e.code(ctx, err), RetryAfter: askedBy(err), Unsettled: unsettled, Err: &clean{words(err, hide), err},
	}
}

// code sorts an error that came under ctx.
func (e *Executor) code(ctx context.Context, err error) faas.Code {
	var (
		vain     *waitError
		response *azcore.ResponseError
		token    *tokenError
		deploy   *deployError
	)
	switch {
	case ctx.Err() != nil, errors.Is(err, context.Canceled):
		return faas.ErrTimeout // whatever it is, it came of that
	case errors.As(err, &vain) && vain.ended == nil && vain.last == nil:
		return faas.ErrTimeout
	case errors.As(err, &token) && kindOf(err) != outage:
		return faas.ErrPermissionDenied
	case errors.As(err, &deploy):
		return deploy.code()
	case errors.As(err, &response) && kindOf(err) == outage && response.StatusCode != http.StatusTooManyRequests:
		return faas.ErrUnavailable // 408 and 504 too, which say nothing of the caller's deadline
	case errors.As(err, &response):
		return codeOf(response.StatusCode, response.ErrorCode, messageOf(bodyOf(response)))
	case kindOf(err) == outage:
		return faas.ErrUnavailable // a deadline of the network's is not the caller's
	case errors.Is(err, context.DeadlineExceeded):
		return faas.ErrTimeout
	}
	return faas.ErrInternal
}

// hider takes secrets out of a text.
type hider func(string) string

// words returns the text of an error in one line: azcore's errors print whole answers on many lines, and
// those of net/http the query of a URL. What was cut off was clean before, so that no part of a secret is left.
func words(err error, hide hider) string {
	text := err.Error()
	for _, part := range parts(err) {
		var said string
		switch part := part.(type) {
		case *azcore.ResponseError:
			said = describe(part, hide)
		case *url.Error:
			said = part.Op + " " + faas.RedactURL(part.URL) + ": " + words(part.Err, hide)
		case *tokenError:
			said = "no token for Azure could be had: log in with the Azure CLI, use a managed identity, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET: " +
				foreign.Line(hide(dashes.ReplaceAllString(part.err.Error(), "")), 1500)
		case *deployError:
			said = part.words(hide)
		}
		text = strings.ReplaceAll(text, part.Error(), said)
	}
	return strings.ReplaceAll(hide(text), "\n", ": ")
}

// dashes are the lines that azidentity draws around an answer.
var dashes = regexp.MustCompile("-{10,}")

// parts returns the errors in the tree of err that words says in another way, the outermost ones.
func parts(err error) []error {
	switch err := err.(type) {
	case *azcore.ResponseError, *url.Error, *tokenError, *deployError:
		return []error{err}
	case interface{ Unwrap() error }:
		if inner := err.Unwrap(); inner != nil {
			return parts(inner)
		}
	case interface{ Unwrap() []error }:
		var all []error
		for _, inner := range err.Unwrap() {
			all = append(all, parts(inner)...)
		}
		return all
	}
	return nil
}

// clean is an error whose text was cleaned of secrets, and whose cause stays reachable.
type clean struct {
	text  string
	cause error
}

func (c *clean) Error() string { return c.text }
func (c *clean) Unwrap() error { return c.cause }

// bodyOf returns the body of the answer that an error is about.
func bodyOf(r *azcore.ResponseError) []byte {
	if r.RawResponse == nil {
		return nil
	}
	body, _ := runtime.Payload(r.RawResponse) // azcore has read it already
	return body
}

// describe says what Azure answered, in one line, and what to do about it.
func describe(r *azcore.ResponseError, hide hider) string {
	var b strings.Builder
	if raw := r.RawResponse; raw != nil && raw.Request != nil {
		fmt.Fprintf(&b, "%s %s: ", raw.Request.Method, faas.RedactURL(raw.Request.URL.String()))
	}
	fmt.Fprintf(&b, "status %d", r.StatusCode)
	if r.ErrorCode != "" {
		b.WriteString(" " + foreign.Line(hide(r.ErrorCode), 100))
	}
	message := messageOf(bodyOf(r))
	if message != "" {
		b.WriteString(": " + foreign.Line(hide(message), maxMessage))
	}
	b.WriteString(remedy(r.StatusCode, r.ErrorCode, message))
	return b.String()
}

// remedy says what helps against a refusal, or nothing.
func remedy(status int, code, message string) string {
	switch {
	case isLock(code):
		return "; somebody has put a lock on it, which stays until it is taken off (az lock list, az lock delete)"
	case isQuota(status, code, message):
		return "; ask for more quota in this region, choose another one, or remove what is not needed"
	case code == "RequestDisallowedByPolicy" && isAboutSharedKeys(message):
		return `; the policy forbids storage accounts with shared keys: set the option storage_auth=identity`
	case code == "AuthorizationFailed" || code == "LinkedAuthorizationFailed":
		return grantRemedy(message)
	}
	return ""
}

// denial is how Resource Manager says whom it denies what, and where.
var denial = regexp.MustCompile(`(?i)object id '([0-9a-f-]{36})'.* action '([\w./]+)'.* scope '([^' ]+)'`)

// grantRemedy says which role helps whoever a message says was denied something, or nothing if it does not say that.
func grantRemedy(message string) string {
	m := denial.FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	role := "Contributor"
	if strings.HasPrefix(strings.ToLower(m[2]), "microsoft.authorization/") {
		role = "User Access Administrator"
	}
	return fmt.Sprintf("; give the principal %[1]s a role that allows %[2]s, such as by az role assignment create --assignee %[1]s --role %[3]q --scope %[4]s", m[1], m[2], role, m[3])
}

// isAboutSharedKeys reports whether a message is about access to a storage account by its keys.
func isAboutSharedKeys(message string) bool {
	return containsAny(message, "shared key", "sharedkey", "key based authentication", "account key")
}

// maxMessage bounds what an error repeats of Azure's words, in bytes.
const maxMessage = 1000

// said is an error in the words of one of Azure's services, some of which begin with capitals.
type said struct {
	Code, Message                          string
	Error, Target, Details, AdditionalInfo json.RawMessage
}

// messageOf finds the message, at its full length, in an error's body, with what its details add: those of Resource Manager have it in "error", those of App Service
// beside "Code", and those of job binaries as "error".
func messageOf(body []byte) string {
	var outer, inner said
	if json.Unmarshal(body, &outer) != nil {
		if utf8.Valid(body) && !strings.Contains(string(body[:min(len(body), 100)]), "<") { // not a page of HTML
			return string(body)
		}
		return ""
	}
	if json.Unmarshal(outer.Error, &inner) == nil && inner.Message != "" {
		return inner.text(0)
	}
	if plain := ""; json.Unmarshal(outer.Error, &plain) == nil && plain != "" { // the job binary's
		return plain
	}
	return outer.text(0)
}

// Bounds of what is looked at of the details of an error.
const (
	mostDepth   = 4
	mostDetails = 8
)

// text returns the message and, of details and policies, what it does not say itself.
func (s said) text(depth int) string {
	text := s.Message
	add := func(more string) {
		if more != "" && !strings.Contains(text, more) {
			text = strings.TrimPrefix(text+"; "+more, "; ")
		}
	}
	var details []said
	if depth < mostDepth && json.Unmarshal(s.Details, &details) == nil {
		for _, d := range details[:min(len(details), mostDetails)] {
			more, target := d.text(depth+1), ""
			if strings.Contains(text, more) {
				continue
			}
			if d.Code != "" {
				more = d.Code + ": " + more
			}
			if json.Unmarshal(d.Target, &target) == nil && target != "" && !strings.Contains(more, target) {
				more += " (" + target + ")"
			}
			add(more)
		}
	}
	var infos []struct {
		Info struct{ PolicyDefinitionDisplayName string }
	}
	if json.Unmarshal(s.AdditionalInfo, &infos) == nil {
		for _, i := range infos[:min(len(infos), mostDetails)] {
			add(i.Info.PolicyDefinitionDisplayName)
		}
	}
	return text
}

// retryAfter reads how long Azure asks to wait: seconds, a date, or milliseconds in headers of its own.
func retryAfter(h http.Header) time.Duration {
	for _, name := range []string{"retry-after-ms", "x-ms-retry-after-ms"} {
		if ms, err := strconv.ParseUint(h.Get(name), 10, 31); err == nil && ms > 0 {
			return time.Duration(ms) * time.Millisecond
		}
	}
	return transfer.RetryAfter(h, time.Now())
}

// hider returns what takes the secrets that the executor knows, and more values, out of a text.
func (e *Executor) hider(more ...string) hider {
	values := foreign.NewCleaner(more...)
	return func(text string) string { return values.Clean(e.secrets.Clean(text)) }
}

// drain reads a little of a body, so that its connection can be used again, and closes it.
func drain(body io.ReadCloser) {
	_, _ = io.CopyN(io.Discard, body, 64<<10) // a connection that is not reusable costs only time
	body.Close()
}

// azureCode returns the code of an error that Azure answered, or "".
func azureCode(err error) string {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return response.ErrorCode
	}
	return ""
}

// askedBy returns how long Azure asked to wait in an error, or 0.
func askedBy(err error) time.Duration {
	var response *azcore.ResponseError
	if errors.As(err, &response) && response.RawResponse != nil {
		return retryAfter(response.RawResponse.Header)
	}
	return 0
}
