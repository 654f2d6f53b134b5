//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/googleapis/gax-go/v2/apierror"
	"google.golang.org/api/googleapi"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// refusal is what a Google Cloud API answered, or what ended an operation. It wraps Google's own
// error.
type refusal struct {
	httpStatus int               // 0 for an operation
	status     string            // canonical code, such as "PERMISSION_DENIED"; may be empty
	message    string            // Google's words
	reason     string            // such as "SERVICE_DISABLED"; may be empty
	metadata   map[string]string // belongs to reason
	// details are Google's further words: violations of preconditions, of fields and of quotas, and
	// links to help.
	details []string
	kinds   string // of the details, as rules have them
	// delay is how long Google asks to wait.
	delay time.Duration
	err   error
}

// Error returns status, message and details.
func (f *refusal) Error() string {
	text := cmp.Or(f.status, "status "+fmt.Sprint(f.httpStatus))
	if f.message != "" {
		text += ": " + f.message
	}
	for _, detail := range f.details {
		if !strings.Contains(text, detail) {
			text += "; " + detail
		}
	}
	return text
}

func (f *refusal) Unwrap() error { return f.err }

// means returns the meaning of the refusal.
func (f *refusal) means() kit.Refusal {
	text := strings.Join(append([]string{f.message, f.reason, f.kinds}, f.details...), "\n")
	return rules.Of(kit.Answer{Status: f.httpStatus, Code: f.status, Text: text, RetryAfter: f.delay})
}

// Kinds of details that count by themselves.
const (
	violatedQuota        = "<quota>"
	violatedPrecondition = "<precondition>"
)

// Texts that tell refusals apart if one code has several reasons. Google has no finer codes for
// them.
var (
	policyTexts = []string{
		"organization policy", "org policy", "orgpolicy:", "constraints/", "violates constraint", "permitted customer",
		"org_policy",
	}
	busyTexts = []string{"operation", "in progress", "unable to queue", "concurrent", "try again", "retry", "being ",
		"busy", "not ready"}
	quotaTexts = []string{
		"total allowable", "regional quota", "quota restrictions", "may not exceed", "requesting an increase in quota",
		"insufficient quota",
	}
	rateTexts = []string{
		"per minute", "per second", "per 100 seconds", "per 60 seconds", "rate limit", "requests per", "rate_limit_exceeded",
	}
)

// missingAccount matches Google's words about a service account that it has not created yet, or
// that not all of Google knows yet.
var missingAccount = regexp.MustCompile(`service account \S+ (was not found|does not exist|doesn't exist)`)

func isMissingAccount(a kit.Answer) bool { return missingAccount.MatchString(a.Text) }

var (
	atEnd     = []int{0} // an operation
	exhausted = []string{"RESOURCE_EXHAUSTED"}
	unmet     = []string{"FAILED_PRECONDITION"}
	tooMuch   = kit.Refusal{Class: kit.Quota, Code: faas.ErrTooLarge}
	invalidly = kit.Refusal{Code: faas.ErrInvalidArgument}
)

func isPolicy(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(policyTexts, func(part string) bool { return strings.Contains(text, part) })
}

