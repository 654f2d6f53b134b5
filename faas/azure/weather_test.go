//go:build !faas_only || faas_azure

package azure

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/sanitize"
)

// hasIdentity makes sure that an app reaches its storage with its identity, and not with a key.
func hasIdentity(t testing.TB, server *azuretest.Server, e *Executor) {
	t.Helper()
	if settings := server.Settings(e.names.app); settings[connectionSetting] != "" ||
		settings[hostStorage+"__credential"] != "managedidentity" {
		t.Error("the app has a connection string instead of an identity")
	}
}

func TestReplicasThatLagEndNoDeployment(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]azuretest.Config{
		"by identity": {Appear: 4, Polls: 1}, "by key": {Appear: 4, Polls: 1, NoRoles: true}, "at once": {Appear: 2},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, cfg)
			e := openAt(t, server, "lag", opening{})
			u := unitOf(t, e, wanted(someJobs...))
			converge(t, e, u)
			sees(t, e, "the-first-value")
			if !cfg.NoRoles {
				hasIdentity(t, server, e)
			}
			if err := e.Remove(t.Context(), u.ID); err != nil {
				t.Fatal(err)
			}
			if left := server.Left(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestAFailedLookEndsNoDeployment(t *testing.T) {
	t.Parallel()
	for name, match := range map[string]func(*http.Request) bool{
		"of an operation":    request("GET", "/operations/"),
		"of a deployment":    request("GET", "/api/deployments/"),
		"of the functions":   request("GET", "/functions"),
		"of the host's keys": request("POST", "/host/default/listkeys"),
	} {
		for _, f := range []struct {
			times int
			fault azuretest.Fault
		}{
			{9, azuretest.Fault{Status: 500, Code: "InternalServerError"}},
			{9, azuretest.Fault{Status: 503, Code: "ServiceUnavailable"}},
			{2, azuretest.Fault{Status: 429, Code: "TooManyRequests"}},
			{1, azuretest.Fault{Status: 401, Code: "InvalidAuthenticationToken"}},
			{1, azuretest.Fault{Status: 404, Code: "NotFound"}}, {1, azuretest.Fault{Status: 408}},
		} {
			t.Run(fmt.Sprintf("%s, %d times %d", name, f.times, f.fault.Status), func(t *testing.T) {
				server := serve(t, azuretest.Config{Polls: 1, Fault: times(f.times, match, f.fault)})
				e := openAt(t, server, "looks", opening{})
				converge(t, e, unitOf(t, e, wanted(someJobs...)))
				sees(t, e, "the-first-value")
				if n := uploads(server.Requests()); n != 1 {
					t.Errorf("%d uploads, want 1", n)
				}
			})
		}
	}
}

func TestOneRefusalOfAChangeEndsNoDeployment(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*http.Request) *azuretest.Fault{
		"401 of the app": times(1, request("PUT", "/sites/"),
			azuretest.Fault{Status: 401, Code: "InvalidAuthenticationToken"}),
		"404 of the settings": times(2, request("POST", "/config/appsettings/list"),
			azuretest.Fault{Status: 404, Code: "ResourceNotFound"}),
		"404 of the role": times(2, request("PUT", "/roleAssignments/"),
			azuretest.Fault{Status: 404, Code: "ResourceNotFound"}),
		"500 of the role": times(9, request("PUT", "/roleAssignments/"),
			azuretest.Fault{Status: 500, Code: "InternalServerError"}),
		"outage of the settings": times(15, request("POST", "/config/appsettings/list"),
			azuretest.Fault{Status: 503, Code: "ServiceUnavailable"}),
		"500 of the upload": times(1, request("POST", "/api/publish"), azuretest.Fault{Status: 500}),
		"504 of the upload": times(1, request("POST", "/api/publish"), azuretest.Fault{Status: 504}),
		"423 of the upload": times(2, request("POST", "/api/publish"), azuretest.Fault{Status: 423}),
		"401 of the upload": times(1, request("POST", "/api/publish"), azuretest.Fault{Status: 401}),
		"the group is being deleted": times(2, request("PUT", "/serverfarms/"),
			azuretest.Fault{Status: 409, Code: "ResourceGroupBeingDeleted"}),
		"the account is at work still": times(2, request("PUT", "/storageAccounts/"),
			azuretest.Fault{Status: 409, Code: "StorageAccountOperationInProgress"}),
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, azuretest.Config{Fault: fault})
			e := openAt(t, server, "changes", opening{})
			converge(t, e, unitOf(t, e, wanted(someJobs...)))
			sees(t, e, "the-first-value")
			hasIdentity(t, server, e)
		})
	}
}

func TestAnOperationThatFailedIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{Fail: func(kind string, _ int) string {
		if kind == accountType {
			return "StorageAccountOperationInProgress"
		}
		return ""
	}})
	e := openAt(t, server, "failed", opening{})
	_, err := e.Converge(t.Context(), unitOf(t, e, wanted(someJobs...)), nil, nil)
	var vain *kit.WaitError
	if faas.CodeOf(err) != faas.ErrConflict || errors.As(err, &vain) {
		t.Errorf("error %v, want that of the operation", err)
	}
}

func TestPartialSuccessIsSuccess(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{Partial: func(int) bool { return true }})
	e := openAt(t, server, "partial", opening{})
	converge(t, e, unitOf(t, e, wanted(someJobs...)))
	sees(t, e, "the-first-value")
	if n := uploads(server.Requests()); n != 1 {
		t.Errorf("%d uploads, want 1", n)
	}
}

// lateRole holds what Azure has been seen to say while a role has no effect yet.
var lateRole = []string{
	"403 this request is not authorized to perform this operation", "Unable to load the proper Managed Identity.",
	"No such host is known. (account.blob.core.windows.net:443)",
	"ContainerNotFound", "The specified container does not exist.",
}

// wholeUploads counts the uploads of packages with functions, and those of empty ones.
func wholeUploads(server *azuretest.Server) (whole, empty int) {
	for _, size := range server.Uploads() {
		if size > 1000 {
			whole++
		} else {
			empty++
		}
	}
	return whole, empty
}

func TestALateRoleIsWaitedForWithoutUploadingAgainAndAgain(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{RoleLate: lateRole})
	e := openAt(t, server, "late", opening{})
	converge(t, e, unitOf(t, e, wanted(someJobs...)))
	sees(t, e, "the-first-value")
	hasIdentity(t, server, e)
	if whole, empty := wholeUploads(server); whole != 2 || empty != len(lateRole) {
		t.Errorf("%d uploads of the package and %d of an empty one, want 2 and %d", whole, empty, len(lateRole))
	}
}

// In TestADeadlineThatEndsBeforeTheRoleCountsBeginsNothingAnew, the deadline passes while the role
// of the app's identity has no effect yet. Another app would have another identity, which would
// need another role.
func TestADeadlineThatEndsBeforeTheRoleCountsBeginsNothingAnew(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]func(*http.Request) bool{
		"at an upload": request("POST", "/api/publish"), "at a poll": request("GET", "/api/deployments/"),
	} {
		for _, why := range []error{context.DeadlineExceeded, context.Canceled} {
			t.Run(fmt.Sprintf("%s, %v", name, why), func(t *testing.T) {
				server := serve(t, azuretest.Config{RoleLate: lateRole, Polls: 1})
				state := t.TempDir()
				ctx, cancel := context.WithCancelCause(t.Context())
				seen := 0
				_, err := deployServiceIn(ctx, t, server, state, "one",
					opening{wrap: func(base http.RoundTripper) http.RoundTripper {
						return roundTripper(func(r *http.Request) (*http.Response, error) {
							if at(r) {
								if seen++; seen == 5 {
									cancel(why)
								}
							}
							return base.RoundTrip(r)
						})
					}})
				var failed *faas.Error
				if !errors.As(err, &failed) || failed.Code != faas.ErrTimeout {
					t.Fatalf("error %v, want %v", err, faas.ErrTimeout)
				}
				if why == context.Canceled {
					if left := server.Left(); len(left) > 0 {
						t.Errorf("whoever cancels leaves %v behind", left)
					}
					return
				}
				if len(failed.Leftovers) != 1 || !strings.Contains(err.Error(), "role of the app's identity") ||
					!strings.Contains(err.Error(), "deploy again to continue") ||
					!strings.Contains(err.Error(), "Azure could not deploy the package: ") {
					t.Errorf("the error does not say what was left and why: %v", err)
				}
				app := failed.Leftovers[0]
				before := server.Site(app)
				if name == "at an upload" { // whoever does not want to go on
					svc, err := serverless.OpenService(t.Context(), "Engine Service", serverless.WithStateDir(state),
						serverless.WithExecutor(openAt(t, server, "Engine Service", opening{})))
					if err == nil {
						err = svc.Undeploy(t.Context())
					}
					if left := server.Left(); err != nil || len(left) > 0 {
						t.Errorf("left behind: %v, error %v", left, err)
					}
					return
				}
				svc, err := deployService(t, server, state, "one")
				if err != nil {
					t.Fatal(err)
				}
				answersWith(t, svc, "one")
				if after := server.Site(app); after == nil || !reflect.DeepEqual(before["identity"], after["identity"]) {
					t.Errorf("the app has the identity %v, and had %v", after["identity"], before["identity"])
				}
				if whole, _ := wholeUploads(server); whole > 3 {
					t.Errorf("%d uploads of the package", whole)
				}
				if err := svc.Undeploy(t.Context()); err != nil {
					t.Fatal(err)
				}
				if left := server.Left(); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			})
		}
	}
}

