package platform

import (
	"bufio"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tangle-network/blueprint-serverless/faas"
	"github.com/tangle-network/blueprint-serverless/internal/worker"
)

const metricsPath = "/metrics"

// outcomes are the ways in which a call can end. The empty code is an answer; the last one stands
// for all codes not listed.
var outcomes = [...]faas.Code{"", faas.ErrFunctionFailed, faas.ErrTimeout, faas.ErrThrottled, faas.ErrUnavailable,
	faas.ErrNotFound, faas.ErrTooLarge, faas.ErrInternal}

// durationBounds are the upper bounds of the histogram, in seconds; one more bucket is above the
// last. A warm call is in the first, the longest timeout in the last.
var durationBounds = [...]float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
	60, 300, 900}

// callCounts counts calls. The zero value is ready to use.
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
	var refused *faas.Error
	if err != nil && errors.As(err, &refused) && refused.NotRun {
		return // that it was refused fast says nothing of how fast the function is
	}
	bucket := 0
	for seconds := took.Seconds(); bucket < len(durationBounds) && seconds > durationBounds[bucket]; {
		bucket++
	}
	c.buckets[bucket].Add(1)
	c.nanos.Add(int64(took))
}

// poolCounts are the sums over all process pools of a function, replaced ones included. The zero
// value is ready to use.
type poolCounts struct {
	mu    sync.Mutex
	pools []*worker.Pool // that have not ended
	ended worker.Stats   // of the others: Starts and Waited
}

func (c *poolCounts) begin(p *worker.Pool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pools = append(c.pools, p)
}

func (c *poolCounts) end(p *worker.Pool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.pools, p); i >= 0 {
		c.pools = slices.Delete(c.pools, i, i+1)
		s := p.Stats()
		c.ended.Starts += s.Starts
		c.ended.Waited += s.Waited
	}
}

func (c *poolCounts) stats() worker.Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := c.ended
	for _, p := range c.pools {
		s := p.Stats()
		sum.Starts += s.Starts
		sum.Waited += s.Waited
		sum.Running += s.Running
		sum.Waiting += s.Waiting
		sum.PIDs = append(sum.PIDs, s.PIDs...)
		sum.PeakMB = max(sum.PeakMB, s.PeakMB)
	}
	return sum
}

// metricsText writes an answer in the text format of Prometheus
// (https://prometheus.io/docs/instrumenting/exposition_formats/).
type metricsText struct{ *bufio.Writer }

var (
	labelEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
	helpEscaper  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
)

// Errors of a bufio.Writer are sticky, and a client that is gone needs none.
func (t metricsText) text(parts ...string) {
	for _, s := range parts {
		_, _ = t.WriteString(s)
	}
}

// family begins a metric.
func (t metricsText) family(name, kind, help string) {
	t.text("# HELP ", metricsPrefix, name, " ", helpEscaper.Replace(help), "\n# TYPE ", metricsPrefix, name, " ", kind,
		"\n")
}

// sample writes one value. labels alternates names and values.
func (t metricsText) sample(name string, value float64, labels ...string) {
	t.text(metricsPrefix, name)
	for i := 0; i < len(labels); i += 2 {
		t.text([]string{"{", ","}[min(i, 1)], labels[i], `="`,
			labelEscaper.Replace(strings.ToValidUTF8(labels[i+1], "\uFFFD")), `"`)
	}
	if len(labels) > 0 {
		t.text("}")
	}
	t.text(" ", number(value), "\n")
}

