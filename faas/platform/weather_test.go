//go:build unix

package platform

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// texts returns what the log of a function has, each line with its severity if the platform says it.
func (s *server) texts(id string) (list []string) {
	s.t.Helper()
	resp, err := s.c.Get(s.url + "/api/functions/" + id + "/logs")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		var l logLine
		if json.Unmarshal(lines.Bytes(), &l) == nil && l.Text != "" {
			if l.System {
				l.Text = l.Severity + ": " + l.Text
			}
			list = append(list, l.Text)
		}
	}
	return list
}

func (s *server) awaitText(id, want string) {
	s.t.Helper()
	for deadline := time.Now().Add(aWhile); ; time.Sleep(time.Millisecond) {
		texts := s.texts(id)
		for _, text := range texts {
			if strings.Contains(text, want) {
				return
			}
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s has %q and no %q", id, texts, want)
		}
	}
}

// How processes end badly is in the log of their function, and not only told to who called.
func TestEndsOfProcessesAreInTheLog(t *testing.T) {
	s := newServer(t)
	s.putJobs("jobs", map[string]any{"memory_mb": 128})
	s.putJobs("short", map[string]any{"timeout_secs": 1})
	s.mustPut("exits", scriptZip(t, "echo cannot go on >&2; exit 7"))
	s.mustPut("hangs", scriptZip(t, "exec sleep 1000"), "X-Blueprint-Config", configHeader(map[string]any{"timeout_secs": 1}))
	for _, tt := range []struct {
		id   string
		job  int
		want string
	}{
		{"jobs", jobExit, "ERROR: the process exited before it answered (exit code 3)"},
		{"jobs", jobKill, "ERROR: the process was ended by signal: killed"},
		{"jobs", jobCrash, "ERROR: panic: no way on (exit code 2)"},
		{"exits", 0, "ERROR: the process exited before it answered (exit code 7)"},
		{"hangs", 0, "ERROR: the job did not answer within its timeout of 1s and was stopped"},
		{"short", jobHang, "ERROR: the process was killed: a call did not end when its time was over"},
	} {
		s.invoke(tt.id, tt.job, "")
		s.awaitText(tt.id, tt.want)
	}
	if runtime.GOOS == "linux" {
		s.invoke("jobs", jobEat, "")
		s.awaitText("jobs", "ERROR: the process reached its limit of 128 MiB of memory and was killed")
	}
	if n := len(s.texts("exits")); n != 2 {
		t.Errorf("the log is %q", s.texts("exits"))
	}
}

// A line that a call did not end is its own, and not the beginning of what the next call writes.
func TestLinesEndWithTheirCall(t *testing.T) {
	s := newServer(t, WithMaxWorkers(1))
	s.putJobs("f", nil)
	var want []string
	for i := range 200 {
		text := fmt.Sprintf("call %d", i)
		want = append(want, text)
		s.mustInvoke("f", jobPrint, text)
	}
	s.awaitText("f", "call 199")
	if got := s.texts("f"); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got %q", got)
	}
	s.mustInvoke("f", jobPrint, strings.Repeat("x", 4096)+"y")
	s.mustInvoke("f", jobPrint, "after a long one")
	s.awaitText("f", "after a long one")
}

