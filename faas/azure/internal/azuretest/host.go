package azuretest

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// host is the Functions host of an app. It runs the package.
type host struct {
	store *Store
	// report returns the writers for the output of the process.
	report func(settings map[string]string) (stdout, stderr io.Writer)

	mu       sync.Mutex
	dir      string // of the package
	config   *hostConfig
	binding  map[string]functionConfig
	problems []string
	process  *process
}

type hostConfig struct {
	Version         string
	FunctionTimeout string
	CustomHandler   struct {
		Description                 struct{ DefaultExecutablePath string }
		EnableForwardingHTTPRequest bool `json:"enableForwardingHttpRequest"`
	}
	Extensions struct {
		HTTP struct{ RoutePrefix *string }
	}
}

type functionConfig struct {
	Bindings []struct {
		Type, Direction, Name, AuthLevel, Route string
		Methods                                 []string
	}
}

// request is what the front end knows about a request.
type request struct {
	authorized bool
	settings   map[string]string
	frontEnd   time.Duration
}

// install replaces the package.
func (h *host) install(text []byte) error {
	p, err := h.store.unpack(text)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stop()
	h.dir, h.config, h.binding, h.problems = p.dir, &p.config, p.functions, nil
	return nil
}

// Store holds unpacked packages by their hash. Stand-ins share it, because unpacking takes time.
type Store struct {
	dir string

	mu       sync.Mutex
	packages map[[sha256.Size]byte]*unpacked
}

// NewStore returns a store below a directory. The caller removes the directory.
func NewStore(dir string) *Store {
	return &Store{dir: dir, packages: map[[sha256.Size]byte]*unpacked{}}
}

type unpacked struct {
	dir       string
	config    hostConfig
	functions map[string]functionConfig
}

func (s *Store) unpack(text []byte) (*unpacked, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := sha256.Sum256(text)
	if p := s.packages[sum]; p != nil {
		return p, nil
	}
	archive, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		return nil, err
	}
	p := &unpacked{dir: filepath.Join(s.dir, fmt.Sprint(len(s.packages))), functions: map[string]functionConfig{}}
	for _, f := range archive.File {
		if !filepath.IsLocal(f.Name) {
			return nil, fmt.Errorf("%s is outside of the package", f.Name)
		}
		content, err := unpack(filepath.Join(p.dir, f.Name), f)
		if err != nil {
			return nil, err
		}
		folder, name, nested := strings.Cut(f.Name, "/")
		switch {
		case f.Name == "host.json":
			err = json.Unmarshal(content, &p.config)
		case nested && name == "function.json":
			var function functionConfig
			err = json.Unmarshal(content, &function)
			p.functions[folder] = function
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	if p.config.Version != "2.0" {
		return nil, errors.New("there is no host.json of version 2.0")
	}
	s.packages[sum] = p
	return p, nil
}

func unpack(path string, f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	// A process that starts meanwhile would have the file open for writing for a moment, and nobody
	// could execute it.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return content, os.WriteFile(path, content, f.Mode().Perm())
}

func (h *host) functions() map[string]functionConfig {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.binding
}

func (h *host) status() (string, []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.problems) > 0 {
		return "Error", h.problems
	}
	return "Running", nil
}

func (h *host) restart() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stop()
}

// stop ends the process. The caller holds the lock.
func (h *host) stop() {
	if h.process != nil {
		h.process.kill()
		h.process = nil
	}
}

// remove ends the process and removes the package.
func (h *host) remove() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stop()
	h.config, h.binding = nil, nil
}

// find returns the function of a path.
func (h *host) find(path, method string) (name string, open bool, ok bool) {
	prefix := "api"
	if h.config.Extensions.HTTP.RoutePrefix != nil {
		prefix = *h.config.Extensions.HTTP.RoutePrefix
	}
	for name, f := range h.binding {
		for _, b := range f.Bindings {
			if b.Type != "httpTrigger" {
				continue
			}
			route := b.Route
			if route == "" {
				route = name
			}
			if !strings.EqualFold(path, strings.TrimPrefix("/"+prefix+"/"+route, "//")) {
				continue
			}
			for _, m := range b.Methods {
				if strings.EqualFold(m, method) {
					return name, b.AuthLevel == "anonymous", true
				}
			}
		}
	}
	return "", false, false
}

