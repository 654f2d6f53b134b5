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
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// refusal is an error that a Google Cloud API answered with, or that an operation ended with. Google's own error is beneath it.
type refusal struct {
	httpStatus int               // 0 for an operation
	status     string            // canonical code, such as "PERMISSION_DENIED"; may be empty
	message    string            // Google's words
	reason     string            // such as "SERVICE_DISABLED"; may be empty
	metadata   map[string]string // belongs to reason
	// details are what Google says besides: violations of preconditions, of fields and of quotas, and where help is.
	details []string
	// remedy is what mends it, often a gcloud command; may be empty.
	remedy string
	// delay is what Google asks to wait.
	delay time.Duration

	violated bool // a precondition is violated that Google names
	quota    bool // a quota is exceeded that Google names
	err      error
}

// Error gives status, message, details and remedy.
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
	if f.remedy != "" {
		text += "; to mend it: " + f.remedy
	}
	return text
}

func (f *refusal) Unwrap() error { return f.err }

// class says what a refusal means for a further try.
type class int

const (
	stays    class = iota // it will be the same again
	busy                  // something else is changing the resource, for seconds to minutes
	settling              // what Google makes by itself in a new project is not there yet, for minutes
	exists                // there is one already
	unclear               // no answer tells what became of the request
)

// Texts by which refusals are told apart that have one code for several reasons. Google has no finer code for them.
var (
	policyTexts   = []string{"organization policy", "org policy", "orgpolicy:", "constraints/", "violates constraint", "permitted customer"}
	takenTexts    = []string{"cloud run service with this name already exists"}
	settlingTexts = []string{"unable to retrieve the repository metadata"}
	busyTexts     = []string{"operation", "in progress", "unable to queue", "concurrent", "try again", "retry", "being ", "busy", "not ready"}
	quotaTexts    = []string{"total allowable", "regional quota", "quota restrictions", "may not exceed", "requesting an increase in quota", "insufficient quota"}
	rateTexts     = []string{"per minute", "per second", "per 100 seconds", "per 60 seconds", "rate limit", "requests per"}
)

func containsAny(text string, parts []string) bool {
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
}

// missingAccount matches what Google says of a service account that it has not made yet, or that not all of it knows yet.
var missingAccount = regexp.MustCompile(`service account \S+ (was not found|does not exist|doesn't exist)`)

// classify returns the code of a refusal and its class. A quota that says nothing of a rate is no throttling if a whole operation was spent on it.
func (f *refusal) classify() (faas.Code, class) {
	code, operation := f.code(), f.httpStatus == 0
	text := strings.ToLower(f.message + "\n" + strings.Join(f.details, "\n"))
	switch {
	case containsAny(text, policyTexts) || strings.Contains(f.reason, "ORG_POLICY"):
		return faas.ErrPermissionDenied, stays
	case containsAny(text, takenTexts):
		return faas.ErrConflict, stays
	case containsAny(text, settlingTexts) || missingAccount.MatchString(text):
		return code, settling
	case containsAny(text, quotaTexts) && (code == faas.ErrThrottled || code == faas.ErrConflict || code == faas.ErrInvalidArgument):
		return faas.ErrTooLarge, stays
	case code == faas.ErrThrottled:
		limited := f.reason == "RATE_LIMIT_EXCEEDED" || containsAny(text, rateTexts)
		if (operation || f.quota) && !limited {
			return faas.ErrTooLarge, stays
		}
		return code, stays // the engine waits
	case f.status == "FAILED_PRECONDITION":
		// An operation was begun, so nothing else stood in its way.
		if operation || f.violated || !containsAny(text, busyTexts) {
			return faas.ErrInvalidArgument, stays
		}
		return faas.ErrConflict, busy
	case code == faas.ErrConflict:
		return code, busy
	case code == faas.ErrAlreadyExists:
		return code, exists
	case !operation && passes(f.httpStatus):
		return code, unclear
	}
	return code, stays
}

