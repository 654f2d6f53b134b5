//go:build !faas_only || faas_gcp

package gcp

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	logging "google.golang.org/api/logging/v2"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
)

// Logs reads what the functions wrote from Cloud Logging, as one list of entries for all functions.
// It makes one call for each 1,000 lines, and needs the permission logging.logEntries.list, as in
// roles/logging.viewer. Google shows a line within seconds. Following asks for the list again after
// 2 to 15 s, because a project may be read 60 times a minute. See [faas.LogReader].
//
// Entries of Cloud Run's request log and of its system log are System lines. Errors in the system
// log, such as a lack of memory, are included even without LogQuery.System.
func (e *Executor) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	if err := q.Check(faas.GCPFunctions); err != nil {
		return logs.Fail(err)
	}
	return func(yield func(faas.LogLine, error) bool) {
		l := &logList{e: e, system: q.System}
		if err := l.find(ctx, q.JobIDs); err != nil {
			yield(faas.LogLine{}, err)
			return
		}
		logs.Reader{Provider: faas.GCPFunctions, Pace: e.set.logPace, Late: 30 * time.Second, Read: l.read,
			Tail: l.tail}.Logs(ctx, q)(yield)
	}
}

// defaultLogPace leaves half of the quota of https://cloud.google.com/logging/quotas, 60 reads a
// minute and project, to others.
var defaultLogPace = logs.Pace{First: 2 * time.Second, Longest: 15 * time.Second}

// logList reads the log entries of functions.
type logList struct {
	e        *Executor
	system   bool
	jobs     map[string]loggedJob // by the Cloud Run service
	services [][]string           // in parts that fit into a filter
}

type loggedJob struct {
	job      int64
	function string
}

// servicesPerFilter is how many services a filter names. A filter may have 20,000 characters.
const servicesPerFilter = 150

