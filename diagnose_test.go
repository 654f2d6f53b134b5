package serverless_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/faas/faastest"
	"github.com/tangle-network/blueprint-serverless/internal/ledger"
)

// quiet keeps the developer's environment from naming a chain.
func quiet(t testing.TB) {
	t.Helper()
	t.Setenv(serverless.ContractEnv, "")
	t.Setenv(serverless.ContractFallbackEnv, "")
}

// diagnose returns the checks by name, and checks their form.
func diagnose(t testing.TB, spec serverless.DiagnoseSpec) map[string]faas.Check {
	t.Helper()
	checks, err := serverless.Diagnose(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]faas.Check{}
	for _, c := range checks {
		if _, twice := byName[c.Name]; twice || c.Name == "" || c.Detail == "" || strings.Contains(c.Detail, "\n") {
			t.Errorf("a malformed check: %+v", c)
		}
		var e *faas.Error
		if c.Status == faas.CheckFailed && (c.Remedy == "" || !errors.As(c.Err, &e)) {
			t.Errorf("a failed check without a remedy or error: %+v", c)
		}
		byName[c.Name] = c
	}
	return byName
}

// finding is what a check must be.
type finding struct {
	status faas.CheckStatus
	detail string // a part of it
	remedy string // a part of it
}

func (f finding) check(t testing.TB, c faas.Check) {
	t.Helper()
	if c.Status != f.status || !strings.Contains(c.Detail, f.detail) || !strings.Contains(c.Remedy, f.remedy) {
		t.Errorf("%s is %q: %s\nremedy: %s\nwant %q with %q and the remedy %q", c.Name, c.Status, c.Detail, c.Remedy,
			f.status, f.detail, f.remedy)
	}
}

func TestDiagnoseSaysWhatIsWrongWithThePolicy(t *testing.T) {
	quiet(t)
	for _, tt := range []struct {
		name, content string // "-": no file
		want          finding
		provider      finding
	}{
		{"no file", "-", finding{faas.CheckWarning, "serverless is off", "serverless.enable"},
			finding{faas.CheckFailed, "not linked in", "link"}},
		{"off", `{"serverless":{"enable":false,"provider":{"type":"custom","endpoint":"http://127.0.0.1:1"}}}`,
			finding{faas.CheckWarning, "serverless is off", "serverless.enable"},
			finding{faas.CheckSkipped, "custom is not asked", ""}},
		{"no JSON", `{"serverless":`, finding{faas.CheckFailed, "policy.json:1:", "correct"},
			finding{faas.CheckSkipped, "the policy", ""}},
		{"a name nearly right", `{"serverless":{"enabel":true}}`,
			finding{faas.CheckFailed, `"enable"`, "correct serverless.enabel in line 1"},
			finding{faas.CheckSkipped, "the policy", ""}},
		{"memory above the limit", `{"serverless":{"enable":true,"default_memory_mb":20000}}`,
			finding{faas.CheckFailed, "10240 MB", "correct serverless.default_memory_mb in line 1"},
			finding{faas.CheckSkipped, "the policy", ""}},
		{"a provider that nobody knows", `{"serverless":{"enable":true,"provider":{"type":"aws-lamda"}}}`,
			finding{faas.CheckFailed, `did you mean "aws-lambda"`, "serverless.provider.type"},
			finding{faas.CheckSkipped, "the policy", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "policy.json")
			if tt.content != "-" {
				if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			checks := diagnose(t, serverless.DiagnoseSpec{PolicyPath: path, StateDir: t.TempDir()})
			tt.want.check(t, checks["policy"])
			tt.provider.check(t, checks["provider"])
		})
	}
	t.Run("a directory in its place", func(t *testing.T) {
		finding{faas.CheckFailed, "directory", "correct"}.check(
			t, diagnose(t, serverless.DiagnoseSpec{PolicyPath: t.TempDir()})["policy"])
	})
}

