//go:build unix

package platform

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// printer prints a line for every call and answers.
const printer = `read -r request; echo "got $request" >&2; echo '{"result":[1]}'`

// logTexts reads a log over HTTP.
func (s *server) logTexts(path string) (texts []string, last logLine) {
	s.t.Helper()
	resp, err := s.c.Get(s.url + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		s.t.Fatalf("%s: %s %s", path, resp.Status, resp.Header)
	}
	for lines := json.NewDecoder(resp.Body); ; {
		var l logLine
		if err := lines.Decode(&l); errors.Is(err, io.EOF) {
			return texts, last
		} else if err != nil {
			s.t.Fatal(err)
		}
		texts, last = append(texts, l.Text), l
	}
}

func TestLogsAreLinesOfJSON(t *testing.T) {
	s := newServer(t)
	s.mustPut("f", scriptZip(t, printer))
	get := func(query string) ([]string, logLine) {
		t.Helper()
		return s.logTexts("/api/functions/f/logs?" + query)
	}
	if texts, _ := get(""); len(texts) != 0 {
		t.Errorf("before the first call: %v", texts)
	}
	s.mustInvoke("f", 0, "1")
	first, line := get("")
	if len(first) != 1 || !strings.HasPrefix(first[0], `got {"job_id":0`) || line.Cursor == "" || line.Time.IsZero() ||
		line.PID == 0 || line.Stream != "stderr" {
		t.Errorf("%q %+v", first, line)
	}
	s.mustInvoke("f", 1, "")
	s.mustInvoke("f", 2, "")
	all, _ := get("")
	for query, want := range map[string][]string{
		"limit=2": all[1:], "limit=0": all, "after=" + url.QueryEscape(string(line.Cursor)): all[1:], "after=other-1": all,
		"until=" + url.QueryEscape(line.Time.Format("2006-01-02T15:04:05.999999999Z07:00")): nil,
		"since=2100-01-01T00:00:00Z": nil, "since=2000-01-01T00:00:00%2B02:00&limit=1": all[2:],
	} {
		if got, _ := get(query); !cmp.Equal(got, want) {
			t.Errorf("?%s: %q, want %q", query, got, want)
		}
	}
	for _, query := range []string{"limit=-1", "limit=x", "since=yesterday", "until=1", "follow=perhaps",
		"follow=true&until=2100-01-01T00:00:00Z", "since=2100-01-01T00:00:00Z&until=2000-01-01T00:00:00Z"} {
		if a := s.do("GET", "/api/functions/f/logs?"+query, nil); a.status != http.StatusBadRequest {
			t.Errorf("?%s: %d %v", query, a.status, a.body)
		}
	}
	for path, want := range map[string]int{"POST /api/functions/f/logs": 405, "GET /api/functions/g/logs": 404,
		"GET /api/functions/f/logs/x": 404, "HEAD /api/functions/f/logs": 200} {
		method, path, _ := strings.Cut(path, " ")
		if a := s.do(method, path, nil); a.status != want {
			t.Errorf("%s %s: %d %v", method, path, a.status, a.body)
		}
	}
	if a := s.do("GET", "/api/functions/f/logs", nil, "X-Blueprint-Service", "another"); a.status != http.StatusConflict {
		t.Errorf("for another service: %d %v", a.status, a.body)
	}
}

// follow opens a log and returns a function that returns its next line, or "" at the end.
func (s *server) follow(ctx context.Context, t testing.TB, path string) func() string {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	lines := bufio.NewScanner(resp.Body)
	return func() string {
		for lines.Scan() {
			var l logLine
			if json.Unmarshal(lines.Bytes(), &l) == nil {
				return l.Text
			}
		}
		return ""
	}
}

func TestLogsAreFollowedOverHTTPUntilTheFunctionIsGone(t *testing.T) {
	s := newServer(t)
	s.mustPut("f", scriptZip(t, printer))
	s.mustInvoke("f", 0, "")
	next := s.follow(t.Context(), t, "/api/functions/f/logs?follow=true&limit=1")
	if text := next(); !strings.Contains(text, `"job_id":0`) {
		t.Errorf("%q", text)
	}
	s.mustInvoke("f", 1, "")
	if text := next(); !strings.Contains(text, `"job_id":1`) {
		t.Errorf("%q", text)
	}
	s.mustPut("f", scriptZip(t, "echo replaced >&2; echo '{\"result\":[1]}'"), "X-Blueprint-If-Exists", "replace")
	s.mustInvoke("f", 1, "")
	if text := next(); text != "replaced" {
		t.Errorf("after a replacement: %q", text)
	}
	s.do("DELETE", "/api/functions/f", nil)
	if text := next(); text != "" {
		t.Errorf("after its deletion: %q", text)
	}
}

func TestClosingThePlatformEndsWhoFollows(t *testing.T) {
	s := newServer(t)
	s.mustPut("f", scriptZip(t, printer))
	next := s.follow(t.Context(), t, "/api/functions/f/logs?follow=1")
	if err := s.p.Close(); err != nil {
		t.Error(err)
	}
	if text := next(); text != "" {
		t.Errorf("%q", text)
	}
}
