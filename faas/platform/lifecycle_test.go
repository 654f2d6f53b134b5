//go:build unix

package platform

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

func TestFunctionsComeBackAfterARestart(t *testing.T) {
	dir := t.TempDir()
	first := newServer(t, WithDir(dir))
	first.putJobs("jobs", nil, "X-Blueprint-Fingerprint", "abc", "X-Blueprint-Service", "my%20service")
	first.mustPut("script", scriptZip(t, doubler))
	first.mustPut("deleted", scriptZip(t, "true"))
	first.do("DELETE", "/api/functions/deleted", nil)
	before := first.do("GET", "/api/functions/jobs", nil).body
	if _, err := New(WithDir(dir)); faas.CodeOf(err) != faas.ErrConflict {
		t.Errorf("a second platform in the directory: %v", err)
	}
	if err := first.p.Close(); err != nil {
		t.Fatal(err)
	}

	second := newServer(t, WithDir(dir))
	after := second.do("GET", "/api/functions/jobs", nil).body
	delete(before, "endpoint")
	delete(after, "endpoint")
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("before\n%v\nafter\n%v", before, after)
	}
	if after["service"] != "my service" || after["config_fingerprint"] != "abc" {
		t.Error(after)
	}
	if got := second.mustInvoke("jobs", jobEcho, "hello"); got != "hello" {
		t.Error(got)
	}
	if got := second.mustInvoke("script", 0, "ab"); got != "aabb" {
		t.Error(got)
	}
	if a := second.do("GET", "/api/functions/deleted", nil); a.status != 404 {
		t.Error(a)
	}
}

// After a crash the directory has the old function, never half of a new one.
func TestLeftoversOfACrashAreRemoved(t *testing.T) {
	dir := t.TempDir()
	first := newServer(t, WithDir(dir))
	first.mustPut("f", scriptZip(t, doubler))
	if err := first.p.Close(); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{"functions/x.123.tmp": `{"id":`, "uploads/1.zip": "PK",
		"uploads/unpack-1/bootstrap": "half", "packages/abc/bootstrap": "unused"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(body), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	second := newServer(t, WithDir(dir))
	if got := second.mustInvoke("f", 0, "a"); got != "aa" {
		t.Error(got)
	}
	for _, name := range []string{"functions", "packages", "uploads"} {
		entries, _ := os.ReadDir(filepath.Join(dir, name))
		if want := map[string]int{"functions": 1, "packages": 1, "uploads": 0}[name]; len(entries) != want {
			t.Errorf("%s has %v", name, entries)
		}
	}
}

func TestADamagedFunctionIsUnhealthyAndCanBeReplaced(t *testing.T) {
	dir := t.TempDir()
	first := newServer(t, WithDir(dir))
	first.mustPut("f", scriptZip(t, doubler))
	if err := first.p.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "packages", "*", "bootstrap"))
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	second := newServer(t, WithDir(dir))
	if a := second.invoke("f", 0, ""); a.status != 503 {
		t.Error(a)
	}
	if a := second.do("GET", "/api/functions/f/health", nil); a.status != 503 || a.body["status"] != "unhealthy" {
		t.Error(a)
	}
	second.mustPut("f", scriptZip(t, doubler+"\n"), "X-Blueprint-If-Exists", "replace")
	if got := second.mustInvoke("f", 0, "a"); got != "aa" {
		t.Error(got)
	}
}

func TestReplaceDropsNoCall(t *testing.T) {
	s := newServer(t)
	version := func(n int) []byte {
		return []byte(configHeader(map[string]any{"memory_mb": 256,
			"env_vars": map[string]string{"VERSION": strconv.Itoa(n)}}))
	}
	put := func(n int) {
		s.mustPut("f", jobZip(), "X-Blueprint-Config", string(version(n)), "X-Blueprint-If-Exists", "replace")
	}
	put(0)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := s.p.Invoke(context.Background(), "f", jobEcho, []byte("x")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Go(func() {
		if _, err := s.p.Invoke(context.Background(), "f", jobSlow, nil); err != nil {
			t.Error(err)
		}
	})
	for n := range 3 {
		put(n + 1)
		if env := s.mustInvoke("f", jobEnv, ""); !strings.Contains(env, fmt.Sprintf("VERSION=%d", n+1)) {
			t.Errorf("after the PUT of version %d the old one answers", n+1)
		}
	}
	close(stop)
	wg.Wait()
	if a := s.put("f", jobZip(), "X-Blueprint-If-Exists", "replace", "X-Blueprint-Service", "other"); a.status != 409 ||
		a.body["code"] != "CONFLICT" {
		t.Errorf("replacing another service's function: %d %v", a.status, a.body)
	}
}

func TestAReplacementThatDoesNotStartLeavesTheOld(t *testing.T) {
	s := newServer(t)
	s.putJobs("f", nil)
	a := s.put("f", jobZip(), "X-Blueprint-If-Exists", "replace", "X-Blueprint-Config",
		configHeader(map[string]any{"env_vars": map[string]string{"SILENT": "yes"}}))
	if a.status != 500 || a.body["code"] != "FUNCTION_FAILED" {
		t.Errorf("%d %v", a.status, a.body)
	}
	if got := s.mustInvoke("f", jobEcho, "old"); got != "old" {
		t.Error(got)
	}
}

func TestConcurrentChangesOfOneFunction(t *testing.T) {
	s := newServer(t)
	zips := [][]byte{scriptZip(t, doubler), scriptZip(t, doubler+"\n# 2")}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 5 {
				switch i % 4 {
				case 0, 1:
					// A function that is deleted during its PUT stays deleted.
					if a := s.put("f", zips[i%2], "X-Blueprint-If-Exists", "replace"); a.status != 200 &&
						a.body["code"] != "CONFLICT" {
						t.Errorf("PUT: %d %v", a.status, a.body)
					}
				case 2:
					if a := s.do("DELETE", "/api/functions/f", nil); a.status != 200 && a.status != 404 {
						t.Errorf("DELETE: %d %v", a.status, a.body)
					}
				default:
					if a := s.invoke("f", 0, "a"); a.status != 404 && a.result() != "aa" {
						t.Errorf("invoke: %d %v", a.status, a.body)
					}
				}
			}
		})
	}
	wg.Wait()
	s.do("DELETE", "/api/functions/f", nil)
	for deadline := time.Now().Add(aWhile); ; time.Sleep(time.Millisecond) { // what was replaced ends in its own time
		entries, _ := os.ReadDir(filepath.Join(s.p.Dir(), "packages"))
		if len(entries) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("packages left: %v", entries)
		}
	}
}

