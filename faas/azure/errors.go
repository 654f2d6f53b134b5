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
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// The words of refusals that tell more than status and code do.
var (
	quotaWords = []string{
		"has quota of", "additional quota", "maximum number of", "quota exceeded", "exceeds quota", "exceeded quota",
		"exceeding approved", "quota limit", "overquota",
	}
	sharedKeyWords = []string{"shared key", "sharedkey", "key based authentication", "account key"}
	// The role or the identity of the app has no effect everywhere yet, the name of a new storage
	// account is not known everywhere, or its container is that of a removed account of the same name.
	roleWords = []string{
		"authoriz", "forbidden", "403", "unable to load the proper managed identity", "no such host is known",
		"name or service not known",
		"containernotfound", "specified container does not exist", "containerbeingdeleted", "container is being deleted",
	}
)

// How a deployment of a package ended, as the code of an answer.
const (
	codeCancelled = "deployment cancelled"
	codeFailed    = "deployment failed"
	codeConflict  = "deployment conflict"
)

// rules say what Azure's answers mean beyond their status, which is 200 for the result of an
// operation.
var rules = func() kit.Rules {
	means := func(code faas.Code) kit.Refusal { return kit.Refusal{Code: code} }
	overQuota := kit.Refusal{
		Class: kit.Quota, Code: faas.ErrTooLarge,
		Remedy: "ask for more quota in this region, choose another one, or remove what is not needed",
	}
	noKeys := kit.Refusal{
		Code:   faas.ErrPermissionDenied,
		Remedy: "the storage account takes no keys, or a policy forbids them: set the option storage_auth=identity",
	}
	return kit.Rules{
		{Code: []string{codeFailed}, Text: sharedKeyWords, Means: noKeys},
		{Code: []string{codeFailed}, Text: roleWords, Means: kit.Refusal{Class: kit.Settling, Code: faas.ErrUnavailable}},
		{Code: []string{codeFailed, codeCancelled}, Means: means(faas.ErrUnavailable), Stays: true},
		{Code: []string{codeConflict}, Means: means(faas.ErrConflict)},
		{Status: []int{429}},
		{Code: []string{
			"QuotaExceeded", "SubscriptionQuotaExceeded", "SubscriptionIsOverQuotaForSku", "ResourceQuotaExceeded",
			"ResourceGroupQuotaExceeded", "MaxStorageAccountsCountPerSubscriptionExceeded",
		}, Means: overQuota},
		{Status: []int{400, 401, 403, 409}, Text: quotaWords, Means: overQuota},
		{Code: []string{"ScopeLocked"}, Means: kit.Refusal{Code: faas.ErrPermissionDenied,
			Remedy: "remove the lock that somebody put on it (az lock list, az lock delete)"}},
		{Code: []string{"RequestDisallowedByPolicy"}, Text: sharedKeyWords, Means: noKeys},
		{Code: []string{"SubscriptionNotFound", "InvalidSubscriptionId", "LocationNotAvailableForResourceType"},
			Means: means(faas.ErrInvalidArgument)},
		// Resource Manager does not reach the host of an app yet.
		{Status: []int{400}, Text: []string{
			"(serviceunavailable) from host runtime", "(badgateway) from host runtime", "(notfound) from host runtime",
		}, Means: kit.Refusal{Class: kit.Settling, Code: faas.ErrUnavailable}},
		{Code: []string{"PrincipalNotFound"}, Means: kit.Refusal{Class: kit.Settling, Code: faas.ErrUnavailable}},
		{Code: []string{
			"StorageAccountAlreadyTaken", "StorageAccountAlreadyExists", "StorageAccountInAnotherResourceGroup",
			"InvalidResourceLocation",
		}, Means: means(faas.ErrAlreadyExists)},
		{Status: []int{409}, Text: []string{"already exists"}, Means: means(faas.ErrAlreadyExists)},
		{Status: []int{409}, Text: []string{"cannot be deleted because it has"}, Means: means(faas.ErrConflict), Stays: true},
		{Code: []string{"NotFound", "ResourceNotFound", "ResourceGroupNotFound"}, Means: means(faas.ErrNotFound)},
		{Code: []string{
			"Conflict", "AnotherOperationInProgress", "ResourceGroupBeingDeleted", "StorageAccountOperationInProgress",
			"OperationNotAllowedOnResourceBeingDeleted",
		}, Means: means(faas.ErrConflict)},
		{Status: []int{401}}, // which may be said of a good token
		{Code: []string{
			"AuthorizationFailed", "Forbidden", "Unauthorized", "LinkedAuthorizationFailed", "RequestDisallowedByPolicy",
			"InvalidAuthenticationToken", "ReadOnlyDisabledSubscription",
		}, Means: means(faas.ErrPermissionDenied)},
		{Code: []string{"TooManyRequests", "SubscriptionRequestsThrottled", "OperationThrottled"},
			Means: means(faas.ErrThrottled)},
		{Code: []string{"BadRequest", "InvalidRequestContent", "InvalidParameter"}, Means: means(faas.ErrInvalidArgument)},
	}
}()