// rules give a meaning to Google's answers and to the ends of its operations. A code is one of
// google.rpc.Code.
var rules = kit.Rules{
	{Text: policyTexts, Means: kit.Refusal{Code: faas.ErrPermissionDenied}},
	{Text: []string{"cloud run service with this name already exists"}, Means: kit.Refusal{Code: faas.ErrConflict},
		Stays: true},

	// Accounts that Google itself creates in a new project.
	{
		Text:  []string{"unable to retrieve the repository metadata"},
		Means: kit.Refusal{Class: kit.Settling, Code: faas.ErrPermissionDenied},
	},
	{When: isMissingAccount, Means: kit.Refusal{Class: kit.Settling, Code: faas.ErrNotFound}},

	// A quota that does not mention a rate is not throttling if a whole operation was spent on it.
	{
		Code: []string{"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "INVALID_ARGUMENT", "OUT_OF_RANGE"},
		Text: quotaTexts, Means: tooMuch,
	},
	{Status: []int{400, 409, 429}, Text: quotaTexts, Means: tooMuch},
	{Code: exhausted, Text: rateTexts, Means: kit.Refusal{Code: faas.ErrThrottled}},
	{Code: exhausted, Text: []string{violatedQuota}, Means: tooMuch},
	{Code: exhausted, Status: atEnd, Means: tooMuch},
	{Code: exhausted, Means: kit.Refusal{Code: faas.ErrThrottled}},

	// The operation had begun, so nothing else was in its way.
	{Code: unmet, Status: atEnd, Means: invalidly},
	{Code: unmet, Text: []string{violatedPrecondition}, Means: invalidly},
	{Code: unmet, Text: busyTexts, Means: kit.Refusal{Code: faas.ErrConflict}},
	{Code: unmet, Means: invalidly},

	{Code: []string{"INVALID_ARGUMENT", "OUT_OF_RANGE"}, Means: invalidly},
	{Code: []string{"NOT_FOUND"}, Means: kit.Refusal{Code: faas.ErrNotFound}},
	{Code: []string{"ALREADY_EXISTS"}, Means: kit.Refusal{Code: faas.ErrAlreadyExists}},
	{Code: []string{"PERMISSION_DENIED"}, Means: kit.Refusal{Code: faas.ErrPermissionDenied}},
	{Code: []string{"UNAUTHENTICATED"}, Means: kit.Refusal{Class: kit.Denied, Code: faas.ErrPermissionDenied}},
	{Code: []string{"ABORTED", "CANCELLED"}, Means: kit.Refusal{Code: faas.ErrConflict}},
	{Code: []string{"UNIMPLEMENTED"}, Means: kit.Refusal{Code: faas.ErrUnsupported}},
	{Code: []string{"DEADLINE_EXCEEDED"}, Status: atEnd, Means: kit.Refusal{Code: faas.ErrTimeout}},
	// The deadline is that of one request, which may be sent again.
	{Code: []string{"DEADLINE_EXCEEDED"}, Means: kit.Refusal{Code: faas.ErrUnavailable}},
	{Status: atEnd, Means: kit.Refusal{Code: faas.ErrUnavailable}, Stays: true},
	{Status: []int{412}, Means: kit.Refusal{Code: faas.ErrConflict}},
}

// isUnauthorized reports whether an API refused the token.
func isUnauthorized(err error) bool {
	var refused *refusal
	return errors.As(err, &refused) && refused.httpStatus == http.StatusUnauthorized
}

// statusError turns an API's unsuccessful answer into an error.
func (e *Executor) statusError(r request, a *answer) *faas.Error {
	refused := e.refuse(r, a)
	return e.fail(r, refused, fmt.Errorf("%s %s: %w", r.method, faas.RedactURL(r.url), refused))
}

// fail makes the error of a refusal, and names the remedy.
func (e *Executor) fail(r request, refused *refusal, cause error) *faas.Error {
	means := refused.means()
	means.Remedy = e.remedy(refused, means)
	return kit.Fail(r.op, faas.GCPFunctions, r.job, means, cause)
}

// refuse reads an API's unsuccessful answer. It rebuilds Google's own error without the values that
// are to be hidden. It reads the details one by one, because Google's client drops all of them if
// it does not know one.
func (e *Executor) refuse(r request, a *answer) *refusal {
	var body struct {
		Error struct {
			Status  string            `json:"status"`
			Message string            `json:"message"`
			Details []json.RawMessage `json:"details"`
		} `json:"error"`
	}
	clean := []byte(r.clean(string(a.body)))
	refused := &refusal{httpStatus: a.status, delay: httputil.RetryAfter(a.header, time.Now())}
	refused.err = typed(googleapi.CheckResponseWithBody(&http.Response{StatusCode: a.status, Header: a.header}, clean))
	if json.Unmarshal(clean, &body) == nil && (body.Error.Message != "" || body.Error.Status != "") {
		refused.status, refused.message = sanitize.Line(body.Error.Status, 40), sanitize.Line(body.Error.Message, maxMessage)
		refused.detail(r, known(body.Error.Details))
	} else {
		refused.message = sanitize.Excerpt(clean)
	}
	if location := a.header.Get("Location"); location != "" && a.status/100 == 3 {
		refused.message = "it redirects to " + faas.RedactURL(location) + ", and credentials are not sent elsewhere"
	}
	if why := a.header.Get("WWW-Authenticate"); why != "" && a.status == http.StatusUnauthorized {
		refused.details = append(refused.details, "WWW-Authenticate: "+sanitize.Line(r.clean(why), maxDetail))
	}
	return refused
}

// typed returns an error as Google's clients do.
func typed(err error) error {
	if api, ok := apierror.FromError(err); ok {
		return api
	}
	return err
}

// known returns the details whose type this program knows.
func known(details []json.RawMessage) []*anypb.Any {
	var all []*anypb.Any
	for _, text := range details {
		one := &anypb.Any{}
		if (protojson.UnmarshalOptions{AllowPartial: true, DiscardUnknown: true}).Unmarshal(text, one) == nil {
			all = append(all, one)
		}
	}
	return all
}

// maxDetail limits how much of one detail an error repeats, in bytes, and maxDetails how many
// details.
const (
	maxDetail  = 300
	maxDetails = 8
)

// detail reads the details of a status.
func (f *refusal) detail(r request, details []*anypb.Any) {
	add := func(parts ...string) {
		if text := join(": ", parts...); text != "" && len(f.details) < maxDetails {
			f.details = append(f.details, sanitize.Line(r.clean(text), maxDetail))
		}
	}
	for _, one := range details {
		message, err := one.UnmarshalNew()
		if err != nil {
			continue
		}
		switch d := message.(type) {
		case *errdetails.ErrorInfo:
			f.reason, f.metadata = sanitize.Line(d.GetReason(), 100), map[string]string{}
			for key, value := range d.GetMetadata() {
				f.metadata[key] = sanitize.Line(r.clean(value), maxDetail)
			}
			if limit := cmp.Or(f.metadata["quota_limit"], f.metadata["quota_metric"]); limit != "" {
				add("quota " + limit)
			}
		case *errdetails.PreconditionFailure:
			for _, v := range d.GetViolations() {
				f.kinds = violatedPrecondition
				add(v.GetType(), v.GetSubject(), v.GetDescription())
			}
		case *errdetails.QuotaFailure:
			for _, v := range d.GetViolations() {
				f.kinds = violatedQuota
				add(cmp.Or(v.GetQuotaId(), v.GetQuotaMetric()), v.GetSubject(), v.GetDescription())
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				add(v.GetField(), v.GetDescription())
			}
		case *errdetails.ResourceInfo:
			add(d.GetResourceType(), d.GetResourceName(), d.GetDescription())
		case *errdetails.LocalizedMessage:
			add(d.GetMessage())
		case *errdetails.Help:
			for _, link := range d.GetLinks() {
				add(link.GetDescription(), link.GetUrl())
			}
		case *errdetails.RetryInfo:
			f.delay = max(f.delay, d.GetRetryDelay().AsDuration())
		}
	}
}

// join joins the parts that are not empty.
func join(between string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), between)
}

