package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tangle-network/blueprint-serverless/faas/faastest"
)

var update = flag.Bool("update", false, "write the transcript that is checked in")

const transcript = "../docs/operator-day.txt"

// This test plays a day of an operator on the embedded platform and compares it with the transcript
// in the documentation.
func TestTheDayGoesAsTheTranscriptSays(t *testing.T) {
	d := newDesk(t)
	binary, err := os.ReadFile(faastest.JobBinary(t))
	if err == nil {
		err = os.WriteFile(d.binary, binary, 0o755)
	}
	// What a job costs follows from what was measured, which is another every time.
	const measured = `{"jobs": {"0": {"avg_duration_ms": 120, "p95_duration_ms": 150, "p99_duration_ms": 160, ` +
		`"peak_memory_mb": 180}, ` +
		`"1": {"avg_duration_ms": 800, "p95_duration_ms": 950, "p99_duration_ms": 990, "peak_memory_mb": 700}}}`
	if err == nil {
		err = os.WriteFile(filepath.Join(d.dir, "profiles.json"), []byte(measured), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	text.WriteString("A day of an operator on the embedded platform, as a test records it. Times and sizes are masked.\n")
	for _, step := range []struct {
		say  string
		args string
	}{
		{"The policy is the defaults at first.", "show"},
		{"Say where jobs are to run.", "policy --serverless true --faas-provider custom --faas-custom-endpoint ENDPOINT " +
			"--faas-memory 256 --faas-timeout 30"},
		{"What makes no sense is refused.", "policy --faas-provider gcp-functions"},
		{"", "policy --faas-aws-region eu-west-1"},
		{"Measure the jobs.", "profile BINARY --input 0=text:hello --input 1=hex:0500000000000000"},
		{"Which of them fit where?", "analyze BINARY"},
		{"And what would they cost? Here for two jobs that take 120 ms and 180 MB, and 800 ms and 700 MB.",
			"analyze profiles.json --calls-per-month 3000000 --svg cost.svg --quiet"},
		{"Is all there that a deployment needs?", "doctor --binary BINARY"},
		{"What would be done?", "plan --service-id 123 --binary BINARY"},
		{"And with a runner that takes the service's jobs from the chain?",
			"plan --service-id 123 --binary BINARY --keystore ./keystore"},
		{"Do it.", "service deploy --service-id 123 --binary BINARY"},
		{"Doing it again changes nothing.", "deploy --service-id 123"},
		{"", "list"},
		{"Run the jobs.", "invoke --service-id 123 0 --text hello"},
		{"", "invoke --service-id 123 1 --hex 0500000000000000 --output numbers --repeat 20"},
		{"", "warm --service-id 123 --instances 2"},
		{"", "status --service-id 123"},
		{"What did the jobs print? These print nothing.", "logs --service-id 123"},
		{"More memory for all functions.", "policy --faas-memory 512"},
		{"", "plan --service-id 123"},
		{"", "deploy --service-id 123"},
		{"A job that keeps state belongs on no function. What was measured of the other one is kept.",
			"profile BINARY --input 1=hex:0500000000000000 --stateful 1"},
		{"A function is removed when somebody agrees: on a terminal by an answer, else by a flag.",
			"deploy --service-id 123"},
		{"", "deploy --service-id 123 --prune"},
		{"Nothing was interrupted.", "recover --service-id 123"},
		{"Remove everything.", "undeploy --service-id 123"},
		{"", "invoke --service-id 123 0 --text hello"},
	} {
		if step.say != "" {
			text.WriteString("\n# " + step.say + "\n")
		}
		shown := strings.NewReplacer("ENDPOINT", "http://127.0.0.1:8080", "BINARY", "target/release/blueprint").Replace(
			step.args)
		args := strings.Fields(strings.NewReplacer("ENDPOINT", d.endpoint, "BINARY", d.binary, "profiles.json",
			filepath.Join(d.dir, "profiles.json"), "cost.svg", filepath.Join(d.dir, "cost.svg")).Replace(step.args))
		var both lockedBuffer // as a terminal shows it
		code := run(t.Context(), d.args(args), streams{in: strings.NewReader(""), out: &both, err: &both})
		text.WriteString("$ tangle-cloud " + shown + "\n" + d.mask(both.String()))
		if code != exitOK {
			fmt.Fprintf(&text, "exit code %d\n", code)
		}
	}
	if *update {
		if err := os.WriteFile(transcript, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(transcript)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("the day is another than %s says (-it +now); go test ./cli -run TestTheDay -update writes it anew:\n%s",
			filepath.Base(transcript), diff)
	}
}

var masks = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d`), "DATE TIME"},
	{regexp.MustCompile(`\b[0-9.]+(ms|µs|s)\b`), "T"},
	{regexp.MustCompile(`\b\d+ ms\b`), "T"},
	{regexp.MustCompile(`\b[0-9.]+ MB to upload`), "N MB to upload"},
	{regexp.MustCompile(`each cost [0-9.]+ USD`), "each cost N USD"}, // follows from what was measured
	{regexp.MustCompile(`T  \d+ MB  `), "T  N MB  "},
	{regexp.MustCompile(`(?m)^(ok|warn)  binary  .*`), "ok  binary  SYSTEM ARCHITECTURE, N KiB; it links faas/job"},
	{regexp.MustCompile(`\d+ calls a second`), "N calls a second"},
	{regexp.MustCompile(`\d+ cold starts`), "N cold starts"},
	{regexp.MustCompile(`, cold start`), ""},
}

// mask replaces what is another at every run.
func (d *desk) mask(text string) string {
	text = strings.NewReplacer(d.endpoint, "http://127.0.0.1:8080", d.dir, "~").Replace(text)
	text = regexp.MustCompile(` {2,}`).ReplaceAllString(text, "  ")
	text = regexp.MustCompile(` +\n`).ReplaceAllString(text, "\n")
	for _, m := range masks {
		text = m.pattern.ReplaceAllString(text, m.with)
	}
	return inOrder(text)
}

// inOrder sorts the lines of functions that were worked on at the same time.
func inOrder(text string) string {
	lines := strings.SplitAfter(text, "\n")
	for i := 0; i < len(lines); i++ {
		first := i
		for i < len(lines) && strings.HasPrefix(lines[i], "done ") {
			i++
		}
		slices.Sort(lines[first:i])
	}
	return strings.Join(lines, "")
}
