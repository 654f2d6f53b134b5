package lambdatest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// runtimePath is the path of the Runtime API. Every instance has its own segment below it, with
// which its AWS_LAMBDA_RUNTIME_API ends.
const runtimePath = "/lambda-runtime/"

// pool runs bootstraps as processes. Each serves one invocation at a time, and there are as many as
// there are concurrent invocations.
type pool struct {
	host   string
	config Config
	logs   *logs

	mu        sync.Mutex
	closed    bool
	instances map[string]*instance
	idle      map[string][]*instance    // by function and version
	busy      map[string]map[string]int // by function and qualifier
	shared    int                       // invocations that use what no function has reserved
}

// instance is one process. Its channels carry one invocation at a time.
type instance struct {
	id, key  string
	function string
	stream   string // of its log
	cmd      *exec.Cmd
	log      tail
	events   chan event
	ready    chan struct{} // it asked for its first event
	once     sync.Once
	answers  chan Answer
	failed   chan Answer // an error of its initialization
	exited   chan struct{}
	exit     error
	retired  bool
}

type event struct {
	id       string
	payload  []byte
	deadline time.Time
	arn      string
}

// tail keeps what a process wrote since the tail was last taken, and adds it to the function's log.
type tail struct {
	log lineWriter
	mu  sync.Mutex
	b   bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	if _, err := t.log.Write(p); err != nil {
		return 0, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b.Len() < 1<<20 {
		t.b.Write(p)
	}
	return len(p), nil
}

func (t *tail) take() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := t.b.String()
	t.b.Reset()
	return text
}

func newPool(host string, config Config, logs *logs) *pool {
	return &pool{host: host, config: config, logs: logs, instances: map[string]*instance{},
		idle: map[string][]*instance{}, busy: map[string]map[string]int{}}
}

// invoke runs one invocation.
func (p *pool) invoke(t target, payload []byte) (a Answer) {
	id, stream := newID(), streamName(t.version)
	defer func() {
		a.id = id
		p.logs.add(t.function, stream, t.logEnd(id, a))
	}()
	timeout := time.Duration(t.config.Timeout) * time.Second
	i := p.take(t)
	var started time.Duration
	if i == nil {
		begin := time.Now()
		var failure *Answer
		if i, failure = p.start(t, stream); failure != nil {
			failure.id = id
			report := t.logInit(*failure)
			p.logs.add(t.function, stream, report+t.logStart(id))
			failure.Log = report + failure.Log
			return *failure
		}
		started = time.Since(begin)
	}
	stream = i.stream
	p.logs.add(t.function, stream, t.logStart(id))
	i.log.take()
	begin := time.Now()
	ev := event{id, payload, begin.Add(timeout), t.config.FunctionArn}
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	deliver := i.events
	for {
		select {
		case deliver <- ev:
			deliver = nil
		case a := <-i.answers:
			a.Init, a.Duration, a.Log = started, time.Since(begin), i.log.take()
			p.put(i)
			return a
		case <-i.exited:
			p.drop(i)
			return Answer{
				Payload: errorPayload("Runtime.ExitError",
					fmt.Sprintf("RequestId: %s Error: Runtime exited with error: %v", ev.id, exitText(i.exit))),
				FunctionError: "Unhandled",
				Log:           i.log.take(), Init: started, Duration: time.Since(begin),
			}
		case <-limit.C:
			p.drop(i)
			p.logs.add(t.function, stream, fmt.Sprintf("%s %s Task timed out after %.2f seconds\n\n",
				time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), ev.id, timeout.Seconds()))
			return Answer{
				Payload: errorPayload("Sandbox.Timedout",
					fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", ev.id, timeout.Seconds())),
				FunctionError: "Unhandled", Log: i.log.take() +
					fmt.Sprintf("%s Task timed out after %.2f seconds\n", ev.id, timeout.Seconds()), Init: started, Duration: timeout,
			}
		}
	}
}

// streamName returns the name of a new instance's log stream.
func streamName(version string) string {
	return time.Now().UTC().Format("2006/01/02") + "/[" + version + "]" + strings.ReplaceAll(newID(), "-", "")
}

