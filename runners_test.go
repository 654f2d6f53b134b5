//go:build linux || darwin

package serverless_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// buildRunners builds the programs in testdata/runner, which share nothing, and returns their
// directory.
func buildRunners(t testing.TB) string {
	t.Helper()
	dir := t.TempDir() + string(os.PathSeparator)
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", dir}
	for _, name := range []string{"waits", "asks", "answers", "plain"} {
		args = append(args, "./testdata/runner/"+name)
	}
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir
}

// serviceScript is the same service as a shell script.
const serviceScript = `#!/bin/sh
if [ -z "$BLUEPRINT_FAAS_CONFIG" ]; then
	cat >/dev/null
	echo '{"result":[106,111,98]}'
	exit
fi
trap 'echo stopped >>"$FACTS"; exit' TERM
echo "runner $$ [$*]" >>"$FACTS"
while :; do sleep 0.02; done
`

func detached(state string) *orchestrator.Local {
	return &orchestrator.Local{Detached: true, LogDir: filepath.Join(state, "logs")}
}

func writeScript(t testing.TB, text string) string {
	t.Helper()
	path := script(t)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(path string) string {
	text, _ := os.ReadFile(path)
	return string(text)
}

// hybrid deploys job 0 to a cloud, and job 1 beside it.
func hybrid(t testing.TB, spec serverless.ServiceSpec, opts ...serverless.DeployOption) *serverless.Service {
	t.Helper()
	return deployBeside(t, spec, "fs", opts...)
}

func TestWhateverStaysUpIsARunner(t *testing.T) {
	dir := buildRunners(t)
	const unsupported = ""
	for _, tt := range []struct {
		name, binary string
		args         []string
		answers      string // of the local job, or unsupported
	}{
		{"it waits when it is told what to delegate", dir + "waits", []string{"run", "--pretty"}, unsupported},
		{"it does so without arguments", dir + "waits", nil, unsupported},
		{"it asks what is requested", dir + "asks", []string{"run", "-v"}, unsupported},
		{"it asks without arguments", dir + "asks", nil, unsupported},
		{"it answers beside its work", dir + "answers", []string{"run"}, "41"},
		{"it knows nothing of this module", dir + "plain", []string{"run", "--dry-run"}, "job"},
		{"it is a script", writeScript(t, serviceScript), []string{"run", "a b"}, "job"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			facts := filepath.Join(t.TempDir(), "facts")
			s := serverless.ServiceSpec{Name: "svc", BlueprintID: 1, BinaryPath: tt.binary, Args: tt.args,
				Env: map[string]string{"FACTS": facts, "KEY": canary}}
			svc := hybrid(t, s, serverless.WithOrchestrator(&orchestrator.Local{HelloTimeout: time.Second}))
			await(t, "the service is up", fileHas(facts, "runner "))
			if want := "[" + strings.Join(tt.args, " ") + "]\n"; !strings.HasSuffix(readFile(facts), want) ||
				strings.Contains(readFile(facts), "without") {
				t.Errorf("the runner says %q, want %q at its end", readFile(facts), want)
			}
			if result, err := svc.Invoke(t.Context(), 0, nil); err != nil || string(result.Output) != "faas 0" {
				t.Errorf("the job on FaaS: %v, %v", result, err)
			}
			result, err := svc.Invoke(t.Context(), 1, nil)
			warned := strings.Contains(strings.Join(svc.Warnings(), "\n"), "[1] cannot be invoked")
			var fe *faas.Error
			switch {
			case tt.answers != unsupported:
				if err != nil || string(result.Output) != tt.answers || warned {
					t.Errorf("the local job: %v, %v, want %q; warnings %q", result, err, tt.answers, svc.Warnings())
				}
			case !errors.Is(err, faas.ErrUnsupported) || !errors.As(err, &fe) || !fe.NotRun || fe.JobID != 1 ||
				!strings.Contains(err.Error(), "takes calls") || !warned:
				t.Errorf("the local job: %v, want unsupported with the reason; warnings %q", err, svc.Warnings())
			}
			if h, err := svc.Health(t.Context()); err != nil || !h.Healthy {
				t.Errorf("health %+v, %v", h, err)
			}
			if n := strings.Count(readFile(facts), "runner "); n != 1 {
				t.Errorf("%d runners were started, want one: %q", n, readFile(facts))
			}
			if err := svc.Undeploy(t.Context()); err != nil {
				t.Error(err)
			}
			if !strings.HasSuffix(readFile(facts), "stopped\n") {
				t.Errorf("it was not asked to end: %q", readFile(facts))
			}
		})
	}
}