// In TestNoDumpOfAnAnswerBecomesTheMessage, waits end that Azure refused meanwhile: azcore prints
// an answer on many lines, with dashes between them.
func TestNoDumpOfAnAnswerBecomesTheMessage(t *testing.T) {
	refusal := &azcore.ResponseError{StatusCode: http.StatusServiceUnavailable, ErrorCode: "TheReason"}
	synctest.Test(t, func(t *testing.T) {
		e := &Executor{pace: defaultPace, secrets: sanitize.NewCleaner()}
		for name, within := range map[string]time.Duration{"its longest time": 10 * time.Hour, "its context": time.Minute} {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			err := e.wait(2*time.Hour, "what it is for").Until(ctx, func(ctx context.Context) error {
				return e.wait(time.Hour, "the state").Until(ctx, func(context.Context) error { return refusal })
			})
			failed := e.fail(ctx, "deploy", faas.NoJob, err)
			cancel()
			var response *azcore.ResponseError
			if !errors.As(failed, &response) || strings.Contains(failed.Error(), "----") ||
				!strings.Contains(failed.Error(), "TheReason") {
				t.Errorf("%s: error %v", name, failed)
			}
			if timeout := errors.Is(failed, context.DeadlineExceeded); timeout != (name == "its context") {
				t.Errorf("%s: %v is a deadline that passed: %v", name, failed, timeout)
			}
		}
	})
}

func TestRemoveBelievesNoSingle404(t *testing.T) {
	t.Parallel()
	gone := azuretest.Fault{Status: 404, Code: "ResourceNotFound"}
	noGroup := azuretest.Fault{Status: 404, Code: "ResourceGroupNotFound"}
	group := func(r *http.Request) bool {
		return r.Method == "GET" && strings.Count(r.URL.Path, "/") == 4 && strings.Contains(r.URL.Path, "/resourcegroups/")
	}
	for name, fault := range map[string]func(*http.Request) *azuretest.Fault{
		"of the group":                     times(1, group, noGroup),
		"of the app":                       times(1, request("GET", "/sites/"), gone),
		"of the app, and of its deletion":  times(2, request("", "/sites/"), gone),
		"of the app, several times":        times(6, request("", "/sites/"), gone),
		"of the plan":                      times(1, request("GET", "/serverfarms/"), gone),
		"of the plan, and of its deletion": times(2, request("", "/serverfarms/"), gone),
		"of the account":                   times(1, request("GET", "/storageAccounts/"), gone),
		"of its deletion":                  times(1, request("DELETE", "/storageAccounts/"), noGroup),
		"of what is in the group":          times(1, request("GET", "/resources"), noGroup),
		"of everything": times(3,
			func(r *http.Request) bool { return strings.Contains(strings.ToLower(r.URL.Path), "/resourcegroups/") }, noGroup),
	} {
		for _, options := range []map[string]string{nil, {"storage_account": "theiraccount"}} {
			t.Run(fmt.Sprint(name, len(options)), func(t *testing.T) {
				var removing atomic.Bool
				server := serve(t, azuretest.Config{Polls: 1, Fault: func(r *http.Request) *azuretest.Fault {
					if !removing.Load() {
						return nil
					}
					return fault(r)
				}})
				e := openAt(t, server, "removed", opening{options: options})
				if options != nil {
					server.Add(e.names.group, accountType, "theiraccount", map[string]any{"theirs": "yes"})
					converge(t, openAt(t, server, "removed",
						opening{options: map[string]string{"resource_group": e.names.group, "storage_account": "theiraccount"}}),
						unitOf(t, e, wanted(someJobs...)))
				} else {
					converge(t, e, unitOf(t, e, wanted(someJobs...)))
				}
				removing.Store(true)
				if err := e.Remove(t.Context(), e.names.app); err != nil {
					t.Fatal(err)
				}
				left := slices.DeleteFunc(server.Left(), func(id string) bool {
					return options != nil && (strings.HasSuffix(id, "/theiraccount") || strings.HasSuffix(id, "/"+e.names.group))
				})
				if len(left) > 0 {
					t.Errorf("left: %v", left)
				}
			})
		}
	}
}

