package cli

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

func TestPolicyChangesWhatItIsToldAndKeepsTheRest(t *testing.T) {
	d := newDesk(t)
	path := filepath.Join(d.dir, "deployment-policy.json")
	const before = `{
  "providers": {"aws": {"priority": [1, 2.50]}},
  "serverless": {"enable": false, "note": "kept"},
  "failover": {"max_retries": 3}
}`
	if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	var report policyReport
	d.json(&report, "policy", "--serverless", "true", "--faas-provider", "aws-lambda", "--faas-aws-region", "eu-west-1",
		"--faas-memory", "1024", "--faas-timeout", "600",
		"--serverless-fallback", "false", "--faas-option", "role_arn=arn:aws:iam::123456789012:role/secret")
	want := serverless.ServerlessSettings{
		Enable: true, Provider: serverless.ProviderSettings{Type: faas.AWSLambda, Region: "eu-west-1"},
		DefaultMemoryMB: 1024, DefaultTimeoutSecs: 600,
		ProviderConfig: map[string]string{"role_arn": "arn:aws:iam::123456789012:role/secret"},
	}
	policy, err := serverless.LoadPolicy(serverless.WithPolicyPath(path))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, policy.Serverless); diff != "" {
		t.Errorf("the saved policy (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"failover", "providers", "serverless.note"}, policy.Foreign()); diff != "" {
		t.Errorf("foreign members (-want +got):\n%s", diff)
	}
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), `"providers": {"aws": {"priority": [1, 2.50]}},`) {
		t.Errorf("a foreign section was changed: %v\n%s", err, text)
	}
	var fields []string
	for _, c := range report.Changed {
		fields = append(fields, c.Field)
	}
	if diff := cmp.Diff([]string{"enable", "provider.region", "default_memory_mb", "default_timeout_secs",
		"fallback_to_vm", "provider_config.role_arn"}, fields); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	for _, shown := range []string{d.ok("show"), d.ok("show", "--json"),
		d.ok("policy", "--faas-memory", "512", "--json")} {
		if strings.Contains(shown, "secret") {
			t.Errorf("the value of an option is shown:\n%s", shown)
		}
	}
}

func TestInstancesKeptReadyAreShownAndCosted(t *testing.T) {
	d := newDesk(t)
	d.ok("policy", "--faas-keep-warm", "2", "--faas-max-concurrency", "9")
	path := filepath.Join(d.dir, "deployment-policy.json")
	policy, err := serverless.LoadPolicy(serverless.WithPolicyPath(path))
	if err != nil {
		t.Fatal(err)
	}
	policy.Serverless.Jobs = map[uint32]serverless.JobSettings{1: {MemoryMB: 1024, KeepWarm: new(uint32(0))}}
	if err := policy.Save(); err != nil {
		t.Fatal(err)
	}
	shown := strings.Join(strings.Fields(d.ok("show")), " ")
	for _, want := range []string{"keep_warm 2", "max_concurrency 9", "jobs 1 {memory_mb:1024 keep_warm:0}"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not shown:\n%s", want, shown)
		}
	}
	profile := &serverless.JobProfile{AvgDurationMS: 10, P95DurationMS: 10, PeakMemoryMB: 10}
	text, err := json.Marshal(&serverless.Metadata{
		Source: serverless.SourceChain, Jobs: []serverless.Job{{ID: 0, Profile: profile}, {ID: 1, Profile: profile}}})
	if err != nil {
		t.Fatal(err)
	}
	metadata := filepath.Join(d.dir, "metadata.json")
	if err := os.WriteFile(metadata, text, 0o600); err != nil {
		t.Fatal(err)
	}
	warm := func(args ...string) (instances []bool) {
		var report analyzeReport
		d.json(&report, append([]string{"analyze", metadata}, args...)...)
		for _, job := range report.Costs[0].Jobs {
			instances = append(instances, job.KeepWarm > 0)
		}
		return instances
	}
	if got := warm(); !slices.Equal(got, []bool{true, false}) {
		t.Errorf("by the policy, kept warm are %v", got)
	}
	if got := warm("--keep-warm", "1"); !slices.Equal(got, []bool{true, true}) {
		t.Errorf("by the flag, kept warm are %v", got)
	}
}

func TestADryRunSavesNothing(t *testing.T) {
	d := newDesk(t)
	d.ok("policy", "--serverless", "true", "--dry-run")
	if _, err := os.Stat(filepath.Join(d.dir, "deployment-policy.json")); !os.IsNotExist(err) {
		t.Errorf("a policy was saved: %v", err)
	}
}

