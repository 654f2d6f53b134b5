package custom_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/custom"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

// fake is a platform of the plain protocol, to the letter. It has no extension unless it is given
// one, refuses a PUT on an existing function, reports times in whole seconds and other numbers as
// integers, and fails the test on a request that deviates from the protocol. It runs
// faastest.RunJob.
type fake struct {
	t        testing.TB
	extended bool // with the extensions
	noHealth bool // without the optional calls
	noWarm   bool

	mu        sync.Mutex
	functions map[string]*fakeFunction
	log       []string // method and path of every request
	// intercept may answer a request in the platform's place.
	intercept func(w http.ResponseWriter, r *http.Request) bool
}

type fakeFunction struct {
	config struct {
		MemoryMB       *uint32           `json:"memory_mb"`
		TimeoutSecs    *uint32           `json:"timeout_secs"`
		MaxConcurrency *uint32           `json:"max_concurrency"`
		EnvVars        map[string]string `json:"env_vars"`
	}
	sha256, fingerprint, service string
	size                         int
	deployedAt                   time.Time
	calls                        int
	last                         time.Time
}

func newFake(t testing.TB) *fake { return &fake{t: t, functions: map[string]*fakeFunction{}} }

// start serves the platform over HTTP on loopback.
func (p *fake) start(t testing.TB) *httptest.Server {
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	return server
}

// requests returns the requests since its last call.
func (p *fake) requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	log := p.log
	p.log = nil
	return log
}

func (p *fake) count(method string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, line := range p.log {
		if strings.HasPrefix(line, method+" ") {
			n++
		}
	}
	return n
}

