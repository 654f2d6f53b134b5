package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/profile"
)

// profileOne measures job 1 as one that keeps state.
func (d *desk) profileOne(args ...string) string {
	d.t.Helper()
	return d.ok(append([]string{"profile", d.binary, "--input", "1=hex:0500000000000000", "--runs", "1", "--warmups",
		"0"}, args...)...)
}

func TestProfilingOneJobKeepsTheOthers(t *testing.T) {
	d := ready(t)
	d.profileOne("--stateful", "1")
	var report struct {
		Path     string
		Kept     []uint32
		Profiles profile.Set
	}
	d.json(&report, "profile", d.binary, "--jobs", "1,3", "--persistent", "3", "--runs", "1", "--warmups", "0")
	if diff := cmp.Diff([]uint32{0}, report.Kept); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	file, err := profile.Read(filepath.Join(d.dir, "target", "blueprint-profiles.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*profile.Set{file, &report.Profiles} {
		if len(p.Jobs) != 3 || p.Jobs[0].SampleSize != 1 || !p.Jobs[1].Stateful || !p.Jobs[3].PersistentConnections {
			t.Errorf("profiles: %+v", p)
		}
	}
	r := d.do(t.Context(), "", "profile", d.binary, "--jobs", "1", "--runs", "1")
	if !strings.Contains(r.err, "kept the profiles of jobs 0, 3") ||
		!strings.Contains(r.err, "kept what was declared of job 1") {
		t.Errorf("what was kept is not said:\n%s", r.err)
	}
	report.Kept, report.Profiles = nil, profile.Set{}
	d.json(&report, "profile", d.binary, "--jobs", "1", "--runs", "1", "--replace")
	if len(report.Kept) != 0 || len(report.Profiles.Jobs) != 1 || report.Profiles.Jobs[1].Stateful {
		t.Errorf("with --replace: %+v", report)
	}
}

func TestProfilesStandWhereDeploymentsOfTheirBinaryLook(t *testing.T) {
	d := newDesk(t)
	place := func(parts ...string) string { return filepath.Join(append([]string{d.dir}, parts...)...) }
	executable := func(parts ...string) string {
		path := place(parts...)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, []byte(script+"# "+filepath.Base(path)+"\n"), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	profiled := func(binary string) string {
		var report struct{ Path string }
		d.json(&report, "profile", binary, "--jobs", "0", "--runs", "1", "--warmups", "0")
		return report.Path
	}
	a, b := executable("proj", "a", "a"), executable("proj", "b", "b")
	release, second := executable("proj", "target", "release", "a"), executable("proj", "target", "release", "second")
	for _, tt := range []struct{ binary, path string }{
		{a, place("proj", "a", "blueprint-profiles.json")},
		{b, place("proj", "b", "blueprint-profiles.json")},
		{release, place("proj", "target", "blueprint-profiles.json")},
		{second, place("proj", "target", "release", "blueprint-profiles.json")}, // the other place is taken
	} {
		if got := profiled(tt.binary); got != tt.path {
			t.Errorf("%s: profiles in %s, want %s", tt.binary, got, tt.path)
		}
	}
	moved := place("proj", "blueprint-profiles.json")
	if err := os.Rename(place("proj", "a", "blueprint-profiles.json"), moved); err != nil {
		t.Fatal(err)
	}
	if got := profiled(a); got != moved {
		t.Errorf("the file of this binary above is left for %s", got)
	}
	third := executable("proj", "target", "release", "third")
	r := d.do(t.Context(), "", "profile", third, "--jobs", "0", "--runs", "1")
	if r.code != exitCodes[faas.ErrConflict] || !strings.Contains(r.err, `another blueprint, "second"`) ||
		!strings.Contains(r.err, "--replace") {
		t.Errorf("a third binary: exit code %d\n%s", r.code, r.err)
	}
}

func TestAnotherBuildIsSaid(t *testing.T) {
	d := deployedDesk(t)
	if err := os.WriteFile(d.binary, []byte(script+"# built again\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := d.do(t.Context(), "", "plan", "--service-id", "123"); r.code != exitOK ||
		!strings.Contains(r.out, "another build") {
		t.Errorf("exit code %d\n%s%s", r.code, r.out, r.err)
	}
	if r := d.do(t.Context(), "", "profile", d.binary, "--jobs", "0", "--runs", "1"); !strings.Contains(
		r.err, "another build of the binary was measured for job 1") {
		t.Errorf("a job of another build is not named:\n%s", r.err)
	}
}

func TestFunctionsAreRemovedOnlyIfSomebodyAgrees(t *testing.T) {
	d := deployedDesk(t)
	d.profileOne("--stateful", "1")
	deploy := []string{"deploy", "--service-id", "123"}
	for _, flags := range [][]string{nil, {"--json"}, {"--quiet"}} {
		r := d.do(t.Context(), "y\n", append(deploy, flags...)...)
		for _, want := range []string{"service-123-job1", "--prune", "nothing was changed"} {
			if !strings.Contains(r.err, want) {
				t.Errorf("%v: %q is not said:\n%s", flags, want, r.err)
			}
		}
		if r.code != exitCodes[faas.ErrInvalidArgument] || r.out != "" {
			t.Errorf("%v: exit code %d\n%s", flags, r.code, r.out)
		}
	}
	if got := d.ok("invoke", "--service-id", "123", "1", "--text", "there"); got != "there\n" {
		t.Errorf("job 1 answers %q", got)
	}
	var report deployed
	d.json(&report, append(deploy, "--prune")...)
	if diff := cmp.Diff([]string{"service-123-job1"}, report.Removed); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
	d.ok("profile", d.binary, "--jobs", "1", "--input", "0=text:hi", "--runs", "1", "--replace")
	d.ok(deploy...)
	d.profileOne("--stateful", "1")
	out := d.ok(append(deploy, "--yes")...)
	if !strings.Contains(out, "1 removed") || !strings.Contains(out, "service-123-job1") {
		t.Errorf("the removal is not told:\n%s", out)
	}
}

func TestAnUnprofiledBinaryIsNoDeadEnd(t *testing.T) {
	d := ready(t)
	binary := d.stranger()
	for _, args := range [][]string{{"plan", "--name", "new", "--binary", binary}, {"analyze", binary}} {
		out := d.ok(args...)
		want := `measure it with "tangle-cloud profile ` + map[string]string{"plan": binary, "analyze": "BINARY"}[args[0]]
		if !strings.Contains(out, want) || strings.Contains(out, "ProfileJobs") {
			t.Errorf("%s does not say %s:\n%s", args[0], want, out)
		}
	}
	d.ok("policy", "--serverless", "false")
	out := d.ok("plan", "--name", "new", "--binary", binary)
	if !strings.Contains(out, "tangle-cloud policy --serverless true") {
		t.Errorf("a plan does not say that serverless is off:\n%s", out)
	}
}

func TestAPolicyFileThatIsNamedHasToBeThere(t *testing.T) {
	d := deployedDesk(t)
	if err := os.Remove(filepath.Join(d.dir, "deployment-policy.json")); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"plan"}, {"deploy"}, {"status"}, {"undeploy"}, {"recover"}, {"invoke", "0"}} {
		r := d.do(t.Context(), "", append(args, "--service-id", "123")...)
		if r.code != exitCodes[faas.ErrNotFound] || !strings.Contains(r.err, "deployment-policy.json") {
			t.Errorf("%s: exit code %d\n%s%s", args[0], r.code, r.out, r.err)
		}
	}
}

// With the default fallback, what failed is told first, and with its own code.
func TestTheCauseOfAFailedDeploymentIsItsHeadline(t *testing.T) {
	d := ready(t)
	d.ok("policy", "--serverless-fallback", "true", "--faas-custom-endpoint", "http://127.0.0.1:1")
	args := []string{"deploy", "--name", "new", "--binary", d.binary}
	r := d.do(t.Context(), "", args...)
	cause, fallback := strings.Index(r.err, "refused"), strings.Index(r.err, "--run")
	if r.code != exitCodes[faas.ErrUnavailable] || cause < 0 || fallback < cause || strings.Count(r.err, "faas: ") > 0 {
		t.Errorf("exit code %d, want that of a connection that was refused\n%s", r.code, r.err)
	}
	var report struct{ Error failure }
	r = d.do(t.Context(), "", append(args, "--json")...)
	if err := json.Unmarshal([]byte(r.err), &report); err != nil || report.Error.Code != faas.ErrUnavailable ||
		report.Error.Provider != faas.Custom {
		t.Errorf("%v: %+v", err, report)
	}
}
