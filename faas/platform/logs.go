package platform

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/internal/kit"
	"github.com/tangle-network/blueprint-serverless/internal/logs"
)

// Logs returns the last lines that the functions' processes wrote to standard error, those of
// earlier generations included: at most 1,000 lines and 64 KiB of each function. They start anew
// with the platform. See [faas.LogReader].
func (e *Executor) Logs(ctx context.Context, q faas.LogQuery) iter.Seq2[faas.LogLine, error] {
	if err := q.Check(providerName); err != nil {
		return logs.Fail(err)
	}
	return func(yield func(faas.LogLine, error) bool) {
		sources := make([]logs.Source, len(q.JobIDs))
		for i, jobID := range q.JobIDs {
			f, err := e.own("logs", kit.ProtocolNames.Of(e.service, jobID))
			if err != nil {
				yield(faas.LogLine{}, forJob(err, jobID))
				return
			}
			sources[i] = logs.Source{Ring: &f.log.ring, JobID: int64(jobID), FunctionID: f.ID}
		}
		logs.Logs(ctx, providerName, q, sources...)(yield)
	}
}

// logLine is a line in the answer to GET .../logs.
type logLine struct {
	// Cursor names the place after the line, for ?after=.
	Cursor    logs.Cursor `json:"cursor"`
	Time      time.Time   `json:"time"`
	PID       int         `json:"pid,omitempty"`
	Stream    string      `json:"stream,omitempty"`
	Severity  string      `json:"severity,omitempty"`
	System    bool        `json:"system,omitempty"`
	Text      string      `json:"text"`
	Truncated bool        `json:"truncated,omitempty"`
}

func newLogLine(e logs.Kept) logLine {
	if e.Missed > 0 {
		return logLine{Cursor: e.Cursor, Time: e.Time, Severity: faas.SeverityWarning, System: true,
			Text: logs.MissedText(e.Missed)}
	}
	line := logLine{Cursor: e.Cursor, Time: e.Time, PID: e.PID, Stream: "stderr", Text: e.Text, Truncated: e.Truncated}
	if e.System {
		line.Stream, line.Severity, line.System = "", faas.SeverityError, true
	}
	return line
}

// stillThere is how often a follower of a silent log is sent an empty line, so that a broken
// connection is noticed.
const stillThere = 15 * time.Second

// serveLogs answers with a line of JSON for each line of the log.
func (p *Platform) serveLogs(w http.ResponseWriter, r *http.Request, id string) {
	q, err := logQuery(r)
	if err != nil {
		writeErrorOf(w, id, err)
		return
	}
	service, err := serviceHeader(r)
	if err != nil {
		writeErrorOf(w, id, err)
		return
	}
	f, err := p.lookup("logs", id)
	if err == nil && service != "" && f.Service != service {
		err = notRunError(faas.ErrConflict, "logs", "function %q belongs to another service", id)
	}
	if err != nil {
		writeErrorOf(w, id, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/x-ndjson")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // proxies that collect answers would hold lines back
	if r.Method == http.MethodHead {
		return
	}
	control := http.NewResponseController(w)
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	// A client that does not take what it asked for must not keep the connection. One that waits for
	// lines may.
	deadline := func() { _ = control.SetWriteDeadline(time.Now().Add(p.opts.limits.RequestTimeout)) }
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer p.onStop(r, cancel)()
	for after := logs.Cursor(r.URL.Query().Get("after")); ; {
		deadline()
		waiting, cancel := context.WithTimeout(ctx, stillThere)
		err := f.log.ring.Read(waiting, after, q, func() bool { return control.Flush() == nil }, func(e logs.Kept) bool {
			after, q.Limit = e.Cursor, 0
			deadline()
			return out.Encode(newLogLine(e)) == nil
		})
		idle := err != nil && ctx.Err() == nil
		cancel()
		if !idle { // all there is was sent, the client is gone, or the function
			if control.Flush() == nil {
				_ = control.SetWriteDeadline(time.Time{}) // the next answer on the connection has its own
			}
			return
		}
		q.Limit = 0
		deadline()
		if _, err := w.Write([]byte("\n")); err != nil {
			return
		}
	}
}

// logQuery parses since, until (RFC 3339), limit and follow.
func logQuery(r *http.Request) (q faas.LogQuery, err error) {
	bad := func(name, want string) (faas.LogQuery, error) {
		return q, notRunError(faas.ErrInvalidArgument, "logs", "query parameter %s=%.60q is not %s", name,
			r.URL.Query().Get(name), want)
	}
	values := r.URL.Query()
	for name, into := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if text := values.Get(name); text != "" {
			if *into, err = time.Parse(time.RFC3339Nano, text); err != nil {
				return bad(name, "a time such as 2026-01-02T15:04:05Z")
			}
		}
	}
	if text := values.Get("limit"); text != "" {
		if q.Limit, err = strconv.Atoi(text); err != nil || q.Limit < 0 {
			return bad("limit", "a number of lines, or 0 for all")
		}
	}
	switch text := values.Get("follow"); strings.ToLower(text) {
	case "", "0", "false":
	case "1", "true":
		q.Follow = true
	default:
		return bad("follow", "true or false")
	}
	q.JobIDs = []uint32{0} // the function is told by the path
	return q, q.Check(providerName)
}
