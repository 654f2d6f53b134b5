// Package gcptest is a Google Cloud for tests. It speaks as much of the REST APIs of Cloud
// Functions (version 2), Cloud Run and Cloud Storage as a deployment needs, and is strict about
// requests. It builds what is uploaded as Google's buildpack does, with the local Go toolchain, and
// runs it.
package gcptest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Server is the fake. Its fields may be set before the first request.
type Server struct {
	*httptest.Server
	// Intercept sees every request first. If it returns true, it has answered the request.
	Intercept func(w http.ResponseWriter, r *http.Request) bool
	// Build decides the result of a deployment's operation before anything is built. If it returns
	// nil, the deployment continues.
	Build func(method, id string) *Status
	// RequireIDToken makes functions refuse callers without an ID token for the function's URL, unless
	// everybody may invoke it.
	RequireIDToken bool
	// LoseExecutable removes the permission to execute from all files of a package.
	LoseExecutable bool
	// SignLengthRange makes upload URLs require the header x-goog-content-length-range.
	SignLengthRange bool
	// PolicyDelay is how many calls a front end refuses after a policy has changed.
	PolicyDelay int
	// Runtimes are the runtimes on offer; nil means a usual list.
	Runtimes []Runtime
	// EnumNames makes answers name enumerations even if the caller asks for numbers, as some proxies
	// and emulators do.
	EnumNames bool
	// Withheld lists permissions that the caller does not have.
	Withheld []string
	// Unreachable lists places whose functions a list lacks.
	Unreachable []string
	// LogPage is the largest number of entries in a page of the log; 0 means as many as are asked for.
	LogPage int

	builder *Builder
	logs    logs
	mu      sync.Mutex
	fns     map[string]*deployed // by full name
	runs    map[string]*deployed // Cloud Run services by full name
	ops     map[string]*operation
	uploads map[string]*uploaded // by object name
	sources map[string][]kept    // by object name, oldest first
	spread  map[string]int       // by service: how many calls its front end refuses yet
	objects map[string][]byte    // of buckets, by bucket/name
	iam     map[string]*policy   // by service
	clock   time.Time
	serial  int
	log     []string        // "METHOD path" of API calls
	taken   map[string]bool // permissions
	work    *sync.WaitGroup
}

// Status is a google.rpc.Status with the stage to which it belongs.
type Status struct {
	Code    int
	Message string
	Build   string // what the build says
	Details []any
}

// Runtime is a runtime that ListRuntimes returns.
type Runtime struct {
	Name        string `json:"name"`
	Stage       string `json:"stage"`
	Environment string `json:"environment"`
}

// deployed is a function or a service, with the instance that runs it.
type deployed struct {
	doc      map[string]any
	instance *instance
}

// Start starts a fake that ends with the test.
func Start(t testing.TB, builder *Builder) *Server {
	s := &Server{
		builder: builder, fns: map[string]*deployed{}, runs: map[string]*deployed{}, ops: map[string]*operation{},
		uploads: map[string]*uploaded{},
		sources: map[string][]kept{}, spread: map[string]int{}, objects: map[string][]byte{}, iam: map[string]*policy{},
		taken: map[string]bool{}, logs: logs{pages: map[string]logPage{}}, clock: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	s.work = new(sync.WaitGroup)
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.stop)
	return s
}

func (s *Server) stop() {
	s.Server.CloseClientConnections()
	s.Server.Close()
	s.work.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, all := range []map[string]*deployed{s.fns, s.runs} {
		for _, d := range all {
			d.instance.stop()
		}
	}
}

// Rest waits until no deployment is under way. A test with a clock of its own must end with it.
func (s *Server) Rest() {
	s.work.Wait()
	s.work = new(sync.WaitGroup)
}

