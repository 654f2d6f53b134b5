package lambdatest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Model is the official model of Lambda's API, which every AWS CLI and botocore include.
type Model struct {
	Operations map[string]struct {
		HTTP struct {
			Method       string `json:"method"`
			RequestURI   string `json:"requestUri"`
			ResponseCode int    `json:"responseCode"`
		} `json:"http"`
		Input  *struct{ Shape string } `json:"input"`
		Output *struct{ Shape string } `json:"output"`
	} `json:"operations"`
	Shapes map[string]*shape `json:"shapes"`

	others map[string]*Model // of other services
	query  bool              // requests are forms, and answers are not checked
}

// of returns the model of a service, or nil if it is unknown.
func (m *Model) of(service string) *Model {
	if m == nil || service == "lambda" {
		return m
	}
	return m.others[service]
}

type shape struct {
	Type     string
	Required []string
	Members  map[string]*member
	Member   *member
	Key      *member
	Value    *member
	Enum     []string
	Pattern  string
	Min, Max *float64
	Payload  string
	pattern  *regexp.Regexp
}

type member struct {
	Shape        string
	Location     string
	LocationName string
}

// FindModel looks for Lambda's model, and those of the other services beside it, in the directories
// of Python's botocore and the AWS CLI. It returns nil if they are not installed.
func FindModel() (*Model, error) {
	dirs := botocore()
	m, err := findModel(dirs, "lambda/2015-03-31")
	if m == nil || err != nil {
		return nil, err
	}
	m.others = map[string]*Model{}
	for service, path := range map[string]string{
		"logs": "logs/2014-03-28", "servicequotas": "service-quotas/2019-06-24", "iam": "iam/2010-05-08",
		"sts": "sts/2011-06-15",
	} {
		other, err := findModel(dirs, path)
		if err != nil {
			return nil, err
		}
		if other != nil {
			other.query = service == "iam" || service == "sts"
			m.others[service] = other
		}
	}
	return m, nil
}

// botocore returns patterns of the directories in which botocore may be.
func botocore() []string {
	patterns := []string{
		"/usr/lib/python3/dist-packages/botocore", "/usr/lib/python3/dist-packages/awscli/botocore",
		"/usr/local/aws-cli/v2/current/dist/awscli/botocore",
		"/usr/local/lib/python3*/*-packages/botocore", "/usr/lib/python3*/site-packages/botocore",
		"/opt/homebrew/lib/python3*/site-packages/botocore",
	}
	if python, err := exec.LookPath("python3"); err == nil {
		const where = "import botocore, os; print(os.path.dirname(botocore.__file__))"
		if out, err := exec.Command(python, "-c", where).Output(); err == nil {
			patterns = append([]string{strings.TrimSpace(string(out))}, patterns...)
		}
	}
	return patterns
}

func findModel(dirs []string, path string) (*Model, error) {
	for _, dir := range dirs {
		for _, name := range []string{"service-2.json", "service-2.json.gz"} {
			found, err := filepath.Glob(filepath.Join(dir, "data", filepath.FromSlash(path), name))
			if err != nil {
				return nil, err
			}
			if len(found) > 0 {
				return ReadModel(found[len(found)-1])
			}
		}
	}
	return nil, nil
}

// codePoint matches a code point as the models write it, which Go's regular expressions do not
// accept.
var codePoint = regexp.MustCompile(`\\u([0-9A-Fa-f]{4})`)

// ReadModel reads a service-2.json, which may be compressed.
func ReadModel(path string) (*Model, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if data, err = io.ReadAll(z); err != nil {
			return nil, err
		}
	}
	m := &Model{}
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for _, s := range m.Shapes {
		if s.Pattern != "" {
			text := codePoint.ReplaceAllString(s.Pattern, `\x{$1}`)
			s.pattern, _ = regexp.Compile(`^(?:` + text + `)$`) // those with look-around are not checked
		}
	}
	return m, nil
}

