//go:build !faas_only || faas_azure

package azure

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

// someJobs are the jobs of most tests, which share a package.
var someJobs = []uint32{faastest.JobEcho, faastest.JobEnv, faastest.JobSleep}

func wanted(jobs ...uint32) []faas.Function {
	var all []faas.Function
	for _, job := range jobs {
		all = append(all, faas.Function{JobID: job, MemoryMB: 512, TimeoutSecs: 60,
			Env: faas.NewEnv(map[string]string{"FAASTEST_VALUE": "the-first-value"})})
	}
	return all
}

func withValue(functions []faas.Function, value string) []faas.Function {
	for i := range functions {
		functions[i].Env = faas.NewEnv(map[string]string{"FAASTEST_VALUE": value})
	}
	return functions
}

// unitOf returns the unit of functions with its package.
func unitOf(t testing.TB, e *Executor, functions []faas.Function) faas.Unit {
	t.Helper()
	units, err := e.Units(testBinary(t), functions)
	if err != nil {
		t.Fatal(err)
	}
	if len(units) != 1 {
		t.Fatalf("%d units, want one", len(units))
	}
	units[0].Package = packageOf(t, units[0].Files)
	return units[0]
}

func converge(t testing.TB, e *Executor, u faas.Unit) faas.State {
	t.Helper()
	s, err := e.Converge(t.Context(), u, nil, nil)
	if err != nil {
		t.Fatalf("Converge: %v", err)
	}
	if !s.Current(u) {
		t.Fatalf("Converge returns %+v, which is not what was wanted", s)
	}
	return s
}

func sees(t testing.TB, e *Executor, want string) {
	t.Helper()
	r, err := e.Invoke(t.Context(), faastest.JobEnv, []byte("FAASTEST_VALUE"))
	if err != nil {
		t.Fatalf("Invoke: %v", err)
	}
	if string(r.Output) != want {
		t.Fatalf("the function sees %q, want %q", r.Output, want)
	}
}

// uploads counts the packages among requests.
func uploads(requests []string) int {
	n := 0
	for _, r := range requests {
		if r == "POST scm/api/publish" {
			n++
		}
	}
	return n
}

func TestManyJobsAreOneUploadAndNoChangeIsOneRead(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{Polls: 1})
	e := openAt(t, server, "many", opening{})
	jobs := make([]uint32, 20)
	for i := range jobs {
		jobs[i] = uint32(i)
	}
	u := unitOf(t, e, wanted(jobs...))
	converge(t, e, u)
	if n := uploads(server.Requests()); n != 1 {
		t.Errorf("%d uploads, want 1", n)
	}
	sees(t, e, "the-first-value")
	server.Requests()
	converge(t, e, u)
	if got := server.Requests(); len(got) != 1 || !strings.HasPrefix(got[0], "GET ") {
		t.Errorf("no change took the requests %v, want one read", got)
	}
	changed := u
	changed.Functions = withValue(slices.Clone(u.Functions), "the-second-value")
	converge(t, e, changed)
	if n := uploads(server.Requests()); n != 0 {
		t.Errorf("a change of the environment took %d uploads, want none", n)
	}
	sees(t, e, "the-second-value")
}

func TestAppIsWhatUnitAndOptionsSay(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	e := openAt(t, server, "The Service", opening{options: map[string]string{
		"concurrency": "8", "application_insights": "InstrumentationKey=the-insights-key", "storage_auth": "identity",
	}})
	functions := wanted(0, 1)
	functions[1].MemoryMB, functions[1].KeepWarm, functions[0].MaxConcurrency, functions[1].TimeoutSecs = 2048, 3, 500, 230
	s := converge(t, e, unitOf(t, e, functions))
	if diff := cmp.Diff([]uint32{0, 1}, s.JobIDs); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	text, err := json.Marshal(server.Site(e.names.app))
	if err != nil {
		t.Fatal(err)
	}
	var got site
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	wantScale := scale{InstanceMemoryMB: 2048, MaximumInstanceCount: 63, AlwaysReady: []alwaysReady{{"http", 3}},
		Triggers: &triggers{}}
	wantScale.Triggers.HTTP.PerInstance = 8
	if diff := cmp.Diff(wantScale, got.Properties.AppConfig.Scale); diff != "" {
		t.Errorf("scale (-want +got):\n%s", diff)
	}
	if got.Tags[tagService] != "The Service" || got.Tags[tagJobs] != "0=60,1=230" || got.Kind != "functionapp,linux" ||
		!got.Properties.HTTPSOnly {
		t.Errorf("tags %v, kind %q, HTTPS only %v", got.Tags, got.Kind, got.Properties.HTTPSOnly)
	}
	settings := server.Settings(e.names.app)
	for name, want := range map[string]string{
		"FAASTEST_VALUE": "the-first-value", "APPLICATIONINSIGHTS_CONNECTION_STRING": "InstrumentationKey=the-insights-key",
		"AzureWebJobsStorage__credential": "managedidentity", "AzureWebJobsStorage": "",
		"DEPLOYMENT_STORAGE_CONNECTION_STRING": "",
	} {
		if settings[name] != want {
			t.Errorf("setting %s is %q, want %q", name, settings[name], want)
		}
	}
}

