package armcheck

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"regexp"
	goruntime "runtime"
	"strings"
	"sync"
	"testing"

	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	webfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/appservice/armappservice/v5/fake"
	groupsfake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v3/fake"
	storagefake "github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/storage/armstorage/v2/fake"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	// This module builds the job binary, so that it must know what the binary links.
	_ "github.com/tangle-network/blueprint-serverless/faas/job"
)

// checker passes requests on to a stand-in. Those to Resource Manager are checked by the generated
// servers first.
type checker struct {
	base    http.RoundTripper
	manager string                        // host
	servers map[string]policy.Transporter // generated, by module

	required requirements

	mu       sync.Mutex
	model    any             // what the generated server made of the body
	calls    map[string]bool // that were checked
	problems []string
}

func (c *checker) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host == c.manager && strings.HasPrefix(r.URL.Path, "/subscriptions/") &&
		!strings.Contains(r.URL.Path, "/Microsoft.Authorization/") {
		if err := c.check(r); err != nil {
			c.mu.Lock()
			c.problems = append(c.problems, fmt.Sprintf("%s %s: %v", r.Method, r.URL.Path, err))
			c.mu.Unlock()
		}
	}
	return c.base.RoundTrip(r)
}

// check has a generated server answer a copy of the request.
func (c *checker) check(r *http.Request) error {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.model = nil
	for _, api := range apis {
		method, pattern, _ := strings.Cut(api.request, " ")
		if r.Method != method || !regexp.MustCompile("^/subscriptions/[^/]+/"+pattern+"$").MatchString(r.URL.Path) {
			continue
		}
		copied := r.Clone(context.WithValue(context.Background(), runtime.CtxAPINameKey{}, api.name))
		copied.Body = io.NopCloser(bytes.NewReader(body))
		resp, err := c.servers[api.module].Do(copied)
		if err != nil {
			return err
		}
		resp.Body.Close()
		c.calls[api.name] = true
		if len(body) == 0 {
			return nil
		}
		if err := sameMembers(body, c.model); err != nil {
			return err
		}
		return c.required.missing(reflect.ValueOf(c.model))
	}
	return fmt.Errorf("it is none of the calls that are to be checked")
}

const (
	group    = "resourceGroups/[^/]+"
	webPath  = group + "/providers/Microsoft.Web/"
	siteOnly = webPath + "sites/[^/]+"
	account  = group + "/providers/Microsoft.Storage/storageAccounts/[^/]+"
	blobs    = account + "/blobServices/default/containers/[^/]+"
)

// apis are the provider's calls, by the names of the generated clients' methods.
var apis = []struct{ module, request, name string }{
	{"groups", "GET resourcegroups/[^/]+", "ResourceGroupsClient.Get"},
	{"groups", "PUT resourcegroups/[^/]+", "ResourceGroupsClient.CreateOrUpdate"},
	{"groups", "DELETE resourcegroups/[^/]+", "ResourceGroupsClient.BeginDelete"},
	{"groups", "GET " + group + "/resources", "Client.NewListByResourceGroupPager"},
	{"storage", "GET " + account, "AccountsClient.GetProperties"},
	{"storage", "PUT " + account, "AccountsClient.BeginCreate"},
	{"storage", "DELETE " + account, "AccountsClient.Delete"},
	{"storage", "POST " + account + "/listKeys", "AccountsClient.ListKeys"},
	{"storage", "GET " + blobs, "BlobContainersClient.Get"},
	{"storage", "PUT " + blobs, "BlobContainersClient.Create"},
	{"web", "GET " + webPath + "serverfarms/[^/]+", "PlansClient.Get"},
	{"web", "PUT " + webPath + "serverfarms/[^/]+", "PlansClient.BeginCreateOrUpdate"},
	{"web", "DELETE " + webPath + "serverfarms/[^/]+", "PlansClient.Delete"},
	{"web", "GET " + webPath + "sites", "WebAppsClient.NewListByResourceGroupPager"},
	{"web", "GET " + siteOnly, "WebAppsClient.Get"},
	{"web", "PUT " + siteOnly, "WebAppsClient.BeginCreateOrUpdate"},
	{"web", "DELETE " + siteOnly, "WebAppsClient.Delete"},
	{"web", "POST " + siteOnly + "/config/appsettings/list", "WebAppsClient.ListApplicationSettings"},
	{"web", "PUT " + siteOnly + "/config/appsettings", "WebAppsClient.UpdateApplicationSettings"},
	{"web", "POST " + siteOnly + "/host/default/listkeys", "WebAppsClient.ListHostKeys"},
	{"web", "POST " + siteOnly + "/syncfunctiontriggers", "WebAppsClient.SyncFunctionTriggers"},
	{"web", "POST " + siteOnly + "/start", "WebAppsClient.Start"},
	{"web", "GET " + siteOnly + "/functions", "WebAppsClient.NewListFunctionsPager"},
	{"web", "POST providers/Microsoft.Web/checknameavailability", "WebSiteManagementClient.CheckNameAvailability"},
}

