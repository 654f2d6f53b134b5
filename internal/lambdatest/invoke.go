package lambdatest

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Payload limits, as Lambda enforces them.
const (
	maxSyncPayload  = 6 << 20
	maxSyncAnswer   = 6<<20 + 100
	maxEventPayload = 1 << 20
	maxTail         = 4 << 10
)

// Invocation is one invocation, as Config.Handler sees it.
type Invocation struct {
	Function   string
	Version    string
	CodeSha256 string
	Payload    []byte
	Env        map[string]string
}

// Answer is the result of an invocation.
type Answer struct {
	Payload       []byte
	FunctionError string // "Unhandled", or empty
	Log           string // what the function wrote
	Init          time.Duration
	Duration      time.Duration

	id string // of the invocation
}

func (s *Server) invoke(r request) (answer, *apiError) {
	kind := cmp.Or(r.Header.Get("X-Amz-Invocation-Type"), "RequestResponse")
	limit := maxSyncPayload
	if kind == "Event" {
		limit = maxEventPayload
	}
	if len(r.body) > limit {
		return answer{}, failf(http.StatusRequestEntityTooLarge, "RequestTooLargeException",
			"%d byte payload is too large for the %s invocation type (limit %d bytes)", len(r.body), kind, limit)
	}
	if len(r.body) > 0 && !json.Valid(r.body) {
		return answer{}, failf(400, "InvalidRequestContentException", "Could not parse request body into json")
	}
	target, problem := s.target(r)
	if problem != nil {
		return answer{}, problem
	}
	if kind == "DryRun" {
		return answer{status: http.StatusNoContent}, nil
	}
	if kind == "Event" {
		s.events.Go(func() { s.run(target, r.body) })
		return answer{status: http.StatusAccepted}, nil
	}
	result, reason := s.run(target, r.body)
	if reason != "" {
		refusal := failf(http.StatusTooManyRequests, "TooManyRequestsException", "Rate Exceeded.")
		refusal.reason = reason
		return answer{}, refusal
	}
	out := answer{raw: result.Payload, header: map[string]string{"X-Amz-Executed-Version": target.version}}
	if out.raw == nil {
		out.raw = []byte("null")
	}
	if len(out.raw) > maxSyncAnswer {
		result.FunctionError = "Unhandled"
		out.raw = errorPayload("Function.ResponseSizeTooLarge",
			"Response payload size exceeded maximum allowed payload size (6291556 bytes).")
	}
	if result.FunctionError != "" {
		out.header["X-Amz-Function-Error"] = result.FunctionError
	}
	if r.Header.Get("X-Amz-Log-Type") == "Tail" {
		text := target.log(result)
		out.header["X-Amz-Log-Result"] = base64.StdEncoding.EncodeToString([]byte(text[max(0, len(text)-maxTail):]))
	}
	return out, nil
}

// target is what an invocation runs.
type target struct {
	function, version, qualifier string
	config                       configuration
	reserved                     *int
	unreserved                   int            // what the account leaves to functions without
	provisioned                  map[string]int // by qualifier
}

// target resolves what is invoked, and refuses what cannot be.
func (s *Server) target(r request) (target, *apiError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, err := s.find(r.name)
	if err != nil {
		return target{}, err
	}
	v, err := s.version(f, r.qualifier())
	if err != nil {
		return target{}, err
	}
	if a := f.aliases[r.qualifier()]; a != nil {
		if a.unseen > 0 {
			a.unseen--
			return target{}, failf(404, "ResourceNotFoundException", "Function not found: %s:%s", f.latest.FunctionArn, a.Name)
		}
		v = f.routed(a, v)
	}
	if v == &f.latest && f.serving != nil {
		v = f.serving
	}
	switch v.State {
	case "Pending":
		return target{}, failf(409, "ResourceConflictException",
			"The operation cannot be performed at this time. The function is currently in the following state: Pending")
	case "Failed":
		return target{}, failf(409, "ResourceConflictException",
			"The operation cannot be performed at this time. The function is currently in the following state: Failed")
	case "Inactive":
		v.State, v.StateReasonCode, v.StateReason = "Pending", "Restoring", "The function is being restored."
		woken := v
		time.AfterFunc(max(s.config.Pending, 0), func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			woken.State, woken.StateReasonCode, woken.StateReason = "Active", "", ""
		})
		return target{}, failf(409, "ResourceConflictException",
			"The operation cannot be performed at this time. The function is currently in the following state: Inactive")
	}
	if err := s.checkExecution(v); err != nil {
		return target{}, err
	}
	s.logGroups["/aws/lambda/"+r.name] = true
	provisioned := map[string]int{}
	for qualifier, p := range f.provisioned {
		provisioned[qualifier] = p.requested
	}
	return target{r.name, v.Version, r.qualifier(), *v, f.reserved, s.unreserved(nil), provisioned}, nil
}