func TestAGroupWhoseContentNobodySawStays(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{Fault: times(
		-1, request("GET", "/resources"), azuretest.Fault{Status: 404, Code: "ResourceGroupNotFound"})})
	e := openAt(t, server, "unseen", opening{})
	converge(t, e, unitOf(t, e, wanted(someJobs...)))
	server.Add(e.names.group, "Microsoft.Insights/components", "theirs", nil)
	var failed *faas.Error
	if err := e.Remove(t.Context(), e.names.app); !errors.As(err, &failed) || failed.Code == faas.ErrNotFound ||
		len(failed.Leftovers) == 0 {
		t.Errorf("error %v, want one that lists the group", err)
	}
	if left := server.Left(); len(left) != 2 {
		t.Errorf("left: %v, want the group and what is in it", left)
	}
}

func TestStorageOfAnAppThatStaysIsNotTouched(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]func(names) azuretest.Config{
		"a lock on the app":  func(n names) azuretest.Config { return azuretest.Config{Locked: []string{n.app}} },
		"a lock on the plan": func(n names) azuretest.Config { return azuretest.Config{Locked: []string{n.plan}} },
		"no permission": func(names) azuretest.Config {
			return azuretest.Config{Fault: times(-1, request("DELETE", "/sites/"),
				azuretest.Fault{Status: 403, Code: "AuthorizationFailed"})}
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, cfg(deriveNames("stays", azuretest.Subscription, "westeurope", options{})))
			e := openAt(t, server, "stays", opening{})
			converge(t, e, unitOf(t, e, wanted(someJobs...)))
			server.Requests()
			err := e.Remove(t.Context(), e.names.app)
			var failed *faas.Error
			if !errors.As(err, &failed) || failed.Code != faas.ErrPermissionDenied || len(failed.Leftovers) == 0 {
				t.Fatalf("error %v, want %v with what is left", err, faas.ErrPermissionDenied)
			}
			if strings.HasPrefix(name, "a lock") && !strings.Contains(err.Error(), "lock that somebody put") {
				t.Errorf("the error does not speak of the lock: %v", err)
			}
			deletions := 0
			for _, r := range server.Requests() {
				if strings.HasPrefix(r, "DELETE ") {
					deletions++
				}
				if strings.HasPrefix(r, "DELETE ") && strings.Contains(r, "/storageAccounts/") {
					t.Errorf("it deletes the storage: %s", r)
				}
			}
			if deletions > 2 {
				t.Errorf("%d deletions were sent, though what is refused for good stays refused", deletions)
			}
			if name != "a lock on the plan" {
				sees(t, e, "the-first-value")
			}
		})
	}
}