// sameMembers makes sure that a model holds every member of a body.
func sameMembers(body []byte, model any) error {
	if model == nil {
		return fmt.Errorf("it has a body that the API does not describe: %s", body)
	}
	text, err := json.Marshal(model)
	if err != nil {
		return err
	}
	var sent, understood any
	if err := json.Unmarshal(body, &sent); err != nil {
		return err
	}
	if err := json.Unmarshal(text, &understood); err != nil {
		return err
	}
	return contains("", sent, understood)
}

func contains(path string, sent, understood any) error {
	switch sent := sent.(type) {
	case map[string]any:
		other, ok := understood.(map[string]any)
		if !ok {
			return fmt.Errorf("%s is not understood", path)
		}
		for name, value := range sent {
			if err := contains(path+"."+name, value, other[name]); err != nil {
				return err
			}
		}
	case []any:
		other, _ := understood.([]any)
		if len(other) != len(sent) {
			return fmt.Errorf("%s has %d items of %d", path, len(other), len(sent))
		}
		for i := range sent {
			if err := contains(fmt.Sprintf("%s[%d]", path, i), sent[i], other[i]); err != nil {
				return err
			}
		}
	default:
		if fmt.Sprint(sent) != fmt.Sprint(understood) {
			return fmt.Errorf("%s is %v, understood as %v", path, sent, understood)
		}
	}
	return nil
}

// answer returns what a handler of a generated server answers: success.
func answer[T any](status int) (resp azfake.Responder[T], errResp azfake.ErrorResponder) {
	var zero T
	resp.SetResponse(status, zero, nil)
	return resp, errResp
}

func finished[T any](status int) (resp azfake.PollerResponder[T], errResp azfake.ErrorResponder) {
	var zero T
	resp.SetTerminalResponse(status, zero, nil)
	return resp, errResp
}

func page[T any]() (resp azfake.PagerResponder[T]) {
	var zero T
	resp.AddPage(http.StatusOK, zero, nil)
	return resp
}

// The handlers of calls without a body: ok1 is for a path with one name, ok2 for one with two, and
// so on.

func ok1[O, T any](context.Context, string, *O) (azfake.Responder[T], azfake.ErrorResponder) {
	return answer[T](http.StatusOK)
}

func ok2[O, T any](context.Context, string, string, *O) (azfake.Responder[T], azfake.ErrorResponder) {
	return answer[T](http.StatusOK)
}

func ok3[O, T any](context.Context, string, string, string, *O) (azfake.Responder[T], azfake.ErrorResponder) {
	return answer[T](http.StatusOK)
}

func noContent2[O, T any](context.Context, string, string, *O) (azfake.Responder[T], azfake.ErrorResponder) {
	return answer[T](http.StatusNoContent)
}

func begin1[O, T any](context.Context, string, *O) (azfake.PollerResponder[T], azfake.ErrorResponder) {
	return finished[T](http.StatusOK)
}

func page1[O, T any](string, *O) azfake.PagerResponder[T] { return page[T]() }

func page2[O, T any](string, string, *O) azfake.PagerResponder[T] { return page[T]() }

// The handlers of calls with a body, which they record in c.

func body0[B, O, T any](c *checker, status int,
	handler *func(context.Context, B, *O) (azfake.Responder[T], azfake.ErrorResponder)) {
	*handler = func(_ context.Context, b B, _ *O) (azfake.Responder[T], azfake.ErrorResponder) {
		c.model = b
		return answer[T](status)
	}
}

func body1[B, O, T any](c *checker, status int,
	handler *func(context.Context, string, B, *O) (azfake.Responder[T], azfake.ErrorResponder)) {
	*handler = func(_ context.Context, _ string, b B, _ *O) (azfake.Responder[T], azfake.ErrorResponder) {
		c.model = b
		return answer[T](status)
	}
}

func body2[B, O, T any](c *checker, status int,
	handler *func(context.Context, string, string, B, *O) (azfake.Responder[T], azfake.ErrorResponder)) {
	*handler = func(_ context.Context, _, _ string, b B, _ *O) (azfake.Responder[T], azfake.ErrorResponder) {
		c.model = b
		return answer[T](status)
	}
}

func body3[B, O, T any](c *checker, status int,
	handler *func(context.Context, string, string, string, B, *O) (azfake.Responder[T], azfake.ErrorResponder)) {
	*handler = func(_ context.Context, _, _, _ string, b B, _ *O) (azfake.Responder[T], azfake.ErrorResponder) {
		c.model = b
		return answer[T](status)
	}
}