// routed returns the version to which an invocation of an alias goes: v, or the version that has a
// weight. While an alias moves, that is its former version.
func (f *function) routed(a *alias, v *configuration) *configuration {
	told := a.describe()
	if told.RoutingConfig == nil {
		return v
	}
	for version, weight := range told.RoutingConfig.AdditionalVersionWeights {
		n, err := strconv.Atoi(version)
		if err == nil && f.versions[n] != nil && rand.Float64() < weight {
			return f.versions[n]
		}
	}
	return v
}

// run runs an invocation, or says why too many are running.
func (s *Server) run(t target, payload []byte) (Answer, string) {
	leave, reason := s.pool.enter(t)
	if reason != "" {
		return Answer{}, reason
	}
	defer leave()
	if s.config.Handler == nil {
		return s.pool.invoke(t, payload), ""
	}
	env := map[string]string{}
	if t.config.Environment != nil {
		env = maps.Clone(t.config.Environment.Variables)
	}
	id, stream := newID(), streamName(t.version)
	start := time.Now()
	result := s.config.Handler(Invocation{t.function, t.version, t.config.CodeSha256, payload, env})
	if result.Duration == 0 {
		result.Duration = time.Since(start)
	}
	result.id = id
	s.logs.add(t.function, stream, t.log(result))
	return result, ""
}

// log returns the log of an invocation, in the function's format.
func (t target) log(a Answer) string {
	text := t.logStart(a.id) + a.Log
	if a.Log != "" && !strings.HasSuffix(a.Log, "\n") {
		text += "\n"
	}
	return text + t.logEnd(a.id, a)
}

func (t target) logsJSON() bool { return t.config.LoggingConfig.LogFormat == "JSON" }

// logRecord returns a line that Lambda writes if the format is JSON.
func logRecord(kind, id string, more map[string]any) string {
	more["requestId"] = id
	text, _ := json.Marshal(map[string]any{"time": time.Now().UTC().Format(time.RFC3339Nano), "type": kind,
		"record": more})
	return string(text) + "\n"
}

func (t target) logStart(id string) string {
	if t.logsJSON() {
		return logRecord("platform.start", id, map[string]any{"version": t.version})
	}
	return fmt.Sprintf("START RequestId: %s Version: %s\n", id, t.version)
}

// status returns how an invocation ended, according to its report. An invocation whose handler
// returns an error is a success.
func (a Answer) status() (status, errorType string) {
	var failure struct{ ErrorType string }
	if a.FunctionError == "" || json.Unmarshal(a.Payload, &failure) != nil {
		return "success", ""
	}
	switch service, _, _ := strings.Cut(failure.ErrorType, "."); {
	case failure.ErrorType == "Sandbox.Timedout":
		return "timeout", ""
	case service == "Runtime" || service == "Function" || service == "Extension":
		return "error", failure.ErrorType
	}
	return "success", ""
}

// logInit returns the report of an initialization that failed.
func (t target) logInit(a Answer) string {
	status, kind := a.status()
	if t.logsJSON() {
		return logRecord("platform.initReport", a.id, map[string]any{
			"phase": "init", "initializationType": "on-demand", "status": status, "errorType": kind,
			"metrics": map[string]any{"durationMs": 1.0},
		})
	}
	line := "INIT_REPORT Init Duration: 1.00 ms\tPhase: init\tStatus: " + status
	if kind != "" {
		line += "\tError Type: " + kind
	}
	return line + "\t\n"
}

func (t target) logEnd(id string, a Answer) string {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	billed := int((a.Duration + a.Init + time.Millisecond - 1) / time.Millisecond)
	if t.logsJSON() {
		status, _ := a.status()
		metrics := map[string]any{"durationMs": ms(a.Duration), "billedDurationMs": billed,
			"memorySizeMB": t.config.MemorySize, "maxMemoryUsedMB": 17}
		if a.Init > 0 {
			metrics["initDurationMs"] = ms(a.Init)
		}
		return logRecord("platform.report", id, map[string]any{"metrics": metrics, "status": status})
	}
	var b strings.Builder
	fmt.Fprintf(&b, "END RequestId: %s\nREPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %d ms\tMemory Size: "+
		"%d MB\tMax Memory Used: 17 MB\t", id, id, ms(a.Duration), billed, t.config.MemorySize)
	if a.Init > 0 {
		fmt.Fprintf(&b, "Init Duration: %.2f ms\t", ms(a.Init))
	}
	if status, kind := a.status(); status != "success" {
		b.WriteString("Status: " + status)
		if status == "error" && kind != "" {
			b.WriteString("\tError Type: " + kind)
		}
	}
	b.WriteByte('\n')
	return b.String()
}
