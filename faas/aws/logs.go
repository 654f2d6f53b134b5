//go:build !faas_only || faas_aws

package aws

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"golang.org/x/sync/errgroup"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
)

// Logs reads the functions' log groups in CloudWatch Logs with FilterLogEvents: one call for each
// function and page of up to 10,000 lines, which takes the permission logs:FilterLogEvents.
// CloudWatch shows a line within seconds. When it follows the logs, it asks for each function again
// after 1 to 8 s. The account's quota of such calls is shared with everything else that reads logs.
// See [faas.LogReader].
//
// The lines START, END, REPORT and the like are System lines. Without LogQuery.System, only those
// that report a failure are returned. A line between START and END has the request id of its
// invocation.
func (e *Executor) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	if err := q.Check(faas.AWSLambda); err != nil {
		return logs.Fail(err)
	}
	return func(yield func(faas.LogLine, error) bool) {
		groups, err := e.logGroups(ctx, q)
		if err != nil {
			yield(faas.LogLine{}, err)
			return
		}
		logs.Reader{
			Provider: faas.AWSLambda, Pace: e.pace.follow, Late: 30 * time.Second,
			Read: func(ctx context.Context, from, until time.Time) logs.Entries {
				parts := make([]logs.Entries, len(groups))
				for i, g := range groups {
					parts[i] = g.read(ctx, from, until)
				}
				return logs.Merge(logs.Entry.At, parts...)
			},
		}.Logs(ctx, q)(yield)
	}
}

// logGroup is the log of one function.
type logGroup struct {
	e        *Executor
	job      int64
	function string
	name     string
	system   bool
	requests map[string]string // the invocation that a stream is in, whose lines come one after another
}

// logGroups returns the log groups of the functions, which must exist and be the service's.
func (e *Executor) logGroups(ctx context.Context, q faas.LogQuery) ([]*logGroup, error) {
	groups := make([]*logGroup, len(q.JobIDs))
	all, ctx := errgroup.WithContext(ctx)
	all.SetLimit(8)
	for i, jobID := range q.JobIDs {
		all.Go(func() error {
			name := functionName(e.service, jobID)
			out, err := e.owned(ctx, "logs", name)
			if err != nil {
				return ofJob(classify("logs", int64(jobID), err), int64(jobID))
			}
			groups[i] = &logGroup{e: e, job: int64(jobID), function: name, name: "/aws/lambda/" + name, system: q.System,
				requests: map[string]string{}}
			if c := out.Configuration.LoggingConfig; c != nil && aws.ToString(c.LogGroup) != "" {
				groups[i].name = aws.ToString(c.LogGroup)
			}
			return nil
		})
	}
	return groups, all.Wait()
}

// read returns the log group's entries of a period.
func (g *logGroup) read(ctx context.Context, from, until time.Time) logs.Entries {
	return func(yield func(logs.Entry, error) bool) {
		in := &cloudwatchlogs.FilterLogEventsInput{LogGroupName: &g.name}
		if !from.IsZero() {
			in.StartTime = aws.Int64(max(ceilMilli(from), 0))
		}
		if !until.IsZero() {
			in.EndTime = aws.Int64(ceilMilli(until) - 1) // included
			if *in.EndTime < 0 || in.StartTime != nil && *in.EndTime < *in.StartTime {
				return
			}
		}
		pages := cloudwatchlogs.NewFilterLogEventsPaginator(
			g.e.logs, in, func(o *cloudwatchlogs.FilterLogEventsPaginatorOptions) {
				o.StopOnDuplicateToken = true
			})
		for pages.HasMorePages() { // also after an empty page
			page, err := pages.NextPage(ctx)
			if isNotFound(err) { // the function has not run yet
				return
			}
			if err != nil {
				yield(logs.Entry{}, g.failed(err))
				return
			}
			for _, event := range page.Events {
				line := g.line(aws.ToString(event.LogStreamName), aws.ToString(event.Message))
				line.Time = time.UnixMilli(aws.ToInt64(event.Timestamp)).UTC()
				if line.System && !g.system && line.Severity != faas.SeverityError {
					continue
				}
				if !yield(logs.Entry{ID: aws.ToString(event.EventId), Line: line}, nil) {
					return
				}
			}
		}
	}
}

