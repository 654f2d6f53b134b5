//go:build (!faas_only || faas_aws) && unix

package aws

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/internal/lambdatest"
)

// A program that does not know Lambda runs behind the shell bootstrap, which is really run here.
func TestAProgramThatSpeaksStdioRunsOnLambda(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"sh", "curl", "sed"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("provided.al2023 has ", tool, ", this machine has not")
		}
	}
	server := serve(t, lambdatest.Config{})
	e := openAt(t, server, "stdio", opening{})
	u := unitOf(t, e, script(t, `
request=$(cat)
case $request in
*'"args":[1]'*) echo "a line of log" >&2; printf '{"result":[4,2]}' ;;
*'"args":[2]'*) printf '{"job_id":0,"result":[],"success":false,"error":"no moon today"}'; exit 1 ;;
*'"args":[3]'*) echo "out of cheese" >&2; exit 3 ;;
*'"args":[4]'*) printf garbage ;;
*'"args":[5]'*) printf '{"result":[%d]}' "${#AWS_LAMBDA_RUNTIME_API}" ;;
*) printf '{"result":[%d]}' "$(($(printf %s "$request" | wc -c) % 256))" ;;
esac`), small(0))
	mustDeploy(t, e, u) // which probes it
	for _, test := range []struct {
		args   []byte
		output []byte
		code   faas.Code
		text   string
	}{
		{[]byte{1}, []byte{4, 2}, "", ""},
		{[]byte{2}, nil, faas.ErrFunctionFailed, "no moon today"},
		{[]byte{3}, nil, faas.ErrFunctionFailed, "exit status 3"},
		{[]byte{4}, nil, faas.ErrFunctionFailed, "bad answer"},
		{[]byte{5}, []byte{0}, "", ""},
		{bytes.Repeat([]byte{7}, 100_000), []byte{byte((len(`{"job_id":0,"args":[]}`) + 199_999) % 256)}, "", ""},
	} {
		r, err := e.Invoke(t.Context(), 0, test.args)
		if faas.CodeOf(err) != test.code || (err != nil && !strings.Contains(err.Error(), test.text)) {
			t.Errorf("%.10v: %v", test.args, err)
		}
		if err == nil && !bytes.Equal(r.Output, test.output) {
			t.Errorf("%.10v: output %v, want %v", test.args, r.Output, test.output)
		}
		var failed *faas.FunctionError
		if errors.As(err, &failed) && test.args[0] == 3 &&
			(failed.ExitCode != 3 || !strings.Contains(failed.LogTail, "out of cheese")) {
			t.Errorf("exit code %d, log %q", failed.ExitCode, failed.LogTail)
		}
	}
	if n, err := e.Warm(t.Context(), 0, 2); n != 2 || err != nil {
		t.Errorf("%d warm, %v", n, err)
	}
}

func TestABootstrapThatDoesNotStartNeverGoesLive(t *testing.T) {
	t.Parallel()
	server := serve(t, lambdatest.Config{})
	e := openAt(t, server, "broken", opening{})
	u := unitOf(t, e, script(t, "x"), small(0))
	var err error
	u.Files = []faas.PackageFile{{Name: "bootstrap", Content: []byte("#!/bin/sh\necho lost my keys >&2\nexit 7\n"),
		Mode: 0o755}}
	if u.Package, err = faas.BuildPackage(t.Context(), t.TempDir(), u.Files); err != nil {
		t.Fatal(err)
	}
	_, err = deploy(t.Context(), e, u)
	var failed *faas.FunctionError
	if !errors.As(err, &failed) || failed.ExitCode != 7 || !strings.Contains(failed.LogTail, "lost my keys") {
		t.Errorf("got %v", err)
	}
}