func TestRefusalsAreSorted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		match func(*http.Request) bool
		fault azuretest.Fault
		want  faas.Code
		words string
	}{
		"no instances in the region": {request("PUT", "/serverfarms/"), azuretest.Fault{Status: 401, Code: "Unauthorized",
			Message: "This region has quota of 0 instances for your subscription. Try selecting different region or SKU."},
			faas.ErrTooLarge, "quota"},
		"more quota is needed": {request("PUT", "/serverfarms/"), azuretest.Fault{Status: 401, Code: "Unauthorized",
			Message: "Operation cannot be completed without additional quota. Current Limit (Dynamic VMs): 0"},
			faas.ErrTooLarge, "quota"},
		"too many plans": {request("PUT", "/serverfarms/"), azuretest.Fault{Status: 409, Code: "Conflict",
			Message: "The maximum number of Free ServerFarms allowed in a Subscription is 10."}, faas.ErrTooLarge,
			"maximum number"},
		"too many accounts": {request("PUT", "/storageAccounts/"),
			azuretest.Fault{Status: 409, Code: "MaxStorageAccountsCountPerSubscriptionExceeded",
				Message: "Subscription already contains 250 storage accounts in location westeurope."}, faas.ErrTooLarge, "250"},
		"no quota, in the details": {request("PUT", "/serverfarms/"),
			azuretest.Fault{Status: 400, Code: "ValidationForResourceFailed",
				Message: "Validation failed for a resource. Check 'Error.Details[0]' for more information.",
				Details: map[string]any{"details": []any{map[string]any{
					"code": "SubscriptionIsOverQuotaForSku", "message": "Try selecting different region or SKU."}}}},
			faas.ErrTooLarge, "SubscriptionIsOverQuotaForSku: Try"},
		"a policy against keys, in the details": {request("PUT", "/storageAccounts/"),
			azuretest.Fault{Status: 403, Code: "RequestDisallowedByPolicy",
				Message: "Resource 'x' was disallowed by policy. Policy identifiers: ''.",
				Details: map[string]any{"target": "x", "additionalInfo": []any{
					map[string]any{"type": "PolicyViolation",
						"info": map[string]any{"policyDefinitionDisplayName": "Storage accounts should prevent shared key access"}}}}},
			faas.ErrPermissionDenied, "storage_auth=identity"},
		"a lock on the group": {request("PUT", "/serverfarms/"),
			azuretest.Fault{Status: 409, Code: "ScopeLocked", Message: "The scope cannot perform write operation"},
			faas.ErrPermissionDenied, "lock that somebody put"},
		"a policy against keys": {request("PUT", "/storageAccounts/"),
			azuretest.Fault{Status: 403, Code: "RequestDisallowedByPolicy",
				Message: "Resource 'x' was disallowed by policy 'Storage accounts should prevent shared key access'."},
			faas.ErrPermissionDenied, "storage_auth=identity"},
		"another policy": {request("PUT", "/storageAccounts/"),
			azuretest.Fault{Status: 403, Code: "RequestDisallowedByPolicy",
				Message: "Resource 'x' was disallowed by policy 'Allowed locations'."}, faas.ErrPermissionDenied,
			"Allowed locations"},
		"no such subscription": {request("", "/resourcegroups/"), azuretest.Fault{Status: 404, Code: "SubscriptionNotFound"},
			faas.ErrInvalidArgument, "SubscriptionNotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, azuretest.Config{Fault: times(-1, test.match, test.fault)})
			e := openAt(t, server, "sorted", opening{})
			_, err := e.Converge(t.Context(), unitOf(t, e, wanted(someJobs...)), nil, nil)
			if faas.CodeOf(err) != test.want || !strings.Contains(err.Error(), test.words) {
				t.Fatalf("error %v (code %q), want %q with %q", err, faas.CodeOf(err), test.want, test.words)
			}
			if test.words != "storage_auth=identity" && strings.Contains(err.Error(), "storage_auth=identity") {
				t.Errorf("it advises what does not help: %v", err)
			}
			sent := 0
			for _, r := range server.Requests() {
				if method, path, _ := strings.Cut(r, " "); strings.HasPrefix(method, "PUT") &&
					test.match(&http.Request{Method: method, URL: mustURL(t, path)}) {
					sent++
				}
			}
			if sent > 1 {
				t.Errorf("what is refused for good was sent %d times", sent)
			}
		})
	}
}

// In TestALockIsRefusedAtOnce, somebody locks what an update needs to change.
func TestALockIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	for name, locked := range map[string]func(names) string{
		"group": func(n names) string { return n.group }, "app": func(n names) string { return n.app },
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, azuretest.Config{})
			e := openAt(t, server, "locked", opening{})
			prior := converge(t, e, unitOf(t, e, wanted(someJobs...)))
			server.Lock(locked(e.names))
			server.Requests()
			_, err := e.Converge(t.Context(), unitOf(t, e, withValue(wanted(someJobs...), "the-second-value")), &prior, nil)
			if faas.CodeOf(err) != faas.ErrPermissionDenied || !strings.Contains(err.Error(), "lock that somebody put") ||
				!strings.Contains(err.Error(), "az lock") {
				t.Errorf("error %v, want %v that names the lock", err, faas.ErrPermissionDenied)
			}
			changes := 0
			for _, r := range server.Requests() {
				if !strings.HasPrefix(r, "GET ") {
					changes++
				}
			}
			if changes > 1 {
				t.Errorf("%d requests to change something, though the first was refused for good", changes)
			}
			server.Lock()
			sees(t, e, "the-first-value")
		})
	}
}

