package serverless_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/orchestrator"
)

// tellScript is a runner that writes its arguments and its environment to a file. Without arguments
// it is a job, whose answer is its environment.
const tellScript = `#!/bin/sh
if [ $# -eq 0 ]; then
	cat >/dev/null
	printf '{"result":['
	env | od -An -v -tu1 | tr -s ' \n' , | sed 's/^,//;s/,$//'
	printf ']}'
	exit
fi
{ echo "ARGS=$*"; env; } >"$TOLD.new"
mv "$TOLD.new" "$TOLD"
while :; do sleep 0.02; done
`

// onChain are the variables of a runner that serves a service on chain.
var onChain = []string{"ARGS", "SERVICE_ID", "BLUEPRINT_ID", "PROTOCOL", "CHAIN", "HTTP_RPC_URL", "TANGLE_CONTRACT",
	"STAKING_CONTRACT", "STATUS_REGISTRY_CONTRACT", "BLUEPRINT_CHAIN_ID", "BLUEPRINT_KEYSTORE_URI",
	"KEYSTORE_URI", "KEYSTORE_PASSWORD", "DATA_DIR", "KEY"}

// chainSpec returns a service on chain whose runner tells what it got, and the file with that.
func chainSpec(t testing.TB) (spec serverless.ServiceSpec, told string) {
	t.Helper()
	for _, name := range onChain {
		if value, set := os.LookupEnv(name); set {
			t.Setenv(name, value) // restores it
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	spec, _ = runnerSpec(t, tellScript)
	told = filepath.Join(t.TempDir(), "told")
	spec.Args, spec.ServiceID, spec.Keystore = nil, new(uint64(0)), "file:///keys/"+canary
	spec.Env = map[string]string{"TOLD": told, "KEY": "of all"}
	spec.RunnerEnv = map[string]string{"KEYSTORE_PASSWORD": canary}
	return spec, told
}

// got returns what a text says of the variables of a runner on chain.
func got(text string) map[string]string {
	vars := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "="); ok && slices.Contains(onChain, name) {
			vars[name] = value
		}
	}
	return vars
}

func heard(t testing.TB, told string) map[string]string {
	t.Helper()
	await(t, "the runner told its environment", fileHas(told, "ARGS="))
	text, err := os.ReadFile(told)
	if err != nil {
		t.Fatal(err)
	}
	return got(string(text))
}

const rpcURL = "https://user:" + canary + "@node.example/v3/" + canary + "?key=" + canary