func TestFailuresEndWithTheCodeOfTheirKind(t *testing.T) {
	d := deployedDesk(t)
	for _, tt := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"an unknown command", []string{"deplyo"}, 2, "deplyo"},
		{"an unknown flag", []string{"deploy", "--nmae", "x"}, 2, "nmae"},
		{"a missing argument", []string{"invoke", "--service-id", "123"}, 2, "arg"},
		{"no service", []string{"deploy"}, 2, "--service-id"},
		{"two services", []string{"deploy", "--service-id", "1", "--name", "x"}, 2, "give one"},
		{"a policy flag of another provider", []string{"policy", "--faas-gcp-project", "p"}, 2,
			"--faas-provider gcp-functions"},
		{"a policy without a change", []string{"policy"}, 2, "no flag"},
		{"memory above the limit", []string{"policy", "--faas-memory", "4096"}, 2, "2048 MB"},
		{"an unknown option of the provider", []string{"policy", "--faas-option", "colour=blue"}, 2, "colour"},
		{"a service that is not known", []string{"status", "--service-id", "7"}, 3, "service-7"},
		{"a job that is not there", []string{"invoke", "--service-id", "123", "9"}, 3, "no such job"},
		{"a job that fails", []string{"invoke", "--service-id", "123", "1", "--text", "no"}, 13, "does not like it"},
		{"two inputs", []string{"invoke", "--service-id", "123", "0", "--text", "a", "--hex", "0a"}, 2, "give one"},
		{"broken hex", []string{"invoke", "--service-id", "123", "0", "--hex", "0g"}, 2, "hex"},
		{"a binary that is not there", []string{"deploy", "--service-id", "8", "--binary", filepath.Join(d.dir, "none")}, 3,
			"none"},
		{"a binary that was never profiled", []string{"deploy", "--service-id", "8", "--binary", d.stranger()}, 11, "--run"},
		{"what to refresh, without a refresh", []string{"prices", "--machines"}, 2, "--refresh"},
		{"a refresh of nobody's list", []string{"prices", "--refresh", "--of", "custom"}, 2, "custom"},
		{"a picture that is too narrow", []string{"analyze", d.binary, "--svg", filepath.Join(d.dir, "x.svg"), "--svg-width",
			"100"}, 2, "--svg-width"},
		{"a picture that cannot be written", []string{"analyze", d.binary, "--svg", filepath.Join(d.dir, "none", "x.svg")},
			2, "--svg"},
		{"plans with prices that are not there", []string{
			"plan", "--service-id", "123", "--calls-per-month", "1", "--prices", filepath.Join(d.dir, "none")}, 3, "none"},
		{"deploys with prices that are not there", []string{
			"deploy", "--service-id", "123", "--calls-per-month", "1", "--prices", filepath.Join(d.dir, "none")}, 3, "none"},
		{"prices that are not there", []string{"analyze", d.binary, "--calls-per-month", "1", "--prices",
			filepath.Join(d.dir, "none")}, 3, "none"},
		{"nothing to analyse", []string{"analyze", filepath.Join(d.dir, "none")}, 2, "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := d.do(t.Context(), "", tt.args...)
			if r.code != tt.code || !strings.Contains(r.err, tt.says) || r.out != "" {
				t.Errorf("exit code %d, want %d and the word %q\nout: %s\nerr: %s", r.code, tt.code, tt.says, r.out, r.err)
			}
			r = d.do(t.Context(), "", append(tt.args, "--json")...)
			var report struct{ Error failure }
			if err := json.Unmarshal([]byte(r.err), &report); err != nil || report.Error.ExitCode != tt.code ||
				r.code != tt.code {
				t.Errorf("with --json: exit code %d, %v, %+v", r.code, err, report)
			}
		})
	}
}

func TestEveryCommandAnswersOneJSONDocument(t *testing.T) {
	d := deployedDesk(t)
	for _, args := range [][]string{
		{"show"}, {"policy", "--faas-memory", "300", "--dry-run"}, {"analyze", d.binary},
		{"analyze", "42", "--binary", d.binary}, {"analyze", d.binary, "--calls-per-month", "10", "--arch", "arm64"},
		{"prices"}, {"analyze", filepath.Join(d.dir, "target", "blueprint-profiles.json")},
		{"profile", d.binary, "--jobs", "0", "--runs", "1", "--on-chain", "--output", filepath.Join(d.dir, "p.json")},
		{"plan", "--service-id", "123"}, {"deploy", "--service-id", "123"}, {"list"}, {"status", "--service-id", "123"},
		{"invoke", "--service-id", "123", "0"},
		{"invoke", "--service-id", "123", "0", "--repeat", "3", "--parallel", "2"}, {"warm", "--service-id", "123"},
		{"recover", "--service-id", "123"},
		{"service", "undeploy", "--service-id", "123"}, {"list"},
	} {
		var to any
		d.json(&to, args...)
		if to == nil {
			t.Errorf("tangle-cloud %s answers null", strings.Join(args, " "))
		}
	}
}

