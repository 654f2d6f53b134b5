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
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/faas/internal/payloads"
)

// refusalOf returns azcore's error for an answer of Resource Manager.
func refusalOf(t testing.TB, status int, code, message string) error {
	t.Helper()
	body, err := json.Marshal(map[string]any{"error": map[string]any{"code": code, "message": message}})
	if err != nil {
		t.Fatal(err)
	}
	return runtime.NewResponseError(&http.Response{
		StatusCode: status, Header: http.Header{"Retry-After": {"7"}}, Body: io.NopCloser(strings.NewReader(string(body))),
	})
}

func TestEveryRefusalIsClassedOnce(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		status        int
		code, message string
		class         kit.Class
		means         faas.Code
		remedy        string
	}{
		{400, "BadRequest", "the sku is wrong", kit.Refused, faas.ErrInvalidArgument, ""},
		{400, "BadRequest", "Encountered an error (ServiceUnavailable) from host runtime.", kit.Settling,
			faas.ErrUnavailable, ""},
		{400, "PrincipalNotFound", "Principal x does not exist in the directory", kit.Settling, faas.ErrUnavailable, ""},
		{400, "X", "Operation could not be completed as it results in exceeding approved Cores quota.", kit.Quota,
			faas.ErrTooLarge, "quota"},
		{401, "Unauthorized", "This region has quota of 0 instances for your subscription.", kit.Quota, faas.ErrTooLarge,
			"quota"},
		{401, "InvalidAuthenticationToken", "The access token is invalid.", kit.Denied, faas.ErrPermissionDenied, ""},
		{403, "AuthorizationFailed", "no", kit.Refused, faas.ErrPermissionDenied, ""},
		{403, "RequestDisallowedByPolicy", "disallowed by policy 'prevent shared key access'", kit.Refused,
			faas.ErrPermissionDenied, "storage_auth=identity"},
		{404, "ResourceNotFound", "", kit.Absent, faas.ErrNotFound, ""},
		{404, "SubscriptionNotFound", "", kit.Refused, faas.ErrInvalidArgument, ""},
		{408, "", "", kit.Outage, faas.ErrUnavailable, ""},
		{409, "ScopeLocked", "cannot perform write operation", kit.Refused, faas.ErrPermissionDenied, "az lock"},
		{409, "Conflict", "Cannot modify this site because another operation is in progress.", kit.Busy, faas.ErrConflict,
			""},
		{409, "Conflict", "The maximum number of Free ServerFarms allowed in a Subscription is 10.", kit.Quota,
			faas.ErrTooLarge, "quota"},
		{409, "Conflict", "Website with given name x already exists.", kit.Exists, faas.ErrAlreadyExists, ""},
		{409, "Conflict", "Server farm 'x' cannot be deleted because it has web app(s) y assigned to it.", kit.Refused,
			faas.ErrConflict, ""},
		{409, "StorageAccountAlreadyTaken", "", kit.Exists, faas.ErrAlreadyExists, ""},
		{409, "StorageAccountOperationInProgress", "", kit.Busy, faas.ErrConflict, ""},
		{423, "", "", kit.Busy, faas.ErrConflict, ""},
		{429, "TooManyRequests", "", kit.Throttled, faas.ErrThrottled, ""},
		{429, "QuotaExceeded", "quota exceeded for this minute", kit.Throttled, faas.ErrThrottled, ""},
		{500, "InternalServerError", "", kit.Outage, faas.ErrUnavailable, ""},
		{504, "GatewayTimeout", "", kit.Outage, faas.ErrUnavailable, ""},
		{200, "QuotaExceeded", "the operation failed", kit.Quota, faas.ErrTooLarge, "quota"}, // the end of an operation
		{200, "Conflict", "the operation failed", kit.Busy, faas.ErrConflict, ""},
	} {
		refusal := fmt.Errorf("within: %w", refusalOf(t, test.status, test.code, test.message))
		got := judge(refusal)
		if got.Class != test.class || got.Code != test.means || got.RetryAfter == 0 ||
			(got.Remedy == "") != (test.remedy == "") || !strings.Contains(got.Remedy, test.remedy) {
			t.Errorf("%d %s %q: %+v, want class %d, code %q, remedy %q", test.status, test.code, test.message, got, test.class,
				test.means, test.remedy)
		}
	}
}

