//go:build !faas_only || faas_gcp

package gcp

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	rpccode "google.golang.org/genproto/googleapis/rpc/code"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
)

// The meaning and the remedy of what Google answers, and of what ends its operations (status 0).
func TestWhatRefusalsMean(t *testing.T) {
	e, err := New(t.Context(), faas.Config{Service: "s", ProjectID: "test-project"})
	if err != nil {
		t.Fatal(err)
	}
	quota := map[string]any{"@type": "type.googleapis.com/google.rpc.QuotaFailure",
		"violations": []any{map[string]any{"subject": "project:1", "description": "CpuAllocPerProjectRegion"}}}
	unmet := map[string]any{"@type": "type.googleapis.com/google.rpc.PreconditionFailure",
		"violations": []any{map[string]any{"type": "X", "subject": "y", "description": "in progress"}}}
	rate := map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED",
		"domain": "googleapis.com"}
	for _, test := range []struct {
		status  int
		code    string
		message string
		details []any
		class   kit.Class
		want    faas.Code
		remedy  string // a part of it; "-" for none
	}{
		{400, "FAILED_PRECONDITION", "Constraint constraints/gcp.resourceLocations violated", nil, kit.Refused,
			faas.ErrPermissionDenied, "-"},
		{400, "FAILED_PRECONDITION", "One or more users named in the policy do not belong to a permitted customer", nil,
			kit.Refused, faas.ErrPermissionDenied, "-"},
		{400, "FAILED_PRECONDITION", "another operation is in progress", nil, kit.Busy, faas.ErrConflict, "-"},
		{400, "FAILED_PRECONDITION", "see the violations", []any{unmet}, kit.Refused, faas.ErrInvalidArgument, "-"},
		{400, "FAILED_PRECONDITION", "the function is of the wrong kind", nil, kit.Refused, faas.ErrInvalidArgument, "-"},
		{0, "FAILED_PRECONDITION", "another operation is in progress", nil, kit.Refused, faas.ErrInvalidArgument, "-"},
		{409, "ABORTED", "unable to queue the operation", nil, kit.Busy, faas.ErrConflict, "-"},
		{409, "", "Could not create Cloud Run service x. A Cloud Run service with this name already exists.", nil,
			kit.Refused, faas.ErrConflict, "-"},
		{0, "ALREADY_EXISTS", "A Cloud Run service with this name already exists", nil, kit.Refused, faas.ErrConflict, "-"},
		{0, "ALREADY_EXISTS", "Resource x already exists", nil, kit.Exists, faas.ErrAlreadyExists, "-"},
		{429, "RESOURCE_EXHAUSTED", "Quota exceeded", nil, kit.Throttled, faas.ErrThrottled, "-"},
		{429, "RESOURCE_EXHAUSTED", "A quota is exceeded", []any{quota}, kit.Quota, faas.ErrTooLarge,
			"iam-admin/quotas?project=test-project"},
		{429, "RESOURCE_EXHAUSTED", "A quota is exceeded", []any{quota, rate}, kit.Throttled, faas.ErrThrottled, "-"},
		{0, "RESOURCE_EXHAUSTED", "Quota exceeded for total allowable CPU per project per region.", nil, kit.Quota,
			faas.ErrTooLarge, "quotas"},
		{0, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Builds' and limit 'Builds per minute'", nil,
			kit.Throttled, faas.ErrThrottled, "-"},
		{400, "INVALID_ARGUMENT", "For the specified value, maxScale may not exceed 10.", nil, kit.Quota, faas.ErrTooLarge,
			"option max_instances to 10"},
		{403, "PERMISSION_DENIED", "Unable to retrieve the repository metadata for projects/p", nil, kit.Settling,
			faas.ErrPermissionDenied, "-"},
		{0, "PERMISSION_DENIED", "Unable to retrieve the repository metadata for projects/p", nil, kit.Settling,
			faas.ErrPermissionDenied, "-"},
		{404, "NOT_FOUND", "Service account projects/-/serviceAccounts/a@b was not found.", nil, kit.Settling,
			faas.ErrNotFound, "-"},
		{404, "NOT_FOUND", "Resource x was not found", nil, kit.Absent, faas.ErrNotFound, "-"},
		{403, "PERMISSION_DENIED", "Permission 'cloudfunctions.functions.create' denied on resource x", nil, kit.Refused,
			faas.ErrPermissionDenied, "--role=roles/cloudfunctions.developer"},
		{401, "UNAUTHENTICATED", "Request had invalid authentication credentials", nil, kit.Denied, faas.ErrPermissionDenied,
			"application-default login"},
		{401, "", "<html>", nil, kit.Denied, faas.ErrPermissionDenied, "application-default login"},
		{408, "", "", nil, kit.Outage, faas.ErrUnavailable, "-"},
		{500, "INTERNAL", "an internal error", nil, kit.Outage, faas.ErrUnavailable, "-"},
		{503, "UNAVAILABLE", "try again", nil, kit.Outage, faas.ErrUnavailable, "-"},
		{504, "DEADLINE_EXCEEDED", "", nil, kit.Outage, faas.ErrUnavailable, "-"},
		{0, "DEADLINE_EXCEEDED", "the build took too long", nil, kit.Refused, faas.ErrTimeout, "-"},
		{0, "INTERNAL", "an internal error", nil, kit.Refused, faas.ErrUnavailable, "-"},
		{0, "UNKNOWN", "something", nil, kit.Refused, faas.ErrUnavailable, "-"},
		{0, "CANCELLED", "somebody ended it", nil, kit.Busy, faas.ErrConflict, "-"},
		{501, "UNIMPLEMENTED", "no such method", nil, kit.Refused, faas.ErrUnsupported, "-"},
		{400, "OUT_OF_RANGE", "too far", nil, kit.Refused, faas.ErrInvalidArgument, "-"},
		{412, "", "conditionNotMet", nil, kit.Busy, faas.ErrConflict, "-"},
		{413, "", "too large", nil, kit.Refused, faas.ErrTooLarge, "-"},
	} {
		var failed *faas.Error
		if test.status == 0 {
			op := &operation{Name: "o", Done: true}
			text, err := json.Marshal(map[string]any{"code": codeOf(t, test.code), "message": test.message,
				"details": test.details})
			if err == nil {
				err = json.Unmarshal(text, &op.Error)
			}
			if err != nil {
				t.Fatal(err)
			}
			failed = e.operationError(request{op: "deploy"}, op)
		} else {
			body, err := json.Marshal(map[string]any{"error": map[string]any{
				"code": test.status, "status": test.code, "message": test.message, "details": test.details}})
			if err != nil {
				t.Fatal(err)
			}
			failed = e.statusError(request{op: "deploy", method: http.MethodPost, url: "https://example.com/"},
				&answer{status: test.status, header: http.Header{}, body: body})
		}
		means := kit.RefusalOf(failed)
		if means.Class != test.class || means.Code != test.want || failed.Code != test.want {
			t.Errorf("%d %s %q: class %d and code %q, want %d and %q", test.status, test.code, test.message, means.Class,
				failed.Code, test.class, test.want)
		}
		switch {
		case test.remedy == "-" && means.Remedy != "":
			t.Errorf("%d %s %q: the remedy is %q", test.status, test.code, test.message, means.Remedy)
		case test.remedy != "-" && (!strings.Contains(means.Remedy, test.remedy) ||
			!strings.Contains(failed.Error(), test.remedy)):
			t.Errorf("%d %s %q: the remedy is %q, want %q", test.status, test.code, test.message, means.Remedy, test.remedy)
		}
	}
}

func codeOf(t *testing.T, name string) int32 {
	t.Helper()
	code, known := rpccode.Code_value[name]
	if !known {
		t.Fatalf("there is no code %s", name)
	}
	return code
}
