package azuretest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Application Insights: what apps report to it, and queries of the table "traces".

// InsightsAudience is the audience of tokens for queries.
const InsightsAudience = "https://api.applicationinsights.io"

const (
	insightsKey = "44444444-4444-4444-4444-444444444444"
	insightsApp = "55555555-5555-5555-5555-555555555555"
)

// Insights returns the connection string of the component that apps may report to.
func (s *Server) Insights() string {
	return "InstrumentationKey=" + insightsKey +
		";IngestionEndpoint=https://westeurope-5.in.applicationinsights.azure.com/" +
		";LiveEndpoint=https://westeurope.livediagnostics.monitor.azure.com/;ApplicationId=" + insightsApp
}

// trace is a row of the table.
type trace struct {
	at                                      time.Time
	role, message, category, invocation, id string
	level                                   int
}

// insights is the component. It has its own lock, because processes write while they are stopped.
type insights struct {
	mu     sync.Mutex
	traces []trace
	serial int
}

// Trace adds a row of an app, with a category such as "Function.job0" and a severity level from 0
// to 4.
func (s *Server) Trace(app, category, message string, level int) {
	s.insights.mu.Lock()
	defer s.insights.mu.Unlock()
	s.insights.serial++
	at := time.Now().UTC().Truncate(100 * time.Nanosecond)
	s.insights.traces = append(s.insights.traces,
		trace{at: at, role: app, message: message, category: category, id: fmt.Sprintf("item-%06d", s.insights.serial),
			level: level})
}

// console takes the output of an app's process as the host does: error output is an error, or a
// warning if it says so.
type console struct {
	add   func(message string, level int)
	level int
	mu    sync.Mutex
	b     []byte
}

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.b = append(c.b, p...)
	for {
		i := bytes.IndexByte(c.b, '\n')
		if i < 0 {
			return len(p), nil
		}
		level, message := c.level, string(c.b[:i])
		if level == 3 && strings.Contains(strings.ToLower(message), "warn") {
			level = 2
		}
		c.add(message, level)
		c.b = c.b[i+1:]
	}
}

// report returns the writers for the output of an app's process. They write to Application Insights
// if the settings name it.
func (s *Server) report(app string, settings map[string]string) (stdout, stderr io.Writer) {
	if settings["APPLICATIONINSIGHTS_CONNECTION_STRING"] != s.Insights() {
		return io.Discard, io.Discard
	}
	add := func(message string, level int) { s.Trace(app, "Host.Function.Console", message, level) }
	return &console{add: add, level: 1}, &console{add: add, level: 3}
}

// queryInsights answers POST /v1/apps/{id}/query.
func (s *Server) queryInsights(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	authorized := r.Header.Get("Authorization") == "Bearer "+s.insightsToken
	s.mu.Unlock()
	if !authorized {
		refuse(w, http.StatusUnauthorized, "InvalidTokenError", "The provided authentication is not valid for this resource")
		return
	}
	if s.fault(w, r) {
		return
	}
	var in struct{ Query, Timespan string }
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil || r.Method != http.MethodPost ||
		r.Header.Get("Content-Type") != "application/json" {
		s.problem("%s %s with content type %q: %v", r.Method, r.URL.Path, r.Header.Get("Content-Type"), err)
		refuse(w, http.StatusBadRequest, "BadArgumentError", "The request had some invalid properties")
		return
	}
	if r.URL.Path != "/v1/apps/"+insightsApp+"/query" {
		refuse(w, http.StatusNotFound, "PathNotFoundError", "The requested path does not exist")
		return
	}
	s.insights.mu.Lock()
	rows := slices.Clone(s.insights.traces)
	s.insights.mu.Unlock()
	rows, columns, err := runQuery(in.Query, rows)
	if err != nil {
		s.problem("query %q: %v", in.Query, err)
		refuse(w, http.StatusBadRequest, "BadArgumentError", err.Error())
		return
	}
	type column struct {
		Name string `json:"name"`
		Type string `json:"type"`
	}
	table := map[string]any{"name": "PrimaryResult"}
	var named []column
	for _, c := range columns {
		kind := "string"
		switch c {
		case "timestamp":
			kind = "datetime"
		case "severityLevel":
			kind = "int"
		}
		named = append(named, column{c, kind})
	}
	values := [][]any{}
	for _, t := range rows {
		all := map[string]any{
			"timestamp": t.at.Format("2006-01-02T15:04:05.9999999Z"), "message": t.message, "severityLevel": t.level,
			"category": t.category, "function": functionOf(t.category),
			"invocation": t.invocation, "itemId": t.id,
		}
		var row []any
		for _, c := range columns {
			row = append(row, all[c])
		}
		values = append(values, row)
	}
	table["columns"], table["rows"] = named, values
	answer(w, http.StatusOK, map[string]any{"tables": []any{table}})
}

