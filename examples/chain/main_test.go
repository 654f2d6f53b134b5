package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	serverless "github.com/tangle-network/blueprint-serverless"
)

func output(t *testing.T, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), args, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestTheRecordedBlueprintIsComparedForAllProviders(t *testing.T) {
	got := output(t)
	for _, part := range []string{
		"blueprint 0  three-jobs-valid", "Three jobs, profiled", "on chain id 31338, at block 100",
		"linux/amd64 bp-amd64 4bf5122f",
		"aws-lambda", "gcp-functions", "azure-functions", "custom", "0 job-0", "fits: 320 MiB, 10 s", "hybrid",
		"job 1 does not fit any provider: it is stateful",
		"job 2 does not fit azure-functions: 95% of its runs take up to 910 s",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is missing in\n%s", part, got)
		}
	}
}

func TestJSONReadsBack(t *testing.T) {
	var r report
	if err := json.Unmarshal([]byte(output(t, "-json", "-blueprint", "1")), &r); err != nil {
		t.Fatal(err)
	}
	if r.Metadata.Name != "gpu-tee" || len(r.Analyses) != 4 ||
		r.Analyses[0].Strategy.Kind != serverless.StrategyTraditional {
		t.Errorf("%+v", r)
	}
}

func TestFailuresAreErrors(t *testing.T) {
	for _, args := range [][]string{{"-blueprint", "77"}, {"extra"}, {"-rpc", "http://127.0.0.1:1", "-contract", "0x01"},
		{"-binary", "/nothing/there"}} {
		if err := run(t.Context(), args, &bytes.Buffer{}); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
}

func TestWhatIsPrintedCannotControlATerminal(t *testing.T) {
	if got := printable("a\x1b[31mb\r\nc✓名"); got != "a?[31mb??c✓名" {
		t.Errorf("%q", got)
	}
}
