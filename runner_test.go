package serverless_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// runnerScript is a binary without faas/job that is a runner if it has arguments. It writes its
// process id to the file that PIDFILE names, and stays.
const runnerScript = `#!/bin/sh
if [ $# -eq 0 ]; then
	cat >/dev/null
	echo '{"result":[7]}'
	exit
fi
trap 'echo stopped gracefully; exit' TERM
echo "runs with $1"
echo "and complains" >&2
echo $$ >"$PIDFILE.new"
mv "$PIDFILE.new" "$PIDFILE"
while :; do sleep 0.02; done
`

// runnerSpec returns a service whose runner stays, and the file with the runner's process id.
func runnerSpec(t testing.TB, text string) (spec serverless.ServiceSpec, pidFile string) {
	t.Helper()
	path := script(t)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	pidFile = filepath.Join(t.TempDir(), "pid")
	return serverless.ServiceSpec{Name: "svc", BlueprintID: 1, BinaryPath: path, Args: []string{"run"},
		Env: map[string]string{"PIDFILE": pidFile, "KEY": canary}}, pidFile
}

// await waits until the condition holds.
func await(t testing.TB, what string, isSo func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !isSo(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for too long until %s", what)
		}
	}
}

func fileHas(path, text string) func() bool {
	return func() bool {
		got, _ := os.ReadFile(path)
		return strings.Contains(string(got), text)
	}
}

// deployBeside deploys jobs as metadata describes them. It fails the test if it cannot.
func deployBeside(t testing.TB, spec serverless.ServiceSpec, jobs string,
	opts ...serverless.DeployOption) *serverless.Service {
	t.Helper()
	cloud := faastest.NewMemory(faastest.WithJob(answer))
	svc, err := serverless.Deploy(t.Context(), spec, append([]serverless.DeployOption{
		serverless.WithPolicy(policy(true, false)), serverless.WithMetadata(metadata(jobs)),
		serverless.WithExecutor(cloud.Executor(spec.Name)), serverless.WithStateDir(t.TempDir()),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = svc.Undeploy(context.Background()) })
	return svc
}

func TestTheRunnerKnowsWhichJobsToDelegate(t *testing.T) {
	s := serverless.ServiceSpec{Name: "svc", BlueprintID: 1, BinaryPath: faastest.JobBinary(t),
		Env: map[string]string{"KEY": canary}}
	jobs := []byte("ffffffff")
	jobs[faastest.JobEnv] = 's'
	svc := deployBeside(t, s, string(jobs))
	result, err := svc.Invoke(t.Context(), faastest.JobEnv, []byte(faas.RunnerConfigEnv))
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := faas.ParseRunnerConfig(string(result.Output))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := slices.Sorted(maps.Keys(cfg)), svc.Strategy().FaaSJobs; !slices.Equal(got, want) {
		t.Errorf("delegated are %v, want %v", got, want)
	}
	if f := cfg[0]; f.Provider != faas.Custom || f.FunctionID != "svc/job0" || f.Service != "svc" || f.Endpoint == "" {
		t.Errorf("job 0 is at %+v", f)
	}
	if result, err := svc.Invoke(t.Context(), faastest.JobEnv, []byte("KEY")); err != nil ||
		string(result.Output) != canary {
		t.Errorf("the service's environment: %v, %v", result, err)
	}
}

func TestARunnerThatCrashesIsStartedAgain(t *testing.T) {
	s := serverless.ServiceSpec{Name: "svc", BlueprintID: 1, BinaryPath: faastest.JobBinary(t)}
	svc := deployBeside(t, s, "sssssss")
	healthy := func() bool {
		h, err := svc.Health(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return h.Runner != nil && h.Runner.Healthy
	}
	if !healthy() {
		t.Error("it is unhealthy at the start")
	}
	for range 3 {
		if _, err := svc.Invoke(t.Context(), faastest.JobExit, []byte("3")); !errors.Is(err, faas.ErrFunctionFailed) {
			t.Errorf("the job that ends its process: %v", err)
		}
	}
	await(t, "it is in a crash loop", func() bool { return !healthy() })
	if result, err := svc.Invoke(t.Context(), faastest.JobEcho, []byte("again")); err != nil ||
		string(result.Output) != "again" {
		t.Errorf("after crashes: %v, %v", result, err)
	}
	if !healthy() {
		t.Error("it is unhealthy after it has answered")
	}
}

func TestArgumentsKeepABinaryRunningAndItsLinesAreKept(t *testing.T) {
	s, pidFile := runnerSpec(t, runnerScript)
	dir := filepath.Join(t.TempDir(), "logs")
	svc := deployBeside(t, s, "ss", serverless.WithOrchestrator(&orchestrator.Local{LogDir: dir}))
	log := filepath.Join(dir, "svc.log")
	await(t, "it has said all", func() bool {
		return fileHas(log, "runs with run\n")() &&
			fileHas(log, "and complains\n")()
	})
	await(t, "it has written its id", fileHas(pidFile, "\n"))
	if result, err := svc.Invoke(t.Context(), 1, nil); err != nil || string(result.Output) != "\a" {
		t.Errorf("a job beside it: %v, %v", result, err)
	}
	if h, err := svc.Health(t.Context()); err != nil || !h.Healthy {
		t.Errorf("health %+v, %v", h, err)
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !fileHas(log, "stopped gracefully\n")() {
		t.Error("it was not stopped gracefully")
	}
}

func TestARunnerThatDoesNotStopIsKilled(t *testing.T) {
	s, pidFile := runnerSpec(t, strings.Replace(runnerScript, "trap 'echo stopped gracefully; exit' TERM", "trap '' TERM",
		1))
	svc := deployBeside(t, s, "s", serverless.WithOrchestrator(
		&orchestrator.Local{StopTimeout: 50 * time.Millisecond}))
	await(t, "it runs", fileHas(pidFile, "\n"))
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestARunnerThatKeepsEndingIsUnhealthy(t *testing.T) {
	s, _ := runnerSpec(t, "#!/bin/sh\nexit 3\n")
	svc := deployBeside(t, s, "s")
	var h *serverless.ServiceHealth
	await(t, "it is in a crash loop", func() (in bool) {
		var err error
		if h, err = svc.Health(t.Context()); err != nil {
			t.Fatal(err)
		}
		return !h.Healthy && strings.Contains(h.Runner.Reason, "keeps ending") &&
			strings.Contains(h.Runner.Reason, "exit code 3")
	})
}

func TestARunnerIsUpWhenItsHealthCheckIsGood(t *testing.T) {
	var asked atomic.Int32
	var status atomic.Int32
	status.Store(http.StatusServiceUnavailable)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 2 {
			status.Store(http.StatusNoContent)
		}
		w.WriteHeader(int(status.Load()))
	}))
	defer srv.Close()
	s, _ := runnerSpec(t, runnerScript)
	svc := deployBeside(t, s, "s", serverless.WithOrchestrator(
		&orchestrator.Local{HealthURL: srv.URL + "/health?token=" + canary}))
	if n := asked.Load(); n < 2 {
		t.Errorf("started after %d questions, and the second answer is the first that is good", n)
	}
	status.Store(http.StatusInternalServerError)
	h, err := svc.Health(t.Context())
	if err != nil || h.Healthy || !strings.Contains(h.Runner.Reason, "500") {
		t.Errorf("health %+v, %v, want the status", h.Runner, err)
	}
	srv.Close()
	if h, err = svc.Health(t.Context()); err != nil || h.Healthy || strings.Contains(fmt.Sprint(h.Runner), canary) {
		t.Errorf("health %+v, %v, want an error without the URL", h.Runner, err)
	}
	_, err = serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(false, false)),
		serverless.WithMetadata(metadata("s")),
		serverless.WithOrchestrator(&orchestrator.Local{HealthURL: srv.URL, StartTimeout: time.Millisecond}))
	if !errors.Is(err, faas.ErrTimeout) || !strings.Contains(err.Error(), "healthy") {
		t.Errorf("a runner that never becomes healthy: %v", err)
	}
}

