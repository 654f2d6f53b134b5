package lambdatest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config says how the server behaves. The zero value is a Lambda in us-east-1 where every state lasts a few milliseconds.
type Config struct {
	Region  string // default us-east-1
	Account string // default 123456789012

	// Pending and Updating are how long a new and an updated function stay in transition. Zero means 10 ms; negative means none.
	Pending, Updating time.Duration
	// StaleReads is how many reads after a change still see what was before it.
	StaleReads int
	// RoleDelay is how long a role created here cannot be assumed.
	RoleDelay time.Duration
	// NewRole is how many calls do not find a role that was created just now.
	NewRole int
	// NewAlias is how many invocations do not find an alias that was created just now.
	NewAlias int
	// MovingAlias is how long an alias with provisioned concurrency shows weights of two versions
	// after it was moved. Zero means Updating.
	MovingAlias time.Duration
	// UnknownRoles are the roles that Lambda can never assume, by ARN. Every other role that was not created here can be.
	UnknownRoles []string
	// Concurrency is how many invocations may run at the same time in the account. Zero means 1,000.
	Concurrency int
	// CodeUsed is how many bytes of the account's 75 GB of code are taken, beside the functions and
	// versions here.
	CodeUsed int64
	// Caller is the ARN of who calls. Default a user of the account.
	Caller string
	// Denied are the actions, such as "iam:PassRole", that SimulatePrincipalPolicy says the caller may not do. A value true says that a statement denies it.
	// Calls are made to fail by Fault.
	Denied map[string]bool
	// InitTimeout is how long a bootstrap may take to ask for its first invocation. Zero means 10 s.
	InitTimeout time.Duration
	// LogPage is how many events a page of CloudWatch Logs has at most. Zero means 10,000; with any other number the first page of an answer is empty, as it may be.
	LogPage int

	// Fault, if not nil, is asked before every call of an operation, and may make it go wrong. It must be safe for concurrent use.
	Fault func(Call) *Fault
	// Handler, if not nil, answers invocations in place of the package's bootstrap.
	Handler func(Invocation) Answer
	// Model, if not nil, is what every request to Lambda and every answer is checked against.
	Model *Model
	// Errorf, if not nil, is told what is wrong with requests and answers, beside the error that the caller gets. It is that of a testing.T.
	Errorf func(format string, args ...any)
}

// Call is one call that the server got.
type Call struct {
	Service   string // "lambda", "iam", "sts", "s3", "logs"
	Operation string // as in the service's API, such as "CreateFunction"
	Function  string // the function concerned, where it is one of Lambda's
	Qualifier string
	Body      []byte
	N         int // it is the n-th call of this operation on this function, counted from 1
}

// Fault makes a call go wrong.
type Fault struct {
	Status     int    // HTTP status of the answer; 0 breaks the connection instead of answering
	Code       string // the service's error code
	Message    string
	RetryAfter string // header of the answer
	Reason     string // of a TooManyRequestsException; CallerRateLimitExceeded if empty
	Late       bool   // the call takes effect first, and only its answer is lost
}

// Server is a running fake. It is safe for concurrent use.
type Server struct {
	config Config
	http   *httptest.Server
	dir    string
	pool   *pool
	events sync.WaitGroup // asynchronous invocations
	logs   *logs

	mu        sync.Mutex
	functions map[string]*function
	deleted   map[string]*function // for stale reads
	revision  int
	roles     map[string]*role // by name in lower case: IAM does not tell them apart by case
	buckets   map[string]map[string][]byte
	logGroups map[string]bool
	calls     []Call
	counts    map[string]int
}

// New starts a server. It panics when it cannot, as httptest.NewServer does.
func New(config Config) *Server {
	if config.Region == "" {
		config.Region = "us-east-1"
	}
	if config.Account == "" {
		config.Account = "123456789012"
	}
	if config.Caller == "" {
		config.Caller = "arn:aws:iam::" + config.Account + ":user/test"
	}
	if config.Concurrency == 0 {
		config.Concurrency = 1000
	}
	if config.InitTimeout == 0 {
		config.InitTimeout = 10 * time.Second
	}
	for _, d := range []*time.Duration{&config.Pending, &config.Updating} {
		if *d == 0 {
			*d = 10 * time.Millisecond
		}
	}
	if config.MovingAlias == 0 {
		config.MovingAlias = config.Updating
	}
	dir, err := os.MkdirTemp("", "lambdatest-")
	if err != nil {
		panic("lambdatest: " + err.Error())
	}
	s := &Server{
		config: config, dir: dir, functions: map[string]*function{}, deleted: map[string]*function{}, roles: map[string]*role{},
		buckets: map[string]map[string][]byte{}, logGroups: map[string]bool{}, counts: map[string]int{},
		logs: &logs{groups: map[string][]logEvent{}, pages: map[string]logPage{}},
	}
	s.http = httptest.NewUnstartedServer(s)
	s.pool = newPool(s.http.Listener.Addr().String(), config, s.logs)
	s.http.Start() // now that it is whole: a client of an earlier server may know its port
	return s
}

