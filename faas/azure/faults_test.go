//go:build !faas_only || faas_azure

package azure

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

// times returns a fault for the first n requests that match, or for all of them if n is negative.
func times(n int, match func(*http.Request) bool, f azuretest.Fault) func(*http.Request) *azuretest.Fault {
	var mu sync.Mutex
	return func(r *http.Request) *azuretest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if n == 0 || !match(r) {
			return nil
		}
		n--
		return &f
	}
}

func request(method, part string) func(*http.Request) bool {
	return func(r *http.Request) bool {
		return (method == "" || r.Method == method) && strings.Contains(r.URL.Path, part)
	}
}

func TestConvergeFinishesWhatAFailureInterrupted(t *testing.T) {
	t.Parallel()
	failOnce := func(kind, code string) func(string, int) string {
		return func(k string, n int) string {
			if k == kind && n == 1 {
				return code
			}
			return ""
		}
	}
	for name, test := range map[string]struct {
		cfg  azuretest.Config
		want faas.Code
	}{
		"the storage account's operation fails": {azuretest.Config{Fail: failOnce(accountType, "QuotaExceeded")},
			faas.ErrTooLarge},
		"the plan's operation fails": {azuretest.Config{Fail: failOnce(planType, "InternalServerError")},
			faas.ErrUnavailable},
		"the app's operation fails": {azuretest.Config{Fail: failOnce(siteType, "Conflict"), Polls: 2},
			faas.ErrConflict},
		"the upload is denied": {azuretest.Config{
			Fault: times(1, request("POST", "/api/publish"), azuretest.Fault{Status: 403, Code: "Forbidden"})},
			faas.ErrPermissionDenied},
		"the deployment fails": {azuretest.Config{FailDeploy: func(n int) string {
			if n == 1 {
				return "the disk is full"
			}
			return ""
		}}, faas.ErrUnavailable},
		"keys are denied": {azuretest.Config{Fault: times(
			1, request("POST", "/listkeys"), azuretest.Fault{Status: 403, Code: "AuthorizationFailed"})},
			faas.ErrPermissionDenied},
		"it is throttled": {azuretest.Config{Fault: times(
			1, request("PUT", "/serverfarms/"), azuretest.Fault{Status: 429, Code: "TooManyRequests", RetryAfter: 30})},
			faas.ErrThrottled},
	} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, test.cfg)
			e := openAt(t, server, "faults", opening{})
			u := unitOf(t, e, wanted(someJobs...))
			_, err := e.Converge(t.Context(), u, nil, nil)
			var failed *faas.Error
			if !errors.As(err, &failed) || failed.Code != test.want {
				t.Fatalf("error %v (code %q), want code %q", err, faas.CodeOf(err), test.want)
			}
			if test.want == faas.ErrThrottled && failed.RetryAfter != 30*time.Second {
				t.Errorf("RetryAfter is %v, want 30 s", failed.RetryAfter)
			}
			converge(t, e, u)
			sees(t, e, "the-first-value")
		})
	}
}

func TestConvergeWaitsForWhatPasses(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]azuretest.Config{
		"another operation is in progress": {
			Fault: times(2, request("PUT", "/sites/"),
				azuretest.Fault{Status: 409, Code: "Conflict",
					Message: "Cannot modify this site because another operation is in progress."})},
		"another deployment is in progress": {
			Fault: times(2, request("POST", "/api/publish"), azuretest.Fault{Status: 409})},
		"the publish host is not there yet": {
			Fault: times(3, request("POST", "/api/publish"), azuretest.Fault{Status: 404})},
		"the deployment's record is not there yet": {
			Fault: times(2, request("GET", "/api/deployments/"), azuretest.Fault{Status: 404})},
		"the keys are not there yet": {KeysAfter: 3},
		"the service is unavailable for a moment": {
			Fault: times(2, request("GET", "/storageAccounts/"), azuretest.Fault{Status: 503})},
		"the role does not count yet": {FailDeploy: func(n int) string {
			if n < 3 {
				return "403 this request is not authorized to perform this operation"
			}
			return ""
		}},
		"the identity is not known yet": {Fault: times(
			2, request("PUT", "/roleAssignments/"), azuretest.Fault{Status: 400, Code: "PrincipalNotFound"})},
		"operations take long": {Polls: 5},
	} {
		t.Run(name, func(t *testing.T) {
			e := openAt(t, serve(t, cfg), "waits", opening{})
			converge(t, e, unitOf(t, e, wanted(someJobs...)))
			sees(t, e, "the-first-value")
		})
	}
}

