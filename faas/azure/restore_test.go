//go:build !faas_only || faas_azure

package azure

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

// deployVersion deploys a version of the code with a value in its environment, through the engine.
func deployVersion(t *testing.T, server *azuretest.Server, state, version string, o opening) (*serverless.Service,
	error) {
	t.Helper()
	cfg := serverless.ServerlessConfig{
		Provider: faas.Config{Provider: faas.AzureFunctions, SubscriptionID: azuretest.Subscription,
			Region: "westeurope"},
		DefaultMemoryMB: 512, DefaultTimeoutSecs: 60,
	}
	spec := serverless.ServiceSpec{
		Name: "Versions", BinaryPath: faastest.AddVersion(t, testBinary(t).Path, version),
		Env: map[string]string{"FAASTEST_VALUE": "value of " + version},
	}
	jobs := []uint32{faastest.JobEnv, faastest.JobVersion}
	return serverless.DeployServerless(t.Context(), spec, jobs, cfg, serverless.WithoutRunner(),
		serverless.WithStateDir(state), serverless.WithExecutor(openAt(t, server, spec.Name, o)))
}

func answersAs(t *testing.T, svc *serverless.Service, version string) {
	t.Helper()
	for job, want := range map[uint32]string{faastest.JobEnv: "value of " + version, faastest.JobVersion: version} {
		r, err := svc.Invoke(t.Context(), job, []byte("FAASTEST_VALUE"))
		if err != nil || string(r.Output) != want {
			t.Errorf("job %d: %v, %v; want %q", job, r, err, want)
		}
	}
}

