//go:build !faas_only || faas_aws

package aws

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

func TestMetricsComeFromTheReport(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, tail string
		want       faas.Metrics
	}{
		{"a cold start in text", "START RequestId: 1 Version: 3\nhello\nEND RequestId: 1\nREPORT RequestId: 1\tDuration: " +
			"12.34 ms\tBilled Duration: 93 ms\tMemory Size: 256 MB\tMax Memory Used: 40 MB\tInit Duration: 80.10 ms\t\n",
			faas.Metrics{Execution: 12340 * time.Microsecond, Billed: 93 * time.Millisecond, Init: 80100 * time.Microsecond,
				ColdStart: true, MemoryMB: 40}},
		{"a warm instance, in another order", "REPORT RequestId: 1\tInit Duration: 0.02 ms\tDuration: 1.5 ms\tBilled " +
			"Duration: 2 ms\tMax Memory Used: 7 MB",
			faas.Metrics{Execution: 1500 * time.Microsecond, Billed: 2 * time.Millisecond, Init: 20 * time.Microsecond,
				ColdStart: true, MemoryMB: 7}},
		{"records of JSON", `{"time":"x","type":"platform.start","record":{}}` + "\n" +
			`{"time":"x","type":"platform.report","record":{"requestId":"1","metrics":{"durationMs":2.5,` +
			`"billedDurationMs":3,"memorySizeMB":128,"maxMemoryUsedMB":33,"initDurationMs":9},"status":"success"}}` + "\n",
			faas.Metrics{Execution: 2500 * time.Microsecond, Billed: 3 * time.Millisecond, Init: 9 * time.Millisecond,
				ColdStart: true, MemoryMB: 33}},
		{"a tail that was cut", "ry Size: 256 MB\tMax Memory Used: 40 MB\n", faas.Metrics{}},
		{"nonsense", "REPORT RequestId\tDuration: x ms\tBilled Duration: -3 ms\tMax Memory Used: 1e300 MB\tInit " +
			"Duration: NaN ms\n", faas.Metrics{ColdStart: true}},
		{"nothing", "", faas.Metrics{}},
	} {
		if diff := cmp.Diff(test.want, metricsOf(test.tail)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.name, diff)
		}
	}
}

func FuzzMetrics(f *testing.F) {
	f.Add("REPORT RequestId: 1\tDuration: 12.34 ms\tBilled Duration: 93 ms\tMax Memory Used: 40 MB\tInit Duration: " +
		"80.10 ms\t\n")
	f.Add(`{"type":"platform.report","record":{"metrics":{"durationMs":2.5}}}`)
	f.Fuzz(func(t *testing.T, tail string) {
		m := metricsOf(tail)
		if m.Execution < 0 || m.Billed < 0 || m.Init < 0 {
			t.Errorf("%+v", m)
		}
	})
}

// deployed returns an executor with job 0 deployed on a fake whose Invoke fails as fault says.
func deployed(t *testing.T, options map[string]string, fault func(lambdatest.Call) *lambdatest.Fault) (*Executor,
	*lambdatest.Server) {
	t.Helper()
	var armed atomic.Bool
	server := serve(t, lambdatest.Config{Handler: answering, Pending: -1, Updating: -1,
		Fault: func(c lambdatest.Call) *lambdatest.Fault {
			if c.Operation != "Invoke" || !armed.Load() || fault == nil {
				return nil
			}
			return fault(c)
		}})
	e := openAt(t, server, "invoke", opening{options: options})
	mustDeploy(t, e, unitOf(t, e, script(t, "x"), small(0)))
	server.ForgetCalls()
	armed.Store(true)
	return e, server
}