// checkRequest checks a request against the shape of its operation's input: unknown and missing
// members, types, patterns and limits.
func (m *Model) checkRequest(operation string, r *http.Request, uri map[string]string, body []byte) error {
	op, ok := m.Operations[operation]
	if !ok {
		return fmt.Errorf("the model has no such operation")
	}
	if op.Input == nil {
		return nil
	}
	if m.query {
		return m.checkForm(operation, op.Input.Shape, body)
	}
	in := m.Shapes[op.Input.Shape]
	var fields map[string]json.RawMessage
	payload := in.Payload
	if payload == "" && len(body) > 0 {
		if err := json.Unmarshal(body, &fields); err != nil {
			return fmt.Errorf("the body is not a JSON object: %w", err)
		}
	}
	query := r.URL.Query()
	var problems []error
	seen := map[string]bool{}
	for name, mem := range in.Members {
		at := mem.LocationName
		if at == "" {
			at = name
		}
		var value string
		var given bool
		switch mem.Location {
		case "uri":
			value, given = uri[at]
		case "querystring":
			given, value = query.Has(at), query.Get(at)
			query.Del(at)
		case "header":
			given, value = len(r.Header.Values(at)) > 0, r.Header.Get(at)
		case "":
			if name == payload {
				seen[name] = len(body) > 0
				continue
			}
			raw, ok := fields[at]
			delete(fields, at)
			if ok {
				seen[name] = true
				problems = append(problems, m.checkValue(name, mem.Shape, raw))
			}
			continue
		}
		if given {
			seen[name] = true
			problems = append(problems, m.checkText(name, mem.Shape, value))
		}
	}
	for _, name := range in.Required {
		if !seen[name] {
			problems = append(problems, fmt.Errorf("member %s is missing", name))
		}
	}
	for name := range fields {
		problems = append(problems, fmt.Errorf("member %s is unknown", name))
	}
	for name := range query {
		problems = append(problems, fmt.Errorf("query parameter %s is unknown", name))
	}
	return errors.Join(problems...)
}

// checkForm checks a request that is a form.
func (m *Model) checkForm(operation, name string, body []byte) error {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return err
	}
	form.Del("Action")
	form.Del("Version")
	value, _ := m.unflatten(form, name, "")
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	for left := range form {
		return fmt.Errorf("parameter %s is unknown", left)
	}
	return m.checkValue(operation, name, raw)
}

// unflatten reads a value of a shape from a form, in which the names of its parts begin with
// prefix.
func (m *Model) unflatten(form url.Values, name, prefix string) (value any, found bool) {
	s := m.Shapes[name]
	switch s.Type {
	case "structure":
		fields := map[string]any{}
		for member, is := range s.Members {
			if v, ok := m.unflatten(form, is.Shape, prefix+member+"."); ok {
				fields[member] = v
			}
		}
		return fields, len(fields) > 0
	case "list":
		items := []any{}
		for {
			v, ok := m.unflatten(form, s.Member.Shape, prefix+"member."+strconv.Itoa(len(items)+1)+".")
			if !ok {
				return items, len(items) > 0
			}
			items = append(items, v)
		}
	}
	at := strings.TrimSuffix(prefix, ".")
	if !form.Has(at) {
		return nil, false
	}
	text := form.Get(at)
	form.Del(at)
	if s.Type != "string" && json.Valid([]byte(text)) { // a number or a boolean
		return json.RawMessage(text), true
	}
	return text, true
}

// commonErrors are the errors of every service, which the models omit.
var commonErrors = []string{"AccessDeniedException", "ValidationException", "SerializationException",
	"RequestEntityTooLargeException"}

// checkAnswer checks an answer of the fake itself.
func (m *Model) checkAnswer(operation string, w *httptest.ResponseRecorder) error {
	op := m.Operations[operation]
	if m.query {
		return nil
	}
	if w.Code >= 300 {
		code := w.Header().Get("X-Amzn-Errortype")
		if code == "" { // the JSON protocol has it in the body
			var body struct {
				Type string `json:"__type"`
			}
			_ = json.Unmarshal(w.Body.Bytes(), &body) // what it is not is found below
			code = body.Type
		}
		if m.Shapes[code] == nil && !slices.Contains(commonErrors, code) {
			return fmt.Errorf("the model has no error %q", code)
		}
		return nil
	}
	if op.Output == nil || m.Shapes[op.Output.Shape].Payload != "" || w.Body.Len() == 0 {
		return nil
	}
	return m.checkValue(op.Output.Shape, op.Output.Shape, w.Body.Bytes())
}