func exitText(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

func errorPayload(kind, message string) []byte {
	return fmt.Appendf(nil, `{"errorMessage":%q,"errorType":%q}`, message, kind)
}

// enter counts an invocation until leave is called, or says why too many are running. Provisioned
// concurrency serves invocations of its own qualifier only, and the rest of the reserved
// concurrency serves all others. Functions without a reservation share what the account has left.
func (p *pool) enter(t target) (leave func(), reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	busy := p.busy[t.function]
	if busy == nil {
		busy = map[string]int{}
		p.busy[t.function] = busy
	}
	spilled, warm := 0, 0
	for qualifier, n := range busy {
		spilled += max(0, n-t.provisioned[qualifier])
	}
	for _, n := range t.provisioned {
		warm += n
	}
	spills := busy[t.qualifier] >= t.provisioned[t.qualifier]
	shares := spills && t.reserved == nil
	switch {
	case p.closed || shares && p.shared >= t.unreserved:
		return nil, "ConcurrentInvocationLimitExceeded"
	case spills && !shares && spilled >= *t.reserved-warm:
		return nil, "ReservedFunctionConcurrentInvocationLimitExceeded"
	case shares:
		p.shared++
	}
	busy[t.qualifier]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		busy[t.qualifier]--
		if shares {
			p.shared--
		}
	}, ""
}

func key(function, version, sha string) string { return function + ":" + version + ":" + sha }

func (p *pool) take(t target) *instance {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := key(t.function, t.version, t.config.RevisionId)
	list := p.idle[k]
	for len(list) > 0 {
		i := list[len(list)-1]
		list = list[:len(list)-1]
		p.idle[k] = list
		select {
		case <-i.exited:
			delete(p.instances, i.id)
		default:
			return i
		}
	}
	return nil
}

func (p *pool) put(i *instance) {
	p.mu.Lock()
	if !p.closed && !i.retired {
		p.idle[i.key] = append(p.idle[i.key], i)
		p.mu.Unlock()
		return
	}
	p.mu.Unlock()
	p.drop(i)
}

// drop ends an instance and returns when it has ended.
func (p *pool) drop(i *instance) {
	p.mu.Lock()
	delete(p.instances, i.id)
	p.mu.Unlock()
	kill(i.cmd)
	<-i.exited
}

// start starts a process and waits until it asks for an event. A failure is the answer of the
// invocation that needed the process.
func (p *pool) start(t target, stream string) (*instance, *Answer) {
	failed := func(kind, message, log string) *Answer {
		return &Answer{Payload: errorPayload(kind, "RequestId: "+newID()+" Error: "+message), FunctionError: "Unhandled",
			Log: log}
	}
	i := &instance{
		id: newID(), key: key(t.function, t.version, t.config.RevisionId), function: t.function, stream: stream,
		events: make(chan event), ready: make(chan struct{}),
		answers: make(chan Answer), failed: make(chan Answer, 1), exited: make(chan struct{}),
	}
	dir := t.config.code.dir
	i.cmd = exec.Command(filepath.Join(dir, "bootstrap"))
	i.cmd.Dir = dir
	i.log.log.add = func(text string) { p.logs.add(t.function, stream, text) }
	i.cmd.Stdout, i.cmd.Stderr = &i.log, &i.log
	i.cmd.WaitDelay = time.Second
	i.cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "AWS_LAMBDA_RUNTIME_API=" + p.host + runtimePath + i.id, "LAMBDA_TASK_ROOT=" + dir,
		"_HANDLER=" + t.config.Handler,
		"AWS_LAMBDA_FUNCTION_NAME=" + t.function, "AWS_LAMBDA_FUNCTION_VERSION=" + t.version, "AWS_REGION=" + p.config.Region,
		fmt.Sprintf("AWS_LAMBDA_FUNCTION_MEMORY_SIZE=%d", t.config.MemorySize),
		"AWS_EXECUTION_ENV=AWS_Lambda_provided.al2023",
	}
	if t.config.Environment != nil {
		for name, value := range t.config.Environment.Variables {
			i.cmd.Env = append(i.cmd.Env, name+"="+value)
		}
	}
	own(i.cmd)
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, failed("Runtime.ExitError", "the server is closed", "")
	}
	err := i.cmd.Start()
	if err == nil {
		p.instances[i.id] = i
	}
	p.mu.Unlock()
	if err != nil {
		return nil, failed("Runtime.InvalidEntrypoint", "Couldn't find valid bootstrap(s): "+err.Error(), "")
	}
	go func() {
		i.exit = i.cmd.Wait()
		close(i.exited)
	}()
	limit := time.NewTimer(p.config.InitTimeout)
	defer limit.Stop()
	select {
	case <-i.ready:
		return i, nil
	case a := <-i.failed:
		p.drop(i)
		a.Log = i.log.take()
		return nil, &a
	case <-i.exited:
		p.drop(i)
		return nil, failed("Runtime.ExitError", "Runtime exited with error: "+exitText(i.exit), i.log.take())
	case <-limit.C:
		p.drop(i)
		return nil, failed("Sandbox.Timedout", fmt.Sprintf(
			"Task timed out after %.2f seconds", p.config.InitTimeout.Seconds()), i.log.take())
	}
}