// meaning returns the meaning of an error of a call with ctx. It classifies every error of the
// package.
func meaning(ctx context.Context, err error) kit.Refusal {
	var (
		known    *faas.Error
		vain     *kit.WaitError
		response *azcore.ResponseError
		token    *tokenError
		deploy   *deployError
		probe    *probeError
	)
	switch {
	case ctx.Err() != nil, errors.Is(err, context.Canceled):
		return kit.Refusal{Code: faas.ErrTimeout} // whatever it is, it came of that
	case errors.As(err, &known):
		return kit.RefusalOf(known)
	case errors.As(err, &vain) && (vain.Last == nil || errors.Is(vain.Last, kit.ErrNotYet)):
		return kit.Refusal{Code: faas.ErrTimeout}
	case errors.As(err, &token):
		var failed *azidentity.AuthenticationFailedError
		passes := func(status int) bool { return rules.Of(kit.Answer{Status: status}).Class.Passes() }
		// Without an answer, the authority was not reached.
		if errors.As(err, &failed) && (failed.RawResponse == nil || passes(failed.RawResponse.StatusCode)) {
			return kit.Refusal{Class: kit.Outage, Code: faas.ErrUnavailable}
		}
		return kit.Refusal{Code: faas.ErrPermissionDenied}
	case errors.As(err, &deploy):
		return rules.Of(deploy.answer())
	case errors.As(err, &response):
		answer := kit.Answer{Status: response.StatusCode, Code: response.ErrorCode, Text: messageOf(bodyOf(response))}
		if response.RawResponse != nil {
			answer.RetryAfter = retryAfter(response.RawResponse.Header)
		}
		means := rules.Of(answer)
		if answer.Code == "AuthorizationFailed" || answer.Code == "LinkedAuthorizationFailed" {
			means.Remedy = grantRemedy(answer.Text)
		}
		return means
	case errors.As(err, &probe):
		return rules.Of(kit.Answer{Status: probe.status})
	}
	if means, ok := kit.OfError(ctx, err); ok {
		return means
	}
	return kit.Refusal{Code: faas.ErrInternal}
}

// judge is meaning for waits, which check their contexts themselves.
func judge(err error) kit.Refusal { return meaning(context.Background(), err) }

// wait returns a wait for something that Azure does not do at once.
func (e *Executor) wait(limit time.Duration, what string, args ...any) kit.Wait {
	return kit.Wait{
		What: fmt.Sprintf(what, args...), First: e.pace.first, Longest: e.pace.longest, Limit: limit, Judge: judge,
	}
}

// statusOf returns the HTTP status of an error that Azure answered, or 0.
func statusOf(err error) int {
	var response *azcore.ResponseError
	if errors.As(err, &response) {
		return response.StatusCode
	}
	return 0
}

// isNotFound reports whether Azure says that something does not exist. It reports false for a
// subscription that the caller has no access to, since nothing is known about what is in it.
func isNotFound(err error) bool {
	return statusOf(err) == http.StatusNotFound && judge(err).Class == kit.Absent
}