func TestWhatAnalyzePrintsCanBeAnalysedAgain(t *testing.T) {
	d := ready(t)
	saved := filepath.Join(d.dir, "analysis.json")
	first := d.ok("analyze", d.binary, "--json")
	if err := os.WriteFile(saved, []byte(first), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, d.ok("analyze", saved, "--json")); diff != "" {
		t.Errorf("analysed again (-first +again):\n%s", diff)
	}
}

func TestPlanAndDeployTellWhatAMonthCosts(t *testing.T) {
	d := ready(t)
	prices := filepath.Join(d.dir, "prices.json")
	if err := os.WriteFile(prices, []byte(`{"providers": {"custom": {"region": "cellar", "as_of": "today",
		"source": "the landlord", "step_ms": 1, "per_million_requests": 3}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"plan", "deploy"} {
		out := d.ok(command, "--name", "one", "--binary", d.binary, "--calls-per-month", "1000000", "--prices", prices)
		if !strings.Contains(out, "about 6.00 USD a month at list prices of today (cellar)") {
			t.Errorf("%s does not say what two jobs cost:\n%s", command, out)
		}
		r := d.do(t.Context(), "", command, "--name", "one", "--binary", d.binary, "--calls-per-month", "1000000")
		if r.code != exitOK || !strings.Contains(r.out+r.err, "the cost cannot be estimated") {
			t.Errorf("%s without prices: %d\n%s%s", command, r.code, r.out, r.err)
		}
	}
}

func TestAPlanIsAppliedExactly(t *testing.T) {
	d := ready(t)
	plan := filepath.Join(d.dir, "plan.json")
	d.ok("plan", "--name", "one", "--binary", d.binary, "--output", plan)
	if out := d.ok("deploy", "--name", "one", "--binary", d.binary, "--plan", plan); !strings.Contains(out, "2 created") {
		t.Errorf("the plan was not carried out:\n%s", out)
	}
	r := d.do(t.Context(), "", "deploy", "--name", "one", "--plan", plan)
	if r.code != exitCodes[faas.ErrConflict] || !strings.Contains(r.err, "make a new plan") {
		t.Errorf("the plan was applied twice: exit code %d\n%s", r.code, r.err)
	}
}

func TestAMissingFunctionShowsInTheStatus(t *testing.T) {
	d := deployedDesk(t)
	other := desk{t: t, binary: d.binary, endpoint: d.endpoint} // another machine, which knows nothing of the ledgers here
	other.dir = t.TempDir()
	other.ok("policy", "--serverless", "true", "--faas-provider", "custom", "--faas-custom-endpoint", d.endpoint)
	other.ok("deploy", "--service-id", "123", "--binary", d.binary)
	other.ok("undeploy", "--service-id", "123")
	r := d.do(t.Context(), "", "status", "--service-id", "123")
	if r.code != exitUnhealthy || !strings.Contains(r.out, "missing at the provider: service-123-job0, service-123-job1") {
		t.Errorf("exit code %d\n%s%s", r.code, r.out, r.err)
	}
}

func TestJobsThatDoNotFitRunBesideFaaSUntilCtrlC(t *testing.T) {
	d := ready(t)
	d.ok("profile", d.binary, "--jobs", "0", "--input", "1=hex:0500000000000000", "--stateful", "1", "--runs", "1")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	done := make(chan int, 1)
	out := &stopper{at: "Ctrl-C stops it", stop: stop}
	go func() {
		done <- run(ctx, d.args([]string{"deploy", "--name", "both", "--binary", d.binary, "--run"}),
			streams{in: strings.NewReader(""), out: out, err: out})
	}()
	if code := <-done; code != exitOK {
		t.Fatalf("exit code %d\n%s", code, out.String())
	}
	if !strings.Contains(out.String(), "hybrid") {
		t.Errorf("not hybrid:\n%s", out.String())
	}
	if got := d.ok("invoke", "--name", "both", "0", "--text", "still there"); got != "still there\n" {
		t.Errorf("after Ctrl-C the function answers %q", got)
	}
}

func TestWhatTheRunnerPrintsAndItsEndAreShown(t *testing.T) {
	d := ready(t)
	runner := filepath.Join(d.dir, "runner.sh")
	if err := os.WriteFile(runner, []byte("#!/bin/sh\necho the config is gone >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &stopper{at: "runner ended and is started again", stop: stop}
	args := []string{"deploy", "--name", "crashes", "--binary", runner, "--arg", "serve", "--run"}
	if code := run(ctx, d.args(args), streams{in: strings.NewReader(""), out: out, err: out}); code != exitOK &&
		code != exitInterrupted {
		t.Errorf("exit code %d\n%s", code, out.String())
	}
	for _, want := range []string{"the config is gone", out.at, "exit_code=3"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("there is no %q in\n%s", want, out.String())
		}
	}
}

func TestCtrlCUndoesADeploymentAndSaysSo(t *testing.T) {
	d := ready(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	d.before.Store(new(func(r *http.Request) bool {
		if r.Method != http.MethodPut || !strings.HasSuffix(r.URL.Path, "job1") {
			return true
		}
		stop()      // the operator changes their mind in the middle
		return true // the platform does what was sent, which is waited for and then undone
	}))
	var out lockedBuffer
	code := run(ctx, d.args([]string{"deploy", "--name", "regret", "--binary", d.binary}),
		streams{in: strings.NewReader(""), out: &out, err: &out})
	if code != exitInterrupted || !strings.Contains(out.String(), "interrupted: undoing") {
		t.Errorf("exit code %d\n%s", code, out.String())
	}
	if list := d.ok("list"); strings.Contains(list, "regret") {
		t.Errorf("it is not undone:\n%s", list)
	}
}

// stopper calls stop once a text was printed.
type stopper struct {
	lockedBuffer
	at   string
	stop context.CancelFunc
}

func (s *stopper) Write(b []byte) (int, error) {
	n, err := s.lockedBuffer.Write(b)
	if strings.Contains(s.String(), s.at) {
		s.stop()
	}
	return n, err
}

func TestArgumentsAreReadInEveryForm(t *testing.T) {
	d := deployedDesk(t)
	file := filepath.Join(d.dir, "request.bin")
	if err := os.WriteFile(file, []byte{0, 255, 'a'}, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		stdin string
		args  []string
		want  string
	}{
		{"", nil, ""},
		{"", []string{"--text", "naïve"}, "naïve"},
		{"", []string{"--hex", "0x00ff61"}, "0x00ff61"},
		{"", []string{"--base64", "AP9h"}, "0x00ff61"},
		{"", []string{"--base64", "_-8="}, "0xffef"},
		{"", []string{"--numbers", "[0, 255, 97]"}, "0x00ff61"},
		{"", []string{"--file", file}, "0x00ff61"},
		{"from a pipe", []string{"--file", "-"}, "from a pipe"},
		{"", []string{"--hex", "00ff61", "--output", "numbers"}, "[0,255,97]"},
		{"", []string{"--hex", "00ff61", "--output", "base64"}, "AP9h"},
		{"", []string{"--text", "a", "--output", "hex"}, "61"},
	} {
		r := d.do(t.Context(), tt.stdin, append([]string{"invoke", "--service-id", "123", "0"}, tt.args...)...)
		if r.code != exitOK || strings.TrimSuffix(r.out, "\n") != tt.want {
			t.Errorf("%v: exit code %d, answer %q, want %q\n%s", tt.args, r.code, r.out, tt.want, r.err)
		}
	}
	if r := d.do(t.Context(), "", "invoke", "--service-id", "123", "0", "--file", file, "--output", "raw",
		"-q"); r.out != "\x00\xffa" || r.err != "" {
		t.Errorf("raw and quiet: %q, %q", r.out, r.err)
	}
}

func TestThePlatformServesUntilCtrlC(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &stopper{at: "endpoint", stop: stop}
	if code := run(ctx, []string{"platform", "--listen", "127.0.0.1:0", "--json", "--quiet"},
		streams{out: out, err: out}); code != exitOK {
		t.Errorf("exit code %d: %s", code, out.String())
	}
	var to struct{ Endpoint string }
	if err := json.Unmarshal([]byte(out.String()), &to); err != nil ||
		!strings.HasPrefix(to.Endpoint, "http://127.0.0.1:") {
		t.Errorf("%v: %q", err, out.String())
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	a := &app{}
	for _, cmd := range a.root().Commands() {
		if cmd.Name() != "service" && cmd.Example == "" {
			t.Errorf("%s has no example", cmd.Name())
		}
	}
	d := newDesk(t)
	if out := d.ok("--help"); !strings.Contains(out, "Exit codes") || !strings.Contains(out, "completion") {
		t.Errorf("help:\n%s", out)
	}
	if out := d.ok("completion", "bash"); !strings.Contains(out, "tangle-cloud") {
		t.Error("no completion for bash")
	}
}