// URL is where the server is.
func (s *Server) URL() string { return s.http.URL }

// RoleARN is a role that Lambda can assume.
func (s *Server) RoleARN() string { return "arn:aws:iam::" + s.config.Account + ":role/lambda-basic" }

// What Lambda says that requests with a package, and packages in them, must be smaller than.
const (
	maxRequest = 70167211
	maxZipped  = 52428800
)

const (
	accessKey = "AKIDLAMBDATEST"
	secretKey = "lambdatest-secret-key"
)

// Environment is what a client of AWS needs to be led here and nowhere else, with credentials that the server knows.
func (s *Server) Environment() map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL": s.URL(), "AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey, "AWS_SESSION_TOKEN": "",
		"AWS_REGION": s.config.Region, "AWS_DEFAULT_REGION": s.config.Region, "AWS_LAMBDA_ROLE_ARN": s.RoleARN(), "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": s.dir + "/none", "AWS_SHARED_CREDENTIALS_FILE": s.dir + "/none", "AWS_PROFILE": "", "AWS_MAX_ATTEMPTS": "",
	}
}

// Close stops the server and every process it started.
func (s *Server) Close() {
	s.pool.close()
	s.http.CloseClientConnections()
	s.http.Close()
	s.events.Wait()
	os.RemoveAll(s.dir)
}

// Calls returns the calls so far, in order. Only those of the operations named, where any are.
func (s *Server) Calls(operations ...string) []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(operations) == 0 {
		return slices.Clone(s.calls)
	}
	var found []Call
	for _, c := range s.calls {
		if slices.Contains(operations, c.Operation) {
			found = append(found, c)
		}
	}
	return found
}

// ForgetCalls empties what Calls returns.
func (s *Server) ForgetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = nil
}

// Left names everything that exists: functions, roles, objects and log groups, sorted.
func (s *Server) Left() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []string
	for name := range s.functions {
		left = append(left, "function "+name)
	}
	for name := range s.roles {
		left = append(left, "role "+name)
	}
	for bucket, objects := range s.buckets {
		for key := range objects {
			left = append(left, "object "+bucket+"/"+key)
		}
	}
	for name := range s.logGroups {
		left = append(left, "log group "+name)
	}
	slices.Sort(left)
	return left
}

// ServeHTTP answers every service's calls, and the Runtime API's of the processes.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.pool.serve(w, r) {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 80<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	if len(body) > maxRequest && strings.HasPrefix(r.URL.Path, "/2015-03-31/functions") {
		failf(http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", "Request must be smaller than %d bytes for the operation", maxRequest).write(w, "lambda")
		return
	}
	signed := body
	body, zip, err := splitZip(body)
	if err != nil {
		failf(http.StatusBadRequest, "SerializationException", "ZipFile: %v", err).write(w, "lambda")
		return
	}
	if len(zip) >= maxZipped {
		failf(http.StatusBadRequest, "InvalidParameterValueException", "Zipped size must be smaller than %d bytes", maxZipped).write(w, "lambda")
		return
	}
	op, problem := s.route(r, body, zip)
	if problem == nil {
		problem = checkSignature(r, signed, op.call.Service, s.config.Region)
	}
	model := s.config.Model.of(op.call.Service)
	if problem == nil && model != nil {
		if err := model.checkRequest(op.call.Operation, r, op.uri, body); err != nil {
			s.complain("%s: request: %v", op.call.Operation, err)
			problem = failf(http.StatusBadRequest, "ValidationException", "%v", err)
		}
	}
	if problem != nil {
		problem.write(w, op.call.Service)
		return
	}
	var fault *Fault
	op.call = s.record(op.call)
	if s.config.Fault != nil {
		fault = s.config.Fault(op.call)
	}
	if fault != nil && !fault.Late {
		fault.write(w, op.call.Service)
		return
	}
	if fault != nil {
		op.serve(httptest.NewRecorder(), r, body)
		fault.write(w, op.call.Service)
		return
	}
	if model == nil {
		op.serve(w, r, body)
		return
	}
	recorded := httptest.NewRecorder()
	op.serve(recorded, r, body)
	if err := model.checkAnswer(op.call.Operation, recorded); err != nil {
		s.complain("%s: answer: %v", op.call.Operation, err)
	}
	for name, values := range recorded.Header() {
		w.Header()[name] = values
	}
	w.WriteHeader(recorded.Code)
	w.Write(recorded.Body.Bytes())
}

