//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
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
	"QuotaExceeded": faas.ErrUnavailable, "SubscriptionNotFound": faas.ErrInvalidArgument,
}

func codeOf(status int, azureCode string) faas.Code {
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

func isNotFound(err error) bool { return statusOf(err) == http.StatusNotFound }

// fail makes the *faas.Error of an error that came under ctx. One that already is a *faas.Error keeps its code. hidden are values that must not be in its text, besides the
// secrets that the executor knows.
func (e *Executor) fail(ctx context.Context, op string, jobID int64, err error, hidden ...string) *faas.Error {
	var known *faas.Error
	if errors.As(err, &known) {
		out := *known
		out.Err = &clean{e.secrets.hide(text(known.Err), hidden...), known.Err}
		if known.Err == nil {
			out.Err = nil
		}
		return &out
	}
	out := &faas.Error{Op: op, Provider: faas.AzureFunctions, JobID: jobID, Code: faas.ErrInternal}
	var (
		response *azcore.ResponseError
		token    *tokenError
		broken   *url.Error
		network  net.Error
		deploy   *deployError
	)
	message := err.Error()
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		out.Code, message = faas.ErrTimeout, withoutURL(err)
	case ctx.Err() != nil: // whatever it is, it came of that
		out.Code, message = faas.ErrTimeout, withoutURL(err)+" ("+ctx.Err().Error()+")"
	case errors.As(err, &token):
		out.Code = faas.ErrPermissionDenied
		message = "no token for Azure could be had: log in with the Azure CLI, use a managed identity, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET: " + foreign.Line(token.Error(), 1500)
	case errors.As(err, &deploy):
		out.Code = deploy.code()
	case errors.As(err, &response):
		out.Code = codeOf(response.StatusCode, response.ErrorCode)
		message = describe(response)
		if response.RawResponse != nil {
			out.RetryAfter = retryAfter(response.RawResponse.Header)
		}
	case errors.As(err, &broken), errors.As(err, &network):
		out.Code, message = faas.ErrUnavailable, withoutURL(err)
	}
	out.Err = &clean{e.secrets.hide(strings.ReplaceAll(message, "\n", ": "), hidden...), err}
	return out
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// withoutURL leaves out the query of a failed request's URL.
func withoutURL(err error) string {
	var transfer *url.Error
	if !errors.As(err, &transfer) {
		return err.Error()
	}
	return transfer.Op + " " + faas.RedactURL(transfer.URL) + ": " + transfer.Err.Error()
}

// clean is an error whose text was cleaned of secrets, and whose cause stays reachable.
type clean struct {
	text  string
	cause error
}

func (c *clean) Error() string { return c.text }
func (c *clean) Unwrap() error { return c.cause }

// describe says what Azure answered, in one line.
func describe(r *azcore.ResponseError) string {
	var b strings.Builder
	var body []byte
	if raw := r.RawResponse; raw != nil {
		if raw.Request != nil {
			fmt.Fprintf(&b, "%s %s: ", raw.Request.Method, faas.RedactURL(raw.Request.URL.String()))
		}
		body, _ = runtime.Payload(raw) // azcore has read it already
	}
	fmt.Fprintf(&b, "status %d", r.StatusCode)
	if r.ErrorCode != "" {
		b.WriteString(" " + foreign.Line(r.ErrorCode, 100))
	}
	if message := messageOf(body); message != "" {
		b.WriteString(": " + message)
	}
	return b.String()
}

// maxMessage bounds what an error repeats of Azure's words, in bytes.
const maxMessage = 600

// messageOf finds the message in an error's body: those of Resource Manager have it in "error", those of App Service beside "Code", and those of job
// binaries as "error".
func messageOf(body []byte) string {
	type message struct {
		Message string
		Error   json.RawMessage
	}
	var outer, inner message
	if json.Unmarshal(body, &outer) != nil {
		if utf8.Valid(body) && !strings.Contains(string(body[:min(len(body), 100)]), "<") { // not a page of HTML
			return foreign.Line(string(body[:min(len(body), maxMessage)]), maxMessage)
		}
		return ""
	}
	if json.Unmarshal(outer.Error, &inner) == nil && inner.Message != "" {
		return foreign.Line(inner.Message, maxMessage)
	}
	if plain := ""; json.Unmarshal(outer.Error, &plain) == nil && plain != "" { // the job binary's
		return foreign.Line(plain, maxMessage)
	}
	return foreign.Line(outer.Message, maxMessage)
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

// secrets are values that must not be in any text that leaves the executor.
type secrets struct {
	mu     sync.Mutex
	values []string
}

func (s *secrets) add(values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		if v != "" && !slices.Contains(s.values, v) {
			s.values = append(s.values, v)
		}
	}
}

// hide replaces the secrets, and more values, in a text.
func (s *secrets) hide(text string, more ...string) string {
	s.mu.Lock()
	all := append(slices.Clone(s.values), more...)
	s.mu.Unlock()
	return foreign.Hider(all...).Replace(text)
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

// isBusy reports whether Azure refused a change because it is still at work on an earlier one.
func isBusy(err error) bool {
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.StatusCode != http.StatusConflict {
		return false
	}
	switch response.ErrorCode {
	case "AnotherOperationInProgress", "StorageAccountOperationInProgress":
		return true
	}
	return strings.Contains(strings.ToLower(describe(response)), "operation is in progress")
}