func TestChangedOptionsAreSeenAsAChange(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	e := openAt(t, server, "options", opening{})
	u := unitOf(t, e, wanted(someJobs...))
	converge(t, e, u)
	other := openAt(t, server, "options", opening{options: map[string]string{"always_ready": "2"}})
	s, err := other.Observe(t.Context(), u.ID)
	if err != nil || s.Current(u) {
		t.Fatalf("the app passes for current: %+v, error %v", s, err)
	}
	converge(t, other, u)
}

func TestRoleIsReplacedByConnectionStringWhereItCannotBeAssigned(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{NoRoles: true})
	e := openAt(t, server, "keys", opening{})
	u := unitOf(t, e, wanted(someJobs...))
	s := converge(t, e, u)
	sees(t, e, "the-first-value")
	connection := server.Settings(u.ID)["DEPLOYMENT_STORAGE_CONNECTION_STRING"]
	if !strings.Contains(connection, "AccountKey="+azuretest.AccountKey(e.names.account)) {
		t.Fatal("there is no connection string")
	}
	text, err := json.Marshal(s)
	if err != nil || strings.Contains(string(text)+fmt.Sprintf("%+v %+v", s, e), azuretest.AccountKey(e.names.account)) {
		t.Errorf("the state holds the key: %s (%v)", text, err)
	}
	server.Requests()
	changed := u
	changed.Functions = withValue(slices.Clone(u.Functions), "the-second-value")
	converge(t, e, changed)
	for _, r := range server.Requests() {
		if strings.Contains(r, "roleAssignments") {
			t.Errorf("it tries again what was denied: %s", r)
		}
	}

	strict := openAt(t, server, "strict", opening{options: map[string]string{"storage_auth": "identity"}})
	_, err = strict.Converge(t.Context(), unitOf(t, strict, wanted(someJobs...)), nil, nil)
	if faas.CodeOf(err) != faas.ErrPermissionDenied {
		t.Errorf("error %v, want %v", err, faas.ErrPermissionDenied)
	}
}

func TestFailedUpdateIsPutBack(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{FailDeploy: func(n int) string {
		if n == 2 {
			return "the disk is full"
		}
		return ""
	}})
	e := openAt(t, server, "update", opening{})
	first := unitOf(t, e, wanted(someJobs...))
	prior := converge(t, e, first)
	second := unitOf(t, e, withValue(wanted(faastest.JobEnv), "the-second-value"))
	_, err := e.Converge(t.Context(), second, &prior, nil)
	if faas.CodeOf(err) != faas.ErrUnavailable || !strings.Contains(err.Error(), "the disk is full") {
		t.Fatalf("error %v, want one that says why", err)
	}
	s, err := e.Observe(t.Context(), first.ID)
	if err != nil || s.Status != faas.StatusPending || s.Current(first) || s.Current(second) {
		t.Fatalf("after a failed update: %+v, error %v", s, err)
	}
	other := openAt(t, server, "update", opening{})
	if err := other.Restore(t.Context(), prior); faas.CodeOf(err) != faas.ErrConflict {
		t.Errorf("an executor that has not seen the former settings: error %v, want %v", err, faas.ErrConflict)
	}
	if err := e.Restore(t.Context(), prior); err != nil {
		t.Fatalf("Restore: %v", err)
	}
	sees(t, e, "the-first-value")
	if s, err := e.Observe(t.Context(), first.ID); err != nil || !s.Current(first) {
		t.Errorf("after Restore: %+v, error %v", s, err)
	}

	// The new package has no function for this job.
	converge(t, e, second)
	if _, err := e.Invoke(t.Context(), faastest.JobEcho, nil); faas.CodeOf(err) != faas.ErrNotFound {
		t.Fatalf("after the update: error %v, want %v", err, faas.ErrNotFound)
	}
	for range 2 {
		if err := e.Restore(t.Context(), prior); err != nil {
			t.Fatalf("Restore of code and configuration: %v", err)
		}
	}
	sees(t, e, "the-first-value")
	if r, err := e.Invoke(t.Context(), faastest.JobEcho, []byte("echo")); err != nil || string(r.Output) != "echo" {
		t.Errorf("the former code does not answer: %v, %v", r, err)
	}
	if s, err := e.Observe(t.Context(), first.ID); err != nil || !s.Current(first) {
		t.Errorf("after Restore: %+v, error %v", s, err)
	}
}