// Calls returns the API calls so far as "METHOD path". If parts are given, it returns only the
// calls that match one of them.
func (s *Server) Calls(parts ...string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var calls []string
	for _, c := range s.log {
		match := len(parts) == 0
		for _, part := range parts {
			match = match || strings.Contains(c, part)
		}
		if match {
			calls = append(calls, c)
		}
	}
	return calls
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if s.Intercept != nil && s.Intercept(w, r) {
		return
	}
	path := r.URL.Path
	if !strings.HasPrefix(path, "/fn/") {
		s.mu.Lock()
		s.log = append(s.log, r.Method+" "+path)
		s.mu.Unlock()
	}
	if !s.may(w, r) {
		return
	}
	switch {
	case strings.HasPrefix(path, "/fn/"):
		s.invoke(w, r)
	case strings.HasPrefix(path, "/signed/"):
		s.putUpload(w, r)
	case strings.HasPrefix(path, "/storage/v1/"), strings.HasPrefix(path, "/upload/storage/v1/"):
		s.storage(w, r)
	case path == "/token":
		s.token(w, r)
	case path == "/sts":
		reply(w, map[string]any{
			"access_token": "access-token-of-the-test", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
			"token_type": "Bearer", "expires_in": 3600,
		})
	case path == "/v2/entries:list":
		s.listEntries(w, r)
	case strings.HasPrefix(path, "/v2/"):
		s.api(w, r, strings.TrimPrefix(path, "/v2/"))
	case strings.HasPrefix(path, "/v1/"):
		s.preflight(w, r, strings.TrimPrefix(path, "/v1/"))
	default:
		fail(w, 404, "NOT_FOUND", "no such method: "+r.Method+" "+path)
	}
}

// api finds the method of a resource name.
func (s *Server) api(w http.ResponseWriter, r *http.Request, name string) {
	name, verb, _ := strings.Cut(name, ":")
	part := strings.Split(name, "/")
	if len(part) < 5 || part[0] != "projects" || part[2] != "locations" {
		fail(w, 404, "NOT_FOUND", "no such resource: "+name)
		return
	}
	parent := strings.Join(part[:4], "/")
	key := fmt.Sprintf("%s %s/%d:%s", r.Method, part[4], len(part), verb)
	switch key {
	case "POST functions/5:generateUploadUrl":
		s.generateUploadURL(w, r)
	case "POST functions/5:":
		s.createFunction(w, r, parent)
	case "GET functions/5:":
		s.listFunctions(w, r, parent)
	case "GET functions/6:":
		s.getFunction(w, r, name)
	case "PATCH functions/6:":
		s.patchFunction(w, r, name)
	case "DELETE functions/6:":
		s.deleteFunction(w, r, name)
	case "GET operations/6:":
		s.getOperation(w, r, name)
	case "GET runtimes/5:":
		s.listRuntimes(w, r)
	case "GET services/6:getIamPolicy", "POST services/6:setIamPolicy":
		s.iamPolicy(w, r, name)
	case "POST services/5:":
		s.createService(w, r, parent)
	case "GET services/5:":
		s.listServices(w, r, parent)
	case "GET services/6:":
		s.getService(w, r, name)
	case "PATCH services/6:":
		s.patchService(w, r, name)
	case "DELETE services/6:":
		s.deleteService(w, r, name)
	default:
		fail(w, 404, "NOT_FOUND", "no such method: "+key)
	}
}

// now returns a time later than all earlier ones. The caller holds the lock.
func (s *Server) now() string {
	s.clock = s.clock.Add(time.Second + time.Microsecond)
	return s.clock.Format(time.RFC3339Nano)
}

// next returns a new number. The caller holds the lock.
func (s *Server) next() int {
	s.serial++
	return s.serial
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{
		"error": map[string]any{"code": status, "message": message, "status": code}})
}

// malformed refuses a request because of one of its fields, with details, as the real API does.
func malformed(w http.ResponseWriter, field string, err error) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(400)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"code": 400, "message": "The request has errors", "status": "INVALID_ARGUMENT",
		"details": []any{map[string]any{"@type": "type.googleapis.com/google.rpc.BadRequest",
			"fieldViolations": []any{map[string]any{"field": field, "description": err.Error()}}}},
	}})
}

// Fail answers with an error in Google's shape. info holds the ErrorInfo's reason and then its
// metadata as pairs.
func Fail(w http.ResponseWriter, status int, code, message string, info ...string) {
	if len(info) == 0 {
		fail(w, status, code, message)
		return
	}
	metadata := map[string]string{}
	for i := 1; i+1 < len(info); i += 2 {
		metadata[info[i]] = info[i+1]
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{
		"code": status, "message": message, "status": code,
		"details": []any{map[string]any{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": info[0],
			"domain": "googleapis.com", "metadata": metadata}},
	}})
}
