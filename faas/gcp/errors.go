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

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/foreign"
	"github.com/tangle-network/blueprint-serverless/internal/transfer"
)

// APIError is an error that a Google Cloud API answered with, or that an operation ended with. It is the cause of such an [faas.Error].
type APIError struct {
	HTTPStatus int               // 0 for an operation
	Status     string            // canonical code, such as "PERMISSION_DENIED"; may be empty
	Message    string            // Google's words
	Reason     string            // such as "SERVICE_DISABLED"; may be empty
	Metadata   map[string]string // belongs to Reason
	// Details are what Google says besides: violations of preconditions, of fields and of quotas, and where help is.
	Details []string
	// Remedy is what mends it, often a gcloud command; may be empty.
	Remedy string

	violated bool // a precondition is violated that Google names
	quota    bool // a quota is exceeded that Google names
}

// Error gives status, message, details and remedy.
func (e *APIError) Error() string {
	text := cmp.Or(e.Status, "status "+fmt.Sprint(e.HTTPStatus))
	if e.Message != "" {
		text += ": " + e.Message
	}
	for _, detail := range e.Details {
		if !strings.Contains(text, detail) {
			text += "; " + detail
		}
	}
	if e.Remedy != "" {
		text += "; to mend it: " + e.Remedy
	}
	return text
}

// canonical are the names of google.rpc.Code, by number.
var canonical = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

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
func (e *APIError) classify() (faas.Code, class) {
	code, operation := e.code(), e.HTTPStatus == 0
	text := strings.ToLower(e.Message + "\n" + strings.Join(e.Details, "\n"))
	switch {
	case containsAny(text, policyTexts) || strings.Contains(e.Reason, "ORG_POLICY"):
		return faas.ErrPermissionDenied, stays
	case containsAny(text, takenTexts):
		return faas.ErrConflict, stays
	case containsAny(text, settlingTexts) || missingAccount.MatchString(text):
		return code, settling
	case containsAny(text, quotaTexts) && (code == faas.ErrThrottled || code == faas.ErrConflict || code == faas.ErrInvalidArgument):
		return faas.ErrTooLarge, stays
	case code == faas.ErrThrottled:
		limited := e.Reason == "RATE_LIMIT_EXCEEDED" || containsAny(text, rateTexts)
		if (operation || e.quota) && !limited {
			return faas.ErrTooLarge, stays
		}
		return code, stays // the engine waits
	case e.Status == "FAILED_PRECONDITION":
		// An operation was begun, so nothing else stood in its way.
		if operation || e.violated || !containsAny(text, busyTexts) {
			return faas.ErrInvalidArgument, stays
		}
		return faas.ErrConflict, busy
	case code == faas.ErrConflict:
		return code, busy
	case code == faas.ErrAlreadyExists:
		return code, exists
	case !operation && passes(e.HTTPStatus):
		return code, unclear
	}
	return code, stays
}

