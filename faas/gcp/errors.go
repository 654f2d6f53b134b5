//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
	"unicode"

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
	// Remedy is what mends it, often a gcloud command; may be empty.
	Remedy string
}

// Error gives status, message and remedy.
func (e *APIError) Error() string {
	text := cmp.Or(e.Status, "status "+fmt.Sprint(e.HTTPStatus))
	if e.Message != "" {
		text += ": " + e.Message
	}
	if e.Remedy != "" {
		text += "; to mend it: " + e.Remedy
	}
	return text
}

func asAPIError(err error) bool {
	var api *APIError
	return errors.As(err, &api)
}

// canonical are the names of google.rpc.Code, by number.
var canonical = []string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
	"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// code translates the canonical code, or else the HTTP status.
func (e *APIError) code() faas.Code {
	switch e.Status {
	case "INVALID_ARGUMENT", "OUT_OF_RANGE":
		return faas.ErrInvalidArgument
	case "DEADLINE_EXCEEDED":
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
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return faas.ErrTimeout
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
		api.Status, api.Message = foreign.Line(body.Error.Status, 40), foreign.Line(body.Error.Message, maxMessage)
		api.detail(body.Error.rpcStatus)
	} else {
		api.Message = foreign.Excerpt(a.body)
	}
	if location := a.header.Get("Location"); location != "" && a.status/100 == 3 {
		api.Message = "it redirects to " + faas.RedactURL(location) + ", and credentials are not sent elsewhere"
	}
	api.Remedy = e.remedy(api)
	if a.status == http.StatusUnauthorized && e.access != nil && r.bearer != nil {
		e.access.forget()
	}
	failed := e.errorf(api.code(), r, "%s %s: %w", r.method, faas.RedactURL(r.url), api)
	failed.RetryAfter = transfer.RetryAfter(a.header, time.Now())
	return failed
}

func (e *APIError) detail(status rpcStatus) {
	for _, d := range status.Details {
		if strings.HasSuffix(d.Type, "google.rpc.ErrorInfo") {
			e.Reason, e.Metadata = d.Reason, d.Metadata
		}
	}
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
		if strings.HasPrefix(permission, r.permission) {
			return r.role
		}
	}
	return ""
}

func (e *Executor) enableCommand(service string) string {
	return "gcloud services enable " + service + " --project=" + e.set.project
}

func (e *Executor) grantCommand(role string) string {
	return "gcloud projects add-iam-policy-binding " + e.set.project + " --member=MEMBER --role=" + role + " (MEMBER: who deploys, as in user:EMAIL or serviceAccount:EMAIL)"
}

// remedy returns the command that mends an error, where one is known.
func (e *Executor) remedy(api *APIError) string {
	switch {
	case api.Reason == "SERVICE_DISABLED" && api.Metadata["service"] != "":
		return e.enableCommand(foreign.Line(api.Metadata["service"], 100))
	case api.code() != faas.ErrPermissionDenied:
		return ""
	case api.Status == "UNAUTHENTICATED" || api.HTTPStatus == http.StatusUnauthorized:
		return "gcloud auth application-default login, or set GOOGLE_APPLICATION_CREDENTIALS"
	}
	permission := api.Metadata["permission"]
	if permission == "" { // Google's words are all there is
		for word := range strings.FieldsFuncSeq(api.Message, func(r rune) bool { return !unicode.IsLetter(r) && r != '.' }) {
			if word = strings.Trim(word, "."); strings.Count(word, ".") == 2 && roleFor(word) != "" {
				permission = word
				break
			}
		}
	}
	role := roleFor(permission)
	switch {
	case permission == "iam.serviceAccounts.actAs":
		account := cmp.Or(e.set.serviceAccount, "PROJECT_NUMBER-compute@developer.gserviceaccount.com")
		return "gcloud iam service-accounts add-iam-policy-binding " + account + " --project=" + e.set.project + " --member=MEMBER --role=" + role + " (MEMBER: who deploys, as in user:EMAIL or serviceAccount:EMAIL)"
	case role != "":
		return e.grantCommand(role)
	}
	return ""
}

// maxMessage bounds what an error repeats of Google's words, in bytes. A build's messages need some room.
const maxMessage = 1500