func ceilMilli(t time.Time) int64 { return t.Add(time.Millisecond - 1).UnixMilli() }

func (g *logGroup) failed(err error) error {
	failed := classify("logs", g.job, err)
	if apiCode(err) == "AccessDeniedException" {
		failed.Err = fmt.Errorf("%w; allow logs:FilterLogEvents on the log group %s", failed.Err, g.name)
	}
	return failed
}

// What Lambda writes into a function's log in plain text. Every such line names its invocation,
// except those about the start of an instance.
var (
	invocationLine = regexp.MustCompile(`^(START|END|REPORT) RequestId: ([0-9a-f-]{36})\b`)
	instanceLine   = regexp.MustCompile(`^((INIT|RESTORE)_START Runtime Version: |` +
		`INIT_REPORT Init Duration: |RESTORE_REPORT Restore Duration: |EXTENSION\tName: )`)
	timeoutLine = regexp.MustCompile(`^(?:\S+Z )?([0-9a-f-]{36}) Task timed out after [0-9.]+ seconds`)
	failureLine = regexp.MustCompile(`^RequestId: ([0-9a-f-]{36}) Error: `)
	statusField = regexp.MustCompile(`\tStatus: (?:timeout|error|failure)\b`)
)

// line converts an event to a line without its time. The events of a stream arrive in order.
func (g *logGroup) line(stream, message string) faas.LogLine {
	text := strings.TrimRight(message, "\r\n")
	line := faas.LogLine{JobID: g.job, FunctionID: g.function, Text: text, RequestID: g.requests[stream]}
	if m := invocationLine.FindStringSubmatch(text); m != nil {
		line.System, line.RequestID = true, m[2]
		if m[1] == "START" {
			g.requests[stream] = m[2]
		} else {
			delete(g.requests, stream)
		}
		if statusField.MatchString(text) {
			line.Severity = faas.SeverityError
		}
		return line
	}
	for _, failure := range []*regexp.Regexp{timeoutLine, failureLine} {
		if m := failure.FindStringSubmatch(text); m != nil {
			line.System, line.RequestID, line.Severity = true, m[1], faas.SeverityError
			return line
		}
	}
	if line.System = instanceLine.MatchString(text); line.System && statusField.MatchString(text) {
		line.Severity = faas.SeverityError
	}
	if strings.HasPrefix(text, "{") && strings.Contains(text, `"platform.`) {
		g.record(stream, &line)
	}
	return line
}

// record reads what Lambda writes about an invocation if its log is JSON.
func (g *logGroup) record(stream string, line *faas.LogLine) {
	var r struct {
		Type   string `json:"type"`
		Record struct {
			RequestID string `json:"requestId"`
			Status    string `json:"status"`
		} `json:"record"`
	}
	if json.Unmarshal([]byte(line.Text), &r) != nil || !strings.HasPrefix(r.Type, "platform.") {
		return
	}
	line.System = true
	if r.Record.RequestID != "" {
		line.RequestID = r.Record.RequestID
	}
	switch r.Type {
	case "platform.start":
		g.requests[stream] = r.Record.RequestID
	case "platform.runtimeDone", "platform.report":
		delete(g.requests, stream)
	}
	if slices.Contains([]string{"timeout", "error", "failure"}, r.Record.Status) {
		line.Severity = faas.SeverityError
	}
}

// deleteLogGroup removes the log group of a function. If it does not exist, deleteLogGroup
// succeeds.
func (e *Executor) deleteLogGroup(ctx context.Context, name string) error {
	err := e.changeOther(ctx, func(ctx context.Context) error {
		_, err := e.logs.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{
			LogGroupName: aws.String("/aws/lambda/" + name)})
		return err
	})
	if isNotFound(err) {
		return nil
	}
	return err
}