// checkText checks a value that is text on the wire: in the path, the query or a header.
func (m *Model) checkText(where, name, text string) error {
	switch m.Shapes[name].Type {
	case "string":
		quoted, err := json.Marshal(text)
		if err != nil {
			return err
		}
		return m.checkValue(where, name, quoted)
	case "integer", "long", "boolean":
		return m.checkValue(where, name, []byte(text))
	}
	return nil
}

func (m *Model) checkValue(where, name string, raw json.RawMessage) error {
	s := m.Shapes[name]
	if s == nil || string(raw) == "null" {
		return nil
	}
	wrong := func(err error) error {
		return fmt.Errorf("%s: %s is not of type %s: %w", where, clip(raw), s.Type, err)
	}
	switch s.Type {
	case "structure":
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(raw, &fields); err != nil {
			return wrong(err)
		}
		var problems []error
		for member, value := range fields {
			known := s.Members[member]
			if known == nil {
				problems = append(problems, fmt.Errorf("%s: member %s is unknown", where, member))
				continue
			}
			problems = append(problems, m.checkValue(where+"."+member, known.Shape, value))
		}
		for _, required := range s.Required {
			if _, ok := fields[required]; !ok {
				problems = append(problems, fmt.Errorf("%s: member %s is missing", where, required))
			}
		}
		return errors.Join(problems...)
	case "list":
		var items []json.RawMessage
		if err := json.Unmarshal(raw, &items); err != nil {
			return wrong(err)
		}
		problems := []error{s.within(where, float64(len(items)))}
		for _, item := range items {
			problems = append(problems, m.checkValue(where+"[]", s.Member.Shape, item))
		}
		return errors.Join(problems...)
	case "map":
		var items map[string]json.RawMessage
		if err := json.Unmarshal(raw, &items); err != nil {
			return wrong(err)
		}
		var problems []error
		for key, item := range items {
			problems = append(problems, m.checkText(where+" key", s.Key.Shape, key),
				m.checkValue(where+"["+key+"]", s.Value.Shape, item))
		}
		return errors.Join(problems...)
	case "string":
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			return wrong(err)
		}
		return s.checkString(where, text)
	case "blob":
		var data []byte
		if err := json.Unmarshal(raw, &data); err != nil {
			return wrong(err)
		}
	case "integer", "long":
		var n int64
		if err := json.Unmarshal(raw, &n); err != nil {
			return wrong(err)
		}
		return s.within(where, float64(n))
	case "float", "double":
		var n float64
		if err := json.Unmarshal(raw, &n); err != nil {
			return wrong(err)
		}
	case "boolean":
		var b bool
		if err := json.Unmarshal(raw, &b); err != nil {
			return wrong(err)
		}
	}
	return nil
}

func (s *shape) checkString(where, text string) error {
	if len(s.Enum) > 0 {
		for _, e := range s.Enum {
			if e == text {
				return nil
			}
		}
		return fmt.Errorf("%s: %q is none of %v", where, text, s.Enum)
	}
	if s.pattern != nil && !s.pattern.MatchString(text) {
		return fmt.Errorf("%s: %q does not match %s", where, text, s.Pattern)
	}
	return s.within(where, float64(utf8.RuneCountInString(text)))
}

func (s *shape) within(where string, n float64) error {
	switch {
	case s.Min != nil && n < *s.Min:
		return fmt.Errorf("%s: %g is less than %g", where, n, *s.Min)
	case s.Max != nil && n > *s.Max:
		return fmt.Errorf("%s: %g is more than %g", where, n, *s.Max)
	}
	return nil
}

func clip(raw []byte) string { return string(raw[:min(len(raw), 60)]) }
