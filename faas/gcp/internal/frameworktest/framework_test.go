package frameworktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/GoogleCloudPlatform/functions-framework-go/funcframework" // go.sum then vouches for it

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	_ "github.com/tangle-network/blueprint-serverless/faas/gcp"
	"github.com/tangle-network/blueprint-serverless/faas/gcp/internal/gcptest"
	_ "github.com/tangle-network/blueprint-serverless/faas/job" // the test job binary is built within this module
)

// builder compiles each source shim once for all tests.
var builder *gcptest.Builder

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		fmt.Fprintln(os.Stderr, "functions for Google run on linux/amd64 alone")
		return 0
	}
	dir, err := os.MkdirTemp("", "frameworktest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	builder = gcptest.NewBuilder(dir)
	builder.Genuine = true
	return m.Run()
}

// open returns the provider on a fake control plane.
func open(t *testing.T) (faas.Executor, *gcptest.Server) {
	t.Helper()
	s := gcptest.Start(t, builder)
	t.Setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_LOGGING", s.URL)
	e, err := faas.Open(t.Context(), faas.Config{
		Provider: faas.GCPFunctions, Service: "judged", ProjectID: "test-project",
		Options: map[string]string{"functions_endpoint": s.URL, "run_endpoint": s.URL + "/", "disable_credentials": "true"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, s
}

// deploy deploys jobs of a binary with the same settings.
func deploy(t *testing.T, e faas.Executor, bin *faas.Binary, like faas.Function, jobs ...uint32) {
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
	errs := make([]error, len(units))
	var group sync.WaitGroup
	for i, u := range units {
		u.Package = pkg
		group.Go(func() { _, errs[i] = e.Converge(t.Context(), u, nil, nil) })
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
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

// outcome is the expected result of a call.
type outcome struct {
	job    uint32
	args   string
	output string
	code   faas.Code
	text   string // in the error
	exit   int    // in the error
}

func (want outcome) check(t *testing.T, e faas.Invoker) {
	t.Helper()
	r, err := e.Invoke(t.Context(), want.job, []byte(want.args))
	if faas.CodeOf(err) != want.code {
		t.Errorf("job %d, %.20q: %v, want code %q", want.job, want.args, err, want.code)
	}
	var failed *faas.FunctionError
	switch {
	case err == nil:
		if string(r.Output) != want.output {
			t.Errorf("job %d, %.20q: output %.100q, want %.100q", want.job, want.args, r.Output, want.output)
		}
	case !strings.Contains(err.Error(), want.text):
		t.Errorf("job %d, %.20q: %v, want %q in it", want.job, want.args, err, want.text)
	case errors.As(err, &failed) && failed.ExitCode != want.exit:
		t.Errorf("job %d, %.20q: exit code %d, want %d", want.job, want.args, failed.ExitCode, want.exit)
	}
}

// logged returns the lines that a job's function wrote, as soon as line is among them.
func logged(t *testing.T, e faas.Executor, job uint32, line string) (lines []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for entry, err := range e.Logs(ctx, faas.LogQuery{JobIDs: []uint32{job}, Follow: true}) {
		if err != nil {
			t.Errorf("job %d: the log has no line %q: %v; it has %q", job, line, err, lines)
			return lines
		}
		lines = append(lines, entry.Text)
		if entry.Text == line {
			break
		}
	}
	return lines
}

// maxBody is the largest request and answer that Google carries, in bytes.
const maxBody = 32 << 20

func TestTheJobBinaryRunsInPlaceOfTheFramework(t *testing.T) {
	e, s := open(t)
	s.LoseExecutable = true
	limits, _ := faas.ProviderLimits(faas.GCPFunctions)
	limit := int(limits.MaxPayloadMB) << 20
	env := map[string]string{"GREETING": "hello = \"wörld\"\n", "HTTP_PROXY": "http://127.0.0.1:1", "AWS_REGION": "x"}
	jobs := []uint32{
		faastest.JobEcho, faastest.JobFail, faastest.JobPanic, faastest.JobEnv, faastest.JobExit, faastest.JobLog,
		faastest.JobAnswer,
	}
	deploy(t, e, inspect(t, faastest.JobBinary(t)), settings(30, env), jobs...)
	for _, want := range []outcome{
		{job: faastest.JobEcho},
		{job: faastest.JobEcho, args: "\x00\xff\"\\", output: "\x00\xff\"\\"},
		{job: faastest.JobFail, args: "no luck", code: faas.ErrFunctionFailed, text: "no luck"},
		{job: faastest.JobPanic, args: "out of cheese", code: faas.ErrFunctionFailed, text: "out of cheese"},
		{job: faastest.JobEnv, args: "GREETING", output: env["GREETING"]},
		{job: faastest.JobEnv, args: "FUNCTION_TARGET", output: "Job"},
		{job: faastest.JobExit, args: "3", code: faas.ErrFunctionFailed, text: "the instance ended before it answered"},
		{job: faastest.JobExit, args: "0", code: faas.ErrFunctionFailed, text: "the instance ended before it answered"},
		{job: faastest.JobLog, args: "a line of log", output: "a line of log"},
		{job: faastest.JobEcho, args: strings.Repeat("\x00", limit), output: strings.Repeat("\x00", limit)},
		{job: faastest.JobEcho, args: strings.Repeat("\x00", limit+1), code: faas.ErrTooLarge},
		{job: faastest.JobAnswer, args: fmt.Sprint(limit), output: strings.Repeat("\x00", limit)},
		{job: faastest.JobAnswer, args: fmt.Sprint(limit + 1), code: faas.ErrTooLarge},
		{job: faastest.JobEcho, args: "again", output: "again"},
	} {
		want.check(t, e)
	}
	if n, err := e.Warm(t.Context(), faastest.JobEcho, 3); n != 3 || err != nil {
		t.Errorf("%d warm, %v", n, err)
	}
	logged(t, e, faastest.JobLog, "a line of log")
}

func TestTheJobBinaryIsGivenUpAtItsTimeout(t *testing.T) {
	e, _ := open(t)
	deploy(t, e, inspect(t, faastest.JobBinary(t)), settings(1, nil), faastest.JobSleep, faastest.JobEcho)
	outcome{job: faastest.JobSleep, args: "60000", code: faas.ErrTimeout}.check(t, e)
	outcome{job: faastest.JobSleep, args: "1", output: "1"}.check(t, e)
}

// program is a program that does not know Google.
const program = `
request=$(cat)
case $request in
*'"args":[49]'*) echo "a line of log" >&2; printf '{"result":[52,50]}' ;;
*'"args":[50]'*) printf '{"job_id":0,"result":[],"success":false,"error":"no moon today"}'; exit 1 ;;
*'"args":[51]'*) echo "out of cheese" >&2; exit 3 ;;
*'"args":[52]'*) printf garbage ;;
*'"args":[53]'*) ;;
*'"args":[54]'*) kill -9 $$ ;;
*'"args":[55]'*) printf '{"result":[%d]}' "$(printf '%s' "$GREETING" | wc -c)" ;;
*'"args":[56]'*) head -c 40000000 /dev/zero | tr '\0' ' '; printf '{"result":[]}' ;;
*'"args":[57]'*) sleep 60 9>"$HELD" & printf '{"result":[57]}' ;;
*'"args":[58]'*) sleep 60 9>"$HELD" ;;
*) printf '{"result":[%d]}' "$(($(printf %s "$request" | wc -c) % 256))" ;;
esac`

func TestAProgramOnStdinAndStdoutRunsBehindTheFramework(t *testing.T) {
	e, s := open(t)
	s.LoseExecutable = true
	env := map[string]string{"GREETING": "hello 'wörld'\n."}
	large := strings.Repeat("\xff", (maxBody-64)/len("255,"))
	deploy(t, e, script(t, program), settings(30, env), 0)
	for _, want := range []outcome{
		{args: "1", output: "42"},
		{args: "2", code: faas.ErrFunctionFailed, text: "no moon today", exit: 1},
		{args: "3", code: faas.ErrFunctionFailed, text: "exit status 3", exit: 3},
		{args: "4", code: faas.ErrUnavailable, text: "garbage"},
		{args: "5", code: faas.ErrFunctionFailed, text: "the binary wrote no answer"},
		{args: "6", code: faas.ErrFunctionFailed, text: "signal: killed", exit: -1},
		{args: "7", output: string([]byte{byte(len(env["GREETING"]))})},
		{args: "8", code: faas.ErrTooLarge, text: "larger than 32 MiB"},
		{args: large, output: string([]byte{byte(len(faas.AppendRequest(nil, 0, []byte(large))) % 256)})},
		{args: "1", output: "42"},
	} {
		want.check(t, e)
	}
	if n, err := e.Warm(t.Context(), 0, 3); n != 3 || err != nil {
		t.Errorf("%d warm, %v", n, err)
	}
	logged(t, e, 0, "a line of log")
	logged(t, e, 0, "out of cheese")
}

// held returns an environment that names a file which processes can hold open. await waits until
// some have held it and none does any more.
func held(t *testing.T) (env map[string]string, await func()) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "held")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		f, err := os.Open(path) // waits for a writer
		if err == nil {
			_, err = io.Copy(io.Discard, f) // until there is none
			f.Close()
		}
		ended <- err
	}()
	return map[string]string{"HELD": path}, func() {
		t.Helper()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Error("what the program has started still runs")
		}
	}
}

func TestWhatAProgramLeavesRunningEndsWithItsCall(t *testing.T) {
	e, _ := open(t)
	env, await := held(t)
	deploy(t, e, script(t, program), settings(30, env), 0)
	outcome{args: "9", output: "9"}.check(t, e)
	await()
}

// Google tells the framework how long a call may take, and the framework then ends the call. Its
// answer and that of Google's front end race, so both must look the same.
func TestAProgramIsStoppedAtItsTimeout(t *testing.T) {
	for name, timeout := range map[string]struct{ frontEnd, framework uint32 }{
		"front end": {1, 30},
		"framework": {30, 1},
	} {
		t.Run(name, func(t *testing.T) {
			e, _ := open(t)
			env, await := held(t)
			env["CLOUD_RUN_TIMEOUT_SECONDS"] = fmt.Sprint(timeout.framework)
			deploy(t, e, script(t, program), settings(timeout.frontEnd, env), 0)
			outcome{args: ":", code: faas.ErrTimeout}.check(t, e)
			await()
			outcome{args: "1", output: "42"}.check(t, e)
		})
	}
}