// Three jobs of a real binary are deployed, invoked a thousand times at once, updated meanwhile
// without a failed call, rolled back, and removed.
func TestABlueprintLivesThroughAnUpdate(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the functions are binaries for linux")
	}
	server := serve(t, lambdatest.Config{Concurrency: 2000})
	e := openAt(t, server, "blueprint", opening{client: limited(8)})
	path := faastest.JobBinary(t)
	bin, err := faas.InspectBinary(path)
	if err != nil {
		t.Fatal(err)
	}
	next, err := faas.InspectBinary(faastest.AddVersion(t, path, "2"))
	if err != nil {
		t.Fatal(err)
	}
	jobs := []uint32{faastest.JobSquare, faastest.JobEcho, faastest.JobVersion}
	units := func(bin *faas.Binary, change func(*faas.Function)) []faas.Unit {
		var functions []faas.Function
		for _, job := range jobs {
			f := faas.Function{JobID: job, MemoryMB: 256, TimeoutSecs: 60, Env: faas.NewEnv(map[string]string{})}
			change(&f)
			functions = append(functions, f)
		}
		all, err := e.Units(bin, functions)
		if err != nil {
			t.Fatal(err)
		}
		pkg, err := faas.BuildPackage(t.Context(), t.TempDir(), all[0].Files)
		if err != nil {
			t.Fatal(err)
		}
		for i := range all {
			all[i].Package = pkg
		}
		return all
	}
	all := func(units []faas.Unit) error {
		errs := make([]error, len(units))
		var group sync.WaitGroup
		for i, u := range units {
			group.Go(func() { _, errs[i] = deploy(t.Context(), e, u) })
		}
		group.Wait()
		return errors.Join(errs...)
	}
	first := units(bin, func(*faas.Function) {})
	if err := all(first); err != nil {
		t.Fatal(err)
	}

	var calls, cold atomic.Int64
	var group sync.WaitGroup
	call := func() {
		n := rand.Uint64N(1 << 31)
		r, err := e.Invoke(t.Context(), faastest.JobSquare, binary.LittleEndian.AppendUint64(nil, n))
		calls.Add(1)
		switch {
		case err != nil:
			t.Errorf("square of %d: %v", n, err)
		case binary.LittleEndian.Uint64(r.Output) != n*n:
			t.Errorf("square of %d is %v", n, r.Output)
		case r.Metrics.ColdStart:
			cold.Add(1)
		}
	}
	for range 1000 {
		group.Go(call)
	}
	group.Wait()
	if cold.Load() == 0 {
		t.Error("no invocation was a cold start")
	}

	stop := make(chan struct{})
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					call()
				}
			}
		})
	}
	err = all(units(next, func(f *faas.Function) { f.MemoryMB = 300 }))
	close(stop)
	group.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if r, err := e.Invoke(t.Context(), faastest.JobVersion, nil); err != nil || string(r.Output) != "2" {
		t.Errorf("after the update, version %v answers, %v", r, err)
	}

	// The process of a bad update exits at once. The previous version keeps answering, and Restore
	// brings back the state as it was.
	var priors []faas.State
	for _, u := range first {
		s, err := e.Observe(t.Context(), u.ID)
		if err != nil {
			t.Fatal(err)
		}
		priors = append(priors, s)
	}
	if err := all(units(script(t, "x"), func(f *faas.Function) {
		f.Env["CURL_HOME"], f.Env["PATH"] = faas.NewSecret("/nowhere"), faas.NewSecret("/nowhere")
	})); err == nil {
		t.Error("an update whose process cannot start is a success")
	}
	for i := range first {
		if err := e.Restore(t.Context(), priors[i]); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := e.Invoke(t.Context(), faastest.JobVersion, nil); err != nil || string(r.Output) != "2" {
		t.Errorf("after the bad update, version %v answers, %v", r, err)
	}
	for _, u := range first {
		if err := e.Remove(t.Context(), u.ID); err != nil {
			t.Fatal(err)
		}
	}
	if left := server.Left(); !onlyLogs(left) {
		t.Errorf("left %v", left)
	}
	t.Logf("%d invocations, %d cold starts", calls.Load(), cold.Load())
}

// limited returns a client with few connections, so that a thousand calls at once do not start a
// thousand processes on this machine.
func limited(n int) *http.Client {
	return &http.Client{Transport: &http.Transport{MaxConnsPerHost: n, MaxIdleConnsPerHost: n}}
}

