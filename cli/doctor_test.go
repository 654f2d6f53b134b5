package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// noChain takes the developer's contract out of the environment.
func noChain(t *testing.T) {
	t.Setenv("TANGLE_CONTRACT", "")
	t.Setenv("TANGLE_CONTRACT_ADDRESS", "")
}

func TestDoctorWithNothingConfiguredSaysHowToBegin(t *testing.T) {
	noChain(t)
	d := newDesk(t)
	r := d.do(t.Context(), "", "doctor")
	if r.code != exitOK {
		t.Errorf("exit code %d", r.code)
	}
	for _, want := range []string{"warn  policy ", "serverless is off",
		"      remedy: tangle-cloud policy --serverless true --faas-provider PROVIDER\n", "skip  provider ", "ok    state ",
		"skip  binary "} {
		if !strings.Contains(r.out, want) {
			t.Errorf("%q is missing:\n%s", want, r.out)
		}
	}
	if !strings.Contains(r.err, "1 warning, 0 failed") {
		t.Errorf("the summary is %q", r.err)
	}
	if entries, err := os.ReadDir(d.dir); err != nil || len(entries) != 1 {
		t.Errorf("it left something behind: %v %v", entries, err)
	}
}

func TestDoctorOnThePlatformFindsAllWell(t *testing.T) {
	noChain(t)
	d := deployedDesk(t)
	out := d.ok("doctor", "--service-id", "123")
	for _, want := range []string{"ok    policy ", "ok    provider ", "ok    services ", "ok    binary ", "1 known",
		"ok    custom/endpoint ", "ok    custom/protocol ", "ok    custom/limits ", "ok    custom/clock "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing:\n%s", want, out)
		}
	}
	if strings.Contains(out, "FAIL") || strings.Contains(out, "\x1b") {
		t.Errorf("something failed, or is coloured where there is no terminal:\n%s", out)
	}
	var report doctorReport
	d.json(&report, "doctor", "--service-id", "123")
	if !report.OK || len(report.Checks) != strings.Count(out, "\n")-strings.Count(out, " remedy: ") {
		t.Errorf("with --json: %+v", report)
	}
}

func TestDoctorEndsWithItsExitCodeAndTheRemedyWhereSomethingFailed(t *testing.T) {
	noChain(t)
	d := newDesk(t)
	if err := os.WriteFile(filepath.Join(d.dir, "deployment-policy.json"), []byte(`{"serverless":{"enabled":true}}`),
		0o600); err != nil {
		t.Fatal(err)
	}
	r := d.do(t.Context(), "", "doctor", "--quiet")
	if r.code != exitUnhealthy || r.err != "" {
		t.Errorf("exit code %d, and on standard error %q", r.code, r.err)
	}
	if lines := strings.Split(strings.TrimSpace(r.out), "\n"); len(lines) != 2 ||
		!strings.HasPrefix(lines[0], "FAIL  policy ") ||
		!strings.HasPrefix(lines[1], "      remedy: correct serverless.enabled in line 1 of ") {
		t.Errorf("with --quiet:\n%s", r.out)
	}
	r = d.do(t.Context(), "", "doctor", "--json", "--binary", filepath.Join(d.dir, "none"))
	var report doctorReport
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || report.OK || r.code != exitUnhealthy {
		t.Fatalf("exit code %d, %v, %+v", r.code, err, report)
	}
	failed := map[string]faas.Code{}
	for _, c := range report.Checks {
		if c.Status == faas.CheckFailed {
			failed[c.Name] = c.Code
		}
	}
	if len(failed) != 2 || failed["policy"] != faas.ErrInvalidArgument || failed["binary"] != faas.ErrNotFound {
		t.Errorf("failed: %v", failed)
	}
}

func TestDoctorIsColouredOnlyWhereItMayBe(t *testing.T) {
	noChain(t)
	d := newDesk(t)
	for _, color := range []bool{false, true} {
		var out, errs lockedBuffer
		run(t.Context(), d.args([]string{"doctor"}),
			streams{in: strings.NewReader(""), out: &out, err: &errs, colorOut: color})
		if strings.Contains(out.String(), "\x1b[33mwarn\x1b[0m") != color || strings.Contains(out.String(), "\x1b") != color {
			t.Errorf("colours %v:\n%s", color, out.String())
		}
	}
}
