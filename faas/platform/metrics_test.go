//go:build unix

package platform

import (
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
)

// scrape returns the samples of GET /metrics, and checks that each is in the text format and of a family that was announced before it.
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
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "text/plain; version=0.0.4; charset=utf-8" {
		s.t.Errorf("status %d, content type %q", resp.StatusCode, got)
	}
	sample := regexp.MustCompile(`^([a-z_0-9]+)(\{(?:[a-z_0-9]+="(?:[^"\\\n]|\\["\\n])*",?)+\})? ([0-9.e+-]+)$`)
	kind := regexp.MustCompile(`^# TYPE ([a-z_0-9]+) (counter|gauge|histogram)$`)
	samples := map[string]float64{}
	family := "none"
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "# HELP ") {
			continue
		}
		if m := kind.FindStringSubmatch(line); m != nil {
			family = m[1]
			continue
		}
		m := sample.FindStringSubmatch(line)
		if m == nil || !strings.HasPrefix(m[1], family) {
			s.t.Errorf("in family %s: %q", family, line)
			continue
		}
		name := strings.TrimPrefix(m[1], "blueprint_platform_") + m[2]
		if _, twice := samples[name]; twice {
			s.t.Errorf("%s is there twice", name)
		}
		if samples[name], err = strconv.ParseFloat(m[3], 64); err != nil {
			s.t.Error(err)
		}
	}
	return samples
}

func TestMetricsCountCalls(t *testing.T) {
	s := newServer(t)
	if got := s.scrape(); len(got) != 1 || got["functions"] != 0 {
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
		`process_starts_total{function="f"}`:                         1,
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
	f.counts.calls.add(2*time.Second, false, notRunError(faas.ErrConflict, "x", "y"))
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