func TestARunnerOnChainGetsWhatTheManagerGives(t *testing.T) {
	spec, told := chainSpec(t)
	dir := t.TempDir()
	var events []string
	svc := deployBeside(t, spec, "fs", serverless.WithStateDir(dir),
		serverless.WithFetch(serverless.WithRPC(rpcURL, "http://second.example"), serverless.WithChainID(84532)),
		serverless.WithEvents(func(e serverless.Event) { events = append(events, fmt.Sprintf("%+v", e)) }))
	data := filepath.Join(dir, "runners", "svc")
	want := map[string]string{"ARGS": "run", "SERVICE_ID": "0", "BLUEPRINT_ID": "1", "PROTOCOL": "tangle",
		"CHAIN": "testnet", "HTTP_RPC_URL": rpcURL, "TANGLE_CONTRACT": "0x8299d60f373f3a4a8c4878e335cb9d840e6e3730",
		"STAKING_CONTRACT":         "0x91b1186f4f31d6e02e481c0af29c7244a3fe417d",
		"STATUS_REGISTRY_CONTRACT": "0x2a7ceb96a9b18721b5bbb0022b4d358b3c50bcb2", "KEYSTORE_URI": "file:///keys/" + canary,
		"BLUEPRINT_KEYSTORE_URI": "file:///keys/" + canary, "BLUEPRINT_CHAIN_ID": "84532",
		"KEYSTORE_PASSWORD": canary, "DATA_DIR": data, "KEY": "of all"}
	if diff := gocmp.Diff(want, heard(t, told)); diff != "" {
		t.Errorf("the runner's environment (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(data); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data directory: %v, %v", info, err)
	}
	result, err := svc.Invoke(t.Context(), 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(map[string]string{"KEY": "of all"}, got(string(result.Output))); diff != "" {
		t.Errorf("a local job's environment (-want +got):\n%s", diff)
	}
	infos, err := serverless.ListServices(dir)
	if err != nil || len(infos) != 1 || infos[0].ServiceID == nil || *infos[0].ServiceID != 0 || infos[0].DataDir != data {
		t.Errorf("recorded %+v, %v", infos, err)
	}
	wantGiven := []string{"chain.keystore", "chain.rpc", "chain.service", "env.KEY", "env.TOLD",
		"runner.KEYSTORE_PASSWORD"}
	if diff := gocmp.Diff(wantGiven, infos[0].Given); diff != "" {
		t.Errorf("given (-want +got):\n%s", diff)
	}
	if err := os.WriteFile(filepath.Join(data, "journal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := svc.Undeploy(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(data, "journal")); err != nil {
		t.Errorf("Undeploy removed the journal: %v", err)
	}
	asJSON, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	shown := append(events, string(asJSON), fmt.Sprintf("%+v %#v", spec, spec), fmt.Sprintf("%+v", svc),
		fmt.Sprint(svc.Warnings()))
	for _, text := range append(shown, everythingIn(t, dir)) {
		if strings.Contains(text, canary) {
			t.Errorf("a secret is in %s", text)
		}
	}
}

// everythingIn returns the contents of all files below dir.
func everythingIn(t testing.TB, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func TestWhatTheOperatorSetsWins(t *testing.T) {
	spec, told := chainSpec(t)
	dir := t.TempDir()
	spec.Args, spec.DataDir = []string{"start", "now"}, "elsewhere"
	spec.Env["SERVICE_ID"], spec.Env["PROTOCOL"] = "9", "eigen"
	spec.RunnerEnv["PROTOCOL"], spec.RunnerEnv["DATA_DIR"], spec.RunnerEnv["KEY"] = "mine", dir, "of the runner"
	spec.RunnerEnv["KEYSTORE_URI"], spec.RunnerEnv["HTTP_RPC_URL"] = "/mine", "http://mine"
	if svc := deployBeside(t, spec, "f"); len(svc.Warnings()) > 0 {
		t.Errorf("warnings %v", svc.Warnings())
	}
	want := map[string]string{"ARGS": "start now", "SERVICE_ID": "9", "BLUEPRINT_ID": "1", "PROTOCOL": "mine",
		"KEYSTORE_URI": "/mine", "KEYSTORE_PASSWORD": canary, "DATA_DIR": dir, "HTTP_RPC_URL": "http://mine",
		"KEY": "of the runner"}
	if diff := gocmp.Diff(want, heard(t, told)); diff != "" {
		t.Errorf("the runner's environment (-want +got):\n%s", diff)
	}
}

func TestAServiceOnChainChangesNoFunction(t *testing.T) {
	spec, _ := chainSpec(t)
	cloud := faastest.NewMemory(faastest.WithJob(answer))
	dir := t.TempDir()
	off := spec
	off.ServiceID, off.Keystore, off.RunnerEnv, off.Args = nil, "", nil, []string{"run"}
	for _, step := range []struct {
		spec serverless.ServiceSpec
		want serverless.Action
		opts []serverless.DeployOption
	}{
		{off, serverless.ActionCreate, nil},
		{spec, serverless.ActionKeep, nil},
		{off, serverless.ActionKeep, []serverless.DeployOption{
			serverless.WithDropped("chain.service", "chain.keystore", "runner.KEYSTORE_PASSWORD")}},
	} {
		svc, err := serverless.Deploy(t.Context(), step.spec, append(step.opts, serverless.WithPolicy(policy(true, false)),
			serverless.WithMetadata(metadata("f")), serverless.WithExecutor(cloud.Executor("svc")),
			serverless.WithStateDir(dir))...)
		if err != nil {
			t.Fatal(err)
		}
		if got := svc.Deployments()[0].Action; got != step.want {
			t.Errorf("the function: %s, want %s", got, step.want)
		}
		if err := svc.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheJournalStaysWhereItIs(t *testing.T) {
	spec, told := chainSpec(t)
	dir, data := t.TempDir(), filepath.Join(t.TempDir(), "journal")
	spec.DataDir = data
	cloud := faastest.NewMemory(faastest.WithJob(answer))
	for range 2 {
		svc := deployBeside(t, spec, "f", serverless.WithStateDir(dir), serverless.WithExecutor(cloud.Executor("svc")))
		if got := heard(t, told)["DATA_DIR"]; got != data {
			t.Errorf("DATA_DIR is %s, want %s", got, data)
		}
		if err := svc.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(told); err != nil {
			t.Fatal(err)
		}
		spec.DataDir = "" // which means that of the last deployment
	}
	reopened, err := serverless.OpenService(t.Context(), "svc", serverless.WithStateDir(dir),
		serverless.WithExecutor(cloud.Executor("svc")))
	if err != nil {
		t.Fatal(err)
	}
	if id, gotDir := reopened.OnChain(); id == nil || *id != 0 || gotDir != data {
		t.Errorf("the service is on chain as %v with its journal in %s", id, gotDir)
	}
	if err := reopened.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestAPlanSaysWhatTheRunnerServes(t *testing.T) {
	spec, _ := chainSpec(t)
	for name, pol := range map[string]*serverless.Policy{
		"on FaaS": policy(true, false), "traditional": policy(false, true),
	} {
		t.Run(name, func(t *testing.T) {
			opts := []serverless.DeployOption{serverless.WithPolicy(pol), serverless.WithMetadata(metadata("f")),
				serverless.WithExecutor(faastest.NewMemory(faastest.WithJob(answer)).Executor("svc")),
				serverless.WithStateDir(t.TempDir())}
			at := func(urls ...string) serverless.DeployOption { return serverless.WithFetch(serverless.WithRPC(urls...)) }
			exec := func() serverless.DeployOption {
				return serverless.WithExecutor(faastest.NewMemory(faastest.WithJob(answer)).Executor("svc"))
			}
			plan, err := serverless.NewPlan(t.Context(), spec, append(opts, at(rpcURL))...)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"BLUEPRINT_ID", "BLUEPRINT_KEYSTORE_URI", "HTTP_RPC_URL",
				"KEYSTORE_PASSWORD", "KEYSTORE_URI", "PROTOCOL", "SERVICE_ID"}
			if diff := gocmp.Diff(want, plan.Runner.EnvNames); diff != "" {
				t.Errorf("the runner's variables (-want +got):\n%s", diff)
			}
			text, err := json.Marshal(plan)
			if err != nil {
				t.Fatal(err)
			}
			for _, shown := range []string{plan.String(), string(text)} {
				if strings.Contains(shown, canary) || !strings.Contains(shown, "https://node.example") {
					t.Errorf("the plan is %s", shown)
				}
			}
			var read serverless.Plan
			if err := json.Unmarshal(text, &read); err != nil {
				t.Fatal(err)
			}
			if _, err := read.Apply(t.Context(), spec, append(opts, exec(), at("https://other.example"))...); !errors.Is(err,
				faas.ErrConflict) || strings.Contains(err.Error(), canary) {
				t.Errorf("another node: %v", err)
			}
			bare := spec
			bare.ServiceID, bare.Keystore = nil, ""
			if _, err := read.Apply(t.Context(), bare, append(opts, exec())...); !errors.Is(err, faas.ErrConflict) {
				t.Errorf("no service on chain: %v", err)
			}
			svc, err := read.Apply(t.Context(), spec, append(opts, exec(), at(rpcURL))...)
			if err != nil {
				t.Fatal(err)
			}
			if err := svc.Undeploy(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAHookGetsWhatTheRunnerNeeds(t *testing.T) {
	spec, _ := chainSpec(t)
	dir := t.TempDir()
	var given serverless.ServiceSpec
	hook := serverless.WithTraditional(func(_ context.Context, s serverless.ServiceSpec, _ []uint32,
		_ serverless.Sizing) (orchestrator.Runner, error) {
		given = s
		return nil, errors.New("no machine")
	})
	_, err := serverless.Deploy(t.Context(), spec, hook, serverless.WithPolicy(policy(false, true)),
		serverless.WithMetadata(metadata("f")), serverless.WithStateDir(dir))
	if err == nil || !strings.Contains(err.Error(), "no machine") {
		t.Error(err)
	}
	if given.RunnerEnv["SERVICE_ID"] != "0" || given.RunnerEnv["KEYSTORE_PASSWORD"] != canary ||
		given.DataDir != filepath.Join(dir, "runners", "svc") || !slices.Equal(given.Args, []string{"run"}) {
		t.Errorf("the hook got %+v", given)
	}
}

func TestASpecThatIsHalfOnChainIsRefused(t *testing.T) {
	for field, spoil := range map[string]func(*serverless.ServiceSpec){
		"Keystore":    func(s *serverless.ServiceSpec) { s.ServiceID, s.Keystore = nil, canary },
		"DataDir":     func(s *serverless.ServiceSpec) { s.ServiceID, s.Keystore, s.DataDir = nil, "", canary },
		"RunnerEnv":   func(s *serverless.ServiceSpec) { s.RunnerEnv = map[string]string{"A=B": canary} },
		"of KEY":      func(s *serverless.ServiceSpec) { s.RunnerEnv = map[string]string{"KEY": canary + "\x00"} },
		"DataDir has": func(s *serverless.ServiceSpec) { s.DataDir = canary + "\x00" },
	} {
		spec, _ := chainSpec(t)
		spoil(&spec)
		_, err := serverless.NewPlan(t.Context(), spec, serverless.WithPolicy(policy(true, false)),
			serverless.WithMetadata(metadata("f")))
		if !errors.Is(err, faas.ErrInvalidArgument) || !strings.Contains(err.Error(), field) ||
			strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", field, err)
		}
	}
	spec, _ := chainSpec(t)
	_, err := serverless.NewPlan(t.Context(), spec, serverless.WithPolicy(policy(true, false)),
		serverless.WithMetadata(metadata("f")), serverless.WithFetch(serverless.WithRPC("http://a.example", "ws://"+canary)),
		serverless.WithExecutor(faastest.NewMemory().Executor("svc")))
	if !errors.Is(err, faas.ErrInvalidArgument) || !strings.Contains(err.Error(), "node 2 of 2") ||
		strings.Contains(err.Error(), canary) {
		t.Errorf("a node that is no URL: %v", err)
	}
}

func TestWhatAnOperatorShouldKnowOfTheRunnerIsWarnedOf(t *testing.T) {
	spec, _ := chainSpec(t)
	spec.Env["KEYSTORE_PASSWORD"] = canary
	plan, err := serverless.NewPlan(t.Context(), spec, serverless.WithPolicy(policy(true, false)),
		serverless.WithMetadata(metadata("f")), serverless.WithExecutor(faastest.NewMemory().Executor("svc")))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"functions get KEYSTORE_PASSWORD", "no node is named"} {
		if !strings.Contains(strings.Join(plan.Warnings, "\n"), want) {
			t.Errorf("warnings %v, want %q", plan.Warnings, want)
		}
	}
}
