//go:build !faas_only || faas_gcp

package gcp_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/faas/gcp"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
)

const (
	systemLog  = "run.googleapis.com%2Fvarlog%2Fsystem"
	requestLog = "run.googleapis.com%2Frequests"
	stderrLog  = "run.googleapis.com%2Fstderr"
)

// printing starts a fake with a function for JobLog. It also returns a function that adds an entry
// to that function's log.
func printing(t *testing.T) (*gcptest.Server, *gcp.Executor, func(log string, more map[string]any)) {
	t.Helper()
	runsHere(t)
	s := gcptest.Start(t, builder)
	t.Setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING", s.URL)
	e := open(t, config(s, "printing"), gcp.WithFastLogs())
	u := units(t, e, faas.Function{JobID: faastest.JobLog, MemoryMB: 256, TimeoutSecs: 60})[0]
	converge(t, e, u)
	return s, e, func(log string, more map[string]any) { s.Log("test-project", "us-central1", u.ID, log, more) }
}

// logged reads the log of JobLog.
func logged(t testing.TB, e *gcp.Executor, q faas.LogQuery) (lines []faas.LogLine, failed error) {
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

func textsOf(lines []faas.LogLine) (texts []string) {
	for _, l := range lines {
		texts = append(texts, l.Text)
	}
	return texts
}

func TestLogsAreWhatJobsPrintedInEveryShape(t *testing.T) {
	s, e, add := printing(t)
	add(stderrLog, map[string]any{"textPayload": "plain\n"})
	add(stderrLog, map[string]any{"jsonPayload": map[string]any{"message": "of a record", "key": 1}, "severity": "NOTICE",
		"labels": map[string]any{"execution_id": "x7"}})
	add(stderrLog, map[string]any{"jsonPayload": map[string]any{"key": "value"}, "severity": "ALERT",
		"trace": "projects/test-project/traces/abc"})
	add(requestLog, map[string]any{"severity": "ERROR",
		"httpRequest": map[string]any{"requestMethod": "POST", "requestUrl": "https://f.a.run.app/?secret=1", "status": 500,
			"latency": "0.012s"}})
	add(systemLog, map[string]any{"textPayload": "Default STARTUP TCP probe succeeded", "severity": "INFO"})
	add(systemLog, map[string]any{"textPayload": "Memory limit of 256 MiB exceeded with 261 MiB used.",
		"severity": "ERROR"})
	add("cloudaudit.googleapis.com%2Factivity", map[string]any{"severity": "NOTICE", "protoPayload": map[string]any{}})
	s.Log("test-project", "us-central1", "printing-job11x", stderrLog, map[string]any{"textPayload": "of another service"})
	s.Log("test-project", "europe-west1", "printing-job11", stderrLog, map[string]any{"textPayload": "of another region"})
	got, err := logged(t, e, faas.LogQuery{})
	if err != nil {
		t.Fatal(err)
	}
	type line struct {
		Text, Severity, RequestID string
		System                    bool
	}
	var short []line
	for _, l := range got {
		short = append(short, line{l.Text, l.Severity, l.RequestID, l.System})
		if l.JobID != int64(faastest.JobLog) || l.FunctionID == "" || l.Time.IsZero() {
			t.Errorf("%+v", l)
		}
	}
	want := []line{
		{"plain", "", "", false}, {"of a record", "INFO", "x7", false}, {`{"key":"value"}`, "CRITICAL", "abc", false},
		{"Memory limit of 256 MiB exceeded with 261 MiB used.", "ERROR", "", true},
	}
	if diff := cmp.Diff(want, short); diff != "" {
		t.Error(diff)
	}
	got, err = logged(t, e, faas.LogQuery{System: true})
	texts := strings.Join(textsOf(got), "\n")
	if err != nil || len(got) != 6 || !strings.Contains(texts, "POST https://f.a.run.app/") ||
		strings.Contains(texts, "secret") || !strings.Contains(texts, "probe succeeded") {
		t.Errorf("%v %s", err, texts)
	}
}

func TestLogsOfManyPagesAreWhole(t *testing.T) {
	s, e, add := printing(t)
	s.LogPage = 3
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint("line ", i))
		add(stderrLog, map[string]any{"textPayload": want[i]})
	}
	for limit, first := range map[int]int{0: 0, 7: 13, 20: 0, 50: 0} {
		got, err := logged(t, e, faas.LogQuery{Limit: limit})
		if diff := cmp.Diff(want[first:], textsOf(got)); diff != "" || err != nil {
			t.Errorf("limit %d: %v %s", limit, err, diff)
		}
	}
}

func TestLogsSayWhatIsMissing(t *testing.T) {
	s, e, _ := printing(t)
	s.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v2/entries:list" {
			return false
		}
		gcptest.Fail(w, 403, "PERMISSION_DENIED", "Permission 'logging.logEntries.list' denied on resource (or it may "+
			"not exist).", "IAM_PERMISSION_DENIED", "permission", "logging.logEntries.list")
		return true
	}
	if _, err := logged(t, e, faas.LogQuery{}); faas.CodeOf(err) != faas.ErrPermissionDenied ||
		!strings.Contains(err.Error(), "roles/logging.viewer") {
		t.Errorf("%v", err)
	}
}