// TestAFailedUpdateOfCodeIsPutBackAtEveryStep refuses each request of an update in turn, and checks
// each time that the former code and configuration are back.
func TestAFailedUpdateOfCodeIsPutBackAtEveryStep(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cfg    azuretest.Config
		o      opening
		stride int64
	}{
		"with a key": {stride: 1},
		"with a token": {azuretest.Config{DataReader: true}, opening{options: map[string]string{"storage_auth": "identity"}},
			4},
		"by key": {azuretest.Config{NoRoles: true}, opening{}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var armed atomic.Bool
			var left atomic.Int64
			test.cfg.Fault = func(r *http.Request) *azuretest.Fault {
				// Another test is about a former package that cannot be read.
				if armed.Load() && !strings.Contains(r.URL.Path, "/listKeys") && !strings.Contains(r.URL.Path, "/blob/") &&
					(r.Method != http.MethodGet || strings.Contains(r.URL.Path, "/functions")) && left.Add(-1) < 0 {
					armed.Store(false)
					return &azuretest.Fault{Status: http.StatusForbidden, Code: "AuthorizationFailed", Message: "it is refused"}
				}
				return nil
			}
			server := serve(t, test.cfg)
			state := t.TempDir()
			svc, err := deployVersion(t, server, state, "one", test.o)
			if err != nil {
				t.Fatal(err)
			}
			answersAs(t, svc, "one")
			failures := 0
			for step := int64(0); ; step += test.stride {
				left.Store(step)
				armed.Store(true)
				_, err := deployVersion(t, server, state, "two", test.o)
				refused := !armed.Swap(false)
				if err == nil && refused {
					continue // what was refused was not needed
				}
				if err == nil {
					break
				}
				failures++
				answersAs(t, svc, "one")
				if t.Failed() {
					t.Fatalf("after the refusal of request %d: %v", step, err)
				}
			}
			if failures < int(5/test.stride) {
				t.Errorf("only %d updates failed", failures)
			}
			answersAs(t, svc, "two")
			if err := svc.Undeploy(t.Context()); err != nil {
				t.Fatal(err)
			}
			if left := server.Left(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestAnAppThatCannotBePutBackSaysSoBeforehand(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{NoKeys: true})
	e := openAt(t, server, "never", opening{})
	first := unitOf(t, e, wanted(someJobs...))
	converge(t, e, first)
	prior, err := e.Observe(t.Context(), first.ID)
	if err != nil || !strings.Contains(prior.NotRestorable, "listKeys") ||
		!strings.Contains(prior.NotRestorable, "AuthorizationPermissionMismatch") {
		t.Fatalf("Observe: %+v, error %v, want it to say why", prior, err)
	}
	if err := e.Restore(t.Context(), prior); err != nil {
		t.Errorf("Restore of what was not changed: %v", err)
	}
	converge(t, e, unitOf(t, e, withValue(wanted(faastest.JobEnv), "the-second-value")))
	if err := e.Restore(t.Context(), prior); faas.CodeOf(err) != faas.ErrUnsupported ||
		!strings.Contains(err.Error(), "listKeys") {
		t.Errorf("Restore: %v, want %v that says why", err, faas.ErrUnsupported)
	}
	sees(t, e, "the-second-value")
}

func TestNothingIsChangedWhereTheFormerPackageCannotBeKept(t *testing.T) {
	t.Parallel()
	var fault func(*http.Request) *azuretest.Fault
	server := serve(t, azuretest.Config{Fault: func(r *http.Request) *azuretest.Fault {
		if fault == nil {
			return nil
		}
		return fault(r)
	}})
	e := openAt(t, server, "kept", opening{})
	first := unitOf(t, e, wanted(someJobs...))
	prior := converge(t, e, first)
	second := unitOf(t, e, withValue(wanted(faastest.JobEnv), "the-second-value"))

	fault = times(1, request("GET", "/blob/"), azuretest.Fault{Status: 503, Code: "ServerBusy"})
	changed := converge(t, e, second) // which passes by itself
	if err := e.Restore(t.Context(), prior); err != nil {
		t.Fatal(err)
	}

	fault = times(-1, request("POST", "/storageAccounts/"+e.names.account+"/listKeys"),
		azuretest.Fault{Status: 403, Code: "AuthorizationFailed"})
	_, err := e.Converge(t.Context(), second, &changed, nil)
	if faas.CodeOf(err) != faas.ErrPermissionDenied || !strings.Contains(err.Error(), "Storage Blob Data Reader") ||
		!strings.Contains(err.Error(), "nothing was changed") {
		t.Fatalf("error %v, want one that says what helps", err)
	}
	sees(t, e, "the-first-value")
	s, err := e.Observe(t.Context(), first.ID)
	if err != nil || !s.Current(first) || s.NotRestorable == "" {
		t.Fatalf("Observe: %+v, error %v, want the app as it was, and that it cannot be put back", s, err)
	}
	converge(t, e, second)
	sees(t, e, "the-second-value")
}

// In TestAnUpdateThatFailsLateIsPutBack, Azure accepts an update and ends it with an error. Then it
// shows the former configuration, and that the app failed.
func TestAnUpdateThatFailsLateIsPutBack(t *testing.T) {
	t.Parallel()
	var failing atomic.Bool
	server := serve(t, azuretest.Config{Polls: 2, Fail: func(kind string, _ int) string {
		if kind == siteType && failing.CompareAndSwap(true, false) {
			return "InternalServerError"
		}
		return ""
	}})
	e := openAt(t, server, "late", opening{})
	first := unitOf(t, e, wanted(someJobs...))
	prior := converge(t, e, first)
	failing.Store(true)
	_, err := e.Converge(t.Context(), unitOf(t, e, withValue(wanted(someJobs...), "the-second-value")), &prior, nil)
	if faas.CodeOf(err) != faas.ErrUnavailable || !strings.Contains(err.Error(), "InternalServerError") {
		t.Fatalf("error %v, want that of the operation", err)
	}
	if s, err := e.Observe(t.Context(), first.ID); err != nil || s.Status != faas.StatusFailed {
		t.Fatalf("Observe: %+v, error %v, want an app that failed", s, err)
	}
	if err := e.Restore(t.Context(), prior); err != nil {
		t.Fatal(err)
	}
	sees(t, e, "the-first-value")
	if s, err := e.Observe(t.Context(), first.ID); err != nil || !s.Current(first) {
		t.Errorf("after Restore: %+v, error %v", s, err)
	}
}

func TestAStale404OfTheAppLosesNothing(t *testing.T) {
	t.Parallel()
	var fault func(*http.Request) *azuretest.Fault
	server := serve(t, azuretest.Config{Fault: func(r *http.Request) *azuretest.Fault {
		if fault == nil {
			return nil
		}
		return fault(r)
	}})
	e := openAt(t, server, "stale", opening{})
	first := unitOf(t, e, wanted(someJobs...))
	prior := converge(t, e, first)
	second := unitOf(t, e, withValue(wanted(faastest.JobEnv), "the-second-value"))
	stale := func() func(*http.Request) *azuretest.Fault {
		return times(2, request("GET", "/sites/"), azuretest.Fault{Status: 404, Code: "ResourceNotFound"})
	}
	fault = stale()
	if _, err := e.Converge(t.Context(), second, &prior, nil); err != nil {
		t.Fatal(err)
	}
	fault = stale()
	if err := e.Restore(t.Context(), prior); err != nil {
		t.Fatalf("Restore: %v", err)
	}
	sees(t, e, "the-first-value")
}

// lagging returns a transport that answers the next n reads of an app with the answer to the first.
func lagging(n *atomic.Int64) func(http.RoundTripper) http.RoundTripper {
	var mu sync.Mutex
	var first []byte
	return func(base http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(r)
			if err != nil || r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/sites/") ||
				resp.StatusCode != http.StatusOK {
				return resp, err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = body
			}
			if n.Add(-1) >= 0 {
				body = first
			}
			resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			return resp, err
		})
	}
}

