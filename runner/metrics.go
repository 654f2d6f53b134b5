package runner

import (
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// histogram counts durations, in the way of Prometheus. The zero value is ready to use.
type histogram struct {
	mu     sync.Mutex
	counts [len(bounds) + 1]uint64 // the last one is of what is above all bounds
	sum    float64
}

// bounds are the upper ends of the histogram's buckets, in seconds: from a local chain with a job
// that takes no time to a slow chain with a job that takes an hour.
var bounds = [...]float64{0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600}

func (h *histogram) add(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i, _ := slices.BinarySearch(bounds[:], d.Seconds())
	h.counts[i]++
	h.sum += d.Seconds()
}

// exposition writes metrics in the text format of Prometheus.
type exposition struct {
	b      strings.Builder
	common string // labels of all metrics
}

// family begins a metric.
func (x *exposition) family(name, kind, help string) {
	fmt.Fprintf(&x.b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

// sample writes one value; labels are pairs of name and value.
func (x *exposition) sample(name string, value float64, labels ...string) {
	x.b.WriteString(name + "{" + x.common)
	for i := 0; i < len(labels); i += 2 {
		fmt.Fprintf(&x.b, `,%s="%s"`, labels[i], labelEscapes.Replace(labels[i+1]))
	}
	x.b.WriteString("} " + strconv.FormatFloat(value, 'g', -1, 64) + "\n")
}

var labelEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// single writes a metric that has one value.
func (x *exposition) single(name, kind, help string, value float64) {
	x.family(name, kind, help)
	x.sample(name, value)
}

// wei writes a metric of an amount, unless that is unknown.
func (x *exposition) wei(name, kind, help string, amount *big.Int) {
	if amount != nil {
		value, _ := new(big.Float).SetInt(amount).Float64()
		x.single(name, kind, help, value)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// metrics answers with what Status and the events tell. All counters begin at zero when the process
// starts.
func (e *endpoint) metrics(w http.ResponseWriter, _ *http.Request) {
	s := e.status()
	const p = "blueprint_runner_"
	x := &exposition{common: fmt.Sprintf(`service="%d"`, e.service)}
	x.family(p+"info", "gauge", "Whose runner this is.")
	x.sample(p+"info", 1, "blueprint", strconv.FormatUint(s.Blueprint, 10), "operator", s.Operator,
		"chain_id", strconv.FormatUint(s.ChainID, 10), "contract", s.Contract)
	x.single(p+"healthy", "gauge", "Whether GET /healthz answers 200.", truth(s.Healthy))
	x.single(p+"paused", "gauge", "Whether the contract is paused.", truth(s.Paused))
	x.single(p+"head_block", "gauge", "The latest block that a node knows.", float64(s.Head))
	x.single(p+"behind_blocks", "gauge", "Blocks that are to be read.", float64(s.Behind))
	x.single(p+"queued_jobs", "gauge", "Calls that wait to run.", float64(s.Queued))
	x.single(p+"parked_jobs", "gauge", "Calls that wait without their inputs in memory.", float64(s.Parked))
	x.single(p+"running_jobs", "gauge", "Calls that run.", float64(s.Running))
	x.single(p+"submitting_results", "gauge", "Results on their way to the chain.", float64(s.Submitting))
	x.family(p+"waiting_jobs", "gauge", "Calls that something outside holds up, by reason.")
	for _, reason := range slices.Sorted(maps.Keys(s.Waiting)) {
		x.sample(p+"waiting_jobs", float64(s.Waiting[reason]), "reason", reason)
	}
	x.family(p+"jobs_total", "counter", "Calls that ended, by job and outcome.")
	for _, id := range slices.Sorted(maps.Keys(s.Jobs)) {
		outcomes := s.Jobs[id].Outcomes
		for _, o := range slices.Sorted(maps.Keys(outcomes)) {
			x.sample(p+"jobs_total", float64(outcomes[o]), "job", strconv.FormatUint(uint64(id), 10), "outcome", string(o))
		}
	}
	e.latency.write(x, p+"result_seconds", "Time from a call's block to the block of its result.")
	x.single(p+"gas_used_total", "counter", "Gas of mined transactions.", float64(s.GasUsed))
	x.wei(p+"spent_wei_total", "counter", "What the gas cost.", s.Spent)
	x.wei(p+"balance_wei", "gauge", "The operator's balance.", s.Balance)
	x.wei(p+"min_balance_wei", "gauge", "The balance below which the runner is not healthy.", s.MinBalance)
	x.wei(p+"pending_rewards_wei", "gauge", "Rewards that the operator may claim.", s.Rewards)
	x.family(p+"node_usable", "gauge", "Whether a node is asked.")
	for i, n := range s.Nodes {
		x.sample(p+"node_usable", truth(n.Usable), "node", n.Node, "index", strconv.Itoa(i))
	}
	x.family(p+"node_head_block", "gauge", "The latest block of a node.")
	for i, n := range s.Nodes {
		x.sample(p+"node_head_block", float64(n.Head), "node", n.Node, "index", strconv.Itoa(i))
	}
	x.family(p+"node_errors_total", "counter", "Requests that a node failed to answer.")
	for i, n := range s.Nodes {
		x.sample(p+"node_errors_total", float64(n.Errors), "node", n.Node, "index", strconv.Itoa(i))
	}
	if !s.Started.IsZero() {
		x.single(p+"start_time_seconds", "gauge", "When the runner started, in Unix time.", unix(s.Started))
	}
	if !s.LastAnswer.IsZero() {
		x.single(p+"last_answer_time_seconds", "gauge", "When a job last answered, in Unix time.", unix(s.LastAnswer))
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(x.b.String()))
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// write writes the histogram.
func (h *histogram) write(x *exposition, name, help string) {
	h.mu.Lock()
	counts, sum := h.counts, h.sum
	h.mu.Unlock()
	x.family(name, "histogram", help)
	total := uint64(0)
	for i, n := range counts {
		total += n
		end := "+Inf"
		if i < len(bounds) {
			end = strconv.FormatFloat(bounds[i], 'g', -1, 64)
		}
		x.sample(name+"_bucket", float64(total), "le", end)
	}
	x.sample(name+"_sum", sum)
	x.sample(name+"_count", float64(total))
}
