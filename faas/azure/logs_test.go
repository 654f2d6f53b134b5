//go:build !faas_only || faas_azure

package azure

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/azure/internal/azuretest"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

// reporting returns the options of apps that report to the stand-in's Application Insights.
func reporting(server *azuretest.Server) map[string]string {
	return map[string]string{"application_insights": server.Insights(), "application_insights_endpoint": server.URL()}
}

// logged returns the log of JobLog.
func logged(t testing.TB, e *Executor, q faas.LogQuery) (lines []faas.LogLine, failed error) {
	t.Helper()
	q.JobIDs = []uint32{faastest.JobLog}
	for line, err := range e.Logs(t.Context(), q) {
		if err != nil {
			return lines, err
		}
		lines = append(lines, line)
	}
	return lines, nil
}

func deployed(t testing.TB, server *azuretest.Server, options map[string]string) *Executor {
	t.Helper()
	e := openAt(t, server, "printing", opening{options: options})
	u := unitOf(t, e, []faas.Function{{JobID: faastest.JobLog, MemoryMB: 512, TimeoutSecs: 60}})
	if _, err := e.Converge(t.Context(), u, nil, nil); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestLogsAreConsoleLinesAndWhatTheHostSaysOfFailures(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	e := deployed(t, server, reporting(server))
	app := e.names.app
	for _, row := range []struct {
		app, category, message string
		level                  int
	}{
		{app, "Host.Function.Console", "printed\n", 1}, {app, "Host.Function.Console", "a warning", 2},
		{app, "Function.job11", "Executing 'Functions.job11'", 1},
		{app, "Function.job11", "Executed 'Functions.job11' (Failed)", 3}, {app, "Function.job11.User", "by the host", 1},
		{app, "Function.job12", "of another job", 3},
		{app, "Host.Startup", "Loading functions metadata", 1}, {"other-app", "Host.Function.Console", "of another app", 1},
		{app, "Host.Function.Console", "it prints " + server.Insights(), 1},
	} {
		server.Trace(row.app, row.category, row.message, row.level)
	}
	type line struct {
		Text, Severity string
		JobID          int64
		System         bool
	}
	short := func(q faas.LogQuery) (out []line) {
		lines, err := logged(t, e, q)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			out = append(out, line{l.Text, l.Severity, l.JobID, l.System})
			if l.FunctionID != app || l.Time.IsZero() {
				t.Errorf("%+v", l)
			}
		}
		return out
	}
	want := []line{
		{"printed", "INFO", faas.NoJob, false}, {"a warning", "WARNING", faas.NoJob, false},
		{"Executed 'Functions.job11' (Failed)", "ERROR", 11, true}, {"by the host", "INFO", 11, false},
		{"it prints (hidden)", "INFO", faas.NoJob, false},
	}
	if diff := cmp.Diff(want, short(faas.LogQuery{})); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[3:], short(faas.LogQuery{Limit: 2})); diff != "" {
		t.Error(diff)
	}
	if all := short(faas.LogQuery{System: true}); len(all) != 7 {
		t.Errorf("with system lines: %v", all)
	}
}

func TestLogsOfManyQueriesAreWhole(t *testing.T) {
	t.Parallel()
	server := serve(t, azuretest.Config{})
	e := deployed(t, server, reporting(server))
	const n = maxTraces + 100
	for i := range n {
		server.Trace(e.names.app, "Host.Function.Console", fmt.Sprint("line ", i), 1)
	}
	got, err := logged(t, e, faas.LogQuery{})
	if err != nil || len(got) != n {
		t.Fatalf("%d lines, %v", len(got), err)
	}
	seen := map[string]bool{}
	for _, l := range got {
		seen[l.Text] = true
	}
	if len(seen) != n {
		t.Errorf("%d of %d lines", len(seen), n)
	}
}

func TestLogsSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	denied := serve(t, azuretest.Config{Fault: func(r *http.Request) *azuretest.Fault {
		if strings.HasPrefix(r.URL.Path, "/v1/apps/") {
			return &azuretest.Fault{Status: http.StatusForbidden, Code: "InsufficientAccessError",
				Message: "The provided credentials have insufficient access to perform the requested operation"}
		}
		return nil
	}})
	plain := serve(t, azuretest.Config{})
	for name, tt := range map[string]struct {
		e    *Executor
		code faas.Code
		says string
	}{
		"no Application Insights": {deployed(t, plain, nil), faas.ErrUnsupported, "az monitor app-insights component create"},
		"an old connection string": {
			deployed(t, serve(t, azuretest.Config{}), map[string]string{
				"application_insights": "InstrumentationKey=44444444-4444-4444-4444-444444444444"}), faas.ErrUnsupported,
			"ApplicationId",
		},
		"no right to read it": {deployed(t, denied, reporting(denied)), faas.ErrPermissionDenied, "Monitoring Reader"},
		"no app":              {openAt(t, plain, "nobody", opening{}), faas.ErrNotFound, ""},
	} {
		_, err := logged(t, tt.e, faas.LogQuery{})
		if faas.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.says) ||
			strings.Contains(err.Error(), "44444444") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(t.Context(), faas.Config{Service: "s", SubscriptionID: "x",
		Options: map[string]string{"application_insights_endpoint": "http://127.0.0.1"}}); faas.CodeOf(
		err) != faas.ErrInvalidArgument {
		t.Errorf("an endpoint without TLS: %v", err)
	}
}

func TestEachCloudHasItsApplicationInsights(t *testing.T) {
	for authority, want := range map[string]string{
		"https://login.microsoftonline.com/": publicInsights,
		"https://login.microsoftonline.us/":  "https://api.applicationinsights.us",
		"https://login.chinacloudapi.cn/":    "https://api.applicationinsights.azure.cn",
		"https://127.0.0.1:1/":               publicInsights,
	} {
		if got := insightsOf(authority); got != want {
			t.Errorf("%s: %s", authority, got)
		}
	}
}