// code translates the canonical code, or else the HTTP status.
func (f *refusal) code() faas.Code {
	switch f.status {
	case "INVALID_ARGUMENT", "OUT_OF_RANGE":
		return faas.ErrInvalidArgument
	case "DEADLINE_EXCEEDED":
		if f.httpStatus != 0 { // of one request, which may be sent again
			return faas.ErrUnavailable
		}
		return faas.ErrTimeout
	case "NOT_FOUND":
		return faas.ErrNotFound
	case "ALREADY_EXISTS":
		return faas.ErrAlreadyExists
	case "PERMISSION_DENIED", "UNAUTHENTICATED":
		return faas.ErrPermissionDenied
	case "RESOURCE_EXHAUSTED":
		return faas.ErrThrottled
	case "FAILED_PRECONDITION", "ABORTED", "CANCELLED":
		return faas.ErrConflict
	case "UNIMPLEMENTED":
		return faas.ErrUnsupported
	}
	switch f.httpStatus {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return faas.ErrInvalidArgument
	case http.StatusUnauthorized, http.StatusForbidden:
		return faas.ErrPermissionDenied
	case http.StatusNotFound, http.StatusGone:
		return faas.ErrNotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return faas.ErrConflict
	case http.StatusRequestEntityTooLarge:
		return faas.ErrTooLarge
	case http.StatusTooManyRequests:
		return faas.ErrThrottled
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return faas.ErrUnsupported
	}
	return faas.ErrUnavailable
}

// classOf returns the class of an error. One without an answer of Google's is unclear if the network failed.
func classOf(err error) class {
	var refused *refusal
	if errors.As(err, &refused) {
		_, c := refused.classify()
		return c
	}
	if isTransient(err) {
		return unclear
	}
	return stays
}

// isUnauthorized reports whether an API refused the token.
func isUnauthorized(err error) bool {
	var refused *refusal
	return errors.As(err, &refused) && refused.httpStatus == http.StatusUnauthorized
}

// statusError turns an API's answer that is not a success into an error.
func (e *Executor) statusError(r request, a *answer) *faas.Error {
	refused := e.refuse(r, a)
	code, _ := refused.classify()
	failed := e.errorf(code, r, "%s %s: %w", r.method, faas.RedactURL(r.url), refused)
	failed.RetryAfter = max(transfer.RetryAfter(a.header, time.Now()), refused.delay)
	return failed
}

// refuse reads an API's answer that is not a success. Google's own error is made of it anew, without the
// values that are to be hidden. The details are read one by one: Google's client drops all of them where
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
	refused := &refusal{httpStatus: a.status}
	refused.err, _ = apierror.FromError(googleapi.CheckResponseWithBody(&http.Response{StatusCode: a.status, Header: a.header}, clean))
	if json.Unmarshal(clean, &body) == nil && (body.Error.Message != "" || body.Error.Status != "") {
		refused.status, refused.message = foreign.Line(body.Error.Status, 40), foreign.Line(body.Error.Message, maxMessage)
		refused.detail(r, known(body.Error.Details))
	} else {
		refused.message = foreign.Excerpt(clean)
	}
	if location := a.header.Get("Location"); location != "" && a.status/100 == 3 {
		refused.message = "it redirects to " + faas.RedactURL(location) + ", and credentials are not sent elsewhere"
	}
	if why := a.header.Get("WWW-Authenticate"); why != "" && a.status == http.StatusUnauthorized {
		refused.details = append(refused.details, "WWW-Authenticate: "+foreign.Line(r.clean(why), maxDetail))
	}
	refused.remedy = e.remedy(refused)
	return refused
}

// known returns the details that are of a type which this program knows.
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

// maxDetail bounds what an error repeats of one detail, in bytes, and maxDetails how many it repeats.
const (
	maxDetail  = 300
	maxDetails = 8
)