func TestADetachedRunnerNeedsWhatMakesItFindable(t *testing.T) {
	s, pidFile := runnerSpec(t, runnerScript)
	for name, tt := range map[string]struct {
		orc  orchestrator.Local
		args []string
		says string
	}{
		"no log directory": {orchestrator.Local{Detached: true}, s.Args, "LogDir"},
		"no arguments":     {orchestrator.Local{Detached: true, LogDir: t.TempDir()}, nil, "ServiceSpec.Args"},
	} {
		t.Run(name, func(t *testing.T) {
			s := s
			s.Args = tt.args
			_, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(false, false)),
				serverless.WithMetadata(metadata("s")), serverless.WithOrchestrator(&tt.orc), serverless.WithStateDir(t.TempDir()))
			if !errors.Is(err, faas.ErrInvalidArgument) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %v, want invalid argument that says %q", err, tt.says)
			}
		})
	}
	if _, err := os.Stat(pidFile); err == nil {
		t.Error("it was started")
	}
}

// A program that deploys itself as its own blueprint, and does not notice that it was started as
// the runner, must not deploy itself forever.
func TestARunnerDoesNotStartItself(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := faas.InspectBinary(self)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(faas.RunnerConfigEnv, "{}")
	runner, err := (&orchestrator.Local{}).Start(
		t.Context(), orchestrator.Spec{Service: "svc", Binary: binary, Logger: slog.New(slog.DiscardHandler)})
	if runner != nil || !errors.Is(err, faas.ErrConflict) || !strings.Contains(err.Error(), "job.Offered") {
		t.Errorf("runner %v, error %v", runner, err)
	}
}
