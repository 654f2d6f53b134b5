package cost

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	serverless "github.com/tangle-network/blueprint-serverless"
	"github.com/tangle-network/blueprint-serverless/faas"
)

// Comparison compares all providers. It is a plain value.
type Comparison struct {
	Analyses []*serverless.Analysis `json:"analyses"` // one for each provider that is known, by name
	// Costs are the estimates for the providers whose prices are known. It is empty unless jobs are
	// called or instances are kept warm.
	Costs []*Estimate `json:"costs,omitempty"`
	// Recommended is the cheapest provider on which every job fits, or empty if no provider with known
	// prices takes every job.
	Recommended string `json:"recommended,omitempty"`
	// Reasons are sentences for people: first why Recommended was chosen, then what stands against
	// each other provider, then how a machine compares.
	Reasons []string `json:"reasons"`
}

// Compare analyses the jobs for every provider in [faas.KnownNames], linked or not, and recommends
// the cheapest of those on which every job fits. It compares what a month costs if in says how
// often jobs are called, and otherwise list prices without the free tier. It only recommends:
// deployments still use the provider in the policy.
//
// Every job fits if [serverless.AnalyzeFor] says so, the provider sells a large enough instance,
// and the job answers before the provider's front end gives up on the caller.
//
// Like [serverless.Analyze], Compare is pure except that it reads the registered providers.
func Compare(meta *serverless.Metadata, in Input) *Comparison {
	c := &Comparison{Analyses: []*serverless.Analysis{}}
	called := in.CallsPerMonth > 0 || in.KeepWarm > 0
	for _, calls := range in.JobCalls {
		called = called || calls > 0
	}
	list := in // what a call costs where nothing is free
	list.CallsPerMonth, list.JobCalls, list.KeepWarm, list.Overrides = 1e6, nil, 0, maps.Clone(in.Overrides)
	for id, own := range list.Overrides {
		called = called || own.KeepWarm != nil && *own.KeepWarm > 0
		own.KeepWarm = nil
		list.Overrides[id] = own
	}

	var fitting, others []candidate
	for _, name := range faas.KnownNames() {
		analysis, err := serverless.AnalyzeFor(meta, name, true)
		if err != nil {
			continue // it is known: there is no other error
		}
		c.Analyses = append(c.Analyses, analysis)
		p := candidate{name: name, obstacles: obstacles(meta, analysis)}
		if cost, err := ForProvider(meta, name, list); err == nil {
			p.priced = true
			for _, job := range cost.Jobs {
				p.listPrice += job.Requests + job.Compute
			}
		}
		if called && p.priced {
			if p.cost, err = ForProvider(meta, name, in); err == nil {
				p.total = p.cost.Total
				c.Costs = append(c.Costs, p.cost)
			}
		}
		if p.priced && len(p.obstacles) == 0 {
			fitting = append(fitting, p)
		} else {
			others = append(others, p)
		}
	}
	if len(c.Analyses) == 0 || len(c.Analyses[0].Jobs) == 0 {
		c.Reasons = []string{"there is no job"}
		return c
	}
	slices.SortStableFunc(fitting, func(a, b candidate) int {
		if amount(a.total, "") == amount(b.total, "") { // to the cent, as people see it
			return cmp.Compare(a.listPrice, b.listPrice)
		}
		return cmp.Compare(a.total, b.total)
	})
	currency := currencyOf(in.Prices)
	for _, p := range fitting {
		say := fmt.Sprintf("%s: every job fits; a million calls of each cost %s where nothing is free", p.name,
			amount(p.listPrice, currency))
		if p.cost != nil {
			say = fmt.Sprintf("%s: every job fits; a month costs %s", p.name, amount(p.total, currency))
			if first := fitting[0]; p.name != first.name && amount(p.total, "") == amount(first.total, "") {
				say += ", the same, and more beyond what is free"
			}
		}
		c.Reasons = append(c.Reasons, say)
	}
	for _, p := range others {
		say := "every job fits; its price is not known"
		if len(p.obstacles) > 0 {
			say = strings.Join(p.obstacles, "; ")
		}
		c.Reasons = append(c.Reasons, p.name+": "+say)
	}
	if len(fitting) == 0 {
		c.Reasons = append([]string{"on no provider with a known price does every job fit"}, c.Reasons...)
		return c
	}
	c.Recommended = fitting[0].name
	if best := fitting[0].cost; best != nil && best.Machine != nil {
		c.Reasons = append(c.Reasons, againstMachine(best))
	}
	return c
}

// candidate is a provider that Compare may recommend.
type candidate struct {
	name      string
	obstacles []string
	priced    bool
	total     float64 // of a month
	listPrice float64 // of a million calls of each job
	cost      *Estimate
}

// againstMachine compares an estimate with the machine that could replace it.
func againstMachine(cost *Estimate) string {
	m := cost.Machine
	text := fmt.Sprintf("a machine for all jobs (%s) costs %s", m.Name, amount(m.Total, cost.Currency))
	switch {
	case cost.BreakEvenCalls > 0 && cost.Total < m.Total:
		return fmt.Sprintf("%s: %d calls on %s cost as much", text, cost.BreakEvenCalls, cost.Provider)
	case cost.BreakEvenCalls > 0:
		return fmt.Sprintf("%s: less than %s, which is cheaper below %d calls", text, cost.Provider, cost.BreakEvenCalls)
	case cost.Total > m.Total:
		return fmt.Sprintf("%s: less than %s", text, cost.Provider)
	}
	return text
}

// obstacles returns the reasons why a provider cannot run and answer every job.
func obstacles(meta *serverless.Metadata, a *serverless.Analysis) []string {
	var out []string
	fit := 0
	for i := range a.Jobs {
		if a.Jobs[i].Compatible {
			fit++
		}
	}
	if fit < len(a.Jobs) {
		out = append(out, fmt.Sprintf("%d of %d jobs fit", fit, len(a.Jobs)))
	}
	sizes, _ := faas.ProviderMemorySizes(a.Provider)
	largest := sizes.Largest(a.Limits.MaxMemoryMB)
	reply := uint64(faas.ProviderReplyLimit(a.Provider)) * 1000
	profiles := profilesOf(meta)
	for i := range a.Jobs {
		job := &a.Jobs[i]
		if !job.Compatible || job.Needs == nil {
			continue
		}
		if largest > 0 && job.Needs.MemoryMB > largest {
			out = append(out, fmt.Sprintf("job %d needs %d MB, and the largest instance that is sold has %d", job.JobID,
				job.Needs.MemoryMB, largest))
		}
		if p := profiles[job.JobID]; reply > 0 && p != nil && p.P95DurationMS > reply {
			out = append(out, fmt.Sprintf("job %d takes up to %d s, and callers are answered within %d s only", job.JobID,
				(p.P95DurationMS+999)/1000, reply/1000))
		}
	}
	return out
}

func amount(x float64, currency string) string {
	return strings.TrimSpace(fmt.Sprintf("%.2f %s", x, currency))
}

func currencyOf(p *Prices) string {
	if p == nil {
		p = DefaultPrices()
	}
	return p.Currency
}