func TestInvokeTellsWhetherTheJobRan(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		fault  lambdatest.Fault
		want   faas.Code
		notRun bool
		after  time.Duration
	}{
		{lambdatest.Fault{Status: 429, Code: "TooManyRequestsException", RetryAfter: "2"}, faas.ErrThrottled, true,
			2 * time.Second},
		{lambdatest.Fault{Status: 404, Code: "ResourceNotFoundException"}, faas.ErrNotFound, true, 0},
		{lambdatest.Fault{Status: 403, Code: "AccessDeniedException"}, faas.ErrPermissionDenied, true, 0},
		{lambdatest.Fault{Status: 403, Code: "ExpiredTokenException"}, faas.ErrPermissionDenied, true, 0},
		{lambdatest.Fault{Status: 413, Code: "RequestTooLargeException"}, faas.ErrTooLarge, true, 0},
		{lambdatest.Fault{Status: 400, Code: "InvalidRequestContentException"}, faas.ErrInvalidArgument, true, 0},
		{lambdatest.Fault{Status: 502, Code: "EC2ThrottledException"}, faas.ErrThrottled, true, 0},
		{lambdatest.Fault{Status: 502, Code: "KMSAccessDeniedException"}, faas.ErrPermissionDenied, true, 0},
		{lambdatest.Fault{Status: 500, Code: "ServiceException"}, faas.ErrUnavailable, false, 0},
		{lambdatest.Fault{Status: 503, Code: "SomethingNew"}, faas.ErrUnavailable, false, 0},
		{lambdatest.Fault{Status: 0, Late: true}, faas.ErrUnavailable, false, 0},
		{lambdatest.Fault{Status: 0}, faas.ErrUnavailable, false, 0},
	} {
		t.Run(fmt.Sprint(test.fault.Status, test.fault.Code), func(t *testing.T) {
			t.Parallel()
			e, server := deployed(t, nil, func(lambdatest.Call) *lambdatest.Fault { return &test.fault })
			_, err := e.Invoke(t.Context(), 0, nil)
			var failed *faas.Error
			if !errors.As(err, &failed) || failed.Code != test.want || failed.NotRun != test.notRun ||
				failed.RetryAfter != test.after || failed.JobID != 0 {
				t.Errorf("got %+v", failed)
			}
			if n := len(server.Calls("Invoke")); n != 1 {
				t.Errorf("the request was sent %d times", n)
			}
		})
	}
}

func TestRepeatableJobsAreRepeated(t *testing.T) {
	t.Parallel()
	e, server := deployed(t, map[string]string{"repeatable_jobs": "true"}, func(c lambdatest.Call) *lambdatest.Fault {
		if c.N == 3 { // the first two were probes
			return &lambdatest.Fault{Status: 500, Code: "ServiceException"}
		}
		return nil
	})
	answers(t, e, 0, "1-one")
	if n := len(server.Calls("Invoke")); n != 2 {
		t.Errorf("the request was sent %d times", n)
	}
}

func TestAnUnreachableLambdaDidNotRunTheJob(t *testing.T) {
	t.Parallel()
	_, server := deployed(t, nil, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	e := openAt(t, server, "invoke", opening{client: &http.Client{Transport: redirected{address}}})
	_, err = e.Invoke(t.Context(), 0, nil)
	var failed *faas.Error
	if !errors.As(err, &failed) || failed.Code != faas.ErrUnavailable || !failed.NotRun {
		t.Errorf("got %+v", err)
	}
}

// redirected sends every request to another address.
type redirected struct{ host string }

func (r redirected) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.URL.Host = r.host
	return http.DefaultTransport.RoundTrip(req)
}

func TestAnIdleFunctionIsWoken(t *testing.T) {
	t.Parallel()
	e, server := deployed(t, nil, nil)
	server.Sleep("blueprint-invoke-0")
	if h, err := e.Health(t.Context(), 0); err != nil || !h.Healthy {
		t.Errorf("health %+v, %v", h, err)
	}
	answers(t, e, 0, "1-one")
}

func TestInvokeEventIsAcceptedAndRun(t *testing.T) {
	t.Parallel()
	ran := make(chan string, 1)
	server := serve(t, lambdatest.Config{Handler: func(i lambdatest.Invocation) lambdatest.Answer {
		if !faas.IsWarmRequest(i.Payload) {
			ran <- string(i.Payload)
		}
		return answering(i)
	}})
	e := openAt(t, server, "event", opening{})
	mustDeploy(t, e, unitOf(t, e, script(t, "x"), small(0)))
	if err := e.InvokeEvent(t.Context(), 0, []byte{7}); err != nil {
		t.Fatal(err)
	}
	if got := <-ran; got != `{"job_id":0,"args":[7]}` {
		t.Errorf("it was run with %s", got)
	}
	err := e.InvokeEvent(t.Context(), 0, make([]byte, maxEventPayload))
	if faas.CodeOf(err) != faas.ErrTooLarge || !strings.Contains(err.Error(), fmt.Sprint(maxEventPayload)) {
		t.Errorf("got %v", err)
	}
}