func functionOf(category string) string {
	if m := regexp.MustCompile(`^Function\.([^.]+)`).FindStringSubmatch(category); m != nil {
		return m[1]
	}
	return ""
}

// The known stages of a query. A query with any other stage is refused, like one that Kusto cannot
// read.
var (
	timeStage     = regexp.MustCompile(`^where timestamp (>=|<) datetime\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z)\)$`)
	roleStage     = regexp.MustCompile(`^where cloud_RoleName =~ '([^']+)'$`)
	functionStage = regexp.MustCompile(`^where isempty\(function\) or function in \(('[a-z0-9]+'(?:, '[a-z0-9]+')*)\)$`)
	projectStage  = regexp.MustCompile(`^project ([A-Za-z]+(?:, [A-Za-z]+)*)$`)
	topStage      = regexp.MustCompile(`^top (\d+) by timestamp (asc|desc)$`)
	plainStages   = map[string]func(trace) bool{
		"extend category = tostring(customDimensions.Category), invocation = tostring(customDimensions.InvocationId)": nil,
		`extend function = extract(@'^Function\.([^.]+)', 1, category)`:                                               nil,
		"where category == 'Host.Function.Console' or category endswith '.User' or (isnotempty(function) and " +
			"severityLevel >= 3)": func(t trace) bool {
			return t.category == "Host.Function.Console" || strings.HasSuffix(t.category, ".User") ||
				functionOf(t.category) != "" && t.level >= 3
		},
	}
)

func runQuery(query string, rows []trace) (out []trace, columns []string, err error) {
	lines := strings.Split(strings.TrimSpace(query), "\n")
	if lines[0] != "traces" {
		return nil, nil, fmt.Errorf("the table %q is not known", lines[0])
	}
	keep := func(f func(trace) bool) { rows = slices.DeleteFunc(rows, func(t trace) bool { return !f(t) }) }
	for _, line := range lines[1:] {
		stage, ok := strings.CutPrefix(line, "| ")
		if !ok {
			return nil, nil, fmt.Errorf("a stage begins with %q", line)
		}
		if f, known := plainStages[stage]; known {
			if f != nil {
				keep(f)
			}
			continue
		}
		if m := timeStage.FindStringSubmatch(stage); m != nil {
			at, err := time.Parse(time.RFC3339Nano, m[2])
			if err != nil {
				return nil, nil, err
			}
			keep(func(t trace) bool { return t.at.Before(at) == (m[1] == "<") })
		} else if m := roleStage.FindStringSubmatch(stage); m != nil {
			keep(func(t trace) bool { return strings.EqualFold(t.role, m[1]) })
		} else if m := functionStage.FindStringSubmatch(stage); m != nil {
			names := strings.Split(m[1], ", ")
			keep(func(t trace) bool {
				name := functionOf(t.category)
				return name == "" || slices.Contains(names, "'"+name+"'")
			})
		} else if m := projectStage.FindStringSubmatch(stage); m != nil {
			columns = strings.Split(m[1], ", ")
		} else if m := topStage.FindStringSubmatch(stage); m != nil {
			n, err := strconv.Atoi(m[1])
			if err != nil || n < 1 {
				return nil, nil, fmt.Errorf("top %s", m[1])
			}
			slices.SortStableFunc(rows, func(a, b trace) int {
				if m[2] == "desc" {
					a, b = b, a
				}
				return a.at.Compare(b.at)
			})
			rows = rows[:min(n, len(rows))]
		} else {
			return nil, nil, fmt.Errorf("syntax error at %q", stage)
		}
	}
	return rows, columns, nil
}