// A binary that only has jobs for functions is not needed as a runner if every job is on FaaS.
func TestABinaryThatEndsAtOnceIsNoRunner(t *testing.T) {
	s := serverless.ServiceSpec{Name: "svc", BlueprintID: 1, BinaryPath: faastest.JobBinary(t)}
	svc := deployBeside(t, s, "ff")
	if h, err := svc.Health(t.Context()); err != nil || !h.Healthy || len(svc.Warnings()) > 0 {
		t.Errorf("health %+v, %v, warnings %q", h, err, svc.Warnings())
	}
	// It ends with code 2, because its concurrency is invalid.
	s.Env = map[string]string{"BLUEPRINT_JOB_CONCURRENCY": "none"}
	cloud := faastest.NewMemory()
	_, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(true, false)),
		serverless.WithMetadata(metadata("fs")), serverless.WithExecutor(cloud.Executor("svc")),
		serverless.WithStateDir(t.TempDir()))
	if !errors.Is(err, faas.ErrFunctionFailed) || !strings.Contains(err.Error(), "exit code 2") {
		t.Errorf("a runner that ends with an error: %v", err)
	}
}

func TestALocalJobWithoutARunnerIsUnsupported(t *testing.T) {
	state := t.TempDir()
	cloud := faastest.NewMemory(faastest.WithJob(answer))
	s := serverless.ServiceSpec{Name: "svc", BlueprintID: 1, BinaryPath: script(t)}
	opts := []serverless.DeployOption{serverless.WithStateDir(state), serverless.WithExecutor(cloud.Executor("svc"))}
	svc, err := serverless.Deploy(t.Context(), s,
		append(opts, serverless.WithPolicy(policy(true, false)), serverless.WithMetadata(metadata("fs")))...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = svc.Undeploy(context.Background()) }()
	found, err := serverless.OpenService(t.Context(), "svc", serverless.WithStateDir(state),
		serverless.WithExecutor(cloud.Executor("svc")))
	if err != nil {
		t.Fatal(err)
	}
	var fe *faas.Error
	if _, err := found.Invoke(t.Context(), 1, nil); !errors.Is(err, faas.ErrUnsupported) || !errors.As(err, &fe) ||
		!fe.NotRun {
		t.Errorf("a local job: %v, want unsupported", err)
	}
	if _, err := found.Invoke(t.Context(), 9, nil); !errors.Is(err, faas.ErrNotFound) {
		t.Errorf("no job: %v, want not found", err)
	}
	if err := found.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestABinaryThatIsMissingIsNotFound(t *testing.T) {
	s := serverless.ServiceSpec{Name: "svc", BlueprintID: 1, BinaryPath: filepath.Join(t.TempDir(), "none")}
	for name, enable := range map[string]bool{"serverless": true, "traditional": false} {
		cloud := faastest.NewMemory()
		_, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(enable, false)),
			serverless.WithMetadata(metadata("fs")), serverless.WithExecutor(cloud.Executor("svc")),
			serverless.WithStateDir(t.TempDir()))
		if !errors.Is(err, faas.ErrNotFound) {
			t.Errorf("%s: %v, want not found", name, err)
		}
	}
}

// versionScript is a version of a binary that is both a runner and a job binary.
func versionScript(version int) string {
	return strings.ReplaceAll(fmt.Sprintf(`#!/bin/sh
if [ -z "$BLUEPRINT_FAAS_CONFIG" ]; then cat >/dev/null; echo '{"result":[%d]}'; exit; fi
echo "$$ VERSION" >>"$FACTS"
while :; do sleep 0.02; done
`, version), "VERSION", fmt.Sprint(version))
}