func TestDiagnoseHasTheProviderDiagnoseItself(t *testing.T) {
	quiet(t)
	ask := func(cloud *faastest.Cloud) map[string]faas.Check {
		return diagnose(t, serverless.DiagnoseSpec{Policy: policy(true, false), StateDir: t.TempDir(),
			Executor: cloud.Executor("svc")})
	}
	checks := ask(faastest.NewMemory())
	finding{faas.CheckOK, "executor is given", ""}.check(t, checks["provider"])
	finding{faas.CheckOK, "it answers", ""}.check(t, checks["custom/cloud"])
	finding{faas.CheckOK, "10240 MB", ""}.check(t, checks["custom/limits"])

	denied := faastest.NewMemory(faastest.WithScript(
		faastest.Faults(faastest.Rule{Op: faastest.OpDiagnose, Fault: faastest.Fault{Kind: faastest.Denied}})))
	checks = ask(denied)
	finding{faas.CheckFailed, "denied", "try again"}.check(t, checks["custom/cloud"])
	if !errors.Is(checks["custom/cloud"].Err, faas.ErrPermissionDenied) {
		t.Errorf("the error is %v", checks["custom/cloud"].Err)
	}
}

// silent is an executor that cannot diagnose itself.
type silent struct{ faas.Executor }

func (silent) Diagnose(context.Context) []faas.Check { return nil }

func TestDiagnoseGoesWithoutAProviderThatCannot(t *testing.T) {
	quiet(t)
	checks := diagnose(t, serverless.DiagnoseSpec{Policy: policy(true, false), StateDir: t.TempDir(),
		Executor: silent{faastest.NewMemory().Executor("svc")}})
	if _, found := checks["custom/cloud"]; found || checks["provider"].Status != faas.CheckOK {
		t.Errorf("%+v", checks)
	}
}

