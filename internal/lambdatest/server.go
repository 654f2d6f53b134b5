package lambdatest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"time"
)

// Config says how the server behaves. The zero value is a Lambda in us-east-1 in which every state
// lasts a few milliseconds.
type Config struct {
	Region  string // default us-east-1
	Account string // default 123456789012

	// Pending and Updating are how long a new and an updated function stay in transition. Zero means
	// 10 ms; negative means none.
	Pending, Updating time.Duration
	// StaleReads is how many reads after a change still see the earlier state.
	StaleReads int
	// RoleDelay is how long a role created here cannot be assumed. For RoleGrant after that, it cannot
	// be given access to a key or a network. A function made within RoleLate after that fails late.
	RoleDelay, RoleGrant, RoleLate time.Duration
	// NewRole is how many calls do not find a role that was just created, and how many deletions of a
	// role still find a policy that was just deleted.
	NewRole int
	// NewAlias is how many invocations do not find an alias that was just created.
	NewAlias int
	// MovingAlias is how long an alias with provisioned concurrency shows the weights of two versions
	// after a move. Zero means Updating.
	MovingAlias time.Duration
	// UnknownRoles lists the ARNs of roles that Lambda can never assume. It can assume every other
	// role that was not created here.
	UnknownRoles []string
	// Concurrency is how many invocations may run at the same time in the account. Zero means 1,000.
	Concurrency int
	// CodeUsed is how many bytes of the account's 75 GB of code are in use, besides the functions and
	// versions here.
	CodeUsed int64
	// Caller is the ARN of the caller. The default is a user of the account.
	Caller string
	// Denied lists the actions, such as "iam:PassRole", that SimulatePrincipalPolicy reports as
	// denied. The value true says that a statement denies the action. To make the calls themselves
	// fail, use Fault.
	Denied map[string]bool
	// InitTimeout is how long a bootstrap may take to ask for its first invocation. Zero means 10 s.
	InitTimeout time.Duration
	// LogPage is the largest number of events in a page of CloudWatch Logs. Zero means 10,000. With
	// any other number, the first page of an answer is empty, as the service allows.
	LogPage int

	// TagsError is the code of the error that GetFunction returns in place of the tags, or "".
	TagsError string
	// LastModified is the layout of the times that Lambda reports. The default has three decimals.
	LastModified string
	// Clock is how far the server's clock is ahead of this machine's.
	Clock time.Duration

	// Fault, if not nil, is called before every operation and may make it fail. It must be safe for
	// concurrent use.
	Fault func(Call) *Fault
	// Handler, if not nil, answers invocations in place of the package's bootstrap.
	Handler func(Invocation) Answer
	// Model, if not nil, checks every request to Lambda and every answer.
	Model *Model
	// Errorf, if not nil, receives what is wrong with requests and answers, in addition to the
	// caller's error. It is usually that of a testing.T.
	Errorf func(format string, args ...any)
}

// Call is one call that the server received.
type Call struct {
	Service   string // "lambda", "iam", "sts", "s3", "logs", "servicequotas"
	Operation string // as in the service's API, such as "CreateFunction"
	Function  string // the function concerned, where it is one of Lambda's
	Qualifier string
	Body      []byte
	N         int // it is the n-th call of this operation on this function, counted from 1
}

// Fault makes a call fail.
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
	buckets   map[string]*bucket
	logGroups map[string]bool
	calls     []Call
	counts    map[string]int

	credentials map[string]credential // by access key
}

// New starts a server. It panics if it cannot, as httptest.NewServer does.
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
		config: config, dir: dir, functions: map[string]*function{}, deleted: map[string]*function{},
		roles:   map[string]*role{},
		buckets: map[string]*bucket{}, logGroups: map[string]bool{}, counts: map[string]int{},
		logs: &logs{groups: map[string][]logEvent{}, pages: map[string]logPage{}},
	}
	s.credentials = map[string]credential{accessKey: {secret: secretKey, arn: config.Caller, id: "AIDATEST"}}
	s.http = httptest.NewUnstartedServer(s)
	s.pool = newPool(s.http.Listener.Addr().String(), config, s.logs)
	s.http.Start() // now that it is whole: a client of an earlier server may know its port
	return s
}