func TestWhatRefusalsTellIsKept(t *testing.T) {
	t.Parallel()
	const who, where = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee", "/subscriptions/s/resourceGroups/g"
	denied := "The client 'op@example.com' with object id '" + who +
		"' does not have authorization to perform action 'Microsoft.Authorization/roleAssignments/write' over scope '" +
		where + "' or the scope is invalid."
	for name, test := range map[string]struct {
		code, body string
		want       []string
	}{
		"nested details": {"InvalidTemplateDeployment",
			`{"error":{"code":"InvalidTemplateDeployment","message":"See details.",
			"details":[{"code":"Outer","message":"See inner.","details":[
			{"code":"InvalidParameter","target":"properties.sku","message":"The value is wrong."}]}]}}`,
			[]string{"See details.", "Outer: See inner.", "InvalidParameter: The value is wrong. (properties.sku)"}},
		"App Service says things several times": {"Conflict",
			`{"Code":"Conflict","Message":"The name is taken.","Target":null,"Details":[{"Message":"The name is taken."},` +
				`{"Code":"Conflict"},{"ErrorEntity":{"Code":"Conflict"}}],"Innererror":null}`,
			[]string{"The name is taken."}},
		"a denial": {"AuthorizationFailed",
			`{"error":{"code":"AuthorizationFailed","message":"` + denied + `"}}`,
			[]string{denied, "--assignee " + who, `--role "User Access Administrator"`, "--scope " + where}},
		"details of an unexpected shape": {"X", `{"error":{"code":"X","message":"The reason.","target":{"a":1},` +
			`"details":{"a":"b"},"additionalInfo":"c"}}`, []string{"The reason."}},
	} {
		t.Run(name, func(t *testing.T) {
			resp := &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{},
				Body: io.NopCloser(strings.NewReader(test.body))}
			refusal := runtime.NewResponseError(resp)
			text := (&Executor{secrets: sanitize.NewCleaner()}).fail(t.Context(), "deploy", faas.NoJob, refusal).Error()
			for _, want := range test.want {
				if strings.Count(text, want) != 1 {
					t.Errorf("%q is not once in %q", want, text)
				}
			}
		})
	}
}

func TestAnAccountThatTakesNoKeysIsSaid(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{NoRoles: true, FailDeploy: func(int) string {
		return "403 Key based authentication is not permitted on this storage account."
	}})
	e := openAt(t, server, "nokeys", opening{})
	_, err := e.Converge(t.Context(), unitOf(t, e, wanted(someJobs...)), nil, nil)
	if faas.CodeOf(err) != faas.ErrPermissionDenied || !strings.Contains(err.Error(), "storage_auth=identity") {
		t.Errorf("error %v, want %v that names the option", err, faas.ErrPermissionDenied)
	}
	if n := uploads(server.Requests()); n != 1 {
		t.Errorf("%d uploads, want 1", n)
	}
}

// answering returns a transport that answers the first n requests that match with a status and no
// body.
func answering(n int, match func(*http.Request) bool, status int) func(http.RoundTripper) http.RoundTripper {
	fault := times(n, match, azuretest.Fault{})
	return func(base http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if fault(r) == nil {
				return base.RoundTrip(r)
			}
			return &http.Response{StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
				Body: http.NoBody, Request: r}, nil
		})
	}
}

func TestAHostThatIsStartingIsUnavailable(t *testing.T) {
	t.Parallel()
	starting := azuretest.Fault{Status: 400, Code: "BadRequest",
		Message: "Encountered an error (ServiceUnavailable) from host runtime."}
	for name, test := range map[string]struct {
		fault func(n int) func(*http.Request) *azuretest.Fault
		wrap  func(n int) func(http.RoundTripper) http.RoundTripper
	}{
		"it gives no keys": {fault: func(n int) func(*http.Request) *azuretest.Fault {
			return times(n, request("POST", "/host/default/listkeys"), starting)
		}},
		"it is not known": {wrap: func(n int) func(http.RoundTripper) http.RoundTripper {
			return answering(n, isInvocation, 404)
		}},
	} {
		for n, works := range map[int]bool{1: true, -1: false} {
			t.Run(fmt.Sprint(name, n), func(t *testing.T) {
				var fault func(*http.Request) *azuretest.Fault
				server := serve(t, azuretest.Config{Fault: func(r *http.Request) *azuretest.Fault {
					if fault == nil {
						return nil
					}
					return fault(r)
				}})
				first := openAt(t, server, "starting", opening{})
				converge(t, first, unitOf(t, first, wanted(someJobs...)))
				var o opening
				if test.wrap != nil {
					o.wrap = test.wrap(n)
				} else {
					fault = test.fault(n)
				}
				e := openAt(t, server, "starting", o)
				r, err := e.Invoke(t.Context(), faastest.JobEcho, []byte("x"))
				if works && (err != nil || string(r.Output) != "x") {
					t.Errorf("it is not tried again: %v", err)
				}
				var failed *faas.Error
				if !works && (!errors.As(err, &failed) || failed.Code != faas.ErrUnavailable || !failed.NotRun) {
					t.Errorf("error %v (code %q), want %v of a job that did not run", err, faas.CodeOf(err), faas.ErrUnavailable)
				}
			})
		}
	}
}

