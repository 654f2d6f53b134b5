package serverless_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

func init() {
	roles["detached-crash"] = func() error {
		fmt.Println("begins")
		svc, err := deployDetached(context.Background(), os.Getenv(stateEnv), os.Getenv(binaryEnv), os.Getenv(serviceEnv))
		if err == nil {
			err = svc.Close(context.Background())
		}
		fmt.Println("ends")
		return err
	}
}

// deployDetached deploys a service whose only job is local, with a detached runner.
func deployDetached(ctx context.Context, state, binary, arg string) (*serverless.Service, error) {
	spec := serverless.ServiceSpec{Name: "svc", BlueprintID: 1, BinaryPath: binary, Args: []string{arg},
		Env: map[string]string{"STATE": state}}
	return serverless.Deploy(ctx, spec, serverless.WithPolicy(policy(false, false)),
		serverless.WithMetadata(metadata("s")),
		serverless.WithStateDir(state), serverless.WithOrchestrator(detached(state)))
}

// carriers returns the processes that have the service's environment, and the mark of each.
func carriers(t *testing.T, state string) (marks []string) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/environ")
		env := strings.Split(string(text), "\x00")
		if err != nil || !slices.Contains(env, "STATE="+state) {
			continue
		}
		mark := ""
		for _, kv := range env {
			if value, ok := strings.CutPrefix(kv, "BLUEPRINT_RUNNER_ID="); ok {
				mark = value
			}
		}
		marks = append(marks, mark)
	}
	return marks
}

// recordedMark returns the mark of the runner that the ledger records; empty for none.
func recordedMark(t *testing.T, state string) string {
	t.Helper()
	infos, err := serverless.ListServices(state)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range infos {
		if info.Runner != nil {
			var private struct {
				Process struct {
					Mark string `json:"mark"`
				} `json:"process"`
			}
			if err := json.Unmarshal(info.Runner.Private, &private); err != nil || private.Process.Mark == "" {
				t.Fatalf("the ledger's runner has no mark: %s, %v", info.Runner.Private, err)
			}
			return private.Process.Mark
		}
	}
	return ""
}

// A process that deploys a detached runner is killed at random moments, again and again. Only the
// runner that the ledger records may run, and once the service is undeployed nothing runs or is
// left.
func TestNoDetachedRunnerRunsUntoldWhenItsDeployerIsKilled(t *testing.T) {
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	state, binary := t.TempDir(), script(t)
	text := `#!/bin/sh
setsid sh -c 'while :; do sleep 0.1; done' &
while :; do sleep 0.1; done
`
	if err := os.WriteFile(binary, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	undeploy := func() {
		t.Helper()
		svc, err := serverless.OpenService(t.Context(), "svc", serverless.WithStateDir(state),
			serverless.WithOrchestrator(detached(state)))
		if errors.Is(err, faas.ErrNotFound) {
			return
		}
		if err == nil {
			err = svc.Undeploy(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { undeploy() })
	killed, ran := 0, 0
	for range *crashRuns {
		o, err := startOther(t, "detached-crash", stateEnv+"="+state, binaryEnv+"="+binary,
			serviceEnv+"="+strconv.Itoa(rng.IntN(2)))
		if err != nil {
			t.Fatal(err)
		}
		if line := o.line(); line != "begins" {
			t.Fatalf("%q: %v: %s", line, o.cmd.Wait(), o.stderr.String())
		}
		time.Sleep(time.Duration(rng.IntN(60_000)) * time.Microsecond) // a random moment, not a state to wait for
		if err := o.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		if o.cmd.Wait() != nil && o.line() != "ends" {
			killed++
		}
		if recordedMark(t, state) != "" && len(carriers(t, state)) > 0 {
			ran++
		}
		var marks []string
		await(t, "only the recorded runner runs", func() bool {
			mark := recordedMark(t, state)
			marks = carriers(t, state)
			return !slices.ContainsFunc(marks, func(m string) bool { return m != mark })
		})
		if rng.IntN(3) == 0 {
			undeploy()
			if left := carriers(t, state); len(left) > 0 || recordedMark(t, state) != "" {
				t.Fatalf("after Undeploy processes of %q run, and the ledger records %q", left, recordedMark(t, state))
			}
		}
	}
	svc, err := deployDetached(t.Context(), state, binary, "last")
	if err != nil {
		t.Fatal(err)
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	copies, err := filepath.Glob(filepath.Join(state, "logs", "*.runner-*"))
	ledgers, lerr := filepath.Glob(filepath.Join(state, "*.ledger"))
	if left := carriers(t, state); len(left) > 0 || len(copies) > 0 || len(ledgers) > 0 || err != nil || lerr != nil {
		t.Errorf("left are processes of %q, copies %q, ledgers %q, %v, %v", left, copies, ledgers, err, lerr)
	}
	t.Logf("%d of %d were killed before they had ended, after %d a runner ran; seed %d", killed, *crashRuns, ran, seed)
}