func TestAnAppThatOneLookDidNotFindIsKept(t *testing.T) {
	t.Parallel()
	var fault func(*http.Request) *azuretest.Fault
	server := serve(t, azuretest.Config{Fault: func(r *http.Request) *azuretest.Fault {
		if fault == nil {
			return nil
		}
		return fault(r)
	}})
	e := openAt(t, server, "unfound", opening{})
	u := unitOf(t, e, wanted(someJobs...))
	converge(t, e, u)
	fault = times(2, request("GET", "/sites/"), azuretest.Fault{Status: 404, Code: "ResourceNotFound"})
	server.Requests()
	if s := converge(t, openAt(t, server, "unfound", opening{}), u); !s.Existed {
		t.Error("the state does not say that the app existed")
	}
	for _, r := range server.Requests() {
		if !strings.HasPrefix(r, "GET ") && strings.Contains(r, " /subscriptions/") {
			t.Errorf("an app that is as it should be is changed: %s", r)
		}
	}
}

func TestAnOperationThatIsStillGoingOnIsSaid(t *testing.T) {
	t.Parallel()
	for name, match := range map[string]func(*http.Request) bool{
		"of the app": request("GET", "/operations/"), "of the package": request("GET", "/api/deployments/")} {
		t.Run(name, func(t *testing.T) {
			server := serve(t, azuretest.Config{Polls: 1})
			ctx, cancel := context.WithCancel(t.Context())
			e := openAt(t, server, "going", opening{wrap: func(base http.RoundTripper) http.RoundTripper {
				return roundTripper(func(r *http.Request) (*http.Response, error) {
					if match(r) {
						cancel()
					}
					return base.RoundTrip(r)
				})
			}})
			s, err := e.Converge(ctx, unitOf(t, e, wanted(someJobs...)), nil, nil)
			var failed *faas.Error
			if !errors.As(err, &failed) || failed.Code != faas.ErrTimeout || !failed.Unsettled || s.Existed {
				t.Errorf("%+v, error %v, want one that may still take effect", s, err)
			}
		})
	}
}

func TestAReadThatLagsDeceivesNobody(t *testing.T) {
	t.Parallel()
	var stale atomic.Int64
	server := serve(t, azuretest.Config{})
	first := openAt(t, server, "lags", opening{})
	one := unitOf(t, first, wanted(someJobs...))
	prior := converge(t, first, one)
	e := openAt(t, server, "lags", opening{wrap: lagging(&stale)})
	if _, err := e.Observe(t.Context(), one.ID); err != nil {
		t.Fatal(err)
	}
	two := one
	two.Functions = withValue(slices.Clone(one.Functions), "the-second-value")
	converge(t, e, two)

	stale.Store(2)
	if err := e.Restore(t.Context(), prior); err != nil {
		t.Fatal(err)
	}
	stale.Store(0)
	sees(t, first, "the-first-value")

	changed := converge(t, e, two)
	stale.Store(2)
	if _, err := e.Converge(t.Context(), one, &changed, nil); err != nil {
		t.Fatal(err)
	}
	stale.Store(0)
	sees(t, first, "the-first-value")
}