func TestAnOutageKeepsNoInvocationWaiting(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]azuretest.Fault{
		"an outage": {Status: 503, Code: "ServiceUnavailable"}, "throttling": {Status: 429, Code: "TooManyRequests"},
	} {
		server := serve(t, azuretest.Config{Fault: times(-1, request("GET", "/sites/"), fault)})
		e := openAt(t, server, "outage", opening{})
		_, err := e.Invoke(t.Context(), faastest.JobEcho, nil)
		var failed *faas.Error
		if !errors.As(err, &failed) || failed.Code != faas.ErrUnavailable && failed.Code != faas.ErrThrottled ||
			!failed.NotRun {
			t.Errorf("%s: error %v, want one of a job that did not run", name, err)
		}
		asked := slices.DeleteFunc(server.Requests(), func(r string) bool { return !strings.Contains(r, "/sites/") })
		if len(asked) > 8 {
			t.Errorf("%s: the app was asked for %d times, want two times azcore's four", name, len(asked))
		}
	}
}

func TestAChangeThatWasSentIsAwaited(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	e := openAt(t, server, "sent", opening{wrap: func(base http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/sites/") {
				cancel()
			}
			return base.RoundTrip(r)
		})
	}})
	_, err := e.Converge(ctx, unitOf(t, e, wanted(someJobs...)), nil, nil)
	if faas.CodeOf(err) != faas.ErrTimeout || !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, faas.ErrTimeout)
	}
	if server.Site(e.names.app) == nil {
		t.Error("the request was cancelled while it was under way")
	}
}

func TestAnAnswerThatDoesNotComeLeavesTheOutcomeOpen(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	short := fastPace
	short.grace = time.Millisecond
	e := openAt(t, server, "open", opening{pace: &short, wrap: func(base http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/sites/") {
				cancel()
				<-r.Context().Done()
				return nil, context.Cause(r.Context())
			}
			return base.RoundTrip(r)
		})
	}})
	_, err := e.Converge(ctx, unitOf(t, e, wanted(someJobs...)), nil, nil)
	var failed *faas.Error
	if !errors.As(err, &failed) || !failed.Unsettled || failed.Code != faas.ErrTimeout ||
		!strings.Contains(err.Error(), "its outcome is unknown") {
		t.Errorf("error %v, want one that leaves open what became of the change", err)
	}
}

func TestAnAnswerThatEndsNoRequestIsRefused(t *testing.T) {
	t.Parallel()
	e := openAt(t, serve(t, azuretest.Config{}), "upgrade",
		opening{wrap: answering(-1, request("GET", "/sites/"), http.StatusSwitchingProtocols)})
	if _, err := e.Observe(t.Context(), e.names.app); faas.CodeOf(err) != faas.ErrUnavailable ||
		!strings.Contains(err.Error(), "101") {
		t.Errorf("error %v, want %v", err, faas.ErrUnavailable)
	}
}

func TestAPartOfAValueIsHiddenToo(t *testing.T) {
	t.Parallel()
	value := strings.Repeat("the long value ", 100)
	server := serve(t, azuretest.Config{Fault: func(r *http.Request) *azuretest.Fault {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/sites/") {
			return &azuretest.Fault{Status: 400, Code: "BadRequest", Message: "the value is " + value}
		}
		return nil
	}})
	e := openAt(t, server, "cut", opening{})
	_, err := e.Converge(t.Context(), unitOf(t, e, withValue(wanted(someJobs...), value)), nil, nil)
	if faas.CodeOf(err) != faas.ErrInvalidArgument || strings.Contains(err.Error(), "long value") {
		t.Errorf("error %v, want one without any part of the value", err)
	}
}

func TestValuesAreHiddenInEveryEncoding(t *testing.T) {
	t.Parallel()
	const value = `the value, with "quotes" & more`
	text := value + " " + url.QueryEscape(value) + " " + base64.StdEncoding.EncodeToString([]byte("x"+value)) +
		fmt.Sprintf(" %q", value)
	server := serve(t, azuretest.Config{Fault: func(r *http.Request) *azuretest.Fault {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/sites/") {
			return &azuretest.Fault{Status: 400, Code: "BadRequest", Message: text}
		}
		return nil
	}})
	e := openAt(t, server, "encoded", opening{})
	_, err := e.Converge(t.Context(), unitOf(t, e, withValue(wanted(someJobs...), value)), nil, nil)
	if faas.CodeOf(err) != faas.ErrInvalidArgument {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq(text) {
		if len(word) > 6 && strings.Contains(err.Error(), word) {
			t.Errorf("%q is in the error: %v", word, err)
		}
	}
}