func (s *Server) complain(format string, args ...any) {
	if s.config.Errorf != nil {
		s.config.Errorf("lambdatest: "+format, args...)
	}
}

func (s *Server) record(c Call) Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := c.Service + " " + c.Operation + " " + c.Function
	s.counts[key]++
	c.N = s.counts[key]
	s.calls = append(s.calls, c)
	return c
}

func (f *Fault) write(w http.ResponseWriter, service string) {
	if f.Status == 0 {
		panic(http.ErrAbortHandler)
	}
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	(&apiError{status: f.Status, code: f.Code, message: f.Message, reason: f.Reason}).write(w, service)
}

// operation is a routed call.
type operation struct {
	call  Call
	uri   map[string]string // members that the path holds
	serve func(w http.ResponseWriter, r *http.Request, body []byte)
}

// route finds the operation of a request.
func (s *Server) route(r *http.Request, body, zip []byte) (operation, *apiError) {
	segments := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	for i := range segments {
		if text, err := url.PathUnescape(segments[i]); err == nil {
			segments[i] = text
		}
	}
	for _, route := range s.lambdaRoutes() {
		uri, ok := route.match(r.Method, segments)
		if !ok {
			continue
		}
		op := operation{call: Call{Service: "lambda", Operation: route.operation, Qualifier: r.URL.Query().Get("Qualifier"), Body: body}, uri: uri}
		op.call.Function = bareName(uri["FunctionName"])
		if arn := uri["Resource"]; arn != "" {
			op.call.Function = bareName(arn)
		}
		op.serve = func(w http.ResponseWriter, r *http.Request, body []byte) {
			answer, err := route.serve(request{r, uri, body, zip, op.call.Function, op.call.Qualifier})
			if err != nil {
				err.write(w, "lambda")
				return
			}
			answer.write(w, route.status)
		}
		return op, nil
	}
	return s.routeOthers(r, body)
}

// splitZip takes the package out of a request, so that megabytes need not go through several parsers. What stays in its place is one byte of base64.
func splitZip(body []byte) (rest, zip []byte, err error) {
	start := bytes.Index(body, []byte(`"ZipFile"`))
	if start < 0 || len(body) == 0 || body[0] != '{' {
		return body, nil, nil
	}
	start += len(`"ZipFile"`)
	open := bytes.IndexByte(body[start:], '"')
	if open < 0 {
		return body, nil, nil
	}
	start += open + 1
	end := bytes.IndexByte(body[start:], '"')
	if end < 0 {
		return body, nil, nil
	}
	zip = make([]byte, base64.StdEncoding.DecodedLen(end))
	n, err := base64.StdEncoding.Decode(zip, body[start:start+end])
	return slices.Concat(body[:start], []byte("AA=="), body[start+end:]), zip[:n], err
}

// bareName is the function's own name, of a name that may be an ARN and have a qualifier.
func bareName(name string) string {
	if parts := strings.Split(name, ":"); len(parts) >= 7 {
		return parts[6]
	}
	name, _, _ = strings.Cut(name, ":")
	return name
}

type route struct {
	method, path string // path with {Member} for what is variable
	operation    string
	status       int
	serve        func(request) (answer, *apiError)
}

func (t route) match(method string, segments []string) (map[string]string, bool) {
	want := strings.Split(strings.Trim(t.path, "/"), "/")
	if method != t.method || len(want) != len(segments) {
		return nil, false
	}
	uri := map[string]string{}
	for i, w := range want {
		switch {
		case strings.HasPrefix(w, "{"):
			uri[strings.Trim(w, "{}")] = segments[i]
		case w != segments[i]:
			return nil, false
		}
	}
	return uri, true
}

// request is a routed request to Lambda.
type request struct {
	*http.Request
	uri            map[string]string
	body           []byte // without the package
	zip            []byte // the package
	name           string // of the function, without a qualifier
	queryQualifier string
}

// qualifier is the version or alias that the request names, in the query or at the name's end.
func (r request) qualifier() string {
	if r.queryQualifier != "" {
		return r.queryQualifier
	}
	name := r.uri["FunctionName"]
	if parts := strings.Split(name, ":"); len(parts) == 8 {
		return parts[7]
	} else if len(parts) == 2 {
		return parts[1]
	}
	return ""
}

func (s *Server) arn(name string) string {
	return fmt.Sprintf("arn:aws:lambda:%s:%s:function:%s", s.config.Region, s.config.Account, name)
}