// A client that gives up a PUT and deletes the function must not find it later, whether the PUT is
// still arriving at the deletion or arrives only afterwards.
func TestALateCreatingPUTDoesNotBringBackWhatWasDeleted(t *testing.T) {
	s := newServer(t)
	text := scriptZip(t, doubler)
	send, status := s.slowPUT("f", text)
	if a := s.do("DELETE", "/api/functions/f", nil); a.status != 404 {
		t.Errorf("%d %v", a.status, a.body)
	}
	send()
	if got := <-status; got != 409 {
		t.Errorf("the PUT that was being received: %d", got)
	}
	get := s.do("GET", "/api/functions/f", nil)
	details, _ := get.body["details"].(map[string]any)
	revision, _ := details["revision"].(string)
	if get.status != 404 || revision == "" {
		t.Fatalf("%d %v", get.status, get.body)
	}
	s.mustPut("g", text, "X-Blueprint-If-Revision",
		s.do("GET", "/api/functions/g", nil).body["details"].(map[string]any)["revision"].(string))
	s.do("DELETE", "/api/functions/f", nil)
	if a := s.put("f", text, "X-Blueprint-If-Revision", revision); a.status != 409 || a.body["code"] != "CONFLICT" {
		t.Errorf("the PUT that arrived after the DELETE: %d %v", a.status, a.body)
	}
	if a := s.do("GET", "/api/functions/f", nil); a.status != 404 {
		t.Errorf("%d %v", a.status, a.body)
	}
	for i := range maxDeletions { // however many follow, what was deleted is not taken for what never was
		s.p.deleted.add(strconv.Itoa(i))
	}
	if a := s.put("f", text, "X-Blueprint-If-Revision", revision); a.status != 409 {
		t.Errorf("after many deletions: %d %v", a.status, a.body)
	}
	s.mustPut("f", text) // who does not ask gets no such promise
	if a := s.do("DELETE", "/api/functions/f", nil, "X-Blueprint-Service", "other"); a.status != 409 {
		t.Errorf("DELETE for another service: %d %v", a.status, a.body)
	}
}

// slowPUT begins a PUT, and returns when the platform receives it. send sends the rest.
func (s *server) slowPUT(id string, text []byte, header ...string) (send func(), status <-chan int) {
	s.t.Helper()
	body, w := io.Pipe()
	req, err := http.NewRequest(http.MethodPut, s.url+"/api/functions/"+id, body)
	if err != nil {
		s.t.Fatal(err)
	}
	for ; len(header) > 0; header = header[2:] {
		req.Header.Set(header[0], header[1])
	}
	answered := make(chan int, 1)
	go func() {
		resp, err := s.c.Do(req)
		if err != nil {
			s.t.Error(err)
			answered <- 0
			return
		}
		resp.Body.Close()
		answered <- resp.StatusCode
	}()
	_, _ = w.Write(text[:1])
	for deadline := time.Now().Add(aWhile); ; time.Sleep(time.Millisecond) {
		uploads, _ := filepath.Glob(filepath.Join(s.p.Dir(), "uploads", "*.zip"))
		if len(uploads) > 0 {
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatal("the upload does not begin")
		}
	}
	return func() {
		_, _ = w.Write(text[1:])
		_ = w.Close()
	}, answered
}

