//go:build unix

package platform

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// scrape checks the text of GET /metrics and returns its samples.
func (s *server) scrape() map[string]float64 {
	s.t.Helper()
	resp, err := s.c.Get(s.url + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 ||
		got != "text/plain; version=0.0.4; charset=utf-8" {
		s.t.Errorf("status %d, content type %q", resp.StatusCode, got)
	}
	samples, err := parseMetrics(string(text))
	if err != nil {
		s.t.Error(err)
	}
	return samples
}

var (
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\+Inf|[0-9][0-9.e+-]*)$`)
	labelPair  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)`)
)

// parseMetrics parses Prometheus' text format more strictly than Prometheus does: every family
// occurs once, with HELP, TYPE and samples; the samples have the same labels, and none occurs
// twice; histograms are complete and in order. It removes the platform's prefix from names.
func parseMetrics(text string) (map[string]float64, error) {
	samples := map[string]float64{}
	if !utf8.ValidString(text) || !strings.HasSuffix(text, "\n") {
		return nil, errors.New("not UTF-8, or not ended by a line break")
	}
	families := map[string]bool{}
	var family, kind, labels, le string
	var last float64
	bad := func(line, format string, args ...any) error {
		return fmt.Errorf("in family %s: %s: %q", family, fmt.Sprintf(format, args...), line)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if help, ok := strings.CutPrefix(line, "# HELP "); ok {
			name, words, _ := strings.Cut(help, " ")
			if families[name] || words == "" || (family != "" && labels == "") {
				return nil, bad(line, "a family twice, without help, or the one before without samples")
			}
			families[name] = true
			family, kind, labels = name, "", ""
			continue
		}
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, what, _ := strings.Cut(rest, " ")
			if name != family || kind != "" || !slices.Contains([]string{"counter", "gauge", "histogram"}, what) {
				return nil, bad(line, "type")
			}
			kind = what
			if (kind == "counter") != strings.HasSuffix(name, "_total") {
				return nil, bad(line, "a counter's name ends in _total")
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil || kind == "" {
			return nil, bad(line, "no sample")
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil || value < 0 {
			return nil, bad(line, "value")
		}
		var names []string
		bound := ""
		for rest := m[2]; rest != ""; {
			pair := labelPair.FindStringSubmatch(rest)
			if pair == nil || slices.Contains(names, pair[1]) {
				return nil, bad(line, "labels")
			}
			rest = rest[len(pair[0]):]
			if pair[1] == "le" && kind == "histogram" {
				bound = pair[2]
				continue
			}
			names = append(names, pair[1])
		}
		if set := fmt.Sprint(names); labels != "" && labels != set {
			return nil, bad(line, "other labels than before: %s", labels)
		} else {
			labels = set
		}
		switch suffix := strings.TrimPrefix(m[1], family); {
		case kind != "histogram" && suffix == "":
		case kind == "histogram" && suffix == "_bucket":
			before, _ := strconv.ParseFloat(le, 64)
			now, err := strconv.ParseFloat(bound, 64)
			if err != nil || le != "" && le != "+Inf" && (now <= before || value < last) {
				return nil, bad(line, "buckets are not in order")
			}
			le, last = bound, value
		case kind == "histogram" && suffix == "_sum" && le == "+Inf":
		case kind == "histogram" && suffix == "_count" && le == "+Inf" && value == last:
			le = ""
		default:
			return nil, bad(line, "not of this family")
		}
		name := strings.TrimPrefix(m[1], metricsPrefix)
		if m[2] != "" {
			name += "{" + m[2] + "}"
		}
		if _, twice := samples[name]; twice {
			return nil, bad(line, "twice")
		}
		samples[name] = value
	}
	if le != "" {
		return nil, errors.New("a histogram does not end")
	}
	return samples, nil
}

func TestMetricsCountCalls(t *testing.T) {
	s := newServer(t)
	if got := s.scrape(); len(got) != 4 || got["functions"] != 0 {
		t.Errorf("without functions: %v", got)
	}
	s.putJobs("f", nil, "X-Blueprint-Service", `a%22b%5Cc%C3`)
	for range 3 {
		s.mustInvoke("f", jobEcho, "x")
	}
	s.invoke("f", jobFail, "")
	s.putJobs("f", nil, "X-Blueprint-Service", `a%22b%5Cc%C3`, "X-Blueprint-If-Exists", "replace") // counts outlive it
	s.mustInvoke("f", jobSlow, "x")
	got := s.scrape()
	for name, want := range map[string]float64{
		`functions`: 1,
		`invocations_total{function="f",code="ok"}`:                  4,
		`invocations_total{function="f",code="function failed"}`:     1,
		`invocations_total{function="f",code="timeout"}`:             0,
		`invocation_duration_seconds_count{function="f"}`:            5,
		`invocation_duration_seconds_bucket{function="f",le="+Inf"}`: 5,
		`process_starts_total{function="f"}`:                         2, // those of the replaced one too
		`cold_starts_total{function="f"}`:                            2,
		`function_healthy{function="f"}`:                             1,
		`memory_limit_bytes{function="f"}`:                           256 << 20,
		`running{function="f"}`:                                      0,
		`waiting{function="f"}`:                                      0,
		`processes{function="f"}`:                                    1,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, want)
		}
	}
	if v := got[`invocation_duration_seconds_sum{function="f"}`]; v < 0.2 {
		t.Errorf("a call that sleeps for 200 ms took, with others, %v s", v)
	}
	info := 0
	for name := range got {
		if strings.HasPrefix(name, `function_info{function="f",service="a\"b\\c`) {
			info++
		}
	}
	if info != 1 {
		t.Errorf("no function_info: %v", got)
	}
}