// The file is replaced, and then removed, after the deployment. Restarts and calls still run what
// was deployed.
func TestWhatIsStartedAgainIsWhatWasDeployed(t *testing.T) {
	for name, orc := range map[string]*orchestrator.Local{"attached": {}, "detached": detached(t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			facts := filepath.Join(t.TempDir(), "facts")
			s := serverless.ServiceSpec{Name: "svc", BlueprintID: 1, BinaryPath: writeScript(t, versionScript(1)),
				Args: []string{"run"}, Env: map[string]string{"FACTS": facts}}
			svc := hybrid(t, s, serverless.WithOrchestrator(orc))
			for i, change := range []func() error{
				func() error { return os.WriteFile(s.BinaryPath, []byte(versionScript(2)), 0o755) }, // in place
				func() error { return os.Remove(s.BinaryPath) },
			} {
				await(t, "it runs", func() bool { return strings.Count(readFile(facts), "\n") == i+1 })
				if err := change(); err != nil {
					t.Fatal(err)
				}
				lines := strings.Split(strings.TrimSpace(readFile(facts)), "\n")
				var pid int
				if _, err := fmt.Sscan(lines[i], &pid); err != nil {
					t.Fatal(err)
				}
				p, err := os.FindProcess(pid)
				if err == nil {
					err = p.Kill()
				}
				if err != nil {
					t.Fatal(err)
				}
				await(t, "it runs again", func() bool { return strings.Count(readFile(facts), "\n") == i+2 })
				if result, err := svc.Invoke(t.Context(), 1, nil); err != nil || string(result.Output) != "\x01" {
					t.Errorf("a local job: %v, %v", result, err)
				}
			}
			if strings.Count(readFile(facts), " 1\n") != 3 {
				t.Errorf("the runners said %q, want that all are of version 1", readFile(facts))
			}
			if err := svc.Undeploy(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// swapping replaces a file just before it starts a runner.
type swapping struct {
	*orchestrator.Local
	replace func() error
}

func (r swapping) Start(ctx context.Context, spec orchestrator.Spec) (orchestrator.Runner, error) {
	if err := r.replace(); err != nil {
		return nil, err
	}
	return r.Local.Start(ctx, spec)
}

// The file is replaced between its inspection and the start.
func TestAFileThatIsReplacedBeforeTheStartIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		enable bool
		orc    *orchestrator.Local
	}{
		"hybrid": {true, &orchestrator.Local{}}, "hybrid, detached": {true, detached(t.TempDir())},
		"traditional": {false, &orchestrator.Local{}},
	} {
		t.Run(name, func(t *testing.T) {
			facts := filepath.Join(t.TempDir(), "facts")
			s := serverless.ServiceSpec{Name: "svc", BlueprintID: 1, BinaryPath: writeScript(t, versionScript(1)),
				Args: []string{"run"}, Env: map[string]string{"FACTS": facts}}
			svc, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(tt.enable, false)),
				serverless.WithMetadata(metadata("fs")),
				serverless.WithExecutor(faastest.NewMemory().Executor("svc")), serverless.WithStateDir(t.TempDir()),
				serverless.WithOrchestrator(swapping{tt.orc,
					func() error { return os.WriteFile(s.BinaryPath, []byte(versionScript(2)), 0o755) }}))
			if svc != nil {
				t.Cleanup(func() { _ = svc.Undeploy(context.Background()) })
			}
			if !errors.Is(err, faas.ErrConflict) || !strings.Contains(err.Error(), s.BinaryPath) {
				t.Errorf("error %v, want a conflict that names the file", err)
			}
			if readFile(facts) != "" {
				t.Errorf("it ran: %q", readFile(facts))
			}
			if tt.orc.LogDir != "" {
				if left, err := filepath.Glob(filepath.Join(tt.orc.LogDir, "*.runner-*")); err != nil || len(left) > 0 {
					t.Errorf("copies are left: %v, %v", left, err)
				}
			}
		})
	}
}