// roles are the smallest predefined roles that deploying requires, by the prefix of the permission.
var roles = []struct{ permission, role string }{
	{"cloudfunctions.functions.setIamPolicy", "roles/cloudfunctions.admin"},
	{"cloudfunctions.", "roles/cloudfunctions.developer"},
	{"run.services.setIamPolicy", "roles/run.admin"},
	{"run.services.getIamPolicy", "roles/run.admin"},
	{"run.routes.invoke", "roles/run.invoker"},
	{"run.", "roles/run.developer"},
	{"iam.serviceAccounts.actAs", "roles/iam.serviceAccountUser"},
	{"iam.serviceAccounts.", "roles/iam.serviceAccountTokenCreator"},
	{"storage.", "roles/storage.objectAdmin"},
	{"logging.", "roles/logging.viewer"},
	{"artifactregistry.", "roles/artifactregistry.repoAdmin"},
	{"cloudbuild.", "roles/cloudbuild.builds.builder"},
	{"serviceusage.", "roles/serviceusage.serviceUsageViewer"},
}

func roleFor(permission string) string {
	for _, r := range roles {
		if strings.HasPrefix(strings.ToLower(permission), strings.ToLower(r.permission)) {
			return r.role
		}
	}
	return ""
}

func (e *Executor) enableCommand(service string) string {
	return "gcloud services enable " + service + " --project=" + e.set.project
}