// find finds the services that run the jobs' functions. The functions must exist and belong to this
// service.
func (l *logList) find(ctx context.Context, jobs []uint32) error {
	found := make([]*resource, len(jobs))
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(8)
	for i, jobID := range jobs {
		all.Go(func() (err error) {
			found[i], err = l.e.observe(ctx, request{op: "logs", job: int64(jobID)},
				kit.CloudRunNames.Of(l.e.set.service, jobID))
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	l.jobs = map[string]loggedJob{}
	var names []string
	for i, r := range found {
		name := lastSegment(cmp.Or(r.service, r.name))
		l.jobs[name] = loggedJob{int64(jobs[i]), r.id}
		names = append(names, name)
	}
	l.services = slices.Collect(slices.Chunk(names, servicesPerFilter))
	return nil
}

// The logs of Cloud Run, by the ends of their names.
const (
	stdoutLog  = "run.googleapis.com%2Fstdout"
	stderrLog  = "run.googleapis.com%2Fstderr"
	requestLog = "run.googleapis.com%2Frequests"
	systemLog  = "run.googleapis.com%2Fvarlog%2Fsystem"
)

// filter returns a filter in the language of
// https://cloud.google.com/logging/docs/view/logging-query-language, in which OR binds tighter than
// AND. The parentheses are for readers.
func (l *logList) filter(services []string, from, until time.Time) string {
	log := func(id string) string { return strconv.Quote("projects/" + l.e.set.project + "/logs/" + id) }
	quoted := make([]string, len(services))
	for i, name := range services {
		quoted[i] = strconv.Quote(name)
	}
	logs := fmt.Sprintf("(logName=(%s OR %s) OR (logName=%s AND severity>=ERROR))", log(stdoutLog), log(stderrLog),
		log(systemLog))
	if l.system {
		logs = fmt.Sprintf("logName=(%s OR %s OR %s OR %s)", log(stdoutLog), log(stderrLog), log(systemLog), log(requestLog))
	}
	terms := []string{
		`resource.type="cloud_run_revision"`, "resource.labels.location=" + strconv.Quote(l.e.set.region),
		"resource.labels.service_name=(" + strings.Join(quoted, " OR ") + ")", logs,
	}
	if !from.IsZero() {
		terms = append(terms, "timestamp>="+strconv.Quote(from.UTC().Format(time.RFC3339Nano)))
	}
	if !until.IsZero() {
		terms = append(terms, "timestamp<"+strconv.Quote(until.UTC().Format(time.RFC3339Nano)))
	}
	return strings.Join(terms, " AND ")
}

// maxLogPage is the largest number of entries in a page.
const maxLogPage = 1000

// list calls emit with the entries in the given order until emit returns false. A page that is
// empty need not be the last.
func (l *logList) list(ctx context.Context, filter, order string, size int, emit func(logs.Entry) bool) error {
	in := &logging.ListLogEntriesRequest{
		ResourceNames: []string{"projects/" + l.e.set.project}, Filter: filter, OrderBy: "timestamp " + order,
		PageSize: int64(min(size, maxLogPage)),
	}
	for {
		var page *logging.ListLogEntriesResponse
		_, err := l.e.call(ctx, request{op: "logs", job: faas.NoJob}, true, func(ctx context.Context) (err error) {
			page, err = l.e.logging.Entries.List(in).Context(ctx).Do()
			return err
		})
		if err != nil {
			return err
		}
		for _, entry := range page.Entries {
			if !emit(logs.Entry{ID: entry.InsertId + " " + entry.Timestamp + " " + entry.LogName, Line: l.line(entry)}) {
				return nil
			}
		}
		if page.NextPageToken == "" || page.NextPageToken == in.PageToken {
			return nil
		}
		in.PageToken = page.NextPageToken
	}
}

func (l *logList) read(ctx context.Context, from, until time.Time) logs.Entries {
	parts := make([]logs.Entries, len(l.services))
	for i, services := range l.services {
		parts[i] = func(yield func(logs.Entry, error) bool) {
			if err := l.list(ctx, l.filter(services, from, until), "asc", maxLogPage,
				func(e logs.Entry) bool { return yield(e, nil) }); err != nil {
				yield(logs.Entry{}, err)
			}
		}
	}
	return logs.Merge(logs.Entry.At, parts...)
}

func (l *logList) tail(ctx context.Context, from, until time.Time, n int) ([]logs.Entry, error) {
	var last []logs.Entry
	for _, services := range l.services {
		got := 0
		err := l.list(ctx, l.filter(services, from, until), "desc", n, func(e logs.Entry) bool {
			last = append(last, e)
			got++
			return got < n
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Reverse(last)
	slices.SortStableFunc(last, func(a, b logs.Entry) int { return a.At().Compare(b.At()) })
	return last[max(0, len(last)-n):], nil
}

// line makes a log line from an entry.
func (l *logList) line(entry *logging.LogEntry) faas.LogLine {
	service := ""
	if entry.Resource != nil {
		service = entry.Resource.Labels["service_name"]
	}
	of, known := l.jobs[service]
	line := faas.LogLine{
		Time: parseTime(entry.Timestamp), JobID: of.job, FunctionID: of.function, Severity: severities[entry.Severity],
		RequestID: cmp.Or(entry.Labels["execution_id"], lastSegment(entry.Trace)),
		Text:      strings.TrimRight(entry.TextPayload, "\r\n"),
	}
	if !known {
		line.JobID = faas.NoJob
	}
	switch {
	case strings.HasSuffix(entry.LogName, requestLog), strings.HasSuffix(entry.LogName, systemLog):
		line.System = true
	}
	if line.Text == "" && len(entry.JsonPayload) > 0 {
		line.Text = string(entry.JsonPayload)
		var said struct {
			Message string `json:"message"`
		}
		if json.Unmarshal(entry.JsonPayload, &said) == nil && said.Message != "" {
			line.Text = strings.TrimRight(said.Message, "\r\n")
		}
	}
	if h := entry.HttpRequest; h != nil && line.Text == "" {
		line.Text = fmt.Sprintf("%s %s: status %d, %s", h.RequestMethod, faas.RedactURL(h.RequestUrl), h.Status, h.Latency)
	}
	return line
}

// severities maps google.logging.type.LogSeverity to levels. DEFAULT says nothing.
var severities = map[string]string{
	"DEBUG": faas.SeverityDebug, "INFO": faas.SeverityInfo, "NOTICE": faas.SeverityInfo, "WARNING": faas.SeverityWarning,
	"ERROR":    faas.SeverityError,
	"CRITICAL": faas.SeverityCritical, "ALERT": faas.SeverityCritical, "EMERGENCY": faas.SeverityCritical,
}
