//go:build linux

package rietest

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/proctree"
)

// patience is the longest wait for a process.
const patience = 20 * time.Second

// emulator is the path of the program, which is built once for all tests.
var emulator string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "rietest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	emulator = filepath.Join(dir, "aws-lambda-rie")
	build := exec.Command("go", "build", "-o", emulator,
		"github.com/aws/aws-lambda-runtime-interface-emulator/cmd/aws-lambda-rie")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the emulator: %v\n%s", err, text)
		return 1
	}
	return m.Run()
}

// sandbox is an execution environment of a function: the emulator and the runtime that it starts.
// It serves one invocation at a time, since a second one makes the emulator crash.
type sandbox struct {
	unit   faas.Unit
	url    string
	tmp    string // the function's own directory for files
	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	log    *os.File
}

// start starts a package with the settings of its function. It ends with the test.
func start(t *testing.T, u faas.Unit) *sandbox {
	t.Helper()
	dir := t.TempDir()
	unpack(t, u.Package, dir)
	f := u.Functions[0]
	s := &sandbox{unit: u, tmp: t.TempDir()}
	mark := proctree.New()
	env := mark.AddTo([]string{
		"PATH=" + os.Getenv("PATH"), "TMPDIR=" + s.tmp, "LAMBDA_TASK_ROOT=" + dir,
		"AWS_REGION=us-east-1", "AWS_LAMBDA_FUNCTION_NAME=" + u.ID,
		fmt.Sprint("AWS_LAMBDA_FUNCTION_TIMEOUT=", f.TimeoutSecs),
		fmt.Sprint("AWS_LAMBDA_FUNCTION_MEMORY_SIZE=", f.MemoryMB),
	})
	for name, value := range f.Env.Reveal() {
		env = append(env, name+"="+value)
	}
	var err error
	// Both write into a file, so that the emulator's report of an invocation is there before its
	// answer.
	s.log, err = os.OpenFile(filepath.Join(t.TempDir(), "log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.stop(t, syscall.SIGTERM)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := mark.Kill(ctx); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log of %s:\n%s", u.ID, s.since(t, 0))
		}
		s.log.Close()
	})
	for range 3 { // another program may take the port first
		if s.listens(t, dir, env) {
			return s
		}
	}
	t.Fatalf("the emulator does not start: %s", s.since(t, 0))
	return nil
}

// listens starts the emulator and reports whether it accepts connections.
func (s *sandbox) listens(t *testing.T, dir string, env []string) bool {
	t.Helper()
	address, api := freeAddress(t), freeAddress(t) // the emulator would tell the runtime of a port 0
	s.url = "http://" + address + "/2015-03-31/functions/function/invocations"
	s.cmd = exec.Command(emulator, "--runtime-interface-emulator-address", address, "--runtime-api-address", api,
		filepath.Join(dir, "bootstrap"))
	s.cmd.Dir, s.cmd.Env, s.cmd.Stdout, s.cmd.Stderr = dir, env, s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.exited = make(chan struct{})
	go func() {
		_ = s.cmd.Wait()
		close(s.exited)
	}()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return true
		}
		select {
		case <-s.exited:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	s.stop(t, syscall.SIGKILL)
	return false
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// stop makes the emulator end, which ends the runtime.
func (s *sandbox) stop(t *testing.T, signal syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(signal)
	select {
	case <-s.exited:
	case <-time.After(patience):
		t.Error("the emulator does not end")
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
}

// size returns the length of the log so far.
func (s *sandbox) size(t testing.TB) int64 {
	info, err := s.log.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// since returns the log from an offset on.
func (s *sandbox) since(t testing.TB, offset int64) string {
	text, err := io.ReadAll(io.NewSectionReader(s.log, offset, 1<<30))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// reply is the emulator's answer, and what the emulator and the function wrote meanwhile.
type reply struct {
	status int
	body   []byte
	log    string
}

// invoke sends one event.
func (s *sandbox) invoke(t testing.TB, ctx context.Context, event []byte) (reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.size(t)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(event))
	if err != nil {
		return reply{}, err
	}
	resp, err := direct.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return reply{}, err
	}
	return reply{resp.StatusCode, body, s.since(t, before)}, nil
}

// direct uses no connection twice, so that none outlives an emulator.
var direct = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}

// front stands between a client and the fake of Lambda's control plane. It has the emulator run
// every invocation, and adds to an answer what the emulator omits: whether it is an error, and the
// end of the log.
type front struct {
	t         *testing.T
	base      http.RoundTripper
	mu        sync.Mutex
	sandboxes map[string]*sandbox // by function
}

var invocation = regexp.MustCompile(`^/2015-03-31/functions/([^/]+)/invocations$`)

// serve makes a sandbox serve a function's invocations from now on.
func (f *front) serve(function string, s *sandbox) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sandboxes[function] = s
}

func (f *front) RoundTrip(r *http.Request) (*http.Response, error) {
	match := invocation.FindStringSubmatch(r.URL.Path)
	if match == nil {
		return f.base.RoundTrip(r)
	}
	f.mu.Lock()
	s := f.sandboxes[match[1]]
	f.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("no emulator serves function %s", match[1])
	}
	event, err := io.ReadAll(r.Body)
	if err := errors.Join(err, r.Body.Close()); err != nil {
		return nil, err
	}
	got, err := s.invoke(f.t, r.Context(), event)
	if err != nil {
		return nil, err
	}
	tail := base64.StdEncoding.EncodeToString([]byte(got.log[max(0, len(got.log)-4<<10):]))
	header := http.Header{"Content-Type": {"application/json"}, "X-Amz-Log-Result": {tail}}
	if got.failed() {
		header.Set("X-Amz-Function-Error", "Unhandled")
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: header, Body: io.NopCloser(bytes.NewReader(got.body)), ContentLength: int64(len(got.body)),
	}, nil
}

// failed reports whether Lambda would call the reply a function error. The emulator answers 200 to
// a handler's error, 502 to a runtime that ended, and a line of text to one that took too long.
func (r reply) failed() bool {
	var told struct {
		Type string `json:"errorType"`
	}
	return r.status != http.StatusOK || bytes.HasPrefix(r.body, []byte("Task timed out after ")) ||
		json.Unmarshal(r.body, &told) == nil && told.Type != ""
}

func unpack(t *testing.T, pkg *faas.Package, dir string) {
	t.Helper()
	r, err := zip.OpenReader(pkg.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, f := range r.File {
		in, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(in)
		if err := errors.Join(err, in.Close(), os.WriteFile(filepath.Join(dir, f.Name), text, f.Mode().Perm())); err != nil {
			t.Fatal(err)
		}
	}
}

// files returns the names of the files in the function's directory.
func (s *sandbox) files(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(s.tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