func TestTakenNamesAreErrorsThatNameTheOption(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		taken  func(names) string
		option string
	}{
		"app":             {func(n names) string { return n.app }, "app_name"},
		"storage account": {func(n names) string { return n.account }, "storage_account"},
	} {
		t.Run(name, func(t *testing.T) {
			n := deriveNames("taken", azuretest.Subscription, "westeurope", options{})
			e := openAt(t, serve(t, azuretest.Config{Taken: []string{test.taken(n)}}), "taken", opening{})
			_, err := e.Converge(t.Context(), unitOf(t, e, wanted(someJobs...)), nil, nil)
			if faas.CodeOf(err) != faas.ErrAlreadyExists || !strings.Contains(err.Error(), test.option) {
				t.Errorf("error %v, want one that names option %s", err, test.option)
			}
		})
	}
}

func TestWaitsEnd(t *testing.T) {
	t.Parallel()
	short := fastPace
	short.appear = 50 * time.Millisecond
	server := serve(t, azuretest.Config{Fault: times(-1, request("POST", "/api/publish"), azuretest.Fault{Status: 404})})
	e := openAt(t, server, "never", opening{pace: &short})
	_, err := e.Converge(t.Context(), unitOf(t, e, wanted(someJobs...)), nil, nil)
	if faas.CodeOf(err) != faas.ErrNotFound {
		t.Errorf("error %v, want %v once the longest wait is over", err, faas.ErrNotFound)
	}
}

// withoutSecret returns a transport whose requests for tokens have no secret.
func withoutSecret(base http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if strings.HasSuffix(r.URL.Path, "/token") {
			r = r.Clone(r.Context())
			r.Body, r.ContentLength = http.NoBody, 0
		}
		return base.RoundTrip(r)
	})
}

func TestWrongCredentialsAreSaid(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	e := openAt(t, server, "secret", opening{wrap: withoutSecret})
	_, err := e.Observe(t.Context(), e.names.app)
	if faas.CodeOf(err) != faas.ErrPermissionDenied || !strings.Contains(err.Error(), "AZURE_CLIENT_SECRET") ||
		strings.Contains(err.Error(), azuretest.ClientSecret) {
		t.Errorf("error %v, want one that says how to log in", err)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestInvoke(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{FrontEnd: 2 * time.Second})
	e := openAt(t, server, "invoke", opening{})
	u := unitOf(t, e, wanted(someJobs...))
	converge(t, e, u)

	t.Run("reads app and key once", func(t *testing.T) {
		server.Requests()
		for range 3 {
			sees(t, e, "the-first-value")
		}
		if got := server.Requests(); len(got) != 2 {
			t.Errorf("three invocations took the management requests %v, want two", got)
		}
	})
	t.Run("takes a new key where the old one is refused", func(t *testing.T) {
		server.RenewKeys(u.ID)
		sees(t, e, "the-first-value")
	})
	t.Run("is a timeout where the front end gives up", func(t *testing.T) {
		_, err := e.Invoke(t.Context(), faastest.JobSleep, []byte("30000"))
		var failed *faas.Error
		if !errors.As(err, &failed) || failed.Code != faas.ErrTimeout || failed.NotRun {
			t.Errorf("error %v, want %v of a job that may have run", err, faas.ErrTimeout)
		}
	})
	t.Run("of an app that is gone is not found", func(t *testing.T) {
		other := openAt(t, server, "invoke", opening{})
		sees(t, other, "the-first-value")
		if err := e.Remove(t.Context(), u.ID); err != nil {
			t.Fatal(err)
		}
		_, err := other.Invoke(t.Context(), faastest.JobEcho, nil)
		if code := faas.CodeOf(err); code != faas.ErrUnavailable && code != faas.ErrNotFound {
			t.Fatalf("the first time: error %v", err)
		}
		if _, err = other.Invoke(t.Context(), faastest.JobEcho, nil); faas.CodeOf(err) != faas.ErrNotFound {
			t.Errorf("error %v, want %v", err, faas.ErrNotFound)
		}
	})
}