func TestRemoveTakesOnlyWhatIsOurs(t *testing.T) {
	t.Parallel()
	t.Run("all of it", func(t *testing.T) {
		server := serve(t, azuretest.Config{Polls: 2})
		e := openAt(t, server, "all", opening{})
		converge(t, e, unitOf(t, e, wanted(someJobs...)))
		if err := e.Remove(t.Context(), e.names.app); err != nil {
			t.Fatal(err)
		}
		if left := server.Left(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
	t.Run("a group with something else in it stays", func(t *testing.T) {
		server := serve(t, azuretest.Config{})
		e := openAt(t, server, "shared", opening{})
		converge(t, e, unitOf(t, e, wanted(someJobs...)))
		server.Add(e.names.group, "Microsoft.Insights/components", "theirs", nil)
		if err := e.Remove(t.Context(), e.names.app); err != nil {
			t.Fatal(err)
		}
		if left := server.Left(); len(left) != 2 {
			t.Errorf("left: %v, want the group and what is in it", left)
		}
	})
	t.Run("what options name stays, without what was put into it", func(t *testing.T) {
		server := serve(t, azuretest.Config{})
		server.Add("their-group", accountType, "theiraccount", map[string]any{"theirs": "yes"})
		e := openAt(t, server, "named", opening{options: map[string]string{
			"resource_group": "their-group", "storage_account": "theiraccount"}})
		converge(t, e, unitOf(t, e, wanted(someJobs...)))
		if err := e.Remove(t.Context(), e.names.app); err != nil {
			t.Fatal(err)
		}
		left := server.Left()
		slices.Sort(left)
		group := "/subscriptions/" + azuretest.Subscription + "/resourceGroups/their-group"
		if diff := cmp.Diff([]string{group, group + "/providers/" + accountType + "/theiraccount"}, left); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
	})
	t.Run("of a deployment that stopped before the app was there", func(t *testing.T) {
		server := serve(t, azuretest.Config{Fail: func(kind string, _ int) string {
			if kind == siteType {
				return "InternalServerError"
			}
			return ""
		}})
		e := openAt(t, server, "half", opening{})
		if _, err := e.Converge(t.Context(), unitOf(t, e, wanted(someJobs...)), nil, nil); err == nil {
			t.Fatal("Converge is success")
		}
		if err := e.Remove(t.Context(), e.names.app); err != nil {
			t.Fatal(err)
		}
		if left := server.Left(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

const (
	siteType    = "Microsoft.Web/sites"
	planType    = "Microsoft.Web/serverfarms"
	accountType = "Microsoft.Storage/storageAccounts"
)

func TestStoppedAppIsSeenAndStarted(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	e := openAt(t, server, "stopped", opening{})
	u := unitOf(t, e, wanted(someJobs...))
	converge(t, e, u)
	server.Stop(u.ID)
	s, err := e.Observe(t.Context(), u.ID)
	if err != nil || s.Status != faas.StatusFailed || !strings.Contains(s.Reason, "stopped") {
		t.Fatalf("Observe: %+v, error %v", s, err)
	}
	if health, err := e.Health(t.Context(), faastest.JobEcho); err != nil || health.Healthy {
		t.Errorf("Health: %+v, error %v", health, err)
	}
	converge(t, e, u)
	sees(t, e, "the-first-value")
	if health, err := e.Health(t.Context(), faastest.JobEcho); err != nil || !health.Healthy {
		t.Errorf("Health: %+v, error %v", health, err)
	}
}

func TestAnotherStorageAccountGetsThePackageToo(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	e := openAt(t, server, "moved", opening{})
	u := unitOf(t, e, wanted(someJobs...))
	converge(t, e, u)
	server.Requests()
	other := openAt(t, server, "moved", opening{options: map[string]string{"storage_account": "anotheraccount"}})
	converge(t, other, u)
	if n := uploads(server.Requests()); n != 1 {
		t.Errorf("%d uploads, want 1", n)
	}
	sees(t, other, "the-first-value")
	if err := other.Remove(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
	if left := server.Left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestGroupOfSomeoneElseIsNotUsed(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	e := openAt(t, server, "group", opening{})
	server.Add(e.names.group, "", "", map[string]any{"theirs": "yes"})
	_, err := e.Converge(t.Context(), unitOf(t, e, wanted(someJobs...)), nil, nil)
	if faas.CodeOf(err) != faas.ErrConflict {
		t.Errorf("error %v, want %v", err, faas.ErrConflict)
	}
}

func TestPackageWithoutExecutableBitFailsWithTheHostsWords(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	e := openAt(t, server, "bits", opening{options: map[string]string{"ready_timeout_secs": "1"}})
	u := unitOf(t, e, wanted(someJobs...))
	for i := range u.Files {
		u.Files[i].Mode = 0o644
	}
	u.Package = packageOf(t, u.Files)
	_, err := e.Converge(t.Context(), u, nil, nil)
	if faas.CodeOf(err) != faas.ErrTimeout || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("error %v, want one with what the host says", err)
	}
}

func TestErrorsHideWhatAzureRepeats(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{NoRoles: true, Echo: true, Fault: func(r *http.Request) *azuretest.Fault {
		if strings.HasSuffix(r.URL.Path, "/config/appsettings/list") {
			return &azuretest.Fault{Status: http.StatusBadRequest, Code: "BadRequest",
				Message: "the settings are FAASTEST_VALUE=the-first-value and the rest"}
		}
		return nil
	}})
	e := openAt(t, server, "echo", opening{})
	_, err := e.Converge(t.Context(), unitOf(t, e, wanted(someJobs...)), nil, nil)
	if faas.CodeOf(err) != faas.ErrInvalidArgument || !strings.Contains(err.Error(), "and the rest") ||
		strings.Contains(err.Error(), "the-first-value") {
		t.Errorf("error %v, want one without the value", err)
	}
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.ErrorCode != "BadRequest" {
		t.Errorf("the SDK's own error is not reachable: %v", response)
	}
}

func TestProgressIsReported(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	e := openAt(t, server, "progress", opening{})
	u := unitOf(t, e, wanted(someJobs...))
	var steps []string
	var most int64
	if _, err := e.Converge(t.Context(), u, nil, func(p faas.Progress) {
		if len(steps) == 0 || steps[len(steps)-1] != p.Step {
			steps = append(steps, p.Step)
		}
		most = max(most, p.Bytes)
		if p.TotalBytes != u.Package.Size() {
			t.Errorf("%d bytes in all, want %d", p.TotalBytes, u.Package.Size())
		}
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{"resource group", "storage and plan", "app", "settings", "role", "upload", "publish",
		"sync triggers", "wait", "record"}
	if diff := cmp.Diff(want, steps); diff != "" || most != u.Package.Size() {
		t.Errorf("%d bytes of %d, steps (-want +got):\n%s", most, u.Package.Size(), diff)
	}
}

func TestPackageIsWhatAzureWants(t *testing.T) {
	t.Parallel()
	e := openAt(t, serve(t, azuretest.Config{}), "files", opening{})
	units, err := e.Units(testBinary(t), wanted(7, 3))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range units[0].Files {
		got[f.Name] = fmt.Sprintf("%o %s", f.Mode, f.Content)
	}
	function := `644 {"bindings":[{"authLevel":"function","direction":"in","methods":["get","post"],"name":"req",` +
		`"type":"httpTrigger"},{"direction":"out","name":"res","type":"http"}]}`
	want := map[string]string{
		"bootstrap": "777 ",
		"host.json": `644 {"version":"2.0","functionTimeout":"00:01:00","customHandler":{"description":` +
			`{"defaultExecutablePath":"bootstrap","workingDirectory":"","arguments":[]},` +
			`"enableForwardingHttpRequest":true},"extensions":{"http":{"routePrefix":"api"}}}`,
		"job3/function.json": function, "job7/function.json": function,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// TestChild is the program of TestEnvironmentAloneIsEnough.
func TestChild(t *testing.T) {
	service := os.Getenv("AZURE_TEST_SERVICE")
	if service == "" {
		t.Skip("this runs in a process that TestEnvironmentAloneIsEnough starts")
	}
	opened, err := faas.Open(t.Context(), faas.Config{
		Provider: faas.AzureFunctions, Service: service, SubscriptionID: azuretest.Subscription})
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	e := opened.(*Executor)
	e.local = true
	u := unitOf(t, e, wanted(someJobs...))
	converge(t, e, u)
	sees(t, e, "the-first-value")
	if err := e.Remove(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
}

func TestEnvironmentAloneIsEnough(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" {
		t.Skip("the system's certificates there cannot be replaced by SSL_CERT_FILE")
	}
	server := serve(t, azuretest.Config{Polls: 1})
	certificate := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(certificate, server.CertificatePEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(os.Environ(), "AZURE_TEST_SERVICE=environment", "SSL_CERT_FILE="+certificate,
		"SSL_CERT_DIR="+t.TempDir(), binaryEnv+"="+testBinary(t).Path)
	for name, value := range server.Environment() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if left := server.Left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