func TestPrintingAnExecutorsFieldsShowsNoSecret(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{NoRoles: true})
	e := openAt(t, server, "fields", opening{options: map[string]string{"application_insights": "the-insights-string"}})
	u := unitOf(t, e, wanted(someJobs...))
	converge(t, e, u)
	u.Functions = withValue(slices.Clone(u.Functions), "the-second-value")
	converge(t, e, u)
	sees(t, e, "the-second-value")
	text := fmt.Sprintf("%+v", reflect.ValueOf(e).Elem())
	for _, s := range e.memory.apps {
		text += fmt.Sprintf("%+v", *s)
	}
	app, err := e.resolve(t.Context(), "invoke")
	if err != nil {
		t.Fatal(err)
	}
	text += fmt.Sprintf("%+v", *app)
	for _, secret := range []string{"the-insights-string", "the-first-value", "the-second-value",
		azuretest.AccountKey(e.names.account), app.key.Reveal()} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in %s", secret, text)
		}
	}
	if !strings.Contains(text, e.names.app) {
		t.Errorf("nothing was printed: %s", text)
	}
}

// In TestASubscriptionWithoutAccessIsNoAbsence, Azure answers as it does to a caller whose account
// is in another tenant.
func TestASubscriptionWithoutAccessIsNoAbsence(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{Fault: times(
		-1, request("", "/subscriptions/"), azuretest.Fault{Status: 404, Code: "SubscriptionNotFound"})})
	e := openAt(t, server, "access", opening{})
	_, observed := e.Observe(t.Context(), e.names.app)
	_, listed := e.List(t.Context())
	for what, err := range map[string]error{"Observe": observed, "List": listed,
		"Remove": e.Remove(t.Context(), e.names.app)} {
		if faas.CodeOf(err) != faas.ErrInvalidArgument {
			t.Errorf("%s: error %v (code %q), want %v", what, err, faas.CodeOf(err), faas.ErrInvalidArgument)
		}
	}
}

func TestOne404HidesNoApp(t *testing.T) {
	t.Parallel()
	var fault func(*http.Request) *azuretest.Fault
	server := serve(t, azuretest.Config{Fault: func(r *http.Request) *azuretest.Fault {
		if fault == nil {
			return nil
		}
		return fault(r)
	}})
	first := openAt(t, server, "hidden", opening{})
	u := unitOf(t, first, wanted(someJobs...))
	converge(t, first, u)
	fault = times(2, request("GET", "/sites"), azuretest.Fault{Status: 404, Code: "ResourceGroupNotFound"})
	if states, err := openAt(t, server, "hidden", opening{}).List(t.Context()); err != nil || len(states) != 1 {
		t.Errorf("List: %v, error %v", states, err)
	}
	fault = times(2, request("GET", "/sites"), azuretest.Fault{Status: 404, Code: "ResourceNotFound"})
	sees(t, openAt(t, server, "hidden", opening{}), "the-first-value")
}

func TestAStateOfAnotherSubscriptionIsRefused(t *testing.T) {
	e := pure(t, nil)
	for resource, want := range map[string]faas.Code{
		"/subscriptions/SUB/resourceGroups/g/providers/Microsoft.Web/sites/a": "",
		"/subscriptions/other/resourceGroups/g":                               faas.ErrConflict, "": "", "a": "",
	} {
		if err := e.CheckPlace(t.Context(), faas.State{Resource: resource}); faas.CodeOf(err) != want {
			t.Errorf("%q: %v, want code %q", resource, err, want)
		}
	}
}

func TestFewerThanOneInstanceCannotBeWarmed(t *testing.T) {
	for _, n := range []int{0, -1} {
		if _, err := pure(t, nil).Warm(t.Context(), 0, n); faas.CodeOf(err) != faas.ErrInvalidArgument {
			t.Errorf("%d instances: error %v", n, err)
		}
	}
}

func mustURL(t testing.TB, path string) *url.URL {
	t.Helper()
	u, err := url.Parse(path)
	if err != nil {
		t.Fatal(err)
	}
	return u
}