func TestAnAppThatSomebodyRemovedIsPutBack(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	e := openAt(t, server, "gone", opening{})
	first := unitOf(t, e, wanted(someJobs...))
	prior := converge(t, e, first)
	converge(t, e, unitOf(t, e, withValue(wanted(faastest.JobEnv), "the-second-value")))
	if err := openAt(t, server, "gone", opening{}).Remove(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if err := e.Restore(t.Context(), prior); err != nil {
		t.Fatal(err)
	}
	sees(t, e, "the-first-value")
}

func TestAnAppThatMovedToAnotherContainerIsPutBack(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	before := openAt(t, server, "moves", opening{})
	first := unitOf(t, before, wanted(someJobs...))
	converge(t, before, first)
	e := openAt(t, server, "moves", opening{options: map[string]string{"storage_account": "anotheraccount"}})
	prior, err := e.Observe(t.Context(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	converge(t, e, unitOf(t, e, withValue(wanted(faastest.JobEnv), "the-second-value")))
	if err := e.Restore(t.Context(), prior); err != nil {
		t.Fatal(err)
	}
	sees(t, before, "the-first-value")
}

func TestCloseRemovesTheFormerPackage(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	e := openAt(t, server, "closed", opening{})
	converge(t, e, unitOf(t, e, wanted(someJobs...)))
	for _, value := range []string{"two", "three"} {
		converge(t, e, unitOf(t, e, withValue(wanted(faastest.JobEnv), value)))
		converge(t, e, unitOf(t, e, withValue(wanted(someJobs...), value)))
	}
	dir := e.memory.scratch.Path()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("%d files are kept, want one, error %v", len(files), err)
	}
	if info, err := files[0].Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others can read the package: %v, %v", info.Mode(), err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestThePlaceIsResolvedOnce(t *testing.T) {
	base := faas.Config{Provider: faas.AzureFunctions, SubscriptionID: "s"}
	for _, name := range []string{RegionEnv, authorityEnv, ResourceManagerEnv} {
		t.Setenv(name, "")
	}
	if got := faas.Resolve(base); got.Region != DefaultRegion || len(got.Options) != 0 {
		t.Errorf("without an environment: %s %v", got.Region, got.Options)
	}
	t.Setenv(RegionEnv, "West Europe")
	t.Setenv(authorityEnv, "https://login.partner.microsoftonline.cn/")
	t.Setenv(ResourceManagerEnv, "https://management.example/")
	recorded := faas.Resolve(base)
	if recorded.Region != "westeurope" ||
		recorded.Options["authority_host"] != "https://login.partner.microsoftonline.cn" ||
		recorded.Options["resource_manager_endpoint"] != "https://management.example" {
		t.Errorf("from the environment: %s %v", recorded.Region, recorded.Options)
	}
	given := faas.Config{Service: "x", SubscriptionID: "s"}
	there, err := New(t.Context(), given, WithCloud(cloud.AzureGovernment))
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if there.region != "westeurope" || hostOf(there.authority) != "login.microsoftonline.us" ||
		there.arm.Endpoint() != "https://management.usgovcloudapi.net" {
		t.Errorf("with a cloud that the caller names: %s of %s at %s", there.region, there.authority, there.arm.Endpoint())
	}
	t.Setenv(RegionEnv, "eastus2")
	t.Setenv(authorityEnv, "https://login.microsoftonline.us")
	t.Setenv(ResourceManagerEnv, "")
	recorded.Service = "x"
	e, err := New(t.Context(), recorded)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if e.region != "westeurope" || hostOf(e.authority) != "login.partner.microsoftonline.cn" ||
		e.arm.Endpoint() != "https://management.example" {
		t.Errorf("in another environment the executor works in %s of %s at %s", e.region, e.authority, e.arm.Endpoint())
	}
	var places []string
	for _, o := range declare(new(options)).Table() {
		if o.Place {
			places = append(places, o.Name)
		}
	}
	if want := []string{"resource_group", "app_name", "authority_host", "resource_manager_endpoint"}; !slices.Equal(
		places, want) {
		t.Errorf("options that tell where: %v, want %v", places, want)
	}
}