func TestDurationsAreCountedInTheirBucketAndAllAbove(t *testing.T) {
	s := newServer(t)
	s.mustPut("f", scriptZip(t, "true"))
	f, err := s.p.lookup("test", "f")
	if err != nil {
		t.Fatal(err)
	}
	f.counts.calls.add(500*time.Microsecond, true, nil) // a bound is in its bucket
	f.counts.calls.add(2*time.Second, false, faas.Errorf(faas.ErrConflict, "x", "", "y"))
	f.counts.calls.add(time.Minute, false, notRunError(faas.ErrThrottled, "x", "y")) // it did not run
	f.counts.calls.add(time.Hour, false, nil)
	got := s.scrape()
	for le, want := range map[string]float64{"0.0005": 1, "0.001": 1, "1": 1, "2.5": 2, "900": 2, "+Inf": 3} {
		if v := got[`invocation_duration_seconds_bucket{function="f",le="`+le+`"}`]; v != want {
			t.Errorf("bucket %s has %v, want %v", le, v, want)
		}
	}
	if got[`cold_starts_total{function="f"}`] != 1 || got[`invocations_total{function="f",code="internal"}`] != 1 {
		t.Error(got)
	}
}

func TestARemovedFunctionHasNoMetrics(t *testing.T) {
	s := newServer(t)
	s.mustPut("stays", scriptZip(t, "echo x >&2; exit 1"))
	s.mustPut("goes", scriptZip(t, "true"))
	for range crashLoop {
		s.invoke("stays", 0, "")
	}
	got := s.scrape()
	if got[`function_healthy{function="stays"}`] != 0 || got[`function_healthy{function="goes"}`] != 1 ||
		got[`log_lines_total{function="stays"}`] != crashLoop {
		t.Error(got)
	}
	s.do(http.MethodDelete, "/api/functions/goes", nil)
	for name := range s.scrape() {
		if strings.Contains(name, "goes") {
			t.Errorf("%s is still there", name)
		}
	}
	s.mustPut("goes", scriptZip(t, "true"))
	if got := s.scrape(); got[`invocations_total{function="goes",code="ok"}`] != 0 {
		t.Error("a new function has the counts of an old one")
	}
}

// An embedded platform accepts any text as the name of a service.
func TestLabelsAreEscaped(t *testing.T) {
	for service, want := range map[string]string{
		`a"b\c`: `a\"b\\c`, "line\nbreak": `line\nbreak`, "\\n": `\\n`, `"} 1`: `\"} 1`, "bad\xff": "bad\uFFFD",
		"猫\r\t\x00": "猫\r\t\x00", "# HELP x": "# HELP x",
	} {
		s := newServer(t)
		d := &deployment{record: record{ID: "f", Service: service, Config: config{MemoryMB: 128, TimeoutSecs: 1}},
			pkg: bytes.NewReader(scriptZip(t, "true"))}
		f, err := s.p.deploy(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		name := `function_info{function="f",service="` + want + `",package_sha256="` + f.PackageSHA256 + `"}`
		if got := s.scrape(); got[name] != 1 {
			t.Errorf("%q: no %s in %v", service, name, got)
		}
	}
}

func TestMetricsNeedTheToken(t *testing.T) {
	s := newServer(t, WithToken("secret"))
	if a := s.do(http.MethodGet, "/metrics", nil); a.status != 401 {
		t.Error(a)
	}
	ours := newServer(t)
	if a := ours.do(http.MethodPost, "/metrics", nil); a.status != 405 {
		t.Error(a)
	}
}