func beginBody2[B, O, T any](c *checker, status int,
	handler *func(context.Context, string, string, B, *O) (azfake.PollerResponder[T], azfake.ErrorResponder)) {
	*handler = func(_ context.Context, _, _ string, b B, _ *O) (azfake.PollerResponder[T], azfake.ErrorResponder) {
		c.model = b
		return finished[T](status)
	}
}

func newChecker(base http.RoundTripper, manager string) *checker {
	c := &checker{base: base, manager: manager, calls: map[string]bool{}, required: requirements{}}

	var web webfake.ServerFactory
	apps, plans := &web.WebAppsServer, &web.PlansServer
	apps.Get, apps.Delete, apps.Start = ok2, ok2, ok2
	beginBody2(c, http.StatusOK, &apps.BeginCreateOrUpdate)
	apps.ListApplicationSettings, apps.ListHostKeys = ok2, ok2
	body2(c, http.StatusOK, &apps.UpdateApplicationSettings)
	apps.SyncFunctionTriggers = noContent2
	apps.NewListFunctionsPager, apps.NewListByResourceGroupPager = page2, page1
	plans.Get, plans.Delete = ok2, ok2
	beginBody2(c, http.StatusOK, &plans.BeginCreateOrUpdate)
	body0(c, http.StatusOK, &web.WebSiteManagementServer.CheckNameAvailability)

	var storage storagefake.ServerFactory
	accounts, containers := &storage.AccountsServer, &storage.BlobContainersServer
	accounts.GetProperties, accounts.ListKeys, accounts.Delete = ok2, ok2, ok2
	beginBody2(c, http.StatusOK, &accounts.BeginCreate)
	containers.Get = ok3
	body3(c, http.StatusCreated, &containers.Create)

	var groups groupsfake.ServerFactory
	groups.ResourceGroupsServer.Get = ok1
	body1(c, http.StatusCreated, &groups.ResourceGroupsServer.CreateOrUpdate)
	groups.ResourceGroupsServer.BeginDelete = begin1
	groups.Server.NewListByResourceGroupPager = page1

	c.servers = map[string]policy.Transporter{
		"web": webfake.NewServerFactoryTransport(&web), "storage": storagefake.NewServerFactoryTransport(&storage),
		"groups": groupsfake.NewServerFactoryTransport(&groups),
	}
	return c
}

func TestWhatIsSentIsWhatTheAPIsDescribe(t *testing.T) {
	for name, cfg := range map[string]azuretest.Config{"by identity": {}, "by key": {NoRoles: true}} {
		t.Run(name, func(t *testing.T) { deployChecked(t, cfg) })
	}
}

func deployChecked(t *testing.T, cfg azuretest.Config) {
	cfg.Store = azuretest.NewStore(t.TempDir())
	server := azuretest.New(cfg)
	defer server.Close()
	for key, value := range server.Environment() {
		t.Setenv(key, value)
	}
	base := server.Transport()
	defer base.CloseIdleConnections()
	c := newChecker(base, strings.TrimPrefix(server.URL(), "https://"))
	e, err := azure.New(t.Context(), faas.Config{
		Service: "checked", SubscriptionID: azuretest.Subscription, HTTPClient: &http.Client{Transport: c},
		Options: map[string]string{"always_ready": "1", "concurrency": "4"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	u := unit(t, e)
	if _, err := e.Converge(t.Context(), u, nil, nil); err != nil {
		t.Fatal(err)
	}
	server.Stop(u.ID)
	if _, err := e.Converge(t.Context(), u, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Invoke(t.Context(), faastest.JobEcho, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Observe(t.Context(), "someone-elses-app"); err == nil {
		t.Error("an app that does not exist was found")
	}
	if err := e.Remove(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	for _, p := range c.problems {
		t.Error(p)
	}
	for _, api := range apis {
		// These two calls are made only if something needs correction, or if there is no role.
		if !c.calls[api.name] && api.name != "WebAppsClient.UpdateApplicationSettings" &&
			(api.name != "AccountsClient.ListKeys" || cfg.NoRoles) {
			t.Errorf("%s was not called", api.name)
		}
	}
}

func unit(t *testing.T, e *azure.Executor) faas.Unit {
	t.Helper()
	if goruntime.GOOS != "linux" || goruntime.GOARCH != "amd64" {
		t.Skip("the package is for Linux on amd64, and is run here")
	}
	bin, err := faas.InspectBinary(faastest.JobBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	units, err := e.Units(bin, []faas.Function{{
		JobID: faastest.JobEcho, MemoryMB: 512, TimeoutSecs: 60, Env: faas.NewEnv(map[string]string{"A": "b"})}})
	if err != nil {
		t.Fatal(err)
	}
	units[0].Package, err = faas.BuildPackage(t.Context(), t.TempDir(), units[0].Files)
	if err != nil {
		t.Fatal(err)
	}
	return units[0]
}