// fail returns the *faas.Error for an error of a call with ctx. An error that already is a
// *faas.Error keeps its code. The text hides the values hidden and the secrets that the executor
// knows.
func (e *Executor) fail(ctx context.Context, op string, jobID int64, err error, hidden ...string) *faas.Error {
	hide := e.hider(hidden...)
	clean := func(err error) error { return kit.Hide(err, func(string) string { return words(err, hide) }) }
	var known *faas.Error
	if errors.As(err, &known) {
		out := *known
		out.Unsettled = out.Unsettled || kit.IsUnanswered(err)
		out.Err = clean(known.Err)
		return &out
	}
	return kit.Fail(op, faas.AzureFunctions, jobID, meaning(ctx, err), clean(err))
}

// hider removes secrets from a text.
type hider func(string) string

// words returns the text of an error in one line: azcore's errors print whole answers on many
// lines, and those of net/http print the query of a URL. It hides secrets before it cuts, so that
// no part of one is left.
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
			said = "no token for Azure could be had: log in with the Azure CLI, use a managed identity, or set " +
				"AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET: " +
				sanitize.Line(hide(dashes.ReplaceAllString(part.err.Error(), "")), 1500)
		case *deployError:
			said = part.words(hide)
		}
		text = strings.ReplaceAll(text, part.Error(), said)
	}
	return strings.ReplaceAll(hide(text), "\n", ": ")
}

// dashes are the lines that azidentity draws around an answer.
var dashes = regexp.MustCompile("-{10,}")

// parts returns the outermost errors in the tree of err that words rewrites.
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

// bodyOf returns the body of the answer that an error is about.
func bodyOf(r *azcore.ResponseError) []byte {
	if r.RawResponse == nil {
		return nil
	}
	body, _ := runtime.Payload(r.RawResponse) // azcore has read it already
	return body
}

// describe puts Azure's answer in one line.
func describe(r *azcore.ResponseError, hide hider) string {
	var b strings.Builder
	if raw := r.RawResponse; raw != nil && raw.Request != nil {
		fmt.Fprintf(&b, "%s %s: ", raw.Request.Method, faas.RedactURL(raw.Request.URL.String()))
	}
	fmt.Fprintf(&b, "status %d", r.StatusCode)
	if r.ErrorCode != "" {
		b.WriteString(" " + sanitize.Line(hide(r.ErrorCode), 100))
	}
	if message := messageOf(bodyOf(r)); message != "" {
		b.WriteString(": " + sanitize.Line(hide(message), maxMessage))
	}
	return b.String()
}

// denial matches Resource Manager's words for whom it denies which action, and where.
var denial = regexp.MustCompile(`(?i)object id '([0-9a-f-]{36})'.* action '([\w./]+)'.* scope '([^' ]+)'`)

// grantRemedy returns the role that would allow what a message says was denied, or "" if the
// message does not say it.
func grantRemedy(message string) string {
	m := denial.FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	role := "Contributor"
	if strings.HasPrefix(strings.ToLower(m[2]), "microsoft.authorization/") {
		role = "User Access Administrator"
	}
	return fmt.Sprintf("give the principal %[1]s a role that allows %[2]s, such as by "+
		"az role assignment create --assignee %[1]s --role %[3]q --scope %[4]s", m[1], m[2], role, m[3])
}

// maxMessage is how many bytes of Azure's words an error repeats.
const maxMessage = 1000

// said is an error in the words of one of Azure's services. Some of its members begin with
// capitals.
type said struct {
	Code, Message                          string
	Error, Target, Details, AdditionalInfo json.RawMessage
}

// messageOf returns the whole message in an error's body, with what its details add. Resource
// Manager has it in "error", App Service beside "Code", and job binaries as "error".
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

// Bounds for reading the details of an error.
const (
	mostDepth   = 4
	mostDetails = 8
)

// text returns the message, and what details and policies add to it.
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

// retryAfter returns how long Azure asks to wait: seconds, a date, or milliseconds in headers of
// its own.
func retryAfter(h http.Header) time.Duration {
	for _, name := range []string{"retry-after-ms", "x-ms-retry-after-ms"} {
		if ms, err := strconv.ParseUint(h.Get(name), 10, 31); err == nil && ms > 0 {
			return time.Duration(ms) * time.Millisecond
		}
	}
	return httputil.RetryAfter(h, time.Now())
}

// hider returns a hider of the secrets that the executor knows and of more values.
func (e *Executor) hider(more ...string) hider {
	values := sanitize.NewCleaner(more...)
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