func TestFunctionErrorsAreToldApart(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		answer lambdatest.Answer
		want   faas.Code
		cause  faas.FunctionError
	}{
		{lambdatest.Answer{Payload: []byte(`{"errorMessage":"boom","errorType":"JobFailed","stackTrace":[]}`),
			FunctionError: "Unhandled"}, faas.ErrFunctionFailed, faas.FunctionError{Type: "JobFailed", Message: "boom"}},
		{unhandled("Sandbox.Timedout", "RequestId: 1 Error: Task timed out after 3.00 seconds"), faas.ErrTimeout,
			faas.FunctionError{Type: "Sandbox.Timedout",
				Message: "RequestId: 1 Error: Task timed out after 3.00 seconds"}},
		{unhandled("Runtime.ExitError", "Error: Runtime exited with error: exit status 42"), faas.ErrFunctionFailed,
			faas.FunctionError{Type: "Runtime.ExitError",
				Message: "Error: Runtime exited with error: exit status 42", ExitCode: 42}},
		{unhandled("Function.ResponseSizeTooLarge", "Response payload size exceeded"), faas.ErrTooLarge,
			faas.FunctionError{Type: "Function.ResponseSizeTooLarge", Message: "Response payload size exceeded"}},
		{lambdatest.Answer{Payload: []byte(`garbage`), FunctionError: "Unhandled"}, faas.ErrFunctionFailed,
			faas.FunctionError{Message: "garbage"}},
		{lambdatest.Answer{Payload: []byte(`{"job_id":0,"result":[],"success":false,"error":"no moon"}`)},
			faas.ErrFunctionFailed, faas.FunctionError{Type: "job", Message: "no moon"}},
	} {
		var armed atomic.Bool
		server := serve(t, lambdatest.Config{Handler: func(i lambdatest.Invocation) lambdatest.Answer {
			if !armed.Load() {
				return answering(i)
			}
			a := test.answer
			a.Log = "the last words\n"
			return a
		}})
		e := openAt(t, server, "errors", opening{})
		mustDeploy(t, e, unitOf(t, e, script(t, "x"), small(0)))
		armed.Store(true)
		_, err := e.Invoke(t.Context(), 0, nil)
		var cause *faas.FunctionError
		if faas.CodeOf(err) != test.want || !errors.As(err, &cause) || err.(*faas.Error).NotRun {
			t.Errorf("%s: got %v", test.answer.Payload, err)
			continue
		}
		if !strings.Contains(cause.LogTail, "the last words") {
			t.Errorf("%s: log %q", test.answer.Payload, cause.LogTail)
		}
		got := *cause
		got.LogTail = ""
		if diff := cmp.Diff(test.cause, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.answer.Payload, diff)
		}
	}
	if logTail(new("%%%")) != "" || logTail(new(base64.StdEncoding.EncodeToString([]byte("a\xff")))) != "a\uFFFD" {
		t.Error("a broken log tail is not harmless")
	}
}

func TestWarmProbesWithoutRunningAJob(t *testing.T) {
	t.Parallel()
	var jobs atomic.Int64
	server := serve(t, lambdatest.Config{Handler: func(i lambdatest.Invocation) lambdatest.Answer {
		if !faas.IsWarmRequest(i.Payload) {
			jobs.Add(1)
		}
		return answering(i)
	}})
	e := openAt(t, server, "warm", opening{})
	mustDeploy(t, e, unitOf(t, e, script(t, "x"), small(0)))
	if n, err := e.Warm(t.Context(), 0, 150); n != 150 || err != nil || jobs.Load() != 0 {
		t.Errorf("%d warm, error %v, %d jobs run", n, err, jobs.Load())
	}
}