func (h *host) serve(w http.ResponseWriter, r *http.Request, q request) {
	h.mu.Lock()
	if h.config == nil {
		h.mu.Unlock()
		http.Error(w, "Function host is not running.", http.StatusServiceUnavailable)
		return
	}
	_, open, found := h.find(r.URL.Path, r.Method)
	timeout := parseTimeout(h.config.FunctionTimeout)
	forwards := h.config.CustomHandler.EnableForwardingHTTPRequest
	h.mu.Unlock()
	switch {
	case !found:
		w.WriteHeader(http.StatusNotFound)
		return
	case !open && !q.authorized:
		w.WriteHeader(http.StatusUnauthorized)
		return
	case !forwards:
		http.Error(w, "this stand-in only forwards requests", http.StatusInternalServerError)
		return
	}
	p, err := h.running(r.Context(), q.settings)
	if err != nil {
		http.Error(w, "Function host is not running.", http.StatusServiceUnavailable)
		return
	}
	limit, late := timeout, http.StatusInternalServerError
	if q.frontEnd < limit {
		limit, late = q.frontEnd, http.StatusGatewayTimeout
	}
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	proxy := &httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(p.url)
			pr.Out.Header.Set("X-Azure-Functions-InvocationId", invocation())
		},
		Transport: p.transport, ErrorLog: quiet,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			if ctx.Err() != nil && r.Context().Err() == nil {
				if late == http.StatusInternalServerError {
					h.drop(p) // the host ends a handler whose function took too long
				}
				w.WriteHeader(late)
				return
			}
			// The handler ended, and the host says no more. Wait for its end, so that the next call starts
			// another handler: it would fail at a process that has closed its connections and is not reaped
			// yet.
			if ctx.Err() == nil {
				select {
				case <-p.ended:
				case <-ctx.Done():
				case <-time.After(time.Second): // it only closed the connection
				}
			}
			w.WriteHeader(http.StatusInternalServerError)
		},
	}
	proxy.ServeHTTP(w, r.WithContext(ctx))
}

func parseTimeout(text string) time.Duration {
	var hours, minutes, seconds int
	if n, _ := fmt.Sscanf(text, "%d:%d:%d", &hours, &minutes, &seconds); n != 3 {
		return 30 * time.Minute
	}
	return time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute + time.Duration(seconds)*time.Second
}

// drop ends a process if it is still the current one.
func (h *host) drop(p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.process == p {
		h.stop()
	}
}

// running returns the process, and starts it if none runs.
func (h *host) running(ctx context.Context, settings map[string]string) (*process, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.config == nil {
		return nil, errNoHandler
	}
	if h.process != nil && h.process.alive() {
		return h.process, nil
	}
	h.stop()
	p, err := start(ctx, h.dir, h.config.CustomHandler.Description.DefaultExecutablePath, settings, h.report)
	if err != nil {
		h.problems = []string{"Failed to start Custom handler: " + err.Error()}
		return nil, err
	}
	h.process, h.problems = p, nil
	return p, nil
}

// process is a running custom handler.
type process struct {
	cmd       *exec.Cmd
	url       *url.URL
	transport *http.Transport
	ended     chan struct{}
}

// start starts a custom handler and waits until it answers.
func start(ctx context.Context, dir, executable string, settings map[string]string,
	report func(map[string]string) (stdout, stderr io.Writer)) (*process, error) {
	path := filepath.Join(dir, executable)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !isExecutable(info.Mode()) {
		return nil, fmt.Errorf("%s: permission denied", executable)
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = report(settings)
	cmd.Env = []string{"FUNCTIONS_CUSTOMHANDLER_PORT=" + port, "PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	for name, value := range settings {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{
		cmd: cmd, url: &url.URL{Scheme: "http", Host: "127.0.0.1:" + port},
		transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}, ended: make(chan struct{}),
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // that it ended is what matters
	}()
	for p.alive() {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url.String()+"/", nil)
		if err == nil {
			var resp *http.Response
			if resp, err = p.transport.RoundTrip(req); err == nil {
				resp.Body.Close()
				return p, nil
			}
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-p.ended:
		case <-ctx.Done():
			p.kill()
			return nil, err
		}
	}
	p.kill()
	return nil, errors.New("the process ended before it listened")
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
	p.transport.CloseIdleConnections()
}