// retire ends the idle processes of a function, or of one version. Busy ones end after their
// invocation.
func (p *pool) retire(function, version string) {
	p.mu.Lock()
	var ended []*instance
	for id, i := range p.instances {
		if i.function == function && (version == "" || strings.HasPrefix(i.key, function+":"+version+":")) {
			i.retired = true
			for n, other := range p.idle[i.key] {
				if other == i {
					p.idle[i.key] = append(p.idle[i.key][:n:n], p.idle[i.key][n+1:]...)
					ended = append(ended, i)
					delete(p.instances, id)
					break
				}
			}
		}
	}
	p.mu.Unlock()
	for _, i := range ended {
		kill(i.cmd)
		<-i.exited
	}
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	var all []*instance
	for _, i := range p.instances {
		all = append(all, i)
	}
	p.mu.Unlock()
	for _, i := range all {
		kill(i.cmd)
		<-i.exited
	}
}

// serve answers the Runtime API. It returns false for other requests.
func (p *pool) serve(w http.ResponseWriter, r *http.Request) bool {
	rest, ok := strings.CutPrefix(r.URL.Path, runtimePath)
	if !ok {
		return false
	}
	id, path, _ := strings.Cut(rest, "/")
	p.mu.Lock()
	i := p.instances[id]
	p.mu.Unlock()
	path, versioned := strings.CutPrefix(path, "2018-06-01/runtime/")
	if i == nil || !versioned {
		http.Error(w, `{"errorMessage":"unknown"}`, http.StatusForbidden)
		return true
	}
	switch {
	case r.Method == "GET" && path == "invocation/next":
		i.next(w, r)
	case r.Method == "POST" && path == "init/error":
		body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err == nil {
			i.failed <- Answer{Payload: body, FunctionError: "Unhandled"}
		}
		w.WriteHeader(http.StatusAccepted)
	case r.Method == "POST" && strings.HasPrefix(path, "invocation/"):
		kind := path[strings.LastIndexByte(path, '/')+1:]
		body, err := io.ReadAll(io.LimitReader(r.Body, maxSyncAnswer+1))
		if err != nil || (kind != "response" && kind != "error") {
			http.Error(w, `{"errorMessage":"bad request"}`, http.StatusBadRequest)
			return true
		}
		a := Answer{Payload: body}
		if kind == "error" {
			a.FunctionError = "Unhandled"
		}
		w.Header().Set("Content-Type", "application/json")
		if len(body) > maxSyncAnswer {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			fmt.Fprintf(w, `{"errorMessage":"Exceeded maximum allowed payload size (%d bytes).",`+
				`"errorType":"RequestEntityTooLarge"}`, maxSyncAnswer)
		} else {
			w.WriteHeader(http.StatusAccepted)
			io.WriteString(w, `{"status":"OK"}`)
		}
		w.(http.Flusher).Flush()
		select {
		case i.answers <- a:
		case <-i.exited:
		}
	default:
		http.NotFound(w, r)
	}
	return true
}

// next waits for the process's next event and sends it.
func (i *instance) next(w http.ResponseWriter, r *http.Request) {
	i.once.Do(func() { close(i.ready) })
	select {
	case ev := <-i.events:
		h := w.Header()
		h.Set("Lambda-Runtime-Aws-Request-Id", ev.id)
		h.Set("Lambda-Runtime-Deadline-Ms", fmt.Sprint(ev.deadline.UnixMilli()))
		h.Set("Lambda-Runtime-Invoked-Function-Arn", ev.arn)
		h.Set("Lambda-Runtime-Trace-Id", "Root=1-00000000-000000000000000000000000;Parent=0000000000000000;Sampled=0")
		h.Set("Content-Type", "application/json")
		w.Write(ev.payload)
	case <-i.exited:
	case <-r.Context().Done():
	}
}