// code translates the canonical code, or else the HTTP status.
func (e *APIError) code() faas.Code {
	switch e.Status {
	case "INVALID_ARGUMENT", "OUT_OF_RANGE":
		return faas.ErrInvalidArgument
	case "DEADLINE_EXCEEDED":
		if e.HTTPStatus != 0 { // of one request, which may be sent again
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
	switch e.HTTPStatus {
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
	var api *APIError
	if errors.As(err, &api) {
		_, c := api.classify()
		return c
	}
	if isTransient(err) {
		return unclear
	}
	return stays
}

// statusError turns an API's answer that is not a success into an error.
func (e *Executor) statusError(r request, a *answer) *faas.Error {
	var body struct {
		Error struct {
			rpcStatus
			Status string `json:"status"`
		} `json:"error"`
	}
	api := &APIError{HTTPStatus: a.status}
	if json.Unmarshal(a.body, &body) == nil && (body.Error.Message != "" || body.Error.Status != "") {
		api.Status, api.Message = foreign.Line(body.Error.Status, 40), foreign.Line(r.clean(body.Error.Message), maxMessage)
		api.detail(r, body.Error.rpcStatus)
	} else {
		api.Message = foreign.Excerpt([]byte(r.clean(string(a.body))))
	}
	if location := a.header.Get("Location"); location != "" && a.status/100 == 3 {
		api.Message = "it redirects to " + faas.RedactURL(location) + ", and credentials are not sent elsewhere"
	}
	if why := a.header.Get("WWW-Authenticate"); why != "" && a.status == http.StatusUnauthorized {
		api.Details = append(api.Details, "WWW-Authenticate: "+foreign.Line(r.clean(why), maxDetail))
	}
	api.Remedy = e.remedy(api)
	if a.status == http.StatusUnauthorized && r.forget != nil {
		r.forget()
	}
	code, _ := api.classify()
	failed := e.errorf(code, r, "%s %s: %w", r.method, faas.RedactURL(r.url), api)
	failed.RetryAfter = transfer.RetryAfter(a.header, time.Now())
	return failed
}

// maxDetail bounds what an error repeats of one detail, in bytes, and maxDetails how many it repeats.
const (
	maxDetail  = 300
	maxDetails = 8
)

// detail reads the details of a status: google.rpc's error_details.proto has their shapes.
func (e *APIError) detail(r request, status rpcStatus) {
	add := func(format string, args ...any) {
		if len(e.Details) < maxDetails {
			e.Details = append(e.Details, foreign.Line(r.clean(fmt.Sprintf(format, args...)), maxDetail))
		}
	}
	for _, d := range status.Details {
		kind := d.Type[strings.LastIndexByte(d.Type, '.')+1:]
		switch kind {
		case "ErrorInfo":
			e.Reason, e.Metadata = foreign.Line(d.Reason, 100), map[string]string{}
			for key, value := range d.Metadata {
				e.Metadata[key] = foreign.Line(r.clean(value), maxDetail)
			}
			if limit := cmp.Or(e.Metadata["quota_limit"], e.Metadata["quota_metric"]); limit != "" {
				add("quota %s", limit)
			}
		case "PreconditionFailure", "QuotaFailure":
			for _, v := range d.Violations {
				e.violated = e.violated || kind == "PreconditionFailure"
				e.quota = e.quota || kind == "QuotaFailure"
				add("%s", join(": ", cmp.Or(v.Type, v.QuotaID, v.QuotaMetric), v.Subject, v.Description))
			}
		case "BadRequest":
			for _, v := range d.FieldViolations {
				add("%s", join(": ", v.Field, v.Description))
			}
		case "Help":
			for _, link := range d.Links {
				add("%s", join(": ", link.Description, link.URL))
			}
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
func (e *APIError) permission() string {
	if named := e.Metadata["permission"]; named != "" {
		return named
	}
	for _, form := range permissionForms {
		if m := form.FindStringSubmatch(e.Message); m != nil {
			return m[1]
		}
	}
	return ""
}

// principal returns who lacks a permission, as a member of a policy, or the name for whoever that is.
func (e *APIError) principal() string {
	m := principalForm.FindStringSubmatch(e.Message)
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
func (e *Executor) remedy(api *APIError) string {
	code, class := api.classify()
	switch {
	case api.Reason == "SERVICE_DISABLED" && api.Metadata["service"] != "":
		return e.enableCommand(foreign.Line(api.Metadata["service"], 100))
	case code == faas.ErrTooLarge && api.HTTPStatus != http.StatusRequestEntityTooLarge:
		if m := maxScale.FindStringSubmatch(api.Message); m != nil {
			return "set option max_instances to " + m[1] + " or less, or ask for more quota"
		}
		return "ask for more quota (https://console.cloud.google.com/iam-admin/quotas?project=" + e.set.project + "), use less, or use another region"
	case code != faas.ErrPermissionDenied || class == settling || containsAny(strings.ToLower(api.Message), policyTexts):
		return ""
	case api.Status == "UNAUTHENTICATED" || api.HTTPStatus == http.StatusUnauthorized:
		return "gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
	}
	permission, member := api.permission(), api.principal()
	role := roleFor(permission)
	switch {
	case strings.EqualFold(permission, "iam.serviceAccounts.actAs"):
		account := cmp.Or(e.set.serviceAccount, "PROJECT_NUMBER-compute@developer.gserviceaccount.com")
		if m := accountForm.FindStringSubmatch(api.Message); m != nil {
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