// The official CLI is a second, independent client, both of the fake and of what this package
// leaves at Lambda.
func TestTheOfficialCLIAgrees(t *testing.T) {
	t.Parallel()
	cli, err := exec.LookPath("aws")
	if err != nil || testing.Short() {
		t.Skip("needs the AWS CLI, and takes seconds")
	}
	server := serve(t, lambdatest.Config{Handler: answering})
	aws := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, cli, append(args, "--output", "text")...)
		cmd.Env = append(os.Environ(), "AWS_PAGER=")
		for name, value := range server.Environment() {
			if value != "" {
				cmd.Env = append(cmd.Env, name+"="+value)
			}
		}
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("aws %v: %v\n%s", args, err, stderr.Bytes())
		}
		return strings.TrimSpace(string(out))
	}
	e := openAt(t, server, "cli", opening{})
	u := unitOf(t, e, script(t, "x"), small(0))
	mustDeploy(t, e, u)

	dir := t.TempDir()
	answer, payload := filepath.Join(dir, "answer"), filepath.Join(dir, "payload")
	if err := os.WriteFile(payload, []byte(`{"job_id":0,"args":[1]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	log := aws("lambda", "invoke", "--function-name", u.ID, "--qualifier", "live", "--log-type", "Tail", "--payload",
		"fileb://"+payload, "--query", "[ExecutedVersion,LogResult]", answer)
	text, err := os.ReadFile(answer)
	var r faas.Response
	if err != nil || faas.ParseResponse(text, &r) != nil || string(r.Result) != "1-one" {
		t.Errorf("invoke: %s, %v", text, err)
	}
	version, encoded, _ := strings.Cut(log, "\t")
	if tail := logTail(&encoded); version != "1" || metricsOf(tail).Billed == 0 {
		t.Errorf("invoke: version %q, log %q", version, tail)
	}
	if got := aws("lambda", "list-versions-by-function", "--function-name", u.ID, "--query",
		"Versions[].Version"); got != "$LATEST\t1" {
		t.Errorf("versions %q", got)
	}
	events := aws("logs", "filter-log-events", "--log-group-name", "/aws/lambda/"+u.ID, "--start-time", "0", "--query",
		"events[].message")
	if lines, err := logged(t.Context(), e, faas.LogQuery{System: true}, -1); err != nil || len(lines) == 0 ||
		strings.Count(events, "START RequestId: ") != strings.Count(strings.Join(textsOf(lines), "\n"), "START RequestId: ") {
		t.Errorf("the log is %q here, and to the CLI %q (%v)", textsOf(lines), events, err)
	}
	aws("lambda", "update-function-configuration", "--function-name", u.ID, "--memory-size", "999")
	if _, err := e.settled(t.Context(), "test", 0, u.ID, "", nil); err != nil {
		t.Fatal(err)
	}
	if s, err := e.Observe(t.Context(), u.ID); err != nil || s.Current(u) {
		t.Errorf("what the CLI changed is not seen: %+v, %v", s, err)
	}
	aws("lambda", "delete-function", "--function-name", u.ID)
	if _, err := e.Observe(t.Context(), u.ID); faas.CodeOf(err) != faas.ErrNotFound {
		t.Errorf("what the CLI deleted is there: %v", err)
	}

	// The other way round: the CLI creates a function with our tags, and this package completes, reads
	// and removes it.
	zip := filepath.Join(dir, "package.zip")
	data, err := readPackage(u.Package)
	if err == nil {
		err = os.WriteFile(zip, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	aws("lambda", "create-function", "--function-name", u.ID, "--runtime", "provided.al2023", "--handler", "bootstrap",
		"--role", server.RoleARN(), "--zip-file", "fileb://"+zip,
		"--tags", fmt.Sprintf("%s=%s,%s=%s", tagManaged, managedBy, tagService, "cli"))
	if s, err := e.Observe(t.Context(), u.ID); err != nil || s.Status == faas.StatusReady {
		t.Errorf("a function without a live version is ready: %+v, %v", s, err)
	}
	server.ForgetCalls()
	mustDeploy(t, e, u)
	if n := len(server.Calls("UpdateFunctionCode", "CreateFunction")); n != 0 {
		t.Error("the package was uploaded though it was there")
	}
	answers(t, e, 0, "1-one")
	if err := e.Remove(t.Context(), u.ID); err != nil {
		t.Fatal(err)
	}
}
