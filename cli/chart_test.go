package cli

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/go-analyze/charts/chartdraw"
	"github.com/google/go-cmp/cmp"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/cost"
	"github.com/tangle-network/blueprint-serverless/faas"
)

var priced = []string{faas.AWSLambda, faas.AzureFunctions, faas.GCPFunctions}

func jobs(profiles ...serverless.JobProfile) *serverless.Metadata {
	meta := &serverless.Metadata{}
	for i := range profiles {
		meta.Jobs = append(meta.Jobs, serverless.Job{ID: uint32(i), Profile: &profiles[i]})
	}
	return meta
}

var (
	quick = serverless.JobProfile{AvgDurationMS: 120, P95DurationMS: 150, PeakMemoryMB: 180}
	long  = serverless.JobProfile{AvgDurationMS: 700_000, P95DurationMS: 800_000, PeakMemoryMB: 80}
)

func drawn(t *testing.T, meta *serverless.Metadata, in cost.Input, width int) string {
	t.Helper()
	c, err := newChart(meta, in, priced, width)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := c.render(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// texts are what the picture says.
func texts(t *testing.T, svg string) []string {
	t.Helper()
	var out []string
	dec := xml.NewDecoder(strings.NewReader(svg))
	inText := false
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			inText = token.Name.Local == "text"
		case xml.CharData:
			if inText {
				out = append(out, string(token))
			}
		case xml.EndElement:
			inText = false
		}
	}
}

func TestTheChartNamesEveryLineAndWhereItCrossesTheMachine(t *testing.T) {
	svg := drawn(t, jobs(quick), cost.Input{CallsPerMonth: 3e6, DefaultMemoryMB: 512}, 760)
	if diff := cmp.Diff([]string{
		"0.1", "1", "10", "100", "1k", "10k", "100k", "1M", "10M", "100M", "calls in a month", "3M calls", "azure-functions",
		"gcp-functions", "aws-lambda", "t4g.nano",
		"What a month costs at list prices, in USD", "aws-lambda: as much as the machine at 11.3M calls",
		"azure-functions: as much as the machine at 703k calls",
		"gcp-functions: as much as the machine at 5.66M calls", "t4g.nano, a machine for every job: 6.72 USD",
	}, sorted(texts(t, svg))); diff != "" {
		t.Errorf("(-want +drawn):\n%s", diff)
	}
	if circles := strings.Count(svg, "<circle"); circles != 3 {
		t.Errorf("%d crossings are marked, want 3", circles)
	}
}

// sorted puts the labels of the axes, which come in the library's order, before the others.
func sorted(labels []string) []string {
	axis := regexp.MustCompile(`^[0-9.]+[kMB]?$`)
	seen := map[string]bool{}
	var first, rest []string
	for _, want := range []string{"0.1", "1", "10", "100", "1k", "10k", "100k", "1M", "10M", "100M"} {
		for _, label := range labels {
			if label == want && !seen[label] {
				seen[label] = true
				first = append(first, label)
			}
		}
	}
	for _, label := range labels {
		if !axis.MatchString(label) {
			rest = append(rest, label)
		}
	}
	return append(first, rest...)
}

func TestTheChartSaysWhatItCannotCompare(t *testing.T) {
	for _, tt := range []struct {
		name string
		meta *serverless.Metadata
		in   cost.Input
		says string
	}{
		{"not all jobs", jobs(quick, long), cost.Input{},
			"azure-functions (1 of 2 jobs): as much as the machine at"},
		{"dearer from the first call", jobs(quick), cost.Input{KeepWarm: 5},
			"gcp-functions: always dearer than the machine"},
		{"several jobs", jobs(quick, quick), cost.Input{}, "calls of each job in a month"},
	} {
		if got := texts(t, drawn(t, tt.meta, tt.in, 760)); !strings.Contains(strings.Join(got, "\n"), tt.says) {
			t.Errorf("%s: nothing says %q: %q", tt.name, tt.says, got)
		}
	}
	if _, err := newChart(jobs(serverless.JobProfile{Stateful: true}), cost.Input{}, priced, 760); err == nil {
		t.Error("a chart without a line was drawn")
	}
}