// rawGet sends what a client of HTTP/1.0 sends.
func (s *server) rawGet(request string) string {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, request); err != nil {
		s.t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

func TestTheProtocolToTheLetter(t *testing.T) {
	s := newServer(t)
	a := s.putJobs("f", nil)
	for _, path := range []string{"", "/health", "/logs", "/warm", "/restore"} {
		method := map[string]string{"/warm": "POST", "/restore": "POST"}[path]
		if method == "" {
			method = "GET"
		}
		if a := s.do(method, "/api/functions/none"+path, []byte(`{"package_sha256":"a","config_fingerprint":"b"}`)); a.status != 404 || a.body["function_id"] != "none" {
			t.Errorf("%s %s: %d %v", method, path, a.status, a.body)
		}
	}
	if a := s.do("DELETE", "/api/functions/none", nil); a.status != 404 || a.body["function_id"] != "none" {
		t.Errorf("DELETE: %d %v", a.status, a.body)
	}
	for _, d := range []map[string]any{a.body, s.do("GET", "/api/functions/f", nil).body} {
		ms, ok := d["cold_start_ms"].(float64)
		if !ok || ms != float64(uint64(ms)) || ms < 1 {
			t.Errorf("cold_start_ms %v", d["cold_start_ms"])
		}
	}
	for _, path := range []string{"/api/functions/f", "/api/functions/f/health", "/api/functions"} {
		if got := s.rawGet("GET " + path + " HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 200 OK") || strings.Contains(got, "http:///") {
			t.Errorf("%s: %s", path, got)
		}
	}
	if got := s.rawGet("GET /api/functions/f HTTP/1.0\r\nHost: evil.example\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 403 ") {
		t.Error(got)
	}
}

// What goes wrong on this machine's disk is told, and not where the platform keeps its files.
func TestClientsDoNotSeePathsOfThisMachine(t *testing.T) {
	s := newServer(t)
	s.mustPut("f", scriptZip(t, doubler))
	f, err := s.p.lookup("test", "f")
	if err != nil {
		t.Fatal(err)
	}
	pkg := s.p.store.packageDir(f.PackageSHA256)
	if err := os.Rename(pkg, pkg+"-moved"); err != nil {
		t.Fatal(err)
	}
	answers := []answer{s.invoke("f", 0, "a")}
	if err := os.RemoveAll(s.p.store.uploads()); err != nil {
		t.Fatal(err)
	}
	answers = append(answers, s.put("g", scriptZip(t, "true")))
	for _, a := range answers {
		text, err := json.Marshal(a.body)
		if err != nil || a.status < 500 || !strings.Contains(string(text), "no such file") || strings.Contains(string(text), s.p.Dir()) || strings.Contains(string(text), filepath.Dir(s.p.Dir())) {
			t.Errorf("%d %s %v", a.status, text, err)
		}
	}
	if err := os.Rename(pkg+"-moved", pkg); err != nil {
		t.Fatal(err)
	}
}

// Shutting the server down ends at once who follows a log, and uploads that are on their way, so that nothing waits for them.
func TestShutdownEndsWhatWouldTakeItsTime(t *testing.T) {
	p, err := New()
	if err != nil {
		t.Fatal(err)
	}
	l, err := p.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := p.Server()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	s := &server{t, p, "http://" + l.Addr().String(), &http.Client{Transport: &http.Transport{}}}
	s.mustPut("f", scriptZip(t, printer))
	next := s.follow(t.Context(), t, "/api/functions/f/logs?follow=1")
	s.mustInvoke("f", 3, "")
	if text := next(); !strings.Contains(text, `"job_id":3`) {
		t.Fatalf("%q", text)
	}
	body, upload := io.Pipe()
	uploaded := make(chan string, 1)
	go func() {
		req, err := http.NewRequest(http.MethodPut, s.url+"/api/functions/g", body)
		if err != nil {
			uploaded <- err.Error()
			return
		}
		resp, err := s.c.Do(req)
		if err != nil {
			uploaded <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		uploaded <- resp.Status + string(text)
	}()
	if _, err := upload.Write([]byte("PK")); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(aWhile); ; time.Sleep(time.Millisecond) {
		if arriving, err := os.ReadDir(p.store.uploads()); err == nil && len(arriving) > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the upload does not begin")
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), aWhile)
	defer cancel()
	err = srv.Shutdown(ctx)
	if serr := <-served; err != nil || !errors.Is(serr, http.ErrServerClosed) {
		t.Errorf("shutdown: %v, %v", err, serr)
	}
	if text := next(); text != "" {
		t.Errorf("%q", text)
	}
	_ = upload.Close()
	if text := <-uploaded; !strings.HasPrefix(text, "503 ") || !strings.Contains(text, "the platform is stopping") {
		t.Errorf("the upload got %s", text)
	}
	s.c.CloseIdleConnections()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestListenersThatWouldRefuseEverybodyAreRefused(t *testing.T) {
	for _, token := range []string{"", "secret"} {
		p, err := New(WithToken(token))
		if err != nil {
			t.Fatal(err)
		}
		for addr, open := range map[string]bool{"127.0.0.1:0": true, "localhost:0": true, ":0": token != "", "0.0.0.0:0": token != ""} {
			l, err := p.Listen(addr)
			if err == nil {
				_ = l.Close()
			}
			if (err == nil) != open || err != nil && (faas.CodeOf(err) != faas.ErrInvalidArgument || !strings.Contains(err.Error(), "WithToken")) {
				t.Errorf("token %q, %s: %v", token, addr, err)
			}
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}
