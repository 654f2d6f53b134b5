package gcptest

import (
	"bytes"
	"encoding/json"
	"errors"
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

// logs is the content of Cloud Logging. It has a lock of its own, because processes write while
// they are being ended.
type logs struct {
	mu      sync.Mutex
	entries []entry
	pages   map[string]logPage
	serial  int
}

// entry is a LogEntry.
type entry struct {
	doc map[string]any
	at  time.Time
}

// Log adds an entry to a Cloud Run service's log, such as "run.googleapis.com%2Fvarlog%2Fsystem".
// more holds further members of the entry.
func (s *Server) Log(project, location, service, log string, more map[string]any) {
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	s.logs.serial++
	at := time.Now().UTC()
	doc := map[string]any{
		"logName": "projects/" + project + "/logs/" + log, "insertId": fmt.Sprintf("%x", s.logs.serial),
		"timestamp":        at.Format(time.RFC3339Nano),
		"receiveTimestamp": at.Add(time.Millisecond).Format(time.RFC3339Nano),
		"labels":           map[string]any{"instanceId": "0069c7a98835"},
		"resource": map[string]any{"type": "cloud_run_revision", "labels": map[string]any{
			"project_id": project, "location": location, "service_name": service, "configuration_name": service,
			"revision_name": service + "-00001-abc",
		}},
	}
	for name, value := range more {
		doc[name] = value
	}
	s.logs.entries = append(s.logs.entries, entry{doc, at})
}

// output returns a writer for the output of a service's process. Each line becomes an entry.
func (s *Server) output(name, log string) *lineWriter {
	part := strings.Split(name, "/")
	return &lineWriter{add: func(text string) {
		s.Log(part[1], part[3], part[5], log, map[string]any{"textPayload": text})
	}}
}

// lineWriter calls add with whole lines.
type lineWriter struct {
	add func(text string)
	mu  sync.Mutex
	b   []byte
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b = append(w.b, p...)
	for {
		i := bytes.IndexByte(w.b, '\n')
		if i < 0 {
			return len(p), nil
		}
		w.add(string(w.b[:i]))
		w.b = w.b[i+1:]
	}
}

// listEntries answers entries:list. If LogPage is set, a page has at most that many entries, and
// the first is empty, as the API allows.
func (s *Server) listEntries(w http.ResponseWriter, r *http.Request) {
	var in struct {
		ResourceNames []string `json:"resourceNames"`
		Filter        string   `json:"filter"`
		OrderBy       string   `json:"orderBy"`
		PageSize      int      `json:"pageSize"`
		PageToken     string   `json:"pageToken"`
	}
	body, _ := io.ReadAll(r.Body)
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	err := dec.Decode(&in)
	token := in.PageToken
	in.PageToken = ""
	same, _ := json.Marshal(in)
	switch {
	case r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"):
		err = fmt.Errorf("%s with content type %q", r.Method, r.Header.Get("Content-Type"))
	case err != nil:
	case len(in.ResourceNames) == 0 || len(in.ResourceNames) > 100:
		err = errors.New("resource_names is required")
	case !slices.Contains([]string{"", "timestamp asc", "timestamp desc"}, in.OrderBy):
		err = fmt.Errorf("order_by %q", in.OrderBy)
	case in.PageSize < 0 || in.PageSize > 1000:
		err = fmt.Errorf("page_size %d", in.PageSize)
	case len(in.Filter) > 20_000:
		err = errors.New("the filter is too long")
	}
	var matches func(map[string]any) bool
	if err == nil {
		matches, err = parseFilter(in.Filter)
	}
	s.logs.mu.Lock()
	defer s.logs.mu.Unlock()
	first, known := 0, true
	if token != "" {
		var page logPage
		page, known = s.logs.pages[token]
		first = page.first
		known = known && page.request == string(same)
	}
	if err == nil && !known {
		err = errors.New("page_token is not of this list")
	}
	if err != nil {
		fail(w, 400, "INVALID_ARGUMENT", err.Error())
		return
	}
	var found []map[string]any
	all := slices.Clone(s.logs.entries)
	slices.SortStableFunc(all, func(a, b entry) int { return a.at.Compare(b.at) })
	if in.OrderBy == "timestamp desc" {
		slices.Reverse(all)
	}
	for _, e := range all {
		project, _, _ := strings.Cut(e.doc["logName"].(string), "/logs/")
		if slices.Contains(in.ResourceNames, project) && matches(e.doc) {
			found = append(found, e.doc)
		}
	}
	size := in.PageSize
	if size == 0 {
		size = 50
	}
	page := map[string]any{}
	switch {
	case s.LogPage > 0 && token == "":
		size = 0
	case s.LogPage > 0:
		size = min(size, s.LogPage)
	}
	end := min(first+size, len(found))
	if first < end {
		page["entries"] = found[first:end]
	}
	if end < len(found) {
		s.logs.serial++
		next := "page-" + strconv.Itoa(s.logs.serial)
		s.logs.pages[next] = logPage{string(same), end}
		page["nextPageToken"] = next
	}
	reply(w, page)
}

// logPage is where a page begins, and to which request it belongs.
type logPage struct {
	request string
	first   int
}

var severityOrder = []string{"DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"}

// filterTokens matches the tokens of the query language that the fake knows.
var filterTokens = regexp.MustCompile(`^\s*(\(|\)|>=|<=|>|<|=|"(?:[^"\\]|\\.)*"|[A-Za-z_][A-Za-z_.]*)`)

// parseFilter reads a filter of comparisons, AND, OR and parentheses. In this language OR binds
// tighter than AND, which readers do not expect. Therefore parseFilter refuses filters that mix
// both without parentheses.
func parseFilter(text string) (func(map[string]any) bool, error) {
	p := &filterParser{}
	for strings.TrimSpace(text) != "" {
		m := filterTokens.FindStringSubmatch(text)
		if m == nil {
			return nil, fmt.Errorf("unparseable filter: at %.30q", text)
		}
		p.tokens = append(p.tokens, m[1])
		text = text[len(m[0]):]
	}
	if len(p.tokens) == 0 {
		return func(map[string]any) bool { return true }, nil
	}
	f := p.expression()
	if p.err == nil && len(p.tokens) > 0 {
		p.fail("unexpected %q", p.tokens[0])
	}
	return f, p.err
}

type filterParser struct {
	tokens []string
	err    error
}

type matcher = func(map[string]any) bool

func (p *filterParser) fail(format string, args ...any) matcher {
	if p.err == nil {
		p.err = fmt.Errorf("unparseable filter: "+format, args...)
	}
	p.tokens = nil
	return nil
}

func (p *filterParser) peek() string {
	if len(p.tokens) == 0 {
		return ""
	}
	return p.tokens[0]
}

func (p *filterParser) next() string {
	t := p.peek()
	p.tokens = p.tokens[min(1, len(p.tokens)):]
	return t
}

func (p *filterParser) expression() matcher {
	terms := []matcher{p.term()}
	operator := ""
	for p.peek() == "AND" || p.peek() == "OR" {
		if t := p.next(); operator != "" && t != operator {
			return p.fail("AND and OR without parentheses")
		} else {
			operator = t
		}
		terms = append(terms, p.term())
	}
	return func(doc map[string]any) bool {
		for _, t := range terms {
			if t(doc) == (operator == "OR") {
				return operator == "OR"
			}
		}
		return operator != "OR"
	}
}

func (p *filterParser) term() matcher {
	field := p.next()
	if field == "(" {
		f := p.expression()
		if p.next() != ")" {
			return p.fail("a parenthesis is not closed")
		}
		return f
	}
	operator := p.next()
	if !regexp.MustCompile(`^[a-zA-Z_.]+$`).MatchString(field) ||
		!slices.Contains([]string{"=", ">=", "<=", ">", "<"}, operator) {
		return p.fail("%q %q is no comparison", field, operator)
	}
	var values []string
	if p.peek() == "(" {
		p.next()
		values = append(values, p.value())
		for p.peek() == "OR" {
			p.next()
			values = append(values, p.value())
		}
		if p.next() != ")" {
			return p.fail("a list of values is not closed")
		}
	} else {
		values = append(values, p.value())
	}
	return func(doc map[string]any) bool {
		return slices.ContainsFunc(values, func(v string) bool { return compareField(doc, field, operator, v) })
	}
}

func (p *filterParser) value() string {
	t := p.next()
	if plain, err := strconv.Unquote(t); err == nil {
		return plain
	}
	if !slices.Contains(severityOrder, t) {
		p.fail("%q is no value", t)
	}
	return t
}

func compareField(doc map[string]any, field, operator, value string) bool {
	has := str(doc, field)
	order := strings.Compare(has, value)
	switch field {
	case "timestamp":
		a, err := time.Parse(time.RFC3339Nano, has)
		b, err2 := time.Parse(time.RFC3339Nano, value)
		if err != nil || err2 != nil {
			return false
		}
		order = a.Compare(b)
	case "severity":
		order = max(slices.Index(severityOrder, has), 0) - slices.Index(severityOrder, value)
	}
	switch operator {
	case "=":
		return order == 0
	case ">=":
		return order >= 0
	case "<=":
		return order <= 0
	case ">":
		return order > 0
	}
	return order < 0
}
