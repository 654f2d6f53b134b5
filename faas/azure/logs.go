//go:build !faas_only || faas_azure

package azure

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
)

// Logs reads the app's output from Application Insights, to which the app must report (option
// "application_insights"): on Flex Consumption nothing else keeps the output, and the publish host
// has no log stream (https://github.com/Azure/azure-functions-core-tools/issues/4585). If the app
// does not report, the error is an ErrUnsupported that says what to do. The caller needs a role
// that may query the component, such as "Monitoring Reader". Lines appear after a minute or more.
// When it follows the log, Logs queries the table again after 5 to 30 s. See [faas.LogReader].
//
// All jobs of an app share one process, so that its output has faas.NoJob and comes with any of
// them. What the Functions host says about an invocation is a System line with the job; without
// LogQuery.System, only errors of the host are returned.
func (e *Executor) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	if err := q.Check(faas.AzureFunctions); err != nil {
		return logs.Fail(err)
	}
	return func(yield func(faas.LogLine, error) bool) {
		t, err := e.traces(ctx, q)
		if err != nil {
			yield(faas.LogLine{}, err)
			return
		}
		logs.Reader{Provider: faas.AzureFunctions, Pace: e.pace.follow, Late: 5 * time.Minute, Read: t.read,
			Tail: t.tail}.Logs(ctx, q)(yield)
	}
}

// traces is the table of Application Insights that holds the output of an app.
type traces struct {
	e      *Executor
	url    string
	jobs   map[string]int64 // by the function's name
	system bool
}

// insightsSetting is the application setting that tells an app its Application Insights.
const insightsSetting = "APPLICATIONINSIGHTS_CONNECTION_STRING"

func (e *Executor) traces(ctx context.Context, q faas.LogQuery) (*traces, error) {
	t := &traces{e: e, jobs: map[string]int64{}, system: q.System}
	for _, jobID := range q.JobIDs {
		if _, err := e.job(ctx, "logs", jobID); err != nil {
			return nil, err
		}
		t.jobs[functionName(jobID)] = int64(jobID)
	}
	var settings appSettings // of an app that may not exist
	if err := e.call(ctx, http.MethodPost, e.sitePath(e.names.app, "config/appsettings/list"), webAPI, nil,
		&settings); err != nil {
		return nil, e.fail(ctx, "logs", faas.NoJob, err)
	}
	unsupported := func(format string, args ...any) error {
		return faas.Errorf(faas.ErrUnsupported, "logs", faas.AzureFunctions, format, args...)
	}
	connection := settings.Properties[insightsSetting]
	e.secrets.Add(connection)
	switch id := connectionField(connection, "ApplicationId"); {
	case connection == "":
		return nil, unsupported("app %[1]s reports to no Application Insights, and on Flex Consumption nothing else keeps "+
			"what it prints: make a component (az monitor app-insights component create --app %[1]s "+
			"--resource-group %[2]s --location %[3]s --query connectionString), set the option "+
			`"application_insights" to its connection string, and deploy again`, e.names.app, e.names.group, e.region)
	case !pathPattern.MatchString(id):
		return nil, unsupported("the connection string of Application Insights that app %s has names no ApplicationId: "+
			`set the option "application_insights" to the one that az monitor app-insights component show `+
			"--query connectionString prints, and deploy again", e.names.app)
	default:
		t.url = e.insightsEndpoint() + "/v1/apps/" + url.PathEscape(id) + "/query"
	}
	return t, nil
}

// connectionField returns a field of a connection string, which is name=value;name=value.
func connectionField(connection, name string) string {
	for field := range strings.SplitSeq(connection, ";") {
		if key, value, ok := strings.Cut(strings.TrimSpace(field), "="); ok && strings.EqualFold(key, name) {
			return value
		}
	}
	return ""
}

// publicInsights is the endpoint of Application Insights in the public cloud, and the audience of
// its tokens.
const publicInsights = "https://api.applicationinsights.io"

// insightsOf returns the endpoint of Application Insights in the cloud of an authority:
// https://learn.microsoft.com/azure/azure-monitor/logs/api/overview.
func insightsOf(authority string) string {
	switch {
	case isAuthorityOf(cloud.AzureGovernment, authority):
		return "https://api.applicationinsights.us"
	case isAuthorityOf(cloud.AzureChina, authority):
		return "https://api.applicationinsights.azure.cn"
	}
	return publicInsights
}

func (e *Executor) insightsEndpoint() string {
	return strings.TrimRight(cmp.Or(e.options.insightsEndpoint, insightsOf(e.authority)), "/")
}

// insightsPipeline returns the pipeline for requests to Application Insights, with tokens for it.
func (e *Executor) insightsPipeline(credential azcore.TokenCredential, client policy.ClientOptions) runtime.Pipeline {
	token := runtime.NewBearerTokenPolicy(credential, []string{insightsOf(e.authority) + "/.default"}, nil)
	return runtime.NewPipeline(moduleName, moduleVersion, runtime.PipelineOptions{PerRetry: []policy.Policy{token}},
		&client)
}