// URL returns the server's address.
func (s *Server) URL() string { return s.http.URL }

// RoleARN returns the ARN of a role that Lambda can assume.
func (s *Server) RoleARN() string { return "arn:aws:iam::" + s.config.Account + ":role/lambda-basic" }

// The sizes that Lambda's texts name as limits of requests with a package, and of the packages in
// them.
const (
	maxRequest = 70167211
	maxZipped  = 52428800
	maxBody    = 300 << 20 // of any request here
)

const (
	accessKey = "AKIDLAMBDATEST"
	secretKey = "lambdatest-secret-key"
)

// Environment returns the variables that send a client of AWS here and nowhere else, with
// credentials that the server knows.
func (s *Server) Environment() map[string]string {
	return map[string]string{
		"AWS_ENDPOINT_URL": s.URL(), "AWS_ACCESS_KEY_ID": accessKey, "AWS_SECRET_ACCESS_KEY": secretKey,
		"AWS_SESSION_TOKEN": "",
		"AWS_REGION":        s.config.Region, "AWS_DEFAULT_REGION": s.config.Region, "AWS_LAMBDA_ROLE_ARN": s.RoleARN(),
		"AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE":           s.dir + "/none", "AWS_SHARED_CREDENTIALS_FILE": s.dir + "/none", "AWS_PROFILE": "",
		"AWS_MAX_ATTEMPTS": "",
	}
}

// Close stops the server and every process that it started.
func (s *Server) Close() {
	s.pool.close()
	s.http.CloseClientConnections()
	s.http.Close()
	s.events.Wait()
	os.RemoveAll(s.dir)
}

// Calls returns the calls so far, in order. If operations are given, it returns only theirs.
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
	for name, b := range s.buckets {
		for key := range b.objects {
			left = append(left, "object "+name+"/"+key)
		}
		for _, u := range b.uploads {
			left = append(left, "upload "+name+"/"+u.key)
		}
	}
	for name := range s.logGroups {
		left = append(left, "log group "+name)
	}
	slices.Sort(left)
	return left
}

// ServeHTTP answers the calls of every service, and those of the processes to the Runtime API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.pool.serve(w, r) {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	if len(body) > maxRequest && signedFor(r) == "lambda" {
		failf(http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException",
			"Request must be smaller than %d bytes for the operation", maxRequest).write(w, "lambda")
		return
	}
	signed, zip := body, []byte(nil)
	if signedFor(r) == "lambda" {
		if body, zip, err = splitZip(body); err != nil {
			failf(http.StatusBadRequest, "SerializationException", "ZipFile: %v", err).write(w, "lambda")
			return
		}
		if len(zip) >= maxZipped {
			invalid("Zipped size must be smaller than %d bytes", maxZipped).write(w, "lambda")
			return
		}
	}
	w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	op, problem := s.route(r, body, zip)
	if problem == nil {
		problem = s.checkSignature(r, signed)
	}
	model := s.config.Model.of(op.call.Service)
	if problem == nil && model != nil {
		if err := model.checkRequest(op.call.Operation, r, op.uri, body); err != nil {
			s.complain("%s: request: %v", op.call.Operation, err)
			problem = failf(http.StatusBadRequest, validationErrors[op.call.Service], "%v", err)
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

// validationErrors holds the codes for requests that do not follow the model.
var validationErrors = map[string]string{
	"lambda": "ValidationException", "logs": "InvalidParameterException", "servicequotas": "IllegalArgumentException",
	"iam": "ValidationError", "sts": "ValidationError",
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

// now returns the time of the server's clock.
func (s *Server) now() time.Time { return time.Now().Add(s.config.Clock) }
