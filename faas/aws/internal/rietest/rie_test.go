//go:build linux

package rietest

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
	_ "github.com/tangle-network/blueprint-serverless/faas/aws"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	_ "github.com/tangle-network/blueprint-serverless/faas/job" // the test job binary is built within this module
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// maxEvent is the size in bytes of the largest request and response of Lambda.
const maxEvent = 6 << 20

// open returns the provider on a fake control plane, with the emulator in front of it.
func open(t *testing.T) (faas.Executor, *front) {
	t.Helper()
	server := lambdatest.New(lambdatest.Config{Errorf: t.Errorf})
	t.Cleanup(server.Close)
	for name, value := range server.Environment() {
		t.Setenv(name, value)
	}
	base := &http.Transport{}
	t.Cleanup(base.CloseIdleConnections)
	f := &front{t: t, base: base, sandboxes: map[string]*sandbox{}}
	e, err := faas.Open(t.Context(), faas.Config{
		Provider: faas.AWSLambda, Service: "judged",
		Options: map[string]string{"role_arn": server.RoleARN()}, HTTPClient: &http.Client{Transport: f},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, f
}

// deploy deploys jobs of a binary with the same settings, and returns the sandbox that serves them
// all.
func deploy(t *testing.T, e faas.Executor, f *front, bin *faas.Binary, like faas.Function, jobs ...uint32) *sandbox {
	t.Helper()
	units := wanted(t, e, bin, like, jobs...)
	s := start(t, units[0])
	converge(t, e, f, s, units)
	return s
}

// wanted returns the units of jobs with the same settings.
func wanted(t *testing.T, e faas.Executor, bin *faas.Binary, like faas.Function, jobs ...uint32) []faas.Unit {
	t.Helper()
	var functions []faas.Function
	for _, job := range jobs {
		like.JobID = job
		functions = append(functions, like)
	}
	units, err := e.Units(bin, functions)
	if err != nil {
		t.Fatal(err)
	}
	pkg, err := faas.BuildPackage(t.Context(), t.TempDir(), units[0].Files)
	if err != nil {
		t.Fatal(err)
	}
	for i := range units {
		units[i].Package = pkg
	}
	return units
}

// converge converges all units at once, and makes a sandbox serve them.
func converge(t *testing.T, e faas.Executor, f *front, s *sandbox, units []faas.Unit) {
	t.Helper()
	errs := make([]error, len(units))
	var group sync.WaitGroup
	for i, u := range units {
		f.serve(u.ID, s)
		group.Go(func() {
			var prior *faas.State
			now, err := e.Observe(t.Context(), u.ID)
			switch {
			case err == nil:
				prior = &now
			case faas.CodeOf(err) != faas.ErrNotFound:
				errs[i] = err
				return
			}
			_, errs[i] = e.Converge(t.Context(), u, prior, nil)
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, u := range units {
		if now, err := e.Observe(t.Context(), u.ID); err != nil || !now.Current(u) {
			t.Fatalf("%s is not as it is wanted: %+v, %v", u.ID, now, err)
		}
	}
}

func settings(timeoutSecs uint32, env map[string]string) faas.Function {
	return faas.Function{MemoryMB: 256, TimeoutSecs: timeoutSecs, Env: faas.NewEnv(env)}
}

func inspect(t *testing.T, path string) *faas.Binary {
	t.Helper()
	bin, err := faas.InspectBinary(path)
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// script returns a program that speaks only stdin and stdout.
func script(t *testing.T, text string) *faas.Binary {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return inspect(t, path)
}

// outcome is the expected outcome of a call.
type outcome struct {
	job    uint32
	args   string
	output string
	code   faas.Code
	text   string // in the error
	exit   int    // in the error
}

func (want outcome) check(t *testing.T, e faas.Invoker) *faas.Result {
	t.Helper()
	r, err := e.Invoke(t.Context(), want.job, []byte(want.args))
	if faas.CodeOf(err) != want.code {
		t.Errorf("job %d: %v, want code %q", want.job, err, want.code)
	}
	var failed *faas.FunctionError
	switch {
	case err == nil:
		if string(r.Output) != want.output {
			t.Errorf("job %d: output %.100q, want %.100q", want.job, r.Output, want.output)
		}
	case !strings.Contains(err.Error(), want.text):
		t.Errorf("job %d: %v, want %q in it", want.job, err, want.text)
	case errors.As(err, &failed) && failed.ExitCode != want.exit:
		t.Errorf("job %d: exit code %d, want %d", want.job, failed.ExitCode, want.exit)
	}
	return r
}

// event is a request in the published form.
func event(job uint32, args string) []byte { return faas.AppendRequest(nil, job, []byte(args)) }

func TestTheJobBinaryRunsUnderTheEmulator(t *testing.T) {
	e, f := open(t)
	jobs := []uint32{
		faastest.JobEcho, faastest.JobFail, faastest.JobPanic, faastest.JobEnv, faastest.JobExit,
		faastest.JobLog, faastest.JobCount,
	}
	env := map[string]string{
		"GREETING":   "hello = \"wörld\"\n",
		"HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1",
		"PORT": "1", "K_SERVICE": "x", // which on another cloud would choose the protocol
	}
	s := deploy(t, e, f, inspect(t, faastest.JobBinary(t)), settings(30, env), jobs...)
	counter := filepath.Join(t.TempDir(), "count")
	for _, want := range []outcome{
		{job: faastest.JobEcho, args: "", output: ""},
		{job: faastest.JobEcho, args: "\x00\xff\"\\", output: "\x00\xff\"\\"},
		{job: faastest.JobCount, args: counter, output: "1"},
		{job: faastest.JobFail, args: "no luck", code: faas.ErrFunctionFailed, text: "no luck"},
		{job: faastest.JobPanic, args: "out of cheese", code: faas.ErrFunctionFailed, text: "out of cheese"},
		{job: faastest.JobEnv, args: "GREETING", output: env["GREETING"]},
		{job: faastest.JobEnv, args: "AWS_REGION", output: "us-east-1"},
		{job: faastest.JobEnv, args: "HTTP_PROXY", output: env["HTTP_PROXY"]},
		{job: faastest.JobExit, args: "3", code: faas.ErrFunctionFailed, text: "exit status 3", exit: 3},
		{job: faastest.JobEcho, args: "again", output: "again"},
		{job: faastest.JobExit, args: "0", code: faas.ErrFunctionFailed, text: "Runtime.ExitError"},
		{job: faastest.JobLog, args: "a line of log", output: "a line of log"},
		{job: faastest.JobCount, args: counter, output: "2"},
	} {
		want.check(t, e)
	}
	if n, err := e.Warm(t.Context(), faastest.JobEcho, 3); n != 3 || err != nil {
		t.Errorf("%d warm, %v", n, err)
	}
	s.stop(t, syscall.SIGTERM)
	if log := s.since(t, 0); !strings.Contains(log, "\na line of log\n") {
		t.Error("what a job prints is not in the log")
	}
}

func TestColdStartsAreReadFromTheEmulatorsReport(t *testing.T) {
	e, f := open(t)
	first := deploy(t, e, f, inspect(t, faastest.JobBinary(t)), settings(30, nil), faastest.JobSleep)
	f.serve(first.unit.ID, start(t, first.unit)) // another execution environment, which nothing has probed
	for i, cold := range []bool{true, false, false} {
		m := outcome{job: faastest.JobSleep, args: "20", output: "20"}.check(t, e).Metrics
		if m.ColdStart != cold || (m.Init > 0) != cold {
			t.Errorf("call %d: cold start %v after %v, want %v", i, m.ColdStart, m.Init, cold)
		}
		// Billed is Execution rounded up. The emulator claims that all memory was used.
		if m.Execution.Milliseconds() < 20 || m.Billed < m.Execution || m.Total < m.Execution || m.MemoryMB != 256 {
			t.Errorf("call %d: %+v", i, m)
		}
	}
}

func TestWhatIsNoCallIsRefusedByTheJobBinary(t *testing.T) {
	e, f := open(t)
	s := deploy(t, e, f, inspect(t, faastest.JobBinary(t)), settings(30, nil), faastest.JobEcho)
	for _, test := range []struct{ event, want string }{
		{faas.WarmRequest, faas.WarmResponse},
		{string(event(99, "")), `"errorType":"UnknownJob"`},
		{`{"job":1}`, `"errorType":"BadRequest"`},
		{``, `"errorType":"BadRequest"`},
		{`[`, `"errorType":"BadRequest"`},
		{string(event(faastest.JobEcho, "ok")), `"success":true`},
	} {
		got, err := s.invoke(t, t.Context(), []byte(test.event))
		if err != nil || got.status != http.StatusOK || !strings.Contains(string(got.body), test.want) {
			t.Errorf("%s: %d %s, %v; want %s", test.event, got.status, got.body, err, test.want)
		}
	}
}

func TestPayloadsAtTheLimitPassTheEmulator(t *testing.T) {
	e, f := open(t)
	s := deploy(t, e, f, inspect(t, faastest.JobBinary(t)), settings(60, nil), faastest.JobVersion, faastest.JobAnswer)

	t.Run("request", func(t *testing.T) {
		largest := event(faastest.JobVersion, strings.Repeat("\xff", (maxEvent-64)/len("255,")))
		largest = append(largest, bytes.Repeat([]byte{' '}, maxEvent-len(largest))...)
		got, err := s.invoke(t, t.Context(), largest)
		if err != nil || got.failed() {
			t.Errorf("%d bytes: %d %.200s, %v", len(largest), got.status, got.body, err)
		}
		outcome{job: faastest.JobVersion, args: strings.Repeat("\x00", maxEvent), code: faas.ErrTooLarge}.check(t, e)
	})
	t.Run("compact request and response", func(t *testing.T) {
		n := 4 << 20 // bytes, which have no room in the published form
		for faas.CompactRequestSize(faastest.JobAnswer, n+3) <= maxEvent {
			n += 3
		}
		got, err := s.invoke(t, t.Context(), faas.AppendCompactRequest(nil, faastest.JobVersion, make([]byte, n)))
		if err != nil || got.failed() {
			t.Errorf("a request of %d bytes: %d %.200s, %v", n, got.status, got.body, err)
		}
		n -= 128 // what stands around the output, too
		got, err = s.invoke(t, t.Context(), faas.AppendCompactRequest(nil, faastest.JobAnswer, fmt.Append(nil, n)))
		var answer faas.Response
		if err != nil || got.failed() || faas.ParseResponse(got.body, &answer) != nil || len(answer.Result) != n {
			t.Errorf("an answer of %d bytes: %d %.200s, %v; %d bytes", n, got.status, got.body, err, len(answer.Result))
		}
	})
	t.Run("response", func(t *testing.T) {
		size := func(n int) (int, bool) {
			got, err := s.invoke(t, t.Context(), event(faastest.JobAnswer, fmt.Sprint(n)))
			if err != nil {
				t.Fatal(err)
			}
			return len(got.body), got.failed()
		}
		// Some hundred bytes surround the zeros. Few of them differ from answer to answer.
		around, _ := size(1)
		fits := (maxEvent - around - 16) / len("0,")
		if n, failed := size(fits); failed || n < maxEvent-64 || n > maxEvent {
			t.Errorf("an answer of nearly %d bytes: %d bytes, failed %v", maxEvent, n, failed)
		}
		if n, failed := size(fits + 32); !failed {
			t.Errorf("an answer of %d bytes is no failure", n)
		}
		outcome{job: faastest.JobAnswer, args: fmt.Sprint(maxEvent), code: faas.ErrTooLarge}.check(t, e)
		outcome{job: faastest.JobAnswer, args: "3", output: "\x00\x00\x00"}.check(t, e)
	})
}

func TestTheJobBinaryIsStoppedAtItsTimeout(t *testing.T) {
	e, f := open(t)
	deploy(t, e, f, inspect(t, faastest.JobBinary(t)), settings(1, nil), faastest.JobSleep, faastest.JobEcho)
	outcome{job: faastest.JobSleep, args: "60000", code: faas.ErrTimeout}.check(t, e)
	outcome{job: faastest.JobEcho, args: "alive", output: "alive"}.check(t, e)
}

// program is the source of a program that knows nothing of Lambda.
const program = `
request=$(cat)
case $request in
*'"args":[49]'*) echo "a line of log" >&2; printf '{"result":[52,50]}' ;;
*'"args":[50]'*) printf '{"job_id":0,"result":[],"success":false,"error":"no moon today"}'; exit 1 ;;
*'"args":[51]'*) echo "out of cheese" >&2; exit 3 ;;
*'"args":[52]'*) printf garbage ;;
*'"args":[53]'*) printf '{"result":[%d]}' "$((48 + ${#AWS_LAMBDA_RUNTIME_API}))" ;;
*'"args":[54]'*) kill -9 $$ ;;
*'"args":[55]'*) printf '{"result":[%d]}' "$(printf '%s' "$GREETING" | wc -c)" ;;
*'"args":[56]'*) head -c 7000000 /dev/zero | tr '\0' ' '; printf '{"result":[]}' ;;
*'"args":[57]'*) (sleep 60 &) ; printf '{"result":[57]}' ;;
*'"args":[58]'*) sleep 60 ;;
*) printf '{"result":[%d]}' "$(($(printf %s "$request" | wc -c) % 256))" ;;
esac`

func TestAProgramOnStdinAndStdoutRunsUnderTheEmulator(t *testing.T) {
	e, f := open(t)
	env := map[string]string{
		"GREETING": "hello 'wörld'\n.", "http_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1",
	}
	s := deploy(t, e, f, script(t, program), settings(30, env), 0)
	for _, want := range []outcome{
		{args: "1", output: "42"},
		{args: "2", code: faas.ErrFunctionFailed, text: "no moon today"},
		{args: "3", code: faas.ErrFunctionFailed, text: "exit status 3", exit: 3},
		{args: "4", code: faas.ErrFunctionFailed, text: "bad answer"},
		{args: "5", output: "0"},
		{args: "6", code: faas.ErrFunctionFailed, text: "exit status 137", exit: 137},
		{args: "7", output: string([]byte{byte(len(env["GREETING"]))})},
		{args: "8", code: faas.ErrTooLarge},
		{args: "9", output: "9"},
		{args: "1", output: "42"},
	} {
		want.check(t, e)
	}
	if n, err := e.Warm(t.Context(), 0, 3); n != 3 || err != nil {
		t.Errorf("%d warm, %v", n, err)
	}
	got, err := s.invoke(t, t.Context(), []byte(faas.WarmRequest))
	if err != nil || string(got.body) != faas.WarmResponse {
		t.Errorf("a warm-up is answered with %d %s, %v", got.status, got.body, err)
	}
	// Up to the limit, nothing is lost on the way to the program.
	largest := event(0, strings.Repeat("\xff", (maxEvent-64)/len("255,")))
	got, err = s.invoke(t, t.Context(), largest)
	if want := fmt.Sprintf(`{"result":[%d]}`, len(largest)%256); err != nil || string(got.body) != want {
		t.Errorf("a request of %d bytes: %d %.200s, %v; want %s", len(largest), got.status, got.body, err, want)
	}
	s.stop(t, syscall.SIGTERM)
	if log := s.since(t, 0); !strings.Contains(log, "\na line of log\n") || !strings.Contains(log, "\nout of cheese\n") {
		t.Error("what a program prints on stderr is not in the log")
	}
}

// Lambda's documentation says that a reset of the runtime keeps the function's files. So the
// adapter has to remove what a stopped invocation has left.
func TestAProgramThatIsStoppedAtItsTimeoutLeavesNoFiles(t *testing.T) {
	e, f := open(t)
	s := deploy(t, e, f, script(t, program), settings(1, nil), 0)
	for range 2 {
		outcome{args: ":", code: faas.ErrTimeout}.check(t, e)
		outcome{args: "1", output: "42"}.check(t, e)
	}
	if files := s.files(t); len(files) > 1 {
		t.Errorf("after two timeouts there are %q", files)
	}
}

func TestAPackageWithoutAProgramSaysSo(t *testing.T) {
	e, _ := open(t)
	units, err := e.Units(script(t, program), []faas.Function{settings(30, nil)})
	if err != nil {
		t.Fatal(err)
	}
	u := units[0]
	u.Files = u.Files[:1] // the bootstrap alone
	if u.Package, err = faas.BuildPackage(t.Context(), t.TempDir(), u.Files); err != nil {
		t.Fatal(err)
	}
	got, err := start(t, u).invoke(t, t.Context(), event(0, ""))
	const want = "the package has no executable file named function"
	if err != nil || !got.failed() || !strings.Contains(string(got.body), want) {
		t.Errorf("%d %s, %v", got.status, got.body, err)
	}
}