// A function does not find the files of an earlier function of its id.
func TestNoFunctionFindsFilesOfAnEarlierOne(t *testing.T) {
	s := newServer(t)
	pkg := scriptZip(t, `ls -A "$HOME" >&2; touch "$HOME/secret"
		ls -A "$TMPDIR" | grep -q secret && echo '{"result":[1]}'`)
	look := func() string {
		s.mustInvoke("f", 0, "")
		lines, err := logLines(s.p, "f")
		if err != nil {
			t.Fatal(err)
		}
		if len(lines) == 0 {
			return ""
		}
		return lines[len(lines)-1].Text
	}
	s.mustPut("f", pkg, "X-Blueprint-Service", "a")
	if look(); look() != "secret" {
		t.Error("a function does not keep its own files")
	}
	s.do("DELETE", "/api/functions/f", nil)
	s.mustPut("f", pkg, "X-Blueprint-Service", "b")
	if got := look(); got != "" {
		t.Errorf("the function of another service finds %q", got)
	}
	s.mustPut("f", scriptZip(t, doubler), "X-Blueprint-If-Exists", "replace", "X-Blueprint-Service", "b")
	s.do("DELETE", "/api/functions/f", nil)
	for deadline := time.Now().Add(aWhile); ; time.Sleep(time.Millisecond) { // replaced functions end in their own time
		left, _ := filepath.Glob(filepath.Join(s.p.Dir(), "work", "*"))
		if len(left) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("left: %v", left)
		}
	}
}

func TestCloseLeavesNothing(t *testing.T) {
	s := newServer(t)
	s.putJobs("f", nil)
	pid, _ := strconv.Atoi(s.mustInvoke("f", jobPID, ""))
	child, _ := strconv.Atoi(s.mustInvoke("f", jobFork, ""))
	dir := s.p.Dir()
	if err := s.p.Close(); err != nil {
		t.Fatal(err)
	}
	gone(t, pid)
	gone(t, child)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("the temporary directory is still there")
	}
	if a := s.invoke("f", jobEcho, ""); a.status != 503 {
		t.Errorf("invoke after Close: %d %v", a.status, a.body)
	}
	if a := s.put("g", scriptZip(t, "true")); a.status != 503 {
		t.Errorf("PUT after Close: %d %v", a.status, a.body)
	}
}

// beHost embeds a platform, prints the ids of a worker and of a process that the worker started,
// and hangs.
func beHost() {
	opts := []Option{WithDir(os.Getenv("TEST_HOST"))}
	if os.Getenv("TEST_HOST_WITHOUT_CGROUPS") != "" {
		opts = append(opts, WithoutCgroups())
	}
	p, err := New(opts...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, job := range []uint32{jobPID, jobFork} {
		r, err := p.Invoke(context.Background(), "f", job, nil)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(string(r.Output))
	}
	go func() { _, _ = p.Invoke(context.Background(), "script", 0, nil) }()
	for {
		if pid, err := os.ReadFile(filepath.Join(os.Getenv("TEST_HOST"), "pid")); err == nil && len(pid) > 1 {
			fmt.Print(string(pid))
			break
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(time.Hour)
}

func TestNoProcessOutlivesAKilledHost(t *testing.T) {
	dir := t.TempDir()
	s := newServer(t, WithDir(dir))
	s.putJobs("f", nil)
	s.mustPut("script", scriptZip(t, "sleep 1000 & echo $! >"+dir+"/pid; wait"))
	if err := s.p.Close(); err != nil {
		t.Fatal(err)
	}
	exe, _ := os.Executable()
	host := exec.Command(exe)
	host.Env = append(os.Environ(), "TEST_HOST="+dir)
	host.Stderr = os.Stderr
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for sc := bufio.NewScanner(out); len(pids) < 3 && sc.Scan(); {
		pid, err := strconv.Atoi(sc.Text())
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	_ = host.Process.Kill()
	_ = host.Wait()
	if len(pids) != 3 {
		t.Fatalf("the host said %v", pids)
	}
	for _, pid := range pids {
		gone(t, pid)
	}
}

func TestOnlyLoopbackWithoutAToken(t *testing.T) {
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.IsLoopback() || n.IP.To4() == nil {
			continue
		}
		p, err := New()
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		l, err := net.Listen("tcp", net.JoinHostPort(n.IP.String(), "0"))
		if err != nil {
			continue
		}
		srv := p.Server()
		go func() { _ = srv.Serve(l) }()
		defer srv.Close()
		resp, err := http.Get("http://" + l.Addr().String() + "/api/functions")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 401 {
			t.Errorf("status %d", resp.StatusCode)
		}
		http.DefaultClient.CloseIdleConnections()
		return
	}
	t.Skip("this machine has no address but loopback")
}

func TestAProcessHasToStartInTime(t *testing.T) {
	s := newServer(t, WithStartTimeout(time.Nanosecond))
	if a := s.put("f", jobZip()); a.status/100 != 5 {
		t.Errorf("%d %v", a.status, a.body)
	}
}

func TestAnIdleProcessMakesRoomForAnother(t *testing.T) {
	s := newServer(t, WithMaxProcesses(1))
	s.putJobs("a", nil)
	first := s.mustInvoke("a", jobPID, "")
	s.putJobs("b", nil)
	s.mustInvoke("b", jobPID, "")
	if again := s.mustInvoke("a", jobPID, ""); again == first {
		t.Error("the idle process was not ended when another function needed one")
	}
}