func (p *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	p.log = append(p.log, r.Method+" "+r.URL.RequestURI())
	intercept := p.intercept
	p.mu.Unlock()
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key", "Transfer-Encoding"} {
		if r.Header.Get(name) != "" || len(r.TransferEncoding) > 0 {
			p.t.Errorf("%s %s: header %s", r.Method, r.URL.Path, name)
		}
	}
	if intercept != nil && intercept(w, r) {
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /api/functions/{id}", p.put)
	mux.HandleFunc("GET /api/functions/{id}", p.get)
	mux.HandleFunc("DELETE /api/functions/{id}", p.delete)
	mux.HandleFunc("POST /api/functions/{id}/invoke", p.invoke)
	if !p.noHealth {
		mux.HandleFunc("GET /api/functions/{id}/health", p.health)
	}
	if !p.noWarm {
		mux.HandleFunc("POST /api/functions/{id}/warm", p.warm)
	}
	if p.extended {
		mux.HandleFunc("GET /api/functions", p.list)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { refuse(w, http.StatusNotFound, "no such address") })
	mux.ServeHTTP(w, r)
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func refuse(w http.ResponseWriter, status int, format string, args ...any) {
	answer(w, status, map[string]any{"error": fmt.Sprintf(format, args...), "code": http.StatusText(status),
		"details": map[string]any{}})
}

func (p *fake) put(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	p.mu.Lock()
	old := p.functions[id]
	p.mu.Unlock()
	service, err := url.PathUnescape(r.Header.Get("X-Blueprint-Service"))
	if err != nil {
		p.t.Errorf("X-Blueprint-Service: %v", err)
	}
	if old != nil && (!p.extended || r.Header.Get("X-Blueprint-If-Exists") != "replace" || old.service != service) {
		answer(w, http.StatusConflict, map[string]any{"error": "function exists", "function_id": id})
		return
	}
	if got := r.Header.Get("Content-Type"); got != "application/zip" {
		p.t.Errorf("PUT: Content-Type is %q", got)
		refuse(w, http.StatusBadRequest, "no zip")
		return
	}
	if r.ContentLength <= 0 {
		p.t.Errorf("PUT: Content-Length is %d", r.ContentLength)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // cut off
	}
	f := &fakeFunction{service: service, fingerprint: r.Header.Get("X-Blueprint-Fingerprint"), deployedAt: time.Now()}
	text, err := base64.StdEncoding.DecodeString(r.Header.Get("X-Blueprint-Config"))
	if err != nil {
		p.t.Errorf("X-Blueprint-Config: %v", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&f.config); err != nil {
		p.t.Errorf("X-Blueprint-Config is %s: %v", text, err)
	}
	c := f.config
	if c.MemoryMB == nil || c.TimeoutSecs == nil || c.MaxConcurrency == nil || c.EnvVars == nil {
		p.t.Errorf("X-Blueprint-Config lacks a member: %s", text)
		refuse(w, http.StatusBadRequest, "bad config")
		return
	}
	if m, s := *c.MemoryMB, *c.TimeoutSecs; m < 128 || m > 10240 || s < 1 || s > 900 {
		p.t.Errorf("PUT: memory of %d MB, timeout of %d s", m, s)
		refuse(w, http.StatusBadRequest, "out of range")
		return
	}
	archive, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil || len(archive.File) == 0 || archive.File[0].Name != "bootstrap" || archive.File[0].Mode()&0o111 == 0 {
		p.t.Errorf("PUT: the body is no zip that begins with an executable bootstrap (%v)", err)
		refuse(w, http.StatusBadRequest, "no bootstrap")
		return
	}
	sum := sha256.Sum256(body)
	f.sha256, f.size = hex.EncodeToString(sum[:]), len(body)
	p.mu.Lock()
	raced := p.functions[id] != old
	if !raced {
		p.functions[id] = f
	}
	p.mu.Unlock()
	if raced {
		answer(w, http.StatusConflict, map[string]any{"error": "function exists", "function_id": id})
		return
	}
	answer(w, http.StatusOK, map[string]any{
		"function_id": id, "endpoint": "http://" + r.Host + r.URL.Path + "/invoke", "status": "deployed", "cold_start_ms": 12,
		"memory_mb": *c.MemoryMB, "timeout_secs": *c.TimeoutSecs,
	})
}

// find returns a function, or answers 404 and returns nil.
func (p *fake) find(w http.ResponseWriter, r *http.Request) *fakeFunction {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.functions[r.PathValue("id")]
	if f == nil {
		answer(w, http.StatusNotFound, map[string]any{"error": "no such function", "function_id": r.PathValue("id")})
	}
	return f
}

func (p *fake) describe(r *http.Request, id string, f *fakeFunction) map[string]any {
	v := map[string]any{
		"function_id": id, "endpoint": "http://" + r.Host + "/api/functions/" + id + "/invoke", "status": "deployed",
		"cold_start_ms": 12,
		"memory_mb":     *f.config.MemoryMB, "timeout_secs": *f.config.TimeoutSecs,
		"deployed_at": f.deployedAt.UTC().Format(time.RFC3339), "binary_size_bytes": f.size,
	}
	if p.extended {
		v["deployed_at"], v["cold_start_ms"] = f.deployedAt.Format(time.RFC3339Nano), 12.5
		v["service"], v["package_sha256"], v["config_fingerprint"], v["features"] = f.service, f.sha256, f.fingerprint,
			[]string{"replace", "fingerprint", "list"}
	}
	return v
}

func (p *fake) get(w http.ResponseWriter, r *http.Request) {
	if f := p.find(w, r); f != nil {
		answer(w, http.StatusOK, p.describe(r, r.PathValue("id"), f))
	}
}

func (p *fake) list(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := []any{}
	for id, f := range p.functions {
		if f.service == r.URL.Query().Get("service") {
			all = append(all, p.describe(r, id, f))
		}
	}
	answer(w, http.StatusOK, map[string]any{"functions": all})
}

func (p *fake) delete(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > 0 {
		p.t.Errorf("DELETE has a body")
	}
	if f := p.find(w, r); f != nil {
		if service, _ := url.PathUnescape(r.Header.Get("X-Blueprint-Service")); p.extended && f.service != service {
			p.t.Errorf("DELETE of %s, which is of service %q, by service %q", r.PathValue("id"), f.service, service)
		}
		p.mu.Lock()
		delete(p.functions, r.PathValue("id"))
		p.mu.Unlock()
		answer(w, http.StatusOK, map[string]any{"function_id": r.PathValue("id"), "status": "deleted"})
	}
}

func (p *fake) invoke(w http.ResponseWriter, r *http.Request) {
	if f := p.find(w, r); f != nil {
		p.run(w, r, f)
	}
}

// run answers an invocation.
func (p *fake) run(w http.ResponseWriter, r *http.Request, f *fakeFunction) {
	if got := r.Header.Get("Content-Type"); got != "application/json" {
		p.t.Errorf("invoke: Content-Type is %q", got)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	jobID, args, err := faas.ParseRequest(nil, body)
	if err != nil {
		p.t.Errorf("invoke: %v", err)
	}
	p.mu.Lock()
	f.calls++
	f.last = time.Now()
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), time.Duration(*f.config.TimeoutSecs)*time.Second)
	defer cancel()
	start := time.Now()
	output, err := faastest.RunJob(ctx, faas.Function{JobID: jobID, Env: faas.NewEnv(f.config.EnvVars)}, args)
	resp := faas.Response{JobID: jobID, Result: output, Success: err == nil,
		ExecutionMS: float64(time.Since(start).Microseconds())/1000 + 0.001, MemoryUsedMB: 7}
	switch {
	case ctx.Err() != nil:
		answer(w, http.StatusInternalServerError, map[string]any{
			"job_id": jobID, "result": []int{}, "success": false, "error": "timed out", "code": "TIMEOUT"})
		return
	case err != nil:
		resp.Error = err.Error()
		var failed *faas.FunctionError
		if errors.As(err, &failed) {
			resp.Error = failed.Message
		}
		w.WriteHeader(http.StatusInternalServerError)
	}
	_, _ = w.Write(faas.AppendResponse(nil, &resp)) // the client may be gone
}

func (p *fake) health(w http.ResponseWriter, r *http.Request) {
	if f := p.find(w, r); f != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		v := map[string]any{"function_id": r.PathValue("id"), "status": "healthy", "total_invocations": f.calls,
			"last_invocation": nil}
		if !f.last.IsZero() {
			v["last_invocation"] = f.last.Format(time.RFC3339)
		}
		answer(w, http.StatusOK, v)
	}
}

func (p *fake) warm(w http.ResponseWriter, r *http.Request) {
	if p.find(w, r) != nil {
		answer(w, http.StatusOK, map[string]any{"function_id": r.PathValue("id"), "status": "warm", "instances_warmed": 1})
	}
}

// open returns an executor, closed when the test ends.
func open(t testing.TB, cfg faas.Config) *custom.Executor {
	t.Helper()
	if cfg.Service == "" {
		cfg.Service = "svc"
	}
	e, err := custom.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}
