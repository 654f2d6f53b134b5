package serverless_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

func init() {
	roles["runner"] = func() error { return runUntilKilled(&orchestrator.Local{}) }
	roles["detached"] = func() error {
		return runUntilKilled(detached(os.Getenv(stateEnv)))
	}
}

const pidFileEnv = "SERVERLESS_TEST_PIDFILE"

// runUntilKilled deploys a service whose only job is local, prints a line, and stays.
func runUntilKilled(orc orchestrator.Orchestrator) error {
	spec := serverless.ServiceSpec{
		Name: "svc", BlueprintID: 1, BinaryPath: os.Getenv(binaryEnv), Args: []string{"run"},
		Env: map[string]string{"PIDFILE": os.Getenv(pidFileEnv), "KEY": canary},
	}
	_, err := serverless.Deploy(context.Background(), spec, serverless.WithPolicy(policy(false, false)),
		serverless.WithMetadata(metadata("s")),
		serverless.WithStateDir(os.Getenv(stateEnv)), serverless.WithOrchestrator(orc))
	if err != nil {
		return err
	}
	fmt.Println("deployed")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// deployElsewhere deploys in another process. Once the runner is up, it calls before and kills that
// process. It returns the runner's process id.
func deployElsewhere(t *testing.T, role string, spec serverless.ServiceSpec, state, pidFile string,
	before ...func()) string {
	t.Helper()
	o, err := startOther(t, role, stateEnv+"="+state, binaryEnv+"="+spec.BinaryPath, pidFileEnv+"="+pidFile)
	if err != nil {
		t.Fatal(err)
	}
	if line := o.line(); line != "deployed" {
		t.Fatalf("%q: %v: %s", line, o.cmd.Wait(), o.stderr.String())
	}
	id := runnerPID(t, pidFile)
	for _, f := range before {
		f()
	}
	if err := o.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = o.cmd.Wait() // it was killed
	return id
}

func runnerPID(t *testing.T, pidFile string) string {
	t.Helper()
	await(t, "the runner is up", fileHas(pidFile, "\n"))
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// runs reports whether a process runs.
func runs(pid string) bool {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(after, "Z")
}

func TestARunnerIsGoneWhenTheDeployingProcessIsKilled(t *testing.T) {
	s, pidFile := runnerSpec(t, runnerScript)
	pid := deployElsewhere(t, "runner", s, t.TempDir(), pidFile)
	await(t, "it is gone", func() bool { return !runs(pid) })
}

// A process that the runner started in a session of its own, without its environment, is gone too.
func TestWhatARunnerHasStartedIsGoneWhenTheDeployingProcessIsKilled(t *testing.T) {
	const stray = `(env -i PATH="$PATH" setsid sh -c 'echo $$ >"$0"; while :; do sleep 0.02; done' \
	"$PIDFILE.stray" </dev/null >/dev/null 2>&1 &)
while :;`
	s, pidFile := runnerSpec(t, strings.Replace(runnerScript, "while :;", stray, 1))
	pid := deployElsewhere(t, "runner", s, t.TempDir(), pidFile, func() { runnerPID(t, pidFile+".stray") })
	strayPID := runnerPID(t, pidFile+".stray")
	await(t, "both are gone", func() bool { return !runs(pid) && !runs(strayPID) })
}

func TestARunnerIsGoneAfterUndeployAndAfterAFailure(t *testing.T) {
	for name, orc := range map[string]orchestrator.Orchestrator{
		"attached": &orchestrator.Local{}, "detached": detached(t.TempDir())} {
		t.Run(name, func(t *testing.T) {
			s, pidFile := runnerSpec(t, runnerScript)
			svc := deployBeside(t, s, "fs", serverless.WithOrchestrator(orc))
			pid := runnerPID(t, pidFile)
			if err := svc.Undeploy(t.Context()); err != nil {
				t.Fatal(err)
			}
			if runs(pid) {
				t.Error("it runs after Undeploy")
			}
			if err := os.Remove(pidFile); err != nil {
				t.Fatal(err)
			}
			state := t.TempDir()
			cloud := faastest.NewMemory(faastest.WithScript(func(c faastest.Call) *faastest.Fault {
				if c.Op != faastest.OpConverge {
					return nil
				}
				pid = runnerPID(t, pidFile)
				return &faastest.Fault{Kind: faastest.Denied}
			}))
			_, err := serverless.Deploy(t.Context(), s, serverless.WithPolicy(policy(true, false)),
				serverless.WithMetadata(metadata("fs")), serverless.WithExecutor(cloud.Executor("svc")),
				serverless.WithStateDir(state), serverless.WithOrchestrator(orc))
			if !errors.Is(err, faas.ErrPermissionDenied) {
				t.Errorf("error %v, want permission denied", err)
			}
			if runs(pid) {
				t.Error("it runs after a failed deployment")
			}
			if infos, err := serverless.ListServices(state); err != nil || len(infos) > 0 {
				t.Errorf("left in the ledger: %+v, %v", infos, err)
			}
		})
	}
}

func TestADetachedRunnerOutlivesItsProgramAndIsFoundAgain(t *testing.T) {
	state := t.TempDir()
	s, pidFile := runnerSpec(t, runnerScript)
	pid := deployElsewhere(t, "detached", s, state, pidFile)
	opts := []serverless.OpenOption{serverless.WithStateDir(state), serverless.WithOrchestrator(detached(state))}
	svc, err := serverless.OpenService(t.Context(), "svc", opts...)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := svc.Health(t.Context()); err != nil || h.Runner == nil || !h.Runner.Healthy || !runs(pid) {
		t.Errorf("health %+v, %v", h, err)
	}
	if _, err := svc.Invoke(t.Context(), 0, nil); !errors.Is(err, faas.ErrUnsupported) {
		t.Errorf("invoking a local job without its environment: %v", err)
	}
	if err := svc.Close(t.Context()); err != nil || !runs(pid) {
		t.Errorf("closing the handle: %v; the runner runs: %t", err, runs(pid))
	}

	deploy := func() *serverless.Service {
		t.Helper()
		svc, err := serverless.Deploy(t.Context(), s,
			deployOptions(opts, serverless.WithPolicy(policy(false, false)), serverless.WithMetadata(metadata("s")))...)
		if err != nil {
			t.Fatal(err)
		}
		if result, err := svc.Invoke(t.Context(), 0, nil); err != nil || string(result.Output) != "\a" {
			t.Errorf("a local job: %v, %v", result, err)
		}
		return svc
	}
	svc = deploy()
	if again := runnerPID(t, pidFile); again != pid || !runs(pid) {
		t.Errorf("an unchanged deployment replaced process %s by %s", pid, again)
	}
	if err := svc.Close(t.Context()); err != nil {
		t.Error(err)
	}

	if err := os.Remove(pidFile); err != nil {
		t.Fatal(err)
	}
	s.Args = []string{"differently"}
	svc = deploy()
	again := runnerPID(t, pidFile)
	if again == pid || runs(pid) || !runs(again) {
		t.Errorf("a changed deployment: the earlier process %s runs: %t; the new one %s: %t", pid, runs(pid), again,
			runs(again))
	}
	if err := svc.Close(t.Context()); err != nil {
		t.Error(err)
	}

	if svc, err = serverless.OpenService(t.Context(), "svc", opts...); err != nil {
		t.Fatal(err)
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(state, "logs", "svc.log")
	if runs(again) || !fileHas(log, "runs with differently\n")() || !fileHas(log, "stopped gracefully\n")() {
		t.Errorf("after Undeploy it runs: %t, or its log lacks something", runs(again))
	}
	if infos, err := serverless.ListServices(state); err != nil || len(infos) > 0 {
		t.Errorf("left in the ledger: %+v, %v", infos, err)
	}
}

func TestADetachedRunnerThatIsReplacedByAnotherKindIsStopped(t *testing.T) {
	state := t.TempDir()
	s, pidFile := runnerSpec(t, runnerScript)
	pid := deployElsewhere(t, "detached", s, state, pidFile)
	opts := []serverless.DeployOption{serverless.WithStateDir(state), serverless.WithPolicy(policy(false, false)),
		serverless.WithMetadata(metadata("s"))}
	_, err := serverless.Deploy(t.Context(), s, append(opts, serverless.WithOrchestrator(otherOrchestrator{}))...)
	if !errors.Is(err, faas.ErrConflict) || !runs(pid) {
		t.Errorf("an orchestrator that does not know such runners: %v, want a conflict and the runner as it was (runs: %t)",
			err, runs(pid))
	}
	svc, err := serverless.Deploy(t.Context(), s, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if runs(pid) {
		t.Error("the detached runner still runs beside the new one")
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if infos, err := serverless.ListServices(state); err != nil || len(infos) > 0 {
		t.Errorf("left in the ledger: %+v, %v", infos, err)
	}
}

type otherOrchestrator struct{}

func (otherOrchestrator) Start(context.Context, orchestrator.Spec) (orchestrator.Runner, error) {
	return nil, errors.New("it must not be asked")
}

// strayScript is a runner and a job binary that leave a process behind: STRAY starts the script
// that stays, with the name of a file.
const strayScript = `#!/bin/sh
cat >"$DIR/stray" <<'END'
trap '' TERM HUP INT
echo $$ >"$1.new"
mv "$1.new" "$1"
while :; do sleep 0.02; done
END
if [ $# -eq 0 ]; then
	cat >/dev/null
	set -- "$DIR/of-a-job"
	STRAY
	while [ ! -e "$1" ]; do sleep 0.01; done
	echo '{"result":[7]}'
	exit
fi
set -- "$DIR/of-the-runner"
STRAY
while :; do sleep 0.02; done
`

func TestNothingIsLeftOfWhatARunnerHasStarted(t *testing.T) {
	for name, stray := range map[string]string{
		"another session":         `setsid sh "$DIR/stray" "$1" &`,
		"nobody's child":          `(setsid sh "$DIR/stray" "$1" </dev/null >/dev/null 2>&1 &)`,
		"with its output":         `(setsid sh "$DIR/stray" "$1" &)`,
		"without its environment": `(env -i PATH="$PATH" setsid sh "$DIR/stray" "$1" </dev/null >/dev/null 2>&1 &)`,
		"twice over": `(setsid sh -c '(env -i PATH="$PATH" setsid sh "$0" "$1" &)' "$DIR/stray" "$1" \
	</dev/null >/dev/null 2>&1 &)`,
		"with another mark in it": `(BLUEPRINT_RUNNER_ID=none TMPDIR=/ setsid sh "$DIR/stray" "$1" &)`,
		"the runner itself has one": `[ -n "$LEADS" ] || [ "${1%of-a-job}" != "$1" ] && (setsid sh "$DIR/stray" "$1" &) ||
	LEADS=1 exec setsid -w "$0" again`,
	} {
		for kind, end := range map[string]func(*serverless.Service) error{
			"attached": func(svc *serverless.Service) error { return svc.Undeploy(context.Background()) },
			"closed":   func(svc *serverless.Service) error { return svc.Close(context.Background()) },
			"detached": func(svc *serverless.Service) error { return svc.Undeploy(context.Background()) },
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				s, _ := runnerSpec(t, strings.ReplaceAll(strayScript, "STRAY", stray))
				s.Env["DIR"] = dir
				orc := &orchestrator.Local{StopTimeout: 100 * time.Millisecond}
				if kind == "detached" {
					orc.Detached, orc.LogDir = true, t.TempDir()
				}
				svc := deployBeside(t, s, "fs", serverless.WithOrchestrator(orc))
				strays := []string{runnerPID(t, filepath.Join(dir, "of-the-runner"))}
				if result, err := svc.Invoke(t.Context(), 1, nil); err != nil || string(result.Output) != "\a" {
					t.Errorf("a local job: %v, %v", result, err)
				}
				strays = append(strays, runnerPID(t, filepath.Join(dir, "of-a-job")))
				if !runs(strays[0]) {
					t.Errorf("process %s does not run", strays[0])
				}
				if err := end(svc); err != nil {
					t.Error(err)
				}
				for i, pid := range strays {
					if runs(pid) {
						t.Errorf("process %s is left, of %s", pid, []string{"the runner", "a job"}[i])
					}
				}
			})
		}
	}
}