// query returns the Kusto query for a part of the table. last orders and bounds it. Console lines
// are the output of the process, those of "User" what it logs through the host; all others are the
// host's own.
func (t *traces) query(from, until time.Time, last string) string {
	var b strings.Builder
	b.WriteString("traces\n")
	stage := func(format string, args ...any) { fmt.Fprintf(&b, "| "+format+"\n", args...) }
	if !from.IsZero() {
		stage("where timestamp >= datetime(%s)", tick(from))
	}
	if !until.IsZero() {
		stage("where timestamp < datetime(%s)", tick(until))
	}
	stage("where cloud_RoleName =~ '%s'", t.e.names.app)
	stage("extend category = tostring(customDimensions.Category), invocation = tostring(customDimensions.InvocationId)")
	stage(`extend function = extract(@'^Function\.([^.]+)', 1, category)`)
	if !t.system {
		stage("where category == 'Host.Function.Console' or category endswith '.User' or (isnotempty(function) and " +
			"severityLevel >= 3)")
	}
	names := make([]string, 0, len(t.jobs))
	for name := range t.jobs {
		names = append(names, "'"+name+"'")
	}
	slices.Sort(names)
	stage("where isempty(function) or function in (%s)", strings.Join(names, ", "))
	stage("project timestamp, message, severityLevel, category, function, invocation, itemId")
	stage("%s", last)
	return b.String()
}

// tick rounds a time up to the resolution of Application Insights, 100 ns.
func tick(t time.Time) string {
	return t.Add(99 * time.Nanosecond).UTC().Format("2006-01-02T15:04:05.0000000Z")
}

// maxTraces is how many lines one query returns.
const maxTraces = 5000

func (t *traces) read(ctx context.Context, from, until time.Time) logs.Entries {
	return func(yield func(logs.Entry, error) bool) {
		seen := map[string]bool{} // of the last time, from which the next query begins
		for {
			page, err := t.ask(ctx, t.query(from, until, fmt.Sprintf("top %d by timestamp asc", maxTraces)))
			if err != nil {
				yield(logs.Entry{}, err)
				return
			}
			fresh := 0
			for _, entry := range page {
				if seen[entry.ID] {
					continue
				}
				if fresh++; !yield(entry, nil) {
					return
				}
			}
			if len(page) < maxTraces {
				return
			}
			last := page[len(page)-1].At()
			if from = last; fresh == 0 { // more lines of one moment than a query gets
				from = last.Add(100 * time.Nanosecond)
			}
			clear(seen)
			for _, entry := range page {
				if entry.At().Equal(last) {
					seen[entry.ID] = true
				}
			}
		}
	}
}

func (t *traces) tail(ctx context.Context, from, until time.Time, n int) ([]logs.Entry, error) {
	last, err := t.ask(ctx, t.query(from, until, fmt.Sprintf("top %d by timestamp desc", n)))
	slices.Reverse(last)
	return last, err
}

// table is a result of a query. Values are strings, numbers, or null.
type table struct {
	Columns []struct {
		Name string `json:"name"`
	} `json:"columns"`
	Rows [][]any `json:"rows"`
}

// ask makes a query. An incomplete answer is an error.
func (t *traces) ask(ctx context.Context, query string) ([]logs.Entry, error) {
	var out struct {
		Tables []table        `json:"tables"`
		Error  map[string]any `json:"error"`
	}
	resp, err := t.e.request(ctx, t.e.insights, http.MethodPost, t.url, "", map[string]string{"query": query})
	err = answered(resp, err, &out)
	switch {
	case err != nil:
		failed := t.e.fail(ctx, "logs", faas.NoJob, err)
		if failed.Code == faas.ErrPermissionDenied {
			failed.Err = fmt.Errorf(`%w; the caller needs a role such as "Monitoring Reader" `+
				"on the Application Insights component of app %s", failed.Err, t.e.names.app)
		}
		return nil, failed
	case out.Error != nil || len(out.Tables) == 0:
		return nil, faas.Errorf(faas.ErrUnavailable, "logs", faas.AzureFunctions,
			"Application Insights answered a part of the query alone")
	}
	var entries []logs.Entry
	for _, row := range out.Tables[0].Rows {
		values := map[string]any{}
		for i, column := range out.Tables[0].Columns {
			if i < len(row) {
				values[column.Name] = row[i]
			}
		}
		entries = append(entries, t.entry(values))
	}
	return entries, nil
}

// entry converts a row to a line.
func (t *traces) entry(row map[string]any) logs.Entry {
	text := func(name string) string {
		s, _ := row[name].(string)
		return s
	}
	level, known := row["severityLevel"].(float64)
	line := faas.LogLine{
		JobID: faas.NoJob, FunctionID: t.e.names.app, RequestID: text("invocation"),
		Text:   t.e.hider()(strings.TrimRight(text("message"), "\r\n")),
		System: text("category") != "Host.Function.Console" && !strings.HasSuffix(text("category"), ".User"),
	}
	if at, err := time.Parse(time.RFC3339Nano, text("timestamp")); err == nil {
		line.Time = at.UTC()
	}
	if job, ok := t.jobs[text("function")]; ok {
		line.JobID = job
	}
	if levels := []string{faas.SeverityDebug, faas.SeverityInfo, faas.SeverityWarning, faas.SeverityError,
		faas.SeverityCritical}; known && level >= 0 && int(level) < len(levels) {
		line.Severity = levels[int(level)]
	}
	return logs.Entry{ID: cmp.Or(text("itemId"), text("timestamp")+text("message")), Line: line}
}