func TestWhatIsNoAnswerIsClassedToo(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	deployment := func(status int, text string) error { return &deployError{deployment{Status: status, StatusText: text}} }
	for name, test := range map[string]struct {
		ctx   context.Context
		err   error
		class kit.Class
		code  faas.Code
	}{
		"a broken connection": {t.Context(), &url.Error{Op: "Get", Err: io.ErrUnexpectedEOF}, kit.Outage,
			faas.ErrUnavailable},
		"a deadline of the network's": {t.Context(), &url.Error{Op: "Get", Err: context.DeadlineExceeded}, kit.Outage,
			faas.ErrUnavailable},
		"the caller's end": {ended, refusalOf(t, 503, "", ""), kit.Refused, faas.ErrTimeout},
		"a wait that saw nothing": {t.Context(), &kit.WaitError{Last: kit.NotYet(0, "it starts")}, kit.Refused,
			faas.ErrTimeout},
		"a wait that was refused": {t.Context(), &kit.WaitError{Last: refusalOf(t, 403, "", "")}, kit.Refused,
			faas.ErrPermissionDenied},
		"no token": {t.Context(), &tokenError{errors.New("no credential")}, kit.Refused,
			faas.ErrPermissionDenied},
		"a role that does not count yet": {t.Context(), deployment(deployFailed, "403 This request is not authorized"),
			kit.Settling, faas.ErrUnavailable},
		"an account without keys": {t.Context(),
			deployment(deployFailed, "403 Key based authentication is not permitted"), kit.Refused, faas.ErrPermissionDenied},
		"a bad package": {t.Context(), deployment(deployFailed, "the disk is full"), kit.Refused,
			faas.ErrUnavailable},
		"another deployment":     {t.Context(), deployment(deployConflict, ""), kit.Busy, faas.ErrConflict},
		"a cancelled deployment": {t.Context(), deployment(deployCancelled, "403"), kit.Refused, faas.ErrUnavailable},
		"what nobody knows":      {t.Context(), errors.New("x"), kit.Refused, faas.ErrInternal},
	} {
		if got := meaning(test.ctx, test.err); got.Class != test.class || got.Code != test.code {
			t.Errorf("%s: %+v, want class %d, code %q", name, got, test.class, test.code)
		}
	}
}

func FuzzMessageOf(f *testing.F) {
	for _, body := range []string{
		`{"error":{"code":"A","message":"B","target":"t",` +
			`"details":[{"code":"C","message":"D","details":[{"message":"E"}]}],` +
			`"additionalInfo":[{"info":{"policyDefinitionDisplayName":"P"}}]}}`,
		`{"Code":"A","Message":"B","Details":[{"Message":"B"},{"Code":"A"}]}`, `{"error":"text"}`, `<html>`, `text`,
		`{"error":{"details":1}}`, `[]`, `null`, "",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if text := messageOf(body); len(text) > 4*len(body)+100 {
			t.Errorf("%d bytes make a message of %d", len(body), len(text))
		}
	})
}

// A caller that leaves gets a timeout even if the host's answer to that comes first.
func TestAnAnswerToACallerThatLeftIsTimeout(t *testing.T) {
	e := openAt(t, serve(t, azuretest.Config{}), "svc", opening{})
	answer := &http.Response{StatusCode: http.StatusInternalServerError, Header: http.Header{}}
	ctx, cancel := context.WithCancel(t.Context())
	if _, failed := e.result(ctx, payloads.Raw, 3, answer, nil, false); failed.Code != faas.ErrFunctionFailed {
		t.Errorf("got %v, want function failed", failed)
	}
	cancel()
	if _, failed := e.result(ctx, payloads.Raw, 3, answer, nil, false); failed.Code != faas.ErrTimeout {
		t.Errorf("got %v, want timeout", failed)
	}
}