func TestDiagnoseLooksAtTheStateDirectoryAndWhatIsInIt(t *testing.T) {
	quiet(t)
	where := faas.Config{Provider: faas.Custom, Endpoint: "http://127.0.0.1:1"}
	// record writes what an operation writes before its first change.
	record := func(t testing.TB, dir, service string) *ledger.Ledger {
		led, err := ledger.NewStore(dir).Lock(t.Context(), service, where, false)
		if err == nil {
			err = led.Put(ledger.Unit{ID: service + "-job0", Pending: "create"})
		}
		if err != nil {
			t.Fatal(err)
		}
		return led
	}
	release := func(t testing.TB, led *ledger.Ledger) {
		if err := led.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, tt := range []struct {
		name            string
		prepare         func(t testing.TB, dir string)
		state, services finding
	}{
		{"it is empty", func(testing.TB, string) {}, finding{faas.CheckOK, "can be written to", ""},
			finding{faas.CheckOK, "0 known", ""}},
		{"it is not there yet", func(t testing.TB, dir string) {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
		}, finding{faas.CheckOK, "creates", ""}, finding{faas.CheckOK, "0 known", ""}},
		{"a file is in its place", func(t testing.TB, dir string) {
			if err := errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, finding{faas.CheckFailed, "not a directory", "state directory"},
			finding{faas.CheckFailed, "state directory", "restore"}},
		{"an operation was interrupted", func(t testing.TB, dir string) { release(t, record(t, dir, "svc")) },
			finding{faas.CheckOK, "", ""},
			finding{faas.CheckWarning, "svc: create of svc-job0", "recover, deploy again or undeploy: svc"}},
		{"an operation is under way", func(t testing.TB, dir string) {
			led := record(t, dir, "svc")
			t.Cleanup(func() { release(t, led) })
		}, finding{faas.CheckOK, "", ""}, finding{faas.CheckOK, "being changed now: svc", ""}},
		{"a ledger is damaged", func(t testing.TB, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "svc-000000000000.ledger"), []byte("no ledger\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, finding{faas.CheckOK, "", ""}, finding{faas.CheckFailed, "svc-000000000000.ledger",
			"restore the file from a backup"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && tt.name == "an operation is under way" {
				t.Skip("an open file cannot be removed by the test's end there")
			}
			dir := t.TempDir()
			tt.prepare(t, dir)
			before := tree(t, dir)
			checks := diagnose(t, serverless.DiagnoseSpec{Policy: policy(false, true), StateDir: dir})
			tt.state.check(t, checks["state"])
			tt.services.check(t, checks["services"])
			if diff := cmp.Diff(before, tree(t, dir)); diff != "" {
				t.Errorf("the diagnosis changed something:\n%s", diff)
			}
		})
	}
}

func TestAStateDirectoryThatMayNotBeWrittenToIsFound(t *testing.T) {
	if os.Geteuid() <= 0 {
		t.Skip("everything may be written to by this user, or the system does not tell")
	}
	quiet(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	finding{faas.CheckFailed, "permission", "chmod u+rwx"}.check(
		t, diagnose(t, serverless.DiagnoseSpec{StateDir: dir})["state"])
	t.Setenv("XDG_STATE_HOME", dir)
	if runtime.GOOS == "linux" {
		finding{faas.CheckWarning, "no ledger can be kept", "chmod u+rwx"}.check(
			t, diagnose(t, serverless.DiagnoseSpec{})["state"])
	}
}

// tree lists files with their sizes.
func tree(t testing.TB, dir string) map[string]int64 {
	t.Helper()
	found := map[string]int64{}
	err := filepath.WalkDir(filepath.Dir(dir), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() {
			found[path] = info.Size()
		} else {
			found[path] = -1
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestDiagnoseLooksAtTheBinary(t *testing.T) {
	quiet(t)
	file := func(mode fs.FileMode, content string) func(t testing.TB) string {
		return func(t testing.TB) string {
			path := filepath.Join(t.TempDir(), "blueprint")
			if err := os.WriteFile(path, []byte(content), mode); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	for _, tt := range []struct {
		name   string
		binary func(t testing.TB) string
		want   finding
	}{
		{"none", func(testing.TB) string { return "" }, finding{faas.CheckSkipped, "no binary is named", ""}},
		{"a job binary", func(t testing.TB) string { return faastest.JobBinaryFor(t, "linux", runtime.GOARCH) },
			finding{faas.CheckOK, "linux " + runtime.GOARCH, ""}},
		{"one for another system", file(0o755, "\xcf\xfa\xed\xfe\x0c\x00\x00\x01"+strings.Repeat("\x00", 64)),
			finding{faas.CheckFailed, "macOS", "GOOS=linux"}},
		{"a script", file(0o755, "#!/bin/sh\n"), finding{faas.CheckOK, "only standard input", ""}},
		{"a script that is not executable", file(0o644, "#!/bin/sh\n"), finding{faas.CheckFailed, "permission", "chmod +x"}},
		{"text", file(0o755, "hello"), finding{faas.CheckFailed, "neither an executable", "GOOS=linux"}},
		{"an empty file", file(0o755, ""), finding{faas.CheckFailed, "empty", "build it"}},
		{"no file", func(t testing.TB) string { return filepath.Join(t.TempDir(), "none") },
			finding{faas.CheckFailed, "none", "build it"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && strings.Contains(tt.want.remedy, "chmod") {
				t.Skip("files have no such permission there")
			}
			checks := diagnose(t, serverless.DiagnoseSpec{BinaryPath: tt.binary(t), Policy: policy(true, false),
				StateDir: t.TempDir(), Executor: faastest.NewMemory().Executor("svc")})
			tt.want.check(t, checks["binary"])
		})
	}
	t.Run("one that the provider does not take", func(t *testing.T) {
		small := faastest.NewMemory(faastest.WithLimits(faas.Limits{MaxMemoryMB: 128, MaxTimeoutSecs: 900, MaxPayloadMB: 1}))
		checks := diagnose(t, serverless.DiagnoseSpec{BinaryPath: script(t), Policy: policy(true, false),
			StateDir: t.TempDir(), Executor: small.Executor("svc")})
		finding{faas.CheckFailed, "128 MiB", "as the message says"}.check(t, checks["binary"])
	})
}

func TestADiagnosisThatIsCutShortSaysSoAndHasEveryCheck(t *testing.T) {
	quiet(t)
	spec := serverless.DiagnoseSpec{BinaryPath: script(t), Policy: policy(true, false), StateDir: t.TempDir(),
		Executor: faastest.NewMemory().Executor("svc")}
	names := func(ctx context.Context) (all []string, err error) {
		checks, err := serverless.Diagnose(ctx, spec)
		for _, c := range checks {
			all = append(all, c.Name)
		}
		return all, err
	}
	whole, err := names(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"policy", "provider", "custom/cloud", "custom/limits", "state", "services", "chain",
		"head", "contract", "blueprint", "binary"}, whole); diff != "" {
		t.Error(diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	short, err := names(ctx)
	if diff := cmp.Diff(whole, short); diff != "" || !errors.Is(err, faas.ErrTimeout) {
		t.Errorf("error %v\n%s", err, diff)
	}
}