func TestEveryColourOfTheChartHasADarkPartner(t *testing.T) {
	svg := drawn(t, jobs(quick), cost.Input{CallsPerMonth: 3e6}, 760)
	styles, body, _ := strings.Cut(svg, "</style>")
	if !strings.Contains(styles, "prefers-color-scheme: dark") {
		t.Fatal("there is no dark scheme")
	}
	found := regexp.MustCompile(`(fill|stroke):[a-z]+(\([0-9,]+\))?`).FindAllString(body, -1)
	if len(found) < 20 {
		t.Fatalf("only %d colours", len(found))
	}
	for _, colour := range found {
		if !strings.HasSuffix(colour, ":none") && !strings.Contains(styles, `[style*="`+colour+`"]`) {
			t.Errorf("%s has no partner", colour)
		}
	}
}

func TestLabelsAtTheEndsOfLinesStandApart(t *testing.T) {
	for _, costs := range [][]float64{{10, 10, 10, 10}, {0.1, 0.1, 0.1, 1e4}, {1e4, 1e4, 9e3, 0.1}, {5, 6, 7, 1e4}} {
		ys := newDecades(leastCost, 1e4)
		ys.SetDomain(250)
		var labels []endLabel
		for i, cost := range costs {
			labels = append(labels, endLabel{string(rune('a' + i)), ink, cost})
		}
		r := chartdraw.SVG(400, 400)
		drawEndLabels(r, chartdraw.Box{Top: 50, Left: 50, Right: 300, Bottom: 300, IsSet: true}, ys, labels)
		var b strings.Builder
		if err := r.Save(&b); err != nil {
			t.Fatal(err)
		}
		var last int
		for i, m := range regexp.MustCompile(`y="(\d+)"`).FindAllStringSubmatch(b.String(), -1) {
			y := atoi(t, m[1])
			if i > 0 && y-last < 15 || y < 50 || y > 310 {
				t.Errorf("%v: a label at %d, the one above it at %d", costs, y, last)
			}
			last = y
		}
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// What is drawn stays on the paper, however wide that is.
func TestTheChartFitsItsWidth(t *testing.T) {
	for _, width := range []int{smallestWide, 400, 760, 2000} {
		svg := drawn(t, jobs(quick, long), cost.Input{CallsPerMonth: 5e8}, width)
		for _, m := range regexp.MustCompile(`<text x="(-?\d+)"`).FindAllStringSubmatch(svg, -1) {
			if x := m[1]; strings.HasPrefix(x, "-") || atoi(t, x) > width-20 {
				t.Errorf("%d pixels wide: a text begins at %s", width, x)
			}
		}
	}
}

func TestNumbersOnTheAxesAreShort(t *testing.T) {
	for x, want := range map[float64]string{0.1: "0.1", 1: "1", 10: "10", 999: "999", 1000: "1k", 999.6: "1k",
		4244580: "4.24M", 12345678: "12.3M", 283e3: "283k", 1e8: "100M", 1e9: "1B", 1e12: "1T", 999_999: "1M",
		0.125: "0.13"} {
		if got := short(x); got != want {
			t.Errorf("%v is written %q, want %q", x, got, want)
		}
	}
}

// This test draws the picture in the documentation. It compares the words only, because other
// processors may round a line to other pixels.
func TestThePictureInTheDocumentsSaysWhatIsDrawn(t *testing.T) {
	const picture = "../docs/cost.svg"
	now := drawn(t, jobs(quick, serverless.JobProfile{AvgDurationMS: 800, P95DurationMS: 950, PeakMemoryMB: 700}),
		cost.Input{CallsPerMonth: 1e6}, 760)
	if *update {
		if err := os.WriteFile(picture, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(texts(t, string(text)), texts(t, now)); diff != "" {
		t.Errorf("it says something else (-it +now); go test ./cmd/tangle-cloud -update draws it anew:\n%s", diff)
	}
}

func TestAnalyzeDrawsAndRecommends(t *testing.T) {
	d := ready(t)
	picture := filepath.Join(d.dir, "cost.svg")
	out := d.ok("analyze", d.binary, "--calls-per-month", "1000", "--svg", picture)
	if !strings.Contains(out, "cheapest where every job fits: ") {
		t.Errorf("nothing is recommended:\n%s", out)
	}
	text, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	if got := texts(t, string(text)); len(got) < 15 {
		t.Errorf("the picture says %q", got)
	}
}