// someone stands for the principal if Google does not name it.
const someone = "MEMBER"

func (e *Executor) grantCommand(role string) string { return e.grantTo(someone, role) }

func (e *Executor) grantTo(member, role string) string {
	return "gcloud projects add-iam-policy-binding " + e.set.project + " --member=" + member + " --role=" + role +
		explain(member)
}

func explain(member string) string {
	if member != someone {
		return ""
	}
	return " (MEMBER: who deploys, as in user:EMAIL or serviceAccount:EMAIL)"
}

// The forms in which Google's texts name a permission, the principal that lacks it, and the service
// account that may not be impersonated. Other words with dots are not permissions.
var (
	permissionForms = []*regexp.Regexp{
		regexp.MustCompile("(?i)permissions?:? ['\"`]([a-z][a-z0-9]*(?:\\.[a-z0-9]+){2})['\"`]"),
		regexp.MustCompile("(?i)['\"`]([a-z][a-z0-9]*(?:\\.[a-z0-9]+){2})['\"`] permission"),
	}
	principalForm = regexp.MustCompile("(?i)(?:^|[ '\"`:(])([a-z0-9][a-z0-9._-]*@[a-z0-9.-]*[a-z0-9])['\"`)]?,? " +
		"(?:does not have|doesn't have|do not have|lacks|is missing|has no|needs|must have)")
	accountForm = regexp.MustCompile("(?i)on (?:the )?service account ['\"`]?(?:projects/[^/ " +
		"]+/serviceAccounts/)?([a-z0-9][a-z0-9._-]*@[a-z0-9.-]*[a-z0-9])")
)

// permission returns the permission that is missing, as far as Google names it.
func (f *refusal) permission() string {
	if named := f.metadata["permission"]; named != "" {
		return named
	}
	for _, form := range permissionForms {
		if m := form.FindStringSubmatch(f.message); m != nil {
			return m[1]
		}
	}
	return ""
}

// principal returns the member of a policy that lacks a permission, or someone if Google does not
// name it.
func (f *refusal) principal() string {
	m := principalForm.FindStringSubmatch(f.message)
	if m == nil {
		return someone
	}
	if strings.HasSuffix(m[1], "gserviceaccount.com") {
		return "serviceAccount:" + m[1]
	}
	return "user:" + m[1]
}

// maxScale finds the number of instances that a quota allows.
var maxScale = regexp.MustCompile(`maxScale may not exceed ([0-9]{1,6})`)

// remedy returns the command that fixes an error, or "" if none is known.
func (e *Executor) remedy(refused *refusal, means kit.Refusal) string {
	code := means.Code
	switch {
	case refused.reason == "SERVICE_DISABLED" && refused.metadata["service"] != "":
		return e.enableCommand(sanitize.Line(refused.metadata["service"], 100))
	case code == faas.ErrTooLarge && refused.httpStatus != http.StatusRequestEntityTooLarge:
		if m := maxScale.FindStringSubmatch(refused.message); m != nil {
			return "set option max_instances to " + m[1] + " or less, or ask for more quota"
		}
		return "ask for more quota (https://console.cloud.google.com/iam-admin/quotas?project=" + e.set.project +
			"), use less, or use another region"
	case code != faas.ErrPermissionDenied || means.Class == kit.Settling || isPolicy(refused.message):
		return ""
	case refused.status == "UNAUTHENTICATED" || refused.httpStatus == http.StatusUnauthorized:
		return "gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
	}
	permission, member := refused.permission(), refused.principal()
	role := roleFor(permission)
	switch {
	case strings.EqualFold(permission, "iam.serviceAccounts.actAs"):
		account := cmp.Or(e.set.serviceAccount, "PROJECT_NUMBER-compute@developer.gserviceaccount.com")
		if m := accountForm.FindStringSubmatch(refused.message); m != nil {
			account = m[1]
		}
		return "gcloud iam service-accounts add-iam-policy-binding " + account + " --project=" + e.set.project +
			" --member=" + member + " --role=" + role + explain(member)
	case role != "":
		return e.grantTo(member, role)
	}
	return ""
}

// maxMessage limits how much of Google's text an error repeats, in bytes. A build's messages need
// some room.
const maxMessage = 1500