func number(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

const metricsPrefix = "blueprint_platform_"

// functionMetrics are the metrics with one value for each function.
var functionMetrics = []struct {
	name, kind, help string
	value            func(f *function, s *worker.Stats) float64
}{
	{"function_healthy", "gauge", "1 for a function that is healthy, as its health check says, else 0.",
		func(f *function, _ *worker.Stats) float64 {
			if f.health().Healthy {
				return 1
			}
			return 0
		}},
	{"cold_starts_total", "counter", "Calls that waited for a process of their own to start.",
		func(f *function, _ *worker.Stats) float64 { return float64(f.counts.calls.cold.Load()) }},
	{"queue_seconds_total", "counter", "Time that calls waited for their turn or for a process.",
		func(_ *function, s *worker.Stats) float64 { return s.Waited.Seconds() }},
	{"process_starts_total", "counter", "Warm processes that were started.",
		func(_ *function, s *worker.Stats) float64 { return float64(s.Starts) }},
	{"running", "gauge", "Calls that run.", func(_ *function, s *worker.Stats) float64 { return float64(s.Running) }},
	{"waiting", "gauge", "Calls that wait.", func(_ *function, s *worker.Stats) float64 { return float64(s.Waiting) }},
	{"processes", "gauge", "Processes that run.",
		func(_ *function, s *worker.Stats) float64 { return float64(len(s.PIDs)) }},
	{"memory_peak_bytes", "gauge", "The largest peak memory among the processes that run.",
		func(_ *function, s *worker.Stats) float64 { return float64(s.PeakMB) * (1 << 20) }},
	{"memory_limit_bytes", "gauge", "The memory that each process may use.",
		func(f *function, _ *worker.Stats) float64 { return float64(f.Config.MemoryMB) * (1 << 20) }},
	{"log_lines_total", "counter", "Lines that processes wrote to their standard error.",
		func(f *function, _ *worker.Stats) float64 { return float64(f.log.ring.Count()) }},
}

// writeMetrics writes family by family, as the format requires, and never holds all of it in
// memory, because there may be thousands of functions.
func (p *Platform) writeMetrics(t metricsText) {
	functions := p.list("")
	t.family("functions", "gauge", "Functions that are deployed.")
	t.sample("functions", float64(len(functions)))
	t.family("isolation_info", "gauge", "What keeps functions to their limits and apart; always 1.")
	in := p.Isolation()
	t.sample("isolation_info", 1, "memory", in.Memory, "tasks", in.Tasks, "cpu", in.CPU, "open_files", in.OpenFiles,
		"strays", in.Strays, "users", in.Users, "namespaces", in.Namespaces)
	t.family("buffered_bytes", "gauge", "Memory that large requests and answers take.")
	t.sample("buffered_bytes", float64(p.buffered.Used()))
	t.family("buffered_limit_bytes", "gauge", "Memory that large requests and answers may take.")
	t.sample("buffered_limit_bytes", float64(p.buffered.Limit()))
	if len(functions) == 0 {
		return
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
	t.family("invocation_duration_seconds", "histogram",
		"Time from the arrival of a call that was run to its answer, waiting included.")
	for _, f := range functions {
		c := &f.counts.calls
		nanos := c.nanos.Load()
		var sum uint64
		for i := range c.buckets {
			sum += c.buckets[i].Load()
			bound := math.Inf(1)
			if i < len(durationBounds) {
				bound = durationBounds[i]
			}
			t.sample("invocation_duration_seconds_bucket", float64(sum), "function", f.ID, "le", number(bound))
		}
		t.sample("invocation_duration_seconds_sum", time.Duration(nanos).Seconds(), "function", f.ID)
		t.sample("invocation_duration_seconds_count", float64(sum), "function", f.ID)
	}
	stats := make([]worker.Stats, len(functions))
	for i, f := range functions {
		stats[i] = f.counts.pools.stats()
	}
	for _, m := range functionMetrics {
		t.family(m.name, m.kind, m.help)
		for i, f := range functions {
			t.sample(m.name, m.value(f, &stats[i]), "function", f.ID)
		}
	}
}

func (p *Platform) serveMetrics(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	if r.Method == http.MethodHead {
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(p.opts.limits.RequestTimeout)) // for a client that reads slowly on purpose
	t := metricsText{bufio.NewWriterSize(w, 32<<10)}
	p.writeMetrics(t)
	if t.Flush() == nil && control.Flush() == nil {
		_ = control.SetWriteDeadline(time.Time{})
	}
}
