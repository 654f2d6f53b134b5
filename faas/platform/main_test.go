//go:build unix

package platform

import (
	"archive/zip"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// With TEST_HOST, TEST_VICTIM or TEST_SERVER the test binary is a program that embeds a platform
// and will be killed.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_HOST") != "" {
		beHost()
		return
	}
	if name := os.Getenv("TEST_VICTIM"); name != "" {
		beVictim(name)
		return
	}
	if os.Getenv("TEST_SERVER") != "" {
		beServer()
		return
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// The jobs of testdata/job.
const (
	jobEcho = iota
	jobExit // with code 3
	jobHang
	jobEat
	jobFail
	jobKill
	jobFork
	jobPanic
	jobPID
	jobSlow
	jobEnv
	jobSoak
	jobBig // answers as many MiB as its argument says
	jobPrint
	jobCrash // by a panic that nobody can recover from
)

// aWhile is long enough for anything that should happen at once.
const aWhile = 30 * time.Second

type file struct {
	name string
	mode os.FileMode
	body string
}

func makeZip(t testing.TB, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate}
		h.SetMode(f.mode)
		w, err := zw.CreateHeader(h)
		if err == nil {
			_, err = io.WriteString(w, f.body)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func scriptZip(t testing.TB, script string) []byte {
	return makeZip(t, file{"bootstrap", 0o755, "#!/bin/sh\n" + script})
}

// jobBinary is testdata/job, built.
var jobBinary = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "platform-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", dir+"/job", "./testdata/job")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v\n%s", err, out))
	}
	body, err := os.ReadFile(dir + "/job")
	if err != nil {
		panic(err)
	}
	return body
})

// jobZip is testdata/job as a package.
var jobZip = sync.OnceValue(func() []byte { return zipBinary(jobBinary()) })

// zipBinary stores a bootstrap without compressing it.
func zipBinary(body []byte) []byte {
	var buf bytes.Buffer
	zw := zip.NewWriter(&buf)
	h := &zip.FileHeader{Name: "bootstrap", Method: zip.Store}
	h.SetMode(0o755)
	w, err := zw.CreateHeader(h)
	if err == nil {
		_, err = w.Write(body)
	}
	if err == nil {
		err = zw.Close()
	}
	if err != nil {
		panic(err)
	}
	return buf.Bytes()
}

var jobEnvironment = map[string]string{"COLOUR": "green"}

func configHeader(c map[string]any) string {
	text, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(text)
}

// server is a platform behind a real listener, with a client that sends raw requests.
type server struct {
	t   testing.TB
	p   *Platform
	url string
	c   *http.Client
}

func newServer(t testing.TB, opts ...Option) *server {
	t.Helper()
	p, err := New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	ts := httptest.NewServer(p)
	t.Cleanup(func() {
		ts.Close()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return &server{t, p, ts.URL, ts.Client()}
}

// answer is a decoded answer. body has the members of the JSON.
type answer struct {
	status int
	header http.Header
	body   map[string]any
}

func (s *server) do(method, path string, body []byte, header ...string) answer {
	s.t.Helper()
	req, err := http.NewRequest(method, s.url+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.c.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header}
	if method != http.MethodHead {
		if err := json.Unmarshal(text, &a.body); err != nil {
			s.t.Fatalf("%s %s: status %d, not a JSON object: %q", method, path, resp.StatusCode, text)
		}
		if ct := resp.Header.Get("Content-Type"); ct != "application/json" {
			s.t.Errorf("%s %s: content type %q", method, path, ct)
		}
	}
	return a
}

func (s *server) put(id string, pkg []byte, header ...string) answer {
	s.t.Helper()
	return s.do(http.MethodPut, "/api/functions/"+id, pkg,
		append([]string{"Content-Type", "application/zip"}, header...)...)
}

func (s *server) mustPut(id string, pkg []byte, header ...string) answer {
	s.t.Helper()
	a := s.put(id, pkg, header...)
	if a.status != http.StatusOK {
		s.t.Fatalf("PUT %s: %d %v", id, a.status, a.body)
	}
	return a
}

// putJobs deploys testdata/job.
func (s *server) putJobs(id string, config map[string]any, header ...string) answer {
	s.t.Helper()
	c := map[string]any{"memory_mb": 256, "timeout_secs": 120, "env_vars": jobEnvironment}
	for name, value := range config {
		c[name] = value
	}
	return s.mustPut(id, jobZip(), append([]string{"X-Blueprint-Config", configHeader(c)}, header...)...)
}

func (s *server) invoke(id string, job int, args string) answer {
	s.t.Helper()
	return s.do(http.MethodPost, "/api/functions/"+id+"/invoke", requestJSON(job, args), "Content-Type",
		"application/json")
}

func requestJSON(job int, args string) []byte {
	numbers := make([]int, len(args))
	for i := range args {
		numbers[i] = int(args[i])
	}
	text, _ := json.Marshal(map[string]any{"job_id": job, "args": numbers})
	return text
}

// result returns the output of an invocation.
func (a answer) result() string {
	list, _ := a.body["result"].([]any)
	b := make([]byte, len(list))
	for i, v := range list {
		n, _ := v.(float64)
		b[i] = byte(n)
	}
	return string(b)
}

func (s *server) mustInvoke(id string, job int, args string) string {
	s.t.Helper()
	a := s.invoke(id, job, args)
	if a.status != http.StatusOK || a.body["success"] != true {
		s.t.Fatalf("invoke %s job %d: %d %v", id, job, a.status, a.body)
	}
	return a.result()
}

func ended(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func gone(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(aWhile); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if ended(pid) {
			return
		}
	}
	t.Errorf("process %d still runs", pid)
}
