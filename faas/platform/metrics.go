package platform

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

const metricsPath = "/metrics"

// outcomes are how a call can end; the empty code is an answer. What is none of the others is the last.
var outcomes = [...]faas.Code{"", faas.ErrFunctionFailed, faas.ErrTimeout, faas.ErrThrottled, faas.ErrUnavailable, faas.ErrNotFound, faas.ErrTooLarge, faas.ErrInternal}

// durationBounds are the upper bounds of the histogram, in seconds; above the last is one more bucket. A warm call is in the first, the longest timeout in the last.
var durationBounds = [...]float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900}

// callCounts count calls. The zero value is ready.
type callCounts struct {
	ended   [len(outcomes)]atomic.Uint64
	buckets [len(durationBounds) + 1]atomic.Uint64 // each without those before it
	nanos   atomic.Int64
	cold    atomic.Uint64
}

func (c *callCounts) add(took time.Duration, cold bool, err error) {
	i := slices.Index(outcomes[:], faas.CodeOf(err))
	if i < 0 {
		i = len(outcomes) - 1
	}
	c.ended[i].Add(1)
	if cold {
		c.cold.Add(1)
	}
	bucket := 0
	for seconds := took.Seconds(); bucket < len(durationBounds) && seconds > durationBounds[bucket]; {
		bucket++
	}
	c.buckets[bucket].Add(1)
	c.nanos.Add(int64(took))
}

// metricsText builds an answer in the text format of Prometheus.
type metricsText struct{ strings.Builder }

var labelEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// family begins a metric.
func (t *metricsText) family(name, kind, help string) {
	t.WriteString("# HELP blueprint_platform_" + name + " " + help + "\n# TYPE blueprint_platform_" + name + " " + kind + "\n")
}

// sample writes one value; labels are names and values in turn.
func (t *metricsText) sample(name string, value float64, labels ...string) {
	t.WriteString("blueprint_platform_" + name)
	for i := 0; i < len(labels); i += 2 {
		t.WriteString([]string{"{", ","}[min(i, 1)] + labels[i] + `="` + labelEscaper.Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD")) + `"`)
	}
	if len(labels) > 0 {
		t.WriteByte('}')
	}
	t.WriteString(" " + number(value) + "\n")
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// functionMetrics are those that a function has one value of.
var functionMetrics = []struct {
	name, kind, help string
	value            func(f *function, s *worker.Stats) float64
}{
	{"cold_starts_total", "counter", "Calls that waited for a process of their own to start.",
		func(f *function, _ *worker.Stats) float64 { return float64(f.counts.calls.cold.Load()) }},
	{"queue_seconds_total", "counter", "Time that calls waited for their turn or for a process.",
		func(_ *function, s *worker.Stats) float64 { return s.Waited.Seconds() }},
	{"process_starts_total", "counter", "Warm processes that were started.",
		func(_ *function, s *worker.Stats) float64 { return float64(s.Starts) }},
	{"running", "gauge", "Calls that run.", func(_ *function, s *worker.Stats) float64 { return float64(s.Running) }},
	{"waiting", "gauge", "Calls that wait.", func(_ *function, s *worker.Stats) float64 { return float64(s.Waiting) }},
	{"processes", "gauge", "Processes that run.", func(_ *function, s *worker.Stats) float64 { return float64(len(s.PIDs)) }},
	{"memory_peak_bytes", "gauge", "The largest peak memory among the processes that run.",
		func(_ *function, s *worker.Stats) float64 { return float64(s.PeakMB) * (1 << 20) }},
}

func (p *Platform) metrics() string {
	functions := p.list("")
	var t metricsText
	t.family("functions", "gauge", "Functions that are deployed.")
	t.sample("functions", float64(len(functions)))
	if len(functions) == 0 {
		return t.String()
	}
	t.family("function_info", "gauge", "What a function is; always 1.")
	for _, f := range functions {
		t.sample("function_info", 1, "function", f.ID, "service", f.Service, "package_sha256", f.PackageSHA256)
	}
	t.family("invocations_total", "counter", "Calls by how they ended.")
	for _, f := range functions {
		for i, code := range outcomes {
			if code == "" {
				code = "ok"
			}
			t.sample("invocations_total", float64(f.counts.calls.ended[i].Load()), "function", f.ID, "code", string(code))
		}
	}
	t.family("invocation_duration_seconds", "histogram", "Time from the arrival of a call to its answer, waiting included.")
	for _, f := range functions {
		c := &f.counts.calls
		var sum uint64
		for i := range c.buckets {
			sum += c.buckets[i].Load()
			bound := "+Inf"
			if i < len(durationBounds) {
				bound = number(durationBounds[i])
			}
			t.sample("invocation_duration_seconds_bucket", float64(sum), "function", f.ID, "le", bound)
		}
		t.sample("invocation_duration_seconds_sum", time.Duration(c.nanos.Load()).Seconds(), "function", f.ID)
		t.sample("invocation_duration_seconds_count", float64(sum), "function", f.ID)
	}
	stats := make([]worker.Stats, len(functions))
	for i, f := range functions {
		if f.pool != nil {
			stats[i] = f.pool.Stats()
		}
	}
	for _, m := range functionMetrics {
		t.family(m.name, m.kind, m.help)
		for i, f := range functions {
			t.sample(m.name, m.value(f, &stats[i]), "function", f.ID)
		}
	}
	return t.String()
}

func (p *Platform) serveMetrics(w http.ResponseWriter) {
	text := p.metrics()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	_, _ = w.Write([]byte(text)) // a client that is gone has no use for the error
}
