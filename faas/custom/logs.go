package custom

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/httputil"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
)

// Logs asks the platform for what the functions printed: GET /api/functions/{id}/logs, an extension
// of the protocol. The error is ErrUnsupported on platforms that lack it, and on invoke-only ones.
// To follow lines, Logs keeps a connection for each function; if one breaks, Logs makes another
// that continues after the last line. See [faas.LogReader].
func (e *Executor) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	if err := q.Check(faas.Custom); err != nil {
		return logs.Fail(err)
	}
	if e.invokeOnly() {
		return logs.Fail(faas.Errorf(faas.ErrUnsupported, "logs", faas.Custom,
			"an invoke-only platform shows no logs: look where its functions run"))
	}
	return func(yield func(faas.LogLine, error) bool) {
		tails := make([]*tail, len(q.JobIDs))
		there := make([]logs.Lines, len(tails))
		for i, jobID := range q.JobIDs {
			tails[i] = &tail{e: e, job: jobID, id: kit.ProtocolNames.Of(e.set.service, jobID), query: q}
			there[i] = tails[i].there(ctx)
		}
		for line, err := range logs.Last(q.Limit, logs.Merge(logs.Time, there...)) {
			if !yield(line, err) || err != nil {
				return
			}
		}
		if !q.Follow {
			return
		}
		follow := make([]func(context.Context) logs.Lines, len(tails))
		for i, t := range tails {
			follow[i] = t.follow
		}
		logs.Join(ctx, faas.Custom, follow...)(yield)
	}
}

// tail reads the log of a function and remembers how far it has read.
type tail struct {
	e     *Executor
	job   uint32
	id    string
	query faas.LogQuery
	after string // the platform's name for the place behind the last line
}

// logLine is a line as the platform sends it. Members that it does not send are empty.
type logLine struct {
	Cursor    string `json:"cursor"`
	Time      string `json:"time"`
	Severity  string `json:"severity"`
	RequestID string `json:"request_id"`
	System    bool   `json:"system"`
	Text      string `json:"text"`
	Truncated bool   `json:"truncated"`
}

func (t *tail) request(follow bool) request {
	values := url.Values{}
	q := t.query
	for name, at := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !at.IsZero() {
			values.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	if q.Limit > 0 && !follow {
		values.Set("limit", strconv.Itoa(q.Limit))
	}
	if follow {
		values.Set("follow", "true")
	}
	if t.after != "" {
		values.Set("after", t.after)
	}
	to := t.e.functionURL(t.id, "/logs")
	if len(values) > 0 {
		to += "?" + values.Encode()
	}
	return request{
		op: "logs", job: int64(t.job), method: http.MethodGet, url: to,
		header: http.Header{"Accept": {"application/x-ndjson"}, "X-Blueprint-Service": {headerText(t.e.set.service)}},
	}
}

// there returns the existing lines.
func (t *tail) there(ctx context.Context) logs.Lines {
	return func(yield func(faas.LogLine, error) bool) {
		for p := newPatience(); ; {
			sent := 0
			err := t.stream(ctx, t.request(false), func(line faas.LogLine) bool {
				sent++
				return yield(line, nil)
			})
			if err == nil || errors.Is(err, errLeft) {
				return
			}
			wait, more := p.next(err)
			if sent > 0 || !more || !isTransient(err) || !httputil.Sleep(ctx, wait) {
				yield(faas.LogLine{}, err)
				return
			}
		}
	}
}

// The shortest and longest pause before a broken connection is made again, and how many attempts in
// a row may fail.
const (
	againFirst, againLongest = 100 * time.Millisecond, 5 * time.Second
	againMost                = 12
)

// follow returns the lines after those that were read, until ctx is done or the function is gone.
func (t *tail) follow(ctx context.Context) logs.Lines {
	return func(yield func(faas.LogLine, error) bool) {
		wait, failed := againFirst, 0
		for {
			sent := 0
			err := t.stream(ctx, t.request(true), func(line faas.LogLine) bool {
				sent++
				return yield(line, nil)
			})
			if sent > 0 {
				wait, failed = againFirst, 0
			}
			var throttled *faas.Error
			code := faas.CodeOf(err)
			pause := wait
			switch {
			case errors.Is(err, errLeft):
				return
			case ctx.Err() != nil:
				yield(faas.LogLine{}, logs.Ended(ctx, faas.Custom))
				return
			case code == faas.ErrNotFound:
				return
			case code == faas.ErrThrottled && errors.As(err, &throttled):
				pause = max(pause, min(throttled.RetryAfter, announcedTime))
			case err != nil && (code != faas.ErrUnavailable && code != faas.ErrTimeout || failed == againMost):
				yield(faas.LogLine{}, err)
				return
			case err != nil:
				failed++
			}
			wait = min(2*wait, againLongest)
			httputil.Sleep(ctx, pause)
		}
	}
}

// errLeft reports that the caller has left the loop.
var errLeft = errors.New("left")

// maxLogLine bounds a line, in bytes.
const maxLogLine = 1 << 20

// stream sends the request once and calls emit with each line of the answer.
func (t *tail) stream(ctx context.Context, r request, emit func(faas.LogLine) bool) error {
	e := t.e
	ctx, cancel := context.WithCancel(ctx) // a body that is left is not read to its end
	defer cancel()
	req, err := e.newRequest(ctx, r)
	if err != nil {
		return err
	}
	resp, err := e.http.Do(req)
	if err != nil {
		return e.transportError(ctx, r, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return e.transportError(ctx, r, err)
		}
		a := &answer{resp.StatusCode, resp.Header, body}
		if a.missing() {
			return e.notOffered(ctx, r, t.id, "show logs: it does not answer GET /api/functions/{id}/logs, an extension of "+
				"the protocol")
		}
		return e.statusError(r, a)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLogLine)
	for lines.Scan() {
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 { // the platform says that it is still there
			continue
		}
		var l logLine
		if err := json.Unmarshal(text, &l); err != nil {
			return e.errorf(faas.ErrInternal, r, "%s %s: the answer is not in the protocol's shape: %s", r.method,
				faas.RedactURL(r.url), e.clean.Excerpt(text))
		}
		if l.Cursor != "" {
			t.after = l.Cursor
		}
		line := faas.LogLine{
			Time: parseTime(l.Time), JobID: int64(t.job), FunctionID: t.id, Severity: severity(l.Severity),
			RequestID: e.clean.Line(l.RequestID, 200), System: l.System, Text: l.Text, Truncated: l.Truncated,
		}
		if line.System && !t.query.System && line.Severity != faas.SeverityWarning && line.Severity != faas.SeverityError &&
			line.Severity != faas.SeverityCritical {
			continue
		}
		if !emit(line) {
			return errLeft
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return e.errorf(faas.ErrTooLarge, r, "%s %s: a line of the answer is larger than %d bytes", r.method,
			faas.RedactURL(r.url), maxLogLine)
	} else if err != nil {
		return e.transportError(ctx, r, err)
	}
	return nil
}

// severity returns text if it is one of the severities, and otherwise "".
func severity(text string) string {
	if slices.Contains([]string{faas.SeverityDebug, faas.SeverityInfo, faas.SeverityWarning, faas.SeverityError,
		faas.SeverityCritical}, text) {
		return text
	}
	return ""
}