// detail reads the details of a status.
func (f *refusal) detail(r request, details []*anypb.Any) {
	add := func(parts ...string) {
		if text := join(": ", parts...); text != "" && len(f.details) < maxDetails {
			f.details = append(f.details, foreign.Line(r.clean(text), maxDetail))
		}
	}
	for _, one := range details {
		message, err := one.UnmarshalNew()
		if err != nil {
			continue
		}
		switch d := message.(type) {
		case *errdetails.ErrorInfo:
			f.reason, f.metadata = foreign.Line(d.GetReason(), 100), map[string]string{}
			for key, value := range d.GetMetadata() {
				f.metadata[key] = foreign.Line(r.clean(value), maxDetail)
			}
			if limit := cmp.Or(f.metadata["quota_limit"], f.metadata["quota_metric"]); limit != "" {
				add("quota " + limit)
			}
		case *errdetails.PreconditionFailure:
			for _, v := range d.GetViolations() {
				f.violated = true
				add(v.GetType(), v.GetSubject(), v.GetDescription())
			}
		case *errdetails.QuotaFailure:
			for _, v := range d.GetViolations() {
				f.quota = true
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
			f.delay = d.GetRetryDelay().AsDuration()
		}
	}
}

// join joins the parts that are not empty.
func join(between string, parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), between)
}

// roles are the least predefined roles that hold what deploying needs, by the beginning of the permission.
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

// someone stands for the principal that Google does not name.
const someone = "MEMBER"

func (e *Executor) grantCommand(role string) string { return e.grantTo(someone, role) }

func (e *Executor) grantTo(member, role string) string {
	return "gcloud projects add-iam-policy-binding " + e.set.project + " --member=" + member + " --role=" + role + explain(member)
}

func explain(member string) string {
	if member != someone {
		return ""
	}
	return " (MEMBER: who deploys, as in user:EMAIL or serviceAccount:EMAIL)"
}

// The forms in which Google's words name a permission, who lacks it, and the service account that one may not act as. Other words with dots in them are
// no permissions.
var (
	permissionForms = []*regexp.Regexp{
		regexp.MustCompile("(?i)permissions?:? ['\"`]([a-z][a-z0-9]*(?:\\.[a-z0-9]+){2})['\"`]"),
		regexp.MustCompile("(?i)['\"`]([a-z][a-z0-9]*(?:\\.[a-z0-9]+){2})['\"`] permission"),
	}
	principalForm = regexp.MustCompile("(?i)(?:^|[ '\"`:(])([a-z0-9][a-z0-9._-]*@[a-z0-9.-]*[a-z0-9])['\"`)]?,? (?:does not have|doesn't have|do not have|lacks|is missing|has no|needs|must have)")
	accountForm   = regexp.MustCompile("(?i)on (?:the )?service account ['\"`]?(?:projects/[^/ ]+/serviceAccounts/)?([a-z0-9][a-z0-9._-]*@[a-z0-9.-]*[a-z0-9])")
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

// principal returns who lacks a permission, as a member of a policy, or the name for whoever that is.
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

// remedy returns the command that mends an error, where one is known.
func (e *Executor) remedy(refused *refusal) string {
	code, class := refused.classify()
	switch {
	case refused.reason == "SERVICE_DISABLED" && refused.metadata["service"] != "":
		return e.enableCommand(foreign.Line(refused.metadata["service"], 100))
	case code == faas.ErrTooLarge && refused.httpStatus != http.StatusRequestEntityTooLarge:
		if m := maxScale.FindStringSubmatch(refused.message); m != nil {
			return "set option max_instances to " + m[1] + " or less, or ask for more quota"
		}
		return "ask for more quota (https://console.cloud.google.com/iam-admin/quotas?project=" + e.set.project + "), use less, or use another region"
	case code != faas.ErrPermissionDenied || class == settling || containsAny(strings.ToLower(refused.message), policyTexts):
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
		return "gcloud iam service-accounts add-iam-policy-binding " + account + " --project=" + e.set.project + " --member=" + member + " --role=" + role + explain(member)
	case role != "":
		return e.grantTo(member, role)
	}
	return ""
}

// maxMessage bounds what an error repeats of Google's words, in bytes. A build's messages need some room.
const maxMessage = 1500
