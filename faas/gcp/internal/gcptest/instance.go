package gcptest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// instance runs a function's program, from the first request until it ends or is stopped.
type instance struct {
	work    *workspace
	id      string
	env     map[string]any
	timeout time.Duration
	stdout  io.Writer // beside what a failure tells
	stderr  io.Writer

	mu      sync.Mutex
	process *process
	stopped bool
	calls   int  // that it serves
	retired bool // it is stopped once it serves none
}

// process is a running program.
type process struct {
	cmd    *exec.Cmd
	port   string
	exited chan struct{}
	stderr lockedBuffer
}

func (s *Server) newInstance(work *workspace, service string, env map[string]any, seconds float64) *instance {
	return &instance{
		work: work, id: service[strings.LastIndexByte(service, '/')+1:], env: env,
		timeout: time.Duration(seconds * float64(time.Second)),
		stdout:  s.output(service, "run.googleapis.com%2Fstdout"), stderr: s.output(service, "run.googleapis.com%2Fstderr"),
	}
}

func (i *instance) stop() {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.stopped = true
	i.end()
}

// retire stops an instance that another one has replaced. As on Cloud Run, it finishes the requests
// that it has begun.
func (i *instance) retire() {
	if i == nil {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.retired = true
	i.endIfRetired()
}

// enter counts a call, and leave ends it.
func (i *instance) enter() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls++
}

func (i *instance) leave() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.calls--
	i.endIfRetired()
}

// The caller of endIfRetired holds the lock.
func (i *instance) endIfRetired() {
	if i.retired && i.calls == 0 {
		i.stopped = true
		i.end()
	}
}

// end kills the process. The caller holds the lock.
func (i *instance) end() {
	if i.process != nil {
		_ = i.process.cmd.Process.Kill()
		<-i.process.exited
		i.process = nil
	}
}

// running returns a process that listens.
func (i *instance) running() (*process, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.stopped {
		return nil, errors.New("the revision is gone")
	}
	if i.process != nil {
		select {
		case <-i.process.exited:
			i.process = nil
		default:
			return i.process, nil
		}
	}
	var err error
	for range 3 { // another program may take the port first
		if i.process, err = i.start(); err == nil {
			return i.process, nil
		}
	}
	return nil, err
}

func (i *instance) start() (*process, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	p := &process{port: port, exited: make(chan struct{})}
	p.cmd = exec.Command(i.work.program)
	p.cmd.Dir = i.work.dir
	p.cmd.Env = []string{
		"PORT=" + port, "K_SERVICE=" + i.id, "K_REVISION=" + i.id + "-00001", "FUNCTION_TARGET=Job", "HOME=/tmp",
		fmt.Sprint("CLOUD_RUN_TIMEOUT_SECONDS=", i.timeout.Seconds()), "PATH=" + os.Getenv("PATH"),
	}
	for name, value := range i.env {
		p.cmd.Env = append(p.cmd.Env, fmt.Sprintf("%s=%v", name, value))
	}
	p.cmd.Stdout, p.cmd.Stderr = io.MultiWriter(&p.stderr, i.stdout), io.MultiWriter(&p.stderr, i.stderr)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	for {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
			return p, nil
		}
		select {
		case <-p.exited:
			return nil, fmt.Errorf("the container failed to start and listen on PORT: %s", p.stderr.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// freePort finds a port outside the range from which the system serves requests for any port.
func freePort() (string, error) {
	for {
		port := strconv.Itoa(20000 + rand.IntN(12000))
		l, err := net.Listen("tcp", ":"+port)
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return "", err
		}
		return port, l.Close()
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// forward is a client that never reuses a connection, so that none leads to a process that ended.
var forward = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// invoke forwards a request to an instance, as Google's front end does.
func (s *Server) invoke(w http.ResponseWriter, r *http.Request) {
	service, err := url.PathUnescape(strings.TrimPrefix(r.URL.EscapedPath(), "/fn/"))
	s.mu.Lock()
	d := s.fns[strings.Replace(service, "/services/", "/functions/", 1)]
	if d == nil {
		d = s.runs[service]
	}
	var i *instance
	if d != nil && d.instance != nil {
		i = d.instance
		i.enter() // under s.mu, so that it is not retired in between
		defer i.leave()
	}
	open := s.iam[service].has("roles/run.invoker", "allUsers")
	early := s.spread[service] > 0
	if early {
		s.spread[service]--
	}
	s.mu.Unlock()
	if err != nil || i == nil {
		http.Error(w, "<html><title>404 Page not found</title></html>", http.StatusNotFound)
		return
	}
	token := r.Header.Get("Authorization")
	switch {
	case early, s.RequireIDToken && !open && token == "":
		http.Error(w, "<html><title>403 Forbidden</title>Your client does not have permission to get URL / from this "+
			"server.</html>", http.StatusForbidden)
		return
	case token != "" && !validIDToken(r, s.functionURL(service)):
		w.Header().Set("WWW-Authenticate",
			`Bearer error="invalid_token" error_description="The access token could not be verified"`)
		http.Error(w, "<html><title>401 Unauthorized</title>Your client does not have permission to the requested "+
			"URL</html>", http.StatusUnauthorized)
		return
	}
	p, err := i.running()
	if err != nil {
		http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), i.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.Method, "http://127.0.0.1:"+p.port+"/", r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	req.Header, req.ContentLength = r.Header.Clone(), r.ContentLength
	resp, err := forward.Do(req)
	if err != nil && ctx.Err() != nil {
		http.Error(w, "upstream request timeout", http.StatusGatewayTimeout)
		return
	}
	if err != nil {
		http.Error(w, "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
			http.StatusServiceUnavailable)
		return
	}
	defer resp.Body.Close()
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body)
}
