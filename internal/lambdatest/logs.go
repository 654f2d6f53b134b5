package lambdatest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// logEvent is an event of CloudWatch Logs. Times are milliseconds since 1970.
type logEvent struct {
	EventID       string `json:"eventId"`
	IngestionTime int64  `json:"ingestionTime"`
	LogStreamName string `json:"logStreamName"`
	Message       string `json:"message"`
	Timestamp     int64  `json:"timestamp"`
}

// logs holds the log groups of the functions.
type logs struct {
	mu     sync.Mutex
	groups map[string][]logEvent
	count  int
	pages  map[string]logPage // by the token that leads there
}

// logPage is where a page of an answer begins, and to which request it belongs.
type logPage struct {
	request string
	first   int
}

// add adds lines to a stream of a function's log group.
func (l *logs) add(function, stream, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	group := "/aws/lambda/" + function
	for line := range strings.Lines(text) {
		l.count++
		now := time.Now().UnixMilli()
		l.groups[group] = append(l.groups[group], logEvent{fmt.Sprintf("%056d", l.count), now + 1, stream, line, now})
	}
}

// remove removes a log group.
func (l *logs) remove(group string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.groups, group)
}

// lineWriter adds whole lines to a log as they are written.
type lineWriter struct {
	add func(text string)
	mu  sync.Mutex
	b   []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b = append(w.b, p...)
	if i := bytes.LastIndexByte(w.b, '\n'); i >= 0 {
		w.add(string(w.b[:i+1]))
		w.b = append(w.b[:0], w.b[i+1:]...)
	}
	return len(p), nil
}

var groupPattern = regexp.MustCompile(`^[.\-_/#A-Za-z0-9]{1,512}$`)

// filterLogEvents is the part of a FilterLogEvents request that the fake understands.
type filterLogEvents struct {
	LogGroupName *string `json:"logGroupName"`
	StartTime    *int64  `json:"startTime"`
	EndTime      *int64  `json:"endTime"`
	NextToken    *string `json:"nextToken"`
	Limit        *int    `json:"limit"`
}

// serveLogs answers a call of CloudWatch Logs.
func (s *Server) serveLogs(w http.ResponseWriter, operation string, body []byte) {
	switch operation {
	case "FilterLogEvents":
		s.filterLogEvents(w, body)
	case "DeleteLogGroup":
		var in struct{ LogGroupName string }
		if err := json.Unmarshal(body, &in); err != nil {
			failf(400, "SerializationException", "%v", err).write(w, "logs")
			return
		}
		s.mu.Lock()
		exists := s.logGroups[in.LogGroupName]
		delete(s.logGroups, in.LogGroupName)
		s.mu.Unlock()
		if !exists {
			failf(400, "ResourceNotFoundException", "The specified log group does not exist.").write(w, "logs")
			return
		}
		s.logs.remove(in.LogGroupName)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	default:
		failf(400, "UnknownOperationException", "%s is not known here", operation).write(w, "logs")
	}
}

// filterLogEvents answers FilterLogEvents. A page has at most a megabyte or 10,000 events, or fewer
// if Config.LogPage says so. The first page may be empty, as in CloudWatch.
func (s *Server) filterLogEvents(w http.ResponseWriter, body []byte) {
	bad := func(format string, args ...any) {
		failf(http.StatusBadRequest, "InvalidParameterException", format, args...).write(w, "logs")
	}
	var in filterLogEvents
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		failf(http.StatusBadRequest, "SerializationException", "%v", err).write(w, "logs")
		return
	}
	limit := 10_000
	if in.Limit != nil {
		limit = *in.Limit
	}
	switch {
	case in.LogGroupName == nil || !groupPattern.MatchString(*in.LogGroupName):
		bad("Value at 'logGroupName' failed to satisfy constraint")
		return
	case limit < 1 || limit > 10_000:
		bad("Value '%d' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000", limit)
		return
	case in.StartTime != nil && *in.StartTime < 0 || in.EndTime != nil && *in.EndTime < 0:
		bad("a time is negative")
		return
	case in.StartTime != nil && in.EndTime != nil && *in.StartTime > *in.EndTime:
		bad("startTime is after endTime")
		return
	}
	s.mu.Lock()
	exists := s.logGroups[*in.LogGroupName]
	s.mu.Unlock()
	if !exists {
		failf(http.StatusBadRequest, "ResourceNotFoundException", "The specified log group does not exist.").write(w, "logs")
		return
	}
	token := in.NextToken
	in.NextToken = nil
	request, err := json.Marshal(in)
	if err != nil {
		bad("%v", err)
		return
	}
	if s.config.LogPage > 0 {
		limit = min(limit, s.config.LogPage)
	}
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	at := logPage{request: string(request)}
	if token != nil {
		known, ok := s.logs.pages[*token]
		if !ok || known.request != at.request {
			bad("The specified nextToken is invalid.")
			return
		}
		at = known
	}
	var found []logEvent
	for _, e := range s.logs.groups[*in.LogGroupName] {
		if (in.StartTime == nil || e.Timestamp >= *in.StartTime) && (in.EndTime == nil || e.Timestamp <= *in.EndTime) {
			found = append(found, e)
		}
	}
	slices.SortStableFunc(found, func(a, b logEvent) int { return int(a.Timestamp - b.Timestamp) })
	out := struct {
		Events             []logEvent `json:"events"`
		NextToken          string     `json:"nextToken,omitempty"`
		SearchedLogStreams []any      `json:"searchedLogStreams"`
	}{[]logEvent{}, "", []any{}}
	switch {
	case token == nil && s.config.LogPage > 0: // the first is empty
	case at.first < len(found):
		out.Events = found[at.first:min(at.first+limit, len(found))]
	}
	next := logPage{at.request, at.first + len(out.Events)}
	if next.first < len(found) {
		out.NextToken = newID()
		s.logs.pages[out.NextToken] = next
	}
	writeJSON(w, out)
}
